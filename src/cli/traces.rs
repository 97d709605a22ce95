//! `spanscore traces`: the traces of the store, the newest first.

use super::{Context, Exit, Format};
use crate::query::{self, Schema};
use crate::report::{lists, trace_documents};

/// List traces: id, start time, duration, status, operations, scores
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only traces that match, such as `status = error` or `duration > 2s`
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    /// Order by a field; `-FIELD` puts the largest first
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    sort: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

pub(super) fn exec(args: &Args, ctx: &Context) -> anyhow::Result<Exit> {
    let schema = Schema::traces();
    let filter = args.filter.as_deref().map(|text| query::parse(text, &schema)).transpose()?;
    let sort = args.sort.as_deref().map(|text| query::parse_sort(text, &schema)).transpose()?;
    let reader = ctx.store()?.reader()?;
    let mut rows = reader.traces(filter.as_ref(), sort.as_ref(), Some(args.limit.saturating_add(1)))?;
    let more = rows.len() > args.limit;
    rows.truncate(args.limit);
    let entries = trace_documents::traces(&rows);
    match ctx.format {
        Format::Json => ctx.print_json(&entries)?,
        Format::Text => {
            ctx.print(&lists::traces(&entries, ctx.style))?;
            if more {
                ctx.hint(&format!("there are more traces: --limit N shows more than {}", args.limit));
            }
        }
    }
    Ok(Exit::Success)
}
