//! What a sink is configured as: the suite's `[[sinks]]`, with addresses and keys of the environment variables that each
//! backend's own clients read.

use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::super::auth::{AuthEnv, AuthError};
use super::super::endpoint::{OtlpSettings, Protocol, parse_endpoint};
use crate::config::env::Environment;
use crate::config::suite::SinkSection;

/// Names that other destinations have.
const TAKEN: [&str; 4] = ["otlp", "console", "appinsights", "none"];

/// Why a sink cannot be used as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("[[sinks]] {name}: {problem}")]
pub struct SinkError {
    /// The sink, as far as it has a name.
    pub name: String,
    /// What is wrong, what was expected, what to do.
    pub problem: String,
}

/// The backends that keep scores as scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    /// Arize Phoenix: span annotations.
    Phoenix,
    /// Langfuse: scores.
    Langfuse,
    /// `MLflow`: assessments.
    Mlflow,
}

impl SinkKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Phoenix, Self::Langfuse, Self::Mlflow];

    /// As suites spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Phoenix => "phoenix",
            Self::Langfuse => "langfuse",
            Self::Mlflow => "mlflow",
        }
    }

    /// As its makers spell it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Phoenix => "Phoenix",
            Self::Langfuse => "Langfuse",
            Self::Mlflow => "MLflow",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The variables with an address that the backend's own clients read, the first that is set wins.
    const fn url_variables(self) -> &'static [&'static str] {
        match self {
            Self::Phoenix => &["PHOENIX_COLLECTOR_ENDPOINT"],
            Self::Langfuse => &["LANGFUSE_BASE_URL", "LANGFUSE_HOST"],
            Self::Mlflow => &["MLFLOW_TRACKING_URI"],
        }
    }

    /// Where it listens on this machine when it is started without options.
    const fn default_url(self) -> Option<&'static str> {
        match self {
            Self::Phoenix => Some("http://localhost:6006"),
            Self::Langfuse => None,
            Self::Mlflow => Some("http://localhost:5000"),
        }
    }

    /// The variables with the key that the backend's own clients read. Phoenix and `MLflow` run without any, too.
    fn auth(self, env: &Environment) -> AuthEnv {
        let bearer = |name: &str| AuthEnv { bearer: Some(name.to_owned()), basic: None };
        let basic =
            |user: &str, password: &str| AuthEnv { bearer: None, basic: Some([user.to_owned(), password.to_owned()]) };
        match self {
            Self::Phoenix if env.get("PHOENIX_API_KEY").is_some() => bearer("PHOENIX_API_KEY"),
            Self::Langfuse => basic("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"),
            Self::Mlflow if env.get("MLFLOW_TRACKING_TOKEN").is_some() => bearer("MLFLOW_TRACKING_TOKEN"),
            Self::Mlflow if env.get("MLFLOW_TRACKING_USERNAME").is_some() => {
                basic("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
            }
            Self::Phoenix | Self::Mlflow => AuthEnv::default(),
        }
    }
}

/// One backend that scores are pushed to.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkConfig {
    /// What it is.
    pub kind: SinkKind,
    /// The name under which the outbox keeps its cursor and counts.
    pub name: String,
    /// Where it is; routes are appended.
    pub url: Url,
    /// The project or experiment that spans go to, where the suite says so; for `doctor`.
    pub project: Option<String>,
    /// Where the key comes from.
    pub auth: AuthEnv,
    /// What to send along; its values are hidden in debug output.
    pub headers: HeaderMap,
    /// The key that is missing.
    pub missing: Option<AuthError>,
    /// How long a request may take.
    pub timeout: Duration,
}

impl SinkConfig {
    /// How long a request may take unless the suite says otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

    /// The sinks of a suite; the environment wins over the suite's address.
    pub fn resolve_all(sections: &[SinkSection], env: &Environment) -> Result<Vec<Self>, SinkError> {
        let mut sinks: Vec<Self> = Vec::new();
        for section in sections {
            let sink = Self::resolve(section, env)?;
            if sinks.iter().any(|known| known.name == sink.name) {
                let problem = "two sinks have this name; give one of them another with `name = \"…\"`".to_owned();
                return Err(SinkError { name: sink.name, problem });
            }
            sinks.push(sink);
        }
        Ok(sinks)
    }

    fn resolve(section: &SinkSection, env: &Environment) -> Result<Self, SinkError> {
        let known = SinkKind::ALL.map(SinkKind::as_str).join(", ");
        let said = section.name.clone().or(section.kind.clone()).unwrap_or_else(|| "without a name".to_owned());
        let bad = |problem: String| SinkError { name: said.clone(), problem };
        let kind = section.kind.as_deref().ok_or_else(|| bad(format!("`kind` is not set; known are {known}")))?;
        let kind = SinkKind::parse(kind).ok_or_else(|| bad(format!("unknown kind `{kind}`; known are {known}")))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if said.is_empty() || !said.chars().all(plain) {
            return Err(bad("a name consists of letters, digits, `-`, `_` and `.`".to_owned()));
        }
        if TAKEN.contains(&said.as_str()) {
            return Err(bad(format!("`{said}` is the name of another destination; choose a different one")));
        }
        let timeout = match section.timeout.as_deref().map(humantime::parse_duration) {
            None => Self::DEFAULT_TIMEOUT,
            Some(Ok(timeout)) if !timeout.is_zero() => timeout,
            Some(_) => return Err(bad("`timeout`: expected a duration such as 10s".to_owned())),
        };
        let own = AuthEnv { bearer: section.bearer_env.clone(), basic: section.basic_env.clone() };
        let auth = if own.is_empty() { kind.auth(env) } else { own };
        let parts = Parts { kind, name: &said, url: section.url.as_deref(), project: section.project.clone() };
        Self::make(parts, auth, timeout, env)
    }

    fn make(parts: Parts<'_>, auth: AuthEnv, timeout: Duration, env: &Environment) -> Result<Self, SinkError> {
        let Parts { kind, name, url, project } = parts;
        let bad = |problem: String| SinkError { name: name.to_owned(), problem };
        let variables = kind.url_variables();
        // MLflow's may name a database or a folder, which is no server.
        let is_web = |text: &&str| text.starts_with("http://") || text.starts_with("https://");
        let set = variables.iter().find_map(|variable| Some((*variable, env.get(variable).filter(is_web)?)));
        let (place, text) = match (set, url, kind.default_url()) {
            (Some((variable, text)), ..) => (variable, text),
            (None, Some(text), _) | (None, None, Some(text)) => ("`url`", text),
            (None, None, None) => {
                let hint = format!("set it, or {}, such as https://cloud.langfuse.com", variables[0]);
                return Err(bad(format!("`url` is not set; {hint}")));
            }
        };
        let url = parse_endpoint(text, false).map_err(|problem| bad(format!("{place}: {problem}")))?;
        let mut headers = HeaderMap::new();
        let missing = match auth.header(env) {
            Ok(Some(value)) => {
                headers.insert(AUTHORIZATION, value);
                None
            }
            Ok(None) => None,
            Err(missing) => Some(missing),
        };
        // Credentials in the address move to a header.
        let OtlpSettings { endpoint: mut url, headers, .. } = OtlpSettings::new(url, Protocol::HttpProtobuf, headers);
        let missing = missing.filter(|_| !headers.contains_key(AUTHORIZATION));
        url.set_query(None);
        url.set_fragment(None);
        let path = url.path().trim_end_matches('/');
        let path = ["/v1/traces", "/api/public/otel"].iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path);
        let path = path.to_owned();
        url.set_path(&path);
        Ok(Self { kind, name: name.to_owned(), url, project, auth, headers, missing, timeout })
    }

    /// The address for people.
    pub fn address(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}

struct Parts<'a> {
    kind: SinkKind,
    name: &'a str,
    url: Option<&'a str>,
    project: Option<String>,
}

/// A sink as the outbox remembers it: everything but keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkSnapshot {
    /// What it is.
    pub kind: SinkKind,
    /// The name under which its cursor is kept.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// The project or experiment, where the suite said so.
    pub project: Option<String>,
    /// Where the key comes from.
    pub auth: AuthEnv,
    /// How long a request may take, in milliseconds.
    pub timeout_ms: u64,
}

impl SinkSnapshot {
    /// What is kept of a sink.
    pub fn new(config: &SinkConfig) -> Self {
        Self {
            kind: config.kind,
            name: config.name.clone(),
            url: config.url.to_string(),
            project: config.project.clone(),
            auth: config.auth.clone(),
            timeout_ms: config.timeout.as_millis() as u64,
        }
    }

    /// The sink to push to now; the environment's address wins over the one kept, and the key comes from it again.
    pub fn restore(&self, env: &Environment) -> Result<SinkConfig, SinkError> {
        let parts = Parts { kind: self.kind, name: &self.name, url: Some(&self.url), project: self.project.clone() };
        // Nobody had to name a variable for a backend that asks for no key; it may ask for one by now.
        let auth = if self.auth.is_empty() { self.kind.auth(env) } else { self.auth.clone() };
        SinkConfig::make(parts, auth, Duration::from_millis(self.timeout_ms.max(1)), env)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn section(kind: &str) -> SinkSection {
        SinkSection { kind: Some(kind.to_owned()), ..SinkSection::default() }
    }

    fn resolve(section: &SinkSection, pairs: &[(&str, &str)]) -> Result<SinkConfig, String> {
        SinkConfig::resolve(section, &env(pairs)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_kind_alone_is_enough_where_the_backend_has_a_usual_place() {
        let phoenix = resolve(&section("phoenix"), &[]).unwrap();
        assert_eq!((phoenix.name.as_str(), phoenix.address()), ("phoenix", "http://localhost:6006"));
        assert!(phoenix.headers.is_empty() && phoenix.missing.is_none());
        assert_eq!(resolve(&section("mlflow"), &[]).unwrap().address(), "http://localhost:5000");
        let error = resolve(&section("langfuse"), &[]).unwrap_err();
        assert_eq!(
            error,
            "[[sinks]] langfuse: `url` is not set; set it, or LANGFUSE_BASE_URL, such as https://cloud.langfuse.com"
        );
    }

    #[test]
    fn the_environment_of_the_backends_clients_is_read() {
        let set = [("PHOENIX_COLLECTOR_ENDPOINT", "https://p/s/me/v1/traces"), ("PHOENIX_API_KEY", "k")];
        let phoenix = resolve(&section("phoenix"), &set).unwrap();
        assert_eq!(
            (phoenix.address(), phoenix.headers[AUTHORIZATION].to_str().unwrap()),
            ("https://p/s/me", "Bearer k")
        );
        let set = [("LANGFUSE_HOST", "https://l/"), ("LANGFUSE_PUBLIC_KEY", "a")];
        let langfuse = resolve(&section("langfuse"), &set).unwrap();
        assert_eq!(langfuse.missing, Some(AuthError::Unset("LANGFUSE_SECRET_KEY".into())));
        // A database is no server.
        let mlflow = resolve(&section("mlflow"), &[("MLFLOW_TRACKING_URI", "sqlite:///m.db")]).unwrap();
        assert_eq!(mlflow.address(), "http://localhost:5000");
    }

    #[test]
    fn what_makes_no_sense_is_said_with_the_sinks_name() {
        let check = |section: SinkSection, expected: &str| {
            let error = resolve(&section, &[]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(
            SinkSection::default(),
            "[[sinks]] without a name: `kind` is not set; known are phoenix, langfuse, mlflow",
        );
        check(section("phenix"), "unknown kind `phenix`");
        check(SinkSection { name: Some("otlp".into()), ..section("phoenix") }, "another destination");
        check(SinkSection { name: Some("a b".into()), ..section("phoenix") }, "letters, digits");
        check(SinkSection { timeout: Some("0s".into()), ..section("phoenix") }, "`timeout`");
        check(SinkSection { url: Some("ftp://canary@h".into()), ..section("phoenix") }, "expected http or https");
        let twice = SinkConfig::resolve_all(&[section("phoenix"), section("phoenix")], &env(&[])).unwrap_err();
        assert!(twice.to_string().contains("two sinks have this name"), "{twice}");
    }

    #[test]
    fn what_the_outbox_keeps_has_no_key_and_comes_back() {
        let mut with_password = section("mlflow");
        with_password.url = Some("http://user:canary@m:1/base/?key=canary".into());
        with_password.bearer_env = Some("MY_TOKEN".into());
        let set = [("MY_TOKEN", "canary")];
        let config = resolve(&with_password, &set).unwrap();
        assert!(!format!("{config:?}").contains("canary"), "{config:?}");
        let kept = SinkSnapshot::new(&config);
        let text = serde_json::to_string(&kept).unwrap();
        assert!(!text.contains("canary") && text.contains("MY_TOKEN"), "{text}");
        assert_eq!(kept.restore(&env(&set)).unwrap(), config);
        let moved = kept.restore(&env(&[("MLFLOW_TRACKING_URI", "http://new:2")])).unwrap();
        assert_eq!(moved.address(), "http://new:2");
        assert_eq!(moved.missing, Some(AuthError::Unset("MY_TOKEN".into())));
    }
}
