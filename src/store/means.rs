//! The means of batches: gathered over many transactions, for each row of theirs goes to another page of the index that
//! finds low scores, and a page is written again by every commit that touches it.
//!
//! What a kill loses of them is computed again from the trials when the run is closed or resumed; until then readers
//! compute the means of single traces themselves.

use std::time::{Duration, Instant};

use rusqlite::params;

use super::apply::Applier;
use super::error::StoreError;

/// With so many batches they are written.
const BATCHES: usize = 64;

/// And after so much time, for somebody may look for low scores.
const AFTER: Duration = Duration::from_millis(500);

/// Means that are still to be written.
#[derive(Debug, Default)]
pub(super) struct Means {
    /// Trace, and the mean of each evaluator.
    waiting: Vec<(i64, Vec<(String, f64)>)>,
    /// How many of them this transaction has written.
    written: usize,
    since: Option<Instant>,
}

impl Means {
    pub(super) fn add(&mut self, trace: i64, means: &[(String, f64)]) {
        self.waiting.push((trace, means.to_vec()));
        self.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn are_due(&self) -> bool {
        self.waiting.len() >= BATCHES || self.since.is_some_and(|since| since.elapsed() >= AFTER)
    }

    /// How many there are before a transaction.
    pub(super) fn mark(&self) -> usize {
        self.waiting.len()
    }

    /// Forgets what is on disk; after a rollback, what came with the transaction.
    pub(super) fn settle(&mut self, committed: bool, mark: usize) {
        if committed {
            self.waiting.drain(..self.written);
        } else {
            self.waiting.truncate(mark);
        }
        self.written = 0;
        if self.waiting.is_empty() {
            self.since = None;
        }
    }
}

impl Applier<'_> {
    /// Writes the means that are waiting.
    pub(super) fn write_means(&mut self) -> Result<(), StoreError> {
        let waiting = std::mem::take(&mut self.means.waiting);
        let written =
            waiting.iter().skip(self.means.written).try_for_each(|(trace, means)| self.store_means(*trace, means));
        self.means.waiting = waiting;
        written?;
        self.means.written = self.means.waiting.len();
        Ok(())
    }

    /// The means of a batch whose root does not say them, from the scores of its trials.
    pub(super) fn add_means_of(&mut self, trace: i64) -> Result<(), StoreError> {
        let means: Vec<(String, f64)> = self
            .conn
            .prepare_cached(
                "SELECT json_extract(run.spec, '$.evaluators[' || evaluator || '].id'), avg(value) FROM span
                 JOIN trial ON trial.id = span.trial AND trial.span = span.span_id
                 JOIN score ON score.trial = trial.id JOIN run ON run.number = span.run
                 WHERE span.trace = ?1 AND state = 0 AND value IS NOT NULL AND run.spec IS NOT NULL GROUP BY 1",
            )
            .and_then(|mut find| find.query_map([trace], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(self.or())?;
        self.store_means(trace, &means)
    }

    /// The means of the batches of a run that have none, for a kill lost them.
    pub(super) fn add_missing_means(&mut self, run: i64) -> Result<(), StoreError> {
        let traces: Vec<i64> = self
            .conn
            .prepare_cached(
                "SELECT number FROM trace WHERE run = (SELECT number FROM run WHERE number = ?1
                                                       AND session_started IS NOT NULL)
                 AND NOT EXISTS (SELECT 1 FROM trace_score WHERE trace_score.trace = trace.number)",
            )
            .and_then(|mut find| find.query_map([run], |row| row.get(0))?.collect())
            .map_err(self.or())?;
        traces.into_iter().try_for_each(|trace| self.add_means_of(trace))
    }

    /// A trace that was removed meanwhile gets none.
    fn store_means(&mut self, trace: i64, means: &[(String, f64)]) -> Result<(), StoreError> {
        for (name, mean) in means {
            let name = self.intern_name(name)?;
            let or = self.or();
            self.statements().set_mean.execute(params![trace, name, mean]).map_err(or)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Label, Predicted, RunEvent};
    use crate::query::{Schema, parse};
    use crate::store::testing::{Scene, batch_root, completed, ended, session_root, trial};

    #[tokio::test]
    async fn means_that_a_kill_lost_are_there_again_when_the_run_is_resumed() {
        let scene = Scene::started(2, 1).await;
        scene.record(trial(0, 0, 0, completed(Predicted::Label(Label::True)))).await;
        scene.record(trial(1, 0, 0, completed(Predicted::Label(Label::True)))).await;
        let mut root = ended(batch_root(2), 900);
        root.set("spanscore.score.label_match.mean", 0.5);
        scene.record(RunEvent::BatchFinished { root: Box::new(root) }).await;
        let low = || {
            let filter = parse("score.label_match < 1", &Schema::traces()).expect("a query");
            scene.reader().traces(Some(&filter), None, None).expect("traces").len()
        };
        assert_eq!(low(), 0, "they are not written yet");
        let row = &scene.reader().traces(None, None, None).expect("traces")[0];
        assert_eq!(row.scores["label_match"], 0.5, "but a list shows them");
        // Killed here; another process resumes.
        let writer = scene.store.writer().expect("a second writer");
        let spec = Box::new(scene.spec.clone());
        writer.record(RunEvent::SessionStarted { spec, root: Box::new(session_root(4)) }).await.expect("a session");
        assert_eq!(low(), 1);
        // The first one's process was not killed after all: it writes nothing of a removed trace.
        scene.writer.remove_run(&scene.spec.run_id).await.expect("removed");
        assert_eq!(low(), 0);
    }
}
