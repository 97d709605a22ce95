//! Properties of a row as attributes: texts, but for the names whose type the conventions fix.
//!
//! The tables keep texts only. A text that looks like a number may be an id, so nothing is guessed: what has no fixed type stays a
//! text. Numbers and truth values that another exporter left as such in the JSON stay what they are.

use serde_json::{Map, Value as Json};

use crate::model::{Key, Value};
use crate::trace::semconv as sc;

/// What an attribute of a fixed type holds.
enum Kind {
    Int,
    Double,
    Bool,
    List,
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        sc::OPERATION_CLAIMS_COUNT
        | sc::GEN_AI_REQUEST_MAX_TOKENS
        | sc::GEN_AI_REQUEST_SEED
        | sc::GEN_AI_REQUEST_CHOICE_COUNT
        | sc::GEN_AI_USAGE_INPUT_TOKENS
        | sc::GEN_AI_USAGE_OUTPUT_TOKENS
        | sc::GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS
        | sc::GEN_AI_USAGE_REASONING_OUTPUT_TOKENS
        | sc::LLM_TOKEN_COUNT_PROMPT
        | sc::LLM_TOKEN_COUNT_COMPLETION
        | sc::SERVER_PORT
        | sc::HTTP_RESPONSE_STATUS_CODE
        | sc::SPANSCORE_TRIAL_REPEAT
        | sc::SPANSCORE_TRIAL_ATTEMPTS
        | sc::SPANSCORE_ATTEMPT_NUMBER => Kind::Int,
        sc::GEN_AI_REQUEST_TEMPERATURE
        | sc::GEN_AI_REQUEST_TOP_P
        | sc::GEN_AI_REQUEST_FREQUENCY_PENALTY
        | sc::GEN_AI_REQUEST_PRESENCE_PENALTY
        | sc::GEN_AI_EVALUATION_SCORE_VALUE
        | sc::SPANSCORE_EVALUATION_THRESHOLD
        | sc::SPANSCORE_ATTEMPT_WAIT => Kind::Double,
        sc::SPANSCORE_CACHED => Kind::Bool,
        sc::GEN_AI_RESPONSE_FINISH_REASONS | sc::GEN_AI_REQUEST_STOP_SEQUENCES => Kind::List,
        _ if name.starts_with(sc::SPANSCORE_SCORE_PREFIX) => Kind::Double,
        _ if name.starts_with(sc::EVALUATIONS_PREFIX) && name.ends_with(".evaluation.score") => Kind::Double,
        _ => return None,
    })
}

/// The properties as attributes. `own` says which of them are none, but of the exporter's making.
pub(super) fn attributes(properties: Map<String, Json>, own: impl Fn(&str) -> bool) -> Vec<(Key, Value)> {
    let kept = properties.into_iter().filter(|(name, _)| !own(name));
    kept.map(|(name, value)| {
        let value = attribute(&name, value);
        (Key::from(name), value)
    })
    .collect()
}

fn attribute(name: &str, value: Json) -> Value {
    let Json::String(text) = value else { return plain(value) };
    let read = match kind(name) {
        Some(Kind::Int) => text.parse().ok().map(Value::Int),
        // A verdict that is true or false is a score of 1 or 0, as elsewhere.
        Some(Kind::Double) => {
            text.trim().parse().ok().or_else(|| truth(&text).map(|truth| f64::from(u8::from(truth)))).map(Value::Double)
        }
        Some(Kind::Bool) => truth(&text).map(Value::Bool),
        Some(Kind::List) => list(&text),
        None => None,
    };
    read.unwrap_or_else(|| Value::from(text))
}

/// A truth value, as JSON or as Python writes one.
fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A list, as JSON or as Python's exporter writes one: `('stop',)`.
fn list(text: &str) -> Option<Value> {
    if let Ok(Json::Array(values)) = serde_json::from_str(text) {
        return Some(plain(Json::Array(values)));
    }
    let inside = text.strip_prefix('(')?.strip_suffix(')')?.trim_end_matches(',');
    let item = |part: &str| Some(Value::from(part.trim().strip_prefix('\'')?.strip_suffix('\'')?.to_owned()));
    // Items with quotes or commas in them are better left as they came.
    inside.split(',').map(item).collect::<Option<Vec<_>>>().map(Value::Array)
}

/// JSON as a value.
pub(super) fn plain(value: Json) -> Value {
    match value {
        Json::Null => Value::Empty,
        Json::Bool(x) => Value::Bool(x),
        Json::Number(n) => match n.as_i64() {
            Some(n) => Value::Int(n),
            None => n.as_f64().map_or(Value::Empty, Value::Double),
        },
        Json::String(text) => Value::from(text),
        Json::Array(values) => Value::Array(values.into_iter().map(plain).collect()),
        Json::Object(map) => Value::Map(map.into_iter().map(|(key, value)| (Key::from(key), plain(value))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_with_a_fixed_type_get_it_and_others_stay_texts() {
        let check = |name: &str, value: Json, expected: Value| assert_eq!(attribute(name, value), expected, "{name}");
        check(sc::GEN_AI_USAGE_INPUT_TOKENS, json!("14"), Value::Int(14));
        check(sc::GEN_AI_USAGE_INPUT_TOKENS, json!("many"), Value::from("many"));
        check(&sc::score_key("label_match"), json!("1.0"), Value::Double(1.0));
        check(sc::SPANSCORE_CACHED, json!("True"), Value::Bool(true));
        check(sc::GEN_AI_EVALUATION_SCORE_VALUE, json!("True"), Value::Double(1.0));
        check(sc::GEN_AI_EVALUATION_SCORE_VALUE, json!("n/a"), Value::from("n/a"));
        check(sc::TEST_CASE_NAME, json!("0014"), Value::from("0014"));
        check("my.count", json!(14), Value::Int(14));
        let stop = Value::Array(vec![Value::from("stop")]);
        check(sc::GEN_AI_RESPONSE_FINISH_REASONS, json!("[\"stop\"]"), stop.clone());
        check(sc::GEN_AI_RESPONSE_FINISH_REASONS, json!("('stop',)"), stop);
        check(sc::GEN_AI_RESPONSE_FINISH_REASONS, json!("('a, b',)"), Value::from("('a, b',)"));
        check(
            "x",
            json!({"a": [1.5, null]}),
            Value::Map(vec![("a".into(), Value::Array(vec![1.5.into(), Value::Empty]))]),
        );
    }
}
