//! `/runs/{r}`: one run. The document is that of `show RUN`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use axum::{Extension, Router};
use maud::{Markup, html};

use super::cache::Cache;
use super::layout::text;
use super::svg::{self, Column};
use super::{Nav, PageContext, PageError, PageResult, front, judged, link, parts};
use crate::compare::Comparison;
use crate::query::Field;
use crate::report::Report;
use crate::report::details::{Details, Previous};
use crate::report::distribution::{Histogram, Slices, equals};
use crate::report::document::Evaluator;
use crate::report::format::{self, count};
use crate::report::html::{agreement, compare as shown, confusion};
use crate::serve::App;
use crate::stats::Estimate;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/runs/{run}", get(show))
}

async fn show(
    State(app): State<Arc<App>>,
    Extension(cache): Extension<Cache>,
    Path(wanted): Path<String>,
    mut context: PageContext,
) -> PageResult {
    let asked = wanted.clone();
    let as_json = context.wants_json();
    let (report, comparison) = app
        .read(move |reader| {
            let run = reader.resolve_run(&wanted)?;
            let comparison = if as_json { None } else { cache.since_previous(reader, &run)? };
            Ok::<_, PageError>((cache.report(reader, &run)?, comparison))
        })
        .await?;
    // `latest`, names and prefixes lead to the address that stays.
    if asked != report.run.id && !context.wants_json() {
        return Ok(Redirect::to(&link::run(&report.run.id)).into_response());
    }
    context.live = format!("run:{}", report.run.id);
    let title = report.run.name.clone();
    Ok(context.answer(&*report, &title, Nav::Runs, || body(&report, comparison.as_deref())))
}

fn body(report: &Report, comparison: Option<&Comparison>) -> Markup {
    let run = &report.run;
    let none = Details::default();
    let details = report.details.as_ref().unwrap_or(&none);
    html! {
        nav.crumbs aria-label="Where this is" { a href="/runs" { "Runs" } " / " (text(&run.suite)) }
        div.head {
            div {
                h1 { (text(&run.name)) " " (parts::run_status(run.status)) }
                p.muted { span.mono { (run.id) } " " (parts::copy("the run's id", &run.id)) }
            }
            p.actions { a.button.primary href=(link::cases(&run.id, "")) { "Cases" } }
        }
        (judged::whole(report))
        div.grid {
            (what_was_run(report))
            (since_previous(report, details.previous.as_ref(), comparison))
            (confusion(report))
            (agreement::agreement(&report.metrics))
            (evaluators(report, details))
            @if !details.slices.is_empty() { (slices(report, &details.slices)) }
            @if !report.errors.is_empty() { (errors(report)) }
            (resources(report))
            section.card.flush.span-12 aria-labelledby="lowest" {
                header {
                    h2 #lowest { "Lowest cases" }
                    span.muted { "failed first, then unparseable, then by " (run.primary) }
                }
                (parts::lowest(report, &report.lowest))
            }
        }
    }
}

fn what_was_run(report: &Report) -> Markup {
    let (run, trials) = (&report.run, &report.trials);
    html! {
        section.card.span-6 aria-labelledby="what" {
            header { h2 #what { "What was run" } }
            dl.facts {
                dt { "Suite" } dd { a href=(link::with_query("/runs", [("suite", Some(run.suite.as_str()))])) { (text(&run.suite)) } " · " (text(&run.workflow)) }
                dt { "Model" } dd { (text(&run.model)) " (" (run.provider) ")" }
                dt { "Dataset" }
                dd {
                    (text(&run.dataset.name)) " · " (count(run.dataset.cases)) " cases"
                    @if run.dataset.unlabelled > 0 { ", " (count(run.dataset.unlabelled)) " without a label" }
                    " · " span.mono title=(run.dataset.digest) { (short(&run.dataset.digest)) }
                }
                dt { "Prompt" } dd { span.mono title=(run.prompt_digest) { (short(&run.prompt_digest)) } }
                dt { "Trials" }
                dd {
                    (count(trials.completed)) " of " (count(trials.planned)) " completed"
                    @if run.repeat > 1 { " (" (run.repeat) " repeats of each case)" }
                    @if trials.failed > 0 { ", " a.bad href=(link::cases(&run.id, "status = failed")) { (count(trials.failed)) " failed" } }
                    @if trials.skipped > 0 { ", " a href=(link::cases(&run.id, "status = skipped")) { (count(trials.skipped)) " skipped" } }
                    @if trials.unrecorded() > 0 { ", " a href=(link::cases(&run.id, "status = planned")) { (count(trials.unrecorded())) " without an outcome" } }
                }
                dt { "Started" } dd { (parts::time(&run.started_at)) " UTC, took " (parts::seconds(run.duration_s)) }
                dt { "Git" }
                dd {
                    @match &run.git {
                        Some(git) => { span.mono title=(text(&git.revision)) { (text(&short(&git.revision))) } @if git.dirty { " with uncommitted changes" } },
                        None => (parts::absent()),
                    }
                }
                @if !report.tags.is_empty() {
                    dt { "Tags" }
                    dd { ul.tags { @for (key, value) in &report.tags { li.badge { (text(key)) "=" (text(value)) } } } }
                }
            }
            details {
                summary { "The same in the terminal" }
                (parts::snippet(&format!("spanscore show {0}\nspanscore cases {0}\nspanscore verify {0}", run.id)))
            }
        }
    }
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

fn since_previous(report: &Report, previous: Option<&Previous>, comparison: Option<&Comparison>) -> Markup {
    let run = &report.run;
    html! {
        section.card.span-6 aria-labelledby="since" {
            header {
                h2 #since { "Since the suite's previous run" }
                @if let Some(previous) = previous {
                    span {
                        a href=(link::run(&previous.run_id)) { (text(&previous.name)) } " · "
                        a href=(link::with_query("/compare", [("base", Some(previous.run_id.as_str())), ("head", Some(run.id.as_str()))])) { "compare with intervals" }
                    }
                }
            }
            @if let Some(previous) = previous {
                dl.figures {
                    @for (name, change, n, class) in [
                        ("Regressed", "regressed", previous.cases.regressed, "bad"),
                        ("Improved", "improved", previous.cases.improved, "good"),
                        ("Unchanged", "unchanged", previous.cases.unchanged, ""),
                        ("Lost its score", "lost", previous.cases.lost, "bad"),
                    ] {
                        div {
                            dt { (name) }
                            dd {
                                @if n > 0 { a class=(class) href=(link::with_query(&link::path(&["runs", &run.id, "cases"]), [("change", Some(change))])) { (count(n)) } }
                                @else { "0" }
                            }
                        }
                    }
                }
                p.muted {
                    "Cases with the same texts and label, by " (run.primary) "."
                    @if previous.cases.added > 0 { " " (count(previous.cases.added)) " cases are only in this run." }
                    @if previous.cases.removed > 0 { " " (count(previous.cases.removed)) " cases are only in the previous one." }
                }
                @match comparison {
                    Some(comparison) => (shown::in_short(comparison)),
                    None => (means(previous)),
                }
                h3.gap { "Run differently" }
                @if previous.changed.is_empty() {
                    p.muted { "Nothing: dataset, prompt, model, parameters, evaluators and git revision are the same." }
                } @else {
                    dl.facts {
                        @for change in &previous.changed {
                            dt { (text(&change.what)) }
                            dd {
                                @match &change.before { Some(before) => del { (text(before)) }, None => span.muted { "none" } }
                                span aria-hidden="true" { " → " } span.visually-hidden { " became " }
                                @match &change.after { Some(after) => ins { (text(after)) }, None => span.muted { "none" } }
                            }
                        }
                    }
                }
            } @else {
                p.muted { "This is the first run of its suite. From the second on, this says what was run differently and which cases became better or worse." }
            }
        }
    }
}

/// Means of both runs, where they were not compared case by case.
fn means(previous: &Previous) -> Markup {
    html! {
        table.plain {
            caption.visually-hidden { "Means in both runs" }
            thead { tr { th scope="col" { "Evaluator" } th.number scope="col" { "Then" } th.number scope="col" { "Now" } th.number scope="col" { "Difference" } } }
            tbody {
                @for (id, change) in &previous.scores.0 {
                    tr {
                        th scope="row" { (id) }
                        td.number { (parts::mean(change.before)) }
                        td.number { (parts::mean(change.after)) }
                        td.number { (parts::change(Some(change))) }
                    }
                }
            }
        }
    }
}

/// Counts by expected label and answer; each leads to its cases.
fn confusion(report: &Report) -> Markup {
    let cases = |expected: &str, predicted: &str| {
        let column = match predicted {
            "failed" => "status = failed".to_owned(),
            predicted => format!("output = {predicted}"),
        };
        Some(link::cases(&report.run.id, &format!("expected = {expected} and {column}")))
    };
    html! {
        section.card.span-6 aria-labelledby="confusion" {
            header { h2 #confusion { "Confusion" } span.muted { "rows expected, columns answered; each count leads to its cases" } }
            (confusion::confusion(&report.metrics, cases))
            table.plain.gap {
                caption.visually-hidden { "Each label" }
                thead { tr { th scope="col" { "Label" } th scope="col" { "Precision" } th scope="col" { "Recall" } th scope="col" { "F1" } th.number scope="col" { "Support" } } }
                tbody {
                    @for (label, class) in &report.metrics.per_class.0 {
                        tr {
                            th scope="row" { (label) }
                            td { (estimate(&class.precision)) }
                            td { (estimate(&class.recall)) }
                            td { (estimate(&class.f1)) }
                            td.number { (count(class.support)) }
                        }
                    }
                }
            }
        }
    }
}

fn estimate(estimate: &Estimate) -> Markup {
    html! {
        (format::statistic(estimate.value))
        @if estimate.ci95.is_some() { " " span.muted { (format::interval(estimate.ci95)) } }
    }
}

fn evaluators(report: &Report, details: &Details) -> Markup {
    html! {
        section.card.span-12 aria-labelledby="evaluators" {
            header { h2 #evaluators { "Evaluators" } }
            div.tiles {
                @for (id, evaluator) in &report.evaluators.0 {
                    @let histogram = details.histograms.0.iter().find(|(of, _)| of == id).map(|(_, histogram)| histogram);
                    (tile(report, id, evaluator, histogram))
                }
            }
            @if details.history.len() > 1 {
                h3.gap { (report.run.primary) " in the suite's runs up to this one" }
                (front::history(&details.history, &report.run.id, &report.run.primary))
                p.gap { a href=(link::with_query("/trends", [("suite", Some(report.run.suite.as_str()))])) { "All scores and where they changed" } }
            }
        }
    }
}

fn tile(report: &Report, id: &str, evaluator: &Evaluator, histogram: Option<&Histogram>) -> Markup {
    let run = &report.run.id;
    html! {
        article.tile {
            h3 { (id) " " span.muted { "v" (text(&evaluator.version)) " · " (evaluator.kind) @if id == report.run.primary { " · primary" } } }
            p.figure {
                b { (parts::mean(evaluator.mean)) }
                span.muted { @if evaluator.ci95.is_some() { (parts::ends(evaluator.ci95)) } @else { (text(&evaluator.method)) } }
            }
            @match histogram {
                Some(histogram) if !histogram.bins.is_empty() => (bars(run, id, histogram)),
                Some(histogram) => (labels(run, id, histogram)),
                None => {},
            }
            p.muted {
                (count(evaluator.scored)) " scored"
                @if evaluator.failed > 0 { ", " span.bad { (count(evaluator.failed)) " failed" } }
                @if evaluator.skipped > 0 { ", " (count(evaluator.skipped)) " skipped" }
                @if evaluator.absent > 0 { ", " (count(evaluator.absent)) " absent" }
            }
        }
    }
}

fn bars(run: &str, id: &str, histogram: &Histogram) -> Markup {
    let last = histogram.bins.len() - 1;
    let columns: Vec<Column> = histogram
        .bins
        .iter()
        .enumerate()
        .map(|(i, bin)| {
            let (low, high) = (format::score(bin.low), format::score(bin.high));
            let query = if i == last {
                format!("score.{id} >= {}", bin.low)
            } else {
                format!("score.{id} >= {} and score.{id} < {}", bin.low, bin.high)
            };
            Column {
                label: format!("{} from {low} to {high}", count(bin.count)),
                count: bin.count,
                href: Some(link::cases(run, &query)),
            }
        })
        .collect();
    let ends = [histogram.bins[0].low, histogram.bins[last].high].map(format::score);
    html! {
        (svg::histogram(&columns, [&ends[0], &ends[1]], &format!("Distribution of {id}")))
        details {
            summary { "As numbers" }
            table.plain {
                thead { tr { th scope="col" { "From" } th scope="col" { "to" } th.number scope="col" { "Trials" } } }
                tbody {
                    @for (bin, column) in histogram.bins.iter().zip(&columns).filter(|(bin, _)| bin.count > 0) {
                        tr {
                            td { (format::score(bin.low)) } td { (format::score(bin.high)) }
                            td.number { a href=[column.href.as_deref()] { (count(bin.count)) } }
                        }
                    }
                }
            }
        }
    }
}

/// Trials by label, as bars with their numbers.
fn labels(run: &str, id: &str, histogram: &Histogram) -> Markup {
    let all: u64 = histogram.labels.values().sum::<u64>().max(1);
    let mut labels: Vec<(&String, &u64)> = histogram.labels.iter().collect();
    labels.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let shown = 8;
    html! {
        table.plain.wide {
            caption.visually-hidden { "Trials by label of " (id) }
            tbody {
                @for (label, n) in labels.iter().take(shown) {
                    @let field = Some(Field::Label(id.to_string()));
                    tr {
                        th scope="row" {
                            @match field {
                                Some(field) => a href=(link::cases(run, &equals(field, label))) { (text(label)) },
                                None => (text(label)),
                            }
                        }
                        td { (svg::bar(**n as f64 / all as f64, if *label == "fail" { "bad" } else { "" })) }
                        td.number { (count(**n)) }
                    }
                }
            }
        }
        @if labels.len() > shown { p.muted { "and " (labels.len() - shown) " more labels" } }
    }
}

fn slices(report: &Report, slices: &[Slices]) -> Markup {
    let (run, primary) = (&report.run.id, &report.run.primary);
    html! {
        section.card.span-12 aria-labelledby="slices" {
            header { h2 #slices { "Parts of the dataset" } span.muted { "mean of " (primary) " by column, the lowest first" } }
            div.tiles {
                @for slices in slices {
                    article.tile {
                        h3 { (text(slices.column.strip_prefix("col.").unwrap_or(&slices.column))) }
                        table.plain.wide {
                            thead { tr { th scope="col" { "Value" } th.number scope="col" { "Mean" } th scope="col" { "Interval" } th.number scope="col" { "Trials" } } }
                            tbody {
                                @for slice in &slices.values {
                                    tr {
                                        th scope="row" { a href=(link::cases(run, &slice.filter)) { (text(&slice.value)) } }
                                        td.number { (parts::mean(slice.mean.value)) }
                                        td.muted { (parts::ends(slice.mean.ci95)) }
                                        td.number { (count(slice.trials)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
            p.muted.gap { "Intervals stand alone: among many parts some look bad by chance." }
        }
    }
}

fn errors(report: &Report) -> Markup {
    let most = report.errors.first().map_or(1, |error| error.trials).max(1);
    html! {
        section.card.span-6 aria-labelledby="errors" {
            header { h2 #errors { "Failed trials" } a href=(link::cases(&report.run.id, "status = failed")) { (count(report.trials.failed)) " in all" } }
            table.plain.wide {
                thead { tr { th scope="col" { "Error" } th scope="col" { span.visually-hidden { "Share" } } th.number scope="col" { "Trials" } } }
                tbody {
                    @for error in &report.errors {
                        tr {
                            th scope="row" { a href=(link::cases(&report.run.id, &equals(Field::Error, &error.error_type))) { (text(&error.error_type)) } }
                            td { (svg::bar(error.trials as f64 / most as f64, "bad")) }
                            td.number { (count(error.trials)) }
                        }
                    }
                }
            }
        }
    }
}

fn resources(report: &Report) -> Markup {
    let spans = &report.spans;
    html! {
        section.card.span-6 aria-labelledby="resources" {
            header { h2 #resources { "Latency, tokens, cost" } }
            dl.facts {
                dt { "Latency" } dd { "p50 " (format::milliseconds(report.latency_ms.p50)) ", p95 " (format::milliseconds(report.latency_ms.p95)) }
                dt { "Tokens" } dd { (parts::tokens(report.tokens.input, report.tokens.output)) " in / out" }
                dt { "Cost" } dd { (format::dollars(report.cost_usd)) @if report.unpriced > 0 { ", " (count(report.unpriced)) " answers of unknown price left out" } }
                dt { "HTTP tries" } dd { (count(report.attempts)) }
                dt { "Spans" }
                dd {
                    (count(spans.created)) " created, " (count(spans.stored)) " stored"
                    @if spans.stored < spans.created { " " span.badge.error { "some are missing" } }
                }
            }
            @if !spans.exported.is_empty() || !report.scores.exported.is_empty() {
                h3.gap { "Delivered" }
                div.scroll role="region" aria-label="Delivered, table" tabindex="0" {
                    table.plain {
                        thead {
                            tr {
                                th scope="col" { "Destination" } th.number scope="col" { "Delivered" } th.number scope="col" { "Pending" }
                                th.number scope="col" { "Rejected" } th.number scope="col" { "Not sampled" } th.number scope="col" { "Duplicates" }
                            }
                        }
                        tbody {
                            @for (name, exported) in spans.exported.iter().chain(&report.scores.exported) {
                                tr {
                                    th scope="row" { (text(name)) }
                                    @for n in [exported.delivered, exported.pending, exported.rejected, exported.not_sampled, exported.duplicates] { td.number { (count(n)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
