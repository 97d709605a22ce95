//! OTLP over gRPC: one request, and what its answer means.
//!
//! Source: OTLP 1.11, "OTLP/gRPC Response" and "Failures". Trying again is left to [`super::delivery`], splitting to
//! [`super::otlp`].

use std::error::Error;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message as _;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::connect::{connect_timeout, user_agent};
use super::destination::Retry;
use super::endpoint::{Compression, OtlpSettings};
use super::http::root_cause;
use super::otlp::{Request, Verdict};
use crate::net::{Secrets, install_tls_provider};

/// gRPC servers take messages of 4 MiB unless told otherwise.
const MAX_MESSAGE: usize = 4_000_000;

/// A channel to one endpoint, connected when it is first used.
pub(super) struct GrpcTransport {
    channel: Channel,
    metadata: MetadataMap,
    settings: OtlpSettings,
    /// What the endpoint may repeat and nobody shall see.
    secrets: Secrets,
}

impl GrpcTransport {
    pub(super) fn new(settings: OtlpSettings) -> Result<Self, String> {
        Ok(Self {
            channel: channel(&settings)?,
            metadata: MetadataMap::from_headers(settings.headers.clone()),
            secrets: Secrets::of_headers(&settings.headers),
            settings,
        })
    }

    /// Sends a request; one that `may_split` and is too large is not sent at all.
    pub(super) async fn send(&self, request: Request, may_split: bool) -> Verdict {
        let length = match &request {
            Request::Traces(request) => request.encoded_len(),
            Request::Logs(request) => request.encoded_len(),
        };
        if may_split && length > MAX_MESSAGE {
            return Verdict::TooLarge(format!("{length} bytes"));
        }
        let Ok(answer) = tokio::time::timeout(self.settings.timeout, self.call(request)).await else {
            let reason = format!("no answer from {} within {:?}", self.settings.address(), self.settings.timeout);
            return Verdict::Later { retry: Retry { after: None, reason, unreachable: false }, ambiguous: true };
        };
        match answer {
            Ok((rejected, message)) => Verdict::Taken {
                rejected: rejected.try_into().unwrap_or(0),
                message: Some(self.secrets.quote(&message)).filter(|message| !message.is_empty()),
            },
            Err(status) => self.judge(&status),
        }
    }

    /// How many items were rejected, and why.
    async fn call(&self, request: Request) -> Result<(i64, String), Status> {
        let gzip = self.settings.compression == Compression::Gzip;
        Ok(match request {
            Request::Traces(request) => {
                let mut client =
                    TraceServiceClient::new(self.channel.clone()).accept_compressed(CompressionEncoding::Gzip);
                if gzip {
                    client = client.send_compressed(CompressionEncoding::Gzip);
                }
                let response = client.export(self.with_metadata(request)).await?.into_inner();
                response.partial_success.map(|p| (p.rejected_spans, p.error_message)).unwrap_or_default()
            }
            Request::Logs(request) => {
                let mut client =
                    LogsServiceClient::new(self.channel.clone()).accept_compressed(CompressionEncoding::Gzip);
                if gzip {
                    client = client.send_compressed(CompressionEncoding::Gzip);
                }
                let response = client.export(self.with_metadata(request)).await?.into_inner();
                response.partial_success.map(|p| (p.rejected_log_records, p.error_message)).unwrap_or_default()
            }
        })
    }

    fn with_metadata<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        request
    }

    fn judge(&self, status: &Status) -> Verdict {
        let address = self.settings.address();
        if let Some(broken) = transport_failure(status) {
            let unreachable = broken == TransportFailure::NotConnected;
            let verb = if unreachable { "cannot connect to" } else { "the connection broke to" };
            let reason = format!("{verb} {address}: {}", root_cause(status));
            return Verdict::Later { retry: Retry { after: None, reason, unreachable }, ambiguous: !unreachable };
        }
        let reason = format!("{address} answers {:?}: {}", status.code(), self.secrets.quote(status.message()));
        let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let later = |after: Option<Duration>, ambiguous, reason| Verdict::Later {
            retry: Retry { after, reason, unreachable: false },
            ambiguous,
        };
        match status.code() {
            Code::Ok => Verdict::Taken { rejected: 0, message: None },
            Code::ResourceExhausted | Code::OutOfRange if is_about_size(status.message()) => Verdict::TooLarge(reason),
            Code::ResourceExhausted if after.is_some() => later(after, false, reason),
            Code::Unavailable | Code::Aborted | Code::OutOfRange | Code::DataLoss => later(after, false, reason),
            // The server, or somebody on the way to it, gave up waiting for what was sent.
            Code::DeadlineExceeded | Code::Cancelled => later(after, true, reason),
            Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition => Verdict::Rejected(reason),
            // Wrong address, wrong key or wrong protocol, or a server that is broken: the telemetry is not at fault, and
            // giving it up would lose it.
            Code::Unauthenticated
            | Code::PermissionDenied
            | Code::Unimplemented
            | Code::NotFound
            | Code::ResourceExhausted
            | Code::Internal
            | Code::Unknown => Verdict::Halt(reason),
        }
    }
}

/// A channel as the settings ask for, connected when it is first used. Must be called inside a tokio runtime.
pub(super) fn channel(settings: &OtlpSettings) -> Result<Channel, String> {
    install_tls_provider();
    let mut origin = settings.endpoint.clone();
    origin.set_path("");
    origin.set_query(None);
    let secure = origin.scheme() == "https";
    let mut endpoint = Endpoint::from_shared(origin.to_string())
        .and_then(|endpoint| endpoint.user_agent(user_agent()))
        .map_err(|error| root_cause(&error))?
        .connect_timeout(connect_timeout(settings.timeout));
    if secure {
        endpoint =
            endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(|error| root_cause(&error))?;
    }
    Ok(endpoint.connect_lazy())
}

#[derive(Debug, PartialEq, Eq)]
enum TransportFailure {
    /// No connection, so nothing was sent.
    NotConnected,
    /// A connection that failed under way.
    Broken,
}

/// Whether a status is not the server's but stands for a failure of the connection; those carry their cause.
fn transport_failure(status: &Status) -> Option<TransportFailure> {
    let mut cause = status.source()?;
    loop {
        if cause.is::<tonic::ConnectError>() {
            return Some(TransportFailure::NotConnected);
        }
        match cause.source() {
            Some(deeper) => cause = deeper,
            None => return Some(TransportFailure::Broken),
        }
    }
}

/// gRPC has no code for "too large"; implementations say it in words, and use RESOURCE_EXHAUSTED or OUT_OF_RANGE.
fn is_about_size(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["larger than max", "too large", "maximum size", "message size", "exceeds the limit", "size limit"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;
    use tonic_types::ErrorDetails;

    use super::*;
    use crate::export::endpoint::Protocol;

    fn transport(address: &str) -> GrpcTransport {
        let mut settings = OtlpSettings::new(address.parse().unwrap(), Protocol::Grpc, HeaderMap::new());
        settings.timeout = Duration::from_secs(2);
        GrpcTransport::new(settings).unwrap()
    }

    #[tokio::test]
    async fn codes_mean_what_otlp_says() {
        let transport = transport("http://127.0.0.1:1");
        let judge = |code, message: &str| transport.judge(&Status::new(code, message));
        for code in [Code::Unavailable, Code::Aborted, Code::OutOfRange, Code::DataLoss] {
            assert!(matches!(judge(code, ""), Verdict::Later { ambiguous: false, .. }), "{code:?}");
        }
        for code in [Code::DeadlineExceeded, Code::Cancelled] {
            assert!(matches!(judge(code, ""), Verdict::Later { ambiguous: true, .. }), "{code:?}");
        }
        for code in [Code::InvalidArgument, Code::FailedPrecondition] {
            assert!(matches!(judge(code, ""), Verdict::Rejected(_)), "{code:?}");
        }
        for code in [Code::Unauthenticated, Code::PermissionDenied, Code::Unimplemented, Code::Unknown, Code::Internal]
        {
            assert!(matches!(judge(code, ""), Verdict::Halt(_)), "{code:?}");
        }
        let large = "grpc: received message larger than max (5 vs. 4)";
        assert!(matches!(judge(Code::ResourceExhausted, large), Verdict::TooLarge(_)));
        assert!(matches!(judge(Code::OutOfRange, "decoded message length too large"), Verdict::TooLarge(_)));
        assert!(matches!(judge(Code::ResourceExhausted, "quota"), Verdict::Halt(_)));
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1500)));
        let busy = Status::with_error_details(Code::ResourceExhausted, "quota", details);
        let Verdict::Later { retry, .. } = transport.judge(&busy) else { panic!("RetryInfo asks for a retry") };
        assert_eq!(retry.after, Some(Duration::from_millis(1500)));
    }

    #[tokio::test]
    async fn a_refused_connection_leaves_no_doubt_and_a_broken_one_does() {
        let request =
            || Request::Logs(opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            drop(listener);
            let _ = stream.read(&mut [0; 4096]).await;
        });
        let transport = transport(&address);
        let Verdict::Later { retry, ambiguous } = transport.send(request(), false).await else { panic!("later") };
        assert!(ambiguous && !retry.unreachable, "{retry:?}");
        let Verdict::Later { retry, ambiguous } = transport.send(request(), false).await else { panic!("later") };
        assert!(!ambiguous && retry.unreachable, "{retry:?}");
        assert!(retry.reason.contains("refused"), "{}", retry.reason);
    }
}
