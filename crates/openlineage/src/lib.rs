//! Runs of a project as events of OpenLineage 1-0-5. Each model is a job, with the tables that it
//! reads and writes, and the sources of its columns.
//!
//! Events are JSON values. This crate sends and stores nothing.

mod events;

pub use events::{ColumnLineage, RunIdentity, events};
