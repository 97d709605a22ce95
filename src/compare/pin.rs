//! From runs to a baseline and back to a side of a comparison.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::baseline::{
    Baseline, BaselineCase, BaselineDataset, BaselineEvaluator, BaselineRun, BaselineScore, MissingScore,
};
use super::differences::is_same;
use super::operand::{Operand, OperandDataset, OperandKind, OperandRun};
use super::side::{CaseRef, Cell, Output, Side, SideEvaluator, Trial};

/// Why runs do not make a baseline.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PinError {
    /// There is none.
    #[error("a baseline needs at least one run")]
    NoRuns,
    /// A run is named twice.
    #[error("run {0} is named twice; each counts once")]
    Twice(String),
    /// A run is not whole.
    #[error(
        "run {run} cannot be a baseline: {errors} of its {trials} trials have no answer, more than {most:.0} % of them; \
         make up for them with `spanscore run --resume {run} --retry-failed`"
    )]
    Errors {
        /// The run.
        run: String,
        /// Trials without an answer.
        errors: u64,
        /// Trials planned.
        trials: u64,
        /// The largest share that is tolerated, in per cent.
        most: f64,
    },
    /// A run has a score that is no number.
    #[error("run {run} cannot be a baseline: {n} scores of `{evaluator}` are no finite numbers")]
    NotFinite {
        /// The run.
        run: String,
        /// The evaluator.
        evaluator: String,
        /// How many.
        n: usize,
    },
    /// An evaluator of a run broke too often.
    #[error(
        "run {run} cannot be a baseline: {missing} of {due} scores of `{evaluator}` are missing, more than {most:.0} % of them; \
         make a run in which the evaluator works"
    )]
    Scores {
        /// The run.
        run: String,
        /// The evaluator.
        evaluator: String,
        /// Scores that should be there and are not.
        missing: u32,
        /// Scores that should be there.
        due: u32,
        /// The largest share that is tolerated, in per cent.
        most: f64,
    },
    /// A run has two cases of one id.
    #[error("run {run} cannot be a baseline: it has case `{case}` twice, and a baseline knows cases by their id")]
    TwoCases {
        /// The run.
        run: String,
        /// The id.
        case: String,
    },
    /// The runs are not runs of the same thing.
    #[error(
        "runs {a} and {b} cannot be pooled: {what} differs ({base} and {head}); a baseline pools runs of the same suite, \
         dataset, prompt, model and evaluators"
    )]
    Different {
        /// One run.
        a: String,
        /// Another.
        b: String,
        /// What differs.
        what: String,
        /// In the one.
        base: String,
        /// In the other.
        head: String,
    },
}

/// The largest share of trials without an answer, and of missing scores of an evaluator, in a run that becomes a baseline.
const MOST_ERRORS: f64 = 0.02;

/// Pools runs, oldest first, into a baseline.
pub fn pin(sides: &[Side]) -> Result<Baseline, PinError> {
    for side in sides {
        is_whole(side)?;
        is_scored(side)?;
    }
    merged(sides)
}

/// The runs as one, whatever is missing in them.
fn merged(sides: &[Side]) -> Result<Baseline, PinError> {
    let first = sides.first().ok_or(PinError::NoRuns)?;
    let mut seen = BTreeSet::new();
    for side in sides {
        for run in &side.operand.runs {
            if !seen.insert(run.id.clone()) {
                return Err(PinError::Twice(run.id.clone()));
            }
        }
        same(first, side)?;
    }
    let mut order: Vec<usize> = (0..first.cases.len()).collect();
    order.sort_by(|a, b| first.cases[*a].id.cmp(&first.cases[*b].id));
    let places: Vec<HashMap<&str, usize>> = sides
        .iter()
        .map(|side| side.cases.iter().enumerate().map(|(at, case)| (case.id.as_str(), at)).collect())
        .collect();
    let cases = order.into_iter().map(|at| {
        let case = &first.cases[at];
        let of = |side: usize| places[side].get(case.id.as_str()).copied().unwrap_or(usize::MAX);
        pinned_case(sides, case, first.group_of(at), &of)
    });
    Ok(Baseline {
        suite: first.operand.suite.clone(),
        workflow: first.workflow.clone(),
        model: first.operand.model.clone(),
        provider: first.operand.provider.clone(),
        dataset: BaselineDataset { name: first.operand.dataset.name.clone(), digest: first.dataset },
        prompt_digest: first.prompt,
        model_digest: first.model,
        primary: first.primary.clone(),
        evaluators: first
            .evaluators
            .iter()
            .map(|e| BaselineEvaluator {
                id: e.id.clone(),
                version: e.version.clone(),
                kind: e.kind,
                direction: e.direction,
                unit: e.unit.clone(),
                digest: e.digest,
            })
            .collect(),
        runs: sides.iter().flat_map(pinned_runs).collect(),
        cases: cases.collect(),
    })
}

/// Several runs of the same thing as one side. What is missing in them stays missing: a gate's policy says how much may be.
pub fn pool(sides: &[Side]) -> Result<Side, PinError> {
    let mut pooled = side_of(&merged(sides)?, "");
    if let Some(first) = sides.first() {
        // What only a run knows.
        for (evaluator, own) in pooled.evaluators.iter_mut().zip(&first.evaluators) {
            evaluator.threshold = own.threshold;
        }
        pooled.operand.kind = OperandKind::Run;
        pooled.operand.name.clone_from(&first.operand.name);
    }
    Ok(pooled)
}

/// A baseline as a side; `name` is what people call it.
pub fn side_of(baseline: &Baseline, name: &str) -> Side {
    let trials: u32 = baseline.runs.iter().map(|run| run.repeat).sum();
    let per_case = trials as usize;
    let mut groups: Vec<String> = Vec::new();
    let mut known: HashMap<&str, u32> = HashMap::new();
    let mut cases = Vec::with_capacity(baseline.cases.len());
    let mut flat = Vec::with_capacity(baseline.cases.len() * per_case);
    for (seq, case) in baseline.cases.iter().enumerate() {
        let group = case.group.as_deref().map(|name| {
            *known.entry(name).or_insert_with(|| {
                groups.push(name.to_owned());
                groups.len() as u32 - 1
            })
        });
        cases.push(CaseRef {
            id: case.id.clone(),
            digest: u64::from_str_radix(&case.digest, 16).unwrap_or_default(),
            seq: seq as u64,
            group,
            expected: case.expected,
        });
        for at in 0..per_case {
            flat.push(Trial {
                output: case.output.get(at).and_then(|word| Output::from_name(word)).unwrap_or_default(),
                latency_ms: case.latency_ms.get(at).copied().flatten(),
                tokens: case.tokens.get(at).copied().unwrap_or_default(),
                cost_usd: case.cost_usd.get(at).copied().flatten(),
                trace_id: case.trace.get(at).copied().flatten(),
                span_id: case.span.get(at).copied().flatten(),
            });
        }
    }
    let evaluators = baseline.evaluators.iter().map(|e| SideEvaluator {
        id: e.id.clone(),
        version: e.version.clone(),
        kind: e.kind,
        direction: e.direction,
        threshold: None,
        unit: e.unit.clone(),
        digest: e.digest,
        cells: baseline
            .cases
            .iter()
            .flat_map(|case| {
                let values = case.scores.get(&e.id);
                (0..per_case).map(move |at| match values.and_then(|values| values.get(at)) {
                    Some(BaselineScore::Value(x)) => Cell::Value(*x),
                    Some(BaselineScore::Skipped) => Cell::Skipped,
                    Some(BaselineScore::Missing(MissingScore::Failed)) => Cell::Failed,
                    Some(BaselineScore::Missing(MissingScore::Absent)) | None => Cell::Absent,
                })
            })
            .collect(),
    });
    let list = |of: fn(&BaselineRun) -> &[String]| {
        let names: BTreeSet<String> = baseline.runs.iter().flat_map(|run| of(run).iter().cloned()).collect();
        names.into_iter().collect()
    };
    let mut side = Side {
        operand: Operand {
            kind: OperandKind::Baseline,
            name: name.to_owned(),
            runs: baseline
                .runs
                .iter()
                .map(|run| OperandRun {
                    id: run.id.to_string(),
                    name: run.name.clone(),
                    started_at: run.started_at.clone(),
                    git: run.git.clone(),
                })
                .collect(),
            suite: baseline.suite.clone(),
            dataset: OperandDataset {
                name: baseline.dataset.name.clone(),
                digest: baseline.dataset.digest.to_string(),
                cases: baseline.cases.len() as u64,
            },
            model: baseline.model.clone(),
            provider: baseline.provider.clone(),
            response_models: list(|run| &run.response_models),
            fingerprints: list(|run| &run.fingerprints),
            prompt_digest: baseline.prompt_digest.to_string(),
            trials_per_case: trials,
            trials: flat.len() as u64,
            errors: 0,
        },
        workflow: baseline.workflow.clone(),
        dataset: baseline.dataset.digest,
        prompt: baseline.prompt_digest,
        model: baseline.model_digest,
        primary: baseline.primary.clone(),
        evaluators: evaluators.collect(),
        runs: baseline.runs.iter().map(|run| (run.id.clone(), run.repeat)).collect(),
        groups,
        columns: Vec::new(),
        cases,
        trials: flat,
    };
    side.operand.errors = side.errors();
    side
}

/// What a pooled run says of itself.
fn pinned_runs(side: &Side) -> Vec<BaselineRun> {
    side.runs
        .iter()
        .zip(&side.operand.runs)
        .map(|((id, repeat), run)| BaselineRun {
            id: id.clone(),
            name: run.name.clone(),
            started_at: run.started_at.clone(),
            git: run.git.clone(),
            repeat: *repeat,
            response_models: side.operand.response_models.clone(),
            fingerprints: side.operand.fingerprints.clone(),
        })
        .collect()
}

fn pinned_case(sides: &[Side], case: &CaseRef, group: Option<&str>, of: &dyn Fn(usize) -> usize) -> BaselineCase {
    let trials: Vec<&Trial> = sides.iter().enumerate().flat_map(|(at, side)| side.trials_of(of(at))).collect();
    let mut scores = BTreeMap::new();
    for evaluator in &sides[0].evaluators {
        let cells = sides.iter().enumerate().flat_map(|(at, side)| {
            let place = side.evaluator(evaluator.id.as_str()).unwrap_or(usize::MAX);
            side.cells_of(place, of(at))
        });
        let values = cells.map(|cell| match cell {
            Cell::Value(x) => BaselineScore::Value(*x),
            Cell::Skipped => BaselineScore::Skipped,
            Cell::Failed => BaselineScore::Missing(MissingScore::Failed),
            Cell::Absent | Cell::NotFinite => BaselineScore::Missing(MissingScore::Absent),
        });
        scores.insert(evaluator.id.clone(), values.collect());
    }
    let latency: Vec<Option<f64>> = trials.iter().map(|t| t.latency_ms.map(|ms| (ms * 1e3).round() / 1e3)).collect();
    let tokens: Vec<[Option<u64>; 2]> = trials.iter().map(|t| t.tokens).collect();
    let cost: Vec<Option<f64>> = trials.iter().map(|t| t.cost_usd).collect();
    BaselineCase {
        id: case.id.clone(),
        digest: format!("{:016x}", case.digest),
        group: group.map(str::to_owned),
        expected: case.expected,
        output: trials.iter().map(|t| t.output.as_str().to_owned()).collect(),
        scores,
        latency_ms: if latency.iter().any(Option::is_some) { latency } else { Vec::new() },
        tokens: if tokens.iter().flatten().any(Option::is_some) { tokens } else { Vec::new() },
        cost_usd: if cost.iter().any(Option::is_some) { cost } else { Vec::new() },
        trace: trials.iter().map(|t| t.trace_id).collect(),
        span: trials.iter().map(|t| t.span_id).collect(),
    }
}

fn name(side: &Side) -> String {
    side.runs.first().map_or_else(String::new, |(id, _)| id.to_string())
}

fn is_whole(side: &Side) -> Result<(), PinError> {
    let (errors, trials) = (side.errors(), side.trials.len() as u64);
    if trials == 0 || errors as f64 > MOST_ERRORS * trials as f64 {
        return Err(PinError::Errors { run: name(side), errors, trials, most: MOST_ERRORS * 100.0 });
    }
    if let Some((evaluator, n)) = side.not_finite().next() {
        return Err(PinError::NotFinite { run: name(side), evaluator: evaluator.to_string(), n });
    }
    let mut ids: Vec<&str> = side.cases.iter().map(|case| case.id.as_str()).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(PinError::TwoCases { run: name(side), case: pair[0].to_owned() }),
        None => Ok(()),
    }
}

fn is_scored(side: &Side) -> Result<(), PinError> {
    for (place, evaluator) in side.evaluators.iter().enumerate() {
        let scored = side.scored(place);
        if f64::from(scored.missing) > MOST_ERRORS * f64::from(scored.due()) {
            let (run, evaluator) = (name(side), evaluator.id.to_string());
            let (missing, due) = (scored.missing, scored.due());
            return Err(PinError::Scores { run, evaluator, missing, due, most: MOST_ERRORS * 100.0 });
        }
    }
    Ok(())
}

fn same(first: &Side, side: &Side) -> Result<(), PinError> {
    let differs = |what: &str, a: String, b: String| {
        Err(PinError::Different { a: name(first), b: name(side), what: what.to_owned(), base: a, head: b })
    };
    let model = |side: &Side| format!("{} ({})", side.operand.model, super::operand::short(&side.model));
    let parts = [
        ("suite", first.operand.suite.clone(), side.operand.suite.clone()),
        ("dataset", super::load::dataset_of(first), super::load::dataset_of(side)),
        ("prompt", super::operand::short(&first.prompt), super::operand::short(&side.prompt)),
        ("model", model(first), model(side)),
        ("workflow", first.workflow.clone(), side.workflow.clone()),
    ];
    for (what, one, other) in parts {
        if one != other {
            return differs(what, one, other);
        }
    }
    let ids = |side: &Side| side.evaluators.iter().map(|e| e.id.to_string()).collect::<Vec<_>>().join(", ");
    if ids(first) != ids(side) {
        return differs("the list of evaluators", ids(first), ids(side));
    }
    for (a, b) in first.evaluators.iter().zip(&side.evaluators) {
        if !is_same(a, b) {
            return differs(&format!("evaluator {}", a.id), a.version.clone(), b.version.clone());
        }
    }
    Ok(())
}
