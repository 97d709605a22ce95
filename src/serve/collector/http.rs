//! OTLP over HTTP: `POST /v1/traces`, `/v1/logs` and `/v1/metrics`, protobuf or JSON, gzip or plain.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use prost::Message as _;

use super::body::discard;
use super::intake::{Encoding, Intake, Signal, Taken};
use super::refusal::{RETRY_AFTER, Refusal};
use crate::trace::otlp_json;

pub(super) fn routes(intake: Arc<Intake>) -> Router {
    let route = |signal: Signal| {
        let handler = move |State(intake): State<Arc<Intake>>, request: Request| receive(intake, signal, request);
        post(handler).fallback(wrong_method)
    };
    Router::new()
        .route("/v1/traces", route(Signal::Traces))
        .route("/v1/logs", route(Signal::Logs))
        .route("/v1/metrics", route(Signal::Metrics))
        .fallback(wrong_path)
        .with_state(intake)
}

async fn receive(intake: Arc<Intake>, signal: Signal, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Some(encoding) = encoding(&head.headers) else {
        discard(body).await;
        intake.count(Refusal::Encoding(String::new()));
        let text = "the content type of an OTLP request is application/x-protobuf or application/json\n";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
    };
    match take(&intake, signal, encoding, &head.headers, body).await {
        Ok(taken) => reply(StatusCode::OK, encoding, success(signal, encoding, taken)),
        Err(refusal) => refuse(&refusal, encoding),
    }
}

async fn take(
    intake: &Intake,
    signal: Signal,
    encoding: Encoding,
    headers: &HeaderMap,
    body: Body,
) -> Result<Taken, Refusal> {
    let packed = match packed(headers) {
        Ok(packed) => packed,
        Err(refusal) => {
            discard(body).await;
            return Err(intake.count(refusal));
        }
    };
    let mut share = match intake.enter() {
        Ok(share) => share,
        Err(refusal) => {
            discard(body).await;
            return Err(refusal);
        }
    };
    let message = intake.read(body, &mut share, 0).await?;
    intake.take(signal, encoding, packed, message, share).await
}

fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let media_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim();
    match media_type.to_ascii_lowercase().as_str() {
        "application/x-protobuf" => Some(Encoding::Protobuf),
        "application/json" => Some(Encoding::Json),
        _ => None,
    }
}

fn packed(headers: &HeaderMap) -> Result<bool, Refusal> {
    let mut packed = false;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        match value.to_str().unwrap_or("?").trim().to_ascii_lowercase().as_str() {
            "" | "identity" => {}
            "gzip" | "x-gzip" if !packed => packed = true,
            other => return Err(Refusal::Encoding(other.to_owned())),
        }
    }
    Ok(packed)
}

/// The body of a success: empty, or what of the request could not be taken.
fn success(signal: Signal, encoding: Encoding, taken: Taken) -> Vec<u8> {
    match (encoding, signal) {
        (Encoding::Protobuf, Signal::Traces) => taken.trace_response().encode_to_vec(),
        (Encoding::Protobuf, Signal::Logs) => taken.logs_response().encode_to_vec(),
        (Encoding::Protobuf, Signal::Metrics) => Vec::new(),
        (Encoding::Json, Signal::Traces) => otlp_json::encode_trace_response(&taken.trace_response()),
        (Encoding::Json, Signal::Logs) => otlp_json::encode_logs_response(&taken.logs_response()),
        (Encoding::Json, Signal::Metrics) => b"{}".to_vec(),
    }
}

fn refuse(refusal: &Refusal, encoding: Encoding) -> Response {
    let (code, message) = (refusal.code() as i32, refusal.to_string());
    let body = match encoding {
        Encoding::Protobuf => tonic_types::Status { code, message, details: Vec::new() }.encode_to_vec(),
        Encoding::Json => otlp_json::encode_status(code, &message),
    };
    let mut response = reply(refusal.http(), encoding, body);
    let headers = response.headers_mut();
    if refusal.is_for_now() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs()));
    }
    if let Refusal::Encoding(_) = refusal {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, identity"));
    }
    response
}

fn reply(status: StatusCode, encoding: Encoding, body: Vec<u8>) -> Response {
    let media_type = match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    };
    (status, [(header::CONTENT_TYPE, media_type)], body).into_response()
}

async fn wrong_method() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")], "OTLP requests are sent with POST\n").into_response()
}

async fn wrong_path() -> Response {
    let text = "this port takes OTLP at /v1/traces, /v1/logs and /v1/metrics\n";
    (StatusCode::NOT_FOUND, text).into_response()
}
