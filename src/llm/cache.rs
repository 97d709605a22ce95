//! Keeps answers on disk, so that the same request is paid for once.
//!
//! An answer's name is the SHA-256 of what was asked: base URL, model, messages, parameters and repeat. Failures are
//! not kept. A file that cannot be read as an answer counts as absent and is written anew.

use std::fs;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::chat::{ChatCall, ChatModel, ChatReply, ChatRequest, Endpoint, Message, Parameters};
use super::error::LlmError;
use crate::model::{Digest, SpanId, TraceId};
use crate::trace::provider::Ids;

/// A model with a cache in front of it.
pub struct CachedModel<M> {
    inner: M,
    directory: PathBuf,
    base_url: String,
    ids: Ids,
}

/// What is asked, in a fixed order: the canonical form that the key is made of.
#[derive(Serialize)]
struct Asked<'a> {
    endpoint: &'a str,
    model: &'a str,
    messages: &'a [Message],
    parameters: CanonicalParameters<'a>,
    repeat: u32,
}

/// The parameters with their further fields sorted: the order in a suite file changes nothing.
#[derive(Serialize)]
struct CanonicalParameters<'a> {
    temperature: Option<f64>,
    top_p: Option<f64>,
    max_tokens: Option<u64>,
    seed: Option<i64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    stop: &'a [String],
    extra: std::collections::BTreeMap<&'a str, serde_json::Value>,
}

/// What a file holds.
#[derive(Serialize, Deserialize)]
struct Kept {
    reply: ChatReply,
    trace_id: TraceId,
    span_id: SpanId,
}

impl<M: ChatModel> CachedModel<M> {
    /// A cache in that directory, which is made if need be. `base_url` is part of what is asked, for two endpoints may
    /// serve different models under one name.
    pub fn new(inner: M, directory: &Path, base_url: impl Into<String>, ids: Ids) -> Result<Self, LlmError> {
        let failed = |source| LlmError::Cache { path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        Ok(Self { inner, directory: directory.to_owned(), base_url: base_url.into(), ids })
    }

    fn key(&self, request: &ChatRequest<'_>) -> Digest {
        let Parameters { temperature, top_p, max_tokens, seed, frequency_penalty, presence_penalty, stop, extra } =
            request.parameters;
        let parameters = CanonicalParameters {
            temperature: *temperature,
            top_p: *top_p,
            max_tokens: *max_tokens,
            seed: *seed,
            frequency_penalty: *frequency_penalty,
            presence_penalty: *presence_penalty,
            stop,
            extra: extra.iter().map(|(key, value)| (key.as_str(), sorted(value))).collect(),
        };
        let asked = Asked {
            endpoint: &self.base_url,
            model: &self.inner.endpoint().model,
            messages: request.messages,
            parameters,
            repeat: request.repeat,
        };
        let json = serde_json::to_vec(&asked).expect("texts and numbers always serialise");
        Digest::from_bytes(Sha256::digest(json).into())
    }

    fn path(&self, key: &Digest) -> PathBuf {
        let hex = key.to_string();
        let (folder, name) = hex.split_at(2);
        self.directory.join(folder).join(format!("{name}.json"))
    }
}

/// The value with the fields of all its objects sorted.
fn sorted(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect())
        }
        other => other.clone(),
    }
}

fn read(path: &Path) -> Option<Kept> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes beside the target and renames: a reader sees the whole file or none.
fn write(path: &Path, kept: &Kept, token: SpanId) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)?;
    let beside = folder.join(format!(".{token}.tmp"));
    let written = fs::write(&beside, serde_json::to_vec(kept)?).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What is left of a failed write is of no use to anybody.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// File work off the async threads; a panic there counts as no answer.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

#[async_trait]
impl<M: ChatModel> ChatModel for CachedModel<M> {
    async fn chat(&self, request: ChatRequest<'_>) -> ChatCall {
        let path = self.path(&self.key(&request));
        let known = path.clone();
        if let Some(kept) = blocking(move || read(&known)).await.flatten() {
            let reply = ChatReply { cached_from: Some((kept.trace_id, kept.span_id)), ..kept.reply };
            return ChatCall { result: Ok(reply), attempts: 0, failed_attempts: Vec::new() };
        }
        let call = self.inner.chat(request).await;
        // A filtered answer is none: asked again, it may come.
        let kept = call.result.as_ref().ok().filter(|reply| reply.finish_reason.as_deref() != Some("content_filter"));
        if let Some(reply) = kept {
            let (trace_id, span_id) = request.span;
            let kept = Kept { reply: reply.clone(), trace_id, span_id };
            let token = self.ids.span_id();
            let shown = path.clone();
            let written = blocking(move || write(&path, &kept, token)).await;
            if let Some(Err(error)) = written {
                // The answer is there; that it cannot be kept only costs the next run.
                tracing::warn!(path = %shown.display(), %error, "cannot keep an answer in the cache");
            }
        }
        call
    }

    fn endpoint(&self) -> &Endpoint {
        self.inner.endpoint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use serde_json::json;

    use super::*;
    use crate::llm::chat::{ChatError, Role};

    /// Answers with the number of the call; fails while told to.
    struct Counting {
        endpoint: Endpoint,
        calls: AtomicU32,
        failing: bool,
    }

    #[async_trait]
    impl ChatModel for Counting {
        async fn chat(&self, _: ChatRequest<'_>) -> ChatCall {
            let number = self.calls.fetch_add(1, Ordering::Relaxed);
            let result = if self.failing {
                Err(ChatError { error_type: "500".to_owned(), status: None, message: String::new(), fatal: false })
            } else {
                Ok(ChatReply {
                    text: number.to_string(),
                    finish_reason: Some("stop".to_owned()),
                    ..ChatReply::default()
                })
            };
            ChatCall { result, attempts: 1, failed_attempts: Vec::new() }
        }

        fn endpoint(&self) -> &Endpoint {
            &self.endpoint
        }
    }

    fn model(directory: &Path, base_url: &str, name: &str, failing: bool) -> CachedModel<Counting> {
        let endpoint = Endpoint { provider_name: "openai", model: name.to_owned(), address: None, port: None };
        let inner = Counting { endpoint, calls: AtomicU32::new(0), failing };
        CachedModel::new(inner, directory, base_url, Ids::default()).expect("a directory")
    }

    async fn ask(model: &CachedModel<Counting>, content: &str, parameters: &Parameters, repeat: u32) -> ChatCall {
        let messages = [Message { role: Role::User, content: content.to_owned() }];
        let span = (TraceId::from_bytes([3; 16]), SpanId::from_bytes([4; 8]));
        model.chat(ChatRequest { messages: &messages, parameters, case_id: "c", repeat, span }).await
    }

    fn files(directory: &Path) -> Vec<PathBuf> {
        let folders = fs::read_dir(directory).expect("readable").map(|entry| entry.expect("an entry").path());
        folders
            .flat_map(|folder| fs::read_dir(folder).expect("readable"))
            .map(|f| f.expect("an entry").path())
            .collect()
    }

    #[tokio::test]
    async fn the_same_request_is_asked_once_and_names_who_paid() {
        let directory = tempfile::tempdir().expect("a directory");
        let model = model(directory.path(), "http://h/v1", "m", false);
        let first = ask(&model, "q", &Parameters::default(), 0).await;
        assert_eq!((first.attempts, first.result.as_ref().expect("an answer").cached_from), (1, None));
        let second = ask(&model, "q", &Parameters::default(), 0).await;
        let reply = second.result.expect("an answer");
        assert_eq!((second.attempts, reply.text.as_str(), reply.finish_reason.as_deref()), (0, "0", Some("stop")));
        assert_eq!(reply.cached_from, Some((TraceId::from_bytes([3; 16]), SpanId::from_bytes([4; 8]))));
        assert_eq!(model.inner.calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn whatever_is_part_of_the_question_is_part_of_the_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let plain = Parameters::default();
        let warm = Parameters { temperature: Some(1.0), ..Parameters::default() };
        let extra = |json: serde_json::Value| Parameters {
            extra: json.as_object().expect("an object").clone(),
            ..Parameters::default()
        };
        let (one, other) =
            (model(directory.path(), "http://a/v1", "m", false), model(directory.path(), "http://b/v1", "m", false));
        let third = model(directory.path(), "http://a/v1", "n", false);
        for (model, content, parameters, repeat) in [
            (&one, "q", &plain, 0),
            (&one, "r", &plain, 0),
            (&one, "q", &plain, 1),
            (&one, "q", &warm, 0),
            (&one, "q", &extra(json!({"a": 1, "b": {"c": 1, "d": 2}})), 0),
            (&other, "q", &plain, 0),
            (&third, "q", &plain, 0),
        ] {
            assert_eq!(ask(model, content, parameters, repeat).await.attempts, 1);
        }
        let reordered = extra(json!({"b": {"d": 2, "c": 1}, "a": 1}));
        assert_eq!(ask(&one, "q", &reordered, 0).await.attempts, 0, "order is no part of the question");
    }

    #[tokio::test]
    async fn failures_are_not_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let model = model(directory.path(), "u", "m", true);
        for _ in 0..2 {
            assert!(ask(&model, "q", &Parameters::default(), 0).await.result.is_err());
        }
        assert_eq!(model.inner.calls.load(Ordering::Relaxed), 2);
        assert!(files(directory.path()).is_empty());
    }

    #[tokio::test]
    async fn a_spoiled_file_is_written_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let model = model(directory.path(), "u", "m", false);
        ask(&model, "q", &Parameters::default(), 0).await;
        let file = files(directory.path()).remove(0);
        fs::write(&file, b"{\"reply\":").expect("written");
        assert_eq!(ask(&model, "q", &Parameters::default(), 0).await.attempts, 1);
        assert_eq!(ask(&model, "q", &Parameters::default(), 0).await.attempts, 0);
        assert_eq!(files(directory.path()), [file], "nothing else is left behind");
    }
}
