//! A model whose answers were recorded: from a file of JSON Lines, or from an earlier run.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use super::chat::{ChatCall, ChatError, ChatModel, ChatReply, ChatRequest, Endpoint};
use super::error::LlmError;
use crate::model::Usage;

/// One recorded answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecordedAnswer {
    /// The case's id.
    pub case_id: String,
    /// Which repeat, from 0.
    pub repeat: u32,
    /// The answer as it came.
    pub output: String,
    /// The model that answered.
    pub model: Option<String>,
    /// Tokens used.
    pub usage: Usage,
    /// Why it ended.
    pub finish_reason: Option<String>,
    /// The endpoint's id of the answer.
    pub response_id: Option<String>,
}

/// Gives recorded answers by case and repeat; texts are kept in memory.
pub struct ReplayModel {
    endpoint: Endpoint,
    answers: HashMap<Box<str>, Vec<Kept>>,
    count: usize,
}

/// An answer as it is kept; what is the same for most of them is kept once.
struct Kept {
    repeat: u32,
    /// Line of the file, or position in the iterator, from 1.
    line: u64,
    text: Box<str>,
    rest: Option<Box<Rest>>,
}

#[derive(Default, PartialEq)]
struct Rest {
    model: Option<String>,
    usage: Usage,
    finish_reason: Option<String>,
    response_id: Option<String>,
}

impl ReplayModel {
    /// Reads JSON Lines with `id` and `output` (or `raw`), optional `repeat`, `model`, `usage`, `finish_reason`; other
    /// fields are left alone. `model` is the name to show.
    pub fn from_file(path: &Path, model: impl Into<String>) -> Result<Self, LlmError> {
        let failed = |source| LlmError::ReadRecording { path: path.to_owned(), source };
        let mut reader = BufReader::new(File::open(path).map_err(failed)?);
        let mut replay = Self::empty(model.into());
        let (mut line, mut number) = (Vec::new(), 0);
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(failed)? == 0 {
                return Ok(replay);
            }
            number += 1;
            let text = if number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line };
            if text.trim_ascii().is_empty() {
                continue;
            }
            let wrong = |problem| LlmError::Recording { path: path.to_owned(), line: number, problem };
            let answer = read_line(text).map_err(wrong)?;
            replay.add(answer, number).map_err(wrong)?;
        }
    }

    /// Takes answers recorded elsewhere; of two for the same case and repeat the later one holds.
    pub fn from_answers(answers: impl IntoIterator<Item = RecordedAnswer>, model: impl Into<String>) -> Self {
        let mut replay = Self::empty(model.into());
        for (number, answer) in (1..).zip(answers) {
            let kept = replay.answers.get_mut(answer.case_id.as_str());
            if let Some(old) = kept.and_then(|kept| kept.iter_mut().find(|old| old.repeat == answer.repeat)) {
                *old = Kept::new(answer, number).1;
            } else {
                replay.add(answer, number).expect("there is none of this case and repeat yet");
            }
        }
        replay
    }

    /// How many answers there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn empty(model: String) -> Self {
        let endpoint = Endpoint { provider_name: "openai", model, address: None, port: None };
        Self { endpoint, answers: HashMap::new(), count: 0 }
    }

    fn add(&mut self, answer: RecordedAnswer, line: u64) -> Result<(), String> {
        let (case_id, kept) = Kept::new(answer, line);
        match self.answers.entry(case_id) {
            Entry::Vacant(entry) => {
                entry.insert(vec![kept]);
            }
            Entry::Occupied(mut entry) => {
                if let Some(old) = entry.get().iter().find(|old| old.repeat == kept.repeat) {
                    return Err(format!(
                        "a second answer for case `{}`, repeat {}; the first is in line {}; remove one of them",
                        entry.key(),
                        kept.repeat,
                        old.line
                    ));
                }
                entry.get_mut().push(kept);
            }
        }
        self.count += 1;
        Ok(())
    }

    fn find(&self, request: &ChatRequest<'_>) -> Result<ChatReply, ChatError> {
        let of_case = self.answers.get(request.case_id);
        let Some(kept) = of_case.and_then(|kept| kept.iter().find(|kept| kept.repeat == request.repeat)) else {
            let others = of_case.map_or(0, Vec::len);
            let message = format!(
                "no recorded answer for case `{}`, repeat {}; the recording holds {} answers, {others} of them for \
                 this case",
                request.case_id, request.repeat, self.count
            );
            return Err(ChatError { error_type: "missing_answer".to_owned(), status: None, message, fatal: false });
        };
        let mut reply = ChatReply { text: kept.text.to_string(), ..ChatReply::default() };
        if let Some(rest) = &kept.rest {
            reply.response_model.clone_from(&rest.model);
            reply.finish_reason.clone_from(&rest.finish_reason);
            reply.response_id.clone_from(&rest.response_id);
            reply.usage = rest.usage;
        }
        Ok(reply)
    }
}

impl Kept {
    fn new(answer: RecordedAnswer, line: u64) -> (Box<str>, Self) {
        let RecordedAnswer { case_id, repeat, output, model, usage, finish_reason, response_id } = answer;
        let rest = Rest { model, usage, finish_reason, response_id };
        let rest = (rest != Rest::default()).then(|| Box::new(rest));
        (case_id.into_boxed_str(), Self { repeat, line, text: output.into_boxed_str(), rest })
    }
}

#[async_trait]
impl ChatModel for ReplayModel {
    async fn chat(&self, request: ChatRequest<'_>) -> ChatCall {
        ChatCall { result: self.find(&request), attempts: 0, failed_attempts: Vec::new() }
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

#[derive(Deserialize)]
struct Line {
    id: Option<Value>,
    output: Option<Value>,
    raw: Option<Value>,
    repeat: Option<u32>,
    model: Option<String>,
    usage: Option<UsageLine>,
    finish_reason: Option<String>,
}

/// Tokens under the names of the API or of our own documents.
#[derive(Debug, Default, Deserialize)]
#[expect(clippy::struct_field_names, reason = "documents name them so")]
pub(crate) struct UsageLine {
    #[serde(alias = "prompt_tokens", alias = "input")]
    input_tokens: Option<u64>,
    #[serde(alias = "completion_tokens", alias = "output")]
    output_tokens: Option<u64>,
    cached_input_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
}

impl From<UsageLine> for Usage {
    fn from(usage: UsageLine) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cached_input_tokens: usage.cached_input_tokens,
            reasoning_tokens: usage.reasoning_tokens,
        }
    }
}

fn read_line(bytes: &[u8]) -> Result<RecordedAnswer, String> {
    let line: Line = serde_json::from_slice(bytes)
        .map_err(|error| format!("{error}; expected a JSON object like {{\"id\":\"c1\",\"output\":\"True\"}}"))?;
    let case_id = match line.id {
        Some(Value::String(id)) => id,
        Some(Value::Number(id)) => id.to_string(),
        Some(other) => return Err(format!("`id` is {other}; expected a text or a number")),
        None => return Err("`id` is missing; expected the case's id".to_owned()),
    };
    // `raw` is the answer as it came; where both are given, `output` is what a parser made of it.
    let output = match (line.raw, line.output) {
        (Some(Value::String(text)), _) | (None | Some(Value::Null), Some(Value::String(text))) => text,
        (None | Some(Value::Null), None | Some(Value::Null)) => {
            return Err(format!("case `{case_id}` has neither `output` nor `raw`; expected the answer's text"));
        }
        (Some(Value::Null) | None, Some(other)) => {
            return Err(format!("`output` of case `{case_id}` is {other}; expected a text"));
        }
        (Some(other), _) => return Err(format!("`raw` of case `{case_id}` is {other}; expected a text")),
    };
    let usage = line.usage.map_or_else(Usage::default, Usage::from);
    Ok(RecordedAnswer {
        case_id,
        repeat: line.repeat.unwrap_or(0),
        output,
        model: line.model,
        usage,
        finish_reason: line.finish_reason,
        response_id: None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::llm::chat::Parameters;
    use crate::model::{SpanId, TraceId};

    fn read(text: &str) -> Result<ReplayModel, LlmError> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        ReplayModel::from_file(file.path(), "recorded")
    }

    async fn ask(model: &ReplayModel, case_id: &str, repeat: u32) -> ChatCall {
        let span = (TraceId::from_bytes([1; 16]), SpanId::from_bytes([1; 8]));
        let parameters = Parameters::default();
        model.chat(ChatRequest { messages: &[], parameters: &parameters, case_id, repeat, span }).await
    }

    #[tokio::test]
    async fn answers_come_back_by_case_and_repeat() {
        let model = read(concat!(
            "\u{feff}{\"id\":\"a\",\"output\":\"True\"}\n\n",
            "{\"id\":\"a\",\"repeat\":1,\"raw\":\" False.\",\"output\":\"False\",\"model\":\"m\",\"finish_reason\":\"stop\",",
            "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2},\"note\":[1]}\r\n",
            "{\"id\":7,\"output\":\"\"}"
        ))
        .expect("sound");
        assert_eq!(model.len(), 3);
        let call = ask(&model, "a", 0).await;
        assert_eq!((call.attempts, call.result.expect("recorded").text.as_str()), (0, "True"));
        let reply = ask(&model, "a", 1).await.result.expect("recorded");
        assert_eq!((reply.text.as_str(), reply.response_model.as_deref()), (" False.", Some("m")));
        assert_eq!((reply.usage.input_tokens, reply.usage.output_tokens), (Some(5), Some(2)));
        assert_eq!(ask(&model, "7", 0).await.result.expect("recorded").text, "");
    }

    #[tokio::test]
    async fn a_missing_answer_is_a_failure_that_says_which() {
        let model = read("{\"id\":\"a\",\"output\":\"True\"}").expect("sound");
        for (case_id, repeat, holds) in [("b", 0, "0 of them"), ("a", 3, "1 of them")] {
            let call = ask(&model, case_id, repeat).await;
            let error = call.result.expect_err("not recorded");
            assert_eq!((error.error_type.as_str(), call.attempts, error.fatal), ("missing_answer", 0, false));
            assert!(error.message.contains(&format!("case `{case_id}`")), "{}", error.message);
            assert!(error.message.contains("holds 1 answers") && error.message.contains(holds), "{}", error.message);
        }
    }

    #[test]
    fn errors_name_the_line_and_what_was_expected() {
        for (text, line, words) in [
            ("{\"id\":\"a\",\"output\":\"x\"}\n{\"id\":", 2, "expected a JSON object"),
            ("{\"output\":\"x\"}", 1, "`id` is missing"),
            ("\n{\"id\":\"a\"}", 2, "neither `output` nor `raw`"),
            ("{\"id\":\"a\",\"output\":1}", 1, "expected a text"),
            ("{\"id\":[],\"output\":\"x\"}", 1, "expected a text or a number"),
            ("{\"id\":\"a\",\"output\":\"x\"}\n{\"id\":\"a\",\"output\":\"y\"}", 2, "the first is in line 1"),
            ("{\"id\":\"a\",\"output\":\"\u{0}\"}", 1, "expected a JSON object"),
        ] {
            let error = read(text).err().expect(text).to_string();
            assert!(error.contains(&format!("line {line}:")) && error.contains(words), "{error}");
        }
        let missing = ReplayModel::from_file(Path::new("/nowhere/x.jsonl"), "m").err().expect("no file").to_string();
        assert!(missing.contains("/nowhere/x.jsonl"), "{missing}");
    }

    #[tokio::test]
    async fn of_a_runs_answers_the_latest_holds() {
        let answer = |output: &str| RecordedAnswer {
            case_id: "a".to_owned(),
            output: output.to_owned(),
            ..RecordedAnswer::default()
        };
        let model = ReplayModel::from_answers([answer("True"), answer("NEE")], "m");
        assert_eq!((model.len(), model.is_empty()), (1, false));
        assert_eq!(ask(&model, "a", 0).await.result.expect("recorded").text, "NEE");
    }
}
