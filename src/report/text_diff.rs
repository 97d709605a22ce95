//! What differs between two texts, by words; by lines where there are too many words.

use similar::{ChangeTag, TextDiff};

/// Beyond this many words, or lines, of one text the time to compare them is no longer short.
const TOO_MANY: usize = 2_000;
/// How much of what both have in common is shown before and after what differs, in characters.
const AROUND: usize = 120;

/// A stretch of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// In both.
    Same(String),
    /// Only in the first.
    Removed(String),
    /// Only in the second.
    Added(String),
    /// So many characters that both have, left out.
    Cut(usize),
}

/// The pieces in order; long stretches that both have are cut to what stands around the differences.
pub fn text_diff(a: &str, b: &str) -> Vec<Piece> {
    let few = |count: fn(&str) -> usize| count(a) <= TOO_MANY && count(b) <= TOO_MANY;
    let pieces = if few(|text| text.split_whitespace().take(TOO_MANY + 1).count() * 2) {
        pieces(&TextDiff::from_words(a, b))
    } else if few(|text| text.lines().take(TOO_MANY + 1).count()) {
        pieces(&TextDiff::from_lines(a, b))
    } else {
        vec![Piece::Removed(a.to_owned()), Piece::Added(b.to_owned())]
    };
    let last = pieces.len().saturating_sub(1);
    pieces.into_iter().enumerate().flat_map(|(i, piece)| shortened(piece, i > 0, i < last)).collect()
}

fn pieces<'t>(diff: &TextDiff<'t, 't, 't, str>) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for change in diff.iter_all_changes() {
        let text = change.value();
        match (change.tag(), pieces.last_mut()) {
            (ChangeTag::Equal, Some(Piece::Same(before)))
            | (ChangeTag::Delete, Some(Piece::Removed(before)))
            | (ChangeTag::Insert, Some(Piece::Added(before))) => before.push_str(text),
            (ChangeTag::Equal, _) => pieces.push(Piece::Same(text.to_owned())),
            (ChangeTag::Delete, _) => pieces.push(Piece::Removed(text.to_owned())),
            (ChangeTag::Insert, _) => pieces.push(Piece::Added(text.to_owned())),
        }
    }
    pieces
}

/// Leaves out the middle of a long common stretch; `before` and `after` say on which sides something differs.
fn shortened(piece: Piece, before: bool, after: bool) -> Vec<Piece> {
    let Piece::Same(text) = piece else { return vec![piece] };
    let length = text.chars().count();
    let (head, tail) = (if before { AROUND } else { 0 }, if after { AROUND } else { 0 });
    // Without any difference the beginning tells which text it is.
    let head = if before || after { head } else { AROUND };
    if length <= head + tail + AROUND {
        return vec![Piece::Same(text)];
    }
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - tail).collect();
    let mut pieces = vec![Piece::Same(start), Piece::Cut(length - head - tail), Piece::Same(end)];
    pieces.retain(|piece| !matches!(piece, Piece::Same(text) if text.is_empty()));
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The pieces as `same[-removed-][+added+]`.
    fn drawn(a: &str, b: &str) -> String {
        let shown = text_diff(a, b).into_iter().map(|piece| match piece {
            Piece::Same(text) => text,
            Piece::Removed(text) => format!("[-{text}-]"),
            Piece::Added(text) => format!("[+{text}+]"),
            Piece::Cut(n) => format!("[{n}]"),
        });
        shown.collect()
    }

    #[test]
    fn words_that_differ_are_marked() {
        assert_eq!(drawn("the claim is true", "the claim is not true"), "the claim is [+not +]true");
        assert_eq!(drawn("True", "NEE"), "[-True-][+NEE+]");
        assert_eq!(drawn("", "new"), "[+new+]");
        assert_eq!(drawn("same", "same"), "same");
    }

    #[test]
    fn what_is_far_from_a_difference_is_left_out() {
        let long = "word ".repeat(200);
        let shown = drawn(&format!("{long}a {long}"), &format!("{long}b {long}"));
        assert!(shown.starts_with("[880]word ") && shown.ends_with("[881]"), "{shown}");
    }

    #[test]
    fn long_texts_are_compared_by_lines_and_longer_ones_not_at_all() {
        let lines = (0..1500).map(|i| format!("line number {i}\n")).collect::<Vec<_>>().concat();
        let other = lines.replace("line number 700\n", "another line\n");
        assert!(drawn(&lines, &other).contains("[-line number 700\n-][+another line\n+]"));
        let many = "x\n".repeat(9_000);
        assert_eq!(text_diff(&many, "y"), [Piece::Removed(many.clone()), Piece::Added("y".to_owned())]);
    }

    proptest! {
        #[test]
        fn both_texts_can_be_read_off_the_pieces(a in "[ab \\n]{0,40}", b in "[ab \\n]{0,40}") {
            let (mut first, mut second) = (String::new(), String::new());
            for piece in text_diff(&a, &b) {
                match piece {
                    Piece::Same(text) => { first.push_str(&text); second.push_str(&text); }
                    Piece::Removed(text) => first.push_str(&text),
                    Piece::Added(text) => second.push_str(&text),
                    Piece::Cut(_) => prop_assert!(false, "nothing is that long"),
                }
            }
            prop_assert_eq!((first, second), (a, b));
        }
    }
}
