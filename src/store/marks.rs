//! Reading: marks by which a listener tells what has changed, without reading it.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::error::StoreError;
use super::reader::Reader;

/// What the store held at a moment, as far as is needed to tell whether something is new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Each run's id and a number that changes with it.
    pub runs: Vec<(String, u64)>,
    /// A number that changes when spans or log records come in.
    pub traces: u64,
}

impl Reader {
    /// The marks of this moment.
    pub fn marks(&self) -> Result<Marks, StoreError> {
        let or = self.or();
        let mut find = self
            .conn
            .prepare_cached(
                "SELECT run_id, status, completed, failed, skipped, active_ns, created_spans, ended,
                        json_extract(spec, '$.tags') FROM run WHERE spec IS NOT NULL ORDER BY number",
            )
            .map_err(&or)?;
        let rows = find.query_map([], |row| {
            let mut hasher = DefaultHasher::new();
            row.get::<_, String>(1)?.hash(&mut hasher);
            for column in 2..8 {
                row.get::<_, Option<i64>>(column)?.hash(&mut hasher);
            }
            row.get::<_, Option<String>>(8)?.hash(&mut hasher);
            Ok((row.get(0)?, hasher.finish()))
        });
        let runs = rows.and_then(Iterator::collect).map_err(&or)?;
        let (spans, payloads): (i64, i64) = self
            .conn
            .prepare_cached("SELECT span, payload FROM counter")
            .and_then(|mut find| find.query_row([], |row| Ok((row.get(0)?, row.get(1)?))))
            .map_err(&or)?;
        // Traces also go: those of a removed run, and old ones.
        let traces: i64 = self
            .conn
            .prepare_cached("SELECT coalesce(max(number), 0) FROM trace")
            .and_then(|mut find| find.query_row([], |row| row.get(0)))
            .map_err(&or)?;
        let mut hasher = DefaultHasher::new();
        (spans, payloads, traces).hash(&mut hasher);
        Ok(Marks { runs, traces: hasher.finish() })
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Label, Predicted};
    use crate::store::testing::{Scene, completed, trial};

    #[tokio::test]
    async fn marks_change_with_what_they_stand_for() {
        let scene = Scene::started(2, 1).await;
        let reader = scene.reader();
        let first = reader.marks().expect("marks");
        assert_eq!(reader.marks().expect("marks"), first);
        scene.record(trial(0, 0, 0, completed(Predicted::Label(Label::True)))).await;
        let second = reader.marks().expect("marks");
        assert_eq!((first.runs.len(), second.runs.len()), (1, 1));
        assert!(first.runs[0].1 != second.runs[0].1 && first.traces != second.traces);
        scene.writer.set_tags(&scene.spec.run_id, [("a".to_owned(), "b".to_owned())].into()).await.expect("tagged");
        let third = reader.marks().expect("marks");
        assert!(second.runs[0].1 != third.runs[0].1 && second.traces == third.traces);
    }
}
