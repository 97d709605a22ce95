//! What the views of a trace share: its outline as a tree, what is selected, what failed or scored low, what was searched.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;

use super::super::{PageContext, PageError, link};
use crate::model::{CaseId, SpanId};
use crate::report::format::count;
use crate::report::low::Yardstick;
use crate::store::rows::{SpanScore, SpanSkeleton, TraceSkeleton};
use crate::trace::critical_path::extent;
use crate::trace::tree::Tree;

/// How many spans may be folded at once: they all stand in the address.
const FOLDS: usize = 12;

/// The ways to look at a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Timeline,
    Conversation,
    Critical,
    Raw,
}

impl View {
    pub(super) const ALL: [Self; 4] = [Self::Timeline, Self::Conversation, Self::Critical, Self::Raw];

    /// As it stands in the address.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Timeline => "timeline",
            Self::Conversation => "conversation",
            Self::Critical => "critical",
            Self::Raw => "raw",
        }
    }

    /// As people read it.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Timeline => "Timeline",
            Self::Conversation => "Conversation",
            Self::Critical => "Critical path",
            Self::Raw => "Raw",
        }
    }

    pub(super) fn of(context: &PageContext) -> Result<Self, PageError> {
        let Some(word) = context.parameter("view") else { return Ok(Self::Timeline) };
        // The terminal's word for it is understood as well.
        let word = if word == "critical-path" { "critical" } else { word };
        let known = || Self::ALL.map(Self::word).join(", ");
        Self::ALL.into_iter().find(|view| view.word() == word).ok_or_else(|| {
            PageError::bad_request(format!("`{word}` is no view of a trace; the views are {}.", known()))
        })
    }
}

/// A trace as all views see it.
pub(super) struct Scene {
    pub(super) context: PageContext,
    pub(super) view: View,
    pub(super) skeleton: TraceSkeleton,
    pub(super) tree: Tree,
    pub(super) yardstick: Yardstick,
    /// Position of the selected span.
    pub(super) selected: Option<usize>,
    /// Whether the address names it.
    pub(super) chosen: bool,
    /// The evaluator by which the run decides.
    pub(super) primary: Option<String>,
    /// The cases of the trials' spans.
    pub(super) cases: BTreeMap<SpanId, CaseId>,
    /// Positions of failed spans.
    pub(super) errors: Vec<usize>,
    /// Positions of spans with a low score.
    pub(super) lows: Vec<usize>,
    /// What is searched for.
    pub(super) needle: Option<String>,
    /// Positions of the spans that were found.
    pub(super) hits: Vec<usize>,
    /// Positions whose descendants are folded away.
    pub(super) folded: BTreeSet<usize>,
    /// From when to when the timeline is drawn.
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Scene {
    /// Of an outline and an address.
    pub(super) fn new(
        context: &PageContext,
        skeleton: TraceSkeleton,
        yardstick: Yardstick,
        cases: BTreeMap<SpanId, CaseId>,
        found: impl FnOnce(&str, &TraceSkeleton) -> Result<BTreeSet<SpanId>, PageError>,
    ) -> Result<Self, PageError> {
        let tree = Tree::build(&skeleton.spans);
        let at = |position: usize| &skeleton.spans[tree.nodes[position].span];
        let positions = || 0..tree.nodes.len();
        let errors: Vec<usize> = positions().filter(|&position| at(position).status == ERROR).collect();
        let lows: Vec<usize> = positions()
            .filter(|&position| {
                let scores = skeleton.scores.get(&at(position).span_id);
                scores.into_iter().flatten().any(|score| yardstick.is_low(&score.name, &score.evaluation))
            })
            .collect();
        let ids = Ids { skeleton: &skeleton, tree: &tree };
        let named = context.parameter("span").map(|text| ids.find(text, context)).transpose()?;
        let deepest = errors.iter().enumerate().find(|&(i, &error)| {
            let end = error + tree.nodes[error].descendants;
            errors.get(i + 1).is_none_or(|&next| next > end)
        });
        let selected = named
            .or(lows.first().copied())
            .or(deepest.map(|(_, &error)| error))
            .or((!tree.nodes.is_empty()).then_some(0));
        let folds = context.parameter("fold").unwrap_or_default().split(',').take(FOLDS);
        let folded = folds.filter_map(|id| ids.exact(id.parse().ok()?)).collect();
        let zoomed = context.parameter("zoom").and_then(|id| ids.exact(id.parse().ok()?)).map(at);
        let (start, end) = extent(&skeleton.spans).unwrap_or((0, 1));
        let (from, to) = zoomed.map_or((start, end), |span| {
            (span.start_unix_nano, if span.end_unix_nano == 0 { end } else { span.end_unix_nano })
        });
        let needle = context.parameter("q").map(str::to_owned);
        let hits = match &needle {
            Some(needle) => {
                let found = found(needle, &skeleton)?;
                positions().filter(|&position| found.contains(&at(position).span_id)).collect()
            }
            None => Vec::new(),
        };
        Ok(Self {
            context: context.clone(),
            view: View::of(context)?,
            primary: None,
            cases,
            selected,
            chosen: named.is_some(),
            errors,
            lows,
            needle,
            hits,
            folded,
            from,
            to: to.max(from + 1),
            yardstick,
            tree,
            skeleton,
        })
    }

    /// The span at a position.
    pub(super) fn span(&self, position: usize) -> &SpanSkeleton {
        &self.skeleton.spans[self.tree.nodes[position].span]
    }

    /// Its scores: the low ones first, then the one by which the run decides.
    pub(super) fn scores(&self, position: usize) -> Vec<&SpanScore> {
        let mut scores: Vec<&SpanScore> =
            self.skeleton.scores.get(&self.span(position).span_id).into_iter().flatten().collect();
        scores.sort_by_key(|score| (!self.is_low(score), self.primary.as_deref() != Some(score.name.as_str())));
        scores
    }

    pub(super) fn is_low(&self, score: &SpanScore) -> bool {
        self.yardstick.is_low(&score.name, &score.evaluation)
    }

    /// This page with another span selected.
    pub(super) fn at(&self, position: usize) -> String {
        let id = self.span(position).span_id.to_string();
        self.context.with(&[("span", Some(&id)), ("page", None)]) + HERE
    }

    /// This page with the span of an id selected.
    pub(super) fn address_of(&self, span: SpanId) -> String {
        self.context.with(&[("span", Some(&span.to_string())), ("page", None)]) + HERE
    }

    /// The address of another span on this page, up to its id: short, because it stands in every row.
    pub(super) fn row_prefix(&self) -> String {
        let kept = ["view", "q", "fold", "zoom"].map(|name| (name, self.context.parameter(name)));
        let query = link::with_query("", kept);
        if query.is_empty() { "?span=".to_owned() } else { format!("{query}&span=") }
    }

    /// This page with a span folded or unfolded.
    pub(super) fn fold(&self, position: usize) -> Option<String> {
        let unfold = self.folded.contains(&position);
        if !unfold && self.folded.len() >= FOLDS {
            return None;
        }
        let kept = self.folded.iter().filter(|&&at| at != position).copied();
        let ids: Vec<String> =
            kept.chain((!unfold).then_some(position)).map(|at| self.span(at).span_id.to_string()).collect();
        let ids = ids.join(",");
        let address = self.context.with(&[("fold", Some(ids.as_str()))]);
        // Relative, because it stands in many rows; without any parameter left the path must be said.
        Some(address.strip_prefix(self.context.path()).filter(|rest| !rest.is_empty()).unwrap_or(&address).to_owned())
    }

    /// The next of these positions behind the selected one, from the top again at the end.
    pub(super) fn next_of(&self, positions: &[usize]) -> Option<usize> {
        let selected = self.selected?;
        let behind = positions.partition_point(|&at| at <= selected);
        positions.get(behind).or(positions.first()).copied().filter(|&at| at != selected)
    }

    /// The one before the selected one.
    pub(super) fn previous_of(&self, positions: &[usize]) -> Option<usize> {
        let selected = self.selected?;
        let before = positions.partition_point(|&at| at < selected);
        before.checked_sub(1).map(|at| positions[at]).or(positions.last().copied()).filter(|&at| at != selected)
    }

    /// Positions of what is to be seen wherever it is, low scores first.
    pub(super) fn faults(&self) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        self.lows.iter().chain(&self.errors).copied().filter(|&at| seen.insert(at)).collect()
    }

    /// Whether the trace may still grow: a span is open, or a parent has not come in yet.
    pub(super) fn is_unfinished(&self) -> bool {
        self.skeleton.spans.iter().any(|span| span.end_unix_nano == 0)
            || self.tree.nodes.iter().any(|node| node.marks.orphan)
    }

    /// How long a span took, up to the end of the trace if it is open.
    pub(super) fn length(&self, position: usize) -> u64 {
        let span = self.span(position);
        let end = if span.end_unix_nano == 0 {
            self.skeleton.row.start_unix_nano + self.skeleton.row.duration_ns
        } else {
            span.end_unix_nano
        };
        end.saturating_sub(span.start_unix_nano)
    }
}

/// Leads to the row of the selected span, so that it is in sight without any script.
pub(super) const HERE: &str = "#here";

/// OTLP's number of a failed span.
pub(super) const ERROR: i32 = 2;

/// Finds spans by their ids: one pass over the spans, for it is done once or twice a page.
struct Ids<'s> {
    skeleton: &'s TraceSkeleton,
    tree: &'s Tree,
}

impl Ids<'_> {
    fn exact(&self, id: SpanId) -> Option<usize> {
        self.tree.nodes.iter().position(|node| self.skeleton.spans[node.span].span_id == id)
    }

    /// By the whole id or the beginning of one.
    fn find(&self, text: &str, context: &PageContext) -> Result<usize, PageError> {
        let prefix = text.to_ascii_lowercase();
        if let Some(position) = prefix.parse().ok().and_then(|id| self.exact(id)) {
            return Ok(position);
        }
        let whole = || context.with(&[("span", None)]);
        let spans = self.skeleton.spans.iter().map(|span| span.span_id);
        let mut found: Vec<SpanId> =
            spans.filter(|id| prefix.len() < 16 && id.to_string().starts_with(&prefix)).take(9).collect();
        found.sort_unstable();
        match found.as_slice() {
            [] => Err(PageError::not_found(format!(
                "Trace {} has no span `{text}`; it has {} operations.",
                self.skeleton.row.trace_id,
                count(self.skeleton.row.operations)
            ))
            .instead("The whole trace", whole())),
            [only] => Ok(self.exact(*only).unwrap_or_default()),
            several => {
                let ids: Vec<String> = several.iter().take(8).map(ToString::to_string).collect();
                let message =
                    format!("`{text}` begins the ids of several spans: {}. Give more of the id.", ids.join(", "));
                Err(PageError::new(StatusCode::BAD_REQUEST, message).instead("The whole trace", whole()))
            }
        }
    }
}
