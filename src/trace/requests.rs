//! OTLP export requests as telemetry and back: spans and log records with the origin that they share.
//!
//! Source: OTLP 1.11 `trace_service.proto`, `logs_service.proto`. What has no usable id is left out and counted, for the
//! protocol lets a receiver take a request in part.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{EntityRef, InstrumentationScope};
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

use super::otlp::{OtlpError, decode_attributes, decode_log, decode_span, encode_attributes, encode_log, encode_span};
use crate::model::{Entity, Origin, SpanId, Telemetry, TraceId};

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
    fn keep<T>(&mut self, result: Result<T, OtlpError>) -> Option<T> {
        result
            .map_err(|error| {
                self.rejected += 1;
                self.reason.get_or_insert_with(|| error.to_string());
            })
            .ok()
    }
}

/// The telemetry of a trace request. Spans whose ids are missing, all zero or of a wrong length are rejected.
pub fn receive_traces(request: ExportTraceServiceRequest) -> Received {
    let mut received = Received::default();
    for group in request.resource_spans {
        let resource = group.resource.unwrap_or_default();
        for scope in group.scope_spans {
            let origin = origin(&resource, &group.schema_url, scope.scope, scope.schema_url);
            let mut spans = Vec::with_capacity(scope.spans.len());
            for span in scope.spans {
                let decoded = decode_span(span).and_then(|span| {
                    set("span", "trace id", span.trace_id != TraceId::from_bytes([0; 16]), 16)?;
                    set("span", "span id", span.span_id != SpanId::from_bytes([0; 8]), 8)?;
                    Ok(span)
                });
                spans.extend(received.keep(decoded));
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
    let mut received = Received::default();
    for group in request.resource_logs {
        let resource = group.resource.unwrap_or_default();
        for scope in group.scope_logs {
            let origin = origin(&resource, &group.schema_url, scope.scope, scope.schema_url);
            let mut logs = Vec::with_capacity(scope.log_records.len());
            for record in scope.log_records {
                if let Some(mut log) = received.keep(decode_log(record)) {
                    log.trace_id = log.trace_id.filter(|id| *id != TraceId::from_bytes([0; 16]));
                    log.span_id = log.span_id.filter(|id| *id != SpanId::from_bytes([0; 8]));
                    logs.push(log);
                }
            }
            if !logs.is_empty() {
                received.telemetry.push(Telemetry { origin, spans: Vec::new(), logs });
            }
        }
    }
    received
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

/// The origin of these messages.
pub fn origin(
    resource: &Resource,
    resource_schema_url: &str,
    scope: Option<InstrumentationScope>,
    scope_schema_url: String,
) -> Arc<Origin> {
    let scope = scope.unwrap_or_default();
    Arc::new(Origin {
        resource: decode_attributes(resource.attributes.clone()),
        resource_dropped_attributes_count: resource.dropped_attributes_count,
        entities: resource.entity_refs.iter().cloned().map(entity).collect(),
        resource_schema_url: resource_schema_url.to_owned(),
        scope_name: scope.name,
        scope_version: scope.version,
        scope_attributes: decode_attributes(scope.attributes),
        scope_dropped_attributes_count: scope.dropped_attributes_count,
        scope_schema_url,
    })
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
    use crate::model::{Key, Span, Value};

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
    fn a_span_without_an_id_is_rejected_and_the_rest_is_taken() {
        let mut request = traces_request(&[telemetry("a", "one"), telemetry("b", "two")]);
        request.resource_spans[0].scope_spans[0].spans[0].trace_id = vec![0; 16];
        let received = receive_traces(request);
        assert_eq!((received.telemetry.len(), received.rejected), (1, 1));
        assert_eq!(received.reason.as_deref(), Some("decoding an OTLP span: the trace id has 0 bytes, expected 16"));
    }
}
