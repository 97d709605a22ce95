//! Evidence about a difference of macro-F1, MCC or κ: the paired bootstrap, and the same checks as for means on what each
//! case contributes.
//!
//! Cases (or clusters) are drawn with both sides' answers together. Those of the same composition, expected label by
//! base's answers by head's answers, are exchangeable, so that a draw is a multinomial one over compositions and its cost does
//! not grow with the number of cases. Rare compositions are cheaper to draw one by one.
//!
//! A bootstrap cannot draw what it has not seen. Beside it stands therefore the score test of the linearised statistic:
//! each case's influence on the difference (Hampel 1974, The influence curve and its role in robust estimation) has the
//! difference as its mean, and the largest influence that a changed answer could have bounds what was not seen. A label
//! with few cases thereby needs many more of them, for each weighs much in macro-F1.

use super::evidence::{Check, Evidence};
use super::resampled::Draws;
use super::{PairedEstimate, PairedLabels, PairedValue, Settings, Statistic, means};
use crate::stats::agreement;
use crate::stats::bootstrap::Matrix;
use crate::stats::random::Random;

/// Cells of both sides' matrices: the base's twelve, then the head's.
const CELLS: usize = 24;
type Row = [f32; CELLS];
type Sums = [f64; CELLS];

/// The statistics that are bootstrapped, in this order.
const STATISTICS: [Statistic; 3] = [Statistic::MacroF1, Statistic::Mcc, Statistic::Kappa];

/// Below this many clusters of a composition, drawing them one by one costs less than a binomial draw.
const COMMON: u64 = 12;

impl Statistic {
    fn of(self, matrix: &Matrix) -> Option<f64> {
        match self {
            Self::Accuracy => agreement::accuracy(matrix),
            Self::MacroF1 => agreement::macro_f1(matrix),
            Self::Mcc => agreement::mcc(matrix),
            Self::Kappa => agreement::kappa(matrix),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::MacroF1 => "macro-F1",
            Self::Mcc => "MCC",
            Self::Kappa => "κ",
        }
    }
}

/// Clusters (or cases) of one composition.
#[derive(Debug, Clone)]
struct Kind {
    row: Row,
    count: u64,
}

/// The draws that the statistics of one set of pairs share.
#[derive(Debug, Clone)]
pub(super) struct Resampled {
    total: Sums,
    kinds: Vec<Kind>,
    draws: [Vec<f64>; STATISTICS.len()],
    resamples: u32,
}

impl Resampled {
    /// Draws as often as the settings say.
    pub(super) fn new(pairs: &[PairedLabels], settings: &Settings) -> Self {
        let kinds = kinds(pairs, settings.clustered);
        let mut total = [0.0; CELLS];
        for kind in &kinds {
            add(&mut total, &kind.row, kind.count as f64);
        }
        let clusters: u64 = kinds.iter().map(|kind| kind.count).sum();
        let mut draws: [Vec<f64>; STATISTICS.len()] = Default::default();
        if clusters >= 2 {
            let urn = Urn::new(&kinds, clusters);
            for sums in urn.draws(settings.seed, settings.resamples as usize) {
                for (values, delta) in draws.iter_mut().zip(deltas(&sums)) {
                    values.extend(delta);
                }
            }
        }
        Self { total, kinds, draws, resamples: settings.resamples }
    }

    /// Skewness of the jackknife values of the statistic at `index`.
    fn acceleration(&self, index: usize) -> f64 {
        let values: Vec<(f64, f64)> = self
            .kinds
            .iter()
            .filter_map(|kind| {
                let mut without = self.total;
                add(&mut without, &kind.row, -1.0);
                deltas(&without)[index].map(|value| (value, kind.count as f64))
            })
            .collect();
        let weight: f64 = values.iter().map(|(_, w)| w).sum();
        let mean = values.iter().map(|(x, w)| x * w).sum::<f64>() / weight;
        let (squares, cubes) = values.iter().fold((0.0, 0.0), |(squares, cubes), (x, w)| {
            let away = mean - x;
            (squares + w * away * away, cubes + w * away * away * away)
        });
        if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 }
    }
}

fn add(sums: &mut Sums, row: &Row, times: f64) {
    for (sum, x) in sums.iter_mut().zip(row) {
        *sum += f64::from(*x) * times;
    }
}

fn matrices(sums: &Sums) -> [Matrix; 2] {
    [0, 12].map(|side| std::array::from_fn(|i| std::array::from_fn(|j| sums[side + i * 4 + j])))
}

fn deltas(sums: &Sums) -> [Option<f64>; STATISTICS.len()] {
    let [base, head] = matrices(sums);
    STATISTICS.map(|statistic| Some(statistic.of(&head)? - statistic.of(&base)?))
}

fn key(pair: &PairedLabels) -> (u8, [u32; 4], [u32; 4]) {
    (pair.expected, pair.base.map(f32::to_bits), pair.head.map(f32::to_bits))
}

fn accumulate(row: &mut Row, pair: &PairedLabels) {
    // A label that is none is refused by `evidence`; here it must only not be out of range.
    let at = usize::from(pair.expected.min(2)) * 4;
    for j in 0..4 {
        row[at + j] += pair.base[j];
        row[12 + at + j] += pair.head[j];
    }
}

/// The compositions that occur, in a fixed order.
fn kinds(pairs: &[PairedLabels], clustered: bool) -> Vec<Kind> {
    let mut sorted = pairs.to_vec();
    if !clustered {
        sorted.sort_unstable_by_key(key);
        let same = sorted.chunk_by(|a, b| key(a) == key(b));
        return same
            .map(|same| {
                let mut row = [0.0; CELLS];
                accumulate(&mut row, &same[0]);
                Kind { row, count: same.len() as u64 }
            })
            .collect();
    }
    sorted.sort_unstable_by_key(|pair| (pair.cluster, key(pair)));
    let mut rows: Vec<Row> = sorted
        .chunk_by(|a, b| a.cluster == b.cluster)
        .map(|cluster| {
            let mut row = [0.0; CELLS];
            for pair in cluster {
                accumulate(&mut row, pair);
            }
            row
        })
        .collect();
    let bits = |row: &Row| row.map(f32::to_bits);
    rows.sort_unstable_by_key(bits);
    rows.chunk_by(|a, b| bits(a) == bits(b)).map(|same| Kind { row: same[0], count: same.len() as u64 }).collect()
}

/// The clusters, arranged for drawing.
struct Urn<'a> {
    clusters: u64,
    common: Vec<&'a Kind>,
    rare: Vec<Row>,
}

impl<'a> Urn<'a> {
    fn new(kinds: &'a [Kind], clusters: u64) -> Self {
        let (mut common, rare): (Vec<_>, Vec<_>) = kinds.iter().partition(|kind| kind.count >= COMMON);
        // The largest first, so that the binomial draws run out of clusters early.
        common.sort_by_key(|kind| std::cmp::Reverse(kind.count));
        let rare = rare.iter().flat_map(|kind| std::iter::repeat_n(kind.row, kind.count as usize)).collect();
        Self { clusters, common, rare }
    }

    /// Draws in blocks with generators of their own, over threads where it is much work: the same whatever their number.
    fn draws(&self, seed: u64, draws: usize) -> Vec<Sums> {
        const BLOCKS: usize = 16;
        let block = |number: usize| {
            let mut random = Random::seeded(seed.wrapping_add(number as u64 * 0x9e37_79b9));
            let size = draws * (number + 1) / BLOCKS - draws * number / BLOCKS;
            (0..size).map(|_| self.draw(&mut random)).collect::<Vec<_>>()
        };
        let threads = if draws * self.rare.len() < 5_000_000 {
            1
        } else {
            std::thread::available_parallelism().map_or(1, usize::from).min(BLOCKS)
        };
        if threads == 1 {
            return (0..BLOCKS).flat_map(block).collect();
        }
        let mut blocks: Vec<(usize, Vec<Sums>)> = std::thread::scope(|scope| {
            let of_thread =
                |thread| scope.spawn(move || (thread..BLOCKS).step_by(threads).map(|i| (i, block(i))).collect());
            let running: Vec<std::thread::ScopedJoinHandle<'_, Vec<_>>> = (0..threads).map(of_thread).collect();
            running.into_iter().flat_map(|thread| thread.join().expect("drawing does not panic")).collect()
        });
        blocks.sort_by_key(|(number, _)| *number);
        blocks.into_iter().flat_map(|(_, sums)| sums).collect()
    }

    fn draw(&self, random: &mut Random) -> Sums {
        let mut sums = [0.0; CELLS];
        let (mut left, mut weight) = (self.clusters, self.clusters);
        for kind in &self.common {
            let times = random.binomial(left, kind.count as f64 / weight as f64);
            left -= times;
            weight -= kind.count;
            add(&mut sums, &kind.row, times as f64);
        }
        let size = self.rare.len() as u64;
        while left > 0 {
            // Single precision is exact enough for so few.
            let some = left.min(256);
            let mut row = [0.0f32; CELLS];
            for _ in 0..some {
                let at = ((random.bits() >> 32) * size) >> 32;
                for (sum, x) in row.iter_mut().zip(&self.rare[at as usize]) {
                    *sum += x;
                }
            }
            add(&mut sums, &row, 1.0);
            left -= some;
        }
        sums
    }
}

/// What one more answer in each cell adds to the statistic, times the number of answers.
fn influence(statistic: Statistic, matrix: &Matrix) -> [f64; 12] {
    let total: f64 = matrix.iter().flatten().sum();
    let shares: Matrix = matrix.map(|row| row.map(|count| count / total));
    std::array::from_fn(|cell| {
        let with = |step: f64| {
            let mut moved = shares;
            moved[cell / 4][cell % 4] += step;
            statistic.of(&moved)
        };
        // No support, no influence: such a label is in no mean.
        if shares[cell / 4].iter().sum::<f64>() <= 0.0 {
            return 0.0;
        }
        let step = 1e-6;
        match (with(step), with(-step)) {
            (Some(more), Some(less)) => (more - less) / (2.0 * step),
            _ => 0.0,
        }
    })
}

/// Evidence about one statistic.
pub(super) fn evidence(
    pairs: &[PairedLabels],
    statistic: Statistic,
    resampled: Option<&Resampled>,
    settings: &Settings,
    gate: bool,
) -> Evidence {
    let valid = |pair: &PairedLabels| {
        usize::from(pair.expected) < 3
            && pair.base.iter().chain(&pair.head).all(|share| share.is_finite() && *share >= 0.0)
    };
    if !pairs.iter().all(valid) {
        let estimate = PairedEstimate { n: pairs.len() as u64, ..PairedEstimate::default() };
        return Evidence::unfit(estimate, "a share of answers is not a number");
    }
    let Some(index) = STATISTICS.iter().position(|s| *s == statistic) else {
        let right = |shares: &[f32; 4], expected: u8| whole(f64::from(shares[usize::from(expected)]));
        let value = |p: &PairedLabels| PairedValue {
            base: right(&p.base, p.expected),
            head: right(&p.head, p.expected),
            cluster: p.cluster,
        };
        let values: Vec<PairedValue> = pairs.iter().map(value).collect();
        return means::evidence(&values, Some([0.0, 1.0]), settings, gate);
    };
    let drawn;
    let resampled = match resampled {
        Some(shared) => shared,
        None => {
            drawn = Resampled::new(pairs, settings);
            &drawn
        }
    };
    bootstrapped(pairs, statistic, index, resampled, settings, gate)
}

/// Shares are in single precision; whole answers must stay whole.
fn whole(share: f64) -> f64 {
    if (share - share.round()).abs() < 1e-6 { share.round() } else { share }
}

fn bootstrapped(
    pairs: &[PairedLabels],
    statistic: Statistic,
    index: usize,
    resampled: &Resampled,
    settings: &Settings,
    gate: bool,
) -> Evidence {
    let name = statistic.name();
    let sides = matrices(&resampled.total);
    let [base, head] = sides.map(|matrix| statistic.of(&matrix));
    let mut estimate = PairedEstimate { n: pairs.len() as u64, base, head, ..PairedEstimate::default() };
    if pairs.is_empty() {
        return Evidence::unfit(estimate, "there are no pairs");
    }
    let (Some(base), Some(head)) = (base, head) else {
        return Evidence::undefined(
            estimate,
            &format!("{name} is undefined: the expected or the answered labels are all one"),
        );
    };
    let delta = head - base;
    estimate.delta = Some(delta);

    // Each case's contribution to the difference; their mean is the difference.
    let influences = [influence(statistic, &sides[0]), influence(statistic, &sides[1])];
    let contribution = |pair: &PairedLabels| {
        let at = usize::from(pair.expected) * 4;
        let side = |shares: &[f32; 4], of: &[f64; 12]| (0..4).map(|j| f64::from(shares[j]) * of[at + j]).sum::<f64>();
        // Equal answers contribute the same to the last digit, so that cases of a kind stay together.
        let d = delta + side(&pair.head, &influences[1]) - side(&pair.base, &influences[0]);
        (d * 1e12).round() / 1e12
    };
    let values: Vec<PairedValue> =
        pairs.iter().map(|pair| PairedValue { base: 0.0, head: contribution(pair), cluster: pair.cluster }).collect();
    let mut evidence =
        means::linearised(&mut estimate, &values, delta, support(&sides, &influences, delta), settings, gate);
    evidence.reach = if statistic == Statistic::MacroF1 { 1.0 } else { 2.0 };
    let draws = &resampled.draws[index];
    let enough = draws.len() * 10 >= resampled.resamples as usize * 9;
    let resamples = resampled.resamples;
    let clusters = estimate.clusters.map(|c| format!(", {c} clusters")).unwrap_or_default();
    let kind = if estimate.clusters.is_some() { "cluster " } else { "" };
    if let Some(draws) = enough.then(|| Draws::bca(draws.clone(), delta, resampled.acceleration(index))).flatten() {
        // Draws cannot show a smaller probability than this.
        let least = 1.0 / (f64::from(resamples) + 1.0);
        let tail = |z: f64| crate::stats::special::normal_cdf(-z).max(least);
        let (greater, less) = (tail(draws.above(0.0)), tail(-draws.below(0.0)));
        estimate.p_value = Some((2.0 * greater.min(less)).min(1.0));
        (evidence.greater, evidence.less) = (Some(greater), Some(less));
        let bounded = if gate { ", not narrower than the score interval" } else { "" };
        estimate.method = format!("paired {kind}bootstrap, BCa, B = {resamples}{bounded}{clusters}");
        evidence.step = 2.0 * draws.deviation();
        evidence.checks.push(Check::Draws(draws));
    } else {
        // Nothing varies between draws, or a statistic is undefined in too many of them.
        if enough {
            estimate.p_value = Some(1.0);
            (evidence.greater, evidence.less) = (Some(1.0), Some(1.0));
        } else {
            estimate.warnings.push(format!("{name} is undefined in more than a tenth of the bootstrap's draws"));
        }
        estimate.method = format!("score interval{clusters}");
    }
    let PairedEstimate { why_undefined, unfit, .. } = evidence.estimate;
    evidence.estimate = PairedEstimate { why_undefined, unfit, ..estimate };
    evidence
}

/// The least and the greatest contribution to the difference that a case's answers could make.
fn support(sides: &[Matrix; 2], influences: &[[f64; 12]; 2], delta: f64) -> [f64; 2] {
    let labels = (0..3).filter(|i| sides[0][*i].iter().sum::<f64>() > 0.0);
    let ends = labels.map(|i| {
        let end = |side: usize, pick: fn(f64, f64) -> f64| {
            influences[side][i * 4..i * 4 + 4].iter().copied().reduce(pick).unwrap_or(0.0)
        };
        [delta + end(1, f64::min) - end(0, f64::max), delta + end(1, f64::max) - end(0, f64::min)]
    });
    ends.fold([-1.0, 1.0], |[low, high], [l, h]| [low.min(l), high.max(h)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::paired::Direction;

    /// A case with single answers.
    fn case(expected: u8, base: usize, head: usize, cluster: u32) -> PairedLabels {
        let one = |label: usize| std::array::from_fn(|j| if j == label { 1.0 } else { 0.0 });
        PairedLabels { expected, base: one(base), head: one(head), cluster }
    }

    /// Mostly right answers that both sides share, with some of their own.
    fn cases(n: usize, seed: u64) -> Vec<PairedLabels> {
        let mut random = Random::seeded(seed);
        (0..n)
            .map(|i| {
                let expected = (random.unit() * 3.0) as u8;
                let mut answer =
                    |likely: usize| if random.unit() < 0.85 { likely } else { (random.unit() * 4.0) as usize };
                let shared = answer(usize::from(expected));
                let (base, head) = (answer(shared), answer(shared));
                case(expected, base, head, i as u32 / 3)
            })
            .collect()
    }

    fn evidence_of(pairs: &[PairedLabels], statistic: Statistic, clustered: bool) -> Evidence {
        evidence(pairs, statistic, None, &Settings { clustered, ..Settings::default() }, false)
    }

    #[test]
    fn contributions_have_the_difference_as_their_mean_and_its_deviation() {
        let pairs = cases(600, 1);
        for statistic in STATISTICS {
            let found = evidence_of(&pairs, statistic, false);
            let delta = found.delta().expect("defined");
            let [low, high] = found.interval([0.025, 0.025]).expect("defined");
            assert!(low < delta && delta < high);
            for check in &found.checks {
                if let Check::Student { delta: mean, error, .. } = check {
                    assert!((mean - delta).abs() < 1e-9);
                    // Bootstrap and influence agree on the deviation.
                    let half = (high - low) / 2.0 / crate::stats::special::Z95;
                    assert!((half / error - 1.0).abs() < 0.08, "{statistic:?}: {half} {error}");
                }
            }
        }
    }

    /// The bootstrap as it is defined, case by case.
    fn plainly(pairs: &[PairedLabels], index: usize, draws: usize) -> f64 {
        let mut random = Random::seeded(9);
        let values: Vec<f64> = (0..draws)
            .filter_map(|_| {
                let mut row = [0.0; CELLS];
                for _ in 0..pairs.len() {
                    accumulate(&mut row, &pairs[(random.unit() * pairs.len() as f64) as usize]);
                }
                let mut sums = [0.0; CELLS];
                add(&mut sums, &row, 1.0);
                deltas(&sums)[index]
            })
            .collect();
        Draws::percentile(values).expect("they vary").deviation()
    }

    #[test]
    fn draws_over_compositions_are_the_bootstrap() {
        let pairs = cases(300, 4);
        let settings = Settings::default();
        let found = Resampled::new(&pairs, &settings);
        for index in 0..STATISTICS.len() {
            let deviation = Draws::percentile(found.draws[index].clone()).expect("they vary").deviation();
            let expected = plainly(&pairs, index, 4000);
            assert!((deviation / expected - 1.0).abs() < 0.05, "{deviation} {expected}");
        }
    }

    #[test]
    fn clusters_of_copies_widen_the_interval() {
        let single = cases(200, 3);
        let copies: Vec<PairedLabels> = (0..3)
            .flat_map(|_| single.iter().enumerate().map(|(i, p)| PairedLabels { cluster: i as u32, ..*p }))
            .collect();
        let width = |e: Evidence| e.interval([0.025, 0.025]).map(|[low, high]| high - low).expect("defined");
        let alone = width(evidence_of(&single, Statistic::MacroF1, false));
        let grouped = width(evidence_of(&copies, Statistic::MacroF1, true));
        assert!((grouped / alone - 1.0).abs() < 0.05, "{grouped} {alone}");
    }

    #[test]
    fn the_same_answers_on_both_sides_are_no_change_and_still_leave_doubt() {
        let pairs: Vec<PairedLabels> = cases(300, 6).into_iter().map(|p| PairedLabels { head: p.base, ..p }).collect();
        for statistic in [Statistic::Accuracy, Statistic::MacroF1, Statistic::Mcc, Statistic::Kappa] {
            let found = evidence_of(&pairs, statistic, false).estimate(Direction::HigherIsBetter, 0.95);
            assert_eq!((found.delta, found.p_value), (Some(0.0), Some(1.0)), "{statistic:?}");
            let [low, high] = found.interval.expect("defined");
            assert!(low <= -0.0126 && high >= 0.0126, "{statistic:?} {low} {high}");
        }
    }

    #[test]
    fn a_rare_label_needs_more_cases() {
        let of = |rare: usize| -> Vec<PairedLabels> {
            (0..600).map(|i| if i < rare { case(2, 2, 2, 0) } else { case((i % 2) as u8, i % 2, i % 2, 0) }).collect()
        };
        let high =
            |rare| evidence_of(&of(rare), Statistic::MacroF1, false).interval([0.025, 0.025]).expect("defined")[1];
        assert!(high(15) > 3.0 * high(200), "{} {}", high(15), high(200));
    }

    #[test]
    fn without_two_labels_there_is_no_coefficient() {
        let pairs = vec![case(0, 0, 0, 0); 9];
        let found = evidence_of(&pairs, Statistic::Mcc, false);
        assert!(found.delta().is_none() && found.estimate(Direction::HigherIsBetter, 0.95).why_undefined.is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn swapping_the_sides_mirrors_the_difference(seed in 0u64..1000, n in 20usize..200) {
            let pairs = cases(n, seed);
            let swapped: Vec<PairedLabels> =
                pairs.iter().map(|p| PairedLabels { base: p.head, head: p.base, ..*p }).collect();
            for statistic in STATISTICS {
                let (one, other) = (evidence_of(&pairs, statistic, false), evidence_of(&swapped, statistic, false));
                let (Some(a), Some(b)) = (one.delta(), other.delta()) else { continue };
                prop_assert!((a + b).abs() < 1e-12);
                let (Some(a), Some(b)) = (one.interval([0.025; 2]), other.interval([0.025; 2])) else { continue };
                // The draws differ; the ends are quantiles of ten thousand.
                prop_assert!((a[0] + b[1]).abs() < 0.1 * (a[1] - a[0]), "{:?} {:?}", a, b);
            }
        }
    }
}
