//! Evaluation results in telemetry of any application: what becomes a score.
//!
//! Sources: OpenTelemetry GenAI conventions v1.41.1 (`gen_ai.evaluation.result` as span event and as log record, and its
//! attributes on a span); OpenInference `spec/annotations.md` (`evaluations.<i>.evaluation.*`, spans of kind EVALUATOR).

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::semconv::{self as sc, event};
use crate::model::{Evaluation, Finite, Key, LogRecord, Span, SpanId, TraceId, Value};

/// The most scores that a span carries; what is beyond is no honest telemetry, and would cost time without end.
const MOST: usize = 256;

/// How a score came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// As the attributes of its span.
    Attributes,
    /// As an inline evaluation of OpenInference.
    Inline,
    /// As an event of its span.
    Event,
    /// As a log record.
    Log,
}

/// The trial that a score says it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// `test.suite.run.id`.
    pub run: String,
    /// `test.case.id`.
    pub case: String,
    /// `spanscore.trial.repeat`; 0 where it is not said.
    pub repeat: i64,
}

/// A score that came with telemetry.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignScore {
    /// Its name.
    pub name: String,
    /// What was said; scored or failed.
    pub evaluation: Evaluation,
    /// Who said it: `LLM`, `CODE`, `HUMAN`.
    pub annotator_kind: Option<String>,
    /// What tells it from others of its name.
    pub identifier: Option<String>,
    /// The answer that was judged.
    pub response_id: Option<String>,
    /// How it came.
    pub source: Source,
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// The span it sits on; `None` where only the trace is known.
    pub span_id: Option<SpanId>,
    /// The span in which a judge came to it, if that is another one.
    pub judge: Option<(TraceId, SpanId)>,
    /// The trial it belongs to.
    pub subject: Option<Subject>,
    /// Set on the second and further scores of one name on one span.
    distinction: Option<String>,
}

impl ForeignScore {
    /// The same for the same score, however it comes, and within its trace for no other: scores of a trial by run, case,
    /// repeat and name, others by span and name.
    pub fn identity(&self) -> i64 {
        let mut hash = Sha256::new();
        let mut part = |text: &[u8]| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        match (&self.subject, &self.span_id) {
            (Some(Subject { run, case, repeat }), _) => {
                part(b"trial");
                part(run.as_bytes());
                part(case.as_bytes());
                part(&repeat.to_be_bytes());
            }
            (None, Some(span)) => part(span.as_bytes()),
            (None, None) => part(b""),
        }
        part(self.name.as_bytes());
        part(self.distinction.as_deref().unwrap_or_default().as_bytes());
        let digest = hash.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        i64::from_be_bytes(first)
    }

    /// Takes over what the other form of the same score says and this one does not.
    fn fill(&mut self, other: Self) {
        if let (
            Evaluation::Scored { value, label, explanation },
            Evaluation::Scored { value: more_value, label: more_label, explanation: more_explanation },
        ) = (&mut self.evaluation, other.evaluation)
        {
            *value = value.or(more_value);
            *label = label.take().or(more_label);
            *explanation = explanation.take().or(more_explanation);
        }
        self.annotator_kind = self.annotator_kind.take().or(other.annotator_kind);
        self.identifier = self.identifier.take().or(other.identifier);
        self.response_id = self.response_id.take().or(other.response_id);
    }
}

/// The scores that a span carries; each once, however many forms of it there are.
///
/// They sit on the span, or, of a span of kind EVALUATOR that links to exactly one other, on that one.
pub fn results_of_span(span: &Span) -> Vec<ForeignScore> {
    let on_span = span.attributes.iter().any(|(key, _)| {
        key.starts_with(sc::EVALUATIONS_PREFIX) || (key.len() > 18 && key.as_ref() == sc::GEN_AI_EVALUATION_NAME)
    });
    let in_events = span.events.iter().any(|event| event.name == event::EVALUATION_RESULT);
    if !on_span && !in_events {
        return Vec::new();
    }
    let subject = subject(|key| span.get(key));
    let mut found: Vec<ForeignScore> = Vec::new();
    for fields in inline(span).into_values().take(MOST) {
        let Some(score) = fields.score(span, Source::Inline) else { continue };
        let same = |known: &&mut ForeignScore| known.name == score.name && known.identifier == score.identifier;
        match found.iter_mut().find(same) {
            Some(known) => known.fill(score),
            None => push(&mut found, score),
        }
    }
    let events = span.events.iter().filter(|event| event.name == event::EVALUATION_RESULT);
    let events = events.map(|event| (Fields::of(|key| get(&event.attributes, key), true), Source::Event));
    let attributes = (Fields::of(|key| span.get(key), false), Source::Attributes);
    for (fields, source) in events.take(MOST).chain([attributes]) {
        let Some(score) = fields.score(span, source) else { continue };
        let same = |known: &&mut ForeignScore| {
            let other_answer =
                known.response_id.is_some() && score.response_id.is_some() && known.response_id != score.response_id;
            known.name == score.name && !other_answer
        };
        match found.iter_mut().find(same) {
            Some(known) => known.fill(score),
            None => push(&mut found, score),
        }
    }
    let judged = match span.links.as_slice() {
        [link] if is_evaluator(span) => Some((link.trace_id, link.span_id)),
        _ => None,
    };
    for score in &mut found {
        score.subject.clone_from(&subject);
        if let Some((trace_id, span_id)) = judged {
            (score.trace_id, score.span_id) = (trace_id, Some(span_id));
            score.judge = Some((span.trace_id, span.span_id));
        }
    }
    found
}

/// The score that a log record carries, if it names a trace.
pub fn result_of_log(log: &LogRecord) -> Option<ForeignScore> {
    let in_body = |key: &str| match &log.body {
        Value::Map(pairs) => get(pairs, key),
        _ => None,
    };
    let find = |key: &str| get(&log.attributes, key).or_else(|| in_body(key));
    let is_result = log.event_name == event::EVALUATION_RESULT
        || matches!(find(sc::EVENT_NAME), Some(Value::Str(name)) if name == event::EVALUATION_RESULT);
    if !is_result {
        return None;
    }
    let trace_id = log.trace_id?;
    let (name, evaluation, rest) = Fields::of(find, true).read()?;
    Some(ForeignScore {
        name,
        evaluation,
        annotator_kind: rest.annotator_kind,
        identifier: rest.identifier,
        response_id: rest.response_id,
        source: Source::Log,
        trace_id,
        span_id: log.span_id,
        judge: None,
        subject: subject(find),
        distinction: None,
    })
}

/// What a form of a score says.
#[derive(Debug, Default)]
struct Fields {
    name: Option<String>,
    value: Option<f64>,
    label: Option<String>,
    explanation: Option<String>,
    error_type: Option<String>,
    annotator_kind: Option<String>,
    identifier: Option<String>,
    response_id: Option<String>,
}

impl Fields {
    /// The names of the GenAI conventions. On a span `error.type` is the span's, not the evaluation's.
    fn of<'a>(find: impl Fn(&str) -> Option<&'a Value>, with_error: bool) -> Self {
        let words = |key: &str| find(key).and_then(text);
        Self {
            name: words(sc::GEN_AI_EVALUATION_NAME),
            value: find(sc::GEN_AI_EVALUATION_SCORE_VALUE).and_then(number),
            label: words(sc::GEN_AI_EVALUATION_SCORE_LABEL),
            explanation: words(sc::GEN_AI_EVALUATION_EXPLANATION),
            error_type: if with_error { words(sc::ERROR_TYPE) } else { None },
            annotator_kind: None,
            identifier: None,
            response_id: words(sc::GEN_AI_RESPONSE_ID),
        }
    }

    /// Name, verdict, and what is left; `None` where nothing is said.
    fn read(mut self) -> Option<(String, Evaluation, Self)> {
        let name = self.name.take().filter(|name| !name.is_empty())?;
        let (label, explanation) = (self.label.take(), self.explanation.take());
        let evaluation = match (self.value, self.error_type.take()) {
            (None, Some(error_type)) if label.is_none() => {
                Evaluation::Failed { error_type, message: explanation.unwrap_or_default() }
            }
            (None, _) if label.is_none() => return None,
            (Some(value), _) if !value.is_finite() && label.is_none() => Evaluation::number(value),
            (value, _) => Evaluation::Scored { value: value.and_then(Finite::new), label, explanation },
        };
        Some((name, evaluation, self))
    }

    fn score(self, span: &Span, source: Source) -> Option<ForeignScore> {
        let (name, evaluation, rest) = self.read()?;
        Some(ForeignScore {
            name,
            evaluation,
            annotator_kind: rest.annotator_kind,
            identifier: rest.identifier,
            response_id: rest.response_id,
            source,
            trace_id: span.trace_id,
            span_id: Some(span.span_id),
            judge: None,
            subject: None,
            distinction: None,
        })
    }
}

/// OpenInference's inline evaluations by their number.
fn inline(span: &Span) -> BTreeMap<u32, Fields> {
    let mut by_number: BTreeMap<u32, Fields> = BTreeMap::new();
    for (key, value) in &span.attributes {
        let Some((number_text, field)) = key
            .strip_prefix(sc::EVALUATIONS_PREFIX)
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(number, field)| Some((number, field.strip_prefix("evaluation.")?)))
        else {
            continue;
        };
        let Ok(place) = number_text.parse::<u32>() else { continue };
        let fields = by_number.entry(place).or_default();
        match field {
            "name" => fields.name = text(value),
            "score" => fields.value = number(value),
            "label" => fields.label = text(value),
            "explanation" => fields.explanation = text(value),
            "annotator_kind" => fields.annotator_kind = text(value),
            "identifier" => fields.identifier = text(value),
            _ => {}
        }
    }
    by_number
}

/// Adds a score; one whose name is taken is told apart by its identifier or the answer it judges.
fn push(found: &mut Vec<ForeignScore>, mut score: ForeignScore) {
    if found.iter().any(|known| known.name == score.name) {
        score.distinction = score.identifier.clone().or_else(|| score.response_id.clone());
    }
    found.push(score);
}

fn subject<'a>(find: impl Fn(&str) -> Option<&'a Value>) -> Option<Subject> {
    Some(Subject {
        run: find(sc::TEST_SUITE_RUN_ID).and_then(text)?,
        case: find(sc::TEST_CASE_ID).and_then(text)?,
        repeat: match find(sc::SPANSCORE_TRIAL_REPEAT) {
            Some(Value::Int(repeat)) => *repeat,
            _ => 0,
        },
    })
}

fn is_evaluator(span: &Span) -> bool {
    matches!(span.get(sc::OPENINFERENCE_SPAN_KIND), Some(Value::Str(kind)) if kind == sc::KIND_EVALUATOR)
}

fn get<'a>(pairs: &'a [(Key, Value)], key: &str) -> Option<&'a Value> {
    pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text.clone().into_owned()),
        Value::Bool(x) => Some(x.to_string()),
        Value::Int(x) => Some(x.to_string()),
        Value::Double(x) => Some(x.to_string()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Double(x) => Some(*x),
        Value::Int(x) => Some(*x as f64),
        Value::Bool(x) => Some(f64::from(u8::from(*x))),
        Value::Str(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        Span::open(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), None, "chat", 5)
    }

    fn result(name: &'static str, value: f64) -> Vec<(Key, Value)> {
        vec![(sc::GEN_AI_EVALUATION_NAME.into(), name.into()), (sc::GEN_AI_EVALUATION_SCORE_VALUE.into(), value.into())]
    }

    fn inline(span: &mut Span, place: u32, fields: &[(&str, Value)]) {
        for (field, value) in fields {
            span.set(format!("evaluations.{place}.evaluation.{field}"), value.clone());
        }
    }

    #[test]
    fn the_same_score_in_three_forms_is_one() {
        let mut span = span();
        inline(&mut span, 0, &[("name", "Relevance".into()), ("score", 0.5.into()), ("identifier", "v1".into())]);
        span.attributes.extend(result("Relevance", 0.5));
        let mut attributes = result("Relevance", 0.5);
        attributes.push((sc::GEN_AI_EVALUATION_EXPLANATION.into(), "thin".into()));
        span.add_event(event::EVALUATION_RESULT, 6, attributes.clone());
        let found = results_of_span(&span);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].evaluation, Evaluation::number(0.5).because("thin"));
        assert_eq!((found[0].identifier.as_deref(), found[0].source), (Some("v1"), Source::Inline));
        let log = log(attributes);
        assert_eq!(result_of_log(&log).expect("a score").identity(), found[0].identity(), "and so is its log record");
    }

    fn log(attributes: Vec<(Key, Value)>) -> LogRecord {
        LogRecord {
            time_unix_nano: 6,
            observed_unix_nano: 6,
            severity_number: 0,
            severity_text: String::new(),
            event_name: event::EVALUATION_RESULT.into(),
            body: Value::Empty,
            attributes,
            dropped_attributes_count: 0,
            flags: 0,
            trace_id: Some(TraceId::from_bytes([1; 16])),
            span_id: Some(SpanId::from_bytes([2; 8])),
        }
    }

    #[test]
    fn scores_of_one_name_with_other_identifiers_are_several() {
        let mut span = span();
        inline(&mut span, 0, &[("name", "tone".into()), ("label", "rude".into()), ("identifier", "a".into())]);
        inline(&mut span, 1, &[("name", "tone".into()), ("label", "kind".into()), ("identifier", "b".into())]);
        inline(&mut span, 7, &[("name", "silent".into())]);
        let found = results_of_span(&span);
        assert_eq!(found.len(), 2, "a name alone says nothing");
        assert_ne!(found[0].identity(), found[1].identity());
    }

    #[test]
    fn a_trials_score_is_the_same_on_its_span_and_in_the_record_of_its_answer() {
        let mut claim = span();
        let whose = |attributes: &mut Vec<(Key, Value)>| {
            attributes.push((sc::TEST_SUITE_RUN_ID.into(), "r1".into()));
            attributes.push((sc::TEST_CASE_ID.into(), "c1".into()));
        };
        whose(&mut claim.attributes);
        claim.add_event(event::EVALUATION_RESULT, 6, result("label_match", 1.0));
        let mut attributes = result("label_match", 1.0);
        whose(&mut attributes);
        let mut record = log(attributes);
        record.span_id = Some(SpanId::from_bytes([9; 8]));
        let record = result_of_log(&record).expect("a score");
        assert_eq!(results_of_span(&claim)[0].identity(), record.identity());
    }

    #[test]
    fn a_failed_evaluation_has_no_number_and_nan_is_none() {
        let mut span = span();
        span.set(sc::ERROR_TYPE, "500");
        span.attributes.extend([(sc::GEN_AI_EVALUATION_NAME.into(), "quiet".into())]);
        let failed =
            vec![(sc::GEN_AI_EVALUATION_NAME.into(), "broken".into()), (sc::ERROR_TYPE.into(), "timeout".into())];
        span.add_event(event::EVALUATION_RESULT, 6, failed);
        span.add_event(event::EVALUATION_RESULT, 6, result("odd", f64::NAN));
        let found = results_of_span(&span);
        let states: Vec<_> = found.iter().map(|score| (score.name.as_str(), score.evaluation.state())).collect();
        assert_eq!(states, [("broken", "failed"), ("odd", "failed")]);
    }

    #[test]
    fn a_judges_span_scores_the_span_that_it_links_to() {
        let mut judge = span();
        judge.set(sc::OPENINFERENCE_SPAN_KIND, sc::KIND_EVALUATOR);
        judge.attributes.extend(result("Faithfulness", 0.0));
        let target = (TraceId::from_bytes([7; 16]), SpanId::from_bytes([8; 8]));
        judge.add_link(target.0, target.1, Vec::new());
        let found = results_of_span(&judge);
        assert_eq!((found[0].trace_id, found[0].span_id), (target.0, Some(target.1)));
        assert_eq!(found[0].judge, Some((judge.trace_id, judge.span_id)));
    }
}
