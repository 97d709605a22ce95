//! Size, time and load: what is too much is refused in the protocol's words, and nothing of it is kept.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message as _;
use spanscore::serve::ConnectionLimits;
use spanscore::serve::collector::{CollectorOptions, Limits};
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic_types::StatusExt as _;

use super::{GZIP, JSON, PROTOBUF, Served, answer, gzip, head, message, request, send, spans};

const LIMIT: usize = 20 << 20;

/// Keeps every writer of the store waiting until it is dropped.
struct Lock(rusqlite::Connection);

impl Lock {
    fn of(served: &Served) -> Self {
        let conn = rusqlite::Connection::open(served.store.path()).expect("opened");
        conn.busy_timeout(Duration::from_secs(10)).expect("set");
        conn.execute_batch("BEGIN IMMEDIATE").expect("locked");
        Self(conn)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.execute_batch("ROLLBACK").expect("unlocked");
    }
}

/// A collector that takes one request of a few thousand bytes at a time.
fn tight() -> Served {
    let limits = Limits { bytes_under_way: 1000, ..Limits::default() };
    Served::with(CollectorOptions { limits, ..CollectorOptions::default() })
}

/// Waits until so many bytes are under way.
fn until_under_way(served: &Served, bytes: u64) {
    let end = Instant::now() + Duration::from_secs(20);
    while served.count(|t| &t.queued_bytes) < bytes {
        assert!(Instant::now() < end, "nothing is under way");
        std::thread::yield_now();
    }
}

/// A request of that size: one span with a long attribute.
fn large(size: usize) -> Vec<u8> {
    let mut span = spans(0, 1);
    span[0].set("long", "x".repeat(size));
    request(span).encode_to_vec()
}

#[test]
fn twenty_mebibytes_are_the_limit_plain_and_unpacked() {
    let served = Served::new();
    let (fits, too_large) = (large(LIMIT - 1000), large(LIMIT + 1));
    assert!(fits.len() <= LIMIT && too_large.len() > LIMIT);
    assert_eq!(served.post("/v1/traces", &[PROTOBUF], &fits).status, 200);
    assert_eq!(served.post("/v1/traces", &[PROTOBUF, GZIP], &gzip(&fits)).status, 200);
    for (headers, body) in [(vec![PROTOBUF], too_large.clone()), (vec![PROTOBUF, GZIP], gzip(&too_large))] {
        let answer = served.post("/v1/traces", &headers, &body);
        let status = tonic_types::Status::decode(answer.body.as_slice()).expect("a google.rpc.Status");
        assert_eq!((answer.status, status.code), (413, 8), "{headers:?}");
        assert!(status.message.contains("20 MiB"), "{}", status.message);
    }
    // In chunks, the size is known at the end only.
    let mut stream = TcpStream::connect(served.http()).expect("it listens");
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n",
        served.http()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let chunk = [format!("{:x}\r\n", 1 << 20).as_bytes(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    for _ in 0..=20 {
        stream.write_all(&chunk).expect("sent");
    }
    stream.write_all(b"0\r\n\r\n").expect("sent");
    let answer = answer(stream);
    assert_eq!((answer.status, answer.json()["code"].as_i64()), (413, Some(8)));
    assert_eq!(served.count(|t| &t.spans), 1);
    assert_eq!(served.count(|t| &t.queued_bytes), 0);
}

#[test]
fn a_gzip_bomb_is_refused_before_it_goes_off() {
    let served = Served::new();
    let bomb = gzip(&vec![0; 64 << 20]);
    assert!(bomb.len() < 70_000, "a thousand to one");
    let start = Instant::now();
    let answer = served.post("/v1/traces", &[PROTOBUF, GZIP], &bomb);
    assert_eq!(answer.status, 413);
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    // The size at the end of the file is that of the last member: no way around the limit.
    let members = [bomb, gzip(b"\0")].concat();
    assert_eq!(served.post("/v1/traces", &[PROTOBUF, GZIP], &members).status, 413);
}

#[test]
fn the_limits_hold_for_calls_too() {
    let served = Served::new();
    served.block_on(async {
        let endpoint = format!("http://{}", served.grpc());
        let mut plain =
            TraceServiceClient::connect(endpoint).await.expect("connected").max_encoding_message_size(1 << 30);
        let mut packed = plain.clone().send_compressed(CompressionEncoding::Gzip);
        let mut long = spans(0, 1);
        long[0].set("long", "x".repeat(LIMIT));
        for client in [&mut plain, &mut packed] {
            let status = client.export(request(long.clone())).await.expect_err("too large");
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
            assert!(status.get_details_retry_info().is_none(), "the same again would be as large");
        }
    });
    assert_eq!(served.count(|t| &t.spans), 0);
}

#[test]
fn the_answer_comes_after_the_commit_and_beyond_the_bound_comes_later() {
    let served = tight();
    let lock = Lock::of(&served);
    let first = message(0, 50);
    let size = first.len() as u64;
    assert!(size > 1000);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| served.post("/v1/traces", &[PROTOBUF], &first));
        until_under_way(&served, size);
        assert!(!waiting.is_finished(), "not on disk, not acknowledged");

        let answer = served.post("/v1/traces", &[PROTOBUF], &message(100, 5));
        let status = tonic_types::Status::decode(answer.body.as_slice()).expect("a google.rpc.Status");
        assert_eq!((answer.status, answer.header("retry-after"), status.code), (503, Some("1"), 14));
        let answer = served.post("/v1/traces", &[JSON], &vec![b' '; 2000]);
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        served.block_on(async {
            let mut client = TraceServiceClient::connect(format!("http://{}", served.grpc())).await.expect("connected");
            let status = client.export(request(spans(200, 5))).await.expect_err("busy");
            assert_eq!(status.code(), Code::Unavailable);
            let delay = status.get_details_retry_info().expect("RetryInfo").retry_delay.expect("a delay");
            assert!(!delay.is_zero());
        });
        assert_eq!((served.count(|t| &t.overloads), served.count(|t| &t.spans)), (3, 0));

        drop(lock);
        assert_eq!(waiting.join().expect("no panic").status, 200);
    });
    assert_eq!((served.count(|t| &t.spans), served.count(|t| &t.queued_bytes)), (50, 0));
    assert_eq!(served.post("/v1/traces", &[PROTOBUF], &message(100, 5)).status, 200, "later");
}

#[test]
fn so_many_requests_at_once_and_no_more() {
    let limits = Limits { requests_under_way: 1, ..Limits::default() };
    let served = Served::with(CollectorOptions { limits, ..CollectorOptions::default() });
    let lock = Lock::of(&served);
    std::thread::scope(|scope| {
        let body = message(0, 5);
        let waiting = scope.spawn(|| served.post("/v1/traces", &[PROTOBUF], &message(0, 5)));
        until_under_way(&served, body.len() as u64);
        assert_eq!(served.post("/v1/logs", &[JSON], b"{}").status, 503);
        drop(lock);
        assert_eq!(waiting.join().expect("no panic").status, 200);
    });
    assert_eq!(served.post("/v1/logs", &[JSON], b"{}").status, 200);
}

#[test]
fn stopping_answers_what_is_under_way() {
    let mut served = Served::new();
    let lock = Lock::of(&served);
    let address = served.http();
    let body = message(0, 20);
    let waiting = std::thread::spawn({
        let body = body.clone();
        move || send(address, &head("POST", "/v1/traces", address, &[PROTOBUF], body.len()), &body)
    });
    until_under_way(&served, body.len() as u64);
    let unlock = std::thread::spawn(move || {
        // The port closes first.
        while TcpStream::connect(address).is_ok() {
            std::thread::yield_now();
        }
        drop(lock);
    });
    served.stop();
    assert_eq!(waiting.join().expect("no panic").status, 200);
    unlock.join().expect("no panic");
    let reader = served.store.reader().expect("a reader");
    assert_eq!(reader.trace(&format!("{:032x}", 1)).expect("the trace").spans.len(), 5);
}

#[test]
fn clients_that_dawdle_are_cut_off() {
    let limits = Limits { silence: Duration::from_millis(50), ..Limits::default() };
    let connections = ConnectionLimits { head: Duration::from_millis(50), ..ConnectionLimits::default() };
    let served = Served::with(CollectorOptions { limits, connections, ..CollectorOptions::default() });
    // In the middle of a body.
    let mut stream = TcpStream::connect(served.http()).expect("it listens");
    stream.write_all(head("POST", "/v1/traces", served.http(), &[PROTOBUF], 100).as_bytes()).expect("sent");
    assert_eq!(answer(stream).status, 408);
    assert_eq!(served.count(|t| &t.queued_bytes), 0);
    // In the middle of a head, or before any, on every port.
    for (port, begun) in [
        (served.http(), &b"POST /v1/traces HTTP/1.1\r\nHost:"[..]),
        (served.ui(), b"GET / HT"),
        (served.ui(), b""),
        (served.grpc(), b"PRI * HT"),
        (served.grpc(), b""),
    ] {
        let mut stream = TcpStream::connect(port).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        stream.write_all(begun).expect("sent");
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest).map_err(|error| error.kind());
        assert!(matches!(end, Ok(_) | Err(ErrorKind::ConnectionReset)), "{port} keeps it: {end:?}");
        assert!(!String::from_utf8_lossy(&rest).contains(" 200 "));
    }
}

#[test]
fn more_connections_wait_until_there_is_room() {
    let connections = ConnectionLimits { connections: 2, ..ConnectionLimits::default() };
    let served = Arc::new(Served::with(CollectorOptions { connections, ..CollectorOptions::default() }));
    let idle: Vec<_> = (0..2).map(|_| TcpStream::connect(served.http()).expect("it listens")).collect();
    let waiting = std::thread::spawn({
        let served = Arc::clone(&served);
        move || served.post("/v1/logs", &[JSON], b"{}").status
    });
    drop(idle);
    assert_eq!(waiting.join().expect("no panic"), 200);
}
