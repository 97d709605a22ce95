//! Tokens by scope, kept until shortly before they expire; callers at once share one request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};

use super::credential::{Chain, Token};
use super::{IdentityError, TokenSource};
use crate::model::Secret;
use crate::trace::provider::Clock;

/// A token is asked for anew so many seconds before it expires, or after half its life if that is shorter.
const EARLY: u64 = 300;
/// A token that says nothing of its end is taken for good so long, in seconds.
const UNSAID: u64 = 300;
/// After a failure, a token that is still valid serves so long before another try, in seconds.
const REST: u64 = 30;

type Request = Shared<BoxFuture<'static, Result<Kept, IdentityError>>>;

/// Keeps the tokens of a chain of credentials.
pub(super) struct Cache {
    chain: Arc<Chain>,
    clock: Clock,
    slots: Arc<Mutex<Slots>>,
}

type Slots = BTreeMap<String, Slot>;

#[derive(Default)]
struct Slot {
    kept: Option<Kept>,
    under_way: Option<Request>,
}

/// A token and its times, in seconds since the Unix epoch.
#[derive(Debug, Clone)]
struct Kept {
    secret: Secret,
    /// From when on another is asked for.
    renew: u64,
    expires: u64,
}

impl Cache {
    pub(super) fn new(chain: Arc<Chain>, clock: Clock) -> Self {
        Self { chain, clock, slots: Arc::default() }
    }

    /// A request of its own task: it ends, and what it brought is kept, even if whoever began it is gone.
    fn request(&self, scope: &str) -> Request {
        let (chain, clock, scope) = (Arc::clone(&self.chain), self.clock.clone(), scope.to_owned());
        let slots = Arc::clone(&self.slots);
        let asked = tokio::spawn(async move {
            let answer = chain.ask(&scope).await.and_then(|token| {
                let now = seconds(&clock);
                let kept = Kept::new(token, now);
                if kept.expires <= now {
                    let problem =
                        "the token that it gives has expired already; is the clock of this machine right?".to_owned();
                    let credential = chain.who().unwrap_or("a credential");
                    return Err(IdentityError::Refused { scope: scope.clone(), credential, problem, passing: true });
                }
                Ok(kept)
            });
            let mut slots = lock(&slots);
            let slot = slots.entry(scope).or_default();
            slot.under_way = None;
            match (&answer, &mut slot.kept) {
                (Ok(new), kept) => *kept = Some(new.clone()),
                (Err(_), Some(kept)) => kept.renew = (seconds(&clock) + REST).min(kept.expires),
                (Err(_), None) => {}
            }
            answer
        });
        async move {
            asked.await.unwrap_or_else(|_| {
                let problem = "the request was cut off, for the program ends".to_owned();
                Err(IdentityError::NotSetUp { credential: "auto", problem })
            })
        }
        .boxed()
        .shared()
    }
}

#[async_trait]
impl TokenSource for Cache {
    async fn token(&self, scope: &str, refused: Option<&Secret>) -> Result<Secret, IdentityError> {
        let now = seconds(&self.clock);
        let (request, valid) = {
            let mut slots = lock(&self.slots);
            let slot = slots.entry(scope.to_owned()).or_default();
            let kept = slot.kept.clone().filter(|kept| refused != Some(&kept.secret));
            if let Some(kept) = kept.as_ref().filter(|kept| now < kept.renew) {
                return Ok(kept.secret.clone());
            }
            let valid = kept.filter(|kept| now < kept.expires);
            // One whose task was cut off put nothing in order.
            if slot.under_way.as_ref().is_some_and(|request| request.peek().is_some()) {
                slot.under_way = None;
            }
            (slot.under_way.get_or_insert_with(|| self.request(scope)).clone(), valid)
        };
        match (request.await, valid) {
            (Ok(new), _) => Ok(new.secret),
            (Err(_), Some(valid)) => Ok(valid.secret),
            (Err(error), None) => Err(error),
        }
    }

    fn who(&self) -> Option<&'static str> {
        self.chain.who()
    }
}

impl Kept {
    fn new(token: Token, now: u64) -> Self {
        let expires = token.expires.unwrap_or(now + UNSAID);
        let life = expires.saturating_sub(now);
        Self { secret: token.secret, renew: expires.saturating_sub(EARLY.min(life / 2)), expires }
    }
}

fn lock(slots: &Mutex<Slots>) -> MutexGuard<'_, Slots> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seconds(clock: &Clock) -> u64 {
    clock.now_unix_nano() / 1_000_000_000
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
