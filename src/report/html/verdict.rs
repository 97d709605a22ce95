//! The verdict of a gate: the word, the reasons in words, and each metric with its margin.

use maud::{Markup, html};

use super::compare::{metric_name, number, signed};
use super::links::Links;
use super::svg;
use super::text;
use crate::compare::comparison::Better;
use crate::compare::gate::{GateMetric, GateReport, Verdict};
use crate::report::format::{self, ABSENT, count};

/// The class of a verdict, its sign and its word: colour never stands alone.
pub const fn look(verdict: Verdict) -> (&'static str, &'static str, &'static str) {
    match verdict {
        Verdict::Pass => ("pass", "✓", "PASS"),
        Verdict::Fail => ("fail", "✗", "FAIL"),
        Verdict::Inconclusive => ("open", "?", "INCONCLUSIVE"),
        Verdict::Invalid => ("open", "!", "INVALID"),
    }
}

/// The verdict as a badge.
pub fn badge(verdict: Verdict) -> Markup {
    let (class, sign, word) = look(verdict);
    let tone = match class {
        "pass" => "ok",
        "fail" => "error",
        _ => "low",
    };
    html! { span.badge.{ (tone) } { (sign) " " (word) } }
}

/// The verdict where it is the first thing to be read: what it says, why, and what it was held against.
pub fn banner(gate: &GateReport, links: &dyn Links) -> Markup {
    let (class, sign, word) = look(gate.verdict);
    html! {
        section.card.verdict.{ (class) } aria-labelledby="verdict" {
            div.stamp { h2 #verdict { span.sign aria-hidden="true" { (sign) } (word) } (against(gate, links)) }
            div.reasons {
                @for (i, reason) in gate.reasons.iter().enumerate() {
                    @if i == 0 { p.lead { (text(reason)) } } @else if i < 12 { p { (text(reason)) } }
                }
                @if gate.reasons.len() > 12 { p.muted { "and " (gate.reasons.len() - 12) " more reasons" } }
            }
        }
    }
}

fn against(gate: &GateReport, links: &dyn Links) -> Markup {
    html! {
        p.muted {
            @match &gate.base {
                Some(base) => {
                    "against "
                    @match base.runs.as_slice() {
                        [one] => (linked(&base.name, links.run(&one.id))),
                        _ => b { (text(&base.name)) },
                    }
                    @if base.runs.len() > 1 { ", a pool of " (base.runs.len()) " runs" }
                    " · " (count(gate.pairs)) " pairs"
                    @if let Some(coverage) = gate.coverage { ", " (percent(coverage)) " of the cases" }
                }
                None => { "against " b { (text(&gate.baseline)) } ", which cannot be read" },
            }
        }
    }
}

/// A name with where it leads.
pub fn linked(name: &str, href: Option<String>) -> Markup {
    match href {
        Some(href) => html! { a href=(href) { (text(name)) } },
        None => html! { b { (text(name)) } },
    }
}

/// A share in percent: as many digits as tell it from all and nothing.
pub fn percent(share: f64) -> String {
    let shown = format!("{:.1}", 100.0 * share);
    format!("{} %", shown.strip_suffix(".0").unwrap_or(&shown))
}

/// Each gating metric: both values, the difference with its interval against the margin, its verdict.
pub fn metrics(gate: &GateReport) -> Markup {
    html! {
        div.scroll role="region" aria-label="Gating metrics, table" tabindex="0" {
            table.plain.wide.gate {
                caption.visually-hidden { "Each gating metric against its margin" }
                thead {
                    tr {
                        th scope="col" { "Metric" } th scope="col" { "Verdict" } th.number scope="col" { "Baseline" } th.number scope="col" { "Run" }
                        th.number scope="col" { "Difference" } th scope="col" { "Worse by" } th scope="col" { span.visually-hidden { "Drawn" } }
                        th.number scope="col" { "Margin" } th.number scope="col" { "b / c" } th.number scope="col" { "Pairs" }
                    }
                }
                tbody { @for metric in &gate.metrics { (row(metric)) } }
            }
        }
        details {
            summary { "How this was decided" }
            p {
                "A metric fails where the lower end of how much worse the run is lies above the margin, passes where the upper end does not, and is undecided "
                "between. b counts pairs that only the baseline has right, c those that only the run has right. The error rate of each side, "
                (gate.policy.alpha) ", is shared among the metrics (Holm) and spent over " (gate.policy.horizon) " nights."
            }
            dl.facts { @for metric in &gate.metrics { dt { (metric_name(&metric.name)) } dd {
                (text(&metric.method))
                @if let Some([fail, pass]) = metric.alpha { "; α " (format::score(fail)) " for FAIL, " (format::score(pass)) " for PASS" }
                @for warning in &metric.warnings { "; " (text(warning)) }
            } } }
        }
    }
}

fn row(metric: &GateMetric) -> Markup {
    html! {
        tr {
            th scope="row" { (metric_name(&metric.name)) }
            td { (badge(metric.verdict)) }
            td.number { (number(&metric.unit, metric.base)) }
            td.number { (number(&metric.unit, metric.head)) }
            td.number { (signed(&metric.unit, metric.delta, metric.direction)) }
            td.muted { (damage(metric)) }
            td { @if let Some(ends) = metric.closed_damage() { (drawn(metric, ends)) } }
            td.number { (number(&metric.unit, Some(metric.margin))) }
            td.number { @match metric.discordant { Some([b, c]) => { (count(b)) " / " (count(c)) } None => (ABSENT) } }
            td.number { (count(metric.n)) @if metric.missing > 0 { div.muted { (count(metric.missing)) " missing" } } }
        }
    }
}

fn damage(metric: &GateMetric) -> String {
    metric.damage_in_words(" … ", |x| number(&metric.unit, Some(x))).unwrap_or_else(|| ABSENT.to_owned())
}

/// How much worse the run is, to the right of the middle; the margin as a line, what lies beyond it as a field.
fn drawn(metric: &GateMetric, [low, high]: [f64; 2]) -> Markup {
    let worse = match metric.direction {
        Better::Higher => metric.delta.map(|delta| -delta),
        Better::Lower => metric.delta,
    };
    svg::against_margin(worse, [low, high], metric.margin)
}
