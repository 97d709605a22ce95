//! Model calls to Azure OpenAI and to a Foundry project: paths, headers, names on spans.

use serde_json::Value;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::fake::{API_KEY, Azure, TOKEN};
use crate::support::{Ran, Scratch};

/// Runs the claims on Azure; gives the chat requests, each with its headers and body, and the report.
fn asked(azure: &Azure, model: &str, env: &[(&str, &str)]) -> (Vec<(String, http::HeaderMap, Value)>, Value, Scratch) {
    let scratch = Scratch::new();
    scratch.write("spanscore.toml", format!("[suite]\nname = \"small\"\ndataset = \"claims.csv\"\n\n{model}"));
    let mut command = scratch.command(&["run", "--format", "json"]);
    command.envs(azure.environment()).envs(env.iter().copied());
    let ran = Ran::of(command.output().expect("the command starts"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for canary in [TOKEN, API_KEY] {
        assert!(!ran.stdout.contains(canary) && !ran.stderr.contains(canary), "{}", ran.stderr);
    }
    let requests = azure.seen.requests.lock().expect("no test panicked").clone();
    let chats = requests.into_iter().filter(|(line, ..)| line.contains("/chat/completions")).collect();
    (chats, serde_json::from_str(&ran.stdout).expect("a document"), scratch)
}

fn line(request: &(String, http::HeaderMap, Value), azure: &Azure) -> String {
    request.0.replace(&azure.base(), "")
}

#[test]
fn a_deployment_is_asked_with_a_key_or_a_token() {
    let azure = Azure::start();
    let model = format!(
        "[model]\nprovider = \"azure\"\nname = \"gpt-4.1\"\ndeployment = \"dep\"\nbase_url = \"{}\"\n",
        azure.base()
    );
    let (chats, _, _) = asked(&azure, &model, &[("AZURE_OPENAI_API_KEY", API_KEY)]);
    assert_eq!(chats.len(), 6);
    for chat in &chats {
        assert_eq!(line(chat, &azure), "POST /openai/deployments/dep/chat/completions?api-version=2024-10-21");
        assert_eq!(chat.1["api-key"], API_KEY);
        assert!(chat.1.get("authorization").is_none());
    }
    let azure = Azure::start();
    let model = model.replace("base_url = ", "api_version = \"2025-04-01-preview\"\n# ");
    let (chats, report, scratch) = asked(&azure, &model, &[("AZURE_OPENAI_ENDPOINT", &azure.base())]);
    assert_eq!(chats.len(), 6);
    for chat in &chats {
        let expected = "POST /openai/deployments/dep/chat/completions?api-version=2025-04-01-preview";
        assert_eq!(line(chat, &azure), expected);
        let token = chat.1["authorization"].to_str().expect("text");
        assert!(token.starts_with("Bearer canary-token.https://cognitiveservices.azure.com."), "{token}");
        assert!(chat.1.get("api-key").is_none());
    }
    let tokens = azure.asked().into_iter().filter(|line| line.starts_with("GET /identity")).count();
    assert_eq!(tokens, 1, "one token serves all calls");
    assert_eq!(report["run"]["provider"], "azure");
    let trace = report["lowest"][0]["trace_id"].as_str().expect("an id");
    let trace = scratch.json(&["trace", trace]).to_string();
    assert!(trace.contains(r#""gen_ai.provider.name":"azure.ai.openai""#), "{trace}");
    assert!(!trace.contains(TOKEN));
}

#[test]
fn the_v1_path_names_the_deployment_as_the_model() {
    let azure = Azure::start();
    let base = format!("{}/openai/v1/", azure.base());
    let model =
        format!("[model]\nprovider = \"azure\"\nname = \"gpt-4.1\"\ndeployment = \"dep\"\nbase_url = \"{base}\"\n");
    for (env, header) in [(vec![("AZURE_OPENAI_API_KEY", API_KEY)], "api-key"), (vec![], "authorization")] {
        azure.seen.requests.lock().expect("no test panicked").clear();
        let (chats, _, _) = asked(&azure, &model, &env);
        assert_eq!(chats.len(), 6);
        for chat in &chats {
            assert_eq!(line(chat, &azure), "POST /openai/v1/chat/completions");
            assert_eq!(chat.2["model"], "dep");
            assert!(chat.1.contains_key(header), "{:?}", chat.1);
        }
    }
}

#[test]
fn a_foundry_projects_own_endpoint_is_asked_with_its_token() {
    let azure = Azure::start();
    let model =
        format!("[model]\nprovider = \"azure\"\nname = \"gpt-4.1\"\n[azure]\nproject = \"{}\"\n", azure.project());
    let (chats, report, _) = asked(&azure, &model, &[]);
    assert_eq!(chats.len(), 6);
    for chat in &chats {
        assert_eq!(line(chat, &azure), "POST /api/projects/p/openai/v1/chat/completions");
        assert!(
            chat.1["authorization"].to_str().expect("text").starts_with("Bearer canary-token.https://ai.azure.com.")
        );
    }
    assert_eq!(report["trials"]["completed"], 6);
}

#[test]
fn a_key_is_left_out_where_a_token_is_wanted() {
    let azure = Azure::start();
    let model =
        format!("[model]\nprovider = \"azure\"\nname = \"m\"\nauth = \"entra\"\nbase_url = \"{}\"\n", azure.base());
    let (chats, ..) = asked(&azure, &model, &[("AZURE_OPENAI_API_KEY", "never-sent")]);
    assert!(chats.iter().all(|chat| chat.1.get("api-key").is_none() && chat.1.contains_key("authorization")));
}

#[test]
fn without_a_key_and_without_an_identity_the_first_call_says_so() {
    let azure = Azure::start();
    let scratch = Scratch::new();
    let suite = "[suite]\ndataset = \"claims.csv\"\n[model]\nprovider = \"azure\"\nname = \"m\"\n[azure]\n";
    scratch.write("spanscore.toml", format!("{suite}credential = \"token_command\"\ntoken_command = [\"false\"]\n"));
    let mut command = scratch.command(&["run"]);
    command.env("AZURE_OPENAI_ENDPOINT", azure.base());
    let ran = Ran::of(command.output().expect("the command starts"));
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("no Entra token for") && ran.stderr.contains("token command"), "{}", ran.stderr);
    assert_eq!(azure.asked(), Vec::<String>::new(), "nothing is sent without a token");
}

#[test]
fn neither_key_nor_token_goes_to_azure_in_the_clear() {
    let scratch = Scratch::new();
    for auth in ["key", "entra"] {
        let suite = "[suite]\ndataset = \"claims.csv\"\n[model]\nprovider = \"azure\"\nname = \"m\"\n";
        scratch.write("spanscore.toml", format!("{suite}auth = \"{auth}\"\n"));
        let mut command = scratch.command(&["run"]);
        command.envs([("AZURE_OPENAI_ENDPOINT", "http://azure.invalid/"), ("AZURE_OPENAI_API_KEY", API_KEY)]);
        let ran = Ran::of(command.output().expect("the command starts"));
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains("no https address") && !ran.stderr.contains(API_KEY), "{}", ran.stderr);
    }
}

#[test]
fn a_token_that_the_endpoint_repeats_is_in_no_message_and_not_in_the_store() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let server = runtime.block_on(MockServer::start());
    let echo = |request: &Request| {
        let header = request.headers["authorization"].to_str().expect("text").replace("Bearer ", "");
        let message = format!("you sent {header} and that is wrong");
        ResponseTemplate::new(400).set_body_json(serde_json::json!({"error": {"message": message}}))
    };
    runtime.block_on(Mock::given(any()).respond_with(echo).mount(&server));
    let scratch = Scratch::new();
    // No pattern takes it for a token.
    let suite = format!(
        "[suite]\ndataset = \"claims.csv\"\n[model]\nprovider = \"azure\"\nname = \"m\"\nauth = \"entra\"\nbase_url = \"{}\"\n\
         [azure]\ncredential = \"token_command\"\ntoken_command = [\"echo\", \"canary/tok.en\"]\n",
        server.uri()
    );
    scratch.write("spanscore.toml", suite);
    let ran = scratch.run(&["run"]);
    assert!(ran.stderr.contains("you sent") || ran.stdout.contains("you sent"), "{} {}", ran.stdout, ran.stderr);
    let cases = scratch.run(&["cases", "--format", "json"]);
    assert!(cases.stdout.contains("you sent ***"), "{}", cases.stdout);
    for text in [ran.stdout, ran.stderr, cases.stdout] {
        assert!(!text.contains("canary"), "{text}");
    }
}
