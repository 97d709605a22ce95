//! Two runs over the same cases: the difference of a metric, how sure it is, and what it says about a margin.
//!
//! Reading order: this file (what goes in and what comes out), [`evidence`] (one object that answers every question about
//! a difference: interval, p-values, at any level), [`score`] (Tango's interval and its generalisation to averages and
//! clusters), [`mcnemar`], [`permutation`], `means`, `labels` (macro-F1, MCC, κ by the paired bootstrap), `quantiles`,
//! [`decision`] (verdicts of several metrics together).
//!
//! `delta` is always head − base in the metric's own unit; `damage` is how much worse the head is.

pub mod decision;
pub mod evidence;
pub mod mcnemar;
mod labels;
mod means;
pub mod permutation;
mod quantiles;
mod resampled;
pub mod score;

pub use decision::{DecisionPolicy, MetricDecision, MetricQuestion, Verdict, decide};
pub use evidence::Evidence;

/// One case seen from both sides: each side's mean over its repeats (and over the pooled runs of a baseline).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedValue {
    /// The base's value.
    pub base: f64,
    /// The head's value.
    pub head: f64,
    /// The number of the case's cluster; read only where [`Settings::clustered`] says so.
    pub cluster: u32,
}

/// Share of a case's answers per label (True, False, NEE, unparseable) on both sides; each side sums to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedLabels {
    /// The expected label: 0 True, 1 False, 2 NEE.
    pub expected: u8,
    /// The base's answers.
    pub base: [f32; 4],
    /// The head's answers.
    pub head: [f32; 4],
    /// The number of the case's cluster; read only where [`Settings::clustered`] says so.
    pub cluster: u32,
}

/// What is computed from a matrix of expected by answered labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// Share of right answers.
    Accuracy,
    /// Mean of the labels' F1, over those with support.
    MacroF1,
    /// The multi-class correlation coefficient.
    Mcc,
    /// Cohen's κ.
    Kappa,
}

/// What is compared.
#[derive(Debug, Clone, Copy)]
pub enum Measure<'a> {
    /// Mean of a score.
    Mean {
        /// One entry for each case.
        pairs: &'a [PairedValue],
        /// Where the values are bounded (`[0, 1]` for assertions): without it nothing can be said of what was not seen,
        /// and the range of the observed values is taken instead.
        range: Option<[f64; 2]>,
    },
    /// A quantile, such as the 95th percentile of the latency.
    Quantile {
        /// One entry for each case.
        pairs: &'a [PairedValue],
        /// Which one, in (0, 1).
        p: f64,
    },
    /// A statistic of the expected by answered matrix.
    Agreement {
        /// One entry for each case.
        pairs: &'a [PairedLabels],
        /// Which one.
        statistic: Statistic,
    },
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Accuracy and its like: damage = base − head.
    HigherIsBetter,
    /// Latency, tokens, cost: damage = head − base.
    LowerIsBetter,
}

/// How to compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Whether the pairs' clusters are to be read; else each case stands by itself.
    pub clustered: bool,
    /// Of the two-sided interval: 0.95.
    pub level: f64,
    /// Of the generator behind bootstrap and permutation: the same seed gives the same result.
    pub seed: u64,
    /// How many draws of bootstrap and permutation: 9 999.
    pub resamples: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { clustered: false, level: 0.95, seed: 0x7370_616e_7363_6f72, resamples: 9_999 }
    }
}

/// The difference of one metric between two runs. Unknown is `None`, never 0 and never NaN.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PairedEstimate {
    /// Pairs.
    pub n: u64,
    /// Clusters among them, where clusters are read.
    pub clusters: Option<u64>,
    /// The base's value over the pairs.
    pub base: Option<f64>,
    /// The head's value over the pairs.
    pub head: Option<f64>,
    /// `head − base`.
    pub delta: Option<f64>,
    /// The interval of `delta`, at the level that was asked for.
    pub interval: Option<[f64; 2]>,
    /// Two-sided, of no difference.
    pub p_value: Option<f64>,
    /// One-sided: small where the head is worse.
    pub p_worse: Option<f64>,
    /// McNemar's two-sided mid-p, where every pair is a right or wrong on both sides and clusters are not read.
    pub mid_p: Option<f64>,
    /// How the interval and the p-values were made, in words.
    pub method: String,
    /// `[base right & head wrong, base wrong & head right]`, where every value is 0 or 1.
    pub discordant: Option<[u64; 2]>,
    /// Why there is no interval, or no difference.
    pub why_undefined: Option<String>,
    /// Whether that is the fault of the data: no pairs, a value that is no number, a single cluster. A statistic that these
    /// data leave undefined, such as MCC where all answers are one label, is no fault of theirs.
    pub unfit: bool,
    /// What a reader should know before trusting it.
    pub warnings: Vec<String>,
}

/// The gate's view of one metric: its damage and the interval of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Damage {
    /// The comparison behind it; its interval is of `delta` at `1 − 2·alpha`.
    pub estimate: PairedEstimate,
    /// How much worse the head is.
    pub value: Option<f64>,
    /// The interval of the damage, each end at the one-sided level that was asked for; `None` where an end is open.
    pub interval: Option<[f64; 2]>,
    /// Its ends; an end that is `None` is open: so few cases leave it unbounded on that side.
    pub ends: Option<[Option<f64>; 2]>,
    /// How many independent single-run pairs would carry the same information; not above the number of pairs.
    pub effective_n: Option<f64>,
}

/// Compares two runs.
///
/// Which direction is better matters for [`PairedEstimate::p_worse`] only, and there higher is taken to be better; use
/// [`compare_directed`] for latency and its like.
pub fn compare(measure: &Measure<'_>, settings: &Settings) -> PairedEstimate {
    compare_directed(measure, Direction::HigherIsBetter, settings)
}

/// Compares two runs in a metric of the given direction.
pub fn compare_directed(measure: &Measure<'_>, direction: Direction, settings: &Settings) -> PairedEstimate {
    Evidence::of(measure, settings).estimate(direction, settings.level)
}

/// Compares two runs in several statistics of the same answers, in the order given; the bootstrap's draws are shared, so that
/// this costs as much as one of them.
pub fn compare_labels(pairs: &[PairedLabels], statistics: &[Statistic], settings: &Settings) -> Vec<PairedEstimate> {
    let measures: Vec<Measure<'_>> =
        statistics.iter().map(|&statistic| Measure::Agreement { pairs, statistic }).collect();
    Evidence::of_all(&measures, settings, false)
        .iter()
        .map(|evidence| evidence.estimate(Direction::HigherIsBetter, settings.level))
        .collect()
}

/// The gate's interval of the damage, at one-sided level `alpha` at each end: never narrower than Tango's interval without
/// a discordant pair at the same effective number of pairs.
pub fn damage(measure: &Measure<'_>, direction: Direction, alpha: f64, settings: &Settings) -> Damage {
    Evidence::of_gate(measure, settings).damage(direction, [alpha, alpha])
}
