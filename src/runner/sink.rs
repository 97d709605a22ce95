//! Where the runner's events go.

use async_trait::async_trait;
use futures::future::BoxFuture;

use crate::model::RunEvent;

/// Why an event could not be recorded; ends the run, for the record of paid work must not be lost.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SinkError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// Resolves once an event is durable.
pub type Recorded = BoxFuture<'static, Result<(), SinkError>>;

/// Takes events in order.
#[async_trait]
pub trait RunSink: Send + Sync {
    /// Hands an event over. When this returns, events submitted later are recorded after it; the returned future resolves
    /// when it is durable.
    async fn submit(&self, event: RunEvent) -> Result<Recorded, SinkError>;
}
