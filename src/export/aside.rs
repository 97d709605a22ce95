//! Portions set aside. Some items wait for something of their own, as a score waits for its span, and hold up no other. What
//! comes after them is delivered meanwhile and noted here, for a cursor moves only over what is settled: until then it counts
//! as pending, and a process that goes on later sends it again. So this is for destinations to which that makes no
//! difference. Sending is left to [`super::delivery`].

use std::collections::VecDeque;

use super::destination::Batch;
use super::ledger::{Ledger, Settled};

/// How many portions may wait: beyond that no more is read, so that memory stays bounded. A backend that gets no spans at
/// all would have every score wait.
const MOST: usize = 16;

/// What was handed over beyond the cursor, in order; the first portion waits.
#[derive(Default)]
pub(super) struct Aside {
    portions: VecDeque<Portion>,
    reached: i64,
}

/// A part of what was handed over.
pub(super) enum Portion {
    /// Some of it waits.
    Waiting(Waiting),
    /// All of it is settled, and would be acknowledged were it not for what comes before.
    Settled(Settled),
}

/// A portion from its first item that waits.
pub(super) struct Waiting {
    pub(super) batch: Batch,
    pub(super) ledger: Ledger,
    /// How many of its items wait; the others are there.
    pub(super) count: u64,
    /// What for.
    pub(super) reason: String,
}

impl Aside {
    /// Whether everything that was handed over is settled.
    pub(super) fn is_empty(&self) -> bool {
        self.portions.is_empty()
    }

    /// Whether no more should be read for now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting().count() >= MOST
    }

    /// The position to read on from; 0 for the cursor's.
    pub(super) fn reached(&self) -> i64 {
        if self.is_empty() { 0 } else { self.reached }
    }

    /// Notes that everything up to this position was read.
    pub(super) fn reach(&mut self, position: i64) {
        self.reached = self.reached.max(position);
    }

    /// Adds what waits, behind all that is here.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        self.portions.push_back(Portion::Waiting(waiting));
    }

    /// Adds what is settled, behind all that is here.
    pub(super) fn note(&mut self, settled: Settled) {
        match self.portions.back_mut() {
            Some(Portion::Settled(last)) => last.add(&settled),
            _ => self.portions.push_back(Portion::Settled(settled)),
        }
    }

    /// Takes everything out, in order; what is not settled then is to be put back in that order.
    pub(super) fn take(&mut self) -> VecDeque<Portion> {
        std::mem::take(&mut self.portions)
    }

    /// How many items wait.
    pub(super) fn count(&self) -> u64 {
        self.waiting().map(|waiting| waiting.count).sum()
    }

    /// How many items are settled and do not count so yet.
    pub(super) fn settled(&self) -> u64 {
        let settled = |portion: &Portion| match portion {
            Portion::Waiting(Waiting { batch, ledger, count, .. }) => {
                (batch.items.len() as u64).saturating_sub(*count) + ledger.kept_open()
            }
            Portion::Settled(settled) => settled.delivered + settled.rejected,
        };
        self.portions.iter().map(settled).sum()
    }

    /// What to tell the user, if something waits.
    pub(super) fn problem(&self) -> Option<String> {
        let first = self.waiting().next()?;
        let others = match self.settled() {
            0 => String::new(),
            settled => format!("; {settled} others are settled, and count as pending until then"),
        };
        Some(format!("{} ({} wait for such{others})", first.reason, self.count()))
    }

    fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.portions.iter().filter_map(|portion| match portion {
            Portion::Waiting(waiting) => Some(waiting),
            Portion::Settled(_) => None,
        })
    }
}
