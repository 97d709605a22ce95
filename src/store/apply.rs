//! What each step changes in the tables, within the writer's transactions.
//!
//! The sums of a transaction (operations of a trace, trials of a run) are gathered in memory and written once before
//! the commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::bundle::{Bundle, FAILED, SKIPPED, SpanRow, TrialRow, number_of, span_id_of};
use super::codec::Decoder;
use super::error::{Attempt, BUSY_SECONDS, StoreError};
use super::gather::{Gathered, Interned};
use super::ingest::{Delivery, Ingested};
use super::interrupted::FoundSpan;
use super::judged::JudgedRun;
use super::means::Means;
use super::outbox::{Ack, Signal};
use super::plan::{self, PlannedCase};
use super::prune::{PruneStep, PrunedStep};
use super::remove;
use super::schema::pack;
use super::statements::Statements;
use super::sums::{Counters, KnownTrace, Sums};
use crate::model::{RunId, RunSpec, RunStatus, TraceId, Value};
use crate::trace::semconv;

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
    KeepVerdict { run_id: RunId, judged: Box<JudgedRun> },
    Pin { file: String, runs: BTreeSet<RunId> },
    Register { run_id: RunId, destination: String, signal: Signal, config: String },
    Restart { run_id: RunId, destination: String },
    Acknowledge(Ack),
    Ingest(Box<Delivery>),
    Prune(Box<PruneStep>),
}

impl Work {
    /// How much of a transaction it fills, counted in spans and log records.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Ingest(delivery) => delivery.len(),
            Self::Prune(_) => usize::MAX,
            _ => 0,
        }
    }

    /// Whether it leaves no hole in a run's record if it is not done now, but later.
    pub(super) const fn may_come_again(&self) -> bool {
        matches!(self, Self::Ingest(_) | Self::Prune(_))
    }

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
    Ingested(Ingested),
    Pruned(PrunedStep),
}

/// The run that events belong to.
#[derive(Debug, Clone)]
struct Session {
    run: i64,
    resource: i64,
    service: Option<String>,
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
    pub(super) means: Means,
    pub(super) gathered: Gathered,
    pub(super) interned: Interned,
    /// The database's version at the last look: another number means that another connection has changed it.
    version: i64,
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
            means: Means::default(),
            gathered: Gathered::default(),
            interned: Interned::default(),
            version: 0,
        }
    }

    /// Applies all steps in one transaction: all of them are on disk when it returns, or none is.
    pub(super) fn transact<'w>(&mut self, steps: impl Iterator<Item = &'w Work>) -> Result<Vec<Done>, StoreError> {
        self.begin()?;
        let session = self.session.clone();
        let means = self.means.mark();
        let result = steps.map(|step| self.apply(step)).collect::<Result<Vec<_>, _>>().and_then(|done| {
            self.flush()?;
            self.execute("COMMIT")?;
            Ok(done)
        });
        self.means.settle(result.is_ok(), means);
        if result.is_err() {
            // After some errors SQLite has rolled back by itself and says so.
            let _ = self.conn.execute_batch("ROLLBACK");
            self.session = session;
            self.forget();
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
            match Statements::prepare(self.conn) {
                Ok(statements) => self.statements = Some(statements),
                Err(e) => {
                    let _ = self.conn.execute_batch("ROLLBACK");
                    return Err(self.attempt.failed(e));
                }
            }
        }
        // Read after the lock is taken, so that it holds until the commit.
        let version = self.statements().version.query_row([], |row| row.get(0)).unwrap_or(-1);
        if version != self.version {
            self.forget();
            self.version = version;
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

    /// Forgets what it knows of the tables.
    fn forget(&mut self) {
        self.traces.clear();
        self.gathered = Gathered::default();
        self.interned.clear();
    }

    /// Forgets what may be removed by a step of this transaction.
    pub(super) fn forget_removed(&mut self) {
        self.traces.clear();
        self.forget_joined();
        self.interned.clear();
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
            Work::RemoveStep(run_id) => {
                self.forget_removed();
                return remove::step(self.conn, run_id).map(more).map_err(self.or());
            }
            Work::DropPlan(run_id) => return remove::drop_plan(self.conn, run_id).map(more).map_err(self.or()),
            Work::SetTags { run_id, tags } => self.set_tags(run_id, tags)?,
            Work::KeepVerdict { run_id, judged } => self.keep_verdict(run_id, judged)?,
            Work::Pin { file, runs } => self.pin(file, runs)?,
            Work::Register { run_id, destination, signal, config } => {
                let run = self.run_number(run_id)?;
                let sql = "INSERT INTO outbox (run, destination, signal, config) VALUES (?1, ?2, ?3, ?4)
                           ON CONFLICT DO UPDATE SET config = excluded.config";
                self.change(sql, params![run, destination, signal.number(), config])?;
            }
            Work::Restart { run_id, destination } => {
                let run = self.run_number(run_id)?;
                let sql = "UPDATE outbox SET cursor = 0, delivered = 0, rejected = 0, not_sampled = 0, duplicates = 0,
                           pruned = 0 WHERE run = ?1 AND destination = ?2";
                self.change(sql, params![run, destination])?;
            }
            Work::Acknowledge(ack) => self.acknowledge(ack)?,
            Work::Ingest(delivery) => return self.ingest(delivery).map(Done::Ingested),
            Work::Prune(step) => return self.prune(step).map(Done::Pruned),
        }
        Ok(Done::Nothing)
    }

    fn session_started(&mut self, spec: &RunSpec, root: &Bundle) -> Result<(), StoreError> {
        self.flush()?;
        let run = match self.find_run(&spec.run_id)? {
            Some(run) => {
                // A session may be told to go on with another prompt: the record says what is run.
                self.store_spec(run, spec)?;
                // What was judged is not what will stand there.
                self.change("DELETE FROM verdict WHERE run = ?1", [run])?;
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

    /// Records the open root of a trace that is new.
    fn open_root(&mut self, root: &Bundle) -> Result<(), StoreError> {
        let session = self.session()?.clone();
        let span = only_span(root)?;
        let number = self.last.trace + 1;
        let row = params![number, span.trace_id.as_bytes(), session.run, span.start, span.name, session.service];
        if self.statements().insert_trace.execute(row).map_err(self.or())? == 1 {
            self.last.trace = number;
            self.traces.insert(span.trace_id, KnownTrace { number, start: span.start });
        } else {
            self.join_trace(span, &session)?;
        }
        self.sums.run.created_spans += 1;
        self.insert_bundle(root, None)
    }

    /// A root in a trace that is there already: the trace of who started this run (`TRACEPARENT`), or one that telemetry
    /// came ahead of.
    fn join_trace(&mut self, span: &SpanRow, session: &Session) -> Result<(), StoreError> {
        let run: Option<i64> = self
            .conn
            .query_row("SELECT run FROM trace WHERE trace_id = ?1", [span.trace_id.as_bytes()], |row| row.get(0))
            .map_err(self.or())?;
        if span.parent.is_none() {
            if run.is_some() {
                return Err(out_of_order(span, "a trace of that id is recorded already"));
            }
            self.change(
                "UPDATE trace SET run = ?2, root = ?3, service = ?4, rooted = 2, root_start = ?5,
                     start = CASE operations WHEN 0 THEN ?5 ELSE min(start, ?5) END WHERE trace_id = ?1",
                params![span.trace_id.as_bytes(), session.run, span.name, session.service, span.start],
            )?;
        }
        self.traces.remove(&span.trace_id);
        self.forget_joined();
        Ok(())
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
        match &root.means {
            Some(means) if means.is_empty() => self.add_means_of(open.trace)?,
            Some(means) => self.means.add(open.trace, means),
            None => {}
        }
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
        self.write_means()?;
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
        self.sums.run.created_spans += bundle.spans.len() as i64;
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
        self.sums.run.add_payload(payload);
        for (slot, span) in bundle.spans.iter().enumerate() {
            let Some(trace) = self.trace_number(span.trace_id)? else {
                return Err(StoreError::Rootless { trace_id: span.trace_id, span_id: span_id_of(span.span_id) });
            };
            self.last.span += 1;
            let id = self.last.span;
            let trial = trial.and_then(|(trial, of)| (of == span.span_id).then_some(trial));
            let place = (payload, slot as i64);
            match self.statements().insert_span(id, Some(run), trace.number, trial, place, span) {
                Err(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                    self.displace(trace.number, span)?;
                    let again = self.statements().insert_span(id, Some(run), trace.number, trial, place, span);
                    again.map_err(self.or())?;
                }
                inserted => drop(inserted.map_err(self.or())?),
            }
            self.sums.run.add_span(id);
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

    /// Says what was attempted when SQLite refused.
    pub(super) fn or(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let attempt = self.attempt.clone();
        move |error| attempt.failed(error)
    }

    /// The run of the session, if one is open.
    pub(super) fn session_run(&self) -> Option<i64> {
        self.session.as_ref().map(|session| session.run)
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

    pub(super) fn run_number(&self, run_id: &RunId) -> Result<i64, StoreError> {
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

    pub(super) fn statements(&mut self) -> &mut Statements<'c> {
        self.statements.as_mut().expect("prepared when the transaction began")
    }

    /// One change that is not worth a statement of its own.
    pub(super) fn change(&self, sql: &str, params: impl rusqlite::Params) -> Result<(), StoreError> {
        self.conn.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map(drop).map_err(self.or())
    }

    fn execute(&self, sql: &str) -> Result<(), StoreError> {
        self.conn.execute_batch(sql).map_err(self.or())
    }

    /// Makes place for a span of the run itself where an application has sent one of that id.
    fn displace(&mut self, trace: i64, span: &SpanRow) -> Result<(), StoreError> {
        let found: Option<(i64, Option<i64>, i64)> = self
            .conn
            .query_row(
                "SELECT span.id, span.run, span.status FROM span JOIN payload ON payload.id = span.payload
                 WHERE span.trace = ?1 AND span_id = ?2 AND scope IS NOT NULL",
                [trace, span.span_id],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()
            .map_err(self.or())?;
        let Some((id, run, status)) = found else {
            return Err(out_of_order(span, "a span of that id is recorded already"));
        };
        self.change("DELETE FROM span WHERE id = ?1", [id])?;
        if let Some(run) = run {
            self.gathered.runs.entry(run).or_default().created_spans -= 1;
            // Who has passed it counted it as dealt with.
            let sql = "UPDATE outbox SET pruned = pruned + 1 WHERE run = ?1 AND signal = ?2 AND cursor >= ?3";
            self.change(sql, params![run, Signal::Traces.number(), id])?;
        }
        let sums = self.sums.traces.entry(trace).or_default();
        sums.operations -= 1;
        sums.errors -= i64::from(status == 2);
        Ok(())
    }
}

/// What a span violates is a fault of the event, not of the store.
fn out_of_order(span: &SpanRow, reason: &str) -> StoreError {
    StoreError::OutOfOrder {
        what: format!("span {} of trace {}", span_id_of(span.span_id), span.trace_id),
        reason: reason.to_owned(),
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
