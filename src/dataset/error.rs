//! What can be wrong with a dataset: as a whole, or in one row.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// Why a dataset cannot be read, or a row of it.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// There is no such file.
    #[error("dataset `{}` does not exist{hint}", .path.display())]
    NotFound {
        /// The path as given.
        path: PathBuf,
        /// Where it was looked for and what is there instead.
        hint: String,
    },
    /// The file's name does not tell its format.
    #[error(
        "dataset `{}` has no known format: the name ends in {known}, the text formats also with `.gz` or `.zst` behind",
        .path.display()
    )]
    UnknownFormat {
        /// The path as given.
        path: PathBuf,
        /// The endings that are known.
        known: &'static str,
    },
    /// The operating system refused.
    #[error("{attempt} `{}`", .path.display())]
    Io {
        /// What was attempted: "opening dataset".
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The content is at fault, at a certain line.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// Whoever receives the cases refused one.
    #[error("handling case `{case}` of dataset `{}`", .path.display())]
    Receiver {
        /// The dataset.
        path: PathBuf,
        /// The case's id.
        case: String,
        /// Why it was refused.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<Problem> for DatasetError {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

/// Something wrong with a row, or something to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file as given.
    pub file: String,
    /// The line of the (decompressed) text on which the row starts, from 1; the number of the row in a Parquet file.
    pub line: u64,
    /// The column, where one is at fault.
    pub column: Option<String>,
    /// What kind of problem it is.
    pub kind: ProblemKind,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.file, self.line)?;
        if let Some(column) = &self.column {
            write!(f, ", column `{column}`")?;
        }
        write!(f, ": {}", self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

/// The kinds of problems; documents show them in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemKind {
    /// There is no column for the claim, the context or a column that was asked for by name.
    MissingColumn,
    /// The dataset has no rows.
    EmptyDataset,
    /// Rows there are, but none is selected.
    EmptySelection,
    /// A label that is not in the vocabulary.
    UnknownLabel,
    /// Two rows with one id.
    DuplicateId,
    /// A text that cannot be an id.
    BadId,
    /// A row without a claim.
    EmptyClaim,
    /// A value of the wrong type.
    BadValue,
    /// Bytes that are not UTF-8.
    BadEncoding,
    /// A line that is not JSON, or not an object.
    BadJson,
    /// A row with more or fewer fields than the header.
    RaggedRow,
    /// A quote that is never closed.
    OpenQuote,
    /// A row too large to be one.
    HugeRow,
    /// Compressed data that ends early or is damaged.
    BadCompression,
    /// Data that cannot be read on for another reason.
    Unreadable,
    /// A Parquet file that cannot be read.
    BadParquet,
    /// The same claim and context more than once.
    DuplicatePair,
    /// The same claim and context with different labels.
    ConflictingLabels,
    /// A row without a context.
    EmptyContext,
    /// Control characters in the text.
    ControlCharacters,
    /// No row has a label.
    NoLabels,
    /// A column that nothing can read, or that a filter names and the dataset does not have.
    UnknownColumn,
    /// Evidence for and against one claim.
    ConflictingEvidence,
    /// A document that is cited and not there.
    MissingDocument,
}

impl ProblemKind {
    /// The kind as documents show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingColumn => "missing_column",
            Self::EmptyDataset => "empty_dataset",
            Self::EmptySelection => "empty_selection",
            Self::UnknownLabel => "unknown_label",
            Self::DuplicateId => "duplicate_id",
            Self::BadId => "bad_id",
            Self::EmptyClaim => "empty_claim",
            Self::BadValue => "bad_value",
            Self::BadEncoding => "bad_encoding",
            Self::BadJson => "bad_json",
            Self::RaggedRow => "ragged_row",
            Self::OpenQuote => "open_quote",
            Self::HugeRow => "huge_row",
            Self::BadCompression => "bad_compression",
            Self::Unreadable => "unreadable",
            Self::BadParquet => "bad_parquet",
            Self::DuplicatePair => "duplicate_pair",
            Self::ConflictingLabels => "conflicting_labels",
            Self::EmptyContext => "empty_context",
            Self::ControlCharacters => "control_characters",
            Self::NoLabels => "no_labels",
            Self::UnknownColumn => "unknown_column",
            Self::ConflictingEvidence => "conflicting_evidence",
            Self::MissingDocument => "missing_document",
        }
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for ProblemKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The error for a path that does not exist: where it was looked for, and the file that may have been meant.
pub(super) fn not_found(path: &Path) -> DatasetError {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let wanted = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut hint = String::new();
    match std::fs::read_dir(folder) {
        Err(_) => hint = format!("; there is no folder `{}` either", folder.display()),
        Ok(entries) => {
            let mut names: Vec<String> =
                entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).take(10_000).collect();
            names.sort_unstable();
            if let Some(name) = nearest(&wanted, names.iter().map(String::as_str)) {
                hint = format!("; did you mean `{}`?", path.with_file_name(name).display());
            }
        }
    }
    if path.is_relative()
        && let Ok(current) = std::env::current_dir()
    {
        let _ = write!(hint, " (looked for in `{}`)", current.display());
    }
    DatasetError::NotFound { path: path.to_owned(), hint }
}

/// The candidate closest to what was written, if it is close enough to be a slip.
pub(super) fn nearest<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&found, &name.to_ascii_lowercase()), name))
        .filter(|(similarity, _)| *similarity >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
