//! Delivery and the store together: the exporters of a run that is going on, and the delivery of what earlier runs left
//! pending.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{stderr, stdout};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::connect::connect;
use super::delivery::{Counts, Deliveries, DeliveryReport, GRACE, Pace, Route, Wake};
use super::destination::{Batch, Items, Signal};
use super::outbox::{Acknowledgement, Outbox, OutboxBatch, OutboxError, Reading};
use super::settings::{ExportPlan, SuiteOtlp};
use super::snapshot::Snapshot;
use crate::config::env::Environment;
use crate::model::{Origin, RunId};
use crate::store::{Ack, OutboxCounts, Outgoing, Pending, Reader, Store, StoreError, Writer};
use crate::trace::provider::Ids;

/// The exporters of one run.
pub struct Exporters {
    deliveries: Deliveries,
    said: Vec<String>,
}

impl Exporters {
    /// Registers the destinations of a run and starts delivering to them, from where each was left. The run must be
    /// planned already. A destination that cannot be prepared does not stop the run: what belongs to it stays pending,
    /// and [`Self::finish`] says so.
    pub async fn start(plan: &ExportPlan, store: &Store, writer: &Writer, run_id: &RunId) -> Result<Self, StoreError> {
        let mut said = Vec::new();
        let mut routes = Vec::new();
        register(plan, writer, run_id).await?;
        for config in &plan.destinations {
            match connect(config.clone(), || Box::new(stdout())) {
                Ok(destination) => routes.push(Route { destination, sampler: plan.sampler.clone() }),
                Err(error) => said.push(format!("{error}; `spanscore export --pending` delivers later")),
            }
        }
        let run = store.reader()?.resolve_run(run_id.as_str())?.number;
        let outbox: Arc<dyn Outbox> = Arc::new(StoreOutbox::new(store, writer, run));
        let deliveries = Deliveries::start(&outbox, &routes, &Ids::default(), Pace::default());
        Ok(Self { deliveries, said })
    }

    /// A handle to say that more was recorded.
    pub fn wake(&self) -> Wake {
        self.deliveries.wake()
    }

    /// A view of how much was delivered, for as long as the run goes on and after.
    pub fn counts(&self) -> Counts {
        self.deliveries.counts()
    }

    /// Delivers what is left within a grace period; gives what the user should hear. Everything must have been recorded
    /// before, and the writer must still be open.
    pub async fn finish(self) -> Vec<String> {
        let mut said = self.said;
        for report in self.deliveries.finish(GRACE).await {
            said.extend(lines(&report));
        }
        said
    }
}

/// What the user should hear of a delivery that did not go as planned.
fn lines(report: &DeliveryReport) -> impl Iterator<Item = String> {
    let refused = (report.rejected > 0).then(|| {
        let why = report.rejection.as_deref().unwrap_or("it did not say why");
        format!("{} refused {} {}: {why}", report.destination, report.rejected, report.signal.as_str())
    });
    refused.into_iter().chain(report.hint())
}

/// What is to be delivered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Of this run; `None` for all.
    pub run: Option<&'a str>,
    /// To these destinations; none for all.
    pub destinations: &'a [String],
}

impl Wanted<'_> {
    fn takes(&self, destination: &str) -> bool {
        self.destinations.is_empty() || self.destinations.iter().any(|name| name == destination)
    }
}

/// Gives a run destinations that it may not have had: all that is stored of it is pending for them then; `again` makes it
/// so at destinations that it had, too.
pub async fn add_destinations(store: &Store, plan: &ExportPlan, run: &str, again: bool) -> Result<(), StoreError> {
    let run_id = store.reader()?.resolve_run(run)?.spec.run_id;
    let writer = store.writer()?;
    register(plan, &writer, &run_id).await?;
    if again {
        // Who delivers the run now would go on in the middle.
        let _lock = store.lock_run(&run_id)?;
        for config in &plan.destinations {
            writer.restart_delivery(&run_id, config.name()).await?;
        }
    }
    writer.close().await
}

async fn register(plan: &ExportPlan, writer: &Writer, run_id: &RunId) -> Result<(), StoreError> {
    for config in &plan.destinations {
        let snapshot = Snapshot::new(config, plan).to_json();
        for signal in [Signal::Traces, Signal::Logs].into_iter().filter(|signal| config.takes(*signal)) {
            writer.register_destination(run_id, config.name(), signal, &snapshot).await?;
        }
    }
    Ok(())
}

/// How far the destinations are after [`deliver_pending`].
#[derive(Debug, Clone, Default)]
pub struct PendingOutcome {
    /// What the user should hear.
    pub messages: Vec<String>,
    /// Counts by destination, over all runs or the one that was asked for.
    pub destinations: BTreeMap<String, OutboxCounts>,
}

/// Delivers what is still pending, of all runs or of one, to the destinations that each run was given. The environment
/// can name a new address; headers and keys are not recorded, and come from the environment and the suite again. A run
/// that is going on delivers by itself and is left alone.
///
/// What was left for the console is printed to standard error, because standard output belongs to the command.
pub async fn deliver_pending(
    store: &Store,
    env: &Environment,
    suite: &SuiteOtlp,
    wanted: Wanted<'_>,
) -> Result<PendingOutcome, StoreError> {
    let reader = store.reader()?;
    let runs = match wanted.run {
        Some(run) => vec![reader.resolve_run(run)?],
        None => reader.runs()?,
    };
    let mut outcome = PendingOutcome::default();
    let mut pending: BTreeMap<i64, Vec<Pending>> = BTreeMap::new();
    for entry in reader.pending_everywhere()? {
        if runs.iter().any(|run| run.number == entry.run) && wanted.takes(&entry.destination) {
            pending.entry(entry.run).or_default().push(entry);
        }
    }
    if !pending.is_empty() {
        let writer = store.writer()?;
        for entries in pending.into_values() {
            deliver_run(store, &writer, (env, suite), &entries, &mut outcome.messages).await?;
        }
        writer.close().await?;
    }
    for run in &runs {
        for (name, counts) in reader.outbox_counts(run)?.into_iter().filter(|(name, _)| wanted.takes(name)) {
            *outcome.destinations.entry(name).or_default() += counts;
        }
    }
    Ok(outcome)
}

/// Delivers what one run left.
async fn deliver_run(
    store: &Store,
    writer: &Writer,
    (env, suite): (&Environment, &SuiteOtlp),
    entries: &[Pending],
    messages: &mut Vec<String>,
) -> Result<(), StoreError> {
    // As long as it takes: a destination that takes nothing is given up by the number of tries.
    const PATIENCE: Duration = Duration::from_hours(24);
    let Some(first) = entries.first() else { return Ok(()) };
    let lock = match writer.close_interrupted(&first.run_id).await {
        // Held during the delivery, so that no other process delivers the same.
        Ok(()) => store.lock_run(&first.run_id),
        Err(error) => Err(error),
    };
    let _lock = match lock {
        Ok(lock) => lock,
        Err(StoreError::RunInUse { .. }) => {
            messages.push(format!("run {} is in use by another process and was left alone", first.run_id));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let outbox: Arc<dyn Outbox> = Arc::new(StoreOutbox::new(store, writer, first.run));
    let by_name: BTreeMap<&str, &Pending> = entries.iter().map(|entry| (entry.destination.as_str(), entry)).collect();
    let mut routes = Vec::new();
    let mut addresses: BTreeMap<String, String> = BTreeMap::new();
    for (name, entry) in by_name {
        let restored = Snapshot::from_json(&entry.config)
            .and_then(|snapshot| snapshot.restore(env, suite))
            .map_err(|error| error.to_string())
            .and_then(|restored| {
                messages
                    .extend(restored.warnings.iter().filter(|w| !messages.contains(w)).cloned().collect::<Vec<_>>());
                addresses.extend(restored.config.address().map(|address| (name.to_owned(), address)));
                let destination = connect(restored.config, || Box::new(stderr())).map_err(|error| error.to_string())?;
                Ok(Route { destination, sampler: restored.sampler })
            });
        match restored {
            Ok(route) => routes.push(route),
            Err(error) => messages.push(format!("run {}, {name}: {error}", entry.run_id)),
        }
    }
    let deliveries = Deliveries::start(&outbox, &routes, &Ids::default(), Pace::default());
    let mut left = BTreeSet::new();
    for report in deliveries.finish(PATIENCE).await {
        messages.extend(lines(&report).map(|line| format!("run {}: {line}", first.run_id)));
        left.extend((!report.complete).then_some(report.destination));
    }
    messages.extend(moved(&left, &addresses, (env, suite)).map(|(names, address)| {
        let run = &first.run_id;
        format!("run {run}: the suite names {address} now; `spanscore export --to {names} {run}` sends it there")
    }));
    Ok(())
}

/// Of what is left where the run was to send it: the destinations that the suite has elsewhere by now, and where the first
/// of them is.
fn moved(
    left: &BTreeSet<String>,
    addresses: &BTreeMap<String, String>,
    (env, suite): (&Environment, &SuiteOtlp),
) -> Option<(String, String)> {
    // What is wrong with the suite is said where it is used.
    let plan = ExportPlan::resolve(env, suite, None).ok()?;
    let now = plan.destinations.iter().filter_map(|config| Some((config.name(), config.address()?)));
    let moved: Vec<(&str, String)> = now
        .filter(|(name, address)| left.contains(*name) && addresses.get(*name).is_some_and(|then| then != address))
        .collect();
    let names: Vec<&str> = moved.iter().map(|(name, _)| *name).collect();
    Some((names.join(" --to "), moved.first()?.1.clone()))
}

/// The outbox of one run in the store.
struct StoreOutbox {
    store: Store,
    writer: Writer,
    run: i64,
    /// Readers that are not in use; there are as many as couriers read at once.
    readers: Mutex<Vec<Reader>>,
}

impl StoreOutbox {
    fn new(store: &Store, writer: &Writer, run: i64) -> Self {
        Self { store: store.clone(), writer: writer.clone(), run, readers: Mutex::default() }
    }
}

#[async_trait]
impl Outbox for StoreOutbox {
    fn read(
        &self,
        destination: &str,
        follows: Option<&str>,
        signal: Signal,
        after: i64,
        limit: usize,
    ) -> Result<Reading, OutboxError> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = idle.map_or_else(|| self.store.reader(), Ok)?;
        let batch = reader.outbox_batch_behind(self.run, destination, signal, limit, follows, after)?;
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        let crate::store::OutboxBatch { spans, logs, origins, held, .. } = batch;
        let batch = match signal {
            Signal::Traces => of_one_origin(spans, origins, Items::Spans),
            Signal::Logs => of_one_origin(logs, origins, Items::Logs),
        };
        Ok(match batch {
            Some(batch) => Reading::Batch(batch),
            None if held => Reading::Held,
            None => Reading::Nothing,
        })
    }

    async fn acknowledge(&self, acknowledgement: Acknowledgement) -> Result<(), OutboxError> {
        let Acknowledgement { destination, signal, cursor, delivered, rejected, not_sampled, duplicates } =
            acknowledgement;
        let ack = Ack { run: self.run, destination, signal, cursor, delivered, rejected, not_sampled, duplicates };
        Ok(self.writer.acknowledge(ack).await?)
    }
}

/// The items from the front that have one origin; what follows comes with the next reading. What a run records itself has
/// one; spans of applications that joined its traces have theirs.
fn of_one_origin<T>(
    outgoing: Vec<Outgoing<T>>,
    mut origins: Vec<Arc<Origin>>,
    items: fn(Vec<T>) -> Items,
) -> Option<OutboxBatch> {
    let origin = outgoing.first()?.origin;
    let read = outgoing.len();
    let (positions, of_origin): (Vec<i64>, Vec<T>) = outgoing
        .into_iter()
        .take_while(|outgoing| outgoing.origin == origin)
        .map(|outgoing| (outgoing.position, outgoing.item))
        .unzip();
    let batch = Batch { origin: origins.swap_remove(origin), items: items(of_origin) };
    let cut = positions.len() < read;
    Some(OutboxBatch { batch, positions, cut })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::StatusCode;
    use wiremock::matchers::{header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::model::{DatasetRef, Digest, EvaluatorId, RunEvent, RunSpec, RunStatus, Span, SpanId, TraceId, Value};

    #[test]
    fn a_batch_that_another_origin_cuts_short_says_so() {
        let span = |position| {
            let id = SpanId::from_bytes([position as u8; 8]);
            Span::open(TraceId::from_bytes([1; 16]), id, None, "s", 1)
        };
        let outgoing = |places: &[usize]| -> Vec<Outgoing<Span>> {
            let each = (1..).zip(places);
            each.map(|(position, origin)| Outgoing { item: span(position), origin: *origin, position }).collect()
        };
        let origins = || vec![Arc::default(), Arc::default()];
        let alternating = of_one_origin(outgoing(&[0, 1, 0]), origins(), Items::Spans).expect("a batch");
        assert_eq!((alternating.positions, alternating.cut), (vec![1], true));
        let whole = of_one_origin(outgoing(&[1, 1]), origins(), Items::Spans).expect("a batch");
        assert_eq!((whole.positions, whole.cut), (vec![1, 2], false));
    }

    fn spec() -> RunSpec {
        RunSpec {
            run_id: RunId::parse("20261122-154501-3f9a2c").unwrap(),
            name: "n".into(),
            suite: "s".into(),
            workflow: "w".into(),
            model: "m".into(),
            provider: "builtin".into(),
            dataset: DatasetRef { name: "d".into(), digest: Digest::from_bytes([0; 32]), cases: 0 },
            repeat: 1,
            prompt_digest: Digest::from_bytes([1; 32]),
            model_digest: Digest::from_bytes([2; 32]),
            evaluators: vec![],
            primary: EvaluatorId::parse("label_match").unwrap(),
            started_unix_nano: 1,
            git: None,
            tags: BTreeMap::new(),
            trace_url: None,
            config: serde_json::Value::Null,
            resource: vec![("service.name".into(), Value::from("t"))],
        }
    }

    fn root(number: u8) -> Box<Span> {
        let (trace, span) = (TraceId::from_bytes([number; 16]), SpanId::from_bytes([number; 8]));
        Box::new(Span::open(trace, span, None, "root", 1))
    }

    fn ended(mut root: Box<Span>) -> Box<Span> {
        root.end_unix_nano = 2;
        root
    }

    fn env(server: &MockServer, key: &str) -> Environment {
        let mut env = Environment::default();
        env.set("OTEL_EXPORTER_OTLP_ENDPOINT", server.uri());
        env.set("OTEL_EXPORTER_OTLP_HEADERS", format!("x-key={key}"));
        env.set("OTEL_LOGS_EXPORTER", "none");
        env
    }

    /// A server that wants the right key.
    async fn server() -> MockServer {
        let server = MockServer::start().await;
        let traces = || Mock::given(method("POST")).and(path("/v1/traces"));
        traces().and(header("x-key", "right")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
        let unauthorized = ResponseTemplate::new(StatusCode::UNAUTHORIZED.as_u16());
        traces().respond_with(unauthorized).with_priority(9).mount(&server).await;
        server
    }

    /// Records a run of two spans, the second of which stays open if the run is `killed`; gives what the exporters said.
    async fn run(store: &Store, env: &Environment, killed: bool) -> Vec<String> {
        let plan = ExportPlan::resolve(env, &SuiteOtlp::default(), None).unwrap();
        let (spec, writer) = (spec(), store.writer().unwrap());
        let (planner, planned) = (writer.plan(&spec.run_id), spec.clone());
        tokio::task::spawn_blocking(move || planner.finish(&planned)).await.unwrap().unwrap();
        let exporters = Exporters::start(&plan, store, &writer, &spec.run_id).await.unwrap();
        let wake = exporters.wake();
        let mut events = vec![
            RunEvent::SessionStarted { spec: Box::new(spec), root: root(1) },
            RunEvent::BatchStarted { root: root(2) },
            RunEvent::BatchFinished { root: ended(root(2)) },
        ];
        if !killed {
            let (status, root) = (RunStatus::Completed, ended(root(1)));
            events.push(RunEvent::SessionFinished { status, root, ended_unix_nano: 2 });
        }
        for event in events {
            writer.record(event).await.unwrap();
            wake.now();
        }
        let said = exporters.finish().await;
        writer.close().await.unwrap();
        said
    }

    fn store(dir: &Path) -> Store {
        Store::open(dir).unwrap()
    }

    fn balance(outcome: &PendingOutcome) -> [u64; 4] {
        let counts = &outcome.destinations["otlp"];
        assert_eq!(counts.stored, counts.delivered + counts.pending + counts.rejected + counts.not_sampled);
        [counts.stored, counts.delivered, counts.pending, counts.duplicates]
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_run_delivers_all_its_spans() {
        let (dir, server) = (tempfile::tempdir().unwrap(), server().await);
        let (store, env) = (store(dir.path()), env(&server, "right"));
        assert_eq!(run(&store, &env, false).await, Vec::<String>::new());
        let outcome = deliver_pending(&store, &env, &SuiteOtlp::default(), Wanted::default()).await.unwrap();
        assert_eq!((balance(&outcome), outcome.messages), ([2, 2, 0, 0], vec![]));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_wrong_key_left_pending_is_delivered_with_the_right_one() {
        let (dir, server) = (tempfile::tempdir().unwrap(), server().await);
        let store = store(dir.path());
        let said = run(&store, &env(&server, "wrong"), true).await;
        assert!(said[0].contains("401") && said[0].contains("export --pending"), "{said:?}");
        let outcome =
            deliver_pending(&store, &Environment::default(), &SuiteOtlp::default(), Wanted::default()).await.unwrap();
        assert_eq!(balance(&outcome), [2, 0, 2, 0]);
        assert!(outcome.messages[0].contains("x-key"), "{:?}", outcome.messages);
        let outcome = deliver_pending(
            &store,
            &env(&server, "right"),
            &SuiteOtlp::default(),
            Wanted { run: Some("latest"), destinations: &[] },
        )
        .await
        .unwrap();
        assert_eq!(
            (balance(&outcome), outcome.messages),
            ([2, 2, 0, 0], vec![]),
            "the killed run's root is closed too"
        );
    }
}
