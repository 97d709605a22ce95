//! Removing runs, in steps short enough for others to write in between, and giving the space back.

use rusqlite::{Connection, OptionalExtension, params};

use super::error::{Attempt, StoreError};
use super::lock;
use super::open::Store;
use super::schema::{first_key, last_key};
use crate::model::RunId;

/// How many rows of a table a step removes.
const STEP: i64 = 4096;

/// Does one step of a run's removal within a transaction; true while there is more to do.
///
/// The first step makes the run invisible; the row of the run itself goes last, so that a removal that was cut off is
/// found again.
pub(super) fn step(conn: &Connection, run_id: &RunId) -> rusqlite::Result<bool> {
    let found = conn
        .query_row(
            "SELECT number, spec IS NOT NULL, coalesce(first_span, 0), coalesce(last_span, -1),
                    coalesce(first_payload, 0), coalesce(last_payload, -1)
             FROM run WHERE run_id = ?1",
            [run_id.as_str()],
            |row| {
                let spans: (i64, i64) = (row.get(2)?, row.get(3)?);
                let payloads: (i64, i64) = (row.get(4)?, row.get(5)?);
                Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?, spans, payloads))
            },
        )
        .optional()?;
    let Some((run, visible, spans, payloads)) = found else { return Ok(false) };
    if visible {
        conn.execute("UPDATE run SET spec = NULL WHERE number = ?1", [run])?;
        for of_run in ["outbox", "verdict", "pin"] {
            conn.execute(&format!("DELETE FROM {of_run} WHERE run = ?1"), [run])?;
        }
    }
    let keys = (first_key(run), last_key(run));

    // Scores go with their trials: up to the last of this step.
    let last: Option<i64> = conn.query_row(
        "SELECT max(id) FROM (SELECT id FROM trial WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3)",
        params![keys.0, keys.1, STEP],
        |row| row.get(0),
    )?;
    if let Some(last) = last {
        conn.execute("DELETE FROM score WHERE trial BETWEEN ?1 AND ?2", [keys.0, last])?;
        conn.execute("DELETE FROM trial WHERE id BETWEEN ?1 AND ?2", [keys.0, last])?;
        return Ok(true);
    }
    let upto: Option<i64> = conn.query_row(
        "SELECT max(id) FROM (SELECT id FROM span WHERE run = ?1 AND id BETWEEN ?2 AND ?3 ORDER BY id LIMIT ?4)",
        params![run, spans.0, spans.1, STEP],
        |row| row.get(0),
    )?;
    if let Some(upto) = upto {
        leave_traces(conn, run, (spans.0, upto))?;
        conn.execute("DELETE FROM span WHERE run = ?1 AND id BETWEEN ?2 AND ?3", [run, spans.0, upto])?;
        // The next step begins where this one ended.
        conn.execute("UPDATE run SET first_span = ?2 WHERE number = ?1", [run, upto + 1])?;
        return Ok(true);
    }
    for (delete, range) in [
        (
            "DELETE FROM log_hash WHERE payload IN
             (SELECT payload FROM log WHERE run = ?1 AND payload BETWEEN ?2 AND ?3 AND trace IS NOT NULL LIMIT ?4)",
            payloads,
        ),
        (
            "DELETE FROM log WHERE payload IN
             (SELECT payload FROM log WHERE run = ?1 AND payload BETWEEN ?2 AND ?3 LIMIT ?4)",
            payloads,
        ),
        (
            "DELETE FROM payload WHERE id IN (SELECT id FROM payload WHERE run = ?1 AND id BETWEEN ?2 AND ?3 LIMIT ?4)",
            payloads,
        ),
    ] {
        if conn.execute(delete, params![run, range.0, range.1, STEP])? > 0 {
            return Ok(true);
        }
    }
    if remove_traces(conn, run)? {
        return Ok(true);
    }
    if remove_plan(conn, keys)? {
        return Ok(true);
    }
    conn.execute(
        "DELETE FROM case_group WHERE id NOT IN (SELECT case_group FROM planned WHERE case_group IS NOT NULL)",
        [],
    )?;
    conn.execute("DELETE FROM pruned WHERE run = ?1", [run])?;
    conn.execute(UNUSED_NAMES, [])?;
    conn.execute("DELETE FROM run WHERE number = ?1", [run])?;
    // What came with telemetry has a last payload; retention removes it.
    conn.execute(
        "DELETE FROM resource WHERE last_payload IS NULL
         AND id NOT IN (SELECT resource FROM run WHERE resource IS NOT NULL)",
        [],
    )?;
    Ok(false)
}

/// Removes the names of scores that nothing has any more.
pub(super) const UNUSED_NAMES: &str = "DELETE FROM score_name
    WHERE NOT EXISTS (SELECT 1 FROM trace_score WHERE trace_score.name = score_name.id)
    AND NOT EXISTS (SELECT 1 FROM external_score WHERE external_score.name = score_name.id)";

/// Removes the rows of traces, and what applications said of them. Where sessions of other runs have spans in a trace it
/// goes over to the first of these.
fn remove_traces(conn: &Connection, run: i64) -> rusqlite::Result<bool> {
    let traces: Vec<i64> = conn
        .prepare_cached("SELECT number FROM trace WHERE run = ?1 LIMIT ?2")?
        .query_map([run, STEP], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for trace in &traces {
        // The run's own spans went before; others than those of runs came to this run's trace.
        for sql in [
            "DELETE FROM payload WHERE id IN (SELECT payload FROM span WHERE trace = ?1 AND run IS NULL)",
            "DELETE FROM span WHERE trace = ?1 AND run IS NULL",
            "DELETE FROM log_hash WHERE payload IN (SELECT payload FROM log WHERE trace = ?1)",
            "DELETE FROM payload WHERE id IN (SELECT payload FROM log WHERE trace = ?1)",
            "DELETE FROM log WHERE trace = ?1",
            "DELETE FROM trace_score WHERE trace = ?1",
            "DELETE FROM external_score WHERE trace = ?1
             AND coalesce(span NOT IN (SELECT span_id FROM span WHERE trace = ?1), TRUE)",
            "INSERT INTO trace_score SELECT trace, name, avg(value) FROM external_score
             WHERE trace = ?1 AND value IS NOT NULL GROUP BY name",
            "DELETE FROM trace WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM span WHERE trace = ?1)",
            "UPDATE trace SET (run, root, root_start) =
                 (SELECT run, name, start FROM span WHERE trace = ?1 ORDER BY start, id LIMIT 1),
                 (operations, errors, start, end) =
                 (SELECT count(*), sum(status = 2), min(start), max(max(start, coalesce(end, 0)))
                  FROM span WHERE trace = ?1),
                 (input_tokens, output_tokens) = (NULL, NULL), rooted = 1
             WHERE number = ?1",
        ] {
            conn.prepare_cached(sql)?.execute([trace])?;
        }
    }
    Ok(!traces.is_empty())
}

/// Takes the run's spans of a range out of the sums of traces that are not its own.
fn leave_traces(conn: &Connection, run: i64, range: (i64, i64)) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE trace SET operations = trace.operations - gone.spans, errors = trace.errors - gone.failed FROM
             (SELECT span.trace AS number, count(*) AS spans, sum(span.status = 2) AS failed
              FROM span JOIN trace ON trace.number = span.trace
              WHERE span.run = ?1 AND span.id BETWEEN ?2 AND ?3 AND trace.run IS NOT ?1 GROUP BY span.trace) AS gone
         WHERE trace.number = gone.number",
    )?
    .execute([run, range.0, range.1])
    .map(drop)
}

/// Removes planned cases, and content that no other plan shares.
fn remove_plan(conn: &Connection, keys: (i64, i64)) -> rusqlite::Result<bool> {
    let cases: Vec<(i64, i64)> = conn
        .prepare_cached("SELECT id, content FROM planned WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3")?
        .query_map(params![keys.0, keys.1, STEP], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut delete_case = conn.prepare_cached("DELETE FROM planned WHERE id = ?1")?;
    let mut delete_content = conn.prepare_cached(
        "DELETE FROM content WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM planned WHERE content = ?1)",
    )?;
    for (id, content) in &cases {
        delete_case.execute([id])?;
        delete_content.execute([content])?;
    }
    Ok(!cases.is_empty())
}

/// Removes a run that is being planned; one that is planned already stays.
pub(super) fn drop_plan(conn: &Connection, run_id: &RunId) -> rusqlite::Result<bool> {
    let planning: Option<bool> = conn
        .query_row("SELECT spec IS NULL FROM run WHERE run_id = ?1", [run_id.as_str()], |row| row.get(0))
        .optional()?;
    if planning == Some(true) { step(conn, run_id) } else { Ok(false) }
}

/// Removes what plannings and removals left behind that were killed.
pub(super) fn sweep(conn: &Connection, store: &Store) -> Result<(), StoreError> {
    let attempt = Attempt::new("sweeping", store.path());
    let left: Vec<String> = conn
        .prepare("SELECT run_id FROM run WHERE spec IS NULL")
        .and_then(|mut find| find.query_map([], |row| row.get(0))?.collect())
        .map_err(|e| attempt.failed(e))?;
    for run_id in left {
        let Ok(run_id) = RunId::parse(run_id) else { continue };
        sweep_run(conn, store, &run_id).map_err(|e| attempt.failed(e))?;
    }
    Ok(())
}

/// Removes what is left of one run, unless a process works on it. Since it was looked for it may have become a whole run:
/// that one stays.
fn sweep_run(conn: &Connection, store: &Store, run_id: &RunId) -> rusqlite::Result<()> {
    let Ok(_planning) = lock::lock_planning(store.dir(), run_id) else { return Ok(()) };
    let Ok(_lock) = lock::lock_run(store.dir(), run_id) else { return Ok(()) };
    let mut more = true;
    while more {
        conn.execute_batch("BEGIN IMMEDIATE")?;
        let dropped = drop_plan(conn, run_id);
        conn.execute_batch(if dropped.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
        more = dropped?;
    }
    lock::forget_planning(store.dir(), run_id);
    let sql = "SELECT EXISTS (SELECT 1 FROM run WHERE run_id = ?1)";
    if !conn.query_row(sql, [run_id.as_str()], |row| row.get::<_, bool>(0))? {
        lock::forget(store.dir(), run_id);
    }
    Ok(())
}

/// How many pages a step gives back.
const PAGES: i64 = 2048;

/// Gives some of the pages that removals freed back to the file system; true while there are others.
pub(super) fn vacuum(conn: &Connection) -> rusqlite::Result<bool> {
    // Each round is a transaction of its own; a step of the pragma frees one page.
    conn.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?.query([]).and_then(|mut rows| {
        while rows.next()?.is_some() {}
        Ok(())
    })?;
    let free: i64 = conn.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if free > 0 {
        return Ok(true);
    }
    // The file shrinks when the log is moved into it; where a reader prevents that, the next checkpoint does it.
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(false))
}

#[cfg(test)]
mod tests {
    use crate::model::{Label, Predicted};
    use crate::store::StoreError;
    use crate::store::outbox::Signal;
    use crate::store::testing::{Scene, case, completed, plan, spec, trial};

    /// How many rows each table has.
    fn rows(scene: &Scene) -> Vec<(String, i64)> {
        let conn = scene.store.connect_for_reading().expect("a connection");
        let tables: Vec<String> = conn
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name")
            .and_then(|mut find| find.query_map([], |row| row.get(0))?.collect())
            .expect("tables");
        let count = |table: &String| conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
        tables.iter().map(|table| (table.clone(), count(table).expect("a count"))).collect()
    }

    #[tokio::test]
    async fn a_removed_run_leaves_nothing_that_is_its_own() {
        let scene = Scene::planned(2, 1).await;
        let before = rows(&scene);
        let other = Scene { spec: spec("20260923-120000-00000b", 5000, 1), ..scene };
        plan(&other.writer, &other.spec).await;
        other.start_session(1).await;
        other
            .record(crate::model::RunEvent::BatchStarted { root: Box::new(crate::store::testing::batch_root(2)) })
            .await;
        for seq in 0..20 {
            other.record(trial(seq, 0, 0, completed(Predicted::Label(Label::True)))).await;
        }
        other.finish().await;
        let config = serde_json::json!({});
        other.writer.register_destination(&other.spec.run_id, "x", Signal::Logs, &config).await.expect("registered");
        let size = || {
            let conn = other.store.connect_for_reading().expect("a connection");
            conn.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0)).expect("a count")
        };

        let lock = other.store.lock_run(&other.spec.run_id).expect("a lock");
        let refused = other.writer.remove_run(&other.spec.run_id).await.expect_err("it is live");
        assert!(matches!(refused, StoreError::RunInUse { .. }), "{refused}");
        drop(lock);
        let large = size();
        other.writer.remove_run(&other.spec.run_id).await.expect("removed");
        assert_eq!(rows(&other), before);
        assert!(size() * 2 < large, "{} of {large} pages", size());
        let file = std::fs::metadata(other.store.path()).expect("the file").len();
        assert_eq!(file, size() as u64 * 4096, "what is free was given back");
        assert_eq!(other.reader().runs().expect("runs").len(), 1);
        let shared = other.reader().case_everywhere(&case(1).id).expect("rows");
        assert_eq!(shared[0].claim, case(1).claim, "content that another run shares stays");
    }

    #[tokio::test]
    async fn a_run_that_was_completed_since_it_was_looked_for_is_not_swept() {
        let scene = Scene::planned(2, 1).await;
        let before = rows(&scene);
        let conn = scene.store.connect_for_writing().expect("a connection");
        super::sweep_run(&conn, &scene.store, &scene.spec.run_id).expect("swept");
        assert_eq!(rows(&scene), before);
        scene.tamper("UPDATE run SET spec = NULL");
        super::sweep_run(&conn, &scene.store, &scene.spec.run_id).expect("swept");
        assert!(rows(&scene).contains(&("run".to_owned(), 0)), "what nobody completed goes");
    }

    #[tokio::test]
    async fn a_plan_that_is_dropped_leaves_nothing() {
        let scene = Scene::planned(2, 1).await;
        let before = rows(&scene);
        let (writer, spec) = (scene.writer.clone(), spec("20260923-120000-00000b", 5000, 1));
        let error = tokio::task::spawn_blocking(move || {
            let mut planner = writer.plan(&spec.run_id);
            (0..4999).for_each(|seq| planner.add(&case(seq)).expect("a case"));
            planner.finish(&spec).expect_err("a case is missing").to_string()
        });
        let error = error.await.expect("no panic");
        assert!(error.ends_with("it has 4999 cases and its dataset 5000"), "{error}");
        assert_eq!(rows(&scene), before);
    }
}
