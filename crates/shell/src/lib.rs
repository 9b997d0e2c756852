//! The parts of the command line that know no lake. For `headwater sql`: a line editor with
//! history and completion, statements in text, and backslash commands. For others: the graph of
//! commits, and the writer of a server's log.

mod backslash;
mod completion;
mod editor;
mod graph;
mod input;
mod log_writer;
mod statements;

pub use backslash::{Backslash, HELP};
pub use completion::{Names, Relation, SharedNames};
pub use editor::Editor;
pub use graph::{GraphLine, draw as draw_graph};
pub use input::{Entry, Input, next_entry};
pub use log_writer::LogWriter;
pub use statements::{Statements, statements};
