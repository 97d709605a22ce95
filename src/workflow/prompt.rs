//! The prompt: two minijinja templates, system and user, and the digest that names their wording.

use std::path::Path;

use minijinja::{Environment, UndefinedBehavior, context};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::llm::chat::{Message, Role};
use crate::model::{Case, Digest};

const DEFAULT_SYSTEM: &str = "You verify scientific claims. Judge each claim by the evidence you are given and by \
    nothing else you may know. Reply with exactly one of these words: True if the evidence supports the claim, False \
    if the evidence contradicts it, NEE if the evidence is not enough to tell.";

const DEFAULT_USER: &str = "Evidence:\n{{ context }}\n\nClaim:\n{{ claim }}\n\nReply with True, False or NEE and \
    nothing else.\n\nAnswer:";

/// Why a prompt cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The file cannot be read.
    #[error("reading prompt `{path}`: {source}; give the path of a TOML file with the keys `system` and `user`")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is no TOML with `system` and `user`.
    #[error(
        "reading prompt `{path}`: {message}; a prompt file has the keys `system` (optional) and `user`, both texts"
    )]
    Shape {
        /// The file.
        path: String,
        /// What is wrong, with its line.
        message: String,
    },
    /// A template is malformed.
    #[error("the {part} template of the prompt: {message}")]
    Template {
        /// `system` or `user`.
        part: &'static str,
        /// What is wrong.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptFile {
    #[serde(default)]
    system: String,
    user: String,
}

/// Two compiled templates. They may use `claim`, `context`, `id` and `col.NAME` (a column of the dataset).
#[derive(Debug, Clone)]
pub struct Prompt {
    templates: Environment<'static>,
    has_system: bool,
    uses_columns: bool,
    source: [String; 2],
}

impl Default for Prompt {
    fn default() -> Self {
        Self::new(DEFAULT_SYSTEM, DEFAULT_USER).expect("the default templates are well formed")
    }
}

impl Prompt {
    /// Compiles the two templates; an empty system template sends no system message.
    pub fn new(system: &str, user: &str) -> Result<Self, PromptError> {
        let mut templates = Environment::new();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        for (part, text) in [("system", system), ("user", user)] {
            templates
                .add_template_owned(part, text.to_owned())
                .map_err(|e| PromptError::Template { part, message: e.to_string() })?;
        }
        let prompt = Self {
            templates,
            has_system: !system.trim().is_empty(),
            uses_columns: [system, user].iter().any(|text| text.contains("col")),
            source: [system.to_owned(), user.to_owned()],
        };
        // A name that no case has would fail every trial: say so before the run.
        for part in ["system", "user"] {
            let unknown = prompt.unknown_names(part);
            if !unknown.is_empty() {
                return Err(PromptError::Template {
                    part,
                    message: format!(
                        "unknown name `{}`; templates may use claim, context, id and col.NAME",
                        unknown.join("`, `")
                    ),
                });
            }
        }
        Ok(prompt)
    }

    /// Reads a TOML file with `system` and `user`.
    pub fn from_file(path: &Path) -> Result<Self, PromptError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| PromptError::Read { path: shown.clone(), source })?;
        let file: PromptFile = toml::from_str(&text)
            .map_err(|e| PromptError::Shape { path: shown, message: e.to_string().trim_end().to_owned() })?;
        Self::new(&file.system, &file.user)
    }

    /// The templates' text, system and user.
    pub const fn source(&self) -> &[String; 2] {
        &self.source
    }

    /// SHA-256 of the canonical JSON `[system, user]`.
    pub fn digest(&self) -> Digest {
        let canonical = serde_json::to_vec(&self.source).expect("two strings serialise");
        Digest::from_bytes(Sha256::digest(canonical).into())
    }

    /// The messages for a case.
    pub fn render(&self, case: &Case) -> Result<Vec<Message>, PromptError> {
        let col: minijinja::Value = if self.uses_columns {
            case.columns.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
        } else {
            minijinja::Value::UNDEFINED
        };
        let values = context! { claim => case.claim, context => case.context, id => case.id.as_str(), col };
        let mut messages = Vec::with_capacity(2);
        if self.has_system {
            messages.push(self.message(Role::System, "system", &values)?);
        }
        messages.push(self.message(Role::User, "user", &values)?);
        Ok(messages)
    }

    fn message(&self, role: Role, part: &'static str, values: &minijinja::Value) -> Result<Message, PromptError> {
        let rendered = self.templates.get_template(part).and_then(|template| template.render(values));
        rendered
            .map(|content| Message { role, content })
            .map_err(|e| PromptError::Template { part, message: format!("{e:#}") })
    }

    fn unknown_names(&self, part: &str) -> Vec<String> {
        let Ok(template) = self.templates.get_template(part) else { return Vec::new() };
        let mut names: Vec<String> = template
            .undeclared_variables(false)
            .into_iter()
            .filter(|name| !["claim", "context", "id", "col"].contains(&name.as_str()))
            .collect();
        names.sort();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CaseId;

    fn case() -> Case {
        Case {
            seq: 0,
            id: CaseId::parse("c1").expect("valid"),
            claim: "Water is {{ wet }}.".to_owned(),
            context: "Rain <falls>.".to_owned(),
            expected: None,
            group: None,
            columns: vec![("field".to_owned(), "physics".to_owned())],
            digest: Digest::from_bytes([0; 32]),
        }
    }

    #[test]
    fn the_default_prompt_shows_evidence_and_claim_verbatim() {
        let messages = Prompt::default().render(&case()).expect("renders");
        assert_eq!(messages.len(), 2);
        assert!(messages[1].content.contains("Evidence:\nRain <falls>.\n\nClaim:\nWater is {{ wet }}.\n"));
    }

    #[test]
    fn columns_can_be_used_and_unknown_names_are_refused_at_once() {
        let prompt = Prompt::new("", "{{ col.field }}: {{ claim }}").expect("compiles");
        assert_eq!(prompt.render(&case()).expect("renders")[0].content, "physics: Water is {{ wet }}.");
        let error = Prompt::new("", "{{ clam }}").expect_err("no such name").to_string();
        assert!(error.contains("unknown name `clam`") && error.contains("col.NAME"), "{error}");
        assert!(Prompt::new("", "{{ col.absent }}").expect("compiles").render(&case()).is_err());
    }

    #[test]
    fn the_digest_follows_the_wording() {
        let a = Prompt::new("s", "{{ claim }}").expect("compiles").digest();
        assert_eq!(a, Prompt::new("s", "{{ claim }}").expect("compiles").digest());
        assert_ne!(a, Prompt::new("s ", "{{ claim }}").expect("compiles").digest());
    }
}
