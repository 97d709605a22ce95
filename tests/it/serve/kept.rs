//! What the store makes of telemetry: everything is kept, in whatever order it comes.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use spanscore::model::{
    Entity, Evaluation, Key, LogRecord, Origin, Span, SpanId, SpanKind, Status, Telemetry, TraceId, Value,
};
use spanscore::store::rows::TraceDetail;
use spanscore::trace::requests::{logs_request, traces_request};

use super::{PROTOBUF, Served};

const TRACE: TraceId = TraceId::from_bytes([7; 16]);

fn id(n: u8) -> SpanId {
    SpanId::from_bytes([n; 8])
}

fn span(n: u8, parent: Option<u8>) -> Span {
    let start = 1_800_000_000_000_000_000 + u64::from(n) * 1000;
    let mut span = Span::open(TRACE, id(n), parent.map(id), format!("span {n}"), start);
    span.end_unix_nano = start + 500;
    span
}

fn log(span: u8, name: &'static str) -> LogRecord {
    LogRecord {
        time_unix_nano: 1_800_000_000_000_000_500,
        observed_unix_nano: 1_800_000_000_000_000_501,
        severity_number: 9,
        severity_text: "INFO".to_owned(),
        event_name: name.into(),
        body: Value::from("done"),
        attributes: vec![(Key::from("a"), Value::Int(1))],
        dropped_attributes_count: 2,
        flags: 1,
        trace_id: Some(TRACE),
        span_id: Some(id(span)),
    }
}

fn send(served: &Served, spans: Vec<Span>, logs: Vec<LogRecord>) {
    let part = [Telemetry { origin: Arc::new(Origin::default()), spans, logs }];
    let (traces, logs) = (traces_request(&part), logs_request(&part));
    if traces != ExportTraceServiceRequest::default() {
        assert_eq!(served.post("/v1/traces", &[PROTOBUF], &traces.encode_to_vec()).status, 200);
    }
    if logs != ExportLogsServiceRequest::default() {
        assert_eq!(served.post("/v1/logs", &[PROTOBUF], &logs.encode_to_vec()).status, 200);
    }
}

fn trace(served: &Served) -> TraceDetail {
    served.store.reader().expect("a reader").trace(&TRACE.to_string()).expect("the trace")
}

#[test]
fn everything_that_came_in_is_given_back() {
    let served = Served::new();
    let all = vec![
        (Key::from("nan"), Value::Double(f64::NAN)),
        (Key::from("infinity"), Value::Double(f64::NEG_INFINITY)),
        (Key::from("empty"), Value::Empty),
        (Key::from("bytes"), Value::Bytes(vec![0, 255])),
        (Key::from("list"), Value::Array(vec![Value::Array(vec![]), Value::Bool(true), Value::from("")])),
        (Key::from("map"), Value::Map(vec![(Key::from("a"), Value::Int(i64::MIN)), (Key::from("a"), Value::Empty)])),
        (Key::from("map"), Value::from("the same name again")),
    ];
    let mut whole = Span {
        trace_state: "a=b,c=d".to_owned(),
        flags: 0x301,
        kind: SpanKind::Producer,
        status: Status::Error("no".to_owned()),
        attributes: all.clone(),
        dropped_attributes_count: 3,
        dropped_events_count: 4,
        dropped_links_count: 5,
        ..span(1, Some(9))
    };
    whole.add_event("an event", 1, all.clone());
    whole.add_link(TraceId::from_bytes([3; 16]), id(4), all.clone());
    whole.links[0].trace_state = "x=y".to_owned();
    let origin = Origin {
        resource: all.clone(),
        resource_dropped_attributes_count: 6,
        entities: vec![Entity {
            schema_url: "e".to_owned(),
            kind: "service".to_owned(),
            id_keys: vec!["nan".to_owned()],
            description_keys: vec!["map".to_owned()],
        }],
        resource_schema_url: "https://example.test/resource".to_owned(),
        scope_name: "scope".to_owned(),
        scope_version: "1".to_owned(),
        scope_attributes: all.clone(),
        scope_dropped_attributes_count: 7,
        scope_schema_url: "https://example.test/scope".to_owned(),
    };
    let record = LogRecord { body: Value::Map(all.clone()), attributes: all, ..log(1, "an.event") };
    let sent = [Telemetry { origin: Arc::new(origin), spans: vec![whole], logs: vec![record] }];
    let (traces, logs) = (traces_request(&sent), logs_request(&sent));
    assert_eq!(served.post("/v1/traces", &[PROTOBUF], &traces.encode_to_vec()).status, 200);
    assert_eq!(served.post("/v1/logs", &[PROTOBUF], &logs.encode_to_vec()).status, 200);

    let found = trace(&served);
    let span_origin = Arc::clone(found.origin(0).expect("an origin"));
    let log_origin = Arc::clone(&found.origins[found.logs[0].1]);
    let spans = [Telemetry { origin: span_origin, spans: found.spans.clone(), logs: Vec::new() }];
    let records = [Telemetry { origin: log_origin, spans: Vec::new(), logs: vec![found.logs[0].0.clone()] }];
    // As bytes, for NaN is not equal to itself.
    assert_eq!(traces_request(&spans).encode_to_vec(), traces.encode_to_vec());
    assert_eq!(logs_request(&records).encode_to_vec(), logs.encode_to_vec());
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    let shape = |served: &Served| {
        let found = trace(served);
        let spans: Vec<_> = found.spans.iter().map(|span| (span.span_id, span.parent_span_id)).collect();
        let logs: Vec<_> = found.logs.iter().map(|(log, _)| (log.event_name.clone(), log.span_id)).collect();
        (found.row.start_unix_nano, found.row.root.clone(), spans, logs)
    };
    let in_order = Served::new();
    send(&in_order, vec![span(1, None)], vec![]);
    send(&in_order, vec![span(2, Some(1)), span(3, Some(2))], vec![log(3, "e")]);
    let backwards = Served::new();
    send(&backwards, vec![], vec![log(3, "e")]);
    send(&backwards, vec![span(3, Some(2))], vec![]);
    send(&backwards, vec![span(2, Some(1))], vec![]);
    send(&backwards, vec![span(1, None)], vec![]);
    assert_eq!(shape(&in_order), shape(&backwards));
    assert_eq!(shape(&in_order).1, "span 1");
}

#[test]
fn missing_parents_and_cycles_are_kept_as_they_are() {
    let served = Served::new();
    send(&served, vec![span(1, Some(99)), span(2, Some(3)), span(3, Some(2)), span(4, Some(4))], vec![]);
    let found = trace(&served);
    assert_eq!(found.spans.len(), 4);
    assert_eq!(
        found.spans.iter().map(|span| span.parent_span_id).collect::<Vec<_>>(),
        [99, 3, 2, 4].map(|n| Some(id(n)))
    );
    assert_eq!(served.store.reader().expect("a reader").trace_skeleton(&TRACE.to_string()).expect("it").spans.len(), 4);
}

#[test]
fn results_of_evaluations_become_scores_however_they_come() {
    let attributes = |name: &'static str, score: f64| {
        vec![
            (Key::from("gen_ai.evaluation.name"), Value::from(name)),
            (Key::from("gen_ai.evaluation.score.value"), Value::Double(score)),
            (Key::from("gen_ai.evaluation.score.label"), Value::from("good")),
        ]
    };
    let served = Served::new();
    let mut as_event = span(1, None);
    as_event.add_event("gen_ai.evaluation.result", 5, attributes("as_event", 0.25));
    let mut as_attributes = span(2, Some(1));
    as_attributes.attributes = attributes("as_attributes", 0.5);
    let mut inline = span(3, Some(1));
    inline.set("evaluations.0.evaluation.name", "inline");
    inline.set("evaluations.0.evaluation.score", 0.75);
    let record = LogRecord { attributes: attributes("as_record", 1.0), ..log(2, "gen_ai.evaluation.result") };
    send(&served, vec![as_event, as_attributes, inline], vec![record.clone()]);
    let found = trace(&served);
    let scores: Vec<_> = found
        .scores
        .iter()
        .flat_map(|(span, scores)| scores.iter().map(|score| (score.name.clone(), *span, score.evaluation.clone())))
        .map(|(name, span, evaluation)| match evaluation {
            Evaluation::Scored { value, .. } => (name, span, value.map(|value| value.get().to_string())),
            other => panic!("{name}: {other:?}"),
        })
        .collect();
    let expected = [("as_event", 1, "0.25"), ("as_attributes", 2, "0.5"), ("as_record", 2, "1"), ("inline", 3, "0.75")];
    assert_eq!(scores, expected.map(|(name, span, value)| (name.to_owned(), id(span), Some(value.to_owned()))));
    assert_eq!(served.count(|t| &t.scores), 4);
    // The same again, and the same by another way, is the same score.
    send(&served, vec![], vec![record]);
    assert_eq!(served.count(|t| &t.scores), 4);
}
