//! `/traces`: the traces of the store, newest first or sorted, filtered in the query language. The document is that of
//! `traces`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::routing::get;
use maud::{Markup, html};

use super::layout::{self, block, text};
use super::trace::{moment, time};
use super::{Nav, PageContext, PageError, PageResult, link, parts};
use crate::model::{RunId, RunSpec};
use crate::query::{self, QueryError, Schema};
use crate::report::format::{self, count};
use crate::report::low::Yardstick;
use crate::report::text::{cut, named};
use crate::report::trace_documents;
use crate::serve::App;
use crate::store::rows::TraceRow;
use crate::store::{Reader, TraceCursor, TracePage, TraceQuery};

/// Traces on one page.
const PAGE: usize = 50;
/// More than this is not given at once.
const MOST: usize = 500;

/// Queries that show what can be asked.
const EXAMPLES: [(&str, &str); 5] = [
    ("Failed", "error"),
    ("Slow", "duration > 2s"),
    ("Low scores", "score.label_match < 1"),
    ("By model", "attr.\"gen_ai.request.model\" ~ \"gpt\""),
    ("By text", "text ~ \"timeout\""),
];

/// Columns that the list is sorted by on a click, and which way first.
const SORTS: [(&str, &str, bool); 3] =
    [("Start time", "start", true), ("Duration", "duration", true), ("Operations", "operations", true)];

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/traces", get(show))
}

async fn show(State(app): State<Arc<App>>, mut context: PageContext) -> PageResult {
    "traces".clone_into(&mut context.live);
    let query = match understood(&context) {
        Ok(query) => query,
        // The query stays in its field, with the caret under the place.
        Err(error) if !context.wants_json() => {
            let body = frame(&context, Some(&error), &html! {});
            let mut page = layout::page(&context, "Traces", Nav::Traces, body);
            *page.status_mut() = StatusCode::BAD_REQUEST;
            return Ok(page);
        }
        Err(error) => return Err(error.into()),
    };
    let listing = app.read(move |reader| Listing::read(reader, &query)).await?;
    let entries = trace_documents::traces(&listing.page.rows);
    let mut response =
        context.answer(&entries, "Traces", Nav::Traces, || frame(&context, None, &table(&context, &listing)));
    // The document is a list; where it goes on stands beside it (RFC 8288).
    if let Some(next) = listing.page.next.as_ref().map(ToString::to_string) {
        let link = format!("<{}>; rel=\"next\"", context.with(&[("after", Some(next.as_str()))]));
        response.headers_mut().extend(HeaderValue::try_from(link).ok().map(|link| (header::LINK, link)));
    }
    if let Some(until) = listing.page.searched_until {
        let until = HeaderValue::try_from(format::rfc3339(until)).ok();
        response.headers_mut().extend(until.map(|until| (SEARCHED_UNTIL, until)));
    }
    Ok(response)
}

/// Beside a list of traces that were not all looked at: those before this time were not.
const SEARCHED_UNTIL: HeaderName = HeaderName::from_static("x-searched-until");

fn understood(context: &PageContext) -> Result<TraceQuery, Misunderstood> {
    let schema = Schema::traces();
    let limit = match context.parameter("limit") {
        None => PAGE,
        Some(text) => text.parse().map_err(|_| Misunderstood::Parameter(format!("`limit={text}` is no number")))?,
    };
    let after = context.parameter("after").map(str::parse::<TraceCursor>).transpose();
    Ok(TraceQuery {
        filter: context.parameter("q").map(|text| query::parse(text, &schema)).transpose()?,
        sort: context.parameter("sort").map(|text| query::parse_sort(text, &schema)).transpose()?,
        limit: limit.clamp(1, MOST),
        after: after.map_err(|e| Misunderstood::Parameter(e.to_string()))?,
        run: None,
    })
}

/// Why an address makes no sense.
enum Misunderstood {
    Query(QueryError),
    Parameter(String),
}

impl From<QueryError> for Misunderstood {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<Misunderstood> for PageError {
    fn from(error: Misunderstood) -> Self {
        match error {
            Misunderstood::Query(error) => error.into(),
            Misunderstood::Parameter(message) => Self::bad_request(message).instead("All traces", "/traces"),
        }
    }
}

/// A page of the list, with the runs that its traces belong to.
struct Listing {
    page: TracePage,
    runs: BTreeMap<RunId, (RunSpec, Yardstick)>,
}

impl Listing {
    fn read(reader: &Reader, query: &TraceQuery) -> Result<Self, PageError> {
        let page = reader.trace_page(query)?;
        let mut runs = BTreeMap::new();
        for run in page.rows.iter().filter_map(|row| row.run_id.as_ref()) {
            if !runs.contains_key(run) {
                let spec = reader.resolve_run(run.as_str())?.spec;
                let yardstick = Yardstick::of(&spec.evaluators);
                runs.insert(run.clone(), (spec, yardstick));
            }
        }
        Ok(Self { page, runs })
    }
}

fn frame(context: &PageContext, error: Option<&Misunderstood>, list: &Markup) -> Markup {
    let query = context.parameter("q");
    html! {
        div.head { div {
            h1 { "Traces" }
            p.muted { "Of runs and of every application that sends its telemetry here." }
        } }
        form.filter method="get" action="/traces" role="search" {
            div.grow {
                label.visually-hidden for="q" { "Filter" }
                input.query #q type="search" name="q" data-search="" autocomplete="off" spellcheck="false" value=[query]
                    placeholder="Filter, such as  status = error and duration > 2s" aria-invalid=[error.map(|_| "true")] aria-describedby="examples";
            }
            @if let Some(sort) = context.parameter("sort") { input type="hidden" name="sort" value=(sort); }
            button.primary type="submit" { "Filter" }
            @if query.is_some() { a.button href=(context.with(&[("q", None), ("after", None)])) { "Clear" } }
        }
        @match error {
            Some(Misunderstood::Query(error)) => {
                div.problem role="alert" {
                    "The filter cannot be read at column " (error.column) ": " (text(&error.problem.to_string()))
                    pre { (block(&error.excerpt())) }
                }
            }
            Some(Misunderstood::Parameter(message)) => { div.problem role="alert" { (text(message)) } }
            None => {}
        }
        p.examples #examples {
            span.muted { "Try " }
            @for (name, example) in EXAMPLES {
                a.badge href=(link::with_query("/traces", [("q", Some(example)), ("sort", context.parameter("sort"))])) title=(example) { (name) }
                " "
            }
        }
        (list)
    }
}

fn table(context: &PageContext, listing: &Listing) -> Markup {
    let page = &listing.page;
    let filtered = context.parameter("q").is_some();
    if let (true, None, Some(until)) = (page.rows.is_empty(), &page.next, page.searched_until) {
        return html! {
            div.notice { "No trace since " (time(until)) " matches. " (newest_first(context)) }
        };
    }
    if page.rows.is_empty() && page.next.is_none() {
        return html! {
            div.notice {
                @if filtered { "No trace matches. " a href=(context.with(&[("q", None), ("after", None)])) { "Show all" } }
                @else if context.parameter("after").is_some() { "There are no more traces. " a href=(context.with(&[("after", None)])) { "The first page" } }
                @else { "No traces yet. " a href="/setup" { "How to send some here" } ", or " code { "spanscore run" } "." }
            }
        };
    }
    html! {
        div.card.flush {
            div.scroll.many role="region" aria-label="List of traces" tabindex="0" {
                table.list data-rows="" {
                    thead {
                        tr {
                            th scope="col" { "Trace ID" }
                            (sortable(context, SORTS[0], false))
                            (sortable(context, SORTS[1], true))
                            th scope="col" { "Status" }
                            (sortable(context, SORTS[2], true))
                            th scope="col" { "Root" }
                            th scope="col" { "Service" }
                            th scope="col" { "Scores" }
                            th scope="col" { "Run and case" }
                            th.number scope="col" { "Tokens" }
                        }
                    }
                    tbody { @for trace in &page.rows { (row(listing, trace)) } }
                }
            }
            (pager(context, page))
        }
    }
}

fn sortable(context: &PageContext, (title, field, descending_first): (&str, &str, bool), number: bool) -> Markup {
    let sort = context.parameter("sort").unwrap_or("-start");
    let (down, up) = (format!("-{field}"), field.to_owned());
    let current = if sort == down { Some("descending") } else { (sort == up).then_some("ascending") };
    let next = match current {
        Some("descending") => up,
        Some(_) => down,
        None if descending_first => down,
        None => up,
    };
    html! {
        th.number[number] scope="col" aria-sort=[current] {
            a href=(context.with(&[("sort", Some(next.as_str()).filter(|sort| *sort != "-start")), ("after", None)])) {
                (title) @if field == "start" { span.unit { " UTC" } } @match current { Some("descending") => " ▾", Some(_) => " ▴", None => "" }
            }
        }
    }
}

fn row(listing: &Listing, trace: &TraceRow) -> Markup {
    let id = trace.trace_id.to_string();
    let run = trace.run_id.as_ref().and_then(|run| listing.runs.get(run));
    let unknown = Yardstick::default();
    let yardstick = run.map_or(&unknown, |(_, yardstick)| yardstick);
    // The low ones first; the others as far as there is room.
    let mut scores: Vec<(bool, &String, &f64)> =
        trace.scores.iter().map(|(name, mean)| (yardstick.is_low_mean(name, *mean), name, mean)).collect();
    let primary = run.map(|(spec, _)| spec.primary.as_str());
    scores.sort_by_key(|(low, name, _)| (!low, primary != Some(name.as_str())));
    let shown = scores.iter().filter(|(low, ..)| *low).count().clamp(2, 4).min(scores.len());
    html! {
        tr {
            th.id scope="row" { a data-open="" href=(link::path(&["traces", &id])) title=(id) { (id.get(..12).unwrap_or(&id)) "…" } }
            td.nowrap { (moment(trace.start_unix_nano)) }
            td.number { (format::duration(trace.duration_ns)) }
            td.nowrap {
                @if trace.error { span.badge.error { "✗ error" } " " span.muted { (count(trace.errors)) span.visually-hidden { " operations failed" } } }
                @else { span.badge.ok { "✓ ok" } }
            }
            td.number { (count(trace.operations)) }
            td.narrow title=(cut(&trace.root, 400)) { (breakable(&named(&trace.root, 48))) }
            td.narrow { @match &trace.service { Some(service) => (cut(service, 40)), None => (parts::absent()) } }
            td {
                @if trace.scores.is_empty() { (parts::absent()) }
                @for (low, name, mean) in scores.iter().take(shown) {
                    span.badge.low[*low] title=[low.then_some("low")] { @if *low { "▼ " } (cut(name, 32)) " " (format::score(**mean)) } " "
                }
                @if scores.len() > shown {
                    span.muted title=(scores[shown..].iter().map(|(_, name, mean)| format!("{} {}", cut(name, 40), format::score(**mean))).collect::<Vec<_>>().join(", ")) { "+" (scores.len() - shown) }
                }
            }
            td {
                @match (&trace.run_id, run) {
                    (Some(id), Some((spec, _))) => {
                        a href=(link::run(id)) { (cut(&spec.name, 30)) }
                        @if let Some(case) = trace.case_ids.first() {
                            " · " a href=(link::case(&spec.dataset.name, case)) { (cut(case.as_str(), 24)) }
                            @if trace.case_ids.len() > 1 { span.muted title=[(trace.case_ids.len() >= 8).then_some("or more")] { " +" (trace.case_ids.len() - 1) @if trace.case_ids.len() >= 8 { "…" } } }
                        }
                    }
                    _ => (parts::absent()),
                }
            }
            td.number { @match trace.tokens { Some((input, output)) => (parts::tokens(Some(input), Some(output))), None => (parts::absent()) } }
        }
    }
}

/// A name that may be broken behind its joints, rather than anywhere.
fn breakable(name: &str) -> Markup {
    html! { @for part in name.split_inclusive(['_', '.', '/', ':']) { (part) wbr; } }
}

/// The way to traces further back than a sorted list looks.
fn newest_first(context: &PageContext) -> Markup {
    html! { a href=(context.with(&[("sort", None), ("after", None)])) { "Newest first, to search further back" } }
}

fn pager(context: &PageContext, page: &TracePage) -> Markup {
    let sorted = context.parameter("sort").is_some_and(|sort| sort != "-start");
    html! {
        nav.pager aria-label="Pages" {
            span {
                (count(page.rows.len() as u64)) @if page.rows.len() == 1 { " trace" } @else { " traces" }
                @match page.searched_until {
                    Some(until) if sorted => { ", sorted among those since " (time(until)) ". " (newest_first(context)) }
                    Some(until) => { ", searched back to " (time(until)) }
                    None => {}
                }
            }
            @if context.parameter("after").is_some() { a href=(context.with(&[("after", None)])) { "First page" } }
            @if let Some(next) = &page.next {
                @let after = next.to_string();
                a.button rel="next" data-next="" href=(context.with(&[("after", Some(after.as_str()))])) {
                    @if page.searched_until.is_some() && !sorted { "Search further back →" } @else { "Next →" }
                }
            }
        }
    }
}
