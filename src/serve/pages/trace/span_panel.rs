//! Everything about the selected operation: what went in and came out, timing, errors, scores, attributes, events, links,
//! log records, and who made it.

use std::borrow::Cow;

use maud::{Markup, html};

use super::super::layout::{block, text};
use super::super::link;
use super::chat;
use super::record::Record;
use super::scene::Scene;
use super::values::{Budget, attributes, long_text, name};
use super::waterfall::{oddities, score_badge};
use crate::model::{Evaluation, Event, Key, Link, LogRecord, SpanKind, Status, Value};
use crate::report::format::{self, count};
use crate::report::text::{cut, named};
use crate::store::rows::{SpanDetail, SpanScore};
use crate::trace::conversation::{self, Conversation};
use crate::trace::semconv;

/// How many events, links and log records are shown of each.
const MANY: usize = 50;

/// The panel of the selected span.
pub(super) fn panel(scene: &Scene, position: usize, detail: &SpanDetail, record: Option<&Record>) -> Markup {
    let span = &detail.span;
    let mut budget = Budget::panel();
    let talk = conversation::conversation(span, &detail.logs);
    let (exceptions, events): (Vec<&Event>, Vec<&Event>) =
        span.events.iter().partition(|event| event.name == semconv::event::EXCEPTION);
    html! {
        (heading(scene, position, detail))
        (failures(span.status.clone(), &exceptions, detail, &mut budget))
        (scores(scene, position, &detail.scores))
        @if let Some(record) = record { (record.markup(scene, span.span_id, &mut budget)) }
        (input_and_output(detail, &talk, record.is_some(), &mut budget))
        (timing(scene, position, detail))
        (attribute_section(&span.attributes, &talk, &mut budget))
        (event_section(span.start_unix_nano, &events, &mut budget))
        (link_section(&span.links, &mut budget))
        (log_section(span.start_unix_nano, &detail.logs, &mut budget))
        (origin(detail, &mut budget))
        @let dropped = [
            (span.dropped_attributes_count, "attributes"), (span.dropped_events_count, "events"), (span.dropped_links_count, "links"),
        ];
        @for (n, what) in dropped.iter().filter(|(n, _)| *n > 0) {
            p.notice.low { (count(u64::from(*n))) " " (what) " were dropped by the sender before they came here." }
        }
    }
}

fn heading(scene: &Scene, position: usize, detail: &SpanDetail) -> Markup {
    let span = &detail.span;
    let parent = scene.tree.nodes[position].parent;
    let zoomed = scene.context.parameter("zoom").is_some();
    let id = span.span_id.to_string();
    html! {
        div.panel-head {
            h2 #operation { (named(&span.name, 200)) }
            p.tags {
                span.badge { (span.kind.as_str().to_lowercase()) }
                @match &span.status {
                    Status::Error(_) => { span.badge.error { "error" } }
                    Status::Ok => { span.badge.ok { "ok" } }
                    Status::Unset if span.is_open() => { span.badge.live { "open" } }
                    Status::Unset => { span.badge { "no error" } }
                }
                (oddities(scene, position))
            }
            p.muted {
                "span " code { (id) }
                @if let Some(parent) = parent { " · called by " a href=(scene.at(parent)) { (named(&scene.span(parent).name, 60)) } }
                @else if let Some(id) = span.parent_span_id {
                    " · its parent " code { (id) }
                    @if scene.tree.nodes[position].marks.cycle { " is one of its own descendants" } @else { " is not in the store" }
                }
            }
            nav.steps aria-label="Operations" {
                @if position > 0 { a.button.small href=(scene.at(position - 1)) rel="prev" data-previous="" { "← Previous" } }
                @if position + 1 < scene.tree.nodes.len() { a.button.small href=(scene.at(position + 1)) rel="next" data-next="" { "Next →" } }
                @if zoomed { a.button.small href=(scene.context.with(&[("zoom", None)])) { "Whole trace" } }
                @else if scene.length(position) < scene.skeleton.row.duration_ns {
                    a.button.small href=(scene.context.with(&[("zoom", Some(&id)), ("span", Some(&id))])) { "Zoom to it" }
                }
            }
        }
    }
}

fn failures(status: Status, exceptions: &[&Event], detail: &SpanDetail, budget: &mut Budget) -> Markup {
    let failed = matches!(status, Status::Error(_));
    if !failed && exceptions.is_empty() {
        return Markup::default();
    }
    let get = |event: &Event, wanted: &str| {
        event.attributes.iter().find(|(key, _)| key == wanted).map(|(_, value)| shown(value))
    };
    html! {
        section.failure {
            h3 { @if failed { "Error" } @else { "Exceptions" } }
            @if let Status::Error(message) = &status {
                @if let Some(kind) = detail.span.get(semconv::ERROR_TYPE) { p { span.badge.error { (cut(&shown(kind), 80)) } } }
                @if message.is_empty() && exceptions.is_empty() { p.muted { "The sender gave no description." } }
                @if !message.is_empty() { pre.prose { (block(budget.take(message).0)) } }
            }
            @for event in exceptions.iter().take(MANY) {
                div.exception {
                    p { b { (cut(&get(event, semconv::EXCEPTION_TYPE).unwrap_or_else(|| "exception".to_owned()), 120)) }
                        @if let Some(message) = get(event, semconv::EXCEPTION_MESSAGE) { ": " (text(budget.take(&message).0)) }
                    }
                    @if let Some(stack) = get(event, semconv::EXCEPTION_STACKTRACE) {
                        details open[stack.lines().count() <= 15] {
                            summary { "Stack trace, " (count(stack.lines().count() as u64)) " lines" }
                            pre.code { (block(budget.take(&stack).0)) }
                        }
                    }
                }
            }
        }
    }
}

fn scores(scene: &Scene, position: usize, list: &[SpanScore]) -> Markup {
    if list.is_empty() {
        return Markup::default();
    }
    let trace = scene.skeleton.row.trace_id;
    let call = judged_call(scene, position);
    html! {
        section {
            h3 { "Scores" }
            ul.scores {
                @for score in list {
                    li {
                        p {
                            (score_badge(score, scene.is_low(score)))
                            @if let Some(kind) = &score.annotator_kind { " " span.muted { "by " (cut(&kind.to_lowercase(), 40)) } }
                            @if score.external { " " span.muted { "· came with the telemetry" } }
                        }
                        @match &score.evaluation {
                            Evaluation::Scored { explanation: Some(why), .. } => { pre.prose { (block(why)) } }
                            Evaluation::Failed { message, .. } => { pre.prose { (block(message)) } }
                            Evaluation::Skipped { reason } => { pre.prose { (block(reason)) } }
                            Evaluation::Scored { .. } => {}
                        }
                        @if let Some((judge_trace, judge)) = score.evaluator_span {
                            p { a data-judge href=(if judge_trace == trace { scene.address_of(judge) } else { link::trace(judge_trace, Some(judge)) }) {
                                "The judge's own span" @if judge_trace != trace { " (in another trace)" }
                            } }
                        }
                    }
                }
            }
            @if let Some(call) = call {
                p { "The call that was judged: " a data-call href=(scene.at(call)) { (named(&scene.span(call).name, 60)) } }
            }
        }
    }
}

/// The first call below a span that is no judge's.
fn judged_call(scene: &Scene, position: usize) -> Option<usize> {
    let end = position + scene.tree.nodes[position].descendants;
    let mut at = position + 1;
    while at <= end {
        let span = scene.span(at);
        if span.name.starts_with(semconv::span::EVALUATE_PREFIX) {
            at += scene.tree.nodes[at].descendants + 1;
            continue;
        }
        if span.kind == SpanKind::Client {
            return Some(at);
        }
        at += 1;
    }
    None
}

fn input_and_output(detail: &SpanDetail, talk: &Conversation, recorded: bool, budget: &mut Budget) -> Markup {
    if talk.is_empty() {
        let model_call = detail.span.get(semconv::GEN_AI_REQUEST_MODEL).is_some();
        return html! {
            @if model_call && !recorded {
                section {
                    h3 { "Input and output" }
                    p.muted { "The application did not record what was said. "
                        code { "spanscore run --capture-content" } " records it; other applications heed "
                        code { "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true" } "." }
                }
            }
        };
    }
    html! {
        section {
            @if talk.input().next().is_some() { h3 { "Input" } (chat::messages(talk.input(), budget)) }
            @if talk.output().next().is_some() { h3 { "Output" } (chat::messages(talk.output(), budget)) }
        }
    }
}

fn timing(scene: &Scene, position: usize, detail: &SpanDetail) -> Markup {
    let (span, row) = (&detail.span, &scene.skeleton.row);
    let length = scene.length(position);
    let own = own_time(scene, position);
    let share = |part: u64| format!("{:.1} %", part as f64 * 100.0 / row.duration_ns.max(1) as f64);
    html! {
        section {
            h3 { "Timing" }
            dl.facts {
                dt { "Start" }
                dd { (format::rfc3339(span.start_unix_nano)) br;
                    span.muted {
                        @match span.start_unix_nano.saturating_sub(row.start_unix_nano) {
                            0 => "at the start of the trace",
                            after => { (format::duration(after)) " after the trace began" }
                        }
                    } }
                dt { "Duration" }
                dd { @if span.is_open() { "open" } @else { (format::duration(length)) }
                    span.muted { ", " (share(length)) " of the trace" } }
                dt { "Self time" }
                dd { (format::duration(own)) span.muted { ", in which no operation below it ran" } }
            }
        }
    }
}

/// What no child covers of the span's time.
fn own_time(scene: &Scene, position: usize) -> u64 {
    let start = scene.span(position).start_unix_nano;
    let end = start + scene.length(position);
    let (mut covered, mut until) = (0, start);
    for child in scene.tree.children(position) {
        let from = scene.span(child).start_unix_nano.max(until);
        let to = (scene.span(child).start_unix_nano + scene.length(child)).min(end);
        if to > from {
            covered += to - from;
            until = to;
        }
    }
    (end - start).saturating_sub(covered)
}

fn attribute_section(list: &[(Key, Value)], talk: &Conversation, budget: &mut Budget) -> Markup {
    let told = |key: &str| !talk.is_empty() && conversation::carries(key);
    // What the sections above show already is there for completeness.
    let scored = |key: &str| {
        [semconv::EVALUATIONS_PREFIX, semconv::GEN_AI_EVALUATION_PREFIX].iter().any(|prefix| key.starts_with(prefix))
    };
    let (again, own): (Vec<_>, Vec<_>) = list.iter().cloned().partition(|(key, _)| told(key) || scored(key));
    html! {
        section {
            h3 { "Attributes" span.muted { " " (count(list.len() as u64)) } }
            @if list.is_empty() { p.muted { "None." } }
            @if !own.is_empty() { (attributes(&own, budget)) }
            @if !again.is_empty() {
                details { summary { (count(again.len() as u64)) " more, shown above as messages or scores" } (attributes(&again, budget)) }
            }
        }
    }
}

fn event_section(start: u64, events: &[&Event], budget: &mut Budget) -> Markup {
    if events.is_empty() {
        return Markup::default();
    }
    html! {
        section {
            h3 { "Events" span.muted { " " (count(events.len() as u64)) } }
            @for event in events.iter().take(MANY) {
                details open[events.len() <= 3 && event.name != semconv::event::EVALUATION_RESULT] {
                    summary { (name(&event.name, budget)) span.muted { " " (after(event.time_unix_nano, start)) } }
                    @if event.attributes.is_empty() { p.muted { "No attributes." } }
                    @else { (attributes(&event.attributes, budget)) }
                }
            }
            (rest(events.len()))
        }
    }
}

fn link_section(links: &[Link], budget: &mut Budget) -> Markup {
    if links.is_empty() {
        return Markup::default();
    }
    html! {
        section {
            h3 { "Links to other spans" span.muted { " " (count(links.len() as u64)) } }
            @for one in links.iter().take(MANY) {
                p { a href=(link::trace(one.trace_id, Some(one.span_id))) { "span " code { (one.span_id) } " of trace " code { (one.trace_id) } } }
                @if !one.attributes.is_empty() { (attributes(&one.attributes, budget)) }
            }
            (rest(links.len()))
        }
    }
}

fn log_section(start: u64, logs: &[LogRecord], budget: &mut Budget) -> Markup {
    if logs.is_empty() {
        return Markup::default();
    }
    html! {
        section {
            h3 { "Log records" span.muted { " " (count(logs.len() as u64)) } }
            @for log in logs.iter().take(MANY) {
                @let time = if log.time_unix_nano == 0 { log.observed_unix_nano } else { log.time_unix_nano };
                details {
                    summary {
                        @if !log.severity_text.is_empty() { span.badge { (cut(&log.severity_text, 20)) } " " }
                        @if log.event_name.is_empty() { (headline(&log.body)) } @else { (name(&log.event_name, budget)) }
                        span.muted { " " (after(time, start)) }
                    }
                    @if log.body != Value::Empty { (long_text(&shown(&log.body), budget)) }
                    @if !log.attributes.is_empty() { (attributes(&log.attributes, budget)) }
                }
            }
            (rest(logs.len()))
        }
    }
}

fn origin(detail: &SpanDetail, budget: &mut Budget) -> Markup {
    let origin = &detail.origin;
    html! {
        section {
            h3 { "Made by" }
            @if origin.scope_name.is_empty() { p.muted { "The instrumentation scope is not known." } }
            @else {
                p { (cut(&origin.scope_name, 120)) @if !origin.scope_version.is_empty() { " " span.muted { (cut(&origin.scope_version, 40)) } } }
            }
            @if !origin.scope_attributes.is_empty() { (attributes(&origin.scope_attributes, budget)) }
            details {
                summary { "Resource" span.muted { " " (count(origin.resource.len() as u64)) } }
                (attributes(&origin.resource, budget))
            }
        }
    }
}

fn rest(all: usize) -> Markup {
    html! { @if all > MANY { p.muted { (count((all - MANY) as u64)) " more stand in the raw view." } } }
}

fn after(time: u64, start: u64) -> Cow<'static, str> {
    match time.checked_sub(start) {
        _ if time == 0 => Cow::Borrowed(""),
        Some(after) => Cow::Owned(format!("after {}", format::duration(after))),
        None => Cow::Owned(format!("{} before its start", format::duration(start - time))),
    }
}

fn headline(body: &Value) -> String {
    let text = cut(&shown(body), 80);
    if text.is_empty() { "log record".to_owned() } else { text }
}

pub(super) fn shown(value: &Value) -> String {
    crate::report::trace_documents::shown_value(value)
}
