//! How the values of a run are distributed: over their range, and over the parts of the dataset.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::document::Ordered;
use crate::model::{EvaluatorId, EvaluatorKind, Label, RunSpec};
use crate::query::{Comparison, Expr, Field, Meaning, Op, Value};
use crate::stats::{Cluster, Estimate, MeanAccumulator};
use crate::store::rows::{CaseRow, ScoreFact, TrialFacts};

/// How many bars a histogram has.
const BINS: usize = 20;
/// A column with more values than this tells single cases apart, not parts of a dataset.
const VALUES: usize = 12;
/// A longer value is text, not a category (in bytes).
const VALUE_BYTES: usize = 60;

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

/// Values of number evaluators while they stream by: eight bytes each.
pub(super) struct Distribution {
    values: Vec<Vec<f64>>,
    labels: Vec<BTreeMap<String, u64>>,
    trials: u64,
    scored: Vec<u64>,
    planned: u64,
}

impl Distribution {
    pub(super) fn new(spec: &RunSpec) -> Self {
        let n = spec.evaluators.len();
        Self {
            values: vec![Vec::new(); n],
            labels: vec![BTreeMap::new(); n],
            trials: 0,
            scored: vec![0; n],
            planned: spec.planned(),
        }
    }

    pub(super) fn add(&mut self, facts: &TrialFacts) {
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

    pub(super) fn finish(self, spec: &RunSpec) -> Ordered<Histogram> {
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
pub(super) struct Parts {
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
    pub(super) fn new(spec: &RunSpec) -> Self {
        let columns = [Field::Expected, Field::Group].map(|field| (field, Some(BTreeMap::new())));
        Self { primary: spec.primary.clone(), repeats: spec.repeat, groups: HashMap::new(), columns: columns.into() }
    }

    pub(super) fn add(&mut self, row: &CaseRow) {
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

    pub(super) fn finish(self) -> Vec<Slices> {
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
