//! Where telemetry comes from: OTLP's resource and instrumentation scope, and what came under one of them.
//!
//! Source: OTLP 1.11 `resource.proto`, `common.proto`, and the groups of `trace.proto` and `logs.proto`.

use std::sync::Arc;

use super::{Key, LogRecord, Span, Value};

/// A reference to an entity of a resource.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entity {
    /// Schema of the entity.
    pub schema_url: String,
    /// Its type, such as `service`.
    pub kind: String,
    /// Attributes of the resource that identify it.
    pub id_keys: Vec<String>,
    /// Attributes of the resource that describe it.
    pub description_keys: Vec<String>,
}

/// Who made spans and log records: the process and, within it, the library.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origin {
    /// The resource's attributes, in their order.
    pub resource: Vec<(Key, Value)>,
    /// How many attributes of the resource its source dropped.
    pub resource_dropped_attributes_count: u32,
    /// The resource's entities.
    pub entities: Vec<Entity>,
    /// Schema of the resource.
    pub resource_schema_url: String,
    /// The instrumentation scope's name; empty if it is not known.
    pub scope_name: String,
    /// Its version.
    pub scope_version: String,
    /// Its attributes.
    pub scope_attributes: Vec<(Key, Value)>,
    /// How many attributes of the scope its source dropped.
    pub scope_dropped_attributes_count: u32,
    /// Schema of the spans or log records.
    pub scope_schema_url: String,
}

impl Origin {
    /// The text of a resource attribute.
    pub fn resource_text(&self, key: &str) -> Option<&str> {
        self.resource.iter().find_map(|(name, value)| match value {
            Value::Str(text) if name == key => Some(&**text),
            _ => None,
        })
    }
}

/// Spans and log records of one origin.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Telemetry {
    /// Who made them.
    pub origin: Arc<Origin>,
    /// Ended spans, of any number of traces.
    pub spans: Vec<Span>,
    /// Log records, of any number of traces or of none.
    pub logs: Vec<LogRecord>,
}
