//! What stands on either side of a comparison: one run, or the pool of runs in a baseline file; and what differs between two.

use serde::{Deserialize, Serialize};

use crate::model::{Digest, SpanId, TraceId};

/// One side of a comparison, as documents describe it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Operand {
    /// `run` or `baseline`.
    pub kind: OperandKind,
    /// What people call it: the run's name, or the baseline's file.
    pub name: String,
    /// The runs behind it, oldest first; more than one only in a baseline.
    pub runs: Vec<OperandRun>,
    /// The suite.
    pub suite: String,
    /// What it was run on.
    pub dataset: OperandDataset,
    /// The model asked for.
    pub model: String,
    /// Who serves it.
    pub provider: String,
    /// The models that answered, as the endpoint named them, sorted.
    pub response_models: Vec<String>,
    /// Fingerprints of the endpoint's configuration, sorted.
    pub fingerprints: Vec<String>,
    /// SHA-256 of the prompt.
    pub prompt_digest: String,
    /// How often each case was asked, over all runs.
    pub trials_per_case: u32,
    /// Trials that were planned.
    pub trials: u64,
    /// Of these, the ones that failed, were skipped or have no outcome.
    pub errors: u64,
}

/// Whether a side is a run or a pool of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperandKind {
    /// One run of the store.
    #[default]
    Run,
    /// A baseline file.
    Baseline,
}

/// A run behind an operand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperandRun {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// The commit that it was started from; `None` without a working copy.
    pub git: Option<String>,
}

/// A dataset, as documents describe it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperandDataset {
    /// The file's stem.
    pub name: String,
    /// SHA-256 of the selected cases' sorted digests.
    pub digest: String,
    /// How many cases were selected.
    pub cases: u64,
}

/// Something that differs between the two sides. What is under test is reported; what makes the sides incomparable is
/// refused by a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What: `dataset`, `prompt`, `workflow`, `model`, `parameters`, `response model`, `fingerprint`, `repeats`,
    /// `evaluator ID`, `judge ID`, `git`.
    pub what: String,
    /// In the base; `None` where it had no such thing.
    pub base: Option<String>,
    /// In the head.
    pub head: Option<String>,
    /// What `--allow` calls it where it makes a gate INVALID; `None` of what is merely reported.
    pub refused_as: Option<String>,
}

/// Where to look at a trial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The trace of its batch.
    pub trace_id: Option<TraceId>,
    /// Its `assess_claim` span.
    pub span_id: Option<SpanId>,
}

/// A time as RFC 3339 in UTC with nanoseconds; empty beyond what can be written.
pub(super) fn rfc3339(unix_nano: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(unix_nano)).map_or_else(|_| String::new(), |time| format!("{time:.9}"))
}

/// The beginning of a digest, enough to tell two apart.
pub(super) fn short(digest: &Digest) -> String {
    digest.to_string().chars().take(12).collect()
}
