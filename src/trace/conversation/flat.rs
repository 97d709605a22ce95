//! One attribute per field of a message, and inputs and outputs that are one text.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::parts::{message, messages_of};
use super::value::{json, structured};
use super::{Message, Part};
use crate::model::{Key, LogRecord, Span, Value};
use crate::trace::semconv;

/// From `gen_ai.prompt.N.…` and `gen_ai.completion.N.…`, and OpenInference's `llm.input_messages.N.message.…`.
pub(super) fn indexed(span: &Span, _: &[LogRecord]) -> Vec<Message> {
    let mut messages = Vec::new();
    for (names, output) in [
        ([semconv::GEN_AI_PROMPT, semconv::LLM_INPUT_MESSAGES], false),
        ([semconv::GEN_AI_COMPLETION, semconv::LLM_OUTPUT_MESSAGES], true),
    ] {
        let found = names.iter().map(|name| grouped(own(&span.attributes), name)).find(|found| !found.is_empty());
        messages.extend(found.unwrap_or_default().values().filter_map(|fields| message(&of_fields(fields), output)));
    }
    messages
}

/// From attributes that hold all of an operation's input or output; the arguments and results of tools are among them.
pub(super) fn whole(span: &Span, _: &[LogRecord]) -> Vec<Message> {
    let mut messages = Vec::new();
    let tool = span.get(semconv::GEN_AI_TOOL_NAME).map(text_of);
    let call_id = span.get(semconv::GEN_AI_TOOL_CALL_ID).map(text_of);
    if let Some(arguments) = span.get(semconv::GEN_AI_TOOL_CALL_ARGUMENTS) {
        let name = tool.unwrap_or_else(|| span.name.to_string());
        let call = Part::ToolCall { id: call_id.clone(), name, arguments: text_of(arguments) };
        messages.push(Message { role: "input".to_owned(), parts: vec![call], ..Message::default() });
    }
    if let Some(result) = span.get(semconv::GEN_AI_TOOL_CALL_RESULT) {
        let result = Part::ToolResult { id: call_id, content: text_of(result) };
        messages.push(Message { role: "tool".to_owned(), parts: vec![result], output: true, ..Message::default() });
    }
    if !messages.is_empty() {
        return messages;
    }
    for (names, output) in [
        (
            [
                semconv::INPUT_VALUE,
                semconv::GEN_AI_PROMPT,
                semconv::TRACELOOP_ENTITY_INPUT,
                semconv::MLFLOW_SPAN_INPUTS,
            ],
            false,
        ),
        (
            [
                semconv::OUTPUT_VALUE,
                semconv::GEN_AI_COMPLETION,
                semconv::TRACELOOP_ENTITY_OUTPUT,
                semconv::MLFLOW_SPAN_OUTPUTS,
            ],
            true,
        ),
    ] {
        let Some(value) = names.iter().find_map(|name| span.get(name)) else { continue };
        messages.extend(of_whole(value, output));
    }
    messages
}

/// Messages if the value holds some in a form that is known, otherwise the value as one text.
fn of_whole(value: &Value, output: bool) -> Vec<Message> {
    let value = structured(value);
    let list = match &value {
        Json::Array(_) => Some(&value),
        Json::Object(fields) => fields.get(if output { "choices" } else { "messages" }),
        _ => None,
    };
    let speaks = |item: &Json| item.get("role").is_some() || item.get("message").is_some();
    if let Some(Json::Array(items)) = list
        && !items.is_empty()
        && items.iter().all(speaks)
    {
        return messages_of(&Json::Array(items.clone()), output);
    }
    let text = super::value::shown(&value);
    if text.is_empty() {
        return Vec::new();
    }
    let role = if output { "output" } else { "input" }.to_owned();
    vec![Message { role, parts: vec![Part::Text(text)], output, ..Message::default() }]
}

type Fields<'a> = Vec<(&'a str, &'a Value)>;

fn own(attributes: &[(Key, Value)]) -> impl Iterator<Item = (&str, &Value)> {
    attributes.iter().map(|(key, value)| (&**key, value))
}

/// The attributes `prefix.N.rest` by N, in the order of numbers.
fn grouped<'a>(attributes: impl Iterator<Item = (&'a str, &'a Value)>, prefix: &str) -> BTreeMap<u64, Fields<'a>> {
    let mut groups: BTreeMap<u64, Fields<'a>> = BTreeMap::new();
    for (key, value) in attributes {
        let Some(rest) = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')) else { continue };
        let (index, field) = rest.split_once('.').unwrap_or((rest, ""));
        if let Ok(index) = index.parse() {
            groups.entry(index).or_default().push((field, value));
        }
    }
    groups
}

/// A message as the JSON that other applications write, from its flat fields.
fn of_fields(fields: &Fields<'_>) -> Json {
    // OpenInference puts each of its lists' items into an object of its own: `message.`, `tool_call.`, `message_content.`.
    let fields: Fields<'_> =
        fields.iter().map(|(key, value)| (key.strip_prefix("message.").unwrap_or(key), *value)).collect();
    let mut message = Map::new();
    for (key, value) in &fields {
        let name = match *key {
            "role" | "content" | "name" | "tool_call_id" | "finish_reason" | "reasoning" | "refusal" => *key,
            "" => "content",
            _ => continue,
        };
        message.insert(name.to_owned(), json(value));
    }
    let get = |wanted: &str| fields.iter().find(|(key, _)| *key == wanted).map(|(_, value)| json(value));
    let contents: Vec<Json> = grouped(fields.iter().copied(), "contents").values().map(part_of).collect();
    if !contents.is_empty() {
        message.insert("content".to_owned(), Json::Array(contents));
    }
    let mut calls: Vec<Json> =
        grouped(fields.iter().copied(), "tool_calls").values().map(|fields| call_of(fields)).collect();
    if let Some(name) = get("function_call_name").or_else(|| get("function_call.name")) {
        let arguments = get("function_call_arguments_json").or_else(|| get("function_call.arguments"));
        calls.push(serde_json::json!({ "name": name, "arguments": arguments }));
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), Json::Array(calls));
    }
    Json::Object(message)
}

fn part_of(fields: &Fields<'_>) -> Json {
    let mut part = Map::new();
    for (key, value) in fields {
        let key = key.strip_prefix("message_content.").unwrap_or(key);
        let (key, value) = match key {
            "image.image.url" | "audio.audio.url" => ("uri", json(value)),
            "audio.audio.mime_type" => ("mime_type", json(value)),
            key => (key, json(value)),
        };
        part.insert(key.to_owned(), value);
    }
    Json::Object(part)
}

fn call_of(fields: &Fields<'_>) -> Json {
    let mut call = Map::new();
    for (key, value) in fields {
        let key = key.strip_prefix("tool_call.").unwrap_or(key);
        let key = key.strip_prefix("function.").unwrap_or(key);
        call.insert(key.to_owned(), json(value));
    }
    Json::Object(call)
}

fn text_of(value: &Value) -> String {
    super::value::shown(&json(value))
}
