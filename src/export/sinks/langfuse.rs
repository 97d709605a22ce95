//! Langfuse: scores. Source: Langfuse's own server, `web/src/pages/api/public/scores`.
//!
//! `POST /api/public/scores` takes one score; one with an `id` and a `timestamp` that are known replaces it, so both are
//! sent: left to itself, the server takes the time of the request. A score may come before its trace. An assertion is BOOLEAN, a number NUMERIC, a label without a number CATEGORICAL.

use async_trait::async_trait;
use futures::StreamExt as _;
use http::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, Fate};
use super::score::Outgoing;
use super::{Backend, Finding, goes_on};

/// Requests under way at a time.
const AT_ONCE: usize = 8;

pub(super) struct Langfuse;

#[async_trait]
impl Backend for Langfuse {
    /// A score has a value or a label; there is no place for an error.
    fn wants(&self, score: &Outgoing) -> bool {
        score.is_scored()
    }

    fn portion(&self) -> usize {
        64
    }

    async fn push(&self, client: &Client, scores: &[Outgoing]) -> Vec<Option<Fate>> {
        let mut fates = Vec::with_capacity(scores.len());
        let requests: Vec<_> = scores.iter().map(|score| push_one(client, score)).collect();
        let mut answers = futures::stream::iter(requests).buffered(AT_ONCE);
        while let Some(fate) = answers.next().await {
            let on = goes_on(&fate);
            fates.push(Some(fate));
            if !on {
                break;
            }
        }
        drop(answers);
        fates
    }

    async fn look(&self, client: &Client) -> Finding {
        let url = client.route(["api", "public", "projects"]);
        let reply = match client.get(url.clone()).await {
            Ok(reply) => reply,
            Err(fate) => return Finding::of(fate),
        };
        let json = reply.json();
        let found = json.pointer("/data/0").filter(|_| reply.status.is_success());
        let Some(found) = found else { return Finding::of(client.no_such_route(&reply, &url)) };
        let text = |key: &str| found.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (name, id) = (text("name"), text("id"));
        match client.config().project.as_deref() {
            Some(wanted) if wanted != name && wanted != id => Finding::Problem(
                format!("the key belongs to project `{name}`, and the suite says `{wanted}`"),
                format!("use the keys of `{wanted}`, or correct `project` in [[sinks]]"),
            ),
            _ => Finding::Fine(format!("project `{name}`")),
        }
    }
}

async fn push_one(client: &Client, score: &Outgoing) -> Fate {
    let url = client.route(["api", "public", "scores"]);
    match client.send(Method::POST, url.clone(), &body(score)).await {
        Ok(reply) if reply.status.is_success() => Fate::Taken,
        Ok(reply) if reply.status == 404 => client.no_such_route(&reply, &url),
        Ok(reply) => client.refused(&reply),
        Err(fate) => fate,
    }
}

fn body(score: &Outgoing) -> Value {
    let (kind, value) = match (score.assertion(), score.evaluation.value(), score.evaluation.label()) {
        (Some(holds), ..) => ("BOOLEAN", json!(u8::from(holds))),
        (None, Some(value), _) => ("NUMERIC", json!(value)),
        (None, None, label) => ("CATEGORICAL", json!(label)),
    };
    let mut metadata: Map<String, Value> =
        score.metadata.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    metadata.insert("annotator_kind".to_owned(), json!(score.annotator.as_str()));
    metadata.extend(score.evaluation.label().map(|label| ("label".to_owned(), json!(label))));
    let mut body = Map::new();
    body.insert("id".to_owned(), json!(format!("spanscore-{}", score.id_hex())));
    body.insert("traceId".to_owned(), json!(score.trace_id.to_string()));
    body.extend(score.span_id.map(|id| ("observationId".to_owned(), json!(id.to_string()))));
    body.insert("name".to_owned(), json!(score.name));
    body.insert("value".to_owned(), value);
    body.insert("dataType".to_owned(), json!(kind));
    body.extend(score.explanation().map(|text| ("comment".to_owned(), json!(text))));
    body.insert("metadata".to_owned(), Value::Object(metadata));
    body.insert("timestamp".to_owned(), json!(score.time()));
    Value::Object(body)
}
