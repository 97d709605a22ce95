//! Telemetry into the store in portions, for all kinds of import.

use crate::model::Telemetry;
use crate::store::{Ingested, StoreError, Writer};

/// Spans and log records that are recorded at once.
const TOGETHER: usize = 4096;

/// Gathers telemetry and records it in portions.
pub(super) struct Intake {
    writer: Writer,
    /// Where writing and asking happens.
    pub(super) runtime: tokio::runtime::Runtime,
    waiting: Vec<Telemetry>,
    items: usize,
    /// What was recorded so far.
    pub(super) sum: Ingested,
}

impl Intake {
    pub(super) fn new(writer: Writer) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { writer, runtime, waiting: Vec::new(), items: 0, sum: Ingested::default() })
    }

    pub(super) fn take(&mut self, telemetry: Vec<Telemetry>) -> Result<(), StoreError> {
        self.items += telemetry.iter().map(|part| part.spans.len() + part.logs.len()).sum::<usize>();
        self.waiting.extend(telemetry);
        if self.items >= TOGETHER {
            self.flush()?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        self.items = 0;
        if self.waiting.is_empty() {
            return Ok(());
        }
        let new = self.runtime.block_on(self.writer.ingest(std::mem::take(&mut self.waiting)))?;
        self.sum.spans += new.spans;
        self.sum.logs += new.logs;
        self.sum.duplicates += new.duplicates;
        self.sum.scores += new.scores;
        Ok(())
    }

    /// Records what is left, and gives the sum of everything.
    pub(super) fn close(mut self) -> Result<Ingested, StoreError> {
        self.flush()?;
        self.runtime.block_on(self.writer.close())?;
        Ok(self.sum)
    }
}
