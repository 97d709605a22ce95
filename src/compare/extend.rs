//! Deciding an undecided gate by running longer: each further run of the same thing makes the mean of each case steadier.
//!
//! After each run the cases are bet on, in the baseline's order, at their means so far. Each such e-value is fair whatever
//! the others are, for the cases are a sample of cases; those of several looks are averaged over the looks that were
//! planned, which makes a sum that only grows and whose mean never exceeds 1 while the hypothesis is true. So it may be
//! looked at after each run, and stopped (Markov's inequality; Vovk & Wang 2021, E-values: calibration, combination and
//! applications). Cases of one group are one bet together.

use std::collections::BTreeMap;

use super::gate::{Policy, Verdict};
use super::metric::{Definition, definitions, find};
use super::pair::pair;
use super::side::Side;
use crate::stats::evalue::{Bets, ln_needed};
use crate::stats::paired::{Direction, Measure, PairedValue};

/// The evidence that further runs have brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Extension {
    /// Looks that were planned.
    looks: u32,
    taken: u32,
    metrics: Vec<Evidence>,
    ln_needed: f64,
}

#[derive(Debug, Clone, PartialEq)]
struct Evidence {
    name: String,
    margin: f64,
    /// The sums of the e-values so far, for FAIL and for PASS.
    sums: [f64; 2],
}

/// The metrics that cannot be bet on: only means of values within [0, 1] can.
pub fn unfit(base: &Side, head: &Side, policy: &Policy) -> Vec<String> {
    let known = definitions(base, head, &policy.allow);
    let is_share = |d: &Definition| d.range == Some([0.0, 1.0]) && d.is_mean();
    policy.metrics.keys().filter(|name| !find(&known, name).is_some_and(is_share)).cloned().collect()
}

impl Extension {
    /// No run looked at yet, of so many.
    pub fn new(policy: &Policy, looks: u32) -> Self {
        let looks = looks.max(1);
        let metrics: Vec<Evidence> = policy
            .metrics
            .iter()
            .map(|(name, margin)| Evidence { name: name.clone(), margin: *margin, sums: [0.0; 2] })
            .collect();
        // Bonferroni over the metrics: their bets are not independent.
        let alpha = policy.alpha / f64::from(policy.horizon.max(1)) / metrics.len().max(1) as f64;
        Self { looks, taken: 0, ln_needed: ln_needed(alpha), metrics }
    }

    /// Looks at the head as it is now, all its runs pooled; gives the verdict, INCONCLUSIVE while there is none.
    pub fn look(&mut self, base: &Side, head: &Side, policy: &Policy) -> Verdict {
        if self.taken >= self.looks {
            return self.verdict();
        }
        self.taken += 1;
        let pairing = pair(base, head);
        let known = definitions(base, head, &policy.allow);
        for evidence in &mut self.metrics {
            let Some(definition) = find(&known, &evidence.name) else { continue };
            let numbers = definition.numbers(base, head, &pairing, 0..pairing.pairs.len());
            let Measure::Mean { pairs, .. } = numbers.measure() else { continue };
            let mut bets = Bets::new(evidence.margin);
            for damage in damages(pairs, definition.better(), evidence.margin, pairing.cluster_count.is_some()) {
                bets.add(damage);
            }
            let share = 1.0 / f64::from(self.looks);
            // An e-value too large for a double has decided long ago.
            evidence.sums[0] += share * bets.ln_fail().min(700.0).exp();
            evidence.sums[1] += share * bets.ln_pass().min(700.0).exp();
        }
        self.verdict()
    }

    /// FAIL where a metric's evidence is enough, PASS where every metric's is.
    pub fn verdict(&self) -> Verdict {
        let of: Vec<Verdict> = self.metrics.iter().map(|metric| self.one(metric)).collect();
        if of.contains(&Verdict::Fail) {
            Verdict::Fail
        } else if !of.is_empty() && of.iter().all(|verdict| *verdict == Verdict::Pass) {
            Verdict::Pass
        } else {
            Verdict::Inconclusive
        }
    }

    /// The verdict on one metric.
    pub fn verdict_on(&self, name: &str) -> Verdict {
        // A policy may say `score.ID` for what is called ID.
        let is_it = |metric: &&Evidence| metric.name == name || metric.name.strip_prefix("score.") == Some(name);
        let metric = self.metrics.iter().find(is_it);
        metric.map_or(Verdict::Inconclusive, |metric| self.one(metric))
    }

    fn one(&self, metric: &Evidence) -> Verdict {
        let [fail, pass] = metric.sums.map(|sum| sum > 0.0 && sum.ln() >= self.ln_needed);
        match (fail, pass) {
            (true, false) => Verdict::Fail,
            (false, true) => Verdict::Pass,
            _ => Verdict::Inconclusive,
        }
    }

    /// Where the evidence stands, as sentences.
    pub fn reasons(&self) -> Vec<String> {
        let needed = self.ln_needed.exp();
        self.metrics
            .iter()
            .map(|metric| {
                let [fail, pass] = metric.sums;
                format!(
                    "{}: after {} further run{} the evidence for worse than the margin is {fail:.3}, for no worse {pass:.3}; \
                     {needed:.0} decides",
                    metric.name,
                    self.taken,
                    if self.taken == 1 { "" } else { "s" }
                )
            })
            .collect()
    }
}

/// The damage of each case, or of each group as one number that is above the margin as often as its cases are.
fn damages(pairs: &[PairedValue], direction: Direction, margin: f64, clustered: bool) -> Vec<f64> {
    let damage = |pair: &PairedValue| match direction {
        Direction::HigherIsBetter => pair.base - pair.head,
        Direction::LowerIsBetter => pair.head - pair.base,
    };
    if !clustered {
        return pairs.iter().map(damage).collect();
    }
    let mut groups: BTreeMap<u32, (f64, u32)> = BTreeMap::new();
    for pair in pairs {
        let group = groups.entry(pair.cluster).or_default();
        *group = (group.0 + damage(pair) - margin, group.1 + 1);
    }
    let largest = groups.values().map(|(_, n)| *n).max().unwrap_or(1);
    groups.into_values().map(|(sum, _)| margin + sum / f64::from(largest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::testing::answered;
    use crate::stats::random::Random;

    fn policy() -> Policy {
        Policy { metrics: [("accuracy".to_owned(), 0.05)].into(), horizon: 1, ..Policy::default() }
    }

    #[test]
    fn a_clear_case_is_decided_and_an_unclear_one_is_not() {
        let good = answered(400, |_| false);
        for (wrong, wanted) in [(0, Verdict::Pass), (5, Verdict::Fail), (20, Verdict::Inconclusive)] {
            let head = answered(400, |at| wrong > 0 && at % wrong == 0);
            let mut extension = Extension::new(&policy(), 4);
            let last = (0..4).map(|_| extension.look(&good, &head, &policy())).last();
            assert_eq!(last, Some(wanted), "every {wrong}-th: {:?}", extension.reasons());
        }
    }

    #[test]
    fn a_damage_of_the_margin_is_seldom_taken_for_either() {
        let (mut passed, mut failed) = (0, 0);
        let base = answered(200, |_| false);
        let mut random = Random::seeded(11);
        for _ in 0..400 {
            let wrong: Vec<bool> = (0..200).map(|_| random.unit() < 0.05).collect();
            let head = answered(200, |at| wrong[at]);
            let mut extension = Extension::new(&policy(), 3);
            for _ in 0..3 {
                extension.look(&base, &head, &policy());
            }
            passed += u32::from(extension.verdict() == Verdict::Pass);
            failed += u32::from(extension.verdict() == Verdict::Fail);
        }
        // 2.5 % of 400 is 10; three deviations above are 19.
        assert!(passed <= 19 && failed <= 19, "{passed} {failed}");
    }
}
