//! A managed identity's endpoint, a Foundry project, Application Insights' ingestion endpoint and Azure OpenAI, all at one
//! address. Each checks what it is asked as strictly as the service that it stands for; tokens hold for what they were
//! given for.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use serde_json::{Value, json};

use crate::support::completion;

/// What nobody may see.
pub(super) const INSTRUMENTATION_KEY: &str = "ca0a0ca0-0000-0000-0000-0000000ca0a0";
pub(super) const IDENTITY_HEADER: &str = "canary-identity-header";
pub(super) const API_KEY: &str = "canary-api-key";
pub(super) const TOKEN: &str = "canary-token";

/// What the ingestion endpoint does with a request.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Answers with a status, a header if there is one, and a body; takes nothing.
    Answer(u16, Option<(&'static str, String)>, String),
    /// Takes some, refuses some for good and some for now.
    Mixed,
    /// Takes back the token that came.
    Revoke,
    /// Takes nothing and never answers.
    Hang,
    /// Takes all, or nothing with status 400, and answers with two gibibytes.
    Endless(u16),
    /// Takes all but the first, which fails for now.
    AllButOne,
    /// Takes all, and the connection ends before the answer.
    Vanish,
}

/// The whole of it.
pub(super) struct Azure {
    address: SocketAddr,
    pub(super) seen: Arc<Seen>,
    _runtime: tokio::runtime::Runtime,
}

/// What it was told to do, and what it saw.
#[derive(Default)]
pub(super) struct Seen {
    acts: Mutex<VecDeque<Act>>,
    /// Whether the project has a resource, and of what kind its credentials are.
    pub(super) connections: Mutex<Vec<(&'static str, &'static str)>>,
    /// Whether ingestion wants a token.
    pub(super) wants_token: Mutex<bool>,
    pub(super) envelopes: Mutex<Vec<Value>>,
    /// Envelopes refused for good, and those refused once.
    pub(super) refused: Mutex<BTreeSet<String>>,
    delayed: Mutex<BTreeSet<String>>,
    /// Method and address of each request, and its body where it is JSON.
    pub(super) requests: Mutex<Vec<(String, HeaderMap, Value)>>,
    tokens: AtomicU64,
    revoked: Mutex<BTreeSet<String>>,
    /// Mebibytes of an endless answer that somebody read.
    pub(super) sent: AtomicU64,
    base: Mutex<String>,
}

impl Azure {
    pub(super) fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Seen::default());
        *seen.base.lock().expect("no test panicked") = format!("http://{address}");
        *seen.connections.lock().expect("no test panicked") = vec![("insights-1", "ApiKey")];
        let app = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { address, seen, _runtime: runtime }
    }

    pub(super) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn project(&self) -> String {
        format!("{}/api/projects/p", self.base())
    }

    /// What the ingestion endpoint does with the next requests; then it takes everything.
    pub(super) fn next(&self, acts: impl IntoIterator<Item = Act>) {
        *self.seen.acts.lock().expect("no test panicked") = acts.into_iter().collect();
    }

    /// Method and address of the requests so far.
    pub(super) fn asked(&self) -> Vec<String> {
        self.seen
            .requests
            .lock()
            .expect("no test panicked")
            .iter()
            .map(|(line, ..)| line.replace(&self.base(), ""))
            .collect()
    }

    /// The environment of a program that runs in this Azure.
    pub(super) fn environment(&self) -> [(&'static str, String); 2] {
        [("IDENTITY_ENDPOINT", format!("{}/identity", self.base())), ("IDENTITY_HEADER", IDENTITY_HEADER.to_owned())]
    }
}

async fn answer(
    State(seen): State<Arc<Seen>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let line = format!("{method} {uri}");
    let unpacked = unpack(&headers, &body);
    seen.requests.lock().expect("no test panicked").push((line.clone(), headers.clone(), unpacked.clone()));
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    match (method.as_str(), path) {
        ("GET", "/identity") => seen.identity(query, &headers),
        ("GET", "/endless") => Response::new(seen.two_gibibytes()),
        ("GET", "/api/projects/p/connections") => {
            if let Some(refusal) = seen.refusal("ai.azure.com", &headers) {
                return refusal;
            }
            if query != "api-version=v1&connectionType=AppInsights" {
                return plain(400, "query");
            }
            let names: Vec<Value> = seen
                .connections
                .lock()
                .expect("no test panicked")
                .iter()
                .map(|(name, _)| json!({"name": name, "type": "AppInsights"}))
                .collect();
            said(200, &json!({"value": names, "nextLink": null}))
        }
        ("POST", path) if path.starts_with("/api/projects/p/connections/") => {
            if let Some(refusal) = seen.refusal("ai.azure.com", &headers) {
                return refusal;
            }
            if headers.get("content-length").is_none_or(|length| length != "0") {
                return said(411, &json!({"error": {"message": "a POST says how long it is"}}));
            }
            let known = seen.connections.lock().expect("no test panicked").clone();
            let wanted =
                |name: &str| path == format!("/api/projects/p/connections/{name}/getConnectionWithCredentials");
            let Some((name, kind)) = known.into_iter().find(|(name, _)| wanted(name) && query == "api-version=v1")
            else {
                return said(404, &json!({"error": {"message": "no such connection"}}));
            };
            let base = seen.base.lock().expect("no test panicked").clone();
            let key = format!("InstrumentationKey={INSTRUMENTATION_KEY};IngestionEndpoint={base}/;ApplicationId=a");
            said(200, &json!({"name": name, "credentials": {"type": kind, "key": key}}))
        }
        ("POST", "/v2.1/track" | "/moved/v2.1/track") => seen.track(&headers, unpacked).await,
        ("POST", path) if path.ends_with("/chat/completions") => {
            let scope = if path.starts_with("/api/projects/") { "ai.azure.com" } else { "cognitiveservices.azure.com" };
            if headers.get("api-key").is_some_and(|key| key == API_KEY) {
                return said(200, &completion("True"));
            }
            seen.refusal(scope, &headers).unwrap_or_else(|| said(200, &completion("True")))
        }
        _ => plain(404, "no such place"),
    }
}

impl Seen {
    fn identity(&self, query: &str, headers: &HeaderMap) -> Response<Body> {
        if headers.get("x-identity-header").is_none_or(|value| value != IDENTITY_HEADER) {
            return plain(401, "header");
        }
        let resource = query.split('&').find_map(|pair| pair.strip_prefix("resource=")).unwrap_or_default();
        let number = self.tokens.fetch_add(1, Ordering::SeqCst);
        let token = format!("{TOKEN}.{}.{number}", resource.replace("%3A", ":").replace("%2F", "/"));
        said(
            200,
            &json!({"access_token": token, "expires_on": "4102444800", "resource": resource, "token_type": "Bearer"}),
        )
    }

    /// Why a request is turned away, if it is: its token is missing, of another resource, or was taken back.
    fn refusal(&self, resource: &str, headers: &HeaderMap) -> Option<Response<Body>> {
        let token = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let valid = token.is_some_and(|token| {
            token.starts_with(TOKEN)
                && token.contains(resource)
                && !self.revoked.lock().expect("no test panicked").contains(token)
        });
        (!valid).then(|| said(401, &json!({"error": {"code": "Unauthorized", "message": "the token is not accepted"}})))
    }

    async fn track(self: &Arc<Self>, headers: &HeaderMap, body: Value) -> Response<Body> {
        let wants = *self.wants_token.lock().expect("no test panicked");
        if let Some(refusal) = wants.then(|| self.refusal("https://monitor.azure.com/", headers)).flatten() {
            return refusal;
        }
        let Value::Array(envelopes) = body else { return plain(400, "no list") };
        let act = self.acts.lock().expect("no test panicked").pop_front();
        if envelopes.is_empty() && act.is_none() {
            return said(400, &json!({"itemsReceived": 0, "itemsAccepted": 0, "errors": []}));
        }
        if envelopes.iter().any(|envelope| envelope["iKey"] != INSTRUMENTATION_KEY) {
            let errors = json!([{"index": 0, "statusCode": 400, "message": "Invalid instrumentation key"}]);
            return said(400, &json!({"itemsReceived": envelopes.len(), "itemsAccepted": 0, "errors": errors}));
        }
        match act {
            None => self.take(envelopes),
            Some(Act::Answer(status, header, body)) => {
                let mut response = Response::builder().status(status).header("content-type", "application/json");
                if let Some((name, value)) = header {
                    response = response.header(name, value);
                }
                response.body(Body::from(body)).expect("a response")
            }
            Some(Act::Mixed) => self.take_some(envelopes),
            Some(Act::Revoke) => {
                let token = headers["authorization"].to_str().expect("text").trim_start_matches("Bearer ").to_owned();
                self.revoked.lock().expect("no test panicked").insert(token);
                plain(401, "")
            }
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::Endless(status)) => {
                if status != 400 {
                    self.take(envelopes);
                }
                Response::builder().status(status).body(self.two_gibibytes()).expect("a response")
            }
            Some(Act::AllButOne) => {
                let count = envelopes.len();
                self.take(envelopes.into_iter().skip(1).collect());
                let errors = json!([{"index": 0, "statusCode": 500, "message": "Internal Server Error"}]);
                said(206, &json!({"itemsReceived": count, "itemsAccepted": count - 1, "errors": errors}))
            }
            Some(Act::Vanish) => {
                self.take(envelopes);
                let broken = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
                Response::builder().status(206).body(Body::from_stream(broken)).expect("a response")
            }
        }
    }

    fn take(&self, envelopes: Vec<Value>) -> Response<Body> {
        let count = envelopes.len();
        self.envelopes.lock().expect("no test panicked").extend(envelopes);
        said(200, &json!({"itemsReceived": count, "itemsAccepted": count, "errors": []}))
    }

    /// Every seventh envelope is refused for good, every fifth for now.
    fn take_some(&self, envelopes: Vec<Value>) -> Response<Body> {
        let count = envelopes.len();
        let mut errors = Vec::new();
        for (index, envelope) in envelopes.into_iter().enumerate() {
            if index % 7 == 3 {
                self.refused.lock().expect("no test panicked").insert(envelope.to_string());
                errors.push(json!({"index": index, "statusCode": 400, "message": "109: Field 'time' is too old"}));
            } else if index % 5 == 2 && self.delayed.lock().expect("no test panicked").insert(envelope.to_string()) {
                errors.push(json!({"index": index, "statusCode": 500, "message": "Internal Server Error"}));
            } else {
                self.envelopes.lock().expect("no test panicked").push(envelope);
            }
        }
        said(206, &json!({"itemsReceived": count, "itemsAccepted": count - errors.len(), "errors": errors}))
    }

    fn two_gibibytes(self: &Arc<Self>) -> Body {
        const PIECE: usize = 1 << 20;
        let seen = Arc::clone(self);
        let piece = move |_| {
            seen.sent.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Infallible>(Bytes::from(vec![b' '; PIECE]))
        };
        Body::from_stream(futures::stream::iter((0..2048).map(piece)))
    }
}

fn unpack(headers: &HeaderMap, body: &Bytes) -> Value {
    let mut text = Vec::new();
    if headers.get("content-encoding").is_some_and(|value| value == "gzip") {
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut text).expect("gzip");
    } else {
        text.extend_from_slice(body);
    }
    serde_json::from_slice(&text).unwrap_or_default()
}

fn said(status: u16, body: &Value) -> Response<Body> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Body::from(body.to_string())).expect("a response")
}

fn plain(status: u16, text: &'static str) -> Response<Body> {
    Response::builder().status(status).body(Body::from(text)).expect("a response")
}
