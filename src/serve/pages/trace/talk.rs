//! The conversation view: what was said in the model calls of a trace, in the order of time. What a call repeats of the one
//! before it is folded, for agents send their whole history each time.

use maud::{Markup, html};

use super::chat;
use super::scene::Scene;
use super::values::Budget;
use super::window::WHOLE;
use crate::model::{LogRecord, Span, SpanId, Value};
use crate::report::format::{self, count};
use crate::report::text::cut;
use crate::store::rows::{SpanDetail, TraceDetail};
use crate::trace::conversation::{Conversation, Message, conversation};
use crate::trace::semconv;

/// How many calls are shown on a page.
const CALLS: usize = 25;

/// What the view was given to read.
pub(super) enum Source {
    /// The whole trace.
    Whole(TraceDetail),
    /// The selected span of a trace that is too large to be opened whole.
    One(Box<SpanDetail>),
}

struct Call {
    position: usize,
    talk: Conversation,
}

/// The view.
pub(super) fn view(scene: &Scene, source: &Source) -> Markup {
    let (mut calls, note) = match source {
        Source::Whole(detail) => (of_trace(scene, detail), None),
        Source::One(detail) => {
            let talk = conversation(&detail.span, &detail.logs);
            let position = scene.selected.unwrap_or_default();
            let calls = if talk.is_empty() { Vec::new() } else { vec![Call { position, talk }] };
            let note = format!(
                "The trace has {} operations; beyond {} only the conversation of the selected one is shown.",
                count(scene.skeleton.row.operations),
                count(WHOLE as u64)
            );
            (calls, Some(note))
        }
    };
    let all = calls.len();
    let scope = scene.selected.filter(|&at| scene.chosen && at > 0);
    if let Some(top) = scope {
        calls.retain(|call| (top..=top + scene.tree.nodes[top].descendants).contains(&call.position));
    }
    let page = scene.context.parameter("page").and_then(|page| page.parse::<usize>().ok()).unwrap_or(1).max(1) - 1;
    let pages = calls.len().div_ceil(CALLS).max(1);
    let page = page.min(pages - 1);
    let shown = calls.get(page * CALLS..calls.len().min((page + 1) * CALLS)).unwrap_or_default();
    let mut budget = Budget::page();
    html! {
        @if let Some(note) = note { p.notice { (note) } }
        @if let Some(top) = scope {
            p.muted {
                "Below " b { (cut(&scene.span(top).name, 80)) } ": " (count(calls.len() as u64)) " of " (count(all as u64)) " calls. "
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
        @for (i, call) in shown.iter().enumerate() {
            @let before = i.checked_sub(1).map(|before| &shown[before].talk);
            (one(scene, call, before, &mut budget))
        }
        @if pages > 1 {
            nav.pager aria-label="Calls" {
                @if page > 0 { a.button.small rel="prev" href=(scene.context.with(&[("page", Some(&page.to_string()))])) { "← Earlier" } }
                span { "Page " (page + 1) " of " (pages) }
                @if page + 1 < pages { a.button.small rel="next" href=(scene.context.with(&[("page", Some(&(page + 2).to_string()))])) { "Later →" } }
            }
        }
    }
}

/// The model calls of a trace that say something, by start. Callers that only pass on what a call below them said are left
/// out.
fn of_trace(scene: &Scene, detail: &TraceDetail) -> Vec<Call> {
    let mut logs: std::collections::BTreeMap<SpanId, Vec<LogRecord>> = std::collections::BTreeMap::new();
    for (log, _) in &detail.logs {
        if let Some(span) = log.span_id {
            logs.entry(span).or_default().push(log.clone());
        }
    }
    let spans: std::collections::HashMap<SpanId, &Span> =
        detail.spans.iter().map(|span| (span.span_id, span)).collect();
    let found: Vec<(usize, bool, Conversation)> = (0..scene.tree.nodes.len())
        .filter_map(|position| {
            let span = spans.get(&scene.span(position).span_id)?;
            let talk = conversation(span, logs.get(&span.span_id).map_or(&[][..], Vec::as_slice));
            (!talk.is_empty()).then(|| (position, is_model_call(span), talk))
        })
        .collect();
    let any_call = found.iter().any(|(_, call, _)| *call);
    let mut calls: Vec<Call> = found
        .into_iter()
        .filter(|(_, call, _)| *call || !any_call)
        .map(|(position, _, talk)| Call { position, talk })
        .collect();
    calls.sort_by_key(|call| (scene.span(call.position).start_unix_nano, call.position));
    calls
}

fn is_model_call(span: &Span) -> bool {
    let is = |key: &str, words: &[&str]| matches!(span.get(key), Some(Value::Str(word)) if words.iter().any(|known| word.eq_ignore_ascii_case(known)));
    is(semconv::GEN_AI_OPERATION_NAME, &["chat", "text_completion", "generate_content", "execute_tool"])
        || is(semconv::OPENINFERENCE_SPAN_KIND, &["LLM", "TOOL"])
        || span.get(semconv::GEN_AI_REQUEST_MODEL).is_some()
}

fn one(scene: &Scene, call: &Call, before: Option<&Conversation>, budget: &mut Budget) -> Markup {
    let span = scene.span(call.position);
    let input: Vec<&Message> = call.talk.input().collect();
    let repeated = before.map_or(0, |before| repeated(before, &input));
    let (old, new) = input.split_at(repeated);
    let selected = scene.selected == Some(call.position);
    html! {
        section.talk.current[selected] data-row {
            header {
                h2 { a data-open href=(scene.context.with(&[("view", None), ("page", None), ("span", Some(&span.span_id.to_string()))])) { (cut(&span.name, 100)) } }
                span.muted { (format::duration(scene.length(call.position))) }
            }
            @if !old.is_empty() {
                details { summary { (count(old.len() as u64)) " messages as in the call before" } (chat::messages(old.iter().copied(), budget)) }
            }
            (chat::messages(new.iter().copied().chain(call.talk.output()), budget))
        }
    }
}

/// How many messages of an input are those of the call before, its answer included.
fn repeated(before: &Conversation, input: &[&Message]) -> usize {
    let known = before.messages.iter().zip(input);
    let same = known.take_while(|(old, new)| old.role == new.role && old.text() == new.text()).count();
    // A shared system prompt alone is no history.
    if same >= 2 { same } else { 0 }
}
