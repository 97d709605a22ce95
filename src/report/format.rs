//! Numbers, times and durations as people read them. What is unknown is shown as `–`, never as 0.

use super::style::Style;
use crate::model::TraceId;
use crate::stats::Estimate;

/// What stands for a value that is not there.
pub const ABSENT: &str = "–";

/// A time as RFC 3339 in UTC with nanoseconds.
pub fn rfc3339(unix_nano: u64) -> String {
    timestamp(unix_nano).map_or_else(|| ABSENT.to_owned(), |time| format!("{time:.9}"))
}

/// A time in UTC to the second, for people: `2026-11-22 15:45:01`.
pub fn time(unix_nano: u64) -> String {
    timestamp(unix_nano).map_or_else(|| ABSENT.to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

fn timestamp(unix_nano: u64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_nanosecond(i128::from(unix_nano)).ok()
}

/// A duration in the unit that suits it: `850 ns`, `12.3 µs`, `4.56 ms`, `7.89 s`, `3m 05s`, `2h 07m`.
pub fn duration(nanoseconds: u64) -> String {
    let ns = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..999_500 => format!("{} µs", three_digits(ns / 1e3)),
        999_500..999_500_000 => format!("{} ms", three_digits(ns / 1e6)),
        999_500_000..59_950_000_000 => format!("{} s", three_digits(ns / 1e9)),
        _ => {
            let seconds = (ns / 1e9).round() as u64;
            if seconds < 3600 {
                format!("{}m {:02}s", seconds / 60, seconds % 60)
            } else {
                format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60)
            }
        }
    }
}

fn three_digits(x: f64) -> String {
    let decimals = usize::from(x < 9.995) + usize::from(x < 99.95);
    format!("{x:.decimals$}")
}

/// Milliseconds as a duration.
pub fn milliseconds(ms: Option<f64>) -> String {
    ms.map_or_else(|| ABSENT.to_owned(), |ms| duration((ms * 1e6).max(0.0).round() as u64))
}

/// A count, from five digits on with its thousands set apart: `12 345`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut shown = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && digits.len() > 4 && (digits.len() - i).is_multiple_of(3) {
            shown.push('\u{2009}');
        }
        shown.push(digit);
    }
    shown
}

/// A trace id, cut to a prefix that commands still understand where the terminal is narrow.
pub fn trace_id(id: TraceId, style: Style) -> String {
    let mut text = id.to_string();
    if style.width < 110 {
        text.truncate(12);
    }
    text
}

/// Decimals that show two digits of a number which three would show as nothing or nearly so. What is smaller still is noise of
/// the arithmetic.
fn of_small(magnitude: f64) -> Option<usize> {
    (1e-9..9.5e-4).contains(&magnitude).then(|| 1 + (-magnitude.log10()).ceil() as usize)
}

/// Three decimals, or as many as show two digits of a smaller number.
fn three_decimals(x: f64) -> String {
    let decimals = of_small(x.abs()).unwrap_or(3);
    format!("{x:.decimals$}")
}

/// A score with as many digits as help: `1`, `0.75`, `0.8235`, `12.4`, `1234`.
pub fn score(x: f64) -> String {
    let magnitude = x.abs();
    let decimals = if let Some(decimals) = of_small(magnitude) {
        decimals
    } else if magnitude < 10.0 {
        4
    } else if magnitude < 100.0 {
        2
    } else {
        0
    };
    let shown = format!("{x:.decimals$}");
    let trimmed = if shown.contains('.') { shown.trim_end_matches('0').trim_end_matches('.') } else { &shown };
    if trimmed == "-0" { "0".to_owned() } else { trimmed.to_owned() }
}

/// A score that may be missing.
pub fn maybe_score(x: Option<f64>) -> String {
    x.map_or_else(|| ABSENT.to_owned(), score)
}

/// A statistic with three decimals, all of them shown so that columns line up; more of a small one.
pub fn statistic(x: Option<f64>) -> String {
    x.map_or_else(|| ABSENT.to_owned(), three_decimals)
}

/// An interval: `[0.612, 0.774]`.
pub fn interval(ends: Option<[f64; 2]>) -> String {
    ends.map_or_else(|| ABSENT.to_owned(), |[low, high]| format!("[{}, {}]", three_decimals(low), three_decimals(high)))
}

/// A statistic with its interval: `0.700 [0.622, 0.768]`.
pub fn estimate(estimate: &Estimate) -> String {
    match estimate.ci95 {
        Some(_) => format!("{} {}", statistic(estimate.value), interval(estimate.ci95)),
        None => statistic(estimate.value),
    }
}

/// A value in its unit (UCUM), with digits that suit it: `0.623`, `412 ms`, `$0.000250`, `187`.
pub fn in_unit(unit: &str, value: Option<f64>) -> String {
    let Some(x) = value else { return ABSENT.to_owned() };
    let minus = if x < 0.0 { "−" } else { "" };
    let shown = match unit {
        "ms" => milliseconds(Some(x.abs())),
        "s" => milliseconds(Some(x.abs() * 1e3)),
        "USD" => dollars(Some(x.abs())),
        _ if x.abs() < 10.0 => three_decimals(x.abs()),
        _ => score(x.abs()),
    };
    // What is shown as nothing has no sign.
    if shown.chars().any(|c| ('1'..='9').contains(&c)) { format!("{minus}{shown}") } else { shown }
}

/// An interval in its unit.
pub fn interval_in(unit: &str, ends: Option<[f64; 2]>) -> String {
    ends.map_or_else(
        || ABSENT.to_owned(),
        |[low, high]| format!("[{}, {}]", in_unit(unit, Some(low)), in_unit(unit, Some(high))),
    )
}

/// Dollars with enough digits for small sums.
pub fn dollars(x: Option<f64>) -> String {
    x.map_or_else(
        || ABSENT.to_owned(),
        |x| match x {
            0.0 => "$0".to_owned(),
            x if x >= 1.0 => format!("${x:.2}"),
            x if x.abs() >= 1e-4 => format!("${x:.6}"),
            x => format!("${x:.decimals$}", decimals = of_small(x.abs()).map_or(6, |decimals| decimals.max(6))),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_the_unit_that_suits_them() {
        for (ns, shown) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (12_340, "12.3 µs"),
            (999_999, "1.00 ms"),
            (4_560_000, "4.56 ms"),
            (999_600_000, "1.00 s"),
            (59_000_000_000, "59.0 s"),
            (185_000_000_000, "3m 05s"),
            (7_620_000_000_000, "2h 07m"),
        ] {
            assert_eq!(duration(ns), shown);
        }
    }

    #[test]
    fn times_are_utc_with_all_nine_digits() {
        assert_eq!(rfc3339(1_700_000_000_000_000_005), "2023-11-14T22:13:20.000000005Z");
        assert_eq!(rfc3339(1_700_000_000_000_000_000), "2023-11-14T22:13:20.000000000Z");
        assert_eq!(time(1_700_000_000_000_000_005), "2023-11-14 22:13:20");
    }

    #[test]
    fn what_is_unknown_is_not_zero() {
        assert_eq!((maybe_score(None), maybe_score(Some(0.0))), ("–".to_owned(), "0".to_owned()));
        assert_eq!((statistic(None), dollars(None), milliseconds(None)), ("–".into(), "–".into(), "–".into()));
    }

    #[test]
    fn numbers_keep_the_digits_that_help() {
        for (x, shown) in [
            (1.0, "1"),
            (0.75, "0.75"),
            (1.0 / 3.0, "0.3333"),
            (12.345, "12.35"),
            (1234.5, "1234"),
            (0.000_23, "0.00023"),
            (-0.000_01, "-0.00001"),
            (-1e-12, "0"),
            (10.0, "10"),
            (100.0, "100"),
        ] {
            assert_eq!(score(x), shown);
        }
        assert_eq!(statistic(Some(0.000_23)), "0.00023");
        assert_eq!(interval(Some([0.0, 0.000_41])), "[0.000, 0.00041]");
        for (unit, x, shown) in [
            ("USD", 0.000_23, "$0.000230"),
            ("USD", 0.0, "$0"),
            ("USD", 2.3e-7, "$0.00000023"),
            ("ms", 812.4, "812 ms"),
            ("1", 0.000_23, "0.00023"),
            ("{token}", 187.2, "187"),
        ] {
            assert_eq!(in_unit(unit, Some(x)), shown);
        }
        assert_eq!([7, 1234, 1_234_567].map(count), ["7", "1234", "1\u{2009}234\u{2009}567"]);
    }
}
