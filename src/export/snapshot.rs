//! What the store keeps of a destination's configuration, so that a later process can finish the delivery: everything
//! but secrets. Those come from the environment or the suite again.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::AUTHORIZATION;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::appinsights::access::{InsightsSettings, InsightsSource};
use super::appinsights::connection::ConnectionString;
use super::auth::AuthEnv;
use super::destination::Signal;
use super::endpoint::{Compression, OtlpSettings, PLACES, Protocol, header};
use super::otel_env::{OtlpSignal, Reader};
use super::sampler::Sampler;
use super::settings::{CONNECTION_STRING, DestinationConfig, ExportPlan, SettingsError, SuiteOtlp};
use super::sinks::{SinkError, SinkSnapshot};
use crate::config::env::Environment;
use crate::config::{AzurePlan, CredentialKind, IngestionAuth};
use crate::net::is_key_for;

/// A destination as the outbox remembers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What it is.
    pub destination: DestinationSnapshot,
    /// Which traces it gets: decided once, when the run started.
    pub sampler: Sampler,
}

/// A destination without secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DestinationSnapshot {
    /// An OTLP endpoint, or one for each signal.
    Otlp {
        /// For spans.
        traces: Option<OtlpSnapshot>,
        /// For log records.
        logs: Option<OtlpSnapshot>,
    },
    /// Standard output.
    Console {
        /// Whether spans are printed.
        traces: bool,
        /// Whether log records are printed.
        logs: bool,
    },
    /// A resource of Application Insights; its key comes from the environment or the project.
    AppInsights {
        /// Where telemetry was sent, where the run was told.
        #[serde(default)]
        ingestion: String,
        /// The Foundry project that led there.
        #[serde(default)]
        project: Option<String>,
        /// Who asked for tokens.
        #[serde(default)]
        credential: Option<String>,
        /// Whether telemetry was sent with tokens.
        #[serde(default)]
        auth: Option<String>,
        /// How long a request may take, in milliseconds.
        #[serde(default)]
        timeout_ms: Option<u64>,
    },
    /// A backend for scores.
    Sink(SinkSnapshot),
}

/// The settings of one signal without the values of its headers and without the query of its address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OtlpSnapshot {
    /// The address.
    pub endpoint: String,
    /// How to speak.
    pub protocol: Protocol,
    /// The variables that the key for this address comes from, where the suite names them.
    #[serde(default)]
    pub auth: AuthEnv,
    /// Names of the headers that were sent along.
    pub headers: Vec<String>,
    /// Those of them that are no secrets, with their values.
    #[serde(default)]
    pub places: BTreeMap<String, String>,
    /// How bodies are compressed.
    pub compression: Compression,
    /// How long a request may take, in milliseconds.
    pub timeout_ms: u64,
}

/// Why a snapshot is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is not one.
    #[error("reading the destination that the run recorded: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Its address is none.
    #[error("reading the destination that the run recorded: the {} endpoint `{endpoint}` is not an address", signal.as_str())]
    Endpoint {
        /// Of which signal.
        signal: Signal,
        /// What stands there.
        endpoint: String,
    },
    /// The key is not there.
    #[error(
        "{CONNECTION_STRING} is not set, and no Foundry project is known; what waits for Application Insights stays \
         pending until one of them is"
    )]
    NoConnectionString,
    /// The suite, which stands behind the environment, makes no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A backend for scores.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// A destination rebuilt from what a run recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Restored {
    /// Where to deliver to.
    pub config: DestinationConfig,
    /// Which traces.
    pub sampler: Sampler,
    /// What the user should know: headers that are not set now.
    pub warnings: Vec<String>,
}

impl Snapshot {
    /// The snapshot of a destination of a plan.
    pub fn new(config: &DestinationConfig, plan: &ExportPlan) -> Self {
        let destination = match config {
            DestinationConfig::Otlp { traces, logs } => DestinationSnapshot::Otlp {
                traces: traces.as_ref().map(OtlpSnapshot::new),
                logs: logs.as_ref().map(OtlpSnapshot::new),
            },
            DestinationConfig::Console { traces, logs } => {
                DestinationSnapshot::Console { traces: *traces, logs: *logs }
            }
            DestinationConfig::AppInsights(settings) => {
                let (ingestion, project) = match &settings.source {
                    InsightsSource::Connection(connection) => (connection.ingestion.to_string(), None),
                    InsightsSource::Project(project) => (String::new(), Some(project.clone())),
                };
                DestinationSnapshot::AppInsights {
                    ingestion,
                    project,
                    credential: Some(settings.azure.credential.as_str().to_owned()),
                    auth: Some(settings.azure.auth.as_str().to_owned()),
                    timeout_ms: Some(settings.azure.timeout.as_millis() as u64),
                }
            }
            DestinationConfig::Sink(config) => DestinationSnapshot::Sink(SinkSnapshot::new(config)),
        };
        Self { destination, sampler: plan.sampler.clone() }
    }

    /// The form that the store keeps.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("a snapshot has nothing that JSON cannot say")
    }

    /// The snapshot that the store kept.
    pub fn from_json(kept: &serde_json::Value) -> Result<Self, SnapshotError> {
        Ok(Self::deserialize(kept)?)
    }

    /// The destination to deliver to now: what the environment says now wins, so that an endpoint that moved can be
    /// given anew; what it does not say is as it was when the run started. Headers come from the environment, else from
    /// the suite and the variables that the run recorded, as far as they belong to the address.
    pub fn restore(&self, env: &Environment, suite: &SuiteOtlp) -> Result<Restored, SnapshotError> {
        let mut reader = Reader::new(env, suite)?;
        let config = match &self.destination {
            DestinationSnapshot::Console { traces, logs } => {
                DestinationConfig::Console { traces: *traces, logs: *logs }
            }
            DestinationSnapshot::AppInsights { project, credential, auth, timeout_ms, .. } => {
                let now = &suite.azure;
                // A run that was given a connection string is not sent to a project that a suite names by now.
                let source = match (env.get(CONNECTION_STRING), project) {
                    (Some(text), _) => {
                        InsightsSource::Connection(ConnectionString::parse(text).map_err(SettingsError::from)?)
                    }
                    (None, Some(recorded)) => {
                        let moved = AzurePlan::project_of(env).transpose().map_err(SettingsError::from)?;
                        InsightsSource::Project(moved.unwrap_or_else(|| recorded.clone()))
                    }
                    (None, None) => return Err(SnapshotError::NoConnectionString),
                };
                // What the suite says now wins; what it leaves out is as it was.
                let (credential, auth) = (credential.as_deref(), auth.as_deref());
                let azure = AzurePlan {
                    credential: match (now.credential, &now.token_command) {
                        (CredentialKind::Auto, None) => {
                            credential.and_then(CredentialKind::from_name).unwrap_or_default()
                        }
                        (said, _) => said,
                    },
                    auth: match now.auth {
                        IngestionAuth::Auto => auth.and_then(IngestionAuth::from_name).unwrap_or_default(),
                        said => said,
                    },
                    timeout: if now.timeout == AzurePlan::default().timeout {
                        timeout_ms.map_or(now.timeout, Duration::from_millis)
                    } else {
                        now.timeout
                    },
                    ..now.clone()
                };
                let settings = InsightsSettings::new(source, azure, env);
                if let Some(flaw) = settings.flaw() {
                    return Err(SettingsError::from(flaw.clone()).into());
                }
                DestinationConfig::AppInsights(settings)
            }
            DestinationSnapshot::Sink(sink) => DestinationConfig::Sink(sink.restore(env)?),
            DestinationSnapshot::Otlp { traces, logs } => {
                let mut restore = |snapshot: &Option<OtlpSnapshot>, signal| {
                    snapshot.as_ref().map(|snapshot| snapshot.restore(env, &mut reader, signal)).transpose()
                };
                DestinationConfig::Otlp { traces: restore(traces, Signal::Traces)?, logs: restore(logs, Signal::Logs)? }
            }
        };
        Ok(Restored { config, sampler: self.sampler.clone(), warnings: reader.warnings })
    }
}

impl OtlpSnapshot {
    fn new(settings: &OtlpSettings) -> Self {
        Self {
            endpoint: settings.address(),
            protocol: settings.protocol,
            auth: settings.auth.clone(),
            headers: settings.headers.keys().map(|name| name.as_str().to_owned()).collect(),
            places: PLACES
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), settings.headers.get(name)?.to_str().ok()?.to_owned())))
                .collect(),
            compression: settings.compression,
            timeout_ms: settings.timeout.as_millis() as u64,
        }
    }

    fn restore(
        &self,
        env: &Environment,
        reader: &mut Reader<'_>,
        signal: Signal,
    ) -> Result<OtlpSettings, SnapshotError> {
        let own = match signal {
            Signal::Traces => OtlpSignal::Traces,
            Signal::Logs => OtlpSignal::Logs,
        };
        let recorded = Url::parse(&self.endpoint)
            .map_err(|_| SnapshotError::Endpoint { signal, endpoint: self.endpoint.clone() })?;
        let protocol = reader.env_protocol(own).unwrap_or(self.protocol);
        let endpoint = reader.env_endpoint(own, protocol).unwrap_or_else(|| recorded.clone());
        let mut headers = match reader.env_headers(own) {
            Some(headers) => headers,
            None => {
                let (mut headers, _) = reader.suite_headers(own, &endpoint, None);
                if is_key_for(&recorded, &endpoint) && !headers.contains_key(AUTHORIZATION) {
                    match self.auth.header(env) {
                        Ok(key) => headers.extend(key.map(|key| (AUTHORIZATION, key))),
                        Err(error) => reader.warnings.push(format!("{error}; requests are sent without the run's key")),
                    }
                }
                headers
            }
        };
        for (name, value) in &self.places {
            if let Some((name, value)) = header(name, value.as_bytes()) {
                headers.entry(name).or_insert(value);
            }
        }
        let mut settings = OtlpSettings::new(endpoint, protocol, headers);
        settings.compression = reader.env_compression(own).unwrap_or(self.compression);
        settings.timeout = reader.env_timeout(own).unwrap_or(Duration::from_millis(self.timeout_ms));
        let missing: Vec<&str> =
            self.headers.iter().map(String::as_str).filter(|name| !settings.headers.contains_key(*name)).collect();
        if !missing.is_empty() {
            let warning = format!(
                "OTEL_EXPORTER_OTLP_HEADERS: the run sent {} to {recorded}; {} gets none, for the variable is not set now",
                missing.join(", "),
                settings.address()
            );
            reader.warnings.push(warning);
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn snapshot(pairs: &[(&str, &str)]) -> Snapshot {
        let plan = ExportPlan::resolve(&env(pairs), &SuiteOtlp::default(), None).unwrap();
        Snapshot::from_json(&Snapshot::new(&plan.destinations[0], &plan).to_json()).unwrap()
    }

    fn traces(restored: &Restored) -> &OtlpSettings {
        match &restored.config {
            DestinationConfig::Otlp { traces: Some(traces), .. } => traces,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_secret_is_kept() {
        let text = snapshot(&[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://user:hunter2@c/v1/traces?key=hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hunter2"),
        ])
        .to_json()
        .to_string();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("x-key") && text.contains("https://c/v1/traces"), "{text}");
    }

    #[test]
    fn what_was_recorded_stands_behind_the_environment() {
        let kept = snapshot(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://old:4318/base"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=1"),
            ("OTEL_TRACES_SAMPLER", "always_off"),
        ]);
        let as_it_was = kept.restore(&env(&[]), &SuiteOtlp::default()).unwrap();
        assert_eq!(traces(&as_it_was).endpoint.as_str(), "http://old:4318/base/v1/traces");
        assert_eq!(traces(&as_it_was).protocol, Protocol::HttpJson);
        assert!(as_it_was.warnings[0].contains("x-key"), "{:?}", as_it_was.warnings);
        assert!(!as_it_was.sampler.keeps_all());
        let moved = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://new:1"), ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=2")];
        let moved = kept.restore(&env(&moved), &SuiteOtlp::default()).unwrap();
        assert_eq!(traces(&moved).endpoint.as_str(), "http://new:1/v1/traces");
        assert_eq!(traces(&moved).headers["x-key"], "2");
        assert!(moved.warnings.is_empty());
    }

    #[test]
    fn the_key_of_a_run_stays_with_the_endpoint_of_the_run() {
        let suite = |endpoint: Option<&str>| SuiteOtlp {
            endpoint: endpoint.map(str::to_owned),
            auth: AuthEnv { bearer: Some("TEAM_KEY".into()), basic: None },
            ..SuiteOtlp::default()
        };
        let key = ("TEAM_KEY", "canary");
        let plan = ExportPlan::resolve(&env(&[key]), &suite(Some("https://first")), None).unwrap();
        let kept = Snapshot::new(&plan.destinations[0], &plan);
        let check = |more: &[(&str, &str)], suite: &SuiteOtlp, host: &str, sent: bool| {
            let pairs: Vec<_> = [key].into_iter().chain(more.iter().copied()).collect();
            let restored = kept.restore(&env(&pairs), suite).unwrap();
            let traces = traces(&restored);
            let found = (traces.endpoint.host_str().unwrap_or_default(), traces.headers.contains_key("authorization"));
            assert_eq!(found, (host, sent), "{more:?}");
        };
        let moved = [("OTEL_EXPORTER_OTLP_ENDPOINT", "https://second")];
        for suite in [SuiteOtlp::default(), suite(Some("https://first"))] {
            check(&[], &suite, "first", true);
            check(&moved, &suite, "second", false);
        }
        // Whose key a suite names now is its own affair.
        check(&[], &suite(Some("https://second")), "first", true);
        check(&moved, &suite(Some("https://second")), "second", true);
        // The first again, but in the clear.
        check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://first")], &SuiteOtlp::default(), "first", false);
    }

    #[test]
    fn a_key_that_a_run_withheld_is_withheld_later_too() {
        let suite = |endpoint: Option<&str>| SuiteOtlp {
            endpoint: endpoint.map(str::to_owned),
            auth: AuthEnv { bearer: Some("TEAM_KEY".into()), basic: None },
            headers: [("x-key".to_owned(), "canary".to_owned())].into(),
            ..SuiteOtlp::default()
        };
        let key = ("TEAM_KEY", "canary");
        // What each signal is sent, as `traces host, logs host`, with a `+` where there is a secret.
        let sent = |config: &DestinationConfig| {
            let DestinationConfig::Otlp { traces, logs } = config else { panic!("{config:?}") };
            let show = |settings: &OtlpSettings| {
                let secrets = ["authorization", "x-key"].iter().filter(|name| settings.headers.contains_key(**name));
                let host = format!("{}://{}", settings.endpoint.scheme(), settings.endpoint.host_str().unwrap());
                host + &"+".repeat(secrets.count())
            };
            [traces, logs].map(|settings| show(settings.as_ref().unwrap())).join(" ")
        };
        let check = |more: &[(&str, &str)], while_it_ran: &str, same_suite: &str, no_suite: &str| {
            let env = env(&[&[key], more].concat());
            let plan = ExportPlan::resolve(&env, &suite(Some("https://first")), None).unwrap();
            assert_eq!(sent(&plan.destinations[0]), while_it_ran);
            let kept = Snapshot::from_json(&Snapshot::new(&plan.destinations[0], &plan).to_json()).unwrap();
            let later = |suite: &SuiteOtlp| sent(&kept.restore(&self::env(&[key]), suite).unwrap().config);
            assert_eq!(later(&suite(Some("https://first"))), same_suite, "the same suite");
            assert_eq!(later(&SuiteOtlp::default()), no_suite, "no suite");
            assert_eq!(later(&suite(None)), no_suite, "a suite with a key for whatever the environment names");
        };
        let (both, one) = ("https://first++ https://first++", "https://first++ https://second");
        check(&[], both, both, "https://first+ https://first+");
        let second = "https://second https://second";
        check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://second")], second, second, second);
        let logs = [("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://second/v1/logs")];
        check(&logs, one, one, "https://first+ https://second");
        let plain = "http://first http://first";
        check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://first:4318")], plain, plain, plain);
    }

    #[test]
    fn the_connection_string_is_not_kept() {
        let set = (CONNECTION_STRING, "InstrumentationKey=00000000-0000-0000-0000-0000000canaa".replace("can", "0ca"));
        let set = [(set.0, set.1.as_str())];
        let kept = snapshot(&set);
        assert!(!kept.to_json().to_string().contains("InstrumentationKey"), "{kept:?}");
        assert!(matches!(kept.restore(&env(&[]), &SuiteOtlp::default()), Err(SnapshotError::NoConnectionString)));
        let restored = kept.restore(&env(&set), &SuiteOtlp::default()).unwrap();
        assert_eq!(restored.config.name(), "appinsights");
    }

    #[test]
    fn what_is_no_snapshot_is_an_error() {
        assert!(matches!(Snapshot::from_json(&serde_json::json!({})), Err(SnapshotError::Unreadable(_))));
    }
}
