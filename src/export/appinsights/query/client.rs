//! One question to Log Analytics, tried again while that may help.
//!
//! Source: Azure Monitor's Log Analytics API `v1/workspaces/ID/query` and `v1/RESOURCE/query`; its limits (500 000 rows, 64 MB, ten
//! minutes, a partial answer with an `error` beside its tables) and its throttling (429 with `Retry-After`).

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::json;

use super::table::Table;
use crate::export::connect;
use crate::export::http::{retry_after, root_cause};
use crate::identity::{IdentityError, TokenSource};
use crate::model::Secret;
use crate::net::{Secrets, quote};

/// Where the public cloud answers.
pub const ENDPOINT: &str = "https://api.loganalytics.io";

/// The most bytes of an answer; beyond, it is asked for in narrower slices.
const MAX_ANSWER: usize = 32 << 20;
/// So much of an answer that is none is looked at.
const MAX_WORDS: usize = 64 << 10;
/// Waits before further tries, unless the service asks for others.
const WAITS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(15)];
/// The longest wait that the service may ask for.
const MAX_WAIT: Duration = Duration::from_mins(2);
/// Everything but what may stand in the part of a path.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a query has no answer. No message holds a token.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No token for it.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What was asked is none that can be.
    #[error("{0}")]
    Setup(String),
    /// The service refuses.
    #[error("asking Log Analytics about {about}: {endpoint} answers {words}")]
    Refused {
        /// The workspace or resource.
        about: String,
        /// The service.
        endpoint: String,
        /// Status, its words, and what to do.
        words: String,
    },
    /// It does not answer, or not now.
    #[error("asking Log Analytics about {about}: {words}; what was read before is kept, run the same command again")]
    Unavailable {
        /// The workspace or resource.
        about: String,
        /// What happened.
        words: String,
    },
    /// Narrower and narrower slices take too long.
    #[error(
        "Log Analytics ran out of time again and again ({0}); ask for less with --query, or for less time with --since and --until"
    )]
    TooSlow(String),
    /// No slice is narrow enough.
    #[error("the millisecond at {} is too large for one answer ({why}); leave part of it out with --query", moment(*at))]
    TooMuch {
        /// Where, in nanoseconds since the Unix epoch.
        at: u64,
        /// What is too large.
        why: String,
    },
    /// The rows lack something.
    #[error("{0}")]
    Columns(String),
}

/// Whose telemetry is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A Log Analytics workspace by its id; its tables are called `AppDependencies` and so on.
    Workspace(String),
    /// A resource of Application Insights, `/subscriptions/…`; its tables are called `dependencies` and so on.
    Resource(String),
}

/// Why a slice of time could not be read.
pub(super) enum Failure {
    /// It may work with a narrower one.
    TooMuch(Why),
    Other(QueryError),
}

/// What was too much.
pub(super) struct Why {
    pub(super) words: String,
    /// Whether it was the time.
    pub(super) slow: bool,
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::Other(error)
    }
}

/// An answer.
pub(super) struct Answer {
    pub(super) table: Table,
    /// What it says is missing from it.
    pub(super) partial: Option<String>,
}

/// A workspace or resource, and who asks.
pub struct LogAnalytics {
    client: Client,
    tokens: Arc<dyn TokenSource>,
    target: Target,
    url: Url,
    scope: String,
    timeout: Duration,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    tables: Vec<Table>,
    #[serde(default)]
    error: Option<ApiError>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ApiError {
    code: String,
    message: String,
    details: Vec<ApiError>,
    innererror: Option<Box<ApiError>>,
}

impl ApiError {
    /// What it says, the innermost last, for that is where the place in the query stands.
    fn words(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        self.gather(&mut parts, 0);
        parts.join(": ")
    }

    fn gather(&self, parts: &mut Vec<String>, depth: usize) {
        let text = if self.message.is_empty() { &self.code } else { &self.message };
        if !text.is_empty() && !parts.contains(text) {
            parts.push(text.clone());
        }
        if depth < 8 {
            let inner = self.details.iter().take(3).chain(self.innererror.as_deref());
            inner.for_each(|inner| inner.gather(parts, depth + 1));
        }
    }
}

impl LogAnalytics {
    /// A client; nothing is asked yet. `endpoint` is [`ENDPOINT`] or that of another cloud, `timeout` of one query.
    ///
    /// # Errors
    /// An endpoint, workspace or resource that is none.
    pub fn new(
        endpoint: &str,
        target: Target,
        tokens: Arc<dyn TokenSource>,
        timeout: Duration,
    ) -> Result<Self, QueryError> {
        let wrong = |what: &str, found: &str, expected: &str| {
            QueryError::Setup(format!("{what}: found `{}`, expected {expected}", quote(found)))
        };
        let expected =
            "the address of a Log Analytics API, such as https://api.loganalytics.io (http only on this machine)";
        let base =
            Url::parse(endpoint).ok().filter(is_safe).ok_or_else(|| wrong("the endpoint", endpoint, expected))?;
        let base = base.as_str().trim_end_matches('/');
        let path = match &target {
            Target::Workspace(id) => {
                if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                    let expected = "its id, such as 00000000-0000-0000-0000-000000000000";
                    return Err(wrong("the workspace", id, expected));
                }
                format!("workspaces/{id}")
            }
            Target::Resource(id) => {
                if !id.starts_with("/subscriptions/") || id.contains("..") {
                    let expected =
                        "its id: /subscriptions/ID/resourceGroups/GROUP/providers/microsoft.insights/components/NAME";
                    return Err(wrong("the resource", id, expected));
                }
                let parts = id.trim_matches('/').split('/');
                parts.map(|part| utf8_percent_encode(part, PART).to_string()).collect::<Vec<_>>().join("/")
            }
        };
        let url = Url::parse(&format!("{base}/v1/{path}/query")).map_err(|e| QueryError::Setup(e.to_string()))?;
        let client = connect::client(&url, timeout)
            .build()
            .map_err(|error| QueryError::Setup(format!("preparing the HTTP client: {}", root_cause(&error))))?;
        let scope = format!("{}/.default", url.origin().ascii_serialization());
        Ok(Self { client, tokens, target, url, scope, timeout })
    }

    /// Whose telemetry it asks for.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    fn about(&self) -> String {
        match &self.target {
            Target::Workspace(id) => format!("workspace {id}"),
            Target::Resource(id) => format!("resource {id}"),
        }
    }

    fn endpoint(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Asks, about what happened in this span of nanoseconds since the Unix epoch.
    pub(super) async fn query(&self, kql: &str, (from, to): (u64, u64)) -> Result<Answer, Failure> {
        let body = json!({"query": kql, "timespan": format!("{}/{}", moment(from), moment(to))});
        let mut tries = 0;
        let mut refused: Option<Secret> = None;
        loop {
            let token = self.tokens.token(&self.scope, refused.as_ref()).await.map_err(QueryError::from)?;
            let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                .map_err(|_| QueryError::Setup("the Entra token is no text that a header can hold".to_owned()))?;
            bearer.set_sensitive(true);
            let call =
                self.client.post(self.url.clone()).header(AUTHORIZATION, bearer).header(ACCEPT, "application/json");
            let wait = format!("wait={}", self.timeout.as_secs().clamp(1, 600));
            let (problem, asked) = match call.header("prefer", wait).json(&body).send().await {
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && refused.is_none() => {
                    refused = Some(token);
                    continue;
                }
                Ok(response) => match self.judge(response, &token).await? {
                    Judged::Answer(answer) => return Ok(answer),
                    Judged::Later(problem, asked) => (problem, asked),
                },
                Err(error) if error.is_timeout() && !error.is_connect() => return Err(self.slow()),
                Err(error) => (format!("cannot reach {}: {}", self.endpoint(), root_cause(&error)), None),
            };
            let wait = WAITS.get(tries).copied().map(|usual| asked.unwrap_or(usual)).filter(|wait| *wait <= MAX_WAIT);
            let Some(wait) = wait else {
                let error = QueryError::Unavailable { about: self.about(), words: problem };
                return Err(error.into());
            };
            tries += 1;
            tokio::time::sleep(wait).await;
        }
    }

    fn slow(&self) -> Failure {
        Failure::TooMuch(Why { words: format!("no answer within {:?}", self.timeout), slow: true })
    }

    /// What an answer means; should it repeat the token that it was asked with, nobody sees that.
    async fn judge(&self, mut response: Response, token: &Secret) -> Result<Judged, Failure> {
        let (status, asked) = (response.status(), retry_after(response.headers()));
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() > MAX_ANSWER => {
                    let words = format!("the answer has more than {} MiB", MAX_ANSWER >> 20);
                    return Err(Failure::TooMuch(Why { words, slow: false }));
                }
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) if error.is_timeout() => return Err(self.slow()),
                Err(error) => {
                    let problem = format!("the answer of {} broke off: {}", self.endpoint(), root_cause(&error));
                    return Ok(Judged::Later(problem, None));
                }
            }
        }
        let said: Option<Said> = serde_json::from_slice(&bytes).ok();
        let error = said.as_ref().and_then(|said| said.error.as_ref());
        let words = match error {
            Some(error) => error.words(),
            None => String::from_utf8_lossy(bytes.get(..MAX_WORDS).unwrap_or(&bytes)).into_owned(),
        };
        let words = Secrets::new([token.clone()]).quote(&words);
        let partial = error.is_some().then(|| words.clone());
        let colon = if words.is_empty() { "" } else { ": " };
        let words = format!("{status}{colon}{words}");
        let advice = match status.as_u16() {
            200 => match said.and_then(|said| said.tables.into_iter().next()) {
                Some(table) => return Ok(Judged::Answer(Answer { table, partial })),
                None => "; that is no table of a Log Analytics query: is the endpoint right?",
            },
            408 | 429 | 500 | 502 | 503 => {
                return Ok(Judged::Later(format!("{} answers {words}", self.endpoint()), asked));
            }
            504 => return Err(Failure::TooMuch(Why { words, slow: true })),
            401 => "; the token is not accepted: is the credential of the right tenant?",
            403 => "; the identity needs the role `Log Analytics Reader` (or `Monitoring Reader`) there",
            404 => "; there is no such workspace or resource, or the identity may not see it",
            _ => "",
        };
        let error =
            QueryError::Refused { about: self.about(), endpoint: self.endpoint(), words: format!("{words}{advice}") };
        Err(error.into())
    }
}

enum Judged {
    Answer(Answer),
    Later(String, Option<Duration>),
}

/// Tokens go over TLS, or stay on this machine.
fn is_safe(url: &Url) -> bool {
    let here = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    let plain =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    plain && url.host_str().is_some() && (url.scheme() == "https" || url.scheme() == "http" && here)
}

/// A time as queries spell it, to a tenth of a microsecond, which is what the service keeps.
pub(super) fn moment(unix_nano: u64) -> String {
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(unix_nano)).unwrap_or_default();
    stamp.strftime("%Y-%m-%dT%H:%M:%S.%7fZ").to_string()
}
