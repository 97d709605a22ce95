//! What happens to a request, whichever way it came: read, unpack, decode, record, count.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message as _;
use tokio::sync::Semaphore;

use super::body::{self, Bounds};
use super::budget::{Budget, Full, Share};
use super::refusal::Refusal;
use crate::serve::app::Traffic;
use crate::store::Writer;
use crate::trace::incoming::{Incoming, Items};
use crate::trace::metrics::{self, Points};
use crate::trace::otlp::OtlpError;
use crate::trace::otlp_json::{self, JsonError};
use crate::trace::requests::{Received, receive_logs, receive_traces};

/// What a request brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Logs,
    Metrics,
}

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

/// A request that is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Taken {
    /// Items that could not be taken.
    pub(super) rejected: u64,
    /// Why the first of them could not.
    pub(super) reason: String,
}

impl Taken {
    pub(super) fn trace_response(self) -> ExportTraceServiceResponse {
        let partial_success = (self.rejected > 0)
            .then_some(ExportTracePartialSuccess { rejected_spans: self.rejected as i64, error_message: self.reason });
        ExportTraceServiceResponse { partial_success }
    }

    pub(super) fn logs_response(self) -> ExportLogsServiceResponse {
        let partial_success = (self.rejected > 0).then_some(ExportLogsPartialSuccess {
            rejected_log_records: self.rejected as i64,
            error_message: self.reason,
        });
        ExportLogsServiceResponse { partial_success }
    }
}

/// Where requests go.
pub(super) struct Intake {
    pub(super) writer: Writer,
    pub(super) traffic: Arc<Traffic>,
    pub(super) budget: Arc<Budget>,
    pub(super) bounds: Bounds,
    /// Few unpack and decode at a time: more would be no faster, and every thread keeps the memory of its largest request.
    pub(super) workers: Semaphore,
}

/// How many large requests are unpacked and decoded at a time.
pub(super) const WORKERS: usize = 2;

enum Content {
    /// What is decoded of a request, and the rest of it.
    Telemetry(Option<Received>, Option<Incoming>),
    Points(Points),
}

/// Above this many bytes, decoding moves to a thread of its own, so that small requests do not wait for it.
const LARGE: usize = 512 << 10;

/// The most bytes of metrics in JSON: they are read as one tree of values.
const JSON_METRICS: usize = 2 << 20;

/// So many bytes of a request are decoded and recorded at a time.
const PIECE: usize = 2 << 20;

impl Intake {
    /// Room for a request, or the answer that there is none.
    pub(super) fn enter(&self) -> Result<Share, Refusal> {
        self.budget.enter().map_err(|Full| self.count(Refusal::Overloaded))
    }

    /// The body of a request, as it was sent.
    pub(super) async fn read<B>(&self, body: B, share: &mut Share, framing: usize) -> Result<Bytes, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let bounds = Bounds { bytes: self.bounds.bytes + framing, ..self.bounds };
        body::read(body, &bounds, share).await.map_err(|refusal| self.count(refusal))
    }

    /// Records a message; it is on disk when this returns.
    pub(super) async fn take(
        &self,
        signal: Signal,
        encoding: Encoding,
        packed: bool,
        message: Bytes,
        mut share: Share,
    ) -> Result<Taken, Refusal> {
        let limit = self.bounds.bytes;
        let large = packed || message.len() > LARGE;
        let work = move || {
            let message = if packed {
                let content = body::gunzip(&message, limit, &mut share)?;
                share.shrink(message.len() as u64);
                content
            } else {
                message
            };
            if (encoding, signal) == (Encoding::Json, Signal::Metrics) && message.len() > JSON_METRICS {
                return Err(Refusal::TooLarge { limit: JSON_METRICS, unpacked: packed });
            }
            if encoding == Encoding::Json {
                // Read as JSON, it takes many times its bytes until it is telemetry.
                share.grow(3 * message.len() as u64).map_err(|Full| Refusal::Overloaded)?;
            }
            decode(signal, encoding, message).map(|content| (content, share))
        };
        let decoded = if large { self.blocking(work).await } else { work() };
        let (content, share) = decoded.map_err(|refusal| self.count(refusal))?;
        let taken = match content {
            Content::Telemetry(first, rest) => {
                self.record_all(first, rest).await.map_err(|refusal| self.count(refusal))?
            }
            Content::Points(points) => {
                let kept = points.kept.len() as u64;
                let dropped = self.traffic.metrics().keep(points.kept);
                Traffic::add(&self.traffic.metric_points, kept - dropped);
                Traffic::add(&self.traffic.dropped_metric_points, points.others + dropped);
                Taken::default()
            }
        };
        // Until now its memory is in use.
        drop(share);
        Ok(taken)
    }

    /// Records a request piece by piece. If the store fails in the middle, the client sends all of it again, and what is
    /// there already counts as duplicates.
    async fn record_all(&self, first: Option<Received>, mut rest: Option<Incoming>) -> Result<Taken, Refusal> {
        let mut all = Taken::default();
        let mut next = first;
        while let Some(received) = next.take() {
            let taken = self.record(received).await?;
            if all.rejected == 0 {
                all.reason = taken.reason;
            }
            all.rejected += taken.rejected;
            if let Some(mut incoming) = rest.take().filter(|incoming| !incoming.is_done()) {
                let decode = move || (incoming.next(PIECE), incoming);
                let (received, incoming) = self.blocking(decode).await;
                next = received.map_err(|e| Refusal::Undecodable(e.to_string()))?;
                rest = Some(incoming);
            }
        }
        Ok(all)
    }

    async fn record(&self, received: Received) -> Result<Taken, Refusal> {
        let traffic = &self.traffic;
        if !received.telemetry.is_empty() {
            let stored = self.writer.ingest(received.telemetry).await;
            traffic.store_said(stored.as_ref().err());
            let stored = stored.map_err(|error| Refusal::Store(error.to_string()))?;
            Traffic::add(&traffic.spans, stored.spans);
            Traffic::add(&traffic.logs, stored.logs);
            Traffic::add(&traffic.scores, stored.scores);
            Traffic::add(&traffic.duplicates, stored.duplicates);
        }
        Traffic::add(&traffic.rejected, received.rejected);
        Ok(Taken { rejected: received.rejected, reason: received.reason.unwrap_or_default() })
    }

    /// Does work that takes long on a thread of its own.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let _permit = self.workers.acquire().await.expect("the semaphore is never closed");
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    /// Counts a refusal on its way out.
    pub(super) fn count(&self, refusal: Refusal) -> Refusal {
        let count = if refusal.is_for_now() { &self.traffic.overloads } else { &self.traffic.refused_requests };
        Traffic::add(count, 1);
        refusal
    }
}

fn decode(signal: Signal, encoding: Encoding, message: Bytes) -> Result<Content, Refusal> {
    let json = |e: JsonError| Refusal::Undecodable(e.to_string());
    Ok(match (encoding, signal) {
        (Encoding::Protobuf, Signal::Traces) => pieces(message, Items::Spans)?,
        (Encoding::Protobuf, Signal::Logs) => pieces(message, Items::LogRecords)?,
        (Encoding::Protobuf, Signal::Metrics) => points(&message)?,
        (Encoding::Json, Signal::Traces) => {
            let request = otlp_json::decode_trace_request(&message).map_err(json)?;
            Content::Telemetry(Some(receive_traces(request)), None)
        }
        (Encoding::Json, Signal::Logs) => {
            let request = otlp_json::decode_logs_request(&message).map_err(json)?;
            Content::Telemetry(Some(receive_logs(request)), None)
        }
        (Encoding::Json, Signal::Metrics) => {
            let request = otlp_json::decode_metrics_request(&message).map_err(json)?;
            points(&request.encode_to_vec())?
        }
    })
}

fn points(message: &[u8]) -> Result<Content, Refusal> {
    let points = metrics::read_points(message);
    points.map(Content::Points).map_err(|e| Refusal::Undecodable(format!("decoding OTLP metrics: {e}")))
}

fn pieces(message: Bytes, items: Items) -> Result<Content, Refusal> {
    let undecodable = |e: OtlpError| Refusal::Undecodable(e.to_string());
    let length = message.len();
    let mut incoming = Incoming::new(message, items).map_err(undecodable)?;
    if length > PIECE {
        // Nothing of a request is kept that turns out to be none at its end.
        let mut whole = incoming.clone();
        while whole.next(PIECE).map_err(undecodable)?.is_some() {}
    }
    let first = incoming.next(PIECE).map_err(undecodable)?;
    Ok(Content::Telemetry(first, Some(incoming)))
}
