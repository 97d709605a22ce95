//! The files of a report: which format a name asks for, and what is written into it.

use std::io::{self, Write};
use std::path::Path;

use serde_json::Value as Json;

use super::documents::cases_of;
use super::evidence::Evidence;
use super::results::Results;
use super::{csv, frame, html, jsonl, junit, markdown};
use crate::store::{Reader, StoreError};

/// Why a report cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The name does not say which format is wanted.
    #[error(
        "writing a report to `{path}`: {found}; expected a name that ends in .html, .md, .xml (JUnit), .json, .jsonl, .csv or .parquet"
    )]
    Format {
        /// The file.
        path: String,
        /// How its name ends.
        found: String,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be written.
    #[error("writing the report `{path}`: {source}; name a file in a folder that you may write to with -o")]
    Write {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The table cannot be written.
    #[error("writing the table `{path}`: {reason}")]
    Table {
        /// The file.
        path: String,
        /// What the writer of tables said.
        reason: String,
    },
}

/// A format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One self-contained file for people.
    Html,
    /// For a pull request.
    Markdown,
    /// JUnit XML for the machines of continuous integration.
    Junit,
    /// The run's document with comparison, trend and cases.
    Json,
    /// A row per answer, as azure-ai-evaluation reads it.
    Jsonl,
    /// A row per trial.
    Csv,
    /// The same with types.
    Parquet,
}

impl Format {
    /// The format that a file's name asks for.
    pub fn of(path: &Path) -> Result<Self, FileError> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("html" | "htm") => Ok(Self::Html),
            Some("md" | "markdown") => Ok(Self::Markdown),
            Some("xml") => Ok(Self::Junit),
            Some("json") => Ok(Self::Json),
            Some("jsonl" | "ndjson") => Ok(Self::Jsonl),
            Some("csv") => Ok(Self::Csv),
            Some("parquet") => Ok(Self::Parquet),
            other => Err(FileError::Format {
                path: path.display().to_string(),
                found: other.map_or_else(
                    || "its name has no ending".to_owned(),
                    |other| format!("`.{other}` is no format of a report"),
                ),
            }),
        }
    }
}

/// Writes a report; `path` is what errors call the file.
pub fn write<W: Write>(
    format: Format,
    reader: &Reader,
    evidence: &Evidence<'_>,
    path: &str,
    mut out: W,
) -> Result<(), FileError> {
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    match format {
        Format::Html => out.write_all(html::document::document(reader, evidence)?.as_bytes()).map_err(failed),
        Format::Markdown => out.write_all(markdown::document(reader, evidence)?.as_bytes()).map_err(failed),
        Format::Json => {
            let document = document(reader, evidence)?.map_err(|e| failed(e.into()))?;
            serde_json::to_writer_pretty(&mut out, &document).map_err(|e| failed(e.into()))?;
            out.write_all(b"\n").map_err(failed)
        }
        Format::Junit => {
            junit::write(reader, evidence.run, evidence.report, &evidence.judgements(), &mut out)?.map_err(failed)
        }
        Format::Csv => {
            let results = Results::of(reader, evidence.run, evidence.base)?;
            csv::write(reader, evidence.run, &results, &mut out)?.map(drop).map_err(failed)
        }
        Format::Jsonl => {
            let results = Results::of(reader, evidence.run, None)?;
            jsonl::write(reader, evidence.run, &results, &mut out)?.map(drop).map_err(failed)
        }
        Format::Parquet => {
            let results = Results::of(reader, evidence.run, evidence.base)?;
            let written = frame::write(reader, evidence.run, &results, &mut out)?;
            written.map(drop).map_err(|reason| FileError::Table { path: path.to_owned(), reason })
        }
    }
}

/// The document of `show` with the verdict, and beside it the comparison, the trend and every case.
fn document(reader: &Reader, evidence: &Evidence<'_>) -> Result<serde_json::Result<Json>, StoreError> {
    let mut cases = Vec::new();
    reader.for_each_row(evidence.run, &mut |row| {
        cases.extend(cases_of(&evidence.run.spec, std::slice::from_ref(&row)).into_iter().map(serde_json::to_value));
    })?;
    Ok(put_together(evidence, cases))
}

fn put_together(evidence: &Evidence<'_>, cases: Vec<serde_json::Result<Json>>) -> serde_json::Result<Json> {
    let mut document = serde_json::to_value(evidence.report)?;
    if let Some(gate) = evidence.gate {
        document["gate"] = serde_json::to_value(gate)?;
    }
    document["comparison"] = serde_json::to_value(evidence.comparison)?;
    document["trend"] = serde_json::to_value(evidence.trend)?;
    document["cases"] = Json::Array(cases.into_iter().collect::<Result<_, _>>()?);
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_format() {
        for (name, format) in [
            ("out.html", Format::Html),
            ("a/b.MD", Format::Markdown),
            ("junit.xml", Format::Junit),
            ("x.tar.json", Format::Json),
            ("t.jsonl", Format::Jsonl),
            ("t.csv", Format::Csv),
            ("t.parquet", Format::Parquet),
        ] {
            assert_eq!(Format::of(Path::new(name)).expect(name), format);
        }
        for name in ["latest", "report.pdf", ""] {
            let error = Format::of(Path::new(name)).expect_err(name).to_string();
            assert!(error.contains(".html, .md, .xml (JUnit)"), "{error}");
        }
    }
}
