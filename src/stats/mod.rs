//! Statistics as pure functions: counts and numbers in, estimates out; no I/O, no clock, no chance that is not seeded.
//!
//! Reading order: [`estimate`] (what comes out), [`cluster`] (which observations belong together), [`proportion`] and
//! [`mean`] (closed-form intervals), [`confusion`] (the 3 × 5 matrix and its streaming accumulator), [`agreement`]
//! (what is computed from such a matrix), [`bootstrap`] (intervals for those), [`quantile`]; [`random`] and [`special`]
//! are their tools. What labels mean, and which trials count, is decided by the caller.

pub mod agreement;
pub mod bootstrap;
pub mod cluster;
pub mod confusion;
pub mod estimate;
pub mod mean;
pub mod paired;
pub mod proportion;
pub mod quantile;
pub mod random;
pub mod special;

pub use cluster::Cluster;
pub use confusion::{Analysis, Confusion, ConfusionAccumulator};
pub use estimate::Estimate;
pub use mean::MeanAccumulator;
