//! Puts the spans of a trace into a tree: what is missing or impossible is marked, never hidden and never a hang.
//!
//! Spans come from anywhere: parents may be missing, parents may form a cycle, clocks may disagree. How a tree is drawn is
//! left to others.

use std::collections::HashMap;

use crate::model::{Span, SpanId};

/// What a tree needs to know of a span; whole spans and mere skeletons have it.
pub trait Placed {
    /// Its id.
    fn span_id(&self) -> SpanId;
    /// The id of the span that caused it.
    fn parent_span_id(&self) -> Option<SpanId>;
    /// When it began, in nanoseconds since the Unix epoch.
    fn start_unix_nano(&self) -> u64;
    /// When it ended; 0 while it is open.
    fn end_unix_nano(&self) -> u64;
}

impl Placed for Span {
    fn span_id(&self) -> SpanId {
        self.span_id
    }
    fn parent_span_id(&self) -> Option<SpanId> {
        self.parent_span_id
    }
    fn start_unix_nano(&self) -> u64 {
        self.start_unix_nano
    }
    fn end_unix_nano(&self) -> u64 {
        self.end_unix_nano
    }
}

/// What is odd about a span's place in its trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// Its parent is not among the spans.
    pub orphan: bool,
    /// Its parent is a descendant of its own; the tree is cut here.
    pub cycle: bool,
    /// It began before its parent did.
    pub before_parent: bool,
    /// It ended after its parent did.
    pub outlives_parent: bool,
}

/// A span's place in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its index in the slice of spans.
    pub span: usize,
    /// How many ancestors it has.
    pub depth: usize,
    /// Position of its parent's node in [`Tree::nodes`].
    pub parent: Option<usize>,
    /// Whether no sibling comes after it.
    pub last: bool,
    /// How many nodes below it follow it in [`Tree::nodes`].
    pub descendants: usize,
    /// What is odd about it.
    pub marks: Marks,
}

/// A trace's spans in the order in which a waterfall shows them: parents before children, siblings by start time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Every span once.
    pub nodes: Vec<Node>,
}

impl Tree {
    /// The tree of one trace's spans. A root has no parent; an orphan and the first span of a cycle are shown as roots.
    /// Where two spans have one id, the earlier is the parent of the children.
    pub fn build<S: Placed>(spans: &[S]) -> Self {
        let mut order: Vec<usize> = (0..spans.len()).collect();
        order.sort_by_key(|&i| (spans[i].start_unix_nano(), spans[i].span_id(), i));
        let mut by_id: HashMap<SpanId, usize> = HashMap::with_capacity(spans.len());
        for &i in &order {
            by_id.entry(spans[i].span_id()).or_insert(i);
        }
        let parents: Vec<Option<usize>> =
            spans.iter().map(|span| span.parent_span_id().and_then(|id| by_id.get(&id).copied())).collect();
        let cut = cut_cycles(&parents, &order);

        let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
        let mut roots = Vec::new();
        for &i in &order {
            match parents[i] {
                Some(parent) if !cut[i] => children[parent].push(i),
                _ => roots.push(i),
            }
        }
        let mut nodes: Vec<Node> = Vec::with_capacity(spans.len());
        // Traces may be deeper than the stack: the walk keeps its own.
        let mut pending: Vec<(usize, Option<usize>, bool)> = Vec::new();
        push_siblings(&mut pending, &roots, None);
        while let Some((i, parent, last)) = pending.pop() {
            let depth = parent.map_or(0, |parent| nodes[parent].depth + 1);
            let above = parent.map(|parent| &spans[nodes[parent].span]);
            let marks = Marks {
                orphan: spans[i].parent_span_id().is_some() && parents[i].is_none(),
                cycle: cut[i],
                before_parent: above.is_some_and(|above| spans[i].start_unix_nano() < above.start_unix_nano()),
                outlives_parent: above.is_some_and(|above| {
                    above.end_unix_nano() != 0 && spans[i].end_unix_nano() > above.end_unix_nano()
                }),
            };
            let position = nodes.len();
            nodes.push(Node { span: i, depth, parent, last, descendants: 0, marks });
            push_siblings(&mut pending, &children[i], Some(position));
        }
        for position in (0..nodes.len()).rev() {
            if let Some(parent) = nodes[position].parent {
                nodes[parent].descendants += nodes[position].descendants + 1;
            }
        }
        Self { nodes }
    }

    /// Positions of the nodes right below this one, in their order.
    pub fn children(&self, position: usize) -> impl Iterator<Item = usize> + '_ {
        let end = position + self.nodes[position].descendants;
        self.siblings(position + 1, end)
    }

    /// Positions of the nodes at the top: roots, orphans and the first spans of cycles.
    pub fn roots(&self) -> impl Iterator<Item = usize> + '_ {
        self.siblings(0, self.nodes.len().wrapping_sub(1))
    }

    /// Positions from the nearest node above to the top.
    pub fn ancestors(&self, position: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(self.nodes[position].parent, |&above| self.nodes[above].parent)
    }

    /// From `first` on, each time past all that lies below, up to `end` inclusive.
    fn siblings(&self, first: usize, end: usize) -> impl Iterator<Item = usize> + '_ {
        let inside = move |at: &usize| *at <= end && *at < self.nodes.len();
        std::iter::successors(Some(first).filter(inside), move |&at| {
            Some(at + self.nodes[at].descendants + 1).filter(inside)
        })
    }

    /// The node of a span.
    pub fn position(&self, span: usize) -> Option<usize> {
        self.nodes.iter().position(|node| node.span == span)
    }
}

/// The stack gives back what came last, so siblings go in from last to first.
fn push_siblings(pending: &mut Vec<(usize, Option<usize>, bool)>, siblings: &[usize], parent: Option<usize>) {
    for (k, &i) in siblings.iter().enumerate().rev() {
        pending.push((i, parent, k + 1 == siblings.len()));
    }
}

/// For each span whether its link to its parent must be cut: once in each cycle, above the span that began first.
fn cut_cycles(parents: &[Option<usize>], order: &[usize]) -> Vec<bool> {
    let mut rank = vec![0; parents.len()];
    for (position, &i) in order.iter().enumerate() {
        rank[i] = position;
    }
    let mut cut = vec![false; parents.len()];
    // 0: not visited; otherwise the number of the walk that came by first.
    let mut seen = vec![0usize; parents.len()];
    for (walk, &start) in order.iter().enumerate() {
        let walk = walk + 1;
        let mut at = start;
        while seen[at] == 0 {
            seen[at] = walk;
            match parents[at] {
                Some(parent) => at = parent,
                None => break,
            }
        }
        // The walk met itself: `at` lies on a cycle that no earlier walk has found.
        if seen[at] == walk && parents[at].is_some() {
            let mut first = at;
            let mut next = parents[at];
            while let Some(i) = next.filter(|&i| i != at) {
                if rank[i] < rank[first] {
                    first = i;
                }
                next = parents[i];
            }
            if next == Some(at) {
                cut[first] = true;
            }
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::TraceId;

    fn id(n: u8) -> SpanId {
        SpanId::from_bytes([0, 0, 0, 0, 0, 0, 0, n])
    }

    fn span(number: u8, parent: Option<u8>, start: u64, end: u64) -> Span {
        let mut span = Span::open(TraceId::from_bytes([1; 16]), id(number), parent.map(id), "operation", start);
        span.end_unix_nano = end;
        span
    }

    /// The tree as `depth:number` with `?` for orphans and `@` for a cut cycle.
    fn drawn(spans: &[Span]) -> String {
        let nodes = Tree::build(spans).nodes;
        let shown = nodes.iter().map(|node| {
            let marks = [(node.marks.orphan, "?"), (node.marks.cycle, "@")];
            let marks: String = marks.iter().filter(|(on, _)| *on).map(|(_, mark)| *mark).collect();
            format!("{}:{}{marks}", node.depth, spans[node.span].span_id.as_bytes()[7])
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn parents_come_before_children_and_siblings_by_start() {
        let spans =
            [span(3, Some(1), 30, 40), span(2, Some(1), 20, 25), span(1, None, 10, 50), span(4, Some(2), 21, 22)];
        assert_eq!(drawn(&spans), "0:1 1:2 2:4 1:3");
        let tree = Tree::build(&spans);
        assert_eq!(tree.nodes.iter().map(|node| node.descendants).collect::<Vec<_>>(), [3, 1, 0, 0]);
        assert_eq!(tree.nodes.iter().map(|node| node.last).collect::<Vec<_>>(), [true, false, true, true]);
    }

    #[test]
    fn spans_without_their_parent_stand_at_the_top_and_are_marked() {
        assert_eq!(drawn(&[span(1, None, 5, 9), span(2, Some(9), 1, 3), span(3, Some(2), 2, 3)]), "0:2? 1:3 0:1");
    }

    #[test]
    fn cycles_are_cut_above_their_first_span() {
        assert_eq!(drawn(&[span(1, Some(1), 0, 1)]), "0:1@");
        let spans = [span(1, Some(3), 2, 9), span(2, Some(1), 1, 9), span(3, Some(2), 3, 9), span(4, Some(3), 0, 9)];
        assert_eq!(drawn(&spans), "0:2@ 1:3 2:4 2:1");
    }

    #[test]
    fn clocks_that_disagree_are_marked() {
        let spans = [span(1, None, 10, 20), span(2, Some(1), 5, 15), span(3, Some(1), 12, 30), span(4, Some(1), 13, 0)];
        let marks: Vec<_> =
            Tree::build(&spans).nodes.iter().map(|n| (n.marks.before_parent, n.marks.outlives_parent)).collect();
        assert_eq!(marks, [(false, false), (true, false), (false, true), (false, false)]);
    }

    #[test]
    fn a_chain_deeper_than_the_stack_is_walked() {
        let spans: Vec<Span> = (0..200_000u64)
            .map(|i| {
                let mut span = span(0, None, i, i + 1);
                span.span_id = SpanId::from_bytes(i.to_be_bytes());
                span.parent_span_id = i.checked_sub(1).map(|i| SpanId::from_bytes(i.to_be_bytes()));
                span
            })
            .collect();
        assert_eq!(Tree::build(&spans).nodes.last().map(|node| node.depth), Some(199_999));
    }

    proptest! {
        #[test]
        fn every_span_is_shown_once_below_its_parent(links in prop::collection::vec((prop::option::of(0u8..12), 0u64..9), 0..12)) {
            let spans: Vec<Span> =
                links.iter().enumerate().map(|(i, (parent, start))| span(i as u8, *parent, *start, *start + 1)).collect();
            let tree = Tree::build(&spans);
            let mut shown: Vec<usize> = tree.nodes.iter().map(|node| node.span).collect();
            for (position, node) in tree.nodes.iter().enumerate() {
                let top = spans[node.span].parent_span_id.is_none() || node.marks.orphan || node.marks.cycle;
                prop_assert_eq!(node.parent.is_none(), top);
                if let Some(parent) = node.parent {
                    prop_assert!(parent < position && position <= parent + tree.nodes[parent].descendants);
                    prop_assert_eq!(Some(spans[tree.nodes[parent].span].span_id), spans[node.span].parent_span_id);
                }
            }
            shown.sort_unstable();
            prop_assert_eq!(shown, (0..spans.len()).collect::<Vec<_>>());
        }
    }
}
