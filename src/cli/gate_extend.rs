//! `spanscore gate --extend`: runs the suite again, in the way of the run that is judged, until the gate is decided.

use std::path::{Path, PathBuf};

use super::{Context, Exit, run};
use crate::compare::extend::{Extension, unfit};
use crate::compare::gate::{GateReport, Policy, Verdict};
use crate::compare::judge::{self, Past};
use crate::compare::load::load_run;
use crate::compare::{open, pin};
use crate::config::RunFlags;
use crate::model::RunSpec;
use crate::store::Store;
use crate::store::rows::RunRow;

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

/// Goes on until the gate is decided or the budget is used up.
pub(super) fn extend(
    report: GateReport,
    store: &Store,
    first: &RunRow,
    policy: &Policy,
    suite: Option<&Path>,
    budget: Budget,
    ctx: &Context,
) -> anyhow::Result<GateReport> {
    let (base, digest) = open::open_baseline(Path::new(&report.baseline))?;
    let mut sides = vec![load_run(&store.reader()?, first, &[])?];
    let cannot = unfit(&base, &sides[0], policy);
    anyhow::ensure!(
        cannot.is_empty(),
        "--extend decides on shares only, such as accuracy or an assertion; gate without {}, or without --extend",
        cannot.join(", ")
    );
    let mut evidence = Extension::new(policy, budget.runs);
    let mut spent = 0.0;
    for further in 1..=budget.runs {
        if let Some(most) = budget.cost_usd.filter(|most| spent >= *most) {
            ctx.hint(&format!("the budget of ${most} is used up after {} further runs", further - 1));
            break;
        }
        ctx.hint(&format!("not decided yet: further run {further} of at most {}", budget.runs));
        let exit = run::again(suite, flags(&first.spec, budget.cost_usd.map(|most| most - spent)), ctx)?;
        anyhow::ensure!(exit == Exit::Success, "further run {further} did not end well, so the gate stays undecided");
        let reader = store.reader()?;
        let newest = reader.runs()?.into_iter().find(|row| is_further(&row.spec, &first.spec));
        let newest = newest.ok_or_else(|| anyhow::anyhow!("further run {further} is not in the store"))?;
        let side = load_run(&reader, &newest, &[])?;
        spent += side.trials.iter().filter_map(|trial| trial.cost_usd).sum::<f64>();
        sides.push(side);
        let pooled = pin::pool(&sides)?;
        if evidence.look(&base, &pooled, policy) != Verdict::Inconclusive {
            break;
        }
    }
    let pooled = pin::pool(&sides)?;
    let mut report = judge::judge(&base, &pooled, policy, Past::default());
    report.baseline_digest = Some(digest);
    if report.verdict != Verdict::Invalid && report.must_pass.failed.is_empty() {
        // The bets decide, for they may be looked at as often as one likes; the intervals beside them may not.
        report.verdict = evidence.verdict();
        report.reasons = evidence.reasons();
        for metric in &mut report.metrics {
            metric.verdict = evidence.verdict_on(&metric.name);
        }
    }
    Ok(report)
}

fn is_further(spec: &RunSpec, first: &RunSpec) -> bool {
    spec.tags.get(TAG).is_some_and(|run| run == first.run_id.as_str())
}

/// The flags that make the same run again.
fn flags(spec: &RunSpec, max_cost: Option<f64>) -> RunFlags {
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
        name: Some(spec.name.clone()),
        tags: vec![format!("{TAG}={}", spec.run_id)],
        provider: is_model.then(|| spec.provider.clone()),
        models: if is_model { vec![spec.model.clone()] } else { Vec::new() },
        base_url: if is_model { text("base_url") } else { None },
        replay: if spec.provider == "replay" { text("replay") } else { None },
        max_cost,
        ..RunFlags::default()
    }
}
