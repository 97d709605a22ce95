//! What a reader gets back: plain rows, decoded, in the words of the model.

use std::collections::BTreeMap;

use crate::model::{
    CaseId, Evaluation, EvaluatorId, Key, Label, Outcome, RunSpec, RunStatus, Span, SpanId, TraceId, TrialKey, Usage,
    Value,
};

/// A run as recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// Its number within the store; other rows refer to it.
    pub number: i64,
    /// What was fixed when it started.
    pub spec: RunSpec,
    /// How far it came; `Running` without a live lock means that it was cut off.
    pub status: RunStatus,
    /// When its last session ended, in nanoseconds since the Unix epoch.
    pub ended_unix_nano: Option<u64>,
    /// Wall time of all its sessions together, in nanoseconds.
    pub active_ns: u64,
    /// Spans that its sessions say they made.
    pub spans_created: u64,
    /// Trials recorded so far, by outcome.
    pub counts: TrialCounts,
}

/// How many trials of a run ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrialCounts {
    /// With an answer.
    pub completed: u64,
    /// Without one after all attempts.
    pub failed: u64,
    /// Not tried.
    pub skipped: u64,
}

impl TrialCounts {
    /// All of them.
    pub const fn recorded(&self) -> u64 {
        self.completed + self.failed + self.skipped
    }
}

/// What statistics need of a trial; no text, so that a million of them stream by.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialFacts {
    /// Which trial.
    pub key: TrialKey,
    /// The gold label.
    pub expected: Option<Label>,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// A number for the case's group, equal for equal groups; `None` without a group.
    pub group: Option<u32>,
    /// Wall time of the model call with its retries, in nanoseconds.
    pub latency_ns: u64,
    /// Tokens used.
    pub usage: Usage,
    /// Price in US dollars, where known.
    pub cost_usd: Option<f64>,
    /// HTTP tries made.
    pub attempts: u32,
    /// One entry per evaluator of the run, in its order; `None` where no such score is recorded.
    pub scores: Vec<Option<ScoreFact>>,
}

/// How a trial ended, without its texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeKind {
    /// With this class.
    Completed(crate::model::Predicted),
    /// Without an answer.
    Failed,
    /// Not tried.
    Skipped,
}

/// A score without its texts.
#[derive(Debug, Clone, PartialEq)]
pub enum ScoreFact {
    /// A score; `label` is short and low in cardinality.
    Scored {
        /// The number, where there is one.
        value: Option<f64>,
        /// The label, where there is one.
        label: Option<String>,
    },
    /// The evaluator broke.
    Failed,
    /// It did not apply.
    Skipped,
}

/// A trial with everything that a list or a page shows of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseRow {
    /// The run it belongs to.
    pub run_id: crate::model::RunId,
    /// When that run started, in nanoseconds since the Unix epoch.
    pub run_started_unix_nano: u64,
    /// Which trial.
    pub key: TrialKey,
    /// The case's id.
    pub case_id: CaseId,
    /// The case's cluster.
    pub group: Option<String>,
    /// The statement.
    pub claim: String,
    /// The evidence.
    pub context: String,
    /// The dataset's other columns.
    pub columns: Vec<(String, String)>,
    /// The gold label.
    pub expected: Option<Label>,
    /// How it ended; `None` while the trial is not recorded yet.
    pub outcome: Option<Outcome>,
    /// The answer as it came.
    pub raw_output: Option<String>,
    /// Its scores by evaluator.
    pub scores: BTreeMap<EvaluatorId, Evaluation>,
    /// When the trial began.
    pub started_unix_nano: u64,
    /// Wall time of the model call with its retries, in nanoseconds.
    pub latency_ns: u64,
    /// Tokens used.
    pub usage: Usage,
    /// Price in US dollars, where known.
    pub cost_usd: Option<f64>,
    /// HTTP tries made.
    pub attempts: u32,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// The model that answered.
    pub response_model: Option<String>,
    /// The endpoint's id of the answer.
    pub response_id: Option<String>,
    /// Whether the answer came from the cache.
    pub cached: bool,
    /// The trace; `None` while the trial is not recorded yet.
    pub trace_id: Option<TraceId>,
    /// The `assess_claim` span.
    pub span_id: Option<SpanId>,
}

/// A trace as a list shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceRow {
    /// Its id.
    pub trace_id: TraceId,
    /// Earliest start of its spans, in nanoseconds since the Unix epoch.
    pub start_unix_nano: u64,
    /// Latest end less earliest start, in nanoseconds.
    pub duration_ns: u64,
    /// Whether a span of it has status ERROR.
    pub error: bool,
    /// How many of its spans do.
    pub errors: u64,
    /// How many spans it has.
    pub operations: u64,
    /// Name of its root span; of its earliest span if the root is missing.
    pub root: String,
    /// Its `service.name`.
    pub service: Option<String>,
    /// Mean of each evaluator's values over its trials.
    pub scores: BTreeMap<EvaluatorId, f64>,
    /// The run it belongs to.
    pub run_id: Option<crate::model::RunId>,
    /// The cases whose trials it holds, at most eight.
    pub case_ids: Vec<CaseId>,
}

/// A trace with its spans.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceDetail {
    /// As in the list.
    pub row: TraceRow,
    /// All its spans, by start time.
    pub spans: Vec<Span>,
    /// The resource of its spans.
    pub resource: Vec<(Key, Value)>,
    /// The scores that sit on its spans, by span.
    pub scores: BTreeMap<SpanId, BTreeMap<EvaluatorId, Evaluation>>,
}
