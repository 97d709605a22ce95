//! The timeline: a table of operations in the shape of their tree, each with its bar to scale, drawn as SVG by the server.

use maud::{Markup, html};

use super::super::layout::text;
use super::scene::{ERROR, HERE, Scene};
use super::window::{self, Line, PAGE, WHOLE, Wanted, Window};
use crate::model::{Evaluation, SpanKind};
use crate::report::format::{self, count};
use crate::report::text::{cut, named};
use crate::store::rows::SpanScore;
use crate::trace::critical_path::{Segment, critical_path};

/// Deeper spans are not indented further; they say their depth in a number.
const DEEPEST: usize = 12;
/// How many columns of a name are shown.
const NAME: usize = 72;
/// How many low scores stand beside a name; where none is low, the first score does.
const BADGES: usize = 2;
/// How many stretches of the critical path are drawn on one bar.
const STRETCHES: usize = 24;
/// How many bands the map of a large trace has.
const BANDS: usize = 48;

/// The table, with the map of a large trace above it.
pub(super) fn timeline(scene: &Scene) -> Markup {
    let faults = scene.faults();
    let page = scene.context.parameter("page").and_then(|page| page.parse::<usize>().ok());
    let wanted = Wanted {
        folded: &scene.folded,
        // What nobody chose does not decide where the page begins; it is in sight as one of the faults.
        selected: scene.selected.filter(|_| scene.chosen),
        page: page.map(|page| page.saturating_sub(1)),
        hits: &scene.hits,
        faults: &faults,
    };
    let window = window::window(&scene.tree, &wanted);
    let path = if scene.tree.nodes.len() <= WHOLE { on_path(scene) } else { Vec::new() };
    let row = Row { scene, prefix: scene.row_prefix(), path, hits: &scene.hits };
    html! {
        @if window.pages > 1 { (map(scene, &window)) }
        div.scroll {
            table.waterfall data-rows="" {
                caption.visually-hidden { "Operations of the trace, callers before what they called" }
                thead {
                    tr {
                        th scope="col" { "Operation" }
                        th.number scope="col" { "Duration" }
                        th.axis scope="col" { span.visually-hidden { "Timeline" } (axis(scene)) }
                    }
                }
                tbody {
                    @for line in &window.lines {
                        @match *line {
                            Line::Span(position) => (row.markup(position)),
                            Line::Gap { count, faults, first } => (gap(&row, count, faults, first)),
                        }
                    }
                }
            }
        }
        @if window.pages > 1 { (pager(scene, &window)) }
        (legend(scene, &window))
    }
}

/// What the colours mean, of those that are there.
fn legend(scene: &Scene, window: &Window) -> Markup {
    let shown = || {
        window.lines.iter().filter_map(|line| match *line {
            Line::Span(position) => Some(scene.span(position)),
            Line::Gap { .. } => None,
        })
    };
    let kinds = [("i", "internal"), ("k", "client: a call to another service"), ("s", "server"), ("q", "messages")];
    let there = |class: &str| shown().any(|span| span.status != ERROR && kind_class(span.kind) == class);
    html! {
        p.legend {
            @for (class, word) in kinds.iter().filter(|(class, _)| there(class)) { span { (swatch(class)) (word) } }
            @if !scene.errors.is_empty() { span { (swatch("e")) "failed" } }
            @if scene.tree.nodes.len() <= WHOLE { span { (swatch("cp")) "on the critical path" } }
        }
    }
}

fn swatch(class: &str) -> Markup {
    let (y, height) = if class == "cp" { ("70%", "20%") } else { ("0", "100%") };
    html! { svg aria-hidden="true" { rect class=(class) x="0" y=(y) width="100%" height=(height) {} } }
}

/// What all rows share.
struct Row<'s> {
    scene: &'s Scene,
    prefix: String,
    /// Stretches of the critical path by position; empty for a large trace.
    path: Vec<Vec<Segment>>,
    hits: &'s [usize],
}

impl Row<'_> {
    fn markup(&self, position: usize) -> Markup {
        let scene = self.scene;
        let (span, node) = (scene.span(position), &scene.tree.nodes[position]);
        let failed = span.status == ERROR;
        let selected = scene.selected == Some(position);
        let scores = scene.scores(position);
        let low = scores.first().is_some_and(|score| scene.is_low(score));
        let hit = self.hits.binary_search(&position).is_ok();
        let class = [(selected, "current"), (failed, "failed"), (low, "low"), (hit, "hit")];
        let class: Vec<&str> = class.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        let lows = scores.iter().filter(|score| scene.is_low(score)).count();
        let shown = lows.clamp(1, BADGES).min(scores.len());
        let length = if span.end_unix_nano == 0 {
            "open".to_owned()
        } else {
            format::duration(span.end_unix_nano.saturating_sub(span.start_unix_nano))
        };
        html! {
            tr data-row id=[selected.then_some("here")] class=[(!class.is_empty()).then(|| class.join(" "))] {
                th scope="row" class={ "d" (node.depth.min(DEEPEST)) } {
                    @if node.depth > DEEPEST { span.depth title="How many operations are above it" { (node.depth) } }
                    @if node.descendants > 0 { (self.fold(position)) }
                    a data-open aria-current=[selected.then_some("true")] href={ (self.prefix) (span.span_id) (HERE) } { (named(&span.name, NAME)) }
                    @if let Some(case) = scene.cases.get(&span.span_id) { " " span.muted { (cut(case.as_str(), 32)) } }
                    @if failed { " " span.badge.error { "error" } }
                    (oddities(scene, position))
                    @for score in scores.iter().take(shown) { " " (short_badge(score, scene.is_low(score))) }
                    @if scores.len() > shown { " " span.muted title=(listed(&scores[shown..])) { "+" (scores.len() - shown) } }
                }
                td.number { (length) }
                td { (self.bar(position)) }
            }
        }
    }

    /// Folds or unfolds what is below; a folded one says how much that is.
    fn fold(&self, position: usize) -> Markup {
        let scene = self.scene;
        let node = &scene.tree.nodes[position];
        let Some(address) = scene.fold(position) else { return Markup::default() };
        if !scene.folded.contains(&position) {
            // In a large trace the address of each row counts; there only what holds much can be folded.
            if scene.tree.nodes.len() > WHOLE && node.descendants < 20 || node.depth > DEEPEST {
                return Markup::default();
            }
            return html! { a.fold href=(address) aria-label="Fold" { "▾" } };
        }
        let below = position + 1..=position + node.descendants;
        let inside = |list: &[usize]| list.iter().filter(|at| below.contains(at)).count() as u64;
        let (errors, lows) = (inside(&scene.errors), inside(&scene.lows));
        html! {
            a.fold href=(address) aria-label="Unfold" { "▸" }
            span.badge { (count(node.descendants as u64)) " folded"
                @if errors > 0 { ", " (count(errors)) " failed" }
                @if lows > 0 { ", " (count(lows)) " low" }
            }
            " "
        }
    }

    fn bar(&self, position: usize) -> Markup {
        let scene = self.scene;
        let span = scene.span(position);
        let scale = Scale::of(scene);
        let open = span.end_unix_nano == 0;
        let end = if open { scene.to } else { span.end_unix_nano };
        let (x, width) = scale.place(span.start_unix_nano, end);
        let class = if span.status == ERROR { "e" } else { kind_class(span.kind) };
        html! {
            svg.lane aria-hidden="true" {
                @if scale.sees(span.start_unix_nano, end) {
                    rect class={ (class) @if open { " open" } } x=(x) width=(width) {}
                    @for segment in self.path.get(position).into_iter().flatten().take(STRETCHES) {
                        @let (x, width) = scale.place(segment.from_unix_nano, segment.to_unix_nano);
                        @if scale.sees(segment.from_unix_nano, segment.to_unix_nano) { rect.cp x=(x) width=(width) {} }
                    }
                }
            }
        }
    }
}

fn gap(row: &Row<'_>, left_out: usize, faults: usize, first: usize) -> Markup {
    let scene = row.scene;
    html! {
        tr.gap data-row {
            td colspan="3" {
                a data-open href={ (row.prefix) (scene.span(first).span_id) (HERE) } {
                    "⋯ " (count(left_out as u64)) @if left_out == 1 { " operation" } @else { " operations" } " not shown"
                    @if faults > 0 { ", " (count(faults as u64)) " of them failed, scored low or found" }
                }
            }
        }
    }
}

/// What is odd about a span's place in the tree, in words.
pub(super) fn oddities(scene: &Scene, position: usize) -> Markup {
    let marks = scene.tree.nodes[position].marks;
    let list = [
        (marks.orphan, "orphan", "Its parent is not in the store"),
        (marks.cycle, "cycle", "Its parent is one of its own descendants; the tree is cut here"),
        (marks.before_parent, "early", "It began before its parent did: the clocks disagree, or it was queued"),
        (marks.outlives_parent, "outlives parent", "It ended after its parent did"),
    ];
    html! {
        @for (_, word, why) in list.iter().filter(|(on, ..)| *on) { " " span.badge.odd title=(why) { (word) } }
    }
}

/// A score as a badge: its name, value and label, and in words whether it is low, broken or skipped.
pub(super) fn score_badge(score: &SpanScore, low: bool) -> Markup {
    let name = cut(&score.name, 40);
    match &score.evaluation {
        Evaluation::Failed { error_type, .. } => {
            html! { span.badge.error { (name) " failed: " (cut(error_type, 40)) } }
        }
        Evaluation::Skipped { .. } => html! { span.badge.skipped { (name) " skipped" } },
        evaluation @ Evaluation::Scored { .. } => html! {
            span.badge.low[low] title=[low.then_some("low score")] { @if low { "▼ " } (name) " " (verdict(evaluation)) }
        },
    }
}

/// Scores on one line, for a title.
fn listed(scores: &[&SpanScore]) -> String {
    let shown = scores.iter().take(12).map(|score| format!("{} {}", cut(&score.name, 40), verdict(&score.evaluation)));
    shown.collect::<Vec<_>>().join(", ")
}

/// The same in a row of the timeline, where space is short: without the label if there is a number.
fn short_badge(score: &SpanScore, low: bool) -> Markup {
    match score.evaluation.value() {
        Some(value) => html! {
            span.badge.low[low] title=[low.then_some("low score")] { @if low { "▼ " } (cut(&score.name, 24)) " " (format::score(value)) }
        },
        None => score_badge(score, low),
    }
}

/// `1 (pass)`.
pub(super) fn verdict(evaluation: &Evaluation) -> String {
    text(&crate::report::waterfall::verdict_in_short(evaluation)).into_owned()
}

pub(super) const fn kind_class(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Client => "k",
        SpanKind::Server => "s",
        SpanKind::Producer | SpanKind::Consumer => "q",
        SpanKind::Internal | SpanKind::Unspecified => "i",
    }
}

/// Time drawn as percent of the width.
#[derive(Clone, Copy)]
struct Scale {
    from: u64,
    to: u64,
}

impl Scale {
    const fn of(scene: &Scene) -> Self {
        Self { from: scene.from, to: scene.to }
    }

    fn percent(self, time: u64) -> f64 {
        time.clamp(self.from, self.to).saturating_sub(self.from) as f64 * 100.0 / (self.to - self.from) as f64
    }

    /// Whether anything of a span is within the scale.
    const fn sees(self, start: u64, end: u64) -> bool {
        start <= self.to && end >= self.from
    }

    /// Left edge and width; what is too short to be seen is as wide as can be seen.
    fn place(self, start: u64, end: u64) -> (String, String) {
        let (x, end) = (self.percent(start), self.percent(end.max(start)));
        let width = (end - x).max(0.25);
        (short(x.min(100.0 - width.min(100.0))), short(width))
    }
}

/// A percentage with as few characters as will do: it stands in every row.
fn short(percent: f64) -> String {
    let text = format!("{percent:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}%")
}

/// Ticks at quarters of the time shown.
fn axis(scene: &Scene) -> Markup {
    let length = scene.to - scene.from;
    let start = scene.from.saturating_sub(scene.skeleton.row.start_unix_nano);
    html! {
        svg.axis aria-hidden="true" {
            @for quarter in 0..5u64 {
                @let anchor = match quarter { 0 => "start", 4 => "end", _ => "middle" };
                text x={ (quarter * 25) "%" } y="70%" text-anchor=(anchor) {
                    (tick(start + (u128::from(length) * u128::from(quarter) / 4) as u64))
                }
            }
        }
    }
}

fn tick(nanoseconds: u64) -> String {
    if nanoseconds == 0 { "0".to_owned() } else { format::duration(nanoseconds) }
}

/// The stretches of the critical path by position.
fn on_path(scene: &Scene) -> Vec<Vec<Segment>> {
    let mut by_position = vec![Vec::new(); scene.tree.nodes.len()];
    for segment in critical_path(&scene.skeleton.spans, &scene.tree) {
        if let Some(position) = segment.node {
            by_position[position].push(segment);
        }
    }
    by_position
}

/// A map of a large trace: bands of rows from top to bottom, each from its first start to its last end, with marks where
/// something failed or scored low; each leads to its rows.
fn map(scene: &Scene, window: &Window) -> Markup {
    let nodes = scene.tree.nodes.len();
    let bands = window.pages.min(BANDS);
    let (width, height) = (1_000.0, 6.0 * bands as f64);
    let length = (scene.skeleton.row.duration_ns.max(1)) as f64;
    let x = |time: u64| time.saturating_sub(scene.skeleton.row.start_unix_nano) as f64 * width / length;
    html! {
        svg.map viewBox={ "0 0 1000 " (height) } preserveAspectRatio="none" role="group" aria-label="Map of the trace" {
            @for band in 0..bands {
                @let (low, high) = (band * nodes / bands, ((band + 1) * nodes / bands).max(band * nodes / bands + 1));
                @let spans = (low..high.min(nodes)).map(|at| scene.span(at));
                @let start = spans.clone().map(|span| span.start_unix_nano).min().unwrap_or_default();
                @let end = spans.clone().map(|span| span.end_unix_nano).max().unwrap_or_default().max(start);
                @let inside = |list: &[usize]| list.partition_point(|&at| at < high) - list.partition_point(|&at| at < low);
                @let (errors, lows) = (inside(&scene.errors), inside(&scene.lows));
                @let page = (low * window.pages / nodes).min(window.pages - 1);
                @let here = window.page * bands / window.pages == band;
                a href=(scene.context.with(&[("page", Some(&(page + 1).to_string()))]))
                    aria-label={ "Rows from " (count((page * PAGE) as u64 + 1))
                        @if errors > 0 { ", " (count(errors as u64)) " failed" } @if lows > 0 { ", " (count(lows as u64)) " low" } }
                    aria-current=[here.then_some("true")] {
                    rect.band x="0" y=(band * 6) width="1000" height="6" {}
                    rect class=(if errors > 0 { "e" } else if lows > 0 { "l" } else { "k" })
                        x=(format!("{:.1}", x(start))) y=(band * 6 + 1)
                        width=(format!("{:.1}", (x(end) - x(start)).max(2.0))) height="4" {}
                }
            }
        }
    }
}

fn pager(scene: &Scene, window: &Window) -> Markup {
    let to = |page: usize| scene.context.with(&[("page", Some(&(page + 1).to_string()))]);
    html! {
        nav.pager aria-label="Rows" {
            @if window.page > 0 {
                a href=(to(0)) { "First" }
                a.button.small href=(to(window.page - 1)) rel="prev" { "← Previous " (PAGE) }
            }
            span {
                "Rows " (count(window.range.start as u64 + 1)) "–" (count(window.range.end as u64)) " of " (count(window.rows as u64))
                ", with what failed or scored low elsewhere"
            }
            @if window.page + 1 < window.pages {
                a.button.small href=(to(window.page + 1)) rel="next" { "Next " (PAGE) " →" }
                a href=(to(window.pages - 1)) { "Last" }
            }
        }
    }
}
