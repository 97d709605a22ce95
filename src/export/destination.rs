//! What a destination is: it takes a batch and says what became of it. The words here are shared by everything that
//! delivers; how a protocol comes to its verdict is left to the modules of the destinations.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::model::{LogRecord, Origin, Span, TraceId};
pub use crate::store::Signal;

/// Spans of one origin, or log records of one origin, in the order in which they were recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Who made them.
    pub origin: Arc<Origin>,
    /// The telemetry.
    pub items: Items,
}

/// The content of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Items {
    /// Ended or open spans.
    Spans(Vec<Span>),
    /// Log records.
    Logs(Vec<LogRecord>),
}

impl Items {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Spans(spans) => spans.len(),
            Self::Logs(records) => records.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What they are.
    pub const fn signal(&self) -> Signal {
        match self {
            Self::Spans(_) => Signal::Traces,
            Self::Logs(_) => Signal::Logs,
        }
    }

    /// The trace of each item; `None` for a log record outside any trace.
    pub fn trace_ids(&self) -> Vec<Option<TraceId>> {
        match self {
            Self::Spans(spans) => spans.iter().map(|span| Some(span.trace_id)).collect(),
            Self::Logs(records) => records.iter().map(|record| record.trace_id).collect(),
        }
    }

    /// Removes the first `count` items.
    pub fn drop_front(&mut self, count: usize) {
        drop(self.take_front(count));
    }

    /// Removes the first `count` items and gives them.
    #[must_use]
    pub fn take_front(&mut self, count: usize) -> Self {
        match self {
            Self::Spans(spans) => Self::Spans(spans.drain(..count.min(spans.len())).collect()),
            Self::Logs(records) => Self::Logs(records.drain(..count.min(records.len())).collect()),
        }
    }

    /// Adds items of the same kind behind these; gives them back where they are of another.
    pub fn append(&mut self, more: Self) -> Option<Self> {
        match (self, more) {
            (Self::Spans(spans), Self::Spans(more)) => spans.extend(more),
            (Self::Logs(records), Self::Logs(more)) => records.extend(more),
            (_, other) => return Some(other),
        }
        None
    }

    /// Keeps the items whose place in `keep` is true; a place beyond its end counts as true.
    pub fn retain(&mut self, keep: &[bool]) {
        let mut place = 0;
        let mut kept = || {
            place += 1;
            keep.get(place - 1).copied().unwrap_or(true)
        };
        match self {
            Self::Spans(spans) => spans.retain(|_| kept()),
            Self::Logs(records) => records.retain(|_| kept()),
        }
    }
}

/// What became of a batch.
///
/// `delivered + rejected` items from the front of the batch are settled for good; what follows them was not taken and
/// stays pending. Within the settled part, which items were rejected is not known: OTLP gives a count only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// How many items the destination took.
    pub delivered: u64,
    /// How many it refused for good.
    pub rejected: u64,
    /// Why it refused some of them.
    pub rejection: Option<String>,
    /// Set when the unsettled rest may succeed later without anybody's doing.
    pub retry: Option<Retry>,
    /// Set when the unsettled rest waits for somebody to mend something (a key, an address): trying again at once is
    /// pointless, and giving the items up would lose them.
    pub halt: Option<String>,
    /// Whether the destination may have taken the unsettled rest although no acknowledgement came.
    pub ambiguous: bool,
    /// Set where nothing but some items of the unsettled rest waits, each for something of its own: the others need not wait for
    /// them.
    pub waiting: Option<Waiting>,
    /// How many items of the unsettled rest the destination took, in whole or in part, although one before them is not settled.
    /// It knows that as long as it lives; whoever goes on after it hands them over again.
    pub taken_out_of_turn: u64,
}

/// Items that wait for something of their own, as a score waits for its span.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Their places in the unsettled rest, in order. All others of it are settled for good.
    pub places: Vec<usize>,
    /// How many of those others the destination refused.
    pub rejected: u64,
}

/// When and why to try again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retry {
    /// The wait that the destination asked for.
    pub after: Option<Duration>,
    /// What went wrong, for people.
    pub reason: String,
    /// Whether nobody listens at the address (refused, unknown host), as opposed to somebody who is busy.
    pub unreachable: bool,
}

impl Delivery {
    /// All `count` items were taken.
    pub fn complete(count: usize) -> Self {
        Self { delivered: count as u64, ..Self::default() }
    }

    /// All `count` items were refused for good.
    pub fn refused(count: usize, why: impl Into<String>) -> Self {
        Self { rejected: count as u64, rejection: Some(why.into()), ..Self::default() }
    }

    /// Nothing was taken; try again.
    pub fn later(retry: Retry, ambiguous: bool) -> Self {
        Self { retry: Some(retry), ambiguous, ..Self::default() }
    }

    /// Nothing was taken, and nothing will be until somebody mends what `why` says.
    pub fn halted(why: impl Into<String>) -> Self {
        Self { halt: Some(why.into()), ..Self::default() }
    }

    /// How many items from the front are settled.
    pub const fn settled(&self) -> u64 {
        self.delivered + self.rejected
    }

    /// The verdict on this part of a batch followed by that on the next.
    #[must_use]
    pub fn and_then(self, next: Self) -> Self {
        Self {
            delivered: self.delivered + next.delivered,
            rejected: self.rejected + next.rejected,
            rejection: next.rejection.or(self.rejection),
            retry: next.retry,
            halt: next.halt,
            ambiguous: next.ambiguous,
            waiting: next.waiting,
            taken_out_of_turn: next.taken_out_of_turn,
        }
    }
}

/// A place that telemetry is delivered to.
#[async_trait]
pub trait Destination: Send + Sync {
    /// The name under which its cursor and counts are kept: `otlp`, `console`.
    fn name(&self) -> &str;

    /// Whether it takes this signal at all.
    fn takes(&self, signal: Signal) -> bool;

    /// The destination that must have got the spans of a run's trial before this one takes what is said of them.
    fn follows(&self) -> Option<&str> {
        None
    }

    /// Which of the items it has a use for; `None` for all. The others are passed over, and counted as not sampled.
    fn wants(&self, _items: &Items) -> Option<Vec<bool>> {
        None
    }

    /// How many items at most are handed over, and acknowledged, at a time.
    fn portion(&self) -> usize {
        usize::MAX
    }

    /// Whether it makes no difference when it gets an item again: such an item is no duplicate.
    fn is_idempotent(&self) -> bool {
        false
    }

    /// Whether something may have been sent to it by this process: until then, no item can have arrived twice.
    fn may_have_sent(&self) -> bool {
        true
    }

    /// Hands over a batch. Never fails: what went wrong is part of the answer.
    async fn deliver(&self, batch: &Batch) -> Delivery;
}
