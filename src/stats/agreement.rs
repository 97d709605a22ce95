//! What is computed from a matrix of expected (rows) by predicted (columns) counts: macro-F1, MCC, Cohen's κ.
//!
//! Rows and columns share their first classes, so cell `[i][i]` is an agreement; further columns, such as
//! `unparseable`, are answers that are never right. Everything undefined is `None`.

/// Share of agreements; `None` for an empty matrix.
pub fn accuracy<const E: usize, const P: usize>(matrix: &[[f64; P]; E]) -> Option<f64> {
    let margins = Margins::of(matrix);
    (margins.total > 0.0).then(|| margins.agreements / margins.total)
}

/// F1 of one class, `2TP / (2TP + FP + FN)`; `None` without support, that is where nothing was expected to be it.
pub fn f1<const E: usize, const P: usize>(matrix: &[[f64; P]; E], class: usize) -> Option<f64> {
    let expected: f64 = matrix[class].iter().sum();
    let predicted: f64 = matrix.iter().map(|row| row[class]).sum();
    (expected > 0.0).then(|| 2.0 * matrix[class][class] / (expected + predicted))
}

/// Mean of the classes' F1 over the expected labels with support.
pub fn macro_f1<const E: usize, const P: usize>(matrix: &[[f64; P]; E]) -> Option<f64> {
    let (sum, classes) = (0..E).filter_map(|class| f1(matrix, class)).fold((0.0, 0.0), |(s, n), x| (s + x, n + 1.0));
    (classes > 0.0).then(|| sum / classes)
}

/// The multi-class correlation coefficient R_K (Gorodkin 2004, Comparing two K-category assignments by a K-category
/// correlation coefficient); `None` where all expected or all predicted labels are one class.
pub fn mcc<const E: usize, const P: usize>(matrix: &[[f64; P]; E]) -> Option<f64> {
    let Margins { total, agreements, expected, predicted } = Margins::of(matrix);
    let both: f64 = expected.iter().zip(&predicted).map(|(e, p)| e * p).sum();
    let spread = (total * total - predicted.iter().map(|x| x * x).sum::<f64>())
        * (total * total - expected.iter().map(|x| x * x).sum::<f64>());
    (spread > 0.0).then(|| ((agreements * total - both) / spread.sqrt()).clamp(-1.0, 1.0))
}

/// Cohen's κ (Cohen 1960, A coefficient of agreement for nominal scales); `None` where chance alone would agree always.
pub fn kappa<const E: usize, const P: usize>(matrix: &[[f64; P]; E]) -> Option<f64> {
    let Margins { total, agreements, expected, predicted } = Margins::of(matrix);
    let by_chance = expected.iter().zip(&predicted).map(|(e, p)| e * p).sum::<f64>() / (total * total);
    let left = 1.0 - by_chance;
    (total > 0.0 && left > 1e-15).then(|| ((agreements / total - by_chance) / left).clamp(-1.0, 1.0))
}

/// The large-sample standard error of κ (Fleiss, Cohen & Everitt 1969, Large sample standard errors of kappa and weighted
/// kappa); `None` where κ is.
pub fn kappa_standard_error<const K: usize>(matrix: &[[f64; K]; K]) -> Option<f64> {
    let Margins { total, agreements, expected, predicted } = Margins::of(matrix);
    kappa(matrix)?;
    let observed = agreements / total;
    let by_chance = expected.iter().zip(&predicted).map(|(e, p)| e * p).sum::<f64>() / (total * total);
    let mut variance = -(observed * by_chance - 2.0 * by_chance + observed).powi(2);
    for (i, row) in matrix.iter().enumerate() {
        for (j, count) in row.iter().enumerate() {
            let margins = (predicted[i] + expected[j]) / total;
            let weight = if i == j { 1.0 - by_chance - margins * (1.0 - observed) } else { margins * (1.0 - observed) };
            variance += count / total * weight * weight;
        }
    }
    Some((variance.max(0.0) / total).sqrt() / (1.0 - by_chance).powi(2))
}

struct Margins<const E: usize, const P: usize> {
    total: f64,
    agreements: f64,
    expected: [f64; E],
    predicted: [f64; P],
}

impl<const E: usize, const P: usize> Margins<E, P> {
    fn of(matrix: &[[f64; P]; E]) -> Self {
        let mut margins = Self { total: 0.0, agreements: 0.0, expected: [0.0; E], predicted: [0.0; P] };
        for (i, row) in matrix.iter().enumerate() {
            for (j, count) in row.iter().enumerate() {
                margins.total += count;
                margins.expected[i] += count;
                margins.predicted[j] += count;
            }
            margins.agreements += row[i];
        }
        margins
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(found: Option<f64>, expected: f64) {
        let found = found.expect("defined");
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn known_answers() {
        let matrix = [[50.0, 5.0, 10.0], [4.0, 30.0, 6.0], [12.0, 8.0, 25.0]];
        close(accuracy(&matrix), 0.7);
        close(macro_f1(&matrix), 0.689_215_232_1);
        close(mcc(&matrix), 0.539_571_212_0);
        close(kappa(&matrix), 0.539_091_840_2);
        let raters = [[20.0, 5.0], [10.0, 15.0]];
        close(kappa(&raters), 0.4);
        close(kappa_standard_error(&raters), 0.126_996_062_9);
    }

    #[test]
    fn what_cannot_be_said_is_none() {
        let empty = [[0.0; 4]; 3];
        assert_eq!((accuracy(&empty), macro_f1(&empty), mcc(&empty), kappa(&empty)), (None, None, None, None));
        let one_class = [[3.0, 0.0, 0.0, 0.0], [0.0; 4], [0.0; 4]];
        assert_eq!((mcc(&one_class), kappa(&one_class), f1(&one_class, 1)), (None, None, None));
        assert_eq!(macro_f1(&one_class), Some(1.0));
    }

    #[test]
    fn an_unparseable_answer_is_wrong_and_nothing_else() {
        let matrix = [[1.0, 0.0, 0.0, 1.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]];
        close(accuracy(&matrix), 0.75);
        close(f1(&matrix, 0), 2.0 / 3.0);
        close(macro_f1(&matrix), 5.0 / 6.0);
    }

    /// MCC by its definition as a correlation of indicator vectors, observation by observation.
    fn mcc_by_definition(matrix: &[[f64; 4]; 3]) -> f64 {
        let mut pairs = Vec::new();
        for (i, row) in matrix.iter().enumerate() {
            for (j, &count) in row.iter().enumerate() {
                pairs.extend((0..count as usize).map(|_| (i, j)));
            }
        }
        let n = pairs.len() as f64;
        let share = |of: &dyn Fn(&(usize, usize)) -> bool| pairs.iter().filter(|pair| of(pair)).count() as f64 / n;
        let (mut both, mut expected, mut predicted) = (0.0, 0.0, 0.0);
        for k in 0..4 {
            let (e, p) = (share(&|pair| pair.0 == k), share(&|pair| pair.1 == k));
            both += share(&|pair| pair.0 == k && pair.1 == k) - e * p;
            expected += e - e * e;
            predicted += p - p * p;
        }
        both / (expected * predicted).sqrt()
    }

    proptest! {
        #[test]
        fn coefficients_stay_in_range_and_agree_with_their_definition(cells in prop::array::uniform12(0u8..9)) {
            let matrix: [[f64; 4]; 3] = std::array::from_fn(|i| std::array::from_fn(|j| f64::from(cells[i * 4 + j])));
            for x in [mcc(&matrix), kappa(&matrix)].into_iter().flatten() {
                prop_assert!((-1.0..=1.0).contains(&x));
            }
            for x in [macro_f1(&matrix), accuracy(&matrix)].into_iter().flatten() {
                prop_assert!((0.0..=1.0).contains(&x));
            }
            if let Some(x) = mcc(&matrix) {
                prop_assert!((x - mcc_by_definition(&matrix)).abs() < 1e-9);
            }
        }
    }
}
