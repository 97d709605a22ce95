//! Pieces that several pages show: times, ids to copy, states, scores, the lowest cases.

use maud::{Markup, html};

use super::layout::text;
use super::link;
use crate::report::details::ScoreChange;
use crate::report::document::{LowCase, Report};
use crate::report::documents::{CaseEntry, ScoreEntry};
use crate::report::format::{self, ABSENT};

/// What stands for a value that is not there.
pub(super) fn absent() -> Markup {
    html! { span.absent title="none" { (ABSENT) } }
}

/// An RFC 3339 time, to the second.
pub(super) fn time(rfc3339: &str) -> Markup {
    html! { time datetime=(rfc3339) { (rfc3339.replace('T', " ").get(..19).unwrap_or(ABSENT)) } }
}

/// Seconds as a duration.
pub(super) fn seconds(seconds: f64) -> String {
    format::duration((seconds.max(0.0) * 1e9) as u64)
}

/// A button that copies a text; it needs the script and is hidden without it.
pub(super) fn copy(what: &str, copied: &str) -> Markup {
    html! { button.copy.inline type="button" data-copy=(copied) aria-label={ "Copy " (what) } title={ "Copy " (what) } { "Copy" } }
}

/// A command or code to copy.
pub(super) fn snippet(code: &str) -> Markup {
    html! {
        div.snippet {
            pre tabindex="0" { code { (code) } }
            button.copy type="button" data-copy=(code) { "Copy" }
        }
    }
}

/// The state of a run.
pub(super) fn run_status(status: &str) -> Markup {
    let class = match status {
        "completed" => "ok",
        "running" => "live",
        "refused" => "error",
        _ => "low",
    };
    html! { span.badge.{ (class) } { (status) } }
}

/// What became of a trial.
pub(super) fn trial_status(case: &CaseEntry) -> Markup {
    match (case.status, &case.error) {
        ("completed", _) => html! { span.muted { "completed" } },
        ("failed", Some(error)) => {
            html! { span.badge.error title=[case.reason.as_deref().map(text)] { "failed: " (text(error)) } }
        }
        ("skipped", _) => html! { span.badge.skipped title=[case.reason.as_deref().map(text)] { "skipped" } },
        (other, _) => html! { span.badge.planned { (other) } },
    }
}

/// The answer of a trial beside what was expected; said in words as well as in colour.
pub(super) fn output(output: Option<&str>, expected: Option<&str>, otherwise: Markup) -> Markup {
    match (output, expected) {
        (Some(output), Some(expected)) if output == expected => {
            html! { span.badge.ok title="as expected" { "✓ " (output) } }
        }
        (Some(output), Some(expected)) => html! { span.badge.error title={ "expected " (expected) } { "✗ " (output) } },
        (Some(output), None) => html! { span.badge { (output) } },
        (None, _) => otherwise,
    }
}

/// A score in a column: scored, failed, skipped and not run look different.
pub(super) fn score(entry: Option<&ScoreEntry>) -> Markup {
    let Some(entry) = entry else { return absent() };
    let why = entry.explanation.as_deref().map(text);
    match (entry.state, &entry.label, entry.value) {
        ("failed", ..) => html! { span.badge.error title=[why] { "! failed" } },
        ("skipped", ..) => html! { span.muted title=[why] { i { "skipped" } } },
        (_, Some(label), value) => match label.as_str() {
            "pass" => html! { span.good title=[why] { "✓" span.word { " pass" } } },
            "fail" => html! { span.bad title=[why] { "✗" span.word { " fail" } } },
            label => {
                let number = value.map(format::score).unwrap_or_default();
                html! { span title=(why.unwrap_or_else(|| number.into())) { (text(label)) } }
            }
        },
        (_, None, Some(value)) => html! { span title=[why] { (format::score(value)) } },
        (_, None, None) => absent(),
    }
}

/// A difference with its sign, and whether it is for better or worse where that is known.
pub(super) fn difference(difference: Option<f64>, lower_is_better: bool) -> Markup {
    let Some(x) = difference else { return absent() };
    signed_difference(x, (x > 0.0) != lower_is_better)
}

/// The difference of an evaluator's means.
pub(super) fn change(change: Option<&ScoreChange>) -> Markup {
    match change.and_then(|change| change.difference.zip(change.improved)) {
        Some((x, better)) => signed_difference(x, better),
        None => absent(),
    }
}

fn signed_difference(x: f64, better: bool) -> Markup {
    if x.abs() < 5e-5 {
        return html! { span.muted { "±0" } };
    }
    let (class, word) = if better { ("good", "better") } else { ("bad", "worse") };
    let arrow = if x > 0.0 { "up" } else { "down" };
    html! { span class={ (class) " " (arrow) } { (signed(x)) span.visually-hidden { " (" (word) ")" } } }
}

fn signed(x: f64) -> String {
    let shown = if x.abs() < 10.0 { format!("{:.3}", x.abs()) } else { format::score(x.abs()) };
    format!("{}{shown}", if x < 0.0 { '−' } else { '+' })
}

/// A link to a trace at a span, with the ends of its id.
pub(super) fn trace(trace_id: Option<impl ToString>, span_id: Option<impl ToString>) -> Markup {
    match trace_id {
        Some(id) => {
            let id = id.to_string();
            let span = span_id.map(|span| span.to_string());
            let shown: String = id.chars().take(8).collect();
            html! { a.mono href=(link::trace(&id, span.as_ref())) title={ "trace " (id) } { (shown) "…" } }
        }
        None => absent(),
    }
}

/// The mean of an evaluator with digits that suit it.
pub(super) fn mean(mean: Option<f64>) -> String {
    match mean {
        Some(x) if x.abs() > 10.0 => format::score(x),
        mean => format::statistic(mean),
    }
}

/// An interval with digits that suit it.
pub(super) fn ends(ends: Option<[f64; 2]>) -> String {
    match ends {
        Some([low, high]) if low.abs().max(high.abs()) > 10.0 => {
            format!("[{}, {}]", format::score(low), format::score(high))
        }
        ends => format::interval(ends),
    }
}

/// Tokens in and out.
pub(super) fn tokens(input: Option<u64>, output: Option<u64>) -> Markup {
    let shown = |n: Option<u64>| n.map_or_else(|| ABSENT.to_owned(), format::count);
    match (input, output) {
        (None, None) => absent(),
        (input, output) => html! {
            span.nowrap { (shown(input)) span.visually-hidden { " in," } " / " (shown(output)) span.visually-hidden { " out" } }
        },
    }
}

/// The cases with the lowest scores, each with its trace.
pub(super) fn lowest(report: &Report, cases: &[LowCase]) -> Markup {
    let run = &report.run;
    html! {
        div.scroll role="region" aria-label="Lowest cases, table" tabindex="0" {
            table.list data-rows="" {
                thead {
                    tr {
                        th scope="col" { "Case" }
                        th scope="col" { "Claim" }
                        th scope="col" { "Expected" }
                        th scope="col" { "Output" }
                        @for (id, _) in &report.evaluators.0 { th.number scope="col" { (id) } }
                        th scope="col" { "Trace" }
                    }
                }
                tbody {
                    @for case in cases {
                        tr {
                            th scope="row" {
                                a.id data-open="" href=(link::with_query(&link::case(&run.dataset.name, &case.case_id), [("run", Some(run.id.as_str()))])) {
                                    (text(&case.case_id))
                                }
                                @if run.repeat > 1 { span.muted { " #" (case.repeat) } }
                            }
                            td.text { div.two { (text(&case.claim)) } }
                            td { @match case.expected { Some(label) => (label), None => (absent()) } }
                            td { (output(case.output, case.expected, failed(case.error.as_deref()))) }
                            @for (id, _) in &report.evaluators.0 {
                                td.number {
                                    @match case.scores.get(id).copied().flatten() {
                                        Some(x) => (format::score(x)),
                                        None => (absent()),
                                    }
                                }
                            }
                            td { (trace(case.trace_id, case.span_id)) }
                        }
                    }
                }
            }
        }
    }
}

fn failed(error: Option<&str>) -> Markup {
    match error {
        Some(error) => html! { span.badge.error { "failed: " (text(error)) } },
        None => absent(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scored_failed_skipped_and_missing_look_different() {
        let entry = |state, label: Option<&str>, value| ScoreEntry {
            value,
            label: label.map(str::to_owned),
            explanation: Some("why <b>".to_owned()),
            state,
        };
        let shown = |entry: &ScoreEntry| score(Some(entry)).into_string();
        let all = [
            shown(&entry("scored", Some("pass"), Some(1.0))),
            shown(&entry("scored", Some("fail"), Some(0.0))),
            shown(&entry("scored", None, Some(0.0))),
            shown(&entry("failed", None, None)),
            shown(&entry("skipped", None, None)),
            score(None).into_string(),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(all[0].contains("✓") && all[0].contains("why &lt;b&gt;"), "{}", all[0]);
    }

    #[test]
    fn a_difference_says_whether_it_is_for_the_better() {
        let shown = |x, improved| {
            let change = ScoreChange { before: None, after: None, difference: Some(x), improved: Some(improved) };
            super::change(Some(&change)).into_string()
        };
        assert!(shown(0.0412, true).contains("+0.041"));
        assert!(shown(0.0412, false).contains("worse"));
        assert!(shown(-0.5, false).contains("−0.500"));
        assert!(shown(1e-9, true).contains("±0"));
    }
}
