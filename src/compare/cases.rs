//! What became of each case: worse, better, the same, lost; with what both sides said and where to look.

use std::collections::BTreeMap;

use super::comparison::{Better, CaseChange, CaseCounts, CaseSide, Cases, UnpairedCase};
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

    fn value(self, side: &Side, case: usize, is_head: bool) -> Option<f64> {
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

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Regressed(f64),
    Improved(f64),
    Unchanged,
    Lost,
    Gained,
    Unscored,
}

/// Differences below this are rounding: means over repeats of the same values in another order.
const SAME: f64 = 1e-12;

fn fate(decider: Decider, base: &Side, head: &Side, pair: (usize, usize)) -> Fate {
    match (decider.value(base, pair.0, false), decider.value(head, pair.1, true)) {
        (Some(then), Some(now)) => {
            let gain = if decider.direction() == Better::Higher { now - then } else { then - now };
            if gain.abs() <= SAME * (1.0 + then.abs()) {
                Fate::Unchanged
            } else if gain > 0.0 {
                Fate::Improved(gain)
            } else {
                Fate::Regressed(-gain)
            }
        }
        (Some(_), None) => Fate::Lost,
        (None, Some(_)) => Fate::Gained,
        (None, None) => Fate::Unscored,
    }
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

/// All pairs sorted into lists of at most `limit` cases each.
pub fn cases(base: &Side, head: &Side, pairing: &Pairing, limit: usize) -> Cases {
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
        found.truncate(limit);
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

/// The cases of a side without a partner, at most `limit` of them.
pub fn unpaired(side: &Side, cases: &[Unmatched], limit: usize) -> Vec<UnpairedCase> {
    cases
        .iter()
        .take(limit)
        .map(|found| UnpairedCase {
            case_id: side.cases[found.case].id.to_string(),
            reason: if found.other_content { "other text or label" } else { "only here" }.to_owned(),
            side: case_side(side, found.case, Decider::Accuracy, true, true),
        })
        .collect()
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
