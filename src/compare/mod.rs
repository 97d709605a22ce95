//! Two runs beside each other, a run against its baseline, a score over many nights.
//!
//! Reading order: [`operand`] (what is compared), [`comparison`], [`baseline`], [`gate`], [`trend`] (what comes out, as values that documents,
//! pages and reports show). What is decided here is pure: the same operands give the same answer.

pub mod baseline;
pub mod comparison;
pub mod gate;
pub mod operand;
pub mod trend;

pub use baseline::Baseline;
pub use comparison::Comparison;
pub use gate::{GateReport, Policy, Verdict};
pub use operand::Operand;
pub use trend::Trend;
