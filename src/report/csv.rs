//! The table of results as CSV (RFC 4180, UTF-8), safe to open in a spreadsheet: text that a spreadsheet would take for a
//! formula gets an apostrophe in front, as OWASP's page on CSV injection advises.

use std::borrow::Cow;
use std::io::{self, Write};

use super::results::{Cell, Results};
use crate::store::rows::RunRow;
use crate::store::{Reader, StoreError};

/// Writes the table; gives the number of rows without the header.
pub fn write(
    reader: &Reader,
    run: &RunRow,
    results: &Results<'_>,
    out: &mut dyn Write,
) -> Result<io::Result<u64>, StoreError> {
    let mut table = csv::Writer::from_writer(out);
    let header = results.header();
    let mut written = table.write_record(header.iter().map(|(name, _)| safe(name).into_owned()));
    let mut rows = 0;
    reader.for_each_row(run, &mut |row| {
        if written.is_ok() {
            written = table.write_record(results.row(&row).iter().map(shown));
            rows += 1;
        }
    })?;
    Ok(written.map_err(io::Error::from).and_then(|()| table.flush()).map(|()| rows))
}

fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => safe(text.as_deref().unwrap_or_default()).into_owned(),
        Cell::Number(number) => number.map(|x| x.to_string()).unwrap_or_default(),
        Cell::Count(count) => count.map(|n| n.to_string()).unwrap_or_default(),
    }
}

/// The text, such that no spreadsheet calculates it.
fn safe(text: &str) -> Cow<'_, str> {
    // A spreadsheet skips blanks and what it cannot show before it looks for a formula; some read full-width signs as well.
    let first = text.trim_start_matches([' ', '\u{a0}', '\u{feff}', '\u{200b}']).chars().next();
    match first {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠') => {
            Cow::Owned(format!("'{text}"))
        }
        _ => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_begins_like_a_formula() {
        for (text, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("=1+1", "'=1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("-2+3", "'-2+3"),
            ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
            ("\t=1", "'\t=1"),
            ("  =1", "'  =1"),
            ("＝1+1", "'＝1+1"),
            ("a=b", "a=b"),
        ] {
            assert_eq!(safe(text), expected);
        }
        // Numbers are numbers, whatever their sign.
        assert_eq!(shown(&Cell::Number(Some(-0.5))), "-0.5");
        assert_eq!((shown(&Cell::Number(None)), shown(&Cell::Count(Some(0)))), (String::new(), "0".to_owned()));
    }
}
