//! The JSON documents of `cases`, `case`, `runs` and `verify`, field for field as promised.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::model::{
    CaseId, Evaluation, EvaluatorId, EvaluatorSpec, Label, Outcome, Predicted, RunId, RunSpec, SpanId, TraceId,
};
use crate::store::rows::{CaseRow, RunRow, SpanScore};
use crate::store::{Mismatch, MissingSpan, Reader, StoreError, Verification};

use super::collect::{Brief, ScoreSummary};
use super::document::{self, Tokens};
use super::format::rfc3339;
use super::link;

/// A score with its words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoreEntry {
    /// The number.
    pub value: Option<f64>,
    /// The label.
    pub label: Option<String>,
    /// Why: the evaluator's explanation, its error, or why it does not apply.
    pub explanation: Option<String>,
    /// `scored`, `failed` or `skipped`.
    pub state: &'static str,
}

impl From<&Evaluation> for ScoreEntry {
    fn from(evaluation: &Evaluation) -> Self {
        let explanation = match evaluation {
            Evaluation::Scored { explanation, .. } => explanation.clone(),
            Evaluation::Failed { message, .. } => Some(message.clone()),
            Evaluation::Skipped { reason } => Some(reason.clone()),
        };
        Self {
            value: evaluation.value(),
            label: evaluation.label().map(str::to_owned),
            explanation,
            state: evaluation.state(),
        }
    }
}

/// A trial as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseEntry {
    /// The case.
    pub case_id: String,
    /// Which repeat, from 0.
    pub repeat: u32,
    /// Its cluster.
    pub group: Option<String>,
    /// The statement.
    pub claim: String,
    /// The gold label.
    pub expected: Option<&'static str>,
    /// What the answer was taken for.
    pub output: Option<&'static str>,
    /// `completed`, `failed`, `skipped`, or `planned` while there is no outcome.
    pub status: &'static str,
    /// The class of error of a failed trial.
    pub error: Option<String>,
    /// What each evaluator said.
    pub scores: BTreeMap<String, ScoreEntry>,
    /// Wall time of the model call; `None` without one.
    pub latency_ms: Option<f64>,
    /// Tokens used.
    pub tokens: Tokens,
    /// HTTP tries made.
    pub attempts: u32,
    /// The trace of its batch.
    pub trace_id: Option<TraceId>,
    /// Its `assess_claim` span.
    pub span_id: Option<SpanId>,
    /// The error of a failed trial, or why it was skipped, in words.
    pub reason: Option<String>,
    /// The answer as it came.
    pub raw_output: Option<String>,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// The model that answered.
    pub response_model: Option<String>,
    /// Price in US dollars, where known.
    pub cost_usd: Option<f64>,
    /// Whether the answer came from the cache.
    pub cached: bool,
    /// The dataset's other columns.
    pub columns: BTreeMap<String, String>,
    /// Its span in the user's trace backend, where the suite has a template for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_url: Option<String>,
    /// The run, where trials of several runs stand together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// When that run started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
}

impl From<&CaseRow> for CaseEntry {
    fn from(row: &CaseRow) -> Self {
        let called = matches!(row.outcome, Some(Outcome::Completed { .. } | Outcome::Failed(_)));
        let reason = match &row.outcome {
            Some(Outcome::Failed(failure)) => Some(failure.message.clone()),
            Some(Outcome::Skipped { reason }) => Some(reason.clone()),
            _ => None,
        };
        Self {
            case_id: row.case_id.to_string(),
            repeat: row.key.repeat,
            group: row.group.clone(),
            claim: row.claim.clone(),
            expected: row.expected.map(Label::as_str),
            output: row.outcome.as_ref().and_then(Outcome::predicted).map(Predicted::as_str),
            status: row.outcome.as_ref().map_or("planned", Outcome::status),
            error: error_type(row.outcome.as_ref()).map(str::to_owned),
            scores: with_external(score_entries(&row.scores), &row.external),
            latency_ms: called.then(|| row.latency_ns as f64 / 1e6),
            tokens: Tokens { input: row.usage.input_tokens, output: row.usage.output_tokens },
            attempts: row.attempts,
            trace_id: row.trace_id,
            span_id: row.span_id,
            reason,
            raw_output: row.raw_output.clone(),
            finish_reason: row.finish_reason.clone(),
            response_model: row.response_model.clone(),
            cost_usd: row.cost_usd,
            cached: row.cached,
            columns: row.columns.iter().cloned().collect(),
            trace_url: None,
            run_id: None,
            started_at: None,
        }
    }
}

/// The class of error of a failed trial.
pub fn error_type(outcome: Option<&Outcome>) -> Option<&str> {
    match outcome {
        Some(Outcome::Failed(failure)) => Some(&failure.error_type),
        _ => None,
    }
}

/// The scores on a span by name; further ones of a name with their identifier behind it.
pub(super) fn span_score_entries(scores: &[SpanScore]) -> BTreeMap<String, ScoreEntry> {
    let mut entries = BTreeMap::new();
    for score in scores {
        let mut name = score.name.clone();
        if entries.contains_key(&name) {
            let identifier = score.identifier.as_deref().map_or_else(|| entries.len().to_string(), str::to_owned);
            name = format!("{name}#{identifier}");
        }
        entries.entry(name).or_insert_with(|| ScoreEntry::from(&score.evaluation));
    }
    entries
}

pub(super) fn score_entries(scores: &BTreeMap<EvaluatorId, Evaluation>) -> BTreeMap<String, ScoreEntry> {
    scores.iter().map(|(id, evaluation)| (id.to_string(), ScoreEntry::from(evaluation))).collect()
}

/// The scores with those from elsewhere beside them.
fn with_external(
    mut entries: BTreeMap<String, ScoreEntry>,
    external: &BTreeMap<String, Evaluation>,
) -> BTreeMap<String, ScoreEntry> {
    for (name, evaluation) in external {
        entries.entry(name.clone()).or_insert_with(|| ScoreEntry::from(evaluation));
    }
    entries
}

/// Cases of a run in the document of `cases`, with links to the user's trace backend.
pub fn cases_of(run: &RunSpec, rows: &[CaseRow]) -> Vec<CaseEntry> {
    rows.iter().map(|row| CaseEntry { trace_url: link::of_case(run, row), ..CaseEntry::from(row) }).collect()
}

/// The document of `cases`.
pub fn cases(rows: &[CaseRow]) -> Vec<CaseEntry> {
    rows.iter().map(CaseEntry::from).collect()
}

/// The document of `case`: one case in every run of its dataset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseHistory {
    /// The dataset.
    pub dataset: String,
    /// The case.
    pub case_id: String,
    /// The statement, as the newest run had it.
    pub claim: String,
    /// The evidence.
    pub context: String,
    /// The gold label.
    pub expected: Option<&'static str>,
    /// Its cluster.
    pub group: Option<String>,
    /// Its trials, the newest run first.
    pub runs: Vec<CaseEntry>,
}

/// The document of `case`; `None` without a trial.
pub fn case_history(dataset: &str, rows: &[CaseRow]) -> Option<CaseHistory> {
    let mut rows: Vec<&CaseRow> = rows.iter().collect();
    rows.sort_by(|a, b| {
        (b.run_started_unix_nano, &b.run_id).cmp(&(a.run_started_unix_nano, &a.run_id)).then(a.key.cmp(&b.key))
    });
    let newest = rows.first()?;
    Some(CaseHistory {
        dataset: dataset.to_owned(),
        case_id: newest.case_id.to_string(),
        claim: newest.claim.clone(),
        context: newest.context.clone(),
        expected: newest.expected.map(Label::as_str),
        group: newest.group.clone(),
        runs: rows
            .iter()
            .map(|row| CaseEntry {
                run_id: Some(row.run_id.clone()),
                started_at: Some(rfc3339(row.run_started_unix_nano)),
                ..CaseEntry::from(*row)
            })
            .collect(),
    })
}

/// A case as the runs of a dataset have it.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundCase {
    /// The document; `None` where no run of the dataset has the case.
    pub history: Option<CaseHistory>,
    /// The datasets that have a case of that id.
    pub datasets: Vec<String>,
    /// Trials of other cases of that id in that dataset: other texts or another label.
    pub left_out: usize,
}

/// Finds a case in every run of a dataset; without one, of the dataset that was run last.
pub fn find_case(reader: &Reader, case_id: &CaseId, dataset: Option<&str>) -> Result<FoundCase, StoreError> {
    let mut rows = reader.case_everywhere(case_id)?;
    let datasets: BTreeMap<RunId, String> =
        reader.runs()?.into_iter().map(|run| (run.spec.run_id, run.spec.dataset.name)).collect();
    rows.sort_by_key(|row| Reverse(row.run_started_unix_nano));
    let of = |run: &RunId| datasets.get(run).cloned().unwrap_or_default();
    let known: BTreeSet<String> = rows.iter().map(|row| of(&row.run_id)).collect();
    let newest = rows.first().map(|row| of(&row.run_id)).unwrap_or_default();
    let dataset = dataset.map_or(newest, str::to_owned);
    rows.retain(|row| of(&row.run_id) == dataset);
    // Two files may share a name and an id: only what has the newest one's texts is the same case.
    let all = rows.len();
    if let Some(first) = rows.first().map(|row| (row.claim.clone(), row.context.clone(), row.expected)) {
        rows.retain(|row| (&row.claim, &row.context, row.expected) == (&first.0, &first.1, first.2));
    }
    Ok(FoundCase {
        history: case_history(&dataset, &rows),
        datasets: known.into_iter().collect(),
        left_out: all - rows.len(),
    })
}

/// The document of `verify`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verify<'a> {
    /// The run.
    pub run: &'a RunId,
    /// Scores of trials that were not skipped.
    pub scores: u64,
    /// Of these, the ones whose spans are all there and say the same.
    pub linked: u64,
    /// Of the scores, the ones whose trace retention removed.
    pub pruned: u64,
    /// Spans that are not in the store.
    pub missing: &'a [MissingSpan],
    /// Attributes that say something else than their score.
    pub mismatched: &'a [Mismatch],
}

/// The document of `verify`.
pub fn verify<'a>(run: &'a RunId, found: &'a Verification) -> Verify<'a> {
    let Verification { scores, linked, pruned, missing, mismatched } = found;
    Verify { run, scores: *scores, linked: *linked, pruned: *pruned, missing, mismatched }
}

/// A run in the document of `runs`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunEntry {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How far it came.
    pub status: &'static str,
    /// The suite.
    pub suite: String,
    /// The model asked for.
    pub model: String,
    /// Who serves it.
    pub provider: String,
    /// When it started.
    pub started_at: String,
    /// Time that its sessions took together.
    pub duration_s: f64,
    /// The dataset's name.
    pub dataset: String,
    /// Trials by outcome.
    pub trials: document::Trials,
    /// Means of its evaluators.
    pub scores: document::Ordered<RunScore>,
    /// Tokens of all calls.
    pub tokens: Tokens,
    /// Price of all calls.
    pub cost_usd: Option<f64>,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// The last verdict of a gate; `None` where the run was not judged.
    pub verdict: Option<String>,
}

/// An evaluator's mean in a list of runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunScore {
    /// The mean.
    pub mean: Option<f64>,
    /// Its interval.
    pub ci95: Option<[f64; 2]>,
}

impl RunEntry {
    /// The entry of a run, without its verdict. `live` tells whether the run is under way in some process.
    pub fn of(run: &RunRow, live: bool, brief: &Brief) -> Self {
        let spec = &run.spec;
        let scores = spec.evaluators.iter().zip(&brief.evaluators);
        let score = |(spec, summary): (&EvaluatorSpec, &ScoreSummary)| {
            (spec.id.to_string(), RunScore { mean: summary.mean.value, ci95: summary.mean.ci95 })
        };
        Self {
            id: spec.run_id.to_string(),
            name: spec.name.clone(),
            status: document::status(run, live),
            suite: spec.suite.clone(),
            model: spec.model.clone(),
            provider: spec.provider.clone(),
            started_at: rfc3339(spec.started_unix_nano),
            duration_s: run.active_ns as f64 / 1e9,
            dataset: spec.dataset.name.clone(),
            trials: document::Trials {
                planned: spec.planned(),
                completed: brief.counts.completed,
                failed: brief.counts.failed,
                skipped: brief.counts.skipped,
            },
            scores: document::Ordered(scores.map(score).collect()),
            tokens: Tokens { input: brief.tokens[0], output: brief.tokens[1] },
            cost_usd: brief.cost_usd,
            tags: spec.tags.clone(),
            verdict: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn shown(document: &impl Serialize) -> String {
        serde_json::to_string_pretty(document).expect("serialises")
    }

    #[test]
    fn a_case_has_the_promised_fields() {
        let mut row = fixture::low_rows().remove(0);
        row.claim = "A claim.".to_owned();
        insta::assert_snapshot!(shown(&cases(&[row])), @r#"
        [
          {
            "case_id": "claims-005",
            "repeat": 0,
            "group": "bio-01",
            "claim": "A claim.",
            "expected": "False",
            "output": "NEE",
            "status": "completed",
            "error": null,
            "scores": {
              "label_match": {
                "value": 0.0,
                "label": "fail",
                "explanation": "expected False",
                "state": "scored"
              }
            },
            "latency_ms": 5.0,
            "tokens": {
              "input": 100,
              "output": 2
            },
            "attempts": 1,
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "span_id": "b7ad6b7169203301",
            "reason": null,
            "raw_output": "NEE",
            "finish_reason": "stop",
            "response_model": null,
            "cost_usd": null,
            "cached": false,
            "columns": {
              "field": "biology"
            }
          }
        ]
        "#);
    }

    #[test]
    fn a_case_without_an_outcome_is_planned_and_has_no_latency() {
        let mut row = fixture::low_rows().remove(0);
        (row.outcome, row.trace_id, row.span_id) = (None, None, None);
        row.scores.clear();
        let entry = CaseEntry::from(&row);
        assert_eq!((entry.status, entry.latency_ms, entry.output, entry.trace_id), ("planned", None, None, None));
    }

    #[test]
    fn a_failed_case_says_why() {
        let entry = CaseEntry::from(&fixture::low_rows()[1]);
        assert_eq!((entry.error.as_deref(), entry.reason.as_deref()), (Some("429"), Some("rate limit reached")));
        assert_eq!(entry.scores["label_match"].state, "skipped");
    }

    #[test]
    fn a_history_begins_with_the_newest_run() {
        let mut rows = fixture::low_rows();
        rows[1].run_started_unix_nano += 1;
        rows[1].run_id = RunId::parse("later").expect("valid");
        let history = case_history("claims", &rows).expect("two rows");
        assert_eq!(history.claim, "A claim that nobody answered.");
        let order: Vec<_> = history.runs.iter().map(|trial| trial.run_id.as_ref().map(RunId::as_str)).collect();
        assert_eq!(order, [Some("later"), Some("20261122-154501-3f9a2c")]);
        assert_eq!(case_history("claims", &[]), None);
    }
}
