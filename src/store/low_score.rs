//! From one low score to the next: within a run by how bad its trials are, among other traces by the score's mean.

use rusqlite::{OptionalExtension, params};

use super::bundle::{number_of, span_id_of};
use super::error::StoreError;
use super::reader::Reader;
use super::rows::{LowScore, RunRow};
use super::schema::{case_of, first_key, last_key};
use super::traces::Summary;
use super::worst::Badness;
use crate::model::{CaseId, Direction, EvaluatorKind, SpanId, TraceId};

/// A trial's place in the order of badness.
type Place = (Badness, i64);

impl Reader {
    /// The low score after this one, the worst first; `None` after the last.
    ///
    /// In a trace of a run these are its trials: failed ones, unparseable answers, then those that the primary evaluator
    /// (or `name`, another of its evaluators) did not give its best; `span` says from which trial of the trace to go on.
    /// In other traces it is the trace with the next higher mean of the score `name`, or of the trace's first score.
    pub fn next_low_score(
        &self,
        after: TraceId,
        span: Option<SpanId>,
        name: Option<&str>,
    ) -> Result<Option<LowScore>, StoreError> {
        let _moment = self.moment()?;
        let summary = self.find_trace_of(after)?;
        match summary.run {
            Some(run) => self.next_low_trial(&self.run(run)?, &summary, span, name),
            None => self.next_low_mean(&summary, name),
        }
    }

    fn next_low_trial(
        &self,
        run: &RunRow,
        summary: &Summary,
        span: Option<SpanId>,
        name: Option<&str>,
    ) -> Result<Option<LowScore>, StoreError> {
        let or = self.or();
        let specs = &run.spec.evaluators;
        let wanted = name.unwrap_or(run.spec.primary.as_str());
        let at = specs.iter().position(|spec| spec.id.as_str() == wanted);
        let Some((at, spec)) = at.and_then(|at| Some((at, specs.get(at)?))) else {
            return self.next_low_mean(summary, name);
        };
        let is_low = |place: &Place| {
            let best = spec.kind == EvaluatorKind::Assertion && spec.direction == Direction::Higher;
            place.0.counts_as_low() && !(best && place.0.is_perfect())
        };
        let sql = "SELECT id, outcome, value, trace, span FROM trial
                   LEFT JOIN score ON score.trial = trial.id AND score.evaluator = ?3 AND score.state = 0
                   WHERE id BETWEEN ?1 AND ?2 ORDER BY id";
        // Twice over the run: where we are, then what follows. Nothing is kept.
        let each = |take: &mut dyn FnMut(Place, i64, i64, Option<f64>)| -> Result<(), StoreError> {
            let mut find = self.conn.prepare_cached(sql).map_err(&or)?;
            let range = [first_key(run.number), last_key(run.number), at as i64];
            let mut rows = find.query(range).map_err(&or)?;
            while let Some(row) = rows.next().map_err(&or)? {
                let read = || {
                    let value: Option<f64> = row.get(2)?;
                    let badness = Badness::new(Some(row.get(1)?), value, spec.direction);
                    Ok(((badness, row.get(0)?), row.get(3)?, row.get(4)?, value))
                };
                let (place, trace, span, value) = read().map_err(&or)?;
                take(place, trace, span, value);
            }
            Ok(())
        };
        let before = |a: &Place, b: &Place| a.0.compare(&b.0).then(a.1.cmp(&b.1)).is_lt();
        // Without a span the whole trace counts as seen: its worst trial is where we are.
        let mut here: Option<Place> = None;
        each(&mut |place, trace, of_span, _| {
            let is_here = trace == summary.number && span.is_none_or(|span| number_of(span) == of_span);
            if is_here && here.as_ref().is_none_or(|known| before(&place, known)) {
                here = Some(place);
            }
        })?;
        let mut next: Option<(Place, i64, i64, Option<f64>)> = None;
        each(&mut |place, trace, of_span, value| {
            let follows =
                here.as_ref().is_none_or(|here| before(here, &place)) && (span.is_some() || trace != summary.number);
            if follows && is_low(&place) && next.as_ref().is_none_or(|(known, ..)| before(&place, known)) {
                next = Some((place, trace, of_span, value));
            }
        })?;
        let Some(((_, id), trace, span, value)) = next else { return Ok(None) };
        let case: Option<String> = self
            .conn
            .prepare_cached("SELECT case_id FROM planned WHERE id = ?1")
            .and_then(|mut find| find.query_row([case_of(id)], |row| row.get(0)).optional())
            .map_err(&or)?;
        Ok(self.id_of_trace(trace)?.map(|trace_id| LowScore {
            trace_id,
            span_id: Some(span_id_of(span)),
            case_id: case.and_then(|id| CaseId::parse(id).ok()),
            name: wanted.to_owned(),
            value,
        }))
    }

    fn next_low_mean(&self, summary: &Summary, name: Option<&str>) -> Result<Option<LowScore>, StoreError> {
        let or = self.or();
        let found: Option<(String, i64, f64)> = self
            .conn
            .prepare_cached(
                "SELECT score_name.name, score_name.id, value FROM trace_score
                 JOIN score_name ON score_name.id = trace_score.name
                 WHERE trace = ?1 AND (?2 IS NULL OR score_name.name = ?2) ORDER BY score_name.name LIMIT 1",
            )
            .and_then(|mut find| {
                find.query_row(params![summary.number, name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                    .optional()
            })
            .map_err(&or)?;
        let Some((name, number, value)) = found else { return Ok(None) };
        let next: Option<(i64, f64)> = self
            .conn
            .prepare_cached(
                "SELECT trace, value FROM trace_score JOIN trace ON trace.number = trace_score.trace
                 WHERE name = ?1 AND (value, trace) > (?2, ?3) AND operations > 0 ORDER BY value, trace LIMIT 1",
            )
            .and_then(|mut find| {
                find.query_row(params![number, value, summary.number], |row| Ok((row.get(0)?, row.get(1)?))).optional()
            })
            .map_err(&or)?;
        let Some((trace, value)) = next else { return Ok(None) };
        Ok(self.id_of_trace(trace)?.map(|trace_id| LowScore {
            trace_id,
            span_id: None,
            case_id: None,
            name,
            value: Some(value),
        }))
    }

    /// The id of a trace, also of one that retention removed.
    fn id_of_trace(&self, trace: i64) -> Result<Option<TraceId>, StoreError> {
        let id: Option<Vec<u8>> = self
            .conn
            .prepare_cached(
                "SELECT coalesce((SELECT trace_id FROM trace WHERE number = ?1),
                                 (SELECT trace_id FROM pruned WHERE number = ?1))",
            )
            .and_then(|mut find| find.query_row([trace], |row| row.get(0)))
            .map_err(self.or())?;
        Ok(id.and_then(|bytes| TraceId::from_slice(&bytes)))
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Label, Predicted};
    use crate::store::testing::{Scene, case_id, completed, failed, trace_id, trial};

    #[tokio::test]
    async fn the_next_low_score_is_the_next_worse_trial() {
        let scene = Scene::started(4, 1).await;
        // Case 0 expects True, 1 False, 2 NEE, 3 True.
        for seq in [0, 1, 3] {
            scene.record(trial(seq, 0, 0, completed(Predicted::Label(Label::False)))).await;
        }
        scene.record(trial(2, 0, 0, failed())).await;
        scene.finish().await;
        let reader = scene.reader();
        let mut seen = Vec::new();
        let mut at = reader.lowest(&scene.run(), 1).expect("the worst").remove(0);
        loop {
            let next = reader.next_low_score(trace_id(2), at.span_id, None).expect("a look");
            let Some(next) = next else { break };
            assert_eq!(next.trace_id, trace_id(2));
            seen.push(next.case_id.clone().expect("a case"));
            at.span_id = next.span_id;
        }
        assert_eq!(seen, [0, 3].map(case_id), "after the failed trial the wrong ones; the right one is none of them");
        assert_eq!(reader.next_low_score(trace_id(2), None, None).expect("a look"), None, "no other trace has any");
    }
}
