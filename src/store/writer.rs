//! The one writer thread and its handle: a bounded queue, and a commit for everything that waits in it.
//!
//! Events are encoded and compressed in the task that records them ([`super::bundle`]); the thread binds the result to
//! prepared statements ([`super::apply`]). It takes what is waiting, at most [`GROUP`] steps, into one transaction and
//! answers all of them after the commit: the busier the run, the more trials share one wait for the disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

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

/// How many steps may wait. More than a group, so that the next one gathers while one is committed.
const QUEUE: usize = 2 * GROUP;

pub(super) type Answer = Result<Done, StoreError>;

/// What the thread is asked to do.
pub(super) enum Job {
    /// Within a transaction that it may share.
    Work(Work, oneshot::Sender<Answer>),
    /// Give free pages back to the file system.
    Vacuum(oneshot::Sender<Answer>),
    /// Move the write-ahead log into the database file.
    Checkpoint(oneshot::Sender<Answer>),
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
        self.send(Job::Vacuum).await?;
        lock::forget(self.shared.store.dir(), run_id);
        drop(lock);
        Ok(())
    }

    /// Commits what waits, moves the write-ahead log into the database file and ends the thread.
    pub async fn close(self) -> Result<(), StoreError> {
        let answer = self.send(Job::Checkpoint).await;
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(self);
        if let Some(thread) = thread {
            // Other handles may still keep the thread busy: wait for it off the async threads.
            let _ = tokio::task::spawn_blocking(move || drop(thread)).await;
        }
        answer.map(drop)
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
                    trial: TrialRow::encode(dictionary, *trial, &evaluators)?,
                }
            }
            RunEvent::BatchFinished { root: span } => Work::BatchFinished { root: root(span) },
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
        let mut group = Vec::with_capacity(waiting.len());
        for job in waiting.drain(..) {
            match job {
                Job::Work(work, answer) => group.push((work, answer)),
                Job::Vacuum(answer) => {
                    commit(&mut applier, &mut broken, std::mem::take(&mut group));
                    let vacuumed = remove::vacuum(conn).map_err(|e| attempt.failed(e));
                    let _ = answer.send(broken.clone().map_or(vacuumed.map(|()| Done::Nothing), Err));
                }
                Job::Checkpoint(answer) => {
                    commit(&mut applier, &mut broken, std::mem::take(&mut group));
                    // Readers may keep the log from being emptied: then the next opening does it.
                    let _ = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
                    let _ = answer.send(broken.clone().map_or(Ok(Done::Nothing), Err));
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
    let together = match broken {
        Some(error) => Err(error.clone()),
        None => applier.transact(group.iter().map(|(work, _)| work)),
    };
    let alone = group.len() == 1;
    match together {
        Ok(done) => {
            for ((_, answer), done) in group.into_iter().zip(done) {
                let _ = answer.send(Ok(done));
            }
        }
        Err(error) if alone || error.is_fatal() || broken.is_some() => {
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
