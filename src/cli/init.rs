//! `spanscore init`: a commented suite, a small dataset and an evaluator to start from.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;

use super::{Context, Exit, Format};
use crate::config::REFERENCE;
use crate::config::backends::Backend;

const CLAIMS: &str = include_str!("../../datasets/starter.csv");
const EVALUATOR: &str = include_str!("../../evaluators/latency.toml");

/// Flags of `init`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// Folder to write into
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Write the suite for this backend: addresses, protocol, keys' variables, and where it keeps scores, the sink for them
    #[arg(long, value_name = "NAME", value_parser = Backend::names())]
    backend: Option<String>,
    /// Write nothing; print the sections for the backend, to be put into a suite that is there
    #[arg(long, requires = "backend", conflicts_with = "force")]
    print: bool,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

pub(super) fn exec(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let backend = args.backend.as_deref().and_then(Backend::find);
    if let (true, Some(backend)) = (args.print, backend) {
        context.print(backend.sections().trim_end())?;
        return Ok(Exit::Success);
    }
    let suite = backend.map_or_else(|| REFERENCE.to_owned(), |backend| backend.suite());
    let files = [("spanscore.toml", suite.as_str()), ("claims.csv", CLAIMS), ("evaluators/latency.toml", EVALUATOR)];
    let paths = files.map(|(name, text)| (args.folder.join(name), text));
    // All or nothing: a suite beside somebody else's dataset would be a trap.
    if let Some((taken, _)) = paths.iter().find(|(path, _)| !args.force && path.exists()) {
        let print = args
            .backend
            .as_deref()
            .map(|backend| format!(", or print what to add to it: `spanscore init --backend {backend} --print`"));
        anyhow::bail!(
            "`{}` exists already; pass --force to replace it, or name another folder{}",
            taken.display(),
            print.unwrap_or_default()
        );
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
    if let Some(backend) = backend {
        context.hint(backend.before);
        context.next([format!("spanscore doctor {}", suite.display()), format!("spanscore run {}", suite.display())]);
    } else {
        context.next([format!("spanscore run {}", suite.display())]);
    }
    Ok(Exit::Success)
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::File::create(path)?.write_all(text.as_bytes())
}
