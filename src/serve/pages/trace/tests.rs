//! The pages of traces as a browser gets them: hostile, broken, and very large ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use tower::ServiceExt;

use super::super::tests::{HOSTILE, check_harmless};
use super::super::{PageContext, routes};
use super::{Scene, waterfall};
use crate::model::{Evaluation, Key, LogRecord, Origin, Span, SpanId, SpanKind, Status, Telemetry, TraceId, Value};
use crate::report::low::Yardstick;
use crate::serve::App;
use crate::serve::app::{Addresses, Traffic};
use crate::store::rows::{SpanScore, SpanSkeleton, TraceRow, TraceSkeleton};
use crate::store::{Retention, Store, Writer};
use crate::trace::otlp_json::decode_trace_request;
use crate::trace::requests::receive_traces;

const START: u64 = 1_795_362_301_000_000_000;

fn trace_id(n: u8) -> TraceId {
    TraceId::from_bytes([n; 16])
}

fn span_id(n: u64) -> SpanId {
    SpanId::from_bytes(n.to_be_bytes())
}

fn span(trace: u8, id: u64, parent: Option<u64>, name: &str, from_ms: u64, to_ms: u64) -> Span {
    let mut span =
        Span::open(trace_id(trace), span_id(id), parent.map(span_id), name.to_owned(), START + from_ms * 1_000_000);
    span.end_unix_nano = START + to_ms * 1_000_000;
    span
}

struct Site {
    _dir: tempfile::TempDir,
    writer: Writer,
    app: Arc<App>,
    pages: Router,
}

impl Site {
    async fn with(spans: Vec<Span>, logs: Vec<LogRecord>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("store")).expect("a store");
        let writer = store.writer().expect("a writer");
        let resource: Vec<(Key, Value)> =
            HOSTILE.iter().map(|text| (Key::from(*text), Value::from((*text).to_owned()))).collect();
        let origin = Origin {
            resource,
            scope_name: HOSTILE[0].to_owned(),
            scope_version: HOSTILE[1].to_owned(),
            ..Origin::default()
        };
        writer.ingest(vec![Telemetry { origin: Arc::new(origin), spans, logs }]).await.expect("ingested");
        let app = Arc::new(App::new(store, Arc::new(Traffic::default()), Addresses::default()));
        Self { _dir: dir, writer, pages: routes().with_state(Arc::clone(&app)), app }
    }

    async fn get(&self, address: &str) -> (StatusCode, String, Option<String>) {
        let request = Request::get(address).body(Body::empty()).unwrap_or_else(|e| panic!("{address}: {e}"));
        let mut response = self.pages.clone().oneshot(request).await.expect("an answer");
        let body = std::mem::take(response.body_mut());
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
        let location = response.headers().get(header::LOCATION).map(|to| to.to_str().expect("text").to_owned());
        (response.status(), String::from_utf8(bytes.to_vec()).expect("UTF-8"), location)
    }

    async fn page(&self, address: &str) -> String {
        let (status, text, _) = self.get(address).await;
        assert_eq!(status, StatusCode::OK, "{address}: {text}");
        check_harmless(address, &text);
        text
    }
}

/// A trace whose every text is hostile, with a failed call and its log record.
fn hostile() -> (Vec<Span>, Vec<LogRecord>) {
    let mut root = span(1, 1, None, HOSTILE[0], 0, 100);
    let mut call = span(1, 2, Some(1), HOSTILE[4], 10, 60);
    for (i, text) in HOSTILE.iter().enumerate() {
        for span in [&mut root, &mut call] {
            span.set(format!("{text}{i}"), (*text).to_owned());
            span.set(format!("list{i}"), Value::Array(vec![Value::from((*text).to_owned()), Value::Int(1)]));
            span.add_event((*text).to_owned(), START, vec![((*text).into(), (*text).to_owned().into())]);
            span.add_link(trace_id(9), span_id(9), vec![((*text).into(), (*text).to_owned().into())]);
        }
    }
    let message = serde_json::json!([{"role": HOSTILE[0], "name": HOSTILE[1], "finish_reason": HOSTILE[2], "parts": [
        {"type": "text", "content": HOSTILE[3]}, {"type": "tool_call", "id": HOSTILE[1], "name": HOSTILE[0], "arguments": HOSTILE[2]},
        {"type": HOSTILE[0], "uri": HOSTILE[1]}, {"type": "reasoning", "content": HOSTILE[4]},
    ]}]);
    call.set("gen_ai.input.messages", message.to_string());
    call.set("gen_ai.output.messages", message.to_string());
    call.set("error.type", HOSTILE[1]);
    call.status = Status::Error(HOSTILE[0].to_owned());
    call.kind = SpanKind::Client;
    call.add_event(
        "exception",
        START,
        vec![
            ("exception.type".into(), HOSTILE[0].into()),
            ("exception.message".into(), HOSTILE[1].into()),
            ("exception.stacktrace".into(), format!("{}\n{}", HOSTILE[2], HOSTILE[4]).into()),
        ],
    );
    call.add_event(
        "gen_ai.evaluation.result",
        START,
        vec![
            ("gen_ai.evaluation.name".into(), HOSTILE[0].into()),
            ("gen_ai.evaluation.score.value".into(), 0.1.into()),
            ("gen_ai.evaluation.score.label".into(), HOSTILE[1].into()),
            ("gen_ai.evaluation.explanation".into(), HOSTILE[4].into()),
        ],
    );
    let log = LogRecord {
        time_unix_nano: START,
        observed_unix_nano: START,
        severity_number: 9,
        severity_text: HOSTILE[0].to_owned(),
        event_name: HOSTILE[1].into(),
        body: Value::Map(vec![(HOSTILE[0].into(), HOSTILE[4].into())]),
        attributes: vec![(HOSTILE[2].into(), HOSTILE[3].into())],
        dropped_attributes_count: 0,
        flags: 0,
        trace_id: Some(trace_id(1)),
        span_id: Some(span_id(2)),
    };
    (vec![root, call], vec![log])
}

#[tokio::test]
async fn hostile_texts_stay_texts_in_every_view() {
    let (mut spans, logs) = hostile();
    spans.extend(spans.clone().into_iter().map(|mut span| {
        span.trace_id = trace_id(2);
        span.attributes.truncate(3);
        span.set(HOSTILE[0], HOSTILE[1]);
        span
    }));
    let site = Site::with(spans, logs).await;
    let id = trace_id(1);
    for address in [
        "/traces".to_owned(),
        format!("/traces/{id}"),
        format!("/traces/{id}?span={}", span_id(1)),
        format!("/traces/{id}?view=conversation"),
        format!("/traces/{id}?view=critical"),
        format!("/traces/{id}?view=raw"),
        format!("/traces/{id}?q=%3Cscript%3E"),
        format!("/traces/{id}/diff/{}", trace_id(2)),
    ] {
        let text = site.page(&address).await;
        assert!(text.contains("&lt;script&gt;alert(1)"), "{address}: the text is shown");
    }
    let text = site.page(&format!("/traces/{id}")).await;
    assert!(text.contains("Stack trace") && text.contains("▼ "), "the error and the low score are shown");
}

#[tokio::test]
async fn broken_traces_are_drawn_and_marked() {
    let mut spans = vec![
        span(1, 1, Some(3), "first of a cycle", 0, 90),
        span(1, 2, Some(1), "second", 10, 95),
        span(1, 3, Some(2), "third", 5, 20),
        span(1, 4, Some(99), "stray", 1, 2),
        span(1, 5, Some(4), "open", 1, 1),
    ];
    spans[4].end_unix_nano = 0;
    let site = Site::with(spans, Vec::new()).await;
    let text = site.page(&format!("/traces/{}", trace_id(1))).await;
    for word in ["cycle", "orphan", "outlives parent", "early", ">open<"] {
        assert!(text.contains(word), "{word}");
    }
    assert!(text.contains("data-live=\"traces\""), "the missing parent may still come");
}

#[tokio::test]
async fn ids_lead_to_traces_or_say_what_there_is() {
    let mut spans = vec![span(1, 1, None, "one", 0, 10), span(2, 1, None, "two", 0, 10)];
    let mut near = *trace_id(1).as_bytes();
    near[15] = 7;
    spans.push(Span { trace_id: TraceId::from_bytes(near), ..span(1, 1, None, "near", 0, 10) });
    let site = Site::with(spans, Vec::new()).await;
    let (status, _, to) = site.get("/traces/0202?view=raw&q=a%20b").await;
    let whole = format!("/traces/{}?view=raw&q=a%20b", trace_id(2));
    assert_eq!((status, to.as_deref()), (StatusCode::TEMPORARY_REDIRECT, Some(whole.as_str())));
    let (status, text, _) = site.get("/traces/0101").await;
    assert_eq!(status, StatusCode::MULTIPLE_CHOICES);
    assert!(text.contains(&format!("href=\"/traces/{}\"", trace_id(1))), "{text}");
    for (address, wanted, said) in [
        ("/traces/ffff".to_owned(), StatusCode::NOT_FOUND, "ffff"),
        ("/traces/x%3Cy".to_owned(), StatusCode::NOT_FOUND, "x&lt;y"),
        (format!("/traces/{}?span=abcd", trace_id(1)), StatusCode::NOT_FOUND, "has no span `abcd`"),
        (format!("/traces/{}?view=pie", trace_id(1)), StatusCode::BAD_REQUEST, "timeline, conversation, critical, raw"),
        (format!("/traces/{}?format=pdf", trace_id(1)), StatusCode::BAD_REQUEST, "otlp-json"),
        ("/traces?q=nope%20%3D%201".to_owned(), StatusCode::BAD_REQUEST, "unknown field"),
        ("/traces?after=zzz".to_owned(), StatusCode::BAD_REQUEST, "first page"),
        ("/traces?limit=many".to_owned(), StatusCode::BAD_REQUEST, "no number"),
    ] {
        let (status, text, _) = site.get(&address).await;
        assert_eq!(status, wanted, "{address}: {text}");
        assert!(text.contains(said), "{address}: {text}");
    }
    let age = Retention { max_bytes: None, max_age: Some(Duration::from_secs(1)), ..Retention::default() };
    site.writer.prune(&age, START + 10_000_000_000).await.expect("pruned");
    let (status, text, _) = site.get(&format!("/traces/{}", trace_id(1))).await;
    assert_eq!(status, StatusCode::GONE, "{text}");
    assert!(text.contains("2026-11-22"), "{text}");
}

#[tokio::test]
async fn downloads_give_back_what_came_in() {
    let (spans, logs) = hostile();
    let site = Site::with(spans.clone(), logs.clone()).await;
    let (_, json, _) = site.get(&format!("/traces/{}?format=otlp-json", trace_id(1))).await;
    let received = receive_traces(decode_trace_request(json.as_bytes()).expect("OTLP"));
    assert_eq!(received.telemetry.iter().flat_map(|part| part.spans.clone()).collect::<Vec<_>>(), spans);
    let (_, json, _) = site.get(&format!("/traces/{}?format=otlp-json&signal=logs", trace_id(1))).await;
    assert!(json.contains("resourceLogs"), "{json}");
    let (_, json, _) = site.get(&format!("/traces/{}?format=json", trace_id(1))).await;
    let document: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(document["spans"].as_array().map(Vec::len), Some(2));
    let (_, json, _) = site.get(&format!("/traces/{0}/diff/{0}?format=json", trace_id(1))).await;
    let document: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&document["changed"], &document["paired"]), (&0.into(), &2.into()));
}

#[tokio::test]
async fn what_is_searched_is_found_wherever_it_is() {
    let mut spans = vec![span(1, 1, None, "root", 0, 100), span(1, 2, Some(1), "leaf", 10, 20)];
    spans[1].set("note", "the Needle is here");
    let mut log = hostile().1.remove(0);
    log.body = "a hay stack".into();
    log.span_id = Some(span_id(1));
    let site = Site::with(spans, vec![log]).await;
    for (needle, hits) in [
        ("needle", "1 operation holds"),
        ("LEAF", "1 operation holds"),
        ("hay", "1 operation holds"),
        ("nothing", "Nothing holds"),
    ] {
        let text = site.page(&format!("/traces/{}?q={needle}", trace_id(1))).await;
        assert!(text.contains(hits), "{needle}");
    }
}

#[tokio::test]
async fn lists_are_paged_and_keep_their_filter() {
    let spans = (1..=7).map(|n| span(n, 1, None, if n % 2 == 0 { "even" } else { "odd" }, u64::from(n), 50)).collect();
    let site = Site::with(spans, Vec::new()).await;
    let mut address = "/traces?q=root%20%3D%20odd&limit=3".to_owned();
    let mut found = Vec::new();
    for _ in 0..3 {
        let text = site.page(&address).await;
        found.extend((1..=7).filter(|n| text.contains(&format!("/traces/{}\"", trace_id(*n)))));
        let Some((_, after)) = text.split_once("rel=\"next\"") else { break };
        let Some((_, next)) = after.split_once("href=\"") else { break };
        address = next.split('"').next().unwrap_or_default().replace("&amp;", "&");
        assert!(address.contains("q=root"), "{address}");
    }
    assert_eq!(found, [3, 5, 7, 1]);
}

/// The outline of a trace of `n` spans in groups of a hundred, the last of which failed and scored low.
fn large(n: u64) -> TraceSkeleton {
    let spans: Vec<SpanSkeleton> = (0..n)
        .map(|i| {
            let parent = if i == 0 { None } else { Some(if i % 100 == 0 { 0 } else { i - i % 100 }) };
            SpanSkeleton {
                span_id: span_id(i + 1),
                parent_span_id: parent.map(|parent| span_id(parent + 1)),
                name: format!("operation number {i} of a large trace"),
                kind: SpanKind::Client,
                status: if i == n - 1 { 2 } else { 0 },
                start_unix_nano: START + i * 1_000,
                end_unix_nano: START + n * 1_000 - if i % 100 == 0 { 0 } else { (n - i - 1) * 1_000 },
            }
        })
        .collect();
    let score = SpanScore {
        name: "label_match".to_owned(),
        evaluation: Evaluation::assertion(false),
        annotator_kind: None,
        identifier: None,
        evaluator_span: None,
        external: true,
    };
    TraceSkeleton {
        row: TraceRow {
            trace_id: trace_id(1),
            start_unix_nano: START,
            duration_ns: n * 1_000,
            error: true,
            errors: 1,
            operations: n,
            root: "operation number 0".to_owned(),
            service: None,
            scores: BTreeMap::new(),
            tokens: None,
            run_id: None,
            case_ids: Vec::new(),
        },
        spans,
        scores: BTreeMap::from([(span_id(n - 1), vec![score])]),
    }
}

fn scene(skeleton: TraceSkeleton, query: &str) -> Scene {
    let context = PageContext::of(&format!("/traces/{}{query}", trace_id(1)).parse().expect("an address"));
    let none = |_: &str, _: &TraceSkeleton| Ok(std::collections::BTreeSet::new());
    Scene::new(&context, skeleton, Yardstick::default(), BTreeMap::new(), none).expect("a scene")
}

#[tokio::test]
async fn a_sorted_list_says_how_far_back_it_has_looked() {
    let trace = |n: u8, name: &'static str| -> Vec<Span> {
        let at = 10_000 * u64::from(n);
        (1..=1_100).map(|i| span(n, i, (i > 1).then_some(1), if i == 1 { name } else { "step" }, at, at + 1)).collect()
    };
    let site = Site::with(trace(1, "needle"), Vec::new()).await;
    for n in 2..=12 {
        let origin = Arc::new(Origin::default());
        let telemetry = Telemetry { origin, spans: trace(n, "hay"), logs: Vec::new() };
        site.writer.ingest(vec![telemetry]).await.expect("ingested");
    }
    let query = "/traces?q=text+~+%22needle%22";
    let page = site.page(&format!("{query}&sort=-duration")).await;
    assert!(page.contains("No trace since") && page.contains("Newest first, to search further back"), "{page}");
    let request = Request::get(format!("{query}&sort=-duration&format=json")).body(Body::empty()).expect("a request");
    let answer = site.pages.clone().oneshot(request).await.expect("an answer");
    assert!(answer.headers().contains_key("x-searched-until"), "{:?}", answer.headers());
    // Newest first the search goes on behind that.
    assert!(site.page(query).await.contains("Search further back"));
    // What the table itself decides is sorted as a whole.
    let all = site.page("/traces?q=status+%21%3D+error&sort=-duration").await;
    assert!(!all.contains("sorted among those since"), "{all}");
}

/// A trace of three thousand spans, too many for one piece.
async fn site_with_a_large_trace() -> (Site, Vec<Span>) {
    let spans: Vec<Span> =
        (1..=3_000).map(|i| span(1, i, (i > 1).then_some(1), &format!("operation {i}"), i, 4_000)).collect();
    let site = Site::with(spans[..1_000].to_vec(), hostile().1).await;
    for more in spans[1_000..].chunks(1_000) {
        let origin = Arc::new(Origin { scope_name: "later".to_owned(), ..Origin::default() });
        let telemetry = Telemetry { origin, spans: more.to_vec(), logs: Vec::new() };
        site.writer.ingest(vec![telemetry]).await.expect("ingested");
    }
    (site, spans)
}

#[tokio::test]
async fn the_head_of_a_large_trace_is_sent_before_its_spans_are_read() {
    use http_body_util::BodyExt;

    let (site, _) = site_with_a_large_trace().await;
    let id = trace_id(1);
    let request = Request::get(format!("/traces/{id}")).body(Body::empty()).expect("a request");
    let mut body = site.pages.clone().oneshot(request).await.expect("an answer").into_body();
    let first = body.frame().await.expect("a frame").expect("no error").into_data().expect("data");
    let first = String::from_utf8(first.to_vec()).expect("UTF-8");
    let figure = format!("Operations</dt><dd>{}", crate::report::format::count(3_000));
    assert!(first.contains(&figure) && !first.contains("data-row"), "{first}");
    let rest = body.collect().await.expect("the rest").to_bytes();
    let rest = String::from_utf8(rest.to_vec()).expect("UTF-8");
    assert!(rest.contains("data-row") && rest.ends_with("</main></body></html>"), "the page ends elsewhere");
    check_harmless("the large trace", &(first + &rest));
    // What may not exist is looked up before the status goes out.
    let (status, ..) = site.get(&format!("/traces/{id}?span=00000000000fffff")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, ..) = site.get(&format!("/traces/{id}?view=sideways")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let chosen = site.page(&format!("/traces/{id}?span={}", span_id(2_500))).await;
    assert!(chosen.contains("operation 2500"));
}

#[tokio::test]
async fn a_large_trace_that_is_pruned_while_its_page_is_sent_says_so() {
    let (site, _) = site_with_a_large_trace().await;
    let id = trace_id(1).to_string();
    let context = PageContext::of(&format!("/traces/{id}").parse().expect("an address"));
    let address = context.clone();
    let begun = site.app.read(move |reader| super::large::begin(reader, trace_id(1), &address)).await;
    let begun = begun.expect("a head").expect("a large trace");
    let none = Retention { max_bytes: None, max_age: Some(Duration::ZERO), ..Retention::default() };
    site.writer.prune(&none, START + 10 * 1_000_000_000).await.expect("pruned");
    let body = begun.response(Arc::clone(&site.app), id, context).into_body();
    let page = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    let page = String::from_utf8(page.to_vec()).expect("UTF-8");
    assert!(page.contains("role=\"alert\"") && page.ends_with("</main></body></html>"), "{page}");
}

#[tokio::test]
async fn the_download_of_a_large_trace_comes_in_parts_and_is_one_document() {
    let (site, spans) = site_with_a_large_trace().await;
    let (_, json, _) = site.get(&format!("/traces/{}?format=otlp-json", trace_id(1))).await;
    let received = receive_traces(decode_trace_request(json.as_bytes()).expect("OTLP"));
    let mut got: Vec<Span> = received.telemetry.into_iter().flat_map(|part| part.spans).collect();
    got.sort_by_key(|span| span.start_unix_nano);
    assert!(got == spans, "{} spans of {}", got.len(), spans.len());
    let (_, json, _) = site.get(&format!("/traces/{}?format=otlp-json&signal=logs", trace_id(1))).await;
    let document: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(document["resourceLogs"].as_array().map(Vec::len), Some(1), "{json}");
}

#[test]
fn a_very_large_trace_is_a_small_page_that_shows_its_faults() {
    for query in ["", "?page=7", "?span=0000000000001000&view=critical&zoom=0000000000001000"] {
        let html = waterfall::timeline(&scene(large(100_000), query)).into_string();
        assert!(html.len() < 250_000, "{query}: {} bytes", html.len());
        for fault in [99_999, 100_000] {
            assert!(html.contains(&format!("span={}#", span_id(fault))), "{query}: {fault} is in sight");
        }
        assert!(html.contains(&format!("span={}#", span_id(99_901))), "{query}: so is what it belongs to");
        assert!(html.contains("class=\"map\"") && html.contains("Rows "), "{query}");
    }
}

#[test]
fn a_very_deep_trace_is_a_small_page() {
    let mut skeleton = large(10_000);
    for i in 1..10_000 {
        skeleton.spans[i].parent_span_id = Some(span_id(i as u64));
    }
    let html = waterfall::timeline(&scene(skeleton, "")).into_string();
    assert!(html.len() < 250_000, "{} bytes", html.len());
    assert!(html.contains(">9999</span>"), "the depth is told");
}
