//! Delivery: for each run, destination and signal a cursor over what is stored, and what became of what it passed.
//!
//! `stored = delivered + pending + rejected + not_sampled`, where `stored` and `pending` are counted from the rows. An
//! open span is stored and pending, but is not handed out before it is closed; then it has a new place at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::params;
use serde::Serialize;

use super::bundle::Messages;
use super::error::StoreError;
use super::opened::Origins;
use super::reader::Reader;
use super::rows::RunRow;
use crate::model::{Key, LogRecord, Origin, RunId, Span, Value};
use crate::trace::otlp;

/// What is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
}

impl Signal {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Traces, Self::Logs];

    /// `traces` or `logs`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
        }
    }

    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Traces => 0,
            Self::Logs => 1,
        }
    }

    const fn from_number(number: i64) -> Self {
        if number == 0 { Self::Traces } else { Self::Logs }
    }
}

/// What became of a batch of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The run's number.
    pub run: i64,
    /// The destination's name.
    pub destination: String,
    /// Which signal.
    pub signal: Signal,
    /// [`OutboxBatch::cursor`], or the [`Outgoing::position`] of the last item that is dealt with.
    pub cursor: i64,
    /// Items that the destination has taken.
    pub delivered: u64,
    /// Items that it refused for good.
    pub rejected: u64,
    /// Items that sampling left out.
    pub not_sampled: u64,
    /// Items sent again because an acknowledgement was lost; they are among the delivered, once.
    pub duplicates: u64,
}

/// What is next for a destination, in commit order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OutboxBatch {
    /// Spans, if they were asked for.
    pub spans: Vec<Outgoing<Span>>,
    /// Log records, if they were asked for.
    pub logs: Vec<Outgoing<LogRecord>>,
    /// The origins that items refer to.
    pub origins: Vec<Arc<Origin>>,
    /// What to acknowledge when all of it is dealt with.
    pub cursor: i64,
    /// Whether items beyond it wait for their spans to be delivered to the destination that is followed.
    pub held: bool,
}

impl OutboxBatch {
    /// How many items it has.
    pub fn len(&self) -> usize {
        self.spans.len() + self.logs.len()
    }

    /// Whether nothing is pending that could be delivered now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An item on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing<T> {
    /// The item.
    pub item: T,
    /// Its place in [`OutboxBatch::origins`].
    pub origin: usize,
    /// Its place in the outbox. Log records of one trial share one: acknowledge them together.
    pub position: i64,
}

/// How far a destination is with a run's signal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OutboxCounts {
    /// Items stored, counted from the rows; and those that the destination had dealt with before retention removed them.
    pub stored: u64,
    /// Items that the destination has taken.
    pub delivered: u64,
    /// Items still to come, open spans included, counted from the rows.
    pub pending: u64,
    /// Items that it refused for good.
    pub rejected: u64,
    /// Items that sampling left out, and at a sink of scores those that are no scores.
    pub not_sampled: u64,
    /// Items sent again because an acknowledgement was lost.
    pub duplicates: u64,
}

impl std::ops::AddAssign for OutboxCounts {
    fn add_assign(&mut self, other: Self) {
        self.stored += other.stored;
        self.delivered += other.delivered;
        self.pending += other.pending;
        self.rejected += other.rejected;
        self.not_sampled += other.not_sampled;
        self.duplicates += other.duplicates;
    }
}

/// A run's destination with something pending.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// The run's number.
    pub run: i64,
    /// Its id.
    pub run_id: RunId,
    /// The destination's name.
    pub destination: String,
    /// Which signal.
    pub signal: Signal,
    /// How it was configured when it was registered, without secrets.
    pub config: serde_json::Value,
    /// How far it is.
    pub counts: OutboxCounts,
}

struct Row {
    destination: String,
    signal: Signal,
    config: String,
    cursor: i64,
    counts: OutboxCounts,
}

impl Reader {
    /// The next items for a destination: at most `max`, or one trial's log records if those are more.
    pub fn outbox_batch(
        &self,
        run: i64,
        destination: &str,
        signal: Signal,
        max: usize,
    ) -> Result<OutboxBatch, StoreError> {
        self.outbox_batch_behind(run, destination, signal, max, None, 0)
    }

    /// As [`Self::outbox_batch`], but of log records only those whose trial's spans the destination `follows` has settled; all
    /// of them where the run has no such destination. What lies up to the position `after` is left out, too.
    pub fn outbox_batch_behind(
        &self,
        run: i64,
        destination: &str,
        signal: Signal,
        max: usize,
        follows: Option<&str>,
        after: i64,
    ) -> Result<OutboxBatch, StoreError> {
        let _moment = self.moment()?;
        let or = self.or();
        let rows = self.outbox_rows(run)?;
        let followed =
            rows.iter().find(|row| row.signal == Signal::Traces && Some(row.destination.as_str()) == follows);
        let bound = followed.map(|row| self.first_payload_beyond(run, row.cursor)).transpose()?.flatten();
        let row = rows.into_iter().find(|row| row.destination == destination && row.signal == signal);
        let Some(row) = row else {
            return Err(StoreError::OutOfOrder {
                what: format!("a delivery to `{destination}`"),
                reason: "the run has no such destination".to_owned(),
            });
        };
        let mut batch = OutboxBatch { cursor: row.cursor, ..OutboxBatch::default() };
        let (first, end) = self.range(run, signal)?;
        let from = first.max(row.cursor.max(after).saturating_add(1));
        let last = bound.map_or(end, |bound| end.min(bound - 1));
        batch.held = last < end && self.stored(run, signal, last.max(row.cursor))? > 0;
        let sql = match signal {
            Signal::Traces => {
                "SELECT span.id, slot, payload, resource, scope, body FROM span JOIN payload ON payload.id = span.payload
                 WHERE span.run = ?1 AND span.id BETWEEN ?2 AND ?3 AND end IS NOT NULL ORDER BY span.id LIMIT ?4"
            }
            Signal::Logs => {
                "SELECT payload, records, payload, resource, scope, body FROM log JOIN payload ON payload.id = log.payload
                 WHERE log.run = ?1 AND log.payload BETWEEN ?2 AND ?3 ORDER BY log.payload LIMIT ?4"
            }
        };
        let mut origins = Origins::default();
        let mut statement = self.conn.prepare_cached(sql).map_err(&or)?;
        let mut rows = statement.query(params![run, from, last, max.max(1) as i64]).map_err(&or)?;
        // Spans of one trial share a payload: it is unpacked once.
        let mut unpacked: Option<(i64, Vec<u8>)> = None;
        while let Some(row) = rows.next().map_err(&or)? {
            let (position, slot_or_records, payload): (i64, i64, i64) =
                (row.get(0).map_err(&or)?, row.get(1).map_err(&or)?, row.get(2).map_err(&or)?);
            let (resource, scope) = (row.get(3).map_err(&or)?, row.get(4).map_err(&or)?);
            let content = match &mut unpacked {
                Some((number, content)) if *number == payload => &*content,
                unpacked => {
                    let blob = row.get_ref(5).and_then(|b| Ok(b.as_blob()?)).map_err(&or)?;
                    let content = self.unpack("a payload", blob, |content| Ok(content.to_vec()))?;
                    &unpacked.insert((payload, content)).1
                }
            };
            let messages = Messages::split(content)?;
            let origin = origins.place(self, resource, scope)?;
            match signal {
                Signal::Traces => {
                    let item = messages.span(slot_or_records as usize)?;
                    batch.spans.push(Outgoing { item, origin, position });
                }
                Signal::Logs => {
                    if !batch.logs.is_empty() && batch.logs.len() + messages.logs.len() > max {
                        break;
                    }
                    for bytes in messages.logs {
                        let item = otlp::read_log(bytes).map_err(|e| StoreError::damaged("a log record", e))?;
                        batch.logs.push(Outgoing { item, origin, position });
                    }
                }
            }
            batch.cursor = position;
        }
        drop(rows);
        drop(statement);
        batch.origins = origins.into_found();
        Ok(batch)
    }

    /// How far each destination of a run is, by name; what it has of traces and logs is added up.
    pub fn outbox_counts(&self, run: &RunRow) -> Result<BTreeMap<String, OutboxCounts>, StoreError> {
        let _moment = self.moment()?;
        let mut by_name: BTreeMap<String, OutboxCounts> = BTreeMap::new();
        for row in self.outbox_rows(run.number)? {
            let counts = self.count(run.number, &row)?;
            *by_name.entry(row.destination).or_default() += counts;
        }
        Ok(by_name)
    }

    /// How far each destination of a run is with its spans, by name.
    pub fn span_counts(&self, run: &RunRow) -> Result<BTreeMap<String, OutboxCounts>, StoreError> {
        let _moment = self.moment()?;
        let rows = self.outbox_rows(run.number)?.into_iter().filter(|row| row.signal == Signal::Traces);
        rows.map(|row| Ok((row.destination.clone(), self.count(run.number, &row)?))).collect()
    }

    /// How far each destination is that takes a run's log records and no spans, by name: those that keep scores.
    pub fn score_counts(&self, run: &RunRow) -> Result<BTreeMap<String, OutboxCounts>, StoreError> {
        let _moment = self.moment()?;
        let rows = self.outbox_rows(run.number)?;
        let takes_spans = |name: &str| rows.iter().any(|row| row.destination == name && row.signal == Signal::Traces);
        let scores = rows.iter().filter(|row| row.signal == Signal::Logs && !takes_spans(&row.destination));
        scores.map(|row| Ok((row.destination.clone(), self.count(run.number, row)?))).collect()
    }

    /// Every run, destination and signal with something pending, oldest run first.
    pub fn pending_everywhere(&self) -> Result<Vec<Pending>, StoreError> {
        let _moment = self.moment()?;
        let or = self.or();
        let runs: Vec<(i64, String)> = self
            .conn
            .prepare("SELECT number, run_id FROM run WHERE spec IS NOT NULL ORDER BY started, number")
            .and_then(|mut find| find.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(or)?;
        let mut pending = Vec::new();
        for (run, run_id) in runs {
            for row in self.outbox_rows(run)? {
                let counts = self.count(run, &row)?;
                if counts.pending > 0 {
                    pending.push(Pending {
                        run,
                        run_id: RunId::parse(run_id.clone()).map_err(|e| StoreError::damaged("a run", e))?,
                        destination: row.destination,
                        signal: row.signal,
                        config: serde_json::from_str(&row.config)
                            .map_err(|e| StoreError::damaged("the configuration of a destination", e))?,
                        counts,
                    });
                }
            }
        }
        Ok(pending)
    }

    /// Spans of a run, really counted.
    pub fn spans_stored(&self, run: &RunRow) -> Result<u64, StoreError> {
        self.stored(run.number, Signal::Traces, i64::MIN)
    }

    /// The attributes of a resource.
    pub(super) fn resource(&self, id: Option<i64>) -> Result<Vec<(Key, Value)>, StoreError> {
        let Some(id) = id else { return Ok(Vec::new()) };
        let body: Vec<u8> = self
            .conn
            .prepare_cached("SELECT body FROM resource WHERE id = ?1")
            .and_then(|mut find| find.query_row([id], |row| row.get(0)))
            .map_err(self.or())?;
        otlp::read_resource(&body).map_err(|e| StoreError::damaged("a resource", e))
    }

    fn outbox_rows(&self, run: i64) -> Result<Vec<Row>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT destination, signal, config, cursor, delivered, rejected, not_sampled, duplicates, pruned
                 FROM outbox WHERE run = ?1 ORDER BY destination, signal",
            )
            .and_then(|mut find| {
                find.query_map([run], |row| {
                    let count = |column: usize| row.get::<_, i64>(column).map(|n| n as u64);
                    Ok(Row {
                        destination: row.get(0)?,
                        signal: Signal::from_number(row.get(1)?),
                        config: row.get(2)?,
                        cursor: row.get(3)?,
                        counts: OutboxCounts {
                            delivered: count(4)?,
                            rejected: count(5)?,
                            not_sampled: count(6)?,
                            duplicates: count(7)?,
                            // Those that are gone, for a start.
                            stored: count(8)?,
                            ..OutboxCounts::default()
                        },
                    })
                })?
                .collect()
            })
            .map_err(self.or())
    }

    fn count(&self, run: i64, row: &Row) -> Result<OutboxCounts, StoreError> {
        let mut counts = row.counts.clone();
        counts.stored += self.stored(run, row.signal, i64::MIN)?;
        counts.pending = self.stored(run, row.signal, row.cursor)?;
        if row.signal == Signal::Traces {
            // Open spans that the cursor has passed: they come again at the end.
            let open: i64 = self
                .conn
                .prepare_cached("SELECT count(*) FROM span WHERE run = ?1 AND end IS NULL AND id <= ?2")
                .and_then(|mut count| count.query_row([run, row.cursor], |row| row.get(0)))
                .map_err(self.or())?;
            counts.pending += open as u64;
        }
        Ok(counts)
    }

    /// The first payload with an ended span of the run beyond a cursor over spans.
    fn first_payload_beyond(&self, run: i64, cursor: i64) -> Result<Option<i64>, StoreError> {
        let (first, last) = self.range(run, Signal::Traces)?;
        self.conn
            .prepare_cached("SELECT min(payload) FROM span WHERE run = ?1 AND id BETWEEN ?2 AND ?3 AND end IS NOT NULL")
            .and_then(|mut find| {
                find.query_row(params![run, first.max(cursor.saturating_add(1)), last], |row| row.get(0))
            })
            .map_err(self.or())
    }

    /// Items of a run beyond a cursor.
    fn stored(&self, run: i64, signal: Signal, cursor: i64) -> Result<u64, StoreError> {
        let (first, last) = self.range(run, signal)?;
        let sql = match signal {
            Signal::Traces => "SELECT count(*) FROM span WHERE run = ?1 AND id BETWEEN ?2 AND ?3",
            Signal::Logs => "SELECT coalesce(sum(records), 0) FROM log WHERE run = ?1 AND payload BETWEEN ?2 AND ?3",
        };
        let count: i64 = self
            .conn
            .prepare_cached(sql)
            .and_then(|mut count| count.query_row([run, first.max(cursor.saturating_add(1)), last], |row| row.get(0)))
            .map_err(self.or())?;
        Ok(count as u64)
    }

    /// The first and last row that can be the run's.
    fn range(&self, run: i64, signal: Signal) -> Result<(i64, i64), StoreError> {
        let sql = match signal {
            Signal::Traces => "SELECT coalesce(first_span, 1), coalesce(last_span, 0) FROM run WHERE number = ?1",
            Signal::Logs => "SELECT coalesce(first_payload, 1), coalesce(last_payload, 0) FROM run WHERE number = ?1",
        };
        self.conn
            .prepare_cached(sql)
            .and_then(|mut find| find.query_row([run], |row| Ok((row.get(0)?, row.get(1)?))))
            .map_err(self.or())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Label, Predicted, RunEvent};
    use crate::store::testing::{Scene, batch_root, completed, trial};

    fn counts(scene: &Scene) -> OutboxCounts {
        let counts = scene.reader().span_counts(&scene.run()).expect("counts").remove("jaeger").expect("jaeger");
        assert_eq!(counts.stored, counts.delivered + counts.pending + counts.rejected + counts.not_sampled);
        counts
    }

    async fn ack(scene: &Scene, signal: Signal, cursor: i64, [delivered, rejected, not_sampled]: [u64; 3]) {
        let (run, destination) = (scene.run().number, "jaeger".to_owned());
        let ack = Ack { run, destination, signal, cursor, delivered, rejected, not_sampled, duplicates: 0 };
        scene.writer.acknowledge(ack).await.expect("acknowledged");
    }

    async fn register(scene: &Scene, signal: Signal) {
        let config = serde_json::json!({ "endpoint": "http://127.0.0.1:4318" });
        scene.writer.register_destination(&scene.spec.run_id, "jaeger", signal, &config).await.expect("registered");
    }

    #[tokio::test]
    async fn spans_are_handed_out_in_order_and_open_ones_when_they_close() {
        let scene = Scene::started(4, 1).await;
        register(&scene, Signal::Traces).await;
        for seq in 0..2 {
            scene.record(trial(seq, 0, 0, completed(Predicted::Label(Label::True)))).await;
        }
        let run = scene.run().number;
        let batch = |max| scene.reader().outbox_batch(run, "jaeger", Signal::Traces, max).expect("a batch");
        assert_eq!((counts(&scene).stored, counts(&scene).pending), (6, 6), "two open roots among them");
        let first = batch(3);
        let names = |batch: &OutboxBatch| batch.spans.iter().map(|s| s.item.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&first), ["chat lexical-baseline", "assess_claim", "chat lexical-baseline"]);
        assert_eq!(format!("{:?}", first.origins[0].resource), format!("{:?}", scene.spec.resource));
        ack(&scene, Signal::Traces, first.cursor, [1, 1, 1]).await;
        assert_eq!(names(&batch(9)), ["assess_claim"]);
        ack(&scene, Signal::Traces, batch(9).cursor, [1, 0, 0]).await;
        assert!(batch(9).is_empty());
        assert_eq!(counts(&scene).pending, 2);
        scene.finish().await;
        assert_eq!(names(&batch(9)), ["assess_claims_with_context", "evaluation_run"]);
        assert!(batch(9).spans.iter().all(|span| !span.item.is_open()));
        ack(&scene, Signal::Traces, batch(9).cursor, [2, 0, 0]).await;
        let counts = counts(&scene);
        assert_eq!((counts.delivered, counts.rejected, counts.not_sampled, counts.pending), (4, 1, 1, 0));
    }

    #[tokio::test]
    async fn the_newest_span_is_not_lost_when_it_was_open() {
        let scene = Scene::started(1, 1).await;
        register(&scene, Signal::Traces).await;
        scene.record(trial(0, 0, 0, completed(Predicted::Unparseable))).await;
        scene.record(RunEvent::BatchStarted { root: Box::new(batch_root(3)) }).await;
        let run = scene.run().number;
        let batch = || scene.reader().outbox_batch(run, "jaeger", Signal::Traces, 99).expect("a batch");
        ack(&scene, Signal::Traces, batch().cursor, [2, 0, 0]).await;
        let ended = Box::new(crate::store::testing::ended(batch_root(3), 5));
        scene.record(RunEvent::BatchFinished { root: ended }).await;
        assert_eq!(batch().len(), 1);
    }

    #[tokio::test]
    async fn a_destination_registered_late_gets_everything() {
        let scene = Scene::started(3, 1).await;
        for seq in 0..3 {
            scene.record(trial(seq, 0, 0, completed(Predicted::Label(Label::Nee)))).await;
        }
        scene.finish().await;
        assert!(scene.reader().pending_everywhere().expect("a list").is_empty());
        register(&scene, Signal::Traces).await;
        register(&scene, Signal::Logs).await;
        let pending = scene.reader().pending_everywhere().expect("a list");
        let seen: Vec<_> = pending.iter().map(|p| (p.signal, p.counts.pending)).collect();
        assert_eq!(seen, [(Signal::Traces, 8), (Signal::Logs, 6)]);
        assert_eq!(pending[0].config["endpoint"], "http://127.0.0.1:4318");

        // Records of one trial stay together.
        let run = scene.run().number;
        let batch = || scene.reader().outbox_batch(run, "jaeger", Signal::Logs, 3).expect("a batch");
        assert_eq!(batch().logs.len(), 2);
        let mut delivered = 0;
        while !batch().is_empty() {
            delivered += batch().len() as u64;
            ack(&scene, Signal::Logs, batch().cursor, [2, 0, 0]).await;
        }
        assert_eq!(delivered, 6);
        let all = scene.reader().outbox_counts(&scene.run()).expect("counts").remove("jaeger").expect("jaeger");
        assert_eq!((all.stored, all.delivered, all.pending), (14, 6, 8));
    }

    #[tokio::test]
    async fn log_records_that_follow_spans_wait_until_those_are_settled() {
        let scene = Scene::started(3, 1).await;
        let config = serde_json::Value::Null;
        scene.writer.register_destination(&scene.spec.run_id, "sink", Signal::Logs, &config).await.expect("registered");
        for seq in 0..2 {
            scene.record(trial(seq, 0, 0, completed(Predicted::Label(Label::True)))).await;
        }
        let run = scene.run().number;
        let behind =
            || scene.reader().outbox_batch_behind(run, "sink", Signal::Logs, 99, Some("jaeger"), 0).expect("a batch");
        assert_eq!((behind().len(), behind().held), (4, false), "nobody to wait for");
        let on = scene.reader().outbox_batch_behind(run, "sink", Signal::Logs, 99, None, behind().logs[0].position);
        assert_eq!(on.expect("a batch").logs, behind().logs[2..], "read on beyond the first trial");
        register(&scene, Signal::Traces).await;
        assert_eq!((behind().len(), behind().held), (0, true));
        // Two spans a trial; half a trial is not enough.
        let spans = |max| scene.reader().outbox_batch(run, "jaeger", Signal::Traces, max).expect("a batch");
        ack(&scene, Signal::Traces, spans(1).cursor, [1, 0, 0]).await;
        assert_eq!((behind().len(), behind().held), (0, true));
        ack(&scene, Signal::Traces, spans(1).cursor, [1, 0, 0]).await;
        assert_eq!((behind().len(), behind().held), (2, true));
        ack(&scene, Signal::Traces, spans(9).cursor, [2, 0, 0]).await;
        assert_eq!((behind().len(), behind().held), (4, false), "open roots hold nothing up");
        let scores = scene.reader().score_counts(&scene.run()).expect("counts");
        assert_eq!(
            scores.into_iter().map(|(name, counts)| (name, counts.pending)).collect::<Vec<_>>(),
            [("sink".into(), 4)]
        );
        scene.writer.restart_delivery(&scene.spec.run_id, "jaeger").await.expect("restarted");
        assert_eq!((counts(&scene).delivered, counts(&scene).pending, behind().len()), (0, 6, 0));
    }

    #[tokio::test]
    async fn a_destination_that_is_not_registered_is_an_error() {
        let scene = Scene::started(1, 1).await;
        let error = scene.reader().outbox_batch(1, "nowhere", Signal::Logs, 1).expect_err("unknown");
        assert!(error.to_string().contains("`nowhere`"), "{error}");
    }
}
