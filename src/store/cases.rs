//! Reading cases: the trials of a run with everything that a list shows, filtered, sorted, worst first.
//!
//! A list is made in two passes: the first reads of each trial only what the query needs, the second everything of
//! those that are shown. So a list of ten is fast in a run of a million.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use rusqlite::{Row, params};

use super::bundle::{ScoreText, Texts, evaluation_of, outcome_of, span_id_of};
use super::error::StoreError;
use super::plan::decode_content;
use super::reader::{Reader, label_of, usage_of};
use super::rows::{CaseRow, RunRow};
use super::schema::{case_of, first_key, last_key, pack, run_of, unpack};
use super::worst::Badness;
use crate::model::{CaseId, TraceId, TrialKey, Usage};
use crate::query::{Expr, Field, FieldValue, Record, SortKey};

/// What of a trial must be read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Needs {
    /// Claim and context.
    pub(super) content: bool,
    pub(super) columns: bool,
    /// Answers, errors, explanations.
    pub(super) texts: bool,
    pub(super) scores: bool,
    pub(super) trace: bool,
}

impl Needs {
    pub(super) const ALL: Self = Self { content: true, columns: true, texts: true, scores: true, trace: true };

    pub(super) fn of(fields: &[&Field]) -> Self {
        let mut needs = Self::default();
        for field in fields {
            match field {
                Field::Claim | Field::Context => needs.content = true,
                Field::Text => (needs.content, needs.texts) = (true, true),
                Field::Column(_) => needs.columns = true,
                Field::Error | Field::Finish => needs.texts = true,
                Field::Score(_) | Field::Label(_) => needs.scores = true,
                Field::Trace => needs.trace = true,
                _ => {}
            }
        }
        needs
    }
}

impl Reader {
    /// The trials of a run that match, planned ones without an outcome included; at most `limit`.
    ///
    /// Without `sort` the worst come first: failed trials, unparseable answers, then by the primary evaluator's value,
    /// then what has no such value, skipped trials, and those not recorded yet.
    pub fn cases(
        &self,
        run: &RunRow,
        filter: Option<&Expr>,
        sort: Option<&SortKey>,
        limit: Option<usize>,
    ) -> Result<Vec<CaseRow>, StoreError> {
        let _moment = self.moment()?;
        if let (None, None, Some(limit)) = (filter, sort, limit)
            && limit as u64 <= run.counts.recorded()
        {
            return self.worst(run, limit, |_| true);
        }
        let mut fields = filter.map(Expr::fields).unwrap_or_default();
        fields.extend(sort.map(|sort| &sort.field));
        let mut needs = Needs::of(&fields);
        needs.scores |= sort.is_none();
        // What is kept of a row that matches: its key and what it is sorted by.
        let mut kept: Vec<(SortedBy, i64)> = Vec::new();
        let order = |a: &(SortedBy, i64), b: &(SortedBy, i64)| a.0.compare(&b.0, sort).then(a.1.cmp(&b.1));
        self.scan(run, (first_key(run.number), last_key(run.number)), needs, &mut |id, row| {
            if filter.is_none_or(|filter| filter.matches(&row)) {
                kept.push((SortedBy::of(&row, run, sort), id));
                if let Some(limit) = limit
                    && kept.len() >= 2 * limit + 1024
                {
                    kept.sort_by(order);
                    kept.truncate(limit);
                }
            }
            Ok(())
        })?;
        kept.sort_by(order);
        kept.truncate(limit.unwrap_or(usize::MAX));
        kept.iter().map(|(_, id)| self.case_row(run, *id)).collect()
    }

    /// A case in every run that plans it, oldest run first.
    pub fn case_everywhere(&self, case_id: &CaseId) -> Result<Vec<CaseRow>, StoreError> {
        let _moment = self.moment()?;
        let planned: Vec<i64> = self
            .conn
            .prepare_cached(
                "SELECT planned.id FROM planned JOIN run ON run.number = planned.id >> ?2
                 WHERE case_id = ?1 AND spec IS NOT NULL ORDER BY started, planned.id",
            )
            .and_then(|mut find| {
                let shift = first_key(1).trailing_zeros();
                find.query_map(params![case_id.as_str(), shift], |row| row.get(0))?.collect()
            })
            .map_err(self.or())?;
        let mut rows = Vec::new();
        for id in planned {
            let run = self.run(run_of(id))?;
            self.scan(&run, (id, id), Needs::ALL, &mut |_, row| {
                rows.push(row);
                Ok(())
            })?;
        }
        Ok(rows)
    }

    /// A case's trials in a run, planned ones included; none where the run does not have it.
    pub fn trials_of_case(&self, run: &RunRow, case: &CaseId) -> Result<Vec<CaseRow>, StoreError> {
        let Some(seq) = self.find_case(run, case)? else { return Ok(Vec::new()) };
        let id = pack(run.number, TrialKey { seq, repeat: 0 })?;
        let mut rows = Vec::new();
        self.scan(run, (id, id), Needs::ALL, &mut |_, row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    /// One trial with everything.
    pub(super) fn case_row(&self, run: &RunRow, id: i64) -> Result<CaseRow, StoreError> {
        let mut found = None;
        self.scan(run, (id, id), Needs::ALL, &mut |at, row| {
            if at == id {
                found = Some(row);
            }
            Ok(())
        })?;
        found.ok_or_else(|| StoreError::damaged("a case", "it is gone"))
    }

    /// Hands over the trials of the cases whose keys lie in the range, planned ones without an outcome too.
    pub(super) fn scan(
        &self,
        run: &RunRow,
        range: (i64, i64),
        needs: Needs,
        take: &mut dyn FnMut(i64, CaseRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let or = self.or();
        let (from, to) = (case_of(range.0), pack_last(range.1));
        let content = if needs.content { "(SELECT body FROM content WHERE id = planned.content)" } else { "NULL" };
        let columns = if needs.columns { "columns" } else { "NULL" };
        let mut planned = self
            .conn
            .prepare_cached(&format!(
                "SELECT planned.id, case_id, expected, name, {columns}, {content} FROM planned
                 LEFT JOIN case_group ON case_group.id = planned.case_group
                 WHERE planned.id BETWEEN ?1 AND ?2 ORDER BY planned.id"
            ))
            .map_err(&or)?;
        let texts = if needs.texts { "texts" } else { "NULL" };
        let trace = if needs.trace {
            // A trace that retention removed keeps its id.
            "coalesce((SELECT trace_id FROM trace WHERE number = trial.trace),
                      (SELECT trace_id FROM pruned WHERE number = trial.trace))"
        } else {
            "NULL"
        };
        let mut trials = self
            .conn
            .prepare_cached(&format!(
                "SELECT id, outcome, latency_ns, input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_usd,
                        attempts, cached, started, span, {trace}, {texts}, trace FROM trial
                 WHERE id BETWEEN ?1 AND ?2 ORDER BY id"
            ))
            .map_err(&or)?;
        let mut scores = self
            .conn
            .prepare_cached(
                "SELECT trial, evaluator, state, value, label FROM score WHERE trial BETWEEN ?1 AND ?2
                 ORDER BY trial, evaluator",
            )
            .map_err(&or)?;
        let mut planned = planned.query([from, to]).map_err(&or)?;
        let mut trials = trials.query([from, to]).map_err(&or)?;
        // Without need for scores the range is empty.
        let mut scores = scores.query([from, if needs.scores { to } else { from - 1 }]).map_err(&or)?;
        let external = needs.scores && self.has_external()?;
        let mut trial = trials.next().map_err(&or)?;
        let mut score = scores.next().map_err(&or)?;
        while let Some(case) = planned.next().map_err(&or)? {
            let case_key: i64 = case.get(0).map_err(&or)?;
            let template = self.planned_row(run, case)?;
            for repeat in 0..run.spec.repeat {
                let key = TrialKey { seq: unpack(case_key).seq, repeat };
                let id = pack(run.number, key)?;
                let mut row = template.clone();
                row.key = key;
                while let Some(found) = trial {
                    let at: i64 = found.get(0).map_err(&or)?;
                    if at > id {
                        break;
                    }
                    if at == id {
                        let texts = fill(&mut row, found, self)?;
                        if external {
                            let place = || Ok((found.get(14)?, found.get(11)?));
                            let (trace, span) = place().map_err(&or)?;
                            row.external = self.external_on(trace, span)?;
                            row.external.retain(|name, _| !run.spec.evaluators.iter().any(|e| e.id.as_str() == name));
                        }
                        while let Some(found) = score {
                            let of: i64 = found.get(0).map_err(&or)?;
                            if of > id {
                                break;
                            }
                            if of == id {
                                add_score(&mut row, run, found, &texts).map_err(&or)?;
                            }
                            score = scores.next().map_err(&or)?;
                        }
                    }
                    trial = trials.next().map_err(&or)?;
                }
                take(id, row)?;
            }
        }
        Ok(())
    }

    fn planned_row(&self, run: &RunRow, row: &Row<'_>) -> Result<CaseRow, StoreError> {
        let or = self.or();
        let (mut claim, mut context) = (String::new(), String::new());
        if let Some(blob) = row.get_ref(5).and_then(|b| Ok(b.as_blob_or_null()?)).map_err(&or)? {
            (claim, context) = self.unpack("a case", blob, |content| {
                let (claim, context) = decode_content(content)?;
                Ok((claim.to_owned(), context.to_owned()))
            })?;
        }
        let columns = match row.get_ref(4).and_then(|b| Ok(b.as_blob_or_null()?)).map_err(&or)? {
            Some(blob) => self.unpack("the columns of a case", blob, |json| {
                serde_json::from_slice(json).map_err(|e| StoreError::damaged("the columns of a case", e))
            })?,
            None => Vec::new(),
        };
        let case_id: String = row.get(1).map_err(&or)?;
        Ok(CaseRow {
            run_id: run.spec.run_id.clone(),
            run_started_unix_nano: run.spec.started_unix_nano,
            key: TrialKey { seq: 0, repeat: 0 },
            case_id: CaseId::parse(case_id).map_err(|e| StoreError::damaged("a case", e))?,
            group: row.get(3).map_err(&or)?,
            claim,
            context,
            columns,
            expected: label_of(row.get(2).map_err(&or)?),
            outcome: None,
            raw_output: None,
            scores: BTreeMap::new(),
            external: BTreeMap::new(),
            started_unix_nano: 0,
            latency_ns: 0,
            usage: Usage::default(),
            cost_usd: None,
            attempts: 0,
            finish_reason: None,
            response_model: None,
            response_id: None,
            cached: false,
            trace_id: None,
            span_id: None,
        })
    }

    /// The texts of a trial's blob, where it was asked for.
    pub(super) fn texts(&self, blob: Option<&[u8]>) -> Result<Texts<'static>, StoreError> {
        match blob {
            None => Ok(Texts::default()),
            Some(blob) => self.unpack("the texts of a trial", blob, |json| {
                let texts: Texts<'_> =
                    serde_json::from_slice(json).map_err(|e| StoreError::damaged("the texts of a trial", e))?;
                Ok(texts.into_owned())
            }),
        }
    }
}

/// What a row that matches is sorted by.
pub(super) enum SortedBy {
    Field(FieldValue<'static>),
    Badness(Badness),
}

impl SortedBy {
    pub(super) fn of(row: &CaseRow, run: &RunRow, sort: Option<&SortKey>) -> Self {
        match sort {
            Some(sort) => Self::Field(owned(row.field(&sort.field))),
            None => Self::Badness(Badness::of(row, run)),
        }
    }

    /// The order of two rows under the key that both were made with.
    pub(super) fn compare(&self, other: &Self, sort: Option<&SortKey>) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => sort.map_or(Ordering::Equal, |sort| sort.compare_values(a, b)),
            (Self::Badness(a), Self::Badness(b)) => a.compare(b),
            _ => Ordering::Equal,
        }
    }
}

/// The last key of the case that a key belongs to.
const fn pack_last(id: i64) -> i64 {
    case_of(id) + (case_of(i64::MAX) ^ i64::MAX)
}

/// Adds what the trial's row holds; gives back its texts for the scores.
fn fill(row: &mut CaseRow, trial: &Row<'_>, reader: &Reader) -> Result<Texts<'static>, StoreError> {
    let or = reader.or();
    let blob = trial.get_ref(13).and_then(|b| Ok(b.as_blob_or_null()?)).map_err(&or)?;
    let texts = reader.texts(blob)?;
    let mut read = || {
        row.outcome = Some(outcome_of(trial.get(1)?, &texts));
        row.latency_ns = trial.get::<_, i64>(2)? as u64;
        row.usage = usage_of(trial, 3)?;
        row.cost_usd = trial.get(7)?;
        row.attempts = trial.get(8)?;
        row.cached = trial.get(9)?;
        row.started_unix_nano = trial.get::<_, i64>(10)? as u64;
        row.span_id = Some(span_id_of(trial.get(11)?));
        row.trace_id = trial.get_ref(12)?.as_blob_or_null()?.and_then(TraceId::from_slice);
        Ok(())
    };
    read().map_err(or)?;
    let text = |text: &Option<Cow<'static, str>>| text.as_deref().map(str::to_owned);
    row.raw_output = text(&texts.raw_output);
    row.finish_reason = text(&texts.finish_reason);
    row.response_model = text(&texts.response_model);
    row.response_id = text(&texts.response_id);
    Ok(texts)
}

fn add_score(row: &mut CaseRow, run: &RunRow, score: &Row<'_>, texts: &Texts<'_>) -> rusqlite::Result<()> {
    let evaluator = score.get::<_, i64>(1)? as usize;
    if let Some(spec) = run.spec.evaluators.get(evaluator) {
        let evaluation = evaluation_of(score.get(2)?, score.get(3)?, score.get(4)?, evaluator, texts);
        row.scores.insert(spec.id.clone(), evaluation);
    }
    Ok(())
}

pub(super) fn owned(value: FieldValue<'_>) -> FieldValue<'static> {
    match value {
        FieldValue::Missing => FieldValue::Missing,
        FieldValue::Text(text) => FieldValue::Text(Cow::Owned(text.into_owned())),
        FieldValue::Number(x) => FieldValue::Number(x),
        FieldValue::Bool(x) => FieldValue::Bool(x),
        FieldValue::Texts(texts) => {
            FieldValue::Texts(texts.into_iter().map(|text| Cow::Owned(text.into_owned())).collect())
        }
    }
}

impl Texts<'_> {
    fn into_owned(self) -> Texts<'static> {
        let own = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Texts {
            raw_output: own(self.raw_output),
            error_type: own(self.error_type),
            message: own(self.message),
            finish_reason: own(self.finish_reason),
            response_id: own(self.response_id),
            response_model: own(self.response_model),
            system_fingerprint: own(self.system_fingerprint),
            scores: self
                .scores
                .into_iter()
                .map(|score| ScoreText {
                    evaluator: score.evaluator,
                    error_type: own(score.error_type),
                    text: Cow::Owned(score.text.into_owned()),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Evaluation, Label, Outcome, Predicted, RunEvent};
    use crate::query::{Schema, parse, parse_sort};
    use crate::store::testing::{Scene, case_id, completed, failed, trial};

    /// Expected labels go True, False, NEE, True, …; every answer is True.
    async fn scene() -> Scene {
        let scene = Scene::started(8, 1).await;
        for seq in 0..3 {
            scene.record(trial(seq, 0, 0, completed(Predicted::Label(Label::True)))).await;
        }
        scene.record(trial(3, 0, 0, completed(Predicted::Unparseable))).await;
        scene.record(trial(4, 0, 0, failed())).await;
        scene.record(trial(5, 0, 0, Outcome::Skipped { reason: "budget".to_owned() })).await;
        // As the primary evaluator sees a case without an expected label.
        let mut unscored = trial(6, 0, 0, completed(Predicted::Label(Label::True)));
        if let RunEvent::TrialFinished { trial, .. } = &mut unscored {
            trial.scores[0].evaluation = Evaluation::skipped("there is no expected label");
        }
        scene.record(unscored).await;
        scene
    }

    fn numbers(rows: &[CaseRow]) -> Vec<u64> {
        rows.iter().map(|row| row.key.seq).collect()
    }

    #[tokio::test]
    async fn the_worst_come_first_and_what_has_no_score_is_not_low() {
        let scene = scene().await;
        let (reader, run) = (scene.reader(), scene.run());
        assert_eq!(numbers(&reader.lowest(&run, 9).expect("rows")), [4, 3, 1, 2, 0]);
        assert_eq!(numbers(&reader.lowest(&run, 3).expect("rows")), [4, 3, 1]);
        let all = [4, 3, 1, 2, 0, 6, 5, 7];
        for limit in [None, Some(8), Some(7), Some(2)] {
            let rows = reader.cases(&run, None, None, limit).expect("rows");
            assert_eq!(numbers(&rows), all[..limit.unwrap_or(8)], "{limit:?}");
        }
    }

    #[tokio::test]
    async fn queries_filter_and_sort() {
        let scene = scene().await;
        let (reader, run) = (scene.reader(), scene.run());
        let check = |query: &str, sort: &str, wanted: &[u64]| {
            let expr = parse(query, &Schema::cases()).expect(query);
            let sort = parse_sort(sort, &Schema::cases()).expect(sort);
            let rows = reader.cases(&run, Some(&expr), Some(&sort), Some(100)).expect("rows");
            assert_eq!(numbers(&rows), wanted, "{query} by {sort:?}");
        };
        check("score.label_match < 1", "case", &[1, 2, 3]);
        check("score.label_match", "-tokens", &[0]);
        check("label.valid_label = fail", "case", &[3]);
        check("error = 429", "case", &[4]);
        check("status = planned", "case", &[7]);
        check("status = skipped or status = failed", "-case", &[5, 4]);
        check("col.year > 2004", "-col.year", &[7, 6, 5]);
        check("text ~ \"claim 2 \"", "case", &[2]);
        check("group = group-1", "duration", &[2, 3]);
        check("expected = NEE and output = True", "case", &[2]);
        check("duration > 6ms", "latency", &[6]);
        check("finish = stop and attempts = 1 and not cached", "repeat", &[0, 1, 2, 3, 4, 5, 6]);
        check(&format!("trace = {}", crate::store::testing::trace_id(2)), "-case", &[6, 5, 4, 3, 2, 1, 0]);
    }

    #[tokio::test]
    async fn a_case_is_found_in_every_run() {
        let scene = scene().await;
        let second = crate::store::testing::spec("20260923-120000-00000b", 2, 1);
        crate::store::testing::plan(&scene.writer, &second).await;
        let rows = scene.reader().case_everywhere(&case_id(1)).expect("rows");
        let runs: Vec<_> = rows.iter().map(|row| (row.run_id.as_str(), row.outcome.is_some())).collect();
        assert_eq!(runs, [("20260922-120000-00000a", true), ("20260923-120000-00000b", false)]);
        assert_eq!(scene.reader().case_everywhere(&case_id(7)).expect("rows").len(), 1);
    }

    #[tokio::test]
    async fn recorded_answers_are_those_of_completed_trials() {
        let scene = scene().await;
        let (reader, run) = (scene.reader(), scene.run());
        let answers: Vec<_> = reader.recorded_answers(&run).collect::<Result<_, _>>().expect("answers");
        let seen: Vec<_> = answers.iter().map(|a| (a.case_id.as_str(), a.raw_output.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("case-0", "True."),
                ("case-1", "True."),
                ("case-2", "True."),
                ("case-3", "unparseable."),
                ("case-6", "True.")
            ]
        );
        assert_eq!(answers[1].usage.input_tokens, Some(101));
    }
}
