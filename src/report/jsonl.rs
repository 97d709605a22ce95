//! Results as JSON Lines, in the shape that `evaluate(data=FILE)` of azure-ai-evaluation reads: a row per trial with an answer, the
//! texts under the names that its evaluators ask for (`query`, `response`, `context`, `ground_truth`), and the ids that lead
//! back to the trace and, by `spanscore import evaluation`, its scores back to the trial.

use std::io::{self, Write};

use serde_json::{Map, Value as Json, json};

use super::results::{Cell, Results};
use crate::model::{Label, Outcome, Predicted};
use crate::store::rows::{CaseRow, RunRow};
use crate::store::{Reader, StoreError};

/// Columns of the table that other names stand for here, or that a reader would take for ids of the row.
const LEFT_OUT: [&str; 9] = [
    "trace_id",
    "span_id",
    "claim",
    "raw_output",
    "base_trace_id",
    "base_span_id",
    "base_output",
    "base_score",
    "change",
];

/// Writes the rows; gives their number. Trials without an answer have nothing to judge and no row.
pub fn write(
    reader: &Reader,
    run: &RunRow,
    results: &Results<'_>,
    out: &mut dyn Write,
) -> Result<io::Result<u64>, StoreError> {
    let header = results.header();
    let names: Vec<&str> = header.iter().map(|(name, _)| name.as_str()).collect();
    let mut rows = 0;
    let mut written = Ok(());
    reader.for_each_row(run, &mut |row| {
        if written.is_err() {
            return;
        }
        if let Some(line) = line(&row, &names, results) {
            written =
                serde_json::to_writer(&mut *out, &line).map_err(io::Error::from).and_then(|()| out.write_all(b"\n"));
            rows += 1;
        }
    })?;
    Ok(written.and_then(|()| out.flush()).map(|()| rows))
}

fn line(row: &CaseRow, header: &[&str], results: &Results<'_>) -> Option<Json> {
    let Some(Outcome::Completed { .. }) = row.outcome else { return None };
    let output = row.outcome.as_ref().and_then(Outcome::predicted).map(Predicted::as_str);
    let mut line = Map::new();
    for (name, value) in [
        ("query", json!(row.claim)),
        ("response", json!(row.raw_output.as_deref().or(output))),
        ("context", json!(row.context)),
        ("ground_truth", json!(row.expected.map(Label::as_str))),
        ("trace_id", json!(row.trace_id)),
        ("span_id", json!(row.span_id)),
        ("response_id", json!(row.response_id)),
    ] {
        line.insert(name.to_owned(), value);
    }
    for (name, cell) in header.iter().zip(results.row(row)) {
        if !LEFT_OUT.contains(name) {
            line.insert((*name).to_owned(), value(cell));
        }
    }
    Some(Json::Object(line))
}

fn value(cell: Cell) -> Json {
    match cell {
        Cell::Text(text) => json!(text),
        Cell::Number(number) => json!(number),
        Cell::Count(count) => json!(count),
    }
}
