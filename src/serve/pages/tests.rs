//! The pages as a browser gets them: from a store with two runs whose every text is hostile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use futures::StreamExt;
use serde_json::Value as Json;
use tower::ServiceExt;

use crate::compare::gate::MustPass;
use crate::compare::nights::{TrendOptions, trend};
use crate::compare::open::{Named, compare_named, judged};
use crate::compare::{CompareOptions, Operand, Policy, judge};
use crate::model::{Case, CaseId, Label, Outcome, Predicted, RunEvent, RunSpec, RunStatus};
use crate::report::collect::Collector;
use crate::report::details::details;
use crate::report::documents::{self, RunEntry};
use crate::report::{Report, build};
use crate::serve::App;
use crate::serve::app::{Addresses, Traffic};
use crate::store::testing::{batch_root, case, completed, ended, failed, session_root, spec, trace_id, trial};
use crate::store::{Reader, Store, Writer};

/// Strings that run scripts, or leave their place, where they are not escaped.
pub(super) const HOSTILE: [&str; 8] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "</title></style></textarea><script src=//example.test/x.js></script>",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "\u{202e}gpj.exe\u{200b}<b>",
    "&lt;script&gt;&#x6a;avascript:alert(1)//--><!--",
];

struct Scene {
    _dir: tempfile::TempDir,
    store: Store,
    writer: Writer,
    pages: Router,
}

struct Answer {
    status: StatusCode,
    response: Option<Response>,
    text: String,
}

impl Scene {
    fn empty() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("store")).expect("a store");
        let writer = store.writer().expect("a writer");
        let addresses = Addresses {
            ui: Some(([127, 0, 0, 1], 4319).into()),
            otlp_http: Some(([127, 0, 0, 1], 4318).into()),
            otlp_grpc: Some(([127, 0, 0, 1], 4317).into()),
        };
        let app = App::new(store.clone(), Arc::new(Traffic::default()), addresses).with_writer(writer.clone());
        Self { _dir: dir, store, writer, pages: super::routes().with_state(Arc::new(app)) }
    }

    /// Two runs over the same nine cases; in the second one answer is better, one worse, and one is missing.
    async fn filled() -> Self {
        let scene = Self::empty();
        scene
            .run("20260922-120000-00000a", 1, |seq| if seq == 1 { Some(Label::False) } else { Some(Label::True) })
            .await;
        scene
            .run("20260923-120000-00000b", 11, |seq| {
                (seq != 4).then_some(if seq < 3 { Label::False } else { Label::Nee })
            })
            .await;
        scene
    }

    /// Runs nine hostile cases; an answer of `None` is a failure.
    async fn run(&self, id: &str, trace: u8, answer: impl Fn(u64) -> Option<Label>) {
        let mut spec = spec(id, 9, 1);
        spec.started_unix_nano += u64::from(trace) * 1_000_000_000;
        HOSTILE[1].clone_into(&mut spec.name);
        HOSTILE[0].clone_into(&mut spec.suite);
        HOSTILE[4].clone_into(&mut spec.model);
        HOSTILE[5].clone_into(&mut spec.dataset.name);
        spec.tags = [(HOSTILE[2].to_owned(), HOSTILE[6].to_owned())].into();
        spec.trace_url = Some("javascript:alert('{trace_id}')".to_owned());
        let (planner, planned) = (self.writer.plan(&spec.run_id), spec.clone());
        tokio::task::spawn_blocking(move || {
            let mut planner = planner;
            (0..9).for_each(|seq| planner.add(&hostile_case(seq)).expect("a case"));
            planner.finish(&planned).expect("a plan");
        })
        .await
        .expect("no panic");
        let events = [
            RunEvent::SessionStarted { spec: Box::new(spec.clone()), root: Box::new(session_root(trace)) },
            RunEvent::BatchStarted { root: Box::new(batch_root(trace + 1)) },
        ];
        for event in events {
            self.writer.record(event).await.expect("recorded");
        }
        for seq in 0..9 {
            let outcome: Outcome = answer(seq).map_or_else(failed, |label| completed(Predicted::Label(label)));
            let mut event = trial(seq, 0, trace, outcome);
            if let RunEvent::TrialFinished { trial, spans, logs } = &mut event {
                trial.case_id = hostile_case(seq).id;
                trial.raw_output =
                    trial.raw_output.take().map(|_| format!("{}\n{}", HOSTILE[0], HOSTILE[seq as usize % 8]));
                trial.trace_id = trace_id(trace + 1);
                if let Outcome::Failed(failure) = &mut trial.outcome {
                    HOSTILE[1].clone_into(&mut failure.error_type);
                    HOSTILE[0].clone_into(&mut failure.message);
                }
                for span in spans {
                    span.trace_id = trial.trace_id;
                }
                logs.clear();
            }
            self.writer.record(event).await.expect("recorded");
        }
        let events = [
            RunEvent::BatchFinished { root: Box::new(ended(batch_root(trace + 1), 900)) },
            RunEvent::SessionFinished {
                status: RunStatus::Completed,
                root: Box::new(ended(session_root(trace), 1000)),
                ended_unix_nano: spec.started_unix_nano + 1000,
            },
        ];
        for event in events {
            self.writer.record(event).await.expect("recorded");
        }
    }

    async fn send(&self, request: Request<Body>) -> Response {
        self.pages.clone().oneshot(request).await.expect("an answer")
    }

    async fn get(&self, address: &str) -> Answer {
        let request = Request::get(address).body(Body::empty()).unwrap_or_else(|e| panic!("{address}: {e}"));
        read(self.send(request).await).await
    }

    async fn html(&self, address: &str) -> String {
        let answer = self.get(address).await;
        assert_eq!(answer.status, StatusCode::OK, "{address}: {}", answer.text);
        answer.text
    }

    async fn json(&self, address: &str) -> Json {
        let answer = self.get(address).await;
        assert_eq!(answer.status, StatusCode::OK, "{address}: {}", answer.text);
        serde_json::from_str(&answer.text).unwrap_or_else(|e| panic!("{address}: {e}"))
    }

    fn reader(&self) -> Reader {
        self.store.reader().expect("a reader")
    }
}

async fn read(mut response: Response) -> Answer {
    let body = std::mem::take(response.body_mut());
    let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Answer { status: response.status(), response: Some(response), text }
}

fn hostile_case(seq: u64) -> Case {
    let text = HOSTILE[seq as usize % HOSTILE.len()];
    Case {
        id: CaseId::parse(format!("{text}/{seq}").replace('\u{200b}', "")).expect("a case id"),
        claim: format!("{text} is a claim."),
        context: format!("{text}\n\tis a context."),
        group: Some(text.to_owned()),
        columns: vec![(HOSTILE[1].to_owned(), HOSTILE[seq as usize % 2].to_owned())],
        ..case(seq)
    }
}

/// The tags of a page with their attributes; text between them does not matter.
fn tags(html: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some((_, from)) = rest.split_once('<') {
        let name_end = from.find(|c: char| c.is_whitespace() || c == '>').expect("a tag ends");
        let (name, mut inside) = from.split_at(name_end);
        let mut attributes = BTreeMap::new();
        loop {
            inside = inside.trim_start();
            if let Some(after) = inside.strip_prefix('>') {
                rest = after;
                break;
            }
            let end = inside.find(|c: char| c == '=' || c == '>' || c.is_whitespace()).expect("an attribute ends");
            let (attribute, after) = inside.split_at(end);
            let (value, after) = match after.strip_prefix("=\"") {
                Some(quoted) => quoted.split_once('"').expect("a value ends"),
                None => ("", after),
            };
            attributes.insert(attribute.to_owned(), value.to_owned());
            inside = after;
        }
        tags.push((name.to_owned(), attributes));
    }
    tags
}

fn unescape(text: &str) -> String {
    text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// What no page may hold, whatever the texts are.
pub(super) fn check_harmless(address: &str, html: &str) {
    assert!(!html.contains(['\u{202e}', '\u{200b}']), "{address}: characters that reorder or hide text");
    for (name, attributes) in tags(html) {
        assert!(!["style", "img", "iframe", "object"].contains(&name.as_str()), "{address}: <{name}>");
        for (attribute, value) in &attributes {
            assert!(!attribute.starts_with("on") && attribute != "style", "{address}: <{name} {attribute}>");
            if ["href", "src", "action"].contains(&attribute.as_str()) {
                assert!(value.starts_with(['/', '#', '?']), "{address}: {attribute}={value}");
            }
        }
        if name == "script" {
            assert!(attributes["src"].starts_with("/assets/"), "{address}: {attributes:?}");
        }
    }
}

#[tokio::test]
async fn every_link_of_every_page_leads_to_a_page_and_no_page_runs_what_texts_hold() {
    let scene = Scene::filled().await;
    let mut wanted: Vec<(String, String)> = ["/", "/runs", "/compare", "/trends", "/traces", "/setup", "/health"]
        .map(|page| (page.to_owned(), "the navigation".to_owned()))
        .into();
    let mut seen = BTreeSet::new();
    while let Some((address, from)) = wanted.pop() {
        if !seen.insert(address.clone()) || seen.len() > 500 {
            continue;
        }
        let answer = scene.get(&address).await;
        let response = answer.response.expect("a response");
        if answer.status == StatusCode::TEMPORARY_REDIRECT {
            wanted.push((response.headers()[header::LOCATION].to_str().expect("text").to_owned(), address));
            continue;
        }
        assert_eq!(answer.status, StatusCode::OK, "{address} (from {from}): {}", answer.text);
        if !response.headers()[header::CONTENT_TYPE].to_str().expect("text").starts_with("text/html") {
            continue;
        }
        check_harmless(&address, &answer.text);
        for (name, attributes) in tags(&answer.text) {
            if let Some(href) = attributes.get("href").filter(|_| name == "a") {
                let href = unescape(href);
                let href = href.split('#').next().unwrap_or_default();
                let path = address.split('?').next().unwrap_or_default();
                wanted.push((
                    if href.starts_with('/') { href.to_owned() } else { format!("{path}{href}") },
                    address.clone(),
                ));
            }
        }
    }
    for page in ["/runs/20260923-120000-00000b", "/runs/20260922-120000-00000a/cases", "/setup"] {
        assert!(seen.contains(page), "nothing leads to {page}");
    }
    assert!(
        seen.iter().any(|page| page.starts_with("/cases/")) && seen.iter().any(|page| page.starts_with("/traces/"))
    );
}

#[tokio::test]
async fn errors_are_harmless_pages_too() {
    let scene = Scene::filled().await;
    let cases = "/runs/20260923-120000-00000b/cases";
    for (address, status, said) in [
        ("/nope", StatusCode::NOT_FOUND, "There is no page"),
        ("/runs/nope", StatusCode::NOT_FOUND, "no run"),
        ("/runs/%3Cscript%3Ealert(1)%3C%2Fscript%3E", StatusCode::NOT_FOUND, "&lt;script&gt;"),
        ("/runs/2026", StatusCode::BAD_REQUEST, "begins the ids of several runs"),
        ("/cases/x/y", StatusCode::NOT_FOUND, "has a case"),
        (&format!("{cases}?q=nope+%3D+%3Cscript%3E"), StatusCode::BAD_REQUEST, "unknown field `nope`"),
        (&format!("{cases}?q=case+%3D+x+and+nope+%3D+1"), StatusCode::BAD_REQUEST, "             ^"),
        (&format!("{cases}?sort=nope"), StatusCode::BAD_REQUEST, "unknown field `nope`"),
        (&format!("{cases}?q=score.other+%3C+1"), StatusCode::BAD_REQUEST, "it has label_match, valid_label"),
        (&format!("{cases}?after=x"), StatusCode::BAD_REQUEST, "names no trial"),
        (&format!("{cases}?change=x"), StatusCode::BAD_REQUEST, "is none of improved"),
        (&format!("{cases}?limit=0"), StatusCode::BAD_REQUEST, "no number of trials"),
        ("/compare?base=nope", StatusCode::NOT_FOUND, "no run"),
        // A file is no run: no address leads the server to one.
        ("/compare?base=/etc/passwd", StatusCode::NOT_FOUND, "no run"),
        ("/compare?base=baseline.json&head=latest", StatusCode::NOT_FOUND, "no run"),
        ("/trends?suite=%3Cscript%3E", StatusCode::NOT_FOUND, "no run of suite"),
        ("/trends?score=nope", StatusCode::NOT_FOUND, "there are"),
        ("/trends?by=col.nope", StatusCode::BAD_REQUEST, "no case has such a column"),
        ("/compare?only=bogus", StatusCode::BAD_REQUEST, "regressed, improved, lost, unpaired"),
    ] {
        let answer = scene.get(address).await;
        assert_eq!(answer.status, status, "{address}");
        assert!(answer.text.contains(said), "{address}: {}", answer.text);
        check_harmless(address, &answer.text);
        // The same as a document.
        let mark = if address.contains('?') { '&' } else { '?' };
        let answer = scene.get(&format!("{address}{mark}format=json")).await;
        assert_eq!(answer.status, status, "{address}");
        let document: Json = serde_json::from_str(&answer.text).expect("JSON");
        assert_eq!(document["status"], status.as_u16());
        assert!(document["error"].as_str().is_some_and(|error| !error.is_empty()));
    }
    let answer = read(scene.send(Request::post("/runs").body(Body::empty()).expect("a request")).await).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(answer.text.contains("does not take POST"));
}

#[tokio::test]
async fn comparisons_and_trends_are_those_of_the_terminal() {
    let scene = Scene::filled().await;
    let reader = scene.reader();
    let [base, head] = ["latest~1", "latest"].map(|run| Named::Run(Box::new(reader.resolve_run(run).expect("a run"))));
    let options = CompareOptions { slices: vec!["expected".to_owned()], ..CompareOptions::default() };
    let comparison = compare_named([&reader, &reader], &base, &head, &options).expect("a comparison");
    let address = "/compare?base=latest~1&head=latest&slice=expected&only=improved";
    assert_eq!(scene.json(&format!("{address}&format=json")).await, serde_json::to_value(&comparison).expect("JSON"));
    let page = scene.html(address).await;
    check_harmless(address, &page);
    // Three cases became worse, two better; each leads to both traces and to what differs between them.
    assert!(page.contains("regressed 3") && page.contains("improved 2"), "{page}");
    assert_eq!(page.matches(">diff</a>").count(), 2);
    assert_eq!(scene.html(&format!("{address}&page=999")).await.matches(">diff</a>").count(), 2, "the last page");
    assert!(scene.html(address).await.contains(r#"aria-current="true">improved"#));
    let options = TrendOptions { last: 60, ..TrendOptions::default() };
    let nights = trend(&reader, &options).expect("a trend");
    assert_eq!(scene.json("/trends?format=json").await, serde_json::to_value(&nights).expect("JSON"));
    check_harmless("/trends", &scene.html("/trends?score=accuracy&by=expected").await);
    for address in ["/compare", "/trends"] {
        assert!(Scene::empty().html(address).await.contains("No runs yet"), "{address}");
    }
}

#[tokio::test]
async fn a_verdict_stands_on_the_front_page_the_run_and_the_list() {
    let scene = Scene::filled().await;
    let run = scene.reader().resolve_run("latest").expect("the run");
    assert!(!scene.html("/").await.contains("INVALID"));
    let why = HOSTILE[0].to_owned();
    let report = judge::without_baseline(&Operand::default(), MustPass::default(), &Policy::default(), HOSTILE[4], why);
    scene.writer.keep_verdict(&run.spec.run_id, judged(&report)).await.expect("kept");
    for address in ["/", "/runs/20260923-120000-00000b", "/runs"] {
        let page = scene.html(address).await;
        check_harmless(address, &page);
        assert!(page.contains("INVALID"), "{address}");
    }
    assert_eq!(scene.json("/runs?format=json").await[0]["verdict"], "INVALID");
    assert_eq!(scene.json("/?format=json").await["gate"]["verdict"], "INVALID");
}

#[tokio::test]
async fn documents_are_those_of_the_terminal() {
    let scene = Scene::filled().await;
    let reader = scene.reader();
    let run = reader.resolve_run("latest").expect("the run");
    let report = Report {
        details: Some(details(&reader, &run).expect("details")),
        ..build(&reader, &run, false).expect("a report")
    };
    let json = |document: &dyn erased::Document| document.json();
    assert_eq!(scene.json("/?format=json").await, json(&report));
    assert_eq!(scene.json("/runs/latest?format=json").await, json(&report));
    let previous = report.details.as_ref().and_then(|details| details.previous.as_ref()).expect("a previous run");
    let cases = previous.cases;
    assert_eq!((cases.improved, cases.regressed, cases.lost, cases.added + cases.removed), (2, 3, 1, 0), "{cases:?}");
    let rows = reader.cases(&run, None, None, None).expect("cases");
    assert_eq!(scene.json("/runs/latest/cases?format=json").await, json(&documents::cases_of(&run.spec, &rows)));
    let found = documents::find_case(&reader, &hostile_case(2).id, None).expect("a case");
    let address = super::link::case(HOSTILE[5], hostile_case(2).id);
    assert_eq!(scene.json(&format!("{address}?format=json")).await, json(&found.history));
    let entries: Vec<RunEntry> = reader
        .runs()
        .expect("runs")
        .iter()
        .map(|run| {
            let mut collector = Collector::new(&run.spec);
            reader.for_each_fact(run, |facts| collector.add(&facts)).expect("facts");
            RunEntry::of(run, false, &collector.brief())
        })
        .collect();
    assert_eq!(scene.json("/runs?format=json").await, json(&entries));
}

/// Documents of several types behind one closure.
mod erased {
    pub(super) trait Document {
        fn json(&self) -> serde_json::Value;
    }

    impl<T: serde::Serialize> Document for T {
        fn json(&self) -> serde_json::Value {
            serde_json::to_value(self).expect("serialises")
        }
    }
}

/// The addresses of the links whose text is this.
fn links(html: &str, shown: &str) -> Vec<String> {
    let ends = format!(">{shown}</a>");
    let before = html.split(&ends).collect::<Vec<_>>();
    let links = before.iter().take(before.len() - 1).map(|part| {
        let tag = part.rsplit("<a ").next().expect("a tag");
        unescape(tag.split("href=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default())
    });
    links.collect()
}

#[tokio::test]
async fn a_cell_of_the_confusion_matrix_leads_to_just_its_cases() {
    let scene = Scene::filled().await;
    let report = scene.json("/runs/latest?format=json").await;
    let confusion = &report["metrics"]["confusion"];
    let mut checked = 0;
    for (i, expected) in confusion["expected"].as_array().expect("rows").iter().enumerate() {
        for (j, predicted) in confusion["predicted"].as_array().expect("columns").iter().enumerate() {
            let n = confusion["matrix"][i][j].as_u64().expect("a count");
            let (expected, predicted) = (expected.as_str().expect("a label"), predicted.as_str().expect("a class"));
            let answered =
                if predicted == "failed" { "status = failed".to_owned() } else { format!("output = {predicted}") };
            let address =
                super::link::cases("20260923-120000-00000b", &format!("expected = {expected} and {answered}"));
            if n > 0 {
                let page = scene.html("/runs/20260923-120000-00000b").await;
                assert!(page.contains(&address.replace('&', "&amp;")), "{address}");
                checked += 1;
            }
            let cases = scene.json(&format!("{address}&format=json")).await;
            assert_eq!(cases.as_array().expect("cases").len() as u64, n, "{address}");
        }
    }
    assert!(checked >= 5, "{checked} cells");
}

#[tokio::test]
async fn a_case_leads_to_the_next_of_the_list_it_was_opened_from() {
    let scene = Scene::filled().await;
    // `latest` leads to the address that stays.
    let moved = scene.get("/runs/latest/cases?q=expected+%3D+NEE&sort=-case").await;
    let to = &moved.response.as_ref().expect("a response").headers()[header::LOCATION];
    assert_eq!(
        (moved.status, to.to_str().expect("text")),
        (StatusCode::SEE_OTHER, "/runs/20260923-120000-00000b/cases?q=expected%20%3D%20NEE&sort=-case")
    );
    let list = scene.html("/runs/20260923-120000-00000b/cases?q=expected+%3D+NEE&sort=-case").await;
    let opened: Vec<String> = tags(&list)
        .into_iter()
        .filter(|(name, attributes)| name == "a" && attributes.contains_key("data-open"))
        .map(|(_, attributes)| unescape(&attributes["href"]))
        .collect();
    assert_eq!(opened.len(), 3);
    let mut at = opened[0].clone();
    for next in &opened[1..] {
        let page = scene.html(&at).await;
        assert_eq!(links(&page, "Next ›"), [next.as_str()]);
        at.clone_from(next);
    }
    let page = scene.html(&at).await;
    assert!(links(&page, "Next ›").is_empty());
    assert_eq!(links(&page, "‹ Previous"), [opened[1].as_str()]);
    assert!(page.contains("3 of 3"));
}

#[tokio::test]
async fn cases_that_changed_are_found_from_their_count() {
    let scene = Scene::filled().await;
    let front = scene.html("/").await;
    let regressed: Vec<String> =
        links(&front, "3").into_iter().filter(|href| href.contains("change=regressed")).collect();
    assert_eq!(regressed.len(), 1, "{front}");
    let cases = scene.json(&format!("{}&format=json", regressed[0])).await;
    assert_eq!(cases.as_array().map(Vec::len), Some(3));
    let page = scene.html(&regressed[0]).await;
    assert_eq!(page.matches("▼ regressed").count(), 3);
}

#[tokio::test]
async fn an_empty_store_says_how_to_begin() {
    let scene = Scene::empty();
    let page = scene.html("/").await;
    assert!(page.contains("This store holds no runs") && page.contains("spanscore init"), "{page}");
    assert!(scene.html("/runs").await.contains("No runs yet"));
    assert_eq!(scene.get("/?format=json").await.status, StatusCode::NOT_FOUND);
    assert_eq!(scene.json("/runs?format=json").await, Json::Array(Vec::new()));
    check_harmless("/", &page);
}

#[tokio::test]
async fn a_test_span_is_stored_and_its_trace_is_linked() {
    let scene = Scene::empty();
    let request = Request::post("/setup/test-span").header("x-spanscore", "1").body(Body::empty()).expect("a request");
    let answer = read(scene.send(request).await).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let sent: Json = serde_json::from_str(&answer.text).expect("JSON");
    let trace = scene.reader().trace(sent["trace_id"].as_str().expect("an id")).expect("the trace");
    assert_eq!((trace.spans.len(), trace.row.root.as_str()), (2, "test"));
    assert!(scene.html(sent["url"].as_str().expect("a url")).await.contains("chat test-model"));
    let health = scene.json("/health?format=json").await;
    assert_eq!((&health["traffic"]["spans"], &health["store"]["traces"]), (&Json::from(2), &Json::from(1)));
}

#[tokio::test]
async fn the_curl_command_of_setup_holds_a_request_that_is_accepted() {
    let scene = Scene::empty();
    let page = unescape(&scene.html("/setup").await);
    let json = page.split("-d '").nth(1).and_then(|rest| rest.split('\'').next()).expect("a body");
    let request = crate::trace::otlp_json::decode_trace_request(json.as_bytes()).expect("OTLP JSON");
    let received = crate::trace::requests::receive_traces(request);
    assert_eq!((received.telemetry.len(), received.rejected, received.telemetry[0].spans.len()), (1, 0, 2));
}

#[tokio::test]
async fn listeners_learn_the_names_of_what_changed() {
    let scene = Scene::filled().await;
    let response = scene.send(Request::get("/live").body(Body::empty()).expect("a request")).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    // The first look is what later ones are compared with; it cannot be seen from here, so the change is made again
    // and again until it is noticed.
    let mut heard = String::new();
    let run: RunSpec = scene.reader().resolve_run("latest").expect("the run").spec;
    let tags = |n: u32| [("n".to_owned(), n.to_string())].into();
    for n in 0..100 {
        scene.writer.set_tags(&run.run_id, tags(n)).await.expect("tagged");
        if let Ok(Some(Ok(bytes))) = tokio::time::timeout(Duration::from_millis(200), stream.next()).await {
            heard.push_str(&String::from_utf8_lossy(&bytes));
        }
        if heard.contains("data: run:") {
            break;
        }
    }
    assert!(heard.contains("event: change\ndata: runs\n"), "{heard}");
    assert!(heard.contains(&format!("data: run:{}\n", run.run_id)), "{heard}");
    assert!(!heard.contains("traces"), "{heard}");
}

#[tokio::test]
async fn assets_are_kept_for_good_under_the_digest_of_their_content_only() {
    let scene = Scene::empty();
    let front = scene.html("/").await;
    let sheet = front.split("href=\"/assets/app.css").nth(1).and_then(|rest| rest.split('"').next()).expect("a sheet");
    for (address, kept) in [
        (format!("/assets/app.css{sheet}"), "public, max-age=31536000, immutable"),
        ("/assets/app.css".to_owned(), "no-cache"),
        ("/assets/app.css?v=0".to_owned(), "no-cache"),
    ] {
        let answer = scene.get(&address).await;
        let headers = answer.response.as_ref().expect("a response").headers();
        assert_eq!((answer.status, headers[header::CACHE_CONTROL].to_str().expect("text")), (StatusCode::OK, kept));
        let known = headers[header::ETAG].clone();
        let request =
            Request::get(&address).header(header::IF_NONE_MATCH, known).body(Body::empty()).expect("a request");
        assert_eq!(read(scene.send(request).await).await.status, StatusCode::NOT_MODIFIED);
    }
    assert_eq!(scene.get("/assets/../Cargo.toml").await.status, StatusCode::NOT_FOUND);
    assert_eq!(scene.get("/assets/other.js").await.status, StatusCode::NOT_FOUND);
}
