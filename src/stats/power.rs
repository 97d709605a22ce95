//! What a paired comparison of assertions can find: the power of McNemar's test, and the least effect that it finds.

use statrs::function::beta::beta_reg;
use statrs::function::gamma::ln_gamma;

use super::paired::mcnemar;

/// The power that is planned for.
pub const USUAL_POWER: f64 = 0.8;

/// The exact unconditional power of the one-sided exact McNemar test at `alpha`: over every number of discordant pairs among
/// `n` that `discordance` (the share of them) can give, and every way in which an `effect` (the share of base right & head
/// wrong less that of the reverse) can divide them. Source: Schork & Williams 1980, Number of observations required for the
/// comparison of two correlated proportions. `None` where the effect is not within the discordance or a share not in [0, 1].
pub fn mcnemar_power(n: u64, discordance: f64, effect: f64, alpha: f64) -> Option<f64> {
    let sane = (0.0..=1.0).contains(&discordance) && effect.abs() <= discordance && alpha > 0.0;
    sane.then(|| Design::new(n, discordance, alpha).power(effect))
}

/// The least effect that the one-sided exact McNemar test at `alpha` finds with the given power among `n` pairs of that
/// discordance; `None` where even the largest possible effect, the discordance itself, is not found so often.
pub fn minimum_detectable_effect(n: u64, discordance: f64, alpha: f64, power: f64) -> Option<f64> {
    if !((0.0..=1.0).contains(&discordance) && alpha > 0.0) {
        return None;
    }
    let design = Design::new(n, discordance, alpha);
    if design.power(discordance) < power {
        return None;
    }
    let (mut missed, mut found) = (0.0, discordance);
    for _ in 0..40 {
        let middle = f64::midpoint(missed, found);
        if design.power(middle) < power {
            missed = middle;
        } else {
            found = middle;
        }
    }
    Some(found)
}

/// What does not depend on the effect.
struct Design {
    discordance: f64,
    /// Numbers of discordant pairs that are likely at all, each with its probability and the least count of those worse that
    /// is significant; one more than the pairs if none is.
    likely: Vec<(u64, f64, u64)>,
}

impl Design {
    fn new(n: u64, discordance: f64, alpha: f64) -> Self {
        // Ten standard deviations and ten pairs to each side of the mean: what lies beyond is below 1e-16.
        let mean = n as f64 * discordance;
        let reach = 10.0 * (mean * (1.0 - discordance)).sqrt() + 10.0;
        let (first, last) = ((mean - reach).max(0.0) as u64, ((mean + reach) as u64).min(n));
        let is_significant = |b: u64, pairs: u64| mcnemar::one_sided(b, pairs - b) <= alpha;
        let (mut low, mut critical) = (0, first + 1);
        while low < critical {
            let middle = u64::midpoint(low, critical);
            if middle <= first && !is_significant(middle, first) {
                low = middle + 1;
            } else {
                critical = middle;
            }
        }
        let likely = (first..=last).map(|pairs| {
            // It grows by at most one with each pair.
            while critical <= pairs && !is_significant(critical, pairs) {
                critical += 1;
            }
            (pairs, binomial_point(n, pairs, discordance), critical)
        });
        Self { discordance, likely: likely.collect() }
    }

    fn power(&self, effect: f64) -> f64 {
        if self.discordance == 0.0 {
            return 0.0;
        }
        let worse = ((self.discordance + effect) / self.discordance / 2.0).clamp(0.0, 1.0);
        let found = |&(pairs, weight, critical): &(u64, f64, u64)| weight * at_least(critical, pairs, worse);
        self.likely.iter().map(found).sum::<f64>().min(1.0)
    }
}

/// The probability of `k` or more among `n`.
fn at_least(k: u64, n: u64, p: f64) -> f64 {
    match k {
        0 => 1.0,
        k if k > n || p <= 0.0 => 0.0,
        _ if p >= 1.0 => 1.0,
        k => beta_reg(k as f64, (n - k + 1) as f64, p),
    }
}

fn binomial_point(n: u64, k: u64, p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return f64::from(u8::from(k == if p <= 0.0 { 0 } else { n }));
    }
    let (n, k) = (n as f64, k as f64);
    let ways = ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0);
    (ways + k * p.ln() + (n - k) * (-p).ln_1p()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        let power = |alpha| mcnemar_power(500, 0.10, 0.03, alpha).expect("possible");
        assert!((power(0.05) / 0.641_324_905_7 - 1.0).abs() < 1e-9, "{}", power(0.05));
        assert!((power(0.025) - 0.5186).abs() < 5e-5, "{}", power(0.025));
    }

    #[test]
    fn what_cannot_be_has_no_power() {
        assert_eq!(mcnemar_power(100, 0.02, 0.03, 0.05), None);
        assert_eq!(mcnemar_power(100, 0.0, 0.0, 0.05), Some(0.0));
    }

    #[test]
    fn the_least_effect_has_the_power_asked_for() {
        let effect = minimum_detectable_effect(300, 0.1, 0.025, USUAL_POWER).expect("possible");
        assert!(mcnemar_power(300, 0.1, effect, 0.025).expect("possible") >= 0.8);
        assert!(mcnemar_power(300, 0.1, effect - 1e-6, 0.025).expect("possible") < 0.8);
        assert_eq!(minimum_detectable_effect(10, 0.05, 0.025, USUAL_POWER), None);
    }

    /// Every table of four counts, with its multinomial probability.
    #[test]
    fn small_samples_agree_with_enumeration() {
        let (n, discordance, effect, alpha) = (14, 0.5, 0.3, 0.05);
        let (b_share, c_share) = (0.4, 0.1);
        let mut expected = 0.0;
        for b in 0..=n {
            for c in 0..=n - b {
                if mcnemar::one_sided(b, c) <= alpha {
                    let c_given_b = binomial_point(n - b, c, c_share / (1.0 - b_share));
                    expected += binomial_point(n, b, b_share) * c_given_b;
                }
            }
        }
        let found = mcnemar_power(n, discordance, effect, alpha).expect("possible");
        assert!((found - expected).abs() < 1e-11, "{found} {expected}");
    }
}
