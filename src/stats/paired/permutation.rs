//! The sign-flip permutation test: without a difference, each pair's (or cluster's) difference could as well have had the
//! other sign.
//!
//! Exact by enumeration for up to [`EXACT`] differences that are not 0, else by draws with `(r + 1)/(B + 1)`, which is
//! never below what the draws can show (Davison & Hinkley 1997, Bootstrap Methods and their Application, 4.2).

use crate::stats::random::Random;

/// Up to this many differences that are not 0 every sign is tried.
pub const EXACT: usize = 20;

/// The p-values of a sign-flip test.
#[derive(Debug, Clone, PartialEq)]
pub struct SignFlips {
    /// Of a mean as far from 0 in either direction.
    pub two_sided: f64,
    /// Of a mean as large.
    pub greater: f64,
    /// Of a mean as small.
    pub less: f64,
    /// Whether every sign was tried.
    pub exact: bool,
    /// How they were found, in words.
    pub method: String,
}

/// Tests that the differences are symmetric about 0.
pub fn sign_flips(differences: impl Iterator<Item = f64>, seed: u64, draws: u32) -> SignFlips {
    let moved: Vec<f64> = differences.filter(|d| *d != 0.0).collect();
    let observed: f64 = moved.iter().sum();
    let sizes: Vec<f64> = moved.iter().map(|d| d.abs()).collect();
    let total: f64 = sizes.iter().sum();
    if moved.len() <= EXACT {
        let [two_sided, greater, less] = exact_tails(sizes, observed, total);
        let method = "exact sign-flip permutation".to_owned();
        return SignFlips { two_sided, greater, less, exact: true, method };
    }
    let sums = random_sums(sizes, seed, draws as usize);
    let counted = tails(sums.iter().map(|sum| (*sum, 1.0)), observed, total);
    let [two_sided, greater, less] = counted.map(|r| (r + 1.0) / (sums.len() as f64 + 1.0));
    SignFlips { two_sided, greater, less, exact: false, method: format!("sign-flip permutation, B = {draws}") }
}

/// The weight of the sums that are as extreme as the observed one: to either side, above, below. Sums that differ by
/// rounding are equal.
fn tails(sums: impl Iterator<Item = (f64, f64)>, observed: f64, total: f64) -> [f64; 3] {
    let slack = 1e-12 * total;
    sums.fold([0.0; 3], |[two, greater, less], (sum, weight)| {
        let hit = |is: bool| if is { weight } else { 0.0 };
        [
            two + hit(sum.abs() >= observed.abs() - slack),
            greater + hit(sum >= observed - slack),
            less + hit(sum <= observed + slack),
        ]
    })
}

/// The same over every sum under all signs, which need not be written down: each is one of the sums of one half of the sizes
/// and one of the other half, which are in order.
fn exact_tails(mut sizes: Vec<f64>, observed: f64, total: f64) -> [f64; 3] {
    sizes.sort_unstable_by(f64::total_cmp);
    let other = sizes.split_off(sizes.len() / 2);
    let (one, mut other) = (all_sums(sizes), all_sums(other));
    other.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    // The probability of the first sums of the other half.
    let mut up_to = vec![0.0];
    up_to.extend(other.iter().scan(0.0, |sum, (_, weight)| {
        *sum += weight;
        Some(*sum)
    }));
    let slack = 1e-12 * total;
    // The probability of a sum of at most `limit`, and by symmetry of at least `-limit`.
    let at_most = |limit: f64| -> f64 {
        let below = |sum: f64| up_to[other.partition_point(|(x, _)| sum + x <= limit + slack)];
        one.iter().map(|(sum, weight)| weight * below(*sum)).sum()
    };
    let (greater, less) = (at_most(-observed), at_most(observed));
    let two_sided = if observed.abs() <= slack { 1.0 } else { 2.0 * greater.min(less) };
    [two_sided.min(1.0), greater, less]
}

/// Every sum under all signs with its probability; of equal sizes only the number of positive ones matters.
fn all_sums(mut sizes: Vec<f64>) -> Vec<(f64, f64)> {
    sizes.sort_unstable_by(f64::total_cmp);
    let mut sums = vec![(0.0, 1.0)];
    for equal in sizes.chunk_by(|a, b| a == b) {
        let count = equal.len() as f64;
        let mut weight = 0.5f64.powi(equal.len() as i32);
        let mut next = Vec::with_capacity(sums.len() * (equal.len() + 1));
        for positive in 0..=equal.len() {
            let positive = positive as f64;
            let add = equal[0] * (2.0 * positive - count);
            next.extend(sums.iter().map(|(sum, w)| (sum + add, w * weight)));
            weight *= (count - positive) / (positive + 1.0);
        }
        sums = next;
    }
    sums
}

/// Sums under random signs. Equal sizes need only the number of positive ones among them, a binomial draw; the others are
/// taken eight at a time from a table of their 256 signed sums, so that a draw costs an eighth of an addition for each.
fn random_sums(mut sizes: Vec<f64>, seed: u64, draws: usize) -> Vec<f64> {
    const COMMON: usize = 64;
    sizes.sort_unstable_by(f64::total_cmp);
    let mut random = Random::seeded(seed);
    let mut sums = vec![0.0; draws];
    let mut rare = Vec::new();
    for equal in sizes.chunk_by(|a, b| a == b) {
        if equal.len() < COMMON {
            rare.extend_from_slice(equal);
            continue;
        }
        let count = equal.len() as u64;
        for sum in &mut sums {
            *sum += equal[0] * (2.0 * random.binomial(count, 0.5) as f64 - count as f64);
        }
    }
    for eight in rare.chunks(8) {
        let mut table = [0.0; 256];
        for (signs, sum) in table.iter_mut().enumerate() {
            *sum = eight.iter().enumerate().map(|(i, size)| if signs >> i & 1 == 1 { *size } else { -size }).sum();
        }
        for sums in sums.chunks_mut(8) {
            let mut bits = random.bits();
            for sum in sums {
                *sum += table[(bits & 255) as usize];
                bits >>= 8;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAIZE: [f64; 15] = [49.0, -67.0, 8.0, 16.0, 6.0, 23.0, 28.0, 41.0, 14.0, 29.0, 56.0, 24.0, 75.0, 60.0, -48.0];

    #[test]
    fn darwins_maize_agrees_with_fisher() {
        let found = sign_flips(MAIZE.into_iter(), 1, 9_999);
        assert!((found.two_sided - 1726.0 / 32768.0).abs() < 1e-15, "{found:?}");
        assert!((found.greater - 863.0 / 32768.0).abs() < 1e-15, "{found:?}");
    }

    #[test]
    fn nothing_moved_is_no_evidence() {
        let found = sign_flips([0.0; 30].into_iter(), 1, 9_999);
        assert_eq!((found.two_sided, found.greater, found.less), (1.0, 1.0, 1.0));
    }

    #[test]
    fn draws_agree_with_enumeration() {
        // Sizes drawn one by one, and with equal ones drawn together: both against every sign.
        let check = |sizes: Vec<f64>| {
            let exact = all_sums(sizes.clone());
            let total: f64 = sizes.iter().sum();
            let drawn = random_sums(sizes, 3, 200_000);
            for share in [0.0, 0.1, 0.3, 0.6] {
                let of = |sums: Vec<(f64, f64)>| tails(sums.into_iter(), share * total, total);
                let (expected, found) = (of(exact.clone()), of(drawn.iter().map(|sum| (*sum, 5e-6)).collect()));
                for (expected, found) in expected.into_iter().zip(found) {
                    assert!((found - expected).abs() < 0.006, "{share}: {found} {expected}");
                }
            }
        };
        check((1..=17).map(|i| 1.0 + f64::from(i * i % 11)).collect());
        check([vec![0.5; 9], vec![1.25; 8]].concat());
        let found = random_sums(vec![1.0; 100], 3, 100_000);
        let variance = found.iter().map(|x| x * x).sum::<f64>() / found.len() as f64;
        assert!((variance - 100.0).abs() < 2.0, "{variance}");
    }

    proptest! {
        #[test]
        fn halves_give_what_all_sums_give(values in prop::collection::vec(-6i32..=6, 1..13)) {
            let moved: Vec<f64> = values.iter().filter(|x| **x != 0).map(|&x| f64::from(x) / 3.0).collect();
            let sizes: Vec<f64> = moved.iter().map(|x| x.abs()).collect();
            let (observed, total) = (moved.iter().sum::<f64>(), sizes.iter().sum::<f64>());
            let expected = tails(all_sums(sizes.clone()).into_iter(), observed, total);
            for (found, expected) in exact_tails(sizes, observed, total).into_iter().zip(expected) {
                prop_assert!((found - expected).abs() < 1e-12, "{} {}", found, expected);
            }
        }

        #[test]
        fn swapping_the_sides_mirrors_it(values in prop::collection::vec(-5i32..=5, 1..60)) {
            let one = sign_flips(values.iter().map(|&x| f64::from(x)), 7, 500);
            let other = sign_flips(values.iter().map(|&x| -f64::from(x)), 7, 500);
            prop_assert_eq!(one.two_sided, other.two_sided);
            // Few draws: the two one-sided values come from mirrored draws, not from the same ones.
            prop_assert!((one.greater - other.less).abs() < 0.2);
        }
    }
}
