//! Text from models, datasets and traces made fit for a terminal: nothing in it moves the cursor, hides or reorders.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Appends formatted text to a string.
macro_rules! put {
    ($out:expr, $($text:tt)*) => {{
        use std::fmt::Write as _;
        $out.write_fmt(format_args!($($text)*)).expect("a string takes any text")
    }};
}
pub(super) use put;

/// The text on one line, without anything that a terminal would obey: line breaks and tabs become blanks, other control
/// bytes their visible pictures (`␛` for escape), and characters that reorder or hide text become `�`.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unfit) {
        return Cow::Borrowed(text);
    }
    let visible = |c: char| match c {
        '\n' | '\r' | '\t' | '\u{85}' | '\u{2028}' | '\u{2029}' => ' ',
        '\0'..='\u{1f}' => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        c if is_unfit(c) => '\u{fffd}',
        c => c,
    };
    Cow::Owned(text.replace("\r\n", "\n").chars().map(visible).collect())
}

fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // change direction
            | '\u{2028}' | '\u{2029}' // break lines
            | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}' | '\u{feff}' // have no width
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Columns that a text takes on a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The name of an operation, cut to fit like [`cut`]; one that is blank is called `(no name)`, so that there is something to
/// click on and to read aloud.
pub fn named(name: &str, columns: usize) -> String {
    let name = cut(name, columns);
    if name.trim().is_empty() { "(no name)".to_owned() } else { name }
}

/// The text cleaned and, if it is wider than `columns`, cut to fit with an ellipsis at its end.
pub fn cut(text: &str, columns: usize) -> String {
    // No more of a long text is looked at than could be shown.
    let head: String = text.chars().take(columns.saturating_mul(4).saturating_add(16)).collect();
    let whole = head.len() == text.len();
    let cleaned = clean(&head);
    if whole && width(&cleaned) <= columns {
        return cleaned.into_owned();
    }
    let (mut taken, mut used) = (String::new(), 0);
    for c in cleaned.chars() {
        let more = c.width().unwrap_or(0);
        if used + more > columns.saturating_sub(1) {
            break;
        }
        taken.push(c);
        used += more;
    }
    if columns > 0 {
        taken.truncate(taken.trim_end().len());
        taken.push('…');
    }
    taken
}

/// The text cleaned and broken at blanks into lines of at most `columns`; a longer word is broken anywhere.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = vec![String::new()];
    for word in clean(text).split(' ').filter(|word| !word.is_empty()) {
        let line = lines.last_mut().expect("there is always a line");
        let gap = usize::from(!line.is_empty());
        if width(line) + gap + width(word) <= columns {
            line.extend(std::iter::repeat_n(' ', gap));
            line.push_str(word);
            continue;
        }
        if !line.is_empty() {
            lines.push(String::new());
        }
        for c in word.chars() {
            let line = lines.last_mut().expect("there is always a line");
            if !line.is_empty() && width(line) + c.width().unwrap_or(0) > columns {
                lines.push(String::new());
            }
            lines.last_mut().expect("there is always a line").push(c);
        }
    }
    lines
}

/// The text filled up with blanks to `columns`.
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_comes_through() {
        for (text, shown) in [
            ("plain – ü 好", "plain – ü 好"),
            ("a\r\nb\tc\nd", "a b c d"),
            ("\u{1b}[31mred\u{1b}]0;title\u{7}", "␛[31mred␛]0;title␇"),
            ("\u{9b}2J", "\u{fffd}2J"),
            ("abc\u{202e}fed\u{2066}", "abc\u{fffd}fed\u{fffd}"),
            ("\u{7f}\u{0}\u{200b}\u{e0041}", "␡␀\u{fffd}\u{fffd}"),
            ("a\u{2028}b\u{85}c", "a b c"),
        ] {
            assert_eq!(clean(text), shown);
        }
    }

    #[test]
    fn text_is_cut_by_columns_and_not_by_characters() {
        for (text, columns, shown) in [
            ("short", 5, "short"),
            ("longer", 5, "long…"),
            ("one two", 5, "one…"),
            ("好好好", 6, "好好好"),
            ("好好好", 5, "好好…"),
            ("好好好", 4, "好…"),
            ("x", 0, ""),
            ("e\u{301}e\u{301}e\u{301}", 3, "e\u{301}e\u{301}e\u{301}"),
        ] {
            assert_eq!(cut(text, columns), shown, "{text} at {columns}");
        }
    }

    #[test]
    fn lines_break_at_blanks() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 9), [""]);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_harmless_and_fits(text: String, columns in 0usize..40) {
            let shown = cut(&text, columns);
            prop_assert!(width(&shown) <= columns);
            prop_assert!(!shown.chars().any(is_unfit));
            prop_assert!(wrap(&text, columns.max(2)).iter().all(|line| width(line) <= columns.max(2)));
        }
    }
}
