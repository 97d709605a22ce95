//! What the writer is asked to do, and what it answers.

use std::collections::BTreeMap;

use super::bundle::{Bundle, TrialRow};
use super::outbox::{Ack, Signal};
use super::plan::PlannedCase;
use crate::model::{RunId, RunSpec, RunStatus};

/// A step for the writer.
#[derive(Debug)]
pub(super) enum Work {
    SessionStarted { spec: Box<RunSpec>, root: Bundle },
    BatchStarted { root: Bundle },
    Trial { trial: TrialRow, bundle: Bundle },
    BatchFinished { root: Bundle },
    SessionFinished { status: RunStatus, root: Bundle, ended: i64 },
    CloseInterrupted(RunId),
    PlanCases { run_id: RunId, cases: Vec<PlannedCase> },
    PlanFinished(Box<RunSpec>),
    DropPlan(RunId),
    RemoveStep(RunId),
    SetTags { run_id: RunId, tags: BTreeMap<String, String> },
    Register { run_id: RunId, destination: String, signal: Signal, config: String },
    Acknowledge(Ack),
}

impl Work {
    /// Whether it belongs to a trial or its batch: many of them come at once.
    pub(super) const fn is_of_trial(&self) -> bool {
        matches!(self, Self::Trial { .. } | Self::BatchStarted { .. } | Self::BatchFinished { .. })
    }
}

/// What a step answers.
#[derive(Debug)]
pub(super) enum Done {
    Nothing,
    /// It has to be asked again.
    More,
    /// The run's number.
    Run(i64),
}
