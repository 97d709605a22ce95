//! One span event or log record per message: the conventions up to 1.36, and Azure's SDKs.

use serde_json::Value as Json;

use super::Message;
use super::parts::{body_of, event_name, message, messages_of};
use super::value::structured;
use crate::model::{Key, LogRecord, Span, Value};
use crate::trace::semconv::{GEN_AI_COMPLETION, GEN_AI_EVENT_CONTENT, GEN_AI_PROMPT, event};

/// From the events of the span.
pub(super) fn of_span(span: &Span, _: &[LogRecord]) -> Vec<Message> {
    let mut found: Vec<(u64, Vec<Message>)> = Vec::new();
    for event in &span.events {
        found.push((event.time_unix_nano, of_event(&event.name, &Value::Empty, &event.attributes)));
    }
    in_order(found)
}

/// From log records.
pub(super) fn of_logs(_: &Span, logs: &[LogRecord]) -> Vec<Message> {
    let found = logs.iter().map(|log| {
        let time = if log.time_unix_nano == 0 { log.observed_unix_nano } else { log.time_unix_nano };
        (time, of_event(event_name(log), &log.body, &log.attributes))
    });
    in_order(found.collect())
}

/// By time; what is of one time stays in the order in which it came.
fn in_order(mut found: Vec<(u64, Vec<Message>)>) -> Vec<Message> {
    found.sort_by_key(|(time, _)| *time);
    found.into_iter().flat_map(|(_, messages)| messages).collect()
}

fn of_event(name: &str, body: &Value, attributes: &[(Key, Value)]) -> Vec<Message> {
    let get = |wanted: &str| attributes.iter().find(|(key, _)| key == wanted).map(|(_, value)| structured(value));
    match name {
        event::CONTENT_PROMPT => get(GEN_AI_PROMPT).map(|value| messages_of(&value, false)).unwrap_or_default(),
        event::CONTENT_COMPLETION => get(GEN_AI_COMPLETION).map(|value| messages_of(&value, true)).unwrap_or_default(),
        _ => {
            let role =
                name.strip_prefix(event::GEN_AI_PREFIX).and_then(|rest| rest.strip_suffix(event::MESSAGE_SUFFIX));
            let output = name == event::CHOICE;
            if role.is_none() && !output {
                return Vec::new();
            }
            let content = get(GEN_AI_EVENT_CONTENT).unwrap_or_else(|| body_of(body, attributes));
            let content = match content {
                Json::Object(mut fields) => {
                    if let Some(role) = role {
                        fields.entry("role").or_insert_with(|| Json::String(role.to_owned()));
                    }
                    Json::Object(fields)
                }
                // Older SDKs give the text alone.
                other => serde_json::json!({ "role": role.unwrap_or("assistant"), "content": other }),
            };
            message(&content, output).into_iter().collect()
        }
    }
}
