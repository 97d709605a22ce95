//! `/traces/{id}`: one trace, with the scores on its spans. The document is that of `trace`.
//!
//! [`scene`] is what all views share; [`waterfall`] with [`window`], [`talk`], [`critical`] and [`raw`] are the views;
//! [`span_panel`] shows the selected operation, with [`chat`], [`record`] and [`values`] as its pieces. However large the
//! trace, only its outline and the payload of one span are read.

mod chat;
mod critical;
mod download;
mod large;
mod raw;
mod record;
mod scene;
mod span_panel;
mod talk;
mod values;
mod waterfall;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::{Markup, html};

use super::layout::{self, text};
use super::{Nav, PageContext, PageError, PageResult, link, parts};
use crate::model::{RunSpec, SpanId, TraceId};
use crate::report::format::{self, count};
use crate::report::link::of_span;
use crate::report::low::Yardstick;
use crate::report::text::{cut, named};
use crate::report::trace_documents;
use crate::serve::App;
use crate::store::rows::{SpanDetail, TraceRow, TraceSkeleton};
use crate::store::{Reader, StoreError, TracePart};

use record::Record;
use scene::{Scene, View};
use window::WHOLE;

/// The most spans of a trace that are one document of ours; larger ones are downloaded part by part.
const DOCUMENT: u64 = 20_000;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/traces/{trace}", get(show)).route("/traces/{trace}/next-low", get(go_low))
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>, context: PageContext) -> PageResult {
    let (begun, address) = (id.clone(), context.clone());
    match app.read(move |reader| answer(reader, &begun, &address)).await? {
        Answer::Whole(response) => Ok(response),
        Answer::Begun(begun) => Ok(begun.response(app, id, context)),
        Answer::Parts { parts, logs } => Ok(attachment(&id, logs, download::by_parts(app, parts, logs))),
    }
}

fn attachment(id: &str, logs: bool, json: Body) -> Response {
    let name = format!("attachment; filename=\"{}-{id}.json\"", if logs { "logs" } else { "trace" });
    ([(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_DISPOSITION, name)], json).into_response()
}

/// What is known of an answer after the first look at the store.
enum Answer {
    Whole(Response),
    /// A large trace: its head can be sent, the rest takes a moment.
    Begun(large::Begun),
    /// The download of one, or of its log records.
    Parts {
        parts: Vec<TracePart>,
        logs: bool,
    },
}

/// The trace of an id that may be the beginning of one; where it is not the whole id, where to go instead.
pub(super) fn whole_id(reader: &Reader, id: &str) -> Result<Result<TraceId, Response>, PageError> {
    if let Ok(whole) = id.parse::<TraceId>()
        && whole.to_string() == id
    {
        return Ok(Ok(whole));
    }
    match reader.resolve_trace(id) {
        Ok(whole) => Ok(Ok(whole)),
        Err(StoreError::AmbiguousTrace { wanted, candidates }) => Ok(Err(candidates_page(&wanted, &candidates))),
        Err(e) => Err(e.into()),
    }
}

fn candidates_page(wanted: &str, candidates: &[String]) -> Response {
    let body = html! {
        div.center {
            h1 { "Which trace?" }
            p.lead { "The ids of several traces begin with " code { (text(wanted)) } "." }
            ul { @for id in candidates { li { a.mono data-open="" href=(link::path(&["traces", id])) { (id) } } } }
            p.muted { "Give more of the id, or choose from " a href="/traces" { "all traces" } "." }
        }
    };
    let context = PageContext::of(&axum::http::Uri::from_static("/traces"));
    let mut response = layout::page(&context, "Which trace?", Nav::Traces, body);
    *response.status_mut() = StatusCode::MULTIPLE_CHOICES;
    response
}

fn answer(reader: &Reader, id: &str, context: &PageContext) -> Result<Answer, PageError> {
    let trace_id = match whole_id(reader, id)? {
        Ok(whole) => whole,
        Err(choice) => return Ok(Answer::Whole(choice)),
    };
    let whole = trace_id.to_string();
    if whole != id {
        let address = context.moved(&link::path(&["traces", &whole]));
        return Ok(Answer::Whole(Redirect::temporary(&address).into_response()));
    }
    match context.parameter("format") {
        Some("json") => {
            let operations = reader.trace_row(trace_id)?.operations;
            if operations > DOCUMENT {
                let message = format!(
                    "Trace {whole} has {} operations; as one document at most {} are given. The OTLP JSON has all of them.",
                    count(operations),
                    count(DOCUMENT)
                );
                let download = context.with(&[("format", Some("otlp-json"))]);
                return Err(PageError::bad_request(message).instead("The OTLP JSON", download));
            }
            let detail = reader.trace(&whole)?;
            let only = context.parameter("span").and_then(|span| span.parse::<SpanId>().ok());
            let document = trace_documents::linked(reader, &detail, only)?;
            return Ok(Answer::Whole(layout::json(StatusCode::OK, &document)));
        }
        Some("otlp-json") => {
            let logs = context.parameter("signal") == Some("logs");
            if reader.trace_row(trace_id)?.operations > WHOLE as u64 {
                return Ok(Answer::Parts { parts: reader.trace_parts(trace_id)?.of(logs), logs });
            }
            let json = download::whole(&reader.trace(&whole)?.into_telemetry(), logs);
            return Ok(Answer::Whole(attachment(&whole, logs, json.into())));
        }
        Some(other) if other != "html" => {
            return Err(PageError::bad_request(format!(
                "`{other}` is no format of a trace; the formats are html, json and otlp-json."
            )));
        }
        _ => {}
    }
    if let Some(begun) = large::begin(reader, trace_id, context)? {
        return Ok(Answer::Begun(begun));
    }
    let (scene, spec, rest) = rest(reader, &whole, context)?;
    let subject = Subject::of(&scene.skeleton.row, spec.as_ref(), &scene.yardstick);
    let body = html! { (head(context, &subject, scene.selected.map(|at| scene.span(at).span_id))) (rest) };
    Ok(Answer::Whole(layout::page(context, &title(&whole), Nav::Traces, body)))
}

fn title(id: &str) -> String {
    format!("Trace {id}")
}

/// The run of a trace, if it is of one.
fn spec_of(reader: &Reader, row: &TraceRow) -> Result<Option<RunSpec>, PageError> {
    row.run_id.as_ref().map(|run| Ok(reader.resolve_run(run.as_str())?.spec)).transpose()
}

fn yardstick_of(spec: Option<&RunSpec>) -> Yardstick {
    spec.map(|spec| Yardstick::of(&spec.evaluators)).unwrap_or_default()
}

/// All that stands below the head.
fn rest(reader: &Reader, id: &str, context: &PageContext) -> Result<(Scene, Option<RunSpec>, Markup), PageError> {
    let skeleton = reader.trace_skeleton(id)?;
    let trace_id = skeleton.row.trace_id;
    let spec = spec_of(reader, &skeleton.row)?;
    let yardstick = yardstick_of(spec.as_ref());
    // Telemetry of other applications has no trials.
    let cases = if spec.is_some() { reader.cases_by_span(trace_id)? } else { BTreeMap::new() };
    let mut scene =
        Scene::new(context, skeleton, yardstick, cases, |needle, skeleton| search(reader, needle, skeleton))?;
    scene.primary = spec.as_ref().map(|spec| spec.primary.to_string());
    let detail = match scene.selected {
        Some(position) => Some(reader.span(trace_id, scene.span(position).span_id)?),
        None => None,
    };
    let record = match (&spec, &detail, scene.selected) {
        (Some(spec), Some(detail), Some(position)) => {
            Record::find(reader, spec, &scene.skeleton, &scene.tree, position, detail)?
        }
        _ => None,
    };
    let main = match (scene.view, &detail) {
        (View::Timeline, _) => waterfall::timeline(&scene),
        (View::Critical, _) => critical::view(&scene),
        (View::Conversation, _) if scene.skeleton.row.operations <= WHOLE as u64 => {
            talk::view(&scene, &talk::Source::Whole(Box::new(reader.trace(id)?)))
        }
        (View::Conversation, Some(detail)) => talk::view(&scene, &talk::Source::One(Box::new(detail.clone()))),
        (View::Raw, Some(detail)) => raw::view(&scene, detail),
        (View::Conversation | View::Raw, None) => html! { p.notice { "The trace has no operations." } },
    };
    let body = body(&scene, detail.as_ref(), record.as_ref(), &main);
    Ok((scene, spec, body))
}

/// The spans that hold a text anywhere, and the one whose id it is.
fn search(reader: &Reader, needle: &str, skeleton: &TraceSkeleton) -> Result<BTreeSet<SpanId>, PageError> {
    let mut found = reader.search_spans(skeleton.row.trace_id, needle)?;
    found.extend(needle.to_lowercase().parse::<SpanId>().ok());
    Ok(found)
}

fn body(scene: &Scene, detail: Option<&SpanDetail>, record: Option<&Record>, main: &Markup) -> Markup {
    // Conversations and raw data want the width; the other views leave it to the selected operation.
    let beside = matches!(scene.view, View::Timeline | View::Critical);
    html! {
        (tools(scene))
        div.split.wide[!beside] data-live=[scene.is_unfinished().then_some("traces")] {
            section.card.flush[scene.view == View::Timeline] #trace-view aria-label=(scene.view.title()) { (main) }
            @if let (true, Some(detail), Some(position)) = (beside, detail, scene.selected) {
                aside.card.panel #panel aria-label="Selected operation" tabindex="-1" {
                    (span_panel::panel(scene, position, detail, record))
                }
            }
        }
    }
}

/// Whose head it is.
struct Subject<'a> {
    row: &'a TraceRow,
    spec: Option<&'a RunSpec>,
    yardstick: &'a Yardstick,
}

impl<'a> Subject<'a> {
    const fn of(row: &'a TraceRow, spec: Option<&'a RunSpec>, yardstick: &'a Yardstick) -> Self {
        Self { row, spec, yardstick }
    }
}

/// Where the trace belongs and the facts of its row; `span` is the selected one.
fn head(context: &PageContext, subject: &Subject<'_>, span: Option<SpanId>) -> Markup {
    let Subject { row, spec, yardstick } = *subject;
    let id = row.trace_id.to_string();
    let backend = spec.and_then(|spec| of_span(spec, row.trace_id, span, row.start_unix_nano));
    html! {
        nav.crumbs aria-label="Where this is" {
            @match spec {
                Some(spec) => {
                    a href="/runs" { "Runs" } " / " a href=(link::run(&spec.run_id)) { (text(&spec.name)) }
                    " / " a href=(link::with_query("/traces", [("q", Some(format!("run = {}", spec.run_id).as_str()))])) { "Traces" }
                }
                None => { a href="/traces" { "Traces" } }
            }
        }
        div.head {
            div {
                h1 { (named(&row.root, 160)) }
                p.muted {
                    @if let Some(service) = &row.service { "by " (cut(service, 80)) }
                    @if let (Some(spec), false) = (spec, row.case_ids.is_empty()) {
                        " · " @if row.case_ids.len() == 1 { "case " } @else { "cases " }
                        @for (i, case) in row.case_ids.iter().enumerate() {
                            @if i > 0 { ", " }
                            a href=(link::case(&spec.dataset.name, case)) { (text(case.as_str())) }
                        }
                        @if row.case_ids.len() >= 8 { " …" }
                    }
                }
                @if !row.scores.is_empty() {
                    ul.tags aria-label="Means of the scores" {
                        @for (name, mean) in &row.scores {
                            @let low = yardstick.is_low_mean(name, *mean);
                            li { span.badge.low[low] { @if low { "▼ " } (cut(name, 60)) " " (format::score(*mean)) } }
                        }
                    }
                }
            }
            div.actions {
                (super::trace_diff::form(&id))
                @if let Some(url) = backend { a.button.small href=(url) rel="noreferrer" { "In the trace backend ↗" } }
                a.button.small href=(context.with(&[("format", Some("otlp-json")), ("view", None), ("q", None), ("fold", None), ("page", None), ("zoom", None), ("span", None)])) download { "OTLP JSON" }
            }
        }
        dl.figures.five {
            div { dt { "Trace ID" } dd.id { code { (id) } " " (parts::copy("the trace id", &id)) } }
            div { dt { "Start time" } dd { (time(row.start_unix_nano)) } }
            div { dt { "Duration" } dd { (format::duration(row.duration_ns)) } }
            div { dt { "Status" } dd {
                @if row.error { span.badge.error { "✗ error" } " " small { (count(row.errors)) @if row.errors == 1 { " operation" } @else { " operations" } } }
                @else { span.badge.ok { "✓ ok" } }
            } }
            div { dt { "Operations" } dd { (count(row.operations)) } }
            @if let Some((input, output)) = row.tokens { div { dt { "Tokens in / out" } dd { (parts::tokens(Some(input), Some(output))) } } }
        }
    }
}

/// A time to the millisecond, whole as its title.
pub(super) fn time(unix_nano: u64) -> Markup {
    let whole = format::rfc3339(unix_nano);
    let shown = whole.replace('T', " ");
    html! { time datetime=(whole) title=(whole) { (shown.get(..23).unwrap_or(&shown)) " UTC" } }
}

/// The same without its zone, for columns that say it in their heads.
pub(super) fn moment(unix_nano: u64) -> Markup {
    let whole = format::rfc3339(unix_nano);
    let shown = whole.replace('T', " ");
    html! { time datetime=(whole) title=(whole) { (shown.get(..23).unwrap_or(&shown)) } }
}

/// Views, search, and the ways to the next error and the next low score.
fn tools(scene: &Scene) -> Markup {
    html! {
        div.trace-tools {
            nav.tabs aria-label="Views" {
                @for view in View::ALL {
                    @let word = (view != View::Timeline).then(|| view.word());
                    a href=(scene.context.with(&[("view", word), ("page", None)])) aria-current=[(view == scene.view).then_some("page")] { (view.title()) }
                }
            }
            form.find method="get" action=(scene.context.path()) role="search" {
                @for name in ["view", "span", "fold", "zoom"] {
                    @if let Some(value) = scene.context.parameter(name) { input type="hidden" name=(name) value=(value); }
                }
                label.visually-hidden for="find" { "Search in this trace" }
                input #find type="search" name="q" data-search="" placeholder="Search in this trace" value=[scene.needle.as_deref()];
                button.small type="submit" { "Find" }
            }
            (found(scene))
            (jumps(scene))
        }
    }
}

fn found(scene: &Scene) -> Markup {
    let Some(needle) = &scene.needle else { return Markup::default() };
    html! {
        p.found role="status" {
            @if scene.hits.is_empty() { "Nothing holds “" (cut(needle, 60)) "”. " }
            @else {
                (count(scene.hits.len() as u64)) @if scene.hits.len() == 1 { " operation holds “" } @else { " operations hold “" } (cut(needle, 60)) "” "
                @if let Some(at) = scene.previous_of(&scene.hits) { a.button.small href=(scene.at(at)) { "‹ Previous" } }
                @if let Some(at) = scene.next_of(&scene.hits) { " " a.button.small href=(scene.at(at)) { "Next ›" } }
            }
            " " a href=(scene.context.with(&[("q", None)])) { "Clear" }
        }
    }
}

fn jumps(scene: &Scene) -> Markup {
    let errors = scene.errors.len() as u64;
    html! {
        div.jumps {
            @if errors > 0 {
                @match scene.next_of(&scene.errors) {
                    Some(at) => a.button.small data-next-error="" data-error="" data-jump="" href=(scene.at(at)) { "Next error (" (count(errors)) ")" },
                    None => span.muted { "the only error is selected" },
                }
            }
            @if let Some(href) = next_low(scene) {
                a.button.small data-next-low="" data-low="" data-jump="" href=(href) {
                    "Next low score" @if !scene.lows.is_empty() { " (" (count(scene.lows.len() as u64)) " here)" }
                }
            }
        }
    }
}

/// Where the next low score is. In a run that is the next worse trial, whatever its trace; it is looked for on the way there,
/// for it takes a walk over the run.
fn next_low(scene: &Scene) -> Option<String> {
    let row = &scene.skeleton.row;
    let mine = |at: usize| scene.span(at).span_id;
    let selected = scene.selected?;
    let away = |span: Option<SpanId>| {
        let span = span.map(|span| span.to_string());
        link::with_query(&link::path(&["traces", &row.trace_id.to_string(), "next-low"]), [("span", span.as_deref())])
    };
    if row.run_id.is_some() {
        let trial = std::iter::once(selected)
            .chain(scene.tree.ancestors(selected).take(64))
            .find(|&at| scene.cases.contains_key(&mine(at)));
        return Some(match (trial, scene.lows.first()) {
            (Some(trial), _) => away(Some(mine(trial))),
            (None, Some(&low)) => scene.at(low),
            (None, None) => away(None),
        });
    }
    match scene.lows.iter().find(|&&at| at > selected) {
        Some(&at) => Some(scene.at(at)),
        None if row.scores.is_empty() => None,
        None => Some(away(None)),
    }
}

/// The way to the next low score.
async fn go_low(State(app): State<Arc<App>>, Path(id): Path<String>, context: PageContext) -> PageResult {
    app.read(move |reader| {
        let trace_id: TraceId = id.parse().map_err(|_| PageError::not_found(format!("`{id}` is no trace id.")))?;
        let span = context.parameter("span").map(str::parse::<SpanId>).transpose()?;
        let Some(low) = reader.next_low_score(trace_id, span, None)? else {
            let here = link::trace(trace_id, span);
            let body = html! {
                div.center {
                    h1 { "That was the last low score" }
                    p.lead { "No worse or equally bad one follows." }
                    p.actions { a.button href=(here) { "Back to the trace" } a.button href="/traces" { "All traces" } }
                }
            };
            return Ok(layout::page(&context, "The last low score", Nav::Traces, body));
        };
        Ok::<_, PageError>(Redirect::temporary(&link::trace(low.trace_id, low.span_id)).into_response())
    })
    .await
}

#[cfg(test)]
mod tests;
