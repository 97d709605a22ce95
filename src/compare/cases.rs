//! What became of each case: worse, better, the same, lost; with what both sides said and where to look.

use std::collections::BTreeMap;
use std::ops::Range;

use super::comparison::{Better, CaseChange, CaseCounts, CaseSide, Cases, Unpaired, UnpairedCase, UnpairedCounts};
use super::pair::{Pairing, Unmatched};
use super::side::{Cell, Side};

/// What decides whether a case became better or worse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decider {
    /// Share of right answers.
    Accuracy,
    /// An evaluator, by its places in base and head.
    Evaluator {
        /// In the base.
        base: usize,
        /// In the head.
        head: usize,
        /// Which way is better.
        direction: Better,
    },
}

impl Decider {
    /// The head's primary evaluator where both sides have it, else the share of right answers.
    pub fn of(base: &Side, head: &Side) -> (Self, String) {
        let id = head.primary.as_str();
        match (base.evaluator(id), head.evaluator(id)) {
            (Some(in_base), Some(in_head)) => {
                let direction = head.evaluators[in_head].direction.into();
                (Self::Evaluator { base: in_base, head: in_head, direction }, id.to_owned())
            }
            _ => (Self::Accuracy, "accuracy".to_owned()),
        }
    }

    const fn direction(self) -> Better {
        match self {
            Self::Accuracy => Better::Higher,
            Self::Evaluator { direction, .. } => direction,
        }
    }

    /// What decides, of a case of a side; `is_head` says which side it is.
    pub fn value(self, side: &Side, case: usize, is_head: bool) -> Option<f64> {
        match self {
            Self::Accuracy => side.accuracy(case).get(),
            Self::Evaluator { base, head, .. } => side.score(if is_head { head } else { base }, case).get(),
        }
    }

    /// How bad a trial is; what has no value is worst.
    fn badness(self, side: &Side, case: usize, trial: usize, is_head: bool) -> f64 {
        let value = match self {
            Self::Accuracy => {
                let expected = side.cases[case].expected;
                let output = side.trials_of(case).get(trial).map(|t| t.output).filter(|output| output.is_answer());
                output.zip(expected).map(|(output, expected)| f64::from(u8::from(output.is(expected))))
            }
            Self::Evaluator { base, head, .. } => {
                match side.cells_of(if is_head { head } else { base }, case).get(trial) {
                    Some(Cell::Value(x)) => Some(*x),
                    _ => None,
                }
            }
        };
        match (value, self.direction()) {
            (Some(x), Better::Higher) => -x,
            (Some(x), Better::Lower) => x,
            (None, _) => f64::INFINITY,
        }
    }
}

/// What became of a case: the one definition, which documents, reports and pages share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fate {
    /// Scored in both, worse now by this much.
    Regressed(f64),
    /// Scored in both, better now by this much.
    Improved(f64),
    /// Scored in both, the same.
    Unchanged,
    /// Scored in the base and not in the head.
    Lost,
    /// Scored in the head and not in the base.
    Gained,
    /// Scored in neither.
    Unscored,
}

impl Fate {
    /// From the value of both sides.
    pub fn of(before: Option<f64>, after: Option<f64>, better: Better) -> Self {
        match (before, after) {
            (Some(then), Some(now)) => {
                let gain = if better == Better::Higher { now - then } else { then - now };
                if gain.abs() <= SAME * (1.0 + then.abs()) {
                    Self::Unchanged
                } else if gain > 0.0 {
                    Self::Improved(gain)
                } else {
                    Self::Regressed(-gain)
                }
            }
            (Some(_), None) => Self::Lost,
            (None, Some(_)) => Self::Gained,
            (None, None) => Self::Unscored,
        }
    }
}

/// Differences below this are rounding: means over repeats of the same values in another order.
const SAME: f64 = 1e-12;

/// What became of a pair: its places in base and head.
pub fn fate(decider: Decider, base: &Side, head: &Side, pair: (usize, usize)) -> Fate {
    Fate::of(decider.value(base, pair.0, false), decider.value(head, pair.1, true), decider.direction())
}

/// How many cases of each kind among the pairs at these places.
pub fn counts(
    decider: Decider,
    base: &Side,
    head: &Side,
    pairing: &Pairing,
    chosen: impl Iterator<Item = usize>,
) -> CaseCounts {
    let mut counts = CaseCounts::default();
    for place in chosen {
        let count = match fate(decider, base, head, pairing.pairs[place]) {
            Fate::Regressed(_) => &mut counts.regressed,
            Fate::Improved(_) => &mut counts.improved,
            Fate::Unchanged => &mut counts.unchanged,
            Fate::Lost => &mut counts.lost,
            Fate::Gained => &mut counts.gained,
            Fate::Unscored => &mut counts.unscored,
        };
        *count += 1;
    }
    counts
}

/// All pairs sorted into lists; of each list this part.
pub fn cases(base: &Side, head: &Side, pairing: &Pairing, part: Range<usize>) -> Cases {
    let (decider, by) = Decider::of(base, head);
    let (mut regressed, mut improved, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    for (place, pair) in pairing.pairs.iter().enumerate() {
        match fate(decider, base, head, *pair) {
            Fate::Regressed(by) => regressed.push((by, place)),
            Fate::Improved(by) => improved.push((by, place)),
            Fate::Lost => lost.push((0.0, place)),
            _ => {}
        }
    }
    let listed = |mut found: Vec<(f64, usize)>, base_bad: bool, head_bad: bool| {
        // The largest first; of equals by the head's order.
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        found.truncate(part.end);
        found.drain(..part.start.min(found.len()));
        let change = |(_, place): (f64, usize)| {
            let (in_base, in_head) = pairing.pairs[place];
            let (then, now) = (decider.value(base, in_base, false), decider.value(head, in_head, true));
            CaseChange {
                case_id: head.cases[in_head].id.to_string(),
                group: head.group_of(in_head).or_else(|| base.group_of(in_base)).map(str::to_owned),
                expected: head.cases[in_head].expected.map(|label| label.to_string()),
                claim: None,
                delta: then.zip(now).map(|(then, now)| now - then),
                base: case_side(base, in_base, decider, false, base_bad),
                head: case_side(head, in_head, decider, true, head_bad),
            }
        };
        found.into_iter().map(change).collect::<Vec<_>>()
    };
    let counts = counts(decider, base, head, pairing, 0..pairing.pairs.len());
    Cases {
        by,
        counts,
        // Of several trials those that show the change.
        regressed: listed(regressed, false, true),
        improved: listed(improved, true, false),
        lost: listed(lost, false, true),
    }
}

/// The cases of both sides without a partner; of each list this part.
pub fn unpaired(base: &Side, head: &Side, pairing: &Pairing, part: Range<usize>) -> Unpaired {
    let listed = |side: &Side, cases: &[Unmatched]| {
        let part = cases.iter().skip(part.start).take(part.len());
        part.map(|found| UnpairedCase {
            case_id: side.cases[found.case].id.to_string(),
            reason: if found.other_content { "other text or label" } else { "only here" }.to_owned(),
            side: case_side(side, found.case, Decider::Accuracy, true, true),
        })
        .collect()
    };
    Unpaired {
        base: listed(base, &pairing.base_only),
        head: listed(head, &pairing.head_only),
        counts: UnpairedCounts { base: pairing.base_only.len() as u64, head: pairing.head_only.len() as u64 },
    }
}

/// What a side said of a case; the trial that stands for it is the worst or the best.
pub fn case_side(side: &Side, case: usize, decider: Decider, is_head: bool, worst: bool) -> CaseSide {
    let trials = side.trials_of(case);
    let mut scores = BTreeMap::new();
    for (place, evaluator) in side.evaluators.iter().enumerate() {
        scores.insert(evaluator.id.to_string(), side.score(place, case).get());
    }
    let bad = |trial: usize| decider.badness(side, case, trial, is_head);
    // A trial that has a trace is worth more than one that has none.
    let shown = (0..trials.len()).filter(|trial| trials[*trial].trace_id.is_some()).reduce(|a, b| {
        let better = if worst { bad(b) > bad(a) } else { bad(b) < bad(a) };
        if better { b } else { a }
    });
    CaseSide {
        outputs: trials.iter().map(|trial| trial.output.as_str().to_owned()).collect(),
        scores,
        latency_ms: side.mean_of(case, |trial| trial.latency_ms).get(),
        run_id: shown.and_then(|trial| side.run_of(trial)).cloned(),
        trace_id: shown.and_then(|trial| trials[trial].trace_id),
        span_id: shown.and_then(|trial| trials[trial].span_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::pair::pair;
    use crate::compare::testing::{answered, side};

    #[test]
    fn counts_are_those_of_all_cases_whatever_the_lists_hold() {
        let (base, head) = (answered(9, |_| false), answered(9, |at| at < 5));
        let found = cases(&base, &head, &pair(&base, &head), 0..2);
        assert_eq!((found.counts.regressed, found.regressed.len()), (5, 2));
        let next = cases(&base, &head, &pair(&base, &head), 2..4);
        assert_eq!([&next.regressed[0].case_id, &next.regressed[1].case_id], ["case-0002", "case-0003"]);
        assert!(cases(&base, &head, &pair(&base, &head), 8..9).regressed.is_empty());
        let (base, head) = (answered(9, |_| false), side(&[("case-0000", 0), ("new", 77)]));
        let found = unpaired(&base, &head, &pair(&base, &head), 0..3);
        assert_eq!((found.counts, found.base.len()), (UnpairedCounts { base: 8, head: 1 }, 3));
        let last = unpaired(&base, &head, &pair(&base, &head), 6..9);
        assert_eq!((last.base.len(), last.head.len()), (2, 0));
    }

    #[test]
    fn rounding_is_no_change() {
        let mean = |values: [f64; 3]| Some(values.iter().sum::<f64>() / 3.0);
        let (then, now) = (mean([0.1, 0.2, 0.3]), mean([0.3, 0.2, 0.1]));
        assert_ne!(then, now, "the order of a sum shows");
        assert_eq!(Fate::of(then, now, Better::Higher), Fate::Unchanged);
        assert_eq!(Fate::of(Some(1.0), Some(0.5), Better::Higher), Fate::Regressed(0.5));
        assert_eq!(Fate::of(Some(1.0), Some(0.5), Better::Lower), Fate::Improved(0.5));
    }
}
