//! What a suite says so that its traces and scores reach one of the known backends: `spanscore init --backend NAME`
//! writes it. The texts are all that is known of a backend's OTLP settings; its routes for scores are left to `export`.

use super::REFERENCE;

/// A backend that a suite can be written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend {
    /// As `--backend` spells it.
    pub name: &'static str,
    /// The keys of `[trace]`, with comments.
    trace: &'static str,
    /// The `[[sinks]]` table, where it keeps scores as scores.
    sink: Option<&'static str>,
    /// What to do before the first run.
    pub before: &'static str,
}

/// All of them.
pub const BACKENDS: [Backend; 7] = [
    Backend {
        name: "phoenix",
        trace: r#"otlp_endpoint = "http://localhost:6006"       # Phoenix; spans go to /v1/traces there
otlp_protocol = "http/protobuf"               # it refuses OTLP as JSON
otlp_signals = ["traces"]                     # it has no place for log records and metrics; scores go through [[sinks]]
# otlp_bearer_env = "PHOENIX_API_KEY"         # where it wants a key: the variable that holds it
resource = { "openinference.project.name" = "claims" }   # the project; it is made when the first span arrives
trace_url = { kind = "phoenix", url = "http://localhost:6006" }
"#,
        sink: Some(
            r#"[[sinks]]                            # each score is an annotation of its span
kind = "phoenix"
url = "http://localhost:6006"                 # PHOENIX_COLLECTOR_ENDPOINT wins; the key is in PHOENIX_API_KEY
project = "claims"
"#,
        ),
        before: "start Phoenix (`phoenix serve`), or set the three addresses to yours",
    },
    Backend {
        name: "langfuse",
        trace: r#"otlp_endpoint = "https://cloud.langfuse.com/api/public/otel"   # Europe; https://us.cloud.langfuse.com/…, or your own
otlp_protocol = "http/protobuf"
otlp_signals = ["traces"]                     # it has no place for log records and metrics; scores go through [[sinks]]
otlp_basic_env = ["LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"]   # the variables that hold the project's keys
# trace_url = { kind = "langfuse", url = "https://cloud.langfuse.com", project = "ID" }   # ID: in the project's settings
"#,
        sink: Some(
            r#"[[sinks]]                            # each score is a score of its observation
kind = "langfuse"
url = "https://cloud.langfuse.com"            # LANGFUSE_BASE_URL wins; keys as above
"#,
        ),
        before: "set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY to the keys of your project",
    },
    Backend {
        name: "mlflow",
        trace: r#"otlp_endpoint = "http://localhost:5000"       # MLflow 3.6 or later, with a database; spans go to /v1/traces there
otlp_protocol = "http/protobuf"
otlp_signals = ["traces"]                     # it has no place for log records and metrics; scores go through [[sinks]]
otlp_headers = { x-mlflow-experiment-id = "0" }   # the experiment's id; 0 is always there
# otlp_bearer_env = "MLFLOW_TRACKING_TOKEN"   # where it wants a key; or otlp_basic_env with user and password
trace_url = { kind = "mlflow", url = "http://localhost:5000", experiment = "0" }
"#,
        sink: Some(
            r#"[[sinks]]                            # each score is an assessment of its trace, with its span
kind = "mlflow"
url = "http://localhost:5000"                 # MLFLOW_TRACKING_URI wins
project = "0"                                 # the experiment, by id or name
"#,
        ),
        before: "start MLflow (`mlflow server --backend-store-uri sqlite:///mlflow.db`), or set the three addresses to yours",
    },
    Backend {
        name: "jaeger",
        trace: r#"otlp_endpoint = "http://localhost:4318"
otlp_signals = ["traces"]                     # Jaeger takes nothing else; scores are attributes and events of their spans
trace_url = { kind = "jaeger", url = "http://localhost:16686" }
"#,
        sink: None,
        before: "start Jaeger with its OTLP port open, or set the addresses to yours",
    },
    Backend {
        name: "tempo",
        trace: r#"otlp_endpoint = "http://localhost:4318"
otlp_signals = ["traces"]                     # Tempo takes nothing else; scores are attributes and events of their spans
# otlp_basic_env = ["TEMPO_USER", "TEMPO_TOKEN"]   # Grafana Cloud
# otlp_headers = { x-scope-orgid = "team" }   # several tenants
trace_url = { kind = "grafana", url = "http://localhost:3000", datasource = "tempo" }   # the uid of the data source
"#,
        sink: None,
        before: "start Tempo with its OTLP receiver on, or set the addresses to yours",
    },
    Backend {
        name: "appinsights",
        trace: r#"to = ["appinsights"]                          # where from: APPLICATIONINSIGHTS_CONNECTION_STRING, or `project` in [azure]
# trace_url = { kind = "azure-logs" }         # needs resource_id in [azure]
"#,
        sink: None,
        before: "set APPLICATIONINSIGHTS_CONNECTION_STRING, or `project` in [azure]",
    },
    Backend {
        name: "otlp",
        trace: r#"otlp_endpoint = "http://localhost:4318"       # any OpenTelemetry collector
# otlp_protocol = "http/protobuf"             # http/protobuf | http/json | grpc
# otlp_bearer_env = "COLLECTOR_TOKEN"         # where it wants a key: the variable that holds it
"#,
        sink: None,
        before: "start the collector, or set otlp_endpoint to yours",
    },
];

impl Backend {
    /// The backend of that name.
    pub fn find(name: &str) -> Option<Self> {
        BACKENDS.into_iter().find(|backend| backend.name == name)
    }

    /// The names, for `--backend`.
    pub fn names() -> [&'static str; 7] {
        BACKENDS.map(|backend| backend.name)
    }

    /// The sections for a suite that is there already.
    pub fn sections(&self) -> String {
        let sink = self.sink.map(|sink| format!("\n{sink}")).unwrap_or_default();
        format!("[trace]\n{}{sink}", self.trace)
    }

    /// A whole suite: the reference with this backend's keys in place of the examples of the same keys.
    pub fn suite(&self) -> String {
        let set = |line: &str| line.trim_start_matches("# ").split_once(" = ").map(|(key, _)| key.to_owned());
        let keys: Vec<String> = self.trace.lines().filter_map(set).collect();
        let mut suite = String::new();
        let mut section = String::new();
        let mut left_out = false;
        for line in REFERENCE.lines() {
            if let Some(header) = line.trim_start_matches("# ").strip_prefix('[') {
                section = header.split(']').next().unwrap_or_default().trim_start_matches('[').to_owned();
                left_out = false;
                if section == "sinks"
                    && let Some(sink) = self.sink
                {
                    suite.push_str(sink);
                }
            }
            if section == "sinks" && self.sink.is_some() && !line.is_empty() {
                continue;
            }
            if section == "trace" {
                // A commented example goes with the lines that continue it.
                let continues = left_out && line.starts_with("#   ");
                left_out = continues || set(line).is_some_and(|key| line.starts_with("# ") && keys.contains(&key));
                if left_out {
                    continue;
                }
            }
            suite.push_str(line);
            suite.push('\n');
            if section == "trace" && line.starts_with("capture_content") {
                suite.push_str(self.trace);
            }
        }
        suite
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Suite;

    #[test]
    fn each_backend_makes_a_valid_suite_with_nothing_said_twice() {
        for backend in BACKENDS {
            let text = backend.suite();
            let suite = Suite::parse(&text, backend.name).expect(backend.name);
            assert_eq!(suite.sinks.len(), usize::from(backend.sink.is_some()), "{}", backend.name);
            assert!(suite.trace.otlp_endpoint.is_some() != suite.trace.to.is_some(), "{}", backend.name);
            for key in ["otlp_endpoint =", "otlp_protocol =", "trace_url =", "kind = \"phoenix\"\n"] {
                assert!(text.matches(key).count() <= 1, "{}: {key}", backend.name);
            }
            assert!(text.contains("[gate]") && text.contains("[azure]"), "{}", backend.name);
            let own = Suite::parse(&backend.sections(), backend.name).expect(backend.name);
            assert_eq!(own.sinks, suite.sinks, "the sections alone say the same");
        }
    }
}
