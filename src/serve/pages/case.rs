//! `/cases/{dataset}/{id}`: one case, its output in every run, every trace. The document is that of `case`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use maud::{Markup, html};

use super::cases::{Asked, Understood, key_text, parse_key};
use super::layout::{block, text};
use super::svg::{self, Cell};
use super::{Nav, PageContext, PageError, PageResult, link, parts};
use crate::model::{CaseId, RunSpec, SpanId, TraceId};
use crate::report::documents::{self, CaseEntry, CaseHistory};
use crate::report::format;
use crate::serve::App;
use crate::store::rows::{CaseRow, RunRow};
use crate::store::{Place, Reader};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/cases/{dataset}/{case}", get(show))
}

/// The list that the page was opened from, and its neighbours there.
struct Around {
    run: String,
    name: String,
    list: String,
    previous: Option<String>,
    next: Option<String>,
    place: u64,
    matched: u64,
}

struct Shown {
    history: CaseHistory,
    left_out: usize,
    specs: BTreeMap<String, RunSpec>,
    around: Option<Around>,
}

async fn show(
    State(app): State<Arc<App>>,
    Path((dataset, case)): Path<(String, String)>,
    mut context: PageContext,
) -> PageResult {
    "runs".clone_into(&mut context.live);
    let case_id = CaseId::parse(case.as_str())?;
    let (asked, of) = (Asked::of(&context), context.clone());
    let shown = app
        .read(move |reader| {
            let found = documents::find_case(reader, &case_id, Some(&dataset))?;
            let Some(history) = found.history else {
                let known = if found.datasets.is_empty() {
                    "no dataset of this store has one".to_owned()
                } else {
                    format!("it is known in {}", found.datasets.join(", "))
                };
                let message = format!("No run of dataset `{dataset}` has a case `{case}`; {known}.");
                let error = PageError::not_found(message);
                return Err(match found.datasets.first() {
                    Some(other) => error.instead(format!("The case in {other}"), link::case(other, &case_id)),
                    None => error.instead("All runs", "/runs"),
                });
            };
            let runs = reader.runs()?;
            let around = around(reader, &runs, &of, &asked)?;
            let specs = runs.into_iter().map(|run| (run.spec.run_id.to_string(), run.spec)).collect();
            Ok::<_, PageError>(Shown { history, left_out: found.left_out, specs, around })
        })
        .await?;
    let title = format!("Case {}", shown.history.case_id);
    Ok(context.answer(&shown.history, &title, Nav::Runs, || body(&shown)))
}

/// The list of the run that the address names; a list that is gone leads nowhere, which is no error here.
fn around(reader: &Reader, runs: &[RunRow], context: &PageContext, asked: &Asked) -> Result<Option<Around>, PageError> {
    let run = context.parameter("run").and_then(|id| runs.iter().find(|run| run.spec.run_id.as_str() == id));
    let Some((run, key)) = run.zip(context.parameter("at").and_then(parse_key)) else { return Ok(None) };
    let Ok(understood) = Understood::of(asked, reader, run) else { return Ok(None) };
    let after = understood.page(reader, run, Place::After(key), 1)?;
    let before = understood.page(reader, run, Place::Before(key), 1)?;
    let id = run.spec.run_id.to_string();
    let to = |row: &CaseRow| {
        let at = key_text(row.key);
        let from = [("run", Some(id.as_str())), ("at", Some(at.as_str()))].into_iter().chain(asked.parameters());
        link::with_query(&link::case(&run.spec.dataset.name, &row.case_id), from)
    };
    Ok(Some(Around {
        list: link::with_query(&link::path(&["runs", &id, "cases"]), asked.parameters()),
        name: run.spec.name.clone(),
        previous: before.rows.first().map(to),
        next: after.rows.first().map(to),
        place: before.before + before.rows.len() as u64 + 1,
        matched: after.matched,
        run: id,
    }))
}

fn body(shown: &Shown) -> Markup {
    let history = &shown.history;
    html! {
        nav.crumbs aria-label="Where this is" {
            a href="/runs" { "Runs" }
            @if let Some(around) = &shown.around {
                " / " a href=(link::run(&around.run)) { (text(&around.name)) }
                " / " a href=(around.list) { "Cases" }
            } @else { " / dataset " (text(&history.dataset)) }
        }
        div.head {
            div {
                h1 { "Case " span.mono { (text(&history.case_id)) } " " (parts::copy("the case's id", &history.case_id)) }
                p.muted {
                    "of " (text(&history.dataset))
                    @if let Some(group) = &history.group { " · group " (text(group)) }
                }
            }
            @if let Some(around) = &shown.around { (neighbours(around)) }
        }
        @if shown.left_out > 0 {
            p.notice.low { (shown.left_out) " trials of another case of that id (other texts or label) are left out." }
        }
        div.grid {
            section.card.span-8 aria-labelledby="claim" {
                header {
                    h2 #claim { "Claim" }
                }
                p.prose.lead { (block(&history.claim)) }
                h2.gap { "Context" }
                @if history.context.chars().count() > 1500 {
                    details open { summary { (history.context.chars().count()) " characters" } p.prose { (block(&history.context)) } }
                } @else {
                    p.prose { (block(&history.context)) }
                }
            }
            section.card.span-4 aria-labelledby="about" {
                header { h2 #about { "About it" } }
                dl.facts {
                    dt { "Expected" } dd { @match history.expected { Some(label) => span.badge { (label) }, None => (parts::absent()) } }
                    dt { "Dataset" } dd { (text(&history.dataset)) }
                    @if let Some(group) = &history.group { dt { "Group" } dd { (text(group)) } }
                    @for (name, value) in history.runs.first().into_iter().flat_map(|trial| &trial.columns) {
                        dt { (text(name)) } dd { (text(value)) }
                    }
                }
            }
            section.card.flush.span-12 aria-labelledby="runs" {
                header { h2 #runs { "In every run" } span.muted { "the newest first" } }
                div.strip-box { (strip(shown)) }
                (table(shown))
            }
        }
    }
}

fn neighbours(around: &Around) -> Markup {
    html! {
        nav.actions aria-label="Neighbours in the list" {
            span.muted { (format::count(around.place)) " of " (format::count(around.matched)) }
            @match &around.previous {
                Some(href) => a.button rel="prev" data-previous="" href=(href) { "‹ Previous" },
                None => span.button.off aria-disabled="true" { "‹ Previous" },
            }
            @match &around.next {
                Some(href) => a.button rel="next" data-next="" href=(href) { "Next ›" },
                None => span.button.off aria-disabled="true" { "Next ›" },
            }
        }
    }
}

/// The case's trials, the oldest first, as marks.
fn strip(shown: &Shown) -> Markup {
    // More would be too small to tell apart.
    let mut trials: Vec<&CaseEntry> = shown.history.runs.iter().take(60).collect();
    trials.reverse();
    let cells: Vec<Cell> = trials
        .iter()
        .map(|trial| {
            let run = trial.run_id.as_ref().map(ToString::to_string).unwrap_or_default();
            let name = shown.specs.get(&run).map_or(run.as_str(), |spec| spec.name.as_str());
            let (sign, tone, words) = match (trial.status, trial.output, trial.expected) {
                ("completed", Some(output), Some(expected)) if output == expected => ("✓", "good", output.to_owned()),
                ("completed", Some(output), Some(_)) => ("✗", "bad", output.to_owned()),
                ("completed", Some(output), None) => ("•", "mixed", output.to_owned()),
                ("failed", ..) => ("!", "bad", "failed".to_owned()),
                (other, ..) => ("–", "skipped", other.to_owned()),
            };
            let when = trial.started_at.as_deref().and_then(|at| at.get(..10)).unwrap_or_default();
            let href = trial.trace_id.map(|id| link::trace(id, trial.span_id));
            Cell { label: format!("{name}, {when}: {words}"), sign, tone, href }
        })
        .collect();
    svg::strip(&cells, "Its trials, the oldest first")
}

fn table(shown: &Shown) -> Markup {
    let history = &shown.history;
    let mut evaluators: Vec<&str> =
        history.runs.iter().flat_map(|trial| trial.scores.keys()).map(String::as_str).collect();
    evaluators.sort_unstable();
    evaluators.dedup();
    let repeats = history.runs.iter().any(|trial| trial.repeat > 0);
    html! {
        div.scroll.keep.many[evaluators.len() > 2] role="region" aria-label="Trials, table" tabindex="0" {
            table.list data-rows="" {
                thead {
                    tr {
                        th scope="col" { "Run" }
                        th scope="col" { "Started" }
                        th scope="col" { "Model" }
                        @if repeats { th.number scope="col" { "Repeat" } }
                        th scope="col" { "Output" }
                        th scope="col" { "Answer" }
                        @for id in &evaluators { th scope="col" { (id) } }
                        th.number scope="col" { "Latency" }
                        th.number scope="col" { "Tokens" }
                        th scope="col" { "Trace" }
                    }
                }
                tbody { @for trial in &history.runs { (row(shown, trial, &evaluators, repeats)) } }
            }
        }
    }
}

fn row(shown: &Shown, trial: &CaseEntry, evaluators: &[&str], repeats: bool) -> Markup {
    let run = trial.run_id.as_ref().map(ToString::to_string).unwrap_or_default();
    let spec = shown.specs.get(&run);
    let backend = spec.and_then(|spec| elsewhere(spec, trial.trace_id, trial.span_id, trial.started_at.as_deref()));
    html! {
        tr {
            th.nowrap scope="row" { a href=(link::run(&run)) { (text(spec.map_or(run.as_str(), |spec| spec.name.as_str()))) } }
            td.nowrap { @if let Some(at) = &trial.started_at { (parts::time(at)) } }
            td { @match spec { Some(spec) => (text(&spec.model)), None => (parts::absent()) } }
            @if repeats { td.number { (trial.repeat) } }
            td { (parts::output(trial.output, trial.expected, parts::trial_status(trial))) }
            td.text {
                @match (&trial.raw_output, &trial.reason) {
                    (Some(raw), _) => (answer(raw)),
                    (None, Some(reason)) => span.muted { (text(reason)) },
                    (None, None) => (parts::absent()),
                }
            }
            @for id in evaluators {
                td {
                    @let entry = trial.scores.get(*id);
                    (parts::score(entry))
                    @if let Some(why) = entry.and_then(|entry| entry.explanation.as_deref()) { div.muted.why { (text(why)) } }
                }
            }
            td.number { (format::milliseconds(trial.latency_ms)) }
            td.number { (parts::tokens(trial.tokens.input, trial.tokens.output)) }
            td.nowrap {
                @match trial.trace_id {
                    Some(id) => a.mono data-open="" href=(link::trace(id, trial.span_id)) title={ "trace " (id) } { (id.to_string().chars().take(8).collect::<String>()) "…" },
                    None => (parts::absent()),
                }
                @if let Some(url) = backend { " " a href=(url) rel="noreferrer" title="in the trace backend" { "↗" span.visually-hidden { " in the trace backend" } } }
            }
        }
    }
}

/// A short answer as it is; of a long one the beginning, and the rest on demand.
fn answer(raw: &str) -> Markup {
    if raw.chars().count() <= 120 && !raw.trim().contains('\n') {
        return html! { (text(raw)) };
    }
    let head: String = raw.chars().take(100).collect();
    html! { details { summary { (text(&head)) "…" } p.prose { (block(raw)) } } }
}

/// The trial's trace in the user's own backend, if the run names one that a browser can open.
fn elsewhere(spec: &RunSpec, trace: Option<TraceId>, span: Option<SpanId>, started: Option<&str>) -> Option<String> {
    // The run's start is what is known here; backends take it as a hint of where to look.
    let start = started.map_or(0, |_| spec.started_unix_nano);
    crate::report::link::of_span(spec, trace?, span, start)
}
