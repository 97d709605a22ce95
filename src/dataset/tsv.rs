//! Tab-separated values. Some writers quote fields as in CSV, others write quotes as they are; nothing in the file says
//! which. So a line is read with quotes where that gives the header's number of fields, and as it stands otherwise.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::columns::Role;
use super::csv::Table;
use super::error::{DatasetError, Problem};
use super::source::{Context, Row, RowReader};
use super::text::{Bytes, Lines, read_error, skip_mark};

/// A quoted field of more lines than this is taken for a stray quote.
const MAX_QUOTED_LINES: usize = 1000;

/// The rows of a TSV file.
pub(super) struct TsvRows {
    lines: Lines,
    table: Table,
    /// Lines read ahead to see where a quote is closed; a problem is the last of them.
    ahead: VecDeque<Result<Line, Problem>>,
    number: u64,
    ended: bool,
}

struct Line {
    number: u64,
    text: Vec<u8>,
}

impl TsvRows {
    /// Reads the header.
    pub(super) fn open(mut bytes: Bytes, context: Context) -> Result<Self, DatasetError> {
        skip_mark(&mut bytes, &context)?;
        let mut lines = Lines::new(bytes);
        let (line, header) = match read_line(&mut lines, &context).transpose()? {
            Some(line) => (line.number, line.text),
            None => (1, Vec::new()),
        };
        let fields = match quoted_fields(&header) {
            Quoted::Fields(fields) => fields,
            Quoted::Broken | Quoted::Open => plain_fields(&header),
        };
        let names = fields.iter().map(AsRef::as_ref).filter(|_| !header.is_empty());
        let table = Table::new(names, line, context)?;
        Ok(Self { lines, table, ahead: VecDeque::new(), number: 0, ended: false })
    }

    fn row(&mut self, line: Line) -> Result<Row, DatasetError> {
        self.number += 1;
        let joined = self.join(&line.text);
        let text = joined.as_deref().unwrap_or(&line.text);
        let fields = match quoted_fields(text) {
            Quoted::Fields(fields) if fields.len() == self.table.names.len() => fields,
            _ => plain_fields(text),
        };
        let field = |index: usize| fields.get(index).map(AsRef::as_ref).unwrap_or_default();
        Ok(self.table.row(line.number, self.number, fields.len(), field)?)
    }

    /// The line with those behind it that belong to a quoted field, if that makes a row. A line that could be a row as
    /// it stands is joined only with lines that could not.
    fn join(&mut self, first: &[u8]) -> Option<Vec<u8>> {
        let Quoted::Open = quoted_fields(first) else { return None };
        let wanted = self.table.names.len();
        let could_be_row = plain_fields(first).len() == wanted;
        let mut text = first.to_vec();
        for index in 0..MAX_QUOTED_LINES {
            let next = self.peek(index)?;
            if could_be_row && plain_fields(next).len() == wanted {
                return None;
            }
            text.push(b'\n');
            text.extend_from_slice(next);
            if !next.contains(&b'"') {
                continue;
            }
            match quoted_fields(&text) {
                Quoted::Open => {}
                Quoted::Fields(fields) if fields.len() == wanted => {
                    self.ahead.drain(..=index);
                    return Some(text);
                }
                Quoted::Fields(_) | Quoted::Broken => return None,
            }
        }
        None
    }

    /// The line so many behind the current row.
    fn peek(&mut self, index: usize) -> Option<&[u8]> {
        while self.ahead.len() <= index {
            if matches!(self.ahead.back(), Some(Err(_))) {
                return None;
            }
            self.ahead.push_back(read_line(&mut self.lines, &self.table.context)?);
        }
        self.ahead.get(index)?.as_ref().ok().map(|line| line.text.as_slice())
    }
}

impl Iterator for TsvRows {
    type Item = Result<Row, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.ahead.pop_front().or_else(|| read_line(&mut self.lines, &self.table.context)) {
                Some(Ok(line)) if matches!(line.text.as_slice(), b"" | b"\r") => {}
                Some(Ok(line)) => return Some(self.row(line)),
                Some(Err(problem)) => {
                    self.ended = true;
                    return Some(Err(problem.into()));
                }
                None => self.ended = true,
            }
        }
        None
    }
}

impl RowReader for TsvRows {
    fn columns(&self) -> Vec<String> {
        self.table.names.clone()
    }

    fn name_of(&self, role: Role) -> Option<&str> {
        self.table.name_of(role)
    }
}

fn read_line(lines: &mut Lines, context: &Context) -> Option<Result<Line, Problem>> {
    let mut text = Vec::new();
    match lines.read(&mut text) {
        Ok(true) => Some(Ok(Line { number: lines.line, text })),
        Ok(false) => None,
        Err(error) => Some(Err(read_error(&error, lines.line + 1, context))),
    }
}

/// The fields as they stand.
fn plain_fields(line: &[u8]) -> Vec<Cow<'_, [u8]>> {
    without_return(line).split(|byte| *byte == b'\t').map(Cow::Borrowed).collect()
}

enum Quoted<'a> {
    /// Every field that begins with a quote ends with one.
    Fields(Vec<Cow<'a, [u8]>>),
    /// Text follows a closing quote.
    Broken,
    /// The last quote is not closed.
    Open,
}

/// The fields, taking those that begin with a quote for quoted.
fn quoted_fields(line: &[u8]) -> Quoted<'_> {
    let mut fields = Vec::new();
    let mut rest = without_return(line);
    loop {
        let Some(mut quoted) = rest.strip_prefix(b"\"") else {
            let (field, tail) = at_byte(rest, b'\t');
            fields.push(Cow::Borrowed(field));
            match tail {
                Some(tail) => rest = tail,
                None => return Quoted::Fields(fields),
            }
            continue;
        };
        let mut field = Vec::new();
        loop {
            let (part, Some(tail)) = at_byte(quoted, b'"') else { return Quoted::Open };
            field.extend_from_slice(part);
            let Some(tail) = tail.strip_prefix(b"\"") else {
                quoted = tail;
                break;
            };
            field.push(b'"');
            quoted = tail;
        }
        fields.push(Cow::Owned(field));
        match quoted.strip_prefix(b"\t") {
            Some(tail) => rest = tail,
            None if quoted.is_empty() => return Quoted::Fields(fields),
            None => return Quoted::Broken,
        }
    }
}

/// What is before the first such byte, and what is behind it.
fn at_byte(text: &[u8], byte: u8) -> (&[u8], Option<&[u8]>) {
    let mut parts = text.splitn(2, |b| *b == byte);
    (parts.next().unwrap_or_default(), parts.next())
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use crate::dataset::testing::{TestFile, claims};

    fn found(bytes: impl AsRef<[u8]>) -> Vec<(u64, String)> {
        claims(&TestFile::new("x.tsv", bytes).rows())
    }

    #[test]
    fn bare_quotes_are_text() {
        let rows = found("claim\tcontext\n\"Yes\" was said\tb\n\"open\tb\nand \"so\"\tb\n5\" pipe\t\"\n");
        let wanted = [(2, "\"Yes\" was said"), (3, "\"open"), (4, "and \"so\""), (5, "5\" pipe")];
        assert_eq!(rows, wanted.map(|(line, claim)| (line, claim.to_owned())));
    }

    #[test]
    fn quoted_fields_may_hold_tabs_quotes_and_line_feeds() {
        let rows = found("\u{feff}\"claim\"\tcontext\r\n\"a\tb \"\"c\"\"\"\tx\r\n\"d\r\n\r\ne\"\ty\r\n\r\nf\tz");
        assert_eq!(rows, [(2, "a\tb \"c\"".to_owned()), (3, "d\r\n\r\ne".to_owned()), (7, "f".to_owned())]);
    }

    #[test]
    fn a_quoted_line_feed_in_the_last_column_is_told_from_a_stray_quote() {
        let rows = found("claim\tcontext\nlast\t\"one\ntwo\nthree\"\nstray\t\"one\nc\td\n\"never closed\ne\tf\n");
        assert_eq!(rows[0], (2, "last".to_owned()));
        assert_eq!(rows[1], (5, "stray".to_owned()));
        assert_eq!(rows[2], (6, "c".to_owned()));
        assert!(rows[3].1.starts_with("x.tsv, line 7: the row has 1 fields"), "{rows:?}");
        assert_eq!(rows[4], (8, "e".to_owned()));
    }

    #[test]
    fn ragged_rows_and_bad_bytes_are_reported_and_reading_goes_on() {
        let rows = found(b"claim\tcontext\na\na\tb\tc\n\xc3\tx\nd\te\n");
        assert!(rows[0].1.starts_with("x.tsv, line 2: the row has 1 fields"), "{rows:?}");
        assert!(rows[1].1.starts_with("x.tsv, line 3: the row has 3 fields"), "{rows:?}");
        assert!(rows[2].1.starts_with("x.tsv, line 4, column `claim`: byte 1 of the field"), "{rows:?}");
        assert_eq!(rows[3], (5, "d".to_owned()));
        assert!(found("")[0].1.contains("the file is empty"));
    }
}
