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
use super::requests::{LARGEST_ORIGIN, Received, take_log, take_origin, take_span};
use super::wire::{Fields, Payload, malformed, parts_of_log, parts_of_span};
use crate::model::{Origin, Telemetry};

/// The most groups of a request. Each needs its origin, however few bytes it has.
const GROUPS: usize = 16_384;
/// The most parts of a span or log record: attributes, events, links and what is in them. Each takes some hundred bytes
/// however few it is sent in.
const PARTS: usize = 100_000;
/// What a part takes in memory, in bytes.
const PART: usize = 128;

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
    groups: Vec<Group>,
    /// The group that is being read, where in it, and its origin once known, or why it has none.
    group: usize,
    at: usize,
    origin: Option<Result<Arc<Origin>, OtlpError>>,
}

/// A `ScopeSpans` or `ScopeLogs`.
#[derive(Debug, Clone)]
struct Group {
    /// The `ResourceSpans` or `ResourceLogs` that it stands in.
    resource: Range<usize>,
    range: Range<usize>,
}

impl Incoming {
    /// Reads the frame of a request.
    pub fn new(bytes: Bytes, items: Items) -> Result<Self, OtlpError> {
        let mut incoming = Self { items, groups: Vec::new(), group: 0, at: 0, origin: None, bytes: Bytes::new() };
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
        let resource = range.clone();
        let mut fields = Fields::of(bytes, range);
        while let Some(field) = fields.next()? {
            if let (2, Payload::Bytes(range)) = field
                && !range.is_empty()
            {
                if self.groups.len() >= GROUPS {
                    return Err(malformed(format!("it has more than {GROUPS} groups; send it in several requests")));
                }
                self.groups.push(Group { resource: resource.clone(), range });
            }
        }
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
            if self.origin.is_none() {
                let (origin, size) = self.read_origin(&group)?;
                used += size;
                self.origin = Some(origin);
            }
            let origin = self.origin.clone().unwrap_or_else(|| Ok(Arc::default()));
            let refused = origin.as_ref().err().cloned();
            let mut part = Telemetry { origin: origin.unwrap_or_default(), ..Telemetry::default() };
            let mut fields = Fields::of(&self.bytes, self.at..group.range.end);
            let mut ended = true;
            while let Some(field) = fields.next()? {
                if let (2, Payload::Bytes(range)) = field {
                    let (what, parts) = match self.items {
                        Items::Spans => ("span", parts_of_span(&self.bytes, range.clone(), PARTS)?),
                        Items::LogRecords => ("log record", parts_of_log(&self.bytes, range.clone(), PARTS)?),
                    };
                    used += range.len().max(1) + PART * parts;
                    let message = &self.bytes[range];
                    if let Some(error) = &refused {
                        received.keep::<()>(Err(error.clone()));
                    } else if parts > PARTS {
                        received.keep::<()>(Err(OtlpError::Crowded { what, limit: PARTS }));
                    } else {
                        match self.items {
                            Items::Spans => {
                                part.spans.extend(received.keep(take_span(decode::<ProtoSpan>(what, message)?)));
                            }
                            Items::LogRecords => {
                                part.logs.extend(received.keep(take_log(decode::<ProtoLogRecord>(what, message)?)));
                            }
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

    /// The origin of a group, or why its items cannot be taken, which is no error of the request; and how many bytes it is
    /// of.
    fn read_origin(&self, group: &Group) -> Result<(Result<Arc<Origin>, OtlpError>, usize), OtlpError> {
        let (mut resource, mut resource_schema_url, mut size) = (Resource::default(), String::new(), 0);
        let too_large = |what, size| Ok((Err(OtlpError::Large { what, size, limit: LARGEST_ORIGIN }), 0));
        let mut fields = Fields::of(&self.bytes, group.resource.clone());
        while let Some(field) = fields.next()? {
            match field {
                (1 | 3, Payload::Bytes(range)) if size + range.len() > LARGEST_ORIGIN => {
                    return too_large("resource", size + range.len());
                }
                (1, Payload::Bytes(range)) => {
                    size += range.len();
                    merge(&mut resource, &self.bytes, range)?;
                }
                (3, Payload::Bytes(range)) => resource_schema_url = text(&self.bytes, range)?,
                _ => {}
            }
        }
        let of_resource = size;
        let (mut scope, mut schema_url) = (None, String::new());
        let mut fields = Fields::of(&self.bytes, group.range.clone());
        while let Some(field) = fields.next()? {
            match field {
                (1 | 3, Payload::Bytes(range)) if size - of_resource + range.len() > LARGEST_ORIGIN => {
                    return too_large("scope", size - of_resource + range.len());
                }
                (1, Payload::Bytes(range)) => {
                    size += range.len();
                    merge(scope.get_or_insert_with(InstrumentationScope::default), &self.bytes, range)?;
                }
                (3, Payload::Bytes(range)) => schema_url = text(&self.bytes, range)?,
                _ => {}
            }
        }
        Ok((take_origin(resource, resource_schema_url, scope.unwrap_or_default(), schema_url), size))
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

    /// A request of one span under this origin.
    fn under(origin: Origin) -> Vec<u8> {
        let span = Span::open(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), None, "work", 1);
        traces_request(&[Telemetry { origin: Arc::new(origin), spans: vec![span], logs: Vec::new() }]).encode_to_vec()
    }

    #[test]
    fn what_stands_under_an_origin_that_cannot_be_kept_is_rejected() {
        let nested = |depth| (0..depth).fold(Value::Int(1), |inner, _| Value::Array(vec![inner]));
        let check = |origin: Origin, rejected: u64, reason: &str| {
            let bytes = under(origin);
            let by_pieces = pieces(&bytes, Items::Spans, 100).expect("a request");
            let request = ExportTraceServiceRequest::decode(bytes.as_slice()).expect("a request");
            for received in [by_pieces, receive_traces(request)] {
                assert_eq!(received.rejected, rejected, "{reason}");
                let found = received.reason.unwrap_or_default();
                assert!(found.contains(reason), "{found}");
            }
        };
        let scope = |depth| Origin { scope_attributes: vec![(Key::from("k"), nested(depth))], ..Origin::default() };
        let resource = |value| Origin { resource: vec![(Key::from("k"), value)], ..Origin::default() };
        check(scope(28), 0, "");
        // As deep as a decoder bears: stored, it would never be read again.
        check(scope(45), 1, "an OTLP scope: a value nests deeper than 28 levels");
        check(resource(nested(29)), 1, "an OTLP resource: a value nests deeper than 28 levels");
        check(resource(Value::from("x".repeat(100_000))), 0, "");
        check(resource(Value::from("x".repeat(300_000))), 1, "an OTLP resource: it has 300");
    }

    #[test]
    fn origins_count_towards_the_size_of_a_piece() {
        let origin = Origin { resource: vec![(Key::from("k"), Value::from("x".repeat(100_000)))], ..Origin::default() };
        let part = |n: u8| {
            let span = Span::open(TraceId::from_bytes([n; 16]), SpanId::from_bytes([n; 8]), None, "work", 1);
            let origin = Origin { scope_name: n.to_string(), ..origin.clone() };
            Telemetry { origin: Arc::new(origin), spans: vec![span], logs: Vec::new() }
        };
        let request = traces_request(&(1..=40).map(part).collect::<Vec<_>>());
        assert_eq!(request.resource_spans.len(), 1, "all of them have one resource");
        let mut incoming = Incoming::new(request.encode_to_vec().into(), Items::Spans).expect("a request");
        let mut sizes = Vec::new();
        while let Some(piece) = incoming.next(1 << 20).expect("a piece") {
            sizes.push(piece.telemetry.len());
        }
        assert!(sizes.len() >= 4 && sizes.iter().sum::<usize>() == 40, "{sizes:?}");
    }

    #[test]
    fn crowds_of_empty_parts_are_rejected_before_they_are_decoded() {
        // An empty link is two bytes.
        let links = [0x6a, 0].repeat(200_000);
        let mut span = vec![0x0a, 16];
        span.extend([1; 16]);
        span.extend([0x12, 8]);
        span.extend([2; 8]);
        span.extend(&links);
        let wrap = |field: u8, content: &[u8]| {
            let mut message = vec![field << 3 | 2];
            prost::encoding::encode_varint(content.len() as u64, &mut message);
            message.extend(content);
            message
        };
        let request = wrap(1, &wrap(2, &wrap(2, &span)));
        let received = pieces(&request, Items::Spans, 1 << 20).expect("a request");
        assert_eq!((received.rejected, received.telemetry.len()), (1, 0));
        assert!(received.reason.is_some_and(|reason| reason.contains("more than 100000")));
        // Groups without anything in them are nothing; too many with something are refused.
        assert_eq!(pieces(&[0x0a, 0].repeat(1_000_000), Items::Spans, 1 << 20).expect("a request").rejected, 0);
        let group = wrap(1, &wrap(2, &[0x12, 0]));
        assert!(pieces(&group.repeat(20_000), Items::Spans, 1 << 20).is_err());
    }

    #[test]
    fn a_parent_of_zeros_is_none() {
        let mut span = Span::open(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), None, "work", 1);
        span.parent_span_id = Some(SpanId::from_bytes([0; 8]));
        let part = Telemetry { origin: Arc::default(), spans: vec![span], logs: Vec::new() };
        let received = pieces(&traces_request(&[part]).encode_to_vec(), Items::Spans, 100).expect("a request");
        assert_eq!(received.telemetry[0].spans[0].parent_span_id, None);
    }
}
