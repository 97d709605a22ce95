//! The W3C header that says which span a process belongs to: `00-<trace>-<span>-<flags>`.
//!
//! Source: W3C Trace Context, level 1, section 3.2. Read from `TRACEPARENT`, and written for programs that are started.

use std::fmt;
use std::str::FromStr;

use crate::model::{SpanId, TraceId};

/// The caller's span and its decision about sampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: TraceId,
    /// The span that is the parent.
    pub span_id: SpanId,
    /// The flags; the lowest bit says that the trace is sampled.
    pub flags: u8,
}

impl TraceParent {
    /// A sampled parent.
    pub const fn sampled(trace_id: TraceId, span_id: SpanId) -> Self {
        Self { trace_id, span_id, flags: 1 }
    }

    /// Whether the caller samples the trace.
    pub const fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

/// Written as version 00.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// Why a text is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form 00-<32 hex>-<16 hex>-<2 hex>, lowercase and with ids that are not zero")]
pub struct NotATraceParent;

impl FromStr for TraceParent {
    type Err = NotATraceParent;

    /// Reads version 00 to the letter; later versions may have more fields behind it.
    fn from_str(text: &str) -> Result<Self, NotATraceParent> {
        read(text.trim()).ok_or(NotATraceParent)
    }
}

fn read(text: &str) -> Option<TraceParent> {
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2)?;
    let (trace, span, flags) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?, hex(parts.next()?, 2)?);
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let (trace_id, span_id): (TraceId, SpanId) = (trace.parse().ok()?, span.parse().ok()?);
    let set = trace_id.as_bytes() != &[0; 16] && span_id.as_bytes() != &[0; 8];
    Some(TraceParent { trace_id, span_id, flags: u8::from_str_radix(flags, 16).ok()? }).filter(|_| set)
}

/// The part, if it is so many lowercase hex digits.
fn hex(part: &str, digits: usize) -> Option<&str> {
    let lowercase = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (part.len() == digits && part.bytes().all(lowercase)).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_read_is_written_again() {
        let parent: TraceParent = GOOD.parse().expect("valid");
        assert_eq!(parent.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parent.span_id.to_string(), "b7ad6b7169203331");
        assert!(parent.is_sampled());
        assert_eq!(parent.to_string(), GOOD);
        assert_eq!(TraceParent::sampled(parent.trace_id, parent.span_id), parent);
    }

    #[test]
    fn it_is_taken_or_refused_as_the_specification_says() {
        for good in [
            GOOD.to_owned(),
            format!(" {GOOD}\n"),
            GOOD.replace("00-0af", "cc-0af"),
            format!("cc{}-x", GOOD.strip_prefix("00").expect("version 00")),
        ] {
            assert!(good.parse::<TraceParent>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "nonsense",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(NotATraceParent), "{bad}");
        }
    }
}
