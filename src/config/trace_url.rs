//! `[trace] trace_url`: a template of links to traces, or the name of a backend whose links are known.
//!
//! Sources: Jaeger's and Grafana's pages (`/trace/ID?uiFind=SPAN`, Explore's `panes`), Phoenix's documented redirects, the pages
//! of Langfuse and MLflow, Azure's links to shared queries. What a template may hold is said in `reference.toml`; the places
//! that only the backends here need are `{target}` (`spans/ID` or `traces/ID`), `{from_unix_ms}` and `{to_unix_ms}` (an hour around
//! the start) and `{kql_gzip}` (the query for the trace as Azure's links carry it).

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::PlanError;

/// Everything but what means nothing in any part of a URL (RFC 3986, unreserved).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same for a path that stays one.
const PATH: &AsciiSet = &ESCAPED.remove(b'/');

const KEY: &str = "`trace_url` in [trace]";
const KINDS: &str = "jaeger, grafana, phoenix, langfuse, mlflow, azure-logs or foundry";

/// How links to traces are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceUrl {
    /// A template with places such as `{trace_id}`.
    Template(String),
    /// A backend.
    Backend(Backend),
}

/// `trace_url = { kind = "…", … }`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "reference.toml says what each key means")]
pub struct Backend {
    pub kind: String,
    pub url: Option<String>,
    pub project: Option<String>,
    pub experiment: Option<String>,
    pub datasource: Option<String>,
    pub org: Option<u32>,
    pub resource_id: Option<String>,
}

impl<'de> Deserialize<'de> for TraceUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrTable;
        impl<'de> Visitor<'de> for TextOrTable {
            type Value = TraceUrl;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "a template such as \"https://jaeger.example/trace/{{trace_id}}\" or a table with `kind` and `url`"
                )
            }

            fn visit_str<E>(self, text: &str) -> Result<TraceUrl, E> {
                Ok(TraceUrl::Template(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TraceUrl, A::Error> {
                Backend::deserialize(MapAccessDeserializer::new(map)).map(TraceUrl::Backend)
            }
        }
        deserializer.deserialize_any(TextOrTable)
    }
}

impl TraceUrl {
    /// The template of the links. `azure_resource` is the resource of Application Insights, where the suite names one.
    ///
    /// # Errors
    /// A backend that is not known, a key that it needs or has no use for, and addresses that are no pages or hold a password.
    pub fn template(&self, azure_resource: Option<&str>) -> Result<String, PlanError> {
        match self {
            Self::Template(template) => whole(page(template)?).map(str::to_owned),
            Self::Backend(backend) => backend.template(azure_resource),
        }
    }
}

impl Backend {
    fn template(&self, azure_resource: Option<&str>) -> Result<String, PlanError> {
        let kind = self.kind.as_str();
        let uses: &[&str] = match kind {
            "jaeger" | "phoenix" => &["url"],
            "grafana" => &["url", "datasource", "org"],
            "langfuse" => &["url", "project"],
            "mlflow" => &["url", "experiment"],
            "azure-logs" | "foundry" => &["resource_id"],
            _ => return Err(wrong("`kind` of ", kind, KINDS)),
        };
        for (key, given) in [
            ("url", self.url.is_some()),
            ("project", self.project.is_some()),
            ("experiment", self.experiment.is_some()),
            ("datasource", self.datasource.is_some()),
            ("org", self.org.is_some()),
            ("resource_id", self.resource_id.is_some()),
        ] {
            if given && !uses.contains(&key) {
                return Err(wrong(&format!("`{key}` of "), key, &format!("for {kind} {}", uses.join(", "))));
            }
        }
        let encoded = |text: &Option<String>, default: &str| {
            utf8_percent_encode(text.as_deref().unwrap_or(default), ESCAPED).to_string()
        };
        if let "azure-logs" | "foundry" = kind {
            let resource = self.resource_id.as_deref().or(azure_resource.filter(|_| kind == "azure-logs"));
            let Some(resource) = resource.filter(|id| id.starts_with("/subscriptions/")) else {
                let what = if kind == "azure-logs" {
                    "the resource of Application Insights or its workspace"
                } else {
                    "the Foundry project"
                };
                let expected =
                    format!("the id of {what}: /subscriptions/…; its page `JSON View` in the portal shows it");
                return Err(wrong("`resource_id` of ", resource.unwrap_or(""), &expected));
            };
            return Ok(if kind == "azure-logs" { azure_logs(resource) } else { foundry(resource) });
        }
        let Some(url) = self.url.as_deref() else {
            return Err(PlanError::Missing {
                what: format!("`url` of {KEY}"),
                hint: format!(
                    "give the address of {kind}, such as `{{ kind = \"{kind}\", url = \"http://127.0.0.1:8000\" }}`"
                ),
            });
        };
        let base = page(url)?.trim_end_matches('/');
        if base.contains(['?', '#', '{']) {
            return Err(wrong(
                "`url` of ",
                url,
                "an address without query; write whole templates as `trace_url = \"…\"`",
            ));
        }
        Ok(match kind {
            "jaeger" => format!("{base}/trace/{{trace_id}}?uiFind={{span_id}}"),
            "grafana" => grafana(base, self.datasource.as_deref().unwrap_or("tempo"), self.org.unwrap_or(1)),
            "phoenix" => format!("{base}/redirects/{{target}}"),
            "langfuse" if self.project.is_none() => format!("{base}/trace/{{trace_id}}?observation={{span_id}}"),
            "langfuse" => {
                let project = encoded(&self.project, "");
                format!("{base}/project/{project}/traces/{{trace_id}}?observation={{span_id}}")
            }
            _ => {
                let experiment = encoded(&self.experiment, "0");
                format!("{base}/#/experiments/{experiment}/traces?selectedEvaluationId=tr-{{trace_id}}")
            }
        })
    }
}

/// Grafana's Explore with a trace of Tempo in it, the span in sight.
fn grafana(base: &str, datasource: &str, org: u32) -> String {
    let panes = serde_json::json!({"t": {
        "datasource": datasource,
        "queries": [{
            "refId": "A", "datasource": {"type": "tempo", "uid": datasource},
            "queryType": "traceql", "query": "\u{1}trace_id\u{2}",
        }],
        "range": {"from": "\u{1}from_unix_ms\u{2}", "to": "\u{1}to_unix_ms\u{2}"},
        "panelsState": {"trace": {"spanId": "\u{1}span_id\u{2}"}},
    }});
    // JSON spells the two marks as six characters each; they become the braces of places once everything else is escaped.
    let panes = utf8_percent_encode(&panes.to_string(), ESCAPED).to_string();
    let panes = panes.replace("%5Cu0001", "{").replace("%5Cu0002", "}");
    format!("{base}/explore?schemaVersion=1&orgId={org}&panes={panes}")
}

/// The query for a trace on the page `Logs` of the portal.
fn azure_logs(resource: &str) -> String {
    let scope = serde_json::json!({"resources": [{"resourceId": resource}]}).to_string();
    let scope = utf8_percent_encode(&scope, ESCAPED);
    format!(
        "https://portal.azure.com/#blade/Microsoft_OperationsManagementSuite_Workspace/AnalyticsBlade/initiator/\
         AnalyticsShareLinkToQuery/isQueryEditorVisible/true/scope/{scope}/query/{{kql_gzip}}/isQueryBase64Compressed/true/\
         timespanInIsoFormat/P90D"
    )
}

/// A project's list of traces. No public address opens one of them; behind the list stands which to look for.
fn foundry(project: &str) -> String {
    format!("https://ai.azure.com/tracing?wsid={}#{{trace_id}}", utf8_percent_encode(project, PATH))
}

/// An address that a browser opens as a page: other schemes could run something. What stands in links is kept with runs and
/// shown, so a password has no place in it.
fn page(url: &str) -> Result<&str, PlanError> {
    let expected =
        "an address that begins with http:// or https://, or a table such as { kind = \"jaeger\", url = \"…\" }";
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return Err(wrong("", url, expected));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Err(wrong("", url, expected));
    }
    match authority.rsplit_once('@') {
        Some((_, host)) => Err(wrong("", &format!("…@{host}"), "an address without user and password")),
        None => Ok(url),
    }
}

/// The places of templates. The last three are for the backends here.
const PLACES: [&str; 8] =
    ["trace_id", "span_id", "start_unix_ms", "run_id", "from_unix_ms", "to_unix_ms", "target", "kql_gzip"];

/// A template that leads to a trace, and has no places that nothing is put into.
fn whole(template: &str) -> Result<&str, PlanError> {
    let braced = template.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0));
    // Other braces may belong to the address.
    let is_word = |text: &&str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let places: Vec<&str> = braced.filter(is_word).collect();
    let expected =
        format!("an address with {{trace_id}} or {{span_id}} in it; all places are {{{}}}", PLACES.join("}, {"));
    let leads = places.iter().any(|place| matches!(*place, "trace_id" | "span_id" | "target" | "kql_gzip"));
    if !leads || places.iter().any(|place| !PLACES.contains(place)) {
        return Err(wrong("", template, &expected));
    }
    Ok(template)
}

fn wrong(part: &str, found: &str, expected: &str) -> PlanError {
    PlanError::Value { place: format!("{part}{KEY}"), found: found.to_owned(), expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(toml: &str) -> Result<String, String> {
        #[derive(Deserialize)]
        struct Section {
            trace_url: TraceUrl,
        }
        let section: Section = toml::from_str(&format!("trace_url = {toml}")).map_err(|e| e.message().to_owned())?;
        section.trace_url.template(None).map_err(|e| e.to_string())
    }

    #[test]
    fn each_backend_has_its_template() {
        for (toml, expected) in [
            ("\"https://x.example/{trace_id}\"", "https://x.example/{trace_id}"),
            (
                r#"{ kind = "jaeger", url = "http://127.0.0.1:16686/" }"#,
                "http://127.0.0.1:16686/trace/{trace_id}?uiFind={span_id}",
            ),
            (r#"{ kind = "phoenix", url = "http://p:6006/base" }"#, "http://p:6006/base/redirects/{target}"),
            (
                r#"{ kind = "langfuse", url = "https://l.example", project = "a/b" }"#,
                "https://l.example/project/a%2Fb/traces/{trace_id}?observation={span_id}",
            ),
            (
                r#"{ kind = "langfuse", url = "https://l.example" }"#,
                "https://l.example/trace/{trace_id}?observation={span_id}",
            ),
            (
                r#"{ kind = "mlflow", url = "http://m:5000", experiment = "7" }"#,
                "http://m:5000/#/experiments/7/traces?selectedEvaluationId=tr-{trace_id}",
            ),
            (
                r#"{ kind = "foundry", resource_id = "/subscriptions/s/projects/p q" }"#,
                "https://ai.azure.com/tracing?wsid=/subscriptions/s/projects/p%20q#{trace_id}",
            ),
        ] {
            assert_eq!(template(toml).as_deref(), Ok(expected), "{toml}");
        }
        let logs = template(r#"{ kind = "azure-logs", resource_id = "/subscriptions/s" }"#).expect("a template");
        assert!(logs.contains(
            "/scope/%7B%22resources%22%3A%5B%7B%22resourceId%22%3A%22%2Fsubscriptions%2Fs%22%7D%5D%7D/query/{kql_gzip}/"
        ));
    }

    #[test]
    fn explore_gets_a_document_whose_only_places_are_ours() {
        let made = template(r#"{ kind = "grafana", url = "https://g.example", datasource = "t{x}" }"#).expect("one");
        let (before, panes) = made.split_once("&panes=").expect("panes");
        assert_eq!(before, "https://g.example/explore?schemaVersion=1&orgId=1");
        let places: Vec<&str> = panes.split('{').skip(1).filter_map(|part| part.split('}').next()).collect();
        assert_eq!(places.len(), 4, "{panes}");
        let json = percent_encoding::percent_decode_str(panes).decode_utf8().expect("a text");
        let json: serde_json::Value = serde_json::from_str(&json).expect("a document");
        assert_eq!(json["t"]["queries"][0]["query"], "{trace_id}");
        assert_eq!(json["t"]["datasource"], "t{x}");
    }

    #[test]
    fn a_template_leads_to_a_trace_by_places_that_are_known() {
        for good in [
            "http://x/{span_id}",
            "http://x/{trace_id}?q={\"a\":1}&t={from_unix_ms}",
            "http://x/?r={run_id}&s={trace_id}",
        ] {
            assert_eq!(template(&format!("'{good}'")).as_deref(), Ok(good));
        }
        for bad in ["http://x/", "http://x/{traceid}", "http://x/{trace_id}/{span}", "http://x/{run_id}"] {
            let error = template(&format!("'{bad}'")).expect_err(bad);
            assert!(error.contains(bad) && error.contains("{trace_id}, {span_id}, {start_unix_ms}"), "{error}");
        }
    }

    #[test]
    fn what_makes_no_link_is_refused_and_says_why() {
        for (toml, said) in [
            ("\"javascript:alert(1)\"", "begins with http:// or https://"),
            ("\"jaeger\"", "{ kind = \"jaeger\", url"),
            ("\"https://me:secret@x.example/{trace_id}\"", "without user and password"),
            (r#"{ kind = "jeager", url = "http://x" }"#, KINDS),
            (r#"{ kind = "jaeger" }"#, "`url` of `trace_url` in [trace] is not set"),
            (r#"{ kind = "jaeger", url = "http://x", experiment = "1" }"#, "for jaeger url"),
            (r#"{ kind = "jaeger", url = "http://x?y" }"#, "without query"),
            (r#"{ kind = "azure-logs" }"#, "/subscriptions/…"),
            (r#"{ kind = "foundry", resource_id = "p" }"#, "the Foundry project"),
            ("3", "a template such as"),
        ] {
            let error = template(toml).expect_err(toml);
            assert!(error.contains(said), "{toml}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
