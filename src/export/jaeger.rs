//! Jaeger's JSON, as its user interface downloads traces and its query API answers, read as telemetry.
//!
//! Sources: the JSON model of Jaeger's query service; OpenTelemetry specification, "OpenTelemetry to Jaeger Transformation",
//! read backwards: the tags that stand there for a span's kind, status and scope become these again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value as Json;

use super::files::{FileError, open, rest};
use super::otlp_file::ReadFile;
use crate::model::{Event, Key, Link, Origin, Span, SpanId, SpanKind, Status, Telemetry, TraceId, Value};
use crate::trace::semconv as sc;

/// A document of more bytes than this is taken for a fault.
const MAX_DOCUMENT: usize = 512 << 20;

const EXPECTED: &str = "a trace as Jaeger's user interface downloads it, or an answer of its query API: {\"data\":[…]}";

/// What a link came from, where Jaeger has a reference.
const REF_TYPE: &str = "opentracing.ref_type";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JaegerTrace {
    #[serde(default)]
    spans: Vec<Json>,
    #[serde(default)]
    processes: BTreeMap<String, Process>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    #[serde(default)]
    service_name: String,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JaegerSpan {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
    #[serde(rename = "parentSpanID")]
    parent_span_id: Option<String>,
    #[serde(default)]
    flags: Option<u32>,
    #[serde(default)]
    operation_name: String,
    #[serde(default)]
    references: Option<Vec<Reference>>,
    /// Microseconds since the Unix epoch.
    start_time: u64,
    /// Microseconds.
    #[serde(default)]
    duration: u64,
    #[serde(default)]
    tags: Option<Vec<Tag>>,
    #[serde(default)]
    logs: Option<Vec<Log>>,
    #[serde(default, rename = "processID")]
    process_id: Option<String>,
    #[serde(default)]
    process: Option<Process>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    ref_type: String,
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Deserialize)]
struct Tag {
    key: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    value: Json,
}

#[derive(Deserialize)]
struct Log {
    /// Microseconds since the Unix epoch.
    timestamp: u64,
    #[serde(default)]
    fields: Vec<Tag>,
}

/// Reads a file and hands over its traces, one after the other. A span that cannot be read is noted and the rest goes on.
pub fn read<E: From<FileError>>(
    path: &Path,
    mut take: impl FnMut(Vec<Telemetry>) -> Result<(), E>,
) -> Result<ReadFile, E> {
    let mut whole = Vec::new();
    rest(path, &mut *open(path)?, MAX_DOCUMENT, &mut whole)?;
    let whole = whole.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&whole);
    let mut found = ReadFile::default();
    let document: Json = serde_json::from_slice(whole)
        .map_err(|error| FileError::content(path, format!("it is no JSON: {error}"), EXPECTED))?;
    let traces = match document {
        Json::Array(traces) => traces,
        Json::Object(mut fields) => match fields.remove("data") {
            Some(Json::Array(traces)) => traces,
            // An answer that found nothing.
            Some(Json::Null) => Vec::new(),
            Some(_) => return Err(FileError::content(path, "its `data` is no list", EXPECTED).into()),
            None if fields.contains_key("spans") => vec![Json::Object(fields)],
            None => return Err(FileError::content(path, "it has neither `data` nor `spans`", EXPECTED).into()),
        },
        _ => return Err(FileError::content(path, "it is neither an object nor a list", EXPECTED).into()),
    };
    for (number, trace) in (0..).zip(traces) {
        match serde_json::from_value::<JaegerTrace>(trace) {
            Ok(trace) => {
                found.requests += 1;
                let telemetry = telemetry(trace, number, &mut found);
                take(telemetry)?;
            }
            Err(error) => found.problem(0, format!("data[{number}] is no trace: {error}")),
        }
    }
    Ok(found)
}

/// The spans of a trace by process and scope.
fn telemetry(trace: JaegerTrace, number: usize, found: &mut ReadFile) -> Vec<Telemetry> {
    let resources: BTreeMap<String, Vec<(Key, Value)>> =
        trace.processes.into_iter().map(|(id, process)| (id, resource(process))).collect();
    let mut parts: Vec<Telemetry> = Vec::new();
    for (place, span) in trace.spans.into_iter().enumerate() {
        let read = serde_json::from_value::<JaegerSpan>(span).map_err(|error| error.to_string());
        match read.and_then(|span| convert(span, &resources)) {
            Ok((span, origin)) => match parts.iter_mut().find(|part| *part.origin == origin) {
                Some(part) => part.spans.push(span),
                None => parts.push(Telemetry { origin: Arc::new(origin), spans: vec![span], logs: Vec::new() }),
            },
            Err(problem) => {
                found.rejected += 1;
                found.problem(0, format!("data[{number}].spans[{place}]: {problem}"));
            }
        }
    }
    parts
}

fn resource(process: Process) -> Vec<(Key, Value)> {
    let mut attributes = vec![(Key::from(sc::SERVICE_NAME), Value::from(process.service_name))];
    attributes.extend(process.tags.into_iter().filter(|tag| tag.key != sc::SERVICE_NAME).map(attribute));
    attributes
}

fn convert(span: JaegerSpan, resources: &BTreeMap<String, Vec<(Key, Value)>>) -> Result<(Span, Origin), String> {
    let trace_id = trace_id(&span.trace_id)?;
    let span_id = span_id(&span.span_id)?;
    let references = span.references.unwrap_or_default();
    let (parent, links) = references_of(references, trace_id, span.parent_span_id.as_deref())?;
    let start = micros(span.start_time, "startTime")?;
    let end = start.checked_add(micros(span.duration, "duration")?).ok_or("its end lies beyond all times")?;
    let mut made = Span::open(trace_id, span_id, parent, span.operation_name, start);
    made.flags = span.flags.unwrap_or(0) & 1;
    made.kind = SpanKind::Unspecified;
    made.end_unix_nano = end.max(1);
    made.links = links;
    let mut origin = Origin {
        resource: match (span.process, &span.process_id) {
            (Some(process), _) => resource(process),
            (None, Some(id)) => resources.get(id).cloned().unwrap_or_default(),
            (None, None) => Vec::new(),
        },
        ..Origin::default()
    };
    read_tags(span.tags.unwrap_or_default(), &mut made, &mut origin);
    for log in span.logs.unwrap_or_default() {
        made.events.push(event(log)?);
    }
    if let Some(warnings) = span.warnings.filter(|warnings| !warnings.is_empty()) {
        made.set("jaeger.warnings", Value::Array(warnings.into_iter().map(Value::from).collect()));
    }
    Ok((made, origin))
}

/// The parent, and links for all other references. A span that follows from one of its trace hangs below that one, as
/// Jaeger draws it, and keeps the link.
fn references_of(
    references: Vec<Reference>,
    trace: TraceId,
    own: Option<&str>,
) -> Result<(Option<SpanId>, Vec<Link>), String> {
    let mut parent = own.filter(|id| !id.trim_start_matches('0').is_empty()).map(span_id).transpose()?;
    let mut read = Vec::with_capacity(references.len());
    for reference in references {
        read.push((trace_id(&reference.trace_id)?, span_id(&reference.span_id)?, reference.ref_type));
    }
    let is_child = |kind: &str| kind.eq_ignore_ascii_case("CHILD_OF");
    let children = read.iter().filter(|(_, _, kind)| is_child(kind)).chain(&read);
    parent = parent.or(children.filter(|(of, ..)| *of == trace).map(|(_, span, _)| *span).next());
    let mut told = false;
    let mut links = Vec::new();
    for (of, span, kind) in read {
        // The reference that says who the parent is needs no link beside it.
        if !told && is_child(&kind) && of == trace && Some(span) == parent {
            told = true;
            continue;
        }
        let kind = kind.to_ascii_lowercase();
        links.push(Link {
            trace_id: of,
            span_id: span,
            trace_state: String::new(),
            attributes: vec![(Key::from(REF_TYPE), Value::from(kind))],
            dropped_attributes_count: 0,
            flags: 0,
        });
    }
    Ok((parent, links))
}

/// Tags, of which some stand for fields of the span or its scope.
fn read_tags(tags: Vec<Tag>, span: &mut Span, origin: &mut Origin) {
    let coded = tags.iter().any(|tag| tag.key == "otel.status_code");
    let mut message = None;
    for tag in tags {
        let text = tag.value.as_str().map(str::to_owned);
        match (tag.key.as_str(), text) {
            ("span.kind", Some(kind)) => match kind_of(&kind) {
                Some(kind) => span.kind = kind,
                None => span.attributes.push(attribute(tag)),
            },
            ("otel.status_code", Some(code)) => match code.to_ascii_uppercase().as_str() {
                "OK" => span.status = Status::Ok,
                "ERROR" => span.status = Status::Error(String::new()),
                _ => {}
            },
            ("otel.status_description", Some(text)) => message = Some(text),
            ("error", text) if !coded && is_true(&tag.value, text.as_deref()) => {
                span.status = Status::Error(String::new());
            }
            // Said by the status already.
            ("error", _) if coded => {}
            ("w3c.tracestate", Some(state)) => span.trace_state = state,
            ("otel.scope.name" | "otel.library.name", Some(name)) => origin.scope_name = name,
            ("otel.scope.version" | "otel.library.version", Some(version)) => origin.scope_version = version,
            ("otel.dropped_attributes_count", None) => span.dropped_attributes_count = count(&tag.value),
            ("otel.dropped_events_count", None) => span.dropped_events_count = count(&tag.value),
            ("otel.dropped_links_count", None) => span.dropped_links_count = count(&tag.value),
            _ => span.attributes.push(attribute(tag)),
        }
    }
    if let (Status::Error(text), Some(message)) = (&mut span.status, message) {
        *text = message;
    }
}

fn count(value: &Json) -> u32 {
    value.as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or_default()
}

fn is_true(value: &Json, text: Option<&str>) -> bool {
    value.as_bool().unwrap_or_else(|| text.is_some_and(|text| text.eq_ignore_ascii_case("true")))
}

fn kind_of(text: &str) -> Option<SpanKind> {
    Some(match text {
        "internal" => SpanKind::Internal,
        "server" => SpanKind::Server,
        "client" => SpanKind::Client,
        "producer" => SpanKind::Producer,
        "consumer" => SpanKind::Consumer,
        _ => return None,
    })
}

/// A log is an event; its field `event`, or else `message`, is the name.
fn event(log: Log) -> Result<Event, String> {
    let named = |name: &str| log.fields.iter().position(|tag| tag.key == name && tag.value.is_string());
    let place = named("event").or_else(|| named("message"));
    let mut event = Event {
        name: Cow::Borrowed(""),
        time_unix_nano: micros(log.timestamp, "timestamp")?,
        attributes: Vec::with_capacity(log.fields.len()),
        dropped_attributes_count: 0,
    };
    for (at, tag) in log.fields.into_iter().enumerate() {
        match tag.value.as_str().filter(|_| Some(at) == place) {
            Some(name) => event.name = Cow::Owned(name.to_owned()),
            None if tag.key == "otel.event.dropped_attributes_count" => {
                event.dropped_attributes_count = count(&tag.value);
            }
            None => event.attributes.push(attribute(tag)),
        }
    }
    Ok(event)
}

fn attribute(tag: Tag) -> (Key, Value) {
    let Tag { key, kind, value } = tag;
    let value = match (kind.as_str(), value) {
        ("int64" | "long", Json::String(text)) => text.parse().map_or(Value::from(text), Value::Int),
        ("int64" | "long", Json::Number(n)) if n.is_f64() => n.as_f64().map_or(Value::Empty, |x| Value::Int(x as i64)),
        ("float64" | "double", Json::Number(n)) => n.as_f64().map_or(Value::Empty, Value::Double),
        ("float64" | "double", Json::String(text)) => text.parse().map_or(Value::from(text), Value::Double),
        ("bool", Json::String(text)) if text == "true" || text == "false" => Value::Bool(text == "true"),
        ("binary", Json::String(text)) => STANDARD.decode(&text).map_or(Value::from(text), Value::Bytes),
        (_, value) => plain(value),
    };
    (Cow::Owned(key), value)
}

fn plain(value: Json) -> Value {
    match value {
        Json::Null => Value::Empty,
        Json::Bool(x) => Value::Bool(x),
        Json::Number(n) => n.as_i64().map_or_else(|| Value::Double(n.as_f64().unwrap_or_default()), Value::Int),
        Json::String(text) => Value::from(text),
        Json::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
        Json::Object(fields) => {
            Value::Map(fields.into_iter().map(|(key, value)| (Cow::Owned(key), plain(value))).collect())
        }
    }
}

fn micros(n: u64, what: &str) -> Result<u64, String> {
    n.checked_mul(1000).ok_or_else(|| format!("its {what} of {n} µs lies beyond all times"))
}

/// Ids of 64 bits are those of 128 bits with zeros before; some writers leave leading zeros out.
fn trace_id(text: &str) -> Result<TraceId, String> {
    let id: Option<TraceId> = padded(text, 32).and_then(|hex| hex.parse().ok());
    id.filter(|id| *id != TraceId::from_bytes([0; 16]))
        .ok_or_else(|| format!("`{}` is no trace id of up to 32 hex digits", shown(text)))
}

fn span_id(text: &str) -> Result<SpanId, String> {
    let id: Option<SpanId> = padded(text, 16).and_then(|hex| hex.parse().ok());
    id.filter(|id| *id != SpanId::from_bytes([0; 8]))
        .ok_or_else(|| format!("`{}` is no span id of up to 16 hex digits", shown(text)))
}

fn padded(text: &str, digits: usize) -> Option<String> {
    (!text.is_empty() && text.len() <= digits && text.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| format!("{text:0>digits$}"))
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"data":[{"traceID":"5f3b1c","spans":[
      {"traceID":"5f3b1c","spanID":"a1","flags":1,"operationName":"root","references":[],"startTime":1700000000000001,"duration":1500,
       "tags":[{"key":"span.kind","type":"string","value":"server"},{"key":"n","type":"int64","value":7},{"key":"big","type":"int64","value":"9007199254740993"},
               {"key":"x","type":"float64","value":2},{"key":"b","type":"bool","value":true},{"key":"raw","type":"binary","value":"AQI="},
               {"key":"otel.scope.name","type":"string","value":"lib"},{"key":"otel.scope.version","type":"string","value":"2"}],
       "logs":[{"timestamp":1700000000000002,"fields":[{"key":"event","type":"string","value":"retry"},{"key":"k","type":"string","value":"v"}]}],
       "processID":"p1","warnings":null},
      {"traceID":"5f3b1c","spanID":"a2","operationName":"child","references":[{"refType":"CHILD_OF","traceID":"5f3b1c","spanID":"a1"},
         {"refType":"FOLLOWS_FROM","traceID":"00000000000000000000000000000009","spanID":"9"}],"startTime":1700000000000100,"duration":0,
       "tags":[{"key":"otel.status_code","type":"string","value":"ERROR"},{"key":"otel.status_description","type":"string","value":"boom"},
               {"key":"error","type":"bool","value":true}],"logs":[],"processID":"p2","warnings":["clock skew"]},
      {"traceID":"5f3b1c","spanID":"a3","operationName":"after","references":[{"refType":"FOLLOWS_FROM","traceID":"5f3b1c","spanID":"a2"}],
       "startTime":1700000000000200,"duration":1,"tags":[{"key":"error","type":"string","value":"true"}],"processID":"p1"},
      {"traceID":"nonsense","spanID":"a4","operationName":"bad","startTime":1,"duration":1}],
     "processes":{"p1":{"serviceName":"shop","tags":[{"key":"host","type":"string","value":"h"}]},"p2":{"serviceName":"till"}},"warnings":null}],
     "total":0,"limit":0,"offset":0,"errors":null}"#;

    fn check(text: &str) -> Result<(Vec<Telemetry>, ReadFile), FileError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.json");
        std::fs::write(&path, text).expect("written");
        let mut all = Vec::new();
        let found = read(&path, |part| {
            all.extend(part);
            Ok::<(), FileError>(())
        })?;
        Ok((all, found))
    }

    fn text(key: &'static str, value: &'static str) -> (Key, Value) {
        (Key::from(key), Value::from(value))
    }

    #[test]
    fn a_downloaded_trace_is_read_with_all_that_it_says() {
        let (parts, found) = check(DOCUMENT).expect("read");
        assert_eq!(parts.len(), 3, "two processes, one of them with and without a scope");
        let spans: BTreeMap<String, (&Span, &Origin)> = parts
            .iter()
            .flat_map(|part| part.spans.iter().map(|span| (span.name.to_string(), (span, &*part.origin))))
            .collect();
        let (root, origin) = spans["root"];
        assert_eq!(root.trace_id.to_string(), "000000000000000000000000005f3b1c");
        assert_eq!(root.span_id.to_string(), "00000000000000a1");
        assert_eq!(
            (root.parent_span_id, root.kind, root.flags, &root.status),
            (None, SpanKind::Server, 1, &Status::Unset)
        );
        assert_eq!((root.start_unix_nano, root.end_unix_nano), (1_700_000_000_000_001_000, 1_700_000_000_001_501_000));
        let expected = vec![
            (Key::from("n"), Value::Int(7)),
            (Key::from("big"), Value::Int(9_007_199_254_740_993)),
            (Key::from("x"), Value::Double(2.0)),
            (Key::from("b"), Value::Bool(true)),
            (Key::from("raw"), Value::Bytes(vec![1, 2])),
        ];
        assert_eq!(root.attributes, expected);
        assert_eq!((root.events[0].name.as_ref(), &root.events[0].attributes), ("retry", &vec![text("k", "v")]));
        assert_eq!((origin.scope_name.as_str(), origin.scope_version.as_str()), ("lib", "2"));
        assert_eq!(origin.resource, [text("service.name", "shop"), text("host", "h")]);
        let (child, origin) = spans["child"];
        assert_eq!(child.parent_span_id, Some(root.span_id));
        assert_eq!(child.status, Status::Error("boom".to_owned()));
        assert_eq!((child.links.len(), &child.links[0].attributes), (1, &vec![text(REF_TYPE, "follows_from")]));
        assert_eq!(child.attributes.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["jaeger.warnings"]);
        assert!(!child.is_open() && origin.resource_text(sc::SERVICE_NAME) == Some("till"));
        let (after, _) = spans["after"];
        assert_eq!((after.parent_span_id, after.links.len()), (Some(child.span_id), 1), "it hangs below, and says how");
        assert_eq!(after.status, Status::Error(String::new()));
        assert_eq!((found.requests, found.rejected), (1, 1));
        assert!(
            found.problems[0].message.starts_with("data[0].spans[3]: `nonsense` is no trace id"),
            "{:?}",
            found.problems
        );
    }

    #[test]
    fn a_bare_trace_and_a_list_are_read_too_and_other_documents_refused() {
        let span = r#"{"traceID":"1","spanID":"2","operationName":"x","startTime":1,"duration":1,"process":{"serviceName":"s"}}"#;
        for document in [
            format!("{{\"spans\":[{span}]}}"),
            format!("[{{\"spans\":[{span}]}}]"),
            format!("{{\"data\":[{{\"spans\":[{span}]}}]}}"),
        ] {
            let (parts, found) = check(&document).expect("read");
            assert!(found.is_whole(), "{:?}", found.problems);
            assert_eq!(parts[0].origin.resource_text(sc::SERVICE_NAME), Some("s"), "{document}");
        }
        assert!(check("{\"data\":null,\"errors\":[]}").expect("nothing found").0.is_empty());
        for other in ["", "3", "{\"x\":1}", "{\"data\":7}", "{\"data\":["] {
            let error = check(other).expect_err(other).to_string();
            assert!(error.contains("expected a trace as Jaeger"), "{error}");
        }
        let far = r#"{"spans":[{"traceID":"1","spanID":"2","startTime":18446744073709551615,"duration":1}]}"#;
        assert!(check(far).expect("read").1.problems[0].message.contains("beyond all times"));
    }
}
