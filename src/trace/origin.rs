//! An origin as protobuf messages: the resource, which many spans share, and the frame of its scope.
//!
//! Source: OTLP 1.11 `resource.proto`, `trace.proto`. The frame is a group of a trace request that holds a scope and both
//! schema URLs, but no resource and no spans.

use std::sync::Arc;

use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message;

use super::otlp::OtlpError;
use super::requests;
use crate::model::{Key, Origin, Value};

/// This program as the maker of telemetry, in a process with this resource.
pub fn own(resource: Vec<(Key, Value)>) -> Origin {
    Origin {
        resource,
        scope_name: env!("CARGO_PKG_NAME").to_owned(),
        scope_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Origin::default()
    }
}

/// The resource of an origin; for attributes alone the bytes of [`super::otlp::write_resource`].
pub fn write_resource(origin: &Origin) -> Vec<u8> {
    requests::resource_of(origin).encode_to_vec()
}

/// The frame of an origin's scope; empty where nothing is known but the resource.
pub fn write_frame(origin: &Origin) -> Vec<u8> {
    let scope = ScopeSpans {
        scope: requests::scope_of(origin),
        spans: Vec::new(),
        schema_url: origin.scope_schema_url.clone(),
    };
    ResourceSpans {
        resource: None,
        scope_spans: if scope == ScopeSpans::default() { Vec::new() } else { vec![scope] },
        schema_url: origin.resource_schema_url.clone(),
    }
    .encode_to_vec()
}

/// The origin of these two.
pub fn read_origin(resource: &[u8], frame: &[u8]) -> Result<Arc<Origin>, OtlpError> {
    let malformed =
        |what: &'static str| move |e: prost::DecodeError| OtlpError::Malformed { what, reason: e.to_string() };
    let resource = Resource::decode(resource).map_err(malformed("resource"))?;
    let mut frame = ResourceSpans::decode(frame).map_err(malformed("scope"))?;
    let scope = frame.scope_spans.pop().unwrap_or_default();
    let source = scope.scope.unwrap_or_default();
    Ok(Arc::new(requests::origin(resource, frame.schema_url, source, scope.schema_url)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Entity;

    #[test]
    fn an_origin_reads_back_as_it_was() {
        let whole = Origin {
            resource: vec![(Key::from("service.name"), Value::from("a")), (Key::from("x"), Value::Array(vec![]))],
            resource_dropped_attributes_count: 2,
            entities: vec![Entity { kind: "service".to_owned(), ..Entity::default() }],
            resource_schema_url: "https://example.test/r".to_owned(),
            scope_name: "lib".to_owned(),
            scope_version: "1".to_owned(),
            scope_attributes: vec![(Key::from("k"), Value::Bytes(vec![0, 255]))],
            scope_dropped_attributes_count: 1,
            scope_schema_url: "https://example.test/s".to_owned(),
        };
        let bare = Origin { resource: whole.resource.clone(), ..Origin::default() };
        for origin in [whole, bare, Origin::default()] {
            let read = read_origin(&write_resource(&origin), &write_frame(&origin)).expect("it reads back");
            assert_eq!(*read, origin);
        }
        assert!(write_frame(&Origin::default()).is_empty());
    }
}
