//! The namespace `system`: Headwater's own state as tables to read.
//!
//! The engine brings `branches`, `commits`, `tables`, `views`, and what tables are made of: `snapshots`,
//! `manifests` and `files`; other rooms add theirs as
//! [`SystemTable`]s. They are read whole each time, and nobody writes to them.

mod branches;
mod commits;
mod list;
mod table_parts;
mod tables;
mod views;

pub use self::list::SystemTable;
pub(crate) use self::list::own_tables;
use self::list::{batch, moment, moments, schema};
