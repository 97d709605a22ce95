//! From tokens to a query: names are resolved and values are checked here, so that matching cannot fail.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::error::{Problem, QueryError, nearest};
use super::expr::{Comparison, Expr, Field, Meaning, Op, Value};
use super::lex::{KEYWORDS, Lexeme, Token, lex};
use super::record::fold;
use super::schema::{Kind, Prefix, Schema};
use super::sort::SortKey;
use crate::model::EvaluatorId;

/// How deep parentheses and `not` may nest.
pub const MAX_DEPTH: usize = 64;

/// Reads a query about the things that the schema describes.
pub fn parse(text: &str, schema: &Schema) -> Result<Expr, QueryError> {
    let mut parser = Parser { query: text, lexemes: lex(text)?, position: 0, schema };
    let expr = parser.any_of(0)?;
    match parser.peek() {
        Token::End => Ok(expr),
        other => parser.unexpected(&other.clone(), "`and`, `or` or the end"),
    }
}

/// Reads a sort key: a field, with `-` before it for descending order.
pub fn parse_sort(text: &str, schema: &Schema) -> Result<SortKey, QueryError> {
    let trimmed = text.trim_start();
    let (descending, rest) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed),
    };
    // Blanks stand for what is cut off, so that columns count in the text as given.
    let offset = text.chars().count() - rest.chars().count();
    let padded: String = std::iter::repeat_n(' ', offset).chain(rest.chars()).collect();
    let lexemes = lex(&padded).map_err(|error| QueryError { query: text.to_owned(), ..error })?;
    let mut parser = Parser { query: text, lexemes, position: 0, schema };
    let (field, kind) = parser.field()?;
    if kind == Kind::Search {
        let wanted = "one field to sort by, such as `claim`";
        return parser.unexpected(&Token::Word(field.to_string()), wanted);
    }
    match parser.peek() {
        Token::End => Ok(SortKey { field, descending }),
        other => parser.unexpected(&other.clone(), "nothing more after the field to sort by"),
    }
}

struct Parser<'a> {
    query: &'a str,
    lexemes: Vec<Lexeme>,
    position: usize,
    schema: &'a Schema,
}

impl Parser<'_> {
    /// `all_of (or all_of)*`
    fn any_of(&mut self, depth: usize) -> Result<Expr, QueryError> {
        let mut parts = vec![self.all_of(depth)?];
        while self.peek().is_keyword("or") {
            self.position += 1;
            parts.push(self.all_of(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::Or(parts) })
    }

    /// `one (and one)*`
    fn all_of(&mut self, depth: usize) -> Result<Expr, QueryError> {
        let mut parts = vec![self.one(depth)?];
        while self.peek().is_keyword("and") {
            self.position += 1;
            parts.push(self.one(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::And(parts) })
    }

    /// `not one`, `( any_of )` or a term.
    fn one(&mut self, depth: usize) -> Result<Expr, QueryError> {
        let negated = self.peek().is_keyword("not");
        if !negated && *self.peek() != Token::Open {
            return self.term();
        }
        if depth >= MAX_DEPTH {
            return Err(self.error(Problem::TooDeep));
        }
        self.position += 1;
        if negated {
            return Ok(Expr::Not(Box::new(self.one(depth + 1)?)));
        }
        let inner = self.any_of(depth + 1)?;
        match self.peek() {
            Token::Close => self.position += 1,
            other => return self.unexpected(&other.clone(), "`and`, `or` or `)`"),
        }
        Ok(inner)
    }

    /// `FIELD OP VALUE` or a flag.
    fn term(&mut self) -> Result<Expr, QueryError> {
        let (field, kind) = self.field()?;
        let Token::Op(op) = *self.peek() else {
            return Ok(Expr::Flag(field));
        };
        if let Some(wanted) = misfit(op, kind) {
            return Err(self.error(Problem::BadOperator { field: field.to_string(), op: op.to_string(), wanted }));
        }
        self.position += 1;
        let (text, quoted) = match self.peek() {
            Token::Word(word) if !KEYWORDS.iter().any(|keyword| word.eq_ignore_ascii_case(keyword)) => {
                (word.clone(), false)
            }
            Token::Quoted(text) => (text.clone(), true),
            other => return self.unexpected(&other.clone(), "a value (quote it if it holds blanks or signs)"),
        };
        let value = if op == Op::Contains {
            Value { meaning: Meaning::AnyCase(fold(&text)), text }
        } else {
            read_value(&text, quoted, kind).map_err(|misfit| {
                let Misfit { wanted, nearest } = misfit;
                self.error(Problem::BadValue { field: field.to_string(), wanted, found: text, nearest })
            })?
        };
        self.position += 1;
        Ok(Expr::Compare(Comparison { field, op, value }))
    }

    /// A field of the schema.
    fn field(&mut self) -> Result<(Field, Kind), QueryError> {
        let word = match self.peek() {
            Token::Word(word) => word.clone(),
            other => return self.unexpected(&other.clone(), "a field"),
        };
        if let Some((_, field, kind)) = self.schema.fields.iter().find(|(name, ..)| name.eq_ignore_ascii_case(&word)) {
            self.position += 1;
            return Ok((field.clone(), *kind));
        }
        let (before, after) = word.split_once('.').unwrap_or((&word, ""));
        let Some(prefix) = self.schema.prefixes.iter().find(|prefix| prefix.word().eq_ignore_ascii_case(before)) else {
            return Err(self.error(self.unknown_field(&word)));
        };
        let name = match self.lexemes.get(self.position + 1) {
            Some(Lexeme { token: Token::Quoted(name), glued: true, .. }) if after.is_empty() && word.ends_with('.') => {
                Some(name.clone())
            }
            _ => None,
        };
        let (name, length) = match name {
            Some(name) => (name, 2),
            None if after.is_empty() => return Err(self.error(incomplete(*prefix))),
            None => (after.to_owned(), 1),
        };
        // Other applications name their scores as they like: those names stand in quotes.
        let evaluator = |name: String| match EvaluatorId::parse(name.as_str()) {
            Err(error) if length == 1 => {
                Err(self.error(Problem::Unexpected { found: format!("`{}`", error.found), wanted: error.expected }))
            }
            _ => Ok(name),
        };
        let field = match prefix {
            Prefix::Score => Field::Score(evaluator(name)?),
            Prefix::Label => Field::Label(evaluator(name)?),
            Prefix::Column => Field::Column(name),
            Prefix::Attribute => Field::Attribute(name),
        };
        self.position += length;
        Ok((field, prefix.kind()))
    }

    fn unknown_field(&self, found: &str) -> Problem {
        let known = self.schema.known();
        let (before, after) = found.split_once('.').unwrap_or((found, ""));
        // `scroe.x` is a slip in the prefix: what follows the dot is kept.
        let prefixes = self.schema.prefixes.iter().map(|prefix| prefix.word());
        let nearest = if after.is_empty() {
            let names = self.schema.fields.iter().map(|(name, ..)| *name);
            nearest(found, names.chain(prefixes)).map(|name| {
                self.schema.prefixes.iter().find(|prefix| prefix.word() == name).map_or(name, |prefix| {
                    let (_, example) = prefix.wanted();
                    example.trim_matches('`').to_owned()
                })
            })
        } else {
            nearest(before, prefixes).map(|prefix| format!("{prefix}.{after}"))
        };
        Problem::UnknownField { found: found.to_owned(), place: self.schema.place, nearest, known }
    }

    fn peek(&self) -> &Token {
        &self.lexeme().token
    }

    fn lexeme(&self) -> &Lexeme {
        self.lexemes.get(self.position).or(self.lexemes.last()).expect("the last token is the end")
    }

    fn error(&self, problem: Problem) -> QueryError {
        QueryError { query: self.query.to_owned(), column: self.lexeme().column, problem: Box::new(problem) }
    }

    fn unexpected<T>(&self, found: &Token, wanted: &'static str) -> Result<T, QueryError> {
        Err(self.error(Problem::Unexpected { found: found.describe(), wanted }))
    }
}

fn incomplete(prefix: Prefix) -> Problem {
    let (wanted, example) = prefix.wanted();
    Problem::IncompleteField { field: prefix.word().to_owned(), wanted, example }
}

/// What to use instead, if the operator means nothing for such fields.
fn misfit(op: Op, kind: Kind) -> Option<&'static str> {
    let ordering = matches!(op, Op::Lt | Op::Le | Op::Gt | Op::Ge);
    match kind {
        Kind::Search if op != Op::Contains => Some("`~`, for it is searched: `text ~ \"some words\"`"),
        Kind::Number | Kind::Duration | Kind::Time if op == Op::Contains => Some("`=`, `!=`, `<`, `<=`, `>` or `>=`"),
        Kind::Bool if op != Op::Eq && op != Op::Ne => Some("it as a flag, or `=` and `!=` with `true` or `false`"),
        Kind::Vocabulary(_) if ordering => Some("`=`, `!=` or `~`"),
        _ => None,
    }
}

struct Misfit {
    wanted: String,
    nearest: Option<String>,
}

/// What a written value means for a field of this kind.
fn read_value(text: &str, quoted: bool, kind: Kind) -> Result<Value, Misfit> {
    let misfit = |wanted: &str| Misfit { wanted: wanted.to_owned(), nearest: None };
    let number = |number: Option<f64>, wanted: &str| {
        let number = number.ok_or_else(|| misfit(wanted))?;
        Ok(Value { text: text.to_owned(), meaning: Meaning::Number(number) })
    };
    let word = |word: &str| Value { text: word.to_owned(), meaning: Meaning::AnyCase(fold(word)) };
    match kind {
        Kind::Text | Kind::Search => Ok(Value { text: text.to_owned(), meaning: Meaning::Exact }),
        Kind::Word => Ok(word(text)),
        Kind::Vocabulary(rows) => {
            let known = || rows.iter().filter_map(|row| row.first()).copied();
            match rows.iter().find(|row| row.iter().any(|spelling| spelling.eq_ignore_ascii_case(text))) {
                Some(row) => Ok(word(row.first().expect("a row holds at least the word itself"))),
                None => Err(Misfit { wanted: known().collect::<Vec<_>>().join(", "), nearest: nearest(text, known()) }),
            }
        }
        Kind::Bool => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => Ok(word("true")),
            "false" | "no" | "0" => Ok(word("false")),
            _ => Err(misfit("`true` or `false`")),
        },
        Kind::Number => number(plain_number(text), "a number"),
        // Zero is zero in any unit.
        Kind::Duration => number(
            seconds(text).or_else(|| plain_number(text).filter(|n| *n == 0.0)),
            "a number with its unit, such as `2s` or `150ms`",
        ),
        Kind::Time => number(unix_seconds(text), "a date or time, such as `2026-11-22` or `2026-11-22T10:30:00Z`"),
        Kind::Any => Ok(match plain_number(text).filter(|_| !quoted) {
            Some(number) => Value { text: text.to_owned(), meaning: Meaning::Number(number) },
            None => Value { text: text.to_owned(), meaning: Meaning::Exact },
        }),
    }
}

/// A finite decimal number; words such as `inf` and `nan` are text.
pub(super) fn plain_number(text: &str) -> Option<f64> {
    let first = text.trim_start_matches(['-', '+']).chars().next()?;
    if !first.is_ascii_digit() && first != '.' {
        return None;
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// `2s`, `150ms`, `1m30s`: the sum in seconds.
fn seconds(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, tail) = rest.split_at_checked(digits)?;
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(letters)?;
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        sum += amount.parse::<f64>().ok()? * unit;
        rest = tail;
    }
    (!text.is_empty() && f64::is_finite(sum)).then_some(sum)
}

/// A date or time as seconds since the Unix epoch.
fn unix_seconds(text: &str) -> Option<f64> {
    let stamp = text
        .parse::<Timestamp>()
        .ok()
        .or_else(|| text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp()))
        .or_else(|| text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp()))?;
    Some(stamp.as_nanosecond() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str, schema: Schema) -> QueryError {
        parse(text, &schema).expect_err(text)
    }

    fn shape(text: &str) -> String {
        parse(text, &Schema::cases()).expect(text).to_string()
    }

    #[test]
    fn the_examples_of_the_documentation_parse() {
        for text in [
            "score.label_match < 1 and expected = NEE",
            "status = error",
            "duration > 2s",
            "text ~ \"receptor\"",
            "col.field = biology",
            "error",
            "latency >= 1m30.5s",
            "not (cached or label.label_match = fail)",
        ] {
            shape(text);
        }
        let traces = parse("attr.\"gen_ai.response.model\" = \"gpt-4.1\" and start >= 2026-11-22", &Schema::traces());
        let Ok(Expr::And(parts)) = traces else { panic!("{traces:?}") };
        let Expr::Compare(model) = &parts[0] else { panic!("{parts:?}") };
        assert_eq!(model.field, Field::Attribute("gen_ai.response.model".to_owned()));
        let Expr::Compare(start) = &parts[1] else { panic!("{parts:?}") };
        assert_eq!(start.value.number(), Some(1_795_305_600.0));
    }

    #[test]
    fn not_binds_before_and_and_before_or() {
        assert_eq!(shape("not error and cached or group = a"), "not error and cached or group = a");
        let Ok(Expr::Or(parts)) = parse("cached or error and cached", &Schema::cases()) else {
            panic!("or is outermost")
        };
        assert_eq!(parts.len(), 2);
        assert_eq!(shape("NOT (error OR cached)"), "not (error or cached)");
        assert_eq!(shape("((error))"), "error");
    }

    #[test]
    fn words_of_a_vocabulary_take_its_spelling() {
        assert_eq!(shape("expected==nee"), "expected = NEE");
        assert_eq!(shape("status=ERROR"), "status = failed");
        assert_eq!(shape("cached = yes"), "cached = true");
    }

    #[test]
    fn durations_are_read_in_every_unit() {
        for (text, wanted) in [
            ("2s", 2.0),
            ("150ms", 0.15),
            ("1m30s", 90.0),
            ("5us", 5e-6),
            ("7µs", 7e-6),
            ("1.5h", 5400.0),
            ("1d", 86400.0),
        ] {
            let read = seconds(text).expect(text);
            assert!((read - wanted).abs() < 1e-12, "{text}: {read}");
        }
        for text in ["", "s", "2", "2x", "..s", "2s3"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn errors_name_the_column_the_known_fields_and_the_nearest() {
        let unknown = error("error and scroe.x < 1", Schema::cases());
        assert_eq!(unknown.column, 11);
        let text = unknown.to_string();
        assert!(text.contains("did you mean `score.x`?"), "{text}");
        assert!(text.contains("expected, output, status"), "{text}");
        assert_eq!(unknown.excerpt(), "error and scroe.x < 1\n          ^");

        let text = error("äöü = 1 or expectd", Schema::cases()).to_string();
        assert!(text.contains("column 1"), "{text}");
        let text = error("expectd = True", Schema::dataset()).to_string();
        assert!(text.contains("`expected`") && text.contains("a dataset"), "{text}");
        let text = error("score < 1", Schema::cases()).to_string();
        assert!(text.contains("an evaluator's id"), "{text}");
        let text = error("expected = Nei", Schema::cases()).to_string();
        assert!(text.contains("True, False, NEE, not with `Nei`; did you mean `NEE`?"), "{text}");
        let text = error("attr.x = 1", Schema::cases()).to_string();
        assert!(text.contains("unknown field `attr.x`"), "{text}");
    }

    #[test]
    fn what_cannot_be_meant_is_an_error_at_its_column() {
        for (text, column) in [
            ("", 1),
            ("error and", 10),
            ("(error", 7),
            ("error)", 6),
            ("error cached", 7),
            ("duration > 2", 12),
            ("duration ~ 2s", 10),
            ("tokens > many", 10),
            ("tokens > 1e999", 10),
            ("cached > 1", 8),
            ("text = receptor", 6),
            ("expected < True", 10),
            ("group = and", 9),
            ("group =", 8),
            ("group = \"open", 9),
            ("! error", 1),
            ("= 3", 1),
            ("score.Bad-Id = 1", 1),
            ("col. = 1", 1),
        ] {
            let found = error(text, Schema::cases());
            assert_eq!(found.column, column, "{found}");
        }
        assert_eq!(error("start > yesterday", Schema::traces()).column, 9);
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let deep = format!("{}error{}", "(".repeat(200_000), ")".repeat(200_000));
        assert_eq!(*error(&deep, Schema::cases()).problem, Problem::TooDeep);
        assert_eq!(*error(&format!("{}error", "not ".repeat(200_000)), Schema::cases()).problem, Problem::TooDeep);
        let fits = format!("{}error{}", "(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH));
        assert!(parse(&fits, &Schema::cases()).is_ok());
        let long = vec!["error"; 50_000].join(" and ");
        assert!(parse(&long, &Schema::cases()).is_ok());
    }

    #[test]
    fn sort_keys_take_a_sign_and_one_field() {
        let key = parse_sort("-score.label_match", &Schema::cases()).expect("valid");
        assert!(key.descending);
        assert_eq!(key.field.to_string(), "score.label_match");
        assert!(!parse_sort("latency", &Schema::cases()).expect("valid").descending);
        assert_eq!(parse_sort("-durration", &Schema::cases()).expect_err("unknown").column, 2);
        assert!(parse_sort("text", &Schema::cases()).is_err());
        assert!(parse_sort("case, group", &Schema::cases()).is_err());
    }

    fn value(kind: Kind) -> BoxedStrategy<Value> {
        let read = move |text: String, quoted| read_value(&text, quoted, kind).ok();
        let text = prop_oneof![
            any::<String>(),
            "[a-z \"'\\\\\n().=!<>~-]{0,6}",
            any::<f64>().prop_map(|n| n.to_string()),
            Just("and".to_owned())
        ];
        match kind {
            Kind::Vocabulary(rows) => proptest::sample::select(rows)
                .prop_filter_map("known", move |row| read(row[0].to_owned(), false))
                .boxed(),
            Kind::Bool => any::<bool>().prop_filter_map("known", move |b| read(b.to_string(), false)).boxed(),
            Kind::Number => (-1e9..1e9).prop_filter_map("finite", move |n: f64| read(n.to_string(), false)).boxed(),
            Kind::Duration => {
                (0u32..9, 0u32..999).prop_filter_map("valid", move |(s, ms)| read(format!("{s}s{ms}ms"), false)).boxed()
            }
            Kind::Time => (1u8..12, 1u8..28)
                .prop_filter_map("valid", move |(m, d)| read(format!("2026-{m:02}-{d:02}"), false))
                .boxed(),
            Kind::Text | Kind::Word | Kind::Any | Kind::Search => {
                (text, any::<bool>()).prop_filter_map("readable", move |(text, quoted)| read(text, quoted)).boxed()
            }
        }
    }

    fn field(schema: Schema) -> impl Strategy<Value = (Field, Kind)> {
        let name = prop_oneof![any::<String>(), "[a-z.'\"]{0,4}"];
        let prefixed =
            (proptest::sample::select(schema.prefixes), name, "[a-z][a-z_]{0,5}").prop_map(|(prefix, name, id)| {
                let field = match prefix {
                    Prefix::Score => Field::Score(if name.len() % 2 == 0 { id } else { name }),
                    Prefix::Label => Field::Label(name),
                    Prefix::Column => Field::Column(name),
                    Prefix::Attribute => Field::Attribute(name),
                };
                (field, prefix.kind())
            });
        prop_oneof![prefixed, proptest::sample::select(schema.fields).prop_map(|(_, field, kind)| (field, kind))]
    }

    fn expr(schema: Schema) -> impl Strategy<Value = Expr> {
        let ops = vec![Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge, Op::Contains];
        let leaf = (field(schema), proptest::sample::select(ops), any::<String>()).prop_flat_map(
            |((field, kind), op, text)| {
                if misfit(op, kind).is_some() {
                    return Just(Expr::Flag(field)).boxed();
                }
                if op == Op::Contains {
                    let value = Value { meaning: Meaning::AnyCase(fold(&text)), text };
                    return Just(Expr::Compare(Comparison { field, op, value })).boxed();
                }
                value(kind).prop_map(move |value| Expr::Compare(Comparison { field: field.clone(), op, value })).boxed()
            },
        );
        leaf.prop_recursive(5, 24, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
                proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::Or),
                inner.prop_map(|part| Expr::Not(Box::new(part))),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_printed_query_reads_back_as_itself(
            (schema, expr) in proptest::sample::select(vec![Schema::cases(), Schema::traces(), Schema::dataset()])
                .prop_flat_map(|schema| (Just(schema), expr(schema)))
        ) {
            let printed = expr.to_string();
            let read = parse(&printed, &schema);
            prop_assert_eq!(read.as_ref(), Ok(&expr), "{}", printed);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>(), signs in "[()a-z=<>!~\"'. -]{0,40}") {
            let _ = parse(&text, &Schema::cases());
            let _ = parse(&signs, &Schema::traces());
            let _ = parse_sort(&signs, &Schema::cases());
        }
    }
}
