//! The results of a run as a table: one row per planned trial. CSV and Parquet files have these columns, in this order.
//!
//! `run_id case_id repeat group expected output status error`, for each evaluator `score.ID` (its number) and for those that
//! give labels `label.ID`, likewise for scores from elsewhere, then what the answer took and where its trace is, why it is as it is, claim and raw answer, in a
//! comparison what the base had, and the dataset's other columns as `col.NAME`.

use std::collections::{BTreeSet, HashMap};

use super::details::CaseChange;
use super::documents::CaseEntry;
use super::link;
use crate::compare::cases::{Decider, Fate, fate};
use crate::compare::pair::pair;
use crate::compare::side::{Output, Side, Trial};
use crate::model::{EvaluatorKind, Outcome, Predicted, SpanId, TraceId};
use crate::store::rows::{CaseRow, RunRow};
use crate::store::{Reader, StoreError};

/// At most so many columns of the dataset: a table of free-form keys would have no end.
const COLUMNS: usize = 200;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A finite double.
    Number,
    /// A count.
    Count,
}

/// A value of a row; `None` within it is no value, never 0 and never an empty text.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Text.
    Text(Option<String>),
    /// A finite double.
    Number(Option<f64>),
    /// A count.
    Count(Option<u64>),
}

impl Cell {
    /// What kind of column it stands in.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Number(_) => Kind::Number,
            Self::Count(_) => Kind::Count,
        }
    }
}

/// What the base of a comparison has of a case.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Before {
    /// What its first answer was taken for, or `failed` or `skipped`.
    pub output: Option<&'static str>,
    /// What decides what became of it: the mean of the primary evaluator's values over its repeats, or its share of right
    /// answers where the base does not have that evaluator.
    pub value: Option<f64>,
    /// How much worse it is now: 0 where it did not get worse, infinite where it lost its score.
    pub loss: f64,
    /// The trace of its first trial.
    pub trace_id: Option<TraceId>,
    /// The span of its first trial.
    pub span_id: Option<SpanId>,
}

/// What the base of a comparison has of the cases of a run, by the place of the case in the run. A case that is not in it
/// has no partner in the base.
#[derive(Debug, Clone, Default)]
pub struct Base {
    /// What to call it.
    pub name: String,
    cases: HashMap<u64, (Before, CaseChange)>,
}

impl Base {
    /// A base of these cases.
    pub fn new(name: impl Into<String>, cases: impl IntoIterator<Item = (u64, Before, CaseChange)>) -> Self {
        let cases = cases.into_iter().map(|(seq, before, change)| (seq, (before, change))).collect();
        Self { name: name.into(), cases }
    }

    /// What one side of a comparison has of the cases of the other, which is a run.
    pub fn of_sides(base: &Side, head: &Side) -> Self {
        let (decider, _) = Decider::of(base, head);
        let mut cases = HashMap::new();
        for (base_case, head_case) in pair(base, head).pairs {
            let fate = fate(decider, base, head, (base_case, head_case));
            let first = base.trials_of(base_case).first().copied().unwrap_or(Trial::ABSENT);
            let before = Before {
                output: (first.output != Output::Absent).then(|| first.output.as_str()),
                value: decider.value(base, base_case, false),
                loss: match fate {
                    Fate::Regressed(loss) => loss,
                    Fate::Lost => f64::INFINITY,
                    _ => 0.0,
                },
                trace_id: first.trace_id,
                span_id: first.span_id,
            };
            cases.insert(head.cases[head_case].seq, (before, CaseChange::from(fate)));
        }
        Self { name: base.operand.name.clone(), cases }
    }

    /// The places in the run of the cases that changed, those that got worse by most first, then those that improved.
    pub fn changed(&self) -> Vec<u64> {
        let worth =
            |change: CaseChange| matches!(change, CaseChange::Regressed | CaseChange::Lost | CaseChange::Improved);
        let mut changed: Vec<(f64, u64)> =
            self.cases.iter().filter(|(_, case)| worth(case.1)).map(|(seq, case)| (case.0.loss, *seq)).collect();
        changed.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        changed.into_iter().map(|(_, seq)| seq).collect()
    }

    /// What it has of the case at this place of the run.
    pub fn get(&self, seq: u64) -> Option<(&Before, CaseChange)> {
        self.cases.get(&seq).map(|(before, change)| (before, *change))
    }
}

/// What a trial's answer was taken for; without an answer what became of it.
pub fn outcome_in_a_word(outcome: &Outcome) -> &'static str {
    match outcome.predicted() {
        Some(predicted) => Predicted::as_str(predicted),
        None => outcome.status(),
    }
}

/// The columns of a run's table, and its rows.
#[derive(Debug)]
pub struct Results<'a> {
    run: &'a RunRow,
    base: Option<&'a Base>,
    /// The dataset's other columns.
    columns: Vec<String>,
    /// Names of scores from elsewhere.
    external: Vec<String>,
}

impl<'a> Results<'a> {
    /// The table of a run, in a comparison with what the base has of its cases.
    pub fn of(reader: &Reader, run: &'a RunRow, base: Option<&'a Base>) -> Result<Self, StoreError> {
        let mut columns = BTreeSet::new();
        reader.for_each_case(run, &mut |row| {
            for (name, _) in &row.columns {
                if columns.len() < COLUMNS && !columns.contains(name) {
                    columns.insert(name.clone());
                }
            }
        })?;
        let external = reader.external_names(run)?;
        Ok(Self { run, base, columns: columns.into_iter().collect(), external })
    }

    /// Name and kind of each column.
    pub fn header(&self) -> Vec<(String, Kind)> {
        let named = |names: &[(&str, Kind)]| names.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        let mut header: Vec<(String, Kind)> = named(&[
            ("run_id", Kind::Text),
            ("case_id", Kind::Text),
            ("repeat", Kind::Count),
            ("group", Kind::Text),
            ("expected", Kind::Text),
            ("output", Kind::Text),
            ("status", Kind::Text),
            ("error", Kind::Text),
        ]);
        for spec in &self.run.spec.evaluators {
            header.push((format!("score.{}", spec.id), Kind::Number));
            if spec.kind == EvaluatorKind::Label {
                header.push((format!("label.{}", spec.id), Kind::Text));
            }
        }
        for name in &self.external {
            header.push((format!("score.{name}"), Kind::Number));
            header.push((format!("label.{name}"), Kind::Text));
        }
        header.extend::<Vec<_>>(named(&[
            ("latency_ms", Kind::Number),
            ("input_tokens", Kind::Count),
            ("output_tokens", Kind::Count),
            ("cost_usd", Kind::Number),
            ("attempts", Kind::Count),
            ("finish_reason", Kind::Text),
            ("response_model", Kind::Text),
            ("trace_id", Kind::Text),
            ("span_id", Kind::Text),
            ("trace_url", Kind::Text),
            ("reason", Kind::Text),
            ("claim", Kind::Text),
            ("raw_output", Kind::Text),
        ]));
        if self.base.is_some() {
            header.extend::<Vec<_>>(named(&[
                ("change", Kind::Text),
                ("base_output", Kind::Text),
                ("base_score", Kind::Number),
                ("base_trace_id", Kind::Text),
                ("base_span_id", Kind::Text),
            ]));
        }
        header.extend(self.columns.iter().map(|name| (format!("col.{name}"), Kind::Text)));
        header
    }

    /// The row of a trial, a cell for each column.
    pub fn row(&self, row: &CaseRow) -> Vec<Cell> {
        let spec = &self.run.spec;
        let entry = CaseEntry::from(row);
        let text = |text: Option<&str>| Cell::Text(text.map(str::to_owned));
        let id = |id: Option<String>| Cell::Text(id);
        let url = link::of_case(spec, row);
        let why = entry.scores.get(spec.primary.as_str()).and_then(|score| score.explanation.as_deref());
        let mut cells = vec![
            text(Some(spec.run_id.as_str())),
            text(Some(&entry.case_id)),
            Cell::Count(Some(u64::from(entry.repeat))),
            text(entry.group.as_deref()),
            text(entry.expected),
            text(entry.output),
            text(Some(entry.status)),
            text(entry.error.as_deref()),
        ];
        for evaluator in &spec.evaluators {
            let score = entry.scores.get(evaluator.id.as_str());
            cells.push(Cell::Number(score.and_then(|score| score.value)));
            if evaluator.kind == EvaluatorKind::Label {
                cells.push(text(score.and_then(|score| score.label.as_deref())));
            }
        }
        for name in &self.external {
            let score = entry.scores.get(name);
            cells.push(Cell::Number(score.and_then(|score| score.value)));
            cells.push(text(score.and_then(|score| score.label.as_deref())));
        }
        cells.extend([
            Cell::Number(entry.latency_ms),
            Cell::Count(entry.tokens.input),
            Cell::Count(entry.tokens.output),
            Cell::Number(entry.cost_usd),
            Cell::Count(row.outcome.is_some().then_some(u64::from(entry.attempts))),
            text(entry.finish_reason.as_deref()),
            text(entry.response_model.as_deref()),
            id(entry.trace_id.map(|id| id.to_string())),
            id(entry.span_id.map(|id| id.to_string())),
            id(url),
            text(entry.reason.as_deref().or(why)),
            text(Some(&entry.claim)),
            text(entry.raw_output.as_deref()),
        ]);
        if let Some(base) = self.base {
            let (before, change) = base.get(row.key.seq).unzip();
            cells.extend([
                text(Some(change.map_or("unpaired", CaseChange::as_str))),
                text(before.and_then(|before| before.output)),
                Cell::Number(before.and_then(|before| before.value)),
                id(before.and_then(|before| before.trace_id).map(|id| id.to_string())),
                id(before.and_then(|before| before.span_id).map(|id| id.to_string())),
            ]);
        }
        cells.extend(self.columns.iter().map(|name| text(entry.columns.get(name).map(String::as_str))));
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn what_became_of_a_case_is_what_the_comparison_says() {
        use crate::compare::testing::answered;
        use crate::compare::{CompareOptions, build::compare};
        let (mut base, head) = (answered(6, |at| at == 5), answered(6, |at| at < 2));
        for primary in ["label_match", "another"] {
            // Where the base does not have the primary evaluator, the share of right answers decides.
            base.evaluators[0].id = crate::model::EvaluatorId::parse(primary).expect("an id");
            let (found, compared) = (Base::of_sides(&base, &head), compare(&base, &head, &CompareOptions::default()));
            let of = |wanted| (0..6).filter(|seq| found.get(*seq).is_some_and(|(_, change)| change == wanted)).count();
            let counts = compared.cases.counts;
            assert_eq!((counts.regressed, counts.improved, counts.unchanged), (2, 1, 3), "{primary}");
            assert_eq!(
                (of(CaseChange::Regressed), of(CaseChange::Improved), of(CaseChange::Unchanged)),
                (2, 1, 3),
                "{primary}"
            );
            assert_eq!(found.changed(), [0, 1, 5], "what got worse first");
        }
    }

    #[test]
    fn a_row_has_a_cell_of_the_right_kind_for_each_column() {
        let run = fixture::run();
        let before = Before { output: Some("False"), value: Some(1.0), ..Before::default() };
        let base = Base::new("yesterday", [(4, before, CaseChange::Regressed)]);
        for base in [None, Some(&base)] {
            let results = Results {
                run: &run,
                base,
                columns: vec!["field".to_owned(), "other".to_owned()],
                external: vec!["remote".to_owned()],
            };
            let header = results.header();
            for row in fixture::low_rows() {
                let cells = results.row(&row);
                let kinds: Vec<Kind> = cells.iter().map(Cell::kind).collect();
                assert_eq!(kinds, header.iter().map(|(_, kind)| *kind).collect::<Vec<_>>());
                let cell = |name: &str| &cells[header.iter().position(|(known, _)| known == name).expect(name)];
                assert_eq!(cell("col.field"), &Cell::Text(Some("biology".to_owned())));
                assert_eq!(cell("col.other"), &Cell::Text(None));
                assert_eq!(cell("label.tone"), &Cell::Text(None));
                assert_eq!(cell("score.remote"), &Cell::Number(None));
                let failed = row.key.seq == 28;
                assert_eq!(cell("score.label_match"), &Cell::Number((!failed).then_some(0.0)));
                let why = if failed { "rate limit reached" } else { "expected False" };
                assert_eq!(cell("reason"), &Cell::Text(Some(why.to_owned())));
                if base.is_some() {
                    let change = if failed { "unpaired" } else { "regressed" };
                    assert_eq!(cell("change"), &Cell::Text(Some(change.to_owned())));
                }
            }
        }
    }
}
