//! Application Insights as a destination: what Azure Monitor's portal, Foundry's traces and its evaluations read.
//!
//! [`connection`] reads connection strings, [`project`] asks a Foundry project for one, [`access`] says who asks and whether
//! with Entra tokens. `envelope` turns spans and log records into envelopes with `properties`, `ingestion` sends them and says
//! what became of each; [`query`] reads them back. Source: Azure Monitor's own exporter for OpenTelemetry, whose
//! output `envelope` is tested against.

pub mod access;
pub mod connection;
mod envelope;
mod ingestion;
pub mod project;
pub mod query;
mod properties;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::destination::{Batch, Delivery, Destination, Items, Retry, Signal};
use crate::trace::provider::Clock;
use access::{Access, InsightsSettings, InsightsSource};
use connection::ConnectionString;
use envelope::{Envelope, Maker, time};
use ingestion::{Answer, Fate, Ingestion};
use project::{Connected, ProjectError, connected};

/// The most bytes of envelopes in a request, before it is packed.
const BYTES: usize = 2 << 20;
/// The most envelopes in a request.
const ENVELOPES: usize = 500;

/// How often an envelope fails for a reason of its own before it is given up, if it is old as well.
const TRIES: u32 = 6;
/// How old it must be. Application Insights takes telemetry of the last two days: what waits behind it has one left.
const OLD: Duration = Duration::from_hours(24);
/// How many envelopes of a batch with old items are kept to be sent with what failed, one each time: were it sent alone, its
/// failure would look like one of the whole service.
const COMPANY: usize = TRIES as usize - 1;

/// How many envelopes, each alone, may be refused in words that are not the endpoint's before requests are no longer split to
/// find the one that is meant.
const STRANGE: usize = 3;

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
#[error("preparing the ingestion endpoint of Application Insights: {0}")]
pub struct AppInsightsSetupError(String);

/// One resource of Application Insights.
pub struct AppInsights {
    settings: InsightsSettings,
    /// Set once the resource is known.
    resource: OnceCell<Resource>,
    /// What became of envelopes whose span or log record is not settled yet, by their content: they are not sent again.
    known: [Mutex<Known>; 2],
}

/// The resource that telemetry goes to.
struct Resource {
    key: String,
    ingestion: Ingestion,
    /// What people should know of it.
    found: Found,
}

/// What leads to a resource, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name of the project's connection, if a project led there.
    pub connection: Option<String>,
    /// Where telemetry is sent.
    pub ingestion: String,
}

/// Why the resource is not known.
enum NoResource {
    Project(ProjectError),
    Client(String),
}

#[derive(Default)]
struct Known {
    hasher: RandomState,
    fates: HashMap<u64, Fate>,
    /// How often an envelope failed for a reason of its own.
    tries: HashMap<u64, u32>,
}

impl AppInsights {
    /// The name of this destination.
    pub const NAME: &'static str = "appinsights";

    /// A client for a resource. Nothing is sent yet, and a project is not asked yet.
    pub fn new(settings: InsightsSettings) -> Result<Self, AppInsightsSetupError> {
        let resource = match &settings.source {
            InsightsSource::Connection(connection) => {
                OnceCell::new_with(Some(resource(&settings, connection, None).map_err(AppInsightsSetupError)?))
            }
            InsightsSource::Project(_) => OnceCell::new(),
        };
        Ok(Self { settings, resource, known: Default::default() })
    }

    /// The resource; whoever needs it first asks the project, and the others wait for that.
    async fn resource(&self) -> Result<&Resource, NoResource> {
        let find = async || {
            let InsightsSource::Project(project) = &self.settings.source else {
                unreachable!("a connection string is read when the client is made")
            };
            let refused = |source| NoResource::Project(ProjectError::Identity { project: project.clone(), source });
            let tokens = self.settings.tokens.as_ref().map_err(|error| refused(error.clone()))?;
            let found = connected(project, tokens.as_ref(), self.settings.azure.timeout).await;
            let Connected { name, connection } = found.map_err(NoResource::Project)?;
            resource(&self.settings, &connection, Some(name)).map_err(NoResource::Client)
        };
        self.resource.get_or_try_init(find).await
    }

    /// Asks for the resource and sends it nothing, in a request of its own: whether it is there and lets this identity
    /// in. Whether it knows the key shows only with telemetry.
    pub async fn probe(&self) -> Result<Found, String> {
        let resource = match self.resource().await {
            Ok(resource) => resource,
            Err(NoResource::Project(error)) => return Err(error.to_string()),
            Err(NoResource::Client(why)) => return Err(why),
        };
        resource.ingestion.look().await.map(|()| resource.found.clone())
    }
}

#[async_trait]
impl Destination for AppInsights {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn takes(&self, _signal: Signal) -> bool {
        true
    }

    fn may_have_sent(&self) -> bool {
        self.resource.initialized()
    }

    async fn deliver(&self, batch: &Batch) -> Delivery {
        let resource = match self.resource().await {
            Ok(resource) => resource,
            Err(NoResource::Client(why)) => return Delivery::halted(why),
            Err(NoResource::Project(error)) => {
                return match error.retry() {
                    Some(retry) => Delivery::later(retry, false),
                    None => Delivery::halted(error.to_string()),
                };
            }
        };
        let maker = Maker::new(&resource.key, &batch.origin);
        let items: Vec<(u64, Vec<Envelope>)> = match &batch.items {
            Items::Spans(spans) => spans.iter().map(|span| (span.start_unix_nano, maker.span(span))).collect(),
            Items::Logs(records) => records.iter().map(|record| (time(record), vec![maker.log(record)])).collect(),
        };
        let known = &self.known[usize::from(batch.items.signal() == Signal::Logs)];
        let mut known = std::mem::take(&mut *known.lock().unwrap_or_else(PoisonError::into_inner));
        let mut sheet = Sheet::new(&items, &known);
        let (retry, halt, ambiguous) = resource.send_all(&mut sheet).await;
        let delivery = sheet.settle(&mut known, ambiguous);
        let place = &self.known[usize::from(batch.items.signal() == Signal::Logs)];
        *place.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Delivery { retry, halt, ambiguous, ..delivery }
    }
}

fn resource(
    settings: &InsightsSettings,
    connection: &ConnectionString,
    name: Option<String>,
) -> Result<Resource, String> {
    let access = Access::new(settings, connection);
    let ingestion = Ingestion::new(&connection.ingestion, &connection.instrumentation_key, access)?;
    let found = Found { connection: name, ingestion: connection.ingestion.to_string() };
    Ok(Resource { key: connection.instrumentation_key.clone(), ingestion, found })
}

impl Resource {
    /// Sends what is open, request by request, until something goes wrong.
    async fn send_all(&self, sheet: &mut Sheet) -> (Option<Retry>, Option<String>, bool) {
        let mut parts = sheet.parts();
        parts.reverse();
        let mut again: Option<Retry> = None;
        let mut strange: Vec<(usize, String)> = Vec::new();
        let mut unsplit: Vec<Vec<usize>> = Vec::new();
        let mut is_heard = false;
        while let Some(part) = parts.pop().or_else(|| unsplit.pop_if(|_| is_heard)) {
            let bodies: Vec<&[u8]> = part.iter().map(|&place| sheet.entries[place].body.as_slice()).collect();
            match self.ingestion.send(&bodies).await {
                Answer::Each { fates, after, ambiguous } => {
                    is_heard = true;
                    // What was refused was in the way of what nothing is said of.
                    let in_the_way = !ambiguous && fates.iter().any(|fate| matches!(fate, Fate::Refused(_)));
                    let mut rest = Vec::new();
                    for (place, fate) in part.into_iter().zip(fates) {
                        let entry = &mut sheet.entries[place];
                        let reason = match fate {
                            Fate::Unsaid(_) if in_the_way => {
                                rest.push(place);
                                None
                            }
                            Fate::Again(why) => entry.failed(why),
                            Fate::Busy(why) | Fate::Unsaid(why) => Some(why),
                            settled => {
                                entry.fate = Some(settled);
                                None
                            }
                        };
                        again = reason.map(|reason| Retry { after, reason, unreachable: false }).or(again);
                    }
                    if again.is_some() {
                        return (again, None, ambiguous);
                    }
                    if !rest.is_empty() {
                        parts.push(rest);
                    }
                }
                Answer::All => part.into_iter().for_each(|place| sheet.entries[place].fate = Some(Fate::Taken)),
                // Enough of these were split: the others show whether anything is taken at all.
                Answer::Strange(_) if part.len() > 1 && !is_heard && strange.len() >= STRANGE => unsplit.push(part),
                Answer::TooLarge(_) | Answer::Strange(_) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second.to_vec(), first.to_vec()]);
                }
                Answer::TooLarge(why) => {
                    is_heard = true;
                    for place in part {
                        sheet.entries[place].fate = Some(Fate::Refused(why.clone()));
                    }
                }
                Answer::Strange(why) => strange.extend(part.into_iter().map(|place| (place, why.clone()))),
                Answer::Later { retry, ambiguous } => return (Some(retry), None, ambiguous),
                Answer::Unclear(why) => return (None, Some(why), true),
                Answer::Halt(why) => return (None, Some(why), false),
            }
        }
        // Who takes nothing and speaks otherwise is no ingestion endpoint, and nothing is lost to it.
        if let Some((_, why)) = strange.first().filter(|_| !is_heard) {
            return (None, Some(format!("{why}; is it the IngestionEndpoint of the connection string?")), false);
        }
        for (place, why) in strange {
            sheet.entries[place].fate = Some(Fate::Refused(why));
        }
        (None, None, false)
    }
}

/// The envelopes of a batch, and what is known of each.
struct Sheet {
    entries: Vec<Entry>,
    /// How many envelopes each item has.
    of_item: Vec<usize>,
}

struct Entry {
    hash: u64,
    body: Vec<u8>,
    /// Taken or refused for good; `None` while it is open.
    fate: Option<Fate>,
    /// Whether its item is older than [`OLD`].
    is_old: bool,
    /// How often it failed for a reason of its own.
    tries: u32,
}

impl Entry {
    /// It failed for a reason of its own. It stays open and the reason is given back, or it is given up: for what fails again
    /// and again would hold up what waits behind it until that is too old to be taken.
    fn failed(&mut self, why: String) -> Option<String> {
        self.tries += 1;
        if self.is_old && self.tries >= TRIES {
            let why = format!("{why}, {} times, and it is more than a day old", self.tries);
            self.fate = Some(Fate::Refused(why));
            return None;
        }
        Some(why)
    }
}

impl Sheet {
    /// The envelopes of items, each with its time.
    fn new(items: &[(u64, Vec<Envelope>)], known: &Known) -> Self {
        let now = Clock::System.now_unix_nano();
        let of_item = items.iter().map(|(_, envelopes)| envelopes.len()).collect();
        let entry = |(time, envelope): (u64, &Envelope)| {
            let body = serde_json::to_vec(envelope).expect("an envelope has nothing that JSON cannot say");
            let hash = known.hasher.hash_one(&body);
            let is_old = u128::from(now.saturating_sub(time)) > OLD.as_nanos();
            let tries = known.tries.get(&hash).copied().unwrap_or_default();
            Entry { hash, fate: known.fates.get(&hash).cloned(), body, is_old, tries }
        };
        let envelopes = items.iter().flat_map(|(time, of_item)| of_item.iter().map(|envelope| (*time, envelope)));
        Self { entries: envelopes.map(entry).collect(), of_item }
    }

    /// What is open, as requests of bounded size: first what failed before, in the company of one that did not.
    fn parts(&self) -> Vec<Vec<usize>> {
        let open = || self.entries.iter().enumerate().filter(|(_, entry)| entry.fate.is_none());
        let of = |has_failed: bool| open().filter(move |(_, entry)| (entry.tries > 0) == has_failed);
        let (mut failed, mut others): (Vec<_>, Vec<_>) = (of(true).collect(), of(false).collect());
        if !failed.is_empty() {
            failed.extend(others.drain(..others.len().min(1)));
        }
        let kept = if open().any(|(_, entry)| entry.is_old) { COMPANY.min(others.len() / 2) } else { 0 };
        let company = others.split_off(others.len() - kept);
        let mut parts: Vec<Vec<usize>> = Vec::new();
        for group in [failed, others, company] {
            let (mut bytes, mut count) = (0, ENVELOPES);
            for (place, entry) in group {
                if count == ENVELOPES || bytes + entry.body.len() > BYTES {
                    parts.push(Vec::new());
                    (bytes, count) = (0, 0);
                }
                parts.last_mut().expect("one was just made sure of").push(place);
                (bytes, count) = (bytes + entry.body.len(), count + 1);
            }
        }
        parts
    }

    /// The verdict on the items from the front whose envelopes all have a fate. What is known of the others is kept.
    fn settle(self, known: &mut Known, ambiguous: bool) -> Delivery {
        let mut delivery = Delivery::default();
        let mut entries = self.entries.into_iter();
        let mut open = false;
        known.fates.clear();
        known.tries.clear();
        for count in self.of_item {
            let of_item: Vec<Entry> = entries.by_ref().take(count).collect();
            open |= of_item.iter().any(|entry| entry.fate.is_none());
            if open {
                // Where the answer leaves doubts, what is not taken as a whole is among them already.
                let in_part = of_item.iter().any(|entry| entry.fate == Some(Fate::Taken));
                let as_a_whole = of_item.iter().all(|entry| entry.fate.is_some());
                delivery.taken_out_of_turn += u64::from(in_part && (as_a_whole || !ambiguous));
                let tried = of_item.iter().filter(|entry| entry.fate.is_none() && entry.tries > 0);
                known.tries.extend(tried.map(|entry| (entry.hash, entry.tries)));
                known.fates.extend(of_item.into_iter().filter_map(|entry| Some((entry.hash, entry.fate?))));
                continue;
            }
            let refused = of_item.into_iter().find_map(|entry| match entry.fate {
                Some(Fate::Refused(why)) => Some(why),
                _ => None,
            });
            match refused {
                Some(why) => {
                    delivery.rejected += 1;
                    delivery.rejection = Some(why);
                }
                None => delivery.delivered += 1,
            }
        }
        delivery
    }
}

#[cfg(test)]
mod tests;
