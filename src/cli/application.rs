//! The workflow of a run, made ready: the one inside this program with its model, or an application of the user's with
//! the collector that takes its spans.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use super::context::note;
use super::inputs::Inputs;
use super::model::{self, OpenModel};
use super::{Context, session};
use crate::config::{ApplicationPlan, CommandPlan, HttpPlan, ModelPlan, RunPlan, WorkflowPlan};
use crate::llm::{Limits, Parameters, PostSettings, Price, Secret};
use crate::model::{Digest, SpanId, TraceId};
use crate::report::text::clean;
use crate::serve::app::Traffic;
use crate::serve::collector::{Collector, CollectorOptions};
use crate::store::Writer;
use crate::trace::provider::Ambient;
use crate::workflow::{
    AssessClaims, CommandSettings, CommandWorkflow, HttpSettings, HttpWorkflow, Leash, Listener, Said, Semconv,
    Workflow, command, line,
};

/// Words in the names of variables that hold secrets.
const SECRET_WORDS: [&str; 5] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL"];
/// Shorter values of such variables are no secrets, and taking them out would garble messages.
const SECRET_LENGTH: usize = 8;

/// A workflow that is ready to answer.
pub(super) struct Ready {
    pub(super) workflow: Arc<dyn Workflow>,
    /// The model's name, for lists.
    pub(super) model: String,
    /// SHA-256 of what decides the answers besides the workflow's own digest.
    pub(super) model_digest: Digest,
    pub(super) parameters: Parameters,
    pub(super) price: Option<Price>,
    /// Closed when the run is to stop.
    pub(super) limits: Arc<Limits>,
    /// The session's own span, if the application was told of it.
    pub(super) root: Option<(TraceId, SpanId)>,
    ending: Ending,
}

/// What is to be ended after the run, in this order.
#[derive(Default)]
struct Ending {
    command: Option<Arc<CommandWorkflow>>,
    collector: Option<Embedded>,
    /// How long an HTTP application may take to send its last spans.
    linger: Option<Duration>,
    /// The built-in model's server lives as long as the run.
    _model: Option<OpenModel>,
}

/// Everything that a workflow is made of.
pub(super) struct Making<'a> {
    pub(super) context: &'a Context,
    pub(super) plan: &'a RunPlan,
    pub(super) model: &'a ModelPlan,
    pub(super) inputs: &'a Inputs,
    pub(super) ambient: &'a Ambient,
    pub(super) leash: &'a Leash,
}

impl Making<'_> {
    /// Makes the plan's workflow ready: connects, or starts the collector and the program.
    pub(super) async fn ready(&self, writer: &Writer) -> anyhow::Result<Ready> {
        let Some(shared) = self.plan.workflow.application() else { return self.own().await };
        let collector = Embedded::start(writer, shared).await?;
        let root = self.root();
        self.application(Some(collector.endpoint.clone()), root).map(|mut ready| {
            ready.ending.collector = Some(collector);
            ready
        })
    }

    async fn own(&self) -> anyhow::Result<Ready> {
        let open =
            model::open(self.plan, self.model, (&self.context.store_dir, &self.context.env), self.ambient).await?;
        let inputs = self.inputs;
        let workflow = AssessClaims {
            prompt: inputs.prompt.clone(),
            model: Arc::clone(&open.model),
            parameters: open.parameters.clone(),
            parser: inputs.parser.clone(),
            parser_source: inputs.parser_source.clone(),
            price: open.price,
            capture: inputs.capture,
            semconv: if self.plan.semconv_latest { Semconv::Latest } else { Semconv::Dual },
            ambient: self.ambient.clone(),
        };
        Ok(Ready {
            workflow: Arc::new(workflow),
            model: open.name.clone(),
            model_digest: open.digest,
            parameters: open.parameters.clone(),
            price: open.price,
            limits: Arc::clone(&open.limits),
            root: None,
            ending: Ending { _model: Some(open), ..Ending::default() },
        })
    }

    /// An application that sends its spans to this endpoint.
    pub(super) fn application(&self, endpoint: Option<String>, root: (TraceId, SpanId)) -> anyhow::Result<Ready> {
        let limits = Arc::new(Limits::new(self.plan.rpm, self.plan.tpm));
        let price = model::price(self.model);
        let mut ending = Ending::default();
        let workflow: Arc<dyn Workflow> = match &self.plan.workflow {
            WorkflowPlan::Http(plan) => {
                ending.linger = Some(plan.shared.grace);
                Arc::new(self.http(plan, endpoint, price, &limits)?)
            }
            WorkflowPlan::Command(plan) => {
                let program = Arc::new(self.command(plan, endpoint, root, price, &limits)?);
                ending.command = Some(Arc::clone(&program));
                program
            }
            WorkflowPlan::AssessClaims => anyhow::bail!("the workflow is no application"),
        };
        Ok(Ready {
            model: self.model.name.clone().unwrap_or_else(|| self.model.provider.as_str().to_owned()),
            // The application's digest says all that is known of it.
            model_digest: workflow.digest(),
            workflow,
            parameters: Parameters::default(),
            price,
            limits,
            root: Some(root),
            ending,
        })
    }

    fn http(
        &self,
        plan: &HttpPlan,
        endpoint: Option<String>,
        price: Option<Price>,
        limits: &Arc<Limits>,
    ) -> anyhow::Result<HttpWorkflow> {
        let post = PostSettings {
            url: plan.url.clone(),
            headers: plan.headers.clone().into_iter().collect(),
            token: plan.token.clone().map(Secret::new),
            timeout_per_attempt: self.plan.timeout,
            max_retries: self.plan.max_retries,
            max_body: line::MAX_ANSWER,
        };
        let settings = HttpSettings { post, version: plan.shared.version.clone(), otlp_endpoint: endpoint };
        let (parser, source) = (self.inputs.parser.clone(), self.inputs.parser_source.clone());
        let limits = Arc::clone(limits);
        HttpWorkflow::new(settings, parser, source, price, limits, self.ambient.clone()).context("[workflow]")
    }

    fn command(
        &self,
        plan: &CommandPlan,
        endpoint: Option<String>,
        root: (TraceId, SpanId),
        price: Option<Price>,
        limits: &Arc<Limits>,
    ) -> anyhow::Result<CommandWorkflow> {
        let mut env = plan.env.clone();
        if self.inputs.capture.spans {
            env.entry("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT".to_owned()).or_insert("true".to_owned());
        }
        let settings = CommandSettings {
            command: plan.command.clone(),
            folder: plan.folder.clone(),
            env,
            version: plan.shared.version.clone(),
            processes: plan.processes,
            restarts: plan.restarts,
            timeout: self.plan.timeout,
            max_retries: self.plan.max_retries,
            grace: plan.shared.grace,
            otlp_endpoint: endpoint,
            run: Some(root),
            secrets: self.secrets(plan),
            listener: listener(&plan.command, self.context.quiet),
            leash: self.leash.clone(),
        };
        let (parser, source) = (self.inputs.parser.clone(), self.inputs.parser_source.clone());
        let limits = Arc::clone(limits);
        Ok(CommandWorkflow::start(settings, parser, source, price, limits, self.ambient.clone())?)
    }

    /// Ids of the session's own span: below the caller's, if there is one.
    pub(super) fn root(&self) -> (TraceId, SpanId) {
        let ids = &self.ambient.ids;
        // A malformed parent is warned of where the run begins.
        let parent = session::parent(&self.context.env).ok().flatten();
        (parent.map_or_else(|| ids.trace_id(), |(trace_id, _)| trace_id), ids.span_id())
    }

    fn secrets(&self, plan: &CommandPlan) -> Vec<String> {
        let inherited = self.context.env.iter();
        let own = plan.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let secret = |name: &str| SECRET_WORDS.iter().any(|word| name.to_ascii_uppercase().contains(word));
        let found = inherited.chain(own).filter(|(name, value)| secret(name) && value.len() >= SECRET_LENGTH);
        found.map(|(_, value)| value.to_owned()).collect()
    }
}

impl Ready {
    /// Lets the application end and its spans arrive; gives what there is to say.
    pub(super) async fn finish(self) -> Vec<String> {
        let Self { ending, workflow, .. } = self;
        drop(workflow);
        let mut said = Vec::new();
        if let Some(command) = &ending.command {
            said.extend(command.close().await);
        }
        if let Some(collector) = ending.collector {
            if let Some(linger) = ending.linger {
                collector.linger(linger).await;
            }
            said.extend(collector.stop().await);
        }
        said
    }
}

/// Says what the program says: its stderr as it is, under its name.
fn listener(command: &[String], quiet: bool) -> Listener {
    // `python3 app.py` is known by its script.
    let script = command.iter().skip(1).find(|word| !word.starts_with('-') && word.contains('.'));
    let name = script.or(command.first()).map(String::as_str).unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or(name).to_owned();
    Arc::new(move |said| match said {
        Said::Stderr(_) if quiet => {}
        Said::Stderr(text) => note(&format!("{name}: {text}")),
        Said::Fault(text) => note(&format!("warning: {name}: {}", clean(&text))),
    })
}

/// Checks without starting anything that the application is there.
pub(super) fn check(plan: &RunPlan, context: &Context) -> anyhow::Result<()> {
    match &plan.workflow {
        WorkflowPlan::Command(own) => {
            let path = own.env.get("PATH").map(String::as_str).or(context.env.get("PATH"));
            Ok(command::check(&own.command, &own.folder, path)?)
        }
        WorkflowPlan::Http(_) | WorkflowPlan::AssessClaims => Ok(()),
    }
}

/// The collector that a run keeps for its application: it writes through the run's own writer.
struct Embedded {
    collector: Collector,
    traffic: Arc<Traffic>,
    /// Whether the user chose the port, to set it in the application.
    known: bool,
    endpoint: String,
}

impl Embedded {
    async fn start(writer: &Writer, plan: &ApplicationPlan) -> anyhow::Result<Self> {
        let options = CollectorOptions { http: Some(plan.otlp_listen), grpc: None, ..CollectorOptions::default() };
        let traffic = Arc::new(Traffic::default());
        let collector = Collector::start(writer.clone(), Arc::clone(&traffic), options)
            .await
            .context("listening for the application's spans ([workflow] otlp_listen)")?;
        let address = collector.addresses().otlp_http.context("the collector has an HTTP address")?;
        Ok(Self { collector, traffic, known: plan.otlp_listen.port() != 0, endpoint: format!("http://{address}") })
    }

    /// Waits while an application that sends its spans here may have more of them: it cannot be told that the run is over.
    async fn linger(&self, long: Duration) {
        if self.known || self.traffic.spans.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(long).await;
        }
    }

    /// Takes no more spans; says what could not be taken.
    async fn stop(self) -> Option<String> {
        self.collector.stop().await;
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let (rejected, refused) = (count(&self.traffic.rejected), count(&self.traffic.refused_requests));
        (rejected + refused > 0).then(|| {
            format!(
                "warning: of the application's telemetry {rejected} items and {refused} requests could not be taken; its own \
                 log says why"
            )
        })
    }
}
