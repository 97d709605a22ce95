//! Reading two runs side by side: what one evaluator said of the same case in both, and a run's mean alone.

use rusqlite::{OptionalExtension, Rows, params};

use super::error::StoreError;
use super::reader::Reader;
use super::rows::RunRow;
use super::schema::{case_of, first_key, last_key, unpack};
use crate::model::{CaseId, EvaluatorId, TrialKey};

/// A case that two runs have, with the same texts and expected label.
#[derive(Debug, Clone, PartialEq)]
pub struct CasePair {
    /// Its place in the later run.
    pub seq: u64,
    /// Mean of the evaluator's values over its repeats in the earlier run; `None` where no repeat has one.
    pub before: Option<f64>,
    /// The same in the later run.
    pub after: Option<f64>,
}

/// Cases without a partner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpaired {
    /// Of the earlier run.
    pub before: u64,
    /// Of the later run.
    pub after: u64,
}

/// What makes two cases the same: id, texts (by their number in the store) and expected label.
type Identity = (String, i64, Option<i64>);

impl Reader {
    /// Hands over the cases that both runs plan, in the order of the later one. Memory stays flat; it is fast where the
    /// runs have their cases in the same order.
    pub fn pair_cases(
        &self,
        before: &RunRow,
        after: &RunRow,
        evaluator: &EvaluatorId,
        take: &mut dyn FnMut(CasePair),
    ) -> Result<Unpaired, StoreError> {
        let or = self.or();
        let sql = "SELECT id, case_id, content, expected FROM planned WHERE id BETWEEN ?1 AND ?2 ORDER BY id";
        let (mut find_after, mut find_before) =
            (self.conn.prepare(sql).map_err(&or)?, self.conn.prepare(sql).map_err(&or)?);
        let sql = "SELECT trial, value FROM score WHERE trial BETWEEN ?1 AND ?2 AND evaluator = ?3 AND state = 0
                   ORDER BY trial";
        let (mut of_after, mut of_before) =
            (self.conn.prepare(sql).map_err(&or)?, self.conn.prepare(sql).map_err(&or)?);
        let range = |run: &RunRow| params_of(run).map(|id| id);
        let mut cases_after = find_after.query(range(after)).map_err(&or)?;
        let mut cases_before = find_before.query(range(before)).map_err(&or)?;
        let scores = |run: &RunRow| [first_key(run.number), last_key(run.number), place_of(run, evaluator)];
        let mut scores_after = Values::new(of_after.query(scores(after)).map_err(&or)?);
        let mut scores_before = Values::new(of_before.query(scores(before)).map_err(&or)?);
        let (mut paired, mut unpaired) = (0, Unpaired::default());
        while let Some(row) = cases_after.next().map_err(&or)? {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(1)?, row.get(2)?, row.get(3)?));
            let id: i64 = row.get(0).map_err(&or)?;
            let case: Identity = read(row).map_err(&or)?;
            let value_after = scores_after.mean(id).map_err(&or)?;
            // In step the partner stands at the same place; else it is looked up.
            let in_step = match cases_before.next().map_err(&or)? {
                Some(row) if read(row).map_err(&or)? == case => Some(row.get::<_, i64>(0).map_err(&or)?),
                _ => None,
            };
            let value_before = match in_step {
                Some(partner) => Some(scores_before.mean(partner).map_err(&or)?),
                None => match self.planned_as(before, &case)? {
                    Some(partner) => Some(self.mean_of_case(before, evaluator, partner)?),
                    None => None,
                },
            };
            match value_before {
                Some(value_before) => {
                    paired += 1;
                    take(CasePair { seq: unpack(id).seq, before: value_before, after: value_after });
                }
                None => unpaired.after += 1,
            }
        }
        unpaired.before = before.spec.dataset.cases.saturating_sub(paired);
        Ok(unpaired)
    }

    /// What the evaluator said in another run of the case that stands at this place; `None` where that run does not have
    /// it with the same texts and label.
    pub fn value_in(
        &self,
        other: &RunRow,
        run: &RunRow,
        key: TrialKey,
        evaluator: &EvaluatorId,
    ) -> Result<Option<Option<f64>>, StoreError> {
        let id = super::schema::pack(run.number, TrialKey { repeat: 0, ..key })?;
        let case: Option<Identity> = self
            .conn
            .prepare_cached("SELECT case_id, content, expected FROM planned WHERE id = ?1")
            .and_then(|mut find| find.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional())
            .map_err(self.or())?;
        let Some(case) = case else { return Ok(None) };
        match self.planned_as(other, &case)? {
            Some(partner) => self.mean_of_case(other, evaluator, partner).map(Some),
            None => Ok(None),
        }
    }

    /// The place of a case among those of a run.
    pub fn find_case(&self, run: &RunRow, case: &CaseId) -> Result<Option<u64>, StoreError> {
        let [first, last] = params_of(run);
        self.conn
            .prepare_cached("SELECT id FROM planned WHERE case_id = ?1 AND id BETWEEN ?2 AND ?3 ORDER BY id LIMIT 1")
            .and_then(|mut find| find.query_row(params![case.as_str(), first, last], |row| row.get(0)).optional())
            .map(|id: Option<i64>| id.map(|id| unpack(id).seq))
            .map_err(self.or())
    }

    /// Mean of an evaluator's values over a run, and how many there are.
    pub fn mean_score(&self, run: &RunRow, evaluator: &EvaluatorId) -> Result<(Option<f64>, u64), StoreError> {
        self.conn
            .prepare_cached(
                "SELECT avg(value), count(value) FROM score
                 WHERE trial BETWEEN ?1 AND ?2 AND evaluator = ?3 AND state = 0",
            )
            .and_then(|mut find| {
                find.query_row([first_key(run.number), last_key(run.number), place_of(run, evaluator)], |row| {
                    Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))
                })
            })
            .map_err(self.or())
    }

    fn planned_as(&self, run: &RunRow, case: &Identity) -> Result<Option<i64>, StoreError> {
        let [first, last] = params_of(run);
        self.conn
            .prepare_cached(
                "SELECT id FROM planned WHERE case_id = ?1 AND id BETWEEN ?2 AND ?3 AND content = ?4 AND expected IS ?5
                 LIMIT 1",
            )
            .and_then(|mut find| {
                find.query_row(params![case.0, first, last, case.1, case.2], |row| row.get(0)).optional()
            })
            .map_err(self.or())
    }

    fn mean_of_case(&self, run: &RunRow, evaluator: &EvaluatorId, case: i64) -> Result<Option<f64>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT avg(value) FROM score WHERE trial BETWEEN ?1 AND ?2 AND evaluator = ?3 AND state = 0",
            )
            .and_then(|mut find| find.query_row([case, case | REPEATS, place_of(run, evaluator)], |row| row.get(0)))
            .map_err(self.or())
    }
}

/// The bits of a key that count repeats.
const REPEATS: i64 = case_of(i64::MAX) ^ i64::MAX;

const fn params_of(run: &RunRow) -> [i64; 2] {
    [first_key(run.number), last_key(run.number)]
}

/// The number of an evaluator within its run; −1, which no score has, where the run does not have it.
fn place_of(run: &RunRow, evaluator: &EvaluatorId) -> i64 {
    run.spec.evaluators.iter().position(|spec| spec.id == *evaluator).map_or(-1, |at| at as i64)
}

/// Values by ascending key, averaged over the repeats of a case.
struct Values<'r> {
    rows: Rows<'r>,
    next: Option<(i64, Option<f64>)>,
    begun: bool,
}

impl<'r> Values<'r> {
    fn new(rows: Rows<'r>) -> Self {
        Self { rows, next: None, begun: false }
    }

    fn advance(&mut self) -> rusqlite::Result<()> {
        self.next = self.rows.next()?.map(|row| Ok::<_, rusqlite::Error>((row.get(0)?, row.get(1)?))).transpose()?;
        Ok(())
    }

    /// The mean of a case; cases must be asked for in ascending order.
    fn mean(&mut self, case: i64) -> rusqlite::Result<Option<f64>> {
        if !self.begun {
            self.begun = true;
            self.advance()?;
        }
        let (mut sum, mut n) = (0.0, 0u32);
        while let Some((trial, value)) = self.next {
            if trial > case | REPEATS {
                break;
            }
            if let Some(value) = value.filter(|_| trial >= case) {
                sum += value;
                n += 1;
            }
            self.advance()?;
        }
        Ok((n > 0).then(|| sum / f64::from(n)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Label, Predicted, RunEvent};
    use crate::store::testing::{
        Scene, batch_root, case_id, completed, evaluator, failed, plan, session_root, spec, trial,
    };

    /// Two runs: five cases, then the first four of them; what was answered changes for two.
    async fn scenes() -> (Scene, RunRow, RunRow) {
        let mut scene = Scene::started(5, 1).await;
        for seq in 0..5 {
            scene.record(trial(seq, 0, 0, completed(Predicted::Label(Label::True)))).await;
        }
        scene.finish().await;
        let before = scene.run();
        scene.spec = spec("20260923-120000-00000b", 4, 1);
        scene.spec.started_unix_nano += 1_000_000_000;
        plan(&scene.writer, &scene.spec).await;
        scene
            .record(RunEvent::SessionStarted { spec: Box::new(scene.spec.clone()), root: Box::new(session_root(11)) })
            .await;
        scene.record(RunEvent::BatchStarted { root: Box::new(batch_root(12)) }).await;
        for (seq, outcome) in [
            (0, completed(Predicted::Label(Label::True))),
            (1, completed(Predicted::Label(Label::False))),
            (2, failed()),
            (3, completed(Predicted::Unparseable)),
        ] {
            let mut event = trial(seq, 0, 0, outcome);
            if let RunEvent::TrialFinished { trial, spans, .. } = &mut event {
                trial.trace_id = crate::store::testing::trace_id(12);
                for span in spans {
                    span.trace_id = trial.trace_id;
                }
            }
            scene.record(event).await;
        }
        let after = scene.run();
        (scene, before, after)
    }

    #[tokio::test]
    async fn cases_of_two_runs_meet_by_id_text_and_label() {
        let (scene, before, after) = scenes().await;
        assert_ne!(before.number, after.number);
        let (reader, primary) = (scene.reader(), evaluator("label_match"));
        let mut pairs = Vec::new();
        let unpaired = reader.pair_cases(&before, &after, &primary, &mut |pair| pairs.push(pair)).expect("pairs");
        let seen: Vec<_> = pairs.iter().map(|pair| (pair.seq, pair.before, pair.after)).collect();
        let wanted =
            [(0, Some(1.0), Some(1.0)), (1, Some(0.0), Some(1.0)), (2, Some(0.0), None), (3, Some(1.0), Some(0.0))];
        assert_eq!((seen.as_slice(), unpaired), (wanted.as_slice(), Unpaired { before: 1, after: 0 }));
        // The other way round a case is left without a partner.
        let unpaired = reader.pair_cases(&after, &before, &primary, &mut |_| ()).expect("pairs");
        assert_eq!(unpaired, Unpaired { before: 0, after: 1 });
        let value = |seq| reader.value_in(&before, &after, TrialKey { seq, repeat: 0 }, &primary).expect("a value");
        assert_eq!([value(0), value(1)], [Some(Some(1.0)), Some(Some(0.0))]);
        assert_eq!(reader.mean_score(&before, &primary).expect("a mean"), (Some(0.4), 5));
        assert_eq!(reader.find_case(&after, &case_id(3)).expect("a place"), Some(3));
        assert_eq!(reader.find_case(&after, &case_id(4)).expect("a place"), None);
    }

    #[tokio::test]
    async fn a_case_whose_label_changed_is_another_case() {
        let (scene, before, after) = scenes().await;
        let moved = format!("UPDATE planned SET expected = 2 - expected WHERE id = {}", first_key(after.number));
        assert_eq!(scene.tamper(&moved), 1);
        let mut pairs = Vec::new();
        let unpaired = scene
            .reader()
            .pair_cases(&before, &after, &evaluator("label_match"), &mut |pair| pairs.push(pair.seq))
            .expect("pairs");
        assert_eq!((pairs, unpaired), (vec![1, 2, 3], Unpaired { before: 2, after: 1 }));
    }
}
