//! The local OTLP collector and the web pages, over the store that runs write and while they write it.
//!
//! [`app`] is what all requests share, [`security`] refuses foreign ones, [`collector`] takes telemetry in, [`pages`] show
//! what the store holds; [`Service`] is all of it together. Loading a suite or asking a model is no business of this module.

pub mod app;
pub mod assets;
pub mod collector;
pub mod pages;
pub mod security;
mod server;
mod service;

pub use app::App;
pub use server::{ConnectionLimits, ServeError};
pub use service::{Service, ServiceOptions};
