//! `spanscore runs`: lists runs, the newest first; removes a run; sets a run's tags.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};

use super::{Context, Exit, Format};
use crate::report::collect::Collector;
use crate::report::documents::RunEntry;
use crate::report::lists;
use crate::store::rows::RunRow;
use crate::store::{Reader, Store};

/// List runs, remove one, or tag one
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Only runs with this tag
    #[arg(long = "tag", value_name = "K=V")]
    tags: Vec<String>,
    /// At most this many, the newest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Remove runs with their trials, scores and traces
    Rm {
        /// Ids, unique prefixes, names, `latest` or `latest~N`
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
    },
    /// Set tags of a run; an empty value removes a tag
    Tag {
        /// Id, unique prefix, name, `latest` or `latest~N`
        run: String,
        /// The tags
        #[arg(required = true, value_name = "K=V")]
        tags: Vec<String>,
    },
}

pub(super) fn exec(args: &Args, ctx: &Context) -> anyhow::Result<Exit> {
    match &args.action {
        None => list(args, ctx),
        Some(Action::Rm { runs }) => remove(runs, ctx),
        Some(Action::Tag { run, tags }) => tag(run, tags, ctx),
    }
}

fn list(args: &Args, ctx: &Context) -> anyhow::Result<Exit> {
    let wanted = parse_tags(&args.tags)?;
    let reader = ctx.store()?.reader()?;
    let mut runs = reader.runs()?;
    runs.retain(|run| wanted.iter().all(|(key, value)| run.spec.tags.get(key) == Some(value)));
    runs.sort_by(|a, b| (b.spec.started_unix_nano, &b.spec.run_id).cmp(&(a.spec.started_unix_nano, &a.spec.run_id)));
    let found = runs.len();
    runs.truncate(args.limit);
    let mut entries = runs.iter().map(|run| entry(&reader, run)).collect::<anyhow::Result<Vec<_>>>()?;
    let verdicts = reader.verdicts()?;
    for (entry, run) in entries.iter_mut().zip(&runs) {
        entry.verdict = verdicts.get(&run.number).cloned();
    }
    match ctx.format {
        Format::Json => ctx.print_json(&entries)?,
        Format::Text => {
            ctx.print(&lists::runs(&entries, ctx.style))?;
            if found > entries.len() {
                ctx.hint(&format!("{} older runs are not shown: --limit {found} shows them", found - entries.len()));
            }
        }
    }
    Ok(Exit::Success)
}

fn entry(reader: &Reader, run: &RunRow) -> anyhow::Result<RunEntry> {
    let mut collector = Collector::new(&run.spec);
    reader.for_each_fact(run, |facts| collector.add(&facts))?;
    Ok(RunEntry::of(run, reader.is_live(&run.spec.run_id), &collector.brief()))
}

fn remove(names: &[String], ctx: &Context) -> anyhow::Result<Exit> {
    let store = ctx.store()?;
    let reader = store.reader()?;
    // All names are resolved before the first run goes, for `latest` means another run afterwards.
    let mut runs = names.iter().map(|name| reader.resolve_run(name)).collect::<Result<Vec<_>, _>>()?;
    runs.sort_by_key(|run| run.number);
    runs.dedup_by_key(|run| run.number);
    wait_for(&store, async |writer| {
        for run in &runs {
            writer.remove_run(&run.spec.run_id).await?;
        }
        Ok(())
    })?;
    let removed: Vec<String> = runs.iter().map(|run| run.spec.run_id.to_string()).collect();
    match ctx.format {
        Format::Json => ctx.print_json(&serde_json::json!({ "removed": removed }))?,
        Format::Text => ctx.print(&format!("removed {}", removed.join("\nremoved ")))?,
    }
    Ok(Exit::Success)
}

fn tag(run: &str, tags: &[String], ctx: &Context) -> anyhow::Result<Exit> {
    let store = ctx.store()?;
    let tags = parse_tags(tags)?;
    let run = store.reader()?.resolve_run(run)?;
    wait_for(&store, async |writer| writer.set_tags(&run.spec.run_id, tags.clone()).await)?;
    let run = store.reader()?.resolve_run(run.spec.run_id.as_str())?;
    match ctx.format {
        Format::Json => ctx.print_json(&serde_json::json!({ "run": run.spec.run_id, "tags": run.spec.tags }))?,
        Format::Text => {
            let tags: Vec<String> = run.spec.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let line = format!(
                "{}: {}",
                run.spec.run_id,
                if tags.is_empty() { "no tags".to_owned() } else { tags.join(", ") }
            );
            ctx.print(&format!("{}\n", crate::report::text::clean(&line)))?;
        }
    }
    Ok(Exit::Success)
}

/// Does something with the store's writer and waits until it is durable.
pub(super) fn wait_for(
    store: &Store,
    work: impl AsyncFnOnce(&crate::store::Writer) -> Result<(), crate::store::StoreError>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("starting the asynchronous runtime")?;
    runtime.block_on(async {
        let writer = store.writer()?;
        let done = work(&writer).await;
        writer.close().await?;
        Ok(done?)
    })
}

/// Tags as `key=value`.
fn parse_tags(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
            _ => bail!("`{text}` is not a tag: write it as key=value"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_need_a_key() {
        let tags = |texts: &[&str]| parse_tags(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            tags(&["a=b=c", "d="]).expect("valid"),
            [("a", "b=c"), ("d", "")].map(|(k, v)| (k.into(), v.into())).into()
        );
        assert!(tags(&["a"]).is_err() && tags(&["=b"]).is_err());
    }
}
