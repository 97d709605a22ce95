//! `spanscore baseline`: pins runs as the level that later ones are held against.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::runs::wait_for;
use super::{Context, Exit, Format};
use crate::compare::load::load_run;
use crate::compare::{Baseline, file, pin};
use crate::model::RunId;
use crate::report::baseline as shown;
use crate::store::{Reader, Store};

/// Runs pooled below this are worth a word: chance alone makes one run better than the next.
const ENOUGH: usize = 3;

/// Pin runs as a baseline, show one, or accept a run as the new one
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Write a baseline file of one or several runs of the same thing
    Save {
        /// Ids, unique prefixes, names, `latest` or `latest~N`
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
        /// The file
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// Replace a baseline that is there already
        #[arg(long)]
        force: bool,
    },
    /// Show what a baseline holds
    Show {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Replace a baseline by runs: their level is the one to hold from now on
    Accept {
        /// Ids, unique prefixes, names, `latest` or `latest~N`
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
        /// The baseline's file
        #[arg(long, value_name = "FILE")]
        baseline: PathBuf,
    },
}

pub(super) fn exec(args: &Args, ctx: &Context) -> anyhow::Result<Exit> {
    match &args.action {
        Action::Save { runs, output, force } => {
            anyhow::ensure!(
                *force || !output.exists(),
                "`{}` is there already; `spanscore baseline accept RUN --baseline {0}` says what would change and replaces \
                 it, --force replaces it without a word",
                output.display()
            );
            let baseline = save(runs, output, ctx)?;
            say(&baseline, output, "saved", ctx)
        }
        Action::Show { file } => {
            let pinned = file::read(file)?;
            match ctx.format {
                Format::Json => ctx.print_json(&serde_json::json!({
                    "file": file.display().to_string(), "digest": pinned.digest, "baseline": pinned.baseline,
                }))?,
                Format::Text => ctx.print(&shown::baseline(&pinned, &file.display().to_string(), ctx.style))?,
            }
            Ok(Exit::Success)
        }
        Action::Accept { runs, baseline } => accept(runs, baseline, ctx),
    }
}

/// Replaces a baseline, after saying what that changes.
fn accept(runs: &[String], path: &Path, ctx: &Context) -> anyhow::Result<Exit> {
    anyhow::ensure!(
        path.exists(),
        "there is no baseline `{}` to replace; `spanscore baseline save RUN -o {0}` writes the first",
        path.display()
    );
    // One that cannot be read any more is replaced as well: that is the way out of it.
    let before = file::read(path).ok();
    let baseline = save(runs, path, ctx)?;
    if let Some(before) = &before {
        let options = crate::compare::CompareOptions { limit: 0, ..Default::default() };
        let name = path.display().to_string();
        let (then, now) = (pin::side_of(&before.baseline, &name), pin::side_of(&baseline, &name));
        let comparison = crate::compare::compare(&then, &now, &options);
        for metric in comparison.metrics.iter().filter(|metric| metric.delta.is_some_and(|delta| delta != 0.0)) {
            ctx.hint(&format!("level of {}", shown::level(metric)));
        }
    }
    say(&baseline, path, "accepted", ctx)
}

fn save(names: &[String], path: &Path, ctx: &Context) -> anyhow::Result<Baseline> {
    let store = ctx.store()?;
    let reader = store.reader()?;
    let mut rows = names.iter().map(|name| reader.resolve_run(name)).collect::<Result<Vec<_>, _>>()?;
    rows.sort_by_key(|row| (row.spec.started_unix_nano, row.number));
    for row in &rows {
        anyhow::ensure!(
            !reader.is_live(&row.spec.run_id),
            "run {} is under way; pin it when it has ended",
            row.spec.run_id
        );
    }
    let sides = rows.iter().map(|row| load_run(&reader, row, &[])).collect::<Result<Vec<_>, _>>()?;
    let baseline = pin::pin(&sides)?;
    file::write(path, &baseline)?;
    keep_traces(&store, &reader, path, &baseline)?;
    if baseline.runs.len() < ENOUGH {
        ctx.hint(&format!(
            "note: {} of {ENOUGH} runs pooled: where answers vary, three or more make a steadier level",
            baseline.runs.len()
        ));
    }
    Ok(baseline)
}

/// Notes in the store that retention must leave the traces of these runs alone.
fn keep_traces(store: &Store, _reader: &Reader, path: &Path, baseline: &Baseline) -> anyhow::Result<()> {
    let file = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
    let runs: BTreeSet<RunId> = baseline.runs.iter().map(|run| run.id.clone()).collect();
    wait_for(store, async |writer| writer.pin(&file, &runs).await)
}

fn say(baseline: &Baseline, path: &Path, what: &str, ctx: &Context) -> anyhow::Result<Exit> {
    match ctx.format {
        Format::Json => ctx.print_json(&serde_json::json!({
            "file": path.display().to_string(),
            "digest": file::digest(baseline),
            "runs": baseline.runs.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(),
            "cases": baseline.cases.len(),
        }))?,
        Format::Text => {
            let runs = baseline.runs.len();
            ctx.print(&format!(
                "{what} {}: {} cases of {runs} run{}",
                path.display(),
                baseline.cases.len(),
                if runs == 1 { "" } else { "s" }
            ))?;
            ctx.next([format!(
                "spanscore gate latest --baseline {}",
                crate::report::terminal::shell_word(&path.display().to_string())
            )]);
        }
    }
    Ok(Exit::Success)
}
