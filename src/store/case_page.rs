//! Reading cases page by page: a page continues behind (or ends before) a trial of another page, wherever that trial
//! stands now, so that pages neither repeat nor skip what does not move.

use std::cmp::Ordering;

use super::cases::{Needs, SortedBy};
use super::error::StoreError;
use super::reader::Reader;
use super::rows::{CaseRow, RunRow};
use super::schema::{first_key, last_key, pack, unpack};
use crate::model::TrialKey;
use crate::query::{Expr, SortKey};

/// Where a page begins or ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Place {
    /// At the first trial.
    #[default]
    Start,
    /// Behind this trial.
    After(TrialKey),
    /// It ends before this trial.
    Before(TrialKey),
}

/// Which trials of a run a page shows.
#[derive(Clone, Copy, Default)]
pub struct CaseQuery<'q> {
    /// Those that match.
    pub filter: Option<&'q Expr>,
    /// Of these, the ones that something outside the store wants.
    pub keep: Option<&'q dyn Fn(TrialKey) -> bool>,
    /// In this order; without one the worst come first, as in [`Reader::cases`].
    pub sort: Option<&'q SortKey>,
    /// From here on.
    pub place: Place,
    /// At most this many.
    pub limit: usize,
}

/// A page of the trials of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct CasePage {
    /// The trials, in their order.
    pub rows: Vec<CaseRow>,
    /// How many match before the first of them.
    pub before: u64,
    /// How many match in all.
    pub matched: u64,
}

impl CasePage {
    /// How many match behind the last row.
    pub fn behind(&self) -> u64 {
        self.matched.saturating_sub(self.before + self.rows.len() as u64)
    }
}

impl Reader {
    /// A page of the trials of a run, planned ones without an outcome included.
    pub fn case_page(&self, run: &RunRow, query: &CaseQuery<'_>) -> Result<CasePage, StoreError> {
        let _moment = self.moment()?;
        let CaseQuery { filter, keep, sort, place, limit } = *query;
        let mut fields = filter.map(Expr::fields).unwrap_or_default();
        fields.extend(sort.map(|sort| &sort.field));
        let mut needs = Needs::of(&fields);
        needs.scores |= sort.is_none();
        let order = |a: &(SortedBy, i64), b: &(SortedBy, i64)| a.0.compare(&b.0, sort).then(a.1.cmp(&b.1));
        let (mark, wanted) = match place {
            Place::Start => (None, Ordering::Greater),
            Place::After(key) => (Some(key), Ordering::Greater),
            Place::Before(key) => (Some(key), Ordering::Less),
        };
        let mark = match mark {
            Some(key) => {
                let id = pack(run.number, key)?;
                let mut found = None;
                self.scan(run, (id, id), needs, &mut |at, row| {
                    if at == id {
                        found = Some((SortedBy::of(&row, run, sort), at));
                    }
                    Ok(())
                })?;
                // A trial that the run does not have stands at the end that makes the page empty least often.
                found
            }
            None => None,
        };
        let (mut kept, mut matched, mut passed) = (Vec::new(), 0, 0);
        let trim = |kept: &mut Vec<(SortedBy, i64)>| {
            kept.sort_by(order);
            if wanted.is_gt() {
                kept.truncate(limit);
            } else {
                kept.drain(..kept.len().saturating_sub(limit));
            }
        };
        self.scan(run, (first_key(run.number), last_key(run.number)), needs, &mut |id, row| {
            if filter.is_none_or(|filter| filter.matches(&row)) && keep.is_none_or(|keep| keep(unpack(id))) {
                matched += 1;
                let by = (SortedBy::of(&row, run, sort), id);
                let side = mark.as_ref().map_or(wanted, |mark| order(&by, mark));
                if side == wanted {
                    kept.push(by);
                    if kept.len() >= 2 * limit + 1024 {
                        trim(&mut kept);
                    }
                }
                // What stands before the page, or on it and before it.
                passed += u64::from(mark.is_some() && (side.is_lt() || (side.is_eq() && wanted.is_gt())));
            }
            Ok(())
        })?;
        trim(&mut kept);
        let before = if wanted.is_gt() { passed } else { passed.saturating_sub(kept.len() as u64) };
        let rows = kept.iter().map(|(_, id)| self.case_row(run, *id)).collect::<Result<_, _>>()?;
        Ok(CasePage { rows, before, matched })
    }

    /// Hands over every planned trial of a run with its columns, group, expected label and scores; no other text.
    pub fn for_each_case(&self, run: &RunRow, take: &mut dyn FnMut(&CaseRow)) -> Result<(), StoreError> {
        let needs = Needs { columns: true, scores: true, ..Needs::default() };
        self.scan(run, (first_key(run.number), last_key(run.number)), needs, &mut |_, row| {
            take(&row);
            Ok(())
        })
    }

    /// Hands over every planned trial of a run with its expected label, outcome, scores and trace; no texts.
    pub fn for_each_outcome(&self, run: &RunRow, take: &mut dyn FnMut(CaseRow)) -> Result<(), StoreError> {
        let needs = Needs { scores: true, trace: true, ..Needs::default() };
        self.hand_over(run, needs, take)
    }

    /// Hands over every planned trial of a run, whole, by case and repeat. Memory stays flat.
    pub fn for_each_row(&self, run: &RunRow, take: &mut dyn FnMut(CaseRow)) -> Result<(), StoreError> {
        self.hand_over(run, Needs::ALL, take)
    }

    fn hand_over(&self, run: &RunRow, needs: Needs, take: &mut dyn FnMut(CaseRow)) -> Result<(), StoreError> {
        self.scan(run, (first_key(run.number), last_key(run.number)), needs, &mut |_, row| {
            take(row);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Label, Predicted};
    use crate::query::{Schema, parse, parse_sort};
    use crate::store::testing::{Scene, completed, failed, trial};

    fn numbers(page: &CasePage) -> Vec<u64> {
        page.rows.iter().map(|row| row.key.seq).collect()
    }

    fn key(seq: u64) -> TrialKey {
        TrialKey { seq, repeat: 0 }
    }

    /// Expected labels go True, False, NEE, True, …; every answer is True, and the fifth trial failed.
    async fn scene() -> Scene {
        let scene = Scene::started(9, 1).await;
        for seq in 0..8 {
            let outcome = if seq == 4 { failed() } else { completed(Predicted::Label(Label::True)) };
            scene.record(trial(seq, 0, 0, outcome)).await;
        }
        scene
    }

    #[tokio::test]
    async fn pages_follow_each_other_without_gap_or_overlap_in_both_directions() {
        let scene = scene().await;
        let (reader, run) = (scene.reader(), scene.run());
        for (query, sort) in [(None, None), (None, Some("-case")), (Some("expected != NEE"), Some("expected"))] {
            let filter = query.map(|text| parse(text, &Schema::cases()).expect(text));
            let sort = sort.map(|text| parse_sort(text, &Schema::cases()).expect(text));
            let base = CaseQuery { filter: filter.as_ref(), sort: sort.as_ref(), limit: 4, ..CaseQuery::default() };
            let whole = reader.case_page(&run, &CaseQuery { limit: 100, ..base }).expect("all");
            let expected = reader.cases(&run, filter.as_ref(), sort.as_ref(), None).expect("all");
            assert_eq!(whole.rows, expected, "{query:?} {sort:?}");
            let mut seen = Vec::new();
            let mut page = reader.case_page(&run, &base).expect("the first page");
            loop {
                assert_eq!(page.before, seen.len() as u64);
                seen.extend(numbers(&page));
                if page.behind() == 0 {
                    break;
                }
                let last = page.rows.last().expect("a row").key;
                let before = page.clone();
                page = reader.case_page(&run, &CaseQuery { place: Place::After(last), ..base }).expect("a page");
                let first = page.rows.first().expect("a row").key;
                let back = reader.case_page(&run, &CaseQuery { place: Place::Before(first), ..base }).expect("a page");
                assert_eq!(back, before);
            }
            assert_eq!(seen, numbers(&whole));
        }
    }

    #[tokio::test]
    async fn what_is_wanted_from_outside_counts_as_a_filter() {
        let scene = scene().await;
        let (reader, run) = (scene.reader(), scene.run());
        let keep = |key: TrialKey| key.seq % 2 == 1;
        let page = reader
            .case_page(
                &run,
                &CaseQuery { keep: Some(&keep), limit: 2, place: Place::After(key(1)), ..CaseQuery::default() },
            )
            .expect("a page");
        // Wrong are 1, 5, 7; right is 3.
        assert_eq!((numbers(&page), page.before, page.matched, page.behind()), (vec![5, 7], 1, 4, 1));
    }
}
