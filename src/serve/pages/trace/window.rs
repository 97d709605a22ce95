//! Which rows of a waterfall are shown: all of a trace of moderate size; of a large one the page of rows around the selected
//! span, with the paths to errors, low scores and search hits forced open, and gaps that say what they leave out.

use std::collections::BTreeSet;

use crate::trace::tree::Tree;

/// Up to this many rows a trace is shown whole, so that the browser's own search finds everything.
pub(super) const WHOLE: usize = 2_000;
/// Rows of one page of a larger trace.
pub(super) const PAGE: usize = 500;
/// How many spans outside of the page are forced open at most.
const FORCED: usize = 100;
/// How many of a forced span's nearest ancestors are shown; of deeper ones the root stands for the rest.
const NEAREST: usize = 6;
/// How many rows are shown at most besides those of the page.
const EXTRA: usize = 160;

/// What decides the rows.
#[derive(Debug)]
pub(super) struct Wanted<'w> {
    /// Positions whose descendants are folded away.
    pub(super) folded: &'w BTreeSet<usize>,
    /// The selected position.
    pub(super) selected: Option<usize>,
    /// The page asked for, from 0; otherwise the one of the selected span.
    pub(super) page: Option<usize>,
    /// Positions that are to be seen wherever they are: search hits.
    pub(super) hits: &'w [usize],
    /// Positions of errors and low scores.
    pub(super) faults: &'w [usize],
}

/// A line of the waterfall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// A span, by its position in the tree.
    Span(usize),
    /// Spans that are left out.
    Gap {
        /// How many.
        count: usize,
        /// How many of them are errors, low scores or hits.
        faults: usize,
        /// The first fault among them, otherwise the first of them.
        first: usize,
    },
}

/// The rows of a waterfall.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// The lines from top to bottom.
    pub(super) lines: Vec<Line>,
    /// The page that is shown, from 0.
    pub(super) page: usize,
    /// How many pages there are; 1 where everything is shown.
    pub(super) pages: usize,
    /// Places of the page's rows among all rows that are not folded away.
    pub(super) range: std::ops::Range<usize>,
    /// How many rows are not folded away.
    pub(super) rows: usize,
}

/// Chooses the rows.
pub(super) fn window(tree: &Tree, wanted: &Wanted<'_>) -> Window {
    let visible = visible(tree, wanted.folded);
    if visible.len() <= WHOLE {
        let lines = visible.iter().map(|&position| Line::Span(position)).collect();
        return Window { lines, page: 0, pages: 1, range: 0..visible.len(), rows: visible.len() };
    }
    let pages = visible.len().div_ceil(PAGE);
    // A selected span within a folded subtree is found at its nearest row that is shown.
    let place = |position: usize| visible.partition_point(|&at| at <= position).saturating_sub(1);
    let page = wanted.page.unwrap_or_else(|| wanted.selected.map_or(0, |at| place(at) / PAGE)).min(pages - 1);
    let range = page * PAGE..((page + 1) * PAGE).min(visible.len());

    let mut shown = vec![false; tree.nodes.len()];
    for &position in &visible[range.clone()] {
        shown[position] = true;
    }
    let mut extra = EXTRA;
    open_path(tree, visible[range.start], &mut shown, &mut extra);
    let hidden: Vec<bool> = {
        let mut hidden = vec![true; tree.nodes.len()];
        for &position in &visible {
            hidden[position] = false;
        }
        hidden
    };
    let selected = wanted.selected.iter().copied();
    let outside = selected.chain(wanted.hits.iter().chain(wanted.faults).copied());
    let mut forced = FORCED;
    for position in outside.filter(|&position| !hidden[position]) {
        if forced == 0 || extra == 0 {
            break;
        }
        if !shown[position] {
            shown[position] = true;
            forced -= 1;
            extra -= 1;
            open_path(tree, position, &mut shown, &mut extra);
        }
    }

    let mut is_fault = vec![false; tree.nodes.len()];
    for &position in wanted.hits.iter().chain(wanted.faults) {
        is_fault[position] = true;
    }
    let mut lines = Vec::with_capacity(PAGE + EXTRA);
    let mut gap: Option<(usize, usize, usize)> = None;
    for &position in &visible {
        if shown[position] {
            lines.extend(gap.take().map(|(count, faults, first)| Line::Gap { count, faults, first }));
            lines.push(Line::Span(position));
        } else {
            let (count, faults, first) = gap.get_or_insert((0, 0, position));
            *count += 1;
            if is_fault[position] {
                if *faults == 0 {
                    *first = position;
                }
                *faults += 1;
            }
        }
    }
    lines.extend(gap.map(|(count, faults, first)| Line::Gap { count, faults, first }));
    Window { lines, page, pages, range, rows: visible.len() }
}

/// Positions that are not below a folded one, in order.
fn visible(tree: &Tree, folded: &BTreeSet<usize>) -> Vec<usize> {
    let mut visible = Vec::with_capacity(tree.nodes.len());
    let mut at = 0;
    while at < tree.nodes.len() {
        visible.push(at);
        at += 1 + if folded.contains(&at) { tree.nodes[at].descendants } else { 0 };
    }
    visible
}

/// Shows the nearest ancestors of a position, and the root above them.
fn open_path(tree: &Tree, position: usize, shown: &mut [bool], extra: &mut usize) {
    let mut open = |at: usize| {
        if !shown[at] && *extra > 0 {
            shown[at] = true;
            *extra -= 1;
        }
    };
    tree.ancestors(position).take(NEAREST).for_each(&mut open);
    // From the nearest ancestors up one row is known to be reached soon: traces are rarely that deep.
    if let Some(root) = root_of(tree, position) {
        open(root);
    }
}

/// The root above a position; the tree's order finds it without walking a deep path.
fn root_of(tree: &Tree, position: usize) -> Option<usize> {
    let depth = tree.nodes[position].depth;
    if depth <= 64 {
        return tree.ancestors(position).last();
    }
    tree.roots().take_while(|&root| root <= position).last()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Span, SpanId, TraceId};

    /// A tree of spans by the numbers of their parents; the first has none.
    fn tree(parents: impl Iterator<Item = u64>) -> Tree {
        let id = |n: u64| SpanId::from_bytes((n + 1).to_be_bytes());
        let spans: Vec<Span> = std::iter::once(None)
            .chain(parents.map(Some))
            .enumerate()
            .map(|(i, parent)| {
                Span::open(TraceId::from_bytes([1; 16]), id(i as u64), parent.map(id), "operation", i as u64)
            })
            .collect();
        Tree::build(&spans)
    }

    static NONE: BTreeSet<usize> = BTreeSet::new();

    fn wanted(folded: &BTreeSet<usize>) -> Wanted<'_> {
        Wanted { folded, selected: None, page: None, hits: &[], faults: &[] }
    }

    fn shown(window: &Window) -> Vec<usize> {
        window.lines.iter().filter_map(|line| if let Line::Span(at) = line { Some(*at) } else { None }).collect()
    }

    #[test]
    fn a_trace_of_moderate_size_is_whole() {
        let tree = tree((0..1_999).map(|i| i / 3));
        let window = window(&tree, &Wanted { ..wanted(&NONE) });
        assert_eq!((shown(&window).len(), window.pages), (2_000, 1));
    }

    #[test]
    fn a_large_trace_shows_a_page_with_errors_and_their_paths() {
        // A root, 1000 groups of 100: the error is deep in the last one.
        let tree = tree((0..100_000).map(|i: u64| if i < 1_000 { 0 } else { 1 + i % 1_000 }));
        let fault = 99_000;
        let wanted = Wanted { selected: Some(700), faults: &[fault, 100], ..wanted(&NONE) };
        let window = window(&tree, &wanted);
        let rows = shown(&window);
        assert_eq!((window.page, window.pages, window.range.clone()), (1, 201, 500..1_000));
        assert!((500..1_000).all(|at| rows.contains(&at)), "the page");
        for at in [fault, 100] {
            assert!(rows.contains(&at) && tree.ancestors(at).all(|above| rows.contains(&above)), "the path to {at}");
        }
        assert!(rows.len() <= PAGE + EXTRA);
        let told: usize =
            window.lines.iter().map(|line| if let Line::Gap { count, .. } = line { *count } else { 1 }).sum();
        assert_eq!(told, 100_001, "every span is shown or counted");
    }

    #[test]
    fn what_cannot_be_forced_open_is_counted() {
        let tree = tree((0..9_999).map(|_| 0));
        let faults: Vec<usize> = (1_000..3_000).collect();
        let wanted = Wanted { faults: &faults, ..wanted(&NONE) };
        let window = window(&tree, &wanted);
        assert_eq!(
            window.lines.last(),
            Some(&Line::Gap { count: 8_900, faults: 1_900, first: 1_100 }),
            "{:?}",
            window.lines.len()
        );
    }

    #[test]
    fn folded_spans_take_no_row() {
        let tree = tree((0..9).map(|i| i / 3));
        let folded = BTreeSet::from([1]);
        let window = window(&tree, &wanted(&folded));
        assert!(shown(&window).contains(&1));
        assert!((2..=1 + tree.nodes[1].descendants).all(|at| !shown(&window).contains(&at)));
    }

    #[test]
    fn a_deep_chain_is_bounded() {
        let tree = tree(0..9_999);
        let window = window(&tree, &Wanted { selected: Some(9_000), faults: &[3_000], ..wanted(&NONE) });
        let rows = shown(&window);
        assert!(rows.len() <= PAGE + EXTRA && rows.contains(&9_000) && rows.contains(&3_000) && rows.contains(&0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn rows_keep_their_order_and_every_span_is_shown_or_counted(
            parents in prop::collection::vec(any::<prop::sample::Index>(), 2_100..3_000),
            faults in prop::collection::btree_set(0usize..2_000, 0..300),
            page in prop::option::of(0usize..9),
            selected in prop::option::of(0usize..2_000),
        ) {
            let tree = tree(parents.iter().enumerate().map(|(i, parent)| parent.index(i + 1) as u64));
            let faults: Vec<usize> = faults.into_iter().collect();
            let wanted = Wanted { selected, page, faults: &faults, ..wanted(&NONE) };
            let window = window(&tree, &wanted);
            let rows = shown(&window);
            prop_assert!(rows.is_sorted() && rows.len() <= PAGE + EXTRA);
            let told: usize = window.lines.iter().map(|l| if let Line::Gap { count, .. } = l { *count } else { 1 }).sum();
            prop_assert_eq!(told, tree.nodes.len());
            prop_assert!(selected.is_none_or(|at| rows.contains(&at)));
        }
    }
}
