//! The workflow that is a program of the user's: a pool of processes that read cases from stdin and answer on stdout.
//!
//! The application's spans join the trial's trace through the `traceparent` of each line; where they are sent is in the
//! line and in the environment. A program that dies is started again a bounded number of times, and the cases that it left
//! unanswered are asked again like failed HTTP tries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::line::{failed, question};
use super::process::{Asked, Enlisted, Leash, Listener, Process, Program};
use super::{AnswerParser, Assessment, TrialContext, Workflow};
use crate::llm::{Limits, NOT_STARTED, Price};
use crate::model::{Case, Digest, SpanId, TraceId};
use crate::trace::provider::Ambient;
use crate::trace::semconv::span;
use crate::trace::traceparent::TraceParent;

/// The class of a trial whose program died over it.
const CRASHED: &str = "crashed";
/// The class of a trial that the program did not answer in time.
const TIMEOUT: &str = "timeout";

/// Variables that would send the application's telemetry elsewhere, or drop some of it, in spite of the endpoint that the run
/// sets. Source: OpenTelemetry environment variable specification, OTLP exporter specification.
const DIVERTING: [&str; 21] = [
    "OTEL_TRACES_EXPORTER",
    "OTEL_LOGS_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_INSECURE",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
    "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
    "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
];

/// Why a program cannot be the workflow.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is none of this name.
    #[error(
        "the workflow's program `{program}` is not found {place}; set [workflow] command to a program that is there"
    )]
    NotFound {
        /// As the suite names it.
        program: String,
        /// Where it was looked for.
        place: String,
    },
    /// The folder that it shall run in is none.
    #[error("the workflow's folder `{folder}` is no folder; set [workflow] cwd to one that is there")]
    Folder {
        /// As resolved.
        folder: String,
    },
    /// It cannot be started.
    #[error(
        "starting the workflow's program `{program}`: {source}; set [workflow] command to a program that can be run"
    )]
    Start {
        /// As the suite names it.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// What to run, and how.
#[derive(Clone)]
pub struct CommandSettings {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The folder that it runs in.
    pub folder: PathBuf,
    /// Variables to set beside those that it inherits.
    pub env: BTreeMap<String, String>,
    /// What else decides its answers, for the digest.
    pub version: Option<String>,
    /// Processes at once, at least 1.
    pub processes: usize,
    /// How often in a row, without an answer in between, a process that died is started anew.
    pub restarts: u32,
    /// How long one case may take.
    pub timeout: Duration,
    /// How often a case is asked again after its process died.
    pub max_retries: u32,
    /// How long the program may take to end after its stdin is closed.
    pub grace: Duration,
    /// Where the application is to send its telemetry (OTLP over HTTP, base URL).
    pub otlp_endpoint: Option<String>,
    /// The span of the run, for what the application does outside any case.
    pub run: Option<(TraceId, SpanId)>,
    /// Texts that must not get into messages.
    pub secrets: Vec<String>,
    /// Hears what the program says besides answers.
    pub listener: Listener,
    /// Where process groups are noted as long as they live.
    pub leash: Leash,
}

/// The workflow: a program, and how its answers are read.
pub struct CommandWorkflow {
    settings: CommandSettings,
    program: Program,
    parser: AnswerParser,
    parser_source: String,
    price: Option<Price>,
    limits: Arc<Limits>,
    ambient: Ambient,
    pool: Mutex<Pool>,
    changed: Arc<Notify>,
}

struct Pool {
    processes: Vec<Arc<Process>>,
    /// Deaths since the last answer.
    deaths: u32,
    answered: bool,
    /// Why no process is started any more.
    gone: Option<String>,
}

/// A process with room for a case, or the news that there will be none.
enum Picked {
    Process(Arc<Process>, Enlisted),
    /// No process may take it now.
    Busy,
    Gone(String),
}

impl CommandWorkflow {
    /// Starts the program's processes.
    pub fn start(
        settings: CommandSettings,
        parser: AnswerParser,
        parser_source: String,
        price: Option<Price>,
        limits: Arc<Limits>,
        ambient: Ambient,
    ) -> Result<Self, CommandError> {
        let mut words = settings.command.clone();
        if let Some(name) = words.first_mut() {
            *name = in_folder(name, &settings.folder).display().to_string();
        }
        let program = Program {
            words,
            folder: settings.folder.clone(),
            env: environment(&settings),
            removed: DIVERTING.map(str::to_owned).to_vec(),
            secrets: settings.secrets.clone().into(),
            listener: Arc::clone(&settings.listener),
            leash: settings.leash.clone(),
        };
        let changed = Arc::new(Notify::new());
        let mut processes = Vec::new();
        for _ in 0..settings.processes.max(1) {
            let started = Process::start(&program, Arc::clone(&changed));
            processes.push(Arc::new(started.map_err(|source| start_error(&settings, source))?));
        }
        let pool = Mutex::new(Pool { processes, deaths: 0, answered: false, gone: None });
        Ok(Self { settings, program, parser, parser_source, price, limits, ambient, pool, changed })
    }

    /// Lets the program end: closes its stdin, waits while it writes its last spans, then ends it with all its children.
    /// Says so if it did not end by itself.
    pub async fn close(&self) -> Option<String> {
        let processes = std::mem::take(&mut self.pool().processes);
        let closing = processes.iter().map(|process| process.close(self.settings.grace));
        let by_itself = futures::future::join_all(closing).await;
        (!by_itself.iter().all(|ended| *ended)).then(|| {
            format!(
                "the workflow's program did not end within {} of the end of its input and was killed; spans that it had not \
                 sent are lost ([workflow] grace)",
                humantime::format_duration(self.settings.grace)
            )
        })
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process with the fewest cases in flight that may take this one; the dead are replaced first.
    fn pick(&self, id: &str, repeat: u32) -> Picked {
        let mut pool = self.pool();
        if let Err(why) = self.replace_dead(&mut pool) {
            return Picked::Gone(why);
        }
        let mut by_load: Vec<_> = pool.processes.iter().map(|process| (process.waiting(), process)).collect();
        by_load.sort_by_key(|(waiting, _)| *waiting);
        for (_, process) in by_load {
            if let Some(enlisted) = process.enlist(id, repeat) {
                return Picked::Process(Arc::clone(process), enlisted);
            }
        }
        Picked::Busy
    }

    fn replace_dead(&self, pool: &mut Pool) -> Result<(), String> {
        if let Some(why) = &pool.gone {
            return Err(why.clone());
        }
        for place in 0..pool.processes.len() {
            let Some(death) = pool.processes[place].death() else { continue };
            pool.answered |= pool.processes[place].has_answered();
            pool.deaths += 1;
            let why = if !pool.answered {
                Some(format!("{death}; it has answered nothing yet"))
            } else if pool.deaths > self.settings.restarts {
                Some(format!("{death}; it has died {} times without an answer in between", pool.deaths))
            } else {
                match Process::start(&self.program, Arc::clone(&self.changed)) {
                    Ok(process) => {
                        pool.processes[place] = Arc::new(process);
                        None
                    }
                    Err(source) => Some(start_error(&self.settings, source).to_string()),
                }
            };
            if let Some(why) = why {
                return Err(pool.gone.insert(why).clone());
            }
        }
        Ok(())
    }

    /// Waits for a process that may take the case: for one that waits for another repeat of it, as long as a case may take.
    async fn process_for(&self, id: &str, repeat: u32) -> Picked {
        let waiting = async {
            loop {
                // Registered before looking, so that no change is missed.
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                match self.pick(id, repeat) {
                    Picked::Busy => changed.await,
                    picked => return picked,
                }
            }
        };
        tokio::time::timeout(self.settings.timeout, waiting).await.unwrap_or(Picked::Busy)
    }

    /// A case that no process will ever answer.
    fn gone(why: String, case: &Case, attempts: u32) -> Assessment {
        let mut assessment = failed(CRASHED, why, case, attempts, 0);
        assessment.fatal = true;
        assessment.unavailable = true;
        assessment
    }

    fn timed_out(&self, why: &str, case: &Case, attempts: u32, start: u64) -> Assessment {
        let limit = humantime::format_duration(self.settings.timeout);
        let latency = self.ambient.now().saturating_sub(start);
        failed(TIMEOUT, format!("{why} within {limit}"), case, attempts, latency)
    }
}

#[async_trait]
impl Workflow for CommandWorkflow {
    fn name(&self) -> &str {
        span::ASSESS_CLAIMS_WITH_CONTEXT
    }

    fn digest(&self) -> Digest {
        let CommandSettings { command, version, env, .. } = &self.settings;
        let canonical = json!(["command", command, version, env, self.parser_source]);
        Digest::from_bytes(Sha256::digest(canonical.to_string().as_bytes()).into())
    }

    async fn assess(&self, case: &Case, trial: TrialContext) -> Assessment {
        let parent = TraceParent::sampled(trial.trace_id, trial.parent_span_id).to_string();
        let line = question(case, trial.repeat, &parent, self.settings.otlp_endpoint.as_deref());
        let estimate = Limits::estimate_tokens(case.claim.len() + case.context.len());
        tokio::select! {
            biased;
            () = self.limits.acquire(estimate) => {}
            () = self.limits.closed() => {
                return failed(NOT_STARTED, "the run was stopped before the case was sent".to_owned(), case, 0, 0);
            }
        }
        let id = case.id.as_str();
        let start = self.ambient.now();
        let mut attempts = 0;
        loop {
            let (process, enlisted) = match self.process_for(id, trial.repeat).await {
                Picked::Process(process, enlisted) => (process, enlisted),
                Picked::Busy => {
                    let why = "the program did not answer another repeat of this case";
                    return self.timed_out(why, case, attempts, start);
                }
                Picked::Gone(why) => return Self::gone(why, case, attempts),
            };
            attempts += 1;
            match process.ask(enlisted, line.clone(), self.settings.timeout).await {
                Asked::Answer(answer) => {
                    let mut pool = self.pool();
                    (pool.deaths, pool.answered) = (0, true);
                    drop(pool);
                    if let Some(tokens) = answer.tokens() {
                        self.limits.settle(estimate, tokens);
                    }
                    let latency = self.ambient.now().saturating_sub(start);
                    return answer.into_assessment(case, &self.parser, self.price.as_ref(), attempts, latency);
                }
                Asked::Timeout => return self.timed_out("the program did not answer", case, attempts, start),
                Asked::Died(how) if attempts > self.settings.max_retries => {
                    let message = format!("{how} (after {attempts} attempts)");
                    // Others may have had better luck: only the pool knows whether it is at its end.
                    return match self.pick(id, trial.repeat) {
                        Picked::Gone(why) => Self::gone(why, case, attempts),
                        Picked::Process(process, enlisted) => {
                            process.withdraw(enlisted);
                            failed(CRASHED, message, case, attempts, self.ambient.now().saturating_sub(start))
                        }
                        Picked::Busy => {
                            failed(CRASHED, message, case, attempts, self.ambient.now().saturating_sub(start))
                        }
                    };
                }
                Asked::Died(_) => {}
            }
        }
    }
}

/// The path that a program of this name has; `None` if there is none that could be run.
pub fn find(name: &str, folder: &Path, search_path: Option<&str>) -> Option<PathBuf> {
    let candidates = if name.contains('/') {
        vec![in_folder(name, folder)]
    } else {
        search_path.unwrap_or_default().split(':').map(|dir| Path::new(dir).join(name)).collect()
    };
    candidates.into_iter().find(|path| {
        use std::os::unix::fs::PermissionsExt as _;
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

/// Checks that there is a folder and a program in it or on the path, and starts nothing.
pub fn check(settings_command: &[String], folder: &Path, search_path: Option<&str>) -> Result<(), CommandError> {
    if !folder.is_dir() {
        return Err(CommandError::Folder { folder: folder.display().to_string() });
    }
    let name = settings_command.first().map(String::as_str).unwrap_or_default();
    match find(name, folder, search_path) {
        Some(_) => Ok(()),
        None => Err(not_found(name, folder)),
    }
}

fn not_found(name: &str, folder: &Path) -> CommandError {
    let place = if name.contains('/') {
        format!("in `{}`, or cannot be run", folder.display())
    } else {
        "in any folder of PATH".to_owned()
    };
    CommandError::NotFound { program: name.to_owned(), place }
}

fn start_error(settings: &CommandSettings, source: std::io::Error) -> CommandError {
    let program = settings.command.first().cloned().unwrap_or_default();
    if !settings.folder.is_dir() {
        return CommandError::Folder { folder: settings.folder.display().to_string() };
    }
    match source.kind() {
        std::io::ErrorKind::NotFound => not_found(&program, &settings.folder),
        _ => CommandError::Start { program, source },
    }
}

/// A name with a slash is a path from the folder that the program runs in; others are looked for on the path.
fn in_folder(name: &str, folder: &Path) -> PathBuf {
    if name.contains('/') {
        // An absolute path stays what it is.
        let path = folder.join(name);
        std::path::absolute(&path).unwrap_or(path)
    } else {
        PathBuf::from(name)
    }
}

/// What the program's environment has beside what it inherits; the suite's own variables come last.
fn environment(settings: &CommandSettings) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    if let Some(endpoint) = &settings.otlp_endpoint {
        env.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint.clone());
        env.insert("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), "http/protobuf".to_owned());
    }
    if let Some((trace_id, span_id)) = settings.run {
        env.insert("TRACEPARENT".to_owned(), TraceParent::sampled(trace_id, span_id).to_string());
    }
    env.extend(settings.env.clone());
    env
}
