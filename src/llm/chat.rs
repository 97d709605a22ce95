//! What a workflow asks of a model and what comes back, whatever the provider.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::model::{SpanId, TraceId, Usage};

/// Who speaks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The instructions.
    System,
    /// The question.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The role as the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What.
    pub content: String,
}

/// What the suite sets of a chat-completions request; unset fields are not sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Limit of output tokens; sent as `max_tokens` or `max_completion_tokens`, as the endpoint wants it.
    pub max_tokens: Option<u64>,
    /// Seed for endpoints that heed one.
    pub seed: Option<i64>,
    /// Frequency penalty.
    pub frequency_penalty: Option<f64>,
    /// Presence penalty.
    pub presence_penalty: Option<f64>,
    /// Stop sequences.
    pub stop: Vec<String>,
    /// Any other fields of the request body, sent as they are.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// One question to the model. Shared parts are behind references, for there may be many in flight.
#[derive(Debug, Clone, Copy)]
pub struct ChatRequest<'a> {
    /// The messages, in order.
    pub messages: &'a [Message],
    /// The parameters.
    pub parameters: &'a Parameters,
    /// The case asked about: the key of recorded answers.
    pub case_id: &'a str,
    /// Which repeat, from 0: an identical request of another repeat is another request.
    pub repeat: u32,
    /// The trace and `chat` span of this call, kept beside a cached answer.
    pub span: (TraceId, SpanId),
}

/// The model's answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatReply {
    /// The text of the first choice; empty where the model gave none.
    pub text: String,
    /// Why it ended: `stop`, `length`, `content_filter`, …
    pub finish_reason: Option<String>,
    /// The endpoint's id of the answer.
    pub response_id: Option<String>,
    /// The model that answered.
    pub response_model: Option<String>,
    /// Fingerprint of the endpoint's configuration.
    pub system_fingerprint: Option<String>,
    /// Tier that served it.
    pub service_tier: Option<String>,
    /// Tokens used.
    pub usage: Usage,
    /// The trace and span that paid for a cached answer.
    pub cached_from: Option<(TraceId, SpanId)>,
}

/// Why a call failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatError {
    /// Low-cardinality class for `error.type`: `429`, `500`, `timeout`, `connection`, `content_filter`,
    /// `invalid_response`, `missing_answer`, `_OTHER`.
    pub error_type: String,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// In words; holds no secret and no prompt.
    pub message: String,
    /// Whether no other call can fare better: the key is refused (401, 403) or the model unknown (404).
    pub fatal: bool,
}

/// One failed HTTP try.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedAttempt {
    /// When it failed, in nanoseconds since the Unix epoch.
    pub time_unix_nano: u64,
    /// Class as in [`ChatError::error_type`].
    pub error_type: String,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// In words.
    pub message: String,
    /// How long the caller waited before the next try; `None` after the last.
    pub wait: Option<Duration>,
}

/// A call with its history.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatCall {
    /// The answer or the error.
    pub result: Result<ChatReply, ChatError>,
    /// HTTP tries made, failed ones included; 0 if the answer was cached or recorded.
    pub attempts: u32,
    /// The tries that failed.
    pub failed_attempts: Vec<FailedAttempt>,
}

/// Where the model is, for the attributes of the `chat` span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `gen_ai.provider.name`: `openai` or `azure.ai.openai`.
    pub provider_name: &'static str,
    /// Model asked for.
    pub model: String,
    /// Host; `None` for recorded answers.
    pub address: Option<String>,
    /// Port.
    pub port: Option<u16>,
}

/// A model that answers chat requests: over HTTP, from a recording, or a test's own.
#[async_trait]
pub trait ChatModel: Send + Sync {
    /// Asks once, with all retries that belong to it. Never panics; a failure is a value.
    async fn chat(&self, request: ChatRequest<'_>) -> ChatCall;

    /// Where it is.
    fn endpoint(&self) -> &Endpoint;
}

#[async_trait]
impl<M: ChatModel + ?Sized> ChatModel for Box<M> {
    async fn chat(&self, request: ChatRequest<'_>) -> ChatCall {
        (**self).chat(request).await
    }

    fn endpoint(&self) -> &Endpoint {
        (**self).endpoint()
    }
}
