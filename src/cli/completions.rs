//! `spanscore completions SHELL`.

use clap::{CommandFactory, Parser};
use clap_complete::Shell;

use super::{Cli, Context, Exit};

/// Flags of `completions`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// For which shell
    shell: Shell,
}

pub(super) fn exec(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "spanscore", &mut script);
    context.print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Success)
}
