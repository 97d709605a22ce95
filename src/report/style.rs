//! Whether colour may be used, and how wide the terminal is. Colour only repeats what words and marks say.

/// How to write for a terminal; decided by whoever knows the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether escape sequences for colour may be written.
    pub color: bool,
    /// Columns to fill.
    pub width: usize,
}

/// What a piece of text is, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// A heading.
    Strong,
    /// Less important.
    Faint,
    /// Good news.
    Good,
    /// Bad news.
    Bad,
    /// Something to look at.
    Warn,
}

impl Style {
    /// No colour and a fixed width, as for files and tests.
    pub const fn plain(width: usize) -> Self {
        Self { color: false, width }
    }

    /// The text in the colour of its tone, if colour is allowed. The text must be clean already.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Warn => "33",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_written_only_where_colour_is_allowed() {
        assert_eq!(Style::plain(80).paint(Tone::Bad, "x"), "x");
        assert_eq!(Style { color: true, width: 80 }.paint(Tone::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
