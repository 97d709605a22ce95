//! Messages made of parts, and whatever else applications put where such messages belong.
//!
//! Source: OpenTelemetry semantic conventions 1.41 `gen-ai-input-messages.json` and its kin; OpenAI's chat messages, which
//! many applications record as they are.

use serde_json::Value as Json;

use super::value::{first, first_text, object, parsed, shown, structured, text};
use super::{Message, Part};
use crate::model::{Key, LogRecord, Span, Value};
use crate::trace::semconv::{
    EVENT_NAME, GEN_AI_INPUT_MESSAGES, GEN_AI_OUTPUT_MESSAGES, GEN_AI_SYSTEM_INSTRUCTIONS, event,
};

/// From the span's own attributes.
pub(super) fn of_span(span: &Span, _: &[LogRecord]) -> Vec<Message> {
    from_attributes(&span.attributes)
}

/// From `gen_ai.client.inference.operation.details`, as span event or log record, in its attributes or its body.
pub(super) fn of_details(span: &Span, logs: &[LogRecord]) -> Vec<Message> {
    let of_events =
        span.events.iter().filter(|e| e.name == event::OPERATION_DETAILS).map(|e| from_attributes(&e.attributes));
    let of_logs = logs.iter().filter(|log| event_name(log) == event::OPERATION_DETAILS).map(|log| {
        let messages = from_attributes(&log.attributes);
        match &log.body {
            Value::Map(body) if messages.is_empty() => from_attributes(body),
            _ => messages,
        }
    });
    of_events.chain(of_logs).find(|messages| !messages.is_empty()).unwrap_or_default()
}

/// The kind of a log record: its name, or what older SDKs give in its place.
pub(super) fn event_name(log: &LogRecord) -> &str {
    if !log.event_name.is_empty() {
        return &log.event_name;
    }
    let named = log.attributes.iter().find(|(key, _)| key == EVENT_NAME);
    if let Some((_, Value::Str(name))) = named { name } else { "" }
}

fn from_attributes(attributes: &[(Key, Value)]) -> Vec<Message> {
    let get = |wanted: &str| attributes.iter().find(|(key, _)| key == wanted).map(|(_, value)| structured(value));
    let mut messages = Vec::new();
    if let Some(instructions) = get(GEN_AI_SYSTEM_INSTRUCTIONS) {
        let parts = parts(&instructions);
        if !parts.is_empty() {
            messages.push(Message { role: "system".to_owned(), parts, ..Message::default() });
        }
    }
    for (name, output) in [(GEN_AI_INPUT_MESSAGES, false), (GEN_AI_OUTPUT_MESSAGES, true)] {
        messages.extend(get(name).map(|value| messages_of(&value, output)).unwrap_or_default());
    }
    messages
}

/// A list of messages, a single one, or plain text.
pub(super) fn messages_of(value: &Json, output: bool) -> Vec<Message> {
    match value {
        Json::Array(items) => items.iter().filter_map(|item| message(item, output)).collect(),
        other => message(other, output).into_iter().collect(),
    }
}

/// One message, however it is written; `None` if it says nothing.
pub(super) fn message(value: &Json, output: bool) -> Option<Message> {
    let default_role = if output { "assistant" } else { "user" };
    let Json::Object(_) = value else {
        let parts = parts(value);
        return (!parts.is_empty()).then(|| Message {
            role: default_role.to_owned(),
            parts,
            output,
            ..Message::default()
        });
    };
    // OpenAI wraps each answer: {"index":0,"finish_reason":"stop","message":{…}}.
    let inner = first(value, &["message"]).filter(|inner| inner.is_object()).unwrap_or(value);
    let role = first_text(inner, &["role"]).unwrap_or_else(|| default_role.to_owned());
    let mut parts = first(inner, &["parts", "content", "contents", "text"]).map(parts).unwrap_or_default();
    if role == "tool" || inner.get("tool_call_id").is_some() {
        let id = first_text(inner, &["tool_call_id", "id"]);
        parts = parts.into_iter().map(|part| as_result(part, id.as_deref())).collect();
    }
    if let Some(thought) = first_text(inner, &["reasoning_content", "reasoning"]) {
        parts.insert(0, Part::Reasoning(thought));
    }
    if let Some(refusal) = first_text(inner, &["refusal"]) {
        parts.push(Part::Other { kind: "refusal".to_owned(), about: refusal });
    }
    if let Some(Json::Array(calls)) = first(inner, &["tool_calls"]) {
        parts.extend(calls.iter().map(tool_call));
    }
    if let Some(call) = first(inner, &["function_call"]) {
        parts.push(tool_call(call));
    }
    let finish_reason = first_text(value, &["finish_reason"]).or_else(|| first_text(inner, &["finish_reason"]));
    let says_something = !parts.is_empty() || finish_reason.is_some() || inner.get("role").is_some();
    says_something.then(|| Message { role, name: first_text(inner, &["name"]), parts, finish_reason, output })
}

/// What a tool said is a result, even where it came as plain text.
fn as_result(part: Part, id: Option<&str>) -> Part {
    match part {
        Part::Text(content) => Part::ToolResult { id: id.map(str::to_owned), content },
        other => other,
    }
}

/// The parts of a message's content: text, a list of parts, or one of them.
pub(super) fn parts(content: &Json) -> Vec<Part> {
    match content {
        Json::Null => Vec::new(),
        Json::String(text) if text.is_empty() => Vec::new(),
        Json::String(text) => match parsed(text) {
            // Content that is itself a list of typed parts, as JSON text.
            Some(Json::Array(items)) if !items.is_empty() && items.iter().all(|item| item.get("type").is_some()) => {
                items.iter().filter_map(part).collect()
            }
            _ => vec![Part::Text(text.clone())],
        },
        Json::Array(items) => items.iter().filter_map(part).collect(),
        other => part(other).into_iter().collect(),
    }
}

fn part(value: &Json) -> Option<Part> {
    let fields = match value {
        Json::Null => return None,
        Json::Object(fields) => fields,
        other => return Some(Part::Text(shown(other))),
    };
    let kind = text(value, "type").unwrap_or_default();
    let content = || first(value, &["content", "text", "response", "result", "output"]).map(shown).unwrap_or_default();
    Some(match &*kind {
        "" if fields.contains_key("content") || fields.contains_key("text") => Part::Text(content()),
        "text" | "input_text" | "output_text" => Part::Text(content()),
        "reasoning" | "thinking" | "thought" => {
            Part::Reasoning(first_text(value, &["thinking", "content", "text"]).unwrap_or_default())
        }
        "tool_call" | "tool_use" | "function" | "function_call" => tool_call(value),
        "tool_call_response" | "tool_result" | "function_call_output" => Part::ToolResult {
            id: first_text(value, &["id", "tool_use_id", "tool_call_id", "call_id"]),
            content: first(value, &["response", "result", "content", "output"]).map(shown).unwrap_or_default(),
        },
        "" => Part::Text(value.to_string()),
        kind => other(kind, value),
    })
}

/// A call in the conventions' form `{id, name, arguments}` or in OpenAI's `{id, function: {name, arguments}}`.
pub(super) fn tool_call(value: &Json) -> Part {
    let function = first(value, &["function"]).filter(|inner| inner.is_object()).unwrap_or(value);
    Part::ToolCall {
        id: first_text(value, &["id", "call_id"]),
        name: first_text(function, &["name"]).unwrap_or_else(|| "(no name)".to_owned()),
        arguments: first(function, &["arguments", "input", "parameters"]).map(shown).unwrap_or_default(),
    }
}

/// Something that is named only. What is long, such as the bytes of an image, is told by its size.
fn other(kind: &str, value: &Json) -> Part {
    let modality = first_text(value, &["modality"]);
    let named = match (modality, kind) {
        (Some(modality), "blob" | "uri" | "file") => modality,
        (_, "image_url" | "input_image") => "image".to_owned(),
        (_, "input_audio") => "audio".to_owned(),
        (_, "input_file") => "file".to_owned(),
        (_, kind) => kind.to_owned(),
    };
    let mut about: Vec<String> = Vec::new();
    about.extend(first_text(value, &["mime_type", "media_type", "format"]));
    let nested = first(value, &["image_url", "source", "file", "input_audio"]).unwrap_or(value);
    let place = match nested {
        Json::String(url) => Some(url.clone()),
        nested => first_text(nested, &["uri", "url", "file_id", "filename"]),
    };
    match place {
        Some(url) if url.starts_with("data:") => about.push(format!("{} characters inline", url.len())),
        Some(url) => about.push(url.chars().take(300).collect()),
        None => {
            let data = first_text(nested, &["content", "data", "file_data"]);
            about.extend(data.map(|data| format!("{} characters inline", data.len())));
        }
    }
    Part::Other { kind: named, about: about.join(", ") }
}

/// The body or attributes of an event as JSON; text is read if it spells an object.
pub(super) fn body_of(body: &Value, attributes: &[(Key, Value)]) -> Json {
    match body {
        Value::Empty => Json::Object(object(attributes)),
        body => structured(body),
    }
}
