//! The critical path as a table: which operations the trace waited for, by name and one by one in the order of time.

use maud::{Markup, html};

use super::scene::Scene;
use super::waterfall::score_badge;
use crate::report::format::{self, count};
use crate::report::text::named;
use crate::report::trace_critical::by_name;
use crate::trace::critical_path::{Segment, critical_path};

/// How many names are listed.
const NAMES: usize = 30;
/// How many stretches are listed: the longest ones, in the order of time.
const STRETCHES: usize = 200;

/// The view.
pub(super) fn view(scene: &Scene) -> Markup {
    let path = critical_path(&scene.skeleton.spans, &scene.tree);
    let total: u64 = path.iter().map(Segment::length).sum();
    let share = |part: u64| part as f64 * 100.0 / total.max(1) as f64;
    html! {
        p.muted {
            "At each moment of the trace one operation kept everything else waiting. Making the operations at the top faster makes the trace faster; others can be slow at no cost."
        }
        @if path.is_empty() { p.notice { "The trace has no length: there is nothing to wait for." } }
        @else {
            (names(scene, &path, &share))
            (one_by_one(scene, &path, &share))
        }
    }
}

fn names(scene: &Scene, path: &[Segment], share: &dyn Fn(u64) -> f64) -> Markup {
    let (rows, idle) = by_name(path, &scene.tree, |position| scene.span(position).name.as_str());
    html! {
        div.scroll role="region" aria-label="By name" tabindex="0" {
            table.list data-rows="" {
                thead { tr { th scope="col" { "Operation" } th.number scope="col" { "On the path" } th.number scope="col" { "Share" } th scope="col" { span.visually-hidden { "Share as a bar" } } th.number scope="col" { "Count" } } }
                tbody {
                    @for held in rows.iter().take(NAMES) {
                        tr {
                            th scope="row" { a data-open="" href=(scene.at(held.longest)) { (named(&held.name, 80)) } }
                            td.number { (format::duration(held.time_ns)) }
                            td.number { (format!("{:.1} %", share(held.time_ns))) }
                            td { (bar(share(held.time_ns))) }
                            td.number { (count(held.operations)) }
                        }
                    }
                    @if rows.len() > NAMES { tr { td.muted colspan="5" { (count((rows.len() - NAMES) as u64)) " more names" } } }
                    @if idle > 0 {
                        tr {
                            th.muted scope="row" { "(no operation was running)" }
                            td.number { (format::duration(idle)) }
                            td.number { (format!("{:.1} %", share(idle))) }
                            td { (bar(share(idle))) }
                            td {}
                        }
                    }
                }
            }
        }
    }
}

fn bar(share: f64) -> Markup {
    html! { svg.bar aria-hidden="true" viewBox="0 0 100 8" preserveAspectRatio="none" { rect x="0" y="0" width=(format!("{share:.1}")) height="8" {} } }
}

fn one_by_one(scene: &Scene, path: &[Segment], share: &dyn Fn(u64) -> f64) -> Markup {
    let mut longest: Vec<&Segment> = path.iter().collect();
    longest.sort_by_key(|segment| std::cmp::Reverse(segment.length()));
    longest.truncate(STRETCHES);
    longest.sort_by_key(|segment| segment.from_unix_nano);
    let start = scene.skeleton.row.start_unix_nano;
    html! {
        h2.gap { "In the order of time" }
        @if path.len() > STRETCHES {
            p.muted { "The longest " (STRETCHES) " of " (count(path.len() as u64)) " stretches." }
        }
        div.scroll role="region" aria-label="In the order of time" tabindex="0" {
            table.list data-rows="" {
                thead { tr { th.number scope="col" { "From" } th scope="col" { "Operation" } th.number scope="col" { "Held up" } th.number scope="col" { "Share" } } }
                tbody {
                    @for segment in longest {
                        tr class=[segment.node.filter(|at| scene.selected == Some(*at)).map(|_| "current")] {
                            td.number { (format::duration(segment.from_unix_nano.saturating_sub(start))) }
                            @match segment.node {
                                Some(position) => {
                                    th scope="row" {
                                        a data-open="" href=(scene.at(position)) { (named(&scene.span(position).name, 80)) }
                                        @for score in scene.scores(position).iter().take(2) { " " (score_badge(score, scene.is_low(score))) }
                                    }
                                }
                                None => { th.muted scope="row" { "(no operation was running)" } }
                            }
                            td.number { (format::duration(segment.length())) }
                            td.number { (format!("{:.1} %", share(segment.length()))) }
                        }
                    }
                }
            }
        }
    }
}
