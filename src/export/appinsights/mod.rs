//! Application Insights as a destination: what Azure Monitor's portal, Foundry's traces and its evaluations read.
//!
//! [`connection`] reads connection strings, `envelope` turns spans and log records into envelopes with `properties`,
//! [`ingestion`] sends them and says what became of each. Source: Azure Monitor's own exporter for OpenTelemetry, whose
//! output `envelope` is tested against.

pub mod connection;
mod envelope;
pub mod ingestion;
mod properties;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::destination::{Batch, Delivery, Destination, Items, Retry, Signal};
use connection::ConnectionString;
use envelope::{Envelope, Maker};
use ingestion::{Answer, Fate, Ingestion, Tokens};

/// The most bytes of envelopes in a request, before it is packed.
const BYTES: usize = 2 << 20;
/// The most envelopes in a request.
const ENVELOPES: usize = 500;

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
#[error("preparing the ingestion endpoint of Application Insights: {0}")]
pub struct AppInsightsSetupError(String);

/// One resource of Application Insights.
pub struct AppInsights {
    key: String,
    ingestion: Ingestion,
    /// What became of envelopes whose span or log record is not settled yet, by their content: they are not sent again.
    known: [Mutex<Known>; 2],
}

#[derive(Default)]
struct Known {
    hasher: RandomState,
    fates: HashMap<u64, Fate>,
}

impl AppInsights {
    /// The name of this destination.
    pub const NAME: &'static str = "appinsights";

    /// A client for the resource of a connection string; with tokens where the resource wants them. Nothing is sent yet.
    pub fn new(connection: &ConnectionString, tokens: Option<Arc<dyn Tokens>>) -> Result<Self, AppInsightsSetupError> {
        let ingestion = Ingestion::new(&connection.ingestion, tokens).map_err(AppInsightsSetupError)?;
        Ok(Self { key: connection.instrumentation_key.clone(), ingestion, known: Default::default() })
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

    async fn deliver(&self, batch: &Batch) -> Delivery {
        let maker = Maker::new(&self.key, &batch.origin);
        let items: Vec<Vec<Envelope>> = match &batch.items {
            Items::Spans(spans) => spans.iter().map(|span| maker.span(span)).collect(),
            Items::Logs(records) => records.iter().map(|record| vec![maker.log(record)]).collect(),
        };
        let known = &self.known[usize::from(batch.items.signal() == Signal::Logs)];
        let mut known = std::mem::take(&mut *known.lock().unwrap_or_else(PoisonError::into_inner));
        let mut sheet = Sheet::new(&items, &known);
        let (retry, halt, ambiguous) = self.send_all(&mut sheet).await;
        let delivery = sheet.settle(&mut known);
        let place = &self.known[usize::from(batch.items.signal() == Signal::Logs)];
        *place.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Delivery { retry, halt, ambiguous, ..delivery }
    }
}

impl AppInsights {
    /// Sends what is open, request by request, until something goes wrong.
    async fn send_all(&self, sheet: &mut Sheet) -> (Option<Retry>, Option<String>, bool) {
        let mut parts = sheet.parts();
        parts.reverse();
        let mut again: Option<Retry> = None;
        while let Some(part) = parts.pop() {
            let bodies: Vec<&[u8]> = part.iter().map(|&place| sheet.entries[place].body.as_slice()).collect();
            match self.ingestion.send(&bodies).await {
                Answer::Each { fates, after } => {
                    for (place, fate) in part.into_iter().zip(fates) {
                        match fate {
                            Fate::Again(reason) => again = Some(Retry { after, reason, unreachable: false }),
                            settled => sheet.entries[place].fate = Some(settled),
                        }
                    }
                    if again.is_some() {
                        return (again, None, false);
                    }
                }
                Answer::TooLarge(_) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second.to_vec(), first.to_vec()]);
                }
                Answer::TooLarge(why) => {
                    for place in part {
                        sheet.entries[place].fate = Some(Fate::Refused(why.clone()));
                    }
                }
                Answer::Later { retry, ambiguous } => return (Some(retry), None, ambiguous),
                Answer::Halt(why) => return (None, Some(why), false),
            }
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
}

impl Sheet {
    fn new(items: &[Vec<Envelope>], known: &Known) -> Self {
        let of_item = items.iter().map(Vec::len).collect();
        let entry = |envelope: &Envelope| {
            let body = serde_json::to_vec(envelope).expect("an envelope has nothing that JSON cannot say");
            let hash = known.hasher.hash_one(&body);
            Entry { hash, fate: known.fates.get(&hash).cloned(), body }
        };
        Self { entries: items.iter().flatten().map(entry).collect(), of_item }
    }

    /// What is open, as requests of bounded size.
    fn parts(&self) -> Vec<Vec<usize>> {
        let mut parts: Vec<Vec<usize>> = Vec::new();
        let mut bytes = 0;
        for (place, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.fate.is_none()) {
            let fits = bytes + entry.body.len() <= BYTES;
            match parts.last_mut().filter(|part| fits && part.len() < ENVELOPES) {
                Some(part) => part.push(place),
                None => {
                    parts.push(vec![place]);
                    bytes = 0;
                }
            }
            bytes += entry.body.len();
        }
        parts
    }

    /// The verdict on the items from the front whose envelopes all have a fate. What is known of the others is kept.
    fn settle(self, known: &mut Known) -> Delivery {
        let mut delivery = Delivery::default();
        let mut entries = self.entries.into_iter();
        let mut open = false;
        known.fates.clear();
        for count in self.of_item {
            let of_item: Vec<Entry> = entries.by_ref().take(count).collect();
            open |= of_item.iter().any(|entry| entry.fate.is_none());
            if open {
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
