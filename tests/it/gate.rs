//! Comparing and gating from the command line: what is said, and with which exit code.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Ran, Scratch};

/// Cases without groups, enough for a verdict at a wide margin.
pub(crate) const CASES: usize = 60;

/// A claim file whose rows the built-in model mostly gets right.
pub(crate) fn claims(cases: usize, group: impl Fn(usize) -> String, words: &str) -> String {
    let mut text = String::from("id,claim,context,label,group,part\n");
    for n in 0..cases {
        let (claim, label) = match n % 3 {
            0 => (format!("Bee {n} dances {words}."), "True"),
            1 => (format!("Bee {n} never dances {words}."), "False"),
            _ => (format!("Ship {n} carries salt {words}."), "NEE"),
        };
        let part = if n % 2 == 0 { "even" } else { "odd" };
        writeln!(text, "c{n:03},{claim},Bee {n} dances {words} and others follow it.,{label},{},{part}", group(n))
            .expect("written");
    }
    text
}

/// Answers of which every `wrong`-th is wrong.
pub(crate) fn answers(cases: usize, wrong: usize) -> String {
    let mut text = String::new();
    for n in 0..cases {
        let right = ["True", "False", "NEE"];
        let label = if wrong > 0 && n % wrong == 0 { right[(n + 1) % 3] } else { right[n % 3] };
        writeln!(text, "{}", json!({"id": format!("c{n:03}"), "output": label})).expect("written");
    }
    text
}

/// A store with the runs `good` (all right) and `bad` (every second wrong), and a baseline of the first.
pub(crate) fn scene() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("claims.csv", claims(CASES, |_| String::new(), "today"));
    scratch.write("good.jsonl", answers(CASES, 0));
    scratch.write("bad.jsonl", answers(CASES, 2));
    scratch.json(&["run", "--replay", "good.jsonl", "--name", "good"]);
    scratch.json(&["run", "--replay", "bad.jsonl", "--name", "bad"]);
    scratch.json(&["baseline", "save", "good", "-o", "baseline.json"]);
    scratch
}

/// At this margin and without a horizon a run without a change passes.
const WIDE: [&str; 4] = ["--margin", "accuracy=0.3", "--horizon", "1"];

pub(crate) fn gate(scratch: &Scratch, run: &str, baseline: &str, more: &[&str]) -> Ran {
    let mut args = vec!["gate", run, "--baseline", baseline];
    args.extend(WIDE);
    args.extend(more);
    scratch.run(&args)
}

#[test]
fn the_verdict_is_the_exit_code() {
    let scratch = scene();
    let verdict = |ran: &Ran| (ran.code, ran.stdout.lines().next().unwrap_or_default().to_owned());
    assert_eq!(verdict(&gate(&scratch, "good", "baseline.json", &[])), (0, "Gate  PASS".to_owned()));
    let failed = gate(&scratch, "bad", "baseline.json", &[]);
    assert_eq!(verdict(&failed), (1, "Gate  FAIL".to_owned()), "{}", failed.stdout);
    // The regressed cases are named with where to look in both runs.
    assert!(failed.stdout.contains("Regressed") && failed.stdout.contains("c000"), "{}", failed.stdout);
    assert!(failed.stderr.contains("spanscore trace "), "{}", failed.stderr);
    let undecided = gate(&scratch, "good", "baseline.json", &["--margin", "accuracy=0.01", "--horizon", "30"]);
    assert_eq!(undecided.code, 2, "a flag given twice is a slip: {}", undecided.stderr);
    let args = ["gate", "good", "--baseline", "baseline.json", "--margin", "accuracy=0.01"];
    let undecided = scratch.run(&args);
    assert_eq!(verdict(&undecided), (3, "Gate  INCONCLUSIVE".to_owned()));
    assert!(undecided.stdout.contains("more cases are needed"), "{}", undecided.stdout);
    // The last verdict is part of the run's report from now on, and the report says it as the gate did.
    let mut args = args.to_vec();
    args.extend(["--format", "json"]);
    let said: Value = serde_json::from_str(&scratch.run(&args).stdout).expect("one document");
    assert_eq!(scratch.json(&["show", "good"])["gate"], said);
    assert_eq!(said["verdict"], "INCONCLUSIVE");
    assert!(said["metrics"][0]["damage"][1].as_f64().expect("a number") > 0.01);
}

#[test]
fn a_case_that_must_pass_fails_the_gate_by_itself() {
    let scratch = scene();
    let wide = ["--margin", "accuracy=0.99"];
    let run = |more: &[&str]| {
        let args = [&["gate", "bad", "--baseline", "baseline.json", "--horizon", "1"], &wide[..], more].concat();
        scratch.run(&args)
    };
    assert_eq!(run(&[]).code, 0);
    assert_eq!(run(&["--must-pass", "c001"]).code, 0, "that one is right");
    let failed = run(&["--must-pass", "c000"]);
    assert_eq!(failed.code, 1);
    assert!(failed.stdout.contains("case c000 must pass: label_match gave 0 for `False` where True was expected"));
    let missing = run(&["--must-pass", "nobody"]);
    assert_eq!((missing.code, missing.stdout.contains("case nobody must pass: it is not in the run")), (1, true));
}

#[test]
fn a_case_that_must_pass_is_looked_at_whatever_cannot_be_judged() {
    let scratch = scene();
    let gate = |run: &str, case: &str, baseline: &str| {
        let ran = scratch.run(&["gate", run, "--baseline", baseline, "--must-pass", case]);
        (ran.code, ran.stdout)
    };
    scratch.write("broken.json", "{");
    scratch.write("some.jsonl", answers(CASES - 2, 2));
    scratch.json(&["run", "--replay", "some.jsonl", "--name", "some"]);
    // Answered wrong: FAIL, whether the baseline cannot be read or the run lacks answers; both reasons are given.
    for (run, baseline, other) in
        [("bad", "broken.json", "is damaged"), ("some", "baseline.json", "has no answer for 2")]
    {
        let (code, said) = gate(run, "c000", baseline);
        assert!(code == 1 && said.starts_with("Gate  FAIL\n") && said.contains("case c000 must pass"), "{said}");
        assert!(said.contains(other), "{said}");
        assert_eq!(gate(run, "c001", baseline).0, 3, "that one is right");
    }
    // Without an answer, or not in the run: no more than INVALID where nothing can be judged.
    for case in ["c059", "nobody"] {
        let (code, said) = gate("some", case, "baseline.json");
        assert!(code == 3 && said.starts_with("Gate  INVALID\n") && said.contains("must pass"), "{said}");
    }
}

#[test]
fn must_pass_does_not_switch_the_metrics_off() {
    let scratch = scene();
    let gate = |metrics: &str| {
        let suite = "[suite]\nname = \"small\"\ndataset = \"claims.csv\"\n\n[model]\nprovider = \"builtin\"\n\n";
        scratch.write("spanscore.toml", format!("{suite}[gate]\nhorizon = 1\nmust_pass = [\"c001\"]\n{metrics}"));
        scratch.run(&["gate", "bad", "--baseline", "baseline.json"])
    };
    // Half of the answers are wrong, though not that one.
    let default = gate("");
    assert_eq!((default.code, default.stdout.contains("more than the margin 0.02")), (1, true), "{}", default.stdout);
    assert!(default.stdout.contains("accuracy"), "{}", default.stdout);
    let alone = gate("metrics = {}\n");
    assert_eq!(alone.code, 0, "{}", alone.stdout);
    assert!(alone.stdout.contains("1 of 1 must-pass cases passed; no metric is gated"), "{}", alone.stdout);
    let nothing = scratch.path().join("spanscore.toml");
    let text = std::fs::read_to_string(&nothing).expect("readable").replace("must_pass = [\"c001\"]\n", "");
    std::fs::write(nothing, text).expect("written");
    let asked = scratch.run(&["gate", "bad", "--baseline", "baseline.json"]);
    assert_eq!((asked.code, asked.stderr.contains("the gate asks for nothing")), (2, true), "{}", asked.stderr);
}

#[test]
fn a_run_beside_itself_has_not_changed() {
    let scratch = scene();
    let same = scratch.json(&["compare", "good", "good", "--by", "col.part"]);
    assert_eq!((&same["differs"], &same["invalid"]), (&json!([]), &json!([])));
    assert_eq!(same["cases"]["counts"]["unchanged"], CASES);
    assert_eq!(same["cases"]["regressed"], json!([]));
    let metrics = same["metrics"].as_array().expect("metrics");
    assert!(metrics.len() > 5 && metrics.iter().all(|metric| metric["delta"] == 0.0 && metric["change"].is_null()));
    let typo = scratch.run(&["compare", "good", "good", "--allow", "lable_match"]);
    assert!(
        typo.code == 2 && typo.stderr.contains("they have") && typo.stderr.contains("label_match"),
        "{}",
        typo.stderr
    );
    let unknown = scratch.run(&["compare", "good", "good", "--by", "col.nothing"]);
    assert_eq!((unknown.code, unknown.stderr.contains("no case of it has such a column; it has part")), (2, true));
    // Of two parts each.
    assert_eq!(same["slices"].as_array().expect("slices").len(), 2);
}

#[test]
fn swapped_operands_mirror_each_other() {
    let scratch = scene();
    let (there, back) = (scratch.json(&["compare", "good", "bad"]), scratch.json(&["compare", "bad", "good"]));
    assert_eq!(there["cases"]["counts"]["regressed"], back["cases"]["counts"]["improved"]);
    assert_eq!(there["cases"]["regressed"].as_array().expect("a list").len(), CASES / 2);
    let number = |x: &Value| x.as_f64().expect("a number");
    for (one, other) in
        there["metrics"].as_array().expect("a list").iter().zip(back["metrics"].as_array().expect("a list"))
    {
        assert_eq!((&one["base"], &one["head"]), (&other["head"], &other["base"]));
        assert!((number(&one["delta"]) + number(&other["delta"])).abs() < 1e-12, "{one} {other}");
    }
    let accuracy = |document: &Value| document["metrics"][0].clone();
    let (one, other) = (accuracy(&there), accuracy(&back));
    assert_eq!((&one["discordant"], &other["discordant"]), (&json!([30, 0]), &json!([0, 30])));
    assert_eq!(one["p_value"], other["p_value"]);
    // Half of the 60 pairs differ: it takes more than an eighth to be found four times in five, and less than three tenths.
    let detectable = number(&one["detectable"]);
    assert!(detectable == number(&other["detectable"]) && (0.125..0.3).contains(&detectable), "{detectable}");
    let text = scratch.run(&["compare", "good", "bad"]).stdout;
    assert!(text.contains(&format!("50.0 % differ show a true difference of {detectable:.3}")), "{text}");
    assert!(there["metrics"][1]["detectable"].is_null(), "macro-F1 has no such test");
    for end in 0..2 {
        assert!((number(&one["ci95"][end]) + number(&other["ci95"][1 - end])).abs() < 1e-9);
    }
    assert_eq!((&one["change"], &other["change"]), (&json!("worse"), &json!("better")));
    // Both outputs and both traces of a case that got worse.
    let case = &there["cases"]["regressed"][0];
    assert_eq!((&case["base"]["outputs"], &case["head"]["outputs"]), (&json!(["True"]), &json!(["False"])));
    for side in ["base", "head"] {
        let trace = case[side]["trace_id"].as_str().expect("a trace");
        assert_eq!(scratch.run(&["trace", trace]).code, 0);
    }
    assert!(case["claim"].as_str().expect("a claim").starts_with("Bee 0 dances"));
}

#[test]
fn a_baseline_of_the_same_runs_has_the_same_bytes_and_compares_as_the_run_does() {
    let scratch = scene();
    let first = std::fs::read_to_string(scratch.path().join("baseline.json")).expect("readable");
    assert_eq!(scratch.run(&["baseline", "save", "good", "-o", "baseline.json"]).code, 2, "nothing is overwritten");
    scratch.json(&["baseline", "save", "good", "-o", "again.json"]);
    assert_eq!(std::fs::read_to_string(scratch.path().join("again.json")).expect("readable"), first);
    let cases: Vec<&str> = first.lines().filter(|line| line.starts_with("{\"id\":\"c0")).collect();
    assert!(cases.len() == CASES && cases.is_sorted(), "one case a line, by id");
    let (run, pinned) = (scratch.json(&["compare", "good", "bad"]), scratch.json(&["compare", "baseline.json", "bad"]));
    let (run_metrics, pinned_metrics) = (&run["metrics"], &pinned["metrics"]);
    assert_eq!(run_metrics[0], pinned_metrics[0]);
    // Latencies are kept to the microsecond.
    for (one, other) in run_metrics.as_array().expect("a list").iter().zip(pinned_metrics.as_array().expect("a list")) {
        let off = one["base"].as_f64().expect("a number") - other["base"].as_f64().expect("a number");
        assert!(off.abs() < 1e-3, "{one} {other}");
    }
    assert_eq!(run["cases"]["regressed"][0]["base"]["trace_id"], pinned["cases"]["regressed"][0]["base"]["trace_id"]);
    // Reformatted it says the same; and what it says is shown.
    let value: Value = serde_json::from_str(&first).expect("JSON");
    scratch.write("again.json", serde_json::to_string(&value).expect("JSON"));
    assert_eq!(gate(&scratch, "good", "again.json", &[]).code, 0);
    assert!(scratch.run(&["baseline", "show", "again.json"]).stdout.contains("label_match  1  over 60 cases"));
}

#[test]
fn runs_of_the_same_thing_are_pooled_and_others_refused() {
    let scratch = scene();
    scratch.json(&["run", "--replay", "good.jsonl", "--name", "twin", "--tag", "n=2"]);
    let refused = scratch.run(&["baseline", "save", "good", "bad", "-o", "pool.json"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("cannot be pooled: model differs"), "{}", refused.stderr);
    assert!(!scratch.path().join("pool.json").exists());
    let saved = scratch.json(&["baseline", "save", "good", "twin", "-o", "pool.json"]);
    assert_eq!(saved["runs"].as_array().expect("a list").len(), 2);
    let compared = scratch.json(&["compare", "pool.json", "bad"]);
    assert_eq!((&compared["base"]["trials_per_case"], &compared["pairs"]), (&json!(2), &json!(CASES)));
    assert_eq!(compared["cases"]["regressed"][0]["base"]["outputs"], json!(["True", "True"]));
    // Accepting replaces the level, and says so.
    let accepted = scratch.run(&["baseline", "accept", "bad", "--baseline", "pool.json"]);
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    assert!(accepted.stderr.contains("level of accuracy: 1 → 0.5"), "{}", accepted.stderr);
    assert_eq!(gate(&scratch, "bad", "pool.json", &[]).code, 0);
}

#[test]
fn a_run_is_judged_as_it_ends_under_its_suites_policy() {
    let scratch = scene();
    let suite = "[suite]\nname = \"small\"\ndataset = \"claims.csv\"\n\n[model]\nprovider = \"builtin\"\n\n\
        [gate]\nmetrics = { accuracy = { margin = 0.3 } }\nhorizon = 1\n";
    scratch.write("spanscore.toml", suite);
    let run = |answers: &str, more: &[&str]| {
        scratch.run(&[&["run", "--replay", answers, "--gate", "baseline.json", "--format", "json"], more].concat())
    };
    let (passed, failed) = (run("good.jsonl", &[]), run("bad.jsonl", &[]));
    assert_eq!((passed.code, failed.code), (0, 1), "{} {}", passed.stderr, failed.stderr);
    let report: Value = serde_json::from_str(&failed.stdout).expect("one document");
    assert_eq!(report["gate"]["verdict"], "FAIL");
    assert_eq!(report["gate"]["regressed"].as_array().expect("a list").len(), 20);
    let shown = scratch.run(&["show", "latest"]);
    assert!(shown.stdout.contains("Gate  FAIL  against baseline.json"), "{}", shown.stdout);
    // What is known to be in vain is not paid for.
    assert_eq!(run("good.jsonl", &["--gate", "nowhere.json"]).code, 2);
    scratch.write("spanscore.toml", suite.replace("accuracy", "acuracy"));
    let runs = scratch.json(&["runs"]).as_array().expect("a list").len();
    let refused = scratch.run(&["run", "--replay", "good.jsonl", "--gate", "baseline.json"]);
    assert_eq!((refused.code, refused.stderr.contains("did you mean `accuracy`?")), (2, true), "{}", refused.stderr);
    assert_eq!(scratch.json(&["runs"]).as_array().expect("a list").len(), runs);
}

#[test]
fn a_fail_that_must_be_confirmed_waits_for_the_next_run() {
    let scratch = scene();
    let suite = "[suite]\nname = \"small\"\ndataset = \"claims.csv\"\n\n[model]\nprovider = \"builtin\"\n\n\
        [gate]\nmetrics = { accuracy = { margin = 0.3 } }\nhorizon = 1\nconfirm = 2\n";
    scratch.write("spanscore.toml", suite);
    let run = |answers: &str| scratch.run(&["run", "--replay", answers, "--gate", "baseline.json", "--quiet"]).code;
    assert_eq!([run("bad.jsonl"), run("bad.jsonl")], [3, 1]);
    assert_eq!([run("good.jsonl"), run("bad.jsonl")], [0, 3], "a good run in between begins the count anew");
    // A run that nobody judges is no night.
    scratch.json(&["run", "--replay", "good.jsonl", "--limit", "5"]);
    assert_eq!(run("bad.jsonl"), 1);
    // A metric that fails already needs no further runs, only the next night.
    let runs = || scratch.json(&["runs"]).as_array().expect("a list").len();
    assert_eq!([run("good.jsonl"), run("bad.jsonl")], [0, 3]);
    let before = runs();
    let extended = scratch.run(&["gate", "latest", "--baseline", "baseline.json", "--extend"]);
    assert_eq!((extended.code, runs()), (3, before), "{}{}", extended.stdout, extended.stderr);
    assert!(extended.stdout.contains("accuracy fails for the first time"), "{}", extended.stdout);
}

#[test]
fn the_level_of_a_score_is_followed_night_by_night() {
    let scratch = scene();
    for night in 0..10 {
        let answers = if night < 5 { "good.jsonl" } else { "bad.jsonl" };
        scratch.json(&["run", "--replay", answers, "--name", &format!("night-{night}")]);
    }
    let trend = scratch.json(&["trend", "--last", "10", "--by", "col.part"]);
    assert_eq!((&trend["score"], &trend["suite"]), (&json!("label_match"), &json!("small")));
    let means: Vec<f64> =
        trend["points"].as_array().expect("points").iter().map(|p| p["mean"].as_f64().expect("a mean")).collect();
    assert_eq!(means, [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5]);
    assert_eq!(trend["changes"].as_array().expect("changes").len(), 1);
    let change = &trend["changes"][0];
    assert_eq!((&change["index"], &change["at_run"]), (&json!(5), &trend["points"][5]["run_id"]));
    assert_eq!(change["annotations"][0]["what"], "parameters", "another recording: {change:#}");
    // Only the even half got worse.
    let slices = trend["slices"].as_array().expect("slices");
    let changed: Vec<(&Value, usize)> =
        slices.iter().map(|s| (&s["slice"]["value"], s["changes"].as_array().expect("a list").len())).collect();
    assert_eq!(changed, [(&json!("even"), 1), (&json!("odd"), 0)]);
    let unknown = scratch.run(&["trend", "--score", "nothing"]);
    assert_eq!((unknown.code, unknown.stderr.contains("no run of suite `small` has a score `nothing`")), (2, true));
}

/// The answers of two real models, which lie beside the repository and not in it.
fn replays() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.join("shared/data/replay");
    let fallback = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.parent()?.join("shared/data/replay");
    [folder, fallback].into_iter().find(|folder| folder.is_dir())
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn a_real_model_in_the_place_of_a_better_one_fails_and_the_other_way_round_passes() {
    let Some(data) = replays() else {
        eprintln!("skipped: the recorded answers of the two models are not at hand");
        return;
    };
    let scratch = Scratch::new();
    let suite = format!(
        "[suite]\nname = \"wice\"\ndataset = \"{}\"\nevaluators = [\"label_match\", \"valid_label\"]\n\n\
         [model]\nprovider = \"replay\"\n\n\
         [workflow]\nanswer_pattern = \"(?s)<answer>(.*?)</answer>\"\n\
         labels = {{ True = [\"supported\"], False = [\"not_supported\"], NEE = [\"partially_supported\"] }}\n\n\
         [gate]\nmetrics = {{ accuracy = {{ margin = 0.02 }} }}\n",
        data.join("wice_cases.jsonl").display()
    );
    scratch.write("spanscore.toml", suite);
    for (name, file) in [("four", "wice_gpt-4-0613.jsonl"), ("three", "wice_gpt-3.5-turbo-0613.jsonl")] {
        let answers = data.join(file).display().to_string();
        scratch.json(&["run", "--provider", "replay", "--replay", &answers, "--name", name]);
    }
    let compared = scratch.json(&["compare", "four", "three"]);
    assert_eq!((&compared["pairs"], &compared["clusters"]), (&json!(300), &json!(100)));
    let accuracy = &compared["metrics"][0];
    assert_eq!(accuracy["discordant"], json!([103, 32]));
    let number = |x: &Value| x.as_f64().expect("a number");
    assert!((number(&accuracy["delta"]) + 71.0 / 300.0).abs() < 1e-9, "{accuracy}");
    assert!(number(&accuracy["ci95"][1]) < -0.1 && number(&accuracy["p_value"]) < 1e-3, "{accuracy}");
    for (name, file) in [("four", "four.json"), ("three", "three.json")] {
        scratch.json(&["baseline", "save", name, "-o", file]);
    }
    let (fail, pass) = (
        scratch.run(&["gate", "three", "--baseline", "four.json"]),
        scratch.run(&["gate", "four", "--baseline", "three.json"]),
    );
    assert_eq!((fail.code, pass.code), (1, 0), "{}\n{}", fail.stdout, pass.stdout);
    assert!(fail.stdout.contains("103/32") && pass.stdout.contains("32/103"), "{}\n{}", fail.stdout, pass.stdout);
}

#[test]
fn an_undecided_gate_runs_on_until_it_is_decided_or_the_budget_is_used_up() {
    let scratch = scene();
    let extend = |run: &str, margin: &str, runs: &str| {
        let args = ["gate", run, "--baseline", "baseline.json", "--horizon", "1", "--margin", margin, "--extend"];
        scratch.run(&[&args[..], &["--max-runs", runs]].concat())
    };
    let runs = || scratch.json(&["runs"]).as_array().expect("a list").len();
    let before = runs();
    // Sixty equal cases are too few for one look at this margin, and further runs add up.
    let undecided = extend("good", "accuracy=0.02", "2");
    assert_eq!(undecided.code, 3, "{}{}", undecided.stdout, undecided.stderr);
    assert!(undecided.stdout.contains("after 2 further runs the evidence"), "{}", undecided.stdout);
    assert_eq!(runs(), before + 2);
    // The runs that were made count again, and one more is made.
    let again = extend("good", "accuracy=0.02", "3");
    assert_eq!((again.code, runs()), (3, before + 3), "{}{}", again.stdout, again.stderr);
    assert!(again.stdout.contains("after 3 further runs the evidence"), "{}", again.stdout);
    let decided = extend("good", "accuracy=0.15", "1");
    assert_eq!((decided.code, runs()), (0, before + 3), "{}{}", decided.stdout, decided.stderr);
    let score = extend("good", "score.label_match=0.15", "1");
    assert_eq!(score.code, 0, "{}{}", score.stdout, score.stderr);
    assert!(!score.stdout.contains("INCONCLUSIVE"), "{}", score.stdout);
    let refused = extend("good", "kappa=0.05", "1");
    assert_eq!(
        (refused.code, refused.stderr.contains("--extend decides on shares only")),
        (2, true),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_self_check_counts_the_gates_errors_on_its_own_data() {
    let scratch = scene();
    let args = ["gate", "good", "--baseline", "baseline.json", "--self-check", "--nights", "50", "--format", "json"];
    let ran = scratch.run(&[&args[..], &WIDE].concat());
    let report: Value = serde_json::from_str(&ran.stdout).expect("one document");
    assert_eq!((ran.code, &report["verdict"]), (0, &json!("PASS")));
    let check = &report["self_check"]["metrics"][0];
    assert_eq!((&check["name"], &check["unchanged"]["fail"]["count"]), (&json!("accuracy"), &json!(0)));
    assert_eq!(check["at_margin"]["damage"], json!(0.3));
}
