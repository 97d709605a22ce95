//! What each step changes in the tables, within the writer's transactions.
//!
//! The sums of a transaction (operations of a trace, trials of a run) are gathered in memory and written once before
//! the commit.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::bundle::{Bundle, FAILED, SKIPPED, SpanRow, TrialRow, number_of, span_id_of};
use super::codec::Decoder;
use super::error::{Attempt, BUSY_SECONDS, StoreError};
use super::interrupted::FoundSpan;
use super::outbox::{Ack, Signal};
use super::plan::{self, PlannedCase};
use super::remove;
use super::schema::pack;
use super::statements::Statements;
use crate::model::{RunId, RunSpec, RunStatus, TraceId, Value};
use crate::trace::{otlp, semconv};

/// A step for the writer.
#[derive(Debug)]
pub(super) enum Work {
    SessionStarted { spec: Box<RunSpec>, root: Bundle },
    BatchStarted { root: Bundle },
    Trial { trial: Box<TrialRow>, bundle: Bundle },
    BatchFinished { root: Bundle },
    SessionFinished { status: RunStatus, root: Bundle, ended: i64 },
    CloseInterrupted(RunId),
    PlanCases { run_id: RunId, cases: Vec<PlannedCase> },
    PlanFinished(Box<RunSpec>),
    DropPlan(RunId),
    RemoveStep(RunId),
    SetTags { run_id: RunId, tags: BTreeMap<String, String> },
    Register { run_id: RunId, destination: String, signal: Signal, config: String },
    Acknowledge(Ack),
}

impl Work {
    /// Whether it belongs to a trial or its batch: many of them come at once.
    pub(super) const fn is_of_trial(&self) -> bool {
        matches!(self, Self::Trial { .. } | Self::BatchStarted { .. } | Self::BatchFinished { .. })
    }
}

/// What a step answers.
#[derive(Debug)]
pub(super) enum Done {
    Nothing,
    /// It has to be asked again.
    More,
    /// The run's number.
    Run(i64),
}

/// The run that events belong to.
#[derive(Debug, Clone)]
struct Session {
    run: i64,
    resource: i64,
    service: Option<String>,
}

/// Sums of a transaction that are written at its end.
#[derive(Debug, Default)]
pub(super) struct Sums {
    created_spans: i64,
    /// By outcome: completed, failed, skipped.
    trials: [i64; 3],
    /// By trace number.
    pub(super) traces: BTreeMap<i64, TraceSums>,
    /// Of the session's run, the first and last span and payload.
    spans: Option<(i64, i64)>,
    payloads: Option<(i64, i64)>,
}

#[derive(Debug, Default)]
pub(super) struct TraceSums {
    pub(super) operations: i64,
    pub(super) errors: i64,
    /// Set where a span begins before the trace did so far.
    pub(super) start: Option<i64>,
    pub(super) end: i64,
}

/// A trace that was met: its number and where it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownTrace {
    pub(super) number: i64,
    pub(super) start: i64,
}

/// The last numbers given out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    pub(super) span: i64,
    pub(super) payload: i64,
    pub(super) trace: i64,
}

/// The state of the writer's thread.
pub(super) struct Applier<'c> {
    pub(super) conn: &'c Connection,
    pub(super) attempt: Attempt,
    pub(super) dictionary: u32,
    statements: Option<Statements<'c>>,
    pub(super) decoder: Decoder,
    session: Option<Session>,
    /// Numbers of the session's open traces; filled anew from the table after a rollback.
    pub(super) traces: HashMap<TraceId, KnownTrace>,
    pub(super) last: Counters,
    pub(super) sums: Sums,
}

impl<'c> Applier<'c> {
    pub(super) fn new(conn: &'c Connection, dictionary: u32, attempt: Attempt) -> Self {
        Self {
            conn,
            attempt,
            dictionary,
            statements: None,
            decoder: Decoder::new(),
            session: None,
            traces: HashMap::new(),
            last: Counters::default(),
            sums: Sums::default(),
        }
    }

    /// Applies all steps in one transaction: all of them are on disk when it returns, or none is.
    pub(super) fn transact<'w>(&mut self, steps: impl Iterator<Item = &'w Work>) -> Result<Vec<Done>, StoreError> {
        self.begin()?;
        let session = self.session.clone();
        let result = steps.map(|step| self.apply(step)).collect::<Result<Vec<_>, _>>().and_then(|done| {
            self.flush()?;
            self.execute("COMMIT")?;
            Ok(done)
        });
        if result.is_err() {
            // After some errors SQLite has rolled back by itself and says so.
            let _ = self.conn.execute_batch("ROLLBACK");
            self.session = session;
            self.traces.clear();
            self.sums = Sums::default();
        }
        result
    }

    /// Takes the write lock; waits for other processes, for SQLite's own waiting is not fair to the patient.
    fn begin(&mut self) -> Result<(), StoreError> {
        let give_up = Instant::now() + Duration::from_secs(BUSY_SECONDS);
        loop {
            match self.conn.execute_batch("BEGIN IMMEDIATE") {
                Ok(()) => break,
                Err(e) if is_busy(&e) && Instant::now() < give_up => std::thread::sleep(Duration::from_millis(2)),
                Err(e) => return Err(self.attempt.failed(e)),
            }
        }
        if self.statements.is_none() {
            self.statements = Some(Statements::prepare(self.conn).map_err(self.or())?);
        }
        let counters = self
            .statements()
            .counters
            .query_row([], |row| Ok(Counters { span: row.get(0)?, payload: row.get(1)?, trace: row.get(2)? }));
        match counters {
            Ok(last) => self.last = last,
            Err(e) => {
                let _ = self.conn.execute_batch("ROLLBACK");
                return Err(self.attempt.failed(e));
            }
        }
        Ok(())
    }

    fn apply(&mut self, step: &Work) -> Result<Done, StoreError> {
        match step {
            Work::SessionStarted { spec, root } => self.session_started(spec, root)?,
            Work::BatchStarted { root } => self.open_root(root)?,
            Work::Trial { trial, bundle } => self.trial(trial, bundle)?,
            Work::BatchFinished { root } => self.close_root(root)?,
            Work::SessionFinished { status, root, ended } => self.session_finished(*status, root, *ended)?,
            Work::CloseInterrupted(run_id) => {
                let run = self.run_number(run_id)?;
                self.close_interrupted(run)?;
            }
            Work::PlanCases { run_id, cases } => {
                plan::insert(self.conn, self.dictionary, &self.attempt, run_id, cases)?;
            }
            Work::PlanFinished(spec) => return self.plan_finished(spec).map(Done::Run),
            Work::RemoveStep(run_id) => return remove::step(self.conn, run_id).map(more).map_err(self.or()),
            Work::DropPlan(run_id) => return remove::drop_plan(self.conn, run_id).map(more).map_err(self.or()),
            Work::SetTags { run_id, tags } => self.set_tags(run_id, tags)?,
            Work::Register { run_id, destination, signal, config } => {
                let run = self.run_number(run_id)?;
                let sql = "INSERT INTO outbox (run, destination, signal, config) VALUES (?1, ?2, ?3, ?4)
                           ON CONFLICT DO UPDATE SET config = excluded.config";
                self.change(sql, params![run, destination, signal.number(), config])?;
            }
            Work::Acknowledge(ack) => self.acknowledge(ack)?,
        }
        Ok(Done::Nothing)
    }

    fn session_started(&mut self, spec: &RunSpec, root: &Bundle) -> Result<(), StoreError> {
        self.flush()?;
        let run = match self.find_run(&spec.run_id)? {
            Some(run) => {
                // A session may be told to go on with another prompt: the record says what is run.
                self.store_spec(run, spec)?;
                run
            }
            None => self.insert_run(spec)?,
        };
        self.close_interrupted(run)?;
        let resource = self
            .conn
            .query_row("SELECT resource FROM run WHERE number = ?1", [run], |row| row.get(0))
            .map_err(self.or())?;
        let service = spec.resource.iter().find_map(|(key, value)| match value {
            Value::Str(text) if key == semconv::SERVICE_NAME => Some(text.clone().into_owned()),
            _ => None,
        });
        self.session = Some(Session { run, resource, service });
        let start = root.spans.first().map_or(spec.started_unix_nano as i64, |span| span.start);
        let sql = "UPDATE run SET status = ?2, session_started = ?3, ended = NULL WHERE number = ?1";
        self.change(sql, params![run, RunStatus::Running.as_str(), start])?;
        self.open_root(root)
    }

    fn insert_run(&self, spec: &RunSpec) -> Result<i64, StoreError> {
        self.change(
            "INSERT INTO run (run_id, status) VALUES (?1, ?2)",
            params![spec.run_id.as_str(), RunStatus::Running.as_str()],
        )?;
        let run = self.conn.last_insert_rowid();
        self.store_spec(run, spec)?;
        Ok(run)
    }

    /// The resource stands apart, as protobuf: JSON has no NaN and no bytes.
    fn store_spec(&self, run: i64, spec: &RunSpec) -> Result<(), StoreError> {
        let mut body = Vec::new();
        otlp::write_resource(&mut body, &spec.resource);
        self.change("INSERT OR IGNORE INTO resource (body) VALUES (?1)", params![body])?;
        let json = serde_json::to_string(&RunSpec { resource: Vec::new(), ..spec.clone() })
            .expect("a spec's maps have text keys");
        self.change(
            "UPDATE run SET spec = ?2, started = ?3, resource = (SELECT id FROM resource WHERE body = ?4)
             WHERE number = ?1",
            params![run, json, spec.started_unix_nano as i64, body],
        )
    }

    fn plan_finished(&self, spec: &RunSpec) -> Result<i64, StoreError> {
        let run = plan::find_or_insert(self.conn, &self.attempt, &spec.run_id)?;
        let planned: i64 = self
            .conn
            .query_row(
                "SELECT count(*) FROM planned WHERE id BETWEEN ?1 AND ?2",
                [super::schema::first_key(run), super::schema::last_key(run)],
                |row| row.get(0),
            )
            .map_err(self.or())?;
        if planned as u64 != spec.dataset.cases {
            return Err(StoreError::OutOfOrder {
                what: format!("the plan of run {}", spec.run_id),
                reason: format!("it has {planned} cases and its dataset {}", spec.dataset.cases),
            });
        }
        self.store_spec(run, spec)?;
        Ok(run)
    }

    /// Records the open root of a trace that is new.
    fn open_root(&mut self, root: &Bundle) -> Result<(), StoreError> {
        let session = self.session()?.clone();
        let span = only_span(root)?;
        self.last.trace += 1;
        let number = self.last.trace;
        self.statements()
            .insert_trace
            .execute(params![number, span.trace_id.as_bytes(), session.run, span.start, span.name, session.service])
            .map_err(|e| self.clash(e, span, "a trace of that id is recorded already"))?;
        self.traces.insert(span.trace_id, KnownTrace { number, start: span.start });
        self.sums.created_spans += 1;
        self.insert_bundle(root, None)
    }

    /// Puts the ended root in the place of the open one, with a new number: it comes last in the outbox.
    fn close_root(&mut self, root: &Bundle) -> Result<(), StoreError> {
        let span = only_span(root)?;
        let open = match self.trace_number(span.trace_id)? {
            Some(trace) => self.find_span(trace.number, span.span_id)?.filter(|found| found.end.is_none()),
            None => None,
        };
        let (Some(open), Some(end)) = (open, span.end) else {
            return Err(StoreError::OutOfOrder {
                what: format!("the end of span {} of trace {}", span_id_of(span.span_id), span.trace_id),
                reason: if span.end.is_none() { "it has no end" } else { "no such span is open" }.to_owned(),
            });
        };
        self.delete_span(&open)?;
        self.insert_bundle(root, None)?;
        // It was counted when it was opened.
        let sums = self.sums.traces.entry(open.trace).or_default();
        sums.operations -= 1;
        sums.end = sums.end.max(end);
        self.traces.remove(&span.trace_id);
        Ok(())
    }

    fn session_finished(&mut self, status: RunStatus, root: &Bundle, ended: i64) -> Result<(), StoreError> {
        self.close_root(root)?;
        let run = self.session()?.run;
        // A session that was told to stop leaves batches behind; the runner has nothing more to say of them.
        self.close_open_spans(run)?;
        self.change(
            "UPDATE run SET status = ?2, ended = ?3, active_ns = active_ns + max(0, ?3 - session_started),
                            session_started = NULL WHERE number = ?1",
            params![run, status.as_str(), ended],
        )?;
        self.flush()?;
        self.session = None;
        Ok(())
    }

    fn trial(&mut self, trial: &TrialRow, bundle: &Bundle) -> Result<(), StoreError> {
        let run = self.session()?.run;
        let id = pack(run, trial.key)?;
        let Some(trace) = self.trace_number(trial.trace_id)? else {
            return Err(StoreError::Rootless { trace_id: trial.trace_id, span_id: trial.span_id });
        };
        let inserted = match self.statements().insert_trial(id, trace.number, trial) {
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                self.discard(id, trial)?;
                self.statements().insert_trial(id, trace.number, trial)
            }
            inserted => inserted,
        };
        inserted.map_err(self.or())?;
        for score in &trial.scores {
            self.statements()
                .insert_score
                .execute(params![id, score.evaluator as i64, score.state, score.value, score.label])
                .map_err(self.or())?;
        }
        self.sums.trials[counted_as(i64::from(trial.outcome))] += 1;
        self.sums.created_spans += bundle.spans.len() as i64;
        self.insert_bundle(bundle, Some((id, number_of(trial.span_id))))
    }

    /// Makes place for another outcome of a trial that did not complete.
    fn discard(&mut self, id: i64, trial: &TrialRow) -> Result<(), StoreError> {
        let outcome: i64 = self
            .conn
            .query_row("SELECT outcome FROM trial WHERE id = ?1", [id], |row| row.get(0))
            .map_err(self.or())?;
        if outcome < FAILED {
            return Err(StoreError::AlreadyCompleted { case_id: trial.case_id.clone(), repeat: trial.key.repeat });
        }
        self.change("DELETE FROM score WHERE trial = ?1", [id])?;
        self.change("DELETE FROM trial WHERE id = ?1", [id])?;
        self.sums.trials[counted_as(outcome)] -= 1;
        Ok(())
    }

    /// Inserts spans, payload and log row; `trial` names the span that stands for a trial.
    fn insert_bundle(&mut self, bundle: &Bundle, trial: Option<(i64, i64)>) -> Result<(), StoreError> {
        let session = self.session()?.clone();
        self.insert_bundle_of(session.run, Some(session.resource), bundle, trial)
    }

    pub(super) fn insert_bundle_of(
        &mut self,
        run: i64,
        resource: Option<i64>,
        bundle: &Bundle,
        trial: Option<(i64, i64)>,
    ) -> Result<(), StoreError> {
        if bundle.spans.is_empty() && bundle.logs == 0 {
            return Ok(());
        }
        self.last.payload += 1;
        let payload = self.last.payload;
        let statements = self.statements();
        statements
            .insert_payload
            .execute(params![payload, run, resource, bundle.body])
            .and_then(|_| match bundle.logs {
                0 => Ok(0),
                records => statements.insert_log.execute(params![payload, run, records as i64]),
            })
            .map_err(self.or())?;
        extend(&mut self.sums.payloads, payload);
        for (slot, span) in bundle.spans.iter().enumerate() {
            let Some(trace) = self.trace_number(span.trace_id)? else {
                return Err(StoreError::Rootless { trace_id: span.trace_id, span_id: span_id_of(span.span_id) });
            };
            self.last.span += 1;
            let id = self.last.span;
            let trial = trial.and_then(|(trial, of)| (of == span.span_id).then_some(trial));
            self.statements()
                .insert_span(id, Some(run), trace.number, trial, (payload, slot as i64), span)
                .map_err(|e| self.clash(e, span, "a span of that id is recorded already"))?;
            extend(&mut self.sums.spans, id);
            let sums = self.sums.traces.entry(trace.number).or_default();
            sums.operations += 1;
            sums.errors += i64::from(span.status == 2);
            if span.start < trace.start {
                sums.start = Some(sums.start.map_or(span.start, |start| start.min(span.start)));
            }
            sums.end = sums.end.max(span.end.unwrap_or(span.start));
        }
        Ok(())
    }

    fn set_tags(&self, run_id: &RunId, tags: &BTreeMap<String, String>) -> Result<(), StoreError> {
        let run = self.run_number(run_id)?;
        let json: String = self
            .conn
            .query_row("SELECT spec FROM run WHERE number = ?1", [run], |row| row.get(0))
            .map_err(self.or())?;
        let mut spec: RunSpec =
            serde_json::from_str(&json).map_err(|e| StoreError::damaged(format!("run {run_id}"), e))?;
        for (name, value) in tags {
            if value.is_empty() {
                spec.tags.remove(name);
            } else {
                spec.tags.insert(name.clone(), value.clone());
            }
        }
        let json = serde_json::to_string(&spec).expect("it came from JSON");
        self.change("UPDATE run SET spec = ?2 WHERE number = ?1", params![run, json])
    }

    fn acknowledge(&self, ack: &Ack) -> Result<(), StoreError> {
        let changed = self
            .conn
            .prepare_cached(
                "UPDATE outbox SET cursor = max(cursor, ?4), delivered = delivered + ?5, rejected = rejected + ?6,
                                   not_sampled = not_sampled + ?7, duplicates = duplicates + ?8
                 WHERE run = ?1 AND destination = ?2 AND signal = ?3",
            )
            .and_then(|mut update| {
                update.execute(params![
                    ack.run,
                    ack.destination,
                    ack.signal.number(),
                    ack.cursor,
                    ack.delivered as i64,
                    ack.rejected as i64,
                    ack.not_sampled as i64,
                    ack.duplicates as i64
                ])
            })
            .map_err(self.or())?;
        if changed == 1 {
            return Ok(());
        }
        Err(StoreError::OutOfOrder {
            what: format!("a delivery to `{}`", ack.destination),
            reason: "the run has no such destination".to_owned(),
        })
    }

    /// Says what was attempted when SQLite refused.
    pub(super) fn or(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let attempt = self.attempt.clone();
        move |error| attempt.failed(error)
    }

    fn session(&self) -> Result<&Session, StoreError> {
        self.session.as_ref().ok_or_else(|| StoreError::OutOfOrder {
            what: "an event".to_owned(),
            reason: "no session of a run has started".to_owned(),
        })
    }

    fn find_run(&self, run_id: &RunId) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT number FROM run WHERE run_id = ?1 AND spec IS NOT NULL";
        self.conn.query_row(sql, [run_id.as_str()], |row| row.get(0)).optional().map_err(self.or())
    }

    fn run_number(&self, run_id: &RunId) -> Result<i64, StoreError> {
        self.find_run(run_id)?.ok_or_else(|| StoreError::UnknownRun { wanted: run_id.to_string(), known: Vec::new() })
    }

    fn trace_number(&mut self, trace_id: TraceId) -> Result<Option<KnownTrace>, StoreError> {
        if let Some(known) = self.traces.get(&trace_id) {
            return Ok(Some(*known));
        }
        let found = self
            .conn
            .prepare_cached("SELECT number, start FROM trace WHERE trace_id = ?1")
            .and_then(|mut find| {
                find.query_row([trace_id.as_bytes()], |row| Ok(KnownTrace { number: row.get(0)?, start: row.get(1)? }))
                    .optional()
            })
            .map_err(self.or())?;
        if let Some(known) = found {
            self.traces.insert(trace_id, known);
        }
        Ok(found)
    }

    fn find_span(&self, trace: i64, span_id: i64) -> Result<Option<FoundSpan>, StoreError> {
        self.conn
            .prepare_cached("SELECT id, trace, payload, slot, end FROM span WHERE trace = ?1 AND span_id = ?2")
            .and_then(|mut find| find.query_row([trace, span_id], FoundSpan::from_row).optional())
            .map_err(self.or())
    }

    pub(super) fn delete_span(&self, span: &FoundSpan) -> Result<(), StoreError> {
        self.change("DELETE FROM span WHERE id = ?1", [span.id])?;
        self.change("DELETE FROM payload WHERE id = ?1", [span.payload])
    }

    /// Writes the sums of this transaction.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        if let Some(run) = self.session.as_ref().map(|session| session.run) {
            self.flush_run(run)?;
        }
        let last = self.last;
        let or = self.or();
        self.statements().set_counters.execute([last.span, last.payload, last.trace]).map_err(or)?;
        Ok(())
    }

    pub(super) fn flush_run(&mut self, run: i64) -> Result<(), StoreError> {
        let sums = std::mem::take(&mut self.sums);
        let or = self.or();
        for (trace, of) in sums.traces {
            let statements = self.statements();
            statements.add_to_trace.execute(params![trace, of.operations, of.end]).map_err(&or)?;
            // These columns have indexes.
            if of.errors != 0 {
                statements.add_errors.execute([trace, of.errors]).map_err(&or)?;
            }
            if let Some(start) = of.start {
                statements.begin_trace.execute([trace, start]).map_err(&or)?;
            }
        }
        let [completed, failed, skipped] = sums.trials;
        self.statements()
            .add_to_run
            .execute(params![
                run,
                sums.created_spans,
                completed,
                failed,
                skipped,
                sums.spans.map(|range| range.0),
                sums.spans.map(|range| range.1),
                sums.payloads.map(|range| range.0),
                sums.payloads.map(|range| range.1),
            ])
            .map_err(or)?;
        Ok(())
    }

    fn statements(&mut self) -> &mut Statements<'c> {
        self.statements.as_mut().expect("prepared when the transaction began")
    }

    /// One change that is not worth a statement of its own.
    pub(super) fn change(&self, sql: &str, params: impl rusqlite::Params) -> Result<(), StoreError> {
        self.conn.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map(drop).map_err(self.or())
    }

    fn execute(&self, sql: &str) -> Result<(), StoreError> {
        self.conn.execute_batch(sql).map_err(self.or())
    }

    /// A constraint that a span or trace violates is a fault of the event, not of the store.
    fn clash(&self, error: rusqlite::Error, span: &SpanRow, reason: &str) -> StoreError {
        if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) {
            StoreError::OutOfOrder {
                what: format!("span {} of trace {}", span_id_of(span.span_id), span.trace_id),
                reason: reason.to_owned(),
            }
        } else {
            self.attempt.failed(error)
        }
    }
}

fn only_span(root: &Bundle) -> Result<&SpanRow, StoreError> {
    match root.spans.as_slice() {
        [span] => Ok(span),
        spans => Err(StoreError::OutOfOrder {
            what: "a root".to_owned(),
            reason: format!("there are {} spans in its place", spans.len()),
        }),
    }
}

const fn more(more: bool) -> Done {
    if more { Done::More } else { Done::Nothing }
}

fn extend(range: &mut Option<(i64, i64)>, id: i64) {
    *range = Some((range.map_or(id, |(first, _)| first), id));
}

/// The place of an outcome number in `completed, failed, skipped`.
const fn counted_as(outcome: i64) -> usize {
    match outcome {
        FAILED => 1,
        SKIPPED => 2,
        _ => 0,
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
