//! Intervals for a share of observations.

use super::cluster::ClusteredShare;
use super::estimate::{Estimate, clustered_method};
use super::mean::cr1_standard_error;
use super::special::{Z95, t95};

/// Wilson's score interval (Wilson 1927, Probable inference, the law of succession, and statistical inference).
/// `None` without observations. Counts may be fractions: an effective sample size is one.
pub fn wilson(successes: f64, n: f64) -> Option<[f64; 2]> {
    if n <= 0.0 {
        return None;
    }
    let (p, z2) = (successes / n, Z95 * Z95);
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    // At the ends the interval touches 0 or 1 exactly; rounding must not push it past the estimate.
    let low = if successes <= 0.0 { 0.0 } else { (centre - half).clamp(0.0, p) };
    let high = if successes >= n { 1.0 } else { (centre + half).clamp(p, 1.0) };
    Some([low, high])
}

/// The sample size that would give the clustered share's variance without clusters: `n` over the design effect, not more
/// than `n`. Where every observation agrees, the clusters are all that is known to be independent.
pub fn effective_n(share: &ClusteredShare) -> f64 {
    let n = share.n as f64;
    let p = share.successes as f64 / n.max(1.0);
    let plain = p * (1.0 - p) / n.max(1.0);
    if plain <= 0.0 {
        return share.clusters as f64;
    }
    let robust = cr1_standard_error(share.squares, share.n, share.clusters).powi(2);
    (n * plain / robust).min(n)
}

/// The share with Wilson's interval, or the cluster-robust one (CR1, t with clusters − 1 degrees of freedom) where
/// clusters hold several observations: cut to [0, 1] and never narrower than Wilson's at the effective sample size, for
/// clusters that agree by chance must not give an interval of no width. A single cluster has no interval.
pub fn share(counts: &ClusteredShare) -> Estimate {
    let ClusteredShare { successes, n, clusters, squares } = *counts;
    if n == 0 {
        return Estimate::undefined(0, "no observations");
    }
    let p = successes as f64 / n as f64;
    let (ci95, method) = if clusters == n {
        (wilson(successes as f64, n as f64), "Wilson".to_owned())
    } else if clusters < 2 {
        (None, "CR1: undefined for a single cluster".to_owned())
    } else {
        let half = t95(clusters - 1) * cr1_standard_error(squares, n, clusters);
        let effective = effective_n(counts);
        let floor = wilson(p * effective, effective).unwrap_or([p, p]);
        let ci = [(p - half).max(0.0).min(floor[0]), (p + half).min(1.0).max(floor[1])];
        (Some(ci), clustered_method(&format!("CR1, t({})", clusters - 1), clusters))
    };
    Estimate { value: Some(p), ci95, bounds: None, method, n }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(found: [f64; 2], expected: [f64; 2]) {
        assert!(
            (found[0] - expected[0]).abs() < 1e-6 && (found[1] - expected[1]).abs() < 1e-6,
            "{found:?} {expected:?}"
        );
    }

    #[test]
    fn wilson_agrees_with_newcombes_examples() {
        close(wilson(81.0, 263.0).expect("n > 0"), [0.255_289, 0.366_210]);
        close(wilson(15.0, 148.0).expect("n > 0"), [0.062_386, 0.160_487]);
        close(wilson(0.0, 20.0).expect("n > 0"), [0.0, 0.161_125]);
        assert_eq!(wilson(0.0, 0.0), None);
    }

    #[test]
    fn one_cluster_has_no_interval() {
        let found = share(&ClusteredShare { successes: 3, n: 6, clusters: 1, squares: 0.0 });
        assert_eq!((found.value, found.ci95), (Some(0.5), None));
    }

    #[test]
    fn clusters_that_all_agree_still_leave_doubt() {
        let found = share(&ClusteredShare { successes: 100, n: 100, clusters: 20, squares: 0.0 });
        // Twenty independent successes and no more: 1 − 0.161125.
        close(found.ci95.expect("twenty clusters"), [1.0 - 0.161_125, 1.0]);
        let half = share(&ClusteredShare { successes: 50, n: 100, clusters: 50, squares: 0.0 });
        close(half.ci95.expect("fifty clusters"), wilson(50.0, 100.0).expect("n > 0"));
    }

    #[test]
    fn few_clusters_are_said_in_the_method() {
        let few = share(&ClusteredShare { successes: 5, n: 10, clusters: 5, squares: 2.0 });
        assert!(few.method.contains("fewer than 20"), "{}", few.method);
        let many = share(&ClusteredShare { successes: 50, n: 100, clusters: 50, squares: 20.0 });
        assert_eq!(many.method, "CR1, t(49), 50 clusters");
    }

    proptest! {
        #[test]
        fn intervals_hold_the_share_and_stay_within_0_and_1(
            clusters in prop::collection::vec((0u64..6, 1u64..6), 2..40),
        ) {
            let clusters: Vec<(u64, u64)> = clusters.into_iter().map(|(x, n)| (x.min(n), n)).collect();
            let (x, n) = clusters.iter().fold((0, 0), |(x, n), c| (x + c.0, n + c.1));
            let p = x as f64 / n as f64;
            let squares = clusters.iter().map(|c| (c.0 as f64 - p * c.1 as f64).powi(2)).sum();
            let found = share(&ClusteredShare { successes: x, n, clusters: clusters.len() as u64, squares });
            let [low, high] = found.ci95.expect("two clusters or more");
            prop_assert!(0.0 <= low && low <= p && p <= high && high <= 1.0 && low < high, "{found:?}");
        }
    }
}
