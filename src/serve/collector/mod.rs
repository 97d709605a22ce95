//! The OTLP receiver: the same requests over HTTP and gRPC, into the store.
//!
//! `http` and `grpc` speak the two transports; `intake` is what happens to a request in either: read and unpacked
//! within `budget` and `body`'s limits, decoded, recorded, and answered when it is on disk. Source: OTLP 1.11.

mod body;
mod budget;
mod grpc;
mod http;
mod intake;
mod refusal;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::app::{Addresses, Traffic};
use super::security::{Door, Guard, HostPolicy, Token};
use super::server::{ConnectionLimits, Port, Protocol, ServeError, Server};
use crate::store::Writer;
use body::Bounds;
use budget::Budget;
use intake::Intake;

/// Where to listen, for whom, and how much is taken at once.
#[derive(Debug, Clone)]
pub struct CollectorOptions {
    /// OTLP over HTTP; port 0 takes a free one.
    pub http: Option<SocketAddr>,
    /// OTLP over gRPC; port 0 takes a free one.
    pub grpc: Option<SocketAddr>,
    /// What every client has to show, if anything.
    pub token: Option<Token>,
    /// Names under which the ports are known besides loopback names and their own address.
    pub allowed_hosts: Vec<String>,
    /// How much is taken at once.
    pub limits: Limits,
    /// How long connections are borne with, and how many.
    pub connections: ConnectionLimits,
}

impl Default for CollectorOptions {
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            http: Some(any),
            grpc: Some(any),
            token: None,
            allowed_hosts: Vec::new(),
            limits: Limits::default(),
            connections: ConnectionLimits::default(),
        }
    }
}

/// How much is taken at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most bytes of a request, before and after unpacking.
    pub request_bytes: usize,
    /// The most bytes of all requests under way. Decoded, telemetry takes some five times as much memory.
    pub bytes_under_way: u64,
    /// The most requests under way.
    pub requests_under_way: usize,
    /// How long a client may send nothing in the middle of a body.
    pub silence: Duration,
    /// How long a body may take.
    pub whole_body: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 20 << 20,
            bytes_under_way: 8 << 20,
            requests_under_way: 128,
            silence: Duration::from_secs(10),
            whole_body: Duration::from_mins(1),
        }
    }
}

/// A running receiver.
pub struct Collector {
    http: Option<Server>,
    grpc: Option<Server>,
}

impl Collector {
    /// Listens and receives until [`Collector::stop`].
    pub async fn start(writer: Writer, traffic: Arc<Traffic>, options: CollectorOptions) -> Result<Self, ServeError> {
        let ports = Ports::bind(&options).await?;
        Ok(ports.serve(writer, traffic, &options))
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        let address = |server: &Option<Server>| server.as_ref().map(|server| server.address);
        Addresses { ui: None, otlp_http: address(&self.http), otlp_grpc: address(&self.grpc) }
    }

    /// Takes no more requests and returns when those under way are on disk and answered.
    pub async fn stop(self) {
        let stop = async |server: Option<Server>| {
            if let Some(server) = server {
                server.stop().await;
            }
        };
        tokio::join!(stop(self.http), stop(self.grpc));
    }
}

/// Ports that are listened on, not served yet: all of them are free before anything starts.
pub(super) struct Ports {
    http: Option<Port>,
    grpc: Option<Port>,
}

impl Ports {
    pub(super) async fn bind(options: &CollectorOptions) -> Result<Self, ServeError> {
        let bind = async |flag: &'static str, address: Option<SocketAddr>| match address {
            Some(address) if !address.ip().is_loopback() && options.token.is_none() => {
                Err(ServeError::Open { flag, address })
            }
            Some(address) => Port::bind(flag, address).await.map(Some),
            None => Ok(None),
        };
        Ok(Self { http: bind("--otlp-http", options.http).await?, grpc: bind("--otlp-grpc", options.grpc).await? })
    }

    pub(super) fn serve(self, writer: Writer, traffic: Arc<Traffic>, options: &CollectorOptions) -> Collector {
        let limits = options.limits;
        let intake = Arc::new(Intake {
            writer,
            budget: Budget::new(limits.bytes_under_way, limits.requests_under_way, Arc::clone(&traffic)),
            traffic,
            bounds: Bounds { bytes: limits.request_bytes, silence: limits.silence, whole: limits.whole_body },
            workers: tokio::sync::Semaphore::new(intake::WORKERS),
        });
        let serve = |port: Port, door: Door, protocol: Protocol| {
            let guard = Guard {
                door,
                hosts: HostPolicy::new(port.address, &options.allowed_hosts),
                token: options.token.clone(),
                traffic: Some(Arc::clone(&intake.traffic)),
            };
            let routes = match protocol {
                Protocol::Http1 => http::routes(Arc::clone(&intake)),
                Protocol::Http2 => grpc::routes(Arc::clone(&intake)),
            };
            port.serve(protocol, guard.over(routes), options.connections)
        };
        Collector {
            http: self.http.map(|port| serve(port, Door::OtlpHttp, Protocol::Http1)),
            grpc: self.grpc.map(|port| serve(port, Door::OtlpGrpc, Protocol::Http2)),
        }
    }
}
