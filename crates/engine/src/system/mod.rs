//! The namespace `system`: read-only tables of Headwater's own state.
//!
//! The engine defines `branches`, `commits`, `tables`, `views`, `snapshots`, `manifests` and
//! `files`. Other crates add tables that implement [`SystemTable`]. Each scan computes all rows of
//! a table.

mod branches;
mod commits;
mod list;
mod table_metadata;
mod tables;
mod views;

pub(crate) use self::list::own_tables;
pub use self::list::{SystemTable, batch, schema, timestamp_column, timestamp_type};
