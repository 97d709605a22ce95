//! The credentials in their order. The first that is set up and gives a token is asked from then on.

use std::sync::OnceLock;

use async_trait::async_trait;

use super::IdentityError;
use super::entra::Registration;
use super::managed::Managed;
use super::tools::Tool;
use crate::config::{AzurePlan, CredentialKind, Environment};
use crate::model::Secret;

/// A token and its end, in seconds since the Unix epoch; `None` if nobody said.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) secret: Secret,
    pub(super) expires: Option<u64>,
}

/// Why a credential gave no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// It does not exist here: another may be tried.
    Absent(String),
    /// It exists and was refused: another identity in its place would surprise.
    Refused(String),
    /// It exists and did not answer, or asks to come again.
    Passing(String),
}

impl Problem {
    /// What to tell people.
    pub(super) fn into_words(self) -> String {
        match self {
            Self::Absent(words) | Self::Refused(words) | Self::Passing(words) => words,
        }
    }
}

impl Problem {
    /// The same of a credential that is known to exist: what cannot be reached now may be later.
    pub(super) fn not_absent(self) -> Self {
        match self {
            Self::Absent(words) => Self::Passing(words),
            other => other,
        }
    }
}

/// One way to come by a token.
#[async_trait]
pub(super) trait Credential: Send + Sync {
    /// Its name for people.
    fn name(&self) -> &'static str;

    /// Asks for a token.
    async fn ask(&self, scope: &str) -> Result<Token, Problem>;
}

/// Credentials to be tried one after the other.
pub(super) struct Chain {
    links: Vec<Box<dyn Credential>>,
    /// What is set up in a way that is not known here, and is passed over.
    passed_over: Vec<String>,
    /// The one that gave a token.
    chosen: OnceLock<usize>,
}

impl Chain {
    pub(super) fn new(plan: &AzurePlan, env: &Environment) -> Result<Self, IdentityError> {
        let kind = plan.credential;
        let not_set_up = |problem: String| IdentityError::NotSetUp { credential: kind.as_str(), problem };
        let command = || plan.token_command.clone().map(|words| Box::new(Tool::command(words)) as Box<dyn Credential>);
        let tools = || [Box::new(Tool::az()) as Box<dyn Credential>, Box::new(Tool::azd())];
        let mut links: Vec<Box<dyn Credential>> = Vec::new();
        let mut passed_over = Vec::new();
        match kind {
            CredentialKind::Auto => {
                links.extend(command());
                if links.is_empty() {
                    for registration in [Registration::with_secret(env), Registration::with_file(env)] {
                        links.extend(registration.ok().map(|found| Box::new(found) as Box<dyn Credential>));
                    }
                    match Managed::new(env, true) {
                        Ok(managed) => links.push(Box::new(managed)),
                        Err(why) => passed_over.push(format!("managed identity ({why})")),
                    }
                    links.extend(tools());
                }
            }
            CredentialKind::ManagedIdentity => links.push(Box::new(Managed::new(env, false).map_err(not_set_up)?)),
            CredentialKind::WorkloadIdentity => {
                links.push(Box::new(Registration::with_file(env).map_err(not_set_up)?));
            }
            CredentialKind::ClientSecret => links.push(Box::new(Registration::with_secret(env).map_err(not_set_up)?)),
            CredentialKind::DeveloperTools => links.extend(tools()),
            CredentialKind::TokenCommand => {
                let missing = || not_set_up("the command is not known here: name it in the suite's [azure]".to_owned());
                links.push(command().ok_or_else(missing)?);
            }
        }
        Ok(Self { links, passed_over, chosen: OnceLock::new() })
    }

    #[cfg(test)]
    pub(super) fn of(links: Vec<Box<dyn Credential>>) -> Self {
        Self { links, passed_over: Vec::new(), chosen: OnceLock::new() }
    }

    /// Who gave a token, once somebody did.
    pub(super) fn who(&self) -> Option<&'static str> {
        Some(self.links.get(*self.chosen.get()?)?.name())
    }

    /// A new token.
    pub(super) async fn ask(&self, scope: &str) -> Result<Token, IdentityError> {
        let refused = |credential: &dyn Credential, problem: Problem| IdentityError::Refused {
            scope: scope.to_owned(),
            credential: credential.name(),
            passing: matches!(problem, Problem::Passing(_)),
            problem: problem.into_words(),
        };
        if let Some(chosen) = self.chosen.get().and_then(|place| self.links.get(*place)) {
            return chosen.ask(scope).await.map_err(|problem| refused(chosen.as_ref(), problem));
        }
        let mut tried = self.passed_over.clone();
        for (place, credential) in self.links.iter().enumerate() {
            match credential.ask(scope).await {
                Ok(token) => {
                    // Another task may have been as fast; both found the same.
                    let _ = self.chosen.set(place);
                    return Ok(token);
                }
                Err(Problem::Absent(why)) if self.links.len() > 1 => {
                    tried.push(format!("{} ({why})", credential.name()));
                }
                Err(problem) => return Err(refused(credential.as_ref(), problem)),
            }
        }
        Err(IdentityError::NoneFound { scope: scope.to_owned(), tried })
    }
}
