//! What all pages share: the frame with its navigation, and what a page knows of its request.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use serde::Serialize;

use super::link;
pub use crate::report::html::{block, text};
use crate::serve::assets;

/// Where a page belongs in the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nav {
    /// Nowhere: errors.
    None,
    /// The front page.
    Front,
    /// Runs and cases.
    Runs,
    /// Two runs side by side.
    Compare,
    /// A score over many runs.
    Trends,
    /// Traces.
    Traces,
    /// How to send traces here.
    Setup,
    /// What came in and what is stored.
    Health,
}

const ENTRIES: [(Nav, &str, &str); 7] = [
    (Nav::Front, "/", "Latest"),
    (Nav::Runs, "/runs", "Runs"),
    (Nav::Compare, "/compare", "Compare"),
    (Nav::Trends, "/trends", "Trends"),
    (Nav::Traces, "/traces", "Traces"),
    (Nav::Setup, "/setup", "Setup"),
    (Nav::Health, "/health", "Health"),
];

/// What a page knows of its request: the address, which is the whole state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageContext {
    path: String,
    parameters: Vec<(String, String)>,
    /// What the page shows, in the names that `/live` sends, apart by blanks: `runs`, `traces`, `run:ID`. Empty where the
    /// page need not be refreshed.
    pub live: String,
}

impl PageContext {
    /// Of an address.
    pub fn of(uri: &Uri) -> Self {
        let parameters = Query::<Vec<(String, String)>>::try_from_uri(uri).map(|query| query.0).unwrap_or_default();
        Self { path: uri.path().to_owned(), parameters, live: String::new() }
    }

    /// The path, as it stands in the address.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A parameter of the address; an empty one counts as absent.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(key, _)| key == name)?;
        Some(found.1.as_str()).filter(|value| !value.trim().is_empty())
    }

    /// Whether the JSON document is asked for.
    pub fn wants_json(&self) -> bool {
        self.parameter("format") == Some("json")
    }

    /// This address with these parameters set or, without a value, taken out; the others stay as they are.
    pub fn with(&self, changes: &[(&str, Option<&str>)]) -> String {
        let kept = self.parameters.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        let kept = kept.map(|(name, value)| (name.as_str(), Some(value.as_str())));
        link::with_query(&self.path, kept.chain(changes.iter().copied()))
    }

    /// Another path with all the parameters of this address.
    pub fn moved(&self, path: &str) -> String {
        link::with_query(path, self.parameters.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))))
    }

    /// The page in HTML, or its document where JSON is asked for.
    pub fn answer(
        &self,
        document: &impl Serialize,
        title: &str,
        active: Nav,
        body: impl FnOnce() -> Markup,
    ) -> Response {
        if self.wants_json() { json(StatusCode::OK, document) } else { page(self, title, active, body()) }
    }
}

impl<S: Sync> FromRequestParts<S> for PageContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.uri))
    }
}

/// A JSON document, readable by people.
pub fn json(status: StatusCode, document: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(document) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("writing the JSON document: {e}; this is a bug"))
            .into_response(),
    }
}

/// A page in its frame.
pub fn page(context: &PageContext, title: &str, active: Nav, body: Markup) -> Response {
    (StatusCode::OK, [(header::CACHE_CONTROL, "no-cache")], framed(context, title, active, &body)).into_response()
}

/// A page cut at the end of its body, so that more of the body can follow.
pub fn pieces(context: &PageContext, title: &str, active: Nav, body: &Markup) -> (String, String) {
    let mut first = framed(context, title, active, body).into_string();
    // Values are escaped: no other place can hold this tag.
    let end = first.rfind("</main>").unwrap_or(first.len());
    let last = first.split_off(end);
    (first, last)
}

fn framed(context: &PageContext, title: &str, active: Nav, body: &Markup) -> Markup {
    let json = context.with(&[("format", Some("json"))]);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (text(title)) " · spanscore" }
                link rel="icon" href=(assets::url("icon.svg")) type="image/svg+xml";
                link rel="stylesheet" href=(assets::url("app.css"));
                @for script in assets::SCRIPTS {
                    script type="module" src=(assets::url(script)) {}
                }
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header.top {
                    a.brand href="/" { span.mark aria-hidden="true" {} "spanscore" }
                    nav aria-label="Main" {
                        ul {
                            @for (nav, href, name) in ENTRIES {
                                li { a href=(href) aria-current=[(nav == active).then_some("page")] { (name) } }
                            }
                        }
                    }
                    div.tools {
                        span #live role="status" {}
                        button #keys.small type="button" hidden aria-label="Keyboard shortcuts" title="Keyboard shortcuts" { "?" }
                        @if active != Nav::None { a.quiet href=(json) title="This page as a JSON document" { "JSON" } }
                    }
                }
                main #main tabindex="-1" data-live=[Some(&context.live).filter(|live| !live.is_empty())] { (body) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(address: &str) -> PageContext {
        PageContext::of(&address.parse().expect("an address"))
    }

    #[test]
    fn the_address_is_the_state() {
        let context = context("/runs/a%20b/cases?q=expected+%3D+NEE&sort=&after=x");
        assert_eq!(context.parameter("q"), Some("expected = NEE"));
        assert_eq!((context.parameter("sort"), context.parameter("none")), (None, None));
        assert_eq!(
            context.with(&[("after", None), ("sort", Some("-duration"))]),
            "/runs/a%20b/cases?q=expected%20%3D%20NEE&sort=-duration"
        );
        assert!(!context.wants_json());
        assert!(self::context("/runs?format=json").wants_json());
    }

    #[test]
    fn blocks_keep_their_lines_and_nothing_else() {
        assert_eq!(block("a\r\nb\tc\u{1b}[31m\u{202e}"), "a\nb\tc␛[31m\u{fffd}");
    }
}
