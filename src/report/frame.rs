//! The table of results as Parquet: the columns of the CSV file with their types. The one place of this module that knows polars.

use std::io::Write;

use polars::prelude::{BatchedWriter, Column, DataFrame, DataType, Field, NamedFrom, ParquetWriter, Schema, Series};

use super::results::{Cell, Kind, Results};
use crate::store::rows::RunRow;
use crate::store::{Reader, StoreError};

/// Rows of a row group: what is in memory at once.
const GROUP: usize = 8192;

/// Writes the table; gives the number of rows, or what the writer of tables said.
pub fn write<W: Write>(
    reader: &Reader,
    run: &RunRow,
    results: &Results<'_>,
    out: W,
) -> Result<Result<u64, String>, StoreError> {
    let header = results.header();
    let kind = |kind| match kind {
        Kind::Text => DataType::String,
        Kind::Number => DataType::Float64,
        Kind::Count => DataType::UInt64,
    };
    let schema: Schema = header.iter().map(|(name, of)| Field::new(name.as_str().into(), kind(*of))).collect();
    let mut table = match ParquetWriter::new(out).batched(&schema) {
        Ok(writer) => Table { writer, columns: empty(&header), header, rows: 0 },
        Err(e) => return Ok(Err(e.to_string())),
    };
    let mut written = Ok(());
    reader.for_each_row(run, &mut |row| {
        if written.is_ok() {
            written = table.add(results.row(&row));
        }
    })?;
    Ok(written.and_then(|()| table.finish()))
}

struct Table<W: Write> {
    writer: BatchedWriter<W>,
    header: Vec<(String, Kind)>,
    columns: Vec<Values>,
    rows: u64,
}

enum Values {
    Texts(Vec<Option<String>>),
    Numbers(Vec<Option<f64>>),
    Counts(Vec<Option<u64>>),
}

fn empty(header: &[(String, Kind)]) -> Vec<Values> {
    let column = |kind| match kind {
        Kind::Text => Values::Texts(Vec::new()),
        Kind::Number => Values::Numbers(Vec::new()),
        Kind::Count => Values::Counts(Vec::new()),
    };
    header.iter().map(|(_, kind)| column(*kind)).collect()
}

impl<W: Write> Table<W> {
    fn add(&mut self, cells: Vec<Cell>) -> Result<(), String> {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            match (column, cell) {
                (Values::Texts(texts), Cell::Text(text)) => texts.push(text),
                (Values::Numbers(numbers), Cell::Number(number)) => numbers.push(number),
                (Values::Counts(counts), Cell::Count(count)) => counts.push(count),
                (_, cell) => return Err(format!("a {:?} in a column of another kind; this is a bug", cell.kind())),
            }
        }
        self.rows += 1;
        if self.rows.is_multiple_of(GROUP as u64) { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), String> {
        let values = std::mem::replace(&mut self.columns, empty(&self.header));
        let columns = self.header.iter().zip(values).map(|((name, _), values)| match values {
            Values::Texts(texts) => Column::from(Series::new(name.as_str().into(), texts)),
            Values::Numbers(numbers) => Column::from(Series::new(name.as_str().into(), numbers)),
            Values::Counts(counts) => Column::from(Series::new(name.as_str().into(), counts)),
        });
        let frame = DataFrame::new_infer_height(columns.collect()).map_err(|e| e.to_string())?;
        if frame.height() == 0 {
            return Ok(());
        }
        self.writer.write_batch(&frame).map_err(|e| e.to_string())
    }

    fn finish(mut self) -> Result<u64, String> {
        self.flush()?;
        self.writer.finish().map_err(|e| e.to_string())?;
        Ok(self.rows)
    }
}
