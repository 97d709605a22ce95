//! What telemetry of applications changes in the tables, within the writer's transactions.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::{OptionalExtension, params};

use super::apply::Applier;
use super::bundle::{Messages, number_of};
use super::codec::{self, put_varint};
use super::error::StoreError;
use super::ingest::{Delivery, Ingested, LogParcel, OriginRow, SpanParcel};
use super::sums::RunSums;
use crate::model::{Evaluation, Finite, TraceId};
use crate::trace::results::{ForeignScore, Source};

/// How many origins and names are remembered.
const REMEMBERED: usize = 4096;

/// What the writer remembers of the tables while nobody else changes them.
#[derive(Debug, Default)]
pub(super) struct Interned {
    resources: HashMap<Vec<u8>, i64>,
    scopes: HashMap<Vec<u8>, i64>,
    names: HashMap<String, i64>,
}

/// What is gathered in one transaction and written at its end.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Traces that telemetry joined.
    traces: HashMap<TraceId, Joined>,
    /// By run.
    pub(super) runs: BTreeMap<i64, RunSums>,
    /// Resources and scopes that were used, with the last payload that refers to them.
    resources: BTreeMap<i64, i64>,
    scopes: BTreeMap<i64, i64>,
    /// Traces and names of scores whose mean changes.
    means: BTreeSet<(i64, i64)>,
}

/// A trace as the table has it.
#[derive(Debug, Clone)]
struct Joined {
    number: i64,
    run: Option<i64>,
    start: i64,
    /// As in the table: 0 no span yet, 1 the earliest span is the root, 2 a span without parent is.
    rooted: i64,
    root_start: i64,
}

/// What a root is to a trace.
struct Root<'a> {
    rooted: i64,
    start: i64,
    name: &'a str,
    service: Option<&'a str>,
}

impl Interned {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Applier<'_> {
    pub(super) fn ingest(&mut self, delivery: &Delivery) -> Result<Ingested, StoreError> {
        let mut ingested = Ingested::default();
        for parcel in &delivery.spans {
            ingested += self.take_spans(parcel, &delivery.origins[parcel.origin])?;
        }
        for parcel in &delivery.logs {
            ingested += self.take_logs(parcel, &delivery.origins[parcel.origin])?;
        }
        Ok(ingested)
    }

    fn take_spans(&mut self, parcel: &SpanParcel, origin: &OriginRow) -> Result<Ingested, StoreError> {
        let spans = &parcel.bundle.spans;
        let root = root_of(parcel, origin);
        let (trace, is_new) = self.join(parcel, origin, &root)?;
        let payload = self.last.payload + 1;
        let mut kept = vec![true; spans.len()];
        let mut sums = Sums::default();
        for (slot, span) in spans.iter().enumerate() {
            let id = self.last.span + 1;
            let inserted = self
                .statements()
                .ingest_span(id, trace.run, trace.number, (payload, slot as i64), span)
                .map_err(self.or())?;
            if inserted == 0 {
                kept[slot] = false;
                continue;
            }
            self.last.span = id;
            sums.operations += 1;
            sums.errors += i64::from(span.status == 2);
            sums.start = sums.start.min(span.start);
            sums.end = sums.end.max(span.end.unwrap_or(0)).max(span.start);
            sums.first = sums.first.min(id);
        }
        let mut ingested = Ingested { spans: sums.operations as u64, ..Ingested::default() };
        ingested.duplicates = spans.len() as u64 - ingested.spans;
        if sums.operations > 0 {
            self.last.payload = payload;
            self.insert_payload(payload, trace.run, origin, &parcel.bundle.body)?;
            if let Some(run) = trace.run {
                let of_run = self.gathered.runs.entry(run).or_default();
                of_run.created_spans += sums.operations;
                of_run.add_span(sums.first);
                of_run.add_span(self.last.span);
                of_run.add_payload(payload);
            }
        }
        let (input, output) = parcel
            .tokens
            .iter()
            .filter(|(slot, ..)| kept[*slot])
            .fold((0, 0), |sum, (_, input, output)| (sum.0 + input, sum.1 + output));
        if is_new {
            // The row counts all of the parcel's spans; those that the parcel held twice are too much.
            if ingested.duplicates > 0 {
                let any = parcel.tokens.iter().any(|(slot, ..)| kept[*slot]);
                self.recount(trace.number, any.then_some((input, output)))?;
            }
        } else if sums.operations > 0 {
            self.add_to_joined(&trace, &sums, (input, output))?;
            self.improve_root(parcel.trace_id, &root)?;
        }
        for (_, score) in parcel.scores.iter().filter(|(slot, _)| kept[*slot]) {
            ingested.scores += u64::from(self.take_score(score, sums.start)?);
        }
        Ok(ingested)
    }

    /// The trace of a parcel's spans; whether it is new, with a row that counts all of them.
    fn join(&mut self, parcel: &SpanParcel, origin: &OriginRow, root: &Root<'_>) -> Result<(Joined, bool), StoreError> {
        if let Some(joined) = self.gathered.traces.get(&parcel.trace_id) {
            return Ok((joined.clone(), false));
        }
        let spans = &parcel.bundle.spans;
        let start = spans.iter().map(|span| span.start).min().unwrap_or(0);
        let end = spans.iter().map(|span| span.end.unwrap_or(0).max(span.start)).max().unwrap_or(0);
        let errors = spans.iter().filter(|span| span.status == 2).count() as i64;
        let tokens = (!parcel.tokens.is_empty())
            .then(|| parcel.tokens.iter().fold((0, 0), |sum, (_, input, output)| (sum.0 + input, sum.1 + output)));
        let number = self.last.trace + 1;
        let inserted = self
            .statements()
            .ingest_trace
            .execute(params![
                number,
                parcel.trace_id.as_bytes(),
                start,
                end,
                spans.len() as i64,
                errors,
                root.name,
                origin.service,
                root.rooted,
                root.start,
                tokens.map(|tokens| tokens.0),
                tokens.map(|tokens| tokens.1),
            ])
            .map_err(self.or())?;
        let joined = if inserted == 1 {
            self.last.trace = number;
            Joined { number, run: None, start, rooted: root.rooted, root_start: root.start }
        } else {
            self.find_joined(parcel.trace_id)?.ok_or_else(|| StoreError::damaged("a trace", "it is gone"))?
        };
        self.gathered.traces.insert(parcel.trace_id, joined.clone());
        Ok((joined, inserted == 1))
    }

    fn find_joined(&mut self, trace_id: TraceId) -> Result<Option<Joined>, StoreError> {
        let or = self.or();
        self.statements()
            .find_trace
            .query_row([trace_id.as_bytes()], |row| {
                let start = row.get(2)?;
                Ok(Joined {
                    number: row.get(0)?,
                    run: row.get(1)?,
                    start,
                    rooted: row.get(3)?,
                    root_start: row.get::<_, Option<i64>>(4)?.unwrap_or(start),
                })
            })
            .optional()
            .map_err(or)
    }

    /// Adds spans to a trace that was there before.
    fn add_to_joined(&mut self, trace: &Joined, sums: &Sums, tokens: (i64, i64)) -> Result<(), StoreError> {
        if trace.rooted == 0 {
            // Log records and scores say nothing about when a trace began.
            let sql = "UPDATE trace SET start = ?2, end = ?3 WHERE number = ?1";
            self.change(sql, [trace.number, sums.start, sums.end])?;
        }
        let of_trace = self.sums.traces.entry(trace.number).or_default();
        of_trace.operations += sums.operations;
        of_trace.errors += sums.errors;
        of_trace.end = of_trace.end.max(sums.end);
        if sums.start < trace.start {
            of_trace.start = Some(of_trace.start.map_or(sums.start, |start| start.min(sums.start)));
        }
        if tokens != (0, 0) {
            let or = self.or();
            self.statements().add_tokens.execute([trace.number, tokens.0, tokens.1]).map_err(or)?;
        }
        Ok(())
    }

    /// A span without parent is a better root than one with; among equals the earlier one is. A run's trace has its root.
    fn improve_root(&mut self, trace_id: TraceId, root: &Root<'_>) -> Result<(), StoreError> {
        let Some(known) = self.gathered.traces.get_mut(&trace_id) else { return Ok(()) };
        let better = root.rooted > known.rooted || (root.rooted == known.rooted && root.start < known.root_start);
        if known.run.is_some() || !better {
            return Ok(());
        }
        if known.rooted == 0 {
            known.start = i64::MAX;
        }
        known.rooted = root.rooted;
        known.root_start = root.start;
        let number = known.number;
        self.change(
            "UPDATE trace SET root = ?2, service = ?3, rooted = ?4, root_start = ?5 WHERE number = ?1",
            params![number, root.name, root.service, root.rooted, root.start],
        )
    }

    /// Counts the spans of a trace anew, and sets its tokens.
    fn recount(&mut self, trace: i64, tokens: Option<(i64, i64)>) -> Result<(), StoreError> {
        let (input, output) = tokens.unzip();
        self.change(
            "UPDATE trace SET (operations, errors, start, end) =
                 (SELECT count(*), coalesce(sum(status = 2), 0), min(span.start), max(max(span.start, span.end))
                  FROM span WHERE span.trace = ?1),
                 input_tokens = ?2, output_tokens = ?3
             WHERE number = ?1",
            params![trace, input, output],
        )
    }

    fn take_logs(&mut self, parcel: &LogParcel, origin: &OriginRow) -> Result<Ingested, StoreError> {
        let trace = match parcel.trace_id {
            Some(trace_id) => Some(self.join_or_announce(trace_id, parcel.time)?),
            None => None,
        };
        let run = trace.as_ref().and_then(|trace| trace.run);
        let all = parcel.hashes.len();
        if let Some(run) = run
            && self.is_of_run_itself(run, origin)?
        {
            return Ok(Ingested { duplicates: all as u64, ..Ingested::default() });
        }
        let payload = self.last.payload + 1;
        let mut kept = vec![true; all];
        {
            let mut insert = self
                .conn
                .prepare_cached("INSERT INTO log_hash VALUES (?1, ?2) ON CONFLICT DO NOTHING")
                .map_err(self.or())?;
            for (hash, kept) in parcel.hashes.iter().zip(&mut kept) {
                *kept = insert.execute([*hash, payload]).map_err(self.or())? == 1;
            }
        }
        let new = kept.iter().filter(|kept| **kept).count();
        let mut ingested = Ingested { logs: new as u64, duplicates: (all - new) as u64, ..Ingested::default() };
        if new == 0 {
            return Ok(ingested);
        }
        self.last.payload = payload;
        if new == all {
            self.insert_payload(payload, run, origin, &parcel.body)?;
        } else {
            let body = self.without(&parcel.body, &kept)?;
            self.insert_payload(payload, run, origin, &body)?;
        }
        let number = trace.as_ref().map(|trace| trace.number);
        self.change(
            "INSERT INTO log (payload, run, records, trace) VALUES (?1, ?2, ?3, ?4)",
            params![payload, run, new as i64, number],
        )?;
        if let Some(run) = run {
            self.gathered.runs.entry(run).or_default().add_payload(payload);
        }
        for (_, score) in parcel.scores.iter().filter(|(at, _)| kept[*at]) {
            ingested.scores += u64::from(self.take_score(score, parcel.time)?);
        }
        Ok(ingested)
    }

    /// The payload of log records without those that are not kept.
    fn without(&mut self, body: &[u8], kept: &[bool]) -> Result<Vec<u8>, StoreError> {
        let content = self.decoder.decode(self.conn, "log records", body)?;
        let logs = Messages::split(content)?.logs;
        Ok(codec::encode(self.dictionary, |out| {
            put_varint(out, 0);
            for (log, _) in logs.iter().zip(kept).filter(|(_, kept)| **kept) {
                put_varint(out, log.len() as u64);
                out.extend_from_slice(log);
            }
        }))
    }

    /// Whether the process that records the run made this itself: then it is in the store already, and comes back from
    /// where it was delivered.
    fn is_of_run_itself(&self, run: i64, origin: &OriginRow) -> Result<bool, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM run JOIN resource ON resource.id = run.resource
                                WHERE run.number = ?1 AND resource.body = ?2)",
            )
            .and_then(|mut find| find.query_row(params![run, origin.resource], |row| row.get(0)))
            .map_err(self.or())
    }

    /// The trace of log records or of a score; one without spans is noted, for its spans may come later.
    fn join_or_announce(&mut self, trace_id: TraceId, time: i64) -> Result<Joined, StoreError> {
        if let Some(joined) = self.gathered.traces.get(&trace_id) {
            return Ok(joined.clone());
        }
        let joined = match self.find_joined(trace_id)? {
            Some(joined) => joined,
            None => {
                self.last.trace += 1;
                let number = self.last.trace;
                self.change(
                    "INSERT INTO trace (number, trace_id, start, end, operations, errors, root, rooted)
                     VALUES (?1, ?2, ?3, ?3, 0, 0, '', 0)",
                    params![number, trace_id.as_bytes(), time],
                )?;
                Joined { number, run: None, start: i64::MAX, rooted: 0, root_start: i64::MAX }
            }
        };
        self.gathered.traces.insert(trace_id, joined.clone());
        Ok(joined)
    }

    /// Keeps a score, or adds what this form of it says to what is known; true if it is new.
    fn take_score(&mut self, score: &ForeignScore, time: i64) -> Result<bool, StoreError> {
        let trace = self.join_or_announce(score.trace_id, time)?;
        if let (Some(run), Some(subject)) = (trace.run, &score.subject) {
            let own: bool = self
                .conn
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM run, json_each(run.spec, '$.evaluators') AS each
                                    WHERE run.number = ?1 AND run_id = ?2 AND json_extract(each.value, '$.id') = ?3)",
                )
                .and_then(|mut find| find.query_row(params![run, subject.run, score.name], |row| row.get(0)))
                .map_err(self.or())?;
            if own {
                return Ok(false);
            }
        }
        let name = self.intern_name(&score.name)?;
        let (value, label, explanation, error_type) = match &score.evaluation {
            Evaluation::Scored { value, label, explanation } => {
                (value.map(Finite::get), label.as_deref(), explanation.as_deref(), None)
            }
            Evaluation::Failed { error_type, message } => (None, None, Some(message.as_str()), Some(error_type)),
            Evaluation::Skipped { .. } => return Ok(false),
        };
        let key = score.identity();
        let judge = score.judge.map(|(trace_id, span_id)| (*trace_id.as_bytes(), number_of(span_id)));
        let inserted = self
            .conn
            .prepare_cached(
                "INSERT INTO external_score (trace, key, span, name, value, label, explanation, annotator_kind,
                                             identifier, error_type, response_id, source, judge_trace, judge_span)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) ON CONFLICT DO NOTHING",
            )
            .and_then(|mut insert| {
                insert.execute(params![
                    trace.number,
                    key,
                    score.span_id.map(number_of),
                    name,
                    value,
                    label,
                    explanation,
                    score.annotator_kind,
                    score.identifier,
                    error_type,
                    score.response_id,
                    source_number(score.source),
                    judge.map(|judge| judge.0),
                    judge.map(|judge| judge.1),
                ])
            })
            .map_err(self.or())?;
        if inserted == 0 {
            // Where a trial's score sits its span says better than a record of its answer does.
            self.change(
                "UPDATE external_score SET
                     span = CASE WHEN source = 3 AND ?12 <> 3 OR span IS NULL THEN ?3 ELSE span END,
                     source = min(source, ?12), value = coalesce(?5, value), label = coalesce(?6, label),
                     explanation = coalesce(?7, explanation), annotator_kind = coalesce(annotator_kind, ?8),
                     identifier = coalesce(identifier, ?9),
                     error_type = CASE WHEN ?5 IS NULL AND ?6 IS NULL THEN coalesce(?10, error_type) END,
                     response_id = coalesce(response_id, ?11), judge_trace = coalesce(judge_trace, ?13),
                     judge_span = coalesce(judge_span, ?14)
                 WHERE trace = ?1 AND key = ?2 AND name = ?4",
                params![
                    trace.number,
                    key,
                    score.span_id.map(number_of),
                    name,
                    value,
                    label,
                    explanation,
                    score.annotator_kind,
                    score.identifier,
                    error_type,
                    score.response_id,
                    source_number(score.source),
                    judge.map(|judge| judge.0),
                    judge.map(|judge| judge.1),
                ],
            )?;
        }
        // The mean of an evaluator of the run itself is the run's.
        let of_run = match trace.run {
            None => false,
            Some(run) => self
                .conn
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM run, json_each(run.spec, '$.evaluators') AS each
                                    WHERE run.number = ?1 AND json_extract(each.value, '$.id') = ?2)",
                )
                .and_then(|mut find| find.query_row(params![run, score.name], |row| row.get(0)))
                .map_err(self.or())?,
        };
        if !of_run {
            self.gathered.means.insert((trace.number, name));
        }
        Ok(inserted == 1)
    }

    /// The number of a score's name.
    pub(super) fn intern_name(&mut self, name: &str) -> Result<i64, StoreError> {
        if let Some(id) = self.interned.names.get(name) {
            return Ok(*id);
        }
        let or = self.or();
        let id = find_or_insert(
            self.conn,
            ("SELECT id FROM score_name WHERE name = ?1", "INSERT INTO score_name (name) VALUES (?1)"),
            name,
        )
        .map_err(or)?;
        remember(&mut self.interned.names, name.to_owned(), id);
        Ok(id)
    }

    fn insert_payload(
        &mut self,
        payload: i64,
        run: Option<i64>,
        origin: &OriginRow,
        body: &[u8],
    ) -> Result<(), StoreError> {
        let or = self.or();
        let resource = match self.interned.resources.get(&origin.resource) {
            Some(id) => *id,
            None => {
                let sql = ("SELECT id FROM resource WHERE body = ?1", "INSERT INTO resource (body) VALUES (?1)");
                let id = find_or_insert(self.conn, sql, origin.resource.as_slice()).map_err(&or)?;
                remember(&mut self.interned.resources, origin.resource.clone(), id);
                id
            }
        };
        let scope = match self.interned.scopes.get(&origin.frame) {
            Some(id) => *id,
            None => {
                let sql = ("SELECT id FROM scope WHERE body = ?1", "INSERT INTO scope (body) VALUES (?1)");
                let id = find_or_insert(self.conn, sql, origin.frame.as_slice()).map_err(&or)?;
                remember(&mut self.interned.scopes, origin.frame.clone(), id);
                id
            }
        };
        self.gathered.resources.insert(resource, payload);
        self.gathered.scopes.insert(scope, payload);
        self.statements().ingest_payload.execute(params![payload, run, resource, scope, body]).map_err(or)?;
        Ok(())
    }

    /// Writes what was gathered in this transaction; the sums of traces are written by the caller.
    pub(super) fn flush_gathered(&mut self) -> Result<(), StoreError> {
        let Gathered { traces: _, runs, resources, scopes, means } = std::mem::take(&mut self.gathered);
        for (run, sums) in runs {
            self.add_to_run(run, &sums, [0; 3])?;
        }
        for (sql, used) in [
            ("UPDATE resource SET last_payload = max(coalesce(last_payload, 0), ?2) WHERE id = ?1", resources),
            ("UPDATE scope SET last_payload = max(coalesce(last_payload, 0), ?2) WHERE id = ?1", scopes),
        ] {
            for (id, payload) in used {
                self.change(sql, [id, payload])?;
            }
        }
        for (trace, name) in means {
            self.change(
                "INSERT OR REPLACE INTO trace_score
                 SELECT ?1, ?2, avg(value) FROM external_score WHERE trace = ?1 AND name = ?2 AND value IS NOT NULL
                 HAVING count(*) > 0",
                [trace, name],
            )?;
        }
        Ok(())
    }

    /// Forgets what it knew of traces, for another step of this transaction changed one.
    pub(super) fn forget_joined(&mut self) {
        self.gathered.traces.clear();
    }
}

/// What spans add to their trace.
#[derive(Debug)]
struct Sums {
    operations: i64,
    errors: i64,
    start: i64,
    end: i64,
    /// The first number given out.
    first: i64,
}

impl Default for Sums {
    fn default() -> Self {
        Self { operations: 0, errors: 0, start: i64::MAX, end: 0, first: i64::MAX }
    }
}

/// The earliest span without parent, else the earliest span.
fn root_of<'a>(parcel: &'a SpanParcel, origin: &'a OriginRow) -> Root<'a> {
    let spans = &parcel.bundle.spans;
    let root = spans.iter().min_by_key(|span| (span.parent.is_some(), span.start));
    Root {
        rooted: root.map_or(1, |span| if span.parent.is_none() { 2 } else { 1 }),
        start: root.map_or(i64::MAX, |span| span.start),
        name: root.map_or("", |span| &span.name),
        service: origin.service.as_deref(),
    }
}

const fn source_number(source: Source) -> i64 {
    match source {
        Source::Attributes => 0,
        Source::Inline => 1,
        Source::Event => 2,
        Source::Log => 3,
    }
}

fn find_or_insert(
    conn: &rusqlite::Connection,
    (find, insert): (&str, &str),
    key: impl rusqlite::ToSql,
) -> rusqlite::Result<i64> {
    match conn.prepare_cached(find)?.query_row([&key], |row| row.get(0)).optional()? {
        Some(id) => Ok(id),
        None => conn.prepare_cached(insert)?.insert([&key]),
    }
}

fn remember<K: Eq + std::hash::Hash>(known: &mut HashMap<K, i64>, key: K, id: i64) {
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(key, id);
}
