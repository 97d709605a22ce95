//! What was said in the model calls of a trace, call by call; and how that looks on a terminal.

use std::collections::BTreeMap;

use super::format::{self, count};
use super::style::{Style, Tone};
use super::text::{clean, put, wrap};
use crate::model::{LogRecord, Span, SpanId, Value};
use crate::store::rows::TraceDetail;
use crate::trace::conversation::{Conversation, Message, Part, conversation};
use crate::trace::semconv;

/// How many calls back one may be that a call goes on from.
const LOOK_BACK: usize = 8;

/// A model call, or another operation that says what it was given and gave back.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Index of its span in [`TraceDetail::spans`].
    pub span: usize,
    /// What was said.
    pub talk: Conversation,
    /// How many of its first messages are those of the call before: its history with the answer, for agents send all of it
    /// anew, or its instructions.
    pub repeated: usize,
}

/// The calls by start. Where there are model calls, callers that only pass on what these say are left out.
pub fn calls(detail: &TraceDetail, within: impl Fn(&Span) -> bool) -> Vec<Call> {
    let mut logs: BTreeMap<SpanId, Vec<LogRecord>> = BTreeMap::new();
    for (log, _) in &detail.logs {
        if let Some(span) = log.span_id {
            logs.entry(span).or_default().push(log.clone());
        }
    }
    let found: Vec<(usize, bool, Conversation)> = detail
        .spans
        .iter()
        .enumerate()
        .filter(|(_, span)| within(span))
        .filter_map(|(i, span)| {
            let talk = conversation(span, logs.get(&span.span_id).map_or(&[][..], Vec::as_slice));
            (!talk.is_empty()).then(|| (i, is_model_call(span), talk))
        })
        .collect();
    let any_call = found.iter().any(|(_, call, _)| *call);
    let mut calls: Vec<Call> = Vec::new();
    for (span, _, talk) in found.into_iter().filter(|(_, call, _)| *call || !any_call) {
        // A tool may have run between two calls of one conversation.
        let before = calls.iter().rev().take(LOOK_BACK);
        let repeated = before.map(|before| repeated(&before.talk, &talk)).max().unwrap_or(0);
        calls.push(Call { span, talk, repeated });
    }
    calls
}

fn is_model_call(span: &Span) -> bool {
    let is = |key: &str, words: &[&str]| matches!(span.get(key), Some(Value::Str(word)) if words.iter().any(|known| word.eq_ignore_ascii_case(known)));
    is(semconv::GEN_AI_OPERATION_NAME, &["chat", "text_completion", "generate_content", "execute_tool"])
        || is(semconv::OPENINFERENCE_SPAN_KIND, &["LLM", "TOOL"])
        || span.get(semconv::GEN_AI_REQUEST_MODEL).is_some()
}

fn repeated(before: &Conversation, now: &Conversation) -> usize {
    let known = before.messages.iter().zip(now.input());
    let same = known.take_while(|(old, new)| old.role == new.role && old.text() == new.text()).count();
    // Either the call goes on where the one before ended, or it has nothing but its instructions in common with it.
    let goes_on = same > before.input().count();
    let instructions =
        now.input().take(same).take_while(|message| matches!(message.role.as_str(), "system" | "developer")).count();
    if goes_on { same } else { instructions }
}

/// The calls as text.
pub fn render(detail: &TraceDetail, calls: &[Call], style: Style) -> String {
    if calls.is_empty() {
        return "no messages are recorded; runs record them with --capture-content\n".to_owned();
    }
    let mut out = String::new();
    for (i, call) in calls.iter().enumerate() {
        let span = &detail.spans[call.span];
        let length = span.end_unix_nano.saturating_sub(span.start_unix_nano);
        let lead = if i > 0 { "\n" } else { "" };
        put!(
            out,
            "{lead}{}  {} {}\n",
            style.paint(Tone::Strong, &clean(&span.name)),
            span.span_id,
            style.paint(Tone::Faint, &format::duration(length))
        );
        if call.repeated > 0 {
            let messages = if call.repeated == 1 { "message" } else { "messages" };
            let line = format!("  ({} {messages} as in a call before)", count(call.repeated as u64));
            put!(out, "{}\n", style.paint(Tone::Faint, &line));
        }
        for message in call.talk.input().skip(call.repeated).chain(call.talk.output()) {
            said(&mut out, message, style);
        }
    }
    out
}

/// Whether a model stopped because it had said what it wanted to.
pub fn is_usual_end(finish_reason: &str) -> bool {
    let reason = finish_reason.to_ascii_lowercase();
    ["stop", "tool_call", "tool_calls", "function_call", "end_turn", "tool_use", "complete", "completed"]
        .contains(&reason.as_str())
}

fn said(out: &mut String, message: &Message, style: Style) {
    let why = message.finish_reason.as_ref().filter(|why| !is_usual_end(why));
    let why = why.map(|why| format!(" (finish: {why})")).unwrap_or_default();
    let name = message.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let mark = if message.output { "←" } else { "→" };
    put!(out, "  {mark} {}\n", style.paint(Tone::Strong, &clean(&format!("{}{name}{why}", message.role))));
    for part in &message.parts {
        let text = match part {
            Part::Text(text) => text.clone(),
            Part::Reasoning(text) => format!("(reasoning) {text}"),
            Part::ToolCall { name, arguments, .. } => format!("calls {name}({arguments})"),
            Part::ToolResult { content, .. } => format!("result: {content}"),
            Part::Other { kind, about } => format!("[{kind} {about}]"),
        };
        for paragraph in text.split('\n') {
            for line in wrap(paragraph, style.width.saturating_sub(4).max(20)) {
                out.push_str(format!("    {line}").trim_end());
                out.push('\n');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn with_messages() -> TraceDetail {
        let mut trace = fixture::trace();
        for (at, input, output) in [
            (2, r#"[{"role":"system","content":"Judge."},{"role":"user","content":"Is water wet?"}]"#, "True."),
            (
                4,
                r#"[{"role":"system","content":"Judge."},{"role":"user","content":"Is water wet?"},
                    {"role":"assistant","content":"True."},{"role":"user","content":"Sure?\nReally \u001b[31m?"}]"#,
                "Yes.",
            ),
        ] {
            trace.spans[at].set(semconv::GEN_AI_OPERATION_NAME, "chat");
            trace.spans[at].set(semconv::GEN_AI_INPUT_MESSAGES, input.to_owned());
            let output = format!(r#"[{{"role":"assistant","content":"{output}","finish_reason":"length"}}]"#);
            trace.spans[at].set(semconv::GEN_AI_OUTPUT_MESSAGES, output);
        }
        trace.spans[0].set(semconv::INPUT_VALUE, "what the caller passed on");
        trace
    }

    #[test]
    fn calls_show_what_is_new_in_them() {
        let trace = with_messages();
        let calls = calls(&trace, |_| true);
        insta::assert_snapshot!(render(&trace, &calls, Style::plain(80)), @r#"
        chat lexical-baseline  b7ad6b7169203303 28.0 ms
          → system
            Judge.
          → user
            Is water wet?
          ← assistant (finish: length)
            True.

        chat lexical-baseline  b7ad6b7169203305 35.0 ms
          (3 messages as in a call before)
          → user
            Sure?
            Really ␛[31m?
          ← assistant (finish: length)
            Yes.
        "#);
    }

    #[test]
    fn without_model_calls_other_operations_tell_what_they_were_given() {
        let trace = with_messages();
        let first = calls(&trace, |span| span.span_id == trace.spans[0].span_id);
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].talk.messages[0].text(), "what the caller passed on");
        assert!(render(&trace, &[], Style::plain(80)).contains("--capture-content"));
    }
}
