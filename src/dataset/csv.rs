//! Comma-separated values: quoted fields may hold commas, quotes and line feeds.

use std::collections::VecDeque;
use std::io::{self, Read};

use ::csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};

use super::columns::{Layout, Role, missing_column};
use super::error::{DatasetError, Problem, ProblemKind};
use super::source::{Context, Row, RowReader};
use super::text::{Bytes, MAX_ROW, read_error, skip_mark, utf8};

/// The rows of a CSV file.
pub(super) struct CsvRows {
    reader: Reader<Counted>,
    record: ByteRecord,
    table: Table,
    number: u64,
    line: u64,
    ended: bool,
}

impl CsvRows {
    /// Reads the header.
    pub(super) fn open(mut bytes: Bytes, context: Context) -> Result<Self, DatasetError> {
        skip_mark(&mut bytes, &context)?;
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(64 << 10)
            .from_reader(Counted::new(bytes));
        let mut record = ByteRecord::new();
        let found = reader.read_byte_record(&mut record).map_err(|error| csv_error(&error, 1, &context))?;
        let line = reader.get_mut().line_of(record.position().map_or(0, ::csv::Position::byte));
        let header = found.then(|| record.iter());
        let table = Table::new(header.into_iter().flatten(), line, context)?;
        Ok(Self { reader, record, table, number: 0, line, ended: false })
    }

    fn row(&mut self) -> Result<Row, DatasetError> {
        let start = self.record.position().map_or(0, ::csv::Position::byte);
        self.line = self.reader.get_mut().line_of(start);
        self.number += 1;
        let record = &self.record;
        Ok(self.table.row(self.line, self.number, record.len(), |index| record.get(index).unwrap_or_default())?)
    }

    /// An odd number of quotes, and a last row of many lines: a quote in it swallowed the rows behind.
    fn open_quote(&mut self) -> Option<Problem> {
        let counted = self.reader.get_ref();
        (counted.quotes % 2 == 1 && counted.feeds.len() > 1).then(|| {
            let message = "a quote is opened in this row and never closed";
            let hint = "double the quotes inside quoted fields, and close the last";
            self.table.context.problem(self.line, None, ProblemKind::OpenQuote, message, hint)
        })
    }
}

impl Iterator for CsvRows {
    type Item = Result<Row, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => Some(self.row()),
            Ok(false) => {
                self.ended = true;
                self.open_quote().map(|problem| Err(problem.into()))
            }
            Err(error) => {
                self.ended = true;
                let line = self.reader.get_ref().lines_read();
                Some(Err(csv_error(&error, line, &self.table.context).into()))
            }
        }
    }
}

impl RowReader for CsvRows {
    fn columns(&self) -> Vec<String> {
        self.table.names.clone()
    }

    fn name_of(&self, role: Role) -> Option<&str> {
        self.table.name_of(role)
    }
}

fn csv_error(error: &::csv::Error, line: u64, context: &Context) -> Problem {
    match error.kind() {
        ErrorKind::Io(error) => read_error(error, line, context),
        _ => context.problem(line, None, ProblemKind::Unreadable, error.to_string(), ""),
    }
}

/// A header, and rows made after it; CSV and TSV share it.
pub(super) struct Table {
    pub(super) names: Vec<String>,
    layout: Layout,
    pub(super) context: Context,
}

impl Table {
    /// Finds the roles in the header. No header means no rows.
    pub(super) fn new<'a>(
        header: impl Iterator<Item = &'a [u8]>,
        line: u64,
        context: Context,
    ) -> Result<Self, DatasetError> {
        let mut names = Vec::new();
        for name in header {
            names.push(utf8(name, line, None, &context)?.trim().to_owned());
        }
        if names.is_empty() {
            let hint = "its first line names the columns";
            return Err(context.problem(1, None, ProblemKind::EmptyDataset, "the file is empty", hint).into());
        }
        let layout = Layout::new(&names, &context.columns);
        match layout.missing(&context.columns) {
            Some(role) => Err(missing_column(&context.file, line, role, &names, &context.columns).into()),
            None => Ok(Self { names, layout, context }),
        }
    }

    /// What the column of this role is called.
    pub(super) fn name_of(&self, role: Role) -> Option<&str> {
        self.layout.index(role).and_then(|index| self.names.get(index)).map(String::as_str)
    }

    /// The row of these fields.
    pub(super) fn row<'a>(
        &self,
        line: u64,
        number: u64,
        fields: usize,
        field: impl Fn(usize) -> &'a [u8],
    ) -> Result<Row, Problem> {
        if fields != self.names.len() {
            let message = format!("the row has {fields} fields and the header {}", self.names.len());
            let hint = "quote fields that hold separators or line feeds";
            return Err(self.context.problem(line, None, ProblemKind::RaggedRow, message, hint));
        }
        let text = |index: usize| {
            utf8(field(index), line, self.names.get(index).map(String::as_str), &self.context).map(str::to_owned)
        };
        let role = |role| self.layout.index(role).map(text).transpose();
        let mut columns = Vec::with_capacity(self.layout.extras.len());
        for index in &self.layout.extras {
            columns.push((self.names[*index].clone(), text(*index)?));
        }
        Ok(Row {
            line,
            number,
            claim: role(Role::Claim)?,
            context: role(Role::Context)?,
            label: role(Role::Expected)?,
            id: role(Role::Id)?,
            group: role(Role::Group)?,
            columns,
        })
    }
}

/// Counts lines beneath the CSV parser, whose own count is that of record ends: it is wrong behind CR LF, blank lines and
/// line feeds in quotes.
struct Counted {
    bytes: Bytes,
    offset: u64,
    /// Offsets of line feeds ahead of the current record, and whether a carriage return precedes each.
    feeds: VecDeque<(u64, bool)>,
    passed: u64,
    after_return: bool,
    quotes: u64,
    row_start: u64,
}

impl Counted {
    fn new(bytes: Bytes) -> Self {
        Self { bytes, offset: 0, feeds: VecDeque::new(), passed: 0, after_return: false, quotes: 0, row_start: 0 }
    }

    /// The line of the record that begins at or, for the parser skips ends of lines, shortly behind this offset.
    fn line_of(&mut self, offset: u64) -> u64 {
        self.row_start = offset;
        let mut at = offset;
        while let Some((feed, after_return)) = self.feeds.front().copied() {
            if feed > at && !(feed == at + 1 && after_return) {
                break;
            }
            at = at.max(feed + 1);
            self.feeds.pop_front();
            self.passed += 1;
        }
        self.passed + 1
    }

    fn lines_read(&self) -> u64 {
        self.passed + self.feeds.len() as u64 + 1
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        let fresh = buffer.get(..read).unwrap_or_default();
        for (index, byte) in fresh.iter().enumerate() {
            match byte {
                b'\n' => self.feeds.push_back((self.offset + index as u64, self.after_return)),
                b'"' => self.quotes += 1,
                _ => {}
            }
            self.after_return = *byte == b'\r';
        }
        self.offset += read as u64;
        if self.offset - self.row_start > (MAX_ROW + (64 << 10)) as u64 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use crate::dataset::testing::{TestFile, claims};

    fn found(bytes: impl AsRef<[u8]>) -> Vec<(u64, String)> {
        claims(&TestFile::new("x.csv", bytes).rows())
    }

    #[test]
    fn quoted_commas_quotes_and_line_feeds_are_text_and_lines_are_physical() {
        let rows = found("claim,context\n\"a, \"\"b\"\"\nc\",x\nd,\"\n\n\"\n\n\ne,y");
        assert_eq!(rows, [(2, "a, \"b\"\nc".to_owned()), (4, "d".to_owned()), (9, "e".to_owned())]);
    }

    #[test]
    fn a_byte_order_mark_and_crlf_change_nothing() {
        let file = TestFile::new("x.csv", "\u{feff}claim,context,note\r\na,b,\r\n\r\nc,\"d\r\ne\",n\r\nf,g,h\r\n");
        let rows = file.rows();
        assert_eq!(claims(&rows), [(2, "a".to_owned()), (4, "c".to_owned()), (6, "f".to_owned())]);
        let second = rows[1].as_ref().expect("a row");
        assert_eq!(second.context.as_deref(), Some("d\r\ne"));
        assert_eq!(second.columns, [("note".to_owned(), "n".to_owned())]);
    }

    #[test]
    fn single_letters_between_line_feeds_are_rows() {
        let rows = found("claim,context\n,\nb,\n\r\nc,");
        assert_eq!(rows, [(2, String::new()), (3, "b".to_owned()), (5, "c".to_owned())]);
    }

    #[test]
    fn a_ragged_row_is_reported_and_reading_goes_on() {
        let rows = found("claim,context\na,b,c\nd,e\nf\n");
        assert!(rows[0].1.starts_with("x.csv, line 2: the row has 3 fields and the header 2"), "{rows:?}");
        assert_eq!(rows[1], (3, "d".to_owned()));
        assert!(rows[2].1.starts_with("x.csv, line 4"), "{rows:?}");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_named_with_line_and_column() {
        let rows = found(b"claim,context\na,b\n\"x\ny\",caf\xe9\nd,e\n");
        assert!(
            rows[1].1.starts_with("x.csv, line 3, column `context`: byte 4 of the field (0xe9) is not UTF-8"),
            "{rows:?}"
        );
        assert_eq!(rows[2], (5, "d".to_owned()));
        assert!(found(b"cl\xffaim,context\n")[0].1.contains("line 1: byte 3"));
    }

    #[test]
    fn a_quote_that_swallows_the_rest_is_reported_where_it_opens() {
        let rows = found("claim,context\na,b\nc,\"d\ne,f\ng,h\n");
        assert_eq!(rows[1].0, 3);
        assert!(rows[2].1.starts_with("x.csv, line 3: a quote is opened"), "{rows:?}");
        // A quote inside an unquoted field is text.
        let fine = found("claim,context\na 5\" pipe,b\n");
        assert_eq!(fine, [(2, "a 5\" pipe".to_owned())]);
    }

    #[test]
    fn missing_columns_list_what_is_there() {
        let rows = found("claim,passage,label\na,b,True\n");
        assert!(rows[0].1.contains("no column for the context; the columns are: claim, passage, label"), "{rows:?}");
        assert!(found("")[0].1.contains("the file is empty"));
    }

    #[test]
    fn lines_stay_right_over_the_borders_of_buffers() {
        use std::fmt::Write as _;
        let (mut text, mut wanted) = (String::from("claim,context\r\n"), Vec::new());
        let mut line = 2;
        for number in 0..20_000u64 {
            let feeds = number % 3;
            let _ = write!(text, "c{number},\"{}\"\r\n", "x\r\n".repeat(feeds as usize));
            wanted.push((line, format!("c{number}")));
            line += 1 + feeds;
            if number % 7 == 0 {
                text.push_str("\r\n");
                line += 1;
            }
        }
        assert!(found(text) == wanted);
    }
}
