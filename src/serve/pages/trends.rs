//! `/trends`: a score over the runs of a suite, with the nights at which its level changed. The document is that of `trend`.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use maud::{Markup, html};

use super::cache::Cache;
use super::layout::text;
use super::{Nav, PageContext, PageError, PageResult, link, parts};
use crate::compare::Verdict;
use crate::compare::nights::{TrendError, TrendOptions};
use crate::compare::trend::{Trend, TrendPoint};
use crate::report::format::count;
use crate::report::html::compare::{metric_name, number};
use crate::report::html::svg::Size;
use crate::report::html::trend::{changes, limit, trend_chart};
use crate::report::html::verdict;
use crate::report::text::cut;
use crate::serve::App;

/// Runs in a trend unless the address asks for another number.
const LAST: usize = 60;
/// The most that may be asked for.
const MOST: usize = 400;
/// Numbers of every run, whatever its evaluators.
const COMMON: [&str; 8] =
    ["accuracy", "macro_f1", "mcc", "kappa", "latency_p50_ms", "latency_p95_ms", "input_tokens", "cost_usd"];

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/trends", get(show))
}

impl From<TrendError> for PageError {
    fn from(error: TrendError) -> Self {
        match error {
            TrendError::Store(error) => error.into(),
            error @ TrendError::UnknownColumn { .. } => Self::bad_request(error.to_string()),
            other => Self::not_found(other.to_string()).instead("Trends", "/trends"),
        }
    }
}

/// What can be asked for.
struct Known {
    suites: Vec<String>,
    scores: Vec<String>,
    columns: Vec<String>,
}

async fn show(State(app): State<Arc<App>>, Extension(cache): Extension<Cache>, mut context: PageContext) -> PageResult {
    "runs".clone_into(&mut context.live);
    let own = |name| context.parameter(name).map(str::to_owned);
    let last = context.parameter("last").and_then(|last| last.parse().ok()).unwrap_or(LAST);
    let options = TrendOptions {
        suite: own("suite"),
        score: own("score"),
        slices: own("by").into_iter().collect(),
        last: last.clamp(1, MOST),
        ..TrendOptions::default()
    };
    let found = app
        .read(move |reader| {
            let runs = reader.runs()?;
            if runs.is_empty() {
                return Ok::<_, PageError>(None);
            }
            let trend = cache.trend(reader, &options)?;
            let mut known = Known { suites: Vec::new(), scores: Vec::new(), columns: Vec::new() };
            for run in &runs {
                if !known.suites.contains(&run.spec.suite) {
                    known.suites.push(run.spec.suite.clone());
                }
                for evaluator in run.spec.evaluators.iter().filter(|_| run.spec.suite == trend.suite) {
                    if !known.scores.contains(&evaluator.id.to_string()) {
                        known.scores.push(evaluator.id.to_string());
                    }
                }
            }
            known.scores.extend(COMMON.map(str::to_owned));
            if let Some(newest) = runs.iter().find(|run| run.spec.suite == trend.suite) {
                known.columns = super::compare::columns(reader, newest)?;
            }
            Ok(Some((trend, known)))
        })
        .await?;
    let Some((trend, known)) = found else {
        let body = html! {
            div.head { div { h1 { "Trends" } } }
            p.notice { "No runs yet: " code { "spanscore run" } " records one. " a href="/" { "How to start" } }
        };
        return Ok(super::page(&context, "Trends", Nav::Trends, body));
    };
    let title = format!("{} of {}", trend.score, trend.suite);
    Ok(context.answer(&*trend, &title, Nav::Trends, || body(&context, &trend, &known)))
}

fn body(context: &PageContext, trend: &Trend, known: &Known) -> Markup {
    let newest = trend.points.last().map_or("", |point| point.run_id.as_str());
    html! {
        div.head {
            div {
                h1 { (metric_name(&trend.score)) span.muted { " of " (text(&trend.suite)) } }
                p.muted { (count(trend.points.len() as u64)) @if trend.points.len() == 1 { " run" } @else { " runs, oldest first" } "; the band is the 95 % interval of each." }
            }
        }
        (chooser(context, trend, known))
        section.card.trend aria-label="The score run by run" {
            (trend_chart(trend, newest, Size::Card, |run| Some(link::run(run))))
            (limit(trend))
            (changes(trend, |run| Some(link::run(run))))
        }
        @if !trend.slices.is_empty() {
            section.card aria-labelledby="slices" {
                header { h2 #slices { "By part of the dataset" } }
                div.tiles {
                    @for slice in &trend.slices {
                        article.tile {
                            h3 { @match slice.slice.as_ref().and_then(|slice| slice.value.as_deref()) { Some(value) => (cut(value, 60)), None => "none" }
                                span.muted { " " (number(&trend.unit, slice.points.last().and_then(|point| point.mean))) } }
                            (trend_chart(slice, newest, Size::Tile, |run| Some(link::run(run))))
                            @if !slice.changes.is_empty() { (changes(slice, |run| Some(link::run(run)))) }
                        }
                    }
                }
                p.muted.gap { "Each part stands alone: among many parts some change by chance." }
            }
        }
        section.card.flush aria-labelledby="runs" {
            header { h2 #runs { "Runs" } span.muted { "the newest first" } }
            (runs(trend))
        }
        details.gap { summary { "The same in the terminal" }
            (parts::snippet(&format!("spanscore trend --suite {} --score {}", crate::report::terminal::shell_word(&trend.suite), crate::report::terminal::shell_word(&trend.score)))) }
    }
}

fn chooser(context: &PageContext, trend: &Trend, known: &Known) -> Markup {
    html! {
        form.filter method="get" action="/trends" {
            @if known.suites.len() > 1 {
                label { span.visually-hidden { "Suite" } select name="suite" aria-label="Suite" {
                    @for suite in &known.suites { option value=(suite) selected[*suite == trend.suite] { (text(suite)) } }
                } }
            }
            label { span.visually-hidden { "Score" } select name="score" aria-label="Score" {
                @for score in &known.scores { option value=(score) selected[*score == trend.score] { (metric_name(score)) } }
            } }
            label { span.visually-hidden { "By part of the dataset" } select name="by" aria-label="By part of the dataset" {
                option value="" { "all cases" }
                @for column in &known.columns {
                    option value=(column) selected[context.parameter("by") == Some(column.as_str())] { "by " (text(column.strip_prefix("col.").unwrap_or(column))) }
                }
            } }
            button.primary type="submit" { "Show" }
        }
    }
}

fn runs(trend: &Trend) -> Markup {
    let unit = trend.unit.as_str();
    html! {
        div.scroll role="region" aria-label="Runs, table" tabindex="0" {
            table.list data-rows="" {
                thead { tr {
                    th scope="col" { "Run" } th scope="col" { "Started" } th.number scope="col" { (metric_name(&trend.score)) } th scope="col" { "95 % interval" }
                    th.number scope="col" { "n" } th scope="col" { "Verdict" } th scope="col" { "Run differently" } th scope="col" { span.visually-hidden { "Compare" } }
                } }
                tbody {
                    @for (i, point) in trend.points.iter().enumerate().rev() { (run(trend, i, point, unit)) }
                }
            }
        }
    }
}

fn run(trend: &Trend, i: usize, point: &TrendPoint, unit: &str) -> Markup {
    let before = i.checked_sub(1).map(|i| trend.points[i].run_id.as_str());
    let changed = trend.changes.iter().any(|change| change.index as usize == i);
    html! {
        tr {
            th scope="row" { a data-open="" href=(link::run(&point.run_id)) { (text(&point.name)) } @if changed { " " span.badge.low { "level changed" } } }
            td.nowrap { (parts::time(&point.started_at)) }
            td.number { (number(unit, point.mean)) }
            td.muted.nowrap { @if let Some([low, high]) = point.ci95 { (number(unit, Some(low))) " … " (number(unit, Some(high))) } }
            td.number { (count(point.n)) }
            td { @match point.verdict.as_deref() { Some(word) => (verdict_badge(word)), None => (parts::absent()) } }
            td {
                @for (j, change) in point.changed.iter().enumerate() { @if j > 0 { ", " } span title=[change.head.as_deref().map(text)] { (text(&change.what)) } }
            }
            td { @if let Some(before) = before { a href=(link::with_query("/compare", [("base", Some(before)), ("head", Some(point.run_id.as_str()))])) { "compare" } } }
        }
    }
}

/// A verdict that is kept as a word.
pub(super) fn verdict_badge(word: &str) -> Markup {
    let all = [Verdict::Pass, Verdict::Fail, Verdict::Inconclusive, Verdict::Invalid];
    match all.into_iter().find(|verdict| verdict.as_str() == word) {
        Some(known) => verdict::badge(known),
        None => html! { span.badge { (text(word)) } },
    }
}
