//! What a score sink makes of a log record: the score, the span it sits on, and an id that is the same whenever the same
//! score is pushed. How a backend says it is left to the backend's module.

use sha2::{Digest as _, Sha256};

use crate::model::{Evaluation, LogRecord, SpanId, TraceId};
use crate::trace::results::{ForeignScore, Subject, result_of_log};
use crate::trace::semconv as sc;

/// Who came to a score, as Phoenix and OpenInference spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Annotator {
    Code,
    Llm,
    Human,
}

impl Annotator {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Code => "CODE",
            Self::Llm => "LLM",
            Self::Human => "HUMAN",
        }
    }

    /// A record that does not say so comes from an evaluator that is code.
    fn of(said: Option<&str>) -> Self {
        match said {
            Some("LLM") => Self::Llm,
            Some("HUMAN") => Self::Human,
            _ => Self::Code,
        }
    }
}

/// Tells a score on its way from all others. Two attempts at a case have one id, and each its own trace.
pub(super) type Key = ([u8; 16], TraceId);

/// A score on its way to a backend.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outgoing {
    /// The same for the same run, case, repeat and evaluator.
    pub(super) id: [u8; 16],
    pub(super) trace_id: TraceId,
    pub(super) span_id: Option<SpanId>,
    pub(super) name: String,
    /// Scored or failed.
    pub(super) evaluation: Evaluation,
    pub(super) annotator: Annotator,
    /// Whether its label says on which side of a threshold its number lies.
    has_threshold: bool,
    /// What it belongs to, for people who meet it in the backend.
    pub(super) metadata: Vec<(&'static str, String)>,
    pub(super) time_unix_nano: u64,
}

impl Outgoing {
    /// The score of a log record; `None` where it is another kind of record.
    pub(super) fn of(record: &LogRecord) -> Option<Self> {
        let score = result_of_log(record)?;
        let mut metadata = Vec::new();
        if let Some(Subject { run, case, repeat }) = &score.subject {
            metadata.push((sc::TEST_SUITE_RUN_ID, run.clone()));
            metadata.push((sc::TEST_CASE_ID, case.clone()));
            metadata.push((sc::SPANSCORE_TRIAL_REPEAT, repeat.to_string()));
        }
        metadata.extend(score.response_id.clone().map(|id| (sc::GEN_AI_RESPONSE_ID, id)));
        Some(Self {
            id: id(&score),
            trace_id: score.trace_id,
            span_id: score.span_id,
            annotator: Annotator::of(score.annotator_kind.as_deref()),
            has_threshold: record.attributes.iter().any(|(key, _)| key.as_ref() == sc::SPANSCORE_EVALUATION_THRESHOLD),
            name: score.name,
            evaluation: score.evaluation,
            metadata,
            time_unix_nano: record.time_unix_nano.max(record.observed_unix_nano),
        })
    }

    /// Under which it is remembered while it is on its way.
    pub(super) const fn key(&self) -> Key {
        (self.id, self.trace_id)
    }

    /// The id as 32 hexadecimal digits.
    pub(super) fn id_hex(&self) -> String {
        hex::encode(self.id)
    }

    /// When it was made, as RFC 3339 in UTC.
    pub(super) fn time(&self) -> String {
        jiff::Timestamp::from_nanosecond(i128::from(self.time_unix_nano)).unwrap_or_default().to_string()
    }

    /// Whether it says anything: a failed evaluation is no score, and no zero either.
    pub(super) const fn is_scored(&self) -> bool {
        matches!(self.evaluation, Evaluation::Scored { .. })
    }

    /// Set for an assertion: whether it held. A number with a threshold passes and fails, too, and stays a number: of one name
    /// a backend has one kind of value.
    pub(super) fn assertion(&self) -> Option<bool> {
        if self.has_threshold {
            return None;
        }
        match (self.evaluation.value()?, self.evaluation.label()?) {
            (1.0, "pass") => Some(true),
            (0.0, "fail") => Some(false),
            _ => None,
        }
    }

    /// The words that go with it.
    pub(super) fn explanation(&self) -> Option<&str> {
        match &self.evaluation {
            Evaluation::Scored { explanation, .. } => explanation.as_deref(),
            _ => None,
        }
    }
}

/// Of a trial's score: run, case, repeat and evaluator. Of another: trace, span and name.
fn id(score: &ForeignScore) -> [u8; 16] {
    let mut hash = Sha256::new();
    let mut part = |text: &[u8]| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    part(b"spanscore score");
    match &score.subject {
        Some(Subject { run, case, repeat }) => {
            part(run.as_bytes());
            part(case.as_bytes());
            part(&repeat.to_be_bytes());
            part(score.name.as_bytes());
        }
        None => {
            part(score.trace_id.as_bytes());
            part(&score.identity().to_be_bytes());
        }
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    id
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{Key, Value};
    use crate::trace::semconv::event;

    /// The record of a score: case, evaluator, and further attributes.
    pub(in super::super) fn record(case: &str, name: &str, more: &[(&'static str, Value)]) -> LogRecord {
        let mut attributes: Vec<(Key, Value)> = vec![
            (sc::GEN_AI_EVALUATION_NAME.into(), name.to_owned().into()),
            (sc::TEST_CASE_ID.into(), case.to_owned().into()),
            (sc::TEST_SUITE_RUN_ID.into(), "run-1".into()),
        ];
        attributes.extend(more.iter().map(|(key, value)| ((*key).into(), value.clone())));
        LogRecord {
            time_unix_nano: 1_700_000_000_000_000_000,
            observed_unix_nano: 0,
            severity_number: 9,
            severity_text: String::new(),
            event_name: event::EVALUATION_RESULT.into(),
            body: Value::Empty,
            attributes,
            dropped_attributes_count: 0,
            flags: 1,
            trace_id: Some(TraceId::from_bytes([7; 16])),
            span_id: Some(SpanId::from_bytes([8; 8])),
        }
    }

    pub(in super::super) fn value(x: f64) -> (&'static str, Value) {
        (sc::GEN_AI_EVALUATION_SCORE_VALUE, x.into())
    }

    pub(in super::super) fn label(text: &'static str) -> (&'static str, Value) {
        (sc::GEN_AI_EVALUATION_SCORE_LABEL, text.into())
    }

    pub(in super::super) fn failed() -> (&'static str, Value) {
        (sc::ERROR_TYPE, "timeout".into())
    }

    #[test]
    fn the_id_is_that_of_run_case_repeat_and_evaluator_and_of_nothing_else() {
        let id = |record: &LogRecord| Outgoing::of(record).expect("a score").id;
        let first = record("c1", "label_match", &[value(1.0), label("pass")]);
        let mut elsewhere = record("c1", "label_match", &[value(0.0), label("fail")]);
        elsewhere.span_id = Some(SpanId::from_bytes([9; 8]));
        assert_eq!(id(&first), id(&elsewhere), "another attempt at the same case replaces it");
        let repeat = (sc::SPANSCORE_TRIAL_REPEAT, Value::Int(1));
        for other in [
            record("c2", "label_match", &[value(1.0)]),
            record("c1", "abstention", &[value(1.0)]),
            record("c1", "label_match", &[value(1.0), repeat]),
        ] {
            assert_ne!(id(&first), id(&other));
        }
    }

    #[test]
    fn a_failed_evaluation_is_no_score_and_another_record_is_none_at_all() {
        let failed = Outgoing::of(&record("c", "cost", &[failed()])).expect("a record of an evaluation");
        assert!(!failed.is_scored() && failed.evaluation.value().is_none());
        let mut other = record("c", "cost", &[value(1.0)]);
        other.event_name = "something.else".into();
        assert_eq!(Outgoing::of(&other), None);
    }

    #[test]
    fn an_assertion_is_told_from_a_number_by_its_label() {
        let of = |more: &[_]| Outgoing::of(&record("c", "e", more)).expect("a score").assertion();
        assert_eq!(of(&[value(1.0), label("pass")]), Some(true));
        assert_eq!(of(&[value(0.0), label("fail")]), Some(false));
        assert_eq!(of(&[value(1.0)]), None);
        assert_eq!(of(&[value(0.5), label("pass")]), None);
        let threshold = (sc::SPANSCORE_EVALUATION_THRESHOLD, 0.5.into());
        assert_eq!(
            of(&[value(1.0), label("pass"), threshold]),
            None,
            "a number that reached its threshold is a number"
        );
    }
}
