//! What the run recorded of the trial that a span belongs to: the claim, what was expected and answered, and the same case in
//! other runs. It is in the store even where the spans carry no content.

use maud::{Markup, html};

use super::super::layout::{block, text};
use super::super::{PageError, link, parts};
use super::scene::Scene;
use super::values::{Budget, long_text};
use crate::model::{CaseId, RunSpec, SpanId, Value};
use crate::report::documents::{self, CaseEntry, CaseHistory};
use crate::store::Reader;
use crate::store::rows::{SpanDetail, TraceSkeleton};
use crate::trace::semconv;
use crate::trace::tree::Tree;

/// How many other trials of the case are listed.
const OTHERS: usize = 6;

/// The trial and its siblings in other runs.
pub(super) struct Record {
    history: CaseHistory,
    dataset: String,
    /// Place of the trial in the history.
    this: usize,
}

impl Record {
    /// Of a span or the trial's span above it; `None` where it belongs to no trial.
    pub(super) fn find(
        reader: &Reader,
        spec: &RunSpec,
        skeleton: &TraceSkeleton,
        tree: &Tree,
        position: usize,
        detail: &SpanDetail,
    ) -> Result<Option<Self>, PageError> {
        let id = |position: usize| skeleton.spans[tree.nodes[position].span].span_id;
        let is_trial =
            |position: &usize| skeleton.spans[tree.nodes[*position].span].name == semconv::span::ASSESS_CLAIM;
        // Deep traces of other applications have no trial above them; nobody's patience is at risk within this limit.
        let Some(trial) = std::iter::once(position).chain(tree.ancestors(position).take(64)).find(is_trial) else {
            return Ok(None);
        };
        let of_trial;
        let span = if trial == position {
            &detail.span
        } else {
            of_trial = reader.span(skeleton.row.trace_id, id(trial))?;
            &of_trial.span
        };
        let Some(Value::Str(case)) = span.get(semconv::TEST_CASE_ID) else { return Ok(None) };
        let Ok(case) = CaseId::parse(case.to_string()) else { return Ok(None) };
        let dataset = spec.dataset.name.clone();
        let Some(history) = documents::find_case(reader, &case, Some(&dataset))?.history else { return Ok(None) };
        let this = history.runs.iter().position(|trial| trial.span_id == Some(span.span_id));
        Ok(this.map(|this| Self { history, dataset, this }))
    }

    /// The section of the panel: all of it on the trial's own span, only the texts below it.
    pub(super) fn markup(&self, scene: &Scene, span: SpanId, budget: &mut Budget) -> Markup {
        let trial = &self.history.runs[self.this];
        let own = trial.span_id == Some(span);
        html! {
            section {
                h3 {
                    @if own { "Case " } @else { "Belongs to case " }
                    a href=(link::case(&self.dataset, &self.history.case_id)) { (text(&self.history.case_id)) }
                }
                dl.facts {
                    dt { "Claim" } dd { (long_text(&self.history.claim, budget)) }
                    dt { "Context" } dd { (long_text(&self.history.context, budget)) }
                    dt { "Expected" } dd { @match trial.expected { Some(label) => span.badge { (label) }, None => (parts::absent()) } }
                    dt { "Output" } dd { (parts::output(trial.output, trial.expected, parts::trial_status(trial))) }
                    @if let Some(raw) = &trial.raw_output {
                        dt { "Answer" } dd { @if raw.is_empty() { span.absent { "empty text" } } @else { pre.prose { (block(budget.take(raw).0)) } } }
                    }
                    @if let Some(reason) = &trial.reason { dt { "Reason" } dd { (text(budget.take(reason).0)) } }
                }
                @if own { (self.others(scene)) }
            }
        }
    }

    /// The case in other runs, with what differs between the traces one click away.
    fn others(&self, scene: &Scene) -> Markup {
        let here = scene.skeleton.row.trace_id;
        let others: Vec<&CaseEntry> = self
            .history
            .runs
            .iter()
            .enumerate()
            .filter(|(at, trial)| *at != self.this && trial.trace_id.is_some())
            .map(|(_, trial)| trial)
            .take(OTHERS)
            .collect();
        html! {
            @if !others.is_empty() {
                h4 { "The same case elsewhere" }
                ul.others {
                    @for trial in others {
                        li {
                            (parts::output(trial.output, trial.expected, parts::trial_status(trial)))
                            " "
                            @if let Some(run) = &trial.run_id { a href=(link::run(run)) { (run) } }
                            @if trial.repeat > 0 { " #" (trial.repeat) }
                            @if let Some(id) = trial.trace_id {
                                " · " a href=(link::trace(id, trial.span_id)) { "trace" }
                                @if id != here { " · " a href=(link::path(&["traces", &here.to_string(), "diff", &id.to_string()])) { "what differs" } }
                            }
                        }
                    }
                }
            }
        }
    }
}
