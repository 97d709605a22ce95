//! A survey as the document of `spanscore validate`.

use serde::Serialize;

use super::error::Problem;
use super::survey::{LabelCounts, Survey};
use crate::model::Digest;

/// The document of `spanscore validate`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Validation {
    /// Cases selected.
    pub cases: u64,
    /// Rows in the file.
    pub rows: u64,
    /// Labels of the selected cases.
    pub labels: LabelCounts,
    /// All columns of the file.
    pub columns: Vec<String>,
    /// The digest of the selected cases.
    pub digest: Digest,
    /// What keeps the dataset from being used.
    pub errors: Vec<Problem>,
    /// Errors that are not listed for their number.
    pub errors_omitted: u64,
    /// What deserves a look.
    pub warnings: Vec<Problem>,
    /// Warnings that are not listed for their number.
    pub warnings_omitted: u64,
}

impl From<Survey> for Validation {
    fn from(survey: Survey) -> Self {
        let Survey { cases, rows, digest, labels, errors, errors_omitted, warnings, warnings_omitted, columns } =
            survey;
        Self { cases, rows, labels, columns, digest, errors, errors_omitted, warnings, warnings_omitted }
    }
}
