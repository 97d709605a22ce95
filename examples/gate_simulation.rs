//! How often the gate is wrong, counted in worlds with a known truth, against the limits that it promises.
//!
//! `cargo run --release --example gate_simulation` prints every rate with its 95 % interval and the limit beside it, and exits
//! with 1 if one is broken; it takes some minutes. `-- --nights 1000` is quicker and less sharp, `-- --part catch` runs one part.
//! The seeds are fixed: the same build prints the same rates.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool prints its figures")]

use std::process::ExitCode;
use std::thread;

use spanscore::compare::simulate::{Rate, Simulation, self_check};
use spanscore::stats::paired::{DecisionPolicy, Direction, Measure, MetricQuestion, Verdict};
use spanscore::stats::random::Random;

#[path = "../tests/it/gate_worlds.rs"]
mod gate_worlds;

use gate_worlds::{Design, Flakes, World, clustered_coverage, exact, five_metrics, median_catch, months, rate};

const MARGINS: [f64; 3] = [0.01, 0.02, 0.05];
const SIZES: [usize; 14] = [10, 20, 30, 50, 75, 100, 150, 200, 250, 300, 400, 500, 750, 1000];
/// Discordance in margins.
const TIMES: [f64; 4] = [1.0, 1.5, 2.0, 4.0];
/// What a false PASS at a true drop equal to the margin may be.
const FALSE_PASS: f64 = 0.031;
const FALSE_FAIL: f64 = 0.025;

/// Baselines of several runs, repeats, clusters.
const DESIGNS: [(&str, Design); 7] = [
    ("pool of 3", Design::Pooled(3)),
    ("pool of 5", Design::Pooled(5)),
    ("3 repeats", Design::Repeats(3)),
    ("5 repeats", Design::Repeats(5)),
    ("clusters of 3, alike", Design::Clusters(3, 1.0)),
    ("clusters of 3, half alike", Design::Clusters(3, 0.5)),
    ("clusters of 5, somewhat alike", Design::Clusters(5, 0.2)),
];

type Part = fn(u64, &mut Report);

const PARTS: [(&str, Part); 8] = [
    ("single", single_runs),
    ("pass", false_passes),
    ("fail", false_fails),
    ("metrics", several_metrics),
    ("months", unchanged_months),
    ("catch", catches),
    ("coverage", coverage),
    ("self-check", own_data),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| arguments.iter().position(|a| a == flag).and_then(|at| arguments.get(at + 1));
    let Ok(nights) = value("--nights").map_or(Ok(4_000), |text| text.parse()) else {
        eprintln!("--nights takes a number");
        return ExitCode::from(2);
    };
    let mut report = Report::default();
    let only = value("--part");
    for (name, part) in PARTS {
        if only.is_none_or(|only| only == name) {
            part(nights, &mut report);
        }
    }
    if report.lines == 0 {
        eprintln!("--part takes one of {}", PARTS.map(|(name, _)| name).join(", "));
        return ExitCode::from(2);
    }
    if report.broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Prints as it goes.
#[derive(Default)]
struct Report {
    lines: u32,
    broken: bool,
}

impl Report {
    fn line(&mut self, what: &str, shown: &str, place: &str, fits: bool) {
        println!("{} {what}: {shown}{place}", if fits { "ok    " } else { "BROKEN" });
        self.lines += 1;
        self.broken |= !fits;
    }
}

/// Single runs need no simulation: every outcome is added up.
fn single_runs(_: u64, report: &mut Report) {
    let mut passes = Vec::new();
    let mut fails = Vec::new();
    for n in SIZES {
        for margin in MARGINS {
            for times in TIMES {
                let p = exact(n as u64, margin, margin * times, margin, 0.025, Verdict::Pass);
                passes.push((p, format!(" at n {n}, margin {margin}, discordance {}", margin * times)));
            }
        }
        for margin in [0.0, 0.02] {
            for discordance in [0.01, 0.04, 0.1, 0.2] {
                let p = exact(n as u64, 0.0, discordance, margin, 0.025, Verdict::Fail);
                fails.push((p, format!(" at n {n}, margin {margin}, discordance {discordance}")));
            }
        }
    }
    let (p, place) = worst(passes);
    let shown = format!("at most {:.2} %", 100.0 * p);
    report.line("false PASS at the margin, single runs, exact", &shown, &place, p <= FALSE_PASS);
    let (p, place) = worst(fails);
    let shown = format!("at most {:.2} %", 100.0 * p);
    report.line("false FAIL of unchanged single runs, exact", &shown, &place, p <= FALSE_FAIL);
}

/// A true drop of exactly the margin.
fn false_passes(nights: u64, report: &mut Report) {
    for (name, design) in DESIGNS {
        let mut worlds = Vec::new();
        for n in SIZES {
            for margin in MARGINS {
                for times in TIMES {
                    for flakes in [Flakes::Even, Flakes::Rare] {
                        let world = World { n, damage: margin, discordance: margin * times, design, flakes };
                        let same = matches!(design, Design::Clusters(..)) || times == 1.0;
                        if world.exists() && !(same && flakes == Flakes::Rare) {
                            worlds.push((world, margin));
                        }
                    }
                }
            }
        }
        let (worst, place) = worst_world(&worlds, Verdict::Pass, nights);
        report.line(&format!("false PASS at the margin, {name}"), &show(&worst), &place, worst.share <= FALSE_PASS);
    }
}

/// Unchanged runs, at the hardest margin (none) and at a usual one.
fn false_fails(nights: u64, report: &mut Report) {
    for (name, design) in DESIGNS {
        let mut worlds = Vec::new();
        for n in [20, 50, 100, 300, 1000] {
            for discordance in [0.02, 0.1, 0.2] {
                for margin in [0.0, 0.02] {
                    worlds.push((World { n, damage: 0.0, discordance, design, flakes: Flakes::Even }, margin));
                }
            }
        }
        let (worst, place) = worst_world(&worlds, Verdict::Fail, nights);
        // At margin 0 the limit is the level itself: an interval above it shows that it is broken.
        report.line(
            &format!("false FAIL of unchanged runs, {name}"),
            &show(&worst),
            &place,
            worst.ci95[0] <= FALSE_FAIL,
        );
    }
}

/// The world with the highest rate of a verdict, and that rate. A search finds it, and the highest of many counts is high by
/// chance as well: the candidates are counted again, in new nights each time, and only the last counts are reported.
fn worst_world(worlds: &[(World, f64)], verdict: Verdict, nights: u64) -> (Rate, String) {
    let count = |worlds: Vec<(World, f64)>, keep: usize, nights: u64, seeds: u64| {
        let found = in_parallel(&worlds, |(world, margin), seed| rate(world, *margin, verdict, nights, seeds + seed));
        let mut found: Vec<_> = worlds.into_iter().zip(found).collect();
        found.sort_by(|a, b| b.1.share.total_cmp(&a.1.share));
        found.truncate(keep);
        found
    };
    let worlds_of = |found: Vec<((World, f64), Rate)>| found.into_iter().map(|(world, _)| world).collect();
    let many = worlds_of(count(worlds.to_vec(), 12, nights, 0));
    let few = worlds_of(count(many, 2, 8 * nights, 1_000_000));
    let ((world, margin), worst) = count(few, 1, 32 * nights, 2_000_000).remove(0);
    let World { n, discordance, flakes, .. } = world;
    (worst, format!(" at n {n}, margin {margin}, discordance {discordance:.3}, {flakes:?}"))
}

fn several_metrics(nights: u64, report: &mut Report) {
    let kinds: Vec<(usize, f64)> = [100, 300].into_iter().flat_map(|n| [0.0, 0.02].map(|m| (n, m))).collect();
    let found = in_parallel(&kinds, |(n, margin), seed| five_metrics(*n, *margin, nights / 2, seed));
    for ((n, margin), (alone, any)) in kinds.iter().zip(found) {
        for (name, found) in ["accuracy", "macro-F1", "kappa", "score", "p95"].iter().zip(&alone) {
            let what = format!("false FAIL of {name} alone, n {n}, margin {margin}");
            report.line(&what, &show(found), "", found.ci95[0] <= FALSE_FAIL);
        }
        let what = format!("false FAIL of any of five metrics, n {n}, margin {margin}");
        report.line(&what, &show(&any), "", any.share <= 0.05);
    }
}

fn unchanged_months(nights: u64, report: &mut Report) {
    let kinds = [(300, 0.1, 0.0), (300, 0.3, 0.0), (500, 0.2, 0.02), (300, 0.3, 0.02), (100, 0.3, 0.02)];
    let found = in_parallel(&kinds, |(n, flaky, margin), seed| months(*n, *flaky, *margin, nights / 4, seed));
    for ((n, flaky, margin), found) in kinds.iter().zip(found) {
        let what = format!(
            "an alarm in 30 unchanged nights against one run, n {n}, {flaky} of the cases flaky, margin {margin}"
        );
        report.line(&what, &show(&found), "", found.share <= 0.05);
    }
}

fn catches(nights: u64, report: &mut Report) {
    let kinds: Vec<(f64, Option<u32>)> = [None, Some(1), Some(3)]
        .into_iter()
        .flat_map(|fixed| [0.05, 0.065, 0.08, 0.10, 0.12, 0.16, 0.20].map(|q| (q, fixed)))
        .collect();
    let found = in_parallel(&kinds, |(discordance, fixed), seed| {
        let world =
            World { n: 500, damage: 0.05, discordance: *discordance, design: Design::Single, flakes: Flakes::Even };
        median_catch(&world, 0.02, *fixed, nights / 4, seed)
    });
    for ((discordance, fixed), found) in kinds.iter().zip(found) {
        let how = match fixed {
            None => "each night drawn anew".to_owned(),
            Some(runs) => format!("the same cases every night, baseline of {runs}"),
        };
        let limit = if fixed.is_none() && *discordance <= 0.08 { 3 } else { u32::MAX };
        let what = format!("nights to catch a drop of .05, n 500, margin .02, discordance {discordance}, {how}");
        report.line(&what, &format!("median {found}"), "", found <= limit);
    }
}

fn coverage(nights: u64, report: &mut Report) {
    for (numeric, name) in [(true, "numbers"), (false, "answers")] {
        for clusters in [20, 50] {
            let found = clustered_coverage(clusters, numeric, nights, 77);
            let what = format!("coverage of the clustered interval, {name}, {clusters} clusters");
            report.line(&what, &show(&found), "", (0.93..=0.97).contains(&found.share));
        }
    }
}

/// What `gate --self-check` says of a world whose truth is known.
fn own_data(nights: u64, report: &mut Report) {
    let world = World { n: 500, damage: 0.0, discordance: 0.08, design: Design::Single, flakes: Flakes::Even };
    let pairs = world.night(&mut Random::seeded(5));
    let question = MetricQuestion {
        name: "accuracy",
        measure: Measure::Mean { pairs: &pairs, range: Some([0.0, 1.0]) },
        direction: Direction::HigherIsBetter,
        margin: 0.02,
    };
    let how = Simulation { nights: nights as u32, ..Simulation::default() };
    let found = self_check(&[question], &DecisionPolicy { horizon: 1, ..DecisionPolicy::default() }, &how);
    let metric = &found.metrics[0];
    let fail = metric.unchanged.fail;
    report.line("self-check, false FAIL of unchanged nights, n 500", &show(&fail), "", fail.share <= FALSE_FAIL);
    if let Some(at_margin) = metric.at_margin {
        let pass = at_margin.pass;
        report.line("self-check, false PASS at the margin, n 500", &show(&pass), "", pass.share <= FALSE_PASS);
    }
    if let Some(beyond) = metric.beyond {
        report.line("self-check, a drop of .06 caught in one night, n 500", &show(&beyond.fail), "", true);
    }
}

fn show(rate: &Rate) -> String {
    let [low, high] = rate.ci95.map(|x| 100.0 * x);
    format!("{:.2} % ({low:.2} to {high:.2}) of {} nights", 100.0 * rate.share, rate.nights)
}

fn worst(table: Vec<(f64, String)>) -> (f64, String) {
    table.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default()
}

/// Runs the work on two threads; seeds follow the place, so that the result does not depend on the threads.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T, u64) -> R + Sync) -> Vec<R> {
    let work = &work;
    let mut found: Vec<(usize, R)> = thread::scope(|scope| {
        let halves: Vec<_> = (0..2)
            .map(|half| {
                scope.spawn(move || {
                    let mine = items.iter().enumerate().skip(half).step_by(2);
                    mine.map(|(i, item)| (i, work(item, 1 + i as u64))).collect::<Vec<_>>()
                })
            })
            .collect();
        halves.into_iter().flat_map(|half| half.join().expect("the work does not panic")).collect()
    });
    found.sort_by_key(|(i, _)| *i);
    found.into_iter().map(|(_, result)| result).collect()
}
