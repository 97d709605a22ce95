//! An OpenAI-compatible endpoint of our own, with a model that needs no language model.
//!
//! The server reads the messages that it is sent and nothing else: a run talks to it as to any other endpoint, and a
//! spoiled prompt spoils its answers.

mod lexical;
mod prompt;
mod server;
mod text;
mod words;

pub use server::{BuiltinServer, MODEL};
