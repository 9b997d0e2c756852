//! Scans of tables in DataFusion: scans of Parquet files that are planned from the manifests.
//!
//! [`LakeTable`] is the DataFusion table provider for one snapshot. It prunes files by the bounds
//! in the manifests, passes row counts and bounds to the optimiser and balances files over
//! partitions by bytes. Columns are read by field id, so that columns that were renamed, added,
//! dropped or promoted are read correctly. Scans of runs share a cache of the columns that they
//! read; the scans of other statements share the [`DecodedCache`]. A [`RowSource`] is a table of
//! rows that are stored outside of the lake. [`column_sources`] traces the columns of a plan to the
//! tables, and [`PlanEstimate`] is the estimated cost of a plan. This crate resolves no names and
//! checks no rights.

mod cached_reader;
mod column_cache;
mod column_lineage;
mod decoded_cache;
mod decoded_column;
mod decoded_scan;
mod decoded_source;
mod decoded_stream;
mod delete_filter;
mod field_id_adapter;
mod file_groups;
mod file_scan;
mod nested_cast;
mod plan_estimate;
mod position_columns;
mod pruning;
mod row_group_pruning;
mod row_lineage;
mod row_source;
mod scan_cost;
mod scan_environment;
mod scanned_files;
mod statistics;
mod string_views;
mod table_provider;

pub use column_lineage::{ColumnSource, QueryColumns, column_sources};
pub use decoded_cache::{DecodedCache, UnusedMemory};
pub use file_scan::parquet_source;
pub use plan_estimate::PlanEstimate;
pub use pruning::{can_match, prune, whole_files};
pub use row_source::{RowSource, slices, stored_costs, stored_table, viewed};
pub use scan_cost::{ScanCost, scan_cost};
pub use scan_environment::ScanEnvironment;
pub use scanned_files::files_planned;
pub use statistics::of_scan;
pub use string_views::{bare_schema, plain_batch, plain_schema, view_schema};
pub use table_provider::LakeTable;
