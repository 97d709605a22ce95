//! What can go wrong with the store, in words for the person who has to act on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::model::{CaseId, EvaluatorId, RunId, SpanId, TraceId};

/// Why the store could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The directory or a file in it cannot be made or opened.
    #[error("{doing} `{}`: {reason}; check its permissions, or name another directory with --store", path.display())]
    Directory {
        /// What was attempted: `creating the store directory`, `opening the lock`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// There is no store.
    #[error(
        "there is no store in `{}`: `spanscore run` makes one, --store DIR or SPANSCORE_STORE names another directory",
        dir.display()
    )]
    Missing {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The file is something else.
    #[error(
        "opening the store `{}`: {reason}; move that file away, or name another directory with --store",
        path.display()
    )]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// The store was written by a newer version of this program.
    #[error(
        "opening the store `{}`: it has format {found}, and this spanscore knows formats up to {known}; \
         use the newer spanscore that wrote it, or name another directory with --store",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// Another process records or changes this run.
    #[error("run {run_id} is in use by another process ({holder}); wait until it ends, or stop it")]
    RunInUse {
        /// The run.
        run_id: RunId,
        /// Who holds it, as far as is known.
        holder: String,
    },
    /// The disk is full, or the file cannot grow for another reason.
    #[error(
        "{doing} the store `{}`: {reason}; nothing of this step was written and everything before it is safe: \
         free some space, then continue with `spanscore run --resume`, or start again a run that had recorded nothing",
        path.display()
    )]
    DiskFull {
        /// What was attempted.
        doing: &'static str,
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// Another process kept the store locked for too long.
    #[error("{doing} the store `{}`: another process kept it locked for {seconds} s; try again when it is done", path.display())]
    Busy {
        /// What was attempted.
        doing: &'static str,
        /// The database file.
        path: PathBuf,
        /// How long we waited.
        seconds: u64,
    },
    /// SQLite refused for another reason.
    #[error("{doing} the store `{}`: {source}", path.display())]
    Sqlite {
        /// What was attempted.
        doing: &'static str,
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: Arc<rusqlite::Error>,
    },
    /// Something in the store does not read back.
    #[error("reading {what} from the store: {reason}; the file may be damaged")]
    Damaged {
        /// What was read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No run goes by that name.
    #[error("no run `{wanted}` in the store{}", known_runs(known))]
    UnknownRun {
        /// What was asked for.
        wanted: String,
        /// The newest runs, as `id (name)`.
        known: Vec<String>,
    },
    /// Several runs have ids that begin so.
    #[error("`{wanted}` begins the ids of several runs: {}; give more of the id", candidates.join(", "))]
    AmbiguousRun {
        /// What was asked for.
        wanted: String,
        /// The runs, as `id (name)`.
        candidates: Vec<String>,
    },
    /// No trace has that id.
    #[error("no trace `{wanted}` in the store; `spanscore traces` lists them")]
    UnknownTrace {
        /// What was asked for.
        wanted: String,
    },
    /// Several traces have ids that begin so.
    #[error("`{wanted}` begins the ids of several traces: {}; give more of the id", candidates.join(", "))]
    AmbiguousTrace {
        /// What was asked for.
        wanted: String,
        /// Some of the traces.
        candidates: Vec<String>,
    },
    /// The trace was there and retention removed it.
    #[error(
        "the spans of trace {trace_id} were removed by retention at {}; what was measured of its run is kept",
        instant(*at_unix_nano)
    )]
    PrunedTrace {
        /// The trace.
        trace_id: TraceId,
        /// When it was removed, in nanoseconds since the Unix epoch.
        at_unix_nano: u64,
    },
    /// The trace has no such span.
    #[error("trace {trace_id} has no span {span_id}; `spanscore trace {trace_id}` shows those it has")]
    UnknownSpan {
        /// The trace.
        trace_id: TraceId,
        /// What was asked for.
        span_id: SpanId,
    },
    /// The cursor of a page is no cursor.
    #[error("`{found}` is no place in a list of traces; go back to its first page")]
    BadCursor {
        /// What was given.
        found: String,
    },
    /// The trial is recorded as completed already.
    #[error(
        "recording case {case_id:?}, repeat {repeat}: it is completed already; a completed trial is never replaced"
    )]
    AlreadyCompleted {
        /// The case.
        case_id: CaseId,
        /// The repeat.
        repeat: u32,
    },
    /// The event does not fit what is recorded of the run.
    #[error("recording {what}: {reason}")]
    OutOfOrder {
        /// What was to be recorded.
        what: String,
        /// Why it does not fit.
        reason: String,
    },
    /// A score of an evaluator that the run does not have.
    #[error("recording case {case_id:?}: the run has no evaluator `{evaluator}`")]
    UnknownEvaluator {
        /// The case.
        case_id: CaseId,
        /// The evaluator.
        evaluator: EvaluatorId,
    },
    /// A span of a trial whose trace has no recorded root.
    #[error("recording span {span_id} of trace {trace_id}: the root of that trace is not recorded")]
    Rootless {
        /// The trace.
        trace_id: TraceId,
        /// The span.
        span_id: SpanId,
    },
    /// More cases, repeats or runs than the store's keys hold.
    #[error("the store holds at most {limit} {what}, found {found}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many.
        found: u64,
        /// How many there may be.
        limit: u64,
    },
    /// The writer is gone.
    #[error("the store's writer has ended; open the store again")]
    Closed,
}

/// A time to the second, as RFC 3339.
fn instant(unix_nano: u64) -> String {
    jiff::Timestamp::from_second((unix_nano / 1_000_000_000) as i64)
        .map_or_else(|_| unix_nano.to_string(), |t| t.to_string())
}

fn known_runs(known: &[String]) -> String {
    if known.is_empty() {
        ": it holds no runs; `spanscore run` records one".to_owned()
    } else {
        format!(
            "; the newest are {}. Give an id, the beginning of one, a name, `latest` or `latest~N`",
            known.join(", ")
        )
    }
}

impl StoreError {
    /// Whether no later write can succeed either, so that the writer stops.
    pub(super) fn is_fatal(&self) -> bool {
        match self {
            Self::DiskFull { .. } => true,
            Self::Sqlite { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(
                    ErrorCode::SystemIoFailure
                        | ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::ReadOnly
                        | ErrorCode::CannotOpen
                        | ErrorCode::OutOfMemory
                )
            ),
            _ => false,
        }
    }

    pub(super) fn damaged(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Damaged { what: what.into(), reason: reason.to_string() }
    }
}

/// Says what was attempted when SQLite refused.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) doing: &'static str,
    pub(super) path: PathBuf,
}

/// How long a write waits for another process.
pub(super) const BUSY_SECONDS: u64 = 60;

impl Attempt {
    pub(super) fn new(doing: &'static str, path: &Path) -> Self {
        Self { doing, path: path.to_owned() }
    }

    /// The error in words; classes that the user can do something about get words of their own.
    pub(super) fn failed(&self, error: rusqlite::Error) -> StoreError {
        let Self { doing, path } = self.clone();
        match error.sqlite_error_code() {
            // A short write or a failed fsync is how a full disk or quota shows itself to SQLite at times.
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => {
                StoreError::DiskFull { doing, path, reason: error.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StoreError::Busy { doing, path, seconds: BUSY_SECONDS }
            }
            Some(ErrorCode::NotADatabase) => {
                StoreError::NotAStore { path, reason: "the file is no SQLite database".to_owned() }
            }
            _ => StoreError::Sqlite { doing, path, source: Arc::new(error) },
        }
    }
}
