//! Many small items kept for a while and then gone through in order: sorted runs of fixed size, merged at the end. Nothing
//! is ever moved to grow, so that a million digests take the room of a million digests.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Items of a run: large enough that runs are few, small enough that an unfinished one does not matter.
const RUN: usize = 4096;

/// Collects items in any order and gives them back in order.
#[derive(Debug)]
pub(super) struct SortedRuns<T> {
    full: Vec<Vec<T>>,
    last: Vec<T>,
}

impl<T> Default for SortedRuns<T> {
    fn default() -> Self {
        Self { full: Vec::new(), last: Vec::new() }
    }
}

impl<T: Ord + Copy> SortedRuns<T> {
    pub(super) fn push(&mut self, item: T) {
        if self.last.len() == RUN {
            self.last.sort_unstable();
            self.full.push(std::mem::replace(&mut self.last, Vec::with_capacity(RUN)));
        }
        self.last.push(item);
    }

    /// All items, the least first.
    pub(super) fn into_sorted(mut self) -> impl Iterator<Item = T> {
        self.last.sort_unstable();
        let mut runs = self.full;
        runs.push(self.last);
        // The least unseen item of each run.
        let mut heads: BinaryHeap<Reverse<(T, usize, usize)>> =
            runs.iter().enumerate().filter_map(|(i, run)| Some(Reverse((*run.first()?, i, 0)))).collect();
        std::iter::from_fn(move || {
            let Reverse((item, run, place)) = heads.pop()?;
            if let Some(next) = runs[run].get(place + 1) {
                heads.push(Reverse((*next, run, place + 1)));
            }
            Some(item)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_back_as_one_sorted_list() {
        for n in [0, 1, RUN, RUN + 1, 3 * RUN + 17] {
            let items: Vec<u64> = (0..n as u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 1000).collect();
            let mut runs = SortedRuns::default();
            for item in &items {
                runs.push(*item);
            }
            let mut wanted = items;
            wanted.sort_unstable();
            assert_eq!(runs.into_sorted().collect::<Vec<_>>(), wanted, "{n} items");
        }
    }
}
