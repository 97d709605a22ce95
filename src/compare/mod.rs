//! Two runs beside each other, a run against its baseline, a score over many nights.
//!
//! Reading order: [`operand`], [`comparison`], [`gate`], [`trend`], [`baseline`] (what comes out, as values that documents, pages and
//! reports show); [`side`] (what goes in: cases, trials and scores as columns), [`load`] (a side from the store), [`mod@file`] and
//! [`pin`] (a side from a baseline file); then what is decided, pure: [`pair`], [`differences`], [`metric`], [`cases`],
//! [`build`] (the comparison), [`judge`] (the gate).

pub mod baseline;
pub mod build;
pub mod cases;
pub mod comparison;
pub mod differences;
pub mod extend;
pub mod file;
pub mod gate;
pub mod judge;
pub mod load;
pub mod metric;
pub mod open;
pub mod nights;
pub mod operand;
pub mod pair;
pub mod pin;
pub mod side;
pub mod simulate;
#[cfg(test)]
pub(crate) mod testing;
pub mod trend;

pub use baseline::Baseline;
pub use build::{CompareOptions, compare};
pub use comparison::Comparison;
pub use gate::{GateReport, Policy, Verdict};
pub use operand::Operand;
pub use side::Side;
pub use trend::Trend;
