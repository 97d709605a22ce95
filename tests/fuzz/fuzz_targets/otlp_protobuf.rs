//! What a protobuf request held is in the store after it was recorded: every span and log record of a trace with its
//! origin, once, and nothing else. The first byte of the input says whether it is of traces or of logs, and whether the
//! request comes twice.
#![no_main]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use spanscore::model::{Origin, SpanId, Telemetry, TraceId};
use spanscore::store::{Reader, Store, TraceQuery, Writer};
use spanscore::trace::otlp::{encode_log, encode_span};
use spanscore::trace::requests::{receive_logs, receive_traces, resource_of, scope_of};

/// A store is used so often; then a new one is taken, so that it stays small.
const USES: u64 = 2_000;

struct Scene {
    runtime: tokio::runtime::Runtime,
    store: Store,
    writer: Writer,
    reader: Reader,
    uses: u64,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("store")).expect("a store");
        let writer = store.writer().expect("a writer");
        let reader = store.reader().expect("a reader");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Self { runtime, store, writer, reader, uses: 0, _folder: folder }
    }

    fn close(self) {
        self.runtime.block_on(self.writer.close()).expect("closed");
        drop(self.store);
    }
}

thread_local! {
    static SCENE: RefCell<Option<Scene>> = const { RefCell::new(None) };
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, request)) = bytes.split_first() else { return };
    let received = if kind & 1 == 0 {
        let Ok(request) = ExportTraceServiceRequest::decode(request) else { return };
        receive_traces(request)
    } else {
        let Ok(request) = ExportLogsServiceRequest::decode(request) else { return };
        receive_logs(request)
    };
    if received.telemetry.is_empty() {
        return;
    }
    SCENE.with_borrow_mut(|scene| {
        if scene.as_ref().is_some_and(|scene| scene.uses >= USES) {
            scene.take().expect("there is one").close();
        }
        let scene = scene.get_or_insert_with(Scene::new);
        scene.uses += 1;
        record(scene, received.telemetry, kind & 2 == 2);
    });
});

/// The span or log record in bytes, with its origin in bytes: equal for equal items, NaN included.
type Item = (Vec<u8>, Vec<u8>);

#[derive(Default, PartialEq, Eq, Debug)]
struct Held {
    spans: BTreeMap<SpanId, Item>,
    logs: BTreeSet<Item>,
}

fn record(scene: &Scene, mut telemetry: Vec<Telemetry>, twice: bool) {
    let own = own_traces(&mut telemetry, scene.uses);
    let mut expected: HashMap<TraceId, Held> = HashMap::new();
    let (mut spans, mut again) = (0, 0);
    for part in &telemetry {
        let origin = origin_bytes(&part.origin);
        for span in &part.spans {
            let held = expected.entry(span.trace_id).or_default();
            if held.spans.contains_key(&span.span_id) {
                again += 1;
            } else {
                spans += 1;
                held.spans.insert(span.span_id, (encode_span(span).encode_to_vec(), origin.clone()));
            }
        }
        for log in &part.logs {
            if let Some(trace) = log.trace_id {
                expected.entry(trace).or_default().logs.insert((encode_log(log).encode_to_vec(), origin.clone()));
            }
        }
    }
    let first = scene.runtime.block_on(scene.writer.ingest(telemetry.clone())).expect("ingested");
    assert_eq!(first.spans, spans, "spans recorded");
    assert!(first.duplicates >= again, "{} duplicates of {again}", first.duplicates);
    if twice {
        let second = scene.runtime.block_on(scene.writer.ingest(telemetry)).expect("ingested");
        assert_eq!((second.spans, second.scores), (0, 0), "nothing is recorded twice");
    }
    for trace in own {
        let expected = expected.remove(&trace).unwrap_or_default();
        if expected.spans.is_empty() {
            // Log records of a trace without spans wait for them; there is no trace to open.
            continue;
        }
        let detail = scene.reader.trace(&trace.to_string()).expect("the trace");
        let origin = |place: usize| origin_bytes(&detail.origins[place]);
        let mut found = Held::default();
        for (place, span) in detail.spans.iter().enumerate() {
            let item = (encode_span(span).encode_to_vec(), origin(detail.origin_of[place]));
            assert!(found.spans.insert(span.span_id, item).is_none(), "a span is there once");
        }
        for (log, place) in &detail.logs {
            found.logs.insert((encode_log(log).encode_to_vec(), origin(*place)));
        }
        assert!(found == expected, "found {:#?}\nof {detail:#?}", found);
        assert_eq!(detail.row.operations, detail.spans.len() as u64);
        let skeleton = scene.reader.trace_skeleton(&trace.to_string()).expect("its outline");
        assert_eq!(skeleton.spans.len(), detail.spans.len());
        for span in &detail.spans {
            let alone = scene.reader.span(trace, span.span_id).expect("the span");
            assert_eq!(encode_span(&alone.span).encode_to_vec(), encode_span(span).encode_to_vec());
        }
    }
    let query = TraceQuery { limit: 3, ..TraceQuery::default() };
    scene.reader.trace_page(&query).expect("a page");
}

/// Gives every trace an id that no other use of the store has. Returns these ids.
fn own_traces(telemetry: &mut [Telemetry], uses: u64) -> Vec<TraceId> {
    let mut known: HashMap<TraceId, TraceId> = HashMap::new();
    let mut own = |id: TraceId| {
        let next = known.len() as u64 + 1;
        *known
            .entry(id)
            .or_insert_with(|| TraceId::from_bytes((u128::from(uses) << 64 | u128::from(next)).to_be_bytes()))
    };
    for part in telemetry {
        for span in &mut part.spans {
            span.trace_id = own(span.trace_id);
        }
        for log in &mut part.logs {
            log.trace_id = log.trace_id.map(&mut own);
        }
    }
    known.into_values().collect()
}

fn origin_bytes(origin: &Origin) -> Vec<u8> {
    let mut bytes = resource_of(origin).encode_length_delimited_to_vec();
    bytes.extend(scope_of(origin).unwrap_or_default().encode_length_delimited_to_vec());
    bytes.extend(format!("{:?} {:?}", origin.resource_schema_url, origin.scope_schema_url).into_bytes());
    bytes
}
