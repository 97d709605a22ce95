//! Reading recorded answers, for running other evaluators over them.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::error::StoreError;
use super::reader::{Reader, usage_of};
use super::rows::RunRow;
use super::schema::{case_of, first_key, last_key, unpack};
use crate::model::{CaseId, Usage};

/// A model's answer as recorded, for running other evaluators over it.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedAnswer {
    /// The case's id.
    pub case_id: CaseId,
    /// The repeat.
    pub repeat: u32,
    /// The answer as it came.
    pub raw_output: String,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// The endpoint's id of the answer.
    pub response_id: Option<String>,
    /// The model that answered.
    pub response_model: Option<String>,
    /// Its fingerprint.
    pub system_fingerprint: Option<String>,
    /// Tokens used.
    pub usage: Usage,
}

impl Reader {
    /// The answers of a run's completed trials, by case and repeat.
    pub fn recorded_answers(&self, run: &RunRow) -> RecordedAnswers<'_> {
        let number = run.number;
        RecordedAnswers { reader: self, next: first_key(number), last: last_key(number), read: VecDeque::new() }
    }
}

/// See [`Reader::recorded_answers`].
pub struct RecordedAnswers<'r> {
    reader: &'r Reader,
    next: i64,
    last: i64,
    read: VecDeque<RecordedAnswer>,
}

impl RecordedAnswers<'_> {
    /// Reads some hundred more.
    fn read_on(&mut self) -> Result<(), StoreError> {
        let or = self.reader.or();
        let mut find = self
            .reader
            .conn
            .prepare_cached(
                "SELECT trial.id, texts, case_id, input_tokens, output_tokens, cached_tokens, reasoning_tokens
                 FROM trial JOIN planned ON planned.id = trial.id & ?3
                 WHERE trial.id BETWEEN ?1 AND ?2 AND outcome < 4 ORDER BY trial.id LIMIT 256",
            )
            .map_err(&or)?;
        let mut rows = find.query([self.next, self.last, case_of(i64::MAX)]).map_err(&or)?;
        self.next = self.last + 1;
        while let Some(row) = rows.next().map_err(&or)? {
            let id: i64 = row.get(0).map_err(&or)?;
            self.next = id + 1;
            let blob = row.get_ref(1).and_then(|b| Ok(b.as_blob()?)).map_err(&or)?;
            let texts = self.reader.texts(Some(blob))?;
            let text = |text: Option<Cow<'static, str>>| text.map(Cow::into_owned);
            let Some(raw_output) = text(texts.raw_output) else { continue };
            let case_id: String = row.get(2).map_err(&or)?;
            self.read.push_back(RecordedAnswer {
                case_id: CaseId::parse(case_id).map_err(|e| StoreError::damaged("a case", e))?,
                repeat: unpack(id).repeat,
                raw_output,
                finish_reason: text(texts.finish_reason),
                response_id: text(texts.response_id),
                response_model: text(texts.response_model),
                system_fingerprint: text(texts.system_fingerprint),
                usage: usage_of(row, 3).map_err(&or)?,
            });
        }
        Ok(())
    }
}

impl Iterator for RecordedAnswers<'_> {
    type Item = Result<RecordedAnswer, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.read.is_empty() && self.next <= self.last {
            if let Err(error) = self.read_on() {
                self.next = self.last + 1;
                return Some(Err(error));
            }
        }
        self.read.pop_front().map(Ok)
    }
}
