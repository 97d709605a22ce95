//! The tables, and how a database file comes to have them.
//!
//! # Format history
//!
//! `PRAGMA user_version` holds the format. An older one is brought up to date when the store is opened for writing, a
//! newer one is refused.
//!
//! 1. The first.
//!
//! # Keys
//!
//! A trial's key packs run (22 bits), case (28) and repeat (12) into one integer, a planned case's key is that of its
//! first repeat. So the trials of a run lie together in the order of its cases, whatever the order they ended in, and
//! neither table needs a second index for it. Spans and payloads are numbered in commit order, from counters that never
//! go back: that is the order of the outbox, in which a cursor is one number.
//!
//! # Cost
//!
//! A trial is one row of `trial`, one per score, one per span (with one index), one of `payload` and one of `log`. What
//! lists and statistics read stands in narrow rows; text and attributes stand in compressed blobs beside them.

use rusqlite::{Connection, OptionalExtension};

use super::codec::DICTIONARY;
use super::error::StoreError;
use crate::model::TrialKey;

/// The format that this program writes.
pub(super) const FORMAT: i64 = 1;

/// Marks the file as ours (`SPSC`).
pub(super) const APPLICATION_ID: i64 = 0x5350_5343;

const TABLES: &str = "
-- Dictionaries of compressed blobs. Content is never changed: a newer program adds a newer dictionary.
CREATE TABLE dictionary (id INTEGER PRIMARY KEY, content BLOB NOT NULL);

-- The last span and payload number given out.
CREATE TABLE counter (span INTEGER NOT NULL, payload INTEGER NOT NULL);
INSERT INTO counter VALUES (0, 0);

-- A run without a spec is being planned or removed; nobody sees it.
CREATE TABLE run (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL UNIQUE,
    spec TEXT,
    resource INTEGER,
    status TEXT NOT NULL,
    started INTEGER NOT NULL DEFAULT 0,
    session_started INTEGER,
    ended INTEGER,
    active_ns INTEGER NOT NULL DEFAULT 0,
    created_spans INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    first_span INTEGER, last_span INTEGER,
    first_payload INTEGER, last_payload INTEGER
);

-- Claim and context, shared by all runs over the same case. hash is the digest's first eight bytes.
CREATE TABLE content (id INTEGER PRIMARY KEY, hash INTEGER NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL);
CREATE INDEX content_by_hash ON content (hash);

CREATE TABLE case_group (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- The cases of a run, recorded before its first trial.
CREATE TABLE planned (
    id INTEGER PRIMARY KEY,
    content INTEGER NOT NULL,
    case_id TEXT NOT NULL,
    expected INTEGER,
    case_group INTEGER,
    columns BLOB
);
CREATE INDEX planned_by_case ON planned (case_id);
CREATE INDEX planned_by_content ON planned (content);

CREATE TABLE resource (id INTEGER PRIMARY KEY, body BLOB NOT NULL UNIQUE);

-- Summary of a trace, kept in the transactions that add its spans.
CREATE TABLE trace (
    number INTEGER PRIMARY KEY,
    trace_id BLOB NOT NULL UNIQUE,
    run INTEGER,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    operations INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    root TEXT NOT NULL,
    service TEXT
);

-- Skeleton of a span; its payload's slot holds the whole. end is null while it is open.
CREATE TABLE span (
    id INTEGER PRIMARY KEY,
    run INTEGER,
    trace INTEGER NOT NULL,
    span_id INTEGER NOT NULL,
    parent INTEGER,
    kind INTEGER NOT NULL,
    status INTEGER NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER,
    trial INTEGER,
    payload INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    name TEXT NOT NULL
);
CREATE UNIQUE INDEX span_by_trace ON span (trace, span_id);
CREATE INDEX span_open ON span (run) WHERE end IS NULL;

-- Spans and log records of one event as OTLP protobuf, compressed together because they repeat each other.
CREATE TABLE payload (id INTEGER PRIMARY KEY, run INTEGER, resource INTEGER, body BLOB NOT NULL);

-- Payloads that hold log records, and how many.
CREATE TABLE log (payload INTEGER PRIMARY KEY, run INTEGER, records INTEGER NOT NULL);

-- outcome: 0 True, 1 False, 2 NEE, 3 unparseable, 4 failed, 5 skipped.
CREATE TABLE trial (
    id INTEGER PRIMARY KEY,
    outcome INTEGER NOT NULL,
    latency_ns INTEGER NOT NULL,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cached_tokens INTEGER,
    reasoning_tokens INTEGER,
    cost_usd REAL,
    attempts INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    started INTEGER NOT NULL,
    trace INTEGER NOT NULL,
    span INTEGER NOT NULL,
    chat INTEGER,
    texts BLOB NOT NULL
);

-- evaluator counts from 0 in the run's order. state: 0 scored, 1 failed, 2 skipped.
CREATE TABLE score (
    trial INTEGER NOT NULL,
    evaluator INTEGER NOT NULL,
    state INTEGER NOT NULL,
    value REAL,
    label TEXT,
    PRIMARY KEY (trial, evaluator)
) WITHOUT ROWID;

-- How far each destination is. signal: 0 traces (cursor over span), 1 logs (cursor over payload).
CREATE TABLE outbox (
    run INTEGER NOT NULL,
    destination TEXT NOT NULL,
    signal INTEGER NOT NULL,
    config TEXT NOT NULL,
    cursor INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    not_sampled INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run, destination, signal)
) WITHOUT ROWID;
";

const REPEAT_BITS: u32 = 12;
const CASE_BITS: u32 = 28;
const RUN_BITS: u32 = 22;

/// The smallest key of a run.
pub(super) const fn first_key(run: i64) -> i64 {
    run << (CASE_BITS + REPEAT_BITS)
}

/// The largest key of a run.
pub(super) const fn last_key(run: i64) -> i64 {
    first_key(run + 1) - 1
}

/// The key of a trial; of a planned case with repeat 0.
pub(super) fn pack(run: i64, key: TrialKey) -> Result<i64, StoreError> {
    let check = |what, found: u64, bits: u32| {
        let limit = 1 << bits;
        if found < limit { Ok(()) } else { Err(StoreError::TooMany { what, found: found + 1, limit }) }
    };
    check("cases in a run", key.seq, CASE_BITS)?;
    check("repeats of a case", u64::from(key.repeat), REPEAT_BITS)?;
    check("runs", run as u64, RUN_BITS)?;
    Ok(first_key(run) | (key.seq as i64) << REPEAT_BITS | i64::from(key.repeat))
}

/// Which case and repeat a key stands for.
pub(super) const fn unpack(id: i64) -> TrialKey {
    TrialKey {
        seq: (id >> REPEAT_BITS & ((1 << CASE_BITS) - 1)) as u64,
        repeat: (id & ((1 << REPEAT_BITS) - 1)) as u32,
    }
}

/// The run that a key belongs to.
pub(super) const fn run_of(id: i64) -> i64 {
    id >> (CASE_BITS + REPEAT_BITS)
}

/// The key of the planned case of a trial.
pub(super) const fn case_of(id: i64) -> i64 {
    id >> REPEAT_BITS << REPEAT_BITS
}

/// What a database file turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A file without tables.
    Empty,
    /// A store of the format that we write.
    Current,
    /// A store of a format that we do not know.
    Newer(i64),
    /// A database of another program.
    Foreign,
}

/// Looks what the file is.
pub(super) fn inspect(conn: &Connection) -> rusqlite::Result<Found> {
    let application: i64 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let format: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if application == APPLICATION_ID && format > 0 {
        return Ok(if format > FORMAT { Found::Newer(format) } else { Found::Current });
    }
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(if tables == 0 && application == 0 { Found::Empty } else { Found::Foreign })
}

/// Sets what can be set only before the first table, then makes the tables in one transaction.
pub(super) fn create(conn: &Connection) -> rusqlite::Result<()> {
    // Without it, removing runs could never give space back to the file system.
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let made = if inspect(conn)? == Found::Empty { make_tables(conn) } else { Ok(()) };
    conn.execute_batch(if made.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    made
}

fn make_tables(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(TABLES)?;
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    conn.pragma_update(None, "user_version", FORMAT)
}

/// The number under which the store keeps the dictionary that we compress with; adds it if it is new.
pub(super) fn dictionary_number(conn: &Connection) -> rusqlite::Result<u32> {
    let find = "SELECT id FROM dictionary WHERE content = ?1";
    let content: &[u8] = &DICTIONARY;
    if let Some(id) = conn.query_row(find, [content], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    // Two processes may find it missing at once; only one of them adds it.
    conn.execute(
        "INSERT INTO dictionary (content) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM dictionary WHERE content = ?1)",
        [content],
    )?;
    conn.query_row(find, [content], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_run_case_and_repeat_and_read_back() {
        let key = |seq, repeat| TrialKey { seq, repeat };
        let mut ids = Vec::new();
        for run in [1, 2, (1 << RUN_BITS) - 1] {
            for k in [key(0, 0), key(0, 1), key(0, 4095), key(1, 0), key((1 << CASE_BITS) - 1, 4095)] {
                let id = pack(run, k).expect("within the limits");
                assert_eq!((run_of(id), unpack(id)), (run, k));
                assert_eq!(unpack(case_of(id)), key(k.seq, 0));
                assert!((first_key(run)..=last_key(run)).contains(&id));
                ids.push(id);
            }
        }
        assert!(ids.is_sorted());
    }

    #[test]
    fn what_does_not_fit_a_key_is_refused() {
        let error = pack(1, TrialKey { seq: 0, repeat: 4096 }).expect_err("too many repeats");
        assert_eq!(error.to_string(), "the store holds at most 4096 repeats of a case, found 4097");
        assert!(pack(1, TrialKey { seq: 1 << CASE_BITS, repeat: 0 }).is_err());
    }
}
