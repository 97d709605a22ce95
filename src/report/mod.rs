//! What people and programs read of a run: the report of last week's run is made as the one just finished, from the store.
//!
//! Reading order: [`collect`] (a run's facts as they stream by), [`document`] (the JSON of `run` and `show`), [`details`] and
//! [`distribution`] (what `show` adds), [`documents`] and [`trace_documents`] (the JSON of lists and of single things), then
//! the terminal: [`text`], [`style`], [`mod@format`] and [`table`] are its tools, [`terminal`] shows a run, [`lists`] the
//! lists, [`waterfall`] a trace. [`trace_align`] puts the spans of two traces side by side, [`text_diff`] two texts. Where
//! output goes is decided by the caller.

pub mod baseline;
pub mod collect;
pub mod compare;
pub mod csv;
pub mod details;
pub mod distribution;
pub mod document;
pub mod documents;
pub mod evidence;
pub mod files;
pub mod format;
pub mod frame;
pub mod html;
pub mod jsonl;
pub mod junit;
pub mod link;
pub mod lists;
mod look_back;
pub mod low;
pub mod markdown;
mod markdown_text;
pub mod results;
pub mod style;
pub mod table;
pub mod terminal;
pub mod text;
pub mod text_diff;
pub mod trace_align;
pub mod trace_critical;
pub mod trace_diff;
pub mod trace_documents;
pub mod trace_talk;
pub mod waterfall;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod stored;

pub use document::{Report, build};
pub use style::Style;
