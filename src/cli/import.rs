//! `spanscore import`: traces of other programs and machines into the store, or a public dataset into one of ours.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use serde_json::json;

use super::export::walk;
use super::intake::Intake;
use super::{Context, Exit, Format, import_appinsights, import_dataset, import_evaluation};
use crate::export::files::FileError;
use crate::export::otlp_file::ReadFile;
use crate::export::{jaeger, otlp_file};
use crate::report::text::clean;
use crate::store::{Ingested, MergedRun, Store, StoreError, is_same};

/// Problems that are shown; the rest is counted.
const SHOWN: usize = 20;

/// Flags of `import`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Traces and logs in OTLP: JSON lines as the Collector's file exporter writes them, one JSON document, or protobuf; also
    /// .gz and .zst
    Otlp {
        /// The files
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Traces as Jaeger's user interface downloads them and its query API answers; also .gz and .zst
    Jaeger {
        /// The files
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Another store's runs and traces; what is here already is left as it is
    Store {
        /// The folder of the other store
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Traces, scores and log records of Application Insights, by queries to Log Analytics
    Appinsights(import_appinsights::Args),
    /// Scores: what `evaluate()` of azure-ai-evaluation wrote, matched to trials and spans
    Evaluation(import_evaluation::Args),
    /// SciFact: claims and corpus as JSON Lines, as the authors publish them
    Scifact(import_dataset::Args),
}

pub(super) fn exec(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    match &args.kind {
        Kind::Otlp { files } => traces(files, Reading::Otlp, context),
        Kind::Jaeger { files } => traces(files, Reading::Jaeger, context),
        Kind::Store { folder } => store(folder, context),
        Kind::Appinsights(args) => import_appinsights::exec(args, context),
        Kind::Evaluation(args) => import_evaluation::exec(args, context),
        Kind::Scifact(args) => import_dataset::exec(args, context),
    }
}

#[derive(Clone, Copy)]
enum Reading {
    Otlp,
    Jaeger,
}

/// Why reading a file ended.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn traces(files: &[PathBuf], reading: Reading, context: &Context) -> anyhow::Result<Exit> {
    // A name with a slip in it ends the command before anything is taken in.
    for path in files {
        std::fs::metadata(path).with_context(|| format!("reading `{}`", path.display()))?;
    }
    let mut intake = Intake::new(Store::open(&context.store_dir)?.writer()?)?;
    let mut all = Vec::with_capacity(files.len());
    let mut bad = false;
    for path in files {
        let before = intake.sum;
        let read = match reading {
            Reading::Otlp => otlp_file::read(path, |telemetry| Ok::<_, Stopped>(intake.take(telemetry)?)),
            Reading::Jaeger => jaeger::read(path, |telemetry| Ok(intake.take(telemetry)?)),
        };
        let flushed = intake.flush();
        match (read, flushed) {
            (Ok(found), Ok(())) => {
                bad |= !found.is_whole();
                tell(path, &found, context);
                all.push(document(path, &found, before, intake.sum, None));
            }
            // The store's failure ends the command; what was taken in before stays.
            (Err(Stopped::Store(error)), _) | (_, Err(error)) => return Err(error.into()),
            (Err(Stopped::File(error)), _) => {
                bad = true;
                context.say(&format!("error: {error}"));
                all.push(document(path, &ReadFile::default(), before, intake.sum, Some(error.to_string())));
            }
        }
    }
    let sum = intake.close()?;
    match context.format {
        Format::Json => context.print_json(&json!({ "files": all, "total": counts(sum) }))?,
        Format::Text => context.print(&format!(
            "{} spans and {} log records taken in, {} scores among them; {} were here already",
            sum.spans, sum.logs, sum.scores, sum.duplicates
        ))?,
    }
    if bad {
        context.say("error: not everything could be taken in; the rest is in the store");
        return Ok(Exit::Usage);
    }
    context.next(["spanscore traces".to_owned()]);
    Ok(Exit::Success)
}

/// Says what of a file cannot be taken.
fn tell(path: &Path, found: &ReadFile, context: &Context) {
    let shown = clean(&path.display().to_string()).into_owned();
    for problem in found.problems.iter().take(SHOWN) {
        let place = if problem.line == 0 { String::new() } else { format!(", line {}", problem.line) };
        context.say(&format!("error: `{shown}`{place}: {}", clean(&problem.message)));
    }
    let more = (found.problems.len() as u64 + found.problems_omitted).saturating_sub(SHOWN as u64);
    if more > 0 {
        context.say(&format!("… and {more} more of `{shown}`"));
    }
    if found.metrics > 0 {
        context.hint(&format!("`{shown}`: {} requests of metrics are left out; metrics are not kept", found.metrics));
    }
}

fn document(
    path: &Path,
    found: &ReadFile,
    before: Ingested,
    after: Ingested,
    error: Option<String>,
) -> serde_json::Value {
    let own = Ingested {
        spans: after.spans - before.spans,
        logs: after.logs - before.logs,
        duplicates: after.duplicates - before.duplicates,
        scores: after.scores - before.scores,
    };
    let problems: Vec<_> =
        found.problems.iter().map(|problem| json!({ "line": problem.line, "message": problem.message })).collect();
    let mut document = counts(own);
    document["file"] = json!(path);
    document["requests"] = json!(found.requests);
    document["rejected"] = json!(found.rejected);
    document["problems"] = json!(problems);
    document["problems_omitted"] = json!(found.problems_omitted);
    document["error"] = json!(error);
    document
}

pub(super) fn counts(sum: Ingested) -> serde_json::Value {
    json!({ "spans": sum.spans, "log_records": sum.logs, "scores": sum.scores, "duplicates": sum.duplicates })
}

fn store(folder: &Path, context: &Context) -> anyhow::Result<Exit> {
    let other = Store::open_existing(folder).with_context(|| {
        format!("`{}` is to be another store's folder, with a spanscore.db in it", folder.display())
    })?;
    let own = Store::open(&context.store_dir)?;
    anyhow::ensure!(
        !is_same(own.dir(), other.dir()),
        "`{}` is the store that would take it in; name another one, or another --store",
        folder.display()
    );
    let reader = other.reader()?;
    let (mut runs, mut exit) = (Vec::new(), Exit::Success);
    let (mut taken, mut known) = (0u64, 0u64);
    for run_id in reader.run_ids()? {
        let merged = own.merge_run(&other, &run_id).with_context(|| format!("taking in run {run_id}"))?;
        let (state, trials, spans) = match merged {
            MergedRun::Taken { trials, spans } => ("taken", trials, spans),
            MergedRun::Known => ("known", 0, 0),
            MergedRun::Live => ("live", 0, 0),
        };
        match merged {
            MergedRun::Taken { .. } => {
                taken += 1;
                context.hint(&format!("run {run_id}: {trials} trials, {spans} spans"));
            }
            MergedRun::Known => known += 1,
            MergedRun::Live => {
                exit = Exit::Incomplete;
                context.say(&format!("run {run_id} is being recorded; take it in again when it has ended"));
            }
        }
        runs.push(json!({ "run": run_id, "state": state, "trials": trials, "spans": spans }));
    }
    let mut intake = Intake::new(own.writer()?)?;
    walk(&reader, None, None, |row| {
        if row.run_id.is_some() {
            return Ok(());
        }
        match reader.trace(&row.trace_id.to_string()) {
            Ok(detail) => Ok(intake.take(detail.into_telemetry())?),
            Err(StoreError::UnknownTrace { .. } | StoreError::PrunedTrace { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    })?;
    let mut taken_in = Ok(());
    reader.for_each_log_apart(&mut |telemetry| {
        if taken_in.is_ok() {
            taken_in = intake.take(vec![telemetry]);
        }
    })?;
    taken_in?;
    let sum = intake.close()?;
    match context.format {
        Format::Json => context.print_json(&json!({ "runs": runs, "traces_of_no_run": counts(sum) }))?,
        Format::Text => context.print(&format!(
            "{taken} runs taken in, {known} were here already; of traces of no run {} spans and {} log records taken in, {} \
             were here already",
            sum.spans, sum.logs, sum.duplicates
        ))?,
    }
    context.next(["spanscore runs".to_owned()]);
    Ok(exit)
}
