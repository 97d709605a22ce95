//! Scores: an assertion, a number or a label; and what became of each evaluation. *Unscored is never a number.*

use serde::{Deserialize, Serialize};

use super::EvaluatorId;

/// A finite double: neither NaN nor infinite.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Finite(f64);

impl Finite {
    /// 1.0, a passed assertion.
    pub const ONE: Self = Self(1.0);
    /// 0.0, a failed assertion.
    pub const ZERO: Self = Self(0.0);

    /// The number if it is finite.
    pub fn new(x: f64) -> Option<Self> {
        x.is_finite().then_some(Self(x))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Finite {
    type Error = String;

    fn try_from(x: f64) -> Result<Self, String> {
        Self::new(x).ok_or_else(|| format!("a score must be finite, found {x}"))
    }
}

impl From<Finite> for f64 {
    fn from(x: Finite) -> Self {
        x.0
    }
}

/// Which way of a score is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More is better.
    Higher,
    /// Less is better (latency, tokens, cost).
    Lower,
}

/// What became of applying one evaluator to one trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Evaluation {
    /// It gave a score. At least one of `value` and `label` is set; an assertion sets both (1.0/`pass`, 0.0/`fail`).
    Scored {
        /// The number, where there is one.
        value: Option<Finite>,
        /// The label, where there is one.
        label: Option<String>,
        /// Why, in words.
        explanation: Option<String>,
    },
    /// It broke.
    Failed {
        /// Low-cardinality kind, for `error.type`.
        error_type: String,
        /// The error in words.
        message: String,
    },
    /// It does not apply to this trial.
    Skipped {
        /// Why not.
        reason: String,
    },
}

impl Evaluation {
    /// An assertion that held or did not.
    pub fn assertion(holds: bool) -> Self {
        Self::Scored {
            value: Some(if holds { Finite::ONE } else { Finite::ZERO }),
            label: Some(if holds { "pass" } else { "fail" }.to_owned()),
            explanation: None,
        }
    }

    /// A number; one that is not finite is a failed evaluation.
    pub fn number(x: f64) -> Self {
        match Finite::new(x) {
            Some(x) => Self::Scored { value: Some(x), label: None, explanation: None },
            None => Self::Failed {
                error_type: "not_finite".to_owned(),
                message: format!("the evaluator returned {x}, which is not a finite number"),
            },
        }
    }

    /// A category, with the number that stands for it where there is one.
    pub fn category(label: impl Into<String>, value: Option<Finite>) -> Self {
        Self::Scored { value, label: Some(label.into()), explanation: None }
    }

    /// A skipped evaluation.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped { reason: reason.into() }
    }

    /// The same with an explanation, if it is a score.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        if let Self::Scored { explanation, .. } = &mut self {
            *explanation = Some(why.into());
        }
        self
    }

    /// The number, where there is one.
    pub fn value(&self) -> Option<f64> {
        match self {
            Self::Scored { value, .. } => value.map(Finite::get),
            _ => None,
        }
    }

    /// The label, where there is one.
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Scored { label, .. } => label.as_deref(),
            _ => None,
        }
    }

    /// `scored`, `failed` or `skipped`.
    pub const fn state(&self) -> &'static str {
        match self {
            Self::Scored { .. } => "scored",
            Self::Failed { .. } => "failed",
            Self::Skipped { .. } => "skipped",
        }
    }
}

/// One evaluator's verdict on one trial. Identity: run, case, repeat, evaluator, version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Which evaluator.
    pub evaluator: EvaluatorId,
    /// Which version of it.
    pub version: String,
    /// What it said.
    pub evaluation: Evaluation,
}
