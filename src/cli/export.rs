//! `spanscore export`: writes traces into a file, or delivers what destinations still lack.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::json;

use super::context::in_words;
use super::run::load_suite;
use super::{Context, Exit, FileFormat, Format, inputs};
use crate::config::AzurePlan;
use crate::export::files::Target;
use crate::export::otlp::Otlp;
use crate::export::otlp_file::write_lines;
use crate::export::parquet::SpanTable;
use crate::export::settings::DestinationConfig;
use crate::export::{ExportPlan, SuiteOtlp, Wanted, add_destinations, deliver_pending};
use crate::model::RunId;
use crate::query::{self, Expr, Schema};
use crate::store::rows::{TraceDetail, TraceRow};
use crate::store::{Reader, StoreError, TraceQuery};

/// Traces per page while all of them are gone through.
const PAGE: usize = 512;

/// Flags of `export`.
#[derive(Debug, Parser)]
#[command(
    after_help = "With -o, --format otlp-json or --format parquet says what is written; without it the file's ending does: \
    .parquet is a table with a row per span, anything else is OTLP JSON, a request per line, and .gz and .zst compress it."
)]
pub(super) struct Args {
    /// Deliver what is still pending, to the destinations that each run was given
    #[arg(long, conflicts_with_all = ["output", "trace", "filter"])]
    pending: bool,
    /// Deliver a run to these destinations, whether it was given them or not; what they took already is not sent again. otlp,
    /// console, appinsights, or the name of one of the suite's [[sinks]]
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with_all = ["output", "trace", "filter"])]
    to: Vec<String>,
    /// With --to: the run; the latest where none is named
    #[arg(value_name = "RUN", requires = "to", conflicts_with = "run")]
    which: Option<String>,
    /// With --to: everything of the run, what they took already too
    #[arg(long, requires = "to")]
    again: bool,
    /// Write traces with their log records into this file, and without a choice the log records of no trace as well; `-`
    /// is stdout
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The suite whose [trace] and [azure] say how to reach destinations; without one, ./spanscore.toml if there is one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "trace", "filter"])]
    suite: Option<PathBuf>,
    /// Only what belongs to this run
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Only these traces: ids or unique prefixes (repeatable)
    #[arg(long, value_name = "ID", conflicts_with_all = ["run", "filter"])]
    trace: Vec<String>,
    /// Only traces that match, such as `status = error` or `score.label_match < 1`
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
}

pub(super) fn exec(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    if let Some(path) = &args.output {
        return to_file(args, path, context);
    }
    anyhow::ensure!(
        args.pending || !args.to.is_empty() || context.file_format.is_some(),
        "nothing to do: pass --output FILE to write traces into a file, --pending to deliver what \
         destinations lack, or --to NAME RUN to deliver a run elsewhere"
    );
    anyhow::ensure!(
        context.file_format.is_none(),
        "--format otlp-json and --format parquet are for files; name one with -o FILE, or leave them out"
    );
    let store = context.store()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let suite = destinations(args.suite.as_deref(), context)?;
    let run = args.run.as_deref().or(args.which.as_deref()).or((!args.to.is_empty()).then_some("latest"));
    if let Some(run) = run.filter(|_| !args.to.is_empty()) {
        let plan = ExportPlan::of(&context.env, &suite, &args.to)?;
        for warning in &plan.warnings {
            context.say(&format!("warning: {warning}"));
        }
        runtime.block_on(add_destinations(&store, &plan, run, args.again))?;
        let reader = store.reader()?;
        let row = reader.resolve_run(run)?;
        // A score stands on a span, which the backend has to have.
        let follows = |config: &&DestinationConfig| matches!(config, DestinationConfig::Sink(_));
        let has_spans = reader.outbox_counts(&row)?.contains_key(Otlp::NAME);
        if let (Some(sink), false) = (plan.destinations.iter().find(follows), has_spans) {
            let (sink, id) = (sink.name(), &row.spec.run_id);
            context.say(&format!(
                "warning: the spans of run {id} were sent nowhere over OTLP, and {sink} takes scores of spans that it has; \
                 `spanscore export --to otlp --to {sink} {id}` sends both"
            ));
        }
    }
    let wanted = Wanted { run, destinations: &args.to };
    let outcome = runtime.block_on(deliver_pending(&store, &context.env, &suite, wanted))?;
    for line in &outcome.messages {
        context.say(line);
    }
    match context.format {
        Format::Json => context.print_json(&json!({ "destinations": outcome.destinations }))?,
        Format::Text if outcome.destinations.is_empty() => context.print("no destination is known for any run")?,
        Format::Text => {
            for (name, c) in &outcome.destinations {
                context.print(&format!(
                    "{name}: {} stored = {} delivered + {} pending + {} rejected + {} not sampled ({} possible duplicates)",
                    c.stored, c.delivered, c.pending, c.rejected, c.not_sampled, c.duplicates
                ))?;
            }
        }
    }
    let pending = outcome.destinations.values().any(|c| c.pending > 0);
    Ok(if pending { Exit::Incomplete } else { Exit::Success })
}

/// What the suite says of destinations. One that was not asked for must not stand in the way.
fn destinations(path: Option<&Path>, context: &Context) -> anyhow::Result<SuiteOtlp> {
    let read = || -> anyhow::Result<SuiteOtlp> {
        let suite = load_suite(path, true)?;
        inputs::suite_otlp(&suite.trace, &suite.sinks, &AzurePlan::resolve(&suite.azure, &context.env)?)
    };
    match read() {
        Err(error) if path.is_none() => {
            context.say(&format!("warning: {}; destinations are as each run recorded them", in_words(&error)));
            Ok(SuiteOtlp::default())
        }
        read => read,
    }
}

fn to_file(args: &Args, path: &Path, context: &Context) -> anyhow::Result<Exit> {
    let stdout = path == Path::new("-");
    anyhow::ensure!(
        !stdout || context.format == Format::Text,
        "--format json and `-o -` both want stdout; name a file, or leave one of them out"
    );
    let parquet = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"));
    let format = context.file_format.unwrap_or(if parquet { FileFormat::Parquet } else { FileFormat::OtlpJson });
    let filter = args.filter.as_deref().map(|text| query::parse(text, &Schema::traces())).transpose()?;
    let reader = context.store()?.reader()?;
    let run = args.run.as_deref().map(|run| reader.resolve_run(run)).transpose()?.map(|row| row.spec.run_id);
    let chosen = Chosen { reader: &reader, ids: &args.trace, filter: filter.as_ref(), run: run.as_ref() };
    let counts = match format {
        FileFormat::OtlpJson => lines(path, &chosen)?,
        FileFormat::Parquet => table(path, &chosen)?,
    };
    let Counts { traces, spans, logs } = counts;
    let text = format!("{traces} traces, {spans} spans, {logs} log records written to {}", path.display());
    match context.format {
        Format::Json => context.print_json(&json!({
            "output": path, "format": format.as_str(), "traces": traces, "spans": spans, "log_records": logs,
        }))?,
        Format::Text if stdout => context.hint(&text),
        Format::Text => context.print(&text)?,
    }
    Ok(Exit::Success)
}

#[derive(Default)]
struct Counts {
    traces: u64,
    spans: u64,
    logs: u64,
}

impl Counts {
    fn add(&mut self, detail: &TraceDetail) {
        self.traces += 1;
        self.spans += detail.spans.len() as u64;
        self.logs += detail.logs.len() as u64;
    }
}

fn lines(path: &Path, chosen: &Chosen<'_>) -> anyhow::Result<Counts> {
    let mut out = Target::create(path)?;
    let mut counts = Counts::default();
    chosen.each(|detail| {
        counts.add(&detail);
        write_lines(&mut out, &detail.into_telemetry()).map_err(|error| out.failed(error).into())
    })?;
    if chosen.is_everything() {
        let mut written = Ok(());
        chosen.reader.for_each_log_apart(&mut |apart| {
            counts.logs += apart.logs.len() as u64;
            if written.is_ok() {
                written = write_lines(&mut out, &[apart]);
            }
        })?;
        written.map_err(|error| out.failed(error))?;
    }
    out.finish()?;
    Ok(counts)
}

/// Goes through the traces twice: the table's columns must be known before its first row.
fn table(path: &Path, chosen: &Chosen<'_>) -> anyhow::Result<Counts> {
    let mut scores = BTreeSet::new();
    chosen.rows(|row| {
        scores.extend(row.scores.into_keys());
        Ok(())
    })?;
    let mut table = SpanTable::create(path, scores)?;
    let mut counts = Counts::default();
    chosen.each(|detail| {
        counts.add(&detail);
        // Log records have no row of their own.
        counts.logs = 0;
        Ok(table.add(&detail)?)
    })?;
    table.finish()?;
    Ok(counts)
}

/// The traces that were asked for.
struct Chosen<'a> {
    reader: &'a Reader,
    ids: &'a [String],
    filter: Option<&'a Expr>,
    run: Option<&'a RunId>,
}

impl Chosen<'_> {
    /// Whether the whole store was asked for.
    fn is_everything(&self) -> bool {
        self.ids.is_empty() && self.filter.is_none() && self.run.is_none()
    }

    /// Hands over every trace, one at a time.
    fn each(&self, mut take: impl FnMut(TraceDetail) -> anyhow::Result<()>) -> anyhow::Result<()> {
        if !self.ids.is_empty() {
            for id in self.ids {
                take(self.reader.trace(id)?)?;
            }
            return Ok(());
        }
        self.rows(|row| match self.reader.trace(&row.trace_id.to_string()) {
            Ok(detail) => take(detail),
            // Removed since the list was read.
            Err(StoreError::UnknownTrace { .. } | StoreError::PrunedTrace { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        })
    }

    /// Hands over the list's row of every trace.
    fn rows(&self, mut take: impl FnMut(TraceRow) -> anyhow::Result<()>) -> anyhow::Result<()> {
        if !self.ids.is_empty() {
            for id in self.ids {
                take(self.reader.trace_skeleton(id)?.row)?;
            }
            return Ok(());
        }
        walk(self.reader, self.filter.cloned(), self.run.cloned(), take)
    }
}

/// Goes through the list of traces page by page, the newest first.
pub(super) fn walk(
    reader: &Reader,
    filter: Option<Expr>,
    run: Option<RunId>,
    mut take: impl FnMut(TraceRow) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut query = TraceQuery { filter, sort: None, limit: PAGE, after: None, run };
    loop {
        let page = reader.trace_page(&query)?;
        for row in page.rows {
            take(row)?;
        }
        match page.next {
            None => return Ok(()),
            after => query.after = after,
        }
    }
}
