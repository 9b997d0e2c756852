//! Projects of SQL and Python files, for Headwater and for Bauplan: parsed and rejected.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails by panicking")]

mod bauplan;
mod budgets;
mod concurrency;
mod function_triggers;
mod manifest;
mod python_models;
mod sql_models;
mod steps;
mod support;
