//! `spanscore validate`: loads everything, runs nothing.

use std::path::PathBuf;

use clap::Parser;

use super::application;
use super::inputs::{self, Inputs};
use super::run::load_suite;
use super::{Context, Exit, Format};
use crate::config::{RunFlags, RunPlan};
use crate::dataset::{Validation, survey};
use crate::export::ExportPlan;
use crate::export::settings::{CONNECTION_STRING, SettingsError};
use crate::report::text::clean;

/// Flags of `validate`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// The suite file; without one, ./spanscore.toml
    suite: Option<PathBuf>,
    /// Dataset to check instead of the suite's
    #[arg(long, value_name = "FILE")]
    dataset: Option<PathBuf>,
    /// Count only the cases that match as selected; the whole file is checked all the same
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
}

pub(super) fn exec(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let suite = load_suite(args.suite.as_deref(), args.dataset.is_some())?;
    let flags = RunFlags { dataset: args.dataset.clone(), filter: args.filter.clone(), ..RunFlags::default() };
    let plan = RunPlan::resolve(suite, &context.env, &flags)?;
    application::check(&plan, context)?;
    destinations(&plan, context)?;
    let inputs = Inputs::load(&plan, &context.env)?;
    let found = Validation::from(survey(&inputs.source, &inputs.selection, &mut |_| Ok(()))?);
    let exit = if found.errors.is_empty() { Exit::Success } else { Exit::Usage };
    match context.format {
        Format::Json => context.print_json(&found)?,
        Format::Text => context.print(&text(&found))?,
    }
    Ok(exit)
}

/// Whether `[trace]` and `[[sinks]]` make sense. Keys and connection strings may be somewhere else, where runs are.
fn destinations(plan: &RunPlan, context: &Context) -> anyhow::Result<()> {
    const ANY: &str = "InstrumentationKey=00000000-0000-0000-0000-000000000000";
    let suite = inputs::suite_otlp(&plan.trace, &plan.sinks, &plan.azure)?;
    let to = (!plan.trace_to.is_empty()).then_some(plan.trace_to.as_slice());
    let mut env = context.env.clone();
    if env.get(CONNECTION_STRING).is_none() {
        env.set(CONNECTION_STRING, ANY);
    }
    match ExportPlan::resolve(&env, &suite, to) {
        Ok(_) | Err(SettingsError::Identity(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn text(found: &Validation) -> String {
    let mut lines = Vec::new();
    for (kind, problems, omitted) in
        [("error", &found.errors, found.errors_omitted), ("warning", &found.warnings, found.warnings_omitted)]
    {
        lines.extend(problems.iter().map(|problem| format!("{kind}: {}", clean(&problem.to_string()))));
        if omitted > 0 {
            lines.push(format!("… and {omitted} more {kind}s"));
        }
    }
    let labels = found.labels;
    lines.push(format!(
        "{} cases of {} rows: {} True, {} False, {} NEE, {} without a label",
        found.cases, found.rows, labels.supported, labels.refuted, labels.not_enough_evidence, labels.unlabelled
    ));
    lines.push(format!("columns {}", found.columns.iter().map(|c| clean(c)).collect::<Vec<_>>().join(", ")));
    lines.push(format!("digest {}", found.digest));
    let count = |n: usize, more: u64, word: &str| match n as u64 + more {
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    };
    lines.push(format!(
        "{}, {}",
        count(found.errors.len(), found.errors_omitted, "error"),
        count(found.warnings.len(), found.warnings_omitted, "warning")
    ));
    lines.join("\n")
}
