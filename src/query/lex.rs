//! Splits a query into tokens and remembers where each begins.

use super::error::{Problem, QueryError};
use super::expr::Op;

/// A piece of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Open,
    Close,
    Op(Op),
    Word(String),
    Quoted(String),
    End,
}

impl Token {
    /// The token as an error message shows it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Open => "`(`".to_owned(),
            Self::Close => "`)`".to_owned(),
            Self::Op(op) => format!("`{op}`"),
            Self::Word(word) => format!("`{word}`"),
            Self::Quoted(text) => format!("\"{text}\""),
            Self::End => "the end".to_owned(),
        }
    }

    /// Whether the token is this keyword, in any case.
    pub(super) fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// A token and its place.
#[derive(Debug, Clone)]
pub(super) struct Lexeme {
    pub(super) token: Token,
    /// In characters from 1.
    pub(super) column: usize,
    /// Whether it follows the token before it without a blank.
    pub(super) glued: bool,
}

/// Words that join terms and therefore cannot stand bare as a value.
pub(super) const KEYWORDS: [&str; 3] = ["and", "or", "not"];

/// All tokens of the query; the last is [`Token::End`].
pub(super) fn lex(query: &str) -> Result<Vec<Lexeme>, QueryError> {
    let error =
        |column: usize, problem: Problem| QueryError { query: query.to_owned(), column, problem: Box::new(problem) };
    let mut lexemes = Vec::new();
    let mut chars = query.chars().enumerate().map(|(index, c)| (index + 1, c)).peekable();
    let mut glued = false;
    while let Some((column, c)) = chars.next() {
        if c.is_whitespace() {
            glued = false;
            continue;
        }
        let mut follows = |wanted: char| chars.next_if(|(_, c)| *c == wanted).is_some();
        let token = match c {
            '(' => Token::Open,
            ')' => Token::Close,
            '~' => Token::Op(Op::Contains),
            '=' => {
                // `==` is a habit from elsewhere and can mean nothing else.
                follows('=');
                Token::Op(Op::Eq)
            }
            '<' => Token::Op(if follows('=') { Op::Le } else { Op::Lt }),
            '>' => Token::Op(if follows('=') { Op::Ge } else { Op::Gt }),
            '!' if follows('=') => Token::Op(Op::Ne),
            '!' => {
                let problem = Problem::Unexpected { found: "`!`".to_owned(), wanted: "`!=` or `not`" };
                return Err(error(column, problem));
            }
            '"' | '\'' => {
                let mut text = String::new();
                loop {
                    match chars.next() {
                        None => return Err(error(column, Problem::OpenQuote)),
                        Some((_, end)) if end == c => break,
                        Some((_, '\\')) => match chars.next() {
                            None => return Err(error(column, Problem::OpenQuote)),
                            Some((_, 'n')) => text.push('\n'),
                            Some((_, 'r')) => text.push('\r'),
                            Some((_, 't')) => text.push('\t'),
                            Some((_, other)) => text.push(other),
                        },
                        Some((_, other)) => text.push(other),
                    }
                }
                Token::Quoted(text)
            }
            first => {
                let mut word = String::from(first);
                while let Some((_, c)) = chars.next_if(|(_, c)| in_word(*c, word.ends_with('.'))) {
                    word.push(c);
                }
                Token::Word(word)
            }
        };
        lexemes.push(Lexeme { token, column, glued });
        glued = true;
    }
    lexemes.push(Lexeme { token: Token::End, column: query.chars().count() + 1, glued: false });
    Ok(lexemes)
}

/// Whether a character continues a bare word. An apostrophe does (`don't`), unless it opens a quoted name (`col.'a b'`).
fn in_word(c: char, after_dot: bool) -> bool {
    let opens_name = after_dot && c == '\'';
    !(c.is_whitespace() || opens_name || matches!(c, '(' | ')' | '"' | '=' | '!' | '<' | '>' | '~'))
}

/// Whether a text reads back as one bare word.
pub(super) fn is_bare(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '@' | '+' | '%'))
        && !KEYWORDS.iter().any(|keyword| text.eq_ignore_ascii_case(keyword))
}
