//! Takes prompts out of messages that others wrote. Secrets are taken out by [`crate::net::quote`].

use super::chat::Message;

/// A stretch of this many characters that a message shares with the prompt counts as quoted from it.
const QUOTE_CHARS: usize = 24;

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
    fn quotations_from_the_prompt_are_taken_out() {
        let prompt = [Message { role: Role::User, content: "Claim:\nthe confidential claim about a drug".to_owned() }];
        let said = "cannot parse `the confidential claim about a drug` as input".to_owned();
        assert_eq!(without_prompt(said, &prompt), "cannot parse `[…]` as input");
        let harmless = "the server had an error while processing the request".to_owned();
        assert_eq!(without_prompt(harmless.clone(), &prompt), harmless);
    }
}
