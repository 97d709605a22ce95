//! `spanscore export --pending`: delivers what destinations still lack.

use clap::Parser;

use super::{Context, Exit, Format};
use crate::export::deliver_pending;

/// Flags of `export`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// Deliver what is still pending, to the destinations that each run was given
    #[arg(long, required = true)]
    pending: bool,
    /// Only what belongs to this run
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
}

pub(super) fn exec(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let store = context.store()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(deliver_pending(&store, &context.env, args.run.as_deref()))?;
    for line in &outcome.messages {
        context.hint(line);
    }
    match context.format {
        Format::Json => context.print_json(&serde_json::json!({ "destinations": outcome.destinations }))?,
        Format::Text if outcome.destinations.is_empty() => context.print("no destination is known for any run")?,
        Format::Text => {
            for (name, c) in &outcome.destinations {
                context.print(&format!(
                    "{name}: {} stored = {} delivered + {} pending + {} rejected + {} not sampled ({} possible duplicates)",
                    c.stored, c.delivered, c.pending, c.rejected, c.not_sampled, c.duplicates
                ))?;
            }
        }
    }
    let pending = outcome.destinations.values().any(|c| c.pending > 0);
    Ok(if pending { Exit::Incomplete } else { Exit::Success })
}
