//! What a run reads before it starts: dataset, prompt, answer parser, evaluators. All input errors come up here, before
//! the store is touched or a model asked.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::context::note;
use super::{Context, Exit, Format};
use crate::config::suite::{SinkSection, TraceSection};
use crate::config::{AzurePlan, Environment, ModelPlan, RunPlan, WorkflowPlan};
use crate::dataset::{ColumnMap, LabelVocabulary, ReadOptions, Sample, Selection, Source, Survey};
use crate::evaluation::checked_survey;
use crate::evaluator::{Evaluator, Registry};
use crate::export::SuiteOtlp;
use crate::export::auth::AuthEnv;
use crate::llm::chat::Parameters;
use crate::model::EvaluatorId;
use crate::query;
use crate::report::terminal::shell_word;
use crate::workflow::{AnswerParser, Capture, Prompt};

/// Warnings shown at once; the rest is counted.
const SHOWN: usize = 5;

/// Everything that a run reads.
pub(super) struct Inputs {
    pub(super) source: Source,
    pub(super) selection: Selection,
    pub(super) prompt: Prompt,
    pub(super) parser: AnswerParser,
    /// What decides how answers are read, as text, for the digest.
    pub(super) parser_source: String,
    pub(super) evaluators: Vec<Arc<dyn Evaluator>>,
    pub(super) primary: EvaluatorId,
    pub(super) capture: Capture,
}

impl Inputs {
    pub(super) fn load(plan: &RunPlan, env: &Environment) -> anyhow::Result<Self> {
        let prompt = match &plan.prompt {
            Some(path) => Prompt::from_file(path)?,
            None => Prompt::default(),
        };
        let parser = AnswerParser::new(plan.answer_pattern.as_deref(), &plan.answer_labels)?;
        let evaluators = Registry::load(&plan.evaluator_folder)?.select(&plan.evaluators)?;
        Ok(Self {
            source: source(plan),
            selection: selection(plan)?,
            prompt,
            parser,
            parser_source: json!([plan.answer_pattern, plan.answer_labels]).to_string(),
            evaluators,
            primary: EvaluatorId::parse(plan.primary.clone())?,
            capture: capture(plan.capture_flag, plan.capture_suite, env),
        })
    }
}

/// The dataset as the plan describes it.
pub(super) fn source(plan: &RunPlan) -> Source {
    let c = &plan.columns;
    let columns = ColumnMap {
        claim: c.claim.clone(),
        context: c.context.clone(),
        expected: c.label.clone(),
        id: c.id.clone(),
        group: c.group.clone(),
    };
    let mut labels = LabelVocabulary::default();
    for (label, words) in &plan.dataset_labels {
        labels.extend(*label, words);
    }
    Source::new(&plan.dataset, ReadOptions { columns, labels })
}

/// Which cases of it.
pub(super) fn selection(plan: &RunPlan) -> anyhow::Result<Selection> {
    let filter = plan.filter.as_deref().map(|text| query::parse(text, &query::Schema::dataset())).transpose();
    Ok(Selection {
        filter: filter.context("--filter")?,
        sample: plan.sample.map(|n| Sample { n, seed: plan.seed }),
        limit: plan.limit,
    })
}

/// What the suite says of destinations, in the exporters' form.
pub(super) fn suite_otlp(trace: &TraceSection, sinks: &[SinkSection], azure: &AzurePlan) -> anyhow::Result<SuiteOtlp> {
    let timeout: Option<Duration> = trace
        .otlp_timeout
        .as_deref()
        .map(humantime::parse_duration)
        .transpose()
        .map_err(|e| anyhow::anyhow!("[trace] otlp_timeout: {e}; expected a duration such as 10s"))?;
    Ok(SuiteOtlp {
        endpoint: trace.otlp_endpoint.clone(),
        protocol: trace.otlp_protocol.clone(),
        headers: trace.otlp_headers.clone(),
        compression: trace.otlp_compression.clone(),
        timeout,
        auth: AuthEnv { bearer: trace.otlp_bearer_env.clone(), basic: trace.otlp_basic_env.clone() },
        signals: trace.otlp_signals.clone(),
        resource: trace.resource.clone(),
        sinks: sinks.to_vec(),
        azure: azure.clone(),
    })
}

/// `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` beats the suite; the flag beats both and means spans.
fn capture(flag: bool, suite: bool, env: &Environment) -> Capture {
    let none = Capture::default();
    let spans = Capture { spans: true, ..none };
    let asked = if suite { spans } else { none };
    let name = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT";
    match env.get(name).map(str::to_ascii_uppercase).as_deref() {
        _ if flag => spans,
        None => asked,
        Some("TRUE" | "SPAN_ONLY") => spans,
        Some("EVENT_ONLY") => Capture { events: true, ..none },
        Some("SPAN_AND_EVENT") => Capture { spans: true, events: true },
        Some("FALSE" | "NO_CONTENT") => none,
        Some(other) => {
            note(&format!(
                "warning: {name} is `{other}`, expected true, SPAN_ONLY, EVENT_ONLY, SPAN_AND_EVENT, NO_CONTENT or false; ignored"
            ));
            asked
        }
    }
}

/// What is kept with the run so that people and `--resume` find things again. No secrets: keys stay in the environment.
pub(super) fn describe(plan: &RunPlan, model: &ModelPlan, parameters: &Parameters) -> serde_json::Value {
    json!({
        "dataset": plan.dataset,
        "filter": plan.filter,
        "sample": plan.sample,
        "limit": plan.limit,
        "seed": plan.seed,
        "base_url": model.base_url.as_deref().map(without_secrets),
        "deployment": model.deployment,
        "replay": model.replay,
        "parameters": parameters,
        "batch_size": plan.batch_size,
        "answer_pattern": plan.answer_pattern,
        "prompt": plan.prompt,
        "workflow": application(plan),
    })
}

/// The application under test, if it is one: no values of variables and headers, which may be keys.
fn application(plan: &RunPlan) -> serde_json::Value {
    match &plan.workflow {
        WorkflowPlan::AssessClaims => serde_json::Value::Null,
        WorkflowPlan::Command(own) => json!({
            "kind": plan.workflow.kind(),
            "command": own.command,
            "folder": own.folder,
            "processes": own.processes,
            "env": own.env.keys().collect::<Vec<_>>(),
            "version": own.shared.version,
        }),
        WorkflowPlan::Http(own) => json!({
            "kind": plan.workflow.kind(),
            "url": without_secrets(&own.url),
            "headers": own.headers.keys().collect::<Vec<_>>(),
            "version": own.shared.version,
        }),
    }
}

/// The application in a few words, for people.
pub(super) fn application_words(plan: &RunPlan) -> Option<String> {
    match &plan.workflow {
        WorkflowPlan::AssessClaims => None,
        WorkflowPlan::Command(own) => {
            let words: Vec<_> = own.command.iter().map(|word| shell_word(word)).collect();
            Some(format!("program `{}` in {}", words.join(" "), own.folder.display()))
        }
        WorkflowPlan::Http(own) => Some(format!("endpoint {}", without_secrets(&own.url))),
    }
}

/// Scheme, host, port and path of an address: user names, passwords and queries may be keys.
fn without_secrets(url: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse(url) else { return "unreadable".to_owned() };
    // These fail for addresses that can hold neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// What a survey found that is worth a word.
pub(super) fn warnings(survey: &Survey) -> Vec<String> {
    let mut lines: Vec<String> = survey.warnings.iter().take(SHOWN).map(|w| format!("warning: {w}")).collect();
    let more = (survey.warnings.len() as u64 + survey.warnings_omitted).saturating_sub(lines.len() as u64);
    if more > 0 {
        lines.push(format!("… and {more} more warnings; `spanscore validate` lists them all"));
    }
    lines
}

/// `--dry-run`: what would be run.
pub(super) fn dry_run(plan: &RunPlan, inputs: &Inputs, context: &Context) -> anyhow::Result<Exit> {
    let mut bytes = 0;
    let survey = checked_survey(&inputs.source, &inputs.selection, |case| {
        let rendered = inputs.prompt.render(case)?;
        bytes += rendered.iter().map(|m| m.content.len()).sum::<usize>();
        Ok::<(), crate::workflow::PromptError>(())
    })?;
    for warning in warnings(&survey) {
        context.hint(&warning);
    }
    let trials = survey.cases * u64::from(plan.repeat) * plan.models.len() as u64;
    // Four bytes a token is the usual rule of thumb for English.
    let tokens = bytes as u64 / 4 * u64::from(plan.repeat) * plan.models.len() as u64;
    let application = application_words(plan);
    // What an application sends to its model is its own business.
    let tokens = application.is_none().then_some(tokens);
    let models: Vec<_> = plan.models.iter().map(|m| json!({"provider": m.provider.as_str(), "name": m.name})).collect();
    let document = json!({
        "suite": plan.suite,
        "dataset": {"name": inputs.source.name(), "digest": survey.digest, "cases": survey.cases, "labels": survey.labels},
        "models": models,
        "evaluators": plan.evaluators,
        "trials": trials,
        "workflow": application,
        "prompt_digest": inputs.prompt.digest(),
        "input_tokens_estimated": tokens,
    });
    match context.format {
        Format::Json => context.print_json(&document)?,
        Format::Text => {
            let names: Vec<_> = plan.models.iter().map(|m| m.name.as_deref().unwrap_or("the recording's")).collect();
            let short = survey.digest.to_string().get(..12).unwrap_or_default().to_owned();
            let asked = match &application {
                Some(application) => format!("workflow {application}"),
                None => format!("about {} input tokens", tokens.unwrap_or_default()),
            };
            context.print(&format!(
                "suite {}: {trials} trials = {} cases × {} repeats × {} models ({})\ndataset {} (digest {short}), {asked}\n\
                 evaluators {}\nnothing was run",
                plan.suite,
                survey.cases,
                plan.repeat,
                plan.models.len(),
                names.join(", "),
                inputs.source.name(),
                plan.evaluators.join(", "),
            ))?;
        }
    }
    Ok(Exit::Success)
}
