//! What retention removes, and what it leaves.

use std::sync::Arc;
use std::time::Duration;

use super::prune::STEP;
use super::testing::{START, Scene, batch_root, completed, ended, session_root, trace_id, trial};
use super::{Ack, Pruned, Retention, Signal, StoreError};
use crate::model::{Label, LogRecord, Origin, Predicted, RunEvent, Span, SpanId, Telemetry, TraceId};

const DAY: u64 = 86_400_000_000_000;

fn of_age(days: u64) -> Retention {
    Retention { max_age: Some(Duration::from_nanos(days * DAY)), ..Retention::default() }
}

/// A trace of so many spans.
fn trace(n: u64, start: u64, spans: u64) -> Vec<Telemetry> {
    let mut id = [7; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    let span = |k: u64| {
        let mut span = Span::open(
            TraceId::from_bytes(id),
            SpanId::from_bytes((k + 1).to_be_bytes()),
            (k > 0).then(|| SpanId::from_bytes(1u64.to_be_bytes())),
            "work",
            start + k,
        );
        span.end_unix_nano = start + k + 1;
        let noise = k.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        span.set("text", format!("{noise:x}{:x}", noise.rotate_left(17).wrapping_mul(noise | 1)));
        span
    };
    vec![Telemetry { origin: Arc::new(Origin::default()), spans: (0..spans).map(span).collect(), logs: vec![] }]
}

#[tokio::test]
async fn old_traces_go_and_what_was_measured_stays() {
    let scene = Scene::started(2, 1).await;
    scene.writer.ingest(trace(1, START - 50 * DAY, 3)).await.expect("taken in");
    scene.writer.ingest(trace(2, START + 40 * DAY, 3)).await.expect("taken in");
    let config = serde_json::json!({});
    for signal in Signal::ALL {
        scene.writer.register_destination(&scene.spec.run_id, "x", signal, &config).await.expect("registered");
    }
    for seq in 0..2 {
        scene.record(trial(seq, 0, 0, completed(Predicted::Label(Label::True)))).await;
    }
    let first = scene.writer.prune(&of_age(1), START + 10 * DAY).await.expect("pruned");
    assert_eq!(first.traces, 3, "the session is closed, and its batch with it");
    let kept = scene.writer.prune(&of_age(90), START + 10 * DAY).await.expect("pruned");
    assert_eq!(kept, Pruned { bytes: kept.bytes, ..Pruned::default() });

    let (reader, run) = (scene.reader(), scene.run());
    assert_eq!(reader.traces(None, None, None).expect("traces").len(), 1);
    let gone = reader.trace(&trace_id(2).to_string()).expect_err("it is gone");
    assert!(matches!(gone, StoreError::PrunedTrace { at_unix_nano, .. } if at_unix_nano == START + 10 * DAY), "{gone}");
    assert!(gone.to_string().contains("removed by retention at 2026-"), "{gone}");
    let _ = (reader, run);
}

#[tokio::test]
async fn a_run_whose_traces_went_says_so_and_its_deliveries_still_add_up() {
    let scene = Scene::started(2, 1).await;
    let config = serde_json::json!({});
    for signal in Signal::ALL {
        scene.writer.register_destination(&scene.spec.run_id, "x", signal, &config).await.expect("registered");
    }
    for seq in 0..2 {
        scene.record(trial(seq, 0, 0, completed(Predicted::Label(Label::True)))).await;
    }
    scene.finish().await;
    let reader = scene.reader();
    let run = scene.run().number;
    let batch = reader.outbox_batch(run, "x", Signal::Traces, 3).expect("a batch");
    let ack = Ack {
        run,
        destination: "x".to_owned(),
        signal: Signal::Traces,
        cursor: batch.cursor,
        delivered: 3,
        rejected: 0,
        not_sampled: 0,
        duplicates: 0,
    };
    scene.writer.acknowledge(ack).await.expect("noted");
    let pinned = Retention { pinned_runs: [scene.spec.run_id.clone()].into(), ..of_age(1) };
    assert_eq!(scene.writer.prune(&pinned, START + 10 * DAY).await.expect("pruned").traces, 0);
    let pruned = scene.writer.prune(&of_age(1), START + 10 * DAY).await.expect("pruned");
    assert_eq!((pruned.traces, pruned.spans), (2, 6));

    let run = scene.run();
    assert_eq!((run.spans_created, run.spans_pruned, reader.spans_stored(&run).expect("a count")), (6, 6, 0));
    let verification = reader.verify(&run).expect("a verification");
    assert_eq!((verification.scores, verification.linked, verification.pruned), (4, 0, 4));
    assert!(verification.is_good());
    let rows = reader.cases(&run, None, None, None).expect("cases");
    assert!(rows.iter().all(|row| row.trace_id == Some(trace_id(2)) && row.scores.len() == 2));
    let counts = &reader.span_counts(&run).expect("counts")["x"];
    assert_eq!((counts.stored, counts.delivered, counts.pending), (3, 3, 0));
    let gone = reader.trace(&trace_id(2).to_string()).expect_err("it is gone");
    assert!(matches!(gone, StoreError::PrunedTrace { at_unix_nano, .. } if at_unix_nano == START + 10 * DAY), "{gone}");

    // A number of a trace is never given out again: trials refer to it.
    scene.writer.ingest(trace(1, START, 1)).await.expect("taken in");
    assert_eq!(reader.verify(&run).expect("a verification").pruned, 4);
    scene.writer.remove_run(&scene.spec.run_id).await.expect("removed");
    assert_eq!(reader.store_health().expect("counts").pruned_traces, 0);
}

#[tokio::test]
async fn a_store_that_is_too_large_shrinks_below_its_limit_while_others_write() {
    let scene = Scene::planned(0, 1).await;
    for n in 0..60 {
        // One of them is larger than a step.
        let spans = if n == 7 { 2 * STEP as u64 + 17 } else { 200 };
        scene.writer.ingest(trace(n, START + n, spans)).await.expect("taken in");
    }
    let reader = scene.reader();
    let size = reader.file_bytes().expect("a size");
    let limit = Retention { max_bytes: Some(size / 3), ..Retention::default() };
    let later = trace(100, START + 100, 5);
    let (pruned, taken) = futures::join!(scene.writer.prune(&limit, START), scene.writer.ingest(later));
    let (pruned, _) = (pruned.expect("pruned"), taken.expect("taken in"));
    let shrunk = reader.file_bytes().expect("a size");
    assert!(shrunk <= size / 3 && pruned.bytes > size / 2, "{shrunk} of {size}, {pruned:?}");
    let left = reader.traces(None, None, None).expect("traces");
    assert!(left.len() > 5, "no more went than had to");
    let ids: Vec<u64> = left.iter().map(|row| row.start_unix_nano - START).collect();
    assert!(ids.is_sorted_by(|a, b| a > b) && ids.first() == Some(&100), "the oldest went: {ids:?}");
    for row in &left {
        let spans = reader.trace(&row.trace_id.to_string()).expect("whole").spans.len();
        assert_eq!(spans as u64, row.operations);
    }
    assert!(matches!(
        reader.trace(&trace(7, START, 1)[0].spans[0].trace_id.to_string()),
        Err(StoreError::PrunedTrace { .. })
    ));
    // What is pruned may come again.
    let again = scene.writer.ingest(trace(7, START + 200, 1)).await.expect("taken in");
    assert_eq!(again.spans, 1);
    assert_eq!(reader.trace(&trace(7, START, 1)[0].spans[0].trace_id.to_string()).expect("it is there").spans.len(), 1);
}

#[tokio::test]
async fn a_part_of_a_trace_that_went_meanwhile_says_that_it_went() {
    let scene = Scene::planned(0, 1).await;
    let spans = trace(1, START, 3);
    let trace_id = spans[0].spans[0].trace_id;
    scene.writer.ingest(spans).await.expect("taken in");
    let reader = scene.reader();
    let part = reader.trace_parts(trace_id).expect("parts").of(false).remove(0);
    assert_eq!(reader.trace_part(&part).expect("a part")[0].spans.len(), 3);
    scene.writer.prune(&of_age(1), START + 10 * DAY).await.expect("pruned");
    let gone = reader.trace_part(&part).expect_err("it is gone");
    assert!(matches!(gone, StoreError::PrunedTrace { .. }), "{gone}");
}

#[tokio::test]
async fn a_trace_that_half_is_enough_of_goes_as_a_whole() {
    let scene = Scene::planned(0, 1).await;
    scene.writer.ingest(trace(1, START, 2 * STEP as u64 + 17)).await.expect("taken in");
    scene.writer.ingest(trace(2, START + 1, 5)).await.expect("taken in");
    let reader = scene.reader();
    let limit = Retention { max_bytes: Some(reader.file_bytes().expect("a size") / 10 * 9), ..Retention::default() };
    let pruned = scene.writer.prune(&limit, START).await.expect("pruned");
    assert_eq!((pruned.traces, pruned.spans), (1, 2 * STEP as u64 + 17));
    assert_eq!(reader.store_health().expect("counts").spans, 5);
}

#[tokio::test]
async fn log_records_without_a_trace_go_when_they_are_too_old() {
    let scene = Scene::planned(0, 1).await;
    let log = |days: u64| LogRecord {
        time_unix_nano: START + days * DAY,
        trace_id: None,
        span_id: None,
        ..match trial(0, 0, 0, completed(Predicted::Unparseable)) {
            RunEvent::TrialFinished { logs, .. } => logs[0].clone(),
            other => panic!("{other:?}"),
        }
    };
    // The first is from a clock that runs ahead.
    for days in [9, 1, 2, 8] {
        let telemetry = Telemetry { origin: Arc::new(Origin::default()), spans: vec![], logs: vec![log(days)] };
        scene.writer.ingest(vec![telemetry]).await.expect("taken in");
    }
    let now = START + 10 * DAY;
    scene.writer.prune(&of_age(20), now).await.expect("pruned");
    assert_eq!(scene.reader().store_health().expect("counts").log_records, 4);
    scene.writer.prune(&of_age(5), now).await.expect("pruned");
    assert_eq!(scene.reader().store_health().expect("counts").log_records, 2);
}

#[tokio::test]
async fn traces_of_a_run_that_is_being_taken_in_stay() {
    let scene = Scene::started(1, 1).await;
    scene.finish().await;
    scene.tamper("UPDATE run SET spec = NULL");
    assert_eq!(scene.writer.prune(&of_age(1), START + 10 * DAY).await.expect("pruned").traces, 0);
}

#[tokio::test]
async fn traces_of_a_run_at_work_stay() {
    let scene = Scene::started(1, 1).await;
    let lock = scene.store.lock_run(&scene.spec.run_id).expect("a lock");
    assert_eq!(scene.writer.prune(&of_age(1), START + 10 * DAY).await.expect("pruned").traces, 0);
    scene.record(RunEvent::BatchFinished { root: Box::new(ended(batch_root(2), 5)) }).await;
    assert_eq!(scene.writer.prune(&of_age(1), START + 10 * DAY).await.expect("pruned").traces, 0);
    drop(lock);
    assert_eq!(scene.writer.prune(&of_age(1), START + 10 * DAY).await.expect("pruned").traces, 2);
    let _ = session_root(1);
}
