//! Bad input: the exit code of the contract, and a message that says what, where and what to do.

use std::io::Write;

use crate::support::{CLAIMS, Endpoint, SUITE, Scratch};

/// Runs a command that must fail with this code, print nothing to stdout, and say this.
#[track_caller]
fn check(scratch: &Scratch, args: &[&str], code: i32) -> String {
    let ran = scratch.run(args);
    assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.stdout, "", "results only on stdout");
    scratch.redact(&ran.stderr)
}

#[test]
fn a_missing_dataset() {
    insta::assert_snapshot!(check(&Scratch::new(), &["run", "--dataset", "clams.csv"], 2));
}

#[test]
fn a_missing_suite() {
    insta::assert_snapshot!(check(&Scratch::new(), &["run", "nightly.toml"], 2));
}

#[test]
fn a_dataset_without_a_claim_column() {
    let scratch = Scratch::new();
    scratch.write("claims.csv", CLAIMS.replace("claim,", "clam,"));
    insta::assert_snapshot!(check(&scratch, &["run"], 2));
}

#[test]
fn an_unknown_label() {
    let scratch = Scratch::new();
    scratch.write("claims.csv", CLAIMS.replace(",NEE,", ",Maybe,"));
    insta::assert_snapshot!(check(&scratch, &["run"], 2));
}

#[test]
fn an_empty_dataset() {
    let scratch = Scratch::new();
    scratch.write("claims.csv", "id,claim,context,label\n");
    insta::assert_snapshot!(check(&scratch, &["run"], 2));
}

#[test]
fn duplicate_ids() {
    let scratch = Scratch::new();
    scratch.write("claims.csv", CLAIMS.replace("c4,", "c2,"));
    insta::assert_snapshot!(check(&scratch, &["run"], 2));
}

#[test]
fn invalid_utf_8() {
    let scratch = Scratch::new();
    let mut bytes = CLAIMS.as_bytes().to_vec();
    let place = CLAIMS.find("never").expect("it is there");
    bytes[place] = 0xff;
    scratch.write("claims.csv", bytes);
    insta::assert_snapshot!(check(&scratch, &["run"], 2));
}

#[test]
fn a_cut_gzip_file() {
    let scratch = Scratch::new();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(CLAIMS.repeat(50).as_bytes()).expect("written");
    let whole = encoder.finish().expect("finished");
    scratch.write("claims.csv.gz", &whole[..whole.len() / 2]);
    insta::assert_snapshot!(check(&scratch, &["run", "--dataset", "claims.csv.gz"], 2));
}

#[test]
fn an_unknown_evaluator() {
    insta::assert_snapshot!(check(&Scratch::new(), &["run", "--evaluator", "label_mach"], 2));
}

#[test]
fn an_unknown_key_in_the_suite() {
    let scratch = Scratch::new();
    scratch.write("spanscore.toml", format!("{SUITE}temprature = 0.5\n"));
    insta::assert_snapshot!(check(&scratch, &["run"], 2));
}

#[test]
fn a_dataset_of_unknown_format() {
    let scratch = Scratch::new();
    scratch.write("claims.xlsx", CLAIMS);
    insta::assert_snapshot!(check(&scratch, &["run", "--dataset", "claims.xlsx"], 2));
}

#[test]
fn an_unreachable_endpoint_fails_every_trial() {
    let scratch = Scratch::new();
    // A port that was free a moment ago and is closed again.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
    let url = format!("http://{free}/v1");
    let args = ["run", "--base-url", &url, "--model", "m", "--max-retries", "0", "--limit", "1"];
    let ran = scratch.run(&args);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    insta::assert_snapshot!(scratch.redact(&ran.stderr));
}

#[test]
fn a_refused_key() {
    let body = serde_json::json!({"error": {"message": "Incorrect API key provided: sk-secret.", "type": "invalid_request_error",
        "param": null, "code": "invalid_api_key"}});
    let endpoint = Endpoint::new(401, &body);
    let scratch = Scratch::new();
    let args = ["run", "--base-url", &endpoint.url(), "--model", "m"];
    let mut command = scratch.command(&args);
    let ran = crate::support::Ran::of(command.env("OPENAI_API_KEY", "sk-secret").output().expect("starts"));
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(!ran.stderr.contains("sk-secret"), "the key stays secret: {}", ran.stderr);
    insta::assert_snapshot!(scratch.redact(&ran.stderr));
}

#[test]
fn an_unknown_model() {
    let body = serde_json::json!({"error": {"message": "The model `m` does not exist", "type": "invalid_request_error",
        "param": null, "code": "model_not_found"}});
    let endpoint = Endpoint::new(404, &body);
    let scratch = Scratch::new();
    let ran = scratch.run(&["run", "--base-url", &endpoint.url(), "--model", "m"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(endpoint.requests() <= 64, "no storm");
    insta::assert_snapshot!(scratch.redact(&ran.stderr));
}

#[test]
fn an_unknown_run_names_the_known_ones() {
    let scratch = Scratch::new();
    scratch.json(&["run", "--name", "first"]);
    insta::assert_snapshot!(check(&scratch, &["show", "nightly"], 2));
}

#[test]
fn no_store_yet() {
    insta::assert_snapshot!(check(&Scratch::new(), &["show", "latest"], 2));
}

#[test]
fn a_filter_with_an_unknown_field() {
    insta::assert_snapshot!(check(&Scratch::new(), &["run", "--filter", "fild = biology"], 2));
}

#[test]
fn an_evaluator_named_twice() {
    insta::assert_snapshot!(check(&Scratch::new(), &["run", "--evaluator", "label_match,label_match"], 2));
}

#[test]
fn control_bytes_of_a_dataset_never_reach_the_terminal() {
    let scratch = Scratch::new();
    scratch.write("claims.csv", CLAIMS.replace(",NEE,", ",\u{1b}]0;pwn\u{7}bad,"));
    let said = check(&scratch, &["run"], 2);
    assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
}
