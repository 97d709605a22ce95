//! `spanscore run`: a suite from its file to its report.
//!
//! This file is where everything meets: plan, dataset, model, workflow, evaluators, store and exporters are made here and
//! handed to the runner; the report afterwards is read back from the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;

use super::application::{self, Making, Ready};
use super::gate;
use super::inputs::{self, Inputs};
use super::progress::{Progress, Tally};
use super::report as report_files;
use super::resume::{self, Past, Start};
use super::session;
use super::{Context, Exit, Format};
use crate::config::{ConcurrencySetting, ModelPlan, RunFlags, RunPlan, Suite, WorkflowPlan};
use crate::evaluation::{Begun, StoreSink, begin};
use crate::export::settings::CONNECTION_STRING;
use crate::export::{ExportPlan, Exporters, Metrics};
use crate::llm::Concurrency;
use crate::model::{DatasetRef, Outcome, RunEvent, RunId, RunSpec, RunStatus};
use crate::report::text::clean;
use crate::report::{self, Report};
use crate::runner::{Cases, Job, Limits, RunError, Stop, Summary, execute};
use crate::store::rows::RunRow;
use crate::store::{Reader, Store, Writer};
use crate::trace::provider::Ambient;
use crate::workflow::Leash;

pub(super) const DEFAULT_SUITE: &str = "spanscore.toml";
/// Where `auto` begins, and how far it may go.
const AUTO: (usize, usize) = (8, 512);
/// How far it may go with a program of the user's, which seldom has that many threads.
const AUTO_COMMAND: usize = 64;

/// Flags of `run`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// The suite file; without one, ./spanscore.toml
    suite: Option<PathBuf>,
    #[command(flatten)]
    flags: RunFlags,
    /// Judge the run against this baseline under the suite's [gate]: exit 1 for FAIL, 3 for INCONCLUSIVE or INVALID
    #[arg(long, value_name = "FILE")]
    gate: Option<PathBuf>,
    /// Write the report to files, too: .html .md .xml (JUnit) .json .jsonl .csv .parquet
    #[arg(short, long = "output", value_name = "FILE", num_args = 1..)]
    output: Vec<PathBuf>,
    /// Load and check everything, print the plan, ask no model
    #[arg(long)]
    dry_run: bool,
    /// Show no progress
    #[arg(long)]
    no_progress: bool,
    /// Whether `gate --extend` asks for it
    #[arg(skip)]
    further: bool,
}

pub(super) fn exec(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let suite = load_suite(args.suite.as_deref(), args.flags.dataset.is_some())?;
    let plan = RunPlan::resolve(suite, &context.env, &args.flags)?;
    let export = export_plan(&plan, context)?;
    anyhow::ensure!(
        !(export.uses_console() && context.format == Format::Json),
        "--format json and the console exporter both want stdout; use one of them"
    );
    let inputs = Inputs::load(&plan, &context.env)?;
    application::check(&plan, context)?;
    if let Some(baseline) = &args.gate {
        gate::check(&plan, &inputs, baseline)?;
    }
    let read = report_files::read_by(&plan, args.suite.as_deref(), args.gate.as_deref());
    report_files::check(&args.output, &read)?;
    if args.dry_run {
        return inputs::dry_run(&plan, &inputs, context);
    }
    let store = Store::open(&context.store_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (reports, exit) = runtime.block_on(run_all(args, context, &plan, &export, &inputs, &store))?;
    print(context, &reports, plan.models.len() > 1, export.uses_console())?;
    Ok(exit)
}

/// Runs a suite once more without a report: what `gate --extend` asks for. Traces go to the store alone.
pub(super) fn again(suite: Option<&Path>, flags: RunFlags, context: &Context) -> anyhow::Result<Exit> {
    let plan = RunPlan::resolve(load_suite(suite, flags.dataset.is_some())?, &context.env, &flags)?;
    let export = export_plan(&plan, context)?;
    let inputs = Inputs::load(&plan, &context.env)?;
    application::check(&plan, context)?;
    let args = Args {
        suite: None,
        flags,
        gate: None,
        output: Vec::new(),
        dry_run: false,
        no_progress: context.quiet,
        further: true,
    };
    let store = Store::open(&context.store_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(run_all(&args, context, &plan, &export, &inputs, &store))?.1)
}

/// The suite that was asked for; without one, the file in the working directory; without that, the defaults, if the
/// command line names a dataset.
pub(super) fn load_suite(path: Option<&Path>, has_dataset: bool) -> anyhow::Result<Suite> {
    let default = Path::new(DEFAULT_SUITE);
    match path {
        Some(path) => Ok(Suite::read(path)?),
        None if default.exists() || !has_dataset => Ok(Suite::read(default)?),
        None => Ok(Suite::default()),
    }
}

pub(super) fn export_plan(plan: &RunPlan, context: &Context) -> anyhow::Result<ExportPlan> {
    let suite = inputs::suite_otlp(&plan.trace, &plan.sinks, &plan.azure)?;
    let to = (!plan.trace_to.is_empty()).then_some(plan.trace_to.as_slice());
    let mut env = context.env.clone();
    if let Some(path) = &plan.connection_string_file {
        let attempt = || format!("reading the connection string in {}", path.display());
        env.set(CONNECTION_STRING, std::fs::read_to_string(path).with_context(attempt)?.trim());
    }
    let export = ExportPlan::resolve(&env, &suite, to)?;
    for warning in &export.warnings {
        context.say(&format!("warning: {warning}"));
    }
    Ok(export)
}

/// One run per model, one after the other.
async fn run_all(
    args: &Args,
    context: &Context,
    plan: &RunPlan,
    export: &ExportPlan,
    inputs: &Inputs,
    store: &Store,
) -> anyhow::Result<(Vec<Report>, Exit)> {
    let stop = Stop::default();
    let leash = Leash::default();
    let signal = watch_signals(stop.clone(), leash.clone(), context)?;
    let ambient = Ambient::default();
    let (mut reports, mut exit) = (Vec::new(), Exit::Success);
    // Runs of one call share a tag, so that they can be found together.
    let together = (plan.models.len() > 1).then(|| ambient.ids.run_id(ambient.now()).to_string());
    for (started, model) in (1..).zip(&plan.models) {
        let one = One { args, context, plan, export, inputs, store, stop: &stop, ambient: &ambient, leash: &leash };
        let (report, ended) = match one.run(model, together.as_deref()).await {
            // A signal beats what it brings about.
            Err(error) if stop.requested() => {
                context.error(&error);
                (None, Exit::Success)
            }
            ended => ended?,
        };
        exit = exit.or(ended);
        reports.extend(report);
        if stop.requested() {
            exit = Exit::Signal(*signal.borrow());
            let left: Vec<_> = plan.models.iter().skip(started).filter_map(|m| m.name.as_deref()).collect();
            if !left.is_empty() {
                context.say(&format!("not started: {}", left.join(", ")));
            }
            break;
        }
    }
    Ok((reports, exit))
}

/// The first signal asks to stop, the second ends the process at once; either way what is recorded stays.
fn watch_signals(stop: Stop, leash: Leash, context: &Context) -> anyhow::Result<tokio::sync::watch::Receiver<u8>> {
    let mut signals = session::signal()?;
    let (sender, receiver) = tokio::sync::watch::channel(0);
    let quiet = context.quiet;
    tokio::spawn(async move {
        let first = signals.wait().await;
        sender.send_replace(first);
        stop.request();
        if !quiet {
            super::context::note("stopping: finishing what is in flight; once more to stop at once");
        }
        let second = signals.wait().await;
        leash.kill_all();
        std::process::exit(i32::from(128 + second));
    });
    Ok(receiver)
}

/// One run of one model.
struct One<'a> {
    args: &'a Args,
    context: &'a Context,
    plan: &'a RunPlan,
    export: &'a ExportPlan,
    inputs: &'a Inputs,
    store: &'a Store,
    stop: &'a Stop,
    ambient: &'a Ambient,
    leash: &'a Leash,
}

impl One<'_> {
    async fn run(&self, model: &ModelPlan, together: Option<&str>) -> anyhow::Result<(Option<Report>, Exit)> {
        let Self { context, plan, inputs, ambient, leash, .. } = *self;
        let writer = self.store.writer()?;
        let ready = Making { context, plan, model, inputs, ambient, leash }.ready(&writer).await?;
        // An application may say itself what a case cost.
        let priced = ready.price.is_some() || model.is_free() || plan.workflow.application().is_some();
        anyhow::ensure!(
            plan.max_cost.is_none() || priced,
            "--max-cost needs the price of model `{}`: set `price` in [model]",
            ready.model
        );
        let (stop, limits) = (self.stop.clone(), Arc::clone(&ready.limits));
        let closing = tokio::spawn(async move {
            stop.wait().await;
            limits.close();
        });
        let template = self.spec_template(model, &ready, together);
        let started = match &self.args.flags.resume {
            Some(which) => {
                resume::resume(which, template, self.inputs, self.store, &self.args.flags, self.plan.models.len())?
            }
            None => {
                let Inputs { source, selection, .. } = self.inputs;
                let Begun { spec, lock, survey } = begin(template, source, selection, self.store, &writer)?;
                for warning in inputs::warnings(&survey) {
                    self.context.say(&warning);
                }
                Start { spec, lock, past: Past::none() }
            }
        };
        let Start { spec, lock, past } = started;
        let run_id = spec.run_id.clone();
        let exporters = Exporters::start(self.export, self.store, &writer, &run_id).await?;
        let summary = self.execute(spec, &ready, &writer, &exporters, past).await;
        closing.abort();
        // The application's last spans come before the exporters' end, so that they are delivered with the rest.
        let mut said = ready.finish().await;
        said.extend(exporters.finish().await);
        writer.close().await?;
        let summary = summary?;
        drop(lock);
        for line in said {
            self.context.say(&line);
        }
        let reader = self.store.reader()?;
        let row = reader.resolve_run(run_id.as_str())?;
        let mut exit = exit_of(&summary, row.counts.completed);
        let mut judged_now = false;
        if let Some(baseline) = self.args.gate.as_deref().filter(|_| !self.stop.requested() && exit != Exit::Usage) {
            let judged = gate::judge_run(&reader, &row, plan, baseline)?;
            gate::keep_now(self.store, &row, &judged, context).await;
            exit = exit.or(Exit::of_verdict(judged.verdict));
            judged_now = true;
        }
        let report = report::build(&reader, &row, false)?;
        if row.counts.recorded() > 0 {
            let written = match &*self.files(&row) {
                [] if judged_now => report_files::announce(&reader, &row, context),
                [] => Ok(()),
                files => report_files::write(&reader, &row, files, context)
                    .map(|written| context.hint(&format!("written: {}", written.join(", ")))),
            };
            // What was measured is shown all the same.
            if let Err(error) = written {
                context.error(&error);
                exit = exit.or(Exit::of(&error));
            }
        }
        self.explain(&summary, &run_id);
        if row.counts.completed == 0 && row.counts.failed > 0 {
            self.all_failed(&reader, &row)?;
        }
        // Nothing was recorded of a refused first call, and its table would be empty.
        let nothing = summary.refusal.is_some() && self.context.format == Format::Text && row.counts.recorded() == 0;
        Ok(((!nothing).then_some(report), exit))
    }

    /// The files that were asked for; of several runs each has its model in the name.
    fn files(&self, run: &RunRow) -> Vec<PathBuf> {
        if self.plan.models.len() < 2 {
            return self.args.output.clone();
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
        let model: String = run.spec.model.chars().map(plain).collect();
        let named = |path: &PathBuf| {
            let (stem, ending) = (path.file_stem().unwrap_or_default(), path.extension().unwrap_or_default());
            path.with_file_name(format!("{}-{model}.{}", stem.to_string_lossy(), ending.to_string_lossy()))
        };
        self.args.output.iter().map(named).collect()
    }

    /// The spec of this run, but for what the survey of the dataset finds.
    fn spec_template(&self, model: &ModelPlan, ready: &Ready, together: Option<&str>) -> RunSpec {
        let now = self.ambient.now();
        let mut tags = self.plan.tags.clone();
        if let Some(together) = together {
            tags.insert("models".to_owned(), together.to_owned());
        }
        RunSpec {
            run_id: self.ambient.ids.run_id(now),
            name: self.plan.name.clone(),
            suite: self.plan.suite.clone(),
            workflow: ready.workflow.name().to_owned(),
            model: ready.model.clone(),
            provider: model.provider.as_str().to_owned(),
            dataset: DatasetRef {
                name: self.inputs.source.name(),
                digest: crate::model::Digest::from_bytes([0; 32]),
                cases: 0,
            },
            repeat: self.plan.repeat,
            prompt_digest: ready.workflow.digest(),
            model_digest: ready.model_digest,
            evaluators: self.inputs.evaluators.iter().map(|e| e.spec().clone()).collect(),
            primary: self.inputs.primary.clone(),
            started_unix_nano: now,
            git: session::git_revision(),
            tags,
            trace_url: self.plan.trace_url.clone(),
            config: inputs::describe(self.plan, model, &ready.parameters),
            resource: self.export.resource.clone(),
        }
    }

    async fn execute(
        &self,
        spec: RunSpec,
        ready: &Ready,
        writer: &Writer,
        exporters: &Exporters,
        past: Past,
    ) -> Result<Summary, RunError> {
        let concurrency = match self.plan.concurrency {
            ConcurrencySetting::Auto if matches!(self.plan.workflow, WorkflowPlan::Command(_)) => {
                Concurrency::auto(AUTO.0, AUTO_COMMAND)
            }
            ConcurrencySetting::Auto => Concurrency::auto(AUTO.0, AUTO.1),
            ConcurrencySetting::Fixed(n) => Concurrency::fixed(n),
        };
        let primary = spec.evaluators.iter().position(|e| e.id == spec.primary).unwrap_or(0);
        let tally = Arc::new(Tally::new(primary, self.context.quiet));
        let hidden = self.context.quiet || self.args.no_progress;
        let progress = Progress::start(
            Arc::clone(&tally),
            concurrency.clone(),
            spec.planned(),
            past.recorded,
            hidden,
            exporters.counts(),
            super::context::note,
        );
        let metrics = self.export.metrics.as_ref().and_then(|m| Metrics::new(m, &self.export.resource)).map(Arc::new);
        let watched = Arc::clone(&tally);
        let mut sink = StoreSink::new(writer.clone()).observer(Box::new(move |event| watched.observe(event)));
        if let Some(metrics) = metrics.clone() {
            sink = sink.observer(Box::new(move |event| {
                if let RunEvent::TrialFinished { spans, .. } = event {
                    for span in spans {
                        metrics.observe(span);
                    }
                }
            }));
        }
        let wake = exporters.wake();
        let sink = Arc::new(sink.committed(move || wake.now()));
        let parent = session::parent(&self.context.env).unwrap_or_else(|warning| {
            self.context.say(&format!("warning: {warning}"));
            None
        });
        let cases = crate::dataset::select(&self.inputs.source, &self.inputs.selection)
            .map_err(|e| RunError::Cases(Box::new(e)))?;
        let plan_digest = crate::evaluation::plan_digest(&spec);
        let job = Job {
            spec,
            workflow: Arc::clone(&ready.workflow),
            evaluators: self.inputs.evaluators.clone(),
            batch_size: self.plan.batch_size,
            concurrency,
            limits: Limits {
                tokens: self.plan.max_tokens_total,
                cost_usd: self.plan.max_cost,
                duration_ns: self.plan.max_duration.map(|d| d.as_nanos() as u64),
            },
            stop: self.stop.clone(),
            ambient: self.ambient.clone(),
            parent,
            root: ready.root,
            done: past.done,
            prior: past.prior,
            plan_digest,
        };
        let summary = execute(job, Cases::read(cases), sink).await;
        progress.finish().await;
        if let Some(metrics) = metrics {
            metrics.shutdown().await;
        }
        summary
    }

    /// Says why a session ended early, and how to go on.
    fn explain(&self, summary: &Summary, run_id: &RunId) {
        if let Some(refusal) = &summary.refusal {
            let whom = match self.plan.workflow {
                WorkflowPlan::AssessClaims => "the endpoint refused the first call",
                WorkflowPlan::Command(_) => "the workflow's program cannot answer",
                WorkflowPlan::Http(_) => "the workflow's endpoint refused the first call",
            };
            self.context.say(&format!("error: {whom}: {}", clean(refusal)));
        }
        if let Some(reason) = &summary.halt_reason {
            self.context.say(&format!("error: the run halted, for nobody answers any more: {}", clean(reason)));
        }
        if let Some(reason) = &summary.skip_reason {
            self.context.say(&format!("{} trials skipped: {reason}", summary.skipped));
        }
        if summary.status != RunStatus::Completed && !self.args.further {
            self.context.hint(&format!("to go on: {}", self.resume_command(run_id)));
        }
    }

    /// The command line of this run, resuming it.
    fn resume_command(&self, run_id: &RunId) -> String {
        let mut words: Vec<String> = vec!["spanscore".to_owned()];
        let mut args = self.context.args.iter().peekable();
        while let Some(arg) = args.next() {
            if arg == "--resume" {
                // Its value, if it has one, is a run and not a flag.
                args.next_if(|next| !next.starts_with('-'));
            } else if !arg.starts_with("--resume=") {
                // A flag is a word as it is; what follows its dashes may need quotes.
                let name = arg.trim_start_matches('-');
                let dashes = "-".repeat(arg.len() - name.len());
                words.push(if name.is_empty() { dashes } else { dashes + &report::terminal::shell_word(name) });
            }
        }
        words.extend(["--resume".to_owned(), run_id.to_string()]);
        words.join(" ")
    }

    /// Nothing but failures is more likely a wrong address than bad luck.
    fn all_failed(&self, reader: &Reader, row: &RunRow) -> anyhow::Result<()> {
        if let Some(Outcome::Failed(failure)) = reader.lowest(row, 1)?.into_iter().next().and_then(|case| case.outcome)
        {
            let check = match self.plan.workflow {
                WorkflowPlan::AssessClaims => "address, key and model",
                _ => "the workflow",
            };
            self.context.say(&format!(
                "error: every trial failed, the first with {}: {}; check {check} with `spanscore doctor` and the same flags",
                failure.error_type,
                clean(&failure.message)
            ));
        }
        Ok(())
    }
}

fn exit_of(summary: &Summary, completed: u64) -> Exit {
    match summary.status {
        RunStatus::Refused => Exit::Usage,
        RunStatus::Incomplete => Exit::Incomplete,
        // Failed trials are data; a run of nothing but failures is no evaluation.
        _ if completed == 0 => Exit::Incomplete,
        _ => Exit::Success,
    }
}

/// The reports: one document or one text each. With the console exporter on stdout they go to stderr.
fn print(context: &Context, reports: &[Report], several: bool, stdout_taken: bool) -> anyhow::Result<()> {
    match (context.format, reports) {
        (Format::Json, [one]) if !several => context.print_json(one)?,
        (Format::Json, many) => context.print_json(&many)?,
        (Format::Text, many) => {
            for report in many {
                let text = report::terminal::render(report, context.style);
                if stdout_taken {
                    context.show_aside(&text);
                } else {
                    context.print(&text).context("printing the report")?;
                }
            }
        }
    }
    // How to go on with a run depends on its flags: `explain` has said it.
    let hints = reports.iter().flat_map(report::terminal::hints);
    context.next(hints.filter(|hint| !hint.contains("--resume")));
    Ok(())
}
