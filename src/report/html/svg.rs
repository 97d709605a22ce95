//! Small drawings as SVG in a page: no script, no inline style; positions are attributes, colours are classes. Each has
//! a text for those who do not see it, and what it shows stands nearby in words or numbers as well.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::text;
use crate::report::format;

/// A share of 0 to 1 as a bar.
pub fn bar(share: f64, tone: &str) -> Markup {
    let width = format!("{:.1}", 100.0 * share.clamp(0.0, 1.0));
    html! {
        svg class={ "bar " (tone) } viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            rect width=(width) height="8" {}
        }
    }
}

/// A value with its interval on a line from `low` to `high`.
pub fn interval(value: f64, ends: Option<[f64; 2]>, [low, high]: [f64; 2]) -> Markup {
    let x = |value: f64| format!("{:.1}", 100.0 * ((value - low) / (high - low)).clamp(0.0, 1.0));
    html! {
        svg.interval viewBox="-3 0 106 10" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            line.axis x1="0" x2="100" y1="5" y2="5" {}
            @if let Some([from, to]) = ends { line.whisker x1=(x(from)) x2=(x(to)) y1="5" y2="5" {} }
            line.mark x1=(x(value)) x2=(x(value)) y1="0.5" y2="9.5" {}
        }
    }
}

/// A difference with its interval; no difference is the line in the middle. The longest end fills its side.
pub fn difference(delta: f64, [low, high]: [f64; 2]) -> Markup {
    let reach = [low, high, delta].into_iter().fold(1e-12, |reach: f64, x| reach.max(x.abs()));
    let x = |value: f64| number(50.0 + 48.0 * (value / reach).clamp(-1.0, 1.0));
    html! {
        svg.interval.difference viewBox="-3 0 106 10" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            line.axis x1="0" x2="100" y1="5" y2="5" {}
            line.zero x1="50" x2="50" y1="0" y2="10" {}
            line.whisker x1=(x(low)) x2=(x(high)) y1="5" y2="5" {}
            line.mark x1=(x(delta)) x2=(x(delta)) y1="1.5" y2="8.5" {}
        }
    }
}

/// How much worse something is, with its interval, against what it may be at most: beyond that the field is marked.
pub fn against_margin(worse: Option<f64>, [low, high]: [f64; 2], margin: f64) -> Markup {
    let (least, most) = (low.min(0.0).min(-margin), high.max(2.0 * margin));
    let room = (most - least).max(1e-12);
    let x = |value: f64| number(100.0 * ((value - least) / room).clamp(0.0, 1.0));
    html! {
        svg.interval.margin viewBox="-3 0 106 10" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            rect.beyond x=(x(margin)) y="0" width=(number(100.0 * ((most - margin) / room))) height="10" {}
            line.axis x1="0" x2="100" y1="5" y2="5" {}
            line.zero x1=(x(0.0)) x2=(x(0.0)) y1="0" y2="10" {}
            line.limit x1=(x(margin)) x2=(x(margin)) y1="0" y2="10" {}
            line.whisker x1=(x(low)) x2=(x(high)) y1="5" y2="5" {}
            @if let Some(worse) = worse { line.mark x1=(x(worse)) x2=(x(worse)) y1="1.5" y2="8.5" {} }
        }
    }
}

/// A point of a line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Point {
    /// What it stands for, in words.
    pub label: String,
    /// Its height; a point without one is a gap.
    pub value: Option<f64>,
    /// The ends of its interval.
    pub interval: Option<[f64; 2]>,
    /// Where it leads.
    pub href: Option<String>,
    /// Whether it is the one that the page is about.
    pub now: bool,
}

/// Points without axes, as wide as a word.
pub fn sparkline(values: &[Option<f64>], described: &str) -> Markup {
    let known: Vec<f64> = values.iter().flatten().copied().collect();
    let (low, high) = range(known.iter().copied(), 0.0);
    let step = 96.0 / (values.len().max(2) - 1) as f64;
    let place = |i: usize, value: f64| (2.0 + step * i as f64, 22.0 - 20.0 * (value - low) / (high - low));
    let last = values.iter().enumerate().rev().find_map(|(i, value)| value.map(|value| place(i, value)));
    html! {
        svg.chart.spark viewBox="0 0 100 24" role="img" aria-label=(text(described)) focusable="false" {
            @for run in runs(values) { path.line d=(path(run.iter().map(|(i, value)| place(*i, *value)))) {} }
            @if let Some((x, y)) = last { circle.dot.now cx=(number(x)) cy=(number(y)) r="2.5" {} }
        }
    }
}

/// A place in a line at which something changed, between a point and the one before it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mark {
    /// The first point after the change.
    pub index: usize,
    /// What changed, in words.
    pub label: String,
    /// The level before, from the change before on.
    pub before: Option<f64>,
    /// The level after, up to the next change.
    pub after: Option<f64>,
}

/// A value that a line should not cross.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limit {
    /// The value.
    pub value: f64,
    /// What it is, in words.
    pub label: String,
}

/// What stands in a line besides its points.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drawn<'a> {
    /// Where its level changed.
    pub marks: &'a [Mark],
    /// What it should not cross.
    pub limit: Option<Limit>,
    /// The unit of its values (UCUM).
    pub unit: &'a str,
}

/// A line with a band for the intervals, its points leading where they say.
pub fn line(points: &[Point], unit: &str, ends: [&str; 2], described: &str) -> Markup {
    marked_line(points, &Drawn { unit, ..Drawn::default() }, Size::Wide, ends, described)
}

/// How large a line is drawn, so that its words are as large as those around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// As wide as a card that is as wide as the page.
    Card,
    /// As wide as a card beside another.
    Wide,
    /// One of several beside each other.
    Tile,
}

/// The same with the places at which its level changed.
pub fn marked_line(points: &[Point], drawn: &Drawn<'_>, size: Size, ends: [&str; 2], described: &str) -> Markup {
    let marks = drawn.marks;
    let (width, height) = match size {
        Size::Card => (1080.0, 200.0),
        Size::Wide => (640.0, 168.0),
        Size::Tile => (360.0, 120.0),
    };
    let all = points.iter().flat_map(|point| point.value.into_iter().chain(point.interval.into_iter().flatten()));
    let (low, high) = range(all.chain(drawn.limit.iter().map(|limit| limit.value)), 0.02);
    let labelled: Vec<(f64, String)> =
        ticks(low, high).into_iter().map(|tick| (tick, short(tick, drawn.unit))).collect();
    let longest = labelled.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0);
    let (left, right, top, bottom) = ((14.0 + 7.0 * longest as f64).max(44.0), 12.0, 10.0, 22.0);
    let step = (width - left - right) / (points.len().max(2) - 1) as f64;
    let x = |i: usize| if points.len() == 1 { (left + width - right) / 2.0 } else { left + step * i as f64 };
    let y = |value: f64| top + (height - top - bottom) * (1.0 - (value - low) / (high - low));
    let values: Vec<Option<f64>> = points.iter().map(|point| point.value).collect();
    let banded: Vec<Option<[f64; 2]>> = points.iter().map(|point| point.interval).collect();
    html! {
        svg.chart viewBox={ "0 0 " (width) " " (height) } role="group" aria-label=(text(described)) focusable="false"
            preserveAspectRatio="xMinYMid meet" {
            @for (tick, label) in &labelled {
                line.grid-line x1=(number(left)) x2=(number(width - right)) y1=(number(y(*tick))) y2=(number(y(*tick))) {}
                text.tick x=(number(left - 8.0)) y=(number(y(*tick) + 4.0)) text-anchor="end" { (label) }
            }
            @if let Some(limit) = &drawn.limit {
                line.limit x1=(number(left)) x2=(number(width - right)) y1=(number(y(limit.value))) y2=(number(y(limit.value))) {
                    title { (text(&limit.label)) }
                }
            }
            text.tick x=(number(left)) y=(number(height - 6.0)) { (text(ends[0])) }
            text.tick x=(number(width - right)) y=(number(height - 6.0)) text-anchor="end" { (text(ends[1])) }
            @for run in runs(&banded) {
                @let upper = run.iter().map(|(i, ends)| (x(*i), y(ends[1])));
                @let lower = run.iter().rev().map(|(i, ends)| (x(*i), y(ends[0])));
                path.band d={ (path(upper.chain(lower))) "Z" } {}
            }
            @for (m, mark) in marks.iter().enumerate() {
                // Halfway between the two nights, for the change is between them.
                @let at = |i: usize| if i == 0 { x(0) } else { f64::midpoint(x(i - 1), x(i)) };
                @let until = marks.get(m + 1).map_or(width - right, |next| at(next.index));
                @let since = if m == 0 { left } else { at(marks[m - 1].index) };
                line.change x1=(number(at(mark.index))) x2=(number(at(mark.index))) y1=(number(top)) y2=(number(height - bottom)) {
                    title { (text(&mark.label)) }
                }
                @if let Some(before) = mark.before.filter(|_| m == 0) { line.level x1=(number(since)) x2=(number(at(mark.index))) y1=(number(y(before))) y2=(number(y(before))) {} }
                @if let Some(after) = mark.after { line.level x1=(number(at(mark.index))) x2=(number(until)) y1=(number(y(after))) y2=(number(y(after))) {} }
            }
            @for run in runs(&values) { path.line d=(path(run.iter().map(|(i, value)| (x(*i), y(*value))))) {} }
            @for (i, point) in points.iter().enumerate() {
                @if let Some(value) = point.value {
                    @let class = if point.now { "dot now" } else { "dot" };
                    @let dot = html! {
                        circle class=(class) cx=(number(x(i))) cy=(number(y(value))) r=(if point.now { "5" } else { "4" }) {
                            title { (text(&point.label)) }
                        }
                    };
                    @match &point.href {
                        Some(href) => a href=(href) aria-label=(text(&point.label)) { (dot) },
                        None => (dot),
                    }
                }
            }
        }
    }
}

/// A bar of a histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// What it counts, in words.
    pub label: String,
    /// How many.
    pub count: u64,
    /// Where it leads.
    pub href: Option<String>,
}

/// Bars side by side, with the ends of their range below.
pub fn histogram(columns: &[Column], ends: [&str; 2], described: &str) -> Markup {
    let (width, height, bottom) = (320.0, 84.0, 18.0);
    let most = columns.iter().map(|column| column.count).max().unwrap_or(0).max(1) as f64;
    let step = width / columns.len().max(1) as f64;
    html! {
        svg.chart.histogram viewBox={ "0 0 " (width) " " (height) } role="group" aria-label=(text(described)) focusable="false" {
            @for (i, column) in columns.iter().enumerate() {
                // A bar that counts something is seen, however small it is beside the largest.
                @let tall = (height - bottom - 4.0) * column.count as f64 / most;
                @let tall = if column.count > 0 { tall.max(2.0) } else { 0.0 };
                @let rect = html! {
                    rect.column x=(number(step * i as f64 + 0.5)) y=(number(height - bottom - tall))
                        width=(number((step - 1.5).max(1.0))) height=(number(tall)) { title { (text(&column.label)) } }
                };
                @match &column.href {
                    Some(href) if column.count > 0 => a href=(href) aria-label=(text(&column.label)) { (rect) },
                    _ => (rect),
                }
            }
            line.axis x1="0" x2=(width) y1=(height - bottom) y2=(height - bottom) {}
            text.tick x="0" y=(height - 4.0) { (text(ends[0])) }
            text.tick x=(width) y=(height - 4.0) text-anchor="end" { (text(ends[1])) }
        }
    }
}

/// A cell of a heat strip.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// What it stands for, in words.
    pub label: String,
    /// A sign within it, for colour never stands alone.
    pub sign: &'static str,
    /// Its class: `good`, `bad`, `mixed`, `skipped`.
    pub tone: &'static str,
    /// Where it leads.
    pub href: Option<String>,
}

/// Cells in a row.
pub fn strip(cells: &[Cell], described: &str) -> Markup {
    html! {
        svg.chart.strip viewBox={ "0 0 " (cells.len() * 22) " 24" } width=(cells.len() * 22) height="24" role="group"
            aria-label=(text(described)) focusable="false" {
            @for (i, cell) in cells.iter().enumerate() {
                @let drawn = html! {
                    g.cell.{ (cell.tone) } {
                        title { (text(&cell.label)) }
                        rect x=(i * 22 + 1) y="2" width="20" height="20" rx="4" {}
                        text x=(i * 22 + 11) y="16" text-anchor="middle" { (cell.sign) }
                    }
                };
                @match &cell.href {
                    Some(href) => a href=(href) aria-label=(text(&cell.label)) { (drawn) },
                    None => (drawn),
                }
            }
        }
    }
}

/// Stretches without a gap, each value with its place.
fn runs<T: Copy>(values: &[Option<T>]) -> Vec<Vec<(usize, T)>> {
    let mut runs: Vec<Vec<(usize, T)>> = vec![Vec::new()];
    for (i, value) in values.iter().enumerate() {
        match value {
            Some(value) => runs.last_mut().expect("there is always one").push((i, *value)),
            None => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

fn path(places: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (i, (x, y)) in places.enumerate() {
        let _ = write!(path, "{}{} {}", if i == 0 { "M" } else { "L" }, number(x), number(y));
    }
    path
}

fn number(x: f64) -> String {
    format!("{x:.1}")
}

/// The least and largest value with a margin (a share of their distance), never without any distance between them.
fn range(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    if !(high - low).is_finite() {
        return (0.0, 1.0);
    }
    let pad = (high - low) * margin;
    if high - low <= 1e-9 * high.abs() {
        let pad = if high == 0.0 { 0.05 } else { high.abs() * 0.1 };
        return (low - pad, high + pad);
    }
    (low - pad, high + pad)
}

/// Three to six round numbers within the range.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let magnitude = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * magnitude).find(|step| *step >= rough);
    let step = step.unwrap_or(magnitude * 10.0);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last.min(first + 8)).map(|i| i as f64 * step).collect()
}

/// A value at a line of the grid.
fn short(x: f64, unit: &str) -> String {
    match unit {
        // Multiples of a round step: what is left of 0 is noise.
        "ms" if x.abs() < 1e-9 => "0".to_owned(),
        "ms" => format::milliseconds(Some(x)),
        "USD" => format!("${}", format::score(x)),
        _ => format::score(x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_part_the_line() {
        let drawn = sparkline(&[Some(1.0), Some(0.0), None, Some(0.5)], "three runs").into_string();
        assert_eq!(drawn.matches("<path").count(), 2, "{drawn}");
        assert!(drawn.contains(r#"aria-label="three runs""#));
        // Nothing at all is still a drawing.
        assert!(!sparkline(&[None], "").into_string().contains("NaN"));
        assert!(!line(&[], "1", ["", ""], "").into_string().contains("NaN"));
        assert!(!histogram(&[], ["", ""], "").into_string().contains("NaN"));
    }

    #[test]
    fn ticks_are_round_and_lie_within() {
        let close = |found: Vec<f64>, wanted: &[f64]| {
            assert_eq!(found.len(), wanted.len(), "{found:?}");
            assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
        };
        close(ticks(0.0, 1.0), &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        close(ticks(0.51, 0.62), &[0.525, 0.55, 0.575, 0.6]);
        close(ticks(-3.0, 140.0), &[0.0, 50.0, 100.0]);
    }

    #[test]
    fn labels_are_escaped() {
        let point = Point {
            label: "</title><script>alert(1)</script>".to_owned(),
            value: Some(1.0),
            href: Some("/runs/\"zz".to_owned()),
            ..Point::default()
        };
        let drawn = line(&[point], "1", ["<script>", ""], "\"><script>").into_string();
        assert!(!drawn.contains("<script") && !drawn.contains("\"zz"), "{drawn}");
    }
}
