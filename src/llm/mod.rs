//! The model call: one request in, one reply or failure out, with every attempt on record.
//!
//! [`chat`] says what is asked and answered. [`HttpModel`] asks over HTTP through async-openai, [`ReplayModel`] gives
//! recorded answers, [`CachedModel`] keeps the answers of another model on disk, and [`BuiltinServer`] is an endpoint
//! of our own. [`Limits`] and [`Concurrency`] say when the next call may start; who holds a permit, and for how long,
//! is the runner's business, and so are spans.
//!
//! async-openai logs answers that it cannot decode under the tracing target `async_openai`, prompts and all. The
//! layers here let no such answer through, and the program's subscriber should filter `async_openai=off` besides.

pub mod chat;
pub mod settings;
pub mod error;
pub mod client;
pub mod limits;
pub mod concurrency;
pub mod builtin;
pub mod replay;
pub mod cache;
pub mod price;
pub mod post;

mod attempt;
mod call;
mod failure;
pub(crate) mod redact;
mod retry;
mod wire;

#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod testserver;

/// The class of a call that was given up before anything was sent: no failure, for nothing was tried.
pub const NOT_STARTED: &str = "not_started";

pub use crate::model::Secret;
pub use builtin::BuiltinServer;
pub use cache::CachedModel;
pub use chat::{
    ChatCall, ChatError, ChatModel, ChatReply, ChatRequest, Endpoint, FailedAttempt, Message, Parameters, Role,
};
pub use client::HttpModel;
pub use concurrency::{Concurrency, Permit, overloaded};
pub use error::LlmError;
pub use limits::Limits;
pub use post::{JsonEndpoint, PostError, PostSettings, Posted};
pub use price::{Price, cost};
pub use replay::{RecordedAnswer, ReplayModel};
pub use settings::{ApiKind, Entra, HttpSettings, MaxTokensField};
