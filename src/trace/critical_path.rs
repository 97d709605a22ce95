//! The critical path of a trace: for each moment the one operation that everything else waited for.
//!
//! The path is walked from the end back to the start. An operation waited for that child which ended last; from that child's
//! start on, for the child which had ended last before; what lies between them is the operation's own. Above all roots
//! stands the trace itself, so that moments without any operation are on the path as well. A child counts only as far as
//! it lies within its parent, for nobody waited for the rest. Roots do not wait for each other: where several run at once, the
//! path goes through the one that ended last, then through the one that still ran when it began. The walk is that of Uber's CRISP (Zhang, Sharma, Ramanathan,
//! Wang: "CRISP: Critical Path Analysis of Large-Scale Microservice Architectures", USENIX ATC 2022, section 4).

use super::tree::{Placed, Tree};

/// A stretch of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Position in [`Tree::nodes`] of the operation at work; `None` where no operation was.
    pub node: Option<usize>,
    /// Its start, in nanoseconds since the Unix epoch.
    pub from_unix_nano: u64,
    /// Its end.
    pub to_unix_nano: u64,
}

impl Segment {
    /// Its length in nanoseconds.
    pub const fn length(&self) -> u64 {
        self.to_unix_nano - self.from_unix_nano
    }
}

/// The path of a trace without gaps, in the order of time.
pub fn critical_path<S: Placed>(spans: &[S], tree: &Tree) -> Vec<Segment> {
    let Some((start, end)) = extent(spans) else { return Vec::new() };
    let mut path = Vec::new();
    let mut stack = vec![Frame::new(None, start, end, tree.roots(), spans, tree, end)];
    while let Some(frame) = stack.last_mut() {
        let mut next = frame.children.pop();
        if let Some(root) = next.as_mut().filter(|_| frame.node.is_none()) {
            root.end = root.end.min(frame.at);
        }
        let (from, node) = (next.map_or(frame.start, |child| child.end), frame.node);
        // The greatest end comes first; a child that ended within the one just walked was waited for by nobody.
        if from > frame.at || next.is_some_and(|child| child.start >= child.end) {
            continue;
        }
        if from < frame.at {
            path.push(Segment { node, from_unix_nano: from, to_unix_nano: frame.at });
            frame.at = from;
        }
        match next {
            Some(child) => {
                frame.at = child.start;
                stack.push(Frame::new(
                    Some(child.node),
                    child.start,
                    child.end,
                    tree.children(child.node),
                    spans,
                    tree,
                    end,
                ));
            }
            None => {
                stack.pop();
            }
        }
    }
    path.reverse();
    path
}

/// For each node of the tree the nanoseconds that it was at work on the path.
pub fn time_on_path(path: &[Segment], tree: &Tree) -> Vec<u64> {
    let mut times = vec![0; tree.nodes.len()];
    for segment in path {
        if let Some(node) = segment.node {
            times[node] += segment.length();
        }
    }
    times
}

/// For each node of the tree the nanoseconds in which it worked and no child of it did. Children may overlap; open spans
/// last as long as the trace.
pub fn self_times<S: Placed>(spans: &[S], tree: &Tree) -> Vec<u64> {
    let last = extent(spans).map_or(0, |(_, end)| end);
    let mut times = Vec::with_capacity(tree.nodes.len());
    for (position, node) in tree.nodes.iter().enumerate() {
        let (start, end) = interval(&spans[node.span], last);
        // Siblings come by their start, so one pass over them counts what they cover together.
        let (mut covered, mut until) = (0, start);
        for child in tree.children(position) {
            let (from, to) = interval(&spans[tree.nodes[child].span], last);
            let (from, to) = (from.max(until), to.min(end));
            if to > from {
                covered += to - from;
                until = to;
            }
        }
        times.push(end.saturating_sub(start).saturating_sub(covered));
    }
    times
}

/// Earliest start and latest end of the spans.
pub fn extent<S: Placed>(spans: &[S]) -> Option<(u64, u64)> {
    let start = spans.iter().map(Placed::start_unix_nano).min()?;
    let end = spans.iter().map(|span| span.end_unix_nano().max(span.start_unix_nano())).max()?;
    Some((start, end))
}

/// Start and end of a span; an open one ends with the trace, and none ends before it starts.
fn interval<S: Placed>(span: &S, trace_end: u64) -> (u64, u64) {
    let start = span.start_unix_nano();
    let end = if span.end_unix_nano() == 0 { trace_end } else { span.end_unix_nano() };
    (start, end.max(start))
}

/// A child as far as it lies within its parent.
#[derive(Clone, Copy)]
struct Child {
    end: u64,
    start: u64,
    node: usize,
}

/// An operation whose part of the path is being walked.
struct Frame {
    node: Option<usize>,
    start: u64,
    /// How far back the walk has come.
    at: u64,
    /// Children that are still to be looked at, the one that ended last at the end.
    children: Vec<Child>,
}

impl Frame {
    fn new<S: Placed>(
        node: Option<usize>,
        start: u64,
        end: u64,
        children: impl Iterator<Item = usize>,
        spans: &[S],
        tree: &Tree,
        trace_end: u64,
    ) -> Self {
        let mut children: Vec<Child> = children
            .filter_map(|node| {
                let (from, to) = interval(&spans[tree.nodes[node].span], trace_end);
                let (from, to) = (from.max(start), to.min(end));
                // A child without length holds nobody up.
                (from < to).then_some(Child { end: to, start: from, node })
            })
            .collect();
        // Of those that end together the one that began first was the one to wait for; then the first in the tree.
        children.sort_by_key(|child| (child.end, std::cmp::Reverse((child.start, child.node))));
        Self { node, start, at: end, children }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Span, SpanId, TraceId};

    fn span(number: u8, parent: Option<u8>, start: u64, end: u64) -> Span {
        let id = |n| SpanId::from_bytes([0, 0, 0, 0, 0, 0, 0, n]);
        let mut span = Span::open(TraceId::from_bytes([1; 16]), id(number), parent.map(id), "operation", start);
        span.end_unix_nano = end;
        span
    }

    /// The path as `number:from-to`, `-` for no operation.
    fn drawn(spans: &[Span]) -> String {
        let tree = Tree::build(spans);
        let shown = critical_path(spans, &tree).into_iter().map(|segment| {
            let who = segment
                .node
                .map_or("-".to_owned(), |node| spans[tree.nodes[node].span].span_id.as_bytes()[7].to_string());
            format!("{who}:{}-{}", segment.from_unix_nano, segment.to_unix_nano)
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_path_goes_through_the_child_that_ended_last() {
        let spans =
            [span(1, None, 0, 100), span(2, Some(1), 10, 40), span(3, Some(1), 15, 90), span(4, Some(3), 20, 50)];
        assert_eq!(drawn(&spans), "1:0-15 3:15-20 4:20-50 3:50-90 1:90-100");
    }

    #[test]
    fn children_in_a_row_are_all_on_the_path() {
        let spans = [span(1, None, 0, 50), span(2, Some(1), 5, 20), span(3, Some(1), 20, 45), span(4, Some(1), 22, 30)];
        assert_eq!(drawn(&spans), "1:0-5 2:5-20 3:20-45 1:45-50");
    }

    #[test]
    fn nobody_waits_for_what_lies_outside_of_the_parent() {
        let spans = [span(1, None, 10, 50), span(2, Some(1), 5, 20), span(3, Some(1), 40, 80)];
        assert_eq!(drawn(&spans), "-:5-10 2:10-20 1:20-40 3:40-50 -:50-80");
    }

    #[test]
    fn roots_apart_leave_a_gap_and_open_spans_last_to_the_end() {
        let spans = [span(1, None, 0, 10), span(2, None, 20, 30)];
        assert_eq!(drawn(&spans), "1:0-10 -:10-20 2:20-30");
        let spans = [span(1, None, 0, 30), span(2, Some(1), 10, 0)];
        assert_eq!(drawn(&spans), "1:0-10 2:10-30");
        let spans = [span(1, None, 0, 50), span(2, None, 40, 80), span(3, Some(1), 30, 45)];
        assert_eq!(drawn(&spans), "1:0-30 3:30-40 2:40-80");
        assert_eq!(drawn(&[]), "");
        assert_eq!(drawn(&[span(1, None, 7, 7)]), "");
    }

    #[test]
    fn self_time_is_what_no_child_covers() {
        let spans =
            [span(1, None, 0, 100), span(2, Some(1), 10, 40), span(3, Some(1), 30, 60), span(4, Some(1), 90, 130)];
        assert_eq!(self_times(&spans, &Tree::build(&spans)), [40, 30, 30, 40]);
    }

    #[test]
    fn a_chain_deeper_than_the_stack_is_walked() {
        let spans: Vec<Span> = (0..100_000u64)
            .map(|i| {
                let mut span = span(0, None, i, 300_000 - i);
                span.span_id = SpanId::from_bytes((i + 1).to_be_bytes());
                span.parent_span_id = (i > 0).then(|| SpanId::from_bytes(i.to_be_bytes()));
                span
            })
            .collect();
        let path = critical_path(&spans, &Tree::build(&spans));
        assert_eq!(path.len(), 199_999);
    }

    /// The definition, one tick at a time from the end: whoever is at work hands over to a child that ends right there.
    fn by_ticks(spans: &[Span], tree: &Tree) -> Vec<Option<usize>> {
        let Some((start, end)) = extent(spans) else { return Vec::new() };
        let mut ticks = Vec::new();
        // Who is at work, and the bounds within which it counts.
        let mut stack: Vec<(Option<usize>, u64, u64)> = vec![(None, start, end)];
        let mut at = end;
        while let Some(&(node, from, to)) = stack.last() {
            let below: Vec<usize> = node.map_or_else(|| tree.roots().collect(), |node| tree.children(node).collect());
            let ends_here = below
                .into_iter()
                .map(|child| {
                    let (start, end) = interval(&spans[tree.nodes[child].span], end);
                    (start.max(from), end.min(to), child)
                })
                .filter(|&(start, end, _)| start < end && start < at && (end == at || node.is_none() && end > at))
                .min_by_key(|&(start, end, child)| (std::cmp::Reverse(end), start, child))
                .map(|(start, _, child)| (start, at, child));
            if at == from {
                stack.pop();
            } else if let Some((start, end, child)) = ends_here {
                stack.push((Some(child), start, end));
            } else {
                ticks.push(node);
                at -= 1;
            }
        }
        ticks.reverse();
        ticks
    }

    proptest! {
        #[test]
        fn the_path_is_the_one_of_the_definition(
            links in prop::collection::vec((prop::option::of(0u8..10), 0u64..20, 0u64..20, prop::bool::weighted(0.1)), 0..12)
        ) {
            let spans: Vec<Span> = links
                .iter()
                .enumerate()
                .map(|(i, &(parent, start, length, open))| span(i as u8, parent, start, if open { 0 } else { start + length }))
                .collect();
            let tree = Tree::build(&spans);
            let path = critical_path(&spans, &tree);
            let walked: Vec<Option<usize>> =
                path.iter().flat_map(|s| std::iter::repeat_n(s.node, s.length() as usize)).collect();
            prop_assert_eq!(walked, by_ticks(&spans, &tree));
            prop_assert!(path.windows(2).all(|pair| pair[0].to_unix_nano == pair[1].from_unix_nano));
            let total: u64 = path.iter().map(Segment::length).sum();
            let (start, end) = extent(&spans).unwrap_or_default();
            prop_assert_eq!(total, end - start);
        }
    }
}
