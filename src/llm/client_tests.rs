//! [`HttpModel`](super::HttpModel) against a scripted server: every class of failure, over a real connection.

use std::sync::Arc;
use std::time::Duration;

use super::chat::{ChatCall, ChatModel, ChatRequest, Message, Parameters, Role};
use super::client::HttpModel;
use super::limits::Limits;
use super::settings::{ApiKind, HttpSettings};
use super::testserver::{Act, TestServer};
use crate::model::Secret;
use crate::model::{SpanId, TraceId};
use crate::trace::provider::Ambient;

const KEY: &str = "sk-test-0123456789";

fn settings(server: &TestServer) -> HttpSettings {
    HttpSettings {
        api_key: Some(Secret::new(KEY)),
        timeout_per_attempt: Duration::from_secs(10),
        max_retries: 2,
        backoff: Duration::from_millis(1),
        max_body: 4096,
        ..HttpSettings::new(&server.base_url, "m")
    }
}

fn model(settings: HttpSettings) -> HttpModel {
    HttpModel::new(settings, Arc::new(Limits::none()), Ambient::default()).expect("settings are sound")
}

async fn ask_with(model: &HttpModel, parameters: &Parameters) -> ChatCall {
    let messages = [
        Message { role: Role::System, content: "Answer with one word.".to_owned() },
        Message { role: Role::User, content: "Claim:\nthe very confidential claim of this test".to_owned() },
    ];
    let span = (TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]));
    model.chat(ChatRequest { messages: &messages, parameters, case_id: "c", repeat: 0, span }).await
}

async fn ask(script: Vec<Act>) -> (ChatCall, Vec<String>) {
    let stalls = matches!(script.first(), Some(Act::Stall(_)));
    let server = TestServer::start(script).await;
    let mut settings = settings(&server);
    if stalls {
        settings.timeout_per_attempt = Duration::from_millis(100);
    }
    let call = ask_with(&model(settings), &Parameters::default()).await;
    assert!(!format!("{call:?}").contains(KEY), "the key must never be shown: {call:?}");
    assert_eq!(call.attempts as usize, server.requests().len(), "every request is an attempt on record");
    (call, server.requests())
}

fn text(call: &ChatCall) -> &str {
    &call.result.as_ref().expect("an answer").text
}

#[tokio::test]
async fn an_answer_comes_with_everything_the_endpoint_said() {
    let (call, requests) = ask(vec![Act::says("True")]).await;
    let reply = call.result.as_ref().expect("an answer");
    assert_eq!((reply.text.as_str(), reply.response_model.as_deref()), ("True", Some("m-2025")));
    assert_eq!((reply.usage.input_tokens, reply.usage.output_tokens), (Some(7), Some(2)));
    assert_eq!((call.attempts, call.failed_attempts.len()), (1, 0));
    let head = requests[0].to_ascii_lowercase();
    assert!(head.starts_with("post /v1/chat/completions http/1.1"), "{head}");
    assert!(head.contains(&format!("authorization: bearer {KEY}")), "{head}");
    assert!(head.contains(concat!("user-agent: spanscore/", env!("CARGO_PKG_VERSION"))), "{head}");
}

#[tokio::test]
async fn passing_faults_are_retried_and_put_on_record() {
    let cut = Act::Raw("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"choices\":[".to_owned());
    for (fault, error_type, status) in [
        (Act::error(408, "slow"), "408", Some(408)),
        (Act::error(409, "conflict"), "409", Some(409)),
        (Act::error(429, "Rate limit reached"), "429", Some(429)),
        (Act::error(500, "oops"), "500", Some(500)),
        (Act::error(503, "overloaded"), "503", Some(503)),
        (Act::Drop, "connection", None),
        (cut, "connection", Some(200)),
        (Act::Answer(200, "", r#"{"id":"chatcmpl-cut","object":"chat.comp"#.to_owned()), "invalid_response", Some(200)),
        (Act::Answer(200, "", "<html>".to_owned()), "invalid_response", Some(200)),
        (Act::Answer(200, "", format!("\"{}\"", "x".repeat(5000))), "invalid_response", Some(200)),
        (Act::error(200, "upstream broke"), "invalid_response", Some(200)),
        (Act::Answer(200, "", r#"{"error":{"message":"busy","code":429}}"#.to_owned()), "429", Some(429)),
        (Act::Stall(String::new()), "timeout", None),
        (Act::Stall("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{".to_owned()), "timeout", None),
    ] {
        let shown = format!("{fault:?}");
        let (call, _) = ask(vec![fault, Act::says("NEE")]).await;
        assert_eq!(text(&call), "NEE", "{shown}");
        assert_eq!(call.attempts, 2, "{shown}");
        let failed = &call.failed_attempts[0];
        assert_eq!((failed.error_type.as_str(), failed.status), (error_type, status), "{shown}");
        assert!(failed.wait.is_some() && failed.time_unix_nano > 0 && !failed.message.is_empty(), "{failed:?}");
    }
}

#[tokio::test]
async fn a_body_in_many_pieces_over_the_cap_is_cut() {
    let chunks = format!("{:x}\r\n{}\r\n", 1000, "x".repeat(1000)).repeat(6);
    let endless = Act::Stall(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"));
    let (call, _) = ask(vec![endless, Act::says("True")]).await;
    assert_eq!(call.failed_attempts[0].message, "the answer is larger than 4096 bytes");
}

#[tokio::test]
async fn the_last_failure_is_the_calls_after_all_attempts() {
    let (call, requests) = ask(vec![Act::error(500, "still broken")]).await;
    let error = call.result.as_ref().expect_err("no answer");
    assert_eq!((error.error_type.as_str(), error.status, error.fatal), ("500", Some(500), false));
    assert_eq!(error.message, "still broken (after 3 attempts)");
    assert_eq!((call.attempts, call.failed_attempts.len(), requests.len()), (3, 3, 3));
    assert_eq!(call.failed_attempts.iter().filter(|failed| failed.wait.is_none()).count(), 1);
    assert_eq!(call.failed_attempts[2].wait, None);
}

#[tokio::test]
async fn a_refused_connection_is_a_connection_failure() {
    let settings = HttpSettings {
        max_retries: 1,
        backoff: Duration::from_millis(1),
        ..HttpSettings::new("http://user:hunter2@127.0.0.1:1/v1", "m")
    };
    let call = ask_with(&model(settings), &Parameters::default()).await;
    let error = call.result.as_ref().expect_err("nobody listens");
    assert_eq!((error.error_type.as_str(), call.attempts), ("connection", 2));
    assert!(!format!("{call:?}").contains("hunter2"), "{call:?}");
}

#[tokio::test]
async fn lasting_faults_are_not_retried() {
    let quota = r#"{"error":{"message":"quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let filter = r#"{"error":{"message":"filtered","code":"content_filter"}}"#;
    let wrong = r#"{"choices":[{"message":{"content":42}}]}"#;
    for (act, error_type, fatal) in [
        (Act::error(400, "bad"), "400", false),
        (Act::Answer(400, "", filter.to_owned()), "content_filter", false),
        (Act::Answer(200, "", filter.to_owned()), "content_filter", false),
        (Act::Answer(429, "", quota.to_owned()), "429", false),
        (Act::Answer(200, "", wrong.to_owned()), "invalid_response", false),
        (Act::Answer(200, "", "{}".to_owned()), "invalid_response", false),
        (Act::Answer(307, "location: http://127.0.0.1:1/\r\n", String::new()), "307", false),
        (Act::error(401, &format!("Incorrect API key provided: {KEY}")), "401", true),
        (Act::error(403, "no access"), "403", true),
        (Act::error(404, "The model does not exist"), "404", true),
    ] {
        let shown = format!("{act:?}");
        let (call, _) = ask(vec![act, Act::says("True")]).await;
        let error = call.result.as_ref().expect_err(&shown);
        assert_eq!((error.error_type.as_str(), error.fatal, call.attempts), (error_type, fatal, 1), "{shown}");
    }
}

#[tokio::test]
async fn the_endpoints_wait_is_kept_to_and_capped() {
    let limited = |header| Act::Answer(429, header, r#"{"error":{"message":"slow down"}}"#.to_owned());
    let (call, _) =
        ask(vec![limited("retry-after: 0.03\r\n"), limited("retry-after-ms: 20\r\n"), Act::says("x")]).await;
    let waits: Vec<_> = call.failed_attempts.iter().map(|failed| failed.wait).collect();
    assert_eq!(waits, [Some(Duration::from_millis(30)), Some(Duration::from_millis(20))]);
    let (call, requests) = ask(vec![limited("retry-after: 3600\r\n"), Act::says("x")]).await;
    let error = call.result.expect_err("too long a wait");
    assert!(error.message.contains("asks to wait 3600 s"), "{}", error.message);
    assert_eq!(requests.len(), 1);
}

#[tokio::test]
async fn prompts_that_errors_quote_are_taken_out() {
    let (call, _) = ask(vec![Act::error(400, "cannot handle: the very confidential claim of this test!")]).await;
    let error = call.result.expect_err("no answer");
    assert_eq!(error.message, "cannot handle: […]!");
    assert!(!call.failed_attempts[0].message.contains("confidential"));
}

#[tokio::test]
async fn the_token_field_is_changed_once_and_for_good() {
    let refusal = r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","param":"max_tokens","code":"unsupported_parameter"}}"#;
    let server = TestServer::start(vec![Act::Answer(400, "", refusal.to_owned()), Act::says("True")]).await;
    let model = model(settings(&server));
    let parameters = Parameters { max_tokens: Some(3), ..Parameters::default() };
    let first = ask_with(&model, &parameters).await;
    assert_eq!((text(&first), first.attempts, first.failed_attempts.len()), ("True", 2, 1));
    let second = ask_with(&model, &parameters).await;
    assert_eq!((text(&second), second.attempts), ("True", 1));
    let fields: Vec<bool> = server.requests().iter().map(|r| r.contains(r#""max_completion_tokens":3"#)).collect();
    assert_eq!(fields, [false, true, true]);
}

#[tokio::test]
async fn an_endpoint_that_wants_neither_field_is_not_asked_for_ever() {
    let refusal =
        r#"{"error":{"message":"unknown field max_tokens or max_completion_tokens","code":"unsupported_parameter"}}"#;
    let server = TestServer::start(vec![Act::Answer(400, "", refusal.to_owned())]).await;
    let parameters = Parameters { max_tokens: Some(3), ..Parameters::default() };
    let call = ask_with(&model(settings(&server)), &parameters).await;
    assert_eq!((call.attempts, call.result.is_err()), (2, true));
}

#[tokio::test]
async fn azure_is_asked_at_its_deployment_with_its_own_header() {
    let server = TestServer::start(vec![Act::says("True")]).await;
    let endpoint = server.base_url.trim_end_matches("/v1").to_owned();
    let kind = ApiKind::Azure { api_version: "2024-10-21".to_owned(), deployment: Some("dep".to_owned()) };
    let model = model(HttpSettings { kind, base_url: endpoint, ..settings(&server) });
    assert_eq!(model.endpoint().provider_name, "azure.ai.openai");
    let call = ask_with(&model, &Parameters::default()).await;
    assert_eq!(text(&call), "True");
    let request = server.requests().remove(0).to_ascii_lowercase();
    assert!(request.starts_with("post /openai/deployments/dep/chat/completions?api-version=2024-10-21 "), "{request}");
    assert!(request.contains(&format!("api-key: {KEY}")) && !request.contains("authorization"), "{request}");
}

#[tokio::test]
async fn a_key_that_no_header_can_carry_is_refused_beforehand() {
    let bad = HttpSettings { api_key: Some(Secret::new("a\nb")), ..HttpSettings::new("http://h/v1", "m") };
    let error = HttpModel::new(bad, Arc::new(Limits::none()), Ambient::default()).err().expect("refused").to_string();
    assert!(error.contains("OPENAI_API_KEY"), "{error}");
}
