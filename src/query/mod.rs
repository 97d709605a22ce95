//! The one query language of `--where`, `--filter`, `--sort` and the pages; what is queried belongs to others.
//!
//! # Form
//!
//! Terms are joined by `and`, `or` and `not` (in any case; `not` binds tightest, then `and`) and parentheses, which nest
//! at most [`MAX_DEPTH`] deep. A term is `FIELD OP VALUE` with one of `=` `!=` `<` `<=` `>` `>=` `~`, or a bare flag.
//! A field or value with blanks or special characters stands in double or single quotes (`\"`, `\'`, `\\`, `\n`, `\r`
//! and `\t` are escapes): `attr."gen_ai.response.model" = "gpt-4.1"`, `col.'main topic' ~ bio`.
//!
//! # Meaning
//!
//! - **Missing** (no such score, column or attribute; not recorded yet) equals nothing, has no order and contains nothing:
//!   `score.x < 1` is false where the score is missing. `a != b` is always `not a = b`, so it is true for a missing field.
//! - **Numbers** compare as numbers. Fields that are numbers accept nothing else. `col.NAME` and `attr."NAME"` compare as
//!   numbers if both sides are numbers and the value is not quoted, so `col.year > 1999` works on text columns and
//!   `col.zip = "007"` is not `7`. Ordering something that is no number against a number is false.
//! - **Durations** carry a unit: `2s`, `150ms`, `1m30s` (`ns`, `us`, `ms`, `s`, `m`, `h`, `d`). Records give seconds.
//! - **Times** (`start`) are dates or RFC 3339 times, UTC where they name no zone: `start >= 2026-11-22`. Records give
//!   seconds since the Unix epoch.
//! - **Text** is equal if it is exactly equal: ids, groups, claims, columns and attributes heed case. Words of a
//!   vocabulary do not: `status`, `expected`, `output`, `label.ID`, `error`, `finish`, `cached`, `trace`. A word that is
//!   not in the vocabulary of `status`, `expected` or `output` is an error. `<` and its kin order text by code point.
//! - **`~`** is true if the field's text contains the value, whatever the case of either.
//! - **Several values** (the cases of a trace, the texts of a case): a term holds if it holds for one of them.
//! - **A bare flag** holds if the field is there and is neither `false`, nor the number zero, nor empty text. In columns
//!   and attributes the texts `false` and `0` count as false and zero; elsewhere text is only text, so that `expected`
//!   holds for a case labelled False.

mod error;
mod expr;
mod lex;
mod parse;
mod record;
mod schema;
mod sort;

pub use error::{Problem, QueryError};
pub use expr::{Comparison, Expr, Field, Meaning, Op, Value};
pub use parse::{MAX_DEPTH, parse, parse_sort};
pub use record::{FieldValue, Record};
pub use schema::Schema;
pub use sort::SortKey;
