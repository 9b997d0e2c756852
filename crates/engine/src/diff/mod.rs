//! What differs between two states: of the lake, or of one table, down to the rows.
//!
//! Metadata says what it can; only files that one side alone has are read. Their rows are counted as they
//! are encoded, those of one side against those of the other, by the engine that answers queries: within a
//! statement's memory, with the rest on disk. What was only written again differs in nothing.

mod columns;
mod compare;
mod encode;
mod page;
mod pairing;
mod rows;
mod statistics;

pub use self::compare::{DiffOptions, KEYS_PROPERTY, TableAt};
use self::compare::{Outcome, Sides, changed_columns};
