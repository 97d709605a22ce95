//! What two runs say about a difference, at any level and against any margin.
//!
//! An [`Evidence`] holds several checks of the same difference, such as the cluster-robust t and the score test. A claim is
//! made only where all of them make it: an interval's end is the outermost of theirs, a p-value the largest. Each check
//! answers with a deviation on the normal scale, so that intervals at any level and p-values against any margin come from
//! one function and can never contradict each other.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::quantiles::Spread;
use super::resampled::Draws;
use super::score::{Score, no_discordance, tango_z};
use super::{Damage, Direction, Measure, PairedEstimate, PairedLabels, Settings, Statistic, labels, means, quantiles};
use crate::stats::special::{normal_cdf, normal_quantile};

/// One way of judging a difference.
#[derive(Debug, Clone)]
pub(super) enum Check {
    /// Tango's test of `b` and `c` discordant pairs among `n`.
    Tango { b: f64, c: f64, n: f64 },
    /// The exact test of no difference, which a claim of any worse or better must pass too: its p-values for `Δ ≤ 0` and
    /// for `Δ ≥ 0`.
    Exact { greater: f64, less: f64 },
    /// The score test of means.
    Score(Score),
    /// Student's t, cluster-robust or not.
    Student { delta: f64, error: f64, degrees: f64 },
    /// As far as Tango's interval without a discordant pair reaches, in units of `scale`.
    Floor { delta: f64, scale: f64, n: f64 },
    /// A bootstrap distribution.
    Draws(Draws),
    /// The floor of a quantile.
    Spread(Spread),
}

impl Check {
    /// Deviations by which the difference lies above `at`, for the claim that it is greater (the claim needs it large).
    fn above(&self, at: f64) -> f64 {
        match self {
            Self::Exact { greater, .. } => {
                if at >= 0.0 {
                    upper_quantile(*greater)
                } else {
                    f64::INFINITY
                }
            }
            Self::Draws(draws) => draws.above(at),
            both => both.z(at),
        }
    }

    /// The same for the claim that it is smaller (the claim needs it far below 0).
    fn below(&self, at: f64) -> f64 {
        match self {
            Self::Exact { less, .. } => {
                if at <= 0.0 {
                    -upper_quantile(*less)
                } else {
                    f64::NEG_INFINITY
                }
            }
            Self::Draws(draws) => draws.below(at),
            both => both.z(at),
        }
    }

    fn z(&self, at: f64) -> f64 {
        match self {
            Self::Tango { b, c, n } => tango_z(*b, *c, *n, at),
            Self::Exact { .. } | Self::Draws(_) => 0.0,
            Self::Spread(spread) => spread.z(at),
            Self::Score(score) => score.z(at),
            Self::Student { delta, error, degrees } => {
                let t = (delta - at) / error;
                if t.is_nan() {
                    return 0.0;
                }
                student_to_normal(t, *degrees)
            }
            Self::Floor { delta, scale, n } => {
                let away = (delta - at) / scale;
                let share = away.abs();
                if share >= 1.0 {
                    away.signum() * f64::INFINITY
                } else {
                    away.signum() * (n * share / (1.0 - share)).sqrt()
                }
            }
        }
    }
}

/// The normal deviation with the tail probability that `t` has.
fn student_to_normal(t: f64, degrees: f64) -> f64 {
    if degrees >= 1e6 || t == 0.0 {
        return t;
    }
    if t.is_infinite() {
        return t;
    }
    let student = StudentsT::new(0.0, 1.0, degrees.max(1.0)).expect("positive degrees of freedom are valid");
    t.signum() * upper_quantile(student.cdf(-t.abs()))
}

/// The normal deviation that `p` of the distribution exceeds.
fn upper_quantile(p: f64) -> f64 {
    if p <= 1e-300 {
        37.0
    } else if p >= 1.0 {
        f64::NEG_INFINITY
    } else {
        -normal_quantile(p)
    }
}

/// What two runs say about a difference.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    pub(super) estimate: PairedEstimate,
    pub(super) checks: Vec<Check>,
    /// How far the difference can be from 0 at most; infinite where it is not bounded.
    pub(super) reach: f64,
    /// A length on which the difference varies, to begin searches with.
    pub(super) step: f64,
    pub(super) effective_n: Option<f64>,
    /// One-sided p-values of no difference: that the head is greater, that it is less.
    pub(super) greater: Option<f64>,
    pub(super) less: Option<f64>,
}

impl Evidence {
    /// What the pairs say, as a comparison shows it.
    pub fn of(measure: &Measure<'_>, settings: &Settings) -> Self {
        Self::gather(measure, settings, false)
    }

    /// What the pairs say, as a gate may rely on it: never surer than Tango's interval without a discordant pair.
    pub fn of_gate(measure: &Measure<'_>, settings: &Settings) -> Self {
        Self::gather(measure, settings, true)
    }

    /// What `b` and `c` discordant pairs among `n` say to a gate, where each pair is a right or wrong of single runs.
    pub fn of_counts(b: u64, c: u64, n: u64) -> Self {
        let shown = PairedEstimate { n, discordant: Some([b, c]), ..PairedEstimate::default() };
        if n == 0 {
            return Self::unfit(shown, "there are no pairs");
        }
        let delta = (c as f64 - b as f64) / n as f64;
        means::assertions(PairedEstimate { delta: Some(delta), ..shown }, b, c, true)
    }

    /// What each of several measures says; measures of the same answers share their bootstrap.
    pub fn of_all(measures: &[Measure<'_>], settings: &Settings, gate: bool) -> Vec<Self> {
        let mut shared: Vec<(&[PairedLabels], labels::Resampled)> = Vec::new();
        let same = |a: &[PairedLabels], b: &[PairedLabels]| std::ptr::eq(a, b) || a == b;
        let each = measures.iter().map(|measure| match measure {
            Measure::Agreement { pairs, statistic } if *statistic != Statistic::Accuracy => {
                let known = shared.iter().position(|(other, _)| same(other, pairs));
                let at = known.unwrap_or_else(|| {
                    shared.push((pairs, labels::Resampled::new(pairs, settings)));
                    shared.len() - 1
                });
                labels::evidence(pairs, *statistic, Some(&shared[at].1), settings, gate)
            }
            other => Self::gather(other, settings, gate),
        });
        each.collect()
    }

    fn gather(measure: &Measure<'_>, settings: &Settings, gate: bool) -> Self {
        match measure {
            Measure::Mean { pairs, range } => means::evidence(pairs, *range, settings, gate),
            Measure::Quantile { pairs, p } => quantiles::evidence(pairs, *p, settings, gate),
            Measure::Agreement { pairs, statistic } => labels::evidence(pairs, *statistic, None, settings, gate),
        }
    }

    /// Evidence of nothing, for the reason given.
    pub(super) fn undefined(estimate: PairedEstimate, why: &str) -> Self {
        Self { estimate: PairedEstimate { why_undefined: Some(why.to_owned()), ..estimate }, ..Self::default() }
    }

    /// Evidence of nothing, for a fault of the data.
    pub(super) fn unfit(estimate: PairedEstimate, why: &str) -> Self {
        Self::undefined(PairedEstimate { unfit: true, ..estimate }, why)
    }

    /// The difference `head − base`.
    pub fn delta(&self) -> Option<f64> {
        self.estimate.delta
    }

    /// Whether there is an interval at all.
    pub fn is_defined(&self) -> bool {
        self.estimate.delta.is_some() && !self.checks.is_empty()
    }

    fn above(&self, at: f64) -> f64 {
        self.checks.iter().map(|check| check.above(at)).fold(f64::INFINITY, f64::min)
    }

    fn below(&self, at: f64) -> f64 {
        self.checks.iter().map(|check| check.below(at)).fold(f64::NEG_INFINITY, f64::max)
    }

    /// The interval of `delta` with one-sided levels for its lower and its upper end; `None` where an end is open.
    pub fn interval(&self, levels: [f64; 2]) -> Option<[f64; 2]> {
        let [low, high] = self.ends(levels)?;
        Some([low?, high?])
    }

    /// The ends of that interval; one that is `None` is open: nothing bounds the difference on that side.
    pub fn ends(&self, levels: [f64; 2]) -> Option<[Option<f64>; 2]> {
        let delta = self.estimate.delta.filter(|_| self.is_defined())?;
        let z = levels.map(|level| -normal_quantile(level));
        let low = self.end(delta, -1.0, |at| self.above(at) - z[0]);
        let high = self.end(delta, 1.0, |at| -self.below(at) - z[1]);
        Some([low, high])
    }

    /// The innermost point beyond which `excess` is positive, going from `delta` in the direction of `sign`.
    fn end(&self, delta: f64, sign: f64, excess: impl Fn(f64) -> f64) -> Option<f64> {
        let limit = sign * self.reach;
        let (mut inside, mut step) = (delta, self.step);
        let mut at_inside = excess(delta).min(0.0);
        let (mut outside, mut at_outside);
        loop {
            outside = if (limit - delta) * sign <= step { limit } else { delta + sign * step };
            at_outside = excess(outside);
            if at_outside >= 0.0 {
                break;
            }
            if outside == limit || step > 1e300 {
                return self.reach.is_finite().then_some(outside);
            }
            (inside, at_inside) = (outside, at_outside);
            step *= 2.0;
        }
        let tolerance = 1e-13 * self.step.max(delta.abs());
        let mut stuck = 0;
        for _ in 0..300 {
            if (outside - inside).abs() <= tolerance {
                break;
            }
            // Regula falsi, with a bisection whenever the same side moved twice.
            let secant = outside - at_outside * (outside - inside) / (at_outside - at_inside);
            let usable =
                stuck < 2 && secant.is_finite() && (secant - inside) * sign > 0.0 && (outside - secant) * sign > 0.0;
            let middle = if usable { secant } else { f64::midpoint(inside, outside) };
            if !usable {
                stuck = 0;
            }
            let value = excess(middle);
            if value >= 0.0 {
                (outside, at_outside) = (middle, value);
                stuck = if stuck < 0 { -stuck } else { stuck + 1 };
                if value < 1e-12 {
                    break;
                }
            } else {
                (inside, at_inside) = (middle, value);
                stuck += 1;
            }
        }
        Some(if outside.abs() < 2.0 * tolerance { 0.0 } else { outside })
    }

    /// One-sided p-value against "the damage is at most `margin`": small where the head is worse by more.
    pub fn p_fail(&self, direction: Direction, margin: f64) -> Option<f64> {
        self.is_defined().then(|| match direction {
            Direction::HigherIsBetter => normal_cdf(self.below(-margin)),
            Direction::LowerIsBetter => normal_cdf(-self.above(margin)),
        })
    }

    /// One-sided p-value against "the damage is at least `margin`": small where the head is not worse by as much.
    pub fn p_pass(&self, direction: Direction, margin: f64) -> Option<f64> {
        self.is_defined().then(|| match direction {
            Direction::HigherIsBetter => normal_cdf(-self.above(-margin)),
            Direction::LowerIsBetter => normal_cdf(self.below(margin)),
        })
    }

    /// The estimate with its two-sided interval at `level`.
    pub fn estimate(&self, direction: Direction, level: f64) -> PairedEstimate {
        let mut estimate = self.estimate.clone();
        let tail = (1.0 - level) / 2.0;
        estimate.interval = self.interval([tail, tail]);
        estimate.p_worse = match direction {
            Direction::HigherIsBetter => self.less,
            Direction::LowerIsBetter => self.greater,
        };
        estimate
    }

    /// The damage with its interval, at one-sided levels for its lower and its upper end.
    pub fn damage(&self, direction: Direction, levels: [f64; 2]) -> Damage {
        let mut estimate = self.estimate(direction, 1.0 - 2.0 * levels[0]);
        let closed = |ends: Option<[Option<f64>; 2]>| ends.and_then(|[low, high]| Some([low?, high?]));
        let negative = |x: f64| 0.0 - x;
        let (value, ends) = match direction {
            Direction::HigherIsBetter => {
                let ends = self.ends([levels[1], levels[0]]);
                estimate.interval = closed(ends);
                let mirrored = ends.map(|[low, high]| [high.map(negative), low.map(negative)]);
                (estimate.delta.map(negative), mirrored)
            }
            Direction::LowerIsBetter => {
                let ends = self.ends(levels);
                estimate.interval = closed(ends);
                (estimate.delta, ends)
            }
        };
        Damage { value, interval: closed(ends), ends, effective_n: self.effective_n, estimate }
    }

    /// By what factor the number of cases would have to grow for the verdict that the data lean to, all else being equal;
    /// one-sided levels for FAIL and for PASS. Deviations grow with the root of the number of cases.
    pub fn growth_needed(&self, direction: Direction, margin: f64, levels: [f64; 2]) -> Option<f64> {
        let p = [self.p_fail(direction, margin)?, self.p_pass(direction, margin)?];
        let side = usize::from(p[1] < p[0]);
        let (found, needed) = (upper_quantile(p[side]), -normal_quantile(levels[side]));
        (found > 0.0 && needed > 0.0).then(|| (needed / found).powi(2))
    }

    /// How far the floor reaches, for messages: `z²/(n + z²)` at the effective number of pairs.
    pub fn floor(&self, level: f64) -> Option<f64> {
        self.effective_n.map(|n| no_discordance(-normal_quantile(level), n))
    }
}
