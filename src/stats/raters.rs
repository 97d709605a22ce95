//! Agreement of raters beyond chance, where some units lack some ratings: Krippendorff's α.
//!
//! Cohen's κ of two raters is in [`super::agreement`].

/// How far two ratings are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// Equal or not: labels.
    Nominal,
    /// The squared difference: numbers.
    Interval,
}

impl Distance {
    fn between(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Nominal => f64::from(u8::from(a != b)),
            Self::Interval => (a - b).powi(2),
        }
    }
}

/// Krippendorff's α, `1 − observed / expected disagreement` (Krippendorff 2011, Computing Krippendorff's alpha-reliability),
/// of units with one rating a rater; units with fewer than two ratings say nothing. Labels are given as their numbers.
/// `None` without two ratings of one unit, and where all ratings are equal, for then agreement could not have failed.
pub fn krippendorff(units: &[Vec<Option<f64>>], distance: Distance) -> Option<f64> {
    let rated: Vec<Vec<f64>> = units.iter().map(|unit| unit.iter().copied().flatten().collect()).collect();
    let pairable: Vec<&Vec<f64>> = rated.iter().filter(|unit| unit.len() > 1).collect();
    let observed: f64 = pairable.iter().map(|unit| disagreement(unit, distance) / (unit.len() as f64 - 1.0)).sum();
    let all: Vec<f64> = pairable.iter().flat_map(|unit| unit.iter().copied()).collect();
    let n = all.len() as f64;
    let expected = disagreement(&all, distance) / (n - 1.0);
    (n > 1.0 && expected > 0.0).then(|| 1.0 - observed / expected)
}

/// The sum of the distances over ordered pairs, by way of the distinct values.
fn disagreement(values: &[f64], distance: Distance) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let counts: Vec<(f64, f64)> = sorted.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as f64)).collect();
    let of = |&(a, times): &(f64, f64)| -> f64 {
        times * counts.iter().map(|&(b, count)| count * distance.between(a, b)).sum::<f64>()
    };
    counts.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Krippendorff 2011: four observers, twelve units.
    fn example() -> Vec<Vec<Option<f64>>> {
        let observers = [
            "1 2 3 3 2 1 4 1 2 . . .",
            "1 2 3 3 2 2 4 1 2 5 . 3",
            ". 3 3 3 2 3 4 2 2 5 1 .",
            "1 2 3 3 2 4 4 1 2 5 1 .",
        ];
        let rows = observers.map(|row| row.split(' ').map(|x| x.parse().ok()).collect::<Vec<Option<f64>>>());
        (0..12).map(|unit| rows.iter().map(|row| row[unit]).collect()).collect()
    }

    #[test]
    fn the_example_gives_its_known_answers() {
        let nominal = krippendorff(&example(), Distance::Nominal).expect("defined");
        let interval = krippendorff(&example(), Distance::Interval).expect("defined");
        assert!((nominal - 0.743).abs() < 5e-4, "{nominal}");
        assert!((interval - 0.849).abs() < 5e-4, "{interval}");
    }

    #[test]
    fn what_cannot_be_said_is_none() {
        let unit = |ratings: &[f64]| ratings.iter().map(|x| Some(*x)).collect::<Vec<_>>();
        assert_eq!(krippendorff(&[], Distance::Nominal), None);
        assert_eq!(krippendorff(&[unit(&[1.0]), unit(&[2.0])], Distance::Nominal), None);
        assert_eq!(krippendorff(&[unit(&[1.0, 1.0]), unit(&[1.0, 1.0])], Distance::Nominal), None);
        assert_eq!(krippendorff(&[unit(&[1.0, 1.0]), unit(&[2.0, 2.0])], Distance::Nominal), Some(1.0));
    }
}
