//! Whether a slice of the cases fails more often than the rest: the one-sided hypergeometric (Fisher's exact) test.

use statrs::function::gamma::ln_gamma;

/// The probability of `hits` or more among `drawn`, where `marked` of `population` are marked (Fisher 1935, The Design of
/// Experiments). Counts that cannot be give the nearest that can.
pub fn at_least(hits: u64, drawn: u64, marked: u64, population: u64) -> f64 {
    let most = drawn.min(marked);
    let least = (drawn + marked).saturating_sub(population);
    if hits <= least {
        return 1.0;
    }
    if hits > most {
        return 0.0;
    }
    let ln_choose = |n: u64, k: u64| {
        let (n, k) = (n as f64, k as f64);
        ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0)
    };
    let point = |k: u64| {
        (ln_choose(marked, k) + ln_choose(population - marked, drawn - k) - ln_choose(population, drawn)).exp()
    };
    // From one point outwards, each term in proportion to the one before; the shorter way round loses no digits.
    let ratio = |k: u64| {
        let (above, below) = ((marked - k) as f64 * (drawn - k) as f64, (k + 1) as f64);
        above / (below * (population + k + 1 - marked - drawn) as f64)
    };
    let mean = drawn as f64 * marked as f64 / population as f64;
    if hits as f64 > mean {
        let (mut sum, mut term) = (1.0, 1.0);
        for k in hits..most {
            term *= ratio(k);
            sum += term;
            if term < 1e-18 * sum {
                break;
            }
        }
        return point(hits) * sum;
    }
    let (mut sum, mut term) = (1.0, 1.0);
    for k in (least..hits - 1).rev() {
        term /= ratio(k);
        sum += term;
        if term < 1e-18 * sum {
            break;
        }
    }
    (1.0 - point(hits - 1) * sum).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_slice_of_the_specification_gives_its_known_answer() {
        let found = at_least(30, 100, 150, 1000);
        assert!((found / 3.923_910_15e-5 - 1.0).abs() < 1e-8, "{found}");
    }

    proptest! {
        #[test]
        fn small_urns_agree_with_enumeration(population in 1u64..14, marked in 0u64..14, drawn in 0u64..14, hits in 0u64..15) {
            prop_assume!(marked <= population && drawn <= population);
            let marks = (1u64 << marked) - 1;
            let (mut all, mut as_many) = (0u64, 0u64);
            for set in (0..1u64 << population).filter(|set| u64::from(set.count_ones()) == drawn) {
                all += 1;
                as_many += u64::from(u64::from((set & marks).count_ones()) >= hits);
            }
            let found = at_least(hits, drawn, marked, population);
            prop_assert!((found - as_many as f64 / all as f64).abs() < 1e-10, "{}", found);
        }
    }
}
