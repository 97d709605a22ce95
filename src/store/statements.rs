//! The statements that every trial runs, prepared once for the writer's connection.

use rusqlite::{Connection, Statement, params};

use super::bundle::{SpanRow, TrialRow, number_of};

/// Prepared statements of the writer.
pub(super) struct Statements<'c> {
    pub(super) counters: Statement<'c>,
    pub(super) set_counters: Statement<'c>,
    pub(super) insert_trace: Statement<'c>,
    pub(super) add_to_trace: Statement<'c>,
    pub(super) add_to_run: Statement<'c>,
    pub(super) insert_score: Statement<'c>,
    pub(super) insert_payload: Statement<'c>,
    pub(super) insert_log: Statement<'c>,
    trial: Statement<'c>,
    span: Statement<'c>,
}

impl<'c> Statements<'c> {
    pub(super) fn prepare(conn: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            counters: conn.prepare("SELECT span, payload FROM counter")?,
            set_counters: conn.prepare("UPDATE counter SET span = ?1, payload = ?2")?,
            insert_trace: conn.prepare(
                "INSERT INTO trace (trace_id, run, start, end, operations, errors, root, service)
                 VALUES (?1, ?2, ?3, ?3, 0, 0, ?4, ?5)",
            )?,
            add_to_trace: conn.prepare(
                "UPDATE trace SET operations = operations + ?2, errors = errors + ?3,
                                  start = min(start, coalesce(?4, start)), end = max(end, ?5)
                 WHERE number = ?1",
            )?,
            add_to_run: conn.prepare(
                "UPDATE run SET created_spans = created_spans + ?2, completed = completed + ?3, failed = failed + ?4,
                                skipped = skipped + ?5, first_span = coalesce(first_span, ?6),
                                last_span = coalesce(?7, last_span), first_payload = coalesce(first_payload, ?8),
                                last_payload = coalesce(?9, last_payload)
                 WHERE number = ?1",
            )?,
            insert_score: conn.prepare("INSERT INTO score VALUES (?1, ?2, ?3, ?4, ?5)")?,
            insert_payload: conn.prepare("INSERT INTO payload VALUES (?1, ?2, ?3, ?4)")?,
            insert_log: conn.prepare("INSERT INTO log VALUES (?1, ?2, ?3)")?,
            trial: conn.prepare(
                "INSERT INTO trial VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )?,
            span: conn.prepare("INSERT INTO span VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)")?,
        })
    }

    pub(super) fn insert_trial(&mut self, id: i64, trace: i64, trial: &TrialRow) -> rusqlite::Result<usize> {
        let tokens = |count: Option<u64>| count.map(|n| n as i64);
        self.trial.execute(params![
            id,
            trial.outcome,
            trial.latency_ns as i64,
            tokens(trial.usage.input_tokens),
            tokens(trial.usage.output_tokens),
            tokens(trial.usage.cached_input_tokens),
            tokens(trial.usage.reasoning_tokens),
            trial.cost_usd,
            trial.attempts,
            trial.cached,
            trial.started as i64,
            trace,
            number_of(trial.span_id),
            trial.chat,
            trial.texts,
        ])
    }

    /// `payload` is the payload's number and the span's slot in it.
    pub(super) fn insert_span(
        &mut self,
        id: i64,
        run: i64,
        trace: i64,
        trial: Option<i64>,
        payload: (i64, i64),
        span: &SpanRow,
    ) -> rusqlite::Result<usize> {
        self.span.execute(params![
            id,
            run,
            trace,
            span.span_id,
            span.parent,
            span.kind,
            span.status,
            span.start,
            span.end,
            trial,
            payload.0,
            payload.1,
            span.name.as_ref(),
        ])
    }
}
