//! OTLP messages as JSON. Fields that hold their default are left out, as protobuf's JSON mapping has it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, EntityRef, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

/// The request as JSON.
pub fn encode_trace_request(request: &ExportTraceServiceRequest) -> Vec<u8> {
    document(|o| o.messages("resourceSpans", &request.resource_spans, resource_spans))
}

/// The request as JSON.
pub fn encode_logs_request(request: &ExportLogsServiceRequest) -> Vec<u8> {
    document(|o| o.messages("resourceLogs", &request.resource_logs, resource_logs))
}

/// The response as JSON: `{}` on full success.
pub fn encode_trace_response(response: &ExportTraceServiceResponse) -> Vec<u8> {
    document(|o| {
        if let Some(partial) = &response.partial_success {
            o.object("partialSuccess", |o| {
                o.int64("rejectedSpans", partial.rejected_spans);
                o.text("errorMessage", &partial.error_message);
            });
        }
    })
}

/// The response as JSON: `{}` on full success.
pub fn encode_logs_response(response: &ExportLogsServiceResponse) -> Vec<u8> {
    document(|o| {
        if let Some(partial) = &response.partial_success {
            o.object("partialSuccess", |o| {
                o.int64("rejectedLogRecords", partial.rejected_log_records);
                o.text("errorMessage", &partial.error_message);
            });
        }
    })
}

/// A `google.rpc.Status` as JSON, the body of an error.
pub fn encode_status(code: i32, message: &str) -> Vec<u8> {
    document(|o| {
        o.number("code", code.into());
        o.text("message", message);
    })
}

fn resource_spans(o: &mut Object<'_>, group: &ResourceSpans) {
    if let Some(content) = &group.resource {
        o.object("resource", |o| resource(o, content));
    }
    o.messages("scopeSpans", &group.scope_spans, scope_spans);
    o.text("schemaUrl", &group.schema_url);
}

fn scope_spans(o: &mut Object<'_>, group: &ScopeSpans) {
    if let Some(content) = &group.scope {
        o.object("scope", |o| scope(o, content));
    }
    o.messages("spans", &group.spans, span);
    o.text("schemaUrl", &group.schema_url);
}

fn span(o: &mut Object<'_>, span: &Span) {
    o.hex("traceId", &span.trace_id);
    o.hex("spanId", &span.span_id);
    o.text("traceState", &span.trace_state);
    o.hex("parentSpanId", &span.parent_span_id);
    o.number("flags", span.flags.into());
    o.text("name", &span.name);
    o.number("kind", span.kind.into());
    o.uint64("startTimeUnixNano", span.start_time_unix_nano);
    o.uint64("endTimeUnixNano", span.end_time_unix_nano);
    o.messages("attributes", &span.attributes, key_value);
    o.number("droppedAttributesCount", span.dropped_attributes_count.into());
    o.messages("events", &span.events, event);
    o.number("droppedEventsCount", span.dropped_events_count.into());
    o.messages("links", &span.links, link);
    o.number("droppedLinksCount", span.dropped_links_count.into());
    if let Some(content) = &span.status {
        o.object("status", |o| status(o, content));
    }
}

fn event(o: &mut Object<'_>, event: &Event) {
    o.uint64("timeUnixNano", event.time_unix_nano);
    o.text("name", &event.name);
    o.messages("attributes", &event.attributes, key_value);
    o.number("droppedAttributesCount", event.dropped_attributes_count.into());
}

fn link(o: &mut Object<'_>, link: &Link) {
    o.hex("traceId", &link.trace_id);
    o.hex("spanId", &link.span_id);
    o.text("traceState", &link.trace_state);
    o.messages("attributes", &link.attributes, key_value);
    o.number("droppedAttributesCount", link.dropped_attributes_count.into());
    o.number("flags", link.flags.into());
}

fn status(o: &mut Object<'_>, status: &Status) {
    o.text("message", &status.message);
    o.number("code", status.code.into());
}

fn resource_logs(o: &mut Object<'_>, group: &ResourceLogs) {
    if let Some(content) = &group.resource {
        o.object("resource", |o| resource(o, content));
    }
    o.messages("scopeLogs", &group.scope_logs, scope_logs);
    o.text("schemaUrl", &group.schema_url);
}

fn scope_logs(o: &mut Object<'_>, group: &ScopeLogs) {
    if let Some(content) = &group.scope {
        o.object("scope", |o| scope(o, content));
    }
    o.messages("logRecords", &group.log_records, log_record);
    o.text("schemaUrl", &group.schema_url);
}

fn log_record(o: &mut Object<'_>, record: &LogRecord) {
    o.uint64("timeUnixNano", record.time_unix_nano);
    o.uint64("observedTimeUnixNano", record.observed_time_unix_nano);
    o.number("severityNumber", record.severity_number.into());
    o.text("severityText", &record.severity_text);
    if let Some(body) = &record.body {
        o.object("body", |o| any_value(o, body));
    }
    o.messages("attributes", &record.attributes, key_value);
    o.number("droppedAttributesCount", record.dropped_attributes_count.into());
    o.number("flags", record.flags.into());
    o.hex("traceId", &record.trace_id);
    o.hex("spanId", &record.span_id);
    o.text("eventName", &record.event_name);
}

fn resource(o: &mut Object<'_>, resource: &Resource) {
    o.messages("attributes", &resource.attributes, key_value);
    o.number("droppedAttributesCount", resource.dropped_attributes_count.into());
    o.messages("entityRefs", &resource.entity_refs, entity_ref);
}

fn entity_ref(o: &mut Object<'_>, entity: &EntityRef) {
    o.text("schemaUrl", &entity.schema_url);
    o.text("type", &entity.r#type);
    o.texts("idKeys", &entity.id_keys);
    o.texts("descriptionKeys", &entity.description_keys);
}

fn scope(o: &mut Object<'_>, scope: &InstrumentationScope) {
    o.text("name", &scope.name);
    o.text("version", &scope.version);
    o.messages("attributes", &scope.attributes, key_value);
    o.number("droppedAttributesCount", scope.dropped_attributes_count.into());
}

fn key_value(o: &mut Object<'_>, pair: &KeyValue) {
    // The key is written even when it is empty: a pair without one reads like an accident.
    o.key("key").string(&pair.key);
    if let Some(value) = &pair.value {
        o.object("value", |o| any_value(o, value));
    }
}

/// A member of a oneof is written even when it holds the default, because its presence is the information.
fn any_value(o: &mut Object<'_>, value: &AnyValue) {
    match &value.value {
        None | Some(Value::StringValueStrindex(_)) => {}
        Some(Value::StringValue(text)) => o.key("stringValue").string(text),
        Some(Value::BoolValue(x)) => o.key("boolValue").raw(if *x { "true" } else { "false" }),
        Some(Value::IntValue(x)) => o.key("intValue").raw(&format!("\"{x}\"")),
        Some(Value::DoubleValue(x)) => {
            let out = o.key("doubleValue");
            match x {
                x if x.is_nan() => out.raw("\"NaN\""),
                x if x.is_infinite() => out.raw(if *x > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" }),
                // `{:?}` prints the shortest digits that read back as the same double.
                x => out.raw(&format!("{x:?}")),
            }
        }
        Some(Value::ArrayValue(array)) => o.object("arrayValue", |o| o.messages("values", &array.values, any_value)),
        Some(Value::KvlistValue(list)) => o.object("kvlistValue", |o| o.messages("values", &list.values, key_value)),
        Some(Value::BytesValue(bytes)) => o.key("bytesValue").string(&STANDARD.encode(bytes)),
    }
}

fn document(members: impl FnOnce(&mut Object<'_>)) -> Vec<u8> {
    let mut out = Out(Vec::with_capacity(1024));
    out.object(members);
    out.0
}

/// The text so far.
struct Out(Vec<u8>);

impl Out {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn string(&mut self, text: &str) {
        serde_json::to_writer(&mut self.0, text).expect("writing text to memory cannot fail");
    }

    fn object(&mut self, members: impl FnOnce(&mut Object<'_>)) {
        self.raw("{");
        members(&mut Object { out: self, first: true });
        self.raw("}");
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.raw("[");
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.raw(",");
            }
            write(self, item);
        }
        self.raw("]");
    }
}

/// An object whose members are being written.
struct Object<'a> {
    out: &'a mut Out,
    first: bool,
}

impl Object<'_> {
    fn key(&mut self, key: &str) -> &mut Out {
        self.out.raw(if std::mem::take(&mut self.first) { "\"" } else { ",\"" });
        self.out.raw(key);
        self.out.raw("\":");
        self.out
    }

    fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.key(key).string(text);
        }
    }

    fn texts(&mut self, key: &str, texts: &[String]) {
        if !texts.is_empty() {
            self.key(key).list(texts, |out, text| out.string(text));
        }
    }

    fn hex(&mut self, key: &str, id: &[u8]) {
        self.text(key, &hex::encode(id));
    }

    fn number(&mut self, key: &str, x: i64) {
        if x != 0 {
            self.key(key).raw(&x.to_string());
        }
    }

    fn int64(&mut self, key: &str, x: i64) {
        if x != 0 {
            self.text(key, &x.to_string());
        }
    }

    fn uint64(&mut self, key: &str, x: u64) {
        if x != 0 {
            self.text(key, &x.to_string());
        }
    }

    fn object(&mut self, key: &str, members: impl FnOnce(&mut Object<'_>)) {
        self.key(key).object(members);
    }

    fn messages<T>(&mut self, key: &str, messages: &[T], write: fn(&mut Object<'_>, &T)) {
        if !messages.is_empty() {
            self.key(key).list(messages, |out, message| out.object(|o| write(o, message)));
        }
    }
}
