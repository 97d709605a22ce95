//! Comparison, verdict, baseline and trend on the terminal: the same values as their documents.

use super::format::{self, ABSENT, count, score};
use super::style::{Style, Tone};
use super::table::Sheet;
use super::terminal::heading;
use super::text::{clean, put};
use crate::compare::Comparison;
use crate::compare::comparison::{
    Better, CaseChange, CaseCounts, CaseSide, Change, Metric, ShiftTest, SliceComparison, Unpaired,
};
use crate::compare::gate::{GateMetric, GateReport, Verdict};
use crate::compare::operand::{Difference, Operand, OperandKind};
use crate::compare::simulate::{Outcomes, Rate, SelfCheck};
use crate::compare::trend::Trend;

/// How many cases of each kind a terminal shows.
pub const SHOWN: usize = 10;

/// The comparison, ready to print.
pub fn comparison(comparison: &Comparison, style: Style) -> String {
    let mut out = String::new();
    put!(out, "{}\n", style.paint(Tone::Strong, "Comparison"));
    operands(&mut out, &[("base", Some(&comparison.base)), ("head", Some(&comparison.head))], style);
    differs(&mut out, &comparison.differs, style);
    for reason in &comparison.invalid {
        put!(out, "  {} {}\n", style.paint(Tone::Bad, "a gate would be INVALID:"), clean(reason));
    }
    let mut pairs = format!("{} cases are in both", count(comparison.pairs));
    if let Some(clusters) = comparison.clusters {
        put!(pairs, ", in {} groups", count(clusters));
    }
    let unpaired_counts = comparison.unpaired.counts;
    for (n, what) in [(unpaired_counts.base, "only in the base"), (unpaired_counts.head, "only in the head")] {
        if n > 0 {
            put!(pairs, ", {} {what}", count(n));
        }
    }
    put!(out, "  {pairs}\n");
    heading(&mut out, style, "Metrics (difference is head − base)");
    metrics(&mut out, &comparison.metrics, style);
    labels(&mut out, comparison, style);
    slices(&mut out, &comparison.slices, style);
    heading(&mut out, style, &format!("Cases by {}", clean(&comparison.cases.by)));
    put!(out, "  {}\n", counts(comparison.cases.counts, style));
    let found = &comparison.cases;
    for (name, list, total) in [
        ("Regressed", &found.regressed, found.counts.regressed),
        ("Improved", &found.improved, found.counts.improved),
        ("Lost their score", &found.lost, found.counts.lost),
    ] {
        cases(&mut out, name, list, total, style);
    }
    unpaired(&mut out, comparison, style);
    out
}

/// The verdict, ready to print.
pub fn gate(report: &GateReport, style: Style) -> String {
    let mut out = String::new();
    let tone = verdict_tone(report.verdict);
    put!(out, "{}  {}\n", style.paint(Tone::Strong, "Gate"), style.paint(tone, report.verdict.as_str()));
    for reason in &report.reasons {
        put!(out, "  {}\n", clean(reason));
    }
    out.push('\n');
    operands(&mut out, &[("baseline", report.base.as_ref()), ("run", Some(&report.head))], style);
    // Of a baseline that cannot be read it is not known what differs.
    if report.base.is_some() {
        differs(&mut out, &report.differs, style);
    }
    if let Some(coverage) = report.coverage {
        put!(out, "  {} cases are in both ({:.1} %)\n", count(report.pairs), coverage * 100.0);
    }
    if !report.metrics.is_empty() {
        heading(
            &mut out,
            style,
            "Metrics (worse by: how much worse the run is, with the interval held against the margin)",
        );
        gate_metrics(&mut out, &report.metrics, style);
    }
    if report.must_pass.checked > 0 {
        heading(&mut out, style, "Cases that must pass");
        let failed = report.must_pass.failed.len() as u64;
        put!(out, "  {} of {} passed\n", count(report.must_pass.checked - failed), count(report.must_pass.checked));
        for case in &report.must_pass.failed {
            let trace = case.trace_id.map_or_else(|| ABSENT.to_owned(), |id| id.to_string());
            put!(out, "  {}  {}  {}\n", clean(&case.case_id), style.paint(Tone::Bad, &clean(&case.why)), trace);
        }
    }
    if let Some(check) = &report.self_check {
        self_check(&mut out, check, style);
    }
    if report.base.is_some() {
        heading(&mut out, style, "Cases");
        put!(out, "  {}\n", counts(report.counts, style));
    }
    cases(&mut out, "Regressed", &report.regressed, report.counts.regressed, style);
    if report.verdict != Verdict::Fail {
        cases(&mut out, "Improved", &report.improved, report.counts.improved, style);
    }
    out
}

/// The verdict on a run within its report.
pub(super) fn verdict(out: &mut String, report: Option<&serde_json::Value>, style: Style) {
    // A verdict that an older program kept may lack what this one shows: its word is enough.
    let Some(kept) = report else { return };
    match serde_json::from_value::<GateReport>(kept.clone()) {
        Ok(report) => {
            out.push('\n');
            let word = style.paint(verdict_tone(report.verdict), report.verdict.as_str());
            put!(out, "{}  {word}  against {}\n", style.paint(Tone::Strong, "Gate"), clean(&report.baseline));
            for reason in &report.reasons {
                put!(out, "  {}\n", clean(reason));
            }
            if !report.metrics.is_empty() {
                gate_metrics(out, &report.metrics, style);
            }
            cases(out, "Regressed", &report.regressed, report.counts.regressed, style);
        }
        Err(_) => put!(out, "\nGate  {}\n", clean(kept["verdict"].as_str().unwrap_or(ABSENT))),
    }
}

/// Where to look after a verdict.
pub fn gate_hints(report: &GateReport) -> Vec<String> {
    let mut hints = Vec::new();
    let run = report.head.runs.first().map(|run| run.id.clone()).unwrap_or_default();
    let word = super::terminal::shell_word;
    if let Some(case) = report.regressed.first().filter(|_| report.verdict != Verdict::Pass) {
        hints.push(format!("spanscore case {}", word(&case.case_id)));
        hints.extend(case.head.trace_id.map(|id| format!("spanscore trace {id}")));
    }
    match report.verdict {
        Verdict::Fail => hints.push(format!("spanscore compare {} {run}", word(&report.baseline))),
        Verdict::Inconclusive => {
            hints.push(format!("spanscore gate {run} --baseline {} --self-check", word(&report.baseline)));
        }
        Verdict::Pass | Verdict::Invalid => {}
    }
    hints
}

const fn verdict_tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Pass => Tone::Good,
        Verdict::Fail => Tone::Bad,
        Verdict::Inconclusive | Verdict::Invalid => Tone::Warn,
    }
}

fn operands(out: &mut String, sides: &[(&str, Option<&Operand>)], style: Style) {
    for (name, side) in sides {
        let described = side.map_or_else(|| "none that can be read".to_owned(), operand);
        put!(out, "  {}  {}\n", style.paint(Tone::Faint, &format!("{name:<8}")), clean(&described));
    }
}

fn operand(side: &Operand) -> String {
    let mut text = match (side.kind, side.runs.as_slice()) {
        (OperandKind::Run, [run]) => format!("run {} ({})", side.name, run.id),
        (_, runs) => format!("{}: {} run{}", side.name, runs.len(), if runs.len() == 1 { "" } else { "s pooled" }),
    };
    put!(text, ", {} of {}, {} cases", side.model, side.dataset.name, count(side.dataset.cases));
    if side.trials_per_case > 1 {
        put!(text, " × {}", side.trials_per_case);
    }
    if side.errors > 0 {
        put!(text, ", {} trials without an answer", count(side.errors));
    }
    text
}

fn differs(out: &mut String, differs: &[Difference], style: Style) {
    if differs.is_empty() {
        put!(out, "  {}  nothing: both were run in the same way\n", style.paint(Tone::Faint, "differs "));
    }
    for (place, difference) in differs.iter().enumerate() {
        let label = if place == 0 { "differs " } else { "        " };
        let or_none = |text: &Option<String>| clean(text.as_deref().unwrap_or("none")).into_owned();
        let line =
            format!("{}: {} → {}", clean(&difference.what), or_none(&difference.base), or_none(&difference.head));
        let line = if difference.refused_as.is_some() { style.paint(Tone::Warn, &line) } else { line };
        put!(out, "  {}  {line}\n", style.paint(Tone::Faint, label));
    }
}

fn metrics(out: &mut String, metrics: &[Metric], style: Style) {
    let headers = ["metric", ">base", ">head", ">difference", "95 % interval", ">p", ">q", ">n", "b/c", ""];
    let mut sheet = Sheet::new(style, &headers);
    for metric in metrics {
        sheet.toned(metric_row(metric));
    }
    if sheet.is_empty() {
        out.push_str("  no case has a number on both sides\n");
    } else {
        out.push_str(&sheet.render(2));
    }
    // Several assertions often say the same.
    let mut told: Vec<String> = Vec::new();
    for metric in metrics {
        if let Some(words) = metric.detectable_in_words().filter(|words| !told.contains(words)) {
            put!(out, "  {}\n", style.paint(Tone::Faint, &clean(&format!("{}: {words}", metric.name))));
            told.push(words);
        }
    }
    notes(out, metrics.iter().map(|metric| (metric.name.as_str(), metric.warnings.as_slice())), style);
}

fn metric_row(metric: &Metric) -> [(String, Option<Tone>); 10] {
    let tone = match metric.change {
        Some(Change::Better) => Some(Tone::Good),
        Some(Change::Worse) => Some(Tone::Bad),
        None => None,
    };
    let word = match metric.change {
        Some(Change::Better) => "better",
        Some(Change::Worse) => "worse",
        None if metric.delta == Some(0.0) => "no change",
        None => "",
    };
    let lower = if metric.direction == Better::Lower { " ↓" } else { "" };
    [
        (format!("{}{lower}", metric.name), None),
        (value(metric.base), None),
        (value(metric.head), None),
        (metric.delta.map_or_else(|| ABSENT.to_owned(), signed), tone),
        (
            metric.ci95.map_or_else(|| ABSENT.to_owned(), |[low, high]| format!("{} to {}", signed(low), signed(high))),
            None,
        ),
        (with_mid_p(metric), None),
        (probability(metric.q_value), None),
        (count(metric.n), None),
        (metric.discordant.map_or_else(String::new, |[b, c]| format!("{b}/{c}")), None),
        (word.to_owned(), tone),
    ]
}

/// The exact p-value, and beside it the mid-p where there is one.
fn with_mid_p(metric: &Metric) -> String {
    let exact = probability(metric.p_value);
    metric.mid_p.map_or_else(|| exact.clone(), |mid_p| format!("{exact} (mid {})", probability(Some(mid_p))))
}

fn gate_metrics(out: &mut String, metrics: &[GateMetric], style: Style) {
    let headers = ["metric", ">baseline", ">run", ">worse by", "interval", ">margin", ">n", "b/c", "verdict"];
    let mut sheet = Sheet::new(style, &headers);
    for metric in metrics {
        let worse = metric.delta.map(|delta| if metric.direction == Better::Lower { delta } else { -delta });
        sheet.toned([
            (metric.name.clone(), None),
            (value(metric.base), None),
            (value(metric.head), None),
            (worse.map_or_else(|| ABSENT.to_owned(), signed), None),
            (metric.damage_in_words(" to ", signed).unwrap_or_else(|| ABSENT.to_owned()), None),
            (score(metric.margin), None),
            (count(metric.n), None),
            (metric.discordant.map_or_else(String::new, |[b, c]| format!("{b}/{c}")), None),
            (metric.verdict.as_str().to_owned(), Some(verdict_tone(metric.verdict))),
        ]);
    }
    out.push_str(&sheet.render(2));
    notes(out, metrics.iter().map(|metric| (metric.name.as_str(), metric.warnings.as_slice())), style);
}

/// How often the gate would be wrong.
fn self_check(out: &mut String, check: &SelfCheck, style: Style) {
    heading(
        out,
        style,
        &format!("Self-check: {} simulated nights of each kind on these data", count(check.nights.into())),
    );
    let headers = ["metric", "nights", ">true damage", ">PASS", ">FAIL", ">INCONCLUSIVE", "wrong"];
    let mut sheet = Sheet::new(style, &headers);
    let share = |rate: &Rate| format!("{:.1} %", rate.share * 100.0);
    let wrong = |what: &str, rate: &Rate| {
        let [low, high] = rate.ci95.map(|x| x * 100.0);
        format!("{what} {} ({low:.1} to {high:.1})", share(rate))
    };
    for metric in &check.metrics {
        let mut row = |nights: &str, of: &Outcomes, wrong: String| {
            sheet.row([
                metric.name.clone(),
                nights.to_owned(),
                score(of.damage),
                share(&of.pass),
                share(&of.fail),
                share(&of.inconclusive),
                wrong,
            ]);
        };
        row("unchanged", &metric.unchanged, wrong("false FAIL", &metric.unchanged.fail));
        if let Some(of) = &metric.at_margin {
            row("worse by the margin", of, wrong("false PASS", &of.pass));
        }
        if let Some(of) = &metric.beyond {
            row("three times as bad", of, wrong("false PASS", &of.pass));
        }
    }
    out.push_str(&sheet.render(2));
    put!(out, "  {}\n", wrong("false FAIL of any metric", &check.any_false_alarm));
    for note in &check.notes {
        put!(out, "  {}\n", clean(note));
    }
}

fn notes<'m>(out: &mut String, warnings: impl Iterator<Item = (&'m str, &'m [String])>, style: Style) {
    for (name, warnings) in warnings {
        for warning in warnings {
            put!(out, "  {}\n", style.paint(Tone::Warn, &clean(&format!("{name}: {warning}"))));
        }
    }
}

fn labels(out: &mut String, comparison: &Comparison, style: Style) {
    if comparison.transitions.iter().flatten().all(|n| *n == 0) {
        return;
    }
    heading(out, style, "Answers (rows base, columns head)");
    let headers = ["", ">True", ">False", ">NEE", ">unparseable", ">failed"];
    let mut sheet = Sheet::new(style, &headers);
    for (label, row) in comparison.transition_labels.iter().zip(&comparison.transitions) {
        let cells = row.iter().map(|n| (count(*n), None));
        sheet.toned(std::iter::once((label.clone(), None)).chain(cells));
    }
    out.push_str(&sheet.render(2));
    let test = |name: &str, test: &Option<ShiftTest>| {
        test.as_ref().map(|test| {
            format!(
                "{name}: χ² {} on {} degrees, p {}",
                score(test.statistic),
                test.df,
                probability(Some(test.p_value))
            )
        })
    };
    let shift = &comparison.shift;
    let tests = [test("symmetry (Bowker)", &shift.bowker), test("shares (Stuart–Maxwell)", &shift.stuart_maxwell)];
    for line in tests.into_iter().flatten() {
        put!(out, "  {line}\n");
    }
}

fn slices(out: &mut String, slices: &[SliceComparison], style: Style) {
    if slices.is_empty() {
        return;
    }
    heading(out, style, "Parts of the dataset");
    let headers = ["column", "value", ">cases", "metric", ">base", ">head", ">difference", "95 % interval", ">q", ""];
    let mut sheet = Sheet::new(style, &headers);
    for slice in slices {
        for metric in &slice.metrics {
            let [_, base, head, delta, interval, _, q, _, _, word] = metric_row(metric);
            sheet.toned([
                (slice.column.clone(), None),
                (slice.value.clone().unwrap_or_else(|| ABSENT.to_owned()), None),
                (count(slice.pairs), None),
                (metric.name.clone(), None),
                base,
                head,
                delta,
                interval,
                q,
                word,
            ]);
        }
    }
    out.push_str(&sheet.render(2));
}

fn counts(counts: CaseCounts, style: Style) -> String {
    let mut words = vec![
        style.paint(Tone::Bad, &format!("{} regressed", count(counts.regressed))),
        style.paint(Tone::Good, &format!("{} improved", count(counts.improved))),
        format!("{} unchanged", count(counts.unchanged)),
    ];
    for (n, word) in
        [(counts.lost, "lost their score"), (counts.gained, "are scored now"), (counts.unscored, "scored in neither")]
    {
        if n > 0 {
            words.push(format!("{} {word}", count(n)));
        }
    }
    words.join(", ")
}

/// The first of a list; `total` counts what it leaves out as well.
fn cases(out: &mut String, name: &str, list: &[CaseChange], total: u64, style: Style) {
    if list.is_empty() {
        return;
    }
    heading(out, style, name);
    let headers = ["case", "expected", "base", "head", "trace in base", "trace in head", "claim"];
    let mut sheet = Sheet::new(style, &headers).flexible(6);
    for case in list.iter().take(SHOWN) {
        sheet.toned([
            (case.case_id.clone(), None),
            (case.expected.clone().unwrap_or_else(|| ABSENT.to_owned()), None),
            (outputs(&case.base), None),
            (outputs(&case.head), None),
            (trace(&case.base, style), Some(Tone::Faint)),
            (trace(&case.head, style), Some(Tone::Faint)),
            (case.claim.clone().unwrap_or_default(), None),
        ]);
    }
    out.push_str(&sheet.render(2));
    let shown = list.len().min(SHOWN) as u64;
    if total > shown {
        put!(out, "  and {} more; --format json lists more of them\n", count(total - shown));
    }
}

fn unpaired(out: &mut String, comparison: &Comparison, style: Style) {
    let Unpaired { base, head, counts } = &comparison.unpaired;
    for (name, list, total) in [("Only in the base", base, counts.base), ("Only in the head", head, counts.head)] {
        if list.is_empty() {
            continue;
        }
        heading(out, style, name);
        let mut sheet = Sheet::new(style, &["case", "why", "output", "trace"]);
        for case in list.iter().take(SHOWN) {
            sheet.row([case.case_id.clone(), case.reason.clone(), outputs(&case.side), trace(&case.side, style)]);
        }
        out.push_str(&sheet.render(2));
        let shown = list.len().min(SHOWN) as u64;
        if total > shown {
            put!(out, "  and {} more\n", count(total - shown));
        }
    }
}

/// The outputs of a side; equal ones once.
fn outputs(side: &CaseSide) -> String {
    match side.outputs.as_slice() {
        [] => ABSENT.to_owned(),
        [first, rest @ ..] if rest.iter().all(|other| other == first) => match rest.len() {
            0 => first.clone(),
            more => format!("{first} × {}", more + 1),
        },
        all => all.join(" "),
    }
}

fn trace(side: &CaseSide, style: Style) -> String {
    side.trace_id.map_or_else(|| ABSENT.to_owned(), |id| format::trace_id(id, style))
}

/// A score night by night, ready to print.
pub fn trend(trend: &Trend, style: Style) -> String {
    let mut out = String::new();
    one_trend(&mut out, trend, style);
    for slice in &trend.slices {
        out.push('\n');
        one_trend(&mut out, slice, style);
    }
    out
}

fn one_trend(out: &mut String, trend: &Trend, style: Style) {
    let mut title = format!("{} of {}", trend.score, trend.suite);
    if let Some(slice) = &trend.slice {
        put!(title, " where {} is {}", slice.column, slice.value.as_deref().unwrap_or("absent"));
    }
    put!(out, "{}\n", style.paint(Tone::Strong, &clean(&title)));
    // A plain number has four digits here; what has a unit wears it.
    let is_plain = matches!(trend.unit.as_str(), "" | "1");
    let level = |x: Option<f64>| if is_plain { value(x) } else { format::in_unit(&trend.unit, x) };
    let ends = |x| if is_plain { format::interval(x) } else { format::interval_in(&trend.unit, x) };
    let mut sheet =
        Sheet::new(style, &["run", "started", ">mean", "95 % interval", ">n", "verdict", "changed"]).flexible(6);
    for (place, point) in trend.points.iter().enumerate() {
        let changed: Vec<&str> = point.changed.iter().map(|difference| difference.what.as_str()).collect();
        let is_change = trend.changes.iter().any(|change| change.index == place as u64);
        sheet.toned([
            (point.run_id.clone(), None),
            (point.started_at.replace('T', " ").get(..16).unwrap_or(ABSENT).to_owned(), None),
            (level(point.mean), is_change.then_some(Tone::Warn)),
            (ends(point.ci95), None),
            (count(point.n), None),
            (point.verdict.clone().unwrap_or_default(), None),
            (changed.join(", "), None),
        ]);
    }
    out.push_str(&if sheet.is_empty() { "  no runs\n".to_owned() } else { sheet.render(2) });
    for change in &trend.changes {
        let line = format!(
            "change at {}: {} → {}, p {}",
            change.at_run,
            level(Some(change.before)),
            level(Some(change.after)),
            probability(Some(change.p_value))
        );
        put!(out, "  {}\n", style.paint(Tone::Warn, &clean(&line)));
        for difference in &change.annotations {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
            let line = format!("{}: {} → {}", difference.what, or_none(&difference.base), or_none(&difference.head));
            put!(out, "    {}\n", clean(&line));
        }
    }
    if trend.changes.is_empty() && trend.is_searched() {
        out.push_str("  no change of level that is more than chance\n");
    }
    for warning in &trend.warnings {
        put!(out, "  {}\n", style.paint(Tone::Warn, &clean(warning)));
    }
}

fn value(x: Option<f64>) -> String {
    x.map_or_else(|| ABSENT.to_owned(), score)
}

fn signed(x: f64) -> String {
    let shown = score(x);
    if x > 0.0 && shown != "0" { format!("+{shown}") } else { shown }
}

/// A p-value with two digits that count; `<0.0001` below.
fn probability(p: Option<f64>) -> String {
    match p {
        None => ABSENT.to_owned(),
        Some(p) if p < 0.0001 => "<0.0001".to_owned(),
        Some(p) if p < 0.01 => format!("{p:.4}"),
        Some(p) => format!("{p:.3}"),
    }
}
