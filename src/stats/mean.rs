//! The mean of a numeric score and its interval, with and without clusters.

use super::Cluster;
use super::cluster::ClusteredShare;
use super::estimate::{Estimate, clustered_method};
use super::proportion;
use super::special::{Z95, t95};

/// The cluster-robust standard error of a mean, CR1: `√(C/(C−1)·Σ_c(Σ_i(s−s̄))²)/n`, of the sum over clusters of squared
/// sums of deviations. Source: Liang & Zeger 1986 with the correction for few clusters. Infinite for a single cluster.
pub fn cr1_standard_error(squares: f64, n: u64, clusters: u64) -> f64 {
    let c = clusters as f64;
    if clusters < 2 { f64::INFINITY } else { (c / (c - 1.0) * squares).sqrt() / n as f64 }
}

/// Count, mean and sum of squared deviations, updated one by one (Welford 1962).
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    n: u64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, x: f64) {
        self.n += 1;
        let before = x - self.mean;
        self.mean += before / self.n as f64;
        self.squares += before * (x - self.mean);
    }
}

/// Collects the values of one score: twelve bytes for each cluster, nothing for observations without one.
#[derive(Debug, Clone)]
pub struct MeanAccumulator {
    all: Moments,
    alone: Moments,
    groups: Sums,
    cases: Sums,
    range: [f64; 2],
    binary: bool,
}

#[derive(Debug, Clone, Default)]
struct Sums {
    sums: Vec<f64>,
    counts: Vec<u32>,
}

impl Sums {
    fn add(&mut self, cluster: u32, x: f64) {
        let at = cluster as usize;
        if at >= self.sums.len() {
            self.sums.resize(at + 1, 0.0);
            self.counts.resize(at + 1, 0);
        }
        self.sums[at] += x;
        self.counts[at] += 1;
    }

    /// How many clusters there are, and the sum of their squared sums of deviations from `mean`.
    fn deviations(&self, mean: f64) -> (u64, f64) {
        let clusters = self.sums.iter().zip(&self.counts).filter(|(_, n)| **n > 0);
        clusters.fold((0, 0.0), |(c, squares), (sum, &n)| (c + 1, squares + (sum - mean * f64::from(n)).powi(2)))
    }
}

impl Default for MeanAccumulator {
    fn default() -> Self {
        Self {
            all: Moments::default(),
            alone: Moments::default(),
            groups: Sums::default(),
            cases: Sums::default(),
            range: [f64::INFINITY, f64::NEG_INFINITY],
            binary: true,
        }
    }
}

impl MeanAccumulator {
    /// Adds a finite value. The numbers of clusters should be dense from 0, for they are indices.
    pub fn add(&mut self, x: f64, cluster: Cluster) {
        self.all.add(x);
        self.range = [self.range[0].min(x), self.range[1].max(x)];
        self.binary &= x == 0.0 || x == 1.0;
        match cluster {
            Cluster::Alone => self.alone.add(x),
            Cluster::Group(number) => self.groups.add(number, x),
            Cluster::Case(number) => self.cases.add(number, x),
        }
    }

    /// How many values came.
    pub fn count(&self) -> u64 {
        self.all.n
    }

    /// The sum of the values; exact where they are all 0 or 1.
    pub fn sum(&self) -> f64 {
        let sum = self.all.mean * self.all.n as f64;
        if self.binary { sum.round() } else { sum }
    }

    /// The mean with its interval: Wilson's for values that are all 0 or 1, else by the central limit theorem; with
    /// clusters CR1 and t with clusters − 1 degrees of freedom.
    ///
    /// Equal values have no variance to go by. Where they lie in [0, 1], Wilson's interval is taken, for no score within
    /// that range varies more than one of 0 and 1; else there is no interval.
    pub fn estimate(&self) -> Estimate {
        let Moments { n, mean, squares } = self.all;
        if n == 0 {
            return Estimate::undefined(0, "no scores");
        }
        let apart = self.alone.n as f64 * (self.alone.mean - mean).powi(2) + self.alone.squares;
        let (groups, of_groups) = self.groups.deviations(mean);
        let (cases, of_cases) = self.cases.deviations(mean);
        let (clusters, of_clusters) = (self.alone.n + groups + cases, apart + of_groups + of_cases);
        if self.binary {
            let successes = self.sum() as u64;
            return proportion::share(&ClusteredShare { successes, n, clusters, squares: of_clusters });
        }
        let clustered = clusters < n;
        if clustered && clusters < 2 {
            let method = "CR1: undefined for a single cluster".to_owned();
            return Estimate { value: Some(mean), ci95: None, bounds: None, method, n };
        }
        let bounded = self.range[0] >= 0.0 && self.range[1] <= 1.0;
        let (half, method) = if clustered {
            let half = t95(clusters - 1) * cr1_standard_error(of_clusters, n, clusters);
            (half, clustered_method(&format!("CR1, t({})", clusters - 1), clusters))
        } else if n < 2 {
            (0.0, "undefined for a single value".to_owned())
        } else {
            (Z95 * (squares / (n as f64 - 1.0) / n as f64).sqrt(), "CLT".to_owned())
        };
        let (ci95, method) = if half > 0.0 {
            (Some([mean - half, mean + half]), method)
        } else if bounded && n > 1 {
            let size = clusters as f64;
            (proportion::wilson(mean * size, size), "Wilson, for the values do not vary".to_owned())
        } else if n > 1 {
            (None, "undefined: the values do not vary".to_owned())
        } else {
            (None, method)
        };
        Estimate { value: Some(mean), ci95, bounds: None, method, n }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64], cluster: impl Fn(usize) -> Cluster) -> Estimate {
        let mut all = MeanAccumulator::default();
        for (i, &x) in values.iter().enumerate() {
            all.add(x, cluster(i));
        }
        all.estimate()
    }

    #[test]
    fn cr1_agrees_with_the_known_answer() {
        // Scores 0..19 in four clusters by remainder: standard error .6454972244, .5590169944 without the correction.
        let scores: Vec<f64> = (0..20).map(f64::from).collect();
        let squares: f64 = (0..4).map(|r| (5.0f64.mul_add(f64::from(r), 40.0) - 47.5).powi(2)).sum();
        assert!((cr1_standard_error(squares, 20, 4) - 0.645_497_224_4).abs() < 1e-9);
        assert!((squares.sqrt() / 20.0 - 0.559_016_994_4).abs() < 1e-9);
        let found = of(&scores, |i| Cluster::Group(i as u32 % 4));
        let half = 3.182_446_305_284_263 * 0.645_497_224_367_902_8;
        let ci = found.ci95.expect("four clusters");
        assert!((ci[0] - (9.5 - half)).abs() < 1e-8 && (ci[1] - (9.5 + half)).abs() < 1e-8, "{found:?}");
        assert!(found.method.contains("fewer than 20"));
    }

    #[test]
    fn plain_numbers_go_by_the_central_limit_theorem() {
        let found = of(&[1.0, 2.0, 3.0, 4.0], |_| Cluster::Alone);
        let half = Z95 * (5.0f64 / 3.0 / 4.0).sqrt();
        let ci = found.ci95.expect("four values");
        assert!((ci[0] - (2.5 - half)).abs() < 1e-12 && (ci[1] - (2.5 + half)).abs() < 1e-12);
        assert_eq!((found.method.as_str(), found.n), ("CLT", 4));
    }

    #[test]
    fn assertions_get_wilsons_interval() {
        let found = of(&[0.0; 20], |_| Cluster::Alone);
        assert!((found.ci95.expect("twenty values")[1] - 0.161_125).abs() < 1e-6);
    }

    #[test]
    fn nothing_is_sure_without_variance() {
        assert_eq!(of(&[], |_| Cluster::Alone).value, None);
        assert_eq!(of(&[3.5], |_| Cluster::Alone).ci95, None);
        assert_eq!(of(&[3.5; 9], |_| Cluster::Alone).ci95, None);
        assert_eq!(of(&[1.0, 2.0, 5.0], |_| Cluster::Group(0)).ci95, None);
        let ci = of(&[0.5; 9], |_| Cluster::Alone).ci95.expect("bounded");
        assert!(ci[0] < 0.3 && ci[1] > 0.7, "{ci:?}");
    }

    #[test]
    fn lone_observations_count_as_clusters_beside_groups() {
        let mixed = of(&[0.1, 0.9, 0.4, 0.4], |i| if i < 2 { Cluster::Alone } else { Cluster::Group(0) });
        let grouped = of(&[0.1, 0.9, 0.4, 0.4], |i| Cluster::Group((i as u32).min(2)));
        assert_eq!(mixed, grouped);
    }

    proptest! {
        #[test]
        fn intervals_hold_the_mean(values in prop::collection::vec((-1e3..1e3f64, 0u32..9), 3..60)) {
            let found = of(&values.iter().map(|v| v.0).collect::<Vec<_>>(), |i| Cluster::Case(values[i].1));
            if let Some([low, high]) = found.ci95 {
                let mean = found.value.expect("there are values");
                prop_assert!(low <= mean && mean <= high && low < high);
            }
        }
    }
}
