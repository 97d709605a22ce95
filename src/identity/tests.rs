//! Credentials against token endpoints on the loopback and programs of this machine.

use std::time::Duration;

use wiremock::matchers::{body_string_contains, header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::credential::{Chain, Credential as _, Problem};
use super::tools::Tool;
use super::*;
use crate::config::CredentialKind;

fn env(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn plan(credential: CredentialKind) -> AzurePlan {
    AzurePlan { credential, ..AzurePlan::default() }
}

fn given() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(serde_json::json!({"access_token": "canary", "expires_in": 3600}))
}

async fn secret(plan: &AzurePlan, env: &Environment) -> Result<String, String> {
    let source = source(plan, env).map_err(|error| error.to_string())?;
    let token = source.token(scope::MONITOR, None).await.map_err(|error| error.to_string())?;
    assert!(source.who().is_some(), "whoever gave it is known");
    Ok(token.expose().to_owned())
}

#[tokio::test]
async fn an_app_asks_its_endpoint_with_the_header_it_was_given() {
    let server = MockServer::start().await;
    let get = Mock::given(method("GET")).and(path("/msi/token")).and(header("x-identity-header", "h"));
    let get = get.and(query_param("resource", "https://monitor.azure.com/")).and(query_param("client_id", "c"));
    get.and(query_param("api-version", "2019-08-01")).respond_with(given()).mount(&server).await;
    let endpoint = format!("{}/msi/token", server.uri());
    let env = env(&[("IDENTITY_ENDPOINT", &endpoint), ("IDENTITY_HEADER", "h"), ("AZURE_CLIENT_ID", "c")]);
    for kind in [CredentialKind::ManagedIdentity, CredentialKind::Auto] {
        assert_eq!(secret(&plan(kind), &env).await.as_deref(), Ok("canary"), "{kind:?}");
    }
}

#[tokio::test]
async fn machine_learning_cloud_shell_and_virtual_machines_are_asked_as_they_want() {
    let server = MockServer::start().await;
    let ml = Mock::given(method("GET")).and(path("/ml")).and(header("secret", "s"));
    ml.and(query_param("api-version", "2017-09-01")).respond_with(given()).mount(&server).await;
    let shell = Mock::given(method("POST")).and(path("/shell")).and(header("metadata", "true"));
    let resource = body_string_contains("resource=https%3A%2F%2Fmonitor.azure.com%2F");
    shell.and(resource).respond_with(given()).mount(&server).await;
    let machine = Mock::given(method("GET")).and(path("/metadata/identity/oauth2/token"));
    machine.and(query_param("api-version", "2018-02-01")).respond_with(given()).mount(&server).await;
    let kind = plan(CredentialKind::ManagedIdentity);
    let (ml, shell) = (format!("{}/ml", server.uri()), format!("{}/shell", server.uri()));
    assert_eq!(secret(&kind, &env(&[("MSI_ENDPOINT", &ml), ("MSI_SECRET", "s")])).await.as_deref(), Ok("canary"));
    assert_eq!(secret(&kind, &env(&[("MSI_ENDPOINT", &shell)])).await.as_deref(), Ok("canary"));
    let host = [("AZURE_POD_IDENTITY_AUTHORITY_HOST", server.uri())];
    let host = host.map(|(name, uri)| (name.to_owned(), uri)).into_iter().collect();
    assert_eq!(secret(&kind, &host).await.as_deref(), Ok("canary"));
    let arc = env(&[("IDENTITY_ENDPOINT", "http://localhost:40342/x"), ("IMDS_ENDPOINT", "http://localhost:40342")]);
    let error = secret(&kind, &arc).await.expect_err("not known");
    assert!(error.contains("Azure Arc") && error.contains("token_command"), "{error}");
}

#[tokio::test]
async fn an_app_registration_proves_itself_with_a_secret_or_a_file() {
    let server = MockServer::start().await;
    let post = || Mock::given(method("POST")).and(path("/t-1/oauth2/v2.0/token"));
    let with = |text: &'static str| post().and(body_string_contains(text)).respond_with(given());
    with("client_secret=s%26cret").mount(&server).await;
    with("client_assertion=federated&client_assertion_type=urn").mount(&server).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "federated\n").expect("written");
    let uri = server.uri();
    let mut set = vec![("AZURE_AUTHORITY_HOST", uri.as_str()), ("AZURE_TENANT_ID", "t-1"), ("AZURE_CLIENT_ID", "c")];
    set.push(("AZURE_CLIENT_SECRET", "s&cret"));
    assert_eq!(secret(&plan(CredentialKind::ClientSecret), &env(&set)).await.as_deref(), Ok("canary"));
    set[3] = ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().expect("UTF-8"));
    assert_eq!(secret(&plan(CredentialKind::WorkloadIdentity), &env(&set)).await.as_deref(), Ok("canary"));
    let error = secret(&plan(CredentialKind::ClientSecret), &env(&set)).await.expect_err("no secret");
    assert!(error.contains("AZURE_CLIENT_SECRET not set"), "{error}");
    set[0] = ("AZURE_AUTHORITY_HOST", "http://login.example");
    let error = secret(&plan(CredentialKind::WorkloadIdentity), &env(&set)).await.expect_err("no TLS");
    assert!(error.contains("AZURE_AUTHORITY_HOST is no https address"), "{error}");
}

#[tokio::test]
async fn what_an_endpoint_repeats_of_its_request_is_not_passed_on() {
    let server = MockServer::start().await;
    let repeat = |request: &wiremock::Request| {
        let body = String::from_utf8_lossy(&request.body).replace("client_secret=", "sent ").replace('&', " ");
        let headers = ["x-identity-header", "secret"].map(|name| request.headers.get(name));
        let said = format!("what is p%q? {body} {headers:?} in full");
        ResponseTemplate::new(400).set_body_json(serde_json::json!({"error": {"message": said}}))
    };
    Mock::given(wiremock::matchers::any()).respond_with(repeat).mount(&server).await;
    let uri = server.uri();
    let managed = plan(CredentialKind::ManagedIdentity);
    let app = [("AZURE_AUTHORITY_HOST", uri.as_str()), ("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c")];
    let app = env(&[&app[..], &[("AZURE_CLIENT_SECRET", "p%q-canary")]].concat());
    for (plan, env) in [
        (&managed, &env(&[("IDENTITY_ENDPOINT", &uri), ("IDENTITY_HEADER", "canary")])),
        (&managed, &env(&[("MSI_ENDPOINT", &uri), ("MSI_SECRET", "canary")])),
        (&plan(CredentialKind::ClientSecret), &app),
    ] {
        let error = secret(plan, env).await.expect_err("refused");
        assert!(error.contains("in full") && error.contains("***") && !error.contains("canary"), "{error}");
    }
    let script = "echo canary; echo 'what is canary? in full' >&2; exit 3";
    let error = secret(&shell(script), &Environment::default()).await.expect_err("refused");
    assert!(error.contains("what is ***? in full"), "{error}");
}

#[tokio::test]
async fn a_registration_that_is_refused_is_not_replaced_by_another_identity() {
    let server = MockServer::start().await;
    let body =
        serde_json::json!({"error": "invalid_client", "error_description": "AADSTS7000215: wrong\r\nTrace ID: x"});
    let refusal = ResponseTemplate::new(401).set_body_json(body);
    Mock::given(method("POST")).respond_with(refusal).expect(1).mount(&server).await;
    let uri = server.uri();
    let mut set = vec![("AZURE_AUTHORITY_HOST", uri.as_str()), ("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c")];
    set.push(("AZURE_CLIENT_SECRET", "s"));
    let error = secret(&plan(CredentialKind::Auto), &env(&set)).await.expect_err("refused");
    assert!(error.contains("AADSTS7000215: wrong") && error.contains("client secret"), "{error}");
    assert!(!error.contains("Trace ID") && !error.contains("az login"), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_is_busy_is_asked_again() {
    let server = MockServer::start().await;
    let busy = ResponseTemplate::new(429).insert_header("retry-after", "0");
    Mock::given(method("GET")).respond_with(busy).up_to_n_times(1).mount(&server).await;
    Mock::given(method("GET")).respond_with(given()).mount(&server).await;
    let uri = server.uri();
    let env = env(&[("IDENTITY_ENDPOINT", &uri), ("IDENTITY_HEADER", "h")]);
    assert_eq!(secret(&plan(CredentialKind::ManagedIdentity), &env).await.as_deref(), Ok("canary"));
}

#[tokio::test]
async fn what_no_token_is_in_names_who_was_asked() {
    let server = MockServer::start().await;
    let page = ResponseTemplate::new(200).set_body_string("<html>canary</html>");
    Mock::given(method("GET")).respond_with(page).mount(&server).await;
    let uri = server.uri();
    let env = env(&[("IDENTITY_ENDPOINT", &uri), ("IDENTITY_HEADER", "h")]);
    let error = secret(&plan(CredentialKind::ManagedIdentity), &env).await.expect_err("no token");
    assert!(error.contains("managed identity (IDENTITY_ENDPOINT)") && error.contains("holds no token"), "{error}");
    assert!(!error.contains("canary"), "{error}");
}

fn shell(script: &str) -> AzurePlan {
    let words = ["sh", "-c", script, "sh", "{scope}"].map(str::to_owned).to_vec();
    AzurePlan { credential: CredentialKind::TokenCommand, token_command: Some(words), ..AzurePlan::default() }
}

#[tokio::test]
async fn a_command_prints_a_token_for_the_scope() {
    let env = Environment::default();
    let script = r#"printf '{"accessToken":"for-%s","expires_on":4102444800}' "$1""#;
    let token = secret(&shell(script), &env).await;
    assert_eq!(token.as_deref(), Ok("for-https://monitor.azure.com//.default"));
    assert_eq!(secret(&shell("echo bare; sleep 9 &"), &env).await.as_deref(), Ok("bare"));
    let error =
        secret(&shell("echo canary; echo 'ERROR: sign in first' >&2; exit 3"), &env).await.expect_err("no token");
    assert!(error.contains("sign in first") && error.contains("exit status: 3"), "{error}");
    assert!(!error.contains("canary"), "{error}");
    let error = secret(&shell("echo two canaries"), &env).await.expect_err("no token");
    assert!(error.contains("printed no token") && !error.contains("canaries"), "{error}");
    assert_eq!(secret(&shell("yes '{' | head -c 1000000; exec false"), &env).await.map_err(|_| ()), Err(()));
}

#[tokio::test]
async fn a_command_that_does_not_end_is_killed() {
    let words = ["sh", "-c", "sleep 600 & wait"].map(str::to_owned).to_vec();
    let hung = Tool::command(words).within(Duration::from_millis(50));
    let problem = hung.ask("s").await.expect_err("no token");
    assert!(matches!(&problem, Problem::Absent(why) if why.contains("did not end within 50ms")), "{problem:?}");
}

#[tokio::test]
async fn where_nobody_is_signed_in_all_that_was_tried_is_said() {
    let none = |name: &str| Box::new(Tool::command(vec![name.to_owned()])) as Box<dyn credential::Credential>;
    let chain = Chain::of(vec![none("/nowhere/az"), none("/nowhere/azd")]);
    let error = chain.ask(scope::FOUNDRY).await.expect_err("no token").to_string();
    assert!(
        error.contains("`/nowhere/az`") && error.contains("`/nowhere/azd`") && error.contains("az login"),
        "{error}"
    );
    let kind = AzurePlan { credential: CredentialKind::TokenCommand, ..AzurePlan::default() };
    let error = source(&kind, &Environment::default()).err().expect("no command").to_string();
    assert!(error.contains("name it in the suite's [azure]"), "{error}");
}

#[tokio::test]
async fn an_identity_of_a_kind_that_is_not_known_is_passed_over_and_told() {
    // As Azure Arc sets it.
    let env = env(&[("IDENTITY_ENDPOINT", "http://localhost:40342/metadata/identity/oauth2/token")]);
    assert!(source(&plan(CredentialKind::Auto), &env).is_ok());
    // Who is signed in with `az` has a token all the same.
    if let Err(error) = secret(&plan(CredentialKind::Auto), &env).await {
        assert!(error.contains("Azure Arc") && error.contains("az login"), "{error}");
    }
    let error = secret(&plan(CredentialKind::ManagedIdentity), &env).await.expect_err("no token");
    assert!(error.contains("Azure Arc") && !error.contains("az login"), "{error}");
}
