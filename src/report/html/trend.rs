//! A score night by night as a line, and where its level changed in words.

use maud::{Markup, html};

use super::svg::{self, Drawn, Limit, Mark, Point, Size};
use super::{compare, text, verdict};
use crate::compare::trend::{GateLine, Trend};
use crate::report::format;
use crate::report::text::cut;

/// A score night by night with its change points.
pub fn trend_chart(trend: &Trend, now: &str, size: Size, href: impl Fn(&str) -> Option<String>) -> Markup {
    let points: Vec<Point> = trend
        .points
        .iter()
        .map(|point| Point {
            label: format!(
                "{} · {} · {}{}",
                point.name,
                point.started_at.replace('T', " ").get(..16).unwrap_or_default(),
                format::in_unit(&trend.unit, point.mean),
                point.verdict.as_ref().map(|verdict| format!(" · {verdict}")).unwrap_or_default()
            ),
            value: point.mean,
            interval: point.ci95,
            href: href(&point.run_id),
            now: point.run_id == now,
        })
        .collect();
    let marks: Vec<Mark> = trend
        .changes
        .iter()
        .map(|change| Mark {
            index: change.index as usize,
            label: format!(
                "from {} to {}",
                format::in_unit(&trend.unit, Some(change.before)),
                format::in_unit(&trend.unit, Some(change.after))
            ),
            before: Some(change.before),
            after: Some(change.after),
        })
        .collect();
    let ends =
        [trend.points.first(), trend.points.last()].map(|point| point.map_or("", |point| day(&point.started_at)));
    let limit = trend.gate.as_ref().map(|gate| Limit { value: gate.value, label: limit_in_words(trend, gate) });
    let drawn = Drawn { marks: &marks, limit, unit: &trend.unit };
    svg::marked_line(&points, &drawn, size, ends, &format!("{} in {} runs", trend.score, points.len()))
}

/// The gate's line in words.
fn limit_in_words(trend: &Trend, gate: &GateLine) -> String {
    let shown = |x| format::in_unit(&trend.unit, Some(x));
    format!(
        "the gate's line: {}, the baseline's {} worse by the margin of {}",
        shown(gate.value),
        shown(gate.base),
        shown(gate.margin)
    )
}

/// What the dashed line of a trend is; nothing where it has none.
pub fn limit(trend: &Trend) -> Markup {
    html! { @if let Some(gate) = &trend.gate { p.muted { "Dashed: " (limit_in_words(trend, gate)) ". A verdict asks how sure it is that the paired difference is beyond the margin, not where this line lies alone." } } }
}

/// The day of a time.
pub(super) fn day(rfc3339: &str) -> &str {
    rfc3339.get(..10).unwrap_or_default()
}

/// The change points in words, with what was run differently that night.
pub fn changes(trend: &Trend, href: impl Fn(&str) -> Option<String>) -> Markup {
    html! {
        @if trend.changes.is_empty() {
            @if trend.is_searched() { p.muted { "No change of level that is more than chance." } }
        } @else {
            ul.changes {
                @for change in &trend.changes {
                    @let name = trend.points.get(change.index as usize).map_or(change.at_run.as_str(), |point| point.name.as_str());
                    li {
                        "At " (verdict::linked(name, href(&change.at_run))) ": from " b { (format::in_unit(&trend.unit, Some(change.before))) } " to " b { (format::in_unit(&trend.unit, Some(change.after))) }
                        " (p " (compare::p_value(Some(change.p_value))) ")"
                        @for (i, what) in change.annotations.iter().enumerate() {
                            (if i == 0 { ". That night: " } else { ", " }) (text(&what.what)) " "
                            @if let Some(base) = &what.base { del { (cut(base, 60)) } " → " }
                            @match &what.head { Some(head) => ins { (cut(head, 60)) }, None => "none" }
                        }
                        "."
                    }
                }
            }
        }
        @for warning in &trend.warnings { p.muted { (text(warning)) } }
    }
}
