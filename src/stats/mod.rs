//! Statistics as pure functions: counts and numbers in, estimates out; no I/O, no clock, no chance that is not seeded.
//!
//! Reading order: [`estimate`] (what comes out), [`cluster`] (which observations belong together), [`proportion`] and
//! [`mean`] (closed-form intervals), [`confusion`] (the 3 × 5 matrix and its streaming accumulator), [`agreement`]
//! (what is computed from such a matrix), [`bootstrap`] (intervals for those), [`quantile`]; [`random`] and [`special`]
//! are their tools.
//!
//! Two runs over the same cases: [`paired`], with [`multiple`] (several tests), [`power`], [`evalue`] (looking again and
//! again) and [`symmetry`] (labels that moved). A series of runs: [`change`]. Slices and raters: [`difference`],
//! [`hypergeometric`], [`raters`]. What labels mean, and which trials count, is decided by the caller.

pub mod agreement;
pub mod bootstrap;
pub mod change;
pub mod cluster;
pub mod confusion;
pub mod difference;
pub mod estimate;
pub mod evalue;
pub mod hypergeometric;
pub mod mean;
pub mod multiple;
pub mod paired;
pub mod power;
pub mod proportion;
pub mod quantile;
pub mod random;
pub mod raters;
pub mod special;
pub mod symmetry;

pub use cluster::Cluster;
pub use confusion::{Analysis, Confusion, ConfusionAccumulator};
pub use estimate::Estimate;
pub use mean::MeanAccumulator;
