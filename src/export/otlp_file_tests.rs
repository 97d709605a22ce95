//! What is written into a file is read out of it again, and what cannot be read is told.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message as _;

use super::files::{FileError, Target};
use super::otlp_file::{ReadFile, read, write_lines};
use crate::model::{
    Entity, Event, Key, Link, LogRecord, Origin, Span, SpanId, SpanKind, Status, Telemetry, TraceId, Value,
};
use crate::trace::otlp_json::{encode_logs_request, encode_trace_request};
use crate::trace::requests::{logs_request, traces_request};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Empty),
        Just(Value::Double(f64::NAN)),
        Just(Value::Double(f64::NEG_INFINITY)),
        Just(Value::Array(Vec::new())),
        Just(Value::Map(Vec::new())),
        ".{0,8}".prop_map(Value::from),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_map(|x| Value::Double(if x.is_nan() { f64::NAN } else { x })),
        proptest::collection::vec(any::<u8>(), 0..6).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec((".{0,4}".prop_map(Key::from), inner), 0..4).prop_map(Value::Map),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Vec<(Key, Value)>> {
    proptest::collection::vec((".{0,6}".prop_map(Key::from), value()), 0..4)
}

prop_compose! {
    fn span()(
        ids in any::<([u8; 16], [u8; 8], Option<[u8; 8]>)>().prop_filter("ids are not zero", |(t, s, _)| *t != [0; 16] && *s != [0; 8]),
        (name, state, message) in (".{0,8}", "[a-z=]{0,6}", ".{0,8}"),
        (times, counts, flags) in any::<((u64, u64), [u32; 4], u32)>(),
        (kind, status) in (0..6i32, 0..3i32),
        (own, of_event, of_link) in (attributes(), attributes(), attributes()),
    ) -> Span {
        let mut span = Span::open(TraceId::from_bytes(ids.0), SpanId::from_bytes(ids.1), ids.2.map(SpanId::from_bytes), name.clone(), times.0);
        span.trace_state.clone_from(&state);
        span.flags = flags;
        span.kind = SpanKind::from_number(kind);
        span.end_unix_nano = times.1;
        span.status = [Status::Unset, Status::Ok, Status::Error(message)][status as usize].clone();
        span.attributes = own;
        span.dropped_attributes_count = counts[0];
        span.events.push(Event { name: name.into(), time_unix_nano: times.1, attributes: of_event, dropped_attributes_count: counts[1] });
        span.dropped_events_count = counts[2];
        span.links.push(Link {
            trace_id: span.trace_id, span_id: span.span_id, trace_state: state, attributes: of_link, dropped_attributes_count: counts[1], flags,
        });
        span.dropped_links_count = counts[3];
        span
    }
}

prop_compose! {
    fn record()(
        (text, times, flags, severity) in (".{0,8}", any::<(u64, u64)>(), any::<(u32, u32)>(), 0..25i32),
        (ids, body, own) in (any::<Option<([u8; 16], [u8; 8])>>(), value(), attributes()),
    ) -> LogRecord {
        let ids = ids.filter(|(t, s)| *t != [0; 16] && *s != [0; 8]);
        LogRecord {
            time_unix_nano: times.0,
            observed_unix_nano: times.1,
            severity_number: severity,
            severity_text: text.clone(),
            event_name: text.into(),
            body,
            attributes: own,
            dropped_attributes_count: flags.1,
            flags: flags.0,
            trace_id: ids.map(|(t, _)| TraceId::from_bytes(t)),
            span_id: ids.map(|(_, s)| SpanId::from_bytes(s)),
        }
    }
}

prop_compose! {
    fn telemetry()(
        (resource, scope, text, counts) in (attributes(), attributes(), "[a-z]{1,6}", any::<(u32, u32)>()),
        spans in proptest::collection::vec(span(), 0..3),
        logs in proptest::collection::vec(record(), 0..3),
    ) -> Telemetry {
        let origin = Origin {
            resource,
            resource_dropped_attributes_count: counts.0,
            entities: vec![Entity { kind: text.clone(), ..Entity::default() }],
            resource_schema_url: text.clone(),
            scope_name: text.clone(),
            scope_version: text.clone(),
            scope_attributes: scope,
            scope_dropped_attributes_count: counts.1,
            scope_schema_url: text,
        };
        Telemetry { origin: Arc::new(origin), spans, logs }
    }
}

/// Bytes, for NaN is not equal to itself.
fn bytes(telemetry: &[Telemetry]) -> (Vec<u8>, Vec<u8>) {
    (traces_request(telemetry).encode_to_vec(), logs_request(telemetry).encode_to_vec())
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    fn read(&self, name: &str, content: &[u8]) -> Result<(Vec<Telemetry>, ReadFile), FileError> {
        let mut all = Vec::new();
        let found = read(&self.file(name, content), |part| {
            all.extend(part);
            Ok::<(), FileError>(())
        })?;
        Ok((all, found))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_written_as_lines_is_read_again(parts in proptest::collection::vec(telemetry(), 0..3), ending in 0..3usize) {
        let folder = Folder::new();
        let path = folder.0.path().join(["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"][ending]);
        let mut out = Target::create(&path).expect("a file");
        write_lines(&mut out, &parts).expect("written");
        out.finish().expect("finished");
        let mut back = Vec::new();
        let found = read(&path, |part| { back.extend(part); Ok::<(), FileError>(()) }).expect("read");
        prop_assert!(found.is_whole(), "{:?}", found.problems);
        prop_assert_eq!(bytes(&back), bytes(&parts));
    }

    #[test]
    fn protobuf_is_read_alone_and_with_lengths(parts in proptest::collection::vec(telemetry(), 1..3)) {
        let folder = Folder::new();
        let (traces, logs) = bytes(&parts);
        let framed: Vec<u8> = [&traces, &logs].iter().flat_map(|m| [&(m.len() as u32).to_be_bytes()[..], m].concat()).collect();
        let (back, found) = folder.read("a.pb", &framed).expect("read");
        prop_assert!(found.is_whole(), "{:?}", found.problems);
        prop_assert_eq!(bytes(&back), (traces.clone(), logs.clone()));
        if parts.iter().any(|part| !part.logs.is_empty()) {
            prop_assert_eq!(bytes(&folder.read("a.pb", &logs).expect("read").0).1, logs);
        }
        if parts.iter().any(|part| !part.spans.is_empty()) {
            prop_assert_eq!(bytes(&folder.read("a.pb", &traces).expect("read").0).0, traces);
        }
    }
}

fn one() -> Vec<Telemetry> {
    let span = Span::open(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), None, "work", 5);
    vec![Telemetry { spans: vec![span], ..Telemetry::default() }]
}

#[test]
fn a_bad_line_is_told_with_its_number_and_the_rest_is_taken() {
    let good = String::from_utf8(encode_trace_request(&traces_request(&one()))).expect("text");
    let text = format!(
        "{good}\n\nnot json\n{{\"resourceSpans\":[{{\"scopeSpans\":3}}]}}\n{{\"other\":1}}\n{{\"resourceMetrics\":[]}}\n{{}}\n{good}\n"
    );
    let (telemetry, found) = Folder::new().read("a.jsonl", text.as_bytes()).expect("read");
    assert_eq!((telemetry.len(), found.requests, found.metrics), (2, 3, 1));
    let lines: Vec<_> = found.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [3, 4, 5]);
    let second = &found.problems[1].message;
    assert!(second.ends_with("integer `3`, expected a list at column 33"), "{second}");
    assert!(found.problems[2].message.contains("`resourceSpans` or `resourceLogs`"));
}

#[test]
fn a_torn_first_line_costs_itself_only() {
    let good = String::from_utf8(encode_trace_request(&traces_request(&one()))).expect("text");
    let torn = good.get(..good.len() / 2).expect("text");
    let text = format!("{torn}\n{good}\nnot json\n{good}\n");
    let (telemetry, found) = Folder::new().read("a.jsonl", text.as_bytes()).expect("read");
    assert_eq!((telemetry.len(), found.requests), (2, 2));
    let lines: Vec<_> = found.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 3]);
}

#[test]
fn a_document_over_several_lines_is_one_request() {
    let request: serde_json::Value =
        serde_json::from_slice(&encode_trace_request(&traces_request(&one()))).expect("JSON");
    let text = format!("\u{feff}\n{}", serde_json::to_string_pretty(&request).expect("text"));
    let (telemetry, found) = Folder::new().read("a.json", text.as_bytes()).expect("read");
    assert!(found.is_whole(), "{:?}", found.problems);
    assert_eq!(telemetry, one());
}

#[test]
fn a_span_without_ids_is_left_out_and_counted() {
    let mut request = traces_request(&[one(), one()].concat());
    request.resource_spans[0].scope_spans[1].spans[0].span_id = vec![0; 8];
    let (telemetry, found) = Folder::new().read("a.jsonl", &encode_trace_request(&request)).expect("read");
    assert_eq!((telemetry.len(), found.rejected, found.problems.len()), (1, 1, 1));
    assert!(found.problems[0].message.contains("1 items are left out"), "{}", found.problems[0].message);
}

#[test]
fn large_traces_are_cut_into_lines() {
    let spans = (1..=2500u64)
        .map(|n| Span::open(TraceId::from_bytes([1; 16]), SpanId::from_bytes(n.to_be_bytes()), None, "s", n));
    let parts = vec![Telemetry { spans: spans.collect(), ..Telemetry::default() }];
    let mut text = Vec::new();
    write_lines(&mut text, &parts).expect("written");
    assert_eq!(text.split(|b| *b == b'\n').count(), 4);
    let (back, _) = Folder::new().read("a.jsonl", &text).expect("read");
    assert_eq!(back.iter().flat_map(|part| &part.spans).count(), 2500);
}

#[test]
fn files_that_are_nothing_of_the_kind_are_refused() {
    let folder = Folder::new();
    assert!(folder.read("a.pb", b"\x00\x01\x02 no message").is_err());
    assert!(read(&folder.0.path().join("none"), |_| Ok::<(), FileError>(())).is_err());
    assert!(read(folder.0.path(), |_| Ok::<(), FileError>(())).is_err());
    let (telemetry, found) = folder.read("a.json", b"  \n ").expect("an empty file holds nothing");
    assert!(telemetry.is_empty() && found.is_whole());
    let (_, found) = folder.read("a.jsonl", b"{\"resourceSpans\": [").expect("read");
    assert_eq!(found.problems.len(), 1);
    let mut cut = Vec::new();
    write_lines(&mut cut, &one()).expect("written");
    let packed = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &cut.repeat(4000)).expect("written");
        encoder.finish().expect("packed")
    };
    let (_, found) = folder.read("a.gz", &packed[..packed.len() - 9]).expect("read");
    assert!(found.problems[0].message.contains("cannot be read on"), "{:?}", found.problems);
}

#[test]
fn what_other_sdks_sent_comes_back_as_it_was() {
    // Recordings of other packages that lie beside a working copy, or not.
    let beside =
        ["../shared/golden", "../../shared/golden"].map(|path| Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    let folder = Folder::new();
    let Some(golden) = beside.iter().find(|path| path.is_dir()) else {
        let _ = writeln!(std::io::stderr(), "skipped: there are no recordings beside the working copy");
        return;
    };
    let binary = std::fs::read(golden.join("golden_python_http.pb")).expect("read");
    let (telemetry, found) = folder.read("a.pb", &binary).expect("read");
    assert!(found.is_whole() && !telemetry.is_empty());
    let mut sent = ExportTraceServiceRequest::decode(&*binary).expect("a request");
    for span in sent.resource_spans.iter_mut().flat_map(|g| &mut g.scope_spans).flat_map(|s| &mut s.spans) {
        // A status in which nothing is set says no more than none.
        span.status = span.status.take().filter(|status| status.code != 0 || !status.message.is_empty());
    }
    assert_eq!(traces_request(&telemetry).encode_to_vec(), sent.encode_to_vec());
    let text = std::fs::read_to_string(golden.join("otlp_json_python.txt")).expect("read");
    let json = text.lines().find(|line| line.starts_with('{')).expect("a request");
    let (telemetry, found) = folder.read("a.json", json.as_bytes()).expect("read");
    assert!(found.is_whole());
    let again = encode_trace_request(&traces_request(&telemetry));
    let (back, _) = folder.read("b.json", &again).expect("read");
    assert_eq!(bytes(&back), bytes(&telemetry));
    assert!(encode_logs_request(&logs_request(&telemetry)).len() < 4);
}
