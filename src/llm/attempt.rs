//! The innermost layer: one attempt, from connecting to a whole and checked body.
//!
//! async-openai reads bodies after the layers around its transport are done, so that a timeout, a limit of size or a
//! retry around it would miss whatever happens to the body. This layer therefore reads the body itself, within the
//! time limit and up to the limit of size, checks it, and hands on a response whose body is complete.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_openai::middleware::HttpRequestFactory;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderValue};
use tower::Service;

use super::call::notes;
use super::failure::{self, ApiMessage, AttemptFailure, Hints, Verdict};
use super::limits::Limits;
use super::settings::Entra;
use super::wire::{self, Reply};
use crate::model::Secret;
use crate::net::Secrets;
use crate::trace::provider::Clock;

/// Of an error's body this much is read: enough for any message.
const MAX_ERROR_BODY: usize = 64 << 10;

/// One attempt as a tower service.
#[derive(Clone)]
pub(super) struct Attempt(Arc<Shared>);

struct Shared {
    client: reqwest::Client,
    timeout: Duration,
    max_body: usize,
    hints: Hints,
    entra: Option<Entra>,
    limits: Arc<Limits>,
    clock: Clock,
}

impl Attempt {
    /// A service that sends requests with this client.
    pub(super) fn new(
        client: reqwest::Client,
        timeout: Duration,
        max_body: usize,
        hints: Hints,
        entra: Option<Entra>,
        limits: Arc<Limits>,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Shared { client, timeout, max_body, hints, entra, limits, clock }))
    }
}

impl Service<HttpRequestFactory> for Attempt {
    type Response = http::Response<Bytes>;
    type Error = AttemptFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, AttemptFailure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AttemptFailure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, factory: HttpRequestFactory) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            match tokio::time::timeout(shared.timeout, shared.send(factory)).await {
                Ok(result) => result,
                Err(_) => Err(AttemptFailure::timeout(shared.timeout)),
            }
        })
    }
}

impl Shared {
    async fn send(&self, factory: HttpRequestFactory) -> Result<http::Response<Bytes>, AttemptFailure> {
        let mut refused: Option<Secret> = None;
        let (mut response, token) = loop {
            let mut request =
                factory.build().await.map_err(|_| AttemptFailure::unsendable("the HTTP request cannot be built"))?;
            let token = match &self.entra {
                Some(entra) => Some(self.authorize(&mut request, entra, refused.as_ref()).await?),
                None => None,
            };
            let sent = self.client.execute(request).await;
            let response = sent.map_err(|error| AttemptFailure::connection(error, None))?;
            // A token may have been taken back before its end; another may do, and costs no attempt.
            if response.status() != StatusCode::UNAUTHORIZED || token.is_none() || refused.is_some() {
                break (response, token);
            }
            refused = token;
        };
        let secrets = Secrets::new(self.hints.key.iter().chain(&token).cloned());
        let status = response.status();
        self.limits.heed(response.headers());
        if !status.is_success() {
            let body = match read_body(&mut response, MAX_ERROR_BODY).await {
                Ok(body) => body,
                // The status alone says what to do.
                Err(_) => Bytes::new(),
            };
            let wait = failure::retry_after(response.headers(), self.clock.now_unix_nano());
            return Err(self.refusal(status, wait, &ApiMessage::read(&body), &secrets));
        }
        let body = match read_body(&mut response, self.max_body).await {
            Ok(body) => body,
            Err(BodyError::TooLarge) => {
                let message = format!("the answer is larger than {} bytes", self.max_body);
                return Err(AttemptFailure::invalid(status, message, Verdict::Retry(None)));
            }
            Err(BodyError::Broken(error)) => return Err(AttemptFailure::connection(error, Some(status.as_u16()))),
        };
        self.check(status, &body, &secrets)?;
        let mut checked = http::Response::new(body);
        *checked.status_mut() = status;
        *checked.headers_mut() = std::mem::take(response.headers_mut());
        Ok(checked)
    }

    /// Puts a token into the request; gives it.
    async fn authorize(
        &self,
        request: &mut reqwest::Request,
        entra: &Entra,
        refused: Option<&Secret>,
    ) -> Result<Secret, AttemptFailure> {
        let token = entra.tokens.token(&entra.scope, refused).await;
        let token = token.map_err(|error| AttemptFailure::no_token(&error))?;
        let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
        let unfit = |_| AttemptFailure::unsendable("the Entra token is no text that a header can hold");
        let mut value = value.map_err(unfit)?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
        Ok(token)
    }

    fn refusal(
        &self,
        status: StatusCode,
        wait: Option<Duration>,
        api: &ApiMessage,
        secrets: &Secrets,
    ) -> AttemptFailure {
        failure::from_status(status, wait, api, notes(|call| call.switchable), (&self.hints, secrets))
    }

    /// Decodes the body for a test: whatever passes here, async-openai decodes too, and has nothing to log.
    fn check(&self, status: StatusCode, body: &[u8], secrets: &Secrets) -> Result<(), AttemptFailure> {
        let reply = serde_json::from_slice::<Reply>(body).map_err(|error| {
            // A cut or garbled body may come whole the next time; one of another shape will not.
            let verdict = if error.is_data() { Verdict::Final } else { Verdict::Retry(None) };
            AttemptFailure::invalid(status, wire::decode_problem(&error), verdict)
        })?;
        if let Some(error) = reply.error() {
            let api = ApiMessage::from_value(error);
            let named = api.code.parse::<u16>().ok().filter(|code| (400..=599).contains(code));
            if let Some(named) = named.and_then(|code| StatusCode::from_u16(code).ok()) {
                return Err(self.refusal(named, None, &api, secrets));
            }
            if api.is_settled() {
                return Err(self.refusal(StatusCode::BAD_REQUEST, None, &api, secrets));
            }
            let said = secrets.quote(&api.message);
            let message = format!("the answer is an error in spite of its status: {said}");
            return Err(AttemptFailure::invalid(status, message, Verdict::Retry(None)));
        }
        match reply.defect() {
            Some(defect) => Err(AttemptFailure::invalid(status, defect.to_owned(), Verdict::Final)),
            None => Ok(()),
        }
    }
}

pub(super) enum BodyError {
    TooLarge,
    Broken(reqwest::Error),
}

/// The whole body, if it is no larger than `limit`; a body of one piece is not copied.
pub(super) async fn read_body(response: &mut reqwest::Response, limit: usize) -> Result<Bytes, BodyError> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(BodyError::TooLarge);
    }
    let Some(first) = response.chunk().await.map_err(BodyError::Broken)? else { return Ok(Bytes::new()) };
    let Some(second) = response.chunk().await.map_err(BodyError::Broken)? else { return within(first, limit) };
    let mut whole = BytesMut::with_capacity(first.len() + second.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    while whole.len() <= limit {
        match response.chunk().await.map_err(BodyError::Broken)? {
            Some(next) => whole.extend_from_slice(&next),
            None => break,
        }
    }
    within(whole.freeze(), limit)
}

fn within(body: Bytes, limit: usize) -> Result<Bytes, BodyError> {
    if body.len() > limit { Err(BodyError::TooLarge) } else { Ok(body) }
}
