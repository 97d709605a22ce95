//! Where telemetry goes, read from OpenTelemetry's environment variables, the suite and the flags; the SDK for Rust
//! leaves several of the variables unread.
//!
//! Precedence: flag, environment, suite, built-in default. A value that makes no sense is an error where the user wrote
//! it for this program, and a warning where it stands in the environment, which many programs share. Connecting is left
//! to [`super::otlp`].

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::HeaderMap;
use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::destination::Signal;
use super::endpoint::{Compression, OtlpSettings, Protocol, below_base, header, parse_endpoint, parse_headers};
use super::sampler::{ParentDecision, Rule, Sampler};
use crate::config::env::Environment;
use crate::model::{Key, Value};
use crate::trace::semconv;

/// The names that `--trace-to` knows.
pub const DESTINATIONS: [&str; 3] = ["otlp", "console", "none"];

/// Why the flags or the suite say nothing that can be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A name that `--trace-to` does not know.
    #[error("--trace-to: unknown destination `{found}`; known are {}", DESTINATIONS.join(", "))]
    UnknownDestination {
        /// What was given.
        found: String,
    },
    /// `none` beside something else.
    #[error("--trace-to: `none` stands alone, and other destinations are named beside it")]
    NoneBesideOthers,
    /// A value of the suite's `[trace]` table that cannot be used.
    #[error("[trace] {key}: {problem}")]
    Suite {
        /// The key.
        key: &'static str,
        /// What is wrong and what was expected.
        problem: String,
    },
}

/// The keys of the suite's `[trace]` table that are about OTLP.
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
}

impl DestinationConfig {
    /// The name under which the outbox keeps its cursor.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Otlp { .. } => "otlp",
            Self::Console { .. } => "console",
        }
    }

    /// Whether it takes this signal.
    pub const fn takes(&self, signal: Signal) -> bool {
        match (self, signal) {
            (Self::Otlp { traces, .. }, Signal::Traces) => traces.is_some(),
            (Self::Otlp { logs, .. }, Signal::Logs) => logs.is_some(),
            (Self::Console { traces, .. }, Signal::Traces) => *traces,
            (Self::Console { logs, .. }, Signal::Logs) => *logs,
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
        if traces.is_some() || logs.is_some() {
            destinations.push(DestinationConfig::Otlp { traces, logs });
        }
        if exporters.traces.console || exporters.logs.console {
            destinations
                .push(DestinationConfig::Console { traces: exporters.traces.console, logs: exporters.logs.console });
        }
        Ok(Self { destinations, sampler, resource, metrics, warnings: reader.warnings })
    }

    /// Whether spans or log records go to standard output, so that the report has to go elsewhere.
    pub fn uses_console(&self) -> bool {
        self.destinations.iter().any(|config| matches!(config, DestinationConfig::Console { .. }))
    }
}

/// The exporters chosen for one signal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Exporters {
    otlp: bool,
    console: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct ExportersBySignal {
    traces: Exporters,
    logs: Exporters,
    metrics: Exporters,
}

fn flag_exporters(names: &[String]) -> Result<Exporters, SettingsError> {
    let mut chosen = Exporters::default();
    let mut none = false;
    for name in names.iter().flat_map(|name| name.split(',')).map(str::trim).filter(|name| !name.is_empty()) {
        match name {
            "otlp" => chosen.otlp = true,
            "console" => chosen.console = true,
            "none" => none = true,
            other => return Err(SettingsError::UnknownDestination { found: other.to_owned() }),
        }
    }
    if none && chosen != Exporters::default() { Err(SettingsError::NoneBesideOthers) } else { Ok(chosen) }
}

/// The signals that have variables of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OtlpSignal {
    Traces,
    Logs,
    Metrics,
}

impl OtlpSignal {
    /// As it stands in the names of variables.
    const fn upper(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Logs => "LOGS",
            Self::Metrics => "METRICS",
        }
    }

    /// As it stands in paths.
    const fn lower(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

/// Reads the variables and collects what is wrong with them.
pub(super) struct Reader<'a> {
    env: &'a Environment,
    suite: Suite,
    pub(super) warnings: Vec<String>,
}

/// The suite's values, understood.
#[derive(Default)]
struct Suite {
    endpoint: Option<Url>,
    protocol: Option<Protocol>,
    headers: HeaderMap,
    compression: Option<Compression>,
    timeout: Option<Duration>,
}

impl Suite {
    fn read(suite: &SuiteOtlp) -> Result<Self, SettingsError> {
        let bad = |key, problem| SettingsError::Suite { key, problem };
        let endpoint = suite.endpoint.as_deref().map(|text| parse_endpoint(text, false)).transpose();
        let protocol = |name: &str| {
            let known = Protocol::ALL.map(Protocol::as_str).join(", ");
            Protocol::from_name(name)
                .ok_or_else(|| bad("otlp_protocol", format!("`{name}` is no protocol; known are {known}")))
        };
        let compression = |name: &str| {
            Compression::from_name(name)
                .ok_or_else(|| bad("otlp_compression", format!("`{name}` is no compression; known are gzip, none")))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &suite.headers {
            let (name, value) = header(name, value.as_bytes())
                .ok_or_else(|| bad("otlp_headers", format!("`{name}` or its value cannot stand in an HTTP header")))?;
            headers.insert(name, value);
        }
        Ok(Self {
            endpoint: endpoint.map_err(|problem| bad("otlp_endpoint", problem))?,
            protocol: suite.protocol.as_deref().map(protocol).transpose()?,
            headers,
            compression: suite.compression.as_deref().map(compression).transpose()?,
            timeout: suite.timeout,
        })
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(env: &'a Environment, suite: &SuiteOtlp) -> Result<Self, SettingsError> {
        Ok(Self { env, suite: Suite::read(suite)?, warnings: Vec::new() })
    }

    fn warn(&mut self, variable: &str, problem: &str) {
        let warning = format!("{variable}: {problem}; ignored");
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Which exporters each signal uses. Without a word from anybody that is OTLP where an endpoint is set.
    fn exporters(&mut self, flag: Option<Exporters>) -> ExportersBySignal {
        let disabled = self.disabled();
        if flag == Some(Exporters::default()) || flag.is_none() && disabled {
            return ExportersBySignal::default();
        }
        let mut choose = |signal| {
            let named = self.named_exporters(signal).filter(|_| !disabled);
            // Who chooses destinations by flag and leaves OTLP out does not want it for the other signals either.
            let by_endpoint = flag.is_none_or(|flag| flag.otlp) && self.has_endpoint(signal);
            (named, Exporters { otlp: by_endpoint, console: false })
        };
        let (named, by_endpoint) = choose(OtlpSignal::Traces);
        let traces = flag.or(named).unwrap_or(by_endpoint);
        // Log records repeat the scores for who reads no spans: whoever asks for OTLP by flag gets both.
        let (named, by_endpoint) = choose(OtlpSignal::Logs);
        let by_flag = Exporters { otlp: flag.is_some_and(|flag| flag.otlp) || by_endpoint.otlp, console: false };
        let logs = named.unwrap_or(by_flag);
        let (named, by_endpoint) = choose(OtlpSignal::Metrics);
        let metrics = named.unwrap_or(by_endpoint);
        ExportersBySignal { traces, logs, metrics }
    }

    fn disabled(&mut self) -> bool {
        match self.env.get("OTEL_SDK_DISABLED") {
            Some(text) if text.eq_ignore_ascii_case("true") => true,
            Some(text) if !text.eq_ignore_ascii_case("false") => {
                self.warn("OTEL_SDK_DISABLED", &format!("`{text}` is neither true nor false"));
                false
            }
            _ => false,
        }
    }

    /// The exporters that `OTEL_…_EXPORTER` names; `None` where it names none that is known.
    fn named_exporters(&mut self, signal: OtlpSignal) -> Option<Exporters> {
        let variable = format!("OTEL_{}_EXPORTER", signal.upper());
        let mut chosen = None;
        for name in self.env.get(&variable)?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let so_far = chosen.unwrap_or_default();
            match name {
                "otlp" => chosen = Some(Exporters { otlp: true, ..so_far }),
                "console" if signal == OtlpSignal::Metrics => {
                    self.warn(&variable, "metrics are sent over OTLP only, not to the console");
                }
                "console" => chosen = Some(Exporters { console: true, ..so_far }),
                "none" => chosen = Some(so_far),
                other => self.warn(&variable, &format!("unknown exporter `{other}`; known are otlp, console, none")),
            }
        }
        chosen
    }

    fn has_endpoint(&mut self, signal: OtlpSignal) -> bool {
        self.env_endpoint(signal, Protocol::default()).is_some() || self.suite.endpoint.is_some()
    }

    /// The address that the environment gives for a signal.
    pub(super) fn env_endpoint(&mut self, signal: OtlpSignal, protocol: Protocol) -> Option<Url> {
        let insecure =
            self.own_or_shared(signal, "INSECURE").is_some_and(|(_, text)| text.eq_ignore_ascii_case("true"));
        let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.upper());
        if let Some(url) = self.endpoint_in(&own, insecure) {
            return Some(url);
        }
        let base = self.endpoint_in("OTEL_EXPORTER_OTLP_ENDPOINT", insecure)?;
        Some(below_base(base, protocol, signal.lower()))
    }

    fn endpoint_in(&mut self, variable: &str, insecure: bool) -> Option<Url> {
        match parse_endpoint(self.env.get(variable)?, insecure) {
            Ok(url) => Some(url),
            Err(problem) => {
                self.warn(variable, &format!("not an address: {problem}"));
                None
            }
        }
    }

    /// The value of `OTEL_EXPORTER_OTLP_{signal}_{what}`, else of `OTEL_EXPORTER_OTLP_{what}`, with the variable's name.
    fn own_or_shared(&self, signal: OtlpSignal, what: &str) -> Option<(String, &'a str)> {
        [format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.upper()), format!("OTEL_EXPORTER_OTLP_{what}")]
            .into_iter()
            .find_map(|variable| self.env.get(&variable).map(|text| (variable, text)))
    }

    /// As [`Self::own_or_shared`], understood by `parse`; a value that means nothing counts as absent.
    fn understood<T>(
        &mut self,
        signal: OtlpSignal,
        what: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        for variable in [format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.upper()), format!("OTEL_EXPORTER_OTLP_{what}")]
        {
            let Some(text) = self.env.get(&variable) else { continue };
            match parse(text.trim()) {
                Some(value) => return Some(value),
                None => self.warn(&variable, &format!("`{text}` is not {expected}")),
            }
        }
        None
    }

    pub(super) fn env_protocol(&mut self, signal: OtlpSignal) -> Option<Protocol> {
        self.understood(signal, "PROTOCOL", "one of grpc, http/protobuf, http/json", Protocol::from_name)
    }

    pub(super) fn env_compression(&mut self, signal: OtlpSignal) -> Option<Compression> {
        self.understood(signal, "COMPRESSION", "one of gzip, none", Compression::from_name)
    }

    pub(super) fn env_timeout(&mut self, signal: OtlpSignal) -> Option<Duration> {
        self.understood(signal, "TIMEOUT", "a positive number of milliseconds", |text| {
            text.parse().ok().filter(|ms| *ms > 0).map(Duration::from_millis)
        })
    }

    /// The headers of a signal: its own variable replaces the shared one, and either replaces the suite's.
    pub(super) fn headers(&mut self, signal: OtlpSignal) -> HeaderMap {
        let Some((variable, text)) = self.own_or_shared(signal, "HEADERS") else { return self.suite.headers.clone() };
        parse_headers(text, |problem| self.warn(&variable, &problem))
    }

    fn otlp(&mut self, signal: OtlpSignal) -> OtlpSettings {
        let protocol = self.env_protocol(signal).or(self.suite.protocol).unwrap_or_default();
        let endpoint = self.env_endpoint(signal, protocol).unwrap_or_else(|| {
            let base = self.suite.endpoint.clone().unwrap_or_else(|| {
                Url::parse(protocol.default_endpoint()).expect("the default addresses are addresses")
            });
            below_base(base, protocol, signal.lower())
        });
        let mut settings = OtlpSettings::new(endpoint, protocol, self.headers(signal));
        settings.compression = self.env_compression(signal).or(self.suite.compression).unwrap_or_default();
        settings.timeout = self.env_timeout(signal).or(self.suite.timeout).unwrap_or(OtlpSettings::DEFAULT_TIMEOUT);
        settings
    }

    fn sampler(&mut self) -> Sampler {
        const NAMES: &str = "always_on, always_off, traceidratio and these with `parentbased_` before them";
        let parent = self.env.get("TRACEPARENT").and_then(ParentDecision::from_traceparent);
        let default = Sampler { root: Rule::AlwaysOn, parent };
        let Some(name) = self.env.get("OTEL_TRACES_SAMPLER") else { return default };
        let (rule, heeds_parent) = match name.strip_prefix("parentbased_") {
            Some(rule) => (rule, true),
            None => (name, false),
        };
        let root = match rule {
            "always_on" => Rule::AlwaysOn,
            "always_off" => Rule::AlwaysOff,
            "traceidratio" => Rule::Ratio(self.ratio()),
            _ => {
                self.warn("OTEL_TRACES_SAMPLER", &format!("unknown sampler `{name}`; known are {NAMES}"));
                return default;
            }
        };
        Sampler { root, parent: parent.filter(|_| heeds_parent) }
    }

    fn ratio(&mut self) -> f64 {
        let Some(text) = self.env.get("OTEL_TRACES_SAMPLER_ARG") else { return 1.0 };
        match text.trim().parse() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
            _ => {
                self.warn("OTEL_TRACES_SAMPLER_ARG", &format!("`{text}` is not a number from 0 to 1"));
                1.0
            }
        }
    }

    /// The name first, then what made the telemetry, then what the environment adds, in its order.
    fn resource(&mut self) -> Vec<(Key, Value)> {
        const VERSION: &str = env!("CARGO_PKG_VERSION");
        let mut resource: Vec<(Key, Value)> = vec![
            (semconv::SERVICE_NAME.into(), Value::from(env!("CARGO_PKG_NAME"))),
            (semconv::SERVICE_VERSION.into(), Value::from(VERSION)),
            (semconv::TELEMETRY_SDK_LANGUAGE.into(), Value::from("rust")),
            (semconv::TELEMETRY_SDK_NAME.into(), Value::from(env!("CARGO_PKG_NAME"))),
            (semconv::TELEMETRY_SDK_VERSION.into(), Value::from(VERSION)),
        ];
        let mut put = |key: String, value: String| match resource.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = Value::from(value),
            None => resource.push((key.into(), Value::from(value))),
        };
        let text = self.env.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        for (i, entry) in text.split(',').enumerate().filter(|(_, entry)| !entry.trim().is_empty()) {
            let decode =
                |text: &str| percent_decode_str(text.trim()).decode_utf8().map(std::borrow::Cow::into_owned).ok();
            let pair = entry.split_once('=').and_then(|(key, value)| Some((decode(key)?, decode(value)?)));
            match pair.filter(|(key, _)| !key.is_empty()) {
                Some((key, value)) => put(key, value),
                None => self.warn("OTEL_RESOURCE_ATTRIBUTES", &format!("entry {} is not `key=value`", i + 1)),
            }
        }
        if let Some(name) = self.env.get("OTEL_SERVICE_NAME") {
            put(semconv::SERVICE_NAME.to_owned(), name.to_owned());
        }
        resource
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                DestinationConfig::Console { .. } => None,
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
        assert_eq!(error.to_string(), "--trace-to: unknown destination `jaeger`; known are otlp, console, none");
        assert_eq!(flagged(&[], "none,otlp"), Err(SettingsError::NoneBesideOthers));
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
