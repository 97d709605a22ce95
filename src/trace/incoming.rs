//! OTLP protobuf requests in pieces: items are decoded one after the other into what is kept of them.
//!
//! Decoded as one message, a request takes several times the memory of its bytes before the first span is ours, and a small
//! request can be made to take a hundred times. So only the frame of groups is read at first; spans and log records are
//! decoded when they are asked for, a bounded part of the request at a time.
//!
//! Source: OTLP 1.11 `trace.proto` and `logs.proto`, in which groups, resources, scopes and schemas have the same numbers.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::LogRecord as ProtoLogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span as ProtoSpan;
use prost::Message;

use super::otlp::OtlpError;
use super::requests::{Received, origin, take_log, take_span};
use crate::model::{Origin, Telemetry};

/// What the items of a request are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Items {
    /// Of an `ExportTraceServiceRequest`.
    Spans,
    /// Of an `ExportLogsServiceRequest`.
    LogRecords,
}

/// A request whose items are still to be decoded.
#[derive(Debug, Clone)]
pub struct Incoming {
    bytes: Bytes,
    items: Items,
    resources: Vec<(Resource, String)>,
    groups: Vec<Group>,
    /// The group that is being read, where in it, and its origin once known.
    group: usize,
    at: usize,
    origin: Option<Arc<Origin>>,
}

/// A `ScopeSpans` or `ScopeLogs`.
#[derive(Debug, Clone)]
struct Group {
    resource: usize,
    range: Range<usize>,
}

impl Incoming {
    /// Reads the frame of a request.
    pub fn new(bytes: Bytes, items: Items) -> Result<Self, OtlpError> {
        let mut incoming = Self {
            items,
            resources: Vec::new(),
            groups: Vec::new(),
            group: 0,
            at: 0,
            origin: None,
            bytes: Bytes::new(),
        };
        let mut fields = Fields::of(&bytes, 0..bytes.len());
        while let Some(field) = fields.next()? {
            if let (1, Payload::Bytes(range)) = field {
                incoming.read_resource_group(&bytes, range)?;
            }
        }
        incoming.bytes = bytes;
        incoming.at = incoming.groups.first().map_or(0, |group| group.range.start);
        Ok(incoming)
    }

    fn read_resource_group(&mut self, bytes: &[u8], range: Range<usize>) -> Result<(), OtlpError> {
        let (mut resource, mut schema_url) = (Resource::default(), String::new());
        let number = self.resources.len();
        let mut fields = Fields::of(bytes, range);
        while let Some(field) = fields.next()? {
            match field {
                (1, Payload::Bytes(range)) => merge(&mut resource, bytes, range)?,
                (2, Payload::Bytes(range)) if !range.is_empty() => self.groups.push(Group { resource: number, range }),
                (3, Payload::Bytes(range)) => schema_url = text(bytes, range)?,
                _ => {}
            }
        }
        self.resources.push((resource, schema_url));
        Ok(())
    }

    /// Decodes the next items, until they are of so many bytes together; `None` when there are no more.
    ///
    /// An error means that the request is no OTLP request. Items without usable ids are counted and left out.
    pub fn next(&mut self, bytes: usize) -> Result<Option<Received>, OtlpError> {
        let mut received = Received::default();
        let mut used = 0;
        while used < bytes
            && let Some(group) = self.groups.get(self.group).cloned()
        {
            let origin = match &self.origin {
                Some(origin) => Arc::clone(origin),
                None => Arc::clone(self.origin.insert(self.read_origin(&group)?)),
            };
            let mut part = Telemetry { origin, ..Telemetry::default() };
            let mut fields = Fields::of(&self.bytes, self.at..group.range.end);
            let mut ended = true;
            while let Some(field) = fields.next()? {
                if let (2, Payload::Bytes(range)) = field {
                    used += range.len().max(1);
                    let message = &self.bytes[range];
                    match self.items {
                        Items::Spans => {
                            part.spans.extend(received.keep(take_span(decode::<ProtoSpan>("span", message)?)));
                        }
                        Items::LogRecords => {
                            part.logs.extend(received.keep(take_log(decode::<ProtoLogRecord>("log record", message)?)));
                        }
                    }
                }
                if used >= bytes {
                    ended = false;
                    break;
                }
            }
            self.at = fields.at;
            if ended {
                self.group += 1;
                self.origin = None;
                self.at = self.groups.get(self.group).map_or(0, |group| group.range.start);
            }
            if !part.spans.is_empty() || !part.logs.is_empty() {
                received.telemetry.push(part);
            }
        }
        Ok((used > 0).then_some(received))
    }

    /// Whether every item is decoded.
    pub fn is_done(&self) -> bool {
        self.group >= self.groups.len()
    }

    fn read_origin(&self, group: &Group) -> Result<Arc<Origin>, OtlpError> {
        let (mut scope, mut schema_url) = (None, String::new());
        let mut fields = Fields::of(&self.bytes, group.range.clone());
        while let Some(field) = fields.next()? {
            match field {
                (1, Payload::Bytes(range)) => {
                    merge(scope.get_or_insert_with(InstrumentationScope::default), &self.bytes, range)?;
                }
                (3, Payload::Bytes(range)) => schema_url = text(&self.bytes, range)?,
                _ => {}
            }
        }
        let (resource, resource_schema_url) = &self.resources[group.resource];
        Ok(origin(resource, resource_schema_url, scope, schema_url))
    }
}

fn decode<T: Message + Default>(what: &'static str, message: &[u8]) -> Result<T, OtlpError> {
    T::decode(message).map_err(|e| OtlpError::Malformed { what, reason: e.to_string() })
}

/// A message that stands twice is one message, as protobuf has it.
fn merge(message: &mut impl Message, bytes: &[u8], range: Range<usize>) -> Result<(), OtlpError> {
    message.merge(&bytes[range]).map_err(|e| malformed(e.to_string()))
}

fn text(bytes: &[u8], range: Range<usize>) -> Result<String, OtlpError> {
    str::from_utf8(&bytes[range]).map(str::to_owned).map_err(|e| malformed(e.to_string()))
}

fn malformed(reason: impl Into<String>) -> OtlpError {
    OtlpError::Malformed { what: "request", reason: reason.into() }
}

/// The fields of a message, with their places.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

enum Payload {
    Bytes(Range<usize>),
    Other,
}

impl<'a> Fields<'a> {
    fn of(bytes: &'a [u8], range: Range<usize>) -> Self {
        Self { bytes, at: range.start, end: range.end }
    }

    /// The next field's number and payload.
    fn next(&mut self) -> Result<Option<(u64, Payload)>, OtlpError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let tag = self.varint()?;
        let payload = match tag & 7 {
            0 => {
                self.varint()?;
                Payload::Other
            }
            1 => self.skip(8)?,
            2 => {
                let length = self.varint()?;
                let start = self.at;
                self.skip(usize::try_from(length).unwrap_or(usize::MAX))?;
                Payload::Bytes(start..self.at)
            }
            5 => self.skip(4)?,
            other => return Err(malformed(format!("wire type {other} has no place in it"))),
        };
        match tag >> 3 {
            0 => Err(malformed("a field has number 0")),
            number => Ok(Some((number, payload))),
        }
    }

    fn skip(&mut self, length: usize) -> Result<Payload, OtlpError> {
        match self.at.checked_add(length) {
            Some(at) if at <= self.end => {
                self.at = at;
                Ok(Payload::Other)
            }
            _ => Err(malformed("it ends early")),
        }
    }

    fn varint(&mut self) -> Result<u64, OtlpError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte =
                self.bytes.get(self.at).filter(|_| self.at < self.end).ok_or_else(|| malformed("it ends early"))?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number is longer than ten bytes"))
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Key, LogRecord, Span, SpanId, TraceId, Value};
    use crate::trace::requests::{logs_request, receive_logs, receive_traces, traces_request};

    fn telemetry(groups: &[(u8, u8, u8)]) -> Vec<Telemetry> {
        let of = |(resource, scope, count): &(u8, u8, u8)| {
            let origin = Origin {
                resource: vec![(Key::from("service.name"), Value::from(format!("service {resource}")))],
                resource_schema_url: "r".repeat(usize::from(*resource % 2)),
                scope_name: "s".repeat(usize::from(*scope)),
                scope_schema_url: "u".repeat(usize::from(*scope % 3)),
                ..Origin::default()
            };
            let ids = |n: u8| (TraceId::from_bytes([n; 16]), SpanId::from_bytes([n; 8]));
            let span = |n: u8| Span::open(ids(n).0, ids(n).1, None, "work", u64::from(n));
            Telemetry { origin: Arc::new(origin), spans: (0..*count).map(span).collect(), logs: Vec::new() }
        };
        groups.iter().map(of).collect()
    }

    /// All pieces of a request, and the whole as one decodes it.
    fn pieces(bytes: &[u8], items: Items, size: usize) -> Result<Received, OtlpError> {
        let mut incoming = Incoming::new(Bytes::copy_from_slice(bytes), items)?;
        let mut all = Received::default();
        while let Some(mut piece) = incoming.next(size)? {
            all.rejected += piece.rejected;
            all.reason = all.reason.or(piece.reason.take());
            for part in piece.telemetry {
                match all.telemetry.last_mut().filter(|last| Arc::ptr_eq(&last.origin, &part.origin)) {
                    Some(last) => {
                        last.spans.extend(part.spans);
                        last.logs.extend(part.logs);
                    }
                    None => all.telemetry.push(part),
                }
            }
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_are_the_whole(
            groups in proptest::collection::vec((0..3_u8, 0..4_u8, 0..4_u8), 0..6),
            size in 1..200_usize,
        ) {
            // Ids of the first span of each group are all zero: those are rejected.
            let request = traces_request(&telemetry(&groups));
            let found = pieces(&request.encode_to_vec(), Items::Spans, size);
            prop_assert_eq!(found, Ok(receive_traces(request)));
        }

        #[test]
        fn bytes_that_one_decoder_takes_the_other_takes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let whole = ExportTraceServiceRequest::decode(bytes.as_slice()).map(receive_traces);
            let found = pieces(&bytes, Items::Spans, 7);
            // Groups, of protobuf's first days, are the one thing that is skipped there and refused here.
            if let Ok(whole) = whole && !bytes.iter().any(|byte| byte & 7 == 3) {
                prop_assert_eq!(found, Ok(whole));
            }
        }
    }

    #[test]
    fn log_records_come_in_pieces_too() {
        let mut part = telemetry(&[(1, 1, 0)]).remove(0);
        let log = |n: u64| LogRecord {
            time_unix_nano: n,
            observed_unix_nano: n,
            severity_number: 9,
            severity_text: String::new(),
            event_name: "e".into(),
            body: Value::from("text"),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            flags: 0,
            trace_id: None,
            span_id: None,
        };
        part.logs = (0..10).map(log).collect();
        let request: ExportLogsServiceRequest = logs_request(&[part]);
        assert_eq!(pieces(&request.encode_to_vec(), Items::LogRecords, 30), Ok(receive_logs(request)));
    }

    #[test]
    fn what_is_no_request_is_an_error_wherever_it_breaks() {
        let whole = traces_request(&telemetry(&[(1, 1, 3)])).encode_to_vec();
        for end in 1..whole.len() {
            assert!(pieces(&whole[..end], Items::Spans, usize::MAX).is_err(), "cut at {end}");
        }
        assert!(pieces(&[0x0b], Items::Spans, 1).is_err(), "a group");
        assert!(pieces(&[0x00, 0x00], Items::Spans, 1).is_err(), "field 0");
        // Deep nesting ends the decoder, not the stack.
        let wrap = |inner: &[u8], tag: u8| {
            let mut outer = vec![tag];
            prost::encoding::encode_varint(inner.len() as u64, &mut outer);
            outer.extend_from_slice(inner);
            outer
        };
        // A list's items and a value that is a list, in turn.
        let value = (0..10_000).fold(Vec::new(), |inner, n| wrap(&inner, if n % 2 == 0 { 0x0a } else { 0x2a }));
        let span = wrap(&wrap(&value, 0x12), 0x4a);
        let request = wrap(&wrap(&wrap(&span, 0x12), 0x12), 0x0a);
        assert!(matches!(pieces(&request, Items::Spans, 1), Err(OtlpError::Malformed { .. })));
    }
}
