//! The gate's verdict as a value: the `gate` document, and the policy that led to it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::comparison::{Better, CaseChange, CaseCounts};
use super::operand::{Difference, Operand};
use super::simulate::SelfCheck;
use crate::model::{SpanId, TraceId};

/// What a gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// No metric is worse by more than its margin, as far as chance lets one say.
    Pass,
    /// A metric is worse by more than its margin, or a case that must pass did not.
    Fail,
    /// The data do not decide.
    Inconclusive,
    /// There is nothing that could decide.
    Invalid,
}

impl Verdict {
    /// The word as documents show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Invalid => "INVALID",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is asked of a run: resolved from `[gate]` and flags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The margin of each gating metric: how much worse it may be, in its own unit.
    pub metrics: BTreeMap<String, f64>,
    /// Error rate of each side of the decision over all metrics and nights together.
    pub alpha: f64,
    /// Nights that `alpha` is spent over.
    pub horizon: u32,
    /// Least share of cases that must be paired.
    pub min_coverage: f64,
    /// Largest share of trials without an answer; for each metric, of trials and of cases without a score.
    pub max_error_share: f64,
    /// Cases that must pass, whatever the statistics say.
    pub must_pass: Vec<String>,
    /// How many runs in a row must fail before the verdict is FAIL.
    pub confirm: u32,
    /// What may differ: `dataset`, `evaluator`, an evaluator's id.
    pub allow: Vec<String>,
    /// Seed of resampling.
    pub seed: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            metrics: [("accuracy".to_owned(), DEFAULT_MARGIN)].into(),
            alpha: 0.025,
            horizon: 30,
            min_coverage: 0.98,
            max_error_share: 0.02,
            must_pass: Vec::new(),
            confirm: 1,
            allow: Vec::new(),
            seed: 0,
        }
    }
}

/// The margin of a metric that names none.
pub const DEFAULT_MARGIN: f64 = 0.02;

/// The verdict on a run with its reasons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// What it says.
    pub verdict: Verdict,
    /// Why, the decisive reason first.
    pub reasons: Vec<String>,
    /// Each gating metric.
    pub metrics: Vec<GateMetric>,
    /// Cases that must pass.
    pub must_pass: MustPass,
    /// About how many more cases the undecided metrics need.
    pub more_cases_needed: Option<u64>,
    /// The baseline; `None` where it cannot be read.
    pub base: Option<Operand>,
    /// The run.
    pub head: Operand,
    /// What differs between them.
    pub differs: Vec<Difference>,
    /// Cases that both have.
    pub pairs: u64,
    /// Share of the cases that are paired.
    pub coverage: Option<f64>,
    /// Cases by what became of them.
    pub counts: CaseCounts,
    /// The cases that lost most.
    pub regressed: Vec<CaseChange>,
    /// The cases that gained most.
    pub improved: Vec<CaseChange>,
    /// The policy that was applied.
    pub policy: Policy,
    /// The baseline's file.
    pub baseline: String,
    /// The baseline's digest; `None` where it cannot be read.
    pub baseline_digest: Option<String>,
    /// How often this gate would be wrong on these data, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_check: Option<SelfCheck>,
}

/// A gating metric: as in a comparison, with its margin and verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateMetric {
    /// Its name.
    pub name: String,
    /// Which way is better.
    pub direction: Better,
    /// Its unit.
    pub unit: String,
    /// The baseline's value over the pairs.
    pub base: Option<f64>,
    /// The run's value over the pairs.
    pub head: Option<f64>,
    /// The second less the first.
    pub delta: Option<f64>,
    /// The 95 % interval of the difference.
    pub ci95: Option<[f64; 2]>,
    /// One-sided: how likely so bad a run is if it is no worse than the baseline.
    pub p_value: Option<f64>,
    /// One-sided, against "it is worse by the margin at most": small where it must fail.
    pub p_fail: Option<f64>,
    /// One-sided, against "it is worse by the margin at least": small where it may pass.
    pub p_pass: Option<f64>,
    /// How interval and p-value were made.
    pub method: String,
    /// Of assertions: pairs that the baseline has right and the run wrong, and the other way round.
    pub discordant: Option<[u64; 2]>,
    /// Pairs with a value on both sides.
    pub n: u64,
    /// Pairs with a value on one side, or an evaluator that broke.
    pub missing: u64,
    /// Pairs with a value on both sides of which some trial has none; their means are of the trials that have one.
    #[serde(default)]
    pub partly_missing: u64,
    /// Clusters among the pairs.
    pub clusters: Option<u64>,
    /// The difference with missing values as bad and as good as can be.
    pub bounds: Option<[f64; 2]>,
    /// What to know when reading it.
    pub warnings: Vec<String>,
    /// How much worse it may be.
    pub margin: f64,
    /// Its verdict.
    pub verdict: Verdict,
    /// How much worse it is, as the interval that was held against the margin. An end that is `None` is open: nothing bounds
    /// it on that side, such as the 95th percentile of few cases from above.
    pub damage: Option<[Option<f64>; 2]>,
    /// The error rates of that interval's ends after all corrections: for FAIL (lower end), for PASS (upper end).
    pub alpha: Option<[f64; 2]>,
    /// How many independent single-run pairs would say as much.
    pub effective_n: Option<f64>,
    /// About how many more cases it needs.
    pub more_cases_needed: Option<u64>,
    /// Why, as sentences.
    pub reasons: Vec<String>,
}

impl GateMetric {
    /// The interval of the damage in words, `and` between its ends; `None` where there is none.
    pub fn damage_in_words(&self, and: &str, show: impl Fn(f64) -> String) -> Option<String> {
        match self.damage? {
            [Some(low), Some(high)] => Some(format!("{}{and}{}", show(low), show(high))),
            [Some(low), None] => Some(format!("{} or more", show(low))),
            [None, Some(high)] => Some(format!("{} or less", show(high))),
            [None, None] => None,
        }
    }

    /// The interval of the damage where it has both ends.
    pub fn closed_damage(&self) -> Option<[f64; 2]> {
        self.damage.and_then(|[low, high]| Some([low?, high?]))
    }
}

/// Cases that must pass.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MustPass {
    /// How many were looked at.
    pub checked: u64,
    /// Those that did not pass.
    pub failed: Vec<MustPassCase>,
}

/// A case that must pass and did not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MustPassCase {
    /// The case.
    pub case_id: String,
    /// What happened, in words.
    pub why: String,
    /// Whether it was answered and did not pass: that alone fails the gate, whatever else cannot be judged. False where it was
    /// not run, not answered or not scored.
    #[serde(default)]
    pub answered: bool,
    /// The gold label.
    pub expected: Option<String>,
    /// What its trials were taken for.
    pub outputs: Vec<String>,
    /// The trace of the trial that did not pass.
    pub trace_id: Option<TraceId>,
    /// Its span.
    pub span_id: Option<SpanId>,
}
