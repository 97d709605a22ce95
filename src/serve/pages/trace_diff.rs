//! `/traces/{a}/diff/{b}`: two traces side by side, span by span. The document is that of `trace A --diff B`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use maud::{Markup, html};

use super::layout::block;
use super::trace::whole_id;
use super::{Nav, PageContext, PageError, PageResult, link, parts};
use crate::report::format;
use crate::report::text::{cut, named};
use crate::report::text_diff::{Piece, text_diff};
use crate::report::trace_diff::{Change, ScoreDiff, Side, SpanDiff, SpanSide, TraceDiff, trace_diff};
use crate::serve::App;
use crate::store::Reader;

/// Beyond this many operations two traces are not opened whole.
const MOST: u64 = 20_000;
/// How many pairs are shown at most, those that differ first.
const ROWS: usize = 1_000;
/// How much of one text is compared on a page, in bytes.
const TEXT: usize = 32 * 1024;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/traces/{trace}/diff", get(choose)).route("/traces/{trace}/diff/{other}", get(show))
}

/// The form's way to the page: the other trace as a parameter.
async fn choose(Path(trace): Path<String>, context: PageContext) -> PageResult {
    match context.parameter("with") {
        Some(other) => Ok(Redirect::temporary(&link::path(&["traces", &trace, "diff", other.trim()])).into_response()),
        None => Err(PageError::bad_request("Which trace is to be compared? Give its id, or the beginning of it.")
            .instead("Back to the trace", link::path(&["traces", &trace]))),
    }
}

async fn show(
    State(app): State<Arc<App>>,
    Path((trace, other)): Path<(String, String)>,
    context: PageContext,
) -> PageResult {
    app.read(move |reader| answer(reader, &trace, &other, &context)).await
}

fn answer(reader: &Reader, trace: &str, other: &str, context: &PageContext) -> PageResult {
    let (a, b) = match (whole_id(reader, trace)?, whole_id(reader, other)?) {
        (Ok(a), Ok(b)) => (a.to_string(), b.to_string()),
        (Err(choice), _) | (_, Err(choice)) => return Ok(choice),
    };
    if (a.as_str(), b.as_str()) != (trace, other) {
        return Ok(Redirect::temporary(&context.moved(&link::path(&["traces", &a, "diff", &b]))).into_response());
    }
    let open = |id: &str| {
        // Before any of its spans is read.
        let operations = reader.trace_row(id.parse()?)?.operations;
        if operations > MOST {
            let message = format!(
                "Trace {id} has {} operations; traces of more than {} are not compared.",
                format::count(operations),
                format::count(MOST)
            );
            return Err(PageError::bad_request(message).instead("The trace", link::path(&["traces", id])));
        }
        Ok::<_, PageError>(reader.trace(id)?)
    };
    let diff = trace_diff(&open(&a)?, &open(&b)?);
    Ok(context.answer(&diff, "Two traces", Nav::Traces, || body(context, &diff)))
}

fn body(context: &PageContext, diff: &TraceDiff) -> Markup {
    let all = context.parameter("all").is_some();
    let differing = diff.spans.iter().filter(|span| span.differs()).count();
    // Of many pairs those that differ count; of few all are shown, because the tree is easier to read whole.
    let only_differing = !all && diff.spans.len() > 60 && differing > 0;
    let rows: Vec<&SpanDiff> = diff.spans.iter().filter(|span| !only_differing || span.differs()).collect();
    let swapped = link::path(&["traces", &diff.b.trace_id.to_string(), "diff", &diff.a.trace_id.to_string()]);
    html! {
        nav.crumbs aria-label="Where this is" {
            a href="/traces" { "Traces" } " / "
            a href=(link::path(&["traces", &diff.a.trace_id.to_string()])) { (named(&diff.a.root, 40)) } " / what differs"
        }
        div.head {
            div {
                h1 { "Two traces side by side" }
                p.muted {
                    (format::count(diff.paired)) " operations in both, " (format::count(diff.changed)) " of them differ; "
                    (format::count(diff.only_a)) " only in A, " (format::count(diff.only_b)) " only in B"
                }
            }
            p.actions { a.button.small href=(swapped) { "Swap A and B" } }
        }
        div.card.flush.sides { div.scroll role="region" aria-label="The two traces" tabindex="0" {
            table.list {
                thead { tr { th scope="col" { span.visually-hidden { "Side" } } th scope="col" { "Trace ID" } th scope="col" { "Start time" } th.number scope="col" { "Duration" } th scope="col" { "Status" } th.number scope="col" { "Operations" } th scope="col" { "Run" } } }
                tbody { (side("A", &diff.a, None)) (side("B", &diff.b, Some(diff.duration_delta_ms))) }
            }
        } }
        @if only_differing {
            p.muted { (format::count((diff.spans.len() - differing) as u64)) " operations that are alike are left out. "
                a href=(context.with(&[("all", Some("1"))])) { "Show all" } }
        }
        @if differing == 0 { p.notice { "Nothing but times differs." } }
        div.card.flush {
            div.scroll role="region" aria-label="Operations" tabindex="0" {
                table.list.diff data-rows="" {
                    thead { tr { th scope="col" { "Operation" } th.number scope="col" { "A" } th.number scope="col" { "B" } th.number scope="col" { "Change" } th scope="col" { "Scores" } } }
                    tbody { @for span in rows.iter().take(ROWS) { (row(diff, span)) } }
                }
            }
            @if rows.len() > ROWS { p.pager { (format::count((rows.len() - ROWS) as u64)) " more operations stand in the JSON document." } }
        }
    }
}

fn side(name: &str, side: &Side, delta: Option<f64>) -> Markup {
    html! {
        tr {
            th scope="row" { (name) }
            td.id { a href=(link::path(&["traces", &side.trace_id.to_string()])) { (side.trace_id) } }
            td.nowrap { (parts::time(&side.start_time)) }
            td.number { (format::milliseconds(Some(side.duration_ms))) @if let Some(delta) = delta { " " (longer(delta, side.duration_ms - delta)) } }
            td { @if side.status == "ok" { span.badge.ok { "✓ ok" } } @else { span.badge.error { "✗ " (side.status) } } }
            td.number { (format::count(side.operations)) }
            td { @match &side.run_id { Some(run) => { a href=(link::run(run)) { (run) } } None => (parts::absent()) } }
        }
    }
}

/// A change of duration: small ones are noise and shown as such.
fn longer(delta_ms: f64, before_ms: f64) -> Markup {
    let sign = if delta_ms < 0.0 { "−" } else { "+" };
    let notable = before_ms > 0.0 && (delta_ms / before_ms).abs() > 0.2 && delta_ms.abs() >= 1.0;
    if delta_ms == 0.0 {
        return html! { span.muted { "±0" } };
    }
    html! {
        span class=(if !notable { "muted" } else if delta_ms > 0.0 { "bad" } else { "good" }) {
            (sign) (format::milliseconds(Some(delta_ms.abs())))
            @if notable { span.visually-hidden { @if delta_ms > 0.0 { " slower" } @else { " faster" } } }
        }
    }
}

fn row(diff: &TraceDiff, span: &SpanDiff) -> Markup {
    let link_to = |side: &Option<SpanSide>, trace| side.as_ref().map(|side| link::trace(trace, Some(side.span_id)));
    let (a, b) = (link_to(&span.a, diff.a.trace_id), link_to(&span.b, diff.b.trace_id));
    let class = match (&span.a, &span.b) {
        (None, _) => Some("only-b"),
        (_, None) => Some("only-a"),
        _ => None,
    };
    let length = |side: &Option<SpanSide>, href: Option<String>, open: bool| {
        html! {
            @match (side, href) {
                (Some(side), Some(href)) => {
                    a href=(href) data-open=[open.then_some("")] { @match side.duration_ms { Some(ms) => (format::milliseconds(Some(ms))), None => "open" } }
                    @if side.status == "ERROR" { " " span.badge.error { "error" } }
                }
                _ => (parts::absent()),
            }
        }
    };
    html! {
        tr class=[class] {
            th scope="row" class={ "d" (span.depth.min(12)) } {
                (named(&span.name, 80))
                @if let Some(case) = &span.case_id { " " span.muted { (cut(case, 40)) } }
                @match class { Some("only-a") => { " " span.badge.low { "only in A" } } Some(_) => { " " span.badge.low { "only in B" } } None => {} }
            }
            td.number { (length(&span.a, a, span.b.is_none())) }
            td.number { (length(&span.b, b, true)) }
            td.number { @match (span.duration_delta_ms, span.a.as_ref().and_then(|side| side.duration_ms)) {
                (Some(delta), Some(before)) => (longer(delta, before)),
                _ => (parts::absent()),
            } }
            td { @for score in &span.scores { (score_change(score)) " " } }
        }
        @if !span.changes.is_empty() {
            tr.changes { td colspan="5" class={ "d" (span.depth.min(12)) } { dl { @for change in &span.changes { (changed(change)) } } } }
        }
    }
}

fn score_change(score: &ScoreDiff) -> Markup {
    let shown = |side: &Option<String>| side.as_deref().map_or_else(|| format::ABSENT.to_owned(), |side| cut(side, 40));
    html! {
        @if score.differs() {
            span.badge.low { (cut(&score.name, 40)) " " (shown(&score.a)) " → " (shown(&score.b)) }
            @if let Some(delta) = score.delta { " " (parts::difference(Some(delta), false)) }
        } @else { span.badge { (cut(&score.name, 40)) " " (shown(&score.a)) } }
    }
}

fn changed(change: &Change) -> Markup {
    let head = |text: &str| text.chars().take(TEXT).collect::<String>();
    html! {
        dt { (change.what) @if let Some(key) = &change.key { " " code { (cut(key, 80)) } } }
        dd {
            @match (&change.a, &change.b) {
                (Some(a), Some(b)) => { pre.prose.delta { @for piece in text_diff(&head(a), &head(b)) { (shown(&piece)) } } }
                (Some(a), None) => { p.muted { "only in A" } pre.prose.delta { del { (block(&head(a))) } } }
                (None, Some(b)) => { p.muted { "only in B" } pre.prose.delta { ins { (block(&head(b))) } } }
                (None, None) => {}
            }
        }
    }
}

fn shown(piece: &Piece) -> Markup {
    match piece {
        Piece::Same(same) => html! { (block(same)) },
        Piece::Removed(gone) => html! { del { (block(gone)) } },
        Piece::Added(new) => html! { ins { (block(new)) } },
        Piece::Cut(count) => html! { span.muted { " … " (format::count(*count as u64)) " characters alike … " } },
    }
}

/// Where a trace's page leads to compare it with another one.
pub(super) fn form(trace: &str) -> Markup {
    html! {
        form.inline method="get" action=(link::path(&["traces", trace, "diff"])) {
            label.visually-hidden for="with" { "Compare with the trace of this id" }
            input #with type="text" name="with" placeholder="Another trace id" autocomplete="off" required;
            button.small type="submit" { "What differs" }
        }
    }
}
