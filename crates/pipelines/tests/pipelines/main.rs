//! Realistic projects: rejected, planned and run.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails by panicking")]

mod batches;
mod bauplan;
mod blocking_table;
mod concurrent_changes;
mod contracts;
mod counted_reads;
mod environments;
mod failures;
mod flights;
mod forecasts;
mod incremental;
mod lineage;
mod memory;
mod mistakes;
mod owners;
mod planning;
mod previews;
mod profiles;
mod python_runs;
mod read_positions;
mod rerun;
mod retrying;
mod reuse;
mod row_expectations;
mod rules;
mod runs;
mod secrets;
mod selecting;
mod shared_scans;
mod sql_function_calls;
mod sql_functions;
mod support;
mod unit_tests;
mod views;
