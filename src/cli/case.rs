//! `spanscore case`: one case in every run of its dataset.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{anyhow, bail};

use super::{Context, Exit, Format};
use crate::model::{CaseId, RunId};
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
    let mut rows = reader.case_everywhere(&case_id)?;
    if rows.is_empty() {
        bail!("no run in the store has a case `{}`; `spanscore cases RUN` lists the cases of a run", args.case);
    }
    let datasets: BTreeMap<RunId, String> =
        reader.runs()?.into_iter().map(|run| (run.spec.run_id, run.spec.dataset.name)).collect();
    rows.sort_by_key(|row| Reverse(row.run_started_unix_nano));
    let of = |run: &RunId| datasets.get(run).cloned().unwrap_or_default();
    let known: BTreeSet<String> = rows.iter().map(|row| of(&row.run_id)).collect();
    let dataset = args.dataset.clone().unwrap_or_else(|| of(&rows[0].run_id));
    rows.retain(|row| of(&row.run_id) == dataset);
    // Two files may share a name and an id: only what has the newest one's texts is the same case.
    let all = rows.len();
    if let Some(first) = rows.first().map(|row| (row.claim.clone(), row.context.clone(), row.expected)) {
        rows.retain(|row| (&row.claim, &row.context, row.expected) == (&first.0, &first.1, first.2));
    }
    if all > rows.len() {
        ctx.say(&format!("{} trials of another case of that id (other texts or label) are left out", all - rows.len()));
    }
    let names = known.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let history = documents::case_history(&dataset, &rows)
        .ok_or_else(|| anyhow!("no run of a dataset `{dataset}` has a case `{}`; it is known in {names}", args.case))?;
    match ctx.format {
        Format::Json => ctx.print_json(&history)?,
        Format::Text => {
            ctx.print(&lists::case(&history, ctx.style))?;
            if known.len() > 1 {
                ctx.hint(&format!("several datasets have a case of that id: {names}; choose with --dataset NAME"));
            }
            if let Some(trace_id) = history.runs.iter().find_map(|trial| trial.trace_id) {
                ctx.next([format!("spanscore trace {trace_id}")]);
            }
        }
    }
    Ok(Exit::Success)
}
