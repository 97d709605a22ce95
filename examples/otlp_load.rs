//! Loads an OTLP receiver over HTTP protobuf, checks afterwards that nothing acknowledged is missing, and writes the same
//! rows plainly for comparison. `tests/acceptance/ingest.py` drives it.
//!
//! ```text
//! otlp_load send --to 127.0.0.1:4318 --seconds 10 [--connections 4] [--batch 512] [--seed 1] [--acked FILE]
//! otlp_load verify --store DIR --acked FILE
//! otlp_load replay --store DIR --into FILE
//! ```
//!
//! Requests are encoded once; ids and times are written into the bytes. Traces have five spans, and go on in the next
//! request where one ends in the middle. A client is told to come later with 503 and does.
#![expect(clippy::print_stdout, reason = "a tool prints its figures")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use prost::Message as _;
use rusqlite::types::Value as Cell;
use spanscore::model::{Origin, Span, SpanId, SpanKind, Telemetry, TraceId};
use spanscore::store::Store;
use spanscore::trace::requests::traces_request;

const SPANS_PER_TRACE: u64 = 5;

#[derive(Parser)]
#[command(about = "Loads an OTLP receiver, verifies what it acknowledged, and writes the same rows plainly")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sends spans until the time is over or the receiver is gone
    Send(Send),
    /// Looks for every acknowledged span in a store
    Verify {
        /// Folder of the store
        #[arg(long)]
        store: PathBuf,
        /// What `send` wrote; may be repeated
        #[arg(long)]
        acked: Vec<PathBuf>,
    },
    /// Writes the rows of a store into a new database, as many spans per transaction as a request has
    Replay {
        /// Folder of the store
        #[arg(long)]
        store: PathBuf,
        /// The new database
        #[arg(long)]
        into: PathBuf,
        /// Spans per transaction
        #[arg(long, default_value_t = 512)]
        batch: u64,
    },
}

#[derive(clap::Args, Clone)]
struct Send {
    /// Address of the receiver
    #[arg(long)]
    to: String,
    /// How long
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// At most so many spans
    #[arg(long, default_value_t = u64::MAX)]
    spans: u64,
    /// How many clients
    #[arg(long, default_value_t = 4)]
    connections: u64,
    /// Spans per request
    #[arg(long, default_value_t = 512)]
    batch: u64,
    /// Makes the ids
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Bytes of text on every span beside its usual attributes
    #[arg(long, default_value_t = 0)]
    text: usize,
    /// Writes down what was acknowledged
    #[arg(long)]
    acked: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Send(args) => send(&args),
        Command::Verify { store, acked } => verify(&store, &acked),
        Command::Replay { store, into, batch } => replay(&store, &into, batch),
    }
}

/// What one client did.
#[derive(Default)]
struct Client {
    /// First span and number of spans of each acknowledged request.
    acknowledged: Vec<(u64, u64)>,
    latencies: Vec<Duration>,
    overloads: u64,
    errors: Vec<String>,
}

fn send(args: &Send) -> anyhow::Result<()> {
    let templates: Vec<Template> = (0..SPANS_PER_TRACE).map(|phase| Template::new(phase, args)).collect();
    let start = Instant::now();
    let clients: Vec<Client> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.connections)
            .map(|number| {
                let (templates, args) = (&templates, args.clone());
                scope.spawn(move || client(number, templates, &args, start))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    let spans: u64 = clients.iter().flat_map(|client| &client.acknowledged).map(|(_, count)| count).sum();
    let mut latencies: Vec<_> = clients.iter().flat_map(|client| client.latencies.iter().copied()).collect();
    latencies.sort();
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).map_or(0.0, Duration::as_secs_f64);
    if let Some(path) = &args.acked {
        let mut text = String::new();
        for (number, client) in clients.iter().enumerate() {
            for (first, count) in &client.acknowledged {
                writeln!(text, "{} {number} {first} {count}", args.seed)?;
            }
        }
        std::fs::write(path, text)?;
    }
    let errors: Vec<_> = clients.iter().flat_map(|client| &client.errors).collect();
    println!(
        "{}",
        serde_json::json!({
            "spans": spans, "seconds": seconds, "spans_per_second": spans as f64 / seconds,
            "overloads": clients.iter().map(|client| client.overloads).sum::<u64>(),
            "p50_ms": at(0.5) * 1e3, "p95_ms": at(0.95) * 1e3, "errors": errors,
            "request_bytes": templates[0].bytes.len(),
        })
    );
    Ok(())
}

fn client(number: u64, templates: &[Template], args: &Send, start: Instant) -> Client {
    let mut client = Client::default();
    let mut templates = templates.to_vec();
    let (mut first, mut connection) = (0, None);
    let share = args.spans / args.connections;
    while start.elapsed().as_secs_f64() < args.seconds && first < share {
        let template = &mut templates[(first % SPANS_PER_TRACE) as usize];
        template.fill(args.seed, number, first);
        let begun = Instant::now();
        match exchange(&mut connection, &args.to, &template.bytes) {
            Ok(Reply { status: 200, .. }) => {
                client.acknowledged.push((first, args.batch));
                client.latencies.push(begun.elapsed());
                first += args.batch;
            }
            Ok(Reply { status: 503, retry_after }) => {
                client.overloads += 1;
                std::thread::sleep(Duration::from_secs(retry_after.unwrap_or(1)));
            }
            Ok(Reply { status, .. }) => {
                client.errors.push(format!("answered with {status}"));
                break;
            }
            Err(error) => {
                client.errors.push(format!("{error:#}"));
                break;
            }
        }
    }
    client
}

struct Reply {
    status: u16,
    retry_after: Option<u64>,
}

/// One request on a connection that is kept.
fn exchange(connection: &mut Option<BufReader<TcpStream>>, to: &str, request: &[u8]) -> anyhow::Result<Reply> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(to).context("connecting")?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_mins(1)))?;
            connection.insert(BufReader::new(stream))
        }
    };
    stream.get_mut().write_all(request).context("sending")?;
    let mut line = String::new();
    stream.read_line(&mut line).context("reading the answer")?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status line")?;
    let (mut length, mut retry_after, mut keep) = (0, None, true);
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse()?,
            "retry-after" => retry_after = value.parse().ok(),
            "connection" => keep = value != "close",
            _ => {}
        }
    }
    std::io::copy(&mut stream.take(length), &mut std::io::sink())?;
    if !keep {
        *connection = None;
    }
    Ok(Reply { status, retry_after })
}

/// A request with its head, and where ids and times stand in it.
#[derive(Clone)]
struct Template {
    bytes: Vec<u8>,
    places: Vec<Places>,
}

/// Where a span's fields begin.
#[derive(Clone)]
struct Places {
    trace: usize,
    span: usize,
    parent: Option<usize>,
    start: usize,
    end: usize,
}

impl Template {
    /// A request whose first span is the `phase`th of its trace.
    fn new(phase: u64, args: &Send) -> Self {
        let mark = |n: u64| SpanId::from_bytes((0xF1F2_F3F4_0000_0000 | n).to_be_bytes());
        let spans = (0..args.batch).map(|n| {
            let step = (n + phase) % SPANS_PER_TRACE;
            let trace = TraceId::from_bytes((0xE1E2_E3E4_u128 << 96 | u128::from(n)).to_be_bytes());
            let parent = (step > 0).then(|| mark(n | 1 << 24));
            let mut span =
                work(Span::open(trace, mark(n), parent, NAMES[step as usize], 0xD1D2_D3D4_0000_0000 | n), step);
            span.end_unix_nano = 0xC1C2_C3C4_0000_0000 | n;
            if args.text > 0 {
                span.set("text", "lorem ipsum ".repeat(args.text.div_ceil(12)));
            }
            span
        });
        let origin = Origin {
            resource: vec![
                ("service.name".into(), "claims-app".into()),
                ("service.version".into(), "1.4.2".into()),
                ("deployment.environment.name".into(), "test".into()),
                ("telemetry.sdk.language".into(), "python".into()),
                ("telemetry.sdk.name".into(), "opentelemetry".into()),
                ("telemetry.sdk.version".into(), "1.45.0".into()),
            ],
            scope_name: "claims.pipeline".to_owned(),
            scope_version: "1.4.2".to_owned(),
            ..Origin::default()
        };
        let telemetry = Telemetry { origin: origin.into(), spans: spans.collect(), logs: Vec::new() };
        let body = traces_request(std::slice::from_ref(&telemetry)).encode_to_vec();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
            args.to,
            body.len()
        );
        let bytes = [head.as_bytes(), &body].concat();
        let mut at = head.len();
        let mut find = |pattern: &[u8]| {
            let found =
                bytes.get(at..).and_then(|rest| rest.windows(pattern.len()).position(|window| window == pattern));
            at += found.expect("every field stands behind the one before");
            at
        };
        let places = telemetry.spans.iter().map(|span| Places {
            trace: find(span.trace_id.as_bytes()),
            span: find(span.span_id.as_bytes()),
            parent: span.parent_span_id.map(|id| find(id.as_bytes())),
            start: find(&span.start_unix_nano.to_le_bytes()),
            end: find(&span.end_unix_nano.to_le_bytes()),
        });
        let places = places.collect();
        Self { bytes, places }
    }

    /// Makes it the request of the client's spans from `first` on.
    fn fill(&mut self, seed: u64, client: u64, first: u64) {
        let now = 1_800_000_000_000_000_000 + first * 50_000;
        let mut put = |at: usize, value: &[u8]| self.bytes[at..at + value.len()].copy_from_slice(value);
        for (n, places) in (first..).zip(&self.places) {
            put(places.trace, trace_id(seed, client, n).as_bytes());
            put(places.span, span_id(client, n).as_bytes());
            if let Some(at) = places.parent {
                let parent = if n % SPANS_PER_TRACE == 4 { n - 2 } else { n - n % SPANS_PER_TRACE };
                put(at, span_id(client, parent).as_bytes());
            }
            put(places.start, &(now + n % SPANS_PER_TRACE * 1000).to_le_bytes());
            put(places.end, &(now + 900_000 + n % 7 * 1000).to_le_bytes());
        }
    }
}

/// As random as ids of SDKs are, and yet to be found again.
fn trace_id(seed: u64, client: u64, span: u64) -> TraceId {
    let mut state = seed << 48 ^ client << 40 ^ (span / SPANS_PER_TRACE);
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    };
    TraceId::from_bytes((u128::from(next()) << 64 | u128::from(next())).to_be_bytes())
}

fn span_id(client: u64, span: u64) -> SpanId {
    SpanId::from_bytes(((client + 1) << 48 | (span + 1)).to_be_bytes())
}

const NAMES: [&str; 5] = ["assess_claims", "retrieve", "assess_claim", "parse", "chat gpt-4.1-mini"];

/// What such a step of an application says about itself.
fn work(mut span: Span, step: u64) -> Span {
    match step {
        0 => {
            span.set("operation.claims_count", 8_i64);
            span.set("http.route", "/assess");
        }
        1 => {
            span.kind = SpanKind::Client;
            span.set("db.system.name", "postgresql");
            span.set("db.query.text", "SELECT body FROM passage WHERE claim = $1 ORDER BY rank LIMIT 4");
        }
        2 | 3 => span.set("claim.position", step as i64),
        _ => {
            span.kind = SpanKind::Client;
            for (key, value) in [
                ("gen_ai.operation.name", "chat"),
                ("gen_ai.provider.name", "openai"),
                ("gen_ai.request.model", "gpt-4.1-mini"),
                ("gen_ai.response.model", "gpt-4.1-mini-2025-04-14"),
                ("gen_ai.response.id", "chatcmpl-9f1c2d3e4a5b6c7d8e9f"),
                ("server.address", "api.openai.com"),
            ] {
                span.set(key, value);
            }
            span.set("gen_ai.request.temperature", 0.0);
            span.set("gen_ai.usage.input_tokens", 412_i64);
            span.set("gen_ai.usage.output_tokens", 3_i64);
        }
    }
    span
}

fn verify(store: &Path, acked: &[PathBuf]) -> anyhow::Result<()> {
    let reader = Store::open_existing(store)?.reader()?;
    let (mut spans, mut missing, mut traces) = (0_u64, 0_u64, BTreeMap::new());
    for path in acked {
        for line in BufReader::new(std::fs::File::open(path)?).lines() {
            let line = line?;
            let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
            let [seed, client, first, count] = numbers[..] else { bail!("`{line}` is not four numbers") };
            for n in first..first + count {
                traces.entry(trace_id(seed, client, n)).or_insert_with(Vec::new).push(span_id(client, n));
            }
        }
    }
    for (trace, wanted) in &traces {
        spans += wanted.len() as u64;
        match reader.trace_skeleton(&trace.to_string()) {
            Ok(found) => {
                let has = |id: &&SpanId| !found.spans.iter().any(|span| span.span_id == **id);
                missing += wanted.iter().filter(has).count() as u64;
            }
            Err(_) => missing += wanted.len() as u64,
        }
    }
    println!("{}", serde_json::json!({"acknowledged": spans, "missing": missing}));
    Ok(())
}

fn replay(store: &Path, into: &Path, batch: u64) -> anyhow::Result<()> {
    let source = rusqlite::Connection::open(store.join("spanscore.db"))?;
    let target = rusqlite::Connection::open(into)?;
    target.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384; \
         PRAGMA wal_autocheckpoint = 4000;",
    )?;
    let mut definitions = source.prepare("SELECT name, type, sql FROM sqlite_master WHERE sql IS NOT NULL")?;
    let mut tables = Vec::new();
    for row in definitions
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))?
    {
        let (name, kind, sql) = row?;
        if name.starts_with("sqlite_") {
            continue;
        }
        target.execute_batch(&sql)?;
        if kind == "table" {
            tables.push(name);
        }
    }
    let mut rows: Vec<(String, Vec<Vec<Cell>>)> = Vec::new();
    let mut spans = 0;
    for table in tables {
        let mut select = source.prepare(&format!("SELECT * FROM {table}"))?;
        let columns = select.column_count();
        let all = select.query_map([], |row| (0..columns).map(|i| row.get(i)).collect::<Result<Vec<Cell>, _>>())?;
        let all: Vec<_> = all.collect::<Result<_, _>>()?;
        if table == "span" {
            spans = all.len() as u64;
        }
        if !all.is_empty() {
            let marks = vec!["?"; columns].join(", ");
            rows.push((format!("INSERT INTO {table} VALUES ({marks})"), all));
        }
    }
    let transactions = spans.div_ceil(batch).max(1);
    let start = Instant::now();
    for n in 0..transactions {
        target.execute_batch("BEGIN IMMEDIATE")?;
        for (insert, rows) in &rows {
            let at = |n: u64| (rows.len() as u64 * n / transactions) as usize;
            let mut insert = target.prepare_cached(insert)?;
            for row in &rows[at(n)..at(n + 1)] {
                insert.execute(rusqlite::params_from_iter(row))?;
            }
        }
        target.execute_batch("COMMIT")?;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}",
        serde_json::json!({"spans": spans, "seconds": seconds, "spans_per_second": spans as f64 / seconds,
            "tables": rows.iter().map(|(insert, rows)| (insert.split(' ').nth(2).unwrap_or(""), rows.len())).collect::<BTreeMap<_, _>>()})
    );
    Ok(())
}
