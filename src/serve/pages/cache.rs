//! Reports and means that were made before and still hold: a run that ended does not change, and pages show many of them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use super::PageError;
use crate::compare::nights::{TrendOptions, trend};
use crate::compare::{Comparison, Trend};
use crate::report::collect::{Brief, Collector};
use crate::report::details::{self, details};
use crate::report::{Report, build};
use crate::store::rows::RunRow;
use crate::store::{Reader, StoreError};

/// How many reports are kept; one of a large run takes some tens of kilobytes.
const REPORTS: usize = 64;
/// How many means of runs are kept.
const BRIEFS: usize = 4096;

/// How many comparisons are kept; one of large runs takes some megabytes.
const COMPARISONS: usize = 16;
/// Runs of more trials are compared only where that is asked for.
const COMPARED_AT_ONCE: u64 = 5_000;
/// How many trends are kept.
const TRENDS: usize = 32;

/// What was made before. Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct Cache {
    reports: Arc<Mutex<HashMap<u64, Arc<Report>>>>,
    briefs: Arc<Mutex<HashMap<u64, Arc<Brief>>>>,
    comparisons: Arc<Mutex<HashMap<u64, Arc<Comparison>>>>,
    trends: Arc<Mutex<HashMap<u64, Arc<Trend>>>>,
}

impl Cache {
    /// The report of a run with its details, as `show` gives it.
    pub(super) fn report(&self, reader: &Reader, run: &RunRow) -> Result<Arc<Report>, StoreError> {
        let live = reader.is_live(&run.spec.run_id);
        let runs = reader.runs()?;
        // The details are about earlier runs too, and delivery goes on after a run has ended.
        let suite = runs.iter().filter(|other| other.spec.suite == run.spec.suite).take(2 * details::HISTORY);
        let delivered: Vec<_> = reader
            .span_counts(run)?
            .into_iter()
            .chain(reader.score_counts(run)?)
            .map(|(name, counts)| (name, [counts.delivered, counts.pending, counts.rejected, counts.not_sampled]))
            .collect();
        let verdict = reader.verdict(run)?.map(|judged| judged.report.to_string());
        let suite = suite.map(state).collect::<Vec<_>>();
        let key = digest(&(state(run), live, suite, delivered, &run.spec.tags, verdict));
        if let Some(known) = get(&self.reports, key) {
            return Ok(known);
        }
        let mut report = build(reader, run, live)?;
        report.details = Some(details(reader, run)?);
        Ok(put(&self.reports, REPORTS, key, report))
    }

    /// The comparison of two runs by these slices.
    pub(super) fn comparison(
        &self,
        reader: &Reader,
        base: &RunRow,
        head: &RunRow,
        slices: &[String],
    ) -> Result<Arc<Comparison>, PageError> {
        let key = digest(&(state(base), state(head), slices));
        if let Some(known) = get(&self.comparisons, key) {
            return Ok(known);
        }
        let made = super::compare::compare_runs(reader, base, head, slices)?;
        Ok(put(&self.comparisons, COMPARISONS, key, made))
    }

    /// The comparison with the suite's previous run; `None` for the first run, while one is under way, and of runs so large
    /// that a page had to wait for it.
    pub(super) fn since_previous(&self, reader: &Reader, run: &RunRow) -> Result<Option<Arc<Comparison>>, PageError> {
        let Some(previous) = details::previous_run(reader, run)? else { return Ok(None) };
        let busy = [run, &previous].iter().any(|run| {
            run.spec.planned() > COMPARED_AT_ONCE || reader.is_live(&run.spec.run_id) || run.counts.completed == 0
        });
        if busy { Ok(None) } else { self.comparison(reader, &previous, run, &[]).map(Some) }
    }

    /// The trend of a score; made again when a run of the suite or a verdict changes.
    pub(super) fn trend(&self, reader: &Reader, options: &TrendOptions) -> Result<Arc<Trend>, PageError> {
        let runs = reader.runs()?;
        let states: Vec<_> = runs.iter().map(|run| (state(run), reader.is_live(&run.spec.run_id))).collect();
        let asked = (&options.suite, &options.score, &options.slices, options.last);
        let key = digest(&(states, reader.verdicts()?, asked));
        if let Some(known) = get(&self.trends, key) {
            return Ok(known);
        }
        Ok(put(&self.trends, TRENDS, key, trend(reader, options)?))
    }

    /// The means of a run, as `runs` gives them.
    pub(super) fn brief(&self, reader: &Reader, run: &RunRow) -> Result<Arc<Brief>, StoreError> {
        let key = digest(&state(run));
        if let Some(known) = get(&self.briefs, key) {
            return Ok(known);
        }
        let mut collector = Collector::new(&run.spec);
        reader.for_each_fact(run, |facts| collector.add(&facts))?;
        Ok(put(&self.briefs, BRIEFS, key, collector.brief()))
    }
}

/// What changes whenever something is recorded of a run.
fn state(run: &RunRow) -> (String, i64, &'static str, Option<u64>, u64, [u64; 4]) {
    let counts = [run.counts.completed, run.counts.failed, run.counts.skipped, run.spans_created];
    (run.spec.run_id.to_string(), run.number, run.status.as_str(), run.ended_unix_nano, run.active_ns, counts)
}

fn digest(key: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

fn get<T>(cache: &Mutex<HashMap<u64, Arc<T>>>, key: u64) -> Option<Arc<T>> {
    cache.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
}

fn put<T>(cache: &Mutex<HashMap<u64, Arc<T>>>, most: usize, key: u64, value: T) -> Arc<T> {
    let value = Arc::new(value);
    let mut known = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= most {
        known.clear();
    }
    known.insert(key, Arc::clone(&value));
    value
}
