//! The HTTP side: chat completions and the list of models, as OpenAI documents them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{lexical, prompt};
use crate::llm::error::LlmError;
use crate::model::Label;
use crate::trace::provider::Ambient;

/// The name of the built-in model.
pub const MODEL: &str = "lexical-baseline";
/// Changes whenever the model's answers do.
const FINGERPRINT: &str = "fp_lexical_1";
/// The largest request, in bytes.
const MAX_REQUEST: usize = 32 << 20;
/// How long a stop waits for answers under way.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// A running server. It stops when it is dropped; [`BuiltinServer::stop`] also waits for the end.
pub struct BuiltinServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl BuiltinServer {
    /// Listens on the address; port 0 takes any free port.
    pub async fn start(listen: SocketAddr) -> Result<Self, LlmError> {
        let failed = |source| LlmError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        // An option that cannot be set only costs time.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let (stop, stopped) = oneshot::channel();
        let serve = axum::serve(listener, routes()).with_graceful_shutdown(async {
            // A dropped sender is as good as a word.
            let _ = stopped.await;
        });
        let task = tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::warn!(%error, "the built-in model server ended");
            }
        });
        Ok(Self { address, stop: Some(stop), task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for clients.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Stops listening, lets answers under way finish, and waits for that.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        if tokio::time::timeout(STOP_PATIENCE, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

fn routes() -> Router {
    Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", get(model))
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "there is no such path", None, "not_found") })
        .method_not_allowed_fallback(|| async {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "this path does not know the method", None, "method_not_allowed")
        })
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(Arc::new(Ambient::default()))
}

#[derive(Deserialize)]
struct Request {
    model: Option<String>,
    messages: Option<Vec<MessageIn>>,
    stream: Option<bool>,
    n: Option<u64>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct MessageIn {
    role: String,
    content: Option<Value>,
}

#[derive(Serialize)]
struct Completion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'static str,
    system_fingerprint: &'static str,
    choices: [Choice<'a>; 1],
    usage: Usage,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: MessageOut<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct MessageOut<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the API names them so")]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

async fn complete(State(ambient): State<Arc<Ambient>>, body: Bytes) -> Response {
    let bad = |message: &str, param, code| refuse(StatusCode::BAD_REQUEST, message, param, code);
    let request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return bad(&format!("the body is no chat request: {error}"), None, "invalid_json"),
    };
    match request.model.as_deref() {
        Some(MODEL) => {}
        Some(other) => return unknown_model(other),
        None => return bad("`model` is missing", Some("model"), "missing_required_parameter"),
    }
    if request.stream == Some(true) {
        let message = "this server does not stream answers; leave `stream` out or set it to false";
        return bad(message, Some("stream"), "unsupported_value");
    }
    if request.n.is_some_and(|n| n != 1) {
        return bad("this server gives one choice; leave `n` out or set it to 1", Some("n"), "unsupported_value");
    }
    let messages = request.messages.unwrap_or_default();
    if messages.is_empty() {
        return bad("`messages` is missing or empty", Some("messages"), "missing_required_parameter");
    }
    if let Some(role) = messages.iter().map(|message| message.role.as_str()).find(|role| !known_role(role)) {
        return bad(&format!("`{role}` is not a role"), Some("messages"), "invalid_value");
    }
    let texts: Vec<String> = messages.into_iter().map(|message| plain_text(message.content)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (answer, cut) = limited(answer(&texts), request.max_completion_tokens.or(request.max_tokens));
    let prompt_tokens = texts.iter().map(|text| tokens(text) + 3).sum();
    let completion_tokens = tokens(answer);
    let completion = Completion {
        id: format!("chatcmpl-{}", ambient.ids.span_id()),
        object: "chat.completion",
        created: ambient.now() / 1_000_000_000,
        model: MODEL,
        system_fingerprint: FINGERPRINT,
        choices: [Choice {
            index: 0,
            message: MessageOut { role: "assistant", content: answer, refusal: None },
            logprobs: None,
            finish_reason: if cut { "length" } else { "stop" },
        }],
        usage: Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens },
    };
    json_response(StatusCode::OK, &completion)
}

/// The model's answer to these messages: one of the three words where they are asked for, else a plain sentence.
fn answer(messages: &[&str]) -> &'static str {
    let parts = prompt::parts(messages);
    let label = lexical::judge(parts.evidence, parts.claim);
    match (parts.names_labels, label) {
        (true, label) => label.as_str(),
        (false, Label::True) => "The evidence supports the claim.",
        (false, Label::False) => "The evidence contradicts the claim.",
        (false, Label::Nee) => "The evidence does not settle the claim.",
    }
}

/// The answer cut to so many tokens, and whether it was cut.
fn limited(answer: &str, max_tokens: Option<u64>) -> (&str, bool) {
    let Some(max) = max_tokens.filter(|max| *max < tokens(answer)) else { return (answer, false) };
    let end = answer.match_indices(' ').nth(max.saturating_sub(1) as usize).map_or(answer.len(), |(at, _)| at);
    (answer.get(..if max == 0 { 0 } else { end }).unwrap_or_default(), true)
}

/// The model's tokens are words.
fn tokens(text: &str) -> u64 {
    text.split_ascii_whitespace().count() as u64
}

fn known_role(role: &str) -> bool {
    matches!(role, "system" | "developer" | "user" | "assistant" | "tool" | "function")
}

/// The text of a message: a string, or the text parts of a list.
fn plain_text(content: Option<Value>) -> String {
    match content {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text")?.as_str()).collect::<Vec<_>>().concat()
        }
        _ => String::new(),
    }
}

fn card() -> Value {
    json!({"id": MODEL, "object": "model", "created": 0, "owned_by": "spanscore"})
}

async fn models() -> Response {
    json_response(StatusCode::OK, &json!({"object": "list", "data": [card()]}))
}

async fn model(axum::extract::Path(name): axum::extract::Path<String>) -> Response {
    if name == MODEL { json_response(StatusCode::OK, &card()) } else { unknown_model(&name) }
}

fn unknown_model(name: &str) -> Response {
    let message = format!("the model `{name}` does not exist; this server has `{MODEL}`");
    refuse(StatusCode::NOT_FOUND, &message, Some("model"), "model_not_found")
}

fn refuse(status: StatusCode, message: &str, param: Option<&str>, code: &str) -> Response {
    let error = json!({"message": message, "type": "invalid_request_error", "param": param, "code": code});
    json_response(status, &json!({ "error": error }))
}

fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("the reply's types always serialise");
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::chat::{ChatCall, ChatModel, ChatRequest, Message, Parameters, Role};
    use crate::llm::{HttpModel, HttpSettings, Limits};
    use crate::model::{SpanId, TraceId};

    const ASK: &str = "Answer with one word: True, False or NEE.";
    const QUESTION: &str =
        "Evidence:\nIce is less dense than liquid water, which is why ice floats.\n\nClaim:\nIce floats.\n\nAnswer:";

    async fn start() -> BuiltinServer {
        BuiltinServer::start(([127, 0, 0, 1], 0).into()).await.expect("a free port")
    }

    async fn ask(server: &BuiltinServer, model: &str, parameters: &Parameters) -> ChatCall {
        let settings = HttpSettings { max_retries: 0, ..HttpSettings::new(server.base_url(), model) };
        let model = HttpModel::new(settings, Arc::new(Limits::none()), Ambient::default()).expect("sound");
        let messages = [
            Message { role: Role::System, content: ASK.to_owned() },
            Message { role: Role::User, content: QUESTION.to_owned() },
        ];
        let span = (TraceId::from_bytes([1; 16]), SpanId::from_bytes([1; 8]));
        model.chat(ChatRequest { messages: &messages, parameters, case_id: "c", repeat: 0, span }).await
    }

    async fn post(server: &BuiltinServer, body: &str) -> (u16, Value) {
        crate::net::install_tls_provider();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let url = format!("{}/chat/completions", server.base_url());
        let response = client.post(url).body(body.to_owned()).send().await.expect("an answer");
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }

    #[tokio::test]
    async fn a_chat_is_answered_like_by_any_endpoint() {
        let server = start().await;
        let call = ask(&server, MODEL, &Parameters { max_tokens: Some(3), ..Parameters::default() }).await;
        let reply = call.result.expect("an answer");
        assert!(Label::from_name(&reply.text).is_some(), "{}", reply.text);
        assert_eq!(reply.finish_reason.as_deref(), Some("stop"));
        assert_eq!(reply.response_model.as_deref(), Some(MODEL));
        assert!(reply.response_id.is_some_and(|id| id.starts_with("chatcmpl-")));
        assert!(reply.system_fingerprint.is_some());
        assert!(reply.usage.input_tokens > Some(10) && reply.usage.output_tokens == Some(1));
        server.stop().await;
    }

    #[tokio::test]
    async fn an_unknown_model_is_a_fatal_404() {
        let server = start().await;
        let error = ask(&server, "gpt-4.1", &Parameters::default()).await.result.expect_err("no such model");
        assert!(error.fatal && error.message.contains(MODEL), "{}", error.message);
    }

    #[tokio::test]
    async fn bad_requests_get_error_objects() {
        let server = start().await;
        let hello = r#""messages":[{"role":"user","content":"hi"}]"#;
        for (body, status, code) in [
            ("{".to_owned(), 400, "invalid_json"),
            (format!("{{{hello}}}"), 400, "missing_required_parameter"),
            (format!(r#"{{"model":"{MODEL}"}}"#), 400, "missing_required_parameter"),
            (format!(r#"{{"model":"{MODEL}",{hello},"stream":true}}"#), 400, "unsupported_value"),
            (format!(r#"{{"model":"{MODEL}",{hello},"n":2}}"#), 400, "unsupported_value"),
            (format!(r#"{{"model":"x",{hello}}}"#), 404, "model_not_found"),
            (format!(r#"{{"model":"{MODEL}","messages":[{{"role":"king","content":""}}]}}"#), 400, "invalid_value"),
        ] {
            let (given, answer) = post(&server, &body).await;
            assert_eq!((given, &answer["error"]["code"]), (status, &json!(code)), "{body}");
            assert!(answer["error"]["message"].is_string(), "{body}");
        }
    }

    #[tokio::test]
    async fn the_server_is_gone_once_it_has_stopped() {
        let server = start().await;
        let address = server.address();
        server.stop().await;
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }

    #[test]
    fn the_words_are_the_models_own_unless_the_three_are_asked_for() {
        assert!(Label::from_name(answer(&[ASK, QUESTION])).is_some());
        assert!(answer(&["Is it supported?", QUESTION]).starts_with("The evidence "));
        assert_eq!(answer(&[ASK, "Ice floats."]), "NEE", "nothing to judge");
    }

    #[test]
    fn answers_are_cut_at_the_limit() {
        assert_eq!(limited("The evidence supports the claim.", Some(2)), ("The evidence", true));
        assert_eq!(limited("True", Some(1)), ("True", false));
        assert_eq!(limited("True", Some(0)), ("", true));
    }
}
