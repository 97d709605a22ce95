//! A trace on the terminal: its spans as a tree with bars to scale, what went wrong in words and marks, and one span's
//! attributes on demand.

use crate::model::{Evaluation, Span, SpanId, Status, Value};
use crate::store::rows::{SpanScore, TraceDetail};
use crate::trace::semconv;
use crate::trace::tree::{Marks, Tree};

use super::format::{self, ABSENT, count};
use super::style::{Style, Tone};
use super::text::{clean, cut, named, pad, put, wrap};
use super::trace_documents::{shown_value, trace_status};

/// Beyond this many spans only those that matter are shown.
const WHOLE: usize = 2_000;
/// How deep the drawing is indented at most; deeper spans say their depth in a number.
const DEEPEST: usize = 12;

/// The trace with all its spans; of a large one the first rows of the tree, its errors and their ancestors.
pub fn render(detail: &TraceDetail, style: Style) -> String {
    let tree = Tree::build(&detail.spans);
    let mut out = header(detail, style);
    let shown = shown_nodes(detail, &tree);
    let left = (style.width * 9 / 20).clamp(28, 64);
    let bar_width = style.width.saturating_sub(left + 14).clamp(10, 80);
    let scale = Scale { start: detail.row.start_unix_nano, length: detail.row.duration_ns.max(1), columns: bar_width };
    let mut skipped = 0;
    let mut open_at_depth: Vec<bool> = Vec::new();
    for (position, node) in tree.nodes.iter().enumerate() {
        open_at_depth.truncate(node.depth);
        open_at_depth.push(!node.last);
        if !shown[position] {
            skipped += 1;
            continue;
        }
        gap(&mut out, style, &mut skipped);
        let span = &detail.spans[node.span];
        let branch = branch(&open_at_depth, node.depth, node.last);
        let mark = status_mark(&span.status);
        let name = cut(&format!("{branch}{mark}{}", named(&span.name, left)), left);
        let failed = matches!(span.status, Status::Error(_));
        let name = pad(&name, left);
        let name = if failed { style.paint(Tone::Bad, &name) } else { name };
        let line = format!("{name} {:>10}  {}", duration(span), scale.bar(span));
        out.push_str(line.trim_end());
        let notes = notes(span, node.marks, detail.scores.get(&span.span_id));
        if !notes.is_empty() {
            // Under the children's line, so that the tree stays whole.
            let below = continuation(&open_at_depth, node.depth, node.descendants > 0);
            for line in wrap(&notes.join(" · "), style.width.saturating_sub(super::text::width(&below)).max(20)) {
                put!(out, "\n{below}{}", style.paint(Tone::Faint, &line));
            }
        }
        out.push('\n');
    }
    gap(&mut out, style, &mut skipped);
    out
}

/// The first span whose id begins with `prefix`, if it is the only one.
pub fn find_span<'a>(detail: &'a TraceDetail, prefix: &str) -> Result<&'a Span, Vec<SpanId>> {
    let prefix = prefix.to_ascii_lowercase();
    let found: Vec<&Span> = detail.spans.iter().filter(|span| span.span_id.to_string().starts_with(&prefix)).collect();
    match found.as_slice() {
        [span] => Ok(span),
        _ => Err(found.iter().map(|span| span.span_id).collect()),
    }
}

/// Everything about one span.
pub fn span(detail: &TraceDetail, span: &Span, style: Style) -> String {
    let mut out = style.paint(Tone::Strong, &clean(&span.name));
    put!(out, "  {} of trace {}\n", span.span_id, detail.row.trace_id);
    let status = match &span.status {
        Status::Error(message) if !message.is_empty() => format!("ERROR: {message}"),
        status => status.as_str().to_owned(),
    };
    let mut pairs = vec![
        ("kind".to_owned(), span.kind.as_str().to_owned()),
        ("start".to_owned(), format::rfc3339(span.start_unix_nano)),
        ("duration".to_owned(), duration(span)),
        ("status".to_owned(), status),
        ("parent".to_owned(), span.parent_span_id.map_or_else(|| ABSENT.to_owned(), |id| id.to_string())),
    ];
    section(&mut out, style, None, &pairs);
    if let Some(scores) = detail.scores.get(&span.span_id) {
        pairs = scores.iter().map(|score| (score.name.clone(), verdict(&score.evaluation))).collect();
        section(&mut out, style, Some("Scores"), &pairs);
    }
    pairs = attribute_lines(&span.attributes);
    section(&mut out, style, Some("Attributes"), &pairs);
    for event in &span.events {
        let after = event.time_unix_nano.saturating_sub(span.start_unix_nano);
        let title = format!("Event {} after {}", event.name, format::duration(after));
        section(&mut out, style, Some(&title), &attribute_lines(&event.attributes));
    }
    for link in &span.links {
        let title = format!("Link to span {} of trace {}", link.span_id, link.trace_id);
        section(&mut out, style, Some(&title), &attribute_lines(&link.attributes));
    }
    let place = detail.spans.iter().position(|known| known.span_id == span.span_id).unwrap_or(0);
    if let Some(origin) = detail.origin(place) {
        section(&mut out, style, Some("Resource"), &attribute_lines(&origin.resource));
    }
    let dropped = [
        (span.dropped_attributes_count, "attributes"),
        (span.dropped_events_count, "events"),
        (span.dropped_links_count, "links"),
    ];
    for (n, what) in dropped.into_iter().filter(|(n, _)| *n > 0) {
        put!(out, "\n{n} {what} were dropped by the sender\n");
    }
    out
}

fn attribute_lines(attributes: &[(crate::model::Key, Value)]) -> Vec<(String, String)> {
    attributes.iter().map(|(key, value)| (key.to_string(), shown_value(value))).collect()
}

fn section(out: &mut String, style: Style, title: Option<&str>, pairs: &[(String, String)]) {
    let heading = title.filter(|title| !pairs.is_empty() || title.starts_with("Event") || title.starts_with("Link"));
    if let Some(title) = heading {
        put!(out, "\n{}\n", style.paint(Tone::Strong, &clean(title)));
    }
    let widest = pairs.iter().map(|(name, _)| super::text::width(name)).max().unwrap_or(0).min(44);
    let columns = style.width.saturating_sub(widest + 4).max(24);
    for (name, value) in pairs {
        let name = pad(&clean(name), widest);
        for (i, line) in wrap(value, columns).into_iter().enumerate() {
            let lead = if i == 0 { style.paint(Tone::Faint, &name) } else { pad("", widest) };
            out.push_str(format!("  {lead}  {line}").trim_end());
            out.push('\n');
        }
    }
}

fn header(detail: &TraceDetail, style: Style) -> String {
    let row = &detail.row;
    let mut out = style.paint(Tone::Strong, &format!("Trace {}", row.trace_id));
    let status = if row.error { style.paint(Tone::Bad, "✗ error") } else { format!("✓ {}", trace_status(row)) };
    put!(
        out,
        "\n  start {}   duration {}   status {status}   operations {}\n",
        format::rfc3339(row.start_unix_nano),
        format::duration(row.duration_ns),
        count(row.operations)
    );
    let mut about = Vec::new();
    about.extend(row.service.as_ref().map(|service| format!("service {service}")));
    about.extend(row.run_id.as_ref().map(|run| format!("run {run}")));
    about.extend(row.scores.iter().map(|(id, mean)| format!("mean {id} {mean:.3}")));
    if !about.is_empty() {
        put!(out, "  {}\n", clean(&about.join("   ")));
    }
    out.push('\n');
    out
}

/// Which nodes are shown: all of a trace of moderate size; else the first ones, those with errors, and their ancestors.
fn shown_nodes(detail: &TraceDetail, tree: &Tree) -> Vec<bool> {
    let n = tree.nodes.len();
    let mut shown = vec![n <= WHOLE; n];
    if n > WHOLE {
        let failed = (0..n).filter(|&i| matches!(detail.spans[tree.nodes[i].span].status, Status::Error(_)));
        for position in (0..WHOLE / 4).chain(failed.take(WHOLE / 4)) {
            let mut at = Some(position);
            while let Some(i) = at.filter(|&i| !shown[i]) {
                shown[i] = true;
                at = tree.nodes[i].parent;
            }
        }
    }
    shown
}

fn gap(out: &mut String, style: Style, skipped: &mut usize) {
    if *skipped > 0 {
        let line = format!("… {} operations without errors not shown (--raw has all)", count(*skipped as u64));
        out.push_str(&style.paint(Tone::Faint, &line));
        out.push('\n');
    }
    *skipped = 0;
}

/// The lines of the tree left of a name.
fn branch(open_at_depth: &[bool], depth: usize, last: bool) -> String {
    if depth == 0 {
        return String::new();
    }
    if depth > DEEPEST {
        return format!("{}({depth}) ", "  ".repeat(DEEPEST - 2));
    }
    let above = open_at_depth.get(1..depth).unwrap_or_default();
    let mut lines: String = above.iter().map(|open| if *open { "│ " } else { "  " }).collect();
    lines.push_str(if last { "└ " } else { "├ " });
    lines
}

/// The lines of the tree left of what stands under a name.
fn continuation(open_at_depth: &[bool], depth: usize, children: bool) -> String {
    let depth = depth.min(DEEPEST);
    let above = open_at_depth.get(1..=depth).unwrap_or_default();
    let mut lines: String = above.iter().map(|open| if *open { "│ " } else { "  " }).collect();
    lines.push_str(if children { "│   " } else { "    " });
    lines
}

fn status_mark(status: &Status) -> &'static str {
    match status {
        Status::Error(_) => "✗ ",
        Status::Ok => "✓ ",
        Status::Unset => "",
    }
}

fn duration(span: &Span) -> String {
    if span.is_open() {
        return "open".to_owned();
    }
    format::duration(span.end_unix_nano.saturating_sub(span.start_unix_nano))
}

/// What is to be said of a span beside its name: errors, oddities, events that failed, scores.
fn notes(span: &Span, marks: Marks, scores: Option<&Vec<SpanScore>>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(Value::Str(id)) = span.get(semconv::TEST_CASE_ID) {
        notes.push(format!("case {id}"));
    }
    if let Status::Error(message) = &span.status {
        notes.push(if message.is_empty() { "error".to_owned() } else { format!("error: {message}") });
    }
    let oddities = [
        (marks.orphan, "orphan: its parent is not in the store"),
        (marks.cycle, "cycle: its parent is below itself"),
        (marks.before_parent, "began before its parent"),
        (marks.outlives_parent, "outlived its parent"),
    ];
    notes.extend(oddities.iter().filter(|(on, _)| *on).map(|(_, text)| format!("⚠ {text}")));
    for score in scores.into_iter().flatten() {
        notes.push(format!("{} {}", score.name, verdict_in_short(&score.evaluation)));
    }
    notes
}

/// The outcome of an evaluation in a few characters: `1 (pass)`, `! timeout`, `–` where it does not apply.
pub fn verdict_in_short(evaluation: &Evaluation) -> String {
    match (evaluation, evaluation.value(), evaluation.label()) {
        (_, Some(value), Some(label)) => format!("{} ({label})", format::score(value)),
        (_, Some(value), None) => format::score(value),
        (_, None, Some(label)) => label.to_owned(),
        (Evaluation::Failed { error_type, .. }, ..) => format!("! {error_type}"),
        _ => ABSENT.to_owned(),
    }
}

fn verdict(evaluation: &Evaluation) -> String {
    let short = verdict_in_short(evaluation);
    match evaluation {
        Evaluation::Scored { explanation: Some(why), .. } => format!("{short}: {why}"),
        Evaluation::Failed { message, .. } => format!("{short}: {message}"),
        Evaluation::Skipped { reason } => format!("{short} skipped: {reason}"),
        Evaluation::Scored { .. } => short,
    }
}

/// Time drawn as columns.
struct Scale {
    start: u64,
    length: u64,
    columns: usize,
}

impl Scale {
    /// The bar of a span: at least one column wide, an open span up to the end with an arrow.
    fn bar(&self, span: &Span) -> String {
        let column = |time: u64| {
            let share = time.saturating_sub(self.start) as f64 / self.length as f64;
            ((share * self.columns as f64) as usize).min(self.columns)
        };
        let from = column(span.start_unix_nano).min(self.columns - 1);
        if span.is_open() {
            return format!("{}{}▶", " ".repeat(from), "─".repeat(self.columns - 1 - from));
        }
        let to = column(span.end_unix_nano).max(from + 1);
        format!("{}{}", " ".repeat(from), "█".repeat(to - from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_trace_is_drawn_to_scale_with_its_scores_and_faults() {
        insta::assert_snapshot!(render(&fixture::trace(), Style::plain(100)), @r#"
        Trace 0af7651916cd43dd8448eb211c80319c
          start 2026-11-22T15:45:01.000000000Z   duration 120 ms   status ✗ error   operations 7
          service spanscore   run 20261122-154501-3f9a2c   mean label_match 1.000

        assess_claims_with_context                        100 ms  ██████████████████████████████████
        ├ assess_claim                                   35.0 ms     ████████████
        │ │   case claims-001 · label_match 1 (pass)
        │ └ chat lexical-baseline                        28.0 ms      █████████
        ├ ✗ assess_claim                                 47.0 ms                   ████████████████
        │ │   error
        │ └ ✗ chat lexical-baseline                      35.0 ms                      ████████████
        │       error: 429 rate limit reached
        └ late                                              open                                ──────────▶
        stray                                            40.0 ms                             ██████████████
            ⚠ orphan: its parent is not in the store
        "#);
    }

    #[test]
    fn a_span_shows_everything_it_carries() {
        let mut trace = fixture::trace();
        let scores = trace.scores.remove(&fixture::span_id(2)).expect("scored");
        trace.scores.insert(fixture::span_id(5), scores);
        trace.spans[4].add_link(fixture::trace_id(), fixture::span_id(9), Vec::new());
        trace.spans[4].set("list", Value::Array(vec![1i64.into(), f64::NAN.into(), Value::Bytes(vec![1, 2])]));
        trace.spans[4].set("note", "two\nlines \u{1b}[2J");
        insta::assert_snapshot!(span(&trace, &trace.spans[4], Style::plain(100)), @r#"
        chat lexical-baseline  b7ad6b7169203305 of trace 0af7651916cd43dd8448eb211c80319c
          kind      INTERNAL
          start     2026-11-22T15:45:01.060000000Z
          duration  35.0 ms
          status    ERROR: 429 rate limit reached
          parent    b7ad6b7169203304

        Scores
          label_match  1 (pass): True as expected

        Attributes
          list  [1,"NaN","AQI="]
          note  two lines ␛[2J

        Event spanscore.attempt.failed after 10.0 ms
          error.type  429

        Link to span b7ad6b7169203309 of trace 0af7651916cd43dd8448eb211c80319c

        Resource
          service.name  spanscore
        "#);
    }

    #[test]
    fn spans_are_found_by_a_unique_prefix() {
        let trace = fixture::trace();
        assert_eq!(find_span(&trace, "B7AD6B7169203305").map(|span| span.span_id), Ok(fixture::span_id(5)));
        assert_eq!(find_span(&trace, "b7").map_err(|found| found.len()), Err(7));
        assert_eq!(find_span(&trace, "00"), Err(Vec::new()));
    }

    #[test]
    fn a_large_trace_shows_its_errors_and_says_what_it_leaves_out() {
        let mut trace = fixture::trace();
        let root = trace.spans[0].clone();
        for i in 0..5000u64 {
            let mut span = root.clone();
            span.span_id = SpanId::from_bytes((i + 1).to_be_bytes());
            span.parent_span_id = Some(root.span_id);
            span.start_unix_nano += 100_000 + i;
            trace.spans.push(span);
        }
        trace.spans[5000].status = Status::Error("deep down".to_owned());
        let shown = render(&trace, Style::plain(100));
        assert!(shown.contains("error: deep down"), "the failed span is shown");
        assert!(shown.lines().count() < 700, "{}", shown.lines().count());
        assert!(shown.contains("operations without errors not shown"));
    }

    #[test]
    fn deep_and_broken_traces_are_drawn_all_the_same() {
        let mut trace = fixture::trace();
        let first = trace.spans[0].clone();
        trace.spans = (0..300u64)
            .map(|i| {
                let mut span = first.clone();
                span.span_id = SpanId::from_bytes(i.to_be_bytes());
                // The first points at the last: one large cycle.
                span.parent_span_id = Some(SpanId::from_bytes(((i + 299) % 300).to_be_bytes()));
                span
            })
            .collect();
        let shown = render(&trace, Style::plain(60));
        assert!(shown.contains("cycle: its parent is below itself") && shown.contains("(299)"), "{shown}");
    }
}
