//! Time of whole runs of projects, compared with plain Python, dbt-duckdb, SQLMesh, Prefect and
//! uv.

mod edit;
mod flights;
mod many;
mod packages;
mod shop;
mod suite;
mod tasks;

pub use suite::{PARTS, measure};
