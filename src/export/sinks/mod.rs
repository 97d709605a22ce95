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

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::destination::{Batch, Delivery, Destination, Items, Retry, Signal, Waiting};
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

    /// The verdict on the scores from the front that are settled. What is known of the others is part of it where they only wait for
    /// their spans, and remembered where they come again.
    fn settle(&self, scores: &[Option<Outgoing>], fates: &[Option<Fate>]) -> Delivery {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let fates: Vec<Fate> =
            scores.iter().zip(fates).map(|(score, fate)| memory.judge(score.as_ref(), fate.as_ref())).collect();
        let is_settled = |fate: &Fate| matches!(fate, Fate::Taken | Fate::Refused(_));
        let front = fates.iter().take_while(|fate| is_settled(fate)).count();
        let (settled, rest) = fates.split_at(front);
        let refused = |fates: &[Fate]| fates.iter().filter(|fate| matches!(fate, Fate::Refused(_))).count() as u64;
        let mut delivery = Delivery { rejected: refused(settled), ..Delivery::default() };
        delivery.delivered = front as u64 - delivery.rejected;
        // What must be mended counts more than what may pass, and that more than what waits.
        let halt = rest.iter().rev().find(|fate| matches!(fate, Fate::Halt(_)));
        let later = rest.iter().rev().find(|fate| matches!(fate, Fate::Later(_)));
        match halt.or(later).or(rest.first()) {
            Some(Fate::Halt(why)) => delivery.halt = Some(why.clone()),
            Some(Fate::Later(retry)) => delivery.retry = Some(retry.clone()),
            Some(Fate::Unknown(why)) => {
                let reason = format!("{why}; were the run's spans sent to it, and has it stored them?");
                let places = (0..rest.len()).filter(|&place| !is_settled(&rest[place])).collect();
                delivery.waiting = Some(Waiting { places, rejected: refused(rest) });
                delivery.retry = Some(Retry { after: None, reason, unreachable: false });
            }
            _ => {}
        }
        let told = if delivery.waiting.is_some() { &fates } else { settled };
        delivery.rejection = told.iter().rev().find_map(|fate| match fate {
            Fate::Refused(why) => Some(why.clone()),
            _ => None,
        });
        if delivery.waiting.is_none() {
            let known = scores.iter().zip(&fates).skip(front).filter(|(_, fate)| is_settled(fate));
            memory.fates.extend(known.filter_map(|(score, fate)| Some((score.as_ref()?.key(), fate.clone()))));
        }
        delivery
    }
}

impl Memory {
    /// What is to be said of a score with this fate, counting how often its span was not known.
    fn judge(&mut self, score: Option<&Outgoing>, fate: Option<&Fate>) -> Fate {
        let Some(score) = score else { return Fate::Refused("it is no score".to_owned()) };
        let key = score.key();
        self.fates.remove(&key);
        let Some(Fate::Unknown(why)) = fate else {
            self.unknown.remove(&key);
            return fate.cloned().unwrap_or(Fate::Later(Retry::default()));
        };
        let tries = self.unknown.entry(key).or_default();
        *tries += 1;
        let age = Clock::System.now_unix_nano().saturating_sub(score.time_unix_nano);
        if *tries >= TRIES_UNKNOWN && u128::from(age) >= OLD.as_nanos() {
            self.unknown.remove(&key);
            return Fate::Refused(format!("{why}, and its score is more than a day old"));
        }
        Fate::Unknown(why.clone())
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
        // Where two records are of one score, the last says what it is.
        let mut seen = HashSet::new();
        let is_open = |score: &&Outgoing| !fates.contains_key(&score.key()) && seen.insert(score.key());
        let mut open: Vec<Outgoing> = scores.iter().flatten().rev().filter(is_open).cloned().collect();
        open.reverse();
        let pushed = if open.is_empty() { Vec::new() } else { self.backend.push(&self.client, &open).await };
        fates.extend(open.iter().zip(pushed).filter_map(|(score, fate)| Some((score.key(), fate?))));
        let fates: Vec<Option<Fate>> = scores.iter().map(|score| fates.get(&score.as_ref()?.key()).cloned()).collect();
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
