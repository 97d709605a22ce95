//! The layer around the attempts: which are repeated, after what wait, and how all of them get on record.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use bytes::Bytes;
use tower::{Service, ServiceExt};

use super::call::notes;
use super::chat::FailedAttempt;
use super::failure::{AttemptFailure, Verdict};
use super::limits::Limits;
use crate::trace::provider::Ambient;

/// The longest backoff of our own choice.
const MAX_BACKOFF: Duration = Duration::from_secs(8);

/// How often and how patiently.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetryPolicy {
    /// Further attempts after the first.
    pub(super) max_retries: u32,
    /// Upper end of the first backoff.
    pub(super) backoff: Duration,
    /// The longest wait that an endpoint may ask for.
    pub(super) max_wait: Duration,
}

impl RetryPolicy {
    /// The wait after failed attempt number `attempts` (from 1), or why there is no further attempt. `unit` is drawn
    /// from 0 ≤ x < 1: exponential backoff with full jitter, as in "Exponential Backoff And Jitter" (AWS Architecture
    /// Blog, 2015), spreads the callers that failed together.
    pub(super) fn wait(&self, verdict: Verdict, attempts: u32, unit: f64) -> Result<Duration, Option<String>> {
        let Verdict::Retry(asked) = verdict else { return Err(None) };
        if attempts > self.max_retries {
            return Err(None);
        }
        match asked {
            Some(asked) if asked > self.max_wait => Err(Some(format!(
                "the endpoint asks to wait {} s, longer than the {} s that a call waits",
                asked.as_secs(),
                self.max_wait.as_secs()
            ))),
            Some(asked) if !asked.is_zero() => Ok(asked),
            _ => {
                let doubled = self.backoff.saturating_mul(1 << (attempts - 1).min(20));
                Ok(doubled.min(MAX_BACKOFF).mul_f64(unit))
            }
        }
    }
}

/// Repeats the attempts of the service inside, and notes each that fails.
#[derive(Clone)]
pub(super) struct Retry<S> {
    inner: S,
    policy: RetryPolicy,
    limits: Arc<Limits>,
    ambient: Ambient,
}

impl<S> Retry<S> {
    /// The layer around `inner`.
    pub(super) fn new(inner: S, policy: RetryPolicy, limits: Arc<Limits>, ambient: Ambient) -> Self {
        Self { inner, policy, limits, ambient }
    }

    /// Notes the failure; gives the wait before the next attempt, or the end.
    fn note(&self, failure: AttemptFailure) -> Option<Duration> {
        let now = self.ambient.now();
        let unit = self.ambient.ids.unit();
        notes(|call| {
            let decision = self.policy.wait(failure.verdict, call.attempts, unit);
            call.failed.push(FailedAttempt {
                time_unix_nano: now,
                error_type: failure.error_type.clone(),
                status: failure.status,
                message: failure.message.clone(),
                wait: decision.as_ref().ok().copied(),
            });
            match decision {
                Ok(wait) => Some(wait),
                Err(why) => {
                    let mut failure = failure;
                    if let Some(why) = why {
                        failure.message = format!("{} ({why})", failure.message);
                    }
                    call.last = Some(failure);
                    None
                }
            }
        })
    }
}

impl<S> Service<HttpRequestFactory> for Retry<S>
where
    S: Service<HttpRequestFactory, Response = http::Response<Bytes>, Error = AttemptFailure> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = reqwest::Response;
    type Error = OpenAIError;
    type Future = Pin<Box<dyn Future<Output = Result<reqwest::Response, OpenAIError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, factory: HttpRequestFactory) -> Self::Future {
        let mut this = self.clone();
        Box::pin(async move {
            loop {
                let (tokens, sent) = notes(|call| (call.estimated_tokens, call.attempts > 0));
                tokio::select! {
                    biased;
                    () = this.limits.acquire(tokens) => {}
                    () = this.limits.closed(), if !sent => {
                        notes(|call| call.last = Some(AttemptFailure::not_started()));
                        return Err(OpenAIError::Boxed("nothing was sent".into()));
                    }
                }
                notes(|call| call.attempts += 1);
                let result = match this.inner.ready().await {
                    Ok(inner) => inner.call(factory.clone()).await,
                    Err(failure) => Err(failure),
                };
                match result {
                    Ok(response) => return Ok(response.into()),
                    Err(failure) => match this.note(failure) {
                        Some(wait) => tokio::time::sleep(wait).await,
                        None => return Err(OpenAIError::Boxed("the attempts are on record".into())),
                    },
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy =
        RetryPolicy { max_retries: 9, backoff: Duration::from_millis(500), max_wait: Duration::from_mins(1) };

    #[test]
    fn the_backoff_doubles_up_to_eight_seconds_with_full_jitter() {
        let wait = |attempts, unit| POLICY.wait(Verdict::Retry(None), attempts, unit).expect("a wait");
        assert_eq!(wait(1, 1.0), Duration::from_millis(500));
        assert_eq!(wait(3, 1.0), Duration::from_secs(2));
        assert_eq!(wait(9, 1.0), Duration::from_secs(8));
        assert_eq!(wait(9, 0.25), Duration::from_secs(2));
        assert_eq!(wait(4, 0.0), Duration::ZERO);
    }

    #[test]
    fn the_endpoints_wish_is_heeded_up_to_the_cap() {
        let wait = |secs| POLICY.wait(Verdict::Retry(Some(Duration::from_secs(secs))), 1, 0.5);
        assert_eq!(wait(59), Ok(Duration::from_secs(59)));
        assert_eq!(wait(0), Ok(Duration::from_millis(250)), "no busy loop");
        let why = wait(120).expect_err("too long").expect("a reason");
        assert!(why.contains("120 s") && why.contains("60 s"), "{why}");
    }

    #[test]
    fn there_are_no_more_attempts_than_allowed() {
        assert!(POLICY.wait(Verdict::Retry(None), 9, 0.0).is_ok());
        assert_eq!(POLICY.wait(Verdict::Retry(None), 10, 0.0), Err(None));
        for verdict in [Verdict::Final, Verdict::Fatal, Verdict::OtherTokenField] {
            assert_eq!(POLICY.wait(verdict, 1, 0.0), Err(None));
        }
    }
}
