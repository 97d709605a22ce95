//! What a statistic gives: a value, how sure it is, and what missing observations could make of it.

use serde::{Deserialize, Serialize};

/// A number with its uncertainty, as every document shows it. Unknown is `None`, never 0 and never NaN.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number; `None` where it is undefined, such as the mean of nothing.
    pub value: Option<f64>,
    /// The 95 % confidence interval; `None` where it is undefined.
    pub ci95: Option<[f64; 2]>,
    /// The value with every missing observation counted as wrong, and with every one counted as right.
    pub bounds: Option<[f64; 2]>,
    /// How the interval was made, in words.
    pub method: String,
    /// How many observations stand behind the value.
    pub n: u64,
}

impl Estimate {
    /// An estimate of nothing, for the reason given.
    pub fn undefined(n: u64, why: &str) -> Self {
        Self { method: why.to_owned(), n, ..Self::default() }
    }
}

/// Below this many clusters a method's name carries a warning: CR1 with few clusters is too sure of itself
/// (Cameron & Miller 2015, A Practitioner's Guide to Cluster-Robust Inference).
pub const FEW_CLUSTERS: u64 = 20;

/// The name of a method that uses clusters, with the warning where there are few.
pub(crate) fn clustered_method(name: &str, clusters: u64) -> String {
    if clusters < FEW_CLUSTERS {
        format!("{name}, {clusters} clusters: fewer than {FEW_CLUSTERS}, the interval may be too narrow")
    } else {
        format!("{name}, {clusters} clusters")
    }
}
