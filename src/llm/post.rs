//! JSON posted to an HTTP endpoint that is no chat endpoint, with the retries, limits and caution of a model call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::Url;

use super::attempt::{BodyError, read_body};
use super::chat::FailedAttempt;
use super::error::LlmError;
use super::failure::{ApiMessage, AttemptFailure, Verdict, retry_after};
use super::limits::Limits;
use super::retry::RetryPolicy;
use super::settings::parse_base;
use crate::model::Secret;
use crate::net::{Secrets, install_tls_provider, is_loopback};
use crate::trace::provider::Ambient;

/// Of an error's body this much is read: enough for any message.
const MAX_ERROR_BODY: usize = 64 << 10;

/// Where to post, and how patiently.
#[derive(Debug, Clone)]
pub struct PostSettings {
    /// The whole URL.
    pub url: String,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
    /// Sent as a bearer token.
    pub token: Option<Secret>,
    /// Time limit of one attempt.
    pub timeout_per_attempt: Duration,
    /// Further attempts after the first.
    pub max_retries: u32,
    /// The largest answer accepted, in bytes.
    pub max_body: usize,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostError {
    /// Class for `error.type`: the status, `timeout`, `connection`, `invalid_response`.
    pub error_type: String,
    /// In words, without secrets.
    pub message: String,
    /// Whether any other request would fail the same way (401, 403, 404).
    pub fatal: bool,
}

/// A request with its history.
#[derive(Debug)]
pub struct Posted {
    /// The body of the answer, or why there is none.
    pub result: Result<Bytes, PostError>,
    /// HTTP tries made.
    pub attempts: u32,
    /// Whether a try was turned away for load (429, 503).
    pub overloaded: bool,
    /// The tries that failed.
    pub failed_attempts: Vec<FailedAttempt>,
}

/// An endpoint that takes JSON; one serves all requests of a run at once.
pub struct JsonEndpoint {
    client: reqwest::Client,
    url: Url,
    settings: PostSettings,
    limits: Arc<Limits>,
    ambient: Ambient,
    policy: RetryPolicy,
}

impl JsonEndpoint {
    /// Sets up the client; sends nothing.
    pub fn new(settings: PostSettings, limits: Arc<Limits>, ambient: Ambient) -> Result<Self, LlmError> {
        install_tls_provider();
        let url = parse_base(&settings.url)?;
        let mut headers = HeaderMap::new();
        for (name, text) in &settings.headers {
            let bad = || LlmError::UserHeader { name: name.clone() };
            let name = HeaderName::try_from(name).map_err(|_| bad())?;
            headers.insert(name, HeaderValue::try_from(text).map_err(|_| bad())?);
        }
        if let Some(token) = &settings.token {
            let bad = |_| LlmError::UserHeader { name: "authorization".to_owned() };
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(bad)?;
            value.set_sensitive(true);
            headers.insert(http::header::AUTHORIZATION, value);
        }
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(http::header::ACCEPT, HeaderValue::from_static("application/json"));
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("spanscore/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .tcp_nodelay(true)
            .http1_only()
            .pool_max_idle_per_host(usize::MAX)
            // A redirected POST would lose its body, or take the token to another host.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| LlmError::Client { message: error.without_url().to_string() })?;
        let policy = RetryPolicy {
            max_retries: settings.max_retries,
            backoff: Duration::from_millis(500),
            max_wait: Duration::from_mins(1),
        };
        Ok(Self { client, url, settings, limits, ambient, policy })
    }

    /// The URL without user, password and query.
    pub fn shown_url(&self) -> String {
        let mut shown = self.url.clone();
        shown.set_query(None);
        // These fail for addresses that can hold neither.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.to_string()
    }

    /// Posts a body, with all retries; `None` if the run was stopped before anything was sent.
    pub async fn post(&self, body: Vec<u8>, traceparent: &str, tokens: u64) -> Option<Posted> {
        let body = Bytes::from(body);
        let mut failed_attempts = Vec::new();
        let mut attempts = 0;
        let mut overloaded = false;
        loop {
            tokio::select! {
                biased;
                () = self.limits.acquire(tokens) => {}
                () = self.limits.closed(), if attempts == 0 => return None,
            }
            attempts += 1;
            let attempt = self.attempt(body.clone(), traceparent);
            let failure = match tokio::time::timeout(self.settings.timeout_per_attempt, attempt).await {
                Ok(Ok(answer)) => return Some(Posted { result: Ok(answer), attempts, overloaded, failed_attempts }),
                Ok(Err(failure)) => failure,
                Err(_) => AttemptFailure::timeout(self.settings.timeout_per_attempt),
            };
            overloaded |= matches!(failure.status, Some(429 | 503));
            let decision = self.policy.wait(failure.verdict, attempts, self.ambient.ids.unit());
            failed_attempts.push(FailedAttempt {
                time_unix_nano: self.ambient.now(),
                error_type: failure.error_type.clone(),
                status: failure.status,
                message: failure.message.clone(),
                wait: decision.as_ref().ok().copied(),
            });
            match decision {
                Ok(wait) => tokio::time::sleep(wait).await,
                Err(why) => {
                    let mut message = failure.message;
                    if let Some(why) = why {
                        message = format!("{message} ({why})");
                    }
                    if attempts > 1 {
                        message = format!("{message} (after {attempts} attempts)");
                    }
                    let fatal = failure.verdict == Verdict::Fatal;
                    let error = PostError { error_type: failure.error_type, message, fatal };
                    return Some(Posted { result: Err(error), attempts, overloaded, failed_attempts });
                }
            }
        }
    }

    async fn attempt(&self, body: Bytes, traceparent: &str) -> Result<Bytes, AttemptFailure> {
        let request = self.client.post(self.url.clone()).header("traceparent", traceparent).body(body);
        let mut response = request.send().await.map_err(|error| AttemptFailure::connection(error, None))?;
        let status = response.status();
        self.limits.heed(response.headers());
        if !status.is_success() {
            // The status alone says what to do, should the body be broken.
            let body = read_body(&mut response, MAX_ERROR_BODY).await.unwrap_or_default();
            let wait = retry_after(response.headers(), self.ambient.now());
            return Err(self.refusal(status, wait, &body));
        }
        match read_body(&mut response, self.settings.max_body).await {
            Ok(body) => Ok(body),
            Err(BodyError::TooLarge) => {
                let message = format!("the answer is larger than {} bytes", self.settings.max_body);
                Err(AttemptFailure::invalid(status, message, Verdict::Final))
            }
            Err(BodyError::Broken(error)) => Err(AttemptFailure::connection(error, Some(status.as_u16()))),
        }
    }

    fn refusal(&self, status: StatusCode, wait: Option<Duration>, body: &[u8]) -> AttemptFailure {
        let said = Secrets::new(self.settings.token.clone()).quote(&ApiMessage::read(body).message);
        let said =
            if said.is_empty() { status.canonical_reason().unwrap_or("no reason given").to_owned() } else { said };
        let code = status.as_u16();
        let url = self.shown_url();
        let (verdict, message) = match code {
            401 | 403 => (Verdict::Fatal, format!("{said} (check the token that {url} wants: [workflow] token_env)")),
            404 | 405 => (Verdict::Fatal, format!("{said} (check the address {url} in [workflow] url)")),
            300..=399 => (Verdict::Fatal, format!("{said} ({url} redirects elsewhere: set [workflow] url anew)")),
            408 | 409 | 429 | 500..=599 => (Verdict::Retry(wait), said),
            _ => (Verdict::Final, said),
        };
        AttemptFailure { error_type: code.to_string(), status: Some(code), message, verdict }
    }
}
