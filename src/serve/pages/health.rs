//! `/health`: what came in since the server started, what became of it, and what the store holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use maud::{Markup, html};
use serde::Serialize;

use super::{Nav, PageContext, PageError, PageResult};
use crate::report::format::count;
use crate::serve::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/health", get(show))
}

/// The document of `/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Health {
    /// Where the server listens.
    listening: Listening,
    /// What came in since it started.
    traffic: Counts,
    /// What the store holds.
    store: Stored,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Listening {
    ui: Option<String>,
    otlp_http: Option<String>,
    otlp_grpc: Option<String>,
}

/// Counts since the server started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Counts {
    spans: u64,
    logs: u64,
    scores: u64,
    metric_points: u64,
    dropped_metric_points: u64,
    duplicates: u64,
    rejected: u64,
    refused_requests: u64,
    overloads: u64,
    queued_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Stored {
    path: String,
    bytes: u64,
    runs: u64,
}

fn counts(app: &App) -> Counts {
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let traffic = &app.traffic;
    Counts {
        spans: of(&traffic.spans),
        logs: of(&traffic.logs),
        scores: of(&traffic.scores),
        metric_points: of(&traffic.metric_points),
        dropped_metric_points: of(&traffic.dropped_metric_points),
        duplicates: of(&traffic.duplicates),
        rejected: of(&traffic.rejected),
        refused_requests: of(&traffic.refused_requests),
        overloads: of(&traffic.overloads),
        queued_bytes: of(&traffic.queued_bytes),
    }
}

/// Ingest in one line.
pub(super) fn line(app: &App) -> Markup {
    let counts = counts(app);
    let addresses = app.addresses;
    html! {
        p {
            @match (addresses.otlp_http, addresses.otlp_grpc) {
                (None, None) => { span.badge.skipped { "not receiving" } " This server takes no telemetry in (" code { "--no-otlp" } ")." },
                (http, grpc) => {
                    @let trouble = counts.rejected + counts.refused_requests + counts.overloads > 0;
                    @if trouble { span.badge.low { "receiving, with trouble" } } @else { span.badge.ok { "receiving" } }
                    @if let Some(http) = http { " OTLP/HTTP " span.mono { (http) } }
                    @if let Some(grpc) = grpc { " · OTLP/gRPC " span.mono { (grpc) } }
                    " · since the start " (count(counts.spans)) " spans, " (count(counts.duplicates)) " duplicates, "
                    (count(counts.rejected)) " rejected, " (count(counts.refused_requests)) " requests refused, "
                    (count(counts.overloads)) " told to come back later"
                },
            }
        }
    }
}

async fn show(State(app): State<Arc<App>>, mut context: PageContext) -> PageResult {
    "runs traces".clone_into(&mut context.live);
    let path = app.store.path().to_owned();
    let store = app
        .read(move |reader| {
            let bytes = std::fs::metadata(&path).map(|meta| meta.len()).unwrap_or(0);
            let runs = reader.runs()?.len() as u64;
            Ok::<_, PageError>(Stored { path: path.display().to_string(), bytes, runs })
        })
        .await?;
    let address = |address: Option<std::net::SocketAddr>| address.map(|address| address.to_string());
    let health = Health {
        listening: Listening {
            ui: address(app.addresses.ui),
            otlp_http: address(app.addresses.otlp_http),
            otlp_grpc: address(app.addresses.otlp_grpc),
        },
        traffic: counts(&app),
        store,
    };
    Ok(context.answer(&health, "Health", Nav::Health, || body(&app, &health)))
}

fn body(app: &App, health: &Health) -> Markup {
    html! {
        div.head { div { h1 { "Health" } (line(app)) } }
        p { (count(health.store.runs)) " runs" }
    }
}
