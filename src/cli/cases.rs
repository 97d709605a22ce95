//! `spanscore cases`: the trials of a run, worst first.

use super::{Context, Exit, Format};
use crate::query::{self, Field, Schema};
use crate::report::{documents, lists};
use crate::store::rows::RunRow;

/// List the cases of a run, worst first, with their trace ids
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id, unique prefix, name, `latest` or `latest~N`
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
    /// Only cases that match, such as `score.label_match < 1 and expected = NEE`
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    /// Order by a field; `-FIELD` puts the largest first
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    sort: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// How many cases a person is shown unless asked otherwise; JSON has all.
const SHOWN: usize = 50;

pub(super) fn exec(args: &Args, ctx: &Context) -> anyhow::Result<Exit> {
    let schema = Schema::cases();
    let filter = args.filter.as_deref().map(|text| query::parse(text, &schema)).transpose()?;
    let sort = args.sort.as_deref().map(|text| query::parse_sort(text, &schema)).transpose()?;
    let reader = ctx.store()?.reader()?;
    let run = reader.resolve_run(&args.run)?;
    let external = reader.external_names(&run)?;
    known_evaluators(
        &run,
        &external,
        filter.iter().flat_map(query::Expr::fields).chain(sort.as_ref().map(|key| &key.field)),
    )?;
    match ctx.format {
        Format::Json => {
            let rows = reader.cases(&run, filter.as_ref(), sort.as_ref(), args.limit)?;
            ctx.print_json(&documents::cases_of(&run.spec, &rows))?;
        }
        Format::Text => {
            let limit = args.limit.unwrap_or(SHOWN);
            // One more than is shown tells whether there are more.
            let mut rows = reader.cases(&run, filter.as_ref(), sort.as_ref(), Some(limit.saturating_add(1)))?;
            let more = rows.len() > limit;
            rows.truncate(limit);
            let mut evaluators: Vec<String> = run.spec.evaluators.iter().map(|spec| spec.id.to_string()).collect();
            evaluators.extend(external.iter().cloned());
            let entries = documents::cases_of(&run.spec, &rows);
            ctx.print(&lists::cases(&entries, &evaluators, ctx.style))?;
            if let Some(url) = entries.first().and_then(|entry| entry.trace_url.as_deref()) {
                ctx.hint(&format!("trace of the first: {url}"));
            }
            if more {
                ctx.hint(&format!(
                    "there are more cases: --limit N shows more than {limit}, --where EXPR narrows them down"
                ));
            }
        }
    }
    Ok(Exit::Success)
}

/// A score of an evaluator that the run does not have is a slip, and no case has it.
fn known_evaluators<'f>(
    run: &RunRow,
    external: &[String],
    fields: impl Iterator<Item = &'f Field>,
) -> anyhow::Result<()> {
    for field in fields {
        if let Field::Score(id) | Field::Label(id) = field
            && !run.spec.evaluators.iter().any(|spec| spec.id.as_str() == id)
            && !external.contains(id)
        {
            let own = run.spec.evaluators.iter().map(|spec| spec.id.as_str());
            let known: Vec<&str> = own.chain(external.iter().map(String::as_str)).collect();
            anyhow::bail!("run {} has no evaluator `{id}`; it has {}", run.spec.run_id, known.join(", "));
        }
    }
    Ok(())
}
