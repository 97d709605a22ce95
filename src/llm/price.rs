//! What a call costs.

use serde::{Deserialize, Serialize};

use crate::model::Usage;

/// Prices of a model in US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Per million tokens of requests.
    pub input_per_million: f64,
    /// Per million tokens of answers.
    pub output_per_million: f64,
    /// Per million tokens of requests that the endpoint had cached; as `input_per_million` where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_per_million: Option<f64>,
}

/// The cost of that usage in US dollars; `None` where the price or a count of tokens is unknown.
pub fn cost(usage: &Usage, price: Option<&Price>) -> Option<f64> {
    let price = price?;
    let (input, output) = (usage.input_tokens?, usage.output_tokens?);
    let cached = usage.cached_input_tokens.unwrap_or(0).min(input);
    let cached_price = price.cached_input_per_million.unwrap_or(price.input_per_million);
    let cost = (input - cached) as f64 * price.input_per_million
        + cached as f64 * cached_price
        + output as f64 * price.output_per_million;
    Some(cost / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(usage: (Option<u64>, Option<u64>, Option<u64>), cached_price: Option<f64>, expected: Option<f64>) {
        let price = Price { input_per_million: 2.0, output_per_million: 8.0, cached_input_per_million: cached_price };
        let (input_tokens, output_tokens, cached_input_tokens) = usage;
        let usage = Usage { input_tokens, output_tokens, cached_input_tokens, reasoning_tokens: None };
        let given = cost(&usage, Some(&price));
        assert!(
            given.zip(expected).map_or(given == expected, |(a, b)| (a - b).abs() < 1e-12),
            "{given:?} {expected:?}"
        );
    }

    #[test]
    fn tokens_are_charged_by_kind() {
        check((Some(1_000_000), Some(500_000), None), None, Some(6.0));
        check((Some(1_000_000), Some(0), Some(400_000)), Some(0.5), Some(1.4));
        check((Some(1_000_000), Some(0), Some(400_000)), None, Some(2.0));
        check((Some(10), Some(0), Some(999)), Some(0.0), Some(0.0));
    }

    #[test]
    fn an_unknown_is_never_a_number() {
        check((None, Some(1), None), None, None);
        check((Some(1), None, None), None, None);
        let usage = Usage { input_tokens: Some(1), output_tokens: Some(1), ..Usage::default() };
        assert_eq!(cost(&usage, None), None);
    }
}
