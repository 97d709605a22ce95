//! Evidence about a difference of quantiles, such as the 95th percentile of the latency: the paired percentile bootstrap.
//!
//! BCa is not used, for the jackknife is inconsistent for quantiles (Efron 1979, Bootstrap methods: another look at the
//! jackknife). A draw's quantile lies within a window of ranks around the quantile: of the cases outside of both sides'
//! windows only their number below matters, so that they are drawn by the binomial distribution, and only those within are
//! drawn one by one. A draw then costs the root of the number of cases.

use std::collections::BTreeMap;

use super::evidence::{Check, Evidence};
use super::resampled::Draws;
use super::{PairedEstimate, PairedValue, Settings};
use crate::stats::estimate::FEW_CLUSTERS;
use crate::stats::quantile;
use crate::stats::random::Random;
use crate::stats::special::normal_cdf;

/// How many draws a comparison takes; a gate takes as many as the settings say, for its levels lie further out.
const DRAWS: u32 = 999;

/// The floor of a quantile: how far it can move when a share `z²/(n + z²)` of the cases, as many as could have been missed,
/// change to the other side of it.
#[derive(Debug, Clone)]
pub(super) struct Spread {
    sorted: Vec<f64>,
    p: f64,
    delta: f64,
    n: f64,
}

impl Spread {
    /// Deviations by which the difference lies above `at`.
    pub(super) fn z(&self, at: f64) -> f64 {
        let away = self.delta - at;
        let quantile = |p: f64| quantile::of_sorted(&self.sorted, p).unwrap_or(0.0);
        let (here, room) = (quantile(self.p), if away > 0.0 { self.p } else { 1.0 - self.p });
        let reaches = |share: f64| {
            let there = quantile(self.p - away.signum() * share);
            (there - here).abs() >= away.abs()
        };
        // The least share that moves the quantile as far; beyond the last case nothing is known.
        let (mut low, mut high) = (0.0, room);
        if away == 0.0 {
            return 0.0;
        }
        if reaches(room) {
            for _ in 0..60 {
                let middle = f64::midpoint(low, high);
                if reaches(middle) {
                    high = middle;
                } else {
                    low = middle;
                }
            }
        }
        away.signum() * (self.n * high / (1.0 - high)).sqrt()
    }
}

/// Evidence about the difference of two `p` quantiles.
pub(super) fn evidence(pairs: &[PairedValue], p: f64, settings: &Settings, gate: bool) -> Evidence {
    let n = pairs.len();
    let mut estimate = PairedEstimate { n: n as u64, ..PairedEstimate::default() };
    if n == 0 {
        return Evidence::unfit(estimate, "there are no pairs");
    }
    if pairs.iter().any(|pair| !pair.base.is_finite() || !pair.head.is_finite()) {
        return Evidence::unfit(estimate, "a value is not a finite number");
    }
    let sorted = |of: fn(&PairedValue) -> f64| {
        let mut values: Vec<f64> = pairs.iter().map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let sides = [sorted(|pair| pair.base), sorted(|pair| pair.head)];
    let [base, head] = [0, 1].map(|side: usize| quantile::of_sorted(&sides[side], p).unwrap_or(0.0));
    let delta = head - base;
    (estimate.base, estimate.head, estimate.delta) = (Some(base), Some(head), Some(delta));

    let members = clusters(pairs, settings.clustered);
    let count = members.len();
    let clustered = count < n;
    estimate.clusters = clustered.then_some(count as u64);
    if count < 2 {
        return if clustered {
            Evidence::unfit(estimate, "there is a single cluster")
        } else {
            Evidence::undefined(estimate, "there is a single pair")
        };
    }
    if clustered && (count as u64) < FEW_CLUSTERS {
        estimate.warnings.push(format!("{count} clusters: fewer than {FEW_CLUSTERS}, the interval may be too narrow"));
    }
    let size = members.iter().map(|cluster| (cluster.len() * cluster.len()) as f64).sum::<f64>() / n as f64;
    let resamples = if gate { settings.resamples } else { settings.resamples.min(DRAWS) };
    let drawing = Drawing::new(&members, p, size);
    let mut random = Random::seeded(settings.seed);
    let draws: Vec<f64> = (0..resamples).map(|_| drawing.draw(&mut random)).collect();

    let effective = n as f64 / size;
    let mut both: Vec<f64> = pairs.iter().flat_map(|pair| [pair.base, pair.head]).collect();
    both.sort_unstable_by(f64::total_cmp);
    let range = both[both.len() - 1] - both[0];
    let mut checks = Vec::new();
    let (mut greater, mut less, mut step) = (1.0, 1.0, range / n as f64);
    let varying = Draws::percentile(draws);
    let undrawn = varying.is_none();
    if let Some(draws) = varying {
        // Draws cannot show a smaller probability than this.
        let least = 1.0 / (f64::from(resamples) + 1.0);
        (greater, less) = (normal_cdf(-draws.above(0.0)).max(least), normal_cdf(draws.below(0.0)).max(least));
        step = 2.0 * draws.deviation();
        checks.push(Check::Draws(draws));
    }
    if gate || undrawn {
        checks.push(Check::Spread(Spread { sorted: both, p, delta, n: effective }));
    }
    if range <= 0.0 {
        return Evidence::undefined(estimate, "all values are the same, and no range is known for them");
    }
    estimate.p_value = Some((2.0 * greater.min(less)).min(1.0));
    let clusters = if clustered { format!(", {count} clusters") } else { String::new() };
    let kind = if clustered { "cluster " } else { "" };
    estimate.method = format!("paired {kind}percentile bootstrap, B = {resamples}{clusters}");
    Evidence {
        estimate,
        checks,
        reach: f64::INFINITY,
        step,
        effective_n: Some(effective),
        greater: Some(greater),
        less: Some(less),
    }
}

/// The pairs of each cluster, in the order of the clusters' numbers; or each pair alone.
fn clusters(pairs: &[PairedValue], clustered: bool) -> Vec<Vec<[f64; 2]>> {
    let both = |pair: &PairedValue| [pair.base, pair.head];
    if !clustered {
        return pairs.iter().map(|pair| vec![both(pair)]).collect();
    }
    let mut members: BTreeMap<u32, Vec<[f64; 2]>> = BTreeMap::new();
    for pair in pairs {
        members.entry(pair.cluster).or_default().push(both(pair));
    }
    members.into_values().collect()
}

/// One side's window of ranks.
struct Window {
    /// The values within, in ascending order.
    values: Vec<f64>,
}

/// Clusters without a case in either window: their cases, and how many of them lie below the base's and the head's window.
type Outside = (u32, [u32; 2]);

/// A cluster with cases in a window.
struct Inside {
    size: u32,
    below: [u32; 2],
    /// Side, and place in its window.
    places: Vec<(u8, u32)>,
}

/// The clusters, arranged for drawing.
struct Drawing {
    p: f64,
    clusters: u64,
    windows: [Window; 2],
    outside: Vec<(Outside, u64)>,
    inside: Vec<Inside>,
}

impl Drawing {
    fn new(members: &[Vec<[f64; 2]>], p: f64, size: f64) -> Self {
        let n: usize = members.iter().map(Vec::len).sum();
        // Eight deviations of a draw's rank, which no draw in this universe leaves.
        let reach = 8.0 * (n as f64 * p * (1.0 - p) * size).sqrt() + 16.0;
        let centre = p * (n as f64 - 1.0);
        let first = (centre - reach).max(0.0) as usize;
        let last = ((centre + reach) as usize + 2).min(n);
        let mut ranked: [Vec<(f64, u32)>; 2] = [Vec::with_capacity(n), Vec::with_capacity(n)];
        for (number, pair) in members.iter().flatten().enumerate() {
            ranked[0].push((pair[0], number as u32));
            ranked[1].push((pair[1], number as u32));
        }
        // Of each side and pair: the place in the window, or below it, or above.
        const BELOW: u32 = u32::MAX;
        const ABOVE: u32 = u32::MAX - 1;
        let mut places = [vec![ABOVE; n], vec![ABOVE; n]];
        let windows = [0, 1].map(|side: usize| {
            ranked[side].sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            for (rank, &(_, number)) in ranked[side][..last].iter().enumerate() {
                places[side][number as usize] = if rank < first { BELOW } else { (rank - first) as u32 };
            }
            Window { values: ranked[side][first..last].iter().map(|(value, _)| *value).collect() }
        });
        let mut outside: BTreeMap<Outside, u64> = BTreeMap::new();
        let mut inside = Vec::new();
        let mut next = 0;
        for cluster in members {
            let (mut below, mut within) = ([0, 0], Vec::new());
            for (side, places) in places.iter().enumerate() {
                for &place in &places[next..next + cluster.len()] {
                    match place {
                        BELOW => below[side] += 1,
                        ABOVE => {}
                        place => within.push((side as u8, place)),
                    }
                }
            }
            next += cluster.len();
            if within.is_empty() {
                *outside.entry((cluster.len() as u32, below)).or_default() += 1;
            } else {
                inside.push(Inside { size: cluster.len() as u32, below, places: within });
            }
        }
        Self { p, clusters: members.len() as u64, windows, outside: outside.into_iter().collect(), inside }
    }

    /// The difference of the quantiles of as many clusters as there are, drawn with replacement.
    fn draw(&self, random: &mut Random) -> f64 {
        let (mut size, mut below) = (0u64, [0u64; 2]);
        let (mut left, mut weight) = (self.clusters, self.clusters);
        for ((cases, under), count) in &self.outside {
            let times = random.binomial(left, *count as f64 / weight as f64);
            left -= times;
            weight -= count;
            size += times * u64::from(*cases);
            for (sum, under) in below.iter_mut().zip(under) {
                *sum += times * u64::from(*under);
            }
        }
        let mut seen = [0, 1].map(|side: usize| vec![0u32; self.windows[side].values.len()]);
        for _ in 0..left {
            let at = ((random.bits() >> 32) * self.inside.len() as u64) >> 32;
            let cluster = &self.inside[at as usize];
            size += u64::from(cluster.size);
            for (sum, under) in below.iter_mut().zip(cluster.below) {
                *sum += u64::from(under);
            }
            for &(side, place) in &cluster.places {
                seen[usize::from(side)][place as usize] += 1;
            }
        }
        let position = self.p * (size as f64 - 1.0);
        let quantile = |side: usize| {
            let rank = |rank: u64| self.windows[side].at(&seen[side], below[side], rank);
            let (low, share) = (position.floor(), position.fract());
            let value = rank(low as u64);
            if share > 0.0 { value + share * (rank(low as u64 + 1) - value) } else { value }
        };
        quantile(1) - quantile(0)
    }
}

impl Window {
    /// The value of a rank in a draw that has `below` cases under the window and saw the window's cases that often.
    fn at(&self, seen: &[u32], below: u64, rank: u64) -> f64 {
        let mut before = below;
        for (value, count) in self.values.iter().zip(seen) {
            before += u64::from(*count);
            if before > rank {
                return *value;
            }
        }
        self.values.last().copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bootstrap as it is defined: draw, sort, subtract.
    fn plainly(members: &[Vec<[f64; 2]>], p: f64, draws: usize) -> Vec<f64> {
        let mut random = Random::seeded(5);
        let pick = |random: &mut Random| (random.unit() * members.len() as f64) as usize;
        (0..draws)
            .map(|_| {
                let drawn: Vec<[f64; 2]> =
                    (0..members.len()).flat_map(|_| members[pick(&mut random)].clone()).collect();
                let of = |side: usize| {
                    let mut values: Vec<f64> = drawn.iter().map(|pair| pair[side]).collect();
                    values.sort_by(f64::total_cmp);
                    quantile::of_sorted(&values, p).expect("not empty")
                };
                of(1) - of(0)
            })
            .collect()
    }

    fn latencies(n: usize) -> Vec<PairedValue> {
        let mut random = Random::seeded(2);
        (0..n)
            .map(|i| {
                let base = -(1.0 - random.unit()).ln() * 100.0;
                PairedValue { base, head: base * 0.8 + random.unit() * 40.0, cluster: (i * i % 97) as u32 }
            })
            .collect()
    }

    #[test]
    fn the_windowed_draws_are_the_bootstrap() {
        for (n, p, clustered) in [(2000, 0.5, false), (2000, 0.95, false), (40, 0.9, false), (2000, 0.5, true)] {
            let members = clusters(&latencies(n), clustered);
            let size = members.iter().map(|c| (c.len() * c.len()) as f64).sum::<f64>() / n as f64;
            let drawing = Drawing::new(&members, p, size);
            let mut random = Random::seeded(1);
            let found: Vec<f64> = (0..4000).map(|_| drawing.draw(&mut random)).collect();
            let expected = plainly(&members, p, 4000);
            for at in &expected[..40] {
                let share = |draws: &[f64]| draws.iter().filter(|x| **x <= *at + 1e-9).count() as f64 / 4000.0;
                // Four deviations of a difference of two shares.
                let error = (share(&found) - share(&expected)).abs();
                assert!(error < 0.045, "{n} {p} {at}: {error}");
            }
        }
    }

    #[test]
    fn unchanged_tails_of_few_cases_are_seldom_taken_for_worse() {
        use crate::stats::paired::Direction;
        for n in [20, 60, 150] {
            let mut random = Random::seeded(n as u64);
            let mut wait = || (-(1.0 - random.unit()).ln()).exp() * 100.0;
            let mut failed = 0;
            for night in 0..200u64 {
                let pairs: Vec<PairedValue> =
                    (0..n).map(|_| PairedValue { base: wait(), head: wait(), cluster: 0 }).collect();
                let settings = Settings { seed: night, resamples: 999, ..Settings::default() };
                let found = evidence(&pairs, 0.95, &settings, true);
                failed += u32::from(found.p_fail(Direction::LowerIsBetter, 0.0).expect("defined") <= 0.025);
            }
            // 2.5 % of 200 is 5; three deviations above are 11.
            assert!(failed <= 11, "{n}: {failed}");
        }
    }

    #[test]
    fn a_quantile_of_few_cases_is_not_known_to_be_the_same() {
        let same: Vec<PairedValue> =
            (0..72).map(|i| PairedValue { base: f64::from(i), head: f64::from(i), cluster: 0 }).collect();
        let more: Vec<PairedValue> =
            (0..74).map(|i| PairedValue { base: f64::from(i), head: f64::from(i), cluster: 0 }).collect();
        let settings = Settings::default();
        let open = evidence(&same, 0.95, &settings, true);
        assert_eq!(open.interval([0.025, 0.025]), None);
        let [low, high] = open.ends([0.025, 0.025]).expect("one end");
        assert!(low.is_some_and(|low| low < 0.0) && high.is_none(), "{low:?} {high:?}");
        let [low, high] = evidence(&more, 0.95, &settings, true).interval([0.025, 0.025]).expect("enough");
        assert!(low < 0.0 && high > 0.0 && high < 5.0, "{low} {high}");
    }
}
