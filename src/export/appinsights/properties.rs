//! Attributes as Application Insights keeps them: texts of bounded length, and numbers apart.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::model::{Key, Value};
use crate::trace::semconv::{self as sc, azure};

/// Longest key, in characters.
pub(super) const KEY: usize = 150;
/// Longest value, in characters.
const VALUE: usize = 8_192;
/// Longest value of what people read, in characters.
const CONTENT: usize = 256 << 10;

/// The attributes that may be long.
const LONG: [&str; 4] = [
    sc::GEN_AI_INPUT_MESSAGES,
    sc::GEN_AI_OUTPUT_MESSAGES,
    sc::GEN_AI_SYSTEM_INSTRUCTIONS,
    sc::GEN_AI_EVALUATION_EXPLANATION,
];

/// Texts by name, as `properties` holds them.
pub(super) type Properties = BTreeMap<String, String>;

/// Finite numbers by name, as `measurements` holds them.
pub(super) type Measurements = BTreeMap<String, f64>;

/// Attributes as properties: whatever they are becomes text. Of two of one name the last counts.
pub(super) fn properties(attributes: &[(Key, Value)]) -> Properties {
    let kept = attributes
        .iter()
        .filter(|(key, value)| !key.is_empty() && key != azure::CUSTOM_MEASUREMENTS && *value != Value::Empty);
    kept.map(|(key, value)| {
        let most = if LONG.contains(&key.as_ref()) { CONTENT } else { VALUE };
        (cut(key, KEY), cut(&text(value), most))
    })
    .collect()
}

/// The measurements among attributes: those that an application names, and its scores by evaluator.
pub(super) fn measurements(attributes: &[(Key, Value)]) -> Measurements {
    let named = attributes.iter().filter(|(key, _)| key == azure::CUSTOM_MEASUREMENTS);
    let mut measurements: Measurements = named.flat_map(|(_, value)| custom(value)).collect();
    measurements.extend(scores(attributes));
    measurements
}

/// Finite numbers by name, from a map or from JSON.
fn custom(value: &Value) -> Vec<(String, f64)> {
    match value {
        Value::Map(pairs) => pairs.iter().filter_map(|(key, value)| Some((cut(key, KEY), number(value)?))).collect(),
        Value::Str(text) => {
            let map: BTreeMap<String, serde_json::Value> = serde_json::from_str(text).unwrap_or_default();
            map.into_iter().filter_map(|(key, value)| Some((cut(&key, KEY), value.as_f64()?))).collect()
        }
        _ => Vec::new(),
    }
}

/// The scores among the attributes of a span, by evaluator.
fn scores(attributes: &[(Key, Value)]) -> Measurements {
    let of_span =
        attributes.iter().filter_map(|(key, value)| Some((key.strip_prefix(sc::SPANSCORE_SCORE_PREFIX)?, value)));
    of_span.filter_map(|(evaluator, value)| Some((cut(evaluator, KEY), number(value)?))).collect()
}

/// A finite number.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Double(x) => Some(*x).filter(|x| x.is_finite()),
        Value::Int(x) => Some(*x as f64),
        Value::Bool(x) => Some(f64::from(u8::from(*x))),
        _ => None,
    }
}

/// A value as text: lists and maps as JSON, bytes as base64.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Empty => String::new(),
        Value::Str(text) => text.clone().into_owned(),
        Value::Bool(x) => x.to_string(),
        Value::Int(x) => x.to_string(),
        // With its point, so that a reader of the table sees a double: `1.0`.
        Value::Double(x) => format!("{x:?}"),
        Value::Bytes(bytes) => STANDARD.encode(bytes),
        list => as_json(list).to_string(),
    }
}

fn as_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Empty => serde_json::Value::Null,
        Value::Bool(x) => json!(x),
        Value::Int(x) => json!(x),
        // JSON has no word for NaN and the infinities.
        Value::Double(x) if !x.is_finite() => json!(format!("{x:?}")),
        Value::Double(x) => json!(x),
        Value::Str(text) => json!(text),
        Value::Bytes(bytes) => json!(STANDARD.encode(bytes)),
        Value::Array(values) => values.iter().map(as_json).collect(),
        Value::Map(pairs) => {
            serde_json::Value::Object(pairs.iter().map(|(key, value)| (key.to_string(), as_json(value))).collect())
        }
    }
}

/// A text cut to so many characters, as .NET counts them: in UTF-16 code units, without breaking a pair.
pub(super) fn cut(text: &str, most: usize) -> String {
    // No text is longer in UTF-16 than in UTF-8.
    if text.len() <= most {
        return text.to_owned();
    }
    let mut units = 0;
    text.chars()
        .take_while(|c| {
            units += c.len_utf16();
            units <= most
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_texts() {
        let check = |value: Value, expected: &str| assert_eq!(text(&value), expected);
        check(Value::from("a"), "a");
        check(Value::from(true), "true");
        check(Value::from(14), "14");
        check(Value::from(1.0), "1.0");
        check(Value::from(f64::NAN), "NaN");
        check(Value::Bytes(vec![0, 255]), "AP8=");
        check(
            Value::Array(vec![Value::from("stop"), Value::from(1), Value::from(f64::INFINITY)]),
            r#"["stop",1,"inf"]"#,
        );
        check(Value::Array(Vec::new()), "[]");
        check(
            Value::Map(vec![("b".into(), Value::Empty), ("a".into(), Value::from(false))]),
            r#"{"b":null,"a":false}"#,
        );
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(cut("aé😀b", 4), "aé😀");
        assert_eq!(cut("aé😀b", 3), "aé");
        let long = |key: &'static str| properties(&[(key.into(), "x".repeat(300_000).into())])[key].len();
        assert_eq!((long("note"), long(sc::GEN_AI_INPUT_MESSAGES)), (8_192, 262_144));
        let named = properties(&[("k".repeat(200).into(), Value::from(1))]);
        assert_eq!(named.keys().next().map(String::len), Some(150));
    }

    #[test]
    fn scores_are_numbers_by_evaluator() {
        let attributes = [
            (sc::score_key("label_match").into(), Value::from(1.0)),
            (sc::score_key("odd").into(), Value::from(f64::NAN)),
            (sc::mean_key("label_match").into(), Value::from(0.5)),
            (sc::label_key("label_match").into(), Value::from("pass")),
        ];
        let expected = [("label_match".to_owned(), 1.0), ("label_match.mean".to_owned(), 0.5)];
        assert_eq!(scores(&attributes), Measurements::from(expected));
        assert_eq!(properties(&[("".into(), Value::from(1)), ("e".into(), Value::Empty)]), Properties::new());
    }
}
