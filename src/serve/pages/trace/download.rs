//! The download of a trace as OTLP JSON. A large one is sent part by part: each is read when the one before it has gone
//! out, so that a slow reader holds neither memory nor the store.

use std::sync::Arc;
use std::vec;

use axum::body::{Body, Bytes};
use futures::stream;

use crate::model::Telemetry;
use crate::serve::App;
use crate::store::{Reader, StoreError, TracePart};
use crate::trace::otlp_json::{encode_logs_request, encode_trace_request};
use crate::trace::requests::{logs_request, traces_request};

/// A trace's spans, or its log records, as one OTLP JSON request, grouped by who made them.
pub(super) fn whole(telemetry: &[Telemetry], logs: bool) -> Vec<u8> {
    if logs { encode_logs_request(&logs_request(telemetry)) } else { encode_trace_request(&traces_request(telemetry)) }
}

/// Where a download has got to.
struct Place {
    app: Arc<App>,
    parts: vec::IntoIter<TracePart>,
    logs: bool,
    first: bool,
    ended: bool,
}

/// The same document, part by part. If the trace is pruned meanwhile the body breaks off, which clients notice.
pub(super) fn by_parts(app: Arc<App>, parts: Vec<TracePart>, logs: bool) -> Body {
    let place = Place { app, parts: parts.into_iter(), logs, first: true, ended: false };
    Body::from_stream(stream::try_unfold(place, next))
}

async fn next(mut place: Place) -> Result<Option<(Bytes, Place)>, StoreError> {
    if place.ended {
        return Ok(None);
    }
    let name = if place.logs { "resourceLogs" } else { "resourceSpans" };
    let mut text = if place.first { format!("{{\"{name}\":[").into_bytes() } else { Vec::new() };
    match place.parts.next() {
        Some(part) => {
            let logs = place.logs;
            let read = move |reader: &Reader| Ok::<_, StoreError>(whole(&reader.trace_part(&part)?, logs));
            let document = place.app.read(read).await?;
            if !place.first {
                text.push(b',');
            }
            text.extend_from_slice(elements(&document));
            place.first = false;
        }
        None => {
            text.extend_from_slice(b"]}");
            place.ended = true;
        }
    }
    Ok(Some((Bytes::from(text), place)))
}

/// What stands between the brackets of a request.
fn elements(document: &[u8]) -> &[u8] {
    let begin = document.iter().position(|&byte| byte == b'[').map_or(document.len(), |at| at + 1);
    let end = document.iter().rposition(|&byte| byte == b']').unwrap_or(begin);
    &document[begin..end.max(begin)]
}
