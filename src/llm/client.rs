//! A model behind an OpenAI-compatible HTTP endpoint, asked through async-openai.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_openai::Client;
use async_openai::config::Config;
use async_openai::error::OpenAIError;
use async_trait::async_trait;
use http::{HeaderMap, HeaderValue};
use reqwest::Url;
use secrecy::SecretString;

use super::attempt::Attempt;
use super::call::{CALL, CallNotes, TokenField, notes};
use super::chat::{ChatCall, ChatError, ChatModel, ChatReply, ChatRequest, Endpoint};
use super::error::LlmError;
use super::failure::{AttemptFailure, Hints, Verdict};
use super::limits::Limits;
use super::redact;
use super::retry::{Retry, RetryPolicy};
use super::settings::{ApiKind, HttpSettings, MaxTokensField};
use super::wire::{Body, Reply};
use crate::net::{install_tls_provider, is_loopback};
use crate::trace::provider::Ambient;

/// A model behind an HTTP endpoint; one serves all calls of a run at once.
pub struct HttpModel {
    client: Client<ChatConfig>,
    endpoint: Endpoint,
    /// What requests call the model.
    model: String,
    limits: Arc<Limits>,
    max_attempts: u32,
    /// Whether the name of the limit of output tokens may change.
    auto_field: bool,
    /// Whether that name is `max_completion_tokens` now; remembered once the endpoint has asked for the other.
    completion_tokens: AtomicBool,
}

impl HttpModel {
    /// Sets up the client; sends nothing.
    pub fn new(settings: HttpSettings, limits: Arc<Limits>, ambient: Ambient) -> Result<Self, LlmError> {
        install_tls_provider();
        let url = settings.chat_url()?;
        let endpoint = Endpoint {
            provider_name: match settings.kind {
                ApiKind::OpenAi => "openai",
                ApiKind::Azure { .. } => "azure.ai.openai",
            },
            model: settings.model.clone(),
            address: url.host_str().map(str::to_owned),
            port: url.port_or_known_default(),
        };
        let http = http_client(&settings, &url)?;
        let attempt = Attempt::new(
            http.clone(),
            settings.timeout_per_attempt,
            settings.max_body,
            hints(&settings, &url),
            settings.entra.clone().filter(|_| settings.api_key.is_none()),
            Arc::clone(&limits),
            ambient.clock.clone(),
        );
        let policy =
            RetryPolicy { max_retries: settings.max_retries, backoff: settings.backoff, max_wait: settings.max_wait };
        let config = ChatConfig { url: url.to_string(), no_key: SecretString::default() };
        let completion_tokens = AtomicBool::new(settings.starts_with_completion_tokens(&url));
        Ok(Self {
            client: Client::build(http, config).with_http_service(Retry::new(
                attempt,
                policy,
                Arc::clone(&limits),
                ambient,
            )),
            endpoint,
            model: settings.model_sent().to_owned(),
            limits,
            max_attempts: settings.max_retries.saturating_add(1),
            auto_field: settings.max_tokens_field == MaxTokensField::Auto,
            completion_tokens,
        })
    }

    fn token_field(&self) -> TokenField {
        if self.completion_tokens.load(Ordering::Relaxed) {
            TokenField::MaxCompletionTokens
        } else {
            TokenField::MaxTokens
        }
    }

    async fn ask(&self, request: ChatRequest<'_>) -> Result<ChatReply, ChatError> {
        let mut body = Body { model: &self.model, request, token_field: self.token_field() };
        loop {
            let error = match self.client.chat().create_byot::<_, Reply>(&body).await {
                Ok(reply) => return Ok(reply.into_chat_reply()),
                Err(error) => error,
            };
            let (last, attempts) = notes(|call| (call.last.take(), call.attempts));
            let failure = last.unwrap_or_else(|| unforeseen(&error));
            if failure.verdict == Verdict::OtherTokenField {
                body.token_field = body.token_field.other();
                let completion = body.token_field == TokenField::MaxCompletionTokens;
                self.completion_tokens.store(completion, Ordering::Relaxed);
                if attempts < self.max_attempts {
                    notes(|call| {
                        // One change per call: an endpoint that wants neither name is not asked for ever.
                        call.switchable = None;
                        if let Some(failed) = call.failed.last_mut() {
                            failed.wait = Some(Duration::ZERO);
                        }
                    });
                    continue;
                }
            }
            return Err(in_the_end(failure, attempts));
        }
    }
}

#[async_trait]
impl ChatModel for HttpModel {
    async fn chat(&self, request: ChatRequest<'_>) -> ChatCall {
        let bytes: usize = request.messages.iter().map(|message| message.content.len()).sum();
        let estimated_tokens = Limits::estimate_tokens(bytes);
        let switchable = (self.auto_field && request.parameters.max_tokens.is_some()).then(|| self.token_field());
        let fresh = CallNotes { estimated_tokens, switchable, ..CallNotes::default() };
        CALL.scope(RefCell::new(fresh), async {
            let mut result = self.ask(request).await;
            let (attempts, mut failed_attempts) = notes(|call| (call.attempts, std::mem::take(&mut call.failed)));
            match &mut result {
                Ok(reply) => {
                    let used = (reply.usage.input_tokens, reply.usage.output_tokens);
                    if let (Some(input), Some(output)) = used {
                        self.limits.settle(estimated_tokens, input + output);
                    }
                }
                Err(error) => {
                    error.message = redact::without_prompt(std::mem::take(&mut error.message), request.messages);
                }
            }
            for failed in &mut failed_attempts {
                failed.message = redact::without_prompt(std::mem::take(&mut failed.message), request.messages);
            }
            ChatCall { result, attempts, failed_attempts }
        })
        .await
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

/// The error of a call whose last attempt failed like this.
fn in_the_end(failure: AttemptFailure, attempts: u32) -> ChatError {
    let AttemptFailure { error_type, status, message, verdict } = failure;
    let message = if attempts > 1 { format!("{message} (after {attempts} attempts)") } else { message };
    ChatError { error_type, status, message, fatal: verdict == Verdict::Fatal }
}

/// A failure that our layers did not see; none is known.
fn unforeseen(error: &OpenAIError) -> AttemptFailure {
    let mut failure = AttemptFailure::unsendable(match error {
        OpenAIError::JSONDeserialize(..) => "the answer is no chat completion",
        OpenAIError::InvalidArgument(_) => "the request cannot be written as JSON",
        _ => "the call failed within the client",
    });
    if matches!(error, OpenAIError::JSONDeserialize(..)) {
        "invalid_response".clone_into(&mut failure.error_type);
    }
    failure
}

fn client_error(error: reqwest::Error) -> LlmError {
    LlmError::Client { message: error.without_url().to_string() }
}

fn hints(settings: &HttpSettings, url: &Url) -> Hints {
    let mut shown = url.clone();
    shown.set_query(None);
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    let deployment = match &settings.kind {
        ApiKind::Azure { deployment, .. } => Some(deployment.clone().unwrap_or_else(|| settings.model.clone())),
        ApiKind::OpenAi => None,
    };
    Hints {
        key_variable: settings.api_key_variable.clone(),
        key: settings.api_key.clone(),
        entra: settings.entra.is_some() && settings.api_key.is_none(),
        model: settings.model.clone(),
        deployment,
        url: shown.to_string(),
    }
}

/// The one HTTP client, with the headers that every request carries.
fn http_client(settings: &HttpSettings, url: &Url) -> Result<reqwest::Client, LlmError> {
    let mut headers = HeaderMap::new();
    if let Some(key) = &settings.api_key {
        let refused = |_| LlmError::ApiKey { variable: settings.api_key_variable.clone() };
        let (name, value) = match settings.kind {
            ApiKind::OpenAi => ("authorization", format!("Bearer {}", key.expose())),
            ApiKind::Azure { .. } => ("api-key", key.expose().to_owned()),
        };
        let mut value = HeaderValue::try_from(value).map_err(refused)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    for (name, value) in [("openai-organization", &settings.organization), ("openai-project", &settings.project)] {
        if let Some(value) = value {
            headers.insert(name, HeaderValue::try_from(value).map_err(|_| LlmError::Header { name })?);
        }
    }
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("spanscore/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .tcp_nodelay(true)
        // One connection per call under way: with HTTP/2 a single broken connection would take all of them along.
        .http1_only()
        // The pool keeps as many idle connections as there were calls at once.
        .pool_max_idle_per_host(usize::MAX)
        // A redirected POST would lose its body, or take the key to another host.
        .redirect(reqwest::redirect::Policy::none());
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(client_error)
}

/// async-openai's view of the endpoint: the URL is complete and the headers are the HTTP client's.
#[derive(Debug, Clone)]
struct ChatConfig {
    url: String,
    /// async-openai wants to be able to show a key to somebody; nobody asks.
    no_key: SecretString,
}

impl Config for ChatConfig {
    fn headers(&self) -> HeaderMap {
        HeaderMap::new()
    }

    fn url(&self, _path: &str) -> String {
        self.url.clone()
    }

    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    fn api_base(&self) -> &str {
        &self.url
    }

    fn api_key(&self) -> &SecretString {
        &self.no_key
    }
}
