//! How one signal reaches an OTLP endpoint: address, protocol, headers, compression, timeout. Where these values come
//! from is left to [`super::settings`].

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::auth::AuthEnv;

/// Headers that say where telemetry belongs and are no secrets.
pub(super) const PLACES: [&str; 2] = ["x-mlflow-experiment-id", "x-langfuse-ingestion-version"];

/// The three ways to speak OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Protocol {
    /// Protobuf over gRPC.
    #[serde(rename = "grpc")]
    Grpc,
    /// Protobuf over HTTP.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
    /// JSON over HTTP.
    #[serde(rename = "http/json")]
    HttpJson,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Grpc, Self::HttpProtobuf, Self::HttpJson];

    /// The name in OpenTelemetry's environment variables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
            Self::HttpJson => "http/json",
        }
    }

    /// The protocol of that name.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.as_str() == text)
    }

    /// Where a collector on this machine listens.
    pub const fn default_endpoint(self) -> &'static str {
        match self {
            Self::Grpc => "http://localhost:4317",
            Self::HttpProtobuf | Self::HttpJson => "http://localhost:4318",
        }
    }
}

/// How request bodies are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// With gzip.
    Gzip,
}

impl Compression {
    /// The compression of that name.
    pub fn from_name(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "gzip" => Some(Self::Gzip),
            _ => None,
        }
    }
}

/// Everything that a request of one signal needs.
///
/// The headers may be secrets: they are marked sensitive, so that debug output hides them, and have no serialised form.
#[derive(Debug, Clone, PartialEq)]
pub struct OtlpSettings {
    /// The full address; for gRPC only scheme, host and port count.
    pub endpoint: Url,
    /// How to speak.
    pub protocol: Protocol,
    /// What to send along.
    pub headers: HeaderMap,
    /// The variables that the key in them comes from, where the suite names them and its key is meant for this address.
    pub auth: AuthEnv,
    /// How to compress.
    pub compression: Compression,
    /// How long a request may take.
    pub timeout: Duration,
}

impl OtlpSettings {
    /// How long a request may take unless somebody says otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

    /// The settings for an address; credentials in the address move to a header, and a header of that name wins.
    pub fn new(mut endpoint: Url, protocol: Protocol, mut headers: HeaderMap) -> Self {
        if !endpoint.username().is_empty() || endpoint.password().is_some() {
            let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            let (user, password) = (decode(endpoint.username()), decode(endpoint.password().unwrap_or_default()));
            let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            let mut value = HeaderValue::from_str(&basic).expect("base64 is ASCII");
            value.set_sensitive(true);
            headers.entry(AUTHORIZATION).or_insert(value);
            endpoint.set_password(None).and_then(|()| endpoint.set_username("")).expect("http URLs have a host");
        }
        let (auth, compression, timeout) = (AuthEnv::default(), Compression::None, Self::DEFAULT_TIMEOUT);
        Self { endpoint, protocol, headers, auth, compression, timeout }
    }

    /// The address for people and for the store: without the query, which may hold a key.
    pub fn address(&self) -> String {
        let mut shown = self.endpoint.clone();
        shown.set_query(None);
        shown.set_fragment(None);
        shown.into()
    }
}

/// Reads an address; the error says what is wrong and never repeats the address, which may hold a password.
///
/// gRPC users write `host:port`: that means TLS, as OTLP has it, unless `insecure` says otherwise or the host is this
/// machine.
pub(super) fn parse_endpoint(text: &str, insecure: bool) -> Result<Url, String> {
    let text = text.trim();
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        let local = ["localhost", "127.", "[::1]"].iter().any(|host| text.starts_with(host));
        format!("{}://{text}", if insecure || local { "http" } else { "https" })
    };
    let url = Url::parse(&with_scheme).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("the scheme is `{other}`, expected http or https")),
    }
}

/// The address of a signal below a base address: OTLP over HTTP appends `v1/traces` and the like, gRPC nothing.
pub(super) fn below_base(mut base: Url, protocol: Protocol, signal: &str) -> Url {
    if protocol != Protocol::Grpc {
        let path = format!("{}/v1/{signal}", base.path().trim_end_matches('/'));
        base.set_path(&path);
    }
    base
}

/// Reads `key=value,key=value` with percent-encoded values. What is not a header is left out, and `complain` hears its
/// place but not its text, for it may be a secret.
pub(super) fn parse_headers(text: &str, mut complain: impl FnMut(String)) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (i, entry) in text.split(',').enumerate().filter(|(_, entry)| !entry.trim().is_empty()) {
        let header = entry.split_once('=').and_then(|(name, value)| {
            let value = percent_decode_str(value.trim()).collect::<Vec<u8>>();
            header(name.trim(), &value)
        });
        match header {
            Some((name, value)) => {
                headers.insert(name, value);
            }
            None => complain(format!("entry {} is not `name=value` of an HTTP header", i + 1)),
        }
    }
    headers
}

/// A header whose value debug output hides.
pub(super) fn header(name: &str, value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let mut value = HeaderValue::from_bytes(value).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_gets_the_path_of_the_signal() {
        let check = |base: &str, protocol, expected: &str| {
            let url = below_base(parse_endpoint(base, false).unwrap(), protocol, "traces");
            assert_eq!(url.as_str(), expected);
        };
        check("http://collector:4318", Protocol::HttpProtobuf, "http://collector:4318/v1/traces");
        check("http://collector:4318/otlp/", Protocol::HttpJson, "http://collector:4318/otlp/v1/traces");
        check("https://collector:4317", Protocol::Grpc, "https://collector:4317/");
        check("localhost:4317", Protocol::Grpc, "http://localhost:4317/");
        check("collector:4317", Protocol::Grpc, "https://collector:4317/");
    }

    #[test]
    fn addresses_that_are_none_are_refused_without_repeating_them() {
        for text in ["ftp://secret@host", "http://", "http://secret:x@host:99999"] {
            let error = parse_endpoint(text, false).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn headers_are_percent_decoded_and_hidden() {
        let mut complaints = Vec::new();
        let headers =
            parse_headers("x-api=a%20b, Authorization=Bearer t=,nonsense,bad name=1,x-two=2", |c| complaints.push(c));
        assert_eq!(headers["x-api"], "a b");
        assert_eq!(headers["authorization"], "Bearer t=");
        assert_eq!(headers["x-two"], "2");
        assert_eq!(complaints.len(), 2);
        assert!(complaints[0].starts_with("entry 3"), "{complaints:?}");
        assert!(!format!("{headers:?}").contains("Bearer"), "{headers:?}");
    }

    #[test]
    fn credentials_in_the_address_become_a_header() {
        let url = parse_endpoint("https://user:p%40ss@host/otlp?key=1", false).unwrap();
        let settings = OtlpSettings::new(url, Protocol::HttpProtobuf, HeaderMap::new());
        assert_eq!(settings.headers[AUTHORIZATION], "Basic dXNlcjpwQHNz");
        assert_eq!(settings.endpoint.as_str(), "https://host/otlp?key=1");
        assert_eq!(settings.address(), "https://host/otlp");
    }
}
