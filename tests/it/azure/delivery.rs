//! Runs whose telemetry goes to the Application Insights resource of a Foundry project.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::fake::{Act, Azure, IDENTITY_HEADER, INSTRUMENTATION_KEY, TOKEN};
use crate::support::{Ran, SUITE, Scratch};

/// A suite of `count` claims whose traces go to the project.
fn scratch(azure: &Azure, count: usize, more: &str) -> Scratch {
    let scratch = Scratch::new();
    let mut claims = "id,claim,context,label\n".to_owned();
    for i in 0..count {
        let label = ["True", "False", "NEE"][i % 3];
        writeln!(claims, "c{i},Bee number {i} dances.,Bee number {i} dances and others follow.,{label}")
            .expect("a text");
    }
    scratch.write("claims.csv", claims);
    let azure = format!("[trace]\nto = [\"appinsights\"]\n[azure]\nproject = \"{}\"\n{more}", azure.project());
    scratch.write("spanscore.toml", format!("{SUITE}{azure}"));
    scratch
}

fn ran(scratch: &Scratch, azure: &Azure, args: &[&str]) -> Ran {
    let mut command = scratch.command(args);
    command.envs(azure.environment());
    Ran::of(command.output().expect("the command starts"))
}

fn document(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", ran.stdout, ran.stderr))
}

/// The counts of the destination: delivered, pending, rejected, not sampled. They must make up what is stored, which a
/// report says of the spans of a run, and `export` of spans and log records.
fn balance(document: &Value) -> [u64; 4] {
    let (counts, stored) = match &document["destinations"]["appinsights"] {
        Value::Null => (&document["spans"]["exported"]["appinsights"], &document["spans"]["stored"]),
        counts => (counts, &counts["stored"]),
    };
    let count = |name: &str| counts[name].as_u64().unwrap_or_else(|| panic!("{name} in {counts}"));
    let all = ["delivered", "pending", "rejected", "not_sampled"].map(count);
    assert_eq!(Some(all.iter().sum::<u64>()), stored.as_u64(), "{counts}");
    all
}

/// How many items the destination may have got twice.
fn duplicates(document: &Value) -> usize {
    document["destinations"]["appinsights"]["duplicates"].as_u64().expect("a count") as usize
}

/// Every item once: the ids of spans, and place and name of results.
fn items(envelopes: &[Value]) -> BTreeMap<String, usize> {
    let mut items = BTreeMap::new();
    for envelope in envelopes {
        let data = &envelope["data"];
        let tags = &envelope["tags"];
        let key = match data["baseType"].as_str() {
            Some("RemoteDependencyData") => format!("{} {}", tags["ai.operation.id"], data["baseData"]["id"]),
            Some("EventData") => {
                let name = &data["baseData"]["properties"]["gen_ai.evaluation.name"];
                format!("{} {} {name}", tags["ai.operation.id"], tags["ai.operation.parentId"])
            }
            other => panic!("{other:?}: {envelope}"),
        };
        *items.entry(key).or_insert(0) += 1;
    }
    items
}

/// What a complete delivery of a run consists of: spans, and a result for each score.
fn complete(report: &Value) -> usize {
    let scored: u64 = report["evaluators"]
        .as_object()
        .expect("evaluators")
        .values()
        .map(|evaluator| {
            evaluator["scored"].as_u64().expect("a count") + evaluator["failed"].as_u64().expect("a count")
        })
        .sum();
    (report["spans"]["stored"].as_u64().expect("a count") + scored) as usize
}

/// Nothing secret in any file below a folder.
fn no_canary_below(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            no_canary_below(&path);
            continue;
        }
        let bytes = std::fs::read(&path).expect("readable");
        for canary in [TOKEN, IDENTITY_HEADER, INSTRUMENTATION_KEY] {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{canary} in {}", path.display());
        }
    }
}

fn no_canary_in(ran: &Ran) {
    for canary in [TOKEN, IDENTITY_HEADER, INSTRUMENTATION_KEY] {
        assert!(!ran.stdout.contains(canary) && !ran.stderr.contains(canary), "{canary}: {}", ran.stderr);
    }
}

/// Whether a field has the type that the golden file shows.
type Fits = fn(&Value) -> bool;

/// Checks an envelope field by field against what Azure Monitor's own exporter writes for its kind.
fn check_shape(envelope: &Value) {
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap_or_else(|| panic!("{envelope}")).keys().cloned().collect()
    };
    let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    assert_eq!(keys(envelope), set(&["name", "iKey", "time", "tags", "data"]), "{envelope}");
    assert_eq!(keys(&envelope["data"]), set(&["baseType", "baseData"]));
    let time = envelope["time"].as_str().expect("a text");
    assert!(time.len() == 27 && time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    // Without the tags about the device, on purpose.
    let own =
        ["ai.cloud.role", "ai.cloud.roleInstance", "ai.internal.nodeName", "ai.application.ver", "ai.operation.id"];
    let more = ["ai.operation.parentId", "ai.operation.name", "ai.internal.sdkVersion"];
    let tags = keys(&envelope["tags"]);
    assert!(set(&[&own[..1], &own[3..]].concat()).is_subset(&tags), "{tags:?}");
    assert!(tags.is_subset(&set(&[&own[..], &more[..]].concat())), "{tags:?}");
    assert!(envelope["tags"].as_object().expect("tags").values().all(Value::is_string), "{envelope}");
    let data = &envelope["data"]["baseData"];
    let fields: &[(&str, Fits)] = match envelope["data"]["baseType"].as_str().expect("a text") {
        "RemoteDependencyData" => {
            assert_eq!(envelope["name"], "Microsoft.ApplicationInsights.RemoteDependency");
            let duration = data["duration"].as_str().expect("a text");
            let form = regex::Regex::new(r"^\d+\.\d\d:\d\d:\d\d\.\d{3}$").expect("valid");
            assert!(form.is_match(duration), "{duration}");
            &[
                ("ver", |ver| *ver == 2),
                ("name", Value::is_string),
                ("id", |id| id.as_str().is_some_and(|id| id.len() == 16)),
                ("resultCode", Value::is_string),
                ("duration", Value::is_string),
                ("success", Value::is_boolean),
                ("type", Value::is_string),
                ("target", Value::is_string),
                ("properties", Value::is_object),
                ("measurements", Value::is_object),
            ]
        }
        "EventData" => {
            assert_eq!(envelope["name"], "Microsoft.ApplicationInsights.Event");
            &[
                ("ver", |ver| *ver == 2),
                ("name", |name| *name == "gen_ai.evaluation.result"),
                ("properties", Value::is_object),
                ("measurements", Value::is_object),
            ]
        }
        other => panic!("{other}"),
    };
    for key in keys(data) {
        let (_, fits) = fields.iter().find(|(name, _)| *name == key).unwrap_or_else(|| panic!("{key} in {envelope}"));
        assert!(fits(&data[&key]), "{key} in {envelope}");
    }
    let texts = |value: &Value, fits: fn(&Value) -> bool| value.as_object().is_none_or(|all| all.values().all(fits));
    assert!(texts(&data["properties"], Value::is_string), "{envelope}");
    assert!(texts(&data["measurements"], Value::is_number), "{envelope}");
}

#[test]
fn five_hundred_claims_go_from_the_projects_address_to_envelopes_each_once_and_in_shape() {
    let azure = Azure::start();
    *azure.seen.wants_token.lock().expect("no test panicked") = true;
    let scratch = scratch(&azure, 500, "");
    let ran = ran(&scratch, &azure, &["run", "--format", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let report = document(&ran);
    let [delivered, pending, rejected, _] = balance(&report);
    assert_eq!((pending, rejected), (0, 0), "{}", ran.stderr);
    assert!(delivered >= 1000, "a span for each claim and its model call");
    let envelopes = azure.seen.envelopes.lock().expect("no test panicked");
    let items = items(&envelopes);
    assert!(items.values().all(|count| *count == 1), "each once");
    assert_eq!(items.len(), complete(&report));
    envelopes.iter().for_each(check_shape);
    let calls = envelopes.iter().filter(|envelope| envelope["data"]["baseData"]["type"] == "GenAI | openai").count();
    assert_eq!(calls, 500);
    let asked = azure.asked();
    assert_eq!(asked[1], "GET /api/projects/p/connections?api-version=v1&connectionType=AppInsights");
    assert_eq!(asked[2], "POST /api/projects/p/connections/insights-1/getConnectionWithCredentials?api-version=v1");
    // One token for the project, one for the resource, which had to ask for it.
    assert_eq!(asked.iter().filter(|line| line.starts_with("GET /identity")).count(), 2, "{asked:?}");
    no_canary_in(&ran);
    no_canary_below(scratch.path());
}

/// A run during which the ingestion endpoint acts like this, then delivery of the rest to one that takes all. Gives the
/// run's counts and words; whatever happens, nothing is lost, and nothing is sent twice unless `twice` may be.
fn survives(acts: &[Act], more: &str, twice: bool) -> ([u64; 4], String) {
    let azure = Azure::start();
    let scratch = scratch(&azure, 12, more);
    azure.next(acts.iter().cloned());
    *azure.seen.wants_token.lock().expect("no test panicked") = more.contains("entra");
    let first = ran(&scratch, &azure, &["run", "--format", "json"]);
    assert_eq!(first.code, 0, "{acts:?}: {}", first.stderr);
    let report = document(&first);
    let counts = balance(&report);
    azure.next([]);
    let later = ran(&scratch, &azure, &["export", "--pending", "--format", "json"]);
    assert_eq!(later.code, 0, "{acts:?}: {}", later.stderr);
    let delivered = document(&later);
    let [_, pending, rejected, _] = balance(&delivered);
    assert_eq!(pending, 0, "{acts:?}");
    let refused = azure.seen.refused.lock().expect("no test panicked").len();
    assert_eq!(rejected as usize, refused, "{acts:?}: what was refused for good is counted");
    let items = items(&azure.seen.envelopes.lock().expect("no test panicked"));
    assert_eq!(items.len() + refused, complete(&report), "{acts:?}");
    assert!(twice || items.values().all(|count| *count == 1), "{acts:?}: {items:?}");
    let again: usize = items.values().map(|count| count - 1).sum();
    assert!(duplicates(&delivered) >= again, "{acts:?}: {again} came twice, {delivered}");
    for ran in [&first, &later] {
        no_canary_in(ran);
    }
    no_canary_below(scratch.path());
    (counts, first.stderr)
}

fn answer(status: u16, body: &Value) -> Act {
    Act::Answer(status, None, body.to_string())
}

#[test]
fn what_is_refused_for_good_is_counted_and_said_and_the_rest_arrives_once() {
    // Enough of them that one is the answer to many items, however they were gathered.
    let (counts, said) = survives(&vec![Act::Mixed; 20], "", false);
    assert!(counts[2] > 0 && counts[1] == 0, "{counts:?}");
    assert!(said.contains("appinsights refused") && said.contains("Field 'time' is too old"), "{said}");
}

#[test]
fn what_others_will_send_again_is_counted_each_time() {
    let azure = Azure::start();
    let scratch = scratch(&azure, 12, "");
    let report = scratch.json(&["run", "--trace-to", "none"]);
    let full = answer(439, &json!({}));
    // Spans and results each: all are taken but the first, and then the quota is used up.
    let acts = [vec![Act::AllButOne; 2], vec![full; 4]].concat();
    azure.next(acts.clone());
    let first = document(&ran(&scratch, &azure, &["export", "--to", "appinsights", "latest", "--format", "json"]));
    assert_eq!(balance(&first)[0], 0);
    assert!(duplicates(&first) > 12, "{first}");
    azure.next(acts);
    ran(&scratch, &azure, &["export", "--pending"]);
    azure.next([]);
    let last = document(&ran(&scratch, &azure, &["export", "--pending", "--format", "json"]));
    assert_eq!(balance(&last)[1], 0);
    let items = items(&azure.seen.envelopes.lock().expect("no test panicked"));
    assert_eq!(items.len(), complete(&report));
    assert_eq!(duplicates(&last), items.values().map(|count| count - 1).sum::<usize>(), "{last}");
}

#[test]
fn what_may_pass_is_waited_for() {
    let slow = Act::Answer(429, Some(("retry-after", "1".to_owned())), String::new());
    let acts = [slow, answer(500, &json!({})), answer(503, &json!({})), answer(408, &json!({}))];
    let (counts, said) = survives(&acts, "", false);
    assert_eq!(counts[1], 0, "{counts:?}: {said}");
}

#[test]
fn what_must_be_mended_leaves_everything_pending_and_is_said() {
    let bad_key = json!({"errors": [{"index": 0, "statusCode": 400, "message": "Invalid instrumentation key"}]});
    let forbidden = vec![answer(403, &json!({"error": "no role"})); 2];
    let elsewhere = Act::Answer(307, Some(("location", "https://evil.example/v2.1/track".to_owned())), String::new());
    for (acts, words) in [
        (vec![answer(400, &bad_key); 2], "check the InstrumentationKey"),
        (vec![answer(402, &json!({})); 2], "quota is used up"),
        (vec![answer(439, &json!({})); 2], "quota is used up"),
        ([forbidden.clone(), forbidden].concat(), "Monitoring Metrics Publisher"),
        (vec![elsewhere; 2], "not of the same service"),
    ] {
        let (counts, said) = survives(&acts, "", false);
        assert_eq!((counts[0], counts[2]), (0, 0), "{words}");
        assert!(said.contains(words) && said.contains("export --pending"), "{words}: {said}");
    }
}

#[test]
fn a_request_that_is_wrong_in_itself_is_refused_for_good_and_not_repeated() {
    let azure = Azure::start();
    let scratch = scratch(&azure, 3, "");
    let refusal = json!({"itemsReceived": 1, "itemsAccepted": 0, "errors": [{"message": "no such field"}]});
    azure.next(vec![answer(400, &refusal); 200]);
    let ran = ran(&scratch, &azure, &["run", "--format", "json"]);
    let counts = balance(&document(&ran));
    assert_eq!((counts[0], counts[1]), (0, 0), "{counts:?}");
    assert!(ran.stderr.contains("no such field"), "{}", ran.stderr);
}

#[test]
fn a_token_that_is_taken_back_is_replaced() {
    let (counts, said) = survives(&[Act::Revoke], "auth = \"entra\"\n", false);
    assert_eq!(counts[1], 0, "{said}");
}

#[test]
fn a_redirect_within_the_service_is_followed() {
    let azure = Azure::start();
    let scratch = scratch(&azure, 6, "");
    let there = format!("{}/moved/v2.1/track", azure.base());
    azure.next([Act::Answer(307, Some(("location", there)), String::new())]);
    let ran = ran(&scratch, &azure, &["run", "--format", "json"]);
    assert_eq!(balance(&document(&ran))[1], 0, "{}", ran.stderr);
    let asked = azure.asked();
    let count = |wanted: &str| asked.iter().filter(|line| *line == wanted).count();
    // Spans and results are sent side by side, and either may come before the redirect is known.
    assert!(count("POST /v2.1/track") <= 2 && count("POST /moved/v2.1/track") >= 1, "{asked:?}");
}

#[test]
fn a_redirect_to_another_server_of_the_same_host_takes_everything_there() {
    let (azure, second) = (Azure::start(), Azure::start());
    for seen in [&azure.seen, &second.seen] {
        *seen.wants_token.lock().expect("no test panicked") = true;
    }
    let scratch = scratch(&azure, 60, "auth = \"entra\"\n");
    let there = format!("{}/v2.1/track", second.base());
    // Spans and results are sent side by side, and either may come before the redirect is known.
    azure.next(vec![Act::Answer(307, Some(("location", there)), String::new()); 2]);
    let ran = ran(&scratch, &azure, &["run", "--format", "json"]);
    let report = document(&ran);
    assert_eq!(balance(&report)[1], 0, "{}", ran.stderr);
    assert!(azure.seen.envelopes.lock().expect("no test panicked").is_empty());
    let items = items(&second.seen.envelopes.lock().expect("no test panicked"));
    assert!(items.values().all(|count| *count == 1));
    assert_eq!(items.len(), complete(&report));
    let asked = azure.asked();
    assert!((1..=2).contains(&asked.iter().filter(|line| *line == "POST /v2.1/track").count()), "{asked:?}");
    assert!(second.asked().iter().all(|line| line == "POST /v2.1/track"), "{:?}", second.asked());
    no_canary_in(&ran);
    no_canary_below(scratch.path());
}

#[test]
fn no_token_and_no_telemetry_follows_a_redirect_to_another_host() {
    let (azure, foreign) = (Azure::start(), Azure::start());
    let scratch = scratch(&azure, 6, "auth = \"entra\"\n");
    // The same machine by another name is another host.
    let there = foreign.base().replace("127.0.0.1", "localhost") + "/v2.1/track";
    azure.next(vec![Act::Answer(308, Some(("location", there)), String::new()); 9]);
    let ran = ran(&scratch, &azure, &["run", "--format", "json"]);
    assert_eq!(balance(&document(&ran))[0], 0, "{}", ran.stderr);
    assert_eq!(foreign.asked(), Vec::<String>::new());
}

#[test]
fn an_endpoint_that_hangs_or_never_stops_talking_holds_nobody_up() {
    let (counts, said) = survives(&[Act::Hang], "timeout = \"1s\"\n", true);
    assert_eq!(counts[1], 0, "{said}");
    let (counts, _) = survives(&[Act::Endless(200)], "", false);
    assert_eq!((counts[1], counts[2]), (0, 0), "the status says that all was taken");
    let (counts, _) = survives(&[Act::Endless(206), Act::Endless(206)], "", true);
    assert_eq!((counts[1], counts[2]), (0, 0), "what was taken in part is sent again");
    let (counts, said) = survives(&[Act::Endless(400), Act::Endless(400)], "", false);
    assert_eq!((counts[0], counts[2]), (0, 0), "nobody knows what is wrong with it");
    assert!(said.contains("is it the IngestionEndpoint"), "{said}");
    survives(&[Act::Vanish], "", true);
}

#[test]
fn of_two_gibibytes_a_few_are_read() {
    let azure = Azure::start();
    let scratch = scratch(&azure, 3, "");
    for status in [200, 206, 400] {
        azure.next([Act::Endless(status), Act::Endless(status)]);
        assert_eq!(ran(&scratch, &azure, &["run"]).code, 0);
    }
    let mut command = scratch.command(&["run"]);
    command.env("IDENTITY_ENDPOINT", format!("{}/endless", azure.base())).env("IDENTITY_HEADER", "x");
    let endless = Ran::of(command.output().expect("the command starts"));
    assert!(endless.stderr.contains("too large to be a token"), "{}", endless.stderr);
    let read = azure.seen.sent.load(std::sync::atomic::Ordering::SeqCst);
    assert!((1..100).contains(&read), "{read} MiB");
}

#[test]
fn a_project_that_leads_nowhere_costs_a_run_nothing_and_says_what_to_do() {
    let check = |connections: &[(&'static str, &'static str)], words: &str| {
        let azure = Azure::start();
        *azure.seen.connections.lock().expect("no test panicked") = connections.to_vec();
        let scratch = scratch(&azure, 3, "");
        let first = ran(&scratch, &azure, &["run", "--format", "json"]);
        assert_eq!(first.code, 0, "{}", first.stderr);
        let counts = balance(&document(&first));
        assert_eq!((counts[0], counts[2]), (0, 0), "all is pending");
        assert!(first.stderr.contains(words) && first.stderr.contains("export --pending"), "{}", first.stderr);
        *azure.seen.connections.lock().expect("no test panicked") = vec![("insights-1", "ApiKey")];
        assert_eq!(ran(&scratch, &azure, &["export", "--pending"]).code, 0);
        no_canary_in(&first);
    };
    check(&[], "no Application Insights resource is connected");
    check(&[("insights-1", "AAD")], "credentials of type `AAD`, not ApiKey");
}

#[test]
fn an_earlier_run_is_delivered_to_where_it_was_not_sent() {
    let azure = Azure::start();
    let scratch = scratch(&azure, 6, "");
    let report = scratch.json(&["run", "--trace-to", "none"]);
    assert!(azure.asked().is_empty());
    let args = ["export", "--to", "appinsights", "latest", "--format", "json"];
    let delivered = document(&ran(&scratch, &azure, &args));
    assert_eq!(balance(&delivered)[1], 0);
    assert_eq!(items(&azure.seen.envelopes.lock().expect("no test panicked")).len(), complete(&report));
    let again = document(&ran(&scratch, &azure, &args));
    assert_eq!(again, delivered);
    assert!(items(&azure.seen.envelopes.lock().expect("no test panicked")).values().all(|count| *count == 1));
    let unknown = ran(&scratch, &azure, &["export", "--to", "jaeger", "latest"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("known are otlp, console, appinsights"), "{}", unknown.stderr);
}

#[test]
fn doctor_asks_entra_the_project_and_the_resource() {
    let azure = Azure::start();
    let scratch = scratch(&azure, 3, "");
    let looked = |azure: &Azure| ran(&scratch, azure, &["doctor"]);
    let fine = looked(&azure);
    assert_eq!(fine.code, 0, "{}{}", fine.stdout, fine.stderr);
    assert!(fine.stdout.contains("managed identity (IDENTITY_ENDPOINT) gives tokens for https://ai.azure.com"));
    assert!(fine.stdout.contains("connection `insights-1`"), "{}", fine.stdout);
    assert!(azure.seen.envelopes.lock().expect("no test panicked").is_empty(), "doctor sends no telemetry");
    azure.next([answer(400, &json!({"error": {"message": "no such route"}}))]);
    let wrong = looked(&azure);
    assert!(wrong.code != 0 && wrong.stdout.contains("FAIL  exporter appinsights"), "{}", wrong.stdout);
    assert!(wrong.stdout.contains("is it the IngestionEndpoint"), "{}", wrong.stdout);
    azure.seen.connections.lock().expect("no test panicked").clear();
    let unconnected = looked(&azure);
    assert!(
        unconnected.code != 0 && unconnected.stdout.contains("FAIL  exporter appinsights"),
        "{}",
        unconnected.stdout
    );
    let mut command = scratch.command(&["doctor"]);
    command.env("IDENTITY_ENDPOINT", format!("{}/identity", azure.base())).env("IDENTITY_HEADER", "wrong");
    let refused = Ran::of(command.output().expect("the command starts"));
    assert!(refused.stdout.contains("FAIL  azure identity"), "{}", refused.stdout);
    [&fine, &wrong, &unconnected, &refused].into_iter().for_each(no_canary_in);
}

#[test]
fn the_most_talkative_log_holds_no_secret() {
    let azure = Azure::start();
    let scratch = scratch(&azure, 3, "auth = \"entra\"\n");
    let mut command = scratch.command(&["run"]);
    command.envs(azure.environment()).env("SPANSCORE_LOG", "trace");
    let ran = Ran::of(command.output().expect("the command starts"));
    assert!(ran.code == 0 && ran.stderr.contains("TRACE"), "{}", ran.stderr);
    no_canary_in(&ran);
}
