//! A row as a span, an event of one, or a log record: what `envelope` does, backwards.
//!
//! What cannot come back: whether a status was OK or unset, the order of attributes, types that the conventions do not fix, times
//! below a microsecond and durations below a millisecond, trace state, dropped counts, and the resource beyond service and
//! instance. A span event and a log record become the same row, but only the latter has a severity; so a message without
//! one, and any exception, is an event where its span is at hand, and a log record where it is not.

use serde_json::{Map, Value as Json};

use super::attributes::{attributes, plain};
use super::table::{Kind, Row};
use crate::export::appinsights::envelope;
use crate::export::appinsights::properties::{KEY, cut};
use crate::model::{Event, Key, Link, LogRecord, Origin, Span, SpanId, SpanKind, Status, TraceId, Value};
use crate::trace::semconv::{self as sc, azure, event};

/// What a row is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Span(Origin, Box<Span>),
    /// An event of a span, and the log record that it is otherwise.
    Event(Origin, Box<Event>, Box<LogRecord>),
    Log(Origin, Box<LogRecord>),
}

/// Longest duration that is believed, in milliseconds: a hundred years.
const LONGEST_MS: f64 = 3.2e12;

/// Reads a row; `None` of tables that hold no part of a trace. The error is a reason of which there are few.
pub(super) fn convert(row: &Row<'_>) -> Result<Option<Item>, String> {
    let time = time(row.time)?;
    Ok(Some(match row.kind {
        Kind::Dependency | Kind::Request => Item::Span(origin(row), Box::new(span(row, time)?)),
        Kind::Event => Item::Log(origin(row), Box::new(custom_event(row, time))),
        Kind::Exception => {
            let attributes = exception(row);
            let mut log = record(row, time, attributes.clone());
            log.event_name = event::EXCEPTION.into();
            let event =
                Event { name: event::EXCEPTION.into(), time_unix_nano: time, attributes, dropped_attributes_count: 0 };
            Item::Event(origin(row), Box::new(event), Box::new(log))
        }
        Kind::Message => {
            let attributes = attributes(row.properties.clone(), is_own);
            let mut log = record(row, time, attributes.clone());
            if row.severity.is_some() {
                if row.message != "n/a" {
                    log.body = Value::from(row.message.to_owned());
                }
                return Ok(Some(Item::Log(origin(row), Box::new(log))));
            }
            log.event_name = Key::from(row.message.to_owned());
            let event = Event {
                name: Key::from(row.message.to_owned()),
                time_unix_nano: time,
                attributes,
                dropped_attributes_count: 0,
            };
            Item::Event(origin(row), Box::new(event), Box::new(log))
        }
        Kind::Other => return Ok(None),
    }))
}

fn origin(row: &Row<'_>) -> Origin {
    let named =
        [(sc::SERVICE_NAME, row.role), (sc::SERVICE_INSTANCE_ID, row.instance), (sc::SERVICE_VERSION, row.version)];
    let resource = named.into_iter().filter(|(_, value)| !value.is_empty());
    let resource = resource.map(|(name, value)| (Key::from(name), Value::from(value.to_owned()))).collect();
    Origin { resource, ..Origin::default() }
}

fn span(row: &Row<'_>, start: u64) -> Result<Span, String> {
    let trace_id = trace_id(row.operation).ok_or("spans whose operation id is no trace id of 32 hex digits")?;
    let span_id = span_id(row.id).ok_or("spans whose id is no span id of 16 hex digits")?;
    let duration = row.duration_ms.filter(|ms| (0.0..=LONGEST_MS).contains(ms)).ok_or("spans without a duration")?;
    let mut span = Span::open(trace_id, span_id, parent(row).filter(|id| *id != span_id), row.name.to_owned(), start);
    span.end_unix_nano = start.saturating_add((duration * 1e6).round() as u64).max(1);
    span.kind = kind(row);
    let mut properties = row.properties.clone();
    let message = match properties.get(azure::STATUS_MESSAGE) {
        Some(Json::String(text)) => Some(text.clone()),
        _ => None,
    };
    span.status = status(row, message.as_deref());
    if matches!(span.status, Status::Error(_)) {
        properties.remove(azure::STATUS_MESSAGE);
    }
    span.links = links(&properties);
    span.attributes = attributes(properties, is_own);
    add_measurements(&mut span.attributes, &row.measurements, &[]);
    Ok(span)
}

/// The role, from the type of the dependency. That of a model call is told by what it did: calls of a service are a client's.
fn kind(row: &Row<'_>) -> SpanKind {
    if row.kind == Kind::Request {
        let from_queue = row.properties.contains_key(azure::MESSAGING_SYSTEM);
        return if from_queue { SpanKind::Consumer } else { SpanKind::Server };
    }
    let operation = row.properties.get(sc::GEN_AI_OPERATION_NAME).and_then(Json::as_str).unwrap_or_default();
    match row.of_type {
        "" | "InProc" => SpanKind::Internal,
        of if of.starts_with("Queue Message") => SpanKind::Producer,
        of if of.starts_with("GenAI") && (operation.starts_with("invoke_") || operation.starts_with("execute_")) => {
            SpanKind::Internal
        }
        _ => SpanKind::Client,
    }
}

/// A request that was refused (4xx) is none of the server's failures; the table counts it among them.
fn status(row: &Row<'_>, message: Option<&str>) -> Status {
    let refused =
        row.kind == Kind::Request && row.result_code.parse::<u32>().is_ok_and(|code| (400..500).contains(&code));
    match (row.success, message) {
        (Some(false), Some(message)) => Status::Error(message.to_owned()),
        (Some(false), None) if !refused => Status::Error(String::new()),
        _ => Status::Unset,
    }
}

fn links(properties: &Map<String, Json>) -> Vec<Link> {
    let Some(text) = properties.get("_MS.links").and_then(Json::as_str) else { return Vec::new() };
    let listed: Vec<Json> = serde_json::from_str(text).unwrap_or_default();
    let read = |link: &Json| {
        Some(Link {
            trace_id: trace_id(link.get("operation_Id")?.as_str()?)?,
            span_id: span_id(link.get("id")?.as_str()?)?,
            trace_state: String::new(),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            flags: 1,
        })
    };
    listed.iter().filter_map(read).collect()
}

fn custom_event(row: &Row<'_>, time: u64) -> LogRecord {
    let mut properties = row.properties.clone();
    let internal = match properties.remove("internal_properties") {
        Some(Json::String(text)) => Some(text),
        other => other.map(|json| json.to_string()),
    };
    let mut attributes = attributes(properties, is_own);
    let result = row.name == event::EVALUATION_RESULT;
    // What the exporter put together of the other properties is left out; what a service added is kept.
    if let Some(text) = internal.filter(|text| !result || envelope::internal_properties(&attributes) != *text) {
        attributes.push(("internal_properties".into(), Value::from(text)));
    }
    let scored = attributes.iter().find(|(key, _)| result && key == sc::GEN_AI_EVALUATION_NAME);
    let scored = scored.and_then(|(_, value)| match value {
        Value::Str(name) => Some(name.clone().into_owned()),
        _ => None,
    });
    // The tables cut the names of measurements.
    let scored = scored.map(|name| cut(&name, KEY));
    let mut scores: Vec<&str> = scored.as_deref().into_iter().collect();
    if result && !has_score(&attributes) {
        scores.push(sc::GEN_AI_EVALUATION_SCORE_VALUE);
        if let Some(value) = scores.iter().find_map(|name| measured(row.measurements.get(*name)?)) {
            attributes.retain(|(key, _)| key != sc::GEN_AI_EVALUATION_SCORE_VALUE);
            attributes.push((sc::GEN_AI_EVALUATION_SCORE_VALUE.into(), Value::Double(value)));
        }
    }
    add_measurements(&mut attributes, &row.measurements, &scores);
    if !result {
        attributes.push((azure::CUSTOM_EVENT_NAME.into(), Value::from(row.name.to_owned())));
    }
    let mut log = record(row, time, attributes);
    log.event_name = Key::from(row.name.to_owned());
    log
}

fn exception(row: &Row<'_>) -> Vec<(Key, Value)> {
    let details = row.details.as_ref().and_then(|details| details.get(0));
    let of_details =
        |name: &str| details.and_then(|details| details.get(name)).and_then(Json::as_str).unwrap_or_default();
    let first = |texts: [&str; 2]| texts.into_iter().find(|text| !text.is_empty()).map(str::to_owned);
    let mut found: Vec<(Key, Value)> = Vec::new();
    for (name, text) in [
        (sc::EXCEPTION_TYPE, first([row.of_type, of_details("type")])),
        (sc::EXCEPTION_MESSAGE, first([row.message, of_details("message")])),
        (sc::EXCEPTION_STACKTRACE, first([of_details("rawStack"), of_details("stack")])),
    ] {
        found.extend(text.map(|text| (Key::from(name), Value::from(text))));
    }
    found.extend(attributes(row.properties.clone(), is_own));
    found
}

fn record(row: &Row<'_>, time: u64, attributes: Vec<(Key, Value)>) -> LogRecord {
    let trace_id = trace_id(row.operation);
    LogRecord {
        time_unix_nano: time,
        observed_unix_nano: time,
        severity_number: row.severity.map_or(0, severity),
        severity_text: String::new(),
        event_name: Key::default(),
        body: Value::Empty,
        attributes,
        dropped_attributes_count: 0,
        flags: 0,
        trace_id,
        span_id: trace_id.and(parent(row)),
    }
}

/// The middle of OTLP's range for a severity of Application Insights.
const fn severity(level: i64) -> i32 {
    match level {
        0 => 5,
        1 => 9,
        2 => 13,
        3 => 17,
        4 => 21,
        _ => 0,
    }
}

/// Whether a result says its score as an attribute.
fn has_score(attributes: &[(Key, Value)]) -> bool {
    let is_number = |value: &Value| matches!(value, Value::Double(_) | Value::Int(_) | Value::Bool(_));
    attributes.iter().any(|(key, value)| key == sc::GEN_AI_EVALUATION_SCORE_VALUE && is_number(value))
}

/// A measurement as a number; some tools leave numbers as texts.
fn measured(value: &Json) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// The measurements that are no scores which stand among the attributes already: neither the `scores` of a result nor those of a
/// span.
fn add_measurements(attributes: &mut Vec<(Key, Value)>, measurements: &Map<String, Json>, scores: &[&str]) {
    let is_score = |name: &str| {
        scores.contains(&name)
            || attributes.iter().any(|(key, _)| key.strip_prefix(sc::SPANSCORE_SCORE_PREFIX) == Some(name))
    };
    let left: Vec<(Key, Value)> = measurements
        .iter()
        .filter(|(name, _)| !is_score(name))
        .map(|(name, value)| (Key::from(name.clone()), plain(value.clone())))
        .collect();
    if !left.is_empty() {
        attributes.push((azure::CUSTOM_MEASUREMENTS.into(), Value::Map(left)));
    }
}

/// Properties that Azure Monitor or an exporter makes, not the application.
fn is_own(name: &str) -> bool {
    name.starts_with("_MS.")
}

/// Nanoseconds since the Unix epoch.
fn time(text: &str) -> Result<u64, String> {
    let stamp: jiff::Timestamp = text.parse().map_err(|_| "rows without a time".to_owned())?;
    u64::try_from(stamp.as_nanosecond()).map_err(|_| "rows from before 1970".to_owned())
}

fn trace_id(text: &str) -> Option<TraceId> {
    let text = text.trim_start_matches('|');
    let text = text.split('.').next().unwrap_or_default();
    let id: TraceId = text.parse().ok()?;
    (*id.as_bytes() != [0; 16]).then_some(id)
}

/// A span id; of the older form `|TRACE.SPAN.` its last part.
fn span_id(text: &str) -> Option<SpanId> {
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default().trim_start_matches('|');
    let id: SpanId = last.parse().ok()?;
    (*id.as_bytes() != [0; 8]).then_some(id)
}

/// The span above. Some exporters name the trace itself as the parent of a root.
fn parent(row: &Row<'_>) -> Option<SpanId> {
    span_id(row.parent)
}
