//! `spanscore verify`: proves that every score of a run is linked to its span, and that the span says the same.

use super::{Context, Exit, Format};
use crate::report::{documents, lists};

/// Prove that every score of a run is linked to a stored span that carries it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id, unique prefix, name, `latest` or `latest~N`
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
}

pub(super) fn exec(args: &Args, ctx: &Context) -> anyhow::Result<Exit> {
    let reader = ctx.store()?.reader()?;
    let run = reader.resolve_run(&args.run)?;
    let verification = reader.verify(&run)?;
    match ctx.format {
        Format::Json => ctx.print_json(&documents::verify(&run.spec.run_id, &verification))?,
        Format::Text => ctx.print(&lists::verification(&run.spec.run_id, &verification, ctx.style))?,
    }
    Ok(if verification.is_good() { Exit::Success } else { Exit::Incomplete })
}
