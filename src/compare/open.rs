//! From words to sides: what a person calls a run or a baseline, read from the store or a file, compared or judged, with the
//! claims of the cases that are shown.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::build::{CompareOptions, column_name, compare};
use super::cases::{cases, unpaired};
use super::comparison::{CaseChange, Cases, Comparison, Unpaired};
use super::file::{self, BaselineError};
use super::gate::{GateReport, Policy, Verdict};
use super::judge::{self, Past, PolicyError};
use super::load::load_run;
use super::pair::pair;
use super::pin::side_of;
use super::side::{Column, Side};
use super::simulate::Simulation;
use crate::config::GatePlan;
use crate::store::rows::RunRow;
use crate::store::{JudgedRun, Reader, StoreError};

/// Why operands cannot be compared or judged.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A baseline file.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// The policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A difference that there cannot be.
    #[error("--allow {name}: the sides have nothing of that name that may differ; they have {known}")]
    UnknownAllowance {
        /// What is to be allowed.
        name: String,
        /// What could be.
        known: String,
    },
    /// A column to slice by that the dataset does not have.
    #[error("`{side}` cannot be sliced by `{column}`: no case of it has such a column{known}")]
    UnknownColumn {
        /// What was to be sliced.
        side: String,
        /// The column.
        column: String,
        /// The columns that there are, as a clause.
        known: String,
    },
}

/// What a person named.
#[derive(Debug, Clone, PartialEq)]
pub enum Named {
    /// A run of the store.
    Run(Box<RunRow>),
    /// A baseline file.
    Baseline(PathBuf),
}

/// What a text means: a baseline where it is the path of a file or ends in `.json`, else a run.
pub fn resolve(reader: &Reader, text: &str) -> Result<Named, OpenError> {
    let path = Path::new(text);
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    if is_json || path.is_file() {
        return Ok(Named::Baseline(path.to_owned()));
    }
    Ok(Named::Run(Box::new(reader.resolve_run(text)?)))
}

/// The side of what was named; of a run's dataset with these columns.
pub fn open(reader: &Reader, named: &Named, columns: &[String]) -> Result<Side, OpenError> {
    match named {
        Named::Run(run) => Ok(load_run(reader, run, columns)?),
        Named::Baseline(path) => {
            let mut side = open_baseline(path)?.0;
            // It keeps none of the dataset's other columns.
            side.columns = columns.iter().map(|name| Column { name: name.clone(), ..Column::default() }).collect();
            Ok(side)
        }
    }
}

/// A baseline file as a side, and its digest.
pub fn open_baseline(path: &Path) -> Result<(Side, String), BaselineError> {
    let pinned = file::read(path)?;
    Ok((side_of(&pinned.baseline, &path.display().to_string()), pinned.digest))
}

/// The columns of the dataset that slices ask for.
pub fn columns_of(slices: &[String]) -> Vec<String> {
    let own = |name: &&String| name.as_str() != "expected" && name.as_str() != "group";
    slices.iter().filter(own).map(|name| column_name(name).to_owned()).collect()
}

/// Compares what was named, and adds the claims of the listed cases.
pub fn compare_named(
    readers: [&Reader; 2],
    base: &Named,
    head: &Named,
    options: &CompareOptions,
) -> Result<Comparison, OpenError> {
    let columns = columns_of(&options.slices);
    let (then, now) = (open(readers[0], base, &[])?, open(readers[1], head, &columns)?);
    if let Some(missing) = now.columns.iter().find(|column| column.values.is_empty()) {
        let known = match head {
            Named::Run(run) => known_columns(readers[1], run)?,
            Named::Baseline(_) => "; a baseline keeps no columns: name a run as HEAD".to_owned(),
        };
        let side = now.operand.name.clone();
        return Err(OpenError::UnknownColumn { side, column: missing.name.clone(), known });
    }
    let ids = then.evaluators.iter().chain(&now.evaluators).map(|evaluator| evaluator.id.as_str());
    let known: BTreeSet<&str> = ids.chain(["dataset", "evaluator"]).collect();
    if let Some(name) = options.allow.iter().find(|name| !known.contains(name.as_str())) {
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        return Err(OpenError::UnknownAllowance { name: name.clone(), known });
    }
    let mut comparison = compare(&then, &now, options);
    let places = Places { base: (base, &then), head: (head, &now) };
    for list in [&mut comparison.cases.regressed, &mut comparison.cases.improved, &mut comparison.cases.lost] {
        places.claim(readers[1], list)?;
    }
    Ok(comparison)
}

/// This part of each list of cases of a comparison, with their claims: what a limit left out of it.
pub fn cases_named(
    readers: [&Reader; 2],
    base: &Named,
    head: &Named,
    part: Range<usize>,
) -> Result<(Cases, Unpaired), OpenError> {
    let (then, now) = (open(readers[0], base, &[])?, open(readers[1], head, &[])?);
    let pairing = pair(&then, &now);
    let mut found = cases(&then, &now, &pairing, part.clone());
    let places = Places { base: (base, &then), head: (head, &now) };
    for list in [&mut found.regressed, &mut found.improved, &mut found.lost] {
        places.claim(readers[1], list)?;
    }
    Ok((found, unpaired(&then, &now, &pairing, part)))
}

/// The columns of a run's dataset, as a clause of an error.
pub(super) fn known_columns(reader: &Reader, run: &RunRow) -> Result<String, StoreError> {
    let mut known = BTreeSet::new();
    reader.for_each_side_case(run, true, |case| {
        for (name, _) in case.columns {
            if !known.contains(&name) {
                known.insert(name);
            }
        }
    })?;
    let names: Vec<String> = known.into_iter().collect();
    Ok(if names.is_empty() { String::new() } else { format!("; it has {}", names.join(", ")) })
}

/// Judges a run against a baseline file. A baseline that cannot be read makes the verdict INVALID, or FAIL where a case that
/// must pass was answered wrong; a policy that makes no sense, and a store that cannot be read, are errors.
///
/// With a simulation the verdict comes with the rates at which it would be wrong on these data.
pub fn gate(
    reader: &Reader,
    run: &RunRow,
    policy: &Policy,
    baseline: &Path,
    simulation: Option<&Simulation>,
) -> Result<GateReport, OpenError> {
    check(policy, run)?;
    let head = load_run(reader, run, &[])?;
    let shown = baseline.display().to_string();
    let (base, digest) = match open_baseline(baseline) {
        Ok(found) => found,
        Err(error) => {
            let must_pass = judge::must_pass(&head, &policy.must_pass);
            return Ok(judge::without_baseline(&head.operand, must_pass, policy, &shown, error.to_string()));
        }
    };
    let past = past(reader, run, &digest, policy.confirm)?;
    let mut report = judge::judge(&base, &head, policy, &past);
    report.baseline_digest = Some(digest);
    if report.metrics.iter().all(|metric| metric.verdict != Verdict::Invalid) {
        report.self_check = simulation.map(|how| judge::self_check(&base, &head, policy, how));
    }
    let (in_base, in_head) = (Named::Baseline(baseline.to_owned()), Named::Run(Box::new(run.clone())));
    let places = Places { base: (&in_base, &base), head: (&in_head, &head) };
    places.claim(reader, &mut report.regressed)?;
    places.claim(reader, &mut report.improved)?;
    Ok(report)
}

/// Checks a policy against a run.
pub fn check(policy: &Policy, run: &RunRow) -> Result<(), PolicyError> {
    let evaluators: Vec<_> = run.spec.evaluators.iter().map(|e| (e.id.clone(), e.kind)).collect();
    judge::check(policy, &evaluators)
}

/// What the store keeps of a verdict.
pub fn judged(report: &GateReport) -> JudgedRun {
    JudgedRun {
        verdict: report.verdict.as_str().to_owned(),
        baseline: report.baseline_digest.clone(),
        report: serde_json::to_value(report).unwrap_or_default(),
    }
}

/// What became of the suite's earlier runs that were judged against the same baseline, as far back as `confirm` asks. Runs
/// that nobody judged, and those that could not be judged, say nothing of it.
pub fn past(reader: &Reader, run: &RunRow, digest: &str, confirm: u32) -> Result<Past, StoreError> {
    let place = |run: &RunRow| (run.spec.started_unix_nano, run.number);
    let mut past = Past::default();
    if confirm < 2 {
        return Ok(past);
    }
    for other in reader.runs()? {
        if other.spec.suite != run.spec.suite || place(&other) >= place(run) {
            continue;
        }
        let judged = reader
            .verdict(&other)?
            .filter(|judged| judged.baseline.as_deref() == Some(digest) && judged.verdict != Verdict::Invalid.as_str());
        let Some(judged) = judged else { continue };
        let metrics = judged.report.get("metrics").and_then(|metrics| metrics.as_array());
        let fails = metrics.into_iter().flatten().filter(|one| one["verdict"] == Verdict::Fail.as_str());
        past.failed.push(fails.filter_map(|one| Some(one["name"].as_str()?.to_owned())).collect());
        if past.failed.len() as u32 + 1 >= confirm {
            break;
        }
    }
    Ok(past)
}

/// Where the claims of the cases are to be found.
struct Places<'a> {
    base: (&'a Named, &'a Side),
    head: (&'a Named, &'a Side),
}

impl Places<'_> {
    /// Adds the claims of listed cases, from whichever side is a run.
    fn claim(&self, reader: &Reader, cases: &mut [CaseChange]) -> Result<(), StoreError> {
        let (((Named::Run(run), side), _) | (_, (Named::Run(run), side))) = (self.head, self.base) else {
            return Ok(());
        };
        if cases.is_empty() {
            return Ok(());
        }
        let seqs: std::collections::HashMap<&str, u64> =
            side.cases.iter().map(|case| (case.id.as_str(), case.seq)).collect();
        for case in cases {
            if let Some(seq) = seqs.get(case.case_id.as_str()) {
                case.claim = reader.claim_of(run, *seq)?;
            }
        }
        Ok(())
    }
}

impl Policy {
    /// The policy of a suite, with defaults where it says nothing.
    pub fn of(plan: &GatePlan) -> Self {
        let default = Self::default();
        let margins =
            |(name, margin): (&String, &Option<f64>)| (name.clone(), margin.unwrap_or(super::gate::DEFAULT_MARGIN));
        // A gate on cases alone is a gate, but only where it is asked for.
        let metrics = plan.metrics.as_ref().map_or(default.metrics, |metrics| metrics.iter().map(margins).collect());
        Self {
            metrics,
            alpha: plan.alpha.unwrap_or(default.alpha),
            horizon: plan.horizon.unwrap_or(default.horizon),
            min_coverage: plan.min_coverage.unwrap_or(default.min_coverage),
            max_error_share: plan.max_error_share.unwrap_or(default.max_error_share),
            must_pass: plan.must_pass.clone(),
            confirm: plan.confirm.unwrap_or(default.confirm),
            allow: plan.allow.clone(),
            seed: default.seed,
        }
    }
}
