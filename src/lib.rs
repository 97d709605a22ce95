//! spanscore runs evaluation batches over claim/context datasets and ties every score to the trace that explains it.
//!
//! The modules in reading order: values first, then what computes, then what touches the world, then the commands.

pub mod model;
pub mod net;
pub mod whole;
pub mod stats;
pub mod query;
pub mod config;
pub mod dataset;
pub mod trace;
pub mod identity;
pub mod llm;
pub mod workflow;
pub mod evaluator;
pub mod runner;
pub mod store;
pub mod export;
pub mod compare;
pub mod report;
pub mod serve;
pub mod evaluation;
pub mod cli;
