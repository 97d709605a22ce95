//! `spanscore report`: a recorded run as files for people and machines.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Context, Exit, Format};
use crate::compare::nights::{TrendError, TrendOptions, trend};
use crate::compare::open::{self, Named};
use crate::compare::{CompareOptions, Comparison, GateReport};
use crate::export::files::Target;
use crate::report::details::details;
use crate::report::evidence::Evidence;
use crate::report::files::{self, Format as FileFormat};
use crate::report::results::Base;
use crate::report::{self, markdown};
use crate::store::Reader;
use crate::store::rows::RunRow;

/// Cases in each list of a comparison.
const LISTED: usize = 1000;

/// Write the report of a run: HTML, Markdown, JUnit, JSON, JSON Lines, CSV or Parquet, by the ending of each file's name
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id, unique prefix, name, `latest` or `latest~N`
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
    /// Compare with this run or baseline file; without one, a judged run is compared with its baseline
    #[arg(long, value_name = "BASE")]
    against: Option<String>,
    /// Files to write: .html .md .xml (JUnit) .json .jsonl (rows for azure-ai-evaluation) .csv .parquet
    #[arg(short, long = "output", value_name = "FILE", num_args = 1.., required = true)]
    output: Vec<PathBuf>,
}

pub(super) fn exec(args: &Args, ctx: &Context) -> anyhow::Result<Exit> {
    check(&args.output)?;
    let reader = ctx.store()?.reader()?;
    let run = reader.resolve_run(&args.run)?;
    let written = write(&reader, &run, args.against.as_deref(), &args.output, ctx)?;
    match ctx.format {
        Format::Json => ctx.print_json(&serde_json::json!({ "run": run.spec.run_id, "files": written }))?,
        Format::Text => ctx.print(&written.join("\n"))?,
    }
    Ok(Exit::Success)
}

/// Refuses names that say no format, before anything is done for them.
pub(super) fn check(files: &[PathBuf]) -> anyhow::Result<()> {
    for path in files {
        FileFormat::of(path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            anyhow::bail!(
                "writing a report to `{}`: there is no folder `{}`; make it first",
                path.display(),
                folder.display()
            );
        }
    }
    Ok(())
}

/// Writes the files of a run; gives their names. On GitHub the summary of the job and its annotations are written as well.
pub(super) fn write(
    reader: &Reader,
    run: &RunRow,
    against: Option<&str>,
    files: &[PathBuf],
    ctx: &Context,
) -> anyhow::Result<Vec<String>> {
    let mut report = report::build(reader, run, reader.is_live(&run.spec.run_id))?;
    report.details = Some(details(reader, run)?);
    let gate = kept_verdict(reader, run)?;
    let against = against.or_else(|| baseline_of(gate.as_ref()?));
    let compared = against.map(|base| compared(reader, run, base)).transpose()?;
    let (base, comparison) = compared.unzip();
    let nights = match trend(reader, &TrendOptions { suite: Some(run.spec.suite.clone()), ..TrendOptions::default() }) {
        // A run that is under way, or alone, has no nights before it.
        Err(TrendError::NoSuite { .. } | TrendError::NoRuns) => None,
        trend => Some(trend?),
    };
    let evidence = Evidence {
        run,
        report: &report,
        base: base.as_ref(),
        comparison: comparison.as_ref(),
        gate: gate.as_ref(),
        trend: nights.as_ref(),
    };
    let mut written = Vec::new();
    for path in files {
        one(reader, &evidence, path)?;
        written.push(path.display().to_string());
    }
    on_github(reader, &evidence, ctx)?;
    Ok(written)
}

/// The comparison of a run with what was named, and what that has of its cases.
fn compared(reader: &Reader, run: &RunRow, base: &str) -> anyhow::Result<(Base, Comparison)> {
    let (base, head) = (open::resolve(reader, base)?, Named::Run(Box::new(run.clone())));
    let options = CompareOptions { limit: LISTED, ..CompareOptions::default() };
    let comparison = open::compare_named([reader, reader], &base, &head, &options)?;
    let (base, head) = (open::open(reader, &base, &[])?, open::open(reader, &head, &[])?);
    Ok((Base::of_sides(&base, &head), comparison))
}

/// The baseline that a run was judged against, if its file is still the same.
fn baseline_of(gate: &GateReport) -> Option<&str> {
    let (_, digest) = open::open_baseline(Path::new(&gate.baseline)).ok()?;
    (gate.baseline_digest.as_ref() == Some(&digest)).then_some(gate.baseline.as_str())
}

/// The last verdict on a run, where it was judged.
fn kept_verdict(reader: &Reader, run: &RunRow) -> anyhow::Result<Option<GateReport>> {
    let Some(judged) = reader.verdict(run)? else { return Ok(None) };
    let gate = serde_json::from_value(judged.report).with_context(|| {
        format!("reading the verdict on run {}; judge it again with `spanscore gate`", run.spec.run_id)
    })?;
    Ok(Some(gate))
}

fn one(reader: &Reader, evidence: &Evidence<'_>, path: &Path) -> anyhow::Result<()> {
    let mut target = Target::create(path)?;
    files::write(FileFormat::of(path)?, reader, evidence, &path.display().to_string(), &mut target)?;
    Ok(target.finish()?)
}

/// What GitHub shows of a job: Markdown appended to the file that it names, and annotations among the job's output.
fn on_github(reader: &Reader, evidence: &Evidence<'_>, ctx: &Context) -> anyhow::Result<()> {
    if let Some(summary) = ctx.env.get("GITHUB_STEP_SUMMARY") {
        let text = markdown::document(reader, evidence)?;
        append(Path::new(summary), &text)
            .map_err(|e| anyhow::anyhow!("writing the summary of the job to `{summary}` (GITHUB_STEP_SUMMARY): {e}"))?;
    }
    if ctx.env.get("GITHUB_ACTIONS") == Some("true") {
        for line in markdown::annotations(evidence) {
            ctx.say(&line);
        }
    }
    Ok(())
}

fn append(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")
}
