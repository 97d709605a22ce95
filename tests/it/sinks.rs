//! Scores as scores in the backends: after their spans, once each, and the key stays where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::support::{Ran, SUITE, Scratch};

const PUBLIC: &str = "pk-lf-canary-1";
const SECRET: &str = "sk-lf-canary-2";
/// Base64 of the two with a colon between them.
const BASIC: &str = "Basic cGstbGYtY2FuYXJ5LTE6c2stbGYtY2FuYXJ5LTI=";

/// Langfuse's routes for traces, scores and projects. It knows more than Langfuse: which spans came before which scores.
#[derive(Default)]
struct Langfuse {
    spans: BTreeSet<String>,
    scores: BTreeMap<String, Value>,
    posts: usize,
    /// Scores of spans that had not come.
    early: usize,
    /// Traces are refused for now.
    closed: bool,
}

impl Langfuse {
    fn answer(&mut self, request: &Request) -> ResponseTemplate {
        let json = |status, body: Value| ResponseTemplate::new(status).set_body_json(body);
        if request.headers.get("authorization").and_then(|value| value.to_str().ok()) != Some(BASIC) {
            return json(
                401,
                json!({"message": "Invalid credentials. Confirm that you've configured the correct host."}),
            );
        }
        match (request.method.as_str(), request.url.path()) {
            ("POST", "/api/public/otel/v1/traces") if self.closed => ResponseTemplate::new(503),
            ("POST", "/api/public/otel/v1/traces") => {
                let sent = ExportTraceServiceRequest::decode(&request.body[..]).expect("protobuf");
                let groups = sent.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
                self.spans.extend(groups.flat_map(|scope| &scope.spans).map(|span| hex::encode(&span.span_id)));
                ResponseTemplate::new(200)
            }
            ("POST", "/api/public/scores") => {
                self.posts += 1;
                let score: Value = serde_json::from_slice(&request.body).expect("JSON");
                let fits = match score["dataType"].as_str() {
                    Some("BOOLEAN") => score["value"] == 0 || score["value"] == 1,
                    Some("NUMERIC") => score["value"].is_number(),
                    Some("CATEGORICAL") => score["value"].is_string(),
                    _ => false,
                };
                if !fits || score["traceId"].as_str().is_none_or(|id| id.len() != 32) || score["name"] == "" {
                    return json(400, json!({"message": "Invalid request data", "error": []}));
                }
                let span = score["observationId"].as_str().expect("a span");
                self.early += usize::from(!self.spans.contains(span));
                let (id, time) = (score["id"].as_str().expect("an id"), score["timestamp"].as_str());
                let id = id.to_owned();
                // Without a time of its own it is a new one each time.
                let time = time.map_or_else(|| self.posts.to_string(), str::to_owned);
                self.scores.insert(format!("{id} {time}"), score);
                json(200, json!({"id": id}))
            }
            ("GET", "/api/public/projects") => json(200, json!({"data": [{"id": "p1", "name": "claims"}]})),
            _ => ResponseTemplate::new(404).set_body_raw("<html>", "text/html"),
        }
    }
}

struct Fake {
    state: Arc<Mutex<Langfuse>>,
    server: MockServer,
    _runtime: tokio::runtime::Runtime,
}

impl Fake {
    fn new() -> Self {
        struct Shared(Arc<Mutex<Langfuse>>);
        impl Respond for Shared {
            fn respond(&self, request: &Request) -> ResponseTemplate {
                self.0.lock().expect("unpoisoned").answer(request)
            }
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let server = runtime.block_on(MockServer::start());
        let state = Arc::<Mutex<Langfuse>>::default();
        runtime.block_on(Mock::given(any()).respond_with(Shared(Arc::clone(&state))).mount(&server));
        Self { state, server, _runtime: runtime }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Langfuse> {
        self.state.lock().expect("unpoisoned")
    }

    /// A scratch folder with the suite that `init` writes for Langfuse, at this address.
    fn scratch(&self) -> Scratch {
        let scratch = Scratch::new();
        let printed = scratch.run(&["init", "--backend", "langfuse", "--print"]).stdout;
        assert!(printed.contains("[[sinks]]"), "{printed}");
        let sections = printed.replace("https://cloud.langfuse.com", &self.server.uri());
        scratch.write("spanscore.toml", format!("{}\n{sections}", crate::support::SUITE));
        scratch
    }
}

fn with_keys(mut command: Command, secret: &str) -> Ran {
    let output = command.env("LANGFUSE_PUBLIC_KEY", PUBLIC).env("LANGFUSE_SECRET_KEY", secret).output();
    Ran::of(output.expect("the command starts"))
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}{}", ran.stdout, ran.stderr))
}

/// The scores of a run as the store has them: case, evaluator, value or label.
fn stored(scratch: &Scratch) -> BTreeSet<String> {
    let cases = scratch.json(&["cases", "latest"]);
    let mut scores = BTreeSet::new();
    for case in cases.as_array().expect("a list") {
        for (evaluator, score) in case["scores"].as_object().expect("scores") {
            if score["state"] == "scored" {
                scores.insert(format!("{} {evaluator} {} {}", case["case_id"], score["value"], score["explanation"]));
            }
        }
    }
    scores
}

fn arrived(state: &Langfuse) -> BTreeSet<String> {
    let one = |score: &Value| {
        let value = score["value"].as_f64().map_or(Value::Null, Value::from);
        let comment = score.get("comment").cloned().unwrap_or_default();
        format!("{} {} {value} {comment}", score["metadata"]["test.case.id"], score["name"].as_str().expect("a name"))
    };
    state.scores.values().map(one).collect()
}

#[test]
fn every_score_arrives_once_after_its_span_and_pushing_again_changes_nothing() {
    let fake = Fake::new();
    let scratch = fake.scratch();
    let ran = with_keys(scratch.command(&["run", "--format", "json"]), SECRET);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let counts = json(&ran)["scores"]["exported"]["langfuse"].clone();
    let scores = stored(&scratch);
    let (first, posts) = {
        let state = fake.state();
        assert_eq!(arrived(&state), scores);
        assert!(scores.len() >= 12 && counts["delivered"] == scores.len() && counts["pending"] == 0, "{counts}");
        assert_eq!((state.early, state.scores.len()), (0, scores.len()), "each once, and none before its span");
        assert_eq!(state.spans.len(), json(&ran)["spans"]["stored"].as_u64().expect("a number") as usize);
        (state.scores.clone(), state.posts)
    };
    let shown = scratch.run(&["show", "latest"]).stdout;
    assert!(shown.contains("\nScores\n  sink"), "{shown}");
    let again = with_keys(scratch.command(&["export", "--to", "langfuse", "--again", "--format", "json"]), SECRET);
    let counts = &json(&again)["destinations"]["langfuse"];
    assert_eq!((&counts["delivered"], &counts["duplicates"]), (&json!(scores.len()), &json!(0)), "{}", again.stderr);
    let state = fake.state();
    assert_eq!((&state.scores, state.posts), (&first, 2 * posts), "sent again, and still one each");
}

#[test]
fn scores_wait_for_their_spans_and_nothing_is_lost() {
    let fake = Fake::new();
    let scratch = fake.scratch();
    fake.state().closed = true;
    let ran = with_keys(scratch.command(&["run", "--format", "json"]), SECRET);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(fake.state().posts, 0, "no score goes before its span");
    assert!(
        ran.stderr.contains("langfuse logs are left pending: otlp has not taken their spans yet"),
        "{}",
        ran.stderr
    );
    fake.state().closed = false;
    let later = with_keys(scratch.command(&["export", "--pending"]), SECRET);
    assert_eq!(later.code, 0, "{}", later.stderr);
    let state = fake.state();
    assert_eq!((arrived(&state), state.early), (stored(&scratch), 0));
}

#[test]
fn a_wrong_key_is_said_and_no_key_is_written_anywhere() {
    let fake = Fake::new();
    let scratch = fake.scratch();
    let ran = with_keys(scratch.command(&["run"]), "sk-lf-canary-wrong");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("401"), "{}", ran.stderr);
    let doctor = with_keys(scratch.command(&["doctor"]), "sk-lf-canary-wrong");
    assert!(
        doctor.stdout.contains("FAIL  sink langfuse") && doctor.stdout.contains("answers 401"),
        "{}",
        doctor.stdout
    );
    assert!(doctor.stdout.contains("→ check LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY"), "{}", doctor.stdout);
    // Without any key: said with the variables' names, and what waits goes on waiting.
    let without = scratch.run(&["export", "--pending"]);
    assert_eq!(without.code, 4);
    assert!(without.stderr.contains("LANGFUSE_PUBLIC_KEY is not set"), "{}", without.stderr);
    let right = with_keys(scratch.command(&["export", "--pending"]), SECRET);
    assert_eq!(right.code, 0, "{}", right.stderr);
    assert_eq!(arrived(&fake.state()), stored(&scratch));
    let fine = with_keys(scratch.command(&["doctor"]), SECRET);
    assert!(
        fine.stdout.contains("ok    sink langfuse: ") && fine.stdout.contains("project `claims`"),
        "{}",
        fine.stdout
    );
    let verbose = with_keys(
        {
            let mut command = scratch.command(&["export", "--to", "langfuse", "--again"]);
            command.env("SPANSCORE_LOG", "trace").env("RUST_LOG", "trace");
            command
        },
        SECRET,
    );
    for ran in [ran, doctor, without, right, fine, verbose] {
        for key in [PUBLIC, SECRET, "sk-lf-canary-wrong", BASIC] {
            assert!(!ran.stdout.contains(key) && !ran.stderr.contains(key), "{}{}", ran.stdout, ran.stderr);
        }
    }
    for entry in std::fs::read_dir(scratch.path().join(".spanscore")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let bytes = if path.is_file() { std::fs::read(&path).expect("readable") } else { Vec::new() };
        assert!(!bytes.windows(9).any(|window| window == b"lf-canary"), "{}", path.display());
    }
}

#[test]
fn sinks_take_part_where_spans_are_sent_and_names_are_checked() {
    let fake = Fake::new();
    let scratch = fake.scratch();
    let plain = with_keys(scratch.command(&["run", "--trace-to", "none", "--format", "json"]), SECRET);
    assert_eq!(json(&plain)["scores"]["exported"], json!({}), "{}", plain.stderr);
    {
        let state = fake.state();
        assert_eq!((state.posts, state.spans.len()), (0, 0));
    }
    // A run that was not given the backend can be delivered to it later.
    let both = with_keys(scratch.command(&["export", "--to", "otlp,langfuse", "latest"]), SECRET);
    assert_eq!(both.code, 0, "{}", both.stderr);
    {
        let state = fake.state();
        assert_eq!((arrived(&state), state.early), (stored(&scratch), 0));
    }
    let unknown = with_keys(scratch.command(&["export", "--to", "langfused"]), SECRET);
    assert!(unknown.code == 2 && unknown.stderr.contains("langfuse"), "{}", unknown.stderr);
    let suite = std::fs::read_to_string(scratch.path().join("spanscore.toml")).expect("a suite");
    scratch.write("spanscore.toml", suite.replace("kind = \"langfuse\"", "kind = \"langfus\""));
    let odd = with_keys(scratch.command(&["run"]), SECRET);
    assert!(odd.code == 2 && odd.stderr.contains("unknown kind `langfus`"), "{}", odd.stderr);
}

#[test]
fn doctor_sees_that_spans_and_scores_go_to_two_experiments() {
    let scratch = Scratch::new();
    let printed = scratch.run(&["init", "--backend", "mlflow", "--print"]).stdout;
    for (header, project, said) in [
        ("\"77\"", "0", "spans go to experiment 77, and the sink says 0"),
        ("\"Default\"", "0", "is `Default`, and MLflow takes no names there"),
    ] {
        let sections = printed.replace("x-mlflow-experiment-id = \"0\"", &format!("x-mlflow-experiment-id = {header}"));
        assert_ne!(sections, printed);
        let sink = sections.lines().filter(|line| !line.starts_with("project")).collect::<Vec<_>>().join("\n");
        scratch.write("spanscore.toml", format!("{SUITE}\n{sink}\nproject = \"{project}\"\n"));
        let doctor = scratch.run(&["doctor", "--offline"]).stdout;
        assert!(doctor.contains(said), "{doctor}");
    }
}

#[test]
fn scores_alone_are_sent_with_a_word_about_their_spans() {
    let fake = Fake::new();
    let scratch = fake.scratch();
    scratch.json(&["run", "--trace-to", "none"]);
    let alone = with_keys(scratch.command(&["export", "--to", "langfuse"]), SECRET);
    assert!(alone.stderr.contains("`spanscore export --to otlp --to langfuse 2"), "{}", alone.stderr);
    let both = with_keys(scratch.command(&["export", "--to", "otlp", "--to", "langfuse", "--again"]), SECRET);
    assert_eq!((both.code, both.stderr.contains("warning")), (0, false), "{}", both.stderr);
}

#[test]
fn where_the_suite_names_another_address_by_now_it_is_said_how_to_send_there() {
    let fake = Fake::new();
    let scratch = fake.scratch();
    let suite = std::fs::read_to_string(scratch.path().join("spanscore.toml")).expect("a suite");
    scratch.write("spanscore.toml", suite.replace(&fake.server.uri(), "http://127.0.0.1:9"));
    assert_eq!(with_keys(scratch.command(&["run"]), SECRET).code, 0);
    scratch.write("spanscore.toml", suite);
    let pending = with_keys(scratch.command(&["export", "--pending"]), SECRET);
    assert_eq!(pending.code, 4, "{}", pending.stderr);
    let advice = pending.stderr.split("`spanscore ").find_map(|rest| Some(rest.split_once("` sends it there")?.0));
    let words: Vec<&str> = advice.expect("advice").split(' ').collect();
    assert_eq!(words[..5], ["export", "--to", "otlp", "--to", "langfuse"], "{}", pending.stderr);
    assert_eq!(with_keys(scratch.command(&words), SECRET).code, 0);
    assert_eq!(arrived(&fake.state()), stored(&scratch));
}

#[test]
fn validate_finds_what_makes_no_sense_among_destinations() {
    let scratch = Scratch::new();
    let check = |more: &str| {
        scratch.write("spanscore.toml", format!("{SUITE}\n{more}\n"));
        scratch.run(&["validate"])
    };
    let trace = "[trace]\notlp_endpoint = \"http://127.0.0.1:4318\"\n";
    for (more, said) in [
        ("[trace]\nto = [\"oltp\"]".to_owned(), "unknown destination `oltp`"),
        (format!("{trace}otlp_timeout = \"10\""), "otlp_timeout"),
        (format!("{trace}otlp_compression = \"zip\""), "otlp_compression"),
        (format!("{trace}[[sinks]]\nkind = \"phenix\""), "unknown kind `phenix`"),
        (format!("{trace}[[sinks]]\nkind = \"phoenix\"\ntimeout = \"x\""), "`timeout`"),
        (format!("{trace}[[sinks]]\nkind = \"phoenix\"\nname = \"otlp\""), "another destination"),
    ] {
        let ran = check(&more);
        assert!(ran.code == 2 && ran.stderr.contains(said), "{more}: {} {}", ran.code, ran.stderr);
    }
    // Keys are where runs are.
    let fine = format!(
        "{trace}to = [\"otlp\", \"appinsights\"]\notlp_bearer_env = \"NOT_HERE\"\n[[sinks]]\nkind = \"phoenix\""
    );
    let ran = check(&fine);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}
