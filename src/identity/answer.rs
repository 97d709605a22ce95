//! Reading tokens and errors out of what token endpoints and programs say.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::credential::Token;
use crate::model::Secret;
use crate::net::Secrets;

/// Reads a token from JSON as endpoints and programs write it (`access_token`, `accessToken`, `token`), or from a bare
/// text. `now` is in seconds since the Unix epoch. `None` if there is none in it.
pub(super) fn token(text: &str, now: u64) -> Option<Token> {
    let text = text.trim().trim_start_matches('\u{feff}');
    let Ok(json) = serde_json::from_str::<Value>(text) else { return bare(text) };
    let (secret, fields) = match &json {
        Value::String(text) => return bare(text),
        Value::Object(fields) => {
            let named = ["access_token", "accessToken", "token"].iter().find_map(|name| fields.get(*name)?.as_str());
            (named.filter(|token| is_token(token))?, fields)
        }
        _ => return None,
    };
    let absolute = ["expires_on", "expiresOn"].iter().find_map(|name| moment(fields.get(*name)?));
    let relative = || fields.get("expires_in").and_then(number).map(|seconds| now.saturating_add(seconds));
    let expires = absolute.or_else(relative).or_else(|| end_of(secret));
    Some(Token { secret: Secret::new(secret), expires })
}

fn bare(text: &str) -> Option<Token> {
    let text = text.trim();
    is_token(text).then(|| Token { secret: Secret::new(text), expires: end_of(text) })
}

/// Whether a header can hold it, and a page or a sentence it is not.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 32 << 10 && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'<')
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// A time as seconds since the Unix epoch, or as RFC 3339. A time without a zone says nothing.
fn moment(value: &Value) -> Option<u64> {
    number(value).or_else(|| {
        let time: jiff::Timestamp = value.as_str()?.trim().parse().ok()?;
        u64::try_from(time.as_second()).ok()
    })
}

/// The end that a JSON Web Token says of itself.
fn end_of(token: &str) -> Option<u64> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice::<Value>(&payload).ok()?.get("exp")?.as_u64()
}

/// What an endpoint says is wrong: Entra's `error_description`, the `message` of other endpoints, or the text itself. What it
/// repeats of the `secrets` that it was asked with is taken out.
pub(super) fn problem(text: &str, secrets: &Secrets) -> String {
    let Ok(json) = serde_json::from_str::<Value>(text) else { return secrets.quote(text) };
    let error = json.get("error");
    let inner = error.and_then(|error| error.get("message")).and_then(Value::as_str);
    let outer = ["error_description", "message", "Message"].iter().find_map(|name| json.get(*name)?.as_str());
    let code = error.and_then(Value::as_str);
    // Entra's descriptions go on with ids of the request, each on a line of its own.
    let words = outer.or(inner).and_then(|text| text.lines().find(|line| !line.trim().is_empty())).or(code);
    words.map(|words| secrets.quote(words)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, Option<u64>)> {
        token(text, 1000).map(|token| (token.secret.expose().to_owned(), token.expires))
    }

    #[test]
    fn tokens_are_read_in_the_forms_of_their_givers() {
        // Managed identity, Entra, az, azd, and a program that prints the token.
        assert_eq!(
            read(r#"{"access_token":"t","expires_on":"2000","resource":"r"}"#),
            Some(("t".to_owned(), Some(2000)))
        );
        assert_eq!(
            read(r#"{"token_type":"Bearer","expires_in":3599,"access_token":"t"}"#),
            Some(("t".to_owned(), Some(4599)))
        );
        let az = r#"{"accessToken":"t","expiresOn":"2026-11-22 10:00:00.000000","expires_on":3000}"#;
        assert_eq!(read(az), Some(("t".to_owned(), Some(3000))));
        assert_eq!(read(r#"{"token":"t","expiresOn":"1970-01-01T01:00:00Z"}"#), Some(("t".to_owned(), Some(3600))));
        assert_eq!(read("  opaque-token\n"), Some(("opaque-token".to_owned(), None)));
        let own = URL_SAFE_NO_PAD.encode(r#"{"aud":"x","exp":4102444800}"#);
        let jwt = format!("eyJh.{own}.sig");
        assert_eq!(read(&jwt), Some((jwt.clone(), Some(4_102_444_800))));
        assert_eq!(
            read(r#"{"accessToken":"t","expiresOn":"2026-11-22 10:00:00.000000"}"#),
            Some(("t".to_owned(), None))
        );
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in
            ["", "{}", "[]", "1", "Please run az login", "<html>", r#"{"access_token":""}"#, r#"{"token":"a b"}"#]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_an_endpoint_says_is_quoted_without_tokens() {
        let problem = |text: &str| problem(text, &Secrets::new([Secret::new("h-4321")]));
        let entra =
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret.\r\nTrace ID: 1"}"#;
        assert_eq!(problem(entra), "AADSTS7000215: Invalid client secret.");
        assert_eq!(problem(r#"{"error":{"code":"x","message":"no such identity"}}"#), "no such identity");
        assert_eq!(problem(r#"{"error":"invalid_request"}"#), "invalid_request");
        assert_eq!(problem("ERROR: eyJhbGciOi.x.y is stale\n"), "ERROR: *** is stale");
        assert_eq!(problem(&"canary7".repeat(20)), "***");
        assert_eq!(problem("what is h-4321?"), "what is ***?");
        assert_eq!(problem(r#"{"error":{"message":"what is h-4321?"}}"#), "what is ***?");
        assert_eq!(problem(r#"{"error":"h-4321"}"#), "***");
    }
}
