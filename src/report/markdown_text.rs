//! Texts of models and datasets within Markdown: they stay texts.

use super::format::ABSENT;

/// Text that stays text: on one line, no markup, no link, nobody mentioned.
pub(super) fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 8);
    let text = super::text::clean(text);
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        let rest = text.get(at + c.len_utf8()..).unwrap_or_default();
        let next = rest.chars().next().unwrap_or(' ');
        // A word joiner within what GitHub would make a link or a picture of, and nowhere else: a name that is copied from
        // here still works.
        let joined = match c {
            ':' => rest.starts_with("//") || is_picture(rest),
            '@' if before.is_alphanumeric() => rest.split_whitespace().next().is_some_and(|word| word.contains('.')),
            '@' => next.is_alphanumeric(),
            '#' => next.is_ascii_digit(),
            '.' => text.get(at.saturating_sub(3)..at).is_some_and(|word| word.eq_ignore_ascii_case("www")),
            _ => false,
        };
        match c {
            // Within a word it is no emphasis.
            '_' if before.is_alphanumeric() && next.is_alphanumeric() => shown.push(c),
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '~' | '[' | ']' | '|' | '$' | '!' => {
                shown.push('\\');
                shown.push(c);
            }
            c => shown.push(c),
        }
        if joined {
            shown.push('\u{2060}');
        }
        before = c;
    }
    shown
}

/// Whether what follows a colon makes a `:word:` of it.
fn is_picture(rest: &str) -> bool {
    let word = rest.split(':').next().unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-');
    !word.is_empty() && word.len() < rest.len() && word.chars().all(fits)
}

/// Text as code: between as many back ticks as it needs.
pub(super) fn code(text: &str) -> String {
    let text = super::text::clean(text).replace('|', "\\|");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    if text.is_empty() { ABSENT.to_owned() } else { format!("{fence}{pad}{text}{pad}{fence}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_no_markup_and_mention_nobody() {
        let shown = plain("<b> **x** | [a](http://e.test) @team #12 `y` a\nb");
        assert_eq!(
            shown,
            "&lt;b&gt; \\*\\*x\\*\\* \\| \\[a\\](http:\u{2060}//e.test) @\u{2060}team #\u{2060}12 \\`y\\` a b"
        );
        assert_eq!(code("a`b|c"), "``a`b\\|c``");
    }

    #[test]
    fn a_copied_name_still_works_and_no_bare_address_is_a_link() {
        for name in ["night:2", "v1.2@main", "12:30", "a#b", "nightly: third"] {
            assert_eq!(plain(name), name, "nothing of it would be a link");
        }
        for (text, shown) in [
            ("see www.evil.example", "see www.<j>evil.example"),
            ("WWW.evil.example", "WWW.<j>evil.example"),
            ("https://e.test", "https:<j>//e.test"),
            (":boom: 10:30:12", ":<j>boom: 10:<j>30:12"),
            ("me@e.test", "me@<j>e.test"),
        ] {
            assert_eq!(plain(text).replace('\u{2060}', "<j>"), shown);
        }
    }
}
