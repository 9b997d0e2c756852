//! Compares two states of the lake or of one table, down to the rows.
//!
//! Metadata is used where it suffices; only files that exist on one side are read. Their encoded
//! rows are counted per side and compared by the query engine, within a statement's memory, with
//! spilling. Rows that were only rewritten do not differ.

mod columns;
mod compare;
mod encode;
mod page;
mod pairing;
mod rows;
mod statistics;

pub use self::compare::{DiffOptions, KEYS_PROPERTY, TableAt};
use self::compare::{Outcome, Sides, changed_columns};
