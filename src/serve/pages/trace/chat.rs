//! Messages as a chat: who said what, tool calls and their results, thoughts folded away.

use maud::{Markup, html};

use super::super::layout::{block, text};
use super::values::{Budget, as_json, cut_note};
use crate::report::format::count;
use crate::report::text::cut;
use crate::report::trace_talk::is_usual_end;
use crate::trace::conversation::{Message, Part};

/// Up to this many characters a message is shown whole; longer ones are folded.
const LONG: usize = 2_000;
/// How many messages of one conversation are shown, half of them from its beginning.
const MANY: usize = 60;

/// Messages one below the other; of very many the first and the last.
pub(super) fn messages<'m>(list: impl IntoIterator<Item = &'m Message>, budget: &mut Budget) -> Markup {
    let list: Vec<&Message> = list.into_iter().collect();
    let left_out = list.len().saturating_sub(MANY);
    let (first, last) = if left_out > 0 {
        (list.get(..MANY / 2).unwrap_or_default(), list.get(list.len() - MANY / 2..).unwrap_or_default())
    } else {
        (list.as_slice(), &[][..])
    };
    html! {
        ol.chat {
            @for one in first { (message(one, budget)) }
            @if left_out > 0 { li.muted { "… " (count(left_out as u64)) " messages in between; the raw view has them" } }
            @for one in last { (message(one, budget)) }
        }
    }
}

fn message(message: &Message, budget: &mut Budget) -> Markup {
    // A role is a word of the sender's; only known ones choose a style.
    let style = match message.role.as_str() {
        "system" | "developer" => "system",
        "assistant" | "ai" | "model" | "output" => "assistant",
        "tool" | "function" => "tool",
        _ => "user",
    };
    html! {
        li class={ "message " (style) } {
            p.who {
                b { (cut(&message.role, 40)) }
                @if let Some(name) = &message.name { " " (cut(name, 60)) }
                @if message.output && style != "tool" { span.muted { " · answer" } }
                @if let Some(why) = &message.finish_reason {
                    " " span.badge.low[!is_usual_end(why)] { "finish: " (cut(why, 40)) }
                }
            }
            @if message.parts.is_empty() { p.absent { "no content recorded" } }
            @for part in &message.parts { (part_of(part, budget)) }
        }
    }
}

fn part_of(part: &Part, budget: &mut Budget) -> Markup {
    match part {
        Part::Text(said) => html! { (words(said, budget)) },
        Part::Reasoning(thought) => html! {
            details.thought { summary { "Reasoning" } (words(thought, budget)) }
        },
        Part::ToolCall { id, name, arguments } => html! {
            div.call {
                p.who { "calls " code { (cut(name, 80)) } @if let Some(id) = id { " " span.muted { (cut(id, 40)) } } }
                @if !arguments.is_empty() { (words(arguments, budget)) }
            }
        },
        Part::ToolResult { id, content } => html! {
            div.call {
                p.who { "result" @if let Some(id) = id { " of " span.muted { (cut(id, 40)) } } }
                (words(content, budget))
            }
        },
        Part::Other { kind, about } => html! {
            p.other { span.badge { (cut(kind, 40)) } " " (text(&about.chars().take(300).collect::<String>())) }
        },
    }
}

fn words(said: &str, budget: &mut Budget) -> Markup {
    let json = as_json(said);
    let whole = json.as_deref().unwrap_or(said);
    let (shown, cut) = budget.take(whole);
    let body = html! {
        pre.words.code[json.is_some()] { (block(shown)) @if cut > 0 { (cut_note(cut)) } }
    };
    if shown.len() <= LONG {
        return body;
    }
    let head: String = shown.chars().take(160).collect();
    html! {
        details { summary { (text(&head)) "… " span.muted { "(" (count(whole.chars().count() as u64)) " characters)" } } (body) }
    }
}
