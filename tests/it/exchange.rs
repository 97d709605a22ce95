//! Traces and runs that go from one store to another: by file, and store to store.

use serde_json::{Value, json};

use crate::support::{Ran, Scratch};

/// A store with a run of its own, and in `other` one with two runs.
fn two_stores() -> (Scratch, Vec<String>) {
    let scratch = Scratch::new();
    scratch.json(&["run", "--name", "here"]);
    scratch.json(&["run", "--store", "other", "--name", "first", "--repeat", "2", "--batch-size", "4"]);
    scratch.json(&["run", "--store", "other", "--name", "second", "--limit", "3"]);
    let runs = scratch.json(&["runs", "--store", "other"]);
    let ids =
        runs.as_array().expect("a list").iter().map(|run| run["id"].as_str().expect("a text").to_owned()).collect();
    (scratch, ids)
}

fn traces(scratch: &Scratch, store: &str) -> Vec<String> {
    let all = scratch.json(&["traces", "--limit", "1000", "--store", store]);
    all.as_array().expect("a list").iter().map(|trace| trace["trace_id"].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn another_stores_runs_are_here_as_they_were_there() {
    let (scratch, ids) = two_stores();
    assert_eq!(ids.len(), 2);
    let done = scratch.json(&["import", "store", "other"]);
    assert_eq!(done["runs"].as_array().expect("a list").len(), 2);
    assert!(done["runs"].as_array().expect("a list").iter().all(|run| run["state"] == "taken"), "{done}");
    for id in &ids {
        for command in [&["show"][..], &["cases"], &["verify"]] {
            let args = |store| [command, &[id.as_str(), "--store", store]].concat();
            let shown = |store| {
                let mut document = scratch.json(&args(store));
                // What else is in the store is told beside a report.
                document.as_object_mut().map(|report| report.remove("details"));
                document
            };
            assert_eq!(shown(".spanscore"), shown("other"), "{command:?}");
        }
    }
    for trace in traces(&scratch, "other") {
        let show = |store| scratch.json(&["trace", &trace, "--store", store]);
        assert_eq!(show(".spanscore"), show("other"));
    }
    assert_eq!(scratch.json(&["runs"]).as_array().expect("a list").len(), 3);
    assert_eq!(scratch.json(&["case", "c1"])["runs"].as_array().expect("a list").len(), 4);
    // What can be done with a run of one's own can be done with it.
    assert_eq!(
        scratch.json(&["run", "--provider", "replay", "--replay", "second", "--limit", "3"])["trials"]["completed"],
        3
    );
    assert_eq!(scratch.run(&["runs", "rm", &ids[0]]).code, 0);
    assert_eq!(scratch.json(&["runs"]).as_array().expect("a list").len(), 3);
}

#[test]
fn what_is_here_already_is_left() {
    let (scratch, _) = two_stores();
    scratch.json(&["import", "store", "other"]);
    let before = (scratch.json(&["runs"]), traces(&scratch, ".spanscore"));
    let again = scratch.json(&["import", "store", "other"]);
    assert!(again["runs"].as_array().expect("a list").iter().all(|run| run["state"] == "known"), "{again}");
    assert_eq!((scratch.json(&["runs"]), traces(&scratch, ".spanscore")), before);
}

#[test]
fn a_run_goes_on_where_it_was_taken_to() {
    let scratch = Scratch::new();
    scratch.json(&["run", "--name", "here"]);
    scratch.run(&["run", "--store", "other", "--name", "cut", "--max-tokens-total", "1", "--concurrency", "1"]);
    let cut = scratch.json(&["show", "cut", "--store", "other"]);
    assert!(cut["trials"]["skipped"].as_u64().expect("a number") > 0, "{}", cut["trials"]);
    scratch.json(&["import", "store", "other"]);
    let ended = scratch.json(&["run", "--resume", cut["run"]["id"].as_str().expect("a text")]);
    assert_eq!(ended["trials"]["completed"], 6);
    assert_eq!(scratch.run(&["verify", "cut"]).code, 0);
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Runs in the store `other`, started by a step of a pipeline.
fn run_below_a_step(scratch: &Scratch, name: &str) {
    let mut command = scratch.command(&["run", "--store", "other", "--name", name]);
    command.env("TRACEPARENT", format!("00-{TRACE}-b7ad6b7169203331-01"));
    assert_eq!(Ran::of(command.output().expect("the command starts")).code, 0);
}

#[test]
fn runs_whose_sessions_share_a_trace_are_taken_in_and_one_of_them_can_go() {
    let scratch = Scratch::new();
    run_below_a_step(&scratch, "first");
    run_below_a_step(&scratch, "second");
    let of = |store: &str| scratch.json(&["trace", TRACE, "--store", store]);
    assert_eq!(of("other")["spans"].as_array().expect("a list").len(), 2);
    scratch.json(&["import", "store", "other"]);
    assert_eq!(of(".spanscore"), of("other"));
    assert_eq!(traces(&scratch, ".spanscore"), traces(&scratch, "other"));
    for store in [".spanscore", "other"] {
        assert_eq!(scratch.run(&["runs", "rm", "first", "--store", store]).code, 0);
        let left = of(store);
        assert_eq!(left["spans"].as_array().expect("a list").len(), 1, "{left}");
        assert_eq!(left["operations"], 1, "{left}");
        assert_eq!(left["run_id"], scratch.json(&["show", "second", "--store", store])["run"]["id"], "{left}");
        assert_eq!(scratch.run(&["runs", "rm", "second", "--store", store]).code, 0);
        assert_eq!(traces(&scratch, store), Vec::<String>::new());
    }
}

#[test]
fn a_run_below_the_span_of_a_pipeline_is_taken_in_with_it() {
    let scratch = Scratch::new();
    let step = json!({"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {"name": "ci"}, "spans": [{
        "traceId": TRACE, "spanId": "b7ad6b7169203331", "name": "step", "kind": 1,
        "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000001000000000"}]}]}]});
    scratch.write("step.json", step.to_string());
    assert_eq!(scratch.json(&["import", "otlp", "step.json", "--store", "other"])["total"]["spans"], 1);
    run_below_a_step(&scratch, "first");
    let of = |store: &str| scratch.json(&["trace", TRACE, "--store", store]);
    let done = scratch.json(&["import", "store", "other"]);
    assert_eq!(done["traces_of_no_run"]["spans"], 1, "{done}");
    assert_eq!(of(".spanscore"), of("other"));
    assert_eq!(of("other")["spans"].as_array().expect("a list").len(), 2);
    // Without the pipeline's span.
    assert_eq!(scratch.run(&["import", "store", "other", "--store", "third"]).code, 0);
    assert_eq!(scratch.run(&["verify", "first", "--store", "third"]).code, 0);
}

#[test]
fn log_records_without_a_trace_are_taken_in_with_a_store() {
    let scratch = Scratch::new();
    let logs = json!({"resourceLogs": [{"resource": {}, "scopeLogs": [{"scope": {"name": "app"}, "logRecords": [
        {"timeUnixNano": "1700000000000000000", "body": {"stringValue": "started"}},
        {"timeUnixNano": "1700000000000000001", "body": {"stringValue": "ready"}}]}]}]});
    scratch.write("logs.json", logs.to_string());
    assert_eq!(scratch.json(&["import", "otlp", "logs.json", "--store", "other"])["total"]["log_records"], 2);
    let taken = || scratch.json(&["import", "store", "other"])["traces_of_no_run"].clone();
    assert_eq!(taken()["log_records"], 2);
    assert_eq!((&taken()["log_records"], &taken()["duplicates"]), (&json!(0), &json!(2)));
}

#[test]
fn a_run_whose_traces_are_here_already_leaves_nothing_double() {
    let (scratch, ids) = two_stores();
    assert_eq!(scratch.run(&["export", "-o", "x.jsonl", "--store", "other", "--run", &ids[0]]).code, 0);
    assert_eq!(scratch.run(&["import", "otlp", "x.jsonl", "--store", "third"]).code, 0);
    let exported = || {
        assert_eq!(scratch.run(&["export", "-o", "y.jsonl", "--store", "third"]).code, 0);
        let text = std::fs::read_to_string(scratch.path().join("y.jsonl")).expect("read");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = exported();
    assert_eq!(scratch.run(&["import", "store", "other", "--store", "third"]).code, 0);
    assert_eq!(scratch.run(&["runs", "rm", &ids[1], "--store", "third"]).code, 0);
    assert_eq!(exported(), before);
    assert_eq!(scratch.run(&["verify", &ids[0], "--store", "third"]).code, 0);
}

#[test]
fn only_a_store_is_taken_in() {
    let scratch = Scratch::new();
    scratch.json(&["run"]);
    for (folder, words) in [("nowhere", "another store's folder"), (".spanscore", "is the store that would take it in")]
    {
        let ran = scratch.run(&["import", "store", folder]);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
}

/// Spans of a trace without what depends on where they are kept.
fn spans(document: &Value) -> Vec<Value> {
    let mut spans: Vec<Value> = document["spans"].as_array().expect("a list").clone();
    for span in &mut spans {
        span.as_object_mut().expect("an object").remove("scores");
    }
    spans
}

#[test]
fn what_is_exported_can_be_imported_and_is_the_same() {
    let (scratch, _) = two_stores();
    for (file, args) in [("all.jsonl", &[][..]), ("all.jsonl.gz", &["--format", "otlp-json"]), ("all.jsonl.zst", &[])] {
        let ran = scratch.run(&[&["export", "-o", file, "--store", "other"], args].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let store = format!("from-{file}");
        let taken = scratch.json(&["import", "otlp", file, "--store", &store]);
        assert_eq!(taken["total"]["duplicates"], 0);
        let there = traces(&scratch, "other");
        for trace in &there {
            let show = |store: &str| scratch.json(&["trace", trace, "--store", store]);
            assert_eq!(spans(&show(&store)), spans(&show("other")));
        }
        assert_eq!(traces(&scratch, &store).len(), there.len());
        // The second time nothing is new.
        let again = scratch.json(&["import", "otlp", file, "--store", &store]);
        assert_eq!((&again["total"]["spans"], &again["total"]["log_records"]), (&json!(0), &json!(0)));
        // What comes out of the second store is what came out of the first.
        let out = |store: &str, name: &str| {
            assert_eq!(scratch.run(&["export", "-o", name, "--store", store]).code, 0);
            let text = std::fs::read_to_string(scratch.path().join(name)).expect("read");
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(out(&store, "again.jsonl"), out("other", "first.jsonl"));
    }
}

#[test]
fn an_export_can_be_of_a_run_of_traces_or_of_what_matches() {
    let (scratch, ids) = two_stores();
    let count = |args: &[&str]| {
        let done = scratch.json(&[&["export", "-o", "x.jsonl", "--store", "other"], args].concat());
        (done["traces"].as_u64().expect("a number"), done["spans"].as_u64().expect("a number"))
    };
    let all = traces(&scratch, "other");
    assert_eq!(count(&[]).0, all.len() as u64);
    assert_eq!(count(&["--run", &ids[0]]).0 + count(&["--run", &ids[1]]).0, all.len() as u64);
    let prefix: String = all[1].chars().take(12).collect();
    assert_eq!(count(&["--trace", &all[0], "--trace", &prefix]).0, 2);
    assert_eq!(count(&["--where", "operations > 1000"]), (0, 0));
    for (args, words) in [
        (&["export"][..], "--output"),
        (&["export", "-o", "x", "--where", "nonsense > 1"], "nonsense"),
        (&["export", "-o", "x", "--trace", "ffff"], "ffff"),
        (&["export", "-o", "no/where/x", "--store", "other"], "writing `no/where/x`"),
        (&["runs", "--format", "parquet"], "--format parquet is for"),
        (&["export", "--pending", "--format", "otlp-json"], "name one with -o FILE"),
    ] {
        let ran = scratch.run(args);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
    }
    assert!(!scratch.path().join("x").exists());
}

#[test]
fn a_table_of_spans_is_a_parquet_file() {
    let (scratch, _) = two_stores();
    for args in [&["-o", "spans.parquet"][..], &["-o", "spans.dat", "--format", "parquet"]] {
        let ran = scratch.run(&[&["export", "--store", "other"], args].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let bytes = std::fs::read(scratch.path().join(args[1])).expect("read");
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    }
}

#[test]
fn a_bad_line_ends_with_2_and_the_rest_is_taken() {
    let (scratch, _) = two_stores();
    assert_eq!(scratch.run(&["export", "-o", "x.jsonl", "--store", "other"]).code, 0);
    let good = std::fs::read_to_string(scratch.path().join("x.jsonl")).expect("read");
    scratch.write("y.jsonl", format!("garbage\n{good}"));
    let ran = scratch.run(&["import", "otlp", "y.jsonl", "--store", "third"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("`y.jsonl`, line 1: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("not everything could be taken in"), "{}", ran.stderr);
    assert_eq!(traces(&scratch, "third").len(), traces(&scratch, "other").len());
    let ran = scratch.run(&["import", "otlp", "y.jsonl", "missing.jsonl", "--store", "fourth"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("missing.jsonl") && !scratch.path().join("fourth").exists(), "{}", ran.stderr);
}

#[test]
fn a_trace_from_jaeger_is_a_trace_like_others() {
    let scratch = Scratch::new();
    scratch.write(
        "trace.json",
        json!({"data": [{"spans": [
            {"traceID": "5f3b1c", "spanID": "a1", "operationName": "checkout", "startTime": 1_700_000_000_000_000_u64, "duration": 5000,
             "processID": "p1", "tags": [{"key": "span.kind", "type": "string", "value": "server"}]},
            {"traceID": "5f3b1c", "spanID": "a2", "operationName": "pay", "startTime": 1_700_000_000_001_000_u64, "duration": 1000,
             "references": [{"refType": "CHILD_OF", "traceID": "5f3b1c", "spanID": "a1"}], "processID": "p1"}],
          "processes": {"p1": {"serviceName": "shop"}}}]})
        .to_string(),
    );
    let done = scratch.json(&["import", "jaeger", "trace.json"]);
    assert_eq!(done["total"]["spans"], 2);
    let listed = scratch.json(&["traces"]);
    assert_eq!(
        (&listed[0]["root"], &listed[0]["service"], &listed[0]["operations"]),
        (&json!("checkout"), &json!("shop"), &json!(2))
    );
    let trace = scratch.json(&["trace", "000000000000000000000000005f3b1c"]);
    assert_eq!(trace["spans"][1]["parent_span_id"], trace["spans"][0]["span_id"]);
}
