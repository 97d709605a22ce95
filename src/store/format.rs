//! The history of the store's format: the tables of the first, and the step from each to the next.
//!
//! A new file goes through the same steps as an old one, so that both have the same tables. A step is never changed
//! after its release.
//!
//! 1. The first.
//! 2. Telemetry of other applications: instrumentation scopes, log records by trace, scores that came with it, the means
//!    of a trace's scores, traces by start, what retention removed.
//! 3. Verdicts on runs, and the runs that baselines hold.

/// The step to each format from the one before; the first makes the tables.
pub(super) const STEPS: [&str; 3] = [FIRST, TELEMETRY, JUDGED];

const FIRST: &str = "
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

const TELEMETRY: &str = "
-- The last trace number given out, and how many transactions there were: who shows the store sees that it changed.
ALTER TABLE counter ADD COLUMN trace INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counter ADD COLUMN changes INTEGER NOT NULL DEFAULT 0;
UPDATE counter SET trace =
    max((SELECT coalesce(max(number), 0) FROM trace), (SELECT coalesce(max(trace), 0) FROM trial));

-- The frame that spans and log records came in: a group of a trace request without resource and spans. last_payload is
-- the last payload that refers to the row; null of resources that only runs have.
CREATE TABLE scope (id INTEGER PRIMARY KEY, body BLOB NOT NULL UNIQUE, last_payload INTEGER);
ALTER TABLE resource ADD COLUMN last_payload INTEGER;
-- Null of what a run recorded itself.
ALTER TABLE payload ADD COLUMN scope INTEGER;

-- rooted: 0 no span yet (log records or scores came first), 1 root is the earliest span so far, 2 root is a span
-- without parent. root_start is where that span begins.
ALTER TABLE trace ADD COLUMN rooted INTEGER NOT NULL DEFAULT 2;
ALTER TABLE trace ADD COLUMN root_start INTEGER;
ALTER TABLE trace ADD COLUMN input_tokens INTEGER;
ALTER TABLE trace ADD COLUMN output_tokens INTEGER;
CREATE INDEX trace_by_start ON trace (start);
CREATE INDEX trace_with_errors ON trace (start) WHERE errors > 0;
CREATE INDEX trace_of_run ON trace (run, start) WHERE run IS NOT NULL;

-- trace is null where the payload holds spans as well: they know their trace.
ALTER TABLE log ADD COLUMN trace INTEGER;
CREATE INDEX log_by_trace ON log (trace) WHERE trace IS NOT NULL;

-- Log records that were taken in, by a hash of what they are and where they come from.
CREATE TABLE log_hash (hash INTEGER PRIMARY KEY, payload INTEGER NOT NULL);
CREATE INDEX log_hash_by_payload ON log_hash (payload);

CREATE TABLE score_name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- Mean of each score of a trace; of a batch since its root is closed.
CREATE TABLE trace_score (
    trace INTEGER NOT NULL,
    name INTEGER NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (trace, name)
) WITHOUT ROWID;
CREATE INDEX trace_score_by_value ON trace_score (name, value);

-- Scores that came with telemetry. key is a hash of what makes a score the same one, however it comes. source:
-- 0 attributes, 1 inline evaluation, 2 span event, 3 log record.
CREATE TABLE external_score (
    trace INTEGER NOT NULL,
    key INTEGER NOT NULL,
    span INTEGER,
    name INTEGER NOT NULL,
    value REAL,
    label TEXT,
    explanation TEXT,
    annotator_kind TEXT,
    identifier TEXT,
    error_type TEXT,
    response_id TEXT,
    source INTEGER NOT NULL,
    judge_trace BLOB,
    judge_span INTEGER,
    PRIMARY KEY (trace, key)
) WITHOUT ROWID;

-- Traces that retention removed, by the number that trials refer to.
CREATE TABLE pruned (
    number INTEGER PRIMARY KEY,
    trace_id BLOB NOT NULL,
    at INTEGER NOT NULL,
    run INTEGER
);
CREATE INDEX pruned_by_id ON pruned (trace_id);
CREATE INDEX pruned_of_run ON pruned (run) WHERE run IS NOT NULL;
ALTER TABLE run ADD COLUMN pruned_spans INTEGER NOT NULL DEFAULT 0;
-- Pruned items that the cursor had passed.
ALTER TABLE outbox ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;

-- The means of the batches that are there already.
CREATE TEMP TABLE evaluator_name AS
    SELECT run.number AS run, each.key AS evaluator, json_extract(each.value, '$.id') AS name
    FROM run, json_each(run.spec, '$.evaluators') AS each WHERE run.spec IS NOT NULL;
INSERT OR IGNORE INTO score_name (name) SELECT DISTINCT name FROM evaluator_name WHERE name IS NOT NULL;
INSERT INTO trace_score
    SELECT span.trace, score_name.id, avg(score.value) FROM span
    JOIN trial ON trial.id = span.trial AND trial.span = span.span_id
    JOIN score ON score.trial = trial.id AND score.state = 0 AND score.value IS NOT NULL
    JOIN evaluator_name ON evaluator_name.run = span.run AND evaluator_name.evaluator = score.evaluator
    JOIN score_name ON score_name.name = evaluator_name.name
    WHERE span.trial IS NOT NULL GROUP BY span.trace, score_name.id;
DROP TABLE evaluator_name;
";

const JUDGED: &str = "
-- The last verdict of a gate on a run; baseline is the digest of what it was judged against, report the gate's document.
CREATE TABLE verdict (run INTEGER PRIMARY KEY, verdict TEXT NOT NULL, baseline TEXT, report TEXT NOT NULL);

-- The runs that a baseline file holds: retention leaves their traces alone.
CREATE TABLE pin (run INTEGER NOT NULL, file TEXT NOT NULL, PRIMARY KEY (run, file)) WITHOUT ROWID;
";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::Connection;

    use crate::model::{Label, Predicted, RunEvent};
    use crate::store::testing::{Scene, batch_root, completed, failed, session_root, trial};
    use crate::store::{Signal, Store, StoreError, schema};

    /// The store's rows in a file of the first format.
    fn as_first_format(store: &Store, dir: &Path) {
        std::fs::create_dir_all(dir).expect("a directory");
        let conn = Connection::open(dir.join("spanscore.db")).expect("a file");
        conn.pragma_update(None, "auto_vacuum", "INCREMENTAL").expect("set");
        conn.pragma_update(None, "journal_mode", "WAL").expect("set");
        conn.execute_batch(super::FIRST).expect("the first tables");
        conn.execute("ATTACH ?1 AS newer", [store.path().to_str().expect("a path")]).expect("attached");
        let tables: Vec<String> = conn
            .prepare("SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
            .and_then(|mut find| find.query_map([], |row| row.get(0))?.collect())
            .expect("tables");
        for table in tables {
            let columns: Vec<String> = conn
                .prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))
                .and_then(|mut find| find.query_map([], |row| row.get(0))?.collect())
                .expect("columns");
            let columns = columns.join(", ");
            let copy = format!(
                "DELETE FROM main.{table}; INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table};"
            );
            conn.execute_batch(&copy).expect(&table);
        }
        conn.pragma_update(Some("main"), "application_id", schema::APPLICATION_ID).expect("set");
        conn.pragma_update(Some("main"), "user_version", 1).expect("set");
    }

    #[tokio::test]
    async fn a_store_of_the_first_format_is_brought_up_to_date_and_says_the_same() {
        let scene = Scene::started(4, 1).await;
        let config = serde_json::json!({});
        scene.writer.register_destination(&scene.spec.run_id, "x", Signal::Traces, &config).await.expect("registered");
        for seq in 0..3 {
            scene.record(trial(seq, 0, 0, completed(Predicted::Label(Label::True)))).await;
        }
        scene.record(trial(3, 0, 0, failed())).await;
        scene.finish().await;
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("store");
        as_first_format(&scene.store, &place);

        let store = Store::open(&place).expect("it is brought up to date");
        let (before, after) = (scene.reader(), store.reader().expect("a reader"));
        let run = after.resolve_run("latest").expect("the run");
        assert_eq!(format!("{run:?}"), format!("{:?}", scene.run()));
        let all = |reader: &crate::store::Reader| reader.traces(None, None, None).expect("traces");
        assert_eq!(all(&after), all(&before));
        assert_eq!(all(&after)[0].scores["label_match"], 1.0 / 3.0, "the means of batches are there");
        assert_eq!(
            format!("{:?}", after.trace("02").expect("a trace")),
            format!("{:?}", before.trace("02").expect("a trace"))
        );
        assert!(after.verify(&run).expect("a verification").is_good());
        assert_eq!(after.span_counts(&run).expect("counts"), before.span_counts(&scene.run()).expect("counts"));

        // It is written on.
        let writer = store.writer().expect("a writer");
        let spec = Box::new(scene.spec.clone());
        let root = Box::new(session_root(9));
        writer.record(RunEvent::SessionStarted { spec, root }).await.expect("a session");
        writer.record(RunEvent::BatchStarted { root: Box::new(batch_root(8)) }).await.expect("a batch");
        assert_eq!(all(&after).len(), 4);
        drop(Store::open(&place).expect("a second time nothing is done"));
    }

    #[tokio::test]
    async fn a_store_in_which_an_older_program_records_is_left_alone() {
        let scene = Scene::started(1, 1).await;
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("store");
        as_first_format(&scene.store, &place);
        std::fs::create_dir_all(place.join("locks")).expect("a directory");
        let lock = crate::store::lock::lock_run(&place, &scene.spec.run_id).expect("the older program's lock");
        let refused = Store::open(&place).expect_err("it is in use");
        assert!(matches!(refused, StoreError::RunInUse { .. }), "{refused}");
        let conn = Connection::open(place.join("spanscore.db")).expect("the file");
        let format: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a number");
        assert_eq!(format, 1);
        drop(lock);
        Store::open(&place).expect("now it is free");
    }
}
