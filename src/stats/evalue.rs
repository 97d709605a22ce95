//! E-values: evidence that may be looked at after every pair, and stopped at any time.
//!
//! An e-value is what a bet against the hypothesis has made of 1: its mean is at most 1 while the hypothesis is true, so that
//! it ever reaches `1/α` with a probability of at most `α` (Ville 1939; Shafer 2021, Testing by betting).

use statrs::function::gamma::ln_gamma;

use super::paired::mcnemar;

/// The logarithm of the e-value against "the head is not worse" from discordant pairs alone: `b` base right & head wrong, `c`
/// the reverse. Bets on each with a share spread evenly over (½, 1): `E = 2ⁿ·B(b+1, c+1)·2·P(Beta(b+1, c+1) > ½)`.
pub fn ln_worse(b: u64, c: u64) -> f64 {
    let n = b + c;
    let (bf, cf) = (b as f64, c as f64);
    let ln_beta = ln_gamma(bf + 1.0) + ln_gamma(cf + 1.0) - ln_gamma(bf + cf + 2.0);
    // A beta variable with whole parameters exceeds ½ as often as n + 1 fair coins show at most b heads.
    let above = mcnemar::one_sided(n + 1 - b, b);
    (n as f64 + 1.0) * std::f64::consts::LN_2 + ln_beta + above.ln()
}

/// The logarithm of the e-value at which a claim may be made.
pub fn ln_needed(alpha: f64) -> f64 {
    -alpha.ln()
}

/// Bets on damages in [−1, 1], one by one in an order that was fixed before they were known, against both hypotheses about a
/// margin (Waudby-Smith & Ramdas 2024, Estimating means of bounded random variables by betting). The stakes are spread
/// over a grid, so that none has to be chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Bets {
    margin: f64,
    fail: [f64; STAKES],
    pass: [f64; STAKES],
}

const STAKES: usize = 24;

impl Bets {
    /// No bet made yet, about this margin (a damage in (−1, 1)).
    pub fn new(margin: f64) -> Self {
        Self { margin, fail: [0.0; STAKES], pass: [0.0; STAKES] }
    }

    /// Stakes from a hundredth of the largest that cannot lose everything up to nearly that, evenly in their logarithm.
    fn stake(index: usize) -> f64 {
        0.01 * 95.0f64.powf(index as f64 / (STAKES - 1) as f64)
    }

    /// Adds the damage of the next pair: 1 where only the base is right, −1 where only the head is, 0 where they agree.
    pub fn add(&mut self, damage: f64) {
        let damage = damage.clamp(-1.0, 1.0);
        for index in 0..STAKES {
            let stake = Self::stake(index);
            self.fail[index] += (stake / (1.0 + self.margin) * (damage - self.margin)).ln_1p();
            self.pass[index] += (stake / (1.0 - self.margin) * (self.margin - damage)).ln_1p();
        }
    }

    /// The logarithm of the e-value against "the damage is at most the margin".
    pub fn ln_fail(&self) -> f64 {
        ln_mean_exp(&self.fail)
    }

    /// The logarithm of the e-value against "the damage is at least the margin".
    pub fn ln_pass(&self) -> f64 {
        ln_mean_exp(&self.pass)
    }
}

fn ln_mean_exp(values: &[f64; STAKES]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + (values.iter().map(|x| (x - most).exp()).sum::<f64>() / STAKES as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Random;

    #[test]
    fn the_closed_form_is_the_spread_bet() {
        for (b, c) in [(0, 0), (3, 1), (1, 3), (12, 4), (5, 20), (30, 2)] {
            // Midpoint rule over the stakes: the share q of b is even over (½, 1), against one of ½.
            const STEPS: u32 = 20_000;
            let mean: f64 = (0..STEPS)
                .map(|i| {
                    let q = 0.5 + (f64::from(i) + 0.5) / f64::from(STEPS) / 2.0;
                    (2.0 * q).powi(b) * (2.0 * (1.0 - q)).powi(c)
                })
                .sum::<f64>()
                / f64::from(STEPS);
            let found = ln_worse(b as u64, c as u64).exp();
            assert!((found / mean - 1.0).abs() < 1e-6, "{b} {c}: {found} {mean}");
        }
        assert!(ln_worse(0, 0).abs() < 1e-12);
    }

    #[test]
    fn its_mean_is_at_most_one_without_a_difference() {
        // Over all ways in which twelve fair coins fall, exactly.
        let mean: f64 = (0..1u32 << 12)
            .map(|ways| ln_worse(u64::from(ways.count_ones()), u64::from(12 - ways.count_ones())).exp())
            .sum::<f64>()
            / 4096.0;
        assert!((mean - 1.0).abs() < 1e-9, "{mean}");
    }

    #[test]
    fn looking_after_every_pair_raises_few_false_alarms() {
        let mut random = Random::seeded(3);
        let (mut fail, mut pass, mut discordant) = (0, 0, 0);
        const MONTHS: u32 = 1500;
        for _ in 0..MONTHS {
            let mut bets = Bets::new(0.02);
            let (mut b, mut c) = (0, 0);
            let mut seen = [false; 3];
            for _ in 0..1000 {
                // A true damage of exactly the margin, and among the discordant pairs of another draw none.
                let u = random.unit();
                bets.add(if u < 0.06 {
                    1.0
                } else if u < 0.10 {
                    -1.0
                } else {
                    0.0
                });
                if random.unit() < 0.5 {
                    b += 1;
                } else {
                    c += 1;
                }
                seen[0] |= bets.ln_fail() >= ln_needed(0.025);
                seen[1] |= bets.ln_pass() >= ln_needed(0.025);
                seen[2] |= b + c < 200 && ln_worse(b, c) >= ln_needed(0.025);
            }
            fail += u32::from(seen[0]);
            pass += u32::from(seen[1]);
            discordant += u32::from(seen[2]);
        }
        // 2.5 % of 1500 is 37.5, with a deviation of 6.
        assert!(fail <= 55 && pass <= 55 && discordant <= 55, "{fail} {pass} {discordant}");
    }

    #[test]
    fn what_is_true_is_found() {
        let mut bets = Bets::new(0.02);
        let mut random = Random::seeded(4);
        for _ in 0..2000 {
            bets.add(if random.unit() < 0.1 { 1.0 } else { 0.0 });
        }
        assert!(bets.ln_fail() > ln_needed(0.001) && bets.ln_pass() < 0.0);
    }
}
