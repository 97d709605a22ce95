//! `spanscore gate --extend`: runs the suite again, in the way of the run that is judged, until the gate is decided.

use std::path::{Path, PathBuf};

use super::{Context, Exit, run};
use crate::compare::extend::{Extension, unfit};
use crate::compare::gate::{GateReport, Policy, Verdict};
use crate::compare::judge;
use crate::compare::load::load_run;
use crate::compare::{open, pin};
use crate::config::RunFlags;
use crate::model::{RunSpec, RunStatus};
use crate::store::rows::RunRow;
use crate::store::{Reader, Store};

/// The tag by which further runs are found.
const TAG: &str = "extends";

/// What further runs may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// How many of them.
    pub(super) runs: u32,
    /// What they may cost together.
    pub(super) cost_usd: Option<f64>,
}

/// Goes on until the gate is decided or the budget is used up. Further runs that were made before for the same run count first:
/// a gate that is extended twice is extended once. Gives the report, and how a run ended that did not end well; that one is
/// left out.
pub(super) fn extend(
    report: GateReport,
    store: &Store,
    first: &RunRow,
    policy: &Policy,
    suite: Option<&Path>,
    budget: Budget,
    ctx: &Context,
) -> anyhow::Result<(GateReport, Exit)> {
    let (base, digest) = open::open_baseline(Path::new(&report.baseline))?;
    let reader = store.reader()?;
    let mut sides = vec![load_run(&reader, first, &[])?];
    let cannot = unfit(&base, &sides[0], policy);
    anyhow::ensure!(
        cannot.is_empty(),
        "--extend decides on shares only, such as accuracy or an assertion; gate without {}, or without --extend",
        cannot.join(", ")
    );
    let past = open::past(&reader, first, &digest, policy.confirm)?;
    let mut made = further_runs(&reader, first)?.into_iter();
    let mut evidence = Extension::new(policy, budget.runs);
    let (mut spent, mut exit) = (0.0, Exit::Success);
    for further in 1..=budget.runs {
        let row = match made.next() {
            Some(row) => row,
            None => {
                if let Some(most) = budget.cost_usd.filter(|most| spent >= *most) {
                    ctx.hint(&format!("the budget of ${most} is used up after {} further runs", further - 1));
                    break;
                }
                ctx.hint(&format!("not decided yet: further run {further} of at most {}", budget.runs));
                let left = budget.cost_usd.map(|most| most - spent);
                let ended = run::again(suite, flags(&first.spec, further, left), ctx)?;
                let newest = further_runs(&store.reader()?, first)?.pop().filter(|_| ended == Exit::Success);
                let Some(row) = newest else {
                    // A budget that ends in the middle of a run is a budget that ends.
                    let by_budget = ended == Exit::Incomplete && left.is_some();
                    exit = if by_budget { Exit::Success } else { ended };
                    let why = if by_budget { "it was cut off, by the budget perhaps" } else { "it did not end well" };
                    ctx.say(&format!("further run {further} is left out: {why}"));
                    break;
                };
                row
            }
        };
        let side = load_run(&store.reader()?, &row, &[])?;
        spent += side.trials.iter().filter_map(|trial| trial.cost_usd).sum::<f64>();
        sides.push(side);
        if evidence.look(&base, &pin::pool(&sides)?, policy) != Verdict::Inconclusive {
            break;
        }
    }
    let mut report = judge::judge(&base, &pin::pool(&sides)?, policy, &past);
    report.baseline_digest = Some(digest);
    if report.verdict != Verdict::Invalid && report.must_pass.failed.is_empty() {
        // The bets decide, for they may be looked at as often as one likes; the intervals beside them may not.
        report.verdict = evidence.verdict();
        report.reasons = evidence.reasons();
        for metric in &mut report.metrics {
            metric.verdict = evidence.verdict_on(&metric.name);
        }
        if let Some(why) = past.unconfirmed(&report.metrics, policy.confirm) {
            report.verdict = Verdict::Inconclusive;
            report.reasons.insert(0, why);
        }
    }
    Ok((report, exit))
}

/// The whole runs that were made to decide on another, oldest first.
fn further_runs(reader: &Reader, first: &RunRow) -> anyhow::Result<Vec<RunRow>> {
    let mut found = reader.runs()?;
    found.retain(|row| {
        let extends = row.spec.tags.get(TAG).is_some_and(|run| run == first.spec.run_id.as_str());
        extends && row.status == RunStatus::Completed
    });
    found.reverse();
    Ok(found)
}

/// The flags that make the same run again.
fn flags(spec: &RunSpec, further: u32, max_cost: Option<f64>) -> RunFlags {
    let text = |key: &str| spec.config.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    let number = |key: &str| spec.config.get(key).and_then(serde_json::Value::as_u64);
    // A program or an endpoint of the user's is named by the suite alone.
    let is_model = matches!(spec.provider.as_str(), "builtin" | "openai" | "azure" | "replay");
    RunFlags {
        dataset: text("dataset").map(PathBuf::from),
        filter: text("filter"),
        limit: number("limit"),
        sample: number("sample"),
        seed: number("seed"),
        evaluators: spec.evaluators.iter().map(|e| e.id.to_string()).collect(),
        repeat: Some(spec.repeat),
        name: Some(format!("{} (further run {further})", spec.name)),
        tags: vec![format!("{TAG}={}", spec.run_id)],
        provider: is_model.then(|| spec.provider.clone()),
        models: if is_model { vec![spec.model.clone()] } else { Vec::new() },
        base_url: if is_model { text("base_url") } else { None },
        replay: if spec.provider == "replay" { text("replay") } else { None },
        max_cost,
        ..RunFlags::default()
    }
}
