//! Bootstrap intervals for what has no closed form: clusters are drawn with replacement, and every statistic of interest
//! is computed from each draw's matrix.
//!
//! Clusters of the same composition are exchangeable, so a draw needs only how often each composition comes up. Without
//! clusters there are at most twelve compositions, the cells themselves, and the cost does not depend on the number of
//! observations. Compositions that few clusters share are cheaper to draw one by one.

use super::cluster::{CELLS, Cells, Kind};
use super::quantile;
use super::random::Random;
use super::special::{Z95, normal_cdf, normal_quantile};

/// An expected × answered matrix: three labels by three labels and `unparseable`.
pub type Matrix = [[f64; 4]; 3];

/// How to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    /// How many draws.
    pub replicates: usize,
    /// Of the generator: the same seed gives the same interval.
    pub seed: u64,
}

impl Default for Bootstrap {
    /// 2 000 draws: the interval's ends then vary by about a twentieth of its width from seed to seed.
    fn default() -> Self {
        Self { replicates: 2_000, seed: 0x7370_616e_7363_6f72 }
    }
}

/// Below this many clusters of a composition, drawing them one by one costs less than a binomial draw.
const COMMON: u64 = 12;

/// The 95 % BCa intervals of `S` statistics (Efron 1987, Better bootstrap confidence intervals), acceleration by the
/// jackknife over clusters. `None` where the statistic itself is undefined, in more than a tenth of the draws undefined, or
/// the same in all of them, and with fewer than two clusters.
pub fn bca<const S: usize>(
    kinds: &[Kind],
    how: Bootstrap,
    statistics: impl Fn(&Matrix) -> [Option<f64>; S],
) -> [Option<[f64; 2]>; S] {
    let clusters: u64 = kinds.iter().map(|kind| kind.clusters).sum();
    if clusters < 2 {
        return [None; S];
    }
    let total = totals(kinds);
    let observed = statistics(&matrix(&total));
    let mut draws: [Vec<f64>; S] = std::array::from_fn(|_| Vec::with_capacity(how.replicates));
    let urn = Urn::new(kinds, clusters);
    let mut random = Random::seeded(how.seed);
    for _ in 0..how.replicates {
        for (values, value) in draws.iter_mut().zip(statistics(&matrix(&urn.draw(&mut random)))) {
            values.extend(value);
        }
    }
    let accelerations = accelerations(kinds, &total, &statistics);
    let mut intervals = [None; S];
    for (i, values) in draws.iter_mut().enumerate() {
        if let Some(observed) = observed[i]
            && values.len() * 10 >= how.replicates * 9
        {
            values.sort_unstable_by(f64::total_cmp);
            intervals[i] = interval(values, observed, accelerations[i]);
        }
    }
    intervals
}

fn totals(kinds: &[Kind]) -> [u64; CELLS] {
    let mut total = [0; CELLS];
    for kind in kinds {
        for (sum, &count) in total.iter_mut().zip(&kind.cells) {
            *sum += u64::from(count) * kind.clusters;
        }
    }
    total
}

fn matrix(cells: &[u64; CELLS]) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| cells[i * 4 + j] as f64))
}

/// The interval of sorted draws.
fn interval(draws: &[f64], observed: f64, acceleration: f64) -> Option<[f64; 2]> {
    let (first, last) = (draws.first()?, draws.last()?);
    if last - first <= f64::EPSILON {
        return None;
    }
    // Statistics of counts repeat their values: draws equal to the observed one count half.
    let tolerance = 1e-12;
    let below = draws.partition_point(|x| *x < observed - tolerance);
    let not_above = draws.partition_point(|x| *x <= observed + tolerance);
    let n = draws.len() as f64;
    let share = ((below + not_above) as f64 / 2.0 / n).clamp(0.5 / n, 1.0 - 0.5 / n);
    let bias = normal_quantile(share);
    let end = |z: f64| {
        let shifted = bias + z;
        let adjusted = bias + shifted / (1.0 - acceleration * shifted);
        quantile::of_sorted(draws, normal_cdf(adjusted))
    };
    Some([end(-Z95)?.min(observed), end(Z95)?.max(observed)])
}

/// Skewness of the jackknife values, one for each statistic; leaving out any cluster of a kind gives the same value.
fn accelerations<const S: usize>(
    kinds: &[Kind],
    total: &[u64; CELLS],
    statistics: &impl Fn(&Matrix) -> [Option<f64>; S],
) -> [f64; S] {
    let without = |kind: &Kind| {
        let mut cells = *total;
        for (sum, &count) in cells.iter_mut().zip(&kind.cells) {
            *sum -= u64::from(count);
        }
        statistics(&matrix(&cells))
    };
    let (mut means, mut weights) = ([0.0; S], [0.0; S]);
    for kind in kinds {
        for (i, value) in without(kind).into_iter().enumerate() {
            if let Some(value) = value {
                means[i] += kind.clusters as f64 * value;
                weights[i] += kind.clusters as f64;
            }
        }
    }
    let (mut squares, mut cubes) = ([0.0; S], [0.0; S]);
    for kind in kinds {
        for (i, value) in without(kind).into_iter().enumerate() {
            if let Some(value) = value {
                let deviation = means[i] / weights[i] - value;
                squares[i] += kind.clusters as f64 * deviation.powi(2);
                cubes[i] += kind.clusters as f64 * deviation.powi(3);
            }
        }
    }
    std::array::from_fn(|i| if squares[i] > 0.0 { cubes[i] / (6.0 * squares[i].powf(1.5)) } else { 0.0 })
}

/// The clusters, arranged for drawing.
struct Urn<'a> {
    clusters: u64,
    common: Vec<&'a Kind>,
    rare: Rows,
}

/// The rare clusters' cells, one row each, as narrow as they fit: they are read at random.
enum Rows {
    Narrow(Vec<[u8; 16]>),
    Wide(Vec<Cells>),
}

impl<'a> Urn<'a> {
    fn new(kinds: &'a [Kind], clusters: u64) -> Self {
        let (mut common, rare): (Vec<_>, Vec<_>) = kinds.iter().partition(|kind| kind.clusters >= COMMON);
        // The largest first, so that the binomial draws run out of clusters early.
        common.sort_by_key(|kind| std::cmp::Reverse(kind.clusters));
        let rows = rare.iter().flat_map(|kind| std::iter::repeat_n(kind.cells, kind.clusters as usize));
        let fits = rare.iter().all(|kind| kind.cells.iter().all(|count| *count <= 255));
        let rare = if fits {
            let narrow = |cells: Cells| std::array::from_fn(|i| cells.get(i).map_or(0, |count| *count as u8));
            Rows::Narrow(rows.map(narrow).collect())
        } else {
            Rows::Wide(rows.collect())
        };
        Self { clusters, common, rare }
    }

    /// The cells of as many clusters as there are, drawn with replacement.
    fn draw(&self, random: &mut Random) -> [u64; CELLS] {
        let mut cells = [0u64; CELLS];
        let (mut left, mut weight) = (self.clusters, self.clusters);
        for kind in &self.common {
            let times = random.binomial(left, kind.clusters as f64 / weight as f64);
            left -= times;
            weight -= kind.clusters;
            for (sum, &count) in cells.iter_mut().zip(&kind.cells) {
                *sum += u64::from(count) * times;
            }
        }
        match &self.rare {
            Rows::Narrow(rows) => {
                // 32 bits hold 16 million such clusters, which is more than there can be.
                let mut sums = [0u32; 16];
                pick(rows, left, random, |row| {
                    for (sum, &count) in sums.iter_mut().zip(row) {
                        *sum += u32::from(count);
                    }
                });
                for (sum, &more) in cells.iter_mut().zip(&sums) {
                    *sum += u64::from(more);
                }
            }
            Rows::Wide(rows) => pick(rows, left, random, |row| {
                for (sum, &count) in cells.iter_mut().zip(row) {
                    *sum += u64::from(count);
                }
            }),
        }
        cells
    }
}

/// Picks rows with replacement, two for each 64 random bits; the bias of the multiplication is below rows / 2³².
fn pick<T>(rows: &[T], times: u64, random: &mut Random, mut take: impl FnMut(&T)) {
    let size = rows.len() as u64;
    let mut taken = 0;
    while taken < times {
        let bits = random.bits();
        take(&rows[(((bits & 0xffff_ffff) * size) >> 32) as usize]);
        if taken + 1 < times {
            take(&rows[(((bits >> 32) * size) >> 32) as usize]);
        }
        taken += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::agreement;

    fn statistics(m: &Matrix) -> [Option<f64>; 3] {
        [agreement::macro_f1(m), agreement::mcc(m), agreement::accuracy(m)]
    }

    fn cells(matrix: [[u32; 4]; 3]) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for (i, count) in matrix.into_iter().flatten().enumerate().filter(|(_, n)| *n > 0) {
            let mut cells = [0; CELLS];
            cells[i] = 1;
            kinds.push(Kind { cells, clusters: u64::from(count) });
        }
        kinds
    }

    const EXAMPLE: [[u32; 4]; 3] = [[50, 5, 10, 0], [4, 30, 6, 0], [12, 8, 25, 0]];

    #[test]
    fn the_spread_of_accuracy_is_that_of_a_share() {
        let found = bca(&cells(EXAMPLE), Bootstrap { replicates: 20_000, seed: 3 }, statistics)[2].expect("defined");
        let deviation = (0.7f64 * 0.3 / 150.0).sqrt();
        // A count of 150 moves in steps of .0067, and the ends are quantiles of 20 000 draws.
        assert!((found[0] - (0.7 - Z95 * deviation)).abs() < 0.01, "{found:?}");
        assert!((found[1] - (0.7 + Z95 * deviation)).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn a_seed_decides_the_interval() {
        let with = |seed| bca(&cells(EXAMPLE), Bootstrap { replicates: 500, seed }, statistics);
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
    }

    #[test]
    fn rare_and_common_compositions_give_the_same_distribution() {
        // The same 60 clusters: told apart by a cell that the statistic does not read, or alike.
        let accuracy = |m: &Matrix| [(m[0][0] + m[0][1] > 0.0).then(|| m[0][0] / (m[0][0] + m[0][1]))];
        let mut alike = Vec::new();
        let mut apart = Vec::new();
        for right in 0..4u32 {
            let mut kind = [0; CELLS];
            (kind[0], kind[1]) = (right, 3 - right);
            alike.push(Kind { cells: kind, clusters: 15 });
            for i in 0..15 {
                kind[11] = i;
                apart.push(Kind { cells: kind, clusters: 1 });
            }
        }
        let how = Bootstrap { replicates: 20_000, seed: 5 };
        let (a, b) = (bca(&alike, how, accuracy)[0], bca(&apart, how, accuracy)[0]);
        let (a, b) = (a.expect("defined"), b.expect("defined"));
        assert!((a[0] - b[0]).abs() < 0.012 && (a[1] - b[1]).abs() < 0.012, "{a:?} {b:?}");
        for kind in &mut apart {
            kind.cells[11] += 1000;
        }
        assert_eq!(bca(&apart, how, accuracy)[0], Some(b), "wide rows are drawn as narrow ones are");
    }

    #[test]
    fn there_is_no_interval_without_variation() {
        let perfect = cells([[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0]]);
        assert_eq!(bca(&perfect, Bootstrap::default(), statistics)[2], None);
        assert_eq!(bca(&perfect[..1], Bootstrap::default(), statistics)[1], None);
        assert_eq!(bca(&[], Bootstrap::default(), statistics), [None; 3]);
    }
}
