//! Which span of one trace answers which of another: by the path of names from the root, in order among equal siblings.
//!
//! Siblings of one name are told apart by the case that they are about, where they say so, because the order of cases that
//! run at once is chance. Siblings that are left over are paired if they do the same kind of thing under another name
//! (`chat gpt-4.1` and `chat gpt-5`). What differs between the two spans of a pair is left to `trace_diff`.

use std::collections::{HashMap, VecDeque};

use crate::model::{Span, SpanKind, Value};
use crate::trace::semconv;
use crate::trace::tree::Tree;

/// Two spans side by side, or one that the other trace lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Index of the first trace's span.
    pub a: Option<usize>,
    /// Index of the second trace's span.
    pub b: Option<usize>,
    /// How many ancestors it has.
    pub depth: usize,
}

/// All spans of both traces, each once, parents before children.
pub fn align(a: &[Span], b: &[Span]) -> Vec<Pair> {
    let (trees, spans) = ([Tree::build(a), Tree::build(b)], [a, b]);
    let mut pairs = Vec::with_capacity(a.len().max(b.len()));
    let roots = [trees[0].roots().collect::<Vec<_>>(), trees[1].roots().collect()];
    // Traces may be deeper than the stack: the walk keeps its own.
    let mut pending: Vec<([Option<usize>; 2], usize)> = Vec::new();
    push(&mut pending, &siblings(&trees, &spans, roots), 0);
    while let Some((positions, depth)) = pending.pop() {
        let span = |side: usize| positions[side].map(|at| trees[side].nodes[at].span);
        pairs.push(Pair { a: span(0), b: span(1), depth });
        let below = [0, 1].map(|side| positions[side].map_or_else(Vec::new, |at| trees[side].children(at).collect()));
        push(&mut pending, &siblings(&trees, &spans, below), depth + 1);
    }
    pairs
}

fn push(pending: &mut Vec<([Option<usize>; 2], usize)>, found: &[[Option<usize>; 2]], depth: usize) {
    pending.extend(found.iter().rev().map(|positions| (*positions, depth)));
}

/// Pairs the children of two parents: in the order of the first, what only the second has behind its elder sibling.
fn siblings(trees: &[Tree; 2], spans: &[&[Span]; 2], children: [Vec<usize>; 2]) -> Vec<[Option<usize>; 2]> {
    let span = |side: usize, at: usize| &spans[side][trees[side].nodes[at].span];
    let [first, second] = children;
    // For each child of the second the place among the first that it is paired with.
    let mut partner: Vec<Option<usize>> = vec![None; second.len()];
    let mut paired = vec![false; first.len()];
    match_by(&mut partner, &mut paired, |i| own_key(span(0, first[i])), |i| own_key(span(1, second[i])));
    match_by(&mut partner, &mut paired, |i| loose_key(span(0, first[i])), |i| loose_key(span(1, second[i])));

    let mut behind: Vec<Vec<usize>> = vec![Vec::new(); first.len() + 1];
    let mut of_first: Vec<Option<usize>> = vec![None; first.len()];
    let mut elder = 0;
    for (j, partner) in partner.iter().enumerate() {
        match partner {
            Some(i) => {
                of_first[*i] = Some(second[j]);
                elder = i + 1;
            }
            None => behind[elder].push(second[j]),
        }
    }
    let mut found: Vec<[Option<usize>; 2]> = Vec::with_capacity(first.len() + second.len());
    found.extend(behind[0].iter().map(|&at| [None, Some(at)]));
    for (i, &at) in first.iter().enumerate() {
        found.push([Some(at), of_first[i]]);
        found.extend(behind[i + 1].iter().map(|&at| [None, Some(at)]));
    }
    found
}

/// Pairs those of equal keys that are not paired yet, in order.
fn match_by<'s, K: std::hash::Hash + Eq + 's>(
    partner: &mut [Option<usize>],
    paired: &mut [bool],
    key_of_first: impl Fn(usize) -> K,
    key_of_second: impl Fn(usize) -> K,
) {
    let mut waiting: HashMap<K, VecDeque<usize>> = HashMap::new();
    for i in (0..paired.len()).filter(|&i| !paired[i]) {
        waiting.entry(key_of_first(i)).or_default().push_back(i);
    }
    for (j, partner) in partner.iter_mut().enumerate().filter(|(_, partner)| partner.is_none()) {
        if let Some(i) = waiting.get_mut(&key_of_second(j)).and_then(VecDeque::pop_front) {
            *partner = Some(i);
            paired[i] = true;
        }
    }
}

/// Name, case and repeat.
fn own_key(span: &Span) -> (&str, Option<&str>, Option<i64>) {
    let case = text(span, semconv::TEST_CASE_ID);
    let repeat = match span.get(semconv::SPANSCORE_TRIAL_REPEAT) {
        Some(Value::Int(repeat)) => Some(*repeat),
        _ => None,
    };
    (&span.name, case, repeat)
}

/// What kind of thing it does: its operation, or the first word of its name; cases that differ stay apart.
fn loose_key(span: &Span) -> (SpanKind, &str, Option<&str>) {
    let operation = text(span, semconv::GEN_AI_OPERATION_NAME);
    let word = || span.name.split([' ', '/', '(']).next().unwrap_or_default();
    (span.kind, operation.unwrap_or_else(word), text(span, semconv::TEST_CASE_ID))
}

fn text<'s>(span: &'s Span, key: &str) -> Option<&'s str> {
    match span.get(key) {
        Some(Value::Str(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{SpanId, TraceId};

    /// Spans from lines `name` indented by depth, starting one after the other.
    fn spans(drawn: &str) -> Vec<Span> {
        let mut path: Vec<SpanId> = Vec::new();
        let lines = drawn.lines().filter(|line| !line.trim().is_empty()).enumerate();
        lines
            .map(|(i, line)| {
                let depth = line.len() - line.trim_start().len();
                path.truncate(depth);
                let id = SpanId::from_bytes((i as u64 + 1).to_be_bytes());
                let parent = path.last().copied();
                path.push(id);
                let (name, case) = line.trim().split_once('#').unwrap_or((line.trim(), ""));
                let mut span = Span::open(TraceId::from_bytes([1; 16]), id, parent, name.to_owned(), i as u64);
                if !case.is_empty() {
                    span.set(semconv::TEST_CASE_ID, case.to_owned());
                }
                span
            })
            .collect()
    }

    fn drawn(a: &str, b: &str) -> String {
        let (a, b) = (spans(a), spans(b));
        let name = |spans: &[Span], i: Option<usize>| {
            i.map_or("·".to_owned(), |i| {
                format!("{}{}", spans[i].name, text(&spans[i], semconv::TEST_CASE_ID).unwrap_or_default())
            })
        };
        let line = |pair: &Pair| format!("{}{} | {}\n", " ".repeat(pair.depth), name(&a, pair.a), name(&b, pair.b));
        align(&a, &b).iter().map(line).collect()
    }

    #[test]
    fn spans_are_paired_by_their_path_of_names() {
        let a = "root\n load\n ask\n  chat\n ask\n  chat";
        let b = "root\n ask\n  chat\n ask\n  chat\n  tool\n save";
        insta::assert_snapshot!(drawn(a, b), @r"
        root | root
         load | ·
         ask | ask
          chat | chat
         ask | ask
          chat | chat
          · | tool
         · | save
        ");
    }

    #[test]
    fn cases_are_paired_whatever_their_order() {
        insta::assert_snapshot!(drawn("batch\n claim#1\n claim#2\n claim#3", "batch\n claim#3\n claim#1\n claim#4"), @r"
        batch | batch
         claim1 | claim1
         · | claim4
         claim2 | ·
         claim3 | claim3
        ");
    }

    #[test]
    fn another_model_is_the_same_kind_of_call() {
        insta::assert_snapshot!(drawn("root\n chat small\n embed x", "root\n search y\n chat large"), @r"
        root | root
         · | search y
         chat small | chat large
         embed x | ·
        ");
    }

    #[test]
    fn deep_traces_are_walked() {
        let chain = (0..3_000).map(|i| format!("{}n\n", " ".repeat(i))).collect::<Vec<_>>().concat();
        assert_eq!(align(&spans(&chain), &spans(&chain)).len(), 3_000);
    }

    proptest! {
        #[test]
        fn every_span_stands_once(a in "( {0,3}[abc]\n){0,12}", b in "( {0,3}[abc]\n){0,12}") {
            let (a, b) = (spans(&a), spans(&b));
            let pairs = align(&a, &b);
            let mut firsts: Vec<usize> = pairs.iter().filter_map(|pair| pair.a).collect();
            let mut seconds: Vec<usize> = pairs.iter().filter_map(|pair| pair.b).collect();
            firsts.sort_unstable();
            seconds.sort_unstable();
            prop_assert_eq!(firsts, (0..a.len()).collect::<Vec<_>>());
            prop_assert_eq!(seconds, (0..b.len()).collect::<Vec<_>>());
        }
    }
}
