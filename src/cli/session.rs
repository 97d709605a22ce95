//! What a session of a run takes from its surroundings: signals, the caller's trace, the working copy.

use std::process::Command;

use tokio::signal::unix::{Signal, SignalKind, signal as listen};

use crate::config::Environment;
use crate::model::{GitRevision, SpanId, TraceId};

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

/// The span that started this process, from `TRACEPARENT` (W3C Trace Context, level 1): `00-trace-span-flags`.
/// A malformed value is ignored with a warning, as the specification asks.
pub(super) fn parent(env: &Environment) -> Result<Option<(TraceId, SpanId)>, String> {
    let Some(text) = env.get("TRACEPARENT") else { return Ok(None) };
    let parsed = (|| {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |part: &str, n: usize| {
            part.len() == n && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let more = parts.next().is_some();
        if !hex(version, 2) || version == "ff" || (version == "00" && more) || !hex(flags, 2) {
            return None;
        }
        if !hex(trace, 32) || !hex(span, 16) {
            return None;
        }
        let (trace, span): (TraceId, SpanId) = (trace.parse().ok()?, span.parse().ok()?);
        (trace.as_bytes() != &[0; 16] && span.as_bytes() != &[0; 8]).then_some((trace, span))
    })();
    match parsed {
        Some(parent) => Ok(Some(parent)),
        None => Err(format!("TRACEPARENT `{text}` is not of the form 00-<32 hex>-<16 hex>-<2 hex>; ignored")),
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
    fn a_traceparent_is_taken_or_refused_as_the_specification_says() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let (trace, span) = parent(&env(good)).expect("valid").expect("set");
        assert_eq!(trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.to_string(), "b7ad6b7169203331");
        assert!(parent(&env(&good.replace("00-0af", "cc-0af"))).expect("a later version").is_some());
        assert_eq!(parent(&Environment::default()), Ok(None));
        for bad in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "nonsense",
        ] {
            assert!(parent(&env(bad)).is_err(), "{bad}");
        }
    }
}
