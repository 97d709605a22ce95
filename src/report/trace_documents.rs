//! The JSON documents of `traces` and `trace`, field for field as promised, and OTLP values as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::model::{Link, RunId, Span, SpanId, Status, TraceId, Value};
use crate::store::rows::{SpanScore, TraceDetail, TraceRow};
use crate::store::{Reader, StoreError};

use super::link;
pub use crate::trace::value_json::json;
use crate::trace::value_json::object as attributes;

use super::documents::{ScoreEntry, span_score_entries};
use super::format::rfc3339;

/// A trace in the document of `traces`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceEntry {
    /// Its id.
    pub trace_id: TraceId,
    /// Earliest start of its spans.
    pub start_time: String,
    /// Latest end less earliest start.
    pub duration_ms: f64,
    /// `ok`, or `error` if one of its spans failed.
    pub status: &'static str,
    /// How many spans it has.
    pub operations: u64,
    /// Name of its root span.
    pub root: String,
    /// Its `service.name`.
    pub service: Option<String>,
    /// Mean of each evaluator's numbers.
    pub scores: BTreeMap<String, f64>,
    /// The run it belongs to.
    pub run_id: Option<RunId>,
    /// How many of its spans failed.
    pub errors: u64,
    /// The cases it holds, at most eight.
    pub case_ids: Vec<String>,
}

/// The status of a trace as documents show it.
pub const fn trace_status(row: &TraceRow) -> &'static str {
    if row.error { "error" } else { "ok" }
}

/// The document of `traces`.
pub fn traces(rows: &[TraceRow]) -> Vec<TraceEntry> {
    let entry = |row: &TraceRow| TraceEntry {
        trace_id: row.trace_id,
        start_time: rfc3339(row.start_unix_nano),
        duration_ms: row.duration_ns as f64 / 1e6,
        status: trace_status(row),
        operations: row.operations,
        root: row.root.clone(),
        service: row.service.clone(),
        scores: row.scores.clone(),
        run_id: row.run_id.clone(),
        errors: row.errors,
        case_ids: row.case_ids.iter().map(ToString::to_string).collect(),
    };
    rows.iter().map(entry).collect()
}

/// The document of `trace`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceDocument {
    /// Its id.
    pub trace_id: TraceId,
    /// Earliest start of its spans.
    pub start_time: String,
    /// Latest end less earliest start.
    pub duration_ms: f64,
    /// `ok` or `error`.
    pub status: &'static str,
    /// How many spans it has.
    pub operations: u64,
    /// The run it belongs to.
    pub run_id: Option<RunId>,
    /// It in the user's trace backend, where the run's suite has a template for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_url: Option<String>,
    /// The query that finds it in Application Insights, where its run was delivered there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kql: Option<String>,
    /// The resource of its first span.
    pub resource: Map<String, Json>,
    /// Its spans, by start time.
    pub spans: Vec<SpanEntry>,
}

/// A span in the document of `trace`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpanEntry {
    /// Its id.
    pub span_id: SpanId,
    /// The span that caused it.
    pub parent_span_id: Option<SpanId>,
    /// What it does.
    pub name: String,
    /// Its role.
    pub kind: &'static str,
    /// When it began.
    pub start_time: String,
    /// How long it took; `None` while it is open.
    pub duration_ms: Option<f64>,
    /// `UNSET`, `OK` or `ERROR`.
    pub status: &'static str,
    /// The description of an error.
    pub status_message: Option<String>,
    /// Its attributes.
    pub attributes: Map<String, Json>,
    /// What happened in it.
    pub events: Vec<EventEntry>,
    /// Other spans it refers to.
    pub links: Vec<LinkEntry>,
    /// What evaluators said of it.
    pub scores: BTreeMap<String, ScoreEntry>,
}

/// An event of a span.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventEntry {
    /// What happened.
    pub name: String,
    /// When.
    pub time: String,
    /// Its attributes.
    pub attributes: Map<String, Json>,
}

/// A link of a span.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkEntry {
    /// The other trace.
    pub trace_id: TraceId,
    /// The other span.
    pub span_id: SpanId,
    /// Its attributes.
    pub attributes: Map<String, Json>,
}

/// The document of `trace` with the link to the user's trace backend, where the run's suite has a template for that.
pub fn linked(reader: &Reader, detail: &TraceDetail, only: Option<SpanId>) -> Result<TraceDocument, StoreError> {
    let mut document = trace(detail, only);
    if let Some(run_id) = &detail.row.run_id {
        let row = reader.resolve_run(run_id.as_str())?;
        document.kql = link::kql_of_trace(reader, &row, detail.row.trace_id)?;
        let run = row.spec;
        let start = detail.spans.iter().find(|span| only == Some(span.span_id)).map(|span| span.start_unix_nano);
        let start = start.unwrap_or(detail.row.start_unix_nano);
        document.trace_url = link::of_span(&run, detail.row.trace_id, only, start);
    }
    Ok(document)
}

/// The document of `trace`; with `only`, of that span alone.
pub fn trace(detail: &TraceDetail, only: Option<SpanId>) -> TraceDocument {
    let spans = detail.spans.iter().filter(|span| only.is_none_or(|id| span.span_id == id));
    TraceDocument {
        trace_id: detail.row.trace_id,
        start_time: rfc3339(detail.row.start_unix_nano),
        duration_ms: detail.row.duration_ns as f64 / 1e6,
        status: trace_status(&detail.row),
        operations: detail.row.operations,
        run_id: detail.row.run_id.clone(),
        trace_url: None,
        kql: None,
        resource: detail.origin(0).map(|origin| attributes(&origin.resource)).unwrap_or_default(),
        spans: spans.map(|span| span_entry(span, detail.scores.get(&span.span_id))).collect(),
    }
}

fn span_entry(span: &Span, scores: Option<&Vec<SpanScore>>) -> SpanEntry {
    let link = |link: &Link| LinkEntry {
        trace_id: link.trace_id,
        span_id: link.span_id,
        attributes: attributes(&link.attributes),
    };
    SpanEntry {
        span_id: span.span_id,
        parent_span_id: span.parent_span_id,
        name: span.name.to_string(),
        kind: span.kind.as_str(),
        start_time: rfc3339(span.start_unix_nano),
        duration_ms: (!span.is_open()).then(|| span.end_unix_nano.saturating_sub(span.start_unix_nano) as f64 / 1e6),
        status: span.status.as_str(),
        status_message: match &span.status {
            Status::Error(message) if !message.is_empty() => Some(message.clone()),
            _ => None,
        },
        attributes: attributes(&span.attributes),
        events: span
            .events
            .iter()
            .map(|event| EventEntry {
                name: event.name.to_string(),
                time: rfc3339(event.time_unix_nano),
                attributes: attributes(&event.attributes),
            })
            .collect(),
        links: span.links.iter().map(link).collect(),
        scores: scores.map(|scores| span_score_entries(scores)).unwrap_or_default(),
    }
}

/// A value as text: plain text as it is, everything else as JSON.
pub fn shown_value(value: &Value) -> String {
    match value {
        Value::Str(text) => text.to_string(),
        Value::Bytes(bytes) => format!("{} bytes, base64 {}", bytes.len(), json(value).as_str().unwrap_or_default()),
        other => json(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_trace_has_the_promised_fields() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&trace(&fixture::trace(), Some(fixture::span_id(5)))).expect("serialises"), @r#"
        {
          "trace_id": "0af7651916cd43dd8448eb211c80319c",
          "start_time": "2026-11-22T15:45:01.000000000Z",
          "duration_ms": 120.0,
          "status": "error",
          "operations": 7,
          "run_id": "20261122-154501-3f9a2c",
          "resource": {
            "service.name": "spanscore"
          },
          "spans": [
            {
              "span_id": "b7ad6b7169203305",
              "parent_span_id": "b7ad6b7169203304",
              "name": "chat lexical-baseline",
              "kind": "INTERNAL",
              "start_time": "2026-11-22T15:45:01.060000000Z",
              "duration_ms": 35.0,
              "status": "ERROR",
              "status_message": "429 rate limit reached",
              "attributes": {},
              "events": [
                {
                  "name": "spanscore.attempt.failed",
                  "time": "2026-11-22T15:45:01.070000000Z",
                  "attributes": {
                    "error.type": "429"
                  }
                }
              ],
              "links": [],
              "scores": {}
            }
          ]
        }
        "#);
    }

    #[test]
    fn numbers_that_json_has_not_become_text() {
        let value = Value::Map(vec![
            ("nan".into(), f64::NAN.into()),
            ("infinite".into(), f64::NEG_INFINITY.into()),
            ("bytes".into(), Value::Bytes(vec![255, 0])),
            ("empty".into(), Value::Empty),
        ]);
        let expected = r#"{"nan":"NaN","infinite":"-Infinity","bytes":"/wA=","empty":null}"#;
        assert_eq!(json(&value).to_string(), expected);
    }
}
