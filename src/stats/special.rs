//! Quantiles and distribution functions of the normal and the t distribution, from statrs.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// The 97.5 % quantile of the standard normal distribution.
pub const Z95: f64 = 1.959_963_984_540_054;

fn standard() -> Normal {
    Normal::new(0.0, 1.0).expect("a positive deviation is valid")
}

/// The standard normal distribution function.
pub fn normal_cdf(x: f64) -> f64 {
    standard().cdf(x)
}

/// The standard normal quantile of `p` in (0, 1).
pub fn normal_quantile(p: f64) -> f64 {
    standard().inverse_cdf(p)
}

/// The 97.5 % quantile of the t distribution; the normal one for a million degrees of freedom and more, where they
/// agree to six digits.
pub fn t95(degrees: u64) -> f64 {
    if degrees >= 1_000_000 {
        return Z95;
    }
    let t = StudentsT::new(0.0, 1.0, degrees.max(1) as f64).expect("positive degrees of freedom are valid");
    // The library's own inverse stops a few digits short; Newton's steps on its distribution function close the gap.
    let mut x = t.inverse_cdf(0.975);
    for _ in 0..3 {
        use statrs::distribution::Continuous;
        x -= (t.cdf(x) - 0.975) / t.pdf(x);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_agree_with_printed_tables() {
        assert!((normal_quantile(0.975) - Z95).abs() < 1e-9);
        assert!((normal_cdf(Z95) - 0.975).abs() < 1e-9);
        for (degrees, expected) in [
            (1, 12.706_204_736_432_095),
            (3, 3.182_446_305_284_263),
            (19, 2.093_024_054_408_263),
            (100, 1.983_971_518_449_633),
        ] {
            assert!((t95(degrees) - expected).abs() < 1e-8, "{degrees}: {}", t95(degrees));
        }
        assert!((t95(999_999) - Z95).abs() < 1e-5);
    }
}
