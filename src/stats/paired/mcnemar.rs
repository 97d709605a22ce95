//! McNemar's test of paired assertions: exact, one-sided and with mid-p.
//!
//! Given `n = b + c` discordant pairs and no difference, `b` is binomial with probability ½ (McNemar 1947, Note on the
//! sampling error of the difference between correlated proportions or percentages). The mid-p counts half of the observed
//! outcome's probability (Fagerland, Lydersen & Laake 2013, The McNemar test for binary matched-pairs data: mid-p and
//! asymptotic are better than exact conditional).

use statrs::function::gamma::ln_gamma;

/// `P(X ≤ k)` and `P(X = k)` for `X` binomial of `n` trials with probability ½. Summed downwards from `k` in proportion to
/// its first term, which alone is computed from logarithms: nothing underflows before the result itself does.
fn lower_tail(n: u64, k: u64) -> (f64, f64) {
    if n == 0 {
        return (1.0, 1.0);
    }
    if 2 * k > n {
        // By symmetry, so that the terms fall from the first on.
        let (rest, _) = if k == n { (0.0, 0.0) } else { lower_tail(n, n - k - 1) };
        return (1.0 - rest, point(n, k));
    }
    let (mut sum, mut term) = (1.0, 1.0);
    for j in (1..=k).rev() {
        term *= j as f64 / (n - j + 1) as f64;
        sum += term;
        if term < sum * 1e-18 {
            break;
        }
    }
    let first = point(n, k);
    (first * sum, first)
}

fn point(n: u64, k: u64) -> f64 {
    let (n, k) = (n as f64, k as f64);
    (ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0) - n * std::f64::consts::LN_2).exp()
}

/// The exact two-sided p-value; 1 without discordant pairs.
pub fn two_sided(b: u64, c: u64) -> f64 {
    (2.0 * lower_tail(b + c, b.min(c)).0).min(1.0)
}

/// The two-sided mid-p value; 1 without discordant pairs.
pub fn mid_p(b: u64, c: u64) -> f64 {
    if b + c == 0 {
        return 1.0;
    }
    let (tail, point) = lower_tail(b + c, b.min(c));
    if b == c { 1.0 - point / 2.0 } else { (2.0 * tail - point).min(1.0) }
}

/// The exact one-sided p-value against "no worse": the probability of `b` or more among the discordant pairs.
pub fn one_sided(b: u64, c: u64) -> f64 {
    // P(X ≥ b) = P(X ≤ c), for both sides are equally likely.
    lower_tail(b + c, c).0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(found: f64, expected: f64, relative: f64) {
        assert!((found / expected - 1.0).abs() < relative, "{found} is not {expected}");
    }

    #[test]
    fn known_answers() {
        close(two_sided(6, 16), 0.052_478_790_283, 1e-9);
        close(mid_p(6, 16), 0.034_689_664_841, 1e-9);
        close(two_sided(121, 59), 4.434_449_26e-6, 1e-8);
        close(mid_p(121, 59), 3.266_646_80e-6, 1e-8);
        assert_eq!(two_sided(5, 5), 1.0);
        close(mid_p(5, 5), 0.876_953_125, 1e-12);
        assert_eq!((two_sided(0, 0), mid_p(0, 0), one_sided(0, 0)), (1.0, 1.0, 1.0));
        close(two_sided(10, 0), 0.001_953_125, 1e-12);
        close(one_sided(10, 0), 0.000_976_562_5, 1e-12);
    }

    #[test]
    fn many_pairs_do_not_underflow_early() {
        let p = one_sided(700, 300);
        assert!(p > 1e-40 && p < 1e-30, "{p}");
        assert!((two_sided(50_000, 50_000) - 1.0).abs() < 1e-9);
    }

    /// Every way in which the discordant pairs can fall, one by one.
    fn by_enumeration(b: u64, c: u64) -> (f64, f64) {
        let n = b + c;
        let (mut as_far, mut at_least) = (0u64, 0u64);
        for ways in 0..1u64 << n {
            let worse = u64::from(ways.count_ones());
            as_far += u64::from(worse.abs_diff(n - worse) >= b.abs_diff(c));
            at_least += u64::from(worse >= b);
        }
        let all = (1u64 << n) as f64;
        (as_far as f64 / all, at_least as f64 / all)
    }

    #[test]
    fn small_tables_agree_with_enumeration() {
        for b in 0..8 {
            for c in 0..7 {
                let (two, one) = by_enumeration(b, c);
                close(two_sided(b, c), two, 1e-11);
                close(one_sided(b, c), one, 1e-11);
            }
        }
    }

    proptest! {
        #[test]
        fn sides_belong_together(b in 0u64..400, c in 0u64..400) {
            let point = one_sided(b, c) + one_sided(c, b) - 1.0;
            prop_assert!(point > -1e-9 && mid_p(b, c) <= two_sided(b, c) + 1e-12);
            prop_assert!((two_sided(b, c) - two_sided(c, b)).abs() < 1e-15);
        }
    }
}
