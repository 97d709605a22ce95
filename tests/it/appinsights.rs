//! A run with Application Insights as a destination: everything arrives once, linked, and the key stays where it was.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::{Endpoint, Scratch};

const KEY: &str = "0ca0a0f0-0000-0000-0000-00000000ca0f";

fn connection_string(endpoint: &Endpoint) -> String {
    format!("InstrumentationKey={KEY};IngestionEndpoint={}/", endpoint.base())
}

fn taken() -> Endpoint {
    Endpoint::new(200, &json!({"itemsReceived": 1, "itemsAccepted": 1, "errors": []}))
}

fn envelopes(endpoint: &Endpoint) -> Vec<Value> {
    endpoint.bodies("/v2.1/track").into_iter().flat_map(|body| body.as_array().expect("a list").clone()).collect()
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in {value}"))
}

#[test]
fn a_run_arrives_with_its_scores_below_the_spans_they_judge() {
    let (scratch, endpoint) = (Scratch::new(), taken());
    scratch.write("connection.txt", connection_string(&endpoint) + "\n");
    let args = ["run", "--trace-to", "appinsights", "--connection-string-file", "connection.txt"];
    let report = scratch.json(&args);
    let exported = &report["spans"]["exported"]["appinsights"];
    assert_eq!(exported["delivered"], report["spans"]["stored"], "{exported}");
    assert_eq!([&exported["pending"], &exported["rejected"]], [&json!(0), &json!(0)]);
    let envelopes = envelopes(&endpoint);
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for envelope in &envelopes {
        *kinds.entry(text(envelope, "/data/baseType")).or_default() += 1;
        assert_eq!((text(envelope, "/iKey"), text(envelope, "/tags/ai.cloud.role")), (KEY, "spanscore"));
    }
    let spans = report["spans"]["stored"].as_u64().expect("a number") as usize;
    // Six claims by three evaluators; `abstention` skips the claims that it does not ask about.
    let results = kinds.get("EventData").copied().unwrap_or_default();
    assert!(kinds["RemoteDependencyData"] == spans && results >= 12 && kinds.len() == 2, "{kinds:?}");
    let ids = |kind: &'static str| envelopes.iter().filter(move |envelope| envelope["data"]["baseType"] == kind);
    let known: BTreeSet<(&str, &str)> = ids("RemoteDependencyData")
        .map(|envelope| (text(envelope, "/tags/ai.operation.id"), text(envelope, "/data/baseData/id")))
        .collect();
    assert_eq!(known.len(), spans, "each span once");
    for result in ids("EventData") {
        let place = (text(result, "/tags/ai.operation.id"), text(result, "/tags/ai.operation.parentId"));
        assert!(known.contains(&place), "{result}");
        assert_eq!(text(result, "/data/baseData/name"), "gen_ai.evaluation.result");
        assert!(text(result, "/data/baseData/properties/internal_properties").contains(text(&report, "/run/id")));
    }
    let calls = envelopes.iter().filter(|envelope| envelope["data"]["baseData"]["type"] == "GenAI | openai");
    assert!(calls.count() >= 6);
    let scored = |envelope: &&Value| envelope.pointer("/data/baseData/measurements/label_match").is_some();
    assert!(envelopes.iter().filter(scored).count() >= 12, "on the span and as a custom event");
}

#[test]
fn what_the_quota_refuses_stays_pending_and_is_delivered_later() {
    let (scratch, full, endpoint) = (Scratch::new(), Endpoint::new(439, &json!({})), taken());
    let run = |endpoint: &Endpoint, args: &[&str]| {
        let mut command = scratch.command(args);
        command.env("APPLICATIONINSIGHTS_CONNECTION_STRING", connection_string(endpoint));
        crate::support::Ran::of(command.output().expect("the command starts"))
    };
    let ran = run(&full, &["run", "--format", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("quota") && ran.stderr.contains("export --pending"), "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).expect("a document");
    assert_eq!(report["spans"]["exported"]["appinsights"]["delivered"], 0);
    // Without its key nothing can be delivered, and nothing is lost.
    let without = scratch.run(&["export", "--pending"]);
    assert!(without.stderr.contains("APPLICATIONINSIGHTS_CONNECTION_STRING is not set"), "{}", without.stderr);
    let later = run(&endpoint, &["export", "--pending", "--format", "json"]);
    assert_eq!(later.code, 0, "{}", later.stderr);
    let counts: Value = serde_json::from_str(&later.stdout).expect("a document");
    let counts = &counts["destinations"]["appinsights"];
    assert_eq!(counts["delivered"], counts["stored"], "{counts}");
    assert!(!envelopes(&endpoint).is_empty());
    // The key is in no file of the store.
    for entry in std::fs::read_dir(scratch.path().join(".spanscore")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let bytes = if path.is_file() { std::fs::read(&path).expect("readable") } else { Vec::new() };
        assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{}", path.display());
    }
}
