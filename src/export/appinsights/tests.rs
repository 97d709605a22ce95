//! Deliveries to an endpoint that answers in every way.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use flate2::read::GzDecoder;
use serde_json::json;
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::*;
use crate::config::{AzurePlan, IngestionAuth};
use crate::identity::{IdentityError, TokenSource};
use crate::model::{Origin, Secret, Span, SpanId, TraceId};

/// Spans of this hour.
fn batch(count: u64) -> Batch {
    static NOW: LazyLock<u64> = LazyLock::new(|| Clock::System.now_unix_nano());
    batch_of(count, *NOW)
}

/// Spans from long ago.
fn old_batch(count: u64) -> Batch {
    batch_of(count, 0)
}

fn batch_of(count: u64, time: u64) -> Batch {
    let span = |i: u64| {
        let id = SpanId::from_bytes(i.to_be_bytes());
        let mut span = Span::open(TraceId::from_bytes([1; 16]), id, None, format!("span {i}"), time + i);
        span.end_unix_nano = time + i + 1;
        // Two envelopes each.
        span.add_event("note", time + i, Vec::new());
        span
    };
    Batch { origin: Arc::new(Origin::default()), items: Items::Spans((1..=count).map(span).collect()) }
}

const KEY: &str = "00000000-0000-0000-0000-000000000001";

fn destination(server: &MockServer, tokens: Option<Arc<dyn TokenSource>>) -> AppInsights {
    let text = format!("InstrumentationKey=00000000-0000-0000-0000-000000000001;IngestionEndpoint={}", server.uri());
    to(&text, tokens)
}

/// The resource of a connection string, with the tokens of a source or without any.
fn to(text: &str, tokens: Option<Arc<dyn TokenSource>>) -> AppInsights {
    let source = InsightsSource::Connection(ConnectionString::parse(text).expect("a connection string"));
    let auth = if tokens.is_some() { IngestionAuth::Auto } else { IngestionAuth::None };
    let azure = AzurePlan { auth, ..AzurePlan::default() };
    let none = IdentityError::NotSetUp { credential: "auto", problem: String::new() };
    AppInsights::new(InsightsSettings { source, azure, tokens: tokens.ok_or(none) }).expect("a client")
}

/// The names of the envelopes of a request.
fn sent(request: &Request) -> Vec<String> {
    let mut body = String::new();
    GzDecoder::new(&request.body[..]).read_to_string(&mut body).expect("gzip");
    let envelopes: Vec<serde_json::Value> = serde_json::from_str(&body).expect("an array");
    let name = |envelope: &serde_json::Value| {
        let data = &envelope["data"]["baseData"];
        let name = data["name"].as_str().map(str::to_owned);
        name.unwrap_or_else(|| {
            format!("event of {}", envelope["tags"]["ai.operation.parentId"].as_str().unwrap_or("?"))
        })
    };
    envelopes.iter().map(name).collect()
}

/// Answers with one template after the other, then with success.
struct InTurn(AtomicU32, Vec<ResponseTemplate>);

impl Respond for InTurn {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let turn = self.0.fetch_add(1, Ordering::SeqCst) as usize;
        self.1.get(turn).cloned().unwrap_or_else(|| ResponseTemplate::new(200))
    }
}

async fn answering(templates: Vec<ResponseTemplate>) -> MockServer {
    let server = MockServer::start().await;
    let answers = InTurn(AtomicU32::new(0), templates);
    Mock::given(method("POST"))
        .and(path("/v2.1/track"))
        .and(header("content-type", "application/json"))
        .and(header("content-encoding", "gzip"))
        .respond_with(answers)
        .mount(&server)
        .await;
    server
}

fn partly(errors: serde_json::Value) -> ResponseTemplate {
    let accepted = 6_usize.saturating_sub(errors.as_array().map_or(0, Vec::len));
    ResponseTemplate::new(206).set_body_json(json!({"itemsReceived": 6, "itemsAccepted": accepted, "errors": errors}))
}

#[tokio::test]
async fn what_was_taken_of_a_mixed_answer_is_not_sent_again() {
    let errors = json!([
        {"index": 1, "statusCode": 400, "message": "too old"},
        {"index": 3, "statusCode": 429, "message": "slow down"},
    ]);
    let server = answering(vec![partly(errors).insert_header("retry-after", "2")]).await;
    let destination = destination(&server, None);
    let mut batch = batch(3);
    let delivery = destination.deliver(&batch).await;
    // The first span is settled, for one of its envelopes was refused for good; the second waits, the third behind it.
    assert_eq!((delivery.delivered, delivery.rejected, delivery.rejection.as_deref()), (0, 1, Some("400 too old")));
    let retry = delivery.retry.expect("a retry");
    assert_eq!((retry.after, retry.reason.as_str()), (Some(std::time::Duration::from_secs(2)), "429 slow down"));
    batch.items.drop_front(1);
    let rest = destination.deliver(&batch).await;
    assert_eq!((rest.delivered, rest.rejected, rest.retry), (2, 0, None));
    let requests = server.received_requests().await.expect("requests");
    assert_eq!(sent(&requests[1]), ["event of 0000000000000002"]);
    assert_eq!(destination.known[0].lock().unwrap().fates.len(), 0, "nothing is kept of what is settled");
}

#[tokio::test]
async fn what_was_taken_behind_one_that_fails_is_told() {
    let first = json!([{"index": 1, "statusCode": 500, "message": "busy"}]);
    let server = answering(vec![partly(first), ResponseTemplate::new(504), ResponseTemplate::new(503)]).await;
    let destination = destination(&server, None);
    let told = async || {
        let delivery = destination.deliver(&batch(3)).await;
        (delivery.settled(), delivery.ambiguous, delivery.taken_out_of_turn)
    };
    assert_eq!(told().await, (0, false, 3), "the first in part, the others as a whole");
    assert_eq!(told().await, (0, true, 2), "the doubts are about the first");
    assert_eq!(told().await, (0, false, 3));
    assert_eq!(told().await, (3, false, 0));
}

#[tokio::test]
async fn what_was_taken_of_a_request_that_names_nothing_is_in_doubt() {
    let some = json!({"itemsReceived": 6, "itemsAccepted": 4, "errors": []});
    let server = answering(vec![ResponseTemplate::new(206).set_body_json(some)]).await;
    let delivery = destination(&server, None).deliver(&batch(3)).await;
    assert!(delivery.ambiguous && delivery.settled() == 0 && delivery.retry.is_some(), "{delivery:?}");
}

/// Takes what `judge` gives no status for, and says of the others what it gives, as ingestion does.
async fn judging(judge: impl Fn(&str) -> Option<u16> + Send + Sync + 'static) -> MockServer {
    let server = MockServer::start().await;
    let respond = move |request: &Request| {
        let names = sent(request);
        let statuses = names.iter().enumerate().filter_map(|(index, name)| Some((index, judge(name)?)));
        let errors: Vec<_> =
            statuses.map(|(i, status)| json!({"index": i, "statusCode": status, "message": "no"})).collect();
        let accepted = names.len() - errors.len();
        let body = json!({"itemsReceived": names.len(), "itemsAccepted": accepted, "errors": errors});
        ResponseTemplate::new(if errors.is_empty() { 200 } else { 206 }).set_body_json(body)
    };
    Mock::given(method("POST")).respond_with(respond).mount(&server).await;
    server
}

/// Hands over spans until all are settled, at most eight times as at the end of a run: rounds, delivered, rejected, why.
async fn rounds(to: &AppInsights, mut batch: Batch) -> (u32, u64, u64, Option<String>) {
    let (mut delivered, mut rejected, mut why) = (0, 0, None);
    for round in 1..=8 {
        let delivery = to.deliver(&batch).await;
        delivered += delivery.delivered;
        rejected += delivery.rejected;
        batch.items.drop_front(delivery.settled() as usize);
        why = delivery.rejection.or(why);
        if batch.items.is_empty() || delivery.halt.is_some() {
            return (round, delivered, rejected, why);
        }
    }
    (8, delivered, rejected, why)
}

#[tokio::test]
async fn what_fails_again_and_again_among_others_is_given_up_once_it_is_old() {
    let settled = async |status: u16, bad: &'static str, time: u64| {
        let server = judging(move |name| (name == bad).then_some(status)).await;
        let settled = rounds(&destination(&server, None), batch_of(40, time)).await;
        let requests = server.received_requests().await.expect("requests");
        let others: Vec<String> = requests.iter().flat_map(sent).filter(|name| name != bad).collect();
        let distinct: BTreeSet<&String> = others.iter().collect();
        assert_eq!((others.len(), distinct.len() >= 78), (distinct.len(), true), "each once");
        settled
    };
    let why = Some("500 no, 6 times, and it is more than a day old".to_owned());
    assert_eq!(settled(500, "span 1", 0).await, (6, 39, 1, why.clone()));
    assert_eq!(settled(500, "span 20", 0).await, (6, 39, 1, why));
    assert_eq!(settled(500, "span 40", 0).await, (8, 39, 0, None), "nothing waits behind it");
    let now = Clock::System.now_unix_nano();
    assert_eq!(settled(500, "span 1", now - OLD.as_nanos() as u64 + 60_000_000_000).await, (8, 0, 0, None), "young");
    assert_eq!(settled(429, "span 1", 0).await, (8, 0, 0, None), "that is no fault of its own");
}

#[tokio::test]
async fn a_fault_of_the_service_costs_nothing_however_old_it_is() {
    let turns = Arc::new(AtomicU32::new(0));
    let none_taken = json!({"itemsReceived": 75, "itemsAccepted": 0, "errors": []});
    let none_taken = ResponseTemplate::new(200).set_body_json(none_taken);
    for server in [
        judging(move |_| (turns.fetch_add(1, Ordering::SeqCst) < 6 * 75).then_some(503)).await,
        answering(vec![ResponseTemplate::new(206).set_body_json(json!({"itemsReceived": 75, "itemsAccepted": 0})); 6])
            .await,
        answering(vec![none_taken; 6]).await,
        answering(vec![ResponseTemplate::new(408); 6]).await,
    ] {
        assert_eq!(rounds(&destination(&server, None), old_batch(40)).await, (7, 40, 0, None));
    }
}

#[tokio::test]
async fn what_stands_beside_a_bad_one_in_a_refused_request_is_taken_at_once() {
    let server = MockServer::start().await;
    let respond = |request: &Request| {
        let names = sent(request);
        let bad = |name: &String| name.strip_prefix("span ").is_some_and(|n| n.parse::<u64>().expect("a number") > 30);
        let (status, accepted, errors) = match names.iter().position(bad) {
            Some(index) => (400, 0, vec![json!({"index": index, "statusCode": 400, "message": "bad"})]),
            None => (200, names.len(), Vec::new()),
        };
        let body = json!({"itemsReceived": names.len(), "itemsAccepted": accepted, "errors": errors});
        ResponseTemplate::new(status).set_body_json(body)
    };
    Mock::given(method("POST")).respond_with(respond).mount(&server).await;
    let settled = rounds(&destination(&server, None), old_batch(40)).await;
    assert_eq!(settled, (1, 30, 10, Some("400 bad".to_owned())));
}

#[tokio::test]
async fn the_wait_that_is_asked_for_is_passed_on() {
    for status in [408, 429, 500, 503] {
        let server = answering(vec![ResponseTemplate::new(status).insert_header("retry-after", "7")]).await;
        let retry = destination(&server, None).deliver(&batch(1)).await.retry.expect("a retry");
        assert_eq!(retry.after, Some(Duration::from_secs(7)), "{status}");
    }
}

#[tokio::test]
async fn only_ingestion_itself_is_taken_for_ingestion() {
    let look = async |status: u16, body: &str| {
        let server = answering(vec![ResponseTemplate::new(status).set_body_string(body)]).await;
        let found = destination(&server, None).probe().await;
        assert_eq!(sent(&server.received_requests().await.expect("requests")[0]), Vec::<String>::new());
        found.map(|found| found.ingestion.trim_end_matches('/') == server.uri())
    };
    let empty = r#"{"itemsReceived":0,"itemsAccepted":0,"errors":[],"appId":null}"#;
    for status in [200, 400] {
        assert_eq!(look(status, empty).await, Ok(true), "{status}");
    }
    for (status, body) in [
        (400, "<html><body>Bad Request</body></html>"),
        (400, r#"{"error":{"message":"no such route"}}"#),
        (400, r#"{"errors":["name is required"]}"#),
        (400, "[]"),
        (400, ""),
        (200, "ok"),
        (200, "{}"),
        (206, r#"{"itemsAccepted":0}"#),
    ] {
        let problem = look(status, body).await.expect_err(body);
        assert!(problem.contains("; is it the IngestionEndpoint of the connection string?"), "{problem}");
    }
    assert!(look(413, "").await.is_err_and(|problem| problem.contains("413")));
    assert!(look(404, "").await.is_err_and(|problem| problem.contains("404")));
}

#[tokio::test]
async fn a_request_that_is_too_large_is_sent_in_halves() {
    let server = answering(vec![ResponseTemplate::new(413)]).await;
    assert_eq!(destination(&server, None).deliver(&batch(4)).await, Delivery::complete(4));
    let sizes: Vec<usize> = server.received_requests().await.expect("requests").iter().map(|r| sent(r).len()).collect();
    assert_eq!(sizes, [8, 4, 4]);
}

#[tokio::test]
async fn nothing_is_lost_to_a_server_that_is_no_ingestion_endpoint() {
    let strange = ResponseTemplate::new(400).set_body_json(json!({"error": {"message": "no such route"}}));
    let server = answering(vec![strange.clone(); 99]).await;
    let delivery = destination(&server, None).deliver(&old_batch(40)).await;
    assert_eq!((delivery.settled(), delivery.ambiguous), (0, false));
    let halt = delivery.halt.expect("a halt");
    assert!(halt.contains("no such route; is it the IngestionEndpoint"), "{halt}");
    assert!(server.received_requests().await.expect("requests").len() < 20);
    for (status, body) in [
        (400, r#"{"errors":[{"status":"400","title":"Bad Request"}]}"#),
        (400, r#"{"errors":[{"message":"no such route"}]}"#),
        (400, r#"{"errors":[{"index":0,"statusCode":400,"message":"no such route"}]}"#),
        (413, "<html>nginx</html>"),
    ] {
        for answer_at_first in [vec![], vec![ResponseTemplate::new(200)]] {
            let foreign = vec![ResponseTemplate::new(status).set_body_raw(body, "application/json"); 99];
            let server = answering([answer_at_first, foreign].concat()).await;
            let to = destination(&server, None);
            let delivery = to.deliver(&old_batch(40)).await;
            assert_eq!((delivery.rejected, delivery.ambiguous), (0, false), "{status} {body}");
            assert!(delivery.halt.is_some_and(|why| why.contains("is it the IngestionEndpoint")), "{status} {body}");
        }
    }
}

#[tokio::test]
async fn what_something_before_the_endpoint_does_not_like_costs_its_own_spans_only() {
    // They are the first, so that nothing was taken before them.
    const BAD: [&str; 4] = ["span 1", "event of 0000000000000001", "span 2", "event of 0000000000000002"];
    for (status, body) in [(413, "<html>nginx</html>"), (400, r#"{"error":{"message":"not here"}}"#)] {
        let server = MockServer::start().await;
        let respond = move |request: &Request| {
            let names = sent(request);
            if names.iter().any(|name| BAD.contains(&name.as_str())) {
                return ResponseTemplate::new(status).set_body_string(body);
            }
            ResponseTemplate::new(200)
                .set_body_json(json!({"itemsReceived": names.len(), "itemsAccepted": names.len()}))
        };
        Mock::given(method("POST")).respond_with(respond).mount(&server).await;
        let delivery = destination(&server, None).deliver(&batch(40)).await;
        assert_eq!((delivery.delivered, delivery.rejected, delivery.halt), (38, 2, None), "{status}");
    }
}

#[tokio::test]
async fn what_a_mixed_answer_leaves_unclear_is_in_doubt() {
    let server = answering(vec![ResponseTemplate::new(206).set_body_string("some")]).await;
    let delivery = destination(&server, None).deliver(&batch(2)).await;
    assert!(delivery.ambiguous && delivery.halt.is_some_and(|why| why.contains("no list of what it took")));
}

#[tokio::test]
async fn many_envelopes_go_in_several_requests() {
    let server = answering(Vec::new()).await;
    assert_eq!(destination(&server, None).deliver(&batch(600)).await, Delivery::complete(600));
    let sizes: Vec<usize> = server.received_requests().await.expect("requests").iter().map(|r| sent(r).len()).collect();
    assert_eq!(sizes, [500, 500, 200]);
}

#[tokio::test]
async fn a_redirect_is_followed_to_the_same_host_only_and_remembered() {
    let other = answering(Vec::new()).await;
    let there = ResponseTemplate::new(308).insert_header("location", format!("{}/v2.1/track", other.uri()));
    let server = answering(vec![there]).await;
    let to = destination(&server, None);
    assert_eq!(to.deliver(&batch(1)).await, Delivery::complete(1));
    assert_eq!(to.deliver(&batch(2)).await, Delivery::complete(2));
    assert_eq!(server.received_requests().await.expect("requests").len(), 1);
    let foreign = ResponseTemplate::new(307).insert_header("location", "https://evil.example/v2.1/track");
    let server = answering(vec![foreign]).await;
    let halt = destination(&server, None).deliver(&batch(1)).await.halt.expect("a halt");
    assert!(halt.contains("not of the same service"), "{halt}");
    let round = ResponseTemplate::new(307).insert_header("location", "/v2.1/track");
    let server = answering(vec![round; 9]).await;
    let halt = destination(&server, None).deliver(&batch(1)).await.halt.expect("a halt");
    assert!(halt.contains("again and again"), "{halt}");
}

#[tokio::test]
async fn a_redirect_to_another_host_of_the_service_is_followed_and_remembered() {
    const EU: &str = "westeurope-5.in.applicationinsights.azure.com";
    const US: &str = "eastus-8.in.applicationinsights.azure.com";
    let us = answering(Vec::new()).await;
    let there = ResponseTemplate::new(307).insert_header("location", format!("http://{US}/v2.1/track"));
    let eu = answering(vec![there]).await;
    let mut to = to(&format!("InstrumentationKey={KEY};IngestionEndpoint=http://{EU}/"), None);
    let InsightsSource::Connection(connection) = &to.settings.source else { panic!("it was given") };
    // Both names lead to this machine.
    crate::net::install_tls_provider();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .resolve(EU, *eu.address())
        .resolve(US, *us.address());
    let access = Access::new(&to.settings, connection);
    let ingestion = Ingestion::with(client, &connection.ingestion, KEY, access).expect("a client");
    to.resource.get_mut().expect("it was given").ingestion = ingestion;
    assert_eq!(to.deliver(&batch(1)).await, Delivery::complete(1));
    assert_eq!(to.deliver(&batch(2)).await, Delivery::complete(2));
    assert_eq!(eu.received_requests().await.expect("requests").len(), 1, "then it is known");
    let there = us.received_requests().await.expect("requests");
    assert_eq!(there.iter().map(|request| sent(request).len()).collect::<Vec<_>>(), [2, 4]);
    assert!(there.iter().all(|request| request.headers["host"] == US));
}

#[tokio::test]
async fn a_place_that_is_gone_is_asked_for_again_at_home() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("an address");
    let gone = ResponseTemplate::new(308).insert_header("location", format!("http://{free}/v2.1/track"));
    let server = answering(vec![gone]).await;
    let to = destination(&server, None);
    let first = to.deliver(&batch(1)).await;
    assert!(first.settled() == 0 && first.retry.is_some_and(|retry| retry.unreachable));
    assert_eq!(to.deliver(&batch(1)).await, Delivery::complete(1));
}

#[tokio::test]
async fn what_an_endpoint_repeats_of_its_request_is_not_passed_on() {
    // Neither stands behind a word that gives it away.
    let echo = |status: u16| {
        let said = format!("{KEY} with canary-0 in full: {}", "x ".repeat(125));
        let elsewhere = format!("https://evil.example/{KEY}/canary-0/in full");
        ResponseTemplate::new(status).set_body_string(said).insert_header("location", elsewhere)
    };
    for status in [307, 308, 400, 403, 404, 413, 503] {
        let server = answering([vec![ResponseTemplate::new(401)], vec![echo(status); 3]].concat()).await;
        let delivery = destination(&server, Some(Arc::new(Counted(AtomicU32::new(0))))).deliver(&batch(1)).await;
        let said = format!("{delivery:?}");
        assert!(said.contains("in full") && !said.contains(KEY) && !said.contains("canary"), "{said}");
    }
    let refused = json!([{"index": 0, "statusCode": 400, "message": format!("bad {KEY}")}]);
    let server = answering(vec![partly(refused)]).await;
    let delivery = destination(&server, None).deliver(&batch(1)).await;
    assert_eq!(delivery.rejection.as_deref(), Some("400 bad ***"));
}

/// Tokens that are counted.
struct Counted(AtomicU32);

#[async_trait]
impl TokenSource for Counted {
    async fn token(&self, scope: &str, refused: Option<&Secret>) -> Result<Secret, IdentityError> {
        assert_eq!(scope, "https://monitor.azure.com//.default");
        let fresh = u32::from(refused.is_some());
        Ok(Secret::new(format!("canary-{}", self.0.fetch_add(fresh, Ordering::SeqCst) + fresh)))
    }

    fn who(&self) -> Option<&'static str> {
        None
    }
}

#[tokio::test]
async fn a_token_is_sent_once_it_is_asked_for_and_replaced_once_if_it_is_refused() {
    let server = answering(vec![ResponseTemplate::new(401); 2]).await;
    let tokens = Arc::new(Counted(AtomicU32::new(0)));
    let to = destination(&server, Some(tokens));
    assert_eq!(to.deliver(&batch(1)).await, Delivery::complete(1));
    assert_eq!(to.deliver(&batch(2)).await, Delivery::complete(2));
    let requests = server.received_requests().await.expect("requests");
    let sent: Vec<Option<&str>> = requests
        .iter()
        .map(|request| request.headers.get("authorization").map(|value| value.to_str().expect("text")))
        .collect();
    assert_eq!(sent, [None, Some("Bearer canary-0"), Some("Bearer canary-1"), Some("Bearer canary-1")]);
    let server = answering(vec![ResponseTemplate::new(401); 9]).await;
    let tokens = Arc::new(Counted(AtomicU32::new(0)));
    let halt = destination(&server, Some(tokens)).deliver(&batch(1)).await.halt.expect("a halt");
    assert!(halt.contains("Monitoring Metrics Publisher") && !halt.contains("canary"), "{halt}");
    assert_eq!(server.received_requests().await.expect("requests").len(), 3);
}

#[tokio::test]
async fn a_token_goes_by_https_or_to_this_machine_only() {
    let tokens = Arc::new(Counted(AtomicU32::new(0)));
    let text = "InstrumentationKey=00000000-0000-0000-0000-000000000001;IngestionEndpoint=http://in.example";
    let mut to = to(text, Some(tokens));
    to.settings.azure.auth = IngestionAuth::Entra;
    let halt = AppInsights::new(to.settings).expect("a client").deliver(&batch(1)).await.halt.expect("a halt");
    assert!(halt.contains("by https only"), "{halt}");
}

#[tokio::test]
async fn an_answer_that_names_hundreds_of_envelopes_is_read_to_its_end() {
    let errors: Vec<serde_json::Value> =
        (0..500).map(|index| json!({"index": index, "statusCode": 400, "message": "x".repeat(300)})).collect();
    let server = answering(vec![partly(serde_json::Value::Array(errors))]).await;
    let delivery = destination(&server, None).deliver(&batch(250)).await;
    assert_eq!((delivery.delivered, delivery.rejected, delivery.halt), (0, 250, None));
}

#[tokio::test]
async fn a_server_that_is_gone_is_tried_later() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("an address");
    let text = format!("InstrumentationKey=00000000-0000-0000-0000-000000000001;IngestionEndpoint=http://{free}");
    let delivery = to(&text, None).deliver(&batch(2)).await;
    assert_eq!(delivery.settled(), 0);
    assert!(delivery.retry.is_some_and(|retry| retry.unreachable) && !delivery.ambiguous);
}
