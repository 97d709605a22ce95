//! The order that `--sort KEY` asks for.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::expr::Field;
use super::parse::plain_number;
use super::record::{FieldValue, Record};

/// A field to sort by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortKey {
    /// The field.
    pub field: Field,
    /// Whether the largest comes first.
    pub descending: bool,
}

impl SortKey {
    /// The order of two records: numbers by value, text by code point, numbers before text; a record without the field
    /// comes last in either direction. Equal records keep their order in a stable sort.
    pub fn compare(&self, a: &dyn Record, b: &dyn Record) -> Ordering {
        self.compare_values(&a.field(&self.field), &b.field(&self.field))
    }

    /// The order of two values of the field, as in [`Self::compare`].
    pub fn compare_values(&self, a: &FieldValue<'_>, b: &FieldValue<'_>) -> Ordering {
        let (a, b) = (self.rank(a), self.rank(b));
        let order = match (&a, &b) {
            (Rank::Missing, Rank::Missing) => return Ordering::Equal,
            (Rank::Missing, _) => return Ordering::Greater,
            (_, Rank::Missing) => return Ordering::Less,
            (Rank::Number(a), Rank::Number(b)) => a.total_cmp(b),
            (Rank::Number(_), Rank::Text(_)) => Ordering::Less,
            (Rank::Text(_), Rank::Number(_)) => Ordering::Greater,
            (Rank::Text(a), Rank::Text(b)) => a.cmp(b),
        };
        if self.descending { order.reverse() } else { order }
    }

    fn rank<'v>(&self, value: &'v FieldValue<'_>) -> Rank<'v> {
        // Columns and attributes hold numbers as text; ids that look like numbers are still names.
        let free = matches!(self.field, Field::Column(_) | Field::Attribute(_));
        let text = |text: &'v Cow<'_, str>| match plain_number(text).filter(|_| free) {
            Some(number) => Rank::Number(number),
            None => Rank::Text(text),
        };
        match value {
            FieldValue::Missing => Rank::Missing,
            FieldValue::Number(number) if number.is_nan() => Rank::Missing,
            FieldValue::Number(number) => Rank::Number(*number),
            FieldValue::Bool(bool) => Rank::Number(f64::from(u8::from(*bool))),
            FieldValue::Text(value) => text(value),
            FieldValue::Texts(values) => values.first().map_or(Rank::Missing, text),
        }
    }
}

enum Rank<'v> {
    Number(f64),
    Text(&'v str),
    Missing,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{Schema, parse_sort};

    fn sorted(key: &str, mut values: Vec<FieldValue<'static>>) -> Vec<FieldValue<'static>> {
        let key = parse_sort(key, &Schema::cases()).expect(key);
        values.sort_by(|a, b| key.compare_values(a, b));
        values
    }

    #[test]
    fn missing_values_come_last_in_both_directions() {
        let values = || vec![FieldValue::Missing, FieldValue::Number(2.0), FieldValue::Number(1.0)];
        assert_eq!(
            sorted("score.x", values()),
            [FieldValue::Number(1.0), FieldValue::Number(2.0), FieldValue::Missing]
        );
        assert_eq!(
            sorted("-score.x", values()),
            [FieldValue::Number(2.0), FieldValue::Number(1.0), FieldValue::Missing]
        );
    }

    #[test]
    fn columns_sort_by_value_and_ids_by_spelling() {
        let values = || vec![FieldValue::text("10"), FieldValue::text("b"), FieldValue::text("9")];
        let [nine, ten, b] = ["9", "10", "b"].map(FieldValue::text);
        assert_eq!(sorted("col.n", values()), [nine.clone(), ten.clone(), b.clone()]);
        assert_eq!(sorted("case", values()), [ten, nine, b]);
    }
}
