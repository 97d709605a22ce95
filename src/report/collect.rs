//! A run's facts as they stream by: counts, sums and what the statistics need, without keeping the trials.

use std::collections::{BTreeMap, HashMap};

use crate::model::{EvaluatorKind, Label, Predicted, RunSpec};
use crate::stats::bootstrap::Bootstrap;
use crate::stats::confusion::{FAILED, UNPARSEABLE};
use crate::stats::{Analysis, Cluster, ConfusionAccumulator, Estimate, MeanAccumulator, quantile};
use crate::store::rows::{OutcomeKind, ScoreFact, TrialCounts, TrialFacts};

/// Takes the facts of a run one by one, in any order.
#[derive(Debug)]
pub struct Collector {
    planned: u64,
    repeats: u32,
    counts: TrialCounts,
    unlabelled: u64,
    confusion: ConfusionAccumulator,
    evaluators: Vec<Scores>,
    /// Latencies of answers, in microseconds: four bytes each.
    latencies: Vec<u32>,
    tokens: [Option<u64>; 2],
    cost: Option<Sum>,
    unpriced: u64,
    attempts: u64,
    /// The store's group numbers, made dense.
    groups: HashMap<u32, u32>,
}

/// A sum that keeps the digits that plain addition loses (Neumaier 1974), so that prices add up to what people expect.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    fn add(&mut self, x: f64) {
        let sum = self.sum + x;
        self.lost += if self.sum.abs() >= x.abs() { (self.sum - sum) + x } else { (x - sum) + self.sum };
        self.sum = sum;
    }

    fn get(self) -> f64 {
        self.sum + self.lost
    }
}

#[derive(Debug, Default)]
struct Scores {
    assertion: bool,
    mean: MeanAccumulator,
    labels: BTreeMap<String, u64>,
    counts: EvaluationCounts,
    /// Trials that might have had a score and have none.
    missing: u64,
}

/// What became of an evaluator's evaluations; together they are the trials with an outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EvaluationCounts {
    /// With a score.
    pub scored: u64,
    /// The evaluator broke.
    pub failed: u64,
    /// It did not apply.
    pub skipped: u64,
    /// Nothing is recorded.
    pub absent: u64,
}

/// An evaluator's scores in sum.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreSummary {
    /// What became of its evaluations.
    pub counts: EvaluationCounts,
    /// The mean of its numbers; bounds for assertions only, whose range is known.
    pub mean: Estimate,
    /// How often it gave each label.
    pub labels: BTreeMap<String, u64>,
}

/// All that was collected.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected {
    /// What needs no bootstrap.
    pub brief: Brief,
    /// The confusion matrix and its estimates.
    pub analysis: Analysis,
}

/// What a list of runs shows: counts, sums and means.
#[derive(Debug, Clone, PartialEq)]
pub struct Brief {
    /// Trials by outcome.
    pub counts: TrialCounts,
    /// Cases with an outcome and no expected label.
    pub unlabelled: u64,
    /// One for each evaluator of the run, in its order.
    pub evaluators: Vec<ScoreSummary>,
    /// Median and 95 % quantile of the answers' latencies, in milliseconds.
    pub latency_ms: [Option<f64>; 2],
    /// Input and output tokens; `None` where no endpoint counted any.
    pub tokens: [Option<u64>; 2],
    /// The sum of known prices.
    pub cost_usd: Option<f64>,
    /// Answers whose price is unknown.
    pub unpriced: u64,
    /// HTTP tries made.
    pub attempts: u64,
}

impl Collector {
    /// A collector for a run.
    pub fn new(spec: &RunSpec) -> Self {
        Self {
            planned: spec.planned(),
            repeats: spec.repeat,
            counts: TrialCounts::default(),
            unlabelled: 0,
            confusion: ConfusionAccumulator::default(),
            evaluators: spec
                .evaluators
                .iter()
                .map(|spec| Scores { assertion: spec.kind == EvaluatorKind::Assertion, ..Scores::default() })
                .collect(),
            latencies: Vec::new(),
            tokens: [None; 2],
            cost: None,
            unpriced: 0,
            attempts: 0,
            groups: HashMap::new(),
        }
    }

    /// Takes a trial.
    pub fn add(&mut self, facts: &TrialFacts) {
        let next = self.groups.len() as u32;
        let group = facts.group.map(|group| *self.groups.entry(group).or_insert(next));
        let cluster = Cluster::of_trial(group, facts.key.seq, self.repeats);
        if facts.expected.is_none() && facts.key.repeat == 0 {
            self.unlabelled += 1;
        }
        let expected = facts.expected.map(label_index);
        match (facts.outcome, expected) {
            (OutcomeKind::Completed(predicted), Some(expected)) => {
                self.confusion.add(expected, class_index(predicted), cluster);
            }
            (OutcomeKind::Failed, Some(expected)) => self.confusion.add(expected, FAILED, cluster),
            (OutcomeKind::Skipped, Some(expected)) => self.confusion.add_skipped(expected),
            (_, None) => {}
        }
        match facts.outcome {
            OutcomeKind::Completed(_) => {
                self.counts.completed += 1;
                self.latencies.push(u32::try_from(facts.latency_ns / 1_000).unwrap_or(u32::MAX));
                self.unpriced += u64::from(facts.cost_usd.is_none());
            }
            OutcomeKind::Failed => self.counts.failed += 1,
            OutcomeKind::Skipped => self.counts.skipped += 1,
        }
        for (sum, more) in self.tokens.iter_mut().zip([facts.usage.input_tokens, facts.usage.output_tokens]) {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0) + more);
            }
        }
        if let Some(more) = facts.cost_usd {
            self.cost.get_or_insert_default().add(more);
        }
        self.attempts += u64::from(facts.attempts);
        let answered = matches!(facts.outcome, OutcomeKind::Completed(_));
        for (i, scores) in self.evaluators.iter_mut().enumerate() {
            scores.add(facts.scores.get(i).and_then(Option::as_ref), answered, cluster);
        }
    }

    /// The sums and estimates. Trials without an outcome count as missing.
    pub fn finish(mut self) -> Collected {
        let confusion = std::mem::take(&mut self.confusion);
        // Without a single label nothing is expected of the trials that are still to come either.
        let labelled =
            confusion.confusion().cells.iter().flatten().chain(&confusion.confusion().skipped).any(|n| *n > 0);
        let unrecorded = if labelled { self.unrecorded() } else { 0 };
        Collected { brief: self.brief(), analysis: confusion.analyse(Bootstrap::default(), unrecorded) }
    }

    /// The sums and means alone.
    pub fn brief(mut self) -> Brief {
        let unrecorded = self.unrecorded();
        let quantile = |p, values: &mut [u32]| quantile::of_integers(values, p).map(|us| us / 1e3);
        Brief {
            counts: self.counts,
            unlabelled: self.unlabelled,
            latency_ms: [0.5, 0.95].map(|p| quantile(p, &mut self.latencies)),
            evaluators: self.evaluators.into_iter().map(|scores| scores.summary(unrecorded)).collect(),
            tokens: self.tokens,
            cost_usd: self.cost.map(Sum::get),
            unpriced: if self.cost.is_some() { self.unpriced } else { 0 },
            attempts: self.attempts,
        }
    }

    fn unrecorded(&self) -> u64 {
        self.planned.saturating_sub(self.counts.recorded())
    }
}

impl Scores {
    fn add(&mut self, score: Option<&ScoreFact>, answered: bool, cluster: Cluster) {
        match score {
            Some(ScoreFact::Scored { value, label }) => {
                self.counts.scored += 1;
                if let Some(value) = value {
                    self.mean.add(*value, cluster);
                }
                if let Some(label) = label {
                    match self.labels.get_mut(label) {
                        Some(count) => *count += 1,
                        None => {
                            self.labels.insert(label.clone(), 1);
                        }
                    }
                }
                return;
            }
            Some(ScoreFact::Failed) => self.counts.failed += 1,
            Some(ScoreFact::Skipped) => {
                self.counts.skipped += 1;
                // An evaluator that passed over an answer does not apply to it; without an answer nobody knows.
                if answered {
                    return;
                }
            }
            None => self.counts.absent += 1,
        }
        self.missing += 1;
    }

    fn summary(self, unrecorded: u64) -> ScoreSummary {
        let mut mean = self.mean.estimate();
        let missing = (self.missing + unrecorded) as f64;
        let all = self.mean.count() as f64 + missing;
        if self.assertion && all > 0.0 {
            mean.bounds = Some([self.mean.sum() / all, (self.mean.sum() + missing) / all]);
        }
        ScoreSummary { counts: self.counts, mean, labels: self.labels }
    }
}

/// The row of the confusion matrix of a label.
fn label_index(label: Label) -> usize {
    match label {
        Label::True => 0,
        Label::False => 1,
        Label::Nee => 2,
    }
}

/// The column of an answer's class.
fn class_index(predicted: Predicted) -> usize {
    predicted.label().map_or(UNPARSEABLE, label_index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TrialKey;
    use crate::report::fixture;

    fn collect(facts: &[TrialFacts], change: impl Fn(&mut RunSpec)) -> Collected {
        let mut spec = fixture::run().spec;
        change(&mut spec);
        let mut collector = Collector::new(&spec);
        for facts in facts {
            collector.add(facts);
        }
        collector.finish()
    }

    #[test]
    fn every_planned_trial_is_in_the_denominator_of_the_bounds() {
        let found = collect(&fixture::facts(), |_| ());
        // Thirty planned, 25 right, 3 wrong, one failed, one without an outcome.
        assert_eq!(found.analysis.accuracy.bounds, Some([25.0 / 30.0, 27.0 / 30.0]));
        assert_eq!(found.brief.evaluators[0].mean.bounds, Some([25.0 / 30.0, 27.0 / 30.0]));
        assert_eq!(found.brief.evaluators[1].mean.bounds, None);
        let counts = found.brief.evaluators[0].counts;
        assert_eq!((counts.scored, counts.failed, counts.skipped, counts.absent), (28, 0, 1, 0));
    }

    #[test]
    fn the_order_of_trials_makes_no_difference() {
        let mut facts = fixture::facts();
        for fact in &mut facts {
            fact.group = Some(4_000_000_000 - fact.key.seq as u32 / 4);
        }
        let forward = collect(&facts, |_| ());
        facts.reverse();
        let backward = collect(&facts, |_| ());
        assert_eq!(forward.analysis, backward.analysis);
        assert_eq!(forward.brief.cost_usd, backward.brief.cost_usd);
        assert!(
            forward.analysis.accuracy.method.starts_with("CR1, t(6), 7 clusters"),
            "{}",
            forward.analysis.accuracy.method
        );
    }

    #[test]
    fn repeats_of_a_case_are_one_cluster() {
        let facts: Vec<TrialFacts> = fixture::facts()
            .into_iter()
            .flat_map(|fact| {
                (0..3).map(move |repeat| TrialFacts { key: TrialKey { repeat, ..fact.key }, ..fact.clone() })
            })
            .collect();
        let found = collect(&facts, |spec| spec.repeat = 3);
        assert_eq!(found.analysis.accuracy.method, "CR1, t(27), 28 clusters");
        assert_eq!(found.brief.evaluators[0].mean.method, "CR1, t(27), 28 clusters");
        let once = collect(&fixture::facts(), |_| ()).analysis.accuracy;
        let width = |ci: Option<[f64; 2]>| ci.map(|[low, high]| high - low).expect("defined");
        // Asking three times and getting the same answer tells nothing new.
        assert!(width(found.analysis.accuracy.ci95) > 0.95 * width(once.ci95));
    }

    #[test]
    fn without_labels_nothing_is_said_about_agreement() {
        let facts: Vec<TrialFacts> =
            fixture::facts().into_iter().map(|fact| TrialFacts { expected: None, ..fact }).collect();
        let found = collect(&facts, |_| ());
        assert_eq!(
            (found.brief.unlabelled, found.analysis.accuracy.value, found.analysis.accuracy.bounds),
            (29, None, None)
        );
    }

    #[test]
    fn what_nobody_counted_is_unknown_and_not_zero() {
        let facts: Vec<TrialFacts> = fixture::facts()
            .into_iter()
            .map(|fact| TrialFacts { usage: crate::model::Usage::default(), cost_usd: None, ..fact })
            .collect();
        let found = collect(&facts, |_| ()).brief;
        assert_eq!((found.tokens, found.cost_usd, found.unpriced), ([None, None], None, 0));
        assert_eq!(collect(&[], |_| ()).brief.latency_ms, [None, None]);
    }
}
