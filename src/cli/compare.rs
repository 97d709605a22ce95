//! `spanscore compare`: two runs, or a baseline and a run, case by case.

use super::{Context, Exit, Format};
use crate::compare::build::CompareOptions;
use crate::compare::open::{Named, compare_named, resolve};
use crate::query::{self, Field, Schema};
use crate::report::compare as shown;

/// Compare two runs or baselines: differences with intervals, and the cases that changed
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The earlier side: id, unique prefix, name, `latest~N`, or the path of a baseline
    #[arg(value_name = "BASE")]
    base: String,
    /// The side under test, named likewise
    #[arg(value_name = "HEAD", default_value = "latest")]
    head: String,
    /// Compare over the parts of a column, too: `expected`, `group` or `col.NAME` (repeatable)
    #[arg(long = "by", value_name = "COLUMN", value_delimiter = ',')]
    slices: Vec<String>,
    /// Compare although this differs: `dataset`, `evaluator`, or an evaluator's id (repeatable)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    allow: Vec<String>,
    /// At most this many cases in each list; JSON has all unless asked otherwise
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Seed of resampling
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

pub(super) fn exec(args: &Args, ctx: &Context) -> anyhow::Result<Exit> {
    let store = ctx.store()?;
    let readers = [store.reader()?, store.reader()?];
    let (base, head) = (resolve(&readers[0], &args.base)?, resolve(&readers[1], &args.head)?);
    for column in &args.slices {
        known_column(column)?;
    }
    let options = CompareOptions {
        allow: args.allow.clone(),
        slices: args.slices.clone(),
        limit: args.limit.unwrap_or(usize::MAX),
        ..CompareOptions::default()
    };
    let options = CompareOptions { seed: args.seed.unwrap_or(options.seed), ..options };
    let comparison = compare_named([&readers[0], &readers[1]], &base, &head, &options)?;
    match ctx.format {
        Format::Json => ctx.print_json(&comparison)?,
        Format::Text => {
            ctx.print(&shown::comparison(&comparison, ctx.style))?;
            if let Some(case) = comparison.cases.regressed.first() {
                let [then, now] = [case.base.trace_id, case.head.trace_id];
                let mut hints = vec![format!("spanscore case {}", crate::report::terminal::shell_word(&case.case_id))];
                if let (Some(then), Some(now), true) = (then, now, both_runs(&base, &head)) {
                    hints.push(format!("spanscore trace {then} --diff {now}"));
                }
                ctx.next(hints);
            }
        }
    }
    Ok(Exit::Success)
}

const fn both_runs(base: &Named, head: &Named) -> bool {
    matches!((base, head), (Named::Run(_), Named::Run(_)))
}

/// A column that queries know.
pub(super) fn known_column(column: &str) -> anyhow::Result<()> {
    let field = query::parse_sort(column, &Schema::cases())?.field;
    anyhow::ensure!(
        matches!(field, Field::Expected | Field::Group | Field::Column(_)),
        "--by {column}: cases are sliced by what the dataset says of them: `expected`, `group` or `col.NAME`"
    );
    Ok(())
}
