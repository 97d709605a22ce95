//! What is kept of judging: the verdict on a run, and which runs a baseline holds, whose traces retention leaves alone.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, params};

use super::apply::{Applier, Work};
use super::error::StoreError;
use super::reader::Reader;
use super::rows::RunRow;
use super::writer::Writer;
use crate::model::RunId;

/// The last verdict on a run.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedRun {
    /// `PASS`, `FAIL`, `INCONCLUSIVE` or `INVALID`.
    pub verdict: String,
    /// The digest of the baseline it was judged against; `None` where that could not be read.
    pub baseline: Option<String>,
    /// The gate's document.
    pub report: serde_json::Value,
}

impl Writer {
    /// Keeps the verdict on a run; it replaces an earlier one.
    pub async fn keep_verdict(&self, run_id: &RunId, judged: JudgedRun) -> Result<(), StoreError> {
        self.ask(Work::KeepVerdict { run_id: run_id.clone(), judged: Box::new(judged) }).await.map(drop)
    }

    /// Notes which runs a baseline file holds, instead of those that it held. Runs that the store does not have are left
    /// out. Retention keeps the traces of pinned runs.
    pub async fn pin(&self, file: &str, runs: &BTreeSet<RunId>) -> Result<(), StoreError> {
        self.ask(Work::Pin { file: file.to_owned(), runs: runs.clone() }).await.map(drop)
    }
}

impl Applier<'_> {
    pub(super) fn keep_verdict(&self, run_id: &RunId, judged: &JudgedRun) -> Result<(), StoreError> {
        let run = self.run_number(run_id)?;
        self.change(
            "INSERT OR REPLACE INTO verdict (run, verdict, baseline, report) VALUES (?1, ?2, ?3, ?4)",
            params![run, judged.verdict, judged.baseline, judged.report.to_string()],
        )
    }

    pub(super) fn pin(&self, file: &str, runs: &BTreeSet<RunId>) -> Result<(), StoreError> {
        self.change("DELETE FROM pin WHERE file = ?1", [file])?;
        for run_id in runs {
            self.change(
                "INSERT INTO pin (run, file) SELECT number, ?2 FROM run WHERE run_id = ?1 AND spec IS NOT NULL",
                params![run_id.as_str(), file],
            )?;
        }
        Ok(())
    }
}

impl Reader {
    /// The last verdict on a run; `None` where it was never judged.
    pub fn verdict(&self, run: &RunRow) -> Result<Option<JudgedRun>, StoreError> {
        let found: Option<(String, Option<String>, String)> = self
            .conn
            .prepare_cached("SELECT verdict, baseline, report FROM verdict WHERE run = ?1")
            .and_then(|mut find| {
                find.query_row([run.number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()
            })
            .map_err(self.or())?;
        found
            .map(|(verdict, baseline, report)| {
                let report =
                    serde_json::from_str(&report).map_err(|e| StoreError::damaged("the verdict on a run", e))?;
                Ok(JudgedRun { verdict, baseline, report })
            })
            .transpose()
    }

    /// The last verdict on each run that was judged, as a word, by the run's number.
    pub fn verdicts(&self) -> Result<BTreeMap<i64, String>, StoreError> {
        self.conn
            .prepare_cached("SELECT run, verdict FROM verdict")
            .and_then(|mut find| find.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(self.or())
    }

    /// The baseline files that hold a run.
    pub fn pinned_by(&self, run: &RunRow) -> Result<Vec<String>, StoreError> {
        self.conn
            .prepare_cached("SELECT file FROM pin WHERE run = ?1 ORDER BY file")
            .and_then(|mut find| find.query_map([run.number], |row| row.get(0))?.collect())
            .map_err(self.or())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Label, Predicted};
    use crate::store::Retention;
    use crate::store::testing::{START, Scene, completed, trial};

    #[tokio::test]
    async fn a_verdict_is_kept_until_the_next_one_and_goes_with_its_run() {
        let scene = Scene::started(1, 1).await;
        scene.record(trial(0, 0, 0, completed(Predicted::Label(Label::True)))).await;
        scene.finish().await;
        let (reader, run) = (scene.reader(), scene.run());
        assert_eq!(reader.verdict(&run).expect("read"), None);
        for verdict in ["PASS", "FAIL"] {
            let judged = JudgedRun {
                verdict: verdict.to_owned(),
                baseline: Some("abc".to_owned()),
                report: serde_json::json!({ "verdict": verdict }),
            };
            scene.writer.keep_verdict(&scene.spec.run_id, judged.clone()).await.expect("kept");
            assert_eq!(reader.verdict(&run).expect("read"), Some(judged));
        }
        assert_eq!(reader.verdicts().expect("read"), [(run.number, "FAIL".to_owned())].into());
        scene.writer.remove_run(&scene.spec.run_id).await.expect("removed");
        assert!(reader.verdicts().expect("read").is_empty());
    }

    #[tokio::test]
    async fn a_run_that_goes_on_is_no_longer_judged() {
        let scene = Scene::started(1, 1).await;
        scene.finish().await;
        let judged = JudgedRun { verdict: "PASS".to_owned(), baseline: None, report: serde_json::Value::Null };
        scene.writer.keep_verdict(&scene.spec.run_id, judged).await.expect("kept");
        scene.start_session(9).await;
        assert_eq!(scene.reader().verdict(&scene.run()).expect("read"), None);
    }

    #[tokio::test]
    async fn retention_leaves_the_traces_of_a_pinned_run_alone() {
        let scene = Scene::started(1, 1).await;
        scene.record(trial(0, 0, 0, completed(Predicted::Label(Label::True)))).await;
        scene.finish().await;
        let all = Retention { max_age: Some(Duration::from_secs(1)), ..Retention::default() };
        let later = START + 86_400_000_000_000;
        let pinned = [scene.spec.run_id.clone(), RunId::parse("gone").expect("an id")].into();
        scene.writer.pin("reports/baseline.json", &pinned).await.expect("pinned");
        assert_eq!(scene.reader().pinned_by(&scene.run()).expect("read"), ["reports/baseline.json"]);
        assert_eq!(scene.writer.prune(&all, later).await.expect("pruned").traces, 0);
        // Another baseline in the same file lets it go.
        scene.writer.pin("reports/baseline.json", &BTreeSet::new()).await.expect("unpinned");
        assert!(scene.writer.prune(&all, later).await.expect("pruned").traces > 0);
    }
}
