//! Runs made up for the tests of this module's parts.

use std::path::PathBuf;

use tempfile::TempDir;

use super::{Reader, Store, Writer};
use crate::model::{
    Case, CaseId, DatasetRef, Digest, Direction, Evaluation, EvaluatorId, EvaluatorKind, EvaluatorSpec, Failure, Label,
    LogRecord, Outcome, Predicted, RunEvent, RunId, RunSpec, RunStatus, Score, Span, SpanId, SpanKind, TraceId, Trial,
    TrialKey, Usage, Value,
};
use crate::store::rows::RunRow;
use crate::trace::semconv;

/// When made-up runs start.
pub(crate) const START: u64 = 1_790_000_000_000_000_000;

/// A store in a directory that goes away with it.
pub(crate) struct Scene {
    pub(crate) _dir: TempDir,
    pub(crate) store: Store,
    pub(crate) writer: Writer,
    pub(crate) spec: RunSpec,
}

impl Scene {
    /// A store with a planned run of so many cases and repeats.
    pub(crate) async fn planned(cases: u64, repeat: u32) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("store")).expect("a new store");
        let writer = store.writer().expect("a writer");
        let spec = spec("20260922-120000-00000a", cases, repeat);
        plan(&writer, &spec).await;
        Self { _dir: dir, store, writer, spec }
    }

    /// The same with its first session and batch open.
    pub(crate) async fn started(cases: u64, repeat: u32) -> Self {
        let scene = Self::planned(cases, repeat).await;
        scene.start_session(1).await;
        scene.record(RunEvent::BatchStarted { root: Box::new(batch_root(2)) }).await;
        scene
    }

    pub(crate) async fn start_session(&self, trace: u8) {
        let root = Box::new(session_root(trace));
        self.record(RunEvent::SessionStarted { spec: Box::new(self.spec.clone()), root }).await;
    }

    pub(crate) async fn record(&self, event: RunEvent) {
        self.writer.record(event).await.expect("the event is recorded");
    }

    /// Ends batch and session.
    pub(crate) async fn finish(&self) {
        self.record(RunEvent::BatchFinished { root: Box::new(ended(batch_root(2), 900)) }).await;
        self.record(RunEvent::SessionFinished {
            status: RunStatus::Completed,
            root: Box::new(ended(session_root(1), 1000)),
            ended_unix_nano: START + 1000,
        })
        .await;
    }

    pub(crate) fn reader(&self) -> Reader {
        self.store.reader().expect("a reader")
    }

    pub(crate) fn run(&self) -> RunRow {
        self.reader().resolve_run("latest").expect("the run")
    }

    /// A connection to tamper with.
    pub(crate) fn tamper(&self, sql: &str) -> usize {
        let conn = rusqlite::Connection::open(self.store.path()).expect("the file");
        conn.busy_timeout(std::time::Duration::from_secs(5)).expect("a timeout");
        conn.execute(sql, []).expect(sql)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.store.path().to_owned()
    }
}

pub(crate) async fn plan(writer: &Writer, spec: &RunSpec) {
    let (writer, spec) = (writer.clone(), spec.clone());
    tokio::task::spawn_blocking(move || {
        let mut planner = writer.plan(&spec.run_id);
        for seq in 0..spec.dataset.cases {
            planner.add(&case(seq)).expect("a case");
        }
        planner.finish(&spec).expect("a plan");
    })
    .await
    .expect("it does not panic");
}

pub(crate) fn evaluator(id: &str) -> EvaluatorId {
    EvaluatorId::parse(id).expect("an evaluator id")
}

pub(crate) fn spec(run_id: &str, cases: u64, repeat: u32) -> RunSpec {
    let evaluators = ["label_match", "valid_label"].map(|id| EvaluatorSpec {
        id: evaluator(id),
        description: String::new(),
        version: "1".to_owned(),
        kind: EvaluatorKind::Assertion,
        direction: Direction::Higher,
        threshold: None,
        unit: "1".to_owned(),
        digest: Digest::from_bytes([3; 32]),
    });
    RunSpec {
        run_id: RunId::parse(run_id).expect("a run id"),
        name: "demo".to_owned(),
        suite: "claims-demo".to_owned(),
        workflow: semconv::span::ASSESS_CLAIMS_WITH_CONTEXT.to_owned(),
        model: "lexical-baseline".to_owned(),
        provider: "builtin".to_owned(),
        dataset: DatasetRef { name: "claims".to_owned(), digest: Digest::from_bytes([1; 32]), cases },
        repeat,
        prompt_digest: Digest::from_bytes([2; 32]),
        model_digest: Digest::from_bytes([2; 32]),
        evaluators: evaluators.into(),
        primary: evaluator("label_match"),
        started_unix_nano: START,
        git: None,
        tags: [("branch".to_owned(), "main".to_owned())].into(),
        trace_url: None,
        config: serde_json::json!({ "dataset": "claims.csv" }),
        resource: vec![
            (semconv::SERVICE_NAME.into(), "spanscore".into()),
            ("odd".into(), Value::Array(vec![Value::Double(f64::NAN), Value::Bytes(vec![0, 255])])),
        ],
    }
}

pub(crate) fn case(seq: u64) -> Case {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&seq.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Case {
        seq,
        id: case_id(seq),
        claim: format!("Claim {seq} mentions a receptor."),
        context: format!("Context {seq}. ").repeat(40),
        expected: Some(Label::ALL[(seq % 3) as usize]),
        group: Some(format!("group-{}", seq / 2)),
        columns: vec![("year".to_owned(), (2000 + seq).to_string())],
        digest: Digest::from_bytes(digest),
    }
}

pub(crate) fn case_id(seq: u64) -> CaseId {
    CaseId::parse(format!("case-{seq}")).expect("a case id")
}

pub(crate) fn trace_id(n: u8) -> TraceId {
    TraceId::from_bytes([n; 16])
}

pub(crate) fn session_root(trace: u8) -> Span {
    Span::open(trace_id(trace), SpanId::from_bytes([trace; 8]), None, semconv::span::EVALUATION_RUN, START)
}

pub(crate) fn batch_root(trace: u8) -> Span {
    let id = SpanId::from_bytes([trace; 8]);
    Span::open(trace_id(trace), id, None, semconv::span::ASSESS_CLAIMS_WITH_CONTEXT, START + 1)
}

/// The span, ended so many nanoseconds after [`START`].
pub(crate) fn ended(mut span: Span, after: u64) -> Span {
    span.end_unix_nano = START + after;
    span
}

/// The ids of a trial's `assess_claim` and `chat` spans; `attempt` tells a trial from its retry.
pub(crate) fn span_ids(key: TrialKey, attempt: u8) -> (SpanId, SpanId) {
    let id = |kind: u8| {
        let n = (key.seq as u32).to_be_bytes();
        SpanId::from_bytes([kind, attempt, n[0], n[1], n[2], n[3], key.repeat as u8, 1])
    };
    (id(0xa0), id(0xc0))
}

pub(crate) fn completed(predicted: Predicted) -> Outcome {
    Outcome::Completed { predicted }
}

pub(crate) fn failed() -> Outcome {
    Outcome::Failed(Failure { error_type: "429".to_owned(), message: "too many requests".to_owned() })
}

/// A trial's event in the batch of trace 2: two spans, two scores, two log records.
pub(crate) fn trial(seq: u64, repeat: u32, attempt: u8, outcome: Outcome) -> RunEvent {
    let key = TrialKey { seq, repeat };
    let (span_id, chat_id) = span_ids(key, attempt);
    let case = case(seq);
    let scores: Vec<Score> = [
        (
            "label_match",
            match outcome.predicted() {
                Some(predicted) => {
                    Evaluation::assertion(predicted.label() == case.expected).because(format!("answered {predicted}"))
                }
                None => Evaluation::skipped("there is no answer"),
            },
        ),
        (
            "valid_label",
            match outcome.predicted() {
                Some(Predicted::Label(_)) => Evaluation::assertion(true),
                Some(Predicted::Unparseable) => Evaluation::assertion(false),
                None => {
                    Evaluation::Failed { error_type: "_OTHER".to_owned(), message: "nothing to look at".to_owned() }
                }
            },
        ),
    ]
    .map(|(id, evaluation)| Score { evaluator: evaluator(id), version: "1".to_owned(), evaluation })
    .into();
    let at = START + 10 + seq;
    let mut chat = Span::open(trace_id(2), chat_id, Some(span_id), "chat lexical-baseline", at);
    chat.kind = SpanKind::Client;
    chat.end_unix_nano = at + 5;
    chat.set(semconv::GEN_AI_RESPONSE_MODEL, "lexical-baseline");
    let mut claim = Span::open(trace_id(2), span_id, Some(batch_root(2).span_id), semconv::span::ASSESS_CLAIM, at);
    claim.end_unix_nano = at + 6;
    claim.set(semconv::TEST_CASE_ID, case.id.as_str().to_owned());
    claim.set(semconv::SPANSCORE_TRIAL_REPEAT, i64::from(key.repeat));
    for score in &scores {
        if let Some(value) = score.evaluation.value() {
            claim.set(semconv::score_key(score.evaluator.as_str()), value);
        }
        if let Some(label) = score.evaluation.label() {
            claim.set(semconv::label_key(score.evaluator.as_str()), label.to_owned());
        }
    }
    if let Outcome::Failed(failure) = &outcome {
        chat.status = crate::model::Status::Error(failure.message.clone());
        chat.set(semconv::ERROR_TYPE, failure.error_type.clone());
    }
    let logs = scores
        .iter()
        .map(|score| LogRecord {
            time_unix_nano: at,
            observed_unix_nano: at,
            severity_number: 9,
            severity_text: String::new(),
            event_name: semconv::event::EVALUATION_RESULT.into(),
            body: Value::Empty,
            attributes: vec![(
                semconv::GEN_AI_EVALUATION_NAME.into(),
                Value::from(score.evaluator.as_str().to_owned()),
            )],
            dropped_attributes_count: 0,
            flags: 1,
            trace_id: Some(trace_id(2)),
            span_id: Some(chat_id),
        })
        .collect();
    let trial = Trial {
        key,
        case_id: case.id,
        raw_output: outcome.predicted().map(|p| format!("{p}.")),
        outcome,
        scores,
        attempts: 1 + u32::from(attempt),
        latency_ns: 1_000_000 * (seq + 1),
        started_unix_nano: at,
        usage: Usage { input_tokens: Some(100 + seq), output_tokens: Some(1), ..Usage::default() },
        cost_usd: Some(0.25),
        finish_reason: Some("stop".to_owned()),
        response_id: Some(format!("chatcmpl-{seq}")),
        response_model: Some("lexical-baseline".to_owned()),
        system_fingerprint: None,
        cached: false,
        trace_id: trace_id(2),
        span_id,
        chat_span_id: Some(chat_id),
    };
    RunEvent::TrialFinished { trial: Box::new(trial), spans: vec![chat, claim], logs }
}
