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

use super::destination::{Batch, Delivery, Destination, Retry, Signal};
use super::ledger::{Ledger, Settled};
use super::outbox::{Acknowledgement, Outbox, OutboxBatch, OutboxError};
use super::sampler::Sampler;
use crate::trace::provider::Ids;

/// How many items are read and sent at a time.
pub const BATCH: usize = 512;

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

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Set when the run is over: everything is recorded, and this is when to stop.
    until: Option<Instant>,
}

/// The deliveries of one run. Dropping it stops them.
pub struct Deliveries {
    tasks: JoinSet<()>,
    reports: Vec<Arc<Mutex<DeliveryReport>>>,
    state: watch::Sender<State>,
}

impl Deliveries {
    /// Starts delivering, from where each cursor stands. Must be called inside a tokio runtime.
    pub fn start(
        outbox: &Arc<dyn Outbox>,
        destinations: &[Arc<dyn Destination>],
        sampler: &Sampler,
        ids: &Ids,
        pace: Pace,
    ) -> Self {
        let (state, _) = watch::channel(State::default());
        let mut this = Self { tasks: JoinSet::new(), reports: Vec::new(), state };
        for destination in destinations {
            for signal in [Signal::Traces, Signal::Logs].into_iter().filter(|signal| destination.takes(*signal)) {
                let report = Arc::new(Mutex::new(DeliveryReport {
                    destination: destination.name().to_owned(),
                    signal,
                    delivered: 0,
                    rejected: 0,
                    not_sampled: 0,
                    duplicates: 0,
                    rejection: None,
                    problem: None,
                    complete: false,
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
                };
                this.tasks.spawn(courier.run());
            }
        }
        this
    }

    /// A handle to say that more was recorded.
    pub fn wake(&self) -> Wake {
        Wake(self.state.clone())
    }

    /// Delivers what is left, for as long as `grace` allows, and less where nobody listens. Everything must have been
    /// recorded before.
    pub async fn finish(mut self, grace: Duration) -> Vec<DeliveryReport> {
        const FAR: Duration = Duration::from_hours(24 * 365);
        let until = Instant::now() + grace.min(FAR);
        self.state.send_replace(State { until: Some(until) });
        while self.tasks.join_next().await.is_some() {}
        self.reports.iter().map(|report| lock(report).clone()).collect()
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
            match self.read().await? {
                Some(OutboxBatch { batch, positions }) => {
                    self.settle(batch, &positions).await?;
                    if until.is_none() && positions.len() < BATCH {
                        self.pause(self.pace.linger).await;
                    }
                }
                None if until.is_some() => return Ok(()),
                None => self.state.changed().await.map_err(|_| Stop::Time)?,
            }
        }
    }

    async fn read(&self) -> Result<Option<OutboxBatch>, Stop> {
        let (outbox, signal) = (Arc::clone(&self.outbox), self.signal);
        let destination = self.destination.name().to_owned();
        let read = tokio::task::spawn_blocking(move || outbox.read(&destination, signal, BATCH)).await;
        let problem = |error: OutboxError| Stop::Problem(format!("reading the outbox: {error}"));
        read.map_err(|error| problem(Box::new(error)))?.map_err(problem)
    }

    /// Hands over a batch until all of it is settled.
    async fn settle(&mut self, mut batch: Batch, positions: &[i64]) -> Result<(), Stop> {
        let mut ledger = self.sample(&mut batch, positions);
        let mut failures = 0;
        let mut failures_since_over = 0;
        loop {
            if batch.items.is_empty() {
                return self.acknowledge(&mut ledger).await;
            }
            let over = self.state.borrow().until.is_some();
            // Only this and the waits are cut off when time is up: an acknowledgement, once due, is always written.
            let delivery = tokio::select! {
                biased;
                delivery = self.destination.deliver(&batch) => delivery,
                () = time_is_up(self.state.clone()) => return Err(Stop::Time),
            };
            let settled = delivery.settled().min(batch.items.len() as u64);
            ledger.settle(&delivery, settled);
            if settled > 0 {
                batch.items.drop_front(settled as usize);
                self.acknowledge(&mut ledger).await?;
                (failures, failures_since_over) = (0, 0);
            }
            let Delivery { rejection, retry, halt, ambiguous, .. } = delivery;
            if ambiguous {
                ledger.doubt(batch.items.len() as u64);
            }
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
            failures += 1;
            failures_since_over += u32::from(over);
            if failures_since_over >= if retry.unreachable { TRIES_UNREACHABLE } else { TRIES } {
                return Err(Stop::Problem(retry.reason));
            }
            self.wait(&retry, if over { failures_since_over } else { failures }).await?;
        }
    }

    /// Removes what is not sampled from the batch and opens its ledger.
    fn sample(&self, batch: &mut Batch, positions: &[i64]) -> Ledger {
        let keep: Vec<bool> = if self.sampler.keeps_all() {
            vec![true; positions.len()]
        } else {
            batch.items.trace_ids().into_iter().map(|id| self.sampler.keeps(id)).collect()
        };
        batch.items.retain(&keep);
        Ledger::open(positions, &keep)
    }

    /// Writes down what is settled, as far as a cursor can say it.
    async fn acknowledge(&self, ledger: &mut Ledger) -> Result<(), Stop> {
        let Some(settled) = ledger.close_settled() else { return Ok(()) };
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
        let doubled = self.pace.first_wait.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let own = doubled.min(self.pace.longest_wait).mul_f64(0.5 + self.ids.unit() / 2.0);
        let asked = retry.after.unwrap_or_default().min(MAX_RETRY_AFTER);
        let not_before = Instant::now() + asked;
        self.pause(own.max(asked)).await;
        if self.state.borrow().until.is_some_and(|until| not_before.max(Instant::now()) >= until) {
            return Err(Stop::Time);
        }
        sleep_until(not_before).await;
        Ok(())
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
    let until = state.wait_for(|state| state.until.is_some()).await.ok().and_then(|state| state.until);
    match until {
        Some(until) => sleep_until(until).await,
        // Nobody can end the run any more; the task ends with its set.
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_trait::async_trait;

    use super::*;
    use crate::export::destination::{Items, Scope};
    use crate::export::sampler::Rule;
    use crate::model::{Span, SpanId, TraceId};

    /// Spans in memory, at the positions 10, 20, …, or two spans at each.
    #[derive(Default)]
    struct Memory {
        spans: Mutex<Vec<(i64, Span)>>,
        acknowledged: Mutex<Vec<Acknowledgement>>,
    }

    impl Memory {
        fn with(count: u64) -> Arc<Self> {
            let memory = Arc::new(Self::default());
            memory.add(count, 1);
            memory
        }

        fn add(&self, count: u64, at_each: u64) {
            let mut spans = self.spans.lock().unwrap();
            let before = spans.len() as u64;
            for i in before..before + count {
                let mut id = [0; 16];
                id[8..].copy_from_slice(&(i << 60 | 1).to_be_bytes());
                let position = (i / at_each + 1) as i64 * 10;
                spans.push((position, Span::open(TraceId::from_bytes(id), SpanId::from_bytes([1; 8]), None, "s", i)));
            }
        }

        fn total(&self) -> (i64, [u64; 4]) {
            let all = self.acknowledged.lock().unwrap();
            let sum = |pick: fn(&Acknowledgement) -> u64| all.iter().map(pick).sum();
            let counts = [sum(|a| a.delivered), sum(|a| a.rejected), sum(|a| a.not_sampled), sum(|a| a.duplicates)];
            (all.last().map_or(0, |a| a.cursor), counts)
        }
    }

    #[async_trait]
    impl Outbox for Memory {
        fn read(&self, _: &str, _: Signal, limit: usize) -> Result<Option<OutboxBatch>, OutboxError> {
            let cursor = self.total().0;
            let all = self.spans.lock().unwrap();
            let (positions, spans): (Vec<_>, Vec<_>) =
                all.iter().filter(|(position, _)| *position > cursor).take(limit).cloned().unzip();
            let batch = Batch { resource: vec![], scope: Scope::own(), items: Items::Spans(spans) };
            Ok((!positions.is_empty()).then_some(OutboxBatch { batch, positions }))
        }

        async fn acknowledge(&self, acknowledgement: Acknowledgement) -> Result<(), OutboxError> {
            self.acknowledged.lock().unwrap().push(acknowledgement);
            Ok(())
        }
    }

    /// Answers by a script, then takes everything; remembers what came.
    struct Scripted {
        script: Mutex<VecDeque<Delivery>>,
        seen: Mutex<Vec<Vec<u64>>>,
    }

    impl Scripted {
        fn new(script: impl IntoIterator<Item = Delivery>) -> Arc<Self> {
            Arc::new(Self { script: Mutex::new(script.into_iter().collect()), seen: Mutex::default() })
        }
    }

    #[async_trait]
    impl Destination for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }
        fn takes(&self, signal: Signal) -> bool {
            signal == Signal::Traces
        }
        async fn deliver(&self, batch: &Batch) -> Delivery {
            let Items::Spans(spans) = &batch.items else { panic!("only spans were recorded") };
            self.seen.lock().unwrap().push(spans.iter().map(|span| span.start_unix_nano).collect());
            let next = self.script.lock().unwrap().pop_front();
            next.unwrap_or_else(|| Delivery::complete(spans.len()))
        }
    }

    const FAST: Pace = Pace {
        linger: Duration::from_millis(1),
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(4),
    };

    fn start(outbox: &Arc<Memory>, destination: &Arc<Scripted>, sampler: &Sampler) -> Deliveries {
        let outbox: Arc<dyn Outbox> = Arc::clone(outbox) as _;
        Deliveries::start(&outbox, &[Arc::clone(destination) as _], sampler, &Ids::seeded(1), FAST)
    }

    async fn deliver(outbox: &Arc<Memory>, destination: &Arc<Scripted>) -> DeliveryReport {
        let deliveries = start(outbox, destination, &Sampler::default());
        let mut reports = deliveries.finish(Duration::from_secs(5)).await;
        assert_eq!(reports.len(), 1);
        reports.remove(0)
    }

    fn busy(after: Option<Duration>) -> Retry {
        Retry { after, reason: "busy".into(), unreachable: false }
    }

    #[tokio::test]
    async fn everything_arrives_in_order_and_is_acknowledged() {
        let (outbox, destination) = (Memory::with(1100), Scripted::new([]));
        let deliveries = start(&outbox, &destination, &Sampler::default());
        let wake = deliveries.wake();
        tokio::task::yield_now().await;
        outbox.add(3, 1);
        wake.now();
        let report = deliveries.finish(Duration::from_secs(5)).await.remove(0);
        assert!(report.complete && report.hint().is_none());
        assert_eq!(report.delivered, 1103);
        assert_eq!(outbox.total(), (11_030, [1103, 0, 0, 0]));
        assert_eq!(destination.seen.lock().unwrap().concat(), (0..1103).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_is_recorded_later_is_delivered_while_the_run_goes_on() {
        let (outbox, destination) = (Memory::with(0), Scripted::new([]));
        let deliveries = start(&outbox, &destination, &Sampler::default());
        outbox.add(2, 1);
        deliveries.wake().now();
        for _ in 0..500 {
            if outbox.total().0 == 20 {
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
        panic!("{:?}", outbox.total());
    }

    #[tokio::test]
    async fn a_failure_is_retried_and_a_lost_acknowledgement_counts_as_duplicates() {
        let outbox = Memory::with(5);
        let destination = Scripted::new([Delivery::later(busy(None), false), Delivery::later(busy(None), true)]);
        let report = deliver(&outbox, &destination).await;
        assert_eq!(outbox.total(), (50, [5, 0, 0, 5]));
        assert_eq!((report.duplicates, report.problem, report.complete), (5, None, true));
        assert_eq!(destination.seen.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn what_was_taken_of_a_batch_is_not_sent_again() {
        let outbox = Memory::with(6);
        let first = Delivery { delivered: 2, rejected: 1, rejection: Some("bad".into()), ..Delivery::default() };
        let destination = Scripted::new([first.and_then(Delivery::later(busy(None), false))]);
        let report = deliver(&outbox, &destination).await;
        assert_eq!(destination.seen.lock().unwrap()[1], [3, 4, 5]);
        assert_eq!(outbox.total(), (60, [5, 1, 0, 0]));
        assert_eq!(outbox.acknowledged.lock().unwrap()[0].cursor, 30);
        assert_eq!(report.rejection.as_deref(), Some("bad"));
    }

    #[tokio::test]
    async fn a_cursor_never_stands_between_items_recorded_together() {
        let outbox = Memory::with(0);
        outbox.add(6, 2);
        let destination = Scripted::new([
            Delivery { delivered: 3, retry: Some(busy(None)), ..Delivery::default() },
            Delivery::halted("the key is wrong"),
        ]);
        let report = deliver(&outbox, &destination).await;
        assert_eq!(outbox.total(), (10, [2, 0, 0, 0]), "the third span shares its position with the fourth");
        assert!(!report.complete);
        assert_eq!(
            report.hint().unwrap(),
            "scripted traces are left pending: the key is wrong; `spanscore export --pending` delivers them later"
        );
        let report = deliver(&outbox, &Scripted::new([])).await;
        assert_eq!((outbox.total(), report.complete), ((30, [6, 0, 0, 0]), true));
    }

    #[tokio::test]
    async fn what_is_not_sampled_is_passed_over_and_counted() {
        let (outbox, destination) = (Memory::with(16), Scripted::new([]));
        let sampler = Sampler { root: Rule::Ratio(0.25), parent: None };
        let report = start(&outbox, &destination, &sampler).finish(Duration::from_secs(5)).await.remove(0);
        assert_eq!(outbox.total(), (160, [4, 0, 12, 0]));
        assert_eq!((report.delivered, report.not_sampled), (4, 12));
        let nothing = Sampler { root: Rule::AlwaysOff, parent: None };
        let (outbox, destination) = (Memory::with(16), Scripted::new([]));
        start(&outbox, &destination, &nothing).finish(Duration::from_secs(5)).await;
        assert_eq!(outbox.total(), (160, [0, 0, 16, 0]));
        assert!(destination.seen.lock().unwrap().is_empty(), "an empty batch is not sent");
    }

    #[tokio::test]
    async fn nobody_listening_is_given_up_early() {
        let refused = || Delivery::later(Retry { after: None, reason: "refused".into(), unreachable: true }, false);
        let (outbox, destination) = (Memory::with(3), Scripted::new((0..9).map(|_| refused())));
        let deliveries = start(&outbox, &destination, &Sampler::default());
        let report = deliveries.finish(Duration::from_hours(1)).await.remove(0);
        assert_eq!(destination.seen.lock().unwrap().len(), 2);
        assert_eq!((report.problem.as_deref(), report.complete), (Some("refused"), false));
        assert_eq!(outbox.total(), (0, [0; 4]));
    }

    #[tokio::test]
    async fn a_wait_beyond_the_deadline_is_not_begun() {
        let later = Delivery::later(busy(Some(Duration::from_mins(5))), false);
        let (outbox, destination) = (Memory::with(3), Scripted::new([later]));
        let deliveries = start(&outbox, &destination, &Sampler::default());
        let report = deliveries.finish(Duration::from_millis(100)).await.remove(0);
        assert_eq!((report.problem.as_deref(), report.complete), (Some("busy"), false));
    }
}
