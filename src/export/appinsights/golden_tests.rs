//! The envelopes of known spans and log records beside those that Azure Monitor's exporter for Python posted for them.
//!
//! What differs on purpose, and nothing else may: tags about the device and the exporter; a list is JSON, not Python; a model
//! call is known by `gen_ai.provider.name` too; the result of an evaluation on a span is left to its log record; that
//! record is a custom event without being marked as one, and its score is a measurement; the name of a logger is no
//! property.

use std::io::Write as _;
use std::path::Path;

use serde_json::Value as Json;

use super::*;

const TRACE: &str = "1bf84fad02c7970e421e3b13042aca95";
const ROOT: &str = "db0c1de47b6d8500";

fn maker() -> Maker {
    let text = |key: &'static str, value: &'static str| (Key::from(key), Value::from(value));
    let resource =
        vec![text(sc::SERVICE_NAME, "evalrun"), text(sc::SERVICE_INSTANCE_ID, "i1"), text(sc::SERVICE_VERSION, "0.1")];
    Maker::new("00000000-0000-0000-0000-000000000001", &Origin { resource, ..Origin::default() })
}

fn span(id: &str, parent: bool, name: &'static str, start: &str, milliseconds: u64) -> Span {
    let start = start.parse::<jiff::Timestamp>().expect("a time").as_nanosecond() as u64;
    let parent = parent.then(|| ROOT.parse().expect("an id"));
    let mut span = Span::open(TRACE.parse().expect("an id"), id.parse().expect("an id"), parent, name, start);
    span.end_unix_nano = start + milliseconds * 1_000_000;
    span
}

fn call(id: &str, provider: &'static str, start: &str) -> Span {
    let mut call = span(id, true, "chat gpt-4.1", start, 0);
    call.kind = SpanKind::Client;
    call.set(sc::GEN_AI_OPERATION_NAME, "chat");
    call.set(provider, "openai");
    call.set(sc::GEN_AI_REQUEST_MODEL, "gpt-4.1");
    call.set(sc::GEN_AI_RESPONSE_FINISH_REASONS, Value::Array(vec![Value::from("stop")]));
    call.set(sc::GEN_AI_USAGE_INPUT_TOKENS, 14);
    call.set(sc::GEN_AI_INPUT_MESSAGES, "[{}]");
    call
}

fn result(time: &str, custom: bool) -> LogRecord {
    let time = time.parse::<jiff::Timestamp>().expect("a time").as_nanosecond() as u64;
    let mut attributes: Vec<(Key, Value)> = vec![
        (sc::GEN_AI_EVALUATION_NAME.into(), Value::from("accuracy")),
        (sc::GEN_AI_EVALUATION_SCORE_VALUE.into(), Value::from(1.0)),
    ];
    if custom {
        attributes.push((azure::CUSTOM_EVENT_NAME.into(), Value::from(event::EVALUATION_RESULT)));
        attributes.push(("internal_properties".into(), Value::from("{}")));
    }
    LogRecord {
        time_unix_nano: time,
        observed_unix_nano: time,
        severity_number: i32::from(!custom),
        severity_text: String::new(),
        event_name: Key::default(),
        body: Value::Empty,
        attributes,
        dropped_attributes_count: 0,
        flags: 1,
        trace_id: Some(TRACE.parse().expect("an id")),
        span_id: Some(ROOT.parse().expect("an id")),
    }
}

/// Every field of an envelope by its path, without what differs on purpose.
fn fields(envelope: &Json) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Json, into: &mut BTreeMap<String, String>) {
        match value {
            Json::Object(fields) if !fields.is_empty() => {
                fields.iter().for_each(|(key, value)| walk(&format!("{path}/{key}"), value, into));
            }
            leaf => _ = into.insert(path.to_owned(), leaf.to_string()),
        }
    }
    let mut all = BTreeMap::new();
    walk("", envelope, &mut all);
    all.retain(|path, _| {
        !["/tags/ai.device.", "/tags/ai.internal.sdkVersion", "/data/baseData/properties/logger_name"]
            .iter()
            .any(|own| path.starts_with(own))
    });
    all
}

#[test]
fn envelopes_are_those_of_azure_monitors_own_exporter() {
    let file = ["../shared", "../../shared"]
        .map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("golden/azure_python_exporter.txt"));
    let Some(file) = file.iter().find(|file| file.is_file()) else {
        let _ =
            writeln!(std::io::stderr(), "skipped: needs golden/azure_python_exporter.txt in a folder `shared` beside");
        return;
    };
    let text = std::fs::read_to_string(file).expect("readable");
    let golden: Vec<Json> = text
        .lines()
        .filter(|line| line.starts_with('{') && !line.contains("_OTELRESOURCE_"))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let mut failed = span("6afa8074ebf358f7", true, "chat bad", "2026-11-22T14:10:27.450228Z", 0);
    (failed.kind, failed.status) = (SpanKind::Client, Status::Error(String::new()));
    failed.set(sc::GEN_AI_SYSTEM, "openai");
    let mut root = span(ROOT, false, "assess_claims_with_context", "2026-11-22T14:10:27.378550Z", 119);
    root.set(sc::OPERATION_CLAIMS_COUNT, 2);
    root.set(sc::GEN_AI_EVALUATION_SCORE_VALUE, 0.5);
    root.set(azure::CUSTOM_MEASUREMENTS, r#"{"eval.accuracy": 0.5}"#);
    let note = vec![
        (sc::GEN_AI_EVALUATION_NAME.into(), Value::from("accuracy")),
        (sc::GEN_AI_EVALUATION_SCORE_VALUE.into(), Value::from(1.0)),
        (sc::GEN_AI_EVALUATION_SCORE_LABEL.into(), Value::from("pass")),
    ];
    // Under its own name it would be left out.
    root.add_event("a result", root.start_unix_nano + 100_000, note);
    let maker = maker();
    let older = call("161644aa07ba1076", sc::GEN_AI_SYSTEM, "2026-11-22T14:10:27.378783Z");
    let latest = call("43c53cf1157caf64", sc::GEN_AI_PROVIDER_NAME, "2026-11-22T14:10:27.402987Z");
    let mut ours = Vec::new();
    for span in [&older, &latest, &failed, &root] {
        ours.extend(maker.span(span));
    }
    ours.push(maker.log(&result("2026-11-22T14:10:27.543366Z", true)));
    ours.push(maker.log(&result("2026-11-22T14:10:27.549953Z", false)));
    assert_eq!(ours.len(), golden.len());
    for (ours, golden) in ours.iter().zip(&golden) {
        let ours = serde_json::to_value(ours).expect("JSON");
        let text = golden.to_string().replace("('stop',)", "[\\\"stop\\\"]");
        let mut expected: Json = serde_json::from_str(&text).expect("JSON");
        let data = &mut expected["data"]["baseData"];
        if data["type"] == "N/A" {
            (data["type"], data["target"]) = ("GenAI | openai".into(), "openai".into());
        }
        if data["message"] == event::EVALUATION_RESULT {
            data["message"] = "a result".into();
        }
        if data["name"] == event::EVALUATION_RESULT {
            data["measurements"] = json!({"accuracy": 1.0});
        }
        assert_eq!(fields(&ours), fields(&expected));
    }
}
