//! What a sink is configured as: the suite's `[[sinks]]`, and behind it the environment variables that each backend's own
//! clients read. Whose address and whose key these are is said by `place`.

use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::super::auth::AuthEnv;
use super::super::endpoint::{OtlpSettings, Protocol};
use super::place;
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

impl SinkError {
    fn new(name: &str, problem: impl Into<String>) -> Self {
        Self { name: name.to_owned(), problem: problem.into() }
    }
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

    /// The variables with the key, for messages.
    const fn keys(self) -> &'static str {
        match self {
            Self::Phoenix => "PHOENIX_API_KEY",
            Self::Langfuse => "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY",
            Self::Mlflow => "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and _PASSWORD",
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
    /// Whether the suite says so. If not, these are the variables that the backend's own clients read.
    pub is_own_key: bool,
    /// What to send along; its values are hidden in debug output.
    pub headers: HeaderMap,
    /// Why there is no key although the backend wants one, and what to do.
    pub missing: Option<String>,
    /// The variable that names another server than this one. A key that the suite does not name is for that server and is
    /// not sent to this one.
    pub overruled: Option<&'static str>,
    /// How long a request may take.
    pub timeout: Duration,
}

impl SinkConfig {
    /// How long a request may take unless the suite says otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

    /// What a sink goes by, as far as the suite says so.
    pub fn name_of(section: &SinkSection) -> &str {
        section.name.as_deref().or(section.kind.as_deref()).unwrap_or("without a name")
    }

    /// Looks whether what a suite says of sinks makes sense, whatever the environment says.
    pub fn check_all(sections: &[SinkSection]) -> Result<(), SinkError> {
        for (place, section) in sections.iter().enumerate() {
            let (Parts { kind, name, url, .. }, _) = Parts::read(section)?;
            if url.is_some() {
                place::address(kind, url, &Environment::default()).map_err(|problem| SinkError::new(name, problem))?;
            }
            let before = sections.iter().take(place).map(Self::name_of);
            if before.into_iter().any(|known| known == name) {
                let problem = "two sinks have this name; give one of them another with `name = \"…\"`";
                return Err(SinkError::new(name, problem));
            }
        }
        Ok(())
    }

    /// The sinks of a suite; its addresses win over the environment's.
    pub fn resolve_all(sections: &[SinkSection], env: &Environment) -> Result<Vec<Self>, SinkError> {
        Self::check_all(sections)?;
        let mut sinks: Vec<Self> = Vec::new();
        for section in sections {
            let sink = Self::resolve(section, env)?;
            if let Some(same) = sinks.iter().find(|known| known.is_same_place(&sink)) {
                let problem = format!(
                    "it is the same {} as `{}`, at {} and with the same key; give each its own `url`, or leave one of them \
                     out",
                    sink.kind.title(),
                    same.name,
                    sink.address()
                );
                return Err(SinkError::new(&sink.name, problem));
            }
            sinks.push(sink);
        }
        Ok(sinks)
    }

    fn resolve(section: &SinkSection, env: &Environment) -> Result<Self, SinkError> {
        let (parts, timeout) = Parts::read(section)?;
        Self::make(parts, timeout, env)
    }

    fn make(parts: Parts<'_>, timeout: Duration, env: &Environment) -> Result<Self, SinkError> {
        let Parts { kind, name, url, project, own } = parts;
        let url = place::address(kind, url, env).map_err(|problem| SinkError::new(name, problem))?;
        let overruled = place::named_elsewhere(kind, &url, env);
        let is_own_key = !own.is_empty();
        let (auth, found) = match overruled {
            _ if is_own_key => {
                let found = own.header(env).map_err(|error| format!("{error}; set {}", own.names()));
                (own, found)
            }
            None => {
                let auth = kind.auth(env);
                let found = auth.header(env).map_err(|error| format!("{error}; set {}", auth.names()));
                (auth, found)
            }
            // The key beside that address is for that server. Some need none, and say so if they do.
            Some(variable) if kind == SinkKind::Langfuse => (AuthEnv::default(), Err(whose_key(kind, variable))),
            Some(_) => (AuthEnv::default(), Ok(None)),
        };
        let mut headers = HeaderMap::new();
        let missing = match found {
            Ok(value) => {
                headers.extend(value.map(|value| (AUTHORIZATION, value)));
                None
            }
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
        Ok(Self { kind, name: name.to_owned(), url, project, auth, is_own_key, headers, missing, overruled, timeout })
    }

    /// What to do about a key that the backend wants and did not get, or does not take.
    pub(super) fn key_hint(&self) -> String {
        let names = self.auth.names();
        match self.overruled {
            _ if !names.is_empty() => format!("check {names}"),
            _ if !self.headers.is_empty() => "check user and password in `url`".to_owned(),
            Some(variable) => whose_key(self.kind, variable),
            None => format!("no key was sent; set {}", self.kind.keys()),
        }
    }

    fn is_same_place(&self, other: &Self) -> bool {
        (self.kind, &self.url, &self.auth, &self.headers) == (other.kind, &other.url, &other.auth, &other.headers)
    }

    /// The address for people.
    pub fn address(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}

/// Why a key was left out.
fn whose_key(kind: SinkKind, variable: &str) -> String {
    let hint = if kind == SinkKind::Langfuse { "basic_env" } else { "bearer_env" };
    format!(
        "no key was sent: {} is for the server in {variable}, which is another one; name this one's key with `{hint}` in \
         [[sinks]], or unset {variable}",
        kind.keys()
    )
}

struct Parts<'a> {
    kind: SinkKind,
    name: &'a str,
    url: Option<&'a str>,
    project: Option<String>,
    /// The variables with the key that the suite names.
    own: AuthEnv,
}

impl<'a> Parts<'a> {
    /// What the suite says, with the time that a request may take.
    fn read(section: &'a SinkSection) -> Result<(Self, Duration), SinkError> {
        let known = SinkKind::ALL.map(SinkKind::as_str).join(", ");
        let said = SinkConfig::name_of(section);
        let bad = |problem: String| SinkError::new(said, problem);
        let kind = section.kind.as_deref().ok_or_else(|| bad(format!("`kind` is not set; known are {known}")))?;
        let kind = SinkKind::parse(kind).ok_or_else(|| bad(format!("unknown kind `{kind}`; known are {known}")))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if said.is_empty() || !said.chars().all(plain) {
            return Err(bad("a name consists of letters, digits, `-`, `_` and `.`".to_owned()));
        }
        if TAKEN.contains(&said) {
            return Err(bad(format!("`{said}` is the name of another destination; choose a different one")));
        }
        let timeout = match section.timeout.as_deref().map(humantime::parse_duration) {
            None => SinkConfig::DEFAULT_TIMEOUT,
            Some(Ok(timeout)) if !timeout.is_zero() => timeout,
            Some(_) => return Err(bad("`timeout`: expected a duration such as 10s".to_owned())),
        };
        let own = AuthEnv { bearer: section.bearer_env.clone(), basic: section.basic_env.clone() };
        Ok((Self { kind, name: said, url: section.url.as_deref(), project: section.project.clone(), own }, timeout))
    }
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
    /// Where the key comes from, where the suite said so.
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
            auth: if config.is_own_key { config.auth.clone() } else { AuthEnv::default() },
            timeout_ms: config.timeout.as_millis() as u64,
        }
    }

    /// The sink to push to now: where the run was given it, for the run's key must go nowhere else. The key comes from the
    /// environment again.
    pub fn restore(&self, env: &Environment) -> Result<SinkConfig, SinkError> {
        let (kind, name, url, project) = (self.kind, self.name.as_str(), Some(self.url.as_str()), self.project.clone());
        let parts = Parts { kind, name, url, project, own: self.auth.clone() };
        SinkConfig::make(parts, Duration::from_millis(self.timeout_ms.max(1)), env)
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
        assert!(langfuse.missing.unwrap().starts_with("LANGFUSE_SECRET_KEY is not set; set"));
    }

    fn at(kind: &str, url: &str) -> SinkSection {
        SinkSection { url: Some(url.to_owned()), ..section(kind) }
    }

    fn key(config: &SinkConfig) -> Option<&str> {
        config.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn a_key_goes_to_no_other_server_than_its_own() {
        let set =
            [("PHOENIX_COLLECTOR_ENDPOINT", "https://prod"), ("PHOENIX_API_KEY", "prod-key"), ("TEAM_KEY", "team-key")];
        // An address in the suite wins, and so does its key.
        let team = SinkSection { bearer_env: Some("TEAM_KEY".into()), ..at("phoenix", "https://team") };
        let team = resolve(&team, &set).unwrap();
        assert_eq!((team.address(), key(&team)), ("https://team", Some("Bearer team-key")));
        // The key beside the environment's address is for that.
        let open = resolve(&at("phoenix", "https://open"), &set).unwrap();
        assert_eq!((open.address(), key(&open), &open.missing), ("https://open", None, &None));
        assert_eq!(
            open.key_hint(),
            "no key was sent: PHOENIX_API_KEY is for the server in PHOENIX_COLLECTOR_ENDPOINT, which is another one; name \
             this one's key with `bearer_env` in [[sinks]], or unset PHOENIX_COLLECTOR_ENDPOINT"
        );
        let same = resolve(&at("phoenix", "https://prod/v1/traces"), &set).unwrap();
        assert_eq!((key(&same), same.overruled), (Some("Bearer prod-key"), None));
        assert_eq!(key(&resolve(&at("phoenix", "https://open"), &set[1..]).unwrap()), Some("Bearer prod-key"));
        // Who names a key and no address means the environment's.
        let moved = SinkSection { bearer_env: Some("TEAM_KEY".into()), ..section("phoenix") };
        assert_eq!(key(&resolve(&moved, &set).unwrap()), Some("Bearer team-key"));
        let set =
            [("LANGFUSE_BASE_URL", "https://us"), ("LANGFUSE_PUBLIC_KEY", "canary"), ("LANGFUSE_SECRET_KEY", "canary")];
        let langfuse = resolve(&at("langfuse", "https://eu"), &set).unwrap();
        assert_eq!((langfuse.address(), key(&langfuse)), ("https://eu", None));
        assert!(langfuse.missing.unwrap().contains("is for the server in LANGFUSE_BASE_URL"));
    }

    #[test]
    fn a_key_beside_an_address_that_is_no_mlflow_or_phoenix_server_stays_there() {
        let check = |kind: &str, variable: &str, text: &str, url: &str, sent: bool| {
            let name = if kind == "mlflow" { "MLFLOW_TRACKING_TOKEN" } else { "PHOENIX_API_KEY" };
            let sink = resolve(&at(kind, url), &[(variable, text), (name, "canary")]).unwrap();
            assert_eq!((key(&sink).is_some(), sink.overruled.is_none()), (sent, sent), "{text} {url}");
        };
        for text in ["databricks", "databricks://profile", "databricks-uc", "uc:https://h", "https://", "ftp://h"] {
            check("mlflow", "MLFLOW_TRACKING_URI", text, "https://h", false);
        }
        for text in ["sqlite:///m.db", "./mlruns", "https://h/base", "h:443"] {
            check("mlflow", "MLFLOW_TRACKING_URI", text, "https://h", true);
        }
        for (text, url, sent) in [
            ("grpc://prod:4317", "https://team", false),
            ("https://prod:8080", "http://prod:8080", false),
            ("http://prod:4317", "http://prod:6006", true),
            ("http://localhost:4317", "http://localhost:6006", false),
            ("localhost:6006", "http://127.0.0.1:6006", true),
        ] {
            check("phoenix", "PHOENIX_COLLECTOR_ENDPOINT", text, url, sent);
        }
    }

    #[test]
    fn sinks_of_one_kind_stay_apart_whatever_the_environment_says() {
        let environment = env(&[("MLFLOW_TRACKING_URI", "http://c"), ("A", "a"), ("B", "b")]);
        let sink = |name: &str, url: Option<&str>, key: &str| SinkSection {
            name: Some(name.to_owned()),
            url: url.map(str::to_owned),
            bearer_env: Some(key.to_owned()),
            ..section("mlflow")
        };
        let sections = [sink("one", Some("http://a"), "A"), sink("two", Some("http://b"), "B")];
        let sinks = SinkConfig::resolve_all(&sections, &environment).unwrap();
        let sent: Vec<_> = sinks.iter().map(|sink| (sink.address(), key(sink))).collect();
        assert_eq!(sent, [("http://a", Some("Bearer a")), ("http://b", Some("Bearer b"))]);
        let error = SinkConfig::resolve_all(&[sink("one", None, "A"), sink("two", None, "A")], &environment);
        assert_eq!(
            error.unwrap_err().to_string(),
            "[[sinks]] two: it is the same MLflow as `one`, at http://c and with the same key; give each its own `url`, or \
             leave one of them out"
        );
        // Two projects of one Langfuse have two keys.
        SinkConfig::resolve_all(&[sink("one", None, "A"), sink("two", None, "B")], &environment).unwrap();
    }

    #[test]
    fn what_a_run_left_goes_where_the_run_sent_it() {
        let first = env(&[("PHOENIX_COLLECTOR_ENDPOINT", "https://first"), ("PHOENIX_API_KEY", "first-key")]);
        let second = env(&[("PHOENIX_COLLECTOR_ENDPOINT", "https://second"), ("PHOENIX_API_KEY", "second-key")]);
        let kept = SinkSnapshot::new(&SinkConfig::resolve(&section("phoenix"), &first).unwrap());
        let same = kept.restore(&first).unwrap();
        assert_eq!((same.address(), key(&same)), ("https://first", Some("Bearer first-key")));
        let other = kept.restore(&second).unwrap();
        assert_eq!((other.address(), key(&other)), ("https://first", None), "the second's key stays with the second");
        // Nobody had to name a key for a backend that asked for none; it may ask for one by now.
        let plain = SinkSnapshot::new(&resolve(&at("phoenix", "http://p"), &[]).unwrap());
        assert_eq!(key(&plain.restore(&env(&[("PHOENIX_API_KEY", "k")])).unwrap()), Some("Bearer k"));
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
        let without = kept.restore(&env(&[("MLFLOW_TRACKING_URI", "http://new:2")])).unwrap();
        assert_eq!(without.address(), "http://m:1/base");
        assert_eq!(without.missing.unwrap(), "MY_TOKEN is not set; set MY_TOKEN");
    }
}
