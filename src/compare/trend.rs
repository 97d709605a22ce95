//! A score night by night, as a value: the `trend` document.

use serde::{Deserialize, Serialize};

use super::operand::Difference;

/// A score over the runs of a suite.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// The score: an evaluator's id, `accuracy`, `macro_f1`, `mcc`, `kappa`, `latency_p50_ms`, ….
    pub score: String,
    /// Its unit (UCUM): `1`, `ms`, `{token}`, `USD`, ….
    #[serde(default)]
    pub unit: String,
    /// The line below (or above) which the gate finds it too bad, as the newest verdict drew it; `None` where no gate judges it.
    #[serde(default)]
    pub gate: Option<GateLine>,
    /// The suite.
    pub suite: String,
    /// The part of the dataset; `None` of all of it.
    pub slice: Option<TrendSlice>,
    /// The runs, oldest first.
    pub points: Vec<TrendPoint>,
    /// Where the level changed by more than chance.
    pub changes: Vec<TrendChange>,
    /// What to know when reading it.
    pub warnings: Vec<String>,
    /// The same over parts of the dataset, where they were asked for.
    pub slices: Vec<Trend>,
}

/// What a gate allows of a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateLine {
    /// The run whose verdict says so.
    pub run_id: String,
    /// The baseline's value.
    pub base: f64,
    /// How much worse a run may be.
    pub margin: f64,
    /// The baseline's value, worse by the margin.
    pub value: f64,
}

/// A part of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrendSlice {
    /// The column, as queries spell it.
    pub column: String,
    /// Its value; `None` where a case has none.
    pub value: Option<String>,
}

/// A run in a trend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrendPoint {
    /// The run.
    pub run_id: String,
    /// Its name.
    pub name: String,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// The score; `None` where the run has none.
    pub mean: Option<f64>,
    /// Its 95 % interval.
    pub ci95: Option<[f64; 2]>,
    /// How many values stand behind it.
    pub n: u64,
    /// The gate's verdict on the run, where it was judged.
    pub verdict: Option<String>,
    /// What was run differently from the run before.
    pub changed: Vec<Difference>,
}

/// A change of level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrendChange {
    /// The first run of the new level.
    pub at_run: String,
    /// Its place among the points.
    pub index: u64,
    /// The mean of the runs since the change before.
    pub before: f64,
    /// The mean of the runs from here to the next change.
    pub after: f64,
    /// How likely a split so large is by chance, by permutation.
    pub p_value: f64,
    /// What was run differently that night.
    pub annotations: Vec<Difference>,
}

/// How many runs with a value it takes to tell a change of level from chance: seven have 35 ways to be parted in three and
/// four, too few for a p-value of 5 % from either end.
pub const ENOUGH: usize = 8;

impl Trend {
    /// Whether there are runs enough to look for changes of level.
    pub fn is_searched(&self) -> bool {
        self.points.iter().filter(|point| point.mean.is_some()).count() >= ENOUGH
    }
}
