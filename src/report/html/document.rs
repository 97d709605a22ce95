//! The report of a run as one HTML file that works by mail and offline: style and script stand in it, under a policy that lets
//! nothing else run and nothing be fetched.

use std::collections::HashMap;

use base64::Engine as _;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::links::Links;
use super::svg::{self, Point, Size};
use super::trend::{changes, day, limit, trend_chart};
use super::{agreement, cases, compare, confusion, text, verdict, waterfall};
use crate::compare::comparison::UnpairedCounts;
use crate::compare::gate::GateReport;
use crate::model::{Evaluation, Label, RunSpec, SpanId};
use crate::report::details::{CaseChange, Details};
use crate::report::document::Report;
use crate::report::evidence::{Evidence, Worst};
use crate::report::format::{self, ABSENT, count};
use crate::report::link;
use crate::report::low::Yardstick;
use crate::report::results::outcome_in_a_word;
use crate::report::text::cut;
use crate::store::rows::CaseRow;
use crate::store::{Reader, StoreError};

/// The style: that of the pages, and what only the file needs.
const STYLE: &str = concat!(include_str!("base.css"), "\n", include_str!("report.css"));
/// The script of the table of cases.
const SCRIPT: &str = include_str!("report.js");
/// Rows of a list of regressed cases.
const LISTED: usize = 12;

/// The document.
pub fn document(reader: &Reader, evidence: &Evidence<'_>) -> Result<String, StoreError> {
    let rows = evidence.rows(reader)?;
    let worst = evidence.worst(reader, &rows)?;
    Ok(page(evidence, &rows, &worst).into_string())
}

/// What the browser may do with the file: draw it with this style, run this script, nothing else.
fn policy() -> String {
    let hash = |text: &str| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

fn page(evidence: &Evidence<'_>, rows: &[CaseRow], worst: &[Worst<'_>]) -> Markup {
    let report = evidence.report;
    let run = &report.run;
    let title = match evidence.gate.map(|gate| gate.verdict.as_str()).or(evidence.word) {
        Some(verdict) => format!("{verdict}: {} · {}", run.suite, run.name),
        None => format!("{} · {}", run.suite, run.name),
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (text(&title)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main.report {
                    (masthead(report))
                    (sections(evidence, rows, worst))
                    (footer(evidence))
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

fn sections(evidence: &Evidence<'_>, rows: &[CaseRow], worst: &[Worst<'_>]) -> Markup {
    let report = evidence.report;
    let starts = starts(&evidence.run.spec, rows);
    let links = InFile { spec: &evidence.run.spec, starts: &starts, has_changes: true };
    let apart = evidence.verdict_apart();
    let none = Details::default();
    let details = report.details.as_ref().unwrap_or(&none);
    html! {
        @match evidence.gate { Some(gate) => (verdict::banner(gate, &links)), None => (unjudged(evidence)) }
        @for note in evidence.notes { p.notice.low { (text(note)) } }
        @if let Some(differences) = evidence.differs() {
            section.card aria-labelledby="differs" {
                header { h2 #differs { "Run differently" } }
                (compare::differs(differences))
                @if let Some(comparison) = evidence.comparison.filter(|_| apart.is_none()) { (compare::sides(comparison, &links)) }
            }
        }
        @if let Some(gate) = evidence.gate { (judged(gate)) }
        (headline(evidence))
        div.grid {
            (agreement::agreement(&report.metrics))
            (matrix(report))
            (evaluators(evidence))
            (resources(report))
        }
        @if let Some(gate) = apart.filter(|gate| gate.base.is_some()) { (by_verdict(evidence, gate, &InFile { has_changes: false, ..links })) }
        @if let Some(comparison) = evidence.comparison {
            section.card aria-labelledby="comparison" {
                header { h2 #comparison { "Compared with " (text(&comparison.base.name)) } span.muted { (count(comparison.pairs)) " cases that both have" } }
                @for reason in &comparison.invalid { p.notice.low { (text(reason)) } }
                @if apart.is_some() { (compare::differs(&comparison.differs)) (compare::sides(comparison, &links)) }
                (compare::counts(&comparison.cases.counts, comparison.unpaired.counts, &links))
                div.gap { (compare::metrics(&comparison.metrics)) }
            }
            @if comparison.transitions.iter().flatten().any(|n| *n > 0) {
                section.card aria-labelledby="moved" {
                    header { h2 #moved { "From answer to answer" } span.muted { "what lies off the diagonal moved" } }
                    (confusion::transitions(&comparison.transition_labels, &comparison.transitions))
                    (compare::shift(comparison))
                }
            }
            @if !comparison.slices.is_empty() {
                section.card aria-labelledby="slices" {
                    header { h2 #slices { "By part of the dataset" } }
                    (compare::slices(&comparison.slices, &links))
                }
            }
            @let found = &comparison.cases;
            @for (change, title, list, total) in [(CaseChange::Regressed, "Regressed", &found.regressed, found.counts.regressed), (CaseChange::Improved, "Improved", &found.improved, found.counts.improved)] {
                @let id = change.as_str();
                @if !list.is_empty() {
                    section.card.flush.flows aria-labelledby=(id) {
                        header { h2 id=(id) { (title) } span.muted { "by " (text(&comparison.cases.by)) ", the largest first" } }
                        (compare::cases(&list[..list.len().min(LISTED)], &comparison.cases.by, &links, &|_| None))
                        @if total > LISTED as u64 { p.pager { a href={ "#change=" (id) } { (in_table(evidence.cases_in(rows, &[change]), total)) } } }
                    }
                }
            }
        }
        (trend(evidence, details))
        (worst_cases(evidence, worst))
        section.card.flush.flows #cases aria-labelledby="all" {
            header { h2 #all { "Cases" } span.muted { "the worst first" } }
            div.inside { (cases::table(evidence, rows, report.trials.planned)) }
        }
    }
}

/// Each metric against its margin, and the cases that had to pass.
fn judged(gate: &GateReport) -> Markup {
    html! {
        @if !gate.metrics.is_empty() {
            section.card aria-labelledby="gate" {
                header { h2 #gate { "Against the margins" } span.muted { "the field beyond the dashed line is worse than allowed" } }
                (verdict::metrics(gate))
            }
        }
        @if !gate.must_pass.failed.is_empty() {
            section.card aria-labelledby="must" {
                header { h2 #must { "Cases that must pass and did not" } span.muted { (count(gate.must_pass.checked)) " were looked at" } }
                dl.facts { @for case in &gate.must_pass.failed { dt { code { (text(&case.case_id)) } } dd { (text(&case.why)) } } }
            }
        }
    }
}

/// The cases that the verdict itself kept, where its baseline is not what the run is compared with here.
fn by_verdict(evidence: &Evidence<'_>, gate: &GateReport, links: &InFile<'_>) -> Markup {
    let by = &evidence.report.run.primary;
    html! {
        section.card aria-labelledby="by-verdict" {
            header { h2 #by-verdict { "Against the baseline" } span.muted { (count(gate.pairs)) " cases that both have" } }
            (compare::counts(&gate.counts, UnpairedCounts::default(), links))
        }
        @for (id, title, list, total) in [("worse", "Worse than in the baseline", &gate.regressed, gate.counts.regressed), ("better", "Better than in the baseline", &gate.improved, gate.counts.improved)] {
            @if !list.is_empty() {
                section.card.flush.flows aria-labelledby=(id) {
                    header { h2 id=(id) { (title) } span.muted { "by " (text(by)) ", the largest first" } }
                    (compare::cases(&list[..list.len().min(LISTED)], by, links, &|_| None))
                    @if total > LISTED as u64 { p.pager { (LISTED.min(list.len())) " of " (count(total)) } }
                }
            }
        }
    }
}

/// How many of so many cases the table has.
fn in_table(held: u64, total: u64) -> String {
    if held < total {
        format!("{} of {} in the table below", count(held), count(total))
    } else {
        format!("All {} in the table below", count(total))
    }
}

fn masthead(report: &Report) -> Markup {
    let run = &report.run;
    html! {
        header.masthead {
            h1 { (text(&run.suite)) span.muted { " · " (text(&run.name)) } }
            span.brand { span.mark aria-hidden="true" {} "spanscore" }
        }
        p.muted {
            (text(&run.model)) " (" (text(&run.provider)) ") on " (text(&run.dataset.name)) ", " (count(run.dataset.cases)) " cases"
            @if run.repeat > 1 { " × " (run.repeat) }
            " · " time datetime=(run.started_at) { (run.started_at.replace('T', " ").get(..16).unwrap_or(ABSENT)) } " UTC"
            " · took " (format::duration((run.duration_s.max(0.0) * 1e9) as u64))
            @if run.status != "completed" { " · " span.badge.low { (run.status) } }
        }
    }
}

/// Where nothing was held against a baseline, that is said.
fn unjudged(evidence: &Evidence<'_>) -> Markup {
    let report = evidence.report;
    let unanswered = report.trials.planned - report.trials.completed;
    html! {
        section.card aria-labelledby="verdict" {
            header { h2 #verdict { @match evidence.word { Some(word) => (text(word)), None => "No verdict" } } }
            @if evidence.word.is_none() { p {
                "This run was not held against a baseline"
                @if evidence.comparison.is_some() { "; the comparison below says what changed, not whether that is acceptable" }
                "."
                @if unanswered > 0 { " " (count(unanswered)) " of " (count(report.trials.planned)) " trials have no answer." }
            } }
        }
    }
}

/// The numbers that most readers came for.
fn headline(evidence: &Evidence<'_>) -> Markup {
    let report = evidence.report;
    let primary = report.evaluators.0.iter().find(|(id, _)| *id == report.run.primary).map(|(_, evaluator)| evaluator);
    let (trials, tokens) = (&report.trials, &report.tokens);
    html! {
        section.card aria-label="At a glance" {
            dl.figures {
                div {
                    dt { (text(&report.run.primary)) }
                    dd {
                        @match primary {
                            Some(primary) => {
                                (format::in_unit(evidence.unit(&report.run.primary), primary.mean))
                                @if primary.ci95.is_some() { " " small { (format::interval_in(evidence.unit(&report.run.primary), primary.ci95)) } }
                            }
                            None => (ABSENT),
                        }
                    }
                }
                @match (evidence.verdict_apart().filter(|gate| gate.base.is_some()), evidence.comparison) {
                    (Some(gate), _) => {
                        div { dt { "Regressed" } dd { span.bad[gate.counts.regressed > 0] { (count(gate.counts.regressed)) } } }
                        div { dt { "Improved" } dd { span.good[gate.counts.improved > 0] { (count(gate.counts.improved)) } } }
                    }
                    (None, Some(comparison)) => {
                        div { dt { "Regressed" } dd { (leading(comparison.cases.counts.regressed, "#change=regressed", "bad")) } }
                        div { dt { "Improved" } dd { (leading(comparison.cases.counts.improved, "#change=improved", "good")) } }
                    }
                    (None, None) => {},
                }
                div { dt { "Completed" } dd { (count(trials.completed)) small { " of " (count(trials.planned)) } } }
                @if trials.failed > 0 { div { dt { "Failed" } dd { (leading(trials.failed, "#output=failed", "bad")) } } }
                @if trials.skipped > 0 { div { dt { "Skipped" } dd { (leading(trials.skipped, "#output=skipped", "")) } } }
                div { dt { "Latency p50 · p95" } dd { (format::milliseconds(report.latency_ms.p50)) " · " (format::milliseconds(report.latency_ms.p95)) } }
                div { dt { "Tokens in / out" } dd { (known(tokens.input)) " / " (known(tokens.output)) } }
                @if report.cost_usd.is_some() { div { dt { "Cost" } dd { (format::dollars(report.cost_usd)) } } }
            }
        }
    }
}

fn known(n: Option<u64>) -> String {
    n.map_or_else(|| ABSENT.to_owned(), count)
}

fn leading(n: u64, href: &str, class: &str) -> Markup {
    html! { @if n > 0 { a class=(class) href=(href) { (count(n)) } } @else { "0" } }
}

fn matrix(report: &Report) -> Markup {
    html! {
        section.card.span-6 aria-labelledby="confusion" {
            header { h2 #confusion { "Confusion" } span.muted { "rows expected, columns answered" } }
            (confusion::confusion(&report.metrics, |expected, column| {
                Some(super::address_in_file(&[("expected", expected), ("output", column)]))
            }))
        }
    }
}

fn evaluators(evidence: &Evidence<'_>) -> Markup {
    let report = evidence.report;
    html! {
        section.card.span-6 aria-labelledby="evaluators" {
            header { h2 #evaluators { "Evaluators" } }
            div.scroll role="region" aria-label="Evaluators, table" tabindex="0" {
                table.plain.wide {
                    thead { tr { th scope="col" { "Evaluator" } th.number scope="col" { "Mean" } th scope="col" { "95 % interval" } th.number scope="col" { "Scored" } th.number scope="col" { "Not scored" } } }
                    tbody {
                        @for (id, evaluator) in &report.evaluators.0 {
                            tr title=(text(&evaluator.method)) {
                                th scope="row" { (text(id)) @if *id == report.run.primary { span.muted { " primary" } } }
                                td.number { (format::in_unit(evidence.unit(id), evaluator.mean)) }
                                td.muted { (format::interval_in(evidence.unit(id), evaluator.ci95)) }
                                td.number { (count(evaluator.scored)) }
                                td.number { (count(evaluator.failed + evaluator.skipped + evaluator.absent)) @if evaluator.failed > 0 { div.bad { (count(evaluator.failed)) " failed" } } }
                            }
                            @if evaluator.mean.is_none() && !evaluator.labels.is_empty() {
                                tr { td colspan="5" { @for (label, n) in evaluator.labels.iter().take(8) { span.badge { (cut(label, 40)) " " (count(*n)) } " " } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn resources(report: &Report) -> Markup {
    html! {
        section.card.span-6 aria-labelledby="what" {
            header { h2 #what { "What was run" } }
            dl.facts {
                dt { "Workflow" } dd { (text(&report.run.workflow)) }
                dt { "Dataset" } dd { (text(&report.run.dataset.name)) " " code { (short(&report.run.dataset.digest)) } }
                dt { "Prompt" } dd { code { (short(&report.run.prompt_digest)) } }
                dt { "Git" } dd { @match &report.run.git { Some(git) => { code { (short(&git.revision)) } @if git.dirty { " with uncommitted changes" } }, None => (ABSENT) } }
                @if !report.tags.is_empty() { dt { "Tags" } dd { @for (key, value) in &report.tags { span.badge { (text(key)) "=" (text(value)) } " " } } }
                dt { "HTTP tries" } dd { (count(report.attempts)) }
                @for error in report.errors.iter().take(6) { dt { "Error " (text(&error.error_type)) } dd { (count(error.trials)) " trials" } }
            }
        }
    }
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

fn trend(evidence: &Evidence<'_>, details: &Details) -> Markup {
    html! {
        @match evidence.trend {
            Some(trend) if trend.points.len() > 1 => {
                section.card.trend aria-labelledby="trend" {
                    header { h2 #trend { (compare::metric_name(&trend.score)) " in the suite’s runs" } span.muted { (count(trend.points.len() as u64)) " runs, oldest first; the band is the 95 % interval" } }
                    (trend_chart(trend, &evidence.report.run.id, Size::Card, |_| None))
                    (limit(trend))
                    (changes(trend, |_| None))
                }
            }
            _ if details.history.len() > 1 => {
                section.card.trend aria-labelledby="trend" {
                    header { h2 #trend { (text(&evidence.report.run.primary)) " in the suite’s runs" } span.muted { (count(details.history.len() as u64)) " runs, oldest first" } }
                    (svg::line(
                        &details.history.iter().map(|past| Point {
                            label: format!("{} · {} · {}", past.name, day(&past.started_at), format::in_unit(evidence.unit(&evidence.report.run.primary), past.mean)),
                            value: past.mean,
                            now: past.run_id == evidence.report.run.id,
                            ..Point::default()
                        }).collect::<Vec<_>>(),
                        evidence.unit(&evidence.report.run.primary),
                        [day(&details.history[0].started_at), day(&evidence.report.run.started_at)],
                        "The primary score run by run",
                    ))
                }
            }
            _ => {},
        }
    }
}

fn worst_cases(evidence: &Evidence<'_>, worst: &[Worst<'_>]) -> Markup {
    let spec = &evidence.run.spec;
    let yardstick = Yardstick::of(&spec.evaluators);
    html! {
        section.card.flush.flows aria-labelledby="worst" {
            header {
                h2 #worst { "Worst cases and their traces" }
                span.muted { @if evidence.base.is_some() { "regressed first, " } "failed and unparseable, then by " (spec.primary) }
            }
            @if let Some(kql) = &evidence.report.spans.kql { p.pager { "Scores in Application Insights: " code { (kql) } } }
            @if worst.is_empty() { p.pager { "No case failed or scored below its best." } }
            ol.worst { @for case in worst { (worst_case(evidence, case, &yardstick)) } }
        }
    }
}

fn worst_case(evidence: &Evidence<'_>, case: &Worst<'_>, yardstick: &Yardstick) -> Markup {
    let spec = &evidence.run.spec;
    let row = case.row;
    let expected = row.expected.map(Label::as_str);
    let output = row.outcome.as_ref().map(outcome_in_a_word);
    let before = evidence.base.and_then(|base| base.get(row.key.seq));
    html! {
        li {
            div.case-line {
                b.id { (text(row.case_id.as_str())) @if spec.repeat > 1 { span.muted { " #" (row.key.repeat) } } }
                span { "expected " b { (expected.unwrap_or(ABSENT)) } }
                @if let Some((before, _)) = before { span { "was " (cases::answer(before.output, expected)) } }
                span { @if before.is_some() { "is " } (cases::answer(output, expected)) }
                span.trace { "trace " @match row.trace_id {
                    Some(id) => @match link::of_case(spec, row) {
                        Some(url) => a.mono rel="noreferrer" href=(url) { (id) },
                        None => code { (id) },
                    },
                    None => (ABSENT),
                } }
            }
            p.claim { (cut(&row.claim, 600)) }
            @if let Some(reason) = why(row, spec) { p.reason { (cut(&reason, 400)) } }
            @if let Some(raw) = row.raw_output.as_deref().filter(|raw| output != Some(raw.trim())) { p.reason { "Answer: " q { (cut(raw, 400)) } } }
            @match &case.trace {
                Ok(trace) => (waterfall::waterfall(trace, row.span_id, yardstick)),
                Err(why) => p.muted { (why) },
            }
        }
    }
}

/// Why a trial is as it is: its error, or what the primary evaluator says.
fn why(row: &CaseRow, spec: &RunSpec) -> Option<String> {
    match (&row.outcome, row.scores.get(&spec.primary)) {
        (Some(crate::model::Outcome::Failed(failure)), _) => {
            Some(format!("{}: {}", failure.error_type, failure.message))
        }
        (_, Some(Evaluation::Scored { explanation, .. })) => {
            explanation.as_ref().map(|explanation| format!("{}: {explanation}", spec.primary))
        }
        (_, Some(Evaluation::Failed { message, .. })) => Some(format!("{}: {message}", spec.primary)),
        _ => None,
    }
}

fn footer(evidence: &Evidence<'_>) -> Markup {
    let run = &evidence.report.run;
    html! {
        footer {
            p {
                "Made by spanscore " (env!("CARGO_PKG_VERSION")) " of run " code { (run.id) }
                @if let Some(gate) = evidence.gate {
                    ", judged against " code { (text(&gate.baseline)) }
                    @if let Some(digest) = &gate.baseline_digest { " (" code { (short(digest)) } ")" }
                }
                ". This file fetches nothing. With the store at hand: " code { "spanscore show " (run.id) } ", " code { "spanscore serve" } "."
            }
        }
    }
}

/// Addresses within the file: its table of cases, and the user's trace backend.
#[derive(Clone, Copy)]
struct InFile<'a> {
    spec: &'a RunSpec,
    /// When the trials of the table began, by their spans.
    starts: &'a HashMap<SpanId, u64>,
    /// Whether the table tells what became of a case against the same base.
    has_changes: bool,
}

/// When trials began, where the template of links asks for it.
fn starts(spec: &RunSpec, rows: &[CaseRow]) -> HashMap<SpanId, u64> {
    if link::template(spec).is_some_and(|template| template.contains("_unix_ms}")) {
        rows.iter().filter_map(|row| Some((row.span_id?, row.started_unix_nano))).collect()
    } else {
        HashMap::new()
    }
}

impl Links for InFile<'_> {
    fn run(&self, _id: &str) -> Option<String> {
        None
    }

    fn case(&self, id: &str) -> Option<String> {
        Some(super::address_in_file(&[("q", id)]))
    }

    fn trace(&self, trace: &str, span: Option<&str>, head: bool) -> Option<String> {
        let span = span.and_then(|span| span.parse().ok());
        // The templates that ask for the start use it to narrow a search: that of the run will do where the trial's is not at hand.
        let start = span.and_then(|span| self.starts.get(&span)).copied().unwrap_or(self.spec.started_unix_nano);
        link::of_span(self.spec, trace.parse().ok()?, span, start).filter(|_| head)
    }

    fn diff(&self, _base: &str, _head: &str) -> Option<String> {
        None
    }

    fn changed(&self, change: &str) -> Option<String> {
        self.has_changes.then(|| super::address_in_file(&[("change", change)]))
    }

    fn part(&self, _filter: &str) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;
    use crate::report::results::{Base, Before};

    fn drawn(judged: bool) -> String {
        let (run, report, rows) = (fixture::run(), fixture::report(), fixture::low_rows());
        let before = Before { output: Some("False"), value: Some(1.0), ..Before::default() };
        let base = Base::new("baseline.json", [(4, before, CaseChange::Regressed)]);
        let (comparison, gate, trend) = (fixture::comparison(), fixture::gate(), fixture::trend());
        let evidence = Evidence {
            run: &run,
            report: &report,
            base: judged.then_some(&base),
            comparison: judged.then_some(&comparison),
            gate: judged.then_some(&gate),
            word: None,
            notes: &[],
            trend: judged.then_some(&trend),
        };
        let gone = "Its trace is not in the store.".to_owned();
        let worst: Vec<Worst<'_>> = rows.iter().map(|row| Worst { row, trace: Err(gone.clone()) }).collect();
        page(&evidence, &rows, &worst).into_string()
    }

    #[test]
    fn the_verdict_stands_before_everything_else() {
        let shown = drawn(true);
        let at = |text: &str| shown.find(text).unwrap_or_else(|| panic!("no {text}"));
        let order = [
            "FAIL</h2>",
            "accuracy is worse by",
            "Run differently",
            "Against the margins",
            "Confusion",
            "Compared with",
            "id=\"regressed\"",
            "Worst cases",
            "Filter the cases",
        ];
        assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])));
        assert!(shown.contains("<title>FAIL: claims-demo · nightly</title>"));
        assert!(drawn(false).contains("No verdict"));
    }

    #[test]
    fn nothing_runs_but_the_script_of_the_file_and_nothing_is_fetched() {
        for judged in [true, false] {
            let shown = drawn(judged);
            assert_eq!(shown.matches("<script").count(), 2, "the data and the script");
            assert!(!shown.contains("alert(1)</script>") && !shown.contains("\u{202e}"), "{shown}");
            for fetching in ["<img", "<link", "src=", "url(", "@import", "<iframe"] {
                assert!(!shown.contains(fetching), "{fetching} in {shown}");
            }
            let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(SCRIPT));
            assert!(
                shown.contains(&format!("script-src &#39;sha256-{hash}&#39;"))
                    || shown.contains(&format!("script-src 'sha256-{hash}'"))
            );
            assert!(
                shown.contains(&format!("<script>{SCRIPT}</script>"))
                    && shown.contains(&format!("<style>{STYLE}</style>"))
            );
        }
    }
}
