//! What a failed attempt means: its class, whether another try can help, and what to tell the user.

use std::error::Error;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::call::TokenField;
use crate::identity::IdentityError;
use crate::model::Secret;
use crate::net::{Secrets, quote};

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Try again, after this wait if the endpoint named one.
    Retry(Option<Duration>),
    /// Another try of this request would fail the same way.
    Final,
    /// Any other request would fail the same way.
    Fatal,
    /// Try again with the other name of the limit of output tokens.
    OtherTokenField,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AttemptFailure {
    /// Class for `error.type`.
    pub(super) error_type: String,
    /// HTTP status, if there was an answer.
    pub(super) status: Option<u16>,
    /// In words, without secrets.
    pub(super) message: String,
    /// What to do.
    pub(super) verdict: Verdict,
}

impl AttemptFailure {
    /// No complete answer within the time limit.
    pub(super) fn timeout(limit: Duration) -> Self {
        Self {
            error_type: "timeout".to_owned(),
            status: None,
            message: format!("no complete answer within {}", humantime::format_duration(limit)),
            verdict: Verdict::Retry(None),
        }
    }

    /// The connection could not be made, or broke.
    pub(super) fn connection(error: reqwest::Error, status: Option<u16>) -> Self {
        // The URL may hold a user name and password.
        let error = error.without_url();
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !message.contains(&cause_text) {
                message = format!("{message}: {cause_text}");
            }
            source = cause.source();
        }
        Self { error_type: "connection".to_owned(), status, message: quote(&message), verdict: Verdict::Retry(None) }
    }

    /// There is no Entra token to send.
    pub(super) fn no_token(error: &IdentityError) -> Self {
        let verdict = if error.is_passing() { Verdict::Retry(None) } else { Verdict::Fatal };
        Self { error_type: "401".to_owned(), status: None, message: quote(&error.to_string()), verdict }
    }

    /// Nothing was sent, for the run was stopped before.
    pub(super) fn not_started() -> Self {
        Self {
            error_type: super::NOT_STARTED.to_owned(),
            status: None,
            message: "the run was stopped before the first request was sent".to_owned(),
            verdict: Verdict::Final,
        }
    }

    /// A request that could not even be built.
    pub(super) fn unsendable(message: &str) -> Self {
        Self { error_type: "_OTHER".to_owned(), status: None, message: quote(message), verdict: Verdict::Final }
    }

    /// An answer with a status of success that is no answer.
    pub(super) fn invalid(status: StatusCode, message: String, verdict: Verdict) -> Self {
        Self { error_type: "invalid_response".to_owned(), status: Some(status.as_u16()), message, verdict }
    }
}

/// What messages about this endpoint should name, and what they must not.
#[derive(Debug, Clone)]
pub(super) struct Hints {
    /// The variable that holds the key.
    pub(super) key_variable: String,
    /// The key, to take it out of messages.
    pub(super) key: Option<Secret>,
    /// Whether Entra tokens are sent in the key's place.
    pub(super) entra: bool,
    /// The model asked for.
    pub(super) model: String,
    /// The deployment, for Azure.
    pub(super) deployment: Option<String>,
    /// The URL asked, without user, password and query.
    pub(super) url: String,
}

/// The error that an endpoint describes in its answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ApiMessage {
    pub(super) message: String,
    pub(super) code: String,
    pub(super) kind: String,
    pub(super) param: String,
    inner_code: String,
}

impl ApiMessage {
    /// Reads the usual forms: OpenAI's `{"error":{…}}`, a bare text in `error`, `message` or `detail`, a list around
    /// one of these, or a page of plain text.
    pub(super) fn read(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => Self::from_value(&value),
            Err(_) => Self { message: String::from_utf8_lossy(body).into_owned(), ..Self::default() },
        }
    }

    pub(super) fn from_value(value: &Value) -> Self {
        let value = match value {
            Value::Array(items) => items.first().unwrap_or(value),
            _ => value,
        };
        let error = match value.get("error") {
            None | Some(Value::Null) => value,
            Some(error) => error,
        };
        let text = |key: &str| error.get(key).map(plain).unwrap_or_default();
        let inner = error.get("innererror").or_else(|| error.get("inner_error"));
        Self {
            message: match error {
                Value::String(text) => text.clone(),
                _ => ["message", "detail", "error_description", "title"]
                    .iter()
                    .map(|key| text(key))
                    .find(|text| !text.is_empty())
                    .unwrap_or_default(),
            },
            code: text("code"),
            kind: text("type"),
            param: text("param"),
            inner_code: inner.and_then(|inner| inner.get("code")).map(plain).unwrap_or_default(),
        }
    }

    fn is(&self, word: &str) -> bool {
        [&self.code, &self.kind, &self.inner_code].into_iter().any(|text| text == word)
    }

    /// Whether the error itself says that another try is of no use.
    pub(super) fn is_settled(&self) -> bool {
        self.is_content_filter() || self.is("insufficient_quota") || self.is("invalid_request_error")
    }

    fn is_content_filter(&self) -> bool {
        ["content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"].iter().any(|word| self.is(word))
    }

    /// Whether the endpoint refuses the field in use and wants the other one.
    fn wants_other_field(&self, field: TokenField) -> bool {
        let says = |word: &str| self.message.contains(word) || self.param.contains(word);
        let message = self.message.to_ascii_lowercase();
        let refuses = self.is("unsupported_parameter")
            || ["unsupported", "not supported", "unrecognized", "unknown", "not permitted", "use 'max", "instead"]
                .iter()
                .any(|word| message.contains(word));
        refuses
            && match field {
                TokenField::MaxTokens => says("max_completion_tokens"),
                TokenField::MaxCompletionTokens => says("max_completion_tokens") && self.param != "max_tokens",
            }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join("; "),
        // FastAPI's validation errors: `msg` says what is wrong, `input` would quote the request.
        Value::Object(fields) => fields.get("msg").or_else(|| fields.get("message")).map(plain).unwrap_or_default(),
        other => other.to_string(),
    }
}

/// The failure that an answer with this status and error stands for.
pub(super) fn from_status(
    status: StatusCode,
    wait: Option<Duration>,
    api: &ApiMessage,
    field: Option<TokenField>,
    (hints, secrets): (&Hints, &Secrets),
) -> AttemptFailure {
    let code = status.as_u16();
    let said = secrets.quote(&api.message);
    let reason = status.canonical_reason().unwrap_or("no reason given");
    let said = if said.is_empty() { reason.to_owned() } else { said };
    let (error_type, verdict, message) = match code {
        400 | 422 if field.is_some_and(|field| api.wants_other_field(field)) => {
            (code.to_string(), Verdict::OtherTokenField, said)
        }
        400..=499 if api.is_content_filter() => ("content_filter".to_owned(), Verdict::Final, said),
        401 | 403 => (code.to_string(), Verdict::Fatal, format!("{said} ({})", refused_key(hints))),
        404 => {
            let name = match &hints.deployment {
                Some(deployment) => format!("the deployment name `{deployment}`"),
                None => format!("the model name `{}`", hints.model),
            };
            (code.to_string(), Verdict::Fatal, format!("{said} (check {name} and the URL {})", hints.url))
        }
        429 if api.is("insufficient_quota") => {
            (code.to_string(), Verdict::Final, format!("{said} (the quota is used up: waiting would not help)"))
        }
        408 | 409 | 429 | 500..=599 => (code.to_string(), Verdict::Retry(wait), said),
        300..=399 => {
            let advice = format!("the endpoint has moved: {} redirects elsewhere; set the base URL anew", hints.url);
            (code.to_string(), Verdict::Final, format!("{said} ({advice})"))
        }
        _ => (code.to_string(), Verdict::Final, said),
    };
    AttemptFailure { error_type, status: Some(code), message, verdict }
}

fn refused_key(hints: &Hints) -> String {
    match hints.key {
        None if hints.entra => format!(
            "the identity that gave the Entra token needs a role for {}, such as Cognitive Services OpenAI User",
            hints.url
        ),
        Some(_) => format!("check the key in {} and that it may use {}", hints.key_variable, hints.url),
        None => format!("no key was sent to {}: set {}", hints.url, hints.key_variable),
    }
}

/// The wait that `retry-after-ms` or `retry-after` (seconds or an HTTP date) asks for.
pub(super) fn retry_after(headers: &HeaderMap, now_unix_nano: u64) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |text: &str, scale: f64| {
        let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0)?;
        Duration::try_from_secs_f64(number * scale).ok()
    };
    if let Some(wait) = text("retry-after-ms").and_then(|ms| number(ms, 1e-3)) {
        return Some(wait);
    }
    let value = text("retry-after")?;
    number(value, 1.0).or_else(|| {
        let date = httpdate::parse_http_date(value).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(date.saturating_sub(Duration::from_nanos(now_unix_nano)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints() -> Hints {
        Hints {
            key_variable: "OPENAI_API_KEY".to_owned(),
            key: Some(Secret::new("sk-test-secret")),
            entra: false,
            model: "gpt-4.1".to_owned(),
            deployment: None,
            url: "http://host/v1/chat/completions".to_owned(),
        }
    }

    fn check(status: u16, body: &str, error_type: &str, verdict: Verdict) -> String {
        let status = StatusCode::from_u16(status).expect("a status");
        let api = ApiMessage::read(body.as_bytes());
        let failure = from_status(status, None, &api, Some(TokenField::MaxTokens), (&hints(), &Secrets::default()));
        assert_eq!((failure.error_type.as_str(), failure.verdict), (error_type, verdict), "{body}");
        failure.message
    }

    #[test]
    fn every_status_has_its_class_and_verdict() {
        for status in [408, 409, 429, 500, 502, 503, 504, 529] {
            check(status, "{}", &status.to_string(), Verdict::Retry(None));
        }
        for status in [400, 413, 422, 302] {
            check(status, "{}", &status.to_string(), Verdict::Final);
        }
        for status in [401, 403, 404] {
            check(status, "{}", &status.to_string(), Verdict::Fatal);
        }
        let quota = r#"{"error":{"message":"You exceeded your quota","type":"insufficient_quota","code":null}}"#;
        check(429, quota, "429", Verdict::Final);
        let filtered = r#"{"error":{"message":"filtered","code":"content_filter"}}"#;
        check(400, filtered, "content_filter", Verdict::Final);
        let azure = r#"{"error":{"message":"m","code":null,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#;
        check(400, azure, "content_filter", Verdict::Final);
    }

    #[test]
    fn fatal_messages_say_what_to_check_and_never_the_key() {
        let said = check(401, r#"{"error":{"message":"bad key sk-test-secret"}}"#, "401", Verdict::Fatal);
        assert!(said.contains("OPENAI_API_KEY") && !said.contains("secret"), "{said}");
        let said = check(404, r#"{"error":{"message":"no such model"}}"#, "404", Verdict::Fatal);
        assert!(said.contains("gpt-4.1") && said.contains("http://host/v1"), "{said}");
    }

    #[test]
    fn messages_are_found_in_unusual_bodies() {
        for (body, message) in [
            (r#"{"error":"plain"}"#, "plain"),
            (r#"[{"error":{"message":"in a list","code":400}}]"#, "in a list"),
            (r#"{"object":"error","message":"old vllm","code":400}"#, "old vllm"),
            (r#"{"detail":[{"loc":["body"],"msg":"field required","input":"SECRET PROMPT"}]}"#, "field required"),
            ("upstream unavailable", "upstream unavailable"),
            ("", "Bad Request"),
        ] {
            assert_eq!(check(400, body, "400", Verdict::Final), message);
        }
    }

    #[test]
    fn the_other_token_field_is_recognised_either_way() {
        let body = r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","param":"max_tokens","code":"unsupported_parameter"}}"#;
        check(400, body, "400", Verdict::OtherTokenField);
        let old = ApiMessage::read(
            br#"{"error":{"message":"Unrecognized request argument supplied: max_completion_tokens"}}"#,
        );
        assert!(old.wants_other_field(TokenField::MaxCompletionTokens));
        assert!(!ApiMessage::read(body.as_bytes()).wants_other_field(TokenField::MaxCompletionTokens));
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        let now = 1_700_000_000_000_000_000;
        let wait = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a header"));
            retry_after(&headers, now)
        };
        assert_eq!(wait("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(wait("retry-after", "2"), Some(Duration::from_secs(2)));
        assert_eq!(wait("retry-after", "0.05"), Some(Duration::from_millis(50)));
        assert_eq!(wait("retry-after", "Tue, 14 Nov 2023 22:13:25 GMT"), Some(Duration::from_secs(5)));
        assert_eq!(wait("retry-after", "Tue, 14 Nov 2023 22:00:00 GMT"), Some(Duration::ZERO));
        for bad in ["soon", "-1", "NaN", "inf", ""] {
            assert_eq!(wait("retry-after", bad), None, "{bad}");
        }
    }
}
