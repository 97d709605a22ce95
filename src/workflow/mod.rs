//! The code under test: what turns a case into an answer, and the spans that it leaves.
//!
//! [`Workflow`] is the interface; [`AssessClaims`] is the workflow `assess_claims_with_context` inside this program,
//! [`CommandWorkflow`] and [`HttpWorkflow`] are applications of the user's that answer in its place. Scores are made
//! elsewhere ([`crate::evaluator`]), from the outcome alone.

pub mod prompt;
pub mod parse;
pub mod assess;
pub mod line;
pub mod process;
pub mod command;
pub mod http;

use async_trait::async_trait;

use crate::model::{Case, Digest, LogRecord, Outcome, Span, SpanId, TraceId, Usage};

pub use assess::{AssessClaims, Capture, Semconv};
pub use command::{CommandError, CommandSettings, CommandWorkflow};
pub use http::{HttpSettings, HttpWorkflow};
pub use parse::AnswerParser;
pub use process::{Leash, Listener, Said};
pub use prompt::{Prompt, PromptError};

/// What a workflow knows of the trial that it works for.
#[derive(Debug, Clone, Copy)]
pub struct TrialContext {
    /// The trace of the trial's batch.
    pub trace_id: TraceId,
    /// The open `assess_claim` span: the parent of the workflow's own spans.
    pub parent_span_id: SpanId,
    /// Which repeat, from 0.
    pub repeat: u32,
}

/// What a workflow made of a case.
#[derive(Debug, Clone)]
pub struct Assessment {
    /// Completed with a class, or failed.
    pub outcome: Outcome,
    /// The answer as it came.
    pub raw_output: Option<String>,
    /// HTTP tries made.
    pub attempts: u32,
    /// Wall time of the model call with its retries, in nanoseconds.
    pub latency_ns: u64,
    /// Tokens used.
    pub usage: Usage,
    /// Price in US dollars, where known.
    pub cost_usd: Option<f64>,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// The endpoint's id of the answer.
    pub response_id: Option<String>,
    /// The model that answered.
    pub response_model: Option<String>,
    /// Fingerprint of the endpoint's configuration.
    pub system_fingerprint: Option<String>,
    /// Whether the answer came from the cache.
    pub cached: bool,
    /// Whether a try was turned away for load (429, 503): the concurrency limiter wants to know.
    pub overloaded: bool,
    /// Whether no call can fare better (key refused, model unknown).
    pub fatal: bool,
    /// Whether there is nobody left who could answer this or any later case: the trial is not recorded, and the run halts
    /// so that it can be resumed.
    pub unavailable: bool,
    /// The ended spans below `assess_claim`, children first.
    pub spans: Vec<Span>,
    /// Log records of its own, such as message content.
    pub logs: Vec<LogRecord>,
    /// The `chat` span that was judged.
    pub chat_span_id: Option<SpanId>,
}

impl Assessment {
    /// A completed assessment without a model call, for workflows written by hand.
    pub fn answered(outcome: Outcome, raw_output: impl Into<String>) -> Self {
        Self {
            outcome,
            raw_output: Some(raw_output.into()),
            attempts: 0,
            latency_ns: 0,
            usage: Usage::default(),
            cost_usd: None,
            finish_reason: None,
            response_id: None,
            response_model: None,
            system_fingerprint: None,
            cached: false,
            overloaded: false,
            fatal: false,
            unavailable: false,
            spans: Vec::new(),
            logs: Vec::new(),
            chat_span_id: None,
        }
    }
}

/// Code under test. An implementation answers one case at a time; the runner calls it for many at once.
#[async_trait]
pub trait Workflow: Send + Sync {
    /// Its name: `gen_ai.workflow.name`, and the name of the batch spans.
    fn name(&self) -> &str;

    /// SHA-256 of whatever decides its answers besides the model (prompt, parser): a resumed run must have the same.
    fn digest(&self) -> Digest;

    /// Answers one case. A failure is a value, so that it stays in the denominators.
    async fn assess(&self, case: &Case, trial: TrialContext) -> Assessment;
}
