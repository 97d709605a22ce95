//! The files of a report: which format a name asks for, and what is written into it.

use std::io::{self, Write};
use std::path::Path;

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
        Format::Json => json(reader, evidence, &mut out)?.map_err(failed),
        Format::Junit => junit::write(reader, evidence, &mut out)?.map_err(failed),
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

/// The document of `show` with the verdict, and beside it the comparison, the trend and every case. The cases are written one
/// by one as they are read: memory does not grow with them.
fn json<W: Write>(reader: &Reader, evidence: &Evidence<'_>, out: &mut W) -> Result<io::Result<()>, StoreError> {
    let mut written = head(evidence).and_then(|head| out.write_all(head.as_bytes()));
    let mut first = true;
    reader.for_each_row(evidence.run, &mut |row| {
        if written.is_ok() {
            written = cases_of(&evidence.run.spec, std::slice::from_ref(&row)).iter().try_for_each(|case| {
                let text = serde_json::to_string_pretty(case)?;
                let mark = if std::mem::take(&mut first) { "\n    " } else { ",\n    " };
                // In JSON a line break is never within a text.
                write!(out, "{mark}{}", text.replace('\n', "\n    "))
            });
        }
    })?;
    Ok(written.and_then(|()| out.write_all(if first { b"]\n}\n" } else { b"\n  ]\n}\n" })))
}

/// Everything before the first case.
fn head(evidence: &Evidence<'_>) -> io::Result<String> {
    let mut document = serde_json::to_value(evidence.report)?;
    if let Some(gate) = evidence.gate {
        document["gate"] = serde_json::to_value(gate)?;
    }
    document["comparison"] = serde_json::to_value(evidence.comparison)?;
    document["trend"] = serde_json::to_value(evidence.trend)?;
    let mut head = serde_json::to_string_pretty(&document)?;
    // The brace that ends it comes after the cases.
    head.truncate(head.trim_end_matches('}').trim_end().len());
    head.push_str(",\n  \"cases\": [");
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Label, Predicted};
    use crate::report::fixture;
    use crate::store::testing::{Scene, completed, trial};

    #[tokio::test]
    async fn the_json_report_is_one_document_however_many_cases_there_are() {
        let scene = Scene::started(3, 1).await;
        let (run, report) = (scene.run(), fixture::report());
        let evidence = Evidence {
            run: &run,
            report: &report,
            base: None,
            comparison: None,
            gate: None,
            word: None,
            notes: &[],
            trend: None,
        };
        for seq in 0..3 {
            scene.record(trial(seq, 0, 0, completed(Predicted::Label(Label::True)))).await;
        }
        let mut out = Vec::new();
        json(&scene.reader(), &evidence, &mut out).expect("read").expect("written");
        let text = String::from_utf8(out).expect("UTF-8");
        let document: serde_json::Value = serde_json::from_str(&text).expect("one document");
        assert_eq!(document["cases"].as_array().map(Vec::len), Some(3));
        assert_eq!(document["run"]["id"], report.run.id.as_str());
        // As one would write it at once.
        assert_eq!(text, serde_json::to_string_pretty(&document).expect("JSON") + "\n");
    }

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
