//! What the layers note about the call under way.
//!
//! async-openai has no place to carry our notes from the call to the layers and back, but it runs the layers within
//! the caller's task: so the notes are local to the task.

use std::cell::RefCell;

use super::chat::FailedAttempt;
use super::failure::AttemptFailure;

/// The field that carries the limit of output tokens in the request under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenField {
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

impl TokenField {
    /// Its name in the request.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }

    /// The other one.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::MaxTokens => Self::MaxCompletionTokens,
            Self::MaxCompletionTokens => Self::MaxTokens,
        }
    }
}

/// Notes about one call.
#[derive(Debug, Default)]
pub(super) struct CallNotes {
    /// Tries begun.
    pub(super) attempts: u32,
    /// Those that failed.
    pub(super) failed: Vec<FailedAttempt>,
    /// The failure that ended the call.
    pub(super) last: Option<AttemptFailure>,
    /// Tokens that the request will probably use, for the limits.
    pub(super) estimated_tokens: u64,
    /// The field in use, as long as the endpoint may still ask for the other one.
    pub(super) switchable: Option<TokenField>,
}

tokio::task_local! {
    /// The notes of the call that this task makes.
    pub(super) static CALL: RefCell<CallNotes>;
}

/// Reads or writes the notes of the call under way.
pub(super) fn notes<T>(with: impl FnOnce(&mut CallNotes) -> T) -> T {
    CALL.with(|notes| with(&mut notes.borrow_mut()))
}
