//! Reading one trace: whole, in outline, or one span of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::bundle::{Messages, Texts, evaluation_of, number_of, span_id_of};
use super::error::StoreError;
use super::reader::Reader;
use super::rows::{SpanDetail, SpanScore, SpanSkeleton, TraceDetail, TraceRow, TraceSkeleton};
use super::traces::{Evaluators, Summary};
use crate::model::{Evaluation, Finite, LogRecord, Origin, Span, SpanId, SpanKind, Telemetry, TraceId};
use crate::trace::{origin, otlp, semconv};

/// A payload as it stands in the table, unpacked.
pub(super) struct Payload {
    pub(super) resource: Option<i64>,
    pub(super) scope: Option<i64>,
    pub(super) content: Vec<u8>,
}

/// The origins that were met, each once.
#[derive(Default)]
pub(super) struct Origins {
    keys: Vec<(Option<i64>, Option<i64>)>,
    found: Vec<Arc<Origin>>,
}

/// The spans and log records of a trace, with their places among the origins.
#[derive(Default)]
pub(super) struct Opened {
    pub(super) spans: Vec<(Span, usize)>,
    pub(super) logs: Vec<(LogRecord, usize)>,
    pub(super) origins: Vec<Arc<Origin>>,
}

type Scores = BTreeMap<SpanId, Vec<SpanScore>>;

impl Reader {
    /// The trace of an id, or of the beginning of one, whole.
    pub fn trace(&self, text: &str) -> Result<TraceDetail, StoreError> {
        let _moment = self.moment()?;
        let mut evaluators = Evaluators::new();
        let summary = self.find_trace(text, &mut evaluators)?;
        let mut opened = self.open_trace(summary.number, true)?;
        // A parent and its first child may start at the same nanosecond: roots first, then as they were recorded.
        opened.spans.sort_by_key(|(span, _)| (span.start_unix_nano, span.parent_span_id.is_some()));
        opened.logs.sort_by_key(|(log, _)| time_of(log));
        let (spans, origin_of): (Vec<Span>, Vec<usize>) = opened.spans.into_iter().unzip();
        let root = spans.iter().find(|span| span.parent_span_id.is_none()).or(spans.first()).map(|span| span.span_id);
        let mut scores = self.scores_of(&summary, &mut evaluators, None, root)?;
        let judges = spans.iter().map(|span| (span.span_id, span.parent_span_id, &*span.name));
        link_judges(summary.row.trace_id, judges, &mut scores);
        Ok(TraceDetail { row: summary.row, spans, origins: opened.origins, origin_of, logs: opened.logs, scores })
    }

    /// The row of a trace, as lists show it.
    pub fn trace_row(&self, trace_id: TraceId) -> Result<TraceRow, StoreError> {
        let _moment = self.moment()?;
        let mut summary = self.find_trace_of(trace_id)?;
        self.add_scores(&mut summary, &mut Evaluators::new())?;
        Ok(summary.row)
    }

    /// The outline of the trace of an id, or of the beginning of one. No payload is opened: 100 000 spans take some
    /// hundredths of a second.
    pub fn trace_skeleton(&self, text: &str) -> Result<TraceSkeleton, StoreError> {
        let _moment = self.moment()?;
        let mut evaluators = Evaluators::new();
        let summary = self.find_trace(text, &mut evaluators)?;
        let or = self.or();
        // The spans of a large trace lie together mostly: reading that stretch of the table is much faster than looking
        // each of them up.
        let (first, last): (i64, i64) = self
            .conn
            .prepare_cached("SELECT coalesce(min(id), 0), coalesce(max(id), -1) FROM span WHERE trace = ?1")
            .and_then(|mut find| find.query_row([summary.number], |row| Ok((row.get(0)?, row.get(1)?))))
            .map_err(&or)?;
        let dense = last.saturating_sub(first) < 4 * summary.row.operations as i64;
        let columns = "span_id, parent, name, kind, status, start, coalesce(end, 0)";
        let sql = if dense {
            format!("SELECT {columns} FROM span NOT INDEXED WHERE id BETWEEN ?2 AND ?3 AND trace = ?1")
        } else {
            format!("SELECT {columns} FROM span WHERE trace = ?1 AND id BETWEEN ?2 AND ?3")
        };
        let mut spans = Vec::with_capacity(summary.row.operations as usize);
        let mut find = self.conn.prepare_cached(&sql).map_err(&or)?;
        let mut rows = find.query(params![summary.number, first, last]).map_err(&or)?;
        while let Some(row) = rows.next().map_err(&or)? {
            let read = || {
                Ok(SpanSkeleton {
                    span_id: span_id_of(row.get(0)?),
                    parent_span_id: row.get::<_, Option<i64>>(1)?.map(span_id_of),
                    name: row.get(2)?,
                    kind: SpanKind::from_number(row.get(3)?),
                    status: row.get(4)?,
                    start_unix_nano: row.get::<_, i64>(5)? as u64,
                    end_unix_nano: row.get::<_, i64>(6)? as u64,
                })
            };
            spans.push(read().map_err(&or)?);
        }
        spans.sort_by_key(|span| (span.start_unix_nano, span.parent_span_id.is_some()));
        let root = spans.iter().find(|span| span.parent_span_id.is_none()).or(spans.first()).map(|span| span.span_id);
        let mut scores = self.scores_of(&summary, &mut evaluators, None, root)?;
        let judges = spans.iter().map(|span| (span.span_id, span.parent_span_id, span.name.as_str()));
        link_judges(summary.row.trace_id, judges, &mut scores);
        Ok(TraceSkeleton { row: summary.row, spans, scores })
    }

    /// One span, whole; other spans of its trace are not read.
    pub fn span(&self, trace_id: TraceId, span_id: SpanId) -> Result<SpanDetail, StoreError> {
        let _moment = self.moment()?;
        let or = self.or();
        let mut evaluators = Evaluators::new();
        let summary = self.find_trace_of(trace_id)?;
        let found: Option<(i64, i64, Option<i64>)> = self
            .conn
            .prepare_cached("SELECT payload, slot, trial FROM span WHERE trace = ?1 AND span_id = ?2")
            .and_then(|mut find| {
                find.query_row([summary.number, number_of(span_id)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                    .optional()
            })
            .map_err(&or)?;
        let Some((payload, slot, trial)) = found else { return Err(StoreError::UnknownSpan { trace_id, span_id }) };
        let Payload { resource, scope, content } = self.payload(payload)?;
        let span = Messages::split(&content)?.span(slot as usize)?;
        let origin = self.origin(resource, scope)?;
        let mut logs = Vec::new();
        for payload in self.payloads_with_logs(summary.number, Some(span_id))? {
            let content = self.payload(payload)?.content;
            for bytes in Messages::split(&content)?.logs {
                let log = otlp::read_log(bytes).map_err(|e| StoreError::damaged("a log record", e))?;
                if log.span_id == Some(span_id) && log.trace_id == Some(trace_id) {
                    logs.push(log);
                }
            }
        }
        logs.sort_by_key(time_of);
        let root = span.parent_span_id.is_none().then_some(span_id);
        let mut scores = self.scores_of(&summary, &mut evaluators, Some(span_id), root)?;
        if trial.is_some() {
            let children: Vec<(SpanId, Option<SpanId>, String)> = self
                .conn
                .prepare_cached("SELECT span_id, parent, name FROM span WHERE trace = ?1 AND parent = ?2")
                .and_then(|mut find| {
                    find.query_map([summary.number, number_of(span_id)], |row| {
                        Ok((span_id_of(row.get(0)?), row.get::<_, Option<i64>>(1)?.map(span_id_of), row.get(2)?))
                    })?
                    .collect()
                })
                .map_err(or)?;
            let judges = children.iter().map(|(id, parent, name)| (*id, *parent, name.as_str()));
            link_judges(trace_id, judges, &mut scores);
        }
        Ok(SpanDetail { span, origin, logs, scores: scores.remove(&span_id).unwrap_or_default() })
    }

    /// Spans in the order in which they are stored, and with `logs` the log records.
    pub(super) fn open_trace(&self, trace: i64, logs: bool) -> Result<Opened, StoreError> {
        self.open(trace, logs, None)
    }

    /// The spans that were recorded first, at most so many: lists look into traces of any size.
    pub(super) fn open_trace_up_to(&self, trace: i64, spans: Option<usize>) -> Result<Opened, StoreError> {
        self.open(trace, false, spans)
    }

    fn open(&self, trace: i64, logs: bool, most: Option<usize>) -> Result<Opened, StoreError> {
        let most = most.map_or(-1, |most| most as i64);
        let mut places: Vec<(i64, i64)> = self
            .conn
            .prepare_cached("SELECT payload, slot FROM span WHERE trace = ?1 LIMIT ?2")
            .and_then(|mut find| find.query_map([trace, most], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(self.or())?;
        places.sort_unstable();
        let mut with_logs = if logs { self.payloads_with_logs(trace, None)? } else { Vec::new() };
        let mut opened = Opened::default();
        let mut origins = Origins::default();
        for of_payload in places.chunk_by(|a, b| a.0 == b.0) {
            let number = of_payload[0].0;
            let Payload { resource, scope, content } = self.payload(number)?;
            let origin = origins.place(self, resource, scope)?;
            let messages = Messages::split(&content)?;
            for (_, slot) in of_payload {
                opened.spans.push((messages.span(*slot as usize)?, origin));
            }
            if let Some(at) = with_logs.iter().position(|payload| *payload == number) {
                with_logs.swap_remove(at);
                add_logs(&messages, origin, &mut opened.logs)?;
            }
        }
        with_logs.sort_unstable();
        for number in with_logs {
            let Payload { resource, scope, content } = self.payload(number)?;
            let origin = origins.place(self, resource, scope)?;
            add_logs(&Messages::split(&content)?, origin, &mut opened.logs)?;
        }
        opened.origins = origins.found;
        Ok(opened)
    }

    /// Hands over the log records of applications that no trace shows: those without a trace, and those of traces whose
    /// spans are not there (yet), in the order in which they came.
    pub fn for_each_log_apart(&self, take: &mut dyn FnMut(Telemetry)) -> Result<(), StoreError> {
        let or = self.or();
        let mut find = self
            .conn
            .prepare(
                "SELECT log.payload FROM log LEFT JOIN trace ON trace.number = log.trace
                 WHERE log.run IS NULL AND (log.trace IS NULL OR trace.operations = 0) ORDER BY log.payload",
            )
            .map_err(&or)?;
        let mut rows = find.query([]).map_err(&or)?;
        while let Some(row) = rows.next().map_err(&or)? {
            let Payload { resource, scope, content } = self.payload(row.get(0).map_err(&or)?)?;
            let mut logs = Vec::new();
            add_logs(&Messages::split(&content)?, 0, &mut logs)?;
            let logs = logs.into_iter().map(|(log, _)| log).collect();
            take(Telemetry { origin: self.origin(resource, scope)?, spans: Vec::new(), logs });
        }
        Ok(())
    }

    /// The payloads that hold log records of a trace. Those of a run's trial lie with its spans, and with `of_span` only
    /// those of that span's own payload are looked for there, and of the payload of its parent.
    pub(super) fn payloads_with_logs(&self, trace: i64, of_span: Option<SpanId>) -> Result<Vec<i64>, StoreError> {
        let or = self.or();
        let mut payloads: Vec<i64> = self
            .conn
            .prepare_cached("SELECT payload FROM log WHERE trace = ?1")
            .and_then(|mut find| find.query_map([trace], |row| row.get(0))?.collect())
            .map_err(&or)?;
        let beside: Vec<i64> = match of_span {
            None => self
                .conn
                .prepare_cached(
                    "SELECT DISTINCT log.payload FROM span JOIN log ON log.payload = span.payload
                     WHERE span.trace = ?1 AND span.run IS NOT NULL AND log.trace IS NULL",
                )
                .and_then(|mut find| find.query_map([trace], |row| row.get(0))?.collect()),
            Some(span) => self
                .conn
                .prepare_cached(
                    "SELECT log.payload FROM span JOIN log ON log.payload = span.payload
                     WHERE span.trace = ?1 AND span.span_id = ?2 AND log.trace IS NULL",
                )
                .and_then(|mut find| find.query_map(params![trace, number_of(span)], |row| row.get(0))?.collect()),
        }
        .map_err(&or)?;
        payloads.extend(beside);
        Ok(payloads)
    }

    pub(super) fn payload(&self, number: i64) -> Result<Payload, StoreError> {
        let or = self.or();
        let mut find =
            self.conn.prepare_cached("SELECT resource, scope, body FROM payload WHERE id = ?1").map_err(&or)?;
        let mut rows = find.query([number]).map_err(&or)?;
        let Some(row) = rows.next().map_err(&or)? else {
            return Err(StoreError::damaged("a payload", "it is gone"));
        };
        let blob = row.get_ref(2).and_then(|b| Ok(b.as_blob()?)).map_err(&or)?;
        let content = self.unpack("a payload", blob, |content| Ok(content.to_vec()))?;
        let keys = || Ok((row.get(0)?, row.get(1)?));
        let (resource, scope) = keys().map_err(&or)?;
        Ok(Payload { resource, scope, content })
    }

    /// What a payload holds, unpacked.
    pub(super) fn payload_content(&self, number: i64) -> Result<Vec<u8>, StoreError> {
        Ok(self.payload(number)?.content)
    }

    /// Who made what stands in a payload with these numbers; without a scope it was this program.
    pub(super) fn origin(&self, resource: Option<i64>, scope: Option<i64>) -> Result<Arc<Origin>, StoreError> {
        let body = |sql: &str, id: Option<i64>| -> Result<Vec<u8>, StoreError> {
            let Some(id) = id else { return Ok(Vec::new()) };
            self.conn.prepare_cached(sql).and_then(|mut find| find.query_row([id], |row| row.get(0))).map_err(self.or())
        };
        let resource = body("SELECT body FROM resource WHERE id = ?1", resource)?;
        let frame = body("SELECT body FROM scope WHERE id = ?1", scope)?;
        let read = origin::read_origin(&resource, &frame).map_err(|e| StoreError::damaged("a resource", e))?;
        if scope.is_some() {
            return Ok(read);
        }
        Ok(Arc::new(origin::own(Arc::unwrap_or_clone(read).resource)))
    }

    /// The scores on the spans of a trace, or on one of them. What came without a span sits on `root`.
    fn scores_of(
        &self,
        summary: &Summary,
        evaluators: &mut Evaluators,
        only: Option<SpanId>,
        root: Option<SpanId>,
    ) -> Result<Scores, StoreError> {
        let mut scores = Scores::new();
        if let Some(run) = summary.run {
            self.add_own_scores(summary.number, self.evaluators(run, evaluators)?, only, &mut scores)?;
        }
        self.add_external_scores(summary.number, only, root, &mut scores)?;
        for of_span in scores.values_mut() {
            of_span.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Ok(scores)
    }

    fn add_own_scores(
        &self,
        trace: i64,
        specs: &[crate::model::EvaluatorSpec],
        only: Option<SpanId>,
        scores: &mut Scores,
    ) -> Result<(), StoreError> {
        let or = self.or();
        let mut find = self
            .conn
            .prepare_cached(
                "SELECT span.span_id, evaluator, state, value, label, texts FROM span
                 JOIN trial ON trial.id = span.trial AND trial.span = span.span_id
                 JOIN score ON score.trial = trial.id
                 WHERE span.trace = ?1 AND span.span_id BETWEEN ?2 AND ?3",
            )
            .map_err(&or)?;
        let (from, to) = only.map_or((i64::MIN, i64::MAX), |id| (number_of(id), number_of(id)));
        let mut rows = find.query([trace, from, to]).map_err(&or)?;
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
            scores.entry(span).or_default().push(SpanScore {
                name: spec.id.to_string(),
                evaluation,
                annotator_kind: Some(semconv::ANNOTATOR_CODE.to_owned()),
                identifier: Some(format!("{}@{}", spec.id, spec.version)),
                evaluator_span: None,
                external: false,
            });
        }
        Ok(())
    }

    fn add_external_scores(
        &self,
        trace: i64,
        only: Option<SpanId>,
        root: Option<SpanId>,
        scores: &mut Scores,
    ) -> Result<(), StoreError> {
        let or = self.or();
        let mut find = self
            .conn
            .prepare_cached(
                "SELECT span, score_name.name, value, label, explanation, annotator_kind, identifier, error_type,
                        judge_trace, judge_span
                 FROM external_score JOIN score_name ON score_name.id = external_score.name WHERE trace = ?1",
            )
            .map_err(&or)?;
        let mut rows = find.query([trace]).map_err(&or)?;
        while let Some(row) = rows.next().map_err(&or)? {
            let read = || {
                let span = row.get::<_, Option<i64>>(0)?.map(span_id_of);
                let explanation: Option<String> = row.get(4)?;
                let judge_trace = row.get_ref(8)?.as_blob_or_null()?.and_then(TraceId::from_slice);
                let judge_span = row.get::<_, Option<i64>>(9)?.map(span_id_of);
                let score = SpanScore {
                    name: row.get(1)?,
                    evaluation: match row.get::<_, Option<String>>(7)? {
                        Some(error_type) => Evaluation::Failed { error_type, message: explanation.unwrap_or_default() },
                        None => Evaluation::Scored {
                            value: row.get::<_, Option<f64>>(2)?.and_then(Finite::new),
                            label: row.get(3)?,
                            explanation,
                        },
                    },
                    annotator_kind: row.get(5)?,
                    identifier: row.get(6)?,
                    evaluator_span: judge_trace.zip(judge_span),
                    external: true,
                };
                Ok((span, score))
            };
            let (span, score) = read().map_err(&or)?;
            let Some(span) = span.or(root).filter(|span| only.is_none_or(|only| only == *span)) else { continue };
            let of_span = scores.entry(span).or_default();
            // Our own score of that name is the same one, sent back to us.
            if !of_span.iter().any(|known| !known.external && known.name == score.name) {
                of_span.push(score);
            }
        }
        Ok(())
    }
}

impl Origins {
    /// The place of an origin among those that were met.
    pub(super) fn place(
        &mut self,
        reader: &Reader,
        resource: Option<i64>,
        scope: Option<i64>,
    ) -> Result<usize, StoreError> {
        let key = (resource, scope);
        if let Some(at) = self.keys.iter().position(|known| *known == key) {
            return Ok(at);
        }
        self.found.push(reader.origin(resource, scope)?);
        self.keys.push(key);
        Ok(self.found.len() - 1)
    }

    /// All of them, by place.
    pub(super) fn into_found(self) -> Vec<Arc<Origin>> {
        self.found
    }
}

pub(super) fn add_logs(
    messages: &Messages<'_>,
    origin: usize,
    logs: &mut Vec<(LogRecord, usize)>,
) -> Result<(), StoreError> {
    for bytes in &messages.logs {
        logs.push((otlp::read_log(bytes).map_err(|e| StoreError::damaged("a log record", e))?, origin));
    }
    Ok(())
}

/// When a log record happened; when it was seen, if that is all that is known.
pub(super) const fn time_of(log: &LogRecord) -> u64 {
    if log.time_unix_nano == 0 { log.observed_unix_nano } else { log.time_unix_nano }
}

/// Notes in which span a judge came to a score: the child `evaluate NAME` of the span that the score sits on.
fn link_judges<'a>(
    trace_id: TraceId,
    spans: impl Iterator<Item = (SpanId, Option<SpanId>, &'a str)>,
    scores: &mut Scores,
) {
    if scores.is_empty() {
        return;
    }
    for (span_id, parent, name) in spans {
        let Some(judged) = name.strip_prefix(semconv::span::EVALUATE_PREFIX) else { continue };
        let Some(of_parent) = parent.and_then(|parent| scores.get_mut(&parent)) else { continue };
        for score in of_parent.iter_mut().filter(|score| score.name == judged && score.evaluator_span.is_none()) {
            score.evaluator_span = Some((trace_id, span_id));
        }
    }
}
