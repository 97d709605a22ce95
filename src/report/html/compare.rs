//! A comparison: what was run differently, each number of both sides, which cases became better or worse.

use maud::{Markup, html};

use super::links::Links;
use super::svg;
use super::text;
use super::verdict::linked;
use crate::compare::comparison::{
    Better, CaseChange, CaseCounts, CaseSide, Change, Comparison, Metric, SliceComparison, UnpairedCase, UnpairedCounts,
};
use crate::compare::operand::{Difference, Operand};
use crate::report::format::{self, ABSENT, count};
use crate::report::text::cut;

/// A metric as people call it.
pub fn metric_name(name: &str) -> String {
    match name {
        "accuracy" => "Accuracy".to_owned(),
        "macro_f1" => "Macro-F1".to_owned(),
        "mcc" => "MCC".to_owned(),
        "kappa" => "Cohen’s κ".to_owned(),
        "latency_p50_ms" => "Latency p50".to_owned(),
        "latency_p95_ms" => "Latency p95".to_owned(),
        "input_tokens" => "Tokens in".to_owned(),
        "output_tokens" => "Tokens out".to_owned(),
        "cost_usd" => "Cost a case".to_owned(),
        name => text(name).into_owned(),
    }
}

/// A value in its unit, with digits that suit it.
pub fn number(unit: &str, value: Option<f64>) -> String {
    format::in_unit(unit, value)
}

/// A difference with its sign, and whether it is for better or worse.
pub fn signed(unit: &str, delta: Option<f64>, better: Better) -> Markup {
    let Some(x) = delta else { return html! { span.absent { (ABSENT) } } };
    let shown = number(unit, Some(x));
    if !shown.chars().any(|c| ('1'..='9').contains(&c)) {
        return html! { span.muted { "±0" } };
    }
    let (tone, word) = if (x > 0.0) == (better == Better::Higher) { ("good", "better") } else { ("bad", "worse") };
    let (arrow, sign) = if x > 0.0 { ("up", "+") } else { ("down", "") };
    html! { span class={ (tone) " " (arrow) } { (sign) (shown) span.visually-hidden { " (" (word) ")" } } }
}

/// Both sides in a line: name, model, dataset, runs.
pub fn sides(comparison: &Comparison, links: &dyn Links) -> Markup {
    html! {
        dl.facts.sides {
            @for (name, side) in [("Base", &comparison.base), ("Head", &comparison.head)] { dt { (name) } dd { (operand(side, links)) } }
        }
    }
}

/// A side of a comparison in a line.
pub fn operand(side: &Operand, links: &dyn Links) -> Markup {
    html! {
        @match side.runs.as_slice() {
            [one] => (linked(&side.name, links.run(&one.id))),
            runs => { b { (text(&side.name)) } @if runs.len() > 1 { ", a pool of " (runs.len()) " runs" } }
        }
        " · " (text(&side.model)) " (" (text(&side.provider)) ")"
        @if let Some(last) = side.runs.last() { " · " (last.started_at.replace('T', " ").get(..16).unwrap_or(ABSENT)) }
        " · " (count(side.trials)) " trials"
        @if side.errors > 0 { ", " span.bad { (count(side.errors)) " without an answer" } }
    }
}

/// What was run differently.
pub fn differs(differences: &[Difference]) -> Markup {
    html! {
        @if differences.is_empty() {
            p.muted { "Nothing was run differently: dataset, prompt, model, parameters, evaluators and git revision are the same." }
        } @else {
            dl.facts.changed {
                @for difference in differences {
                    dt { (text(&difference.what)) }
                    dd {
                        @match &difference.base { Some(base) => del { (cut(base, 400)) }, None => span.muted { "none" } }
                        span aria-hidden="true" { " → " } span.visually-hidden { " became " }
                        @match &difference.head { Some(head) => ins { (cut(head, 400)) }, None => span.muted { "none" } }
                        @if let Some(name) = &difference.refused_as { " " span.badge.low { "not comparable: --allow " (text(name)) } }
                    }
                }
            }
        }
    }
}

/// Every number of both sides.
pub fn metrics(metrics: &[Metric]) -> Markup {
    html! {
        div.scroll role="region" aria-label="Compared metrics, table" tabindex="0" {
            table.plain.wide.compared {
                caption.visually-hidden { "Each metric of both sides with the interval of the difference" }
                thead {
                    tr {
                        th scope="col" { "Metric" } th.number scope="col" { "Base" } th.number scope="col" { "Head" } th.number scope="col" { "Difference" }
                        th scope="col" { "95 % interval" } th scope="col" { span.visually-hidden { "Drawn" } } th scope="col" { span.visually-hidden { "Change" } }
                        th.number scope="col" { "p" } th.number scope="col" { "b / c" } th.number scope="col" { "Pairs" }
                    }
                }
                tbody { @for metric in metrics { (metric_row(metric)) } }
            }
        }
        details {
            summary { "How the intervals were made" }
            p { "b counts pairs that only the base has right, c those that only the head has right; p is two-sided." }
            dl.facts { @for metric in metrics {
                dt { (metric_name(&metric.name)) }
                dd { (text(&metric.method)) @if let Some(words) = metric.detectable_in_words() { "; " (words) } @for warning in &metric.warnings { "; " (text(warning)) } }
            } }
        }
    }
}

/// Scores of both sides in a narrow place: over the cases that both have, with the interval of the difference.
pub fn in_short(comparison: &Comparison) -> Markup {
    let told = comparison.metrics.iter().filter(|metric| metric.unit == "1" && metric.delta.is_some());
    html! {
        table.plain {
            caption.visually-hidden { "Scores of both runs over the cases that both have" }
            thead { tr {
                th scope="col" { "Over the same cases" } th.number scope="col" { "Then" } th.number scope="col" { "Now" }
                th.number scope="col" { "Difference" } th scope="col" { "95 % interval" }
            } }
            tbody {
                @for metric in told {
                    tr title=(text(&metric.method)) {
                        th scope="row" { (metric_name(&metric.name)) }
                        td.number { (number(&metric.unit, metric.base)) }
                        td.number { (number(&metric.unit, metric.head)) }
                        td.number { (signed(&metric.unit, metric.delta, metric.direction)) }
                        td.muted { @match metric.ci95 { Some([low, high]) => { (number("1", Some(low))) " … " (number("1", Some(high))) } None => (ABSENT) } }
                    }
                }
            }
        }
    }
}

fn metric_row(metric: &Metric) -> Markup {
    html! {
        tr title=(text(&metric.method)) {
            th scope="row" { (metric_name(&metric.name)) }
            td.number { (number(&metric.unit, metric.base)) }
            td.number { (number(&metric.unit, metric.head)) }
            td.number { (signed(&metric.unit, metric.delta, metric.direction)) }
            td.muted {
                @match metric.ci95 {
                    Some([low, high]) => { (number(&metric.unit, Some(low))) " … " (number(&metric.unit, Some(high))) }
                    None => (ABSENT),
                }
            }
            td { @if let Some((delta, ends)) = metric.delta.zip(metric.ci95) { (svg::difference(delta, ends)) } }
            td {
                @match metric.change {
                    Some(Change::Better) => span.badge.ok { "better" },
                    Some(Change::Worse) => span.badge.error { "worse" },
                    None if metric.ci95.is_some() => span.muted { "no clear change" },
                    None => {},
                }
            }
            td.number { (p_value(metric.p_value)) @if metric.mid_p.is_some() { div.muted { "mid-p " (p_value(metric.mid_p)) } } }
            td.number { @match metric.discordant { Some([b, c]) => { (count(b)) " / " (count(c)) } None => (ABSENT) } }
            td.number { (count(metric.n)) @if metric.missing > 0 { div.muted { (count(metric.missing)) " missing" } } }
        }
    }
}

/// A p-value: three digits that count.
pub fn p_value(p: Option<f64>) -> String {
    match p {
        None => ABSENT.to_owned(),
        Some(p) if p < 0.0001 => "<0.0001".to_owned(),
        Some(p) if p < 0.01 => format!("{p:.4}"),
        Some(p) => format!("{p:.3}"),
    }
}

/// How many cases of each kind; each count leads to its cases.
pub fn counts(counts: &CaseCounts, unpaired: UnpairedCounts, links: &dyn Links) -> Markup {
    let kinds = [
        ("Regressed", "regressed", counts.regressed, "bad"),
        ("Improved", "improved", counts.improved, "good"),
        ("Unchanged", "unchanged", counts.unchanged, ""),
        ("Lost their score", "lost", counts.lost, "bad"),
        ("Gained one", "gained", counts.gained, ""),
        ("Without a score", "unscored", counts.unscored, ""),
    ];
    html! {
        dl.figures {
            @for (name, change, n, class) in kinds.into_iter().enumerate().filter(|(i, kind)| *i < 3 || kind.2 > 0).map(|(_, kind)| kind) {
                div {
                    dt { (name) }
                    dd {
                        @match links.changed(change).filter(|_| n > 0) {
                            Some(href) => a class=(class) href=(href) { (count(n)) },
                            None => span class=(if n > 0 { class } else { "" }) { (count(n)) },
                        }
                    }
                }
            }
            @for (name, n) in [("Only in the base", unpaired.base), ("Only in the head", unpaired.head)] {
                @if n > 0 { div { dt { (name) } dd { (count(n)) } } }
            }
        }
    }
}

/// Whether labels shifted by more than chance, in words.
pub fn shift(comparison: &Comparison) -> Markup {
    let tests = [("Bowker", comparison.shift.bowker), ("Stuart–Maxwell", comparison.shift.stuart_maxwell)];
    html! {
        p.muted {
            "Rows the base's answer, columns the head's."
            @for (name, test) in tests {
                @if let Some(test) = test {
                    " " (name) " χ² " (format::score(test.statistic)) ", df " (test.df) ", p " (p_value(Some(test.p_value))) "."
                }
            }
        }
    }
}

/// Cases from both sides, with both traces; `below` gives what stands in a row of its own below a case.
pub fn cases(
    changes: &[CaseChange],
    by: &str,
    links: &dyn Links,
    below: &dyn Fn(&CaseChange) -> Option<Markup>,
) -> Markup {
    html! {
        div.scroll role="region" aria-label="Cases of both sides, table" tabindex="0" {
            table.list data-rows="" {
                thead {
                    tr {
                        th scope="col" { "Case" } th scope="col" { "Claim" } th scope="col" { "Expected" }
                        th scope="col" { "Base" } th scope="col" { "Head" } th.number scope="col" { (text(by)) } th scope="col" { "Traces" }
                    }
                }
                tbody {
                    @for change in changes {
                        tr {
                            th scope="row" {
                                @match links.case(&change.case_id) {
                                    Some(href) => a.id data-open="" href=(href) { (cut(&change.case_id, 60)) },
                                    None => span.id { (cut(&change.case_id, 60)) },
                                }
                            }
                            td.text { div.two { (change.claim.as_deref().map_or_else(|| ABSENT.into(), text)) } }
                            td { (change.expected.as_deref().unwrap_or(ABSENT)) }
                            td { (outputs(&change.base, change.expected.as_deref())) }
                            td { (outputs(&change.head, change.expected.as_deref())) }
                            td.number { (score_change(change, by)) }
                            td.nowrap {
                                (trace(&change.base, "base", false, links)) " " (trace(&change.head, "head", true, links))
                                @if let Some(href) = change.base.trace_id.zip(change.head.trace_id).and_then(|(a, b)| links.diff(&a.to_string(), &b.to_string())) {
                                    " " a href=(href) title="What differs between the traces" { "diff" }
                                }
                            }
                        }
                        @if let Some(more) = below(change) { tr.below { td colspan="7" { (more) } } }
                    }
                }
            }
        }
    }
}

/// Cases of one side only.
pub fn unpaired(cases: &[UnpairedCase], side: &str, links: &dyn Links) -> Markup {
    html! {
        div.scroll role="region" aria-label={ "Cases only in the " (side) ", table" } tabindex="0" {
            table.list data-rows="" {
                thead { tr { th scope="col" { "Case" } th scope="col" { "Why it has no partner" } th scope="col" { "Answer" } th scope="col" { "Trace" } } }
                tbody {
                    @for case in cases {
                        tr {
                            th scope="row" {
                                @match links.case(&case.case_id) {
                                    Some(href) => a.id data-open="" href=(href) { (cut(&case.case_id, 60)) },
                                    None => span.id { (cut(&case.case_id, 60)) },
                                }
                            }
                            td { (text(&case.reason)) }
                            td { (outputs(&case.side, None)) }
                            td { (trace(&case.side, side, side == "head", links)) }
                        }
                    }
                }
            }
        }
    }
}

fn score_change(change: &CaseChange, by: &str) -> Markup {
    let value =
        |side: &CaseSide| side.scores.get(by).copied().flatten().map_or_else(|| ABSENT.to_owned(), format::score);
    html! { (value(&change.base)) span.muted { " → " } (value(&change.head)) }
}

/// What the trials of a side answered; of several each answer once, with how often.
fn outputs(side: &CaseSide, expected: Option<&str>) -> Markup {
    let mut seen: Vec<(&str, usize)> = Vec::new();
    for output in &side.outputs {
        match seen.iter_mut().find(|(known, _)| known == output) {
            Some((_, n)) => *n += 1,
            None => seen.push((output, 1)),
        }
    }
    let many = side.outputs.len() > 1;
    html! {
        @if seen.is_empty() { span.absent { (ABSENT) } }
        @for (i, (output, n)) in seen.iter().enumerate() {
            @if i > 0 { " " }
            @let times = if many { format!(" ×{n}") } else { String::new() };
            @match expected {
                Some(expected) if expected == *output => span.badge.ok { "✓ " (text(output)) (times) },
                Some(_) => span.badge.error { "✗ " (text(output)) (times) },
                None => span.badge { (text(output)) (times) },
            }
        }
    }
}

fn trace(side: &CaseSide, name: &str, head: bool, links: &dyn Links) -> Markup {
    let Some(id) = side.trace_id.map(|id| id.to_string()) else { return html! { span.absent { (ABSENT) } } };
    let span = side.span_id.map(|id| id.to_string());
    let title = format!("trace {id} of the {name}");
    match links.trace(&id, span.as_deref(), head) {
        Some(href) => html! { a href=(href) title=(title) { (name) } },
        None => html! { code title=(title) { (id.chars().take(8).collect::<String>()) "…" } },
    }
}

/// The comparison by parts of the dataset.
pub fn slices(slices: &[SliceComparison], links: &dyn Links) -> Markup {
    html! {
        div.scroll role="region" aria-label="Parts of the dataset, table" tabindex="0" {
            table.plain.wide {
                thead {
                    tr {
                        th scope="col" { "Part" } th scope="col" { "Metric" } th.number scope="col" { "Base" } th.number scope="col" { "Head" }
                        th.number scope="col" { "Difference" } th scope="col" { "95 % interval" } th scope="col" { span.visually-hidden { "Drawn" } }
                        th.number scope="col" { "Worse / better" } th.number scope="col" { "Pairs" }
                    }
                }
                tbody {
                    @for slice in slices {
                        @for (i, metric) in slice.metrics.iter().enumerate() {
                            tr {
                                @if i == 0 { th scope="row" rowspan=(slice.metrics.len()) { (slice_name(slice, links)) } }
                                td { (metric_name(&metric.name)) }
                                td.number { (number(&metric.unit, metric.base)) }
                                td.number { (number(&metric.unit, metric.head)) }
                                td.number { (signed(&metric.unit, metric.delta, metric.direction)) }
                                td.muted { @match metric.ci95 { Some([low, high]) => { (number(&metric.unit, Some(low))) " … " (number(&metric.unit, Some(high))) } None => (ABSENT) } }
                                td { @if let Some((delta, ends)) = metric.delta.zip(metric.ci95) { (svg::difference(delta, ends)) } }
                                @if i == 0 { td.number rowspan=(slice.metrics.len()) { (count(slice.counts.regressed)) " / " (count(slice.counts.improved)) } }
                                td.number { (count(metric.n)) }
                            }
                        }
                    }
                }
            }
        }
        p.muted.gap { "Intervals stand alone: among many parts some look bad by chance." }
    }
}

fn slice_name(slice: &SliceComparison, links: &dyn Links) -> Markup {
    let column = slice.column.strip_prefix("col.").unwrap_or(&slice.column);
    let value = slice.value.as_deref().unwrap_or("none");
    let shown = html! { span.muted { (text(column)) " " } (cut(value, 60)) };
    // What is left over has no filter.
    let filter = Some(&slice.filter).filter(|filter| !filter.is_empty());
    match filter.and_then(|filter| links.part(filter)) {
        Some(href) => html! { a href=(href) { (shown) } },
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wear_their_unit_and_their_sign() {
        for (unit, value, shown) in [
            ("1", 0.6233, "0.623"),
            ("1", -0.02, "−0.020"),
            ("1", -0.0001, "−0.00010"),
            ("1", -1e-12, "0.000"),
            ("ms", 412.0, "412 ms"),
            ("ms", -1500.0, "−1.50 s"),
            ("{token}", 187.25, "187"),
            ("USD", 0.00025, "$0.000250"),
        ] {
            assert_eq!(number(unit, Some(value)), shown);
        }
        assert_eq!(number("1", None), "–");
    }

    #[test]
    fn a_difference_says_whether_it_is_for_the_better() {
        let shown = |delta, better| signed("1", Some(delta), better).into_string();
        assert!(shown(0.05, Better::Higher).contains("better"));
        assert!(shown(0.05, Better::Lower).contains("worse"));
        assert!(shown(-0.05, Better::Higher).contains("−0.050"));
        assert!(shown(1e-12, Better::Higher).contains("±0"));
    }

    #[test]
    fn p_values_are_never_nothing() {
        assert_eq!([1.0, 0.0321, 0.00213, 1e-9].map(|p| p_value(Some(p))), ["1.000", "0.032", "0.0021", "<0.0001"]);
    }
}
