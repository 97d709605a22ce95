//! The suite file as the user wrote it: TOML, unknown keys refused with the nearest known one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use crate::model::Label;

/// Why a suite file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// It cannot be read.
    #[error(
        "reading suite `{path}`: {source}; write one with `spanscore init`, or name another: `spanscore run SUITE`"
    )]
    Read {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not what a suite file is.
    #[error("suite `{path}`, {place}: {message}")]
    Shape {
        /// The file.
        path: String,
        /// `line 3, column 5`.
        place: String,
        /// What was found, what was expected, the nearest known key.
        message: String,
    },
}

/// A suite file, not yet resolved against environment and flags.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Suite {
    /// Name, dataset, evaluators.
    pub suite: SuiteSection,
    /// How the dataset is read.
    pub dataset: DatasetSection,
    /// One model, or several.
    pub model: Models,
    /// The code under test.
    pub workflow: WorkflowSection,
    /// How it is run.
    pub run: RunSection,
    /// Where traces go.
    pub trace: TraceSection,
    /// Azure: the Foundry project, and who asks.
    pub azure: super::azure::AzureSection,
    /// Backends that keep scores as scores.
    pub sinks: Vec<SinkSection>,
    /// What a run must hold to be let through.
    pub gate: super::gate::GateSection,
    /// Kept with every run.
    pub tags: BTreeMap<String, String>,
    /// Where the file is, for relative paths.
    #[serde(skip)]
    pub path: Option<PathBuf>,
}

/// `[suite]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "reference.toml says what each key means")]
pub struct SuiteSection {
    pub name: Option<String>,
    pub description: Option<String>,
    pub dataset: Option<PathBuf>,
    pub evaluators: Option<Vec<String>>,
    pub primary: Option<String>,
}

/// `[dataset]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "reference.toml says what each key means")]
pub struct DatasetSection {
    pub columns: Columns,
    pub labels: BTreeMap<Label, Vec<String>>,
    pub filter: Option<String>,
    pub limit: Option<u64>,
    pub sample: Option<u64>,
}

/// `[dataset] columns`: which column of the file holds what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each is the name of a column")]
pub struct Columns {
    pub claim: Option<String>,
    pub context: Option<String>,
    pub label: Option<String>,
    pub id: Option<String>,
    pub group: Option<String>,
}

/// `[model]` or `[[model]]`.
#[derive(Debug, Clone, Default)]
pub struct Models(pub Vec<ModelSection>);

/// One model.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "reference.toml says what each key means")]
pub struct ModelSection {
    pub provider: Option<String>,
    pub name: Option<String>,
    pub base_url: Option<String>,
    pub api_key_env: Option<String>,
    pub api_version: Option<String>,
    pub deployment: Option<String>,
    pub auth: Option<String>,
    pub replay: Option<String>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub max_tokens: Option<u64>,
    pub max_tokens_field: Option<String>,
    pub seed: Option<i64>,
    pub frequency_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub stop: Vec<String>,
    pub extra: serde_json::Map<String, serde_json::Value>,
    pub price: Option<PriceSection>,
}

/// `[model] price`, in US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct PriceSection {
    pub input_per_million: f64,
    pub output_per_million: f64,
    pub cached_input_per_million: Option<f64>,
}

/// `[workflow]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "reference.toml says what each key means")]
pub struct WorkflowSection {
    pub kind: Option<String>,
    pub batch_size: Option<u32>,
    pub prompt: Option<PathBuf>,
    pub answer_pattern: Option<String>,
    pub labels: BTreeMap<Label, Vec<String>>,
    pub command: Option<Vec<String>>,
    pub processes: Option<u32>,
    pub env: BTreeMap<String, String>,
    pub cwd: Option<PathBuf>,
    pub restarts: Option<u32>,
    pub url: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub token_env: Option<String>,
    pub version: Option<String>,
    pub grace: Option<String>,
    pub otlp_listen: Option<String>,
}

/// `[run]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "reference.toml says what each key means")]
pub struct RunSection {
    pub concurrency: Option<toml::Value>,
    pub repeat: Option<u32>,
    pub timeout: Option<String>,
    pub max_retries: Option<u32>,
    pub rpm: Option<u32>,
    pub tpm: Option<u64>,
    pub max_tokens_total: Option<u64>,
    pub max_cost: Option<f64>,
    pub max_duration: Option<String>,
    pub seed: Option<u64>,
    pub cache: Option<PathBuf>,
}

/// `[trace]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "reference.toml says what each key means")]
pub struct TraceSection {
    pub capture_content: Option<bool>,
    pub semconv: Option<String>,
    pub to: Option<Vec<String>>,
    pub otlp_endpoint: Option<String>,
    pub otlp_protocol: Option<String>,
    pub otlp_headers: BTreeMap<String, String>,
    pub otlp_compression: Option<String>,
    pub otlp_timeout: Option<String>,
    pub otlp_bearer_env: Option<String>,
    pub otlp_basic_env: Option<[String; 2]>,
    pub otlp_signals: Option<Vec<String>>,
    pub resource: BTreeMap<String, String>,
    pub trace_url: Option<super::TraceUrl>,
}

/// One of `[[sinks]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "reference.toml says what each key means")]
pub struct SinkSection {
    pub kind: Option<String>,
    pub name: Option<String>,
    pub url: Option<String>,
    pub project: Option<String>,
    pub bearer_env: Option<String>,
    pub basic_env: Option<[String; 2]>,
    pub timeout: Option<String>,
}

impl Suite {
    /// Reads a suite file.
    pub fn read(path: &Path) -> Result<Self, SuiteError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| SuiteError::Read { path: shown.clone(), source })?;
        let mut suite = Self::parse(&text, &shown)?;
        suite.path = Some(path.to_owned());
        Ok(suite)
    }

    /// Parses the text of a suite file; `shown` names it in errors.
    pub fn parse(text: &str, shown: &str) -> Result<Self, SuiteError> {
        toml::from_str(text).map_err(|e| SuiteError::Shape {
            path: shown.to_owned(),
            place: e.span().map_or_else(|| "unknown place".to_owned(), |span| place(text, span.start)),
            message: match Path::new(shown).extension().and_then(|extension| extension.to_str()) {
                Some("csv" | "tsv" | "json" | "jsonl" | "ndjson" | "parquet" | "gz" | "zst") => {
                    format!("this is no suite but a dataset; run it with `spanscore run --dataset {shown}`")
                }
                _ => with_nearest(e.message()),
            },
        })
    }

    /// Its name; `claims` where it says none.
    pub fn name(&self) -> &str {
        self.suite.name.as_deref().unwrap_or("claims")
    }

    /// A path of the file, made relative to the working directory.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        match self.path.as_deref().and_then(Path::parent) {
            Some(folder) => folder.join(path),
            None => path.to_owned(),
        }
    }

    /// The folder of the file; `.` without one.
    pub fn folder(&self) -> PathBuf {
        self.resolve(Path::new("."))
    }
}

impl<'de> Deserialize<'de> for Models {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Models;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a [model] table or several [[model]] tables")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Models, A::Error> {
                Ok(Models(vec![ModelSection::deserialize(MapAccessDeserializer::new(map))?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Models, A::Error> {
                let mut models = Vec::new();
                while let Some(model) = seq.next_element()? {
                    models.push(model);
                }
                Ok(Models(models))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}")
}

/// Adds the nearest known key to serde's message about an unknown one.
fn with_nearest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    match (message.starts_with("unknown field"), quoted.next()) {
        (true, Some(found)) => {
            let nearest = quoted.min_by_key(|known| strsim::damerau_levenshtein(known, found));
            match nearest.filter(|known| strsim::damerau_levenshtein(known, found) <= 3) {
                Some(known) => format!("{} (did you mean `{known}`?)", message.replacen("field", "key", 1)),
                None => message.replacen("field", "key", 1),
            }
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_a_suite_and_so_it_is_with_every_comment_taken_out() {
        Suite::parse(crate::config::REFERENCE, "reference.toml").expect("valid as it is");
        let uncommented: String = crate::config::REFERENCE
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(key) if key.starts_with("[[") || (key.contains(" = ") && !key.starts_with(' ')) => {
                    format!("{key}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        let suite = Suite::parse(&uncommented, "reference.toml").expect("every example is valid");
        assert_eq!(suite.dataset.columns.claim.as_deref(), Some("statement"));
        assert_eq!(suite.run.max_cost, Some(5.0));
        assert_eq!(suite.gate.metrics.as_ref().expect("metrics")["accuracy"].margin, Some(0.02));
        assert_eq!(suite.tags["team"], "evals");
    }

    #[test]
    fn an_unknown_key_is_refused_with_line_and_nearest() {
        let error = Suite::parse("[suite]\nname = \"x\"\nevaluatrs = []\n", "s.toml").expect_err("refused").to_string();
        assert!(error.starts_with("suite `s.toml`, line 3, column 1: unknown key `evaluatrs`"), "{error}");
        assert!(error.contains("did you mean `evaluators`?"), "{error}");
    }

    #[test]
    fn one_model_or_several() {
        let one = Suite::parse("[model]\nname = \"a\"\n", "s").expect("valid");
        let two = Suite::parse("[[model]]\nname = \"a\"\n[[model]]\nname = \"b\"\n", "s").expect("valid");
        assert_eq!((one.model.0.len(), two.model.0.len()), (1, 2));
        assert!(Suite::parse("[model]\nnam = \"a\"\n", "s").is_err());
    }
}
