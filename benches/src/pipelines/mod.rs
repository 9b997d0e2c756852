//! Time of whole runs of projects, compared with plain Python, dbt-duckdb, SQLMesh and Prefect.

mod edit;
mod flights;
mod many;
mod shop;
mod suite;
mod tasks;

pub use suite::{PARTS, measure};
