//! Attribute values as plain JSON, for people and tables; OTLP's own JSON form is [`super::otlp_json`]'s.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value as Json};

use crate::model::{Key, Value};

/// A value as JSON: bytes in base64, and numbers that JSON has not as the texts `NaN`, `Infinity` and `-Infinity`.
pub fn json(value: &Value) -> Json {
    match value {
        Value::Empty => Json::Null,
        Value::Str(text) => Json::String(text.to_string()),
        Value::Bool(x) => Json::Bool(*x),
        Value::Int(x) => Json::Number((*x).into()),
        Value::Double(x) => Number::from_f64(*x).map_or_else(|| Json::String(not_finite(*x).to_owned()), Json::Number),
        Value::Bytes(bytes) => Json::String(STANDARD.encode(bytes)),
        Value::Array(values) => Json::Array(values.iter().map(json).collect()),
        Value::Map(pairs) => Json::Object(object(pairs)),
    }
}

/// Attributes as a JSON object; of a name that stands twice the last value holds.
pub fn object(pairs: &[(Key, Value)]) -> Map<String, Json> {
    pairs.iter().map(|(key, value)| (key.to_string(), json(value))).collect()
}

fn not_finite(x: f64) -> &'static str {
    if x.is_nan() {
        "NaN"
    } else if x > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}
