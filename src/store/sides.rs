//! Reading a run as one side of a comparison: case by case, each with all its trials, their scores and where they are.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Row, Rows};
use serde::Deserialize;

use super::bundle::span_id_of;
use super::error::StoreError;
use super::plan::decode_content;
use super::reader::{Reader, facts_of, label_of};
use super::rows::{RunRow, ScoreFact, TrialFacts};
use super::schema::{case_of, first_key, last_key, pack, unpack};
use crate::model::{CaseId, Digest, Label, SpanId, TraceId, TrialKey};

/// A planned case with the trials that are recorded of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SideCase {
    /// Its place in the run.
    pub seq: u64,
    /// Its id.
    pub case_id: CaseId,
    /// SHA-256 of its texts and label.
    pub digest: Digest,
    /// The gold label.
    pub expected: Option<Label>,
    /// A number for its group, equal for equal groups; see [`SideNames::groups`].
    pub group: Option<u32>,
    /// The dataset's other columns, where they were asked for.
    pub columns: Vec<(String, String)>,
    /// Its recorded trials by repeat.
    pub trials: Vec<SideTrial>,
}

/// A recorded trial.
#[derive(Debug, Clone, PartialEq)]
pub struct SideTrial {
    /// Outcome, scores, latency, tokens, price.
    pub facts: TrialFacts,
    /// Its trace; `None` where the store has lost it.
    pub trace_id: Option<TraceId>,
    /// Its `assess_claim` span.
    pub span_id: SpanId,
}

/// The words behind a side's numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SideNames {
    /// Names of groups.
    pub groups: BTreeMap<u32, String>,
    /// The models that answered.
    pub response_models: BTreeSet<String>,
    /// Fingerprints of the endpoint's configuration.
    pub fingerprints: BTreeSet<String>,
}

/// Of a trial's texts, who answered; nothing is copied.
#[derive(Deserialize)]
struct Answerer<'a> {
    #[serde(borrow, default)]
    response_model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    system_fingerprint: Option<Cow<'a, str>>,
}

impl Reader {
    /// Hands over the planned cases of a run in their order, each with its trials. Memory stays flat.
    pub fn for_each_side_case(
        &self,
        run: &RunRow,
        columns: bool,
        mut take: impl FnMut(SideCase),
    ) -> Result<SideNames, StoreError> {
        let _moment = self.moment()?;
        let or = self.or();
        let range = [first_key(run.number), last_key(run.number)];
        let mut names = SideNames { groups: self.groups_of(range)?, ..SideNames::default() };
        let traces = self.traces_of(range)?;
        let columns = if columns { "columns" } else { "NULL" };
        let mut planned = self
            .conn
            .prepare(&format!(
                "SELECT planned.id, case_id, expected, case_group, {columns}, content.digest FROM planned
                 JOIN content ON content.id = planned.content WHERE planned.id BETWEEN ?1 AND ?2 ORDER BY planned.id"
            ))
            .map_err(&or)?;
        let mut trials = self
            .conn
            .prepare(
                "SELECT id, outcome, latency_ns, input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_usd,
                        attempts, trace, span, texts FROM trial WHERE id BETWEEN ?1 AND ?2 ORDER BY id",
            )
            .map_err(&or)?;
        let mut scores = self
            .conn
            .prepare(
                "SELECT trial, evaluator, state, value, label FROM score WHERE trial BETWEEN ?1 AND ?2
                 ORDER BY trial, evaluator",
            )
            .map_err(&or)?;
        let mut planned = planned.query(range).map_err(&or)?;
        let mut trials = trials.query(range).map_err(&or)?;
        let mut scores = Scores::new(scores.query(range).map_err(&or)?).map_err(&or)?;
        let mut next_trial = |names: &mut SideNames| match trials.next().map_err(&or)? {
            Some(row) => {
                self.note_answerer(row, names)?;
                side_trial(row, &traces, run.spec.evaluators.len()).map(Some).map_err(&or)
            }
            None => Ok(None),
        };
        let mut trial = next_trial(&mut names)?;
        while let Some(row) = planned.next().map_err(&or)? {
            let id: i64 = row.get(0).map_err(&or)?;
            let mut case = self.side_case(id, row)?;
            while let Some((at, mut found)) = trial.take_if(|trial| case_of(trial.0) <= id) {
                // A trial that is not planned belongs to no case.
                if case_of(at) == id {
                    found.facts.expected = case.expected;
                    found.facts.group = case.group;
                    scores.fill(at, &mut found.facts.scores).map_err(&or)?;
                    case.trials.push(found);
                }
                trial = next_trial(&mut names)?;
            }
            take(case);
        }
        Ok(names)
    }

    /// The claim of a planned case.
    pub fn claim_of(&self, run: &RunRow, seq: u64) -> Result<Option<String>, StoreError> {
        let id = pack(run.number, TrialKey { seq, repeat: 0 })?;
        let mut find = self
            .conn
            .prepare_cached("SELECT body FROM planned JOIN content ON content.id = content WHERE planned.id = ?1")
            .map_err(self.or())?;
        let mut rows = find.query([id]).map_err(self.or())?;
        let Some(row) = rows.next().map_err(self.or())? else { return Ok(None) };
        let blob = row.get_ref(0).and_then(|b| Ok(b.as_blob()?)).map_err(self.or())?;
        self.unpack("a case", blob, |content| Ok(Some(decode_content(content)?.0.to_owned())))
    }

    fn side_case(&self, id: i64, row: &Row<'_>) -> Result<SideCase, StoreError> {
        let or = self.or();
        let damaged = |what: &str| StoreError::damaged("a case", what);
        let columns = match row.get_ref(4).and_then(|b| Ok(b.as_blob_or_null()?)).map_err(&or)? {
            Some(blob) => self.unpack("the columns of a case", blob, |json| {
                serde_json::from_slice(json).map_err(|e| StoreError::damaged("the columns of a case", e))
            })?,
            None => Vec::new(),
        };
        let digest = row.get_ref(5).and_then(|b| Ok(b.as_blob()?)).map_err(&or)?;
        Ok(SideCase {
            seq: unpack(id).seq,
            case_id: CaseId::parse(row.get::<_, String>(1).map_err(&or)?)
                .map_err(|e| StoreError::damaged("a case", e))?,
            digest: Digest::from_slice(digest).ok_or_else(|| damaged("its digest has another length"))?,
            expected: label_of(row.get(2).map_err(&or)?),
            group: row.get(3).map_err(&or)?,
            columns,
            trials: Vec::new(),
        })
    }

    fn note_answerer(&self, row: &Row<'_>, names: &mut SideNames) -> Result<(), StoreError> {
        let blob = row.get_ref(11).and_then(|b| Ok(b.as_blob()?)).map_err(self.or())?;
        self.unpack("the texts of a trial", blob, |json| {
            let said: Answerer<'_> =
                serde_json::from_slice(json).map_err(|e| StoreError::damaged("the texts of a trial", e))?;
            for (found, known) in
                [(said.response_model, &mut names.response_models), (said.system_fingerprint, &mut names.fingerprints)]
            {
                if let Some(found) = found.filter(|found| !known.contains(found.as_ref())) {
                    known.insert(found.into_owned());
                }
            }
            Ok(())
        })
    }

    fn groups_of(&self, range: [i64; 2]) -> Result<BTreeMap<u32, String>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT id, name FROM case_group WHERE id IN
                 (SELECT case_group FROM planned WHERE id BETWEEN ?1 AND ?2 AND case_group IS NOT NULL)",
            )
            .and_then(|mut find| find.query_map(range, |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(self.or())
    }

    /// The ids of the traces that trials refer to, those that retention removed among them.
    fn traces_of(&self, range: [i64; 2]) -> Result<BTreeMap<i64, TraceId>, StoreError> {
        let rows: Vec<(i64, Vec<u8>)> = self
            .conn
            .prepare_cached(
                "WITH of_run AS (SELECT DISTINCT trace FROM trial WHERE id BETWEEN ?1 AND ?2)
                 SELECT number, trace_id FROM trace WHERE number IN of_run
                 UNION ALL SELECT number, trace_id FROM pruned WHERE number IN of_run",
            )
            .and_then(|mut find| find.query_map(range, |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(self.or())?;
        Ok(rows.into_iter().filter_map(|(number, id)| Some((number, TraceId::from_slice(&id)?))).collect())
    }
}

fn side_trial(row: &Row<'_>, traces: &BTreeMap<i64, TraceId>, evaluators: usize) -> rusqlite::Result<(i64, SideTrial)> {
    let (id, facts) = facts_of(row, evaluators)?;
    let trace_id = traces.get(&row.get(9)?).copied();
    Ok((id, SideTrial { facts, trace_id, span_id: span_id_of(row.get(10)?) }))
}

/// Scores by ascending trial.
struct Scores<'r> {
    rows: Rows<'r>,
    next: Option<(i64, usize, ScoreFact)>,
}

impl<'r> Scores<'r> {
    fn new(rows: Rows<'r>) -> rusqlite::Result<Self> {
        let mut scores = Self { rows, next: None };
        scores.advance()?;
        Ok(scores)
    }

    fn advance(&mut self) -> rusqlite::Result<()> {
        let read = |row: &Row<'_>| {
            let fact = match row.get(2)? {
                0 => ScoreFact::Scored { value: row.get(3)?, label: None },
                1 => ScoreFact::Failed,
                _ => ScoreFact::Skipped,
            };
            Ok::<_, rusqlite::Error>((row.get(0)?, row.get::<_, i64>(1)? as usize, fact))
        };
        self.next = self.rows.next()?.map(read).transpose()?;
        Ok(())
    }

    /// Takes the scores of a trial; trials must be asked for in ascending order.
    fn fill(&mut self, trial: i64, slots: &mut [Option<ScoreFact>]) -> rusqlite::Result<()> {
        while let Some((of, evaluator, fact)) = self.next.take_if(|next| next.0 <= trial) {
            if of == trial
                && let Some(slot) = slots.get_mut(evaluator)
            {
                *slot = Some(fact);
            }
            self.advance()?;
        }
        Ok(())
    }
}
