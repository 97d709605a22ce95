//! Exit codes: documented constants, and which error means which.

use std::process::ExitCode;

use crate::runner::RunError;
use crate::store::StoreError;

/// How a command ended. When several apply: signal, then usage, then incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Success,
    /// Usage, configuration or input error.
    Usage,
    /// A run is incomplete, `verify` found a mismatch, or infrastructure failed.
    Incomplete,
    /// Ended by this signal.
    Signal(u8),
}

impl Exit {
    /// The code of a process that ends so.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Usage => 2,
            Self::Incomplete => 4,
            Self::Signal(number) => 128 + number,
        }
    }

    /// What an error that ended a command means: the user's to mend, unless it is the machine's.
    pub(super) fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if let Some(store) = cause.downcast_ref::<StoreError>() {
                return of_store(store);
            }
            if matches!(cause.downcast_ref::<RunError>(), Some(RunError::Sink(_) | RunError::Task(_))) {
                return Self::Incomplete;
            }
            if cause.downcast_ref::<Infrastructure>().is_some() {
                return Self::Incomplete;
            }
        }
        Self::Usage
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The machine's errors apart from what the user can name otherwise.
const fn of_store(error: &StoreError) -> Exit {
    match error {
        StoreError::Directory { .. }
        | StoreError::DiskFull { .. }
        | StoreError::Busy { .. }
        | StoreError::Sqlite { .. }
        | StoreError::Damaged { .. }
        | StoreError::Closed => Exit::Incomplete,
        _ => Exit::Usage,
    }
}

/// Marks an error as the machine's, not the user's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Infrastructure(pub(super) String);
