//! Verification: every score of a run against the spans that explain it, decoded from what is stored.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, params};
use serde::Serialize;

use super::bundle::{Messages, span_id_of};
use super::error::StoreError;
use super::reader::Reader;
use super::rows::RunRow;
use super::schema::{case_of, first_key, last_key, unpack};
use crate::model::{CaseId, EvaluatorId, Span, SpanId, TraceId, Value};
use crate::trace::semconv;

/// What came of comparing a run's scores with its spans.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Verification {
    /// Scores of trials that were not skipped.
    pub scores: u64,
    /// Of these, the ones whose spans are all there and carry what the score says.
    pub linked: u64,
    /// Scores whose trace retention removed: nothing can be said of them any more.
    pub pruned: u64,
    /// One entry for each span that is not in the store.
    pub missing: Vec<MissingSpan>,
    /// One entry for each attribute that says something else than its score.
    pub mismatched: Vec<Mismatch>,
}

impl Verification {
    /// Whether every score is linked.
    pub fn is_good(&self) -> bool {
        self.missing.is_empty() && self.mismatched.is_empty() && self.linked + self.pruned == self.scores
    }
}

/// A span that a score refers to and the store does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingSpan {
    /// Its trace; `None` where nothing in the store says it any more.
    pub trace_id: Option<TraceId>,
    /// Its id.
    pub span_id: SpanId,
    /// The first case that needs it.
    pub case_id: CaseId,
    /// The repeat of that case.
    pub repeat: u32,
    /// What it is: `assess_claim`, `chat`, `parent`, `trace` (the trace's own row) or `attributes` (the span's payload).
    pub what: &'static str,
    /// The evaluators whose scores of that trial need it.
    pub scores: Vec<EvaluatorId>,
}

/// An attribute that says something else than its score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mismatch {
    /// The trace.
    pub trace_id: TraceId,
    /// The `assess_claim` span.
    pub span_id: SpanId,
    /// The case.
    pub case_id: CaseId,
    /// The repeat.
    pub repeat: u32,
    /// The evaluator.
    pub evaluator: EvaluatorId,
    /// The attribute's name.
    pub attribute: String,
    /// What the score says; null where it says that there is no value or label.
    pub stored: serde_json::Value,
    /// What the span says; null where it has no such attribute.
    pub on_span: serde_json::Value,
}

/// A trial that is being verified.
struct Subject {
    trace: i64,
    span: i64,
    chat: Option<i64>,
    case_id: CaseId,
    repeat: u32,
    /// Evaluator, value, label; both are absent of failed and skipped evaluations.
    scores: Vec<(usize, Option<f64>, Option<String>)>,
}

impl Reader {
    /// Compares every score of the run's trials, skipped ones aside, with the spans in the store: that the trace and
    /// its `assess_claim` span exist, that the chain of its parents ends at a root, that the `chat` span exists, and
    /// that the span's attributes say what the score says.
    pub fn verify(&self, run: &RunRow) -> Result<Verification, StoreError> {
        let _moment = self.moment()?;
        let or = self.or();
        let mut result = Verification::default();
        // Many trials share a root: each missing span is named once. Holds only what is missing.
        let mut named: HashSet<(i64, i64)> = HashSet::new();
        let mut trials = self
            .conn
            .prepare_cached(
                "SELECT trial.id, trace, span, chat, case_id FROM trial JOIN planned ON planned.id = trial.id & ?3
                 WHERE trial.id BETWEEN ?1 AND ?2 AND outcome < 5 ORDER BY trial.id",
            )
            .map_err(&or)?;
        let mut scores = self
            .conn
            .prepare_cached("SELECT evaluator, value, label FROM score WHERE trial = ?1 ORDER BY evaluator")
            .map_err(&or)?;
        let range = [first_key(run.number), last_key(run.number), case_of(i64::MAX)];
        let mut rows = trials.query(range).map_err(&or)?;
        while let Some(row) = rows.next().map_err(&or)? {
            let mut read = || {
                let id: i64 = row.get(0)?;
                let found =
                    scores.query_map([id], |row| Ok((row.get::<_, i64>(0)? as usize, row.get(1)?, row.get(2)?)))?;
                Ok((
                    Subject {
                        trace: row.get(1)?,
                        span: row.get(2)?,
                        chat: row.get(3)?,
                        case_id: CaseId::parse("-").expect("a case id"),
                        repeat: unpack(id).repeat,
                        scores: found.collect::<Result<_, _>>()?,
                    },
                    row.get::<_, String>(4)?,
                ))
            };
            let (mut subject, case_id): (Subject, String) = read().map_err(&or)?;
            subject.case_id = CaseId::parse(case_id).map_err(|e| StoreError::damaged("a case", e))?;
            if !subject.scores.is_empty() {
                self.verify_trial(run, &subject, &mut named, &mut result)?;
            }
        }
        Ok(result)
    }

    fn verify_trial(
        &self,
        run: &RunRow,
        subject: &Subject,
        named: &mut HashSet<(i64, i64)>,
        result: &mut Verification,
    ) -> Result<(), StoreError> {
        result.scores += subject.scores.len() as u64;
        let trace_id = self.trace_id(subject.trace)?;
        // Of a trace that retention was cut off at some spans may still be there.
        if self.was_pruned(subject.trace)? {
            result.pruned += subject.scores.len() as u64;
            return Ok(());
        }
        let (lost, payload) = self.missing_spans(subject, trace_id)?;
        let span = match payload {
            Some((payload, slot)) => self.stored_span(payload, slot)?,
            None => None,
        };
        let unreadable = (payload.is_some() && span.is_none()).then_some((subject.span, "attributes"));
        let mut whole = true;
        for (span_id, what) in lost.into_iter().chain(unreadable) {
            whole = false;
            if named.insert((subject.trace, span_id)) {
                result.missing.push(MissingSpan {
                    trace_id: trace_id.or(span.as_ref().map(|span| span.trace_id)),
                    span_id: span_id_of(span_id),
                    case_id: subject.case_id.clone(),
                    repeat: subject.repeat,
                    what,
                    scores: subject.scores.iter().filter_map(|(at, ..)| evaluator(run, *at)).collect(),
                });
            }
        }
        let (Some(span), Some(trace_id)) = (span, trace_id) else { return Ok(()) };
        // A span that carries the right numbers for another case is no link.
        let mut whose = vec![
            (semconv::TEST_CASE_ID.to_owned(), Some(Value::from(subject.case_id.as_str().to_owned()))),
            (semconv::SPANSCORE_TRIAL_REPEAT.to_owned(), Some(Value::Int(i64::from(subject.repeat)))),
        ];
        for (at, value, label) in &subject.scores {
            let Some(id) = evaluator(run, *at) else { continue };
            let mut checks = vec![
                (semconv::score_key(id.as_str()), value.map(Value::Double)),
                (semconv::label_key(id.as_str()), label.clone().map(Value::from)),
            ];
            // Once for the trial, with its first score.
            checks.append(&mut whose);
            let before = result.mismatched.len();
            for (attribute, stored) in checks {
                let on_span = span.get(&attribute);
                if on_span != stored.as_ref() {
                    result.mismatched.push(Mismatch {
                        trace_id,
                        span_id: span.span_id,
                        case_id: subject.case_id.clone(),
                        repeat: subject.repeat,
                        evaluator: id.clone(),
                        attribute,
                        stored: json(stored.as_ref()),
                        on_span: json(on_span),
                    });
                }
            }
            result.linked += u64::from(whole && result.mismatched.len() == before);
        }
        Ok(())
    }

    /// The spans that a trial needs and that are not there, and the payload and slot of its `assess_claim` span.
    #[expect(clippy::type_complexity, reason = "two small results of one walk")]
    fn missing_spans(
        &self,
        subject: &Subject,
        trace_id: Option<TraceId>,
    ) -> Result<(Vec<(i64, &'static str)>, Option<(i64, i64)>), StoreError> {
        let mut missing = Vec::new();
        if trace_id.is_none() {
            missing.push((0, "trace"));
        }
        let mut find = self
            .conn
            .prepare_cached("SELECT parent, payload, slot FROM span WHERE trace = ?1 AND span_id = ?2")
            .map_err(self.or())?;
        let mut find = |span_id: i64| {
            find.query_row([subject.trace, span_id], |row| {
                Ok((row.get::<_, Option<i64>>(0)?, (row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
            })
            .optional()
            .map_err(self.or())
        };
        let own = find(subject.span)?;
        match own {
            None => missing.push((subject.span, "assess_claim")),
            Some((mut parent, _)) => {
                // A cycle never reaches a root; the parent where it closes is reported.
                let mut seen = HashSet::from([subject.span]);
                while let Some(id) = parent {
                    match find(id)? {
                        Some((next, _)) if seen.insert(id) => parent = next,
                        _ => {
                            missing.push((id, "parent"));
                            break;
                        }
                    }
                }
            }
        }
        if let Some(chat) = subject.chat
            && find(chat)?.is_none()
        {
            missing.push((chat, "chat"));
        }
        Ok((missing, own.map(|(_, at)| at)))
    }

    fn was_pruned(&self, trace: i64) -> Result<bool, StoreError> {
        self.conn
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM pruned WHERE number = ?1)")
            .and_then(|mut find| find.query_row([trace], |row| row.get(0)))
            .map_err(self.or())
    }

    fn trace_id(&self, trace: i64) -> Result<Option<TraceId>, StoreError> {
        let id: Option<Vec<u8>> = self
            .conn
            .prepare_cached("SELECT trace_id FROM trace WHERE number = ?1")
            .and_then(|mut find| find.query_row([trace], |row| row.get(0)).optional())
            .map_err(self.or())?;
        Ok(id.and_then(|bytes| TraceId::from_slice(&bytes)))
    }

    /// A span as stored; `None` where its payload is gone or does not read back.
    fn stored_span(&self, payload: i64, slot: i64) -> Result<Option<Span>, StoreError> {
        let body: Option<Vec<u8>> = self
            .conn
            .prepare_cached("SELECT body FROM payload WHERE id = ?1")
            .and_then(|mut find| find.query_row(params![payload], |row| row.get(0)).optional())
            .map_err(self.or())?;
        let Some(body) = body else { return Ok(None) };
        Ok(self.unpack("a payload", &body, |content| Messages::split(content)?.span(slot as usize)).ok())
    }
}

fn evaluator(run: &RunRow, at: usize) -> Option<EvaluatorId> {
    run.spec.evaluators.get(at).map(|spec| spec.id.clone())
}

fn json(value: Option<&Value>) -> serde_json::Value {
    match value {
        None | Some(Value::Empty) => serde_json::Value::Null,
        Some(Value::Str(text)) => serde_json::Value::from(text.as_ref()),
        Some(Value::Bool(x)) => (*x).into(),
        Some(Value::Int(x)) => (*x).into(),
        Some(Value::Double(x)) => (*x).into(),
        // No score looks like this: what kind of value it is says enough.
        Some(other) => format!("{other:?}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TrialKey;
    use crate::model::{Label, Outcome, Predicted};
    use crate::store::bundle::number_of;
    use crate::store::testing::{Scene, case_id, completed, failed, span_ids, trace_id, trial};

    const KEY: TrialKey = TrialKey { seq: 1, repeat: 0 };

    /// Four trials with two scores each, and a skipped one.
    async fn scene() -> Scene {
        let scene = Scene::started(5, 1).await;
        for seq in 0..3 {
            scene.record(trial(seq, 0, 0, completed(Predicted::Label(Label::True)))).await;
        }
        scene.record(trial(3, 0, 0, failed())).await;
        scene.record(trial(4, 0, 0, Outcome::Skipped { reason: "budget".to_owned() })).await;
        scene.finish().await;
        scene
    }

    async fn check(tamper: &str, missing: &[(SpanId, &str)], mismatched: &[&str], linked: u64) {
        let scene = scene().await;
        if !tamper.is_empty() {
            assert_eq!(scene.tamper(tamper), 1, "{tamper}");
        }
        let found = scene.reader().verify(&scene.run()).expect("a verification");
        let spans: Vec<_> = found.missing.iter().map(|m| (m.span_id, m.what)).collect();
        let attributes: Vec<_> = found.mismatched.iter().map(|m| m.attribute.as_str()).collect();
        assert_eq!((spans.as_slice(), attributes.as_slice()), (missing, mismatched), "{tamper}");
        assert_eq!((found.scores, found.linked), (8, linked), "{tamper}");
        assert_eq!(found.is_good(), missing.is_empty() && mismatched.is_empty());
        for entry in &found.missing {
            assert!(entry.trace_id.is_none_or(|id| id == trace_id(2)) && entry.scores.len() == 2, "{entry:?}");
        }
        for entry in &found.mismatched {
            assert_eq!((&entry.case_id, entry.trace_id, entry.span_id), (&case_id(1), trace_id(2), span_ids(KEY, 0).0));
        }
    }

    #[tokio::test]
    async fn a_whole_run_is_linked() {
        check("", &[], &[], 8).await;
    }

    #[tokio::test]
    async fn each_lost_span_is_named_once() {
        let (claim, chat) = span_ids(KEY, 0);
        let root = SpanId::from_bytes([2; 8]);
        let delete = |id: SpanId| format!("DELETE FROM span WHERE span_id = {}", number_of(id));
        check(&delete(claim), &[(claim, "assess_claim")], &[], 6).await;
        check(&delete(chat), &[(chat, "chat")], &[], 6).await;
        check(&delete(root), &[(root, "parent")], &[], 0).await;
        let payload = "DELETE FROM payload WHERE id = (SELECT payload FROM span WHERE span_id = ";
        check(&format!("{payload}{})", number_of(claim)), &[(claim, "attributes")], &[], 6).await;
        check("DELETE FROM trace WHERE root LIKE 'assess%'", &[(SpanId::from_bytes([0; 8]), "trace")], &[], 0).await;
    }

    #[tokio::test]
    async fn a_trace_that_retention_has_begun_to_remove_is_not_missing() {
        let scene = scene().await;
        scene.tamper("INSERT INTO pruned SELECT number, trace_id, 1, run FROM trace WHERE root LIKE 'assess%'");
        scene.tamper("DELETE FROM span WHERE name LIKE 'chat%'");
        let found = scene.reader().verify(&scene.run()).expect("a verification");
        assert_eq!((found.scores, found.linked, found.pruned), (8, 0, 8));
        assert!(found.is_good());
    }

    #[tokio::test]
    async fn each_attribute_that_differs_is_named_once() {
        let trial = format!("trial = {}", crate::store::schema::pack(1, KEY).expect("a key"));
        let update = |set: &str| format!("UPDATE score SET {set} WHERE evaluator = 0 AND {trial}");
        check(&update("value = 1.0"), &[], &["spanscore.score.label_match"], 7).await;
        check(&update("label = 'pass'"), &[], &["spanscore.label.label_match"], 7).await;
        check(&update("value = NULL"), &[], &["spanscore.score.label_match"], 7).await;
        let failed = update("state = 1, value = NULL, label = NULL");
        check(&failed, &[], &["spanscore.score.label_match", "spanscore.label.label_match"], 7).await;
    }
}
