//! Requests to a backend's REST interface, and what its answer means for what was sent. Which routes there are is left to
//! the backends' modules.

use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;
use serde::Serialize;
use serde_json::Value;

use super::super::connect;
use super::super::destination::Retry;
use super::super::http::{Capped, read_whole, retry_after, root_cause};
use super::config::SinkConfig;
use crate::net::Secrets;

/// The most of an answer that is read. A trace with many assessments is the largest.
const MAX_ANSWER: usize = 16 << 20;

/// What became of a score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// The backend has it.
    Taken,
    /// Refused for good, and why.
    Refused(String),
    /// The backend does not know its span, or trace, yet.
    Unknown(String),
    /// Not taken for now, and why.
    Later(Retry),
    /// Something must be mended first.
    Halt(String),
}

/// An answer below 500 that is none of the usual troubles.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
    /// What it may repeat and nobody shall see.
    secrets: Secrets,
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What the backend says is wrong.
    pub(super) fn message(&self) -> String {
        let json = self.json();
        let said = ["detail", "message", "error"].iter().find_map(|key| json.get(key));
        match said {
            Some(Value::String(text)) => self.secrets.quote(text),
            Some(other) => self.secrets.quote(&other.to_string()),
            None => self.secrets.quote(&String::from_utf8_lossy(&self.body)),
        }
    }
}

/// A backend's address with the key for it.
pub(super) struct Client {
    http: reqwest::Client,
    config: SinkConfig,
    secrets: Secrets,
}

impl Client {
    pub(super) fn new(config: &SinkConfig) -> Result<Self, String> {
        let mut headers = config.headers.clone();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let builder = connect::client(&config.url, config.timeout)
            .default_headers(headers)
            .pool_idle_timeout(super::super::otlp_http::IDLE);
        let secrets = Secrets::of_headers(&config.headers);
        let http = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { http, config: config.clone(), secrets })
    }

    pub(super) const fn config(&self) -> &SinkConfig {
        &self.config
    }

    /// The address of a route; each part is escaped.
    pub(super) fn route<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.config.url.clone();
        url.path_segments_mut().expect("http addresses have paths").pop_if_empty().extend(path);
        url
    }

    pub(super) async fn get(&self, url: Url) -> Result<Reply, Fate> {
        self.call(self.http.get(url.clone()), &url).await
    }

    pub(super) async fn send(&self, method: Method, url: Url, body: &impl Serialize) -> Result<Reply, Fate> {
        let body = serde_json::to_vec(body).map_err(|error| Fate::Refused(error.to_string()))?;
        let call = self.http.request(method, url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        self.call(call, &url).await
    }

    pub(super) async fn post(&self, url: Url, body: Value) -> Result<Reply, Fate> {
        self.send(Method::POST, url, &body).await
    }

    async fn call(&self, call: reqwest::RequestBuilder, url: &Url) -> Result<Reply, Fate> {
        let response = match call.send().await {
            Ok(response) => response,
            Err(error) => return Err(self.failed(&error)),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        // A verdict that the status alone gives needs no more; any other needs the whole answer.
        let (body, flaw) = match read_whole(response, MAX_ANSWER).await {
            Capped::Whole(body) => (body, None),
            Capped::TooLarge => {
                let title = self.config.kind.title();
                let reason = format!(
                    "{} answers {status} with more than {} MiB; is `url` the address of {title}?",
                    shown(url),
                    MAX_ANSWER >> 20
                );
                (Vec::new(), Some(Fate::Halt(reason)))
            }
            Capped::Broken => {
                let reason = format!(
                    "{} answers {status}, and the answer breaks off or takes more than {:?}",
                    shown(url),
                    self.config.timeout
                );
                let retry = Retry { after: retry_after(&headers), reason, unreachable: false };
                (Vec::new(), Some(Fate::Later(retry)))
            }
        };
        let reply = Reply { status, body, secrets: self.secrets.clone() };
        let reply = self.usual(reply, &headers, url)?;
        flaw.map_or(Ok(reply), Err)
    }

    /// Sorts out what means the same at every backend.
    fn usual(&self, reply: Reply, headers: &HeaderMap, url: &Url) -> Result<Reply, Fate> {
        let title = self.config.kind.title();
        let is_page = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|media_type| media_type.starts_with("text/html"));
        let says = || {
            let message = if is_page { String::new() } else { reply.message() };
            let colon = if message.is_empty() { "" } else { ": " };
            format!("{} answers {}{colon}{message}", shown(url), reply.status)
        };
        let later = |reason| Fate::Later(Retry { after: retry_after(headers), reason, unreachable: false });
        Err(match reply.status.as_u16() {
            200..=299 if is_page => {
                Fate::Halt(format!("{} answers with a web page; is `url` the address of {title}?", shown(url)))
            }
            200..=299 | 400 | 404 | 409 | 413 | 422 => return Ok(reply),
            401 | 403 => Fate::Halt(format!("{}; {}", says(), self.config.key_hint())),
            300..=399 => {
                let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
                Fate::Halt(format!(
                    "{} redirects to `{}`; the key goes to no other address, so set `url` to the right one",
                    shown(url),
                    reply.secrets.quote(location)
                ))
            }
            408 | 425 | 429 | 500 | 502..=504 => later(says()),
            405 => Fate::Halt(format!("{}; is `url` the address of {title}?", says())),
            // 507 among them: Phoenix's disk is full.
            _ => Fate::Halt(says()),
        })
    }

    fn failed(&self, error: &reqwest::Error) -> Fate {
        let address = self.config.address();
        if error.is_builder() {
            return Fate::Halt(format!("{address}: {}", root_cause(error)));
        }
        let unreachable = error.is_connect();
        let reason = if unreachable {
            format!("cannot connect to {address}: {}", root_cause(error))
        } else if error.is_timeout() {
            format!("no answer from {address} within {:?}", self.config.timeout)
        } else {
            format!("the connection to {address} broke: {}", root_cause(error))
        };
        Fate::Later(Retry { after: None, reason, unreachable })
    }

    /// The fate of what meets a route that is not there.
    pub(super) fn no_such_route(&self, reply: &Reply, url: &Url) -> Fate {
        let title = self.config.kind.title();
        Fate::Halt(format!(
            "{} answers {}: {}; is `url` the address of {title}?",
            shown(url),
            reply.status,
            reply.message()
        ))
    }

    /// The fate of what the backend cannot take as it is.
    pub(super) fn refused(&self, reply: &Reply) -> Fate {
        Fate::Refused(format!("{} answers {}: {}", self.config.address(), reply.status, reply.message()))
    }
}

/// An address without its query.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.into()
}
