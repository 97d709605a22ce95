//! `MLflow`: scores are assessments of a trace, with the span that they are about. Source: `MLflow`'s own server,
//! `server/handlers.py` and `store/tracking/sqlalchemy_store.py`.
//!
//! Nothing is replaced by itself, so a trace's assessments are read first: `GET /api/3.0/mlflow/traces/{id}`. What is there
//! and the same is left alone, what differs is patched, what is not there is created, with an id of our own. `MLflow` changes
//! neither name nor source nor span of an assessment, and merges metadata: one that differs there is deleted and created.
//! A failed evaluation is an assessment with an error, which `MLflow` has a place for.

use std::collections::HashMap;

use async_trait::async_trait;
use futures::StreamExt as _;
use http::Method;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::client::{Client, Fate};
use super::score::{Annotator, Outgoing};
use super::{Backend, Finding, goes_on};
use crate::model::Evaluation;
use crate::trace::semconv as sc;

/// Traces dealt with at a time.
const AT_ONCE: usize = 4;

/// Under which an assessment's id is found again, should the server have given it another.
const ID: &str = "spanscore_score_id";

/// The score's label, which has no place of its own beside a number.
const LABEL: &str = "label";

/// Metadata of ours that a score need not have. What others wrote beside it is theirs.
const AT_TIMES: [&str; 2] = [LABEL, sc::GEN_AI_RESPONSE_ID];

/// What a patch changes. Where there is no rationale on either side, a patch must not make an empty one.
const MASK: &str = "feedback,metadata";
const MASK_WITH_RATIONALE: &str = "feedback,metadata,rationale";

pub(super) struct Mlflow;

#[async_trait]
impl Backend for Mlflow {
    fn wants(&self, _score: &Outgoing) -> bool {
        true
    }

    fn portion(&self) -> usize {
        64
    }

    async fn push(&self, client: &Client, scores: &[Outgoing]) -> Vec<Option<Fate>> {
        let mut by_trace: Vec<(String, Vec<usize>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (place, score) in scores.iter().enumerate() {
            let trace = format!("tr-{}", score.trace_id);
            let group = *places.entry(trace.clone()).or_insert_with(|| {
                by_trace.push((trace, Vec::new()));
                by_trace.len() - 1
            });
            by_trace[group].1.push(place);
        }
        let mut fates: Vec<Option<Fate>> = vec![None; scores.len()];
        let groups: Vec<_> = by_trace.iter().map(|(trace, places)| assess(client, trace, scores, places)).collect();
        let mut answers = futures::stream::iter(groups).buffered(AT_ONCE);
        while let Some(of_trace) = answers.next().await {
            let on = of_trace.iter().all(|(_, fate)| goes_on(fate));
            for (place, fate) in of_trace {
                fates[place] = Some(fate);
            }
            if !on {
                break;
            }
        }
        drop(answers);
        fates
    }

    async fn look(&self, client: &Client) -> Finding {
        let project = client.config().project.as_deref().unwrap_or("0");
        let is_id = project.chars().all(|c| c.is_ascii_digit());
        let (route, key) = if is_id { ("get", "experiment_id") } else { ("get-by-name", "experiment_name") };
        let mut url = client.route(["api", "2.0", "mlflow", "experiments", route]);
        url.query_pairs_mut().append_pair(key, project);
        let reply = match client.get(url.clone()).await {
            Ok(reply) => reply,
            Err(fate) => return Finding::of(fate),
        };
        let json = reply.json();
        let text = |path: &str| json.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (name, id) = (text("/experiment/name"), text("/experiment/experiment_id"));
        if reply.status.is_success() && !id.is_empty() {
            return Finding::Fine(format!("experiment `{name}`, id {id}"));
        }
        if text("/error_code") == "RESOURCE_DOES_NOT_EXIST" {
            return Finding::Problem(
                format!("there is no experiment `{project}`"),
                "create it with `mlflow experiments create`, and give its id as `project` in [[sinks]] and as \
                 x-mlflow-experiment-id in [trace] otlp_headers"
                    .to_owned(),
            );
        }
        Finding::of(client.no_such_route(&reply, &url))
    }
}

/// Brings the scores of one trace; gives the fate of each by its place.
async fn assess(client: &Client, trace: &str, scores: &[Outgoing], places: &[usize]) -> Vec<(usize, Fate)> {
    let all = |fate: Fate| places.iter().map(|&place| (place, fate.clone())).collect::<Vec<_>>();
    let known = match assessments(client, trace).await {
        Ok(known) => known,
        Err(fate) => return all(fate),
    };
    let mut fates = Vec::with_capacity(places.len());
    for &place in places {
        let fate = assess_one(client, trace, &scores[place], &known).await;
        let on = goes_on(&fate);
        fates.push((place, fate));
        if !on {
            break;
        }
    }
    fates
}

/// The assessments of ours that a trace has, by the id of their score.
async fn assessments(client: &Client, trace: &str) -> Result<HashMap<String, Value>, Fate> {
    let url = client.route(["api", "3.0", "mlflow", "traces", trace]);
    let reply = client.get(url.clone()).await?;
    let json = reply.json();
    if is_missing(&json) {
        return Err(Fate::Unknown(format!("{} does not know trace {trace}", client.config().address())));
    }
    let Some(info) = json.pointer("/trace/trace_info").filter(|_| reply.status.is_success()) else {
        return Err(client.no_such_route(&reply, &url));
    };
    let list = info.get("assessments").and_then(Value::as_array).cloned().unwrap_or_default();
    let of_ours = |assessment: Value| {
        let id = assessment.pointer("/metadata")?.get(ID)?.as_str()?.to_owned();
        // Who overrode a score by hand did so on purpose, and the new one does not carry the id.
        Some((id, assessment))
    };
    Ok(list.into_iter().filter_map(of_ours).collect())
}

async fn assess_one(client: &Client, trace: &str, score: &Outgoing, known: &HashMap<String, Value>) -> Fate {
    let mut wanted = assessment(trace, score);
    let route = |more: &[&str]| {
        let path = ["api", "3.0", "mlflow", "traces", trace, "assessments"];
        client.route(path.into_iter().chain(more.iter().copied()))
    };
    let create = |wanted: Value| client.post(route(&[]), json!({ "assessment": wanted }));
    let sent = match known.get(&score.id_hex()) {
        None => create(wanted).await,
        Some(there) => {
            let assessment_id = there.get("assessment_id").and_then(Value::as_str).unwrap_or_default();
            let url = route(&[assessment_id]);
            match difference(there, &wanted) {
                Difference::None => return Fate::Taken,
                Difference::Patched => {
                    wanted["assessment_id"] = json!(assessment_id);
                    let is_plain = [there, &wanted].iter().all(|one| one.get("rationale").is_none());
                    let mask = if is_plain { MASK } else { MASK_WITH_RATIONALE };
                    let body = json!({ "assessment": wanted, "update_mask": mask });
                    client.send(Method::PATCH, url, &body).await
                }
                // Where only the first of the two is done, the next look finds nothing and creates it.
                Difference::Fixed => match client.send(Method::DELETE, url, &json!({})).await {
                    Ok(reply) if reply.status.is_success() => create(wanted).await,
                    other => other,
                },
            }
        }
    };
    match sent {
        Ok(reply) if reply.status.is_success() => Fate::Taken,
        Ok(reply) if is_missing(&reply.json()) => {
            Fate::Unknown(format!("{} does not know trace {trace}", client.config().address()))
        }
        Ok(reply) => client.refused(&reply),
        Err(fate) => fate,
    }
}

fn is_missing(json: &Value) -> bool {
    json.get("error_code").and_then(Value::as_str) == Some("RESOURCE_DOES_NOT_EXIST")
}

/// How an assessment differs from what it should say.
#[derive(Debug, PartialEq, Eq)]
enum Difference {
    None,
    /// In what a patch changes.
    Patched,
    /// In what nothing changes.
    Fixed,
}

fn difference(there: &Value, wanted: &Value) -> Difference {
    let same = |path: &str| is_same(there.pointer(path), wanted.pointer(path));
    let metadata = |of: &Value, key: &str| of.get("metadata").and_then(|all| all.get(key)).cloned();
    let fixed = ["/assessment_name", "/span_id", "/source/source_type", "/source/source_id"];
    let is_left_over = |key: &&str| metadata(there, key).is_some() && metadata(wanted, key).is_none();
    if !fixed.iter().all(|path| same(path)) || AT_TIMES.iter().any(is_left_over) {
        return Difference::Fixed;
    }
    let patched = ["/feedback/value", "/feedback/error/error_code", "/feedback/error/error_message", "/rationale"];
    let written = wanted.get("metadata").and_then(Value::as_object).into_iter().flatten();
    let is_metadata_same = written.into_iter().all(|(key, value)| metadata(there, key).as_ref() == Some(value));
    if patched.iter().all(|path| same(path)) && is_metadata_same { Difference::None } else { Difference::Patched }
}

/// Numbers may come back as integers, and what is empty as nothing.
fn is_same(one: Option<&Value>, other: Option<&Value>) -> bool {
    let said = |value: Option<&Value>| value.filter(|value| !value.is_null() && *value != "").cloned();
    let (one, other) = (said(one), said(other));
    let number = |value: &Option<Value>| value.as_ref().and_then(Value::as_f64);
    one == other || matches!((number(&one), number(&other)), (Some(a), Some(b)) if a.total_cmp(&b).is_eq())
}

/// Ids of assessments are one for a whole server, and another attempt at a case has another trace.
fn assessment_id(trace: &str, score: &Outgoing) -> String {
    let hash = Sha256::new().chain_update(score.id).chain_update(trace).finalize();
    format!("a-{}", hex::encode(&hash[..16]))
}

fn assessment(trace: &str, score: &Outgoing) -> Value {
    let value = match (score.assertion(), score.evaluation.value(), score.evaluation.label()) {
        (Some(holds), ..) => json!(holds),
        (None, Some(value), _) => json!(value),
        (None, None, label) => json!(label),
    };
    let mut feedback = Map::new();
    if let Evaluation::Failed { error_type, message } = &score.evaluation {
        let message = if message.is_empty() { error_type } else { message };
        feedback.insert("error".to_owned(), json!({ "error_code": error_type, "error_message": message }));
    } else {
        feedback.insert("value".to_owned(), value);
    }
    let source = match score.annotator {
        Annotator::Code => "CODE",
        Annotator::Llm => "LLM_JUDGE",
        Annotator::Human => "HUMAN",
    };
    let mut metadata: Map<String, Value> =
        score.metadata.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    metadata.extend(score.evaluation.label().map(|label| (LABEL.to_owned(), json!(label))));
    metadata.insert(ID.to_owned(), json!(score.id_hex()));
    let time = score.time();
    let mut body = Map::new();
    body.insert("assessment_id".to_owned(), json!(assessment_id(trace, score)));
    body.insert("assessment_name".to_owned(), json!(score.name));
    body.insert("trace_id".to_owned(), json!(trace));
    body.extend(score.span_id.map(|id| ("span_id".to_owned(), json!(id.to_string()))));
    body.insert("source".to_owned(), json!({ "source_type": source, "source_id": "spanscore" }));
    body.insert("create_time".to_owned(), json!(time));
    body.insert("last_update_time".to_owned(), json!(time));
    body.insert("feedback".to_owned(), Value::Object(feedback));
    body.extend(score.explanation().map(|text| ("rationale".to_owned(), json!(text))));
    body.insert("metadata".to_owned(), Value::Object(metadata));
    body.insert("valid".to_owned(), json!(true));
    Value::Object(body)
}
