//! What was said to a model and what it answered, in one form, however the application recorded it.
//!
//! Three generations of conventions are in use, and they meet in one trace:
//!
//! 1. `parts`: messages made of parts, as JSON text or structured, in `gen_ai.input.messages`, `gen_ai.output.messages` and
//!    `gen_ai.system_instructions` on the span or on `gen_ai.client.inference.operation.details` (OpenTelemetry 1.37 on);
//! 2. `events`: one span event or log record per message (`gen_ai.user.message`, `gen_ai.choice`);
//! 3. `flat`: one attribute per field of a message (`gen_ai.prompt.0.role`, OpenInference's
//!    `llm.input_messages.0.message.role`), or all of it as one text (`input.value`).
//!
//! The first one that says something counts, for input and output apart, because several of them tell the same twice. How a
//! conversation looks is left to others.

mod events;
mod flat;
mod parts;
mod value;

use crate::model::{LogRecord, Span};

/// The messages of one operation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conversation {
    /// What was sent, then what came back.
    pub messages: Vec<Message>,
}

/// One message.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, `tool`, or what the application calls it; `input` and `output` where it
    /// says no more than that.
    pub role: String,
    /// The speaker's name, where there is one.
    pub name: Option<String>,
    /// What is said.
    pub parts: Vec<Part>,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// Whether the operation gave this back; otherwise it was given it.
    pub output: bool,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Words.
    Text(String),
    /// What the model thought before it answered.
    Reasoning(String),
    /// The model asks for a tool.
    ToolCall {
        /// Id of the call.
        id: Option<String>,
        /// Which tool.
        name: String,
        /// With what, mostly JSON.
        arguments: String,
    },
    /// What a tool gave back.
    ToolResult {
        /// Id of the call that it answers.
        id: Option<String>,
        /// The result, mostly JSON.
        content: String,
    },
    /// An image, a file, or something unknown: named, not shown.
    Other {
        /// What it is: `image`, `audio`, `file`, or the type that the application gave it.
        kind: String,
        /// What is known of it: media type, address, size.
        about: String,
    },
}

impl Conversation {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// What the operation was given.
    pub fn input(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(|message| !message.output)
    }

    /// What it gave back.
    pub fn output(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(|message| message.output)
    }
}

impl Message {
    /// Its words, tool calls and results as plain text, one below the other.
    pub fn text(&self) -> String {
        let texts: Vec<String> = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Text(text) | Part::Reasoning(text) => text.clone(),
                Part::ToolCall { name, arguments, .. } => format!("{name}({arguments})"),
                Part::ToolResult { content, .. } => content.clone(),
                Part::Other { kind, about } => format!("[{kind} {about}]"),
            })
            .collect();
        texts.join("\n")
    }
}

/// Whether an attribute of this name is told as part of a conversation, so that it need not be shown a second time.
pub fn carries(key: &str) -> bool {
    use crate::trace::semconv as name;
    let whole = [
        name::GEN_AI_SYSTEM_INSTRUCTIONS,
        name::GEN_AI_INPUT_MESSAGES,
        name::GEN_AI_OUTPUT_MESSAGES,
        name::GEN_AI_TOOL_CALL_ARGUMENTS,
        name::GEN_AI_TOOL_CALL_RESULT,
        name::GEN_AI_PROMPT,
        name::GEN_AI_COMPLETION,
        name::INPUT_VALUE,
        name::OUTPUT_VALUE,
        name::TRACELOOP_ENTITY_INPUT,
        name::TRACELOOP_ENTITY_OUTPUT,
        name::MLFLOW_SPAN_INPUTS,
        name::MLFLOW_SPAN_OUTPUTS,
    ];
    let indexed = [name::GEN_AI_PROMPT, name::GEN_AI_COMPLETION, name::LLM_INPUT_MESSAGES, name::LLM_OUTPUT_MESSAGES];
    let numbered =
        |rest: &str| rest.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    whole.contains(&key) || indexed.iter().any(|prefix| key.strip_prefix(prefix).is_some_and(numbered))
}

/// The conversation of a span, with the log records that belong to it.
pub fn conversation(span: &Span, logs: &[LogRecord]) -> Conversation {
    let mut found = [Vec::new(), Vec::new()];
    for source in [parts::of_span, parts::of_details, events::of_span, events::of_logs, flat::indexed, flat::whole] {
        let messages = source(span, logs);
        // Without what was sent, an answer of another kind of record still belongs to it, and the other way round.
        for (side, output) in found.iter_mut().zip([false, true]) {
            if side.is_empty() {
                side.extend(messages.iter().filter(|message| message.output == output).cloned());
            }
        }
        if found.iter().all(|side| !side.is_empty()) {
            break;
        }
    }
    Conversation { messages: found.into_iter().flatten().collect() }
}

#[cfg(test)]
mod tests;
