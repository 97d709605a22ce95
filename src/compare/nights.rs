//! A score over the runs of a suite, oldest first: its level in each, where the level changed, and what was run
//! differently that night.

use std::collections::{BTreeMap, HashMap};

use super::build::value_of;
use super::differences::differences;
use super::judge::known_metrics;
use super::load::load_run;
use super::open::{columns_of, known_columns};
use super::operand::{Difference, rfc3339};
use super::side::{Cell, Side};
use super::trend::{ENOUGH, GateLine, Trend, TrendChange, TrendPoint, TrendSlice};
use crate::stats::bootstrap::Bootstrap;
use crate::stats::change::{ChangePoint, ChangeSettings, change_points};
use crate::stats::confusion::UNPARSEABLE;
use crate::stats::{Cluster, ConfusionAccumulator, Estimate, MeanAccumulator, quantile};
use crate::store::rows::RunRow;
use crate::store::{Reader, StoreError};

/// What is asked of a trend.
#[derive(Debug, Clone, PartialEq)]
pub struct TrendOptions {
    /// The suite; `None` takes that of the newest run.
    pub suite: Option<String>,
    /// The score; `None` takes the newest run's primary evaluator.
    pub score: Option<String>,
    /// Columns to slice by, as queries spell them.
    pub slices: Vec<String>,
    /// The newest runs to look at.
    pub last: usize,
    /// Chance of a change that is none.
    pub alpha: f64,
}

impl Default for TrendOptions {
    fn default() -> Self {
        Self { suite: None, score: None, slices: Vec::new(), last: 100, alpha: 0.05 }
    }
}

/// Why there is no trend.
#[derive(Debug, thiserror::Error)]
pub enum TrendError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No run.
    #[error("the store has no run of suite `{suite}`; it has {known}")]
    NoSuite {
        /// The suite.
        suite: String,
        /// The suites that it has.
        known: String,
    },
    /// Not a single run.
    #[error("the store has no run yet; `spanscore run` makes one")]
    NoRuns,
    /// No such column.
    #[error("no run of suite `{suite}` can be sliced by `{column}`: no case has such a column{known}")]
    UnknownColumn {
        /// The suite.
        suite: String,
        /// The column.
        column: String,
        /// The columns that there are, as a clause.
        known: String,
    },
    /// No such score.
    #[error("no run of suite `{suite}` has a score `{score}`; there are {known}")]
    UnknownScore {
        /// The suite.
        suite: String,
        /// The score.
        score: String,
        /// The scores that there are.
        known: String,
    },
}

/// Values of a column that are sliced by.
const SLICES: usize = 20;

/// The trend of a score over the runs of a suite. Runs that are under way are left out.
pub fn trend(reader: &Reader, options: &TrendOptions) -> Result<Trend, TrendError> {
    let runs = chosen(reader, options)?;
    let newest = runs.last().ok_or(TrendError::NoRuns)?;
    let suite = newest.spec.suite.clone();
    let score = options.score.clone().unwrap_or_else(|| newest.spec.primary.to_string());
    let evaluators: Vec<_> = runs.iter().flat_map(|run| run.spec.evaluators.iter().map(|e| e.id.clone())).collect();
    let mut known = known_metrics(evaluators.iter());
    known.sort();
    known.dedup();
    if !known.contains(&score) {
        return Err(TrendError::UnknownScore { suite, score, known: known.join(", ") });
    }
    let verdicts = reader.verdicts()?;
    let columns = columns_of(&options.slices);
    let mut whole = Line::default();
    let mut parts: BTreeMap<(usize, Option<String>), Line> = BTreeMap::new();
    let mut before: Option<Side> = None;
    let mut unknown = columns.clone();
    for run in &runs {
        let side = load_run(reader, run, &columns)?;
        unknown.retain(|name| side.columns.iter().all(|column| column.name != *name || column.values.is_empty()));
        let mut point = TrendPoint {
            run_id: run.spec.run_id.to_string(),
            name: run.spec.name.clone(),
            started_at: rfc3339(run.spec.started_unix_nano),
            verdict: verdicts.get(&run.number).cloned(),
            changed: before.as_ref().map(|before| differences(before, &side)).unwrap_or_default(),
            ..TrendPoint::default()
        };
        for (place, column) in options.slices.iter().enumerate() {
            let mut cases: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
            for case in 0..side.cases.len() {
                cases.entry(value_of(&side, case, column)).or_default().push(case);
            }
            for (value, cases) in cases {
                let line = parts.entry((place, value.map(str::to_owned))).or_default();
                line.cases += cases.len();
                line.points.push(with(&point, level(&side, &score, cases.into_iter())));
            }
        }
        point = with(&point, level(&side, &score, 0..side.cases.len()));
        whole.points.push(point);
        before = Some(stripped(side));
    }
    if let Some(column) = unknown.into_iter().next() {
        let known = known_columns(reader, newest)?;
        return Err(TrendError::UnknownColumn { suite, column, known });
    }
    let mut slices: Vec<((usize, Option<String>), Line)> = parts.into_iter().collect();
    // The largest parts of each column.
    slices.sort_by(|a, b| a.0.0.cmp(&b.0.0).then(b.1.cases.cmp(&a.1.cases)).then_with(|| a.0.1.cmp(&b.0.1)));
    let mut seen: HashMap<usize, usize> = HashMap::new();
    slices.retain(|((place, _), _)| {
        let n = seen.entry(*place).or_default();
        *n += 1;
        *n <= SLICES
    });
    let mut result = whole.finish(&score, &suite, None, options.alpha);
    result.unit = unit_of(newest, &score);
    result.gate = gate_line(reader, &runs, &score)?;
    result.slices = slices
        .into_iter()
        .map(|((place, value), line)| {
            let slice = TrendSlice { column: options.slices[place].clone(), value };
            Trend { unit: result.unit.clone(), ..line.finish(&score, &suite, Some(slice), options.alpha) }
        })
        .collect();
    Ok(result)
}

/// The unit of a score: that of its evaluator, or of what its name says.
fn unit_of(run: &RunRow, score: &str) -> String {
    let id = score.strip_prefix("score.").unwrap_or(score);
    let own = run.spec.evaluators.iter().find(|evaluator| evaluator.id.as_str() == id);
    match (score, own) {
        ("accuracy" | "macro_f1" | "mcc" | "kappa", _) => "1".to_owned(),
        ("latency_p50_ms" | "latency_p95_ms", _) => "ms".to_owned(),
        ("input_tokens" | "output_tokens", _) => "{token}".to_owned(),
        ("cost_usd", _) => "USD".to_owned(),
        (_, Some(evaluator)) => evaluator.unit.clone(),
        (_, None) => "1".to_owned(),
    }
}

/// What the newest verdict that judged a score allows of it. Verdicts of older programs are read as far as they go.
fn gate_line(reader: &Reader, runs: &[RunRow], score: &str) -> Result<Option<GateLine>, StoreError> {
    for run in runs.iter().rev() {
        let Some(judged) = reader.verdict(run)? else { continue };
        let metrics = judged.report.get("metrics").and_then(|metrics| metrics.as_array());
        let Some(metric) = metrics.and_then(|all| all.iter().find(|metric| metric["name"] == score)) else { continue };
        let Some((base, margin)) = metric["base"].as_f64().zip(metric["margin"].as_f64()) else { continue };
        let value = if metric["direction"] == "lower" { base + margin } else { base - margin };
        return Ok(Some(GateLine { run_id: run.spec.run_id.to_string(), base, margin, value }));
    }
    Ok(None)
}

/// The runs of the suite, oldest first.
fn chosen(reader: &Reader, options: &TrendOptions) -> Result<Vec<RunRow>, TrendError> {
    let all = reader.runs()?;
    let suite = match (&options.suite, all.first()) {
        (Some(suite), _) => suite.clone(),
        (None, Some(newest)) => newest.spec.suite.clone(),
        (None, None) => return Err(TrendError::NoRuns),
    };
    let mut known: Vec<String> = all.iter().map(|run| run.spec.suite.clone()).collect();
    let mut runs: Vec<RunRow> = all
        .into_iter()
        .filter(|run| run.spec.suite == suite && !reader.is_live(&run.spec.run_id))
        .take(options.last.max(1))
        .collect();
    if runs.is_empty() {
        known.sort();
        known.dedup();
        return Err(TrendError::NoSuite { suite, known: known.join(", ") });
    }
    runs.reverse();
    Ok(runs)
}

/// A side without its cases: what [`differences`] looks at.
fn stripped(side: Side) -> Side {
    let mut side = Side { cases: Vec::new(), trials: Vec::new(), columns: Vec::new(), groups: Vec::new(), ..side };
    for evaluator in &mut side.evaluators {
        evaluator.cells = Vec::new();
    }
    side
}

fn with(point: &TrendPoint, level: Estimate) -> TrendPoint {
    TrendPoint { mean: level.value, ci95: level.ci95, n: level.n, ..point.clone() }
}

/// The level of a score over some cases of a run.
pub fn level(side: &Side, score: &str, cases: impl Iterator<Item = usize>) -> Estimate {
    let cluster = |case: usize| {
        Cluster::of_trial(side.cases[case].group, case as u64, u32::try_from(side.per_case()).unwrap_or(u32::MAX))
    };
    let per_case = side.per_case();
    let agreement: Option<fn(crate::stats::Analysis) -> Estimate> = match score {
        "accuracy" => Some(|analysis| analysis.accuracy),
        "macro_f1" => Some(|analysis| analysis.macro_f1),
        "mcc" => Some(|analysis| analysis.mcc),
        "kappa" => Some(|analysis| analysis.kappa),
        _ => None,
    };
    if let Some(of) = agreement {
        let mut matrix = ConfusionAccumulator::default();
        for case in cases {
            let Some(expected) = side.cases[case].expected else { continue };
            for trial in side.trials_of(case).iter().filter(|trial| trial.output.is_answer()) {
                matrix.add(expected.index(), (trial.output as usize).min(UNPARSEABLE), cluster(case));
            }
        }
        return of(matrix.analyse(Bootstrap::default(), 0));
    }
    let quantile = match score {
        "latency_p50_ms" => Some(0.5),
        "latency_p95_ms" => Some(0.95),
        _ => None,
    };
    if let Some(p) = quantile {
        let answers = cases.flat_map(|case| side.trials_of(case)).filter_map(|trial| trial.latency_ms);
        let mut values: Vec<f64> = answers.collect();
        values.sort_by(f64::total_cmp);
        let method = "quantile of the answers' latencies".to_owned();
        let n = values.len() as u64;
        return Estimate { value: quantile::of_sorted(&values, p), method, n, ..Estimate::default() };
    }
    let evaluator = side.evaluator(score.strip_prefix("score.").unwrap_or(score));
    let mut mean = MeanAccumulator::default();
    for case in cases {
        for trial in 0..per_case {
            let found = match (score, evaluator) {
                ("input_tokens", _) => side.trials_of(case)[trial].tokens[0].map(|n| n as f64),
                ("output_tokens", _) => side.trials_of(case)[trial].tokens[1].map(|n| n as f64),
                ("cost_usd", _) => side.trials_of(case)[trial].cost_usd,
                (_, Some(place)) => match side.cells_of(place, case)[trial] {
                    Cell::Value(x) => Some(x),
                    _ => None,
                },
                _ => None,
            };
            if let Some(x) = found {
                mean.add(x, cluster(case));
            }
        }
    }
    mean.estimate()
}

/// The points of a trend while they come in.
#[derive(Default)]
struct Line {
    points: Vec<TrendPoint>,
    cases: usize,
}

impl Line {
    fn finish(self, score: &str, suite: &str, slice: Option<TrendSlice>, alpha: f64) -> Trend {
        let (changes, warnings) = changes(&self.points, alpha);
        Trend {
            score: score.to_owned(),
            suite: suite.to_owned(),
            slice,
            unit: String::new(),
            gate: None,
            points: self.points,
            changes,
            warnings,
            slices: Vec::new(),
        }
    }
}

/// Where the level changed. Runs without a value are passed over.
fn changes(points: &[TrendPoint], alpha: f64) -> (Vec<TrendChange>, Vec<String>) {
    let known: Vec<(usize, f64)> =
        points.iter().enumerate().filter_map(|(at, point)| Some((at, point.mean?))).collect();
    let series: Vec<f64> = known.iter().map(|(_, x)| *x).collect();
    let mut warnings = Vec::new();
    if series.len() < points.len() {
        warnings.push(format!("{} runs have no value and are passed over", points.len() - series.len()));
    }
    if (2..ENOUGH).contains(&series.len()) {
        warnings.push(format!(
            "{} runs are too few to tell a change of level from chance; from {ENOUGH} on they are looked for",
            series.len()
        ));
    }
    let settings = ChangeSettings { level: alpha, ..ChangeSettings::default() };
    let found = change_points(&series, &settings).into_iter().filter_map(|change| {
        let ChangePoint { index, before, after, p_value } = change;
        let at = known.get(index)?.0;
        let point = points.get(at)?;
        // What changed since the last run that has a value counts, too.
        let from = index.checked_sub(1).and_then(|index| known.get(index)).map_or(at, |(at, _)| at + 1);
        let mut annotations: Vec<Difference> = Vec::new();
        for change in points[from..=at].iter().flat_map(|point| &point.changed) {
            if !annotations.contains(change) {
                annotations.push(change.clone());
            }
        }
        Some(TrendChange { at_run: point.run_id.clone(), index: at as u64, before, after, p_value, annotations })
    });
    (found.collect(), warnings)
}
