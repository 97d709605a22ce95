//! The JSON document of `run` and `show`, field for field as promised; the terminal shows the same values.
//!
//! [`build`] reads the store, [`assemble`] puts together what was read; neither knows where the document goes.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::model::{Evaluation, EvaluatorKind, Label, Outcome, Predicted, RunStatus, SpanId, TraceId};
use crate::stats::{Analysis, Estimate};
use crate::store::rows::{CaseRow, RunRow};
use crate::store::{OutboxCounts, Reader, StoreError};

use super::collect::{Collected, Collector};
use super::details::Details;
use super::format::rfc3339;
use super::link;

/// How many of the lowest cases a report names.
pub const LOWEST: usize = 10;

/// Pairs that keep their order, written as a JSON object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ordered<T>(pub Vec<(String, T)>);

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// The report of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was run.
    pub run: Run,
    /// Trials by outcome.
    pub trials: Trials,
    /// Each evaluator, in the suite's order.
    pub evaluators: Ordered<Evaluator>,
    /// How well answers agree with expected labels.
    pub metrics: Metrics,
    /// Wall time of model calls that gave an answer, retries included.
    pub latency_ms: Latency,
    /// Tokens of all calls.
    pub tokens: Tokens,
    /// Price of all calls; `None` where no price is known.
    pub cost_usd: Option<f64>,
    /// Answers that `cost_usd` leaves out because their price is unknown.
    pub unpriced: u64,
    /// HTTP tries of all calls.
    pub attempts: u64,
    /// Failed trials by class of error, the most frequent first.
    pub errors: Vec<ErrorCount>,
    /// What became of the spans.
    pub spans: Spans,
    /// What became of the scores at backends that keep them as scores.
    pub scores: Scores,
    /// The verdict against a baseline; `None` where none was asked for.
    pub gate: Option<serde_json::Value>,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// The cases with the lowest scores.
    pub lowest: Vec<LowCase>,
    /// What `show` adds; `run` does not wait for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
}

/// What was run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `running`, `completed`, `interrupted`, `incomplete` or `refused`.
    pub status: &'static str,
    /// The suite.
    pub suite: String,
    /// The workflow.
    pub workflow: String,
    /// The model asked for.
    pub model: String,
    /// Who serves it.
    pub provider: String,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// Time that its sessions took together.
    pub duration_s: f64,
    /// What it was run on.
    pub dataset: Dataset,
    /// The working copy.
    pub git: Option<Git>,
    /// How many times each case was run.
    pub repeat: u32,
    /// The evaluator that decides whether a case passed.
    pub primary: String,
    /// SHA-256 of the prompt.
    pub prompt_digest: String,
}

/// What a run was run on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dataset {
    /// The file's stem.
    pub name: String,
    /// SHA-256 of the selected cases' sorted digests.
    pub digest: String,
    /// How many cases were selected.
    pub cases: u64,
    /// Cases with an outcome that have no expected label.
    pub unlabelled: u64,
}

/// The state of a working copy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Git {
    /// The commit.
    pub revision: String,
    /// Whether tracked files differed from it.
    pub dirty: bool,
}

/// Trials by outcome; those that are in no other count have no outcome yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Trials {
    /// Cases × repeats.
    pub planned: u64,
    /// With an answer.
    pub completed: u64,
    /// Without one.
    pub failed: u64,
    /// Not tried.
    pub skipped: u64,
}

impl Trials {
    /// Trials without an outcome.
    pub const fn unrecorded(&self) -> u64 {
        self.planned.saturating_sub(self.completed + self.failed + self.skipped)
    }
}

/// An evaluator's scores in sum.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluator {
    /// `assertion`, `number` or `label`.
    pub kind: &'static str,
    /// Its version.
    pub version: String,
    /// Trials with a score.
    pub scored: u64,
    /// Trials on which it broke.
    pub failed: u64,
    /// Trials to which it does not apply.
    pub skipped: u64,
    /// Trials of which nothing is recorded.
    pub absent: u64,
    /// Mean of its numbers; `None` for pure labels.
    pub mean: Option<f64>,
    /// The mean's 95 % interval.
    pub ci95: Option<[f64; 2]>,
    /// The mean of an assertion with every missing one failed, and with every one passed.
    pub bounds: Option<[f64; 2]>,
    /// How the interval was made.
    pub method: String,
    /// How many numbers stand behind the mean.
    pub n: u64,
    /// How often it gave each label.
    pub labels: BTreeMap<String, u64>,
}

/// How well answers agree with expected labels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metrics {
    /// Share of right answers.
    pub accuracy: Estimate,
    /// Mean F1 of the labels with support.
    pub macro_f1: Estimate,
    /// Matthews' correlation coefficient for several classes.
    pub mcc: Estimate,
    /// Cohen's κ.
    pub kappa: Estimate,
    /// Each label.
    pub per_class: Ordered<PerClass>,
    /// The matrix.
    pub confusion: ConfusionMatrix,
    /// How NEE is used.
    pub abstention: Abstention,
}

/// How well one label is found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PerClass {
    /// Share of its predictions that are right.
    pub precision: Estimate,
    /// Share of its cases that are found.
    pub recall: Estimate,
    /// Their harmonic mean.
    pub f1: Estimate,
    /// Answers that were expected to be it.
    pub support: u64,
}

/// Counts by expected label and predicted class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfusionMatrix {
    /// The rows.
    pub expected: Vec<&'static str>,
    /// The columns.
    pub predicted: Vec<&'static str>,
    /// The counts, row by row.
    pub matrix: Vec<Vec<u64>>,
}

/// How NEE is used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Abstention {
    /// Share of NEE among answers where True or False was expected.
    pub over_use: Estimate,
    /// Share of True and False among answers where NEE was expected.
    pub under_use: Estimate,
}

/// Quantiles of latency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: Option<f64>,
    /// The 95 % quantile.
    pub p95: Option<f64>,
}

/// Tokens; `None` where nobody counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Of requests.
    pub input: Option<u64>,
    /// Of answers.
    pub output: Option<u64>,
}

/// How often a class of error occurred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorCount {
    /// The class: `429`, `timeout`, ….
    pub error_type: String,
    /// Failed trials.
    pub trials: u64,
}

/// What became of the spans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Spans {
    /// Made by the run.
    pub created: u64,
    /// Found in the store.
    pub stored: u64,
    /// Removed by retention.
    pub pruned: u64,
    /// What each destination got.
    pub exported: BTreeMap<String, Exported>,
    /// The query that finds the run's scores in Application Insights, where it was delivered there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kql: Option<String>,
}

/// A run's scores apart from its spans.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Scores {
    /// What each sink got.
    pub exported: BTreeMap<String, Exported>,
}

/// What a destination got of a run's spans, or a sink of its scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Acknowledged.
    pub delivered: u64,
    /// Still to be sent.
    pub pending: u64,
    /// Refused for good.
    pub rejected: u64,
    /// Left out by the sampler.
    pub not_sampled: u64,
    /// Sent twice because an acknowledgement was lost.
    pub duplicates: u64,
}

/// A case with a low score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LowCase {
    /// The case.
    pub case_id: String,
    /// Which repeat, from 0.
    pub repeat: u32,
    /// The gold label.
    pub expected: Option<&'static str>,
    /// What the answer was taken for.
    pub output: Option<&'static str>,
    /// Its numbers; `None` where an evaluator gave none.
    pub scores: BTreeMap<String, Option<f64>>,
    /// The trace of its batch.
    pub trace_id: Option<TraceId>,
    /// Its `assess_claim` span, which carries the scores.
    pub span_id: Option<SpanId>,
    /// Where to see it.
    pub trace_url: Option<String>,
    /// The claim.
    pub claim: String,
    /// The class of error of a failed trial.
    pub error: Option<String>,
}

/// What [`assemble`] needs beside the run and its collected facts.
#[derive(Debug, Clone, Default)]
pub struct Rest {
    /// Whether the run is under way in some process.
    pub live: bool,
    /// The cases with the lowest scores.
    pub lowest: Vec<CaseRow>,
    /// Failed trials by class of error.
    pub errors: BTreeMap<String, u64>,
    /// Spans of the run in the store.
    pub spans_stored: u64,
    /// What each destination got.
    pub exported: BTreeMap<String, Exported>,
    /// What each sink got.
    pub scores: BTreeMap<String, Exported>,
}

impl From<OutboxCounts> for Exported {
    fn from(counts: OutboxCounts) -> Self {
        let OutboxCounts { delivered, pending, rejected, not_sampled, duplicates, .. } = counts;
        Self { delivered, pending, rejected, not_sampled, duplicates }
    }
}

/// The report of a run from the store. `live` tells whether the run is under way in some process.
pub fn build(reader: &Reader, run: &RunRow, live: bool) -> Result<Report, StoreError> {
    let mut collector = Collector::new(&run.spec);
    reader.for_each_fact(run, |facts| collector.add(&facts))?;
    // The intervals take as long as the rest of the reading, and need none of it.
    let (collected, rest) = std::thread::scope(|scope| {
        let collected = scope.spawn(|| collector.finish());
        let rest = rest(reader, run, live);
        (collected.join(), rest)
    });
    let collected = collected.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
    let mut report = assemble(run, collected, rest?);
    report.gate = reader.verdict(run)?.map(|judged| judged.report);
    Ok(report)
}

fn rest(reader: &Reader, run: &RunRow, live: bool) -> Result<Rest, StoreError> {
    let exported = |counts: BTreeMap<String, OutboxCounts>| counts.into_iter().map(|(k, v)| (k, v.into())).collect();
    Ok(Rest {
        live,
        lowest: reader.lowest(run, LOWEST)?,
        errors: reader.error_counts(run)?,
        spans_stored: reader.spans_stored(run)?,
        exported: exported(reader.span_counts(run)?),
        scores: exported(reader.score_counts(run)?),
    })
}

/// The report of what was read.
pub fn assemble(run: &RunRow, collected: Collected, rest: Rest) -> Report {
    let spec = &run.spec;
    let Collected { brief: collected, analysis } = collected;
    let mut errors: Vec<ErrorCount> =
        rest.errors.into_iter().map(|(error_type, trials)| ErrorCount { error_type, trials }).collect();
    errors.sort_by(|a, b| b.trials.cmp(&a.trials).then_with(|| a.error_type.cmp(&b.error_type)));
    let evaluators = spec.evaluators.iter().zip(collected.evaluators).map(|(evaluator, summary)| {
        let pure = evaluator.kind == EvaluatorKind::Label && summary.mean.value.is_none();
        let described = Evaluator {
            kind: evaluator.kind.as_str(),
            version: evaluator.version.clone(),
            scored: summary.counts.scored,
            failed: summary.counts.failed,
            skipped: summary.counts.skipped,
            absent: summary.counts.absent,
            mean: summary.mean.value,
            ci95: summary.mean.ci95,
            bounds: summary.mean.bounds,
            method: if pure { "labels have no mean".to_owned() } else { summary.mean.method },
            n: summary.mean.n,
            labels: summary.labels,
        };
        (evaluator.id.to_string(), described)
    });
    Report {
        run: Run {
            id: spec.run_id.to_string(),
            name: spec.name.clone(),
            status: status(run, rest.live),
            suite: spec.suite.clone(),
            workflow: spec.workflow.clone(),
            model: spec.model.clone(),
            provider: spec.provider.clone(),
            started_at: rfc3339(spec.started_unix_nano),
            duration_s: run.active_ns as f64 / 1e9,
            dataset: Dataset {
                name: spec.dataset.name.clone(),
                digest: spec.dataset.digest.to_string(),
                cases: spec.dataset.cases,
                unlabelled: collected.unlabelled,
            },
            git: spec.git.as_ref().map(|git| Git { revision: git.revision.clone(), dirty: git.dirty }),
            repeat: spec.repeat,
            primary: spec.primary.to_string(),
            prompt_digest: spec.prompt_digest.to_string(),
        },
        trials: Trials {
            planned: spec.planned(),
            completed: collected.counts.completed,
            failed: collected.counts.failed,
            skipped: collected.counts.skipped,
        },
        evaluators: Ordered(evaluators.collect()),
        metrics: metrics(analysis),
        latency_ms: Latency { p50: collected.latency_ms[0], p95: collected.latency_ms[1] },
        tokens: Tokens { input: collected.tokens[0], output: collected.tokens[1] },
        cost_usd: collected.cost_usd,
        unpriced: collected.unpriced,
        attempts: collected.attempts,
        errors,
        spans: Spans {
            created: run.spans_created,
            stored: rest.spans_stored,
            pruned: run.spans_pruned,
            kql: link::kql_if_delivered(&spec.run_id, &rest.exported),
            exported: rest.exported,
        },
        scores: Scores { exported: rest.scores },
        gate: None,
        tags: spec.tags.clone(),
        lowest: rest.lowest.iter().map(|row| low_case(run, row)).collect(),
        details: None,
    }
}

/// The status for people: a run that says `running` while no process works on it was cut off.
pub fn status(run: &RunRow, live: bool) -> &'static str {
    match run.status {
        RunStatus::Running if !live => RunStatus::Interrupted.as_str(),
        status => status.as_str(),
    }
}

fn metrics(analysis: Analysis) -> Metrics {
    let classes = Label::ALL.into_iter().zip(analysis.classes).map(|(label, class)| {
        let per_class =
            PerClass { precision: class.precision, recall: class.recall, f1: class.f1, support: class.support };
        (label.as_str().to_owned(), per_class)
    });
    let predicted = Label::ALL.map(Predicted::Label).into_iter().chain([Predicted::Unparseable]);
    Metrics {
        accuracy: analysis.accuracy,
        macro_f1: analysis.macro_f1,
        mcc: analysis.mcc,
        kappa: analysis.kappa,
        per_class: Ordered(classes.collect()),
        confusion: ConfusionMatrix {
            expected: Label::ALL.map(Label::as_str).to_vec(),
            predicted: predicted.map(Predicted::as_str).chain(["failed"]).collect(),
            matrix: analysis.confusion.cells.iter().map(|row| row.to_vec()).collect(),
        },
        abstention: Abstention { over_use: analysis.over_use, under_use: analysis.under_use },
    }
}

fn low_case(run: &RunRow, row: &CaseRow) -> LowCase {
    LowCase {
        case_id: row.case_id.to_string(),
        repeat: row.key.repeat,
        expected: row.expected.map(Label::as_str),
        output: row.outcome.as_ref().and_then(Outcome::predicted).map(Predicted::as_str),
        scores: run
            .spec
            .evaluators
            .iter()
            .map(|spec| (spec.id.to_string(), row.scores.get(&spec.id).and_then(Evaluation::value)))
            .collect(),
        trace_id: row.trace_id,
        span_id: row.span_id,
        trace_url: link::of_case(&run.spec, row),
        claim: row.claim.clone(),
        error: super::documents::error_type(row.outcome.as_ref()).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn the_document_has_the_promised_fields_in_order() {
        let report = serde_json::to_value(fixture::report()).expect("serialises");
        let keys = |value: &serde_json::Value| {
            value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>().join(" ")
        };
        insta::assert_snapshot!([
            keys(&report),
            keys(&report["run"]),
            keys(&report["evaluators"]["label_match"]),
            keys(&report["metrics"]),
            keys(&report["metrics"]["per_class"]),
            keys(&report["metrics"]["accuracy"]),
            keys(&report["spans"]["exported"]["otlp"]),
            keys(&report["lowest"][0]),
            report["metrics"]["confusion"].to_string(),
            report["metrics"]["accuracy"].to_string(),
            report["lowest"][1]["scores"].to_string(),
        ]
        .join("\n"), @r#"
        run trials evaluators metrics latency_ms tokens cost_usd unpriced attempts errors spans scores gate tags lowest
        id name status suite workflow model provider started_at duration_s dataset git repeat primary prompt_digest
        kind version scored failed skipped absent mean ci95 bounds method n labels
        accuracy macro_f1 mcc kappa per_class confusion abstention
        True False NEE
        value ci95 bounds method n
        delivered pending rejected not_sampled duplicates
        case_id repeat expected output scores trace_id span_id trace_url claim error
        {"expected":["True","False","NEE"],"predicted":["True","False","NEE","unparseable","failed"],"matrix":[[9,0,0,1,0],[0,8,1,0,1],[1,0,8,0,0]]}
        {"value":0.8928571428571429,"ci95":[0.7280414845132785,0.9628816331707],"bounds":[0.8333333333333334,0.9],"method":"Wilson","n":28}
        {"label_match":null,"tone":null}
        "#);
    }

    #[test]
    fn a_run_that_was_cut_off_does_not_seem_to_run() {
        let mut run = fixture::run();
        run.status = RunStatus::Running;
        assert_eq!((status(&run, true), status(&run, false)), ("running", "interrupted"));
    }
}
