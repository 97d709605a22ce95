//! The fixture's run taken through a real store: what is read back gives the report of the facts that went in.

use std::collections::BTreeMap;

use crate::model::{
    Case, CaseId, Digest, EvaluatorId, Failure, Finite, Label, LogRecord, Outcome, RunEvent, RunStatus, Score, Span,
    Trial,
};
use crate::store::rows::{OutcomeKind, ScoreFact, TrialFacts};
use crate::store::{Reader, Store};
use crate::trace::semconv;

use super::collect::Collector;
use super::{build, document, documents, fixture, lists};

fn case(seq: u64) -> Case {
    Case {
        seq,
        id: CaseId::parse(format!("claims-{:03}", seq + 1)).expect("valid"),
        claim: format!("Claim {seq}."),
        context: "A context.".to_owned(),
        expected: Some(Label::ALL[seq as usize % 3]),
        group: None,
        columns: Vec::new(),
        digest: Digest::from_bytes([seq as u8; 32]),
    }
}

/// The trial of a fact, and its ended spans.
fn trial(facts: &TrialFacts, spec: &crate::model::RunSpec, batch: &Span) -> (Trial, Vec<Span>) {
    let end = fixture::START + 1_000_000_000;
    let ids = [1, 2].map(|n| crate::model::SpanId::from_bytes([n, 0, 0, 0, 0, 0, 0, facts.key.seq as u8]));
    let mut assess = Span::open(batch.trace_id, ids[0], Some(batch.span_id), "assess_claim", fixture::START);
    let mut chat = Span::open(batch.trace_id, ids[1], Some(ids[0]), "chat", fixture::START);
    (assess.end_unix_nano, chat.end_unix_nano) = (end, end);
    assess.set(semconv::TEST_CASE_ID, case(facts.key.seq).id.as_str().to_owned());
    assess.set(semconv::SPANSCORE_TRIAL_REPEAT, i64::from(facts.key.repeat));
    let mut scores = Vec::new();
    for (evaluator, fact) in spec.evaluators.iter().zip(&facts.scores) {
        let id: &EvaluatorId = &evaluator.id;
        let evaluation = match fact {
            Some(ScoreFact::Scored { value, label }) => {
                if let Some(value) = value {
                    assess.set(semconv::score_key(id.as_str()), *value);
                }
                if let Some(label) = label {
                    assess.set(semconv::label_key(id.as_str()), label.clone());
                }
                crate::model::Evaluation::category(label.clone().unwrap_or_default(), value.and_then(Finite::new))
            }
            _ => crate::model::Evaluation::skipped("no answer"),
        };
        scores.push(Score { evaluator: id.clone(), version: evaluator.version.clone(), evaluation });
    }
    let outcome = match facts.outcome {
        OutcomeKind::Completed(predicted) => Outcome::Completed { predicted },
        _ => Outcome::Failed(Failure { error_type: "429".to_owned(), message: "rate limit reached".to_owned() }),
    };
    let trial = Trial {
        key: facts.key,
        case_id: case(facts.key.seq).id,
        outcome,
        scores,
        raw_output: Some("True".to_owned()),
        attempts: facts.attempts,
        latency_ns: facts.latency_ns,
        started_unix_nano: fixture::START,
        usage: facts.usage,
        cost_usd: facts.cost_usd,
        finish_reason: Some("stop".to_owned()),
        response_id: None,
        response_model: None,
        system_fingerprint: None,
        cached: false,
        trace_id: batch.trace_id,
        span_id: ids[0],
        chat_span_id: Some(ids[1]),
    };
    (trial, vec![chat, assess])
}

/// Records the fixture's run: thirty cases planned, 29 tried.
async fn record(store: &Store) {
    let writer = store.writer().expect("a writer");
    let spec = fixture::run().spec;
    let mut planner = writer.plan(&spec.run_id);
    let planned = spec.clone();
    tokio::task::spawn_blocking(move || {
        for seq in 0..planned.dataset.cases {
            planner.add(&case(seq)).expect("planned");
        }
        planner.finish(&planned).expect("planned");
    })
    .await
    .expect("no panic");
    let open = |trace: u8, name| {
        let id = crate::model::TraceId::from_bytes([trace; 16]);
        Span::open(id, fixture::span_id(trace), None, name, fixture::START)
    };
    let ended = |mut span: Span| {
        span.end_unix_nano = fixture::START + 2_500_000_000;
        Box::new(span)
    };
    let (session, batch) = (open(1, "evaluation_run"), open(2, "assess_claims_with_context"));
    let mut events = vec![
        RunEvent::SessionStarted { spec: Box::new(spec.clone()), root: Box::new(session.clone()) },
        RunEvent::BatchStarted { root: Box::new(batch.clone()) },
    ];
    for facts in fixture::facts() {
        let (trial, spans) = trial(&facts, &spec, &batch);
        events.push(RunEvent::TrialFinished { trial: Box::new(trial), spans, logs: Vec::<LogRecord>::new() });
    }
    events.push(RunEvent::BatchFinished { root: ended(batch) });
    events.push(RunEvent::SessionFinished {
        status: RunStatus::Incomplete,
        root: ended(session),
        ended_unix_nano: fixture::START + 2_500_000_000,
    });
    for event in events {
        writer.record(event).await.expect("recorded");
    }
    writer.close().await.expect("closed");
}

async fn stored() -> (tempfile::TempDir, Reader) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("a store");
    record(&store).await;
    let reader = store.reader().expect("a reader");
    (dir, reader)
}

#[tokio::test]
async fn the_store_gives_the_report_of_the_facts_that_went_in() {
    let (_dir, reader) = stored().await;
    let run = reader.resolve_run("latest").expect("the run");
    let found = build(&reader, &run, false).expect("a report");
    let mut collector = Collector::new(&run.spec);
    for facts in fixture::facts() {
        collector.add(&facts);
    }
    let rest = document::Rest {
        lowest: reader.lowest(&run, document::LOWEST).expect("cases"),
        errors: BTreeMap::from([("429".to_owned(), 1)]),
        spans_stored: 2 + 2 * 29,
        ..document::Rest::default()
    };
    assert_eq!(found, document::assemble(&run, collector.finish(), rest));
    assert_eq!((found.spans.created, found.spans.stored, found.run.duration_s), (60, 60, 2.5));
    // The failed one, the unparseable one, then the wrong ones in their order, then right ones.
    let lowest: Vec<&str> = found.lowest.iter().map(|case| case.case_id.as_str()).collect();
    assert_eq!(lowest[..5], ["claims-029", "claims-010", "claims-005", "claims-021", "claims-001"]);
}

#[tokio::test]
async fn lists_and_verification_read_the_same_run() {
    let (_dir, reader) = stored().await;
    let run = reader.resolve_run("nightly").expect("the run");
    let rows = reader.cases(&run, None, None, None).expect("cases");
    let cases = documents::cases(&rows);
    assert_eq!((cases.len(), cases[0].error.as_deref(), cases[29].status), (30, Some("429"), "planned"));
    let trace = reader.trace("0202").expect("the batch's trace");
    assert_eq!((trace.spans.len(), trace.scores.len()), (59, 29));
    let found = reader.verify(&run).expect("verified");
    let shown = lists::verification(&run.spec.run_id, &found, crate::report::Style::plain(100));
    assert_eq!(shown, "✓ 20261122-154501-3f9a2c: 58 of 58 scores are linked to a span that carries them\n");
}
