//! The table of all cases in a report file: the rows as data, which its script filters and sorts; the first ones stand in
//! the document already, for whoever reads it without scripts.

use std::collections::HashMap;

use maud::{Markup, PreEscaped, html};
use serde_json::{Map, Value as Json, json};

use super::text;
use crate::model::{Evaluation, EvaluatorKind, RunSpec};
use crate::report::details::CaseChange;
use crate::report::evidence::Evidence;
use crate::report::format::{self, ABSENT, count};
use crate::report::link;
use crate::report::results::outcome_in_a_word;
use crate::report::text::cut;
use crate::store::rows::CaseRow;

/// Rows that stand in the document itself.
const STANDING: usize = 50;
/// A table of so few rows is as high as they are.
const SMALL: usize = 16;
/// Bytes that claims may take together; all are cut shorter where there are too many.
const CLAIMS: usize = 2_400_000;
/// A claim is never cut below this many columns, nor shown longer than that many.
const CLAIM: (usize, usize) = (40, 400);

/// The table with its filter.
pub fn table(evidence: &Evidence<'_>, rows: &[CaseRow], total: u64) -> Markup {
    let spec = &evidence.run.spec;
    let compared = evidence.base.is_some();
    html! {
        form #filter.filter hidden role="search" aria-label="Filter the cases" {
            input #q.grow type="search" placeholder="Words in claim or case id" aria-label="Words in claim or case id" autocomplete="off";
            (choice("change", "Change", compared))
            (choice("expected", "Expected", true))
            (choice("output", "Answer", true))
            button.small type="reset" { "Clear" }
            output #found for="q" { }
        }
        noscript {
            p.notice { "Without its script this page shows the first " (rows.len().min(STANDING)) " of " (count(total)) " trials." }
        }
        div.scroll.tall[rows.len() > SMALL] role="region" aria-label="Cases, table" tabindex="0" {
            table.list #cases-table {
                thead {
                    tr {
                        th scope="col" data-key="id" { "Case" }
                        th scope="col" { "Claim" }
                        th scope="col" data-key="expected" { "Expected" }
                        @if compared { th scope="col" data-key="base" { "Base" } }
                        th scope="col" data-key="output" { "Answer" }
                        @if compared { th scope="col" data-key="change" { "Change" } }
                        @for evaluator in &spec.evaluators { th.number scope="col" data-score=(evaluator.id) { (evaluator.id) } }
                        th.number scope="col" data-key="latency" { "Latency" }
                        th scope="col" { "Trace" }
                    }
                }
                tbody { @for row in rows.iter().take(STANDING) { (standing(evidence, row)) } }
            }
        }
        p #more.pager hidden { button type="button" { "Show more" } }
        @if let Some(held) = evidence.left_out(rows) { p.muted { (held) } }
        script #data type="application/json" { (PreEscaped(in_script(&data(evidence, rows)))) }
    }
}

fn choice(name: &str, label: &str, shown: bool) -> Markup {
    html! {
        @if shown {
            label { span.visually-hidden { (label) } select name=(name) { option value="" { (label) ": all" } } }
        }
    }
}

/// A row as the script draws it, for readers without scripts.
fn standing(evidence: &Evidence<'_>, row: &CaseRow) -> Markup {
    let spec = &evidence.run.spec;
    let output = row.outcome.as_ref().map_or("planned", outcome_in_a_word);
    let expected = row.expected.map(crate::model::Label::as_str);
    let before = evidence.base.map(|base| base.get(row.key.seq));
    html! {
        tr {
            th scope="row" { span.id { (text(row.case_id.as_str())) } @if spec.repeat > 1 { span.muted { " #" (row.key.repeat) } } }
            td.text { div.two { (cut(&row.claim, CLAIM.1)) } }
            td { (expected.unwrap_or(ABSENT)) }
            @if let Some(before) = before { td { (answer(before.and_then(|(before, _)| before.output), expected)) } }
            td { (answer(Some(output), expected)) }
            @if let Some(before) = before { td { (change(before.map(|(_, change)| change))) } }
            @for evaluator in &spec.evaluators {
                td.number { (score(row, evaluator.kind, &evaluator.id)) }
            }
            td.number { (format::milliseconds(row.outcome.is_some().then_some(row.latency_ns as f64 / 1e6))) }
            td { (trace(spec, row)) }
        }
    }
}

/// An answer, said in words as well as in colour.
pub fn answer(output: Option<&str>, expected: Option<&str>) -> Markup {
    match (output, expected) {
        (Some(output), Some(expected)) if output == expected => html! { span.badge.ok { "✓ " (output) } },
        (Some(output), Some(_)) => html! { span.badge.error { "✗ " (output) } },
        (Some(output), None) => html! { span.badge { (output) } },
        (None, _) => html! { span.absent { (ABSENT) } },
    }
}

fn change(change: Option<CaseChange>) -> Markup {
    match change {
        Some(CaseChange::Regressed) => html! { span.bad { "▼ regressed" } },
        Some(CaseChange::Lost) => html! { span.bad { "! lost" } },
        Some(CaseChange::Improved) => html! { span.good { "▲ improved" } },
        Some(other) => html! { span.muted { (other.as_str()) } },
        None => html! { span.muted { "unpaired" } },
    }
}

fn score(row: &CaseRow, kind: EvaluatorKind, id: &crate::model::EvaluatorId) -> Markup {
    match row.scores.get(id) {
        Some(Evaluation::Failed { .. }) => html! { span.badge.error { "! failed" } },
        Some(evaluation) => match (kind, evaluation.value(), evaluation.label()) {
            (EvaluatorKind::Label, _, Some(label)) => html! { (cut(label, 40)) },
            (_, Some(value), _) => html! { (format::score(value)) },
            _ => html! { span.absent { (ABSENT) } },
        },
        None => html! { span.absent { (ABSENT) } },
    }
}

/// A trace: a link where the suite has a template for one that leads to a page.
pub fn trace(spec: &RunSpec, row: &CaseRow) -> Markup {
    let Some(id) = row.trace_id else { return html! { span.absent { (ABSENT) } } };
    let short: String = id.to_string().chars().take(8).collect();
    match link::of_case(spec, row) {
        Some(url) => html! { a.mono href=(url) title={ "trace " (id) } rel="noreferrer" { (short) "…" } },
        None => html! { code title={ "trace " (id) } { (short) "…" } },
    }
}

/// Texts of which many are equal, each once.
#[derive(Default)]
struct Pool {
    texts: Vec<Json>,
    known: HashMap<String, usize>,
}

impl Pool {
    /// The place of a text; −1 of none.
    fn place(&mut self, text: Option<&str>) -> Json {
        let Some(text) = text else { return json!(-1) };
        if let Some(&at) = self.known.get(text) {
            return json!(at);
        }
        let at = self.texts.len();
        self.texts.push(json!(text));
        self.known.insert(text.to_owned(), at);
        json!(at)
    }
}

/// The rows as columns; texts that repeat stand once, and places refer to them.
fn data(evidence: &Evidence<'_>, rows: &[CaseRow]) -> Json {
    let spec = &evidence.run.spec;
    let claims = claims(rows);
    let template = link::template(spec);
    let (mut words, mut traces) = (Pool::default(), Pool::default());
    let mut columns: Map<String, Json> = Map::new();
    let mut push = |name: &str, value: Json| match columns.get_mut(name) {
        Some(Json::Array(values)) => values.push(value),
        _ => {
            columns.insert(name.to_owned(), json!([value]));
        }
    };
    for (row, claim) in rows.iter().zip(claims) {
        push("id", json!(text(row.case_id.as_str())));
        if spec.repeat > 1 {
            push("repeat", json!(row.key.repeat));
        }
        push("claim", json!(claim));
        push("expected", words.place(row.expected.map(crate::model::Label::as_str)));
        push("output", words.place(Some(row.outcome.as_ref().map_or("planned", outcome_in_a_word))));
        push("latency", row.outcome.as_ref().map_or(Json::Null, |_| json!(rounded(row.latency_ns as f64 / 1e6))));
        push("trace", traces.place(row.trace_id.map(|id| id.to_string()).as_deref()));
        push("span", json!(row.span_id.map(|id| id.to_string())));
        for evaluator in &spec.evaluators {
            let value = match row.scores.get(&evaluator.id) {
                Some(Evaluation::Failed { .. }) => json!("! failed"),
                Some(evaluation) => match (evaluator.kind, evaluation.value(), evaluation.label()) {
                    (EvaluatorKind::Label, _, Some(label)) => json!(cut(label, 40)),
                    (_, Some(value), _) => json!(rounded(value)),
                    _ => Json::Null,
                },
                None => Json::Null,
            };
            push(&format!("score.{}", evaluator.id), value);
        }
        if template.is_some_and(|template| template.contains("_unix_ms}")) {
            push("start", json!(row.started_unix_nano / 1_000_000));
        }
        if let Some(base) = evidence.base {
            let found = base.get(row.key.seq);
            push("change", words.place(Some(found.map_or("unpaired", |(_, change)| change.as_str()))));
            push("base", words.place(found.and_then(|(before, _)| before.output)));
            push(
                "base_trace",
                traces.place(found.and_then(|(before, _)| before.trace_id).map(|id| id.to_string()).as_deref()),
            );
        }
    }
    let mut queries = Map::new();
    if template.is_some_and(|template| template.contains(link::KQL_GZIP)) {
        for trace in traces.texts.iter().filter_map(Json::as_str) {
            queries.extend(trace.parse().ok().map(|id| (trace.to_owned(), json!(link::kql_gzip(id)))));
        }
    }
    json!({
        "words": words.texts,
        "traces": traces.texts,
        "evaluators": spec.evaluators.iter().map(|evaluator| evaluator.id.to_string()).collect::<Vec<_>>(),
        "run": spec.run_id,
        "template": template,
        "queries": queries,
        "columns": columns,
    })
}

/// The claims, cut so that together they fit: a column may be one byte or four.
fn claims(rows: &[CaseRow]) -> Vec<String> {
    let mut width = CLAIM.1;
    loop {
        let claims: Vec<String> = rows.iter().map(|row| cut(&row.claim, width)).collect();
        let bytes: usize = claims.iter().map(String::len).sum();
        if bytes <= CLAIMS || width == CLAIM.0 {
            return claims;
        }
        width = (width * CLAIMS / bytes).clamp(CLAIM.0, width - 1);
    }
}

/// Four digits behind the point are more than a table shows; of a small number as many as show two.
fn rounded(x: f64) -> Json {
    let x = if (1e-9..9.5e-4).contains(&x.abs()) {
        format!("{x:.1e}").parse().unwrap_or(x)
    } else {
        (x * 1e4).round() / 1e4
    };
    if x.fract() == 0.0 && x.abs() < 1e15 { json!(x as i64) } else { json!(x) }
}

/// JSON fit to stand within a script element: nothing in it ends the element or begins a comment.
fn in_script(value: &Json) -> String {
    value.to_string().replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_the_script_early() {
        let written = in_script(&json!({"claim": "</script><!--<script>"}));
        assert!(!written.contains('<'), "{written}");
        let read: Json = serde_json::from_str(&written).expect("JSON");
        assert_eq!(read["claim"], "</script><!--<script>");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.000_23, -4.1e-7, 1e-12].map(|x| rounded(x).to_string()), ["0.00023", "-4.1e-7", "0"]);
        assert_eq!([1.0, 0.0, 0.123_456, 412.0].map(|x| rounded(x).to_string()), ["1", "0", "0.1235", "412"]);
    }
}
