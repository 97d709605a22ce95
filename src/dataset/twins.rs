//! Finds ids and claim/context pairs that stand in a dataset more than once, at sixteen bytes a case.
//!
//! Only hashes are kept. Two different texts share a 64-bit hash about once in 10¹⁹ pairs of cases; that would be
//! reported as a duplicate, and is not guarded against further.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use super::runs::SortedRuns;
use crate::model::{Case, Label};

fn id_hash(case: &Case) -> u64 {
    BuildHasherDefault::<DefaultHasher>::new().hash_one(case.id.as_str())
}

fn pair_hash(case: &Case) -> u64 {
    BuildHasherDefault::<DefaultHasher>::new().hash_one((case.claim.as_str(), case.context.as_str()))
}

/// The hashes of all cases.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    ids: SortedRuns<u64>,
    pairs: SortedRuns<u64>,
}

impl Hashes {
    pub(super) fn add(&mut self, case: &Case) {
        self.ids.push(id_hash(case));
        self.pairs.push(pair_hash(case));
    }

    /// What occurs more than once; nothing if all cases differ.
    pub(super) fn twins(self) -> Option<Twins> {
        let twins =
            Twins { ids: Repeated::new(self.ids.into_sorted()), pairs: Repeated::new(self.pairs.into_sorted()) };
        (!twins.ids.hashes.is_empty() || !twins.pairs.hashes.is_empty()).then_some(twins)
    }
}

/// Tells of each case, in a second pass over the same cases, whether one before it is its twin.
pub(super) struct Twins {
    ids: Repeated,
    pairs: Repeated,
}

/// The first of the cases that share an id or a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct First {
    pub(super) line: u64,
    pub(super) expected: Option<Label>,
}

impl Twins {
    /// The first case with this one's id, unless it is this one.
    pub(super) fn same_id(&mut self, case: &Case, line: u64) -> Option<First> {
        self.ids.first(id_hash(case), First { line, expected: case.expected })
    }

    /// The first case with this one's claim and context, unless it is this one.
    pub(super) fn same_pair(&mut self, case: &Case, line: u64) -> Option<First> {
        self.pairs.first(pair_hash(case), First { line, expected: case.expected })
    }
}

struct Repeated {
    /// Sorted.
    hashes: Vec<u64>,
    /// One for each hash, once it has been seen.
    firsts: Vec<Option<First>>,
}

impl Repeated {
    fn new(sorted: impl Iterator<Item = u64>) -> Self {
        let (mut hashes, mut before) = (Vec::new(), None);
        for hash in sorted {
            if before == Some(hash) && hashes.last() != Some(&hash) {
                hashes.push(hash);
            }
            before = Some(hash);
        }
        let firsts = vec![None; hashes.len()];
        Self { hashes, firsts }
    }

    fn first(&mut self, hash: u64, this: First) -> Option<First> {
        let index = self.hashes.binary_search(&hash).ok()?;
        let first = self.firsts.get_mut(index)?;
        if first.is_none() {
            *first = Some(this);
            return None;
        }
        *first
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn repeated_hashes_are_those_that_occur_twice(hashes in proptest::collection::vec(0u64..12, 0..40)) {
            let wanted: Vec<u64> =
                (0..12).filter(|hash| hashes.iter().filter(|other| *other == hash).count() > 1).collect();
            let mut sorted = hashes;
            sorted.sort_unstable();
            prop_assert_eq!(Repeated::new(sorted.into_iter()).hashes, wanted);
        }
    }
}
