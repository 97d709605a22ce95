//! OTLP over gRPC: the three `Export` calls, gzip or plain.
//!
//! A unary call is one request with one length-prefixed message, and an answer with trailers (gRPC over HTTP/2). We read it
//! ourselves, because a bound on the bytes of all calls has to be kept while a message arrives, before there is a message
//! to hand to a service.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message as _;
use tonic::Status;

use super::body::discard;
use super::intake::{Encoding, Intake, Signal, Taken};
use super::refusal::Refusal;

/// One byte that says whether the message is packed, and four for its length.
const PREFIX: usize = 5;

pub(super) fn routes(intake: Arc<Intake>) -> Router {
    let route = |signal: Signal| {
        post(move |State(intake): State<Arc<Intake>>, request: Request| receive(intake, signal, request))
    };
    Router::new()
        .route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", route(Signal::Traces))
        .route("/opentelemetry.proto.collector.logs.v1.LogsService/Export", route(Signal::Logs))
        .route("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", route(Signal::Metrics))
        .fallback(unknown_method)
        .with_state(intake)
}

async fn receive(intake: Arc<Intake>, signal: Signal, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let is_grpc = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let rest = value.strip_prefix("application/grpc");
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("+proto") || rest.starts_with(';'))
    });
    if !is_grpc {
        intake.count(Refusal::Encoding(String::new()));
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    match take(&intake, signal, &head.headers, body).await {
        Ok(taken) => success(signal, taken),
        Err(status) => failure(status),
    }
}

async fn take(intake: &Intake, signal: Signal, headers: &HeaderMap, body: Body) -> Result<Taken, Status> {
    let gzip = match headers.get("grpc-encoding").map(|value| value.to_str().unwrap_or("?")) {
        None | Some("identity") => false,
        Some("gzip") => true,
        Some(other) => return Err(intake.count(Refusal::Encoding(other.to_owned())).grpc()),
    };
    let mut share = match intake.enter() {
        Ok(share) => share,
        Err(refusal) => {
            discard(body).await;
            return Err(refusal.grpc());
        }
    };
    let framed = intake.read(body, &mut share, PREFIX).await.map_err(|refusal| refusal.grpc())?;
    let malformed = |reason: &str| intake.count(Refusal::Undecodable(format!("reading a gRPC call: {reason}"))).grpc();
    let Some((prefix, _)) = framed.split_first_chunk::<PREFIX>() else {
        return Err(malformed("it has no message"));
    };
    let [packed, length @ ..] = *prefix;
    let message = framed.slice(PREFIX..);
    if u32::from_be_bytes(length) as usize != message.len() {
        return Err(malformed("the length of its message is another than it says"));
    }
    let packed = match (packed, gzip) {
        (0, _) => false,
        (1, true) => true,
        _ => return Err(malformed("its message is marked as packed, and `grpc-encoding` does not say how")),
    };
    intake.take(signal, Encoding::Protobuf, packed, message, share).await.map_err(|refusal| refusal.grpc())
}

fn success(signal: Signal, taken: Taken) -> Response {
    let message = match signal {
        Signal::Traces => taken.trace_response().encode_to_vec(),
        Signal::Logs => taken.logs_response().encode_to_vec(),
        Signal::Metrics => Vec::new(),
    };
    let mut data = BytesMut::with_capacity(PREFIX + message.len());
    data.put_u8(0);
    data.put_u32(message.len() as u32);
    data.put_slice(&message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(data.freeze()), Frame::trailers(trailers)].map(Ok::<Frame<Bytes>, Infallible>);
    let mut response = Response::new(Body::new(StreamBody::new(futures::stream::iter(frames))));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    accept_gzip(response)
}

fn failure(status: Status) -> Response {
    accept_gzip(status.into_http())
}

fn accept_gzip(mut response: Response) -> Response {
    response.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static("gzip,identity"));
    response
}

async fn unknown_method() -> Response {
    failure(Status::unimplemented("this port takes the Export calls of OTLP's trace, logs and metrics services"))
}
