//! Events onto their spans: a span is held until everything up to its end was read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Portion;
use super::convert::Item;
use crate::model::{Event, Key, LogRecord, Origin, Span, SpanId, Telemetry, TraceId, Value};

/// The clocks of what a span waits for may differ by this, in nanoseconds.
const SLACK: u64 = 5_000_000_000;
/// The most spans that are held.
const HELD: usize = 50_000;
/// The most that they weigh: bytes of their texts, about.
const WEIGHT: usize = 64 << 20;

/// An event whose span was not among what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Stray {
    /// Who made it.
    pub origin: Arc<Origin>,
    /// The event; its span is the log record's.
    pub event: Event,
    /// The same as a log record.
    pub log: LogRecord,
}

impl Stray {
    /// Whether the span has this very event; times are compared as the tables keep them, to the microsecond.
    pub fn is_on(&self, span: &Span) -> bool {
        let same = |event: &Event| {
            event.name == self.event.name && event.time_unix_nano / 1_000 == self.event.time_unix_nano / 1_000
        };
        span.events.iter().any(same)
    }
}

/// Spans that wait for their events.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    origins: HashMap<Vec<(String, String)>, Arc<Origin>>,
    /// Spans by their id, with their place among the new ones.
    held: HashMap<(TraceId, SpanId), (Arc<Origin>, Span)>,
    /// Their ends.
    ends: BTreeMap<(u64, TraceId, SpanId), usize>,
    weight: usize,
    events: Vec<Stray>,
    logs: Vec<(Arc<Origin>, LogRecord)>,
}

impl Assembly {
    pub(super) fn add(&mut self, item: Item) {
        match item {
            Item::Span(origin, span) => {
                let origin = self.shared(origin);
                let key = (span.trace_id, span.span_id);
                // The same row again, or the same id twice: the first stays, as it would in the store.
                if self.held.contains_key(&key) {
                    return;
                }
                let weight = weight(&span);
                self.weight += weight;
                self.ends.insert((span.end_unix_nano, key.0, key.1), weight);
                self.held.insert(key, (origin, *span));
            }
            Item::Event(origin, event, log) => {
                let origin = self.shared(origin);
                self.events.push(Stray { origin, event: *event, log: *log });
            }
            Item::Log(origin, log) => {
                let origin = self.shared(origin);
                self.logs.push((origin, *log));
            }
        }
    }

    fn shared(&mut self, origin: Origin) -> Arc<Origin> {
        let key = origin.resource.iter().map(|(key, value)| (key.to_string(), format!("{value:?}"))).collect();
        Arc::clone(self.origins.entry(key).or_insert_with(|| Arc::new(origin)))
    }

    /// What is whole now that everything up to `to` was read.
    pub(super) fn portion(&mut self, to: u64) -> Portion {
        self.release(to)
    }

    /// Everything that is left.
    pub(super) fn finish(&mut self) -> Portion {
        self.release(u64::MAX)
    }

    fn release(&mut self, to: u64) -> Portion {
        let mut strays = Vec::new();
        for stray in std::mem::take(&mut self.events) {
            let key = stray.log.trace_id.zip(stray.log.span_id);
            match key.and_then(|key| self.held.get_mut(&key)) {
                Some((_, span)) if stray.is_on(span) => {}
                Some((_, span)) => {
                    let weight = 64 + weight_of(&stray.event.attributes);
                    self.weight += weight;
                    *self.ends.entry((span.end_unix_nano, span.trace_id, span.span_id)).or_default() += weight;
                    span.events.push(stray.event);
                }
                None => strays.push(stray),
            }
        }
        let mut parts: Vec<Telemetry> = Vec::new();
        let mut places: HashMap<*const Origin, usize> = HashMap::new();
        let mut part_of = |origin: Arc<Origin>, parts: &mut Vec<Telemetry>| {
            *places.entry(Arc::as_ptr(&origin)).or_insert_with(|| {
                parts.push(Telemetry { origin, ..Telemetry::default() });
                parts.len() - 1
            })
        };
        while let Some((&(end, trace, span), _)) = self.ends.first_key_value() {
            let full = self.held.len() > HELD || self.weight > WEIGHT;
            if to != u64::MAX && end.saturating_add(SLACK) > to && !full {
                break;
            }
            self.weight -= self.ends.remove(&(end, trace, span)).unwrap_or_default();
            let Some((origin, mut span)) = self.held.remove(&(trace, span)) else { continue };
            span.events.sort_by_key(|event| event.time_unix_nano);
            let place = part_of(origin, &mut parts);
            parts[place].spans.push(span);
        }
        for (origin, log) in std::mem::take(&mut self.logs) {
            let place = part_of(origin, &mut parts);
            parts[place].logs.push(log);
        }
        Portion { telemetry: parts, strays }
    }
}

fn weight(span: &Span) -> usize {
    512 + weight_of(&span.attributes)
}

fn weight_of(attributes: &[(Key, Value)]) -> usize {
    let text = |value: &Value| match value {
        Value::Str(text) => text.len(),
        _ => 16,
    };
    attributes.iter().map(|(key, value)| key.len() + 32 + text(value)).sum::<usize>()
}
