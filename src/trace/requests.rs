//! OTLP export requests as telemetry and back: spans and log records with the origin that they share.
//!
//! Source: OTLP 1.11 `trace_service.proto`, `logs_service.proto`. What has no usable id is left out and counted, for the
//! protocol lets a receiver take a request in part.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{EntityRef, InstrumentationScope};
use opentelemetry_proto::tonic::logs::v1::{LogRecord as ProtoLogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as ProtoSpan};
use prost::Message as _;

use super::otlp::{OtlpError, decode_attributes, decode_log, decode_span, encode_attributes, encode_log, encode_span};
use crate::model::{Entity, Key, LogRecord, Origin, Span, SpanId, Telemetry, TraceId, Value};

/// What a request held, and what of it cannot be taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Received {
    /// The good items, in their order.
    pub telemetry: Vec<Telemetry>,
    /// How many items are not taken.
    pub rejected: u64,
    /// Why the first of them is not.
    pub reason: Option<String>,
}

impl Received {
    pub(super) fn keep<T>(&mut self, result: Result<T, OtlpError>) -> Option<T> {
        result
            .map_err(|error| {
                self.rejected += 1;
                self.reason.get_or_insert_with(|| error.to_string());
            })
            .ok()
    }

    /// The origin of so many items; without one all of them are rejected.
    fn keep_origin(&mut self, origin: Result<Arc<Origin>, OtlpError>, items: usize) -> Option<Arc<Origin>> {
        match origin {
            Ok(origin) => Some(origin),
            Err(_) if items == 0 => None,
            Err(error) => {
                self.rejected += items as u64 - 1;
                self.keep(Err(error))
            }
        }
    }
}

/// The telemetry of a trace request. Spans whose ids are missing, all zero or of a wrong length are rejected.
pub fn receive_traces(request: ExportTraceServiceRequest) -> Received {
    let (mut received, mut origins) = (Received::default(), Origins::default());
    for group in request.resource_spans {
        let resource = group.resource.unwrap_or_default();
        for scope in group.scope_spans {
            let origin = origins.of_group(&resource, &group.schema_url, scope.scope, scope.schema_url);
            let Some(origin) = received.keep_origin(origin, scope.spans.len()) else { continue };
            let mut spans = Vec::with_capacity(scope.spans.len());
            for span in scope.spans {
                spans.extend(received.keep(take_span(span)));
            }
            if !spans.is_empty() {
                received.telemetry.push(Telemetry { origin, spans, logs: Vec::new() });
            }
        }
    }
    received
}

/// The telemetry of a logs request. Ids that are all zero count as unset.
pub fn receive_logs(request: ExportLogsServiceRequest) -> Received {
    let (mut received, mut origins) = (Received::default(), Origins::default());
    for group in request.resource_logs {
        let resource = group.resource.unwrap_or_default();
        for scope in group.scope_logs {
            let origin = origins.of_group(&resource, &group.schema_url, scope.scope, scope.schema_url);
            let Some(origin) = received.keep_origin(origin, scope.log_records.len()) else { continue };
            let mut logs = Vec::with_capacity(scope.log_records.len());
            for record in scope.log_records {
                logs.extend(received.keep(take_log(record)));
            }
            if !logs.is_empty() {
                received.telemetry.push(Telemetry { origin, spans: Vec::new(), logs });
            }
        }
    }
    received
}

/// The span of a message, if it has ids and can be written in every form.
pub(super) fn take_span(span: ProtoSpan) -> Result<Span, OtlpError> {
    let mut span = decode_span(span)?;
    set("span", "trace id", span.trace_id != TraceId::from_bytes([0; 16]), 16)?;
    set("span", "span id", span.span_id != SpanId::from_bytes([0; 8]), 8)?;
    // Some SDKs write the parent of a root so.
    span.parent_span_id = span.parent_span_id.filter(|id| *id != SpanId::from_bytes([0; 8]));
    shallow("span", &span.attributes)?;
    span.events.iter().try_for_each(|event| shallow("span", &event.attributes))?;
    span.links.iter().try_for_each(|link| shallow("span", &link.attributes))?;
    Ok(span)
}

/// The log record of a message, if it can be written in every form. Ids that are all zero count as unset.
pub(super) fn take_log(record: ProtoLogRecord) -> Result<LogRecord, OtlpError> {
    let mut log = decode_log(record)?;
    log.trace_id = log.trace_id.filter(|id| *id != TraceId::from_bytes([0; 16]));
    log.span_id = log.span_id.filter(|id| *id != SpanId::from_bytes([0; 8]));
    shallow("log record", &log.attributes)?;
    if depth(&log.body) > MAX_DEPTH { Err(OtlpError::Deep { what: "log record", limit: MAX_DEPTH }) } else { Ok(log) }
}

/// How deep values may nest: a list in a list has depth two. What is taken must be readable in every form that it is
/// written in, and JSON needs four levels of its own for one of a map, of the 127 that its reader bears.
pub const MAX_DEPTH: usize = 28;

fn shallow(what: &'static str, attributes: &[(Key, Value)]) -> Result<(), OtlpError> {
    let deep = attributes.iter().any(|(_, value)| depth(value) > MAX_DEPTH);
    if deep { Err(OtlpError::Deep { what, limit: MAX_DEPTH }) } else { Ok(()) }
}

/// Nesting that the decoder has let pass, so that the recursion is bounded.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Map(pairs) => 1 + pairs.iter().map(|(_, value)| depth(value)).max().unwrap_or(0),
        _ => 0,
    }
}

/// The trace request of telemetry; neighbours that share a resource share its group.
pub fn traces_request(telemetry: &[Telemetry]) -> ExportTraceServiceRequest {
    let mut resource_spans: Vec<ResourceSpans> = Vec::new();
    for part in telemetry.iter().filter(|part| !part.spans.is_empty()) {
        let scope_spans = ScopeSpans {
            scope: scope_of(&part.origin),
            spans: part.spans.iter().map(encode_span).collect(),
            schema_url: part.origin.scope_schema_url.clone(),
        };
        let resource = resource_of(&part.origin);
        match resource_spans.last_mut() {
            Some(last)
                if last.resource.as_ref() == Some(&resource) && last.schema_url == part.origin.resource_schema_url =>
            {
                last.scope_spans.push(scope_spans);
            }
            _ => resource_spans.push(ResourceSpans {
                resource: Some(resource),
                scope_spans: vec![scope_spans],
                schema_url: part.origin.resource_schema_url.clone(),
            }),
        }
    }
    ExportTraceServiceRequest { resource_spans }
}

/// The logs request of telemetry; neighbours that share a resource share its group.
pub fn logs_request(telemetry: &[Telemetry]) -> ExportLogsServiceRequest {
    let mut resource_logs: Vec<ResourceLogs> = Vec::new();
    for part in telemetry.iter().filter(|part| !part.logs.is_empty()) {
        let scope_logs = ScopeLogs {
            scope: scope_of(&part.origin),
            log_records: part.logs.iter().map(encode_log).collect(),
            schema_url: part.origin.scope_schema_url.clone(),
        };
        let resource = resource_of(&part.origin);
        match resource_logs.last_mut() {
            Some(last)
                if last.resource.as_ref() == Some(&resource) && last.schema_url == part.origin.resource_schema_url =>
            {
                last.scope_logs.push(scope_logs);
            }
            _ => resource_logs.push(ResourceLogs {
                resource: Some(resource),
                scope_logs: vec![scope_logs],
                schema_url: part.origin.resource_schema_url.clone(),
            }),
        }
    }
    ExportLogsServiceRequest { resource_logs }
}

/// The resource of an origin as a protobuf message.
pub fn resource_of(origin: &Origin) -> Resource {
    Resource {
        attributes: encode_attributes(&origin.resource),
        dropped_attributes_count: origin.resource_dropped_attributes_count,
        entity_refs: origin.entities.iter().map(entity_ref).collect(),
    }
}

/// The scope of an origin as a protobuf message; `None` where nothing is known of it.
pub fn scope_of(origin: &Origin) -> Option<InstrumentationScope> {
    let scope = InstrumentationScope {
        name: origin.scope_name.clone(),
        version: origin.scope_version.clone(),
        attributes: encode_attributes(&origin.scope_attributes),
        dropped_attributes_count: origin.scope_dropped_attributes_count,
    };
    (scope != InstrumentationScope::default()).then_some(scope)
}

/// The most bytes of a resource or a scope: every group has its own copy.
pub(super) const LARGEST_ORIGIN: usize = 256 << 10;

/// The most bytes of the origins of a request that is not read in pieces.
const ALL_ORIGINS: usize = 32 << 20;

/// The origins of a request, with their bounds.
#[derive(Default)]
struct Origins {
    bytes: usize,
}

impl Origins {
    /// The origin of a group.
    fn of_group(
        &mut self,
        resource: &Resource,
        resource_schema_url: &str,
        scope: Option<InstrumentationScope>,
        scope_schema_url: String,
    ) -> Result<Arc<Origin>, OtlpError> {
        let scope = scope.unwrap_or_default();
        let large =
            |what, size, limit| if size > limit { Err(OtlpError::Large { what, size, limit }) } else { Ok(size) };
        let size = large("resource", resource.encoded_len() + resource_schema_url.len(), LARGEST_ORIGIN)?;
        let size = size + large("scope", scope.encoded_len() + scope_schema_url.len(), LARGEST_ORIGIN)?;
        self.bytes = large("request's resources and scopes, for all its groups", self.bytes + size, ALL_ORIGINS)?;
        take_origin(resource.clone(), resource_schema_url.to_owned(), scope, scope_schema_url)
    }
}

/// The origin of these messages, if it can be written in every form.
pub(super) fn take_origin(
    resource: Resource,
    resource_schema_url: String,
    scope: InstrumentationScope,
    scope_schema_url: String,
) -> Result<Arc<Origin>, OtlpError> {
    let origin = origin(resource, resource_schema_url, scope, scope_schema_url);
    shallow("resource", &origin.resource)?;
    shallow("scope", &origin.scope_attributes)?;
    Ok(Arc::new(origin))
}

/// The origin of these messages.
pub(super) fn origin(
    resource: Resource,
    resource_schema_url: String,
    scope: InstrumentationScope,
    scope_schema_url: String,
) -> Origin {
    Origin {
        resource: decode_attributes(resource.attributes),
        resource_dropped_attributes_count: resource.dropped_attributes_count,
        entities: resource.entity_refs.into_iter().map(entity).collect(),
        resource_schema_url,
        scope_name: scope.name,
        scope_version: scope.version,
        scope_attributes: decode_attributes(scope.attributes),
        scope_dropped_attributes_count: scope.dropped_attributes_count,
        scope_schema_url,
    }
}

fn set(what: &'static str, field: &'static str, is_set: bool, expected: usize) -> Result<(), OtlpError> {
    if is_set { Ok(()) } else { Err(OtlpError::IdLength { what, field, found: 0, expected }) }
}

fn entity(entity: EntityRef) -> Entity {
    Entity {
        schema_url: entity.schema_url,
        kind: entity.r#type,
        id_keys: entity.id_keys,
        description_keys: entity.description_keys,
    }
}

fn entity_ref(entity: &Entity) -> EntityRef {
    EntityRef {
        schema_url: entity.schema_url.clone(),
        r#type: entity.kind.clone(),
        id_keys: entity.id_keys.clone(),
        description_keys: entity.description_keys.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telemetry(resource: &'static str, scope: &str) -> Telemetry {
        let origin = Origin {
            resource: vec![(Key::from("service.name"), Value::from(resource)), (Key::from("x"), Value::Array(vec![]))],
            resource_dropped_attributes_count: 2,
            entities: vec![Entity { kind: "service".to_owned(), ..Entity::default() }],
            resource_schema_url: "https://example.test/r".to_owned(),
            scope_name: scope.to_owned(),
            scope_schema_url: "https://example.test/s".to_owned(),
            ..Origin::default()
        };
        let span = Span::open(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), None, "work", 5);
        Telemetry { origin: Arc::new(origin), spans: vec![span], logs: Vec::new() }
    }

    #[test]
    fn what_is_received_goes_out_as_it_came() {
        let parts = vec![telemetry("a", "one"), telemetry("a", "two"), telemetry("b", "")];
        let request = traces_request(&parts);
        assert_eq!(request.resource_spans.len(), 2, "neighbours share their resource");
        let received = receive_traces(request.clone());
        assert_eq!((received.rejected, &received.telemetry), (0, &parts));
        assert_eq!(traces_request(&received.telemetry), request);
    }

    #[test]
    fn values_as_deep_as_are_taken_are_read_again_in_both_encodings() {
        let nested = |depth: usize| {
            (0..depth).fold(Value::Int(1), |inner, n| match n % 2 {
                0 => Value::Map(vec![(Key::from("k"), inner)]),
                _ => Value::Array(vec![inner]),
            })
        };
        let maps = |depth: usize| (0..depth).fold(Value::Int(1), |inner, _| Value::Map(vec![(Key::from("k"), inner)]));
        let with = |value: Value| {
            let mut part = telemetry("a", "one");
            part.spans[0].set("deep", value.clone());
            part.spans[0].add_event("e", 1, vec![(Key::from("deep"), value)]);
            part
        };
        for value in [nested(MAX_DEPTH), maps(MAX_DEPTH)] {
            let request = traces_request(&[with(value)]);
            let bytes = prost::Message::encode_to_vec(&request);
            let again: ExportTraceServiceRequest = prost::Message::decode(bytes.as_slice()).expect("protobuf");
            assert_eq!(again, request);
            let json = crate::trace::otlp_json::encode_trace_request(&request);
            assert_eq!(crate::trace::otlp_json::decode_trace_request(&json).expect("JSON"), request);
            assert_eq!(receive_traces(request).rejected, 0);
        }
        let received = receive_traces(traces_request(&[with(maps(MAX_DEPTH + 1)), telemetry("a", "one")]));
        assert_eq!((received.rejected, received.telemetry.len()), (1, 1));
        assert!(received.reason.is_some_and(|reason| reason.contains("deeper than 28 levels")));
    }

    #[test]
    fn a_span_without_an_id_is_rejected_and_the_rest_is_taken() {
        let mut request = traces_request(&[telemetry("a", "one"), telemetry("b", "two")]);
        request.resource_spans[0].scope_spans[0].spans[0].trace_id = vec![0; 16];
        let received = receive_traces(request);
        assert_eq!((received.telemetry.len(), received.rejected), (1, 1));
        assert_eq!(received.reason.as_deref(), Some("decoding an OTLP span: the trace id has 0 bytes, expected 16"));
    }
}
