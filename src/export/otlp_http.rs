//! OTLP over HTTP, in protobuf or JSON: one request, and what its answer means.
//!
//! Source: OTLP 1.11, "OTLP/HTTP Response". Trying again is left to [`super::delivery`], splitting to [`super::otlp`].

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use reqwest::{Client, Response};

use super::connect;
use super::destination::Retry;
use super::endpoint::{Compression, OtlpSettings, Protocol};
use super::http::{gzip, read_capped, retry_after, root_cause};
use super::otlp::{Request, Verdict};
use crate::net::Secrets;
use crate::trace::otlp_json;

/// Collectors refuse bodies beyond about 20 MiB; half of that leaves room for those that count differently.
const MAX_BODY: usize = 10 << 20;

/// Servers close idle connections after as little as five seconds, and a request on a closed one counts as sent.
pub(super) const IDLE: Duration = Duration::from_secs(4);

/// A client for one endpoint.
pub(super) struct HttpTransport {
    client: Client,
    settings: OtlpSettings,
    headers: HeaderMap,
    /// What the endpoint may repeat and nobody shall see.
    secrets: Secrets,
}

impl HttpTransport {
    pub(super) fn new(settings: OtlpSettings) -> Result<Self, String> {
        let builder = connect::client(&settings.endpoint, settings.timeout).pool_idle_timeout(IDLE);
        let client = builder.build().map_err(|error| error.to_string())?;
        let mut headers = settings.headers.clone();
        let content_type = match settings.protocol {
            Protocol::HttpJson => "application/json",
            _ => "application/x-protobuf",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if settings.compression == Compression::Gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let secrets = Secrets::of_headers(&headers);
        Ok(Self { client, settings, headers, secrets })
    }

    /// Sends a request; one that `may_split` and is too large is not sent at all.
    pub(super) async fn send(&self, request: &Request, may_split: bool) -> Verdict {
        let mut body = self.encode(request);
        if may_split && body.len() > MAX_BODY {
            return Verdict::TooLarge(format!("{} bytes", body.len()));
        }
        if self.settings.compression == Compression::Gzip {
            body = gzip(&body);
        }
        let call = self.client.post(self.settings.endpoint.clone()).headers(self.headers.clone()).body(body);
        match call.send().await {
            Ok(response) => self.judge(response, request).await,
            Err(error) => self.failed(&error),
        }
    }

    fn encode(&self, request: &Request) -> Vec<u8> {
        match (request, self.settings.protocol) {
            (Request::Traces(request), Protocol::HttpJson) => otlp_json::encode_trace_request(request),
            (Request::Logs(request), Protocol::HttpJson) => otlp_json::encode_logs_request(request),
            (Request::Traces(request), _) => request.encode_to_vec(),
            (Request::Logs(request), _) => request.encode_to_vec(),
        }
    }

    async fn judge(&self, response: Response, request: &Request) -> Verdict {
        let status = response.status();
        let headers = response.headers().clone();
        let answer = read_capped(response).await;
        let says = || self.describe(status, &headers, &answer);
        match status.as_u16() {
            200..=299 if is(&headers, "text/html") => {
                Verdict::Halt(format!("{} answers with a web page; is it an OTLP endpoint?", self.settings.address()))
            }
            200..=299 => {
                let (rejected, message) = partial_success(request, &headers, &answer).unwrap_or_default();
                let message = Some(self.secrets.quote(&message)).filter(|message| !message.is_empty());
                Verdict::Taken { rejected: rejected.try_into().unwrap_or(0), message }
            }
            429 | 502..=504 => Verdict::Later {
                retry: Retry { after: retry_after(&headers), reason: says(), unreachable: false },
                // A gateway that ran out of time may have passed the request on.
                ambiguous: status == StatusCode::GATEWAY_TIMEOUT,
            },
            413 => Verdict::TooLarge(says()),
            // Wrong address, wrong key or wrong protocol, or a server that is broken: the telemetry is not at fault,
            // and giving it up would lose it.
            300..=399 | 401 | 403 | 404 | 405 | 407 | 415 | 500.. => Verdict::Halt(says()),
            _ => Verdict::Rejected(says()),
        }
    }

    fn failed(&self, error: &reqwest::Error) -> Verdict {
        let address = self.settings.address();
        if error.is_builder() {
            return Verdict::Halt(format!("{address}: {}", root_cause(error)));
        }
        let unreachable = error.is_connect();
        let reason = if unreachable {
            format!("cannot connect to {address}: {}", root_cause(error))
        } else if error.is_timeout() {
            format!("no answer from {address} within {:?}", self.settings.timeout)
        } else {
            format!("the connection to {address} broke: {}", root_cause(error))
        };
        Verdict::Later { retry: Retry { after: None, reason, unreachable }, ambiguous: !unreachable }
    }

    fn describe(&self, status: StatusCode, headers: &HeaderMap, answer: &[u8]) -> String {
        let mut text = format!("{} answers {status}", self.settings.address());
        if let Some(location) = headers.get(LOCATION).and_then(|value| value.to_str().ok()) {
            text.push_str(", location ");
            text.push_str(&self.secrets.quote(location));
        }
        let message = self.secrets.quote(&error_message(headers, answer));
        if !message.is_empty() {
            text.push_str(": ");
            text.push_str(&message);
        }
        text
    }
}

fn is(headers: &HeaderMap, media_type: &str) -> bool {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|text| text.starts_with(media_type))
}

/// How many items were rejected, and why; `None` where the answer cannot be read.
fn partial_success(request: &Request, headers: &HeaderMap, answer: &[u8]) -> Option<(i64, String)> {
    let json = is(headers, "application/json");
    Some(match request {
        Request::Traces(_) => {
            let response = if json {
                otlp_json::decode_trace_response(answer).ok()?
            } else {
                ExportTraceServiceResponse::decode(answer).ok()?
            };
            response.partial_success.map(|partial| (partial.rejected_spans, partial.error_message)).unwrap_or_default()
        }
        Request::Logs(_) => {
            let response = if json {
                otlp_json::decode_logs_response(answer).ok()?
            } else {
                ExportLogsServiceResponse::decode(answer).ok()?
            };
            response
                .partial_success
                .map(|partial| (partial.rejected_log_records, partial.error_message))
                .unwrap_or_default()
        }
    })
}

/// What an error's body says: a `google.rpc.Status` as OTLP has it, or plain text as everybody else does.
fn error_message(headers: &HeaderMap, answer: &[u8]) -> String {
    let message = if is(headers, "application/json") {
        otlp_json::decode_status_message(answer)
    } else if is(headers, "application/x-protobuf") {
        tonic_types::Status::decode(answer).ok().map(|status| status.message)
    } else if is(headers, "text/html") {
        return String::new();
    } else {
        None
    };
    message.unwrap_or_else(|| String::from_utf8_lossy(answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use wiremock::matchers::{header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::export::destination::{Batch, Delivery, Destination as _, Items};
    use crate::export::otlp::Otlp;
    use crate::trace::provider::Clock;
    use std::sync::Arc;

    use crate::model::{Origin, Span, SpanId, TraceId, Value};
    use crate::trace::otlp;

    fn batch(count: u64) -> Batch {
        let span = |i| Span::open(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), None, "s", i);
        Batch {
            origin: Arc::new(Origin {
                resource: vec![("service.name".into(), Value::from("t"))],
                scope_name: "spanscore".to_owned(),
                ..Origin::default()
            }),
            items: Items::Spans((1..=count).map(span).collect()),
        }
    }

    fn settings(address: &str, protocol: Protocol) -> OtlpSettings {
        OtlpSettings::new(format!("{address}/v1/traces").parse().unwrap(), protocol, HeaderMap::new())
    }

    async fn deliver(settings: OtlpSettings, batch: &Batch) -> Delivery {
        Otlp::new(Some(settings), None).unwrap().deliver(batch).await
    }

    async fn answered(template: ResponseTemplate) -> Delivery {
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(template).mount(&server).await;
        deliver(settings(&server.uri(), Protocol::HttpProtobuf), &batch(3)).await
    }

    #[tokio::test]
    async fn a_request_carries_the_batch_and_its_headers() {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .and(path("/v1/traces"))
            .and(header("content-type", "application/x-protobuf"))
            .and(header("content-encoding", "gzip"))
            .and(header("x-key", "k"))
            .respond_with(ResponseTemplate::new(200))
            .mount(&server)
            .await;
        let mut settings = settings(&server.uri(), Protocol::HttpProtobuf);
        settings.compression = Compression::Gzip;
        settings.headers.insert("x-key", HeaderValue::from_static("k"));
        assert_eq!(deliver(settings, &batch(2)).await, Delivery::complete(2));
        let sent = &server.received_requests().await.unwrap()[0];
        let mut body = Vec::new();
        GzDecoder::new(&sent.body[..]).read_to_end(&mut body).unwrap();
        let request =
            opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest::decode(&body[..]).unwrap();
        let group = &request.resource_spans[0];
        assert_eq!(group.resource, Some(otlp::encode_resource(&batch(2).origin.resource)));
        assert_eq!(group.scope_spans[0].scope.as_ref().unwrap().name, "spanscore");
        assert_eq!(group.scope_spans[0].spans.len(), 2);
    }

    #[tokio::test]
    async fn partial_success_is_counted_in_either_encoding() {
        let partial = ExportTraceServiceResponse {
            partial_success: Some(opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess {
                rejected_spans: 1,
                error_message: "too\nold".into(),
            }),
        };
        let expected = Delivery { delivered: 2, rejected: 1, rejection: Some("too old".into()), ..Delivery::default() };
        let protobuf = ResponseTemplate::new(200).set_body_raw(partial.encode_to_vec(), "application/x-protobuf");
        assert_eq!(answered(protobuf).await, expected);
        let json = otlp_json::encode_trace_response(&partial);
        assert_eq!(answered(ResponseTemplate::new(200).set_body_raw(json, "application/json")).await, expected);
    }

    #[tokio::test]
    async fn statuses_mean_what_otlp_says() {
        for status in [429, 502, 503, 504] {
            let delivery = answered(ResponseTemplate::new(status).insert_header("retry-after", "7")).await;
            let retry = delivery.retry.unwrap();
            assert_eq!((retry.after, retry.unreachable), (Some(Duration::from_secs(7)), false), "{status}");
            assert_eq!((delivery.delivered, delivery.rejected), (0, 0));
            assert_eq!(delivery.ambiguous, status == 504);
        }
        for status in [301, 401, 403, 404, 405, 415, 500] {
            let delivery = answered(ResponseTemplate::new(status).set_body_string("no\u{7} way")).await;
            let halt = delivery.halt.unwrap();
            assert!(halt.contains(&format!("answers {status}")) && halt.ends_with(": no way"), "{halt}");
            assert_eq!((delivery.delivered, delivery.rejected, delivery.retry), (0, 0, None));
        }
        for status in [400, 422] {
            let delivery = answered(ResponseTemplate::new(status)).await;
            assert_eq!((delivery.delivered, delivery.rejected, delivery.halt), (0, 3, None));
        }
        let page = ResponseTemplate::new(200).set_body_raw("<html>", "text/html; charset=utf-8");
        assert!(answered(page).await.halt.unwrap().contains("web page"));
    }

    #[tokio::test]
    async fn a_date_is_a_wait_too() {
        let in_an_hour = Duration::from_nanos(Clock::System.now_unix_nano()) + Duration::from_hours(1);
        let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + in_an_hour);
        let after =
            answered(ResponseTemplate::new(503).insert_header("retry-after", date.as_str())).await.retry.unwrap().after;
        assert!(after.is_some_and(|wait| (3_590..=3_600).contains(&wait.as_secs())), "{after:?}");
    }

    #[tokio::test]
    async fn what_is_too_large_is_split_until_it_fits() {
        struct AtMost(usize);
        impl wiremock::Respond for AtMost {
            fn respond(&self, request: &wiremock::Request) -> ResponseTemplate {
                ResponseTemplate::new(if request.body.len() > self.0 { 413 } else { 200 })
            }
        }
        let mut batch = batch(7);
        let Items::Spans(spans) = &mut batch.items else { unreachable!() };
        spans[4].set("large", "x".repeat(1000));
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(AtMost(300)).mount(&server).await;
        let delivery = deliver(settings(&server.uri(), Protocol::HttpProtobuf), &batch).await;
        assert_eq!((delivery.delivered, delivery.rejected), (6, 1));
        assert!(delivery.rejection.unwrap().contains("413"));
    }

    /// A server that reads a request and hangs up, or does not answer at all.
    async fn rude(hang_up: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                if hang_up {
                    let _ = stream.shutdown().await;
                } else {
                    open.push(stream);
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn an_answer_that_never_came_leaves_a_doubt_and_a_refused_connection_none() {
        let mut slow = settings(&rude(false).await, Protocol::HttpProtobuf);
        slow.timeout = Duration::from_millis(50);
        let delivery = deliver(slow, &batch(1)).await;
        let retry = delivery.retry.unwrap();
        assert!(delivery.ambiguous && !retry.unreachable && retry.reason.contains("within 50ms"), "{}", retry.reason);

        let delivery = deliver(settings(&rude(true).await, Protocol::HttpJson), &batch(1)).await;
        let retry = delivery.retry.unwrap();
        assert!(delivery.ambiguous && !retry.unreachable && retry.reason.contains("broke"), "{}", retry.reason);

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let delivery = deliver(settings(&nobody, Protocol::HttpProtobuf), &batch(1)).await;
        let retry = delivery.retry.unwrap();
        assert!(!delivery.ambiguous && retry.unreachable && retry.reason.contains("refused"), "{}", retry.reason);
    }
}
