//! JSON as OTLP messages, tolerant of what SDKs send: unknown fields, null for unset, 64-bit integers and doubles as
//! numbers or strings, enumerations as numbers or names, both alphabets of base64, original proto field names.
//!
//! What cannot be read is an error that names the place; nothing is guessed.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use serde_json::Value as Json;

/// Why a text is not an OTLP message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON at all.
    #[error("decoding OTLP JSON: {0}")]
    Syntax(String),
    /// JSON of the wrong shape.
    #[error("decoding OTLP JSON: `{path}` is {found}, expected {expected}")]
    Shape {
        /// Where, as `resourceSpans[0].scopeSpans[0].spans[3].traceId`.
        path: String,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
}

/// The response to a trace request in this text.
pub fn decode_trace_response(text: &[u8]) -> Result<ExportTraceServiceResponse, JsonError> {
    document(text, |o| {
        let partial_success = o.message("partialSuccess", |o| {
            Ok(ExportTracePartialSuccess {
                rejected_spans: o.int("rejectedSpans")?,
                error_message: o.text("errorMessage")?,
            })
        })?;
        Ok(ExportTraceServiceResponse { partial_success })
    })
}

/// The response to a logs request in this text.
pub fn decode_logs_response(text: &[u8]) -> Result<ExportLogsServiceResponse, JsonError> {
    document(text, |o| {
        let partial_success = o.message("partialSuccess", |o| {
            Ok(ExportLogsPartialSuccess {
                rejected_log_records: o.int("rejectedLogRecords")?,
                error_message: o.text("errorMessage")?,
            })
        })?;
        Ok(ExportLogsServiceResponse { partial_success })
    })
}

/// The message of a `google.rpc.Status` in this text, if it is one.
pub fn decode_status_message(text: &[u8]) -> Option<String> {
    document(text, |o| o.text("message")).ok().filter(|message| !message.is_empty())
}

pub(super) fn span(o: &Object<'_>) -> Result<Span, JsonError> {
    Ok(Span {
        trace_id: o.id("traceId", 16)?,
        span_id: o.id("spanId", 8)?,
        trace_state: o.text("traceState")?,
        parent_span_id: o.id("parentSpanId", 8)?,
        flags: o.int("flags")?,
        name: o.text("name")?,
        kind: o.enumeration("kind", |name| SpanKind::from_str_name(name).map(i32::from))?,
        start_time_unix_nano: o.int("startTimeUnixNano")?,
        end_time_unix_nano: o.int("endTimeUnixNano")?,
        attributes: o.messages("attributes", key_value)?,
        dropped_attributes_count: o.int("droppedAttributesCount")?,
        events: o.messages("events", event)?,
        dropped_events_count: o.int("droppedEventsCount")?,
        links: o.messages("links", link)?,
        dropped_links_count: o.int("droppedLinksCount")?,
        status: o.message("status", status)?,
    })
}

fn event(o: &Object<'_>) -> Result<Event, JsonError> {
    Ok(Event {
        time_unix_nano: o.int("timeUnixNano")?,
        name: o.text("name")?,
        attributes: o.messages("attributes", key_value)?,
        dropped_attributes_count: o.int("droppedAttributesCount")?,
    })
}

fn link(o: &Object<'_>) -> Result<Link, JsonError> {
    Ok(Link {
        trace_id: o.id("traceId", 16)?,
        span_id: o.id("spanId", 8)?,
        trace_state: o.text("traceState")?,
        attributes: o.messages("attributes", key_value)?,
        dropped_attributes_count: o.int("droppedAttributesCount")?,
        flags: o.int("flags")?,
    })
}

fn status(o: &Object<'_>) -> Result<Status, JsonError> {
    Ok(Status {
        message: o.text("message")?,
        code: o.enumeration("code", |name| StatusCode::from_str_name(name).map(i32::from))?,
    })
}

pub(super) fn log_record(o: &Object<'_>) -> Result<LogRecord, JsonError> {
    Ok(LogRecord {
        time_unix_nano: o.int("timeUnixNano")?,
        observed_time_unix_nano: o.int("observedTimeUnixNano")?,
        severity_number: o.enumeration("severityNumber", |name| SeverityNumber::from_str_name(name).map(i32::from))?,
        severity_text: o.text("severityText")?,
        body: o.message("body", any_value)?,
        attributes: o.messages("attributes", key_value)?,
        dropped_attributes_count: o.int("droppedAttributesCount")?,
        flags: o.int("flags")?,
        trace_id: o.id("traceId", 16)?,
        span_id: o.id("spanId", 8)?,
        event_name: o.text("eventName")?,
    })
}

pub(super) fn resource(o: &Object<'_>) -> Result<Resource, JsonError> {
    Ok(Resource {
        attributes: o.messages("attributes", key_value)?,
        dropped_attributes_count: o.int("droppedAttributesCount")?,
        entity_refs: o.messages("entityRefs", entity_ref)?,
    })
}

fn entity_ref(o: &Object<'_>) -> Result<EntityRef, JsonError> {
    Ok(EntityRef {
        schema_url: o.text("schemaUrl")?,
        r#type: o.text("type")?,
        id_keys: o.list("idKeys", read_text)?,
        description_keys: o.list("descriptionKeys", read_text)?,
    })
}

pub(super) fn scope(o: &Object<'_>) -> Result<InstrumentationScope, JsonError> {
    Ok(InstrumentationScope {
        name: o.text("name")?,
        version: o.text("version")?,
        attributes: o.messages("attributes", key_value)?,
        dropped_attributes_count: o.int("droppedAttributesCount")?,
    })
}

pub(super) fn key_value(o: &Object<'_>) -> Result<KeyValue, JsonError> {
    Ok(KeyValue { key: o.text("key")?, value: o.message("value", any_value)?, ..KeyValue::default() })
}

fn any_value(o: &Object<'_>) -> Result<AnyValue, JsonError> {
    let mut value = None;
    for (name, json) in o.members {
        let at = o.at.then(name);
        value = match (name.as_str(), json) {
            (_, Json::Null) => continue,
            ("stringValue" | "string_value", _) => Some(Value::StringValue(read_text(at, json)?)),
            ("boolValue" | "bool_value", Json::Bool(x)) => Some(Value::BoolValue(*x)),
            ("boolValue" | "bool_value", _) => return Err(at.expected(json, "true or false")),
            ("intValue" | "int_value", _) => Some(match read_int(at, json) {
                Ok(x) => Value::IntValue(x),
                // JavaScript's SDK writes every whole number as an integer, 1e300 too; one such value must not cost a batch.
                Err(error) => Value::DoubleValue(beyond_int(json).ok_or(error)?),
            }),
            ("doubleValue" | "double_value", _) => Some(Value::DoubleValue(at.double(json)?)),
            ("bytesValue" | "bytes_value", _) => Some(Value::BytesValue(at.bytes(json)?)),
            ("arrayValue" | "array_value", _) => {
                let o = at.object(json)?;
                Some(Value::ArrayValue(ArrayValue { values: o.messages("values", any_value)? }))
            }
            ("kvlistValue" | "kvlist_value", _) => {
                let o = at.object(json)?;
                Some(Value::KvlistValue(KeyValueList { values: o.messages("values", key_value)? }))
            }
            _ => continue,
        };
    }
    Ok(AnyValue { value })
}

pub(super) fn document<T>(text: &[u8], read: impl FnOnce(&Object<'_>) -> Result<T, JsonError>) -> Result<T, JsonError> {
    // serde_json stops at a depth of 128, so what follows cannot exhaust the stack.
    let json: Json = serde_json::from_slice(text).map_err(|error| JsonError::Syntax(error.to_string()))?;
    read(&Place::Root.object(&json)?)
}

/// Where in the document we are; turned into text only when an error needs it.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Root,
    Member(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

/// An object of the document and where it stands.
pub(super) struct Object<'a> {
    members: &'a serde_json::Map<String, Json>,
    at: Place<'a>,
}

impl<'a> Object<'a> {
    /// One without members.
    pub(super) fn empty(members: &'a serde_json::Map<String, Json>) -> Self {
        Self { members, at: Place::Root }
    }
    /// The member of that name, or of the name it has in the proto file; `None` where it is absent or null.
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        self.members.get(name).or_else(|| self.members.get(&snake_case(name))).filter(|json| !json.is_null())
    }

    pub(super) fn read<T: Default>(
        &self,
        name: &str,
        read: impl FnOnce(Place<'_>, &Json) -> Result<T, JsonError>,
    ) -> Result<T, JsonError> {
        self.get(name).map_or_else(|| Ok(T::default()), |json| read(self.at.then(name), json))
    }

    pub(super) fn text(&self, name: &str) -> Result<String, JsonError> {
        self.read(name, read_text)
    }

    pub(super) fn int<T: TryFrom<i128> + Default>(&self, name: &str) -> Result<T, JsonError> {
        self.read(name, read_int)
    }

    pub(super) fn enumeration(&self, name: &str, number: fn(&str) -> Option<i32>) -> Result<i32, JsonError> {
        self.read(name, |at, json| match json.as_str().and_then(number) {
            Some(number) => Ok(number),
            None => read_int(at, json),
        })
    }

    fn id(&self, name: &str, length: usize) -> Result<Vec<u8>, JsonError> {
        self.read(name, |at, json| {
            let expected = if length == 16 { "32 hex digits" } else { "16 hex digits" };
            match json.as_str() {
                Some("") => Ok(Vec::new()),
                Some(text) => {
                    hex::decode(text).ok().filter(|id| id.len() == length).ok_or_else(|| at.expected(json, expected))
                }
                None => Err(at.expected(json, expected)),
            }
        })
    }

    pub(super) fn message<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Object<'_>) -> Result<T, JsonError>,
    ) -> Result<Option<T>, JsonError> {
        self.read(name, |at, json| Ok(Some(read(&at.object(json)?)?)))
    }

    pub(super) fn messages<T>(
        &self,
        name: &str,
        read: fn(&Object<'_>) -> Result<T, JsonError>,
    ) -> Result<Vec<T>, JsonError> {
        self.list(name, |at, json| match json {
            // In a list of values, null is what some SDKs write for a value that is not set.
            Json::Null => read(&Object { members: &serde_json::Map::new(), at }),
            json => read(&at.object(json)?),
        })
    }

    pub(super) fn list<T>(
        &self,
        name: &str,
        read: impl Fn(Place<'_>, &Json) -> Result<T, JsonError>,
    ) -> Result<Vec<T>, JsonError> {
        self.read(name, |at, json| {
            let items = json.as_array().ok_or_else(|| at.expected(json, "a list"))?;
            items.iter().enumerate().map(|(i, item)| read(Place::Item(&at, i), item)).collect()
        })
    }
}

impl<'a> Place<'a> {
    /// What the root is called.
    pub(super) const DOCUMENT: &'static str = "the document";

    fn then(&'a self, name: &'a str) -> Place<'a> {
        Place::Member(self, name)
    }

    pub(super) fn object(self, json: &'a Json) -> Result<Object<'a>, JsonError> {
        let members = json.as_object().ok_or_else(|| self.expected(json, "an object"))?;
        Ok(Object { members, at: self })
    }

    pub(super) fn double(self, json: &Json) -> Result<f64, JsonError> {
        let number = match json {
            Json::Number(number) => number.as_f64(),
            Json::String(text) => match text.as_str() {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                // Rust reads words such as `inf` as well, which JSON knows nothing of.
                text if text.bytes().any(|b| b.is_ascii_digit()) => text.trim().parse().ok(),
                _ => None,
            },
            _ => None,
        };
        number.ok_or_else(|| self.expected(json, "a number, \"NaN\", \"Infinity\" or \"-Infinity\""))
    }

    fn bytes(self, json: &Json) -> Result<Vec<u8>, JsonError> {
        const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true);
        const PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
        const URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);
        json.as_str()
            .and_then(|text| PLAIN.decode(text).or_else(|_| URL.decode(text)).ok())
            .ok_or_else(|| self.expected(json, "base64"))
    }

    fn expected(self, found: &Json, expected: &'static str) -> JsonError {
        const SHOWN: usize = 40;
        let mut found = match found {
            Json::Array(_) => "a list".to_owned(),
            Json::Object(_) => "an object".to_owned(),
            scalar => scalar.to_string(),
        };
        if let Some((end, _)) = found.char_indices().nth(SHOWN) {
            found.truncate(end);
            found.push('…');
        }
        JsonError::Shape { path: self.path(), found, expected }
    }

    fn path(self) -> String {
        match self {
            Place::Root => Self::DOCUMENT.to_owned(),
            Place::Member(Place::Root, name) => name.to_owned(),
            Place::Member(parent, name) => format!("{}.{name}", parent.path()),
            Place::Item(parent, i) => format!("{}[{i}]", parent.path()),
        }
    }
}

pub(super) fn read_text(at: Place<'_>, json: &Json) -> Result<String, JsonError> {
    json.as_str().map(str::to_owned).ok_or_else(|| at.expected(json, "a string"))
}

/// An integer as a number or as a string; `12.0` and `1e3` are integers too, as in protobuf's JSON mapping.
fn read_int<T: TryFrom<i128>>(at: Place<'_>, json: &Json) -> Result<T, JsonError> {
    let number = match json {
        Json::String(text) => text.trim().parse().ok().or_else(|| text.trim().parse().ok().and_then(whole)),
        Json::Number(number) => {
            let exact = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
            exact.or_else(|| number.as_f64().and_then(whole))
        }
        _ => None,
    };
    number.and_then(|x| T::try_from(x).ok()).ok_or_else(|| at.expected(json, "an integer in range"))
}

/// The integer that a double holds, if it holds one exactly.
fn whole(x: f64) -> Option<i128> {
    (x.fract() == 0.0 && x.abs() < 1e20).then_some(x as i128)
}

/// A whole number that is too large for 64 bits; `None` for one in quotes, which claims to be exact.
fn beyond_int(json: &Json) -> Option<f64> {
    json.as_f64().filter(|x| x.fract() == 0.0 && x.abs() >= 9_223_372_036_854_775_808.0)
}

pub(super) fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::otlp_json::decode_trace_request;

    fn value(json: &str) -> Result<Option<Value>, JsonError> {
        document(json.as_bytes(), any_value).map(|any| any.value)
    }

    fn check(json: &str, expected: Value) {
        assert_eq!(value(json), Ok(Some(expected)), "{json}");
    }

    #[test]
    fn values_are_read_in_every_form_that_sdks_write() {
        check(r#"{"intValue":"4611686018427387904"}"#, Value::IntValue(1 << 62));
        check(r#"{"intValue":-7}"#, Value::IntValue(-7));
        check(r#"{"intValue":12.0}"#, Value::IntValue(12));
        check(r#"{"intValue":"1e3"}"#, Value::IntValue(1000));
        check(r#"{"intValue":1e300}"#, Value::DoubleValue(1e300));
        check(r#"{"intValue":9223372036854775808}"#, Value::DoubleValue(9_223_372_036_854_775_808.0));
        check(r#"{"doubleValue":1}"#, Value::DoubleValue(1.0));
        check(r#"{"doubleValue":"2.5"}"#, Value::DoubleValue(2.5));
        check(r#"{"doubleValue":"-Infinity"}"#, Value::DoubleValue(f64::NEG_INFINITY));
        check(r#"{"arrayValue":{}}"#, Value::ArrayValue(ArrayValue::default()));
        check(r#"{"arrayValue":{"values":null}}"#, Value::ArrayValue(ArrayValue::default()));
        check(r#"{"kvlistValue":{}}"#, Value::KvlistValue(KeyValueList::default()));
        check(r#"{"bytesValue":"+/8="}"#, Value::BytesValue(vec![0xfb, 0xff]));
        check(r#"{"bytesValue":"-_8"}"#, Value::BytesValue(vec![0xfb, 0xff]));
        check(r#"{"stringValue":"é","later":{}}"#, Value::StringValue("é".into()));
        check(r#"{"intValue":null,"boolValue":false}"#, Value::BoolValue(false));
        assert!(matches!(value(r#"{"doubleValue":"NaN"}"#), Ok(Some(Value::DoubleValue(x))) if x.is_nan()));
        assert_eq!(value("{}"), Ok(None));
        assert_eq!(value(r#"{"stringValue":null}"#), Ok(None));
    }

    #[test]
    fn what_is_not_a_value_is_an_error() {
        for json in [
            r#"{"intValue":1.5}"#,
            r#"{"intValue":"9223372036854775808"}"#,
            r#"{"intValue":true}"#,
            r#"{"doubleValue":"inf"}"#,
            r#"{"doubleValue":"x1"}"#,
            r#"{"boolValue":"true"}"#,
            r#"{"stringValue":1}"#,
            r#"{"bytesValue":"*"}"#,
            r#"{"arrayValue":[]}"#,
        ] {
            assert!(matches!(value(json), Err(JsonError::Shape { .. })), "{json}");
        }
    }

    #[test]
    fn a_request_of_the_python_sdk_is_read() {
        let json = r#"{"resourceSpans": [{"resource": {"attributes": [{"key": "k", "value": {"stringValue": "a,b"}}]},
            "scopeSpans": [{"scope": {"name": "scope", "version": "1.0"}, "spans": [{
                "traceId": "4A85c70a4fc008bdc6ebca65a8da7ca2", "spanId": "454292c070a08b65", "parentSpanId": "",
                "flags": 256, "name": "root", "kind": 1, "startTimeUnixNano": "1795357110144678409",
                "endTimeUnixNano": 1795357110144957384, "attributes": null, "events": [{"name": "e"}],
                "status": {}}]}]}]}"#;
        let request = decode_trace_request(json.as_bytes()).unwrap();
        let span = &request.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!(hex::encode(&span.trace_id), "4a85c70a4fc008bdc6ebca65a8da7ca2");
        assert_eq!((span.parent_span_id.len(), span.flags, span.kind), (0, 256, 1));
        assert_eq!(span.start_time_unix_nano, 1_795_357_110_144_678_409);
        assert_eq!(span.end_time_unix_nano, 1_795_357_110_144_957_384);
        assert_eq!(span.status, Some(Status::default()));
    }

    #[test]
    fn names_of_enumerations_and_of_the_proto_file_are_understood() {
        let json = r#"{"resource_spans":[{"scope_spans":[{"spans":[{"kind":"SPAN_KIND_CLIENT","trace_state":"a=b",
            "status":{"code":"STATUS_CODE_ERROR"}}]}]}]}"#;
        let request = decode_trace_request(json.as_bytes()).unwrap();
        let span = &request.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!((span.kind, span.trace_state.as_str()), (3, "a=b"));
        assert_eq!(span.status.as_ref().map(|status| status.code), Some(2));
    }
}
