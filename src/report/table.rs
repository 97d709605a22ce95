//! Tables for the terminal: columns as wide as they need, and one that gets what is left and is cut to it.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use super::style::{Style, Tone};
use super::text;

/// A table that is being filled.
pub struct Sheet {
    style: Style,
    headers: Vec<&'static str>,
    right: Vec<bool>,
    rows: Vec<Vec<(String, Option<Tone>)>>,
    flexible: Option<usize>,
}

/// Between two columns.
const GAP: usize = 2;
/// The flexible column never gets narrower, even if lines then overflow.
const LEAST: usize = 16;

impl Sheet {
    /// A table with these headers; one that begins with `>` stands over a column that is aligned to the right.
    pub fn new(style: Style, headers: &[&'static str]) -> Self {
        let right = headers.iter().map(|header| header.starts_with('>')).collect();
        let headers = headers.iter().map(|header| header.strip_prefix('>').unwrap_or(header)).collect();
        Self { style, headers, right, rows: Vec::new(), flexible: None }
    }

    /// Lets a column be cut to what the others leave of the width.
    #[must_use]
    pub fn flexible(mut self, column: usize) -> Self {
        self.flexible = Some(column);
        self
    }

    /// Adds a row of texts; they are cleaned here.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.toned(cells.into_iter().map(|cell| (cell.into(), None)));
    }

    /// Adds a row of texts with their tones.
    pub fn toned(&mut self, cells: impl IntoIterator<Item = (String, Option<Tone>)>) {
        self.rows.push(cells.into_iter().map(|(cell, tone)| (text::clean(&cell).into_owned(), tone)).collect());
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table, each line ended by a line break, each indented by `indent` columns.
    pub fn render(mut self, indent: usize) -> String {
        if let Some(flexible) = self.flexible {
            let mut room = self.style.width.saturating_sub(indent);
            for column in (0..self.headers.len()).filter(|column| *column != flexible) {
                let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| text::width(&cell.0));
                room = room.saturating_sub(cells.chain([text::width(self.headers[column])]).max().unwrap_or(0) + GAP);
            }
            for cell in self.rows.iter_mut().filter_map(|row| row.get_mut(flexible)) {
                cell.0 = text::cut(&cell.0, room.max(LEAST));
            }
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if self.style.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(self.headers.iter().map(|header| Cell::new(header).add_attribute(Attribute::Bold)));
        for row in self.rows {
            table.add_row(row.into_iter().map(|(content, tone)| {
                let cell = Cell::new(content);
                match tone {
                    None => cell,
                    Some(Tone::Strong) => cell.add_attribute(Attribute::Bold),
                    Some(Tone::Faint) => cell.add_attribute(Attribute::Dim),
                    Some(Tone::Good) => cell.fg(Color::DarkGreen),
                    Some(Tone::Bad) => cell.fg(Color::DarkRed),
                    Some(Tone::Warn) => cell.fg(Color::DarkYellow),
                }
            }));
        }
        for (column, &right) in table.column_iter_mut().zip(&self.right) {
            column.set_padding((0, GAP as u16));
            column.set_cell_alignment(if right { CellAlignment::Right } else { CellAlignment::Left });
        }
        let indent = " ".repeat(indent);
        let mut out = String::new();
        for line in table.lines() {
            text::put!(out, "{indent}{}\n", line.trim_end());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flexible_column_gets_what_is_left() {
        let mut sheet = Sheet::new(Style::plain(34), &["id", "claim", ">n"]).flexible(1);
        sheet.row(["a", "a claim that is longer than its column", "7"]);
        sheet.row(["b\u{1b}[2J", "短い", "123"]);
        assert_eq!(
            sheet.render(1),
            " id     claim                    n\n a      a claim that is long…    7\n b␛[2J  短い                   123\n"
        );
    }

    #[test]
    fn colour_does_not_change_the_width() {
        let render = |color| {
            let mut sheet = Sheet::new(Style { color, width: 40 }, &["a", "b"]);
            sheet.toned([("x".to_owned(), Some(Tone::Bad)), ("y".to_owned(), None)]);
            sheet.render(0)
        };
        assert!(render(true).contains("\u{1b}["));
        assert!(!render(false).contains('\u{1b}'));
    }
}
