//! Searching within one trace: its payloads go by one after the other, so that a large trace costs time but no memory.

use std::collections::BTreeSet;

use super::bundle::{Messages, span_id_of};
use super::error::StoreError;
use super::reader::Reader;
use crate::model::{SpanId, TraceId};

impl Reader {
    /// The id of the trace whose id begins so.
    pub fn resolve_trace(&self, text: &str) -> Result<TraceId, StoreError> {
        Ok(self.find_trace(text, &mut super::traces::Evaluators::new())?.row.trace_id)
    }

    /// The spans of a trace that hold a text anywhere: in a name, an attribute, an event, a status; whatever its case. Log
    /// records count for the span that they belong to. Numbers and truth values are not searched.
    pub fn search_spans(&self, trace_id: TraceId, needle: &str) -> Result<BTreeSet<SpanId>, StoreError> {
        let mut found = BTreeSet::new();
        let pattern =
            regex::bytes::RegexBuilder::new(&regex::escape(needle)).case_insensitive(true).size_limit(16 << 20).build();
        // A text too long to be a pattern is in no span.
        let (Ok(pattern), false) = (pattern, needle.is_empty()) else { return Ok(found) };
        let _moment = self.moment()?;
        let trace = self.find_trace_of(trace_id)?.number;
        let or = self.or();
        let mut places: Vec<(i64, i64, i64)> = self
            .conn
            .prepare_cached("SELECT payload, slot, span_id FROM span WHERE trace = ?1")
            .and_then(|mut find| find.query_map([trace], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect())
            .map_err(&or)?;
        places.sort_unstable();
        for of_payload in places.chunk_by(|a, b| a.0 == b.0) {
            let content = self.payload_content(of_payload[0].0)?;
            if !pattern.is_match(&content) {
                continue;
            }
            // Texts lie in the encoded message as they are, so that the bytes can be searched.
            let messages = Messages::split(&content)?;
            for (_, slot, span) in of_payload {
                if messages.spans.get(*slot as usize).is_some_and(|bytes| pattern.is_match(bytes)) {
                    found.insert(span_id_of(*span));
                }
            }
        }
        for payload in self.payloads_with_logs(trace, None)? {
            let content = self.payload_content(payload)?;
            for bytes in Messages::split(&content)?.logs.iter().filter(|bytes| pattern.is_match(bytes)) {
                let log = crate::trace::otlp::read_log(bytes).map_err(|e| StoreError::damaged("a log record", e))?;
                if log.trace_id == Some(trace_id) {
                    found.extend(log.span_id);
                }
            }
        }
        Ok(found)
    }

    /// The cases that trials of a trace are about, by the trials' spans.
    pub fn cases_by_span(
        &self,
        trace_id: TraceId,
    ) -> Result<std::collections::BTreeMap<SpanId, crate::model::CaseId>, StoreError> {
        let _moment = self.moment()?;
        let trace = self.find_trace_of(trace_id)?.number;
        let or = self.or();
        let mut find = self
            .conn
            .prepare_cached(
                "SELECT span.span_id, case_id FROM span
                 JOIN trial ON trial.id = span.trial AND trial.span = span.span_id
                 JOIN planned ON planned.id = span.trial & ?2 WHERE span.trace = ?1",
            )
            .map_err(&or)?;
        let rows: Vec<(i64, String)> = find
            .query_map([trace, super::schema::case_of(i64::MAX)], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(&or)?;
        rows.into_iter()
            .map(|(span, case)| {
                let case = crate::model::CaseId::parse(case).map_err(|e| StoreError::damaged("a case", e))?;
                Ok((span_id_of(span), case))
            })
            .collect()
    }
}
