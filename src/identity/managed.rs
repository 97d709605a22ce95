//! The identity that Azure gives to a machine, an app or a container: asked of an endpoint that only it can reach.
//!
//! Sources: App Service and Container Apps, "REST endpoint reference" (`IDENTITY_ENDPOINT`); Azure Machine Learning
//! (`MSI_ENDPOINT` with `MSI_SECRET`); Cloud Shell (`MSI_ENDPOINT` alone); the Instance Metadata Service of virtual
//! machines.

use std::time::Duration;

use async_trait::async_trait;
use http::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};

use super::ask::{self, Patience, ask, form};
use super::credential::{Credential, Problem, Token};
use crate::config::Environment;
use crate::model::Secret;
use crate::net::Secrets;

/// Where virtual machines ask.
const INSTANCE: &str = "http://169.254.169.254/";
const CONNECT: Duration = Duration::from_secs(5);
/// A machine that is none of Azure's does not answer there at all, and waits for nothing.
const PROBE: Duration = Duration::from_secs(1);

/// A managed identity.
pub(super) struct Managed {
    client: Client,
    url: Url,
    kind: Kind,
    patience: Patience,
    /// Of a user-assigned identity.
    client_id: Option<String>,
}

enum Kind {
    AppService(Secret),
    MachineLearning(Secret),
    CloudShell,
    Instance,
}

impl Managed {
    /// The identity that the environment describes, else that of the virtual machine, if `probe` for as long as it takes
    /// to see that there is none.
    pub(super) fn new(env: &Environment, probe: bool) -> Result<Self, String> {
        let address = |name: &str| {
            let url = env.get(name).map(|text| Url::parse(text).ok().filter(Url::has_host));
            url.map(|url| url.ok_or(format!("{name} is no address"))).transpose()
        };
        let (kind, url) = match (address("IDENTITY_ENDPOINT")?, address("MSI_ENDPOINT")?) {
            (Some(url), _) => {
                match env.get("IDENTITY_HEADER") {
                    Some(header) if env.get("IDENTITY_SERVER_THUMBPRINT").is_none() => {
                        (Kind::AppService(Secret::new(header)), url)
                    }
                    _ => {
                        return Err("IDENTITY_ENDPOINT is set as Azure Arc and Service Fabric set it, which is not known here; \
                                set `token_command` in [azure]"
                        .to_owned());
                    }
                }
            }
            (None, Some(url)) => match env.get("MSI_SECRET") {
                Some(secret) => (Kind::MachineLearning(Secret::new(secret)), url),
                None => (Kind::CloudShell, url),
            },
            (None, None) => {
                let base = address("AZURE_POD_IDENTITY_AUTHORITY_HOST")?;
                let base = base.unwrap_or_else(|| Url::parse(INSTANCE).expect("it is an address"));
                let url = base.join("metadata/identity/oauth2/token").map_err(|error| error.to_string())?;
                (Kind::Instance, url)
            }
        };
        let client_id = env.get("AZURE_CLIENT_ID").map(|text| text.trim().to_owned());
        let (connect, patience) = match (&kind, probe) {
            (Kind::Instance, true) => (PROBE, Patience::Usual),
            (Kind::Instance, false) => (CONNECT, Patience::Instance),
            _ => (CONNECT, Patience::Usual),
        };
        Ok(Self { client: ask::client(true, connect)?, url, kind, patience, client_id })
    }

    fn request(&self, scope: &str) -> RequestBuilder {
        // These endpoints know resources, which scopes were made of.
        let resource = scope.strip_suffix("/.default").unwrap_or(scope);
        let mut pairs = vec![("resource", resource)];
        let (version, id) = match &self.kind {
            Kind::AppService(_) => ("2019-08-01", "client_id"),
            Kind::MachineLearning(_) => ("2017-09-01", "clientid"),
            Kind::Instance => ("2018-02-01", "client_id"),
            Kind::CloudShell => {
                let call = self.client.post(self.url.clone()).header("metadata", "true");
                return call.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form(&pairs));
            }
        };
        pairs.push(("api-version", version));
        pairs.extend(self.client_id.as_deref().map(|client_id| (id, client_id)));
        let mut url = self.url.clone();
        url.query_pairs_mut().extend_pairs(pairs);
        let call = self.client.get(url);
        match &self.kind {
            Kind::AppService(header) => call.header("x-identity-header", hidden(header)),
            Kind::MachineLearning(secret) => call.header("secret", hidden(secret)),
            Kind::Instance | Kind::CloudShell => call.header("metadata", "true"),
        }
    }
}

/// The value of a header that logs do not show; empty if no header can hold it, which the endpoint will refuse.
fn hidden(secret: &Secret) -> HeaderValue {
    let mut value = HeaderValue::from_str(secret.expose()).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

#[async_trait]
impl Credential for Managed {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::AppService(_) => "managed identity (IDENTITY_ENDPOINT)",
            Kind::MachineLearning(_) => "managed identity (Azure Machine Learning)",
            Kind::CloudShell => "managed identity (Cloud Shell)",
            Kind::Instance => "managed identity (virtual machine)",
        }
    }

    async fn ask(&self, scope: &str) -> Result<Token, Problem> {
        let secrets = Secrets::new(match &self.kind {
            Kind::AppService(secret) | Kind::MachineLearning(secret) => Some(secret.clone()),
            Kind::CloudShell | Kind::Instance => None,
        });
        let asked = ask(|| self.request(scope), self.patience, &secrets).await;
        if !matches!(self.kind, Kind::Instance) {
            // The environment says that it is there.
            return asked.map_err(Problem::not_absent);
        }
        // Where nothing is known of metadata, whatever answers is not Azure, or this machine has no identity.
        asked.map_err(|problem| match problem {
            Problem::Refused(words) => Problem::Absent(words),
            other => other,
        })
    }
}
