//! The conversation view: what was said in the model calls of a trace, in the order of time. What a call repeats of the one
//! before it is folded, for agents send their whole history each time.

use std::collections::HashMap;

use maud::{Markup, html};

use super::chat;
use super::scene::Scene;
use super::values::Budget;
use super::waterfall::score_badge;
use super::window::WHOLE;
use crate::model::{Span, SpanId};
use crate::report::format::{self, count};
use crate::report::text::{cut, named};
use crate::report::trace_talk::{Call, calls};
use crate::store::rows::{SpanDetail, TraceDetail};
use crate::trace::conversation::{Message, conversation};

/// How many calls are shown on a page.
const CALLS: usize = 25;

/// What the view was given to read.
pub(super) enum Source {
    /// The whole trace.
    Whole(Box<TraceDetail>),
    /// The selected span of a trace that is too large to be opened whole.
    One(Box<SpanDetail>),
}

struct Shown {
    position: usize,
    call: Call,
}

/// The view.
pub(super) fn view(scene: &Scene, source: &Source) -> Markup {
    let (calls, note) = match source {
        Source::Whole(detail) => (of_trace(scene, detail), None),
        Source::One(detail) => {
            let talk = conversation(&detail.span, &detail.logs);
            let position = scene.selected.unwrap_or_default();
            let call = Shown { position, call: Call { span: 0, talk, repeated: 0 } };
            let calls = if call.call.talk.is_empty() { Vec::new() } else { vec![call] };
            let note = format!(
                "The trace has {} operations; beyond {} only the conversation of the selected one is shown.",
                count(scene.skeleton.row.operations),
                count(WHOLE as u64)
            );
            (calls, Some(note))
        }
    };
    let page = scene.context.parameter("page").and_then(|page| page.parse::<usize>().ok()).unwrap_or(1).max(1) - 1;
    let pages = calls.len().div_ceil(CALLS).max(1);
    let page = page.min(pages - 1);
    let shown = calls.get(page * CALLS..calls.len().min((page + 1) * CALLS)).unwrap_or_default();
    let mut budget = Budget::page();
    html! {
        @if let Some(note) = note { p.notice { (note) } }
        @if let Some(top) = scope(scene) {
            p.muted {
                "Below " b { (cut(&scene.span(top).name, 80)) } ": " (count(calls.len() as u64)) " calls. "
                @if matches!(source, Source::Whole(_)) { a href=(scene.context.with(&[("span", None), ("page", None)])) { "The whole trace" } }
            }
        }
        @if shown.is_empty() {
            div.notice {
                p { "No messages are recorded here." }
                p.muted { "Runs record them with " code { "--capture-content" } "; OpenTelemetry's instrumentations with "
                    code { "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true" } "." }
            }
        }
        @for call in shown { (one(scene, call, &mut budget)) }
        @if pages > 1 {
            nav.pager aria-label="Calls" {
                @if page > 0 { a.button.small rel="prev" href=(scene.context.with(&[("page", Some(&page.to_string()))])) { "← Earlier" } }
                span { "Page " (page + 1) " of " (pages) }
                @if page + 1 < pages { a.button.small rel="next" href=(scene.context.with(&[("page", Some(&(page + 2).to_string()))])) { "Later →" } }
            }
        }
    }
}

/// The model calls of a trace that say something, by start.
fn of_trace(scene: &Scene, detail: &TraceDetail) -> Vec<Shown> {
    let positions: HashMap<SpanId, usize> =
        (0..scene.tree.nodes.len()).map(|position| (scene.span(position).span_id, position)).collect();
    let top = scope(scene);
    let inside = |span: &Span| {
        let position = positions.get(&span.span_id);
        position.is_some_and(|at| top.is_none_or(|top| (top..=top + scene.tree.nodes[top].descendants).contains(at)))
    };
    let of = |call: Call| Shown { position: positions[&detail.spans[call.span].span_id], call };
    calls(detail, inside).into_iter().map(of).collect()
}

/// The span that the address names: only what is below it is shown. The root stands for the whole trace.
fn scope(scene: &Scene) -> Option<usize> {
    scene.selected.filter(|&at| scene.chosen && at > 0)
}

fn one(scene: &Scene, shown: &Shown, budget: &mut Budget) -> Markup {
    let Shown { position, call } = shown;
    let span = scene.span(*position);
    let input: Vec<&Message> = call.talk.input().collect();
    let (old, new) = input.split_at(call.repeated.min(input.len()));
    let selected = scene.selected == Some(*position);
    html! {
        section.talk.current[selected] data-row {
            header {
                h2 { a data-open href=(scene.context.with(&[("view", None), ("page", None), ("span", Some(&span.span_id.to_string()))])) { (named(&span.name, 100)) } }
                @if let Some(trial) = std::iter::once(*position).chain(scene.tree.ancestors(*position).take(64)).find(|&at| scene.cases.contains_key(&scene.span(at).span_id)) {
                    @if let Some(case) = scene.cases.get(&scene.span(trial).span_id) { span { (cut(case.as_str(), 40)) } }
                    @for score in scene.scores(trial).into_iter().filter(|score| scene.is_low(score)) { (score_badge(score, true)) }
                }
                @for score in scene.scores(*position) { (score_badge(score, scene.is_low(score))) }
                span.muted { (format::duration(scene.length(*position))) }
            }
            @if !old.is_empty() {
                details { summary { (count(old.len() as u64)) @if old.len() == 1 { " message" } @else { " messages" } " as in a call before" } (chat::messages(old.iter().copied(), budget)) }
            }
            (chat::messages(new.iter().copied().chain(call.talk.output()), budget))
        }
    }
}
