//! From a model's plan to something that answers: the server inside the process, an HTTP endpoint, or a recording.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::config::{Environment, ModelPlan, Provider, RunPlan};
use crate::identity::{self, scope};
use crate::llm::builtin::{BuiltinServer, MODEL};
use crate::llm::{
    ApiKind, CachedModel, ChatModel, Entra, HttpModel, HttpSettings, Limits, MaxTokensField, Parameters, Price,
    RecordedAnswer, ReplayModel, Secret,
};
use crate::model::Digest;
use crate::net::is_safe;
use crate::store::Store;
use crate::trace::provider::Ambient;

const OPENAI_URL: &str = "https://api.openai.com/v1";
const AZURE_API_VERSION: &str = "2024-10-21";

/// A model that is ready to answer, and the server behind it if that is ours.
pub(super) struct OpenModel {
    pub(super) model: Arc<dyn ChatModel>,
    pub(super) name: String,
    pub(super) parameters: Parameters,
    pub(super) price: Option<Price>,
    /// Closed when the run is to stop.
    pub(super) limits: Arc<Limits>,
    /// SHA-256 of what decides its answers besides the prompt.
    pub(super) digest: Digest,
    /// Kept alive as long as the model is asked.
    _server: Option<BuiltinServer>,
}

/// Makes a model ready. A recording may be a file or an earlier run of the store.
pub(super) async fn open(
    plan: &RunPlan,
    model: &ModelPlan,
    (store, env): (&Path, &Environment),
    ambient: &Ambient,
) -> anyhow::Result<OpenModel> {
    let parameters = parameters(model);
    let price = price(model);
    let mut server = None;
    let limits = Arc::new(Limits::new(plan.rpm, plan.tpm));
    let (inner, endpoint): (Box<dyn ChatModel>, String) = match model.provider {
        Provider::Replay => (Box::new(replay(model, store)?), model.replay.clone().unwrap_or_default()),
        Provider::Builtin => {
            let name = model.name.as_deref().unwrap_or(MODEL);
            anyhow::ensure!(
                name == MODEL,
                "the built-in provider has one model, `{MODEL}`, found `{name}`; for other models pass --provider openai \
                 and --base-url URL"
            );
            let started = BuiltinServer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
            let settings = HttpSettings::new(format!("http://{}/v1", started.address()), MODEL);
            server = Some(started);
            (http(plan, settings, &limits, ambient)?, "builtin".to_owned())
        }
        Provider::OpenAi => {
            let url = model.base_url.clone().unwrap_or_else(|| OPENAI_URL.to_owned());
            let settings = HttpSettings::new(url.clone(), model.name.clone().unwrap_or_default());
            (http(plan, with_key(settings, model)?, &limits, ambient)?, url)
        }
        Provider::Azure => {
            let url = model.base_url.clone().unwrap_or_default();
            let name = model.name.clone().or(model.deployment.clone()).unwrap_or_default();
            let mut settings = HttpSettings::new(url.clone(), name);
            settings.kind = ApiKind::Azure {
                api_version: model.api_version.clone().unwrap_or_else(|| AZURE_API_VERSION.to_owned()),
                deployment: model.deployment.clone(),
            };
            if model.entra {
                settings.entra = Some(entra(plan, model, &url, env)?);
            }
            (http(plan, with_key(settings, model)?, &limits, ambient)?, url)
        }
        Provider::Command | Provider::Http => anyhow::bail!("the application asks its own model"),
    };
    let name = inner.endpoint().model.clone();
    let canonical = json!([model.provider.as_str(), endpoint, name, model.deployment, parameters]);
    let digest = Digest::from_bytes(Sha256::digest(canonical.to_string().as_bytes()).into());
    let model: Arc<dyn ChatModel> = match &plan.cache {
        Some(folder) => Arc::new(CachedModel::new(inner, folder, &endpoint, ambient.ids.clone())?),
        None => Arc::from(inner),
    };
    Ok(OpenModel { model, name, parameters, price, limits, digest, _server: server })
}

/// What the model's tokens cost, where the suite says so.
pub(super) fn price(model: &ModelPlan) -> Option<Price> {
    model.section.price.map(|p| Price {
        input_per_million: p.input_per_million,
        output_per_million: p.output_per_million,
        cached_input_per_million: p.cached_input_per_million,
    })
}

fn http(
    plan: &RunPlan,
    mut settings: HttpSettings,
    limits: &Arc<Limits>,
    ambient: &Ambient,
) -> anyhow::Result<Box<dyn ChatModel>> {
    settings.timeout_per_attempt = plan.timeout;
    settings.max_retries = plan.max_retries;
    Ok(Box::new(HttpModel::new(settings, Arc::clone(limits), ambient.clone())?))
}

/// Entra tokens for an endpoint of Azure OpenAI or of a Foundry project.
fn entra(plan: &RunPlan, model: &ModelPlan, url: &str, env: &Environment) -> anyhow::Result<Entra> {
    let no_key = || format!("no API key in {}, and no Entra token in its place", model.api_key_env);
    let tokens = identity::source(&plan.azure, env).with_context(no_key)?;
    let url = reqwest::Url::parse(url.trim()).ok();
    let of_project = url.is_some_and(|url| url.path().contains("/api/projects/"));
    let scope = if of_project { scope::FOUNDRY } else { scope::OPENAI };
    Ok(Entra { tokens, scope: scope.to_owned() })
}

/// Adds the key; an endpoint that is not on this machine needs one.
fn with_key(mut settings: HttpSettings, model: &ModelPlan) -> anyhow::Result<HttpSettings> {
    settings.api_key_variable.clone_from(&model.api_key_env);
    settings.api_key = model.api_key.clone().map(Secret::new);
    settings.max_tokens_field = match model.section.max_tokens_field.as_deref() {
        None | Some("auto") => MaxTokensField::Auto,
        Some("max_tokens") => MaxTokensField::MaxTokens,
        Some("max_completion_tokens") => MaxTokensField::MaxCompletionTokens,
        Some(other) => anyhow::bail!(
            "[model] max_tokens_field: found `{other}`, expected auto, max_tokens or max_completion_tokens"
        ),
    };
    let is_azure = matches!(settings.kind, ApiKind::Azure { .. });
    // What cannot be parsed is refused with a better word when it is used.
    let is_safe_place = reqwest::Url::parse(settings.base_url.trim()).ok().as_ref().is_none_or(is_safe);
    anyhow::ensure!(
        !is_azure || is_safe_place,
        "the Azure endpoint is no https address, and keys and Entra tokens go nowhere else; give it as https://…"
    );
    let official = settings.base_url == OPENAI_URL || is_azure;
    anyhow::ensure!(
        settings.api_key.is_some() || settings.entra.is_some() || !official,
        "no API key: set {} in the environment, or point --base-url at an endpoint that needs none",
        model.api_key_env
    );
    Ok(settings)
}

fn replay(model: &ModelPlan, store: &Path) -> anyhow::Result<ReplayModel> {
    let recording = model.replay.as_deref().unwrap_or_default();
    let path = Path::new(recording);
    if path.is_file() {
        return Ok(ReplayModel::from_file(path, model.name.clone().unwrap_or_else(|| "recorded".to_owned()))?);
    }
    let looks_like_path = recording.contains(['/', '\\']) || path.extension().is_some();
    anyhow::ensure!(
        !looks_like_path,
        "no recording at `{recording}`; --replay takes a JSON Lines file of answers, or an earlier run"
    );
    let reader = Store::open_existing(store)?.reader()?;
    let run = reader
        .resolve_run(recording)
        .with_context(|| format!("`{recording}` is neither a file nor an earlier run to replay"))?;
    let name = model.name.clone().unwrap_or_else(|| run.spec.model.clone());
    let answers = reader.recorded_answers(&run).map(|answer| {
        answer.map(|a| RecordedAnswer {
            case_id: a.case_id.as_str().to_owned(),
            repeat: a.repeat,
            output: a.raw_output,
            model: a.response_model,
            usage: a.usage,
            finish_reason: a.finish_reason,
            response_id: a.response_id,
        })
    });
    let answers = answers.collect::<Result<Vec<_>, _>>()?;
    anyhow::ensure!(
        !answers.is_empty(),
        "run {} has no answers to replay; name another run, or a file",
        run.spec.run_id
    );
    Ok(ReplayModel::from_answers(answers, name))
}

fn parameters(model: &ModelPlan) -> Parameters {
    let s = &model.section;
    Parameters {
        temperature: s.temperature,
        top_p: s.top_p,
        max_tokens: s.max_tokens,
        seed: s.seed,
        frequency_penalty: s.frequency_penalty,
        presence_penalty: s.presence_penalty,
        stop: s.stop.clone(),
        extra: s.extra.clone(),
    }
}
