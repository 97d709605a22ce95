//! `spanscore trace`: one trace as a waterfall, or one of its spans in full.

use std::collections::BTreeSet;

use anyhow::bail;
use clap::ValueEnum;

use super::{Context, Exit, Format};
use crate::model::{Span, SpanId};
use crate::report::{trace_critical, trace_diff, trace_documents, trace_talk, waterfall};
use crate::store::rows::TraceDetail;
use crate::trace::otlp_json::encode_trace_request;
use crate::trace::requests::traces_request;
use crate::trace::tree::Tree;

/// The ways to look at a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum View {
    /// Its operations as a tree, with bars to scale.
    #[default]
    Timeline,
    /// What was said to models and what they answered.
    Conversation,
    /// Which operations it waited for.
    CriticalPath,
    /// OTLP JSON.
    Raw,
}

/// Show one trace as a waterfall, with the scores on its spans
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The trace's id, or a unique prefix of it
    #[arg(value_name = "TRACE")]
    trace: String,
    /// Show this span with its attributes, events and links; a unique prefix of its id will do
    #[arg(long, value_name = "SPAN")]
    span: Option<String>,
    /// How to look at it; `raw` prints OTLP JSON
    #[arg(long, value_enum, default_value_t, value_name = "VIEW")]
    view: View,
    /// Show every span in full
    #[arg(long, conflicts_with_all = ["span", "view", "diff"])]
    raw: bool,
    /// Show what differs in another trace: its id, or a unique prefix of it
    #[arg(long, value_name = "TRACE", conflicts_with_all = ["span", "view"])]
    diff: Option<String>,
}

pub(super) fn exec(args: &Args, ctx: &Context) -> anyhow::Result<Exit> {
    let reader = ctx.store()?.reader()?;
    let detail = reader.trace(&args.trace)?;
    if let Some(other) = &args.diff {
        let diff = trace_diff::trace_diff(&detail, &reader.trace(other)?);
        match ctx.format {
            Format::Json => ctx.print_json(&diff)?,
            Format::Text => ctx.print(&trace_diff::render(&diff, ctx.style))?,
        }
        return Ok(Exit::Success);
    }
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
            ctx.print(&shown(args, &detail, chosen, ctx))?;
            if let Some(url) = &document.trace_url {
                ctx.hint(&format!("in the trace backend: {url}"));
            }
            if let Some(kql) = &document.kql {
                ctx.hint(&format!("in Application Insights: {kql}"));
            }
        }
    }
    Ok(Exit::Success)
}

fn shown(args: &Args, detail: &TraceDetail, chosen: Option<&Span>, ctx: &Context) -> String {
    match (args.view, chosen) {
        (View::Timeline, Some(span)) => waterfall::span(detail, span, ctx.style),
        (View::Timeline, None) if args.raw => {
            let spans = detail.spans.iter().map(|span| waterfall::span(detail, span, ctx.style));
            spans.collect::<Vec<_>>().join("\n") + "\n"
        }
        (View::Timeline, None) => waterfall::render(detail, ctx.style),
        (View::Conversation, _) => {
            let inside = chosen.map(|span| below(detail, span.span_id));
            let within = |span: &Span| inside.as_ref().is_none_or(|inside| inside.contains(&span.span_id));
            trace_talk::render(detail, &trace_talk::calls(detail, within), ctx.style)
        }
        (View::CriticalPath, _) => trace_critical::render(detail, ctx.style),
        (View::Raw, chosen) => {
            let mut telemetry = detail.clone().into_telemetry();
            for part in &mut telemetry {
                part.spans.retain(|span| chosen.is_none_or(|chosen| chosen.span_id == span.span_id));
            }
            let request = encode_trace_request(&traces_request(&telemetry));
            let spelled = serde_json::from_slice::<serde_json::Value>(&request)
                .ok()
                .and_then(|json| serde_json::to_string_pretty(&json).ok());
            spelled.unwrap_or_else(|| String::from_utf8_lossy(&request).into_owned())
        }
    }
}

/// A span and all below it.
fn below(detail: &TraceDetail, span: SpanId) -> BTreeSet<SpanId> {
    let tree = Tree::build(&detail.spans);
    let id = |position: usize| detail.spans[tree.nodes[position].span].span_id;
    let Some(top) = (0..tree.nodes.len()).find(|&position| id(position) == span) else { return BTreeSet::new() };
    (top..=top + tree.nodes[top].descendants).map(id).collect()
}
