//! One request to the ingestion endpoint, and what its answer says about each envelope.
//!
//! Source: Azure Monitor's ingestion API `v2.1/track`, and its status codes: 200 all taken, 206 some; 402 and 439 the quota is
//! used up; 401 and 403 the token, or that there is none; 307 and 308 another place of the same service.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode};
use reqwest::{Client, ClientBuilder, Url};
use serde::Deserialize;

use super::super::connect;
use super::super::destination::Retry;
use super::super::http::{Capped, gzip, read_whole, retry_after, root_cause};
use super::access::Access;
use crate::model::Secret;
use crate::net::{Secrets, is_safe};

/// An answer names each envelope that was refused, and a request has hundreds of them.
const MAX_ANSWER: usize = 1 << 20;
/// Servers close idle connections after some seconds, and a request on a closed one counts as sent.
const IDLE: Duration = Duration::from_secs(4);
/// How many redirects are followed one after another.
const REDIRECTS: usize = 5;
/// Domains of the service, in its clouds: a redirect may stay among the hosts of one of them.
pub(super) const DOMAINS: [&str; 5] = [
    ".applicationinsights.azure.com",
    ".applicationinsights.azure.cn",
    ".applicationinsights.azure.us",
    ".services.visualstudio.com",
    ".monitor.azure.com",
];

/// What became of the envelopes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// One fate for each, in their order, from an endpoint that says how many it received or took.
    Each {
        fates: Vec<Fate>,
        after: Option<Duration>,
        /// Whether some of those that are to be sent again may have been taken.
        ambiguous: bool,
    },
    /// All were taken, by somebody who says no more than that.
    All,
    /// None was taken; try again.
    Later { retry: Retry, ambiguous: bool },
    /// The endpoint itself says that the request is too large, or that something in it is bad and not what: smaller ones tell.
    TooLarge(String),
    /// The request is refused in words that need not be the endpoint's: smaller ones tell whether it takes anything at all.
    Strange(String),
    /// Some of it was taken, and nobody can say what.
    Unclear(String),
    /// Something must be mended first.
    Halt(String),
}

/// What became of one envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Taken,
    /// Refused for good, and why.
    Refused(String),
    /// Failed for now for a reason of its own (it is named with a 5xx, and something else was taken), and why.
    Again(String),
    /// Not taken now, whatever it is, and why: the quota, too many requests, the token, nothing was taken.
    Busy(String),
    /// Not taken, or perhaps, and nothing is said of it itself.
    Unsaid(String),
}

/// An answer as it came.
struct Reply {
    place: Url,
    status: StatusCode,
    headers: HeaderMap,
    /// `None`: it has no end, or broke off.
    text: Option<Vec<u8>>,
    with_token: bool,
    /// What it may repeat, and nobody needs to see.
    secrets: Secrets,
}

/// The endpoint.
pub(super) struct Ingestion {
    client: Client,
    access: Access,
    key: Secret,
    /// Where the connection string says that it is.
    home: Url,
    /// Where it said that it is.
    place: Mutex<Url>,
}

impl Ingestion {
    /// A client for the resource with this key; nothing is sent yet.
    pub(super) fn new(base: &Url, key: &str, access: Access) -> Result<Self, String> {
        Self::with(connect::client(base, access.timeout), base, key, access)
    }

    /// The same with a client that is begun already.
    pub(super) fn with(builder: ClientBuilder, base: &Url, key: &str, access: Access) -> Result<Self, String> {
        let client = builder.pool_idle_timeout(IDLE).build().map_err(|error| error.to_string())?;
        let home = base.join("v2.1/track").map_err(|error| error.to_string())?;
        Ok(Self { client, access, key: Secret::new(key), place: Mutex::new(home.clone()), home })
    }

    fn place(&self) -> Url {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends envelopes, each as JSON.
    pub(super) async fn send(&self, envelopes: &[&[u8]]) -> Answer {
        match self.ask(envelopes).await {
            Ok(reply) => judge(&reply, envelopes.len()),
            Err(answer) => answer,
        }
    }

    /// Sends nothing, to see who answers. Ingestion says how many items it received and took, also where it refuses a request
    /// (400) for having none; whoever does not say so is somebody else.
    pub(super) async fn look(&self) -> Result<(), String> {
        let answer = match self.ask(&[]).await {
            Ok(reply) if matches!(reply.status.as_u16(), 200 | 206 | 400) => {
                let said = reply.said().filter(|said| said.items_received.is_some() && said.items_accepted.is_some());
                let words = || format!("{}, which is no word of an ingestion endpoint", reply.words());
                return said
                    .map(|_| ())
                    .ok_or_else(|| format!("{}; is it the IngestionEndpoint of the connection string?", words()));
            }
            Ok(reply) => judge(&reply, 0),
            Err(answer) => answer,
        };
        match answer {
            Answer::Each { .. } | Answer::All => Ok(()),
            Answer::Later { retry, .. } => Err(retry.reason),
            Answer::TooLarge(why) | Answer::Strange(why) | Answer::Unclear(why) | Answer::Halt(why) => Err(why),
        }
    }

    /// Sends envelopes and gives the answer, after redirects and with a token if it takes one; else why there is none.
    async fn ask(&self, envelopes: &[&[u8]]) -> Result<Reply, Answer> {
        let body = Bytes::from(gzip(&array(envelopes)));
        let mut refused: Option<Secret> = None;
        let mut redirects = 0;
        while redirects <= REDIRECTS {
            let place = self.place();
            let with_token = self.access.wanted();
            let mut token = None;
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
            if with_token {
                if !is_safe(&place) {
                    let place = shown(&place);
                    return Err(Answer::Halt(format!("{place} wants an Entra token, which is sent by https only")));
                }
                let given = match self.access.token(refused.as_ref()).await {
                    Ok(given) => given,
                    Err(error) => {
                        let reason = format!("{} takes telemetry with an Entra token: {error}", shown(&place));
                        let retry = Retry { after: None, reason: reason.clone(), unreachable: false };
                        let passing = error.is_passing();
                        return Err(if passing {
                            Answer::Later { retry, ambiguous: false }
                        } else {
                            Answer::Halt(reason)
                        });
                    }
                };
                let Some(value) = bearer(&given) else {
                    return Err(Answer::Halt("the Entra token is no text that a header can hold".to_owned()));
                };
                headers.insert(AUTHORIZATION, value);
                token = Some(given);
            }
            let call = self.client.post(place.clone()).headers(headers).body(body.clone());
            let response = match call.send().await {
                Ok(response) => response,
                Err(error) => {
                    if error.is_connect() {
                        // Whoever sent us there may know better by now.
                        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = self.home.clone();
                    }
                    return Err(failed(&place, &error, self.access.timeout));
                }
            };
            let (status, headers) = (response.status(), response.headers().clone());
            let sent = refused.iter().chain(token.iter()).chain([&self.key]);
            let secrets = Secrets::new(sent.cloned());
            match status {
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                    match self.moved(&place, &headers, &secrets) {
                        Ok(()) => {
                            redirects += 1;
                            continue;
                        }
                        Err(why) => return Err(Answer::Halt(why)),
                    }
                }
                StatusCode::UNAUTHORIZED if with_token && refused.is_none() => {
                    refused = token;
                    continue;
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if !with_token && self.access.ask() => continue,
                _ => {}
            }
            let text = match read_whole(response, MAX_ANSWER).await {
                Capped::Whole(text) => Some(text),
                Capped::TooLarge | Capped::Broken => None,
            };
            return Ok(Reply { place, status, headers, text, with_token, secrets });
        }
        Err(Answer::Halt(format!("{} redirects again and again", shown(&self.place()))))
    }

    /// Takes up another place if it belongs to the same service: telemetry and tokens go to nobody else.
    fn moved(&self, from: &Url, headers: &HeaderMap, secrets: &Secrets) -> Result<(), String> {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let to = from.join(location).ok().filter(|to| !location.is_empty() && is_same_service(from, to));
        let Some(to) = to else {
            return Err(format!(
                "{} redirects to `{}`, which is not of the same service; nothing was sent there. Is the connection \
                 string right?",
                shown(from),
                secrets.quote(location)
            ));
        };
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = to;
        Ok(())
    }
}

fn is_same_service(from: &Url, to: &Url) -> bool {
    let (Some(a), Some(b)) = (from.host_str(), to.host_str()) else { return false };
    let safe = to.scheme() == from.scheme() || to.scheme() == "https";
    safe && (a == b || DOMAINS.iter().any(|domain| a.ends_with(domain) && b.ends_with(domain)))
}

/// The header of a token; debug output hides it.
pub(super) fn bearer(token: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn array(envelopes: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::with_capacity(envelopes.iter().map(|envelope| envelope.len() + 1).sum::<usize>() + 2);
    body.push(b'[');
    for (i, envelope) in envelopes.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        body.extend_from_slice(envelope);
    }
    body.push(b']');
    body
}

/// What the endpoint says of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Said {
    items_received: Option<u64>,
    items_accepted: Option<u64>,
    errors: Vec<ItemError>,
    /// What services before the ingestion say.
    error: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ItemError {
    index: Option<usize>,
    status_code: Option<u16>,
    message: Option<String>,
}

impl ItemError {
    fn message(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }
}

impl Said {
    /// Whether these are words of an ingestion endpoint.
    fn is_heard(&self) -> bool {
        self.items_received.or(self.items_accepted).is_some()
    }
}

impl Reply {
    fn said(&self) -> Option<Said> {
        serde_json::from_slice(self.text.as_ref()?).ok()
    }

    /// Who answers what, for people.
    fn words(&self) -> String {
        let said = self.said();
        let quote = |text: &str| self.secrets.quote(text);
        let message = said.as_ref().and_then(|said| said.errors.first()).map(|error| quote(error.message()));
        let outer = || said.as_ref().and_then(|said| Some(quote(said.error.as_ref()?.get("message")?.as_str()?)));
        let text = self.text.as_deref().unwrap_or(b"an answer without end, or one that broke off");
        let message = message.or_else(outer).unwrap_or_else(|| quote(&String::from_utf8_lossy(text)));
        let colon = if message.is_empty() { "" } else { ": " };
        format!("{} answers {}{colon}{message}", shown(&self.place), self.status)
    }
}

fn judge(reply: &Reply, count: usize) -> Answer {
    let Reply { place, status, headers, text, with_token, secrets } = reply;
    let (status, tokens) = (*status, *with_token);
    let after = retry_after(headers);
    let said = reply.said();
    let words = || reply.words();
    if text.is_none() && status == StatusCode::PARTIAL_CONTENT {
        // Which envelopes were taken stands in the part that is missing.
        let reason = format!("the answer of {} to a request that it took in part broke off", shown(place));
        return Answer::Later { retry: Retry { after, reason, unreachable: false }, ambiguous: true };
    }
    match status.as_u16() {
        200 | 206 => match said.as_ref().filter(|said| said.is_heard() || !said.errors.is_empty()) {
            Some(said) if said.is_heard() => each(said, status, count, after, secrets),
            // The gateway took it, whatever it says.
            None if status == StatusCode::OK && !is_page(headers) => Answer::All,
            _ => {
                let why = format!("{} answers {status} with no list of what it took", shown(place));
                if status == StatusCode::OK { Answer::Halt(why) } else { Answer::Unclear(why) }
            }
        },
        400 => match said.as_ref().filter(|said| !said.errors.is_empty()) {
            Some(said) if said.errors.iter().any(|error| speaks_of_key(error.message())) => {
                Answer::Halt(format!("{}; check the InstrumentationKey of the connection string", words()))
            }
            Some(said) if !said.is_heard() => Answer::Strange(words()),
            // Where the endpoint does not name items, any of them may be meant.
            Some(said) if said.errors.iter().all(|error| error.index.is_none_or(|index| index >= count)) => {
                Answer::TooLarge(words())
            }
            Some(said) => each(said, status, count, after, secrets),
            None if text.as_ref().is_some_and(|text| speaks_of_key(&String::from_utf8_lossy(text))) => {
                Answer::Halt(format!("{}; check the InstrumentationKey of the connection string", words()))
            }
            None if said.as_ref().is_some_and(Said::is_heard) => Answer::TooLarge(words()),
            None if said.is_some() => Answer::Strange(words()),
            None => Answer::Halt(format!("{}; is it the IngestionEndpoint of the connection string?", words())),
        },
        401 | 403 if tokens => Answer::Halt(format!(
            "{}; the identity needs the role Monitoring Metrics Publisher on the Application Insights resource",
            words()
        )),
        401 | 403 => Answer::Halt(format!(
            "{}; the resource takes telemetry with Entra tokens only; `auth = \"entra\"` in [azure] sends them to this host",
            words()
        )),
        402 | 439 => {
            Answer::Halt(format!("{}; the resource's quota is used up: raise its daily cap, or deliver later", words()))
        }
        413 if said.as_ref().is_some_and(Said::is_heard) => Answer::TooLarge(words()),
        413 => Answer::Strange(words()),
        408 | 429 | 500 | 502 | 503 | 504 => Answer::Later {
            retry: Retry { after, reason: words(), unreachable: false },
            // A gateway that ran out of time may have passed the request on.
            ambiguous: matches!(status.as_u16(), 408 | 500 | 504),
        },
        _ => Answer::Halt(words()),
    }
}

fn speaks_of_key(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    // A word of its own: messages quote what they refuse.
    let is_said = || message.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "ikey");
    message.contains("instrumentation key") || message.contains("instrumentationkey") || is_said()
}

fn is_page(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|kind| kind.starts_with("text/html"))
}

/// The fate of each envelope: those that are named among the errors by what their error says. The others were taken, unless the
/// endpoint took fewer: which these are is not known, and they are sent again rather than lost. Where nothing else was taken, a
/// 5xx says nothing of the envelope that it names: the service as a whole may be down.
fn each(said: &Said, status: StatusCode, count: usize, after: Option<Duration>, secrets: &Secrets) -> Answer {
    let mut fates = vec![Fate::Taken; count];
    for error in &said.errors {
        let Some(fate) = error.index.and_then(|index| fates.get_mut(index)) else { continue };
        let code = error.status_code.filter(|code| *code != 0).unwrap_or(status.as_u16());
        let why = format!("{code} {}", secrets.quote(error.message()));
        *fate = match code {
            401 | 402 | 403 | 408 | 429 | 439 => Fate::Busy(why),
            400..=499 => Fate::Refused(why),
            500..=599 => Fate::Again(why),
            _ => Fate::Busy(why),
        };
    }
    let taken = fates.iter().filter(|fate| **fate == Fate::Taken).count() as u64;
    // Counts of another request than this one say nothing of it. A request that is refused has nothing in it that was taken;
    // without a word, 200 means all.
    let of_this = status != StatusCode::OK || said.items_received == Some(count as u64);
    let counted = said.items_accepted.filter(|_| of_this);
    let accepted = counted.unwrap_or(match status.as_u16() {
        400 => 0,
        206 if said.errors.iter().any(|error| error.index.is_none_or(|index| index >= count)) => 0,
        _ => taken,
    });
    let unclear = taken > accepted;
    if unclear {
        let why = || Fate::Unsaid(format!("the endpoint took {accepted} of {count}, and does not say why"));
        fates.iter_mut().filter(|fate| **fate == Fate::Taken).for_each(|fate| *fate = why());
    }
    if !fates.contains(&Fate::Taken) {
        for fate in &mut fates {
            if let Fate::Again(why) = fate {
                *fate = Fate::Busy(std::mem::take(why));
            }
        }
    }
    // Some of them were taken, but where it says that none was.
    let ambiguous = unclear && counted != Some(0) && status != StatusCode::BAD_REQUEST;
    Answer::Each { fates, after, ambiguous }
}

fn failed(place: &Url, error: &reqwest::Error, timeout: Duration) -> Answer {
    let address = shown(place);
    if error.is_builder() {
        return Answer::Halt(format!("{address}: {}", root_cause(error)));
    }
    let unreachable = error.is_connect();
    let reason = if unreachable {
        format!("cannot connect to {address}: {}", root_cause(error))
    } else if error.is_timeout() {
        format!("no answer from {address} within {timeout:?}")
    } else {
        format!("the connection to {address} broke: {}", root_cause(error))
    };
    Answer::Later { retry: Retry { after: None, reason, unreachable }, ambiguous: !unreachable }
}

/// The endpoint as people know it.
fn shown(place: &Url) -> String {
    place.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, text: &str, tokens: bool) -> Answer {
        let place = Url::parse("https://in.example/v2.1/track").expect("an address");
        let status = StatusCode::from_u16(status).expect("a status");
        let text = Some(text.as_bytes().to_vec());
        let reply =
            Reply { place, status, headers: HeaderMap::new(), text, with_token: tokens, secrets: Secrets::default() };
        judge(&reply, 3)
    }

    fn halt(status: u16, text: &str, tokens: bool) -> String {
        match answer(status, text, tokens) {
            Answer::Halt(why) => why,
            other => panic!("{status}: {other:?}"),
        }
    }

    #[test]
    fn each_envelope_has_its_fate() {
        let text = r#"{"itemsReceived":3,"itemsAccepted":1,"errors":[{"index":0,"statusCode":400,"message":"bad"},{"index":2,"statusCode":500,"message":"busy"},{"index":9,"statusCode":400,"message":"?"}]}"#;
        let Answer::Each { fates, .. } = answer(206, text, false) else { panic!("{text}") };
        assert_eq!(fates, [Fate::Refused("400 bad".to_owned()), Fate::Taken, Fate::Again("500 busy".to_owned())]);
        let all = r#"{"itemsReceived":3,"itemsAccepted":3,"errors":[],"appId":null}"#;
        assert_eq!(
            answer(200, all, false),
            Answer::Each { fates: vec![Fate::Taken; 3], after: None, ambiguous: false }
        );
        // Smaller requests tell which is meant.
        for text in [
            r#"{"itemsReceived":3,"errors":[{"message":"no such field"}]}"#,
            r#"{"itemsReceived":3,"errors":[{"message":null}]}"#,
            r#"{"itemsReceived":3,"errors":[{"index":3,"statusCode":400,"message":"which?"}]}"#,
            r#"{"itemsReceived":3,"itemsAccepted":0,"errors":[]}"#,
        ] {
            assert!(matches!(answer(400, text, false), Answer::TooLarge(_)), "{text}");
        }
        for text in [
            "{}",
            r#"{"error":{"code":"BadRequest","message":"no"}}"#,
            r#"{"errors":[{"message":"no such route"}]}"#,
            r#"{"errors":[{"index":0,"statusCode":400,"message":"no such route"}]}"#,
        ] {
            assert!(matches!(answer(400, text, false), Answer::Strange(_)), "{text}");
        }
    }

    #[test]
    fn what_was_not_taken_and_not_named_is_sent_again() {
        for (status, text, again, doubt) in [
            (206, r#"{"itemsReceived":3,"itemsAccepted":0,"errors":[]}"#, 3, false),
            (206, r#"{"itemsReceived":3,"itemsAccepted":1,"errors":[]}"#, 3, true),
            (200, r#"{"itemsReceived":3,"itemsAccepted":2,"errors":[]}"#, 3, true),
            (206, r#"{"itemsReceived":3,"errors":[{"statusCode":500,"message":"which?"}]}"#, 3, true),
            (206, r#"{"itemsReceived":3,"errors":[{"index":7,"statusCode":400,"message":"which?"}]}"#, 3, true),
            (206, r#"{"itemsAccepted":1,"errors":[{"index":0,"statusCode":400,"message":"bad"}]}"#, 2, true),
            (400, r#"{"itemsReceived":3,"errors":[{"index":1,"statusCode":400,"message":"bad"}]}"#, 2, false),
            (206, r#"{"itemsAccepted":2,"errors":[{"index":0,"statusCode":400,"message":"bad"}]}"#, 0, false),
            (206, r#"{"itemsAccepted":2,"errors":[{"index":0,"message":"why?"}]}"#, 1, false),
        ] {
            let Answer::Each { fates, ambiguous, .. } = answer(status, text, false) else { panic!("{text}") };
            let found = fates.iter().filter(|fate| matches!(fate, Fate::Unsaid(_) | Fate::Busy(_))).count();
            assert_eq!((found, ambiguous), (again, doubt), "{text}: {fates:?}");
        }
    }

    #[test]
    fn a_failure_counts_where_it_is_named_and_something_else_was_taken() {
        let named = |codes: &[u16]| {
            let errors: Vec<_> = (0..).zip(codes).map(|(i, code)| json!({"index": i, "statusCode": code})).collect();
            json!({"itemsReceived": 3, "itemsAccepted": 3 - errors.len(), "errors": errors}).to_string()
        };
        let unnamed = json!({"itemsReceived": 3, "itemsAccepted": 2, "errors": [{"statusCode": 503}]}).to_string();
        for (status, text, counted) in [
            (206, named(&[503, 500]), 2),
            (200, named(&[503]), 1),
            (206, named(&[503, 503, 503]), 0),
            (206, named(&[408, 429]), 0),
            (206, unnamed, 0),
            (400, named(&[503]).replace(":2", ":0"), 0),
        ] {
            let Answer::Each { fates, .. } = answer(status, &text, false) else { panic!("{text}") };
            let found = fates.iter().filter(|fate| matches!(fate, Fate::Again(_))).count();
            assert_eq!(found, counted, "{status} {text}: {fates:?}");
        }
    }

    #[test]
    fn what_must_be_mended_halts_and_says_how() {
        assert!(
            halt(400, r#"{"errors":[{"index":0,"message":"Invalid instrumentation key"}]}"#, false)
                .contains("InstrumentationKey")
        );
        assert!(halt(401, "", false).contains("Entra tokens only"));
        assert!(halt(403, "", true).contains("Monitoring Metrics Publisher"));
        assert!(halt(439, "", true).contains("quota"));
        assert!(halt(402, "", false).contains("quota"));
        assert!(halt(404, "", false).contains("404"));
        for text in ["<html>", "{}", r#"{"errors":[{"index":-1}]}"#, r#"{"errors":[{"index":0,"statusCode":400}]}"#] {
            assert!(matches!(answer(206, text, false), Answer::Unclear(why) if why.contains("no list")), "{text}");
        }
        assert!(
            halt(400, r#"{"errors":[{"index":0,"message":"Field 'iKey' is missing"}]}"#, false).contains("check the")
        );
        let quoted = r#"{"itemsReceived":1,"errors":[{"index":0,"statusCode":400,"message":"'mikey' is no name"}]}"#;
        assert!(matches!(answer(400, quoted, false), Answer::Each { .. }), "a name that holds the word is none");
        assert!(halt(400, "<html>", false).contains("is it the IngestionEndpoint"));
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        for (status, doubt) in [(408, true), (429, false), (500, true), (502, false), (503, false), (504, true)] {
            assert!(
                matches!(answer(status, "", false), Answer::Later { ambiguous, .. } if ambiguous == doubt),
                "{status}"
            );
        }
        assert!(matches!(answer(413, "", false), Answer::Strange(_)));
        assert!(matches!(answer(413, r#"{"itemsReceived":3,"itemsAccepted":0}"#, false), Answer::TooLarge(_)));
    }

    #[test]
    fn redirects_stay_within_the_service() {
        let same = |from: &str, to: &str| {
            is_same_service(&Url::parse(from).expect("an address"), &Url::parse(to).expect("an address"))
        };
        let here = "https://westeurope-5.in.applicationinsights.azure.com/v2.1/track";
        assert!(same(here, "https://northeurope-0.in.applicationinsights.azure.com/v2.1/track"));
        assert!(same("http://127.0.0.1:1/", "http://127.0.0.1:2/"));
        assert!(!same(here, "https://evil.example/.applicationinsights.azure.com"));
        assert!(!same(here, "https://applicationinsights.azure.com.evil.example/"));
        assert!(!same(here, "http://northeurope-0.in.applicationinsights.azure.com/"));
        assert!(!same("https://in.example/", "https://other.in.example/"));
    }
}
