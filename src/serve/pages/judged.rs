//! The verdict on a run, where it was judged: on the front page in short, on the run's page with each metric.

use maud::{Markup, html};

use super::compare::PageLinks;
use super::layout::text;
use super::link;
use crate::compare::GateReport;
use crate::report::Report;
use crate::report::format::count;
use crate::report::html::{compare as shown, verdict};

/// The verdict with its reasons.
pub(super) fn banner(report: &Report) -> Markup {
    match of(report) {
        Some(gate) => html! { div.first { (verdict::banner(&gate, &PageLinks::of_run(report))) } },
        None => Markup::default(),
    }
}

/// The same with each metric against its margin, and the cases that decided.
pub(super) fn whole(report: &Report) -> Markup {
    let Some(gate) = of(report) else { return Markup::default() };
    let links = PageLinks::of_run(report);
    // The last run of the baseline is the one whose traces are most likely kept.
    let base = gate.base.as_ref().and_then(|base| base.runs.last()).map(|run| run.id.as_str());
    html! {
        div.first { (verdict::banner(&gate, &links)) }
        @if !gate.metrics.is_empty() {
            section.card.first aria-labelledby="gate" {
                header {
                    h2 #gate { "Against the margins" }
                    @if let Some(base) = base {
                        a href=(link::with_query("/compare", [("base", Some(base)), ("head", Some(report.run.id.as_str()))])) { "Compare with the baseline’s newest run" }
                    }
                }
                (verdict::metrics(&gate))
            }
        }
        @if !gate.must_pass.failed.is_empty() {
            section.card.first aria-labelledby="must" {
                header { h2 #must { "Cases that must pass and did not" } span.muted { (count(gate.must_pass.checked)) " were looked at" } }
                dl.facts { @for case in &gate.must_pass.failed {
                    dt { a.id href=(link::case(&report.run.dataset.name, &case.case_id)) { (text(&case.case_id)) } } dd { (text(&case.why)) }
                } }
            }
        }
        @if !gate.regressed.is_empty() {
            section.card.flush.first aria-labelledby="worse" {
                header { h2 #worse { "Worse than in the baseline" } span.muted { (count(gate.counts.regressed)) " regressed, " (count(gate.counts.improved)) " improved" } }
                (shown::cases(&gate.regressed[..gate.regressed.len().min(10)], &report.run.primary, &links, &|_| None))
            }
        }
    }
}

/// The verdict that is kept of a run; one that an older version wrote and this one cannot read is none.
fn of(report: &Report) -> Option<GateReport> {
    serde_json::from_value(report.gate.clone()?).ok()
}
