//! From a model's answer to a class. What is no label is `unparseable`, never a guess.
//!
//! The rules, in order: the suite's answer pattern cuts the answer out (the last match counts); blanks, quotes, markdown
//! and closing punctuation are stripped; the whole is compared with the labels and their synonyms without regard to case;
//! then an answer may begin with the label if the label stands for itself there ("True. The trial …", "Answer: **NEE**
//! because …") and no other label follows it at once.

use std::collections::BTreeMap;

use regex::Regex;

use crate::model::{Label, Predicted};

/// Synonyms that need no suite: ways of writing NEE in full.
const NEE_IN_FULL: [&str; 6] = [
    "not enough evidence",
    "not enough information",
    "not enough info",
    "insufficient evidence",
    "insufficient information",
    "nei",
];

/// Words that may stand before the label, with or without a colon.
const LEADS: [&str; 9] = [
    "the final answer is",
    "the answer is",
    "final answer",
    "final verdict",
    "answer",
    "assessment",
    "verdict",
    "label",
    "classification",
];

/// Words that may follow a label that begins a sentence.
const FOLLOWERS: [&str; 6] = ["because", "since", "as", "given", "based", "according"];

/// Why an answer parser cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ParserError {
    /// The pattern is no regular expression.
    #[error("answer_pattern `{pattern}` is not a regular expression: {message}")]
    Pattern {
        /// As given.
        pattern: String,
        /// What is wrong.
        message: String,
    },
    /// The pattern has no capture, or several.
    #[error("answer_pattern `{pattern}` has {found} captures, expected exactly one, as in `<answer>(.*?)</answer>`")]
    Captures {
        /// As given.
        pattern: String,
        /// How many it has.
        found: usize,
    },
    /// A synonym stands for two labels.
    #[error("the synonym `{synonym}` stands for both {first} and {second}; keep it under one label")]
    Ambiguous {
        /// As given.
        synonym: String,
        /// One label.
        first: Label,
        /// The other.
        second: Label,
    },
}

/// Turns answers into classes.
#[derive(Debug, Clone)]
pub struct AnswerParser {
    pattern: Option<Regex>,
    words: BTreeMap<String, Label>,
    phrases: Vec<(String, Label)>,
}

impl Default for AnswerParser {
    fn default() -> Self {
        Self::new(None, &BTreeMap::new()).expect("the labels themselves are distinct")
    }
}

impl AnswerParser {
    /// A parser with the suite's pattern (one capture, `.` matches newlines) and synonyms.
    pub fn new(pattern: Option<&str>, synonyms: &BTreeMap<Label, Vec<String>>) -> Result<Self, ParserError> {
        let pattern = pattern.map(compile).transpose()?;
        let mut words = BTreeMap::new();
        let own = Label::ALL.into_iter().map(|label| (label.as_str(), label));
        let full = NEE_IN_FULL.into_iter().map(|text| (text, Label::Nee));
        let given = synonyms.iter().flat_map(|(label, texts)| texts.iter().map(|text| (text.as_str(), *label)));
        for (text, label) in own.chain(full).chain(given) {
            if let Some(first) = words.insert(fold(text), label).filter(|first| *first != label) {
                return Err(ParserError::Ambiguous { synonym: text.to_owned(), first, second: label });
            }
        }
        let mut phrases: Vec<_> = words.iter().map(|(word, label)| (word.clone(), *label)).collect();
        // The longest first, so that "not supported" is not read as what "not" might mean.
        phrases.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
        Ok(Self { pattern, words, phrases })
    }

    /// The class of an answer.
    pub fn parse(&self, answer: &str) -> Predicted {
        let answer = match &self.pattern {
            Some(pattern) => match pattern.captures_iter(answer).last().and_then(|found| found.get(1)) {
                Some(found) => found.as_str(),
                None => return Predicted::Unparseable,
            },
            None => answer,
        };
        // Nearly every answer is a bare label: no allocation for it.
        let bare = strip(answer);
        if let Some(label) = Label::from_name(bare) {
            return Predicted::Label(label);
        }
        let folded = fold(bare);
        let label = self.whole(&folded).or_else(|| self.leading(without_lead(&folded)));
        label.map_or(Predicted::Unparseable, Predicted::Label)
    }

    fn whole(&self, folded: &str) -> Option<Label> {
        self.words.get(folded).copied()
    }

    /// The label that the text begins with, if it stands there for itself.
    fn leading(&self, folded: &str) -> Option<Label> {
        let (rest, label) = self
            .phrases
            .iter()
            .find_map(|(phrase, label)| Some((folded.strip_prefix(phrase.as_str())?, (phrase, *label))))
            .filter(|(rest, _)| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
            .map(|(rest, (phrase, label))| ((rest, phrase), label))?;
        let (rest, phrase) = rest;
        let after = rest.trim_start_matches(is_dressing);
        let stands = after.is_empty()
            || after.starts_with(['.', ',', ';', ':', '!', '(', '\n', '—', '–'])
            || after.starts_with("- ")
            || phrase.contains(' ')
            || FOLLOWERS
                .iter()
                .any(|word| after.strip_prefix(word).is_some_and(|tail| !tail.starts_with(char::is_alphanumeric)));
        let next = after.trim_start_matches(|c: char| !c.is_alphanumeric());
        let another = self.phrases.iter().any(|(phrase, other)| {
            *other != label
                && next.strip_prefix(phrase.as_str()).is_some_and(|tail| !tail.starts_with(char::is_alphanumeric))
        });
        (stands && !another).then_some(label)
    }
}

fn compile(pattern: &str) -> Result<Regex, ParserError> {
    let regex = regex::RegexBuilder::new(pattern)
        .dot_matches_new_line(true)
        .build()
        .map_err(|e| ParserError::Pattern { pattern: pattern.to_owned(), message: e.to_string() })?;
    match regex.captures_len() - 1 {
        1 => Ok(regex),
        found => Err(ParserError::Captures { pattern: pattern.to_owned(), found }),
    }
}

/// Quotes, markdown and brackets around an answer.
fn is_dressing(c: char) -> bool {
    c != '\n' && c.is_whitespace()
        || matches!(c, '"' | '\'' | '`' | '*' | '_' | '#' | '>' | '[' | ']' | ')' | '“' | '”' | '‘' | '’' | '«' | '»')
}

fn strip(text: &str) -> &str {
    let around = |c: char| c.is_whitespace() || is_dressing(c) || matches!(c, '.' | ',' | '!' | ':' | ';' | '(');
    text.trim_matches(around)
}

/// Lower case, with runs of blanks and underscores taken as one blank; newlines stay.
fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in strip(text).chars().flat_map(char::to_lowercase) {
        let c = if c == '_' || (c.is_whitespace() && c != '\n') { ' ' } else { c };
        if !(c == ' ' && folded.ends_with(' ')) {
            folded.push(c);
        }
    }
    folded
}

fn without_lead(folded: &str) -> &str {
    let Some(rest) = LEADS.iter().find_map(|lead| folded.strip_prefix(lead)) else { return folded };
    let bare = rest.trim_start_matches(|c: char| c.is_whitespace() || is_dressing(c) || c == ':');
    if bare.len() == rest.len() { folded } else { bare }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Predicted::Unparseable;

    const T: Predicted = Predicted::Label(Label::True);
    const F: Predicted = Predicted::Label(Label::False);
    const N: Predicted = Predicted::Label(Label::Nee);

    fn check(answers: &[(&str, Predicted)]) {
        let parser = AnswerParser::default();
        for (answer, expected) in answers {
            assert_eq!(parser.parse(answer), *expected, "{answer:?}");
        }
    }

    #[test]
    fn bare_labels_with_the_usual_trimmings() {
        check(&[
            ("True", T),
            ("True.", T),
            (" False, ", F),
            ("NEE", N),
            ("nee\n", N),
            ("\"True\"", T),
            ("**False**", F),
            ("`NEE`.", N),
            ("“True”", T),
            ("# True", T),
            ("TRUE!", T),
            ("Not enough evidence", N),
            ("NOT_ENOUGH_INFO", N),
        ]);
    }

    #[test]
    fn a_sentence_may_begin_with_the_label() {
        check(&[
            ("True. The trial found an effect.", T),
            ("False, because the dose was lower", F),
            ("False because the dose was lower", F),
            ("NEE\n\nThe evidence is silent.", N),
            ("Answer: True", T),
            ("**Answer:** False", F),
            ("Final answer: NEE (no data)", N),
            ("The answer is True.", T),
            ("Not enough evidence to decide.", N),
            ("True – the text says so", T),
        ]);
    }

    #[test]
    fn what_is_no_label_is_not_guessed() {
        check(&[
            ("", Unparseable),
            ("...", Unparseable),
            ("Maybe", Unparseable),
            ("True or False", Unparseable),
            ("True/False", Unparseable),
            ("True, False", Unparseable),
            ("Trueish", Unparseable),
            ("False positives are common", Unparseable),
            ("It is not True", Unparseable),
            ("I cannot say whether this is True.", Unparseable),
            ("needs more data", Unparseable),
            ("answers vary", Unparseable),
        ]);
    }

    #[test]
    fn a_pattern_and_synonyms_read_other_vocabularies() {
        let synonyms = BTreeMap::from([
            (Label::True, vec!["supported".to_owned()]),
            (Label::False, vec!["not_supported".to_owned()]),
            (Label::Nee, vec!["partially_supported".to_owned()]),
        ]);
        let parser = AnswerParser::new(Some("<answer>(.*?)</answer>"), &synonyms).expect("valid");
        assert_eq!(parser.parse("<explanation>True\nstory</explanation><answer>\nnot_supported </answer>"), F);
        assert_eq!(parser.parse("<answer>partially supported</answer>"), N);
        assert_eq!(parser.parse("<answer>supported</answer> no, <answer>not_supported</answer>"), F);
        assert_eq!(parser.parse("supported"), Unparseable);
        assert!(AnswerParser::new(Some("a(b)(c)"), &synonyms).is_err());
        assert!(AnswerParser::new(Some("("), &synonyms).is_err());
        let twice = BTreeMap::from([(Label::True, vec!["nei".to_owned()])]);
        assert!(AnswerParser::new(None, &twice).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_a_class_without_panic(text in ".*") {
            let _ = AnswerParser::default().parse(&text);
        }
    }
}
