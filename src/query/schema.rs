//! Which fields a place has, what they are called there and what they are compared with.

use super::expr::Field;

/// What a field is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, to the letter.
    Text,
    /// Text in any case.
    Word,
    /// One of these words; the words after the first of each row are other spellings of it.
    Vocabulary(&'static [&'static [&'static str]]),
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// A number with a unit of time.
    Duration,
    /// A date or time.
    Time,
    /// A number or text, as each record has it.
    Any,
    /// Text that can only be searched.
    Search,
}

/// What stands behind the dot of a field with a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    Score,
    Label,
    Column,
    Attribute,
}

impl Prefix {
    /// The word before the dot.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Score => "score",
            Self::Label => "label",
            Self::Column => "col",
            Self::Attribute => "attr",
        }
    }

    /// What fields with this prefix are compared with.
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Score => Kind::Number,
            Self::Label => Kind::Word,
            Self::Column | Self::Attribute => Kind::Any,
        }
    }

    /// What belongs behind the dot, and an example.
    pub(super) const fn wanted(self) -> (&'static str, &'static str) {
        match self {
            Self::Score => ("an evaluator's id, or any name in quotes", "`score.label_match < 1`"),
            Self::Label => ("an evaluator's id, or any name in quotes", "`label.label_match = fail`"),
            Self::Column => ("a column's name", "`col.field = biology`"),
            Self::Attribute => ("an attribute's name", "`attr.\"gen_ai.response.model\" = \"gpt-4.1\"`"),
        }
    }

    const fn shown(self) -> &'static str {
        match self {
            Self::Score => "score.ID",
            Self::Label => "label.ID",
            Self::Column => "col.NAME",
            Self::Attribute => "attr.\"NAME\"",
        }
    }
}

/// The fields of a place where queries are used.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    pub(super) place: &'static str,
    pub(super) prefixes: &'static [Prefix],
    /// Names as written, the field, its kind. Several names of one field follow each other.
    pub(super) fields: &'static [(&'static str, Field, Kind)],
}

const LABELS: Kind = Kind::Vocabulary(&[&["True"], &["False"], &["NEE"]]);
const OUTPUTS: Kind = Kind::Vocabulary(&[&["True"], &["False"], &["NEE"], &["unparseable"]]);
const TRIAL_STATUS: Kind =
    Kind::Vocabulary(&[&["completed", "ok"], &["failed", "error"], &["skipped"], &["planned", "pending"]]);
const TRACE_STATUS: Kind = Kind::Vocabulary(&[&["ok", "unset", "completed"], &["error", "failed"]]);

impl Schema {
    /// The cases of a run: `cases --where`, and the pages that list them.
    ///
    /// `status` is `completed`, `failed`, `skipped` or `planned` (no outcome yet).
    pub const fn cases() -> Self {
        Self {
            place: "cases",
            prefixes: &[Prefix::Score, Prefix::Label, Prefix::Column],
            fields: &[
                ("expected", Field::Expected, LABELS),
                ("output", Field::Output, OUTPUTS),
                ("status", Field::Status, TRIAL_STATUS),
                ("error", Field::Error, Kind::Word),
                ("group", Field::Group, Kind::Text),
                ("case", Field::Case, Kind::Text),
                ("id", Field::Case, Kind::Text),
                ("repeat", Field::Repeat, Kind::Number),
                ("attempts", Field::Attempts, Kind::Number),
                ("duration", Field::Duration, Kind::Duration),
                ("latency", Field::Duration, Kind::Duration),
                ("tokens", Field::Tokens, Kind::Number),
                ("cost", Field::Cost, Kind::Number),
                ("cached", Field::Cached, Kind::Bool),
                ("finish", Field::Finish, Kind::Word),
                ("text", Field::Text, Kind::Search),
                ("claim", Field::Claim, Kind::Text),
                ("context", Field::Context, Kind::Text),
                ("trace", Field::Trace, Kind::Word),
            ],
        }
    }

    /// The traces of a store: `traces --where`. `status` is `ok` or `error`.
    pub const fn traces() -> Self {
        Self {
            place: "traces",
            prefixes: &[Prefix::Score, Prefix::Attribute],
            fields: &[
                ("status", Field::Status, TRACE_STATUS),
                ("error", Field::Error, Kind::Word),
                ("errors", Field::Errors, Kind::Number),
                ("duration", Field::Duration, Kind::Duration),
                ("operations", Field::Operations, Kind::Number),
                ("root", Field::Root, Kind::Text),
                ("service", Field::Service, Kind::Text),
                ("run", Field::Run, Kind::Text),
                ("case", Field::Case, Kind::Text),
                ("trace", Field::Trace, Kind::Word),
                ("text", Field::Text, Kind::Search),
                ("start", Field::Start, Kind::Time),
            ],
        }
    }

    /// The rows of a dataset: `run --filter`.
    pub const fn dataset() -> Self {
        Self {
            place: "a dataset",
            prefixes: &[Prefix::Column],
            fields: &[
                ("id", Field::Case, Kind::Text),
                ("case", Field::Case, Kind::Text),
                ("claim", Field::Claim, Kind::Text),
                ("context", Field::Context, Kind::Text),
                ("expected", Field::Expected, LABELS),
                ("label", Field::Expected, LABELS),
                ("group", Field::Group, Kind::Text),
                ("text", Field::Text, Kind::Search),
            ],
        }
    }

    /// The fields as help texts and errors show them: `id`, `score.ID`, ….
    pub fn known(&self) -> Vec<String> {
        let names = self.fields.iter().map(|(name, ..)| *name);
        names.chain(self.prefixes.iter().map(|prefix| prefix.shown())).map(str::to_owned).collect()
    }
}
