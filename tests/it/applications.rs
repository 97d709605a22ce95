//! Workflows that are a program or an HTTP endpoint of the user's: answers, faults, ends.

use std::path::Path;

use serde_json::json;

use crate::support::{Endpoint, Ran, Scratch};

/// Answers each line at once with the case's id; `response_id` tells the parent that came with it.
const ECHO: &str = r#"command = ["sed", "-u", 's/.*"id":"\([^"]*\)".*"traceparent":"\([^"]*\)".*/{"id":"\1","output":"True","response_id":"\2"}/']"#;

/// A shell loop over the lines: `$line` is the line, `$id` the case's id.
fn looped(body: &str) -> String {
    format!(
        "while read -r line; do\nid=$(printf '%s' \"$line\" | sed 's/.*\"id\":\"\\([^\"]*\\)\".*/\\1/')\n{body}\ndone\n"
    )
}

fn with(command: &str, more: &str) -> Scratch {
    let scratch = Scratch::new();
    let suite = "[suite]\nname = \"app\"\ndataset = \"claims.csv\"\n[workflow]\nkind = \"command\"\n";
    scratch.write("spanscore.toml", format!("{suite}{command}\n{more}"));
    scratch
}

fn with_script(body: &str, more: &str) -> Scratch {
    let scratch = with("command = [\"sh\", \"app.sh\"]", more);
    scratch.write("app.sh", body);
    scratch
}

/// The trials of the latest run as `case: status` with the error's class.
fn outcomes(scratch: &Scratch) -> Vec<String> {
    let cases = scratch.json(&["cases"]);
    let mut outcomes: Vec<String> = cases
        .as_array()
        .expect("a list")
        .iter()
        .map(|case| {
            let error = case["error"]["type"].as_str().or(case["error"].as_str()).unwrap_or("-");
            let error = error.split(':').next().unwrap_or_default();
            format!(
                "{}#{} {} {error}",
                case["case_id"].as_str().expect("a text"),
                case["repeat"],
                case["status"].as_str().expect("a text")
            )
        })
        .collect();
    outcomes.sort();
    outcomes
}

fn failed(scratch: &Scratch, error_type: &str) -> Vec<String> {
    let all = outcomes(scratch);
    let of_class: Vec<_> = all.iter().filter(|text| text.contains("failed")).cloned().collect();
    for text in &of_class {
        assert!(text.ends_with(error_type), "{text}");
    }
    assert_eq!(all.len(), 6, "{all:?}");
    of_class.iter().map(|text| text.split('#').next().unwrap_or_default().to_owned()).collect()
}

fn said(ran: &Ran, words: &str) {
    assert!(ran.stderr.contains(words), "`{words}` is not in: {}", ran.stderr);
}

#[test]
fn a_program_answers_in_place_of_the_built_in_workflow() {
    let scratch = with(ECHO, "");
    let report = scratch.json(&["run"]);
    assert_eq!(report["trials"]["completed"], 6);
    assert_eq!((&report["run"]["provider"], &report["run"]["model"]), (&json!("command"), &json!("command")));
    assert_eq!(report["run"]["workflow"], "assess_claims_with_context");
    assert_eq!(scratch.run(&["verify", "latest"]).code, 0);
}

#[test]
fn the_parent_that_a_case_comes_with_is_its_assess_claim_span() {
    let scratch = with(ECHO, "");
    scratch.json(&["run"]);
    let cases = scratch.json(&["cases"]);
    let case = &cases[0];
    let (trace, span) = (case["trace_id"].as_str().expect("a text"), case["span_id"].as_str().expect("a text"));
    let shown = scratch.json(&["trace", trace]);
    let spans = shown["spans"].as_array().expect("a list");
    let own = spans.iter().find(|one| one["span_id"] == span).expect("the trial's span");
    assert_eq!(own["name"], "assess_claim");
    let told = &own["events"][0]["attributes"]["gen_ai.response.id"];
    assert_eq!(told, &json!(format!("00-{trace}-{span}-01")));
}

#[test]
fn a_program_that_is_not_there_ends_the_run_before_it_begins() {
    for (command, words) in [
        ("command = [\"no-such-program-here\"]", "`no-such-program-here` is not found in any folder of PATH"),
        ("command = [\"./app\"]", "`./app` is not found in"),
        ("command = [\"true\"]\ncwd = \"nowhere\"", "nowhere` is no folder"),
        ("command = []", "the workflow's program is not set"),
    ] {
        let scratch = with(command, "");
        for args in [&["run"][..], &["validate"], &["run", "--dry-run"]] {
            let ran = scratch.run(args);
            assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
            said(&ran, words);
        }
        assert!(!scratch.path().join(".spanscore").exists() || scratch.json(&["runs"]) == json!([]));
    }
}

#[test]
fn a_program_that_dies_at_once_is_refused_with_its_last_words() {
    let scratch = with_script("echo 'ModuleNotFoundError: no module named bees' >&2; exit 3\n", "");
    let ran = scratch.run(&["run"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    said(&ran, "exit status: 3");
    said(&ran, "app.sh: ModuleNotFoundError");
    said(&ran, "the end of its stderr: ModuleNotFoundError: no module named bees");
    said(&ran, "--resume");
}

#[test]
fn a_case_that_kills_the_program_fails_and_the_others_are_answered() {
    let body = "[ \"$id\" = c3 ] && exit 9\nprintf '{\"id\":\"%s\",\"output\":\"True\"}\\n' \"$id\"";
    let scratch = with_script(&looped(body), "[run]\nmax_retries = 2\nconcurrency = 1\n");
    let ran = scratch.run(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(failed(&scratch, "crashed"), ["c3"]);
    let cases = scratch.json(&["cases", "--where", "error"]);
    assert_eq!(cases[0]["attempts"], 3);
}

#[test]
fn a_program_that_keeps_dying_halts_the_run_which_can_be_resumed() {
    // It answers one case in its whole life, as long as the file is there.
    let body = "[ -e spent ] && exit 7\ntouch spent\nprintf '{\"id\":\"%s\",\"output\":\"True\"}\\n' \"$id\"";
    let scratch = with_script(&looped(body), "restarts = 2\n[run]\nmax_retries = 100\nconcurrency = 1\n");
    let ran = scratch.run(&["run"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    said(&ran, "the run halted");
    said(&ran, "it has died 3 times without an answer in between");
    assert_eq!(scratch.json(&["show"])["trials"]["completed"], 1);
    scratch.write("app.sh", looped("printf '{\"id\":\"%s\",\"output\":\"True\"}\\n' \"$id\""));
    assert_eq!(scratch.json(&["run", "--resume"])["trials"]["completed"], 6);
}

#[test]
fn a_case_without_an_answer_times_out_and_the_rest_goes_on() {
    let body = "[ \"$id\" = c2 ] && continue\nprintf '{\"id\":\"%s\",\"output\":\"True\"}\\n' \"$id\"";
    let scratch = with_script(&looped(body), "");
    let ran = scratch.run(&["run", "--timeout", "4s"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(failed(&scratch, "timeout"), ["c2"]);
}

#[test]
fn a_program_that_a_case_has_stuck_is_started_again_for_the_others() {
    // It works on one case after the other, and never ends the third; what waits behind it is asked again.
    let body = "[ \"$id\" = c3 ] && sleep 1000\nprintf '{\"id\":\"%s\",\"output\":\"True\"}\\n' \"$id\"";
    let scratch = with_script(&looped(body), "[run]\nconcurrency = 2\n");
    let ran = scratch.run(&["run", "--timeout", "4s"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(failed(&scratch, "timeout"), ["c3"]);
}

#[test]
fn links_to_the_trace_backend_stand_wherever_a_trace_does() {
    let template = "https://t.example/{trace_id}?s={span_id}&t={start_unix_ms}&r={run_id}";
    let scratch = with(ECHO, &format!("[trace]\ntrace_url = \"{template}\"\n"));
    let report = scratch.json(&["run"]);
    let run = report["run"]["id"].as_str().expect("a text");
    let cases = scratch.json(&["cases"]);
    let (trace, span) = (cases[0]["trace_id"].as_str().expect("a text"), cases[0]["span_id"].as_str().expect("a text"));
    let (before, after) = (format!("https://t.example/{trace}?s={span}&t="), format!("&r={run}"));
    let is_link =
        |url: &serde_json::Value| url.as_str().is_some_and(|url| url.starts_with(&before) && url.ends_with(&after));
    assert!(is_link(&cases[0]["trace_url"]), "{}", cases[0]);
    let shown = scratch.json(&["trace", trace, "--span", span]);
    assert_eq!(shown["trace_url"], cases[0]["trace_url"]);
    assert!(report["lowest"].as_array().expect("a list").iter().any(|case| is_link(&case["trace_url"])));
    said(&scratch.run(&["cases"]), &before);
    said(&scratch.run(&["trace", trace]), &format!("https://t.example/{trace}?s=&t="));
    assert!(scratch.run(&["show"]).stdout.contains("https://t.example/"));
}

#[test]
fn rubbish_on_stdout_is_told_and_harms_no_answer() {
    let body = "echo hello\necho '[1]'\nprintf '{\"id\":\"%s\",\"output\":\"True\"}\\n' \"$id\"\n\
        printf '{\"id\":\"%s\",\"output\":\"False\"}\\n' \"$id\"\necho '{\"id\":\"zz\",\"output\":\"True\"}'\necho '{\"output\":\"True\"}'\n";
    let scratch = with_script(&looped(body), "[run]\nconcurrency = 1\n");
    let ran = scratch.run(&["run", "--format", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(report["metrics"]["confusion"]["matrix"][0][0], 2, "{}", report["metrics"]["confusion"]);
    assert_eq!(report["trials"]["completed"], 6);
    said(&ran, "warning: app.sh: a line of its stdout is no answer");
    said(&ran, "logs belong on stderr");
    said(&ran, "which is not asked or answered");
}

#[test]
fn an_error_is_an_answer_and_other_shapes_are_invalid() {
    let body = "case $id in\nc1) printf '{\"id\":\"c1\",\"error\":{\"type\":\"RateLimit\",\"message\":\"slow down\"}}\\n';;\n\
        *) printf '{\"id\":\"%s\",\"output\":true}\\n' \"$id\";; esac";
    let scratch = with_script(&looped(body), "");
    let ran = scratch.run(&["run"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    said(&ran, "every trial failed");
    let all = outcomes(&scratch);
    assert!(all[0].ends_with("RateLimit") && all[1].ends_with("invalid_response"), "{all:?}");
}

#[test]
fn repeats_of_a_case_are_never_taken_for_each_other() {
    // Every answer says which repeat it was asked for, or not; either way all of them arrive.
    for answer in ["{\"id\":\"\\1\",\"output\":\"True\"}", "{\"id\":\"\\1\",\"repeat\":\\2,\"output\":\"True\"}"] {
        let command = format!(
            "command = [\"sed\", \"-u\", 's/.*\"id\":\"\\([^\"]*\\)\",\"repeat\":\\([0-9]*\\).*/{answer}/']\nprocesses = 2"
        );
        let scratch = with(&command, "");
        let report = scratch.json(&["run", "--repeat", "5"]);
        assert_eq!(report["trials"]["completed"], 30, "{answer}");
    }
}

#[test]
fn a_program_that_closes_stdout_is_started_again() {
    // Each process answers one case, then closes stdout and stays.
    let body = "printf '{\"id\":\"%s\",\"output\":\"True\"}\\n' \"$id\"\nexec >&-\nexec sleep 1000";
    let scratch = with_script(
        &looped(body),
        "[run]\nconcurrency = 1\nmax_retries = 10\nlimit = 2\n".replace("limit = 2\n", "").as_str(),
    );
    let report = scratch.json(&["run", "--limit", "2"]);
    assert_eq!(report["trials"]["completed"], 2);
}

#[test]
fn nothing_that_the_program_started_outlives_the_run() {
    let body = format!(
        "sleep 1000 & echo $! >> children\necho $$ >> children\n{}",
        looped("printf '{\"id\":\"%s\",\"output\":\"True\"}\\n' \"$id\"")
    );
    let scratch = with_script(&body, "");
    scratch.json(&["run"]);
    let children = std::fs::read_to_string(scratch.path().join("children")).expect("written");
    assert_eq!(children.lines().count(), 2);
    for pid in children.lines() {
        let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("status")).unwrap_or_default();
        assert!(status.is_empty() || status.contains("zombie"), "process {pid} is alive: {status}");
    }
}

#[test]
fn a_program_that_does_not_end_is_killed_and_that_is_said() {
    let body = format!(
        "trap '' TERM\n{}\nwhile :; do sleep 1; done\n",
        looped("printf '{\"id\":\"%s\",\"output\":\"True\"}\\n' \"$id\"")
    );
    let scratch = with_script(&body, "grace = \"200ms\"\n".trim_end());
    let ran = scratch.run(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    said(&ran, "did not end within 200ms");
}

#[test]
fn another_program_is_not_resumed_without_force() {
    let scratch = with(ECHO, "version = \"1\"");
    scratch.json(&["run", "--limit", "6"]);
    let suite = std::fs::read_to_string(scratch.path().join("spanscore.toml")).expect("read");
    scratch.write("spanscore.toml", suite.replace("version = \"1\"", "version = \"2\""));
    let ran = scratch.run(&["run", "--resume"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    said(&ran, "is not the same any more");
    assert_eq!(scratch.run(&["run", "--resume", "--force"]).code, 0);
}

#[test]
fn what_says_how_to_ask_a_model_is_refused() {
    let scratch = with(ECHO, "");
    for flag in
        [["--model", "m"], ["--provider", "builtin"], ["--base-url", "http://x"], ["--replay", "r"], ["--cache", "c"]]
    {
        let ran = scratch.run(&["run", flag[0], flag[1]]);
        assert_eq!(ran.code, 2, "{flag:?}");
        said(&ran, &format!("{} means nothing with `kind = \"command\"`", flag[0]));
    }
    for (more, words) in [
        ("[model]\nprovider = \"builtin\"\n", "[model] means nothing"),
        ("url = \"http://x\"\n", "[workflow] url means nothing"),
        ("prompt = \"p.toml\"\n", "[workflow] prompt means nothing"),
        ("commend = \"x\"\n", "did you mean `command`?"),
    ] {
        let ran = with(ECHO, more).run(&["run"]);
        assert_eq!(ran.code, 2, "{more}");
        said(&ran, words);
    }
    let named = with(ECHO, "[model]\nname = \"gpt-x\"\n").json(&["run"]);
    assert_eq!(named["run"]["model"], "gpt-x");
}

#[test]
fn the_program_inherits_no_detour_for_its_spans() {
    let body = "printf '%s|%s|%s' \"$TRACEPARENT\" \"$OTEL_EXPORTER_OTLP_PROTOCOL\" \"$OTEL_EXPORTER_OTLP_TRACES_ENDPOINT\" > seen\n\
        printf '{\"id\":\"%s\",\"output\":\"True\"}\\n' \"$id\"";
    let scratch = with_script(&looped(body), "env = { COLOUR = \"blue\" }");
    let mut command = scratch.command(&["run", "--trace-to", "none"]);
    command.env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1/elsewhere");
    command.env("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let ran = Ran::of(command.output().expect("it starts"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let seen = std::fs::read_to_string(scratch.path().join("seen")).expect("written");
    let parts: Vec<_> = seen.split('|').collect();
    assert!(parts[0].starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{seen}");
    let run_span = parts[0].split('-').nth(2).expect("a span id");
    let trace = scratch.json(&["trace", "0af7651916cd43dd8448eb211c80319c"]);
    assert_eq!(trace["spans"][0]["span_id"], run_span);
    assert_eq!((parts[1], parts[2]), ("http/protobuf", ""));
}

#[test]
fn an_endpoint_is_asked_for_each_case() {
    let endpoint = Endpoint::new(200, &json!({"output": "True", "model": "m-1"}));
    let scratch = http(&endpoint.url());
    let report = scratch.json(&["run"]);
    assert_eq!((&report["trials"]["completed"], &report["run"]["provider"]), (&json!(6), &json!("http")));
}

#[test]
fn an_endpoint_that_refuses_is_told_apart_from_one_that_fails() {
    let missing = Endpoint::new(404, &json!({"error": "no such route"}));
    let ran = http(&missing.url()).run(&["run"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    said(&ran, "no such route");
    said(&ran, "[workflow] url");
    let broken = Endpoint::new(500, &json!({"error": "it broke"}));
    let scratch = http(&broken.url());
    let ran = scratch.run(&["run", "--max-retries", "0"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert_eq!(failed(&scratch, "500").len(), 6);
}

fn http(url: &str) -> Scratch {
    let scratch = Scratch::new();
    let suite = "[suite]\nname = \"app\"\ndataset = \"claims.csv\"\n[workflow]\nkind = \"http\"\n";
    scratch.write("spanscore.toml", format!("{suite}url = \"{url}\"\n"));
    scratch
}
