//! From a Foundry project to the Application Insights resource that is connected to it.
//!
//! Two calls of the project's REST API: the list of its connections of that kind, then the one of them with its
//! credentials, whose key is a connection string. Source: `azure-ai-projects`, `telemetry`, API version `v1`.

use std::time::Duration;

use http::StatusCode;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH};
use reqwest::{Client, Method, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::connect;
use super::super::destination::Retry;
use super::super::http::{Capped, read_whole, retry_after, root_cause};
use super::connection::{ConnectionString, ConnectionStringError};
use super::ingestion::bearer;
use crate::identity::{IdentityError, TokenSource, scope};
use crate::model::Secret;
use crate::net::{Secrets, is_safe};

const API: &str = "v1";
/// A project has a handful of connections.
const MAX_ANSWER: usize = 4 << 20;
/// Pages of the list that are looked through.
const PAGES: usize = 20;

/// Why a project leads to no Application Insights resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProjectError {
    /// There is no token for it.
    #[error("asking Foundry project {project}: {source}")]
    Identity {
        /// The project's endpoint.
        project: String,
        /// Why not.
        source: IdentityError,
    },
    /// The identity may not read the project's connections.
    #[error(
        "Foundry project {project} answers {status}{said}; the identity needs the role Azure AI User on the project, which \
         lets it read connections with their credentials"
    )]
    Forbidden {
        /// The project's endpoint.
        project: String,
        /// The status.
        status: u16,
        /// What it said, behind a colon.
        said: String,
    },
    /// There is no such project.
    #[error(
        "Foundry project {project} answers 404{said}; check `project` in [azure]: it is the endpoint that the project's \
         overview shows"
    )]
    Unknown {
        /// The project's endpoint.
        project: String,
        /// What it said, behind a colon.
        said: String,
    },
    /// It is connected to no resource.
    #[error(
        "no Application Insights resource is connected to Foundry project {project}; connect one in Foundry under the \
         project's Tracing, or set APPLICATIONINSIGHTS_CONNECTION_STRING"
    )]
    NoResource {
        /// The project's endpoint.
        project: String,
    },
    /// The connection has no key that can be used.
    #[error(
        "connection `{connection}` of Foundry project {project} {problem}; connect the resource anew, with its key"
    )]
    NoKey {
        /// The project's endpoint.
        project: String,
        /// The connection's name.
        connection: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It did not answer, or not as it should.
    #[error("Foundry project {project}: {}", retry.reason)]
    Passing {
        /// The project's endpoint.
        project: String,
        /// When and why to try again.
        retry: Retry,
    },
    /// It answered something that another try would not change.
    #[error("Foundry project {project} {problem}")]
    Answer {
        /// The project's endpoint.
        project: String,
        /// What.
        problem: String,
    },
}

impl ProjectError {
    /// When to try again, if that may help.
    pub fn retry(&self) -> Option<Retry> {
        match self {
            Self::Passing { retry, .. } => Some(Retry { reason: self.to_string(), ..retry.clone() }),
            Self::Identity { source, .. } if source.is_passing() => {
                Some(Retry { after: None, reason: self.to_string(), unreachable: false })
            }
            _ => None,
        }
    }
}

/// A project's connection to a resource.
#[derive(Debug)]
pub struct Connected {
    /// The connection's name.
    pub name: String,
    /// The resource's connection string.
    pub connection: ConnectionString,
}

/// The resource that is connected to a project; the first, if there are several.
pub async fn connected(project: &str, tokens: &dyn TokenSource, timeout: Duration) -> Result<Connected, ProjectError> {
    let api = Api::new(project, tokens, timeout)?;
    let name = api.first_connection().await?;
    let connection = api.connection_string(&name).await?;
    Ok(Connected { name, connection })
}

struct Api<'a> {
    project: &'a str,
    base: Url,
    tokens: &'a dyn TokenSource,
    client: Client,
    timeout: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    value: Vec<Listed>,
    next_link: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
}

#[derive(Deserialize)]
struct WithCredentials {
    credentials: Option<Credentials>,
}

/// Never shown: no `Debug`.
#[derive(Deserialize)]
struct Credentials {
    #[serde(default, rename = "type")]
    kind: String,
    key: Option<String>,
}

impl<'a> Api<'a> {
    fn new(project: &'a str, tokens: &'a dyn TokenSource, timeout: Duration) -> Result<Self, ProjectError> {
        let wrong = |problem: String| ProjectError::Answer { project: project.to_owned(), problem };
        let base = Url::parse(project).ok().filter(is_safe);
        let base = base.ok_or_else(|| wrong("is no https address, and tokens go nowhere else".to_owned()))?;
        let client = connect::client(&base, timeout).build();
        let client = client.map_err(|error| wrong(format!("cannot be asked: {}", root_cause(&error))))?;
        Ok(Self { project, base, tokens, client, timeout })
    }

    fn wrong(&self, problem: &str) -> ProjectError {
        ProjectError::Answer { project: self.project.to_owned(), problem: problem.to_owned() }
    }

    /// An address below the project.
    fn at(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url.query_pairs_mut().append_pair("api-version", API).extend_pairs(query);
        url
    }

    async fn first_connection(&self) -> Result<String, ProjectError> {
        let mut next = self.at(&["connections"], &[("connectionType", "AppInsights")]);
        for _ in 0..PAGES {
            let (page, _): (Page, _) = self.ask(Method::GET, next).await?;
            if let Some(first) = page.value.into_iter().next() {
                return Ok(first.name);
            }
            let Some(link) = page.next_link.filter(|link| !link.is_empty()) else {
                return Err(ProjectError::NoResource { project: self.project.to_owned() });
            };
            // The token goes nowhere else.
            let here = self.base.join(&link).ok().filter(|url| url.origin() == self.base.origin());
            next = here.ok_or_else(|| self.wrong("says that its list of connections goes on at another host"))?;
        }
        Err(self.wrong(&format!("lists no Application Insights on {PAGES} pages, and has more of them")))
    }

    async fn connection_string(&self, name: &str) -> Result<ConnectionString, ProjectError> {
        let url = self.at(&["connections", name, "getConnectionWithCredentials"], &[]);
        let (answer, secrets): (WithCredentials, _) = self.ask(Method::POST, url).await?;
        let no_key = |problem: String| ProjectError::NoKey {
            project: self.project.to_owned(),
            connection: secrets.quote(name),
            problem,
        };
        let credentials = answer.credentials.ok_or_else(|| no_key("has no credentials".to_owned()))?;
        if credentials.kind != "ApiKey" {
            return Err(no_key(format!("has credentials of type `{}`, not ApiKey", secrets.quote(&credentials.kind))));
        }
        match credentials.key.as_deref().map(ConnectionString::parse) {
            Some(Ok(connection)) => Ok(connection),
            None | Some(Err(ConnectionStringError::Empty)) => Err(no_key("has an empty key".to_owned())),
            Some(Err(error)) => Err(no_key(format!("has a key that is no connection string: {error}"))),
        }
    }

    /// Asks once, and once more with another token if the first was refused. Gives also what the answer may repeat, and nobody
    /// needs to see.
    async fn ask<T: DeserializeOwned>(&self, method: Method, url: Url) -> Result<(T, Secrets), ProjectError> {
        let project = || self.project.to_owned();
        let mut refused: Option<Secret> = None;
        loop {
            let token = self.tokens.token(scope::FOUNDRY, refused.as_ref()).await;
            let token = token.map_err(|source| ProjectError::Identity { project: project(), source })?;
            let header = bearer(&token).ok_or_else(|| ProjectError::Answer {
                project: project(),
                problem: "cannot be asked: the Entra token is no text that a header can hold".to_owned(),
            })?;
            let mut call = self.client.request(method.clone(), url.clone()).header(AUTHORIZATION, header);
            if method == Method::POST {
                // Azure refuses a POST that does not say how long it is, and nobody says so of an empty one.
                call = call.header(CONTENT_LENGTH, 0);
            }
            let response = call.header(ACCEPT, "application/json").send().await.map_err(|error| self.failed(&error))?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && refused.is_none() {
                refused = Some(token);
                continue;
            }
            let headers = response.headers().clone();
            let passing = |reason: String| ProjectError::Passing {
                project: project(),
                retry: Retry { after: retry_after(&headers), reason, unreachable: false },
            };
            let text = match read_whole(response, MAX_ANSWER).await {
                Capped::Whole(text) => text,
                Capped::TooLarge if status.is_success() => {
                    let problem = format!("answers with more than {MAX_ANSWER} bytes; is it the project's endpoint?");
                    return Err(ProjectError::Answer { project: project(), problem });
                }
                Capped::Broken if status.is_success() => {
                    return Err(passing("its answer broke off".to_owned()));
                }
                // The status says enough.
                Capped::TooLarge | Capped::Broken => Vec::new(),
            };
            let secrets = Secrets::new(refused.into_iter().chain([token]));
            let said = said(&text, &secrets);
            return match status.as_u16() {
                200..=299 => {
                    let read = serde_json::from_slice(&text).map_err(|_| ProjectError::Answer {
                        project: project(),
                        problem: format!(
                            "answers {status} with something else than connections; is it the project's endpoint?"
                        ),
                    });
                    Ok((read?, secrets))
                }
                status @ (401 | 403) => Err(ProjectError::Forbidden { project: project(), status, said }),
                404 => Err(ProjectError::Unknown { project: project(), said }),
                408 | 429 | 500..=599 => Err(passing(format!("answers {status}{said}"))),
                _ => Err(ProjectError::Answer { project: project(), problem: format!("answers {status}{said}") }),
            };
        }
    }

    fn failed(&self, error: &reqwest::Error) -> ProjectError {
        let unreachable = error.is_connect();
        let reason = if unreachable {
            format!("cannot connect: {}", root_cause(error))
        } else if error.is_timeout() {
            format!("no answer within {:?}", self.timeout)
        } else {
            format!("the connection broke: {}", root_cause(error))
        };
        let retry = Retry { after: None, reason, unreachable };
        ProjectError::Passing { project: self.project.to_owned(), retry }
    }
}

/// What the API says is wrong, behind a colon.
fn said(text: &[u8], secrets: &Secrets) -> String {
    #[derive(Deserialize)]
    struct Said {
        error: Option<Words>,
        message: Option<String>,
    }
    #[derive(Deserialize)]
    struct Words {
        message: Option<String>,
    }
    let said: Option<Said> = serde_json::from_slice(text).ok();
    let words = said.and_then(|said| said.error.and_then(|error| error.message).or(said.message));
    words.filter(|words| !words.is_empty()).map(|words| format!(": {}", secrets.quote(&words))).unwrap_or_default()
}

#[cfg(test)]
#[path = "project_tests.rs"]
mod tests;
