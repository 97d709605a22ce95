//! Who may talk to the ports: Host and Origin checks, the token, and the headers that every answer carries.
//!
//! A page of any site can make the browser talk to ports of this machine. What tells its requests from the user's own is
//! the Host that it named (DNS rebinding), the Origin that the browser adds, and `Sec-Fetch-Site`. None of them is
//! there to keep out programs of this machine: those run as the user anyway. Other machines need the token.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, StatusCode};
use sha2::{Digest as _, Sha256};

use super::app::Traffic;

/// The header that state changes of the pages need: a form of another site cannot send it.
pub const OUR_HEADER: &str = "x-spanscore";

/// What pages may load, from where, and who may frame them.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const COOKIE: &str = "spanscore_token";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a token file cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("reading the token from `{}` (--token): {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// It holds no usable token.
    #[error(
        "reading the token from `{}` (--token): found {found}, expected one line of at least 16 visible ASCII \
         characters; `openssl rand -hex 32` makes one",
        path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What it holds instead.
        found: &'static str,
    },
}

/// A shared secret. Only digests of it are kept, and those are compared, so that the time it takes says nothing.
#[derive(Clone)]
pub struct Token {
    digest: [u8; 32],
    cookie: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// The token in a file; white space around it does not count.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| TokenError::Unreadable { path: path.to_owned(), reason: e.to_string() })?;
        let unusable = |found| TokenError::Unusable { path: path.to_owned(), found };
        match text.trim() {
            "" => Err(unusable("nothing")),
            text if !text.bytes().all(|b| b.is_ascii_graphic()) => Err(unusable("other characters or several lines")),
            text if text.len() < 16 => Err(unusable("fewer characters")),
            text => Ok(Self::new(text)),
        }
    }

    /// This token.
    pub fn new(text: &str) -> Self {
        // What the browser keeps opens this server and gives the token itself away to nobody.
        let cookie = hex::encode(Sha256::new().chain_update(b"spanscore cookie\n").chain_update(text).finalize());
        Self { digest: Sha256::digest(text).into(), cookie }
    }

    fn is(&self, given: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        given == self.digest
    }

    fn is_in(&self, headers: &HeaderMap, with_cookie: bool) -> bool {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let in_cookie = || {
            let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
            cookies
                .flat_map(|line| line.split(';'))
                .filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
                .any(|given| Sha256::digest(given) == Sha256::digest(&self.cookie))
        };
        bearer.is_some_and(|given| self.is(given)) || (with_cookie && in_cookie())
    }
}

/// Under which names a port is known.
#[derive(Debug, Clone)]
pub struct HostPolicy {
    listen: SocketAddr,
    others: Arc<[String]>,
}

impl HostPolicy {
    /// Loopback names and addresses with the port of `listen`, that address itself, and `others`: names or addresses, with
    /// a port or without.
    pub fn new(listen: SocketAddr, others: &[String]) -> Self {
        Self { listen, others: others.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Whether a Host header, `:authority` or the rest of an Origin names this port.
    pub fn allows(&self, given: &str) -> bool {
        let given = given.to_ascii_lowercase();
        let Ok(authority) = given.parse::<Authority>() else { return false };
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host();
        if self.others.iter().any(|other| *other == given || other == host) {
            return true;
        }
        // Without a port it is that of the scheme.
        let port = match (authority.port(), authority.as_str().ends_with(':')) {
            (Some(port), _) => port.as_u16(),
            (None, false) => 80,
            (None, true) => return false,
        };
        if port != self.listen.port() {
            return false;
        }
        if host == "localhost" {
            return true;
        }
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        // An address, unlike a name, cannot be made to point elsewhere.
        address.is_ok_and(|ip| ip.is_loopback() || ip == self.listen.ip() || self.listen.ip().is_unspecified())
    }
}

/// What a port is for; it decides which requests are foreign and how they are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Pages, for the user's browser.
    Pages,
    /// OTLP over HTTP, for programs.
    OtlpHttp,
    /// OTLP over gRPC, for programs.
    OtlpGrpc,
}

/// Refuses foreign requests at a port.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Which port.
    pub door: Door,
    /// Under which names it is known.
    pub hosts: HostPolicy,
    /// What everyone has to show, if anything.
    pub token: Option<Token>,
    /// Where refusals are counted, on the collector's ports.
    pub traffic: Option<Arc<Traffic>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Refused {
    Host(String),
    Origin,
    CrossSite,
    Unmarked,
    Token,
}

impl Guard {
    /// Puts the guard before all routes of a router, its fallback too, and our headers on all answers.
    pub fn over(self, router: axum::Router) -> axum::Router {
        router.layer(axum::middleware::from_fn_with_state(Arc::new(self), check))
    }

    fn judge(&self, request: &Request) -> Result<(), Refused> {
        let headers = request.headers();
        self.check_host(request)?;
        for origin in headers.get_all(header::ORIGIN) {
            let own = origin
                .to_str()
                .ok()
                .and_then(|text| text.split_once("://"))
                .is_some_and(|(scheme, host)| matches!(scheme, "http" | "https") && self.hosts.allows(host));
            if !own {
                return Err(Refused::Origin);
            }
        }
        // Absent outside browsers; `none` where the user typed the address or took a bookmark.
        let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
        if !sites.all(|site| site == "same-origin" || site == "none") {
            return Err(Refused::CrossSite);
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if self.door == Door::Pages && !reads && headers.get(OUR_HEADER).is_none_or(|value| value != "1") {
            return Err(Refused::Unmarked);
        }
        match &self.token {
            Some(token) if !token.is_in(headers, self.door == Door::Pages) => Err(Refused::Token),
            _ => Ok(()),
        }
    }

    fn check_host(&self, request: &Request) -> Result<(), Refused> {
        let mut given: Vec<&str> = Vec::with_capacity(2);
        for host in request.headers().get_all(header::HOST) {
            given.push(host.to_str().map_err(|_| Refused::Host("what is no text".to_owned()))?);
        }
        let in_header = given.len();
        // HTTP/2 has the name here, and so has a request for a proxy.
        given.extend(request.uri().authority().map(Authority::as_str));
        if in_header > 1 || given.is_empty() {
            return Err(Refused::Host(if given.is_empty() { "none".to_owned() } else { "several".to_owned() }));
        }
        match given.iter().find(|host| !self.hosts.allows(host)) {
            Some(host) => Err(Refused::Host(format!("`{}`", host.escape_default()))),
            None => Ok(()),
        }
    }

    fn refuse(&self, refused: &Refused, request: &Request) -> Response {
        if let Some(traffic) = &self.traffic {
            Traffic::add(&traffic.refused_requests, 1);
        }
        let port = self.hosts.listen.port();
        let (status, code, text) = match refused {
            Refused::Host(found) => (
                StatusCode::FORBIDDEN,
                tonic::Code::PermissionDenied,
                format!(
                    "refused: the Host of the request is {found}, expected 127.0.0.1:{port}, localhost:{port} or another \
                     name of this port; --allow-host NAME adds a name"
                ),
            ),
            Refused::Origin => (
                StatusCode::FORBIDDEN,
                tonic::Code::PermissionDenied,
                "refused: a page of another origin may not talk to this port".to_owned(),
            ),
            Refused::CrossSite => (
                StatusCode::FORBIDDEN,
                tonic::Code::PermissionDenied,
                "refused: the request comes from a page of another site".to_owned(),
            ),
            Refused::Unmarked => (
                StatusCode::FORBIDDEN,
                tonic::Code::PermissionDenied,
                format!("refused: what changes something needs the header `{OUR_HEADER}: 1`"),
            ),
            Refused::Token => (
                StatusCode::UNAUTHORIZED,
                tonic::Code::Unauthenticated,
                match self.door {
                    Door::Pages => {
                        "refused: this server wants its token; open the page once with ?token=TOKEN, or send it as \
                         `Authorization: Bearer TOKEN`"
                    }
                    _ => "refused: this server wants its token as `Authorization: Bearer TOKEN`",
                }
                .to_owned(),
            ),
        };
        if self.door == Door::OtlpGrpc {
            return tonic::Status::new(code, text).into_http::<Body>();
        }
        let mut response = match (refused, self.door) {
            (Refused::CrossSite, Door::Pages) if is_navigation(request) => {
                (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], doorstep(request).into_string())
                    .into_response()
            }
            _ => (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text + "\n").into_response(),
        };
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"spanscore\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// The answer to `?token=…`: a cookie, and the way to the same page without the token in its address.
    fn log_in(&self, request: &Request) -> Option<Response> {
        let token = self.token.as_ref().filter(|_| self.door == Door::Pages && request.method() == Method::GET)?;
        let mut given = None;
        let mut rest = Vec::new();
        for pair in request.uri().query()?.split('&') {
            match pair.strip_prefix("token=") {
                Some(value) => given = Some(value),
                None => rest.push(pair),
            }
        }
        let given = percent_encoding::percent_decode_str(given?).decode_utf8().ok()?;
        if !token.is(&given) {
            return None;
        }
        // One slash only: `//host` would lead to another host.
        let path = request.uri().path().trim_start_matches('/');
        let mark = if rest.is_empty() { "" } else { "?" };
        let location = HeaderValue::try_from(format!("/{path}{mark}{}", rest.join("&"))).ok()?;
        let cookie = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Strict", token.cookie);
        let mut response = StatusCode::SEE_OTHER.into_response();
        response.headers_mut().insert(header::LOCATION, location);
        response.headers_mut().insert(header::SET_COOKIE, HeaderValue::try_from(cookie).ok()?);
        Some(response)
    }
}

async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.judge(&request) {
        Ok(()) => match guard.log_in(&request) {
            Some(response) => response,
            None => next.run(request).await,
        },
        Err(Refused::Token) => guard.log_in(&request).unwrap_or_else(|| guard.refuse(&Refused::Token, &request)),
        Err(refused) => guard.refuse(&refused, &request),
    };
    if guard.door != Door::OtlpGrpc {
        harden(response.headers_mut(), guard.door);
    }
    response
}

fn harden(headers: &mut HeaderMap, door: Door) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    if door == Door::Pages {
        set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
        set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
        // Scripts and styles name a time of their own.
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
}

fn is_navigation(request: &Request) -> bool {
    let is = |name: &'static str, expected: &str| request.headers().get(name).is_some_and(|value| value == expected);
    request.method() == Method::GET && is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document")
}

/// What someone sees who follows a link from another site: the same address, to be opened from here.
fn doorstep(request: &Request) -> maud::Markup {
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let path = format!("/{}", path.trim_start_matches('/'));
    maud::html! {
        (maud::DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "spanscore" } link rel="stylesheet" href="/assets/app.css"; }
            body {
                main id="main" {
                    h1 { "A page of another site led here" }
                    p { "Pages of this server open from this server, from a bookmark, or by typing their address." }
                    p { a href=(path) { "Open " code { (path) } } }
                }
            }
        }
    }
}
