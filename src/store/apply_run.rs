//! What steps change in the row of a run and in its deliveries.

use std::collections::BTreeMap;

use rusqlite::params;

use super::apply::Applier;
use super::error::StoreError;
use super::outbox::Ack;
use super::plan;
use crate::model::{RunId, RunSpec, RunStatus};
use crate::trace::otlp;

impl Applier<'_> {
    pub(super) fn insert_run(&self, spec: &RunSpec) -> Result<i64, StoreError> {
        self.change(
            "INSERT INTO run (run_id, status) VALUES (?1, ?2)",
            params![spec.run_id.as_str(), RunStatus::Running.as_str()],
        )?;
        let run = self.conn.last_insert_rowid();
        self.store_spec(run, spec)?;
        Ok(run)
    }

    /// The resource stands apart, as protobuf: JSON has no NaN and no bytes.
    pub(super) fn store_spec(&self, run: i64, spec: &RunSpec) -> Result<(), StoreError> {
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

    pub(super) fn plan_finished(&self, spec: &RunSpec) -> Result<i64, StoreError> {
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

    pub(super) fn set_tags(&self, run_id: &RunId, tags: &BTreeMap<String, String>) -> Result<(), StoreError> {
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

    pub(super) fn acknowledge(&self, ack: &Ack) -> Result<(), StoreError> {
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
}
