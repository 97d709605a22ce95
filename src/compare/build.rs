//! The comparison of two sides: what differs first, then every metric, then the cases.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::cases::{Decider, cases, counts, unpaired};
use super::comparison::{Better, Change, Comparison, Metric, Shift, ShiftTest, SliceComparison};
use super::differences::{differences, is_allowed};
use super::metric::{Definition, Numbers, definitions, mode};
use super::operand::Difference;
use super::pair::{Pairing, pair};
use super::side::{Output, Side};
use crate::model::Label;
use crate::stats::paired::{PairedEstimate, Settings, compare_directed};
use crate::stats::{multiple, power, symmetry};

/// How two sides are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct CompareOptions {
    /// What may differ: `dataset`, `evaluator`, an evaluator's id.
    pub allow: Vec<String>,
    /// Columns to slice by, as queries spell them: `expected`, `group`, `col.NAME`. The side of the head must have been
    /// loaded with them.
    pub slices: Vec<String>,
    /// The most cases in each list.
    pub limit: usize,
    /// Seed of resampling.
    pub seed: u64,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self { allow: Vec::new(), slices: Vec::new(), limit: usize::MAX, seed: Settings::default().seed }
    }
}

/// Values of a column that are sliced by; the rest is one part more.
const SLICES: usize = 50;
/// What the rest is called.
const OTHERS: &str = "(other)";

/// Compares two sides. The same sides and options give the same comparison; swapped sides give its mirror.
pub fn compare(base: &Side, head: &Side, options: &CompareOptions) -> Comparison {
    let pairing = pair(base, head);
    let differs = differences(base, head);
    let definitions = definitions(base, head, &options.allow);
    let settings = settings(&pairing, options.seed);
    let mut metrics = measure_all(base, head, &pairing, &definitions, &settings);
    correct(metrics.iter_mut());
    let transitions = transitions(base, head, &pairing);
    Comparison {
        base: base.operand.clone(),
        head: head.operand.clone(),
        invalid: refused(&differs, &options.allow).map(in_words).collect(),
        differs,
        pairs: pairing.pairs.len() as u64,
        clusters: pairing.cluster_count,
        unpaired: unpaired(base, head, &pairing, 0..options.limit),
        metrics,
        shift: shift(&transitions),
        transitions,
        transition_labels: Output::ALL[..5].iter().map(|output| output.as_str().to_owned()).collect(),
        cases: cases(base, head, &pairing, 0..options.limit),
        slices: slices(base, head, &pairing, &definitions, options, &settings),
    }
}

/// How the statistics are to read the pairs.
pub(super) fn settings(pairing: &Pairing, seed: u64) -> Settings {
    Settings { clustered: pairing.cluster_count.is_some(), seed, ..Settings::default() }
}

/// The differences that a gate refuses.
pub(super) fn refused<'d>(differs: &'d [Difference], allow: &'d [String]) -> impl Iterator<Item = &'d Difference> {
    differs.iter().filter(|difference| !is_allowed(difference, allow))
}

/// A difference as a sentence with its way out.
pub(super) fn in_words(difference: &Difference) -> String {
    let or_none = |text: &Option<String>| text.as_deref().unwrap_or("none").to_owned();
    let name = difference.refused_as.as_deref().unwrap_or(&difference.what);
    format!(
        "{} differs: {} in the base, {} in the head; `--allow {name}` compares all the same",
        difference.what,
        or_none(&difference.base),
        or_none(&difference.head)
    )
}

/// Measures all metrics on as many threads as there are processors; the order of the results is that of the definitions.
fn measure_all(
    base: &Side,
    head: &Side,
    pairing: &Pairing,
    definitions: &[Definition],
    settings: &Settings,
) -> Vec<Metric> {
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, Metric>> = Mutex::new(BTreeMap::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(definitions.len().max(1));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((place, definition)) = {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    definitions.get(place).map(|definition| (place, definition))
                } {
                    let metric = measure(base, head, pairing, definition, 0..pairing.pairs.len(), settings);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(place, metric);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    // What neither side has a number for is no metric of theirs.
    done.into_values().filter(|metric| metric.n > 0 || metric.missing > 0 || !metric.warnings.is_empty()).collect()
}

/// A metric over the pairs at these places.
fn measure(
    base: &Side,
    head: &Side,
    pairing: &Pairing,
    definition: &Definition,
    chosen: impl Iterator<Item = usize>,
    settings: &Settings,
) -> Metric {
    if let Some(why) = &definition.refused {
        return Metric {
            name: definition.name.clone(),
            direction: definition.direction,
            unit: definition.unit.clone(),
            method: "not compared".to_owned(),
            warnings: vec![format!("{why}: not compared")],
            ..Metric::default()
        };
    }
    let numbers = definition.numbers(base, head, pairing, chosen);
    let estimate = if numbers.is_empty() {
        PairedEstimate { why_undefined: Some("no case has it on both sides".to_owned()), ..PairedEstimate::default() }
    } else {
        compare_directed(&numbers.measure(), definition.better(), settings)
    };
    metric_of(definition, &numbers, estimate)
}

/// The level of one side that a gate's test has unless it looks often.
const ONE_SIDED: f64 = 0.025;

/// A metric from its estimate.
pub(super) fn metric_of(definition: &Definition, numbers: &Numbers, estimate: PairedEstimate) -> Metric {
    let change = estimate.interval.and_then(|[low, high]| {
        let better =
            |up: bool| if up == (definition.direction == Better::Higher) { Change::Better } else { Change::Worse };
        if low > 0.0 {
            Some(better(true))
        } else if high < 0.0 {
            Some(better(false))
        } else {
            None
        }
    });
    let mut warnings = estimate.warnings;
    if definition.is_latency() && change.is_some() {
        warnings.push(
            "the interval covers other cases, not other hours: a busy endpoint is slower for all of them".to_owned(),
        );
    }
    if numbers.missing > 0 {
        warnings.push(format!("{} cases have no value on one side and are in neither mean", numbers.missing));
    }
    if numbers.partly_missing > 0 {
        warnings.push(format!("{} cases have no value for some of their trials", numbers.partly_missing));
    }
    // The exact test is McNemar's only where each pair stands alone and is one right or wrong.
    let exact = estimate.discordant.filter(|_| estimate.mid_p.is_some() && estimate.clusters.is_none());
    let detectable = exact.and_then(|[b, c]| {
        let share = (b + c) as f64 / estimate.n as f64;
        power::minimum_detectable_effect(estimate.n, share, ONE_SIDED, power::USUAL_POWER)
    });
    Metric {
        name: definition.name.clone(),
        direction: definition.direction,
        unit: definition.unit.clone(),
        base: estimate.base,
        head: estimate.head,
        delta: estimate.delta,
        ci95: estimate.interval,
        p_value: estimate.p_value,
        mid_p: estimate.mid_p,
        q_value: None,
        method: estimate.why_undefined.unwrap_or(estimate.method),
        discordant: estimate.discordant,
        detectable,
        n: estimate.n,
        missing: numbers.missing,
        partly_missing: numbers.partly_missing,
        clusters: estimate.clusters,
        bounds: numbers.bounds(),
        change,
        warnings,
    }
}

/// Corrects the p-values for the number of metrics.
fn correct<'m>(metrics: impl Iterator<Item = &'m mut Metric>) {
    let mut tested: Vec<(&mut Metric, f64)> =
        metrics.filter_map(|metric| metric.p_value.map(|p_value| (metric, p_value))).collect();
    let p: Vec<f64> = tested.iter().map(|(_, p)| *p).collect();
    for ((metric, _), q) in tested.iter_mut().zip(multiple::benjamini_hochberg(&p)) {
        metric.q_value = Some(q);
    }
}

fn transitions(base: &Side, head: &Side, pairing: &Pairing) -> Vec<Vec<u64>> {
    let mut counts = vec![vec![0; 5]; 5];
    for (in_base, in_head) in &pairing.pairs {
        counts[mode(base, *in_base)][mode(head, *in_head)] += 1;
    }
    counts
}

/// Over the labels alone: what is no answer has no share to shift.
fn shift(transitions: &[Vec<u64>]) -> Shift {
    let cell = |i: usize, j: usize| transitions.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0);
    let labels: [[u64; 3]; 3] = std::array::from_fn(|i| std::array::from_fn(|j| cell(i, j)));
    let test = |test: symmetry::ChiSquared| {
        // Nothing moved, or there is nothing to move.
        (test.degrees > 0 && test.statistic.is_finite()).then_some(ShiftTest {
            statistic: test.statistic,
            df: test.degrees,
            p_value: test.p_value,
        })
    };
    Shift { bowker: test(symmetry::bowker(&labels)), stuart_maxwell: test(symmetry::stuart_maxwell(&labels)) }
}

fn slices(
    base: &Side,
    head: &Side,
    pairing: &Pairing,
    definitions: &[Definition],
    options: &CompareOptions,
    settings: &Settings,
) -> Vec<SliceComparison> {
    let (decider, by) = Decider::of(base, head);
    let wanted: Vec<&Definition> = definitions.iter().filter(|d| d.is_accuracy() || d.is_score_of(head, &by)).collect();
    let mut found = Vec::new();
    for column in &options.slices {
        let mut parts: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
        for (place, (_, in_head)) in pairing.pairs.iter().enumerate() {
            parts.entry(value_of(head, *in_head, column)).or_default().push(place);
        }
        let mut parts: Vec<(Option<&str>, Vec<usize>)> = parts.into_iter().collect();
        // The largest parts; a column with a value for every case is no column to slice by.
        parts.sort_by_key(|(_, places)| std::cmp::Reverse(places.len()));
        let others: Vec<usize> = parts.drain(SLICES.min(parts.len())..).flat_map(|(_, places)| places).collect();
        let is_whole = others.is_empty();
        if !is_whole {
            parts.push((Some(OTHERS), others));
        }
        let all = parts.len();
        for (at, (value, places)) in parts.into_iter().enumerate() {
            let metrics = wanted
                .iter()
                .map(|definition| measure(base, head, pairing, definition, places.iter().copied(), settings))
                .filter(|metric| metric.n > 0)
                .collect();
            found.push(SliceComparison {
                column: column.clone(),
                value: value.map(str::to_owned),
                pairs: places.len() as u64,
                metrics,
                counts: counts(decider, base, head, pairing, places.iter().copied()),
                // No filter selects what is left over.
                filter: if at + 1 == all && !is_whole { String::new() } else { filter(column, value) },
            });
        }
    }
    correct(found.iter_mut().flat_map(|slice| &mut slice.metrics));
    found
}

/// The name of a dataset's column that is written as in queries: `col.name`, `col."a name"`, or the name alone.
pub(super) fn column_name(written: &str) -> &str {
    let name = written.strip_prefix("col.").unwrap_or(written);
    let unquoted = |quote| name.strip_prefix(quote)?.strip_suffix(quote);
    unquoted('"').or_else(|| unquoted('\'')).unwrap_or(name)
}

/// A case's value of a column.
pub(super) fn value_of<'s>(side: &'s Side, case: usize, column: &str) -> Option<&'s str> {
    match column {
        "expected" => side.cases[case].expected.map(Label::as_str),
        "group" => side.group_of(case),
        name => {
            let name = column_name(name);
            let column = side.columns.iter().find(|column| column.name == name)?;
            column.values.get((*column.of_case.get(case)?)? as usize).map(String::as_str)
        }
    }
}

/// A filter that selects a part of the dataset.
fn filter(column: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("{column} = \"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
        None => format!("not {column}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::side::Column;
    use crate::compare::testing::answered;

    #[test]
    fn what_has_too_many_values_is_sliced_by_the_most_frequent_and_the_rest() {
        let sides = [(); 2].map(|()| {
            let values: Vec<String> = (0..60).map(|at| format!("v{at}")).collect();
            let of_case = (0..120).map(|at| Some(at % 60)).collect();
            Side { columns: vec![Column { name: "a b".to_owned(), values, of_case }], ..answered(120, |_| false) }
        });
        for written in ["col.\"a b\"", "col.'a b'", "a b"] {
            let options = CompareOptions { slices: vec![written.to_owned()], ..CompareOptions::default() };
            let found = compare(&sides[0], &sides[1], &options).slices;
            let rest = found.last().expect("parts");
            assert_eq!((found.len(), rest.value.as_deref(), rest.pairs), (51, Some("(other)"), 20));
            assert_eq!(found.iter().map(|part| part.pairs).sum::<u64>(), 120, "{written}");
            assert!(rest.filter.is_empty() && found[0].filter.starts_with(written), "{}", found[0].filter);
        }
    }
}
