//! The report of a run on the terminal: what was run, how good it was and how sure that is, and where to look next.

use std::collections::BTreeMap;

use super::document::{Evaluator, Exported, LowCase, Report, Scores, Spans};
use super::format::{self, ABSENT, count, estimate, interval, statistic};
use super::look_back;
use super::style::{Style, Tone};
use super::table::Sheet;
use super::text::{clean, put};

/// The report, ready to print.
pub fn render(report: &Report, style: Style) -> String {
    let mut out = String::new();
    header(&mut out, report, style);
    super::compare::verdict(&mut out, report.gate.as_ref(), style);
    if let Some(details) = &report.details {
        look_back::since_previous(&mut out, report, details, style);
    }
    metrics(&mut out, report, style);
    evaluators(&mut out, report, style);
    confusion(&mut out, report, style);
    if let Some(details) = &report.details {
        look_back::parts(&mut out, report, details, style);
    }
    resources(&mut out, report, style);
    errors(&mut out, report, style);
    spans(&mut out, &report.spans, style);
    pushed(&mut out, &report.scores, style);
    lowest(&mut out, report, style);
    out
}

/// Where to look next, for stderr.
pub fn hints(report: &Report) -> Vec<String> {
    let mut hints = Vec::new();
    if let Some(case) = report.lowest.first() {
        hints.push(format!("spanscore case {}", shell_word(&case.case_id)));
        hints.extend(case.trace_id.map(|id| format!("spanscore trace {id}")));
    }
    if report.trials.failed > 0 {
        hints.push(format!("spanscore cases {} --where 'status = failed'", report.run.id));
    }
    if report.trials.unrecorded() + report.trials.skipped > 0 && report.run.status != "running" {
        hints.push(format!("spanscore run --resume {}", report.run.id));
    }
    let exported = report.spans.exported.values().chain(report.scores.exported.values());
    if exported.into_iter().any(|counts| counts.pending > 0) {
        hints.push("spanscore export --pending".to_owned());
    }
    hints
}

/// A word that a shell reads as one, quoted if need be.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '@' | '+' | ',');
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('-') {
        text.to_owned()
    } else {
        format!("'{}'", clean(text).replace('\'', "'\\''"))
    }
}

/// A blank line and a title.
pub(super) fn heading(out: &mut String, style: Style, text: &str) {
    out.push('\n');
    out.push_str(&style.paint(Tone::Strong, text));
    out.push('\n');
}

/// `name  value` lines, the names padded to one width.
pub(super) fn pairs(out: &mut String, style: Style, pairs: &[(&str, String)]) {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in pairs {
        let name = style.paint(Tone::Faint, &format!("{name:<width$}"));
        put!(out, "  {name}  {}\n", clean(value));
    }
}

fn header(out: &mut String, report: &Report, style: Style) {
    let run = &report.run;
    let tone = if run.status == "completed" { Tone::Good } else { Tone::Warn };
    let title = style.paint(Tone::Strong, &format!("Run {}", clean(&run.name)));
    put!(out, "{title}  {}\n", style.paint(tone, run.status));
    let trials = report.trials;
    let mut outcomes = format!("{} completed", count(trials.completed));
    for (n, what) in
        [(trials.failed, "failed"), (trials.skipped, "skipped"), (trials.unrecorded(), "without an outcome")]
    {
        if n > 0 {
            put!(outcomes, ", {} {what}", count(n));
        }
    }
    let digest = run.dataset.digest.get(..12).unwrap_or(&run.dataset.digest);
    let mut dataset = format!("{} ({digest}), {} cases", run.dataset.name, count(run.dataset.cases));
    if run.repeat > 1 {
        put!(dataset, " × {} repeats", run.repeat);
    }
    if run.dataset.unlabelled > 0 {
        put!(dataset, ", {} without an expected label", count(run.dataset.unlabelled));
    }
    let duration = format::duration((run.duration_s * 1e9) as u64);
    let mut lines = vec![
        ("id", run.id.clone()),
        ("suite", format!("{} · {}", run.suite, run.workflow)),
        ("model", format!("{} ({})", run.model, run.provider)),
        ("dataset", dataset),
        (
            "trials",
            format!("{} of {} planned: {outcomes}", count(trials.planned - trials.unrecorded()), count(trials.planned)),
        ),
        ("started", format!("{} UTC, took {duration}", run.started_at.replace('T', " ").get(..19).unwrap_or(ABSENT))),
    ];
    if let Some(git) = &run.git {
        let dirty = if git.dirty { ", with uncommitted changes" } else { "" };
        lines.push(("git", format!("{}{dirty}", git.revision.get(..12).unwrap_or(&git.revision))));
    }
    if !report.tags.is_empty() {
        let tags: Vec<String> = report.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        lines.push(("tags", tags.join(", ")));
    }
    pairs(out, style, &lines);
}

fn metrics(out: &mut String, report: &Report, style: Style) {
    let metrics = &report.metrics;
    if metrics.accuracy.value.is_none() && metrics.accuracy.bounds.is_none() {
        return;
    }
    heading(out, style, "Agreement with the expected labels (95 % intervals)");
    let incomplete = report.trials.completed < report.trials.planned;
    let mut headers = vec!["metric", ">value", "interval", ">n"];
    if incomplete {
        headers.push("if missing were wrong … right");
    }
    headers.push("method");
    let mut sheet = Sheet::new(style, &headers).flexible(headers.len() - 1);
    let all = [
        ("accuracy", &metrics.accuracy),
        ("macro-F1", &metrics.macro_f1),
        ("MCC", &metrics.mcc),
        ("Cohen's κ", &metrics.kappa),
        ("NEE over-use", &metrics.abstention.over_use),
        ("NEE under-use", &metrics.abstention.under_use),
    ];
    for (name, metric) in all {
        let mut row = vec![name.to_owned(), statistic(metric.value), interval(metric.ci95), count(metric.n)];
        if incomplete {
            row.push(interval(metric.bounds));
        }
        row.push(metric.method.clone());
        sheet.row(row);
    }
    out.push_str(&sheet.render(2));
}

fn evaluators(out: &mut String, report: &Report, style: Style) {
    if report.evaluators.0.is_empty() {
        return;
    }
    heading(out, style, "Evaluators");
    let bounded = report.evaluators.0.iter().any(|(_, x)| x.bounds.is_some_and(|[worst, best]| worst < best));
    let mut headers = vec!["evaluator", ">mean", "interval", ">scored", ">failed", ">skipped"];
    if bounded {
        headers.push("if missing failed … passed");
    }
    headers.push("labels");
    let mut sheet = Sheet::new(style, &headers).flexible(headers.len() - 1);
    for (id, x) in &report.evaluators.0 {
        let primary = if *id == report.run.primary { " *" } else { "" };
        let mut row = vec![
            (format!("{id} v{}{primary}", x.version), None),
            (mean(x), None),
            (interval(x.ci95), None),
            (count(x.scored), None),
            (count(x.failed), (x.failed > 0).then_some(Tone::Bad)),
            (count(x.skipped + x.absent), None),
        ];
        if bounded {
            row.push((interval(x.bounds), None));
        }
        let labels: Vec<String> = x.labels.iter().map(|(label, n)| format!("{label} {}", count(*n))).collect();
        row.push((labels.join(", "), None));
        sheet.toned(row);
    }
    out.push_str(&sheet.render(2));
}

fn mean(evaluator: &Evaluator) -> String {
    match evaluator.mean {
        Some(x) if x.abs() > 10.0 => format::score(x),
        mean => statistic(mean),
    }
}

fn confusion(out: &mut String, report: &Report, style: Style) {
    let matrix = &report.metrics.confusion;
    if matrix.matrix.iter().flatten().all(|n| *n == 0) {
        return;
    }
    heading(out, style, "Classes");
    let mut sheet = Sheet::new(style, &["expected", "precision", "recall", "F1", ">support"]);
    for (label, class) in &report.metrics.per_class.0 {
        sheet.row([
            label.clone(),
            estimate(&class.precision),
            estimate(&class.recall),
            estimate(&class.f1),
            count(class.support),
        ]);
    }
    out.push_str(&sheet.render(2));
    heading(out, style, "Confusion (rows expected, columns predicted)");
    let mut sheet = Sheet::new(style, &["", ">True", ">False", ">NEE", ">unparseable", ">failed"]);
    for (i, (label, row)) in matrix.expected.iter().zip(&matrix.matrix).enumerate() {
        let mut cells = vec![((*label).to_owned(), None)];
        cells.extend(row.iter().enumerate().map(|(j, n)| {
            let tone = match (*n, i == j) {
                (0, _) => Tone::Faint,
                (_, true) => Tone::Good,
                (_, false) => Tone::Bad,
            };
            (count(*n), Some(tone))
        }));
        sheet.toned(cells);
    }
    out.push_str(&sheet.render(2));
}

fn resources(out: &mut String, report: &Report, style: Style) {
    heading(out, style, "Latency, tokens, cost");
    let tokens = |n: Option<u64>| n.map_or_else(|| ABSENT.to_owned(), count);
    let mut cost = format::dollars(report.cost_usd);
    if report.unpriced > 0 {
        put!(cost, ", {} answers of unknown price left out", count(report.unpriced));
    }
    let latency = report.latency_ms;
    pairs(
        out,
        style,
        &[
            (
                "latency",
                format!("p50 {}, p95 {}", format::milliseconds(latency.p50), format::milliseconds(latency.p95)),
            ),
            ("tokens", format!("{} in, {} out", tokens(report.tokens.input), tokens(report.tokens.output))),
            ("cost", cost),
            ("HTTP tries", count(report.attempts)),
        ],
    );
}

fn errors(out: &mut String, report: &Report, style: Style) {
    if report.errors.is_empty() {
        return;
    }
    heading(out, style, "Failed trials");
    let mut sheet = Sheet::new(style, &["error", ">trials"]);
    for error in &report.errors {
        sheet.toned([(error.error_type.clone(), Some(Tone::Bad)), (count(error.trials), None)]);
    }
    out.push_str(&sheet.render(2));
}

fn spans(out: &mut String, spans: &Spans, style: Style) {
    heading(out, style, "Spans");
    let lost = spans.stored + spans.pruned < spans.created;
    let mut stored = format!("{} created, {} stored", count(spans.created), count(spans.stored));
    if spans.pruned > 0 {
        put!(stored, ", {} removed by retention", count(spans.pruned));
    }
    let note = if lost { style.paint(Tone::Bad, "  ! some are missing from the store") } else { String::new() };
    put!(out, "  {stored}{note}\n");
    delivered(out, "destination", &spans.exported, style);
    if let Some(kql) = &spans.kql {
        put!(out, "  scores in Application Insights: {}\n", clean(kql));
    }
}

/// What became of scores at backends that keep them as scores, where there are any.
fn pushed(out: &mut String, scores: &Scores, style: Style) {
    if !scores.exported.is_empty() {
        heading(out, style, "Scores");
        delivered(out, "sink", &scores.exported, style);
    }
}

fn delivered(out: &mut String, kind: &'static str, exported: &BTreeMap<String, Exported>, style: Style) {
    if exported.is_empty() {
        return;
    }
    let headers = [kind, ">delivered", ">pending", ">rejected", ">not sampled", ">duplicates"];
    let mut sheet = Sheet::new(style, &headers);
    for (name, x) in exported {
        sheet.toned([
            (name.clone(), None),
            (count(x.delivered), None),
            (count(x.pending), (x.pending > 0).then_some(Tone::Warn)),
            (count(x.rejected), (x.rejected > 0).then_some(Tone::Bad)),
            (count(x.not_sampled), None),
            (count(x.duplicates), None),
        ]);
    }
    out.push_str(&sheet.render(2));
}

fn lowest(out: &mut String, report: &Report, style: Style) {
    // The document lists the lowest whatever they are; a person looks for what went wrong.
    let lowest: Vec<&LowCase> = report.lowest.iter().filter(|case| !passes(report, case)).collect();
    if lowest.is_empty() {
        return;
    }
    let evaluators = report.evaluators.0.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(" ");
    heading(out, style, &format!("Lowest cases (scores: {})", clean(&evaluators)));
    let several = report.run.repeat > 1;
    let mut sheet = Sheet::new(style, &["case", "expected", "output", "scores", "trace", "claim"]).flexible(5);
    for case in lowest {
        let id = if several { format!("{} #{}", case.case_id, case.repeat) } else { case.case_id.clone() };
        let output = case.output.map_or_else(
            || case.error.as_ref().map_or_else(|| ABSENT.to_owned(), |error| format!("failed: {error}")),
            str::to_owned,
        );
        let wrong = case.output != case.expected && case.expected.is_some();
        sheet.toned([
            (id, None),
            (case.expected.unwrap_or(ABSENT).to_owned(), None),
            (output, wrong.then_some(Tone::Bad)),
            (scores(report, case), None),
            (case.trace_id.map_or_else(|| ABSENT.to_owned(), |id| format::trace_id(id, style)), Some(Tone::Faint)),
            (case.claim.clone(), None),
        ]);
    }
    out.push_str(&sheet.render(2));
    if let Some(url) = report.lowest.first().and_then(|case| case.trace_url.as_deref()) {
        put!(out, "  trace of the first: {}\n", clean(url));
    }
}

/// Whether the primary evaluator found nothing wrong with a case.
fn passes(report: &Report, case: &LowCase) -> bool {
    case.scores.get(&report.run.primary).copied().flatten().is_some_and(|value| value >= 1.0)
}

/// The scores in the suite's order.
fn scores(report: &Report, case: &LowCase) -> String {
    let of = |id: &String| format::maybe_score(case.scores.get(id).copied().flatten());
    report.evaluators.0.iter().map(|(id, _)| of(id)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::{Latency, Tokens};
    use crate::report::fixture;
    use crate::stats::Estimate;

    #[test]
    fn a_run_reads_from_what_to_where_next() {
        insta::assert_snapshot!(render(&fixture::report(), Style::plain(120)), @r#"
        Run nightly  incomplete
          id       20261122-154501-3f9a2c
          suite    claims-demo · assess_claims_with_context
          model    lexical-baseline (builtin)
          dataset  claims (abababababab), 30 cases
          trials   29 of 30 planned: 28 completed, 1 failed, 1 without an outcome
          started  2026-11-22 15:45:01 UTC, took 2.50 s
          git      0123456789ab, with uncommitted changes
          tags     branch=main

        Agreement with the expected labels (95 % intervals)
          metric         value  interval         n  if missing were wrong … right  method
          accuracy       0.893  [0.728, 0.963]  28  [0.833, 0.900]                 Wilson
          macro-F1       0.910  [0.737, 1.000]  28  –                              bootstrap, BCa, B = 2000
          MCC            0.843  [0.604, 1.000]  28  –                              bootstrap, BCa, B = 2000
          Cohen's κ      0.842  [0.640, 1.000]  28  –                              bootstrap, BCa, B = 2000
          NEE over-use   0.053  [0.009, 0.246]  19  –                              Wilson
          NEE under-use  0.111  [0.020, 0.435]   9  –                              Wilson

        Evaluators
          evaluator          mean  interval        scored  failed  skipped  if missing failed … passed  labels
          label_match v1 *  0.893  [0.728, 0.963]      28       0        1  [0.833, 0.900]              fail 3, pass 25
          tone v1               –  –                   28       0        1  –                           calm 28

        Classes
          expected  precision             recall                F1                    support
          True      0.900 [0.596, 0.982]  0.900 [0.596, 0.982]  0.900 [0.615, 1.000]       10
          False     1.000 [0.676, 1.000]  0.889 [0.565, 0.980]  0.941 [0.522, 1.000]        9
          NEE       0.889 [0.565, 0.980]  0.889 [0.565, 0.980]  0.889 [0.579, 1.000]        9

        Confusion (rows expected, columns predicted)
                 True  False  NEE  unparseable  failed
          True      9      0    0            1       0
          False     0      8    1            0       1
          NEE       1      0    8            0       0

        Latency, tokens, cost
          latency     p50 14.5 ms, p95 26.6 ms
          tokens      2900 in, 56 out
          cost        $0.007000
          HTTP tries  29

        Failed trials
          error  trials
          429         1

        Spans
          62 created, 62 stored
          destination  delivered  pending  rejected  not sampled  duplicates
          otlp                50       12         0            0           0

        Lowest cases (scores: label_match tone)
          case        expected  output       scores  trace                             claim
          claims-005  False     NEE          0 –     0af7651916cd43dd8448eb211c80319c  Red ␛[31mcells� generate most of their A…
          claims-029  False     failed: 429  – –     0af7651916cd43dd8448eb211c80319c  A claim that nobody answered.
          trace of the first: https://jaeger.example/trace/0af7651916cd43dd8448eb211c80319c?span=b7ad6b7169203301&t=1795362301000
        "#);
    }

    #[test]
    fn nothing_answered_is_shown_as_absent_and_not_as_zero() {
        let mut report = fixture::report();
        report.trials.completed = 0;
        report.metrics.accuracy = Estimate { bounds: Some([0.0, 1.0]), ..Estimate::undefined(0, "no observations") };
        report.latency_ms = Latency::default();
        report.tokens = Tokens::default();
        report.cost_usd = None;
        let shown = render(&report, Style::plain(120));
        for line in
            ["  accuracy           –  –  ", "  [0.000, 1.000]", "p50 –, p95 –", "– in, – out", "cost        –\n"]
        {
            assert!(shown.contains(line), "{line}\n{shown}");
        }
    }

    #[test]
    fn hints_are_commands_that_a_shell_takes() {
        let mut report = fixture::report();
        report.lowest[0].case_id = "it's; rm -rf".to_owned();
        assert_eq!(
            hints(&report),
            [
                r"spanscore case 'it'\''s; rm -rf'",
                "spanscore trace 0af7651916cd43dd8448eb211c80319c",
                "spanscore cases 20261122-154501-3f9a2c --where 'status = failed'",
                "spanscore run --resume 20261122-154501-3f9a2c",
                "spanscore export --pending",
            ]
        );
    }

    #[test]
    fn text_from_data_reaches_the_terminal_harmless_with_and_without_colour() {
        let mut report = fixture::report();
        let hostile = "\u{1b}]0;x\u{7}\u{202e}";
        report.run.name = hostile.to_owned();
        report.run.model = hostile.to_owned();
        report.errors[0].error_type = hostile.to_owned();
        report.tags.insert(hostile.to_owned(), hostile.to_owned());
        let lowest = &mut report.lowest[0];
        (lowest.case_id, lowest.trace_url) = (hostile.to_owned(), Some(hostile.to_owned()));
        let plain = render(&report, Style::plain(100)) + &hints(&report).join("\n");
        assert!(!plain.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{plain}");
        let coloured = render(&report, Style { color: true, width: 100 });
        assert!(coloured.contains("\u{1b}[1m") && !coloured.contains("\u{1b}]") && !coloured.contains('\u{202e}'));
    }
}
