//! How the command prints: values and tables on standard output, colors, and a progress line.
//!
//! It knows the terminal and no server. Nothing else in the product writes to standard output.

pub mod cell;
pub mod graph;
pub mod grid;
pub mod log_writer;
pub mod output;
pub mod preview;
pub mod progress;
pub mod terminal;
