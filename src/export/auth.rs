//! Credentials that stand in the environment: which variables hold them is configuration and may be kept, what they hold
//! is not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::config::env::Environment;

/// The names of the variables with a credential.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthEnv {
    /// The variable with a token or key that is sent as `Authorization: Bearer …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer: Option<String>,
    /// The variables with user (or public key) and password (or secret key), sent as `Authorization: Basic …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<[String; 2]>,
}

/// What is wrong with a credential; it never repeats one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// A variable is not set.
    #[error("{0} is not set")]
    Unset(String),
    /// It is no name, and perhaps the key itself.
    #[error(
        "what stands for the name of a variable is none; expected letters, digits and `_`, such as MY_KEY (not the key itself)"
    )]
    NoName,
    /// Its value cannot be sent.
    #[error("{0} holds something that cannot stand in an HTTP header")]
    Unfit(String),
}

impl AuthEnv {
    /// Whether no variable is named.
    pub const fn is_empty(&self) -> bool {
        self.bearer.is_none() && self.basic.is_none()
    }

    /// The value of the `Authorization` header, marked sensitive; `None` where no variable is named. The bearer token comes
    /// first where both are named.
    pub fn header(&self, env: &Environment) -> Result<Option<HeaderValue>, AuthError> {
        let get = |name: &str| {
            let name = Some(name).filter(|name| is_name(name)).ok_or(AuthError::NoName)?;
            env.get(name).map(str::trim).ok_or_else(|| AuthError::Unset(name.to_owned()))
        };
        let (text, names) = match (&self.bearer, &self.basic) {
            (Some(bearer), _) => (format!("Bearer {}", get(bearer)?), bearer.clone()),
            (None, Some([user, password])) => {
                let pair = format!("{}:{}", get(user)?, get(password)?);
                (format!("Basic {}", STANDARD.encode(pair)), format!("{user}, {password}"))
            }
            (None, None) => return Ok(None),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| AuthError::Unfit(names))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The variables, for messages: `A and B`. What is no name is not repeated.
    pub fn names(&self) -> String {
        let shown = |name: &str| if is_name(name) { name.to_owned() } else { "a variable's name".to_owned() };
        match (&self.bearer, &self.basic) {
            (Some(bearer), _) => shown(bearer),
            (None, Some([user, password])) => format!("{} and {}", shown(user), shown(password)),
            (None, None) => String::new(),
        }
    }
}

/// Whether shells take it for the name of a variable.
fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_the_place_of_a_name_is_not_repeated() {
        for auth in [
            AuthEnv { bearer: Some("sk-canary".into()), basic: None },
            AuthEnv { bearer: None, basic: Some(["USER".into(), "sk-lf-canary".into()]) },
        ] {
            let env = [("USER".to_owned(), "u".to_owned())].into_iter().collect();
            let error = auth.header(&env).unwrap_err();
            assert_eq!(error, AuthError::NoName);
            assert!(!format!("{error} {}", auth.names()).contains("canary"));
        }
    }

    #[test]
    fn a_credential_comes_from_the_environment_and_is_never_shown() {
        let mut env = Environment::default();
        let basic = AuthEnv { basic: Some(["P".into(), "S".into()]), ..AuthEnv::default() };
        assert_eq!(basic.header(&env), Err(AuthError::Unset("P".into())));
        env.set("P", "pk-1");
        env.set("S", " sk-canary\n");
        let header = basic.header(&env).unwrap().unwrap();
        assert_eq!(header.to_str().unwrap(), format!("Basic {}", STANDARD.encode("pk-1:sk-canary")));
        assert!(!format!("{header:?}").contains("Basic"), "{header:?}");
        let bearer = AuthEnv { bearer: Some("S".into()), ..basic.clone() };
        assert_eq!(bearer.header(&env).unwrap().unwrap(), "Bearer sk-canary");
        assert_eq!(AuthEnv::default().header(&env), Ok(None));
        env.set("S", "can\u{1}ary");
        let error = bearer.header(&env).unwrap_err().to_string();
        assert!(error.starts_with("S holds") && !error.contains("ary"), "{error}");
        assert!(!serde_json::to_string(&bearer).unwrap().contains("canary"));
    }
}
