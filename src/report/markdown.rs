//! The report of a run as Markdown fit for a pull request: the verdict and its reasons first, one table, the rest folded. It
//! stays far below the length of a comment, mentions nobody, and shows texts of models and datasets as text.

use super::document::Report;
use super::evidence::Evidence;
use super::format::{self, ABSENT, count};
use super::html::compare::{metric_name, number, p_value};
use super::html::verdict::percent;
use super::low::Yardstick;
use super::markdown_text::{code, plain};
use super::results::outcome_in_a_word;
use super::text::{cut, put};
use crate::compare::comparison::{Better, CaseChange, CaseCounts, CaseSide, Change, Comparison, Metric};
use crate::compare::gate::{GateReport, Verdict};
use crate::compare::operand::Difference;
use crate::model::Label;
use crate::store::{Reader, StoreError};

/// Cases in a list.
const LISTED: usize = 20;
/// Columns of a claim.
const CLAIM: usize = 110;

/// The document.
pub fn document(reader: &Reader, evidence: &Evidence<'_>) -> Result<String, StoreError> {
    let report = evidence.report;
    let mut out = String::new();
    match (evidence.gate, evidence.word) {
        (Some(gate), _) => verdict(&mut out, report, gate),
        (None, Some(word)) => put!(out, "## {} · {}\n\n", plain(word), title(report)),
        (None, None) => put!(out, "## {}\n\n", title(report)),
    }
    for note in evidence.notes {
        put!(out, "> {}\n\n", plain(note));
    }
    // Before any number: what was run differently says how to read them all.
    differs(&mut out, evidence.differs().unwrap_or_default());
    glance(&mut out, evidence);
    if let Some(gate) = evidence.gate {
        gating(&mut out, gate);
    }
    let mut regressed = 0;
    let apart = evidence.verdict_apart();
    if let Some(gate) = apart.filter(|gate| gate.base.is_some()) {
        put!(out, "Compared with {}: {}\n\n", code(&gate.baseline), changed(&gate.counts));
        regressed += gate.regressed.len();
        cases(&mut out, "Regressed cases", &gate.regressed, gate.counts.regressed, true);
        cases(&mut out, "Improved cases", &gate.improved, gate.counts.improved, false);
    }
    if let Some(comparison) = evidence.comparison {
        let found = &comparison.cases;
        if apart.is_some() {
            put!(out, "### Compared with {}\n\n", plain(&comparison.base.name));
            differs(&mut out, &comparison.differs);
            put!(out, "{}\n\n", changed(&found.counts));
        } else {
            put!(out, "Compared with {}: {}\n\n", code(&comparison.base.name), changed(&found.counts));
        }
        compared(&mut out, comparison, evidence.gate.is_none());
        regressed += found.regressed.len();
        cases(&mut out, "Regressed cases", &found.regressed, found.counts.regressed, true);
        cases(&mut out, "Improved cases", &found.improved, found.counts.improved, false);
    }
    if regressed == 0 {
        lowest(&mut out, reader, evidence)?;
    }
    scores(&mut out, evidence);
    if let Some(kql) = &report.spans.kql {
        put!(out, "Scores in Application Insights: {}\n\n", code(kql));
    }
    put!(
        out,
        "<sub>Run `{}` of {} ({}) on {}, {} cases, {} UTC, by spanscore {}.</sub>\n",
        report.run.id,
        plain(&report.run.model),
        plain(&report.run.provider),
        plain(&report.run.dataset.name),
        count(report.run.dataset.cases),
        report.run.started_at.replace('T', " ").get(..16).unwrap_or(ABSENT),
        env!("CARGO_PKG_VERSION")
    );
    Ok(out)
}

/// The verdict as GitHub's annotations: lines that its runner turns into notes on the run.
pub fn annotations(evidence: &Evidence<'_>) -> Vec<String> {
    let Some(gate) = evidence.gate else { return Vec::new() };
    let level = match gate.verdict {
        Verdict::Pass => "notice",
        Verdict::Inconclusive => "warning",
        Verdict::Fail | Verdict::Invalid => "error",
    };
    let about = format!("{} {}", evidence.report.run.suite, gate.verdict);
    let first = gate.reasons.first().map_or("", String::as_str);
    let mut lines = vec![annotation(level, &about, first)];
    lines.extend(gate.regressed.iter().filter(|_| gate.verdict == Verdict::Fail).take(5).map(|case| {
        let traces = [("trace", &case.head), ("before", &case.base)]
            .iter()
            .filter_map(|(name, side)| Some(format!("{name} {}", side.trace_id?)))
            .collect::<Vec<_>>();
        let what = format!(
            "{}: expected {}, was {}, is {}; {}",
            case.case_id,
            case.expected.as_deref().unwrap_or(ABSENT),
            outputs(&case.base),
            outputs(&case.head),
            traces.join(", ")
        );
        annotation("notice", "regressed", &what)
    }));
    lines
}

fn annotation(level: &str, title: &str, message: &str) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    format!("::{level} title={}::{}", property(&cut(title, 120)), data(&cut(message, 1000)))
}

fn title(report: &Report) -> String {
    format!("{} · {}", plain(&report.run.suite), plain(&report.run.name))
}

fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✅",
        Verdict::Fail => "❌",
        Verdict::Inconclusive => "⚠️",
        Verdict::Invalid => "⛔",
    }
}

fn verdict(out: &mut String, report: &Report, gate: &GateReport) {
    put!(out, "## {} {} · {}\n\n", sign(gate.verdict), gate.verdict, title(report));
    for (i, reason) in gate.reasons.iter().take(8).enumerate() {
        if i == 0 {
            put!(out, "**{}**\n\n", plain(reason));
        } else {
            put!(out, "- {}\n", plain(reason));
        }
    }
    if gate.reasons.len() > 1 {
        out.push('\n');
    }
    if !gate.must_pass.failed.is_empty() {
        out.push_str("Cases that must pass and did not:\n\n");
        for case in gate.must_pass.failed.iter().take(LISTED) {
            put!(
                out,
                "- {}: {}{}\n",
                code(&case.case_id),
                plain(&cut(&case.why, 200)),
                trace_note(case.trace_id.map(|id| id.to_string()))
            );
        }
        out.push('\n');
    }
}

fn trace_note(id: Option<String>) -> String {
    id.map(|id| format!(" (trace `{id}`)")).unwrap_or_default()
}

/// The run in one line.
fn glance(out: &mut String, evidence: &Evidence<'_>) {
    let report = evidence.report;
    let primary = report.evaluators.0.iter().find(|(id, _)| *id == report.run.primary);
    let mut parts = Vec::new();
    if let Some((id, primary)) = primary {
        let unit = evidence.unit(id);
        let interval =
            primary.ci95.map(|_| format!(" {}", format::interval_in(unit, primary.ci95))).unwrap_or_default();
        let mean = format::in_unit(unit, primary.mean);
        parts.push(format!("**{} {}**{}", plain(id), plain(&mean), plain(&interval)));
    }
    let trials = &report.trials;
    parts.push(format!("{} of {} trials completed", count(trials.completed), count(trials.planned)));
    if trials.failed > 0 {
        parts.push(format!("**{} failed**", count(trials.failed)));
    }
    if trials.skipped > 0 {
        parts.push(format!("{} skipped", count(trials.skipped)));
    }
    parts.push(format!(
        "p50 {}, p95 {}",
        format::milliseconds(report.latency_ms.p50),
        format::milliseconds(report.latency_ms.p95)
    ));
    if report.cost_usd.is_some() {
        parts.push(format::dollars(report.cost_usd));
    }
    put!(out, "{}\n\n", parts.join(" · "));
}

fn gating(out: &mut String, gate: &GateReport) {
    if gate.metrics.is_empty() {
        return;
    }
    out.push_str(
        "| Metric | Baseline | Run | Difference | Worse by | Margin | Verdict |\n|:--|--:|--:|--:|:-:|--:|:--|\n",
    );
    for metric in &gate.metrics {
        let unit = metric.unit.as_str();
        let damage = metric.damage_in_words(" … ", |x| number(unit, Some(x))).unwrap_or_else(|| ABSENT.to_owned());
        put!(
            out,
            "| {} | {} | {} | {} | {damage} | {} | {} {} |\n",
            plain(&metric_name(&metric.name)),
            number(unit, metric.base),
            number(unit, metric.head),
            difference(unit, metric.delta),
            number(unit, Some(metric.margin)),
            sign(metric.verdict),
            metric.verdict
        );
    }
    put!(out, "\nAgainst {}", code(&gate.baseline));
    if let Some(base) = gate.base.as_ref().filter(|base| base.runs.len() > 1) {
        put!(out, ", a pool of {} runs", base.runs.len());
    }
    put!(out, ": {} pairs", count(gate.pairs));
    if let Some(coverage) = gate.coverage {
        put!(out, ", {} of the cases", percent(coverage));
    }
    if let Some(more) = gate.more_cases_needed {
        put!(out, "; about {} more cases would decide", count(more));
    }
    out.push_str(".\n\n");
}

fn changed(counts: &CaseCounts) -> String {
    let mut parts = vec![
        format!("**{} regressed**", count(counts.regressed)),
        format!("**{} improved**", count(counts.improved)),
        format!("{} unchanged", count(counts.unchanged)),
    ];
    if counts.lost > 0 {
        parts.push(format!("**{} lost their score**", count(counts.lost)));
    }
    if counts.gained > 0 {
        parts.push(format!("{} gained one", count(counts.gained)));
    }
    parts.join(" · ")
}

fn difference(unit: &str, delta: Option<f64>) -> String {
    let shown = number(unit, delta);
    match delta {
        Some(x) if x > 0.0 && shown.chars().any(|c| ('1'..='9').contains(&c)) => format!("+{shown}"),
        _ => shown,
    }
}

/// Every compared metric; open where nothing else is said of them.
fn compared(out: &mut String, comparison: &Comparison, open: bool) {
    for reason in &comparison.invalid {
        put!(out, "> {}\n\n", plain(reason));
    }
    if !open {
        out.push_str("<details><summary>All metrics compared</summary>\n\n");
    }
    out.push_str("| Metric | Base | Head | Difference | 95 % interval | p | |\n|:--|--:|--:|--:|:-:|--:|:--|\n");
    for metric in &comparison.metrics {
        put!(out, "{}\n", metric_line(metric));
    }
    put!(out, "\nOver {} cases that both have", count(comparison.pairs));
    let unpaired = comparison.unpaired.counts;
    if unpaired.base + unpaired.head > 0 {
        put!(out, "; {} only in the base, {} only in the head", count(unpaired.base), count(unpaired.head));
    }
    out.push_str(".\n\n");
    if !open {
        out.push_str("</details>\n\n");
    }
    slices(out, comparison);
}

/// The parts of the dataset that were asked for.
fn slices(out: &mut String, comparison: &Comparison) {
    if comparison.slices.is_empty() {
        return;
    }
    out.push_str("<details><summary>By part of the dataset</summary>\n\n");
    out.push_str("| Part | Metric | Base | Head | Difference | 95 % interval | Worse / better | Pairs |\n");
    out.push_str("|:--|:--|--:|--:|--:|:-:|--:|--:|\n");
    for slice in &comparison.slices {
        let column = slice.column.strip_prefix("col.").unwrap_or(&slice.column);
        let part = format!("{column} {}", slice.value.as_deref().unwrap_or("none"));
        for metric in &slice.metrics {
            let unit = metric.unit.as_str();
            put!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} / {} | {} |\n",
                plain(&cut(&part, 60)),
                plain(&metric_name(&metric.name)),
                number(unit, metric.base),
                number(unit, metric.head),
                difference(unit, metric.delta),
                ends(unit, metric.ci95),
                count(slice.counts.regressed),
                count(slice.counts.improved),
                count(metric.n)
            );
        }
    }
    out.push_str("\n</details>\n\n");
}

/// An interval in its unit.
fn ends(unit: &str, ends: Option<[f64; 2]>) -> String {
    ends.map_or_else(
        || ABSENT.to_owned(),
        |[low, high]| format!("{} … {}", number(unit, Some(low)), number(unit, Some(high))),
    )
}

fn metric_line(metric: &Metric) -> String {
    let unit = metric.unit.as_str();
    let interval = ends(unit, metric.ci95);
    let change = match (metric.change, metric.delta.map(|delta| (delta > 0.0) == (metric.direction == Better::Higher)))
    {
        (Some(Change::Better), _) => "🟢 better",
        (Some(Change::Worse), _) => "🔴 worse",
        (None, _) => "",
    };
    format!(
        "| {} | {} | {} | {} | {interval} | {} | {change} |",
        plain(&metric_name(&metric.name)),
        number(unit, metric.base),
        number(unit, metric.head),
        difference(unit, metric.delta),
        plain(&p_value(metric.p_value))
    )
}

fn differs(out: &mut String, differences: &[Difference]) {
    if differences.is_empty() {
        return;
    }
    out.push_str("Run differently: ");
    let shown = differences.iter().take(12).map(|difference| {
        let side =
            |side: &Option<String>| side.as_deref().map_or_else(|| "none".to_owned(), |text| code(&cut(text, 40)));
        format!("{} {} → {}", plain(&difference.what), side(&difference.base), side(&difference.head))
    });
    put!(out, "{}.\n\n", shown.collect::<Vec<_>>().join("; "));
}

fn cases(out: &mut String, title: &str, changes: &[CaseChange], total: u64, open: bool) {
    if changes.is_empty() {
        return;
    }
    let shown = changes.len().min(LISTED);
    let total = total.max(changes.len() as u64);
    let which = if (shown as u64) < total { format!("{shown} of {}", count(total)) } else { count(total) };
    put!(
        out,
        "<details{}><summary>{title} ({which})</summary>\n\n| Case | Claim | Expected | Was | Is | Trace | Trace before |\n|:--|:--|:--|:--|:--|:--|:--|\n",
        if open { " open" } else { "" }
    );
    for case in &changes[..shown] {
        let trace = |side: &CaseSide| side.trace_id.map_or_else(|| ABSENT.to_owned(), |id| format!("`{id}`"));
        put!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            code(&cut(&case.case_id, 60)),
            plain(&cut(case.claim.as_deref().unwrap_or(ABSENT), CLAIM)),
            plain(case.expected.as_deref().unwrap_or(ABSENT)),
            plain(&outputs(&case.base)),
            plain(&outputs(&case.head)),
            trace(&case.head),
            trace(&case.base)
        );
    }
    out.push_str("\n</details>\n\n");
}

/// What the trials of a side answered, each answer once.
fn outputs(side: &CaseSide) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for output in &side.outputs {
        if !seen.contains(&output.as_str()) {
            seen.push(output);
        }
    }
    if seen.is_empty() { ABSENT.to_owned() } else { seen.join(", ") }
}

/// The worst cases, where none is known to have become worse.
fn lowest(out: &mut String, reader: &Reader, evidence: &Evidence<'_>) -> Result<(), StoreError> {
    let rows = reader.lowest(evidence.run, super::evidence::WORST)?;
    let yardstick = Yardstick::of(&evidence.run.spec.evaluators);
    let rows: Vec<_> = rows.iter().filter(|row| evidence.is_low(row, &yardstick)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    put!(
        out,
        "<details><summary>Worst cases ({})</summary>\n\n| Case | Claim | Expected | Answer | Trace |\n|:--|:--|:--|:--|:--|\n",
        rows.len()
    );
    for row in rows {
        put!(
            out,
            "| {} | {} | {} | {} | {} |\n",
            code(&cut(row.case_id.as_str(), 60)),
            plain(&cut(&row.claim, CLAIM)),
            row.expected.map_or(ABSENT, Label::as_str),
            row.outcome.as_ref().map_or("planned", outcome_in_a_word),
            row.trace_id.map_or_else(|| ABSENT.to_owned(), |id| format!("`{id}`"))
        );
    }
    out.push_str("\n</details>\n\n");
    Ok(())
}

fn scores(out: &mut String, evidence: &Evidence<'_>) {
    let report = evidence.report;
    out.push_str("<details><summary>Scores and confusion</summary>\n\n| Score | Value | 95 % interval | n |\n|:--|--:|:-:|--:|\n");
    let metrics = &report.metrics;
    for (name, metric) in [
        ("Accuracy", &metrics.accuracy),
        ("Macro-F1", &metrics.macro_f1),
        ("MCC", &metrics.mcc),
        ("Cohen’s κ", &metrics.kappa),
    ] {
        put!(
            out,
            "| {name} | {} | {} | {} |\n",
            format::statistic(metric.value),
            ends("1", metric.ci95),
            count(metric.n)
        );
    }
    for (id, evaluator) in &report.evaluators.0 {
        put!(
            out,
            "| {} | {} | {} | {} |\n",
            code(id),
            plain(&format::in_unit(evidence.unit(id), evaluator.mean)),
            plain(&ends(evidence.unit(id), evaluator.ci95)),
            count(evaluator.n)
        );
    }
    let matrix = &metrics.confusion;
    put!(
        out,
        "\n| Expected ↓ answered → | {} |\n|:--|{}\n",
        matrix.predicted.join(" | "),
        "--:|".repeat(matrix.predicted.len())
    );
    for (expected, row) in matrix.expected.iter().zip(&matrix.matrix) {
        let counts: Vec<String> = row.iter().map(|n| count(*n)).collect();
        put!(out, "| **{expected}** | {} |\n", counts.join(" | "));
    }
    out.push_str("\n</details>\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_base_stands_apart_from_the_verdict() {
        let scene = crate::store::testing::Scene::started(1, 1).await;
        let (run, report) = (crate::report::fixture::run(), crate::report::fixture::report());
        let (mut comparison, gate) = (crate::report::fixture::comparison(), crate::report::fixture::gate());
        comparison.base.name = "last week".to_owned();
        comparison.base.runs.truncate(1);
        comparison.cases.counts.regressed = 7;
        let notes = ["the baseline has changed".to_owned()];
        let mut evidence = Evidence {
            run: &run,
            report: &report,
            base: None,
            comparison: Some(&comparison),
            gate: Some(&gate),
            word: None,
            notes: &notes,
            trend: None,
        };
        let shown = document(&scene.reader(), &evidence).expect("a document");
        let at = |text: &str| shown.find(text).unwrap_or_else(|| panic!("no {text} in {shown}"));
        let order = [
            "> the baseline has changed",
            "Run differently",
            "| Accuracy |",
            "Compared with `reports/baseline.json`: **2 regressed**",
            "### Compared with last week",
            "**7 regressed**",
            "Regressed cases (1 of 7)",
        ];
        assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{shown}");
        // What an older program kept is its word, and never a success unless it says so.
        (evidence.gate, evidence.comparison, evidence.word) = (None, None, Some("FAIL"));
        assert!(document(&scene.reader(), &evidence).expect("a document").starts_with("## FAIL · claims-demo"));
        assert!(evidence.judgements()[0].failure.is_some());
    }

    #[tokio::test]
    async fn a_judged_run_says_first_what_matters() {
        let scene = crate::store::testing::Scene::started(1, 1).await;
        let (run, report) = (crate::report::fixture::run(), crate::report::fixture::report());
        let (comparison, gate) = (crate::report::fixture::comparison(), crate::report::fixture::gate());
        let evidence = Evidence {
            run: &run,
            report: &report,
            base: None,
            comparison: Some(&comparison),
            gate: Some(&gate),
            word: None,
            notes: &[],
            trend: None,
        };
        let shown = document(&scene.reader(), &evidence).expect("a document").replace('\u{2060}', "<joiner>");
        insta::assert_snapshot!(shown, @r#"
        ## ❌ FAIL · claims-demo · nightly

        **accuracy is worse by 0.030 to 0.080, more than the margin of 0.020**

        - macro_f1 is undecided

        Run differently: prompt `49f4793aed62` → `<b>0c11</b>`.

        **label_match 0.893** \[0.728, 0.963\] · 28 of 30 trials completed · **1 failed** · p50 14.5 ms, p95 26.6 ms · $0.007000

        | Metric | Baseline | Run | Difference | Worse by | Margin | Verdict |
        |:--|--:|--:|--:|:-:|--:|:--|
        | Accuracy | 0.930 | 0.890 | −0.040 | 0.030 … 0.080 | 0.020 | ❌ FAIL |
        | Macro-F1 | 0.930 | 0.890 | −0.040 | −0.010 … 0.050 | 0.020 | ⚠️ INCONCLUSIVE |

        Against `reports/baseline.json`, a pool of 3 runs: 28 pairs, 93.3 % of the cases; about 120 more cases would decide.

        Compared with `baseline.json`: **2 regressed** · **1 improved** · 24 unchanged · **1 lost their score**

        <details><summary>All metrics compared</summary>

        | Metric | Base | Head | Difference | 95 % interval | p | |
        |:--|--:|--:|--:|:-:|--:|:--|
        | Accuracy | 0.930 | 0.890 | −0.040 | −0.080 … −0.010 | 0.012 | 🔴 worse |
        | Latency p95 | 812 ms | 790 ms | −22.0 ms | −60.0 ms … 12.0 ms | 0.012 |  |

        Over 28 cases that both have.

        </details>

        <details open><summary>Regressed cases (1 of 2)</summary>

        | Case | Claim | Expected | Was | Is | Trace | Trace before |
        |:--|:--|:--|:--|:--|:--|:--|
        | `claims-005` | Red &lt;script&gt;alert(1)&lt;/script&gt; cells \| @<joiner>team �#<joiner>12 | False | False, NEE | NEE | `0af7651916cd43dd8448eb211c80319c` | `0af7651916cd43dd8448eb211c80319c` |

        </details>

        <details><summary>Scores and confusion</summary>

        | Score | Value | 95 % interval | n |
        |:--|--:|:-:|--:|
        | Accuracy | 0.893 | 0.728 … 0.963 | 28 |
        | Macro-F1 | 0.910 | 0.737 … 1.000 | 28 |
        | MCC | 0.843 | 0.604 … 1.000 | 28 |
        | Cohen’s κ | 0.842 | 0.640 … 1.000 | 28 |
        | `label_match` | 0.893 | 0.728 … 0.963 | 28 |
        | `tone` | – | – | 0 |

        | Expected ↓ answered → | True | False | NEE | unparseable | failed |
        |:--|--:|--:|--:|--:|--:|
        | **True** | 9 | 0 | 0 | 1 | 0 |
        | **False** | 0 | 8 | 1 | 0 | 1 |
        | **NEE** | 1 | 0 | 8 | 0 | 0 |

        </details>

        <sub>Run `20261122-154501-3f9a2c` of lexical-baseline (builtin) on claims, 30 cases, 2026-11-22 15:45 UTC, by spanscore 0.1.0.</sub>
        "#);
        insta::assert_snapshot!(annotations(&evidence).join("\n"), @r#"
        ::error title=claims-demo FAIL::accuracy is worse by 0.030 to 0.080, more than the margin of 0.020
        ::notice title=regressed::claims-005: expected False, was False, NEE, is NEE; trace 0af7651916cd43dd8448eb211c80319c, before 0af7651916cd43dd8448eb211c80319c
        "#);
    }

    #[test]
    fn annotations_are_one_line_each() {
        assert_eq!(annotation("error", "suite: a, b", "100 %\nworse"), "::error title=suite%3A a%2C b::100 %25 worse");
    }
}
