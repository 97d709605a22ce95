//! The three shapes, as the SDKs of their time sent them.

use super::*;
use crate::model::{Key, SpanId, TraceId, Value};

fn span(attributes: &[(&'static str, &str)]) -> Span {
    let mut span = Span::open(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), None, "chat", 10);
    for (key, value) in attributes {
        span.set(*key, (*value).to_owned());
    }
    span
}

fn log(name: &'static str, time: u64, body: Value) -> LogRecord {
    LogRecord {
        time_unix_nano: time,
        observed_unix_nano: time,
        severity_number: 0,
        severity_text: String::new(),
        event_name: name.into(),
        body,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        flags: 0,
        trace_id: None,
        span_id: None,
    }
}

fn map(pairs: &[(&'static str, Value)]) -> Value {
    Value::Map(pairs.iter().map(|(key, value)| (Key::from(*key), value.clone())).collect())
}

/// The conversation as `<role: text` for what was sent and `>role: text (why it ended)` for what came back.
fn drawn(span: &Span, logs: &[LogRecord]) -> Vec<String> {
    let line = |message: &Message| {
        let side = if message.output { '>' } else { '<' };
        let why = message.finish_reason.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("{side}{}: {}{why}", message.role, message.text())
    };
    conversation(span, logs).messages.iter().map(line).collect()
}

const ASKED: [&str; 2] = ["<system: Judge claims.", "<user: Is water wet? é"];

#[test]
fn messages_of_parts_as_json_text() {
    let span = span(&[
        ("gen_ai.system_instructions", r#"[{"type":"text","content":"Judge claims."}]"#),
        ("gen_ai.input.messages", r#"[{"role":"user","parts":[{"type":"text","content":"Is water wet? \u00e9"}]}]"#),
        (
            "gen_ai.output.messages",
            r#"[{"role":"assistant","parts":[{"type":"text","content":"True."}],"finish_reason":"stop"}]"#,
        ),
        ("input.value", "told a second time"),
    ]);
    assert_eq!(drawn(&span, &[]), [ASKED[0], ASKED[1], ">assistant: True. (stop)"]);
}

#[test]
fn messages_of_parts_structured_in_a_log_record() {
    let part = |text: &'static str| Value::Array(vec![map(&[("content", text.into()), ("type", "text".into())])]);
    let message = |role: &'static str, text| map(&[("role", role.into()), ("parts", part(text))]);
    let mut record = log("gen_ai.client.inference.operation.details", 5, Value::Empty);
    record.attributes = vec![
        (
            "gen_ai.input.messages".into(),
            Value::Array(vec![message("system", "Judge claims."), message("user", "Is water wet? é")]),
        ),
        (
            "gen_ai.output.messages".into(),
            Value::Array(vec![map(&[
                ("role", "assistant".into()),
                ("parts", part("True.")),
                ("finish_reason", "stop".into()),
            ])]),
        ),
    ];
    assert_eq!(drawn(&span(&[]), &[record]), [ASKED[0], ASKED[1], ">assistant: True. (stop)"]);
}

#[test]
fn one_log_record_for_each_message() {
    let choice = map(&[
        ("index", 0i64.into()),
        ("finish_reason", "stop".into()),
        ("message", map(&[("role", "assistant".into()), ("content", "True.".into())])),
    ]);
    let logs = [
        log("gen_ai.choice", 30, choice),
        log("gen_ai.user.message", 20, map(&[("content", "Is water wet? é".into())])),
        log("gen_ai.system.message", 10, map(&[("content", "Judge claims.".into())])),
        log("app.started", 5, "unrelated".into()),
    ];
    assert_eq!(drawn(&span(&[]), &logs), [ASKED[0], ASKED[1], ">assistant: True. (stop)"]);
}

#[test]
fn one_span_event_for_each_message() {
    let mut of_azure = span(&[]);
    for (time, name, content) in [
        (1, "gen_ai.system.message", r#"{"content": "Judge claims."}"#),
        (2, "gen_ai.user.message", r#"{"role": "user", "content": "Is water wet? é"}"#),
        (3, "gen_ai.choice", r#"{"message": {"content": "True."}, "finish_reason": "stop", "index": 0}"#),
    ] {
        of_azure.add_event(name, time, vec![("gen_ai.event.content".into(), content.to_owned().into())]);
    }
    assert_eq!(drawn(&of_azure, &[]), [ASKED[0], ASKED[1], ">assistant: True. (stop)"]);
    let mut plain = span(&[]);
    plain.add_event("gen_ai.user.message", 2, vec![("content".into(), "Is water wet? é".into())]);
    plain.add_event("gen_ai.content.completion", 3, vec![("gen_ai.completion".into(), "True.".into())]);
    assert_eq!(drawn(&plain, &[]), [ASKED[1], ">assistant: True."]);
}

#[test]
fn a_tool_is_called_and_answers() {
    let call = map(&[
        ("id", "call_1".into()),
        ("type", "function".into()),
        ("function", map(&[("name", "weather".into()), ("arguments", "{\"city\":\"Bern\"}".into())])),
    ]);
    let logs = [
        log("gen_ai.assistant.message", 1, map(&[("tool_calls", Value::Array(vec![call]))])),
        log("gen_ai.tool.message", 2, map(&[("id", "call_1".into()), ("content", "sunny".into())])),
    ];
    let asked = Part::ToolCall {
        id: Some("call_1".to_owned()),
        name: "weather".to_owned(),
        arguments: "{\"city\":\"Bern\"}".to_owned(),
    };
    let answered = Part::ToolResult { id: Some("call_1".to_owned()), content: "sunny".to_owned() };
    let found = conversation(&span(&[]), &logs);
    assert_eq!(
        found.messages.iter().flat_map(|m| m.parts.clone()).collect::<Vec<_>>(),
        [asked.clone(), answered.clone()]
    );

    let latest = span(&[(
        "gen_ai.input.messages",
        r#"[{"role":"assistant","parts":[{"type":"tool_call","id":"call_1","name":"weather","arguments":{"city":"Bern"}}]},
            {"role":"tool","parts":[{"type":"tool_call_response","id":"call_1","response":"sunny"}]}]"#,
    )]);
    let found = conversation(&latest, &[]);
    assert_eq!(found.messages.iter().flat_map(|m| m.parts.clone()).collect::<Vec<_>>(), [asked, answered]);

    let execute = span(&[
        ("gen_ai.tool.name", "weather"),
        ("gen_ai.tool.call.arguments", "{\"city\":\"Bern\"}"),
        ("gen_ai.tool.call.result", "sunny"),
    ]);
    assert_eq!(drawn(&execute, &[]), ["<input: weather({\"city\":\"Bern\"})", ">tool: sunny"]);
}

#[test]
fn one_attribute_for_each_field() {
    let flat = span(&[
        ("gen_ai.prompt.0.role", "system"),
        ("gen_ai.prompt.0.content", "Judge claims."),
        ("gen_ai.prompt.10.content", "Is water wet? é"),
        ("gen_ai.prompt.10.role", "user"),
        ("gen_ai.completion.0.role", "assistant"),
        ("gen_ai.completion.0.content", "True."),
        ("gen_ai.completion.0.finish_reason", "stop"),
    ]);
    assert_eq!(drawn(&flat, &[]), [ASKED[0], ASKED[1], ">assistant: True. (stop)"]);
    let openinference = span(&[
        ("input.value", "{\"messages\": []}"),
        ("llm.input_messages.1.message.role", "user"),
        ("llm.input_messages.1.message.contents.0.message_content.type", "text"),
        ("llm.input_messages.1.message.contents.0.message_content.text", "Is water wet? é"),
        ("llm.input_messages.1.message.contents.1.message_content.type", "image"),
        ("llm.input_messages.1.message.contents.1.message_content.image.image.url", "https://pictures.example/wet.png"),
        ("llm.input_messages.0.message.role", "system"),
        ("llm.input_messages.0.message.content", "Judge claims."),
        ("llm.output_messages.0.message.role", "assistant"),
        ("llm.output_messages.0.message.tool_calls.0.tool_call.id", "call_1"),
        ("llm.output_messages.0.message.tool_calls.0.tool_call.function.name", "weather"),
        ("llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments", "{}"),
    ]);
    assert_eq!(
        drawn(&openinference, &[]),
        [ASKED[0], "<user: Is water wet? é\n[image https://pictures.example/wet.png]", ">assistant: weather({})"]
    );
}

#[test]
fn whole_texts_are_input_and_output() {
    assert_eq!(
        drawn(&span(&[("input.value", "a claim"), ("output.value", "{\"label\":\"True\"}")]), &[]),
        ["<input: a claim", ">output: {\"label\":\"True\"}"]
    );
    let openai = span(&[
        ("input.value", r#"{"model":"m","messages":[{"role":"user","content":"Is water wet? é"}]}"#),
        ("output.value", r#"{"choices":[{"message":{"role":"assistant","content":"True."},"finish_reason":"stop"}]}"#),
    ]);
    assert_eq!(drawn(&openai, &[]), [ASKED[1], ">assistant: True. (stop)"]);
}

#[test]
fn input_and_output_may_come_by_different_ways() {
    let mut both = span(&[("gen_ai.input.messages", r#"[{"role":"user","content":"Is water wet? é"}]"#)]);
    both.add_event("gen_ai.choice", 3, vec![("content".into(), "True.".into())]);
    assert_eq!(drawn(&both, &[]), [ASKED[1], ">assistant: True."]);
}

#[test]
fn images_and_files_are_named_not_shown() {
    let found = drawn(
        &span(&[(
            "gen_ai.input.messages",
            r#"[{"role":"user","parts":[
                {"type":"blob","mime_type":"image/png","modality":"image","content":"AAAA"},
                {"type":"uri","modality":"video","uri":"https://films.example/1"},
                {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},
                {"type":"reasoning","content":"hm"},
                {"type":"hologram"}]}]"#,
        )]),
        &[],
    );
    let wanted = "<user: [image image/png, 4 characters inline]\n[video https://films.example/1]\n\
                  [image 26 characters inline]\nhm\n[hologram ]";
    assert_eq!(found, [wanted]);
}

#[test]
fn what_is_no_conversation_is_none_and_nothing_panics() {
    assert!(conversation(&span(&[("http.route", "/")]), &[]).is_empty());
    let deep = "[".repeat(100_000);
    let dots = format!("gen_ai.prompt.0{}", ".x".repeat(10_000));
    for text in [deep.as_str(), "[", "{}", "null", "[null, 3, [], {\"role\": 7}]", "\u{0}", "", "[{\"parts\": 3}]"] {
        let mut odd = span(&[]);
        for key in [
            "gen_ai.input.messages",
            "gen_ai.output.messages",
            "gen_ai.system_instructions",
            "gen_ai.prompt.99999999999999999999999.role",
            "gen_ai.completion.0.tool_calls.0",
            "llm.input_messages.0.message.contents.0",
            "output.value",
        ] {
            odd.attributes.push((key.into(), text.to_owned().into()));
        }
        odd.attributes.push((dots.clone().into(), text.to_owned().into()));
        odd.add_event("gen_ai.choice", 1, vec![("gen_ai.event.content".into(), text.to_owned().into())]);
        conversation(&odd, &[log("gen_ai.user.message", 1, text.to_owned().into())]);
    }
}
