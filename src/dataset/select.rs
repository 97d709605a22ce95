//! Which cases of a dataset: filter first, then sample, then limit.

use std::collections::BinaryHeap;

use sha2::{Digest as _, Sha256};

use super::case::CaseMaker;
use super::error::DatasetError;
use super::source::{RowReader, Source};
use crate::model::Case;
use crate::query::Expr;

/// Which cases of a dataset are wanted; by default all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Only cases that match, a query over [`crate::query::Schema::dataset`].
    pub filter: Option<Expr>,
    /// Of these, a random sample.
    pub sample: Option<Sample>,
    /// Of these, the first so many.
    pub limit: Option<u64>,
}

/// A random sample that depends on the seed and the cases' ids alone, not on their order: the `n` cases whose SHA-256 of
/// seed (little-endian, eight bytes) and id is smallest. They keep the file's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// How many cases.
    pub n: u64,
    /// Which sample.
    pub seed: u64,
}

/// Cases, one at a time.
pub type Cases = Box<dyn Iterator<Item = Result<Case, DatasetError>> + Send>;

/// The selected cases in the file's order, numbered from 0. A sample takes one more pass, before this returns.
///
/// A row that is no case is an `Err` item and counts for nothing; reading goes on behind it unless the iterator ends.
/// Duplicate ids are not looked for: [`super::survey`] does that.
pub fn select(source: &Source, selection: &Selection) -> Result<Cases, DatasetError> {
    let mut choice = Choice::new(source, selection)?;
    let mut reader = source.open()?;
    let mut maker = CaseMaker::new(source.path().display().to_string(), source.options());
    Ok(Box::new(std::iter::from_fn(move || {
        loop {
            if choice.is_full() {
                return None;
            }
            match next_case(reader.as_mut(), &mut maker)? {
                Ok((place, mut case)) => {
                    if let Some(seq) = choice.take(&case, place) {
                        case.seq = seq;
                        return Some(Ok(case));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    })))
}

/// Where a case stands in its file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) number: u64,
}

/// The next row as a case.
pub(super) fn next_case(
    reader: &mut dyn RowReader,
    maker: &mut CaseMaker,
) -> Option<Result<(Place, Case), DatasetError>> {
    let row = match reader.next()? {
        Ok(row) => row,
        Err(error) => return Some(Err(error)),
    };
    let place = Place { line: row.line, number: row.number };
    Some(maker.case(row, reader).map(|case| (place, case)).map_err(DatasetError::from))
}

/// A selection at work.
pub(super) struct Choice {
    filter: Option<Expr>,
    /// Seed, and the largest hash and row number of the sample; no largest means that none is taken.
    sample: Option<(u64, Option<(u64, u64)>)>,
    limit: u64,
    taken: u64,
}

impl Choice {
    /// Draws the sample, if there is to be one.
    pub(super) fn new(source: &Source, selection: &Selection) -> Result<Self, DatasetError> {
        let sample = match selection.sample {
            Some(sample) => Some((sample.seed, largest_of_sample(source, selection.filter.as_ref(), sample)?)),
            None => None,
        };
        Ok(Self { filter: selection.filter.clone(), sample, limit: selection.limit.unwrap_or(u64::MAX), taken: 0 })
    }

    /// Whether no more cases are wanted.
    pub(super) const fn is_full(&self) -> bool {
        self.taken >= self.limit
    }

    /// The case's number among the selected ones, if it is one.
    pub(super) fn take(&mut self, case: &Case, place: Place) -> Option<u64> {
        if self.is_full() || self.filter.as_ref().is_some_and(|filter| !filter.matches(case)) {
            return None;
        }
        if let Some((seed, largest)) = self.sample
            && largest.is_none_or(|largest| (sample_hash(seed, case), place.number) > largest)
        {
            return None;
        }
        self.taken += 1;
        Some(self.taken - 1)
    }
}

/// The largest hash, with its row's number, of the `n` smallest.
fn largest_of_sample(
    source: &Source,
    filter: Option<&Expr>,
    sample: Sample,
) -> Result<Option<(u64, u64)>, DatasetError> {
    let mut smallest = BinaryHeap::new();
    let mut reader = source.open()?;
    let mut maker = CaseMaker::new(String::new(), source.options());
    while let Some(next) = next_case(reader.as_mut(), &mut maker) {
        // Rows at fault are reported by the pass that yields the cases.
        let Ok((place, case)) = next else { continue };
        if filter.is_none_or(|filter| filter.matches(&case)) {
            smallest.push((sample_hash(sample.seed, &case), place.number));
            if smallest.len() as u64 > sample.n {
                smallest.pop();
            }
        }
    }
    Ok(smallest.peek().copied())
}

fn sample_hash(seed: u64, case: &Case) -> u64 {
    let digest: [u8; 32] =
        Sha256::new().chain_update(seed.to_le_bytes()).chain_update(case.id.as_str()).finalize().into();
    let (first, _) = digest.split_first_chunk().expect("32 bytes hold 8");
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::testing::{TestFile, lines};
    use crate::query::{Schema, parse};

    fn numbered(count: u64) -> TestFile {
        let rows = lines(count, |n| {
            let label = ["True", "False", "NEE"][(n % 3) as usize];
            format!("case-{n},claim {n},context,{label},{}\n", n % 10)
        });
        TestFile::new("x.csv", format!("id,claim,context,label,digit\n{rows}"))
    }

    fn ids(file: &TestFile, selection: &Selection) -> Vec<String> {
        let cases: Vec<Case> =
            select(&file.source(), selection).expect("readable").map(|case| case.expect("a case")).collect();
        for (seq, case) in cases.iter().enumerate() {
            assert_eq!(case.seq, seq as u64);
        }
        let (survey, surveyed) = file.survey(selection);
        assert_eq!(surveyed, cases, "a survey sees the same cases");
        assert_eq!(survey.cases, cases.len() as u64);
        cases.into_iter().map(|case| case.id.to_string()).collect()
    }

    #[test]
    fn filter_comes_before_sample_and_limit() {
        let file = numbered(300);
        let filter = parse("label = false and col.digit < 5 and not id ~ case-1", &Schema::dataset()).ok();
        let all = ids(&file, &Selection { filter: filter.clone(), ..Selection::default() });
        assert!(all.len() > 20 && all.iter().all(|id| !id.starts_with("case-1")));
        let sample = Some(Sample { n: 10, seed: 1 });
        let sampled = ids(&file, &Selection { filter: filter.clone(), sample, limit: None });
        assert_eq!(sampled.len(), 10);
        assert!(sampled.iter().all(|id| all.contains(id)));
        let limited = ids(&file, &Selection { filter, sample, limit: Some(3) });
        assert_eq!(limited, sampled[..3]);
    }

    #[test]
    fn a_sample_depends_on_seed_and_ids_and_not_on_the_size_asked_for() {
        let file = numbered(200);
        let sample = |n, seed| ids(&file, &Selection { sample: Some(Sample { n, seed }), ..Selection::default() });
        let (ten, twenty) = (sample(10, 7), sample(20, 7));
        assert!(ten.iter().all(|id| twenty.contains(id)), "a larger sample holds the smaller");
        assert_ne!(ten, sample(10, 8));
        assert_eq!(sample(1000, 7).len(), 200);
        assert!(sample(0, 7).is_empty());
        // The choice is part of what a run can be repeated with: it may not change between releases.
        assert_eq!(sample(3, 0), ["case-122", "case-159", "case-193"]);
    }

    #[test]
    fn rows_at_fault_are_items_and_do_not_count() {
        let file = TestFile::new("x.csv", "claim,context,label\na,b,maybe\nc,d,NEE\n,f,NEE\ng,h,NEE\n");
        let found: Vec<String> = select(&file.source(), &Selection { limit: Some(2), ..Selection::default() })
            .expect("readable")
            .map(|case| case.map_or_else(|error| error.to_string(), |case| format!("{} {}", case.seq, case.id)))
            .collect();
        assert_eq!(found.len(), 4);
        assert!(found[0].contains("column `label`: the label `maybe` is not known"), "{found:?}");
        assert_eq!(found[1], "0 row-2");
        assert!(found[2].contains("column `claim`: the claim is empty"), "{found:?}");
        assert_eq!(found[3], "1 row-4");
    }
}
