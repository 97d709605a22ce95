//! What the store holds, counted, and whether it has changed.

use super::error::StoreError;
use super::reader::Reader;
use super::rows::StoreHealth;
use crate::model::RunId;

impl Reader {
    /// What the store holds. Takes some hundredths of a second with a million spans.
    pub fn store_health(&self) -> Result<StoreHealth, StoreError> {
        let _moment = self.moment()?;
        let or = self.or();
        let one = |sql: &str| -> Result<u64, StoreError> {
            let count =
                self.conn.prepare_cached(sql).and_then(|mut find| find.query_row([], |row| row.get::<_, i64>(0)));
            Ok(count.map_err(&or)?.max(0) as u64)
        };
        let page = one("PRAGMA page_size")?;
        let path = self.path();
        let length = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let mut health = StoreHealth {
            file_bytes: length(path),
            log_bytes: length(&path.with_extension("db-wal")),
            free_bytes: page * one("PRAGMA freelist_count")?,
            runs: one("SELECT count(*) FROM run WHERE spec IS NOT NULL")?,
            log_records: one("SELECT coalesce(sum(records), 0) FROM log")?,
            external_scores: one("SELECT count(*) FROM external_score")?,
            pruned_traces: one("SELECT count(*) FROM pruned")?,
            ..StoreHealth::default()
        };
        let sums =
            "SELECT count(*), coalesce(sum(operations), 0), min(start), max(start) FROM trace WHERE operations > 0";
        let (traces, spans, oldest, newest): (i64, i64, Option<i64>, Option<i64>) = self
            .conn
            .prepare_cached(sums)
            .and_then(|mut find| find.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))))
            .map_err(&or)?;
        (health.traces, health.spans) = (traces as u64, spans as u64);
        (health.oldest_unix_nano, health.newest_unix_nano) = (oldest.map(|t| t as u64), newest.map(|t| t as u64));
        let last: Option<i64> = self
            .conn
            .prepare_cached("SELECT max(at) FROM pruned")
            .and_then(|mut find| find.query_row([], |row| row.get(0)))
            .map_err(&or)?;
        health.pruned_unix_nano = last.map(|t| t as u64);
        Ok(health)
    }

    /// Size of the database, in bytes; the file follows when the write-ahead log is moved into it.
    pub(super) fn file_bytes(&self) -> Result<u64, StoreError> {
        let number = |name| self.conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(self.or());
        Ok((number("page_count")? * number("page_size")?) as u64)
    }

    /// The runs that are at work, or were when their process was killed.
    pub(super) fn sessions(&self) -> Result<Vec<RunId>, StoreError> {
        let ids: Vec<String> = self
            .conn
            .prepare_cached("SELECT run_id FROM run WHERE session_started IS NOT NULL AND spec IS NOT NULL")
            .and_then(|mut find| find.query_map([], |row| row.get(0))?.collect())
            .map_err(self.or())?;
        ids.into_iter().map(|id| RunId::parse(id).map_err(|e| StoreError::damaged("a run", e))).collect()
    }

    /// A number that grows with every change of the store, by whatever process; the same for all readers.
    pub fn change_counter(&self) -> Result<u64, StoreError> {
        self.conn
            .prepare_cached("SELECT changes FROM counter")
            .and_then(|mut find| find.query_row([], |row| row.get::<_, i64>(0)))
            .map(|n| n as u64)
            .map_err(self.or())
    }
}
