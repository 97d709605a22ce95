//! One trial's part of a trace as a waterfall that stands still: its operations in the shape of their tree, bars to scale.

use maud::{Markup, html};

use super::text;
use crate::model::{SpanId, SpanKind};
use crate::report::format::{self, count};
use crate::report::low::Yardstick;
use crate::report::text::named;
use crate::report::waterfall::verdict_in_short;
use crate::store::rows::{SpanSkeleton, TraceSkeleton};
use crate::trace::critical_path::extent;
use crate::trace::tree::Tree;

/// At most so many operations are drawn.
const ROWS: usize = 24;
/// Deeper ones are not indented further.
const DEEPEST: usize = 8;
/// OTLP's number for an error.
const ERROR: i32 = 2;

/// The span of that id with what is below it; the whole trace where it does not have that span.
pub fn waterfall(trace: &TraceSkeleton, span: Option<SpanId>, yardstick: &Yardstick) -> Markup {
    let tree = Tree::build(&trace.spans);
    let of = |position: usize| &trace.spans[tree.nodes[position].span];
    let top = span.and_then(|id| (0..tree.nodes.len()).find(|&at| of(at).span_id == id));
    let (first, last) = match top {
        Some(at) => (at, at + tree.nodes[at].descendants),
        None => (0, tree.nodes.len().saturating_sub(1)),
    };
    let positions: Vec<usize> = (first..=last).filter(|&at| at < tree.nodes.len()).collect();
    // What failed is shown whatever its place.
    let mut shown: Vec<usize> = positions.iter().copied().take(ROWS).collect();
    shown.extend(positions.iter().copied().skip(ROWS).filter(|&at| of(at).status == ERROR).take(ROWS / 4));
    let drawn: Vec<SpanSkeleton> = shown.iter().map(|&at| of(at).clone()).collect();
    let (from, to) = extent(&drawn).unwrap_or((0, 1));
    let base = tree.nodes.get(first).map_or(0, |node| node.depth);
    html! {
        table.wf {
            caption.visually-hidden { "Operations of the trial, callers before what they called" }
            tbody {
                @for &at in &shown {
                    @let (span, node) = (of(at), &tree.nodes[at]);
                    @let failed = span.status == ERROR;
                    tr.failed[failed] {
                        th scope="row" class={ "d" (node.depth.saturating_sub(base).min(DEEPEST)) } {
                            (named(&span.name, 60))
                            @if failed { " " span.badge.error { "error" } }
                            // What passed needs no word here.
                            @for score in trace.scores.get(&span.span_id).into_iter().flatten().filter(|score| yardstick.is_low(&score.name, &score.evaluation)).take(4) {
                                " " span.badge.low { "▼ " (text(&score.name)) " " (text(&verdict_in_short(&score.evaluation))) }
                            }
                        }
                        td.number { (duration(span)) }
                        td.lane-cell { (bar(span, from, to)) }
                    }
                }
            }
        }
        @if positions.len() > shown.len() {
            p.muted { (count((positions.len() - shown.len()) as u64)) " more operations are in the trace." }
        }
    }
}

fn duration(span: &SpanSkeleton) -> String {
    if span.end_unix_nano == 0 {
        return "open".to_owned();
    }
    format::duration(span.end_unix_nano.saturating_sub(span.start_unix_nano))
}

fn bar(span: &SpanSkeleton, from: u64, to: u64) -> Markup {
    let length = to.saturating_sub(from).max(1) as f64;
    let percent = |time: u64| time.clamp(from, to).saturating_sub(from) as f64 * 100.0 / length;
    let end = if span.end_unix_nano == 0 { to } else { span.end_unix_nano };
    let (x, end) = (percent(span.start_unix_nano), percent(end));
    let width = (end - x).max(0.5);
    let class = match (span.status, span.kind) {
        (ERROR, _) => "e",
        (_, SpanKind::Client) => "k",
        (_, SpanKind::Server) => "s",
        _ => "i",
    };
    html! {
        svg.wf-bar aria-hidden="true" focusable="false" {
            rect class=(class) x={ (format!("{:.2}", x.min(100.0 - width))) "%" } width={ (format!("{width:.2}")) "%" } y="3" height="10" rx="2" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn skeleton() -> TraceSkeleton {
        let detail = fixture::trace();
        let spans = detail.spans.iter().map(|span| SpanSkeleton {
            span_id: span.span_id,
            parent_span_id: span.parent_span_id,
            name: span.name.to_string(),
            kind: span.kind,
            status: if matches!(span.status, crate::model::Status::Error(_)) { ERROR } else { 0 },
            start_unix_nano: span.start_unix_nano,
            end_unix_nano: span.end_unix_nano,
        });
        TraceSkeleton { row: detail.row.clone(), spans: spans.collect(), scores: detail.scores.clone() }
    }

    #[test]
    fn a_trial_is_drawn_without_its_neighbours() {
        let yardstick = Yardstick::default();
        let one = waterfall(&skeleton(), Some(fixture::span_id(4)), &yardstick).into_string();
        assert_eq!(one.matches("<tr").count(), 2, "{one}");
        assert!(one.contains("error") && !one.contains("stray"), "{one}");
        // The trial fills the width, whatever the rest of its batch took.
        assert!(one.contains(r#"x="0.00%" width="100.00%""#), "{one}");
        let all = waterfall(&skeleton(), Some(fixture::span_id(77)), &yardstick).into_string();
        assert_eq!(all.matches("<tr").count(), 7, "{all}");
        assert!(!all.contains("label_match") && all.contains("open"), "{all}");
    }
}
