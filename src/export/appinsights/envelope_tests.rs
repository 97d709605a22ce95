//! Envelopes as they go out.

use serde_json::Value as Json;

use super::*;

const START: u64 = 1_795_356_627_378_783_000;

fn maker() -> Maker {
    let text = |key: &'static str, value: &'static str| (Key::from(key), Value::from(value));
    let resource = vec![
        text(sc::SERVICE_NAMESPACE, "evals"),
        text(sc::SERVICE_NAME, "nightly"),
        text(sc::SERVICE_INSTANCE_ID, "i1"),
        text(sc::SERVICE_VERSION, "0.1"),
    ];
    Maker::new("00000000-0000-0000-0000-000000000001", &Origin { resource, ..Origin::default() })
}

fn span(kind: SpanKind, attributes: &[(&'static str, Value)]) -> Span {
    let (trace, id, parent) =
        (TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), Some(SpanId::from_bytes([3; 8])));
    let mut span = Span::open(trace, id, parent, "chat gpt-4.1", START);
    span.kind = kind;
    span.end_unix_nano = START + 90_061_007_000_000;
    span.attributes = attributes.iter().map(|(key, value)| (Key::from(*key), value.clone())).collect();
    span
}

fn json(envelope: &Envelope) -> Json {
    serde_json::to_value(envelope).expect("JSON")
}

fn only(envelopes: &[Envelope]) -> Json {
    assert_eq!(envelopes.len(), 1, "{envelopes:?}");
    json(&envelopes[0])
}

fn data(kind: SpanKind, attributes: &[(&'static str, Value)]) -> Json {
    only(&maker().span(&span(kind, attributes)))["data"]["baseData"].clone()
}

#[test]
fn a_model_call_is_a_dependency_of_genai() {
    let mut call = span(
        SpanKind::Client,
        &[
            (sc::GEN_AI_PROVIDER_NAME, Value::from("openai")),
            (sc::GEN_AI_RESPONSE_FINISH_REASONS, Value::Array(vec![Value::from("stop")])),
            (sc::GEN_AI_USAGE_INPUT_TOKENS, Value::from(14)),
        ],
    );
    call.add_link(TraceId::from_bytes([9; 16]), SpanId::from_bytes([8; 8]), Vec::new());
    let links = r#"[{"operation_Id":"09090909090909090909090909090909","id":"0808080808080808"}]"#;
    assert_eq!(
        only(&maker().span(&call)),
        json!({
            "name": "Microsoft.ApplicationInsights.RemoteDependency",
            "iKey": "00000000-0000-0000-0000-000000000001",
            "tags": {
                "ai.application.ver": "0.1",
                "ai.cloud.role": "evals.nightly",
                "ai.cloud.roleInstance": "i1",
                "ai.internal.nodeName": "i1",
                "ai.internal.sdkVersion": concat!("spanscore:", env!("CARGO_PKG_VERSION")),
                "ai.operation.id": "01010101010101010101010101010101",
                "ai.operation.name": "chat gpt-4.1",
                "ai.operation.parentId": "0303030303030303",
            },
            "time": "2026-11-22T14:10:27.378783Z",
            "data": {
                "baseType": "RemoteDependencyData",
                "baseData": {
                    "ver": 2,
                    "id": "0202020202020202",
                    "name": "chat gpt-4.1",
                    "duration": "1.01:01:01.007",
                    "properties": {
                        "_MS.links": links,
                        "gen_ai.provider.name": "openai",
                        "gen_ai.response.finish_reasons": "[\"stop\"]",
                        "gen_ai.usage.input_tokens": "14",
                    },
                    "measurements": {},
                    "resultCode": "0",
                    "type": "GenAI | openai",
                    "target": "openai",
                    "success": true,
                },
            },
        })
    );
}

#[test]
fn kinds_of_calls_are_told_apart() {
    let check = |kind, attributes: &[(&'static str, Value)], expected: [Json; 3]| {
        let found = data(kind, attributes);
        assert_eq!([found["type"].clone(), found["target"].clone(), found["data"].clone()], expected, "{attributes:?}");
    };
    let none = Json::Null;
    check(SpanKind::Internal, &[], [json!("InProc"), none.clone(), none.clone()]);
    check(SpanKind::Client, &[], [json!("N/A"), none.clone(), none.clone()]);
    let http = [("http.request.method", Value::from("GET")), ("url.full", Value::from("https://h:8443/a/b?c"))];
    check(SpanKind::Client, &http, [json!("HTTP"), json!("h:8443"), json!("https://h:8443/a/b?c")]);
    let sql = [
        ("db.system.name", Value::from("postgresql")),
        ("db.namespace", Value::from("claims")),
        ("server.address", Value::from("db")),
        ("server.port", Value::from(5432)),
        ("db.query.text", Value::from("SELECT 1")),
    ];
    check(SpanKind::Client, &sql, [json!("postgresql"), json!("db:5432|claims"), json!("SELECT 1")]);
    let queue = [("messaging.system", Value::from("kafka")), ("messaging.destination.name", Value::from("claims"))];
    check(SpanKind::Producer, &queue, [json!("Queue Message | kafka"), json!("claims"), none.clone()]);
    let both = [
        (sc::GEN_AI_SYSTEM, Value::from("az.ai.openai")),
        ("http.request.method", Value::from("POST")),
        (sc::SERVER_ADDRESS, Value::from("x.openai.azure.com")),
        (sc::SERVER_PORT, Value::from(443)),
    ];
    check(SpanKind::Internal, &both, [json!("GenAI | az.ai.openai"), json!("x.openai.azure.com"), none]);
}

#[test]
fn requests_have_their_code_and_route() {
    let attributes = [
        ("http.request.method", Value::from("POST")),
        ("http.route", Value::from("/assess/{id}")),
        ("url.full", Value::from("http://app/assess/7")),
        ("http.response.status_code", Value::from(404)),
    ];
    let envelope = only(&maker().span(&span(SpanKind::Server, &attributes)));
    assert_eq!(envelope["name"], "Microsoft.ApplicationInsights.Request");
    assert_eq!(envelope["tags"]["ai.operation.name"], "POST /assess/{id}");
    let data = &envelope["data"]["baseData"];
    assert_eq!(
        [&data["name"], &data["responseCode"], &data["url"]],
        ["POST /assess/{id}", "404", "http://app/assess/7"]
    );
    assert_eq!((data["success"].clone(), data["type"].clone()), (json!(false), Json::Null));
    let mut failed = span(SpanKind::Consumer, &[]);
    failed.status = Status::Error("no such queue".to_owned());
    let data = only(&maker().span(&failed))["data"]["baseData"].clone();
    assert_eq!((data["success"].clone(), data["responseCode"].clone()), (json!(false), json!("0")));
    assert_eq!(data["properties"][azure::STATUS_MESSAGE], "no such queue");
}

#[test]
fn scores_are_measurements_and_results_are_custom_events() {
    let mut claim = span(SpanKind::Internal, &[]);
    claim.set(sc::score_key("label_match"), 1.0);
    claim.add_event(event::EVALUATION_RESULT, START, Vec::new());
    let envelope = only(&maker().span(&claim));
    assert_eq!(envelope["data"]["baseData"]["measurements"], json!({"label_match": 1.0}));
    let text = |key: &'static str, value: &'static str| (Key::from(key), Value::from(value));
    let record = LogRecord {
        time_unix_nano: START,
        observed_unix_nano: START,
        severity_number: 9,
        severity_text: String::new(),
        event_name: event::EVALUATION_RESULT.into(),
        body: Value::Empty,
        attributes: vec![
            text(sc::GEN_AI_EVALUATION_NAME, "label_match"),
            (sc::GEN_AI_EVALUATION_SCORE_VALUE.into(), Value::from(0.0)),
            text(sc::GEN_AI_EVALUATION_SCORE_LABEL, "fail"),
            text(sc::GEN_AI_RESPONSE_ID, "r-1"),
            text(sc::TEST_SUITE_RUN_ID, "run-1"),
        ],
        dropped_attributes_count: 0,
        flags: 1,
        trace_id: Some(claim.trace_id),
        span_id: Some(claim.span_id),
    };
    let envelope = json(&maker().log(&record));
    assert_eq!(
        (&envelope["name"], &envelope["data"]["baseType"]),
        (&json!("Microsoft.ApplicationInsights.Event"), &json!("EventData"))
    );
    assert_eq!(envelope["tags"]["ai.operation.parentId"], "0202020202020202");
    let data = &envelope["data"]["baseData"];
    assert_eq!(
        (&data["name"], &data["measurements"]),
        (&json!(event::EVALUATION_RESULT), &json!({"label_match": 0.0}))
    );
    assert_eq!(
        (&data["properties"]["gen_ai.response.id"], &data["properties"]["gen_ai.evaluation.score.value"]),
        (&json!("r-1"), &json!("0.0"))
    );
    let internal: Json =
        serde_json::from_str(data["properties"]["internal_properties"].as_str().expect("a text")).expect("JSON");
    assert_eq!(
        internal,
        json!({"gen_ai.evaluation.passed": "false", "gen_ai.evaluation.testing_criteria.name": "label_match", "test.suite.run.id": "run-1"})
    );
    let custom = LogRecord {
        event_name: Key::default(),
        attributes: vec![text(azure::CUSTOM_EVENT_NAME, "deployed"), text("by", "hand")],
        ..record
    };
    let data = json(&maker().log(&custom))["data"]["baseData"].clone();
    assert_eq!((&data["name"], &data["properties"]), (&json!("deployed"), &json!({"by": "hand"})));
}

#[test]
fn events_and_log_records_are_messages_or_exceptions() {
    let mut call = span(SpanKind::Client, &[]);
    let text = |key: &'static str, value: &'static str| (Key::from(key), Value::from(value));
    call.add_event(event::ATTEMPT_FAILED, START + 1_000, vec![text(sc::ERROR_TYPE, "429")]);
    let thrown =
        vec![text(sc::EXCEPTION_TYPE, "ValueError"), text(sc::EXCEPTION_STACKTRACE, "at 1"), text("code", "7")];
    call.add_event(event::EXCEPTION, START, thrown.clone());
    let envelopes = maker().span(&call);
    assert_eq!(envelopes.len(), 3);
    let message = json(&envelopes[1]);
    assert_eq!(
        message["data"],
        json!({"baseType": "MessageData", "baseData": {"ver": 2, "message": event::ATTEMPT_FAILED,
        "properties": {"error.type": "429"}, "measurements": {}}})
    );
    assert_eq!(
        (&message["tags"]["ai.operation.parentId"], &message["time"]),
        (&json!("0202020202020202"), &json!("2026-11-22T14:10:27.378784Z"))
    );
    let exception = json(&envelopes[2])["data"]["baseData"].clone();
    assert_eq!(
        exception["exceptions"],
        json!([{"typeName": "ValueError", "message": "ValueError", "hasFullStack": true, "stack": "at 1"}])
    );
    assert_eq!(exception["properties"], json!({"code": "7"}));
    let record = LogRecord {
        time_unix_nano: 0,
        observed_unix_nano: START,
        severity_number: 17,
        severity_text: "ERROR".to_owned(),
        event_name: Key::default(),
        body: Value::from("it broke"),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        flags: 0,
        trace_id: None,
        span_id: None,
    };
    let envelope = json(&maker().log(&record));
    let data = &envelope["data"]["baseData"];
    assert_eq!(
        (&data["message"], &data["severityLevel"], &envelope["tags"]["ai.operation.id"]),
        (&json!("it broke"), &json!(3), &Json::Null)
    );
    let thrown = json(&maker().log(&LogRecord { attributes: thrown, ..record }));
    assert_eq!(thrown["data"]["baseType"], "ExceptionData");
}
