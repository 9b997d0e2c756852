//! The parts of `headwater sql` that do not access a lake: a line editor with history and
//! completion, statements in text, and backslash commands.

mod backslash_command;
mod completion;
mod editor;
mod input;
mod statement_splitter;

pub use backslash_command::{BackslashCommand, HELP};
pub use completion::{CompletionNames, Relation, SharedNames};
pub use editor::Editor;
pub use input::{EntrySource, ShellEntry, next_entry};
pub use statement_splitter::{Statements, statements};
