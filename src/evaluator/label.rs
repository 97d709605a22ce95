//! Evaluators of the predicted class: `label_match`, `valid_label`, `abstention`.

use super::Subject;
use crate::model::{Evaluation, Finite, Label, Outcome, Predicted};

/// Whether the parsed answer is the expected label.
pub fn label_match(subject: Subject<'_>) -> Evaluation {
    let Some(predicted) = predicted(subject) else { return no_answer() };
    let Some(expected) = subject.case.expected else { return no_label() };
    Evaluation::assertion(predicted == Predicted::Label(expected))
        .because(format!("expected {expected}, answered {predicted}"))
}

/// Whether the answer is a label at all.
pub fn valid_label(subject: Subject<'_>) -> Evaluation {
    let Some(predicted) = predicted(subject) else { return no_answer() };
    Evaluation::assertion(predicted.label().is_some())
}

/// Whether NEE was said where it should be: `appropriate` (1.0), `over_use` or `under_use` (0.0).
pub fn abstention(subject: Subject<'_>) -> Evaluation {
    let Some(predicted) = predicted(subject) else { return no_answer() };
    let Some(expected) = subject.case.expected else { return no_label() };
    match (expected, predicted) {
        (_, Predicted::Unparseable) => Evaluation::skipped("the answer is no label"),
        (Label::Nee, Predicted::Label(Label::True | Label::False)) => {
            Evaluation::category("under_use", Some(Finite::ZERO))
        }
        (Label::True | Label::False, Predicted::Label(Label::Nee)) => {
            Evaluation::category("over_use", Some(Finite::ZERO))
        }
        _ => Evaluation::category("appropriate", Some(Finite::ONE)),
    }
}

fn predicted(subject: Subject<'_>) -> Option<Predicted> {
    match subject.assessment.outcome {
        Outcome::Completed { predicted } => Some(predicted),
        Outcome::Failed(_) | Outcome::Skipped { .. } => None,
    }
}

pub(super) fn no_answer() -> Evaluation {
    Evaluation::skipped("the model gave no answer")
}

fn no_label() -> Evaluation {
    Evaluation::skipped("the case has no expected label")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluator::registry::tests::subject_parts;

    fn labels(expected: Option<Label>, predicted: Predicted) -> [Option<String>; 3] {
        let (case, assessment) = subject_parts(expected, Outcome::Completed { predicted });
        let subject = Subject { case: &case, assessment: &assessment };
        [label_match(subject), valid_label(subject), abstention(subject)].map(|e| e.label().map(str::to_owned))
    }

    fn check(expected: Option<Label>, predicted: Predicted, want: [Option<&str>; 3]) {
        assert_eq!(labels(expected, predicted), want.map(|w| w.map(str::to_owned)), "{expected:?} {predicted:?}");
    }

    #[test]
    fn every_pair_of_expected_and_predicted() {
        use Label::{False, Nee, True};
        let label = Predicted::Label;
        check(Some(True), label(True), [Some("pass"), Some("pass"), Some("appropriate")]);
        check(Some(True), label(False), [Some("fail"), Some("pass"), Some("appropriate")]);
        check(Some(False), label(Nee), [Some("fail"), Some("pass"), Some("over_use")]);
        check(Some(Nee), label(True), [Some("fail"), Some("pass"), Some("under_use")]);
        check(Some(Nee), label(Nee), [Some("pass"), Some("pass"), Some("appropriate")]);
        check(Some(Nee), Predicted::Unparseable, [Some("fail"), Some("fail"), None]);
        check(None, label(True), [None, Some("pass"), None]);
    }
}
