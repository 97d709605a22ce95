//! The workflow `assess_claims_with_context`: one model call per claim, under a `chat {model}` span.
//!
//! Sources of the span's shape: OpenTelemetry GenAI conventions v1.41.1, client inference spans.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{AnswerParser, Assessment, Prompt, TrialContext, Workflow};
use crate::llm::chat::{ChatCall, ChatModel, ChatReply, ChatRequest, Message, Parameters};
use crate::llm::{Price, cost, overloaded};
use crate::model::{Case, Digest, Failure, Key, LogRecord, Outcome, Span, SpanId, SpanKind, Status, Usage, Value};
use crate::trace::provider::Ambient;
use crate::trace::semconv::{self as sc, event, span};

/// Which names of the GenAI conventions spans carry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Semconv {
    /// The latest, and beside it the older `gen_ai.system` that some backends still read.
    #[default]
    Dual,
    /// The latest only.
    Latest,
}

/// Where message content goes; nowhere by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capture {
    /// On the `chat` span, as JSON strings.
    pub spans: bool,
    /// On a `gen_ai.client.inference.operation.details` log record, structured.
    pub events: bool,
}

/// The workflow: prompt, model and parser.
pub struct AssessClaims {
    /// The templates.
    pub prompt: Prompt,
    /// Who answers.
    pub model: Arc<dyn ChatModel>,
    /// The request's parameters.
    pub parameters: Parameters,
    /// From answer to class.
    pub parser: AnswerParser,
    /// What decides how answers are read, for the digest.
    pub parser_source: String,
    /// What tokens cost; `None` where that is not known.
    pub price: Option<Price>,
    /// Where content goes.
    pub capture: Capture,
    /// Which attribute names.
    pub semconv: Semconv,
    /// Time and ids.
    pub ambient: Ambient,
}

#[async_trait]
impl Workflow for AssessClaims {
    fn name(&self) -> &str {
        span::ASSESS_CLAIMS_WITH_CONTEXT
    }

    fn digest(&self) -> Digest {
        let [system, user] = self.prompt.source();
        let canonical = serde_json::to_vec(&json!([system, user, self.parser_source])).expect("strings serialise");
        Digest::from_bytes(Sha256::digest(canonical).into())
    }

    async fn assess(&self, case: &Case, trial: TrialContext) -> Assessment {
        let start = self.ambient.now();
        let span_id = self.ambient.ids.span_id();
        let messages = match self.prompt.render(case) {
            Ok(messages) => messages,
            Err(e) => return self.unrendered(e.to_string(), trial, span_id, start),
        };
        let request = ChatRequest {
            messages: &messages,
            parameters: &self.parameters,
            case_id: case.id.as_str(),
            repeat: trial.repeat,
            span: (trial.trace_id, span_id),
        };
        let call = self.model.chat(request).await;
        let end = self.ambient.now();
        self.assessment(call, trial, span_id, (start, end), &messages)
    }
}

impl AssessClaims {
    fn assessment(
        &self,
        call: ChatCall,
        trial: TrialContext,
        span_id: SpanId,
        (start, end): (u64, u64),
        messages: &[Message],
    ) -> Assessment {
        let mut chat = self.chat_span(trial, span_id, start);
        let overloaded = overloaded(&call);
        for (i, attempt) in call.failed_attempts.iter().enumerate() {
            let mut attributes: Vec<(Key, Value)> = Vec::with_capacity(5);
            attributes.push((sc::SPANSCORE_ATTEMPT_NUMBER.into(), Value::Int(i as i64 + 1)));
            attributes.push((sc::ERROR_TYPE.into(), attempt.error_type.clone().into()));
            if let Some(status) = attempt.status {
                attributes.push((sc::HTTP_RESPONSE_STATUS_CODE.into(), Value::Int(i64::from(status))));
            }
            attributes.push((sc::SPANSCORE_ATTEMPT_MESSAGE.into(), attempt.message.clone().into()));
            if let Some(wait) = attempt.wait {
                attributes.push((sc::SPANSCORE_ATTEMPT_WAIT.into(), Value::Double(wait.as_secs_f64())));
            }
            chat.add_event(event::ATTEMPT_FAILED, attempt.time_unix_nano, attributes);
        }
        chat.end_unix_nano = end;
        let mut logs = Vec::new();
        let (outcome, reply, fatal) = match call.result {
            Ok(reply) => {
                set_reply(&mut chat, &reply);
                let outcome = match reply.finish_reason.as_deref() {
                    // A filtered answer is no answer: it must not pass for one that is merely unparseable.
                    Some("content_filter") => {
                        let message = "the endpoint withheld the answer (finish_reason content_filter)".to_owned();
                        chat.set(sc::ERROR_TYPE, "content_filter");
                        chat.status = Status::Error(message.clone());
                        Outcome::Failed(Failure { error_type: "content_filter".to_owned(), message })
                    }
                    _ => Outcome::Completed { predicted: self.parser.parse(&reply.text) },
                };
                (outcome, Some(reply), false)
            }
            Err(error) => {
                chat.set(sc::ERROR_TYPE, error.error_type.clone());
                chat.status = Status::Error(error.message.clone());
                (Outcome::Failed(Failure { error_type: error.error_type, message: error.message }), None, error.fatal)
            }
        };
        if self.capture.spans {
            chat.set(sc::GEN_AI_INPUT_MESSAGES, input_messages(messages).to_string());
            if let Some(reply) = &reply {
                chat.set(sc::GEN_AI_OUTPUT_MESSAGES, output_messages(reply).to_string());
            }
        }
        if self.capture.events {
            logs.push(operation_details(&chat, messages, reply.as_ref()));
        }
        let reply = reply.unwrap_or_default();
        let cached = reply.cached_from.is_some();
        let completed = matches!(outcome, Outcome::Completed { .. });
        let no_charge = cached || self.model.endpoint().address.is_none();
        Assessment {
            cost_usd: match self.price {
                Some(_) if no_charge && completed => Some(0.0),
                price => cost(&reply.usage, price.as_ref()),
            },
            outcome,
            raw_output: (completed || !reply.text.is_empty()).then_some(reply.text),
            attempts: call.attempts,
            latency_ns: end.saturating_sub(start),
            usage: reply.usage,
            finish_reason: reply.finish_reason,
            response_id: reply.response_id,
            response_model: reply.response_model,
            system_fingerprint: reply.system_fingerprint,
            cached,
            overloaded,
            fatal,
            unavailable: false,
            spans: vec![chat],
            logs,
            chat_span_id: Some(span_id),
        }
    }

    /// The span as it is known before the call.
    fn chat_span(&self, trial: TrialContext, span_id: SpanId, start: u64) -> Span {
        let endpoint = self.model.endpoint();
        let name = format!("chat {}", endpoint.model);
        let mut chat = Span::open(trial.trace_id, span_id, Some(trial.parent_span_id), name, start);
        chat.kind = SpanKind::Client;
        chat.attributes.reserve(20);
        chat.set(sc::GEN_AI_OPERATION_NAME, "chat");
        chat.set(sc::GEN_AI_PROVIDER_NAME, endpoint.provider_name);
        if self.semconv == Semconv::Dual {
            chat.set(sc::GEN_AI_SYSTEM, "openai");
        }
        chat.set(sc::GEN_AI_REQUEST_MODEL, endpoint.model.clone());
        if let Some(address) = &endpoint.address {
            chat.set(sc::SERVER_ADDRESS, address.clone());
        }
        if let Some(port) = endpoint.port {
            chat.set(sc::SERVER_PORT, i64::from(port));
        }
        self.set_parameters(&mut chat);
        chat.set(sc::OPENAI_API_TYPE, "chat_completions");
        chat.set(sc::OPENINFERENCE_SPAN_KIND, "LLM");
        chat
    }

    fn set_parameters(&self, chat: &mut Span) {
        let p = &self.parameters;
        let doubles = [
            (sc::GEN_AI_REQUEST_TEMPERATURE, p.temperature),
            (sc::GEN_AI_REQUEST_TOP_P, p.top_p),
            (sc::GEN_AI_REQUEST_FREQUENCY_PENALTY, p.frequency_penalty),
            (sc::GEN_AI_REQUEST_PRESENCE_PENALTY, p.presence_penalty),
        ];
        for (key, value) in doubles {
            if let Some(value) = value {
                chat.set(key, value);
            }
        }
        if let Some(max_tokens) = p.max_tokens {
            chat.set(sc::GEN_AI_REQUEST_MAX_TOKENS, max_tokens as i64);
        }
        if let Some(seed) = p.seed {
            chat.set(sc::GEN_AI_REQUEST_SEED, seed);
        }
        if let Some(n) = p.extra.get("n").and_then(serde_json::Value::as_i64).filter(|n| *n != 1) {
            chat.set(sc::GEN_AI_REQUEST_CHOICE_COUNT, n);
        }
        if !p.stop.is_empty() {
            chat.set(sc::GEN_AI_REQUEST_STOP_SEQUENCES, strings(&p.stop));
        }
    }

    /// A template that fails for this case: the trial fails before any call.
    fn unrendered(&self, message: String, trial: TrialContext, span_id: SpanId, start: u64) -> Assessment {
        let mut chat = self.chat_span(trial, span_id, start);
        chat.end_unix_nano = self.ambient.now();
        chat.set(sc::ERROR_TYPE, "prompt");
        chat.status = Status::Error(message.clone());
        let failure = Failure { error_type: "prompt".to_owned(), message };
        let mut assessment = Assessment::answered(Outcome::Failed(failure), String::new());
        assessment.raw_output = None;
        assessment.spans.push(chat);
        assessment.chat_span_id = Some(span_id);
        assessment
    }
}

fn set_reply(chat: &mut Span, reply: &ChatReply) {
    let texts = [
        (sc::GEN_AI_RESPONSE_ID, &reply.response_id),
        (sc::GEN_AI_RESPONSE_MODEL, &reply.response_model),
        (sc::OPENAI_RESPONSE_SERVICE_TIER, &reply.service_tier),
        (sc::OPENAI_RESPONSE_SYSTEM_FINGERPRINT, &reply.system_fingerprint),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            chat.set(key, text.clone());
        }
    }
    if let Some(reason) = &reply.finish_reason {
        chat.set(sc::GEN_AI_RESPONSE_FINISH_REASONS, strings(std::slice::from_ref(reason)));
    }
    let Usage { input_tokens, output_tokens, cached_input_tokens, reasoning_tokens } = reply.usage;
    let counts = [
        (sc::GEN_AI_USAGE_INPUT_TOKENS, input_tokens),
        (sc::GEN_AI_USAGE_OUTPUT_TOKENS, output_tokens),
        (sc::GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, cached_input_tokens),
        (sc::GEN_AI_USAGE_REASONING_OUTPUT_TOKENS, reasoning_tokens),
    ];
    for (key, count) in counts {
        if let Some(count) = count {
            chat.set(key, count as i64);
        }
    }
    if let Some((trace_id, span_id)) = reply.cached_from {
        chat.set(sc::SPANSCORE_CACHED, true);
        chat.add_link(trace_id, span_id, Vec::new());
    }
}

fn strings(texts: &[String]) -> Value {
    Value::Array(texts.iter().map(|text| text.clone().into()).collect())
}

fn input_messages(messages: &[Message]) -> serde_json::Value {
    messages
        .iter()
        .map(|m| json!({"role": m.role.as_str(), "parts": [{"type": "text", "content": m.content}]}))
        .collect()
}

fn output_messages(reply: &ChatReply) -> serde_json::Value {
    json!([{
        "role": "assistant",
        "parts": [{"type": "text", "content": reply.text}],
        "finish_reason": reply.finish_reason.as_deref().unwrap_or("stop"),
    }])
}

/// The log record that carries the messages, structured.
fn operation_details(chat: &Span, messages: &[Message], reply: Option<&ChatReply>) -> LogRecord {
    let mut attributes: Vec<(Key, Value)> = chat
        .attributes
        .iter()
        .filter(|(k, _)| *k != sc::GEN_AI_INPUT_MESSAGES && *k != sc::GEN_AI_OUTPUT_MESSAGES)
        .cloned()
        .collect();
    attributes.push((sc::GEN_AI_INPUT_MESSAGES.into(), structured(input_messages(messages))));
    if let Some(reply) = reply {
        attributes.push((sc::GEN_AI_OUTPUT_MESSAGES.into(), structured(output_messages(reply))));
    }
    LogRecord {
        time_unix_nano: chat.end_unix_nano,
        observed_unix_nano: chat.end_unix_nano,
        severity_number: 0,
        severity_text: String::new(),
        event_name: event::OPERATION_DETAILS.into(),
        body: Value::Empty,
        attributes,
        dropped_attributes_count: 0,
        flags: 1,
        trace_id: Some(chat.trace_id),
        span_id: Some(chat.span_id),
    }
}

fn structured(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Empty,
        serde_json::Value::Bool(x) => Value::Bool(x),
        serde_json::Value::Number(n) => {
            n.as_i64().map_or_else(|| Value::Double(n.as_f64().unwrap_or_default()), Value::Int)
        }
        serde_json::Value::String(text) => text.into(),
        serde_json::Value::Array(items) => Value::Array(items.into_iter().map(structured).collect()),
        serde_json::Value::Object(map) => Value::Map(map.into_iter().map(|(k, v)| (k.into(), structured(v))).collect()),
    }
}
