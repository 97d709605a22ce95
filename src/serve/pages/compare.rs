//! `/compare?base=&head=`: two runs side by side. The document is that of `compare`.
//!
//! Only runs are compared here. A baseline is a file, and no address leads the server to a file.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use maud::{Markup, html};

use super::cache::Cache;
use super::layout::{block, text};
use super::{Nav, PageContext, PageError, PageResult, link, parts};
use crate::compare::CompareOptions;
use crate::compare::comparison::{CaseChange, CaseSide, Comparison, UnpairedCase};
use crate::compare::open::{Named, OpenError, cases_named, compare_named};
use crate::model::CaseId;
use crate::report::Report;
use crate::report::details::previous_run;
use crate::report::format::count;
use crate::report::html::links::Links;
use crate::report::html::{compare as shown, confusion};
use crate::report::results::outcome_in_a_word;
use crate::report::text_diff::{Piece, text_diff};
use crate::serve::App;
use crate::store::rows::RunRow;
use crate::store::{Reader, StoreError};

/// Cases in each list of a comparison that is kept; pages beyond read the cases again.
const LISTED: usize = 2_000;
/// How much of an answer is shown, in characters.
const ANSWER: usize = 20_000;
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
    /// The cases that are listed.
    list: Listed,
    /// The dataset's columns, of which a part may be asked for.
    columns: Vec<String>,
}

async fn show(State(app): State<Arc<App>>, Extension(cache): Extension<Cache>, context: PageContext) -> PageResult {
    let own = |name| context.parameter(name).map(str::to_owned);
    let (base, head, slice) = (own("base"), own("head"), own("slice"));
    let only = Only::of(context.parameter("only"))?;
    let page = context.parameter("page").and_then(|page| page.parse::<usize>().ok()).unwrap_or(1).max(1);
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
            let list = Listed::of(reader, [&base, &head], &comparison, only, page)?;
            Ok((choices, Some(Compared { base, head, comparison, list, columns })))
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

/// Which cases are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    Regressed,
    Improved,
    Lost,
    Unpaired,
}

impl Only {
    const ALL: [Self; 4] = [Self::Regressed, Self::Improved, Self::Lost, Self::Unpaired];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Regressed => "regressed",
            Self::Improved => "improved",
            Self::Lost => "lost",
            Self::Unpaired => "unpaired",
        }
    }

    fn of(name: Option<&str>) -> Result<Self, PageError> {
        let Some(name) = name else { return Ok(Self::Regressed) };
        Self::ALL.into_iter().find(|only| only.as_str() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            PageError::bad_request(format!("only={name}: no list of cases has that name; there are {known}"))
        })
    }

    /// How many cases there are, in all lists that stand together.
    const fn count(self, comparison: &Comparison) -> u64 {
        let (counts, unpaired) = (&comparison.cases.counts, &comparison.unpaired.counts);
        match self {
            Self::Regressed => counts.regressed,
            Self::Improved => counts.improved,
            Self::Lost => counts.lost,
            Self::Unpaired => unpaired.base + unpaired.head,
        }
    }
}

/// A page of a list of cases.
struct Listed {
    only: Only,
    /// From 1.
    page: usize,
    pages: usize,
    cases: Vec<CaseChange>,
    unpaired: [Vec<UnpairedCase>; 2],
    /// What both sides answered, by case, where that says more than the labels do.
    answers: HashMap<String, [String; 2]>,
}

impl Listed {
    /// The page of that number, or the last one.
    fn of(
        reader: &Reader,
        runs: [&RunRow; 2],
        comparison: &Comparison,
        only: Only,
        page: usize,
    ) -> Result<Self, PageError> {
        let unpaired = &comparison.unpaired;
        let longest = match only {
            Only::Unpaired => unpaired.counts.base.max(unpaired.counts.head),
            only => only.count(comparison),
        };
        let pages = usize::try_from(longest).unwrap_or(usize::MAX).div_ceil(PAGE).max(1);
        let page = page.min(pages);
        let part = (page - 1) * PAGE..page * PAGE;
        let beyond;
        let (cases, unpaired) = if part.end <= LISTED {
            (&comparison.cases, unpaired)
        } else {
            let [base, head] = runs.map(|run| Named::Run(Box::new(run.clone())));
            beyond = cases_named([reader, reader], &base, &head, part.clone())?;
            (&beyond.0, &beyond.1)
        };
        let from = if part.end <= LISTED { part.start } else { 0 };
        let list = match only {
            Only::Regressed => &cases.regressed[..],
            Only::Improved => &cases.improved,
            Only::Lost => &cases.lost,
            Only::Unpaired => &[],
        };
        let cases: Vec<CaseChange> = list.iter().skip(from).take(PAGE).cloned().collect();
        let unpaired = [&unpaired.base, &unpaired.head].map(|list| match only {
            Only::Unpaired => list.iter().skip(from).take(PAGE).cloned().collect(),
            _ => Vec::new(),
        });
        let answers = answers(reader, runs, &cases)?;
        Ok(Self { only, page, pages, cases, unpaired, answers })
    }
}

/// The raw answers of both sides to these cases, where one of them says more than its label.
fn answers(
    reader: &Reader,
    runs: [&RunRow; 2],
    cases: &[CaseChange],
) -> Result<HashMap<String, [String; 2]>, StoreError> {
    let mut found = HashMap::new();
    for case in cases {
        let Ok(id) = CaseId::parse(&case.case_id) else { continue };
        let answer = |run: &RunRow, side: &CaseSide| -> Result<Option<(String, bool)>, StoreError> {
            let rows = reader.trials_of_case(run, &id)?;
            let row = rows.iter().find(|row| row.span_id.is_some() && row.span_id == side.span_id).or(rows.first());
            Ok(row.and_then(|row| {
                let raw = row.raw_output.clone()?;
                let label = row.outcome.as_ref().map(outcome_in_a_word);
                let more = label != Some(raw.trim());
                Some((raw, more))
            }))
        };
        let both = answer(runs[0], &case.base)?.zip(answer(runs[1], &case.head)?);
        if let Some(((then, more), (now, more_now))) = both
            && (more || more_now)
        {
            found.insert(case.case_id.clone(), [then, now]);
        }
    }
    Ok(found)
}

/// Both answers side by side, what differs marked.
fn side_by_side(answers: &[String; 2]) -> Markup {
    let [then, now] = answers.each_ref().map(|text| text.chars().take(ANSWER).collect::<String>());
    let pieces = text_diff(&then, &now);
    let shown = |is_now: bool| {
        html! {
            pre.prose.delta {
                @for piece in &pieces {
                    @match piece {
                        Piece::Same(same) => (block(same)),
                        Piece::Removed(gone) => @if !is_now { del { (block(gone)) } },
                        Piece::Added(new) => @if is_now { ins { (block(new)) } },
                        Piece::Cut(n) => span.muted { " … " (count(*n as u64)) " characters alike … " },
                    }
                }
            }
        }
    };
    html! {
        details.answers {
            summary { @if then == now { "Answers, alike" } @else { "Answers, what differs" } }
            div.pair { div { h4 { "Base" } (shown(false)) } div { h4 { "Head" } (shown(true)) } }
        }
    }
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
    let Compared { base, head, comparison, list: listed, columns } = compared;
    let (base_id, head_id) = (base.spec.run_id.as_str(), head.spec.run_id.as_str());
    let links = PageLinks::of_comparison(context, head);
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
            (list(context, comparison, listed, &links))
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

fn list(context: &PageContext, comparison: &Comparison, list: &Listed, links: &dyn Links) -> Markup {
    let Listed { only, page, pages, cases, unpaired, answers } = list;
    let counts = comparison.unpaired.counts;
    let turn = |page: usize| context.with(&[("page", Some(&page.to_string()))]) + "#list";
    let from = (page - 1) * PAGE;
    let within = |listed: usize, total: u64| {
        format!("{}–{} of {}", count(from as u64 + 1), count((from + listed) as u64), count(total))
    };
    let below = |case: &CaseChange| answers.get(&case.case_id).map(side_by_side);
    html! {
        section #list.card.flush.span-12 aria-label="Cases of both sides" {
            header {
                nav.tabs aria-label="Which cases" {
                    @for kind in Only::ALL {
                        a href={ (context.with(&[("only", Some(kind.as_str())), ("page", None)])) "#list" } aria-current=[(kind == *only).then_some("true")] { (kind.as_str()) " " (count(kind.count(comparison))) }
                    }
                }
            }
            @if *only == Only::Unpaired {
                @for (name, side, total) in [("base", &unpaired[0], counts.base), ("head", &unpaired[1], counts.head)] {
                    @if !side.is_empty() {
                        h3.inset { "Only in the " (name) span.muted { " " (within(side.len(), total)) } }
                        (shown::unpaired(side, name, links))
                    }
                }
                @if counts.base + counts.head == 0 { p.pager { "Every case has its partner." } }
            } @else if cases.is_empty() {
                p.pager { "None." }
            } @else {
                (shown::cases(cases, &comparison.cases.by, links, &below))
            }
            @if *pages > 1 {
                nav.pager aria-label="Pages" {
                    @if *page > 1 { a rel="prev" data-prev="" href=(turn(page - 1)) { "‹ Before" } }
                    span { @if *only == Only::Unpaired { "Page " (page) " of " (pages) } @else { (within(cases.len(), only.count(comparison))) } }
                    @if page < pages { a rel="next" data-next="" href=(turn(page + 1)) { "More ›" } }
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
