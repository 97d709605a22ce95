//! What `doctor` looks at of Azure: who we are to Entra, the Foundry project, the resource that takes telemetry.

use super::{Args, Checks, Context, Status};
use crate::config::RunPlan;
use crate::config::{IngestionAuth, Provider};
use crate::export::appinsights::AppInsights;
use crate::export::appinsights::access::{InsightsSettings, InsightsSource};
use crate::export::settings::DestinationConfig;
use crate::identity::{self, scope};

/// Asks for a token of each kind that the plan needs; gives whether there is one of each.
pub(super) async fn identity(
    args: &Args,
    context: &Context,
    plan: &RunPlan,
    destinations: &[DestinationConfig],
    checks: &mut Checks,
) -> bool {
    const NAME: &str = "azure identity";
    let mut scopes = Vec::new();
    for model in plan.models.iter().filter(|model| model.provider == Provider::Azure && model.entra) {
        let of_project = model.base_url.as_ref().is_some_and(|url| url.contains("/api/projects/"));
        scopes.push(if of_project { scope::FOUNDRY } else { scope::OPENAI });
    }
    for config in destinations {
        if let DestinationConfig::AppInsights(settings) = config {
            scopes.extend(matches!(settings.source, InsightsSource::Project(_)).then_some(scope::FOUNDRY));
            scopes.extend((settings.azure.auth == IngestionAuth::Entra).then_some(scope::MONITOR));
        }
    }
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        return true;
    }
    let Some(tokens) = checks.keep(NAME, identity::source(&plan.azure, &context.env).map_err(Into::into)) else {
        return false;
    };
    if args.offline {
        checks.ok(NAME, format!("{}: set up; not asked", plan.azure.credential.as_str()));
        return true;
    }
    for scope in scopes {
        if checks.keep(NAME, tokens.token(scope, None).await.map_err(Into::into)).is_none() {
            // The others would say the same.
            return false;
        }
        checks.ok(NAME, format!("{} gives tokens for {scope}", tokens.who().unwrap_or("a credential")));
    }
    true
}

/// Asks the project for its resource, and the resource whether it lets us in. Where nobody is `known` to Entra, a project
/// cannot be asked.
pub(super) async fn insights(args: &Args, settings: InsightsSettings, known: bool, checks: &mut Checks) {
    const NAME: &str = "exporter appinsights";
    let project = match &settings.source {
        InsightsSource::Project(project) => Some(project.clone()),
        InsightsSource::Connection(_) => None,
    };
    let Some(resource) = checks.keep(NAME, AppInsights::new(settings).map_err(Into::into)) else { return };
    if args.offline {
        checks.ok(NAME, "set up; not asked");
        return;
    }
    if project.is_some() && !known {
        checks.add(NAME, Status::Warn, "not asked, for there is no Entra token".to_owned(), None);
        return;
    }
    match resource.probe().await {
        Ok(found) => {
            let by = match (project, found.connection) {
                (Some(project), Some(connection)) => format!("connection `{connection}` of {project}, "),
                _ => String::new(),
            };
            let message =
                format!("{by}{} answers; whether it knows the key shows with the first telemetry", found.ingestion);
            checks.ok(NAME, message);
        }
        Err(problem) => {
            let (message, hint) = match problem.split_once("; ") {
                Some((message, hint)) => (message.to_owned(), hint.to_owned()),
                None => (problem, "runs go on without it; `spanscore export --pending` delivers later".to_owned()),
            };
            checks.add(NAME, Status::Fail, message, Some(hint));
        }
    }
}
