//! Telemetry out of Application Insights: a fake of Log Analytics serves what a fake of the ingestion took.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::support::{Endpoint, Ran, Scratch};

const KEY: &str = "0ca0a0f0-0000-0000-0000-00000000ca0f";
const RESOURCE: &str = "/subscriptions/s-1/resourceGroups/my group/providers/microsoft.insights/components/prod";
/// What must be seen by nobody.
const CANARY: &str = "canary-token-7d1f";

/// What the fake answers instead of rows, once each.
#[derive(Clone)]
enum Odd {
    Status(u16, Value, &'static str),
    /// The token is refused.
    Unauthorized,
    Text(&'static str),
}

/// Rows in time, and how many of them one answer may have before it is partial.
#[derive(Default)]
struct State {
    rows: Vec<Map<String, Value>>,
    limit: usize,
    odd: VecDeque<Odd>,
    queries: Vec<String>,
    paths: BTreeSet<String>,
    tokens: BTreeSet<String>,
    minted: usize,
}

/// Log Analytics and the identity endpoint on one port.
struct Fake {
    server: MockServer,
    state: Arc<Mutex<State>>,
    _runtime: tokio::runtime::Runtime,
}

struct Answers(Arc<Mutex<State>>);

impl Respond for Answers {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.0.lock().expect("no test panics here");
        if request.method.as_str() == "GET" {
            state.minted += 1;
            let token = format!("{CANARY}-{}", state.minted);
            return ResponseTemplate::new(200).set_body_json(json!({
                "access_token": token, "expires_on": "4102444800", "resource": "logs", "token_type": "Bearer",
            }));
        }
        let header =
            |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        state.tokens.insert(header("authorization"));
        state.paths.insert(request.url.path().to_owned());
        let body: Value = request.body_json().expect("JSON");
        let query = body["query"].as_str().expect("a query").to_owned();
        state.queries.push(query.clone());
        match state.odd.pop_front() {
            Some(Odd::Unauthorized) => {
                return ResponseTemplate::new(401).set_body_json(json!({"error": {"code": "InvalidTokenError"}}));
            }
            Some(Odd::Status(status, body, after)) => {
                return ResponseTemplate::new(status).set_body_json(body).insert_header("retry-after", after);
            }
            Some(Odd::Text(text)) => return ResponseTemplate::new(200).set_body_raw(text, "text/html"),
            None => {}
        }
        let span = body["timespan"].as_str().expect("a timespan");
        let (from, to) = span.split_once('/').expect("two times");
        let workspace = request.url.path().contains("/workspaces/");
        let time = |row: &Map<String, Value>| row["timestamp"].as_str().expect("a time").to_owned();
        let mut found: Vec<_> =
            state.rows.iter().filter(|row| (from..to).contains(&time(row).as_str())).cloned().collect();
        let partial = found.len() > state.limit;
        found.truncate(state.limit);
        let names: BTreeSet<String> = state.rows.iter().flat_map(|row| row.keys().cloned()).collect();
        let columns: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": if workspace { in_workspace(name) } else { name }, "type": "dynamic"}))
            .collect();
        let cells = |row: &Map<String, Value>| -> Vec<Value> {
            names
                .iter()
                .map(|name| match (name.as_str(), row.get(name)) {
                    ("itemType", Some(kind)) if workspace => json!(table_of(kind.as_str().expect("a text"))),
                    ("success", Some(success)) if workspace => json!(success == "True"),
                    (_, value) => value.cloned().unwrap_or(Value::Null),
                })
                .collect()
        };
        let mut answer = json!({"tables": [{"name": "PrimaryResult", "columns": columns,
            "rows": found.iter().map(cells).collect::<Vec<_>>()}]});
        if partial {
            answer["error"] = json!({"code": "PartialError", "message": "There were some errors when processing your query.",
                "details": [{"code": "EngineError", "message": "Something went wrong", "innererror": {"code": "-2133196797",
                "message": "The results of this query exceed the set limit of 64000000 bytes"}}]});
        }
        ResponseTemplate::new(200).set_body_json(answer)
    }
}

impl Fake {
    fn new(rows: Vec<Map<String, Value>>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let state = Arc::new(Mutex::new(State { rows, limit: usize::MAX, ..State::default() }));
        let server = runtime.block_on(MockServer::start());
        let mock = Mock::given(wiremock::matchers::any()).respond_with(Answers(Arc::clone(&state)));
        runtime.block_on(mock.mount(&server));
        Self { server, state, _runtime: runtime }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds it")
    }

    fn odd(self, odd: impl IntoIterator<Item = Odd>) -> Self {
        self.state().odd.extend(odd);
        self
    }

    /// Runs `import appinsights` with this fake for everything.
    fn import(&self, scratch: &Scratch, args: &[&str]) -> Ran {
        let uri = self.server.uri();
        let mut all = vec!["import", "appinsights"];
        for (flag, value) in [("--endpoint", uri.as_str()), ("--since", "2020-01-01")] {
            all.extend([flag, value].into_iter().filter(|_| !args.contains(&flag)));
        }
        all.extend(args);
        let mut command = scratch.command(&all);
        command.env("IDENTITY_ENDPOINT", format!("{uri}/token")).env("IDENTITY_HEADER", "h");
        let ran = Ran::of(command.output().expect("the command starts"));
        assert!(!ran.stdout.contains(CANARY) && !ran.stderr.contains(CANARY), "{} {}", ran.stdout, ran.stderr);
        ran
    }

    fn counts(&self, scratch: &Scratch, args: &[&str]) -> Value {
        let mut all = vec!["--resource", RESOURCE, "--format", "json"];
        all.extend(args);
        let ran = self.import(scratch, &all);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        serde_json::from_str(&ran.stdout).expect("a document")
    }
}

fn table_of(kind: &str) -> &'static str {
    match kind {
        "dependency" => "AppDependencies",
        "request" => "AppRequests",
        "customEvent" => "AppEvents",
        "exception" => "AppExceptions",
        _ => "AppTraces",
    }
}

fn in_workspace(name: &str) -> &str {
    const NAMES: [(&str, &str); 19] = [
        ("timestamp", "TimeGenerated"),
        ("itemType", "Type"),
        ("id", "Id"),
        ("name", "Name"),
        ("type", "DependencyType"),
        ("target", "Target"),
        ("data", "Data"),
        ("success", "Success"),
        ("resultCode", "ResultCode"),
        ("duration", "DurationMs"),
        ("message", "Message"),
        ("operation_Id", "OperationId"),
        ("operation_ParentId", "ParentId"),
        ("customDimensions", "Properties"),
        ("customMeasurements", "Measurements"),
        ("cloud_RoleName", "AppRoleName"),
        ("cloud_RoleInstance", "AppRoleInstance"),
        ("application_Version", "AppVersion"),
        ("itemCount", "ItemCount"),
    ];
    NAMES.iter().find(|(classic, _)| *classic == name).map_or(name, |(_, new)| new)
}

/// What the service makes of an envelope: a row of one of its tables.
fn row(envelope: &Value) -> Map<String, Value> {
    let (data, tags) = (&envelope["data"]["baseData"], &envelope["tags"]);
    let kind = match envelope["data"]["baseType"].as_str().expect("a text") {
        "RemoteDependencyData" => "dependency",
        "RequestData" => "request",
        "EventData" => "customEvent",
        "ExceptionData" => "exception",
        "MessageData" => "trace",
        other => panic!("{other}"),
    };
    let mut row = Map::new();
    for (name, value) in [
        // The service keeps seven digits.
        ("timestamp", json!(envelope["time"].as_str().expect("a time").replace('Z', "0Z"))),
        ("itemType", json!(kind)),
        ("id", data["id"].clone()),
        ("name", data["name"].clone()),
        ("type", data["type"].clone()),
        ("target", data["target"].clone()),
        ("data", data["data"].clone()),
        ("success", data["success"].as_bool().map_or(Value::Null, |ok| json!(if ok { "True" } else { "False" }))),
        ("resultCode", data["resultCode"].clone()),
        ("duration", data["duration"].as_str().map_or(Value::Null, |text| json!(milliseconds(text)))),
        ("message", data["message"].clone()),
        ("severityLevel", data["severityLevel"].clone()),
        ("operation_Id", tags["ai.operation.id"].clone()),
        ("operation_ParentId", tags["ai.operation.parentId"].clone()),
        ("cloud_RoleName", tags["ai.cloud.role"].clone()),
        ("cloud_RoleInstance", tags["ai.cloud.roleInstance"].clone()),
        ("application_Version", tags["ai.application.ver"].clone()),
        ("itemCount", json!(1)),
        // Columns of values of any kind come as texts.
        ("customDimensions", json!(data["properties"].to_string())),
        ("customMeasurements", json!(data["measurements"].to_string())),
    ] {
        row.insert(name.to_owned(), value);
    }
    row
}

/// `D.HH:MM:SS.mmm`.
fn milliseconds(text: &str) -> f64 {
    let (days, rest) = text.split_once('.').expect("days");
    let parts: Vec<f64> = rest.split(':').map(|part| part.parse().expect("a number")).collect();
    (((days.parse::<f64>().expect("a number") * 24.0 + parts[0]) * 60.0 + parts[1]) * 60.0 + parts[2]) * 1e3
}

/// Two runs, one with answers and one that fails, and the rows that Application Insights has of them.
fn delivered() -> (Scratch, Vec<Map<String, Value>>) {
    let scratch = Scratch::new();
    let taken = Endpoint::new(200, &json!({"itemsReceived": 1, "itemsAccepted": 1, "errors": []}));
    let broken = Endpoint::new(500, &json!({"error": {"message": "out of order"}}));
    let connection = format!("InstrumentationKey={KEY};IngestionEndpoint={}/", taken.base());
    let run = |args: &[&str]| {
        let mut command = scratch.command(args);
        command.env("APPLICATIONINSIGHTS_CONNECTION_STRING", &connection).env("OPENAI_API_KEY", "k");
        Ran::of(command.output().expect("the command starts"))
    };
    assert_eq!(run(&["run"]).code, 0);
    let url = broken.url();
    run(&["run", "--provider", "openai", "--model", "m", "--base-url", &url, "--max-retries", "1", "--limit", "2"]);
    let bodies = taken.bodies("/v2.1/track").into_iter();
    (scratch, bodies.flat_map(|body| body.as_array().expect("a list").iter().map(row).collect::<Vec<_>>()).collect())
}

/// All traces of a store as documents, without what the tables do not keep.
fn traces(scratch: &Scratch) -> BTreeMap<String, Value> {
    let list = scratch.json(&["traces"]);
    let ids =
        list.as_array().expect("a list").iter().map(|trace| trace["trace_id"].as_str().expect("an id").to_owned());
    ids.map(|id| {
        let mut trace = scratch.json(&["trace", &id]);
        let mut spans = trace["spans"].take();
        for span in spans.as_array_mut().expect("spans") {
            // A microsecond of the start, a millisecond of the duration.
            let start = span["start_time"].as_str().expect("a time").get(..26).expect("six digits").to_owned();
            span["start_time"] = json!(start);
            span["duration_ms"] = json!(span["duration_ms"].as_f64().expect("a number").floor());
            // Results are custom events; as events of their span they are not sent twice.
            let events = span["events"].as_array().expect("a list").iter();
            let kept = events.filter(|event| event["name"] != "gen_ai.evaluation.result").cloned().map(|mut event| {
                let time = event["time"].as_str().expect("a time").get(..26).expect("six digits").to_owned();
                event["time"] = json!(time);
                event
            });
            span["events"] = kept.collect();
            // Their records say the call that was judged, and there the scores sit as well.
            if span["name"].as_str().is_some_and(|name| name.starts_with("chat ")) {
                span["scores"] = json!({});
            }
            // What was skipped is nobody's result and is not sent.
            span["scores"].as_object_mut().expect("an object").retain(|_, score| score["state"] != "skipped");
            // Neither is it kept whether a success was said or not.
            if span["status"] == "OK" {
                span["status"] = json!("UNSET");
            }
            sort(span);
        }
        let mut spans = spans.as_array().expect("spans").clone();
        spans.sort_by_key(|span| span["span_id"].to_string());
        (id, json!(spans))
    })
    .collect()
}

/// Objects with their names in order.
fn sort(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.sort_keys();
            map.values_mut().for_each(sort);
        }
        Value::Array(values) => values.iter_mut().for_each(sort),
        _ => {}
    }
}

#[test]
fn what_was_delivered_comes_back_as_it_was_from_either_schema() {
    let (scratch, rows) = delivered();
    let count = rows.len();
    let fake = Fake::new(rows);
    let there = Scratch::new();
    let counts = fake.counts(&there, &[]);
    assert_eq!((counts["rows"].as_u64(), counts["rejected"].as_u64()), (Some(count as u64), Some(0)), "{counts}");
    let (before, after) = (traces(&scratch), traces(&there));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (id, spans) in &before {
        for (was, is) in spans.as_array().expect("spans").iter().zip(after[id].as_array().expect("spans")) {
            assert_eq!(was, is, "{id}");
        }
    }
    let attempts = json!(before).to_string().matches("spanscore.attempt.failed").count();
    assert!(attempts >= 2, "events of spans were among it: {attempts}");
    let means = |scratch: &Scratch| {
        let list = scratch.json(&["traces"]);
        let of = |trace: &Value| (trace["trace_id"].to_string(), trace["scores"].clone());
        list.as_array().expect("a list").iter().map(of).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(means(&there), means(&scratch), "scores are found from the list as well");
    // From a workspace the same comes, into a third store.
    let third = Scratch::new();
    let ran = fake.import(&third, &["--workspace", "00000000-1111-2222-3333-444444444444"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(traces(&third), after);
    let state = fake.state();
    assert!(state.paths.contains(&format!("/v1{}/query", RESOURCE.replace(' ', "%20"))), "{:?}", state.paths);
    assert!(state.paths.contains("/v1/workspaces/00000000-1111-2222-3333-444444444444/query"));
    assert!(state.tokens.iter().all(|token| token.starts_with(&format!("Bearer {CANARY}"))), "{:?}", state.tokens);
}

#[test]
fn importing_again_adds_nothing_wherever_the_traces_came_from() {
    let (scratch, rows) = delivered();
    let fake = Fake::new(rows);
    let there = Scratch::new();
    let first = fake.counts(&there, &[]);
    assert!(first["spans"].as_u64() > Some(15) && first["scores"].as_u64() >= Some(12), "{first}");
    let before = traces(&there);
    // A range that begins in the middle finds events without their spans.
    let middle =
        fake.state().rows.iter().map(|row| row["timestamp"].as_str().expect("a time").to_owned()).max().expect("rows");
    for args in [&[][..], &["--since", &middle]] {
        let again = fake.counts(&there, args);
        let new = ["spans", "log_records", "scores"].map(|name| again[name].as_u64());
        assert_eq!(new, [Some(0); 3], "{again}");
    }
    assert_eq!(traces(&there), before);
    // Into the store that ran them, too.
    let own = fake.counts(&scratch, &[]);
    assert_eq!(["spans", "log_records", "scores"].map(|name| own[name].as_u64()), [Some(0); 3], "{own}");
}

#[test]
fn partial_answers_are_asked_for_again_in_narrower_slices() {
    let trace = |n: usize| format!("{:032x}", n + 1);
    let rows = (0..400).map(|n| {
        let time = format!("2026-11-{:02}T{:02}:00:00.0000000Z", 1 + n / 24, n % 24);
        let Value::Object(row) = json!({"timestamp": time, "itemType": "dependency", "id": format!("{:016x}", n + 1), "name": "work",
            "type": "InProc", "success": "True", "duration": 1.0, "operation_Id": trace(n), "customDimensions": "{}"})
        else {
            unreachable!("an object")
        };
        row
    });
    let fake = Fake::new(rows.collect());
    fake.state().limit = 7;
    let scratch = Scratch::new();
    let range = ["--since", "2026-10-30", "--until", "2026-12-01"];
    let counts = fake.counts(&scratch, &range);
    assert_eq!(
        (counts["spans"].as_u64(), counts["incomplete"].as_array().map(Vec::len)),
        (Some(400), Some(0)),
        "{counts}"
    );
    // Where no slice is narrow enough, what is missing is said.
    fake.state().limit = 0;
    let ran = fake
        .import(&Scratch::new(), &["--resource", RESOURCE, "--since", "2026-11-01", "--until", "2026-11-01T00:00:02Z"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("left something out") && ran.stderr.contains("64000000 bytes"), "{}", ran.stderr);
}

#[test]
fn a_refused_token_is_replaced_and_throttling_is_waited_out() {
    let busy = || Odd::Status(429, json!({"error": {"code": "TooManyRequests", "message": "slow down"}}), "0");
    let down = Odd::Status(503, json!({}), "0");
    let (_, rows) = delivered();
    let fake = Fake::new(rows).odd([Odd::Unauthorized, busy(), busy(), down]);
    let counts = fake.counts(&Scratch::new(), &[]);
    assert!(counts["spans"].as_u64() > Some(15), "{counts}");
    let state = fake.state();
    assert!(state.minted >= 2 && state.tokens.len() == 2, "a fresh token: {:?}", state.tokens);
}

#[test]
fn what_the_service_says_is_shown_and_nothing_hangs() {
    let refused = |status, code: &str, message: &str| {
        Odd::Status(
            status,
            json!({"error": {"code": code, "message": "The request had some invalid properties",
            "innererror": {"code": "SyntaxError", "message": message}}}),
            "0",
        )
    };
    let always = |odd: &Odd| Fake::new(Vec::new()).odd(vec![odd.clone(); 12]);
    for (odd, code, said) in [
        (
            refused(400, "BadArgumentError", "A recognition error occurred near 'tak'"),
            2,
            "recognition error occurred near 'tak'",
        ),
        (refused(403, "InsufficientAccessError", "no access"), 2, "Log Analytics Reader"),
        (refused(404, "WorkspaceNotFoundError", "not found"), 2, "no such workspace or resource"),
        (Odd::Unauthorized, 2, "the right tenant"),
        (Odd::Text("<html>sign in</html>"), 2, "is the endpoint right"),
        (Odd::Status(429, json!({}), "3600"), 4, "run the same command again"),
        (Odd::Status(504, json!({}), "0"), 4, "--since"),
    ] {
        let ran = always(&odd).import(&Scratch::new(), &["--resource", RESOURCE, "--query", "tak"]);
        assert!(ran.code == code && ran.stderr.contains(said), "{said}: {} {}", ran.code, ran.stderr);
    }
    let empty = Fake::new(Vec::new()).import(&Scratch::new(), &["--resource", RESOURCE]);
    assert!(empty.code == 0 && empty.stderr.contains("there is nothing from"), "{}", empty.stderr);
}

#[test]
fn what_is_asked_for_must_be_said() {
    let scratch = Scratch::new();
    let check = |args: &[&str], said: &str| {
        let ran = Fake::new(Vec::new()).import(&scratch, args);
        assert!(ran.code == 2 && ran.stderr.contains(said), "{args:?}: {}", ran.stderr);
    };
    check(&[], "workspace_id");
    check(&["--resource", "prod"], "/subscriptions/");
    check(&["--workspace", "../x"], "00000000-0000");
    check(&["--resource", RESOURCE, "--since", "tomorrow"], "24h");
    check(&["--resource", RESOURCE, "--until", "2019-01-01"], "is not before");
    check(&["--resource", RESOURCE, "--endpoint", "http://logs.example"], "http only on this machine");
}

#[test]
fn the_query_for_a_trace_is_shown_where_the_run_was_delivered() {
    let (scratch, _) = delivered();
    let report = scratch.json(&["show"]);
    let run = report["run"]["id"].as_str().expect("an id");
    let kql = report["spans"]["kql"].as_str().expect("a query");
    assert!(kql.starts_with("customEvents") && kql.ends_with(&format!("== \"{run}\"")), "{kql}");
    assert!(scratch.run(&["show"]).stdout.contains(&format!("scores in Application Insights: {kql}")));
    let trace = report["lowest"][0]["trace_id"].as_str().expect("an id").to_owned();
    let shown = scratch.run(&["trace", &trace]);
    assert!(shown.stderr.contains(&format!("operation_Id == \"{trace}\"")), "{}", shown.stderr);
    let elsewhere = Scratch::new();
    assert_eq!(elsewhere.json(&["run"])["spans"]["kql"], Value::Null);
}
