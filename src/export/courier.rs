//! Carries one signal of a run to one destination: reads a batch, hands it over until it is settled, writes that down. What a
//! failure costs in waits and tries is decided here; when all of them start and stop, in [`super::delivery`].

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::aside::Aside;
use super::delivery::{BATCH, DeliveryReport, Pace, State, lock};
use super::destination::{Batch, Delivery, Destination, Retry, Signal};
use super::ledger::{Ledger, Settled};
use super::outbox::{Acknowledgement, Outbox, OutboxBatch, OutboxError, Reading};
use super::sampler::Sampler;
use crate::trace::provider::Ids;

/// Tries at an address where nobody listens, once the run is over.
const TRIES_UNREACHABLE: u32 = 2;

/// Tries at a destination that is there but takes nothing, once the run is over.
const TRIES: u32 = 8;

/// The longest wait that a destination may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);

/// Carries one signal to one destination.
pub(super) struct Courier {
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) destination: Arc<dyn Destination>,
    pub(super) signal: Signal,
    pub(super) sampler: Sampler,
    pub(super) ids: Ids,
    pub(super) pace: Pace,
    pub(super) state: watch::Receiver<State>,
    pub(super) report: Arc<Mutex<DeliveryReport>>,
    /// What was handed over beyond the cursor, because some of it waits.
    pub(super) aside: Aside,
    pub(super) rounds: Rounds,
    /// Whether the courier of the spans that this one waits for has come to its end, if there is such a courier.
    pub(super) followed: Option<watch::Receiver<bool>>,
}

/// Tries at what waits.
pub(super) struct Rounds {
    failed: u32,
    /// Those of them that were the last ones, for nothing more is to come; the first of these is made at once.
    last: Option<u32>,
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

impl Rounds {
    /// None made yet, and the first one due.
    pub(super) fn new() -> Self {
        Self { failed: 0, last: None, due: Instant::now() }
    }
}

impl Courier {
    pub(super) async fn run(mut self) {
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
                    if until.is_none() && !cut && positions.len() < self.portion() {
                        self.pause(self.pace.linger).await;
                    }
                }
                // The spans of what is held may be delivered at any time, which nobody tells.
                Reading::Held
                    if !self.aside.is_empty() && self.rounds.due > Instant::now() && !(until.is_some() && alone) =>
                {
                    let rest = self.rounds.due - Instant::now();
                    self.pause(self.pace.linger.min(rest)).await;
                }
                Reading::Held | Reading::Nothing if !self.aside.is_empty() => self.once_more(alone).await?,
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
        let limit = self.portion();
        let after = self.aside.reached();
        let read = move || outbox.read(destination.name(), destination.follows(), signal, after, limit);
        let read = tokio::task::spawn_blocking(read).await;
        let problem = |error: OutboxError| Stop::Problem(format!("reading the outbox: {error}"));
        read.map_err(|error| problem(Box::new(error)))?.map_err(problem)
    }

    fn portion(&self) -> usize {
        self.destination.portion().min(BATCH)
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

    /// Goes through what was set aside again, when it is time; what is recorded before that comes first. As long as the courier
    /// that it follows goes on, so does this one, however often it asks in vain.
    async fn once_more(&mut self, alone: bool) -> Result<(), Stop> {
        let until = self.state.borrow().until;
        let is_last = until.is_some() && alone;
        if !is_last || self.rounds.last.is_some() {
            let due = until.map_or(self.rounds.due, |until| until.min(self.rounds.due));
            tokio::select! {
                biased;
                () = sleep_until(due) => {}
                changed = self.state.changed() => return changed.map_err(|_| Stop::Time),
                () = end_of(self.followed.clone()), if !alone => return Ok(()),
            }
        }
        let before = self.aside.count();
        for (batch, ledger) in self.aside.take(self.portion()) {
            self.bring(batch, ledger).await?;
        }
        self.tell_aside();
        let Some(problem) = self.aside.problem() else {
            self.rounds = Rounds::new();
            lock(&self.report).problem = None;
            return Ok(());
        };
        if self.aside.count() < before {
            self.rounds = Rounds::new();
        }
        self.rounds.failed += 1;
        if is_last {
            let last = self.rounds.last.unwrap_or_default() + 1;
            if last >= TRIES {
                return Err(Stop::Problem(problem));
            }
            self.rounds.last = Some(last);
        }
        self.rounds.due = Instant::now() + self.backoff(self.rounds.last.unwrap_or(self.rounds.failed));
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
        if let Some(reason) = ended? {
            self.acknowledge(&mut ledger).await?;
            self.aside.wait(batch, ledger, &reason);
        }
        Ok(())
    }

    /// Where items wait for something of their own, leaves only these in the batch, and gives what for.
    async fn hand_over(&mut self, batch: &mut Batch, ledger: &mut Ledger) -> Result<Option<String>, Stop> {
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
                    if self.destination.may_have_sent() {
                        ledger.doubt();
                    }
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
            if let Some(waiting) = waiting.filter(|_| self.destination.is_idempotent()) {
                let places = 0..batch.items.len();
                let waits: Vec<bool> = places.map(|place| waiting.places.binary_search(&place).is_ok()).collect();
                batch.items.retain(&waits);
                ledger.wait(&waiting);
                return Ok(Some(retry.reason));
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
        self.aside.note(&settled);
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

/// Returns when the courier that is followed has come to its end.
async fn end_of(followed: Option<watch::Receiver<bool>>) {
    match followed {
        Some(mut followed) => _ = followed.wait_for(|ended| *ended).await,
        None => std::future::pending().await,
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
