//! The library's front door: a dataset, a workflow and evaluators in Rust, run with store, traces and report.
//!
//! ```no_run
//! use spanscore::evaluation::Evaluation;
//! # async fn example(workflow: impl spanscore::workflow::Workflow + 'static) -> Result<(), spanscore::evaluation::EvaluationError> {
//! let report = Evaluation::new("datasets/claims.csv", workflow).store(".spanscore").concurrency(16).run().await?;
//! println!("{:?}", report.metrics.accuracy.value);
//! # Ok(())
//! # }
//! ```
//!
//! `examples/own_evaluator.rs` is a whole program. The command line is built on the same parts ([`StoreSink`], [`begin`]); what
//! only it needs (suites, resuming, exporters, progress) stays with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::dataset::{DatasetError, Problem, ReadOptions, Selection, Source, Survey, select, survey};
use crate::evaluator::{Evaluator, Registry, RegistryError};
use crate::llm::Concurrency;
use crate::model::{Case, DatasetRef, Digest, RunEvent, RunSpec};
use crate::report::{self, Report};
use crate::runner::{Cases, Job, Limits, PlanDigest, Prior, Recorded, RunError, RunSink, SinkError, Stop, execute};
use crate::store::{RunLock, Store, StoreError, Writer};
use crate::trace::provider::Ambient;
use crate::trace::semconv;
use crate::workflow::Workflow;

/// Problems of a dataset that an error shows; the rest is counted.
const SHOWN: usize = 10;

/// Why an evaluation could not be run.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// The dataset cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The dataset was read and is at fault.
    #[error("the dataset cannot be used ({total} error{}):\n{shown}", if *total == 1 { "" } else { "s" })]
    Problems {
        /// How many errors there are.
        total: u64,
        /// The first of them, a line each.
        shown: String,
    },
    /// An evaluator is unknown or malformed.
    #[error(transparent)]
    Evaluators(#[from] RegistryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The run could not go on.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The endpoint refuses the key or does not know the model.
    #[error("the endpoint refused the first call: {0}")]
    Refused(String),
}

/// An evaluation to be run once.
pub struct Evaluation {
    source: Source,
    selection: Selection,
    workflow: Arc<dyn Workflow>,
    evaluators: Vec<Arc<dyn Evaluator>>,
    store: PathBuf,
    name: String,
    model: String,
    batch_size: u32,
    repeat: u32,
    concurrency: Concurrency,
    ambient: Ambient,
}

impl Evaluation {
    /// Of this workflow over this dataset: with the evaluators `label_match`, `valid_label` and `abstention`, a store in
    /// `.spanscore`, and adaptive concurrency.
    pub fn new(dataset: impl AsRef<Path>, workflow: impl Workflow + 'static) -> Self {
        let ids = ["label_match", "valid_label", "abstention"].map(str::to_owned);
        Self {
            source: Source::new(dataset.as_ref(), ReadOptions::default()),
            selection: Selection::default(),
            name: workflow.name().to_owned(),
            workflow: Arc::new(workflow),
            evaluators: Registry::embedded().select(&ids).expect("these are embedded"),
            store: PathBuf::from(".spanscore"),
            model: "none".to_owned(),
            batch_size: 8,
            repeat: 1,
            concurrency: Concurrency::auto(8, 512),
            ambient: Ambient::default(),
        }
    }

    /// Keeps the run in the store of this folder.
    #[must_use]
    pub fn store(mut self, folder: impl Into<PathBuf>) -> Self {
        self.store = folder.into();
        self
    }

    /// Names the run.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Names the model that the workflow asks, for lists and reports.
    #[must_use]
    pub fn model(mut self, name: impl Into<String>) -> Self {
        self.model = name.into();
        self
    }

    /// Adds an evaluator behind those there are.
    #[must_use]
    pub fn evaluator(mut self, evaluator: impl Evaluator + 'static) -> Self {
        self.evaluators.push(Arc::new(evaluator));
        self
    }

    /// Runs these cases of the dataset only.
    #[must_use]
    pub fn select(mut self, selection: Selection) -> Self {
        self.selection = selection;
        self
    }

    /// Runs this many trials at once.
    #[must_use]
    pub fn concurrency(mut self, n: usize) -> Self {
        self.concurrency = Concurrency::fixed(n);
        self
    }

    /// Runs each case this many times (at least once).
    #[must_use]
    pub fn repeat(mut self, n: u32) -> Self {
        self.repeat = n.max(1);
        self
    }

    /// Runs it to its end and reads the report back from the store. Needs a multi-threaded tokio runtime.
    pub async fn run(self) -> Result<Report, EvaluationError> {
        crate::evaluator::registry::distinct(self.evaluators.iter().map(|e| e.spec().id.as_str()))?;
        let store = Store::open(&self.store)?;
        let writer = store.writer()?;
        let Begun { spec, lock, .. } = begin(self.spec(), &self.source, &self.selection, &store, &writer)?;
        let (run_id, plan_digest) = (spec.run_id.clone(), plan_digest(&spec));
        let cases = select(&self.source, &self.selection)?;
        let job = Job {
            spec,
            workflow: self.workflow,
            evaluators: self.evaluators,
            batch_size: self.batch_size,
            concurrency: self.concurrency,
            limits: Limits::default(),
            stop: Stop::default(),
            ambient: self.ambient,
            parent: None,
            root: None,
            done: Arc::new(|_| false),
            prior: Prior::default(),
            plan_digest,
        };
        let sink = Arc::new(StoreSink::new(writer.clone()));
        let summary = execute(job, Cases::read(cases), sink).await;
        writer.close().await?;
        let summary = summary?;
        drop(lock);
        if let Some(refusal) = summary.refusal {
            return Err(EvaluationError::Refused(refusal));
        }
        let reader = store.reader()?;
        let row = reader.resolve_run(run_id.as_str())?;
        Ok(report::build(&reader, &row, false)?)
    }

    fn spec(&self) -> RunSpec {
        let now = self.ambient.now();
        let evaluators: Vec<_> = self.evaluators.iter().map(|e| e.spec().clone()).collect();
        RunSpec {
            run_id: self.ambient.ids.run_id(now),
            name: self.name.clone(),
            suite: self.name.clone(),
            workflow: self.workflow.name().to_owned(),
            model: self.model.clone(),
            provider: "library".to_owned(),
            dataset: DatasetRef { name: self.source.name(), digest: Digest::from_bytes([0; 32]), cases: 0 },
            repeat: self.repeat,
            prompt_digest: self.workflow.digest(),
            model_digest: self.workflow.digest(),
            primary: evaluators[0].id.clone(),
            evaluators,
            started_unix_nano: now,
            git: None,
            tags: std::collections::BTreeMap::new(),
            trace_url: None,
            config: serde_json::Value::Null,
            resource: vec![
                (semconv::SERVICE_NAME.into(), "spanscore".into()),
                (semconv::SERVICE_VERSION.into(), env!("CARGO_PKG_VERSION").into()),
            ],
        }
    }
}

/// A run whose cases are planned.
pub struct Begun {
    /// The run, with the dataset as surveyed.
    pub spec: RunSpec,
    /// Held while a session works on it.
    pub lock: RunLock,
    /// What the dataset holds.
    pub survey: Survey,
}

/// Plans a new run: one pass over the dataset checks it, digests it and records its cases, so that none can vanish from a
/// denominator later. Blocks; inside a multi-threaded tokio runtime only. The lock is the run's for this process.
pub fn begin(
    mut spec: RunSpec,
    source: &Source,
    selection: &Selection,
    store: &Store,
    writer: &Writer,
) -> Result<Begun, EvaluationError> {
    let lock = store.lock_run(&spec.run_id)?;
    tokio::task::block_in_place(|| {
        let mut planner = writer.plan(&spec.run_id);
        let mut digest = PlanDigest::default();
        let survey = checked_survey(source, selection, |case| {
            digest.add(case);
            planner.add(case)
        })?;
        set_plan_digest(&mut spec, digest.digest());
        spec.dataset = DatasetRef { name: spec.dataset.name.clone(), digest: survey.digest, cases: survey.cases };
        planner.finish(&spec)?;
        Ok(Begun { spec, lock, survey })
    })
}

const PLAN_DIGEST: &str = "plan_digest";

fn set_plan_digest(spec: &mut RunSpec, digest: Digest) {
    if !spec.config.is_object() {
        spec.config = serde_json::json!({});
    }
    spec.config[PLAN_DIGEST] = serde_json::json!(digest);
}

/// The digest of a run's cases in their planned order.
pub fn plan_digest(spec: &RunSpec) -> Option<Digest> {
    serde_json::from_value(spec.config.get(PLAN_DIGEST)?.clone()).ok()
}

/// A survey whose errors are an error.
pub fn checked_survey<E>(
    source: &Source,
    selection: &Selection,
    mut on_case: impl FnMut(&Case) -> Result<(), E>,
) -> Result<Survey, EvaluationError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let survey = survey(source, selection, &mut |case| Ok(on_case(case)?))?;
    if survey.errors.is_empty() {
        return Ok(survey);
    }
    let total = survey.errors.len() as u64 + survey.errors_omitted;
    let mut lines: Vec<_> = survey.errors.iter().take(SHOWN).map(Problem::to_string).collect();
    if total > SHOWN as u64 {
        lines.push(format!("… and {} more; `spanscore validate` lists them all", total - SHOWN as u64));
    }
    Err(EvaluationError::Problems { total, shown: lines.join("\n") })
}

/// Somebody who watches the run's events.
pub type Observer = Box<dyn Fn(&RunEvent) + Send + Sync>;

/// The sink that every run needs: the store, and whoever watches beside it.
pub struct StoreSink {
    writer: Writer,
    observers: Vec<Observer>,
    committed: Arc<dyn Fn() + Send + Sync>,
}

impl StoreSink {
    /// Records in this store.
    pub fn new(writer: Writer) -> Self {
        Self { writer, observers: Vec::new(), committed: Arc::new(|| {}) }
    }

    /// Shows each event to an observer before it is recorded.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observers.push(observer);
        self
    }

    /// Calls this whenever an event is durable.
    #[must_use]
    pub fn committed(mut self, call: impl Fn() + Send + Sync + 'static) -> Self {
        self.committed = Arc::new(call);
        self
    }
}

#[async_trait]
impl RunSink for StoreSink {
    async fn submit(&self, event: RunEvent) -> Result<Recorded, SinkError> {
        self.observers.iter().for_each(|observe| observe(&event));
        let recorded = self.writer.submit(event).await.map_err(|e| SinkError(Box::new(e)))?;
        let committed = Arc::clone(&self.committed);
        Ok(Box::pin(async move {
            recorded.await.map_err(|e| SinkError(Box::new(e)))?;
            committed();
            Ok(())
        }))
    }
}
