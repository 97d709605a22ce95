//! OTLP over HTTP, in protobuf or JSON: one request, and what its answer means.
//!
//! Source: OTLP 1.11, "OTLP/HTTP Response". Trying again is left to [`super::delivery`], splitting to [`super::otlp`].

use std::io::Write as _;
use std::time::Duration;

use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use reqwest::{Client, Response};

use super::connect::{connect_timeout, install_tls_provider, user_agent};
use super::destination::Retry;
use super::endpoint::{Compression, OtlpSettings, Protocol};
use super::otlp::{Request, Verdict, quote};
use super::otlp_json;
use crate::trace::provider::Clock;

/// Collectors refuse bodies beyond about 20 MiB; half of that leaves room for those that count differently.
const MAX_BODY: usize = 10 << 20;

/// An answer is a few hundred bytes; what goes beyond this is not read.
const MAX_ANSWER: usize = 64 << 10;

/// Servers close idle connections after as little as five seconds, and a request on a closed one counts as sent.
const IDLE: Duration = Duration::from_secs(4);

/// A client for one endpoint.
pub(super) struct HttpTransport {
    client: Client,
    settings: OtlpSettings,
    headers: HeaderMap,
}

impl HttpTransport {
    pub(super) fn new(settings: OtlpSettings) -> Result<Self, String> {
        install_tls_provider();
        let client = Client::builder()
            .user_agent(user_agent())
            .timeout(settings.timeout)
            .connect_timeout(connect_timeout(settings.timeout))
            .pool_idle_timeout(IDLE)
            // A redirected POST turns into a GET, and its answer into a false success.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| error.to_string())?;
        let mut headers = settings.headers.clone();
        let content_type = match settings.protocol {
            Protocol::HttpJson => "application/json",
            _ => "application/x-protobuf",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if settings.compression == Compression::Gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(Self { client, settings, headers })
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
                let message = Some(quote(&message)).filter(|message| !message.is_empty());
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
            text += &format!(", location {}", quote(location));
        }
        let message = error_message(headers, answer);
        if !message.is_empty() {
            text += &format!(": {message}");
        }
        text
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("writing to memory cannot fail")
}

/// As much of the answer as is worth reading. An answer that breaks off is an answer nevertheless: its status is known.
async fn read_capped(mut response: Response) -> Vec<u8> {
    let mut answer = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MAX_ANSWER - answer.len();
        answer.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if answer.len() == MAX_ANSWER {
            break;
        }
    }
    answer
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
    quote(&message.unwrap_or_else(|| String::from_utf8_lossy(answer).into_owned()))
}

/// The wait asked for, as seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(moment.saturating_sub(Duration::from_nanos(Clock::System.now_unix_nano())))
}

/// The innermost cause, which is the one that says something: `Connection refused`.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    quote(&innermost.to_string())
}
