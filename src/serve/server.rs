//! A port and what is served there: accepting connections, their timeouts and their number, and an end that lets answers out.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

/// What HTTP/2 clients send first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Why nothing is served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("listening on {address} ({flag}): {reason}; {hint}")]
    Listen {
        /// The flag that set the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// Other machines could reach the address and nothing would stop them.
    #[error(
        "{flag} {address}: other machines can reach that address, and there is no token to keep them out; \
         listen on a loopback address such as 127.0.0.1:{}, or give a file with a token: --token FILE",
        address.port()
    )]
    Open {
        /// The flag that set the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
    },
}

/// Which version of HTTP a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1, for pages and OTLP.
    Http1,
    /// HTTP/2 with prior knowledge, for gRPC.
    Http2,
}

/// How long connections are borne with, and how many.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// The most connections of a port; more wait to be accepted.
    pub connections: usize,
    /// How long a client may take to send the head of a request, or to send none at all.
    pub head: Duration,
    /// How long the end waits for answers that are under way.
    pub drain: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { connections: 256, head: Duration::from_secs(20), drain: Duration::from_secs(10) }
    }
}

/// A port that is listened on, not served yet.
#[derive(Debug)]
pub(crate) struct Port {
    listener: TcpListener,
    /// Where it is; never port 0.
    pub(crate) address: SocketAddr,
}

impl Port {
    /// Listens on an address; port 0 takes a free one. `flag` is what set the address.
    pub(crate) async fn bind(flag: &'static str, address: SocketAddr) -> Result<Self, ServeError> {
        let failed = |error: std::io::Error| {
            let hint = match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "another program has that port, perhaps another `spanscore serve`: stop it, or take another port \
                     (port 0 takes a free one)"
                }
                std::io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: take a higher one",
                _ => "name an address of this machine",
            };
            ServeError::Listen { flag, address, reason: error.to_string(), hint }
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Serves it until [`Server::stop`].
    pub(crate) fn serve(self, protocol: Protocol, router: Router, limits: ConnectionLimits) -> Server {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept(self.listener, protocol, router, limits, stopped));
        Server { address: self.address, stop, task }
    }
}

/// A port that is served.
pub(crate) struct Server {
    /// Where it is.
    pub(crate) address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Takes no more requests and returns when those under way are answered, or their time is over.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

async fn accept(
    listener: TcpListener,
    protocol: Protocol,
    router: Router,
    limits: ConnectionLimits,
    mut stopped: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let builder = Arc::new(builder(protocol, &limits));
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit.expect("the semaphore is never closed"),
            () = told(&mut stopped) => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Mostly too many open files: those that are open will end.
                    tracing::warn!("accepting a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = told(&mut stopped) => break,
        };
        while connections.try_join_next().is_some() {}
        let (router, builder, stopped) = (router.clone(), Arc::clone(&builder), stopped.clone());
        connections.spawn(async move {
            let _permit = permit;
            serve(stream, protocol, router, &builder, limits, stopped).await;
        });
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // What is still open then is dropped with the set.
    let _ = tokio::time::timeout(limits.drain, all).await;
}

async fn serve(
    stream: TcpStream,
    protocol: Protocol,
    router: Router,
    builder: &auto::Builder<TokioExecutor>,
    limits: ConnectionLimits,
    mut stopped: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    if protocol == Protocol::Http2 && !is_http2(&stream, limits.head, &mut stopped).await {
        return;
    }
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    tokio::select! {
        // How a connection ends is the client's affair: cut, reset and timed-out ones are no news.
        _ = connection.as_mut() => return,
        () = told(&mut stopped) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Returns when the end is near.
async fn told(stopped: &mut watch::Receiver<bool>) {
    // Without a sender nobody is left who waits for answers.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Whether the client begins as HTTP/2 clients do, in the time that it has.
async fn is_http2(stream: &TcpStream, patience: Duration, stopped: &mut watch::Receiver<bool>) -> bool {
    let begins = async {
        let mut seen = [0; PREFACE.len()];
        loop {
            match stream.peek(&mut seen).await {
                Ok(0) | Err(_) => return false,
                Ok(n) if seen.get(..n) != PREFACE.get(..n) => return false,
                Ok(n) if n == PREFACE.len() => return true,
                // The rest is on its way; what is there already would make the next look return at once.
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::select! {
        begins = tokio::time::timeout(patience, begins) => begins.unwrap_or(false),
        () = told(stopped) => false,
    }
}

fn builder(protocol: Protocol, limits: &ConnectionLimits) -> auto::Builder<TokioExecutor> {
    const BUFFER: usize = 128 << 10;
    const WINDOW: u32 = 1 << 20;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    match protocol {
        Protocol::Http1 => {
            let mut builder = builder.http1_only();
            builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(BUFFER);
            builder
        }
        Protocol::Http2 => {
            builder
                .http2()
                .timer(TokioTimer::new())
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .max_concurrent_streams(100)
                .max_header_list_size(64 << 10)
                .keep_alive_interval(limits.head)
                .keep_alive_timeout(limits.head);
            builder.http2_only()
        }
    }
}
