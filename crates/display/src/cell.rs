//! Cells of a table: text in one or more styles (tones).
//!
//! The width excludes color codes. When a cell is created, characters that could move the cursor or
//! reorder the line are replaced.

use unicode_width::UnicodeWidthStr;

use crate::terminal::{OutputStyle, Tone};

/// The mark at the end of truncated text.
pub const ELLIPSIS: &str = "…";

/// The text of one cell: pieces with one tone each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    pieces: Vec<(Option<Tone>, String)>,
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell { pieces: vec![(None, clean(text.as_ref()))] }
    }
}

impl Cell {
    /// Creates a cell whose whole text has one tone.
    pub fn toned(tone: Tone, text: impl AsRef<str>) -> Self {
        Cell { pieces: vec![(Some(tone), clean(text.as_ref()))] }
    }

    /// Appends text.
    #[must_use]
    pub fn then(mut self, more: impl Into<Cell>) -> Self {
        self.pieces.extend(more.into().pieces);
        self
    }

    /// Returns the display width in columns.
    pub fn width(&self) -> usize {
        self.pieces.iter().map(|(_, text)| text.width()).sum()
    }

    /// Truncates the cell to at most `columns`.
    #[must_use]
    pub fn cut(mut self, columns: usize) -> Self {
        if self.width() <= columns {
            return self;
        }
        if columns == 0 {
            return Cell::default();
        }
        let mut left = columns - 1;
        for place in 0..self.pieces.len() {
            let piece = &mut self.pieces[place].1;
            let end = prefix(piece, left).len();
            left -= piece[..end].width();
            if end < piece.len() {
                piece.truncate(end);
                piece.push_str(ELLIPSIS);
                self.pieces.truncate(place + 1);
                break;
            }
        }
        self
    }

    /// Returns the colored text, truncated to at most `columns`, and its width.
    pub fn paint(&self, style: OutputStyle, columns: usize) -> (String, usize) {
        let shown = self.clone().cut(columns);
        let text = shown.pieces.iter().map(|(tone, text)| paint(style, *tone, text)).collect();
        (text, shown.width())
    }
}

fn paint(style: OutputStyle, tone: Option<Tone>, text: &str) -> String {
    match tone {
        Some(tone) if !text.is_empty() => style.paint(tone, text),
        _ => text.to_owned(),
    }
}

/// Returns the longest prefix of at most `columns`.
fn prefix(text: &str, columns: usize) -> &str {
    let mut end = 0;
    for (start, c) in text.char_indices() {
        let next = start + c.len_utf8();
        if text[..next].width() > columns {
            break;
        }
        end = next;
    }
    &text[..end]
}

/// Replaces control characters and bidirectional marks by spaces.
pub fn clean(text: &str) -> String {
    let moves = |c: char| {
        c.is_control()
            || matches!(c, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if moves(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, columns: usize, expected: &str) {
        assert_eq!(Cell::from(text).paint(OutputStyle::plain(), columns).0, expected);
    }

    #[test]
    fn text_is_truncated_by_display_width() {
        check("carrier", 7, "carrier");
        check("carrier", 4, "car…");
        check("東京都", 5, "東京…");
        check("東京都", 4, "東…");
        check("e\u{301}te\u{301}", 2, "e\u{301}…");
        check("", 3, "");
    }

    #[test]
    fn colors_have_no_width_and_end_with_the_cell() {
        let cell =
            Cell::toned(Tone::Bad, "before").then(" → ").then(Cell::toned(Tone::Good, "after"));
        assert_eq!(cell.width(), 14);
        let (text, width) = cell.paint(OutputStyle::colored(), 11);
        assert_eq!((text.as_str(), width), ("\x1b[31mbefore\x1b[0m → \x1b[32ma…\x1b[0m", 11));
    }

    #[test]
    fn cells_contain_no_control_characters() {
        assert_eq!(clean("a\x1b[31m\nb\u{202E}c"), "a [31m b c");
    }
}
