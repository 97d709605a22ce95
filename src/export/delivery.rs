//! Moves the outbox to the destinations while a run goes on, and a little after: at least once, in order, and never in
//! the way of the run. Nothing is lost by giving up; what is left stays pending in the store.
//!
//! One task for each destination and signal. What a batch's fate means is said by the [`super::destination`]; where
//! batches come from is behind [`super::outbox`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::aside::{Aside, Portion, Waiting};
use super::destination::{Batch, Delivery, Destination, Retry, Signal};
use super::ledger::{Ledger, Settled};
use super::outbox::{Acknowledgement, Outbox, OutboxBatch, OutboxError, Reading};
use super::sampler::Sampler;
use crate::trace::provider::Ids;

/// How many items are read and sent at a time.
pub const BATCH: usize = 512;

/// How long the end of a run waits at most, while a destination takes items one by one and gets on.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long the end of a run waits for destinations.
pub const GRACE: Duration = Duration::from_secs(10);

/// Tries at an address where nobody listens, once the run is over.
const TRIES_UNREACHABLE: u32 = 2;

/// Tries at a destination that is there but takes nothing, once the run is over.
const TRIES: u32 = 8;

/// The longest wait that a destination may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);

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
struct State {
    /// Set when the run is over: everything is recorded, and this is when to stop.
    until: Option<Instant>,
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
    state: watch::Sender<State>,
}

impl Deliveries {
    /// Starts delivering, from where each cursor stands. Must be called inside a tokio runtime.
    pub fn start(outbox: &Arc<dyn Outbox>, routes: &[Route], ids: &Ids, pace: Pace) -> Self {
        let (state, _) = watch::channel(State::default());
        let mut this = Self { tasks: JoinSet::new(), reports: Vec::new(), state };
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
                    rounds: Rounds { failed: 0, failed_since_over: 0, due: Instant::now() },
                    followed: destination.follows().and_then(leader).map(watch::Sender::subscribe),
                };
                let ended = leader(destination.name()).filter(|_| signal == Signal::Traces).cloned();
                this.tasks.spawn(async move {
                    courier.run().await;
                    if let Some(ended) = ended {
                        ended.send_replace(true);
                    }
                });
            }
        }
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
                    if now == seen {
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
    /// How much the destinations that take their time have settled so far: those for which each item is work.
    fn progress(&self) -> u64 {
        let settled = |report: &Arc<Mutex<DeliveryReport>>| {
            let report = lock(report);
            if report.is_slow { report.delivered + report.rejected + report.aside } else { 0 }
        };
        self.reports.iter().map(settled).sum()
    }
}

fn lock(report: &Mutex<DeliveryReport>) -> std::sync::MutexGuard<'_, DeliveryReport> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries one signal to one destination.
struct Courier {
    outbox: Arc<dyn Outbox>,
    destination: Arc<dyn Destination>,
    signal: Signal,
    sampler: Sampler,
    ids: Ids,
    pace: Pace,
    state: watch::Receiver<State>,
    report: Arc<Mutex<DeliveryReport>>,
    /// What was handed over beyond the cursor, because some of it waits.
    aside: Aside,
    rounds: Rounds,
    /// Whether the courier of the spans that this one waits for has come to its end, if there is such a courier.
    followed: Option<watch::Receiver<bool>>,
}

/// Tries at what waits.
struct Rounds {
    failed: u32,
    failed_since_over: u32,
    /// When to try next.
    due: Instant,
}

/// Why a courier stops before everything is settled.
enum Stop {
    /// With a problem to report.
    Problem(String),
    /// Because time is up; the last problem, if any, stands in the report already.
    Time,
}

impl Courier {
    async fn run(mut self) {
        let stopped = self.carry().await;
        let mut report = lock(&self.report);
        match stopped {
            Ok(()) => report.complete = true,
            Err(Stop::Problem(problem)) => report.problem = Some(problem),
            Err(Stop::Time) => {}
        }
    }

    async fn carry(&mut self) -> Result<(), Stop> {
        loop {
            // Seen before the read, so that what is recorded during it wakes the wait below.
            let until = self.state.borrow_and_update().until;
            if until.is_some_and(|until| until <= Instant::now()) {
                return Err(Stop::Time);
            }
            // Seen before the read, too: what the other delivered before its end is then in it.
            let alone = self.followed.as_ref().is_none_or(|ended| *ended.borrow());
            // With much set aside, it comes before what is new.
            let reading = if self.aside.is_full() { Reading::Nothing } else { self.read().await? };
            match reading {
                Reading::Batch(OutboxBatch { batch, positions, cut }) => {
                    self.settle(batch, &positions).await?;
                    if until.is_none() && !cut && positions.len() < BATCH.min(self.destination.portion()) {
                        self.pause(self.pace.linger).await;
                    }
                }
                Reading::Held | Reading::Nothing if !self.aside.is_empty() => self.once_more().await?,
                Reading::Held => {
                    let leader = self.destination.follows().unwrap_or_default();
                    let problem = format!("{leader} has not taken their spans yet");
                    if until.is_some() && alone {
                        return Err(Stop::Problem(problem));
                    }
                    lock(&self.report).problem = Some(problem);
                    self.pause(self.pace.linger).await;
                }
                Reading::Nothing if until.is_some() => return Ok(()),
                Reading::Nothing => self.state.changed().await.map_err(|_| Stop::Time)?,
            }
        }
    }

    async fn read(&self) -> Result<Reading, Stop> {
        let (outbox, signal, destination) = (Arc::clone(&self.outbox), self.signal, Arc::clone(&self.destination));
        let limit = destination.portion().min(BATCH);
        let after = self.aside.reached();
        let read = move || outbox.read(destination.name(), destination.follows(), signal, after, limit);
        let read = tokio::task::spawn_blocking(read).await;
        let problem = |error: OutboxError| Stop::Problem(format!("reading the outbox: {error}"));
        read.map_err(|error| problem(Box::new(error)))?.map_err(problem)
    }

    /// Hands over a batch until all of it is settled. What stays unsettled although the destination has got it, or may have, will be
    /// handed over again by whoever goes on: it is counted now, for nobody will know then.
    async fn settle(&mut self, mut batch: Batch, positions: &[i64]) -> Result<(), Stop> {
        let ledger = self.sample(&mut batch, positions);
        self.aside.reach(positions.last().copied().unwrap_or_default());
        self.bring(batch, ledger).await?;
        self.tell_aside();
        Ok(())
    }

    /// Goes through what was set aside again, when it is time; what is recorded before that comes first.
    async fn once_more(&mut self) -> Result<(), Stop> {
        let until = self.state.borrow().until;
        let mut due = until.map_or(self.rounds.due, |until| until.min(self.rounds.due));
        if until.is_some() && self.rounds.failed_since_over == 0 {
            due = Instant::now();
        }
        tokio::select! {
            biased;
            () = sleep_until(due) => {}
            changed = self.state.changed() => return changed.map_err(|_| Stop::Time),
        }
        let before = self.aside.count();
        for portion in self.aside.take() {
            match portion {
                Portion::Settled(settled) => self.close(settled).await?,
                Portion::Waiting(Waiting { batch, ledger, .. }) => self.bring(batch, ledger).await?,
            }
        }
        self.tell_aside();
        let Some(problem) = self.aside.problem() else {
            self.rounds = Rounds { failed: 0, failed_since_over: 0, due: Instant::now() };
            lock(&self.report).problem = None;
            return Ok(());
        };
        if self.aside.count() < before {
            (self.rounds.failed, self.rounds.failed_since_over) = (0, 0);
        }
        self.rounds.failed += 1;
        self.rounds.failed_since_over += u32::from(until.is_some());
        if self.rounds.failed_since_over >= TRIES {
            return Err(Stop::Problem(problem));
        }
        let failed = if until.is_some() { self.rounds.failed_since_over } else { self.rounds.failed };
        self.rounds.due = Instant::now() + self.backoff(failed);
        Ok(())
    }

    fn tell_aside(&self) {
        let mut report = lock(&self.report);
        report.aside = self.aside.settled();
        report.problem = self.aside.problem().or_else(|| report.problem.take());
    }

    /// Hands over a batch, and sets aside what of it waits.
    async fn bring(&mut self, mut batch: Batch, mut ledger: Ledger) -> Result<(), Stop> {
        let ended = self.hand_over(&mut batch, &mut ledger).await;
        let in_doubt = ended.is_err() && !self.destination.is_idempotent();
        let duplicates = if in_doubt { ledger.take_doubts() } else { 0 };
        if duplicates > 0 {
            self.write_down(Settled { duplicates, ..Settled::default() }).await?;
        }
        if let Some((count, reason)) = ended? {
            self.aside.wait(Waiting { batch, ledger, count, reason });
        }
        Ok(())
    }

    /// Gives how many items wait for something of their own, and for what, if some do.
    async fn hand_over(&mut self, batch: &mut Batch, ledger: &mut Ledger) -> Result<Option<(u64, String)>, Stop> {
        let mut failures = 0;
        let mut failures_since_over = 0;
        loop {
            if batch.items.is_empty() {
                return self.acknowledge(ledger).await.map(|()| None);
            }
            let over = self.state.borrow().until.is_some();
            // Only this and the waits are cut off when time is up: an acknowledgement, once due, is always written.
            let delivery = tokio::select! {
                biased;
                delivery = self.destination.deliver(batch) => delivery,
                () = time_is_up(self.state.clone()) => {
                    // The request is on its way, and its answer will find nobody.
                    ledger.doubt();
                    return Err(Stop::Time);
                }
            };
            let settled = delivery.settled().min(batch.items.len() as u64);
            ledger.settle(&delivery, settled);
            if settled > 0 {
                batch.items.drop_front(settled as usize);
                self.acknowledge(ledger).await?;
                (failures, failures_since_over) = (0, 0);
            }
            let Delivery { rejection, retry, halt, waiting, .. } = delivery;
            let problem = halt.clone().or_else(|| retry.as_ref().map(|retry| retry.reason.clone()));
            {
                let mut report = lock(&self.report);
                report.rejection = rejection.or_else(|| report.rejection.take());
                report.problem.clone_from(&problem);
            }
            if let Some(halt) = halt {
                return Err(Stop::Problem(halt));
            }
            if batch.items.is_empty() {
                continue;
            }
            // A destination that settles nothing and does not say why gets the benefit of a second try, later.
            let retry = retry.unwrap_or_default();
            // What comes after is sent meanwhile, and again by whoever goes on later: that must make no difference.
            if waiting > 0 && self.destination.is_idempotent() {
                return Ok(Some((waiting, retry.reason)));
            }
            failures += 1;
            failures_since_over += u32::from(over);
            if failures_since_over >= if retry.unreachable { TRIES_UNREACHABLE } else { TRIES } {
                return Err(Stop::Problem(retry.reason));
            }
            self.wait(&retry, if over { failures_since_over } else { failures }).await?;
        }
    }

    /// Removes what is not sampled or not wanted from the batch and opens its ledger.
    fn sample(&self, batch: &mut Batch, positions: &[i64]) -> Ledger {
        let mut keep: Vec<bool> = if self.sampler.keeps_all() {
            vec![true; positions.len()]
        } else {
            batch.items.trace_ids().into_iter().map(|id| self.sampler.keeps(id)).collect()
        };
        if let Some(wanted) = self.destination.wants(&batch.items) {
            for (keep, wanted) in keep.iter_mut().zip(wanted) {
                *keep &= wanted;
            }
        }
        batch.items.retain(&keep);
        Ledger::open(positions, &keep)
    }

    /// Writes down what is settled, as far as a cursor can say it.
    async fn acknowledge(&mut self, ledger: &mut Ledger) -> Result<(), Stop> {
        match ledger.close_settled() {
            Some(settled) => self.close(settled).await,
            None => Ok(()),
        }
    }

    /// Writes down what is settled, unless something before it is not.
    async fn close(&mut self, settled: Settled) -> Result<(), Stop> {
        if self.aside.is_empty() {
            return self.write_down(settled).await;
        }
        self.aside.note(settled);
        Ok(())
    }

    async fn write_down(&self, settled: Settled) -> Result<(), Stop> {
        let Settled { cursor, delivered, rejected, not_sampled, duplicates } = settled;
        let acknowledgement = Acknowledgement {
            destination: self.destination.name().to_owned(),
            signal: self.signal,
            cursor,
            delivered,
            rejected,
            not_sampled,
            duplicates,
        };
        self.outbox.acknowledge(acknowledgement).await.map_err(|error| Stop::Problem(error.to_string()))?;
        let mut report = lock(&self.report);
        report.delivered += delivered;
        report.rejected += rejected;
        report.not_sampled += not_sampled;
        report.duplicates += duplicates;
        Ok(())
    }

    /// Waits before the next try. The end of the run cuts the wait short, but not below what the destination asked for.
    async fn wait(&mut self, retry: &Retry, failures: u32) -> Result<(), Stop> {
        let own = self.backoff(failures);
        let asked = retry.after.unwrap_or_default().min(MAX_RETRY_AFTER);
        let not_before = Instant::now() + asked;
        self.pause(own.max(asked)).await;
        if self.state.borrow().until.is_some_and(|until| not_before.max(Instant::now()) >= until) {
            return Err(Stop::Time);
        }
        sleep_until(not_before).await;
        Ok(())
    }

    fn backoff(&self, failures: u32) -> Duration {
        let doubled = self.pace.first_wait.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.pace.longest_wait).mul_f64(0.5 + self.ids.unit() / 2.0)
    }

    /// Sleeps, or until the run is over if it is not yet.
    async fn pause(&mut self, duration: Duration) {
        let until = self.state.borrow().until;
        if let Some(until) = until {
            return sleep_until(until.min(Instant::now() + duration)).await;
        }
        let mut state = self.state.clone();
        tokio::select! {
            () = sleep(duration) => {}
            _ = state.wait_for(|state| state.until.is_some()) => {}
        }
    }
}

/// Returns when the run is over and the time given for the rest has passed.
async fn time_is_up(mut state: watch::Receiver<State>) {
    loop {
        let until = state.wait_for(|state| state.until.is_some()).await.ok().and_then(|state| state.until);
        // Nobody can end the run any more; the task ends with its set.
        let Some(until) = until else { return std::future::pending().await };
        sleep_until(until).await;
        // It may have been put off meanwhile.
        if state.borrow().until.is_none_or(|now| now <= until) {
            return;
        }
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
