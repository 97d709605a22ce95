//! Words that others wrote, for our own messages: one bounded line, without keys and tokens.

use std::fmt;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use regex::{Captures, Regex};

use crate::model::Secret;

/// Longest stretch of foreign words in a message.
const MAX_CHARS: usize = 300;
/// Shorter ones stand in ordinary words, too: taking them out would show where they are.
const MIN_SECRET: usize = 4;

/// What looks like a key or a token: behind its name, by its first letters, or by its length.
static KEYS: LazyLock<Regex> = LazyLock::new(|| {
    let patterns = [
        r"\b(?:sk|pk|rk)-[\w*.\-]{3,}",
        r"\beyJ[\w.~+/=\-]+",
        r"\b(?P<bearer>bearer)\s+[\w*.~+/=\-]+",
        r"\b(?P<basic>basic)\s+(?P<pair>[\w+/=\-]{6,})",
        r"(?P<provided>key provided:?\s*|api[-_ ]?key['\x22]?\s*[:=]\s*['\x22]?)[^\s,;&'\x22]+",
        r"(?P<set>\b(?:[\w\-]*[-_])?(?:key|token|secret|password|sig|signature|assertion)(?:['\x22]?\s*=|['\x22]\s*:)\s*['\x22]?)[^\s,;&'\x22]+",
        r"(?P<said>\b(?:key|token|secret|password):\s*)(?P<word>[^\s,;&'\x22]+)",
        r"[A-Za-z0-9_+=\-]{40,}",
    ];
    Regex::new(&format!("(?i){}", patterns.join("|"))).expect("the pattern is fixed and tested")
});

/// The words in one line of at most 300 characters, without anything that looks like a key or a token.
pub fn quote(text: &str) -> String {
    Secrets::default().quote(text)
}

/// The secrets that a client sends, which a server may repeat.
#[derive(Clone, Default)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// These.
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        Self(secrets.into_iter().filter(|secret| secret.expose().len() >= MIN_SECRET).collect())
    }

    /// Those among headers: what is marked so, and what is named so. The words after `Bearer` and `Basic` are secrets by
    /// themselves, and so is the password inside the latter.
    pub fn of_headers(headers: &HeaderMap) -> Self {
        const NAMES: [&str; 6] = ["auth", "key", "token", "secret", "cookie", "password"];
        let is_secret = |name: &str| NAMES.iter().any(|part| name.contains(part));
        let secret = headers.iter().filter(|(name, value)| value.is_sensitive() || is_secret(name.as_str()));
        let mut found = Vec::new();
        for text in secret.filter_map(|(_, value)| value.to_str().ok()) {
            let credentials = text.split_once(' ').map(|(_, credentials)| credentials.trim());
            let decoded = credentials.and_then(|words| String::from_utf8(STANDARD.decode(words).ok()?).ok());
            let password = decoded.as_deref().and_then(|pair| Some(pair.split_once(':')?.1));
            found.extend([Some(text), credentials, password].into_iter().flatten().map(Secret::new));
        }
        Self::new(found)
    }

    /// The words in one line of at most 300 characters, without these secrets and without anything that looks like one.
    pub fn quote(&self, text: &str) -> String {
        let mut line = String::with_capacity(text.len().min(8 * MAX_CHARS));
        // More than is kept: a key that the cut would go through is found before the cut.
        for c in text.trim().chars().take(4 * MAX_CHARS) {
            if c.is_control() || c.is_whitespace() {
                if !line.ends_with(' ') {
                    line.push(' ');
                }
            } else {
                line.push(c);
            }
        }
        for secret in &self.0 {
            line = line.replace(secret.expose(), "***");
        }
        let line = KEYS.replace_all(&line, |found: &Captures<'_>| {
            // Ordinary words follow these, too.
            let word = ["pair", "word"].iter().find_map(|group| found.name(group));
            let is_odd = |c: char| c.is_ascii_digit() || c.is_ascii_uppercase() || c == '=';
            if word.is_some_and(|word| !word.as_str().chars().skip(1).any(is_odd)) {
                return found[0].to_owned();
            }
            let lead = ["bearer", "basic", "provided", "set", "said"].iter().find_map(|group| found.name(group));
            let blank = if found.name("bearer").or(found.name("basic")).is_some() { " " } else { "" };
            format!("{}{blank}***", lead.map_or("", |lead| lead.as_str()))
        });
        match line.char_indices().nth(MAX_CHARS) {
            Some((cut, _)) => format!("{}…", line.get(..cut).unwrap_or_default()),
            None => line.into_owned(),
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn keys_of_any_form_are_taken_out() {
        let secrets = Secrets::new([Secret::new("0123456789abcdef")]);
        for (given, expected) in [
            ("Incorrect API key provided: sk-abc***xyz.", "Incorrect API key provided: ***"),
            ("Incorrect API key provided: abc***xyz, see there", "Incorrect API key provided: ***, see there"),
            ("the key 0123456789abcdef is wrong", "the key *** is wrong"),
            ("sent Authorization: Bearer eyJhb.x-y", "sent Authorization: Bearer ***"),
            ("sent Basic dXNlcjpwYXNz here", "sent Basic *** here"),
            ("api_key=hunter2 refused", "api_key=*** refused"),
            (r#"{"access_token": "abc", "code": 3}"#, r#"{"access_token": "***", "code": 3}"#),
            ("https://x/?token=abc&sig=def%2F&next=1", "https://x/?token=***&sig=***&next=1"),
            ("client_secret='abc'", "client_secret='***'"),
            ("wrong password: hunter2", "wrong password: ***"),
            ("ERROR: eyJhbGciOi.x.y is stale", "ERROR: *** is stale"),
            ("canary0123456789canary0123456789canary0123456789 is stale", "*** is stale"),
            ("no secrets,\n  two\tlines", "no secrets, two lines"),
        ] {
            assert_eq!(secrets.quote(given), expected);
        }
    }

    #[test]
    fn ordinary_words_stay() {
        for text in [
            "opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest is not known",
            "invalid token at position 12: expected `}`",
            "the basic tier has no quota left: basic authentication is off",
            "no Entra token: [azure] credential = \"az\"",
            "trace 0af7651916cd43dd8448eb211c80319c is unknown",
            "/subscriptions/1/resourceGroups/r/providers/microsoft.insights/components/c is gone",
            "monkey: banana",
        ] {
            assert_eq!(quote(text), text);
        }
    }

    #[test]
    fn long_messages_are_cut_to_300_characters() {
        let cut = quote(&"ä".repeat(900));
        assert_eq!(cut.chars().count(), 301);
        let secret = format!("{}sk-0123456789", "x ".repeat(148));
        assert!(!quote(&secret).contains("sk-0"), "a key at the cut is found whole");
    }

    #[test]
    fn what_headers_hide_is_not_repeated() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Basic {}", STANDARD.encode("u:p@ss"))).unwrap());
        headers.insert(HeaderName::from_static("x-my-token"), HeaderValue::from_static("abcd"));
        headers.insert(HeaderName::from_static("x-experiment"), HeaderValue::from_static("experiment"));
        let mut hidden = HeaderValue::from_static("canary");
        hidden.set_sensitive(true);
        headers.insert(HeaderName::from_static("x-other"), hidden);
        let secrets = Secrets::of_headers(&headers);
        let said = format!("experiment: {} p@ss abcd canary", STANDARD.encode("u:p@ss"));
        assert_eq!(secrets.quote(&said), "experiment: *** *** *** ***");
        assert!(!format!("{secrets:?}").contains("canary"));
    }
}
