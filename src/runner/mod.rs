//! The evaluation loop: cases in, [`RunEvent`]s out, in an order that can be recorded as it comes.
//!
//! [`executor`] is the loop, [`batch`] and [`trial`] are its two nested units, [`budget`] and [`stop`] end it early, [`sink`]
//! is where its events go. Invariant: the runner knows neither store nor report; what an earlier session recorded is
//! handed in as [`Job::done`] and [`Job::prior`].
//!
//! [`RunEvent`]: crate::model::RunEvent

pub mod sink;
pub mod stop;
pub mod budget;
pub mod batch;
pub mod trial;
pub mod executor;

pub use budget::{Budget, Limits};
pub use executor::{Cases, Job, PlanDigest, Prior, RunError, Summary, execute};
pub use sink::{Recorded, RunSink, SinkError};
pub use stop::Stop;
