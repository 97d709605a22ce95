//! Runs from end to end: what they record, how they end early, and how they go on.

use serde_json::{Value, json};

use crate::support::{CLAIMS, Endpoint, SUITE, Scratch};

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_run_records_every_trial_and_every_span() {
    let scratch = Scratch::new();
    let report = scratch.json(&["run", "--name", "first", "--tag", "who=me"]);
    assert_eq!(report["trials"], json!({"planned": 6, "completed": 6, "failed": 0, "skipped": 0}));
    // The run's own span, one batch root, and two spans per trial.
    assert_eq!(report["spans"]["created"], 14);
    assert_eq!(report["spans"]["stored"], 14);
    assert_eq!(report["tags"]["who"], "me");
    let mut shown = scratch.json(&["show", "first"]);
    // What only a look back can tell is not in the report of the run itself.
    let details = shown.as_object_mut().and_then(|shown| shown.remove("details")).expect("details");
    assert_eq!((&details["previous"], &details["history"][0]["n"]), (&Value::Null, &json!(6)));
    assert_eq!(shown, report, "last week's report is made by the same code");
}

#[test]
fn a_budget_skips_the_rest_and_a_resumed_run_makes_up_for_it() {
    let scratch = Scratch::new();
    let endpoint = Endpoint::answering("NEE");
    let url = endpoint.url();
    let mut args = vec!["run", "--base-url", &url, "--model", "m", "--concurrency", "1", "--format", "json"];
    let mut stopped = args.clone();
    stopped.extend(["--max-tokens-total", "80"]);
    let ran = scratch.run(&stopped);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    let report = parse(&ran.stdout);
    assert_eq!(report["trials"], json!({"planned": 6, "completed": 2, "failed": 0, "skipped": 4}));
    assert!(ran.stderr.contains("the token budget is used up"), "{}", ran.stderr);

    args.push("--resume");
    let ran = scratch.run(&args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let whole = parse(&ran.stdout);
    assert_eq!(whole["trials"], json!({"planned": 6, "completed": 6, "failed": 0, "skipped": 0}));
    assert_eq!(whole["run"]["id"], report["run"]["id"]);
    assert_eq!(endpoint.requests(), 6, "nothing recorded is asked again");
}

#[test]
fn a_resumed_run_must_be_the_same_unless_forced() {
    let scratch = Scratch::new();
    let endpoint = Endpoint::answering("True");
    let url = endpoint.url();
    let base = ["run", "--base-url", &url, "--model", "m", "--concurrency", "1"];
    let with = |more: &[&str]| scratch.run(&[&base, more].concat());
    assert_eq!(with(&["--max-tokens-total", "80"]).code, 4);
    let suite = format!("{SUITE}[workflow]\nprompt = \"p.toml\"\n");
    scratch.write("p.toml", "user = \"{{ claim }} {{ context }}\"\n");
    scratch.write("spanscore.toml", suite);
    let refused = with(&["--resume"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("prompt") && refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(with(&["--resume", "--force"]).code, 0);
    scratch.write("claims.csv", CLAIMS.replace("Bees dance.", "Bees danced."));
    let other = with(&["--resume", "--force"]);
    assert_eq!(other.code, 2);
    assert!(other.stderr.contains("its dataset was"), "{}", other.stderr);
}

#[test]
fn a_reordered_dataset_is_another_run_for_trials_are_known_by_their_place() {
    let scratch = Scratch::new();
    let endpoint = Endpoint::answering("True");
    let url = endpoint.url();
    let base = ["run", "--base-url", &url, "--model", "m", "--concurrency", "1"];
    assert_eq!(scratch.run(&[&base[..], &["--max-tokens-total", "80"]].concat()).code, 4);
    let (head, rows) = CLAIMS.split_once('\n').expect("a header");
    let mut rows: Vec<_> = rows.lines().collect();
    rows.reverse();
    scratch.write("claims.csv", format!("{head}\n{}\n", rows.join("\n")));
    let ran = scratch.run(&[&base[..], &["--resume"]].concat());
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("another order"), "{}", ran.stderr);
}

#[test]
fn a_wait_for_the_rate_limit_ends_when_the_run_is_stopped() {
    let scratch = Scratch::new();
    let endpoint = Endpoint::answering("True");
    let args = ["run", "--base-url", &endpoint.url(), "--model", "m", "--rpm", "1", "--concurrency", "4"];
    let child = scratch.command(&args).stderr(std::process::Stdio::piped()).spawn().expect("starts");
    let begun = std::time::Instant::now();
    while endpoint.requests() == 0 && begun.elapsed().as_secs() < 20 {
        std::thread::yield_now();
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(kill.success());
    let ran = crate::support::Ran::of(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, 130, "{}", ran.stderr);
    assert!(begun.elapsed().as_secs() < 30, "the next request would be due in a minute");
    let report = scratch.json(&["show", "latest"]);
    assert_eq!(report["trials"]["failed"], 0, "what was not sent did not fail");
}

#[test]
fn failed_trials_are_data_and_can_be_tried_again() {
    let scratch = Scratch::new();
    let body = json!({"error": {"message": "overloaded", "type": "server_error", "code": null, "param": null}});
    let down = Endpoint::new(500, &body);
    let args = ["run", "--model", "m", "--max-retries", "0", "--limit", "2", "--format", "json"];
    let ran = scratch.run(&[&args[..], &["--base-url", &down.url()]].concat());
    assert_eq!(ran.code, 4, "nothing but failures");
    assert_eq!(parse(&ran.stdout)["trials"]["failed"], 2);
    assert_eq!(parse(&ran.stdout)["metrics"]["accuracy"]["value"], Value::Null, "unscored is never zero");
    assert_eq!(parse(&ran.stdout)["metrics"]["accuracy"]["bounds"], json!([0.0, 1.0]));

    let up = Endpoint::answering("True");
    let url = up.url();
    let again = [&args[..], &["--base-url", &url, "--resume", "--force"]].concat();
    assert_eq!(parse(&scratch.run(&again).stdout)["trials"]["failed"], 2, "failures stay unless asked for");
    let ran = scratch.run(&[&again[..], &["--retry-failed"]].concat());
    assert_eq!(parse(&ran.stdout)["trials"], json!({"planned": 2, "completed": 2, "failed": 0, "skipped": 0}));
    assert_eq!(scratch.json(&["verify", "latest"])["mismatched"], json!([]));
}

#[test]
fn recorded_answers_cost_nothing_and_a_missing_one_is_a_failure() {
    let scratch = Scratch::new();
    let answers = "{\"id\":\"c1\",\"output\":\"True\"}\n{\"id\":\"c2\",\"raw\":\"I would say so\"}\n";
    scratch.write("answers.jsonl", answers);
    let report = scratch.json(&["run", "--provider", "replay", "--replay", "answers.jsonl", "--limit", "3"]);
    assert_eq!(report["trials"], json!({"planned": 3, "completed": 2, "failed": 1, "skipped": 0}));
    let cases = scratch.json(&["cases", "latest", "--where", "status = failed"]);
    assert_eq!(cases[0]["case_id"], "c3");
    assert!(cases[0]["error"].to_string().contains("missing_answer"), "{cases:#}");
    assert_eq!(scratch.json(&["cases", "latest", "--where", "output = unparseable"])[0]["case_id"], "c2");

    let first = scratch.json(&["run", "--name", "original"]);
    let replayed = scratch.json(&["run", "--replay", "original"]);
    assert_eq!(replayed["metrics"]["confusion"], first["metrics"]["confusion"]);
    assert_eq!(replayed["run"]["provider"], "replay");
}

#[test]
fn an_identical_request_is_answered_from_the_cache() {
    let scratch = Scratch::new();
    let endpoint = Endpoint::answering("True");
    let url = endpoint.url();
    let args = ["run", "--base-url", &url, "--model", "m", "--cache", "answers", "--limit", "2"];
    scratch.json(&args);
    let paid = scratch.json(&["cases", "latest"])[0]["trace_id"].clone();
    scratch.json(&args);
    assert_eq!(endpoint.requests(), 2, "the second run asks nothing");
    let case = scratch.json(&["cases", "latest"])[0].clone();
    assert_eq!(case["attempts"], 0);
    let trace = scratch.json(&["trace", case["trace_id"].as_str().expect("an id")]);
    let chat =
        trace["spans"].as_array().expect("spans").iter().find(|s| s["name"] == "chat m").expect("a call").clone();
    assert_eq!(chat["attributes"]["spanscore.cached"], true);
    assert_eq!(chat["links"][0]["trace_id"], paid, "linked to the trace that paid");
}

#[test]
fn several_models_make_several_runs_under_one_tag() {
    let scratch = Scratch::new();
    let endpoint = Endpoint::answering("True");
    let reports = scratch.json(&["run", "--base-url", &endpoint.url(), "--model", "a,b", "--limit", "1"]);
    let of = |i: usize, key: &str| reports[i]["run"][key].clone();
    assert_eq!((of(0, "model"), of(1, "model")), (json!("a"), json!("b")));
    assert_eq!(reports[0]["tags"]["models"], reports[1]["tags"]["models"]);
    assert!(reports[0]["tags"]["models"].is_string());
}

#[test]
fn repeats_are_trials_of_their_own() {
    let scratch = Scratch::new();
    let report = scratch.json(&["run", "--repeat", "3", "--limit", "2"]);
    assert_eq!(report["trials"]["completed"], 6);
    let cases = scratch.json(&["cases", "latest", "--where", "case = c1"]);
    let repeats: Vec<_> = cases.as_array().expect("a list").iter().map(|c| c["repeat"].clone()).collect();
    assert_eq!(repeats.len(), 3);
    assert!([0, 1, 2].iter().all(|n| repeats.contains(&json!(n))), "{repeats:?}");
}

#[test]
fn rows_without_a_label_are_run_and_not_scored_against_one() {
    let scratch = Scratch::new();
    scratch.write("claims.csv", "claim,context\nBees dance.,\"A bee dances, and others follow.\"\n");
    let ran = scratch.run(&["run", "--format", "json"]);
    let report = parse(&ran.stdout);
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains("label"), "said so: {}", ran.stderr);
    assert_eq!(report["evaluators"]["label_match"]["skipped"], 1);
    assert_eq!(report["evaluators"]["label_match"]["mean"], Value::Null);
    assert_eq!(report["metrics"]["accuracy"]["n"], 0);
}

#[test]
fn a_pattern_and_synonyms_read_another_vocabulary() {
    let scratch = Scratch::new();
    let suite = format!(
        "{SUITE}[workflow]\nanswer_pattern = \"<answer>(.*?)</answer>\"\nlabels = {{ NEE = [\"partially_supported\"] }}\n"
    );
    scratch.write("spanscore.toml", suite);
    let endpoint = Endpoint::answering("<why>True enough</why><answer>partially_supported</answer>");
    let report = scratch.json(&["run", "--base-url", &endpoint.url(), "--model", "m"]);
    assert_eq!(report["metrics"]["per_class"]["NEE"]["recall"]["value"], 1.0);
}

#[test]
fn console_spans_take_stdout_and_the_report_stderr() {
    let scratch = Scratch::new();
    let ran = scratch.run(&["run", "--trace-to", "console", "--limit", "1"]);
    assert_eq!(ran.code, 0);
    let spans: Vec<Value> =
        serde_json::Deserializer::from_str(&ran.stdout).into_iter().collect::<Result<_, _>>().expect("JSON after JSON");
    let names: Vec<_> = spans.iter().map(|s| s["name"].as_str().expect("a name")).collect();
    assert_eq!(names[..3], ["chat lexical-baseline", "assess_claim", "assess_claims_with_context"]);
    assert!(ran.stderr.contains("accuracy"), "{}", ran.stderr);
    assert_eq!(scratch.run(&["run", "--trace-to", "console", "--format", "json"]).code, 2);
}

#[test]
fn a_backend_that_is_down_changes_nothing_and_is_made_up_for_later() {
    let scratch = Scratch::new();
    let quiet = scratch.json(&["run"]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
    let endpoint = format!("http://{free}");
    let run = |args: &[&str]| {
        let output = scratch.command(args).env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).output().expect("starts");
        crate::support::Ran::of(output)
    };
    let ran = run(&["run", "--format", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let report = parse(&ran.stdout);
    assert_eq!(report["metrics"], quiet["metrics"]);
    let otlp = &report["spans"]["exported"]["otlp"];
    assert_eq!((&otlp["delivered"], &otlp["pending"]), (&json!(0), &report["spans"]["stored"]));

    // The same address answers now, as any collector does: with an empty success.
    let server = std::net::TcpListener::bind(free).expect("bound again");
    std::thread::spawn(move || {
        for stream in server.incoming().flatten() {
            std::thread::spawn(move || acknowledge(stream));
        }
    });
    let ran = run(&["export", "--pending", "--format", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let counts = &parse(&ran.stdout)["destinations"]["otlp"];
    assert_eq!(counts["pending"], 0, "{counts}");
    assert_eq!(counts["stored"], counts["delivered"]);
}

/// Reads requests with a content length off a connection and answers each with 200 and an empty protobuf message.
fn acknowledge(stream: std::net::TcpStream) {
    use std::io::{BufRead, BufReader, Read, Write};
    let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
    let mut out = stream;
    loop {
        let mut length = 0;
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().expect("a length");
            }
            line.clear();
        }
        if length == 0 || reader.read_exact(&mut vec![0; length]).is_err() {
            return;
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        if out.write_all(answer).is_err() {
            return;
        }
    }
}

#[test]
fn what_init_writes_can_be_run_as_it_is() {
    let scratch = Scratch::new();
    assert_eq!(scratch.run(&["init", "evals"]).code, 0);
    assert_eq!(scratch.run(&["init", "evals"]).code, 2, "nothing is overwritten");
    assert_eq!(scratch.json(&["run", "evals/spanscore.toml"])["trials"]["completed"], 6);
    assert_eq!(scratch.json(&["validate", "evals/spanscore.toml"])["errors"], json!([]));
    let checks = scratch.json(&["doctor", "evals/spanscore.toml"]);
    assert!(checks["checks"].as_array().expect("a list").iter().all(|c| c["status"] == "ok"), "{checks:#}");
}

#[test]
fn runs_are_listed_tagged_and_removed() {
    let scratch = Scratch::new();
    scratch.json(&["run", "--name", "one"]);
    scratch.json(&["run", "--name", "two"]);
    assert_eq!(scratch.run(&["runs", "tag", "one", "kept=yes"]).code, 0);
    assert_eq!(scratch.json(&["runs", "--tag", "kept=yes"]).as_array().expect("a list").len(), 1);
    assert_eq!(scratch.run(&["runs", "rm", "one"]).code, 0);
    let left = scratch.json(&["runs"]);
    assert_eq!(left.as_array().expect("a list").len(), 1);
    assert_eq!(scratch.run(&["show", "one"]).code, 2);
    assert_eq!(scratch.json(&["verify", "two"])["missing"], json!([]));
}
