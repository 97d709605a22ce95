//! `/`: the latest run, and where to begin while there is none. The document is that of `show latest`.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use maud::{Markup, html};

use super::cache::Cache;
use super::layout::text;
use super::svg::{self, Point};
use super::{Nav, PageContext, PageError, PageResult, health, judged, link, page, parts};
use crate::compare::Comparison;
use crate::model::Direction;
use crate::report::Report;
use crate::report::details::{Details, Past};
use crate::report::format::{self, count};
use crate::report::html::compare as shown;
use crate::serve::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/", get(show))
}

async fn show(State(app): State<Arc<App>>, Extension(cache): Extension<Cache>, mut context: PageContext) -> PageResult {
    "runs traces".clone_into(&mut context.live);
    let as_json = context.wants_json();
    let found = app
        .read(move |reader| {
            let Some(run) = reader.runs()?.into_iter().next() else { return Ok(None) };
            let direction = crate::report::details::direction(&run.spec);
            let comparison = if as_json { None } else { cache.since_previous(reader, &run)? };
            Ok::<_, PageError>(Some((cache.report(reader, &run)?, direction, comparison)))
        })
        .await?;
    let Some((report, direction, comparison)) = found else { return empty(&app, &context) };
    let title = format!("{} (latest run)", report.run.name);
    Ok(context.answer(&*report, &title, Nav::Front, || body(&app, &report, direction, comparison.as_deref())))
}

fn body(app: &App, report: &Report, direction: Direction, comparison: Option<&Comparison>) -> Markup {
    let (run, trials) = (&report.run, &report.trials);
    let empty = Details::default();
    let details = report.details.as_ref().unwrap_or(&empty);
    let lower = direction == Direction::Lower;
    let primary = report.evaluators.0.iter().find(|(id, _)| *id == run.primary).map(|(_, evaluator)| evaluator);
    let missing = trials.planned - trials.completed;
    let passes = |case: &&crate::report::document::LowCase| {
        !lower && case.scores.get(&run.primary).copied().flatten().is_some_and(|x| x >= 1.0)
    };
    let low: Vec<_> = report.lowest.iter().filter(|case| !passes(case)).cloned().collect();
    html! {
        div.head {
            div {
                p.eyebrow { "Latest run" }
                h1 { a href=(link::run(&run.id)) { (text(&run.name)) } " " (parts::run_status(run.status)) }
                p.muted {
                    "Suite " (text(&run.suite)) " · " (text(&run.model)) " (" (run.provider) ") · "
                    (text(&run.dataset.name)) ", " (count(run.dataset.cases)) " cases · started " (parts::time(&run.started_at))
                    " UTC · took " (parts::seconds(run.duration_s))
                }
            }
        }
        (judged::banner(report))
        div.grid {
            section.card.span-5 aria-labelledby="primary" {
                header { h2 #primary { (text(&run.primary)) } span.muted { "primary evaluator" } }
                @match primary {
                    Some(primary) => {
                        p.figure {
                            b { (parts::mean(primary.mean)) }
                            @if primary.ci95.is_some() { span.muted { "95 % interval " (format::interval(primary.ci95)) } }
                        }
                        @if let Some([worst, best]) = primary.bounds.filter(|[worst, best]| worst < best) {
                            p.muted { "Between " (format::statistic(Some(worst))) " and " (format::statistic(Some(best)))
                                " with every missing trial counted as failed or passed." }
                        }
                    }
                    None => p.muted { "No score." },
                }
                @match &details.previous {
                    Some(previous) => {
                        p {
                            @let change = previous.scores.0.iter().find(|(id, _)| *id == run.primary).map(|(_, change)| change);
                            @match comparison.and_then(|comparison| comparison.metrics.iter().find(|metric| metric.name == run.primary)) {
                                Some(metric) => {
                                    (shown::signed(&metric.unit, metric.delta, metric.direction)) " " span.muted { (parts::ends(metric.ci95)) }
                                    " over the same cases"
                                }
                                None => (parts::change(change)),
                            }
                            " against " a href=(link::run(&previous.run_id)) { (text(&previous.name)) } ", the suite's previous run"
                        }
                    }
                    None => p.muted { "The first run of its suite." },
                }
            }
            section.card.span-7 aria-labelledby="history" {
                header { h2 #history { "Last runs of " (text(&run.suite)) } span.muted { (count(details.history.len() as u64)) " runs, oldest first" } }
                (history(&details.history, &run.id, &run.primary))
            }
            section.card.span-12 aria-labelledby="cases" {
                header {
                    h2 #cases { "Cases" }
                    a href=(link::cases(&run.id, "")) { "All cases" }
                }
                dl.figures {
                    div { dt { "Completed" } dd { (count(trials.completed)) small { " of " (count(trials.planned)) } } }
                    @if let Some(previous) = &details.previous {
                        (changed(&run.id, "Regressed", "regressed", previous.cases.regressed, "bad"))
                        (changed(&run.id, "Improved", "improved", previous.cases.improved, "good"))
                    }
                    div {
                        dt { "Missing" }
                        dd {
                            @if missing > 0 { a.bad href=(link::cases(&run.id, "status != completed")) { (count(missing)) } }
                            @else { "0" }
                            @if trials.failed > 0 { small { " " (count(trials.failed)) " failed" } }
                        }
                    }
                    div { dt { "Latency p50 · p95" } dd { (format::milliseconds(report.latency_ms.p50)) " · " (format::milliseconds(report.latency_ms.p95)) } }
                    div { dt { "Tokens in / out" } dd { (parts::tokens(report.tokens.input, report.tokens.output)) } }
                    div { dt { "Cost" } dd { (format::dollars(report.cost_usd)) } }
                }
            }
            section.card.flush.span-12 aria-labelledby="lowest" {
                header {
                    h2 #lowest { "Lowest cases" }
                    span.muted { "failed first, then unparseable, then by " (text(&run.primary)) }
                }
                @if low.is_empty() {
                    p.pager { "No case failed or scored below its best." }
                } @else {
                    (parts::lowest(report, &low))
                }
            }
            section.card.span-12 aria-labelledby="ingest" {
                header { h2 #ingest { "Telemetry" } a href="/health" { "Health" } }
                (health::line(app))
            }
        }
    }
}

fn changed(run: &str, name: &str, change: &str, n: u64, class: &str) -> Markup {
    let cases = link::with_query(&link::path(&["runs", run, "cases"]), [("change", Some(change))]);
    html! {
        div {
            dt { (name) }
            dd { @if n > 0 { a class=(class) href=(cases) { (count(n)) } } @else { "0" } }
        }
    }
}

/// The primary evaluator's mean run by run.
pub(super) fn history(history: &[Past], now: &str, evaluator: &str) -> Markup {
    let points: Vec<Point> = history
        .iter()
        .map(|past| Point {
            label: format!(
                "{} · {} · {evaluator} {}",
                past.name,
                past.started_at.get(..10).unwrap_or_default(),
                parts::mean(past.mean)
            ),
            value: past.mean,
            interval: None,
            href: Some(link::run(&past.run_id)),
            now: past.run_id == now,
        })
        .collect();
    if points.len() < 2 {
        return html! { p.muted { "A line appears here from the second run of the suite on." } };
    }
    let day = |past: Option<&Past>| past.map_or_else(String::new, |past| past.started_at.chars().take(10).collect());
    let (first, last) = (day(history.first()), day(history.last()));
    svg::line(&points, "", [&first, &last], &format!("{evaluator} in the last {} runs", points.len()))
}

/// What to do while there is no run.
fn empty(app: &App, context: &PageContext) -> PageResult {
    if context.wants_json() {
        return Err(PageError::not_found("There is no run in the store yet; `spanscore run` records one."));
    }
    let body = html! {
        div.center {
            p.eyebrow { "Nothing here yet" }
            h1 { "This store holds no runs" }
            p.lead { "A run assesses claims, scores the answers, and ties every score to the trace that explains it. The built-in model needs no key." }
            section {
                h2 { "Record a run" }
                p { "In an empty folder, this writes a suite with an example dataset, and runs it into this store:" }
                (parts::snippet(&format!("spanscore init\nspanscore run --store {}", crate::report::terminal::shell_word(&store_dir(app)))))
            }
            section {
                h2 { "Or send traces" }
                p { "Any OpenTelemetry SDK can send its traces to this server. " a href="/setup" { "Setup" } " shows how, and sends a test span." }
                (health::line(app))
            }
        }
    };
    Ok(page(context, "Start", Nav::Front, body))
}

/// The folder of the store, as commands take it.
fn store_dir(app: &App) -> String {
    app.store.path().parent().unwrap_or(app.store.path()).display().to_string()
}
