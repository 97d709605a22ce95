//! The only memory: one SQLite file that runs write and everything else reads.
//!
//! [`Store`] is a place; [`Writer`] is the one thread of this process that writes there, [`Reader`]s read at any time,
//! from this process or another. What a trial gives (outcome, scores, spans, log records) is one transaction, and what
//! is acknowledged is on disk. Delivery to other systems is `export`'s, from the outbox that is kept here.

pub mod rows;

mod answers;
mod apply;
mod apply_run;
mod bundle;
mod case_page;
mod cases;
mod codec;
mod error;
mod failures;
mod fields;
mod format;
mod gather;
#[cfg(test)]
mod gather_tests;
mod health;
mod ingest;
mod interrupted;
mod judged;
mod lock;
mod low_score;
mod marks;
mod means;
mod merge;
mod merge_traces;
mod open;
mod opened;
mod outbox;
mod pairs;
mod parts;
mod place;
mod plan;
mod prune;
#[cfg(test)]
mod prune_tests;
mod reader;
mod remove;
mod schema;
mod search;
mod sides;
mod statements;
mod sums;
#[cfg(test)]
pub(crate) mod testing;
mod trace_page;
mod trace_sql;
mod traces;
mod verify;
mod worst;
mod writer;

pub use answers::{RecordedAnswer, RecordedAnswers};
pub use case_page::{CasePage, CaseQuery, Place};
pub use error::StoreError;
pub use ingest::Ingested;
pub use judged::JudgedRun;
pub use lock::RunLock;
pub use marks::Marks;
pub use merge::{MergedRun, is_same};
pub use open::Store;
pub use outbox::{Ack, OutboxBatch, OutboxCounts, Outgoing, Pending, Signal};
pub use pairs::{CasePair, Unpaired};
pub use parts::{TracePart, TraceParts};
pub use place::SpanPlace;
pub use plan::Planner;
pub use prune::{Pruned, Retention};
pub use reader::{DoneTrials, Reader};
pub use sides::{SideCase, SideNames, SideTrial};
pub use trace_page::{TraceCursor, TracePage, TraceQuery};
pub use verify::{Mismatch, MissingSpan, Verification};
pub use writer::Writer;
