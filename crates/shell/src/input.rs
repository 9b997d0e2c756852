//! The source of the shell's entries: a terminal, or standard input that is a file or pipe.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use headwater_model::{ErrorCode, Problem};

use crate::completion::SharedNames;
use crate::editor::{Editor, is_quit};
use crate::statement_splitter::statements;

/// One entry that the shell reads.
#[derive(Debug, PartialEq, Eq)]
pub enum ShellEntry {
    /// A backslash command, or statements.
    Text(String),
    /// Ctrl-C at the prompt; the text entered so far is discarded.
    Interrupted,
    /// Ctrl-D, or the end of the file.
    End,
}

/// The source of entries.
pub enum EntrySource {
    /// An interactive terminal.
    Terminal(Box<Editor>),
    /// Standard input is a file or pipe.
    Pipe,
}

impl EntrySource {
    /// Opens the terminal, or standard input if it is not a terminal.
    pub fn open(names: SharedNames, history: Option<PathBuf>) -> Result<Self, Problem> {
        if !std::io::stdin().is_terminal() {
            return Ok(EntrySource::Pipe);
        }
        let editor = Editor::open(names, history);
        let editor = editor.map_err(|error| failed("the terminal", &error))?;
        Ok(EntrySource::Terminal(Box::new(editor)))
    }

    /// Returns true if the input is a terminal.
    pub fn is_terminal(&self) -> bool {
        matches!(self, EntrySource::Terminal(_))
    }

    /// Reads the next entry; blocks until it is complete.
    pub fn read(&mut self, prompt: &str) -> Result<ShellEntry, Problem> {
        let entry = match self {
            EntrySource::Terminal(editor) => {
                editor.read(prompt).map_err(|error| failed("the terminal", &error))?
            }
            EntrySource::Pipe => next_entry(&mut std::io::stdin().lock())?,
        };
        match entry {
            ShellEntry::Text(text) if is_quit(&text) => Ok(ShellEntry::End),
            entry => Ok(entry),
        }
    }
}

/// Reads the next entry of a file or pipe: lines up to the end of a statement, or a backslash
/// command. The end of the input also ends a statement.
pub fn next_entry(input: &mut impl BufRead) -> Result<ShellEntry, Problem> {
    let mut text = String::new();
    loop {
        let start = text.len();
        let length = input.read_line(&mut text).map_err(|error| failed("the input", &error))?;
        if length == 0 {
            return Ok(if text.is_empty() { ShellEntry::End } else { ShellEntry::Text(text) });
        }
        // Only a line with a semicolon can end a statement. Without this check, a long statement
        // would be split again at every line.
        let can_end = start == 0 || text[start..].contains(';');
        let is_backslash = text.trim_start().starts_with('\\');
        if is_backslash || can_end && statements(&text).rest.is_empty() {
            return Ok(ShellEntry::Text(text));
        }
    }
}

fn failed(source: &str, error: &dyn std::error::Error) -> Problem {
    let mut problem = Problem::new(ErrorCode::Storage, format!("cannot read from {source}"));
    problem.causes.push(error.to_string());
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn piped_input_is_read_statement_by_statement() {
        let mut input = "\\dt\n\nSELECT 1,\n ';\n';SELECT 2;\nSELECT 3".as_bytes();
        let mut texts = Vec::new();
        while let ShellEntry::Text(text) = next_entry(&mut input).expect("text") {
            texts.push(text);
        }
        assert_eq!(texts, ["\\dt\n", "\n", "SELECT 1,\n ';\n';SELECT 2;\n", "SELECT 3"]);
    }
}
