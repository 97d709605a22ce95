//! What a query sees of a trial.

use std::borrow::Cow;

use super::rows::CaseRow;
use crate::model::{Evaluation, Label, Outcome, Predicted};
use crate::query::{Field, FieldValue, Record};

impl Record for CaseRow {
    fn field(&self, field: &Field) -> FieldValue<'_> {
        let recorded = |value: f64| FieldValue::maybe_number(self.outcome.is_some().then_some(value));
        let score = |name: &str| {
            let own = self.scores.iter().find(|(id, _)| id.as_str() == name).map(|(_, evaluation)| evaluation);
            own.or_else(|| self.external.get(name))
        };
        match field {
            Field::Score(id) => FieldValue::maybe_number(score(id).and_then(Evaluation::value)),
            Field::Label(id) => FieldValue::maybe_text(score(id).and_then(Evaluation::label)),
            Field::Column(name) => FieldValue::maybe_text(
                self.columns.iter().find(|(column, _)| column == name).map(|(_, value)| value.as_str()),
            ),
            Field::Expected => FieldValue::maybe_text(self.expected.map(Label::as_str)),
            Field::Output => {
                FieldValue::maybe_text(self.outcome.as_ref().and_then(Outcome::predicted).map(Predicted::as_str))
            }
            Field::Status => FieldValue::text(self.outcome.as_ref().map_or("planned", Outcome::status)),
            Field::Error => match &self.outcome {
                Some(Outcome::Failed(failure)) => FieldValue::text(&failure.error_type),
                _ => FieldValue::Missing,
            },
            Field::Group => FieldValue::maybe_text(self.group.as_deref()),
            Field::Case => FieldValue::text(self.case_id.as_str()),
            Field::Repeat => FieldValue::Number(f64::from(self.key.repeat)),
            Field::Attempts => recorded(f64::from(self.attempts)),
            Field::Duration => recorded(self.latency_ns as f64 / 1e9),
            Field::Tokens => match (self.usage.input_tokens, self.usage.output_tokens) {
                (None, None) => FieldValue::Missing,
                (input, output) => FieldValue::Number((input.unwrap_or(0) + output.unwrap_or(0)) as f64),
            },
            Field::Cost => FieldValue::maybe_number(self.cost_usd),
            Field::Cached => match self.outcome {
                Some(_) => FieldValue::Bool(self.cached),
                None => FieldValue::Missing,
            },
            Field::Finish => FieldValue::maybe_text(self.finish_reason.as_deref()),
            Field::Text => FieldValue::Texts(
                [Some(self.claim.as_str()), Some(&self.context), self.raw_output.as_deref()]
                    .into_iter()
                    .flatten()
                    .map(Cow::Borrowed)
                    .collect(),
            ),
            Field::Claim => FieldValue::text(&self.claim),
            Field::Context => FieldValue::text(&self.context),
            Field::Trace => {
                self.trace_id.map_or(FieldValue::Missing, |id| FieldValue::Text(Cow::Owned(id.to_string())))
            }
            Field::Run => FieldValue::text(self.run_id.as_str()),
            Field::Start => recorded(self.started_unix_nano as f64 / 1e9),
            Field::Attribute(_) | Field::Errors | Field::Operations | Field::Root | Field::Service => {
                FieldValue::Missing
            }
        }
    }
}
