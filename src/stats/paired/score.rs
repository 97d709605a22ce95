//! The score interval of a paired difference: Tango's for assertions, and its generalisation to averages and clusters.
//!
//! A score test takes the variance that the data would have if the hypothesis were true, not the variance seen. That is
//! what keeps a gate honest where nothing was seen to change: with no discordant pair the variance seen is 0, but a true
//! drop of `m` has the variance `m(1 − m)`.
//!
//! Tango's interval (Tango 1998, Equivalence test and confidence interval for the difference in proportions for the
//! paired-sample design) estimates the probabilities of the four outcomes of a pair by maximum likelihood under the
//! hypothesis. [`Score`] does the same for any bounded differences: the maximum-likelihood distribution under the
//! hypothesis weighs each difference (Owen 1988, Empirical likelihood ratio confidence intervals for a single functional),
//! and, where weighing does not reach the hypothesis, puts the missing probability on the largest difference that could
//! have been seen (the support bound of Honda & Takemura 2010, An asymptotically optimal bandit algorithm for bounded
//! support models). With differences of −1, 0 and 1 this is Tango's test exactly; with averages of pooled runs or of
//! repeats it profits from their smaller variance; with clusters it does all this to the clusters' sums, so that an unseen
//! change takes a whole cluster with it.

/// Tango's statistic: how many deviations `(c − b)/n` lies above `delta`. Counts may be fractions.
pub fn tango_z(b: f64, c: f64, n: f64, delta: f64) -> f64 {
    let numerator = c - b - n * delta;
    if numerator == 0.0 {
        return 0.0;
    }
    let (quadratic, linear) = (2.0 * n, -(b + c) + (2.0 * n - c + b) * delta);
    let constant = -b * delta * (1.0 - delta);
    let q = ((linear * linear - 4.0 * quadratic * constant).max(0.0).sqrt() - linear) / (2.0 * quadratic);
    let variance = n * (2.0 * q.max(0.0) + delta * (1.0 - delta)).max(0.0);
    if variance > 0.0 { numerator / variance.sqrt() } else { numerator.signum() * f64::INFINITY }
}

/// Tango's interval of `(c − b)/n` at `z` deviations to each side; `None` without pairs.
pub fn tango(b: f64, c: f64, n: f64, z: f64) -> Option<[f64; 2]> {
    if n <= 0.0 {
        return None;
    }
    let estimate = (c - b) / n;
    let low = boundary(-1.0, estimate, |delta| tango_z(b, c, n, delta) >= z);
    let high = boundary(1.0, estimate, |delta| tango_z(b, c, n, delta) <= -z);
    Some([low, high])
}

/// Where `excluded` ends between `outside` and `inside`, by bisection; `outside` where it holds nowhere.
fn boundary(outside: f64, inside: f64, excluded: impl Fn(f64) -> bool) -> f64 {
    if !excluded(outside) {
        return outside;
    }
    let (mut out, mut inn) = (outside, inside);
    for _ in 0..200 {
        let middle = f64::midpoint(out, inn);
        if middle == out || middle == inn {
            break;
        }
        if excluded(middle) {
            out = middle;
        } else {
            inn = middle;
        }
    }
    out
}

/// Half the width of Tango's interval without a discordant pair, `z²/(n + z²)`.
pub fn no_discordance(z: f64, n: f64) -> f64 {
    z * z / (n + z * z)
}

/// Clusters (or single pairs) of one kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Sum of the differences in each.
    pub sum: f64,
    /// Pairs in each.
    pub size: f64,
    /// How many such there are.
    pub weight: f64,
}

/// The score test of a mean of bounded differences.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    points: Vec<Point>,
    clusters: f64,
    /// Pairs in the cluster of a pair chosen at random.
    size: f64,
    /// The least and the greatest difference that one pair can show.
    support: [f64; 2],
}

impl Score {
    /// The test of such clusters, each pair's difference being within `support`. Equal points are put together.
    pub fn new(mut points: Vec<Point>, support: [f64; 2]) -> Self {
        points.sort_unstable_by(|a, b| a.sum.total_cmp(&b.sum).then(a.size.total_cmp(&b.size)));
        points.dedup_by(|later, kept| {
            let same = later.sum == kept.sum && later.size == kept.size;
            if same {
                kept.weight += later.weight;
            }
            same
        });
        let (mut clusters, mut pairs, mut squares) = (0.0, 0.0, 0.0);
        for point in &points {
            clusters += point.weight;
            pairs += point.weight * point.size;
            squares += point.weight * point.size * point.size;
        }
        Self { points, clusters, size: squares / pairs, support }
    }

    /// How many deviations the mean lies above `mean`, with the variance under the hypothesis that `mean` is true.
    pub fn z(&self, mean: f64) -> f64 {
        let total: f64 = self.points.iter().map(|p| p.weight * (p.sum - mean * p.size)).sum();
        let (sign, room) = if total < 0.0 { (1.0, self.support[1] - mean) } else { (-1.0, mean - self.support[0]) };
        if total == 0.0 {
            return 0.0;
        }
        // Turned so that the observed mean is too small, and probability has to move upwards.
        let residual = |p: &Point| sign * (p.sum - mean * p.size);
        let largest = self.points.iter().map(residual).fold(f64::NEG_INFINITY, f64::max);
        let unseen = self.size * room;
        let top = largest.max(unseen);
        if top <= 0.0 {
            return -sign * f64::INFINITY;
        }
        let interior = self.tilt(residual, largest, top);
        let tilt = interior.unwrap_or(1.0 / top);
        let (mut variance, mut mass) = (0.0, 0.0);
        for point in &self.points {
            let u = residual(point);
            let share = point.weight / (1.0 - tilt * u);
            variance += share * u * u;
            mass += share;
        }
        if interior.is_none() {
            variance += (self.clusters - mass).max(0.0) * top * top;
        }
        total / variance.sqrt()
    }

    /// The multiplier λ with `Σ w·u/(1 − λu) = 0`; `None` where the sum stays negative up to the greatest one allowed,
    /// `1/top`.
    fn tilt(&self, residual: impl Fn(&Point) -> f64, largest: f64, top: f64) -> Option<f64> {
        let moments = |tilt: f64| {
            self.points.iter().fold((0.0, 0.0), |(sum, slope), point| {
                let u = residual(point);
                let over = u / (1.0 - tilt * u);
                (sum + point.weight * over, slope + point.weight * over * over)
            })
        };
        if largest < top && moments(1.0 / top).0 <= 0.0 {
            return None;
        }
        let (mut low, mut high) = (0.0, 1.0 / top);
        let mut tilt = 0.0;
        for _ in 0..200 {
            let (sum, slope) = moments(tilt);
            if sum < 0.0 {
                low = tilt;
            } else {
                high = tilt;
            }
            let newton = tilt - sum / slope;
            let next = if newton > low && newton < high { newton } else { f64::midpoint(low, high) };
            if (next - tilt).abs() <= 1e-15 * high || next >= 1.0 / top {
                break;
            }
            tilt = next;
        }
        Some(tilt)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::special::Z95;

    fn close(found: [f64; 2], expected: [f64; 2], tolerance: f64) {
        let error = (found[0] - expected[0]).abs().max((found[1] - expected[1]).abs());
        assert!(error < tolerance, "{found:?} is not {expected:?}");
    }

    #[test]
    fn tango_agrees_with_the_known_answers() {
        close(tango(1.0, 7.0, 21.0, Z95).expect("pairs"), [0.026_003, 0.517_232], 1e-6);
        close(tango(150.0, 86.0, 1600.0, Z95).expect("pairs"), [-0.058_998, -0.021_362], 1e-6);
        close(tango(0.0, 0.0, 10.0, Z95).expect("pairs"), [-0.277_533, 0.277_533], 1e-6);
        assert_eq!(tango(0.0, 0.0, 0.0, Z95), None);
    }

    #[test]
    fn without_a_discordant_pair_the_width_is_known() {
        for n in [1.0, 10.0, 189.0, 5000.0] {
            let half = no_discordance(Z95, n);
            close(tango(0.0, 0.0, n, Z95).expect("pairs"), [-half, half], 1e-12);
        }
        // The sizes at which such a PASS begins.
        for (n, margin, z) in [(189.0, 0.02, Z95), (247.0, 0.02, 2.241_403), (73.0, 0.05, Z95), (213.0, 0.05, 3.340_7)]
        {
            assert!(no_discordance(z, n) <= margin && no_discordance(z, n - 1.0) > margin, "{n} {margin}");
        }
    }

    fn binary(b: f64, c: f64, n: f64) -> Score {
        let point = |sum, weight| Point { sum, size: 1.0, weight };
        let points = [point(-1.0, b), point(1.0, c), point(0.0, n - b - c)];
        Score::new(points.into_iter().filter(|p| p.weight > 0.0).collect(), [-1.0, 1.0])
    }

    #[test]
    fn clusters_that_agree_count_once() {
        let clusters = Score::new(vec![Point { sum: 0.0, size: 3.0, weight: 100.0 }], [-1.0, 1.0]);
        for margin in [-0.3, -0.02, 0.01, 0.2] {
            assert!((clusters.z(margin) - tango_z(0.0, 0.0, 100.0, margin)).abs() < 1e-9);
        }
    }

    #[test]
    fn a_few_small_differences_leave_room_for_a_large_one() {
        // One of 200 averages of three moved by a third: a bound from the variance seen would be .005.
        let points =
            vec![Point { sum: 1.0 / 3.0, size: 1.0, weight: 1.0 }, Point { sum: 0.0, size: 1.0, weight: 199.0 }];
        let score = Score::new(points, [-1.0, 1.0]);
        assert!(score.z(0.018) > -Z95 && score.z(0.022) < -Z95, "{} {}", score.z(0.018), score.z(0.022));
    }

    proptest! {
        #[test]
        fn of_assertions_it_is_tangos_statistic(b in 0u32..20, c in 0u32..20, both in 0u32..80, at in -0.9..0.9f64) {
            let n = f64::from(b + c + both);
            prop_assume!(n > 0.0);
            let (b, c) = (f64::from(b), f64::from(c));
            let (found, expected) = (binary(b, c, n).z(at), tango_z(b, c, n, at));
            prop_assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{} {}", found, expected);
        }

        #[test]
        fn swapping_the_sides_mirrors_it(sums in prop::collection::vec((-3i32..=3, 3u32..5), 2..30), at in -0.8..0.8f64) {
            let points = |sign: f64| {
                sums.iter().map(|&(sum, size)| Point { sum: sign * f64::from(sum), size: f64::from(size), weight: 1.0 }).collect()
            };
            let (one, other) = (Score::new(points(1.0), [-1.0, 1.0]), Score::new(points(-1.0), [-1.0, 1.0]));
            let (x, y) = (one.z(at), other.z(-at));
            prop_assert!((x + y).abs() <= 1e-7 * x.abs().max(1.0), "{} {}", x, y);
        }

        #[test]
        fn it_falls_as_the_hypothesis_rises(sums in prop::collection::vec(-3i32..=3, 2..30), low in -0.9..0.8f64) {
            let points = sums.iter().map(|&sum| Point { sum: f64::from(sum) / 3.0, size: 1.0, weight: 1.0 }).collect();
            let score = Score::new(points, [-1.0, 1.0]);
            prop_assert!(score.z(low) >= score.z(low + 0.05) - 1e-7);
        }
    }
}
