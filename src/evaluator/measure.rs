//! Evaluators of what a call took: `latency`, `tokens`, `cost`.

use super::Subject;
use super::label::no_answer;
use crate::model::{Evaluation, Outcome};

/// Wall time of the model call with its retries, in milliseconds.
pub fn latency(subject: Subject<'_>) -> Evaluation {
    answered(subject, || Evaluation::number(subject.assessment.latency_ns as f64 / 1e6))
}

/// Input and output tokens together.
pub fn tokens(subject: Subject<'_>) -> Evaluation {
    let usage = subject.assessment.usage;
    answered(subject, || match (usage.input_tokens, usage.output_tokens) {
        (None, None) => Evaluation::skipped("the endpoint did not count tokens"),
        (input, output) => Evaluation::number((input.unwrap_or(0) + output.unwrap_or(0)) as f64),
    })
}

/// Price of the tokens, in US dollars.
pub fn cost(subject: Subject<'_>) -> Evaluation {
    answered(subject, || match subject.assessment.cost_usd {
        Some(usd) => Evaluation::number(usd),
        None => Evaluation::skipped("the price of the model or its usage is unknown"),
    })
}

fn answered(subject: Subject<'_>, measure: impl FnOnce() -> Evaluation) -> Evaluation {
    match subject.assessment.outcome {
        Outcome::Completed { .. } => measure(),
        Outcome::Failed(_) | Outcome::Skipped { .. } => no_answer(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluator::registry::tests::subject_parts;
    use crate::model::{Failure, Label, Predicted};

    #[test]
    fn what_is_unknown_is_skipped_and_never_zero() {
        let (case, mut assessment) =
            subject_parts(None, Outcome::Completed { predicted: Predicted::Label(Label::True) });
        assessment.latency_ns = 2_500_000;
        let subject = Subject { case: &case, assessment: &assessment };
        assert_eq!(latency(subject).value(), Some(2.5));
        assert_eq!(tokens(subject).state(), "skipped");
        assert_eq!(cost(subject).state(), "skipped");
        let mut counted = assessment.clone();
        counted.usage.input_tokens = Some(10);
        assert_eq!(tokens(Subject { case: &case, assessment: &counted }).value(), Some(10.0));
    }

    #[test]
    fn a_failed_trial_has_no_latency() {
        let failure = Failure { error_type: "500".to_owned(), message: String::new() };
        let (case, assessment) = subject_parts(None, Outcome::Failed(failure));
        assert_eq!(latency(Subject { case: &case, assessment: &assessment }).state(), "skipped");
    }
}
