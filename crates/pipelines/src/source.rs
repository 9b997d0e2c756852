//! Where something is written: a project file and a line in it, and the text that lines are counted
//! in.

use std::fmt;
use std::sync::Arc;

use ruff_source_file::LineIndex;
use ruff_text_size::TextSize;

/// A line of a project file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// The path relative to the project's root, with `/`.
    pub file: Arc<str>,
    /// Counts from 1.
    pub line: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A project file's text with its lines indexed.
#[derive(Debug)]
pub(crate) struct SourceText<'a> {
    pub path: Arc<str>,
    pub text: &'a str,
    lines: LineIndex,
}

impl<'a> SourceText<'a> {
    pub fn new(path: &str, text: &'a str) -> Self {
        SourceText { path: path.into(), text, lines: LineIndex::from_source_text(text) }
    }

    /// The place of a byte offset; offsets beyond the text stand at its last line.
    pub fn at(&self, offset: usize) -> Location {
        let offset = offset.min(self.text.len());
        let offset = TextSize::try_from(offset).unwrap_or_default();
        self.line(self.lines.line_index(offset).get() as u32)
    }

    /// The place of a line that is known already.
    pub fn line(&self, line: u32) -> Location {
        Location { file: Arc::clone(&self.path), line }
    }
}
