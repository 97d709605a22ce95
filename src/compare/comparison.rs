//! The comparison of two operands as a value: the `compare` document, which pages and reports show as well.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::operand::{Difference, Operand};
use crate::model::{Direction, RunId, SpanId, TraceId};

/// Head against base, over the cases that both have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The earlier side.
    pub base: Operand,
    /// The side under test.
    pub head: Operand,
    /// What differs between them, refused things first.
    pub differs: Vec<Difference>,
    /// Why the numbers below are not to be trusted: what makes a gate INVALID. Empty where nothing does.
    pub invalid: Vec<String>,
    /// Cases that both sides have, with the same texts and label.
    pub pairs: u64,
    /// Clusters among them; `None` without groups.
    pub clusters: Option<u64>,
    /// Cases of one side only.
    pub unpaired: Unpaired,
    /// Agreement, evaluators, then latency, tokens and cost.
    pub metrics: Vec<Metric>,
    /// Cases by the class that the base gave (rows) and the head gave (columns), in the order of
    /// [`Self::transition_labels`]; of several trials the most frequent class.
    pub transitions: Vec<Vec<u64>>,
    /// `True`, `False`, `NEE`, `unparseable`, `failed`.
    pub transition_labels: Vec<String>,
    /// Whether the shift between labels is more than chance.
    pub shift: Shift,
    /// Cases by what became of them.
    pub cases: Cases,
    /// The same over parts of the dataset, where they were asked for.
    pub slices: Vec<SliceComparison>,
}

/// Cases without a partner.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Unpaired {
    /// Of the base.
    pub base: Vec<UnpairedCase>,
    /// Of the head.
    pub head: Vec<UnpairedCase>,
    /// How many there are, whatever the lists leave out.
    #[serde(default)]
    pub counts: UnpairedCounts,
}

/// How many cases have no partner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpairedCounts {
    /// Of the base.
    pub base: u64,
    /// Of the head.
    pub head: u64,
}

/// A case without a partner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnpairedCase {
    /// The case.
    pub case_id: String,
    /// `only here`, or `other text or label` where the other side has another case of that id.
    pub reason: String,
    /// What was said of it.
    pub side: CaseSide,
}

/// A number of both sides with the difference that is more than chance, or not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// `accuracy`, `macro_f1`, `mcc`, `kappa`, an evaluator's id, `latency_p50_ms`, `latency_p95_ms`, `input_tokens`,
    /// `output_tokens`, `cost_usd`.
    pub name: String,
    /// Which way is better.
    pub direction: Better,
    /// Unit (UCUM): `1`, `ms`, `{token}`, `USD`, ….
    pub unit: String,
    /// Over the pairs, the base's value.
    pub base: Option<f64>,
    /// Over the pairs, the head's value.
    pub head: Option<f64>,
    /// The second less the first.
    pub delta: Option<f64>,
    /// The 95 % interval of the difference.
    pub ci95: Option<[f64; 2]>,
    /// In `compare` two-sided, in `gate` one-sided (head worse).
    pub p_value: Option<f64>,
    /// Of assertions: the two-sided mid-p value of McNemar's test, less strict than the exact one.
    #[serde(default)]
    pub mid_p: Option<f64>,
    /// The two-sided p-value corrected for the number of metrics (Benjamini–Hochberg).
    pub q_value: Option<f64>,
    /// How interval and p-value were made.
    pub method: String,
    /// Of assertions: pairs that the base has right and the head wrong, and the other way round.
    pub discordant: Option<[u64; 2]>,
    /// Of assertions without clusters and repeats: the least true difference that McNemar's exact test, one-sided at 2.5 %,
    /// finds in 80 % of comparisons with so many pairs and such a share of discordant ones; `None` where it finds none.
    #[serde(default)]
    pub detectable: Option<f64>,
    /// Pairs with a value on both sides.
    pub n: u64,
    /// Pairs with a value on one side, or an evaluator that broke; they are in no mean.
    pub missing: u64,
    /// Pairs with a value on both sides of which some trial has none; their means are of the trials that have one.
    #[serde(default)]
    pub partly_missing: u64,
    /// Clusters among the pairs; `None` without groups.
    pub clusters: Option<u64>,
    /// The difference with every missing value as bad for the head as can be, and as good; of bounded metrics.
    pub bounds: Option<[f64; 2]>,
    /// What it means: `None` where the interval holds 0 or is undefined.
    pub change: Option<Change>,
    /// What to know when reading it.
    pub warnings: Vec<String>,
}

impl Metric {
    /// What a comparison of this size can find, for people; `None` where that is not known.
    pub fn detectable_in_words(&self) -> Option<String> {
        let ([b, c], effect) = (self.discordant?, self.detectable?);
        let share = (b + c) as f64 / self.n as f64 * 100.0;
        Some(format!(
            "{} pairs of which {share:.1} % differ show a true difference of {effect:.3} in 80 of 100 comparisons",
            self.n
        ))
    }
}

/// Which way of a metric is better, as documents say it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better.
    #[default]
    Higher,
    /// Less is better.
    Lower,
}

impl From<Direction> for Better {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Higher => Self::Higher,
            Direction::Lower => Self::Lower,
        }
    }
}

/// A difference that is more than chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The head is better.
    Better,
    /// The head is worse.
    Worse,
}

/// Tests of symmetry over the three labels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// Bowker's test of symmetry.
    pub bowker: Option<ShiftTest>,
    /// Stuart's and Maxwell's test that the labels' shares are the same.
    pub stuart_maxwell: Option<ShiftTest>,
}

/// A chi-squared test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ShiftTest {
    /// The statistic.
    pub statistic: f64,
    /// Its degrees of freedom.
    pub df: u32,
    /// The p-value.
    pub p_value: f64,
}

/// Cases by what became of them, decided by the head's primary evaluator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cases {
    /// The evaluator that decides.
    pub by: String,
    /// How many there are of each kind, whatever the lists below leave out.
    pub counts: CaseCounts,
    /// Worse now, the largest loss first.
    pub regressed: Vec<CaseChange>,
    /// Better now, the largest gain first.
    pub improved: Vec<CaseChange>,
    /// Scored in the base and not in the head.
    pub lost: Vec<CaseChange>,
}

/// How many cases of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseCounts {
    /// Scored in both, worse now.
    pub regressed: u64,
    /// Scored in both, better now.
    pub improved: u64,
    /// Scored in both, the same.
    pub unchanged: u64,
    /// Scored in the base and not in the head.
    pub lost: u64,
    /// Scored in the head and not in the base.
    pub gained: u64,
    /// Scored in neither.
    pub unscored: u64,
}

/// A case from both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseChange {
    /// The case.
    pub case_id: String,
    /// Its cluster.
    pub group: Option<String>,
    /// The gold label.
    pub expected: Option<String>,
    /// The claim, where the store of the head has it.
    pub claim: Option<String>,
    /// Head less base of the deciding evaluator; `None` where a side has no value.
    pub delta: Option<f64>,
    /// In the base.
    pub base: CaseSide,
    /// In the head.
    pub head: CaseSide,
}

/// What one side said of a case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CaseSide {
    /// What each trial was taken for: a label, `unparseable`, `failed`, `skipped`, `absent`.
    pub outputs: Vec<String>,
    /// Mean of each evaluator's values over the trials; `None` where it gave none.
    pub scores: BTreeMap<String, Option<f64>>,
    /// Mean latency of the answers, in milliseconds.
    pub latency_ms: Option<f64>,
    /// The run of the trial that stands for the side: the worst of them in the head, the best in the base.
    pub run_id: Option<RunId>,
    /// Its trace.
    pub trace_id: Option<TraceId>,
    /// Its `assess_claim` span.
    pub span_id: Option<SpanId>,
}

/// The comparison over a part of the dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliceComparison {
    /// The column, as queries spell it: `col.field`, `expected`, `group`.
    pub column: String,
    /// Its value; `None` where a case has none.
    pub value: Option<String>,
    /// Cases of it that both sides have.
    pub pairs: u64,
    /// Accuracy and the deciding evaluator.
    pub metrics: Vec<Metric>,
    /// Cases by what became of them.
    pub counts: CaseCounts,
    /// A filter that selects it.
    pub filter: String,
}
