//! Scores of azure-ai-evaluation: what `report -o results.jsonl` gives it, and what its results become.

use std::fs;

use serde_json::{Value, json};

use crate::support::{CLAIMS, Ran, SUITE, Scratch};

/// The rows of `report -o results.jsonl`.
fn rows(scratch: &Scratch) -> Vec<Value> {
    assert_eq!(scratch.run(&["report", "-o", "results.jsonl"]).code, 0);
    let text = fs::read_to_string(scratch.path().join("results.jsonl")).expect("written");
    text.lines().map(|line| serde_json::from_str(line).expect("a document")).collect()
}

/// What `evaluate()` makes of a row: its columns as inputs, and the fields of evaluators.
fn evaluated(row: &Value, keep: impl Fn(&str) -> bool, outputs: &Value) -> Value {
    let inputs = row.as_object().expect("an object").iter().filter(|(name, _)| keep(name));
    let mut all: serde_json::Map<String, Value> =
        inputs.map(|(name, value)| (format!("inputs.{name}"), value.clone())).collect();
    all.extend(outputs.as_object().expect("an object").clone());
    Value::Object(all)
}

fn relevance(value: &Value) -> Value {
    json!({"outputs.relevance.relevance": value, "outputs.relevance.relevance_reason": "because <b>", "outputs.relevance.relevance_result": "pass",
        "outputs.relevance.relevance_threshold": 3})
}

/// Writes results as Python does, with its word for what is no number.
fn write(scratch: &Scratch, rows: &[Value]) {
    let text = json!({"rows": rows, "metrics": {"relevance.relevance": 4.0}, "studio_url": null}).to_string();
    scratch.write("out.json", text.replace("\"nan\"", "NaN"));
}

fn import(scratch: &Scratch, args: &[&str]) -> (Ran, Value) {
    let mut all = vec!["import", "evaluation", "out.json", "--format", "json"];
    all.extend(args);
    let ran = scratch.run(&all);
    let document = serde_json::from_str(&ran.stdout).unwrap_or_default();
    (ran, document)
}

#[test]
fn rows_have_what_evaluators_ask_for_and_lead_back_to_their_trace() {
    let scratch = Scratch::new();
    let report = scratch.json(&["run"]);
    let rows = rows(&scratch);
    assert_eq!(rows.len(), 6);
    let (first, case) = (&rows[0], &scratch.json(&["cases", "--where", "case = c1"])[0]);
    assert_eq!(
        (&first["query"], &first["context"]),
        (&json!("Bees dance."), &json!("A bee dances, and others follow."))
    );
    assert_eq!((&first["response"], &first["ground_truth"]), (&case["raw_output"], &json!("True")));
    assert_eq!(
        (&first["trace_id"], &first["span_id"], &first["run_id"]),
        (&case["trace_id"], &case["span_id"], &report["run"]["id"])
    );
    assert!(first["response_id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-")), "{first}");
    // Whatever ends like an id is taken for one of the row by its reader.
    let ids = first
        .as_object()
        .expect("an object")
        .keys()
        .filter(|name| name.ends_with("trace_id") || name.ends_with("span_id"));
    assert_eq!(ids.collect::<Vec<_>>(), ["trace_id", "span_id"]);
}

#[test]
fn results_become_scores_of_their_trials_once() {
    let scratch = Scratch::new();
    scratch.json(&["run"]);
    let rows = rows(&scratch);
    let values = [json!(5.0), json!(1.0), json!("nan"), Value::Null, json!(0), json!(4)];
    let all: Vec<Value> =
        rows.iter().zip(&values).map(|(row, value)| evaluated(row, |_| true, &relevance(value))).collect();
    write(&scratch, &all);
    let (ran, document) = import(&scratch, &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let file = &document["files"][0];
    assert_eq!(
        [&file["rows"], &file["matched"], &file["scores"], &file["unscored"]],
        [&json!(6), &json!(6), &json!(4), &json!(2)]
    );
    let (_, again) = import(&scratch, &[]);
    assert_eq!((&again["total"]["scores"], &again["total"]["duplicates"]), (&json!(0), &json!(4)), "{again}");
    let score =
        |case: &str| scratch.json(&["cases", "--where", &format!("case = {case}")])[0]["scores"]["relevance"].clone();
    assert_eq!(score("c1"), json!({"value": 5.0, "label": "pass", "explanation": "because <b>", "state": "scored"}));
    assert_eq!(score("c5")["value"], json!(0.0));
    assert_eq!((score("c3"), score("c4")), (Value::Null, Value::Null), "not scored is not 0");
    // They are found, listed, averaged and written like the run's own.
    let low = scratch.json(&["cases", "--where", "score.relevance < 2", "--sort", "score.relevance"]);
    let ids: Vec<&Value> = low.as_array().expect("a list").iter().map(|case| &case["case_id"]).collect();
    assert_eq!(ids, ["c5", "c2"]);
    assert!(scratch.run(&["cases"]).stdout.contains("scores: label_match, valid_label, abstention, relevance"));
    let unknown = scratch.run(&["cases", "--where", "score.relevnce < 2"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("abstention, relevance"), "{}", unknown.stderr);
    let traces = scratch.json(&["traces", "--where", "score.relevance < 5"]);
    assert_eq!(traces[0]["scores"]["relevance"], json!(2.5));
    let span = scratch.json(&["trace", rows[0]["trace_id"].as_str().expect("an id")]);
    let spans = span["spans"].as_array().expect("spans").iter();
    let on: Vec<&Value> =
        spans.filter(|span| !span["scores"]["relevance"].is_null()).map(|span| &span["name"]).collect();
    assert_eq!(on, ["assess_claim"; 4]);
    assert_eq!(scratch.run(&["report", "-o", "t.csv"]).code, 0);
    let table = fs::read_to_string(scratch.path().join("t.csv")).expect("written");
    assert!(table.starts_with("run_id,") && table.contains("score.relevance,label.relevance"), "{table}");
    assert_eq!(scratch.run(&["verify"]).code, 0);
    // A later evaluation of the same rows takes the place of an earlier one, and says so.
    let better: Vec<Value> = rows
        .iter()
        .zip(&values)
        .map(|(row, value)| {
            let value = if row["case_id"] == "c2" { json!(1.5) } else { value.clone() };
            evaluated(row, |_| true, &relevance(&value))
        })
        .collect();
    write(&scratch, &better);
    let said = scratch.run(&["import", "evaluation", "out.json"]).stdout;
    assert!(said.contains("0 scores taken in; 1 replace earlier ones, 3 were here already"), "{said}");
    assert_eq!(score("c2")["value"], json!(1.5));
}

#[test]
fn rows_are_matched_by_answer_or_case_where_they_have_no_span() {
    let scratch = Scratch::new();
    scratch.write("spanscore.toml", format!("{SUITE}\n[run]\nrepeat = 2\n"));
    scratch.json(&["run"]);
    let rows = rows(&scratch);
    assert_eq!(rows.len(), 12);
    let score = json!({"outputs.tone.tone": "kind"});
    let of = |row: &Value, names: &[&str]| evaluated(row, |name| names.contains(&name), &score);
    write(
        &scratch,
        &[
            of(&rows[0], &["response_id"]),
            of(&rows[3], &["case_id", "repeat"]),
            of(&rows[4], &["case_id"]),
            of(&rows[5], &["query"]),
            evaluated(&json!({"trace_id": "0".repeat(31) + "1", "span_id": "0".repeat(15) + "1"}), |_| true, &score),
        ],
    );
    let (ran, document) = import(&scratch, &["--run", "latest"]);
    assert_eq!(ran.code, 2, "what is left out is no success");
    let file = &document["files"][0];
    assert_eq!((&file["matched"], &file["unmatched"], &file["scores"]), (&json!(2), &json!(3), &json!(2)), "{file}");
    for said in ["several repeats", "no such answer or case", "3 rows are of no trial"] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    let tones: Vec<Value> =
        scratch.json(&["cases", "--where", "label.tone = kind"]).as_array().expect("a list").clone();
    let mut found: Vec<(String, u64)> =
        tones.iter().map(|case| (case["case_id"].to_string(), case["repeat"].as_u64().expect("a number"))).collect();
    found.sort();
    assert_eq!(found, [("\"c1\"".to_owned(), 0), ("\"c2\"".to_owned(), 1)]);
    // The call of a model is part of its trial; a trace alone is judged as a whole.
    let trace = rows[0]["trace_id"].as_str().expect("an id");
    let spans = scratch.json(&["trace", trace])["spans"].as_array().expect("spans").clone();
    let call = spans.iter().find(|span| span["parent_span_id"] == rows[0]["span_id"]).expect("a call");
    let whole = json!({"outputs.whole.whole": 7.5});
    write(
        &scratch,
        &[
            evaluated(
                &json!({"trace_id": trace, "span_id": call["span_id"]}),
                |_| true,
                &json!({"outputs.call.call": 2.5}),
            ),
            evaluated(&json!({ "trace_id": trace }), |_| true, &whole),
        ],
    );
    assert_eq!(import(&scratch, &[]).0.code, 0);
    let found = scratch.json(&["cases", "--where", "score.call = 2.5"]);
    assert_eq!((&found[0]["span_id"], found.as_array().map(Vec::len)), (&rows[0]["span_id"], Some(1)));
    assert_eq!(scratch.json(&["traces", "--where", "score.whole = 7.5"])[0]["trace_id"], json!(trace));
    // Without a run they are of none.
    write(&scratch, &[of(&rows[0], &["response_id"])]);
    let (ran, _) = import(&scratch, &[]);
    assert!(ran.stderr.contains("--run RUN"), "{}", ran.stderr);
}

#[test]
fn a_name_of_the_runs_own_is_not_overwritten_and_other_files_are_refused() {
    let scratch = Scratch::new();
    scratch.json(&["run"]);
    let rows = rows(&scratch);
    write(&scratch, &[evaluated(&rows[0], |_| true, &json!({"outputs.label_match.score": 0.25}))]);
    let before = scratch.json(&["cases"]);
    let (ran, document) = import(&scratch, &[]);
    assert_eq!((ran.code, &document["files"][0]["names_taken"]["label_match"]), (0, &json!(1)), "{}", ran.stderr);
    assert!(ran.stderr.contains("--prefix"), "{}", ran.stderr);
    assert_eq!(scratch.json(&["cases"]), before);
    let (ran, document) = import(&scratch, &["--prefix", "azure."]);
    assert_eq!((ran.code, &document["total"]["scores"]), (0, &json!(1)), "{}", ran.stderr);
    for (text, said) in [
        (CLAIMS, "it is no JSON"),
        ("{\"metrics\": {}}", "it has no list `rows`"),
        ("[{\"inputs.query\": \"x\"}]", "none of its rows"),
    ] {
        scratch.write("out.json", text);
        let (ran, _) = import(&scratch, &[]);
        assert!(
            ran.code == 2 && ran.stderr.contains(said) && ran.stderr.contains("outputs.EVALUATOR"),
            "{}",
            ran.stderr
        );
    }
}
