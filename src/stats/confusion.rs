//! The confusion matrix of claim verification, collected trial by trial, and everything that is estimated from it.
//!
//! Rows are the three expected labels; columns the three labels, `unparseable` (an answer, and wrong) and `failed` (no
//! answer). Shares are over answers: a failed trial stands in its column and in the bounds only.

use super::Cluster;
use super::agreement;
use super::bootstrap::{Bootstrap, Matrix, bca};
use super::cluster::{Cells, ClusterCounts, share};
use super::estimate::{Estimate, clustered_method};
use super::proportion;
use super::special::Z95;

/// Labels that can be expected.
pub const EXPECTED: usize = 3;
/// Columns of the matrix.
pub const PREDICTED: usize = 5;
/// The column of answers that are no label.
pub const UNPARSEABLE: usize = 3;
/// The column of trials without an answer.
pub const FAILED: usize = 4;
/// The label whose use counts as abstention.
const NEE: usize = 2;

/// How often each class was predicted where each label was expected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Confusion {
    /// Counts by expected label and predicted class.
    pub cells: [[u64; PREDICTED]; EXPECTED],
    /// Trials that were not tried, by expected label; in no column.
    pub skipped: [u64; EXPECTED],
}

impl Confusion {
    /// The answers.
    pub fn answered(&self) -> Matrix {
        self.cells.map(|row| std::array::from_fn(|j| row[j] as f64))
    }

    /// Trials of an expected label that gave no answer.
    fn missing(&self, expected: usize) -> f64 {
        (self.cells[expected][FAILED] + self.skipped[expected]) as f64
    }

    /// The answers with every missing one taken for an unparseable one, and for a right one.
    fn extremes(&self) -> [Matrix; 2] {
        let (mut worst, mut best) = (self.answered(), self.answered());
        for i in 0..EXPECTED {
            worst[i][UNPARSEABLE] += self.missing(i);
            best[i][i] += self.missing(i);
        }
        [worst, best]
    }
}

/// Collects trials; keeps eight bytes for each cell of each cluster, and nothing for trials that stand alone.
#[derive(Debug, Clone, Default)]
pub struct ConfusionAccumulator {
    confusion: Confusion,
    clusters: ClusterCounts,
}

/// What is estimated of one label.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassAnalysis {
    /// Share of its predictions that are right.
    pub precision: Estimate,
    /// Share of those expected to be it that are found.
    pub recall: Estimate,
    /// Their harmonic mean.
    pub f1: Estimate,
    /// How many answers were expected to be it.
    pub support: u64,
}

/// Everything that is estimated from a confusion matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// The matrix.
    pub confusion: Confusion,
    /// Share of right answers.
    pub accuracy: Estimate,
    /// Mean of the labels' F1, over those with support.
    pub macro_f1: Estimate,
    /// Correlation of expected and predicted labels.
    pub mcc: Estimate,
    /// Agreement beyond chance.
    pub kappa: Estimate,
    /// Each label.
    pub classes: [ClassAnalysis; EXPECTED],
    /// Share of NEE among answers where True or False was expected.
    pub over_use: Estimate,
    /// Share of True and False among answers where NEE was expected.
    pub under_use: Estimate,
}

impl ConfusionAccumulator {
    /// Counts a trial: the index of its expected label, and of its class below [`PREDICTED`].
    pub fn add(&mut self, expected: usize, predicted: usize, cluster: Cluster) {
        self.confusion.cells[expected][predicted] += 1;
        if predicted != FAILED {
            self.clusters.add(expected * 4 + predicted, cluster);
        }
    }

    /// Counts a trial that was not tried.
    pub fn add_skipped(&mut self, expected: usize) {
        self.confusion.skipped[expected] += 1;
    }

    /// Estimates everything. `unrecorded` trials have no outcome yet and no known label: they widen the bounds of
    /// accuracy, and leave the others without.
    pub fn analyse(self, how: Bootstrap, unrecorded: u64) -> Analysis {
        let kinds = self.clusters.kinds();
        let confusion = self.confusion;
        let answered = confusion.answered();
        let extremes = confusion.extremes();
        let n = count(&answered);
        let missing: f64 = (0..EXPECTED).map(|i| confusion.missing(i)).sum();

        let hits = |c: &Cells| (0..EXPECTED).map(|i| u64::from(c[i * 4 + i])).sum();
        let right = share(&kinds, hits, |c| c.iter().map(|x| u64::from(*x)).sum());
        let mut accuracy = proportion::share(&right);
        accuracy.bounds = {
            let all = n as f64 + missing + unrecorded as f64;
            let hits = right.successes as f64;
            (all > 0.0).then(|| [hits / all, (hits + missing + unrecorded as f64) / all])
        };

        let doubt = Doubt::of(&right);
        let intervals = bca(&kinds, how, resampled);
        let values = resampled(&answered);
        let ends = extremes.map(|matrix| resampled(&matrix));
        let resampled_estimate = |i: usize, n: u64, floor: f64, range: [f64; 2]| {
            let bounds = if unrecorded == 0 { hull(values[i], ends[0][i], ends[1][i]) } else { None };
            doubt.estimate(values[i], intervals[i], bounds, n, floor, range, how)
        };

        let support: [u64; EXPECTED] = std::array::from_fn(|i| confusion.cells[i][..FAILED].iter().sum());
        // Errors in different classes are independent, so the doubts about their F1 add up in squares.
        let floors: Vec<f64> = support.iter().filter(|n| **n > 0).map(|n| doubt.floor(*n)).collect();
        let macro_floor = floors.iter().map(|x| x * x).sum::<f64>().sqrt() / floors.len().max(1) as f64;
        let chance_left = chance_left(&answered);
        let macro_f1 = resampled_estimate(0, n, macro_floor, [0.0, 1.0]);
        let mcc = resampled_estimate(1, n, doubt.floor(n) / chance_left, [-1.0, 1.0]);
        let kappa = resampled_estimate(2, n, doubt.floor(n) / chance_left, [-1.0, 1.0]);

        let classes = std::array::from_fn(|i| {
            let diagonal = |c: &Cells| u64::from(c[i * 4 + i]);
            let mut precision = proportion::share(&share(&kinds, diagonal, |c| predicted_as(c, i)));
            let mut recall = proportion::share(&share(&kinds, diagonal, |c| expected_to_be(c, i)));
            if unrecorded == 0 {
                let ends = |of: fn(&Matrix, usize) -> Option<f64>| extremes.each_ref().map(|matrix| of(matrix, i));
                let [worst, best] = ends(precision_of);
                precision.bounds = hull(precision.value, worst, best);
                let [worst, best] = ends(recall_of);
                recall.bounds = hull(recall.value, worst, best);
            }
            let f1 = resampled_estimate(3 + i, support[i], doubt.floor(support[i]), [0.0, 1.0]);
            ClassAnalysis { precision, recall, f1, support: support[i] }
        });

        let decided = |c: &Cells| expected_to_be(c, 0) + expected_to_be(c, 1);
        let over_use = proportion::share(&share(&kinds, |c| u64::from(c[NEE]) + u64::from(c[4 + NEE]), decided));
        let open = |c: &Cells| expected_to_be(c, NEE);
        let under_use = proportion::share(&share(&kinds, |c| u64::from(c[NEE * 4]) + u64::from(c[NEE * 4 + 1]), open));

        Analysis { confusion, accuracy, macro_f1, mcc, kappa, classes, over_use, under_use }
    }

    /// The matrix so far.
    pub fn confusion(&self) -> &Confusion {
        &self.confusion
    }
}

/// The statistics that need the bootstrap, in the order in which [`ConfusionAccumulator::analyse`] takes them.
fn resampled(matrix: &Matrix) -> [Option<f64>; 6] {
    [
        agreement::macro_f1(matrix),
        agreement::mcc(matrix),
        agreement::kappa(matrix),
        agreement::f1(matrix, 0),
        agreement::f1(matrix, 1),
        agreement::f1(matrix, 2),
    ]
}

/// What is known about independence, for the least width that an interval may have.
struct Doubt {
    clustered: bool,
    clusters: u64,
    /// Effective observations per observation.
    ratio: f64,
}

impl Doubt {
    fn of(right: &super::cluster::ClusteredShare) -> Self {
        let ratio = if right.n == 0 { 1.0 } else { proportion::effective_n(right) / right.n as f64 };
        Self { clustered: right.clusters < right.n, clusters: right.clusters, ratio: ratio.min(1.0) }
    }

    /// Half the least width: `z²/(n + z²)` at the effective sample size, which is as far as Wilson's interval for no
    /// errors at all reaches. A bootstrap cannot draw errors that it has not seen.
    fn floor(&self, n: u64) -> f64 {
        let z2 = Z95 * Z95;
        z2 / (n as f64 * self.ratio + z2)
    }

    #[expect(clippy::too_many_arguments, reason = "each is one part of the estimate")]
    fn estimate(
        &self,
        value: Option<f64>,
        interval: Option<[f64; 2]>,
        bounds: Option<[f64; 2]>,
        n: u64,
        floor: f64,
        range: [f64; 2],
        how: Bootstrap,
    ) -> Estimate {
        let Some(x) = value else {
            return Estimate { value, ci95: None, bounds, method: "undefined".to_owned(), n };
        };
        if self.clusters < 2 {
            let method = "undefined for a single cluster".to_owned();
            return Estimate { value, ci95: None, bounds, method, n };
        }
        let [low, high] = interval.unwrap_or([x, x]);
        let ci = [low.min(x - floor).max(range[0]), high.max(x + floor).min(range[1])];
        let name = format!("bootstrap, BCa, B = {}", how.replicates);
        let method = if self.clustered { clustered_method(&format!("cluster {name}"), self.clusters) } else { name };
        Estimate { value, ci95: Some(ci), bounds, method, n }
    }
}

fn count(matrix: &Matrix) -> u64 {
    matrix.iter().flatten().sum::<f64>() as u64
}

fn expected_to_be(cells: &Cells, label: usize) -> u64 {
    cells[label * 4..label * 4 + 4].iter().map(|x| u64::from(*x)).sum()
}

fn predicted_as(cells: &Cells, label: usize) -> u64 {
    (0..EXPECTED).map(|i| u64::from(cells[i * 4 + label])).sum()
}

fn precision_of(matrix: &Matrix, label: usize) -> Option<f64> {
    let predicted: f64 = matrix.iter().map(|row| row[label]).sum();
    (predicted > 0.0).then(|| matrix[label][label] / predicted)
}

fn recall_of(matrix: &Matrix, label: usize) -> Option<f64> {
    let expected: f64 = matrix[label].iter().sum();
    (expected > 0.0).then(|| matrix[label][label] / expected)
}

/// The share of agreement that chance leaves to be gained, by which an error in accuracy is magnified in κ.
fn chance_left(matrix: &Matrix) -> f64 {
    let n: f64 = matrix.iter().flatten().sum();
    let by_chance: f64 = (0..EXPECTED)
        .map(|k| matrix[k].iter().sum::<f64>() * matrix.iter().map(|row| row[k]).sum::<f64>() / (n * n))
        .sum();
    (1.0 - by_chance).max(1e-9)
}

/// The extremes as an interval around the value, where all are defined; with nothing answered, the extremes alone.
fn hull(value: Option<f64>, worst: Option<f64>, best: Option<f64>) -> Option<[f64; 2]> {
    let (worst, best) = (worst?, best?);
    let value = value.unwrap_or(worst);
    Some([worst.min(best).min(value), worst.max(best).max(value)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn collect(matrix: [[u64; PREDICTED]; EXPECTED], cluster: impl Fn(u64) -> Cluster) -> ConfusionAccumulator {
        let mut all = ConfusionAccumulator::default();
        let mut number = 0;
        for (i, row) in matrix.into_iter().enumerate() {
            for (j, count) in row.into_iter().enumerate() {
                for _ in 0..count {
                    all.add(i, j, cluster(number));
                    number += 1;
                }
            }
        }
        all
    }

    const EXAMPLE: [[u64; PREDICTED]; EXPECTED] = [[50, 5, 10, 0, 0], [4, 30, 6, 0, 0], [12, 8, 25, 0, 0]];

    #[test]
    fn the_example_gives_its_known_answers_with_intervals() {
        let found = collect(EXAMPLE, |_| Cluster::Alone).analyse(Bootstrap::default(), 0);
        assert_eq!(found.accuracy.value, Some(0.7));
        assert_eq!(found.accuracy.ci95, proportion::wilson(105.0, 150.0));
        assert_eq!(found.accuracy.bounds, Some([0.7, 0.7]));
        assert!((found.macro_f1.value.expect("defined") - 0.689_215_232_1).abs() < 1e-9);
        // The analytic deviation of κ here is .0546 (Fleiss, Cohen & Everitt).
        let [low, high] = found.kappa.ci95.expect("defined");
        assert!((high - low - 2.0 * Z95 * 0.0546).abs() < 0.02, "{low} {high}");
        assert_eq!(found.classes.map(|class| class.support), [65, 40, 45]);
        assert_eq!(found.over_use.value, Some(16.0 / 105.0));
        assert_eq!(found.under_use.value, Some(20.0 / 45.0));
        assert_eq!(found.kappa.method, "bootstrap, BCa, B = 2000");
    }

    #[test]
    fn failures_stand_in_their_column_and_in_the_bounds() {
        let mut all = collect([[8, 0, 0, 0, 2], [0; 5], [0; 5]], |_| Cluster::Alone);
        all.add_skipped(0);
        all.add_skipped(1);
        let found = all.analyse(Bootstrap::default(), 0);
        assert_eq!((found.accuracy.value, found.accuracy.n), (Some(1.0), 8));
        assert_eq!(found.accuracy.bounds, Some([8.0 / 12.0, 1.0]));
        assert_eq!(found.classes[0].recall.bounds, Some([8.0 / 11.0, 1.0]));
        // With the second label unanswered its F1 is 0 at worst.
        let bounds = found.macro_f1.bounds.expect("all recorded");
        assert!((bounds[0] - 0.5 * 16.0 / 19.0).abs() < 1e-12 && bounds[1] == 1.0, "{bounds:?}");
        assert_eq!(found.confusion.cells[0], [8, 0, 0, 0, 2]);
    }

    #[test]
    fn trials_without_an_outcome_widen_the_bounds() {
        let found = collect([[8, 0, 0, 0, 0], [0; 5], [0; 5]], |_| Cluster::Alone).analyse(Bootstrap::default(), 2);
        assert_eq!(found.accuracy.bounds, Some([0.8, 1.0]));
        assert_eq!(found.macro_f1.bounds, None);
    }

    #[test]
    fn perfect_answers_still_leave_doubt() {
        let perfect = [[20, 0, 0, 0, 0], [0, 20, 0, 0, 0], [0, 0, 20, 0, 0]];
        let found = collect(perfect, |_| Cluster::Alone).analyse(Bootstrap::default(), 0);
        for estimate in [&found.macro_f1, &found.mcc, &found.kappa, &found.classes[0].f1] {
            let [low, high] = estimate.ci95.expect("defined");
            assert!(low < 0.95 && high == 1.0, "{estimate:?}");
        }
    }

    #[test]
    fn clusters_widen_the_interval_and_are_named() {
        let alone = collect(EXAMPLE, |_| Cluster::Alone).analyse(Bootstrap::default(), 0);
        // Five neighbours of the same cell in each cluster: nearly as if there were a fifth as many.
        let grouped = collect(EXAMPLE, |i| Cluster::Group(i as u32 / 5)).analyse(Bootstrap::default(), 0);
        let width = |e: &Estimate| e.ci95.map(|[low, high]| high - low).expect("defined");
        assert_eq!(alone.macro_f1.value, grouped.macro_f1.value);
        assert!(width(&grouped.macro_f1) > 1.8 * width(&alone.macro_f1));
        assert!(width(&grouped.accuracy) > 1.8 * width(&alone.accuracy));
        assert_eq!(grouped.accuracy.method, "CR1, t(29), 30 clusters");
        let single = collect(EXAMPLE, |_| Cluster::Group(0)).analyse(Bootstrap::default(), 0);
        assert_eq!((single.accuracy.ci95, single.mcc.ci95), (None, None));
    }

    #[test]
    fn nothing_answered_is_undefined() {
        let found = ConfusionAccumulator::default().analyse(Bootstrap::default(), 0);
        assert_eq!((found.accuracy.value, found.accuracy.bounds, found.kappa.value), (None, None, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn intervals_hold_their_estimates(
            trials in prop::collection::vec((0usize..3, 0usize..5, 0u32..30), 1..80),
            grouped: bool,
        ) {
            let mut all = ConfusionAccumulator::default();
            for &(expected, predicted, group) in &trials {
                all.add(expected, predicted, if grouped { Cluster::Group(group) } else { Cluster::Alone });
            }
            let how = Bootstrap { replicates: 200, seed: 9 };
            let found = all.clone().analyse(how, 0);
            prop_assert_eq!(&found, &all.analyse(how, 0));
            let mut estimates = vec![found.accuracy, found.macro_f1, found.over_use, found.under_use];
            estimates.extend(found.classes.into_iter().flat_map(|c| [c.precision, c.recall, c.f1]));
            let signed = [found.mcc, found.kappa];
            for (estimate, least) in estimates.iter().map(|e| (e, 0.0)).chain(signed.iter().map(|e| (e, -1.0))) {
                for [low, high] in [estimate.ci95, estimate.bounds].into_iter().flatten() {
                    prop_assert!(least <= low && high <= 1.0, "{:?}", estimate);
                    if let Some(x) = estimate.value {
                        prop_assert!(low <= x + 1e-12 && x <= high + 1e-12, "{:?}", estimate);
                    }
                }
                if let Some([low, high]) = estimate.ci95 {
                    prop_assert!(low < high, "{:?}", estimate);
                }
            }
        }
    }
}
