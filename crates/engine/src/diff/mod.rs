//! Compares two states of the lake or of one table, down to the rows.
//!
//! Tables are compared by metadata where possible; only files that exist on one side are read. The
//! query engine counts and compares their encoded rows within a statement's memory limit, with
//! spilling. Rows that were only rewritten do not count as differences.

mod columns;
mod compare;
mod encode;
mod page;
mod pairing;
mod rows;
mod statistics;

use self::compare::{ComparedSides, RowComparison, changed_columns};
pub use self::compare::{DiffOptions, KEYS_PROPERTY, TableAt};
