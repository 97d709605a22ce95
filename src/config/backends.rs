//! What a suite says so that its traces and scores reach one of the known backends: `spanscore init --backend NAME`
//! writes it. What is known of a backend's OTLP settings stands in `backends/NAME.toml`; its routes for scores are left to
//! `export`.

use super::REFERENCE;

/// A backend that a suite can be written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend {
    /// As `--backend` spells it.
    pub name: &'static str,
    /// Its `[trace]`, and `[[sinks]]` where it keeps scores as scores, with comments.
    text: &'static str,
    /// What to do before the first run.
    pub before: &'static str,
}

/// All of them.
pub const BACKENDS: [Backend; 7] = [
    Backend {
        name: "phoenix",
        text: include_str!("backends/phoenix.toml"),
        before: "start Phoenix (`phoenix serve`), or set the three addresses to yours",
    },
    Backend {
        name: "langfuse",
        text: include_str!("backends/langfuse.toml"),
        before: "set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY to the keys of your project",
    },
    Backend {
        name: "mlflow",
        text: include_str!("backends/mlflow.toml"),
        before: "start MLflow (`mlflow server --backend-store-uri sqlite:///mlflow.db`), or set the three addresses to yours",
    },
    Backend {
        name: "jaeger",
        text: include_str!("backends/jaeger.toml"),
        before: "start Jaeger with its OTLP port open, or set the addresses to yours",
    },
    Backend {
        name: "tempo",
        text: include_str!("backends/tempo.toml"),
        before: "start Tempo with its OTLP receiver on, or set the addresses to yours",
    },
    Backend {
        name: "appinsights",
        text: include_str!("backends/appinsights.toml"),
        before: "set APPLICATIONINSIGHTS_CONNECTION_STRING, or `project` in [azure]",
    },
    Backend {
        name: "otlp",
        text: include_str!("backends/otlp.toml"),
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
    pub const fn sections(&self) -> &'static str {
        self.text
    }

    /// The keys of `[trace]`, and the `[[sinks]]` table where it has one.
    fn parts(&self) -> (&'static str, Option<&'static str>) {
        let place = self.text.find("\n[[sinks]]").map_or(self.text.len(), |before| before + 1);
        let (trace, sink) = self.text.split_at(place);
        (trace.trim_start_matches("[trace]\n"), (!sink.is_empty()).then_some(sink))
    }

    /// A whole suite: the reference with this backend's keys in place of the examples of the same keys.
    pub fn suite(&self) -> String {
        let (trace, sink) = self.parts();
        let set = |line: &str| line.trim_start_matches("# ").split_once(" = ").map(|(key, _)| key.to_owned());
        let keys: Vec<String> = trace.lines().filter_map(set).collect();
        let mut suite = String::new();
        let mut section = String::new();
        let mut left_out = false;
        for line in REFERENCE.lines() {
            if let Some(header) = line.trim_start_matches("# ").strip_prefix('[') {
                header.split(']').next().unwrap_or_default().trim_start_matches('[').clone_into(&mut section);
                left_out = false;
                if section == "sinks"
                    && let Some(sink) = sink
                {
                    suite.push_str(sink);
                }
            }
            if section == "sinks" && sink.is_some() && !line.is_empty() {
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
                suite.push_str(trace.trim_end());
                suite.push('\n');
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
            assert_eq!(suite.sinks.len(), usize::from(backend.parts().1.is_some()), "{}", backend.name);
            assert!(suite.trace.otlp_endpoint.is_some() != suite.trace.to.is_some(), "{}", backend.name);
            for key in ["otlp_endpoint =", "otlp_protocol =", "trace_url =", "kind = \"phoenix\"\n"] {
                assert!(text.matches(key).count() <= 1, "{}: {key}", backend.name);
            }
            assert!(text.contains("[gate]") && text.contains("[azure]"), "{}", backend.name);
            let own = Suite::parse(backend.sections(), backend.name).expect(backend.name);
            assert_eq!(own.sinks, suite.sinks, "the sections alone say the same");
        }
    }
}
