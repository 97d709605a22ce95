//! The tables, and how a database file comes to have them.
//!
//! `PRAGMA user_version` holds the format; [`super::format`] has its history. An older one is brought up to date in one
//! transaction when the store is opened, a newer one is refused.
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

use std::cmp::Ordering;

use rusqlite::{Connection, OptionalExtension};

use super::codec::DICTIONARY;
use super::error::StoreError;
use super::format;
use crate::model::TrialKey;

/// The format that this program writes.
pub(super) const FORMAT: i64 = format::STEPS.len() as i64;

/// Marks the file as ours (`SPSC`).
pub(super) const APPLICATION_ID: i64 = 0x5350_5343;

const REPEAT_BITS: u32 = 12;
const CASE_BITS: u32 = 28;
/// The largest number of a repeat.
pub(super) const REPEATS: i64 = (1 << REPEAT_BITS) - 1;
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
    /// A store of an older format.
    Older(i64),
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
        return Ok(match format.cmp(&FORMAT) {
            Ordering::Greater => Found::Newer(format),
            Ordering::Equal => Found::Current,
            Ordering::Less => Found::Older(format),
        });
    }
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(if tables == 0 && application == 0 { Found::Empty } else { Found::Foreign })
}

/// Sets what can be set only before the first table, then makes the tables.
pub(super) fn create(conn: &Connection) -> rusqlite::Result<()> {
    // Without it, removing runs could never give space back to the file system.
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    upgrade(conn)
}

/// Takes the file from the format that it has to ours: all steps in one transaction, or none.
pub(super) fn upgrade(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    // Another process may have been faster.
    let done = inspect(conn).and_then(|found| match found {
        Found::Empty => steps(conn, 0),
        Found::Older(format) => steps(conn, format),
        Found::Current | Found::Newer(_) | Found::Foreign => Ok(()),
    });
    conn.execute_batch(if done.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    done
}

fn steps(conn: &Connection, from: i64) -> rusqlite::Result<()> {
    for step in format::STEPS.iter().skip(from as usize) {
        conn.execute_batch(step)?;
    }
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
