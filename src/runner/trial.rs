//! One trial: the workflow under an open `assess_claim` span, the evaluators, and the event that records all of it.

use std::sync::Arc;

use crate::evaluator::span::{ScoreWriter, passes};
use crate::evaluator::{Evaluator, Subject};
use crate::model::{
    Case, Evaluation, EvaluatorSpec, Outcome, RunEvent, Score, Span, SpanId, Status, Trial, TrialKey, Value,
};
use crate::trace::provider::Ambient;
use crate::trace::semconv::{self as sc, span};
use crate::workflow::{Assessment, TrialContext, Workflow};

use super::batch::Batch;

/// What all trials of a session share.
pub(super) struct Bench {
    pub(super) workflow: Arc<dyn Workflow>,
    pub(super) evaluators: Vec<Arc<dyn Evaluator>>,
    pub(super) specs: Vec<EvaluatorSpec>,
    pub(super) primary: usize,
    pub(super) scores: ScoreWriter,
    pub(super) ambient: Ambient,
}

/// A trial under way: its span is open.
pub(super) struct OpenTrial {
    key: TrialKey,
    span: Span,
}

impl Bench {
    /// Opens the span of a trial; the ids are minted here, before the call.
    pub(super) fn open(&self, batch: &Batch, case: &Case, repeat: u32) -> OpenTrial {
        let key = TrialKey { seq: case.seq, repeat };
        let start = self.ambient.now();
        let id = self.ambient.ids.span_id();
        let mut span = Span::open(batch.trace_id, id, Some(batch.root_id), span::ASSESS_CLAIM, start);
        span.attributes.reserve(40);
        span.set(sc::TEST_CASE_ID, case.id.as_str().to_owned());
        span.set(sc::TEST_CASE_NAME, case.id.as_str().to_owned());
        span.set(sc::OPENINFERENCE_SPAN_KIND, "CHAIN");
        if let Some(expected) = case.expected {
            span.set(sc::SPANSCORE_EXPECTED, expected.as_str());
        }
        if let Some(group) = &case.group {
            span.set(sc::SPANSCORE_CASE_GROUP, group.clone());
        }
        span.set(sc::SPANSCORE_TRIAL_REPEAT, i64::from(repeat));
        OpenTrial { key, span }
    }

    /// Runs the workflow.
    pub(super) async fn assess(&self, open: &OpenTrial, case: &Case) -> Assessment {
        let context =
            TrialContext { trace_id: open.span.trace_id, parent_span_id: open.span.span_id, repeat: open.key.repeat };
        self.workflow.assess(case, context).await
    }

    /// Scores a tried trial and closes its span.
    pub(super) async fn close(&self, open: OpenTrial, case: &Case, mut assessment: Assessment) -> RunEvent {
        let mut scores = Vec::with_capacity(self.evaluators.len());
        for (evaluator, spec) in self.evaluators.iter().zip(&self.specs) {
            let evaluation = evaluator.evaluate(Subject { case, assessment: &assessment }).await;
            scores.push(Score { evaluator: spec.id.clone(), version: spec.version.clone(), evaluation });
        }
        let OpenTrial { key, mut span } = open;
        match &assessment.outcome {
            Outcome::Completed { predicted } => span.set(sc::SPANSCORE_OUTPUT, predicted.as_str()),
            Outcome::Failed(failure) => {
                span.set(sc::ERROR_TYPE, failure.error_type.clone());
                span.status = Status::Error(failure.message.clone());
            }
            Outcome::Skipped { .. } => {}
        }
        span.set(sc::SPANSCORE_TRIAL_ATTEMPTS, i64::from(assessment.attempts));
        if assessment.cached {
            span.set(sc::SPANSCORE_CACHED, true);
        }
        self.set_result(&mut span, &assessment.outcome, &scores);
        let now = self.ambient.now();
        let response_id = assessment.response_id.as_deref();
        let mut logs = std::mem::take(&mut assessment.logs);
        logs.extend(self.scores.write(&mut span, assessment.chat_span_id, case, response_id, &scores, now));
        span.end_unix_nano = now;
        let trial = record(key, case, &span, scores, assessment);
        let (mut spans, trial) = trial;
        spans.push(span);
        RunEvent::TrialFinished { trial: Box::new(trial), spans, logs }
    }

    /// The record of a trial that is not tried.
    pub(super) fn skip(&self, open: OpenTrial, case: &Case, reason: &str) -> RunEvent {
        let OpenTrial { key, mut span } = open;
        let outcome = Outcome::Skipped { reason: reason.to_owned() };
        let skipped = |spec: &EvaluatorSpec| Score {
            evaluator: spec.id.clone(),
            version: spec.version.clone(),
            evaluation: Evaluation::skipped("the trial was skipped"),
        };
        let scores = self.specs.iter().map(skipped).collect();
        span.set(sc::SPANSCORE_TRIAL_SKIPPED, reason.to_owned());
        span.end_unix_nano = self.ambient.now();
        let mut assessment = Assessment::answered(outcome, String::new());
        assessment.raw_output = None;
        let (_, trial) = record(key, case, &span, scores, assessment);
        RunEvent::TrialFinished { trial: Box::new(trial), spans: vec![span], logs: Vec::new() }
    }

    /// `test.case.result.status` by the primary evaluator; a trial without an answer fails.
    fn set_result(&self, span: &mut Span, outcome: &Outcome, scores: &[Score]) {
        let passed = match outcome {
            Outcome::Failed(_) => Some(false),
            _ => passes(&self.specs[self.primary], &scores[self.primary].evaluation),
        };
        if let Some(passed) = passed {
            let status: Value = if passed { "pass" } else { "fail" }.into();
            span.set(sc::TEST_CASE_RESULT_STATUS, status);
        }
    }
}

/// The trial's row, and the workflow's spans, which the row does not hold.
fn record(key: TrialKey, case: &Case, span: &Span, scores: Vec<Score>, a: Assessment) -> (Vec<Span>, Trial) {
    let trial = Trial {
        key,
        case_id: case.id.clone(),
        outcome: a.outcome,
        scores,
        raw_output: a.raw_output,
        attempts: a.attempts,
        latency_ns: a.latency_ns,
        started_unix_nano: span.start_unix_nano,
        usage: a.usage,
        cost_usd: a.cost_usd,
        finish_reason: a.finish_reason,
        response_id: a.response_id,
        response_model: a.response_model,
        system_fingerprint: a.system_fingerprint,
        cached: a.cached,
        trace_id: span.trace_id,
        span_id: span.span_id,
        chat_span_id: a.chat_span_id.filter(|_: &SpanId| !a.spans.is_empty()),
    };
    (a.spans, trial)
}
