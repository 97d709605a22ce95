//! What differs between two traces, span by span: durations, scores, inputs and outputs, attributes.
//!
//! The document serves the page, `?format=json` and `trace A --diff B`. Which spans belong together is decided in
//! [`trace_align`](super::trace_align).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::format::{self, rfc3339};
use super::style::{Style, Tone};
use super::text::{clean, cut, put, wrap};
use super::text_diff::{Piece, text_diff};
use super::trace_align::{Pair, align};
use super::trace_documents::{shown_value, trace_status};
use crate::model::{LogRecord, RunId, Span, SpanId, Status, TraceId};
use crate::store::rows::{SpanScore, TraceDetail};
use crate::trace::conversation::{self, Conversation, Message};
use crate::trace::semconv;

/// The document of two traces side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceDiff {
    /// The first trace.
    pub a: Side,
    /// The second trace.
    pub b: Side,
    /// The second's duration less the first's.
    pub duration_delta_ms: f64,
    /// How many spans both have.
    pub paired: u64,
    /// How many of these differ in more than their times.
    pub changed: u64,
    /// How many spans only the first has.
    pub only_a: u64,
    /// How many spans only the second has.
    pub only_b: u64,
    /// All spans of both, parents before children.
    pub spans: Vec<SpanDiff>,
}

/// One of the two traces.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// Its id.
    pub trace_id: TraceId,
    /// Earliest start of its spans.
    pub start_time: String,
    /// Latest end less earliest start.
    pub duration_ms: f64,
    /// `ok` or `error`.
    pub status: &'static str,
    /// How many spans it has.
    pub operations: u64,
    /// Name of its root span.
    pub root: String,
    /// The run it belongs to.
    pub run_id: Option<RunId>,
}

/// A pair of spans, or a span that only one trace has.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpanDiff {
    /// How many ancestors it has.
    pub depth: usize,
    /// Its name; the second's, if the two differ.
    pub name: String,
    /// The case that it is about, where it says so.
    pub case_id: Option<String>,
    /// The first trace's span.
    pub a: Option<SpanSide>,
    /// The second trace's span.
    pub b: Option<SpanSide>,
    /// The second's duration less the first's; `None` where one is missing or open.
    pub duration_delta_ms: Option<f64>,
    /// Scores of either, by name.
    pub scores: Vec<ScoreDiff>,
    /// What else differs; nothing for a span that only one trace has.
    pub changes: Vec<Change>,
}

/// One span of a pair.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpanSide {
    /// Its id.
    pub span_id: SpanId,
    /// Its name.
    pub name: String,
    /// How long it took; `None` while it is open.
    pub duration_ms: Option<f64>,
    /// `UNSET`, `OK` or `ERROR`.
    pub status: &'static str,
}

/// A score in both traces.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoreDiff {
    /// Its name.
    pub name: String,
    /// In the first: `1 (pass)`; `None` where there is none.
    pub a: Option<String>,
    /// In the second.
    pub b: Option<String>,
    /// The second's value less the first's, where both have one.
    pub delta: Option<f64>,
}

impl ScoreDiff {
    /// Whether the two differ.
    pub fn differs(&self) -> bool {
        self.a != self.b
    }
}

/// A text that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// `name`, `status`, `input`, `output` or `attribute`.
    pub what: &'static str,
    /// Name of the attribute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// In the first; `None` where it is not there.
    pub a: Option<String>,
    /// In the second.
    pub b: Option<String>,
}

impl SpanDiff {
    /// Whether the two differ in more than their times, or one is missing.
    pub fn differs(&self) -> bool {
        self.a.is_none() || self.b.is_none() || !self.changes.is_empty() || self.scores.iter().any(ScoreDiff::differs)
    }
}

/// What differs between two traces.
pub fn trace_diff(a: &TraceDetail, b: &TraceDetail) -> TraceDiff {
    let logs = [logs_by_span(a), logs_by_span(b)];
    let pairs = align(&a.spans, &b.spans);
    let spans: Vec<SpanDiff> = pairs.iter().map(|pair| span_diff(*pair, [a, b], &logs)).collect();
    let count = |wanted: fn(&SpanDiff) -> bool| spans.iter().filter(|span| wanted(span)).count() as u64;
    TraceDiff {
        a: side(a),
        b: side(b),
        duration_delta_ms: (b.row.duration_ns as f64 - a.row.duration_ns as f64) / 1e6,
        paired: count(|span| span.a.is_some() && span.b.is_some()),
        changed: count(|span| span.a.is_some() && span.b.is_some() && span.differs()),
        only_a: count(|span| span.b.is_none()),
        only_b: count(|span| span.a.is_none()),
        spans,
    }
}

fn side(detail: &TraceDetail) -> Side {
    Side {
        trace_id: detail.row.trace_id,
        start_time: rfc3339(detail.row.start_unix_nano),
        duration_ms: detail.row.duration_ns as f64 / 1e6,
        status: trace_status(&detail.row),
        operations: detail.row.operations,
        root: detail.row.root.clone(),
        run_id: detail.row.run_id.clone(),
    }
}

type LogsBySpan = BTreeMap<SpanId, Vec<LogRecord>>;

fn logs_by_span(detail: &TraceDetail) -> LogsBySpan {
    let mut logs = LogsBySpan::new();
    for (log, _) in &detail.logs {
        if let Some(span) = log.span_id {
            logs.entry(span).or_default().push(log.clone());
        }
    }
    logs
}

fn span_diff(pair: Pair, details: [&TraceDetail; 2], logs: &[LogsBySpan; 2]) -> SpanDiff {
    let spans = [pair.a.map(|i| &details[0].spans[i]), pair.b.map(|i| &details[1].spans[i])];
    let scores = [0, 1].map(|side| {
        spans[side].and_then(|span| details[side].scores.get(&span.span_id)).map_or(&[][..], Vec::as_slice)
    });
    let [a, b] = spans.map(|span| span.map(span_side));
    let duration = |side: &Option<SpanSide>| side.as_ref().and_then(|side| side.duration_ms);
    SpanDiff {
        depth: pair.depth,
        name: b.as_ref().or(a.as_ref()).map(|side| side.name.clone()).unwrap_or_default(),
        case_id: spans.iter().flatten().next().and_then(|span| span.get(semconv::TEST_CASE_ID)).map(shown_value),
        duration_delta_ms: duration(&b).zip(duration(&a)).map(|(b, a)| b - a),
        scores: score_diffs(scores),
        changes: match spans {
            [Some(a), Some(b)] => changes([a, b], logs),
            _ => Vec::new(),
        },
        a,
        b,
    }
}

fn span_side(span: &Span) -> SpanSide {
    SpanSide {
        span_id: span.span_id,
        name: span.name.to_string(),
        duration_ms: (!span.is_open()).then(|| span.end_unix_nano.saturating_sub(span.start_unix_nano) as f64 / 1e6),
        status: span.status.as_str(),
    }
}

fn score_diffs(scores: [&[SpanScore]; 2]) -> Vec<ScoreDiff> {
    let names: BTreeSet<&str> = scores.iter().flat_map(|side| side.iter().map(|score| score.name.as_str())).collect();
    let diff = |name: &str| {
        let [a, b] = scores.map(|side| side.iter().find(|score| score.name == name));
        let value = |score: Option<&SpanScore>| score.and_then(|score| score.evaluation.value());
        ScoreDiff {
            name: name.to_owned(),
            a: a.map(|score| super::waterfall::verdict_in_short(&score.evaluation)),
            b: b.map(|score| super::waterfall::verdict_in_short(&score.evaluation)),
            delta: value(b).zip(value(a)).map(|(b, a)| b - a),
        }
    };
    names.into_iter().map(diff).collect()
}

fn changes(spans: [&Span; 2], logs: &[LogsBySpan; 2]) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut note = |what, key: Option<&str>, a: Option<String>, b: Option<String>| {
        if a != b {
            changes.push(Change { what, key: key.map(str::to_owned), a, b });
        }
    };
    let [a, b] = spans;
    note("name", None, Some(a.name.to_string()), Some(b.name.to_string()));
    note("status", None, Some(status(a)), Some(status(b)));
    let talks = [0, 1].map(|side| {
        let logs = logs[side].get(&spans[side].span_id).map_or(&[][..], Vec::as_slice);
        conversation::conversation(spans[side], logs)
    });
    let said = |pick: fn(&Conversation) -> String| {
        talks.each_ref().map(pick).map(|text| Some(text).filter(|text| !text.is_empty()))
    };
    let [input_a, input_b] = said(|talk| transcript(talk.input()));
    note("input", None, input_a, input_b);
    let [output_a, output_b] = said(|talk| transcript(talk.output()));
    note("output", None, output_a, output_b);
    // In the order of the first, then what only the second has.
    let keys = a.attributes.iter().map(|(key, _)| &**key);
    let new = b.attributes.iter().map(|(key, _)| &**key).filter(|key| a.get(key).is_none());
    for key in keys.chain(new).filter(|key| tells(key)) {
        let [a, b] = spans.map(|span| span.get(key).map(shown_value));
        note("attribute", Some(key), a, b);
    }
    changes
}

fn status(span: &Span) -> String {
    match &span.status {
        Status::Error(message) if !message.is_empty() => format!("ERROR: {message}"),
        status => status.as_str().to_owned(),
    }
}

/// Messages one below the other, each under its speaker.
fn transcript<'m>(messages: impl Iterator<Item = &'m Message>) -> String {
    let lines: Vec<String> = messages
        .map(|message| {
            let why = message.finish_reason.as_ref().filter(|why| *why != "stop");
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            format!("{}{why}: {}", message.role, message.text())
        })
        .collect();
    lines.join("\n")
}

/// Whether a difference in this attribute says something: not what differs between any two calls, nor what is shown as
/// a score or as a message.
fn tells(key: &str) -> bool {
    let always_different = [
        semconv::GEN_AI_RESPONSE_ID,
        semconv::TEST_SUITE_RUN_ID,
        semconv::TEST_CASE_RESULT_STATUS,
        semconv::SERVER_PORT,
    ];
    let scores = [
        semconv::SPANSCORE_SCORE_PREFIX,
        semconv::SPANSCORE_LABEL_PREFIX,
        semconv::EVALUATIONS_PREFIX,
        semconv::GEN_AI_EVALUATION_PREFIX,
    ];
    !always_different.contains(&key)
        && !scores.iter().any(|prefix| key.starts_with(prefix))
        && !conversation::carries(key)
}

/// The differences as text: each pair on a line, below it what differs.
pub fn render(diff: &TraceDiff, style: Style) -> String {
    let mut out = String::new();
    for (name, side) in [("A", &diff.a), ("B", &diff.b)] {
        let run = side.run_id.as_ref().map(|run| format!("   run {run}")).unwrap_or_default();
        put!(
            out,
            "{name} {}  {}   duration {}   {}   operations {}{run}\n",
            style.paint(Tone::Strong, &side.trace_id.to_string()),
            side.start_time,
            format::milliseconds(Some(side.duration_ms)),
            side.status,
            format::count(side.operations)
        );
    }
    put!(
        out,
        "{} operations in both, {} of them differ; {} only in A, {} only in B; B took {}\n\n",
        format::count(diff.paired),
        format::count(diff.changed),
        format::count(diff.only_a),
        format::count(diff.only_b),
        longer(diff.duration_delta_ms)
    );
    let mut alike = 0;
    for span in &diff.spans {
        // Of many pairs only those that differ are of interest.
        if diff.spans.len() > 60 && !span.differs() {
            alike += 1;
            continue;
        }
        let indent = "  ".repeat(span.depth.min(12));
        let mark = match (&span.a, &span.b) {
            (None, _) => style.paint(Tone::Good, "+ "),
            (_, None) => style.paint(Tone::Bad, "- "),
            _ => "  ".to_owned(),
        };
        let times = match (&span.a, &span.b) {
            (Some(a), Some(b)) => {
                let delta = span.duration_delta_ms.map(|delta| format!("  {}", longer(delta))).unwrap_or_default();
                format!("{} → {}{delta}", format::milliseconds(a.duration_ms), format::milliseconds(b.duration_ms))
            }
            (Some(side), None) => format!("{}  only in A", format::milliseconds(side.duration_ms)),
            (None, Some(side)) => format!("{}  only in B", format::milliseconds(side.duration_ms)),
            (None, None) => String::new(),
        };
        let case = span.case_id.as_ref().map(|case| format!(" {case}")).unwrap_or_default();
        let name = cut(&format!("{}{case}", span.name), 70);
        put!(out, "{mark}{indent}{name}  {}\n", style.paint(Tone::Faint, &times));
        let below = format!("  {indent}    ");
        for score in span.scores.iter().filter(|score| score.differs()) {
            let shown = |side: &Option<String>| side.clone().unwrap_or_else(|| format::ABSENT.to_owned());
            let line = format!("{} {} → {}", score.name, shown(&score.a), shown(&score.b));
            put!(out, "{below}{}\n", style.paint(Tone::Warn, &clean(&line)));
        }
        for change in &span.changes {
            changed(&mut out, change, &below, style);
        }
    }
    if alike > 0 {
        put!(out, "… {} operations that are alike are not shown\n", format::count(alike));
    }
    out
}

fn changed(out: &mut String, change: &Change, below: &str, style: Style) {
    let key = change.key.as_ref().map(|key| format!(" {key}")).unwrap_or_default();
    let mut text = clean(&format!("{}{key}: ", change.what)).into_owned();
    let head = |side: &Option<String>| side.as_ref().map(|side| side.chars().take(20_000).collect::<String>());
    match (head(&change.a), head(&change.b)) {
        (Some(a), Some(b)) => {
            for piece in text_diff(&a, &b) {
                match piece {
                    Piece::Same(same) => text.push_str(&clean(&same)),
                    // Marks and colour: one of them is always seen.
                    Piece::Removed(gone) => put!(text, "[-{}-]", clean(&gone)),
                    Piece::Added(new) => put!(text, "{{+{}+}}", clean(&new)),
                    Piece::Cut(n) => put!(text, " …{} characters alike… ", format::count(n as u64)),
                }
            }
        }
        (Some(a), None) => put!(text, "[-{}-]", clean(&a)),
        (None, Some(b)) => put!(text, "{{+{}+}}", clean(&b)),
        (None, None) => {}
    }
    for line in wrap(&text, style.width.saturating_sub(below.len()).max(30)) {
        put!(out, "{below}{line}\n");
    }
}

/// `+12.3 ms`.
fn longer(delta_ms: f64) -> String {
    if delta_ms == 0.0 {
        return "±0".to_owned();
    }
    let sign = if delta_ms < 0.0 { '−' } else { '+' };
    format!("{sign}{}", format::milliseconds(Some(delta_ms.abs())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Evaluation, Value};
    use crate::report::fixture;

    /// The fixture's trace and one like it with another answer, another model and a span more.
    fn two() -> (TraceDetail, TraceDetail) {
        let mut a = fixture::trace();
        a.spans[2].set(
            semconv::GEN_AI_OUTPUT_MESSAGES,
            r#"[{"role":"assistant","content":"The claim is True."}]"#.to_owned(),
        );
        a.spans[2].set(semconv::GEN_AI_RESPONSE_ID, "one");
        let mut b = a.clone();
        b.row.trace_id = TraceId::from_bytes([9; 16]);
        b.spans[2]
            .attributes
            .retain(|(key, _)| key != semconv::GEN_AI_OUTPUT_MESSAGES && key != semconv::GEN_AI_RESPONSE_ID);
        b.spans[2]
            .set(semconv::GEN_AI_OUTPUT_MESSAGES, r#"[{"role":"assistant","content":"The claim is NEE."}]"#.to_owned());
        b.spans[2].set(semconv::GEN_AI_RESPONSE_ID, "two");
        b.spans[2].set(semconv::GEN_AI_REQUEST_SEED, Value::Int(7));
        b.spans[2].end_unix_nano += 40_000_000;
        b.spans[2].name = "chat another-model".into();
        let mut more = b.spans[2].clone();
        more.span_id = fixture::span_id(77);
        more.name = "lookup \u{1b}[31m".into();
        b.spans.push(more);
        for scores in b.scores.values_mut() {
            for score in scores {
                score.evaluation = Evaluation::assertion(false);
            }
        }
        (a, b)
    }

    #[test]
    fn what_differs_is_told_pair_by_pair() {
        let (a, b) = two();
        insta::assert_snapshot!(render(&trace_diff(&a, &b), Style::plain(110)), @r#"
        A 0af7651916cd43dd8448eb211c80319c  2026-11-22T15:45:01.000000000Z   duration 120 ms   error   operations 7   run 20261122-154501-3f9a2c
        B 09090909090909090909090909090909  2026-11-22T15:45:01.000000000Z   duration 120 ms   error   operations 7   run 20261122-154501-3f9a2c
        7 operations in both, 2 of them differ; 0 only in A, 1 only in B; B took ±0

          assess_claims_with_context  100 ms → 100 ms  ±0
            assess_claim claims-001  35.0 ms → 35.0 ms  ±0
                label_match 1 (pass) → 0 (fail)
              chat another-model  28.0 ms → 68.0 ms  +40.0 ms
                  name: chat [-lexical-baseline-]{+another-model+}
                  output: assistant: The claim is [-True.-]{+NEE.+}
                  attribute gen_ai.request.seed: {+7+}
        +     lookup ␛[31m  68.0 ms  only in B
            assess_claim  47.0 ms → 47.0 ms  ±0
              chat lexical-baseline  35.0 ms → 35.0 ms  ±0
            late  – → –
          stray  40.0 ms → 40.0 ms  ±0
        "#);
    }

    #[test]
    fn a_trace_does_not_differ_from_itself() {
        let (a, _) = two();
        let diff = trace_diff(&a, &a);
        assert_eq!((diff.changed, diff.only_a, diff.only_b, diff.paired), (0, 0, 0, a.spans.len() as u64));
    }

    #[test]
    fn the_document_names_what_differs() {
        let (a, b) = two();
        let diff = trace_diff(&a, &b);
        assert_eq!((diff.changed, diff.only_b), (2, 1));
        let chat = diff.spans.iter().find(|span| span.name == "chat another-model").expect("paired");
        let changes: Vec<(&str, Option<&str>)> =
            chat.changes.iter().map(|change| (change.what, change.key.as_deref())).collect();
        assert_eq!(changes, [("name", None), ("output", None), ("attribute", Some(semconv::GEN_AI_REQUEST_SEED))]);
        assert_eq!(chat.duration_delta_ms, Some(40.0));
        let scored = diff.spans.iter().find(|span| !span.scores.is_empty()).expect("a score");
        assert_eq!(scored.scores[0].delta, Some(-1.0));
    }
}
