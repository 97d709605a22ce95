//! What the files of a report are made of: the run, what it is held against, and its worst cases with their traces.

use std::collections::HashSet;

use super::details::CaseChange;
use super::document::Report;
use super::format::count;
use super::junit::Judgement;
use super::low::Yardstick;
use super::results::Base;
use crate::compare::comparison::Comparison;
use crate::compare::gate::{GateReport, Verdict};
use crate::compare::operand::{Difference, Operand};
use crate::compare::trend::Trend;
use crate::model::Outcome;
use crate::store::rows::{CaseRow, RunRow, TraceSkeleton};
use crate::store::{Reader, StoreError};

/// Trials that the table of a report holds at most.
pub const TABLE: usize = 10_000;
/// Cases of which a report shows the trace.
pub const WORST: usize = 10;

/// Everything about a run that a report tells.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The run.
    pub run: &'a RunRow,
    /// Its report with its details.
    pub report: &'a Report,
    /// What the base has of its cases.
    pub base: Option<&'a Base>,
    /// The comparison with the base.
    pub comparison: Option<&'a Comparison>,
    /// The verdict, where the run was judged.
    pub gate: Option<&'a GateReport>,
    /// The verdict's word where an older program kept it in a form that this one cannot read.
    pub word: Option<&'a str>,
    /// What to know of the verdict: that its baseline has changed or is not here, or who kept it.
    pub notes: &'a [String],
    /// The primary score over the suite's runs.
    pub trend: Option<&'a Trend>,
}

/// A case of a judged run beside the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// It got worse, or lost its score.
    Worse,
    /// It is as it was, or better.
    NoWorse,
    /// The baseline does not have it.
    Unknown,
}

/// A case of a report with its trace.
#[derive(Debug)]
pub struct Worst<'r> {
    /// The trial.
    pub row: &'r CaseRow,
    /// Its trace in outline; the reason where there is none.
    pub trace: Result<TraceSkeleton, String>,
}

impl Evidence<'_> {
    /// The unit of an evaluator's numbers (UCUM).
    pub fn unit(&self, id: &str) -> &str {
        self.run.spec.evaluators.iter().find(|spec| spec.id.as_str() == id).map_or("1", |spec| spec.unit.as_str())
    }

    /// The cases of the table, the worst first: those that got worse by most, then failed and unparseable ones, then by
    /// the primary evaluator. Of a run that is larger than the table, first those that changed and then the worst.
    pub fn rows(&self, reader: &Reader) -> Result<Vec<CaseRow>, StoreError> {
        self.rows_of(reader, TABLE)
    }

    fn rows_of(&self, reader: &Reader, most: usize) -> Result<Vec<CaseRow>, StoreError> {
        let worst = reader.cases(self.run, None, None, Some(most))?;
        let Some(base) = self.base else { return Ok(worst) };
        let mut rows = if self.run.spec.planned() > most as u64 {
            let trials = usize::try_from(self.run.spec.repeat).unwrap_or(1).max(1);
            let wanted: HashSet<u64> = base.changed().into_iter().take(most / trials).collect();
            let mut rows = Vec::with_capacity(most);
            reader.for_each_row(self.run, &mut |row| {
                if wanted.contains(&row.key.seq) {
                    rows.push(row);
                }
            })?;
            let room = most.saturating_sub(rows.len());
            rows.extend(worst.into_iter().filter(|row| !wanted.contains(&row.key.seq)).take(room));
            rows
        } else {
            worst
        };
        // Stable: within a kind the order by badness stays.
        let loss = |row: &CaseRow| base.get(row.key.seq).map_or(0.0, |(before, _)| before.loss);
        rows.sort_by(|a, b| loss(b).total_cmp(&loss(a)));
        Ok(rows)
    }

    /// What the table holds of a run that is larger, in words; `None` where it holds everything.
    pub fn left_out(&self, rows: &[CaseRow]) -> Option<String> {
        let planned = self.run.spec.planned();
        if rows.len() as u64 >= planned {
            return None;
        }
        let held = format!("Of {} trials the table has {}", count(planned), count(rows.len() as u64));
        let all = self.base.map_or(0, |base| base.changed().len() as u64);
        let within = self.cases_in(rows, &[CaseChange::Regressed, CaseChange::Lost, CaseChange::Improved]);
        let what = match (all, within) {
            (0, _) => "the worst".to_owned(),
            (all, within) if within >= all => {
                "every case that regressed, improved or lost its score, and the worst of the rest".to_owned()
            }
            (all, within) => format!(
                "{} of the {} cases that changed, those that got worse by most first",
                count(within),
                count(all)
            ),
        };
        Some(format!("{held}: {what}. A CSV or Parquet file of the report has all."))
    }

    /// How many cases among these rows ended in one of these ways.
    pub fn cases_in(&self, rows: &[CaseRow], changes: &[CaseChange]) -> u64 {
        let Some(base) = self.base else { return 0 };
        let ended = |seq: u64| base.get(seq).is_some_and(|(_, change)| changes.contains(&change));
        let cases: HashSet<u64> = rows.iter().map(|row| row.key.seq).filter(|seq| ended(*seq)).collect();
        cases.len() as u64
    }

    /// The first of these rows that are worth a look, with their traces.
    pub fn worst<'r>(&self, reader: &Reader, rows: &'r [CaseRow]) -> Result<Vec<Worst<'r>>, StoreError> {
        let yardstick = Yardstick::of(&self.run.spec.evaluators);
        let looked_at = rows.iter().filter(|row| self.is_low(row, &yardstick)).take(WORST);
        looked_at.map(|row| Ok(Worst { row, trace: trace_of(reader, row)? })).collect()
    }

    /// Whether a trial failed, answered nothing of use, scored low, or belongs to a case that got worse.
    pub(super) fn is_low(&self, row: &CaseRow, yardstick: &Yardstick) -> bool {
        let primary = &self.run.spec.primary;
        match &row.outcome {
            Some(Outcome::Failed(_)) => true,
            Some(Outcome::Completed { predicted }) => {
                // Of a number without a line to reach, the worst are worth a look whatever they are.
                let low = row.scores.get(primary).is_some_and(|score| {
                    yardstick.is_low(primary.as_str(), score)
                        || (score.value().is_some() && !yardstick.has_line(primary.as_str()))
                });
                let worse =
                    self.base.and_then(|base| base.get(row.key.seq)).is_some_and(|(before, _)| before.loss > 0.0);
                predicted.label().is_none() || low || worse
            }
            _ => false,
        }
    }

    /// Whether the run is compared with the very runs that it was judged against.
    pub fn is_compared_with_baseline(&self) -> bool {
        let runs = |side: &Operand| side.runs.iter().map(|run| run.id.clone()).collect::<Vec<_>>();
        let judged = self.gate.and_then(|gate| gate.base.as_ref()).map(runs);
        judged
            .is_some_and(|judged| !judged.is_empty() && self.comparison.map(|found| runs(&found.base)) == Some(judged))
    }

    /// The verdict whose own counts and cases are to be shown: no comparison with its baseline shows them.
    pub fn verdict_apart(&self) -> Option<&GateReport> {
        self.gate.filter(|_| !self.is_compared_with_baseline())
    }

    /// What was run differently from what the run is judged against, or else compared with.
    pub fn differs(&self) -> Option<&[Difference]> {
        match (self.gate, self.comparison) {
            (Some(gate), _) if gate.base.is_some() => Some(&gate.differs),
            (None, Some(comparison)) => Some(&comparison.differs),
            _ => None,
        }
    }

    /// What became of the case at this place against the baseline of the verdict; `None` where the run was not judged, or its
    /// baseline is not at hand.
    pub fn against_baseline(&self, seq: u64) -> Option<Against> {
        let base = self.base.filter(|_| self.is_compared_with_baseline())?;
        Some(match base.get(seq) {
            Some((before, _)) if before.loss > 0.0 => Against::Worse,
            Some(_) => Against::NoWorse,
            None => Against::Unknown,
        })
    }

    /// The verdict as test cases.
    pub fn judgements(&self) -> Vec<Judgement> {
        let refused =
            |verdict: &str, why: String| (verdict != Verdict::Pass.as_str()).then(|| (verdict.to_owned(), why));
        let Some(gate) = self.gate else {
            let kept =
                |word: &str| Judgement { name: "verdict".to_owned(), failure: refused(word, self.notes.join("\n")) };
            return self.word.map(kept).into_iter().collect();
        };
        let judged = |name: &str, verdict: Verdict, why: String| Judgement {
            name: name.to_owned(),
            failure: refused(verdict.as_str(), why),
        };
        let mut judgements = vec![judged("verdict", gate.verdict, gate.reasons.join("\n"))];
        judgements.extend(gate.metrics.iter().map(|metric| {
            let mut why = format!("{} is {}: margin {}", metric.name, metric.verdict, metric.margin);
            if let Some(ends) = metric.damage_in_words(" to ", |x| format!("{x:.4}")) {
                why = format!("{why}, worse by {ends}");
            }
            judged(&metric.name, metric.verdict, why)
        }));
        judgements.extend(gate.must_pass.failed.iter().map(|case| Judgement {
            name: format!("must pass: {}", case.case_id),
            failure: Some(("must_pass".to_owned(), case.why.clone())),
        }));
        judgements
    }
}

/// The trace of a trial in outline, or why there is none: retention removes traces, never what was measured.
fn trace_of(reader: &Reader, row: &CaseRow) -> Result<Result<TraceSkeleton, String>, StoreError> {
    let Some(id) = row.trace_id else { return Ok(Err("It has no trace.".to_owned())) };
    match reader.trace_skeleton(&id.to_string()) {
        Ok(trace) => Ok(Ok(trace)),
        Err(StoreError::PrunedTrace { .. }) => {
            Ok(Err("Retention removed its trace; what was measured is kept.".to_owned()))
        }
        Err(StoreError::UnknownTrace { .. }) => Ok(Err("Its trace is not in the store.".to_owned())),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Label, Predicted};
    use crate::report::fixture;
    use crate::report::results::Before;
    use crate::store::testing::{Scene, completed, trial};

    #[tokio::test]
    async fn a_table_too_small_for_the_run_holds_what_changed_before_what_is_low() {
        let scene = Scene::started(12, 1).await;
        for seq in 0..12 {
            scene.record(trial(seq, 0, 0, completed(Predicted::Label(Label::True)))).await;
        }
        let (reader, run, report) = (scene.reader(), scene.run(), fixture::report());
        let worse = |loss| Before { loss, ..Before::default() };
        let base = Base::new(
            "base",
            [
                (9, worse(0.5), CaseChange::Regressed),
                (10, worse(f64::INFINITY), CaseChange::Lost),
                (11, worse(0.0), CaseChange::Improved),
                (3, worse(0.0), CaseChange::Unchanged),
            ],
        );
        let evidence = Evidence {
            run: &run,
            report: &report,
            base: Some(&base),
            comparison: None,
            gate: None,
            word: None,
            notes: &[],
            trend: None,
        };
        let rows = evidence.rows_of(&reader, 5).expect("rows");
        let seqs: Vec<u64> = rows.iter().map(|row| row.key.seq).collect();
        assert_eq!(seqs.len(), 5);
        assert_eq!(seqs[..2], [10, 9], "lost, then by the loss");
        assert!(seqs.contains(&11), "{seqs:?}");
        let said = evidence.left_out(&rows).expect("some are left out");
        assert!(
            said.starts_with("Of 12 trials the table has 5: every case that regressed, improved or lost"),
            "{said}"
        );
        let rows = evidence.rows_of(&reader, 2).expect("rows");
        let said = evidence.left_out(&rows).expect("some are left out");
        assert!(said.contains("2 of the 3 cases that changed, those that got worse by most first"), "{said}");
        assert_eq!(evidence.left_out(&evidence.rows(&reader).expect("rows")), None);
    }
}
