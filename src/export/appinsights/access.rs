//! What leads to a resource of Application Insights, and who asks: a connection string or a Foundry project, and Entra
//! tokens where the resource wants them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::connection::ConnectionString;
use super::ingestion::DOMAINS;
use crate::config::{AzurePlan, Environment, IngestionAuth};
use crate::identity::{self, IdentityError, TokenSource, scope};
use crate::model::Secret;
use crate::net::is_loopback;

/// Where a resource's key and address come from.
#[derive(Debug, Clone, PartialEq)]
pub enum InsightsSource {
    /// A connection string.
    Connection(ConnectionString),
    /// A Foundry project's endpoint: asked once something is to be sent.
    Project(String),
}

/// One resource of Application Insights.
#[derive(Clone)]
pub struct InsightsSettings {
    /// Which one.
    pub source: InsightsSource,
    /// Who asks, whether with tokens, how patiently.
    pub azure: AzurePlan,
    /// Tokens, or why there are none.
    pub tokens: Result<Arc<dyn TokenSource>, IdentityError>,
}

impl InsightsSettings {
    /// The settings for a resource.
    pub fn new(source: InsightsSource, azure: AzurePlan, env: &Environment) -> Self {
        let tokens = identity::source(&azure, env);
        Self { source, azure, tokens }
    }

    /// Why nothing could be sent with certainty: tokens are needed and their source is not set up.
    pub fn flaw(&self) -> Option<&IdentityError> {
        let needed = matches!(self.source, InsightsSource::Project(_)) || self.azure.auth == IngestionAuth::Entra;
        self.tokens.as_ref().err().filter(|_| needed)
    }
}

impl PartialEq for InsightsSettings {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.azure == other.azure
    }
}

impl fmt::Debug for InsightsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InsightsSettings").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Whether telemetry is sent with tokens, and where they come from.
pub(super) struct Access {
    tokens: Result<Arc<dyn TokenSource>, IdentityError>,
    scope: String,
    auth: IngestionAuth,
    /// Whether the endpoint has asked for tokens.
    asked: AtomicBool,
    /// Whether host and audience are those of the service: nobody else gets a token for the asking.
    is_known: bool,
    pub(super) timeout: Duration,
}

impl Access {
    pub(super) fn new(settings: &InsightsSettings, connection: &ConnectionString) -> Self {
        let audience = connection.audience.as_ref();
        Self {
            tokens: settings.tokens.clone(),
            scope: audience.map_or_else(|| scope::MONITOR.to_owned(), |audience| format!("{audience}/.default")),
            auth: settings.azure.auth,
            asked: AtomicBool::new(false),
            is_known: is_known(connection),
            timeout: settings.azure.timeout,
        }
    }

    /// Whether the next request carries a token.
    pub(super) fn wanted(&self) -> bool {
        match self.auth {
            IngestionAuth::Entra => true,
            IngestionAuth::None => false,
            IngestionAuth::Auto => self.is_known && self.asked.load(Ordering::Relaxed),
        }
    }

    /// Takes note that the endpoint wants tokens; gives whether it will get them.
    pub(super) fn ask(&self) -> bool {
        self.asked.store(true, Ordering::Relaxed);
        self.wanted()
    }

    /// A token, another than the one that was refused if there is any.
    pub(super) async fn token(&self, refused: Option<&Secret>) -> Result<Secret, IdentityError> {
        let tokens = self.tokens.as_ref().map_err(Clone::clone)?;
        tokens.token(&self.scope, refused).await
    }
}

/// The audiences of Azure Monitor, in its clouds.
const AUDIENCES: [&str; 3] = ["https://monitor.azure.com", "https://monitor.azure.us", "https://monitor.azure.cn"];

/// Whether a connection string names the service itself, or this machine.
fn is_known(connection: &ConnectionString) -> bool {
    let host = connection.ingestion.host_str().unwrap_or_default();
    let audience = connection.audience.as_deref().map(|audience| audience.trim_end_matches('/'));
    is_loopback(&connection.ingestion)
        || DOMAINS.iter().any(|domain| host.ends_with(domain))
            && audience.is_none_or(|audience| AUDIENCES.contains(&audience))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_for_the_asking_go_to_the_service_only() {
        let known = |rest: &str| {
            let text = format!("InstrumentationKey=00000000-0000-0000-0000-000000000001;{rest}");
            is_known(&ConnectionString::parse(&text).expect("a connection string"))
        };
        assert!(known("IngestionEndpoint=https://westeurope-1.in.applicationinsights.azure.com/"));
        assert!(
            known("")
                && known(
                    "AADAudience=https://monitor.azure.us/;IngestionEndpoint=https://x.applicationinsights.azure.us"
                )
        );
        assert!(known("IngestionEndpoint=http://127.0.0.1:9/;AADAudience=https://x.example"));
        assert!(!known("IngestionEndpoint=https://evil.example"));
        assert!(!known("IngestionEndpoint=https://applicationinsights.azure.com.evil.example"));
        assert!(!known("AADAudience=https://management.azure.com"));
    }
}
