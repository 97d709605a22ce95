//! What `evaluate()` of azure-ai-evaluation writes, read as scores: `{"rows": [{"inputs.NAME": …, "outputs.EVALUATOR.FIELD": …}]}`.
//!
//! Source: azure-ai-evaluation 1.18, which tells the fields of a metric by their endings (`_score`, `_result`, `_reason`,
//! `_threshold`). Python writes NaN into its JSON; NaN and null are no score, never 0.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value as Json};

use super::files::{FileError, open, rest};
use crate::model::{SpanId, TraceId};

/// A document of more bytes than this is taken for a fault.
const MAX_DOCUMENT: usize = 512 << 20;

const EXPECTED: &str = "what `evaluate(…, output_path=FILE)` of azure-ai-evaluation writes: {\"rows\": [{\"inputs.…\": …, \
                        \"outputs.EVALUATOR.…\": …}], …}";

/// A row of the results.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvaluatedRow {
    /// Whose they are.
    pub keys: Keys,
    /// One for each metric that has a value or a label.
    pub results: Vec<EvaluatedScore>,
    /// Metrics without: not evaluated, or failed.
    pub unscored: u64,
}

/// What a row says about the answer that was judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// `inputs.trace_id`.
    pub trace_id: Option<TraceId>,
    /// `inputs.span_id`.
    pub span_id: Option<SpanId>,
    /// `inputs.response_id`.
    pub response_id: Option<String>,
    /// `inputs.run_id`.
    pub run_id: Option<String>,
    /// `inputs.case_id`.
    pub case_id: Option<String>,
    /// `inputs.repeat`; `None` where it is not said.
    pub repeat: Option<u32>,
}

/// A score.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvaluatedScore {
    /// The evaluator, and behind a dot the metric, where it has several.
    pub name: String,
    /// A finite number.
    pub value: Option<f64>,
    /// `pass`, `fail` or another word.
    pub label: Option<String>,
    /// Why.
    pub explanation: Option<String>,
    /// From which value on it passes.
    pub threshold: Option<f64>,
}

/// Reads a file.
///
/// # Errors
/// A file that cannot be read, or is something else.
pub fn read(path: &Path) -> Result<Vec<EvaluatedRow>, FileError> {
    let mut whole = Vec::new();
    rest(path, &mut *open(path)?, MAX_DOCUMENT, &mut whole)?;
    let whole = whole.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&whole);
    let wrong = |problem: String| FileError::content(path, problem, EXPECTED);
    let document: Json =
        serde_json::from_slice(&without_nan(whole)).map_err(|error| wrong(format!("it is no JSON: {error}")))?;
    let rows = match document {
        Json::Array(rows) => rows,
        Json::Object(mut fields) => match fields.remove("rows") {
            Some(Json::Array(rows)) => rows,
            _ => return Err(wrong("it has no list `rows`".to_owned())),
        },
        _ => return Err(wrong("it is neither an object nor a list".to_owned())),
    };
    let rows = rows.into_iter().enumerate().map(|(at, row)| match row {
        Json::Object(fields) => Ok(row_of(&fields)),
        _ => Err(wrong(format!("rows[{at}] is no object"))),
    });
    let rows: Vec<EvaluatedRow> = rows.collect::<Result<_, _>>()?;
    if !rows.is_empty() && rows.iter().all(|row| row.results.is_empty() && row.unscored == 0) {
        return Err(wrong("none of its rows has a field `outputs.EVALUATOR.…`".to_owned()));
    }
    Ok(rows)
}

/// JSON as Python writes it, with `null` for the words that JSON does not have.
fn without_nan(text: &[u8]) -> Vec<u8> {
    const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let mut out = Vec::with_capacity(text.len());
    let (mut at, mut inside) = (0, false);
    while let Some(&byte) = text.get(at) {
        let word = WORDS.iter().find(|word| !inside && text.get(at..).is_some_and(|rest| rest.starts_with(word)));
        match (byte, word) {
            (_, Some(word)) => {
                out.extend_from_slice(b"null");
                at += word.len();
                continue;
            }
            (b'\\', None) if inside => {
                out.push(byte);
                at += 1;
                out.extend(text.get(at));
            }
            (byte, None) => {
                inside ^= byte == b'"';
                out.push(byte);
            }
        }
        at += 1;
    }
    out
}

fn row_of(fields: &Map<String, Json>) -> EvaluatedRow {
    let mut row = EvaluatedRow::default();
    let mut by_evaluator: BTreeMap<&str, Vec<(&str, &Json)>> = BTreeMap::new();
    for (name, value) in fields {
        if let Some((evaluator, field)) = name.strip_prefix("outputs.").and_then(|rest| rest.split_once('.')) {
            by_evaluator.entry(evaluator).or_default().push((field, value));
            continue;
        }
        let Some(text) = text(value) else { continue };
        let keys = &mut row.keys;
        // Nested data of a data source stands behind further dots: `inputs.item.trace_id`.
        match name.rsplit('.').next().unwrap_or(name) {
            "trace_id" => keys.trace_id = keys.trace_id.or(text.replace('-', "").parse().ok()),
            "span_id" => keys.span_id = keys.span_id.or(text.parse().ok()),
            "response_id" => keys.response_id = keys.response_id.take().or(Some(text)),
            "run_id" => keys.run_id = keys.run_id.take().or(Some(text)),
            "case_id" => keys.case_id = keys.case_id.take().or(Some(text)),
            "repeat" => keys.repeat = keys.repeat.or(text.parse().ok()),
            _ => {}
        }
    }
    for (evaluator, fields) in by_evaluator {
        for metric in metrics(evaluator, &fields) {
            match metric.score(evaluator) {
                Some(score) => row.results.push(score),
                None => row.unscored += 1,
            }
        }
    }
    row
}

/// A text or a whole number as text: what was a text of digits comes back from a data frame as a number.
fn text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) if !text.is_empty() => Some(text.clone()),
        Json::Number(number) => match number.as_f64() {
            Some(x) if x.fract() == 0.0 && x.abs() < 9e15 => Some(format!("{x:.0}")),
            _ => Some(number.to_string()),
        },
        _ => None,
    }
}

/// What is said of one metric.
#[derive(Debug, Default)]
struct Metric {
    /// Its name; empty where the fields are named without one.
    name: String,
    /// Whether a number is among its fields, even one that is none.
    has_number: bool,
    value: Option<f64>,
    word: Option<String>,
    label: Option<String>,
    passed: Option<bool>,
    explanation: Option<String>,
    threshold: Option<f64>,
}

/// The metrics of an evaluator.
fn metrics(evaluator: &str, fields: &[(&str, &Json)]) -> Vec<Metric> {
    let mut found: Vec<Metric> = Vec::new();
    let mut of = |name: &str| -> usize {
        let name = if name == evaluator { "" } else { name };
        found.iter().position(|metric| metric.name == name).unwrap_or_else(|| {
            found.push(Metric { name: name.to_owned(), ..Metric::default() });
            found.len() - 1
        })
    };
    let mut said: Vec<(usize, Field, &Json)> = Vec::new();
    for (name, value) in fields {
        // `f1_score` ends like a score, but beside `f1_score_result` it is the metric itself.
        let is_metric = fields.iter().any(|(other, _)| {
            let end = other.strip_prefix(name).and_then(|end| end.strip_prefix('_'));
            end.is_some_and(|end| ENDINGS.iter().any(|(known, _)| *known == end))
        });
        let known = field(name).map(|found| if is_metric { (*name, Field::Plain) } else { found });
        let Some((metric, field)) = known else { continue };
        said.push((of(metric), field, value));
    }
    for (at, field, value) in said {
        found[at].take(field, value);
    }
    // Fields without a metric's name belong to the only one that there is.
    if let [_, _] = found.as_slice()
        && let Some(at) = found.iter().position(|metric| metric.name.is_empty() && !metric.says_something())
    {
        let nameless = found.remove(at);
        found[0].explanation = found[0].explanation.take().or(nameless.explanation);
        found[0].threshold = found[0].threshold.or(nameless.threshold);
        found[0].label = found[0].label.take().or(nameless.label);
        found[0].passed = found[0].passed.or(nameless.passed);
    }
    // An evaluator's only metric goes by the evaluator's name.
    if let [metric] = found.as_mut_slice() {
        metric.name.clear();
    }
    found
}

#[derive(Debug, Clone, Copy)]
enum Field {
    Value,
    Label,
    Passed,
    Explanation,
    Threshold,
    /// A number, or a word, without an ending.
    Plain,
}

/// How fields end that say something of a metric.
const ENDINGS: [(&str, Field); 6] = [
    ("score", Field::Value),
    ("result", Field::Label),
    ("label", Field::Label),
    ("reason", Field::Explanation),
    ("threshold", Field::Threshold),
    ("passed", Field::Passed),
];

/// The metric that a field belongs to, and what it says of it; `None` of what is no result.
fn field(name: &str) -> Option<(&str, Field)> {
    let none = ["properties", "sample", "error", "status", "details", "usage"];
    let ends = ["_finish_reason", "_model", "_tokens", "_status", "_properties", "_sample_input", "_sample_output"];
    // `gpt_relevance` says again what `relevance` says.
    let again = name.starts_with("gpt_");
    if none.iter().any(|part| name == *part || name.strip_prefix(part).is_some_and(|rest| rest.starts_with('.')))
        || ends.iter().any(|end| name.ends_with(end))
        || name.starts_with("evaluation_per_turn")
        || again
    {
        return None;
    }
    for (end, field) in ENDINGS {
        if name == end {
            return Some(("", field));
        }
        if let Some(metric) = name.strip_suffix(end).and_then(|rest| rest.strip_suffix('_')) {
            return Some((metric, field));
        }
    }
    Some((name, Field::Plain))
}

impl Metric {
    fn take(&mut self, field: Field, value: &Json) {
        let word = || value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        match field {
            Field::Value => {
                self.has_number = true;
                self.value = value.as_f64();
            }
            Field::Label => self.label = word().or(value.as_bool().map(pass)),
            Field::Passed => self.passed = value.as_bool(),
            Field::Explanation => self.explanation = word(),
            Field::Threshold => self.threshold = value.as_f64(),
            Field::Plain => match value {
                Json::Bool(x) => self.passed = Some(*x),
                Json::Number(_) | Json::Null => {
                    self.has_number = true;
                    self.value = self.value.or(value.as_f64());
                }
                _ => self.word = word(),
            },
        }
    }

    const fn says_something(&self) -> bool {
        self.has_number || self.value.is_some() || self.word.is_some()
    }

    /// The score, if there is one. Where a number was to be and is none, the word beside it is no result either.
    fn score(self, evaluator: &str) -> Option<EvaluatedScore> {
        let assertion = (!self.has_number).then_some(self.passed).flatten();
        let value = self.value.filter(|x| x.is_finite()).or(assertion.map(|x| f64::from(u8::from(x))));
        let label = self.label.or(self.passed.map(pass)).or(self.word);
        if value.is_none() && (self.has_number || label.is_none()) {
            return None;
        }
        let name = if self.name.is_empty() { evaluator.to_owned() } else { format!("{evaluator}.{}", self.name) };
        Some(EvaluatedScore { name, value, label, explanation: self.explanation, threshold: self.threshold })
    }
}

fn pass(passed: bool) -> String {
    if passed { "pass" } else { "fail" }.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn results(fields: &Json) -> (Vec<EvaluatedScore>, u64) {
        let row = row_of(fields.as_object().expect("an object"));
        (row.results, row.unscored)
    }

    fn score(name: &str, value: Option<f64>, label: Option<&str>) -> EvaluatedScore {
        EvaluatedScore { name: name.to_owned(), value, label: label.map(str::to_owned), ..EvaluatedScore::default() }
    }

    #[test]
    fn each_kind_of_evaluator_gives_its_scores() {
        let check = |fields: Json, expected: &[EvaluatedScore]| assert_eq!(results(&fields).0, expected, "{fields}");
        check(
            json!({"outputs.relevance.relevance": 4.0, "outputs.relevance.gpt_relevance": 4.0,
                   "outputs.relevance.relevance_reason": "on topic", "outputs.relevance.relevance_result": "pass",
                   "outputs.relevance.relevance_threshold": 3, "outputs.relevance.relevance_prompt_tokens": 900}),
            &[EvaluatedScore {
                explanation: Some("on topic".to_owned()),
                threshold: Some(3.0),
                ..score("relevance", Some(4.0), Some("pass"))
            }],
        );
        check(
            json!({"outputs.F1_score.f1_score": 0.0, "outputs.F1_score.f1_result": "fail", "outputs.F1_score.f1_threshold": 0.5}),
            &[EvaluatedScore { threshold: Some(0.5), ..score("F1_score", Some(0.0), Some("fail")) }],
        );
        check(
            json!({"outputs.safety.violence": "Very low", "outputs.safety.violence_score": 0, "outputs.safety.sexual": "Low",
                   "outputs.safety.sexual_score": 2}),
            &[score("safety.violence", Some(0.0), Some("Very low")), score("safety.sexual", Some(2.0), Some("Low"))],
        );
        check(
            json!({"outputs.grader.score": 1.0, "outputs.grader.passed": true, "outputs.grader.sample": {}}),
            &[score("grader", Some(1.0), Some("pass"))],
        );
        check(
            json!({"outputs.f1.f1_score": 1.0, "outputs.f1.f1_score_score": 1.0, "outputs.f1.f1_score_passed": true,
                   "outputs.f1.f1_score_result": "pass", "outputs.f1.f1_score_reason": null, "outputs.f1.f1_score_status": "completed",
                   "outputs.f1.f1_score_threshold": 0.5, "outputs.f1.f1_score_properties": null}),
            &[EvaluatedScore { threshold: Some(0.5), ..score("f1", Some(1.0), Some("pass")) }],
        );
        check(json!({"outputs.length.answer_length": 5}), &[score("length", Some(5.0), None)]);
        check(
            json!({"outputs.tone.tone": "kind", "outputs.ok.ok": false}),
            &[score("ok", Some(0.0), Some("fail")), score("tone", None, Some("kind"))],
        );
    }

    #[test]
    fn what_was_not_scored_is_no_zero() {
        let (found, unscored) = results(&json!({
            "outputs.relevance.relevance": null, "outputs.relevance.relevance_result": "fail", "outputs.f1.f1_score": null,
        }));
        assert_eq!((found, unscored), (Vec::new(), 2));
    }

    #[test]
    fn python_s_words_become_null_outside_of_texts() {
        let text = br#"{"a": NaN, "b": [-Infinity, Infinity], "c": "NaN \" NaN", "d": "\\"}"#;
        let expected = r#"{"a": null, "b": [null, null], "c": "NaN \" NaN", "d": "\\"}"#;
        assert_eq!(String::from_utf8(without_nan(text)).as_deref(), Ok(expected));
    }

    #[test]
    fn keys_are_found_under_any_prefix() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let row = row_of(
            json!({"inputs.trace_id": id, "inputs.item.span_id": "b7ad6b7169203331", "inputs.repeat": 1.0,
            "inputs.case_id": 14.0, "inputs.base_trace_id": "x", "response_id": "r-1"})
            .as_object()
            .expect("an object"),
        );
        let keys = Keys {
            trace_id: id.parse().ok(),
            span_id: "b7ad6b7169203331".parse().ok(),
            response_id: Some("r-1".to_owned()),
            run_id: None,
            case_id: Some("14".to_owned()),
            repeat: Some(1),
        };
        assert_eq!(row.keys, keys);
    }
}
