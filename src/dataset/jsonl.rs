//! JSON: one object per line, or one array of objects, whichever the file begins with.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::columns::{Layout, Role, missing_column};
use super::error::{DatasetError, Problem, ProblemKind};
use super::source::{Context, Row, RowReader};
use super::text::{Bytes, Lines, MAX_ROW, read_error, skip_mark, utf8};

/// More columns than this are not remembered for lists of columns; rows keep all of theirs.
const MAX_COLUMNS: usize = 1000;

/// The rows of a JSON Lines file, or of one JSON array.
pub(super) struct JsonRows {
    lines: Lines,
    context: Context,
    buffer: Vec<u8>,
    /// Whether the rows are elements of an array; the line then is the one that the next byte is on.
    array: bool,
    number: u64,
    ended: bool,
    /// Keys of the row read last and their roles: rows mostly have the same.
    keys: Vec<String>,
    layout: Layout,
    columns: Vec<String>,
}

impl JsonRows {
    /// Looks at the first byte to tell lines from an array.
    pub(super) fn open(mut bytes: Bytes, context: Context) -> Result<Self, DatasetError> {
        skip_mark(&mut bytes, &context)?;
        let mut rows = Self {
            lines: Lines::new(bytes),
            context,
            buffer: Vec::new(),
            array: false,
            number: 0,
            ended: false,
            keys: Vec::new(),
            layout: Layout::default(),
            columns: Vec::new(),
        };
        let first = rows.lines.skip_blanks().map_err(|error| read_error(&error, 1, &rows.context))?;
        rows.array = first == Some(b'[');
        if rows.array {
            rows.lines.bytes().consume(1);
        }
        Ok(rows)
    }

    /// Reads the next row's bytes into the buffer; gives its line, or nothing at the end.
    fn advance(&mut self) -> Result<Option<u64>, Problem> {
        if self.array {
            return self.advance_in_array();
        }
        loop {
            match self.lines.read(&mut self.buffer) {
                Ok(false) => return Ok(None),
                Ok(true) if self.buffer.iter().all(u8::is_ascii_whitespace) => {}
                Ok(true) => return Ok(Some(self.lines.line)),
                Err(error) => return Err(read_error(&error, self.lines.line + 1, &self.context)),
            }
        }
    }

    fn advance_in_array(&mut self) -> Result<Option<u64>, Problem> {
        let line = self.lines.line + 1;
        let failed = |error| read_error(&error, line, &self.context);
        let mut next = self.lines.skip_blanks().map_err(failed)?;
        if next == Some(b',') && self.number > 0 {
            self.lines.bytes().consume(1);
            next = self.lines.skip_blanks().map_err(failed)?;
        }
        let line = self.lines.line + 1;
        match next {
            Some(b']') => Ok(None),
            Some(_) => match self.lines.read_element(&mut self.buffer) {
                Ok(true) => Ok(Some(line)),
                Ok(false) => {
                    let message = "the file ends in the middle of this row";
                    Err(self.context.problem(line, None, ProblemKind::BadJson, message, "copy it again"))
                }
                Err(error) => Err(read_error(&error, line, &self.context)),
            },
            None => {
                let message = "the file ends before the array's closing `]`";
                Err(self.context.problem(line, None, ProblemKind::BadJson, message, "copy it again"))
            }
        }
    }

    fn row(&mut self, line: u64) -> Result<Row, DatasetError> {
        self.number += 1;
        let text = utf8(&self.buffer, line, None, &self.context)?;
        let object: Object<'_> = serde_json::from_str(text).map_err(|error| {
            // The message ends in "at line L column C", with lines counted within the row.
            let place = if error.line() > 1 { format!("line {} of the row, ", error.line()) } else { String::new() };
            let full = error.to_string();
            let what = full.rsplit_once(" at line ").map_or(full.as_str(), |(what, _)| what);
            let message = format!("not a JSON object: {what} ({place}character {})", error.column());
            let hint = "write one object per line, or one array of objects";
            self.context.problem(line, None, ProblemKind::BadJson, message, hint)
        })?;
        let mut cells = object.0;
        let same = cells.len() == self.keys.len() && cells.iter().zip(&self.keys).all(|((key, _), old)| key == old);
        if !same {
            self.keys = cells.iter().map(|(key, _)| key.clone().into_owned()).collect();
            self.layout = Layout::new(&self.keys, &self.context.columns);
            for key in &self.keys {
                if self.columns.len() < MAX_COLUMNS && !self.columns.contains(key) {
                    self.columns.push(key.clone());
                }
            }
        }
        if let Some(role) = self.layout.missing(&self.context.columns) {
            // A later row may lack a key by accident; a first row that does is of another layout.
            self.ended = self.number == 1;
            return Err(missing_column(&self.context.file, line, role, &self.keys, &self.context.columns).into());
        }
        let mut columns = Vec::with_capacity(self.layout.extras.len());
        for index in &self.layout.extras {
            let (key, cell) = &mut cells[*index];
            if let Some(text) = std::mem::take(cell).into_text() {
                columns.push((std::mem::take(key).into_owned(), text));
            }
        }
        let role = |role: Role| -> Result<Option<String>, Problem> {
            let Some(index) = self.layout.index(role) else { return Ok(None) };
            let (key, cell) = &cells[index];
            cell.for_role(role).map_err(|found| {
                let wanted = if role == Role::Context { "text, or a list of texts" } else { "text" };
                let message = format!("found {found} where {wanted} was expected");
                let hint = "write it as text, or map another column to this role";
                self.context.problem(line, Some(key), ProblemKind::BadValue, message, hint)
            })
        };
        Ok(Row {
            line,
            number: self.number,
            claim: role(Role::Claim)?,
            context: role(Role::Context)?,
            label: role(Role::Expected)?,
            id: role(Role::Id)?,
            group: role(Role::Group)?,
            columns,
        })
    }
}

impl Iterator for JsonRows {
    type Item = Result<Row, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.advance() {
            Ok(Some(line)) => Some(self.row(line)),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(problem) => {
                self.ended = true;
                Some(Err(problem.into()))
            }
        }
    }
}

impl RowReader for JsonRows {
    fn columns(&self) -> Vec<String> {
        self.columns.clone()
    }

    fn name_of(&self, role: Role) -> Option<&str> {
        self.layout.index(role).and_then(|index| self.keys.get(index)).map(String::as_str)
    }
}

impl Lines {
    /// Skips blanks; gives the byte behind them without consuming it.
    fn skip_blanks(&mut self) -> std::io::Result<Option<u8>> {
        loop {
            let (mut feeds, mut found) = (0, None);
            let bytes = self.bytes().fill_buf()?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let mut used = 0;
            for byte in bytes {
                if !byte.is_ascii_whitespace() {
                    found = Some(*byte);
                    break;
                }
                feeds += u64::from(*byte == b'\n');
                used += 1;
            }
            self.bytes().consume(used);
            self.line += feeds;
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// Reads one element of an array, up to the `,` or `]` behind it; false if the file ends in it.
    fn read_element(&mut self, buffer: &mut Vec<u8>) -> std::io::Result<bool> {
        buffer.clear();
        let (mut depth, mut in_text, mut escaped) = (0u32, false, false);
        loop {
            let bytes = self.bytes().fill_buf()?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let (mut used, mut feeds, mut complete) = (0, 0, false);
            for byte in bytes {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_text => escaped = true,
                    b'"' => in_text = !in_text,
                    _ if in_text => {}
                    b'{' | b'[' => depth += 1,
                    b',' | b']' | b'}' if depth == 0 => {
                        complete = true;
                        break;
                    }
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                feeds += u64::from(*byte == b'\n');
                used += 1;
            }
            buffer.extend_from_slice(bytes.get(..used).unwrap_or_default());
            self.bytes().consume(used);
            self.line += feeds;
            if complete {
                return Ok(true);
            }
            if buffer.len() > MAX_ROW {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
        }
    }
}

/// An object's members in order; text without escapes is borrowed from the line.
struct Object<'a>(Vec<(Cow<'a, str>, Cell<'a>)>);

#[derive(Default)]
enum Cell<'a> {
    #[default]
    Null,
    Text(Cow<'a, str>),
    /// A number or truth value, as it prints.
    Plain(String),
    /// A list or an object.
    Nested(Value),
}

impl Cell<'_> {
    /// The value as a column's text; nested values as JSON.
    fn into_text(self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text.into_owned()),
            Self::Plain(text) => Some(text),
            Self::Nested(value) => Some(value.to_string()),
        }
    }

    /// The value as the text of a role, or what it is instead.
    fn for_role(&self, role: Role) -> Result<Option<String>, &'static str> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text.clone().into_owned())),
            Self::Plain(text) => Ok(Some(text.clone())),
            Self::Nested(Value::Array(parts)) if role == Role::Context => {
                let texts: Option<Vec<&str>> = parts.iter().filter(|part| !part.is_null()).map(Value::as_str).collect();
                texts.map(|texts| Some(texts.join(" "))).ok_or("a list that holds more than texts")
            }
            Self::Nested(Value::Array(_)) => Err("a list"),
            Self::Nested(_) => Err("an object"),
        }
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Cow<'de, str>, Cell<'de>)> = Vec::with_capacity(8);
                while let Some(Key(key)) = map.next_key()? {
                    let value = map.next_value()?;
                    // Of a key that stands twice, the last value counts, as in most parsers.
                    match members.iter_mut().find(|(old, _)| *old == key) {
                        Some((_, old)) => *old = value,
                        None => members.push((key, value)),
                    }
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for Cell<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyCell;
        impl<'de> Visitor<'de> for AnyCell {
            type Value = Cell<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Cell::Null)
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cell::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cell::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Cell::Plain(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Cell::Plain(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Cell::Plain(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
                Ok(Cell::Plain(Value::from(value).to_string()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Cell::Nested(Value::Array(values)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = serde_json::Map::new();
                while let Some((key, value)) = map.next_entry()? {
                    members.insert(key, value);
                }
                Ok(Cell::Nested(Value::Object(members)))
            }
        }
        deserializer.deserialize_any(AnyCell)
    }
}

#[cfg(test)]
mod tests {
    use crate::dataset::Row;
    use crate::dataset::testing::{TestFile, claims};

    fn rows(bytes: impl AsRef<[u8]>) -> Vec<Result<Row, String>> {
        TestFile::new("x.json", bytes).rows()
    }

    fn one(text: &str) -> Row {
        rows(text).remove(0).expect("a row")
    }

    #[test]
    fn lines_and_an_array_give_the_same_rows() {
        let lines = "\u{feff}\r\n{\"claim\":\"a\",\"context\":\"b\"}\r\n\n{\"claim\":\"c [\\\"],\",\"context\":\"d\"}";
        let array = "\n[{\"claim\":\"a\",\"context\":\"b\"}\n\n, {\"claim\":\n\"c [\\\"],\",\n\"context\":\"d\"} ]\n";
        assert_eq!(claims(&rows(lines)), [(2, "a".to_owned()), (4, "c [\"],".to_owned())]);
        assert_eq!(claims(&rows(array)), [(2, "a".to_owned()), (4, "c [\"],".to_owned())]);
        assert!(rows("[]").is_empty());
        assert!(rows("").is_empty());
    }

    #[test]
    fn values_of_every_type_become_text() {
        let row = one(
            r#"{"id":7,"claim":"a","documents":["b","c\n",null],"label":true,"n":1.5,"no":null,"o":{"x":[1]},"b":false}"#,
        );
        assert_eq!(row.id.as_deref(), Some("7"));
        assert_eq!(row.context.as_deref(), Some("b c\n"));
        assert_eq!(row.label.as_deref(), Some("true"));
        let columns = [("n", "1.5"), ("o", "{\"x\":[1]}"), ("b", "false")];
        assert_eq!(row.columns, columns.map(|(key, text)| (key.to_owned(), text.to_owned())));
    }

    #[test]
    fn of_a_key_that_stands_twice_the_last_counts() {
        let row = one(r#"{"claim":"a","context":"b","k":"1","k":"2"}"#);
        assert_eq!(row.columns, [("k".to_owned(), "2".to_owned())]);
        assert_eq!(one(r#"{"claim":"a","context":"b","claim":"c"}"#).claim.as_deref(), Some("c"));
    }

    #[test]
    fn keys_may_change_from_row_to_row() {
        let found = rows(
            "{\"claim\":\"a\",\"context\":\"b\",\"x\":1}\n{\"context\":\"d\",\"claim\":\"c\"}\n{\"x\":2}\n{\"claim\":\"e\",\"evidence\":\"f\",\"label\":0}",
        );
        assert_eq!(found[1].as_ref().expect("a row").claim.as_deref(), Some("c"));
        assert!(found[2].as_ref().expect_err("no claim").contains("line 3: there is no column for the claim"));
        assert_eq!(found[3].as_ref().expect("a row").label.as_deref(), Some("0"));
    }

    #[test]
    fn a_first_row_without_a_claim_ends_the_reading() {
        let found = rows("{\"text\":\"a\",\"context\":\"b\"}\n{\"text\":\"c\",\"context\":\"d\"}");
        assert_eq!(found.len(), 1);
        let error = found[0].as_ref().expect_err("no claim");
        assert!(error.contains("the columns are: text, context") && error.contains("call it claim, query"), "{error}");
    }

    #[test]
    fn bad_rows_are_reported_with_line_and_place_and_reading_goes_on() {
        let found = rows(
            b"{\"claim\":\"a\",\"context\":\"b\"}\n{\"claim\":\"a\" \"context\"}\n[1]\n{\"claim\":\"\xff\"}\n{\"claim\":[\"a\"],\"context\":\"b\"}\n{\"claim\":\"z\",\"context\":[{}]}\n{\"claim\":\"y\",\"context\":\"b\"}",
        );
        let error = |index: usize| found[index].as_ref().expect_err("a problem").clone();
        assert!(error(1).contains("line 2: not a JSON object: expected `,` or `}` (character 14)"), "{}", error(1));
        assert!(error(2).contains("line 3: not a JSON object"), "{}", error(2));
        assert!(error(3).contains("line 4: byte 11 of the line (0xff)"), "{}", error(3));
        assert!(error(4).contains("line 5, column `claim`: found a list"), "{}", error(4));
        assert!(error(5).contains("line 6, column `context`: found a list that holds more than texts"), "{}", error(5));
        assert_eq!(found[6].as_ref().expect("a row").number, 7);
    }

    #[test]
    fn an_array_that_is_cut_off_is_an_error() {
        for text in ["[", "[{\"claim\":\"a\",\"context\":\"b\"}", "[{\"claim\":\"a\",\"context\":\"b\"},\n{\"cl"] {
            let found = rows(text);
            let last = found.last().expect("something").as_ref().expect_err("cut off");
            assert!(last.contains("the file ends"), "{last}");
        }
        let broken = rows("[{\"claim\":\"a\",\"context\":\"b\"} 5, {\"claim\":\"c\",\"context\":\"d\"}]");
        assert!(broken[0].is_err());
        assert_eq!(broken[1].as_ref().expect("a row").claim.as_deref(), Some("c"));
    }

    #[test]
    fn unusual_text_comes_through_to_the_letter() {
        let text = " e\u{301}\u{a0}שלום\u{200f} 😀\u{1f}\u{85} ";
        let line = serde_json::json!({"claim": text, "context": "\ttwo\nlines "}).to_string();
        let row = one(&line);
        assert_eq!(row.claim.as_deref(), Some(text));
        assert_eq!(row.context.as_deref(), Some("\ttwo\nlines "));
        let csv = format!("claim,context\n\"{text}\",\"\ttwo\nlines \"\n");
        let row = TestFile::new("x.csv", csv).rows().remove(0).expect("a row");
        assert_eq!(row.claim.as_deref(), Some(text));
    }
}
