//! `/runs/{r}/cases`: the trials of a run, worst first unless asked otherwise. The document is that of `cases`.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use maud::{Markup, html};

use super::layout::{self, text};
use super::{Nav, PageContext, PageError, PageResult, link, parts};
use crate::model::{Direction, RunSpec, TrialKey};
use crate::query::{self, Expr, Field, QueryError, Schema, SortKey};
use crate::report::details::{CaseChange, direction, previous_run};
use crate::report::documents::{self, CaseEntry};
use crate::report::format::{self, count};
use crate::serve::App;
use crate::store::rows::RunRow;
use crate::store::{CaseQuery, Place, Reader};

/// Trials on a page.
const PAGE: usize = 50;
/// Trials in a document, unless `limit` asks for another number; `after` continues it.
const DOCUMENT: usize = 10_000;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/runs/{run}/cases", get(list))
}

/// What a list of cases is asked for, as it stands in the address.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) query: Option<String>,
    pub(super) sort: Option<String>,
    pub(super) change: Option<String>,
}

impl Asked {
    pub(super) fn of(context: &PageContext) -> Self {
        let own = |name| context.parameter(name).map(str::to_owned);
        Self { query: own("q"), sort: own("sort"), change: own("change") }
    }

    pub(super) fn parameters(&self) -> [(&'static str, Option<&str>); 3] {
        [("q", self.query.as_deref()), ("sort", self.sort.as_deref()), ("change", self.change.as_deref())]
    }
}

/// The same, understood.
pub(super) struct Understood {
    filter: Option<Expr>,
    sort: Option<SortKey>,
    /// The cases that changed as asked since the suite's previous run.
    changed: Option<HashSet<u64>>,
    pub(super) previous: Option<RunRow>,
}

impl Understood {
    /// Of a run; an error where query, sort key or change cannot be read.
    pub(super) fn of(asked: &Asked, reader: &Reader, run: &RunRow) -> Result<Self, PageError> {
        let schema = Schema::cases();
        let filter = asked.query.as_deref().map(|text| query::parse(text, &schema)).transpose()?;
        let sort = asked.sort.as_deref().map(|text| query::parse_sort(text, &schema)).transpose()?;
        let external = reader.external_names(run)?;
        known_evaluators(
            run,
            &external,
            filter.iter().flat_map(Expr::fields).chain(sort.as_ref().map(|key| &key.field)),
        )?;
        let previous = previous_run(reader, run)?;
        let changed = match &asked.change {
            None => None,
            Some(name) => {
                let wanted = CaseChange::from_name(name).ok_or_else(|| {
                    PageError::bad_request(format!(
                        "`change={name}` is none of improved, regressed, unchanged, lost, gained, unscored."
                    ))
                })?;
                let Some(previous) = &previous else {
                    return Err(PageError::bad_request("This is the first run of its suite: no case has changed.")
                        .instead("All cases", link::cases(&run.spec.run_id, "")));
                };
                let (mut found, direction) = (HashSet::new(), direction(&run.spec));
                reader.pair_cases(previous, run, &run.spec.primary, &mut |pair| {
                    if CaseChange::of(pair.before, pair.after, direction) == wanted {
                        found.insert(pair.seq);
                    }
                })?;
                Some(found)
            }
        };
        Ok(Self { filter, sort, changed, previous })
    }

    /// A page of the trials that are asked for.
    pub(super) fn page(
        &self,
        reader: &Reader,
        run: &RunRow,
        place: Place,
        limit: usize,
    ) -> Result<crate::store::CasePage, PageError> {
        let changed = |key: TrialKey| self.changed.as_ref().is_none_or(|changed| changed.contains(&key.seq));
        let keep: Option<&dyn Fn(TrialKey) -> bool> = if self.changed.is_some() { Some(&changed) } else { None };
        let query = CaseQuery { filter: self.filter.as_ref(), keep, sort: self.sort.as_ref(), place, limit };
        Ok(reader.case_page(run, &query)?)
    }
}

/// A score of an evaluator that the run does not have is a slip, and no case has it.
fn known_evaluators<'f>(
    run: &RunRow,
    external: &[String],
    fields: impl Iterator<Item = &'f Field>,
) -> Result<(), PageError> {
    for field in fields {
        if let Field::Score(id) | Field::Label(id) = field
            && !run.spec.evaluators.iter().any(|spec| spec.id.as_str() == id)
            && !external.contains(id)
        {
            let own = run.spec.evaluators.iter().map(|spec| spec.id.as_str());
            let known: Vec<&str> = own.chain(external.iter().map(String::as_str)).collect();
            return Err(PageError::bad_request(format!(
                "Run {} has no evaluator `{id}`; it has {}.",
                run.spec.run_id,
                known.join(", ")
            )));
        }
    }
    Ok(())
}

/// A trial's key as addresses hold it: `SEQ.REPEAT`.
pub(super) fn key_text(key: TrialKey) -> String {
    format!("{}.{}", key.seq, key.repeat)
}

pub(super) fn parse_key(text: &str) -> Option<TrialKey> {
    let (seq, repeat) = text.split_once('.')?;
    Some(TrialKey { seq: seq.parse().ok()?, repeat: repeat.parse().ok()? })
}

fn place(context: &PageContext) -> Result<Place, PageError> {
    let key = |name: &str| {
        let Some(text) = context.parameter(name) else { return Ok(None) };
        parse_key(text).map(Some).ok_or_else(|| {
            PageError::bad_request(format!("`{name}={text}` names no trial; it looks like `{name}=12.0`."))
        })
    };
    Ok(match (key("after")?, key("before")?) {
        (Some(key), _) => Place::After(key),
        (None, Some(key)) => Place::Before(key),
        (None, None) => Place::Start,
    })
}

/// What the page shows.
struct Shown {
    run: RunRow,
    entries: Vec<CaseEntry>,
    keys: Vec<TrialKey>,
    /// What became of each since the suite's previous run, with the difference; `None` where that run lacks it.
    changes: Vec<Option<(CaseChange, Option<f64>)>>,
    before: u64,
    matched: u64,
    behind: u64,
    has_previous: bool,
}

async fn list(State(app): State<Arc<App>>, Path(wanted): Path<String>, mut context: PageContext) -> PageResult {
    let named = wanted.clone();
    let asked = Asked::of(&context);
    // A query that cannot be read is shown in its box, with a caret, above the whole list.
    let schema = Schema::cases();
    let problem = asked.query.as_deref().and_then(|text| query::parse(text, &schema).err());
    let lenient = problem.is_some() && !context.wants_json();
    let understood = if lenient { Asked { query: None, ..asked.clone() } } else { asked.clone() };
    let (place, json) = (place(&context)?, context.wants_json());
    let limit = match context.parameter("limit") {
        None => {
            if json {
                DOCUMENT
            } else {
                PAGE
            }
        }
        Some(text) => text.parse().ok().filter(|n| (1..=1_000_000).contains(n)).ok_or_else(|| {
            PageError::bad_request(format!("`limit={text}` is no number of trials from 1 to 1000000."))
        })?,
    };
    let shown = app
        .read(move |reader| {
            let run = reader.resolve_run(&wanted)?;
            let asked = Understood::of(&understood, reader, &run)?;
            let page = asked.page(reader, &run, place, limit)?;
            let direction = direction(&run.spec);
            let mut changes = Vec::new();
            for row in page.rows.iter().filter(|_| !json) {
                let primary = &run.spec.primary;
                let before = match &asked.previous {
                    Some(previous) => reader.value_in(previous, &run, row.key, primary)?,
                    None => None,
                };
                // The mean over the repeats, as in the counts of the run's page.
                let after = reader.value_in(&run, &run, row.key, primary)?.flatten();
                changes.push(before.map(|before| change(before, after, direction)));
            }
            Ok::<_, PageError>(Shown {
                entries: documents::cases_of(&run.spec, &page.rows),
                keys: page.rows.iter().map(|row| row.key).collect(),
                changes,
                before: page.before,
                matched: page.matched,
                behind: page.behind(),
                has_previous: asked.previous.is_some(),
                run,
            })
        })
        .await?;
    let id = shown.run.spec.run_id.to_string();
    // `latest`, names and prefixes lead to the address that stays.
    if named != id && !json {
        let path = link::path(&["runs", &id, "cases"]);
        return Ok(Redirect::to(&context.with(&[]).replacen(context.path(), &path, 1)).into_response());
    }
    context.live = format!("run:{id}");
    let title = format!("Cases of {}", shown.run.spec.name);
    let mut response =
        context.answer(&shown.entries, &title, Nav::Runs, || body(&context, &asked, problem.as_ref(), &shown));
    if lenient {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

fn change(before: Option<f64>, after: Option<f64>, direction: Direction) -> (CaseChange, Option<f64>) {
    (CaseChange::of(before, after, direction), before.zip(after).map(|(before, after)| after - before))
}

fn body(context: &PageContext, asked: &Asked, problem: Option<&QueryError>, shown: &Shown) -> Markup {
    let spec = &shown.run.spec;
    let id = spec.run_id.to_string();
    html! {
        nav.crumbs aria-label="Where this is" { a href="/runs" { "Runs" } " / " a href=(link::run(&id)) { (text(&spec.name)) } }
        div.head {
            div {
                h1 { "Cases" }
                p.muted {
                    (count(shown.matched)) " of " (count(spec.planned())) " trials"
                    @match &asked.sort {
                        Some(sort) => { ", sorted by " code { (text(sort)) } " · " a href=(context.with(&[("sort", None), ("after", None), ("before", None)])) { "worst first" } },
                        None => ", worst first",
                    }
                }
            }
        }
        (filter_box(context, asked, problem))
        div.card.flush {
            @if shown.entries.is_empty() {
                p.pager { "No trial matches. " a href=(link::cases(&id, "")) { "All cases" } }
            } @else {
                (table(context, asked, shown))
                (pager(context, shown))
            }
        }
    }
}

fn filter_box(context: &PageContext, asked: &Asked, problem: Option<&QueryError>) -> Markup {
    let examples = ["status = failed", "output = unparseable", "expected = NEE and output != NEE", "text ~ \"…\""];
    html! {
        form.filter role="search" method="get" action=(context.path()) {
            label.visually-hidden for="q" { "Filter cases" }
            div.grow {
                input.query #q type="search" name="q" value=[asked.query.as_deref()] autocomplete="off" spellcheck="false"
                    placeholder="score.label_match < 1 and expected = NEE" aria-describedby="q-help" data-search=""
                    aria-invalid=[problem.map(|_| "true")];
            }
            @if let Some(sort) = &asked.sort { input type="hidden" name="sort" value=(sort); }
            @if let Some(change) = &asked.change { input type="hidden" name="change" value=(change); }
            button.primary type="submit" { "Filter" }
            @if asked.query.is_some() || asked.change.is_some() {
                a.button href=(context.with(&[("q", None), ("change", None), ("after", None), ("before", None)])) { "Clear" }
            }
        }
        @if let Some(problem) = problem {
            div.problem role="alert" {
                "The query cannot be read at column " (problem.column) ": " (text(&problem.problem.to_string()))
                pre { (layout::block(&problem.excerpt())) }
                "The list below is not filtered."
            }
        }
        @if let Some(change) = &asked.change {
            p { span.badge { "change: " (text(change)) } span.muted { " against the suite's previous run" } }
        }
        details #q-help {
            summary { "Query language" }
            p {
                "Terms are " code { "FIELD OP VALUE" } " with = != < <= > >= ~ (contains), joined by and, or, not and parentheses. Fields: "
                @for (i, field) in Schema::cases().known().iter().enumerate() { @if i > 0 { ", " } code { (field) } } "."
            }
            p {
                "For example: "
                @for (i, example) in examples.iter().enumerate() {
                    @if i > 0 { " · " }
                    a href=(context.with(&[("q", Some(example)), ("after", None), ("before", None)])) { code { (example) } }
                }
            }
        }
    }
}

/// A column's header that sorts: first one way, then the other.
fn sortable(context: &PageContext, asked: &Asked, key: &str, name: &str, number: bool) -> Markup {
    let down = format!("-{key}");
    let now = asked.sort.as_deref();
    let (state, next, arrow) = if now == Some(key) {
        (Some("ascending"), down.as_str(), " ▲")
    } else if now == Some(down.as_str()) {
        (Some("descending"), key, " ▼")
    } else {
        (None, key, "")
    };
    let href = context.with(&[("sort", Some(next)), ("after", None), ("before", None)]);
    html! {
        th class=[number.then_some("number")] scope="col" aria-sort=[state] {
            a href=(href) { (name) span aria-hidden="true" { (arrow) } }
        }
    }
}

fn table(context: &PageContext, asked: &Asked, shown: &Shown) -> Markup {
    let spec = &shown.run.spec;
    let external = external(spec, &shown.entries);
    html! {
        div.scroll.keep.many[spec.evaluators.len() + external.len() > 3] role="region" aria-label="Cases, table" tabindex="0" {
            table.list data-rows="" {
                thead {
                    tr {
                        (sortable(context, asked, "case", "Case", false))
                        @if spec.repeat > 1 { (sortable(context, asked, "repeat", "Repeat", true)) }
                        th scope="col" { "Claim" }
                        (sortable(context, asked, "expected", "Expected", false))
                        (sortable(context, asked, "output", "Output", false))
                        @for evaluator in &spec.evaluators {
                            @let id = evaluator.id.as_str();
                            (sortable(context, asked, &format!("score.{id}"), id, false))
                        }
                        @for name in &external {
                            (sortable(context, asked, &Field::Score((*name).to_owned()).to_string(), &text(name), false))
                        }
                        @if shown.has_previous { th scope="col" { "Change" } }
                        (sortable(context, asked, "status", "Status", false))
                        (sortable(context, asked, "latency", "Latency", true))
                        (sortable(context, asked, "tokens", "Tokens", true))
                        th scope="col" { "Trace" }
                    }
                }
                tbody {
                    @for (i, case) in shown.entries.iter().enumerate() {
                        (row(asked, shown, case, &external, shown.keys[i], shown.changes.get(i).copied().flatten()))
                    }
                }
            }
        }
    }
}

/// Names of scores from elsewhere that cases in sight have.
fn external<'e>(spec: &RunSpec, entries: &'e [CaseEntry]) -> Vec<&'e str> {
    let names = entries.iter().flat_map(|case| case.scores.keys()).map(String::as_str);
    let foreign = names.filter(|name| !spec.evaluators.iter().any(|evaluator| evaluator.id.as_str() == *name));
    let names: std::collections::BTreeSet<&str> = foreign.collect();
    names.into_iter().collect()
}

fn row(
    asked: &Asked,
    shown: &Shown,
    case: &CaseEntry,
    external: &[&str],
    key: TrialKey,
    change: Option<(CaseChange, Option<f64>)>,
) -> Markup {
    let spec = &shown.run.spec;
    let run = spec.run_id.to_string();
    let at = key_text(key);
    // The case's page knows the list it was opened from, so that it can lead to the next of it.
    let from = [("run", Some(run.as_str())), ("at", Some(at.as_str()))].into_iter().chain(asked.parameters());
    let href = link::with_query(&link::case(&spec.dataset.name, &case.case_id), from);
    let error = case.status == "failed" || case.output != case.expected && case.expected.is_some();
    html! {
        tr data-error=[error.then_some("")] {
            th scope="row" { a.id data-open="" href=(href) { (text(&case.case_id)) } }
            @if spec.repeat > 1 { td.number { (case.repeat) } }
            td.text { div.two { (text(&case.claim)) } }
            td { @match case.expected { Some(label) => (label), None => (parts::absent()) } }
            td { (parts::output(case.output, case.expected, parts::absent())) }
            @for evaluator in &spec.evaluators { td { (parts::score(case.scores.get(evaluator.id.as_str()))) } }
            @for name in external { td { (parts::score(case.scores.get(*name))) } }
            @if shown.has_previous { td.nowrap { (changed(change)) } }
            td { (parts::trial_status(case)) }
            td.number { (format::milliseconds(case.latency_ms)) }
            td.number { (parts::tokens(case.tokens.input, case.tokens.output)) }
            td { (parts::trace(case.trace_id, case.span_id)) }
        }
    }
}

fn changed(change: Option<(CaseChange, Option<f64>)>) -> Markup {
    match change {
        None => html! { span.muted title="not in the suite's previous run" { "new" } },
        Some((CaseChange::Improved, _)) => html! { span.good { "▲ improved" } },
        Some((CaseChange::Regressed, _)) => html! { span.bad { "▼ regressed" } },
        Some((CaseChange::Lost, _)) => html! { span.bad { "lost its score" } },
        Some((CaseChange::Gained, _)) => html! { span.good { "scored now" } },
        Some((CaseChange::Unchanged, _)) => html! { span.muted { "same" } },
        Some((CaseChange::Unscored, _)) => parts::absent(),
    }
}

fn pager(context: &PageContext, shown: &Shown) -> Markup {
    let first = shown.keys.first().map(|key| key_text(*key));
    let last = shown.keys.last().map(|key| key_text(*key));
    html! {
        nav.pager aria-label="Pages" {
            span { (count(shown.before + 1)) "–" (count(shown.before + shown.entries.len() as u64)) " of " (count(shown.matched)) }
            @if shown.before > 0 {
                a href=(context.with(&[("after", None), ("before", None)])) { "« First" }
                a rel="prev" data-previous="" href=(context.with(&[("after", None), ("before", first.as_deref())])) { "‹ Previous" }
            }
            @if shown.behind > 0 {
                a rel="next" data-next="" href=(context.with(&[("before", None), ("after", last.as_deref())])) { "Next ›" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_what_they_print() {
        let key = TrialKey { seq: 12, repeat: 3 };
        assert_eq!(parse_key(&key_text(key)), Some(key));
        for wrong in ["", "1", "1.", ".1", "-1.0", "1.0.0", "99999999999999999999.0"] {
            assert_eq!(parse_key(wrong), None, "{wrong}");
        }
    }
}
