//! `/compare?base=&head=`: two runs side by side. The document is that of `compare`.
//!
//! Only runs are compared here. A baseline is a file, and no address leads the server to a file.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use maud::{Markup, html};

use super::cache::Cache;
use super::layout::text;
use super::{Nav, PageContext, PageError, PageResult, link, parts};
use crate::compare::CompareOptions;
use crate::compare::comparison::{CaseChange, Comparison};
use crate::compare::open::{Named, OpenError, compare_named};
use crate::report::Report;
use crate::report::details::previous_run;
use crate::report::format::count;
use crate::report::html::links::Links;
use crate::report::html::{compare as shown, confusion};
use crate::serve::App;
use crate::store::rows::RunRow;
use crate::store::{Reader, StoreError};

/// Cases in each list of a comparison that is kept; the counts know of all.
const LISTED: usize = 2_000;
/// Cases on a page.
const PAGE: usize = 50;
/// Runs to choose from.
const CHOICES: usize = 100;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/compare", get(show))
}

/// A run to choose.
struct Choice {
    id: String,
    words: String,
}

struct Compared {
    base: RunRow,
    head: RunRow,
    comparison: Arc<Comparison>,
    /// The dataset's columns, of which a part may be asked for.
    columns: Vec<String>,
}

async fn show(State(app): State<Arc<App>>, Extension(cache): Extension<Cache>, context: PageContext) -> PageResult {
    let own = |name| context.parameter(name).map(str::to_owned);
    let (base, head, slice) = (own("base"), own("head"), own("slice"));
    let (choices, compared) = app
        .read(move |reader| {
            let runs = reader.runs()?;
            if runs.is_empty() {
                return Ok::<_, PageError>((Vec::new(), None));
            }
            let choices = runs.iter().take(CHOICES).map(choice).collect();
            let head = reader.resolve_run(head.as_deref().unwrap_or("latest"))?;
            let base = match base {
                Some(base) => Some(reader.resolve_run(&base)?),
                None => previous_run(reader, &head)?,
            };
            let Some(base) = base else { return Ok((choices, None)) };
            let slices: Vec<String> = slice.into_iter().collect();
            let comparison = cache.comparison(reader, &base, &head, &slices)?;
            let columns = columns(reader, &head)?;
            Ok((choices, Some(Compared { base, head, comparison, columns })))
        })
        .await?;
    let Some(compared) = compared else {
        return Ok(super::page(&context, "Compare", Nav::Compare, nothing(&choices)));
    };
    let title = format!("{} → {}", compared.base.spec.name, compared.head.spec.name);
    Ok(context.answer(&*compared.comparison, &title, Nav::Compare, || body(&context, &choices, &compared)))
}

fn choice(run: &RunRow) -> Choice {
    let spec = &run.spec;
    let started = crate::report::format::time(spec.started_unix_nano);
    Choice {
        id: spec.run_id.to_string(),
        words: format!("{} · {} · {} · {}", spec.name, spec.suite, spec.model, started.get(..16).unwrap_or_default()),
    }
}

/// By what a run's cases may be parted: the columns of the dataset, as far as its first cases tell.
pub(super) fn columns(reader: &Reader, run: &RunRow) -> Result<Vec<String>, StoreError> {
    let mut columns = vec!["expected".to_owned(), "group".to_owned()];
    let rows = reader.cases(run, None, None, Some(1))?;
    let named = rows.iter().flat_map(|row| row.columns.iter().map(|(name, _)| format!("col.{name}")));
    columns.extend(named.take(12));
    Ok(columns)
}

/// The comparison of two runs by parts of the dataset.
pub(super) fn compare_runs(
    reader: &Reader,
    base: &RunRow,
    head: &RunRow,
    slices: &[String],
) -> Result<Comparison, PageError> {
    let options = CompareOptions { limit: LISTED, slices: slices.to_vec(), ..CompareOptions::default() };
    let (base, head) = (Named::Run(Box::new(base.clone())), Named::Run(Box::new(head.clone())));
    Ok(compare_named([reader, reader], &base, &head, &options)?)
}

impl From<OpenError> for PageError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Store(error) => error.into(),
            other => Self::bad_request(other.to_string()),
        }
    }
}

fn nothing(choices: &[Choice]) -> Markup {
    html! {
        div.head { div { h1 { "Compare" } p.muted { "Two runs side by side, with intervals." } } }
        @if choices.is_empty() {
            p.notice { "No runs yet: " code { "spanscore run" } " records one. " a href="/" { "How to start" } }
        } @else {
            p.notice { "This is the first run of its suite. Choose what to compare it with." }
            (chooser(choices, "", &choices[0].id))
        }
    }
}

/// Both runs to choose, by plain form.
fn chooser(choices: &[Choice], base: &str, head: &str) -> Markup {
    let select = |name: &str, label: &str, chosen: &str| {
        html! {
            label.grow {
                span.visually-hidden { (label) }
                select name=(name) aria-label=(label) {
                    @if choices.iter().all(|choice| choice.id != chosen) && !chosen.is_empty() { option value=(chosen) selected { (chosen) } }
                    @for choice in choices { option value=(choice.id) selected[choice.id == chosen] { (text(&choice.words)) } }
                }
            }
        }
    };
    html! {
        form.filter method="get" action="/compare" {
            (select("base", "Base", base)) span aria-hidden="true" { "→" } (select("head", "Head", head))
            button.primary type="submit" { "Compare" }
        }
    }
}

fn body(context: &PageContext, choices: &[Choice], compared: &Compared) -> Markup {
    let Compared { base, head, comparison, columns } = compared;
    let (base_id, head_id) = (base.spec.run_id.as_str(), head.spec.run_id.as_str());
    let links = PageLinks::of_comparison(context, head);
    let only = context.parameter("only").unwrap_or("regressed");
    let swapped = link::with_query("/compare", [("base", Some(head_id)), ("head", Some(base_id))]);
    html! {
        div.head {
            div {
                h1 { (text(&base.spec.name)) span.muted { " → " } (text(&head.spec.name)) }
                p.muted { (count(comparison.pairs)) " cases that both have. Differences are head less base, with 95 % intervals." }
            }
            p.actions { a.button href=(swapped) { "Swap" } a.button href=(link::run(head_id)) { "The head’s run" } }
        }
        (chooser(choices, base_id, head_id))
        div.grid {
            section.card.span-12 aria-labelledby="differs" {
                header { h2 #differs { "Run differently" } }
                @for reason in &comparison.invalid { p.notice.low { (text(reason)) } }
                (shown::differs(&comparison.differs))
                (shown::sides(comparison, &links))
                (in_terminal(base_id, head_id))
            }
            section.card.span-12 aria-labelledby="metrics" {
                header { h2 #metrics { "Metrics" } }
                (shown::metrics(&comparison.metrics))
            }
            section.card.span-7 aria-labelledby="moved" {
                header { h2 #moved { "From answer to answer" } span.muted { "what lies off the diagonal moved" } }
                (confusion::transitions(&comparison.transition_labels, &comparison.transitions))
                (shown::shift(comparison))
            }
            section.card.span-5 aria-labelledby="kinds" {
                header { h2 #kinds { "Cases" } span.muted { "by " (text(&comparison.cases.by)) } }
                (shown::counts(&comparison.cases.counts, comparison.unpaired.counts, &links))
            }
            (parts_of(context, comparison, columns, &links))
            (list(context, comparison, only, &links))
        }
    }
}

/// The comparison by a column of the dataset, and the columns to choose from.
fn parts_of(context: &PageContext, comparison: &Comparison, columns: &[String], links: &dyn Links) -> Markup {
    let chosen = context.parameter("slice");
    html! {
        section.card.span-12 aria-labelledby="slices" {
            header {
                h2 #slices { "By part of the dataset" }
                ul.tags {
                    @for column in columns {
                        li { a.badge href={ (context.with(&[("slice", Some(column)), ("page", None)])) "#slices" } aria-current=[(chosen == Some(column.as_str())).then_some("true")] {
                            (text(column.strip_prefix("col.").unwrap_or(column)))
                        } }
                    }
                    @if chosen.is_some() { li { a.badge href=(context.with(&[("slice", None)])) { "none" } } }
                }
            }
            @if comparison.slices.is_empty() {
                p.muted { @if chosen.is_some() { "No case has a value there." } @else { "Choose a column to see each of its values apart." } }
            } @else { (shown::slices(&comparison.slices, links)) }
        }
    }
}

fn list(context: &PageContext, comparison: &Comparison, only: &str, links: &dyn Links) -> Markup {
    let cases = &comparison.cases;
    let unpaired = comparison.unpaired.base.len() + comparison.unpaired.head.len();
    let kinds = [
        ("regressed", cases.counts.regressed),
        ("improved", cases.counts.improved),
        ("lost", cases.counts.lost),
        ("unpaired", unpaired as u64),
    ];
    let listed: &[CaseChange] = match only {
        "improved" => &cases.improved,
        "lost" => &cases.lost,
        "unpaired" => &[],
        _ => &cases.regressed,
    };
    let page = context.parameter("page").and_then(|page| page.parse::<usize>().ok()).unwrap_or(1).max(1);
    let from = ((page - 1) * PAGE).min(listed.len());
    let to = (from + PAGE).min(listed.len());
    let turn = |page: usize| context.with(&[("page", Some(&page.to_string()))]) + "#list";
    html! {
        section #list.card.flush.span-12 aria-label="Cases of both sides" {
            header {
                nav.tabs aria-label="Which cases" {
                    @for (kind, n) in kinds {
                        a href={ (context.with(&[("only", Some(kind)), ("page", None)])) "#list" } aria-current=[(kind == only).then_some("true")] { (kind) " " (count(n)) }
                    }
                }
            }
            @if only == "unpaired" {
                @for (name, side) in [("base", &comparison.unpaired.base), ("head", &comparison.unpaired.head)] {
                    @if !side.is_empty() { h3.inset { "Only in the " (name) } (shown::unpaired(&side[..side.len().min(200)], name, links)) }
                }
                @if unpaired == 0 { p.pager { "Every case has its partner." } }
            } @else if listed.is_empty() {
                p.pager { "None." }
            } @else {
                (shown::cases(&listed[from..to], &cases.by, links))
                @if listed.len() > PAGE {
                    nav.pager aria-label="Pages" {
                        @if page > 1 { a rel="prev" data-prev="" href=(turn(page - 1)) { "‹ Before" } }
                        span { (count(from as u64 + 1)) "–" (count(to as u64)) " of " (count(listed.len() as u64)) }
                        @if to < listed.len() { a rel="next" data-next="" href=(turn(page + 1)) { "More ›" } }
                    }
                }
            }
        }
    }
}

/// Addresses of pages.
pub(super) struct PageLinks<'a> {
    /// The page of a comparison, whose lists are chosen by its address.
    comparison: Option<&'a PageContext>,
    dataset: &'a str,
    run: &'a str,
}

impl<'a> PageLinks<'a> {
    fn of_comparison(context: &'a PageContext, head: &'a RunRow) -> Self {
        let spec = &head.spec;
        Self { comparison: Some(context), dataset: &spec.dataset.name, run: spec.run_id.as_str() }
    }

    /// From the page of a run.
    pub(super) fn of_run(report: &'a Report) -> Self {
        Self { comparison: None, dataset: &report.run.dataset.name, run: &report.run.id }
    }
}

impl Links for PageLinks<'_> {
    fn run(&self, id: &str) -> Option<String> {
        Some(link::run(id))
    }

    fn case(&self, id: &str) -> Option<String> {
        Some(link::with_query(&link::case(self.dataset, id), [("run", Some(self.run))]))
    }

    fn trace(&self, trace: &str, span: Option<&str>, _head: bool) -> Option<String> {
        Some(link::trace(trace, span))
    }

    fn diff(&self, base: &str, head: &str) -> Option<String> {
        Some(link::path(&["traces", base, "diff", head]))
    }

    fn changed(&self, change: &str) -> Option<String> {
        let listed = matches!(change, "regressed" | "improved" | "lost");
        let context = self.comparison.filter(|_| listed)?;
        Some(context.with(&[("only", Some(change)), ("page", None)]) + "#list")
    }

    fn part(&self, filter: &str) -> Option<String> {
        Some(link::cases(self.run, filter))
    }
}

/// The command that gives the same in a terminal.
fn in_terminal(base: &str, head: &str) -> Markup {
    html! {
        details { summary { "The same in the terminal" } (parts::snippet(&format!("spanscore compare {base} {head}"))) }
    }
}
