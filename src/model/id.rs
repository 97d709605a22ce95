//! Identifiers as newtypes, parsed once at the edge: inside, nobody re-checks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not an identifier of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not {expected}")]
pub struct IdError {
    /// The text that was given.
    pub found: String,
    /// What it should have been, with its article: "a trace id of 32 hex digits".
    pub expected: &'static str,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The id of these bytes, most significant first.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The id of a slice, if it has the right length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The bytes, most significant first.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0u8; $bytes * 2];
                hex::encode_to_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0u8; $bytes];
                hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| IdError { found: text.to_owned(), expected: $expected })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// A W3C trace id: 16 bytes, shown as 32 lowercase hex digits.
    TraceId, 16, "a trace id of 32 hex digits"
);
hex_id!(
    /// A W3C span id: 8 bytes, shown as 16 lowercase hex digits.
    SpanId, 8, "a span id of 16 hex digits"
);
hex_id!(
    /// A SHA-256 digest of content, shown as 64 lowercase hex digits.
    Digest, 32, "a SHA-256 digest of 64 hex digits"
);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(String);

        impl $name {
            /// Parses a text into the id, or says what it should have been.
            pub fn parse(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) {
                    Ok(Self(text))
                } else {
                    Err(IdError { found: text, expected: $expected })
                }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::parse(String::deserialize(d)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// Names a run; sorts by the time it started (`20261122-154501-3f9a2c`, UTC).
    RunId, "a run id", |t| !t.is_empty() && t.len() <= 64
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
);
text_id!(
    /// Names a case within its dataset: any text without control characters, 1 to 512 bytes.
    CaseId, "a case id (1 to 512 bytes, no control characters)", |t| !t.is_empty() && t.len() <= 512
        && !t.chars().any(char::is_control)
);
text_id!(
    /// Names an evaluator: lowercase snake_case words joined by dots, for it becomes part of an attribute name.
    EvaluatorId, "an evaluator id (lowercase snake_case, dots between words)", |t| t.len() <= 64
        && !t.is_empty()
        && t.split('.').all(|word| word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_ids_read_back_what_they_print() {
        let id: TraceId = "0af7651916cd43dd8448eb211c80319c".parse().expect("valid");
        assert_eq!(id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert!("0af7".parse::<TraceId>().is_err());
        assert!("zzzzzzzzzzzzzzzz".parse::<SpanId>().is_err());
    }

    #[test]
    fn evaluator_ids_keep_to_the_attribute_grammar() {
        for good in ["label_match", "a", "judge.tone_v2"] {
            assert!(EvaluatorId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "Label", "a-b", "a..b", "1a", "a.", "_a"] {
            assert!(EvaluatorId::parse(bad).is_err(), "{bad}");
        }
    }
}
