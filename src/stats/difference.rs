//! The difference of two independent shares, such as a slice's against the rest's.

use super::proportion::wilson;

/// Newcombe's hybrid score interval of `x1/n1 − x2/n2` at 95 % (Newcombe 1998, Interval estimation for the difference between
/// independent proportions: comparison of eleven methods, method 10). `None` without observations on a side.
pub fn newcombe(x1: u64, n1: u64, x2: u64, n2: u64) -> Option<[f64; 2]> {
    let share = |x: u64, n: u64| wilson(x as f64, n as f64).map(|[low, high]| (x as f64 / n as f64, low, high));
    let ((p1, low1, high1), (p2, low2, high2)) = (share(x1, n1)?, share(x2, n2)?);
    let difference = p1 - p2;
    let half = |one: f64, other: f64| (one * one + other * other).sqrt();
    Some([difference - half(p1 - low1, high2 - p2), difference + half(high1 - p1, p2 - low2)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(found: Option<[f64; 2]>, expected: [f64; 2], tolerance: f64) {
        let found = found.expect("defined");
        let error = (found[0] - expected[0]).abs().max((found[1] - expected[1]).abs());
        assert!(error < tolerance, "{found:?} is not {expected:?}");
    }

    #[test]
    fn known_answers() {
        close(newcombe(56, 70, 48, 80), [0.0524, 0.3339], 5e-5);
        close(newcombe(10, 10, 0, 20), [0.6791, 1.0], 5e-5);
        close(newcombe(30, 100, 120, 900), [0.082_200_6, 0.264_715_7], 1e-6);
        assert_eq!(newcombe(1, 2, 0, 0), None);
    }

    proptest! {
        #[test]
        fn swapping_the_sides_mirrors_it(x1 in 0u64..30, n1 in 1u64..30, x2 in 0u64..30, n2 in 1u64..30) {
            prop_assume!(x1 <= n1 && x2 <= n2);
            let (one, other) = (newcombe(x1, n1, x2, n2).expect("n > 0"), newcombe(x2, n2, x1, n1).expect("n > 0"));
            prop_assert!((one[0] + other[1]).abs() < 1e-12 && (-1.0 - 1e-12..=1.0).contains(&one[0]));
        }
    }
}
