//! Whether labels moved between two runs: tests of the transition matrix, base's label by head's label.

use statrs::function::gamma::gamma_ur;

/// A χ² test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChiSquared {
    /// The statistic.
    pub statistic: f64,
    /// Degrees of freedom; with none the p-value is 1.
    pub degrees: u32,
    /// The p-value.
    pub p_value: f64,
}

impl ChiSquared {
    fn new(statistic: f64, degrees: u32) -> Self {
        let p_value =
            if degrees == 0 || statistic <= 0.0 { 1.0 } else { gamma_ur(f64::from(degrees) / 2.0, statistic / 2.0) };
        Self { statistic, degrees, p_value }
    }
}

/// Bowker's test that every transition is as frequent as its reverse (Bowker 1948, A test for symmetry in contingency
/// tables). Pairs of labels between which nothing moved do not count as degrees of freedom.
pub fn bowker<const K: usize>(matrix: &[[u64; K]; K]) -> ChiSquared {
    let (mut statistic, mut degrees) = (0.0, 0);
    for (i, row) in matrix.iter().enumerate() {
        for (j, &there) in row.iter().enumerate().take(i) {
            let (there, back) = (there as f64, matrix[j][i] as f64);
            if there + back > 0.0 {
                statistic += (there - back).powi(2) / (there + back);
                degrees += 1;
            }
        }
    }
    ChiSquared::new(statistic, degrees)
}

/// The Stuart–Maxwell test that each label is as frequent before as after (Stuart 1955, A test for homogeneity of the
/// marginal distributions in a two-way classification; Maxwell 1970, Comparing the classification of subjects by two
/// independent judges). Degrees of freedom are the rank of the covariance: labels that nothing moved to or from drop out.
pub fn stuart_maxwell<const K: usize>(matrix: &[[u64; K]; K]) -> ChiSquared {
    let at = |i: usize, j: usize| matrix[i][j] as f64;
    let mut covariance = vec![vec![0.0; K]; K];
    let mut difference = [0.0; K];
    for i in 0..K {
        for j in 0..K {
            if i != j {
                let moved = at(i, j) + at(j, i);
                covariance[i][j] = -moved;
                covariance[i][i] += moved;
                difference[i] += at(i, j) - at(j, i);
            }
        }
    }
    let (statistic, rank) = quadratic_form(covariance, &mut difference.to_vec());
    ChiSquared::new(statistic, rank)
}

/// `dᵀ S⁻ d` and the rank of `S`, positive semidefinite, by symmetric elimination with the largest pivot first.
fn quadratic_form(mut s: Vec<Vec<f64>>, d: &mut [f64]) -> (f64, u32) {
    let (mut form, mut rank) = (0.0, 0);
    let mut left: Vec<usize> = (0..d.len()).collect();
    let largest = (0..d.len()).map(|i| s[i][i]).fold(0.0, f64::max);
    while let Some((place, pivot)) =
        left.iter().copied().enumerate().max_by(|(_, i), (_, j)| s[*i][*i].total_cmp(&s[*j][*j]))
    {
        let value = s[pivot][pivot];
        if value <= 1e-9 * largest {
            break;
        }
        left.remove(place);
        form += d[pivot] * d[pivot] / value;
        rank += 1;
        for &i in &left {
            let factor = s[i][pivot] / value;
            d[i] -= factor * d[pivot];
            for &j in &left {
                s[i][j] -= factor * s[pivot][j];
            }
        }
    }
    (form, rank)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(found: ChiSquared, statistic: f64, degrees: u32, p: f64) {
        assert!((found.statistic - statistic).abs() < 1e-9 && (found.p_value - p).abs() < 1e-10, "{found:?}");
        assert_eq!(found.degrees, degrees);
    }

    #[test]
    fn known_answers() {
        let matrix = [[20, 10, 5], [3, 30, 15], [0, 5, 40]];
        close(bowker(&matrix), 13.769_230_769_230_769, 3, 0.003_236_706_5);
        close(stuart_maxwell(&matrix), 13.764_705_882_352_94, 2, 0.001_025_727_7);
    }

    #[test]
    fn without_transitions_nothing_moved() {
        let same = [[5, 0, 0], [0, 6, 0], [0, 0, 7]];
        assert_eq!((bowker(&same).p_value, bowker(&same).degrees), (1.0, 0));
        assert_eq!((stuart_maxwell(&same).p_value, stuart_maxwell(&same).degrees), (1.0, 0));
    }

    proptest! {
        /// Between two labels both are McNemar's test without a correction, whatever unused labels stand beside them.
        #[test]
        fn two_labels_are_mcnemars_test(b in 0u64..50, c in 0u64..50, same in 0u64..50) {
            prop_assume!(b + c > 0);
            let matrix = [[same, b, 0], [c, 7, 0], [0, 0, 3]];
            let expected = (b as f64 - c as f64).powi(2) / (b + c) as f64;
            for found in [bowker(&matrix), stuart_maxwell(&matrix)] {
                prop_assert!((found.statistic - expected).abs() < 1e-9 && found.degrees == 1);
            }
        }

        /// The textbook's closed form for three labels (Fleiss 1981, Statistical Methods for Rates and Proportions).
        #[test]
        fn three_labels_follow_the_closed_form(cells in prop::array::uniform6(1u64..40)) {
            let [a, b, c, d, e, f] = cells;
            let matrix = [[9, a, b], [c, 9, d], [e, f, 9]];
            let mean = |x: u64, y: u64| (x + y) as f64 / 2.0;
            let (n12, n13, n23) = (mean(a, c), mean(b, e), mean(d, f));
            let d1 = (a + b) as f64 - (c + e) as f64;
            let d2 = (c + d) as f64 - (a + f) as f64;
            let d3 = (e + f) as f64 - (b + d) as f64;
            let expected = (n23 * d1 * d1 + n13 * d2 * d2 + n12 * d3 * d3) / (2.0 * (n12 * n23 + n12 * n13 + n13 * n23));
            let found = stuart_maxwell(&matrix);
            prop_assert!((found.statistic - expected).abs() < 1e-8 * expected.max(1.0), "{:?} {}", found, expected);
        }
    }
}
