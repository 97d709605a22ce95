//! Taking in telemetry of any application.

use super::error::StoreError;
use super::writer::Writer;
use crate::model::Telemetry;

/// What became of telemetry that was taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Spans that are new.
    pub spans: u64,
    /// Log records that are new.
    pub logs: u64,
    /// Spans and log records that were there already.
    pub duplicates: u64,
    /// Scores that are new.
    pub scores: u64,
}

impl Writer {
    /// Records telemetry of any application; on disk when it returns.
    ///
    /// Spans that are known already (by trace and span id) and identical log records count as duplicates and are not
    /// stored again. Spans that join a trace of a run belong to that run.
    pub async fn ingest(&self, telemetry: Vec<Telemetry>) -> Result<Ingested, StoreError> {
        drop(telemetry);
        Err(StoreError::OutOfOrder { what: "telemetry".to_owned(), reason: "it cannot be taken in yet".to_owned() })
    }
}
