//! How many calls may be under way: a fixed number, or one that adapts to what the endpoint bears.
//!
//! The automatic number follows additive increase and multiplicative decrease (Chiu and Jain, 1989; as in TCP): it
//! starts slowly but doubles with every round trip until the first sign of congestion, then grows by one per round
//! trip, and halves when the endpoint says 429 or 503, or when its latency has doubled and more calls at once no longer
//! bring more answers. The runner holds a permit until the trial is recorded, which takes longer than the call: so it
//! reports the call's latency itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::chat::ChatCall;

/// Below this latency a queue costs nothing worth halving for: the calls at once stay as they are.
const NEGLIGIBLE: Duration = Duration::from_millis(25);
/// Latency above this multiple of its floor is a sign of a queue.
const QUEUE_FACTOR: f64 = 2.0;
/// More answers than this share of the additional calls count as growth.
const WORTHWHILE: f64 = 0.3;
/// The floor of the latency is that of the last one to two times so many round trips.
const FLOOR_ROUNDS: u32 = 32;

/// Gives out permits for calls; clones share them.
#[derive(Clone)]
pub struct Concurrency(Arc<Shared>);

struct Shared {
    semaphore: Arc<Semaphore>,
    in_use: AtomicUsize,
    limit: AtomicUsize,
    auto: Option<Mutex<Auto>>,
}

impl Concurrency {
    /// Always `n` calls at once, at least one.
    pub fn fixed(n: usize) -> Self {
        Self::new(n.clamp(1, Semaphore::MAX_PERMITS), None)
    }

    /// `start` calls at once, then between one and `max` as the endpoint bears them.
    pub fn auto(start: usize, max: usize) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        let start = start.clamp(1, max);
        Self::new(start, Some(Mutex::new(Auto::new(start, max, Instant::now()))))
    }

    fn new(n: usize, auto: Option<Mutex<Auto>>) -> Self {
        Self(Arc::new(Shared {
            semaphore: Arc::new(Semaphore::new(n)),
            in_use: AtomicUsize::new(0),
            limit: AtomicUsize::new(n),
            auto,
        }))
    }

    /// Waits for a permit, first come first served; a dropped wait leaves nothing behind.
    pub async fn acquire(&self) -> Permit {
        let inner = Arc::clone(&self.0.semaphore).acquire_owned().await.expect("the semaphore is never closed");
        self.0.in_use.fetch_add(1, Ordering::Relaxed);
        Permit { inner: Some(inner), shared: Arc::clone(&self.0), since: Instant::now() }
    }

    /// Permits given out now.
    pub fn in_use(&self) -> usize {
        self.0.in_use.load(Ordering::Relaxed)
    }

    /// Permits there may be now.
    pub fn limit(&self) -> usize {
        self.0.limit.load(Ordering::Relaxed)
    }
}

/// Leave for one call; given back when dropped.
pub struct Permit {
    inner: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
    since: Instant,
}

impl Permit {
    /// Reports how a call went that took so long, waits between its attempts included.
    pub fn observe_call(&self, call: &ChatCall, wall_time: Duration) {
        self.observe_outcome(call.attempts, call.result.is_ok(), overloaded(call), wall_time);
    }

    /// Reports how a call went, for those who do not hold the call itself any more. Failures other than 429 and 503
    /// say nothing about the number of calls, and neither does the time of a call with several attempts.
    pub fn observe_outcome(&self, attempts: u32, answered: bool, overloaded: bool, wall_time: Duration) {
        match attempts {
            _ if overloaded => self.observe(wall_time, true),
            // A cached or recorded answer: there is no endpoint that could have too much to do.
            0 if answered => self.adapt(Auto::grow),
            1 if answered => self.observe(wall_time, false),
            _ => {}
        }
    }

    /// Reports the latency of one call, and whether the endpoint said that it has too much to do.
    pub fn observe(&self, latency: Duration, overloaded: bool) {
        let report = |in_use| Report { now: Instant::now(), since: self.since, latency, overloaded, in_use };
        self.adapt(|auto, in_use| auto.observe(report(in_use)));
    }

    fn adapt(&self, change: impl FnOnce(&mut Auto, usize)) {
        let Some(auto) = &self.shared.auto else { return };
        let in_use = self.shared.in_use.load(Ordering::Relaxed);
        let mut auto = auto.lock().expect("nothing panics with the lock held");
        let old = auto.limit();
        change(&mut auto, in_use);
        let new = auto.limit();
        if new != old {
            self.shared.limit.store(new, Ordering::Relaxed);
            auto.debt = self.shared.resize(old, new, auto.debt);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.in_use.fetch_sub(1, Ordering::Relaxed);
        let Some(inner) = self.inner.take() else { return };
        let Some(auto) = &self.shared.auto else { return };
        let mut auto = auto.lock().expect("nothing panics with the lock held");
        if auto.debt > 0 {
            auto.debt -= 1;
            inner.forget();
        }
    }
}

impl Shared {
    /// Adds permits, or takes away those at hand; gives how many are still to be taken away from callers to come back.
    fn resize(&self, old: usize, new: usize, debt: usize) -> usize {
        if new > old {
            let grown = new - old;
            let settled = grown.min(debt);
            self.semaphore.add_permits(grown - settled);
            debt - settled
        } else {
            let shrunk = old - new;
            debt + shrunk - self.semaphore.forget_permits(shrunk)
        }
    }
}

/// Whether the endpoint said during this call that it has too much to do.
pub fn overloaded(call: &ChatCall) -> bool {
    let heavy = |error_type: &str| matches!(error_type, "429" | "503");
    call.failed_attempts.iter().any(|failed| heavy(&failed.error_type))
        || call.result.as_ref().is_err_and(|error| heavy(&error.error_type))
}

/// What is known of one finished call.
#[derive(Debug, Clone, Copy)]
struct Report {
    now: Instant,
    /// When its permit was given.
    since: Instant,
    latency: Duration,
    overloaded: bool,
    /// Permits in use, its own included.
    in_use: usize,
}

/// The control loop, free of clocks and locks.
#[derive(Debug)]
struct Auto {
    limit: f64,
    max: usize,
    /// Permits that are to vanish when their holders give them back.
    debt: usize,
    slow_start: bool,
    /// Growth rests until the next comparison of throughput.
    hold: bool,
    /// Calls begun before this moment say nothing about the number since.
    last_decrease: Option<Instant>,
    latency: Option<f64>,
    floor: Floor,
    round: Round,
    /// Number and throughput at the last comparison.
    mark: Option<(f64, f64)>,
}

/// The calls that finish while as many as the limit come back: about one round trip.
#[derive(Debug)]
struct Round {
    start: Instant,
    limit: f64,
    done: u32,
    latency_sum: f64,
}

/// The least mean latency of a round, forgotten after a while.
#[derive(Debug, Default)]
struct Floor {
    previous: Option<f64>,
    current: Option<f64>,
    rounds: u32,
}

impl Floor {
    fn add(&mut self, latency: f64) {
        self.current = Some(self.current.map_or(latency, |least| least.min(latency)));
        self.rounds += 1;
        if self.rounds >= FLOOR_ROUNDS {
            self.rounds = 0;
            self.previous = self.current.take();
        }
    }

    fn value(&self) -> Option<f64> {
        match (self.previous, self.current) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

impl Auto {
    fn new(start: usize, max: usize, now: Instant) -> Self {
        let limit = start as f64;
        Self {
            limit,
            max,
            debt: 0,
            slow_start: true,
            hold: false,
            last_decrease: None,
            latency: None,
            floor: Floor::default(),
            round: Round { start: now, limit, done: 0, latency_sum: 0.0 },
            mark: None,
        }
    }

    fn limit(&self) -> usize {
        self.limit as usize
    }

    fn observe(&mut self, report: Report) {
        if report.overloaded {
            // The calls under way when the number was halved still bring their own 429s.
            if self.last_decrease.is_none_or(|then| report.since > then) {
                self.halve(report.now);
            }
            return;
        }
        let latency = report.latency.as_secs_f64();
        // Smoothed as TCP smooths its round-trip time (RFC 6298), with a weight that suits many calls at once.
        let weight = (2.0 / (self.limit + 1.0)).min(0.125);
        self.latency = Some(self.latency.map_or(latency, |mean| mean + weight * (latency - mean)));
        self.round.done += 1;
        self.round.latency_sum += latency;
        self.grow(report.in_use);
        if f64::from(self.round.done) >= self.round.limit {
            self.end_round(report.now);
        }
    }

    /// One more for one finished call in slow start, later one more for a round of them.
    fn grow(&mut self, in_use: usize) {
        // A number that is not used up says nothing about a greater one.
        if !self.hold && in_use as f64 >= self.limit / 2.0 {
            let step = if self.slow_start { 1.0 } else { 1.0 / self.limit };
            self.limit = (self.limit + step).min(self.max as f64);
        }
    }

    fn end_round(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.round.start).as_secs_f64().max(1e-9);
        let throughput = f64::from(self.round.done) / elapsed;
        let size = self.round.limit;
        self.floor.add(self.round.latency_sum / f64::from(self.round.done.max(1)));
        let (mark_size, mark_throughput) = *self.mark.get_or_insert((size, throughput));
        let more = size / mark_size - 1.0;
        // Throughput is noisy: it is compared only after the number has grown by a quarter, or while it rests.
        if more >= 0.25 || self.hold {
            let gain = throughput / mark_throughput - 1.0;
            let grew = gain >= WORTHWHILE * more.max(0.25);
            let latency = self.latency.unwrap_or_default();
            let queue = self.floor.value().is_some_and(|floor| latency > QUEUE_FACTOR * floor);
            if queue && !grew && latency > NEGLIGIBLE.as_secs_f64() {
                self.halve(now);
                return;
            }
            // A resting number tries again after every comparison: the endpoint may have got faster.
            self.hold = queue && !grew && !self.hold;
            if self.hold {
                self.slow_start = false;
            } else {
                self.mark = Some((size, throughput));
            }
        }
        self.start_round(now);
    }

    fn halve(&mut self, now: Instant) {
        self.limit = (self.limit / 2.0).floor().max(1.0);
        self.slow_start = false;
        self.hold = false;
        self.last_decrease = Some(now);
        self.mark = None;
        self.latency = None;
        self.start_round(now);
    }

    fn start_round(&mut self, now: Instant) {
        self.round = Round { start: now, limit: self.limit, done: 0, latency_sum: 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BinaryHeap;

    use super::*;

    /// An endpoint in virtual time: calls are served by so many workers, each in the same time; beyond `refuse_above`
    /// calls at once it answers 429.
    struct Endpoint {
        workers: usize,
        service: f64,
        refuse_above: usize,
    }

    /// Runs the loop against the endpoint for so many seconds; gives the limit over time.
    fn simulate(auto: &mut Auto, endpoint: &Endpoint, seconds: f64) -> Vec<(f64, usize)> {
        let origin = Instant::now();
        let at = |seconds: f64| origin + Duration::from_secs_f64(seconds);
        let micros = |seconds: f64| (seconds * 1e6) as u64;
        // Ends of calls, soonest first, with their beginnings and whether they are refused.
        let mut under_way: BinaryHeap<std::cmp::Reverse<(u64, u64, bool)>> = BinaryHeap::new();
        let mut free: Vec<f64> = vec![0.0; endpoint.workers];
        let (mut now, mut history) = (0.0, Vec::new());
        while now < seconds {
            while under_way.len() < auto.limit() {
                let refused = under_way.len() >= endpoint.refuse_above;
                let worker = (0..free.len()).min_by(|a, b| free[*a].total_cmp(&free[*b])).expect("a worker");
                let end = if refused { now + 0.01 } else { free[worker].max(now) + endpoint.service };
                if !refused {
                    free[worker] = end;
                }
                under_way.push(std::cmp::Reverse((micros(end), micros(now), refused)));
            }
            let in_use = under_way.len();
            let std::cmp::Reverse((end, start, refused)) = under_way.pop().expect("a call under way");
            now = end as f64 / 1e6;
            let since = at(start as f64 / 1e6);
            let latency = Duration::from_micros(end - start);
            auto.observe(Report { now: at(now), since, latency, overloaded: refused, in_use });
            history.push((now, auto.limit()));
        }
        history
    }

    fn auto(start: usize, max: usize) -> Auto {
        // The simulation's origin comes later than this; the first round is a little longer for it.
        Auto::new(start, max, Instant::now())
    }

    #[test]
    fn an_endpoint_without_a_limit_is_used_up_to_the_maximum_within_seconds() {
        let mut auto = auto(4, 256);
        let endpoint = Endpoint { workers: 10_000, service: 0.2, refuse_above: usize::MAX };
        let history = simulate(&mut auto, &endpoint, 3.0);
        let reached = history.iter().find(|(_, limit)| *limit >= 64).expect("reaches 64").0;
        assert!(reached <= 1.1, "64 calls at once after {reached} s");
        assert_eq!(auto.limit(), 256);
    }

    #[test]
    fn refusals_halve_once_per_round_trip_and_the_number_stays_near_what_is_borne() {
        let mut auto = auto(4, 512);
        let endpoint = Endpoint { workers: 10_000, service: 0.2, refuse_above: 50 };
        let history = simulate(&mut auto, &endpoint, 60.0);
        let late: Vec<usize> = history.iter().filter(|(t, _)| *t > 10.0).map(|(_, limit)| *limit).collect();
        let (least, most) = (*late.iter().min().expect("some"), *late.iter().max().expect("some"));
        assert!(least >= 20 && most <= 55, "between {least} and {most}");
    }

    #[test]
    fn a_queue_at_the_endpoint_ends_the_growth() {
        let mut auto = auto(4, 1024);
        let endpoint = Endpoint { workers: 16, service: 0.2, refuse_above: usize::MAX };
        let history = simulate(&mut auto, &endpoint, 60.0);
        let late: Vec<usize> = history.iter().filter(|(t, _)| *t > 10.0).map(|(_, limit)| *limit).collect();
        let (least, most) = (*late.iter().min().expect("some"), *late.iter().max().expect("some"));
        assert!(least >= 8, "16 workers are kept mostly busy: {least}");
        assert!(most <= 96, "without a long queue: {most}");
    }

    #[test]
    fn a_fast_endpoint_on_the_same_machine_is_not_starved() {
        let mut auto = auto(8, 256);
        let endpoint = Endpoint { workers: 2, service: 0.0001, refuse_above: usize::MAX };
        simulate(&mut auto, &endpoint, 2.0);
        assert!(auto.limit() >= 16, "{}", auto.limit());
    }

    #[test]
    fn an_unused_number_does_not_grow() {
        let mut auto = auto(8, 256);
        let now = Instant::now();
        for _ in 0..1000 {
            let latency = Duration::from_millis(10);
            auto.observe(Report { now, since: now, latency, overloaded: false, in_use: 1 });
        }
        assert_eq!(auto.limit(), 8);
    }

    #[tokio::test]
    async fn permits_follow_the_number_down_and_up() {
        let concurrency = Concurrency::auto(4, 16);
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(concurrency.acquire().await);
        }
        assert_eq!((concurrency.in_use(), concurrency.limit()), (4, 4));
        held[0].observe(Duration::from_millis(1), true);
        held[1].observe(Duration::from_millis(1), true);
        assert_eq!(concurrency.limit(), 2, "one decrease per round trip");
        held.truncate(2);
        let soon = tokio::time::timeout(Duration::from_millis(5), concurrency.acquire()).await;
        assert!(soon.is_err(), "two given back, two owed");
        held.truncate(1);
        let next = concurrency.acquire().await;
        assert_eq!(concurrency.in_use(), 2);
        for _ in 0..8 {
            next.observe(Duration::from_millis(1), false);
        }
        assert!(concurrency.limit() > 2);
    }

    #[tokio::test]
    async fn a_call_is_judged_by_its_attempts() {
        use crate::llm::chat::{ChatError, ChatReply, FailedAttempt};
        let failed = |error_type: &str| FailedAttempt {
            time_unix_nano: 1,
            error_type: error_type.to_owned(),
            status: None,
            message: String::new(),
            wait: None,
        };
        let error = |error_type: &str| {
            Err(ChatError { error_type: error_type.to_owned(), status: None, message: String::new(), fatal: false })
        };
        let answer = || Ok(ChatReply::default());
        for (result, attempts, failed_attempts, limit) in [
            (answer(), 1, vec![], 5),
            (answer(), 0, vec![], 5),
            (answer(), 2, vec![failed("500")], 4),
            (answer(), 2, vec![failed("429")], 2),
            (error("timeout"), 1, vec![failed("timeout")], 4),
            (error("503"), 1, vec![failed("503")], 2),
            (error("missing_answer"), 0, vec![], 4),
        ] {
            let concurrency = Concurrency::auto(4, 16);
            let (permit, _other) = (concurrency.acquire().await, concurrency.acquire().await);
            permit.observe_call(&ChatCall { result, attempts, failed_attempts }, Duration::from_millis(5));
            assert_eq!(concurrency.limit(), limit);
        }
    }

    #[tokio::test]
    async fn a_fixed_number_stays_and_a_dropped_wait_takes_nothing() {
        let concurrency = Concurrency::fixed(1);
        let held = concurrency.acquire().await;
        held.observe(Duration::from_secs(9), true);
        assert_eq!((concurrency.in_use(), concurrency.limit()), (1, 1));
        let waiting = tokio::time::timeout(Duration::from_millis(2), concurrency.acquire()).await;
        assert!(waiting.is_err());
        drop(held);
        let again = tokio::time::timeout(Duration::from_millis(50), concurrency.acquire()).await;
        assert!(again.is_ok());
        drop(again);
        assert_eq!(concurrency.in_use(), 0);
    }
}
