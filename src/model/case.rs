//! One claim with its context and expected label.

use serde::{Deserialize, Serialize};

use super::{CaseId, Digest, Label};

/// A case as a dataset reader gives it: text is verbatim, nothing is trimmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Position among the run's selected cases, from 0. Readers number the rows they yield; selection renumbers.
    pub seq: u64,
    /// The dataset's own id, or `row-N` (N counted from 1) where it has none.
    pub id: CaseId,
    /// The statement to verify.
    pub claim: String,
    /// The evidence; a list of documents is joined with a blank.
    pub context: String,
    /// The gold label; `None` where the dataset gives none.
    pub expected: Option<Label>,
    /// The cluster that this case shares with others, such as the source document.
    pub group: Option<String>,
    /// Every other column of the row, in the file's order, for slices and filters.
    pub columns: Vec<(String, String)>,
    /// SHA-256 of the canonical JSON `[claim, context, expected]`.
    pub digest: Digest,
}
