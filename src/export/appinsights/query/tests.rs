//! Rows of either schema, as other exporters and the service itself leave them, become the telemetry that they were.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::client::Target;
use super::convert::{Item, convert};
use super::table::Table;
use super::*;
use crate::identity::{IdentityError, TokenSource};
use crate::model::{LogRecord, Secret, Span, SpanId, SpanKind, Status, TraceId, Value};
use crate::trace::results::result_of_log;
use crate::trace::semconv::{self as sc, event};

const TRACE: &str = "1bf84fad02c7970e421e3b13042aca95";
const SPAN: &str = "161644aa07ba1076";

/// The item of one row, given as its fields.
fn item(row: &Json) -> Result<Option<Item>, String> {
    let fields = row.as_object().expect("an object");
    let columns: Vec<Json> = fields.keys().map(|name| json!({ "name": name })).collect();
    let table: Table =
        serde_json::from_value(json!({"columns": columns, "rows": [fields.values().collect::<Vec<_>>()]}))
            .expect("a table");
    convert(&table.columns().expect("its columns").row(&table.rows[0]))
}

fn span(row: &Json) -> Span {
    match item(row) {
        Ok(Some(Item::Span(_, span))) => *span,
        other => panic!("{row}: {other:?}"),
    }
}

fn log(row: &Json) -> LogRecord {
    match item(row) {
        Ok(Some(Item::Log(_, log))) => *log,
        other => panic!("{row}: {other:?}"),
    }
}

/// A call as the Python exporter writes it, in the table of a resource.
fn dependency() -> Json {
    json!({
        "timestamp": "2026-11-22T14:10:27.378783Z", "itemType": "dependency", "id": SPAN, "name": "chat gpt-4.1",
        "type": "GenAI | openai", "success": "True", "resultCode": "0", "duration": 12.5, "operation_Id": TRACE,
        "operation_ParentId": "db0c1de47b6d8500", "cloud_RoleName": "shop.evalrun", "cloud_RoleInstance": "i1", "itemCount": 1,
        "customDimensions": "{\"gen_ai.operation.name\": \"chat\", \"gen_ai.usage.input_tokens\": \"14\", \"_MS.ProcessedByMetricExtractors\": \"x\", \"_MS.links\": \"[{\\\"operation_Id\\\": \\\"0af7651916cd43dd8448eb211c80319c\\\", \\\"id\\\": \\\"b7ad6b7169203331\\\"}]\"}",
        "customMeasurements": null,
    })
}

#[test]
fn a_call_is_a_client_span_with_typed_attributes_and_links() {
    let found = span(&dependency());
    assert_eq!((found.trace_id.to_string(), found.span_id.to_string()), (TRACE.to_owned(), SPAN.to_owned()));
    assert_eq!(found.parent_span_id.map(|id| id.to_string()).as_deref(), Some("db0c1de47b6d8500"));
    assert_eq!((found.kind, &found.status, found.name.as_ref()), (SpanKind::Client, &Status::Unset, "chat gpt-4.1"));
    assert_eq!((found.start_unix_nano, found.end_unix_nano), (1_795_356_627_378_783_000, 1_795_356_627_391_283_000));
    assert_eq!(found.get(sc::GEN_AI_USAGE_INPUT_TOKENS), Some(&Value::Int(14)));
    assert_eq!(found.attributes.len(), 2, "{:?}", found.attributes);
    assert_eq!(found.links[0].span_id.to_string(), "b7ad6b7169203331");
}

#[test]
fn a_workspace_says_the_same_in_other_words() {
    let row = dependency();
    let renamed = json!({
        "TimeGenerated": row["timestamp"], "Type": "AppDependencies", "Id": SPAN, "Name": row["name"],
        "DependencyType": row["type"], "Success": true, "ResultCode": "0", "DurationMs": 12.5, "OperationId": TRACE,
        "ParentId": row["operation_ParentId"], "AppRoleName": "shop.evalrun", "AppRoleInstance": "i1", "ItemCount": 1,
        "Properties": row["customDimensions"], "Measurements": "{}",
    });
    assert_eq!(item(&renamed), item(&row));
}

#[test]
fn kind_and_status_follow_from_type_and_success() {
    let with = |changes: &[(&str, Json)]| {
        let mut row = dependency();
        for (name, value) in changes {
            row[*name] = value.clone();
        }
        let found = span(&row);
        (found.kind, found.status)
    };
    let error = |text: &str| Status::Error(text.to_owned());
    assert_eq!(with(&[("type", json!("InProc"))]).0, SpanKind::Internal);
    assert_eq!(with(&[("type", json!("Queue Message | kafka"))]).0, SpanKind::Producer);
    assert_eq!(with(&[("success", json!("False"))]).1, error(""));
    let described = json!({"otel.status_description": "boom"});
    assert_eq!(with(&[("success", json!(false)), ("customDimensions", described)]).1, error("boom"));
    let request =
        |code: &str| with(&[("itemType", json!("request")), ("success", json!("False")), ("resultCode", json!(code))]);
    assert_eq!(request("404"), (SpanKind::Server, Status::Unset));
    assert_eq!(request("500"), (SpanKind::Server, error("")));
}

#[test]
fn a_result_of_foundry_s_evaluator_is_a_score() {
    let row = json!({
        "timestamp": "2026-11-22T14:10:27.5Z", "itemType": "customEvent", "name": "gen_ai.evaluation.result", "operation_Id": TRACE,
        "operation_ParentId": SPAN,
        "customDimensions": {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": "4.0",
            "gen_ai.evaluation.score.label": "pass", "internal_properties": "{\"gen_ai.evaluation.threshold\": \"3\"}"},
        "customMeasurements": {"relevance": 4.0},
    });
    let found = log(&row);
    assert_eq!(found.event_name, event::EVALUATION_RESULT);
    let score = result_of_log(&found).expect("a score");
    assert_eq!(
        (score.name.as_str(), score.evaluation.value(), score.evaluation.label()),
        ("relevance", Some(4.0), Some("pass"))
    );
    assert!(found.attributes.iter().any(|(key, _)| key == "internal_properties"), "what the service added is kept");
    assert_eq!(found.attributes.len(), 4, "the measurement says nothing new: {:?}", found.attributes);
}

#[test]
fn a_score_that_stands_among_the_measurements_only_is_a_score() {
    // As Python's exporter leaves a result whose logger gave `microsoft.custom_measurements`: texts among the dimensions, with
    // the logger's name, and numbers among the measurements. A workspace has both as text.
    let scored = |dimensions: Json, measurements: Json| {
        let mut row = json!({
            "TimeGenerated": "2026-11-22T14:10:27.5Z", "Type": "AppEvents", "Name": "gen_ai.evaluation.result", "OperationId": TRACE,
            "ParentId": SPAN, "ItemCount": 1, "SDKVersion": "py3.12.3:otel1.45.0:ext1.0.0b58",
            "Properties": {"gen_ai.evaluation.name": "relevance", "logger_name": "azure.ai.evaluation",
                "gen_ai.response.id": "resp_1", "internal_properties": "{\"gen_ai.evaluation.threshold\": \"3\"}"},
            "Measurements": measurements.to_string(),
        });
        for (name, value) in dimensions.as_object().expect("an object") {
            row["Properties"][name] = value.clone();
        }
        row["Properties"] = json!(row["Properties"].to_string());
        let found = log(&row);
        let value = result_of_log(&found).and_then(|score| score.evaluation.value());
        (
            value,
            found.attributes.into_iter().find(|(key, _)| key == "microsoft.custom_measurements").map(|(_, rest)| rest),
        )
    };
    assert_eq!(scored(json!({}), json!({"relevance": 4.0})), (Some(4.0), None));
    assert_eq!(scored(json!({}), json!({"gen_ai.evaluation.score.value": 3})), (Some(3.0), None));
    let rest = Value::Map(vec![("seconds".into(), Value::Double(1.5))]);
    assert_eq!(scored(json!({}), json!({"relevance": 2.0, "seconds": 1.5})), (Some(2.0), Some(rest.clone())));
    assert_eq!(scored(json!({"gen_ai.evaluation.score.label": "fail"}), json!({"relevance": 0.0})).0, Some(0.0));
    assert_eq!(scored(json!({"gen_ai.evaluation.score.value": "n/a"}), json!({"relevance": 1.0})).0, Some(1.0));
    let own = json!({"gen_ai.evaluation.score.value": "5"});
    assert_eq!(scored(own, json!({"relevance": 1.0})), (Some(5.0), None), "what it says itself counts more");
    assert_eq!(scored(json!({}), json!({"seconds": 1.5})), (None, Some(rest)), "another measurement is no score");
    let truth = json!({"gen_ai.evaluation.score.value": "True"});
    assert_eq!(scored(truth, json!({})).0, Some(1.0));
    let (long, cut) = ("r".repeat(200), "r".repeat(150));
    assert_eq!(scored(json!({"gen_ai.evaluation.name": long}), json!({cut: 2.0})), (Some(2.0), None));
}

#[test]
fn events_meet_their_spans_once_and_what_has_none_is_handed_over() {
    let message = |time: &str, parent: &str| {
        json!({"timestamp": time, "itemType": "trace", "message": "retry", "operation_Id": TRACE, "operation_ParentId": parent,
            "customDimensions": {"n": "1"}, "severityLevel": null})
    };
    let mut assembly = Assembly::default();
    let stray = "00000000000000aa";
    for row in [
        message("2026-11-22T14:10:27.380Z", SPAN),
        message("2026-11-22T14:10:27.380Z", SPAN),
        message("2026-11-22T14:10:27.379Z", SPAN),
        message("2026-11-22T14:10:27.379Z", stray),
        dependency(),
    ] {
        assembly.add(item(&row).expect("read").expect("part of a trace"));
    }
    let start = 1_795_356_627_378_783_000;
    let early = assembly.portion(start + 1);
    assert!(early.telemetry.is_empty(), "the span may still get events");
    assert_eq!(early.strays.len(), 1);
    let later = assembly.portion(start + 60_000_000_000);
    let events: Vec<u64> = later.telemetry[0].spans[0].events.iter().map(|event| event.time_unix_nano).collect();
    assert_eq!(events, [1_795_356_627_379_000_000, 1_795_356_627_380_000_000]);
    assert!(assembly.finish().telemetry.is_empty());
}

#[test]
fn a_span_with_events_without_end_is_not_held_to_its_own() {
    let mut row = dependency();
    row["duration"] = json!(3_600_000.0);
    let mut assembly = Assembly::default();
    assembly.add(item(&row).expect("read").expect("part of a trace"));
    let text = "x".repeat(4 << 20);
    let mut released = None;
    for second in 0..20 {
        let time = format!("2026-11-22T14:11:{second:02}Z");
        assembly.add(
            item(&json!({"timestamp": time, "itemType": "trace", "message": "part", "operation_Id": TRACE,
                "operation_ParentId": SPAN, "customDimensions": {"text": text}}))
            .expect("read")
            .expect("part of a trace"),
        );
        let portion = assembly.portion(1_795_356_660_000_000_000 + second * 1_000_000_000);
        released = released.or(portion.telemetry.into_iter().next().map(|part| (second, part.spans[0].events.len())));
    }
    assert_eq!(released, Some((15, 16)), "64 MiB are what is held");
}

#[test]
fn a_message_with_a_severity_is_a_log_record_and_an_exception_keeps_its_stack() {
    let row = json!({"timestamp": "2026-11-22T14:10:27Z", "itemType": "trace", "message": "low disk", "severityLevel": 2,
        "operation_Id": "", "operation_ParentId": "", "customDimensions": "{}"});
    let found = log(&row);
    assert_eq!((found.body, found.severity_number, found.trace_id), (Value::from("low disk"), 13, None));
    let row = json!({"timestamp": "2026-11-22T14:10:27Z", "itemType": "exception", "type": "ValueError", "outerMessage": "bad",
        "details": "[{\"rawStack\": \"at f\"}]", "severityLevel": 3, "operation_Id": TRACE, "operation_ParentId": SPAN,
        "customDimensions": "{}"});
    let Ok(Some(Item::Event(_, found, log))) = item(&row) else { panic!("no event") };
    assert_eq!(found.name, event::EXCEPTION);
    let texts: Vec<_> = found.attributes.iter().map(|(key, value)| (key.as_ref(), value.clone())).collect();
    assert_eq!(
        texts,
        [
            (sc::EXCEPTION_TYPE, Value::from("ValueError")),
            (sc::EXCEPTION_MESSAGE, Value::from("bad")),
            (sc::EXCEPTION_STACKTRACE, Value::from("at f")),
        ]
    );
    assert_eq!((log.trace_id, log.span_id), (TRACE.parse::<TraceId>().ok(), SPAN.parse::<SpanId>().ok()));
}

#[test]
fn what_is_no_span_is_counted_by_reason_and_other_tables_are_passed_over() {
    let mut row = dependency();
    row["operation_Id"] = json!("not-a-trace");
    assert!(item(&row).is_err_and(|why| why.contains("operation id")));
    row["operation_Id"] = json!(format!("|{TRACE}."));
    row["id"] = json!(format!("|{TRACE}.{SPAN}."));
    assert_eq!(span(&row).span_id.to_string(), SPAN, "the older form of ids");
    row["duration"] = json!(-1);
    assert!(item(&row).is_err_and(|why| why.contains("duration")));
    row["itemType"] = json!("pageView");
    assert_eq!(item(&row), Ok(None));
    row["timestamp"] = json!("yesterday");
    assert!(item(&row).is_err());
}

#[test]
fn rows_without_the_columns_that_matter_are_refused_by_name() {
    let table: Table =
        serde_json::from_value(json!({"columns": [{"name": "count_"}], "rows": [[3]]})).expect("a table");
    let error = table.columns().err().expect("no time").to_string();
    assert!(error.contains("`timestamp` or `TimeGenerated`") && error.contains("count_"), "{error}");
}

/// One token, again and again.
struct Canary;

const CANARY: &str = "canary/eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9";

#[async_trait::async_trait]
impl TokenSource for Canary {
    async fn token(&self, _: &str, _: Option<&Secret>) -> Result<Secret, IdentityError> {
        Ok(Secret::new(CANARY.to_owned()))
    }

    fn who(&self) -> Option<&'static str> {
        None
    }
}

#[tokio::test]
async fn what_a_server_repeats_of_its_request_is_not_shown() {
    let escaped = CANARY.replace('/', "\\/");
    for (status, body) in [
        (400, format!("{}you sent Bearer {CANARY}", " ".repeat(280))),
        (
            403,
            json!({"error": {"message": "no", "innererror": {"message": format!("with Bearer {CANARY}")}}}).to_string(),
        ),
        (404, format!("{{\"authorization\": \"Bearer {escaped}\"}}")),
        (200, format!("Bearer {CANARY}")),
    ] {
        let server = MockServer::start().await;
        let said = ResponseTemplate::new(status).set_body_string(body);
        Mock::given(wiremock::matchers::any()).respond_with(said).mount(&server).await;
        let target = Target::Workspace("w".to_owned());
        let client =
            LogAnalytics::new(&server.uri(), target, Arc::new(Canary), Duration::from_secs(20)).expect("a client");
        let mut import = Import::new(client, Question { kql: None, from: 0, to: 2_000_000_000 });
        let error = import.next().await.expect_err("no table").to_string();
        assert!(error.contains(&status.to_string()) && error.contains("***"), "{error}");
        assert!(!error.contains("canary") && !error.contains("eyJ0"), "{error}");
    }
}

#[test]
fn the_query_fits_the_target() {
    let ask = |kql: Option<&str>, target| {
        let question = Question { kql: kql.map(str::to_owned), from: 0, to: 2_000_000_000 };
        kql_of(&question, &target)
    };
    let own = ask(None, Target::Resource("/subscriptions/s".to_owned()));
    assert!(
        own.contains(
            "timestamp >= datetime(1970-01-01T00:00:00.0000000Z) and timestamp < datetime(1970-01-01T00:00:02"
        ),
        "{own}"
    );
    assert!(ask(None, Target::Workspace("w".to_owned())).starts_with("union AppDependencies"));
    assert_eq!(
        ask(Some("dependencies | where name has 'chat';\n"), Target::Workspace("w".to_owned())),
        "dependencies | where name has 'chat'\n| take 7"
    );
}

fn kql_of(question: &Question, target: &Target) -> String {
    super::kql(question, target, question.from, question.to, 7)
}
