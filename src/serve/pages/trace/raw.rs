//! The raw view: the selected span as OTLP JSON.

use maud::{Markup, html};

use super::super::layout::block;
use super::download::whole;
use super::scene::Scene;
use crate::model::Telemetry;
use crate::report::format::count;
use crate::report::text::cut;
use crate::store::rows::SpanDetail;

/// How much of it stands on a page, in bytes.
const SHOWN: usize = 200 * 1024;

/// The view: the selected span, with its log records.
pub(super) fn view(scene: &Scene, detail: &SpanDetail) -> Markup {
    let telemetry =
        [Telemetry { origin: detail.origin.clone(), spans: vec![detail.span.clone()], logs: detail.logs.clone() }];
    let span = whole(&telemetry, false);
    let logs = (!detail.logs.is_empty()).then(|| whole(&telemetry, true));
    html! {
        p.actions {
            a.button.small href=(scene.context.with(&[("format", Some("otlp-json")), ("view", None)])) download {
                "Download the trace as OTLP JSON (" (count(scene.skeleton.row.operations)) " operations)"
            }
            a.button.small href=(scene.context.with(&[("format", Some("otlp-json")), ("view", None), ("signal", Some("logs"))])) download {
                "Its log records"
            }
        }
        h2.gap { (cut(&detail.span.name, 100)) }
        (pretty(&span))
        @if let Some(logs) = logs {
            h2.gap { "Its log records" }
            (pretty(&logs))
        }
    }
}

fn pretty(json: &[u8]) -> Markup {
    let spelled = serde_json::from_slice::<serde_json::Value>(json)
        .ok()
        .and_then(|json| serde_json::to_string_pretty(&json).ok());
    let text = spelled.unwrap_or_else(|| String::from_utf8_lossy(json).into_owned());
    let mut end = text.len().min(SHOWN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    html! {
        pre.code tabindex="0" {
            (block(text.get(..end).unwrap_or_default()))
            @if end < text.len() { "\n" span.muted { "… " (count((text.len() - end) as u64)) " more bytes; the download has them all" } }
        }
    }
}
