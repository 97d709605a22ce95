//! The chat-completions request and reply as they go over the wire.
//!
//! The types are our own, for compatible servers leave out what OpenAI's always sends: only the first choice's message
//! is needed; everything else may be missing or null. A field of another type than documented is an error.

use std::fmt;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::TokenField;
use super::chat::{ChatReply, ChatRequest};
use crate::model::Usage;

/// The body of a request; borrows all of its texts.
pub(super) struct Body<'a> {
    pub(super) model: &'a str,
    pub(super) request: ChatRequest<'a>,
    pub(super) token_field: TokenField,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let p = self.request.parameters;
        let token_field = self.token_field.as_str();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.model)?;
        map.serialize_entry("messages", self.request.messages)?;
        let mut optional = |key: &str, value: Option<f64>| match value {
            Some(value) => map.serialize_entry(key, &value),
            None => Ok(()),
        };
        optional("temperature", p.temperature)?;
        optional("top_p", p.top_p)?;
        optional("frequency_penalty", p.frequency_penalty)?;
        optional("presence_penalty", p.presence_penalty)?;
        if let Some(max_tokens) = p.max_tokens {
            map.serialize_entry(token_field, &max_tokens)?;
        }
        if let Some(seed) = p.seed {
            map.serialize_entry("seed", &seed)?;
        }
        if !p.stop.is_empty() {
            map.serialize_entry("stop", &p.stop)?;
        }
        for (key, value) in &p.extra {
            // What is set above wins over an extra field of the same name, and a streamed answer would not be read.
            let set = match key.as_str() {
                "model" | "messages" | "stream" | "stream_options" => true,
                "temperature" => p.temperature.is_some(),
                "top_p" => p.top_p.is_some(),
                "frequency_penalty" => p.frequency_penalty.is_some(),
                "presence_penalty" => p.presence_penalty.is_some(),
                "seed" => p.seed.is_some(),
                "stop" => !p.stop.is_empty(),
                "max_tokens" | "max_completion_tokens" => p.max_tokens.is_some(),
                _ => false,
            };
            if !set {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

/// The body of an answer.
#[derive(Debug, Deserialize)]
pub(super) struct Reply {
    /// Some servers put an error into an answer with status 200.
    error: Option<Value>,
    id: Option<String>,
    model: Option<String>,
    system_fingerprint: Option<String>,
    service_tier: Option<String>,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    usage: Option<UsageReply>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    message: Option<MessageReply>,
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct MessageReply {
    content: Option<Content>,
    refusal: Option<String>,
}

#[derive(Debug, Deserialize)]
struct UsageReply {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Debug, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
}

/// A text, or a list of parts of which those with a text count.
#[derive(Debug)]
struct Content(String);

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
    refusal: Option<String>,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrParts;

        impl<'de> Visitor<'de> for TextOrParts {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of text parts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Content, E> {
                Ok(Content(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
                let mut text = String::new();
                while let Some(part) = parts.next_element::<Part>()? {
                    text.push_str(&part.text.or(part.refusal).unwrap_or_default());
                }
                Ok(Content(text))
            }
        }

        deserializer.deserialize_any(TextOrParts)
    }
}

impl Reply {
    /// The error in it, if there is one.
    pub(super) fn error(&self) -> Option<&Value> {
        self.error.as_ref()
    }

    /// What is wrong with it as an answer, if anything.
    pub(super) fn defect(&self) -> Option<&'static str> {
        match self.choices.as_deref() {
            None | Some([]) => Some("the answer has no choices"),
            Some([first, ..]) if first.message.is_none() => Some("the first choice has no message"),
            Some(_) => None,
        }
    }

    /// The answer; a refusal stands for a missing content.
    pub(super) fn into_chat_reply(self) -> ChatReply {
        let first = self.choices.unwrap_or_default().into_iter().next();
        let (message, finish_reason) = first.map_or((None, None), |choice| (choice.message, choice.finish_reason));
        let text = message.and_then(|message| message.content.map(|content| content.0).or(message.refusal));
        let usage = self.usage.map_or_else(Usage::default, |usage| Usage {
            input_tokens: usage.prompt_tokens,
            output_tokens: usage.completion_tokens,
            cached_input_tokens: usage.prompt_tokens_details.and_then(|details| details.cached_tokens),
            reasoning_tokens: usage.completion_tokens_details.and_then(|details| details.reasoning_tokens),
        });
        ChatReply {
            text: text.unwrap_or_default(),
            finish_reason,
            response_id: self.id,
            response_model: self.model,
            system_fingerprint: self.system_fingerprint,
            service_tier: self.service_tier,
            usage,
            cached_from: None,
        }
    }
}

/// What is wrong with a body, without quoting it: serde's messages name values found, and those may be of the answer.
pub(super) fn decode_problem(error: &serde_json::Error) -> String {
    let place = format!("at line {}, column {}", error.line(), error.column());
    match error.classify() {
        serde_json::error::Category::Eof => format!("the answer is cut off ({place})"),
        serde_json::error::Category::Data => {
            let text = error.to_string();
            let expected = text.split_once(", expected ").map_or("", |(_, expected)| expected);
            let expected = expected.rsplit_once(" at line ").map_or(expected, |(expected, _)| expected);
            match expected {
                "" => format!("the answer is no chat completion ({place})"),
                _ => format!("the answer is no chat completion: expected {expected} {place}"),
            }
        }
        _ => format!("the answer is not JSON ({place})"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::llm::chat::{Message, Parameters, Role};
    use crate::model::{SpanId, TraceId};

    fn read(body: &Value) -> ChatReply {
        let reply: Reply = serde_json::from_value(body.clone()).expect("a reply");
        assert_eq!(reply.defect(), None, "{body}");
        reply.into_chat_reply()
    }

    #[test]
    fn replies_that_leave_fields_out_are_accepted() {
        for (body, text) in [
            (json!({"choices":[{"message":{"content":"True"}}]}), "True"),
            (json!({"error":null,"usage":null,"choices":[{"message":{"content":null},"finish_reason":null}]}), ""),
            (json!({"choices":[{"message":{"content":[{"type":"text","text":"Fal"},{"text":"se"}]}}]}), "False"),
            (json!({"choices":[{"message":{"content":null,"refusal":"I cannot"}}]}), "I cannot"),
            (json!({"choices":[{"message":{"role":"assistant"}}],"unknown":{"x":[1]}}), ""),
        ] {
            assert_eq!(read(&body).text, text, "{body}");
        }
    }

    #[test]
    fn a_full_reply_keeps_everything() {
        let reply = read(&json!({
            "id":"c1","model":"m-1","system_fingerprint":"fp","service_tier":"default",
            "choices":[{"message":{"content":"NEE"},"finish_reason":"stop"}],
            "usage":{"prompt_tokens":10,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4},
                     "completion_tokens_details":{"reasoning_tokens":1}}}));
        assert_eq!(reply.response_id.as_deref(), Some("c1"));
        assert_eq!(reply.finish_reason.as_deref(), Some("stop"));
        let usage = Usage {
            input_tokens: Some(10),
            output_tokens: Some(2),
            cached_input_tokens: Some(4),
            reasoning_tokens: Some(1),
        };
        assert_eq!(reply.usage, usage);
    }

    #[test]
    fn wrong_types_are_refused_without_quoting_the_answer() {
        for body in [
            r#"{"choices":"SECRET"}"#,
            r#"{"choices":[{"message":{"content":{"SECRET":1}}}]}"#,
            r#"{"choices":[{"message":{"content":"x"}}],"usage":"SECRET"}"#,
            r#""SECRET""#,
            r#"{"choices":[{"SECRET"#,
            "<html>SECRET",
        ] {
            let error = serde_json::from_str::<Reply>(body).expect_err(body);
            let problem = decode_problem(&error);
            assert!(problem.starts_with("the answer is") && !problem.contains("SECRET"), "{problem}");
        }
    }

    #[test]
    fn replies_without_a_message_have_a_defect() {
        for body in [json!({}), json!({"choices":[]}), json!({"choices":null}), json!({"choices":[{}]})] {
            let reply: Reply = serde_json::from_value(body.clone()).expect("decodes");
            assert!(reply.defect().is_some(), "{body}");
        }
    }

    #[test]
    fn the_request_holds_what_is_set_and_nothing_else() {
        let messages = [Message { role: Role::User, content: "hi".to_owned() }];
        let mut parameters = Parameters { temperature: Some(0.0), max_tokens: Some(3), ..Parameters::default() };
        for (key, value) in [("stream", json!(true)), ("temperature", json!(9)), ("top_k", json!(5))] {
            parameters.extra.insert(key.to_owned(), value);
        }
        let span = (TraceId::from_bytes([1; 16]), SpanId::from_bytes([1; 8]));
        let request = ChatRequest { messages: &messages, parameters: &parameters, case_id: "c", repeat: 0, span };
        let body = Body { model: "m", request, token_field: TokenField::MaxCompletionTokens };
        assert_eq!(
            serde_json::to_string(&body).expect("serialises"),
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.0,"max_completion_tokens":3,"top_k":5}"#
        );
    }
}
