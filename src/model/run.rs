//! What is recorded of a run as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Digest, Direction, EvaluatorId, Key, RunId, Value};

/// How far a run came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Under way, or cut off without a word: the run's lock tells which.
    Running,
    /// Every planned trial has an outcome and none is skipped.
    Completed,
    /// Stopped by a signal; can be resumed.
    Interrupted,
    /// Some trials were skipped, or a fault stopped it; can be resumed.
    Incomplete,
    /// Stopped because the endpoint refused the key or does not know the model.
    Refused,
}

impl RunStatus {
    /// The status as documents show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Interrupted => "interrupted",
            Self::Incomplete => "incomplete",
            Self::Refused => "refused",
        }
    }

    /// The status of that name.
    pub fn from_name(text: &str) -> Option<Self> {
        [Self::Running, Self::Completed, Self::Interrupted, Self::Incomplete, Self::Refused]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// The dataset of a run: name for people, digest for comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetRef {
    /// The file's stem.
    pub name: String,
    /// SHA-256 of the selected cases' sorted digests.
    pub digest: Digest,
    /// How many cases were selected.
    pub cases: u64,
}

/// What an evaluator gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvaluatorKind {
    /// Pass or fail, as 1.0 and 0.0.
    Assertion,
    /// A finite double.
    Number,
    /// A category.
    Label,
}

impl EvaluatorKind {
    /// The kind as documents show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Assertion => "assertion",
            Self::Number => "number",
            Self::Label => "label",
        }
    }
}

/// The definition of an evaluator as the run used it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluatorSpec {
    /// Its id.
    pub id: EvaluatorId,
    /// Its version.
    pub version: String,
    /// What it gives.
    pub kind: EvaluatorKind,
    /// Which way is better.
    pub direction: Direction,
    /// At or beyond which (in `direction`) a number passes; `None` where there is no such line.
    pub threshold: Option<f64>,
    /// Unit of a number (UCUM): `ms`, `{token}`, `USD`, `1`.
    pub unit: String,
    /// One sentence for people; not part of the digest.
    #[serde(default)]
    pub description: String,
    /// SHA-256 of the definition.
    pub digest: Digest,
}

/// The state of the working copy that a run was started in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitRevision {
    /// The commit, 40 hex digits.
    pub revision: String,
    /// Whether tracked files differed from it.
    pub dirty: bool,
}

/// Everything about a run that is fixed when it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// Its id, sortable by time.
    pub run_id: RunId,
    /// A name for people; unique only if they make it so.
    pub name: String,
    /// The suite's name.
    pub suite: String,
    /// The workflow's name.
    pub workflow: String,
    /// The model asked for.
    pub model: String,
    /// `builtin`, `openai`, `azure` or `replay`.
    pub provider: String,
    /// The dataset as selected.
    pub dataset: DatasetRef,
    /// How many times each case is run.
    pub repeat: u32,
    /// SHA-256 of the prompt templates, the answer pattern and the label synonyms.
    pub prompt_digest: Digest,
    /// SHA-256 of what else decides the answers: provider, model, parameters.
    pub model_digest: Digest,
    /// The evaluators, in the suite's order.
    pub evaluators: Vec<EvaluatorSpec>,
    /// The evaluator that decides whether a case passed.
    pub primary: EvaluatorId,
    /// When it started, in nanoseconds since the Unix epoch.
    pub started_unix_nano: u64,
    /// The working copy, if there was one.
    pub git: Option<GitRevision>,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// Link template to the user's trace backend.
    pub trace_url: Option<String>,
    /// Where to find things again: suite file, dataset path, parameters; for `--resume` and for people. No secrets.
    pub config: serde_json::Value,
    /// The resource of the run's spans.
    pub resource: Vec<(Key, Value)>,
}

impl RunSpec {
    /// Trials that the run is to end with: cases × repeats.
    pub const fn planned(&self) -> u64 {
        self.dataset.cases * self.repeat as u64
    }
}
