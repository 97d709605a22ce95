//! Delivery against an outbox in memory and destinations that answer by a script.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;

use super::super::destination::{Batch, Delivery, Retry, Waiting};
use super::super::outbox::{Acknowledgement, OutboxBatch, OutboxError, Reading};
use super::*;
use crate::export::aside::MOST;
use crate::export::destination::Items;
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
        (all.iter().map(|a| a.cursor).max().unwrap_or(0), counts)
    }
}

#[async_trait]
impl Outbox for Memory {
    fn read(&self, _: &str, _: Option<&str>, _: Signal, after: i64, limit: usize) -> Result<Reading, OutboxError> {
        let cursor = self.total().0.max(after);
        let all = self.spans.lock().unwrap();
        let (positions, spans): (Vec<_>, Vec<_>) =
            all.iter().filter(|(position, _)| *position > cursor).take(limit).cloned().unzip();
        let batch = Batch { origin: Arc::default(), items: Items::Spans(spans) };
        Ok(if positions.is_empty() {
            Reading::Nothing
        } else {
            Reading::Batch(OutboxBatch { batch, positions, cut: false })
        })
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
    let route = Route { destination: Arc::clone(destination) as _, sampler: sampler.clone() };
    Deliveries::start(&outbox, &[route], &Ids::seeded(1), FAST)
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
        tokio::time::sleep(Duration::from_millis(2)).await;
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
    assert_eq!(outbox.total(), (10, [2, 0, 0, 1]), "the third shares its position with the fourth: it comes again");
    assert!(!report.complete);
    assert_eq!(
        report.hint().unwrap(),
        "scripted traces are left pending: the key is wrong; `spanscore export --pending` delivers them later"
    );
    let report = deliver(&outbox, &Scripted::new([])).await;
    assert_eq!((outbox.total(), report.complete), ((30, [6, 0, 0, 1]), true));
}

#[tokio::test]
async fn what_was_taken_behind_an_unsettled_item_is_a_duplicate_only_if_others_go_on() {
    let waits = |taken_out_of_turn, ambiguous| Delivery {
        retry: Some(busy(None)),
        ambiguous,
        taken_out_of_turn,
        ..Delivery::default()
    };
    let stop = |taken_out_of_turn| Delivery { taken_out_of_turn, ..Delivery::halted("no quota") };
    let check = async |script: Vec<Delivery>, expected: [u64; 4]| {
        let outbox = Memory::with(4);
        let report = deliver(&outbox, &Scripted::new(script.clone())).await;
        assert_eq!(outbox.total().1, expected, "{script:?}");
        assert_eq!(report.duplicates, expected[3]);
    };
    check(vec![waits(3, false), stop(3)], [0, 0, 0, 3]).await;
    check(vec![waits(3, false)], [4, 0, 0, 0]).await;
    // One settles, and two of the others stay behind one that does not.
    check(vec![waits(3, false), Delivery { delivered: 1, ..stop(2) }], [1, 0, 0, 2]).await;
    // An answer in doubt is about the one item that was sent.
    check(vec![waits(3, false), waits(3, true)], [4, 0, 0, 1]).await;
    check(vec![waits(3, false), waits(3, true), stop(3)], [0, 0, 0, 4]).await;
    check(vec![waits(0, true), waits(3, false), stop(3)], [0, 0, 0, 4]).await;
    check(vec![waits(9, true), stop(9)], [0, 0, 0, 4]).await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_asked_for_is_kept() {
    let (outbox, destination) = (Memory::with(3), Scripted::new([Delivery::later(busy(Some(SOON)), false)]));
    let (begun, deliveries) = (Instant::now(), start(&outbox, &destination, &Sampler::default()));
    // The run goes on meanwhile, and its end does not cut the wait short.
    tokio::time::sleep(SOON / 2).await;
    assert_eq!(destination.seen.lock().unwrap().len(), 1);
    let report = deliveries.finish(Duration::from_hours(1)).await.remove(0);
    assert_eq!((report.delivered, destination.seen.lock().unwrap().len()), (3, 2));
    assert!(begun.elapsed() >= SOON, "{:?}", begun.elapsed());
}

/// A wait that destinations ask for.
const SOON: Duration = Duration::from_secs(40);

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

/// Takes a request and never answers.
struct Hanging;

#[async_trait]
impl Destination for Hanging {
    fn name(&self) -> &'static str {
        "hanging"
    }

    fn takes(&self, signal: Signal) -> bool {
        signal == Signal::Traces
    }

    async fn deliver(&self, _: &Batch) -> Delivery {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_request_cut_off_at_the_end_counts_as_possible_duplicates() {
    let outbox: Arc<Memory> = Memory::with(4);
    let kept: Arc<dyn Outbox> = Arc::clone(&outbox) as _;
    let deliveries = Deliveries::start(
        &kept,
        &[Route { destination: Arc::new(Hanging) as _, sampler: Sampler::default() }],
        &Ids::seeded(1),
        FAST,
    );
    // Until the request is on its way.
    tokio::time::sleep(Duration::from_millis(30)).await;
    let report = deliveries.finish(Duration::from_millis(20)).await.remove(0);
    assert_eq!((report.delivered, report.duplicates, report.complete), (0, 4, false));
    assert_eq!(outbox.total(), (0, [0, 0, 0, 4]), "the cursor stays");
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

/// Takes items one at a time, each after a while; hanging, it never answers. Getting one twice makes no difference.
struct OneByOne {
    hangs: bool,
}

#[async_trait]
impl Destination for OneByOne {
    fn name(&self) -> &'static str {
        "one by one"
    }

    fn takes(&self, signal: Signal) -> bool {
        signal == Signal::Traces
    }

    fn portion(&self) -> usize {
        1
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    async fn deliver(&self, batch: &Batch) -> Delivery {
        tokio::time::sleep(Duration::from_millis(300)).await;
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Delivery::complete(batch.items.len())
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_items_one_by_one_is_waited_for_as_long_as_it_gets_on() {
    let deliver = async |hangs: bool| {
        let outbox: Arc<Memory> = Memory::with(15);
        let kept: Arc<dyn Outbox> = Arc::clone(&outbox) as _;
        let route = Route { destination: Arc::new(OneByOne { hangs }) as _, sampler: Sampler::default() };
        let begun = Instant::now();
        let deliveries = Deliveries::start(&kept, &[route], &Ids::seeded(1), FAST);
        let report = deliveries.finish(Duration::from_secs(1)).await.remove(0);
        (report.delivered, report.complete, report.duplicates, begun.elapsed().as_secs())
    };
    assert_eq!(deliver(false).await, (15, true, 0, 4), "15 times 300 ms are more than the second that was given");
    assert_eq!(deliver(true).await, (0, false, 0, 1), "and what was on its way is no duplicate");
}

/// Takes everything but some items, which wait for something of their own. Getting one twice makes no difference.
#[derive(Default)]
struct Picky {
    waiting: Mutex<Vec<u64>>,
    seen: Mutex<Vec<u64>>,
    /// After so many batches nothing waits any more.
    until: Option<usize>,
    batches: Mutex<usize>,
    all_wait: bool,
    /// Refused behind one that waits, where it is in the same batch.
    refused: Option<u64>,
}

#[async_trait]
impl Destination for Picky {
    fn name(&self) -> &'static str {
        "picky"
    }

    fn takes(&self, signal: Signal) -> bool {
        signal == Signal::Traces
    }

    fn portion(&self) -> usize {
        4
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    async fn deliver(&self, batch: &Batch) -> Delivery {
        let Items::Spans(spans) = &batch.items else { panic!("only spans were recorded") };
        let mut batches = self.batches.lock().unwrap();
        *batches += 1;
        let mut waiting = self.waiting.lock().unwrap();
        if self.until.is_some_and(|until| *batches > until) {
            waiting.clear();
        }
        let waits = |span: &Span| self.all_wait || waiting.contains(&span.start_unix_nano);
        let mut seen = self.seen.lock().unwrap();
        seen.extend(spans.iter().filter(|span| !waits(span)).map(|span| span.start_unix_nano));
        let front = spans.iter().take_while(|span| !waits(span)).count();
        let rest = &spans[front..];
        if rest.is_empty() {
            return Delivery::complete(front);
        }
        let refused = rest.iter().filter(|span| Some(span.start_unix_nano) == self.refused && !waits(span)).count();
        let waiting = Waiting {
            places: (0..rest.len()).filter(|&place| waits(&rest[place])).collect(),
            rejected: refused as u64,
        };
        let reason = "it does not know the first".to_owned();
        let retry = Some(Retry { after: None, reason, unreachable: false });
        Delivery { delivered: front as u64, retry, waiting: Some(waiting), ..Delivery::default() }
    }
}

async fn deliver_picky(outbox: &Arc<Memory>, destination: &Arc<Picky>) -> DeliveryReport {
    let kept: Arc<dyn Outbox> = Arc::clone(outbox) as _;
    let route = Route { destination: Arc::clone(destination) as _, sampler: Sampler::default() };
    Deliveries::start(&kept, &[route], &Ids::seeded(1), FAST).finish(Duration::from_hours(1)).await.remove(0)
}

fn seen(destination: &Picky) -> Vec<u64> {
    let mut seen = std::mem::take(&mut *destination.seen.lock().unwrap());
    seen.sort_unstable();
    seen.dedup();
    seen
}

#[tokio::test(start_paused = true)]
async fn an_item_that_waits_holds_up_no_other() {
    let outbox = Memory::with(0);
    outbox.add(30, 2);
    let destination = Arc::new(Picky { waiting: Mutex::new(vec![5, 17]), ..Picky::default() });
    let report = deliver_picky(&outbox, &destination).await;
    assert_eq!(seen(&destination), (0..30).filter(|i| *i != 5 && *i != 17).collect::<Vec<_>>());
    assert_eq!(outbox.total(), (20, [4, 0, 0, 0]), "the cursor stands before the first that waits");
    assert_eq!((report.delivered, report.complete), (4, false));
    assert_eq!(
        report.hint().unwrap(),
        "picky traces are left pending: it does not know the first (2 wait for such; 24 others are settled, and count as \
         pending until then); `spanscore export --pending` delivers them later"
    );
    // Another process goes on from the cursor.
    destination.waiting.lock().unwrap().clear();
    let report = deliver_picky(&outbox, &destination).await;
    assert_eq!((outbox.total(), report.complete, report.problem), ((150, [30, 0, 0, 0]), true, None));
}

#[tokio::test(start_paused = true)]
async fn what_waited_is_settled_with_all_behind_it_once_it_can_be() {
    for (waiting, until) in [(vec![0], 9), (vec![3, 4, 29], 12), ((0..30).collect(), 40)] {
        let outbox = Memory::with(30);
        let destination = Arc::new(Picky { waiting: Mutex::new(waiting), until: Some(until), ..Picky::default() });
        let report = deliver_picky(&outbox, &destination).await;
        assert_eq!((outbox.total(), report.complete, report.problem), ((300, [30, 0, 0, 0]), true, None), "{until}");
        assert_eq!((report.delivered, report.aside, seen(&destination).len()), (30, 0, 30));
        let cursors: Vec<i64> = outbox.acknowledged.lock().unwrap().iter().map(|a| a.cursor).collect();
        assert!(cursors.is_sorted(), "{cursors:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_everything_waits_only_so_much_is_read() {
    let outbox = Memory::with(MOST + 400);
    let destination = Arc::new(Picky { waiting: Mutex::new(vec![]), all_wait: true, ..Picky::default() });
    let report = deliver_picky(&outbox, &destination).await;
    assert!(report.problem.unwrap().ends_with("(10000 wait for such)"));
    assert_eq!(outbox.total(), (0, [0; 4]));
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_in_each_portion_holds_up_no_other() {
    let outbox = Memory::with(0);
    outbox.add(400, 2);
    let waiting: Vec<u64> = (0..400).step_by(4).collect();
    let destination = Arc::new(Picky { waiting: Mutex::new(waiting.clone()), refused: Some(301), ..Picky::default() });
    let report = deliver_picky(&outbox, &destination).await;
    assert_eq!(seen(&destination), (0..400).filter(|i| i % 4 != 0).collect::<Vec<_>>());
    assert_eq!((outbox.total(), report.aside), ((0, [0; 4]), 300));
    let hint = "(100 wait for such; 300 others are settled, and count as pending until then)";
    assert!(report.problem.unwrap().ends_with(hint));
    // They are there after a while, and what was settled is counted as it was.
    let destination =
        Arc::new(Picky { waiting: Mutex::new(waiting), refused: Some(301), until: Some(120), ..Picky::default() });
    let report = deliver_picky(&outbox, &destination).await;
    assert_eq!((outbox.total(), report.aside, report.complete), ((2000, [399, 1, 0, 0]), 0, true));
    assert_eq!(report.problem, None);
    assert!(
        *destination.batches.lock().unwrap() < 100 + 25 + 25,
        "those that wait are handed over together, and alone"
    );
}

/// Never answers; says whether it has sent something.
struct Silent(bool);

#[async_trait]
impl Destination for Silent {
    fn name(&self) -> &'static str {
        "silent"
    }

    fn takes(&self, signal: Signal) -> bool {
        signal == Signal::Traces
    }

    fn may_have_sent(&self) -> bool {
        self.0
    }

    async fn deliver(&self, _: &Batch) -> Delivery {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_no_duplicate() {
    for (sent, duplicates) in [(true, 3), (false, 0)] {
        let outbox = Memory::with(3);
        let kept: Arc<dyn Outbox> = Arc::clone(&outbox) as _;
        let route = Route { destination: Arc::new(Silent(sent)), sampler: Sampler::default() };
        let report =
            Deliveries::start(&kept, &[route], &Ids::seeded(1), FAST).finish(Duration::from_secs(1)).await.remove(0);
        assert_eq!((report.complete, report.duplicates), (false, duplicates));
    }
}
