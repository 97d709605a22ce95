//! The baseline as a value: what a baseline file holds. [`super::file`] reads and writes it, [`super::pin`] makes it from runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{CaseId, Digest, EvaluatorId, EvaluatorKind, Label, RunId, SpanId, TraceId};

/// A pinned level of quality: one run, or several of the same thing, case by case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The suite.
    pub suite: String,
    /// The workflow.
    pub workflow: String,
    /// The model asked for.
    pub model: String,
    /// Who serves it.
    pub provider: String,
    /// What was run on.
    pub dataset: BaselineDataset,
    /// SHA-256 of the prompt.
    pub prompt_digest: Digest,
    /// SHA-256 of what else decides the answers.
    pub model_digest: Digest,
    /// The evaluator that decides whether a case passed.
    pub primary: EvaluatorId,
    /// The evaluators, in the suite's order.
    pub evaluators: Vec<BaselineEvaluator>,
    /// The pooled runs, oldest first.
    pub runs: Vec<BaselineRun>,
    /// The cases, by id.
    pub cases: Vec<BaselineCase>,
}

/// The dataset of a baseline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineDataset {
    /// The file's stem.
    pub name: String,
    /// SHA-256 of the selected cases' sorted digests.
    pub digest: Digest,
}

/// An evaluator as the pooled runs used it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineEvaluator {
    /// Its id.
    pub id: EvaluatorId,
    /// Its version.
    pub version: String,
    /// What it gives.
    pub kind: EvaluatorKind,
    /// Which way is better.
    pub direction: crate::model::Direction,
    /// Unit of its numbers.
    pub unit: String,
    /// SHA-256 of its definition.
    pub digest: Digest,
}

/// A pooled run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineRun {
    /// Its id.
    pub id: RunId,
    /// Its name.
    pub name: String,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// The commit that it was started from.
    pub git: Option<String>,
    /// How many trials of each case are its own.
    pub repeat: u32,
    /// The models that answered, sorted.
    pub response_models: Vec<String>,
    /// Fingerprints of the endpoint's configuration, sorted.
    pub fingerprints: Vec<String>,
}

/// What an evaluator gave a trial: a number, `null` where it does not apply, `"failed"`, or `"absent"`. Files of form 1 know
/// only numbers and `null`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BaselineScore {
    /// This number.
    Value(f64),
    /// There should be a number.
    Missing(MissingScore),
    /// It does not apply.
    Skipped,
}

/// Why a number that should be there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingScore {
    /// The evaluator broke.
    Failed,
    /// Nothing is recorded.
    Absent,
}

/// A case of a baseline. Each list has one entry per trial: the runs in their order, of each its repeats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineCase {
    /// Its id.
    pub id: CaseId,
    /// The first 16 hex digits of its digest.
    pub digest: String,
    /// Its cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The gold label.
    pub expected: Option<Label>,
    /// What each trial was taken for: a label, `unparseable`, `failed`, `skipped` or `absent`.
    pub output: Vec<String>,
    /// What each evaluator gave.
    pub scores: BTreeMap<EvaluatorId, Vec<BaselineScore>>,
    /// Latency of each answer, in milliseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latency_ms: Vec<Option<f64>>,
    /// Input and output tokens of each trial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<[Option<u64>; 2]>,
    /// Price of each trial in US dollars.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cost_usd: Vec<Option<f64>>,
    /// The trace of each trial.
    pub trace: Vec<Option<TraceId>>,
    /// The `assess_claim` span of each trial.
    pub span: Vec<Option<SpanId>>,
}
