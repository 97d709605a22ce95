//! Spans as a Parquet table: one row per span, what tables are searched and joined by in columns of their own, the rest as
//! JSON. The one place of this module that knows polars.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

use polars::prelude::{
    BatchedWriter, Column, DataFrame, DataType, Field, NamedFrom, ParquetWriter, PolarsError, Schema, Series,
};
use serde_json::{Value as Json, json};

use super::files::{FileError, Target};
use crate::model::{Evaluation, Finite, Origin, Span, Status, Value};
use crate::store::rows::{SpanScore, TraceDetail};
use crate::trace::semconv as sc;
use crate::trace::value_json::object;

/// Rows of a row group: what is in memory at once.
const GROUP: usize = 8192;

/// Before the name of a score: the column of its values.
const SCORE_PREFIX: &str = "score.";

/// Text columns, in the table's order.
const TEXTS: [&str; 16] = [
    "trace_id",
    "span_id",
    "parent_span_id",
    "name",
    "kind",
    "status",
    "status_message",
    "service",
    "scope",
    "run_id",
    "case_id",
    "attributes",
    "events",
    "links",
    "resource",
    "scores",
];
/// Number columns, behind them.
const NUMBERS: [&str; 3] = ["start_unix_nano", "end_unix_nano", "duration_ns"];

/// A table under way.
pub struct SpanTable {
    writer: BatchedWriter<Handle>,
    target: Rc<RefCell<Target>>,
    path: String,
    texts: Vec<Vec<Option<String>>>,
    numbers: Vec<Vec<Option<i64>>>,
    scores: BTreeMap<String, Vec<Option<f64>>>,
    rows: u64,
}

impl SpanTable {
    /// Begins a table with a column for each of these scores.
    pub fn create(path: &Path, scores: BTreeSet<String>) -> Result<Self, FileError> {
        let target = Rc::new(RefCell::new(Target::create(path)?));
        let texts = TEXTS.iter().map(|name| Field::new((*name).into(), DataType::String));
        let numbers = NUMBERS.iter().map(|name| Field::new((*name).into(), DataType::Int64));
        let columns = scores.iter().map(|name| Field::new(score_column(name).into(), DataType::Float64));
        let schema: Schema = texts.chain(numbers).chain(columns).collect();
        let shown = path.display().to_string();
        let writer = ParquetWriter::new(Handle(Rc::clone(&target))).batched(&schema).map_err(|e| failed(&shown, &e))?;
        Ok(Self {
            writer,
            target,
            path: shown,
            texts: vec![Vec::new(); TEXTS.len()],
            numbers: vec![Vec::new(); NUMBERS.len()],
            scores: scores.into_iter().map(|name| (name, Vec::new())).collect(),
            rows: 0,
        })
    }

    /// Adds the spans of a trace.
    pub fn add(&mut self, detail: &TraceDetail) -> Result<(), FileError> {
        let none = Origin::default();
        for (place, span) in detail.spans.iter().enumerate() {
            let origin = detail.origin(place).map_or(&none, |origin| &**origin);
            let scores = detail.scores.get(&span.span_id).map(Vec::as_slice).unwrap_or_default();
            let run = detail.row.run_id.as_ref().map(ToString::to_string);
            for (column, text) in self.texts.iter_mut().zip(texts(span, origin, scores, run)) {
                column.push(text);
            }
            let (start, end) = (span.start_unix_nano as i64, (!span.is_open()).then_some(span.end_unix_nano as i64));
            let duration = end.map(|end| end.saturating_sub(start));
            for (column, number) in self.numbers.iter_mut().zip([Some(start), end, duration]) {
                column.push(number);
            }
            for (name, column) in &mut self.scores {
                column.push(scores.iter().find(|score| score.name == *name).and_then(|score| score.evaluation.value()));
            }
            self.rows += 1;
            if self.texts[0].len() == GROUP {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Ends the table; gives the number of its rows.
    pub fn finish(mut self) -> Result<u64, FileError> {
        self.flush()?;
        let Self { writer, target, path, rows, .. } = self;
        writer.finish().map_err(|e| failed(&path, &e))?;
        drop(writer);
        match Rc::try_unwrap(target) {
            Ok(target) => target.into_inner().finish()?,
            Err(_) => return Err(FileError::Table { path, reason: "it is still being written".to_owned() }),
        }
        Ok(rows)
    }

    fn flush(&mut self) -> Result<(), FileError> {
        let texts = TEXTS.iter().zip(&mut self.texts);
        let mut columns: Vec<Column> =
            texts.map(|(name, values)| Series::new((*name).into(), std::mem::take(values)).into()).collect();
        let numbers = NUMBERS.iter().zip(&mut self.numbers);
        columns.extend(numbers.map(|(name, values)| Column::from(Series::new((*name).into(), std::mem::take(values)))));
        let scores = self.scores.iter_mut();
        columns.extend(
            scores.map(|(name, values)| Column::from(Series::new(score_column(name).into(), std::mem::take(values)))),
        );
        let frame = DataFrame::new_infer_height(columns).map_err(|e| failed(&self.path, &e))?;
        if frame.height() == 0 {
            return Ok(());
        }
        self.writer.write_batch(&frame).map_err(|e| failed(&self.path, &e))
    }
}

/// The file in the writer's hands; it does not give it back itself.
struct Handle(Rc<RefCell<Target>>);

impl Write for Handle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }
}

fn score_column(name: &str) -> String {
    format!("{SCORE_PREFIX}{name}")
}

fn failed(path: &str, error: &PolarsError) -> FileError {
    FileError::Table { path: path.to_owned(), reason: error.to_string() }
}

fn texts(span: &Span, origin: &Origin, scores: &[SpanScore], run: Option<String>) -> [Option<String>; 16] {
    let text = |key: &str| match span.get(key) {
        Some(Value::Str(text)) => Some(text.to_string()),
        _ => None,
    };
    let message = match &span.status {
        Status::Error(message) if !message.is_empty() => Some(message.clone()),
        _ => None,
    };
    let list = |items: Vec<Json>| (!items.is_empty()).then(|| Json::Array(items).to_string());
    [
        Some(span.trace_id.to_string()),
        Some(span.span_id.to_string()),
        span.parent_span_id.map(|id| id.to_string()),
        Some(span.name.to_string()),
        Some(span.kind.as_str().to_owned()),
        Some(span.status.as_str().to_owned()),
        message,
        origin.resource_text(sc::SERVICE_NAME).map(str::to_owned),
        (!origin.scope_name.is_empty()).then(|| origin.scope_name.clone()),
        run,
        text(sc::TEST_CASE_ID),
        Some(Json::Object(object(&span.attributes)).to_string()),
        list(
            span.events
                .iter()
                .map(|event| {
                    json!({"name": event.name, "time_unix_nano": event.time_unix_nano, "attributes": object(&event.attributes)})
                })
                .collect(),
        ),
        list(
            span.links
                .iter()
                .map(|link| json!({"trace_id": link.trace_id, "span_id": link.span_id, "attributes": object(&link.attributes)}))
                .collect(),
        ),
        Some(Json::Object(object(&origin.resource)).to_string()),
        list(scores.iter().map(score).collect()),
    ]
}

fn score(score: &SpanScore) -> Json {
    let (value, label, explanation, error) = match &score.evaluation {
        Evaluation::Scored { value, label, explanation } => {
            (value.map(Finite::get), label.clone(), explanation.clone(), None)
        }
        Evaluation::Failed { error_type, .. } => (None, None, None, Some(error_type.clone())),
        Evaluation::Skipped { reason } => (None, None, Some(reason.clone()), None),
    };
    json!({
        "name": score.name,
        "value": value,
        "label": label,
        "explanation": explanation,
        "error": error,
        "annotator_kind": score.annotator_kind,
        "identifier": score.identifier,
    })
}

#[cfg(test)]
mod tests {
    use polars::prelude::{ParquetReader, SerReader};

    use super::*;
    use crate::model::{Finite, Key, SpanId, TraceId};
    use crate::store::rows::TraceRow;

    fn detail(n: u64) -> TraceDetail {
        let trace_id = TraceId::from_bytes([7; 16]);
        let mut span = Span::open(trace_id, SpanId::from_bytes(n.to_be_bytes()), None, "work", 1000 + n);
        span.set("nan", f64::NAN);
        span.set(sc::TEST_CASE_ID, format!("c{n}"));
        span.add_event("happened", 5, vec![(Key::from("k"), Value::Array(Vec::new()))]);
        if n != 2 {
            span.end_unix_nano = 3000;
        }
        span.status = Status::Error("boom".to_owned());
        let row = TraceRow {
            trace_id,
            start_unix_nano: 1000,
            duration_ns: 0,
            error: true,
            errors: 1,
            operations: 1,
            root: "work".to_owned(),
            service: None,
            scores: BTreeMap::new(),
            tokens: None,
            run_id: None,
            case_ids: Vec::new(),
        };
        let given = SpanScore {
            name: "good".to_owned(),
            evaluation: Evaluation::category("fine", Finite::new(0.5)),
            annotator_kind: Some("LLM".to_owned()),
            identifier: None,
            evaluator_span: None,
            external: true,
        };
        let scores = if n == 1 { BTreeMap::from([(span.span_id, vec![given])]) } else { BTreeMap::new() };
        let origin = Origin {
            resource: vec![(Key::from(sc::SERVICE_NAME), Value::from("shop"))],
            scope_name: "lib".to_owned(),
            ..Origin::default()
        };
        TraceDetail {
            row,
            spans: vec![span],
            origins: vec![origin.into()],
            origin_of: vec![0],
            logs: Vec::new(),
            scores,
        }
    }

    #[test]
    fn a_row_per_span_with_its_scores_in_columns() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spans.parquet");
        let mut table = SpanTable::create(&path, BTreeSet::from(["good".to_owned()])).expect("a table");
        for n in 1..=GROUP as u64 + 10 {
            table.add(&detail(n)).expect("added");
        }
        assert_eq!(table.finish().expect("finished"), GROUP as u64 + 10);
        let frame = ParquetReader::new(std::fs::File::open(&path).expect("a file")).finish().expect("a table");
        assert_eq!(frame.height(), GROUP + 10);
        let text = |column: &str, row: usize| {
            frame.column(column).expect(column).str().expect("text").get(row).map(str::to_owned)
        };
        assert_eq!(text("span_id", 0).as_deref(), Some("0000000000000001"));
        assert_eq!(text("case_id", 1).as_deref(), Some("c2"));
        assert_eq!((text("service", 0).as_deref(), text("scope", 0).as_deref()), (Some("shop"), Some("lib")));
        assert_eq!(text("status_message", 0).as_deref(), Some("boom"));
        assert!(text("attributes", 0).expect("set").contains("\"nan\":\"NaN\""));
        assert!(text("events", 0).expect("set").contains("\"k\":[]"));
        assert!(text("scores", 0).expect("set").contains("\"label\":\"fine\""));
        assert_eq!((text("parent_span_id", 0), text("links", 0), text("scores", 1)), (None, None, None));
        let number = |column: &str, row: usize| frame.column(column).expect(column).i64().expect("numbers").get(row);
        assert_eq!((number("start_unix_nano", 0), number("duration_ns", 0)), (Some(1001), Some(1999)));
        assert_eq!((number("end_unix_nano", 1), number("duration_ns", 1)), (None, None));
        let scores = frame.column("score.good").expect("a column").f64().expect("numbers");
        assert_eq!((scores.get(0), scores.get(1)), (Some(0.5), None));
    }

    #[test]
    fn a_table_without_rows_is_a_table() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("none.parquet");
        assert_eq!(SpanTable::create(&path, BTreeSet::new()).expect("a table").finish().expect("finished"), 0);
        let frame = ParquetReader::new(std::fs::File::open(&path).expect("a file")).finish().expect("a table");
        assert_eq!((frame.height(), frame.width()), (0, TEXTS.len() + NUMBERS.len()));
    }
}
