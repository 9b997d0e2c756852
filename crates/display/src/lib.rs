//! Output of the command line: values and tables on standard output, colors, and a progress line.
//!
//! This crate depends on the terminal, but on no server. No other crate writes to standard output.

pub mod cell;
pub mod commit_graph;
pub mod grid;
pub mod log_writer;
pub mod output;
pub mod preview;
pub mod progress;
pub mod run_plan;
pub mod run_tree;
pub mod terminal;
