//! Which scores are low: what the pages mark and where "next low score" stops.

use std::collections::BTreeMap;

use crate::model::{Direction, Evaluation, EvaluatorKind, EvaluatorSpec};

/// Below this a score between 0 and 1 of which nothing else is known counts as low.
const MIDDLE: f64 = 0.5;

/// What a run says of its evaluators, by which their scores are judged.
#[derive(Debug, Clone, Default)]
pub struct Yardstick(BTreeMap<String, Line>);

#[derive(Debug, Clone, Copy)]
enum Line {
    /// An assertion: everything short of 1 is low.
    All,
    /// A number that passes at or beyond this, in this direction.
    At(f64, Direction),
    /// A number without a line that it should reach.
    None,
}

impl Yardstick {
    /// By a run's evaluators; scores of others are judged by themselves.
    pub fn of(evaluators: &[EvaluatorSpec]) -> Self {
        let line = |spec: &EvaluatorSpec| match (spec.kind, spec.threshold) {
            (EvaluatorKind::Assertion, _) => Line::All,
            (_, Some(threshold)) => Line::At(threshold, spec.direction),
            (_, None) => Line::None,
        };
        Self(evaluators.iter().map(|spec| (spec.id.to_string(), line(spec))).collect())
    }

    /// Whether it is known what a score of this name should reach.
    pub fn has_line(&self, name: &str) -> bool {
        !matches!(self.0.get(name), None | Some(Line::None))
    }

    /// Whether a score is low. What is not scored is not low: it is told apart by its state.
    pub fn is_low(&self, name: &str, evaluation: &Evaluation) -> bool {
        match (self.0.get(name), evaluation.value()) {
            (Some(_), Some(value)) => self.is_low_mean(name, value),
            (Some(_), None) => false,
            (None, value) => match evaluation.label().map(str::to_ascii_lowercase).as_deref() {
                Some("fail" | "failed" | "false" | "incorrect" | "no") => true,
                Some("pass" | "passed" | "true" | "correct" | "yes") => false,
                _ => value.is_some_and(|value| (0.0..MIDDLE).contains(&value)),
            },
        }
    }

    /// Whether the mean of a trace's scores of this name is low.
    pub fn is_low_mean(&self, name: &str, mean: f64) -> bool {
        match self.0.get(name) {
            Some(Line::All) => mean < 1.0,
            Some(Line::At(line, Direction::Higher)) => mean < *line,
            Some(Line::At(line, Direction::Lower)) => mean > *line,
            Some(Line::None) => false,
            None => (0.0..MIDDLE).contains(&mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Finite;
    use crate::report::fixture;

    #[test]
    fn a_run_says_what_is_low_and_other_scores_say_it_themselves() {
        let mut evaluators = fixture::run().spec.evaluators;
        evaluators[1].kind = EvaluatorKind::Number;
        evaluators[1].threshold = Some(200.0);
        evaluators[1].direction = Direction::Lower;
        let yardstick = Yardstick::of(&evaluators);
        let number = Evaluation::number;
        for (name, evaluation, low) in [
            ("label_match", Evaluation::assertion(false), true),
            ("label_match", Evaluation::assertion(true), false),
            ("label_match", Evaluation::skipped("no answer"), false),
            ("tone", number(250.0), true),
            ("tone", number(150.0), false),
            ("Relevance", number(0.2), true),
            ("Relevance", number(0.8), false),
            ("Length", number(-3.0), false),
            ("Grounded", Evaluation::category("Fail", Finite::new(0.9)), true),
            ("Grounded", Evaluation::category("pass", Finite::new(0.1)), false),
            ("Grounded", Evaluation::category("blue", None), false),
        ] {
            assert_eq!(yardstick.is_low(name, &evaluation), low, "{name} {evaluation:?}");
        }
        assert!(yardstick.is_low_mean("label_match", 0.99) && !yardstick.is_low_mean("label_match", 1.0));
    }
}
