//! `spanscore show`: the report of a recorded run, the same as the run itself gave, and what only a look back can tell.

use super::{Context, Exit, Format};
use crate::report::details::details;
use crate::report::{self, terminal};

/// Show one run: scores with intervals, confusion, latency, cost, lowest cases
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id, unique prefix, name, `latest` or `latest~N`
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
}

pub(super) fn exec(args: &Args, ctx: &Context) -> anyhow::Result<Exit> {
    let reader = ctx.store()?.reader()?;
    let run = reader.resolve_run(&args.run)?;
    let mut report = report::build(&reader, &run, reader.is_live(&run.spec.run_id))?;
    report.details = Some(details(&reader, &run)?);
    match ctx.format {
        Format::Json => ctx.print_json(&report)?,
        Format::Text => {
            ctx.print(&terminal::render(&report, ctx.style))?;
            ctx.next(terminal::hints(&report));
        }
    }
    Ok(Exit::Success)
}
