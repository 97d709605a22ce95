//! The promise itself: every score is linked to the span that carries it, and `verify` would notice if it were not.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::Scratch;

/// The decompressed payload that holds a span named `assess_claim`, with its row id.
fn payload(store: &Connection) -> (i64, Vec<u8>) {
    let (id, body): (i64, Vec<u8>) = store
        .query_row(
            "SELECT payload.id, body FROM payload JOIN span ON span.payload = payload.id WHERE name = 'assess_claim' LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .expect("a payload");
    let dictionary: Vec<u8> = store
        .query_row("SELECT content FROM dictionary WHERE id = ?1", [body[0]], |row| row.get(0))
        .expect("its dictionary");
    let mut reader = zstd::stream::read::Decoder::with_dictionary(&body[1..], &dictionary).expect("zstd");
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut plain).expect("decompressed");
    (id, plain)
}

/// Turns a score on a span over, in the bytes of its protobuf.
fn edit(store: &Connection, attribute: &str) {
    let (id, mut plain) = payload(store);
    let place = plain.windows(attribute.len()).position(|w| w == attribute.as_bytes()).expect("the attribute");
    // After the key: value field of 9 bytes, holding a double.
    let value = place + attribute.len();
    assert_eq!(plain[value..value + 3], [0x12, 0x09, 0x21], "a double follows");
    let old = f64::from_le_bytes(plain[value + 3..value + 11].try_into().expect("8 bytes"));
    plain[value + 3..value + 11].copy_from_slice(&(1.0 - old).to_le_bytes());
    plain.insert(0, 0);
    store.execute("UPDATE payload SET body = ?1 WHERE id = ?2", rusqlite::params![plain, id]).expect("written");
}

#[test]
fn verify_finds_exactly_what_was_deleted_and_what_was_edited() {
    let scratch = Scratch::new();
    let report = scratch.json(&["run"]);
    assert_eq!(scratch.json(&["verify", "latest"])["missing"], json!([]));

    let store = Connection::open(scratch.path().join(".spanscore/spanscore.db")).expect("the store");
    edit(&store, "spanscore.score.valid_label");
    let last = "SELECT max(id) FROM span WHERE name = 'assess_claim'";
    assert_eq!(store.execute(&format!("DELETE FROM span WHERE id = ({last})"), []).expect("deleted"), 1);
    drop(store);

    let ran = scratch.run(&["verify", "latest", "--format", "json"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    let found: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(found["missing"].as_array().expect("a list").len(), 1, "{found:#}");
    assert_eq!(found["mismatched"].as_array().expect("a list").len(), 1, "{found:#}");
    assert_eq!(found["run"], report["run"]["id"]);
    assert_eq!(found["mismatched"][0]["evaluator"], "valid_label");
}

#[test]
fn verify_notices_a_span_of_another_case() {
    let scratch = Scratch::new();
    scratch.json(&["run", "--evaluator", "label_match"]);
    let store = Connection::open(scratch.path().join(".spanscore/spanscore.db")).expect("the store");
    // The ids are of one length, so that only the letters have to change.
    assert_eq!(store.execute("UPDATE planned SET case_id = 'cX' WHERE case_id = 'c1'", []).expect("written"), 1);
    drop(store);
    let ran = scratch.run(&["verify", "latest", "--format", "json"]);
    assert_eq!(ran.code, 4, "{}", ran.stdout);
    let found: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(found["mismatched"][0]["attribute"], "test.case.id", "{found:#}");
}

#[test]
fn a_score_says_the_same_in_every_document() {
    let scratch = Scratch::new();
    scratch.json(&["run"]);
    let cases = scratch.json(&["cases", "latest"]);
    let cases = cases.as_array().expect("a list");
    assert_eq!(cases.len(), 6);
    for case in cases {
        let trace = scratch.json(&["trace", case["trace_id"].as_str().expect("an id")]);
        let spans = trace["spans"].as_array().expect("spans");
        let span = spans.iter().find(|s| s["span_id"] == case["span_id"]).expect("the case's span is in its trace");
        let on_span = &span["attributes"]["spanscore.score.label_match"];
        assert_eq!(*on_span, case["scores"]["label_match"]["value"], "{case:#}");
        assert_eq!(span["attributes"]["test.case.id"], case["case_id"]);
        let chat = spans.iter().find(|s| s["parent_span_id"] == case["span_id"]).expect("the model call is below it");
        assert!(chat["name"].as_str().expect("a name").starts_with("chat "));
        let roots: Vec<_> = spans.iter().filter(|s| s["parent_span_id"].is_null()).collect();
        assert_eq!(roots.len(), 1);
        assert_eq!(roots[0]["links"].as_array().expect("links").len(), 1, "the batch is linked to its run");
    }
}

#[test]
fn content_and_keys_stay_out_of_the_spans() {
    let scratch = Scratch::new();
    let endpoint = crate::support::Endpoint::answering("True, for the canary sings.");
    let url = endpoint.url().replace("http://", "http://me:sk-canary-url@");
    let args = ["run", "--base-url", &url, "--model", "m", "--format", "json"];
    let output = scratch.command(&args).env("OPENAI_API_KEY", "sk-canary-key").output().expect("starts");
    assert!(output.status.success());
    let attributes = |scratch: &Scratch| {
        let traces = scratch.json(&["traces"]);
        let id = traces.as_array().expect("a list").iter().find(|t| t["operations"] != 1).expect("a batch")["trace_id"]
            .clone();
        scratch.json(&["trace", id.as_str().expect("an id")]).to_string()
    };
    let quiet = attributes(&scratch);
    assert!(!quiet.contains("others follow") && !quiet.contains("canary"), "{quiet}");
    scratch.json(&["run", "--capture-content", "--base-url", &endpoint.url(), "--model", "m", "--limit", "1"]);
    let told = attributes(&scratch);
    assert!(told.contains("others follow") && told.contains("the canary sings"), "{told}");
    for entry in std::fs::read_dir(scratch.path().join(".spanscore")).expect("the store") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let bytes = std::fs::read(&path).expect("readable");
            for secret in [b"sk-canary-key", b"sk-canary-url"] {
                assert!(!bytes.windows(secret.len()).any(|w| w == secret), "{} holds a key", path.display());
            }
        }
    }
}
