//! Where the model is and how patiently to ask it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use super::error::LlmError;
use crate::identity::TokenSource;
use crate::model::Secret;

/// Which dialect the endpoint speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiKind {
    /// OpenAI or a compatible server: `{base}/chat/completions`, key as bearer token.
    OpenAi,
    /// Azure OpenAI: the key goes into the header `api-key`. An endpoint that ends in `/openai/v1`, that of a Foundry
    /// project among them, is asked like OpenAI, with the deployment as the model; any other at
    /// `/openai/deployments/{deployment}/chat/completions?api-version=…`.
    Azure {
        /// The `api-version` of the request; to `/openai/v1` endpoints only `v1` and `preview` are sent.
        api_version: String,
        /// The deployment; the model's name where it is `None`.
        deployment: Option<String>,
    },
}

/// Entra tokens in the place of a key.
#[derive(Clone)]
pub struct Entra {
    /// Who gives them.
    pub tokens: Arc<dyn TokenSource>,
    /// For what.
    pub scope: String,
}

impl fmt::Debug for Entra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entra").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Which field carries the limit of output tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MaxTokensField {
    /// `max_tokens`, or `max_completion_tokens` for models known to want it or once the endpoint asks for it.
    #[default]
    Auto,
    /// Always `max_tokens`.
    MaxTokens,
    /// Always `max_completion_tokens`.
    MaxCompletionTokens,
}

/// Everything that [`HttpModel`](super::HttpModel) needs to know.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The base URL (`https://api.openai.com/v1`) or the Azure endpoint.
    pub base_url: String,
    /// The key; endpoints on loopback often need none.
    pub api_key: Option<Secret>,
    /// Entra tokens, which are sent if there is no key.
    pub entra: Option<Entra>,
    /// The environment variable to name when the key is refused.
    pub api_key_variable: String,
    /// Which dialect.
    pub kind: ApiKind,
    /// The model asked for.
    pub model: String,
    /// Time limit of one attempt: connecting, headers and the whole body.
    pub timeout_per_attempt: Duration,
    /// Further attempts after the first.
    pub max_retries: u32,
    /// Which field carries the limit of output tokens.
    pub max_tokens_field: MaxTokensField,
    /// The longest wait that an endpoint may ask for by `Retry-After`; beyond it the call fails.
    pub max_wait: Duration,
    /// Mean of the first backoff is half of this; it doubles with each attempt up to 8 s.
    pub backoff: Duration,
    /// The largest answer accepted, in bytes after decompression.
    pub max_body: usize,
    /// `OpenAI-Organization`.
    pub organization: Option<String>,
    /// `OpenAI-Project`.
    pub project: Option<String>,
}

impl HttpSettings {
    /// Settings for an endpoint, with the defaults of the command line for the rest.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key: None,
            entra: None,
            api_key_variable: "OPENAI_API_KEY".to_owned(),
            kind: ApiKind::OpenAi,
            model: model.into(),
            timeout_per_attempt: Duration::from_mins(1),
            max_retries: 4,
            max_tokens_field: MaxTokensField::Auto,
            max_wait: Duration::from_mins(1),
            backoff: Duration::from_millis(500),
            max_body: 32 << 20,
            organization: None,
            project: None,
        }
    }

    /// The URL that chat requests go to.
    pub fn chat_url(&self) -> Result<Url, LlmError> {
        let mut url = parse_base(&self.base_url)?;
        let base = url.path().trim_end_matches('/').to_owned();
        let base = base.strip_suffix("/chat/completions").unwrap_or(&base);
        match &self.kind {
            ApiKind::Azure { api_version, deployment } if !base.ends_with("/openai/v1") => {
                let base = base.strip_suffix("/openai").unwrap_or(base).to_owned();
                url.set_path(&base);
                url.path_segments_mut().map_err(|()| unusable(&self.base_url, "has no path"))?.pop_if_empty().extend([
                    "openai",
                    "deployments",
                    deployment.as_deref().unwrap_or(&self.model),
                    "chat",
                    "completions",
                ]);
                url.query_pairs_mut().clear().append_pair("api-version", api_version);
            }
            ApiKind::Azure { api_version, .. } => {
                url.set_path(&format!("{base}/chat/completions"));
                url.set_query(None);
                if ["v1", "preview"].contains(&api_version.as_str()) {
                    url.query_pairs_mut().append_pair("api-version", api_version);
                }
            }
            ApiKind::OpenAi => url.set_path(&format!("{base}/chat/completions")),
        }
        Ok(url)
    }

    /// What the request calls the model: where the path names no deployment, that is the deployment.
    pub(super) fn model_sent(&self) -> &str {
        match &self.kind {
            ApiKind::Azure { deployment: Some(deployment), .. } => deployment,
            _ => &self.model,
        }
    }

    /// Whether requests should start with `max_completion_tokens`: the reasoning families refuse `max_tokens` where
    /// OpenAI or Azure serve them, while other servers may know `max_tokens` only.
    pub(super) fn starts_with_completion_tokens(&self, url: &Url) -> bool {
        match self.max_tokens_field {
            MaxTokensField::MaxTokens => false,
            MaxTokensField::MaxCompletionTokens => true,
            MaxTokensField::Auto => {
                let official = url.host_str() == Some("api.openai.com") || matches!(self.kind, ApiKind::Azure { .. });
                official && ["o1", "o3", "o4", "gpt-5"].iter().any(|family| self.model.starts_with(family))
            }
        }
    }
}

pub(super) fn parse_base(text: &str) -> Result<Url, LlmError> {
    let url = Url::parse(text.trim()).map_err(|e| unusable(text, &format!("cannot be read ({e})")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(unusable(text, "does not begin with http:// or https://"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(unusable(text, "names no host"));
    }
    Ok(url)
}

fn unusable(text: &str, problem: &str) -> LlmError {
    LlmError::BaseUrl { url: without_user(text), problem: problem.to_owned() }
}

/// The URL without user name and password, which may stand in any text that was meant as a URL.
fn without_user(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        (None, Some((_, rest))) => rest.to_owned(),
        (_, None) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn azure(base: &str, deployment: Option<&str>) -> String {
        let kind = ApiKind::Azure { api_version: "2024-10-21".to_owned(), deployment: deployment.map(str::to_owned) };
        let settings = HttpSettings { kind, ..HttpSettings::new(base, "gpt-4.1") };
        settings.chat_url().expect("a URL").to_string()
    }

    #[test]
    fn base_urls_lead_to_the_chat_path() {
        let url = |base: &str| HttpSettings::new(base, "m").chat_url().expect("a URL").to_string();
        assert_eq!(url("https://api.openai.com/v1"), "https://api.openai.com/v1/chat/completions");
        assert_eq!(url("http://127.0.0.1:9/v1/"), "http://127.0.0.1:9/v1/chat/completions");
        assert_eq!(url("http://h/v1/chat/completions"), "http://h/v1/chat/completions");
        assert_eq!(url("http://h:8080"), "http://h:8080/chat/completions");
    }

    #[test]
    fn azure_endpoints_name_the_deployment_unless_they_speak_v1() {
        let classic = "https://x.openai.azure.com/openai/deployments/my%20one/chat/completions?api-version=2024-10-21";
        assert_eq!(azure("https://x.openai.azure.com/", Some("my one")), classic);
        assert_eq!(azure("https://x.openai.azure.com/openai", Some("my one")), classic);
        assert!(azure("https://x.openai.azure.com", None).contains("/deployments/gpt-4.1/"));
        assert_eq!(
            azure("https://x.openai.azure.com/openai/v1/", Some("d")),
            "https://x.openai.azure.com/openai/v1/chat/completions"
        );
        let kind = ApiKind::Azure { api_version: "preview".to_owned(), deployment: None };
        let project = "https://x.services.ai.azure.com/api/projects/p/openai/v1";
        let preview = HttpSettings { kind, ..HttpSettings::new(project, "m") };
        let expected = format!("{project}/chat/completions?api-version=preview");
        assert_eq!(preview.chat_url().expect("a URL").as_str(), expected);
    }

    #[test]
    fn an_unusable_base_url_is_refused_without_its_password() {
        for bad in ["ftp://user:hunter2@host/v1", "user:hunter2@host", "http://user:hunter2@:80/", "", "host/v1"] {
            let error = HttpSettings::new(bad, "m").chat_url().expect_err(bad).to_string();
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.contains("expected something like"), "{error}");
        }
    }

    #[test]
    fn reasoning_families_start_with_their_own_field_at_openai_and_azure_only() {
        let starts = |base: &str, model: &str| {
            let settings = HttpSettings::new(base, model);
            settings.starts_with_completion_tokens(&settings.chat_url().expect("a URL"))
        };
        assert!(starts("https://api.openai.com/v1", "gpt-5-mini"));
        assert!(starts("https://api.openai.com/v1", "o3"));
        assert!(!starts("https://api.openai.com/v1", "gpt-4.1"));
        assert!(!starts("http://127.0.0.1:8000/v1", "o3"));
    }
}
