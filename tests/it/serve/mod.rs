//! `spanscore serve` over its sockets: standards.md, section 5, line by line, and who may not talk to it.

// Requests and answers over HTTP, and what counts as a message.
mod otlp_http;
// The JSON encoding.
mod otlp_json;
// The same over gRPC.
mod otlp_grpc;
// What the store makes of it.
mod kept;
// Limits: size, time, load.
mod limits;
// Foreign requests.
mod security;
// The command: flags, addresses, its end.
mod command;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use spanscore::model::{Span, SpanId, Telemetry, TraceId};
use spanscore::serve::collector::CollectorOptions;
use spanscore::serve::{Service, ServiceOptions};
use spanscore::store::Store;
use spanscore::trace::requests::traces_request;

/// The service over a store of its own, on free ports.
pub(super) struct Served {
    runtime: tokio::runtime::Runtime,
    service: Option<Service>,
    pub(super) store: Store,
    _dir: tempfile::TempDir,
}

/// An answer over HTTP/1.1.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Served {
    pub(super) fn new() -> Self {
        Self::with(CollectorOptions::default())
    }

    pub(super) fn with(collector: CollectorOptions) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        let writer = store.writer().expect("a writer");
        let options = ServiceOptions { ui: Some(([127, 0, 0, 1], 0).into()), collector };
        let service = runtime.block_on(Service::start(store.clone(), writer, options)).expect("free ports");
        Self { runtime, service: Some(service), store, _dir: dir }
    }

    fn service(&self) -> &Service {
        self.service.as_ref().expect("it runs until the test ends")
    }

    pub(super) fn ui(&self) -> SocketAddr {
        self.service().addresses().ui.expect("pages are served")
    }

    pub(super) fn http(&self) -> SocketAddr {
        self.service().addresses().otlp_http.expect("OTLP is served")
    }

    pub(super) fn grpc(&self) -> SocketAddr {
        self.service().addresses().otlp_grpc.expect("OTLP is served")
    }

    /// One of the counts of what came in.
    pub(super) fn count(&self, count: fn(&spanscore::serve::app::Traffic) -> &AtomicU64) -> u64 {
        count(self.service().traffic()).load(Ordering::Relaxed)
    }

    pub(super) fn traffic(&self) -> &spanscore::serve::app::Traffic {
        self.service().traffic()
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// POST to the OTLP port, with the headers given as `name: value`.
    pub(super) fn post(&self, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        send(self.http(), &head("POST", path, self.http(), headers, body.len()), body)
    }

    /// Stops the service; what is under way is answered first.
    pub(super) fn stop(&mut self) {
        if let Some(service) = self.service.take() {
            self.runtime.block_on(service.stop());
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// The head of a request, with a Host that is right and the body's length.
pub(super) fn head(method: &str, path: &str, host: SocketAddr, headers: &[&str], length: usize) -> String {
    let more: String = headers.iter().flat_map(|line| [*line, "\r\n"]).collect();
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n")
}

/// Sends these bytes and reads the answer to the end of the connection.
pub(super) fn send(to: SocketAddr, head: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    stream.write_all(head.as_bytes()).expect("sent");
    // A server that has answered already need not read on.
    let _ = stream.write_all(body);
    answer(stream)
}

/// Reads an answer to the end of the connection.
pub(super) fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let split = split.unwrap_or_else(|| panic!("no answer: {end:?}: {}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status line");
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_owned()));
    Answer { status, headers: headers.collect(), body: bytes[split + 4..].to_vec() }
}

/// So many spans, five to a trace, of the traces from `first` on.
pub(super) fn spans(first: u64, count: u64) -> Vec<Span> {
    (0..count)
        .map(|n| {
            let trace = TraceId::from_bytes(u128::from(first + n / 5 + 1).to_be_bytes());
            let id = |n: u64| SpanId::from_bytes((n + 1).to_be_bytes());
            let parent = (n % 5 > 0).then(|| id(n - n % 5));
            let mut span = Span::open(trace, id(n), parent, format!("step {}", n % 5), 1_800_000_000_000_000_000 + n);
            span.end_unix_nano = span.start_unix_nano + 1_000_000;
            span.set("n", n as i64);
            span
        })
        .collect()
}

/// A trace request with these spans.
pub(super) fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    traces_request(&[Telemetry { spans, ..Telemetry::default() }])
}

pub(super) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).expect("in memory");
    encoder.finish().expect("in memory")
}

pub(super) const PROTOBUF: &str = "Content-Type: application/x-protobuf";
pub(super) const JSON: &str = "Content-Type: application/json";
pub(super) const GZIP: &str = "Content-Encoding: gzip";

/// The bytes of a request of so many spans.
pub(super) fn message(first: u64, count: u64) -> Vec<u8> {
    request(spans(first, count)).encode_to_vec()
}
