//! The three classes of claim verification, and what a model's answer was taken for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The verdict on a claim in the light of its context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Label {
    /// The context supports the claim.
    True,
    /// The context contradicts the claim.
    False,
    /// The context holds not enough evidence either way.
    #[serde(rename = "NEE")]
    Nee,
}

impl Label {
    /// All labels, in the order in which tables show them.
    pub const ALL: [Self; 3] = [Self::True, Self::False, Self::Nee];

    /// The label as the prompt asks for it and every document shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Nee => "NEE",
        }
    }

    /// The position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The label spelled exactly as [`Self::as_str`].
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|label| label.as_str() == text)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the parser made of a model's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Predicted {
    /// One of the three labels.
    Label(Label),
    /// An answer that is no label: a class of its own, and wrong.
    Unparseable,
}

impl Predicted {
    /// The class as documents show it: a label or `unparseable`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Label(label) => label.as_str(),
            Self::Unparseable => "unparseable",
        }
    }

    /// The class spelled exactly as [`Self::as_str`].
    pub fn from_name(text: &str) -> Option<Self> {
        if text == "unparseable" { Some(Self::Unparseable) } else { Label::from_name(text).map(Self::Label) }
    }

    /// The label, if it is one.
    pub const fn label(self) -> Option<Label> {
        match self {
            Self::Label(label) => Some(label),
            Self::Unparseable => None,
        }
    }
}

impl fmt::Display for Predicted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
