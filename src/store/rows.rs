//! What a reader gets back: plain rows, decoded, in the words of the model.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    CaseId, Evaluation, EvaluatorId, Label, LogRecord, Origin, Outcome, RunId, RunSpec, RunStatus, Span, SpanId,
    SpanKind, Telemetry, TraceId, TrialKey, Usage,
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
    /// Spans that its sessions say they made, and those of applications that joined its traces.
    pub spans_created: u64,
    /// Of these, the ones that retention removed.
    pub spans_pruned: u64,
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
    pub run_id: RunId,
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
    /// Scores that came with telemetry or were imported, by name; none of the run's own evaluators.
    pub external: BTreeMap<String, Evaluation>,
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
    /// `service.name` of the process that made that span.
    pub service: Option<String>,
    /// Mean of each score's values, by name.
    pub scores: BTreeMap<String, f64>,
    /// Input and output tokens of its model calls, where they are known.
    pub tokens: Option<(u64, u64)>,
    /// The run it belongs to.
    pub run_id: Option<RunId>,
    /// The cases whose trials it holds, at most eight.
    pub case_ids: Vec<CaseId>,
}

/// A score on a span: ours, or another application's.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanScore {
    /// The evaluator's id, or the name that came with it.
    pub name: String,
    /// What was said.
    pub evaluation: Evaluation,
    /// Who said it: `CODE`, `LLM`, `HUMAN`, or another word that came with it.
    pub annotator_kind: Option<String>,
    /// What tells it from other scores of that name, such as `label_match@1`.
    pub identifier: Option<String>,
    /// The span in which a judge came to it, where that is known.
    pub evaluator_span: Option<(TraceId, SpanId)>,
    /// Whether it came with telemetry of another application.
    pub external: bool,
}

/// A trace with its spans, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceDetail {
    /// As in the list.
    pub row: TraceRow,
    /// All its spans, by start time.
    pub spans: Vec<Span>,
    /// Who made its spans and log records, each once.
    pub origins: Vec<Arc<Origin>>,
    /// For each span its place in `origins`.
    pub origin_of: Vec<usize>,
    /// Its log records by time, each with its place in `origins`.
    pub logs: Vec<(LogRecord, usize)>,
    /// The scores that sit on its spans, by span, then by name.
    pub scores: BTreeMap<SpanId, Vec<SpanScore>>,
}

impl TraceDetail {
    /// Who made the span at this place.
    pub fn origin(&self, span: usize) -> Option<&Arc<Origin>> {
        self.origins.get(*self.origin_of.get(span)?)
    }

    /// The trace as telemetry: its spans and log records by their origin, in their order.
    pub fn into_telemetry(self) -> Vec<Telemetry> {
        let mut parts: Vec<Telemetry> =
            self.origins.into_iter().map(|origin| Telemetry { origin, ..Telemetry::default() }).collect();
        for (span, place) in self.spans.into_iter().zip(self.origin_of) {
            if let Some(part) = parts.get_mut(place) {
                part.spans.push(span);
            }
        }
        for (log, place) in self.logs {
            if let Some(part) = parts.get_mut(place) {
                part.logs.push(log);
            }
        }
        parts
    }
}

/// The outline of a span: what a timeline draws.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanSkeleton {
    /// Its id.
    pub span_id: SpanId,
    /// The span that caused it; `None` for a root.
    pub parent_span_id: Option<SpanId>,
    /// What it does.
    pub name: String,
    /// Its role.
    pub kind: SpanKind,
    /// How it ended, as OTLP's number: 0 unset, 1 ok, 2 error.
    pub status: i32,
    /// When it began, in nanoseconds since the Unix epoch.
    pub start_unix_nano: u64,
    /// When it ended; 0 while it is open.
    pub end_unix_nano: u64,
}

impl crate::trace::tree::Placed for SpanSkeleton {
    fn span_id(&self) -> SpanId {
        self.span_id
    }
    fn parent_span_id(&self) -> Option<SpanId> {
        self.parent_span_id
    }
    fn start_unix_nano(&self) -> u64 {
        self.start_unix_nano
    }
    fn end_unix_nano(&self) -> u64 {
        self.end_unix_nano
    }
}

/// A trace in outline, read without opening a payload.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSkeleton {
    /// As in the list.
    pub row: TraceRow,
    /// All its spans, by start time.
    pub spans: Vec<SpanSkeleton>,
    /// The scores that sit on its spans, by span, then by name.
    pub scores: BTreeMap<SpanId, Vec<SpanScore>>,
}

/// One span, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanDetail {
    /// The span.
    pub span: Span,
    /// Who made it.
    pub origin: Arc<Origin>,
    /// Its log records by time.
    pub logs: Vec<LogRecord>,
    /// The scores that sit on it, by name.
    pub scores: Vec<SpanScore>,
}

/// Where a low score sits.
#[derive(Debug, Clone, PartialEq)]
pub struct LowScore {
    /// The trace.
    pub trace_id: TraceId,
    /// The span in it, where the score is one span's.
    pub span_id: Option<SpanId>,
    /// The case, of a trial's score.
    pub case_id: Option<CaseId>,
    /// The score's name.
    pub name: String,
    /// Its value; `None` where a trial failed and has none.
    pub value: Option<f64>,
}

/// What the store holds, for the page and the command that look after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// Size of the database file, in bytes.
    pub file_bytes: u64,
    /// Size of the write-ahead log beside it, in bytes.
    pub log_bytes: u64,
    /// Bytes of the file that are free for new rows.
    pub free_bytes: u64,
    /// How many runs.
    pub runs: u64,
    /// How many traces with spans.
    pub traces: u64,
    /// How many spans.
    pub spans: u64,
    /// How many log records.
    pub log_records: u64,
    /// How many scores came with telemetry of other applications.
    pub external_scores: u64,
    /// Start of the oldest trace, in nanoseconds since the Unix epoch.
    pub oldest_unix_nano: Option<u64>,
    /// Start of the newest trace.
    pub newest_unix_nano: Option<u64>,
    /// How many pruned traces are remembered.
    pub pruned_traces: u64,
    /// When the last one was pruned.
    pub pruned_unix_nano: Option<u64>,
}
