//! Sinks against servers that answer by a script.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::score::tests::{failed, label, record, value};
use super::*;
use crate::config::Environment;
use crate::config::suite::SinkSection;
use crate::model::{LogRecord, SpanId};
use crate::trace::semconv as sc;

fn config(kind: SinkKind, url: &str) -> SinkConfig {
    let section = SinkSection {
        kind: Some(kind.as_str().to_owned()),
        url: Some(url.to_owned()),
        basic_env: Some(["USER".to_owned(), "CANARY".to_owned()]),
        timeout: Some("2s".to_owned()),
        ..SinkSection::default()
    };
    let mut env = Environment::default();
    env.set("USER", "pk");
    env.set("CANARY", "canary-key");
    SinkConfig::resolve_all(&[section], &env).expect("a sink").remove(0)
}

fn sink(kind: SinkKind, url: &str) -> Sink {
    Sink::new(&config(kind, url)).expect("a client")
}

fn batch(records: Vec<LogRecord>) -> Batch {
    Batch { origin: Arc::default(), items: Items::Logs(records) }
}

fn on_span(mut record: LogRecord, span: u8) -> LogRecord {
    record.span_id = Some(SpanId::from_bytes([span; 8]));
    record
}

async fn server(template: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(wiremock::matchers::any()).respond_with(template).mount(&server).await;
    server
}

async fn bodies(server: &MockServer, verb: &str) -> Vec<Value> {
    let requests = server.received_requests().await.expect("they are kept");
    let of_verb = requests.iter().filter(|request| request.method.as_str() == verb);
    of_verb.map(|request| serde_json::from_slice(&request.body).expect("JSON")).collect()
}

#[tokio::test]
async fn what_an_answer_means_is_the_same_at_every_backend() {
    for kind in SinkKind::ALL {
        for status in [301, 307, 401, 403, 404, 405, 501, 507] {
            let server = server(ResponseTemplate::new(status).set_body_json(json!({"detail": "no\u{7} way"}))).await;
            let delivery = sink(kind, &server.uri()).deliver(&batch(vec![record("c", "e", &[value(1.0)])])).await;
            assert_eq!((delivery.settled(), &delivery.retry), (0, &None), "{kind:?} {status}");
            let halt = delivery.halt.unwrap_or_else(|| panic!("{kind:?} {status}"));
            assert!(!halt.contains("canary") && !halt.contains('\u{7}'), "{halt}");
            if status == 401 {
                assert!(halt.contains("answers 401") && halt.ends_with("no way; check USER and CANARY"), "{halt}");
            }
        }
        for status in [408, 429, 500, 502, 503, 504] {
            let server = server(ResponseTemplate::new(status).insert_header("retry-after", "7")).await;
            let delivery = sink(kind, &server.uri()).deliver(&batch(vec![record("c", "e", &[value(1.0)])])).await;
            let retry = delivery.retry.unwrap_or_else(|| panic!("{kind:?} {status}"));
            assert_eq!((retry.after, retry.unreachable), (Some(Duration::from_secs(7)), false), "{kind:?} {status}");
        }
        let page = server(ResponseTemplate::new(200).set_body_raw("<html>", "text/html")).await;
        let delivery = sink(kind, &page.uri()).deliver(&batch(vec![record("c", "e", &[value(1.0)])])).await;
        let halt = delivery.halt.expect("a halt");
        assert!(halt.ends_with(&format!("is `url` the address of {}?", kind.title())), "{halt}");
    }
    for kind in [SinkKind::Phoenix, SinkKind::Langfuse] {
        let server = server(ResponseTemplate::new(422).set_body_json(json!({"message": "value is odd"}))).await;
        let delivery = sink(kind, &server.uri()).deliver(&batch(vec![record("c", "e", &[value(1.0)])])).await;
        assert_eq!((delivery.rejected, delivery.halt, delivery.retry), (1, None, None));
        assert!(delivery.rejection.expect("a reason").ends_with("422 Unprocessable Entity: value is odd"));
    }
}

/// A server that takes a request and then does not answer, or answers without end.
async fn rude(endless: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let mut tasks = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            tasks.spawn(async move {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2147483648\r\n\r\n[";
                let _ = stream.write_all(head.as_bytes()).await;
                let blanks = vec![b' '; 1 << 20];
                while endless && stream.write_all(&blanks).await.is_ok() {}
                std::future::pending::<()>().await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_server_that_hangs_or_never_ends_costs_a_bounded_wait() {
    for kind in SinkKind::ALL {
        for endless in [false, true] {
            let mut config = config(kind, &rude(endless).await);
            config.timeout = Duration::from_millis(300);
            let sink = Sink::new(&config).expect("a client");
            let delivery = sink.deliver(&batch(vec![record("c", "e", &[value(1.0)])])).await;
            assert!(delivery.settled() == 0 && !delivery.ambiguous, "{kind:?} {delivery:?}");
            // Without an end, either the bound or the time is met first.
            let too_large = delivery.halt.as_deref().is_some_and(|why| why.contains("with more than 16 MiB; is `url`"));
            assert!(
                delivery.retry.is_some() && delivery.halt.is_none() || endless && too_large,
                "{kind:?} {delivery:?}"
            );
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let delivery = sink(SinkKind::Phoenix, &nobody).deliver(&batch(vec![record("c", "e", &[value(1.0)])])).await;
    assert!(delivery.retry.is_some_and(|retry| retry.unreachable && retry.reason.contains("refused")));
}

/// A server whose answers have this status and break off after `text`.
async fn cut(status: &'static str, text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: 4096\r\n\r\n{text}");
            let _ = stream.write_all(head.as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let scores = || batch(vec![record("c", "e", &[value(1.0)])]);
    for kind in SinkKind::ALL {
        for (status, text) in [
            ("200 OK", r#"{"trace": {"trace_info": {"assess"#),
            ("404 Not Found", r#"{"detail": "Spans with IDs 080"#),
            ("404 Not Found", r#"{"error_code": "RESOURCE_DOES"#),
            ("422 Unprocessable Entity", ""),
        ] {
            let delivery = sink(kind, &cut(status, text).await).deliver(&scores()).await;
            assert!(delivery.retry.is_some(), "{kind:?} {status} {text}: {delivery:?}");
            assert_eq!((delivery.settled(), &delivery.halt), (0, &None), "{kind:?} {status} {text}");
            assert!(delivery.retry.is_some_and(|retry| !retry.unreachable && retry.reason.contains("breaks off")));
        }
        // What the status says is said although the rest does not come.
        let delivery = sink(kind, &cut("401 Unauthorized", "{").await).deliver(&scores()).await;
        assert!(delivery.halt.is_some_and(|why| why.ends_with("check USER and CANARY")), "{kind:?}");
    }
}

#[test]
fn a_key_that_is_not_set_is_said_before_anything_is_sent() {
    let section = SinkSection { kind: Some("langfuse".into()), url: Some("http://l".into()), ..SinkSection::default() };
    let config = SinkConfig::resolve_all(&[section], &Environment::default()).expect("a sink").remove(0);
    let Err(error) = Sink::new(&config) else { panic!("no key, no client") };
    assert_eq!(
        error.to_string(),
        "preparing sink langfuse: LANGFUSE_PUBLIC_KEY is not set; set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY"
    );
}

#[test]
fn a_failed_evaluation_is_no_zero_and_other_records_are_passed_over() {
    let mut other = record("c", "e", &[value(1.0)]);
    other.event_name = "other".into();
    let items = Items::Logs(vec![record("c", "e", &[failed()]), other, record("c", "e", &[value(0.0)])]);
    let wants = |kind| sink(kind, "http://127.0.0.1:1").wants(&items);
    assert_eq!(wants(SinkKind::Phoenix), Some(vec![false, false, true]));
    assert_eq!(wants(SinkKind::Langfuse), Some(vec![false, false, true]));
    assert_eq!(wants(SinkKind::Mlflow), Some(vec![true, false, true]), "MLflow has a place for errors");
}

/// Phoenix, as far as it matters: knows some spans, refuses a name, keeps one annotation for each identifier.
struct PhoenixLike {
    spans: Mutex<Vec<String>>,
}

impl Respond for PhoenixLike {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body: Value = serde_json::from_slice(&request.body).expect("JSON");
        let data = body["data"].as_array().expect("a list");
        if data.iter().any(|annotation| annotation["name"] == "note") {
            return ResponseTemplate::new(400).set_body_json(json!({"detail": "The name 'note' is reserved"}));
        }
        let known = self.spans.lock().expect("unpoisoned");
        let missing: Vec<&str> = data
            .iter()
            .filter_map(|annotation| annotation["span_id"].as_str())
            .filter(|span| !known.iter().any(|known| known == span))
            .collect();
        if missing.is_empty() {
            return ResponseTemplate::new(200).set_body_json(json!({"data": []}));
        }
        let detail = format!("Spans with IDs {} do not exist.", missing.join(", "));
        ResponseTemplate::new(404).set_body_json(json!({"detail": detail}))
    }
}

async fn phoenix(spans: &[u8]) -> (MockServer, Arc<PhoenixLike>) {
    struct Shared(Arc<PhoenixLike>);
    impl Respond for Shared {
        fn respond(&self, request: &Request) -> ResponseTemplate {
            self.0.respond(request)
        }
    }
    let spans = spans.iter().map(|span| SpanId::from_bytes([*span; 8]).to_string()).collect();
    let like = Arc::new(PhoenixLike { spans: Mutex::new(spans) });
    let server = MockServer::start().await;
    let route = Mock::given(method("POST")).and(path("/v1/span_annotations"));
    route.respond_with(Shared(Arc::clone(&like))).mount(&server).await;
    (server, like)
}

#[tokio::test]
async fn scores_whose_spans_phoenix_does_not_know_yet_wait_and_the_others_do_not() {
    let (server, like) = phoenix(&[1, 3]).await;
    let sink = sink(SinkKind::Phoenix, &server.uri());
    let scores = batch((1..=3).map(|i| on_span(record(&format!("c{i}"), "e", &[value(1.0)]), i)).collect());
    let first = sink.deliver(&scores).await;
    assert_eq!((first.delivered, first.rejected), (1, 0));
    let waiting = Some(Waiting { places: vec![0], rejected: 0 });
    assert_eq!(first.waiting, waiting, "the second waits, and the third behind it is there");
    let reason = first.retry.expect("a wait").reason;
    assert!(
        reason.contains("does not know span 0202020202020202") && reason.contains("were the run's spans"),
        "{reason}"
    );
    like.spans.lock().unwrap().push("0202020202020202".to_owned());
    let rest = batch(vec![on_span(record("c2", "e", &[value(1.0)]), 2)]);
    assert_eq!(sink.deliver(&rest).await, Delivery::complete(1));
    let sent: Vec<usize> =
        bodies(&server, "POST").await.iter().map(|body| body["data"].as_array().expect("a list").len()).collect();
    assert_eq!(sent, [3, 2, 1], "what was taken is not sent again");
}

#[tokio::test]
async fn one_score_that_phoenix_refuses_takes_no_other_with_it() {
    let (server, _) = phoenix(&[8]).await;
    let names = ["a", "b", "note", "c", "d"];
    let scores = batch(names.iter().map(|name| record("c", name, &[value(1.0)])).collect());
    let delivery = sink(SinkKind::Phoenix, &server.uri()).deliver(&scores).await;
    assert_eq!((delivery.delivered, delivery.rejected, delivery.halt, delivery.retry), (4, 1, None, None));
    assert!(delivery.rejection.expect("a reason").contains("reserved"));
}

#[tokio::test]
async fn an_old_score_whose_span_never_comes_is_given_up_and_a_young_one_is_not() {
    let (server, _) = phoenix(&[]).await;
    for (age, given_up) in [(Duration::from_hours(25), true), (Duration::from_hours(1), false)] {
        let sink = sink(SinkKind::Phoenix, &server.uri());
        let mut score = record("c", "e", &[value(1.0)]);
        score.time_unix_nano = Clock::System.now_unix_nano() - age.as_nanos() as u64;
        let scores = batch(vec![score]);
        for _ in 1..TRIES_UNKNOWN {
            assert_eq!(sink.deliver(&scores).await.settled(), 0);
        }
        let last = sink.deliver(&scores).await;
        assert_eq!(last.rejected, u64::from(given_up), "{last:?}");
        assert_eq!(last.rejection.is_some_and(|why| why.ends_with("more than a day old")), given_up);
    }
}

#[tokio::test]
async fn each_backend_gets_a_score_in_its_own_words() {
    let because = (sc::GEN_AI_EVALUATION_EXPLANATION, "expected True".into());
    let assertion = || record("c1", "label_match", &[value(0.0), label("fail"), because.clone()]);
    let labelled = || record("c1", "tone", &[label("rude")]);
    let id = Outgoing::of(&assertion()).expect("a score").id_hex();
    let metadata = |more: Value| {
        let mut all = json!({"test.suite.run.id": "run-1", "test.case.id": "c1", "spanscore.trial.repeat": "0"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };

    let (server, _) = phoenix(&[8]).await;
    sink(SinkKind::Phoenix, &server.uri()).deliver(&batch(vec![assertion(), labelled()])).await;
    let sent = bodies(&server, "POST").await;
    assert_eq!(
        sent[0]["data"][0],
        json!({"span_id": "0808080808080808", "name": "label_match", "annotator_kind": "CODE",
               "result": {"score": 0.0, "label": "fail", "explanation": "expected True"},
               "metadata": metadata(json!({})), "identifier": format!("spanscore-{id}")})
    );
    assert_eq!(sent[0]["data"][1]["result"], json!({"label": "rude"}), "a label without a number has no score");

    let server = self::server(ResponseTemplate::new(200).set_body_json(json!({"id": "x"}))).await;
    let number = record("c1", "cost", &[value(0.25)]);
    sink(SinkKind::Langfuse, &server.uri()).deliver(&batch(vec![assertion(), labelled(), number])).await;
    let mut sent = bodies(&server, "POST").await;
    sent.sort_by_key(|body| body["name"].to_string());
    assert_eq!(
        sent[1],
        json!({"id": format!("spanscore-{id}"), "traceId": "07".repeat(16), "observationId": "08".repeat(8),
               "name": "label_match", "value": 0, "dataType": "BOOLEAN", "comment": "expected True",
               "metadata": metadata(json!({"annotator_kind": "CODE", "label": "fail"})),
               "timestamp": "2023-11-14T22:13:20Z"})
    );
    let kinds: Vec<_> = sent.iter().map(|body| (body["dataType"].clone(), body["value"].clone())).collect();
    assert_eq!(kinds[0], (json!("NUMERIC"), json!(0.25)));
    assert_eq!(kinds[2], (json!("CATEGORICAL"), json!("rude")));
}

/// MLflow's assessments, changed as MLflow changes them: a patch leaves name, source and span, and merges metadata. Ids are
/// one for the whole server.
#[derive(Default)]
struct MlflowLike {
    assessments: Mutex<Vec<Value>>,
    /// Requests that are no reading.
    writes: Mutex<Vec<(String, Value)>>,
}

impl Respond for MlflowLike {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let path: Vec<&str> = request.url.path().split('/').collect();
        let (trace, id) = (path[5], path.get(7));
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let mut all = self.assessments.lock().unwrap();
        let verb = request.method.as_str();
        if verb != "GET" {
            self.writes.lock().unwrap().push((verb.to_owned(), body.clone()));
        }
        let sent = &body["assessment"];
        let ok = |body: Value| ResponseTemplate::new(200).set_body_json(body);
        let found =
            id.and_then(|id| all.iter().position(|one| one["assessment_id"] == *id && one["trace_id"] == trace));
        match (verb, found) {
            ("GET", _) => {
                let mut of_trace: Vec<Value> = all.iter().filter(|one| one["trace_id"] == trace).cloned().collect();
                for one in &mut of_trace {
                    // Whole numbers lose their fraction on the way.
                    if one["feedback"]["value"] == json!(1.0) {
                        one["feedback"]["value"] = json!(1);
                    }
                }
                ok(json!({"trace": {"trace_info": {"assessments": of_trace}}}))
            }
            ("POST", _) if all.iter().any(|one| one["assessment_id"] == sent["assessment_id"]) => {
                ResponseTemplate::new(500).set_body_json(json!({"error_code": "INTERNAL_ERROR"}))
            }
            ("POST", _) => {
                all.push(sent.clone());
                ok(json!({}))
            }
            ("PATCH", Some(place)) => {
                let there = &mut all[place];
                there["feedback"] = sent["feedback"].clone();
                if body["update_mask"] == "feedback,metadata,rationale" {
                    there["rationale"] = sent.get("rationale").cloned().unwrap_or_else(|| json!(""));
                } else {
                    assert_eq!(body["update_mask"], "feedback,metadata");
                }
                let metadata = sent["metadata"].as_object().unwrap().clone();
                there["metadata"].as_object_mut().unwrap().extend(metadata);
                ok(json!({}))
            }
            ("DELETE", _) => {
                found.map(|place| all.remove(place));
                ok(json!({}))
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn mlflow() -> (MockServer, Arc<MlflowLike>) {
    struct Shared(Arc<MlflowLike>);
    impl Respond for Shared {
        fn respond(&self, request: &Request) -> ResponseTemplate {
            self.0.respond(request)
        }
    }
    let (server, like) = (MockServer::start().await, Arc::<MlflowLike>::default());
    Mock::given(wiremock::matchers::any()).respond_with(Shared(Arc::clone(&like))).mount(&server).await;
    (server, like)
}

impl MlflowLike {
    fn verbs(&self) -> Vec<String> {
        std::mem::take(&mut *self.writes.lock().unwrap()).into_iter().map(|(verb, _)| verb).collect()
    }
}

#[tokio::test]
async fn mlflow_is_asked_first_and_gets_what_it_lacks_or_has_otherwise() {
    let because = (sc::GEN_AI_EVALUATION_EXPLANATION, "expected True".into());
    let scores = || {
        batch(vec![
            record("c1", "label_match", &[value(1.0), label("pass"), because.clone()]),
            record("c2", "cost", &[value(1.0)]),
            record("c3", "broken", &[failed()]),
        ])
    };
    let (server, like) = mlflow().await;
    let foreign = json!({"assessment_id": "a-1", "trace_id": format!("tr-{}", "07".repeat(16)),
                         "assessment_name": "label_match", "feedback": {"value": true}});
    like.assessments.lock().unwrap().push(foreign.clone());
    let sink = sink(SinkKind::Mlflow, &server.uri());
    assert_eq!(sink.deliver(&scores()).await, Delivery::complete(3));
    let created = like.assessments.lock().unwrap()[1..].to_vec();
    assert_eq!(created[2]["feedback"], json!({"error": {"error_code": "timeout", "error_message": "timeout"}}));
    assert_eq!(created[0]["source"], json!({"source_type": "CODE", "source_id": "spanscore"}));
    assert_eq!(
        (&created[0]["create_time"], &created[0]["metadata"]["label"]),
        (&json!("2023-11-14T22:13:20Z"), &json!("pass"))
    );
    assert_eq!(like.verbs(), ["POST"; 3]);
    sink.deliver(&scores()).await;
    assert_eq!(like.verbs(), [""; 0], "what is there is left alone");

    let check = async |place: usize, path: &str, value: Value, wanted: &[&str]| {
        {
            let mut all = like.assessments.lock().unwrap();
            let parent = all[place].pointer_mut(path.rsplit_once('/').unwrap().0).unwrap();
            parent[path.rsplit_once('/').unwrap().1] = value;
        }
        assert_eq!(sink.deliver(&scores()).await, Delivery::complete(3), "{path}");
        assert_eq!(like.verbs(), wanted, "{path}");
        sink.deliver(&scores()).await;
        assert_eq!(like.verbs(), [""; 0], "{path}: it is right now");
    };
    let (patched, made_anew) = (&["PATCH"][..], &["DELETE", "POST"][..]);
    check(1, "/feedback/value", json!(false), patched).await;
    check(1, "/rationale", json!("because"), patched).await;
    check(1, "/metadata/label", json!("fail"), patched).await;
    check(2, "/feedback/value", json!(0.5), patched).await;
    assert_eq!(like.assessments.lock().unwrap()[2].get("rationale"), None, "no empty one is made");
    check(1, "/metadata/test.case.id", json!("other"), patched).await;
    check(3, "/feedback/error/error_message", json!("another"), patched).await;
    check(2, "/rationale", json!("there was none"), patched).await;
    // The last is made anew, and goes to the end of the list.
    check(3, "/span_id", json!("0101010101010101"), made_anew).await;
    check(3, "/assessment_name", json!("renamed"), made_anew).await;
    check(3, "/source/source_type", json!("HUMAN"), made_anew).await;
    check(3, "/metadata/label", json!("left over"), made_anew).await;
    // What others add beside it is theirs.
    check(3, "/metadata/reviewer", json!("me"), &[]).await;
    assert_eq!(like.assessments.lock().unwrap()[0], foreign);
}

#[tokio::test]
async fn a_case_tried_again_has_an_assessment_on_each_of_its_traces() {
    let (server, like) = mlflow().await;
    let sink = sink(SinkKind::Mlflow, &server.uri());
    assert_eq!(sink.deliver(&batch(vec![record("c1", "e", &[failed()])])).await, Delivery::complete(1));
    let mut again = record("c1", "e", &[value(1.0)]);
    again.trace_id = Some(crate::model::TraceId::from_bytes([9; 16]));
    assert_eq!(sink.deliver(&batch(vec![again])).await, Delivery::complete(1));
    assert_eq!(like.assessments.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_trace_that_mlflow_does_not_know_yet_is_waited_for() {
    let missing = json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Trace with ID 'x' not found."});
    let server = server(ResponseTemplate::new(404).set_body_json(missing)).await;
    let delivery = sink(SinkKind::Mlflow, &server.uri()).deliver(&batch(vec![record("c", "e", &[value(1.0)])])).await;
    assert!(delivery.retry.is_some_and(|retry| retry.reason.contains("does not know trace tr-0707")));
}

#[tokio::test]
async fn a_look_says_what_is_wrong() {
    let look = |kind, template: ResponseTemplate, project: Option<&'static str>| async move {
        let server = server(template).await;
        let mut config = config(kind, &server.uri());
        config.project = project.map(str::to_owned);
        Sink::new(&config).expect("a client").look().await
    };
    let json = |status, body: Value| ResponseTemplate::new(status).set_body_json(body);
    let found = look(SinkKind::Phoenix, json(200, json!({"data": {"name": "claims"}})), Some("claims")).await;
    assert_eq!(found, Finding::Fine("project `claims`".into()));
    let answer = json(404, json!({"detail": "Project with identifier claims not found"}));
    assert!(matches!(look(SinkKind::Phoenix, answer, Some("claims")).await, Finding::Note(_)));
    let answer = json(404, json!({"detail": "Not Found"}));
    let Finding::Problem(_, hint) = look(SinkKind::Phoenix, answer, Some("claims")).await else { panic!("a problem") };
    assert_eq!(hint, "is `url` the address of Phoenix?");
    let answer = || json(200, json!({"data": [{"id": "p1", "name": "mine"}]}));
    assert_eq!(look(SinkKind::Langfuse, answer(), None).await, Finding::Fine("project `mine`".into()));
    let found = look(SinkKind::Langfuse, answer(), Some("other")).await;
    assert!(matches!(found, Finding::Problem(what, _) if what.contains("`mine`") && what.contains("`other`")));
    let answer = json(401, json!({"message": "Invalid credentials"}));
    let Finding::Problem(what, hint) = look(SinkKind::Langfuse, answer, None).await else { panic!("a problem") };
    assert!(what.ends_with("answers 401 Unauthorized: Invalid credentials"), "{what}");
    assert_eq!(hint, "check USER and CANARY");
    let answer = json(404, json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}));
    let found = look(SinkKind::Mlflow, answer, Some("claims")).await;
    assert!(matches!(found, Finding::Problem(what, _) if what == "there is no experiment `claims`"));
}

#[tokio::test]
async fn of_two_records_of_one_score_the_last_is_sent() {
    for kind in SinkKind::ALL {
        let server = server(ResponseTemplate::new(200).set_body_json(json!({"trace": {"trace_info": {}}}))).await;
        let scores = [("c1", 0.25), ("c2", 0.5), ("c1", 0.75)];
        let records = scores.map(|(case, score)| record(case, "e", &[value(score)])).to_vec();
        let delivery = sink(kind, &server.uri()).deliver(&batch(records)).await;
        assert_eq!(delivery, Delivery::complete(3), "{kind:?}");
        let sent: String = bodies(&server, "POST").await.iter().map(Value::to_string).collect();
        let found = ["0.25", "0.5", "0.75"].map(|score| sent.matches(&format!(":{score}")).count());
        assert_eq!(found, [0, 1, 1], "{kind:?}: {sent}");
    }
}
