//! The span model as OTLP's protobuf messages and back, losing nothing on the way.
//!
//! Source: OTLP 1.11 `trace.proto`, `logs.proto`, `common.proto`. Grouping into requests, transport and the JSON form
//! are `export`'s.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::LogRecord as ProtoLogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event as ProtoEvent, Link as ProtoLink};
use opentelemetry_proto::tonic::trace::v1::{Span as ProtoSpan, Status as ProtoStatus};

use crate::model::{Event, Key, Link, LogRecord, Span, SpanId, SpanKind, Status, TraceId, Value};

/// Why a message is not a span or a log record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtlpError {
    /// The bytes are no such protobuf message.
    #[error("decoding an OTLP {what}: {reason}")]
    Malformed {
        /// `span`, `log record`, `resource`.
        what: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// An id of the wrong length.
    #[error("decoding an OTLP {what}: the {field} has {found} bytes, expected {expected}")]
    IdLength {
        /// `span`, `link`, `log record`.
        what: &'static str,
        /// Which id.
        field: &'static str,
        /// How many bytes it has.
        found: usize,
        /// How many it should have.
        expected: usize,
    },
}

/// The span as a protobuf message.
pub fn encode_span(span: &Span) -> ProtoSpan {
    ProtoSpan {
        trace_id: span.trace_id.as_bytes().to_vec(),
        span_id: span.span_id.as_bytes().to_vec(),
        trace_state: span.trace_state.clone(),
        parent_span_id: span.parent_span_id.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
        flags: span.flags,
        name: span.name.clone().into_owned(),
        kind: span.kind as i32,
        start_time_unix_nano: span.start_unix_nano,
        end_time_unix_nano: span.end_unix_nano,
        attributes: encode_attributes(&span.attributes),
        dropped_attributes_count: span.dropped_attributes_count,
        events: span.events.iter().map(encode_event).collect(),
        dropped_events_count: span.dropped_events_count,
        links: span.links.iter().map(encode_link).collect(),
        dropped_links_count: span.dropped_links_count,
        status: encode_status(&span.status),
    }
}

/// The span of a protobuf message; an error where an id has the wrong length.
pub fn decode_span(span: ProtoSpan) -> Result<Span, OtlpError> {
    Ok(Span {
        trace_id: trace_id("span", &span.trace_id)?,
        span_id: span_id("span", "span id", &span.span_id)?,
        parent_span_id: if span.parent_span_id.is_empty() {
            None
        } else {
            Some(span_id("span", "parent span id", &span.parent_span_id)?)
        },
        trace_state: span.trace_state,
        flags: span.flags,
        name: Cow::Owned(span.name),
        kind: SpanKind::from_number(span.kind),
        start_unix_nano: span.start_time_unix_nano,
        end_unix_nano: span.end_time_unix_nano,
        status: decode_status(span.status),
        attributes: decode_attributes(span.attributes),
        dropped_attributes_count: span.dropped_attributes_count,
        events: span.events.into_iter().map(decode_event).collect(),
        dropped_events_count: span.dropped_events_count,
        links: span.links.into_iter().map(decode_link).collect::<Result<_, _>>()?,
        dropped_links_count: span.dropped_links_count,
    })
}

/// The log record as a protobuf message.
pub fn encode_log(log: &LogRecord) -> ProtoLogRecord {
    ProtoLogRecord {
        time_unix_nano: log.time_unix_nano,
        observed_time_unix_nano: log.observed_unix_nano,
        severity_number: log.severity_number,
        severity_text: log.severity_text.clone(),
        body: (log.body != Value::Empty).then(|| encode_value(&log.body)),
        attributes: encode_attributes(&log.attributes),
        dropped_attributes_count: log.dropped_attributes_count,
        flags: log.flags,
        trace_id: log.trace_id.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
        span_id: log.span_id.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
        event_name: log.event_name.clone().into_owned(),
    }
}

/// The log record of a protobuf message; an error where an id has the wrong length.
pub fn decode_log(log: ProtoLogRecord) -> Result<LogRecord, OtlpError> {
    Ok(LogRecord {
        time_unix_nano: log.time_unix_nano,
        observed_unix_nano: log.observed_time_unix_nano,
        severity_number: log.severity_number,
        severity_text: log.severity_text,
        event_name: Cow::Owned(log.event_name),
        body: log.body.map_or(Value::Empty, decode_value),
        attributes: decode_attributes(log.attributes),
        dropped_attributes_count: log.dropped_attributes_count,
        flags: log.flags,
        trace_id: if log.trace_id.is_empty() { None } else { Some(trace_id("log record", &log.trace_id)?) },
        span_id: if log.span_id.is_empty() { None } else { Some(span_id("log record", "span id", &log.span_id)?) },
    })
}

/// A resource with these attributes.
pub fn encode_resource(attributes: &[(Key, Value)]) -> Resource {
    Resource { attributes: encode_attributes(attributes), ..Resource::default() }
}

/// The attributes of a resource.
pub fn decode_resource(resource: Resource) -> Vec<(Key, Value)> {
    decode_attributes(resource.attributes)
}

/// Attributes in their order.
pub fn encode_attributes(attributes: &[(Key, Value)]) -> Vec<KeyValue> {
    attributes
        .iter()
        .map(|(key, value)| KeyValue {
            key: key.clone().into_owned(),
            value: Some(encode_value(value)),
            ..KeyValue::default()
        })
        .collect()
}

/// Attributes in their order; one without a value is [`Value::Empty`].
pub fn decode_attributes(attributes: Vec<KeyValue>) -> Vec<(Key, Value)> {
    attributes.into_iter().map(|pair| (Cow::Owned(pair.key), pair.value.map_or(Value::Empty, decode_value))).collect()
}

/// A value of any kind.
pub fn encode_value(value: &Value) -> AnyValue {
    let value = match value {
        Value::Empty => None,
        Value::Str(text) => Some(ProtoValue::StringValue(text.clone().into_owned())),
        Value::Bool(x) => Some(ProtoValue::BoolValue(*x)),
        Value::Int(x) => Some(ProtoValue::IntValue(*x)),
        Value::Double(x) => Some(ProtoValue::DoubleValue(*x)),
        Value::Bytes(bytes) => Some(ProtoValue::BytesValue(bytes.clone())),
        Value::Array(values) => {
            Some(ProtoValue::ArrayValue(ArrayValue { values: values.iter().map(encode_value).collect() }))
        }
        Value::Map(pairs) => Some(ProtoValue::KvlistValue(KeyValueList { values: encode_attributes(pairs) })),
    };
    AnyValue { value }
}

/// A value of any kind. A reference into a profile's string table means nothing here and counts as empty, as OTLP asks.
pub fn decode_value(value: AnyValue) -> Value {
    match value.value {
        None | Some(ProtoValue::StringValueStrindex(_)) => Value::Empty,
        Some(ProtoValue::StringValue(text)) => Value::Str(Cow::Owned(text)),
        Some(ProtoValue::BoolValue(x)) => Value::Bool(x),
        Some(ProtoValue::IntValue(x)) => Value::Int(x),
        Some(ProtoValue::DoubleValue(x)) => Value::Double(x),
        Some(ProtoValue::BytesValue(bytes)) => Value::Bytes(bytes),
        Some(ProtoValue::ArrayValue(array)) => Value::Array(array.values.into_iter().map(decode_value).collect()),
        Some(ProtoValue::KvlistValue(list)) => Value::Map(decode_attributes(list.values)),
    }
}

fn encode_status(status: &Status) -> Option<ProtoStatus> {
    match status {
        Status::Unset => None,
        Status::Ok => Some(ProtoStatus { message: String::new(), code: 1 }),
        Status::Error(message) => Some(ProtoStatus { message: message.clone(), code: 2 }),
    }
}

fn decode_status(status: Option<ProtoStatus>) -> Status {
    match status {
        Some(ProtoStatus { code: 2, message }) => Status::Error(message),
        Some(ProtoStatus { code: 1, .. }) => Status::Ok,
        _ => Status::Unset,
    }
}

fn encode_event(event: &Event) -> ProtoEvent {
    ProtoEvent {
        time_unix_nano: event.time_unix_nano,
        name: event.name.clone().into_owned(),
        attributes: encode_attributes(&event.attributes),
        dropped_attributes_count: event.dropped_attributes_count,
    }
}

fn decode_event(event: ProtoEvent) -> Event {
    Event {
        name: Cow::Owned(event.name),
        time_unix_nano: event.time_unix_nano,
        attributes: decode_attributes(event.attributes),
        dropped_attributes_count: event.dropped_attributes_count,
    }
}

fn encode_link(link: &Link) -> ProtoLink {
    ProtoLink {
        trace_id: link.trace_id.as_bytes().to_vec(),
        span_id: link.span_id.as_bytes().to_vec(),
        trace_state: link.trace_state.clone(),
        attributes: encode_attributes(&link.attributes),
        dropped_attributes_count: link.dropped_attributes_count,
        flags: link.flags,
    }
}

fn decode_link(link: ProtoLink) -> Result<Link, OtlpError> {
    Ok(Link {
        trace_id: trace_id("link", &link.trace_id)?,
        span_id: span_id("link", "span id", &link.span_id)?,
        trace_state: link.trace_state,
        attributes: decode_attributes(link.attributes),
        dropped_attributes_count: link.dropped_attributes_count,
        flags: link.flags,
    })
}

fn trace_id(what: &'static str, bytes: &[u8]) -> Result<TraceId, OtlpError> {
    TraceId::from_slice(bytes).ok_or(OtlpError::IdLength { what, field: "trace id", found: bytes.len(), expected: 16 })
}

fn span_id(what: &'static str, field: &'static str, bytes: &[u8]) -> Result<SpanId, OtlpError> {
    SpanId::from_slice(bytes).ok_or(OtlpError::IdLength { what, field, found: bytes.len(), expected: 8 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_the_wrong_length_is_an_error_that_names_it() {
        let mut span = encode_span(&Span::open(
            TraceId::from_bytes([1; 16]),
            SpanId::from_bytes([2; 8]),
            Some(SpanId::from_bytes([3; 8])),
            "chat m",
            1,
        ));
        span.parent_span_id.pop();
        let error = decode_span(span).expect_err("seven bytes are no span id");
        assert_eq!(error.to_string(), "decoding an OTLP span: the parent span id has 7 bytes, expected 8");
    }
}
