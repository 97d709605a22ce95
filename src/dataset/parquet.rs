//! Parquet, one row group at a time; the one place of this module that knows polars.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use polars::prelude::{AnyValue, ArrowDataType, DataFrame, ParquetReader, PolarsError, SerReader};

use super::columns::{Layout, Role, missing_column};
use super::error::{DatasetError, Problem, ProblemKind, not_found};
use super::source::{Context, Row, RowReader};

/// The rows of a Parquet file.
pub(super) struct ParquetRows {
    path: PathBuf,
    context: Context,
    names: Vec<String>,
    /// Positions of the readable columns in the file.
    projection: Vec<usize>,
    unreadable: Vec<(String, String)>,
    layout: Layout,
    /// Rows of each row group, first to last.
    groups: std::vec::IntoIter<usize>,
    /// The row group at hand.
    frame: DataFrame,
    next_in_frame: usize,
    /// Rows read so far, and rows in the row groups opened so far.
    number: u64,
    opened: usize,
    ended: bool,
}

impl ParquetRows {
    /// Reads the schema; types that hold neither text nor numbers are left out, and reported.
    pub(super) fn open(path: &Path, context: Context) -> Result<Self, DatasetError> {
        let mut reader = ParquetReader::new(open_file(path)?);
        let failed = |error: PolarsError| bad_parquet(&error, 1, &context);
        let schema = reader.schema().map_err(failed)?;
        let mut groups = Vec::new();
        for group in &reader.get_metadata().map_err(failed)?.row_groups {
            groups.push(group.num_rows());
        }
        let (mut names, mut projection, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        for (position, field) in schema.iter_values().enumerate() {
            if is_readable(&field.dtype) {
                names.push(field.name.to_string());
                projection.push(position);
            } else {
                unreadable.push((field.name.to_string(), format!("{:?}", field.dtype)));
            }
        }
        let layout = Layout::new(&names, &context.columns);
        if let Some(role) = layout.missing(&context.columns) {
            return Err(missing_column(&context.file, 1, role, &names, &context.columns).into());
        }
        Ok(Self {
            path: path.to_owned(),
            context,
            names,
            projection,
            unreadable,
            layout,
            groups: groups.into_iter(),
            frame: DataFrame::empty(),
            next_in_frame: 0,
            number: 0,
            opened: 0,
            ended: false,
        })
    }

    /// Opens row groups until there is a row; false at the end.
    fn advance(&mut self) -> Result<bool, DatasetError> {
        while self.next_in_frame >= self.frame.height() {
            let Some(rows) = self.groups.next() else { return Ok(false) };
            // The old row group goes before the new one comes.
            self.frame = DataFrame::empty();
            self.frame = ParquetReader::new(open_file(&self.path)?)
                .with_slice(Some((self.opened, rows)))
                .with_projection(Some(self.projection.clone()))
                .finish()
                .map_err(|error| bad_parquet(&error, self.opened as u64 + 1, &self.context))?;
            self.opened += rows;
            self.next_in_frame = 0;
        }
        Ok(true)
    }

    fn row(&mut self) -> Result<Row, DatasetError> {
        let at = self.next_in_frame;
        self.next_in_frame += 1;
        self.number += 1;
        let line = self.number;
        let cell = |index: usize, is_context: bool| {
            let name = self.names.get(index).map(String::as_str);
            let problem =
                |message: String| self.context.problem(line, name, ProblemKind::BadValue, message, String::new());
            let column = self.frame.columns().get(index).expect("the frame has the columns that were asked for");
            let value = column.get(at).map_err(|error| problem(error.to_string()))?;
            text_of(&value, is_context).map_err(problem)
        };
        let role = |role: Role| match self.layout.index(role) {
            Some(index) => cell(index, role == Role::Context),
            None => Ok(None),
        };
        let mut columns = Vec::with_capacity(self.layout.extras.len());
        for index in &self.layout.extras {
            if let Some(text) = cell(*index, true)? {
                columns.push((self.names[*index].clone(), text));
            }
        }
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

impl Iterator for ParquetRows {
    type Item = Result<Row, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.advance() {
            Ok(true) => Some(self.row()),
            Ok(false) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

impl RowReader for ParquetRows {
    fn columns(&self) -> Vec<String> {
        self.names.clone()
    }

    fn name_of(&self, role: Role) -> Option<&str> {
        self.layout.index(role).and_then(|index| self.names.get(index)).map(String::as_str)
    }

    fn unreadable(&self) -> Vec<(String, String)> {
        self.unreadable.clone()
    }
}

fn open_file(path: &Path) -> Result<File, DatasetError> {
    File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => not_found(path),
        _ => DatasetError::Io { attempt: "opening dataset", path: path.to_owned(), source },
    })
}

fn bad_parquet(error: &PolarsError, line: u64, context: &Context) -> Problem {
    let message = format!("not a readable Parquet file: {error}");
    context.problem(line, None, ProblemKind::BadParquet, message, "copy it again, or write it anew")
}

/// Types that have a plain text form.
fn is_readable(data_type: &ArrowDataType) -> bool {
    match data_type {
        ArrowDataType::Boolean
        | ArrowDataType::Int32
        | ArrowDataType::Int64
        | ArrowDataType::UInt32
        | ArrowDataType::UInt64
        | ArrowDataType::Float32
        | ArrowDataType::Float64
        | ArrowDataType::Utf8
        | ArrowDataType::LargeUtf8
        | ArrowDataType::Utf8View => true,
        ArrowDataType::List(inner) | ArrowDataType::LargeList(inner) => is_readable(&inner.dtype),
        ArrowDataType::Dictionary(_, values, _) => {
            matches!(**values, ArrowDataType::Utf8 | ArrowDataType::LargeUtf8 | ArrowDataType::Utf8View)
        }
        _ => false,
    }
}

/// The text of a cell; nothing for null. A list becomes its parts joined with blanks, where lists are welcome.
fn text_of(value: &AnyValue<'_>, lists: bool) -> Result<Option<String>, String> {
    Ok(match value {
        AnyValue::Null => None,
        AnyValue::List(parts) if lists => {
            let parts = parts.iter().map(|part| text_of(&part, lists)).collect::<Result<Vec<_>, _>>()?;
            Some(parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
        }
        AnyValue::List(_) => return Err("found a list where text was expected".to_owned()),
        other => Some(other.str_value().into_owned()),
    })
}

#[cfg(test)]
mod tests {
    use polars::prelude::{Column, DataFrame, NamedFrom, ParquetWriter, Series};

    use crate::dataset::Row;
    use crate::dataset::testing::TestFile;

    fn written(columns: Vec<Series>, group: usize) -> TestFile {
        let height = columns.first().map_or(0, |column| column.len());
        let columns = columns.into_iter().map(Column::from).collect();
        let mut frame = DataFrame::new(height, columns).expect("columns of one length");
        let file = TestFile::new("x.parquet", "");
        let target = std::fs::File::create(&file.path).expect("a file");
        ParquetWriter::new(target).with_row_group_size(Some(group)).finish(&mut frame).expect("written");
        file
    }

    #[test]
    fn rows_come_in_order_across_row_groups() {
        let claims: Vec<String> = (0..2500).map(|n| format!("claim {n}")).collect();
        let numbers: Vec<i64> = (0..2500).collect();
        let file = written(
            vec![
                Series::new("Claim".into(), claims),
                Series::new("evidence".into(), vec!["x"; 2500]),
                Series::new("n".into(), numbers),
            ],
            700,
        );
        let rows: Vec<Row> = file.rows().into_iter().map(|row| row.expect("a row")).collect();
        assert_eq!(rows.len(), 2500);
        for (index, row) in rows.iter().enumerate() {
            assert_eq!(row.line, index as u64 + 1);
            assert_eq!(row.claim, Some(format!("claim {index}")));
            assert_eq!(row.columns, [("n".to_owned(), index.to_string())]);
        }
    }

    #[test]
    fn lists_nulls_booleans_and_numbers_become_text() {
        let lists: Vec<Series> = vec![Series::new("".into(), ["a", "b"]), Series::new("".into(), ["c"])];
        let file = written(
            vec![
                Series::new("claim".into(), ["x", "y"]),
                Series::new("contexts".into(), lists),
                Series::new("label".into(), [Some(true), None]),
                Series::new("id".into(), [3i64, 4]),
                Series::new("weight".into(), [Some(0.5f64), None]),
            ],
            10,
        );
        let rows = file.rows();
        let first = rows[0].as_ref().expect("a row");
        assert_eq!(first.context.as_deref(), Some("a b"));
        assert_eq!((first.label.as_deref(), first.id.as_deref()), (Some("true"), Some("3")));
        assert_eq!(first.columns, [("weight".to_owned(), "0.5".to_owned())]);
        let second = rows[1].as_ref().expect("a row");
        assert_eq!((second.label.as_deref(), second.columns.len()), (None, 0));
    }

    #[test]
    fn what_is_not_parquet_or_has_no_claim_is_an_error() {
        let text = TestFile::new("x.parquet", "claim,context\na,b\n").rows();
        assert!(text[0].as_ref().expect_err("no parquet").contains("not a readable Parquet file"), "{text:?}");
        let file = written(vec![Series::new("context".into(), ["x"])], 10);
        assert!(file.rows()[0].as_ref().expect_err("no claim").contains("no column for the claim"));
    }
}
