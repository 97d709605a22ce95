//! Events made ready for the writer in the task that records them: rows to bind and blobs to copy, nothing to compute.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::codec::{self, put_varint, take_bytes, take_varint};
use super::error::StoreError;
use crate::model::{
    CaseId, Evaluation, EvaluatorId, Failure, Finite, Key, Label, LogRecord, Outcome, Predicted, Span, SpanId, TraceId,
    Trial, TrialKey, Usage, Value,
};
use crate::trace::{otlp, semconv};

/// The columns of a span.
#[derive(Debug)]
pub(super) struct SpanRow {
    pub(super) trace_id: TraceId,
    pub(super) span_id: i64,
    pub(super) parent: Option<i64>,
    pub(super) kind: u8,
    pub(super) status: i32,
    pub(super) start: i64,
    pub(super) end: Option<i64>,
    pub(super) name: Key,
}

/// Spans and log records of one event.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) spans: Vec<SpanRow>,
    pub(super) logs: usize,
    /// The means that a batch's root carries, by evaluator; `None` of other bundles.
    pub(super) means: Option<Vec<(String, f64)>>,
    /// How many spans there are, the spans, the log records: each with its length before it, all of it a blob.
    pub(super) body: Vec<u8>,
}

impl Bundle {
    /// The root of a batch with the means on it.
    pub(super) fn encode_batch(dictionary: u32, root: Span) -> Self {
        let mean = |(key, value): &(Key, Value)| {
            let evaluator = key.strip_prefix(semconv::SPANSCORE_SCORE_PREFIX)?.strip_suffix(semconv::MEAN_SUFFIX)?;
            match value {
                Value::Double(mean) if mean.is_finite() => Some((evaluator.to_owned(), *mean)),
                _ => None,
            }
        };
        let means = Some(root.attributes.iter().filter_map(mean).collect());
        Self { means, ..Self::encode(dictionary, vec![root], &[]) }
    }

    pub(super) fn encode(dictionary: u32, spans: Vec<Span>, logs: &[LogRecord]) -> Self {
        let body = codec::encode(dictionary, |out| {
            let mut message = Vec::with_capacity(4096);
            put_varint(out, spans.len() as u64);
            let mut put = |out: &mut Vec<u8>, write: &mut dyn FnMut(&mut Vec<u8>)| {
                message.clear();
                write(&mut message);
                put_varint(out, message.len() as u64);
                out.extend_from_slice(&message);
            };
            for span in &spans {
                put(out, &mut |message| otlp::write_span(message, span));
            }
            for log in logs {
                put(out, &mut |message| otlp::write_log(message, log));
            }
        });
        let spans = spans
            .into_iter()
            .map(|span| SpanRow {
                trace_id: span.trace_id,
                span_id: number_of(span.span_id),
                parent: span.parent_span_id.map(number_of),
                kind: span.kind as u8,
                status: span.status.number(),
                start: span.start_unix_nano as i64,
                end: (!span.is_open()).then_some(span.end_unix_nano as i64),
                name: span.name,
            })
            .collect();
        Self { spans, logs: logs.len(), means: None, body }
    }
}

/// A payload taken apart: the protobuf messages of its spans and log records.
#[derive(Debug, Default)]
pub(super) struct Messages<'a> {
    pub(super) spans: Vec<&'a [u8]>,
    pub(super) logs: Vec<&'a [u8]>,
}

impl<'a> Messages<'a> {
    pub(super) fn split(mut content: &'a [u8]) -> Result<Self, StoreError> {
        let short = || StoreError::damaged("a payload", "it ends too early");
        let spans = take_varint(&mut content).ok_or_else(short)?;
        let mut messages = Self::default();
        for _ in 0..spans {
            messages.spans.push(take_bytes(&mut content).ok_or_else(short)?);
        }
        while !content.is_empty() {
            messages.logs.push(take_bytes(&mut content).ok_or_else(short)?);
        }
        Ok(messages)
    }

    pub(super) fn span(&self, slot: usize) -> Result<Span, StoreError> {
        let bytes = self.spans.get(slot).ok_or_else(|| StoreError::damaged("a span", "its payload lacks it"))?;
        otlp::read_span(bytes).map_err(|e| StoreError::damaged("a span", e))
    }
}

/// A span id as the integer that columns hold.
pub(super) fn number_of(id: SpanId) -> i64 {
    i64::from_be_bytes(*id.as_bytes())
}

/// The span id of a column.
pub(super) fn span_id_of(number: i64) -> SpanId {
    SpanId::from_bytes(number.to_be_bytes())
}

/// The columns of a score.
#[derive(Debug)]
pub(super) struct ScoreRow {
    pub(super) evaluator: usize,
    pub(super) state: u8,
    pub(super) value: Option<f64>,
    pub(super) label: Option<String>,
}

/// The columns of a trial.
#[derive(Debug)]
pub(super) struct TrialRow {
    pub(super) key: TrialKey,
    pub(super) case_id: CaseId,
    pub(super) outcome: u8,
    pub(super) latency_ns: u64,
    pub(super) usage: Usage,
    pub(super) cost_usd: Option<f64>,
    pub(super) attempts: u32,
    pub(super) cached: bool,
    pub(super) started: u64,
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    pub(super) chat: Option<i64>,
    pub(super) texts: Vec<u8>,
    pub(super) scores: Vec<ScoreRow>,
}

/// The text of a trial, kept as JSON in a blob.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Texts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) raw_output: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_type: Option<Cow<'a, str>>,
    /// The message of a failed trial, the reason of a skipped one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) finish_reason: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_model: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) system_fingerprint: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) scores: Vec<ScoreText<'a>>,
}

/// The text of a score: its explanation, error or reason.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ScoreText<'a> {
    pub(super) evaluator: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_type: Option<Cow<'a, str>>,
    pub(super) text: Cow<'a, str>,
}

impl TrialRow {
    /// The row of a trial in a run with these evaluators.
    pub(super) fn encode(dictionary: u32, trial: Trial, evaluators: &[EvaluatorId]) -> Result<Self, StoreError> {
        let mut texts = Texts {
            raw_output: trial.raw_output.as_deref().map(Cow::Borrowed),
            finish_reason: trial.finish_reason.as_deref().map(Cow::Borrowed),
            response_id: trial.response_id.as_deref().map(Cow::Borrowed),
            response_model: trial.response_model.as_deref().map(Cow::Borrowed),
            system_fingerprint: trial.system_fingerprint.as_deref().map(Cow::Borrowed),
            ..Texts::default()
        };
        match &trial.outcome {
            Outcome::Completed { .. } => {}
            Outcome::Failed(failure) => {
                texts.error_type = Some(Cow::Borrowed(&failure.error_type));
                texts.message = Some(Cow::Borrowed(&failure.message));
            }
            Outcome::Skipped { reason } => texts.message = Some(Cow::Borrowed(reason)),
        }
        let mut scores = Vec::with_capacity(trial.scores.len());
        for score in &trial.scores {
            let evaluator = evaluators.iter().position(|id| *id == score.evaluator).ok_or_else(|| {
                StoreError::UnknownEvaluator { case_id: trial.case_id.clone(), evaluator: score.evaluator.clone() }
            })?;
            let (state, value, label, text, error_type) = match &score.evaluation {
                Evaluation::Scored { value, label, explanation } => {
                    (0, value.map(Finite::get), label.clone(), explanation.as_ref(), None)
                }
                Evaluation::Failed { error_type, message } => (1, None, None, Some(message), Some(error_type)),
                Evaluation::Skipped { reason } => (2, None, None, Some(reason), None),
            };
            if let Some(text) = text {
                texts.scores.push(ScoreText {
                    evaluator,
                    error_type: error_type.map(|t| Cow::Borrowed(t.as_str())),
                    text: Cow::Borrowed(text),
                });
            }
            scores.push(ScoreRow { evaluator, state, value, label });
        }
        let texts = codec::encode(dictionary, |out| {
            serde_json::to_writer(out, &texts).expect("strings and numbers always make JSON");
        });
        Ok(Self {
            key: trial.key,
            outcome: outcome_number(&trial.outcome),
            latency_ns: trial.latency_ns,
            usage: trial.usage,
            cost_usd: trial.cost_usd,
            attempts: trial.attempts,
            cached: trial.cached,
            started: trial.started_unix_nano,
            trace_id: trial.trace_id,
            span_id: trial.span_id,
            chat: trial.chat_span_id.map(number_of),
            case_id: trial.case_id,
            texts,
            scores,
        })
    }
}

/// The first outcome number of trials that are not completed.
pub(super) const FAILED: i64 = 4;

/// The number of a skipped trial.
pub(super) const SKIPPED: i64 = 5;

fn outcome_number(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Completed { predicted: Predicted::Label(label) } => label.index() as u8,
        Outcome::Completed { predicted: Predicted::Unparseable } => 3,
        Outcome::Failed(_) => FAILED as u8,
        Outcome::Skipped { .. } => SKIPPED as u8,
    }
}

/// The class of an outcome number below [`FAILED`].
pub(super) fn predicted_of(number: i64) -> Predicted {
    usize::try_from(number)
        .ok()
        .and_then(|i| Label::ALL.get(i).copied())
        .map_or(Predicted::Unparseable, Predicted::Label)
}

/// The outcome of a number and the trial's texts.
pub(super) fn outcome_of(number: i64, texts: &Texts<'_>) -> Outcome {
    let owned = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
    match number {
        FAILED => Outcome::Failed(Failure { error_type: owned(&texts.error_type), message: owned(&texts.message) }),
        SKIPPED => Outcome::Skipped { reason: owned(&texts.message) },
        completed => Outcome::Completed { predicted: predicted_of(completed) },
    }
}

/// The evaluation of a score's columns and its trial's texts.
pub(super) fn evaluation_of(
    state: i64,
    value: Option<f64>,
    label: Option<String>,
    evaluator: usize,
    texts: &Texts<'_>,
) -> Evaluation {
    let text = texts.scores.iter().find(|text| text.evaluator == evaluator);
    let words = || text.map(|t| t.text.clone().into_owned());
    match state {
        0 => Evaluation::Scored { value: value.and_then(Finite::new), label, explanation: words() },
        1 => Evaluation::Failed {
            error_type: text.and_then(|t| t.error_type.as_deref()).unwrap_or("_OTHER").to_owned(),
            message: words().unwrap_or_default(),
        },
        _ => Evaluation::Skipped { reason: words().unwrap_or_default() },
    }
}
