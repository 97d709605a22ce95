//! Retention: the oldest traces go first, until the store is within its limits.
//!
//! Runs, trials and scores outlive their traces; of a trace that is gone its id is remembered, and when it went.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rusqlite::{OptionalExtension, params};

use super::apply::{Applier, Done, Work};
use super::bundle::Messages;
use super::error::StoreError;
use super::opened::time_of;
use super::outbox::Signal;
use super::writer::Writer;
use crate::model::RunId;
use crate::trace::otlp;

/// How many spans a step removes.
pub(super) const STEP: usize = 4096;

/// How many traces a step looks at.
const TRACES: usize = 1024;

/// How many payloads of log records without a trace a step looks into for their age.
const STRAY: usize = 64;

/// How many pruned traces of no run are remembered.
const REMEMBERED: i64 = 200_000;

/// How much is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of the database file.
    pub max_bytes: Option<u64>,
    /// Age of a trace since its start.
    pub max_age: Option<Duration>,
    /// Runs whose traces are never removed, beside those that a baseline holds.
    pub pinned_runs: BTreeSet<RunId>,
}

/// What retention removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Traces.
    pub traces: u64,
    /// Their spans.
    pub spans: u64,
    /// Bytes that the file shrank by.
    pub bytes: u64,
}

/// One step of it.
#[derive(Debug, Clone)]
pub(super) struct PruneStep {
    limits: Retention,
    now: i64,
    /// Start and number of the last trace that was looked at.
    after: (i64, i64),
    /// A trace that an earlier step removed a part of.
    unfinished: Option<i64>,
}

/// What came of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct PrunedStep {
    traces: u64,
    spans: u64,
    /// Where the next step begins; `None` when all is done.
    next: Option<(i64, i64)>,
    /// A trace that the next step has to finish, whatever the limits say by then.
    unfinished: Option<i64>,
}

/// A trace that may go.
struct Candidate {
    number: i64,
    start: i64,
    run: Option<i64>,
    /// It belongs to a run that is pinned, at work, or still being taken in from another store.
    kept: bool,
}

/// A span that goes.
struct Place {
    id: i64,
    payload: i64,
    run: Option<i64>,
    is_open: bool,
}

/// What of a run goes: numbers of spans, and payloads with their log records.
#[derive(Debug, Default)]
struct OfRun {
    spans: Vec<i64>,
    logs: Vec<(i64, i64)>,
}

impl Writer {
    /// Removes the oldest traces until the store is within the limits, in short steps between which others write.
    /// Runs, trials and scores stay, and so do traces of a run that is at work or in a baseline. A run that was killed is
    /// closed first.
    pub async fn prune(&self, limits: &Retention, now_unix_nano: u64) -> Result<Pruned, StoreError> {
        let reader = self.store().reader()?;
        for run_id in reader.sessions()? {
            match self.close_interrupted(&run_id).await {
                Ok(()) | Err(StoreError::RunInUse { .. } | StoreError::UnknownRun { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let before = reader.file_bytes()?;
        let mut pruned = Pruned::default();
        let mut step = PruneStep {
            limits: limits.clone(),
            now: now_unix_nano as i64,
            after: (i64::MIN, i64::MIN),
            unfinished: None,
        };
        loop {
            let Done::Pruned(done) = self.ask(Work::Prune(Box::new(step.clone()))).await? else {
                return Err(StoreError::Closed);
            };
            pruned.traces += done.traces;
            pruned.spans += done.spans;
            step.unfinished = done.unfinished;
            match done.next {
                Some(next) => step.after = next,
                None => break,
            }
        }
        self.vacuum().await?;
        pruned.bytes = before.saturating_sub(reader.file_bytes()?);
        Ok(pruned)
    }
}

impl Applier<'_> {
    pub(super) fn prune(&mut self, step: &PruneStep) -> Result<PrunedStep, StoreError> {
        self.flush()?;
        self.forget_removed();
        let mut done = PrunedStep { traces: 0, spans: 0, next: None, unfinished: None };
        let too_large = self.is_too_large(&step.limits)?;
        let oldest =
            step.limits.max_age.map(|age| step.now.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX)));
        let before = if too_large { i64::MAX } else { oldest.unwrap_or(i64::MIN) };
        let mut candidates = self.candidates(step, before)?;
        if let Some(number) = step.unfinished
            && candidates.first().is_none_or(|first| first.number != number)
        {
            candidates.splice(0..0, self.unfinished(number)?);
        }
        let mut left = STEP;
        for candidate in &candidates {
            done.next = Some((candidate.start, candidate.number));
            if candidate.kept && step.unfinished != Some(candidate.number) {
                continue;
            }
            match self.remove_spans(candidate, step.now, left)? {
                Removed::None => {}
                Removed::Some(spans) => {
                    done.spans += spans as u64;
                    // The rest of it goes with the next step.
                    done.next = Some((candidate.start, candidate.number - 1));
                    done.unfinished = Some(candidate.number);
                    return Ok(done);
                }
                Removed::All(spans) => {
                    done.traces += 1;
                    done.spans += spans as u64;
                    left = left.saturating_sub(spans.max(1));
                }
            }
            if left == 0 {
                return Ok(done);
            }
        }
        if candidates.len() < TRACES {
            done.next = None;
            let any = self.is_too_large(&step.limits)?;
            if self.remove_stray_logs(any)? > 0 || self.remove_old_stray_logs(oldest)? > 0 {
                done.next = Some((i64::MAX, i64::MAX));
            }
        }
        if done.next.is_none() {
            self.remove_unused()?;
        }
        Ok(done)
    }

    fn is_too_large(&self, limits: &Retention) -> Result<bool, StoreError> {
        let Some(most) = limits.max_bytes else { return Ok(false) };
        let number = |name| self.conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(self.or());
        let used = (number("page_count")? - number("freelist_count")?) * number("page_size")?;
        Ok(used as u64 > most)
    }

    /// The oldest traces behind those that were looked at already.
    fn candidates(&self, step: &PruneStep, before: i64) -> Result<Vec<Candidate>, StoreError> {
        let mut find = self
            .conn
            .prepare_cached(
                "SELECT trace.number, start, trace.run, run.run_id, run.session_started IS NOT NULL,
                        EXISTS (SELECT 1 FROM pin WHERE pin.run = trace.run),
                        run.number IS NOT NULL AND run.spec IS NULL
                 FROM trace LEFT JOIN run ON run.number = trace.run
                 WHERE start >= ?1 AND (start > ?1 OR trace.number > ?2) AND start < ?3
                 ORDER BY start, trace.number LIMIT ?4",
            )
            .map_err(self.or())?;
        let pinned = &step.limits.pinned_runs;
        let rows = find.query_map(params![step.after.0, step.after.1, before, TRACES as i64], |row| {
            let is_pinned = match row.get::<_, Option<String>>(3)? {
                Some(run_id) => pinned.iter().any(|pinned| pinned.as_str() == run_id),
                None => false,
            };
            Ok(Candidate {
                number: row.get(0)?,
                start: row.get(1)?,
                run: row.get(2)?,
                kept: is_pinned || row.get::<_, Option<bool>>(4)? == Some(true) || row.get(5)? || row.get(6)?,
            })
        });
        rows.and_then(Iterator::collect).map_err(self.or())
    }

    /// A trace that is half removed, if it is still there.
    fn unfinished(&self, number: i64) -> Result<Option<Candidate>, StoreError> {
        self.conn
            .prepare_cached("SELECT start, run FROM trace WHERE number = ?1")
            .and_then(|mut find| {
                find.query_row([number], |row| {
                    Ok(Candidate { number, start: row.get(0)?, run: row.get(1)?, kept: false })
                })
                .optional()
            })
            .map_err(self.or())
    }

    /// Removes a trace, or as much of it as fits the step.
    fn remove_spans(&mut self, trace: &Candidate, now: i64, most: usize) -> Result<Removed, StoreError> {
        let mut places: Vec<Place> = self
            .conn
            .prepare_cached("SELECT id, payload, run, end IS NULL FROM span WHERE trace = ?1 ORDER BY id LIMIT ?2")
            .and_then(|mut find| {
                find.query_map([trace.number, most as i64 + 1], |row| {
                    Ok(Place { id: row.get(0)?, payload: row.get(1)?, run: row.get(2)?, is_open: row.get(3)? })
                })?
                .collect()
            })
            .map_err(self.or())?;
        if places.iter().any(|place| place.is_open) {
            return Ok(Removed::None);
        }
        let whole = places.len() <= most;
        if !whole {
            // A payload goes with the last of its spans.
            let next = places.last().map(|place| place.payload);
            while places.len() > 1 && places.last().map(|place| place.payload) == next {
                places.pop();
            }
        }
        self.remember(trace, now)?;
        let mut runs: BTreeMap<i64, OfRun> = BTreeMap::new();
        let mut payloads: BTreeSet<i64> = places.iter().map(|place| place.payload).collect();
        for place in &places {
            if let Some(run) = place.run {
                runs.entry(run).or_default().spans.push(place.id);
            }
            self.change("DELETE FROM span WHERE id = ?1", [place.id])?;
        }
        if whole {
            payloads.extend(self.log_payloads(trace.number)?);
        }
        for payload in payloads {
            self.remove_payload(payload, &mut runs)?;
        }
        for (run, of_run) in &runs {
            self.note_pruned(*run, of_run)?;
        }
        if whole {
            self.change("DELETE FROM external_score WHERE trace = ?1", [trace.number])?;
            self.change("DELETE FROM trace_score WHERE trace = ?1", [trace.number])?;
            self.change("DELETE FROM trace WHERE number = ?1", [trace.number])?;
            return Ok(Removed::All(places.len()));
        }
        // Nobody sees half a trace.
        self.change("UPDATE trace SET operations = 0 WHERE number = ?1", [trace.number])?;
        Ok(Removed::Some(places.len()))
    }

    /// Remembers that there was a trace; one that had log records or scores only is nothing to remember.
    fn remember(&self, trace: &Candidate, now: i64) -> Result<(), StoreError> {
        self.change(
            "INSERT OR REPLACE INTO pruned (number, trace_id, at, run)
             SELECT number, trace_id, ?2, ?3 FROM trace WHERE number = ?1 AND operations > 0",
            params![trace.number, now, trace.run],
        )
    }

    fn log_payloads(&self, trace: i64) -> Result<Vec<i64>, StoreError> {
        self.conn
            .prepare_cached("SELECT payload FROM log WHERE trace = ?1")
            .and_then(|mut find| find.query_map([trace], |row| row.get(0))?.collect())
            .map_err(self.or())
    }

    fn remove_payload(&self, payload: i64, runs: &mut BTreeMap<i64, OfRun>) -> Result<(), StoreError> {
        let logs: Vec<(Option<i64>, i64)> = self
            .conn
            .prepare_cached("DELETE FROM log WHERE payload = ?1 RETURNING run, records")
            .and_then(|mut delete| delete.query_map([payload], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(self.or())?;
        for (run, records) in logs {
            if let Some(run) = run {
                runs.entry(run).or_default().logs.push((payload, records));
            }
            self.change("DELETE FROM log_hash WHERE payload = ?1", [payload])?;
        }
        self.change("DELETE FROM payload WHERE id = ?1", [payload])
    }

    /// What a destination has dealt with stays counted; what it has not is not pending any more.
    fn note_pruned(&self, run: i64, of_run: &OfRun) -> Result<(), StoreError> {
        self.change(
            "UPDATE run SET pruned_spans = pruned_spans + ?2 WHERE number = ?1",
            [run, of_run.spans.len() as i64],
        )?;
        let cursors: Vec<(String, i64, i64)> = self
            .conn
            .prepare_cached("SELECT destination, signal, cursor FROM outbox WHERE run = ?1")
            .and_then(|mut find| find.query_map([run], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect())
            .map_err(self.or())?;
        for (destination, signal, cursor) in cursors {
            let passed = if signal == Signal::Traces.number() {
                of_run.spans.iter().filter(|id| **id <= cursor).count() as i64
            } else {
                of_run.logs.iter().filter(|(payload, _)| *payload <= cursor).map(|(_, records)| records).sum()
            };
            self.change(
                "UPDATE outbox SET pruned = pruned + ?4 WHERE run = ?1 AND destination = ?2 AND signal = ?3",
                params![run, destination, signal, passed],
            )?;
        }
        Ok(())
    }

    /// Log records of no trace have no order but that of their coming: they go with the spans that came when they did;
    /// with `any`, when nothing else is left to go.
    fn remove_stray_logs(&self, any: bool) -> Result<usize, StoreError> {
        let payloads: Vec<i64> = self
            .conn
            .prepare_cached(
                "SELECT log.payload FROM log WHERE log.trace IS NULL AND log.run IS NULL
                 AND (?1 OR log.payload < (SELECT payload FROM span ORDER BY id LIMIT 1))
                 ORDER BY log.payload LIMIT ?2",
            )
            .and_then(|mut find| find.query_map(params![any, TRACES as i64], |row| row.get(0))?.collect())
            .map_err(self.or())?;
        for payload in &payloads {
            self.remove_payload(*payload, &mut BTreeMap::new())?;
        }
        Ok(payloads.len())
    }

    /// Removes those of the first log records of no trace that all happened before this time.
    fn remove_old_stray_logs(&mut self, oldest: Option<i64>) -> Result<usize, StoreError> {
        let Some(oldest) = oldest.and_then(|oldest| u64::try_from(oldest).ok()) else { return Ok(0) };
        let payloads: Vec<(i64, Vec<u8>)> = self
            .conn
            .prepare_cached(
                "SELECT payload.id, body FROM log JOIN payload ON payload.id = log.payload
                 WHERE log.trace IS NULL AND log.run IS NULL ORDER BY log.payload LIMIT ?1",
            )
            .and_then(|mut find| find.query_map([STRAY as i64], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(self.or())?;
        let mut removed = 0;
        for (payload, body) in payloads {
            let content = self.decoder.decode(self.conn, "log records", &body)?;
            let logs = Messages::split(content)?.logs;
            let is_old = |bytes: &&[u8]| otlp::read_log(bytes).is_ok_and(|log| time_of(&log) < oldest);
            if logs.iter().all(is_old) {
                self.remove_payload(payload, &mut BTreeMap::new())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Origins that no payload refers to any more, and the oldest of what is remembered.
    fn remove_unused(&mut self) -> Result<(), StoreError> {
        let least = "(SELECT coalesce((SELECT min(id) FROM payload), (SELECT payload + 1 FROM counter)))";
        self.change(
            &format!(
                "DELETE FROM resource WHERE last_payload < {least}
                 AND id NOT IN (SELECT resource FROM run WHERE resource IS NOT NULL)"
            ),
            [],
        )?;
        self.change(&format!("DELETE FROM scope WHERE last_payload < {least}"), [])?;
        self.change(
            "DELETE FROM pruned WHERE run IS NULL AND number < (SELECT max(number) FROM pruned) - ?1",
            [REMEMBERED],
        )?;
        self.change(super::remove::UNUSED_NAMES, [])?;
        self.interned.clear();
        Ok(())
    }
}

/// How much of a trace was removed, in spans.
enum Removed {
    /// Nothing, for it is open.
    None,
    /// A part.
    Some(usize),
    /// All of it.
    All(usize),
}
