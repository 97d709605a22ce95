//! How often a gate would be wrong on this very data: `gate --self-check`.
//!
//! Nights are made from the pairs at hand. An unchanged night draws the cases (or clusters) with replacement and exchanges
//! the two sides of each at random, so that nothing differs but by the chance that these cases show. A worse night then
//! spoils the head by a known damage. Each night is judged as the gate would judge it, and the verdicts are counted. Pure:
//! the same seed gives the same rates.

use serde::{Deserialize, Serialize};

use crate::stats::agreement;
use crate::stats::bootstrap::Matrix;
use crate::stats::paired::{
    DecisionPolicy, Direction, Measure, MetricQuestion, PairedLabels, PairedValue, Statistic, Verdict, decide,
};
use crate::stats::proportion::wilson;
use crate::stats::random::Random;

/// How much to simulate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simulation {
    /// Nights of each kind.
    pub nights: u32,
    /// Draws of bootstrap and permutation in each night; a tenth of the gate's own is enough for rates.
    pub resamples: u32,
    /// Of the generator.
    pub seed: u64,
}

impl Default for Simulation {
    fn default() -> Self {
        Self { nights: 400, resamples: 999, seed: 0x7365_6c66 }
    }
}

/// A rate that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// How many nights.
    pub count: u64,
    /// Out of how many.
    pub nights: u64,
    /// `count / nights`.
    pub share: f64,
    /// Wilson's 95 % interval of the share.
    pub ci95: [f64; 2],
}

impl Rate {
    /// The rate of `count` out of `nights`, at least one.
    pub fn of(count: u64, nights: u64) -> Self {
        let nights = nights.max(1);
        let ci95 = wilson(count as f64, nights as f64).unwrap_or([0.0, 1.0]);
        Self { count, nights, share: count as f64 / nights as f64, ci95 }
    }
}

/// The verdicts on one kind of night.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Outcomes {
    /// The true damage, in the metric's own unit.
    pub damage: f64,
    /// PASS: false where the damage is the margin or more.
    pub pass: Rate,
    /// FAIL: false where the damage is at most the margin.
    pub fail: Rate,
    /// INCONCLUSIVE.
    pub inconclusive: Rate,
}

/// The rates of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricCheck {
    /// The metric.
    pub name: String,
    /// Its margin.
    pub margin: f64,
    /// Nights without a change: FAIL is a false alarm.
    pub unchanged: Outcomes,
    /// Nights whose damage is exactly the margin: PASS is a miss. `None` where these values cannot drop so far.
    pub at_margin: Option<Outcomes>,
    /// Nights whose damage is three times the margin: what is not FAIL is not caught in one night. `None` as above, and
    /// with a margin of 0.
    pub beyond: Option<Outcomes>,
}

/// What a self-check found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelfCheck {
    /// Nights of each kind.
    pub nights: u32,
    /// Each metric.
    pub metrics: Vec<MetricCheck>,
    /// Unchanged nights on which any metric failed. The metrics' nights are drawn independently of each other, which
    /// makes a false alarm of any of them likelier than metrics that move together would.
    pub any_false_alarm: Rate,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Of a worse night, in margins.
const BEYOND: f64 = 3.0;

/// Judges simulated nights of these metrics under this policy.
pub fn self_check(questions: &[MetricQuestion<'_>], policy: &DecisionPolicy, how: &Simulation) -> SelfCheck {
    let policy = DecisionPolicy { resamples: how.resamples, ..*policy };
    let populations: Vec<Population> = questions.iter().map(|q| Population::of(&q.measure, policy.clustered)).collect();
    let mut notes = Vec::new();
    let spoils = |margins: f64| -> Vec<Option<Spoil>> {
        questions.iter().map(|q| Spoil::by(&q.measure, q.direction, margins * q.margin)).collect()
    };
    let (at_margin, beyond) = (spoils(1.0), spoils(BEYOND));
    for (question, spoil) in questions.iter().zip(&at_margin) {
        if spoil.is_none() {
            notes.push(format!("{}: these values cannot become worse by {}", question.name, question.margin));
        }
    }
    let none: Vec<Option<Spoil>> = questions.iter().map(|_| Some(Spoil::Nothing)).collect();
    let unchanged = judge(questions, &populations, &none, &policy, how, 0);
    let missed = judge(questions, &populations, &at_margin, &policy, how, 1);
    let caught = judge(questions, &populations, &beyond, &policy, how, 2);
    let nights = u64::from(how.nights);
    let outcomes = |of: &Tally, index: usize, damage: f64| {
        let [pass, fail, inconclusive] = of.verdicts[index].map(|count| Rate::of(count, nights));
        Outcomes { damage, pass, fail, inconclusive }
    };
    let metrics = questions.iter().enumerate().map(|(i, question)| {
        let margin = question.margin;
        MetricCheck {
            name: question.name.to_owned(),
            margin,
            unchanged: outcomes(&unchanged, i, 0.0),
            at_margin: at_margin[i].map(|_| outcomes(&missed, i, margin)),
            beyond: beyond[i].filter(|_| margin > 0.0).map(|_| outcomes(&caught, i, BEYOND * margin)),
        }
    });
    SelfCheck {
        nights: how.nights,
        metrics: metrics.collect(),
        any_false_alarm: Rate::of(unchanged.any_fail, nights),
        notes,
    }
}

/// Verdicts counted: PASS, FAIL, INCONCLUSIVE of each metric.
struct Tally {
    verdicts: Vec<[u64; 3]>,
    any_fail: u64,
}

fn judge(
    questions: &[MetricQuestion<'_>],
    populations: &[Population],
    spoils: &[Option<Spoil>],
    policy: &DecisionPolicy,
    how: &Simulation,
    kind: u64,
) -> Tally {
    let mut random = Random::seeded(how.seed.wrapping_add(kind));
    let mut tally = Tally { verdicts: vec![[0; 3]; questions.len()], any_fail: 0 };
    if spoils.iter().all(Option::is_none) {
        return tally;
    }
    for night in 0..how.nights {
        let drawn: Vec<Night> = populations
            .iter()
            .zip(spoils)
            .map(|(population, spoil)| population.draw(spoil.unwrap_or(Spoil::Nothing), &mut random))
            .collect();
        let asked: Vec<MetricQuestion<'_>> = questions
            .iter()
            .zip(&drawn)
            .map(|(q, night)| MetricQuestion { measure: night.measure(&q.measure), ..*q })
            .collect();
        let policy = DecisionPolicy { seed: policy.seed.wrapping_add(u64::from(night)), ..*policy };
        let decisions = decide(&asked, &policy);
        tally.any_fail += u64::from(decisions.iter().any(|decision| decision.verdict == Verdict::Fail));
        for (counts, decision) in tally.verdicts.iter_mut().zip(decisions) {
            counts[match decision.verdict {
                Verdict::Pass => 0,
                Verdict::Fail => 1,
                Verdict::Inconclusive => 2,
            }] += 1;
        }
    }
    tally
}

/// What makes a head worse by a known damage.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Spoil {
    Nothing,
    /// Every value moves by as much.
    Shift(f64),
    /// Each case is, with this probability, as bad as it can be: this value.
    Replace {
        probability: f64,
        worst: f64,
    },
    /// Each case's answers become, with this probability, those of the other labels.
    Confuse {
        probability: f64,
    },
}

impl Spoil {
    /// What raises the damage from 0 to `damage`, if anything can.
    fn by(measure: &Measure<'_>, direction: Direction, damage: f64) -> Option<Self> {
        let worse = if direction == Direction::HigherIsBetter { -1.0 } else { 1.0 };
        match measure {
            Measure::Mean { pairs, range: Some([low, high]) } => {
                let worst = if worse < 0.0 { *low } else { *high };
                let n = 2.0 * pairs.len() as f64;
                let mean = pairs.iter().map(|pair| pair.base + pair.head).sum::<f64>() / n;
                let probability = damage / (worst - mean).abs();
                (probability <= 1.0).then_some(Self::Replace { probability, worst })
            }
            Measure::Mean { range: None, .. } | Measure::Quantile { .. } => Some(Self::Shift(worse * damage)),
            Measure::Agreement { pairs, statistic } => {
                let matrix = both_sides(pairs);
                let value = |probability: f64| value_of(*statistic, &confused(&matrix, probability));
                let needed = value(0.0)? - damage;
                if value(1.0)? > needed {
                    return None;
                }
                let (mut low, mut high) = (0.0, 1.0);
                for _ in 0..50 {
                    let middle = f64::midpoint(low, high);
                    if value(middle)? > needed {
                        low = middle;
                    } else {
                        high = middle;
                    }
                }
                Some(Self::Confuse { probability: high })
            }
        }
    }
}

fn value_of(statistic: Statistic, matrix: &Matrix) -> Option<f64> {
    match statistic {
        Statistic::Accuracy => agreement::accuracy(matrix),
        Statistic::MacroF1 => agreement::macro_f1(matrix),
        Statistic::Mcc => agreement::mcc(matrix),
        Statistic::Kappa => agreement::kappa(matrix),
    }
}

/// What an unchanged night's answers are drawn from: those of both sides.
fn both_sides(pairs: &[PairedLabels]) -> Matrix {
    let mut matrix = Matrix::default();
    for pair in pairs {
        for (sum, share) in matrix[usize::from(pair.expected.min(2))].iter_mut().zip(pair.base.iter().zip(&pair.head)) {
            *sum += f64::from(share.0 + share.1);
        }
    }
    matrix
}

/// Expected counts when each case is confused with a probability.
fn confused(matrix: &Matrix, probability: f64) -> Matrix {
    matrix.map(|row| {
        let other = others(row);
        std::array::from_fn(|j| (1.0 - probability) * row[j] + probability * other[j])
    })
}

/// Each label's share given to the other two labels; what is unparseable stays so.
fn others(row: [f64; 4]) -> [f64; 4] {
    let labels: f64 = row[..3].iter().sum();
    std::array::from_fn(|j| if j < 3 { (labels - row[j]) / 2.0 } else { row[3] })
}

/// The pairs of a metric, by clusters.
enum Population {
    Values(Vec<Vec<PairedValue>>),
    Labels(Vec<Vec<PairedLabels>>),
}

/// The pairs of one night.
enum Night {
    Values(Vec<PairedValue>),
    Labels(Vec<PairedLabels>),
}

impl Population {
    fn of(measure: &Measure<'_>, clustered: bool) -> Self {
        match measure {
            Measure::Mean { pairs, .. } | Measure::Quantile { pairs, .. } => {
                Self::Values(by_cluster(pairs, |pair| clustered.then_some(pair.cluster)))
            }
            Measure::Agreement { pairs, .. } => {
                Self::Labels(by_cluster(pairs, |pair| clustered.then_some(pair.cluster)))
            }
        }
    }

    fn draw(&self, spoil: Spoil, random: &mut Random) -> Night {
        match self {
            Self::Values(clusters) => Night::Values(draw(clusters, random, |pair, number, exchange, random| {
                let (base, mut head) = if exchange { (pair.head, pair.base) } else { (pair.base, pair.head) };
                match spoil {
                    Spoil::Shift(by) => head += by,
                    Spoil::Replace { probability, worst } if random.unit() < probability => head = worst,
                    _ => {}
                }
                PairedValue { base, head, cluster: number }
            })),
            Self::Labels(clusters) => Night::Labels(draw(clusters, random, |pair, number, exchange, random| {
                let (base, mut head) = if exchange { (pair.head, pair.base) } else { (pair.base, pair.head) };
                match spoil {
                    Spoil::Confuse { probability } if random.unit() < probability => {
                        let [first, second] = [0, 1].map(|step| others_once(head, step));
                        head = if random.unit() < 0.5 { first } else { second };
                    }
                    _ => {}
                }
                PairedLabels { base, head, cluster: number, ..*pair }
            })),
        }
    }
}

/// The labels moved round by one or two places, so that a single answer stays a single answer.
fn others_once(shares: [f32; 4], step: usize) -> [f32; 4] {
    std::array::from_fn(|j| if j < 3 { shares[(j + step + 1) % 3] } else { shares[3] })
}

impl Night {
    fn measure<'a>(&'a self, like: &Measure<'_>) -> Measure<'a> {
        match (self, like) {
            (Self::Values(pairs), Measure::Quantile { p, .. }) => Measure::Quantile { pairs, p: *p },
            (Self::Values(pairs), Measure::Mean { range, .. }) => Measure::Mean { pairs, range: *range },
            (Self::Values(pairs), Measure::Agreement { .. }) => Measure::Mean { pairs, range: None },
            (Self::Labels(pairs), Measure::Agreement { statistic, .. }) => {
                Measure::Agreement { pairs, statistic: *statistic }
            }
            (Self::Labels(pairs), _) => Measure::Agreement { pairs, statistic: Statistic::Accuracy },
        }
    }
}

fn by_cluster<T: Copy>(pairs: &[T], cluster: impl Fn(&T) -> Option<u32>) -> Vec<Vec<T>> {
    let mut sorted: Vec<(Option<u32>, T)> = pairs.iter().map(|pair| (cluster(pair), *pair)).collect();
    sorted.sort_by_key(|(number, _)| *number);
    let same = sorted.chunk_by(|(a, _), (b, _)| a.is_some() && a == b);
    same.map(|cluster| cluster.iter().map(|(_, pair)| *pair).collect()).collect()
}

/// As many clusters as there are, with replacement; the sides of a whole cluster are exchanged or not.
fn draw<T: Copy>(
    clusters: &[Vec<T>],
    random: &mut Random,
    mut take: impl FnMut(&T, u32, bool, &mut Random) -> T,
) -> Vec<T> {
    let mut night = Vec::new();
    for number in 0..clusters.len() {
        let cluster = &clusters[(random.unit() * clusters.len() as f64) as usize];
        let exchange = random.unit() < 0.5;
        for pair in cluster {
            night.push(take(pair, number as u32, exchange, random));
        }
    }
    night
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: u32) -> Vec<PairedValue> {
        // 6 % worse, 4 % better, a fifth wrong on both sides.
        let sides = |i: u32| match i % 50 {
            0..3 => (1.0, 0.0),
            3..5 => (0.0, 1.0),
            5..15 => (0.0, 0.0),
            _ => (1.0, 1.0),
        };
        (0..n).map(|i| (sides(i), i / 2)).map(|((base, head), cluster)| PairedValue { base, head, cluster }).collect()
    }

    fn question<'a>(name: &'a str, measure: Measure<'a>) -> MetricQuestion<'a> {
        MetricQuestion { name, measure, direction: Direction::HigherIsBetter, margin: 0.05 }
    }

    const QUICK: Simulation = Simulation { nights: 150, resamples: 199, seed: 1 };

    #[test]
    fn a_good_gate_is_seldom_wrong_on_its_own_data() {
        let pairs = values(400);
        let policy = DecisionPolicy { horizon: 1, ..DecisionPolicy::default() };
        for clustered in [false, true] {
            let policy = DecisionPolicy { clustered, ..policy };
            let found = self_check(
                &[question("accuracy", Measure::Mean { pairs: &pairs, range: Some([0.0, 1.0]) })],
                &policy,
                &QUICK,
            );
            let metric = &found.metrics[0];
            assert_eq!(metric.unchanged.fail.count, 0, "{metric:?}");
            assert!(metric.unchanged.pass.share > 0.7, "{metric:?}");
            let at_margin = metric.at_margin.expect("values can drop");
            assert!(at_margin.pass.share < 0.07 && at_margin.fail.share < 0.07, "{at_margin:?}");
            assert!(metric.beyond.expect("values can drop").fail.share > 0.9, "{metric:?}");
            assert_eq!(
                found,
                self_check(
                    &[question("accuracy", Measure::Mean { pairs: &pairs, range: Some([0.0, 1.0]) })],
                    &policy,
                    &QUICK
                )
            );
        }
    }

    #[test]
    fn labels_are_confused_until_the_statistic_drops_by_the_margin() {
        let one = |label: usize| std::array::from_fn(|j| if j == label { 1.0 } else { 0.0 });
        let pairs: Vec<PairedLabels> = (0..600usize)
            .map(|i| {
                let expected = i % 3;
                let answer = |every: usize| if i % every == 0 { (expected + 1) % 3 } else { expected };
                PairedLabels { expected: expected as u8, base: one(answer(10)), head: one(answer(11)), cluster: 0 }
            })
            .collect();
        for statistic in [Statistic::Accuracy, Statistic::MacroF1, Statistic::Mcc, Statistic::Kappa] {
            let measure = Measure::Agreement { pairs: &pairs, statistic };
            let Some(Spoil::Confuse { probability }) = Spoil::by(&measure, Direction::HigherIsBetter, 0.1) else {
                panic!("labels can be confused");
            };
            let population = Population::of(&measure, false);
            let mut random = Random::seeded(2);
            let mut total = [Matrix::default(); 2];
            for _ in 0..60 {
                let Night::Labels(night) = population.draw(Spoil::Confuse { probability }, &mut random) else {
                    panic!("labels stay labels");
                };
                for pair in night {
                    for (side, answers) in [pair.base, pair.head].iter().enumerate() {
                        let row = &mut total[side][usize::from(pair.expected)];
                        row.iter_mut().zip(answers).for_each(|(sum, share)| *sum += f64::from(*share));
                    }
                }
            }
            let drop =
                value_of(statistic, &total[0]).expect("defined") - value_of(statistic, &total[1]).expect("defined");
            assert!((drop - 0.1).abs() < 0.01, "{statistic:?}: {drop}");
        }
    }

    #[test]
    fn what_cannot_drop_is_said() {
        let pairs: Vec<PairedValue> = (0..50).map(|i| PairedValue { base: 0.0, head: 0.0, cluster: i }).collect();
        let found = self_check(
            &[question("recall", Measure::Mean { pairs: &pairs, range: Some([0.0, 1.0]) })],
            &DecisionPolicy::default(),
            &QUICK,
        );
        assert_eq!(found.metrics[0].at_margin, None);
        assert!(found.notes[0].contains("cannot become worse"), "{:?}", found.notes);
    }
}
