//! Spans and log records as the envelopes of Application Insights.
//!
//! Source: the "Part B" schemas of Application Insights (RequestData, RemoteDependencyData, MessageData, ExceptionData,
//! EventData, version 2), and what Azure Monitor's own exporter for OpenTelemetry sends. Where we differ, it is on purpose:
//! a model call is recognised by `gen_ai.provider.name` as well, whatever the kind of its span; properties keep every
//! attribute, lists as JSON; scores stand among the measurements; and no envelope about the exporter itself is sent.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use super::properties::{KEY, Properties, cut, measurements, number, properties, text};
use crate::model::{Event, Key, LogRecord, Origin, Span, SpanId, SpanKind, Status, TraceId, Value};
use crate::trace::semconv::{self as sc, azure, event};

/// The version of all the schemas.
const SCHEMA: u32 = 2;
/// Longest name of an operation.
const NAME: usize = 1_024;
/// Longest address or command of a dependency.
const DATA: usize = 8_192;
/// Longest message.
const MESSAGE: usize = 32_768;

/// One item of telemetry, ready to be sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Envelope {
    name: &'static str,
    #[serde(rename = "iKey")]
    key: String,
    tags: BTreeMap<&'static str, String>,
    time: String,
    data: Data,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Data {
    #[serde(rename = "baseType")]
    kind: &'static str,
    #[serde(rename = "baseData")]
    content: serde_json::Value,
}

/// What all envelopes of one origin share.
pub(super) struct Maker {
    key: String,
    tags: BTreeMap<&'static str, String>,
}

impl Maker {
    pub(super) fn new(key: &str, origin: &Origin) -> Self {
        let found = |name| origin.resource_text(name);
        let mut tags = BTreeMap::new();
        tags.insert("ai.internal.sdkVersion", concat!("spanscore:", env!("CARGO_PKG_VERSION")).to_owned());
        let role = match (found(sc::SERVICE_NAMESPACE), found(sc::SERVICE_NAME)) {
            (Some(namespace), Some(name)) => Some(format!("{namespace}.{name}")),
            (None, Some(name)) => Some(name.to_owned()),
            _ => None,
        };
        let instance = found(sc::SERVICE_INSTANCE_ID).or(found(sc::HOST_NAME)).map(str::to_owned);
        for (tag, value) in [
            ("ai.cloud.role", role),
            ("ai.cloud.roleInstance", instance.clone()),
            ("ai.internal.nodeName", instance),
            ("ai.application.ver", found(sc::SERVICE_VERSION).map(str::to_owned)),
        ] {
            if let Some(value) = value {
                tags.insert(tag, cut(&value, 256));
            }
        }
        Self { key: key.to_owned(), tags }
    }

    /// A span and what happened during it. Results of evaluations among its events are left to their log records, which
    /// become custom events, so that none is there twice.
    pub(super) fn span(&self, span: &Span) -> Vec<Envelope> {
        let mut envelopes = vec![self.operation(span)];
        let events = span.events.iter().filter(|event| event.name != event::EVALUATION_RESULT);
        envelopes.extend(events.map(|event| self.event(span, event)));
        envelopes
    }

    fn operation(&self, span: &Span) -> Envelope {
        let server = matches!(span.kind, SpanKind::Server | SpanKind::Consumer);
        let facts = Facts { attributes: &span.attributes };
        let mut name = span.name.to_string();
        if let Some(method) = facts.text(&azure::HTTP_METHOD)
            && let Some(route) = facts.text(&[azure::HTTP_ROUTE]).or_else(|| facts.path())
        {
            name = format!("{method} {route}");
        }
        let name = cut(&name, NAME);
        let mut properties = properties(&span.attributes);
        if let Status::Error(message) = &span.status
            && !message.is_empty()
        {
            properties.entry(azure::STATUS_MESSAGE.to_owned()).or_insert_with(|| cut(message, 8_192));
        }
        if !span.links.is_empty() {
            let link = |link: &crate::model::Link| json!({"operation_Id": link.trace_id, "id": link.span_id});
            properties
                .insert("_MS.links".to_owned(), span.links.iter().map(link).collect::<serde_json::Value>().to_string());
        }
        let ok = !matches!(span.status, Status::Error(_));
        let code = facts.text(&azure::HTTP_STATUS_CODE).unwrap_or_else(|| "0".to_owned());
        let mut content = json!({
            "ver": SCHEMA,
            "id": span.span_id,
            "name": name,
            "duration": duration(span.end_unix_nano.saturating_sub(span.start_unix_nano)),
            "properties": properties,
            "measurements": measurements(&span.attributes),
        });
        let mut set = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                content[key] = json!(value);
            }
        };
        if server {
            // A refused request is none of the server's successes; for a client that is the span's own affair.
            let refused = code.parse::<u32>().is_ok_and(|code| code >= 400);
            set("responseCode", Some(code));
            set("url", facts.address().map(|url| cut(&url, 2_048)));
            set("source", facts.queue());
            content["success"] = json!(ok && !refused);
        } else {
            let Dependency { kind, target, data } = facts.dependency(span.kind);
            set("resultCode", Some(code));
            set("type", Some(cut(&kind, NAME)));
            set("target", target.map(|target| cut(&target, NAME)));
            set("data", data.map(|data| cut(&data, DATA)));
            content["success"] = json!(ok);
        }
        let (envelope, kind) = if server {
            ("Microsoft.ApplicationInsights.Request", "RequestData")
        } else {
            ("Microsoft.ApplicationInsights.RemoteDependency", "RemoteDependencyData")
        };
        let mut envelope = self.envelope(envelope, kind, content, span.start_unix_nano);
        envelope.place(Some(span.trace_id), span.parent_span_id);
        envelope.tags.insert("ai.operation.name", name);
        envelope
    }

    fn event(&self, span: &Span, event: &Event) -> Envelope {
        let place = (Some(span.trace_id), Some(span.span_id));
        if event.name == event::EXCEPTION {
            return self.exception(&event.attributes, event.time_unix_nano, None, place);
        }
        self.message(&event.name, &event.attributes, event.time_unix_nano, None, place)
    }

    /// A log record: a custom event where it is one, the result of an evaluation among them; an exception; or a message.
    pub(super) fn log(&self, record: &LogRecord) -> Envelope {
        let facts = Facts { attributes: &record.attributes };
        let time = time(record);
        let place = (record.trace_id, record.span_id);
        let severity = severity(record.severity_number);
        if facts.text(&[sc::EXCEPTION_TYPE, sc::EXCEPTION_MESSAGE]).is_some() {
            return self.exception(&record.attributes, time, severity, place);
        }
        let custom = facts.text(&[azure::CUSTOM_EVENT_NAME]);
        let name = custom.clone().or_else(|| facts.text(&[sc::EVENT_NAME]));
        let result =
            record.event_name == event::EVALUATION_RESULT || name.is_some_and(|name| name == event::EVALUATION_RESULT);
        if let Some(name) = custom.or_else(|| result.then(|| event::EVALUATION_RESULT.to_owned())) {
            let own = |(key, _): &&(Key, Value)| key != azure::CUSTOM_EVENT_NAME;
            let attributes: Vec<(Key, Value)> = record.attributes.iter().filter(own).cloned().collect();
            let mut properties = properties(&attributes);
            let mut measurements = measurements(&attributes);
            if result {
                properties.entry("internal_properties".to_owned()).or_insert_with(|| internal(&facts));
                let value = facts.value(sc::GEN_AI_EVALUATION_SCORE_VALUE).and_then(number);
                if let (Some(name), Some(value)) = (facts.text(&[sc::GEN_AI_EVALUATION_NAME]), value) {
                    measurements.insert(cut(&name, KEY), value);
                }
            }
            let content = json!({
                "ver": SCHEMA, "name": cut(&name, 512), "properties": properties, "measurements": measurements,
            });
            return self.placed("Microsoft.ApplicationInsights.Event", "EventData", content, time, place);
        }
        let body = match &record.body {
            Value::Empty if record.event_name.is_empty() => "n/a".to_owned(),
            Value::Empty => record.event_name.to_string(),
            body => text(body),
        };
        self.message(&body, &record.attributes, time, severity, place)
    }

    fn message(
        &self,
        message: &str,
        attributes: &[(Key, Value)],
        time: u64,
        severity: Option<u8>,
        place: (Option<TraceId>, Option<SpanId>),
    ) -> Envelope {
        let mut content = json!({
            "ver": SCHEMA, "message": cut(message, MESSAGE), "properties": properties(attributes),
            "measurements": measurements(attributes),
        });
        if let Some(severity) = severity {
            content["severityLevel"] = json!(severity);
        }
        self.placed("Microsoft.ApplicationInsights.Message", "MessageData", content, time, place)
    }

    fn exception(
        &self,
        attributes: &[(Key, Value)],
        time: u64,
        severity: Option<u8>,
        place: (Option<TraceId>, Option<SpanId>),
    ) -> Envelope {
        const OWN: [&str; 3] = [sc::EXCEPTION_TYPE, sc::EXCEPTION_MESSAGE, sc::EXCEPTION_STACKTRACE];
        let facts = Facts { attributes };
        let rest: Vec<(Key, Value)> = attributes.iter().filter(|(key, _)| !OWN.contains(&&**key)).cloned().collect();
        let stack = facts.text(&[sc::EXCEPTION_STACKTRACE]);
        let kind = facts.text(&[sc::EXCEPTION_TYPE]).unwrap_or_else(|| "Exception".to_owned());
        // The message must not be empty.
        let message =
            facts.text(&[sc::EXCEPTION_MESSAGE]).filter(|text| !text.is_empty()).unwrap_or_else(|| kind.clone());
        let exception = json!({
            "typeName": cut(&kind, NAME),
            "message": cut(&message, MESSAGE),
            "hasFullStack": stack.is_some(),
            "stack": cut(&stack.unwrap_or_default(), MESSAGE),
        });
        let mut content = json!({"ver": SCHEMA, "exceptions": [exception], "properties": properties(&rest),
            "measurements": measurements(&rest)});
        content["severityLevel"] = json!(severity.unwrap_or(3));
        self.placed("Microsoft.ApplicationInsights.Exception", "ExceptionData", content, time, place)
    }

    fn placed(
        &self,
        name: &'static str,
        kind: &'static str,
        content: serde_json::Value,
        time: u64,
        (trace, span): (Option<TraceId>, Option<SpanId>),
    ) -> Envelope {
        let mut envelope = self.envelope(name, kind, content, time);
        envelope.place(trace, span);
        envelope
    }

    fn envelope(&self, name: &'static str, kind: &'static str, content: serde_json::Value, time: u64) -> Envelope {
        let tags = self.tags.clone();
        Envelope { name, key: self.key.clone(), tags, time: moment(time), data: Data { kind, content } }
    }
}

impl Envelope {
    /// Puts it below a span of a trace.
    fn place(&mut self, trace: Option<TraceId>, parent: Option<SpanId>) {
        if let Some(trace) = trace {
            self.tags.insert("ai.operation.id", trace.to_string());
        }
        if let Some(parent) = parent {
            self.tags.insert("ai.operation.parentId", parent.to_string());
        }
    }
}

/// When a log record was made, in nanoseconds since the Unix epoch.
pub(super) const fn time(record: &LogRecord) -> u64 {
    if record.time_unix_nano == 0 { record.observed_unix_nano } else { record.time_unix_nano }
}

/// The property `internal_properties` of a result with these attributes.
pub(super) fn internal_properties(attributes: &[(Key, Value)]) -> String {
    internal(&Facts { attributes })
}

/// What Foundry's own evaluator writes into this property of a result, as far as a log record knows it.
fn internal(facts: &Facts<'_>) -> String {
    let passed = facts.text(&[sc::GEN_AI_EVALUATION_SCORE_LABEL]).and_then(|label| match label.as_str() {
        "pass" => Some("true"),
        "fail" => Some("false"),
        _ => None,
    });
    let mut internal = Properties::new();
    for (key, value) in [
        (azure::EVALUATION_PASSED, passed.map(str::to_owned)),
        (azure::EVALUATION_THRESHOLD, facts.text(&[sc::SPANSCORE_EVALUATION_THRESHOLD])),
        (azure::TESTING_CRITERIA_NAME, facts.text(&[sc::GEN_AI_EVALUATION_NAME])),
        (sc::TEST_SUITE_RUN_ID, facts.text(&[sc::TEST_SUITE_RUN_ID])),
        (sc::TEST_CASE_ID, facts.text(&[sc::TEST_CASE_ID])),
    ] {
        if let Some(value) = value {
            internal.insert(key.to_owned(), value);
        }
    }
    json!(internal).to_string()
}

/// What a call of another service was.
struct Dependency {
    kind: String,
    target: Option<String>,
    data: Option<String>,
}

/// Questions to the attributes of a span or log record.
struct Facts<'a> {
    attributes: &'a [(Key, Value)],
}

impl Facts<'_> {
    fn value(&self, key: &str) -> Option<&Value> {
        self.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The first of these attributes that is there, as text.
    fn text(&self, keys: &[&str]) -> Option<String> {
        keys.iter().find_map(|key| self.value(key)).map(text).filter(|text| !text.is_empty())
    }

    /// The URL of an HTTP call.
    fn address(&self) -> Option<String> {
        self.text(&azure::HTTP_URL)
    }

    /// Its path.
    fn path(&self) -> Option<String> {
        let url = reqwest::Url::parse(&self.address()?).ok()?;
        Some(url.path().to_owned())
    }

    /// Host and port of the other side.
    fn peer(&self) -> Option<String> {
        let host = self.text(&azure::PEER)?;
        match self.text(&azure::PEER_PORT) {
            Some(port) if !matches!(port.as_str(), "80" | "443") => Some(format!("{host}:{port}")),
            _ => Some(host),
        }
    }

    /// Where messages come from or go to.
    fn queue(&self) -> Option<String> {
        let name = self.text(&azure::MESSAGING_DESTINATION)?;
        Some(match self.peer() {
            Some(peer) => format!("{peer}/{name}"),
            None => name,
        })
    }

    fn dependency(&self, kind: SpanKind) -> Dependency {
        let of = |kind: &str, target: Option<String>, data: Option<String>| Dependency {
            kind: kind.to_owned(),
            target,
            data,
        };
        // A model call is one before it is HTTP.
        if let Some(provider) = self.text(&[sc::GEN_AI_PROVIDER_NAME, sc::GEN_AI_SYSTEM]) {
            return of(&format!("GenAI | {provider}"), self.peer().or(Some(provider)), self.address());
        }
        if kind == SpanKind::Producer {
            let system = self.text(&[azure::MESSAGING_SYSTEM]).map(|system| format!(" | {system}")).unwrap_or_default();
            return of(&format!("Queue Message{system}"), self.queue().or(self.peer()), None);
        }
        if self.text(&azure::HTTP_METHOD).is_some() {
            let host = || {
                let url = reqwest::Url::parse(&self.address()?).ok()?;
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                Some(format!("{}{port}", url.host_str()?))
            };
            return of("HTTP", self.peer().or_else(host), self.address());
        }
        if let Some(system) = self.text(&azure::DB_SYSTEM) {
            let name = self.text(&azure::DB_NAME);
            let target = match (self.peer(), name) {
                (Some(peer), Some(name)) => Some(format!("{peer}|{name}")),
                (peer, name) => peer.or(name).or(Some(system.clone())),
            };
            return of(&system, target, self.text(&azure::DB_QUERY));
        }
        if let Some(system) = self.text(&[azure::MESSAGING_SYSTEM]) {
            return of(&system, self.queue().or(self.peer()).or(Some(system.clone())), None);
        }
        if let Some(system) = self.text(&[azure::RPC_SYSTEM]) {
            return of(&system, self.peer().or(Some(system.clone())), None);
        }
        match kind {
            SpanKind::Client => of("N/A", self.peer(), None),
            _ => of("InProc", self.peer(), None),
        }
    }
}

/// OTLP's severity as that of Application Insights: 0 verbose, 1 information, 2 warning, 3 error, 4 critical.
const fn severity(number: i32) -> Option<u8> {
    match number {
        1..=8 => Some(0),
        9..=12 => Some(1),
        13..=16 => Some(2),
        17..=20 => Some(3),
        21.. => Some(4),
        _ => None,
    }
}

/// `D.HH:MM:SS.mmm`.
fn duration(nanoseconds: u64) -> String {
    let milliseconds = nanoseconds / 1_000_000;
    let (seconds, milliseconds) = (milliseconds / 1_000, milliseconds % 1_000);
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    format!("{}.{:02}:{minutes:02}:{seconds:02}.{milliseconds:03}", hours / 24, hours % 24)
}

/// A time with its microseconds.
fn moment(unix_nano: u64) -> String {
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(unix_nano)).unwrap_or_default();
    stamp.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "golden_tests.rs"]
mod golden;
