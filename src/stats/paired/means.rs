//! Evidence about a difference of means: from pairs to clusters to checks.

use super::evidence::{Check, Evidence};
use super::score::{Point, Score};
use super::{PairedEstimate, PairedValue, Settings, mcnemar, permutation};
use crate::stats::estimate::FEW_CLUSTERS;
use crate::stats::mean::cr1_standard_error;

/// A standard error of less than this share of the values' range is what rounding leaves of none.
const NOTHING: f64 = 1e-12;

/// Sums over clusters of the differences, one entry for each cluster.
pub(super) struct Grouped {
    /// Sum of the cluster's differences, and its pairs.
    pub(super) clusters: Vec<(f64, f64)>,
    /// Whether any cluster has more than one pair.
    pub(super) clustered: bool,
}

/// Adds the differences up by cluster, in the order of the clusters' numbers; or one entry for each without clusters.
pub(super) fn group(differences: impl Iterator<Item = (u32, f64)>, clustered: bool) -> Grouped {
    if !clustered {
        return Grouped { clusters: differences.map(|(_, d)| (d, 1.0)).collect(), clustered: false };
    }
    let mut all: Vec<(u32, f64)> = differences.collect();
    all.sort_by_key(|(cluster, _)| *cluster);
    let n = all.len();
    let clusters: Vec<(f64, f64)> = all
        .chunk_by(|a, b| a.0 == b.0)
        .map(|cluster| (cluster.iter().map(|(_, d)| d).sum(), cluster.len() as f64))
        .collect();
    let clustered = clusters.len() < n;
    Grouped { clusters, clustered }
}

/// The standard error of the mean of all differences: CR1 over the clusters, which for single pairs is the usual one.
pub(super) fn standard_error(clusters: &[(f64, f64)], mean: f64) -> f64 {
    let n: f64 = clusters.iter().map(|(_, size)| size).sum();
    let squares = clusters.iter().map(|(sum, size)| (sum - mean * size).powi(2)).sum();
    cr1_standard_error(squares, n as u64, clusters.len() as u64)
}

/// Evidence about the difference of two means.
pub(super) fn evidence(pairs: &[PairedValue], range: Option<[f64; 2]>, settings: &Settings, gate: bool) -> Evidence {
    let n = pairs.len();
    let mut estimate = PairedEstimate { n: n as u64, ..PairedEstimate::default() };
    if n == 0 {
        return Evidence::unfit(estimate, "there are no pairs");
    }
    if pairs.iter().any(|pair| !pair.base.is_finite() || !pair.head.is_finite()) {
        return Evidence::unfit(estimate, "a value is not a finite number");
    }
    let mean = |of: fn(&PairedValue) -> f64| pairs.iter().map(of).sum::<f64>() / n as f64;
    let (base, head) = (mean(|pair| pair.base), mean(|pair| pair.head));
    let binary = pairs.iter().all(|pair| [pair.base, pair.head].iter().all(|x| *x == 0.0 || *x == 1.0));
    let discordant = binary.then(|| {
        let count = |base: f64| pairs.iter().filter(|pair| pair.base == base && pair.head == 1.0 - base).count() as u64;
        [count(1.0), count(0.0)]
    });
    let delta = match discordant {
        Some([b, c]) => (c as f64 - b as f64) / n as f64,
        None => pairs.iter().map(|pair| pair.head - pair.base).sum::<f64>() / n as f64,
    };
    (estimate.base, estimate.head, estimate.delta, estimate.discordant) =
        (Some(base), Some(head), Some(delta), discordant);

    let grouped = group(pairs.iter().map(|pair| (pair.cluster, pair.head - pair.base)), settings.clustered);
    let clusters = grouped.clusters.len();
    if let (Some([b, c]), false) = (discordant, grouped.clustered) {
        return assertions(estimate, b, c, gate);
    }
    if let Err(why) = describe(&mut estimate, &grouped) {
        return Evidence::unfit(estimate, why);
    }
    let observed = pairs.iter().flat_map(|pair| [pair.base, pair.head]);
    let [low, high] = range.unwrap_or_else(|| {
        observed.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], x| [low.min(x), high.max(x)])
    });
    let scale = high - low;
    if scale <= 0.0 {
        return Evidence::undefined(estimate, "all values are the same, and no range is known for them");
    }
    let error = standard_error(&grouped.clusters, delta);
    let effective = effective_n(pairs, &grouped, delta, error, scale);
    let mut checks = Vec::new();
    // Without variation, and for a single pair, the score test is all there is.
    let varies = error > NOTHING * scale && error.is_finite();
    if varies {
        checks.push(Check::Student { delta, error, degrees: clusters as f64 - 1.0 });
    }
    if gate || checks.is_empty() {
        let points = grouped.clusters.iter().map(|&(sum, size)| Point { sum, size, weight: 1.0 }).collect();
        checks.push(Check::Score(Score::new(points, [-scale, scale])));
    }
    if gate && range.is_some() {
        checks.push(Check::Floor { delta, scale, n: effective });
    }
    let sums = grouped.clusters.iter().map(|(sum, _)| *sum);
    let chance = permutation::sign_flips(sums, settings.seed, settings.resamples);
    if gate && chance.exact {
        // With few differences the exact test must agree that there is any.
        checks.push(Check::Exact { greater: chance.greater, less: chance.less });
    }
    estimate.p_value = Some(chance.two_sided);
    let t = if grouped.clustered { format!("CR1, t({})", clusters - 1) } else { format!("paired t({})", n - 1) };
    let unit = if grouped.clustered { format!(", {clusters} clusters") } else { String::new() };
    let bounded = if gate { ", not narrower than the score interval" } else { "" };
    estimate.method = format!("{t}{bounded}{unit}; p by {}", chance.method);
    Evidence {
        estimate,
        checks,
        reach: if range.is_some() { scale } else { f64::INFINITY },
        step: if varies { 2.0 * error } else { scale / clusters as f64 },
        effective_n: Some(effective),
        greater: Some(chance.greater),
        less: Some(chance.less),
    }
}

/// The checks of a difference `delta` that is the mean of what the cases contribute (`head`, the `base` being 0), each within
/// `support`. Fills in the clusters of the estimate.
pub(super) fn linearised(
    estimate: &mut PairedEstimate,
    contributions: &[PairedValue],
    delta: f64,
    support: [f64; 2],
    settings: &Settings,
    gate: bool,
) -> Evidence {
    let grouped = group(contributions.iter().map(|pair| (pair.cluster, pair.head)), settings.clustered);
    let clusters = grouped.clusters.len();
    if let Err(why) = describe(estimate, &grouped) {
        return Evidence::unfit(estimate.clone(), why);
    }
    let error = standard_error(&grouped.clusters, delta);
    let points = grouped.clusters.iter().map(|&(sum, size)| Point { sum, size, weight: 1.0 }).collect();
    let effective = effective_n(contributions, &grouped, delta, error, 1.0);
    let mut checks = Vec::new();
    let varies = error > NOTHING && error.is_finite();
    if varies && (gate || grouped.clustered) {
        checks.push(Check::Student { delta, error, degrees: clusters as f64 - 1.0 });
    }
    if gate || !varies {
        checks.push(Check::Score(Score::new(points, support)));
    }
    if gate {
        checks.push(Check::Floor { delta, scale: 1.0, n: effective });
    }
    let step = if varies { 2.0 * error } else { 1.0 / clusters as f64 };
    Evidence { checks, reach: 2.0, step, effective_n: Some(effective), ..Evidence::default() }
}

/// Notes the clusters, and what is to be said of them.
fn describe(estimate: &mut PairedEstimate, grouped: &Grouped) -> Result<(), &'static str> {
    let clusters = grouped.clusters.len() as u64;
    estimate.clusters = grouped.clustered.then_some(clusters);
    if grouped.clustered && clusters < 2 {
        return Err("there is a single cluster: nothing is known of how clusters differ");
    }
    if grouped.clustered && clusters < FEW_CLUSTERS {
        estimate
            .warnings
            .push(format!("{clusters} clusters: fewer than {FEW_CLUSTERS}, the interval may be too narrow"));
    }
    Ok(())
}

/// Single right or wrong answers on both sides: Tango's interval, McNemar's exact test. A gate's claims must pass both.
pub(super) fn assertions(mut estimate: PairedEstimate, b: u64, c: u64, gate: bool) -> Evidence {
    let n = estimate.n as f64;
    let (greater, less) = (mcnemar::one_sided(c, b), mcnemar::one_sided(b, c));
    estimate.p_value = Some(mcnemar::two_sided(b, c));
    estimate.mid_p = Some(mcnemar::mid_p(b, c));
    "Tango; exact McNemar".clone_into(&mut estimate.method);
    let tango = Check::Tango { b: b as f64, c: c as f64, n };
    Evidence {
        estimate,
        checks: if gate { vec![tango, Check::Exact { greater, less }] } else { vec![tango] },
        reach: 1.0,
        step: ((b + c) as f64).max(1.0).sqrt() / n,
        effective_n: Some(n),
        greater: Some(greater),
        less: Some(less),
    }
}

/// Pairs over the design effect. Where nothing varies, the number of clusters as large as that of a pair chosen at random
/// (Kish 1965, Survey Sampling) is all that is known to be independent.
fn effective_n(pairs: &[PairedValue], grouped: &Grouped, delta: f64, error: f64, scale: f64) -> f64 {
    let n = pairs.len() as f64;
    if !grouped.clustered {
        return n;
    }
    let squares: f64 = pairs.iter().map(|pair| (pair.head - pair.base - delta).powi(2)).sum();
    if squares <= n * (NOTHING * scale).powi(2) || error <= NOTHING * scale {
        return n * n / grouped.clusters.iter().map(|(_, size)| size * size).sum::<f64>();
    }
    (squares / (n - 1.0) / (error * error)).min(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(pairs: &[PairedValue], clustered: bool, gate: bool) -> [f64; 2] {
        let settings = Settings { clustered, ..Settings::default() };
        evidence(pairs, Some([0.0, 1.0]), &settings, gate).interval([0.025; 2]).expect("defined")
    }

    /// So many pairs of each kind: both right, only the base, only the head, neither.
    fn table(counts: [usize; 4]) -> Vec<PairedValue> {
        let kinds = [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]];
        let each = kinds.iter().zip(counts).flat_map(|(kind, n)| std::iter::repeat_n(*kind, n));
        each.map(|[base, head]| PairedValue { base, head, cluster: 0 }).collect()
    }

    #[test]
    fn a_comparison_shows_tangos_interval() {
        let settings = Settings::default();
        for (counts, delta, wanted) in [
            ([1, 1, 7, 12], 6.0 / 21.0, [0.026_003, 0.517_232]),
            ([794, 150, 86, 570], -0.04, [-0.058_998, -0.021_362]),
            ([10, 0, 0, 0], 0.0, [-0.277_533, 0.277_533]),
        ] {
            let pairs = table(counts);
            let found = crate::stats::paired::compare(
                &crate::stats::paired::Measure::Mean { pairs: &pairs, range: Some([0.0, 1.0]) },
                &settings,
            );
            let interval = found.interval.expect("defined");
            assert!((found.delta.expect("defined") - delta).abs() < 1e-12);
            for end in 0..2 {
                assert!((interval[end] - wanted[end]).abs() < 1.5e-6, "{counts:?}: {interval:?}");
            }
        }
        // The exact test does not say that those 7 against 1 are more than chance, so that no gate may rely on it.
        let gate = evidence(&table([1, 1, 7, 12]), Some([0.0, 1.0]), &settings, true);
        assert_eq!(gate.interval([0.025; 2]).expect("defined")[0], 0.0);
    }

    #[test]
    fn what_rounding_leaves_is_no_variation() {
        // The same change everywhere, but for the last digit of the differences.
        let pairs: Vec<PairedValue> = (0..40)
            .map(|at| {
                let base = f64::from(at % 7) / 10.0;
                PairedValue { base, head: base + 0.1, cluster: at as u32 / 2 }
            })
            .collect();
        for clustered in [false, true] {
            for gate in [false, true] {
                let [low, high] = interval(&pairs, clustered, gate);
                assert!(high - low > 0.05, "{clustered} {gate}: {low} {high}");
            }
        }
    }
}
