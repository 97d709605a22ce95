//! Scores as they stand on spans and in log records: our own attributes, OpenInference's inline evaluations, the GenAI
//! attributes of the primary evaluator, one span event and one log record per score.
//!
//! Sources: OpenTelemetry GenAI conventions v1.41.1 (`gen_ai.evaluation.result`); OpenInference `spec/annotations.md`.

use std::sync::Arc;

use crate::model::{
    Case, Direction, Evaluation, EvaluatorKind, EvaluatorSpec, Key, LogRecord, RunId, Score, Span, SpanId, Value,
};
use crate::trace::semconv::{self as sc, event};

/// The attribute names of one evaluator, spelled once per run instead of once per score.
struct Names {
    id: Arc<str>,
    score: &'static str,
    label: &'static str,
    inline: [&'static str; 6],
    threshold: Option<f64>,
}

/// Writes the scores of a run's trials.
pub struct ScoreWriter {
    names: Vec<Names>,
    primary: usize,
    run_id: RunId,
    identifiers: Vec<&'static str>,
}

impl ScoreWriter {
    /// For these evaluators, of which the one at `primary` decides whether a case passed.
    pub fn new(specs: &[EvaluatorSpec], primary: usize, run_id: RunId) -> Self {
        let names = specs
            .iter()
            .enumerate()
            .map(|(i, spec)| {
                let inline = |part: &str| intern(format!("{}{i}.evaluation.{part}", sc::EVALUATIONS_PREFIX));
                Names {
                    id: Arc::from(spec.id.as_str()),
                    score: intern(sc::score_key(spec.id.as_str())),
                    label: intern(sc::label_key(spec.id.as_str())),
                    inline: ["name", "score", "label", "explanation", "annotator_kind", "identifier"].map(inline),
                    threshold: spec.threshold,
                }
            })
            .collect();
        let identifiers = specs.iter().map(|spec| intern(format!("{}@{}", spec.id, spec.version))).collect();
        Self { names, primary, run_id, identifiers }
    }

    /// Puts the scores on the trial's span: attributes and one event each. Returns their log records, which point at the
    /// judged `chat` span, or at the trial's own span where there was no model call.
    pub fn write(
        &self,
        span: &mut Span,
        judged: Option<SpanId>,
        case: &Case,
        response_id: Option<&str>,
        scores: &[Score],
        now: u64,
    ) -> Vec<LogRecord> {
        span.attributes.reserve(scores.len() * 7 + 4);
        for (score, names) in scores.iter().zip(&self.names) {
            if let Evaluation::Scored { value, label, .. } = &score.evaluation {
                if let Some(value) = value {
                    span.set(names.score, value.get());
                }
                if let Some(label) = label {
                    span.set(names.label, label.clone());
                }
            }
        }
        let primary = scores.get(self.primary);
        if let Some(score) = primary.filter(|s| matches!(s.evaluation, Evaluation::Scored { .. })) {
            for (key, value) in result_attributes(&self.names[self.primary], score) {
                span.attributes.push((key, value));
            }
        }
        // A list without gaps: readers take the numbers for places.
        let scored = scores.iter().zip(&self.names).zip(&self.identifiers);
        let scored = scored.filter(|((score, _), _)| matches!(score.evaluation, Evaluation::Scored { .. }));
        for (((score, names), identifier), place) in scored.zip(&self.names) {
            inline(span, names, place.inline, score, identifier);
        }
        // Without it the record of a repeat would be taken for that of the first.
        let repeat = span.get(sc::SPANSCORE_TRIAL_REPEAT).filter(|repeat| **repeat != Value::Int(0)).cloned();
        let mut logs = Vec::with_capacity(scores.len());
        for (score, names) in scores.iter().zip(&self.names) {
            if matches!(score.evaluation, Evaluation::Skipped { .. }) {
                continue;
            }
            let mut attributes = result_attributes(names, score);
            if let Some(id) = response_id {
                attributes.push((sc::GEN_AI_RESPONSE_ID.into(), id.to_owned().into()));
            }
            span.add_event(event::EVALUATION_RESULT, now, attributes.clone());
            attributes.push((sc::TEST_CASE_ID.into(), case.id.as_str().to_owned().into()));
            attributes.push((sc::TEST_SUITE_RUN_ID.into(), self.run_id.as_str().to_owned().into()));
            if let Some(repeat) = &repeat {
                attributes.push((sc::SPANSCORE_TRIAL_REPEAT.into(), repeat.clone()));
            }
            logs.push(LogRecord {
                time_unix_nano: now,
                observed_unix_nano: now,
                severity_number: 9,
                severity_text: "INFO".to_owned(),
                event_name: event::EVALUATION_RESULT.into(),
                body: Value::Empty,
                attributes,
                dropped_attributes_count: 0,
                flags: 1,
                trace_id: Some(span.trace_id),
                span_id: Some(judged.unwrap_or(span.span_id)),
            });
        }
        logs
    }
}

/// Whether a score passes: assertions by their value, numbers by the threshold where there is one, labels never.
pub fn passes(spec: &EvaluatorSpec, evaluation: &Evaluation) -> Option<bool> {
    let value = evaluation.value()?;
    match (spec.kind, spec.threshold, spec.direction) {
        (EvaluatorKind::Assertion, ..) => Some(value >= 1.0),
        (_, Some(threshold), Direction::Higher) => Some(value >= threshold),
        (_, Some(threshold), Direction::Lower) => Some(value <= threshold),
        (_, None, _) => None,
    }
}

/// The attributes of one evaluation result, as the GenAI conventions name them.
fn result_attributes(names: &Names, score: &Score) -> Vec<(Key, Value)> {
    let mut attributes: Vec<(Key, Value)> = Vec::with_capacity(7);
    attributes.push((sc::GEN_AI_EVALUATION_NAME.into(), names.id.to_string().into()));
    match &score.evaluation {
        Evaluation::Scored { value, label, explanation } => {
            if let Some(value) = value {
                attributes.push((sc::GEN_AI_EVALUATION_SCORE_VALUE.into(), value.get().into()));
            }
            if let Some(label) = label {
                attributes.push((sc::GEN_AI_EVALUATION_SCORE_LABEL.into(), label.clone().into()));
            }
            if let Some(threshold) = names.threshold {
                attributes.push((sc::SPANSCORE_EVALUATION_THRESHOLD.into(), threshold.into()));
            }
            if let Some(explanation) = explanation {
                attributes.push((sc::GEN_AI_EVALUATION_EXPLANATION.into(), explanation.clone().into()));
            }
        }
        Evaluation::Failed { error_type, .. } => attributes.push((sc::ERROR_TYPE.into(), error_type.clone().into())),
        Evaluation::Skipped { .. } => {}
    }
    attributes
}

fn inline(span: &mut Span, names: &Names, keys: [&'static str; 6], score: &Score, identifier: &'static str) {
    let Evaluation::Scored { value, label, explanation } = &score.evaluation else { return };
    let [name_key, score_key, label_key, explanation_key, annotator_key, identifier_key] = keys;
    span.set(name_key, names.id.to_string());
    if let Some(value) = value {
        span.set(score_key, value.get());
    }
    if let Some(label) = label {
        span.set(label_key, label.clone());
    }
    if let Some(explanation) = explanation {
        span.set(explanation_key, explanation.clone());
    }
    span.set(annotator_key, "CODE");
    span.set(identifier_key, identifier);
}

/// Attribute names live as long as the process; there are a few per evaluator of a run.
fn intern(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluator::Registry;
    use crate::evaluator::registry::tests::subject_parts;
    use crate::model::{Label, Outcome, Predicted, TraceId};

    #[test]
    fn every_form_of_a_score_says_the_same() {
        let ids = ["label_match", "abstention", "cost"].map(str::to_owned);
        let specs: Vec<_> =
            Registry::embedded().select(&ids).expect("known").iter().map(|e| e.spec().clone()).collect();
        let writer = ScoreWriter::new(&specs, 0, RunId::parse("r1").expect("valid"));
        let evaluations = [
            Evaluation::assertion(false).because("expected True, answered NEE"),
            Evaluation::category("over_use", Some(crate::model::Finite::ZERO)),
            Evaluation::skipped("no price"),
        ];
        let scores: Vec<_> = specs
            .iter()
            .zip(evaluations)
            .map(|(s, evaluation)| Score { evaluator: s.id.clone(), version: s.version.clone(), evaluation })
            .collect();
        let mut span = Span::open(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), None, "assess_claim", 1);
        let predicted = Predicted::Label(Label::Nee);
        let (case, _) = subject_parts(Some(Label::True), Outcome::Completed { predicted });
        let judged = SpanId::from_bytes([3; 8]);
        let logs = writer.write(&mut span, Some(judged), &case, Some("chatcmpl-1"), &scores, 9);
        assert_eq!(span.get("spanscore.score.label_match"), Some(&Value::Double(0.0)));
        assert_eq!(span.get("spanscore.label.abstention"), Some(&"over_use".into()));
        assert_eq!(span.get("evaluations.1.evaluation.identifier"), Some(&"abstention@1".into()));
        assert_eq!(span.get("gen_ai.evaluation.name"), Some(&"label_match".into()));
        assert_eq!(span.get("spanscore.score.cost"), None);
        assert_eq!(span.get("evaluations.2.evaluation.name"), None);
        assert_eq!((span.events.len(), logs.len()), (2, 2));
        assert_eq!(logs[0].span_id, Some(judged));
        assert!(logs[1].attributes.contains(&("test.case.id".into(), "c1".into())));
        let keys: std::collections::BTreeSet<_> = span.attributes.iter().map(|(k, _)| k.as_ref()).collect();
        assert_eq!(keys.len(), span.attributes.len(), "no attribute stands twice");
    }
}
