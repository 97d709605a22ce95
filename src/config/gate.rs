//! `[gate]`: what a run must hold to be let through.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::Suite;
use super::plan::PlanError;

/// `[gate]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "reference.toml says what each key means")]
pub struct GateSection {
    pub baseline: Option<PathBuf>,
    pub metrics: Option<BTreeMap<String, GateMetricSection>>,
    pub alpha: Option<f64>,
    pub horizon: Option<u32>,
    pub min_coverage: Option<f64>,
    pub max_error_share: Option<f64>,
    pub must_pass: Vec<String>,
    pub confirm: Option<u32>,
    pub allow: Vec<String>,
}

/// A metric of `[gate] metrics`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "reference.toml says what each key means")]
pub struct GateMetricSection {
    pub margin: Option<f64>,
}

/// The section with its numbers checked and its path resolved. What a metric's name means is known only with a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GatePlan {
    /// The baseline's file.
    pub baseline: Option<PathBuf>,
    /// Margins by metric, `None` for the default margin; `None` in all where the section names no metrics, which then are
    /// the default ones.
    pub metrics: Option<BTreeMap<String, Option<f64>>>,
    /// Error rate of each side of the decision.
    pub alpha: Option<f64>,
    /// Nights that it is spent over.
    pub horizon: Option<u32>,
    /// Least share of paired cases.
    pub min_coverage: Option<f64>,
    /// Largest share of errors.
    pub max_error_share: Option<f64>,
    /// Cases that must pass.
    pub must_pass: Vec<String>,
    /// Runs in a row that must fail.
    pub confirm: Option<u32>,
    /// What may differ.
    pub allow: Vec<String>,
}

impl GatePlan {
    /// The gate of a suite.
    pub fn resolve(suite: &Suite) -> Result<Self, PlanError> {
        let gate = &suite.gate;
        let check = |key: &str, x: Option<f64>, fits: fn(f64) -> bool, expected: &str| match x {
            Some(x) if !(x.is_finite() && fits(x)) => Err(super::plan::value(key, &x.to_string(), expected)),
            _ => Ok(()),
        };
        let share: fn(f64) -> bool = |x| (0.0..=1.0).contains(&x);
        check("[gate] alpha", gate.alpha, |x| x > 0.0 && x < 0.5, "a number above 0 and below 0.5")?;
        check("[gate] min_coverage", gate.min_coverage, share, "a share from 0 to 1")?;
        check("[gate] max_error_share", gate.max_error_share, share, "a share from 0 to 1")?;
        for (name, metric) in gate.metrics.iter().flatten() {
            let key = format!("[gate] metrics.{name} margin");
            check(&key, metric.margin, |x| x >= 0.0, "a number, 0 or more, in the metric's own unit")?;
        }
        super::plan::within("[gate] horizon", gate.horizon.unwrap_or(1).into(), 1, 10_000)?;
        super::plan::within("[gate] confirm", gate.confirm.unwrap_or(1).into(), 1, 100)?;
        Ok(Self {
            baseline: gate.baseline.as_deref().map(|path| suite.resolve(path)),
            metrics: gate
                .metrics
                .as_ref()
                .map(|metrics| metrics.iter().map(|(name, metric)| (name.clone(), metric.margin)).collect()),
            alpha: gate.alpha,
            horizon: gate.horizon,
            min_coverage: gate.min_coverage,
            max_error_share: gate.max_error_share,
            must_pass: gate.must_pass.clone(),
            confirm: gate.confirm,
            allow: gate.allow.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<GatePlan, String> {
        let suite = Suite::parse(text, "s.toml").map_err(|e| e.to_string())?;
        GatePlan::resolve(&suite).map_err(|e| e.to_string())
    }

    #[test]
    fn a_gate_is_read_with_its_margins() {
        let plan = resolve(
            "[gate]\nbaseline = \"b.json\"\nmetrics = { accuracy = { margin = 0.02 }, kappa = {} }\nhorizon = 7\n",
        )
        .expect("valid");
        assert_eq!(plan.metrics, Some([("accuracy".to_owned(), Some(0.02)), ("kappa".to_owned(), None)].into()));
        assert_eq!((plan.horizon, plan.baseline), (Some(7), Some(PathBuf::from("b.json"))));
        assert_eq!(resolve("[suite]\n"), Ok(GatePlan::default()));
        let cases =
            |metrics: &str| resolve(&format!("[gate]\nmust_pass = [\"c1\"]\n{metrics}")).expect("valid").metrics;
        assert_eq!((cases(""), cases("metrics = {}\n")), (None, Some(BTreeMap::new())));
    }

    #[test]
    fn numbers_that_would_open_the_gate_by_accident_are_refused() {
        for (text, wanted) in [
            ("alpha = 0.7", "[gate] alpha: found `0.7`"),
            ("alpha = nan", "[gate] alpha: found `NaN`"),
            ("min_coverage = 98", "[gate] min_coverage: found `98`, expected a share from 0 to 1"),
            ("max_error_share = -0.1", "[gate] max_error_share"),
            ("horizon = 0", "[gate] horizon: found `0`"),
            ("confirm = 0", "[gate] confirm"),
            ("metrics = { accuracy = { margin = -0.1 } }", "[gate] metrics.accuracy margin: found `-0.1`"),
            ("metrics = { accuracy = { margin = inf } }", "[gate] metrics.accuracy margin: found `inf`"),
            ("metrics = { accuracy = { margn = 0.1 } }", "did you mean `margin`?"),
            ("metric = {}", "did you mean `metrics`?"),
        ] {
            let error = resolve(&format!("[gate]\n{text}\n")).expect_err(text);
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
