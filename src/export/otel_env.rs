//! OpenTelemetry's environment variables and the suite's values behind them, one question at a time. Which of them a plan
//! needs is left to [`super::settings`].

use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap};
use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::auth::AuthEnv;
use super::endpoint::{Compression, OtlpSettings, PLACES, Protocol, below_base, header, parse_endpoint, parse_headers};
use super::sampler::{ParentDecision, Rule, Sampler};
use super::settings::{SettingsError, SuiteOtlp};
use crate::config::env::Environment;
use crate::model::{Key, Value};
use crate::net::is_key_for;
use crate::trace::semconv;

/// The exporters chosen for one signal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Exporters {
    pub(super) otlp: bool,
    pub(super) console: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ExportersBySignal {
    pub(super) traces: Exporters,
    pub(super) logs: Exporters,
    pub(super) metrics: Exporters,
}

/// The signals that have variables of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OtlpSignal {
    Traces,
    Logs,
    Metrics,
}

impl OtlpSignal {
    const ALL: [Self; 3] = [Self::Traces, Self::Logs, Self::Metrics];

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
    /// Which signals go to the suite's endpoint; all of them where nothing is said.
    signals: Option<Vec<OtlpSignal>>,
    resource: Vec<(String, String)>,
    /// The variables with the key, which is among the headers.
    auth: AuthEnv,
    /// What is wrong with the key.
    warning: Option<String>,
}

impl Suite {
    fn read(env: &Environment, suite: &SuiteOtlp) -> Result<Self, SettingsError> {
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
        let key = if suite.auth.bearer.is_some() { "otlp_bearer_env" } else { "otlp_basic_env" };
        let warning = match suite.auth.header(env) {
            Ok(value) => {
                headers.extend(value.map(|value| (AUTHORIZATION, value)));
                None
            }
            Err(error) => Some(format!("[trace] {key}: {error}; requests are sent without a key")),
        };
        let signal = |name: &String| {
            let known = OtlpSignal::ALL.into_iter().find(|signal| signal.lower() == name);
            let known_names = OtlpSignal::ALL.map(OtlpSignal::lower).join(", ");
            known.ok_or_else(|| bad("otlp_signals", format!("`{name}` is no signal; known are {known_names}")))
        };
        let signals = suite.signals.as_ref().map(|names| names.iter().map(signal).collect()).transpose()?;
        Ok(Self {
            endpoint: endpoint.map_err(|problem| bad("otlp_endpoint", problem))?,
            protocol: suite.protocol.as_deref().map(protocol).transpose()?,
            headers,
            compression: suite.compression.as_deref().map(compression).transpose()?,
            timeout: suite.timeout,
            signals,
            resource: suite.resource.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            auth: suite.auth.clone(),
            warning,
        })
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(env: &'a Environment, suite: &SuiteOtlp) -> Result<Self, SettingsError> {
        Ok(Self { env, suite: Suite::read(env, suite)?, warnings: Vec::new() })
    }

    fn warn(&mut self, variable: &str, problem: &str) {
        let warning = format!("{variable}: {problem}; ignored");
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Which exporters each signal uses. Without a word from anybody that is OTLP where an endpoint is set.
    pub(super) fn exporters(&mut self, flag: Option<Exporters>) -> ExportersBySignal {
        let disabled = self.disabled();
        if flag == Some(Exporters::default()) || flag.is_none() && disabled {
            return ExportersBySignal::default();
        }
        let logs_are_sent = self.suite_sends(OtlpSignal::Logs);
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
        let asked = flag.is_some_and(|flag| flag.otlp) && logs_are_sent;
        let by_flag = Exporters { otlp: asked || by_endpoint.otlp, console: false };
        let logs = named.unwrap_or(by_flag);
        let (named, by_endpoint) = choose(OtlpSignal::Metrics);
        let metrics = named.unwrap_or(by_endpoint);
        ExportersBySignal { traces, logs, metrics }
    }

    /// Whether the environment leaves other exporters than its own their way: the SDK is not switched off, and traces are
    /// not sent nowhere on purpose.
    pub(super) fn is_open_to_others(&mut self) -> bool {
        !self.disabled() && self.env.get("OTEL_TRACES_EXPORTER").is_none_or(|names| names.trim() != "none")
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
        let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.upper());
        let shared = self.env_endpoint(signal, Protocol::default()).is_some() || self.suite.endpoint.is_some();
        shared && (self.suite_sends(signal) || self.env.get(&own).is_some())
    }

    /// Whether the suite leaves a signal its way. Spans always go where an endpoint is named; backends of traces have no
    /// route for the others.
    fn suite_sends(&self, signal: OtlpSignal) -> bool {
        self.suite.signals.as_ref().is_none_or(|signals| signals.contains(&signal))
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

    /// The headers that the environment names for a signal: its own variable replaces the shared one.
    pub(super) fn env_headers(&mut self, signal: OtlpSignal) -> Option<HeaderMap> {
        let (variable, text) = self.own_or_shared(signal, "HEADERS")?;
        Some(parse_headers(text, |problem| self.warn(&variable, &problem)))
    }

    /// The suite's headers and its key, for whoever sends them `to` this address. They belong to the suite's endpoint; without
    /// one, to the endpoint of the environment, and where that names none either, to `otherwise`. The environment may
    /// lead elsewhere, but only headers that are no secrets go along.
    pub(super) fn suite_headers(
        &mut self,
        signal: OtlpSignal,
        to: &Url,
        otherwise: Option<&Url>,
    ) -> (HeaderMap, AuthEnv) {
        let named = self.env_endpoint(signal, Protocol::default()).is_some();
        let owner = self.suite.endpoint.as_ref().or(if named { Some(to) } else { otherwise });
        if owner.is_some_and(|owner| is_key_for(owner, to)) {
            let warning = self.suite.warning.take();
            self.warnings.extend(warning);
            return (self.suite.headers.clone(), self.suite.auth.clone());
        }
        let mut headers = self.suite.headers.clone();
        let withheld = headers.keys().any(|name| !PLACES.contains(&name.as_str()));
        if let (true, Some((variable, _))) = (named && withheld, self.own_or_shared(signal, "ENDPOINT")) {
            let warning = format!(
                "{variable} names another server than the suite's otlp_endpoint, or the same without https: the suite's \
                 headers and key are not sent there; set OTEL_EXPORTER_OTLP_HEADERS if it wants any"
            );
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        let places =
            PLACES.into_iter().filter_map(|name| Some((http::HeaderName::from_static(name), headers.remove(name)?)));
        (places.collect(), AuthEnv::default())
    }

    pub(super) fn otlp(&mut self, signal: OtlpSignal) -> OtlpSettings {
        let protocol = self.env_protocol(signal).or(self.suite.protocol).unwrap_or_default();
        let endpoint = self.env_endpoint(signal, protocol).unwrap_or_else(|| {
            let base = self.suite.endpoint.clone().unwrap_or_else(|| {
                Url::parse(protocol.default_endpoint()).expect("the default addresses are addresses")
            });
            below_base(base, protocol, signal.lower())
        });
        let (headers, auth) = match self.env_headers(signal) {
            Some(headers) => (headers, AuthEnv::default()),
            None => self.suite_headers(signal, &endpoint, Some(&endpoint)),
        };
        let mut settings = OtlpSettings::new(endpoint, protocol, headers);
        settings.auth = auth;
        settings.compression = self.env_compression(signal).or(self.suite.compression).unwrap_or_default();
        settings.timeout = self.env_timeout(signal).or(self.suite.timeout).unwrap_or(OtlpSettings::DEFAULT_TIMEOUT);
        settings
    }

    pub(super) fn sampler(&mut self) -> Sampler {
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
    pub(super) fn resource(&mut self) -> Vec<(Key, Value)> {
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
        for (key, value) in std::mem::take(&mut self.suite.resource) {
            put(key, value);
        }
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
