//! Sides made up for the tests of this module's parts.

use super::operand::Operand;
use super::side::{CaseRef, Cell, Output, Side, SideEvaluator, Trial};
use crate::model::{CaseId, Digest, Direction, EvaluatorId, EvaluatorKind, Label, RunId};

/// A side with these cases, by id and digest; each is expected to be True, answered so, and passes.
pub(crate) fn side(cases: &[(&str, u64)]) -> Side {
    let digest = Digest::from_bytes([7; 32]);
    Side {
        operand: Operand::default(),
        workflow: String::new(),
        dataset: digest,
        prompt: digest,
        model: digest,
        primary: EvaluatorId::parse("label_match").expect("an id"),
        evaluators: vec![SideEvaluator {
            id: EvaluatorId::parse("label_match").expect("an id"),
            version: "1".to_owned(),
            kind: EvaluatorKind::Assertion,
            direction: Direction::Higher,
            threshold: None,
            unit: "1".to_owned(),
            digest,
            cells: cases.iter().map(|_| Cell::Value(1.0)).collect(),
        }],
        runs: vec![(RunId::parse("run").expect("an id"), 1)],
        groups: Vec::new(),
        columns: Vec::new(),
        cases: cases
            .iter()
            .enumerate()
            .map(|(seq, (id, digest))| CaseRef {
                id: CaseId::parse(*id).expect("an id"),
                digest: *digest,
                seq: seq as u64,
                group: None,
                expected: Some(Label::True),
            })
            .collect(),
        trials: cases.iter().map(|_| Trial { output: Output::True, ..Trial::ABSENT }).collect(),
    }
}

/// So many cases without groups, of which these places are answered wrong.
pub(crate) fn answered(n: usize, wrong: impl Fn(usize) -> bool) -> Side {
    let ids: Vec<String> = (0..n).map(|at| format!("case-{at:04}")).collect();
    let cases: Vec<(&str, u64)> = ids.iter().enumerate().map(|(at, id)| (id.as_str(), at as u64)).collect();
    let mut side = side(&cases);
    for at in (0..n).filter(|at| wrong(*at)) {
        side.trials[at].output = Output::Nee;
        side.evaluators[0].cells[at] = Cell::Value(0.0);
    }
    side
}
