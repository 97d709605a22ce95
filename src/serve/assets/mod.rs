//! The files that pages load: style sheet, scripts, icon. They are part of the program and are cached for good under an
//! address that carries the digest of their content.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use super::App;

struct Asset {
    name: &'static str,
    media_type: &'static str,
    content: &'static str,
}

/// The modules that every page loads.
pub const SCRIPTS: [&str; 2] = ["app.js", "trace.js"];

const ASSETS: [Asset; 4] = [
    // One sheet: the base first, what only traces need behind it.
    Asset {
        name: "app.css",
        media_type: "text/css; charset=utf-8",
        content: concat!(include_str!("../../report/html/base.css"), "\n", include_str!("trace.css")),
    },
    Asset { name: "app.js", media_type: "text/javascript; charset=utf-8", content: include_str!("app.js") },
    Asset { name: "trace.js", media_type: "text/javascript; charset=utf-8", content: include_str!("trace.js") },
    Asset { name: "icon.svg", media_type: "image/svg+xml", content: include_str!("icon.svg") },
];

/// The beginning of each asset's SHA-256.
static VERSIONS: LazyLock<[String; ASSETS.len()]> = LazyLock::new(|| {
    ASSETS.each_ref().map(|asset| {
        let digest = Sha256::digest(asset.content);
        digest.iter().take(8).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    })
});

/// The address of an asset, with the digest of its content.
pub fn url(name: &str) -> String {
    match ASSETS.iter().position(|asset| asset.name == name) {
        Some(at) => format!("/assets/{name}?v={}", VERSIONS[at]),
        None => format!("/assets/{name}"),
    }
}

/// Serves the assets.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/assets/{name}", get(serve))
}

async fn serve(Path(name): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(at) = ASSETS.iter().position(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let (asset, version) = (&ASSETS[at], &VERSIONS[at]);
    // Only the right digest is for good: an old page must not pin a new file under an old name.
    let pinned = uri.query().and_then(|query| query.strip_prefix("v=")) == Some(version);
    let keep = if pinned { "public, max-age=31536000, immutable" } else { "no-cache" };
    let tag = format!("\"{version}\"");
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, keep)])
            .into_response();
    }
    let head = [
        (header::CONTENT_TYPE, asset.media_type),
        (header::CACHE_CONTROL, keep),
        (header::ETAG, tag.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (head, asset.content).into_response()
}
