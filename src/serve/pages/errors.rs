//! Errors are pages too: what was looked for, what there is, what to do; or the same as a JSON document.

use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maud::html;
use serde::Serialize;

use super::layout::{self, Nav, PageContext};
use crate::model::IdError;
use crate::query::QueryError;
use crate::report::text::clean;
use crate::store::StoreError;

/// Why there is no page.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct PageError {
    /// The status of the answer.
    pub status: StatusCode,
    /// The error in one sentence.
    pub message: String,
    /// The query with a caret under the place where it goes wrong, on two lines.
    pub excerpt: Option<String>,
    /// Where to go instead: a name and an address.
    pub instead: Option<(String, String)>,
}

impl PageError {
    /// What was asked for does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// The address makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Another error.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), excerpt: None, instead: None }
    }

    /// The same, saying where to go instead.
    #[must_use]
    pub fn instead(mut self, name: impl Into<String>, address: impl Into<String>) -> Self {
        self.instead = Some((name.into(), address.into()));
        self
    }
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        let (status, instead) = match &error {
            StoreError::UnknownRun { .. } => (StatusCode::NOT_FOUND, Some(("All runs", "/runs"))),
            StoreError::UnknownTrace { .. } | StoreError::UnknownSpan { .. } => {
                (StatusCode::NOT_FOUND, Some(("All traces", "/traces")))
            }
            StoreError::AmbiguousRun { .. } => (StatusCode::BAD_REQUEST, Some(("All runs", "/runs"))),
            StoreError::AmbiguousTrace { .. } | StoreError::BadCursor { .. } => {
                (StatusCode::BAD_REQUEST, Some(("All traces", "/traces")))
            }
            StoreError::PrunedTrace { .. } => (StatusCode::GONE, Some(("All traces", "/traces"))),
            StoreError::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, None),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        let instead = instead.map(|(name, address)| (name.to_owned(), address.to_owned()));
        Self { instead, ..Self::new(status, error.to_string()) }
    }
}

impl From<QueryError> for PageError {
    fn from(error: QueryError) -> Self {
        let message = format!("The query cannot be read at column {}: {}", error.column, error.problem);
        Self { excerpt: Some(error.excerpt()), ..Self::bad_request(message) }
    }
}

impl From<IdError> for PageError {
    fn from(error: IdError) -> Self {
        Self::bad_request(error.to_string())
    }
}

/// The answer carries the error itself; `show` makes a page of it, because only it knows the request.
impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The document of an error.
#[derive(Serialize)]
struct Document<'e> {
    error: &'e str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    excerpt: Option<&'e str>,
}

/// No page has this address.
pub(super) async fn nothing_here(context: PageContext) -> PageError {
    PageError::not_found(format!(
        "There is no page `{}` here. The pages are / (latest run), /runs, /traces, /setup and /health.",
        context.path()
    ))
}

/// Makes pages of errors.
pub(super) async fn show(request: Request, next: Next) -> Response {
    let context = PageContext::of(request.uri());
    let method = request.method().clone();
    let response = next.run(request).await;
    let error = match response.extensions().get::<PageError>() {
        Some(error) => error.clone(),
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => wrong_method(&method, &context),
        None => return response,
    };
    let mut shown = render(&context, &error);
    *shown.status_mut() = error.status;
    if let Some(allow) = response.headers().get(header::ALLOW) {
        shown.headers_mut().insert(header::ALLOW, allow.clone());
    }
    shown
}

fn wrong_method(method: &Method, context: &PageContext) -> PageError {
    PageError::new(StatusCode::METHOD_NOT_ALLOWED, format!("`{}` does not take {method}.", context.path()))
}

fn render(context: &PageContext, error: &PageError) -> Response {
    if context.wants_json() {
        let document =
            Document { error: &error.message, status: error.status.as_u16(), excerpt: error.excerpt.as_deref() };
        return layout::json(error.status, &document);
    }
    let title = match error.status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::GONE => "No longer kept",
        StatusCode::BAD_REQUEST => "Cannot be read",
        StatusCode::METHOD_NOT_ALLOWED => "Not possible here",
        StatusCode::SERVICE_UNAVAILABLE => "Busy",
        _ => "Something went wrong",
    };
    let body = html! {
        div.center {
            p.eyebrow { (error.status.as_u16()) }
            h1 { (title) }
            p.lead { (clean(&error.message)) }
            @if let Some(excerpt) = &error.excerpt { pre.query { (layout::block(excerpt)) } }
            p.actions {
                @if let Some((name, address)) = &error.instead { a.button href=(address) { (clean(name)) } }
                a.button href="/" { "Latest run" }
            }
        }
    };
    layout::page(context, title, Nav::None, body)
}
