//! What a bootstrap distribution says against any value, by the BCa method or by its percentiles.

use crate::stats::special::normal_quantile;

/// Sorted draws of a difference and what corrects them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draws {
    sorted: Vec<f64>,
    deviation: f64,
    bias: f64,
    acceleration: f64,
}

/// Beyond this many draws from an end, the distribution is continued as a normal one with the deviation of the draws: a
/// level of one in several thousand, which a corrected gate needs, must not hang on the single most extreme draw.
const TAIL: usize = 10;

impl Draws {
    /// For the BCa method (Efron 1987, Better bootstrap confidence intervals): bias from the share of draws below
    /// `observed`, those equal to it counting half. `None` where the draws do not vary.
    pub(super) fn bca(draws: Vec<f64>, observed: f64, acceleration: f64) -> Option<Self> {
        let mut draws = Self::percentile(draws)?;
        let tolerance = 1e-12;
        let below = draws.sorted.partition_point(|x| *x < observed - tolerance);
        let not_above = draws.sorted.partition_point(|x| *x <= observed + tolerance);
        let n = draws.sorted.len() as f64;
        let share = ((below + not_above) as f64 / 2.0 / n).clamp(0.5 / n, 1.0 - 0.5 / n);
        (draws.bias, draws.acceleration) = (normal_quantile(share), acceleration);
        Some(draws)
    }

    /// For the percentile method.
    pub(super) fn percentile(mut draws: Vec<f64>) -> Option<Self> {
        draws.sort_unstable_by(f64::total_cmp);
        let n = draws.len() as f64;
        let mean = draws.iter().sum::<f64>() / n;
        let deviation = (draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        let varies = draws.len() > 2 * TAIL && deviation > 1e-14 && draws.first() != draws.last();
        varies.then_some(Self { sorted: draws, deviation, bias: 0.0, acceleration: 0.0 })
    }

    /// The spread of the draws.
    pub(super) fn deviation(&self) -> f64 {
        self.deviation
    }

    /// Deviations by which the difference lies above `at`; draws equal to `at` speak against it.
    pub(super) fn above(&self, at: f64) -> f64 {
        let slack = 1e-12;
        let count = self.sorted.partition_point(|x| *x <= at + slack);
        self.corrected(self.position(count, at))
    }

    /// Deviations by which the difference lies above `at`; draws equal to `at` speak for it.
    pub(super) fn below(&self, at: f64) -> f64 {
        let slack = 1e-12;
        let count = self.sorted.partition_point(|x| *x < at - slack);
        self.corrected(self.position(count, at))
    }

    /// The normal quantile of the share of draws up to `at`, of which there are `count`.
    fn position(&self, count: usize, at: f64) -> f64 {
        let n = self.sorted.len();
        let end = normal_quantile(TAIL as f64 / (n as f64 + 1.0));
        if count < TAIL {
            end - ((self.sorted[TAIL - 1] - at) / self.deviation).max(0.0)
        } else if count > n - TAIL {
            -end + ((at - self.sorted[n - TAIL]) / self.deviation).max(0.0)
        } else {
            normal_quantile(count as f64 / (n as f64 + 1.0))
        }
    }

    /// The level of the interval that ends at a position: the inverse of BCa's adjustment.
    fn corrected(&self, position: f64) -> f64 {
        let moved = position - self.bias;
        let stretched = 1.0 + self.acceleration * moved;
        if stretched <= 0.0 {
            return -moved.signum() * f64::INFINITY;
        }
        self.bias - moved / stretched
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Random;
    use crate::stats::special::Z95;

    /// Sums of twelve uniform numbers, which are nearly normal.
    fn normal(n: usize) -> Vec<f64> {
        let mut random = Random::seeded(11);
        (0..n).map(|_| (0..12).map(|_| random.unit()).sum::<f64>() - 6.0).collect()
    }

    #[test]
    fn normal_draws_give_normal_deviations() {
        let draws = Draws::percentile(normal(9_999)).expect("they vary");
        for at in [-4.5, -3.0, -1.0, 0.0, 1.0, 2.0, 4.0] {
            assert!((draws.above(at) + at).abs() < 0.12 + 0.04 * f64::abs(at), "{at}: {}", draws.above(at));
        }
    }

    #[test]
    fn the_correction_is_inverted() {
        let draws = normal(9_999);
        let observed = 0.2;
        let found = Draws::bca(draws, observed, 0.05).expect("they vary");
        // Forward, as in the paper: the level at which the interval with one-sided level `z` ends.
        for z in [-Z95, -1.0, 1.0, Z95] {
            let shifted = found.bias + z;
            let position = found.bias + shifted / (1.0 - 0.05 * shifted);
            assert!((found.corrected(position) + z).abs() < 1e-12);
        }
    }

    #[test]
    fn draws_that_agree_say_nothing() {
        assert_eq!(Draws::percentile(vec![0.5; 999]), None);
        assert_eq!(Draws::percentile(vec![0.5, 0.6]), None);
    }
}
