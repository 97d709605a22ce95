//! The books of a batch on its way: which items are settled, which were passed over, which may arrive twice, and what of
//! that can be acknowledged. Sending is left to [`super::delivery`].

use std::collections::VecDeque;

use super::destination::{Delivery, Waiting};

/// The books of one batch: what is settled but not yet acknowledged.
pub(super) struct Ledger {
    /// The positions that are not acknowledged yet, in order.
    entries: VecDeque<Entry>,
    /// Settled items that are not acknowledged yet.
    delivered: u64,
    rejected: u64,
    duplicates: u64,
    /// How many of the unsettled items the destination may have got already.
    in_doubt: u64,
    /// How many other unsettled items it took for sure.
    out_of_turn: u64,
}

/// The items of one position.
pub(super) struct Entry {
    /// How many are to be settled; the first of these may be, as the ledger says.
    pub(super) open: u64,
    /// What is to be said of the others, and of everything behind them up to the next entry, once these are.
    pub(super) settled: Settled,
}

/// What an acknowledgement says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) cursor: i64,
    pub(super) delivered: u64,
    pub(super) rejected: u64,
    pub(super) not_sampled: u64,
    pub(super) duplicates: u64,
}

impl Settled {
    /// Adds what is said of the items behind.
    pub(super) fn add(&mut self, behind: &Self) {
        self.cursor = self.cursor.max(behind.cursor);
        self.delivered += behind.delivered;
        self.rejected += behind.rejected;
        self.not_sampled += behind.not_sampled;
        self.duplicates += behind.duplicates;
    }
}

impl Ledger {
    /// The books of items at these positions, of which only some are kept by the sampler.
    pub(super) fn open(positions: &[i64], keep: &[bool]) -> Self {
        let mut entries: VecDeque<Entry> = VecDeque::new();
        for (position, keep) in positions.iter().zip(keep) {
            if entries.back().is_none_or(|entry| entry.settled.cursor != *position) {
                entries.push_back(Entry { open: 0, settled: Settled { cursor: *position, ..Settled::default() } });
            }
            let entry = entries.back_mut().expect("an entry was just made sure of");
            if *keep {
                entry.open += 1;
            } else {
                entry.settled.not_sampled += 1;
            }
        }
        Self::of(entries)
    }

    /// The books of what these entries leave open.
    pub(super) const fn of(entries: VecDeque<Entry>) -> Self {
        Self { entries, delivered: 0, rejected: 0, duplicates: 0, in_doubt: 0, out_of_turn: 0 }
    }

    /// The entries, where none of the open items is settled.
    pub(super) fn into_entries(self) -> VecDeque<Entry> {
        self.entries
    }

    /// Notes that only those of the unsettled items are open any more that wait.
    pub(super) fn wait(&mut self, waiting: &Waiting) {
        if let Some(first) = self.entries.front_mut() {
            // The open position that is settled in part, if one is, is the first.
            let mut settled = std::mem::take(&mut first.settled);
            first.open -= self.delivered + self.rejected;
            settled.delivered += std::mem::take(&mut self.delivered);
            settled.rejected += std::mem::take(&mut self.rejected);
            settled.duplicates += std::mem::take(&mut self.duplicates);
            first.settled = settled;
        }
        let (mut place, mut rejected) = (0, waiting.rejected);
        let mut waits = waiting.places.iter().copied().peekable();
        for entry in &mut self.entries {
            for _ in 0..entry.open {
                if waits.next_if_eq(&place).is_none() {
                    let refused = u64::from(rejected > 0);
                    rejected -= refused;
                    entry.open -= 1;
                    entry.settled.rejected += refused;
                    entry.settled.delivered += 1 - refused;
                }
                place += 1;
            }
        }
    }

    /// Notes that the first `settled` unsettled items are settled, and what is said of the rest.
    pub(super) fn settle(&mut self, delivery: &Delivery, settled: u64) {
        self.rejected += delivery.rejected.min(settled);
        self.delivered += settled - delivery.rejected.min(settled);
        let doubtful = settled.min(self.in_doubt);
        self.duplicates += doubtful;
        self.in_doubt -= doubtful;
        self.out_of_turn = delivery.taken_out_of_turn.min(self.rest());
        if delivery.ambiguous {
            self.doubt();
        }
    }

    /// Notes that the destination may have got every unsettled item that it does not know, although it did not say so.
    pub(super) fn doubt(&mut self) {
        self.in_doubt = self.in_doubt.max(self.rest() - self.out_of_turn);
    }

    /// How many of the items that are still in the books the destination has got, or may have got: those in doubt, those that it
    /// took out of turn, and those settled at a position that is settled in part. Each is told once.
    pub(super) fn take_doubts(&mut self) -> u64 {
        let doubts = (self.in_doubt + self.out_of_turn).min(self.rest()) + std::mem::take(&mut self.delivered);
        (self.in_doubt, self.out_of_turn) = (0, 0);
        doubts
    }

    /// How many items are not settled.
    fn rest(&self) -> u64 {
        let open: u64 = self.entries.iter().map(|entry| entry.open).sum();
        open - self.delivered - self.rejected
    }

    /// Takes out the positions all of whose items are settled. Items of a position that is settled in part stay in the
    /// books: were they counted now and the process killed, they would be delivered and counted again.
    pub(super) fn close_settled(&mut self) -> Option<Settled> {
        let mut unaccounted = self.delivered + self.rejected;
        let mut settled: Option<Settled> = None;
        while let Some(Entry { open, settled: others }) = self.entries.pop_front_if(|entry| entry.open <= unaccounted) {
            unaccounted -= open;
            let so_far = settled.get_or_insert_default();
            so_far.add(&others);
            // Which of the items were rejected is not known, so the count is laid on the first.
            let rejected = self.rejected.min(open);
            let duplicates = self.duplicates.min(open);
            so_far.rejected += rejected;
            so_far.delivered += open - rejected;
            so_far.duplicates += duplicates;
            self.rejected -= rejected;
            self.delivered -= open - rejected;
            self.duplicates -= duplicates;
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_books_always_balance() {
        let steps = proptest::collection::vec((0_u64..5, 0_u64..5, any::<bool>()), 0..12);
        let items = proptest::collection::vec((0_i64..2, any::<bool>()), 1..30);
        proptest!(|(items in items, steps in steps)| {
            let mut position = 1;
            let positions: Vec<i64> = items.iter().map(|(step, _)| { position += step; position }).collect();
            let keep: Vec<bool> = items.iter().map(|(_, keep)| *keep).collect();
            let mut ledger = Ledger::open(&positions, &keep);
            let mut left = keep.iter().filter(|keep| **keep).count() as u64;
            let mut books = [0; 3];
            let mut cursor = 0;
            for (delivered, rejected, ambiguous) in steps.into_iter().chain([(left, 0, false)]) {
                let taken_out_of_turn = if ambiguous { 0 } else { 2 };
                let delivery = Delivery { delivered, rejected, ambiguous, taken_out_of_turn, ..Delivery::default() };
                let settled = delivery.settled().min(left);
                ledger.settle(&delivery, settled);
                left -= settled;
                if let Some(settled) = ledger.close_settled() {
                    prop_assert!(settled.cursor > cursor);
                    cursor = settled.cursor;
                    books[0] += settled.delivered + settled.rejected + settled.not_sampled;
                    books[1] += settled.not_sampled;
                    books[2] += settled.duplicates;
                }
                let behind = positions.iter().filter(|position| **position <= cursor).count() as u64;
                prop_assert_eq!(books[0], behind, "what is counted is what lies behind the cursor");
            }
            prop_assert_eq!(left, 0);
            prop_assert_eq!(books[0], items.len() as u64);
            prop_assert_eq!(books[1], keep.iter().filter(|keep| !**keep).count() as u64);
            prop_assert!(books[2] <= books[0] - books[1]);
        });
    }

    #[test]
    fn what_the_next_process_sends_again_is_told_as_possible_duplicates() {
        let steps = proptest::collection::vec((0_usize..4, 0_usize..4, any::<bool>()), 0..8);
        let items = proptest::collection::vec(0_i64..2, 1..20);
        proptest!(|(items in items, steps in steps)| {
            let mut position = 1;
            let positions: Vec<i64> = items.iter().map(|step| { position += step; position }).collect();
            let mut ledger = Ledger::open(&positions, &vec![true; items.len()]);
            // How often the destination got each item, and how many from the front are settled and from the end taken early.
            let mut got = vec![0; items.len()];
            let (mut settled, mut early) = (0, 0);
            let (mut told, mut cursor) = (0, 0);
            for (more, more_early, ambiguous) in steps {
                let rest = items.len() - early;
                let end = (settled + more).min(items.len());
                (settled..end.min(rest)).for_each(|item| got[item] += 1);
                settled = end;
                let begin = rest.saturating_sub(more_early).max(settled.min(rest));
                (begin..rest).for_each(|item| got[item] += 1);
                early = items.len() - begin;
                if ambiguous {
                    (settled..begin).for_each(|item| got[item] += 1);
                }
                let taken_out_of_turn = (items.len() - begin.max(settled)) as u64;
                let delivery = Delivery { ambiguous, taken_out_of_turn, ..Delivery::default() };
                let before = ledger.rest() - (items.len() - settled) as u64;
                ledger.settle(&delivery, before);
                if let Some(settled) = ledger.close_settled() {
                    (told, cursor) = (told + settled.duplicates, settled.cursor);
                }
            }
            told += ledger.take_doubts();
            prop_assert_eq!(ledger.take_doubts(), 0, "each is told once");
            let again = positions.iter().zip(&mut got).filter(|(position, _)| **position > cursor);
            again.for_each(|(_, got)| *got += 1);
            let twice = got.iter().filter(|got| **got > 1).count() as u64;
            prop_assert!(told >= twice && told <= items.len() as u64, "told {told} of {twice}");
            // Which items of a position were in doubt is not known; where each has its own, the number is exact.
            if positions.is_sorted_by(|one, next| one < next) {
                prop_assert_eq!(told, twice);
            }
        });
    }

    #[test]
    fn what_waits_stays_open_and_all_else_is_settled() {
        let items = proptest::collection::vec((0_i64..2, any::<bool>()), 1..30);
        proptest!(|(items in items, front in 0_u64..10, rejected in 0_u64..4)| {
            let mut position = 1;
            let positions: Vec<i64> = items.iter().map(|(step, _)| { position += step; position }).collect();
            let mut ledger = Ledger::open(&positions, &vec![true; items.len()]);
            let front = front.min(items.len() as u64);
            let first = Delivery { delivered: front, ..Delivery::default() };
            ledger.settle(&first, front);
            let mut books = ledger.close_settled().unwrap_or_default();
            let rest = items.iter().skip(front as usize);
            let places: Vec<usize> = rest.enumerate().filter(|(_, (_, waits))| *waits).map(|(place, _)| place).collect();
            let others = items.len() as u64 - front - places.len() as u64;
            let rejected = rejected.min(others);
            ledger.wait(&Waiting { places: places.clone(), rejected });
            prop_assert_eq!(ledger.rest(), places.len() as u64);
            // Once those that wait are there, everything is.
            let last = Delivery { delivered: places.len() as u64, ..Delivery::default() };
            ledger.settle(&last, places.len() as u64);
            books.add(&ledger.close_settled().unwrap_or_default());
            prop_assert_eq!((books.delivered, books.rejected), (items.len() as u64 - rejected, rejected));
            prop_assert_eq!(books.cursor, position);
            prop_assert!(ledger.into_entries().is_empty());
        });
    }
}
