//! Scores in the backends that keep them as scores: Phoenix, Langfuse, `MLflow`. A sink is a destination that takes the
//! log records of evaluation results, after the spans that they are about have been delivered.
//!
//! [`config`] says which backends there are and `place` where, `score` reads log records, `phoenix`, `langfuse` and `mlflow`
//! speak to the backends through `client`. Pushing a score again changes nothing: its id is made of run, case, repeat
//! and evaluator.
//!
//! What is no score is passed over and counted as not sampled: records of other kinds, and failed evaluations where the
//! backend has no place for them. A failed evaluation is never a zero.

mod client;
pub mod config;
mod langfuse;
mod mlflow;
mod phoenix;
mod place;
mod score;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::destination::{Batch, Delivery, Destination, Items, Retry, Signal};
use super::otlp::Otlp;
use crate::trace::provider::Clock;
use client::{Client, Fate};
pub use config::{SinkConfig, SinkError, SinkKind, SinkSnapshot};
use score::{Key, Outgoing};

/// How often a backend is asked about a span that it does not know before an old score is given up.
const TRIES_UNKNOWN: u32 = 6;
/// How old a score must be to be given up: what a backend does not know a day after is not on its way any more.
const OLD: Duration = Duration::from_hours(24);

/// Why a sink cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[error("preparing sink {name}: {reason}")]
pub struct SinkSetupError {
    /// The sink.
    pub name: String,
    /// What went wrong.
    pub reason: String,
}

/// What a look at a backend found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is there and takes the key.
    Fine(String),
    /// Something to know.
    Note(String),
    /// Something to mend, and how.
    Problem(String, String),
}

impl Finding {
    /// What a request that went wrong says.
    fn of(fate: Fate) -> Self {
        let (Fate::Halt(why) | Fate::Refused(why) | Fate::Unknown(why) | Fate::Later(Retry { reason: why, .. })) = fate
        else {
            return Self::Fine(String::new());
        };
        match why.split_once("; ") {
            Some((problem, hint)) => Self::Problem(problem.to_owned(), hint.to_owned()),
            None => Self::Problem(why, "runs go on without it; `spanscore export --pending` delivers later".to_owned()),
        }
    }
}

/// What a backend's module can do.
#[async_trait]
trait Backend: Send + Sync {
    /// Whether it has a place for this.
    fn wants(&self, score: &Outgoing) -> bool;

    /// How many scores it gets at a time: fewer where each is a request, so that what is done is soon acknowledged.
    fn portion(&self) -> usize;

    /// Pushes scores; gives the fate of each. Those after one that waits or halts may be left out.
    async fn push(&self, client: &Client, scores: &[Outgoing]) -> Vec<Option<Fate>>;

    /// Looks whether address, key and project are right; writes nothing.
    async fn look(&self, client: &Client) -> Finding;
}

/// One backend for scores.
pub struct Sink {
    client: Client,
    backend: Box<dyn Backend>,
    memory: Mutex<Memory>,
}

/// What is known of scores that are not settled yet, because one before them is not.
#[derive(Default)]
struct Memory {
    fates: Fates,
    /// How often the backend did not know a score's span.
    unknown: HashMap<Key, u32>,
}

type Fates = HashMap<Key, Fate>;

impl Sink {
    /// A client for the backend; nothing is sent yet.
    pub fn new(config: &SinkConfig) -> Result<Self, SinkSetupError> {
        let failed = |reason: String| SinkSetupError { name: config.name.clone(), reason };
        if let Some(missing) = &config.missing {
            return Err(failed(missing.clone()));
        }
        let backend: Box<dyn Backend> = match config.kind {
            SinkKind::Phoenix => Box::new(phoenix::Phoenix),
            SinkKind::Langfuse => Box::new(langfuse::Langfuse),
            SinkKind::Mlflow => Box::new(mlflow::Mlflow),
        };
        Ok(Self { client: Client::new(config).map_err(failed)?, backend, memory: Mutex::default() })
    }

    /// Looks whether the backend can be reached, takes the key and knows the project.
    pub async fn look(&self) -> Finding {
        self.backend.look(&self.client).await
    }

    /// The verdict on the scores from the front that are settled; what is known of the others is remembered.
    fn settle(&self, scores: &[Option<Outgoing>], fates: &Fates) -> Delivery {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut delivery = Delivery::default();
        let mut unsettled: Option<Fate> = None;
        let mut waiting = 0_u64;
        for score in scores {
            let Some(score) = score else {
                if unsettled.is_none() {
                    delivery.rejected += 1;
                    delivery.rejection = Some("it is no score".to_owned());
                }
                continue;
            };
            let key = score.key();
            let mut fate = fates.get(&key).cloned();
            memory.fates.remove(&key);
            if let Some(Fate::Unknown(why)) = &fate {
                let tries = memory.unknown.entry(key).or_default();
                *tries += 1;
                let age = Clock::System.now_unix_nano().saturating_sub(score.time_unix_nano);
                if *tries >= TRIES_UNKNOWN && u128::from(age) >= OLD.as_nanos() {
                    fate = Some(Fate::Refused(format!("{why}, and its score is more than a day old")));
                }
            }
            if let Some(Fate::Unknown(_)) = fate {
                waiting += 1;
            } else {
                memory.unknown.remove(&key);
            }
            match fate {
                Some(settled @ (Fate::Taken | Fate::Refused(_))) if unsettled.is_some() => {
                    memory.fates.insert(key, settled);
                }
                Some(Fate::Taken) => delivery.delivered += 1,
                Some(Fate::Refused(why)) => {
                    delivery.rejected += 1;
                    delivery.rejection = Some(why);
                }
                None => _ = unsettled.get_or_insert(Fate::Later(Retry::default())),
                // What must be mended counts more than what may pass.
                Some(halt @ Fate::Halt(_)) => unsettled = Some(halt),
                Some(Fate::Later(retry)) if !matches!(unsettled, Some(Fate::Halt(_))) => {
                    unsettled = Some(Fate::Later(retry));
                }
                Some(other) => _ = unsettled.get_or_insert(other),
            }
        }
        match unsettled {
            Some(Fate::Halt(why)) => delivery.halt = Some(why),
            Some(Fate::Later(retry)) => delivery.retry = Some(retry),
            Some(Fate::Unknown(why)) => {
                let reason = format!("{why}; were the run's spans sent to it, and has it stored them?");
                delivery.waiting = waiting;
                delivery.retry = Some(Retry { after: None, reason, unreachable: false });
            }
            _ => {}
        }
        delivery
    }
}

#[async_trait]
impl Destination for Sink {
    fn name(&self) -> &str {
        &self.client.config().name
    }

    fn takes(&self, signal: Signal) -> bool {
        signal == Signal::Logs
    }

    fn follows(&self) -> Option<&str> {
        Some(Otlp::NAME)
    }

    fn wants(&self, items: &Items) -> Option<Vec<bool>> {
        let Items::Logs(records) = items else { return None };
        let wants = |record| Outgoing::of(record).is_some_and(|score| self.backend.wants(&score));
        Some(records.iter().map(wants).collect())
    }

    fn portion(&self) -> usize {
        self.backend.portion()
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    async fn deliver(&self, batch: &Batch) -> Delivery {
        let Items::Logs(records) = &batch.items else {
            return Delivery::halted("a score sink takes no spans");
        };
        let scores: Vec<Option<Outgoing>> = records.iter().map(Outgoing::of).collect();
        let mut fates: Fates = {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let known = |score: &Outgoing| Some((score.key(), memory.fates.get(&score.key())?.clone()));
            scores.iter().flatten().filter_map(known).collect()
        };
        let open: Vec<Outgoing> =
            scores.iter().flatten().filter(|score| !fates.contains_key(&score.key())).cloned().collect();
        let pushed = if open.is_empty() { Vec::new() } else { self.backend.push(&self.client, &open).await };
        fates.extend(open.iter().zip(pushed).filter_map(|(score, fate)| Some((score.key(), fate?))));
        self.settle(&scores, &fates)
    }
}

/// The fates of scores one after another, where the first that waits or halts ends it.
const fn goes_on(fate: &Fate) -> bool {
    !matches!(fate, Fate::Later(_) | Fate::Halt(_))
}

#[cfg(test)]
mod aside_tests;
#[cfg(test)]
mod echo_tests;
#[cfg(test)]
mod tests;
