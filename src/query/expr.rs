//! The parsed query and how it prints: the printed form reads back as the same query.

use std::fmt;

use super::lex::is_bare;
use super::parse::plain_number;
use crate::model::EvaluatorId;

/// A query. `And` and `Or` hold at least two parts.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// All of these hold.
    And(Vec<Expr>),
    /// One of these holds.
    Or(Vec<Expr>),
    /// This does not hold.
    Not(Box<Expr>),
    /// A field compared with a value.
    Compare(Comparison),
    /// The field is there and neither false, zero nor empty.
    Flag(Field),
}

/// A field compared with a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The field.
    pub field: Field,
    /// How it is compared.
    pub op: Op,
    /// What with.
    pub value: Value,
}

/// What a query can ask about, over all places; a [`super::Schema`] tells which fields a place has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// The value of a score; the evaluator's id, or the name that another application gave it.
    Score(String),
    /// The label of a score.
    Label(String),
    /// A column of the dataset that has no role of its own.
    Column(String),
    /// An attribute of a span.
    Attribute(String),
    /// The gold label.
    Expected,
    /// The model's answer as parsed.
    Output,
    /// How it ended.
    Status,
    /// Why it failed.
    Error,
    /// How many spans of a trace failed.
    Errors,
    /// The case's cluster.
    Group,
    /// The case's id; of a trace, the ids of its cases.
    Case,
    /// Which repeat.
    Repeat,
    /// HTTP tries.
    Attempts,
    /// Seconds taken.
    Duration,
    /// Input and output tokens together.
    Tokens,
    /// US dollars.
    Cost,
    /// Whether the answer came from the cache.
    Cached,
    /// Why the model stopped.
    Finish,
    /// All text that there is, for searching.
    Text,
    /// The claim.
    Claim,
    /// The context.
    Context,
    /// The trace's id.
    Trace,
    /// How many spans a trace has.
    Operations,
    /// The name of a trace's root span.
    Root,
    /// The service a trace comes from.
    Service,
    /// The run's id.
    Run,
    /// When it started, in seconds since the Unix epoch.
    Start,
}

/// How a field is compared with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// `=`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `~`: contains.
    Contains,
}

/// The right side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// As written, without quotes; words of a vocabulary in the vocabulary's spelling.
    pub text: String,
    /// How it is compared.
    pub meaning: Meaning,
}

/// How a value is compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// As this text, to the letter.
    Exact,
    /// As text in any case; this is its lowercase form.
    AnyCase(String),
    /// As a finite number: durations in seconds, times in seconds since the Unix epoch.
    Number(f64),
}

impl Value {
    /// The number to compare with, if it is one.
    pub const fn number(&self) -> Option<f64> {
        match self.meaning {
            Meaning::Number(number) => Some(number),
            _ => None,
        }
    }
}

impl Expr {
    /// The fields that the query reads, each once, in order of first use.
    pub fn fields(&self) -> Vec<&Field> {
        let mut fields = Vec::new();
        self.collect_fields(&mut fields);
        fields
    }

    /// How many terms it has.
    pub fn terms(&self) -> usize {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::terms).sum(),
            Self::Not(part) => part.terms(),
            Self::Compare(_) | Self::Flag(_) => 1,
        }
    }

    fn collect_fields<'a>(&'a self, fields: &mut Vec<&'a Field>) {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.collect_fields(fields)),
            Self::Not(part) => part.collect_fields(fields),
            Self::Compare(Comparison { field, .. }) | Self::Flag(field) => {
                if !fields.contains(&field) {
                    fields.push(field);
                }
            }
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Self], word: &str, wraps: fn(&Self) -> bool| {
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    write!(f, " {word} ")?;
                }
                if wraps(part) { write!(f, "({part})")? } else { write!(f, "{part}")? }
            }
            Ok(())
        };
        match self {
            Self::And(parts) => joined(f, parts, "and", |part| matches!(part, Self::And(_) | Self::Or(_))),
            Self::Or(parts) => joined(f, parts, "or", |part| matches!(part, Self::Or(_))),
            Self::Not(part) if matches!(**part, Self::And(_) | Self::Or(_)) => write!(f, "not ({part})"),
            Self::Not(part) => write!(f, "not {part}"),
            Self::Compare(Comparison { field, op, value }) => {
                write!(f, "{field} {op} ")?;
                // Text that looks like a number was quoted, or it would have been taken for one.
                let bare = is_bare(&value.text) && (value.number().is_some() || plain_number(&value.text).is_none());
                if bare { f.write_str(&value.text) } else { quoted(f, &value.text) }
            }
            Self::Flag(field) => write!(f, "{field}"),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |f: &mut fmt::Formatter<'_>, prefix: &str, name: &str| {
            f.write_str(prefix)?;
            if is_bare(name) { f.write_str(name) } else { quoted(f, name) }
        };
        let of_evaluator = |f: &mut fmt::Formatter<'_>, prefix: &str, name: &str| {
            f.write_str(prefix)?;
            // Only what is an evaluator's id reads back without quotes.
            if is_bare(name) && EvaluatorId::parse(name).is_ok() { f.write_str(name) } else { quoted(f, name) }
        };
        f.write_str(match self {
            Self::Score(name) => return of_evaluator(f, "score.", name),
            Self::Label(name) => return of_evaluator(f, "label.", name),
            Self::Column(name) => return named(f, "col.", name),
            Self::Attribute(name) => return named(f, "attr.", name),
            Self::Expected => "expected",
            Self::Output => "output",
            Self::Status => "status",
            Self::Error => "error",
            Self::Errors => "errors",
            Self::Group => "group",
            Self::Case => "case",
            Self::Repeat => "repeat",
            Self::Attempts => "attempts",
            Self::Duration => "duration",
            Self::Tokens => "tokens",
            Self::Cost => "cost",
            Self::Cached => "cached",
            Self::Finish => "finish",
            Self::Text => "text",
            Self::Claim => "claim",
            Self::Context => "context",
            Self::Trace => "trace",
            Self::Operations => "operations",
            Self::Root => "root",
            Self::Service => "service",
            Self::Run => "run",
            Self::Start => "start",
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Contains => "~",
        })
    }
}

/// The text in double quotes, so that it reads back.
fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            other => write!(f, "{other}")?,
        }
    }
    f.write_str("\"")
}
