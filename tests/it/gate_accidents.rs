//! A gate never opens by accident: what can go wrong with a baseline, a run or a store, each with its exit code and words.

use std::path::Path;

use serde_json::json;

use crate::gate::{CASES, answers, claims, gate, scene};
use crate::support::{Endpoint, Scratch};

/// What is done to the scene, the run that is judged, more flags, the exit code and what is said.
struct Accident {
    name: &'static str,
    spoil: fn(&Scratch),
    run: &'static str,
    flags: &'static [&'static str],
    code: i32,
    said: &'static str,
}

fn rewrite(scratch: &Scratch, change: impl Fn(&str) -> String) {
    let path = scratch.path().join("baseline.json");
    let text = std::fs::read_to_string(&path).expect("readable");
    let changed = change(&text);
    assert_ne!(changed, text, "the accident must happen");
    std::fs::write(path, changed).expect("written");
}

fn tamper(scratch: &Scratch, sql: &str) {
    let conn = rusqlite::Connection::open(scratch.path().join(".spanscore/spanscore.db")).expect("the store");
    assert!(conn.execute(sql, []).expect(sql) > 0);
}

const LATEST_SCORES: &str = "trial >> 40 = (SELECT max(number) FROM run) AND evaluator = 0";

/// Of scores: those of repeats after the first.
const FURTHER: &str = "trial % 4096 > 0";

/// A run with three repeats.
fn repeats(scratch: &Scratch, answers: &str) {
    let once = std::fs::read_to_string(scratch.path().join(answers)).expect("readable");
    let again = |repeat: u32| once.replace("{\"id\"", &format!("{{\"repeat\":{repeat},\"id\""));
    scratch.write("thrice.jsonl", [again(0), again(1), again(2)].concat());
    scratch.json(&["run", "--replay", "thrice.jsonl", "--repeat", "3", "--name", "thrice"]);
}

fn other(scratch: &Scratch, csv: &str, more: &[&str]) {
    scratch.write("other.csv", csv);
    let mut args = vec!["run", "--dataset", "other.csv", "--replay", "good.jsonl", "--name", "other"];
    args.extend(more);
    scratch.json(&args);
}

#[test]
fn the_gate_never_opens_by_accident() {
    let table = [
        Accident {
            name: "the baseline is missing",
            spoil: |s| std::fs::remove_file(s.path().join("baseline.json")).expect("gone"),
            run: "good",
            flags: &[],
            code: 3,
            said: "reading the baseline `baseline.json`: No such file",
        },
        Accident {
            name: "the baseline is a folder",
            spoil: |s| {
                std::fs::remove_file(s.path().join("baseline.json")).expect("gone");
                std::fs::create_dir(s.path().join("baseline.json")).expect("made");
            },
            run: "good",
            flags: &[],
            code: 3,
            said: "reading the baseline `baseline.json`",
        },
        Accident {
            name: "the baseline is empty",
            spoil: |s| rewrite(s, |_| String::new()),
            run: "good",
            flags: &[],
            code: 3,
            said: "is damaged: it is empty",
        },
        Accident {
            name: "the baseline is another JSON document",
            spoil: |s| rewrite(s, |_| "{}".to_owned()),
            run: "good",
            flags: &[],
            code: 3,
            said: "is damaged: missing field `spanscore_baseline`",
        },
        Accident {
            name: "the baseline is truncated",
            spoil: |s| rewrite(s, |text| text.chars().take(text.len() / 2).collect()),
            run: "good",
            flags: &[],
            code: 3,
            said: "is damaged: EOF while parsing",
        },
        Accident {
            name: "a line of the baseline is gone",
            spoil: |s| {
                rewrite(s, |text| text.lines().filter(|l| !l.contains("\"c003\"")).collect::<Vec<_>>().join("\n"));
            },
            run: "good",
            flags: &[],
            code: 3,
            said: "was changed by hand",
        },
        Accident {
            name: "a score of the baseline was lowered",
            spoil: |s| rewrite(s, |text| text.replacen("\"label_match\":[1]", "\"label_match\":[0]", 1)),
            run: "good",
            flags: &[],
            code: 3,
            said: "was changed by hand: its digest is",
        },
        Accident {
            name: "a score of the baseline is NaN",
            spoil: |s| rewrite(s, |text| text.replacen("\"label_match\":[1]", "\"label_match\":[NaN]", 1)),
            run: "good",
            flags: &[],
            code: 3,
            said: "is damaged",
        },
        Accident {
            name: "the baseline is of a later form",
            spoil: |s| rewrite(s, |text| text.replacen("\"spanscore_baseline\": 1", "\"spanscore_baseline\": 3", 1)),
            run: "good",
            flags: &[],
            code: 3,
            said: "is of form 3, and this program knows forms up to 2",
        },
        Accident {
            name: "another dataset",
            spoil: |s| other(s, &claims(CASES, |_| String::new(), "tomorrow"), &[]),
            run: "other",
            flags: &[],
            code: 3,
            said: "dataset differs: claims (60 cases,",
        },
        Accident {
            name: "another dataset that is allowed: no case is the same",
            spoil: |s| other(s, &claims(CASES, |_| String::new(), "tomorrow"), &[]),
            run: "other",
            flags: &["--allow", "dataset"],
            code: 3,
            said: "no case of the baseline is in the run with the same text and label",
        },
        Accident {
            name: "half the cases are missing",
            spoil: |s| other(s, &claims(CASES, |_| String::new(), "today"), &["--limit", "30"]),
            run: "other",
            flags: &["--allow", "dataset"],
            code: 3,
            said: "30 cases are in both, 50 % of the 60 in the baseline and 30 in the run; at least 98 % are needed",
        },
        Accident {
            name: "the run has no answers",
            spoil: |s| {
                let down = Endpoint::new(500, &json!({"error": {"message": "down", "type": "server_error"}}));
                let args = [
                    "run",
                    "--base-url",
                    &down.url(),
                    "--model",
                    "m",
                    "--max-retries",
                    "0",
                    "--name",
                    "down",
                    "--quiet",
                ];
                assert_eq!(s.run(&args).code, 4);
            },
            run: "down",
            flags: &[],
            code: 3,
            said: "the run has no answer for 60 of 60 trials, more than 2 %",
        },
        Accident {
            name: "some answers are missing",
            spoil: |s| {
                s.write("some.jsonl", answers(CASES - 2, 0));
                s.json(&["run", "--replay", "some.jsonl", "--name", "some"]);
            },
            run: "some",
            flags: &[],
            code: 3,
            said: "the run has no answer for 2 of 60 trials, more than 2 %",
        },
        Accident {
            // SQLite keeps a NaN as NULL.
            name: "an imported score is NaN",
            spoil: |s| tamper(s, &format!("UPDATE score SET value = NULL WHERE {LATEST_SCORES}")),
            run: "bad",
            flags: &[],
            code: 3,
            said: "the run has 60 scores of `label_match` that are no finite numbers",
        },
        Accident {
            name: "an imported score is infinite",
            spoil: |s| tamper(s, &format!("UPDATE score SET value = 9e999 WHERE {LATEST_SCORES}")),
            run: "bad",
            flags: &[],
            code: 3,
            said: "the run has 60 scores of `label_match` that are no finite numbers",
        },
        Accident {
            name: "an evaluator broke",
            spoil: |s| tamper(s, &format!("UPDATE score SET state = 1, value = NULL WHERE {LATEST_SCORES}")),
            run: "bad",
            flags: &["--margin", "label_match=0.3"],
            code: 3,
            said: "label_match: no case has it on both sides",
        },
        Accident {
            name: "scores are gone",
            spoil: |s| tamper(s, &format!("DELETE FROM score WHERE {LATEST_SCORES} AND trial % 8192 = 0")),
            run: "bad",
            flags: &["--margin", "label_match=0.3"],
            code: 3,
            said: "label_match: 30 of 60 cases lack a value on one side, more than 2 %",
        },
        Accident {
            name: "an evaluator broke on two of three repeats",
            spoil: |s| {
                repeats(s, "bad.jsonl");
                tamper(s, &format!("UPDATE score SET state = 1, value = NULL WHERE {LATEST_SCORES} AND {FURTHER}"));
            },
            run: "thrice",
            flags: &["--margin", "label_match=0.3"],
            code: 3,
            said: "label_match: 120 of 180 trials of the run lack a value, more than 2 %",
        },
        Accident {
            name: "an evaluator broke on the repeats that would have counted",
            spoil: |s| {
                repeats(s, "bad.jsonl");
                let wrong = "trial / 4096 % 2 = 0";
                tamper(
                    s,
                    &format!(
                        "UPDATE score SET state = 1, value = NULL WHERE {LATEST_SCORES} AND {FURTHER} AND {wrong}"
                    ),
                );
            },
            run: "thrice",
            flags: &["--margin", "label_match=0.3"],
            code: 3,
            said: "label_match: 60 of 180 trials of the run lack a value, more than 2 %",
        },
        Accident {
            name: "scores of two of three repeats are gone",
            spoil: |s| {
                repeats(s, "bad.jsonl");
                tamper(s, &format!("DELETE FROM score WHERE {LATEST_SCORES} AND {FURTHER}"));
            },
            run: "thrice",
            flags: &["--margin", "label_match=0.3"],
            code: 3,
            said: "label_match: 120 of 180 trials of the run lack a value, more than 2 %",
        },
        Accident {
            name: "all cases are of one group",
            spoil: |s| {
                s.write("claims.csv", claims(CASES, |_| "one".to_owned(), "today"));
                s.json(&["run", "--replay", "good.jsonl", "--name", "grouped"]);
            },
            run: "grouped",
            flags: &[],
            code: 3,
            said: "all cases belong to one group",
        },
        Accident {
            name: "another version of an evaluator",
            spoil: |s| {
                let definition =
                    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/evaluators/label_match.toml"))
                        .expect("readable");
                s.write("evaluators/label_match.toml", definition.replace("version = \"1\"", "version = \"2\""));
                s.json(&["run", "--replay", "good.jsonl", "--name", "newer"]);
            },
            run: "newer",
            flags: &[],
            code: 3,
            said: "evaluator label_match differs: version 1 (",
        },
        Accident {
            name: "a metric that nobody has",
            spoil: |_| (),
            run: "good",
            flags: &["--margin", "acuracy=0.02"],
            code: 2,
            said: "metric `acuracy`, which the run does not have (did you mean `accuracy`?)",
        },
        Accident {
            name: "a metric that the baseline does not have",
            spoil: |s| {
                let more = ["run", "--replay", "good.jsonl", "--name", "more", "--evaluator"];
                s.json(&[&more[..], &["label_match,valid_label,abstention,latency"]].concat());
            },
            run: "more",
            flags: &["--margin", "latency=1"],
            code: 3,
            said: "latency: the baseline has no such scores",
        },
        Accident {
            name: "a negative margin",
            spoil: |_| (),
            run: "good",
            flags: &["--margin", "accuracy=-1"],
            code: 2,
            said: "expected METRIC=MARGIN with a margin of 0 or more",
        },
        Accident {
            name: "a margin that is no number",
            spoil: |_| (),
            run: "good",
            flags: &["--margin", "kappa=NaN"],
            code: 2,
            said: "expected METRIC=MARGIN with a margin of 0 or more",
        },
        Accident {
            name: "a margin in per cent",
            spoil: |_| (),
            run: "bad",
            flags: &["--margin", "macro_f1=2"],
            code: 2,
            said: "the gate's margin of `macro_f1` is 2; expected a number below 1, for it lies between 0 and 1: 2 % is 0.02",
        },
        Accident {
            name: "a margin as wide as an assertion's range",
            spoil: |_| (),
            run: "bad",
            flags: &["--margin", "label_match=1"],
            code: 2,
            said: "the gate's margin of `label_match` is 1; expected a number below 1",
        },
        Accident {
            name: "a margin as wide as a coefficient's range",
            spoil: |_| (),
            run: "bad",
            flags: &["--margin", "mcc=2"],
            code: 2,
            said: "the gate's margin of `mcc` is 2; expected a number below 2, for it lies between -1 and 1: 2 % is 0.02",
        },
        Accident {
            name: "something to allow that nobody has",
            spoil: |_| (),
            run: "good",
            flags: &["--allow", "judge"],
            code: 2,
            said: "to allow that `judge` differs, which the run does not have; it has dataset, evaluator, label_match",
        },
        Accident {
            name: "an alpha that lets everything through",
            spoil: |_| (),
            run: "good",
            flags: &["--alpha", "1"],
            code: 2,
            said: "the gate's alpha is 1; expected a number above 0 and below 0.5",
        },
    ];
    let before = scene();
    assert_eq!(gate(&before, "good", "baseline.json", &[]).code, 0, "without an accident it opens");
    for accident in table {
        let scratch = copy(&before);
        (accident.spoil)(&scratch);
        let ran = gate(&scratch, accident.run, "baseline.json", accident.flags);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.code, accident.code, "{}: {said}", accident.name);
        assert!(said.contains(accident.said), "{}: {said}", accident.name);
        if accident.code == 3 {
            assert!(ran.stdout.starts_with("Gate  INVALID\n"), "{}: {said}", accident.name);
        }
    }
}

#[test]
fn a_run_whose_evaluator_broke_becomes_no_baseline() {
    let scratch = scene();
    repeats(&scratch, "good.jsonl");
    tamper(&scratch, &format!("UPDATE score SET state = 1, value = NULL WHERE {LATEST_SCORES} AND {FURTHER}"));
    let refused = scratch.run(&["baseline", "save", "thrice", "-o", "broken.json"]);
    let said = "120 of 180 scores of `label_match` are missing, more than 2 %";
    assert_eq!((refused.code, refused.stderr.contains(said)), (2, true), "{}", refused.stderr);
    assert!(!scratch.path().join("broken.json").exists());
}

/// The scene once more, for making it takes longer than copying it.
fn copy(scratch: &Scratch) -> Scratch {
    let copy = Scratch::new();
    copy_folder(scratch.path(), copy.path());
    copy
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("copied");
        }
    }
}
