//! Evaluator definitions as data: embedded ones, and those in `evaluators/` beside the suite, which replace them by id.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Evaluator, Subject, label, measure};
use crate::model::{Digest, Direction, Evaluation, EvaluatorId, EvaluatorKind, EvaluatorSpec};

const EMBEDDED: [(&str, &str); 6] = [
    ("label_match", include_str!("../../evaluators/label_match.toml")),
    ("valid_label", include_str!("../../evaluators/valid_label.toml")),
    ("abstention", include_str!("../../evaluators/abstention.toml")),
    ("latency", include_str!("../../evaluators/latency.toml")),
    ("tokens", include_str!("../../evaluators/tokens.toml")),
    ("cost", include_str!("../../evaluators/cost.toml")),
];

type Code = fn(Subject<'_>) -> Evaluation;

/// The code evaluators by name, with the kind of score that each gives.
const CODE: [(&str, EvaluatorKind, Code); 6] = [
    ("label_match", EvaluatorKind::Assertion, label::label_match),
    ("valid_label", EvaluatorKind::Assertion, label::valid_label),
    ("abstention", EvaluatorKind::Label, label::abstention),
    ("latency", EvaluatorKind::Number, measure::latency),
    ("tokens", EvaluatorKind::Number, measure::tokens),
    ("cost", EvaluatorKind::Number, measure::cost),
];

/// Why evaluators cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The folder or a file in it cannot be read.
    #[error("reading evaluators in `{path}`: {source}")]
    Read {
        /// The folder or file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A definition is malformed.
    #[error("evaluator definition `{path}`: {message}")]
    Definition {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// An evaluator is named twice.
    #[error("evaluator `{id}` is named twice; name it once")]
    Twice {
        /// Its id.
        id: String,
    },
    /// A suite or flag names an evaluator that nobody defines.
    #[error("unknown evaluator `{id}`{hint}; known evaluators: {known}")]
    Unknown {
        /// As given.
        id: String,
        /// `; did you mean …?` where one is near.
        hint: String,
        /// All of them.
        known: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition {
    id: EvaluatorId,
    version: String,
    implementation: String,
    kind: EvaluatorKind,
    direction: Direction,
    threshold: Option<f64>,
    #[serde(default)]
    unit: String,
    #[serde(default)]
    description: String,
}

/// All evaluators that a suite may name.
#[derive(Clone)]
pub struct Registry(BTreeMap<EvaluatorId, Arc<dyn Evaluator>>);

impl Registry {
    /// The embedded definitions.
    pub fn embedded() -> Self {
        let mut registry = Self(BTreeMap::new());
        for (name, text) in EMBEDDED {
            registry.define(name, text).expect("the embedded definitions are well formed");
        }
        registry
    }

    /// The embedded definitions and those of a folder, which need not exist.
    pub fn load(folder: &Path) -> Result<Self, RegistryError> {
        let mut registry = Self::embedded();
        let failed = |path: &Path, source| RegistryError::Read { path: path.display().to_string(), source };
        if !folder.is_dir() {
            return Ok(registry);
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|e| failed(folder, e))? {
            let path = entry.map_err(|e| failed(folder, e))?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                files.push(path);
            }
        }
        files.sort();
        for path in files {
            let text = std::fs::read_to_string(&path).map_err(|e| failed(&path, e))?;
            registry.define(&path.display().to_string(), &text)?;
        }
        Ok(registry)
    }

    /// Adds an evaluator written in Rust, or replaces the one of its id.
    pub fn add(&mut self, evaluator: Arc<dyn Evaluator>) {
        self.0.insert(evaluator.spec().id.clone(), evaluator);
    }

    /// The evaluators of these ids, in this order.
    pub fn select(&self, ids: &[String]) -> Result<Vec<Arc<dyn Evaluator>>, RegistryError> {
        distinct(ids.iter().map(String::as_str))?;
        ids.iter().map(|id| self.get(id)).collect()
    }

    fn get(&self, id: &str) -> Result<Arc<dyn Evaluator>, RegistryError> {
        let found = EvaluatorId::parse(id).ok().and_then(|id| self.0.get(&id)).cloned();
        found.ok_or_else(|| {
            let known: Vec<&str> = self.0.keys().map(EvaluatorId::as_str).collect();
            let near = known.iter().find(|name| strsim::damerau_levenshtein(name, id) <= 3);
            RegistryError::Unknown {
                id: id.to_owned(),
                hint: near.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default(),
                known: known.join(", "),
            }
        })
    }

    fn define(&mut self, path: &str, text: &str) -> Result<(), RegistryError> {
        let failed = |message: String| RegistryError::Definition { path: path.to_owned(), message };
        let definition: Definition = toml::from_str(text).map_err(|e| failed(e.to_string().trim_end().to_owned()))?;
        let (_, kind, code) =
            CODE.into_iter().find(|(name, ..)| *name == definition.implementation).ok_or_else(|| {
                let known = CODE.map(|(name, ..)| name).join(", ");
                failed(format!("unknown implementation `{}`; known: {known}", definition.implementation))
            })?;
        if kind != definition.kind {
            return Err(failed(format!(
                "`{}` gives a score of kind `{}`, found kind `{}`",
                definition.implementation,
                kind.as_str(),
                definition.kind.as_str()
            )));
        }
        if definition.threshold.is_some_and(|t| !t.is_finite()) {
            return Err(failed("threshold must be a finite number".to_owned()));
        }
        self.add(Arc::new(CodeEvaluator { spec: spec_of(definition), code }));
        Ok(())
    }
}

/// Refuses an id that comes twice: a trial has one score of each evaluator.
pub(crate) fn distinct<'i>(ids: impl Iterator<Item = &'i str>) -> Result<(), RegistryError> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(RegistryError::Twice { id: id.to_owned() });
        }
    }
    Ok(())
}

/// What decides a score goes into the digest; the description does not.
fn spec_of(definition: Definition) -> EvaluatorSpec {
    let Definition { id, version, implementation, kind, direction, threshold, unit, description } = definition;
    let canonical = serde_json::json!([id, version, implementation, kind, direction, threshold, unit]);
    let digest = Sha256::digest(canonical.to_string().as_bytes());
    EvaluatorSpec {
        id,
        version,
        kind,
        direction,
        threshold,
        unit,
        description,
        digest: Digest::from_bytes(digest.into()),
    }
}

struct CodeEvaluator {
    spec: EvaluatorSpec,
    code: Code,
}

#[async_trait]
impl Evaluator for CodeEvaluator {
    fn spec(&self) -> &EvaluatorSpec {
        &self.spec
    }

    async fn evaluate(&self, subject: Subject<'_>) -> Evaluation {
        (self.code)(subject)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{Case, CaseId, Label, Outcome};
    use crate::workflow::Assessment;

    pub(in crate::evaluator) fn subject_parts(expected: Option<Label>, outcome: Outcome) -> (Case, Assessment) {
        let case = Case {
            seq: 0,
            id: CaseId::parse("c1").expect("valid"),
            claim: "Water is wet.".to_owned(),
            context: "Water wets.".to_owned(),
            expected,
            group: None,
            columns: Vec::new(),
            digest: Digest::from_bytes([0; 32]),
        };
        (case, Assessment::answered(outcome, "True"))
    }

    #[test]
    fn unknown_names_name_the_nearest() {
        let error = Registry::embedded().select(&["label_mach".to_owned()]).err().expect("unknown").to_string();
        assert!(error.contains("did you mean `label_match`?") && error.contains("valid_label"), "{error}");
    }

    #[test]
    fn a_definition_beside_the_suite_replaces_the_embedded_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = EMBEDDED[3].1.replace("version = \"1\"", "version = \"2\"\nthreshold = 500.0");
        std::fs::write(folder.path().join("latency.toml"), text).expect("written");
        let registry = Registry::load(folder.path()).expect("loads");
        let spec = registry.select(&["latency".to_owned()]).expect("known")[0].spec().clone();
        assert_eq!((spec.version.as_str(), spec.threshold), ("2", Some(500.0)));
        let embedded = Registry::embedded().select(&["latency".to_owned()]).expect("known")[0].spec().digest;
        assert_ne!(spec.digest, embedded);
    }

    #[test]
    fn a_wrong_kind_is_refused_with_the_file_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = EMBEDDED[0].1.replace("assertion", "number");
        std::fs::write(folder.path().join("mine.toml"), text).expect("written");
        let error = Registry::load(folder.path()).err().expect("refused").to_string();
        assert!(error.contains("mine.toml") && error.contains("kind `assertion`"), "{error}");
    }
}
