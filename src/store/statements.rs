//! The statements that every trial runs, prepared once for the writer's connection.

use rusqlite::{Connection, Statement, params};

use super::bundle::{SpanRow, TrialRow, number_of};

/// Prepared statements of the writer.
pub(super) struct Statements<'c> {
    pub(super) counters: Statement<'c>,
    pub(super) set_counters: Statement<'c>,
    pub(super) insert_trace: Statement<'c>,
    pub(super) add_to_trace: Statement<'c>,
    pub(super) add_errors: Statement<'c>,
    pub(super) begin_trace: Statement<'c>,
    pub(super) add_tokens: Statement<'c>,
    pub(super) add_to_run: Statement<'c>,
    pub(super) insert_score: Statement<'c>,
    pub(super) insert_payload: Statement<'c>,
    pub(super) insert_log: Statement<'c>,
    pub(super) version: Statement<'c>,
    pub(super) find_trace: Statement<'c>,
    pub(super) ingest_trace: Statement<'c>,
    pub(super) ingest_payload: Statement<'c>,
    pub(super) set_mean: Statement<'c>,
    trial: Statement<'c>,
    span: Statement<'c>,
    ingest_span: Statement<'c>,
}

impl<'c> Statements<'c> {
    pub(super) fn prepare(conn: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            counters: conn.prepare("SELECT span, payload, trace FROM counter")?,
            set_counters: conn
                .prepare("UPDATE counter SET span = ?1, payload = ?2, trace = ?3, changes = changes + 1")?,
            insert_trace: conn.prepare(
                "INSERT INTO trace (number, trace_id, run, start, end, operations, errors, root, service, root_start)
                 VALUES (?1, ?2, ?3, ?4, ?4, 0, 0, ?5, ?6, ?4) ON CONFLICT DO NOTHING",
            )?,
            add_to_trace: conn
                .prepare("UPDATE trace SET operations = operations + ?2, end = max(end, ?3) WHERE number = ?1")?,
            add_errors: conn.prepare("UPDATE trace SET errors = errors + ?2 WHERE number = ?1")?,
            begin_trace: conn.prepare("UPDATE trace SET start = ?2 WHERE number = ?1 AND start > ?2")?,
            add_tokens: conn.prepare(
                "UPDATE trace SET input_tokens = coalesce(input_tokens, 0) + ?2,
                                  output_tokens = coalesce(output_tokens, 0) + ?3 WHERE number = ?1",
            )?,
            add_to_run: conn.prepare(
                "UPDATE run SET created_spans = created_spans + ?2, completed = completed + ?3, failed = failed + ?4,
                                skipped = skipped + ?5, first_span = coalesce(first_span, ?6),
                                last_span = coalesce(?7, last_span), first_payload = coalesce(first_payload, ?8),
                                last_payload = coalesce(?9, last_payload)
                 WHERE number = ?1",
            )?,
            insert_score: conn.prepare("INSERT INTO score VALUES (?1, ?2, ?3, ?4, ?5)")?,
            insert_payload: conn.prepare("INSERT INTO payload (id, run, resource, body) VALUES (?1, ?2, ?3, ?4)")?,
            insert_log: conn.prepare("INSERT INTO log (payload, run, records) VALUES (?1, ?2, ?3)")?,
            version: conn.prepare("PRAGMA data_version")?,
            find_trace: conn
                .prepare("SELECT number, run, start, rooted, root_start FROM trace WHERE trace_id = ?1")?,
            ingest_trace: conn.prepare(
                "INSERT INTO trace (number, trace_id, start, end, operations, errors, root, service, rooted, root_start,
                                    input_tokens, output_tokens)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING",
            )?,
            ingest_payload: conn
                .prepare("INSERT INTO payload (id, run, resource, scope, body) VALUES (?1, ?2, ?3, ?4, ?5)")?,
            set_mean: conn.prepare(
                "INSERT OR REPLACE INTO trace_score SELECT ?1, ?2, ?3
                 WHERE EXISTS (SELECT 1 FROM trace WHERE number = ?1)",
            )?,
            ingest_span: conn.prepare(
                "INSERT INTO span VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, NULL, ?10, ?11, ?12)
                 ON CONFLICT DO NOTHING",
            )?,
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
        run: Option<i64>,
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

    /// As [`Self::insert_span`], of an application: 0 if it is known already.
    pub(super) fn ingest_span(
        &mut self,
        id: i64,
        run: Option<i64>,
        trace: i64,
        payload: (i64, i64),
        span: &SpanRow,
    ) -> rusqlite::Result<usize> {
        self.ingest_span.execute(params![
            id,
            run,
            trace,
            span.span_id,
            span.parent,
            span.kind,
            span.status,
            span.start,
            span.end,
            payload.0,
            payload.1,
            span.name.as_ref(),
        ])
    }
}
