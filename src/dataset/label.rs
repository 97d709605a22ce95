//! Which words of a dataset mean which label.

use std::collections::BTreeMap;

use crate::model::Label;

/// Words that mean True in public datasets, in the form that [`normal`] gives.
const TRUE: &[&str] =
    &["true", "supports", "supported", "support", "entailment", "entailed", "entails", "yes", "1", "1.0"];
/// Words that mean False.
const FALSE: &[&str] = &[
    "false",
    "refutes",
    "refuted",
    "refute",
    "contradict",
    "contradicts",
    "contradicted",
    "contradiction",
    "contradictory",
    "no",
    "0",
    "0.0",
];
/// Words that mean not enough evidence.
const NEE: &[&str] = &[
    "nee",
    "nei",
    "notenoughinfo",
    "notenoughinformation",
    "notenoughevidence",
    "neutral",
    "insufficient",
    "insufficientinfo",
    "insufficientinformation",
    "insufficientevidence",
    "unverifiable",
];
/// Words that programs write where there is no label.
const NOTHING: &[&str] = &["", "null", "nan"];

/// The words for each label. Case, blanks, underscores and hyphens make no difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelVocabulary(BTreeMap<String, Option<Label>>);

impl Default for LabelVocabulary {
    fn default() -> Self {
        let of = |words: &'static [&str], label| words.iter().map(move |word| ((*word).to_owned(), label));
        Self(
            of(TRUE, Some(Label::True))
                .chain(of(FALSE, Some(Label::False)))
                .chain(of(NEE, Some(Label::Nee)))
                .chain(of(NOTHING, None))
                .collect(),
        )
    }
}

impl LabelVocabulary {
    /// Adds words for a label; a word that meant something else until now means this from now on.
    pub fn extend(&mut self, label: Label, words: &[String]) {
        self.0.extend(words.iter().map(|word| (normal(word), Some(label))));
    }

    /// The label that a word means; `Some(None)` for a word that means no label, `None` for an unknown word.
    pub fn resolve(&self, word: &str) -> Option<Option<Label>> {
        self.0.get(&normal(word)).copied()
    }

    /// The words for a label, sorted.
    pub fn words(&self, label: Label) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(_, of)| **of == Some(label)).map(|(word, _)| word.as_str())
    }

    /// The known word closest to an unknown one, with its label.
    pub(super) fn nearest(&self, word: &str) -> Option<(&str, Label)> {
        let known = self.0.iter().filter(|(_, label)| label.is_some()).map(|(word, _)| word.as_str());
        let near = super::error::nearest(&normal(word), known)?;
        Some((near, (*self.0.get(near)?)?))
    }
}

/// Lowercase without blanks, underscores and hyphens.
fn normal(word: &str) -> String {
    word.chars().filter(|c| !c.is_whitespace() && *c != '_' && *c != '-').flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_field_are_known_in_any_spelling() {
        let vocabulary = LabelVocabulary::default();
        for (word, label) in [
            ("SUPPORTS", Label::True),
            ("Supported", Label::True),
            (" true ", Label::True),
            ("1", Label::True),
            ("entailment", Label::True),
            ("REFUTES", Label::False),
            ("CONTRADICT", Label::False),
            ("0.0", Label::False),
            ("NOT ENOUGH INFO", Label::Nee),
            ("NOT_ENOUGH_INFO", Label::Nee),
            ("not-enough-evidence", Label::Nee),
            ("NEI", Label::Nee),
            ("Neutral", Label::Nee),
        ] {
            assert_eq!(vocabulary.resolve(word), Some(Some(label)), "{word}");
        }
        for word in ["", "  ", "null", "NaN"] {
            assert_eq!(vocabulary.resolve(word), Some(None), "{word:?}");
        }
        for word in ["10", "maybe", "partially_supported", "2", "none"] {
            assert_eq!(vocabulary.resolve(word), None, "{word}");
        }
    }

    #[test]
    fn added_words_win_over_the_defaults() {
        let mut vocabulary = LabelVocabulary::default();
        vocabulary.extend(Label::Nee, &["Partially Supported".to_owned(), "neutral".to_owned()]);
        vocabulary.extend(Label::False, &["neutral".to_owned()]);
        assert_eq!(vocabulary.resolve("partially_supported"), Some(Some(Label::Nee)));
        assert_eq!(vocabulary.resolve("NEUTRAL"), Some(Some(Label::False)));
        assert!(vocabulary.words(Label::Nee).all(|word| word != "neutral"));
        assert_eq!(vocabulary.nearest("suported"), Some(("supported", Label::True)));
    }
}
