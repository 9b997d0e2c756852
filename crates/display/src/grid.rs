//! Tables as text: aligned columns without a frame, never wider than the terminal.
//!
//! If a table is too wide, its widest texts are truncated with `…`. If the table is still too wide,
//! columns are hidden, and a notice states their number. In expanded form, each row is a list with
//! one line per column.

use crate::cell::{Cell, ELLIPSIS};
use crate::output;
use crate::terminal::{OutputStyle, Tone};

/// The spaces between two columns.
const GAP: usize = 2;

/// The minimum width of truncated text. If less width is available, columns are hidden.
const TEXT_WIDTH_MIN: usize = 20;

/// A table, printed when complete.
pub struct Grid {
    style: OutputStyle,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

/// A column of a table.
struct Column {
    title: Cell,
    is_number: bool,
    /// If the table is too wide, columns of a higher rank are hidden first.
    rank: usize,
}

impl Grid {
    /// Creates an empty table; a heading with the prefix `>` has a column of right-aligned numbers.
    pub fn new(style: OutputStyle, headings: &[&str]) -> Self {
        let columns = headings.iter().map(|heading| Column {
            title: Cell::toned(Tone::Faint, heading.strip_prefix('>').unwrap_or(heading)),
            is_number: heading.starts_with('>'),
            rank: 0,
        });
        Grid { style, columns: columns.collect(), rows: Vec::new(), indent: 0 }
    }

    /// Sets the headings of the columns that are hidden first if the table is too wide, in this
    /// order.
    #[must_use]
    pub fn hide_first(mut self, headings: &[&str]) -> Self {
        for (index, heading) in headings.iter().enumerate() {
            let title = Cell::toned(Tone::Faint, heading);
            for column in self.columns.iter_mut().filter(|column| column.title == title) {
                column.rank = headings.len() - index;
            }
        }
        self
    }

    /// Indents each line by this number of spaces.
    #[must_use]
    pub fn indented(self, indent: usize) -> Self {
        Grid { indent, ..self }
    }

    /// Adds a row.
    pub fn row<T: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Prints the table, or `empty` if it has no rows.
    pub fn print(self, empty: &str) {
        if self.rows.is_empty() {
            return self.style.say(empty);
        }
        output::line(self.text());
    }

    /// Returns the table as text, without trailing spaces and final line end.
    pub fn text(&self) -> String {
        let lines = if self.style.is_expanded() { self.expanded() } else { self.aligned() };
        let indent = " ".repeat(self.indent);
        let lines = lines.iter().map(|line| match line.trim_end() {
            "" => String::new(),
            line => format!("{indent}{line}"),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn width(&self) -> Option<usize> {
        Some(self.style.width()?.saturating_sub(self.indent).max(1))
    }

    fn aligned(&self) -> Vec<String> {
        let extents: Vec<ColumnWidthRange> =
            (0..self.columns.len()).map(|index| self.extent(index)).collect();
        let layout = VisibleColumns::new(&extents, self.width());
        let titles: Vec<Cell> = self.columns.iter().map(|column| column.title.clone()).collect();
        let mut lines = vec![self.line(&layout, &titles)];
        lines.extend(self.rows.iter().map(|row| self.line(&layout, row)));
        let named = |index: &usize| self.columns[*index].title.width() > 0;
        let all = (0..self.columns.len()).filter(named).count();
        let shown = layout.widths.iter().filter(|(index, _)| named(index)).count();
        if shown < all {
            let notice = format!("{all} columns ({shown} shown); `--expanded` shows all");
            lines.push(Cell::toned(Tone::Faint, notice).paint(self.style, self.fitting()).0);
        }
        lines
    }

    /// Returns the maximum width of a line; unlimited if the output is not a terminal.
    fn fitting(&self) -> usize {
        self.width().unwrap_or(usize::MAX)
    }

    fn extent(&self, index: usize) -> ColumnWidthRange {
        let column = &self.columns[index];
        let cells = self.rows.iter().filter_map(|row| row.get(index)).map(Cell::width);
        let natural = cells.chain([column.title.width()]).max().unwrap_or_default();
        let least = if column.is_number { natural } else { natural.min(TEXT_WIDTH_MIN) };
        ColumnWidthRange { natural, least, rank: column.rank }
    }

    fn line(&self, layout: &VisibleColumns, cells: &[Cell]) -> String {
        let mut line = String::new();
        // Write spaces only if text follows, so that lines have no trailing spaces.
        let mut pending = 0;
        for (place, (index, width)) in layout.widths.iter().enumerate() {
            if place == layout.marker {
                line.push_str(&" ".repeat(std::mem::take(&mut pending)));
                line.push_str(&self.style.paint(Tone::Faint, ELLIPSIS));
                pending = GAP;
            }
            let empty = Cell::default();
            let cell = cells.get(*index).unwrap_or(&empty);
            let (text, taken) = cell.paint(self.style, *width);
            let free = width - taken;
            let (before, after) =
                if self.columns[*index].is_number { (free, 0) } else { (0, free) };
            pending += before;
            if taken > 0 {
                line.push_str(&" ".repeat(std::mem::take(&mut pending)));
                line.push_str(&text);
            }
            pending += after + GAP;
        }
        line
    }

    fn expanded(&self) -> Vec<String> {
        let titles = self.columns.iter().map(|column| column.title.width());
        let title_width = titles.max().unwrap_or_default().min(self.fitting() / 2);
        let value_width = self.fitting().saturating_sub(title_width + 2 * GAP).max(1);
        let mut lines = Vec::new();
        for (number, row) in self.rows.iter().enumerate() {
            if number > 0 {
                lines.push(String::new());
            }
            lines.push(self.style.paint(Tone::Strong, format!("row {}", number + 1)));
            for (column, cell) in self.columns.iter().zip(row) {
                let (title, taken) = column.title.paint(self.style, title_width);
                let pad = " ".repeat(title_width - taken + GAP);
                lines.push(format!("  {title}{pad}{}", cell.paint(self.style, value_width).0));
            }
        }
        lines
    }
}

/// The minimum and the natural width of a column, and its rank.
struct ColumnWidthRange {
    /// The width of the column's widest cell.
    natural: usize,
    /// The minimum width: the column is hidden if less is available.
    least: usize,
    rank: usize,
}

/// The visible columns.
struct VisibleColumns {
    /// The index and width of each visible column, in order.
    widths: Vec<(usize, usize)>,
    /// Position among the visible columns at which a mark stands for the hidden ones; past the end
    /// if no mark is shown.
    marker: usize,
}

impl VisibleColumns {
    fn new(extents: &[ColumnWidthRange], width: Option<usize>) -> Self {
        let all: Vec<usize> = (0..extents.len()).collect();
        let Some(width) = width else {
            let widths = all.iter().map(|index| (*index, extents[*index].natural)).collect();
            return VisibleColumns { widths, marker: usize::MAX };
        };
        let least = |index: &usize| extents[*index].least;
        let mut shown = all;
        let mut reserved = 0;
        let mut marker = usize::MAX;
        if needed(shown.iter().map(least)) > width {
            // Without ranks, columns are hidden from the middle of the table, and a mark is shown
            // in their place.
            let is_ranked = extents.iter().any(|extent| extent.rank > 0);
            reserved = if is_ranked { 0 } else { 1 + GAP };
            shown = kept(extents, width.saturating_sub(reserved));
            let gap = shown.iter().enumerate().find(|(place, index)| place != *index);
            if !is_ranked && shown.len() > 1 {
                marker = gap.map_or(usize::MAX, |(place, _)| place);
            }
        }
        let gaps = GAP * shown.len().saturating_sub(1) + reserved;
        let budget = width.saturating_sub(gaps).max(1);
        let cap = cap(&shown.iter().map(|index| &extents[*index]).collect::<Vec<_>>(), budget);
        let fit = |index: usize| (index, extents[index].fit(cap).min(budget));
        VisibleColumns { widths: shown.into_iter().map(fit).collect(), marker }
    }
}

impl ColumnWidthRange {
    fn fit(&self, cap: usize) -> usize {
        self.natural.min(cap).max(self.least)
    }
}

fn needed(widths: impl Iterator<Item = usize>) -> usize {
    widths.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
}

/// Returns the columns that fit with their minimum widths, but at least one. Prefers columns with a
/// lower rank and, among columns of equal rank, those near the edges of the table.
fn kept(extents: &[ColumnWidthRange], width: usize) -> Vec<usize> {
    let last = extents.len().saturating_sub(1);
    let from_end = |index: usize| (2 * index).min(2 * (last - index) + 1);
    let mut order: Vec<usize> = (0..extents.len()).collect();
    order.sort_by_key(|index| (extents[*index].rank, from_end(*index)));
    let mut shown: Vec<usize> = Vec::new();
    for index in order {
        let with = shown.iter().chain([&index]).map(|index| extents[*index].least);
        if needed(with) > width && !shown.is_empty() {
            break;
        }
        shown.push(index);
    }
    shown.sort_unstable();
    shown
}

/// Returns the largest limit on the width of each column with which all columns fit.
fn cap(extents: &[&ColumnWidthRange], budget: usize) -> usize {
    let widest = extents.iter().map(|extent| extent.natural).max().unwrap_or_default();
    let fits = |cap: usize| extents.iter().map(|extent| extent.fit(cap)).sum::<usize>() <= budget;
    let (mut low, mut high) = (0, widest);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if fits(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(style: OutputStyle, headings: &[&str], rows: &[&[&str]]) -> Grid {
        let mut grid = Grid::new(style, headings);
        for row in rows {
            grid.row(row.iter().copied());
        }
        grid
    }

    #[test]
    fn columns_are_aligned_by_visible_width() {
        let rows: [&[&str]; 2] = [&["東京", "3", "x"], &["Oslo", "12", ""]];
        let text = table(OutputStyle::plain(), &["CITY", ">N", "NOTE"], &rows).text();
        assert_eq!(text, "CITY   N  NOTE\n東京   3  x\nOslo  12");
    }

    #[test]
    fn the_widest_text_is_cut_first() {
        let rows: [&[&str]; 1] = [&["a1", &"w".repeat(50), &"v".repeat(22)]];
        let text = table(OutputStyle::plain().with_width(60), &["ID", "WHAT", "WHY"], &rows).text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], format!("a1  {}…  {}", "w".repeat(31), "v".repeat(22)));
    }

    #[test]
    fn columns_in_the_middle_are_left_out_with_a_mark_and_a_notice() {
        let headings: Vec<String> = (0..12).map(|n| format!(">column_{n:02}")).collect();
        let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
        let text = table(OutputStyle::plain().with_width(60), &headings, &[&["1"; 12]]).text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "column_00  column_01  column_02  …  column_10  column_11");
        assert_eq!(lines[1].replace(' ', ""), "111…11");
        assert_eq!(lines[2], "12 columns (5 shown); `--expanded` shows all");
    }

    #[test]
    fn low_priority_columns_are_hidden_first() {
        let headings = ["JOB", ">WAITED", ">CPU", "WHAT"];
        let rows: [&[&str]; 1] = [&["3fa9c1", "12 ms", "3 ms", "SELECT something from somewhere"]];
        let grid = table(OutputStyle::plain().with_width(36), &headings, &rows);
        let text = grid.hide_first(&["CPU", "WAITED"]).text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "JOB     WAITED  WHAT");
        assert_eq!(lines[1], "3fa9c1   12 ms  SELECT something fr…");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let long = "x".repeat(300);
        let row = ["1", "two", &long, "東京東京東京東京東京東京東京", ""];
        let headings = [">N", "B", "LONG", "CITY", "EMPTY"];
        for width in 1..200 {
            for expanded in [false, true] {
                let style = OutputStyle::plain().with_width(width).expanded(expanded);
                for line in table(style, &headings, &[&row]).text().lines() {
                    let taken = Cell::from(line).width();
                    // A wide character, or the indentation of a list, may exceed a very small
                    // width.
                    assert!(taken <= usize::from(width).max(9), "{width}: `{line}`");
                }
            }
        }
    }

    #[test]
    fn expanded_rows_have_one_line_per_column() {
        let style = OutputStyle::plain().with_width(20).expanded(true);
        let text = table(style, &["name", ">n"], &[&["a long text that is cut", "1"]]).text();
        assert_eq!(text, "row 1\n  name  a long text…\n  n     1");
    }
}
