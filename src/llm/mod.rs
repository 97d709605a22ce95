//! The model call: one request in, one reply or failure out, with every attempt on record.

pub mod chat;
