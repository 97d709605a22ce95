//! `spanscore serve-model`: the built-in model's server, for other clients.

use std::net::SocketAddr;

use clap::Parser;

use super::{Context, Exit};
use crate::llm::builtin::{BuiltinServer, MODEL};

/// Flags of `serve-model`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:4320", value_name = "ADDRESS")]
    listen: SocketAddr,
}

pub(super) fn exec(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    // Nobody is authenticated here, so that nobody else's machine is let in.
    anyhow::ensure!(
        args.listen.ip().is_loopback(),
        "--listen {}: the model server has no authentication and listens on loopback addresses only",
        args.listen
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = BuiltinServer::start(args.listen).await?;
        context.print(&format!("http://{}/v1", server.address()))?;
        context.hint(&format!("serving model `{MODEL}`; stop with Ctrl-C"));
        let signal = super::session::signal()?.wait().await;
        Ok(Exit::Signal(signal))
    })
}
