//! Reports as files: every format from a run and from `report`, the verdict in them, and what is refused before anything is done.

use std::collections::BTreeSet;
use std::fs;

use polars::prelude::{ParquetReader, SerReader};

use crate::gate::{CASES, answers, gate, scene};
use crate::support::Scratch;

const FILES: [&str; 6] = ["out.html", "out.md", "out.xml", "out.json", "out.csv", "out.parquet"];

fn read(scratch: &Scratch, name: &str) -> String {
    fs::read_to_string(scratch.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn a_run_writes_its_report_in_every_format() {
    let scratch = Scratch::new();
    let mut args = vec!["run", "--quiet", "--no-progress", "-o"];
    args.extend(FILES);
    let ran = scratch.run(&args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let document = serde_json::from_str::<serde_json::Value>(&read(&scratch, "out.json")).expect("JSON");
    assert_eq!(document["cases"].as_array().map(Vec::len), Some(6));
    let id = document["run"]["id"].as_str().expect("an id").to_owned();
    let html = read(&scratch, "out.html");
    assert!(html.starts_with("<!DOCTYPE html>") && html.contains(&id) && html.contains("No verdict"));
    assert!(read(&scratch, "out.md").starts_with("## small · "));
    let csv = read(&scratch, "out.csv");
    assert!(csv.starts_with("run_id,case_id,repeat,group,expected,output,status,error,score.label_match"), "{csv}");
    assert_eq!(csv.lines().count(), 7);
    let junit = read(&scratch, "out.xml");
    assert_eq!((junit.matches("<testcase ").count(), junit.matches("trace: spanscore trace ").count()), (6, 6));
    let table = ParquetReader::new(fs::File::open(scratch.path().join("out.parquet")).expect("a file"));
    let table = table.finish().expect("a table");
    assert_eq!(table.height(), 6);
    let header: Vec<&str> = csv.lines().next().expect("a header").split(',').collect();
    let columns: Vec<&str> = table.columns().iter().map(|column| column.name().as_str()).collect();
    assert_eq!(columns, header, "the columns of the CSV file");
}

#[test]
fn a_judged_run_tells_its_verdict_and_is_compared_with_its_baseline() {
    let scratch = Scratch::new();
    assert_eq!(scratch.run(&["run", "--quiet", "--no-progress"]).code, 0);
    assert_eq!(scratch.run(&["baseline", "save", "latest", "-o", "baseline.json"]).code, 0);
    let ran = scratch.run(&["run", "--quiet", "--no-progress", "--gate", "baseline.json", "-o", "first.md"]);
    assert_eq!(ran.code, 3, "six cases do not decide: {}", ran.stderr);
    let mut command = scratch.command(&["report", "-o", "out.html", "out.md", "out.xml"]);
    command.env("GITHUB_STEP_SUMMARY", "summary.md").env("GITHUB_ACTIONS", "true");
    let ran = crate::support::Ran::of(command.output().expect("the command starts"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("::warning title=small INCONCLUSIVE::"), "{}", ran.stderr);
    let markdown = read(&scratch, "out.md");
    assert!(markdown.starts_with("## ⚠️ INCONCLUSIVE · small"), "{markdown}");
    assert!(markdown.contains("All metrics compared"), "{markdown}");
    assert_eq!(read(&scratch, "summary.md"), markdown.clone() + "\n");
    assert!(read(&scratch, "first.md").starts_with("## ⚠️ INCONCLUSIVE"));
    assert!(read(&scratch, "out.html").contains("<title>INCONCLUSIVE: small"));
    assert!(read(&scratch, "out.xml").contains(r#"<failure type="INCONCLUSIVE""#), "an open verdict is no success");
    // Without its baseline the verdict stays; there is only nothing to compare with.
    fs::remove_file(scratch.path().join("baseline.json")).expect("removed");
    assert_eq!(scratch.run(&["report", "-o", "out.md"]).code, 0);
    let markdown = read(&scratch, "out.md");
    assert!(markdown.starts_with("## ⚠️ INCONCLUSIVE") && !markdown.contains("All metrics compared"), "{markdown}");
}

#[test]
fn no_test_of_a_run_that_passed_fails_a_build() {
    let scratch = scene();
    scratch.write("some.jsonl", answers(CASES, 20));
    scratch.json(&["run", "--dataset", "claims.csv", "--replay", "some.jsonl", "--name", "some"]);
    let junit = |run: &str, code: i32| {
        let judged = gate(&scratch, run, "baseline.json", &[]);
        assert_eq!(judged.code, code, "{}{}", judged.stdout, judged.stderr);
        assert_eq!(scratch.run(&["report", run, "-o", "out.xml"]).code, 0);
        let text = read(&scratch, "out.xml");
        (text.matches("<failure").count(), text.matches("worse than in the baseline, in a run that passed").count())
    };
    assert_eq!(junit("some", 0), (0, 3));
    let (failures, passed) = junit("bad", 1);
    assert!(failures > 20 && passed == 0, "{failures} {passed}");
}

#[test]
fn names_that_say_no_format_are_refused_before_the_run() {
    let scratch = Scratch::new();
    for (file, said) in [("out.pdf", "`.pdf` is no format of a report"), ("none/out.html", "there is no folder `none`")]
    {
        let ran = scratch.run(&["run", "--quiet", "-o", file]);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    assert_eq!(scratch.run(&["report", "-o", "out.md"]).code, 2, "no run, for none was started");
}

#[test]
fn what_a_run_reads_is_never_what_its_report_is_written_to() {
    let scratch = Scratch::new();
    assert_eq!(scratch.run(&["run", "--quiet", "--no-progress"]).code, 0);
    assert_eq!(scratch.run(&["baseline", "save", "latest", "-o", "baseline.json"]).code, 0);
    let kept = read(&scratch, "baseline.json");
    fs::hard_link(scratch.path().join("baseline.json"), scratch.path().join("linked.json")).expect("linked");
    fs::create_dir(scratch.path().join("dir.html")).expect("a folder");
    let runs = || scratch.run(&["runs", "--format", "json"]).stdout.matches("\"status\"").count();
    let before = runs();
    for (args, said) in [
        (&["run", "--gate", "baseline.json", "-o", "baseline.json"][..], "which is not a report and would be lost"),
        (&["run", "--gate", "baseline.json", "-o", "linked.json"], "that is `baseline.json`"),
        (&["run", "-o", "dir.html"], "that is a folder"),
        (&["report", "--against", "baseline.json", "-o", "baseline.json"], "would be lost"),
        (&["report", "-o", "claims.csv"], "would be lost"),
        (&["report", "--by", "expected", "-o", "out.html"], "nothing to compare it with"),
        (&["report", "--against", "latest", "--by", "col.nope", "-o", "out.html"], "nope"),
        (&["report", "--against", "latest", "--by", "score.label_match", "-o", "out.html"], "--by score.label_match"),
    ] {
        let ran = scratch.run(args);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{args:?}: {}", ran.stderr);
    }
    assert_eq!((runs(), read(&scratch, "baseline.json")), (before, kept), "nothing was run, nothing was lost");
}

#[test]
fn a_report_by_parts_of_the_dataset_shows_them_in_every_document() {
    let scratch = Scratch::new();
    assert_eq!(scratch.run(&["run", "--quiet", "--no-progress", "--name", "first"]).code, 0);
    assert_eq!(scratch.run(&["run", "--quiet", "--no-progress"]).code, 0);
    let ran = scratch.run(&["report", "--against", "first", "--by", "expected", "-o", "o.html", "o.md", "o.json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(read(&scratch, "o.html").contains("By part of the dataset"));
    let markdown = read(&scratch, "o.md");
    assert!(markdown.contains("By part of the dataset") && markdown.contains("| expected NEE |"), "{markdown}");
    assert!(markdown.contains("Compared with `first`: **0 regressed**"), "{markdown}");
    let document = serde_json::from_str::<serde_json::Value>(&read(&scratch, "o.json")).expect("JSON");
    assert_eq!(document["comparison"]["slices"].as_array().map(Vec::len), Some(3));
    assert_eq!(document["comparison"]["unpaired"]["counts"]["base"], 0);
}

/// A baseline, and a run against it that answers NEE to everything.
fn judged_and_worse(scratch: &Scratch) {
    assert_eq!(scratch.run(&["run", "--quiet", "--no-progress"]).code, 0);
    assert_eq!(scratch.run(&["baseline", "save", "latest", "-o", "baseline.json"]).code, 0);
    let answers = ["c1", "c2", "c3", "c4", "c5", "c6"].map(|id| format!("{{\"id\":\"{id}\",\"output\":\"NEE\"}}\n"));
    scratch.write("answers.jsonl", answers.concat());
    let ran = scratch.run(&["run", "--quiet", "--no-progress", "--gate", "baseline.json", "--replay", "answers.jsonl"]);
    assert_ne!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn a_verdict_without_its_baseline_keeps_the_cases_that_it_named() {
    let scratch = Scratch::new();
    judged_and_worse(&scratch);
    assert_eq!(scratch.run(&["report", "-o", "with.md", "with.xml", "with.html"]).code, 0);
    assert!(read(&scratch, "with.md").contains("Regressed cases ("), "{}", read(&scratch, "with.md"));
    fs::write(scratch.path().join("baseline.json"), "{}").expect("written");
    assert_eq!(scratch.run(&["report", "-o", "out.md", "out.html", "out.xml"]).code, 0);
    let (markdown, html) = (read(&scratch, "out.md"), read(&scratch, "out.html"));
    assert!(
        markdown.contains("is not here, or cannot be read") && markdown.contains("Regressed cases ("),
        "{markdown}"
    );
    assert!(html.contains("Worse than in the baseline") && html.contains("is not here, or cannot be read"));
}

/// What the committed example of a format holds.
fn example(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/examples").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The examples are of another suite: they are held against a small report of the same kind by their shape. Where this fails,
/// `.ci/examples` makes them again.
#[test]
fn the_committed_examples_have_the_shape_of_what_is_written_now() {
    let scratch = Scratch::new();
    judged_and_worse(&scratch);
    let files = ["o.html", "o.md", "o.xml", "o.json", "o.csv"];
    let mut args = vec!["report", "--by", "expected", "-o"];
    args.extend(files);
    let ran = scratch.run(&args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let between = |text: &str, from: &str, to: &str| {
        let text = text.rsplit_once(from).unwrap_or_else(|| panic!("no {from}")).1.to_owned();
        text.split_once(to).unwrap_or_else(|| panic!("no {to}")).0.to_owned()
    };
    let (html, old) = (read(&scratch, "o.html"), example("report.html"));
    for (from, to) in [("<style>", "</style>"), ("<script>", "</script>")] {
        assert!(between(&html, from, to) == between(&old, from, to), "the {from} of report.html is another one");
    }
    let sections = |html: &str| -> BTreeSet<String> {
        let ids = html.split("<h2 id=\"").skip(1).filter_map(|rest| rest.split_once('"'));
        // Not every night has cases that improved.
        ids.map(|(id, _)| id.to_owned()).filter(|id| id != "improved").collect()
    };
    assert_eq!(sections(&html), sections(&old), "sections of report.html");
    let tables = |markdown: &str| -> BTreeSet<String> {
        let lines: Vec<&str> = markdown.lines().collect();
        lines.windows(2).filter(|pair| pair[1].starts_with("|:")).map(|pair| pair[0].to_owned()).collect()
    };
    assert_eq!(tables(&read(&scratch, "o.md")), tables(&example("report.md")), "tables of report.md");
    let header = |csv: &str| -> Vec<String> {
        let own = |name: &&str| !["score.", "label.", "col."].iter().any(|kind| name.starts_with(kind));
        csv.lines().next().unwrap_or_default().split(',').filter(own).map(str::to_owned).collect()
    };
    assert_eq!(header(&read(&scratch, "o.csv")), header(&example("results.csv")), "columns of results.csv");
    let columns = ParquetReader::new(
        fs::File::open(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/examples/results.parquet"))
            .expect("the example"),
    );
    let names: Vec<String> =
        columns.finish().expect("a table").columns().iter().map(|column| column.name().to_string()).collect();
    assert_eq!(
        names.join(","),
        example("results.csv").lines().next().unwrap_or_default(),
        "columns of results.parquet"
    );
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let (document, old) = (json(&read(&scratch, "o.json")), json(&example("report.json")));
    for place in [
        "",
        "/run",
        "/trials",
        "/gate",
        "/gate/metrics/0",
        "/comparison",
        "/comparison/metrics/0",
        "/comparison/unpaired",
        "/comparison/cases",
        "/comparison/cases/regressed/0",
        "/comparison/cases/regressed/0/head",
        "/comparison/slices/0",
        "/trend",
        "/trend/points/0",
        "/cases/0",
    ] {
        let keys = |document: &serde_json::Value| -> Vec<String> {
            let found = document.pointer(place).and_then(serde_json::Value::as_object);
            found.unwrap_or_else(|| panic!("no object at `{place}`")).keys().cloned().collect()
        };
        assert_eq!(keys(&document), keys(&old), "report.json at `{place}`");
    }
    let attributes = |xml: &str| -> BTreeSet<String> {
        let elements = xml.split('<').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        elements
            .filter_map(|rest| rest.split_once(' ').filter(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase())))
            .map(|(name, rest)| {
                let names = rest.split('>').next().unwrap_or_default().split("=\"").map(|part| part.rsplit(' ').next());
                let names: Vec<&str> = names.flatten().filter(|name| !name.ends_with(['"', '/'])).collect();
                format!("{name} {}", names.join(" "))
            })
            .collect()
    };
    assert_eq!(attributes(&read(&scratch, "o.xml")), attributes(&example("junit.xml")), "elements of junit.xml");
}
