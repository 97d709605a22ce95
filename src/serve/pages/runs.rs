//! `/runs`: all runs, the newest first. The document is that of `runs`.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use maud::{Markup, html};

use super::cache::Cache;
use super::layout::text;
use super::{Nav, PageContext, PageError, PageResult, link, parts, trends};
use crate::report::documents::RunEntry;
use crate::report::format::{self, count};
use crate::serve::App;

/// Runs on a page.
const PAGE: usize = 50;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/runs", get(list))
}

struct Listed {
    entries: Vec<RunEntry>,
    total: usize,
    next: Option<String>,
    first: bool,
}

async fn list(State(app): State<Arc<App>>, Extension(cache): Extension<Cache>, mut context: PageContext) -> PageResult {
    "runs".clone_into(&mut context.live);
    let after = context.parameter("after").map(str::to_owned);
    let suite = context.parameter("suite").map(str::to_owned);
    let listed = app
        .read(move |reader| {
            let mut runs = reader.runs()?;
            if let Some(suite) = &suite {
                runs.retain(|run| run.spec.suite == *suite);
            }
            let total = runs.len();
            let from = match &after {
                Some(after) => runs.iter().position(|run| run.spec.run_id.as_str() == after).map(|at| at + 1),
                None => Some(0),
            };
            let from = from.ok_or_else(|| {
                PageError::not_found("The run at which this page begins is gone.").instead("All runs", "/runs")
            })?;
            let shown = &runs[from..(from + PAGE).min(total)];
            let verdicts = reader.verdicts()?;
            let entries = shown
                .iter()
                .map(|run| {
                    let entry = RunEntry::of(run, reader.is_live(&run.spec.run_id), &*cache.brief(reader, run)?);
                    Ok(RunEntry { verdict: verdicts.get(&run.number).cloned(), ..entry })
                })
                .collect::<Result<Vec<_>, PageError>>()?;
            let next = entries.last().filter(|_| from + PAGE < total).map(|entry| entry.id.clone());
            Ok::<_, PageError>(Listed { entries, total, next, first: from == 0 })
        })
        .await?;
    Ok(context.answer(&listed.entries, "Runs", Nav::Runs, || body(&context, &listed)))
}

fn body(context: &PageContext, listed: &Listed) -> Markup {
    let suite = context.parameter("suite");
    html! {
        div.head {
            div {
                h1 { "Runs" }
                p.muted {
                    (count(listed.total as u64)) @if listed.total == 1 { " run" } @else { " runs" }
                    @if let Some(suite) = suite { " of suite " (text(suite)) " · " a href="/runs" { "all suites" } }
                    ", the newest first. Times are UTC; means stand with their 95 % interval."
                }
            }
        }
        div.card.flush {
            @if listed.entries.is_empty() {
                p.pager { "No runs yet: " code { "spanscore run" } " records one. " a href="/" { "How to start" } }
            } @else {
                (table(listed))
                @if !listed.first || listed.next.is_some() {
                nav.pager aria-label="Pages" {
                    @if !listed.first { a href=(context.with(&[("after", None)])) { "« Newest" } }
                    @if let Some(next) = &listed.next { a rel="next" data-next="" href=(context.with(&[("after", Some(next))])) { "Older ›" } }
                } }
            }
        }
    }
}

fn table(listed: &Listed) -> Markup {
    html! {
        div.scroll.many role="region" aria-label="Runs, table" tabindex="0" {
            table.list data-rows="" {
                thead {
                    tr {
                        th scope="col" { "Run" }
                        th scope="col" { "Status" }
                        th scope="col" { "Verdict" }
                        th scope="col" { "Started" }
                        th.number scope="col" { "Took" }
                        th scope="col" { "Suite" }
                        th scope="col" { "Model" }
                        th.number scope="col" { "Cases" }
                        th scope="col" { "Scores" }
                        th.number scope="col" { "Errors" }
                        th.number scope="col" { "Tokens in / out" }
                        th.number scope="col" { "Cost" }
                    }
                }
                tbody { @for entry in &listed.entries { (row(entry)) } }
            }
        }
    }
}

fn row(run: &RunEntry) -> Markup {
    html! {
        tr {
            th scope="row" {
                a data-open="" href=(link::run(&run.id)) { (text(&run.name)) }
                div.muted { span.id { (run.id) } }
                @if !run.tags.is_empty() {
                    ul.tags { @for (key, value) in &run.tags { li.badge { (text(key)) "=" (text(value)) } } }
                }
            }
            td { (parts::run_status(run.status)) }
            td { @match &run.verdict { Some(verdict) => a href=(link::run(&run.id)) { (trends::verdict_badge(verdict)) }, None => (parts::absent()) } }
            td.nowrap { (parts::time(&run.started_at)) }
            td.number { (parts::seconds(run.duration_s)) }
            td { a href=(link::with_query("/runs", [("suite", Some(run.suite.as_str()))])) { (text(&run.suite)) } }
            td { (text(&run.model)) div.muted { (text(&run.provider)) } }
            td.number {
                (count(run.trials.completed)) span.muted { "/" (count(run.trials.planned)) }
            }
            td {
                table.plain {
                    tbody {
                        @for (id, score) in &run.scores.0 {
                            tr {
                                th scope="row" { (id) }
                                td.number {
                                    @match score.mean { Some(_) => (parts::mean(score.mean)), None => (parts::absent()) }
                                }
                                td.muted { @if score.ci95.is_some() { (parts::ends(score.ci95)) } }
                            }
                        }
                    }
                }
            }
            td.number {
                @if run.trials.failed > 0 {
                    a.bad href=(link::cases(&run.id, "status = failed")) { (count(run.trials.failed)) }
                } @else { "0" }
            }
            td.number { (parts::tokens(run.tokens.input, run.tokens.output)) }
            td.number { (format::dollars(run.cost_usd)) }
        }
    }
}
