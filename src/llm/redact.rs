//! Takes secrets and prompts out of messages that others wrote.

use std::sync::LazyLock;

use regex::Regex;

use super::chat::Message;
use crate::model::Secret;

/// Endpoints' messages are cut to this many characters.
const MAX_CHARS: usize = 300;
/// A stretch of this many characters that a message shares with the prompt counts as quoted from it.
const QUOTE_CHARS: usize = 24;

static KEYS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\bsk-[\w*.\-]{3,}|\b(bearer)\s+[\w*.~+/=\-]+|(key provided:?\s*)[^\s,]+|(api[-_ ]?key['\x22]?\s*[:=]\s*)[^\s,]+")
        .expect("the pattern is fixed and tested")
});

/// The message in one line of at most 300 characters, without the key and without anything that looks like one.
pub(crate) fn clean(text: &str, key: Option<&Secret>) -> String {
    let mut line = String::with_capacity(text.len().min(4 * MAX_CHARS));
    // Twice the length that is kept: a key that the cut would go through is found before the cut.
    for c in text.trim().chars().take(2 * MAX_CHARS) {
        if c.is_control() || c.is_whitespace() {
            if !line.ends_with(' ') {
                line.push(' ');
            }
        } else {
            line.push(c);
        }
    }
    if let Some(key) = key.filter(|key| !key.expose().is_empty()) {
        line = line.replace(key.expose(), "***");
    }
    let line = KEYS.replace_all(&line, |found: &regex::Captures<'_>| {
        let lead = (1..=3).find_map(|group| found.get(group)).map_or("", |lead| lead.as_str());
        let blank = if lead.eq_ignore_ascii_case("bearer") { " " } else { "" };
        format!("{lead}{blank}***")
    });
    match line.char_indices().nth(MAX_CHARS) {
        Some((cut, _)) => format!("{}…", line.get(..cut).unwrap_or_default()),
        None => line.into_owned(),
    }
}

/// The message with every longer stretch that stands in the prompt replaced by `[…]`.
pub(super) fn without_prompt(text: String, prompt: &[Message]) -> String {
    let prompt: Vec<&str> = prompt.iter().map(|message| message.content.as_str()).collect();
    without_texts(text, &prompt)
}

/// The message with every longer stretch that stands in one of these texts replaced by `[…]`.
pub(crate) fn without_texts(text: String, texts: &[&str]) -> String {
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    if starts.len() <= QUOTE_CHARS {
        return text;
    }
    let mut quoted = vec![false; starts.len() - 1];
    for first in 0..starts.len() - QUOTE_CHARS {
        let stretch = text.get(starts[first]..starts[first + QUOTE_CHARS]).unwrap_or_default();
        if texts.iter().any(|known| known.contains(stretch)) {
            quoted[first..first + QUOTE_CHARS].fill(true);
        }
    }
    if !quoted.contains(&true) {
        return text;
    }
    let mut kept = String::with_capacity(text.len());
    for (i, c) in text.chars().enumerate() {
        if !quoted[i] {
            kept.push(c);
        } else if i == 0 || !quoted[i - 1] {
            kept.push_str("[…]");
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::chat::Role;

    #[test]
    fn keys_of_any_form_are_taken_out() {
        let key = Secret::new("0123456789abcdef");
        for (given, expected) in [
            ("Incorrect API key provided: sk-abc***xyz.", "Incorrect API key provided: ***"),
            ("Incorrect API key provided: abc***xyz, see there", "Incorrect API key provided: ***, see there"),
            ("the key 0123456789abcdef is wrong", "the key *** is wrong"),
            ("sent Authorization: Bearer eyJhb.x-y", "sent Authorization: Bearer ***"),
            ("api_key=hunter2 refused", "api_key=*** refused"),
            ("no secrets,\n  two\tlines", "no secrets, two lines"),
        ] {
            assert_eq!(clean(given, Some(&key)), expected);
        }
    }

    #[test]
    fn long_messages_are_cut_to_300_characters() {
        let cut = clean(&"ä".repeat(900), None);
        assert_eq!(cut.chars().count(), 301);
        let secret = format!("{}sk-0123456789", "x ".repeat(148));
        assert!(!clean(&secret, None).contains("sk-0"), "a key at the cut is found whole");
    }

    #[test]
    fn quotations_from_the_prompt_are_taken_out() {
        let prompt = [Message { role: Role::User, content: "Claim:\nthe confidential claim about a drug".to_owned() }];
        let said = "cannot parse `the confidential claim about a drug` as input".to_owned();
        assert_eq!(without_prompt(said, &prompt), "cannot parse `[…]` as input");
        let harmless = "the server had an error while processing the request".to_owned();
        assert_eq!(without_prompt(harmless.clone(), &prompt), harmless);
    }
}
