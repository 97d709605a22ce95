//! What is kept, for how long, and who shares it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::credential::{Credential, Problem, Token};
use super::*;

const SCOPE: &str = "https://s/.default";

/// Numbers its tokens, each valid for some seconds; fails when told to.
struct Numbered {
    asked: Arc<AtomicU64>,
    life: Option<u64>,
    start: u64,
    fails_from: u64,
}

#[async_trait]
impl Credential for Numbered {
    fn name(&self) -> &'static str {
        "numbered"
    }

    async fn ask(&self, scope: &str) -> Result<Token, Problem> {
        // Others get their turn before the answer.
        tokio::task::yield_now().await;
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        if number >= self.fails_from {
            return Err(Problem::Refused("down".to_owned()));
        }
        let secret = Secret::new(format!("{scope}#{number}"));
        Ok(Token { secret, expires: self.life.map(|life| self.start + life) })
    }
}

/// A cache over such tokens whose clock stands at `start` seconds and goes on by `step` at each reading.
fn cache(life: Option<u64>, step: u64, fails_from: u64) -> (Cache, Arc<AtomicU64>) {
    const START: u64 = 1_000_000;
    let asked = Arc::new(AtomicU64::new(0));
    let numbered = Numbered { asked: Arc::clone(&asked), life, start: START, fails_from };
    let clock = Clock::stepping(START * 1_000_000_000, Duration::from_secs(step));
    (Cache::new(Arc::new(Chain::of(vec![Box::new(numbered)])), clock), asked)
}

async fn number(cache: &Cache, refused: Option<&Secret>) -> String {
    let token = cache.token(SCOPE, refused).await.expect("a token");
    token.expose().rsplit('#').next().expect("a number").to_owned()
}

#[tokio::test]
async fn callers_at_once_share_one_request_and_later_ones_its_token() {
    let (cache, asked) = cache(Some(3600), 0, u64::MAX);
    let all = futures::future::join_all((0..64).map(|_| number(&cache, None))).await;
    assert!(all.iter().all(|number| number == "0"), "{all:?}");
    assert_eq!(number(&cache, None).await, "0");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    cache.token("https://other/.default", None).await.expect("a token");
    assert_eq!(asked.load(Ordering::SeqCst), 2, "each scope has its own");
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_for_all_who_were_refused() {
    let (cache, asked) = cache(Some(3600), 0, u64::MAX);
    let first = cache.token(SCOPE, None).await.expect("a token");
    let all = futures::future::join_all((0..8).map(|_| number(&cache, Some(&first)))).await;
    assert!(all.iter().all(|number| number == "1"), "{all:?}");
    assert_eq!(number(&cache, Some(&first)).await, "1", "who comes late gets the new one");
    assert_eq!(number(&cache, None).await, "1");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires_and_serves_on_if_that_fails() {
    // Valid for an hour and asked for every 20 minutes: the fourth time is within five minutes of its end.
    let (cache, asked) = cache(Some(3600), 1100, 1);
    for _ in 0..2 {
        assert_eq!(number(&cache, None).await, "0");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(number(&cache, None).await, "0", "renewing failed, and the token is still valid");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    let error = cache.token(SCOPE, None).await.expect_err("it has expired");
    assert!(error.to_string().contains("down"), "{error}");
}

#[tokio::test]
async fn a_token_that_says_nothing_of_its_end_is_not_kept_for_long() {
    let (cache, asked) = cache(None, 200, u64::MAX);
    for _ in 0..3 {
        number(&cache, None).await;
    }
    assert!(asked.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn a_caller_who_goes_away_takes_no_token_from_the_others() {
    let (cache, asked) = cache(Some(3600), 0, u64::MAX);
    {
        let mut gone = Box::pin(cache.token(SCOPE, None));
        assert!(futures::poll!(&mut gone).is_pending());
    }
    assert_eq!(number(&cache, None).await, "0");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_nobody_waited_for_is_kept_and_serves_until_its_end_only() {
    let (cache, asked) = cache(Some(3600), 0, u64::MAX);
    assert!(cache.token(SCOPE, None).now_or_never().is_none(), "nobody waits for the first token");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(lock(&cache.slots)[SCOPE].under_way.is_none(), "the request is over");
    assert_eq!((number(&cache, None).await.as_str(), asked.load(Ordering::SeqCst)), ("0", 1));
    assert_eq!(number(&cache, Some(&Secret::new(format!("{SCOPE}#0")))).await, "1", "a refused one is replaced");
}

#[tokio::test]
async fn what_has_expired_is_not_given_out() {
    // Each reading of the clock is 15 s later; the token lives 100 s, and no other is to be had.
    let (cache, asked) = cache(Some(100), 15, 1);
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(cache.token(SCOPE, None).await.is_ok());
    }
    let last = answers.iter().rposition(|ok| *ok).expect("the first");
    assert!(answers[..last].iter().all(|ok| *ok) && last < 7, "{answers:?}");
    assert!(asked.load(Ordering::SeqCst) > 5);
}

#[tokio::test]
async fn a_token_that_comes_expired_is_none() {
    let (cache, _) = cache(Some(0), 0, u64::MAX);
    let error = cache.token(SCOPE, None).await.expect_err("no token").to_string();
    assert!(error.contains("from numbered: the token that it gives has expired already"), "{error}");
}
