//! Which traces are exported. The store keeps all of them; this decides for destinations only.

use serde::{Deserialize, Serialize};

use crate::model::TraceId;
use crate::trace::traceparent::TraceParent;

/// A decision by trace id, so that all spans and log records of a trace share their fate, here and in every service that
/// samples by the same ratio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampler {
    /// For traces that begin here.
    pub root: Rule,
    /// For the one trace that began elsewhere, where the decision was taken already; `None` where there is no such
    /// trace or the sampler does not heed it.
    pub parent: Option<ParentDecision>,
}

/// The rule for traces without a parent elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// All of them.
    AlwaysOn,
    /// None of them.
    AlwaysOff,
    /// This share of them, from 0 to 1.
    Ratio(f64),
}

/// What the caller in `TRACEPARENT` decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentDecision {
    /// Its trace.
    pub trace_id: TraceId,
    /// Whether it is sampled there.
    pub sampled: bool,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { root: Rule::AlwaysOn, parent: None }
    }
}

impl Sampler {
    /// Whether the items of this trace are exported; what belongs to no trace is.
    pub fn keeps(&self, trace_id: Option<TraceId>) -> bool {
        let Some(trace_id) = trace_id else { return true };
        match self.parent {
            Some(parent) if parent.trace_id == trace_id => parent.sampled,
            _ => self.root.keeps(trace_id),
        }
    }

    /// Whether every item is kept, whatever its trace.
    pub fn keeps_all(&self) -> bool {
        self.root == Rule::AlwaysOn && self.parent.is_none_or(|parent| parent.sampled)
    }
}

impl Rule {
    /// As the SDKs for Rust and Go do it: the last 63 bits of the id, as a share of 2⁶³, against the ratio.
    fn keeps(self, trace_id: TraceId) -> bool {
        match self {
            Self::AlwaysOn => true,
            Self::AlwaysOff => false,
            Self::Ratio(ratio) => {
                let low: [u8; 8] = trace_id.as_bytes()[8..].try_into().expect("the second half of 16 bytes");
                let bound = (ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
                u64::from_be_bytes(low) >> 1 < bound
            }
        }
    }
}

impl ParentDecision {
    /// The decision in a W3C `traceparent`; `None` where it is not one.
    pub fn from_traceparent(text: &str) -> Option<Self> {
        let parent: TraceParent = text.parse().ok()?;
        Some(Self { trace_id: parent.trace_id, sampled: parent.is_sampled() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::provider::Ids;

    fn trace(low: u64) -> TraceId {
        let mut bytes = [0xff; 16];
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        TraceId::from_bytes(bytes)
    }

    #[test]
    fn a_ratio_is_decided_by_the_end_of_the_trace_id() {
        let quarter = Sampler { root: Rule::Ratio(0.25), parent: None };
        assert!(quarter.keeps(Some(trace(0))));
        assert!(quarter.keeps(Some(trace(0x3fff_ffff_ffff_ffff))));
        assert!(!quarter.keeps(Some(trace(0x4000_0000_0000_0000))));
        assert!(!quarter.keeps(Some(trace(u64::MAX))));
        assert!(Sampler { root: Rule::Ratio(1.0), parent: None }.keeps(Some(trace(u64::MAX))));
        assert!(!Sampler { root: Rule::Ratio(0.0), parent: None }.keeps(Some(trace(0))));
        let ids = Ids::seeded(7);
        let kept = (0..10_000).filter(|_| quarter.keeps(Some(ids.trace_id()))).count();
        assert!((2_300..2_700).contains(&kept), "{kept}");
    }

    #[test]
    fn a_parent_decides_for_its_own_trace_only() {
        let parent = ParentDecision::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
        let sampler = Sampler { root: Rule::AlwaysOn, parent };
        assert!(!sampler.keeps(Some("0af7651916cd43dd8448eb211c80319c".parse().unwrap())));
        assert!(sampler.keeps(Some(trace(1))) && sampler.keeps(None));
        assert!(!sampler.keeps_all());
        for text in ["", "00-0af7-b7ad6b7169203331-01", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] {
            assert_eq!(ParentDecision::from_traceparent(text), None, "{text}");
        }
    }
}
