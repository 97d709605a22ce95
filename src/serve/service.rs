//! All of `spanscore serve` together: the collector's ports and the pages' port over one store.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::app::{Addresses, App, Traffic};
use super::collector::{Collector, CollectorOptions, Ports};
use super::pages;
use super::security::{Door, Guard, HostPolicy};
use super::server::{ConnectionLimits, Port, Protocol, ServeError, Server};
use crate::store::{Store, Writer};

/// What to serve, and where.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// The pages; port 0 takes a free one. `None` serves no pages.
    pub ui: Option<SocketAddr>,
    /// The collector. Its token and names hold for the pages too.
    pub collector: CollectorOptions,
}

/// The running service.
pub struct Service {
    addresses: Addresses,
    traffic: Arc<Traffic>,
    collector: Collector,
    ui: Option<Server>,
}

impl Service {
    /// Listens on all ports, or on none and says which cannot be had, then serves until [`Service::stop`].
    pub async fn start(store: Store, writer: Writer, options: ServiceOptions) -> Result<Self, ServeError> {
        const FLAG: &str = "--listen";
        let ui = match options.ui {
            Some(address) if !address.ip().is_loopback() && options.collector.token.is_none() => {
                return Err(ServeError::Open { flag: FLAG, address });
            }
            Some(address) => Some(Port::bind(FLAG, address).await?),
            None => None,
        };
        let ports = Ports::bind(&options.collector).await?;
        let traffic = Arc::new(Traffic::default());
        let collector = ports.serve(writer.clone(), Arc::clone(&traffic), &options.collector);
        let addresses = Addresses { ui: ui.as_ref().map(|port| port.address), ..collector.addresses() };
        let ui = ui.map(|port| {
            let app = Arc::new(App::new(store, Arc::clone(&traffic), addresses).with_writer(writer));
            let guard = Guard {
                door: Door::Pages,
                hosts: HostPolicy::new(port.address, &options.collector.allowed_hosts),
                token: options.collector.token.clone(),
                traffic: None,
            };
            // A page that is kept open for live news never ends of itself.
            let limits = ConnectionLimits { drain: Duration::from_secs(1), ..options.collector.connections };
            port.serve(Protocol::Http1, guard.over(pages::routes().with_state(app)), limits)
        });
        Ok(Self { addresses, traffic, collector, ui })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What came in so far.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Takes no more requests and returns when those under way are on disk and answered.
    pub async fn stop(self) {
        let pages = async {
            if let Some(server) = self.ui {
                server.stop().await;
            }
        };
        tokio::join!(self.collector.stop(), pages);
    }
}
