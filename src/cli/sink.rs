//! Where the run's events meet the store, the progress line, the metrics and the exporters.

use std::sync::Arc;

use async_trait::async_trait;

use super::progress::Tally;
use crate::export::{Metrics, Wake};
use crate::model::RunEvent;
use crate::runner::{Recorded, RunSink, SinkError};
use crate::store::Writer;

/// The store is required; everything else is best effort and sees each event all the same.
pub(super) struct StoreSink {
    pub(super) writer: Writer,
    pub(super) tally: Arc<Tally>,
    pub(super) metrics: Option<Arc<Metrics>>,
    /// Tells the exporters that there is something new.
    pub(super) wake: Wake,
}

#[async_trait]
impl RunSink for StoreSink {
    async fn submit(&self, event: RunEvent) -> Result<Recorded, SinkError> {
        self.tally.observe(&event);
        if let (Some(metrics), RunEvent::TrialFinished { spans, .. }) = (&self.metrics, &event) {
            spans.iter().for_each(|span| metrics.observe(span));
        }
        let recorded = self.writer.submit(event).await.map_err(|e| SinkError(Box::new(e)))?;
        let wake = self.wake.clone();
        Ok(Box::pin(async move {
            recorded.await.map_err(|e| SinkError(Box::new(e)))?;
            wake.now();
            Ok(())
        }))
    }
}
