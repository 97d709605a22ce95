//! One side of a comparison in memory: cases, trials and scores as plain columns, some hundred bytes a case, without texts.
//!
//! A run of the store and a baseline file both become a [`Side`]; from here on nobody asks which it was.

use crate::model::{CaseId, Digest, Direction, EvaluatorId, EvaluatorKind, Label, RunId, SpanId, TraceId};

use super::operand::Operand;

/// A run, or a pool of runs, case by case.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// What it is, for documents.
    pub operand: Operand,
    /// The workflow's name.
    pub workflow: String,
    /// What it was run on.
    pub dataset: Digest,
    /// The prompt.
    pub prompt: Digest,
    /// What else decides the answers.
    pub model: Digest,
    /// The evaluator that decides whether a case passed.
    pub primary: EvaluatorId,
    /// The evaluators, in the suite's order.
    pub evaluators: Vec<SideEvaluator>,
    /// The runs behind it and how many trials of each case are theirs.
    pub runs: Vec<(RunId, u32)>,
    /// Names of groups; cases refer to their places.
    pub groups: Vec<String>,
    /// The columns that were asked for.
    pub columns: Vec<Column>,
    /// The cases.
    pub cases: Vec<CaseRef>,
    /// The trials of each case one after the other, as many of each: see [`Self::trials_of`].
    pub trials: Vec<Trial>,
}

/// An evaluator with its scores.
#[derive(Debug, Clone, PartialEq)]
pub struct SideEvaluator {
    /// Its id.
    pub id: EvaluatorId,
    /// Its version.
    pub version: String,
    /// What it gives.
    pub kind: EvaluatorKind,
    /// Which way is better.
    pub direction: Direction,
    /// At or beyond which a number passes.
    pub threshold: Option<f64>,
    /// Unit of its numbers.
    pub unit: String,
    /// Its definition.
    pub digest: Digest,
    /// What it gave each trial, in the order of the trials.
    pub cells: Vec<Cell>,
}

/// What an evaluator gave a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell {
    /// This number, which is finite.
    Value(f64),
    /// It broke.
    Failed,
    /// It does not apply, or gave a label without a number.
    Skipped,
    /// Nothing is recorded.
    Absent,
    /// A score that is no finite number, which only damage or foreign hands can have put there.
    NotFinite,
}

/// A column of the dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its values, each once.
    pub values: Vec<String>,
    /// For each case the place of its value.
    pub of_case: Vec<Option<u32>>,
}

/// A case of a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseRef {
    /// Its id.
    pub id: CaseId,
    /// The first eight bytes of its digest.
    pub digest: u64,
    /// Its place in the run; of a baseline, in the file.
    pub seq: u64,
    /// The place of its group's name.
    pub group: Option<u32>,
    /// The gold label.
    pub expected: Option<Label>,
}

/// A trial of a side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// What it was taken for.
    pub output: Output,
    /// Latency of the answer, in milliseconds.
    pub latency_ms: Option<f64>,
    /// Input and output tokens.
    pub tokens: [Option<u64>; 2],
    /// Price in US dollars.
    pub cost_usd: Option<f64>,
    /// Its trace.
    pub trace_id: Option<TraceId>,
    /// Its `assess_claim` span.
    pub span_id: Option<SpanId>,
}

/// What a trial was taken for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Output {
    /// The label `True`.
    True,
    /// The label `False`.
    False,
    /// The label `NEE`.
    Nee,
    /// An answer that is no label.
    Unparseable,
    /// No answer.
    Failed,
    /// Not tried.
    Skipped,
    /// Not recorded.
    #[default]
    Absent,
}

impl Output {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 7] =
        [Self::True, Self::False, Self::Nee, Self::Unparseable, Self::Failed, Self::Skipped, Self::Absent];

    /// The word in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Nee => "NEE",
            Self::Unparseable => "unparseable",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Absent => "absent",
        }
    }

    /// The output of that word.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|output| output.as_str() == text)
    }

    /// Whether there was an answer.
    pub const fn is_answer(self) -> bool {
        matches!(self, Self::True | Self::False | Self::Nee | Self::Unparseable)
    }

    /// Whether the answer is this label.
    pub fn is(self, label: Label) -> bool {
        self as usize == label.index()
    }
}

impl Trial {
    /// A trial of which nothing is recorded.
    pub const ABSENT: Self = Self {
        output: Output::Absent,
        latency_ms: None,
        tokens: [None; 2],
        cost_usd: None,
        trace_id: None,
        span_id: None,
    };
}

/// What the trials of a case gave: the numbers that there are, and how many more there should be.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Sum of the numbers.
    pub sum: f64,
    /// How many there are.
    pub found: u32,
    /// How many there should be besides: no answer, an evaluator that broke, a score that is not recorded.
    pub missing: u32,
}

impl Tally {
    /// The number that stands for the case.
    pub fn value(self) -> CaseValue {
        match (self.found, self.missing) {
            (0, 0) => CaseValue::NotApplicable,
            (0, _) => CaseValue::Missing,
            (found, _) => CaseValue::Value(self.sum / f64::from(found)),
        }
    }

    /// How many numbers there should be.
    pub const fn due(self) -> u32 {
        self.found + self.missing
    }

    /// The case's mean if each missing number were this; `None` where none should be.
    pub fn filled(self, with: f64) -> Option<f64> {
        (self.due() > 0).then(|| (self.sum + with * f64::from(self.missing)) / f64::from(self.due()))
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let (found, missing) = (self.found + other.found, self.missing + other.missing);
        Self { sum: self.sum + other.sum, found, missing }
    }

    fn add(self, x: f64) -> Self {
        Self { sum: self.sum + x, found: self.found + 1, ..self }
    }

    const fn miss(self) -> Self {
        Self { missing: self.missing + 1, ..self }
    }
}

/// The number that stands for a case, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CaseValue {
    /// The mean over its trials.
    Value(f64),
    /// There should be one and there is none.
    Missing,
    /// There is nothing to have a number for.
    NotApplicable,
}

impl CaseValue {
    /// The number.
    pub const fn get(self) -> Option<f64> {
        match self {
            Self::Value(x) => Some(x),
            _ => None,
        }
    }
}

impl Side {
    /// How many trials each case has.
    pub fn per_case(&self) -> usize {
        self.runs.iter().map(|run| run.1 as usize).sum()
    }

    /// The trials of a case.
    pub fn trials_of(&self, case: usize) -> &[Trial] {
        let n = self.per_case();
        self.trials.get(case * n..(case + 1) * n).unwrap_or_default()
    }

    /// What an evaluator gave the trials of a case.
    pub fn cells_of(&self, evaluator: usize, case: usize) -> &[Cell] {
        let n = self.per_case();
        let cells = self.evaluators.get(evaluator).map_or(&[][..], |e| &e.cells);
        cells.get(case * n..(case + 1) * n).unwrap_or_default()
    }

    /// The place of an evaluator.
    pub fn evaluator(&self, id: &str) -> Option<usize> {
        self.evaluators.iter().position(|e| e.id.as_str() == id)
    }

    /// The run that a trial of a case belongs to.
    pub fn run_of(&self, trial: usize) -> Option<&RunId> {
        let mut before = 0;
        self.runs.iter().find_map(|(id, repeat)| {
            before += *repeat as usize;
            (trial < before).then_some(id)
        })
    }

    /// The name of a case's group.
    pub fn group_of(&self, case: usize) -> Option<&str> {
        let group = self.cases.get(case)?.group?;
        self.groups.get(group as usize).map(String::as_str)
    }

    /// Share of a case's answers that are right.
    pub fn accuracy(&self, case: usize) -> CaseValue {
        self.right(case).value()
    }

    /// A case's answers, 1 for each that is right.
    pub fn right(&self, case: usize) -> Tally {
        let Some(expected) = self.cases.get(case).and_then(|case| case.expected) else {
            return Tally::default();
        };
        self.trials_of(case).iter().fold(Tally::default(), |tally, trial| {
            if trial.output.is_answer() {
                tally.add(f64::from(u8::from(trial.output.is(expected))))
            } else {
                tally.miss()
            }
        })
    }

    /// Mean of an evaluator's values over a case's trials.
    pub fn score(&self, evaluator: usize, case: usize) -> CaseValue {
        self.scores(evaluator, case).value()
    }

    /// What an evaluator gave a case's trials. A case with a score that is no number has none.
    pub fn scores(&self, evaluator: usize, case: usize) -> Tally {
        let mut tally = Tally::default();
        for (cell, trial) in self.cells_of(evaluator, case).iter().zip(self.trials_of(case)) {
            tally = match cell {
                Cell::Value(x) => tally.add(*x),
                Cell::NotFinite => return Tally { missing: self.per_case() as u32, ..Tally::default() },
                Cell::Skipped if trial.output.is_answer() => tally,
                Cell::Failed | Cell::Absent | Cell::Skipped => tally.miss(),
            };
        }
        tally
    }

    /// Mean over a case's answers of something that may be unknown.
    pub fn mean_of(&self, case: usize, of: impl Fn(&Trial) -> Option<f64>) -> CaseValue {
        self.known(case, of).value()
    }

    /// Something that may be unknown, over a case's trials; a case of which nothing is known has nothing to be known of.
    pub fn known(&self, case: usize, of: impl Fn(&Trial) -> Option<f64>) -> Tally {
        let known = |trial: &Trial| if trial.output.is_answer() { of(trial) } else { None };
        let add = |tally: Tally, trial: &Trial| known(trial).map_or_else(|| tally.miss(), |x| tally.add(x));
        let tally = self.trials_of(case).iter().fold(Tally::default(), add);
        if tally.found == 0 { Tally::default() } else { tally }
    }

    /// How many of an evaluator's scores there should be, and how many of them are missing.
    pub fn scored(&self, evaluator: usize) -> Tally {
        (0..self.cases.len()).map(|case| self.scores(evaluator, case)).fold(Tally::default(), Tally::plus)
    }

    /// Trials without an answer.
    pub fn errors(&self) -> u64 {
        self.trials.iter().filter(|trial| !trial.output.is_answer()).count() as u64
    }

    /// Scores that are no finite numbers, by evaluator.
    pub fn not_finite(&self) -> impl Iterator<Item = (&EvaluatorId, usize)> {
        self.evaluators.iter().filter_map(|e| {
            let n = e.cells.iter().filter(|cell| **cell == Cell::NotFinite).count();
            (n > 0).then_some((&e.id, n))
        })
    }
}

/// The first eight bytes of a digest.
pub fn digest_prefix(digest: &Digest) -> u64 {
    digest.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
