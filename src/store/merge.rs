//! Taking in the runs of another store: rows are copied under new numbers, a run at a time. What is here already is left.
//!
//! A run becomes visible with its last transaction; one that was cut off before is swept away like a plan that was. Traces
//! of no run are no business of this module: they go through [`Writer::ingest`](super::Writer::ingest) like any telemetry.
//! What becomes of traces stands in [`super::merge_traces`].

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::codec::{put_varint, take_varint};
use super::error::{Attempt, StoreError};
use super::lock;
use super::open::Store;
use super::reader::Reader;
use super::schema::{first_key, last_key};
use crate::model::RunId;

/// Rows that are copied in one transaction, so that others can write in between.
pub(super) const STEP: usize = 4096;

/// What became of a run of the other store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergedRun {
    /// It is here now, with so many trials and spans.
    Taken {
        /// Its trials.
        trials: u64,
        /// Its spans, those of applications included.
        spans: u64,
    },
    /// It was here already.
    Known,
    /// A process records it now.
    Live,
}

impl Store {
    /// Takes in a run of another store with its plan, trials, scores and traces, but for where it is delivered to: that was
    /// the other machine's business. A trace that is here already is left as it is.
    pub fn merge_run(&self, other: &Self, run_id: &RunId) -> Result<MergedRun, StoreError> {
        if lock::is_locked(other.dir(), run_id) {
            return Ok(MergedRun::Live);
        }
        let lock = self.lock_run(run_id)?;
        let merge = Merge {
            from: other.connect_for_reading()?,
            to: self.connect_for_writing()?,
            reading: Attempt::new("reading", other.path()),
            writing: Attempt::new("writing", self.path()),
        };
        let merged = merge.run(run_id);
        drop(lock);
        merged
    }
}

impl Reader {
    /// Ids of the store's runs, the oldest first.
    pub fn run_ids(&self) -> Result<Vec<RunId>, StoreError> {
        let mut ids: Vec<RunId> = self.runs()?.into_iter().map(|row| row.spec.run_id).collect();
        ids.reverse();
        Ok(ids)
    }
}

pub(super) struct Merge {
    from: Connection,
    pub(super) to: Connection,
    reading: Attempt,
    writing: Attempt,
}

/// Numbers of the other store and of this one.
#[derive(Default)]
pub(super) struct Numbers {
    /// The run there and here.
    pub(super) run: (i64, i64),
    /// What is added to the number of a span and of a payload.
    span: i64,
    payload: i64,
    pub(super) traces: HashMap<i64, i64>,
    resources: HashMap<i64, i64>,
    scopes: HashMap<i64, i64>,
    names: HashMap<i64, i64>,
    groups: HashMap<i64, i64>,
    contents: HashMap<i64, i64>,
    dictionaries: HashMap<u64, u64>,
    /// Traces of the run that were here before.
    pub(super) known_traces: HashSet<i64>,
    /// Traces of somebody else that the run has spans in.
    pub(super) foreign_traces: HashSet<i64>,
    /// Payloads whose spans or log records are here already, under another number.
    pub(super) known_payloads: HashSet<i64>,
}

/// A run's row without its number.
pub(super) struct RunValues {
    number: i64,
    spec: String,
    resource: Option<i64>,
    values: Vec<Value>,
    pub(super) spans: Option<(i64, i64)>,
    payloads: Option<(i64, i64)>,
}

const RUN_VALUES: &str =
    "status, started, session_started, ended, active_ns, created_spans, completed, failed, skipped, pruned_spans";

impl Merge {
    fn run(&self, run_id: &RunId) -> Result<MergedRun, StoreError> {
        let here: Option<bool> = self
            .to
            .query_row("SELECT spec IS NOT NULL FROM run WHERE run_id = ?1", [run_id.as_str()], |row| row.get(0))
            .optional()
            .map_err(self.wrote())?;
        match here {
            Some(true) => return Ok(MergedRun::Known),
            // Left by a merge that was cut off: nobody has seen it.
            Some(false) => self.drop_half(run_id)?,
            None => {}
        }
        // One view of the other store, however long it takes and whoever writes there.
        self.from.execute_batch("BEGIN").map_err(self.read())?;
        let row = self.run_values(run_id)?;
        let mut numbers = self.begin(run_id, &row)?;
        self.dictionaries(&mut numbers)?;
        self.bodies(&row, &mut numbers)?;
        self.traces(&row, &mut numbers)?;
        self.plan(&mut numbers)?;
        let trials = self.trials(&numbers)?;
        let spans = self.spans(&row, &numbers)?;
        self.scores(&mut numbers)?;
        self.finish(&row, &numbers)?;
        self.from.execute_batch("ROLLBACK").map_err(self.read())?;
        Ok(MergedRun::Taken { trials, spans })
    }

    fn run_values(&self, run_id: &RunId) -> Result<RunValues, StoreError> {
        let sql = format!(
            "SELECT number, spec, resource, first_span, last_span, first_payload, last_payload, {RUN_VALUES} FROM run
             WHERE run_id = ?1 AND spec IS NOT NULL"
        );
        self.from
            .query_row(&sql, [run_id.as_str()], |row| {
                let range = |first: usize| -> rusqlite::Result<Option<(i64, i64)>> {
                    Ok(row.get::<_, Option<i64>>(first)?.zip(row.get::<_, Option<i64>>(first + 1)?))
                };
                Ok(RunValues {
                    number: row.get(0)?,
                    spec: row.get(1)?,
                    resource: row.get(2)?,
                    spans: range(3)?,
                    payloads: range(5)?,
                    values: (7..17).map(|place| row.get(place)).collect::<Result<_, _>>()?,
                })
            })
            .map_err(self.read())
    }

    /// Makes the invisible row of the run and reserves the numbers of its spans and payloads.
    fn begin(&self, run_id: &RunId, row: &RunValues) -> Result<Numbers, StoreError> {
        self.transaction(|| {
            self.to.execute("INSERT INTO run (run_id, status) VALUES (?1, 'running')", [run_id.as_str()])?;
            let run = self.to.last_insert_rowid();
            let (span, payload): (i64, i64) =
                self.to.query_row("SELECT span, payload FROM counter", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let shift = |last: i64, range: Option<(i64, i64)>| range.map_or(0, |(first, _)| last + 1 - first);
            let numbers = Numbers {
                run: (row.number, run),
                span: shift(span, row.spans),
                payload: shift(payload, row.payloads),
                ..Numbers::default()
            };
            let length = |range: Option<(i64, i64)>| range.map_or(0, |(first, last)| last + 1 - first);
            self.to.execute(
                "UPDATE counter SET span = span + ?1, payload = payload + ?2",
                [length(row.spans), length(row.payloads)],
            )?;
            Ok(numbers)
        })
    }

    /// Each dictionary of the other store under its number here.
    fn dictionaries(&self, numbers: &mut Numbers) -> Result<(), StoreError> {
        let all: Vec<(u64, Vec<u8>)> =
            self.all("SELECT id, content FROM dictionary", [], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)))?;
        self.transaction(|| {
            for (id, content) in &all {
                let find = "SELECT id FROM dictionary WHERE content = ?1";
                let here: Option<i64> = self.to.query_row(find, [content], |row| row.get(0)).optional()?;
                let here = match here {
                    Some(here) => here,
                    None => {
                        self.to.execute("INSERT INTO dictionary (content) VALUES (?1)", [content])?;
                        self.to.last_insert_rowid()
                    }
                };
                numbers.dictionaries.insert(*id, here as u64);
            }
            Ok(())
        })
    }

    /// Resources and scopes that the run's payloads refer to.
    fn bodies(&self, row: &RunValues, numbers: &mut Numbers) -> Result<(), StoreError> {
        let (first, last) = row.payloads.unwrap_or((0, -1));
        for (table, in_payload) in [("resource", true), ("scope", true), ("resource", false)] {
            let of_run = "SELECT id, body, NULL FROM resource WHERE id = ?1 AND ?2 = ?2 AND ?3 = ?3";
            let of_payloads = format!(
                "SELECT {table}.id, {table}.body, max(payload.id) FROM payload JOIN {table} ON {table}.id = payload.{table}
                 WHERE payload.run = ?1 AND payload.id BETWEEN ?2 AND ?3 GROUP BY {table}.id"
            );
            let (sql, key) =
                if in_payload { (of_payloads.as_str(), row.number) } else { (of_run, row.resource.unwrap_or(-1)) };
            let all: Vec<(i64, Vec<u8>, Option<i64>)> =
                self.all(sql, params![key, first, last], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let shift = numbers.payload;
            let map = if table == "scope" { &mut numbers.scopes } else { &mut numbers.resources };
            self.transaction(|| {
                for (id, body, last) in &all {
                    self.to.execute(&format!("INSERT OR IGNORE INTO {table} (body) VALUES (?1)"), [body])?;
                    let find = format!("SELECT id FROM {table} WHERE body = ?1");
                    let here: i64 = self.to.query_row(&find, [body], |row| row.get(0))?;
                    // Retention asks for the last payload that refers to it.
                    let keep = format!(
                        "UPDATE {table} SET last_payload = max(coalesce(last_payload, 0), ?2) WHERE id = ?1 AND ?2 IS NOT NULL"
                    );
                    self.to.execute(&keep, params![here, last.map(|last| last + shift)])?;
                    map.insert(*id, here);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Planned cases with their contents and groups.
    fn plan(&self, numbers: &mut Numbers) -> Result<(), StoreError> {
        let (there, here) = numbers.run;
        let sql = "SELECT planned.id, planned.content, case_id, expected, case_group, columns, hash, digest, body, name
                   FROM planned JOIN content ON content.id = planned.content
                   LEFT JOIN case_group ON case_group.id = planned.case_group
                   WHERE planned.id BETWEEN ?1 AND ?2 ORDER BY planned.id";
        self.copy(sql, params![first_key(there), last_key(there)], 10, |mut values| {
            let name = values.pop();
            let content: Vec<Value> = values.split_off(6);
            values[0] = rekeyed(&values[0], there, here);
            values[1] = Value::Integer(self.content(&values[1], &content, numbers)?);
            if let (Value::Integer(group), Some(Value::Text(name))) = (&values[4], &name) {
                values[4] = Value::Integer(self.named("case_group", name, *group, &mut numbers.groups)?);
            }
            recode(&mut values[5], &numbers.dictionaries);
            let mut insert = self.to.prepare_cached("INSERT INTO planned VALUES (?, ?, ?, ?, ?, ?)")?;
            insert.execute(params_from_iter(values)).map(drop)
        })
        .map(drop)
    }

    /// The number here of a claim and context.
    fn content(&self, there: &Value, content: &[Value], numbers: &mut Numbers) -> rusqlite::Result<i64> {
        let Value::Integer(there) = there else { return Ok(0) };
        if let Some(here) = numbers.contents.get(there) {
            return Ok(*here);
        }
        let mut find = self.to.prepare_cached("SELECT id FROM content WHERE hash = ?1 AND digest = ?2")?;
        let known: Option<i64> = find.query_row([&content[0], &content[1]], |row| row.get(0)).optional()?;
        let here = if let Some(here) = known {
            here
        } else {
            let mut body = content[2].clone();
            recode(&mut body, &numbers.dictionaries);
            let mut insert = self.to.prepare_cached("INSERT INTO content (hash, digest, body) VALUES (?, ?, ?)")?;
            insert.insert([&content[0], &content[1], &body])?
        };
        numbers.contents.insert(*there, here);
        Ok(here)
    }

    /// The number here of a name that has a table of its own.
    fn named(&self, table: &str, name: &str, there: i64, known: &mut HashMap<i64, i64>) -> rusqlite::Result<i64> {
        if let Some(here) = known.get(&there) {
            return Ok(*here);
        }
        self.to.execute(&format!("INSERT OR IGNORE INTO {table} (name) VALUES (?1)"), [name])?;
        let here = self.to.query_row(&format!("SELECT id FROM {table} WHERE name = ?1"), [name], |row| row.get(0))?;
        known.insert(there, here);
        Ok(here)
    }

    fn trials(&self, numbers: &Numbers) -> Result<u64, StoreError> {
        let (there, here) = numbers.run;
        let range = params![first_key(there), last_key(there)];
        let sql = "SELECT id, outcome, latency_ns, input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_usd, attempts,
                   cached, started, trace, span, chat, texts FROM trial WHERE id BETWEEN ?1 AND ?2 ORDER BY id";
        let insert = format!("INSERT INTO trial VALUES ({})", places(15));
        let trials = self.copy(sql, range, 15, |mut values| {
            values[0] = rekeyed(&values[0], there, here);
            values[11] = mapped(&values[11], &numbers.traces);
            recode(&mut values[14], &numbers.dictionaries);
            self.to.prepare_cached(&insert)?.execute(params_from_iter(values)).map(drop)
        })?;
        let sql = "SELECT trial, evaluator, state, value, label FROM score WHERE trial BETWEEN ?1 AND ?2 ORDER BY trial, evaluator";
        self.copy(sql, range, 5, |mut values| {
            values[0] = rekeyed(&values[0], there, here);
            self.to
                .prepare_cached("INSERT INTO score VALUES (?, ?, ?, ?, ?)")?
                .execute(params_from_iter(values))
                .map(drop)
        })?;
        Ok(trials)
    }

    fn spans(&self, row: &RunValues, numbers: &Numbers) -> Result<u64, StoreError> {
        let (there, here) = numbers.run;
        let (first, last) = row.payloads.unwrap_or((0, -1));
        let sql = "SELECT id, resource, scope, body FROM payload WHERE run = ?1 AND id BETWEEN ?2 AND ?3 ORDER BY id";
        let is_known = |payload: &Value| matches!(payload, Value::Integer(n) if numbers.known_payloads.contains(n));
        self.copy(sql, params![there, first, last], 4, |mut values| {
            if is_known(&values[0]) {
                return Ok(());
            }
            shift(&mut values[0], numbers.payload);
            values[1] = mapped(&values[1], &numbers.resources);
            values[2] = mapped(&values[2], &numbers.scopes);
            recode(&mut values[3], &numbers.dictionaries);
            values.push(Value::Integer(here));
            let sql = "INSERT INTO payload (id, resource, scope, body, run) VALUES (?, ?, ?, ?, ?)";
            self.to.prepare_cached(sql)?.execute(params_from_iter(values)).map(drop)
        })?;
        let sql =
            "SELECT payload, records, trace FROM log WHERE run = ?1 AND payload BETWEEN ?2 AND ?3 ORDER BY payload";
        self.copy(sql, params![there, first, last], 3, |mut values| {
            if is_known(&values[0]) {
                return Ok(());
            }
            shift(&mut values[0], numbers.payload);
            values[2] = mapped(&values[2], &numbers.traces);
            values.push(Value::Integer(here));
            let sql = "INSERT INTO log (payload, records, trace, run) VALUES (?, ?, ?, ?)";
            self.to.prepare_cached(sql)?.execute(params_from_iter(values)).map(drop)
        })?;
        let sql = "SELECT hash, payload FROM log_hash JOIN payload ON payload.id = log_hash.payload
                   WHERE payload.run = ?1 AND payload.id BETWEEN ?2 AND ?3";
        self.copy(sql, params![there, first, last], 2, |mut values| {
            if is_known(&values[1]) {
                return Ok(());
            }
            shift(&mut values[1], numbers.payload);
            let mut insert = self.to.prepare_cached("INSERT OR IGNORE INTO log_hash (hash, payload) VALUES (?, ?)")?;
            insert.execute(params_from_iter(values)).map(drop)
        })?;
        let (first, last) = row.spans.unwrap_or((0, -1));
        let sql = "SELECT id, trace, span_id, parent, kind, status, start, end, trial, payload, slot, name FROM span
                   WHERE run = ?1 AND id BETWEEN ?2 AND ?3 ORDER BY id";
        let insert =
            "INSERT INTO span (id, trace, span_id, parent, kind, status, start, end, trial, payload, slot, name, run)
                      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        self.copy(sql, params![there, first, last], 12, |mut values| {
            if !self.is_new_span(&values, numbers)? {
                return Ok(());
            }
            shift(&mut values[0], numbers.span);
            values[1] = mapped(&values[1], &numbers.traces);
            values[8] = rekeyed(&values[8], there, here);
            shift(&mut values[9], numbers.payload);
            values.push(Value::Integer(here));
            self.to.prepare_cached(insert)?.execute(params_from_iter(values)).map(drop)
        })
    }

    /// The means of the traces' scores, and the scores that came with telemetry.
    fn scores(&self, numbers: &mut Numbers) -> Result<(), StoreError> {
        let run = numbers.run.0;
        let Numbers { traces, names, known_traces, .. } = numbers;
        let sql = "SELECT trace_score.trace, trace_score.name, trace_score.value, score_name.name FROM trace_score
                   JOIN trace ON trace.number = trace_score.trace JOIN score_name ON score_name.id = trace_score.name
                   WHERE trace.run = ?1";
        let is_known = |value: &Value, known: &HashSet<i64>| matches!(value, Value::Integer(n) if known.contains(n));
        self.copy(sql, [run], 4, |mut values| {
            if is_known(&values[0], known_traces) {
                return Ok(());
            }
            self.rename(&mut values, 1, names)?;
            values[0] = mapped(&values[0], traces);
            let mut insert = self.to.prepare_cached("INSERT OR IGNORE INTO trace_score VALUES (?, ?, ?)")?;
            insert.execute(params_from_iter(values)).map(drop)
        })?;
        let columns = "key, span, value, label, explanation, annotator_kind, identifier, error_type, response_id, source, judge_trace, judge_span";
        let of_score = columns.replace(", ", ", external_score.");
        let sql = format!(
            "SELECT external_score.trace, external_score.name, external_score.{of_score}, score_name.name FROM external_score
             JOIN trace ON trace.number = external_score.trace JOIN score_name ON score_name.id = external_score.name
             WHERE trace.run = ?1"
        );
        let insert = format!("INSERT OR IGNORE INTO external_score (trace, name, {columns}) VALUES ({})", places(14));
        self.copy(&sql, [run], 15, |mut values| {
            if is_known(&values[0], known_traces) {
                return Ok(());
            }
            self.rename(&mut values, 1, names)?;
            values[0] = mapped(&values[0], traces);
            self.to.prepare_cached(&insert)?.execute(params_from_iter(values)).map(drop)
        })?;
        Ok(())
    }

    /// Puts the number that the score's name, the last of the values, has here in its place.
    fn rename(&self, values: &mut Vec<Value>, place: usize, names: &mut HashMap<i64, i64>) -> rusqlite::Result<()> {
        if let (Some(Value::Text(name)), Value::Integer(there)) = (values.pop(), &values[place]) {
            values[place] = Value::Integer(self.named("score_name", &name, *there, names)?);
        }
        Ok(())
    }

    /// Makes the run visible.
    fn finish(&self, row: &RunValues, numbers: &Numbers) -> Result<(), StoreError> {
        self.transaction(|| {
            let moved = |range: Option<(i64, i64)>, by: i64| range.map(|(first, last)| (first + by, last + by)).unzip();
            let (spans, payloads) = (moved(row.spans, numbers.span), moved(row.payloads, numbers.payload));
            let resource = row.resource.and_then(|there| numbers.resources.get(&there).copied());
            let mut values: Vec<Value> = vec![
                Value::Integer(numbers.run.1),
                Value::Text(row.spec.clone()),
                resource.into(),
                spans.0.into(),
                spans.1.into(),
                payloads.0.into(),
                payloads.1.into(),
            ];
            values.extend(row.values.iter().cloned());
            let set: Vec<String> = RUN_VALUES.split(", ").map(|column| format!("{column} = ?")).collect();
            // The number comes first among the values, and SQLite counts question marks from where a number stood.
            let sql = format!(
                "UPDATE run SET spec = ?2, resource = ?3, first_span = ?4, last_span = ?5, first_payload = ?6, last_payload = ?7, {}
                 WHERE number = ?1",
                set.join(", ")
            );
            self.to.execute(&sql, params_from_iter(values))?;
            self.to.execute("UPDATE counter SET changes = changes + 1", []).map(drop)
        })
    }

    /// Removes what a merge that was cut off left.
    fn drop_half(&self, run_id: &RunId) -> Result<(), StoreError> {
        let mut more = true;
        while more {
            more = self.transaction(|| super::remove::drop_plan(&self.to, run_id))?;
        }
        Ok(())
    }

    /// Hands over rows of the other store, in transactions of a few thousand; gives how many there were.
    fn copy(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        columns: usize,
        mut row: impl FnMut(Vec<Value>) -> rusqlite::Result<()>,
    ) -> Result<u64, StoreError> {
        let mut find = self.from.prepare(sql).map_err(self.read())?;
        let mut rows = find.query(params).map_err(self.read())?;
        let mut count = 0;
        loop {
            let mut part = Vec::with_capacity(STEP);
            while part.len() < STEP {
                let Some(next) = rows.next().map_err(self.read())? else { break };
                let values = (0..columns).map(|place| next.get(place)).collect::<Result<Vec<Value>, _>>();
                part.push(values.map_err(self.read())?);
            }
            if part.is_empty() {
                return Ok(count);
            }
            count += part.len() as u64;
            self.transaction(|| part.into_iter().try_for_each(&mut row))?;
        }
    }

    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut find = self.from.prepare(sql).map_err(self.read())?;
        find.query_map(params, read).and_then(Iterator::collect).map_err(self.read())
    }

    pub(super) fn transaction<T>(&self, write: impl FnOnce() -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let done = || {
            self.to.execute_batch("BEGIN IMMEDIATE")?;
            let result = write();
            self.to.execute_batch(if result.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
            result
        };
        done().map_err(self.wrote())
    }

    fn read(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let attempt = self.reading.clone();
        move |error| attempt.failed(error)
    }

    fn wrote(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let attempt = self.writing.clone();
        move |error| attempt.failed(error)
    }
}

pub(super) fn places(n: usize) -> String {
    vec!["?"; n].join(", ")
}

/// The key of a trial or planned case, for the run's number here.
fn rekeyed(id: &Value, there: i64, here: i64) -> Value {
    match id {
        Value::Integer(id) => Value::Integer(id - first_key(there) + first_key(here)),
        other => other.clone(),
    }
}

fn mapped(number: &Value, numbers: &HashMap<i64, i64>) -> Value {
    match number {
        Value::Integer(number) => numbers.get(number).copied().into(),
        other => other.clone(),
    }
}

fn shift(number: &mut Value, by: i64) {
    if let Value::Integer(number) = number {
        *number += by;
    }
}

/// Puts the number that the blob's dictionary has here before it.
fn recode(blob: &mut Value, dictionaries: &HashMap<u64, u64>) {
    let Value::Blob(bytes) = blob else { return };
    let mut rest = bytes.as_slice();
    let Some(there) = take_varint(&mut rest) else { return };
    match dictionaries.get(&there) {
        Some(here) if *here != there => {
            let mut recoded = Vec::with_capacity(bytes.len() + 5);
            put_varint(&mut recoded, *here);
            recoded.extend_from_slice(rest);
            *bytes = recoded;
        }
        // 0 stands for bytes that are not compressed.
        _ => {}
    }
}

/// Whether two folders are the same store.
pub fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
