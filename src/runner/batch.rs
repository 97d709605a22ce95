//! A batch: the trace that groups a few trials. It groups and nothing else; concurrency counts model calls.

use std::sync::Mutex;

use crate::model::{EvaluatorSpec, Span, SpanId, Status, TraceId};
use crate::trace::semconv as sc;

/// Sums of the values of each evaluator, in the suite's order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Means(Vec<(f64, u64)>);

impl Means {
    /// Starts from sums and counts.
    pub fn new(sums: Vec<(f64, u64)>) -> Self {
        Self(sums)
    }

    /// Adds the values of a trial's scores.
    pub fn add(&mut self, values: &[Option<f64>]) {
        self.0.resize(self.0.len().max(values.len()), (0.0, 0));
        for (sum, value) in self.0.iter_mut().zip(values) {
            if let Some(value) = value {
                *sum = (sum.0 + value, sum.1 + 1);
            }
        }
    }

    /// Puts the means on a span, for the evaluators that gave a number at all.
    pub fn set_on(&self, span: &mut Span, specs: &[EvaluatorSpec]) {
        for (spec, (sum, n)) in specs.iter().zip(&self.0) {
            if *n > 0 {
                span.set(sc::mean_key(spec.id.as_str()), sum / *n as f64);
            }
        }
    }
}

struct State {
    root: Span,
    open: u32,
    cut: bool,
    means: Means,
}

/// The open root span of a batch and what its trials add to it.
pub struct Batch {
    /// The batch's trace.
    pub trace_id: TraceId,
    /// Its root span.
    pub root_id: SpanId,
    state: Mutex<Option<State>>,
}

impl Batch {
    /// A batch of `size` trials under this open root.
    pub fn new(root: Span, size: u32) -> Self {
        let (trace_id, root_id) = (root.trace_id, root.span_id);
        let state = State { root, open: size, cut: false, means: Means::default() };
        Self { trace_id, root_id, state: Mutex::new(Some(state)) }
    }

    /// Takes off a trial that ended and was recorded. Returns the root span when it was the last, to be ended.
    pub fn ended(&self, values: &[Option<f64>], specs: &[EvaluatorSpec]) -> Option<Span> {
        self.take_off(1, specs, |state| state.means.add(values))
    }

    /// Takes off trials that will not start. Returns the root span if nothing is left, to be ended.
    pub fn cut_off(&self, trials: u32, specs: &[EvaluatorSpec]) -> Option<Span> {
        self.take_off(trials, specs, |state| state.cut = true)
    }

    /// Closes the batch whatever is open, if it is not closed yet.
    pub fn abandon(&self, specs: &[EvaluatorSpec]) -> Option<Span> {
        self.take_off(u32::MAX, specs, |state| state.cut = true)
    }

    /// Whether its root span has been given out.
    pub fn is_closed(&self) -> bool {
        self.state.lock().expect("no holder panics").is_none()
    }

    fn take_off(&self, trials: u32, specs: &[EvaluatorSpec], change: impl FnOnce(&mut State)) -> Option<Span> {
        let mut guard = self.state.lock().expect("no holder panics");
        let state = guard.as_mut()?;
        change(state);
        state.open = state.open.saturating_sub(trials);
        if state.open > 0 {
            return None;
        }
        let State { mut root, cut, means, .. } = guard.take()?;
        means.set_on(&mut root, specs);
        if cut {
            root.status = Status::Error("interrupted".to_owned());
        }
        Some(root)
    }
}
