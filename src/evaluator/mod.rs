//! Evaluators: each turns the outcome of one trial into one score, or says why there is none.
//!
//! [`registry`] reads their definitions, [`label`] and [`measure`] are the code evaluators, [`span`] writes scores on spans
//! and into log records. An evaluator of your own implements [`Evaluator`].

pub mod registry;
pub mod label;
pub mod measure;
pub mod span;

use async_trait::async_trait;

use crate::model::{Case, Evaluation, EvaluatorSpec};
use crate::workflow::Assessment;

pub use registry::{Registry, RegistryError};

/// What an evaluator judges: the case and what the workflow made of it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The case, with the expected label if there is one.
    pub case: &'a Case,
    /// Outcome, answer, tokens, latency and cost.
    pub assessment: &'a Assessment,
}

/// Judges one trial at a time. Called only for trials that were tried; skipped trials get skipped evaluations.
#[async_trait]
pub trait Evaluator: Send + Sync {
    /// Id, version, kind and direction.
    fn spec(&self) -> &EvaluatorSpec;

    /// The score. A broken evaluator returns [`Evaluation::Failed`]; it never makes up a number.
    async fn evaluate(&self, subject: Subject<'_>) -> Evaluation;
}
