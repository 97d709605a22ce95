//! Connection strings of Application Insights: `InstrumentationKey=…;IngestionEndpoint=https://…;…`.
//!
//! Source: Azure Monitor, "Connection strings": pairs apart by `;`, keys in any case, unknown ones ignored, an explicit
//! endpoint before the one that `EndpointSuffix` and `Location` give, and the public cloud's where there is neither.

use std::fmt;

use reqwest::Url;

/// Where telemetry goes whose connection string names no place.
const PUBLIC: &str = "https://dc.services.visualstudio.com/";

/// A connection string, read. Its debug output hides the key.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionString {
    /// Which resource the telemetry belongs to.
    pub instrumentation_key: String,
    /// Where it is sent.
    pub ingestion: Url,
    /// For whom Entra tokens are asked, where it is not the public cloud.
    pub audience: Option<String>,
    /// The resource's application id, if the string has it.
    pub application_id: Option<String>,
}

/// Why a text is no connection string. The messages never repeat the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionStringError {
    /// Nothing in it.
    #[error("the connection string is empty; copy it from the Application Insights resource, under Overview")]
    Empty,
    /// A part that is not `key=value`.
    #[error("part {place} of the connection string is not `key=value`; parts are apart by `;`")]
    Part {
        /// Which part, from 1.
        place: usize,
    },
    /// The key that everything needs.
    #[error("the connection string has no InstrumentationKey; copy the whole of it from the resource's Overview")]
    NoKey,
    /// A key that is none.
    #[error("the InstrumentationKey of the connection string is not of the form 00000000-0000-0000-0000-000000000000")]
    BadKey,
    /// An address that is none.
    #[error("the {key} of the connection string is not an http or https address")]
    Address {
        /// Which of its keys.
        key: &'static str,
    },
}

impl ConnectionString {
    /// Reads a connection string.
    pub fn parse(text: &str) -> Result<Self, ConnectionStringError> {
        // Files from Windows begin with a mark, and what is copied out of a script stands in quotes.
        let text = text.trim_start_matches('\u{feff}').trim();
        let quoted = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
        let text = quoted.unwrap_or(text).trim().trim_end_matches(';');
        if text.is_empty() {
            return Err(ConnectionStringError::Empty);
        }
        let mut pairs: Vec<(String, &str)> = Vec::new();
        for (i, part) in text.split(';').enumerate().filter(|(_, part)| !part.trim().is_empty()) {
            let (key, value) = part.split_once('=').ok_or(ConnectionStringError::Part { place: i + 1 })?;
            pairs.push((key.trim().to_ascii_lowercase(), value.trim()));
        }
        let find = |name: &str| {
            let value = pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value);
            value.filter(|value| !value.is_empty())
        };
        let instrumentation_key = find("instrumentationkey").ok_or(ConnectionStringError::NoKey)?;
        if !is_uuid(instrumentation_key) {
            return Err(ConnectionStringError::BadKey);
        }
        let ingestion = match (find("ingestionendpoint"), find("endpointsuffix")) {
            (Some(endpoint), _) => address(endpoint, "IngestionEndpoint")?,
            (None, Some(suffix)) => {
                let suffix = suffix.trim_start_matches('.');
                let location = find("location").map(|location| format!("{location}.")).unwrap_or_default();
                address(&format!("https://{location}dc.{suffix}"), "EndpointSuffix")?
            }
            (None, None) => address(PUBLIC, "IngestionEndpoint")?,
        };
        Ok(Self {
            instrumentation_key: instrumentation_key.to_owned(),
            ingestion,
            audience: find("aadaudience").map(str::to_owned),
            application_id: find("applicationid").map(str::to_owned),
        })
    }
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionString").field("ingestion", &self.ingestion.as_str()).finish_non_exhaustive()
    }
}

fn address(text: &str, key: &'static str) -> Result<Url, ConnectionStringError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    // A password would be shown and kept wherever the address is.
    let bare = |url: &Url| url.has_host() && url.username().is_empty() && url.password().is_none();
    let mut url = url.filter(bare).ok_or(ConnectionStringError::Address { key })?;
    url.set_query(None);
    url.set_fragment(None);
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// Whether a text is 32 hexadecimal digits in the groups of a UUID.
fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_password_is_refused() {
        let text = format!("{KEY};IngestionEndpoint=https://u:hunter2@gw.example/");
        let error = ConnectionString::parse(&text).expect_err("a password").to_string();
        assert!(error.contains("IngestionEndpoint") && !error.contains("hunter2"), "{error}");
    }

    const KEY: &str = "InstrumentationKey=00000000-0000-0000-0000-000000000001";

    fn endpoint(rest: &str) -> String {
        ConnectionString::parse(&format!("{KEY};{rest}")).expect("a connection string").ingestion.to_string()
    }

    #[test]
    fn endpoints_are_found_in_their_order() {
        assert_eq!(endpoint(""), PUBLIC);
        assert_eq!(endpoint("EndpointSuffix=applicationinsights.azure.cn"), "https://dc.applicationinsights.azure.cn/");
        assert_eq!(endpoint("Location=westeurope;endpointsuffix=ai.example;"), "https://westeurope.dc.ai.example/");
        assert_eq!(
            endpoint("EndpointSuffix=ai.example;IngestionEndpoint=https://x.in.example"),
            "https://x.in.example/"
        );
        assert_eq!(endpoint("ingestionendpoint = http://127.0.0.1:9/base"), "http://127.0.0.1:9/base/");
        assert_eq!(endpoint("Whatever=1;LiveEndpoint=https://live/"), PUBLIC);
    }

    #[test]
    fn keys_come_in_any_case_and_values_keep_theirs() {
        let text = "instrumentationKEY=ABCDEF00-0000-0000-0000-000000000001;AADAudience=https://monitor.azure.us/;ApplicationId=a=b;;";
        let read = ConnectionString::parse(text).expect("a connection string");
        assert_eq!(read.instrumentation_key, "ABCDEF00-0000-0000-0000-000000000001");
        assert_eq!(read.audience.as_deref(), Some("https://monitor.azure.us/"));
        assert_eq!(read.application_id.as_deref(), Some("a=b"));
    }

    #[test]
    fn quotes_and_marks_around_it_are_not_part_of_it() {
        let plain = "InstrumentationKey=00000000-0000-0000-0000-000000000001;IngestionEndpoint=https://a.example/";
        let expected = ConnectionString::parse(plain).expect("a connection string");
        for text in [format!("\u{feff}{plain}\r\n"), format!("\"{plain};\""), format!(" '{plain}'\n")] {
            assert_eq!(ConnectionString::parse(&text), Ok(expected.clone()), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused_without_repeating_it() {
        use ConnectionStringError as E;
        let check = |text: &str, expected: E| {
            let error = ConnectionString::parse(text).expect_err(text);
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("secret"), "{error}");
        };
        check(" ; ", E::Empty);
        check("secret", E::Part { place: 1 });
        check("IngestionEndpoint=https://secret/", E::NoKey);
        check("InstrumentationKey=", E::NoKey);
        check("InstrumentationKey=secret", E::BadKey);
        check("InstrumentationKey=00000000-0000-0000-0000-00000000000g", E::BadKey);
        check(&format!("{KEY};IngestionEndpoint=ftp://secret/"), E::Address { key: "IngestionEndpoint" });
        check(&format!("{KEY};EndpointSuffix=se cret"), E::Address { key: "EndpointSuffix" });
        check(&format!("{KEY};IngestionEndpoint"), E::Part { place: 2 });
    }

    #[test]
    fn debug_output_hides_the_key() {
        let read = ConnectionString::parse(KEY).expect("a connection string");
        assert!(!format!("{read:?}").contains("00000000"), "{read:?}");
    }
}
