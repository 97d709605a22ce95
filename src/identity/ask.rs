//! Requests to token endpoints: bounded in time and size, never redirected, tried again when that may help.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};

use super::answer;
use super::credential::{Problem, Token};
use crate::net::{Secrets, install_tls_provider, quote};
use crate::trace::provider::Clock;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A token endpoint's answer is a few kilobytes.
const MAX_ANSWER: usize = 128 << 10;
/// Waits before further tries.
const WAITS: [Duration; 3] = [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(3)];
/// The longest wait that an endpoint may ask for.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// A client for a token endpoint; `direct` goes past any proxy, as endpoints of the machine itself must.
pub(super) fn client(direct: bool, connect: Duration) -> Result<Client, String> {
    install_tls_provider();
    let mut builder = Client::builder()
        .user_agent(concat!("spanscore/", env!("CARGO_PKG_VERSION")))
        .timeout(TIMEOUT)
        .connect_timeout(connect)
        // A redirect could take a secret elsewhere.
        .redirect(reqwest::redirect::Policy::none());
    if direct {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| format!("preparing the HTTP client: {}", root_cause(&error)))
}

/// Which statuses mean that the endpoint is not ready yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// 429 and 5xx.
    Usual,
    /// Those, and 404 and 410, as instances that are starting answer.
    Instance,
}

/// Asks until there is a token, a refusal, or no patience left. `make` builds the request anew for each try, with `secrets`
/// that nobody needs to see should the answer repeat them.
pub(super) async fn ask(
    make: impl Fn() -> RequestBuilder,
    patience: Patience,
    secrets: &Secrets,
) -> Result<Token, Problem> {
    let mut tries = 0;
    loop {
        let (problem, asked) = match once(make(), secrets).await {
            Ok(token) => return Ok(token),
            Err(Failed::Now(problem)) => return Err(problem),
            Err(Failed::Status(status, wait, words)) => {
                let again = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
                let early = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
                let colon = if words.is_empty() { "" } else { ": " };
                let words = format!("it answers {status}{colon}{words}");
                if !(again || (early && patience == Patience::Instance)) {
                    return Err(Problem::Refused(words));
                }
                (if again { Problem::Passing(words) } else { Problem::Refused(words) }, wait)
            }
            Err(Failed::Cut(words)) => (Problem::Passing(words), None),
        };
        let Some(wait) = WAITS.get(tries) else { return Err(problem) };
        tries += 1;
        let wait = asked.map_or(*wait, |asked| asked.max(*wait));
        if wait > MAX_WAIT {
            return Err(problem);
        }
        tokio::time::sleep(wait).await;
    }
}

enum Failed {
    /// Another try would end the same way.
    Now(Problem),
    Status(StatusCode, Option<Duration>, String),
    /// The answer did not come, or not whole.
    Cut(String),
}

async fn once(request: RequestBuilder, secrets: &Secrets) -> Result<Token, Failed> {
    let mut response = request.send().await.map_err(|error| {
        let words = root_cause(&error);
        if error.is_connect() {
            Failed::Now(Problem::Absent(format!("cannot connect to it: {words}")))
        } else if error.is_builder() {
            Failed::Now(Problem::Refused(words))
        } else if error.is_timeout() {
            Failed::Cut(format!("no answer within {TIMEOUT:?}"))
        } else {
            Failed::Cut(words)
        }
    })?;
    let status = response.status();
    let wait = response.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = Vec::new();
    let cut = loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => body.extend_from_slice(&chunk),
            Ok(Some(_)) => {
                return Err(Failed::Now(Problem::Refused("its answer is too large to be a token's".to_owned())));
            }
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    let text = String::from_utf8_lossy(&body);
    if !status.is_success() {
        return Err(Failed::Status(status, wait.map(Duration::from_secs), answer::problem(&text, secrets)));
    }
    let now = Clock::System.now_unix_nano() / 1_000_000_000;
    match answer::token(&text, now) {
        Some(token) if !cut => Ok(token),
        _ if cut => Err(Failed::Cut("its answer broke off".to_owned())),
        _ => Err(Failed::Now(Problem::Refused("its answer holds no token".to_owned()))),
    }
}

/// The innermost cause, which is the one that says something, without the address.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    quote(&innermost.to_string())
}

/// A body as HTML forms are sent.
pub(super) fn form(pairs: &[(&str, &str)]) -> String {
    let mut url = reqwest::Url::parse("http://form/").expect("it is an address");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}
