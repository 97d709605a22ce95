//! Moves the outbox to the destinations while a run goes on, and a little after: at least once, in order, and never in
//! the way of the run. Nothing is lost by giving up; what is left stays pending in the store.
//!
//! One task for each destination and signal, a courier. What a batch's fate means is said by the
//! [`super::destination`]; where batches come from is behind [`super::outbox`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::aside::Aside;
use super::courier::{Courier, Rounds};
use super::destination::{Destination, Signal};
use super::outbox::Outbox;
use super::sampler::Sampler;
use crate::trace::provider::Ids;

/// How many items are read and sent at a time.
pub const BATCH: usize = 512;

/// How long the end of a run waits at most, while a destination takes items one by one and gets on.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long the end of a run waits for destinations.
pub const GRACE: Duration = Duration::from_secs(10);

/// How delivery paces itself.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long to let items gather after a batch that was not full.
    pub linger: Duration,
    /// The first wait after a failure; it doubles each time.
    pub first_wait: Duration,
    /// The longest.
    pub longest_wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(200),
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(30),
        }
    }
}

/// What became of a run's telemetry at one destination, during this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryReport {
    /// The destination.
    pub destination: String,
    /// The signal.
    pub signal: Signal,
    /// Items taken.
    pub delivered: u64,
    /// Items refused for good.
    pub rejected: u64,
    /// Items settled behind some that wait: they do not count as delivered yet.
    pub aside: u64,
    /// Items passed over by the sampler.
    pub not_sampled: u64,
    /// Items that the destination may have got twice.
    pub duplicates: u64,
    /// What the destination last said about items that it refused.
    pub rejection: Option<String>,
    /// What went wrong last, if that was not mended since.
    pub problem: Option<String>,
    /// Whether everything that was recorded is settled.
    pub complete: bool,
    /// Whether it takes its items in small portions: as long as it gets on, the end of a run waits longer for it.
    pub is_slow: bool,
}

impl DeliveryReport {
    /// What to tell the user where something is left to deliver.
    pub fn hint(&self) -> Option<String> {
        let why = self.problem.as_deref().unwrap_or("there was not enough time");
        (!self.complete).then(|| {
            format!(
                "{} {} are left pending: {why}; `spanscore export --pending` delivers them later",
                self.destination,
                self.signal.as_str()
            )
        })
    }
}

/// Tells the tasks that more was recorded.
#[derive(Debug, Clone)]
pub struct Wake(watch::Sender<State>);

impl Wake {
    /// To be called after each commit; never waits.
    pub fn now(&self) {
        // Whatever is done to the value counts as a change, which is all that matters here.
        self.0.send_modify(|_| {});
    }
}

/// How much was delivered so far in this process.
#[derive(Debug, Clone, Default)]
pub struct Counts(Vec<Arc<Mutex<DeliveryReport>>>);

impl Counts {
    /// By destination, in their order: its name, and spans and log records that it took and refused.
    pub fn now(&self) -> Vec<(String, u64, u64)> {
        let mut counts: Vec<(String, u64, u64)> = Vec::new();
        for report in &self.0 {
            let report = lock(report);
            match counts.iter_mut().find(|(name, ..)| *name == report.destination) {
                Some((_, delivered, rejected)) => {
                    *delivered += report.delivered;
                    *rejected += report.rejected;
                }
                None => counts.push((report.destination.clone(), report.delivered, report.rejected)),
            }
        }
        counts
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct State {
    /// Set when the run is over: everything is recorded, and this is when to stop.
    pub(super) until: Option<Instant>,
}

/// Tells those who follow a courier when it is gone, be it by a panic.
struct Ended(watch::Sender<bool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// A destination, and which traces it gets.
#[derive(Clone)]
pub struct Route {
    /// Where to.
    pub destination: Arc<dyn Destination>,
    /// Which traces.
    pub sampler: Sampler,
}

/// The deliveries of one run. Dropping it stops them.
pub struct Deliveries {
    tasks: JoinSet<()>,
    reports: Vec<Arc<Mutex<DeliveryReport>>>,
    /// Of those, whose spans a destination that takes its time waits for.
    leading: Vec<Arc<Mutex<DeliveryReport>>>,
    state: watch::Sender<State>,
}

impl Deliveries {
    /// Starts delivering, from where each cursor stands. Must be called inside a tokio runtime.
    pub fn start(outbox: &Arc<dyn Outbox>, routes: &[Route], ids: &Ids, pace: Pace) -> Self {
        let (state, _) = watch::channel(State::default());
        let mut this = Self { tasks: JoinSet::new(), reports: Vec::new(), leading: Vec::new(), state };
        // Who carries spans, and whether it has come to its end: others may follow it.
        let leaders: Vec<(String, watch::Sender<bool>)> = routes
            .iter()
            .filter(|route| route.destination.takes(Signal::Traces))
            .map(|route| (route.destination.name().to_owned(), watch::channel(false).0))
            .collect();
        let leader = |name: &str| leaders.iter().find(|(known, _)| known == name).map(|(_, ended)| ended);
        for Route { destination, sampler } in routes {
            for signal in [Signal::Traces, Signal::Logs].into_iter().filter(|signal| destination.takes(*signal)) {
                let report = Arc::new(Mutex::new(DeliveryReport {
                    destination: destination.name().to_owned(),
                    signal,
                    delivered: 0,
                    rejected: 0,
                    aside: 0,
                    not_sampled: 0,
                    duplicates: 0,
                    rejection: None,
                    problem: None,
                    complete: false,
                    is_slow: destination.portion() < BATCH,
                }));
                this.reports.push(Arc::clone(&report));
                let courier = Courier {
                    outbox: Arc::clone(outbox),
                    destination: Arc::clone(destination),
                    signal,
                    sampler: sampler.clone(),
                    ids: ids.clone(),
                    pace,
                    state: this.state.subscribe(),
                    report,
                    aside: Aside::default(),
                    rounds: Rounds::new(),
                    followed: destination.follows().and_then(leader).map(watch::Sender::subscribe),
                };
                let ended = leader(destination.name()).filter(|_| signal == Signal::Traces).cloned().map(Ended);
                this.tasks.spawn(async move {
                    let _ended = ended;
                    courier.run().await;
                });
            }
        }
        let follows = |name: &str| {
            routes.iter().any(|route| {
                route.destination.portion() < BATCH && route.destination.follows().is_some_and(|leader| leader == name)
            })
        };
        let leads = |report: &&Arc<Mutex<DeliveryReport>>| {
            let report = lock(report);
            report.signal == Signal::Traces && follows(&report.destination)
        };
        this.leading = this.reports.iter().filter(leads).cloned().collect();
        this
    }

    /// A view of how much was delivered.
    pub fn counts(&self) -> Counts {
        Counts(self.reports.clone())
    }

    /// A handle to say that more was recorded.
    pub fn wake(&self) -> Wake {
        Wake(self.state.clone())
    }

    /// Delivers what is left, for as long as `grace` allows, and less where nobody listens. Everything must have been
    /// recorded before.
    pub async fn finish(mut self, grace: Duration) -> Vec<DeliveryReport> {
        const FAR: Duration = Duration::from_hours(24 * 365);
        let over = Instant::now();
        let mut until = over + grace.min(FAR);
        self.state.send_replace(State { until: Some(until) });
        let mut seen = self.progress();
        loop {
            // A little before the end, who gets on slowly is told from who does not get on.
            let look = until - grace.min(FAR) / 8;
            tokio::select! {
                ended = self.tasks.join_next() => if ended.is_none() { break },
                () = sleep_until(look), if look < over + PATIENCE => {
                    let now = self.progress();
                    if now == seen && !self.is_first_underway() {
                        // Nothing to wait for but the tasks, which see to their end.
                        while self.tasks.join_next().await.is_some() {}
                        break;
                    }
                    seen = now;
                    until = (until + grace.min(FAR)).min(over + PATIENCE.max(grace.min(FAR)));
                    self.state.send_replace(State { until: Some(until) });
                }
            }
        }
        self.reports.iter().map(|report| lock(report).clone()).collect()
    }
}

impl Deliveries {
    /// How much the destinations that take their time have settled so far, those for which each item is work, and whose
    /// spans they wait for.
    fn progress(&self) -> u64 {
        let settled = |report: &Arc<Mutex<DeliveryReport>>| {
            let report = lock(report);
            report.delivered + report.rejected + report.aside
        };
        let slow = self.reports.iter().filter(|report| lock(report).is_slow);
        slow.chain(&self.leading).map(settled).sum()
    }

    /// Whether spans that scores wait for are on their way, and nothing has gone wrong with them: a backend that has just
    /// been started takes its time over the first.
    fn is_first_underway(&self) -> bool {
        let is_left = self.reports.iter().any(|report| {
            let report = lock(report);
            report.is_slow && !report.complete
        });
        is_left
            && self.leading.iter().map(|report| lock(report)).any(|report| !report.complete && report.problem.is_none())
    }
}

pub(super) fn lock(report: &Mutex<DeliveryReport>) -> std::sync::MutexGuard<'_, DeliveryReport> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod follow_tests;
#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
