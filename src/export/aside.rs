//! Items set aside. Some wait for something of their own, as a score waits for its span, and hold up no other. What comes
//! after them is delivered meanwhile and noted here, for a cursor moves only over what is settled: until then it counts as
//! pending, and a process that goes on later sends it again. So this is for destinations to which that makes no difference.
//! Sending is left to [`super::courier`].

use std::collections::VecDeque;
use std::sync::Arc;

use super::destination::{Batch, Items};
use super::ledger::{Entry, Ledger, Settled};
use crate::model::Origin;

/// How many items may wait: beyond that no more is read, so that memory stays bounded. A backend that gets no spans at all
/// would have every score wait.
pub(super) const MOST: u64 = 10_000;

/// What was handed over beyond the cursor, in order, from the first item that waits.
#[derive(Default)]
pub(super) struct Aside {
    waiting: VecDeque<Waiting>,
    reached: i64,
}

/// Items of one position that wait, with what is settled around and behind them.
struct Waiting {
    origin: Arc<Origin>,
    items: Items,
    entry: Entry,
    /// What for.
    reason: String,
}

impl Aside {
    /// Whether everything that was handed over is settled.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether no more should be read for now.
    pub(super) fn is_full(&self) -> bool {
        self.count() >= MOST
    }

    /// The position to read on from; 0 for the cursor's.
    pub(super) fn reached(&self) -> i64 {
        if self.is_empty() { 0 } else { self.reached }
    }

    /// Notes that everything up to this position was read.
    pub(super) fn reach(&mut self, position: i64) {
        self.reached = self.reached.max(position);
    }

    /// Adds a batch all of whose items wait, behind all that is here.
    pub(super) fn wait(&mut self, batch: Batch, ledger: Ledger, reason: &str) {
        let Batch { origin, mut items } = batch;
        for entry in ledger.into_entries() {
            if entry.open == 0 {
                self.note(&entry.settled);
            } else {
                let items = items.take_front(entry.open as usize);
                let (origin, reason) = (Arc::clone(&origin), reason.to_owned());
                self.waiting.push_back(Waiting { origin, items, entry, reason });
            }
        }
    }

    /// Adds what is settled, behind all that is here; something must be.
    pub(super) fn note(&mut self, settled: &Settled) {
        if let Some(last) = self.waiting.back_mut() {
            last.entry.settled.add(settled);
        }
    }

    /// Takes everything out, in batches of about `limit` items, in order; what still waits then is to be put back in that order.
    pub(super) fn take(&mut self, limit: usize) -> Vec<(Batch, Ledger)> {
        let mut batches: Vec<(Batch, VecDeque<Entry>)> = Vec::new();
        for Waiting { origin, mut items, entry, .. } in std::mem::take(&mut self.waiting) {
            if let Some((batch, entries)) = batches.last_mut()
                && batch.items.len() < limit
                && batch.origin == origin
            {
                match batch.items.append(items) {
                    None => {
                        entries.push_back(entry);
                        continue;
                    }
                    Some(others) => items = others,
                }
            }
            batches.push((Batch { origin, items }, VecDeque::from([entry])));
        }
        batches.into_iter().map(|(batch, entries)| (batch, Ledger::of(entries))).collect()
    }

    /// How many items wait.
    pub(super) fn count(&self) -> u64 {
        self.waiting.iter().map(|waiting| waiting.entry.open).sum()
    }

    /// How many items are settled and do not count so yet.
    pub(super) fn settled(&self) -> u64 {
        self.waiting.iter().map(|Waiting { entry, .. }| entry.settled.delivered + entry.settled.rejected).sum()
    }

    /// What to tell the user, if something waits.
    pub(super) fn problem(&self) -> Option<String> {
        let first = self.waiting.front()?;
        let others = match self.settled() {
            0 => String::new(),
            settled => format!("; {settled} others are settled, and count as pending until then"),
        };
        Some(format!("{} ({} wait for such{others})", first.reason, self.count()))
    }
}
