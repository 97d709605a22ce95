//! `doctor` on `[[sinks]]`: is the backend there, does it take the key, does it know the project, and do spans go where
//! scores go?

use super::{Args, Checks, Status};
use crate::export::ExportPlan;
use crate::export::endpoint::Protocol;
use crate::export::settings::DestinationConfig;
use crate::export::sinks::{Finding, Sink, SinkConfig, SinkKind};
use crate::model::Value;
use crate::net::is_same_server;
use crate::trace::semconv::OPENINFERENCE_PROJECT_NAME;

/// The header that says where `MLflow` keeps spans.
const EXPERIMENT: &str = "x-mlflow-experiment-id";

/// Looks at each sink of the plan. Nothing is written there.
pub(super) async fn check(args: &Args, export: &ExportPlan, checks: &mut Checks) {
    for config in &export.destinations {
        let DestinationConfig::Sink(config) = config else { continue };
        let name = format!("sink {}", config.name);
        settings(config, export, &name, checks);
        if let Some(variable) = config.overruled {
            let message = format!("{variable} names another server; scores go to {}", config.address());
            let hint = "fine if that is meant; to use the variable, leave `url` out of [[sinks]]";
            checks.add(&name, Status::Warn, message, Some(hint.to_owned()));
        }
        // Where the sink names no experiment, it is the one that spans go to.
        let mut config = config.clone();
        if config.kind == SinkKind::Mlflow && config.project.is_none() {
            config.project = experiment(export);
        }
        let Some(sink) = checks.keep(&name, Sink::new(&config).map_err(Into::into)) else { continue };
        if args.offline {
            checks.ok(&name, "set up; not asked");
            continue;
        }
        match sink.look().await {
            Finding::Fine(what) => checks.ok(&name, format!("{} knows {what}", config.address())),
            Finding::Note(what) => checks.add(&name, Status::Warn, what, None),
            Finding::Problem(what, hint) => checks.add(&name, Status::Fail, what, Some(hint)),
        }
    }
}

/// The experiment of `MLflow` that spans are sent to.
fn experiment(export: &ExportPlan) -> Option<String> {
    export.destinations.iter().find_map(|destination| match destination {
        DestinationConfig::Otlp { traces: Some(traces), .. } => {
            Some(traces.headers.get(EXPERIMENT)?.to_str().ok()?.to_owned())
        }
        _ => None,
    })
}

/// What of the OTLP settings does not go with the backend.
fn settings(config: &SinkConfig, export: &ExportPlan, name: &str, checks: &mut Checks) {
    let otlp = export.destinations.iter().find_map(|destination| match destination {
        DestinationConfig::Otlp { traces: Some(traces), logs } => Some((traces, logs.is_some())),
        _ => None,
    });
    let Some((traces, sends_logs)) = otlp else { return };
    let mut warn = |message: String, hint: &str| checks.add(name, Status::Warn, message, Some(hint.to_owned()));
    // Behind a collector everything is different, and fine.
    if !is_same_server(&traces.endpoint, &config.url) {
        let message = format!("spans go to {}, scores to {}", traces.address(), config.address());
        return warn(
            message,
            "fine if the first passes spans on to the second; correct [trace] otlp_endpoint or `url` if not",
        );
    }
    let title = config.kind.title();
    if config.kind == SinkKind::Phoenix && traces.protocol == Protocol::HttpJson {
        warn(format!("{title} refuses OTLP as JSON"), "set otlp_protocol = \"http/protobuf\" in [trace]");
    }
    if config.kind == SinkKind::Mlflow {
        let hint = "set otlp_headers = { x-mlflow-experiment-id = \"0\" } in [trace], with the id of yours";
        let is_id = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        match (experiment(export), &config.project) {
            (None, _) => warn(format!("{title} wants spans with the id of an experiment"), hint),
            (Some(id), _) if !is_id(&id) => {
                warn(format!("{EXPERIMENT} is `{id}`, and {title} takes no names there, only ids"), hint);
            }
            // A name may be that of the same experiment.
            (Some(id), Some(wanted)) if is_id(wanted) && id != *wanted => {
                let hint = "let `project` in [[sinks]] and x-mlflow-experiment-id in [trace] otlp_headers say the same";
                warn(format!("spans go to experiment {id}, and the sink says {wanted}"), hint);
            }
            _ => {}
        }
    }
    if sends_logs || export.metrics.is_some() {
        let hint = "set otlp_signals = [\"traces\"] in [trace]";
        warn(format!("log records or metrics are sent to {title}, which takes only traces"), hint);
    }
    if let (SinkKind::Phoenix, Some(wanted)) = (config.kind, &config.project) {
        let said = export.resource.iter().find(|(key, _)| *key == OPENINFERENCE_PROJECT_NAME).map(|(_, value)| value);
        let said = match said {
            Some(Value::Str(said)) => said.as_ref(),
            _ => "default",
        };
        if said != wanted.as_str() {
            let hint = "let `project` in [[sinks]] and openinference.project.name in [trace] resource say the same";
            warn(format!("spans go to project `{said}`, and the sink says `{wanted}`"), hint);
        }
    }
}
