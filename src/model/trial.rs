//! One case × one repeat in a run, and its one outcome.

use serde::{Deserialize, Serialize};

use super::{CaseId, Predicted, Score, SpanId, TraceId};

/// Names a trial within its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrialKey {
    /// The case's position among the run's selected cases, from 0.
    pub seq: u64,
    /// Which repeat of that case, from 0.
    pub repeat: u32,
}

/// Tokens as the endpoint counted them; `None` where it did not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request.
    pub input_tokens: Option<u64>,
    /// Tokens of the answer, reasoning included.
    pub output_tokens: Option<u64>,
    /// Of the request, those read from the endpoint's cache.
    pub cached_input_tokens: Option<u64>,
    /// Of the answer, those spent on reasoning.
    pub reasoning_tokens: Option<u64>,
}

/// Why a trial failed: data, not a reason to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Low-cardinality class, as on the span's `error.type`: `429`, `500`, `timeout`, `connection`, `content_filter`,
    /// `invalid_response`, `missing_answer`, `_OTHER`.
    pub error_type: String,
    /// The error in words, without secrets and without the prompt.
    pub message: String,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// The model answered.
    Completed {
        /// What the parser made of the answer.
        predicted: Predicted,
    },
    /// No answer after all attempts.
    Failed(Failure),
    /// Not tried, for a reason that holds for the run (a budget used up).
    Skipped {
        /// The reason.
        reason: String,
    },
}

impl Outcome {
    /// `completed`, `failed` or `skipped`.
    pub const fn status(&self) -> &'static str {
        match self {
            Self::Completed { .. } => "completed",
            Self::Failed(_) => "failed",
            Self::Skipped { .. } => "skipped",
        }
    }

    /// The predicted class of a completed trial.
    pub const fn predicted(&self) -> Option<Predicted> {
        match self {
            Self::Completed { predicted } => Some(*predicted),
            _ => None,
        }
    }
}

/// The record of a trial: outcome, scores and where its spans are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Which trial.
    pub key: TrialKey,
    /// The case's id.
    pub case_id: CaseId,
    /// How it ended.
    pub outcome: Outcome,
    /// One per evaluator of the suite, in the suite's order.
    pub scores: Vec<Score>,
    /// The answer as it came, kept in the store for replay; never on a span unless content capture is on.
    pub raw_output: Option<String>,
    /// HTTP tries made: 0 for a cached or replayed answer and for a skipped trial.
    pub attempts: u32,
    /// Wall time of the model call with its retries and waits, in nanoseconds.
    pub latency_ns: u64,
    /// When the trial began, nanoseconds since the Unix epoch.
    pub started_unix_nano: u64,
    /// Tokens used.
    pub usage: Usage,
    /// Price of those tokens in US dollars; `None` where the model's price is unknown.
    pub cost_usd: Option<f64>,
    /// `stop`, `length`, `content_filter`, … as the endpoint said.
    pub finish_reason: Option<String>,
    /// The endpoint's id of the answer.
    pub response_id: Option<String>,
    /// The model that answered, as the endpoint names it.
    pub response_model: Option<String>,
    /// The endpoint's fingerprint of its configuration.
    pub system_fingerprint: Option<String>,
    /// Whether the answer came from the cache.
    pub cached: bool,
    /// The trace of the trial's batch.
    pub trace_id: TraceId,
    /// The `assess_claim` span, which carries the scores.
    pub span_id: SpanId,
    /// The `chat` span, which log records of the scores point at; `None` for a skipped trial.
    pub chat_span_id: Option<SpanId>,
}
