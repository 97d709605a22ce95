//! `[workflow]`, resolved: which code is under test, and what belongs to that kind of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::plan::{PlanError, duration, missing, value, within};
use super::suite::{ModelSection, WorkflowSection};
use super::{Environment, RunFlags, Suite};

const KINDS: &str = "assess_claims_with_context, command or http";

/// The code under test.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkflowPlan {
    /// The workflow inside this program.
    AssessClaims,
    /// A program of the user's.
    Command(CommandPlan),
    /// An HTTP endpoint of the user's.
    Http(HttpPlan),
}

/// A program of the user's.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandPlan {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The folder that it runs in.
    pub folder: PathBuf,
    /// Variables to set.
    pub env: BTreeMap<String, String>,
    /// Processes at once.
    pub processes: usize,
    /// How often in a row it is started anew.
    pub restarts: u32,
    /// What both kinds have.
    pub shared: ApplicationPlan,
}

/// An HTTP endpoint of the user's.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpPlan {
    /// Where cases are posted.
    pub url: String,
    /// Headers of every request.
    pub headers: BTreeMap<String, String>,
    /// The bearer token, if the environment has one.
    pub token: Option<String>,
    /// What both kinds have.
    pub shared: ApplicationPlan,
}

/// What applications of the user's have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplicationPlan {
    /// What the user calls this version of it.
    pub version: Option<String>,
    /// How long it may take to send its last spans.
    pub grace: Duration,
    /// Where the run listens for its spans; port 0 takes a free one.
    pub otlp_listen: SocketAddr,
}

impl WorkflowPlan {
    /// The kind as the suite spells it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::AssessClaims => "assess_claims_with_context",
            Self::Command(_) => "command",
            Self::Http(_) => "http",
        }
    }

    /// What applications have in common; `None` for the workflow inside this program.
    pub const fn application(&self) -> Option<&ApplicationPlan> {
        match self {
            Self::AssessClaims => None,
            Self::Command(CommandPlan { shared, .. }) | Self::Http(HttpPlan { shared, .. }) => Some(shared),
        }
    }

    pub(super) fn resolve(suite: &Suite, env: &Environment, flags: &RunFlags) -> Result<Self, PlanError> {
        let section = &suite.workflow;
        let kind = section.kind.as_deref().unwrap_or("assess_claims_with_context");
        match kind {
            "assess_claims_with_context" => {
                refuse(kind, &[application_keys(section), command_keys(section), http_keys(section)].concat())?;
                Ok(Self::AssessClaims)
            }
            "command" => {
                refuse(kind, &[http_keys(section), own_keys(section)].concat())?;
                no_model(kind, suite, flags)?;
                command(suite).map(Self::Command)
            }
            "http" => {
                refuse(kind, &[command_keys(section), own_keys(section)].concat())?;
                no_model(kind, suite, flags)?;
                http(suite, env).map(Self::Http)
            }
            other => Err(value("[workflow] kind", other, KINDS)),
        }
    }
}

fn command(suite: &Suite) -> Result<CommandPlan, PlanError> {
    let section = &suite.workflow;
    let command = section.command.clone().unwrap_or_default();
    if command.first().is_none_or(|program| program.trim().is_empty()) {
        let hint = "set `command` in [workflow] to the program and its arguments, as in [\"python3\", \"app.py\"]";
        return Err(missing("the workflow's program", hint));
    }
    if let Some(bad) = section.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(value("[workflow] env", bad, "the name of an environment variable"));
    }
    let words = command.iter().chain(section.env.values());
    if let Some(bad) = words.into_iter().find(|word| word.contains('\0')) {
        return Err(value("[workflow] command", &bad.escape_default().to_string(), "words without a zero byte"));
    }
    let processes = section.processes.unwrap_or(1);
    within("[workflow] processes", u64::from(processes), 1, 256)?;
    Ok(CommandPlan {
        command,
        folder: section.cwd.as_deref().map_or_else(|| suite.folder(), |path| suite.resolve(path)),
        env: section.env.clone(),
        processes: processes as usize,
        restarts: section.restarts.unwrap_or(5),
        shared: application(section, Duration::from_secs(10))?,
    })
}

fn http(suite: &Suite, env: &Environment) -> Result<HttpPlan, PlanError> {
    let section = &suite.workflow;
    let Some(url) = section.url.clone() else {
        let hint = "set `url` in [workflow] to the address that cases are posted to";
        return Err(missing("the workflow's address", hint));
    };
    let token = match &section.token_env {
        None => None,
        Some(name) => match env.get(name) {
            Some(token) => Some(token.to_owned()),
            None => return Err(missing(name, "[workflow] token_env names it as the variable that holds the token")),
        },
    };
    // The default delay of batch span processors is 5 s: a server sends its last spans after that.
    let shared = application(section, Duration::from_secs(6))?;
    Ok(HttpPlan { url, headers: section.headers.clone(), token, shared })
}

fn application(section: &WorkflowSection, grace: Duration) -> Result<ApplicationPlan, PlanError> {
    let listen = section.otlp_listen.as_deref().unwrap_or("127.0.0.1:0");
    let otlp_listen = listen.parse::<SocketAddr>().ok().filter(|address| address.ip().is_loopback());
    let expected = "a loopback address with a port, such as 127.0.0.1:4318; port 0 takes a free one";
    Ok(ApplicationPlan {
        version: section.version.clone(),
        grace: duration("[workflow] grace", section.grace.as_ref())?.unwrap_or(grace),
        otlp_listen: otlp_listen.ok_or_else(|| value("[workflow] otlp_listen", listen, expected))?,
    })
}

/// Keys that mean something to the workflow inside this program only.
fn own_keys(section: &WorkflowSection) -> Vec<&'static str> {
    section.prompt.is_some().then_some("prompt").into_iter().collect()
}

fn application_keys(section: &WorkflowSection) -> Vec<&'static str> {
    let set = [
        ("version", section.version.is_some()),
        ("grace", section.grace.is_some()),
        ("otlp_listen", section.otlp_listen.is_some()),
    ];
    set.into_iter().filter_map(|(key, set)| set.then_some(key)).collect()
}

fn command_keys(section: &WorkflowSection) -> Vec<&'static str> {
    let set = [
        ("command", section.command.is_some()),
        ("processes", section.processes.is_some()),
        ("env", !section.env.is_empty()),
        ("cwd", section.cwd.is_some()),
        ("restarts", section.restarts.is_some()),
    ];
    set.into_iter().filter_map(|(key, set)| set.then_some(key)).collect()
}

fn http_keys(section: &WorkflowSection) -> Vec<&'static str> {
    let set = [
        ("url", section.url.is_some()),
        ("headers", !section.headers.is_empty()),
        ("token_env", section.token_env.is_some()),
    ];
    set.into_iter().filter_map(|(key, set)| set.then_some(key)).collect()
}

/// A key that would be ignored is a misunderstanding.
fn refuse(kind: &str, keys: &[&'static str]) -> Result<(), PlanError> {
    match keys.first() {
        None => Ok(()),
        Some(key) => Err(PlanError::Meaningless {
            place: format!("[workflow] {key}"),
            kind: kind.to_owned(),
            hint: format!("take it out, or set another kind ({KINDS})"),
        }),
    }
}

/// An application asks its own model; whatever says how to ask one would be ignored.
fn no_model(kind: &str, suite: &Suite, flags: &RunFlags) -> Result<(), PlanError> {
    let flags = [
        ("--provider", flags.provider.is_some()),
        ("--model", !flags.models.is_empty()),
        ("--base-url", flags.base_url.is_some()),
        ("--replay", flags.replay.is_some()),
        ("--cache", flags.cache.is_some()),
    ];
    let meaningless =
        |place: String, hint: &str| Err(PlanError::Meaningless { place, kind: kind.to_owned(), hint: hint.to_owned() });
    if let Some((flag, _)) = flags.into_iter().find(|(_, given)| *given) {
        return meaningless(
            flag.to_owned(),
            "the application asks its own model; tell it in [workflow] env or its own settings",
        );
    }
    if suite.run.cache.is_some() {
        return meaningless("[run] cache".to_owned(), "the application's answers are not cached; take it out");
    }
    let [section] = suite.model.0.as_slice() else {
        return match suite.model.0.len() {
            0 => Ok(()),
            _ => meaningless(
                "a second [[model]]".to_owned(),
                "the application asks its own model; keep one, for its name",
            ),
        };
    };
    // Only these two say something about an application's model: what lists call it, and what its tokens cost.
    let ModelSection { name: _, price: _, ref provider, .. } = *section;
    let plain = ModelSection { name: section.name.clone(), price: section.price, ..ModelSection::default() };
    if provider.is_some() || *section != plain {
        let hint = "the application asks its own model; keep `name` and `price` at most, for lists and costs";
        return meaningless("[model]".to_owned(), hint);
    }
    Ok(())
}
