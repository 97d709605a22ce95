//! How often the gate is wrong, in few nights; `examples/gate_simulation.rs` counts many. Seeds are fixed. A rate must not lie
//! above its limit by more than chance allows: the lower end of its 95 % interval is held to the limit.

use spanscore::compare::simulate::Rate;
use spanscore::stats::paired::Verdict;

use crate::gate_worlds::{Design, Flakes, World, clustered_coverage, exact, five_metrics, median_catch, months, rate};

fn within(found: Rate, limit: f64, what: &str) {
    assert!(found.ci95[0] <= limit, "{what}: {found:?} is above {limit}");
}

#[test]
fn single_runs_pass_falsely_at_most_as_often_as_promised() {
    for n in [10, 50, 100, 200, 400] {
        for margin in [0.01, 0.02, 0.05] {
            for times in [1.0, 2.0, 4.0] {
                let p = exact(n, margin, margin * times, margin, 0.025, Verdict::Pass);
                assert!(p <= 0.031, "n {n}, margin {margin}, {times} times: {p}");
            }
        }
    }
}

#[test]
fn unchanged_single_runs_fail_falsely_at_most_as_often_as_promised() {
    for n in [20, 100, 400] {
        for discordance in [0.01, 0.1, 0.2] {
            let p = exact(n, 0.0, discordance, 0.0, 0.025, Verdict::Fail);
            assert!(p <= 0.025, "n {n}, discordance {discordance}: {p}");
        }
    }
}

#[test]
fn pools_repeats_and_clusters_keep_the_limits_too() {
    let designs = [Design::Pooled(3), Design::Repeats(3), Design::Clusters(3, 1.0), Design::Clusters(3, 0.5)];
    for (seed, design) in (1..).zip(designs) {
        for (n, margin) in [(75, 0.05), (300, 0.05), (300, 0.02)] {
            for flakes in [Flakes::Even, Flakes::Rare] {
                for times in [1.0, 4.0] {
                    let world = World { n, damage: margin, discordance: margin * times, design, flakes };
                    if world.exists() {
                        within(rate(&world, margin, Verdict::Pass, 300, seed), 0.031, &format!("{world:?} passes"));
                    }
                }
                let same = World { n, damage: 0.0, discordance: 0.1, design, flakes };
                within(rate(&same, 0.0, Verdict::Fail, 300, seed), 0.025, &format!("{same:?} fails"));
            }
        }
    }
}

#[test]
fn five_metrics_together_fail_falsely_at_most_as_often_as_promised() {
    let (alone, any) = five_metrics(100, 0.0, 60, 1);
    for found in alone {
        within(found, 0.025, "one metric");
    }
    within(any, 0.05, "any of five");
}

#[test]
fn a_month_without_a_change_seldom_alarms() {
    within(months(200, 0.3, 0.0, 40, 1), 0.05, "no margin");
    within(months(200, 0.3, 0.02, 40, 2), 0.05, "a margin of .02");
}

#[test]
fn a_drop_of_five_points_is_caught_within_three_nights() {
    let drop = |discordance| World { n: 500, damage: 0.05, discordance, design: Design::Single, flakes: Flakes::Even };
    assert!(median_catch(&drop(0.05), 0.02, None, 61, 1) <= 3);
    assert!(median_catch(&drop(0.08), 0.02, None, 301, 1) <= 3);
    // With the same cases in every night, chance does not come anew: a noisy baseline takes longer.
    assert!(median_catch(&drop(0.05), 0.02, Some(3), 61, 1) <= 3);
}

#[test]
fn intervals_of_few_clusters_hold_the_truth_as_often_as_they_say() {
    for numeric in [true, false] {
        let found = clustered_coverage(20, numeric, 1500, 77);
        assert!((0.93..=0.97).contains(&found.share), "{numeric}: {found:?}");
    }
}
