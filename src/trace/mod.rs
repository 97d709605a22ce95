//! How spans are made, named, encoded and put back into a tree.
//!
//! Names of attributes stand in [`semconv`] and nowhere else; times and ids come from [`provider`].

pub mod semconv;
pub mod provider;
pub mod otlp;
pub mod otlp_json;
mod error;
mod wire;
pub mod incoming;
pub mod metrics;
pub mod requests;
pub mod origin;
pub mod results;
pub mod traceparent;
pub mod tree;
pub mod value_json;
pub mod critical_path;
pub mod conversation;
