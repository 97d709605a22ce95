//! `spanscore doctor`: is everything that a run needs in order, and if not, what is to be done?

mod azure;
mod sinks;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use serde::Serialize;

use super::application::Making;
use super::context::in_words;
use super::inputs::{self, Inputs};
use super::run::{export_plan, load_suite};
use super::{Context, Exit, Format, application, model};
use crate::config::{RunFlags, RunPlan, WorkflowPlan};
use crate::dataset::survey;
use crate::export::ExportPlan;
use crate::export::connect::connect;
use crate::export::destination::{Batch, Items, Signal};
use crate::export::settings::DestinationConfig;
use crate::llm::{ChatRequest, Message, Role};
use crate::model::{Case, CaseId, Outcome, SpanId, TraceId};
use crate::report::style::Tone;
use crate::report::text::clean;
use crate::store::Store;
use crate::trace::origin;
use crate::trace::provider::Ambient;
use crate::workflow::{Leash, TrialContext};

/// Flags of `doctor`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// The suite file; without one, ./spanscore.toml
    suite: Option<PathBuf>,
    #[command(flatten)]
    flags: RunFlags,
    /// Ask neither the model nor the exporters
    #[arg(long)]
    offline: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    status: Status,
    message: String,
    hint: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

pub(super) fn exec(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let mut checks = Checks(Vec::new());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(look(args, context, &mut checks));
    let Checks(checks) = checks;
    match context.format {
        Format::Json => context.print_json(&serde_json::json!({ "checks": checks }))?,
        Format::Text => context.print(&text(&checks, context))?,
    }
    let failed = checks.iter().filter(|check| check.status == Status::Fail);
    Ok(failed.map(|check| check.exit).min_by_key(|exit| exit.code()).unwrap_or(Exit::Success))
}

struct Checks(Vec<Check>);

impl Checks {
    fn add(&mut self, name: &str, status: Status, message: String, hint: Option<String>) {
        self.0.push(Check { name: name.to_owned(), status, message, hint, exit: Exit::Incomplete });
    }

    fn ok(&mut self, name: &str, message: impl Into<String>) {
        self.add(name, Status::Ok, message.into(), None);
    }

    /// Takes note of an error; gives the value if there is none.
    fn keep<T>(&mut self, name: &str, result: anyhow::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                let text = in_words(&error);
                let (message, hint) = match text.split_once("; ") {
                    Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
                    None => (text, None),
                };
                let exit = Exit::of(&error);
                self.0.push(Check { name: name.to_owned(), status: Status::Fail, message, hint, exit });
                None
            }
        }
    }
}

async fn look(args: &Args, context: &Context, checks: &mut Checks) {
    store(context, checks);
    let plan = load_suite(args.suite.as_deref(), args.flags.dataset.is_some())
        .and_then(|suite| Ok(RunPlan::resolve(suite, &context.env, &args.flags)?));
    let Some(plan) = checks.keep("suite", plan) else { return };
    checks.ok("suite", format!("`{}`, {} model(s), dataset {}", plan.suite, plan.models.len(), plan.dataset.display()));
    let inputs = checks.keep("evaluators and prompt", Inputs::load(&plan, &context.env));
    if let Some(inputs) = &inputs {
        checks.ok("evaluators and prompt", format!("evaluators {}", plan.evaluators.join(", ")));
        dataset(inputs, checks);
    }
    match (plan.workflow.application(), inputs) {
        (None, _) => models(args, context, &plan, checks).await,
        (Some(_), Some(inputs)) => workflow(args, context, &plan, &inputs, checks).await,
        (Some(_), None) => {}
    }
    if let Some(export) = checks.keep("exporters", export_plan(&plan, context)) {
        for warning in &export.warnings {
            checks.add("exporters", Status::Warn, warning.clone(), None);
        }
        sinks::check(args, &export, checks).await;
        let known = azure::identity(args, context, &plan, &export.destinations, checks).await;
        exporters(args, export, known, checks).await;
    }
}

fn store(context: &Context, checks: &mut Checks) {
    if !context.store_dir.exists() {
        let message = format!("none yet in `{}`; `spanscore run` makes one", context.store_dir.display());
        checks.ok("store", message);
        return;
    }
    let runs = Store::open(&context.store_dir).and_then(|store| store.reader()?.runs()).map_err(Into::into);
    if let Some(runs) = checks.keep("store", runs) {
        checks.ok("store", format!("`{}`, {} run(s)", context.store_dir.display(), runs.len()));
    }
}

fn dataset(inputs: &Inputs, checks: &mut Checks) {
    let found = survey(&inputs.source, &inputs.selection, &mut |_| Ok(())).map_err(Into::into);
    let Some(found) = checks.keep("dataset", found) else { return };
    match found.errors.first() {
        Some(first) => checks.0.push(Check {
            name: "dataset".to_owned(),
            status: Status::Fail,
            message: format!("{} error(s); the first: {first}", found.errors.len() as u64 + found.errors_omitted),
            hint: Some("`spanscore validate` lists them all".to_owned()),
            exit: Exit::Usage,
        }),
        None => {
            for warning in inputs::warnings(&found) {
                checks.add("dataset", Status::Warn, warning, None);
            }
            checks.ok("dataset", format!("{} case(s), {} without a label", found.cases, found.labels.unlabelled));
        }
    }
}

/// Asks each model one short question: nothing less shows that address, key and name are right together.
async fn models(args: &Args, context: &Context, plan: &RunPlan, checks: &mut Checks) {
    let ambient = Ambient::default();
    for planned in &plan.models {
        let name = format!("model {}", planned.name.as_deref().unwrap_or("of the recording"));
        let mut plan = plan.clone();
        (plan.max_retries, plan.cache) = (0, None);
        plan.timeout = plan.timeout.min(std::time::Duration::from_secs(20));
        let opened = model::open(&plan, planned, (&context.store_dir, &context.env), &ambient).await;
        let Some(open) = checks.keep(&name, opened) else { continue };
        if args.offline || planned.provider == crate::config::Provider::Replay {
            checks.ok(&name, format!("{}: set up; not asked", planned.provider.as_str()));
            continue;
        }
        let question = "Evidence:\nWater is wet.\n\nClaim:\nWater is wet.\n\nReply with True, False or NEE.\n\nAnswer:";
        let request = ChatRequest {
            messages: &[Message { role: Role::User, content: question.to_owned() }],
            parameters: &open.parameters,
            case_id: "doctor",
            repeat: 0,
            span: (TraceId::from_bytes([1; 16]), SpanId::from_bytes([1; 8])),
        };
        let start = ambient.now();
        match open.model.chat(request).await.result {
            Ok(reply) => {
                let ms = (ambient.now() - start) / 1_000_000;
                let who = reply.response_model.as_deref().unwrap_or("the endpoint").to_owned();
                checks.ok(&name, format!("{who} answered `{}` in {ms} ms", clean(reply.text.trim())));
            }
            Err(error) => {
                let exit = if error.fatal { Exit::Usage } else { Exit::Incomplete };
                let hint = "check --base-url, the key's variable and the model's name".to_owned();
                let message = format!("{}: {}", error.error_type, error.message);
                checks.0.push(Check { name, status: Status::Fail, message, hint: Some(hint), exit });
            }
        }
    }
}

/// Asks the application one short question. It is told of no collector and of a trace that nobody keeps.
async fn workflow(args: &Args, context: &Context, plan: &RunPlan, inputs: &Inputs, checks: &mut Checks) {
    let name = format!("workflow {}", plan.workflow.kind());
    let words = inputs::application_words(plan).unwrap_or_default();
    if checks.keep(&name, application::check(plan, context)).is_none() {
        return;
    }
    if args.offline {
        checks.ok(&name, format!("{words}: set up; not asked"));
        return;
    }
    let mut plan = plan.clone();
    plan.max_retries = 0;
    plan.timeout = plan.timeout.min(std::time::Duration::from_secs(20));
    if let WorkflowPlan::Command(own) = &mut plan.workflow {
        own.env.insert("OTEL_SDK_DISABLED".to_owned(), "true".to_owned());
        own.processes = 1;
    }
    let (ambient, leash) = (Ambient::default(), Leash::default());
    let making = Making { context, plan: &plan, model: &plan.models[0], inputs, ambient: &ambient, leash: &leash };
    let Some(ready) = checks.keep(&name, making.application(None, making.root())) else { return };
    let case = Case {
        seq: 0,
        id: CaseId::parse("doctor").expect("a word is an id"),
        claim: "Water is wet.".to_owned(),
        context: "Water is wet.".to_owned(),
        expected: None,
        group: None,
        columns: Vec::new(),
        digest: crate::model::Digest::from_bytes([0; 32]),
    };
    let trial = TrialContext { trace_id: ambient.ids.trace_id(), parent_span_id: ambient.ids.span_id(), repeat: 0 };
    let assessment = ready.workflow.assess(&case, trial).await;
    let said = ready.finish().await;
    match assessment.outcome {
        Outcome::Failed(failure) => {
            let exit = if assessment.fatal { Exit::Usage } else { Exit::Incomplete };
            let message = format!("{words}: {}: {}", failure.error_type, failure.message);
            let hint = match plan.workflow {
                WorkflowPlan::Http(_) => "see that it runs, and that [workflow] url is its address",
                _ => {
                    "it reads one JSON object per line and answers each with one; see [workflow] in what `spanscore init` writes"
                }
            };
            let hint = Some(hint.to_owned());
            checks.0.push(Check { name, status: Status::Fail, message, hint, exit });
        }
        _ => {
            let ms = assessment.latency_ns / 1_000_000;
            let raw = assessment.raw_output.unwrap_or_default();
            let short: String = raw.trim().chars().take(80).collect();
            checks.ok(&name, format!("{words}: answered `{}` in {ms} ms", clean(&short)));
            for line in said {
                checks.add("workflow", Status::Warn, line, None);
            }
        }
    }
}

/// Sends each destination an empty request: the protocol says that it succeeds. `known`: whether there are Entra tokens.
async fn exporters(args: &Args, export: ExportPlan, known: bool, checks: &mut Checks) {
    if export.destinations.is_empty() {
        checks.ok("exporters", "none; spans stay in the store (set OTEL_EXPORTER_OTLP_ENDPOINT to send them on)");
    }
    for config in export.destinations {
        if let DestinationConfig::AppInsights(settings) = config {
            azure::insights(args, settings, known, checks).await;
            continue;
        }
        if matches!(config, DestinationConfig::Sink(_)) {
            continue;
        }
        let name = format!("exporter {}", config.name());
        let connected = connect(config, || Box::new(std::io::sink())).map_err(Into::into);
        let Some(destination) = checks.keep(&name, connected) else { continue };
        if args.offline {
            checks.ok(&name, "set up; not asked");
            continue;
        }
        for signal in [Signal::Traces, Signal::Logs].into_iter().filter(|signal| destination.takes(*signal)) {
            let items = match signal {
                Signal::Traces => Items::Spans(Vec::new()),
                Signal::Logs => Items::Logs(Vec::new()),
            };
            let batch = Batch { origin: Arc::new(origin::own(export.resource.clone())), items };
            let delivery = destination.deliver(&batch).await;
            let problem = delivery.retry.map(|retry| retry.reason).or(delivery.halt).or(delivery.rejection);
            match problem {
                // MLflow refuses a request without spans, against the protocol; who answers so is there and takes the key.
                Some(problem) if problem.contains("answers 400") => {
                    checks.ok(&name, format!("is there for {}; {problem} (to an empty request)", signal.as_str()));
                }
                None => checks.ok(&name, format!("takes {}", signal.as_str())),
                Some(problem) => {
                    let hint = "runs go on without it; `spanscore export --pending` delivers later".to_owned();
                    checks.add(&name, Status::Fail, format!("{}: {problem}", signal.as_str()), Some(hint));
                }
            }
        }
    }
}

fn text(checks: &[Check], context: &Context) -> String {
    let mut lines = Vec::new();
    for check in checks {
        let (mark, tone) = match check.status {
            Status::Ok => ("ok  ", Tone::Good),
            Status::Warn => ("warn", Tone::Warn),
            Status::Fail => ("FAIL", Tone::Bad),
        };
        lines.push(format!("{}  {}: {}", context.style.paint(tone, mark), check.name, clean(&check.message)));
        if let Some(hint) = &check.hint {
            lines.push(format!("      → {}", clean(hint)));
        }
    }
    lines.join("\n")
}
