//! What the user asked for: environment, suite file and flags, resolved once into a [`RunPlan`].
//!
//! Precedence: flag, then environment, then suite file, then built-in default. What the plan names is opened elsewhere.

pub mod env;
pub mod flags;
pub mod suite;
pub mod gate;
pub mod azure;
pub mod plan;
pub mod trace_url;
pub mod workflow;
pub mod backends;

pub use azure::{AzurePlan, CredentialKind, IngestionAuth};
pub use env::Environment;
pub use flags::RunFlags;
pub use gate::GatePlan;
pub use plan::{ConcurrencySetting, ModelPlan, PlanError, Provider, RunPlan};
pub use suite::{Suite, SuiteError};
pub use trace_url::TraceUrl;
pub use workflow::{ApplicationPlan, CommandPlan, HttpPlan, WorkflowPlan};

/// Every configuration key once, with its meaning and default; what `spanscore init` writes.
pub const REFERENCE: &str = include_str!("reference.toml");
