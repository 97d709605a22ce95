//! Which trials are worst: those that failed, then those that answered nothing of use, then the lowest scores.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::bundle::FAILED;
use super::error::StoreError;
use super::reader::Reader;
use super::rows::{CaseRow, RunRow};
use super::schema::{first_key, last_key};
use crate::model::{Direction, Evaluation, Outcome, Predicted};

impl Reader {
    /// The `n` worst trials of a run: failed ones, unparseable answers, then by the primary evaluator's value, ties in
    /// the order of the cases. A trial without that value, for it is skipped or has no expected label, is none of them.
    pub fn lowest(&self, run: &RunRow, n: usize) -> Result<Vec<CaseRow>, StoreError> {
        self.worst(run, n, Badness::counts_as_low)
    }

    /// The `n` worst recorded trials among those whose badness is wanted.
    pub(super) fn worst(
        &self,
        run: &RunRow,
        n: usize,
        wanted: impl Fn(Badness) -> bool,
    ) -> Result<Vec<CaseRow>, StoreError> {
        let or = self.or();
        let primary = run.spec.evaluators.iter().position(|e| e.id == run.spec.primary);
        let direction = primary.map_or(Direction::Higher, |at| run.spec.evaluators[at].direction);
        let mut find = self
            .conn
            .prepare_cached(
                "SELECT id, outcome, value FROM trial
                 LEFT JOIN score ON score.trial = trial.id AND score.evaluator = ?3 AND score.state = 0
                 WHERE id BETWEEN ?1 AND ?2 ORDER BY id",
            )
            .map_err(&or)?;
        // No score has the number of an evaluator that is none.
        let primary = primary.map_or(-1, |at| at as i64);
        let mut rows = find.query([first_key(run.number), last_key(run.number), primary]).map_err(&or)?;
        // The largest of the heap is the best of the worst, the first to be pushed out.
        let mut worst: BinaryHeap<Ranked> = BinaryHeap::new();
        while let Some(row) = rows.next().map_err(&or)? {
            let (id, outcome, value): (i64, i64, Option<f64>) =
                (row.get(0).map_err(&or)?, row.get(1).map_err(&or)?, row.get(2).map_err(&or)?);
            let badness = Badness::new(Some(outcome), value, direction);
            if wanted(badness) {
                worst.push(Ranked(badness, id));
                if worst.len() > n {
                    worst.pop();
                }
            }
        }
        worst.into_sorted_vec().into_iter().map(|ranked| self.case_row(run, ranked.1)).collect()
    }
}

/// How bad a trial is: first by class, then by what the primary evaluator said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Badness {
    class: u8,
    /// The primary evaluator's value, negated where less is better; 0 in classes that have none.
    value: f64,
}

impl Badness {
    const SCORED: u8 = 2;

    pub(super) fn new(outcome: Option<i64>, value: Option<f64>, direction: Direction) -> Self {
        let class = match (outcome, value) {
            (Some(FAILED), _) => 0,
            (Some(3), _) => 1,
            (Some(completed), Some(_)) if completed < FAILED => Self::SCORED,
            (Some(completed), None) if completed < FAILED => 3,
            (Some(_), _) => 4,
            (None, _) => 5,
        };
        let value = match (class, direction) {
            (Self::SCORED, Direction::Higher) => value.unwrap_or_default(),
            (Self::SCORED, Direction::Lower) => -value.unwrap_or_default(),
            _ => 0.0,
        };
        Self { class, value }
    }

    pub(super) fn of(row: &CaseRow, run: &RunRow) -> Self {
        let direction =
            run.spec.evaluators.iter().find(|e| e.id == run.spec.primary).map_or(Direction::Higher, |e| e.direction);
        let outcome = row.outcome.as_ref().map(|outcome| match outcome {
            Outcome::Completed { predicted: Predicted::Label(_) } => 0,
            Outcome::Completed { predicted: Predicted::Unparseable } => 3,
            Outcome::Failed(_) => FAILED,
            Outcome::Skipped { .. } => FAILED + 1,
        });
        Self::new(outcome, row.scores.get(&run.spec.primary).and_then(Evaluation::value), direction)
    }

    /// Whether it has the best value of an assertion.
    pub(super) fn is_perfect(self) -> bool {
        self.class == Self::SCORED && self.value >= 1.0
    }

    pub(super) const fn counts_as_low(self) -> bool {
        self.class <= Self::SCORED
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.class.cmp(&other.class).then(self.value.total_cmp(&other.value))
    }
}

/// A trial by its badness; the worst is the least.
#[derive(Debug, Clone, Copy)]
struct Ranked(Badness, i64);

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.compare(&other.0).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}
