//! Phoenix: scores are span annotations. Source: Phoenix's own server, `server/api/routers/v1/spans.py`.
//!
//! `POST /v1/span_annotations?sync=true` takes a list, all or nothing. It answers 404 with the ids of spans that it does not
//! know: spans are stored a little after they were acknowledged. An annotation is replaced where span, name and
//! `identifier` are the same.

use async_trait::async_trait;
use http::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, Fate, Reply};
use super::score::Outgoing;
use super::{Backend, Finding, goes_on};

/// Annotations in a request.
const AT_ONCE: usize = 100;

pub(super) struct Phoenix;

#[async_trait]
impl Backend for Phoenix {
    /// An annotation has no place for an error, and sits on a span.
    fn wants(&self, score: &Outgoing) -> bool {
        score.is_scored() && score.span_id.is_some()
    }

    fn portion(&self) -> usize {
        256
    }

    async fn push(&self, client: &Client, scores: &[Outgoing]) -> Vec<Option<Fate>> {
        let mut fates: Vec<Option<Fate>> = vec![None; scores.len()];
        // Lists of places, the first on top.
        let places: Vec<usize> = (0..scores.len()).collect();
        let mut parts: Vec<Vec<usize>> = places.chunks(AT_ONCE).rev().map(<[usize]>::to_vec).collect();
        while let Some(part) = parts.pop() {
            let fate = match annotate(client, scores, &part).await {
                Answer::UnknownSpans { which } => {
                    let (unknown, known): (Vec<_>, Vec<_>) =
                        part.into_iter().partition(|&place| span(&scores[place]).is_some_and(|id| which.contains(&id)));
                    for place in unknown {
                        let (id, trace) = (span(&scores[place]).unwrap_or_default(), scores[place].trace_id);
                        let address = client.config().address();
                        fates[place] =
                            Some(Fate::Unknown(format!("{address} does not know span {id} of trace {trace}")));
                    }
                    if !known.is_empty() {
                        parts.push(known);
                    }
                    continue;
                }
                Answer::Split if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second.to_vec(), first.to_vec()]);
                    continue;
                }
                Answer::Split => Fate::Refused("one annotation is too large for it".to_owned()),
                Answer::Refused(_) if part.len() > 1 => {
                    // One of them is at fault, and the others need not go with it.
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second.to_vec(), first.to_vec()]);
                    continue;
                }
                Answer::All(fate) | Answer::Refused(fate) => fate,
            };
            let on = goes_on(&fate);
            for place in part {
                fates[place] = Some(fate.clone());
            }
            if !on {
                break;
            }
        }
        fates
    }

    async fn look(&self, client: &Client) -> Finding {
        let project = client.config().project.as_deref();
        // `default` is always there.
        let url = client.route(["v1", "projects", project.unwrap_or("default")]);
        let reply = match client.get(url.clone()).await {
            Ok(reply) => reply,
            Err(fate) => return Finding::of(fate),
        };
        match (reply.status.as_u16(), project) {
            (200..=299, _) if reply.json().pointer("/data/name").is_some() => {
                Finding::Fine(format!("project `{}`", project.unwrap_or("default")))
            }
            (404, Some(project)) if reply.message().contains(project) => Finding::Note(format!(
                "takes requests; project `{project}` is not there yet and is made when its first span arrives"
            )),
            _ => Finding::of(client.no_such_route(&reply, &url)),
        }
    }
}

enum Answer {
    All(Fate),
    UnknownSpans { which: Vec<String> },
    Split,
    Refused(Fate),
}

async fn annotate(client: &Client, scores: &[Outgoing], part: &[usize]) -> Answer {
    let mut url = client.route(["v1", "span_annotations"]);
    url.set_query(Some("sync=true"));
    let data: Vec<Value> = part.iter().map(|&place| annotation(&scores[place])).collect();
    let reply = match client.send(Method::POST, url.clone(), &json!({ "data": data })).await {
        Ok(reply) => reply,
        Err(fate) => return Answer::All(fate),
    };
    match reply.status.as_u16() {
        200..=299 => Answer::All(Fate::Taken),
        404 => {
            let which = named(&reply, part.iter().filter_map(|&place| span(&scores[place])));
            if which.is_empty() {
                return Answer::All(client.no_such_route(&reply, &url));
            }
            Answer::UnknownSpans { which }
        }
        413 => Answer::Split,
        _ => Answer::Refused(client.refused(&reply)),
    }
}

/// Which of the spans an answer names.
fn named(reply: &Reply, spans: impl Iterator<Item = String>) -> Vec<String> {
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    let mut which: Vec<String> = spans.filter(|span| text.contains(span.as_str())).collect();
    which.dedup();
    which
}

fn span(score: &Outgoing) -> Option<String> {
    score.span_id.map(|id| id.to_string())
}

fn annotation(score: &Outgoing) -> Value {
    let mut result = Map::new();
    result.extend(score.evaluation.value().map(|value| ("score".to_owned(), json!(value))));
    result.extend(score.evaluation.label().map(|label| ("label".to_owned(), json!(label))));
    result.extend(score.explanation().map(|text| ("explanation".to_owned(), json!(text))));
    let metadata: Map<String, Value> =
        score.metadata.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    json!({
        "span_id": span(score),
        "name": score.name,
        "annotator_kind": score.annotator.as_str(),
        "result": result,
        "metadata": metadata,
        "identifier": format!("spanscore-{}", score.id_hex()),
    })
}
