//! Locations in project files: a path and a line.

use std::fmt;
use std::sync::Arc;

use ruff_source_file::LineIndex;
use ruff_text_size::TextSize;

/// A line of a project file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// The path relative to the project's root, separated by `/`.
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A project file's text with its lines indexed.
#[derive(Debug)]
pub struct SourceText<'a> {
    /// The path relative to the project's root, separated by `/`.
    pub path: Arc<str>,
    /// The text.
    pub text: &'a str,
    lines: LineIndex,
}

impl<'a> SourceText<'a> {
    /// Indexes the lines of a text.
    pub fn new(path: &str, text: &'a str) -> Self {
        SourceText { path: path.into(), text, lines: LineIndex::from_source_text(text) }
    }

    /// Returns the location of a byte offset; offsets past the end are on the last line.
    pub fn at(&self, offset: usize) -> Location {
        let offset = offset.min(self.text.len());
        let offset = TextSize::try_from(offset).unwrap_or_default();
        self.line(self.lines.line_index(offset).get() as u32)
    }

    /// Returns the location of a known line.
    pub fn line(&self, line: u32) -> Location {
        Location { file: Arc::clone(&self.path), line }
    }
}
