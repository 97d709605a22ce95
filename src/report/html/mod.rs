//! What stands in HTML, in the pages of `serve` and in the report that is one file.
//!
//! [`svg`] draws; [`agreement`], [`verdict`], [`compare`], [`confusion`] and [`waterfall`] are parts of both; [`links`] is where their things lead.
//! [`document`] is the file with its table of [`cases`]. `base.css` is the style of both, `report.css` and `report.js` belong to
//! the file.

use std::borrow::Cow;
use std::fmt::Write as _;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::text::clean;

pub mod agreement;
pub mod cases;
pub mod compare;
pub mod confusion;
pub mod document;
pub mod links;
pub mod svg;
pub mod trend;
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

/// The address in a report file at which its table shows the cases with these values.
fn address_in_file(wanted: &[(&str, &str)]) -> String {
    let mut address = String::new();
    for (i, (name, value)) in wanted.iter().enumerate() {
        let mark = if i == 0 { '#' } else { '&' };
        let _ = write!(address, "{mark}{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    }
    address
}
