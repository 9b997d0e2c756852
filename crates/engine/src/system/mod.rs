//! The namespace `system`: read-only tables of Headwater's own state.
//!
//! The engine defines `branches`, `commits`, `tables`, `views`, `snapshots`, `manifests` and
//! `files`. Other crates add tables that implement [`SystemTable`]. Each scan computes all rows of
//! a table.

mod branches;
mod commits;
mod system_table;
mod table_metadata;
mod tables;
mod views;

pub(crate) use self::system_table::own_tables;
pub use self::system_table::{SystemTable, batch, schema, timestamp_column, timestamp_type};
