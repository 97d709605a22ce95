//! `spanscore import scifact`: a public dataset into one of ours.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;

use super::{Context, Exit, Format};
use crate::dataset::{ImportSummary, import_scifact};
use crate::whole;

/// Flags of `import scifact`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// The claims (claims_train.jsonl, claims_dev.jsonl)
    #[arg(long, value_name = "FILE")]
    claims: PathBuf,
    /// The abstracts (corpus.jsonl)
    #[arg(long, value_name = "FILE")]
    corpus: PathBuf,
    /// The dataset to write, as JSON Lines; without it, stdout
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn exec(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let Args { claims, corpus, output } = args;
    let summary = match output {
        Some(path) => to_file(claims, corpus, path)?,
        None => {
            anyhow::ensure!(context.format == Format::Text, "--format json needs --output: the cases take stdout");
            let mut cases = Vec::new();
            let summary = import_scifact(claims, corpus, &mut cases)?;
            context.print(&String::from_utf8(cases)?)?;
            summary
        }
    };
    report(&summary, output.as_deref(), context)?;
    Ok(Exit::Success)
}

/// A file there is replaced whole or not at all.
fn to_file(claims: &Path, corpus: &Path, path: &Path) -> anyhow::Result<ImportSummary> {
    let write = || -> anyhow::Result<ImportSummary> {
        let (file, unnamed) = whole::begin(path)?;
        let mut out = BufWriter::new(file);
        let summary = import_scifact(claims, corpus, &mut out)?;
        unnamed.name(&out.into_inner()?)?;
        Ok(summary)
    };
    write().with_context(|| format!("writing `{}`", path.display()))
}

fn report(summary: &ImportSummary, output: Option<&Path>, context: &Context) -> anyhow::Result<()> {
    for problem in &summary.problems {
        context.hint(&format!("skipped: {problem}"));
    }
    let labels = summary.labels;
    let text = format!(
        "{} cases written: {} True, {} False, {} NEE; skipped: {} with conflicting evidence, {} whose documents are not in \
         the corpus, {} unreadable",
        summary.written,
        labels.supported,
        labels.refuted,
        labels.not_enough_evidence,
        summary.conflicting,
        summary.without_documents,
        summary.unreadable
    );
    match (output, context.format) {
        (Some(path), Format::Json) => context.print_json(&serde_json::json!({
            "output": path,
            "cases": summary.written,
            "labels": labels,
            "skipped": {
                "conflicting": summary.conflicting,
                "without_documents": summary.without_documents,
                "unreadable": summary.unreadable,
            },
        })),
        (Some(_), Format::Text) => context.print(&text),
        (None, _) => {
            context.hint(&text);
            Ok(())
        }
    }
}
