//! The one writer thread and its handle: a bounded queue, and a commit for everything that waits in it.
//!
//! Events are encoded and compressed in the task that records them ([`super::bundle`]); the thread binds the result to
//! prepared statements ([`super::apply`]). It takes what is waiting, at most [`GROUP`] steps, into one transaction and
//! answers all of them after the commit: the busier the run, the more trials share one wait for the disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::apply::{Applier, Done, Work};
use super::bundle::{Bundle, TrialRow};
use super::error::{Attempt, StoreError};
use super::open::Store;
use super::outbox::{Ack, Signal};
use super::plan::Planner;
use super::{lock, remove};
use crate::model::{EvaluatorId, RunEvent, RunId};

/// The most steps that share a transaction.
const GROUP: usize = 512;

/// With fewer steps of trials than this at hand, the thread waits a moment for more.
const ENOUGH: usize = 24;

/// That moment. Each commit writes the last page of every table again, so that a few trials more per commit save much; a
/// model call takes far longer.
const LINGER: Duration = Duration::from_micros(250);

/// With this many spans and log records of applications a transaction is full: others wait for the disk, too.
const HEAVY: usize = 8192;

/// How many steps may wait. More than a group, so that the next one gathers while one is committed.
const QUEUE: usize = 2 * GROUP;

pub(super) type Answer = Result<Done, StoreError>;

/// What the thread is asked to do.
pub(super) enum Job {
    /// Within a transaction that it may share.
    Work(Work, oneshot::Sender<Answer>),
    /// Give some free pages back to the file system; answers `More` while there are others.
    Vacuum(oneshot::Sender<Answer>),
    /// Move the write-ahead log into the database file and end.
    Close(oneshot::Sender<Answer>),
}

/// Records what happens: a handle to one thread. Clones share the thread and its session.
///
/// A writer records one session at a time: `SessionStarted` says which run the events after it belong to.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Job>,
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    /// The evaluators of the session's run, in its order.
    evaluators: Mutex<Arc<[EvaluatorId]>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(conn: Connection, store: Store) -> Result<Self, StoreError> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let attempt = Attempt::new("writing to", store.path());
        let dictionary = store.dictionary();
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(&conn, dictionary, &attempt, jobs))
            .map_err(|e| lock::cannot("starting the writer of", store.path(), &e))?;
        let shared = Shared { store, evaluators: Mutex::new(Arc::from([])), thread: Mutex::new(Some(thread)) };
        Ok(Self { queue, shared: Arc::new(shared) })
    }

    /// Records an event; returns when it is on disk.
    ///
    /// A trial's outcome, scores, spans and log records are one transaction. It replaces a failed or skipped outcome
    /// of the same trial (whose spans stay, for they happened), never a completed one.
    pub async fn record(&self, event: RunEvent) -> Result<(), StoreError> {
        self.submit(event).await?.await
    }

    /// Hands an event over: what is submitted later is recorded later. The future it returns resolves when the event
    /// is on disk; dropping it takes nothing back.
    pub async fn submit(
        &self,
        event: RunEvent,
    ) -> Result<impl Future<Output = Result<(), StoreError>> + Send + use<>, StoreError> {
        let work = self.encode(event)?;
        let (answer, answered) = oneshot::channel();
        self.queue.send(Job::Work(work, answer)).await.map_err(|_| StoreError::Closed)?;
        Ok(async move { answered.await.map_err(|_| StoreError::Closed)?.map(drop) })
    }

    /// Plans a run: hands the cases of its dataset to the store before its first session.
    pub fn plan(&self, run_id: &RunId) -> Planner {
        Planner::new(self.clone(), self.shared.store.clone(), run_id.clone())
    }

    /// Notes that a run's spans or log records go to a destination; all that is stored of them is pending then.
    ///
    /// `config` says how to reach it again, without secrets. Registering anew keeps what is known and updates `config`.
    pub async fn register_destination(
        &self,
        run_id: &RunId,
        destination: &str,
        signal: Signal,
        config: &serde_json::Value,
    ) -> Result<(), StoreError> {
        let destination = destination.to_owned();
        let config = config.to_string();
        self.ask(Work::Register { run_id: run_id.clone(), destination, signal, config }).await.map(drop)
    }

    /// Forgets what became of a run at a destination: all that is stored of it is pending there again.
    pub async fn restart_delivery(&self, run_id: &RunId, destination: &str) -> Result<(), StoreError> {
        let destination = destination.to_owned();
        self.ask(Work::Restart { run_id: run_id.clone(), destination }).await.map(drop)
    }

    /// Notes what became of a batch of the outbox.
    pub async fn acknowledge(&self, ack: Ack) -> Result<(), StoreError> {
        self.ask(Work::Acknowledge(ack)).await.map(drop)
    }

    /// Sets tags of a run; an empty value removes one.
    pub async fn set_tags(&self, run_id: &RunId, tags: BTreeMap<String, String>) -> Result<(), StoreError> {
        self.ask(Work::SetTags { run_id: run_id.clone(), tags }).await.map(drop)
    }

    /// Closes the spans that a killed session of the run left open, with status ERROR `interrupted`, as resuming it
    /// would, so that they can be delivered. A run that is live keeps its spans and gives [`StoreError::RunInUse`].
    pub async fn close_interrupted(&self, run_id: &RunId) -> Result<(), StoreError> {
        let _lock = self.shared.store.lock_run(run_id)?;
        self.ask(Work::CloseInterrupted(run_id.clone())).await.map(drop)
    }

    /// Removes a run with all that belongs to it alone, and gives the space back. A run that is live is refused.
    ///
    /// Killed in the middle, the run is gone for every reader and the next opening removes the rest.
    pub async fn remove_run(&self, run_id: &RunId) -> Result<(), StoreError> {
        let lock = self.shared.store.lock_run(run_id)?;
        while let Done::More = self.ask(Work::RemoveStep(run_id.clone())).await? {}
        self.vacuum().await?;
        lock::forget(self.shared.store.dir(), run_id);
        drop(lock);
        Ok(())
    }

    /// Gives the free pages of the file back, in steps between which others write.
    pub(super) async fn vacuum(&self) -> Result<(), StoreError> {
        while let Done::More = self.send(Job::Vacuum).await? {}
        Ok(())
    }

    /// Commits what waits, moves the write-ahead log into the database file and ends the thread, for all handles.
    pub async fn close(self) -> Result<(), StoreError> {
        let answer = self.send(Job::Close).await;
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It has answered, so that this wait is short.
            let _ = thread.join();
        }
        answer.map(drop)
    }

    pub(super) fn dictionary(&self) -> u32 {
        self.shared.store.dictionary()
    }

    pub(super) fn store(&self) -> &Store {
        &self.shared.store
    }

    pub(super) async fn ask(&self, work: Work) -> Answer {
        self.send(|answer| Job::Work(work, answer)).await
    }

    async fn send(&self, job: impl FnOnce(oneshot::Sender<Answer>) -> Job) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.queue.send(job(answer)).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Queues work from a thread that may block.
    pub(super) fn queue_blocking(&self, work: Work) -> Result<oneshot::Receiver<Answer>, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.blocking_send(Job::Work(work, answer)).map_err(|_| StoreError::Closed)?;
        Ok(answered)
    }

    fn encode(&self, event: RunEvent) -> Result<Work, StoreError> {
        let dictionary = self.shared.store.dictionary();
        let root = |root: Box<crate::model::Span>| Bundle::encode(dictionary, vec![*root], &[]);
        Ok(match event {
            RunEvent::SessionStarted { spec, root: span } => {
                let evaluators: Arc<[EvaluatorId]> = spec.evaluators.iter().map(|e| e.id.clone()).collect();
                *self.shared.evaluators.lock().unwrap_or_else(PoisonError::into_inner) = evaluators;
                Work::SessionStarted { spec, root: root(span) }
            }
            RunEvent::BatchStarted { root: span } => Work::BatchStarted { root: root(span) },
            RunEvent::TrialFinished { trial, spans, logs } => {
                let evaluators = Arc::clone(&self.shared.evaluators.lock().unwrap_or_else(PoisonError::into_inner));
                Work::Trial {
                    bundle: Bundle::encode(dictionary, spans, &logs),
                    trial: Box::new(TrialRow::encode(dictionary, *trial, &evaluators)?),
                }
            }
            RunEvent::BatchFinished { root } => Work::BatchFinished { root: Bundle::encode_batch(dictionary, *root) },
            RunEvent::SessionFinished { status, root: span, ended_unix_nano } => {
                Work::SessionFinished { status, root: root(span), ended: ended_unix_nano as i64 }
            }
        })
    }
}

/// The thread: groups, commits, answers, until every handle is gone.
fn run(conn: &Connection, dictionary: u32, attempt: &Attempt, mut jobs: mpsc::Receiver<Job>) {
    let mut applier = Applier::new(conn, dictionary, attempt.clone());
    // Once set, nothing is written any more: the record of paid work must not have holes that nobody noticed.
    let mut broken: Option<StoreError> = None;
    let mut waiting = Vec::with_capacity(GROUP);
    while jobs.blocking_recv_many(&mut waiting, GROUP) > 0 {
        let trials = waiting.iter().all(|job| matches!(job, Job::Work(work, _) if work.is_of_trial()));
        if trials && waiting.len() < ENOUGH {
            std::thread::sleep(LINGER);
            while waiting.len() < GROUP
                && let Ok(job) = jobs.try_recv()
            {
                waiting.push(job);
            }
        }
        let mut group = Vec::with_capacity(waiting.len());
        let mut weight = 0;
        for job in waiting.drain(..) {
            match job {
                Job::Work(work, answer) => {
                    weight += work.weight().min(HEAVY);
                    group.push((work, answer));
                    if weight >= HEAVY {
                        weight = 0;
                        commit(&mut applier, &mut broken, std::mem::take(&mut group));
                    }
                }
                Job::Vacuum(answer) => {
                    commit(&mut applier, &mut broken, std::mem::take(&mut group));
                    let vacuumed = remove::vacuum(conn).map_err(|e| attempt.failed(e));
                    let done = |more| if more { Done::More } else { Done::Nothing };
                    let _ = answer.send(broken.clone().map_or(vacuumed.map(done), Err));
                }
                Job::Close(answer) => {
                    commit(&mut applier, &mut broken, std::mem::take(&mut group));
                    // Readers may keep the log from being emptied: then the next checkpoint does it.
                    let _ = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
                    let _ = answer.send(broken.clone().map_or(Ok(Done::Nothing), Err));
                    return;
                }
            }
        }
        commit(&mut applier, &mut broken, group);
    }
}

/// One transaction for all; if it fails, one for each, so that one bad step cannot take others with it.
fn commit(applier: &mut Applier<'_>, broken: &mut Option<StoreError>, group: Vec<(Work, oneshot::Sender<Answer>)>) {
    if group.is_empty() {
        return;
    }
    // Applications send again what was not taken, so that there the next step may try its luck.
    let together = match broken {
        Some(error) if !group.iter().all(|(work, _)| work.may_come_again()) => Err(error.clone()),
        _ => applier.transact(group.iter().map(|(work, _)| work)),
    };
    let alone = group.len() == 1;
    match together {
        Ok(done) => {
            for ((_, answer), done) in group.into_iter().zip(done) {
                let _ = answer.send(Ok(done));
            }
        }
        // Each step alone would wait as long again for the other process.
        Err(error) if alone || error.is_fatal() || broken.is_some() || matches!(error, StoreError::Busy { .. }) => {
            if error.is_fatal() {
                *broken = Some(error.clone());
            }
            for (_, answer) in group {
                let _ = answer.send(Err(error.clone()));
            }
        }
        Err(_) => {
            for step in group {
                commit(applier, broken, vec![step]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Label, Outcome, Predicted, RunStatus, Status};
    use crate::store::testing::{
        START, Scene, batch_root, completed, ended, failed, plan, session_root, spec, trace_id, trial,
    };

    const RIGHT: Outcome = Outcome::Completed { predicted: Predicted::Label(Label::True) };

    #[tokio::test]
    async fn what_is_recorded_reads_back() {
        let scene = Scene::started(3, 1).await;
        scene.record(trial(0, 0, 0, RIGHT)).await;
        scene.record(trial(1, 0, 0, completed(Predicted::Unparseable))).await;
        scene.record(trial(2, 0, 0, failed())).await;
        scene.finish().await;
        let (reader, run) = (scene.reader(), scene.run());
        assert_eq!(format!("{:?}", run.spec), format!("{:?}", scene.spec), "NaN and bytes of the resource included");
        assert_eq!(run.status, RunStatus::Completed);
        assert_eq!((run.ended_unix_nano, run.active_ns, run.spans_created), (Some(START + 1000), 1000, 8));
        assert_eq!((run.counts.completed, run.counts.failed, run.counts.skipped), (2, 1, 0));
        assert_eq!(reader.spans_stored(&run).expect("a count"), 8);

        let rows = reader.cases(&run, None, None, None).expect("cases");
        let seen: Vec<_> = rows.iter().map(|row| row.key.seq).collect();
        assert_eq!(seen, [2, 1, 0], "failed, unparseable, right");
        let event = |n: usize| match trial(n as u64, 0, 0, rows[2 - n].outcome.clone().expect("recorded")) {
            RunEvent::TrialFinished { trial, .. } => trial,
            other => panic!("{other:?}"),
        };
        for n in 0..3 {
            let (row, trial) = (&rows[2 - n], event(n));
            assert_eq!(Some(&trial.outcome), row.outcome.as_ref());
            assert_eq!((&trial.raw_output, &trial.response_id), (&row.raw_output, &row.response_id));
            assert_eq!((trial.usage, trial.cost_usd, trial.attempts), (row.usage, row.cost_usd, row.attempts));
            assert_eq!((Some(trial.trace_id), Some(trial.span_id)), (row.trace_id, row.span_id));
            for score in &trial.scores {
                assert_eq!(Some(&score.evaluation), row.scores.get(&score.evaluator));
            }
            let case = crate::store::testing::case(n as u64);
            assert_eq!((&case.claim, &case.context, &case.columns), (&row.claim, &row.context, &row.columns));
            assert_eq!((case.expected, &case.group), (row.expected, &row.group));
        }
    }

    #[tokio::test]
    async fn a_group_of_trials_shares_a_commit_and_one_bad_event_fails_alone() {
        let scene = Scene::started(100, 1).await;
        scene.record(trial(7, 0, 0, RIGHT)).await;
        let all = futures::future::join_all((0..100).map(|seq| scene.writer.record(trial(seq, 0, 0, RIGHT)))).await;
        let errors: Vec<_> = all.iter().filter_map(|result| result.as_ref().err()).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(matches!(errors[0], StoreError::AlreadyCompleted { .. }), "{}", errors[0]);
        assert_eq!(scene.run().counts.completed, 100);
        assert_eq!(scene.reader().spans_stored(&scene.run()).expect("a count"), 202, "nothing of the bad event stays");
    }

    #[tokio::test]
    async fn a_failed_or_skipped_outcome_is_replaced_and_a_completed_one_never() {
        let scene = Scene::started(1, 1).await;
        let counts = || {
            let counts = scene.run().counts;
            (counts.completed, counts.failed, counts.skipped)
        };
        scene.record(trial(0, 0, 0, Outcome::Skipped { reason: "budget".to_owned() })).await;
        assert_eq!(counts(), (0, 0, 1));
        scene.record(trial(0, 0, 1, failed())).await;
        assert_eq!(counts(), (0, 1, 0));
        scene.record(trial(0, 0, 2, RIGHT)).await;
        assert_eq!(counts(), (1, 0, 0));
        let error = scene.writer.record(trial(0, 0, 3, failed())).await.expect_err("it is completed");
        assert_eq!(
            error.to_string(),
            "recording case \"case-0\", repeat 0: it is completed already; a completed trial is never replaced"
        );
        let row = scene.reader().cases(&scene.run(), None, None, None).expect("cases").remove(0);
        assert_eq!((row.attempts, row.scores.len()), (3, 2), "the scores are the last outcome's");
        let run = scene.run();
        assert_eq!((run.spans_created, scene.reader().spans_stored(&run).expect("a count")), (8, 8));
        let verification = scene.reader().verify(&run).expect("a verification");
        assert!(verification.is_good(), "{verification:?}");
    }

    #[tokio::test]
    async fn events_that_do_not_fit_are_refused() {
        let scene = Scene::planned(1, 1).await;
        let refused = async |event: RunEvent| scene.writer.record(event).await.expect_err("refused").to_string();
        let before = refused(RunEvent::BatchStarted { root: Box::new(batch_root(2)) }).await;
        assert_eq!(before, "recording an event: no session of a run has started");
        scene.start_session(1).await;
        let rootless = refused(trial(0, 0, 0, RIGHT)).await;
        assert!(rootless.ends_with("the root of that trace is not recorded"), "{rootless}");
        let root = || Box::new(batch_root(2));
        scene.record(RunEvent::BatchStarted { root: root() }).await;
        let twice = refused(RunEvent::BatchStarted { root: root() }).await;
        assert!(twice.ends_with("a trace of that id is recorded already"), "{twice}");
        let open = refused(RunEvent::BatchFinished { root: root() }).await;
        assert!(open.ends_with("it has no end"), "{open}");
        scene.record(RunEvent::BatchFinished { root: Box::new(ended(batch_root(2), 9)) }).await;
        let closed = refused(RunEvent::BatchFinished { root: Box::new(ended(batch_root(2), 9)) }).await;
        assert!(closed.ends_with("no such span is open"), "{closed}");
    }

    #[tokio::test]
    async fn resuming_closes_what_a_killed_session_left_open() {
        let scene = Scene::started(2, 1).await;
        scene.record(trial(0, 0, 0, RIGHT)).await;
        scene.record(RunEvent::BatchStarted { root: Box::new(batch_root(3)) }).await;
        // Killed here: another process goes on.
        let writer = scene.store.writer().expect("a second writer");
        let mut spec = Box::new(scene.spec.clone());
        spec.model = "another".to_owned();
        writer
            .record(RunEvent::SessionStarted { spec, root: Box::new(session_root(4)) })
            .await
            .expect("a second session");
        assert_eq!(scene.run().spec.model, "another");
        let (reader, run) = (scene.reader(), scene.run());
        assert_eq!((run.status, run.spans_created), (RunStatus::Running, 6));
        assert_eq!(reader.spans_stored(&run).expect("a count"), 6);
        let root = |n: u8| {
            let trace = reader.trace(&trace_id(n).to_string()).expect("the trace");
            assert_eq!(trace.row.operations as usize, trace.spans.len());
            assert_eq!(trace.row.errors, 1);
            let root = trace.spans.iter().find(|span| span.parent_span_id.is_none()).expect("a root").clone();
            assert_eq!(root.status, Status::Error("interrupted".to_owned()));
            root.end_unix_nano - START
        };
        assert_eq!(root(2), 16, "where its last trial ended");
        assert_eq!(root(3), 1, "no child: where it began");
        assert_eq!(root(1), 16, "the session ends with its last span");
        assert_eq!(run.active_ns, 16, "the killed session's time counts up to its last sign of life");
        writer.record(RunEvent::BatchStarted { root: Box::new(batch_root(5)) }).await.expect("a batch");
        writer
            .record(RunEvent::SessionFinished {
                status: RunStatus::Interrupted,
                root: Box::new(ended(session_root(4), 100)),
                ended_unix_nano: START + 100,
            })
            .await
            .expect("the end");
        let run = scene.run();
        assert_eq!((run.active_ns, run.status), (116, RunStatus::Interrupted));
        assert_eq!(scene.tamper("DELETE FROM span WHERE end IS NULL"), 0, "no span stays open");
    }

    #[tokio::test]
    async fn a_full_disk_stops_the_writer_and_leaves_whole_trials() {
        let scene = Scene::started(4000, 1).await;
        scene.record(trial(0, 0, 0, RIGHT)).await;
        let conn = scene.store.connect_for_writing().expect("a connection");
        let pages: i64 = conn.pragma_query_value(None, "page_count", |row| row.get(0)).expect("a count");
        conn.pragma_update(None, "max_page_count", pages + 8).expect("a limit");
        let writer = Writer::start(conn, scene.store.clone()).expect("a writer");
        let spec = Box::new(scene.spec.clone());
        writer.record(RunEvent::SessionStarted { spec, root: Box::new(session_root(4)) }).await.expect("it fits");
        let mut written = 1;
        let error = loop {
            match writer.record(trial(written, 0, 0, RIGHT)).await {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
        assert!(error.to_string().contains("free some space"), "{error}");
        let again = writer.record(RunEvent::BatchStarted { root: Box::new(batch_root(9)) }).await;
        assert!(matches!(again, Err(StoreError::DiskFull { .. })), "it stays failed");
        let run = scene.run();
        assert_eq!(run.counts.completed, written);
        let verification = scene.reader().verify(&run).expect("a verification");
        assert_eq!((verification.scores, verification.linked), (2 * written, 2 * written));
    }

    #[tokio::test]
    async fn two_writers_write_one_store_at_once() {
        let scene = Scene::started(60, 1).await;
        let other = Store::open(scene.store.dir()).expect("the same store");
        let writer = other.writer().expect("a second writer");
        let second = spec("20260922-120001-00000b", 60, 1);
        plan(&writer, &second).await;
        let root = |mut span: crate::model::Span| {
            span.trace_id = trace_id(span.trace_id.as_bytes()[0] + 100);
            Box::new(span)
        };
        let mine = async |seq: u64| scene.writer.record(trial(seq, 0, 0, RIGHT)).await;
        writer
            .record(RunEvent::SessionStarted { spec: Box::new(second), root: root(session_root(1)) })
            .await
            .expect("a session");
        writer.record(RunEvent::BatchStarted { root: root(batch_root(2)) }).await.expect("a batch");
        let theirs = async |seq: u64| {
            let mut event = trial(seq, 0, 0, RIGHT);
            if let RunEvent::TrialFinished { trial, spans, .. } = &mut event {
                trial.trace_id = trace_id(102);
                for span in spans {
                    span.trace_id = trace_id(102);
                }
            }
            writer.record(event).await
        };
        let (a, b) = futures::join!(
            futures::future::join_all((0..60).map(mine)),
            futures::future::join_all((0..60).map(theirs))
        );
        for result in a.into_iter().chain(b) {
            result.expect("recorded");
        }
        for run in scene.reader().runs().expect("two runs") {
            let verification = scene.reader().verify(&run).expect("a verification");
            assert_eq!((verification.scores, verification.linked), (120, 120), "{}", run.spec.run_id);
            assert_eq!(scene.reader().spans_stored(&run).expect("a count"), 122);
        }
    }

    #[tokio::test]
    async fn tags_change_and_go() {
        let scene = Scene::planned(0, 1).await;
        let tags = [("branch", ""), ("night", "7")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        scene.writer.set_tags(&scene.spec.run_id, tags.into()).await.expect("tags");
        assert_eq!(scene.run().spec.tags, [("night".to_owned(), "7".to_owned())].into());
    }

    #[tokio::test]
    async fn closing_empties_the_log_and_ends_the_thread() {
        let scene = Scene::started(1, 1).await;
        let path = scene.path();
        scene.writer.clone().close().await.expect("closed");
        let error = scene.writer.record(trial(0, 0, 0, RIGHT)).await.expect_err("it is closed");
        assert!(matches!(error, StoreError::Closed), "{error}");
        let wal = path.with_extension("db-wal");
        assert!(std::fs::metadata(&wal).map_or(0, |file| file.len()) == 0, "{}", wal.display());
    }
}
