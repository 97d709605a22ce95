//! From a configuration to a destination that works, and what all clients have in common.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Url};

use super::appinsights::{AppInsights, AppInsightsSetupError};
use super::console::Console;
use super::destination::Destination;
use super::otlp::{Otlp, OtlpSetupError};
use super::settings::DestinationConfig;
use super::sinks::{Sink, SinkSetupError};
use crate::net::{install_tls_provider, is_loopback};

/// Longest wait for a connection: a host that does not answer by then is treated as absent.
const MAX_CONNECT: Duration = Duration::from_secs(5);

/// Why a destination cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An OTLP endpoint.
    #[error(transparent)]
    Otlp(#[from] OtlpSetupError),
    /// Application Insights.
    #[error(transparent)]
    AppInsights(#[from] AppInsightsSetupError),
    /// A backend for scores.
    #[error(transparent)]
    Sink(#[from] SinkSetupError),
}

/// The destination of a configuration; `console` opens the writer that the console prints to. Nothing is sent yet. Must
/// be called inside a tokio runtime.
pub fn connect(
    config: DestinationConfig,
    console: impl FnOnce() -> Box<dyn Write + Send>,
) -> Result<Arc<dyn Destination>, ConnectError> {
    Ok(match config {
        DestinationConfig::Otlp { traces, logs } => Arc::new(Otlp::new(traces, logs)?),
        DestinationConfig::Console { traces, logs } => Arc::new(Console::new(console(), traces, logs)),
        DestinationConfig::AppInsights(settings) => Arc::new(AppInsights::new(settings)?),
        DestinationConfig::Sink(config) => Arc::new(Sink::new(&config)?),
    })
}

/// How every client here begins: bounded in time, and without redirects, for they would take a key elsewhere and turn a POST into
/// a GET. What is on this machine is asked without a proxy, which would see the key in the clear.
pub(super) fn client(url: &Url, timeout: Duration) -> ClientBuilder {
    install_tls_provider();
    let builder = Client::builder()
        .user_agent(user_agent())
        .timeout(timeout)
        .connect_timeout(connect_timeout(timeout))
        .redirect(reqwest::redirect::Policy::none());
    if is_loopback(url) { builder.no_proxy() } else { builder }
}

/// Half the time that a whole request may take, so that a failure to connect is told from a missing answer: only the
/// latter can lead to duplicates.
pub(super) fn connect_timeout(request: Duration) -> Duration {
    (request / 2).min(MAX_CONNECT)
}

pub(super) const fn user_agent() -> &'static str {
    concat!("spanscore/", env!("CARGO_PKG_VERSION"))
}
