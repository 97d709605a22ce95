//! Reading: runs and the facts of their trials. Cases, traces, delivery and verification stand in modules of their own.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, Transaction, params};

use super::bundle::{FAILED, SKIPPED, predicted_of};
use super::codec::Decoder;
use super::error::{Attempt, StoreError};
use super::lock;
use super::rows::{OutcomeKind, RunRow, ScoreFact, TrialCounts, TrialFacts};
use super::schema::{case_of, first_key, last_key, unpack};
use crate::model::{Label, RunId, RunSpec, RunStatus, TrialKey, Usage};

/// Reads the store over a connection of its own. It can be sent to another thread, not shared between threads.
pub struct Reader {
    pub(super) conn: Connection,
    decoder: RefCell<Decoder>,
    attempt: Attempt,
    dir: PathBuf,
}

/// How many runs an error lists.
const CANDIDATES: usize = 10;

const RUN_COLUMNS: &str =
    "number, run_id, spec, status, ended, active_ns, created_spans, completed, failed, skipped, resource, pruned_spans";

impl Reader {
    pub(super) fn new(conn: Connection, attempt: Attempt, dir: PathBuf) -> Self {
        Self { conn, decoder: RefCell::new(Decoder::new()), attempt, dir }
    }

    /// All runs, newest first.
    pub fn runs(&self) -> Result<Vec<RunRow>, StoreError> {
        let sql = format!("SELECT {RUN_COLUMNS} FROM run WHERE spec IS NOT NULL ORDER BY started DESC, number DESC");
        let mut find = self.conn.prepare_cached(&sql).map_err(self.or())?;
        let rows = find.query_map([], RawRun::from_row).map_err(self.or())?;
        rows.map(|row| self.run_row(row.map_err(self.or())?)).collect()
    }

    /// The run of a number.
    pub fn run(&self, number: i64) -> Result<RunRow, StoreError> {
        let sql = format!("SELECT {RUN_COLUMNS} FROM run WHERE number = ?1 AND spec IS NOT NULL");
        let found = self.conn.prepare_cached(&sql).and_then(|mut find| find.query_row([number], RawRun::from_row));
        match found {
            Ok(raw) => self.run_row(raw),
            Err(rusqlite::Error::QueryReturnedNoRows) => {
                Err(StoreError::UnknownRun { wanted: number.to_string(), known: self.newest()? })
            }
            Err(e) => Err(self.or()(e)),
        }
    }

    /// The run that a text means: an id, `latest`, `latest~N` (the N-th before the latest), a name (its newest run), or
    /// the beginning of one id.
    pub fn resolve_run(&self, text: &str) -> Result<RunRow, StoreError> {
        let runs: Vec<(i64, String, String)> = self
            .conn
            .prepare_cached(
                "SELECT number, run_id, json_extract(spec, '$.name') FROM run WHERE spec IS NOT NULL
                 ORDER BY started DESC, number DESC",
            )
            .and_then(|mut find| {
                find.query_map([], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<String>>(2)?.unwrap_or_default()))
                })?
                .collect()
            })
            .map_err(self.or())?;
        let shown = |(_, id, name): &(i64, String, String)| format!("{id} ({name})");
        if let Some(run) = runs.iter().find(|(_, id, _)| id == text) {
            return self.run(run.0);
        }
        let back = match text.strip_prefix("latest") {
            Some("") => Some(0),
            Some(rest) => rest.strip_prefix('~').and_then(|n| n.parse::<usize>().ok()),
            None => None,
        };
        if let Some(run) = back.and_then(|back| runs.get(back)) {
            return self.run(run.0);
        }
        if let Some(run) = runs.iter().find(|(_, _, name)| name == text) {
            return self.run(run.0);
        }
        let begin: Vec<_> = runs.iter().filter(|(_, id, _)| !text.is_empty() && id.starts_with(text)).collect();
        match begin.as_slice() {
            [run] => self.run(run.0),
            [] => Err(StoreError::UnknownRun {
                wanted: text.to_owned(),
                known: runs.iter().take(CANDIDATES).map(shown).collect(),
            }),
            several => Err(StoreError::AmbiguousRun {
                wanted: text.to_owned(),
                candidates: several.iter().take(CANDIDATES).map(|run| shown(run)).collect(),
            }),
        }
    }

    /// Whether a process records or changes the run now.
    pub fn is_live(&self, run_id: &RunId) -> bool {
        lock::is_locked(&self.dir, run_id)
    }

    /// Hands over the facts of every recorded trial of a run, by case and repeat. Memory stays flat.
    pub fn for_each_fact(&self, run: &RunRow, mut fact: impl FnMut(TrialFacts)) -> Result<(), StoreError> {
        let or = self.or();
        let range = params![first_key(run.number), last_key(run.number)];
        let mut trials = self
            .conn
            .prepare_cached(
                "SELECT id, outcome, latency_ns, input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_usd,
                        attempts FROM trial WHERE id BETWEEN ?1 AND ?2 ORDER BY id",
            )
            .map_err(&or)?;
        // Three tables in the same order: merging them is faster than joining them.
        let mut planned = self
            .conn
            .prepare_cached("SELECT id, expected, case_group FROM planned WHERE id BETWEEN ?1 AND ?2 ORDER BY id")
            .map_err(&or)?;
        let mut scores = self
            .conn
            .prepare_cached(
                "SELECT trial, evaluator, state, value, label FROM score WHERE trial BETWEEN ?1 AND ?2
                 ORDER BY trial, evaluator",
            )
            .map_err(&or)?;
        let mut trials = trials.query(range).map_err(&or)?;
        let mut planned = planned.query(range).map_err(&or)?;
        let mut scores = scores.query(range).map_err(&or)?;
        let mut case = next_case(&mut planned).map_err(&or)?;
        let mut score = next_score(&mut scores).map_err(&or)?;
        while let Some(row) = trials.next().map_err(&or)? {
            let (id, mut facts) = facts_of(row, run.spec.evaluators.len()).map_err(&or)?;
            while case.as_ref().is_some_and(|case| case.0 < case_of(id)) {
                case = next_case(&mut planned).map_err(&or)?;
            }
            if let Some((_, expected, group)) = case.filter(|case| case.0 == case_of(id)) {
                facts.expected = expected;
                facts.group = group;
            }
            while let Some((trial, evaluator, found)) = score.take_if(|score| score.0 <= id) {
                if trial == id
                    && let Some(slot) = facts.scores.get_mut(evaluator)
                {
                    *slot = Some(found);
                }
                score = next_score(&mut scores).map_err(&or)?;
            }
            fact(facts);
        }
        Ok(())
    }

    /// Which trials of a run need not be run again: the completed ones, and with `failed_too` the failed ones. Skipped
    /// ones were never tried.
    pub fn done_trials(&self, run: &RunRow, failed_too: bool) -> Result<DoneTrials, StoreError> {
        let below = if failed_too { SKIPPED } else { FAILED };
        let mut done = DoneTrials::new(run.spec.dataset.cases, run.spec.repeat);
        let mut find = self
            .conn
            .prepare_cached("SELECT id FROM trial WHERE id BETWEEN ?1 AND ?2 AND outcome < ?3")
            .map_err(self.or())?;
        let mut rows = find.query([first_key(run.number), last_key(run.number), below]).map_err(self.or())?;
        while let Some(row) = rows.next().map_err(self.or())? {
            done.insert(unpack(row.get(0).map_err(self.or())?));
        }
        Ok(done)
    }

    /// While the guard lives, all is read as of one moment, whatever others write or remove.
    pub(super) fn moment(&self) -> Result<Option<Transaction<'_>>, StoreError> {
        // Within another one there is nothing to do.
        if !self.conn.is_autocommit() {
            return Ok(None);
        }
        self.conn.unchecked_transaction().map(Some).map_err(self.or())
    }

    /// Says what was attempted when SQLite refused.
    pub(super) fn or(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let attempt = self.attempt.clone();
        move |error| attempt.failed(error)
    }

    /// Hands the content of a blob to `read`, which must not unpack another.
    pub(super) fn unpack<T>(
        &self,
        what: &'static str,
        blob: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        read(self.decoder.borrow_mut().decode(&self.conn, what, blob)?)
    }

    /// The database file.
    pub(super) fn path(&self) -> &Path {
        &self.attempt.path
    }

    fn newest(&self) -> Result<Vec<String>, StoreError> {
        let runs = self.runs()?;
        Ok(runs.iter().take(CANDIDATES).map(|run| format!("{} ({})", run.spec.run_id, run.spec.name)).collect())
    }

    fn run_row(&self, raw: RawRun) -> Result<RunRow, StoreError> {
        let damaged = |reason: String| StoreError::damaged(format!("run {}", raw.run_id), reason);
        let mut spec: RunSpec = serde_json::from_str(&raw.spec).map_err(|e| damaged(e.to_string()))?;
        spec.resource = self.resource(raw.resource)?;
        Ok(RunRow {
            number: raw.number,
            spec,
            status: RunStatus::from_name(&raw.status)
                .ok_or_else(|| damaged(format!("`{}` is no status of a run", raw.status)))?,
            ended_unix_nano: raw.ended.map(|t| t as u64),
            active_ns: raw.active_ns as u64,
            spans_created: raw.created_spans as u64,
            spans_pruned: raw.pruned_spans as u64,
            counts: raw.counts,
        })
    }
}

struct RawRun {
    number: i64,
    run_id: String,
    spec: String,
    status: String,
    ended: Option<i64>,
    active_ns: i64,
    created_spans: i64,
    counts: TrialCounts,
    resource: Option<i64>,
    pruned_spans: i64,
}

impl RawRun {
    /// Reads [`RUN_COLUMNS`].
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let count = |column: usize| row.get::<_, i64>(column).map(|n| n as u64);
        Ok(Self {
            number: row.get(0)?,
            run_id: row.get(1)?,
            spec: row.get(2)?,
            status: row.get(3)?,
            ended: row.get(4)?,
            active_ns: row.get(5)?,
            created_spans: row.get(6)?,
            counts: TrialCounts { completed: count(7)?, failed: count(8)?, skipped: count(9)? },
            resource: row.get(10)?,
            pruned_spans: row.get(11)?,
        })
    }
}

/// A set of trials: one bit for each planned one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoneTrials {
    repeat: u32,
    bits: Vec<u64>,
    count: u64,
}

impl DoneTrials {
    /// No trial of a run with so many cases and repeats.
    pub fn new(cases: u64, repeat: u32) -> Self {
        let trials = cases * u64::from(repeat);
        Self { repeat, bits: vec![0; trials.div_ceil(64) as usize], count: 0 }
    }

    /// Whether the trial is in it.
    pub fn contains(&self, key: TrialKey) -> bool {
        let (word, bit) = self.place(key);
        key.repeat < self.repeat && self.bits.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// How many there are.
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn insert(&mut self, key: TrialKey) {
        let (word, bit) = self.place(key);
        // A trial beyond the plan cannot be planned again either.
        if let Some(bits) = self.bits.get_mut(word).filter(|_| key.repeat < self.repeat) {
            self.count += u64::from(*bits & bit == 0);
            *bits |= bit;
        }
    }

    const fn place(&self, key: TrialKey) -> (usize, u64) {
        let at = key.seq * self.repeat as u64 + key.repeat as u64;
        ((at / 64) as usize, 1 << (at % 64))
    }
}

/// The label of a column.
pub(super) fn label_of(number: Option<i64>) -> Option<Label> {
    number.and_then(|n| Label::ALL.get(usize::try_from(n).ok()?).copied())
}

/// Tokens of four columns.
pub(super) fn usage_of(row: &Row<'_>, first: usize) -> rusqlite::Result<Usage> {
    let count = |column: usize| row.get::<_, Option<i64>>(column).map(|n| n.map(|n| n as u64));
    Ok(Usage {
        input_tokens: count(first)?,
        output_tokens: count(first + 1)?,
        cached_input_tokens: count(first + 2)?,
        reasoning_tokens: count(first + 3)?,
    })
}

/// A trial from the first nine columns of a query over `trial`; its scores follow.
pub(super) fn facts_of(row: &Row<'_>, evaluators: usize) -> rusqlite::Result<(i64, TrialFacts)> {
    let id = row.get(0)?;
    let facts = TrialFacts {
        key: unpack(id),
        expected: None,
        outcome: match row.get(1)? {
            FAILED => OutcomeKind::Failed,
            SKIPPED => OutcomeKind::Skipped,
            number => OutcomeKind::Completed(predicted_of(number)),
        },
        group: None,
        latency_ns: row.get::<_, i64>(2)? as u64,
        usage: usage_of(row, 3)?,
        cost_usd: row.get(7)?,
        attempts: row.get(8)?,
        scores: vec![None; evaluators],
    };
    Ok((id, facts))
}

type Case = (i64, Option<Label>, Option<u32>);

fn next_case(rows: &mut rusqlite::Rows<'_>) -> rusqlite::Result<Option<Case>> {
    rows.next()?.map(|row| Ok((row.get(0)?, label_of(row.get(1)?), row.get(2)?))).transpose()
}

fn next_score(rows: &mut rusqlite::Rows<'_>) -> rusqlite::Result<Option<(i64, usize, ScoreFact)>> {
    let read = |row: &Row<'_>| {
        let fact = match row.get(2)? {
            0 => ScoreFact::Scored { value: row.get(3)?, label: row.get(4)? },
            1 => ScoreFact::Failed,
            _ => ScoreFact::Skipped,
        };
        Ok((row.get(0)?, row.get::<_, i64>(1)? as usize, fact))
    };
    rows.next()?.map(read).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Outcome, Predicted};
    use crate::store::testing::{Scene, completed, failed, plan, spec, trial};

    #[tokio::test]
    async fn facts_come_by_case_and_repeat_whatever_the_order_of_commits() {
        let scene = Scene::started(3, 2).await;
        for (seq, repeat) in [(2, 1), (0, 0), (1, 1), (0, 1)] {
            scene.record(trial(seq, repeat, 0, completed(Predicted::Label(Label::Nee)))).await;
        }
        scene.record(trial(1, 0, 0, failed())).await;
        let (reader, run) = (scene.reader(), scene.run());
        let mut facts = Vec::new();
        reader.for_each_fact(&run, |fact| facts.push(fact)).expect("facts");
        let keys: Vec<_> = facts.iter().map(|fact| (fact.key.seq, fact.key.repeat)).collect();
        assert_eq!(keys, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)]);
        assert_eq!(facts[0].group, facts[2].group, "cases 0 and 1 share a group");
        assert_ne!(facts[0].group, facts[4].group);
        assert_eq!(facts[4].expected, Some(Label::Nee));
        let scored = |value, label: &str| Some(ScoreFact::Scored { value: Some(value), label: Some(label.to_owned()) });
        assert_eq!(facts[4].scores, [scored(1.0, "pass"), scored(1.0, "pass")]);
        assert_eq!(facts[0].scores, [scored(0.0, "fail"), scored(1.0, "pass")]);
        assert_eq!(
            (facts[2].outcome, &facts[2].scores),
            (OutcomeKind::Failed, &vec![Some(ScoreFact::Skipped), Some(ScoreFact::Failed)])
        );
        assert_eq!((facts[4].latency_ns, facts[4].usage.input_tokens), (3_000_000, Some(102)));
    }

    #[tokio::test]
    async fn done_trials_are_completed_or_failed_ones() {
        let scene = Scene::started(2, 2).await;
        scene.record(trial(0, 1, 0, completed(Predicted::Unparseable))).await;
        scene.record(trial(1, 0, 0, failed())).await;
        scene.record(trial(1, 1, 0, Outcome::Skipped { reason: "budget".to_owned() })).await;
        let (reader, run) = (scene.reader(), scene.run());
        let set = |failed_too| {
            let done = reader.done_trials(&run, failed_too).expect("a set");
            let keys = [(0, 0), (0, 1), (1, 0), (1, 1)];
            let held = keys.into_iter().filter(|(seq, repeat)| done.contains(TrialKey { seq: *seq, repeat: *repeat }));
            (held.collect::<Vec<_>>(), done.len())
        };
        assert_eq!(set(false), (vec![(0, 1)], 1));
        assert_eq!(set(true), (vec![(0, 1), (1, 0)], 2));
    }

    #[tokio::test]
    async fn runs_are_found_by_id_prefix_name_and_age() {
        let scene = Scene::planned(0, 1).await;
        for (id, name, later) in [("20260923-120000-00000b", "night", 1), ("20260924-120000-00000c", "night", 2)] {
            let mut spec = spec(id, 0, 1);
            spec.name = name.to_owned();
            spec.started_unix_nano += later;
            plan(&scene.writer, &spec).await;
        }
        let reader = scene.reader();
        for (text, wanted) in [
            ("latest", "20260924-120000-00000c"),
            ("latest~2", "20260922-120000-00000a"),
            ("night", "20260924-120000-00000c"),
            ("demo", "20260922-120000-00000a"),
            ("20260923", "20260923-120000-00000b"),
            ("20260923-120000-00000b", "20260923-120000-00000b"),
        ] {
            assert_eq!(reader.resolve_run(text).expect(text).spec.run_id.as_str(), wanted, "{text}");
        }
        let ambiguous = reader.resolve_run("2026092").expect_err("three").to_string();
        assert!(ambiguous.contains("20260923-120000-00000b (night), 20260922-120000-00000a (demo)"), "{ambiguous}");
        for text in ["", "latest~3", "latest~x", "nightly"] {
            let unknown = reader.resolve_run(text).expect_err("none").to_string();
            assert!(
                unknown.starts_with(&format!("no run `{text}` in the store; the newest are 20260924")),
                "{unknown}"
            );
        }
    }
}
