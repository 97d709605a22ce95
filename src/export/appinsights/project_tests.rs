//! A project that answers in every way.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use serde_json::json;
use wiremock::matchers::{header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

const KEY: &str = "InstrumentationKey=00000000-0000-0000-0000-0000000ca0a0;IngestionEndpoint=http://127.0.0.1:1/";

/// A token that changes when it is refused.
#[derive(Default)]
struct Counted(AtomicU32);

#[async_trait]
impl TokenSource for Counted {
    async fn token(&self, scope: &str, refused: Option<&Secret>) -> Result<Secret, IdentityError> {
        assert_eq!(scope, "https://ai.azure.com/.default");
        let fresh = u32::from(refused.is_some());
        Ok(Secret::new(format!("canary-{}", self.0.fetch_add(fresh, Ordering::SeqCst) + fresh)))
    }

    fn who(&self) -> Option<&'static str> {
        None
    }
}

async fn ask(server: &MockServer, timeout: Duration) -> Result<Connected, ProjectError> {
    let project = format!("{}/api/projects/my%20one", server.uri());
    let found = connected(&project, &Counted::default(), timeout).await;
    if let Err(error) = &found {
        let said = format!("{error} {error:?}");
        assert!(!said.contains("canary") && !said.contains("ca0a0"), "{said}");
    }
    found
}

async fn fails(list: ResponseTemplate) -> ProjectError {
    let server = MockServer::start().await;
    Mock::given(method("GET")).respond_with(list).mount(&server).await;
    ask(&server, Duration::from_secs(20)).await.expect_err("no resource")
}

fn list(names: &[&str], next: Option<String>) -> ResponseTemplate {
    let value: Vec<_> = names.iter().map(|name| json!({"name": name, "id": "/x", "properties": {}})).collect();
    ResponseTemplate::new(200).set_body_json(json!({"value": value, "nextLink": next}))
}

#[tokio::test]
async fn a_list_that_goes_on_elsewhere_or_for_ever_is_no_empty_list() {
    let error = fails(list(&[], Some("https://elsewhere.example/connections?page=2".to_owned()))).await;
    assert!(error.to_string().ends_with("goes on at another host"), "{error}");
    let error = fails(list(&[], Some("?page=2".to_owned()))).await;
    assert!(error.to_string().contains("20 pages"), "{error}");
    assert!(error.retry().is_none());
}

#[tokio::test]
async fn the_first_connection_of_all_pages_leads_to_the_resource() {
    let server = MockServer::start().await;
    let connections = || Mock::given(method("GET")).and(path("/api/projects/my%20one/connections"));
    let first = connections().and(query_param("connectionType", "AppInsights")).and(query_param("api-version", "v1"));
    let next = format!("{}/api/projects/my%20one/connections?page=2", server.uri());
    first.respond_with(list(&[], Some(next))).mount(&server).await;
    connections().and(query_param("page", "2")).respond_with(list(&["a/b c", "other"], None)).mount(&server).await;
    let credentials = Mock::given(method("POST"))
        .and(path("/api/projects/my%20one/connections/a%2Fb%20c/getConnectionWithCredentials"))
        .and(query_param("api-version", "v1"));
    let refused = ResponseTemplate::new(401);
    credentials.and(header("authorization", "Bearer canary-0")).respond_with(refused).mount(&server).await;
    let answer = json!({"name": "a/b c", "credentials": {"type": "ApiKey", "key": KEY}, "metadata": {}});
    Mock::given(header("authorization", "Bearer canary-1"))
        .and(header("content-length", "0"))
        .respond_with(ResponseTemplate::new(200).set_body_json(answer))
        .mount(&server)
        .await;
    let found = ask(&server, Duration::from_secs(20)).await.expect("a resource");
    assert_eq!((found.name.as_str(), found.connection.ingestion.as_str()), ("a/b c", "http://127.0.0.1:1/"));
    assert!(!format!("{found:?}").contains("ca0a0"), "{found:?}");
}

#[tokio::test]
async fn refusals_say_what_to_do_and_faults_that_may_pass_are_tried_again() {
    let error = fails(ResponseTemplate::new(403).set_body_json(json!({"error": {"message": "no access"}}))).await;
    assert!(error.to_string().contains("answers 403: no access; the identity needs the role"), "{error}");
    let error = fails(ResponseTemplate::new(401)).await;
    assert!(matches!(error, ProjectError::Forbidden { status: 401, .. }), "{error}");
    let error = fails(ResponseTemplate::new(404)).await;
    assert!(error.to_string().contains("check `project` in [azure]"), "{error}");
    let error = fails(ResponseTemplate::new(200).set_body_string("<html>")).await;
    assert!(error.to_string().contains("is it the project's endpoint?") && error.retry().is_none(), "{error}");
    let error = fails(ResponseTemplate::new(200).set_body_string(" ".repeat(MAX_ANSWER + 1))).await;
    assert!(error.to_string().contains("more than"), "{error}");
    let redirect = ResponseTemplate::new(302).insert_header("location", "https://evil.example/");
    assert!(fails(redirect).await.to_string().contains("answers 302"));
    for status in [408, 429, 500, 503] {
        let retry = fails(ResponseTemplate::new(status).insert_header("retry-after", "7")).await.retry();
        assert_eq!(retry.expect("a retry").after, Some(Duration::from_secs(7)), "{status}");
    }
}

#[tokio::test]
async fn a_token_that_the_project_repeats_is_not_passed_on() {
    for (status, sent) in [(302, "canary-0"), (400, "canary-0"), (401, "canary-0 canary-1"), (404, "canary-0")] {
        for words in [json!({"error": {"message": sent}}), json!({"message": sent})] {
            let error = fails(ResponseTemplate::new(status).set_body_json(words)).await.to_string();
            assert!(error.contains(": ***"), "{error}");
        }
    }
    let server = MockServer::start().await;
    Mock::given(method("GET")).respond_with(list(&["canary-0"], None)).mount(&server).await;
    let answer = ResponseTemplate::new(200).set_body_json(json!({"credentials": {"type": "canary-0"}}));
    Mock::given(method("POST")).respond_with(answer).mount(&server).await;
    let error = ask(&server, Duration::from_secs(20)).await.expect_err("no key");
    assert!(error.to_string().contains("connection `***`"), "{error}");
}

#[tokio::test]
async fn a_connection_without_a_usable_key_is_named() {
    for (credentials, words) in [
        (json!({"type": "AAD"}), "type `AAD`, not ApiKey"),
        (json!({"type": "ApiKey", "key": ""}), "has an empty key"),
        (json!({"type": "ApiKey"}), "has an empty key"),
        (json!({"type": "ApiKey", "key": "ca0a0"}), "no connection string"),
        (json!(null), "has no credentials"),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("GET")).respond_with(list(&["one"], None)).mount(&server).await;
        let answer = ResponseTemplate::new(200).set_body_json(json!({"credentials": credentials}));
        Mock::given(method("POST")).respond_with(answer).mount(&server).await;
        let error = ask(&server, Duration::from_secs(20)).await.expect_err(words);
        assert!(error.to_string().contains(words) && error.to_string().contains("`one`"), "{error}");
    }
}

#[tokio::test]
async fn a_project_that_hangs_or_is_gone_is_asked_later() {
    let server = MockServer::start().await;
    let hung = list(&["one"], None).set_delay(Duration::from_mins(10));
    Mock::given(method("GET")).respond_with(hung).mount(&server).await;
    let error = ask(&server, Duration::from_millis(100)).await.expect_err("no answer");
    assert!(error.retry().is_some_and(|retry| !retry.unreachable && retry.reason.contains("within 100ms")), "{error}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("an address");
    let gone = format!("http://{free}/api/projects/p");
    let error = connected(&gone, &Counted::default(), Duration::from_secs(5)).await.expect_err("gone");
    assert!(error.retry().is_some_and(|retry| retry.unreachable), "{error}");
    let plain = connected("http://in.example/api/projects/p", &Counted::default(), Duration::from_secs(5)).await;
    assert!(plain.expect_err("no TLS").to_string().contains("no https address"));
}
