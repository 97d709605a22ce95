//! `spanscore trend`: a score night by night.

use super::{Context, Exit, Format};
use crate::compare::nights::{TrendOptions, trend};
use crate::report::compare as shown;

/// Show a score over the runs of a suite, and where its level changed
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The suite; without one, that of the newest run
    #[arg(long, value_name = "NAME")]
    suite: Option<String>,
    /// The score: an evaluator's id, `accuracy`, `macro_f1`, `mcc`, `kappa`, `latency_p50_ms`, …; without one, the newest
    /// run's primary evaluator
    #[arg(long, value_name = "NAME")]
    score: Option<String>,
    /// Over the parts of a column, too: `expected`, `group` or `col.NAME` (repeatable)
    #[arg(long = "by", value_name = "COLUMN", value_delimiter = ',')]
    slices: Vec<String>,
    /// The newest runs to look at
    #[arg(long, value_name = "N", default_value_t = 100)]
    last: usize,
}

pub(super) fn exec(args: &Args, ctx: &Context) -> anyhow::Result<Exit> {
    let reader = ctx.store()?.reader()?;
    for column in &args.slices {
        super::compare::known_column(column)?;
    }
    let options = TrendOptions {
        suite: args.suite.clone(),
        score: args.score.clone(),
        slices: args.slices.clone(),
        last: args.last,
        ..TrendOptions::default()
    };
    let trend = trend(&reader, &options)?;
    match ctx.format {
        Format::Json => ctx.print_json(&trend)?,
        Format::Text => {
            ctx.print(&shown::trend(&trend, ctx.style))?;
            if let Some(change) = trend.changes.last() {
                let before = trend.points.get((change.index as usize).saturating_sub(1));
                ctx.next(before.map(|before| format!("spanscore compare {} {}", before.run_id, change.at_run)));
            }
        }
    }
    Ok(Exit::Success)
}
