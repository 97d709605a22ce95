//! The verdicts of several gating metrics together.
//!
//! **Two claims a metric.** FAIL claims that the damage is above the margin, PASS that it is at most the margin; without
//! enough evidence for either the verdict is INCONCLUSIVE. The claims exclude each other, so their errors are controlled
//! one by one, each at `alpha` (one-sided).
//!
//! **Several metrics.** One metric's FAIL fails the gate, so false FAILs add up: Holm's procedure (Holm 1979, A simple
//! sequentially rejective multiple test procedure) over the metrics keeps the probability of any false FAIL at `alpha`.
//! The gate passes only where every metric passes. For that alone each metric could be tested at the full `alpha`, for an
//! intersection–union test needs no correction (Berger 1982, Multiparameter hypothesis testing and acceptance sampling).
//! But each metric's PASS is printed and read by itself ("accuracy did not drop"), so that here, too, the claims are
//! several, and Holm's procedure is run over the PASS claims as well: no PASS in the table is false with a probability
//! above `alpha`. As a gate this is the stricter of the two. What it costs is small, for Holm's last step is at the full
//! `alpha`: only the clearest of the metrics must pass at `alpha` divided by their number.
//!
//! **Several nights.** `alpha` is divided by the horizon before all this (Bonferroni): whatever the nights have in common,
//! such as a lucky baseline, the probability of any false verdict over the horizon stays below `alpha`.

use crate::stats::multiple::holm;

use super::{Direction, Evidence, Measure, PairedEstimate, Settings};

/// What a metric's evidence allows to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The damage is at most the margin.
    Pass,
    /// The damage is above the margin.
    Fail,
    /// Neither can be said.
    Inconclusive,
}

/// A gating metric.
#[derive(Debug, Clone, Copy)]
pub struct MetricQuestion<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// The data.
    pub measure: Measure<'a>,
    /// Which way is better.
    pub direction: Direction,
    /// The largest damage that is tolerated, in the metric's own unit.
    pub margin: f64,
}

/// How sure a verdict must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecisionPolicy {
    /// Probability of a false FAIL, and of a false PASS, over all metrics and the whole horizon.
    pub alpha: f64,
    /// How many nights the same question is asked; 1 for a single comparison.
    pub horizon: u32,
    /// Whether the pairs' clusters are to be read.
    pub clustered: bool,
    /// Of the generator.
    pub seed: u64,
    /// How many draws of bootstrap and permutation.
    pub resamples: u32,
}

impl Default for DecisionPolicy {
    fn default() -> Self {
        let Settings { clustered, seed, resamples, .. } = Settings::default();
        Self { alpha: 0.025, horizon: 30, clustered, seed, resamples }
    }
}

impl DecisionPolicy {
    fn settings(&self) -> Settings {
        Settings { clustered: self.clustered, level: 0.95, seed: self.seed, resamples: self.resamples }
    }

    /// The one-sided level of one night, for all metrics together.
    pub fn alpha_a_night(&self) -> f64 {
        self.alpha / f64::from(self.horizon.max(1))
    }
}

/// A metric's verdict and what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricDecision {
    /// The metric's name.
    pub name: String,
    /// What can be said.
    pub verdict: Verdict,
    /// The comparison, with its 95 % interval of `delta`.
    pub estimate: PairedEstimate,
    /// How much worse the head is.
    pub damage: Option<f64>,
    /// The interval of the damage: FAIL where its lower end is above the margin, PASS where its upper end is not. An end that
    /// is `None` is open: the 95th percentile of few cases has no upper end, and yet can be surely worse.
    pub interval: Option<[Option<f64>; 2]>,
    /// The tolerated damage.
    pub margin: f64,
    /// One-sided p-value against "the damage is at most the margin".
    pub p_fail: Option<f64>,
    /// One-sided p-value against "the damage is at least the margin".
    pub p_pass: Option<f64>,
    /// The one-sided levels of the interval's ends after both corrections: for FAIL (lower end), for PASS (upper end).
    pub alpha_used: [f64; 2],
    /// How many independent single-run pairs would carry the same information.
    pub effective_n: Option<f64>,
    /// About how many more cases it would take to decide, if they were like these; `None` where the metric is decided,
    /// where nothing is known of it, and where the damage is too near the margin for any number.
    pub more_cases_needed: Option<u64>,
    /// The verdict's reasons, as sentences.
    pub reasons: Vec<String>,
}

/// Judges several metrics of one comparison together. See the module for what is guaranteed.
pub fn decide(questions: &[MetricQuestion<'_>], policy: &DecisionPolicy) -> Vec<MetricDecision> {
    let settings = policy.settings();
    let measures: Vec<Measure<'_>> = questions.iter().map(|q| q.measure).collect();
    let evidence = Evidence::of_all(&measures, &settings, true);
    let alpha = policy.alpha_a_night();
    let claims = |p: fn(&Evidence, Direction, f64) -> Option<f64>| {
        let p: Vec<f64> =
            evidence.iter().zip(questions).map(|(e, q)| p(e, q.direction, q.margin).unwrap_or(1.0)).collect();
        holm(&p, alpha)
    };
    let (fail, pass) = (claims(Evidence::p_fail), claims(Evidence::p_pass));
    let decisions = questions.iter().zip(&evidence).zip(fail.into_iter().zip(pass));
    decisions.map(|((question, evidence), (fail, pass))| one(question, evidence, fail, pass)).collect()
}

fn one(question: &MetricQuestion<'_>, evidence: &Evidence, fail: (bool, f64), pass: (bool, f64)) -> MetricDecision {
    let damage = evidence.damage(question.direction, [fail.1, pass.1]);
    let verdict = match (fail.0, pass.0) {
        (true, _) => Verdict::Fail,
        (_, true) => Verdict::Pass,
        _ => Verdict::Inconclusive,
    };
    let alpha_used = [fail.1, pass.1];
    let more_cases_needed = if verdict == Verdict::Inconclusive {
        evidence.growth_needed(question.direction, question.margin, alpha_used).and_then(|factor| {
            let n = damage.estimate.n as f64;
            let more = (n * factor - n).ceil().max(1.0);
            (more < 1e7).then_some(more as u64)
        })
    } else {
        None
    };
    let reasons = reasons(question, verdict, damage.value, damage.ends, more_cases_needed, &damage.estimate);
    MetricDecision {
        name: question.name.to_owned(),
        verdict,
        damage: damage.value,
        interval: damage.ends,
        margin: question.margin,
        p_fail: evidence.p_fail(question.direction, question.margin),
        p_pass: evidence.p_pass(question.direction, question.margin),
        alpha_used,
        effective_n: damage.effective_n,
        more_cases_needed,
        reasons,
        estimate: evidence.estimate(question.direction, 0.95),
    }
}

fn reasons(
    question: &MetricQuestion<'_>,
    verdict: Verdict,
    damage: Option<f64>,
    interval: Option<[Option<f64>; 2]>,
    more: Option<u64>,
    estimate: &PairedEstimate,
) -> Vec<String> {
    let name = question.name;
    let (Some(damage), Some([low, high])) = (damage, interval) else {
        let why = estimate.why_undefined.as_deref().unwrap_or("its interval is undefined");
        return vec![format!("{name}: {why}")];
    };
    let margin = question.margin;
    let side = |x: Option<f64>, worst: &str| match x {
        Some(x) => format!("{} {}", number(x.abs()), if x < 0.0 { "better" } else { "worse" }),
        None => format!("any amount {worst}"),
    };
    let (best, worst) = (side(low, "better"), side(high, "worse"));
    let change = match damage {
        0.0 => "unchanged".to_owned(),
        x => format!("{} by {}", if x < 0.0 { "better" } else { "worse" }, number(x.abs())),
    };
    let mut reasons = vec![match verdict {
        Verdict::Fail => format!("{name} is {change}, at least {best}: more than the margin {margin}"),
        Verdict::Pass => format!("{name} is {change}, at most {worst}: within the margin {margin}"),
        Verdict::Inconclusive => {
            format!("{name} is {change}, anything from {best} to {worst}: the margin {margin} lies between")
        }
    }];
    if verdict == Verdict::Inconclusive {
        reasons.push(match more {
            Some(more) => format!("{name}: about {more} more cases are needed to decide, if they are like these"),
            None => format!("{name}: the damage is too near the margin to be decided by more cases"),
        });
    }
    reasons
}

/// Three significant digits, without trailing zeros.
fn number(x: f64) -> String {
    if x == 0.0 {
        return "0".to_owned();
    }
    let digits = (2 - x.abs().log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{x:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
