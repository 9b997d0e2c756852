//! Cells of a table: plain text in one or more tones.
//!
//! Width is measured on the text, never on its colour codes. Characters that could move a terminal's
//! cursor or reorder a line are replaced when a cell is made.

use unicode_width::UnicodeWidthStr;

use crate::terminal::{Style, Tone};

/// The sign at the end of text that was cut.
pub const ELLIPSIS: &str = "…";

/// The text of one cell, in pieces of one tone each.
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
    /// A cell in one tone.
    pub fn toned(tone: Tone, text: impl AsRef<str>) -> Self {
        Cell { pieces: vec![(Some(tone), clean(text.as_ref()))] }
    }

    /// The same cell with more text after it.
    #[must_use]
    pub fn then(mut self, more: impl Into<Cell>) -> Self {
        self.pieces.extend(more.into().pieces);
        self
    }

    /// The columns of a terminal that the text takes.
    pub fn width(&self) -> usize {
        self.pieces.iter().map(|(_, text)| text.width()).sum()
    }

    /// The same cell, cut to at most `columns`.
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

    /// The text in colour, cut to at most `columns`, and the columns that it takes.
    pub fn paint(&self, style: Style, columns: usize) -> (String, usize) {
        let shown = self.clone().cut(columns);
        let text = shown.pieces.iter().map(|(tone, text)| paint(style, *tone, text)).collect();
        (text, shown.width())
    }
}

fn paint(style: Style, tone: Option<Tone>, text: &str) -> String {
    match tone {
        Some(tone) if !text.is_empty() => style.paint(tone, text),
        _ => text.to_owned(),
    }
}

/// The longest beginning of the text that takes at most `columns`.
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

/// The text with spaces for control characters and for marks that change the direction of writing.
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
        assert_eq!(Cell::from(text).paint(Style::plain(), columns).0, expected);
    }

    #[test]
    fn text_is_cut_by_the_columns_it_takes() {
        check("carrier", 7, "carrier");
        check("carrier", 4, "car…");
        check("東京都", 5, "東京…");
        check("東京都", 4, "東…");
        check("e\u{301}te\u{301}", 2, "e\u{301}…");
        check("", 3, "");
    }

    #[test]
    fn colours_take_no_columns_and_end_with_the_cell() {
        let cell =
            Cell::toned(Tone::Bad, "before").then(" → ").then(Cell::toned(Tone::Good, "after"));
        assert_eq!(cell.width(), 14);
        let (text, width) = cell.paint(Style::colored(), 11);
        assert_eq!((text.as_str(), width), ("\x1b[31mbefore\x1b[0m → \x1b[32ma…\x1b[0m", 11));
    }

    #[test]
    fn nothing_in_a_cell_moves_the_cursor() {
        assert_eq!(clean("a\x1b[31m\nb\u{202E}c"), "a [31m b c");
    }
}
