//! What the files of a report are made of: the run, what it is held against, and its worst cases with their traces.

use super::details::{CaseChange, direction};
use super::document::Report;
use super::junit::Judgement;
use super::results::Base;
use crate::compare::comparison::Comparison;
use crate::compare::gate::{GateReport, Verdict};
use crate::compare::trend::Trend;
use crate::model::{Direction, Evaluation, Outcome};
use crate::store::rows::{CaseRow, RunRow, TraceSkeleton};
use crate::store::{Reader, StoreError};

/// Cases that the table of a report holds at most: the worst of a larger run.
pub const TABLE: usize = 10_000;
/// Cases of which a report shows the trace.
pub const WORST: usize = 10;

/// Everything about a run that a report tells.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The run.
    pub run: &'a RunRow,
    /// Its report with its details.
    pub report: &'a Report,
    /// What the base has of its cases.
    pub base: Option<&'a Base>,
    /// The comparison with the base.
    pub comparison: Option<&'a Comparison>,
    /// The verdict, where the run was judged.
    pub gate: Option<&'a GateReport>,
    /// The primary score over the suite's runs.
    pub trend: Option<&'a Trend>,
}

/// A case of a report with its trace.
#[derive(Debug)]
pub struct Worst<'r> {
    /// The trial.
    pub row: &'r CaseRow,
    /// Its trace in outline; the reason where there is none.
    pub trace: Result<TraceSkeleton, String>,
}

impl Evidence<'_> {
    /// The cases of the table, the worst first: those that got worse by most, then failed and unparseable ones, then by
    /// the primary evaluator.
    pub fn rows(&self, reader: &Reader) -> Result<Vec<CaseRow>, StoreError> {
        let mut rows = reader.cases(self.run, None, None, Some(TABLE))?;
        if let Some(base) = self.base {
            // Stable: within a kind the order by badness stays.
            rows.sort_by(|a, b| self.loss(base, b).total_cmp(&self.loss(base, a)));
        }
        Ok(rows)
    }

    /// How much a case lost against the base: infinite where it lost its score, 0 where it did not get worse.
    fn loss(&self, base: &Base, row: &CaseRow) -> f64 {
        let Some((before, change)) = base.get(row.key.seq) else { return 0.0 };
        let now = row.scores.get(&self.run.spec.primary).and_then(Evaluation::value);
        match (change, before.value, now) {
            (CaseChange::Lost, ..) => f64::INFINITY,
            (CaseChange::Regressed, Some(before), Some(now)) => match direction(&self.run.spec) {
                Direction::Higher => (before - now).max(0.0),
                Direction::Lower => (now - before).max(0.0),
            },
            _ => 0.0,
        }
    }

    /// The first of these rows that are worth a look, with their traces.
    pub fn worst<'r>(&self, reader: &Reader, rows: &'r [CaseRow]) -> Result<Vec<Worst<'r>>, StoreError> {
        let looked_at = rows.iter().filter(|row| self.is_low(row)).take(WORST);
        looked_at.map(|row| Ok(Worst { row, trace: trace_of(reader, row)? })).collect()
    }

    /// Whether a trial failed, answered nothing of use, or is short of the best that its score can be.
    pub(super) fn is_low(&self, row: &CaseRow) -> bool {
        match &row.outcome {
            Some(Outcome::Failed(_)) => true,
            Some(Outcome::Completed { predicted }) => {
                let value = row.scores.get(&self.run.spec.primary).and_then(Evaluation::value);
                let higher = direction(&self.run.spec) == Direction::Higher;
                predicted.label().is_none() || value.is_some_and(|value| !higher || value < 1.0)
            }
            _ => false,
        }
    }

    /// The verdict as test cases.
    pub fn judgements(&self) -> Vec<Judgement> {
        let Some(gate) = self.gate else { return Vec::new() };
        let judged = |name: &str, verdict: Verdict, why: String| Judgement {
            name: name.to_owned(),
            failure: (verdict != Verdict::Pass).then(|| (verdict.as_str().to_owned(), why)),
        };
        let mut judgements = vec![judged("verdict", gate.verdict, gate.reasons.join("\n"))];
        judgements.extend(gate.metrics.iter().map(|metric| {
            let mut why = format!("{} is {}: margin {}", metric.name, metric.verdict, metric.margin);
            if let Some([low, high]) = metric.damage {
                why = format!("{why}, worse by {low:.4} to {high:.4}");
            }
            judged(&metric.name, metric.verdict, why)
        }));
        judgements.extend(gate.must_pass.failed.iter().map(|case| Judgement {
            name: format!("must pass: {}", case.case_id),
            failure: Some(("must_pass".to_owned(), case.why.clone())),
        }));
        judgements
    }
}

/// The trace of a trial in outline, or why there is none: retention removes traces, never what was measured.
fn trace_of(reader: &Reader, row: &CaseRow) -> Result<Result<TraceSkeleton, String>, StoreError> {
    let Some(id) = row.trace_id else { return Ok(Err("It has no trace.".to_owned())) };
    match reader.trace_skeleton(&id.to_string()) {
        Ok(trace) => Ok(Ok(trace)),
        Err(StoreError::PrunedTrace { .. }) => {
            Ok(Err("Retention removed its trace; what was measured is kept.".to_owned()))
        }
        Err(StoreError::UnknownTrace { .. }) => Ok(Err("Its trace is not in the store.".to_owned())),
        Err(error) => Err(error),
    }
}
