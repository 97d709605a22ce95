//! A small run and a small trace, made by hand, for the tests of this module.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::compare::comparison::{Better, CaseChange, CaseCounts, CaseSide, Cases, Change, Comparison, Metric};
use crate::compare::gate::{GateMetric, GateReport, MustPass, Policy, Verdict};
use crate::compare::operand::{Difference, Operand, OperandDataset, OperandKind, OperandRun};
use crate::compare::trend::{Trend, TrendChange, TrendPoint};
use crate::model::{
    CaseId, DatasetRef, Digest, Direction, Evaluation, EvaluatorId, EvaluatorKind, EvaluatorSpec, Failure, GitRevision,
    Label, Origin, Outcome, Predicted, RunId, RunSpec, RunStatus, Span, SpanId, SpanKind, Status, TraceId, TrialKey,
    Usage,
};
use crate::store::rows::{
    CaseRow, OutcomeKind, RunRow, ScoreFact, SpanScore, TraceDetail, TraceRow, TrialCounts, TrialFacts,
};
use crate::trace::semconv;

use super::collect::Collector;
use super::document::{Exported, Report, Rest, assemble};

pub(super) const START: u64 = 1_795_362_301_000_000_000;

pub(super) fn evaluator(id: &str) -> EvaluatorId {
    EvaluatorId::parse(id).expect("valid")
}

fn spec() -> RunSpec {
    let evaluator_spec = |id: &str, kind| EvaluatorSpec {
        id: evaluator(id),
        version: "1".to_owned(),
        description: String::new(),
        kind,
        direction: Direction::Higher,
        threshold: None,
        unit: "1".to_owned(),
        digest: Digest::from_bytes([3; 32]),
    };
    RunSpec {
        run_id: RunId::parse("20261122-154501-3f9a2c").expect("valid"),
        name: "nightly".to_owned(),
        suite: "claims-demo".to_owned(),
        workflow: "assess_claims_with_context".to_owned(),
        model: "lexical-baseline".to_owned(),
        provider: "builtin".to_owned(),
        dataset: DatasetRef { name: "claims".to_owned(), digest: Digest::from_bytes([0xab; 32]), cases: 30 },
        repeat: 1,
        prompt_digest: Digest::from_bytes([1; 32]),
        model_digest: Digest::from_bytes([2; 32]),
        evaluators: vec![
            evaluator_spec("label_match", EvaluatorKind::Assertion),
            evaluator_spec("tone", EvaluatorKind::Label),
        ],
        primary: evaluator("label_match"),
        started_unix_nano: START,
        git: Some(GitRevision { revision: "0123456789abcdef0123456789abcdef01234567".to_owned(), dirty: true }),
        tags: BTreeMap::from([("branch".to_owned(), "main".to_owned())]),
        trace_url: Some("https://jaeger.example/trace/{trace_id}?span={span_id}&t={start_unix_ms}".to_owned()),
        config: serde_json::Value::Null,
        resource: Vec::new(),
    }
}

/// A run of thirty cases: one failed, one without an outcome.
pub(super) fn run() -> RunRow {
    RunRow {
        number: 1,
        spec: spec(),
        status: RunStatus::Incomplete,
        ended_unix_nano: Some(START + 2_500_000_000),
        active_ns: 2_500_000_000,
        spans_created: 62,
        spans_pruned: 0,
        counts: TrialCounts { completed: 28, failed: 1, skipped: 0 },
    }
}

/// The fact of one trial; `None` for a failed one.
pub(super) fn fact(seq: u64, expected: Label, predicted: Option<Predicted>) -> TrialFacts {
    let right = predicted == Some(Predicted::Label(expected));
    let scored =
        |value: f64, label: &str| Some(ScoreFact::Scored { value: Some(value), label: Some(label.to_owned()) });
    let scores = match predicted {
        Some(_) => vec![
            if right { scored(1.0, "pass") } else { scored(0.0, "fail") },
            Some(ScoreFact::Scored { value: None, label: Some("calm".to_owned()) }),
        ],
        None => vec![Some(ScoreFact::Skipped), Some(ScoreFact::Skipped)],
    };
    TrialFacts {
        key: TrialKey { seq, repeat: 0 },
        expected: Some(expected),
        outcome: predicted.map_or(OutcomeKind::Failed, OutcomeKind::Completed),
        group: None,
        latency_ns: (seq + 1) * 1_000_000,
        usage: Usage { input_tokens: Some(100), output_tokens: predicted.map(|_| 2), ..Usage::default() },
        cost_usd: predicted.map(|_| 0.000_25),
        attempts: 1,
        scores,
    }
}

pub(super) fn facts() -> Vec<TrialFacts> {
    let mut facts: Vec<TrialFacts> = (0..28)
        .map(|seq| {
            let expected = Label::ALL[seq as usize % 3];
            let predicted = match seq {
                4 => Predicted::Label(Label::Nee),
                9 => Predicted::Unparseable,
                20 => Predicted::Label(Label::True),
                _ => Predicted::Label(expected),
            };
            fact(seq, expected, Some(predicted))
        })
        .collect();
    facts.push(fact(28, Label::False, None));
    facts
}

pub(super) fn trace_id() -> TraceId {
    "0af7651916cd43dd8448eb211c80319c".parse().expect("valid")
}

pub(super) fn span_id(n: u8) -> SpanId {
    SpanId::from_bytes([0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, n])
}

/// A failed case and one with a hostile claim.
pub(super) fn low_rows() -> Vec<CaseRow> {
    let row = |id: &str, seq, claim: &str, outcome| CaseRow {
        run_id: spec().run_id,
        run_started_unix_nano: START,
        key: TrialKey { seq, repeat: 0 },
        case_id: CaseId::parse(id).expect("valid"),
        group: Some("bio-01".to_owned()),
        claim: claim.to_owned(),
        context: "A context that says\nsomething else.".to_owned(),
        columns: vec![("field".to_owned(), "biology".to_owned())],
        expected: Some(Label::False),
        outcome: Some(outcome),
        raw_output: Some("NEE".to_owned()),
        external: BTreeMap::new(),
        scores: BTreeMap::from([(evaluator("label_match"), Evaluation::assertion(false).because("expected False"))]),
        started_unix_nano: START,
        latency_ns: 5_000_000,
        usage: Usage { input_tokens: Some(100), output_tokens: Some(2), ..Usage::default() },
        cost_usd: None,
        attempts: 1,
        finish_reason: Some("stop".to_owned()),
        response_model: None,
        response_id: None,
        cached: false,
        trace_id: Some(trace_id()),
        span_id: Some(span_id(1)),
    };
    let failure = Failure { error_type: "429".to_owned(), message: "rate limit reached".to_owned() };
    let mut failed = row("claims-029", 28, "A claim that nobody answered.", Outcome::Failed(failure));
    failed.scores = BTreeMap::from([(evaluator("label_match"), Evaluation::skipped("no answer"))]);
    let claim = "Red \u{1b}[31mcells\u{202e} generate most of their ATP by oxidative phosphorylation in mitochondria.";
    vec![row("claims-005", 4, claim, Outcome::Completed { predicted: Predicted::Label(Label::Nee) }), failed]
}

pub(super) fn report() -> Report {
    let mut collector = Collector::new(&spec());
    for facts in facts() {
        collector.add(&facts);
    }
    let exported = Exported { delivered: 50, pending: 12, ..Exported::default() };
    let rest = Rest {
        live: false,
        lowest: low_rows(),
        errors: BTreeMap::from([("429".to_owned(), 1)]),
        spans_stored: 62,
        exported: BTreeMap::from([("otlp".to_owned(), exported)]),
        scores: BTreeMap::new(),
    };
    assemble(&run(), collector.finish(), rest)
}

/// A batch of two claims: one answered, one failed; an orphan, and a span that is open.
pub(super) fn trace() -> TraceDetail {
    let ms = 1_000_000;
    let span = |n: u8, parent: Option<u8>, name: &'static str, from: u64, to: u64| {
        let mut span = Span::open(trace_id(), span_id(n), parent.map(span_id), name, START + from * ms);
        span.end_unix_nano = if to == 0 { 0 } else { START + to * ms };
        span
    };
    let mut chat = span(3, Some(2), "chat lexical-baseline", 12, 40);
    chat.kind = SpanKind::Client;
    chat.set(semconv::GEN_AI_REQUEST_MODEL, "lexical-baseline");
    chat.set(semconv::GEN_AI_USAGE_INPUT_TOKENS, 100i64);
    chat.set("note", "two\nlines \u{1b}[2J");
    let mut failed = span(5, Some(4), "chat lexical-baseline", 60, 95);
    failed.status = Status::Error("429 rate limit reached".to_owned());
    failed.add_event(semconv::event::ATTEMPT_FAILED, START + 70 * ms, vec![(semconv::ERROR_TYPE.into(), "429".into())]);
    let mut assess = span(4, Some(1), "assess_claim", 50, 97);
    assess.status = Status::Error(String::new());
    let mut answered = span(2, Some(1), "assess_claim", 10, 45);
    answered.set(semconv::TEST_CASE_ID, "claims-001");
    let spans = vec![
        span(1, None, "assess_claims_with_context", 0, 100),
        answered,
        chat,
        assess,
        failed,
        span(7, Some(99), "stray", 80, 120),
        span(8, Some(1), "late", 90, 0),
    ];
    let score = SpanScore {
        name: "label_match".to_owned(),
        evaluation: Evaluation::assertion(true).because("True as expected"),
        annotator_kind: Some(semconv::ANNOTATOR_CODE.to_owned()),
        identifier: Some("label_match@1".to_owned()),
        evaluator_span: None,
        external: false,
    };
    let origin = Origin { resource: vec![(semconv::SERVICE_NAME.into(), "spanscore".into())], ..Origin::default() };
    TraceDetail {
        row: TraceRow {
            trace_id: trace_id(),
            start_unix_nano: START,
            duration_ns: 120 * ms,
            error: true,
            errors: 2,
            operations: 7,
            root: "assess_claims_with_context".to_owned(),
            service: Some("spanscore".to_owned()),
            scores: BTreeMap::from([("label_match".to_owned(), 1.0)]),
            tokens: None,
            run_id: Some(spec().run_id),
            case_ids: Vec::new(),
        },
        origin_of: vec![0; spans.len()],
        spans,
        origins: vec![Arc::new(origin)],
        logs: Vec::new(),
        scores: BTreeMap::from([(span_id(2), vec![score])]),
    }
}

fn place(n: u8) -> (Option<TraceId>, Option<SpanId>) {
    (Some(trace_id()), Some(span_id(n)))
}

fn side(outputs: &[&str], value: f64, n: u8) -> CaseSide {
    let (trace_id, span_id) = place(n);
    CaseSide {
        outputs: outputs.iter().map(|output| (*output).to_owned()).collect(),
        scores: BTreeMap::from([("label_match".to_owned(), Some(value))]),
        latency_ms: Some(12.0),
        run_id: Some(spec().run_id),
        trace_id,
        span_id,
    }
}

fn operand(name: &str, kind: OperandKind, runs: usize) -> Operand {
    let run = |n: usize| OperandRun {
        id: format!("2026112{n}-154501-3f9a2c"),
        name: format!("night {n}"),
        started_at: format!("2026-11-2{n}T15:45:01.000000000Z"),
        git: None,
    };
    Operand {
        kind,
        name: name.to_owned(),
        runs: (0..runs).map(run).collect(),
        suite: "claims-demo".to_owned(),
        dataset: OperandDataset { name: "claims".to_owned(), digest: "ab".repeat(32), cases: 30 },
        model: "lexical-baseline".to_owned(),
        provider: "builtin".to_owned(),
        trials_per_case: runs as u32,
        trials: 30 * runs as u64,
        errors: 1,
        ..Operand::default()
    }
}

fn counts() -> CaseCounts {
    CaseCounts { regressed: 2, improved: 1, unchanged: 24, lost: 1, gained: 0, unscored: 1 }
}

fn differs() -> Vec<Difference> {
    vec![Difference {
        what: "prompt".to_owned(),
        base: Some("49f4793aed62".to_owned()),
        head: Some("<b>0c11</b>".to_owned()),
        refused_as: None,
    }]
}

fn regressed() -> Vec<CaseChange> {
    vec![CaseChange {
        case_id: "claims-005".to_owned(),
        group: None,
        expected: Some("False".to_owned()),
        claim: Some("Red <script>alert(1)</script> cells | @team \u{202e}#12".to_owned()),
        delta: Some(-1.0),
        base: side(&["False", "False", "NEE"], 2.0 / 3.0, 1),
        head: side(&["NEE"], 0.0, 2),
    }]
}

/// A comparison in which one metric is clearly worse.
pub(super) fn comparison() -> Comparison {
    let metric = |name: &str, unit: &str, base, head, ci95, change| Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        base: Some(base),
        head: Some(head),
        delta: Some(head - base),
        ci95: Some(ci95),
        p_value: Some(0.0123),
        method: "McNemar, exact; Tango".to_owned(),
        discordant: Some([2, 1]),
        n: 28,
        change,
        ..Metric::default()
    };
    Comparison {
        base: operand("baseline.json", OperandKind::Baseline, 3),
        head: operand("nightly", OperandKind::Run, 1),
        differs: differs(),
        pairs: 28,
        metrics: vec![
            metric("accuracy", "1", 0.93, 0.89, [-0.08, -0.01], Some(Change::Worse)),
            metric("latency_p95_ms", "ms", 812.0, 790.0, [-60.0, 12.0], None),
        ],
        transitions: vec![vec![9, 0, 1, 0, 0], vec![0, 8, 1, 0, 1], vec![1, 0, 7, 0, 0], vec![0; 5], vec![0; 5]],
        transition_labels: ["True", "False", "NEE", "unparseable", "failed"].map(str::to_owned).to_vec(),
        cases: Cases { by: "label_match".to_owned(), counts: counts(), regressed: regressed(), ..Cases::default() },
        ..Comparison::default()
    }
}

/// A verdict: one metric failed, one is undecided.
pub(super) fn gate() -> GateReport {
    let metric = |name: &str, verdict, damage: [f64; 2]| GateMetric {
        name: name.to_owned(),
        direction: Better::Higher,
        unit: "1".to_owned(),
        base: Some(0.93),
        head: Some(0.89),
        delta: Some(-0.04),
        ci95: Some([-0.08, -0.01]),
        p_value: Some(0.001),
        method: "Tango".to_owned(),
        discordant: Some([2, 1]),
        n: 28,
        missing: 0,
        partly_missing: 0,
        clusters: None,
        bounds: None,
        warnings: Vec::new(),
        margin: 0.02,
        verdict,
        damage: Some(damage.map(Some)),
        alpha: Some([0.0125, 0.0125]),
        p_fail: Some(0.001),
        p_pass: Some(0.9),
        effective_n: None,
        reasons: Vec::new(),
        more_cases_needed: None,
    };
    GateReport {
        verdict: Verdict::Fail,
        reasons: vec![
            "accuracy is worse by 0.030 to 0.080, more than the margin of 0.020".to_owned(),
            "macro_f1 is undecided".to_owned(),
        ],
        metrics: vec![
            metric("accuracy", Verdict::Fail, [0.03, 0.08]),
            metric("macro_f1", Verdict::Inconclusive, [-0.01, 0.05]),
        ],
        must_pass: MustPass::default(),
        more_cases_needed: Some(120),
        base: Some(operand("baseline.json", OperandKind::Baseline, 3)),
        head: operand("nightly", OperandKind::Run, 1),
        differs: differs(),
        pairs: 28,
        coverage: Some(0.9333),
        counts: counts(),
        regressed: regressed(),
        improved: Vec::new(),
        policy: Policy::default(),
        baseline: "reports/baseline.json".to_owned(),
        baseline_digest: Some("cd".repeat(32)),
        self_check: None,
    }
}

/// Five nights with a change of level at the fourth.
pub(super) fn trend() -> Trend {
    let points = [0.93, 0.94, 0.92, 0.81, 0.8].iter().enumerate().map(|(n, mean)| TrendPoint {
        run_id: format!("2026112{n}-154501-3f9a2c"),
        name: format!("night {n}"),
        started_at: format!("2026-11-2{n}T15:45:01.000000000Z"),
        mean: Some(*mean),
        ci95: Some([mean - 0.04, mean + 0.03]),
        n: 30,
        verdict: Some(if *mean < 0.9 { "FAIL" } else { "PASS" }.to_owned()),
        changed: Vec::new(),
    });
    Trend {
        score: "label_match".to_owned(),
        suite: "claims-demo".to_owned(),
        points: points.collect(),
        changes: vec![TrendChange {
            at_run: "20261123-154501-3f9a2c".to_owned(),
            index: 3,
            before: 0.93,
            after: 0.805,
            p_value: 0.004,
            annotations: differs(),
        }],
        ..Trend::default()
    }
}
