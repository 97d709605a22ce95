//! Words, numbers and sentences of an English text.

use super::words::{self, Sense};

/// A word or number as the model sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Token {
    /// Hash of the stem.
    pub(super) stem: u64,
    /// Hash of the stem without a negating prefix (`un-`, `in-`, …), where there is one.
    pub(super) unprefixed: Option<u64>,
    /// The number, if it is one.
    pub(super) number: Option<f64>,
    /// What the word list says of it.
    pub(super) sense: Sense,
    /// Which clause of its text it stands in, counted from 0 by commas and the like.
    pub(super) clause: u16,
    /// How much the word tells: its length, for long words are rare ones.
    pub(super) weight: f32,
}

/// The sentences of a text, each a list of tokens without the words that tell nothing.
pub(super) fn sentences(text: &str) -> Vec<Vec<Token>> {
    let mut all = vec![Vec::new()];
    let mut buffer = String::new();
    let mut rest = text;
    let mut clause = 0u16;
    while let Some(c) = rest.chars().next() {
        let length = if c.is_alphabetic() {
            let end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
            let (word, _) = rest.split_at(end);
            // A short abbreviation or an initial does not end a sentence at its dot; single letters tell little.
            if let Some(token) = word_token(word, clause, &mut buffer) {
                all.last_mut().expect("there is always a sentence").push(token);
            }
            end
        } else if c.is_ascii_digit() {
            let (token, end) = number_token(rest, clause);
            all.last_mut().expect("there is always a sentence").push(token);
            end
        } else {
            if !matches!(c, '-' | '/' | '\'' | '%' | '°') && !c.is_whitespace() {
                clause = clause.saturating_add(1);
            }
            if (matches!(c, '.' | '!' | '?' | ';') && ends_sentence(rest)) || rest.starts_with("\n\n") {
                if all.last().is_some_and(|sentence| !sentence.is_empty()) {
                    all.push(Vec::new());
                }
            } else if c == '%' || c == '°' {
                let stem = hash(if c == '%' { "percent" } else { "degree" });
                all.last_mut().expect("there is always a sentence").push(Token {
                    stem,
                    unprefixed: None,
                    number: None,
                    sense: Sense::Unit,
                    clause,
                    weight: 1.0,
                });
            }
            c.len_utf8()
        };
        rest = rest.split_at(length).1;
    }
    if all.last().is_some_and(Vec::is_empty) {
        all.pop();
    }
    all
}

/// A mark ends a sentence if a blank and no lower-case letter follows; after a semicolon a blank is enough.
fn ends_sentence(rest: &str) -> bool {
    let mut following = rest.chars().skip(1);
    if rest.starts_with("; ") {
        return true;
    }
    match following.next() {
        None => true,
        Some(c) if c.is_whitespace() => !following.find(|c| !c.is_whitespace()).is_some_and(char::is_lowercase),
        Some(_) => false,
    }
}

fn word_token(word: &str, clause: u16, buffer: &mut String) -> Option<Token> {
    buffer.clear();
    if word.is_ascii() {
        buffer.push_str(word);
        buffer.make_ascii_lowercase();
    } else {
        buffer.extend(word.chars().flat_map(char::to_lowercase));
    }
    let lower = buffer.as_str();
    let sense = words::sense(lower);
    if sense == Sense::Stop {
        return None;
    }
    let number = words::number(lower);
    let stem = stem(lower);
    if number.is_none() && matches!(sense, Sense::Plain) && lower.chars().count() < 2 {
        return None;
    }
    let unprefixed = ["non", "un", "in", "im", "ir", "dis"]
        .iter()
        .find_map(|prefix| stem.strip_prefix(prefix).filter(|rest| rest.len() >= 4));
    Some(Token {
        stem: hash(stem),
        unprefixed: unprefixed.map(hash),
        number,
        sense,
        clause,
        weight: stem.len().clamp(2, 8) as f32,
    })
}

fn number_token(rest: &str, clause: u16) -> (Token, usize) {
    let mut end = 0;
    let bytes = rest.as_bytes();
    while let Some(byte) = bytes.get(end) {
        let within = matches!(byte, b'.' | b',') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
        if !byte.is_ascii_digit() && !within {
            break;
        }
        end += 1;
    }
    let text: String = rest.chars().take(end).filter(|c| *c != ',').collect();
    // More than one dot makes a version or a date: its digits as they are.
    let number = text.parse().ok().or_else(|| text.replace('.', "").parse().ok());
    (Token { stem: hash(&text), unprefixed: None, number, sense: Sense::Plain, clause, weight: 4.0 }, end)
}

/// The word without its usual endings; crude, but the same for a claim and its evidence.
pub(super) fn stem(word: &str) -> &str {
    const ENDINGS: [&str; 30] = [
        "izations", "ization", "isation", "ations", "ation", "ities", "ments", "ement", "ment", "ness", "ingly",
        "edly", "ions", "ings", "ally", "ion", "ing", "ity", "ies", "ive", "ous", "ly", "ed", "es", "er", "al", "ic",
        "s", "e", "y",
    ];
    let mut stem = word;
    // Two rounds: `heatings` loses its plural and then its ending.
    for _ in 0..2 {
        let last = stem.as_bytes().last();
        // Comparing the last letter first spares most of the comparisons.
        let mut likely = ENDINGS.iter().filter(|ending| ending.as_bytes().last() == last);
        let shorter = likely.find_map(|ending| stem.strip_suffix(ending).filter(|rest| rest.len() >= 3));
        match shorter {
            Some(shorter) => stem = shorter,
            None => break,
        }
    }
    // `stopped` and `stop`.
    let bytes = stem.as_bytes();
    if let [.., a, b] = bytes
        && a == b
        && stem.len() > 3
        && stem.len() < word.len()
        && !matches!(b, b's' | b'l')
    {
        stem = stem.get(..stem.len() - 1).unwrap_or(stem);
    }
    stem
}

/// FNV-1a (Fowler, Noll, Vo): short inputs, no need to resist anybody.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_word_share_a_stem() {
        for (a, b) in [
            ("absorbs", "absorbed"),
            ("increase", "increasing"),
            ("reduces", "reduction"),
            ("stopped", "stop"),
            ("cells", "cell"),
            ("activity", "activities"),
        ] {
            let (a, b) = (stem(a), stem(b));
            assert!(a == b || a.starts_with(b) || b.starts_with(a), "{a} {b}");
        }
        assert_eq!(stem("cells"), stem("cell"));
        assert_eq!(stem("absorbs"), stem("absorbing"));
    }

    #[test]
    fn sentences_end_at_marks_but_not_within_numbers_and_names() {
        let count = |text: &str| sentences(text).len();
        assert_eq!(count("Ice melts at 0.5 degrees. Water boils; steam rises! Really?"), 4);
        assert_eq!(count("The species E. coli grows."), 1);
        assert_eq!(count(""), 0);
        assert_eq!(count("... !!! ???"), 0);
    }

    #[test]
    fn numbers_are_read_with_separators() {
        let numbers: Vec<f64> = sentences("About 299,792,458 m and 2.25 and 7 days, version 1.2.3, three hearts.")
            .concat()
            .iter()
            .filter_map(|t| t.number)
            .collect();
        assert_eq!(numbers, [299_792_458.0, 2.25, 7.0, 123.0, 3.0]);
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        for text in ["é°%", "1.", "1,", ".1", "ẞß", "\u{301}", "١٢", "a\u{0}b", "½"] {
            let _ = sentences(text);
        }
    }
}
