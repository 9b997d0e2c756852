//! PostgreSQL's catalogs: the rows of `pg_catalog` and `information_schema` that describe a lake,
//! and the translation of clients' catalog queries to Headwater's dialect.
//!
//! [`VisibleObjects`] contains the objects that a user may see; [`VisibleObjects::table`] returns
//! the rows of a catalog table. [`translate`] rewrites the text of a query, which the engine then
//! plans like any other. This crate does not read the lake and does not check permissions.

mod activity;
mod array_subquery;
mod catalog_functions;
mod catalog_tables;
mod database_names;
mod empty_tables;
mod from_clause;
mod information_schema;
mod join_lookup;
mod operators;
mod pg_catalog;
mod query_properties;
mod routines;
mod session_constants;
mod translate;
mod types;
mod visible_objects;

pub use database_names::without_database;
pub use translate::{ConnectionProperties, Translation, translate};
pub use types::{PgType, ScalarType};
pub use visible_objects::{Relation, VisibleObjects, mentioned};
