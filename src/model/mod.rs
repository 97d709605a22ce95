//! The values that everything else passes around: no I/O, no clock, no async.
//!
//! Reading order: [`id`] (what names a thing), [`label`], [`case`], [`score`], [`trial`], [`span`], [`origin`], [`run`], [`event`]
//! (what the runner says while it works).

pub mod case;
pub mod event;
pub mod id;
pub mod label;
pub mod origin;
pub mod run;
pub mod score;
pub mod secret;
pub mod span;
pub mod trial;

pub use case::Case;
pub use event::RunEvent;
pub use id::{CaseId, Digest, EvaluatorId, IdError, RunId, SpanId, TraceId};
pub use label::{Label, Predicted};
pub use origin::{Entity, Origin, Telemetry};
pub use run::{DatasetRef, EvaluatorKind, EvaluatorSpec, GitRevision, RunSpec, RunStatus};
pub use score::{Direction, Evaluation, Finite, Score};
pub use secret::Secret;
pub use span::{Event, Key, Link, LogRecord, Span, SpanKind, Status, Value};
pub use trial::{Failure, Outcome, Trial, TrialKey, Usage};
