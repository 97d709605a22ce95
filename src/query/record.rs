//! Whether a record matches a query.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::expr::{Comparison, Expr, Field, Meaning, Op, Value};
use super::parse::plain_number;

/// Something that a query can be asked about.
pub trait Record {
    /// The value of a field; [`FieldValue::Missing`] for a field that this kind of record does not have.
    ///
    /// `Duration` is given in seconds, `Start` in seconds since the Unix epoch, labels and states in the spelling of
    /// the documents (`NEE`, `completed`).
    fn field(&self, field: &Field) -> FieldValue<'_>;
}

/// The value of a record's field.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue<'a> {
    /// There is none.
    Missing,
    /// Text.
    Text(Cow<'a, str>),
    /// A number; one that is not finite counts as missing.
    Number(f64),
    /// True or false.
    Bool(bool),
    /// Several texts; a term holds if it holds for one of them.
    Texts(Vec<Cow<'a, str>>),
}

impl<'a> FieldValue<'a> {
    /// Text that is only looked at.
    pub fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// Text, if there is one.
    pub fn maybe_text(text: Option<&'a str>) -> Self {
        text.map_or(Self::Missing, Self::text)
    }

    /// A number, if there is one.
    pub fn maybe_number(number: Option<f64>) -> Self {
        number.map_or(Self::Missing, Self::Number)
    }
}

impl Expr {
    /// Whether the record matches.
    pub fn matches(&self, record: &dyn Record) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.matches(record)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(record)),
            Self::Not(part) => !part.matches(record),
            Self::Compare(comparison) => comparison.holds(&record.field(&comparison.field)),
            Self::Flag(field) => {
                let free = matches!(field, Field::Column(_) | Field::Attribute(_));
                is_set(&record.field(field), free)
            }
        }
    }
}

impl Comparison {
    /// Whether a value of the field satisfies the comparison.
    pub fn holds(&self, value: &FieldValue<'_>) -> bool {
        let one = |text: &str| self.holds_for_text(text);
        let positive = match value {
            FieldValue::Missing => false,
            FieldValue::Text(text) => one(text),
            FieldValue::Texts(texts) => texts.iter().any(|text| one(text)),
            FieldValue::Number(number) if !number.is_finite() => false,
            FieldValue::Number(number) => match self.value.meaning {
                Meaning::Number(wanted) => ordered(self.op, number.partial_cmp(&wanted)),
                // A number has an order among numbers only.
                _ if matches!(self.op, Op::Eq | Op::Ne | Op::Contains) => one(&number.to_string()),
                _ => false,
            },
            FieldValue::Bool(bool) => match self.value.meaning {
                Meaning::Number(wanted) => ordered(self.op, f64::from(u8::from(*bool)).partial_cmp(&wanted)),
                _ => match self.op {
                    Op::Eq | Op::Ne => self.value.text.eq_ignore_ascii_case(if *bool { "true" } else { "false" }),
                    _ => false,
                },
            },
        };
        positive != (self.op == Op::Ne)
    }

    /// As [`Self::holds`] for one text, with `!=` taken for `=`.
    fn holds_for_text(&self, text: &str) -> bool {
        let Value { text: wanted, meaning } = &self.value;
        match (self.op, meaning) {
            (Op::Contains, Meaning::AnyCase(folded)) => contains_folded(text, folded),
            (Op::Contains, _) => text.contains(wanted.as_str()),
            (op, Meaning::Number(number)) => ordered(op, plain_number(text.trim()).and_then(|n| n.partial_cmp(number))),
            (op, Meaning::Exact) => ordered(op, Some(text.cmp(wanted))),
            (op, Meaning::AnyCase(folded)) => {
                ordered(op, Some(text.chars().flat_map(char::to_lowercase).cmp(folded.chars())))
            }
        }
    }
}

/// Whether the order of field and value is one that the operator asks for; `!=` is taken for `=`.
fn ordered(op: Op, order: Option<Ordering>) -> bool {
    order.is_some_and(|order| match op {
        Op::Eq | Op::Ne => order.is_eq(),
        Op::Lt => order.is_lt(),
        Op::Le => order.is_le(),
        Op::Gt => order.is_gt(),
        Op::Ge => order.is_ge(),
        Op::Contains => false,
    })
}

/// What a bare flag asks; `free` fields hold truth values and numbers as text.
fn is_set(value: &FieldValue<'_>, free: bool) -> bool {
    let text_is_set = |text: &str| {
        !text.is_empty()
            && !(free && (text.trim().eq_ignore_ascii_case("false") || plain_number(text.trim()) == Some(0.0)))
    };
    match value {
        FieldValue::Missing => false,
        FieldValue::Text(text) => text_is_set(text),
        FieldValue::Texts(texts) => texts.iter().any(|text| text_is_set(text)),
        FieldValue::Number(number) => number.is_finite() && *number != 0.0,
        FieldValue::Bool(bool) => *bool,
    }
}

/// Lowercase, character by character, so that a part of a folded text is the fold of that part.
pub(super) fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// Whether the text contains the folded needle; ASCII text, the common case, is searched where it lies.
fn contains_folded(text: &str, needle: &str) -> bool {
    if needle.is_empty() {
        return true;
    }
    if text.is_ascii() {
        return text.as_bytes().windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle.as_bytes()));
    }
    fold(text).contains(needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{Schema, parse};

    /// A record whose only fields are columns and, under their own names, everything else.
    struct Row(Vec<(&'static str, FieldValue<'static>)>);

    impl Record for Row {
        fn field(&self, field: &Field) -> FieldValue<'_> {
            let name = field.to_string();
            self.0.iter().find(|(key, _)| *key == name).map_or(FieldValue::Missing, |(_, value)| value.clone())
        }
    }

    fn check(row: &Row, expectations: &[(&str, bool)]) {
        for (query, wanted) in expectations {
            let expr = parse(query, &Schema::cases()).expect(query);
            assert_eq!(expr.matches(row), *wanted, "{query}");
        }
    }

    #[test]
    fn missing_fields_equal_nothing_and_have_no_order() {
        let row = Row(vec![]);
        check(
            &row,
            &[
                ("score.x < 1", false),
                ("score.x >= 1", false),
                ("score.x = 0", false),
                ("score.x != 0", true),
                ("not score.x = 0", true),
                ("score.x", false),
                ("not expected", true),
                ("claim ~ \"\"", false),
            ],
        );
        check(
            &Row(vec![("score.x", FieldValue::Number(f64::NAN))]),
            &[("score.x", false), ("score.x = 0", false), ("score.x != 0", true)],
        );
    }

    #[test]
    fn columns_compare_as_numbers_where_both_sides_are() {
        let row = Row(vec![
            ("col.year", FieldValue::text("2001")),
            ("col.zip", FieldValue::text("007")),
            ("col.field", FieldValue::text("Biology")),
        ]);
        check(
            &row,
            &[
                ("col.year > 1999", true),
                ("col.year > 300", true),
                ("col.year = 2001.0", true),
                ("col.year = \"2001.0\"", false),
                ("col.zip = 7", true),
                ("col.zip = \"007\"", true),
                ("col.zip = \"7\"", false),
                ("col.field = 7", false),
                ("col.field != 7", true),
                ("col.field < 7", false),
                ("col.field >= 7", false),
                ("col.field = Biology", true),
                ("col.field = biology", false),
                ("col.field ~ BIO", true),
                ("col.field < C", true),
            ],
        );
    }

    #[test]
    fn vocabularies_ignore_case_and_ids_do_not() {
        let row = Row(vec![
            ("expected", FieldValue::text("NEE")),
            ("label.tone", FieldValue::text("Rude")),
            ("case", FieldValue::text("Claims-1")),
            ("error", FieldValue::text("429")),
        ]);
        check(
            &row,
            &[
                ("expected = nee", true),
                ("label.tone = RUDE", true),
                ("id = claims-1", false),
                ("id = Claims-1", true),
                ("id ~ claims", true),
                ("error = 429", true),
            ],
        );
    }

    #[test]
    fn flags_hold_for_what_is_there_and_not_false_zero_or_empty() {
        let row = Row(vec![
            ("expected", FieldValue::text("False")),
            ("col.no", FieldValue::text("FALSE")),
            ("col.zero", FieldValue::text("0.0")),
            ("col.empty", FieldValue::text("")),
            ("col.some", FieldValue::text("x")),
            ("cached", FieldValue::Bool(true)),
            ("score.x", FieldValue::Number(0.0)),
            ("error", FieldValue::Texts(vec![])),
        ]);
        check(
            &row,
            &[
                ("expected", true),
                ("col.no", false),
                ("col.zero", false),
                ("col.empty", false),
                ("col.some", true),
                ("cached", true),
                ("cached = true", true),
                ("cached != no", true),
                ("score.x", false),
                ("score.x = 0", true),
                ("error", false),
            ],
        );
    }

    #[test]
    fn one_of_several_texts_is_enough() {
        let row =
            Row(vec![("text", FieldValue::Texts(vec!["Ein Kelvin: 1 \u{212a}".into(), "ÄRGER über Όσος".into()]))]);
        check(
            &row,
            &[
                ("text ~ \"1 k\"", true),
                ("text ~ ärger", true),
                ("text ~ ΌΣΟΣ", false),
                ("text ~ ΌΣΟ", true),
                ("text ~ fehlt", false),
            ],
        );
    }
}
