//! Reading the row of a trace: its summary, scores and cases, and what a query sees of it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use rusqlite::{OptionalExtension, Row, params};

use super::bundle::Texts;
use super::error::StoreError;
use super::plan::decode_content;
use super::reader::Reader;
use super::rows::TraceRow;
use super::schema::case_of;
use crate::model::{CaseId, EvaluatorSpec, Key, RunId, Span, TraceId, Value};
use crate::query::{Field, FieldValue, Record};
use crate::trace::semconv;

/// How many cases a list names of a trace.
const CASES: usize = 8;

/// How many traces an error names.
const CANDIDATES: usize = 8;

/// What [`Summary::from_row`] reads.
pub(super) const COLUMNS: &str = "trace.number, trace_id, start, end, operations, errors, root, service, run.number, \
                                  run.run_id, input_tokens, output_tokens";

/// What of `trace LEFT JOIN run` anybody sees: traces with spans, but not those of a run that is being removed.
pub(super) const VISIBLE: &str = "trace.operations > 0 AND (trace.run IS NULL OR run.spec IS NOT NULL)";

/// A trace's row in the table.
pub(super) struct Summary {
    pub(super) number: i64,
    pub(super) run: Option<i64>,
    pub(super) row: TraceRow,
}

/// Evaluators of the runs that were met, for their names and order.
pub(super) type Evaluators = BTreeMap<i64, Vec<EvaluatorSpec>>;

impl Reader {
    /// The row of the trace that a text means: an id, or the beginning of one.
    pub(super) fn find_trace(&self, text: &str, evaluators: &mut Evaluators) -> Result<Summary, StoreError> {
        let or = self.or();
        let unknown = || StoreError::UnknownTrace { wanted: text.to_owned() };
        let (low, high) = prefix_range(text).ok_or_else(unknown)?;
        let sql = format!(
            "SELECT {COLUMNS} FROM trace LEFT JOIN run ON run.number = trace.run
             WHERE trace_id BETWEEN ?1 AND ?2 AND {VISIBLE} ORDER BY trace_id LIMIT {}",
            CANDIDATES + 1
        );
        let mut found: Vec<Summary> = self
            .conn
            .prepare_cached(&sql)
            .and_then(|mut find| find.query_map(params![low, high], Summary::from_row)?.collect())
            .map_err(or)?;
        if found.len() > 1 {
            let candidates = found.iter().take(CANDIDATES).map(|summary| summary.row.trace_id.to_string()).collect();
            return Err(StoreError::AmbiguousTrace { wanted: text.to_owned(), candidates });
        }
        let Some(mut summary) = found.pop() else {
            return Err(self.pruned_between(low, high)?.unwrap_or_else(unknown));
        };
        self.add_scores(&mut summary, evaluators)?;
        Ok(summary)
    }

    /// The row of a trace, without scores and cases.
    pub(super) fn find_trace_of(&self, trace_id: TraceId) -> Result<Summary, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM trace LEFT JOIN run ON run.number = trace.run WHERE trace_id = ?1 AND {VISIBLE}"
        );
        let found = self
            .conn
            .prepare_cached(&sql)
            .and_then(|mut find| find.query_row([trace_id.as_bytes()], Summary::from_row).optional())
            .map_err(self.or())?;
        match found {
            Some(summary) => Ok(summary),
            None => {
                let id = *trace_id.as_bytes();
                let unknown = StoreError::UnknownTrace { wanted: trace_id.to_string() };
                Err(self.pruned_between(id, id)?.unwrap_or(unknown))
            }
        }
    }

    /// The error of a pruned trace whose id lies in the range, if there is exactly one.
    fn pruned_between(&self, low: [u8; 16], high: [u8; 16]) -> Result<Option<StoreError>, StoreError> {
        let found: Vec<(Vec<u8>, i64)> = self
            .conn
            .prepare_cached("SELECT trace_id, at FROM pruned WHERE trace_id BETWEEN ?1 AND ?2 ORDER BY at DESC LIMIT 2")
            .and_then(|mut find| find.query_map([low, high], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(self.or())?;
        Ok(match found.as_slice() {
            [(id, at)] => {
                TraceId::from_slice(id).map(|trace_id| StoreError::PrunedTrace { trace_id, at_unix_nano: *at as u64 })
            }
            _ => None,
        })
    }

    /// Adds the means of its scores, the first cases, and tokens.
    pub(super) fn add_scores(&self, summary: &mut Summary, evaluators: &mut Evaluators) -> Result<(), StoreError> {
        let or = self.or();
        self.add_means(summary)?;
        let Some(run) = summary.run else { return Ok(()) };
        if summary.row.scores.is_empty() {
            self.add_open_means(summary, self.evaluators(run, evaluators)?)?;
        }
        let cases: Vec<String> = self
            .conn
            .prepare_cached(
                "SELECT DISTINCT case_id FROM span JOIN planned ON planned.id = span.trial & ?2
                 WHERE span.trace = ?1 AND span.trial IS NOT NULL ORDER BY planned.id LIMIT ?3",
            )
            .and_then(|mut find| {
                find.query_map(params![summary.number, case_of(i64::MAX), CASES as i64], |row| row.get(0))?.collect()
            })
            .map_err(&or)?;
        summary.row.case_ids = cases
            .into_iter()
            .map(|id| CaseId::parse(id).map_err(|e| StoreError::damaged("a case", e)))
            .collect::<Result<_, _>>()?;
        if summary.row.tokens.is_none() {
            summary.row.tokens = self
                .conn
                .prepare_cached(
                    "SELECT sum(input_tokens), sum(output_tokens) FROM span JOIN trial ON trial.id = span.trial
                     WHERE span.trace = ?1 AND span.trial IS NOT NULL AND trial.span = span.span_id",
                )
                .and_then(|mut find| find.query_row([summary.number], |row| tokens_of(row, 0)))
                .map_err(&or)?;
        }
        Ok(())
    }

    /// Adds the means of its scores as they are kept.
    pub(super) fn add_means(&self, summary: &mut Summary) -> Result<(), StoreError> {
        summary.row.scores = self
            .conn
            .prepare_cached(
                "SELECT score_name.name, value FROM trace_score JOIN score_name ON score_name.id = trace_score.name
                 WHERE trace = ?1",
            )
            .and_then(|mut find| find.query_map([summary.number], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(self.or())?;
        Ok(())
    }

    /// The mean of a score in every trace that has it.
    pub(super) fn means_of(&self, name: &str) -> Result<HashMap<i64, f64>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT trace, value FROM trace_score WHERE name = (SELECT id FROM score_name WHERE name = ?1)",
            )
            .and_then(|mut find| find.query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(self.or())
    }

    /// The means of a batch that is still open, or that a kill left so.
    fn add_open_means(&self, summary: &mut Summary, specs: &[EvaluatorSpec]) -> Result<(), StoreError> {
        let means: Vec<(i64, f64)> = self
            .conn
            .prepare_cached(
                "SELECT evaluator, avg(value) FROM span
                 JOIN trial ON trial.id = span.trial AND trial.span = span.span_id
                 JOIN score ON score.trial = trial.id
                 WHERE span.trace = ?1 AND state = 0 AND value IS NOT NULL GROUP BY evaluator",
            )
            .and_then(|mut find| find.query_map([summary.number], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(self.or())?;
        summary.row.scores =
            means.into_iter().filter_map(|(at, mean)| Some((specs.get(at as usize)?.id.to_string(), mean))).collect();
        Ok(())
    }

    /// Claims, contexts and answers of a trace's trials, for searching.
    pub(super) fn texts_of(&self, trace: i64) -> Result<Vec<String>, StoreError> {
        let or = self.or();
        let mut find = self
            .conn
            .prepare_cached(
                "SELECT content.body, texts FROM span JOIN trial ON trial.id = span.trial
                 JOIN planned ON planned.id = span.trial & ?2 JOIN content ON content.id = planned.content
                 WHERE span.trace = ?1",
            )
            .map_err(&or)?;
        let mut rows = find.query([trace, case_of(i64::MAX)]).map_err(&or)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(&or)? {
            let blob = |column| row.get_ref(column).and_then(|b| Ok(b.as_blob()?));
            self.unpack("a case", blob(0).map_err(&or)?, |content| {
                let (claim, context) = decode_content(content)?;
                found.extend([claim.to_owned(), context.to_owned()]);
                Ok(())
            })?;
            self.unpack("the texts of a trial", blob(1).map_err(&or)?, |json| {
                let texts: Texts<'_> =
                    serde_json::from_slice(json).map_err(|e| StoreError::damaged("the texts of a trial", e))?;
                found.extend(texts.raw_output.map(Cow::into_owned));
                Ok(())
            })?;
        }
        Ok(found)
    }

    pub(super) fn evaluators<'e>(
        &self,
        run: i64,
        known: &'e mut Evaluators,
    ) -> Result<&'e [EvaluatorSpec], StoreError> {
        use std::collections::btree_map::Entry;
        Ok(match known.entry(run) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.run(run)?.spec.evaluators),
        })
    }
}

impl Summary {
    /// Reads [`COLUMNS`].
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let trace_id = row.get_ref(1)?.as_blob()?;
        let (start, end): (i64, i64) = (row.get(2)?, row.get(3)?);
        let errors: i64 = row.get(5)?;
        let run_id: Option<String> = row.get(9)?;
        Ok(Self {
            number: row.get(0)?,
            run: row.get(8)?,
            row: TraceRow {
                trace_id: TraceId::from_slice(trace_id).ok_or(rusqlite::Error::InvalidColumnType(
                    1,
                    "trace_id".to_owned(),
                    rusqlite::types::Type::Blob,
                ))?,
                start_unix_nano: start as u64,
                duration_ns: end.saturating_sub(start).max(0) as u64,
                error: errors > 0,
                errors: errors as u64,
                operations: row.get::<_, i64>(4)? as u64,
                root: row.get(6)?,
                service: row.get(7)?,
                scores: BTreeMap::new(),
                tokens: tokens_of(row, 10)?,
                run_id: run_id.and_then(|id| RunId::parse(id).ok()),
                case_ids: Vec::new(),
            },
        })
    }
}

/// A trace with what a filter may ask beyond its row.
pub(super) struct Searched<'a> {
    pub(super) row: &'a TraceRow,
    pub(super) spans: Vec<Span>,
    pub(super) texts: Vec<String>,
}

impl Record for Searched<'_> {
    fn field(&self, field: &Field) -> FieldValue<'_> {
        let attributes = || self.spans.iter().flat_map(|span| &span.attributes);
        match field {
            Field::Attribute(name) => {
                let values: Vec<_> =
                    attributes().filter(|(key, _)| key == name).filter_map(|(_, value)| text_of(value)).collect();
                if values.is_empty() { FieldValue::Missing } else { FieldValue::Texts(values) }
            }
            Field::Error if self.row.error => {
                let types: Vec<_> = attributes()
                    .filter(|(key, _)| key == semconv::ERROR_TYPE)
                    .filter_map(|(_, value)| text_of(value))
                    .collect();
                if types.is_empty() { FieldValue::text("error") } else { FieldValue::Texts(types) }
            }
            Field::Text => {
                let values = attributes().filter_map(|(_, value): &(Key, Value)| match value {
                    Value::Str(text) => Some(Cow::Borrowed(&**text)),
                    _ => None,
                });
                let names = self.spans.iter().map(|span| Cow::Borrowed(&*span.name));
                let texts = self.texts.iter().map(|text| Cow::Borrowed(text.as_str()));
                FieldValue::Texts(names.chain(texts).chain(values).collect())
            }
            _ => self.row.field(field),
        }
    }
}

impl Record for TraceRow {
    fn field(&self, field: &Field) -> FieldValue<'_> {
        match field {
            Field::Score(id) => FieldValue::maybe_number(self.scores.get(id).copied()),
            Field::Status => FieldValue::text(if self.error { "error" } else { "ok" }),
            Field::Errors => FieldValue::Number(self.errors as f64),
            Field::Duration => FieldValue::Number(self.duration_ns as f64 / 1e9),
            Field::Operations => FieldValue::Number(self.operations as f64),
            Field::Root => FieldValue::text(&self.root),
            Field::Service => FieldValue::maybe_text(self.service.as_deref()),
            Field::Run => FieldValue::maybe_text(self.run_id.as_ref().map(RunId::as_str)),
            Field::Case => FieldValue::Texts(self.case_ids.iter().map(|id| Cow::Borrowed(id.as_str())).collect()),
            Field::Trace => FieldValue::Text(Cow::Owned(self.trace_id.to_string())),
            Field::Start => FieldValue::Number(self.start_unix_nano as f64 / 1e9),
            _ => FieldValue::Missing,
        }
    }
}

/// A value as a query compares it; lists, maps and bytes are not compared.
fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Str(text) => Some(Cow::Borrowed(text)),
        Value::Bool(x) => Some(Cow::Owned(x.to_string())),
        Value::Int(x) => Some(Cow::Owned(x.to_string())),
        Value::Double(x) => Some(Cow::Owned(x.to_string())),
        Value::Empty | Value::Bytes(_) | Value::Array(_) | Value::Map(_) => None,
    }
}

/// Input and output tokens of two columns, if one of them is known.
fn tokens_of(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<(u64, u64)>> {
    let (input, output): (Option<i64>, Option<i64>) = (row.get(first)?, row.get(first + 1)?);
    let known = input.is_some() || output.is_some();
    Ok(known.then(|| (input.unwrap_or(0) as u64, output.unwrap_or(0) as u64)))
}

/// The least and the greatest trace id that begin with these hex digits.
fn prefix_range(text: &str) -> Option<([u8; 16], [u8; 16])> {
    if text.is_empty() || text.len() > 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let id = |fill: &str| {
        let digits = format!("{}{}", text.to_ascii_lowercase(), fill.repeat(32 - text.len()));
        digits.parse::<TraceId>().ok().map(|id| *id.as_bytes())
    };
    Some((id("0")?, id("f")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Evaluation, Label, Predicted, TrialKey};
    use crate::query::{Schema, parse, parse_sort};
    use crate::store::testing::{Scene, case_id, completed, failed, span_ids, trace_id, trial};

    #[tokio::test]
    async fn traces_are_listed_filtered_and_opened() {
        let scene = Scene::started(3, 1).await;
        scene.record(trial(0, 0, 0, completed(Predicted::Label(Label::True)))).await;
        scene.record(trial(1, 0, 0, completed(Predicted::Label(Label::True)))).await;
        scene.record(trial(2, 0, 0, failed())).await;
        scene.finish().await;
        let reader = scene.reader();
        let rows = reader.traces(None, None, None).expect("traces");
        let roots: Vec<_> = rows.iter().map(|row| (row.root.as_str(), row.operations, row.errors)).collect();
        assert_eq!(roots, [("assess_claims_with_context", 7, 1), ("evaluation_run", 1, 0)]);
        let batch = &rows[0];
        assert_eq!((batch.duration_ns, batch.service.as_deref()), (899, Some("spanscore")));
        assert_eq!(batch.case_ids, [0, 1, 2].map(case_id));
        assert_eq!(batch.scores["label_match"], 0.5, "the failed trial has no score");

        let check = |query: &str, wanted: usize| {
            let expr = parse(query, &Schema::traces()).expect(query);
            let sort = parse_sort("-operations", &Schema::traces()).expect("a key");
            assert_eq!(reader.traces(Some(&expr), Some(&sort), Some(9)).expect("traces").len(), wanted, "{query}");
        };
        check("status = error", 1);
        check("error = 429 and errors = 1", 1);
        check("error = timeout", 0);
        check("score.label_match < 1 and case = case-2", 1);
        check("attr.\"gen_ai.response.model\" = lexical-baseline", 1);
        check("text ~ \"Claim 1 mentions\"", 1);
        check("root = evaluation_run", 1);
        check("service = spanscore and run = 20260922-120000-00000a", 2);
        check("operations > 1", 1);

        let trace = reader.trace("0202").expect("the trace");
        assert_eq!(&trace.row, batch);
        assert_eq!((trace.spans.len(), trace.spans[0].parent_span_id), (7, None));
        let origin = trace.origin(0).expect("it has one");
        assert_eq!(format!("{:?}", origin.resource), format!("{:?}", scene.spec.resource));
        assert_eq!((origin.scope_name.as_str(), trace.logs.len()), ("spanscore", 6));
        let span = span_ids(TrialKey { seq: 1, repeat: 0 }, 0).0;
        let wrong = Evaluation::assertion(false).because("answered True");
        let found = trace.scores[&span].iter().find(|score| score.name == "label_match").expect("a score");
        assert_eq!((&found.evaluation, found.identifier.as_deref()), (&wrong, Some("label_match@1")));
        let ambiguous = reader.trace("0").expect_err("two traces begin so").to_string();
        assert!(ambiguous.contains(&trace_id(1).to_string()), "{ambiguous}");
        assert!(matches!(reader.trace("ff"), Err(StoreError::UnknownTrace { .. })));
    }

    #[test]
    fn a_prefix_may_end_within_a_byte() {
        let (low, high) = prefix_range("0aF").expect("hex");
        assert_eq!((low[0], low[1], low[15]), (0x0a, 0xf0, 0));
        assert_eq!((high[0], high[1], high[15]), (0x0a, 0xff, 0xff));
        assert!(prefix_range("xyz").is_none() && prefix_range("").is_none());
    }
}
