//! Where a sink is, and whether the key in the backend's own variables is meant for that server. Reading keys is left to
//! [`super::config`].
//!
//! What the suite says of a sink wins, as an argument wins over the environment in the backends' own clients: there may be
//! several sinks of a kind, each with its own address and key, and the environment knows one address for all of them.

use reqwest::Url;

use super::super::endpoint::parse_endpoint;
use super::config::SinkKind;
use crate::config::env::Environment;
use crate::net::{is_key_for, is_loopback};

/// The databases that `MLFLOW_TRACKING_URI` may name, as `MLflow` spells them.
const DATABASES: [&str; 4] = ["sqlite", "postgresql", "mysql", "mssql"];

/// The variables with an address that the backend's own clients read, the first that is set wins.
const fn variables(kind: SinkKind) -> &'static [&'static str] {
    match kind {
        SinkKind::Phoenix => &["PHOENIX_COLLECTOR_ENDPOINT"],
        SinkKind::Langfuse => &["LANGFUSE_BASE_URL", "LANGFUSE_HOST"],
        SinkKind::Mlflow => &["MLFLOW_TRACKING_URI"],
    }
}

/// Where the backend listens on this machine when it is started without options.
const fn usual(kind: SinkKind) -> Option<&'static str> {
    match kind {
        SinkKind::Phoenix => Some("http://localhost:6006"),
        SinkKind::Langfuse => None,
        SinkKind::Mlflow => Some("http://localhost:5000"),
    }
}

/// The address of a sink: what is `said` of it, else the environment's, else the usual one. The error never repeats an
/// address, for it may hold a password.
pub(super) fn address(kind: SinkKind, said: Option<&str>, env: &Environment) -> Result<Url, String> {
    if let Some(text) = said {
        return parse(text).map_err(|problem| format!("`url`: {problem}"));
    }
    match named(kind, env) {
        Some((variable, Named::Server(text))) => parse(text).map_err(|problem| format!("{variable}: {problem}")),
        Some((variable, Named::Databricks)) => Err(format!(
            "{variable}: it names Databricks, whose MLflow is not supported; set `url` to an MLflow server, or unset \
             {variable}"
        )),
        Some((_, Named::NoServer)) | None => match usual(kind) {
            Some(text) => parse(text),
            None => {
                let variable = variables(kind)[0];
                Err(format!("`url` is not set; set it, or {variable}, such as https://cloud.langfuse.com"))
            }
        },
    }
}

/// The variable that names another server than this one, or one that cannot be made out, if one does: keys without a word of
/// the suite are for that server.
pub(super) fn named_elsewhere(kind: SinkKind, url: &Url, env: &Environment) -> Option<&'static str> {
    let (variable, named) = named(kind, env)?;
    let is_here = match named {
        Named::Server(text) => parse_endpoint(text, true).is_ok_and(|owner| is_key_for(&owner, url)),
        Named::NoServer => true,
        Named::Databricks => false,
    };
    (!is_here).then_some(variable)
}

/// What an address of the environment names.
enum Named<'a> {
    Server(&'a str),
    /// A database or a folder, which only `MLflow`'s own client can use.
    NoServer,
    Databricks,
}

fn named(kind: SinkKind, env: &Environment) -> Option<(&'static str, Named<'_>)> {
    let (variable, text) = variables(kind).iter().find_map(|variable| Some((*variable, env.get(variable)?.trim())))?;
    if kind != SinkKind::Mlflow {
        return Some((variable, Named::Server(text)));
    }
    let lower = text.to_ascii_lowercase();
    let scheme = lower.split_once("://").map(|(scheme, _)| scheme);
    let is_path =
        lower.starts_with(['/', '.', '~', '\\']) || lower.get(1..3).is_some_and(|two| two == ":\\" || two == ":/");
    let is_database = scheme.is_some_and(|scheme| DATABASES.contains(&scheme.split('+').next().unwrap_or_default()));
    let named = if matches!(lower.split(':').next(), Some("databricks" | "databricks-uc" | "uc")) {
        Named::Databricks
    } else if is_database || is_path || lower.starts_with("file:") || !lower.contains(':') {
        Named::NoServer
    } else {
        Named::Server(text)
    };
    Some((variable, named))
}

/// An address with its scheme, without which only this machine can be meant.
fn parse(text: &str) -> Result<Url, String> {
    let url = parse_endpoint(text, true)?;
    if text.contains("://") || is_loopback(&url) {
        return Ok(url);
    }
    Err("it does not say how to reach the server; write http:// or https:// before it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(variable: &str, text: &str) -> Environment {
        [(variable.to_owned(), text.to_owned())].into_iter().collect()
    }

    #[test]
    fn an_address_of_the_environment_that_is_none_is_said() {
        let phoenix = |text| address(SinkKind::Phoenix, None, &env("PHOENIX_COLLECTOR_ENDPOINT", text));
        assert_eq!(phoenix("localhost:6006").unwrap().as_str(), "http://localhost:6006/");
        for text in ["canary:6006", "canary", "user:canary@host"] {
            let error = phoenix(text).unwrap_err();
            assert_eq!(
                error,
                "PHOENIX_COLLECTOR_ENDPOINT: it does not say how to reach the server; write http:// or https:// before it"
            );
        }
        assert_eq!(
            phoenix("grpc://canary:4317").unwrap_err(),
            "PHOENIX_COLLECTOR_ENDPOINT: the scheme is `grpc`, expected http or https"
        );
        let error = address(SinkKind::Phoenix, Some("phoenix:6006"), &Environment::default()).unwrap_err();
        assert!(error.starts_with("`url`: it does not say"), "{error}");
    }

    #[test]
    fn only_what_is_a_database_or_a_folder_is_passed_over() {
        let mlflow = |text| address(SinkKind::Mlflow, None, &env("MLFLOW_TRACKING_URI", text));
        let local = "http://localhost:5000/";
        for text in [
            "sqlite:///m.db",
            "postgresql+psycopg2://u:p@h/db",
            "MySQL://u:p@h/db",
            "file:///srv/mlruns",
            "file:mlruns",
            "/srv/mlruns",
            "./mlruns",
            "mlruns",
            "C:\\mlruns",
        ] {
            assert_eq!(mlflow(text).unwrap().as_str(), local, "{text}");
        }
        for text in ["databricks", "databricks://profile", "databricks-uc", "uc:http://h"] {
            let error = mlflow(text).unwrap_err();
            assert!(error.contains("Databricks, whose MLflow is not supported; set `url`"), "{error}");
        }
        for text in ["mlflow:5000", "ftp://h"] {
            assert!(mlflow(text).unwrap_err().starts_with("MLFLOW_TRACKING_URI: "), "{text}");
        }
        assert_eq!(mlflow(" https://h/base ").unwrap().as_str(), "https://h/base");
        let said = address(SinkKind::Mlflow, Some("http://own:1"), &env("MLFLOW_TRACKING_URI", "databricks"));
        assert_eq!(said.unwrap().as_str(), "http://own:1/", "what the suite says needs nothing else");
    }
}
