//! What the gate says of sides made up for it.

use super::*;
use crate::compare::testing::answered;

fn policy(margin: f64, horizon: u32) -> Policy {
    Policy { metrics: [("accuracy".to_owned(), margin)].into(), horizon, ..Policy::default() }
}

fn verdict(base: &Side, head: &Side, policy: &Policy) -> Verdict {
    let evaluators = [(EvaluatorId::parse("label_match").expect("an id"), EvaluatorKind::Assertion)];
    check(policy, &evaluators).expect("a policy");
    judge(base, head, policy, &Past::default()).verdict
}

#[test]
fn nothing_changed_passes_from_as_many_cases_as_the_margin_needs() {
    for (n, margin, horizon, wanted) in [
        (189, 0.02, 1, Verdict::Pass),
        (188, 0.02, 1, Verdict::Inconclusive),
        (73, 0.05, 1, Verdict::Pass),
        (72, 0.05, 1, Verdict::Inconclusive),
        (189, 0.02, 30, Verdict::Inconclusive),
    ] {
        let side = answered(n, |_| false);
        assert_eq!(verdict(&side, &side, &policy(margin, horizon)), wanted, "{n} at {margin} over {horizon}");
    }
}

#[test]
fn swapped_sides_mirror_the_verdict() {
    let (good, bad) = (answered(300, |at| at % 10 == 0), answered(300, |at| at % 3 == 0));
    assert_eq!(verdict(&good, &bad, &policy(0.02, 30)), Verdict::Fail);
    assert_eq!(verdict(&bad, &good, &policy(0.02, 30)), Verdict::Pass);
    let [there, back] = [(&good, &bad), (&bad, &good)].map(|(base, head)| {
        let report = judge(base, head, &policy(0.02, 30), &Past::default());
        (report.metrics[0].delta, report.metrics[0].ci95, report.counts)
    });
    assert_eq!(there.0, back.0.map(|delta| -delta));
    let ([a, b], [c, d]) = (there.1.expect("an interval"), back.1.expect("an interval"));
    assert!((a + d).abs() < 1e-9 && (b + c).abs() < 1e-9);
    assert_eq!((there.2.regressed, there.2.improved), (back.2.improved, back.2.regressed));
}

#[test]
fn an_evaluator_that_breaks_on_most_repeats_is_not_a_pass() {
    // Three repeats a case; the run is wrong wherever its evaluator broke.
    let thrice = |side: Side| {
        let mut side = side;
        let triple = |at: usize| [at; 3];
        side.runs[0].1 = 3;
        side.trials = (0..side.trials.len()).flat_map(triple).map(|at| side.trials[at]).collect();
        let cells = &side.evaluators[0].cells;
        side.evaluators[0].cells = (0..cells.len()).flat_map(triple).map(|at| cells[at]).collect();
        side
    };
    let good = thrice(answered(300, |_| false));
    let gate = |broken: Cell, every: usize, most: f64| {
        let mut head = good.clone();
        for at in (0..900).filter(|at| at % 3 > 0 && at / 3 % every == 0) {
            head.evaluators[0].cells[at] = broken;
        }
        let metrics = [("label_match".to_owned(), 0.02)].into();
        let policy = Policy { metrics, horizon: 1, max_error_share: most, ..Policy::default() };
        let report = judge(&good, &head, &policy, &Past::default());
        let metric = &report.metrics[0];
        (report.verdict, metric.missing, metric.partly_missing, metric.bounds.expect("bounded"), report.reasons)
    };
    for broken in [Cell::Failed, Cell::Absent] {
        let (verdict, missing, partly, [worst, best], reasons) = gate(broken, 1, 0.02);
        assert_eq!((verdict, missing, partly), (Verdict::Invalid, 0, 300), "{reasons:?}");
        assert!((worst + 2.0 / 3.0).abs() < 1e-12 && best == 0.0, "{worst} {best}");
        assert_eq!(reasons, ["label_match: 600 of 900 trials of the run lack a value, more than 2 %"]);
    }
    // A few are tolerated, and stand in the bounds.
    let (verdict, _, partly, [worst, best], reasons) = gate(Cell::Failed, 100, 0.02);
    assert_eq!((verdict, partly), (Verdict::Pass, 3), "{reasons:?}");
    assert!((worst + 6.0 / 900.0).abs() < 1e-12 && best == 0.0, "{worst} {best}");
    // An evaluator that does not apply is no missing one.
    assert_eq!(gate(Cell::Skipped, 1, 0.02).0, Verdict::Pass);
}

#[test]
fn a_metric_without_a_number_or_an_end_hides_no_fail() {
    let slow = |side: &Side, factor: f64| {
        let mut side = side.clone();
        for (at, trial) in side.trials.iter_mut().enumerate() {
            trial.latency_ms = Some(factor * (100.0 + (at * 37 % 100) as f64));
        }
        side
    };
    let two = |other: &str, margin: f64| Policy {
        metrics: [("accuracy".to_owned(), 0.02), (other.to_owned(), margin)].into(),
        ..Policy::default()
    };
    let (good, bad) = (answered(150, |_| false), answered(150, |at| at % 2 == 0));
    // So few cases give the 95th percentile no upper end.
    let p95 = two("latency_p95_ms", 1000.0);
    let unchanged = judge(&slow(&good, 1.0), &slow(&bad, 1.0), &p95, &Past::default());
    assert_eq!(unchanged.verdict, Verdict::Fail, "{:?}", unchanged.reasons);
    let latency = &unchanged.metrics[1];
    assert_eq!(latency.verdict, Verdict::Inconclusive, "{:?}", latency.reasons);
    assert!(matches!(latency.damage, Some([Some(_), None])) && latency.ci95.is_some(), "{latency:?}");
    assert!(latency.more_cases_needed.is_some());
    // Ten times as slow is surely worse, however much worse it may be.
    let slower = judge(&slow(&good, 1.0), &slow(&good, 10.0), &p95, &Past::default());
    assert_eq!((slower.verdict, slower.metrics[1].verdict), (Verdict::Fail, Verdict::Fail), "{:?}", slower.reasons);
    // Every answer is the same label: no coefficient, and no more than that.
    let mut labelled = good.clone();
    for at in (0..150).filter(|at| at % 2 == 0) {
        labelled.cases[at].expected = Some(crate::model::Label::False);
        labelled.trials[at].output = crate::compare::side::Output::False;
    }
    let mut collapsed = labelled.clone();
    for trial in &mut collapsed.trials {
        trial.output = crate::compare::side::Output::True;
    }
    let report = judge(&labelled, &collapsed, &two("mcc", 0.05), &Past::default());
    assert_eq!(report.verdict, Verdict::Fail, "{:?}", report.reasons);
    assert_eq!(report.metrics[1].verdict, Verdict::Inconclusive);
    assert!(report.metrics[1].reasons[0].contains("undefined"), "{:?}", report.metrics[1].reasons);
    let alone = Policy { metrics: [("mcc".to_owned(), 0.05)].into(), ..Policy::default() };
    let report = judge(&labelled, &collapsed, &alone, &Past::default());
    assert_eq!(report.verdict, Verdict::Inconclusive, "{:?}", report.reasons);
}

#[test]
fn a_metric_keeps_the_name_that_the_policy_gives_it() {
    let side = answered(300, |_| false);
    let policy = Policy { metrics: [("score.label_match".to_owned(), 0.2)].into(), ..Policy::default() };
    let report = judge(&side, &side, &policy, &Past::default());
    assert_eq!((report.metrics[0].name.as_str(), report.verdict), ("score.label_match", Verdict::Pass));
    // Further runs find it under that name.
    let mut further = crate::compare::extend::Extension::new(&policy, 1);
    further.look(&side, &side, &policy);
    assert_eq!(further.verdict_on(&report.metrics[0].name), Verdict::Pass);
}

#[test]
fn a_perfect_label_evaluator_passes_with_groups_and_without() {
    for groups in [None, Some(300)] {
        let mut side = answered(600, |_| false);
        side.evaluators[0].kind = EvaluatorKind::Label;
        if let Some(groups) = groups {
            side.groups = (0..groups).map(|group| format!("g{group}")).collect();
            for (at, case) in side.cases.iter_mut().enumerate() {
                case.group = Some((at % groups) as u32);
            }
        }
        let policy = Policy { metrics: [("label_match".to_owned(), 0.05)].into(), ..Policy::default() };
        let report = judge(&side, &side, &policy, &Past::default());
        assert_eq!(report.verdict, Verdict::Pass, "{groups:?}: {:?}", report.reasons);
    }
}

#[test]
fn all_failing_answers_are_invalid_and_not_a_pass() {
    let good = answered(300, |_| false);
    let mut none = good.clone();
    for trial in &mut none.trials {
        trial.output = crate::compare::side::Output::Failed;
    }
    for (base, head) in [(&good, &none), (&none, &good), (&none, &none)] {
        assert_eq!(verdict(base, head, &policy(0.9, 1)), Verdict::Invalid);
    }
    // Nor does a policy that tolerates every error let it through.
    let lenient = Policy { max_error_share: 1.0, min_coverage: 0.0, ..policy(0.9, 1) };
    assert_eq!(verdict(&good, &none, &lenient), Verdict::Invalid);
    assert_eq!(verdict(&answered(0, |_| false), &good, &lenient), Verdict::Invalid);
}
