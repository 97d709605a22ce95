//! `spanscore serve`: the local OTLP collector and the web pages, over the store.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use serde_json::json;

use super::context::note;
use super::{Context, Exit, Format};
use crate::serve::collector::CollectorOptions;
use crate::serve::security::Token;
use crate::serve::{Service, ServiceOptions};
use crate::store::{Retention, Store, Writer};
use crate::trace::provider::Ambient;

/// How often old traces are looked for.
const PRUNE_EVERY: Duration = Duration::from_mins(1);

/// Flags of `serve`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// Address of the web pages; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:4319", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Address for OTLP over HTTP
    #[arg(long, default_value = "127.0.0.1:4318", value_name = "ADDRESS")]
    otlp_http: SocketAddr,
    /// Address for OTLP over gRPC
    #[arg(long, default_value = "127.0.0.1:4317", value_name = "ADDRESS")]
    otlp_grpc: SocketAddr,
    /// Serve the pages only
    #[arg(long, conflicts_with = "no_ui")]
    no_otlp: bool,
    /// Collect only
    #[arg(long)]
    no_ui: bool,
    /// A file with a token that every client has to show; needed to listen for other machines
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// Another name under which clients reach these ports, such as host.docker.internal; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Keep the store below this size, such as 2GB: the oldest traces go first
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Keep traces no longer than this, such as 30d
    #[arg(long, value_name = "AGE", value_parser = age)]
    max_age: Option<Duration>,
}

pub(super) fn exec(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let token = args.token.as_deref().map(Token::read).transpose()?;
    let options = ServiceOptions {
        ui: (!args.no_ui).then_some(args.listen),
        collector: CollectorOptions {
            http: (!args.no_otlp).then_some(args.otlp_http),
            grpc: (!args.no_otlp).then_some(args.otlp_grpc),
            token,
            allowed_hosts: args.allow_host.clone(),
            ..CollectorOptions::default()
        },
    };
    // Threads that block keep memory while they wait for more work, so there are few and they do not wait long.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(16)
        .thread_keep_alive(Duration::from_secs(1))
        .build()?;
    runtime.block_on(async {
        let mut signals = super::session::signal()?;
        let store = Store::open(&context.store_dir)?;
        let writer = store.writer()?;
        let service = Service::start(store.clone(), writer.clone(), options).await?;
        announce(&service, context)?;
        context.hint(&format!("over the store in `{}`; stop with Ctrl-C", store.dir().display()));
        let retention = tokio::spawn(retain(writer.clone(), args.max_size, args.max_age));
        let signal = signals.wait().await;
        service.stop().await;
        retention.abort();
        let _ = retention.await;
        writer.close().await?;
        Ok(Exit::Signal(signal))
    })
}

/// Says where the ports are, now that they listen.
fn announce(service: &Service, context: &Context) -> anyhow::Result<()> {
    let addresses = service.addresses();
    let named = [("ui", addresses.ui), ("otlp/http", addresses.otlp_http), ("otlp/grpc", addresses.otlp_grpc)];
    match context.format {
        Format::Json => {
            let url = |address: Option<SocketAddr>| address.map(|address| format!("http://{address}"));
            context.print_json(&json!({
                "ui": url(addresses.ui),
                "otlp_http": url(addresses.otlp_http),
                "otlp_grpc": url(addresses.otlp_grpc),
            }))
        }
        Format::Text => {
            for (name, address) in named {
                if let Some(address) = address {
                    context.print(&format!("{name} http://{address}"))?;
                }
            }
            Ok(())
        }
    }
}

/// Removes what is too old or too much, now and every minute.
async fn retain(writer: Writer, max_bytes: Option<u64>, max_age: Option<Duration>) {
    if max_bytes.is_none() && max_age.is_none() {
        return;
    }
    let limits = Retention { max_bytes, max_age, ..Retention::default() };
    let clock = Ambient::default();
    let mut every = tokio::time::interval(PRUNE_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        match writer.prune(&limits, clock.now()).await {
            Ok(pruned) if pruned.traces > 0 => {
                tracing::info!("removed {} old traces with {} spans", pruned.traces, pruned.spans);
            }
            Ok(_) => {}
            Err(error) => note(&format!("removing old traces: {error}")),
        }
    }
}

/// A size in bytes: `500MB`, `2GB`, `1.5GiB`.
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32, u32); 8] = [
        ("KIB", 2, 10),
        ("MIB", 2, 20),
        ("GIB", 2, 30),
        ("TIB", 2, 40),
        ("KB", 10, 3),
        ("MB", 10, 6),
        ("GB", 10, 9),
        ("TB", 10, 12),
    ];
    let expected = || format!("found `{text}`, expected a size such as 500MB, 2GB or 1.5GiB");
    let upper = text.trim().to_ascii_uppercase();
    let (digits, factor) = UNITS
        .iter()
        .find_map(|(unit, base, power)| Some((upper.strip_suffix(unit)?, u64::from(*base).pow(*power))))
        .or_else(|| Some((upper.strip_suffix('B')?, 1)))
        .unwrap_or((&upper, 1));
    let number: f64 = digits.trim().parse().map_err(|_| expected())?;
    let bytes = number * factor as f64;
    if (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(expected()) }
}

/// An age: `30d`, `12h`.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|age| !age.is_zero())
        .ok_or_else(|| format!("found `{text}`, expected an age such as 30d, 12h or 90m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in
            [("2GB", 2_000_000_000), ("500 mb", 500_000_000), ("1.5GiB", 1_610_612_736), ("4096", 4096), ("10b", 10)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1GB", "0", "nan", "inf", "2 apples", "1e99GB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages_are_read_with_their_units() {
        assert_eq!(age("30d"), Ok(Duration::from_hours(30 * 24)));
        for text in ["", "0s", "30", "-1d"] {
            assert!(age(text).is_err(), "{text}");
        }
    }
}
