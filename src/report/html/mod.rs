//! What stands in HTML, in the pages of `serve` and in the report that is one file: [`svg`] draws, `base.css` is the style of both.

use std::borrow::Cow;

use super::text::clean;

pub mod cases;
pub mod compare;
pub mod confusion;
pub mod links;
pub mod svg;
pub mod verdict;
pub mod waterfall;

/// Text from models, datasets and traces on one line, fit for a page: nothing in it hides or reorders what stands around it.
pub fn text(text: &str) -> Cow<'_, str> {
    clean(text)
}

/// The same with its line breaks and tabs, for blocks of text.
pub fn block(text: &str) -> String {
    let line = |line: &str| line.split('\t').map(clean).collect::<Vec<_>>().join("\t");
    text.replace("\r\n", "\n").split('\n').map(line).collect::<Vec<_>>().join("\n")
}
