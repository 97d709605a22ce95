//! What a session of a run takes from its surroundings: signals, the caller's trace, the working copy.

use std::process::Command;

use tokio::signal::unix::{Signal, SignalKind, signal as listen};

use crate::config::Environment;
use crate::model::{GitRevision, SpanId, TraceId};
use crate::trace::traceparent::TraceParent;

/// SIGINT and SIGTERM, listened for from now on.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// Starts to listen for signals.
pub(super) fn signal() -> std::io::Result<Signals> {
    Ok(Signals { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
}

impl Signals {
    /// Waits for one and gives its number: 2 or 15.
    pub(super) async fn wait(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}

/// The span that started this process, from `TRACEPARENT`.
/// A malformed value is ignored with a warning, as the specification asks.
pub(super) fn parent(env: &Environment) -> Result<Option<(TraceId, SpanId)>, String> {
    let Some(text) = env.get("TRACEPARENT") else { return Ok(None) };
    match text.parse::<TraceParent>() {
        Ok(parent) => Ok(Some((parent.trace_id, parent.span_id))),
        Err(error) => Err(format!("TRACEPARENT `{text}` is {error}; ignored")),
    }
}

/// The commit of the working directory, if it is a working copy and git is there.
pub(super) fn git_revision() -> Option<GitRevision> {
    let revision = git(&["rev-parse", "HEAD"])?.trim().to_owned();
    let dirty = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.trim().is_empty());
    (revision.len() == 40).then_some(GitRevision { revision, dirty })
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(value: &str) -> Environment {
        [("TRACEPARENT".to_owned(), value.to_owned())].into_iter().collect()
    }

    #[test]
    fn a_malformed_traceparent_is_ignored_with_a_warning() {
        let (trace, span) =
            parent(&env("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")).expect("valid").expect("set");
        assert_eq!(trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.to_string(), "b7ad6b7169203331");
        assert_eq!(parent(&Environment::default()), Ok(None));
        assert!(parent(&env("nonsense")).expect_err("refused").contains("`nonsense`"));
    }
}
