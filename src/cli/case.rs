//! `spanscore case`: one case in every run of its dataset.

use anyhow::{anyhow, bail};

use super::{Context, Exit, Format};
use crate::model::CaseId;
use crate::report::{documents, lists};

/// Show one case: its texts, its outputs, scores and traces in every run
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The case's id
    #[arg(value_name = "CASE")]
    case: String,
    /// The dataset, where several have a case of that id; the most recently used one otherwise
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
}

pub(super) fn exec(args: &Args, ctx: &Context) -> anyhow::Result<Exit> {
    let reader = ctx.store()?.reader()?;
    let case_id = CaseId::parse(args.case.as_str())?;
    let found = documents::find_case(&reader, &case_id, args.dataset.as_deref())?;
    if found.datasets.is_empty() {
        bail!("no run in the store has a case `{}`; `spanscore cases RUN` lists the cases of a run", args.case);
    }
    if found.left_out > 0 {
        ctx.say(&format!("{} trials of another case of that id (other texts or label) are left out", found.left_out));
    }
    let names = found.datasets.join(", ");
    let history = found.history.ok_or_else(|| {
        let dataset = args.dataset.as_deref().unwrap_or_default();
        anyhow!("no run of a dataset `{dataset}` has a case `{}`; it is known in {names}", args.case)
    })?;
    match ctx.format {
        Format::Json => ctx.print_json(&history)?,
        Format::Text => {
            ctx.print(&lists::case(&history, ctx.style))?;
            if found.datasets.len() > 1 {
                ctx.hint(&format!("several datasets have a case of that id: {names}; choose with --dataset NAME"));
            }
            if let Some(trace_id) = history.runs.iter().find_map(|trial| trial.trace_id) {
                ctx.next([format!("spanscore trace {trace_id}")]);
            }
        }
    }
    Ok(Exit::Success)
}
