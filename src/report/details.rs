//! What `show` and the run's page add to a run's report: what changed since the suite's previous run, how values are
//! distributed, and which parts of the dataset are worse than others.

use std::collections::BTreeSet;

use serde::Serialize;

use super::distribution::{Distribution, Histogram, Parts, Slices};
use super::document::Ordered;
use super::format::rfc3339;
use crate::compare::cases::{Decider, Fate, counts};
use crate::compare::load::load_run;
use crate::compare::pair::pair;
use crate::model::{Direction, EvaluatorId, EvaluatorSpec, RunSpec};
use crate::store::rows::RunRow;
use crate::store::{Reader, StoreError};

/// How many runs the history holds at most, this one among them.
pub const HISTORY: usize = 30;
/// What `show` adds to the report of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Details {
    /// The suite's previous run and what is different; `None` for the first.
    pub previous: Option<Previous>,
    /// The primary evaluator's mean in the runs of the suite up to this one, oldest first.
    pub history: Vec<Past>,
    /// How the values of each evaluator are distributed.
    pub histograms: Ordered<Histogram>,
    /// Parts of the dataset by column, the primary evaluator's mean in each.
    pub slices: Vec<Slices>,
}

/// A run of the same suite.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Past {
    /// Its id.
    pub run_id: String,
    /// Its name.
    pub name: String,
    /// When it started.
    pub started_at: String,
    /// The primary evaluator's mean; `None` where it scored nothing.
    pub mean: Option<f64>,
    /// How many values stand behind it.
    pub n: u64,
}

/// The suite's previous run and what is different.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Previous {
    /// Its id.
    pub run_id: String,
    /// Its name.
    pub name: String,
    /// When it started.
    pub started_at: String,
    /// What was run differently.
    pub changed: Vec<Change>,
    /// Means of the evaluators that both runs have.
    pub scores: Ordered<ScoreChange>,
    /// What became of the cases that both runs have.
    pub cases: CaseChanges,
}

/// Something that was run differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What: `dataset`, `prompt`, `model`, `parameters`, `evaluator ID`, `git`, ….
    pub what: String,
    /// In the previous run; `None` where it had no such thing.
    pub before: Option<String>,
    /// In this run.
    pub after: Option<String>,
}

/// An evaluator's mean in both runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScoreChange {
    /// In the previous run.
    pub before: Option<f64>,
    /// In this run.
    pub after: Option<f64>,
    /// The second less the first.
    pub difference: Option<f64>,
    /// Whether that is the better way for this evaluator; `None` where a mean is missing.
    pub improved: Option<bool>,
}

/// What became of the cases that both runs have with the same texts and label, by the primary evaluator's mean over
/// their repeats. Whether a difference is more than chance is the business of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CaseChanges {
    /// Scored in both, better now.
    pub improved: u64,
    /// Scored in both, worse now.
    pub regressed: u64,
    /// Scored in both, the same.
    pub unchanged: u64,
    /// Scored then and not now.
    pub lost: u64,
    /// Scored now and not then.
    pub gained: u64,
    /// Scored in neither.
    pub unscored: u64,
    /// Cases that only this run has.
    pub added: u64,
    /// Cases that only the previous run has.
    pub removed: u64,
}

/// The details of a run.
pub fn details(reader: &Reader, run: &RunRow) -> Result<Details, StoreError> {
    let runs = reader.runs()?;
    // Newest first; of runs that started at once the store's numbers tell the order.
    let place = |run: &RunRow| (run.spec.started_unix_nano, run.number);
    let earlier: Vec<&RunRow> =
        runs.iter().filter(|other| other.spec.suite == run.spec.suite && place(other) < place(run)).collect();
    let mut history = Vec::new();
    for past in earlier.iter().copied().take(HISTORY - 1).rev().chain([run]) {
        // The primary evaluator of this run, for a line of numbers must be about one thing.
        let (mean, n) = reader.mean_score(past, &run.spec.primary)?;
        history.push(Past {
            run_id: past.spec.run_id.to_string(),
            name: past.spec.name.clone(),
            started_at: rfc3339(past.spec.started_unix_nano),
            mean,
            n,
        });
    }
    let mut distribution = Distribution::new(&run.spec);
    reader.for_each_fact(run, |facts| distribution.add(&facts))?;
    let mut parts = Parts::new(&run.spec);
    reader.for_each_case(run, &mut |row| parts.add(row))?;
    Ok(Details {
        previous: earlier.first().map(|before| previous(reader, before, run)).transpose()?,
        history,
        histograms: distribution.finish(&run.spec),
        slices: parts.finish(),
    })
}

/// The suite's previous run.
pub fn previous_run(reader: &Reader, run: &RunRow) -> Result<Option<RunRow>, StoreError> {
    let place = |run: &RunRow| (run.spec.started_unix_nano, run.number);
    let runs = reader.runs()?;
    Ok(runs.into_iter().find(|other| other.spec.suite == run.spec.suite && place(other) < place(run)))
}

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaseChange {
    /// Better now.
    Improved,
    /// Worse now.
    Regressed,
    /// The same.
    Unchanged,
    /// Scored then and not now.
    Lost,
    /// Scored now and not then.
    Gained,
    /// Scored in neither run.
    Unscored,
}

impl From<Fate> for CaseChange {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Regressed(_) => Self::Regressed,
            Fate::Improved(_) => Self::Improved,
            Fate::Unchanged => Self::Unchanged,
            Fate::Lost => Self::Lost,
            Fate::Gained => Self::Gained,
            Fate::Unscored => Self::Unscored,
        }
    }
}

impl CaseChange {
    /// From the value before and after.
    pub fn of(before: Option<f64>, after: Option<f64>, direction: Direction) -> Self {
        Fate::of(before, after, direction.into()).into()
    }

    /// Its name in addresses and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Improved => "improved",
            Self::Regressed => "regressed",
            Self::Unchanged => "unchanged",
            Self::Lost => "lost",
            Self::Gained => "gained",
            Self::Unscored => "unscored",
        }
    }

    /// The change of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Improved, Self::Regressed, Self::Unchanged, Self::Lost, Self::Gained, Self::Unscored]
            .into_iter()
            .find(|change| change.as_str() == name)
    }
}

/// Which way of the primary evaluator is better.
pub fn direction(spec: &RunSpec) -> Direction {
    spec.evaluators.iter().find(|e| e.id == spec.primary).map_or(Direction::Higher, |e| e.direction)
}

/// What became of the cases, read side by side: memory stays flat.
fn changes_by_primary(reader: &Reader, before: &RunRow, run: &RunRow) -> Result<CaseChanges, StoreError> {
    let mut cases = CaseChanges::default();
    let direction = direction(&run.spec);
    let unpaired = reader.pair_cases(before, run, &run.spec.primary, &mut |pair| {
        let count = match CaseChange::of(pair.before, pair.after, direction) {
            CaseChange::Improved => &mut cases.improved,
            CaseChange::Regressed => &mut cases.regressed,
            CaseChange::Unchanged => &mut cases.unchanged,
            CaseChange::Lost => &mut cases.lost,
            CaseChange::Gained => &mut cases.gained,
            CaseChange::Unscored => &mut cases.unscored,
        };
        *count += 1;
    })?;
    (cases.removed, cases.added) = (unpaired.before, unpaired.after);
    Ok(cases)
}

fn previous(reader: &Reader, before: &RunRow, run: &RunRow) -> Result<Previous, StoreError> {
    let cases = if before.spec.evaluators.iter().any(|evaluator| evaluator.id == run.spec.primary) {
        changes_by_primary(reader, before, run)?
    } else {
        // Then the share of right answers decides, as in a comparison.
        let (then, now) = (load_run(reader, before, &[])?, load_run(reader, run, &[])?);
        let pairing = pair(&then, &now);
        let found = counts(Decider::of(&then, &now).0, &then, &now, &pairing, 0..pairing.pairs.len());
        CaseChanges {
            improved: found.improved,
            regressed: found.regressed,
            unchanged: found.unchanged,
            lost: found.lost,
            gained: found.gained,
            unscored: found.unscored,
            added: pairing.head_only.len() as u64,
            removed: pairing.base_only.len() as u64,
        }
    };
    let mut scores = Vec::new();
    for spec in run.spec.evaluators.iter().filter(|spec| before.spec.evaluators.iter().any(|e| e.id == spec.id)) {
        let (then, now) = (reader.mean_score(before, &spec.id)?.0, reader.mean_score(run, &spec.id)?.0);
        let difference = then.zip(now).map(|(then, now)| now - then);
        let improved = difference.map(|x| (x > 0.0) == (spec.direction == Direction::Higher));
        scores.push((spec.id.to_string(), ScoreChange { before: then, after: now, difference, improved }));
    }
    Ok(Previous {
        run_id: before.spec.run_id.to_string(),
        name: before.spec.name.clone(),
        started_at: rfc3339(before.spec.started_unix_nano),
        changed: changes(&before.spec, &run.spec),
        scores: Ordered(scores),
        cases,
    })
}

/// What the later run did differently.
fn changes(before: &RunSpec, after: &RunSpec) -> Vec<Change> {
    let short = |digest: &crate::model::Digest| digest.to_string().chars().take(12).collect::<String>();
    let mut changed = Vec::new();
    let mut compare = |what: &str, before: Option<String>, after: Option<String>| {
        if before != after {
            changed.push(Change { what: what.to_owned(), before, after });
        }
    };
    let dataset = |spec: &RunSpec| {
        Some(format!("{} ({} cases, {})", spec.dataset.name, spec.dataset.cases, short(&spec.dataset.digest)))
    };
    compare("dataset", dataset(before), dataset(after));
    compare("prompt", Some(short(&before.prompt_digest)), Some(short(&after.prompt_digest)));
    compare("workflow", Some(before.workflow.clone()), Some(after.workflow.clone()));
    let model = |spec: &RunSpec| Some(format!("{} ({})", spec.model, spec.provider));
    if model(before) == model(after) {
        compare("parameters", Some(short(&before.model_digest)), Some(short(&after.model_digest)));
    } else {
        compare("model", model(before), model(after));
    }
    compare("repeats", Some(before.repeat.to_string()), Some(after.repeat.to_string()));
    compare("primary evaluator", Some(before.primary.to_string()), Some(after.primary.to_string()));
    let ids: BTreeSet<&EvaluatorId> = before.evaluators.iter().chain(&after.evaluators).map(|e| &e.id).collect();
    for id in ids {
        let of = |spec: &RunSpec| {
            let found: Option<&EvaluatorSpec> = spec.evaluators.iter().find(|e| e.id == *id);
            found.map(|e| format!("version {} ({})", e.version, short(&e.digest)))
        };
        compare(&format!("evaluator {id}"), of(before), of(after));
    }
    let git = |spec: &RunSpec| {
        let git = spec.git.as_ref()?;
        let dirty = if git.dirty { " with uncommitted changes" } else { "" };
        Some(format!("{}{dirty}", git.revision.chars().take(12).collect::<String>()))
    };
    compare("git", git(before), git(after));
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn only_what_differs_is_a_change() {
        let before = fixture::run().spec;
        assert!(changes(&before, &before).is_empty());
        let mut after = before.clone();
        after.model = "gpt-4.1".to_owned();
        after.model_digest = crate::model::Digest::from_bytes([9; 32]);
        after.git = None;
        after.evaluators.pop();
        let found: Vec<String> = changes(&before, &after)
            .iter()
            .map(|c| format!("{}: {:?} → {:?}", c.what, c.before.as_deref(), c.after.as_deref()))
            .collect();
        assert_eq!(
            found,
            [
                r#"model: Some("lexical-baseline (builtin)") → Some("gpt-4.1 (builtin)")"#,
                r#"evaluator tone: Some("version 1 (030303030303)") → None"#,
                r#"git: Some("0123456789ab with uncommitted changes") → None"#,
            ]
        );
        // Another temperature of the same model shows as other parameters.
        after = before.clone();
        after.model_digest = crate::model::Digest::from_bytes([9; 32]);
        assert_eq!(changes(&before, &after)[0].what, "parameters");
    }

    #[test]
    fn the_lower_value_is_better_where_the_evaluator_says_so() {
        for (before, after, higher, lower) in [
            (Some(0.0), Some(1.0), CaseChange::Improved, CaseChange::Regressed),
            (Some(1.0), Some(0.5), CaseChange::Regressed, CaseChange::Improved),
            (Some(1.0), Some(1.0), CaseChange::Unchanged, CaseChange::Unchanged),
            (Some(1.0), None, CaseChange::Lost, CaseChange::Lost),
            (None, Some(1.0), CaseChange::Gained, CaseChange::Gained),
        ] {
            assert_eq!(CaseChange::of(before, after, Direction::Higher), higher);
            assert_eq!(CaseChange::of(before, after, Direction::Lower), lower);
            assert_eq!(CaseChange::from_name(higher.as_str()), Some(higher));
        }
    }
}
