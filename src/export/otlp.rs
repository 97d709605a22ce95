//! The OTLP destination: turns batches into requests, sends them by HTTP or gRPC, and splits what is too large. What a
//! single answer means is decided in `otlp_http` and `otlp_grpc`.

use std::ops::Range;

use async_trait::async_trait;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

use super::destination::{Batch, Delivery, Destination, Items, Retry, Signal};
use super::endpoint::{OtlpSettings, Protocol};
use super::otlp_grpc::GrpcTransport;
use super::otlp_http::HttpTransport;
use crate::trace::otlp::{encode_log, encode_span};
use crate::trace::requests::{resource_of, scope_of};

/// Why no client could be made for an endpoint.
#[derive(Debug, thiserror::Error)]
#[error("preparing the OTLP {} endpoint {address}: {reason}", signal.as_str())]
pub struct OtlpSetupError {
    /// Of which signal.
    pub signal: Signal,
    /// Where to.
    pub address: String,
    /// What went wrong.
    pub reason: String,
}

/// One OTLP endpoint, or one for each signal.
pub struct Otlp {
    traces: Option<Transport>,
    logs: Option<Transport>,
}

enum Transport {
    Http(HttpTransport),
    Grpc(GrpcTransport),
}

impl Otlp {
    /// The name of this destination.
    pub const NAME: &'static str = "otlp";

    /// Clients for the endpoints; nothing is sent yet. Must be called inside a tokio runtime.
    pub fn new(traces: Option<OtlpSettings>, logs: Option<OtlpSettings>) -> Result<Self, OtlpSetupError> {
        let connect = |settings: Option<OtlpSettings>, signal| {
            settings.map(|settings| Transport::new(settings, signal)).transpose()
        };
        Ok(Self { traces: connect(traces, Signal::Traces)?, logs: connect(logs, Signal::Logs)? })
    }
}

impl Transport {
    fn new(settings: OtlpSettings, signal: Signal) -> Result<Self, OtlpSetupError> {
        let address = settings.address();
        match settings.protocol {
            Protocol::Grpc => GrpcTransport::new(settings).map(Self::Grpc),
            Protocol::HttpProtobuf | Protocol::HttpJson => HttpTransport::new(settings).map(Self::Http),
        }
        .map_err(|reason| OtlpSetupError { signal, address, reason })
    }

    async fn send(&self, request: Request, may_split: bool) -> Verdict {
        match self {
            Self::Http(http) => http.send(&request, may_split).await,
            Self::Grpc(grpc) => grpc.send(request, may_split).await,
        }
    }
}

#[async_trait]
impl Destination for Otlp {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn takes(&self, signal: Signal) -> bool {
        match signal {
            Signal::Traces => self.traces.is_some(),
            Signal::Logs => self.logs.is_some(),
        }
    }

    async fn deliver(&self, batch: &Batch) -> Delivery {
        let signal = batch.items.signal();
        let transport = match signal {
            Signal::Traces => &self.traces,
            Signal::Logs => &self.logs,
        };
        let Some(transport) = transport else {
            return Delivery::halted(format!("no OTLP endpoint for {} is configured", signal.as_str()));
        };
        let mut delivery = Delivery::default();
        let whole = 0..batch.items.len();
        let mut parts = vec![whole];
        while let Some(part) = parts.pop() {
            let count = part.len();
            let next = match transport.send(Request::new(batch, part.clone()), count > 1).await {
                Verdict::TooLarge(_) if count > 1 => {
                    let middle = part.start + count / 2;
                    parts.extend([middle..part.end, part.start..middle]);
                    continue;
                }
                Verdict::TooLarge(why) | Verdict::Rejected(why) => Delivery::refused(count, why),
                Verdict::Taken { rejected, message } => {
                    let rejected = rejected.min(count as u64);
                    Delivery { delivered: count as u64 - rejected, rejected, rejection: message, ..Delivery::default() }
                }
                Verdict::Later { retry, ambiguous } => return delivery.and_then(Delivery::later(retry, ambiguous)),
                Verdict::Halt(why) => return delivery.and_then(Delivery::halted(why)),
            };
            delivery = delivery.and_then(next);
        }
        delivery
    }
}

/// What became of one request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The endpoint took it, but for so many items.
    Taken { rejected: u64, message: Option<String> },
    /// It is larger than the endpoint, or good manners, allow.
    TooLarge(String),
    /// The endpoint will never take it.
    Rejected(String),
    /// The endpoint may take it later.
    Later { retry: Retry, ambiguous: bool },
    /// Something must be mended first.
    Halt(String),
}

/// A request of either kind.
pub(super) enum Request {
    Traces(ExportTraceServiceRequest),
    Logs(ExportLogsServiceRequest),
}

impl Request {
    fn new(batch: &Batch, part: Range<usize>) -> Self {
        let resource = Some(resource_of(&batch.origin));
        let scope = scope_of(&batch.origin);
        let schema_url = batch.origin.scope_schema_url.clone();
        let of_resource = batch.origin.resource_schema_url.clone();
        match &batch.items {
            Items::Spans(spans) => {
                let spans = spans[part].iter().map(encode_span).collect();
                let scope_spans = vec![ScopeSpans { scope, spans, schema_url }];
                let group = ResourceSpans { resource, scope_spans, schema_url: of_resource };
                Self::Traces(ExportTraceServiceRequest { resource_spans: vec![group] })
            }
            Items::Logs(records) => {
                let log_records = records[part].iter().map(encode_log).collect();
                let scope_logs = vec![ScopeLogs { scope, log_records, schema_url }];
                let group = ResourceLogs { resource, scope_logs, schema_url: of_resource };
                Self::Logs(ExportLogsServiceRequest { resource_logs: vec![group] })
            }
        }
    }
}
