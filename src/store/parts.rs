//! A large trace as telemetry, part by part, so that nobody has to hold it whole.

use std::sync::Arc;

use rusqlite::params;

use super::bundle::Messages;
use super::error::StoreError;
use super::opened::{Payload, add_logs};
use super::reader::Reader;
use crate::model::{Telemetry, TraceId};

/// About so many spans come at a time; more where they lie in one payload.
const PART: usize = 2_000;

/// Where the spans and log records of a trace lie, some sixteen bytes each.
#[derive(Debug, Clone, Default)]
pub struct TraceParts {
    spans: Vec<TracePart>,
    logs: Vec<TracePart>,
}

/// Some spans or log records of a trace.
#[derive(Debug, Clone)]
pub struct TracePart {
    trace_id: TraceId,
    /// Payload and slot of spans, in this order.
    spans: Vec<(i64, i64)>,
    /// Payloads with log records.
    logs: Vec<i64>,
}

impl TraceParts {
    /// The parts that hold its spans, or its log records.
    pub fn of(self, logs: bool) -> Vec<TracePart> {
        if logs { self.logs } else { self.spans }
    }
}

impl Reader {
    /// Where the parts of a trace lie.
    pub fn trace_parts(&self, trace_id: TraceId) -> Result<TraceParts, StoreError> {
        let _moment = self.moment()?;
        let number = self.find_trace_of(trace_id)?.number;
        let places: Vec<(i64, i64)> = self
            .conn
            .prepare_cached("SELECT payload, slot FROM span WHERE trace = ?1 ORDER BY payload, slot")
            .and_then(|mut find| find.query_map(params![number], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(self.or())?;
        let mut spans: Vec<TracePart> = Vec::new();
        for of_payload in places.chunk_by(|a, b| a.0 == b.0) {
            match spans.last_mut().filter(|part| part.spans.len() < PART) {
                Some(part) => part.spans.extend(of_payload),
                None => spans.push(TracePart { trace_id, spans: of_payload.to_vec(), logs: Vec::new() }),
            }
        }
        let mut payloads = self.payloads_with_logs(number, None)?;
        payloads.sort_unstable();
        let logs =
            payloads.chunks(64).map(|chunk| TracePart { trace_id, spans: Vec::new(), logs: chunk.to_vec() }).collect();
        Ok(TraceParts { spans, logs })
    }

    /// What a part holds. It fails if the trace has been pruned or removed since, and says so.
    pub fn trace_part(&self, part: &TracePart) -> Result<Vec<Telemetry>, StoreError> {
        let _moment = self.moment()?;
        self.read_part(part).or_else(|error| {
            // A payload that is missing is no damage if its trace is gone.
            self.find_trace_of(part.trace_id)?;
            Err(error)
        })
    }

    fn read_part(&self, part: &TracePart) -> Result<Vec<Telemetry>, StoreError> {
        let mut parts: Vec<(Option<i64>, Option<i64>, Telemetry)> = Vec::new();
        for of_payload in part.spans.chunk_by(|a, b| a.0 == b.0) {
            let Payload { resource, scope, content } = self.payload(of_payload[0].0)?;
            let messages = Messages::split(&content)?;
            let telemetry = self.part_of(&mut parts, resource, scope)?;
            for (_, slot) in of_payload {
                telemetry.spans.push(messages.span(*slot as usize)?);
            }
        }
        for number in &part.logs {
            let Payload { resource, scope, content } = self.payload(*number)?;
            let mut logs = Vec::new();
            add_logs(&Messages::split(&content)?, 0, &mut logs)?;
            self.part_of(&mut parts, resource, scope)?.logs.extend(logs.into_iter().map(|(log, _)| log));
        }
        Ok(parts.into_iter().map(|(_, _, telemetry)| telemetry).collect())
    }

    /// The telemetry of this origin, the last one first: what one application sent lies together.
    fn part_of<'p>(
        &self,
        parts: &'p mut Vec<(Option<i64>, Option<i64>, Telemetry)>,
        resource: Option<i64>,
        scope: Option<i64>,
    ) -> Result<&'p mut Telemetry, StoreError> {
        let at = match parts.iter().rposition(|(a, b, _)| (*a, *b) == (resource, scope)) {
            Some(at) => at,
            None => {
                let origin = Arc::clone(&self.origin(resource, scope)?);
                parts.push((resource, scope, Telemetry { origin, ..Telemetry::default() }));
                parts.len() - 1
            }
        };
        Ok(&mut parts[at].2)
    }
}
