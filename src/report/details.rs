//! What `show` and the run's page add to a run's report: what changed since the suite's previous run, how values are
//! distributed, and which parts of the dataset are worse than others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::model::{Direction, EvaluatorId, EvaluatorKind, EvaluatorSpec, Label, RunSpec};
use crate::query::{Comparison, Expr, Field, Meaning, Op, Value};
use crate::stats::{Cluster, Estimate, MeanAccumulator};
use crate::store::rows::{CaseRow, RunRow, ScoreFact, TrialFacts};
use crate::store::{Reader, StoreError};

use super::document::Ordered;
use super::format::rfc3339;

/// How many runs the history holds at most, this one among them.
pub const HISTORY: usize = 30;
/// How many bars a histogram has.
const BINS: usize = 20;
/// A column with more values than this tells single cases apart, not parts of a dataset.
const VALUES: usize = 12;
/// A longer value is text, not a category (in bytes).
const VALUE_BYTES: usize = 60;

/// What `show` adds to the report of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Details {
    /// The suite's previous run and what is different; `None` for the first.
    pub previous: Option<Previous>,
    /// The primary evaluator's mean in the runs of the suite up to this one, oldest first.
    pub history: Vec<Past>,
    /// How the values of each evaluator are distributed.
    pub histograms: Ordered<Histogram>,
    /// Parts of the dataset by column, the primary evaluator's mean in each.
    pub slices: Vec<Slices>,
}

/// A run of the same suite.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Past {
    /// Its id.
    pub run_id: String,
    /// Its name.
    pub name: String,
    /// When it started.
    pub started_at: String,
    /// The primary evaluator's mean; `None` where it scored nothing.
    pub mean: Option<f64>,
    /// How many values stand behind it.
    pub n: u64,
}

/// The suite's previous run and what is different.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Previous {
    /// Its id.
    pub run_id: String,
    /// Its name.
    pub name: String,
    /// When it started.
    pub started_at: String,
    /// What was run differently.
    pub changed: Vec<Change>,
    /// Means of the evaluators that both runs have.
    pub scores: Ordered<ScoreChange>,
    /// What became of the cases that both runs have.
    pub cases: CaseChanges,
}

/// Something that was run differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What: `dataset`, `prompt`, `model`, `parameters`, `evaluator ID`, `git`, ….
    pub what: String,
    /// In the previous run; `None` where it had no such thing.
    pub before: Option<String>,
    /// In this run.
    pub after: Option<String>,
}

/// An evaluator's mean in both runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScoreChange {
    /// In the previous run.
    pub before: Option<f64>,
    /// In this run.
    pub after: Option<f64>,
    /// The second less the first.
    pub difference: Option<f64>,
}

/// What became of the cases that both runs have with the same texts and label, by the primary evaluator's mean over
/// their repeats. Whether a difference is more than chance is the business of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CaseChanges {
    /// Scored in both, better now.
    pub improved: u64,
    /// Scored in both, worse now.
    pub regressed: u64,
    /// Scored in both, the same.
    pub unchanged: u64,
    /// Scored then and not now.
    pub lost: u64,
    /// Scored now and not then.
    pub gained: u64,
    /// Scored in neither.
    pub unscored: u64,
    /// Cases that only this run has.
    pub added: u64,
    /// Cases that only the previous run has.
    pub removed: u64,
}

/// How the values of an evaluator are distributed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Histogram {
    /// Bars of equal width over the range of the values; empty for labels and assertions.
    pub bins: Vec<Bin>,
    /// Trials by label, for labels and assertions.
    pub labels: BTreeMap<String, u64>,
    /// Trials without a score.
    pub unscored: u64,
}

/// A bar: values from `low` to below `high`; the last one includes `high`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How many values lie in it.
    pub count: u64,
}

/// The parts of a dataset that a column makes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slices {
    /// The column: `expected`, `group`, or one of the dataset's own as `col.NAME`.
    pub column: String,
    /// Its values, the lowest mean first.
    pub values: Vec<Slice>,
}

/// A part of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slice {
    /// The column's value.
    pub value: String,
    /// How many trials it has.
    pub trials: u64,
    /// The primary evaluator's mean over them; `n` says over how many.
    pub mean: Estimate,
    /// The query that finds them.
    pub filter: String,
}

/// The details of a run.
pub fn details(reader: &Reader, run: &RunRow) -> Result<Details, StoreError> {
    let runs = reader.runs()?;
    // Newest first; of runs that started at once the store's numbers tell the order.
    let place = |run: &RunRow| (run.spec.started_unix_nano, run.number);
    let earlier: Vec<&RunRow> =
        runs.iter().filter(|other| other.spec.suite == run.spec.suite && place(other) < place(run)).collect();
    let mut history = Vec::new();
    for past in earlier.iter().copied().take(HISTORY - 1).rev().chain([run]) {
        // The primary evaluator of this run, for a line of numbers must be about one thing.
        let (mean, n) = reader.mean_score(past, &run.spec.primary)?;
        history.push(Past {
            run_id: past.spec.run_id.to_string(),
            name: past.spec.name.clone(),
            started_at: rfc3339(past.spec.started_unix_nano),
            mean,
            n,
        });
    }
    let mut distribution = Distribution::new(&run.spec);
    reader.for_each_fact(run, |facts| distribution.add(&facts))?;
    let mut parts = Parts::new(&run.spec);
    reader.for_each_case(run, &mut |row| parts.add(row))?;
    Ok(Details {
        previous: earlier.first().map(|before| previous(reader, before, run)).transpose()?,
        history,
        histograms: distribution.finish(&run.spec),
        slices: parts.finish(),
    })
}

/// The suite's previous run.
pub fn previous_run(reader: &Reader, run: &RunRow) -> Result<Option<RunRow>, StoreError> {
    let place = |run: &RunRow| (run.spec.started_unix_nano, run.number);
    let runs = reader.runs()?;
    Ok(runs.into_iter().find(|other| other.spec.suite == run.spec.suite && place(other) < place(run)))
}

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaseChange {
    /// Better now.
    Improved,
    /// Worse now.
    Regressed,
    /// The same.
    Unchanged,
    /// Scored then and not now.
    Lost,
    /// Scored now and not then.
    Gained,
    /// Scored in neither run.
    Unscored,
}

impl CaseChange {
    /// From the value before and after.
    pub fn of(before: Option<f64>, after: Option<f64>, direction: Direction) -> Self {
        match (before, after) {
            (Some(before), Some(after)) if before == after => Self::Unchanged,
            (Some(before), Some(after)) if (after > before) == (direction == Direction::Higher) => Self::Improved,
            (Some(_), Some(_)) => Self::Regressed,
            (Some(_), None) => Self::Lost,
            (None, Some(_)) => Self::Gained,
            (None, None) => Self::Unscored,
        }
    }

    /// Its name in addresses and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Improved => "improved",
            Self::Regressed => "regressed",
            Self::Unchanged => "unchanged",
            Self::Lost => "lost",
            Self::Gained => "gained",
            Self::Unscored => "unscored",
        }
    }

    /// The change of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Improved, Self::Regressed, Self::Unchanged, Self::Lost, Self::Gained, Self::Unscored]
            .into_iter()
            .find(|change| change.as_str() == name)
    }
}

/// Which way of the primary evaluator is better.
pub fn direction(spec: &RunSpec) -> Direction {
    spec.evaluators.iter().find(|e| e.id == spec.primary).map_or(Direction::Higher, |e| e.direction)
}

fn previous(reader: &Reader, before: &RunRow, run: &RunRow) -> Result<Previous, StoreError> {
    let mut cases = CaseChanges::default();
    let direction = direction(&run.spec);
    let unpaired = reader.pair_cases(before, run, &run.spec.primary, &mut |pair| {
        let count = match CaseChange::of(pair.before, pair.after, direction) {
            CaseChange::Improved => &mut cases.improved,
            CaseChange::Regressed => &mut cases.regressed,
            CaseChange::Unchanged => &mut cases.unchanged,
            CaseChange::Lost => &mut cases.lost,
            CaseChange::Gained => &mut cases.gained,
            CaseChange::Unscored => &mut cases.unscored,
        };
        *count += 1;
    })?;
    (cases.removed, cases.added) = (unpaired.before, unpaired.after);
    let mut scores = Vec::new();
    for spec in run.spec.evaluators.iter().filter(|spec| before.spec.evaluators.iter().any(|e| e.id == spec.id)) {
        let (then, now) = (reader.mean_score(before, &spec.id)?.0, reader.mean_score(run, &spec.id)?.0);
        let difference = then.zip(now).map(|(then, now)| now - then);
        scores.push((spec.id.to_string(), ScoreChange { before: then, after: now, difference }));
    }
    Ok(Previous {
        run_id: before.spec.run_id.to_string(),
        name: before.spec.name.clone(),
        started_at: rfc3339(before.spec.started_unix_nano),
        changed: changes(&before.spec, &run.spec),
        scores: Ordered(scores),
        cases,
    })
}

/// What the later run did differently.
fn changes(before: &RunSpec, after: &RunSpec) -> Vec<Change> {
    let short = |digest: &crate::model::Digest| digest.to_string().chars().take(12).collect::<String>();
    let mut changed = Vec::new();
    let mut compare = |what: &str, before: Option<String>, after: Option<String>| {
        if before != after {
            changed.push(Change { what: what.to_owned(), before, after });
        }
    };
    let dataset = |spec: &RunSpec| {
        Some(format!("{} ({} cases, {})", spec.dataset.name, spec.dataset.cases, short(&spec.dataset.digest)))
    };
    compare("dataset", dataset(before), dataset(after));
    compare("prompt", Some(short(&before.prompt_digest)), Some(short(&after.prompt_digest)));
    compare("workflow", Some(before.workflow.clone()), Some(after.workflow.clone()));
    let model = |spec: &RunSpec| Some(format!("{} ({})", spec.model, spec.provider));
    if model(before) == model(after) {
        compare("parameters", Some(short(&before.model_digest)), Some(short(&after.model_digest)));
    } else {
        compare("model", model(before), model(after));
    }
    compare("repeats", Some(before.repeat.to_string()), Some(after.repeat.to_string()));
    compare("primary evaluator", Some(before.primary.to_string()), Some(after.primary.to_string()));
    let ids: BTreeSet<&EvaluatorId> = before.evaluators.iter().chain(&after.evaluators).map(|e| &e.id).collect();
    for id in ids {
        let of = |spec: &RunSpec| {
            let found: Option<&EvaluatorSpec> = spec.evaluators.iter().find(|e| e.id == *id);
            found.map(|e| format!("version {} ({})", e.version, short(&e.digest)))
        };
        compare(&format!("evaluator {id}"), of(before), of(after));
    }
    let git = |spec: &RunSpec| {
        let git = spec.git.as_ref()?;
        let dirty = if git.dirty { " with uncommitted changes" } else { "" };
        Some(format!("{}{dirty}", git.revision.chars().take(12).collect::<String>()))
    };
    compare("git", git(before), git(after));
    changed
}

/// Values of number evaluators while they stream by: eight bytes each.
struct Distribution {
    values: Vec<Vec<f64>>,
    labels: Vec<BTreeMap<String, u64>>,
    trials: u64,
    scored: Vec<u64>,
    planned: u64,
}

impl Distribution {
    fn new(spec: &RunSpec) -> Self {
        let n = spec.evaluators.len();
        Self {
            values: vec![Vec::new(); n],
            labels: vec![BTreeMap::new(); n],
            trials: 0,
            scored: vec![0; n],
            planned: spec.planned(),
        }
    }

    fn add(&mut self, facts: &TrialFacts) {
        self.trials += 1;
        for (i, score) in facts.scores.iter().enumerate() {
            let Some(ScoreFact::Scored { value, label }) = score else { continue };
            self.scored[i] += 1;
            match (label, value) {
                (Some(label), _) => *self.labels[i].entry(label.clone()).or_default() += 1,
                (None, Some(value)) => self.values[i].push(*value),
                (None, None) => {}
            }
        }
    }

    fn finish(self, spec: &RunSpec) -> Ordered<Histogram> {
        let trials = self.planned.max(self.trials);
        let all = self.values.into_iter().zip(self.labels).zip(self.scored).zip(&spec.evaluators);
        let histograms = all.map(|(((values, labels), scored), spec)| {
            let bins = if spec.kind == EvaluatorKind::Number { bins(&values) } else { Vec::new() };
            (spec.id.to_string(), Histogram { bins, labels, unscored: trials - scored })
        });
        Ordered(histograms.collect())
    }
}

/// Bars over [0, 1] where all values lie in it, else over their range.
fn bins(values: &[f64]) -> Vec<Bin> {
    let (mut low, mut high) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)));
    if values.is_empty() || !(high - low).is_finite() {
        return Vec::new();
    }
    if low >= 0.0 && high <= 1.0 {
        (low, high) = (0.0, 1.0);
    }
    if low == high {
        return vec![Bin { low, high, count: values.len() as u64 }];
    }
    let width = (high - low) / BINS as f64;
    let mut bins: Vec<Bin> =
        (0..BINS).map(|i| Bin { low: low + width * i as f64, high: low + width * (i + 1) as f64, count: 0 }).collect();
    for x in values {
        bins[(((x - low) / width) as usize).min(BINS - 1)].count += 1;
    }
    bins
}

/// The parts of a dataset while its cases stream by.
struct Parts {
    primary: EvaluatorId,
    repeats: u32,
    groups: HashMap<String, u32>,
    /// In the order of first sight; `None` for a column that has too many values to be of use.
    columns: Vec<(Field, Option<BTreeMap<String, Part>>)>,
}

#[derive(Default)]
struct Part {
    trials: u64,
    mean: MeanAccumulator,
}

impl Parts {
    fn new(spec: &RunSpec) -> Self {
        let columns = [Field::Expected, Field::Group].map(|field| (field, Some(BTreeMap::new())));
        Self { primary: spec.primary.clone(), repeats: spec.repeat, groups: HashMap::new(), columns: columns.into() }
    }

    fn add(&mut self, row: &CaseRow) {
        let next = self.groups.len() as u32;
        let group = row.group.as_ref().map(|group| match self.groups.get(group) {
            Some(number) => *number,
            None => *self.groups.entry(group.clone()).or_insert(next),
        });
        let cluster = Cluster::of_trial(group, row.key.seq, self.repeats);
        let value = row.scores.get(&self.primary).and_then(crate::model::Evaluation::value);
        if let Some(expected) = row.expected {
            self.count(0, Label::as_str(expected), value, cluster);
        }
        if let Some(group) = &row.group {
            self.count(1, group, value, cluster);
        }
        for (name, text) in &row.columns {
            let known = self.columns.iter().position(|(field, _)| matches!(field, Field::Column(c) if c == name));
            let at = known.unwrap_or_else(|| {
                self.columns.push((Field::Column(name.clone()), Some(BTreeMap::new())));
                self.columns.len() - 1
            });
            self.count(at, text, value, cluster);
        }
    }

    fn count(&mut self, column: usize, text: &str, value: Option<f64>, cluster: Cluster) {
        let slot = &mut self.columns[column].1;
        let Some(parts) = slot else { return };
        if text.is_empty() {
            return;
        }
        if text.len() > VALUE_BYTES || (parts.len() == VALUES && !parts.contains_key(text)) {
            *slot = None;
            return;
        }
        if !parts.contains_key(text) {
            parts.insert(text.to_owned(), Part::default());
        }
        if let Some(part) = parts.get_mut(text) {
            part.trials += 1;
            if let Some(value) = value {
                part.mean.add(value, cluster);
            }
        }
    }

    fn finish(self) -> Vec<Slices> {
        let several = self.columns.into_iter().filter_map(|(field, parts)| {
            // A column with one value parts nothing.
            parts.filter(|parts| parts.len() > 1).map(|parts| (field, parts))
        });
        several
            .map(|(field, parts)| {
                let mut values: Vec<Slice> = parts
                    .into_iter()
                    .map(|(value, part)| Slice {
                        filter: equals(field.clone(), &value),
                        trials: part.trials,
                        mean: part.mean.estimate(),
                        value,
                    })
                    .collect();
                let mean = |slice: &Slice| slice.mean.value.unwrap_or(f64::INFINITY);
                values.sort_by(|a, b| mean(a).total_cmp(&mean(b)).then_with(|| a.value.cmp(&b.value)));
                Slices { column: field.to_string(), values }
            })
            .collect()
    }
}

/// The query `FIELD = VALUE`, quoted so that it reads back as that.
pub fn equals(field: Field, value: &str) -> String {
    let value = Value { text: value.to_owned(), meaning: Meaning::Exact };
    Expr::Compare(Comparison { field, op: Op::Eq, value }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{Schema, parse};
    use crate::report::fixture;

    #[test]
    fn bars_cover_all_values() {
        let counts = |values: &[f64]| bins(values).iter().map(|bin| bin.count).collect::<Vec<_>>();
        assert_eq!(counts(&[]), Vec::<u64>::new());
        assert_eq!(counts(&[7.0, 7.0]), [2]);
        let unit = bins(&[0.0, 0.04, 0.05, 1.0]);
        assert_eq!((unit[0].count, unit[1].count, unit[19].count, unit[0].low, unit[19].high), (2, 1, 1, 0.0, 1.0));
        let wide = bins(&[-10.0, 30.0, 29.9]);
        assert_eq!((wide[0].low, wide[19].high, wide[19].count), (-10.0, 30.0, 2));
        assert_eq!(wide.iter().map(|bin| bin.count).sum::<u64>(), 3);
        assert!(bins(&[f64::MIN, f64::MAX]).is_empty());
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let before = fixture::run().spec;
        assert!(changes(&before, &before).is_empty());
        let mut after = before.clone();
        after.model = "gpt-4.1".to_owned();
        after.model_digest = crate::model::Digest::from_bytes([9; 32]);
        after.git = None;
        after.evaluators.pop();
        let found: Vec<String> = changes(&before, &after)
            .iter()
            .map(|c| format!("{}: {:?} → {:?}", c.what, c.before.as_deref(), c.after.as_deref()))
            .collect();
        assert_eq!(
            found,
            [
                r#"model: Some("lexical-baseline (builtin)") → Some("gpt-4.1 (builtin)")"#,
                r#"evaluator tone: Some("version 1 (030303030303)") → None"#,
                r#"git: Some("0123456789ab with uncommitted changes") → None"#,
            ]
        );
        // Another temperature of the same model shows as other parameters.
        after = before.clone();
        after.model_digest = crate::model::Digest::from_bytes([9; 32]);
        assert_eq!(changes(&before, &after)[0].what, "parameters");
    }

    #[test]
    fn the_lower_value_is_better_where_the_evaluator_says_so() {
        for (before, after, higher, lower) in [
            (Some(0.0), Some(1.0), CaseChange::Improved, CaseChange::Regressed),
            (Some(1.0), Some(0.5), CaseChange::Regressed, CaseChange::Improved),
            (Some(1.0), Some(1.0), CaseChange::Unchanged, CaseChange::Unchanged),
            (Some(1.0), None, CaseChange::Lost, CaseChange::Lost),
            (None, Some(1.0), CaseChange::Gained, CaseChange::Gained),
        ] {
            assert_eq!(CaseChange::of(before, after, Direction::Higher), higher);
            assert_eq!(CaseChange::of(before, after, Direction::Lower), lower);
            assert_eq!(CaseChange::from_name(higher.as_str()), Some(higher));
        }
    }

    #[test]
    fn parts_are_categories_and_their_queries_find_them() {
        let mut parts = Parts::new(&fixture::run().spec);
        for (i, odd) in (0..40).map(|i| (i, i % 2 == 1)) {
            let mut row = fixture::low_rows().remove(0);
            row.columns = vec![
                ("field of study".to_owned(), if odd { "cell \"biology\"" } else { "007" }.to_owned()),
                ("id".to_owned(), i.to_string()),
                ("same".to_owned(), "x".to_owned()),
            ];
            let evaluation = crate::model::Evaluation::assertion(odd);
            row.scores.insert(fixture::evaluator("label_match"), evaluation);
            parts.add(&row);
        }
        let slices = parts.finish();
        assert_eq!(slices.len(), 1, "expected, group, id and same part nothing: {slices:?}");
        let values: Vec<_> = slices[0].values.iter().map(|s| (s.value.as_str(), s.trials, s.mean.value)).collect();
        assert_eq!(values, [("007", 20, Some(0.0)), ("cell \"biology\"", 20, Some(1.0))]);
        for slice in &slices[0].values {
            let mut row = fixture::low_rows().remove(0);
            row.columns = vec![("field of study".to_owned(), slice.value.clone())];
            let query = parse(&slice.filter, &Schema::cases()).expect(&slice.filter);
            assert!(query.matches(&row), "{}", slice.filter);
        }
    }
}
