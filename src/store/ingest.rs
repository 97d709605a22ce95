//! Taking in telemetry of any application: made ready for the writer in the task that received it.
//!
//! Spans of one origin and one trace lie together in one payload, so that opening a trace opens few of them; a large
//! trace is cut into several, so that one span of it opens fast. Log records have payloads of their own.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::apply::{Done, Work};
use super::bundle::Bundle;
use super::codec::{self, put_varint};
use super::error::StoreError;
use super::opened::time_of;
use super::writer::Writer;
use crate::model::{LogRecord, Origin, Span, Telemetry, TraceId, Value};
use crate::trace::results::{self, ForeignScore};
use crate::trace::{origin, otlp, semconv};

/// The most spans or log records of a payload.
const CHUNK: usize = 256;

/// What became of telemetry that was taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Spans that are new.
    pub spans: u64,
    /// Log records that are new.
    pub logs: u64,
    /// Spans and log records that were there already.
    pub duplicates: u64,
    /// Scores that are new.
    pub scores: u64,
}

impl std::ops::AddAssign for Ingested {
    fn add_assign(&mut self, other: Self) {
        self.spans += other.spans;
        self.logs += other.logs;
        self.duplicates += other.duplicates;
        self.scores += other.scores;
    }
}

/// Telemetry ready to be written.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    pub(super) origins: Vec<OriginRow>,
    pub(super) spans: Vec<SpanParcel>,
    pub(super) logs: Vec<LogParcel>,
}

/// The blobs of an origin.
#[derive(Debug)]
pub(super) struct OriginRow {
    pub(super) resource: Vec<u8>,
    pub(super) frame: Vec<u8>,
    pub(super) service: Option<String>,
}

/// Spans of one origin and one trace.
#[derive(Debug)]
pub(super) struct SpanParcel {
    pub(super) origin: usize,
    pub(super) trace_id: TraceId,
    pub(super) bundle: Bundle,
    /// Input and output tokens of the model calls among them, by slot.
    pub(super) tokens: Vec<(usize, i64, i64)>,
    /// What they carry, by slot.
    pub(super) scores: Vec<(usize, ForeignScore)>,
}

/// Log records of one origin and one trace, or of none.
#[derive(Debug)]
pub(super) struct LogParcel {
    pub(super) origin: usize,
    pub(super) trace_id: Option<TraceId>,
    /// When the first of them happened.
    pub(super) time: i64,
    /// One for each, the same for identical ones.
    pub(super) hashes: Vec<i64>,
    pub(super) body: Vec<u8>,
    /// What they carry, by their place.
    pub(super) scores: Vec<(usize, ForeignScore)>,
}

impl Writer {
    /// Records telemetry of any application; on disk when it returns.
    ///
    /// Spans that are known already (by trace and span id) and identical log records count as duplicates and are not
    /// stored again. Spans that join a trace of a run belong to that run: they are delivered with it.
    pub async fn ingest(&self, telemetry: Vec<Telemetry>) -> Result<Ingested, StoreError> {
        let delivery = Delivery::encode(self.dictionary(), telemetry);
        if delivery.is_empty() {
            return Ok(Ingested::default());
        }
        match self.ask(Work::Ingest(Box::new(delivery))).await? {
            Done::Ingested(ingested) => Ok(ingested),
            _ => Err(StoreError::Closed),
        }
    }
}

impl Delivery {
    pub(super) fn encode(dictionary: u32, telemetry: Vec<Telemetry>) -> Self {
        let mut delivery = Self::default();
        for part in telemetry {
            let Telemetry { origin, spans, logs } = part;
            if spans.is_empty() && logs.is_empty() {
                continue;
            }
            let place = delivery.origins.len();
            let row = OriginRow::encode(&origin);
            let seed = (!logs.is_empty()).then(|| Sha256::new().chain_update(&row.resource).chain_update(&row.frame));
            delivery.origins.push(row);
            for (trace_id, mut spans) in grouped(spans, |span| span.trace_id) {
                while !spans.is_empty() {
                    let rest = spans.split_off(spans.len().min(CHUNK));
                    delivery.spans.push(SpanParcel::encode(dictionary, place, trace_id, spans));
                    spans = rest;
                }
            }
            let Some(seed) = seed else { continue };
            for (trace_id, logs) in grouped(logs, |log| log.trace_id) {
                for logs in logs.chunks(CHUNK) {
                    delivery.logs.push(LogParcel::encode(dictionary, place, trace_id, &seed, logs));
                }
            }
        }
        delivery
    }

    fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.logs.is_empty()
    }

    /// How many spans and log records it has.
    pub(super) fn len(&self) -> usize {
        let spans: usize = self.spans.iter().map(|parcel| parcel.bundle.spans.len()).sum();
        spans + self.logs.iter().map(|parcel| parcel.hashes.len()).sum::<usize>()
    }
}

impl OriginRow {
    fn encode(origin: &Origin) -> Self {
        Self {
            resource: origin::write_resource(origin),
            frame: origin::write_frame(origin),
            service: origin.resource_text(semconv::SERVICE_NAME).map(str::to_owned),
        }
    }
}

impl SpanParcel {
    fn encode(dictionary: u32, origin: usize, trace_id: TraceId, spans: Vec<Span>) -> Self {
        let mut tokens = Vec::new();
        let mut scores = Vec::new();
        for (slot, span) in spans.iter().enumerate() {
            if let Some((input, output)) = tokens_of(span) {
                tokens.push((slot, input, output));
            }
            scores.extend(results::results_of_span(span).into_iter().map(|score| (slot, score)));
        }
        let mut bundle = Bundle::encode(dictionary, spans, &[]);
        for row in &mut bundle.spans {
            // A span that its application sent is as ended as it will ever be; times stay where columns can hold them.
            row.start &= i64::MAX;
            row.end = Some(row.end.unwrap_or(0) & i64::MAX);
        }
        Self { origin, trace_id, bundle, tokens, scores }
    }
}

impl LogParcel {
    fn encode(dictionary: u32, origin: usize, trace_id: Option<TraceId>, seed: &Sha256, logs: &[LogRecord]) -> Self {
        let mut hashes = Vec::with_capacity(logs.len());
        let body = codec::encode(dictionary, |out| {
            let mut message = Vec::with_capacity(1024);
            put_varint(out, 0);
            for log in logs {
                message.clear();
                otlp::write_log(&mut message, log);
                put_varint(out, message.len() as u64);
                out.extend_from_slice(&message);
                let digest = seed.clone().chain_update(&message).finalize();
                let mut first = [0; 8];
                first.copy_from_slice(&digest[..8]);
                hashes.push(i64::from_be_bytes(first));
            }
        });
        let scores = logs.iter().enumerate().filter_map(|(at, log)| Some((at, results::result_of_log(log)?)));
        let time = logs.iter().map(time_of).min().unwrap_or(0) as i64 & i64::MAX;
        Self { origin, trace_id, time, hashes, body, scores: scores.collect() }
    }
}

/// The items by key, in the order of each key's first; within a key they keep their order.
fn grouped<K: Copy + Eq + std::hash::Hash, T>(items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<(K, Vec<T>)> {
    let mut groups: Vec<(K, Vec<T>)> = Vec::new();
    let mut places: HashMap<K, usize> = HashMap::new();
    let mut last = usize::MAX;
    for item in items {
        let key = key(&item);
        // Items of one key mostly follow each other.
        if groups.get(last).is_none_or(|(known, _)| *known != key) {
            last = *places.entry(key).or_insert_with(|| {
                groups.push((key, Vec::new()));
                groups.len() - 1
            });
        }
        groups[last].1.push(item);
    }
    groups
}

/// Tokens of a model call. Spans that only sum up the calls below them do not count.
fn tokens_of(span: &Span) -> Option<(i64, i64)> {
    let (mut input, mut output) = (None, None);
    for (key, value) in &span.attributes {
        let Value::Int(n) = value else {
            if key == semconv::GEN_AI_OPERATION_NAME
                && matches!(value, Value::Str(name) if name.starts_with("invoke_") || name.starts_with("create_"))
            {
                return None;
            }
            continue;
        };
        match key.as_ref() {
            semconv::GEN_AI_USAGE_INPUT_TOKENS | semconv::LLM_TOKEN_COUNT_PROMPT => input = input.or(Some(*n)),
            semconv::GEN_AI_USAGE_OUTPUT_TOKENS | semconv::LLM_TOKEN_COUNT_COMPLETION => output = output.or(Some(*n)),
            _ => {}
        }
    }
    // Nobody has used more than that, and sums stay numbers.
    let sane = |n: Option<i64>| n.unwrap_or(0).clamp(0, 1 << 40);
    (input.is_some() || output.is_some()).then(|| (sane(input), sane(output)))
}
