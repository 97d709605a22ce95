//! A small generator and the binomial draws of the bootstrap. Written out here, so that a seed gives the same interval on
//! every machine and with every later version of a library.

use statrs::function::gamma::ln_gamma;

/// xoshiro256++ (Blackman & Vigna 2021, Scrambled Linear Pseudorandom Number Generators), seeded by SplitMix64.
#[derive(Debug, Clone)]
pub struct Random([u64; 4]);

impl Random {
    /// The generator of a seed.
    pub fn seeded(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }))
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A uniform double in [0, 1).
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// How many of `n` independent trials with probability `p` succeed.
    pub fn binomial(&mut self, n: u64, p: f64) -> u64 {
        if n == 0 || p <= 0.0 {
            0
        } else if p >= 1.0 {
            n
        } else if p > 0.5 {
            n - self.binomial_lower(n, 1.0 - p)
        } else {
            self.binomial_lower(n, p)
        }
    }

    fn binomial_lower(&mut self, n: u64, p: f64) -> u64 {
        if n as f64 * p < 10.0 { self.binomial_by_inversion(n, p) } else { self.binomial_by_rejection(n, p) }
    }

    /// Adds up the probabilities from 0; the mean is below 10, so the walk is short.
    fn binomial_by_inversion(&mut self, n: u64, p: f64) -> u64 {
        let (q, odds) = (1.0 - p, p / (1.0 - p));
        let start = (n as f64 * q.ln()).exp();
        loop {
            let mut u = self.unit();
            let mut probability = start;
            // The sum of the rounded probabilities may end just below `u`; such a draw is repeated.
            for k in 0..=n.min(120) {
                if u < probability {
                    return k;
                }
                u -= probability;
                probability *= odds * (n - k) as f64 / (k + 1) as f64;
            }
        }
    }

    /// Transformed rejection, algorithm BTRS of Hörmann 1993, The generation of binomial random variates.
    fn binomial_by_rejection(&mut self, n: u64, p: f64) -> u64 {
        let size = n as f64;
        let spread = (size * p * (1.0 - p)).sqrt();
        let scale = 1.15 + 2.53 * spread;
        let tail = -0.0873 + 0.0248 * scale + 0.01 * p;
        let centre = size * p + 0.5;
        let quick = 0.92 - 4.2 / scale;
        let alpha = (2.83 + 5.1 / scale) * spread;
        let mode = ((size + 1.0) * p).floor();
        // Needed by about one draw in seven only.
        let mut at_mode = None;
        loop {
            let offset = self.unit() - 0.5;
            let mut height = self.unit();
            let edge = 0.5 - offset.abs();
            let k = ((2.0 * tail / edge + scale) * offset + centre).floor();
            if edge >= 0.07 && height <= quick {
                return k as u64;
            }
            if !(0.0..=size).contains(&k) {
                continue;
            }
            height = height * alpha / (tail / (edge * edge) + scale);
            let at_mode = *at_mode.get_or_insert_with(|| ln_gamma(mode + 1.0) + ln_gamma(size - mode + 1.0));
            let log_ratio = at_mode - ln_gamma(k + 1.0) - ln_gamma(size - k + 1.0) + (k - mode) * (p / (1.0 - p)).ln();
            if height.ln() <= log_ratio {
                return k as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pearson's statistic of many draws against the exact probabilities, cells below 20 expected draws pooled.
    fn check(n: u64, p: f64) {
        const DRAWS: usize = 100_000;
        let mut random = Random::seeded(7);
        let mut seen = vec![0u32; n as usize + 1];
        for _ in 0..DRAWS {
            seen[random.binomial(n, p) as usize] += 1;
        }
        let (mut statistic, mut cells, mut pooled) = (0.0f64, 0.0f64, (0.0f64, 0.0f64));
        for (k, &count) in seen.iter().enumerate() {
            let (k, n) = (k as f64, n as f64);
            let log =
                ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0) + k * p.ln() + (n - k) * (1.0 - p).ln();
            let expected = DRAWS as f64 * log.exp();
            if expected < 20.0 {
                pooled = (pooled.0 + f64::from(count), pooled.1 + expected);
            } else {
                statistic += (f64::from(count) - expected).powi(2) / expected;
                cells += 1.0;
            }
        }
        if pooled.1 > 0.0 {
            statistic += (pooled.0 - pooled.1).powi(2) / pooled.1.max(1.0);
        }
        // Mean `cells`, deviation √(2·cells): five deviations never happen by chance.
        assert!(statistic < cells + 5.0 * (2.0 * cells + 2.0).sqrt(), "n {n}, p {p}: {statistic} over {cells} cells");
    }

    #[test]
    fn binomial_draws_follow_the_binomial_distribution() {
        for (n, p) in [(1, 0.3), (12, 0.5), (40, 0.1), (40, 0.9), (60, 0.3), (1000, 0.02), (1000, 0.37), (5000, 0.8)] {
            check(n, p);
        }
    }

    #[test]
    fn impossible_and_certain_trials_are_not_drawn() {
        let mut random = Random::seeded(1);
        assert_eq!((random.binomial(9, 0.0), random.binomial(9, 1.0), random.binomial(0, 0.5)), (0, 9, 0));
    }

    #[test]
    fn a_seed_gives_the_same_bits_for_ever() {
        let mut random = Random::seeded(0);
        // SplitMix64 of 0 begins with e220a8397b1dcdaf, 6e789e6aa1b965f4, 06c45d188009454f, f88bb8a8724c81ec.
        assert_eq!(
            random.0,
            [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f, 0xf88b_b8a8_724c_81ec]
        );
        assert_eq!(random.bits(), Random::seeded(0).bits());
    }
}
