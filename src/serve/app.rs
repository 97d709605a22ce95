//! What all requests share: the store with a few readers, the counts of what came in, and where the ports are.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::store::{Reader, Store, StoreError, Writer};
use crate::trace::metrics::Metrics;

/// How many requests read the store at once; the others wait.
const READERS: usize = 4;

/// Where the server listens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The pages.
    pub ui: Option<SocketAddr>,
    /// OTLP over HTTP.
    pub otlp_http: Option<SocketAddr>,
    /// OTLP over gRPC.
    pub otlp_grpc: Option<SocketAddr>,
}

/// What came in since the start, by signal, and what became of it. Counts only grow.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Spans and log records that are on disk.
    pub spans: AtomicU64,
    /// Log records that are on disk.
    pub logs: AtomicU64,
    /// Evaluation results among them that became scores.
    pub scores: AtomicU64,
    /// Metric data points that feed the pages.
    pub metric_points: AtomicU64,
    /// Metric data points that were counted and dropped.
    pub dropped_metric_points: AtomicU64,
    /// Spans that were there already.
    pub duplicates: AtomicU64,
    /// Items that cannot be taken, such as spans without ids.
    pub rejected: AtomicU64,
    /// Requests that were refused for their form, size, or origin.
    pub refused_requests: AtomicU64,
    /// Requests that were told to come back later.
    pub overloads: AtomicU64,
    /// Bytes that wait for the store at this moment.
    pub queued_bytes: AtomicU64,
    metrics: Mutex<Metrics>,
    store_error: Mutex<Option<String>>,
}

impl Traffic {
    /// Adds to a count.
    pub fn add(count: &AtomicU64, n: u64) {
        count.fetch_add(n, Ordering::Relaxed);
    }

    /// The metrics that came in; to be held for a moment only.
    pub fn metrics(&self) -> MutexGuard<'_, Metrics> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the store takes nothing, if that was so the last time.
    pub fn store_error(&self) -> Option<String> {
        self.store_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what the store said to the last step: an error, or nothing.
    pub fn store_said(&self, error: Option<&StoreError>) {
        let mut noted = self.store_error.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.is_some() || error.is_some() {
            *noted = error.map(ToString::to_string);
        }
    }
}

/// What all requests share.
pub struct App {
    /// The store.
    pub store: Store,
    /// Counts of what came in.
    pub traffic: Arc<Traffic>,
    /// Where the ports are.
    pub addresses: Addresses,
    /// What records telemetry that a page makes, such as a test span.
    pub writer: Option<Writer>,
    idle: Mutex<Vec<Reader>>,
    permits: Arc<Semaphore>,
}

impl App {
    /// Over this store.
    pub fn new(store: Store, traffic: Arc<Traffic>, addresses: Addresses) -> Self {
        let (idle, permits) = (Mutex::new(Vec::new()), Arc::new(Semaphore::new(READERS)));
        Self { store, traffic, addresses, writer: None, idle, permits }
    }

    /// With a writer for what pages record.
    #[must_use]
    pub fn with_writer(mut self, writer: Writer) -> Self {
        self.writer = Some(writer);
        self
    }

    /// Reads the store on a thread that may block.
    pub async fn read<T, E>(
        self: &Arc<Self>,
        read: impl FnOnce(&Reader) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        let app = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = app.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let reader = match idle {
                Some(reader) => reader,
                None => app.store.reader()?,
            };
            let result = read(&reader);
            app.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            result
        });
        match task.await {
            Ok(result) => result,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
}
