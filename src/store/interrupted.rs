//! Closing what a killed session left open, so that no trace stays without the end of its root.

use rusqlite::params;

use super::apply::Applier;
use super::bundle::{Bundle, Messages};
use super::error::StoreError;
use crate::model::{RunStatus, Status};
use crate::trace::semconv;

impl Applier<'_> {
    /// Closes what an earlier session of the run left open, and counts the time that it was at work.
    pub(super) fn close_interrupted(&mut self, run: i64) -> Result<(), StoreError> {
        let last_end = self.close_open_spans(run)?;
        self.add_missing_means(run)?;
        self.change(
            "UPDATE run SET active_ns = active_ns + max(0, coalesce(?2, session_started) - session_started),
                            session_started = NULL, status = CASE status WHEN ?3 THEN ?4 ELSE status END
             WHERE number = ?1 AND session_started IS NOT NULL",
            params![run, last_end, RunStatus::Running.as_str(), RunStatus::Interrupted.as_str()],
        )
    }

    /// Ends each open span of the run where its last child ended, with status ERROR `interrupted`; one without children
    /// in its trace (the session's own root) where the run's last span ended. Returns the latest of these ends.
    pub(super) fn close_open_spans(&mut self, run: i64) -> Result<Option<i64>, StoreError> {
        self.flush()?;
        let open = {
            let mut find = self
                .conn
                .prepare("SELECT id, trace, payload, slot, end, name, span_id FROM span WHERE run = ?1 AND end IS NULL ORDER BY id DESC")
                .map_err(self.or())?;
            let rows = find.query_map([run], |row| {
                let span = FoundSpan::from_row(row)?;
                Ok((span, row.get::<_, String>(5)?, row.get::<_, i64>(6)?))
            });
            rows.and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(self.or())?
        };
        if open.is_empty() {
            return Ok(None);
        }
        let or = self.or();
        let mut latest = None;
        // Newest first: batches before the session that they belong to.
        for (found, name, span_id) in open {
            let end: Option<i64> = if name.starts_with(semconv::span::EVALUATION_RUN) {
                self.conn.query_row(
                    "SELECT max(end) FROM span WHERE run = ?1 AND id BETWEEN
                     (SELECT first_span FROM run WHERE number = ?1) AND (SELECT last_span FROM run WHERE number = ?1)",
                    [run],
                    |row| row.get(0),
                )
            } else {
                let sql = "SELECT max(end) FROM span WHERE trace = ?1 AND parent = ?2";
                self.conn.query_row(sql, [found.trace, span_id], |row| row.get(0))
            }
            .map_err(&or)?;
            let (resource, body): (Option<i64>, Vec<u8>) = self
                .conn
                .query_row("SELECT resource, body FROM payload WHERE id = ?1", [found.payload], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .map_err(&or)?;
            let content = self.decoder.decode(self.conn, "a span", &body)?;
            let mut span = Messages::split(content)?.span(found.slot as usize)?;
            span.end_unix_nano = (end.unwrap_or(0) as u64).max(span.start_unix_nano);
            span.status = Status::Error("interrupted".to_owned());
            latest = latest.max(Some(span.end_unix_nano as i64));
            let (trace, trace_id) = (found.trace, span.trace_id);
            let bundle = Bundle::encode(self.dictionary, vec![span], &[]);
            self.delete_span(&found)?;
            self.insert_bundle_of(run, resource, &bundle, None)?;
            self.sums.traces.entry(trace).or_default().operations -= 1;
            self.traces.remove(&trace_id);
            self.add_means_of(trace)?;
            self.flush_sums(Some(run))?;
        }
        Ok(latest)
    }
}

/// Where a recorded span stands.
#[derive(Debug)]
pub(super) struct FoundSpan {
    pub(super) id: i64,
    pub(super) trace: i64,
    pub(super) payload: i64,
    pub(super) slot: i64,
    pub(super) end: Option<i64>,
}

impl FoundSpan {
    pub(super) fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get(0)?, trace: row.get(1)?, payload: row.get(2)?, slot: row.get(3)?, end: row.get(4)? })
    }
}
