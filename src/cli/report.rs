//! `spanscore report`: a recorded run as files for people and machines.

use std::path::{Path, PathBuf};

use super::{Context, Exit, Format};
use crate::compare::nights::{TrendError, TrendOptions, trend};
use crate::compare::open::{self, Named};
use crate::compare::{CompareOptions, Comparison, GateReport};
use crate::config::RunPlan;
use crate::export::files::Target;
use crate::report::details::details;
use crate::report::evidence::Evidence;
use crate::report::files::{self, Format as FileFormat};
use crate::report::results::Base;
use crate::report::{self, markdown};
use crate::store::Reader;
use crate::store::rows::RunRow;
use crate::whole;

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
    /// Compare over the parts of a column, too: `expected`, `group` or `col.NAME` (repeatable)
    #[arg(long = "by", value_name = "COLUMN", value_delimiter = ',')]
    slices: Vec<String>,
    /// Files to write: .html .md .xml (JUnit) .json .jsonl (rows for azure-ai-evaluation) .csv .parquet
    #[arg(short, long = "output", value_name = "FILE", num_args = 1.., required = true)]
    output: Vec<PathBuf>,
}

pub(super) fn exec(args: &Args, ctx: &Context) -> anyhow::Result<Exit> {
    for column in &args.slices {
        super::compare::known_column(column)?;
    }
    let mut inputs: Vec<PathBuf> = args.against.iter().map(PathBuf::from).collect();
    check(&args.output, &inputs)?;
    let reader = ctx.store()?.reader()?;
    let run = reader.resolve_run(&args.run)?;
    let judged = Judged::of(&reader, &run)?;
    inputs.extend(judged.gate.iter().map(|gate| PathBuf::from(&gate.baseline)));
    // What the run was made from, and the suite at hand.
    let made_from =
        ["dataset", "replay", "prompt"].map(|name| run.spec.config.get(name).and_then(|path| path.as_str()));
    inputs.extend(made_from.into_iter().flatten().map(PathBuf::from));
    inputs.push(PathBuf::from(super::run::DEFAULT_SUITE));
    check(&args.output, &inputs)?;
    leave_nothing_behind(&args.output)?;
    let wanted = Wanted { against: args.against.as_deref(), slices: &args.slices, files: &args.output };
    let written = write_wanted(&reader, &run, judged, &wanted, ctx)?;
    match ctx.format {
        Format::Json => ctx.print_json(&serde_json::json!({ "run": run.spec.run_id, "files": written }))?,
        Format::Text => ctx.print(&written.join("\n"))?,
    }
    Ok(Exit::Success)
}

/// The files that a run reads: no report may take their place.
pub(super) fn read_by(plan: &RunPlan, suite: Option<&Path>, gate: Option<&Path>) -> Vec<PathBuf> {
    let mut read = vec![suite.unwrap_or(Path::new(super::run::DEFAULT_SUITE)).to_owned(), plan.dataset.clone()];
    read.extend(gate.map(Path::to_owned));
    read.extend(plan.gate.baseline.clone());
    read.extend(plan.prompt.clone());
    read.extend(plan.models.iter().filter_map(|model| model.replay.as_ref()).map(PathBuf::from));
    read
}

/// Refuses names that say no format, that cannot be written, or that are one of the files that are read, before anything is done
/// for them.
pub(super) fn check(files: &[PathBuf], read: &[PathBuf]) -> anyhow::Result<()> {
    for path in files {
        FileFormat::of(path)?;
        let shown = path.display();
        if path.is_dir() {
            anyhow::bail!(
                "writing a report to `{shown}`: that is a folder; name a file, such as `{shown}/report.html`"
            );
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            anyhow::bail!("writing a report to `{shown}`: there is no folder `{}`; make it first", folder.display());
        }
        if let Some(other) = read.iter().find(|other| is_same_file(path, other)) {
            anyhow::bail!(
                "writing a report to `{shown}`: that is `{}`, which is not a report and would be lost; name another file",
                other.display()
            );
        }
        // The report is written beside its place and then moved there, so the folder must take a new file.
        whole::begin(path).map_err(|e| {
            anyhow::anyhow!(
                "writing a report to `{shown}`: no file can be made in `{}`: {e}; name a file in a folder that you may write to",
                folder.display()
            )
        })?;
    }
    Ok(())
}

/// Whether two names lead to one file, by whatever links.
fn is_same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let place = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    place(one).is_some_and(|found| place(other) == Some(found))
}

/// Half a file has no name that anybody looks for: a signal that ends the command takes it along.
fn leave_nothing_behind(files: &[PathBuf]) -> anyhow::Result<()> {
    let partial: Vec<PathBuf> = files.iter().filter_map(|path| whole::partial_of(path)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        super::session::signal()?
    };
    std::thread::spawn(move || {
        let number = runtime.block_on(signals.wait());
        for file in partial {
            // It may not be there, or no more.
            let _ = std::fs::remove_file(file);
        }
        std::process::exit(128 + i32::from(number));
    });
    Ok(())
}

/// What is asked of a report.
struct Wanted<'a> {
    against: Option<&'a str>,
    slices: &'a [String],
    files: &'a [PathBuf],
}

/// The last verdict on a run.
#[derive(Default)]
struct Judged {
    gate: Option<GateReport>,
    /// Its word where it cannot be read.
    word: Option<String>,
    notes: Vec<String>,
}

impl Judged {
    fn of(reader: &Reader, run: &RunRow) -> anyhow::Result<Self> {
        let Some(judged) = reader.verdict(run)? else { return Ok(Self::default()) };
        Ok(match serde_json::from_value(judged.report) {
            Ok(gate) => Self { gate: Some(gate), ..Self::default() },
            Err(_) => Self {
                notes: vec![format!(
                    "Another version of spanscore kept this verdict, {}, in a form that this one cannot read; `spanscore gate {}` judges the run again.",
                    judged.verdict, run.spec.run_id
                )],
                word: Some(judged.verdict),
                gate: None,
            },
        })
    }
}

/// Writes the files of a run; gives their names. On GitHub the summary of the job and its annotations are written as well.
pub(super) fn write(reader: &Reader, run: &RunRow, files: &[PathBuf], ctx: &Context) -> anyhow::Result<Vec<String>> {
    let wanted = Wanted { against: None, slices: &[], files };
    write_wanted(reader, run, Judged::of(reader, run)?, &wanted, ctx)
}

fn write_wanted(
    reader: &Reader,
    run: &RunRow,
    mut judged: Judged,
    wanted: &Wanted<'_>,
    ctx: &Context,
) -> anyhow::Result<Vec<String>> {
    let mut report = report::build(reader, run, reader.is_live(&run.spec.run_id))?;
    report.details = Some(details(reader, run)?);
    let against = match (wanted.against, &judged.gate) {
        (Some(base), _) => Some(base.to_owned()),
        (None, Some(gate)) => match baseline_of(gate) {
            Ok(base) => Some(base.to_owned()),
            Err(why) => {
                judged.notes.extend(why);
                None
            }
        },
        (None, None) => None,
    };
    anyhow::ensure!(
        against.is_some() || wanted.slices.is_empty(),
        "--by compares the run by parts of its dataset, and there is nothing to compare it with; name a run or a baseline with --against"
    );
    let compared = against.map(|base| compared(reader, run, &base, wanted.slices)).transpose()?;
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
        gate: judged.gate.as_ref(),
        word: judged.word.as_deref(),
        notes: &judged.notes,
        trend: nights.as_ref(),
    };
    let mut written = Vec::new();
    for path in wanted.files {
        one(reader, &evidence, path)?;
        written.push(path.display().to_string());
    }
    on_github(reader, &evidence, ctx)?;
    Ok(written)
}

/// What GitHub shows of a job, of a run whose files nobody asked for; nothing elsewhere.
pub(super) fn announce(reader: &Reader, run: &RunRow, ctx: &Context) -> anyhow::Result<()> {
    if ctx.is_github_job() || ctx.env.get("GITHUB_STEP_SUMMARY").is_some() {
        write(reader, run, &[], ctx)?;
    }
    Ok(())
}

/// The comparison of a run with what was named, and what that has of its cases.
fn compared(reader: &Reader, run: &RunRow, base: &str, slices: &[String]) -> anyhow::Result<(Base, Comparison)> {
    let (base, head) = (open::resolve(reader, base)?, Named::Run(Box::new(run.clone())));
    let options = CompareOptions { limit: LISTED, slices: slices.to_vec(), ..CompareOptions::default() };
    let comparison = open::compare_named([reader, reader], &base, &head, &options)?;
    let (base, head) = (open::open(reader, &base, &[])?, open::open(reader, &head, &[])?);
    Ok((Base::of_sides(&base, &head), comparison))
}

/// The baseline that a run was judged against, if its file is still the same; else why not, as a sentence, where that is news.
fn baseline_of(gate: &GateReport) -> Result<&str, Option<String>> {
    // It could not be read when the run was judged: the verdict says so.
    let Some(judged) = &gate.baseline_digest else { return Err(None) };
    let kept = "the cases listed are those that the verdict kept";
    match open::open_baseline(Path::new(&gate.baseline)) {
        Ok((_, digest)) if digest == *judged => Ok(&gate.baseline),
        Ok(_) => Err(Some(format!("The baseline `{}` has changed since the run was judged; {kept}.", gate.baseline))),
        Err(_) => Err(Some(format!("The baseline `{}` is not here, or cannot be read; {kept}.", gate.baseline))),
    }
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
    if ctx.is_github_job() {
        for line in markdown::annotations(evidence) {
            ctx.command(&line);
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
