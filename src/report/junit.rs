//! JUnit XML of a run, as GitLab and Jenkins read it: one test case per trial, with its trace in the output of the test.
//!
//! A trial that failed, or that the primary evaluator could not score, is an `error`, one that it finds wanting a `failure`, one
//! that was not tried, or to which it does not apply, is `skipped`. A judged run has a second suite with one test case per
//! verdict: a regression and an undecided verdict fail, for a gate never opens by accident. Of its trials those are failures
//! and errors that are worse than in the baseline, unless the verdict is PASS, and those of cases that must pass; what was as
//! bad there already is `skipped`, or no build would ever be green. Elements and attributes are those of the schema of Jenkins' xUnit plugin (`junit-10.xsd`).

use std::io::{self, Write};

use super::document::Report;
use super::evidence::{Against, Evidence};
use super::format::ABSENT;
use super::html::block;
use super::link;
use super::low::Yardstick;
use super::text::{clean, put};
use crate::compare::Verdict;
use crate::model::{Evaluation, Outcome};
use crate::store::rows::{CaseRow, RunRow};
use crate::store::{Reader, StoreError};

/// A judgement as a test case: its name, whether it holds, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What was judged, such as a metric.
    pub name: String,
    /// `None` where it passed; else the kind of failure and why.
    pub failure: Option<(String, String)>,
}

/// Writes the document.
pub fn write(reader: &Reader, evidence: &Evidence<'_>, out: &mut dyn Write) -> Result<io::Result<()>, StoreError> {
    let (run, report, judgements) = (evidence.run, evidence.report, evidence.judgements());
    let yardstick = Yardstick::of(&run.spec.evaluators);
    // The counts stand before the cases: they are counted first, without texts.
    let mut counts = Counts::default();
    reader.for_each_outcome(run, &mut |row| counts.add(end(evidence, &yardstick, &row)))?;
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let refused = judgements.iter().filter(|judgement| judgement.failure.is_some()).count() as u64;
    let seconds = report.run.duration_s;
    put!(
        text,
        "<testsuites name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{seconds:.3}\">\n",
        attribute(&run.spec.suite),
        counts.tests + judgements.len() as u64,
        counts.failures + refused,
        counts.errors
    );
    if !judgements.is_empty() {
        suite_of_judgements(&mut text, run, &judgements, refused);
    }
    put!(
        text,
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{seconds:.3}\" timestamp=\"{}\">\n    <properties>\n",
        attribute(&run.spec.suite),
        counts.tests,
        counts.failures,
        counts.errors,
        counts.skipped,
        report.run.started_at.get(..19).unwrap_or_default()
    );
    for (name, value) in properties(report) {
        put!(text, "      <property name=\"{}\" value=\"{}\"/>\n", attribute(&name), attribute(&value));
    }
    text.push_str("    </properties>\n");
    let mut written = out.write_all(text.as_bytes());
    reader.for_each_row(run, &mut |row| {
        if written.is_ok() {
            written = out.write_all(test_case(evidence, &yardstick, &row).as_bytes());
        }
    })?;
    Ok(written.and_then(|()| out.write_all(b"  </testsuite>\n</testsuites>\n")))
}

fn properties(report: &Report) -> Vec<(String, String)> {
    let run = &report.run;
    let mut properties = vec![
        ("run_id".to_owned(), run.id.clone()),
        ("run_name".to_owned(), run.name.clone()),
        ("model".to_owned(), run.model.clone()),
        ("provider".to_owned(), run.provider.clone()),
        ("dataset".to_owned(), run.dataset.name.clone()),
        ("dataset_digest".to_owned(), run.dataset.digest.clone()),
        ("prompt_digest".to_owned(), run.prompt_digest.clone()),
    ];
    properties.extend(run.git.as_ref().map(|git| ("git_revision".to_owned(), git.revision.clone())));
    for (id, evaluator) in &report.evaluators.0 {
        properties.extend(evaluator.mean.map(|mean| (format!("score.{id}"), mean.to_string())));
    }
    properties.extend(report.tags.iter().map(|(key, value)| (format!("tag.{key}"), value.clone())));
    properties
}

fn suite_of_judgements(text: &mut String, run: &RunRow, judgements: &[Judgement], refused: u64) {
    let name = format!("{} gate", run.spec.suite);
    put!(
        text,
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{refused}\" errors=\"0\" skipped=\"0\">\n",
        attribute(&name),
        judgements.len()
    );
    for judgement in judgements {
        let head = format!("name=\"{}\" classname=\"{}.gate\"", attribute(&judgement.name), class(&run.spec.suite));
        match &judgement.failure {
            None => put!(text, "    <testcase {head}/>\n"),
            Some((kind, why)) => put!(
                text,
                "    <testcase {head}>\n      <failure type=\"{}\" message=\"{}\">{}</failure>\n    </testcase>\n",
                attribute(kind),
                attribute(first_line(why)),
                content(why)
            ),
        }
    }
    text.push_str("  </testsuite>\n");
}

/// How a trial ended, as a test.
enum End {
    Passed,
    Failure { kind: String, why: String },
    Error { kind: String, why: String },
    Skipped { why: String },
}

/// How a trial ended, beside the baseline where the run was judged.
fn end(evidence: &Evidence<'_>, yardstick: &Yardstick, row: &CaseRow) -> End {
    let alone = end_alone(evidence.run, yardstick, row);
    let must_pass = evidence.gate.is_some_and(|gate| gate.policy.must_pass.iter().any(|id| id == row.case_id.as_str()));
    let against = evidence.against_baseline(row.key.seq).filter(|_| !must_pass);
    let known = match against {
        Some(Against::NoWorse) => "failed in the baseline too",
        Some(Against::Unknown) => "the baseline does not have this case",
        // Where the gate lets the run through, cases that got worse are what it takes for noise: they are told, and fail nothing.
        Some(Against::Worse) if evidence.gate.is_some_and(|gate| gate.verdict == Verdict::Pass) => {
            "worse than in the baseline, in a run that passed"
        }
        Some(Against::Worse) | None => return alone,
    };
    match alone {
        End::Failure { why, .. } => End::Skipped { why: format!("{known}: {why}") },
        // Without an answer there is nothing to say of a case that the baseline does not have either.
        End::Error { why, .. } if against != Some(Against::Unknown) => End::Skipped { why: format!("{known}: {why}") },
        other => other,
    }
}

fn end_alone(run: &RunRow, yardstick: &Yardstick, row: &CaseRow) -> End {
    let primary = &run.spec.primary;
    match &row.outcome {
        None => End::Error { kind: "no_outcome".to_owned(), why: "the run ended before this trial".to_owned() },
        Some(Outcome::Failed(failure)) => End::Error { kind: failure.error_type.clone(), why: failure.message.clone() },
        Some(Outcome::Skipped { reason }) => End::Skipped { why: reason.clone() },
        Some(Outcome::Completed { predicted }) => match row.scores.get(primary) {
            Some(Evaluation::Failed { error_type, message }) => {
                End::Error { kind: format!("{primary}: {error_type}"), why: message.clone() }
            }
            Some(evaluation) if yardstick.is_low(primary.as_str(), evaluation) => {
                let answered = predicted.as_str();
                let why = match row.expected {
                    Some(expected) if expected.as_str() != answered => {
                        format!("expected {expected}, answered {answered}")
                    }
                    _ => format!("{primary} is {}", super::waterfall::verdict_in_short(evaluation)),
                };
                End::Failure { kind: primary.to_string(), why }
            }
            Some(Evaluation::Skipped { reason }) => End::Skipped { why: format!("{primary} does not apply: {reason}") },
            Some(Evaluation::Scored { .. }) => End::Passed,
            None => End::Error { kind: "no_score".to_owned(), why: format!("{primary} gave no score") },
        },
    }
}

#[derive(Default)]
struct Counts {
    tests: u64,
    failures: u64,
    errors: u64,
    skipped: u64,
}

impl Counts {
    fn add(&mut self, end: End) {
        self.tests += 1;
        match end {
            End::Passed => {}
            End::Failure { .. } => self.failures += 1,
            End::Error { .. } => self.errors += 1,
            End::Skipped { .. } => self.skipped += 1,
        }
    }
}

fn test_case(evidence: &Evidence<'_>, yardstick: &Yardstick, row: &CaseRow) -> String {
    let spec = &evidence.run.spec;
    let mut text = String::new();
    let repeat = if spec.repeat > 1 { format!(" #{}", row.key.repeat) } else { String::new() };
    put!(
        text,
        "    <testcase name=\"{}{repeat}\" classname=\"{}.{}\" time=\"{:.3}\">\n",
        attribute(row.case_id.as_str()),
        class(&spec.suite),
        class(&spec.dataset.name),
        row.latency_ns as f64 / 1e9
    );
    let explained = row.scores.get(&spec.primary).and_then(|evaluation| match evaluation {
        Evaluation::Scored { explanation, .. } => explanation.as_deref(),
        _ => None,
    });
    let (element, kind, why) = match end(evidence, yardstick, row) {
        End::Passed => ("", String::new(), String::new()),
        End::Failure { kind, why } => ("failure", kind, why),
        End::Error { kind, why } => ("error", kind, why),
        End::Skipped { why } => ("skipped", String::new(), why),
    };
    match element {
        "" => {}
        "skipped" => put!(text, "      <skipped message=\"{}\"/>\n", attribute(&why)),
        element => put!(
            text,
            "      <{element} type=\"{}\" message=\"{}\">{}</{element}>\n",
            attribute(&kind),
            attribute(first_line(&why)),
            content(&details(row, &why, explained))
        ),
    }
    if let Some(trace) = row.trace_id {
        put!(text, "      <system-out>trace_id: {trace}\n");
        if let Some(span) = row.span_id {
            put!(text, "span_id: {span}\n");
        }
        match link::of_case(spec, row) {
            Some(url) => put!(text, "trace: {}\n", content(&url)),
            None => put!(text, "trace: spanscore trace {trace}\n"),
        }
        text.push_str("</system-out>\n");
    }
    text.push_str("    </testcase>\n");
    text
}

/// What a person wants to read of a test that did not pass.
fn details(row: &CaseRow, why: &str, explained: Option<&str>) -> String {
    let mut text = format!("{why}\n");
    if let Some(explained) = explained.filter(|explained| !why.contains(explained)) {
        put!(text, "{explained}\n");
    }
    put!(text, "claim: {}\n", row.claim);
    if let Some(raw) = &row.raw_output {
        put!(text, "answer: {raw}\n");
    }
    put!(text, "trace_id: {}\n", row.trace_id.map_or_else(|| ABSENT.to_owned(), |id| id.to_string()));
    text
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// A name without the dots at which readers part packages from classes.
fn class(name: &str) -> String {
    attribute(&name.replace('.', "_"))
}

/// Text fit for an attribute: one line, no character that XML 1.0 does not know.
fn attribute(text: &str) -> String {
    escape(&clean(text)).replace('"', "&quot;")
}

/// Text fit for the content of an element.
fn content(text: &str) -> String {
    escape(&block(text))
}

fn escape(text: &str) -> String {
    // Cleaned of control characters by then; of what is left XML 1.0 refuses only these two.
    text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}").replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Comparison;
    use crate::compare::gate::GateReport;
    use crate::report::fixture;

    fn alone<'a>(run: &'a RunRow, report: &'a Report) -> Evidence<'a> {
        Evidence { run, report, base: None, comparison: None, gate: None, word: None, notes: &[], trend: None }
    }

    fn element(end: &End) -> &'static str {
        match end {
            End::Passed => "passed",
            End::Failure { .. } => "failure",
            End::Error { .. } => "error",
            End::Skipped { .. } => "skipped",
        }
    }

    #[test]
    fn what_was_not_scored_did_not_pass() {
        let (run, report) = (fixture::run(), fixture::report());
        let yardstick = Yardstick::of(&run.spec.evaluators);
        let mut row = fixture::low_rows().remove(0);
        for (evaluation, wanted) in [
            (Some(Evaluation::assertion(true)), "passed"),
            (Some(Evaluation::assertion(false)), "failure"),
            (Some(Evaluation::skipped("no expected label")), "skipped"),
            (None, "error"),
        ] {
            row.scores.remove(&run.spec.primary);
            row.scores.extend(evaluation.map(|evaluation| (run.spec.primary.clone(), evaluation)));
            assert_eq!(element(&end(&alone(&run, &report), &yardstick, &row)), wanted);
        }
    }

    #[test]
    fn of_a_judged_run_only_regressions_and_cases_that_must_pass_fail() {
        use crate::report::details::CaseChange;
        use crate::report::results::{Base, Before};
        let (run, report, rows) = (fixture::run(), fixture::report(), fixture::low_rows());
        let (mut gate, mut comparison) = (fixture::gate(), fixture::comparison());
        let yardstick = Yardstick::of(&run.spec.evaluators);
        // The first row scored low, the second has no answer.
        for (loss, change, wanted) in
            [(1.0, CaseChange::Regressed, ["failure", "error"]), (0.0, CaseChange::Unchanged, ["skipped", "skipped"])]
        {
            let base =
                Base::new("b", rows.iter().map(|row| (row.key.seq, Before { loss, ..Before::default() }, change)));
            let mut evidence = alone(&run, &report);
            (evidence.base, evidence.gate, evidence.comparison) = (Some(&base), Some(&gate), Some(&comparison));
            let ends: Vec<&str> = rows.iter().map(|row| element(&end(&evidence, &yardstick, row))).collect();
            assert_eq!(ends, wanted);
        }
        // What is no part of the baseline is no regression; what must pass must pass; another base says nothing of this.
        let base = Base::new("b", []);
        let ends = |gate: &GateReport, comparison: &Comparison| -> Vec<&'static str> {
            let mut evidence = alone(&run, &report);
            (evidence.base, evidence.gate, evidence.comparison) = (Some(&base), Some(gate), Some(comparison));
            rows.iter().map(|row| element(&end(&evidence, &yardstick, row))).collect()
        };
        assert_eq!(ends(&gate, &comparison), ["skipped", "error"]);
        gate.policy.must_pass = vec![rows[0].case_id.to_string()];
        assert_eq!(ends(&gate, &comparison), ["failure", "error"]);
        gate.policy.must_pass.clear();
        comparison.base.runs.truncate(1);
        assert_eq!(ends(&gate, &comparison), ["failure", "error"]);
    }

    #[test]
    fn a_test_case_says_what_is_wrong_and_where_its_trace_is() {
        let (run, report, rows) = (fixture::run(), fixture::report(), fixture::low_rows());
        let evidence = alone(&run, &report);
        let yardstick = Yardstick::of(&run.spec.evaluators);
        insta::assert_snapshot!(rows.iter().map(|row| test_case(&evidence, &yardstick, row)).collect::<String>(), @r#"
            <testcase name="claims-005" classname="claims-demo.claims" time="0.005">
              <failure type="label_match" message="expected False, answered NEE">expected False, answered NEE
        claim: Red ␛[31mcells� generate most of their ATP by oxidative phosphorylation in mitochondria.
        answer: NEE
        trace_id: 0af7651916cd43dd8448eb211c80319c
        </failure>
              <system-out>trace_id: 0af7651916cd43dd8448eb211c80319c
        span_id: b7ad6b7169203301
        trace: https://jaeger.example/trace/0af7651916cd43dd8448eb211c80319c?span=b7ad6b7169203301&amp;t=1795362301000
        </system-out>
            </testcase>
            <testcase name="claims-029" classname="claims-demo.claims" time="0.005">
              <error type="429" message="rate limit reached">rate limit reached
        claim: A claim that nobody answered.
        answer: NEE
        trace_id: 0af7651916cd43dd8448eb211c80319c
        </error>
              <system-out>trace_id: 0af7651916cd43dd8448eb211c80319c
        span_id: b7ad6b7169203301
        trace: https://jaeger.example/trace/0af7651916cd43dd8448eb211c80319c?span=b7ad6b7169203301&amp;t=1795362301000
        </system-out>
            </testcase>
        "#);
    }

    #[test]
    fn nothing_in_a_text_ends_its_place() {
        for text in ["\"><x y='", "]]>", "</system-out>", "\u{0}\u{1b}\u{fffe}", "&lt;"] {
            let (a, c) = (attribute(text), content(text));
            assert!(!a.contains(['"', '<', '>']) && !c.contains(['<', '>']), "{a} {c}");
            assert!(!a.chars().chain(c.chars()).any(|c| c.is_control() || c == '\u{fffe}'), "{a:?} {c:?}");
        }
    }
}
