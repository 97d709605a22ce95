//! Reading traces: a list of summaries, and one trace with its spans and the scores that sit on them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rusqlite::{Row, params};

use super::bundle::{Messages, Texts, evaluation_of, span_id_of};
use super::cases::owned;
use super::error::StoreError;
use super::plan::decode_content;
use super::reader::Reader;
use super::rows::{TraceDetail, TraceRow};
use super::schema::case_of;
use crate::model::{CaseId, Evaluation, EvaluatorId, EvaluatorSpec, Key, RunId, Span, SpanId, TraceId, Value};
use crate::query::{Expr, Field, FieldValue, Record, SortKey};
use crate::trace::semconv;

/// How many cases a list names of a trace.
const CASES: usize = 8;

/// How many traces an error names.
const CANDIDATES: usize = 8;

const COLUMNS: &str = "trace.number, trace_id, start, end, operations, errors, root, service, run.number, run.run_id";

/// A trace's row in the table.
struct Summary {
    number: i64,
    run: Option<i64>,
    row: TraceRow,
}

/// Evaluators of the runs that were met, for their names and order.
type Evaluators = BTreeMap<i64, Vec<EvaluatorSpec>>;

impl Reader {
    /// The traces that match, at most `limit`; without `sort` the newest first.
    pub fn traces(
        &self,
        filter: Option<&Expr>,
        sort: Option<&SortKey>,
        limit: Option<usize>,
    ) -> Result<Vec<TraceRow>, StoreError> {
        let or = self.or();
        let mut fields = filter.map(Expr::fields).unwrap_or_default();
        fields.extend(sort.map(|sort| &sort.field));
        let wants = |wanted: fn(&Field) -> bool| fields.iter().any(|field| wanted(field));
        let scores = wants(|f| matches!(f, Field::Score(_) | Field::Case));
        let spans = wants(|f| matches!(f, Field::Attribute(_) | Field::Error | Field::Text));
        let texts = wants(|f| matches!(f, Field::Text));

        let mut evaluators = Evaluators::new();
        let mut kept = Vec::new();
        let sql = format!(
            "SELECT {COLUMNS} FROM trace LEFT JOIN run ON run.number = trace.run
             WHERE trace.run IS NULL OR run.spec IS NOT NULL ORDER BY start DESC, trace.number DESC LIMIT ?1"
        );
        let at_most = limit.filter(|_| fields.is_empty()).map_or(-1, |limit| limit as i64);
        let mut find = self.conn.prepare_cached(&sql).map_err(&or)?;
        let mut rows = find.query([at_most]).map_err(&or)?;
        while let Some(row) = rows.next().map_err(&or)? {
            let mut summary = Summary::from_row(row).map_err(&or)?;
            if scores {
                self.add_scores(&mut summary, &mut evaluators)?;
            }
            let searched = Searched {
                row: &summary.row,
                spans: if spans { self.spans_of(summary.number)?.0 } else { Vec::new() },
                texts: if texts { self.texts_of(summary.number)? } else { Vec::new() },
            };
            if filter.is_none_or(|filter| filter.matches(&searched)) {
                let by = sort.map(|sort| owned(searched.field(&sort.field)));
                kept.push((by, summary));
                if let Some(limit) = limit
                    && kept.len() >= 2 * limit + 1024
                {
                    sort_and_cut(&mut kept, sort, limit);
                }
            }
        }
        sort_and_cut(&mut kept, sort, limit.unwrap_or(usize::MAX));
        kept.into_iter()
            .map(|(_, mut summary)| {
                if !scores {
                    self.add_scores(&mut summary, &mut evaluators)?;
                }
                Ok(summary.row)
            })
            .collect()
    }

    /// The trace of an id, or of the beginning of one.
    pub fn trace(&self, text: &str) -> Result<TraceDetail, StoreError> {
        let or = self.or();
        let unknown = || StoreError::UnknownTrace { wanted: text.to_owned() };
        let (low, high) = prefix_range(text).ok_or_else(unknown)?;
        let sql = format!(
            "SELECT {COLUMNS} FROM trace LEFT JOIN run ON run.number = trace.run
             WHERE trace_id BETWEEN ?1 AND ?2 AND (trace.run IS NULL OR run.spec IS NOT NULL)
             ORDER BY trace_id LIMIT {}",
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
        let mut summary = found.pop().ok_or_else(unknown)?;
        let mut evaluators = Evaluators::new();
        self.add_scores(&mut summary, &mut evaluators)?;
        let (spans, resource) = self.spans_of(summary.number)?;
        let scores = self.scores_of(&summary, &mut evaluators)?;
        Ok(TraceDetail { row: summary.row, spans, resource: self.resource(resource)?, scores })
    }

    /// All spans of a trace by start, and the number of their first resource.
    pub(super) fn spans_of(&self, trace: i64) -> Result<(Vec<Span>, Option<i64>), StoreError> {
        let or = self.or();
        let mut find = self
            .conn
            .prepare_cached(
                "SELECT payload, slot, resource, body FROM span JOIN payload ON payload.id = span.payload
                 WHERE trace = ?1 ORDER BY payload, slot",
            )
            .map_err(&or)?;
        let mut rows = find.query([trace]).map_err(&or)?;
        let mut spans = Vec::new();
        let mut resource = None;
        let mut unpacked: Option<(i64, Vec<u8>)> = None;
        while let Some(row) = rows.next().map_err(&or)? {
            let (payload, slot): (i64, i64) = (row.get(0).map_err(&or)?, row.get(1).map_err(&or)?);
            resource = resource.or(row.get(2).map_err(&or)?);
            let content = match &mut unpacked {
                Some((number, content)) if *number == payload => &*content,
                unpacked => {
                    let blob = row.get_ref(3).and_then(|b| Ok(b.as_blob()?)).map_err(&or)?;
                    let content = self.unpack("a payload", blob, |content| Ok(content.to_vec()))?;
                    &unpacked.insert((payload, content)).1
                }
            };
            spans.push(Messages::split(content)?.span(slot as usize)?);
        }
        // A parent and its first child may start at the same nanosecond: roots first, then as they were recorded.
        spans.sort_by_key(|span: &Span| (span.start_unix_nano, span.parent_span_id.is_some()));
        Ok((spans, resource))
    }

    /// Adds the mean of each evaluator and the first cases.
    fn add_scores(&self, summary: &mut Summary, evaluators: &mut Evaluators) -> Result<(), StoreError> {
        let Some(run) = summary.run else { return Ok(()) };
        let or = self.or();
        let means: Vec<(i64, f64)> = self
            .conn
            .prepare_cached(
                "SELECT evaluator, avg(value) FROM span
                 JOIN trial ON trial.id = span.trial AND trial.span = span.span_id
                 JOIN score ON score.trial = trial.id
                 WHERE span.trace = ?1 AND state = 0 AND value IS NOT NULL GROUP BY evaluator",
            )
            .and_then(|mut find| find.query_map([summary.number], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(&or)?;
        let specs = self.evaluators(run, evaluators)?;
        summary.row.scores =
            means.into_iter().filter_map(|(at, mean)| Some((specs.get(at as usize)?.id.clone(), mean))).collect();
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
        Ok(())
    }

    /// The scores on the spans of a trace.
    fn scores_of(
        &self,
        summary: &Summary,
        evaluators: &mut Evaluators,
    ) -> Result<BTreeMap<SpanId, BTreeMap<EvaluatorId, Evaluation>>, StoreError> {
        let Some(run) = summary.run else { return Ok(BTreeMap::new()) };
        let or = self.or();
        let specs = self.evaluators(run, evaluators)?;
        let mut find = self
            .conn
            .prepare_cached(
                "SELECT span.span_id, evaluator, state, value, label, texts FROM span
                 JOIN trial ON trial.id = span.trial AND trial.span = span.span_id
                 JOIN score ON score.trial = trial.id WHERE span.trace = ?1",
            )
            .map_err(&or)?;
        let mut rows = find.query([summary.number]).map_err(&or)?;
        let mut scores: BTreeMap<SpanId, BTreeMap<EvaluatorId, Evaluation>> = BTreeMap::new();
        while let Some(row) = rows.next().map_err(&or)? {
            let blob = row.get_ref(5).and_then(|b| Ok(b.as_blob()?)).map_err(&or)?;
            let evaluator = row.get::<_, i64>(1).map_err(&or)? as usize;
            let Some(spec) = specs.get(evaluator) else { continue };
            let evaluation = self.unpack("the texts of a trial", blob, |json| {
                let texts: Texts<'_> =
                    serde_json::from_slice(json).map_err(|e| StoreError::damaged("the texts of a trial", e))?;
                let read = || Ok(evaluation_of(row.get(2)?, row.get(3)?, row.get(4)?, evaluator, &texts));
                read().map_err(&or)
            })?;
            let span = span_id_of(row.get(0).map_err(&or)?);
            scores.entry(span).or_default().insert(spec.id.clone(), evaluation);
        }
        Ok(scores)
    }

    /// Claims, contexts and answers of a trace's trials, for searching.
    fn texts_of(&self, trace: i64) -> Result<Vec<String>, StoreError> {
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

    fn evaluators<'e>(&self, run: i64, known: &'e mut Evaluators) -> Result<&'e [EvaluatorSpec], StoreError> {
        use std::collections::btree_map::Entry;
        Ok(match known.entry(run) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.run(run)?.spec.evaluators),
        })
    }
}

impl Summary {
    /// Reads [`COLUMNS`].
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
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
                duration_ns: (end - start).max(0) as u64,
                error: errors > 0,
                errors: errors as u64,
                operations: row.get::<_, i64>(4)? as u64,
                root: row.get(6)?,
                service: row.get(7)?,
                scores: BTreeMap::new(),
                run_id: run_id.and_then(|id| RunId::parse(id).ok()),
                case_ids: Vec::new(),
            },
        })
    }
}

/// A trace with what a filter may ask beyond its row.
struct Searched<'a> {
    row: &'a TraceRow,
    spans: Vec<Span>,
    texts: Vec<String>,
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

fn sort_and_cut(kept: &mut Vec<(Option<FieldValue<'static>>, Summary)>, sort: Option<&SortKey>, limit: usize) {
    if let Some(sort) = sort {
        let missing = FieldValue::Missing;
        kept.sort_by(|a, b| sort.compare_values(a.0.as_ref().unwrap_or(&missing), b.0.as_ref().unwrap_or(&missing)));
    }
    kept.truncate(limit);
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
    use crate::model::{Label, Predicted, TrialKey};
    use crate::query::{Schema, parse, parse_sort};
    use crate::store::testing::{Scene, case_id, completed, evaluator, failed, span_ids, trace_id, trial};

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
        assert_eq!(batch.scores[&evaluator("label_match")], 0.5, "the failed trial has no score");

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
        assert_eq!(format!("{:?}", trace.resource), format!("{:?}", scene.spec.resource));
        let span = span_ids(TrialKey { seq: 1, repeat: 0 }, 0).0;
        let wrong = Evaluation::assertion(false).because("answered True");
        assert_eq!(trace.scores[&span][&evaluator("label_match")], wrong);
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
