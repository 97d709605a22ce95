//! What the user asked for: suite file, environment and flags, resolved once.

pub mod env;
