//! Worlds with a known truth, for counting how often the gate is wrong. Used by the tests (few nights) and by
//! `examples/gate_simulation.rs` (many).

use spanscore::compare::simulate::Rate;
use spanscore::stats::paired::{
    DecisionPolicy, Direction, Evidence, Measure, MetricQuestion, PairedLabels, PairedValue, Settings, Statistic,
    Verdict, compare, decide,
};
use spanscore::stats::random::Random;

/// How two sides are measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Design {
    /// One run on either side.
    Single,
    /// A baseline of several runs, one new run.
    Pooled(u32),
    /// As many repeats on either side.
    Repeats(u32),
    /// Clusters of that size, in which cases share their fate with a probability.
    Clusters(usize, f64),
}

/// How the discordance comes about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Flakes {
    /// Some cases are answered right every other time.
    Even,
    /// More cases are answered right nine times in ten.
    Rare,
}

/// A world: what is true.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct World {
    /// Cases.
    pub(crate) n: usize,
    /// By how much the head is truly worse.
    pub(crate) damage: f64,
    /// Share of cases on which two single runs differ.
    pub(crate) discordance: f64,
    /// How they are measured.
    pub(crate) design: Design,
    /// How the discordance comes about, where runs are pooled or repeated.
    pub(crate) flakes: Flakes,
}

impl World {
    /// One night: a new baseline and a new run.
    pub(crate) fn night(&self, random: &mut Random) -> Vec<PairedValue> {
        match self.design {
            Design::Single => (0..self.n).map(|i| pair(self.discordant(random), i)).collect(),
            Design::Pooled(runs) => self.averaged(runs, 1, random),
            Design::Repeats(repeats) => self.averaged(repeats, repeats, random),
            Design::Clusters(size, together) => {
                let mut pairs = Vec::with_capacity(self.n);
                for cluster in 0..self.n / size {
                    let shared = self.discordant(random);
                    for _ in 0..size {
                        let fate = if random.unit() < together { shared } else { self.discordant(random) };
                        pairs.push(pair(fate, cluster));
                    }
                }
                pairs
            }
        }
    }

    /// −1 where only the base is right, 1 where only the head is, else 0.
    fn discordant(&self, random: &mut Random) -> i8 {
        let u = random.unit();
        let worse = f64::midpoint(self.discordance, self.damage);
        match u {
            _ if u < worse => -1,
            _ if u < self.discordance => 1,
            _ => 0,
        }
    }

    /// Cases that drop for good, cases that are answered by chance, and cases that are always right.
    fn averaged(&self, base_runs: u32, head_runs: u32, random: &mut Random) -> Vec<PairedValue> {
        let right = match self.flakes {
            Flakes::Even => 0.5,
            Flakes::Rare => 0.9,
        };
        let flaky = (self.discordance - self.damage) / (2.0 * right * (1.0 - right));
        (0..self.n)
            .map(|i| {
                let u = random.unit();
                if u < self.damage {
                    PairedValue { base: 1.0, head: 0.0, cluster: i as u32 }
                } else if u < self.damage + flaky {
                    let mut share = |runs: u32| random.binomial(u64::from(runs), right) as f64 / f64::from(runs);
                    PairedValue { base: share(base_runs), head: share(head_runs), cluster: i as u32 }
                } else {
                    PairedValue { base: 1.0, head: 1.0, cluster: i as u32 }
                }
            })
            .collect()
    }

    fn clustered(&self) -> bool {
        matches!(self.design, Design::Clusters(..))
    }

    /// Whether such a world exists.
    pub(crate) fn exists(&self) -> bool {
        let right = if self.flakes == Flakes::Even { 0.5 } else { 0.9 };
        self.damage + (self.discordance - self.damage) / (2.0 * right * (1.0 - right)) <= 1.0
    }
}

fn pair(fate: i8, cluster: usize) -> PairedValue {
    let (base, head) = match fate {
        -1 => (1.0, 0.0),
        1 => (0.0, 1.0),
        _ => (1.0, 1.0),
    };
    PairedValue { base, head, cluster: cluster as u32 }
}

/// The rate of a verdict over simulated nights of a world, for a single metric and a single night.
pub(crate) fn rate(world: &World, margin: f64, verdict: Verdict, nights: u64, seed: u64) -> Rate {
    let mut random = Random::seeded(seed);
    let policy = DecisionPolicy { horizon: 1, clustered: world.clustered(), resamples: 1, ..DecisionPolicy::default() };
    let count = (0..nights).filter(|_| {
        let pairs = world.night(&mut random);
        decide(&[accuracy(&pairs, margin)], &policy)[0].verdict == verdict
    });
    Rate::of(count.count() as u64, nights)
}

fn accuracy(pairs: &[PairedValue], margin: f64) -> MetricQuestion<'_> {
    let measure = Measure::Mean { pairs, range: Some([0.0, 1.0]) };
    MetricQuestion { name: "accuracy", measure, direction: Direction::HigherIsBetter, margin }
}

/// The exact probability of a verdict for single runs: the sum over every outcome, none simulated.
pub(crate) fn exact(n: u64, damage: f64, discordance: f64, margin: f64, alpha: f64, verdict: Verdict) -> f64 {
    let (worse, better) = (f64::midpoint(discordance, damage), f64::midpoint(discordance, -damage));
    let logs: Vec<f64> = std::iter::once(0.0)
        .chain((1..=n).scan(0.0, |sum, k| {
            *sum += (k as f64).ln();
            Some(*sum)
        }))
        .collect();
    let ln = |share: f64, count: u64| if count == 0 { 0.0 } else { count as f64 * share.ln() };
    let mut total = 0.0;
    for better_count in 0..=n {
        for worse_count in 0..=n - better_count {
            let same = n - better_count - worse_count;
            let log = logs[n as usize] - logs[better_count as usize] - logs[worse_count as usize] - logs[same as usize]
                + ln(worse, worse_count)
                + ln(better, better_count)
                + ln(1.0 - discordance, same);
            if log < -40.0 {
                continue;
            }
            let evidence = Evidence::of_counts(worse_count, better_count, n);
            let p = match verdict {
                Verdict::Pass => evidence.p_pass(Direction::HigherIsBetter, margin),
                _ => evidence.p_fail(Direction::HigherIsBetter, margin),
            };
            if p.is_some_and(|p| p <= alpha) {
                total += log.exp();
            }
        }
    }
    total
}

/// Five metrics of one night without a change: whether any of them fails.
pub(crate) fn five_metrics(n: usize, margin: f64, nights: u64, seed: u64) -> (Vec<Rate>, Rate) {
    let mut random = Random::seeded(seed);
    let policy = DecisionPolicy { horizon: 1, resamples: 999, ..DecisionPolicy::default() };
    let mut alone = [0; 5];
    let mut any = 0;
    for night in 0..nights {
        let labels = labels(n, &mut random);
        let (scores, latencies) = numbers(n, &mut random);
        let agreement = |statistic| Measure::Agreement { pairs: &labels, statistic };
        let questions = [
            (agreement(Statistic::Accuracy), Direction::HigherIsBetter, 1.0),
            (agreement(Statistic::MacroF1), Direction::HigherIsBetter, 1.0),
            (agreement(Statistic::Kappa), Direction::HigherIsBetter, 1.0),
            (Measure::Mean { pairs: &scores, range: Some([0.0, 1.0]) }, Direction::HigherIsBetter, 1.0),
            (Measure::Quantile { pairs: &latencies, p: 0.95 }, Direction::LowerIsBetter, 100.0),
        ]
        .map(|(measure, direction, unit)| MetricQuestion {
            name: "metric",
            measure,
            direction,
            margin: margin * unit,
        });
        let policy = DecisionPolicy { seed: night, ..policy };
        any += u64::from(decide(&questions, &policy).iter().any(|decision| decision.verdict == Verdict::Fail));
        let settings = Settings { resamples: 999, seed: night, ..Settings::default() };
        let evidence = Evidence::of_all(&questions.map(|q| q.measure), &settings, true);
        for (count, (question, evidence)) in alone.iter_mut().zip(questions.iter().zip(&evidence)) {
            let p = evidence.p_fail(question.direction, question.margin);
            *count += u64::from(p.is_some_and(|p| p <= policy.alpha));
        }
    }
    (alone.map(|count| Rate::of(count, nights)).to_vec(), Rate::of(any, nights))
}

/// Answers of two equally good runs, with a rare third label.
fn labels(n: usize, random: &mut Random) -> Vec<PairedLabels> {
    let one = |label: usize| std::array::from_fn(|j| if j == label { 1.0 } else { 0.0 });
    (0..n)
        .map(|i| {
            let u = random.unit();
            let expected = if u < 0.45 {
                0
            } else if u < 0.85 {
                1
            } else {
                2usize
            };
            // A case is hard or easy for both runs alike.
            let hard = random.unit() < 0.3;
            let mut answer = || {
                if random.unit() < if hard { 0.55 } else { 0.97 } { expected } else { (random.unit() * 4.0) as usize }
            };
            PairedLabels { expected: expected as u8, base: one(answer()), head: one(answer()), cluster: i as u32 }
        })
        .collect()
}

/// A score within [0, 1] with many ones, and latencies in milliseconds with a long tail.
fn numbers(n: usize, random: &mut Random) -> (Vec<PairedValue>, Vec<PairedValue>) {
    let (mut scores, mut latencies) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for i in 0..n {
        let cluster = i as u32;
        let level = random.unit().powf(0.3);
        let mut score = || if random.unit() < 0.7 { 1.0 } else { level * random.unit() };
        scores.push(PairedValue { base: score(), head: score(), cluster });
        let slow = 200.0 - 300.0 * (1.0 - random.unit()).ln();
        let mut latency = || slow - 100.0 * (1.0 - random.unit()).ln();
        latencies.push(PairedValue { base: latency(), head: latency(), cluster });
    }
    (scores, latencies)
}

/// Months of nights against one baseline that never changes: how many had an alarm. The dataset and the baseline are drawn
/// once a month, the runs every night.
pub(crate) fn months(n: usize, flaky: f64, margin: f64, months: u64, seed: u64) -> Rate {
    let mut random = Random::seeded(seed);
    let policy = DecisionPolicy { horizon: 30, resamples: 1, ..DecisionPolicy::default() };
    let alarms = (0..months).filter(|_| {
        let case = |random: &mut Random| if random.unit() < flaky { 0.3 + 0.6 * random.unit() } else { 1.0 };
        let likely: Vec<f64> = (0..n).map(|_| case(&mut random)).collect();
        let run = |random: &mut Random| -> Vec<f64> {
            likely.iter().map(|p| f64::from(u8::from(random.unit() < *p))).collect()
        };
        let baseline = run(&mut random);
        (0..30).any(|_| {
            let head = run(&mut random);
            let sides = baseline.iter().zip(&head);
            let pairs: Vec<PairedValue> = sides.map(|(&base, &head)| PairedValue { base, head, cluster: 0 }).collect();
            decide(&[accuracy(&pairs, margin)], &policy)[0].verdict == Verdict::Fail
        })
    });
    Rate::of(alarms.count() as u64, months)
}

/// Nights until a true drop is caught with the horizon's correction, the median over many drops; `pool` runs stand in the
/// baseline. In `fixed` worlds the same cases have dropped every night and the baseline stays; else each night is drawn anew.
pub(crate) fn median_catch(world: &World, margin: f64, fixed: Option<u32>, drops: u64, seed: u64) -> u32 {
    let mut random = Random::seeded(seed);
    let policy = DecisionPolicy { horizon: 30, resamples: 1, ..DecisionPolicy::default() };
    let mut nights: Vec<u32> = (0..drops)
        .map(|_| {
            let mut next = night_of(world, fixed, &mut random);
            (1..=100)
                .find(|_| decide(&[accuracy(&next(&mut random), margin)], &policy)[0].verdict == Verdict::Fail)
                .unwrap_or(101)
        })
        .collect();
    nights.sort_unstable();
    nights[nights.len() / 2]
}

type NextNight = Box<dyn FnMut(&mut Random) -> Vec<PairedValue>>;

fn night_of(world: &World, fixed: Option<u32>, random: &mut Random) -> NextNight {
    let world = *world;
    let Some(pool) = fixed else { return Box::new(move |random| world.night(random)) };
    // The case's chance of a right answer, before and after the drop.
    let flaky = 2.0 * (world.discordance - world.damage);
    let cases: Vec<[f64; 2]> = (0..world.n)
        .map(|_| {
            let u = random.unit();
            if u < world.damage {
                [1.0, 0.0]
            } else if u < world.damage + flaky {
                [0.5, 0.5]
            } else {
                [1.0, 1.0]
            }
        })
        .collect();
    let base: Vec<f64> =
        cases.iter().map(|[before, _]| random.binomial(pool.into(), *before) as f64 / f64::from(pool)).collect();
    Box::new(move |random| {
        let sides = base.iter().zip(&cases);
        sides
            .map(|(&base, [_, after])| PairedValue {
                base,
                head: f64::from(u8::from(random.unit() < *after)),
                cluster: 0,
            })
            .collect()
    })
}

/// How often the comparison's 95 % interval holds the true difference of 0, over clusters of uneven size: of numbers that
/// clusters share in part, or of right and wrong answers.
pub(crate) fn clustered_coverage(clusters: u32, numeric: bool, nights: u64, seed: u64) -> Rate {
    let mut random = Random::seeded(seed);
    let settings = Settings { clustered: true, resamples: 1, ..Settings::default() };
    let held = (0..nights).filter(|_| {
        let mut pairs = Vec::new();
        for cluster in 0..clusters {
            let size = 3 + (random.unit() * 6.0) as u32;
            let shift = (0..6).map(|_| random.unit()).sum::<f64>() - 3.0;
            for _ in 0..size {
                let base = 0.5 + 0.05 * (random.unit() - 0.5);
                let (base, head) = if numeric {
                    (base, base + 0.03 * shift + 0.08 * (random.unit() - 0.5))
                } else {
                    // The whole cluster leans to one side.
                    let u = random.unit();
                    let worse = 0.15 + 0.05 * shift.clamp(-3.0, 3.0);
                    if u < worse {
                        (1.0, 0.0)
                    } else if u < 0.3 {
                        (0.0, 1.0)
                    } else {
                        (1.0, 1.0)
                    }
                };
                pairs.push(PairedValue { base, head, cluster });
            }
        }
        let found = compare(&Measure::Mean { pairs: &pairs, range: Some([0.0, 1.0]) }, &settings);
        found.interval.is_some_and(|[low, high]| low <= 0.0 && 0.0 <= high)
    });
    Rate::of(held.count() as u64, nights)
}
