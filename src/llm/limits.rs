//! Requests and tokens per minute: the suite's own limits and those that the endpoint announces.
//!
//! Both limits are token buckets that fill steadily. A bucket holds little: the requests of one second and the tokens
//! of six, so that no minute sees much more than its share. Whoever comes reserves at once and then sleeps until the
//! bucket has made up for it, so that the order of arrival holds.

use std::sync::Mutex;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

/// The longest wait for the endpoint's own limits to reset.
const MAX_RESET: Duration = Duration::from_mins(1);

/// Limits shared by all calls to one endpoint.
#[derive(Debug, Default)]
pub struct Limits {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    /// Before this moment no call may start, for the endpoint has said that nothing remains.
    blocked_until: Mutex<Option<Instant>>,
    /// Set once no new call shall start.
    closed: tokio::sync::watch::Sender<bool>,
}

impl Limits {
    /// At most so many requests and tokens per minute; `None` for no limit. What the endpoint announces in
    /// `x-ratelimit-*` headers is heeded in any case.
    pub fn new(requests_per_minute: Option<u32>, tokens_per_minute: Option<u64>) -> Self {
        Self {
            requests: requests_per_minute.map(|n| Bucket::new(f64::from(n.max(1)), 1.0)),
            tokens: tokens_per_minute.map(|n| Bucket::new(n.max(1) as f64, 6.0)),
            blocked_until: Mutex::new(None),
            closed: tokio::sync::watch::Sender::new(false),
        }
    }

    /// Lets no new call start: those that wait to send their first request give up.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Returns once no new call shall start.
    pub async fn closed(&self) {
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// No limits but the endpoint's.
    pub fn none() -> Self {
        Self::default()
    }

    /// Tokens that a request with so many bytes of text will probably use.
    pub fn estimate_tokens(bytes: usize) -> u64 {
        bytes as u64 / 4 + 1
    }

    /// Waits until a request of about this many tokens may be sent. A caller that is dropped while it waits gives its
    /// reservation back.
    pub async fn acquire(&self, tokens: u64) {
        while let Some(until) = self.blocked(Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
        if let Some(requests) = &self.requests {
            requests.take(1.0).await;
        }
        if let Some(bucket) = &self.tokens {
            bucket.take(tokens as f64).await;
        }
    }

    /// Until when the endpoint has nothing left, if that is still to come.
    fn blocked(&self, now: Instant) -> Option<Instant> {
        let blocked = *self.blocked_until.lock().expect("nothing panics with the lock held");
        blocked.filter(|until| *until > now)
    }

    /// Corrects the estimate once the endpoint has counted.
    pub fn settle(&self, estimated: u64, actual: u64) {
        if let Some(bucket) = &self.tokens {
            bucket.give(estimated as f64 - actual as f64);
        }
    }

    /// Takes note of the endpoint's `x-ratelimit-*` headers: when it says that nothing remains, calls wait until the
    /// limit is reset, a minute at most.
    pub fn heed(&self, headers: &HeaderMap) {
        let wait = [
            ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
            ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
        ]
        .into_iter()
        .filter(|(remaining, _)| headers.get(*remaining).is_some_and(|n| n.as_bytes().trim_ascii() == b"0"))
        .filter_map(|(_, reset)| parse_reset(headers.get(reset)?.to_str().ok()?))
        .max();
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            let until = Instant::now() + wait.min(MAX_RESET);
            let mut blocked = self.blocked_until.lock().expect("nothing panics with the lock held");
            *blocked = Some(blocked.map_or(until, |old| old.max(until)));
        }
    }
}

/// A duration as in `x-ratelimit-reset-*`: `1s`, `6m0s`, `120ms`, `1h2m3.5s`, or plain seconds.
fn parse_reset(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit)?;
        let scale = match unit {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

/// A bucket that fills at a steady rate and may be drawn below zero; whoever draws waits until it is back at zero.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    capacity: f64,
    level: Mutex<(f64, Option<Instant>)>,
}

impl Bucket {
    fn new(per_minute: f64, burst_seconds: f64) -> Self {
        let per_second = per_minute / 60.0;
        let capacity = (per_second * burst_seconds).max(1.0);
        Self { per_second, capacity, level: Mutex::new((capacity, None)) }
    }

    async fn take(&self, amount: f64) {
        let wait = self.draw(amount, Instant::now());
        if wait.is_zero() {
            return;
        }
        let mut reservation = Reservation { bucket: self, amount };
        tokio::time::sleep(wait).await;
        reservation.amount = 0.0;
    }

    /// Draws and gives the wait until the bucket has made up for it.
    fn draw(&self, amount: f64, now: Instant) -> Duration {
        let mut level = self.level.lock().expect("nothing panics with the lock held");
        let elapsed = level.1.map_or(0.0, |then| now.saturating_duration_since(then).as_secs_f64());
        let left = (level.0 + elapsed * self.per_second).min(self.capacity) - amount;
        *level = (left, Some(now));
        if left >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64((-left / self.per_second).min(3600.0)) }
    }

    fn give(&self, amount: f64) {
        let mut level = self.level.lock().expect("nothing panics with the lock held");
        level.0 = (level.0 + amount).min(self.capacity);
    }
}

/// Gives back what was drawn if the wait is cut short.
struct Reservation<'a> {
    bucket: &'a Bucket,
    amount: f64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.amount > 0.0 {
            self.bucket.give(self.amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn requests_are_spread_over_the_minute() {
        let bucket = Bucket::new(60.0, 1.0);
        let start = Instant::now();
        let waits: Vec<f64> = (0..5).map(|_| bucket.draw(1.0, start).as_secs_f64()).collect();
        assert_eq!(waits, [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(bucket.draw(1.0, at(start, 5.0)), Duration::ZERO, "the time since has made up for it");
        assert_eq!(bucket.draw(1.0, at(start, 3600.0)), Duration::ZERO);
        assert_eq!(bucket.draw(1.0, at(start, 3600.0)), Duration::from_secs(1), "an idle hour saves up one second");
    }

    #[test]
    fn tokens_are_corrected_by_what_was_used() {
        let limits = Limits::new(None, Some(6_000));
        let bucket = limits.tokens.as_ref().expect("a limit");
        let start = Instant::now();
        assert_eq!(bucket.draw(600.0, start), Duration::ZERO, "the bucket holds six seconds' worth");
        assert_eq!(bucket.draw(100.0, start), Duration::from_secs(1), "100 tokens a second");
        limits.settle(100, 300);
        assert_eq!(bucket.draw(100.0, start), Duration::from_secs(4), "200 more than estimated, and 100");
        limits.settle(700, 0);
        assert_eq!(bucket.draw(300.0, start), Duration::ZERO, "the estimate is given back");
    }

    #[test]
    fn a_request_larger_than_the_bucket_is_not_held_for_ever() {
        let bucket = Bucket::new(60.0, 6.0);
        assert_eq!(bucket.draw(16.0, Instant::now()), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_wait_gives_its_share_back() {
        let limits = Limits::new(Some(1200), None);
        for _ in 0..20 {
            limits.acquire(0).await;
        }
        for _ in 0..30 {
            assert!(tokio::time::timeout(Duration::from_micros(10), limits.acquire(0)).await.is_err());
        }
        let wait = limits.requests.as_ref().expect("a limit").draw(1.0, Instant::now());
        assert!(wait <= Duration::from_millis(50), "one request's time and not thirty's: {wait:?}");
    }

    #[test]
    fn the_endpoints_own_limits_are_heeded_and_capped() {
        let limits = Limits::none();
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-remaining-requests", "1".parse().expect("a header"));
        headers.insert("x-ratelimit-reset-requests", "1m30s".parse().expect("a header"));
        headers.insert("x-ratelimit-remaining-tokens", "7".parse().expect("a header"));
        headers.insert("x-ratelimit-reset-tokens", "6h".parse().expect("a header"));
        limits.heed(&headers);
        assert_eq!(limits.blocked(Instant::now()), None, "one request remains");
        headers.insert("x-ratelimit-remaining-requests", "0".parse().expect("a header"));
        limits.heed(&headers);
        let now = Instant::now();
        let until = limits.blocked(now).expect("nothing remains");
        assert!((until - now).as_secs_f64() > 59.0 && (until - now).as_secs_f64() <= 60.0, "90 s are capped at 60");
        assert_eq!(limits.blocked(at(now, 61.0)), None, "the limit is reset");
    }

    #[test]
    fn reset_times_are_read_as_endpoints_write_them() {
        for (text, seconds) in
            [("1s", 1.0), ("6m0s", 360.0), ("120ms", 0.12), ("1h2m3.5s", 3723.5), ("20", 20.0), ("0.5", 0.5)]
        {
            assert_eq!(parse_reset(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
        for bad in ["", "soon", "1x", "s", "-5"] {
            assert_eq!(parse_reset(bad), None, "{bad}");
        }
    }
}
