//! From a row to a case: ids and labels are parsed here, and nothing is trimmed.

use std::io::Write as _;

use sha2::{Digest as _, Sha256};

use super::columns::Role;
use super::error::{Problem, ProblemKind};
use super::label::LabelVocabulary;
use super::source::{ReadOptions, Row, RowReader};
use crate::model::{Case, CaseId, Digest, Label};
use crate::query::{Field, FieldValue, Record};

/// Makes cases of the rows of one file.
pub(super) struct CaseMaker {
    file: String,
    labels: LabelVocabulary,
    canonical: Vec<u8>,
}

impl CaseMaker {
    pub(super) fn new(file: String, options: &ReadOptions) -> Self {
        Self { file, labels: options.labels.clone(), canonical: Vec::new() }
    }

    /// The row's case, numbered 0, or what keeps the row from being one. The reader names the columns.
    pub(super) fn case(&mut self, row: Row, reader: &dyn RowReader) -> Result<Case, Problem> {
        let line = row.line;
        let fault = |role: Role, kind: ProblemKind, message: String, hint: String| Problem {
            file: self.file.clone(),
            line,
            column: reader.name_of(role).map(str::to_owned),
            kind,
            message,
            hint,
        };
        let Some(claim) = row.claim.filter(|claim| !is_blank(claim)) else {
            let hint = "give the row a claim or take it out".to_owned();
            return Err(fault(Role::Claim, ProblemKind::EmptyClaim, "the claim is empty".to_owned(), hint));
        };
        let word = row.label.as_deref().unwrap_or_default();
        let expected = self.labels.resolve(word).ok_or_else(|| {
            let near =
                self.labels.nearest(word).map(|(near, _)| format!("did you mean `{near}`? ")).unwrap_or_default();
            let words = |label| format!("{label} ({})", self.labels.words(label).collect::<Vec<_>>().join(", "));
            let known = Label::ALL.map(words).join("; ");
            let hint =
                format!("{near}known are {known}; the suite adds more with [dataset] labels = {{ True = [\"word\"] }}");
            fault(Role::Expected, ProblemKind::UnknownLabel, format!("the label `{}` is not known", clip(word)), hint)
        })?;
        let id = match row.id.filter(|id| !is_blank(id)) {
            Some(id) => CaseId::parse(id).map_err(|error| {
                let message = format!("{:?} is not {}", clip(&error.found), error.expected);
                fault(Role::Id, ProblemKind::BadId, message, "give the row another id".to_owned())
            })?,
            None => CaseId::parse(format!("row-{}", row.number)).expect("letters and digits make a case id"),
        };
        let context = row.context.unwrap_or_default();
        let digest = self.digest(&claim, &context, expected);
        let group = row.group.filter(|group| !is_blank(group));
        Ok(Case { seq: 0, id, claim, context, expected, group, columns: row.columns, digest })
    }

    /// SHA-256 of the canonical JSON `[claim, context, expected]`: no blanks between, only what must be escaped is.
    fn digest(&mut self, claim: &str, context: &str, expected: Option<Label>) -> Digest {
        self.canonical.clear();
        serde_json::to_writer(&mut self.canonical, &(claim, context, expected.map(Label::as_str)))
            .and_then(|()| self.canonical.flush().map_err(serde_json::Error::io))
            .expect("texts are always JSON, and memory is always written");
        Digest::from_bytes(Sha256::digest(&self.canonical).into())
    }
}

impl Record for Case {
    fn field(&self, field: &Field) -> FieldValue<'_> {
        match field {
            Field::Case => FieldValue::text(self.id.as_str()),
            Field::Claim => FieldValue::text(&self.claim),
            Field::Context => FieldValue::text(&self.context),
            Field::Expected => FieldValue::maybe_text(self.expected.map(Label::as_str)),
            Field::Group => FieldValue::maybe_text(self.group.as_deref()),
            Field::Text => FieldValue::Texts(vec![self.claim.as_str().into(), self.context.as_str().into()]),
            Field::Column(name) => {
                FieldValue::maybe_text(self.columns.iter().find(|(key, _)| key == name).map(|(_, text)| text.as_str()))
            }
            _ => FieldValue::Missing,
        }
    }
}

/// Whether there is nothing to see.
pub(super) fn is_blank(text: &str) -> bool {
    text.chars().all(char::is_whitespace)
}

/// The first control character that no text needs: all but tab, line feed and carriage return.
pub(super) fn control_character(text: &str) -> Option<char> {
    // C1 characters begin with 0xc2 in UTF-8: most text has none of these bytes and is not decoded.
    if text.bytes().all(|byte| (byte >= b' ' && byte != 0x7f && byte != 0xc2) || matches!(byte, b'\n' | b'\t' | b'\r'))
    {
        return None;
    }
    text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r'))
}

/// The first characters of a text, for messages.
fn clip(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_found_and_ordinary_text_passes() {
        for (text, found) in [
            ("plain\ttext\r\n", None),
            ("nbsp\u{a0} and é", None),
            ("שלום 😀 e\u{301}", None),
            ("nul\0", Some('\0')),
            ("c1\u{85}", Some('\u{85}')),
            ("del\u{7f}", Some('\u{7f}')),
        ] {
            assert_eq!(control_character(text), found, "{text:?}");
        }
    }

    #[test]
    fn the_digest_is_that_of_the_canonical_json() {
        let mut maker = CaseMaker::new(String::new(), &ReadOptions::default());
        let wanted = Sha256::digest("[\"a \\\"b\\\" ü\",\"\\n\",\"NEE\"]".as_bytes());
        assert_eq!(maker.digest("a \"b\" ü", "\n", Some(Label::Nee)).as_bytes()[..], wanted[..]);
        let unlabelled = Sha256::digest(b"[\"c\",\"\",null]");
        assert_eq!(maker.digest("c", "", None).as_bytes()[..], unlabelled[..]);
    }
}
