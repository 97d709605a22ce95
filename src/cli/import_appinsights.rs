//! `spanscore import appinsights`: production traces out of Application Insights, by queries to Log Analytics.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::exit::Infrastructure;
use super::import::counts;
use super::intake::Intake;
use super::{Context, Exit, Format};
use crate::config::{AzurePlan, Suite};
use crate::export::appinsights::query::client::ENDPOINT;
use crate::export::appinsights::query::{Counts, Import, LogAnalytics, Portion, QueryError, Question, Stray, Target};
use crate::identity;
use crate::model::{LogRecord, RunId, Telemetry, Value};
use crate::report::format::rfc3339;
use crate::report::text::clean;
use crate::store::{Reader, Store, StoreError};
use crate::trace::provider::Ambient;
use crate::trace::semconv;

/// The suite that is read where none is named.
const DEFAULT_SUITE: &str = "spanscore.toml";
/// Between two lines about how far it came, so many queries.
const TOLD: u64 = 20;
/// Notes of one kind that are shown.
const SHOWN: usize = 5;

/// Flags of `import appinsights`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// From when on: an age such as 24h or 7d, or a time such as 2026-11-22 or 2026-11-22T10:00:00Z
    #[arg(long, value_name = "WHEN", default_value = "24h")]
    since: String,
    /// Up to when; default: now
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// A KQL query that gives rows of dependencies, requests, customEvents, exceptions or traces (AppDependencies and so on in a
    /// workspace) as they are; default: all of them
    #[arg(long, value_name = "KQL")]
    query: Option<String>,
    /// Id of the Log Analytics workspace; default: `workspace_id` in [azure]
    #[arg(long, value_name = "ID", conflicts_with = "resource")]
    workspace: Option<String>,
    /// Id of the Application Insights resource, /subscriptions/…; default: `resource_id` in [azure]
    #[arg(long, value_name = "ID")]
    resource: Option<String>,
    /// The Log Analytics API; other clouds have their own
    #[arg(long, value_name = "URL", default_value = ENDPOINT)]
    endpoint: String,
    /// How long one query may take, such as 3m
    #[arg(long, value_name = "D", default_value = "3m", value_parser = super::serve::age)]
    timeout: Duration,
    /// The suite whose [azure] says who asks and where; default: ./spanscore.toml, if there is one
    #[arg(long, value_name = "FILE")]
    suite: Option<PathBuf>,
}

pub(super) fn exec(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let plan = azure(args, context)?;
    let question = question(args, Ambient::default().now())?;
    let target = target(args, &plan)?;
    let tokens = identity::source(&plan, &context.env)?;
    let client = LogAnalytics::new(&args.endpoint, target, tokens, args.timeout)?;
    let store = Store::open(&context.store_dir)?;
    let known = Known::new(store.reader()?)?;
    let mut intake = Intake::new(store.writer()?)?;
    let mut import = Import::new(client, question.clone());
    let ended = go_through(&mut import, &mut intake, &known, context);
    let (counts, read_to) = (import.counts.clone(), import.read_to());
    let sum = intake.close()?;
    if let Err(error) = ended {
        context.say(&format!(
            "{} spans and {} log records of the time up to {} are in the store; the rest is missing",
            sum.spans,
            sum.logs,
            rfc3339(read_to)
        ));
        return Err(error);
    }
    tell(&counts, context);
    match context.format {
        Format::Json => {
            let mut document = self::counts(sum);
            for (key, value) in [
                ("from", json!(rfc3339(question.from))),
                ("to", json!(rfc3339(question.to))),
                ("queries", json!(counts.queries)),
                ("rows", json!(counts.rows)),
                ("ignored", json!(counts.ignored)),
                ("sampled", json!(counts.sampled)),
                ("rejected", json!(counts.rejected_rows())),
                ("problems", json!(counts.rejected)),
                ("incomplete", json!(counts.incomplete)),
            ] {
                document[key] = value;
            }
            context.print_json(&document)?;
        }
        Format::Text => context.print(&format!(
            "{} rows read: {} spans and {} log records taken in, {} scores among them; {} were here already",
            counts.rows, sum.spans, sum.logs, sum.scores, sum.duplicates
        ))?,
    }
    if counts.rows == 0 {
        context.hint(&format!("there is nothing from {} to {}", rfc3339(question.from), rfc3339(question.to)));
    } else {
        context.next(["spanscore traces".to_owned()]);
    }
    Ok(if counts.incomplete.is_empty() { Exit::Success } else { Exit::Incomplete })
}

/// Reads all of it into the store.
fn go_through(import: &mut Import, intake: &mut Intake, known: &Known, context: &Context) -> anyhow::Result<()> {
    let mut told = 0;
    loop {
        let next = intake.runtime.block_on(import.next());
        let Some(portion) = next.map_err(ending)? else { return Ok(()) };
        take(portion, intake, known)?;
        if import.counts.queries >= told + TOLD {
            told = import.counts.queries;
            context.hint(&format!("read up to {}: {} rows", rfc3339(import.read_to()), import.counts.rows));
        }
    }
}

/// An error that ends the command: what does not answer is the machine's, the rest the user's to mend.
fn ending(error: QueryError) -> anyhow::Error {
    match error {
        QueryError::Unavailable { .. } | QueryError::TooSlow(_) => Infrastructure(error.to_string()).into(),
        error => error.into(),
    }
}

fn take(portion: Portion, intake: &mut Intake, known: &Known) -> Result<(), StoreError> {
    let Portion { mut telemetry, strays } = portion;
    for part in &mut telemetry {
        let before = part.logs.len();
        part.logs.retain(|log| !known.has_recorded(log));
        intake.sum.duplicates += (before - part.logs.len()) as u64;
    }
    intake.take(telemetry)?;
    if strays.is_empty() {
        return Ok(());
    }
    // Their spans may be among what is not written yet.
    intake.flush()?;
    for stray in strays {
        if known.has_recorded(&stray.log) || known.has(&stray)? {
            intake.sum.duplicates += 1;
        } else {
            intake.take(vec![Telemetry { origin: stray.origin, spans: Vec::new(), logs: vec![stray.log] }])?;
        }
    }
    Ok(())
}

/// What the store holds already in another form than the one it comes in.
struct Known {
    reader: Reader,
    runs: HashSet<String>,
}

impl Known {
    fn new(reader: Reader) -> Result<Self, StoreError> {
        let runs = reader.run_ids()?.iter().map(|id: &RunId| id.as_str().to_owned()).collect();
        Ok(Self { reader, runs })
    }

    /// Whether it is a log record that a run of this store made itself and delivered.
    fn has_recorded(&self, log: &LogRecord) -> bool {
        let run = log.attributes.iter().find(|(key, _)| key == semconv::TEST_SUITE_RUN_ID);
        matches!(run, Some((_, Value::Str(run))) if self.runs.contains(&**run))
    }

    /// Whether the event's span is here and has it.
    fn has(&self, stray: &Stray) -> Result<bool, StoreError> {
        let Some((trace, span)) = stray.log.trace_id.zip(stray.log.span_id) else { return Ok(false) };
        match self.reader.span(trace, span) {
            Ok(detail) => Ok(stray.is_on(&detail.span)),
            Err(StoreError::UnknownTrace { .. } | StoreError::UnknownSpan { .. } | StoreError::PrunedTrace { .. }) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

fn azure(args: &Args, context: &Context) -> anyhow::Result<AzurePlan> {
    let default = Path::new(DEFAULT_SUITE);
    let suite = match &args.suite {
        Some(path) => Suite::read(path)?,
        None if default.exists() => Suite::read(default)?,
        None => Suite::default(),
    };
    Ok(AzurePlan::resolve(&suite.azure, &context.env)?)
}

fn target(args: &Args, plan: &AzurePlan) -> anyhow::Result<Target> {
    let flags = args.workspace.clone().map(Target::Workspace).or(args.resource.clone().map(Target::Resource));
    let suite = plan.workspace_id.clone().map(Target::Workspace).or(plan.resource_id.clone().map(Target::Resource));
    flags.or(suite).ok_or_else(|| {
        anyhow::anyhow!(
            "whose telemetry is not said; pass --workspace ID (Log Analytics) or --resource ID (Application Insights, \
             /subscriptions/…), or set `workspace_id` or `resource_id` in [azure]"
        )
    })
}

fn question(args: &Args, now: u64) -> anyhow::Result<Question> {
    let from = when("--since", &args.since, now)?;
    let to = args.until.as_deref().map_or(Ok(now), |text| when("--until", text, now))?;
    anyhow::ensure!(
        from < to,
        "--since {} is not before --until {}; nothing lies between them",
        args.since,
        args.until.as_deref().unwrap_or("(now)")
    );
    Ok(Question { kql: args.query.clone(), from, to })
}

/// An age, a date or a time; in nanoseconds since the Unix epoch, whole microseconds.
fn when(flag: &str, text: &str, now: u64) -> anyhow::Result<u64> {
    let unix_nano = if let Ok(age) = super::serve::age(text) {
        now.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX))
    } else {
        let full = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
        let stamp = full.parse::<jiff::Timestamp>().ok().and_then(|stamp| u64::try_from(stamp.as_nanosecond()).ok());
        stamp.ok_or_else(|| {
            anyhow::anyhow!(
                "{flag}: found `{text}`, expected an age such as 24h or 7d, or a time such as 2026-11-22T10:00:00Z"
            )
        })?
    };
    Ok(unix_nano / 1_000 * 1_000)
}

fn tell(counts: &Counts, context: &Context) {
    for (reason, rows) in counts.rejected.iter().take(SHOWN) {
        context.hint(&format!("left out: {rows} {}", clean(reason)));
    }
    if counts.ignored > 0 {
        context.hint(&format!("left out: {} rows of other tables", counts.ignored));
    }
    if counts.sampled > 0 {
        context.hint(&format!("{} rows stand for several: their application samples what it sends", counts.sampled));
    }
    for part in counts.incomplete.iter().take(SHOWN) {
        context.say(&format!("error: the service left something out of {}", clean(part)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_dates_and_times_are_read() {
        let now = 1_795_362_301_234_567_890;
        let at = |text| when("--since", text, now).map_err(|e| e.to_string());
        assert_eq!(at("1h"), Ok(1_795_358_701_234_567_000));
        assert_eq!(at("2026-11-22"), Ok(1_795_305_600_000_000_000));
        assert_eq!(at("2026-11-22T01:00:00+01:00"), Ok(1_795_305_600_000_000_000));
        for text in ["", "yesterday", "2026-13-01", "-3h", "1960-01-01"] {
            assert!(at(text).is_err_and(|error| error.contains("24h")), "{text}");
        }
    }
}
