//! Where telemetry goes, read from OpenTelemetry's environment variables, the suite and the flags; the SDK for Rust
//! leaves several of the variables unread.
//!
//! Precedence: flag, environment, suite, built-in default. A value that makes no sense is an error where the user wrote
//! it for this program, and a warning where it stands in the environment, which many programs share. Connecting is left
//! to [`super::otlp`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::appinsights::AppInsights;
use super::appinsights::access::{InsightsSettings, InsightsSource};
use super::appinsights::connection::{ConnectionString, ConnectionStringError};
use super::auth::AuthEnv;
use super::destination::Signal;
use super::endpoint::OtlpSettings;
use super::otel_env::{Exporters, OtlpSignal, Reader};
use super::sampler::Sampler;
use super::sinks::{SinkConfig, SinkError};
use crate::config::AzurePlan;
use crate::config::azure::BadProject;
use crate::config::env::Environment;
use crate::config::suite::SinkSection;
use crate::identity::IdentityError;
use crate::model::{Key, Value};

/// The names that `--trace-to` knows.
pub const DESTINATIONS: [&str; 4] = ["otlp", "console", "appinsights", "none"];

/// The variable with the connection string of Application Insights.
pub const CONNECTION_STRING: &str = "APPLICATIONINSIGHTS_CONNECTION_STRING";

/// Why the flags or the suite say nothing that can be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A name that `--trace-to` does not know.
    #[error("--trace-to: unknown destination `{found}`; known are {}", DESTINATIONS.join(", "))]
    UnknownDestination {
        /// What was given.
        found: String,
    },
    /// A name that `export --to` does not know.
    #[error("--to: there is no destination `{found}`; known are {known}")]
    UnknownTarget {
        /// What was given.
        found: String,
        /// What would do: the plain ones and the suite's sinks.
        known: String,
    },
    /// `none` beside something else.
    #[error("--trace-to: `none` stands alone, and other destinations are named beside it")]
    NoneBesideOthers,
    /// Application Insights without anything that leads there.
    #[error(
        "--trace-to appinsights: no connection string; set {CONNECTION_STRING} or give --connection-string-file FILE \
         (it stands on the Overview page of the Application Insights resource), or name the Foundry project: `project` in \
         [azure], or AZURE_AI_PROJECT_ENDPOINT"
    )]
    NoConnectionString,
    /// What the environment says of a project, and nothing else leads there.
    #[error("--trace-to appinsights: {0}")]
    Project(#[from] BadProject),
    /// A connection string that is none.
    #[error("{CONNECTION_STRING}: {0}")]
    ConnectionString(#[from] ConnectionStringError),
    /// Tokens are needed and cannot be had.
    #[error("--trace-to appinsights: {0}")]
    Identity(#[from] IdentityError),
    /// A value of the suite's `[trace]` table that cannot be used.
    #[error("[trace] {key}: {problem}")]
    Suite {
        /// The key.
        key: &'static str,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// One of the suite's `[[sinks]]`.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// What the suite says of destinations: the keys of its `[trace]` table that are about OTLP, and `[azure]`.
#[derive(Debug, Clone, Default)]
pub struct SuiteOtlp {
    /// Base address; the path of the signal is appended.
    pub endpoint: Option<String>,
    /// `grpc`, `http/protobuf` or `http/json`.
    pub protocol: Option<String>,
    /// Headers, as they are.
    pub headers: BTreeMap<String, String>,
    /// `gzip` or `none`.
    pub compression: Option<String>,
    /// How long a request may take.
    pub timeout: Option<Duration>,
    /// The variables with the key for the endpoint.
    pub auth: AuthEnv,
    /// Which of traces, logs and metrics go there; `None` for all.
    pub signals: Option<Vec<String>>,
    /// What telemetry says of its origin besides what it says by itself.
    pub resource: BTreeMap<String, String>,
    /// The backends that take scores.
    pub sinks: Vec<SinkSection>,
    /// The Foundry project, and who asks: of the suite and the environment.
    pub azure: AzurePlan,
}

/// One place to deliver to, with everything needed for it.
#[derive(Debug, Clone, PartialEq)]
pub enum DestinationConfig {
    /// An OTLP endpoint, or one for each signal.
    Otlp {
        /// For spans.
        traces: Option<OtlpSettings>,
        /// For log records.
        logs: Option<OtlpSettings>,
    },
    /// Standard output.
    Console {
        /// Whether spans are printed.
        traces: bool,
        /// Whether log records are printed.
        logs: bool,
    },
    /// A resource of Application Insights.
    AppInsights(InsightsSettings),
    /// A backend for scores.
    Sink(SinkConfig),
}

impl DestinationConfig {
    /// The name under which the outbox keeps its cursor.
    pub const fn name(&self) -> &str {
        match self {
            Self::Otlp { .. } => "otlp",
            Self::Console { .. } => "console",
            Self::AppInsights(_) => AppInsights::NAME,
            Self::Sink(sink) => sink.name.as_str(),
        }
    }

    /// Where it is, for people; `None` of what has no address of its own.
    pub fn address(&self) -> Option<String> {
        match self {
            Self::Otlp { traces, logs } => Some(traces.as_ref().or(logs.as_ref())?.address()),
            Self::Sink(sink) => Some(sink.address().to_owned()),
            Self::Console { .. } | Self::AppInsights(_) => None,
        }
    }

    /// Whether it takes this signal.
    pub const fn takes(&self, signal: Signal) -> bool {
        match (self, signal) {
            (Self::Otlp { traces, .. }, Signal::Traces) => traces.is_some(),
            (Self::Otlp { logs, .. }, Signal::Logs) => logs.is_some(),
            (Self::Console { traces, .. }, Signal::Traces) => *traces,
            (Self::Console { logs, .. }, Signal::Logs) => *logs,
            (Self::AppInsights(_), _) | (Self::Sink(_), Signal::Logs) => true,
            (Self::Sink(_), Signal::Traces) => false,
        }
    }
}

/// Where everything goes.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportPlan {
    /// Where spans and log records go.
    pub destinations: Vec<DestinationConfig>,
    /// Which traces of them.
    pub sampler: Sampler,
    /// What all telemetry of this process says of its origin.
    pub resource: Vec<(Key, Value)>,
    /// Where metrics go, if anywhere.
    pub metrics: Option<OtlpSettings>,
    /// What stands in the environment and was ignored.
    pub warnings: Vec<String>,
}

impl ExportPlan {
    /// Works out the plan. `trace_to` is the list given by the flag, `None` where the flag is absent.
    pub fn resolve(env: &Environment, suite: &SuiteOtlp, trace_to: Option<&[String]>) -> Result<Self, SettingsError> {
        let wanted = trace_to.map(flag_exporters).transpose()?;
        let mut reader = Reader::new(env, suite)?;
        let (resource, sampler) = (reader.resource(), reader.sampler());
        let exporters = reader.exporters(wanted);
        let otlp = |reader: &mut Reader<'_>, wanted: bool, signal| wanted.then(|| reader.otlp(signal));
        let traces = otlp(&mut reader, exporters.traces.otlp, OtlpSignal::Traces);
        let logs = otlp(&mut reader, exporters.logs.otlp, OtlpSignal::Logs);
        let metrics = otlp(&mut reader, exporters.metrics.otlp, OtlpSignal::Metrics);
        let mut destinations = Vec::new();
        SinkConfig::check_all(&suite.sinks)?;
        let sinks = if traces.is_some() {
            SinkConfig::resolve_all(&suite.sinks, env)?
        } else {
            // A choice that leaves OTLP out leaves the sinks out, too; that nobody chose may be an oversight.
            if trace_to.is_none() && reader.is_open_to_others() {
                reader.warnings.extend(suite.sinks.iter().map(without_spans));
            }
            Vec::new()
        };
        if traces.is_some() || logs.is_some() {
            destinations.push(DestinationConfig::Otlp { traces, logs });
        }
        if exporters.traces.console || exporters.logs.console {
            destinations
                .push(DestinationConfig::Console { traces: exporters.traces.console, logs: exporters.logs.console });
        }
        let insights = match trace_to {
            Some(names) => listed(names).any(|name| name == AppInsights::NAME),
            None => env.get(CONNECTION_STRING).is_some() && reader.is_open_to_others(),
        };
        if insights {
            let source = match env.get(CONNECTION_STRING) {
                Some(text) => InsightsSource::Connection(ConnectionString::parse(text)?),
                None => match suite.azure.project()? {
                    Some(project) => InsightsSource::Project(project.to_owned()),
                    None => return Err(SettingsError::NoConnectionString),
                },
            };
            let settings = InsightsSettings::new(source, suite.azure.clone(), env);
            if let Some(flaw) = settings.flaw() {
                return Err(flaw.clone().into());
            }
            destinations.push(DestinationConfig::AppInsights(settings));
        }
        destinations.extend(sinks.into_iter().map(DestinationConfig::Sink));
        Ok(Self { destinations, sampler, resource, metrics, warnings: reader.warnings })
    }

    /// The plan for destinations named one by one: those of `--trace-to`, and sinks of the suite.
    pub fn of(env: &Environment, suite: &SuiteOtlp, names: &[String]) -> Result<Self, SettingsError> {
        let mut all = Self::resolve(env, suite, Some(&["none".to_owned()]))?;
        let without_sinks = SuiteOtlp { sinks: Vec::new(), ..suite.clone() };
        for name in listed(names) {
            let plain = DESTINATIONS.contains(&name) && name != "none";
            let flag = [name.to_owned()];
            // A sink takes part where spans go over OTLP.
            let flag = if plain { flag } else { ["otlp".to_owned()] };
            let of_suite = Self::resolve(env, if plain { &without_sinks } else { suite }, Some(&flag))?;
            let found = of_suite.destinations.into_iter().find(|config| config.name() == name);
            let sinks = || suite.sinks.iter().map(SinkConfig::name_of);
            all.destinations.push(found.ok_or_else(|| {
                SettingsError::UnknownTarget {
                    found: name.to_owned(),
                    known: DESTINATIONS
                        .into_iter()
                        .filter(|name| *name != "none")
                        .chain(sinks())
                        .collect::<Vec<_>>()
                        .join(", "),
                }
            })?);
            all.warnings.extend(of_suite.warnings);
        }
        Ok(all)
    }

    /// Whether spans or log records go to standard output, so that the report has to go elsewhere.
    pub fn uses_console(&self) -> bool {
        self.destinations.iter().any(|config| matches!(config, DestinationConfig::Console { .. }))
    }
}

fn without_spans(sink: &SinkSection) -> String {
    format!(
        "[[sinks]] {}: no spans are sent over OTLP, and a backend takes scores only of spans that it has; ignored (set \
         [trace] otlp_endpoint or OTEL_EXPORTER_OTLP_ENDPOINT)",
        SinkConfig::name_of(sink)
    )
}

fn listed(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().flat_map(|name| name.split(',')).map(str::trim).filter(|name| !name.is_empty())
}

fn flag_exporters(names: &[String]) -> Result<Exporters, SettingsError> {
    let mut chosen = Exporters::default();
    let mut none = false;
    let mut others = false;
    for name in listed(names) {
        match name {
            AppInsights::NAME => others = true,
            "otlp" => chosen.otlp = true,
            "console" => chosen.console = true,
            "none" => none = true,
            other => return Err(SettingsError::UnknownDestination { found: other.to_owned() }),
        }
    }
    if none && (others || chosen != Exporters::default()) { Err(SettingsError::NoneBesideOthers) } else { Ok(chosen) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::endpoint::{Compression, Protocol};
    use crate::export::sampler::Rule;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn plan(pairs: &[(&str, &str)]) -> ExportPlan {
        ExportPlan::resolve(&env(pairs), &SuiteOtlp::default(), None).unwrap()
    }

    fn flagged(pairs: &[(&str, &str)], flag: &str) -> Result<ExportPlan, SettingsError> {
        ExportPlan::resolve(&env(pairs), &SuiteOtlp::default(), Some(&[flag.to_owned()]))
    }

    fn otlp(plan: &ExportPlan) -> (Option<&OtlpSettings>, Option<&OtlpSettings>) {
        plan.destinations
            .iter()
            .find_map(|config| match config {
                DestinationConfig::Otlp { traces, logs } => Some((traces.as_ref(), logs.as_ref())),
                _ => None,
            })
            .unwrap_or_default()
    }

    fn address(settings: Option<&OtlpSettings>) -> String {
        settings.map(|settings| settings.endpoint.to_string()).unwrap_or_default()
    }

    #[test]
    fn nothing_is_exported_without_an_endpoint() {
        let plan = plan(&[("OTEL_EXPORTER_OTLP_HEADERS", "a=b"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")]);
        assert!(plan.destinations.is_empty() && plan.metrics.is_none() && plan.warnings.is_empty());
    }

    #[test]
    fn an_endpoint_alone_switches_all_signals_on() {
        let plan = plan(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/")]);
        let (traces, logs) = otlp(&plan);
        assert_eq!(address(traces), "http://c:4318/v1/traces");
        assert_eq!(address(logs), "http://c:4318/v1/logs");
        assert_eq!(address(plan.metrics.as_ref()), "http://c:4318/v1/metrics");
        assert_eq!(traces.unwrap().protocol, Protocol::HttpProtobuf);
        assert_eq!(traces.unwrap().timeout, Duration::from_secs(10));
    }

    #[test]
    fn the_variables_of_a_signal_beat_the_shared_ones() {
        let plan = plan(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1/custom"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,b=2"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "c=3"),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "2500"),
            ("OTEL_METRICS_EXPORTER", "none"),
        ]);
        let (traces, logs) = otlp(&plan);
        let (traces, logs) = (traces.unwrap(), logs.unwrap());
        assert_eq!(traces.endpoint.as_str(), "http://t:1/custom");
        assert_eq!(traces.headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["c"]);
        assert_eq!(logs.endpoint.as_str(), "http://c:4318/");
        assert_eq!((logs.protocol, logs.headers.len()), (Protocol::Grpc, 2));
        assert_eq!((traces.compression, logs.compression), (Compression::Gzip, Compression::Gzip));
        assert_eq!((traces.timeout, logs.timeout), (Duration::from_secs(10), Duration::from_millis(2500)));
        assert_eq!(plan.metrics, None);
    }

    #[test]
    fn values_that_mean_nothing_warn_and_are_ignored() {
        let plan = plan(&[
            ("OTEL_TRACES_EXPORTER", "zipkin,console"),
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secretvalue"),
            ("OTEL_SDK_DISABLED", "yes"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b,secret"),
            ("OTEL_METRICS_EXPORTER", "console"),
        ]);
        assert_eq!(address(otlp(&plan).1), "http://localhost:4318/v1/logs");
        assert!(plan.uses_console());
        assert_eq!(plan.warnings.len(), 9, "{:#?}", plan.warnings);
        let all = plan.warnings.join("\n");
        assert!(
            all.contains("OTEL_TRACES_EXPORTER: unknown exporter `zipkin`; known are otlp, console, none; ignored")
        );
        assert!(!all.contains("secret"), "{all}");
    }

    #[test]
    fn the_flag_beats_the_environment() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        let console = flagged(&[endpoint, ("OTEL_SDK_DISABLED", "true")], "console").unwrap();
        assert_eq!(console.destinations, [DestinationConfig::Console { traces: true, logs: false }]);
        assert_eq!(console.metrics, None);
        let none = flagged(&[endpoint, ("OTEL_LOGS_EXPORTER", "console")], "none").unwrap();
        assert!(none.destinations.is_empty() && none.metrics.is_none());
        let both = flagged(&[], "otlp,console").unwrap();
        assert_eq!(both.destinations.len(), 2);
        assert_eq!(address(otlp(&both).1), "http://localhost:4318/v1/logs");
        let logs = flagged(&[("OTEL_LOGS_EXPORTER", "console")], "console").unwrap();
        assert_eq!(logs.destinations, [DestinationConfig::Console { traces: true, logs: true }]);
        let error = flagged(&[], "jaeger").unwrap_err();
        assert_eq!(
            error.to_string(),
            "--trace-to: unknown destination `jaeger`; known are otlp, console, appinsights, none"
        );
        assert_eq!(flagged(&[], "none,otlp"), Err(SettingsError::NoneBesideOthers));
    }

    #[test]
    fn application_insights_wants_a_connection_string() {
        let set = (CONNECTION_STRING, "InstrumentationKey=00000000-0000-0000-0000-000000000001");
        let names = |plan: &ExportPlan| plan.destinations.iter().map(|d| d.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&plan(&[set])), ["appinsights"]);
        assert_eq!(names(&flagged(&[set], "appinsights,console").unwrap()), ["console", "appinsights"]);
        for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert!(plan(&[set, off]).destinations.is_empty(), "{off:?}");
        }
        assert!(flagged(&[set], "none").unwrap().destinations.is_empty());
        assert!(names(&flagged(&[set], "console").unwrap()) == ["console"]);
        assert_eq!(flagged(&[], "appinsights"), Err(SettingsError::NoConnectionString));
        assert_eq!(flagged(&[set], "none,appinsights"), Err(SettingsError::NoneBesideOthers));
        let error = flagged(&[(CONNECTION_STRING, "canary")], "appinsights").unwrap_err().to_string();
        assert!(error.starts_with(CONNECTION_STRING) && !error.contains("canary"), "{error}");
    }

    #[test]
    fn the_sdk_can_be_switched_off() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        let plan = plan(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "console")]);
        assert!(plan.destinations.is_empty() && plan.metrics.is_none());
    }

    #[test]
    fn the_suite_stands_behind_the_environment() {
        let suite = SuiteOtlp {
            endpoint: Some("https://suite/otlp".into()),
            protocol: Some("http/json".into()),
            headers: [("x-key".to_owned(), "v".to_owned())].into(),
            compression: Some("gzip".into()),
            timeout: Some(Duration::from_secs(3)),
            ..SuiteOtlp::default()
        };
        let resolve = |pairs: &[_], suite: &SuiteOtlp| ExportPlan::resolve(&env(pairs), suite, None);
        let plan = resolve(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")], &suite).unwrap();
        let traces = otlp(&plan).0.unwrap();
        assert_eq!(traces.endpoint.as_str(), "https://suite/otlp/v1/traces");
        assert_eq!((traces.protocol, traces.compression), (Protocol::HttpJson, Compression::Gzip));
        assert_eq!((traces.headers["x-key"].to_str().unwrap(), traces.timeout), ("v", Duration::from_secs(1)));
        let error = resolve(&[], &SuiteOtlp { protocol: Some("soap".into()), ..suite }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "[trace] otlp_protocol: `soap` is no protocol; known are grpc, http/protobuf, http/json"
        );
    }

    #[test]
    fn the_suites_key_does_not_follow_the_environment_elsewhere() {
        let suite = SuiteOtlp {
            endpoint: Some("https://suite:4318".into()),
            headers: [("x-key".to_owned(), "v".to_owned()), ("x-mlflow-experiment-id".to_owned(), "7".to_owned())]
                .into(),
            auth: AuthEnv { bearer: Some("TEAM_KEY".into()), basic: None },
            ..SuiteOtlp::default()
        };
        let sent = |suite: &SuiteOtlp, more: &[(&str, &str)]| {
            let pairs: Vec<_> = [("TEAM_KEY", "canary")].into_iter().chain(more.iter().copied()).collect();
            let plan = ExportPlan::resolve(&env(&pairs), suite, None).unwrap();
            let mut names: Vec<_> = otlp(&plan).0.unwrap().headers.keys().map(ToString::to_string).collect();
            names.sort();
            (names.join(" "), plan.warnings)
        };
        let all = "authorization x-key x-mlflow-experiment-id";
        assert_eq!(sent(&suite, &[]), (all.into(), vec![]));
        let moved = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://elsewhere:4318");
        let (names, warnings) = sent(&suite, &[moved]);
        assert_eq!((names.as_str(), warnings.len()), ("x-mlflow-experiment-id", 1), "{warnings:?}");
        assert!(warnings[0].starts_with("OTEL_EXPORTER_OTLP_ENDPOINT names another server"), "{warnings:?}");
        assert_eq!(sent(&suite, &[moved, ("OTEL_EXPORTER_OTLP_HEADERS", "x-own=1")]), ("x-own".into(), vec![]));
        assert_eq!(sent(&suite, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://suite:4317")]).0, all);
        // Nor in the clear, nor to another program on this machine.
        let plain = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://suite:4318");
        assert_eq!(sent(&suite, &[plain]).0, "x-mlflow-experiment-id");
        let local = SuiteOtlp { endpoint: Some("http://localhost:3000/api".into()), ..suite.clone() };
        let collector = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
        assert_eq!(sent(&local, &[collector]).0, "x-mlflow-experiment-id");
        assert_eq!(sent(&local, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:3000")]).0, all);
        // Who names a key and no endpoint means the environment's.
        assert_eq!(sent(&SuiteOtlp { endpoint: None, ..suite }, &[moved]), (all.into(), vec![]));
    }

    #[test]
    fn an_address_in_the_environment_that_no_sink_can_use_stops_only_who_uses_sinks() {
        let sink = SinkSection { kind: Some("mlflow".into()), ..SinkSection::default() };
        let suite = SuiteOtlp { sinks: vec![sink], ..SuiteOtlp::default() };
        let set = env(&[("MLFLOW_TRACKING_URI", "databricks")]);
        let resolve = |to: Option<&str>| ExportPlan::resolve(&set, &suite, to.map(|to| vec![to.to_owned()]).as_deref());
        for to in [Some("none"), Some("console")] {
            assert!(resolve(to).unwrap().warnings.is_empty(), "{to:?}");
        }
        assert!(resolve(None).unwrap().warnings[0].starts_with("[[sinks]] mlflow: no spans are sent over OTLP"));
        assert!(resolve(Some("otlp")).unwrap_err().to_string().contains("MLFLOW_TRACKING_URI: it names Databricks"));
        let of = |to: &str| ExportPlan::of(&set, &suite, &[to.to_owned()]);
        assert_eq!(of("otlp").unwrap().destinations.len(), 1);
        assert!(of("mlflow").is_err());
        // What the suite itself says is looked at whoever uses it.
        let sink = SinkSection { kind: Some("mlfow".into()), ..SinkSection::default() };
        let wrong = SuiteOtlp { sinks: vec![sink], ..SuiteOtlp::default() };
        assert!(ExportPlan::resolve(&set, &wrong, Some(&["none".to_owned()])).is_err());
    }

    #[test]
    fn the_resource_names_the_service_first() {
        let show =
            |pairs: &[_]| plan(pairs).resource.iter().map(|(k, v)| format!("{k}={v:?}")).collect::<Vec<_>>().join(" ");
        let plain = show(&[]);
        assert!(plain.starts_with(r#"service.name=Str("spanscore") service.version="#), "{plain}");
        assert!(plain.contains(r#"telemetry.sdk.language=Str("rust") telemetry.sdk.name=Str("spanscore")"#), "{plain}");
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=from-attr,k=a%2Cb");
        assert!(show(&[attributes]).starts_with(r#"service.name=Str("from-attr")"#));
        let named = show(&[attributes, ("OTEL_SERVICE_NAME", "n")]);
        assert!(named.starts_with(r#"service.name=Str("n")"#) && named.ends_with(r#"k=Str("a,b")"#), "{named}");
    }

    #[test]
    fn samplers_are_understood() {
        let parent = ("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
        let sampler =
            |name, arg| plan(&[parent, ("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", arg)]).sampler;
        assert_eq!(sampler("traceidratio", "0.25"), Sampler { root: Rule::Ratio(0.25), parent: None });
        assert_eq!(sampler("always_off", "").root, Rule::AlwaysOff);
        let based = sampler("parentbased_traceidratio", "nonsense");
        assert_eq!(based.root, Rule::Ratio(1.0));
        assert_eq!(based.parent.map(|parent| parent.sampled), Some(false));
        assert_eq!(plan(&[parent]).sampler.parent, based.parent, "parentbased_always_on is the default");
    }
}
