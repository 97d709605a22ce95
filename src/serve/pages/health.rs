//! `/health`: what came in since the server started, what became of it, and what the store holds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use maud::{Markup, html};
use serde::Serialize;

use super::layout::text;
use super::{Nav, PageContext, PageError, PageResult, parts};
use crate::report::format::{count, rfc3339};
use crate::serve::App;
use crate::store::rows::StoreHealth;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/health", get(show))
}

/// The document of `/health`.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Counts {
    /// Spans that are on disk.
    spans: u64,
    /// Log records that are on disk.
    logs: u64,
    /// Evaluation results that became scores.
    scores: u64,
    /// Metric points that are kept while the server runs.
    metric_points: u64,
    /// Metric points that were counted and dropped.
    dropped_metric_points: u64,
    /// Spans that were there already.
    duplicates: u64,
    /// Items that could not be taken.
    rejected: u64,
    /// Requests refused for their form, size or origin.
    refused_requests: u64,
    /// Requests told to come back later.
    overloads: u64,
    /// Bytes that wait for the store now.
    queued_bytes: u64,
    /// Why the store took nothing the last time.
    store_error: Option<String>,
}

impl Counts {
    fn of(app: &App) -> Self {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let traffic = &app.traffic;
        Self {
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
            store_error: traffic.store_error(),
        }
    }

    fn trouble(&self) -> bool {
        self.rejected + self.refused_requests + self.overloads > 0 || self.store_error.is_some()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Stored {
    /// The database file.
    path: String,
    /// Its size and that of the log beside it, in bytes.
    bytes: u64,
    /// Of these, free for new rows.
    free_bytes: u64,
    runs: u64,
    traces: u64,
    spans: u64,
    log_records: u64,
    external_scores: u64,
    oldest: Option<String>,
    newest: Option<String>,
    /// Traces whose spans were pruned and that are remembered.
    pruned_traces: u64,
    last_pruned: Option<String>,
}

impl Stored {
    fn of(path: String, health: &StoreHealth) -> Self {
        Self {
            path,
            bytes: health.file_bytes + health.log_bytes,
            free_bytes: health.free_bytes,
            runs: health.runs,
            traces: health.traces,
            spans: health.spans,
            log_records: health.log_records,
            external_scores: health.external_scores,
            oldest: health.oldest_unix_nano.map(rfc3339),
            newest: health.newest_unix_nano.map(rfc3339),
            pruned_traces: health.pruned_traces,
            last_pruned: health.pruned_unix_nano.map(rfc3339),
        }
    }
}

/// Ingest in one line.
pub(super) fn line(app: &App) -> Markup {
    let counts = Counts::of(app);
    let addresses = app.addresses;
    html! {
        p {
            @match (addresses.otlp_http, addresses.otlp_grpc) {
                (None, None) => {
                    span.badge.skipped { "not receiving" } " This server takes no telemetry in (" code { "--no-otlp" } ")."
                }
                (http, grpc) => {
                    @if counts.trouble() { span.badge.low { "receiving, with trouble" } } @else { span.badge.ok { "receiving" } }
                    @if let Some(http) = http { " OTLP/HTTP " span.mono { (http) } }
                    @if let Some(grpc) = grpc { " · OTLP/gRPC " span.mono { (grpc) } }
                    " · since the start " (count(counts.spans)) " spans, " (count(counts.duplicates)) " duplicates, "
                    (count(counts.rejected)) " rejected, " (count(counts.refused_requests)) " requests refused, "
                    (count(counts.overloads)) " told to come back later"
                }
            }
        }
        @if let Some(error) = &counts.store_error { p.problem { "The store took nothing the last time: " (text(error)) } }
    }
}

async fn show(State(app): State<Arc<App>>, mut context: PageContext) -> PageResult {
    "runs traces".clone_into(&mut context.live);
    let path = app.store.path().display().to_string();
    let store = app.read(move |reader| Ok::<_, PageError>(Stored::of(path, &reader.store_health()?))).await?;
    let address = |address: Option<SocketAddr>| address.map(|address| address.to_string());
    let health = Health {
        listening: Listening {
            ui: address(app.addresses.ui),
            otlp_http: address(app.addresses.otlp_http),
            otlp_grpc: address(app.addresses.otlp_grpc),
        },
        traffic: Counts::of(&app),
        store,
    };
    Ok(context.answer(&health, "Health", Nav::Health, || body(&app, &health)))
}

/// Bytes in the unit that suits them.
fn bytes(n: u64) -> String {
    let x = n as f64;
    match n {
        0..1_000 => format!("{n} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", x / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", x / 1e6),
        _ => format!("{:.2} GB", x / 1e9),
    }
}

fn body(app: &App, health: &Health) -> Markup {
    let (traffic, store) = (&health.traffic, &health.store);
    html! {
        div.head { div { h1 { "Health" } (line(app)) } }
        div.grid {
            section.card.span-6 aria-labelledby="traffic" {
                header { h2 #traffic { "Telemetry" } span.muted { "since the server started" } }
                table.plain.wide {
                    caption.visually-hidden { "What came in and what became of it" }
                    tbody {
                        (number("Spans stored", traffic.spans, "", false))
                        (number("Log records stored", traffic.logs, "", false))
                        (number("Evaluation results that became scores", traffic.scores, "", false))
                        (number("Duplicates", traffic.duplicates, "spans that were here already; not stored again", false))
                        (number("Rejected", traffic.rejected, "items that cannot be taken, such as spans without ids; the sender was told", true))
                        (number("Requests refused", traffic.refused_requests, "for their form, size or origin", true))
                        (number("Told to come back later", traffic.overloads, "more came in than the store could take; nothing of these was acknowledged", true))
                        (number("Metric points kept", traffic.metric_points, "while the server runs", false))
                        (number("Metric points dropped", traffic.dropped_metric_points, "metrics that these pages do not use", false))
                    }
                }
                p.muted.gap { "Waiting for the store now: " (bytes(traffic.queued_bytes)) "." }
            }
            section.card.span-6 aria-labelledby="store" {
                header { h2 #store { "Store" } }
                dl.facts {
                    dt { "File" } dd { span.mono { (text(&store.path)) } " " (parts::copy("the path", &store.path)) }
                    dt { "Size" } dd { (bytes(store.bytes)) @if store.free_bytes > 0 { ", of these " (bytes(store.free_bytes)) " free" } }
                    dt { "Runs" } dd { a href="/runs" { (count(store.runs)) } }
                    dt { "Traces" } dd { a href="/traces" { (count(store.traces)) } }
                    dt { "Spans" } dd { (count(store.spans)) }
                    dt { "Log records" } dd { (count(store.log_records)) }
                    dt { "External scores" } dd { (count(store.external_scores)) }
                    dt { "Oldest trace" } dd { @match &store.oldest { Some(at) => { (parts::time(at)) " UTC" }, None => (parts::absent()) } }
                    dt { "Newest trace" } dd { @match &store.newest { Some(at) => { (parts::time(at)) " UTC" }, None => (parts::absent()) } }
                    dt { "Pruned traces" }
                    dd { (count(store.pruned_traces)) @if let Some(at) = &store.last_pruned { ", the last at " (parts::time(at)) " UTC" } }
                }
            }
            section.card.span-6 aria-labelledby="ports" {
                header { h2 #ports { "Ports" } }
                dl.facts {
                    @for (name, address) in [
                        ("Pages", &health.listening.ui), ("OTLP over HTTP", &health.listening.otlp_http), ("OTLP over gRPC", &health.listening.otlp_grpc),
                    ] {
                        dt { (name) }
                        dd { @match address { Some(address) => span.mono { (address) }, None => span.muted { "off" } } }
                    }
                }
            }
            section.card.span-6 aria-labelledby="checks" {
                header { h2 #checks { "Everything else" } }
                p { "Suite, dataset, model endpoint, credentials and exporters are looked at in the terminal:" }
                (parts::snippet("spanscore doctor"))
            }
        }
    }
}

fn number(name: &str, n: u64, note: &str, trouble: bool) -> Markup {
    html! {
        tr {
            th scope="row" { (name) @if !note.is_empty() { div.muted { small { (note) } } } }
            td.number { @if trouble && n > 0 { strong.bad { (count(n)) } } @else { (count(n)) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_the_unit_that_suits_them() {
        let shown = [0, 999, 1_500, 2_500_000, 3_210_000_000].map(bytes);
        assert_eq!(shown, ["0 bytes", "999 bytes", "1.5 kB", "2.5 MB", "3.21 GB"]);
    }
}
