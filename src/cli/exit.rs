//! Exit codes: documented constants, and which error means which.

use std::io;
use std::process::ExitCode;

use crate::compare::Verdict;
use crate::runner::RunError;
use crate::store::StoreError;

/// How a command ended. When several apply: signal, then usage, then incomplete, then a gate's FAIL, then undecided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Success, or a gate's PASS.
    Success,
    /// A gate's FAIL.
    Failed,
    /// Usage, configuration or input error.
    Usage,
    /// A gate's INCONCLUSIVE or INVALID.
    Undecided,
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
            Self::Failed => 1,
            Self::Undecided => 3,
            Self::Usage => 2,
            Self::Incomplete => 4,
            Self::Signal(number) => 128 + number,
        }
    }

    /// Of two ends the one that counts.
    pub(super) const fn or(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }

    const fn weight(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Undecided => 1,
            Self::Failed => 2,
            Self::Incomplete => 3,
            Self::Usage => 4,
            Self::Signal(_) => 5,
        }
    }

    /// What a gate's verdict means.
    pub(super) const fn of_verdict(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Success,
            Verdict::Fail => Self::Failed,
            Verdict::Inconclusive | Verdict::Invalid => Self::Undecided,
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
            if cause.downcast_ref::<io::Error>().is_some_and(is_the_disk) {
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

/// A disk that is full or broken: no other name on the command line helps.
fn is_the_disk(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
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
