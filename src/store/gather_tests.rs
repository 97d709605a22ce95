//! Telemetry of applications in the store: in any order, more than once, joining runs, and what becomes of its scores.

use std::sync::Arc;

use proptest::prelude::*;

use super::rows::TraceRow;
use super::testing::{START, Scene, batch_root, trace_id, trial};
use super::{Ingested, Reader, Signal, Store, Writer};
use crate::model::{
    Evaluation, Key, Label, LogRecord, Origin, Predicted, RunEvent, Span, SpanId, Status, Telemetry, TraceId, Value,
};
use crate::query::{Schema, parse};
use crate::trace::semconv::{self, event};

const RIGHT: crate::model::Outcome = crate::model::Outcome::Completed { predicted: Predicted::Label(Label::True) };

fn origin(service: &'static str) -> Arc<Origin> {
    Arc::new(Origin {
        resource: vec![(semconv::SERVICE_NAME.into(), service.into()), ("empty".into(), Value::Array(vec![]))],
        resource_schema_url: "https://example.test/r".to_owned(),
        scope_name: "lib".to_owned(),
        ..Origin::default()
    })
}

fn id(n: u8) -> SpanId {
    SpanId::from_bytes([n; 8])
}

fn span(trace: u8, n: u8, parent: Option<u8>, start: u64) -> Span {
    let mut span = Span::open(trace_id(trace), id(n), parent.map(id), format!("operation {n}"), START + start);
    span.end_unix_nano = START + start + 10;
    span
}

fn log(trace: Option<u8>, n: u8, text: &str) -> LogRecord {
    LogRecord {
        time_unix_nano: START + u64::from(n),
        observed_unix_nano: 0,
        severity_number: 9,
        severity_text: String::new(),
        event_name: "".into(),
        body: Value::from(text.to_owned()),
        attributes: vec![],
        dropped_attributes_count: 0,
        flags: 0,
        trace_id: trace.map(trace_id),
        span_id: trace.map(|_| id(n)),
    }
}

fn result(name: &'static str, value: f64) -> Vec<(Key, Value)> {
    vec![
        (semconv::GEN_AI_EVALUATION_NAME.into(), name.into()),
        (semconv::GEN_AI_EVALUATION_SCORE_VALUE.into(), value.into()),
    ]
}

fn result_log(trace: u8, n: u8, name: &'static str, value: f64) -> LogRecord {
    LogRecord {
        event_name: event::EVALUATION_RESULT.into(),
        attributes: result(name, value),
        body: Value::Empty,
        ..log(Some(trace), n, "")
    }
}

fn of(origin: &Arc<Origin>, spans: Vec<Span>, logs: Vec<LogRecord>) -> Vec<Telemetry> {
    vec![Telemetry { origin: Arc::clone(origin), spans, logs }]
}

async fn ingest(writer: &Writer, telemetry: Vec<Telemetry>) -> Ingested {
    writer.ingest(telemetry).await.expect("taken in")
}

struct Place {
    _dir: tempfile::TempDir,
    store: Store,
    writer: Writer,
}

fn place() -> Place {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("store")).expect("a new store");
    let writer = store.writer().expect("a writer");
    Place { _dir: dir, store, writer }
}

fn rows(reader: &Reader, query: &str) -> Vec<TraceRow> {
    let filter = parse(query, &Schema::traces()).expect(query);
    reader.traces(Some(&filter), None, None).expect("traces")
}

#[tokio::test]
async fn what_is_taken_in_reads_back_with_its_origin() {
    let place = place();
    let (a, b) = (origin("a"), origin("b"));
    let mut odd = span(1, 2, Some(1), 5);
    odd.set("nan", f64::NAN);
    odd.set("empty", Value::Array(vec![]));
    odd.status = Status::Error("broken".to_owned());
    odd.set(semconv::GEN_AI_USAGE_INPUT_TOKENS, 7i64);
    odd.set(semconv::GEN_AI_USAGE_OUTPUT_TOKENS, 2i64);
    let mut telemetry = of(&a, vec![span(1, 1, None, 0)], vec![log(Some(1), 2, "hello"), log(None, 1, "nowhere")]);
    telemetry.extend(of(&b, vec![odd.clone(), span(2, 9, Some(8), 3)], vec![]));
    let taken = ingest(&place.writer, telemetry).await;
    assert_eq!(taken, Ingested { spans: 3, logs: 2, duplicates: 0, scores: 0 });

    let reader = place.store.reader().expect("a reader");
    let trace = reader.trace("0101").expect("the trace");
    assert_eq!((trace.row.root.as_str(), trace.row.service.as_deref()), ("operation 1", Some("a")));
    assert_eq!((trace.row.operations, trace.row.errors, trace.row.duration_ns), (2, 1, 15));
    assert_eq!(trace.row.tokens, Some((7, 2)));
    assert_eq!(format!("{:?}", trace.spans[1]), format!("{odd:?}"));
    assert_eq!((trace.origin(0), trace.origin(1)), (Some(&a), Some(&b)));
    assert_eq!(trace.logs, [(log(Some(1), 2, "hello"), 0)]);
    let one = reader.span(trace_id(1), id(2)).expect("the span");
    assert_eq!((one.origin, one.logs), (b, vec![log(Some(1), 2, "hello")]));
    let skeleton = reader.trace_skeleton("0101").expect("an outline");
    let outline: Vec<_> = skeleton.spans.iter().map(|s| (s.span_id, s.status, s.end_unix_nano - START)).collect();
    assert_eq!(outline, [(id(1), 0, 10), (id(2), 2, 15)]);
    let rest = reader.trace("0202").expect("the other trace");
    assert_eq!(rest.row.root, "operation 9", "without a root the earliest span stands for it");
    let health = reader.store_health().expect("counts");
    assert_eq!((health.traces, health.spans, health.log_records), (2, 3, 2));
    assert!(matches!(reader.span(trace_id(1), id(77)), Err(crate::store::StoreError::UnknownSpan { .. })));
}

#[tokio::test]
async fn what_comes_again_is_counted_and_not_kept_twice() {
    let place = place();
    let a = origin("a");
    let all = || of(&a, vec![span(1, 1, None, 0), span(1, 2, Some(1), 1)], vec![log(Some(1), 1, "x")]);
    ingest(&place.writer, all()).await;
    assert_eq!(ingest(&place.writer, all()).await, Ingested { duplicates: 3, ..Ingested::default() });
    let more = of(
        &a,
        vec![span(1, 2, Some(1), 1), span(1, 3, Some(1), 2), span(1, 3, Some(1), 2)],
        vec![log(Some(1), 1, "x"), log(Some(1), 1, "y"), log(Some(1), 1, "y")],
    );
    assert_eq!(ingest(&place.writer, more).await, Ingested { spans: 1, logs: 1, duplicates: 4, scores: 0 });
    let twice = of(&a, vec![span(5, 1, None, 1), span(5, 1, None, 1)], vec![]);
    assert_eq!(ingest(&place.writer, twice).await, Ingested { spans: 1, duplicates: 1, ..Ingested::default() });
    let reader = place.store.reader().expect("a reader");
    let trace = reader.trace("01").expect("the trace");
    assert_eq!((trace.row.operations, trace.spans.len(), trace.logs.len()), (3, 3, 2));
    assert_eq!(reader.trace("05").expect("the trace").row.operations, 1);
    let conn = place.store.connect_for_reading().expect("a connection");
    let payloads: i64 = conn.query_row("SELECT count(*) FROM payload", [], |row| row.get(0)).expect("a count");
    assert_eq!(payloads, 5, "a payload of duplicates only is not kept");
}

#[tokio::test]
async fn the_tokens_of_a_span_that_came_twice_count_once() {
    let place = place();
    let a = origin("a");
    let call = |trace: u8, n: u8, tokens: i64| {
        let mut call = span(trace, n, None, 1);
        call.set(semconv::GEN_AI_USAGE_INPUT_TOKENS, tokens);
        call
    };
    ingest(&place.writer, of(&a, vec![call(1, 1, 7), call(1, 1, 7), call(1, 2, 5), span(1, 3, None, 0)], vec![])).await;
    ingest(&place.writer, of(&a, vec![span(2, 1, None, 0), call(2, 1, 7)], vec![])).await;
    let reader = place.store.reader().expect("a reader");
    assert_eq!(reader.trace("01").expect("the trace").row.tokens, Some((12, 0)));
    assert_eq!(reader.trace("02").expect("the trace").row.tokens, None, "the span that has tokens was not kept");
}

#[tokio::test]
async fn a_delivered_span_that_the_runs_own_displaces_stays_counted() {
    let scene = Scene::started(1, 1).await;
    let config = serde_json::json!({});
    let run = scene.run().number;
    scene.writer.register_destination(&scene.spec.run_id, "x", Signal::Traces, &config).await.expect("registered");
    // An application used the id of a trial's span, and that went out.
    let (claim, _) = super::testing::span_ids(crate::model::TrialKey { seq: 0, repeat: 0 }, 0);
    let mut early = span(2, 0x71, None, 5);
    (early.span_id, early.parent_span_id) = (claim, Some(batch_root(2).span_id));
    ingest(&scene.writer, of(&origin("app"), vec![early], vec![])).await;
    let batch = scene.reader().outbox_batch(run, "x", Signal::Traces, 100).expect("a batch");
    let ack = super::Ack {
        run,
        destination: "x".to_owned(),
        signal: Signal::Traces,
        cursor: batch.cursor,
        delivered: batch.spans.len() as u64,
        rejected: 0,
        not_sampled: 0,
        duplicates: 0,
    };
    assert_eq!(ack.delivered, 1);
    scene.writer.acknowledge(ack).await.expect("noted");
    scene.record(trial(0, 0, 0, RIGHT)).await;
    let counts = scene.reader().span_counts(&scene.run()).expect("counts")["x"].clone();
    assert_eq!(counts.stored, counts.delivered + counts.pending, "{counts:?}");
}

#[tokio::test]
async fn a_search_in_a_trace_finds_the_runs_own_log_records() {
    let scene = Scene::started(1, 1).await;
    scene.record(trial(0, 0, 0, RIGHT)).await;
    let (_, chat) = super::testing::span_ids(crate::model::TrialKey { seq: 0, repeat: 0 }, 0);
    let found = scene.reader().search_spans(trace_id(2), "gen_ai.evaluation.result").expect("spans");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [chat]);
}

#[tokio::test]
async fn a_score_is_one_however_it_comes_and_may_come_before_its_span() {
    let place = place();
    let a = origin("a");
    let taken = ingest(&place.writer, of(&a, vec![], vec![result_log(1, 2, "Relevance", 0.25)])).await;
    assert_eq!((taken.logs, taken.scores), (1, 1));
    let reader = place.store.reader().expect("a reader");
    assert!(reader.traces(None, None, None).expect("traces").is_empty(), "a trace without spans is not listed");
    let mut chat = span(1, 2, Some(1), 4);
    chat.attributes.extend(result("Relevance", 0.25));
    let mut why = result("Relevance", 0.25);
    why.push((semconv::GEN_AI_EVALUATION_EXPLANATION.into(), "thin".into()));
    chat.add_event(event::EVALUATION_RESULT, START + 5, why);
    let taken = ingest(&place.writer, of(&a, vec![chat, span(1, 1, None, 1)], vec![])).await;
    assert_eq!((taken.spans, taken.scores), (2, 0), "it is known already");
    let trace = reader.trace("01").expect("the trace");
    assert_eq!((trace.row.start_unix_nano, trace.row.root.as_str()), (START + 1, "operation 1"));
    let found = &trace.scores[&id(2)];
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].evaluation, Evaluation::number(0.25).because("thin"));
    assert!(found[0].external);
    assert_eq!(trace.row.scores["Relevance"], 0.25);
    assert_eq!(rows(&reader, "score.\"Relevance\" < 0.5").len(), 1);
    assert_eq!(rows(&reader, "score.\"Relevance\" < 0.25").len(), 0);
    assert_eq!(rows(&reader, "not score.\"Relevance\" < 0.25 and operations = 2").len(), 1);
}

#[tokio::test]
async fn a_judges_score_sits_on_the_span_it_links_to() {
    let place = place();
    let a = origin("a");
    ingest(&place.writer, of(&a, vec![span(1, 1, None, 0)], vec![])).await;
    let mut judge = span(2, 7, None, 50);
    judge.set(semconv::OPENINFERENCE_SPAN_KIND, semconv::KIND_EVALUATOR);
    judge.attributes.extend(result("Faithfulness", 0.0));
    judge.add_link(trace_id(1), id(1), vec![]);
    assert_eq!(ingest(&place.writer, of(&a, vec![judge], vec![])).await.scores, 1);
    let detail = place.store.reader().expect("a reader").span(trace_id(1), id(1)).expect("the span");
    assert_eq!(detail.scores[0].evaluator_span, Some((trace_id(2), id(7))));
}

#[tokio::test]
async fn spans_of_an_application_join_the_trace_of_a_run() {
    let scene = Scene::started(2, 1).await;
    scene.record(trial(0, 0, 0, RIGHT)).await;
    let config = serde_json::json!({});
    let register = async |signal| {
        scene.writer.register_destination(&scene.spec.run_id, "x", signal, &config).await.expect("registered");
    };
    register(Signal::Traces).await;
    // Another process takes them in.
    let other = Store::open(scene.store.dir()).expect("the same store").writer().expect("a second writer");
    let a = origin("app");
    let mut joined = span(2, 0x77, None, 2);
    joined.parent_span_id = Some(batch_root(2).span_id);
    let taken = ingest(&other, of(&a, vec![joined, span(9, 1, None, 0)], vec![log(Some(2), 0x77, "said")])).await;
    assert_eq!((taken.spans, taken.logs), (2, 1));
    scene.record(trial(1, 0, 0, RIGHT)).await;
    scene.finish().await;
    let (reader, run) = (scene.reader(), scene.run());
    assert_eq!((run.spans_created, reader.spans_stored(&run).expect("a count")), (7, 7));
    let counts = &reader.span_counts(&run).expect("counts")["x"];
    assert_eq!((counts.stored, counts.pending), (7, 7));
    let mut late = span(2, 0x78, None, 900);
    late.parent_span_id = Some(batch_root(2).span_id);
    ingest(&other, of(&a, vec![late], vec![])).await;
    let batch = reader.outbox_batch(run.number, "x", Signal::Traces, 100).expect("a batch");
    assert_eq!(batch.spans.len(), 8);
    let services: std::collections::BTreeSet<_> =
        batch.spans.iter().map(|out| batch.origins[out.origin].resource_text(semconv::SERVICE_NAME)).collect();
    assert_eq!(services, [Some("app"), Some("spanscore")].into());
    let own = batch.spans.iter().find(|out| out.item.span_id == batch_root(2).span_id).expect("the root");
    assert_eq!(batch.origins[own.origin].scope_name, "spanscore");
    let row = rows(&reader, "operations > 1").remove(0);
    assert_eq!((row.operations, row.root.as_str()), (7, "assess_claims_with_context"));
    assert_eq!(row.run_id.as_ref(), Some(&scene.spec.run_id));
    assert!(reader.verify(&run).expect("a verification").is_good());

    // What the run delivered to this very store comes back and is known.
    let again: Vec<Span> = batch.spans.iter().map(|out| out.item.clone()).collect();
    let own = Arc::clone(&batch.origins[own.origin]);
    let records = reader.trace("02").expect("the trace").logs.into_iter().map(|(log, _)| log).collect::<Vec<_>>();
    let sent = records.iter().filter(|log| log.event_name == event::EVALUATION_RESULT).cloned().collect::<Vec<_>>();
    let taken = ingest(&other, of(&own, again, sent)).await;
    assert_eq!((taken.spans, taken.logs, taken.scores), (0, 0, 0), "{taken:?}");

    scene.writer.remove_run(&scene.spec.run_id).await.expect("removed");
    let left = reader.traces(None, None, None).expect("traces");
    assert_eq!(left.len(), 1, "the application's own trace stays");
    let conn = scene.store.connect_for_reading().expect("a connection");
    for table in ["span", "payload"] {
        let count: i64 =
            conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a count");
        assert_eq!(count, 1, "{table}");
    }
    for table in ["log", "log_hash", "trace_score", "external_score"] {
        let count: i64 =
            conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a count");
        assert_eq!(count, 0, "{table}");
    }
}

#[tokio::test]
async fn a_run_may_begin_in_a_trace_that_is_there_already() {
    let scene = Scene::planned(1, 1).await;
    let a = origin("pipeline");
    ingest(&scene.writer, of(&a, vec![span(1, 0x50, None, 0), span(3, 0x51, Some(0x52), 0)], vec![])).await;
    // The session joins trace 1 below its span, for it was started with TRACEPARENT; so does another session later.
    for (session, n) in [(0x61, 3), (0x62, 4)] {
        let mut root = super::testing::session_root(1);
        root.span_id = id(session);
        root.parent_span_id = Some(id(0x50));
        scene
            .record(RunEvent::SessionStarted { spec: Box::new(scene.spec.clone()), root: Box::new(root.clone()) })
            .await;
        assert_eq!(scene.reader().trace("01").expect("the trace").spans.len(), n - 1);
    }
    // Telemetry came ahead of the batch's root, and even under the id of a trial's span.
    let (claim, _) = super::testing::span_ids(crate::model::TrialKey { seq: 0, repeat: 0 }, 0);
    let mut early = span(2, 0x70, None, 5);
    early.parent_span_id = Some(claim);
    let mut same = span(2, 0x71, None, 5);
    (same.span_id, same.parent_span_id) = (claim, Some(id(0x70)));
    ingest(&scene.writer, of(&a, vec![early, same], vec![])).await;
    scene.record(RunEvent::BatchStarted { root: Box::new(batch_root(2)) }).await;
    scene.record(trial(0, 0, 0, RIGHT)).await;
    let (reader, run) = (scene.reader(), scene.run());
    assert!(reader.verify(&run).expect("a verification").is_good());
    let trace = reader.trace("02").expect("the trace");
    assert_eq!((trace.row.operations as usize, trace.spans.len()), (4, 4));
    assert_eq!(
        (trace.row.root.as_str(), trace.row.run_id),
        ("assess_claims_with_context", Some(scene.spec.run_id.clone()))
    );
}

#[tokio::test]
async fn two_processes_take_in_at_once() {
    let place = place();
    let other = Store::open(place.store.dir()).expect("the same store").writer().expect("a second writer");
    let a = origin("a");
    let send = |writer: Writer, from: u8| {
        let a = Arc::clone(&a);
        async move {
            for n in from..from + 40 {
                // Both send to the same traces, and the same log records.
                let spans = vec![span(n % 10 + 1, n + 1, Some(0), u64::from(n))];
                writer.ingest(of(&a, spans, vec![log(Some(1), n % 5, "x")])).await.expect("taken in");
            }
        }
    };
    futures::join!(send(place.writer.clone(), 0), send(other, 100));
    let reader = place.store.reader().expect("a reader");
    let health = reader.store_health().expect("counts");
    assert_eq!((health.traces, health.spans, health.log_records), (10, 80, 5));
    for row in reader.traces(None, None, None).expect("traces") {
        let trace = reader.trace(&row.trace_id.to_string()).expect("the trace");
        assert_eq!(trace.spans.len() as u64, row.operations);
    }
}

/// What a list says of a trace, from its spans alone.
fn expected(spans: &[Span]) -> (u64, u64, u64, u64, String) {
    let start = spans.iter().map(|span| span.start_unix_nano).min().unwrap_or(0);
    let end = spans.iter().map(|span| span.end_unix_nano).max().unwrap_or(0);
    let root = spans.iter().min_by_key(|span| (span.parent_span_id.is_some(), span.start_unix_nano)).expect("a span");
    let errors = spans.iter().filter(|span| span.status.number() == 2).count() as u64;
    (spans.len() as u64, errors, start, end - start, root.name.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_trace_is_the_same_in_whatever_order_and_portions_its_spans_come(
        drawn in prop::collection::vec((1u8..4, prop::option::of(0u8..20), 0u64..1000, any::<bool>()), 1..20),
        cuts in prop::collection::vec((1usize..4, any::<bool>()), 1..8),
        order in any::<prop::sample::Index>(),
    ) {
        let mut spans: Vec<Span> = drawn.iter().enumerate().map(|(i, (trace, parent, start, failed))| {
            // Distinct starts: which of two roots that begin at once stands for the trace is nobody's business.
            let mut span = span(*trace, i as u8, *parent, start * 32 + i as u64);
            span.status = if *failed { Status::Error(String::new()) } else { Status::Ok };
            span
        }).collect();
        let whole = spans.clone();
        let middle = order.index(spans.len());
        spans.rotate_left(middle);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let place = place();
        let a = origin("a");
        runtime.block_on(async {
            let mut waiting = Vec::new();
            let mut cuts = cuts.iter().cycle();
            while !spans.is_empty() {
                let (n, again) = cuts.next().expect("it cycles");
                let part: Vec<Span> = spans.drain(..(*n).min(spans.len())).collect();
                if *again {
                    waiting.push(place.writer.ingest(of(&a, part.clone(), vec![])));
                }
                waiting.push(place.writer.ingest(of(&a, part, vec![])));
            }
            for taken in futures::future::join_all(waiting).await {
                taken.expect("taken in");
            }
        });
        let reader = place.store.reader().expect("a reader");
        for n in 1u8..4 {
            let of_trace: Vec<Span> = whole.iter().filter(|span| span.trace_id == trace_id(n)).cloned().collect();
            if of_trace.is_empty() {
                continue;
            }
            let trace = reader.trace(&trace_id(n).to_string()).expect("the trace");
            let row = &trace.row;
            let found = (row.operations, row.errors, row.start_unix_nano, row.duration_ns, row.root.clone());
            prop_assert_eq!(found, expected(&of_trace));
            prop_assert_eq!(trace.spans.len(), of_trace.len());
        }
    }
}

#[tokio::test]
async fn a_page_goes_on_behind_the_last_row_of_the_one_before() {
    let place = place();
    let a = origin("a");
    for n in 1..=30u8 {
        // Three traces each begin at once.
        let mut root = span(n, 1, None, u64::from(n / 3));
        root.end_unix_nano += u64::from(n % 4);
        if n % 2 == 0 {
            root.attributes.extend(result("tone", f64::from(n % 5)));
        }
        ingest(&place.writer, of(&a, vec![root], vec![])).await;
    }
    let reader = place.store.reader().expect("a reader");
    let schema = Schema::traces();
    for (filter, sort) in [
        (None, None),
        (None, Some("-duration")),
        (None, Some("start")),
        (None, Some("score.tone")),
        (Some("score.tone < 3"), None),
        (Some("root ~ operation"), Some("-score.tone")),
        (Some("text ~ operation"), None),
    ] {
        let mut query = crate::store::TraceQuery {
            filter: filter.map(|text| parse(text, &schema).expect(text)),
            sort: sort.map(|text| crate::query::parse_sort(text, &schema).expect(text)),
            limit: 7,
            ..crate::store::TraceQuery::default()
        };
        let whole = reader.traces(query.filter.as_ref(), query.sort.as_ref(), None).expect("traces");
        let mut paged = Vec::new();
        loop {
            let page = reader.trace_page(&query).expect("a page");
            assert!(page.rows.len() <= 7);
            paged.extend(page.rows);
            let Some(next) = page.next else { break };
            assert_eq!(next.to_string().parse::<crate::store::TraceCursor>().expect("it reads back"), next);
            query.after = Some(next);
        }
        let ids = |rows: &[TraceRow]| rows.iter().map(|row| row.trace_id).collect::<Vec<TraceId>>();
        assert_eq!(ids(&paged), ids(&whole), "{filter:?} {sort:?}");
    }
    assert!("x".parse::<crate::store::TraceCursor>().is_err());
}

#[tokio::test]
async fn what_sqlite_decides_and_what_is_decided_here_agree() {
    let scene = Scene::started(2, 1).await;
    scene.record(trial(0, 0, 0, RIGHT)).await;
    scene.record(trial(1, 0, 0, super::testing::failed())).await;
    scene.finish().await;
    let a = origin("a");
    let bare = Arc::new(Origin::default());
    for n in 10..40u8 {
        let mut root = span(n, 1, None, u64::from(n) * 1_000_000_000);
        root.end_unix_nano += u64::from(n % 3) * 2_000_000_000;
        root.status = if n % 4 == 0 { Status::Error(String::new()) } else { Status::Unset };
        if n % 2 == 0 {
            root.attributes.extend(result("tone", f64::from(n % 5)));
        }
        ingest(&scene.writer, of(if n % 7 == 0 { &bare } else { &a }, vec![root], vec![])).await;
    }
    let reader = scene.reader();
    let all = reader.traces(None, None, None).expect("traces");
    for query in [
        "status = error",
        "status != error and not errors",
        "operations > 1 or errors = 1",
        "duration >= 2s",
        "duration < 1s and not (status = error or operations = 1)",
        "start >= 2026-09-21T14:13:35Z",
        "root = assess_claims_with_context",
        "root != \"operation 1\"",
        "service = a",
        "service != a",
        "service",
        "run = 20260922-120000-00000a",
        "run != 20260922-120000-00000a",
        "run = nothing",
        "run",
        "case = case-1",
        "case != case-1",
        "score.tone < 2",
        "score.tone != 2",
        "not score.tone = 2",
        "score.tone",
        "score.label_match < 1",
        "score.tone >= 1 and service ~ A",
        "trace = 0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "trace != 0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b and trace ~ 0b",
    ] {
        let filter = parse(query, &Schema::traces()).expect(query);
        let wanted: Vec<TraceId> = all.iter().filter(|row| filter.matches(*row)).map(|row| row.trace_id).collect();
        let found: Vec<TraceId> = rows(&reader, query).into_iter().map(|row| row.trace_id).collect();
        assert_eq!(found, wanted, "{query}");
    }
    assert_eq!(rows(&reader, "error").len(), rows(&reader, "status = error").len());
    assert_eq!(rows(&reader, "text ~ \"operation 1\"").len(), 30);
}
