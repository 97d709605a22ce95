//! Delivery of what the store recorded to where the user wants it: OTLP endpoints, Application Insights, the console.
//!
//! [`settings`] says where to, [`delivery`] moves the outbox, a [`destination`] takes batches: [`otlp`],
//! [`appinsights`], [`console`] or, of scores alone, [`sinks`].
//! [`exporters`] puts these together for a run and for what earlier runs left. [`metrics`] are best effort and go their
//! own way. What was recorded stays in the store whatever happens here.
//!
//! Traces in and out by file: [`otlp_file`] and [`jaeger`] read ([`evaluation`] reads scores), [`otlp_file`] and [`parquet`] write, [`files`] is what they share.

pub mod settings;
mod aside;
pub mod auth;
mod otel_env;
pub mod endpoint;
pub mod sampler;
pub mod snapshot;
pub mod destination;
mod python_json;
pub mod console;
pub mod appinsights;
pub mod sinks;
pub mod otlp;
mod http;
mod otlp_http;
mod otlp_grpc;
pub mod connect;
pub mod outbox;
mod ledger;
mod courier;
pub mod delivery;
pub mod exporters;
pub mod metrics;
pub mod files;
pub mod otlp_file;
#[cfg(test)]
mod otlp_file_tests;
pub mod parquet;
pub mod jaeger;
pub mod evaluation;

pub use delivery::Counts;
pub use delivery::Wake;
pub use exporters::{Exporters, PendingOutcome, Wanted, add_destinations, deliver_pending};
pub use metrics::Metrics;
pub use settings::{ExportPlan, SuiteOtlp};
