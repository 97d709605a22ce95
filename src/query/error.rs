//! What can be wrong with a query, where, and what would be right.

/// A query that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("query `{query}`, column {column}: {problem}")]
pub struct QueryError {
    /// The query as it was given.
    pub query: String,
    /// Where it goes wrong, in characters from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: Box<Problem>,
}

impl QueryError {
    /// The query with a caret under the place, on two lines.
    pub fn excerpt(&self) -> String {
        let line: String = self.query.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("{line}\n{:>width$}", "^", width = self.column)
    }
}

/// What is wrong with a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The field is not one of the place's.
    #[error("unknown field `{found}`{}; the fields of {place} are {}", did_you_mean(.nearest.as_deref()), .known.join(", "))]
    UnknownField {
        /// What was written.
        found: String,
        /// What the query is about: `cases`, `traces`, `a dataset`.
        place: &'static str,
        /// The closest known field.
        nearest: Option<String>,
        /// All known fields.
        known: Vec<String>,
    },
    /// A prefix without a name behind it.
    #[error("`{field}` wants {wanted} behind it: {example}")]
    IncompleteField {
        /// The prefix.
        field: String,
        /// What belongs behind it.
        wanted: &'static str,
        /// An example.
        example: &'static str,
    },
    /// The value does not fit the field.
    #[error("`{field}` is compared with {wanted}, not with `{found}`{}", did_you_mean(.nearest.as_deref()))]
    BadValue {
        /// The field.
        field: String,
        /// What would fit.
        wanted: String,
        /// What was written.
        found: String,
        /// The closest value that would fit.
        nearest: Option<String>,
    },
    /// The operator does not fit the field.
    #[error("`{op}` does not apply to `{field}`: use {wanted}")]
    BadOperator {
        /// The field.
        field: String,
        /// The operator.
        op: String,
        /// What would fit.
        wanted: &'static str,
    },
    /// Something else was expected.
    #[error("found {found} where {wanted} was expected")]
    Unexpected {
        /// What stands there.
        found: String,
        /// What should.
        wanted: &'static str,
    },
    /// A quote that never ends.
    #[error("the quote that opens here is never closed")]
    OpenQuote,
    /// Too many parentheses or `not`s inside each other.
    #[error("nested more than {0} deep; write it flatter", super::MAX_DEPTH)]
    TooDeep,
}

/// `; did you mean …` or nothing.
fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// The candidate closest to what was written, if it is close enough to be a slip.
pub(super) fn nearest<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let found = found.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&found, &name.to_ascii_lowercase()), name))
        .filter(|(similarity, _)| *similarity >= 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}
