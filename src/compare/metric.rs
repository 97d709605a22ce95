//! What is compared: which metrics two sides have, and the pairs of numbers behind each.

use super::comparison::Better;
use super::differences::is_same;
use super::pair::Pairing;
use super::side::{CaseValue, Cell, Output, Side, Tally};
use crate::model::EvaluatorKind;
use crate::stats::paired::{Direction, Measure, PairedLabels, PairedValue, Statistic};

/// The metrics that every comparison has, whatever its evaluators.
pub const FIXED: [&str; 9] = [
    "accuracy",
    "macro_f1",
    "mcc",
    "kappa",
    "latency_p50_ms",
    "latency_p95_ms",
    "input_tokens",
    "output_tokens",
    "cost_usd",
];

/// A metric of two sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Which way is better.
    pub direction: Better,
    /// Its unit.
    pub unit: String,
    /// The range of its values, where it is bounded.
    pub range: Option<[f64; 2]>,
    /// Why its scores may not be held against each other; `None` where they may.
    pub refused: Option<String>,
    of: Of,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Of {
    #[default]
    Accuracy,
    Agreement(Statistic),
    /// Places of the evaluator in base and head.
    Score(usize, usize),
    Latency(f64),
    Tokens(usize),
    Cost,
}

/// The numbers behind a metric.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Numbers {
    values: Vec<PairedValue>,
    labels: Vec<PairedLabels>,
    of: Of,
    range: Option<[f64; 2]>,
    /// Pairs with a value on one side only, or on neither where there should be one.
    pub missing: u64,
    /// Pairs with a value on both sides of which some trial has none.
    pub partly_missing: u64,
    /// What the trials of the pairs gave, in the base and in the head.
    pub trials: [Tally; 2],
    /// What the missing values would add to the sum of the differences at worst and at best; of bounded metrics.
    extremes: [f64; 2],
}

/// The metrics of two sides: agreement, the evaluators that both have, then latency, tokens and cost.
pub fn definitions(base: &Side, head: &Side, allow: &[String]) -> Vec<Definition> {
    let share = |name: &str, of| Definition {
        name: name.to_owned(),
        direction: Better::Higher,
        unit: "1".to_owned(),
        range: Some([0.0, 1.0]),
        refused: None,
        of,
    };
    let cost = |name: &str, unit: &str, of| Definition {
        name: name.to_owned(),
        direction: Better::Lower,
        unit: unit.to_owned(),
        range: None,
        refused: None,
        of,
    };
    let mut found = vec![
        share("accuracy", Of::Accuracy),
        share("macro_f1", Of::Agreement(Statistic::MacroF1)),
        share("mcc", Of::Agreement(Statistic::Mcc)),
        share("kappa", Of::Agreement(Statistic::Kappa)),
    ];
    for (in_head, evaluator) in head.evaluators.iter().enumerate() {
        let id = evaluator.id.as_str();
        let Some(in_base) = base.evaluator(id) else { continue };
        let then = &base.evaluators[in_base];
        let allowed = allow.iter().any(|name| name == id || name == "evaluator");
        let refused = (!is_same(then, evaluator) && !allowed)
            .then(|| format!("{id} is version {} in the base and {} in the head", then.version, evaluator.version));
        found.push(Definition {
            name: score_name(id),
            direction: evaluator.direction.into(),
            unit: evaluator.unit.clone(),
            range: is_share(base, in_base, head, in_head).then_some([0.0, 1.0]),
            refused,
            of: Of::Score(in_base, in_head),
        });
    }
    found.extend([
        cost("latency_p50_ms", "ms", Of::Latency(0.5)),
        cost("latency_p95_ms", "ms", Of::Latency(0.95)),
        cost("input_tokens", "{token}", Of::Tokens(0)),
        cost("output_tokens", "{token}", Of::Tokens(1)),
        cost("cost_usd", "USD", Of::Cost),
    ]);
    found
}

/// Whether an evaluator's numbers are rights and wrongs: an assertion's, and those of labels where each stands for 0 or 1.
fn is_share(base: &Side, in_base: usize, head: &Side, in_head: usize) -> bool {
    let (then, now) = (&base.evaluators[in_base], &head.evaluators[in_head]);
    let whole = |cell: &Cell| !matches!(cell, Cell::Value(x) if *x != 0.0 && *x != 1.0);
    match now.kind {
        EvaluatorKind::Assertion => true,
        EvaluatorKind::Label => then.cells.iter().chain(&now.cells).all(whole),
        EvaluatorKind::Number => false,
    }
}

/// What the metric of an evaluator is called: its id, with a prefix where that name is taken.
pub fn score_name(id: &str) -> String {
    if FIXED.contains(&id) { format!("score.{id}") } else { id.to_owned() }
}

/// The definition of that name; `score.ID` always means the evaluator.
pub fn find<'d>(definitions: &'d [Definition], name: &str) -> Option<&'d Definition> {
    let exact = definitions.iter().find(|definition| definition.name == name);
    exact.or_else(|| {
        let id = name.strip_prefix("score.")?;
        definitions.iter().find(|definition| definition.name == id && matches!(definition.of, Of::Score(..)))
    })
}

impl Definition {
    /// Which way is better, in the words of `stats`.
    pub const fn better(&self) -> Direction {
        match self.direction {
            Better::Higher => Direction::HigherIsBetter,
            Better::Lower => Direction::LowerIsBetter,
        }
    }

    /// Whether it is a plain mean of right and wrong, cheap to compare over many parts.
    pub const fn is_accuracy(&self) -> bool {
        matches!(self.of, Of::Accuracy)
    }

    /// Whether it is a mean over cases.
    pub const fn is_mean(&self) -> bool {
        !matches!(self.of, Of::Agreement(_) | Of::Latency(_))
    }

    /// Whether it is a quantile of the latency.
    pub const fn is_latency(&self) -> bool {
        matches!(self.of, Of::Latency(_))
    }

    /// Whether it is the evaluator of this id.
    pub fn is_score_of(&self, head: &Side, id: &str) -> bool {
        matches!(self.of, Of::Score(_, at) if head.evaluators.get(at).is_some_and(|e| e.id.as_str() == id))
    }

    /// The numbers of the pairs at these places.
    pub fn numbers(&self, base: &Side, head: &Side, pairing: &Pairing, chosen: impl Iterator<Item = usize>) -> Numbers {
        let mut numbers = Numbers { of: self.of, range: self.range, ..Numbers::default() };
        for place in chosen {
            let (in_base, in_head) = pairing.pairs[place];
            let cluster = pairing.clusters[place];
            let (then, now) = (self.tally(base, in_base, false), self.tally(head, in_head, true));
            if let Of::Agreement(_) = self.of {
                numbers.add_labels(base, head, in_base, in_head, cluster);
            } else {
                numbers.add_value(then, now, cluster, self.direction);
            }
            let whole = |tally: Tally| tally.missing == 0 || tally.found == 0;
            numbers.partly_missing += u64::from(then.found > 0 && now.found > 0 && !(whole(then) && whole(now)));
            numbers.trials = [numbers.trials[0].plus(then), numbers.trials[1].plus(now)];
        }
        numbers
    }

    fn tally(&self, side: &Side, case: usize, is_head: bool) -> Tally {
        match self.of {
            Of::Accuracy | Of::Agreement(_) => side.right(case),
            Of::Score(in_base, in_head) => side.scores(if is_head { in_head } else { in_base }, case),
            Of::Latency(_) => side.known(case, |trial| trial.latency_ms),
            Of::Tokens(which) => side.known(case, |trial| trial.tokens[which].map(|n| n as f64)),
            Of::Cost => side.known(case, |trial| trial.cost_usd),
        }
    }
}

impl Numbers {
    /// How many pairs have a number on both sides.
    pub fn len(&self) -> usize {
        self.values.len() + self.labels.len()
    }

    /// Whether there is nothing to compare.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As `stats` takes them.
    pub fn measure(&self) -> Measure<'_> {
        match self.of {
            Of::Agreement(statistic) => Measure::Agreement { pairs: &self.labels, statistic },
            Of::Latency(p) => Measure::Quantile { pairs: &self.values, p },
            _ => Measure::Mean { pairs: &self.values, range: self.range },
        }
    }

    /// The difference with every missing value as bad for the head as can be, and as good; `None` of what is no mean of
    /// bounded values.
    pub fn bounds(&self) -> Option<[f64; 2]> {
        if self.range.is_none() || matches!(self.of, Of::Agreement(_)) {
            return None;
        }
        let n = self.values.len() as f64 + self.missing as f64;
        let known: f64 = self.values.iter().map(|pair| pair.head - pair.base).sum();
        (n > 0.0).then(|| self.extremes.map(|extra| (known + extra) / n))
    }

    fn add_value(&mut self, then: Tally, now: Tally, cluster: u32, direction: Better) {
        let known = match (then.value(), now.value()) {
            (CaseValue::Value(base), CaseValue::Value(head)) => {
                self.values.push(PairedValue { base, head, cluster });
                head - base
            }
            (CaseValue::NotApplicable, CaseValue::NotApplicable) => return,
            _ => {
                self.missing += 1;
                0.0
            }
        };
        let complete = |tally: Tally| tally.missing == 0 && tally.found > 0;
        if let (Some([low, high]), false) = (self.range, complete(then) && complete(now)) {
            let (bad, good) = if direction == Better::Higher { (low, high) } else { (high, low) };
            // Where one side has nothing to have a number for, the other's value stands against the extreme.
            let at = |tally: Tally, x: f64| tally.filled(x).unwrap_or(x);
            self.extremes[0] += at(now, bad) - at(then, good) - known;
            self.extremes[1] += at(now, good) - at(then, bad) - known;
        }
    }

    fn add_labels(&mut self, base: &Side, head: &Side, in_base: usize, in_head: usize, cluster: u32) {
        let Some(expected) = head.cases[in_head].expected else { return };
        match (shares(base, in_base), shares(head, in_head)) {
            (Some(base), Some(head)) => {
                self.labels.push(PairedLabels { expected: expected.index() as u8, base, head, cluster });
            }
            _ => self.missing += 1,
        }
    }
}

/// Share of a case's answers per label, and unparseable; `None` without an answer.
fn shares(side: &Side, case: usize) -> Option<[f32; 4]> {
    let mut counts = [0.0f32; 4];
    for trial in side.trials_of(case).iter().filter(|trial| trial.output.is_answer()) {
        counts[trial.output as usize] += 1.0;
    }
    let n: f32 = counts.iter().sum();
    (n > 0.0).then(|| counts.map(|count| count / n))
}

/// The most frequent output of a case, with everything that is no answer taken together; the earliest of equals.
pub fn mode(side: &Side, case: usize) -> usize {
    let mut counts = [0u32; 5];
    let trials = side.trials_of(case);
    let class = |output: Output| (output as usize).min(Output::Failed as usize);
    for trial in trials {
        counts[class(trial.output)] += 1;
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    trials.iter().map(|trial| class(trial.output)).find(|class| counts[*class] == most).unwrap_or(4)
}
