//! Reports as files: every format from a run and from `report`, the verdict in them, and what is refused before anything is done.

use std::fs;

use polars::prelude::{ParquetReader, SerReader};

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
