//! What a span is, for who knows no more than its ids; and the scores of trials that came from elsewhere.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};

use super::bundle::{number_of, span_id_of};
use super::error::StoreError;
use super::reader::Reader;
use super::rows::RunRow;
use super::schema::{case_of, unpack};
use crate::model::{CaseId, Evaluation, Finite, RunId, SpanId, TraceId};

/// How far above a span its trial is looked for.
const ABOVE: i64 = 64;

/// Where a span stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanPlace {
    /// The span that scores sit on: a trial's own where the span stands below it, else the span itself.
    pub span_id: SpanId,
    /// When that began, in nanoseconds since the Unix epoch.
    pub start_unix_nano: u64,
    /// Run, case and repeat of the trial.
    pub trial: Option<(RunId, CaseId, u32)>,
}

impl Reader {
    /// Where a span stands; `None` if it is not here.
    pub fn span_place(&self, trace_id: TraceId, span_id: SpanId) -> Result<Option<SpanPlace>, StoreError> {
        type Found = (i64, Option<i64>, Option<i64>, Option<i64>, Option<String>, Option<String>);
        let found: Option<Found> = self
            .conn
            .prepare_cached(
                "WITH RECURSIVE up (depth, trace, run, parent, start, trial) AS (
                     SELECT 0, trace.number, trace.run, span.parent, span.start, span.trial
                     FROM trace JOIN span ON span.trace = trace.number WHERE trace_id = ?1 AND span.span_id = ?2
                     UNION ALL
                     SELECT depth + 1, up.trace, up.run, span.parent, up.start, span.trial
                     FROM up JOIN span ON span.trace = up.trace AND span.span_id = up.parent
                     WHERE up.trial IS NULL AND depth < ?4
                 )
                 SELECT up.start, up.trial, trial.span, trial.started, planned.case_id, run.run_id FROM up
                 LEFT JOIN trial ON trial.id = up.trial
                 LEFT JOIN planned ON planned.id = up.trial & ?3
                 LEFT JOIN run ON run.number = up.run AND run.spec IS NOT NULL
                 ORDER BY up.trial IS NULL, depth LIMIT 1",
            )
            .and_then(|mut find| {
                let read = |row: &rusqlite::Row<'_>| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
                };
                find.query_row(params![trace_id.as_bytes(), number_of(span_id), case_of(i64::MAX), ABOVE], read)
                    .optional()
            })
            .map_err(self.or())?;
        let Some((start, trial, own, started, case_id, run_id)) = found else { return Ok(None) };
        let known = trial.zip(own).zip(case_id).zip(run_id.and_then(|id| RunId::parse(id).ok()));
        Ok(Some(match known {
            Some((((trial, own), case_id), run_id)) => {
                let case_id = CaseId::parse(case_id).map_err(|e| StoreError::damaged("a case", e))?;
                SpanPlace {
                    span_id: span_id_of(own),
                    start_unix_nano: started.unwrap_or(start) as u64,
                    trial: Some((run_id, case_id, unpack(trial).repeat)),
                }
            }
            None => SpanPlace { span_id, start_unix_nano: start as u64, trial: None },
        }))
    }

    /// The names of the scores that trials of a run have from elsewhere, sorted.
    pub fn external_names(&self, run: &RunRow) -> Result<Vec<String>, StoreError> {
        if !self.has_external()? {
            return Ok(Vec::new());
        }
        let mut names: Vec<String> = self
            .conn
            .prepare_cached(
                "SELECT DISTINCT score_name.name FROM trace
                 JOIN external_score ON external_score.trace = trace.number
                 JOIN span ON span.trace = trace.number AND span.span_id = external_score.span
                 JOIN trial ON trial.id = span.trial AND trial.span = span.span_id
                 JOIN score_name ON score_name.id = external_score.name WHERE trace.run = ?1",
            )
            .and_then(|mut find| find.query_map([run.number], |row| row.get(0))?.collect())
            .map_err(self.or())?;
        names.retain(|name| !run.spec.evaluators.iter().any(|spec| spec.id.as_str() == name));
        names.sort_unstable();
        Ok(names)
    }

    /// Whether any score came from elsewhere.
    pub(super) fn has_external(&self) -> Result<bool, StoreError> {
        self.conn
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM external_score)")
            .and_then(|mut find| find.query_row([], |row| row.get(0)))
            .map_err(self.or())
    }

    /// The scores from elsewhere on a span, by name; of several of one name any, but always the same.
    pub(super) fn external_on(&self, trace: i64, span: i64) -> Result<BTreeMap<String, Evaluation>, StoreError> {
        let or = self.or();
        let mut find = self
            .conn
            .prepare_cached(
                "SELECT score_name.name, value, label, explanation, error_type FROM external_score
                 JOIN score_name ON score_name.id = external_score.name WHERE trace = ?1 AND span = ?2 ORDER BY key",
            )
            .map_err(&or)?;
        let mut rows = find.query([trace, span]).map_err(&or)?;
        let mut found = BTreeMap::new();
        while let Some(row) = rows.next().map_err(&or)? {
            let read = || {
                let explanation: Option<String> = row.get(3)?;
                let evaluation = match row.get::<_, Option<String>>(4)? {
                    Some(error_type) => Evaluation::Failed { error_type, message: explanation.unwrap_or_default() },
                    None => Evaluation::Scored {
                        value: row.get::<_, Option<f64>>(1)?.and_then(Finite::new),
                        label: row.get(2)?,
                        explanation,
                    },
                };
                Ok((row.get::<_, String>(0)?, evaluation))
            };
            let (name, evaluation) = read().map_err(&or)?;
            found.entry(name).or_insert(evaluation);
        }
        Ok(found)
    }
}
