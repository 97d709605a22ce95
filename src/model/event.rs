//! What the runner says while it works: one owned, serialisable type for every sink.

use serde::{Deserialize, Serialize};

use super::{LogRecord, RunSpec, RunStatus, Span, Trial};

/// One step of a run, in the order in which it must be recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    /// A session of the run begins: the first, or one that resumes it. Carries its open `evaluation_run` span.
    SessionStarted {
        /// The run.
        spec: Box<RunSpec>,
        /// The open root of the session's own trace.
        root: Box<Span>,
    },
    /// A batch begins; its root span is open and must be recorded before its trials.
    BatchStarted {
        /// The open `assess_claims_with_context` span.
        root: Box<Span>,
    },
    /// A trial ended: outcome, scores and ended spans belong into one transaction, children before parents.
    TrialFinished {
        /// The record.
        trial: Box<Trial>,
        /// Its ended spans, children first.
        spans: Vec<Span>,
        /// Its log records: one `gen_ai.evaluation.result` per score, and message content where that is asked for.
        logs: Vec<LogRecord>,
    },
    /// All trials of a batch ended; its root span is closed now.
    BatchFinished {
        /// The ended `assess_claims_with_context` span.
        root: Box<Span>,
    },
    /// The session ends.
    SessionFinished {
        /// How far the run came.
        status: RunStatus,
        /// The ended `evaluation_run` span.
        root: Box<Span>,
        /// When, in nanoseconds since the Unix epoch.
        ended_unix_nano: u64,
    },
}
