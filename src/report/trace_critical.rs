//! Which operations a trace waited for, by name; and how that looks on a terminal.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::format::{self, count};
use super::style::Style;
use super::table::Sheet;
use super::text::put;
use crate::store::rows::TraceDetail;
use crate::trace::critical_path::{Segment, critical_path, time_on_path};
use crate::trace::tree::Tree;

/// How many names the terminal lists.
const NAMES: usize = 40;

/// What operations of one name contribute to the critical path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Their name.
    pub name: String,
    /// For how long the trace waited for them, in nanoseconds.
    pub time_ns: u64,
    /// How many of them are on the path.
    pub operations: u64,
    /// Position in the tree of the one that held up the trace longest.
    pub longest: usize,
}

/// By name, what held up the trace longest first; and how long no operation was running, in nanoseconds.
pub fn by_name<'n>(path: &[Segment], tree: &Tree, name: impl Fn(usize) -> &'n str) -> (Vec<Held>, u64) {
    let times = time_on_path(path, tree);
    let mut names: BTreeMap<&str, Held> = BTreeMap::new();
    for (position, &time) in times.iter().enumerate().filter(|(_, time)| **time > 0) {
        let name = name(position);
        let held = names.entry(name).or_insert_with(|| Held {
            name: name.to_owned(),
            time_ns: 0,
            operations: 0,
            longest: position,
        });
        held.time_ns += time;
        held.operations += 1;
        if time > times[held.longest] {
            held.longest = position;
        }
    }
    let idle = path.iter().filter(|segment| segment.node.is_none()).map(Segment::length).sum();
    let mut found: Vec<Held> = names.into_values().collect();
    found.sort_by_key(|held| Reverse(held.time_ns));
    (found, idle)
}

/// The table as text.
pub fn render(detail: &TraceDetail, style: Style) -> String {
    let tree = Tree::build(&detail.spans);
    let path = critical_path(&detail.spans, &tree);
    let total: u64 = path.iter().map(Segment::length).sum();
    let (held, idle) = by_name(&path, &tree, |position| &detail.spans[tree.nodes[position].span].name);
    let share = |part: u64| format!("{:.1} %", part as f64 * 100.0 / total.max(1) as f64);
    let mut out = String::from("What the trace waited for, moment by moment:\n\n");
    let mut sheet = Sheet::new(style, &["operation", ">on the path", ">share", ">count", "longest"]);
    for held in held.iter().take(NAMES) {
        sheet.row([
            held.name.clone(),
            format::duration(held.time_ns),
            share(held.time_ns),
            count(held.operations),
            detail.spans[tree.nodes[held.longest].span].span_id.to_string(),
        ]);
    }
    if idle > 0 {
        let none = || format::ABSENT.to_owned();
        sheet.row(["(no operation was running)".to_owned(), format::duration(idle), share(idle), none(), none()]);
    }
    if sheet.is_empty() {
        return "the trace has no length: there is nothing to wait for\n".to_owned();
    }
    out.push_str(&sheet.render(0));
    if held.len() > NAMES {
        put!(out, "… {} more names\n", count((held.len() - NAMES) as u64));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn what_held_up_the_trace_longest_comes_first() {
        insta::assert_snapshot!(render(&fixture::trace(), Style::plain(100)), @r#"
        What the trace waited for, moment by moment:

        operation                   on the path   share  count  longest
        chat lexical-baseline           48.0 ms  40.0 %      2  b7ad6b7169203303
        stray                           40.0 ms  33.3 %      1  b7ad6b7169203307
        assess_claim                    17.0 ms  14.2 %      2  b7ad6b7169203304
        assess_claims_with_context      15.0 ms  12.5 %      1  b7ad6b7169203301
        "#);
    }
}
