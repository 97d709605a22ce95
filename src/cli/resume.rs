//! How a session goes on with what an earlier one recorded.

use std::sync::Arc;

use super::inputs::Inputs;
use crate::config::RunFlags;
use crate::evaluation::{checked_survey, plan_digest};
use crate::model::{DatasetRef, RunSpec, TrialKey};
use crate::runner::{PlanDigest, Prior};
use crate::store::rows::{OutcomeKind, RunRow, ScoreFact};
use crate::store::{Reader, RunLock, Store, StoreError};

/// Which trials are not to be run again.
pub(super) type Done = Arc<dyn Fn(TrialKey) -> bool + Send + Sync>;

/// Everything that a session starts from.
pub(super) struct Start {
    pub(super) spec: RunSpec,
    /// Held while the session lasts: no other process works on this run.
    pub(super) lock: RunLock,
    pub(super) past: Past,
}

/// What is recorded already.
pub(super) struct Past {
    pub(super) prior: Prior,
    pub(super) done: Done,
    /// Trials that need not be run again.
    pub(super) recorded: u64,
}

impl Past {
    /// Nothing yet.
    pub(super) fn none() -> Self {
        Self { prior: Prior::default(), done: Arc::new(|_| false), recorded: 0 }
    }
}

/// Goes on with a run. Refuses, with the difference, one that is not what was asked for now.
pub(super) fn resume(
    which: &str,
    template: RunSpec,
    inputs: &Inputs,
    store: &Store,
    flags: &RunFlags,
    models: usize,
) -> anyhow::Result<Start> {
    let reader = store.reader()?;
    anyhow::ensure!(
        which.is_empty() || models == 1,
        "--resume {which} goes on with one run, and {models} models are asked for; leave the run's id out, or name one model"
    );
    let row = find(&reader, which, &template, models)?;
    let lock = store.lock_run(&row.spec.run_id)?;
    // Read again under the lock: another process may have gone on with it in between.
    let row = reader.resolve_run(row.spec.run_id.as_str())?;
    let mut order = PlanDigest::default();
    let survey = tokio::task::block_in_place(|| {
        checked_survey(&inputs.source, &inputs.selection, |case| {
            order.add(case);
            Ok::<(), StoreError>(())
        })
    })?;
    let found = RunSpec {
        dataset: DatasetRef { name: template.dataset.name.clone(), digest: survey.digest, cases: survey.cases },
        ..template
    };
    let (mut hard, soft) = differences(&row.spec, &found);
    if hard.is_empty() && plan_digest(&row.spec).is_some_and(|planned| planned != order.digest()) {
        hard.push("its cases stood in another order or had other ids".to_owned());
    }
    anyhow::ensure!(
        hard.is_empty(),
        "run {} cannot be resumed: {}; --force does not help with that: start a new run",
        row.spec.run_id,
        hard.join("; ")
    );
    anyhow::ensure!(
        soft.is_empty() || flags.force,
        "run {} is not the same any more: {}; undo that, pass --force to go on all the same, or start a new run",
        row.spec.run_id,
        soft.join("; ")
    );
    let prior = prior(&reader, &row, flags.retry_failed)?;
    let done = reader.done_trials(&row, !flags.retry_failed)?;
    let recorded = done.len();
    let mut spec = row.spec;
    if !soft.is_empty() {
        // The record says what the remaining trials are really run with, and that this is not what the run began with.
        spec.config["forced"] = serde_json::json!(soft);
        spec.prompt_digest = found.prompt_digest;
        (spec.model, spec.provider, spec.model_digest) = (found.model, found.provider, found.model_digest);
        spec.evaluators = found.evaluators;
    }
    let past = Past { prior, done: Arc::new(move |key| done.contains(key)), recorded };
    Ok(Start { spec, lock, past })
}

/// The run to resume: the one named, or the suite's newest.
fn find(reader: &Reader, which: &str, template: &RunSpec, models: usize) -> anyhow::Result<RunRow> {
    if !which.is_empty() {
        return Ok(reader.resolve_run(which)?);
    }
    let newest = reader.runs()?.into_iter().filter(|row| {
        // With several models the newest run may be another's.
        row.spec.suite == template.suite && (models == 1 || row.spec.model_digest == template.model_digest)
    });
    let newest = newest.max_by(|a, b| a.spec.started_unix_nano.cmp(&b.spec.started_unix_nano));
    newest.ok_or_else(|| anyhow::anyhow!("there is no run of suite `{}` to resume; leave --resume out", template.suite))
}

/// What differs: what no flag can bridge, and what `--force` can.
fn differences(old: &RunSpec, new: &RunSpec) -> (Vec<String>, Vec<String>) {
    let ids = |spec: &RunSpec| spec.evaluators.iter().map(|e| e.id.to_string()).collect::<Vec<_>>().join(", ");
    let short = |digest: &crate::model::Digest| digest.to_string().chars().take(12).collect::<String>();
    let (mut hard, mut soft) = (Vec::new(), Vec::new());
    if old.dataset.digest != new.dataset.digest {
        hard.push(format!(
            "its dataset was {} ({} cases), this one is {} ({} cases)",
            short(&old.dataset.digest),
            old.dataset.cases,
            short(&new.dataset.digest),
            new.dataset.cases
        ));
    }
    if old.repeat != new.repeat {
        hard.push(format!("it has {} repeats, now {} are asked for", old.repeat, new.repeat));
    }
    if ids(old) != ids(new) {
        hard.push(format!("its evaluators are {}, now {}", ids(old), ids(new)));
    }
    if old.prompt_digest != new.prompt_digest {
        soft.push(format!("prompt {} became {}", short(&old.prompt_digest), short(&new.prompt_digest)));
    }
    if old.model_digest != new.model_digest {
        soft.push(format!(
            "model {} ({}) became {} ({})",
            old.model,
            short(&old.model_digest),
            new.model,
            short(&new.model_digest)
        ));
    }
    for (a, b) in old.evaluators.iter().zip(&new.evaluators).filter(|(a, b)| a.id == b.id && a.digest != b.digest) {
        soft.push(format!("evaluator {} version {} became {}", a.id, a.version, b.version));
    }
    (hard, soft)
}

/// What the recorded trials add to means and budgets; those that will be run again count for the budget only.
fn prior(reader: &Reader, row: &RunRow, retry_failed: bool) -> Result<Prior, StoreError> {
    let mut prior = Prior { sums: vec![(0.0, 0); row.spec.evaluators.len()], ..Prior::default() };
    reader.for_each_fact(row, |fact| {
        // Cached and recorded answers were paid elsewhere.
        if fact.attempts > 0 {
            prior.tokens += fact.usage.input_tokens.unwrap_or(0) + fact.usage.output_tokens.unwrap_or(0);
            prior.cost_usd += fact.cost_usd.unwrap_or(0.0);
        }
        let again = match fact.outcome {
            OutcomeKind::Completed(_) => false,
            OutcomeKind::Failed => retry_failed,
            OutcomeKind::Skipped => true,
        };
        for (sum, score) in prior.sums.iter_mut().zip(&fact.scores) {
            if let (false, Some(ScoreFact::Scored { value: Some(value), .. })) = (again, score) {
                *sum = (sum.0 + value, sum.1 + 1);
            }
        }
    })?;
    Ok(prior)
}
