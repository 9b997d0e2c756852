//! Compares two states of the lake or of one table, down to the rows.
//!
//! A [`StateComparer`] compares tables by metadata where possible; only files that exist on one
//! side are read. The query engine encodes and compares the rows of these files within the memory
//! limit of a statement, and spills if needed. Rows that were only rewritten do not count as
//! differences.

mod compare;
mod compared_columns;
mod diff_page;
mod row_comparison;
mod row_encoding;
mod row_pairing;
mod statistics;

pub use compare::{ComparedTable, DiffOptions, StateComparer};
