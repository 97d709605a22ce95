//! What the user meant: suite, environment and flags merged and checked, before anything is opened.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::suite::{Columns, ModelSection, PriceSection, SuiteError};
use super::{AzurePlan, Environment, RunFlags, Suite, WorkflowPlan};
use crate::model::Label;

/// Why suite, environment and flags do not make a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The suite file.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// Something that is needed is not given.
    #[error("{what} is not set; {hint}")]
    Missing {
        /// What.
        what: String,
        /// How to give it.
        hint: String,
    },
    /// A value that makes no sense.
    #[error("{place}: found `{found}`, expected {expected}")]
    Value {
        /// The flag or key.
        place: String,
        /// As given.
        found: String,
        /// What would do.
        expected: String,
    },
    /// The Foundry project.
    #[error(transparent)]
    Project(#[from] super::azure::BadProject),
    /// Something that this kind of workflow has no use for.
    #[error("{place} means nothing with `kind = \"{kind}\"` in [workflow]; {hint}")]
    Meaningless {
        /// The flag or key.
        place: String,
        /// The kind.
        kind: String,
        /// What to do instead.
        hint: String,
    },
}

/// Where answers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The model server inside the process.
    Builtin,
    /// Any OpenAI-compatible endpoint.
    OpenAi,
    /// Azure OpenAI.
    Azure,
    /// Recorded answers.
    Replay,
    /// A program of the user's, whose model is its own business.
    Command,
    /// An HTTP endpoint of the user's, likewise.
    Http,
}

impl Provider {
    /// Those that can be asked for; the others follow from the kind of the workflow.
    const ALL: [Self; 4] = [Self::Builtin, Self::OpenAi, Self::Azure, Self::Replay];

    /// The name as suites, flags and documents spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::OpenAi => "openai",
            Self::Azure => "azure",
            Self::Replay => "replay",
            Self::Command => "command",
            Self::Http => "http",
        }
    }

    fn parse(place: &str, text: &str) -> Result<Self, PlanError> {
        Self::ALL.into_iter().find(|p| p.as_str() == text).ok_or_else(|| PlanError::Value {
            place: place.to_owned(),
            found: text.to_owned(),
            expected: "builtin, openai, azure or replay".to_owned(),
        })
    }
}

/// How many model calls at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConcurrencySetting {
    /// Found out while running.
    Auto,
    /// This many.
    Fixed(usize),
}

/// One model, resolved.
#[derive(Debug, Clone)]
pub struct ModelPlan {
    /// Where answers come from.
    pub provider: Provider,
    /// The model asked for; for a replay, `None` takes the recording's.
    pub name: Option<String>,
    /// The endpoint.
    pub base_url: Option<String>,
    /// The key, if the environment has one and it is to be sent.
    pub api_key: Option<String>,
    /// Whether Entra tokens are sent, as [`AzurePlan`] says.
    pub entra: bool,
    /// Which variable holds the key, for messages.
    pub api_key_env: String,
    /// Azure's API version.
    pub api_version: Option<String>,
    /// Azure's deployment.
    pub deployment: Option<String>,
    /// The recording, as given: a file or a run.
    pub replay: Option<String>,
    /// The rest of the model's section.
    pub section: ModelSection,
}

impl ModelPlan {
    /// Whether its answers cost nothing whoever asks: the model in the process, and recordings.
    pub const fn is_free(&self) -> bool {
        matches!(self.provider, Provider::Builtin | Provider::Replay)
    }
}

/// Everything that `run` needs to know, checked.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// The suite's name.
    pub suite: String,
    /// The run's name.
    pub name: String,
    /// What it must hold to be let through.
    pub gate: super::gate::GatePlan,
    /// The dataset file.
    pub dataset: PathBuf,
    /// Its columns, where not found by their usual names.
    pub columns: Columns,
    /// More spellings of its labels.
    pub dataset_labels: BTreeMap<Label, Vec<String>>,
    /// Keep these cases only.
    pub filter: Option<String>,
    /// Keep the first N.
    pub limit: Option<u64>,
    /// Keep N drawn by `seed`.
    pub sample: Option<u64>,
    /// One run each.
    pub models: Vec<ModelPlan>,
    /// Evaluators by id, in order.
    pub evaluators: Vec<String>,
    /// The one that decides whether a case passed.
    pub primary: String,
    /// Where to look for definitions of evaluators.
    pub evaluator_folder: PathBuf,
    /// The code under test.
    pub workflow: WorkflowPlan,
    /// Claims per trace.
    pub batch_size: u32,
    /// The prompt file; `None` for the default wording.
    pub prompt: Option<PathBuf>,
    /// A regular expression that cuts answers out.
    pub answer_pattern: Option<String>,
    /// Words in answers that stand for labels.
    pub answer_labels: BTreeMap<Label, Vec<String>>,
    /// Model calls at once.
    pub concurrency: ConcurrencySetting,
    /// Trials per case.
    pub repeat: u32,
    /// Of one HTTP try.
    pub timeout: Duration,
    /// Further tries after the first.
    pub max_retries: u32,
    /// Requests per minute.
    pub rpm: Option<u32>,
    /// Tokens per minute.
    pub tpm: Option<u64>,
    /// No new trials beyond this many tokens.
    pub max_tokens_total: Option<u64>,
    /// No new trials beyond this many US dollars.
    pub max_cost: Option<f64>,
    /// No new trials after this long.
    pub max_duration: Option<Duration>,
    /// Of samples and resampling.
    pub seed: u64,
    /// Folder of cached answers.
    pub cache: Option<PathBuf>,
    /// Whether a flag asks for prompts and answers on spans.
    pub capture_flag: bool,
    /// Whether the suite does; the environment stands between the two.
    pub capture_suite: bool,
    /// Whether spans carry the latest names only.
    pub semconv_latest: bool,
    /// Where traces go besides the store; empty leaves it to the environment.
    pub trace_to: Vec<String>,
    /// Where the connection string of Application Insights is, if in a file.
    pub connection_string_file: Option<PathBuf>,
    /// The Foundry project, and who asks.
    pub azure: AzurePlan,
    /// Template of links to traces, resolved.
    pub trace_url: Option<String>,
    /// The `[trace]` section, for the exporters.
    pub trace: super::suite::TraceSection,
    /// The `[[sinks]]`, likewise.
    pub sinks: Vec<super::suite::SinkSection>,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
}

impl RunPlan {
    /// Merges suite, environment and flags.
    pub fn resolve(suite: Suite, env: &Environment, flags: &RunFlags) -> Result<Self, PlanError> {
        let dataset = match (&flags.dataset, &suite.suite.dataset) {
            (Some(path), _) => path.clone(),
            (None, Some(path)) => suite.resolve(path),
            (None, None) => return Err(missing("the dataset", "pass --dataset FILE, or set `dataset` in [suite]")),
        };
        let evaluators = match (flags.evaluators.is_empty(), &suite.suite.evaluators) {
            (false, _) => flags.evaluators.clone(),
            (true, Some(ids)) => ids.clone(),
            (true, None) => ["label_match", "valid_label", "abstention"].map(str::to_owned).to_vec(),
        };
        let primary = primary(&suite, &evaluators, flags)?;
        let workflow = WorkflowPlan::resolve(&suite, env, flags)?;
        let name = suite.name().to_owned();
        let azure = AzurePlan::resolve(&suite.azure, env)?;
        let run = &suite.run;
        let mut tags = suite.tags.clone();
        for tag in &flags.tags {
            let (key, text) = tag
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| value("--tag", tag, "KEY=VALUE"))?;
            tags.insert(key.to_owned(), text.to_owned());
        }
        let semconv = flags.semconv.clone().or(semconv_from(env)).or(suite.trace.semconv.clone());
        let semconv_latest = match semconv.as_deref() {
            None | Some("dual") => false,
            Some("latest") => true,
            Some(other) => return Err(value("[trace] semconv", other, "dual or latest")),
        };
        let repeat = flags.repeat.or(run.repeat).unwrap_or(1);
        within("[run] repeat", u64::from(repeat), 1, 1000)?;
        let batch_size = flags.batch_size.or(suite.workflow.batch_size).unwrap_or(8);
        within("[workflow] batch_size", u64::from(batch_size), 1, 10_000)?;
        within("[run] rpm", run.rpm.unwrap_or(1).into(), 1, u64::MAX)?;
        within("[run] tpm", run.tpm.unwrap_or(1), 1, u64::MAX)?;
        if let Some(bad) = flags.name.as_deref().filter(|name| {
            name.trim().is_empty()
                || *name == "latest"
                || name.starts_with("latest~")
                || name.chars().any(char::is_control)
        }) {
            return Err(value("--name", bad, "a name other than `latest`, of at least one visible character"));
        }
        let max_cost = flags.max_cost.or(run.max_cost);
        if let Some(usd) = max_cost.filter(|usd| !(usd.is_finite() && *usd >= 0.0)) {
            return Err(value("--max-cost", &usd.to_string(), "an amount of US dollars, 0 or more"));
        }
        Ok(Self {
            name: flags.name.clone().unwrap_or_else(|| name.clone()),
            gate: super::gate::GatePlan::resolve(&suite)?,
            trace_url: suite
                .trace
                .trace_url
                .as_ref()
                .map(|link| link.template(azure.resource_id.as_deref()))
                .transpose()?,
            azure: azure.clone(),
            suite: name,
            dataset,
            columns: suite.dataset.columns.clone(),
            dataset_labels: suite.dataset.labels.clone(),
            filter: flags.filter.clone().or(suite.dataset.filter.clone()),
            limit: flags.limit.or(suite.dataset.limit),
            sample: flags.sample.or(suite.dataset.sample),
            models: match &workflow {
                WorkflowPlan::AssessClaims => models(&suite, (env, &azure), flags)?,
                WorkflowPlan::Command(_) => vec![application_model(&suite, Provider::Command)?],
                WorkflowPlan::Http(_) => vec![application_model(&suite, Provider::Http)?],
            },
            workflow,
            evaluators,
            primary,
            evaluator_folder: suite.folder().join("evaluators"),
            batch_size,
            prompt: suite.workflow.prompt.as_deref().map(|path| suite.resolve(path)),
            answer_pattern: suite.workflow.answer_pattern.clone(),
            answer_labels: suite.workflow.labels.clone(),
            concurrency: concurrency(flags.concurrency.as_deref(), run.concurrency.as_ref())?,
            repeat,
            timeout: duration("--timeout", flags.timeout.as_ref().or(run.timeout.as_ref()))?
                .unwrap_or(Duration::from_mins(1)),
            max_retries: flags.max_retries.or(run.max_retries).unwrap_or(4),
            rpm: flags.rpm.or(run.rpm),
            tpm: flags.tpm.or(run.tpm),
            max_tokens_total: flags.max_tokens_total.or(run.max_tokens_total),
            max_cost,
            max_duration: duration("--max-duration", flags.max_duration.as_ref().or(run.max_duration.as_ref()))?,
            seed: flags.seed.or(run.seed).unwrap_or(0),
            cache: flags.cache.clone().or_else(|| run.cache.as_deref().map(|path| suite.resolve(path))),
            capture_flag: flags.capture_content,
            capture_suite: suite.trace.capture_content.unwrap_or(false),
            semconv_latest,
            trace_to: trace_to(flags, env, &suite),
            connection_string_file: flags.connection_string_file.clone(),
            trace: suite.trace,
            sinks: suite.sinks,
            tags,
        })
    }
}

/// The flag's list, else the suite's where the environment says nothing.
fn trace_to(flags: &RunFlags, env: &Environment, suite: &Suite) -> Vec<String> {
    let said = env.get("OTEL_TRACES_EXPORTER").is_some() || env.get("OTEL_SDK_DISABLED") == Some("true");
    match &suite.trace.to {
        _ if !flags.trace_to.is_empty() => flags.trace_to.clone(),
        Some(list) if !said => list.clone(),
        _ => Vec::new(),
    }
}

fn primary(suite: &Suite, evaluators: &[String], flags: &RunFlags) -> Result<String, PlanError> {
    let Some(first) = evaluators.first() else {
        return Err(missing("the list of evaluators", "name at least one in [suite] evaluators or with --evaluator"));
    };
    match &suite.suite.primary {
        Some(id) if evaluators.contains(id) => Ok(id.clone()),
        // Evaluators named on the command line may leave the suite's primary out on purpose.
        Some(id) if flags.evaluators.is_empty() => {
            Err(value("[suite] primary", id, &format!("one of the suite's evaluators: {}", evaluators.join(", "))))
        }
        _ => Ok(if evaluators.iter().any(|id| id == "label_match") { "label_match".to_owned() } else { first.clone() }),
    }
}

fn models(suite: &Suite, from: (&Environment, &AzurePlan), flags: &RunFlags) -> Result<Vec<ModelPlan>, PlanError> {
    let sections = if suite.model.0.is_empty() { vec![ModelSection::default()] } else { suite.model.0.clone() };
    // A flag that changes where answers come from stands for all of the suite's models together.
    let overridden = flags.provider.is_some() || flags.base_url.is_some() || flags.replay.is_some();
    let sections = if (overridden || !flags.models.is_empty()) && sections.len() > 1 {
        vec![sections[0].clone()]
    } else {
        sections
    };
    let mut plans = Vec::new();
    for section in sections {
        let names = if flags.models.is_empty() { vec![None] } else { flags.models.iter().cloned().map(Some).collect() };
        for name in names {
            plans.push(model(section.clone(), name, from, flags)?);
        }
    }
    Ok(plans)
}

fn model(
    mut section: ModelSection,
    name: Option<String>,
    (env, azure): (&Environment, &AzurePlan),
    flags: &RunFlags,
) -> Result<ModelPlan, PlanError> {
    let suites = section.provider.as_deref().map(|p| Provider::parse("[model] provider", p)).transpose()?;
    let suites = suites.unwrap_or(Provider::Builtin);
    let provider = match (&flags.provider, &flags.replay, &flags.base_url) {
        (Some(text), ..) => Provider::parse("--provider", text)?,
        (None, Some(_), _) => Provider::Replay,
        // A base URL says where to ask; the model inside the process has none.
        (None, None, Some(_)) if suites == Provider::Builtin => Provider::OpenAi,
        _ => suites,
    };
    if provider != suites {
        // Name, address and price belong to the provider that they were written for.
        section.name = None;
        section.base_url = None;
        section.api_key_env = None;
        section.price = None;
    }
    let (url_env, key_env) = match provider {
        Provider::Azure => ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"),
        _ => ("OPENAI_BASE_URL", "OPENAI_API_KEY"),
    };
    let api_key_env = section.api_key_env.clone().unwrap_or_else(|| key_env.to_owned());
    let base_url = flags.base_url.clone().or(env.get(url_env).map(str::to_owned)).or(section.base_url.clone());
    let base_url = match base_url {
        None if provider == Provider::Azure => azure.project()?.map(|project| format!("{project}/openai/v1")),
        given => given,
    };
    let default_name = (provider == Provider::Builtin).then(|| "lexical-baseline".to_owned());
    let name = name.or(section.name.clone()).or(default_name);
    let replay = flags.replay.clone().or(section.replay.clone());
    match provider {
        Provider::OpenAi | Provider::Azure if name.is_none() && section.deployment.is_none() => {
            return Err(missing("the model", "pass --model NAME, or set `name` in [model]"));
        }
        Provider::Azure if base_url.is_none() => {
            return Err(missing(
                "the Azure endpoint",
                "set AZURE_OPENAI_ENDPOINT, pass --base-url URL, set `base_url` in [model], or name the Foundry project: \
                 `project` in [azure]",
            ));
        }
        Provider::Replay if replay.is_none() => {
            return Err(missing("the recording", "pass --replay FILE or --replay RUN, or set `replay` in [model]"));
        }
        _ => {}
    }
    check_price(&section)?;
    let api_key = env.get(&api_key_env).map(str::to_owned);
    let (api_key, entra) = match section.auth.as_deref() {
        _ if provider != Provider::Azure => (api_key, false),
        None => (api_key.clone(), api_key.is_none()),
        Some("key") => (api_key, false),
        Some("entra") => (None, true),
        Some(other) => return Err(value("[model] auth", other, "key or entra")),
    };
    Ok(ModelPlan {
        provider,
        name,
        base_url,
        api_key,
        entra,
        api_key_env,
        api_version: env
            .get("AZURE_OPENAI_API_VERSION")
            .or(env.get("OPENAI_API_VERSION"))
            .map(str::to_owned)
            .or(section.api_version.clone()),
        deployment: section.deployment.clone(),
        replay,
        section,
    })
}

/// What lists and reports call the model of an application, and what its tokens cost.
fn application_model(suite: &Suite, provider: Provider) -> Result<ModelPlan, PlanError> {
    let section = suite.model.0.first().cloned().unwrap_or_default();
    check_price(&section)?;
    Ok(ModelPlan {
        provider,
        name: Some(section.name.clone().unwrap_or_else(|| provider.as_str().to_owned())),
        base_url: None,
        api_key: None,
        entra: false,
        api_key_env: String::new(),
        api_version: None,
        deployment: None,
        replay: None,
        section,
    })
}

fn check_price(section: &ModelSection) -> Result<(), PlanError> {
    match section.price {
        Some(PriceSection { input_per_million: i, output_per_million: o, cached_input_per_million: c })
            if [i, o, c.unwrap_or(0.0)].iter().any(|usd| !usd.is_finite() || *usd < 0.0) =>
        {
            Err(value("[model] price", &format!("{i}, {o}"), "US dollars per million tokens, 0 or more"))
        }
        _ => Ok(()),
    }
}

fn concurrency(flag: Option<&str>, key: Option<&toml::Value>) -> Result<ConcurrencySetting, PlanError> {
    let (place, text) = match (flag, key) {
        (Some(text), _) => ("--concurrency", text.to_owned()),
        (None, Some(toml::Value::String(text))) => ("[run] concurrency", text.clone()),
        (None, Some(other)) => ("[run] concurrency", other.to_string()),
        (None, None) => return Ok(ConcurrencySetting::Auto),
    };
    match (text.as_str(), text.parse::<usize>()) {
        ("auto", _) => Ok(ConcurrencySetting::Auto),
        (_, Ok(n)) if (1..=4096).contains(&n) => Ok(ConcurrencySetting::Fixed(n)),
        _ => Err(value(place, &text, "`auto` or a number from 1 to 4096")),
    }
}

/// `OTEL_SEMCONV_STABILITY_OPT_IN` is a list; only its GenAI entry concerns us.
fn semconv_from(env: &Environment) -> Option<String> {
    let list = env.get("OTEL_SEMCONV_STABILITY_OPT_IN")?;
    list.split(',').any(|entry| entry.trim() == "gen_ai_latest_experimental").then(|| "latest".to_owned())
}

pub(super) fn duration(place: &str, text: Option<&String>) -> Result<Option<Duration>, PlanError> {
    let Some(text) = text else { return Ok(None) };
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(Some(duration)),
        _ => Err(value(place, text, "a duration such as 500ms, 60s or 2h")),
    }
}

pub(super) fn missing(what: &str, hint: &str) -> PlanError {
    PlanError::Missing { what: what.to_owned(), hint: hint.to_owned() }
}

pub(super) fn within(place: &str, n: u64, least: u64, most: u64) -> Result<(), PlanError> {
    let expected = if most == u64::MAX { format!("at least {least}") } else { format!("{least} to {most}") };
    if (least..=most).contains(&n) { Ok(()) } else { Err(value(place, &n.to_string(), &expected)) }
}

pub(super) fn value(place: &str, found: &str, expected: &str) -> PlanError {
    PlanError::Value { place: place.to_owned(), found: found.to_owned(), expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(text: &str) -> Suite {
        let mut suite = Suite::parse(text, "s.toml").expect("valid");
        suite.path = Some("suites/s.toml".into());
        suite
    }

    fn env(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    const BASE: &str =
        "[suite]\ndataset = \"d.csv\"\n[model]\nprovider = \"openai\"\nname = \"m\"\nbase_url = \"http://suite\"\n";

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_suite() {
        let resolve = |env: &Environment, flags: &RunFlags| RunPlan::resolve(suite(BASE), env, flags).expect("a plan");
        let none = RunFlags::default();
        assert_eq!(resolve(&env(&[]), &none).models[0].base_url.as_deref(), Some("http://suite"));
        let set = env(&[("OPENAI_BASE_URL", "http://env"), ("OPENAI_API_KEY", "sk-1")]);
        let plan = resolve(&set, &none);
        assert_eq!(plan.models[0].base_url.as_deref(), Some("http://env"));
        assert_eq!(plan.models[0].api_key.as_deref(), Some("sk-1"));
        assert_eq!(plan.dataset, PathBuf::from("suites/d.csv"));
        let flags = RunFlags { base_url: Some("http://flag".to_owned()), ..RunFlags::default() };
        assert_eq!(resolve(&set, &flags).models[0].base_url.as_deref(), Some("http://flag"));
    }

    #[test]
    fn several_models_make_several_runs() {
        let flags = RunFlags { models: vec!["a".to_owned(), "b".to_owned()], ..RunFlags::default() };
        let plan = RunPlan::resolve(suite(BASE), &env(&[]), &flags).expect("a plan");
        let names: Vec<_> = plan.models.iter().map(|m| m.name.as_deref()).collect();
        assert_eq!(names, [Some("a"), Some("b")]);
    }

    #[test]
    fn another_provider_does_not_inherit_the_model() {
        let flags = RunFlags { provider: Some("azure".to_owned()), ..RunFlags::default() };
        let error = RunPlan::resolve(suite(BASE), &env(&[]), &flags).expect_err("no model").to_string();
        assert!(error.contains("pass --model NAME"), "{error}");
    }

    #[test]
    fn a_project_that_is_none_ends_only_runs_that_ask_it() {
        let env = env(&[("AZURE_AI_PROJECT_ENDPOINT", "https://other.example/")]);
        RunPlan::resolve(suite(BASE), &env, &RunFlags::default()).expect("a plan");
        let azure = |base_url: Option<&str>| RunFlags {
            provider: Some("azure".to_owned()),
            models: vec!["m".to_owned()],
            base_url: base_url.map(str::to_owned),
            ..RunFlags::default()
        };
        RunPlan::resolve(suite(BASE), &env, &azure(Some("https://a.openai.azure.com/"))).expect("a plan");
        let error = RunPlan::resolve(suite(BASE), &env, &azure(None)).expect_err("it is no project").to_string();
        assert!(error.starts_with("AZURE_AI_PROJECT_ENDPOINT: found `https://other.example`"), "{error}");
    }

    #[test]
    fn values_that_make_no_sense_name_their_place() {
        let bad = |text: &str, want: &str| {
            let error = RunPlan::resolve(suite(&format!("{BASE}{text}")), &env(&[]), &RunFlags::default())
                .expect_err("refused")
                .to_string();
            assert!(error.contains(want), "{error}");
        };
        bad("[run]\nconcurrency = 0\n", "[run] concurrency: found `0`");
        bad("[run]\ntimeout = \"soon\"\n", "such as 500ms");
        bad("[workflow]\nbatch_size = 0\n", "batch_size");
        bad("[trace]\nsemconv = \"old\"\n", "dual or latest");
    }
}
