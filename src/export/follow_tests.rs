//! Couriers that follow another's spans, with items among theirs that wait.

use std::sync::Arc;

use async_trait::async_trait;

use super::super::destination::{Batch, Delivery, Items, Retry, Waiting};
use super::super::outbox::{Acknowledgement, OutboxBatch, OutboxError, Reading};
use super::*;
use crate::model::{Span, SpanId, TraceId};

/// Items at the positions 1, 2, …; the follower gets those that the leader has delivered.
struct Two {
    lead: Mutex<i64>,
    follow: Mutex<i64>,
    total: i64,
    /// How often the follower read.
    reads: Mutex<u64>,
}

impl Two {
    fn new(lead: i64, total: i64) -> Arc<Self> {
        Arc::new(Self { lead: Mutex::new(lead), follow: Mutex::default(), total, reads: Mutex::default() })
    }
}

#[async_trait]
impl Outbox for Two {
    fn read(
        &self,
        _: &str,
        follows: Option<&str>,
        _: Signal,
        after: i64,
        limit: usize,
    ) -> Result<Reading, OutboxError> {
        let lead = *self.lead.lock().unwrap();
        let (cursor, last) = if follows.is_none() { (lead, self.total) } else { (*self.follow.lock().unwrap(), lead) };
        *self.reads.lock().unwrap() += u64::from(follows.is_some());
        let positions: Vec<i64> = (cursor.max(after) + 1..=last).take(limit).collect();
        if positions.is_empty() {
            return Ok(if last < self.total { Reading::Held } else { Reading::Nothing });
        }
        let span = |place: &i64| {
            Span::open(TraceId::from_bytes([1; 16]), SpanId::from_bytes([1; 8]), None, "s", *place as u64)
        };
        let batch = Batch { origin: Arc::default(), items: Items::Spans(positions.iter().map(span).collect()) };
        Ok(Reading::Batch(OutboxBatch { batch, positions, cut: false }))
    }

    async fn acknowledge(&self, said: Acknowledgement) -> Result<(), OutboxError> {
        let cursor = if said.destination == "leader" { &self.lead } else { &self.follow };
        *cursor.lock().unwrap() = said.cursor;
        Ok(())
    }
}

/// Takes a batch every so many seconds, panics, or fails.
struct Leader {
    panics: bool,
    seconds: u64,
    fails: bool,
}

#[async_trait]
impl Destination for Leader {
    fn name(&self) -> &'static str {
        "leader"
    }

    fn takes(&self, signal: Signal) -> bool {
        signal == Signal::Traces
    }

    async fn deliver(&self, batch: &Batch) -> Delivery {
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        assert!(!self.panics, "a fault of the program");
        if self.fails {
            return Delivery::later(Retry { reason: "busy".into(), ..Retry::default() }, false);
        }
        Delivery::complete(batch.items.len())
    }
}

/// Takes everything but what is lost.
struct Follower {
    lost: Vec<u64>,
}

#[async_trait]
impl Destination for Follower {
    fn name(&self) -> &'static str {
        "follower"
    }

    fn takes(&self, signal: Signal) -> bool {
        signal == Signal::Logs
    }

    fn follows(&self) -> Option<&str> {
        Some("leader")
    }

    fn portion(&self) -> usize {
        64
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    async fn deliver(&self, batch: &Batch) -> Delivery {
        let Items::Spans(spans) = &batch.items else { panic!("only spans were recorded") };
        let waits = |span: &Span| self.lost.contains(&span.start_unix_nano);
        let front = spans.iter().take_while(|span| !waits(span)).count();
        let places: Vec<usize> = (0..spans.len() - front).filter(|place| waits(&spans[front + place])).collect();
        let retry = Retry { reason: "its span is not there".into(), ..Retry::default() };
        let waiting = Waiting { places, rejected: 0 };
        if waiting.places.is_empty() {
            return Delivery::complete(front);
        }
        Delivery { delivered: front as u64, retry: Some(retry), waiting: Some(waiting), ..Delivery::default() }
    }
}

fn start(outbox: &Arc<Two>, leader: Option<Leader>, lost: Vec<u64>) -> Deliveries {
    let kept: Arc<dyn Outbox> = Arc::clone(outbox) as _;
    let to = |destination: Arc<dyn Destination>| Route { destination, sampler: Sampler::default() };
    let mut routes: Vec<Route> = leader.into_iter().map(|leader| to(Arc::new(leader))).collect();
    routes.push(to(Arc::new(Follower { lost })));
    Deliveries::start(&kept, &routes, &Ids::seeded(1), Pace::default())
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_ends_no_delivery_that_goes_on() {
    let outbox = Two::new(0, 20_000);
    let begun = Instant::now();
    let reports = start(&outbox, Some(Leader { panics: false, seconds: 5, fails: false }), vec![3])
        .finish(Duration::from_hours(24))
        .await;
    assert_eq!((reports[0].delivered, reports[1].delivered, reports[1].aside), (20_000, 2, 19_997));
    let problem = reports[1].problem.as_deref().unwrap();
    assert!(problem.starts_with("its span is not there (1 wait for such"), "{problem}");
    // Then it is asked for a few times more, and given up.
    assert!(begun.elapsed() < Duration::from_mins(6), "{:?}", begun.elapsed());
    assert_eq!(*outbox.follow.lock().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn many_that_wait_stop_nothing_behind_them() {
    let outbox = Two::new(20_000, 20_000);
    let lost: Vec<u64> = (0..100).map(|portion| portion * 64 + 3).collect();
    let reports = start(&outbox, None, lost).finish(Duration::from_hours(24)).await;
    assert_eq!((reports[0].delivered, reports[0].aside), (2, 19_898));
}

#[tokio::test(start_paused = true)]
async fn the_outbox_is_not_read_at_each_commit_for_what_is_held() {
    for lost in [vec![], vec![3]] {
        let outbox = Two::new(100, 20_000);
        let deliveries = start(&outbox, None, lost.clone());
        let wake = deliveries.wake();
        for _ in 0..1000 {
            wake.now();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let reads = *outbox.reads.lock().unwrap();
        assert!(reads < 20, "{lost:?}: {reads} in a second");
        // What is delivered meanwhile is seen soon, whenever what waits is asked for again.
        tokio::time::sleep(Duration::from_mins(10)).await;
        *outbox.lead.lock().unwrap() = 200;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let counts = deliveries.reports[0].lock().unwrap();
        assert_eq!(counts.delivered + counts.aside, 200 - lost.len() as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_does_not_wait_for_a_leader_that_panicked() {
    for lost in [vec![], vec![3]] {
        let outbox = Two::new(100, 20_000);
        let begun = Instant::now();
        let deliveries = start(&outbox, Some(Leader { panics: true, seconds: 5, fails: false }), lost);
        let reports = deliveries.finish(Duration::from_hours(24)).await;
        assert!(!reports[1].complete && begun.elapsed() < Duration::from_mins(6), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_has_just_been_started_is_waited_for_and_one_that_is_down_is_not() {
    for (fails, delivered) in [(false, 1000), (true, 0)] {
        let outbox = Two::new(0, 1000);
        let begun = Instant::now();
        let leader = Leader { panics: false, seconds: 15, fails };
        let reports = start(&outbox, Some(leader), Vec::new()).finish(GRACE).await;
        assert_eq!((reports[0].delivered, reports[1].delivered), (delivered, delivered));
        assert!(begun.elapsed() < Duration::from_secs(if fails { 21 } else { 35 }), "{fails} {:?}", begun.elapsed());
    }
}
