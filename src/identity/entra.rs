//! An app registration that asks Entra itself, with a secret or with a federated token in a file.
//!
//! Source: the OAuth 2.0 client credentials flow of the Microsoft identity platform.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use http::header::CONTENT_TYPE;
use reqwest::{Client, Url};

use super::ask::{self, Patience, ask, form};
use super::credential::{Credential, Problem, Token};
use crate::config::Environment;
use crate::model::Secret;
use crate::net::{Secrets, is_loopback, is_safe};

const AUTHORITY: &str = "https://login.microsoftonline.com/";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const CONNECT: Duration = Duration::from_secs(5);
/// No federated token is larger.
const MAX_FILE: u64 = 64 << 10;

/// An app registration.
pub(super) struct Registration {
    client: Client,
    url: Url,
    client_id: String,
    proof: Proof,
}

enum Proof {
    Secret(Secret),
    /// Read at each request: its content is replaced from time to time.
    File(PathBuf),
}

impl Registration {
    /// From `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET`; the error says what is missing.
    pub(super) fn with_secret(env: &Environment) -> Result<Self, String> {
        Self::new(env, "AZURE_CLIENT_SECRET", |text| Proof::Secret(Secret::new(text)))
    }

    /// From `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_FEDERATED_TOKEN_FILE`, which Kubernetes sets.
    pub(super) fn with_file(env: &Environment) -> Result<Self, String> {
        Self::new(env, "AZURE_FEDERATED_TOKEN_FILE", |text| Proof::File(PathBuf::from(text)))
    }

    fn new(env: &Environment, proof: &'static str, read: impl Fn(&str) -> Proof) -> Result<Self, String> {
        let names = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", proof];
        let [Some(tenant), Some(client_id), Some(proof)] = names.map(|name| env.get(name)) else {
            let missing: Vec<&str> = names.into_iter().filter(|name| env.get(name).is_none()).collect();
            return Err(format!("{} not set in the environment", missing.join(", ")));
        };
        let tenant = tenant.trim();
        if !tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
            return Err("AZURE_TENANT_ID is no tenant: an id or a domain was expected".to_owned());
        }
        let authority = Url::parse(env.get("AZURE_AUTHORITY_HOST").unwrap_or(AUTHORITY)).ok().filter(is_safe);
        let url = authority.and_then(|url| url.join(&format!("/{tenant}/oauth2/v2.0/token")).ok());
        let url = url.ok_or("AZURE_AUTHORITY_HOST is no https address")?;
        let client = ask::client(is_loopback(&url), CONNECT)?;
        Ok(Self { client, url, client_id: client_id.trim().to_owned(), proof: read(proof) })
    }
}

#[async_trait]
impl Credential for Registration {
    fn name(&self) -> &'static str {
        match self.proof {
            Proof::Secret(_) => "client secret (AZURE_CLIENT_SECRET)",
            Proof::File(_) => "workload identity (AZURE_FEDERATED_TOKEN_FILE)",
        }
    }

    async fn ask(&self, scope: &str) -> Result<Token, Problem> {
        let own = [("client_id", self.client_id.as_str()), ("scope", scope), ("grant_type", "client_credentials")];
        let (name, proof) = match &self.proof {
            Proof::Secret(secret) => ("client_secret", secret.clone()),
            Proof::File(path) => {
                let mut text = String::new();
                let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
                let wrong = |error| Problem::Refused(format!("reading {}: {error}", path.display()));
                read.map_err(wrong)?;
                ("client_assertion", Secret::new(text.trim()))
            }
        };
        let mut pairs = [&own[..], &[(name, proof.expose())]].concat();
        if matches!(self.proof, Proof::File(_)) {
            pairs.push(("client_assertion_type", ASSERTION_TYPE));
        }
        let body = form(&pairs);
        // An answer may repeat it as it is, or as it was sent.
        let sent = form(&[("", proof.expose())]);
        let sent = Secret::new(sent.strip_prefix('=').unwrap_or(&sent));
        let secrets = Secrets::new([proof, sent]);
        let make = || {
            let call = self.client.post(self.url.clone());
            call.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body.clone())
        };
        // A name that does not resolve is no sign that the registration does not exist.
        ask(make, Patience::Usual, &secrets).await.map_err(Problem::not_absent)
    }
}
