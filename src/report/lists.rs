//! Lists on the terminal: runs, cases, one case's history, traces, and what `verify` found.

use crate::model::{EvaluatorId, RunId};
use crate::store::Verification;

use super::document::Trials;
use super::documents::{CaseEntry, CaseHistory, RunEntry, ScoreEntry};
use super::format::{self, ABSENT, count};
use super::style::{Style, Tone};
use super::table::Sheet;
use super::text::{clean, put, wrap};
use super::trace_documents::TraceEntry;

/// The runs, as given.
pub fn runs(entries: &[RunEntry], style: Style) -> String {
    let mut headers = vec!["run", "name", "status", "started", ">took", "model", ">trials", "scores"];
    // A column that says nothing of any run is none.
    let judged = entries.iter().any(|run| run.verdict.is_some());
    if judged {
        headers.push("verdict");
    }
    let mut sheet = Sheet::new(style, &headers);
    for run in entries {
        let mut line = vec![
            (run.id.clone(), None),
            (run.name.clone(), None),
            (run.status.to_owned(), (run.status != "completed").then_some(Tone::Warn)),
            (run.started_at.replace('T', " ").get(..19).unwrap_or(ABSENT).to_owned(), None),
            (format::duration((run.duration_s * 1e9) as u64), None),
            (run.model.clone(), None),
            (trials(run.trials), (run.trials.failed > 0).then_some(Tone::Warn)),
            (
                run.scores
                    .0
                    .iter()
                    .map(|(id, x)| format!("{id} {}", format::statistic(x.mean)))
                    .collect::<Vec<_>>()
                    .join("  "),
                None,
            ),
        ];
        if judged {
            let tone = match run.verdict.as_deref() {
                Some("PASS") => Some(Tone::Good),
                Some("FAIL") => Some(Tone::Bad),
                Some(_) => Some(Tone::Warn),
                None => None,
            };
            line.push((run.verdict.clone().unwrap_or_else(|| ABSENT.to_owned()), tone));
        }
        sheet.toned(line);
    }
    if sheet.is_empty() { "no runs\n".to_owned() } else { sheet.render(0) }
}

/// `completed/planned`, with the failed ones beside it.
fn trials(trials: Trials) -> String {
    let failed = if trials.failed > 0 { format!(" ({} failed)", count(trials.failed)) } else { String::new() };
    format!("{}/{}{failed}", count(trials.completed), count(trials.planned))
}

/// The cases of a run with a column per evaluator.
pub fn cases(entries: &[CaseEntry], evaluators: &[String], style: Style) -> String {
    let several = entries.iter().any(|case| case.repeat > 0);
    let labelled = if several { "case #repeat" } else { "case" };
    let mut lines = Vec::new();
    for case in entries {
        let id = if several { format!("{} #{}", case.case_id, case.repeat) } else { case.case_id.clone() };
        let scores = evaluators.iter().map(|id| score(case.scores.get(id))).collect::<Vec<_>>().join(" ");
        lines.push([
            (id, None),
            (case.expected.unwrap_or(ABSENT).to_owned(), None),
            (output(case), wrong(case).then_some(Tone::Bad)),
            (scores, None),
            (format::milliseconds(case.latency_ms), None),
            (case.trace_id.map_or_else(|| ABSENT.to_owned(), |id| format::trace_id(id, style)), Some(Tone::Faint)),
            (case.claim.clone(), None),
        ]);
    }
    if lines.is_empty() {
        return "no cases\n".to_owned();
    }
    let headers = [labelled, "expected", "output", "scores", ">latency", "trace", "claim"];
    let mut sheet = Sheet::new(style, &headers).flexible(6);
    for line in lines {
        sheet.toned(line);
    }
    format!("{}scores: {}\n", sheet.render(0), clean(&evaluators.join(", ")))
}

/// The predicted class; for others what became of the trial.
fn output(case: &CaseEntry) -> String {
    match (case.output, &case.error) {
        (Some(output), _) => output.to_owned(),
        (None, Some(error)) => format!("failed: {error}"),
        (None, None) => case.status.to_owned(),
    }
}

fn wrong(case: &CaseEntry) -> bool {
    case.error.is_some() || (case.output.is_some() && case.expected.is_some() && case.output != case.expected)
}

/// A score in a column: its label, which says more, else its number; `!` where the evaluator broke, `–` where there is none.
fn score(entry: Option<&ScoreEntry>) -> String {
    match entry {
        Some(ScoreEntry { state: "failed", .. }) => "!".to_owned(),
        Some(ScoreEntry { label: Some(label), .. }) => label.clone(),
        Some(ScoreEntry { value: Some(value), .. }) => format::score(*value),
        _ => ABSENT.to_owned(),
    }
}

/// One case: its texts, then its trials, the newest first.
pub fn case(history: &CaseHistory, style: Style) -> String {
    let columns = style.width.clamp(20, 100) - 2;
    let mut out = style.paint(Tone::Strong, &format!("Case {}", clean(&history.case_id)));
    put!(out, "  of {}\n", clean(&history.dataset));
    for (name, text) in [
        ("claim", Some(history.claim.as_str())),
        ("context", Some(history.context.as_str())),
        ("expected", history.expected),
        ("group", history.group.as_deref()),
    ] {
        let Some(text) = text else { continue };
        put!(out, "{}\n", style.paint(Tone::Faint, name));
        for line in wrap(text, columns) {
            put!(out, "  {line}\n");
        }
    }
    out.push('\n');
    let mut sheet = Sheet::new(style, &["run", "started", ">repeat", "output", "scores", ">latency", "trace"]);
    let mut evaluators: Vec<&str> =
        history.runs.iter().flat_map(|trial| trial.scores.keys()).map(String::as_str).collect();
    evaluators.sort_unstable();
    evaluators.dedup();
    for trial in &history.runs {
        let scores = evaluators.iter().map(|id| score(trial.scores.get(*id)));
        sheet.toned([
            (trial.run_id.as_ref().map_or_else(String::new, ToString::to_string), None),
            (
                trial
                    .started_at
                    .as_deref()
                    .unwrap_or_default()
                    .replace('T', " ")
                    .get(..19)
                    .unwrap_or(ABSENT)
                    .to_owned(),
                None,
            ),
            (trial.repeat.to_string(), None),
            (output(trial), wrong(trial).then_some(Tone::Bad)),
            (scores.collect::<Vec<_>>().join(" "), None),
            (format::milliseconds(trial.latency_ms), None),
            (trial.trace_id.map_or_else(|| ABSENT.to_owned(), |id| format::trace_id(id, style)), Some(Tone::Faint)),
        ]);
    }
    out.push_str(&sheet.render(0));
    put!(out, "scores: {}\n", clean(&evaluators.join(", ")));
    for trial in &history.runs {
        // What passed needs no explanation.
        let lost = trial.scores.iter().filter(|(_, entry)| entry.value.is_none_or(|value| value < 1.0));
        let why = lost.filter_map(|(id, entry)| Some((id, entry.explanation.as_deref()?)));
        let reason = trial.reason.as_deref().map(|reason| (trial.status, reason));
        for (about, text) in reason.into_iter().chain(why.map(|(id, text)| (id.as_str(), text))) {
            let run = trial.run_id.as_ref().map_or("", |id| id.as_str());
            put!(out, "{run} #{} {}: {}\n", trial.repeat, clean(about), clean(text));
        }
    }
    out
}

/// The traces, as given.
pub fn traces(entries: &[TraceEntry], style: Style) -> String {
    let headers = ["trace id", "start time", ">duration", "status", ">operations", "root", "service", "scores"];
    let mut sheet = Sheet::new(style, &headers);
    for trace in entries {
        let failed = trace.errors > 0;
        let status = if failed {
            format!("✗ {} ({})", trace.status, count(trace.errors))
        } else {
            format!("✓ {}", trace.status)
        };
        let scores: Vec<String> = trace.scores.iter().map(|(id, mean)| format!("{id} {mean:.3}")).collect();
        sheet.toned([
            (format::trace_id(trace.trace_id, style), None),
            (trace.start_time.replace('T', " ").get(..23).unwrap_or(ABSENT).to_owned(), None),
            (format::milliseconds(Some(trace.duration_ms)), None),
            (status, failed.then_some(Tone::Bad)),
            (count(trace.operations), None),
            (trace.root.clone(), None),
            (trace.service.clone().unwrap_or_else(|| ABSENT.to_owned()), None),
            (scores.join("  "), None),
        ]);
    }
    if sheet.is_empty() { "no traces\n".to_owned() } else { sheet.render(0) }
}

/// What `verify` found, in a sentence and the faults one by one.
pub fn verification(run: &RunId, found: &Verification, style: Style) -> String {
    let mut out = String::new();
    let good = found.is_good();
    let (tone, mark) = if good { (Tone::Good, "✓") } else { (Tone::Bad, "✗") };
    let sentence =
        format!("{} of {} scores are linked to a span that carries them", count(found.linked), count(found.scores));
    put!(out, "{} {run}: {sentence}\n", style.paint(tone, mark));
    if found.pruned > 0 {
        let removed =
            format!("the traces of {} scores were removed by retention; their scores are kept", count(found.pruned));
        put!(out, "  {}\n", style.paint(Tone::Faint, &removed));
    }
    let mut faults = Sheet::new(style, &["fault", "case", ">repeat", "trace", "span", "what"]).flexible(5);
    for span in &found.missing {
        let scores: Vec<&str> = span.scores.iter().map(EvaluatorId::as_str).collect();
        faults.row([
            "missing".to_owned(),
            span.case_id.to_string(),
            span.repeat.to_string(),
            span.trace_id.map_or_else(|| ABSENT.to_owned(), |id| id.to_string()),
            span.span_id.to_string(),
            format!("{} of {}", span.what, scores.join(", ")),
        ]);
    }
    for fault in &found.mismatched {
        faults.row([
            "mismatch".to_owned(),
            fault.case_id.to_string(),
            fault.repeat.to_string(),
            fault.trace_id.to_string(),
            fault.span_id.to_string(),
            format!("{}: stored {}, on the span {}", fault.attribute, fault.stored, fault.on_span),
        ]);
    }
    if !faults.is_empty() {
        out.push_str(&faults.render(2));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::collect::Collector;
    use crate::report::{documents, fixture, trace_documents};

    #[test]
    fn cases_show_what_was_expected_and_what_came() {
        let evaluators = ["label_match".to_owned(), "tone".to_owned()];
        insta::assert_snapshot!(cases(&documents::cases(&fixture::low_rows()), &evaluators, Style::plain(110)), @r#"
        case        expected  output       scores  latency  trace                             claim
        claims-005  False     NEE          fail –  5.00 ms  0af7651916cd43dd8448eb211c80319c  Red ␛[31mcells� generat…
        claims-029  False     failed: 429  – –     5.00 ms  0af7651916cd43dd8448eb211c80319c  A claim that nobody ans…
        scores: label_match, tone
        "#);
    }

    #[test]
    fn a_case_shows_its_texts_and_every_trial() {
        let history = documents::case_history("claims", &fixture::low_rows()).expect("two rows");
        insta::assert_snapshot!(case(&history, Style::plain(110)), @r#"
        Case claims-005  of claims
        claim
          Red ␛[31mcells� generate most of their ATP by oxidative phosphorylation in mitochondria.
        context
          A context that says something else.
        expected
          False
        group
          bio-01

        run                     started              repeat  output       scores  latency  trace
        20261122-154501-3f9a2c  2026-11-22 15:45:01       0  NEE          fail    5.00 ms  0af7651916cd43dd8448eb211c80319c
        20261122-154501-3f9a2c  2026-11-22 15:45:01       0  failed: 429  –       5.00 ms  0af7651916cd43dd8448eb211c80319c
        scores: label_match
        20261122-154501-3f9a2c #0 label_match: expected False
        20261122-154501-3f9a2c #0 failed: rate limit reached
        20261122-154501-3f9a2c #0 label_match: no answer
        "#);
    }

    #[test]
    fn traces_show_the_five_columns_first() {
        insta::assert_snapshot!(traces(&trace_documents::traces(&[fixture::trace().row]), Style::plain(150)), @r#"
        trace id                          start time               duration  status       operations  root                        service    scores
        0af7651916cd43dd8448eb211c80319c  2026-11-22 15:45:01.000    120 ms  ✗ error (2)           7  assess_claims_with_context  spanscore  label_match 1.000
        "#);
    }

    #[test]
    fn runs_show_their_scores() {
        let mut collector = Collector::new(&fixture::run().spec);
        for facts in fixture::facts() {
            collector.add(&facts);
        }
        let entry = documents::RunEntry::of(&fixture::run(), false, &collector.brief());
        insta::assert_snapshot!(runs(&[entry], Style::plain(140)), @r#"
        run                     name     status      started                took  model                       trials  scores
        20261122-154501-3f9a2c  nightly  incomplete  2026-11-22 15:45:01  2.50 s  lexical-baseline  28/30 (1 failed)  label_match 0.893  tone –
        "#);
    }

    #[test]
    fn empty_lists_say_so() {
        let style = Style::plain(80);
        assert_eq!(
            (runs(&[], style), cases(&[], &[], style), traces(&[], style)),
            ("no runs\n".into(), "no cases\n".into(), "no traces\n".into())
        );
    }
}
