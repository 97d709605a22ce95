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
use prost::Message as _;

pub use super::error::OtlpError;
use crate::model::{Event, Key, Link, LogRecord, Span, SpanId, SpanKind, Status, TraceId, Value};

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

/// Appends the span's protobuf message: the bytes of [`encode_span`], without building the message first.
pub fn write_span(out: &mut Vec<u8>, span: &Span) {
    wire::bytes(out, 1, span.trace_id.as_bytes());
    wire::bytes(out, 2, span.span_id.as_bytes());
    wire::text(out, 3, &span.trace_state);
    if let Some(parent) = &span.parent_span_id {
        wire::bytes(out, 4, parent.as_bytes());
    }
    wire::text(out, 5, &span.name);
    wire::number(out, 6, u64::from(span.kind as u8));
    wire::fixed64(out, 7, span.start_unix_nano);
    wire::fixed64(out, 8, span.end_unix_nano);
    write_attributes(out, 9, &span.attributes);
    wire::number(out, 10, u64::from(span.dropped_attributes_count));
    for event in &span.events {
        wire::nested(out, 11, |out| {
            wire::fixed64(out, 1, event.time_unix_nano);
            wire::text(out, 2, &event.name);
            write_attributes(out, 3, &event.attributes);
            wire::number(out, 4, u64::from(event.dropped_attributes_count));
        });
    }
    wire::number(out, 12, u64::from(span.dropped_events_count));
    for link in &span.links {
        wire::nested(out, 13, |out| {
            wire::bytes(out, 1, link.trace_id.as_bytes());
            wire::bytes(out, 2, link.span_id.as_bytes());
            wire::text(out, 3, &link.trace_state);
            write_attributes(out, 4, &link.attributes);
            wire::number(out, 5, u64::from(link.dropped_attributes_count));
            wire::fixed32(out, 6, link.flags);
        });
    }
    wire::number(out, 14, u64::from(span.dropped_links_count));
    match &span.status {
        Status::Unset => {}
        Status::Ok => wire::nested(out, 15, |out| wire::number(out, 3, 1)),
        Status::Error(message) => wire::nested(out, 15, |out| {
            wire::text(out, 2, message);
            wire::number(out, 3, 2);
        }),
    }
    wire::fixed32(out, 16, span.flags);
}

/// Appends the log record's protobuf message: the bytes of [`encode_log`], without building the message first.
pub fn write_log(out: &mut Vec<u8>, log: &LogRecord) {
    wire::fixed64(out, 1, log.time_unix_nano);
    // A negative number is no severity, but goes as protobuf sends it: sign-extended.
    wire::number(out, 2, i64::from(log.severity_number) as u64);
    wire::text(out, 3, &log.severity_text);
    if log.body != Value::Empty {
        wire::nested(out, 5, |out| write_value(out, &log.body));
    }
    write_attributes(out, 6, &log.attributes);
    wire::number(out, 7, u64::from(log.dropped_attributes_count));
    wire::fixed32(out, 8, log.flags);
    if let Some(id) = &log.trace_id {
        wire::bytes(out, 9, id.as_bytes());
    }
    if let Some(id) = &log.span_id {
        wire::bytes(out, 10, id.as_bytes());
    }
    wire::fixed64(out, 11, log.observed_unix_nano);
    wire::text(out, 12, &log.event_name);
}

/// Appends a resource with these attributes: the bytes of [`encode_resource`].
pub fn write_resource(out: &mut Vec<u8>, attributes: &[(Key, Value)]) {
    write_attributes(out, 1, attributes);
}

/// The span of a protobuf message's bytes.
pub fn read_span(bytes: &[u8]) -> Result<Span, OtlpError> {
    decode_span(ProtoSpan::decode(bytes).map_err(|e| malformed("span", &e))?)
}

/// The log record of a protobuf message's bytes.
pub fn read_log(bytes: &[u8]) -> Result<LogRecord, OtlpError> {
    decode_log(ProtoLogRecord::decode(bytes).map_err(|e| malformed("log record", &e))?)
}

/// The attributes of a resource in a protobuf message's bytes.
pub fn read_resource(bytes: &[u8]) -> Result<Vec<(Key, Value)>, OtlpError> {
    Ok(decode_resource(Resource::decode(bytes).map_err(|e| malformed("resource", &e))?))
}

fn malformed(what: &'static str, error: &prost::DecodeError) -> OtlpError {
    OtlpError::Malformed { what, reason: error.to_string() }
}

fn write_attributes(out: &mut Vec<u8>, field: u32, attributes: &[(Key, Value)]) {
    for (key, value) in attributes {
        wire::nested(out, field, |out| {
            wire::text(out, 1, key);
            wire::nested(out, 2, |out| write_value(out, value));
        });
    }
}

/// The fields of an `AnyValue`; a value that is set is written even if it is protobuf's default.
fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Empty => {}
        Value::Str(text) => wire::set_bytes(out, 1, text.as_bytes()),
        Value::Bool(x) => wire::set_number(out, 2, u64::from(*x)),
        Value::Int(x) => wire::set_number(out, 3, *x as u64),
        Value::Double(x) => wire::set_fixed64(out, 4, x.to_bits()),
        Value::Array(values) => wire::nested(out, 5, |out| {
            for value in values {
                wire::nested(out, 1, |out| write_value(out, value));
            }
        }),
        Value::Map(pairs) => wire::nested(out, 6, |out| write_attributes(out, 1, pairs)),
        Value::Bytes(bytes) => wire::set_bytes(out, 7, bytes),
    }
}

/// Protobuf's wire format, as far as spans need it. A field with protobuf's default value is left out, except by `set_…`.
mod wire {
    pub(super) fn varint(out: &mut Vec<u8>, mut n: u64) {
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }

    fn tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
        varint(out, u64::from(field << 3 | wire_type));
    }

    pub(super) fn number(out: &mut Vec<u8>, field: u32, n: u64) {
        if n != 0 {
            set_number(out, field, n);
        }
    }

    pub(super) fn set_number(out: &mut Vec<u8>, field: u32, n: u64) {
        tag(out, field, 0);
        varint(out, n);
    }

    pub(super) fn fixed64(out: &mut Vec<u8>, field: u32, n: u64) {
        if n != 0 {
            set_fixed64(out, field, n);
        }
    }

    pub(super) fn set_fixed64(out: &mut Vec<u8>, field: u32, n: u64) {
        tag(out, field, 1);
        out.extend_from_slice(&n.to_le_bytes());
    }

    pub(super) fn fixed32(out: &mut Vec<u8>, field: u32, n: u32) {
        if n != 0 {
            tag(out, field, 5);
            out.extend_from_slice(&n.to_le_bytes());
        }
    }

    pub(super) fn text(out: &mut Vec<u8>, field: u32, text: &str) {
        bytes(out, field, text.as_bytes());
    }

    pub(super) fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            set_bytes(out, field, bytes);
        }
    }

    pub(super) fn set_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
        tag(out, field, 2);
        varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }

    /// A message within the message. Its length stands before it and mostly fits one byte; a longer one is moved.
    pub(super) fn nested(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
        tag(out, field, 2);
        let start = out.len();
        out.push(0);
        write(out);
        let length = out.len() - start - 1;
        if let Ok(short) = u8::try_from(length)
            && short < 0x80
        {
            out[start] = short;
        } else {
            let mut prefix = Vec::with_capacity(10);
            varint(&mut prefix, length as u64);
            out.splice(start..=start, prefix);
        }
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
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Empty),
            ".{0,200}".prop_map(Value::from),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_map(Value::Double),
            vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..5).prop_map(Value::Array),
                vec((".{0,8}".prop_map(Key::from), inner), 0..5).prop_map(Value::Map),
            ]
        })
    }

    fn attributes() -> impl Strategy<Value = Vec<(Key, Value)>> {
        vec((".{0,20}".prop_map(Key::from), values()), 0..6)
    }

    fn spans() -> impl Strategy<Value = Span> {
        let ids = (any::<[u8; 16]>(), any::<[u8; 8]>(), any::<Option<[u8; 8]>>());
        let events = vec((".{0,8}", any::<u64>(), attributes(), any::<u32>()), 0..3);
        let links = vec((any::<[u8; 16]>(), any::<[u8; 8]>(), ".{0,4}", attributes(), any::<u32>()), 0..3);
        let status = prop_oneof![Just(Status::Unset), Just(Status::Ok), ".{0,9}".prop_map(Status::Error)];
        let numbers = (any::<u64>(), any::<u64>(), any::<[u32; 4]>(), 0..6i32);
        (ids, ".{0,9}", ".{0,4}", numbers, attributes(), events, links, status).prop_map(
            |(
                (trace, id, parent),
                name,
                state,
                (start, end, [a, b, c, flags], kind),
                attributes,
                events,
                links,
                status,
            )| Span {
                trace_id: TraceId::from_bytes(trace),
                span_id: SpanId::from_bytes(id),
                parent_span_id: parent.map(SpanId::from_bytes),
                trace_state: state,
                flags,
                name: name.into(),
                kind: SpanKind::from_number(kind),
                start_unix_nano: start,
                end_unix_nano: end,
                status,
                attributes,
                dropped_attributes_count: a,
                events: events
                    .into_iter()
                    .map(|(name, time_unix_nano, attributes, dropped)| Event {
                        name: name.into(),
                        time_unix_nano,
                        attributes,
                        dropped_attributes_count: dropped,
                    })
                    .collect(),
                dropped_events_count: b,
                links: links
                    .into_iter()
                    .map(|(trace, id, trace_state, attributes, flags)| Link {
                        trace_id: TraceId::from_bytes(trace),
                        span_id: SpanId::from_bytes(id),
                        trace_state,
                        attributes,
                        dropped_attributes_count: flags ^ 5,
                        flags,
                    })
                    .collect(),
                dropped_links_count: c,
            },
        )
    }

    /// `Debug` rather than equality, for NaN is not equal to itself.
    fn same(a: &impl std::fmt::Debug, b: &impl std::fmt::Debug) -> bool {
        format!("{a:?}") == format!("{b:?}")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn spans_come_back_as_they_were_and_both_encoders_agree(span in spans()) {
            let mut bytes = Vec::new();
            write_span(&mut bytes, &span);
            prop_assert_eq!(&bytes, &encode_span(&span).encode_to_vec());
            prop_assert!(same(&read_span(&bytes).expect("our own bytes"), &span));
        }

        #[test]
        fn log_records_come_back_as_they_were_and_both_encoders_agree(
            body in values(), attributes in attributes(), name in ".{0,9}", severity in -1..30i32,
            times in any::<[u64; 2]>(), trace in any::<Option<[u8; 16]>>(), span in any::<Option<[u8; 8]>>(),
        ) {
            let log = LogRecord {
                time_unix_nano: times[0],
                observed_unix_nano: times[1],
                severity_number: severity,
                severity_text: name.clone(),
                event_name: name.into(),
                body,
                attributes,
                dropped_attributes_count: 7,
                flags: 1,
                trace_id: trace.map(TraceId::from_bytes),
                span_id: span.map(SpanId::from_bytes),
            };
            let mut bytes = Vec::new();
            write_log(&mut bytes, &log);
            prop_assert_eq!(&bytes, &encode_log(&log).encode_to_vec());
            prop_assert!(same(&read_log(&bytes).expect("our own bytes"), &log));
        }
    }

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
