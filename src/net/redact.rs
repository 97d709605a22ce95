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
/// Of foreign words this many characters are looked at.
const READ_CHARS: usize = 16 << 10;
/// A stretch of letters and digits this long is no word.
const LONG_PART: usize = 16;
/// Shorter ones stand in ordinary words, too: taking them out would show where they are.
const MIN_SECRET: usize = 4;

/// What looks like a key or a token: behind its name, by its first letters, or by its length.
static KEYS: LazyLock<Regex> = LazyLock::new(|| {
    let patterns = [
        r"\b(?:sk|pk|rk)-[\w*.\-]{3,}",
        r"\beyJ[\w.~+/=\-]+",
        r"\b(?P<bearer>bearer)\s+[\w*.~+/=\-]+",
        r"\b(?P<basic>basic)\s+(?P<pair>[\w+/=\-]{6,})",
        r"(?P<provided>key provided:?\s*)[^\s,;&'\x22]+",
        r"(?P<set>\b(?:[\w\-]*[-_])?(?:key|token|secret|password|sig|signature|assertion)(?:['\x22]?\s*=|['\x22]\s*:)\s*['\x22]?)[^\s,;&'\x22]+",
        r"(?P<said>(?:\b|_)(?:key|token|secret|password):\s*)(?P<word>[^\s,;&'\x22]+)",
        r"(?P<long>[A-Za-z0-9_+=\-]{40,})",
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
        let mut all: Vec<Secret> = secrets.into_iter().filter(|secret| secret.expose().len() >= MIN_SECRET).collect();
        // One may begin another, whose rest would stay.
        all.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        Self(all)
    }

    /// Those among headers: what is named so, and what looks so; headers also carry the names of tenants and experiments. The
    /// words after `Bearer` and `Basic` are secrets by themselves, and so is the password inside the latter.
    pub fn of_headers(headers: &HeaderMap) -> Self {
        const NAMES: [&str; 6] = ["auth", "key", "token", "secret", "cookie", "password"];
        let is_named = |name: &str| NAMES.iter().any(|part| name.contains(part));
        let texts = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let mut found = Vec::new();
        for (_, text) in texts.filter(|(name, text)| is_named(name) || looks_secret(text)) {
            let credentials = text.split_once(' ').map(|(_, credentials)| credentials.trim());
            let decoded = credentials.and_then(|words| String::from_utf8(STANDARD.decode(words).ok()?).ok());
            let password = decoded.as_deref().and_then(|pair| Some(pair.split_once(':')?.1));
            found.extend([Some(text), credentials, password].into_iter().flatten().map(Secret::new));
        }
        Self::new(found)
    }

    /// The words in one line of at most 300 characters, without these secrets and without anything that looks like one.
    pub fn quote(&self, text: &str) -> String {
        let mut line = String::with_capacity(text.len().min(READ_CHARS));
        let is_cut = text.trim().chars().nth(READ_CHARS).is_some();
        // Much more than is kept: a key that the cut would go through is found before the cut.
        for c in text.trim().chars().take(READ_CHARS) {
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
            // What was not read may have gone on with the rest of it.
            let text = secret.expose();
            let begun = (MIN_SECRET..text.len()).rev().filter_map(|end| text.get(..end)).filter(|_| is_cut);
            if let Some(begun) = begun.into_iter().find(|begun| line.ends_with(begun)) {
                line.truncate(line.len() - begun.len());
                line.push_str("***");
            }
        }
        let line = KEYS.replace_all(&line, |found: &Captures<'_>| {
            // Ordinary words follow these, too, and names can be long.
            let is_odd = |c: char| c.is_ascii_digit() || c.is_ascii_uppercase() || matches!(c, '=' | '*');
            let word = ["pair", "word"].iter().find_map(|group| found.name(group));
            let is_plain = word.is_some_and(|word| !word.as_str().chars().skip(1).any(is_odd));
            if is_plain || found.name("long").is_some_and(|long| !looks_secret(long.as_str())) {
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

/// Whether a word looks made by chance: letters and digits in one stretch that is longer than a word or a number.
fn looks_secret(word: &str) -> bool {
    word.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| {
        part.len() >= LONG_PART
            && part.contains(|c: char| c.is_ascii_digit())
            && part.contains(|c: char| c.is_ascii_alphabetic())
    })
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
            "Invalid API key: please check",
            "the resource my-very-own-and-rather-long-application-insights-resource is gone",
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
    fn of_a_secret_no_part_stays() {
        let secrets = Secrets::new([Secret::new("team"), Secret::new("team-0123456789")]);
        assert_eq!(secrets.quote("team-0123456789 of team"), "*** of ***");
        let guid = "6f1c0000-aaaa-4bbb-8ccc-000000000001";
        let secrets = Secrets::new([Secret::new(guid)]);
        for blanks in 0..guid.len() {
            let said = format!("{}{}", " x".repeat(blanks), format!("{guid},").repeat(READ_CHARS / guid.len()));
            assert!(!secrets.quote(&said).contains("6f1c"), "{blanks}");
        }
        let cut = format!("{}{guid}", "\u{1}".repeat(READ_CHARS - 10));
        assert!(!secrets.quote(&cut).contains("6f1c"), "{}", secrets.quote(&cut));
    }

    #[test]
    fn what_headers_hide_is_not_repeated() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Basic {}", STANDARD.encode("u:p@ss"))).unwrap());
        headers.insert(HeaderName::from_static("x-my-token"), HeaderValue::from_static("abcd"));
        headers.insert(HeaderName::from_static("x-experiment"), HeaderValue::from_static("experiment"));
        headers.insert(HeaderName::from_static("x-honeycomb-team"), HeaderValue::from_static("canary0123456789abcd"));
        headers.insert(HeaderName::from_static("x-scope-orgid"), HeaderValue::from_static("team"));
        let secrets = Secrets::of_headers(&headers);
        let said = format!("experiment of team: {} p@ss abcd canary0123456789abcd", STANDARD.encode("u:p@ss"));
        assert_eq!(secrets.quote(&said), "experiment of team: *** *** *** ***");
        assert!(!format!("{secrets:?}").contains("canary"));
    }
}
