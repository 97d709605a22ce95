//! A server that repeats what it was sent: none of its words may bring a key into a message.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};
use reqwest::Url;
use serde_json::json;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::super::endpoint::{OtlpSettings, Protocol};
use super::score::tests::{record, value};
use super::*;
use crate::config::Environment;
use crate::config::suite::SinkSection;
use crate::model::{Span, SpanId, TraceId};

const PASSWORD: &str = "canary-pass";

/// Each header of the request, and what is packed in one, in the three places that words are taken from.
fn echo(request: &Request, status: u16) -> ResponseTemplate {
    let headers = request.headers.iter().map(|(name, value)| format!("{name} {}", value.to_str().unwrap_or_default()));
    let said = format!("no {PASSWORD}; you sent {}", headers.collect::<Vec<_>>().join(", "));
    let template = ResponseTemplate::new(status).insert_header("location", said.replace(' ', "+").as_str());
    match status % 3 {
        0 => template.set_body_string(said),
        1 => template.set_body_json(json!({"detail": said, "message": said, "error_code": said})),
        _ => template.set_body_json(json!({"partialSuccess": {"rejectedSpans": 1, "errorMessage": said}})),
    }
}

async fn echoing(status: u16) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(move |request: &Request| echo(request, status)).mount(&server).await;
    server
}

fn otlp(server: &MockServer) -> Otlp {
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", HeaderValue::from_static("canary"));
    let mut url = Url::parse(&format!("{}/v1/traces", server.uri())).expect("an address");
    url.set_username("user").and_then(|()| url.set_password(Some(PASSWORD))).expect("it has a host");
    Otlp::new(Some(OtlpSettings::new(url, Protocol::HttpJson, headers)), None).expect("a client")
}

fn sink(server: &MockServer, kind: SinkKind) -> Sink {
    let mut env = Environment::default();
    env.set("USER", "user");
    env.set("PASSWORD", PASSWORD);
    let section = SinkSection {
        kind: Some(kind.as_str().to_owned()),
        url: Some(server.uri()),
        basic_env: Some(["USER".to_owned(), "PASSWORD".to_owned()]),
        ..SinkSection::default()
    };
    Sink::new(&SinkConfig::resolve_all(&[section], &env).expect("a sink")[0]).expect("a client")
}

fn span() -> Batch {
    let span = Span::open(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), None, "s", 1);
    Batch { origin: Arc::default(), items: Items::Spans(vec![span]) }
}

#[tokio::test]
async fn what_a_server_repeats_of_a_key_is_in_no_message() {
    let packed = STANDARD.encode(format!("user:{PASSWORD}"));
    for status in [200, 301, 400, 401, 404, 409, 413, 422, 429, 500, 503, 507] {
        let server = echoing(status).await;
        let mut said = vec![format!("{:?}", otlp(&server).deliver(&span()).await)];
        for kind in SinkKind::ALL {
            let sink = sink(&server, kind);
            let batch = Batch { origin: Arc::default(), items: Items::Logs(vec![record("c", "e", &[value(1.0)])]) };
            said.push(format!("{:?} {:?}", sink.deliver(&batch).await, sink.look().await));
        }
        for said in said {
            assert!(!said.contains("canary") && !said.contains(&packed), "{status}: {said}");
        }
        assert!(!server.received_requests().await.expect("they are kept").is_empty(), "{status}");
    }
}
