//! The loop: takes cases from a bounded stream, groups them into batches, and keeps as many trials in flight as the
//! limiter allows. A slot is free again only when its trial is durable, so that a kill repeats at most as many requests
//! as were in flight.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::batch::{Batch, Means};
use super::budget::{Budget, Limits};
use super::sink::{Recorded, RunSink, SinkError};
use super::stop::Stop;
use super::trial::Bench;
use crate::evaluator::Evaluator;
use crate::evaluator::span::ScoreWriter;
use crate::llm::NOT_STARTED;
use crate::llm::concurrency::{Concurrency, Permit};
use crate::model::{Case, Digest, Outcome, RunEvent, RunSpec, RunStatus, Span, SpanId, Status, TraceId, TrialKey};
use crate::trace::provider::Ambient;
use crate::trace::semconv::{self as sc, span};
use crate::workflow::Workflow;

/// Cases per message between the reading thread and the loop.
const CHUNK: usize = 64;
/// Skipped trials that may wait for their commit at once.
const SKIP_WINDOW: usize = 512;

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An event could not be recorded.
    #[error("recording the run: {0}")]
    Sink(#[from] SinkError),
    /// The dataset could not be read to its end.
    #[error("reading the dataset: {0}")]
    Cases(Box<dyn std::error::Error + Send + Sync>),
    /// The dataset that was run is not the one that was planned.
    #[error(
        "the dataset changed while the run read it: answers may stand under the wrong case; remove this run and start it again"
    )]
    Changed,
    /// A trial's task panicked.
    #[error("a trial's task ended without a result: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What earlier sessions of the run recorded, as far as this one needs it.
#[derive(Debug, Clone, Default)]
pub struct Prior {
    /// Sum and count of each evaluator's values, in the suite's order.
    pub sums: Vec<(f64, u64)>,
    /// Tokens used.
    pub tokens: u64,
    /// US dollars spent.
    pub cost_usd: f64,
}

/// One session of a run.
pub struct Job {
    /// The run.
    pub spec: RunSpec,
    /// The code under test.
    pub workflow: Arc<dyn Workflow>,
    /// The evaluators of the spec, in its order.
    pub evaluators: Vec<Arc<dyn Evaluator>>,
    /// Trials per trace.
    pub batch_size: u32,
    /// How many model calls at once.
    pub concurrency: Concurrency,
    /// Caps.
    pub limits: Limits,
    /// Whoever may ask to stop.
    pub stop: Stop,
    /// Time and ids.
    pub ambient: Ambient,
    /// The span that this run is part of (`TRACEPARENT`).
    pub parent: Option<(TraceId, SpanId)>,
    /// Which trials are recorded already and not to be repeated.
    pub done: Arc<dyn Fn(TrialKey) -> bool + Send + Sync>,
    /// What they add to means and budgets.
    pub prior: Prior,
    /// Ids of the session's own root span, where they are told to others before it begins; otherwise they are minted. Its
    /// trace is the parent's, if there is one.
    pub root: Option<(TraceId, SpanId)>,
    /// What [`PlanDigest`] gave when the cases were planned, to notice a dataset that changes under way.
    pub plan_digest: Option<Digest>,
}

/// Digest of a run's cases as planned: ids and content in their order, for a trial is known by its case's place.
#[derive(Debug, Clone, Default)]
pub struct PlanDigest(Sha256);

impl PlanDigest {
    /// Adds the next case.
    pub fn add(&mut self, case: &Case) {
        self.0.update((case.id.as_str().len() as u64).to_le_bytes());
        self.0.update(case.id.as_str());
        self.0.update(case.digest.as_bytes());
    }

    /// SHA-256 of all of them.
    pub fn digest(self) -> Digest {
        Digest::from_bytes(self.0.finalize().into())
    }
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// How far the run came, by this session's lights.
    pub status: RunStatus,
    /// Trials that this session completed.
    pub completed: u64,
    /// Trials that failed in it.
    pub failed: u64,
    /// Trials that it skipped.
    pub skipped: u64,
    /// Why it skipped them.
    pub skip_reason: Option<String>,
    /// What the endpoint said when it refused the first calls.
    pub refusal: Option<String>,
    /// Why nobody was left to answer the rest.
    pub halt_reason: Option<String>,
}

/// The stream of a run's cases, read by a thread of its own.
pub struct Cases(mpsc::Receiver<Chunk>);

type Chunk = Result<Vec<Case>, Box<dyn std::error::Error + Send + Sync>>;

impl Cases {
    /// Starts a thread that reads the iterator as fast as the loop takes from it.
    pub fn read<I, E>(cases: I) -> Self
    where
        I: Iterator<Item = Result<Case, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let (sender, receiver) = mpsc::channel::<Chunk>(4);
        std::thread::spawn(move || {
            let mut chunk = Vec::with_capacity(CHUNK);
            for case in cases {
                match case {
                    Ok(case) => chunk.push(case),
                    Err(e) => {
                        // The loop is gone if this cannot be sent: then nobody needs the cases either.
                        let _ = sender.blocking_send(Ok(std::mem::take(&mut chunk)));
                        let _ = sender.blocking_send(Err(Box::new(e)));
                        return;
                    }
                }
                if chunk.len() == CHUNK {
                    let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK));
                    if sender.blocking_send(Ok(full)).is_err() {
                        return;
                    }
                }
            }
            let _ = sender.blocking_send(Ok(chunk));
        });
        Self(receiver)
    }
}

/// Runs one session of a run to its end, or until it is asked to stop.
pub async fn execute(job: Job, cases: Cases, sink: Arc<dyn RunSink>) -> Result<Summary, RunError> {
    let session = Session::start(&job, sink).await?;
    let mut tasks = JoinSet::new();
    let outcome = dispatch(&session, &job, cases, &mut tasks).await;
    if outcome.is_err() {
        tasks.abort_all();
    }
    let joined = join_all(&mut tasks).await;
    outcome?;
    joined?;
    session.finish(&job).await
}

/// What trial tasks share with the loop.
struct Shared {
    bench: Bench,
    sink: Arc<dyn RunSink>,
    budget: Budget,
    stop: Stop,
    /// Requested when the endpoint refuses the first calls.
    halt: Stop,
    means: Mutex<Means>,
    answered: AtomicBool,
    completed: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
    refusal: Mutex<Option<String>>,
    /// Whether it was given because nobody is left to answer.
    unavailable: AtomicBool,
}

struct Session {
    shared: Arc<Shared>,
    root: Span,
    batches: Mutex<Vec<Arc<Batch>>>,
    skip_reason: Mutex<Option<String>>,
}

impl Session {
    async fn start(job: &Job, sink: Arc<dyn RunSink>) -> Result<Self, RunError> {
        let specs = job.spec.evaluators.clone();
        let primary = specs.iter().position(|s| s.id == job.spec.primary).unwrap_or(0);
        let start = job.ambient.now();
        let shared = Shared {
            bench: Bench {
                workflow: Arc::clone(&job.workflow),
                evaluators: job.evaluators.clone(),
                scores: ScoreWriter::new(&specs, primary, job.spec.run_id.clone()),
                specs,
                primary,
                ambient: job.ambient.clone(),
            },
            budget: Budget::new(job.limits, start, job.prior.tokens, job.prior.cost_usd),
            stop: job.stop.clone(),
            halt: Stop::default(),
            means: Mutex::new(Means::new(job.prior.sums.clone())),
            answered: AtomicBool::new(false),
            completed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            refusal: Mutex::new(None),
            unavailable: AtomicBool::new(false),
            sink,
        };
        let root = run_span(job, start);
        let event = RunEvent::SessionStarted { spec: Box::new(job.spec.clone()), root: Box::new(root.clone()) };
        shared.sink.submit(event).await?.await?;
        let (batches, skip_reason) = (Mutex::default(), Mutex::default());
        Ok(Self { shared: Arc::new(shared), root, batches, skip_reason })
    }

    /// Opens a batch; its root is submitted before any of its trials can be.
    async fn open_batch(&self, job: &Job, size: u32) -> Result<Arc<Batch>, RunError> {
        let root = batch_span(job, &self.root, size);
        let event = RunEvent::BatchStarted { root: Box::new(root.clone()) };
        // Nobody waits for this commit: its trials come later in the same order, and a failed sink fails them.
        drop(self.shared.sink.submit(event).await?);
        let batch = Arc::new(Batch::new(root, size));
        let mut batches = self.batches.lock().expect("no holder panics");
        batches.retain(|batch| !batch.is_closed());
        batches.push(Arc::clone(&batch));
        Ok(batch)
    }

    async fn finish(mut self, job: &Job) -> Result<Summary, RunError> {
        let open = std::mem::take(&mut *self.batches.lock().expect("no holder panics"));
        for batch in open {
            if let Some(root) = batch.abandon(&self.shared.bench.specs) {
                self.shared.end_batch(root).await?;
            }
        }
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let skipped = count(&self.shared.skipped);
        let refusal = self.shared.refusal.lock().expect("no holder panics").clone();
        let answered = self.shared.answered.load(Ordering::Relaxed);
        let halt_reason = refusal.clone().filter(|_| answered && self.shared.unavailable.load(Ordering::Relaxed));
        // A refusal after all, for some of those in flight were answered: then it is a failure like others.
        let refusal = refusal.filter(|_| !answered);
        let halted = self.shared.refused() && refusal.is_none();
        let status = match (&refusal, job.stop.requested(), skipped) {
            (Some(_), ..) => RunStatus::Refused,
            (None, false, _) if halted => RunStatus::Incomplete,
            (None, true, _) => RunStatus::Interrupted,
            (None, false, 0) => RunStatus::Completed,
            (None, false, _) => RunStatus::Incomplete,
        };
        let now = job.ambient.now();
        end_run_span(&mut self.root, status, refusal.as_deref(), now);
        self.shared.means.lock().expect("no holder panics").set_on(&mut self.root, &self.shared.bench.specs);
        let event = RunEvent::SessionFinished { status, root: Box::new(self.root), ended_unix_nano: now };
        self.shared.sink.submit(event).await?.await?;
        Ok(Summary {
            status,
            completed: count(&self.shared.completed),
            failed: count(&self.shared.failed),
            skipped,
            skip_reason: self.skip_reason.into_inner().expect("no holder panics"),
            refusal,
            halt_reason,
        })
    }
}

type Tasks = JoinSet<Result<(), RunError>>;

/// Takes cases until there are none, or until asked to stop.
async fn dispatch(session: &Session, job: &Job, mut cases: Cases, tasks: &mut Tasks) -> Result<(), RunError> {
    let mut group: Vec<(Arc<Case>, u32)> = Vec::with_capacity(job.batch_size as usize);
    let mut skips = VecDeque::new();
    let mut seen = PlanDigest::default();
    while let Some(chunk) = cases.0.recv().await {
        for case in chunk.map_err(RunError::Cases)? {
            seen.add(&case);
            let case = Arc::new(case);
            for repeat in 0..job.spec.repeat {
                if (job.done)(TrialKey { seq: case.seq, repeat }) {
                    continue;
                }
                group.push((Arc::clone(&case), repeat));
                if group.len() == job.batch_size as usize {
                    run_batch(session, job, &mut group, tasks, &mut skips).await?;
                }
            }
        }
        if session.shared.stopping() {
            group.clear();
            break;
        }
    }
    run_batch(session, job, &mut group, tasks, &mut skips).await?;
    for recorded in skips {
        recorded.await?;
    }
    if !session.shared.stopping() && job.plan_digest.is_some_and(|planned| planned != seen.digest()) {
        return Err(RunError::Changed);
    }
    Ok(())
}

/// Starts the trials of one batch, each when a slot is free.
async fn run_batch(
    session: &Session,
    job: &Job,
    group: &mut Vec<(Arc<Case>, u32)>,
    tasks: &mut Tasks,
    skips: &mut VecDeque<Recorded>,
) -> Result<(), RunError> {
    if group.is_empty() || session.shared.stopping() {
        group.clear();
        return Ok(());
    }
    let batch = session.open_batch(job, group.len() as u32).await?;
    let mut left = group.len() as u32;
    for (case, repeat) in group.drain(..) {
        while let Some(ended) = tasks.try_join_next() {
            ended??;
        }
        if session.shared.budget.exhausted(job.ambient.now()).is_none() {
            let permit = tokio::select! {
                biased;
                () = job.stop.wait() => break,
                () = session.shared.halt.wait() => break,
                permit = job.concurrency.acquire() => permit,
            };
            // Waiting for a slot is waiting for others to spend: ask again.
            if session.shared.stopping() {
                break;
            }
            if session.shared.budget.exhausted(job.ambient.now()).is_none() {
                left -= 1;
                tasks.spawn(trial(Arc::clone(&session.shared), Arc::clone(&batch), case, repeat, permit));
                continue;
            }
        }
        left -= 1;
        skip(session, job, &batch, &case, repeat, skips).await?;
    }
    if left > 0
        && let Some(root) = batch.cut_off(left, &session.shared.bench.specs)
    {
        session.shared.end_batch(root).await?;
    }
    Ok(())
}

/// Records a trial that the budget leaves no room for.
async fn skip(
    session: &Session,
    job: &Job,
    batch: &Batch,
    case: &Case,
    repeat: u32,
    skips: &mut VecDeque<Recorded>,
) -> Result<(), RunError> {
    let shared = &session.shared;
    let reason = {
        let mut reason = session.skip_reason.lock().expect("no holder panics");
        reason.get_or_insert_with(|| shared.budget.exhausted(job.ambient.now()).unwrap_or_default()).clone()
    };
    let open = shared.bench.open(batch, case, repeat);
    skips.push_back(shared.sink.submit(shared.bench.skip(open, case, &reason)).await?);
    shared.skipped.fetch_add(1, Ordering::Relaxed);
    if skips.len() >= SKIP_WINDOW
        && let Some(oldest) = skips.pop_front()
    {
        oldest.await?;
    }
    if let Some(root) = batch.ended(&[], &shared.bench.specs) {
        shared.end_batch(root).await?;
    }
    Ok(())
}

/// One trial from its slot to its commit.
async fn trial(
    shared: Arc<Shared>,
    batch: Arc<Batch>,
    case: Arc<Case>,
    repeat: u32,
    permit: Permit,
) -> Result<(), RunError> {
    let open = shared.bench.open(&batch, &case, repeat);
    let assessment = shared.bench.assess(&open, &case).await;
    let answered = matches!(assessment.outcome, Outcome::Completed { .. });
    let wall_time = Duration::from_nanos(assessment.latency_ns);
    permit.observe_outcome(assessment.attempts, answered, assessment.overloaded, wall_time);
    let usage = assessment.usage;
    let tokens = usage.input_tokens.unwrap_or(0) + usage.output_tokens.unwrap_or(0);
    if !assessment.cached {
        shared.budget.spend(tokens, assessment.cost_usd);
    }
    match &assessment.outcome {
        Outcome::Failed(failure)
            if assessment.unavailable || assessment.fatal && !shared.answered.load(Ordering::Relaxed) =>
        {
            if assessment.unavailable {
                shared.unavailable.store(true, Ordering::Relaxed);
            }
            shared.refuse(&failure.message);
            return Ok(());
        }
        // Given up before anything was sent: not a failure, and not recorded, so that a resumed run begins it anew.
        Outcome::Failed(failure) if failure.error_type == NOT_STARTED => return Ok(()),
        Outcome::Failed(_) => _ = shared.failed.fetch_add(1, Ordering::Relaxed),
        Outcome::Completed { .. } => {
            shared.answered.store(true, Ordering::Relaxed);
            shared.completed.fetch_add(1, Ordering::Relaxed);
        }
        Outcome::Skipped { .. } => _ = shared.skipped.fetch_add(1, Ordering::Relaxed),
    }
    let event = shared.bench.close(open, &case, assessment).await;
    let values = match &event {
        RunEvent::TrialFinished { trial, .. } => trial.scores.iter().map(|s| s.evaluation.value()).collect(),
        _ => Vec::new(),
    };
    let recorded = shared.sink.submit(event).await?;
    shared.means.lock().expect("no holder panics").add(&values);
    if let Some(root) = batch.ended(&values, &shared.bench.specs) {
        shared.end_batch(root).await?;
    }
    recorded.await?;
    drop(permit);
    Ok(())
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stop.requested() || self.refused()
    }

    fn refused(&self) -> bool {
        self.halt.requested()
    }

    fn refuse(&self, message: &str) {
        self.refusal.lock().expect("no holder panics").get_or_insert_with(|| message.to_owned());
        self.halt.request();
    }

    /// Hands over a batch's ended root; whoever comes later waits for its commit.
    async fn end_batch(&self, mut root: Span) -> Result<(), RunError> {
        root.end_unix_nano = self.bench.ambient.now();
        drop(self.sink.submit(RunEvent::BatchFinished { root: Box::new(root) }).await?);
        Ok(())
    }
}

async fn join_all(tasks: &mut Tasks) -> Result<(), RunError> {
    let mut first = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = match ended {
            // Aborted on purpose after an error or a refusal.
            Err(e) if e.is_cancelled() => Ok(()),
            Err(e) => Err(e.into()),
            Ok(result) => result,
        };
        first = first.and(ended);
    }
    first
}

/// The root of the session's own trace.
fn run_span(job: &Job, start: u64) -> Span {
    let (trace_id, parent) = match job.parent {
        Some((trace_id, parent)) => (trace_id, Some(parent)),
        None => (job.ambient.ids.trace_id(), None),
    };
    let (trace_id, span_id) = job.root.unwrap_or_else(|| (trace_id, job.ambient.ids.span_id()));
    let mut root = Span::open(trace_id, span_id, parent, span::EVALUATION_RUN, start);
    root.set(sc::TEST_SUITE_NAME, job.spec.suite.clone());
    root.set(sc::TEST_SUITE_RUN_ID, job.spec.run_id.as_str().to_owned());
    root.set(sc::SPANSCORE_DATASET_NAME, job.spec.dataset.name.clone());
    root.set(sc::SPANSCORE_DATASET_DIGEST, job.spec.dataset.digest.to_string());
    root.set(sc::SPANSCORE_PROMPT_DIGEST, job.spec.prompt_digest.to_string());
    root.name = format!("{} {}", span::EVALUATION_RUN, job.spec.suite).into();
    root
}

fn end_run_span(root: &mut Span, status: RunStatus, refusal: Option<&str>, now: u64) {
    let word = match status {
        RunStatus::Completed => "success",
        RunStatus::Interrupted => "aborted",
        RunStatus::Incomplete => "skipped",
        RunStatus::Refused | RunStatus::Running => "failure",
    };
    root.set(sc::TEST_SUITE_RUN_STATUS, word);
    match (status, refusal) {
        (RunStatus::Refused, message) => root.status = Status::Error(message.unwrap_or_default().to_owned()),
        (RunStatus::Interrupted, _) => root.status = Status::Error("interrupted".to_owned()),
        _ => {}
    }
    root.end_unix_nano = now;
}

/// The root of a batch's trace, linked to the session's root.
fn batch_span(job: &Job, run: &Span, size: u32) -> Span {
    let ids = &job.ambient.ids;
    let name = job.workflow.name().to_owned();
    let mut root = Span::open(ids.trace_id(), ids.span_id(), None, name.clone(), job.ambient.now());
    root.attributes.reserve(16);
    root.set(sc::OPERATION_CLAIMS_COUNT, i64::from(size));
    root.set(sc::GEN_AI_OPERATION_NAME, "invoke_workflow");
    root.set(sc::GEN_AI_WORKFLOW_NAME, name);
    root.set(sc::TEST_SUITE_NAME, job.spec.suite.clone());
    root.set(sc::TEST_SUITE_RUN_ID, job.spec.run_id.as_str().to_owned());
    root.set(sc::OPENINFERENCE_SPAN_KIND, "CHAIN");
    root.set(sc::SPANSCORE_PROMPT_DIGEST, job.spec.prompt_digest.to_string());
    root.add_link(run.trace_id, run.span_id, Vec::new());
    root
}
