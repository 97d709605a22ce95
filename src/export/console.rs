//! Spans and log records as the console exporters of OpenTelemetry's Python SDK print them, so that what reads the one
//! reads the other. JSON as such is left to `python_json`.
//!
//! Where Python would not print at all (bytes on a span make it raise), bytes appear as base64, as they do on its log
//! records; in a resource they appear as hex, as there.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::destination::{Batch, Delivery, Destination, Items, Retry, Signal};
use super::python_json::PythonJson;
use crate::model::{Event, Key, Link, LogRecord, Span, SpanId, Status, TraceId, Value};

/// Prints to a given writer, mostly standard output.
pub struct Console {
    out: Arc<Mutex<Sink>>,
    traces: bool,
    logs: bool,
}

/// The writer, until its reader goes away.
enum Sink {
    Open(Box<dyn Write + Send>),
    /// Whoever read has seen enough, which is no error: the rest is let go in silence.
    Closed,
}

impl Console {
    /// The name of this destination.
    pub const NAME: &'static str = "console";

    /// A console that prints the signals asked for.
    pub fn new(out: Box<dyn Write + Send>, traces: bool, logs: bool) -> Self {
        Self { out: Arc::new(Mutex::new(Sink::Open(out))), traces, logs }
    }
}

#[async_trait]
impl Destination for Console {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn takes(&self, signal: Signal) -> bool {
        match signal {
            Signal::Traces => self.traces,
            Signal::Logs => self.logs,
        }
    }

    async fn deliver(&self, batch: &Batch) -> Delivery {
        let count = batch.items.len();
        let text = render(batch);
        let out = Arc::clone(&self.out);
        // A pager that nobody scrolls blocks its writer, so this must not happen on a thread that others wait for.
        match tokio::task::spawn_blocking(move || write(&out, text.as_bytes())).await {
            Ok(Ok(())) => Delivery::complete(count),
            Ok(Err(error)) => Delivery::later(
                Retry { after: None, reason: format!("writing to the console: {error}"), unreachable: false },
                true,
            ),
            Err(error) => Delivery::halted(format!("writing to the console: {error}")),
        }
    }
}

fn write(out: &Mutex<Sink>, text: &[u8]) -> io::Result<()> {
    let mut sink = out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Sink::Open(writer) = &mut *sink else { return Ok(()) };
    match writer.write_all(text).and_then(|()| writer.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            *sink = Sink::Closed;
            Ok(())
        }
        result => result,
    }
}

/// The batch as text: one JSON document and a newline for each item.
pub fn render(batch: &Batch) -> String {
    let mut text = String::new();
    let mut push = |document: String| {
        text.push_str(&document);
        text.push('\n');
    };
    match &batch.items {
        Items::Spans(spans) => spans.iter().for_each(|span| push(span_document(span, &batch.origin.resource))),
        Items::Logs(records) => records.iter().for_each(|record| push(log_document(record, &batch.origin.resource))),
    }
    text
}

fn span_document(span: &Span, resource: &[(Key, Value)]) -> String {
    let mut json = PythonJson::default();
    json.object(|json| {
        json.key("name").str(&span.name);
        json.key("context");
        context(json, span.trace_id, span.span_id, &span.trace_state);
        json.key("kind").str(&format!("SpanKind.{}", kind(span)));
        json.key("parent_id");
        match span.parent_span_id {
            Some(parent) => json.str(&format!("0x{parent}")),
            None => json.null(),
        }
        json.key("start_time");
        time(json, span.start_unix_nano);
        json.key("end_time");
        time(json, span.end_unix_nano);
        json.key("status").object(|json| {
            json.key("status_code").str(span.status.as_str());
            if let Status::Error(description) = &span.status
                && !description.is_empty()
            {
                json.key("description").str(description);
            }
        });
        json.key("attributes");
        attributes(json, &span.attributes, base64);
        json.key("events").list(|json| span.events.iter().for_each(|event| event_object(json, event)));
        json.key("links").list(|json| span.links.iter().for_each(|link| link_object(json, link)));
        json.key("resource");
        resource_object(json, resource);
    });
    json.finish()
}

/// Python has no kind for "not said": its default is INTERNAL.
fn kind(span: &Span) -> &'static str {
    match span.kind {
        crate::model::SpanKind::Unspecified => crate::model::SpanKind::Internal.as_str(),
        kind => kind.as_str(),
    }
}

fn log_document(record: &LogRecord, resource: &[(Key, Value)]) -> String {
    let mut json = PythonJson::default();
    json.object(|json| {
        json.key("body");
        value(json, &record.body, base64);
        json.key("severity_number");
        match record.severity_number {
            0 => json.null(),
            number => json.int(number.into()),
        }
        json.key("severity_text").str_or_null(&record.severity_text);
        json.key("attributes");
        if record.attributes.is_empty() {
            json.null();
        } else {
            attributes(json, &record.attributes, base64);
        }
        json.key("dropped_attributes").int(record.dropped_attributes_count.into());
        json.key("timestamp");
        time(json, record.time_unix_nano);
        json.key("observed_timestamp");
        time(json, record.observed_unix_nano);
        json.key("trace_id").str(&record.trace_id.map_or_else(|| format!("0x{:032x}", 0), |id| format!("0x{id}")));
        json.key("span_id").str(&record.span_id.map_or_else(|| format!("0x{:016x}", 0), |id| format!("0x{id}")));
        json.key("trace_flags").int((record.flags & 0xff).into());
        json.key("resource");
        resource_object(json, resource);
        json.key("event_name").str(&record.event_name);
    });
    json.finish()
}

fn context(json: &mut PythonJson, trace_id: TraceId, span_id: SpanId, trace_state: &str) {
    json.object(|json| {
        json.key("trace_id").str(&format!("0x{trace_id}"));
        json.key("span_id").str(&format!("0x{span_id}"));
        json.key("trace_state").str(&trace_state_repr(trace_state));
    });
}

/// Python shows a trace state as the `repr` of a list of `"{key=k, value=v}"`: a list of strings, `[]` when empty.
fn trace_state_repr(trace_state: &str) -> String {
    let entries: Vec<String> = trace_state
        .split(',')
        .filter_map(|entry| entry.trim().split_once('='))
        .map(|(key, value)| format!("'{{key={key}, value={value}}}'"))
        .collect();
    format!("[{}]", entries.join(", "))
}

fn event_object(json: &mut PythonJson, event: &Event) {
    json.object(|json| {
        json.key("name").str(&event.name);
        json.key("timestamp");
        time(json, event.time_unix_nano);
        json.key("attributes");
        attributes(json, &event.attributes, base64);
    });
}

fn link_object(json: &mut PythonJson, link: &Link) {
    json.object(|json| {
        json.key("context");
        context(json, link.trace_id, link.span_id, &link.trace_state);
        json.key("attributes");
        attributes(json, &link.attributes, base64);
    });
}

fn resource_object(json: &mut PythonJson, resource: &[(Key, Value)]) {
    json.object(|json| {
        json.key("attributes");
        attributes(json, resource, |bytes| hex::encode(bytes));
        json.key("schema_url").str("");
    });
}

type ShowBytes = fn(&[u8]) -> String;

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn attributes(json: &mut PythonJson, attributes: &[(Key, Value)], bytes: ShowBytes) {
    json.object(|json| {
        for (key, x) in attributes {
            value(json.key(key), x, bytes);
        }
    });
}

fn value(json: &mut PythonJson, x: &Value, bytes: ShowBytes) {
    match x {
        Value::Empty => json.null(),
        Value::Str(text) => json.str(text),
        Value::Bool(x) => json.bool(*x),
        Value::Int(x) => json.int(*x),
        Value::Double(x) => json.double(*x),
        Value::Bytes(content) => json.str(&bytes(content)),
        Value::Array(items) => json.list(|json| items.iter().for_each(|item| value(json, item, bytes))),
        Value::Map(members) => attributes(json, members, bytes),
    }
}

/// A time in UTC with six digits, null where there is none.
fn time(json: &mut PythonJson, unix_nano: u64) {
    if unix_nano == 0 {
        json.null();
        return;
    }
    // Python divides by 1e9 first and rounds the double half to even: the last digit is not always what exact
    // arithmetic gives, and a test that compares texts sees it.
    let seconds = unix_nano as f64 / 1e9;
    let micros = (seconds.fract() * 1e6).round_ties_even() as i64;
    let moment = jiff::Timestamp::from_microsecond(seconds.trunc() as i64 * 1_000_000 + micros)
        .expect("nanoseconds in 64 bits end in the year 2554");
    json.str(&moment.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;

    fn sample() -> Batch {
        let trace = TraceId::from_bytes([0x0a; 16]);
        let mut span = Span::open(
            trace,
            SpanId::from_bytes([0xb0; 8]),
            Some(SpanId::from_bytes([1; 8])),
            "chat é😀",
            1_795_356_626_074_639_500,
        );
        span.end_unix_nano = 1_795_356_626_999_999_999;
        span.kind = crate::model::SpanKind::Client;
        span.trace_state = "a=b,c=d".to_owned();
        span.status = Status::Error("no\nsuch \"model\"".to_owned());
        span.set("s", "tab\t\u{7f}");
        span.set("f", 1.0);
        span.set("small", 1e-7);
        span.set("b", true);
        span.set("list", Value::Array(vec![Value::Int(1), Value::Int(2)]));
        span.set("empty", Value::Array(vec![]));
        span.add_event(
            "gen_ai.evaluation.result",
            1_795_356_626_135_972_001,
            vec![("gen_ai.evaluation.score.value".into(), Value::Double(0.5))],
        );
        span.add_event("bare", 1_795_356_626_135_972_999, vec![]);
        span.add_link(trace, SpanId::from_bytes([2; 8]), vec![("x".into(), Value::Int(1))]);
        Batch {
            origin: Arc::new(Origin {
                resource: vec![
                    ("service.name".into(), Value::from("spanscore")),
                    ("raw".into(), Value::Bytes(vec![1, 255])),
                ],
                ..Origin::default()
            }),
            items: Items::Spans(vec![span]),
        }
    }

    fn records() -> Batch {
        let full = LogRecord {
            time_unix_nano: 0,
            observed_unix_nano: 1_795_356_626_086_559_123,
            severity_number: 9,
            severity_text: "INFO".into(),
            event_name: "gen_ai.evaluation.result".into(),
            body: Value::Map(vec![("m".into(), Value::Array(vec![Value::Empty, Value::Bytes(vec![0, 255, 7])]))]),
            attributes: vec![("a".into(), Value::Double(f64::NAN)), ("m".into(), Value::Map(vec![]))],
            dropped_attributes_count: 0,
            flags: 1,
            trace_id: Some(TraceId::from_bytes([0x0a; 16])),
            span_id: Some(SpanId::from_bytes([0xb0; 8])),
        };
        let bare = LogRecord {
            time_unix_nano: 1_795_356_626_086_559_123,
            observed_unix_nano: 1_795_356_626_086_559_123,
            severity_number: 0,
            severity_text: String::new(),
            event_name: "".into(),
            body: Value::Empty,
            attributes: vec![],
            dropped_attributes_count: 0,
            flags: 0,
            trace_id: None,
            span_id: None,
        };
        Batch { items: Items::Logs(vec![full, bare]), ..sample() }
    }

    /// The file holds what opentelemetry-sdk 1.45.2 for Python prints for the same span and records.
    #[test]
    fn spans_and_records_print_as_in_python() {
        let printed = render(&sample()) + &render(&records());
        assert_eq!(printed, include_str!("testdata/console_python.txt"));
    }

    #[test]
    fn the_sixth_digit_of_a_time_is_rounded_as_in_python() {
        let cases = [
            (1_795_356_626_999_999_999, "2026-11-22T14:10:27.000000Z"),
            (1_795_356_626_074_639_400, "2026-11-22T14:10:26.074639Z"),
            (1_795_356_626_074_639_500, "2026-11-22T14:10:26.074640Z"),
            (1_795_356_626_074_639_700, "2026-11-22T14:10:26.074640Z"),
        ];
        for (unix_nano, expected) in cases {
            let mut json = PythonJson::default();
            time(&mut json, unix_nano);
            assert_eq!(json.finish(), format!("\"{expected}\""));
        }
    }

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_reader_that_went_away_is_no_error() {
        let console = Console::new(Box::new(Broken(io::ErrorKind::BrokenPipe)), true, false);
        assert_eq!(console.deliver(&sample()).await, Delivery::complete(1));
        assert_eq!(console.deliver(&sample()).await, Delivery::complete(1), "and stays none");
        let full = Console::new(Box::new(Broken(io::ErrorKind::StorageFull)), true, false);
        let delivery = full.deliver(&sample()).await;
        assert_eq!(delivery.settled(), 0);
        assert!(delivery.retry.is_some_and(|retry| retry.reason.starts_with("writing to the console: ")));
    }
}
