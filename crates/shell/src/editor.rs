//! The line editor: multi-line statements, history and completion.

use std::path::PathBuf;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Helper};

use crate::completion::SharedNames;
use crate::input::ShellEntry;
use crate::statement_splitter::statements;

/// The maximum number of statements in the history.
const HISTORY_MAX: usize = 10_000;

/// A line editor on the terminal.
pub struct Editor {
    editor: rustyline::Editor<StatementHelper, FileHistory>,
    /// The file that stores the history; `None` if there is no folder for it.
    history: Option<PathBuf>,
}

impl Editor {
    /// Opens the terminal and reads the history.
    pub fn open(names: SharedNames, history: Option<PathBuf>) -> rustyline::Result<Self> {
        let config = Config::builder()
            .max_history_size(HISTORY_MAX)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .auto_add_history(true)
            .build();
        let mut editor = rustyline::Editor::with_config(config)?;
        editor.set_helper(Some(StatementHelper { names }));
        if let Some(file) = &history {
            // Ignore an error: the file does not exist when the shell is started for the first
            // time.
            let _ = editor.load_history(file);
        }
        Ok(Editor { editor, history })
    }

    /// Reads one entry: a backslash command, or text that ends with a complete statement.
    pub fn read(&mut self, prompt: &str) -> rustyline::Result<ShellEntry> {
        match self.editor.readline(prompt) {
            Ok(text) => {
                self.save_history();
                Ok(ShellEntry::Text(text))
            }
            Err(ReadlineError::Interrupted) => Ok(ShellEntry::Interrupted),
            Err(ReadlineError::Eof) => Ok(ShellEntry::End),
            Err(other) => Err(other),
        }
    }

    /// Appends new entries to the history file at once, so that no entries are lost if the terminal
    /// is closed. Errors are ignored: the shell also works without a history.
    fn save_history(&mut self) {
        let Some(file) = &self.history else { return };
        if let Err(error) = self.editor.append_history(file) {
            tracing::debug!(%error, "could not write the history");
        }
    }
}

/// Helper of the line editor, which detects complete statements and completes names.
struct StatementHelper {
    names: SharedNames,
}

impl Helper for StatementHelper {}

impl Hinter for StatementHelper {
    type Hint = String;
}

impl Highlighter for StatementHelper {}

impl Validator for StatementHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let is_complete = text.trim_start().starts_with('\\')
            || is_quit(text)
            || statements(text).rest.is_empty();
        Ok(if is_complete { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

/// Returns true if the text is `exit` or `quit`, as in other shells.
pub fn is_quit(text: &str) -> bool {
    matches!(text.trim().trim_end_matches(';'), "exit" | "quit")
}

impl Completer for StatementHelper {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, found) = self.names.complete(line, position);
        let pairs = found.into_iter().map(|name| Pair { display: name.clone(), replacement: name });
        Ok((start, pairs.collect()))
    }
}
