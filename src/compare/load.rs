//! A run of the store as a side of a comparison.

use std::collections::HashMap;

use super::operand::{Operand, OperandDataset, OperandKind, OperandRun, rfc3339, short};
use super::side::{CaseRef, Cell, Column, Output, Side, SideEvaluator, Trial, digest_prefix};
use crate::model::{EvaluatorKind, Label, Predicted, RunSpec};
use crate::store::rows::{OutcomeKind, RunRow, ScoreFact};
use crate::store::{Reader, SideTrial, StoreError};

/// Reads a run; of the dataset's other columns those that are named.
pub fn load_run(reader: &Reader, run: &RunRow, columns: &[String]) -> Result<Side, StoreError> {
    let spec = &run.spec;
    let repeat = spec.repeat as usize;
    let mut side = empty(spec);
    let room = spec.dataset.cases as usize;
    side.cases.reserve_exact(room);
    side.trials.reserve_exact(room * repeat);
    for evaluator in &mut side.evaluators {
        evaluator.cells.reserve_exact(room * repeat);
    }
    let mut wanted: Vec<ColumnBuilder> = columns.iter().map(|name| ColumnBuilder::new(name)).collect();
    let mut groups: HashMap<u32, u32> = HashMap::new();
    let mut order = Vec::new();
    let names = reader.for_each_side_case(run, !columns.is_empty(), |case| {
        let group = case.group.map(|number| {
            *groups.entry(number).or_insert_with(|| {
                order.push(number);
                order.len() as u32 - 1
            })
        });
        side.cases.push(CaseRef {
            id: case.case_id,
            digest: digest_prefix(&case.digest),
            seq: case.seq,
            group,
            expected: case.expected,
        });
        for column in &mut wanted {
            column.add(case.columns.iter().find(|(name, _)| *name == column.column.name).map(|(_, value)| value));
        }
        let first = side.trials.len();
        side.trials.resize(first + repeat, Trial::ABSENT);
        for evaluator in &mut side.evaluators {
            evaluator.cells.resize(first + repeat, Cell::Absent);
        }
        for found in &case.trials {
            let at = first + found.facts.key.repeat as usize;
            // A repeat beyond the plan was never asked for.
            let Some(slot) = side.trials.get_mut(at) else { continue };
            *slot = trial_of(found);
            for (evaluator, score) in side.evaluators.iter_mut().zip(&found.facts.scores) {
                evaluator.cells[at] = cell_of(score.as_ref(), evaluator.kind);
            }
        }
    })?;
    side.groups = order.iter().map(|number| names.groups.get(number).cloned().unwrap_or_default()).collect();
    side.columns = wanted.into_iter().map(|builder| builder.column).collect();
    side.operand.response_models = names.response_models.into_iter().collect();
    side.operand.fingerprints = names.fingerprints.into_iter().collect();
    side.operand.trials = side.trials.len() as u64;
    side.operand.errors = side.errors();
    Ok(side)
}

fn empty(spec: &RunSpec) -> Side {
    let operand = Operand {
        kind: OperandKind::Run,
        name: spec.name.clone(),
        runs: vec![OperandRun {
            id: spec.run_id.to_string(),
            name: spec.name.clone(),
            started_at: rfc3339(spec.started_unix_nano),
            git: git(spec),
        }],
        suite: spec.suite.clone(),
        dataset: OperandDataset {
            name: spec.dataset.name.clone(),
            digest: spec.dataset.digest.to_string(),
            cases: spec.dataset.cases,
        },
        model: spec.model.clone(),
        provider: spec.provider.clone(),
        prompt_digest: spec.prompt_digest.to_string(),
        trials_per_case: spec.repeat,
        ..Operand::default()
    };
    Side {
        operand,
        workflow: spec.workflow.clone(),
        dataset: spec.dataset.digest,
        prompt: spec.prompt_digest,
        model: spec.model_digest,
        primary: spec.primary.clone(),
        evaluators: spec
            .evaluators
            .iter()
            .map(|e| SideEvaluator {
                id: e.id.clone(),
                version: e.version.clone(),
                kind: e.kind,
                direction: e.direction,
                threshold: e.threshold,
                unit: e.unit.clone(),
                digest: e.digest,
                cells: Vec::new(),
            })
            .collect(),
        runs: vec![(spec.run_id.clone(), spec.repeat)],
        groups: Vec::new(),
        columns: Vec::new(),
        cases: Vec::new(),
        trials: Vec::new(),
    }
}

/// The commit that a run was started from, with a word where tracked files differed from it.
pub(super) fn git(spec: &RunSpec) -> Option<String> {
    spec.git.as_ref().map(|git| {
        let revision: String = git.revision.chars().take(12).collect();
        if git.dirty { format!("{revision} with uncommitted changes") } else { revision }
    })
}

fn trial_of(found: &SideTrial) -> Trial {
    let facts = &found.facts;
    let output = match facts.outcome {
        OutcomeKind::Completed(Predicted::Label(Label::True)) => Output::True,
        OutcomeKind::Completed(Predicted::Label(Label::False)) => Output::False,
        OutcomeKind::Completed(Predicted::Label(Label::Nee)) => Output::Nee,
        OutcomeKind::Completed(Predicted::Unparseable) => Output::Unparseable,
        OutcomeKind::Failed => Output::Failed,
        OutcomeKind::Skipped => Output::Skipped,
    };
    Trial {
        output,
        latency_ms: output.is_answer().then_some(facts.latency_ns as f64 / 1e6),
        tokens: [facts.usage.input_tokens, facts.usage.output_tokens],
        cost_usd: facts.cost_usd.filter(|usd| usd.is_finite()),
        trace_id: found.trace_id,
        span_id: Some(found.span_id),
    }
}

fn cell_of(score: Option<&ScoreFact>, kind: EvaluatorKind) -> Cell {
    match score {
        Some(ScoreFact::Scored { value: Some(x), .. }) if x.is_finite() => Cell::Value(*x),
        // SQLite keeps a NaN as NULL.
        Some(ScoreFact::Scored { value: None, .. }) if kind == EvaluatorKind::Label => Cell::Skipped,
        Some(ScoreFact::Scored { .. }) => Cell::NotFinite,
        Some(ScoreFact::Failed) => Cell::Failed,
        Some(ScoreFact::Skipped) => Cell::Skipped,
        None => Cell::Absent,
    }
}

/// A column whose values are kept once each.
struct ColumnBuilder {
    column: Column,
    known: HashMap<String, u32>,
}

impl ColumnBuilder {
    fn new(name: &str) -> Self {
        Self { column: Column { name: name.to_owned(), ..Column::default() }, known: HashMap::new() }
    }

    fn add(&mut self, value: Option<&String>) {
        let place = value.map(|value| match self.known.get(value) {
            Some(place) => *place,
            None => {
                let place = self.column.values.len() as u32;
                self.column.values.push(value.clone());
                self.known.insert(value.clone(), place);
                place
            }
        });
        self.column.of_case.push(place);
    }
}

/// The dataset in a word.
pub(super) fn dataset_of(side: &Side) -> String {
    format!("{} ({} cases, {})", side.operand.dataset.name, side.operand.dataset.cases, short(&side.dataset))
}
