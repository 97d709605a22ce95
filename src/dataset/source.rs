//! A dataset's file: its name, its format, and its rows whatever the format.

use std::path::{Path, PathBuf};

use super::columns::{ColumnMap, Role};
use super::error::{DatasetError, Problem, ProblemKind};
use super::label::LabelVocabulary;
use super::{csv, jsonl, parquet, text, tsv};

/// How to read a dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Columns whose names are not among the known ones.
    pub columns: ColumnMap,
    /// Which words mean which label.
    pub labels: LabelVocabulary,
}

/// A row as the file has it. Text is verbatim; nothing is validated yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// The line of the (decompressed) text on which the row starts, from 1; the number of the row in a Parquet file.
    pub line: u64,
    /// Which row it is, from 1.
    pub number: u64,
    /// The statement.
    pub claim: Option<String>,
    /// The evidence, a list joined with blanks.
    pub context: Option<String>,
    /// The gold label as it stands there.
    pub label: Option<String>,
    /// The id.
    pub id: Option<String>,
    /// The cluster.
    pub group: Option<String>,
    /// All other columns that have a value, in the file's order.
    pub columns: Vec<(String, String)>,
}

/// The rows of a dataset, one at a time. An `Err` stands for a row that cannot be read; reading goes on behind it unless
/// the iterator ends.
pub type Rows = Box<dyn Iterator<Item = Result<Row, DatasetError>> + Send>;

/// A reader of one format.
pub(super) trait RowReader: Iterator<Item = Result<Row, DatasetError>> + Send {
    /// The columns seen so far, in the file's order.
    fn columns(&self) -> Vec<String>;

    /// What the column of this role is called, in the row read last.
    fn name_of(&self, role: Role) -> Option<&str>;

    /// Columns that are in the file and cannot be read, with their types.
    fn unreadable(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// What a reader needs to know of its file.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// The file as given, for problems.
    pub(super) file: String,
    pub(super) columns: ColumnMap,
}

impl Context {
    /// A problem of a row of this file.
    pub(super) fn problem(
        &self,
        line: u64,
        column: Option<&str>,
        kind: ProblemKind,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Problem {
        Problem {
            file: self.file.clone(),
            line,
            column: column.map(str::to_owned),
            kind,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    Tsv,
    Json,
    Parquet,
}

const KNOWN: &str = "`.csv`, `.tsv`, `.jsonl`, `.ndjson`, `.json` or `.parquet`";

/// A dataset's file and how to read it. Making one touches no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    path: PathBuf,
    options: ReadOptions,
}

impl Source {
    /// The dataset at this path.
    pub fn new(path: impl Into<PathBuf>, options: ReadOptions) -> Self {
        Self { path: path.into(), options }
    }

    /// The path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is read.
    pub const fn options(&self) -> &ReadOptions {
        &self.options
    }

    /// The file's name without the endings that tell its format (`claims` for `data/claims.csv.gz`).
    pub fn name(&self) -> String {
        let mut name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for endings in [&[".gz", ".zst"][..], &[".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"]] {
            let stem = endings.iter().find_map(|ending| strip_ending(&name, ending)).filter(|stem| !stem.is_empty());
            if let Some(stem) = stem {
                name = stem.to_owned();
            }
        }
        name
    }

    /// The rows, streaming. An error here is one of the file as a whole.
    pub fn rows(&self) -> Result<Rows, DatasetError> {
        let reader = self.open()?;
        Ok(Box::new(reader))
    }

    /// The rows as a reader that also tells its columns.
    pub(super) fn open(&self) -> Result<Box<dyn RowReader>, DatasetError> {
        let format = self.format()?;
        let context = Context { file: self.path.display().to_string(), columns: self.options.columns.clone() };
        if format == Format::Parquet {
            return Ok(Box::new(parquet::ParquetRows::open(&self.path, context)?));
        }
        let bytes = text::open(&self.path)?;
        Ok(match format {
            Format::Csv => Box::new(csv::CsvRows::open(bytes, context)?),
            Format::Tsv => Box::new(tsv::TsvRows::open(bytes, context)?),
            Format::Json | Format::Parquet => Box::new(jsonl::JsonRows::open(bytes, context)?),
        })
    }

    fn format(&self) -> Result<Format, DatasetError> {
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let plain = strip_ending(&name, ".gz").or_else(|| strip_ending(&name, ".zst"));
        let ends = |ending| strip_ending(plain.unwrap_or(&name), ending).is_some();
        if ends(".csv") {
            Ok(Format::Csv)
        } else if ends(".tsv") {
            Ok(Format::Tsv)
        } else if ends(".jsonl") || ends(".ndjson") || ends(".json") {
            Ok(Format::Json)
        } else if ends(".parquet") && plain.is_none() {
            Ok(Format::Parquet)
        } else {
            Err(DatasetError::UnknownFormat { path: self.path.clone(), known: KNOWN })
        }
    }
}

/// What is before the ending, in any case.
fn strip_ending<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let (stem, tail) = name.split_at_checked(name.len().checked_sub(ending.len())?)?;
    tail.eq_ignore_ascii_case(ending).then_some(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_the_endings_that_tell_the_format() {
        for (path, name) in [
            ("data/claims.csv", "claims"),
            ("claims.v2.jsonl.gz", "claims.v2"),
            ("a/b/Claims.CSV.ZST", "Claims"),
            ("x.parquet", "x"),
            ("notes.txt", "notes.txt"),
            (".csv", ".csv"),
        ] {
            assert_eq!(Source::new(path, ReadOptions::default()).name(), name, "{path}");
        }
    }

    #[test]
    fn an_unknown_ending_lists_the_known_ones() {
        for path in ["claims.txt", "claims", "claims.gz", "claims.parquet.gz"] {
            let error = Source::new(path, ReadOptions::default()).rows().err().expect(path).to_string();
            assert!(error.contains("`.jsonl`"), "{error}");
        }
    }
}
