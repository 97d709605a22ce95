//! Several tests at once: which hypotheses may be rejected.
//!
//! Bonferroni and Holm keep the probability of any false rejection at `alpha`, whatever the tests have in common; Benjamini
//! and Hochberg keep the expected share of false ones among the rejections, for lists that are explored.

/// Rejects where `p ≤ alpha / m`.
pub fn bonferroni(p: &[f64], alpha: f64) -> Vec<bool> {
    let level = alpha / p.len().max(1) as f64;
    p.iter().map(|p| *p <= level).collect()
}

/// Whether Holm's procedure rejects each hypothesis, and the level at which it was last looked at (Holm 1979, A simple
/// sequentially rejective multiple test procedure): the smallest p-value at `alpha / m`, the next at `alpha / (m − 1)`, and
/// so on until one stays; all further ones are held to the level of that one.
pub fn holm(p: &[f64], alpha: f64) -> Vec<(bool, f64)> {
    let mut levels = vec![(false, alpha); p.len()];
    let (mut rejecting, mut level) = (true, alpha);
    for (rank, i) in ascending(p).into_iter().enumerate() {
        if rejecting {
            level = alpha / (p.len() - rank) as f64;
            rejecting = p[i] <= level;
        }
        levels[i] = (rejecting, level);
    }
    levels
}

/// The p-values adjusted so that those up to `q` are rejected at a false discovery rate of `q` (Benjamini & Hochberg 1995,
/// Controlling the false discovery rate: a practical and powerful approach to multiple testing).
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut adjusted = vec![1.0; p.len()];
    let mut least = 1.0f64;
    for (rank, i) in ascending(p).into_iter().enumerate().rev() {
        least = least.min(p[i] * p.len() as f64 / (rank + 1) as f64);
        adjusted[i] = least;
    }
    adjusted
}

fn ascending(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&i, &j| p[i].total_cmp(&p[j]));
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The p-values of the example of Benjamini & Hochberg 1995, section 4.
    const PAPER: [f64; 15] = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590,
        1.0,
    ];

    #[test]
    fn the_papers_example_gives_its_rejections() {
        let count = |rejected: Vec<bool>| rejected.into_iter().filter(|x| *x).count();
        assert_eq!(count(bonferroni(&PAPER, 0.05)), 3);
        assert_eq!(count(holm(&PAPER, 0.05).into_iter().map(|x| x.0).collect()), 3);
        assert_eq!(count(benjamini_hochberg(&PAPER).into_iter().map(|q| q <= 0.05).collect()), 4);
    }

    #[test]
    fn holm_goes_on_until_one_stays() {
        let found = holm(&[0.03, 0.01, 0.013], 0.04);
        assert_eq!(found, [(true, 0.04), (true, 0.04 / 3.0), (true, 0.02)]);
        let found = holm(&[0.03, 0.001, 0.021], 0.04);
        assert_eq!(found, [(false, 0.02), (true, 0.04 / 3.0), (false, 0.02)]);
        assert_eq!(holm(&[], 0.04), []);
    }

    proptest! {
        /// Closed testing: Holm rejects what every intersection that holds it rejects by Bonferroni.
        #[test]
        fn holm_is_the_closure_of_bonferroni(p in prop::collection::vec(0.0..0.1f64, 1..7), alpha in 0.01..0.1f64) {
            let found = holm(&p, alpha);
            for i in 0..p.len() {
                let all = (1u32..1 << p.len()).filter(|set| set >> i & 1 == 1).all(|set| {
                    let members: Vec<f64> = (0..p.len()).filter(|j| set >> j & 1 == 1).map(|j| p[j]).collect();
                    bonferroni(&members, alpha).contains(&true)
                });
                prop_assert_eq!(found[i].0, all);
                prop_assert_eq!(found[i].0, p[i] <= found[i].1);
            }
        }

        #[test]
        fn benjamini_hochberg_rejects_up_to_the_last_p_value_under_the_line(
            p in prop::collection::vec(0.0..1.0f64, 1..20), q in 0.01..0.5f64,
        ) {
            let mut sorted = p.clone();
            sorted.sort_by(f64::total_cmp);
            let under = |k: &usize| sorted[*k] <= q * (*k + 1) as f64 / p.len() as f64;
            let expected = (0..p.len()).filter(under).max().map_or(0, |k| k + 1);
            prop_assert_eq!(benjamini_hochberg(&p).into_iter().filter(|x| *x <= q).count(), expected);
        }
    }
}
