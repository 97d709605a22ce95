//! Requests over HTTP: media types, encodings, answers.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use spanscore::trace::otlp_json::encode_trace_request;

use super::{GZIP, JSON, PROTOBUF, Served, answer, gzip, head, message, request, send, spans};

#[test]
fn all_signals_are_taken_in_both_encodings_and_the_answer_is_in_the_same() {
    let served = Served::new();
    for path in ["/v1/traces", "/v1/logs", "/v1/metrics"] {
        for (media_type, body, full) in [(PROTOBUF, &b""[..], &b""[..]), (JSON, b"{}", b"{}")] {
            let answer = served.post(path, &[media_type], body);
            assert_eq!((answer.status, answer.body.as_slice()), (200, full), "{path} {media_type}");
            assert_eq!(answer.header("content-type"), media_type.strip_prefix("Content-Type: "), "{path}");
        }
    }
    let answer = served.post("/v1/traces", &["content-type: Application/JSON; charset=utf-8"], b"{}");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn what_is_acknowledged_is_in_the_store_plain_or_packed() {
    let served = Served::new();
    let json = encode_trace_request(&request(spans(40, 5)));
    for (n, (headers, body)) in [
        (vec![PROTOBUF], message(10, 5)),
        (vec![PROTOBUF, GZIP], gzip(&message(20, 5))),
        (vec![PROTOBUF, "Content-Encoding: identity"], message(30, 5)),
        (vec![JSON], json),
        (vec![JSON, GZIP], gzip(&encode_trace_request(&request(spans(50, 5))))),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = served.post("/v1/traces", &headers, &body);
        assert_eq!(answer.status, 200, "{headers:?}: {}", answer.text());
        let reader = served.store.reader().expect("a reader");
        let trace = spanscore::model::TraceId::from_bytes(u128::from(10 * (n as u64 + 1) + 1).to_be_bytes());
        let detail = reader.trace(&trace.to_string()).unwrap_or_else(|e| panic!("{headers:?}: {e}"));
        assert_eq!(detail.spans.len(), 5);
    }
    assert_eq!(served.count(|traffic| &traffic.spans), 25);
}

#[test]
fn bodies_in_chunks_are_taken() {
    use std::io::Write as _;
    let served = Served::new();
    let body = message(0, 50);
    let mut stream = std::net::TcpStream::connect(served.http()).expect("it listens");
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{PROTOBUF}\r\nTransfer-Encoding: chunked\r\n\r\n",
        served.http()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    for chunk in body.chunks(97) {
        write!(stream, "{:x}\r\n", chunk.len()).expect("sent");
        stream.write_all(chunk).expect("sent");
        stream.write_all(b"\r\n").expect("sent");
    }
    stream.write_all(b"0\r\n\r\n").expect("sent");
    assert_eq!((answer(stream).status, served.count(|traffic| &traffic.spans)), (200, 50));
}

#[test]
fn spans_without_ids_are_rejected_with_count_and_reason_and_the_rest_is_kept() {
    let served = Served::new();
    let mut some = request(spans(0, 5));
    some.resource_spans[0].scope_spans[0].spans[1].trace_id = vec![0; 16];
    some.resource_spans[0].scope_spans[0].spans[3].span_id.clear();
    let answer = served.post("/v1/traces", &[PROTOBUF], &some.encode_to_vec());
    let response = ExportTraceServiceResponse::decode(answer.body.as_slice()).expect("a response");
    let partial = response.partial_success.expect("partial success");
    assert_eq!((answer.status, partial.rejected_spans), (200, 2));
    assert!(partial.error_message.contains("trace id"), "{}", partial.error_message);

    let answer = served.post("/v1/traces", &[JSON], &encode_trace_request(&some));
    assert_eq!(answer.json()["partialSuccess"]["rejectedSpans"], "2", "{}", answer.text());
    assert_eq!((served.count(|t| &t.spans), served.count(|t| &t.duplicates), served.count(|t| &t.rejected)), (3, 3, 4));
}

#[test]
fn duplicates_are_counted_and_kept_once() {
    let served = Served::new();
    for _ in 0..3 {
        assert_eq!(served.post("/v1/traces", &[PROTOBUF], &message(7, 10)).status, 200);
    }
    assert_eq!((served.count(|t| &t.spans), served.count(|t| &t.duplicates)), (10, 20));
    // Within one request too.
    let twice = [spans(100, 5), spans(100, 5)].concat();
    assert_eq!(served.post("/v1/traces", &[PROTOBUF], &request(twice).encode_to_vec()).status, 200);
    assert_eq!((served.count(|t| &t.spans), served.count(|t| &t.duplicates)), (15, 25));
}

#[test]
fn what_cannot_be_decoded_is_a_400_with_a_status_in_the_requests_encoding() {
    let served = Served::new();
    for path in ["/v1/traces", "/v1/logs", "/v1/metrics"] {
        let answer = served.post(path, &[PROTOBUF], &[0x0a, 0xff, 0x01]);
        let status = tonic_types::Status::decode(answer.body.as_slice()).expect("a google.rpc.Status");
        assert_eq!((answer.status, status.code), (400, 3), "{path}");
        assert!(!status.message.is_empty(), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/x-protobuf"));

        let answer = served.post(path, &[JSON], b"{\"resourceSpans\":");
        assert_eq!((answer.status, answer.json()["code"].as_i64()), (400, Some(3)), "{path}");
        assert!(answer.json()["message"].as_str().is_some_and(|text| text.contains("JSON")), "{}", answer.text());
    }
    let answer = served.post("/v1/traces", &[PROTOBUF, GZIP], b"not packed at all");
    assert_eq!(answer.status, 400);
    assert_eq!((served.count(|t| &t.refused_requests), served.count(|t| &t.spans)), (7, 0));
}

#[test]
fn other_media_types_methods_paths_and_encodings_are_refused() {
    let served = Served::new();
    for headers in [&["Content-Type: text/plain"][..], &[], &["Content-Type: application/x-www-form-urlencoded"]] {
        assert_eq!(served.post("/v1/traces", headers, b"{}").status, 415, "{headers:?}");
    }
    let answer = served.post("/v1/traces", &[PROTOBUF, "Content-Encoding: br"], b"");
    assert_eq!((answer.status, answer.header("accept-encoding")), (415, Some("gzip, identity")));
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "HEAD"] {
        let answer = send(served.http(), &head(method, "/v1/traces", served.http(), &[JSON], 0), b"");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
    for path in ["/", "/v1/trace", "/v1/traces/", "/v1development/profiles"] {
        assert_eq!(served.post(path, &[JSON], b"{}").status, 404, "{path}");
    }
}

#[test]
fn metrics_of_model_calls_feed_the_pages_and_the_rest_is_counted() {
    let served = Served::new();
    let json = br#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"app"}}]},
        "scopeMetrics":[{"metrics":[
          {"name":"gen_ai.client.operation.duration","unit":"s","histogram":{"aggregationTemporality":1,"dataPoints":[
            {"count":"2","sum":3.5,"timeUnixNano":"5","attributes":[{"key":"gen_ai.request.model","value":{"stringValue":"m"}}]}]}},
          {"name":"process.cpu.time","sum":{"dataPoints":[{"asDouble":1},{"asDouble":2}]}}]}]}]}"#;
    for _ in 0..2 {
        assert_eq!(served.post("/v1/metrics", &[JSON], json).status, 200);
    }
    assert_eq!((served.count(|t| &t.metric_points), served.count(|t| &t.dropped_metric_points)), (2, 4));
    let metrics = served.traffic().metrics();
    let (series, total) = metrics.totals().next().expect("a series");
    assert_eq!((series.service.as_str(), total.count, total.sum), ("app", 4, 7.0), "deltas add up");
}
