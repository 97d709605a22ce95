//! `spanscore trace`: one trace as a waterfall, or one of its spans in full.

use anyhow::bail;

use super::{Context, Exit, Format};
use crate::report::{trace_documents, waterfall};

/// Show one trace as a waterfall, with the scores on its spans
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The trace's id, or a unique prefix of it
    #[arg(value_name = "TRACE")]
    trace: String,
    /// Show this span with its attributes, events and links; a unique prefix of its id will do
    #[arg(long, value_name = "SPAN")]
    span: Option<String>,
    /// Show every span in full
    #[arg(long, conflicts_with = "span")]
    raw: bool,
}

pub(super) fn exec(args: &Args, ctx: &Context) -> anyhow::Result<Exit> {
    let reader = ctx.store()?.reader()?;
    let detail = reader.trace(&args.trace)?;
    let chosen = match args.span.as_deref().map(|prefix| (prefix, waterfall::find_span(&detail, prefix))) {
        None => None,
        Some((_, Ok(span))) => Some(span),
        Some((prefix, Err(found))) if found.is_empty() => {
            bail!(
                "trace {} has no span `{prefix}`; `spanscore trace {0} --raw` shows all its spans",
                detail.row.trace_id
            )
        }
        Some((prefix, Err(found))) => {
            let found: Vec<String> = found.iter().take(8).map(ToString::to_string).collect();
            bail!("`{prefix}` begins the ids of several spans: {}; give more of the id", found.join(", "))
        }
    };
    let document = trace_documents::linked(&reader, &detail, chosen.map(|span| span.span_id))?;
    match ctx.format {
        Format::Json => ctx.print_json(&document)?,
        Format::Text => {
            if let Some(span) = chosen {
                ctx.print(&waterfall::span(&detail, span, ctx.style))?;
            } else if args.raw {
                for span in &detail.spans {
                    ctx.print(&format!("{}\n", waterfall::span(&detail, span, ctx.style)))?;
                }
            } else {
                ctx.print(&waterfall::render(&detail, ctx.style))?;
            }
            if let Some(url) = &document.trace_url {
                ctx.hint(&format!("in the trace backend: {url}"));
            }
        }
    }
    Ok(Exit::Success)
}
