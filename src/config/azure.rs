//! `[azure]`: the Foundry project, who asks for tokens, and which resources of Azure Monitor belong to it.

use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use super::Environment;
use super::plan::{PlanError, duration, missing, value};
use crate::net::is_safe;

/// Variables with a Foundry project's endpoint, in the order in which they are asked.
const PROJECT_VARIABLES: [&str; 2] = ["AZURE_AI_PROJECT_ENDPOINT", "FOUNDRY_PROJECT_ENDPOINT"];
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// `[azure]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "reference.toml says what each key means")]
pub struct AzureSection {
    pub project: Option<String>,
    pub credential: Option<String>,
    pub token_command: Option<Vec<String>>,
    pub auth: Option<String>,
    pub timeout: Option<String>,
    pub resource_id: Option<String>,
    pub workspace_id: Option<String>,
}

/// Which identity asks for Entra tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CredentialKind {
    /// The first of the others that is set up here.
    #[default]
    Auto,
    /// The identity of the machine, the app or the container.
    ManagedIdentity,
    /// A federated token in a file, as in Kubernetes.
    WorkloadIdentity,
    /// An app registration with a secret.
    ClientSecret,
    /// Whoever is signed in to `az` or `azd`.
    DeveloperTools,
    /// A program of the user's that prints a token.
    TokenCommand,
}

impl CredentialKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Auto,
        Self::ManagedIdentity,
        Self::WorkloadIdentity,
        Self::ClientSecret,
        Self::DeveloperTools,
        Self::TokenCommand,
    ];

    /// The name as suites spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::ManagedIdentity => "managed_identity",
            Self::WorkloadIdentity => "workload_identity",
            Self::ClientSecret => "client_secret",
            Self::DeveloperTools => "developer_tools",
            Self::TokenCommand => "token_command",
        }
    }

    /// The kind of that name.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Whether telemetry is sent with an Entra token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IngestionAuth {
    /// Once the endpoint has refused telemetry without one.
    #[default]
    Auto,
    /// Always.
    Entra,
    /// Never.
    None,
}

impl IngestionAuth {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Entra, Self::None];

    /// The name as suites spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Entra => "entra",
            Self::None => "none",
        }
    }

    /// The setting of that name.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|auth| auth.as_str() == text)
    }
}

/// The section, merged with the environment and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzurePlan {
    /// The Foundry project's endpoint, without a slash at its end. One in the environment may be meant for other programs:
    /// what is wrong with it counts where it is used, see [`AzurePlan::project`].
    pub project: Option<Result<String, BadProject>>,
    /// Who asks for tokens.
    pub credential: CredentialKind,
    /// The program that prints a token, and its arguments; `{scope}` stands for the scope.
    pub token_command: Option<Vec<String>>,
    /// Whether telemetry is sent with a token.
    pub auth: IngestionAuth,
    /// How long one request to the project or to the ingestion endpoint may take.
    pub timeout: Duration,
    /// The Application Insights resource, as the portal names it: `/subscriptions/…`.
    pub resource_id: Option<String>,
    /// The Log Analytics workspace behind it.
    pub workspace_id: Option<String>,
}

impl Default for AzurePlan {
    fn default() -> Self {
        Self {
            project: None,
            credential: CredentialKind::default(),
            token_command: None,
            auth: IngestionAuth::default(),
            timeout: TIMEOUT,
            resource_id: None,
            workspace_id: None,
        }
    }
}

impl AzurePlan {
    /// Merges the section with the environment.
    pub fn resolve(section: &AzureSection, env: &Environment) -> Result<Self, PlanError> {
        let of_suite = section.project.as_deref().map(|text| project("[azure] project", text)).transpose()?;
        let project = Self::project_of(env).or(of_suite.map(Ok));
        let credential = match section.credential.as_deref() {
            None => CredentialKind::Auto,
            Some(name) => CredentialKind::from_name(name).ok_or_else(|| {
                let known = CredentialKind::ALL.map(CredentialKind::as_str).join(", ");
                value("[azure] credential", name, &format!("one of {known}"))
            })?,
        };
        let auth = match section.auth.as_deref() {
            None => IngestionAuth::Auto,
            Some(name) => {
                IngestionAuth::from_name(name).ok_or_else(|| value("[azure] auth", name, "auto, entra or none"))?
            }
        };
        let token_command = section.token_command.clone();
        if token_command.as_ref().is_some_and(|words| words.first().is_none_or(|program| program.trim().is_empty())) {
            return Err(value("[azure] token_command", "[]", "a program and its arguments, each a text of its own"));
        }
        if credential == CredentialKind::TokenCommand && token_command.is_none() {
            return Err(missing(
                "[azure] token_command",
                "name the program that prints a token, or another credential",
            ));
        }
        let timeout = duration("[azure] timeout", section.timeout.as_ref())?.unwrap_or(TIMEOUT);
        let resource_id = section.resource_id.as_deref().map(resource_id).transpose()?;
        let workspace_id = section.workspace_id.clone();
        Ok(Self { project, credential, token_command, auth, timeout, resource_id, workspace_id })
    }

    /// The project that the environment names, if it names one.
    pub fn project_of(env: &Environment) -> Option<Result<String, BadProject>> {
        PROJECT_VARIABLES.into_iter().find_map(|name| Some(project(name, env.get(name)?)))
    }

    /// The Foundry project, for whoever wants to use it.
    pub fn project(&self) -> Result<Option<&str>, BadProject> {
        self.project.as_ref().map(|project| project.as_deref().map_err(Clone::clone)).transpose()
    }
}

/// What is no endpoint of a Foundry project. It repeats no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{place}: found `{found}`, expected the project's endpoint, https://NAME.services.ai.azure.com/api/projects/PROJECT, as \
     its overview in Foundry shows it"
)]
pub struct BadProject {
    /// The variable or key.
    pub place: String,
    /// As given.
    pub found: String,
}

/// Reads a Foundry project's endpoint; gives it without a slash at its end.
fn project(place: &str, text: &str) -> Result<String, BadProject> {
    let wrong = |found: &str| BadProject { place: place.to_owned(), found: found.to_owned() };
    let url = Url::parse(text.trim()).map_err(|_| wrong("no address"))?;
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    // These fail for addresses that can hold neither.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    let shown = shown.as_str().trim_end_matches('/').to_owned();
    let named = url.path().split_once("/api/projects/").is_some_and(|(_, name)| !name.trim_matches('/').is_empty());
    if !(named && is_safe(&url) && url.query().is_none() && url.username().is_empty() && url.password().is_none()) {
        return Err(wrong(&shown));
    }
    Ok(shown)
}

fn resource_id(text: &str) -> Result<String, PlanError> {
    let text = text.trim().trim_end_matches('/');
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("/subscriptions/") && lower.contains("/providers/microsoft.insights/components/") {
        return Ok(text.to_owned());
    }
    let expected = "/subscriptions/…/resourceGroups/…/providers/microsoft.insights/components/NAME, from the resource's \
                    properties in the portal";
    Err(value("[azure] resource_id", text, expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str, env: &[(&str, &str)]) -> Result<AzurePlan, String> {
        let section: AzureSection = toml::from_str(text).expect("a table");
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        AzurePlan::resolve(&section, &env).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_names_the_project_before_the_suite() {
        let suite = r#"project = "https://a.services.ai.azure.com/api/projects/one/""#;
        let of = |env: &[_]| plan(suite, env).expect("a plan").project().expect("a good one").expect("one").to_owned();
        assert_eq!(of(&[]), "https://a.services.ai.azure.com/api/projects/one");
        let set = ("FOUNDRY_PROJECT_ENDPOINT", "http://127.0.0.1:9/api/projects/two");
        assert_eq!(of(&[set]), "http://127.0.0.1:9/api/projects/two");
        assert_eq!(plan("", &[]), Ok(AzurePlan::default()));
    }

    #[test]
    fn what_the_environment_says_of_a_project_counts_where_it_is_used() {
        let plan = plan("", &[("AZURE_AI_PROJECT_ENDPOINT", "proj")]).expect("a plan");
        let error = plan.project().expect_err("it is no project").to_string();
        assert!(error.starts_with("AZURE_AI_PROJECT_ENDPOINT: found `no address`"), "{error}");
    }

    #[test]
    fn values_that_make_no_sense_are_refused_and_passwords_not_repeated() {
        let check = |text: &str, expected: &str| {
            let error = plan(text, &[]).expect_err(text);
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        };
        check(r#"project = "https://a.openai.azure.com/""#, "[azure] project: found `https://a.openai.azure.com`");
        check(r#"project = "http://a.example/api/projects/p""#, "api/projects/PROJECT");
        check(r#"project = "https://u:hunter2@a.example/api/projects/p""#, "found `https://a.example/api/projects/p`");
        check(r#"project = "https://a.example/api/projects/p?key=hunter2""#, "expected the project's endpoint");
        check(r#"credential = "magic""#, "one of auto, managed_identity");
        check(r#"credential = "token_command""#, "name the program");
        check("token_command = []", "a program and its arguments");
        check(r#"auth = "basic""#, "auto, entra or none");
        check(r#"timeout = "soon""#, "a duration");
        check(r#"resource_id = "my-insights""#, "/subscriptions/");
    }
}
