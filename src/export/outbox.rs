//! What delivery needs of the store: batches after a cursor, and a place to write down what became of them.

use async_trait::async_trait;

use super::destination::{Batch, Signal};

/// An error of whatever keeps the outbox.
pub type OutboxError = Box<dyn std::error::Error + Send + Sync>;

/// Recorded telemetry of one run and how far each destination is. There is one cursor for each destination and signal;
/// what lies behind it is settled.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Up to about `limit` items after the cursor, and after the position `after`, in order. Where it `follows` another destination that the run has, only
    /// those whose spans that one has settled. May block.
    fn read(
        &self,
        destination: &str,
        follows: Option<&str>,
        signal: Signal,
        after: i64,
        limit: usize,
    ) -> Result<Reading, OutboxError>;

    /// Moves a cursor and adds to its counts, in one transaction.
    async fn acknowledge(&self, acknowledgement: Acknowledgement) -> Result<(), OutboxError>;
}

/// What there is to read.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// Something to deliver.
    Batch(OutboxBatch),
    /// There are items, and each waits for its spans to be delivered to the destination that is followed.
    Held,
    /// Nothing (yet).
    Nothing,
}

/// Items with their positions.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxBatch {
    /// The items.
    pub batch: Batch,
    /// The position of each item, never falling; items that were recorded together may share one, and a cursor stands
    /// only behind all of them.
    pub positions: Vec<i64>,
    /// Whether it ends before what was read does: more can be read at once.
    pub cut: bool,
}

/// What became of the items up to a position, since the last acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// At which destination.
    pub destination: String,
    /// Of which signal.
    pub signal: Signal,
    /// The new position; 0 leaves the cursor where it is.
    pub cursor: i64,
    /// Taken.
    pub delivered: u64,
    /// Refused for good.
    pub rejected: u64,
    /// Passed over by the sampler.
    pub not_sampled: u64,
    /// Of the settled ones, how many the destination may have got twice, because an acknowledgement was lost.
    pub duplicates: u64,
}
