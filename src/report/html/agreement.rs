//! How well the answers agree with the expected labels, as a table.

use maud::{Markup, html};

use super::svg;
use crate::report::document::Metrics;
use crate::report::format::{self, count};

/// A card of accuracy, macro-F1, MCC, κ and abstention, each with its interval and how that was made.
pub fn agreement(metrics: &Metrics) -> Markup {
    let all = [
        ("Accuracy", &metrics.accuracy, [0.0, 1.0]),
        ("Macro-F1", &metrics.macro_f1, [0.0, 1.0]),
        ("MCC", &metrics.mcc, [-1.0, 1.0]),
        ("Cohen’s κ", &metrics.kappa, [-1.0, 1.0]),
        ("NEE over-use", &metrics.abstention.over_use, [0.0, 1.0]),
        ("NEE under-use", &metrics.abstention.under_use, [0.0, 1.0]),
    ];
    let bounded = metrics.accuracy.bounds.is_some_and(|[worst, best]| worst < best);
    html! {
        section.card.span-6 aria-labelledby="agreement" {
            header { h2 #agreement { "Agreement with the expected labels" } span.muted { "95 % intervals" } }
            div.scroll role="region" aria-label="Agreement, table" tabindex="0" {
                table.plain.wide {
                    thead {
                        tr {
                            th scope="col" { "Metric" } th.number scope="col" { "Value" } th scope="col" { "Interval" } th scope="col" { span.visually-hidden { "Drawn" } }
                            th.number scope="col" { "n" }
                            @if bounded { th scope="col" { "If missing were wrong … right" } }
                        }
                    }
                    tbody {
                        @for (name, metric, range) in all {
                            tr title=(metric.method) {
                                th scope="row" { (name) }
                                td.number { (format::statistic(metric.value)) }
                                td.muted { (format::interval(metric.ci95)) }
                                td { @if let Some(value) = metric.value { (svg::interval(value, metric.ci95, range)) } }
                                td.number { (count(metric.n)) }
                                @if bounded { td.muted { (format::interval(metric.bounds)) } }
                            }
                        }
                    }
                }
            }
            details {
                summary { "How the intervals were made" }
                dl.facts { @for (name, metric, _) in all { dt { (name) } dd { (metric.method) } } }
            }
        }
    }
}
