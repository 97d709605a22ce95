//! Taking in the runs of another store: which of its traces are here already, and what joins them.
//!
//! A trace of the run that is here already is left as it is, but for spans of the run that it lacks. The root of a session
//! may stand in a trace of somebody else (`TRACEPARENT`): it joins that trace here, which is made where it is missing; its
//! other spans come with their own run or as telemetry.

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, params, params_from_iter};

use super::error::StoreError;
use super::merge::{Merge, Numbers, RunValues, STEP, places};

const COLUMNS: &str =
    "trace_id, start, end, operations, errors, root, service, rooted, root_start, input_tokens, output_tokens";

impl Merge {
    /// The traces of the run, those of somebody else that it has spans in, and those that its trials refer to though
    /// retention has removed them.
    pub(super) fn traces(&self, row: &RunValues, numbers: &mut Numbers) -> Result<(), StoreError> {
        self.own_traces(numbers)?;
        self.foreign_traces(row, numbers)?;
        self.pruned_traces(numbers)?;
        let joined: Vec<i64> = numbers.known_traces.union(&numbers.foreign_traces).copied().collect();
        joined.into_iter().try_for_each(|trace| self.known_payloads(trace, numbers))
    }

    fn own_traces(&self, numbers: &mut Numbers) -> Result<(), StoreError> {
        // Spans of other runs come with those.
        let others = "(SELECT count(*) FROM span WHERE span.trace = trace.number AND span.run IS NOT ?1)";
        let failed =
            "(SELECT count(*) FROM span WHERE span.trace = trace.number AND span.run IS NOT ?1 AND span.status = 2)";
        let columns = COLUMNS
            .replace("operations", &format!("operations - {others}"))
            .replace("errors", &format!("errors - {failed}"));
        let mut all: Vec<Vec<Value>> = self.all(
            &format!("SELECT number, {columns} FROM trace WHERE run = ?1 ORDER BY number"),
            [numbers.run.0],
            |row| (0..12).map(|place| row.get(place)).collect(),
        )?;
        let insert = format!("INSERT INTO trace (run, {COLUMNS}, number) VALUES ({})", places(13));
        let set: Vec<String> = COLUMNS.split(", ").map(|column| format!("{column} = ?")).collect();
        let adopt = format!("UPDATE trace SET run = ?, {} WHERE number = ?", set.join(", "));
        while !all.is_empty() {
            let rest = all.split_off(all.len().min(STEP));
            let part = std::mem::replace(&mut all, rest);
            self.transaction(|| {
                for mut values in part {
                    let there = std::mem::replace(&mut values[0], Value::Integer(numbers.run.1));
                    let Value::Integer(there) = there else { continue };
                    let sql = "SELECT number, operations FROM trace WHERE trace_id = ?1";
                    let mut find = self.to.prepare_cached(sql)?;
                    let here: Option<(i64, i64)> =
                        find.query_row([&values[1]], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
                    let (here, sql) = match here {
                        None => (self.next_trace()?, &insert),
                        // Log records or scores came ahead of it.
                        Some((here, 0)) => (here, &adopt),
                        Some((here, _)) => {
                            numbers.traces.insert(there, here);
                            numbers.known_traces.insert(there);
                            continue;
                        }
                    };
                    numbers.traces.insert(there, here);
                    values.push(Value::Integer(here));
                    self.to.prepare_cached(sql)?.execute(params_from_iter(values))?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn foreign_traces(&self, row: &RunValues, numbers: &mut Numbers) -> Result<(), StoreError> {
        let (first, last) = row.spans.unwrap_or((0, -1));
        let all: Vec<(i64, Vec<u8>, i64, Option<String>)> = self.all(
            "SELECT trace.number, trace_id, span.start, (SELECT service FROM trace WHERE run = ?1 LIMIT 1)
             FROM span JOIN trace ON trace.number = span.trace
             WHERE span.run = ?1 AND span.id BETWEEN ?2 AND ?3 AND trace.run IS NOT ?1 ORDER BY span.start",
            params![numbers.run.0, first, last],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?;
        self.transaction(|| {
            for (there, trace_id, start, service) in &all {
                if !numbers.foreign_traces.insert(*there) {
                    continue;
                }
                let find = "SELECT number FROM trace WHERE trace_id = ?1";
                let here = match self.to.query_row(find, [trace_id], |row| row.get(0)).optional()? {
                    Some(here) => here,
                    None => {
                        let here = self.next_trace()?;
                        let sql = "INSERT INTO trace (number, trace_id, start, end, operations, errors, root, service, rooted)
                                   VALUES (?1, ?2, ?3, ?3, 0, 0, '', ?4, 0)";
                        self.to.execute(sql, params![here, trace_id, start, service])?;
                        here
                    }
                };
                numbers.traces.insert(*there, here);
            }
            Ok(())
        })
    }

    fn pruned_traces(&self, numbers: &mut Numbers) -> Result<(), StoreError> {
        let pruned: Vec<(i64, Vec<u8>, i64)> = self.all(
            "SELECT number, trace_id, at FROM pruned WHERE run = ?1 ORDER BY number",
            [numbers.run.0],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        self.transaction(|| {
            for (number, trace_id, at) in &pruned {
                let new = self.next_trace()?;
                numbers.traces.insert(*number, new);
                let sql = "INSERT INTO pruned (number, trace_id, at, run) VALUES (?1, ?2, ?3, ?4)";
                self.to.execute(sql, params![new, trace_id, at, numbers.run.1])?;
            }
            Ok(())
        })
    }

    fn next_trace(&self) -> rusqlite::Result<i64> {
        self.to.query_row("UPDATE counter SET trace = trace + 1 RETURNING trace", [], |row| row.get(0))
    }

    /// Notes the run's payloads in a trace of which all is here: each of its spans, or each of its log records.
    fn known_payloads(&self, there: i64, numbers: &mut Numbers) -> Result<(), StoreError> {
        let Some(here) = numbers.traces.get(&there).copied() else { return Ok(()) };
        let pair = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        for (of_payloads, find) in [
            (
                "SELECT payload, span_id FROM span WHERE trace = ?1 AND run = ?2 ORDER BY payload",
                "SELECT EXISTS (SELECT 1 FROM span WHERE trace = ?1 AND span_id = ?2)",
            ),
            (
                "SELECT log.payload, hash FROM log JOIN log_hash ON log_hash.payload = log.payload
                 WHERE trace = ?1 AND run = ?2 ORDER BY log.payload",
                "SELECT EXISTS (SELECT 1 FROM log_hash WHERE ?1 = ?1 AND hash = ?2)",
            ),
        ] {
            let all: Vec<(i64, i64)> = self.all(of_payloads, [there, numbers.run.0], pair)?;
            self.transaction(|| {
                let mut find = self.to.prepare_cached(find)?;
                for of_payload in all.chunk_by(|a, b| a.0 == b.0) {
                    let mut known = true;
                    for (_, item) in of_payload {
                        known &= find.query_row([here, *item], |row| row.get::<_, bool>(0))?;
                    }
                    if known {
                        numbers.known_payloads.insert(of_payload[0].0);
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Whether a span of the run is to be copied; one that joins a trace is added to the trace's sums. `span` has the
    /// columns `id, trace, span_id, parent, kind, status, start, end, …, name` of the other store.
    pub(super) fn is_new_span(&self, span: &[Value], numbers: &Numbers) -> rusqlite::Result<bool> {
        let [_, Value::Integer(there), span_id, parent, _, status, start, end, ..] = span else { return Ok(true) };
        if !numbers.known_traces.contains(there) && !numbers.foreign_traces.contains(there) {
            return Ok(true);
        }
        let here = numbers.traces.get(there);
        let find = "SELECT EXISTS (SELECT 1 FROM span WHERE trace = ?1 AND span_id = ?2)";
        if self.to.prepare_cached(find)?.query_row(params![here, span_id], |row| row.get(0))? {
            return Ok(false);
        }
        self.to
            .prepare_cached(
                "UPDATE trace SET operations = operations + 1, errors = errors + (?2 = 2),
                                  start = CASE operations WHEN 0 THEN ?3 ELSE min(start, ?3) END,
                                  end = CASE operations WHEN 0 THEN coalesce(?4, ?3) ELSE max(end, coalesce(?4, ?3)) END
                 WHERE number = ?1",
            )?
            .execute(params![here, status, start, end])?;
        // As with telemetry: a span without parent is a better root than one with, and among equals the earlier one is.
        let rooted = if matches!(parent, Value::Null) { 2 } else { 1 };
        self.to
            .prepare_cached(
                "UPDATE trace SET root = ?2, rooted = ?3, root_start = ?4 WHERE number = ?1 AND run IS NULL
                 AND (rooted < ?3 OR rooted = ?3 AND coalesce(root_start, start) > ?4)",
            )?
            .execute(params![here, span.last(), rooted, start])?;
        Ok(true)
    }
}
