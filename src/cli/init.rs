//! `spanscore init`: a commented suite, a small dataset and an evaluator to start from.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;

use super::{Context, Exit, Format};
use crate::config::REFERENCE;

const CLAIMS: &str = include_str!("../../datasets/starter.csv");
const EVALUATOR: &str = include_str!("../../evaluators/latency.toml");

/// Flags of `init`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// Folder to write into
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

pub(super) fn exec(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let files = [("spanscore.toml", REFERENCE), ("claims.csv", CLAIMS), ("evaluators/latency.toml", EVALUATOR)];
    let paths = files.map(|(name, text)| (args.folder.join(name), text));
    // All or nothing: a suite beside somebody else's dataset would be a trap.
    if let Some((taken, _)) = paths.iter().find(|(path, _)| !args.force && path.exists()) {
        anyhow::bail!("`{}` exists already; pass --force to replace it, or name another folder", taken.display());
    }
    for (path, text) in &paths {
        write(path, text).with_context(|| format!("writing `{}`", path.display()))?;
        if context.format == Format::Text {
            context.print(&format!("wrote {}", path.display()))?;
        }
    }
    if context.format == Format::Json {
        context
            .print_json(&serde_json::json!({ "written": paths.iter().map(|(path, _)| path).collect::<Vec<_>>() }))?;
    }
    let suite = args.folder.join("spanscore.toml");
    context.next([format!("spanscore run {}", suite.display())]);
    Ok(Exit::Success)
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::File::create(path)?.write_all(text.as_bytes())
}
