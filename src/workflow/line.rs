//! The line protocol between a run and a workflow that is a program or an HTTP endpoint: one JSON object per case each way.
//!
//! Out goes `{"id","repeat","claim","context","traceparent","otlp_endpoint"}`, back comes `{"id","output"}` or `{"id","error"}`
//! with whatever else the application cares to tell. Unknown fields of an answer are ignored.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AnswerParser, Assessment};
use crate::llm::redact;
use crate::llm::replay::UsageLine;
use crate::llm::{Price, cost};
use crate::model::{Case, Failure, Outcome, Usage};
use crate::net::quote;

/// The largest answer accepted, in bytes.
pub const MAX_ANSWER: usize = 32 << 20;

/// The class of an answer that says that the application failed, where it names none itself.
const WORKFLOW_ERROR: &str = "workflow_error";

/// The class of an answer that is none.
pub(super) const INVALID: &str = "invalid_response";

/// What the application is told of a case.
#[derive(Debug, Serialize)]
struct Question<'a> {
    id: &'a str,
    repeat: u32,
    claim: &'a str,
    context: &'a str,
    traceparent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    otlp_endpoint: Option<&'a str>,
}

/// A case as one JSON object, without a newline.
pub(super) fn question(case: &Case, repeat: u32, traceparent: &str, otlp_endpoint: Option<&str>) -> Vec<u8> {
    let Case { id, claim, context, .. } = case;
    let question = Question { id: id.as_str(), repeat, claim, context, traceparent, otlp_endpoint };
    serde_json::to_vec(&question).expect("texts and numbers serialise")
}

/// An answer as it came.
#[derive(Debug, Default, Deserialize)]
struct Line {
    output: Option<Value>,
    error: Option<Value>,
    usage: Option<UsageLine>,
    response_id: Option<String>,
    model: Option<String>,
    finish_reason: Option<String>,
    cost_usd: Option<f64>,
}

/// An answer that was understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// The case that it answers, if it says so.
    pub(super) id: Option<String>,
    /// Which repeat, if it says so.
    pub(super) repeat: Option<u32>,
    /// The answer's text, or why there is none.
    pub(super) result: Result<String, Failure>,
    usage: Usage,
    response_id: Option<String>,
    model: Option<String>,
    finish_reason: Option<String>,
    cost_usd: Option<f64>,
}

impl Answer {
    /// Reads an answer; an error says why these bytes are none. An object that names a case but does not answer it is an
    /// answer with a failure, so that its trial need not wait for another. A failure repeats none of the secrets.
    pub(super) fn read(bytes: &[u8], secrets: &[impl AsRef<str>]) -> Result<Self, String> {
        let mut value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if !value.is_object() {
            return Err("it is no JSON object".to_owned());
        }
        let (id, repeat) = match value.get("id") {
            None | Some(Value::Null) => (None, None),
            Some(Value::String(id)) => (Some(id.clone()), repeat_of(&value)),
            Some(Value::Number(id)) => (Some(id.to_string()), repeat_of(&value)),
            Some(_) => return Err("its `id` is neither a text nor a number".to_owned()),
        };
        if let Some(error) = value.get_mut("error") {
            hide_all(error, secrets);
        }
        let line = serde_json::from_value::<Line>(value);
        Ok(match line {
            Ok(line) => Self::of(id, repeat, line),
            Err(error) => {
                let problem = hide(&error.to_string(), secrets);
                Self::of(id, repeat, Line::default()).with_failure(invalid(problem))
            }
        })
    }

    fn of(id: Option<String>, repeat: Option<u32>, line: Line) -> Self {
        let result = match (line.error, line.output) {
            (None | Some(Value::Null | Value::Bool(false)), Some(Value::String(text))) => Ok(text),
            (None | Some(Value::Null | Value::Bool(false)), None | Some(Value::Null)) => {
                Err(invalid("it has neither `output` nor `error`".to_owned()))
            }
            (None | Some(Value::Null | Value::Bool(false)), Some(other)) => {
                Err(invalid(format!("its `output` is {}, expected a text", kind_of(&other))))
            }
            (Some(error), _) => Err(failure(&error)),
        };
        Self {
            id,
            repeat,
            result,
            usage: line.usage.map_or_else(Usage::default, Usage::from),
            response_id: line.response_id,
            model: line.model,
            finish_reason: line.finish_reason,
            cost_usd: line.cost_usd.filter(|usd| usd.is_finite() && *usd >= 0.0),
        }
    }

    fn with_failure(mut self, failure: Failure) -> Self {
        self.result = Err(failure);
        self
    }

    /// The tokens that it says were used, input and output together.
    pub(super) fn tokens(&self) -> Option<u64> {
        Some(self.usage.input_tokens? + self.usage.output_tokens?)
    }

    /// What a trial records of it. A failure's message does not repeat the case's own words.
    pub(super) fn into_assessment(
        self,
        case: &Case,
        parser: &AnswerParser,
        price: Option<&Price>,
        attempts: u32,
        latency_ns: u64,
    ) -> Assessment {
        let filtered = self.finish_reason.as_deref() == Some("content_filter");
        let (outcome, raw_output) = match self.result {
            // A filtered answer is no answer: it must not pass for one that is merely unparseable.
            Ok(text) if filtered => {
                let message = "the application's model withheld the answer (finish_reason content_filter)".to_owned();
                (Outcome::Failed(Failure { error_type: "content_filter".to_owned(), message }), Some(text))
            }
            Ok(text) => (Outcome::Completed { predicted: parser.parse(&text) }, Some(text)),
            Err(failure) => (Outcome::Failed(without_case(failure, case)), None),
        };
        let raw_output = raw_output.filter(|text| !filtered || !text.is_empty());
        let mut assessment = Assessment::answered(outcome, String::new());
        assessment.raw_output = raw_output;
        assessment.attempts = attempts;
        assessment.latency_ns = latency_ns;
        assessment.cost_usd = self.cost_usd.or_else(|| cost(&self.usage, price));
        assessment.usage = self.usage;
        assessment.finish_reason = self.finish_reason;
        assessment.response_id = self.response_id;
        assessment.response_model = self.model;
        assessment
    }
}

/// A trial without an answer.
pub(super) fn failed(error_type: &str, message: String, case: &Case, attempts: u32, latency_ns: u64) -> Assessment {
    let failure = without_case(Failure { error_type: error_type.to_owned(), message }, case);
    let mut assessment = Assessment::answered(Outcome::Failed(failure), String::new());
    assessment.raw_output = None;
    assessment.attempts = attempts;
    assessment.latency_ns = latency_ns;
    assessment
}

/// Claims and contexts are no more for error messages than prompts are.
fn without_case(mut failure: Failure, case: &Case) -> Failure {
    failure.message = redact::without_texts(failure.message, &[&case.claim, &case.context]);
    failure
}

/// The text without the secrets; before it is cut, so that no part of one stays.
pub(super) fn hide(text: &str, secrets: &[impl AsRef<str>]) -> String {
    let known = secrets.iter().map(AsRef::as_ref).filter(|secret| !secret.is_empty());
    known.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

/// An error, a text or an object of texts, without the secrets.
fn hide_all(error: &mut Value, secrets: &[impl AsRef<str>]) {
    match error {
        Value::String(text) => *text = hide(text, secrets),
        Value::Object(fields) => {
            for (_, field) in fields.iter_mut() {
                if let Value::String(text) = field {
                    *text = hide(text, secrets);
                }
            }
        }
        _ => {}
    }
}

/// A failure in the application's own words: a text, or an object with `type` and `message`.
fn failure(error: &Value) -> Failure {
    let (error_type, message) = match error {
        Value::String(text) => (None, text.clone()),
        Value::Object(fields) => {
            let text = |key: &str| fields.get(key).and_then(Value::as_str);
            (text("type").and_then(class), text("message").unwrap_or_default().to_owned())
        }
        _ => (None, String::new()),
    };
    let message = quote(&message);
    Failure {
        error_type: error_type.unwrap_or_else(|| WORKFLOW_ERROR.to_owned()),
        message: if message.is_empty() {
            "the application reports an error without a message".to_owned()
        } else {
            message
        },
    }
}

/// A class that can be counted: one word, not a sentence.
fn class(text: &str) -> Option<String> {
    let fits =
        !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-:".contains(c));
    fits.then(|| text.to_owned())
}

fn invalid(problem: String) -> Failure {
    let message = format!("the answer cannot be used: {}", quote(&problem));
    Failure { error_type: INVALID.to_owned(), message }
}

fn repeat_of(value: &Value) -> Option<u32> {
    value.get("repeat").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok())
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CaseId, Digest, Label, Predicted, SpanId, TraceId};
    use crate::trace::traceparent::TraceParent;

    const NONE: &[&str] = &[];

    fn case() -> Case {
        Case {
            seq: 0,
            id: CaseId::parse("c1").expect("valid"),
            claim: "Bees dance \"there\".".to_owned(),
            context: "A bee dances,\nand all the others follow it home.".to_owned(),
            expected: None,
            group: None,
            columns: Vec::new(),
            digest: Digest::from_bytes([0; 32]),
        }
    }

    #[test]
    fn a_question_is_one_line_with_the_promised_names() {
        let parent = TraceParent::sampled(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8])).to_string();
        let bytes = question(&case(), 3, &parent, Some("http://127.0.0.1:9"));
        assert!(!bytes.contains(&b'\n'));
        let value: Value = serde_json::from_slice(&bytes).expect("JSON");
        let names: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
        assert_eq!(names, ["id", "repeat", "claim", "context", "traceparent", "otlp_endpoint"]);
        assert_eq!(value["traceparent"], "00-01010101010101010101010101010101-0202020202020202-01");
        assert_eq!(value["context"], case().context);
    }

    #[test]
    fn an_answer_carries_what_it_tells() {
        let line = br#"{"id":"c1","repeat":1,"output":" True. ","usage":{"prompt_tokens":7,"output_tokens":2},"model":"m","finish_reason":"stop","response_id":"r","cost_usd":0.5,"more":[1]}"#;
        let answer = Answer::read(line, NONE).expect("an answer");
        assert_eq!((answer.id.as_deref(), answer.repeat, answer.tokens()), (Some("c1"), Some(1), Some(9)));
        let made = answer.into_assessment(&case(), &AnswerParser::default(), None, 1, 5);
        assert_eq!(made.outcome, Outcome::Completed { predicted: Predicted::Label(Label::True) });
        assert_eq!((made.raw_output.as_deref(), made.cost_usd, made.attempts), (Some(" True. "), Some(0.5), 1));
        assert_eq!((made.response_model.as_deref(), made.response_id.as_deref()), (Some("m"), Some("r")));
    }

    #[test]
    fn an_answer_without_an_output_is_a_failure_that_says_why() {
        for (line, error_type, words) in [
            (r#"{"id":"c1"}"#, "invalid_response", "neither `output` nor `error`"),
            (r#"{"id":"c1","output":true}"#, "invalid_response", "a truth value, expected a text"),
            (r#"{"id":"c1","output":"x","usage":"many"}"#, "invalid_response", "cannot be used"),
            (r#"{"id":7,"error":"no luck"}"#, "workflow_error", "no luck"),
            (
                r#"{"id":"c1","error":{"type":"RateLimit","message":"slow down"},"output":"True"}"#,
                "RateLimit",
                "slow down",
            ),
            (r#"{"id":"c1","error":{"type":"two words"}}"#, "workflow_error", "without a message"),
        ] {
            let failure = Answer::read(line.as_bytes(), NONE).expect(line).result.expect_err(line);
            assert_eq!(failure.error_type, error_type, "{line}");
            assert!(failure.message.contains(words), "{}", failure.message);
        }
        for rubbish in ["", "True", "[1]", "\"c1\"", "{\"id\":", "{\"id\":[]}"] {
            assert!(Answer::read(rubbish.as_bytes(), NONE).is_err(), "{rubbish}");
        }
    }

    #[test]
    fn an_error_repeats_neither_case_nor_key() {
        let line = br#"{"id":"c1","error":"bad request for: and all the others follow it home. with sk-abcdef"}"#;
        let answer = Answer::read(line, NONE).expect("an answer");
        let Outcome::Failed(failure) = answer.into_assessment(&case(), &AnswerParser::default(), None, 1, 5).outcome
        else {
            panic!("a failure");
        };
        assert!(failure.message.starts_with("bad request for:"), "{}", failure.message);
        assert!(!failure.message.contains("follow it") && !failure.message.contains("abcdef"), "{}", failure.message);
    }

    #[test]
    fn an_error_repeats_no_secret_that_is_known() {
        let secret = "canary-7f3e-1b2c-9d4a";
        // One stands where the message is cut.
        let long = format!("{}{secret}", "x".repeat(290));
        for line in [
            serde_json::json!({"id": "c1", "error": format!("login with {secret} failed")}),
            serde_json::json!({"id": "c1", "error": long}),
            serde_json::json!({"id": "c1", "error": {"type": secret, "message": format!("{secret}\nagain {secret}")}}),
            serde_json::json!({"id": "c1", "output": "x", "usage": secret}),
        ] {
            let answer = Answer::read(line.to_string().as_bytes(), &["", secret]).expect("an answer");
            let failure = answer.result.expect_err("a failure");
            let said = format!("{} {}", failure.error_type, failure.message);
            assert!(!said.contains("canary"), "{said}");
        }
    }

    #[test]
    fn a_withheld_answer_is_a_failure() {
        let answer =
            Answer::read(br#"{"id":"c1","output":"","finish_reason":"content_filter"}"#, NONE).expect("an answer");
        let made = answer.into_assessment(&case(), &AnswerParser::default(), None, 1, 5);
        assert!(matches!(made.outcome, Outcome::Failed(failure) if failure.error_type == "content_filter"));
    }
}
