//! A query is read or refused with a column inside it; what is read prints as the same query and matches without panic.
#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use spanscore::query::{Field, FieldValue, QueryError, Record, Schema, parse, parse_sort};

/// A record whose fields all have the same value.
struct All<'a>(FieldValue<'a>);

impl Record for All<'_> {
    fn field(&self, _: &Field) -> FieldValue<'_> {
        self.0.clone()
    }
}

fuzz_target!(|text: &str| {
    let records = [
        All(FieldValue::Missing),
        All(FieldValue::Text(Cow::Borrowed("Straße 12"))),
        All(FieldValue::Number(f64::NAN)),
        All(FieldValue::Number(0.5)),
        All(FieldValue::Bool(true)),
        All(FieldValue::Texts(vec![Cow::Borrowed("a"), Cow::Borrowed("2")])),
    ];
    for schema in [Schema::cases(), Schema::traces(), Schema::dataset()] {
        match parse(text, &schema) {
            Ok(query) => {
                let printed = query.to_string();
                let again = parse(&printed, &schema).unwrap_or_else(|error| panic!("`{printed}`: {error}"));
                assert_eq!(again, query, "`{printed}`");
                for record in &records {
                    assert_eq!(query.matches(record), again.matches(record));
                }
            }
            Err(error) => points_into(&error, text),
        }
        match parse_sort(text, &schema) {
            Ok(key) => {
                for (a, b) in records.iter().zip(&records[1..]) {
                    assert_eq!(key.compare(a, b), key.compare(b, a).reverse());
                }
            }
            Err(error) => points_into(&error, text),
        }
    }
});

fn points_into(error: &QueryError, text: &str) {
    let length = text.chars().count();
    assert!((1..=length + 1).contains(&error.column), "column {} of {length}", error.column);
    assert_eq!(error.query, text);
    assert_eq!(error.excerpt().lines().count(), 2);
    assert!(!error.to_string().is_empty());
}
