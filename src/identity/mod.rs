//! Who we are to Azure: Entra tokens for a scope, asked for once and kept until shortly before they expire.
//!
//! [`source`] makes a [`TokenSource`] of the `[azure]` section and the environment. Behind it stand credentials, each asking
//! in its own way: `managed` (the identity of a machine, an app or a container), `entra` (an app registration with a
//! secret or a federated token), `tools` (`az`, `azd`, a program of the user's). `credential` puts them into an order,
//! `cache` keeps what they give, `ask` and `answer` are the HTTP below and the JSON in it.
//!
//! Written here and not taken from `azure_identity`, because a token that a service refused must be replaced although it
//! has not expired, because answers are read up to a bound, and because the environment is read in one place.

mod answer;
mod ask;
mod cache;
mod credential;
mod entra;
mod managed;
mod tools;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;

use crate::config::{AzurePlan, Environment};
use crate::model::Secret;
use crate::trace::provider::Clock;

/// The scopes that tokens are asked for.
pub mod scope {
    /// A Foundry project, its OpenAI endpoint included.
    pub const FOUNDRY: &str = "https://ai.azure.com/.default";
    /// An Azure OpenAI resource.
    pub const OPENAI: &str = "https://cognitiveservices.azure.com/.default";
    /// The ingestion endpoint of Application Insights; the two slashes are right.
    pub const MONITOR: &str = "https://monitor.azure.com//.default";
    /// Queries to Log Analytics.
    pub const LOGS: &str = "https://api.loganalytics.io/.default";
}

/// Why there is no token. No message holds one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// What was asked for is not set up.
    #[error("no Entra token: [azure] credential = \"{credential}\": {problem}")]
    NotSetUp {
        /// The kind of credential.
        credential: &'static str,
        /// What is missing, and what to do.
        problem: String,
    },
    /// A credential was asked and gave none.
    #[error("no Entra token for {scope} from {credential}: {problem}")]
    Refused {
        /// For what.
        scope: String,
        /// Who was asked.
        credential: &'static str,
        /// What it said.
        problem: String,
        /// Whether another try may help.
        passing: bool,
    },
    /// Nothing that could give one is set up here.
    #[error(
        "no Entra token for {scope}: tried {}; sign in with `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and \
         AZURE_CLIENT_SECRET, or `token_command` in [azure]",
        tried.join(", ")
    )]
    NoneFound {
        /// For what.
        scope: String,
        /// Each that was tried, and why it gave none.
        tried: Vec<String>,
    },
}

impl IdentityError {
    /// Whether another try may help, later and without anybody's doing.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Refused { passing: true, .. })
    }
}

/// Gives Entra tokens; one serves all callers at once.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// A token for a scope that is valid now, from memory where possible. `refused` is one that a service turned away,
    /// and another is asked for in its place; whoever gives tokens may have no other, and then the same comes again.
    async fn token(&self, scope: &str, refused: Option<&Secret>) -> Result<Secret, IdentityError>;

    /// Who gives the tokens, for people: `managed identity (App Service)`. Known once a token was asked for.
    fn who(&self) -> Option<&'static str>;
}

/// The source of tokens that the `[azure]` section and the environment describe. Nothing is asked yet. Tokens are to be
/// asked for inside a tokio runtime.
pub fn source(plan: &AzurePlan, env: &Environment) -> Result<Arc<dyn TokenSource>, IdentityError> {
    let credential = credential::Chain::new(plan, env)?;
    Ok(Arc::new(cache::Cache::new(Arc::new(credential), Clock::System)))
}
