//! Where a series of nightly scores changed its level: E-divisive change points with permutation p-values.
//!
//! A segment is split where the energy distance between what lies before and after is greatest, and again, until no split is
//! significant (Matteson & James 2014, A nonparametric approach for multiple change point analysis of multivariate data).
//! Whether a split is, is judged against the same search in shuffled segments. Nights that resemble their neighbours are
//! shuffled in blocks, for shuffling them one by one would take their drift for changes.

use super::random::Random;

/// How to look for changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChangeSettings {
    /// The fewest points between changes, and before the first and after the last; at least 2.
    pub least_points: usize,
    /// The p-value up to which a change is believed.
    pub level: f64,
    /// How many times the segments are shuffled.
    pub permutations: u32,
    /// Of the generator: the same seed gives the same changes.
    pub seed: u64,
}

impl Default for ChangeSettings {
    fn default() -> Self {
        Self { least_points: 3, level: 0.05, permutations: 499, seed: 0x7472_656e }
    }
}

/// A change of the level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChangePoint {
    /// The first point at the new level.
    pub index: usize,
    /// Mean of the points since the change before.
    pub before: f64,
    /// Mean of the points until the next change.
    pub after: f64,
    /// Of no change in the segment that was split here.
    pub p_value: f64,
}

/// Above this lag-1 correlation of what the split leaves over, nights are shuffled in blocks. One below 0 makes long spells on
/// one level rarer than chance does, so that shuffling nights one by one is on the safe side.
const CORRELATED: f64 = 0.2;
/// Shorter series have too few blocks for any change to be significant, and half of them correlate as much by chance: there
/// the correlation must be more than this many deviations of independent nights.
const FEW: usize = 16;
const BEYOND_CHANCE: f64 = 1.645;

/// Longer series are cut to their last points: the search takes the square of their number.
const MOST: usize = 500;

/// The changes of a series of finite numbers in the order of time.
pub fn change_points(series: &[f64], settings: &ChangeSettings) -> Vec<ChangePoint> {
    let skipped = series.len().saturating_sub(MOST);
    let recent = &series[skipped..];
    let least = settings.least_points.max(2);
    let mut random = Random::seeded(settings.seed);
    let mut found: Vec<(usize, f64)> = Vec::new();
    let mut open = vec![(0, recent.len())];
    while let Some((start, end)) = open.pop() {
        let segment = &recent[start..end];
        let Some(split) = best_split(segment, least) else { continue };
        let p_value = p_value(segment, &split, settings, least, &mut random);
        if p_value <= settings.level {
            found.push((start + split.at, p_value));
            open.push((start, start + split.at));
            open.push((start + split.at, end));
        }
    }
    found.sort_by_key(|(index, _)| *index);
    let ends: Vec<usize> =
        std::iter::once(0).chain(found.iter().map(|(index, _)| *index)).chain([recent.len()]).collect();
    let mean = |from: usize, to: usize| recent[from..to].iter().sum::<f64>() / (to - from) as f64;
    let changes = found.iter().zip(ends.windows(3)).map(|(&(index, p_value), around)| ChangePoint {
        index: index + skipped,
        before: mean(around[0], index),
        after: mean(index, around[2]),
        p_value,
    });
    changes.collect()
}

struct Split {
    at: usize,
    /// The end of what was compared with the points before; the segment may change again after it.
    end: usize,
    statistic: f64,
}

/// The split with the greatest energy statistic, over every place and every end of the part after it; `None` where the
/// segment is too short or does not vary.
fn best_split(segment: &[f64], least: usize) -> Option<Split> {
    let n = segment.len();
    if n < 2 * least {
        return None;
    }
    // Sums of distances: `within[i][j]` over pairs i ≤ a < b < j, by rows of the upper triangle.
    let mut columns = vec![0.0; n * (n + 1)];
    for i in 0..n {
        for j in 0..n {
            columns[i * (n + 1) + j + 1] = columns[i * (n + 1) + j] + (segment[i] - segment[j]).abs();
        }
    }
    // The sum of distances between point i and the points a..b.
    let to = |i: usize, a: usize, b: usize| columns[i * (n + 1) + b] - columns[i * (n + 1) + a];
    let mut best: Option<Split> = None;
    let mut first = (1..least).map(|i| to(i, 0, i)).sum::<f64>();
    for at in least..=n - least {
        if at > least {
            first += to(at - 1, 0, at - 1);
        }
        let (mut second, mut between) = (0.0, 0.0);
        for end in at + 1..=n {
            second += to(end - 1, at, end - 1);
            between += to(end - 1, 0, at);
            let (before, after) = (at as f64, (end - at) as f64);
            if end - at < least {
                continue;
            }
            let energy = 2.0 * between / (before * after)
                - 2.0 * first / (before * (before - 1.0))
                - 2.0 * second / (after * (after - 1.0));
            let statistic = before * after / (before + after) * energy;
            if best.as_ref().is_none_or(|best| statistic > best.statistic) {
                best = Some(Split { at, end, statistic });
            }
        }
    }
    best.filter(|split| split.statistic > 0.0)
}

/// The share of shuffles with a statistic as great, by `(r + 1)/(B + 1)`.
fn p_value(segment: &[f64], split: &Split, settings: &ChangeSettings, least: usize, random: &mut Random) -> f64 {
    let n = segment.len();
    let limit = if n < FEW { BEYOND_CHANCE / (n as f64).sqrt() } else { CORRELATED };
    let block = if correlation(segment, split) > limit { block_length(n) } else { 1 };
    let blocks: Vec<&[f64]> = segment.chunks(block).collect();
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    let mut shuffled = Vec::with_capacity(segment.len());
    let mut as_great = 0u32;
    for done in 1..=settings.permutations {
        for i in (1..order.len()).rev() {
            order.swap(i, (random.unit() * (i + 1) as f64) as usize);
        }
        shuffled.clear();
        shuffled.extend(order.iter().flat_map(|&i| blocks[i].iter().copied()));
        let statistic = best_split(&shuffled, least).map_or(0.0, |found| found.statistic);
        as_great += u32::from(statistic >= split.statistic * (1.0 - 1e-12));
        // It can no longer become significant.
        if f64::from(as_great + 1) > settings.level * f64::from(settings.permutations + 1) {
            return f64::from(as_great + 1) / f64::from(done + 1);
        }
    }
    f64::from(as_great + 1) / f64::from(settings.permutations + 1)
}

/// The lag-1 correlation of what is left when each part's mean is taken away: the change itself must not count as one.
fn correlation(segment: &[f64], split: &Split) -> f64 {
    let mut left = Vec::with_capacity(segment.len());
    for part in [&segment[..split.at], &segment[split.at..split.end], &segment[split.end..]] {
        let mean = part.iter().sum::<f64>() / part.len().max(1) as f64;
        left.extend(part.iter().map(|x| x - mean));
    }
    let squares: f64 = left.iter().map(|x| x * x).sum();
    if squares <= 0.0 { 0.0 } else { left.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / squares }
}

/// The third root of the number of points, the usual order for blocks (Hall, Horowitz & Jing 1995, On blocking rules for the
/// bootstrap with dependent data). Longer ones leave a month so few orders that no change could be significant.
fn block_length(points: usize) -> usize {
    (points as f64).cbrt().max(2.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: u64, memory: f64) -> Vec<f64> {
        let mut random = Random::seeded(seed);
        let mut last = 0.0;
        let step = |random: &mut Random| (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
        (0..n)
            .map(|_| {
                last = memory * last + step(&mut random);
                last
            })
            .collect()
    }

    #[test]
    fn a_drop_is_found_where_it_happened() {
        let mut series = noise(40, 1, 0.0);
        for x in &mut series[25..] {
            *x -= 4.0;
        }
        let found = change_points(&series, &ChangeSettings::default());
        assert_eq!(found.iter().map(|c| c.index).collect::<Vec<_>>(), [25]);
        assert!(found[0].p_value <= 0.02 && found[0].before - found[0].after > 3.0, "{found:?}");
    }

    #[test]
    fn a_passing_dip_has_two_ends() {
        let mut series = noise(60, 2, 0.0);
        for x in &mut series[20..35] {
            *x -= 6.0;
        }
        let found = change_points(&series, &ChangeSettings::default());
        assert_eq!(found.iter().map(|c| c.index).collect::<Vec<_>>(), [20, 35], "{found:?}");
    }

    /// Drops of ten deviations in series of a few weeks, and alarms in series that only have a memory.
    #[test]
    fn short_series_show_their_drops_and_memory_is_not_taken_for_one() {
        let settings = ChangeSettings { permutations: 99, ..ChangeSettings::default() };
        for n in [8, 10, 14, 20, 30] {
            let found = (0..60).filter(|seed| {
                let mut series = noise(n, 500 + seed, 0.0);
                series[n / 2..].iter_mut().for_each(|x| *x -= 10.0);
                change_points(&series, &settings).iter().any(|change| change.index == n / 2)
            });
            let found = found.count();
            assert!(found >= 48, "{found} of 60 at {n} points");
        }
        let alarms = (0..200).filter(|seed| !change_points(&noise(30, 900 + seed, 0.4), &settings).is_empty()).count();
        // A memory of .4 wanders: one series in four shows a level that it kept for a while. Longer blocks do not change that.
        assert!(alarms <= 65, "{alarms} of 200");
    }

    #[test]
    fn what_does_not_vary_or_is_short_has_no_change() {
        assert_eq!(change_points(&[], &ChangeSettings::default()), []);
        assert_eq!(change_points(&[1.0, 5.0, 1.0, 5.0, 9.0], &ChangeSettings::default()), []);
        assert_eq!(change_points(&[0.7; 50], &ChangeSettings::default()), []);
    }

    #[test]
    fn unchanged_series_seldom_show_one() {
        let settings = ChangeSettings { permutations: 99, ..ChangeSettings::default() };
        let alarms = (0..200).filter(|seed| !change_points(&noise(30, 100 + seed, 0.0), &settings).is_empty()).count();
        // 5 % of 200 is 10, with a deviation of 3.
        assert!(alarms <= 20, "{alarms}");
    }

    /// The statistic by its definition.
    #[test]
    fn the_split_is_the_best_by_definition() {
        let series = noise(14, 5, 0.0);
        let distance = |a: &[f64], b: &[f64]| -> f64 {
            a.iter().map(|x| b.iter().map(|y| (x - y).abs()).sum::<f64>()).sum::<f64>()
        };
        let mut best = (0.0, 0, 0);
        for at in 3..=11 {
            for end in at + 3..=14 {
                let (one, other) = (&series[..at], &series[at..end]);
                let (m, n) = (one.len() as f64, other.len() as f64);
                let energy = 2.0 * distance(one, other) / (m * n)
                    - distance(one, one) / (m * (m - 1.0))
                    - distance(other, other) / (n * (n - 1.0));
                let q = m * n / (m + n) * energy;
                if q > best.0 {
                    best = (q, at, end);
                }
            }
        }
        let found = best_split(&series, 3).expect("long enough");
        assert_eq!((found.at, found.end), (best.1, best.2));
        assert!((found.statistic - best.0).abs() < 1e-9);
    }
}
