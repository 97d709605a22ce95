//! `spanscore gate`: a run held against a baseline; the exit code is the verdict.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::gate_extend::{Budget, extend};
use super::inputs::Inputs;
use super::run::DEFAULT_SUITE;
use super::runs::wait_for;
use super::{Context, Exit, Format};
use crate::compare::gate::GateReport;
use crate::compare::simulate::Simulation;
use crate::compare::{Policy, Verdict, file, judge, open};
use crate::config::{GatePlan, RunPlan, Suite};
use crate::report::compare as shown;
use crate::store::rows::RunRow;
use crate::store::{Reader, Store};

/// Judge a run against a baseline: exit 0 PASS, 1 FAIL, 3 INCONCLUSIVE or INVALID
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id, unique prefix, name, `latest` or `latest~N`
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Simulate nights on these very data, unchanged and worse by the margin, and print how often the gate would be wrong
    #[arg(long)]
    self_check: bool,
    /// Where the verdict is INCONCLUSIVE, run the suite again in the same way until it is decided
    #[arg(long, conflicts_with = "self_check")]
    extend: bool,
    /// With --extend: at most this many further runs
    #[arg(long, value_name = "N", requires = "extend", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    max_runs: u32,
    /// With --extend: start no further run once those made cost this much
    #[arg(long, value_name = "USD", requires = "extend")]
    max_cost: Option<f64>,
    /// Simulated nights of each kind
    #[arg(long, value_name = "N", requires = "self_check", value_parser = clap::value_parser!(u32).range(10..=100_000))]
    nights: Option<u32>,
}

impl Args {
    fn simulation(&self) -> Option<Simulation> {
        let default = Simulation::default();
        self.self_check.then(|| Simulation { nights: self.nights.unwrap_or(default.nights), ..default })
    }
}

/// Where a policy comes from, and what overrides it.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct PolicyArgs {
    /// The baseline, written by `spanscore baseline save`; without it, the suite's
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// The suite whose [gate] is the policy; without one, ./spanscore.toml if it is the run's
    #[arg(long, value_name = "SUITE")]
    suite: Option<PathBuf>,
    /// Gate on this metric with this margin instead of the suite's (repeatable), e.g. accuracy=0.02
    #[arg(long = "margin", value_name = "METRIC=MARGIN")]
    margins: Vec<String>,
    /// Chance of a false FAIL, and of a false PASS, over all metrics and the horizon
    #[arg(long, value_name = "ALPHA")]
    alpha: Option<f64>,
    /// Nights that alpha is spent over; 1 for a run that is judged once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    horizon: Option<u32>,
    /// A case that must pass (repeatable)
    #[arg(long = "must-pass", value_name = "CASE")]
    must_pass: Vec<String>,
    /// Judge although this differs: `dataset`, `evaluator`, or an evaluator's id (repeatable)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    allow: Vec<String>,
}

pub(super) fn exec(args: &Args, ctx: &Context) -> anyhow::Result<Exit> {
    let store = ctx.store()?;
    let reader = store.reader()?;
    let run = reader.resolve_run(&args.run)?;
    anyhow::ensure!(
        !reader.is_live(&run.spec.run_id),
        "run {} is under way; judge it when it has ended",
        run.spec.run_id
    );
    let plan = args.policy.plan(&run, ctx)?;
    let mut policy = args.policy.resolve(&plan)?;
    let baseline = args.policy.baseline(&plan)?;
    if args.extend {
        // Half of the error rate is for this look, half for those at further runs.
        policy.alpha /= 2.0;
    }
    let mut report = open::gate(&reader, &run, &policy, &baseline, args.simulation().as_ref())?;
    let mut exit = Exit::Success;
    let has = |verdict: Verdict| report.metrics.iter().any(|metric| metric.verdict == verdict);
    // More runs do not help where a metric fails already, and only waits to be confirmed.
    if args.extend && report.verdict == Verdict::Inconclusive && has(Verdict::Inconclusive) && !has(Verdict::Fail) {
        let budget = Budget { runs: args.max_runs, cost_usd: args.max_cost };
        (report, exit) = extend(report, &store, &run, &policy, args.policy.suite.as_deref(), budget, ctx)?;
    }
    keep(&store, &run, &report, ctx);
    exit = exit.or(Exit::of_verdict(report.verdict));
    // Where the job has a summary, the verdict stands in it, as after `run`.
    if let Err(error) = super::report::announce(&reader, &run, ctx) {
        ctx.error(&error);
        exit = exit.or(Exit::of(&error));
    }
    match ctx.format {
        Format::Json => ctx.print_json(&report)?,
        Format::Text => {
            ctx.print(&shown::gate(&report, ctx.style))?;
            ctx.next(shown::gate_hints(&report));
        }
    }
    Ok(exit)
}

impl PolicyArgs {
    /// The gate of the suite: the one that was named, else the one at hand if it is the run's.
    fn plan(&self, run: &RunRow, ctx: &Context) -> anyhow::Result<GatePlan> {
        if let Some(path) = &self.suite {
            return Ok(GatePlan::resolve(&Suite::read(path)?)?);
        }
        let path = Path::new(DEFAULT_SUITE);
        if !path.exists() {
            return Ok(GatePlan::default());
        }
        let suite = Suite::read(path)?;
        let name = suite.name();
        if name != run.spec.suite {
            ctx.hint(&format!(
                "note: {DEFAULT_SUITE} is suite `{name}` and the run is of `{}`: its [gate] is not used; --suite names one",
                run.spec.suite
            ));
            return Ok(GatePlan::default());
        }
        Ok(GatePlan::resolve(&suite)?)
    }

    fn baseline(&self, plan: &GatePlan) -> anyhow::Result<PathBuf> {
        self.baseline.clone().or_else(|| plan.baseline.clone()).ok_or_else(|| {
            anyhow::anyhow!(
                "no baseline is named: pass --baseline FILE, or set `baseline` in [gate]; \
                 `spanscore baseline save RUN -o FILE` writes one"
            )
        })
    }

    /// The suite's policy with what the flags say.
    fn resolve(&self, plan: &GatePlan) -> anyhow::Result<Policy> {
        let mut policy = Policy::of(plan);
        if !self.margins.is_empty() {
            policy.metrics = margins(&self.margins)?;
        }
        policy.alpha = self.alpha.unwrap_or(policy.alpha);
        policy.horizon = self.horizon.unwrap_or(policy.horizon);
        policy.must_pass.extend(self.must_pass.iter().cloned());
        policy.must_pass.sort();
        policy.must_pass.dedup();
        policy.allow.extend(self.allow.iter().cloned());
        Ok(policy)
    }
}

/// Margins as `METRIC=MARGIN`.
fn margins(texts: &[String]) -> anyhow::Result<BTreeMap<String, f64>> {
    texts
        .iter()
        .map(|text| {
            let parsed = text.split_once('=').and_then(|(name, margin)| {
                let margin: f64 = margin.trim().parse().ok()?;
                (margin.is_finite() && margin >= 0.0 && !name.trim().is_empty())
                    .then(|| (name.trim().to_owned(), margin))
            });
            parsed.ok_or_else(|| {
                anyhow::anyhow!(
                    "--margin: found `{text}`, expected METRIC=MARGIN with a margin of 0 or more, such as accuracy=0.02"
                )
            })
        })
        .collect()
}

/// Checks before a run whether it can be judged after it: nobody pays for a verdict that could be known to fail.
pub(super) fn check(plan: &RunPlan, inputs: &Inputs, baseline: &Path) -> anyhow::Result<()> {
    let evaluators: Vec<_> = inputs.evaluators.iter().map(|e| (e.spec().id.clone(), e.spec().kind)).collect();
    judge::check(&Policy::of(&plan.gate), &evaluators)?;
    file::read(baseline).context("--gate")?;
    Ok(())
}

/// Judges a run that has just ended under its suite's policy.
pub(super) fn judge_run(reader: &Reader, run: &RunRow, plan: &RunPlan, baseline: &Path) -> anyhow::Result<GateReport> {
    Ok(open::gate(reader, run, &Policy::of(&plan.gate), baseline, None)?)
}

/// Keeps the verdict in the store, where pages and lists find it. A store that cannot be written does not change it.
pub(super) fn keep(store: &Store, run: &RunRow, report: &GateReport, ctx: &Context) {
    let judged = open::judged(report);
    let kept = wait_for(store, async |writer| writer.keep_verdict(&run.spec.run_id, judged.clone()).await);
    warn(kept, ctx);
}

/// The same within a runtime.
pub(super) async fn keep_now(store: &Store, run: &RunRow, report: &GateReport, ctx: &Context) {
    let kept = async {
        let writer = store.writer()?;
        let kept = writer.keep_verdict(&run.spec.run_id, open::judged(report)).await;
        writer.close().await?;
        Ok(kept?)
    };
    warn(kept.await, ctx);
}

fn warn(kept: anyhow::Result<()>, ctx: &Context) {
    if let Err(error) = kept {
        ctx.say(&format!("warning: the verdict is not kept in the store: {}", super::context::in_words(&error)));
    }
}
