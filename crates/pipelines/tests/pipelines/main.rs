//! Realistic projects: parsed, rejected, planned and run.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails by panicking")]

mod batches;
mod bauplan;
mod failures;
mod flights;
mod forecasts;
mod gate;
mod growing;
mod manifest;
mod meanwhile;
mod memory;
mod mistakes;
mod owners;
mod planning;
mod python_models;
mod python_runs;
mod rerun;
mod retrying;
mod runs;
mod secrets;
mod selecting;
mod sql_models;
mod support;
mod unit_tests;
