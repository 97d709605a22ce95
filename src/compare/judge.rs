//! The gate: a run held against a baseline under a policy. A case that must pass and was answered wrong is a FAIL whatever
//! else; then INVALID before FAIL before INCONCLUSIVE before PASS: what cannot be judged never passes.

use std::collections::BTreeSet;

use super::build::{in_words, metric_of, refused, settings};
use super::cases::{Decider, cases};
use super::comparison::CaseCounts;
use super::differences::differences;
use super::gate::{GateMetric, GateReport, MustPass, MustPassCase, Policy, Verdict};
use super::metric::{Definition, FIXED, Numbers, definitions, find, score_name};
use super::operand::Operand;
use super::pair::{Pairing, pair};
use super::side::{Cell, Side};
use super::simulate::{self, SelfCheck, Simulation};
use crate::model::{Direction, EvaluatorId, EvaluatorKind};
use crate::stats::paired::{self, DecisionPolicy, MetricDecision, MetricQuestion, decide};

/// Why a policy cannot be applied to a run at all: a slip of the user's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It asks for nothing.
    #[error("the gate asks for nothing: name a metric in [gate] metrics or with --margin METRIC=MARGIN")]
    Nothing,
    /// A metric that does not exist.
    #[error("the gate asks for metric `{name}`, which the run does not have{nearest}; it has {known}")]
    UnknownMetric {
        /// The metric.
        name: String,
        /// The nearest known one, as a question.
        nearest: String,
        /// All known ones.
        known: String,
    },
    /// A difference that there cannot be.
    #[error("the gate is to allow that `{name}` differs, which the run does not have; it has {known}")]
    UnknownAllowance {
        /// What it is to allow.
        name: String,
        /// What it could.
        known: String,
    },
    /// A number that makes no sense.
    #[error("the gate's {what} is {found}; expected {expected}")]
    Value {
        /// Which.
        what: String,
        /// As given.
        found: String,
        /// What would do.
        expected: &'static str,
    },
}

/// How many of the cases that changed most a report names.
pub const NAMED: usize = 20;

/// What is known of the runs before this one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// The metrics that failed in each earlier run of the suite that was judged against the same baseline, latest first.
    pub failed: Vec<BTreeSet<String>>,
}

impl Past {
    /// Why metrics that fail now are not yet a FAIL; `None` where one of them fails for as many runs in a row as must.
    pub fn unconfirmed(&self, metrics: &[GateMetric], confirm: u32) -> Option<String> {
        let failing = metrics.iter().filter(|metric| metric.verdict == Verdict::Fail);
        let in_a_row = |metric: &GateMetric| {
            1 + self.failed.iter().take_while(|failed| failed.contains(&metric.name)).count() as u32
        };
        let (runs, name) = failing.map(|metric| (in_a_row(metric), &metric.name)).max_by_key(|(runs, _)| *runs)?;
        (runs < confirm).then(|| {
            let so_far = if runs == 1 { "for the first time".to_owned() } else { format!("for {runs} runs in a row") };
            format!("{name} fails {so_far}; it must for {confirm} before that is a FAIL (confirm)")
        })
    }
}

/// Checks a policy against the evaluators that a run has, before anything is judged.
pub fn check(policy: &Policy, evaluators: &[(EvaluatorId, EvaluatorKind)]) -> Result<(), PolicyError> {
    let value = |what: &str, found: f64, fits: bool, expected: &'static str| {
        if fits {
            Ok(())
        } else {
            Err(PolicyError::Value { what: what.to_owned(), found: found.to_string(), expected })
        }
    };
    if policy.metrics.is_empty() && policy.must_pass.is_empty() {
        return Err(PolicyError::Nothing);
    }
    let known = known_metrics(evaluators.iter().map(|(id, _)| id));
    for (name, margin) in &policy.metrics {
        let is_score = |id: &str| evaluators.iter().any(|(evaluator, _)| evaluator.as_str() == id);
        if !known.contains(name) && !name.strip_prefix("score.").is_some_and(is_score) {
            let distance = |known: &String| strsim::damerau_levenshtein(known, name);
            let nearest = known.iter().min_by_key(|known| distance(known)).filter(|known| distance(known) <= 3);
            return Err(PolicyError::UnknownMetric {
                name: name.clone(),
                nearest: nearest.map(|known| format!(" (did you mean `{known}`?)")).unwrap_or_default(),
                known: known.join(", "),
            });
        }
        value(&format!("margin of `{name}`"), *margin, margin.is_finite() && *margin >= 0.0, "a number, 0 or more")?;
        // A metric that cannot get worse by more than this would let everything through.
        if let Some((widest, expected)) = widest(name, evaluators) {
            value(&format!("margin of `{name}`"), *margin, *margin < widest, expected)?;
        }
    }
    let may_differ = || ["dataset", "evaluator"].into_iter().chain(evaluators.iter().map(|(id, _)| id.as_str()));
    if let Some(name) = policy.allow.iter().find(|name| !may_differ().any(|known| known == name.as_str())) {
        let known = may_differ().collect::<Vec<_>>().join(", ");
        return Err(PolicyError::UnknownAllowance { name: name.clone(), known });
    }
    let share = |x: f64| x.is_finite() && (0.0..=1.0).contains(&x);
    value("alpha", policy.alpha, policy.alpha > 0.0 && policy.alpha < 0.5, "a number above 0 and below 0.5")?;
    value("horizon", policy.horizon.into(), policy.horizon >= 1, "1 or more nights")?;
    value("confirm", policy.confirm.into(), policy.confirm >= 1, "1 or more runs")?;
    value("min_coverage", policy.min_coverage, share(policy.min_coverage), "a share from 0 to 1")?;
    value("max_error_share", policy.max_error_share, share(policy.max_error_share), "a share from 0 to 1")
}

/// How far a metric can fall at most, where that is known, and what margin it may have.
fn widest(name: &str, evaluators: &[(EvaluatorId, EvaluatorKind)]) -> Option<(f64, &'static str)> {
    let share = Some((1.0, "a number below 1, for it lies between 0 and 1: 2 % is 0.02"));
    match name {
        "accuracy" | "macro_f1" => share,
        "mcc" | "kappa" => Some((2.0, "a number below 2, for it lies between -1 and 1: 2 % is 0.02")),
        fixed if FIXED.contains(&fixed) => None,
        name => {
            let id = name.strip_prefix("score.").unwrap_or(name);
            let is_assertion = |(evaluator, kind): &(EvaluatorId, EvaluatorKind)| {
                [id, name].contains(&evaluator.as_str()) && *kind == EvaluatorKind::Assertion
            };
            share.filter(|_| evaluators.iter().any(is_assertion))
        }
    }
}

/// The verdict where there is no baseline to hold the run against.
pub fn without_baseline(
    head: &Operand,
    must_pass: MustPass,
    policy: &Policy,
    baseline: &str,
    why: String,
) -> GateReport {
    let mut report = GateReport {
        verdict: Verdict::Invalid,
        reasons: Vec::new(),
        metrics: Vec::new(),
        must_pass,
        more_cases_needed: None,
        base: None,
        head: head.clone(),
        differs: Vec::new(),
        pairs: 0,
        coverage: None,
        counts: CaseCounts::default(),
        regressed: Vec::new(),
        improved: Vec::new(),
        policy: policy.clone(),
        baseline: baseline.to_owned(),
        baseline_digest: None,
        self_check: None,
    };
    conclude(&mut report, vec![why], &Past::default());
    report
}

/// Judges a run. The policy must have been checked against it.
pub fn judge(base: &Side, head: &Side, policy: &Policy, past: &Past) -> GateReport {
    let pairing = pair(base, head);
    let differs = differences(base, head);
    let definitions = definitions(base, head, &policy.allow);
    let coverage = coverage(base, head, &pairing, &policy.allow);
    let gating: Vec<Gating<'_>> = policy
        .metrics
        .iter()
        .map(|(name, margin)| Gating::of(name, *margin, &definitions, base, head, &pairing))
        .collect();

    let mut invalid: Vec<String> = refused(&differs, &policy.allow).map(in_words).collect();
    invalid.extend(unfit(base, head, &pairing, coverage, policy));
    invalid.extend(gating.iter().filter_map(|gating| gating.unfit(&pairing, policy)));

    let decisions = decide_all(&gating, &pairing, policy);
    let mut metrics = Vec::new();
    for (gating, decision) in gating.iter().zip(decisions) {
        match (gating.definition, decision) {
            (Some(definition), Some(decision)) => {
                if invalid.is_empty() && decision.estimate.unfit {
                    let why = decision.estimate.why_undefined.clone();
                    let why = why.unwrap_or_else(|| "its interval is undefined".to_owned());
                    invalid.push(format!("{}: {why}", definition.name));
                }
                metrics.push(gate_metric(definition, &gating.numbers, decision, invalid.is_empty()));
            }
            _ => metrics.push(unmeasured(gating)),
        }
    }
    let must_pass = must_pass(head, &policy.must_pass);
    let changed = cases(base, head, &pairing, 0..NAMED);
    let mut report = GateReport {
        verdict: Verdict::Pass,
        reasons: Vec::new(),
        metrics,
        must_pass,
        more_cases_needed: None,
        base: Some(base.operand.clone()),
        head: head.operand.clone(),
        differs,
        pairs: pairing.pairs.len() as u64,
        coverage,
        counts: changed.counts,
        regressed: changed.regressed,
        improved: changed.improved,
        policy: policy.clone(),
        baseline: base.operand.name.clone(),
        baseline_digest: None,
        self_check: None,
    };
    conclude(&mut report, invalid, past);
    report
}

/// The verdict of everything together, and its reasons.
fn conclude(report: &mut GateReport, invalid: Vec<String>, past: &Past) {
    let lost: Vec<String> =
        report.must_pass.failed.iter().map(|case| format!("case {} must pass: {}", case.case_id, case.why)).collect();
    if !invalid.is_empty() {
        // What was answered wrong needs no baseline.
        let wrong = report.must_pass.failed.iter().any(|case| case.answered);
        report.verdict = if wrong { Verdict::Fail } else { Verdict::Invalid };
        report.reasons = if wrong { [lost, invalid].concat() } else { [invalid, lost].concat() };
        for metric in &mut report.metrics {
            metric.verdict = Verdict::Invalid;
        }
        return;
    }
    let of = |verdict: Verdict| report.metrics.iter().filter(move |metric| metric.verdict == verdict);
    let said = |verdict: Verdict| of(verdict).flat_map(|metric| metric.reasons.iter().cloned());
    let checked = report.must_pass.checked;
    let passed = (checked > 0 && lost.is_empty()).then(|| {
        let ungated = if report.metrics.is_empty() { "; no metric is gated" } else { "" };
        format!("{checked} of {checked} must-pass cases passed{ungated}")
    });
    let mut reasons = lost;
    let by_metric = of(Verdict::Fail).next().is_some();
    let unconfirmed = past.unconfirmed(&report.metrics, report.policy.confirm);
    let verdict = if !reasons.is_empty() || by_metric && unconfirmed.is_none() {
        Verdict::Fail
    } else if let Some(why) = unconfirmed {
        reasons.push(why);
        Verdict::Inconclusive
    } else if of(Verdict::Inconclusive).next().is_some() {
        Verdict::Inconclusive
    } else {
        Verdict::Pass
    };
    reasons.extend(said(Verdict::Fail).chain(said(Verdict::Inconclusive)).chain(said(Verdict::Pass)).chain(passed));
    let more = of(Verdict::Inconclusive).filter_map(|metric| metric.more_cases_needed).max();
    (report.verdict, report.reasons, report.more_cases_needed) = (verdict, reasons, more);
}

/// Share of the cases that are paired: of the larger side's; of the baseline's where the dataset may differ.
fn coverage(base: &Side, head: &Side, pairing: &Pairing, allow: &[String]) -> Option<f64> {
    let may_differ = allow.iter().any(|name| name == "dataset");
    let all = if may_differ { base.cases.len() } else { base.cases.len().max(head.cases.len()) };
    (all > 0).then(|| pairing.pairs.len() as f64 / all as f64)
}

/// What is wrong with the data as a whole.
fn unfit(base: &Side, head: &Side, pairing: &Pairing, coverage: Option<f64>, policy: &Policy) -> Vec<String> {
    let mut found = Vec::new();
    for (what, side) in [("the baseline", base), ("the run", head)] {
        if side.cases.is_empty() {
            found.push(format!("{what} has no cases"));
            continue;
        }
        let (errors, trials) = (side.errors(), side.trials.len() as u64);
        if trials == 0 || errors as f64 > policy.max_error_share * trials as f64 {
            found.push(format!(
                "{what} has no answer for {errors} of {trials} trials, more than {}",
                percent(policy.max_error_share)
            ));
        }
        for (evaluator, n) in side.not_finite() {
            found.push(format!("{what} has {n} scores of `{evaluator}` that are no finite numbers"));
        }
    }
    if found.iter().any(|reason| reason.ends_with("has no cases")) {
        return found;
    }
    if pairing.pairs.is_empty() {
        found.push(
            "no case of the baseline is in the run with the same text and label: there is nothing to judge".to_owned(),
        );
    } else if let Some(coverage) = coverage.filter(|coverage| *coverage < policy.min_coverage) {
        found.push(format!(
            "{} cases are in both, {} of the {} in the baseline and {} in the run; at least {} are needed",
            pairing.pairs.len(),
            percent(coverage),
            base.cases.len(),
            head.cases.len(),
            percent(policy.min_coverage)
        ));
    }
    if pairing.cluster_count == Some(1) {
        found.push(
            "all cases belong to one group: how much groups differ cannot be told from one, so nothing can be judged"
                .to_owned(),
        );
    }
    found
}

fn percent(share: f64) -> String {
    let shown = format!("{:.1}", share * 100.0);
    format!("{} %", shown.trim_end_matches('0').trim_end_matches('.'))
}

/// A metric that is asked for, with its numbers.
struct Gating<'d> {
    name: String,
    margin: f64,
    definition: Option<&'d Definition>,
    numbers: Numbers,
}

impl<'d> Gating<'d> {
    fn of(name: &str, margin: f64, definitions: &'d [Definition], base: &Side, head: &Side, pairing: &Pairing) -> Self {
        let definition = find(definitions, name);
        let numbers = match definition {
            Some(definition) => definition.numbers(base, head, pairing, 0..pairing.pairs.len()),
            None => Numbers::default(),
        };
        Self { name: name.to_owned(), margin, definition, numbers }
    }

    /// Why it cannot be judged.
    fn unfit(&self, pairing: &Pairing, policy: &Policy) -> Option<String> {
        let name = &self.name;
        if self.definition.is_none() {
            return Some(format!("{name}: the baseline has no such scores; save it anew from a run that has them"));
        }
        // What is wrong with all pairs is said already.
        if pairing.pairs.is_empty() {
            return None;
        }
        let (n, missing) = (self.numbers.len() as u64, self.numbers.missing);
        if n == 0 {
            return Some(format!("{name}: no case has it on both sides"));
        }
        if missing as f64 > policy.max_error_share * (n + missing) as f64 {
            return Some(format!(
                "{name}: {missing} of {} cases lack a value on one side, more than {}",
                n + missing,
                percent(policy.max_error_share)
            ));
        }
        // A case with one value among its repeats has a mean, but of what is left.
        let sides = ["the baseline", "the run"].into_iter().zip(self.numbers.trials);
        let lacking =
            sides.filter(|(_, trials)| f64::from(trials.missing) > policy.max_error_share * f64::from(trials.due()));
        let said: Vec<String> = lacking
            .map(|(what, trials)| format!("{} of {} trials of {what} lack a value", trials.missing, trials.due()))
            .collect();
        (!said.is_empty())
            .then(|| format!("{name}: {}, more than {}", said.join(" and "), percent(policy.max_error_share)))
    }
}

/// The metrics that have numbers, with their places.
fn measured<'g>(gating: &'g [Gating<'g>]) -> Vec<(usize, MetricQuestion<'g>)> {
    gating
        .iter()
        .enumerate()
        .filter_map(|(place, gating)| {
            let definition = gating.definition.filter(|d| !gating.numbers.is_empty() && d.refused.is_none())?;
            let question = MetricQuestion {
                name: &gating.name,
                measure: gating.numbers.measure(),
                direction: definition.better(),
                margin: gating.margin,
            };
            Some((place, question))
        })
        .collect()
}

fn decision_policy(pairing: &Pairing, policy: &Policy) -> DecisionPolicy {
    DecisionPolicy {
        alpha: policy.alpha,
        horizon: policy.horizon,
        clustered: settings(pairing, policy.seed).clustered,
        seed: paired::Settings::default().seed ^ policy.seed,
        ..DecisionPolicy::default()
    }
}

/// The decisions in the order of the metrics; `None` of what has no numbers.
fn decide_all(gating: &[Gating<'_>], pairing: &Pairing, policy: &Policy) -> Vec<Option<MetricDecision>> {
    let (places, questions): (Vec<usize>, Vec<MetricQuestion<'_>>) = measured(gating).into_iter().unzip();
    let mut decisions: Vec<Option<MetricDecision>> = gating.iter().map(|_| None).collect();
    for (place, decision) in places.into_iter().zip(decide(&questions, &decision_policy(pairing, policy))) {
        decisions[place] = Some(decision);
    }
    decisions
}

/// How often this gate would be wrong on these very data: simulated nights, unchanged and worse by the margin.
pub fn self_check(base: &Side, head: &Side, policy: &Policy, how: &Simulation) -> SelfCheck {
    let pairing = pair(base, head);
    let definitions = definitions(base, head, &policy.allow);
    let gating: Vec<Gating<'_>> = policy
        .metrics
        .iter()
        .map(|(name, margin)| Gating::of(name, *margin, &definitions, base, head, &pairing))
        .collect();
    let questions: Vec<MetricQuestion<'_>> = measured(&gating).into_iter().map(|(_, question)| question).collect();
    simulate::self_check(&questions, &decision_policy(&pairing, policy), how)
}

fn gate_metric(definition: &Definition, numbers: &Numbers, decision: MetricDecision, valid: bool) -> GateMetric {
    let p_value = decision.estimate.p_worse;
    let metric = metric_of(definition, numbers, decision.estimate);
    GateMetric {
        // As the policy calls it.
        name: decision.name,
        direction: metric.direction,
        unit: metric.unit,
        base: metric.base,
        head: metric.head,
        delta: metric.delta,
        ci95: metric.ci95,
        p_value,
        p_fail: decision.p_fail,
        p_pass: decision.p_pass,
        method: metric.method,
        discordant: metric.discordant,
        n: metric.n,
        missing: metric.missing,
        partly_missing: metric.partly_missing,
        clusters: metric.clusters,
        bounds: metric.bounds,
        warnings: metric.warnings,
        margin: decision.margin,
        verdict: match (valid, decision.verdict) {
            (false, _) => Verdict::Invalid,
            (true, paired::Verdict::Pass) => Verdict::Pass,
            (true, paired::Verdict::Fail) => Verdict::Fail,
            (true, paired::Verdict::Inconclusive) => Verdict::Inconclusive,
        },
        damage: decision.interval,
        alpha: Some(decision.alpha_used),
        effective_n: decision.effective_n,
        more_cases_needed: decision.more_cases_needed,
        reasons: decision.reasons,
    }
}

/// A metric without numbers.
fn unmeasured(gating: &Gating<'_>) -> GateMetric {
    GateMetric {
        name: gating.name.clone(),
        direction: gating.definition.map(|d| d.direction).unwrap_or_default(),
        unit: gating.definition.map(|d| d.unit.clone()).unwrap_or_default(),
        base: None,
        head: None,
        delta: None,
        ci95: None,
        p_value: None,
        p_fail: None,
        p_pass: None,
        method: "not measured".to_owned(),
        discordant: None,
        n: 0,
        missing: gating.numbers.missing,
        partly_missing: gating.numbers.partly_missing,
        clusters: None,
        bounds: None,
        warnings: Vec::new(),
        margin: gating.margin,
        verdict: Verdict::Invalid,
        damage: None,
        alpha: None,
        effective_n: None,
        more_cases_needed: None,
        reasons: Vec::new(),
    }
}

/// Looks at the cases that must pass, each trial of them.
pub fn must_pass(head: &Side, wanted: &[String]) -> MustPass {
    let mut failed = Vec::new();
    for id in wanted {
        let Some(case) = head.cases.iter().position(|case| case.id.as_str() == id) else {
            failed.push(MustPassCase {
                case_id: id.clone(),
                why: "it is not in the run".to_owned(),
                answered: false,
                expected: None,
                outputs: Vec::new(),
                trace_id: None,
                span_id: None,
            });
            continue;
        };
        let trials = head.trials_of(case);
        let mut wrong: Vec<_> =
            (0..trials.len()).filter_map(|trial| Some((trial, why_not(head, case, trial)?))).collect();
        if trials.is_empty() {
            wrong.push((0, (false, "it was not run".to_owned())));
        }
        // A wrong answer says more than none.
        if let Some((trial, (answered, why))) = wrong.into_iter().min_by_key(|(_, (answered, _))| !answered) {
            let (decider, _) = Decider::of(head, head);
            let side = super::cases::case_side(head, case, decider, true, true);
            let place = trials.get(trial).filter(|trial| trial.trace_id.is_some());
            failed.push(MustPassCase {
                case_id: id.clone(),
                why,
                answered,
                expected: head.cases[case].expected.map(|label| label.to_string()),
                outputs: side.outputs,
                trace_id: place.map_or(side.trace_id, |trial| trial.trace_id),
                span_id: place.map_or(side.span_id, |trial| trial.span_id),
            });
        }
    }
    MustPass { checked: wanted.len() as u64, failed }
}

/// Why a trial does not pass, by the primary evaluator, after whether that was seen or only could not be.
fn why_not(head: &Side, case: usize, trial: usize) -> Option<(bool, String)> {
    let output = head.trials_of(case).get(trial)?.output;
    if !output.is_answer() {
        return Some((false, format!("a trial of it is `{}`", output.as_str())));
    }
    let expected = head.cases[case].expected;
    let place = head.evaluator(head.primary.as_str());
    let evaluator = place.and_then(|place| head.evaluators.get(place));
    let cell = place.and_then(|place| head.cells_of(place, case).get(trial).copied());
    match (evaluator, cell) {
        (Some(evaluator), Some(Cell::Value(x))) => {
            let passes = match (evaluator.kind, evaluator.threshold, evaluator.direction) {
                (_, Some(threshold), Direction::Higher) => x >= threshold,
                (_, Some(threshold), Direction::Lower) => x <= threshold,
                (EvaluatorKind::Assertion, None, _) => x == 1.0,
                // A number without a threshold has no line to pass; the answer itself decides.
                (_, None, _) => expected.is_some_and(|label| output.is(label)),
            };
            let wanted = expected.map(|label| format!(" where {label} was expected")).unwrap_or_default();
            (!passes).then(|| (true, format!("{} gave {x} for `{}`{wanted}", evaluator.id, output.as_str())))
        }
        (Some(evaluator), _) => Some((false, format!("{} gave no score", evaluator.id))),
        _ => (!expected.is_some_and(|label| output.is(label)))
            .then(|| (true, format!("it was answered `{}`", output.as_str()))),
    }
}

/// The names of the metrics that a policy may ask of a run with these evaluators.
pub fn known_metrics<'e>(evaluators: impl Iterator<Item = &'e EvaluatorId>) -> Vec<String> {
    let mut names: Vec<String> = FIXED.iter().map(|name| (*name).to_owned()).collect();
    names.extend(evaluators.map(|id| score_name(id.as_str())));
    names
}

#[cfg(test)]
mod tests;
