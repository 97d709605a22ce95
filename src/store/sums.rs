//! The sums of a transaction: gathered in memory while its steps are applied, written once before the commit.

use std::collections::BTreeMap;

use rusqlite::params;

use super::apply::Applier;
use super::error::StoreError;

/// Sums of a transaction that are written at its end.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// By outcome: completed, failed, skipped.
    pub(super) trials: [i64; 3],
    /// By trace number.
    pub(super) traces: BTreeMap<i64, TraceSums>,
    /// Of the session's run.
    pub(super) run: RunSums,
}

/// What is added to a run.
#[derive(Debug, Default)]
pub(super) struct RunSums {
    pub(super) created_spans: i64,
    /// The first and last span and payload.
    spans: Option<(i64, i64)>,
    payloads: Option<(i64, i64)>,
}

#[derive(Debug, Default)]
pub(super) struct TraceSums {
    pub(super) operations: i64,
    pub(super) errors: i64,
    /// Set where a span begins before the trace did so far.
    pub(super) start: Option<i64>,
    pub(super) end: i64,
}

/// A trace that was met: its number and where it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownTrace {
    pub(super) number: i64,
    pub(super) start: i64,
}

/// The last numbers given out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    pub(super) span: i64,
    pub(super) payload: i64,
    pub(super) trace: i64,
}

impl RunSums {
    pub(super) fn add_span(&mut self, id: i64) {
        extend(&mut self.spans, id);
    }

    pub(super) fn add_payload(&mut self, id: i64) {
        extend(&mut self.payloads, id);
    }
}

impl Applier<'_> {
    /// Writes the sums of this transaction.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        self.flush_sums(self.session_run())?;
        if self.means.are_due() {
            self.write_means()?;
        }
        let last = self.last;
        let or = self.or();
        self.statements().set_counters.execute([last.span, last.payload, last.trace]).map_err(or)?;
        Ok(())
    }

    /// Writes what is added to traces and to runs; what is the session's goes to this run.
    pub(super) fn flush_sums(&mut self, run: Option<i64>) -> Result<(), StoreError> {
        let sums = std::mem::take(&mut self.sums);
        let or = self.or();
        for (trace, of) in sums.traces {
            let statements = self.statements();
            statements.add_to_trace.execute(params![trace, of.operations, of.end]).map_err(&or)?;
            // These columns have indexes.
            if of.errors != 0 {
                statements.add_errors.execute([trace, of.errors]).map_err(&or)?;
            }
            if let Some(start) = of.start {
                statements.begin_trace.execute([trace, start]).map_err(&or)?;
            }
        }
        self.flush_gathered()?;
        match run {
            Some(run) => self.add_to_run(run, &sums.run, sums.trials),
            None => Ok(()),
        }
    }

    pub(super) fn add_to_run(&mut self, run: i64, sums: &RunSums, trials: [i64; 3]) -> Result<(), StoreError> {
        let or = self.or();
        let [completed, failed, skipped] = trials;
        self.statements()
            .add_to_run
            .execute(params![
                run,
                sums.created_spans,
                completed,
                failed,
                skipped,
                sums.spans.map(|range| range.0),
                sums.spans.map(|range| range.1),
                sums.payloads.map(|range| range.0),
                sums.payloads.map(|range| range.1),
            ])
            .map_err(or)?;
        Ok(())
    }
}

fn extend(range: &mut Option<(i64, i64)>, id: i64) {
    *range = Some((range.map_or(id, |(first, _)| first.min(id)), range.map_or(id, |(_, last)| last.max(id))));
}
