//! Reading values that may be structured or JSON text, without trusting their form.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value as Json};

use crate::model::{Key, Value};

/// A value as JSON. Text is read as JSON if it is a list or an object, for that is how spans carry structure.
pub(super) fn structured(value: &Value) -> Json {
    match value {
        Value::Str(text) => parsed(text).unwrap_or_else(|| Json::String(text.to_string())),
        other => json(other),
    }
}

/// The list or object that a text spells, if it is one.
pub(super) fn parsed(text: &str) -> Option<Json> {
    // serde_json refuses what is nested more than 128 deep, so nobody's stack is at risk.
    text.trim_start().starts_with(['[', '{']).then(|| serde_json::from_str(text).ok()).flatten()
}

/// A value as JSON, to the letter.
pub(super) fn json(value: &Value) -> Json {
    match value {
        Value::Empty => Json::Null,
        Value::Str(text) => Json::String(text.to_string()),
        Value::Bool(x) => Json::Bool(*x),
        Value::Int(x) => Json::Number((*x).into()),
        Value::Double(x) => Number::from_f64(*x).map_or_else(|| Json::String(x.to_string()), Json::Number),
        Value::Bytes(bytes) => Json::String(STANDARD.encode(bytes)),
        Value::Array(values) => Json::Array(values.iter().map(json).collect()),
        Value::Map(pairs) => Json::Object(object(pairs)),
    }
}

/// Attributes as a JSON object.
pub(super) fn object(pairs: &[(Key, Value)]) -> Map<String, Json> {
    pairs.iter().map(|(key, value)| (key.to_string(), json(value))).collect()
}

/// Text as it is, nothing as nothing, everything else as JSON.
pub(super) fn shown(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

/// A field that is text; numbers and truth values count as text, empty text as nothing.
pub(super) fn text<'a>(object: &'a Json, field: &str) -> Option<Cow<'a, str>> {
    match object.get(field)? {
        Json::String(text) if !text.is_empty() => Some(Cow::Borrowed(text)),
        Json::Number(x) => Some(Cow::Owned(x.to_string())),
        Json::Bool(x) => Some(Cow::Owned(x.to_string())),
        _ => None,
    }
}

/// The first of these fields that is text.
pub(super) fn first_text(object: &Json, fields: &[&str]) -> Option<String> {
    fields.iter().find_map(|field| text(object, field)).map(Cow::into_owned)
}

/// The first of these fields that is there and not null.
pub(super) fn first<'a>(object: &'a Json, fields: &[&str]) -> Option<&'a Json> {
    fields.iter().find_map(|field| object.get(*field)).filter(|value| !value.is_null())
}
