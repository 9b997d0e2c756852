//! Projects as defined by their files: settings, parameters, triggers, models, expectations and
//! functions, in SQL, in Python and in Bauplan's format.
//!
//! A [`Project`] is parsed, never executed: this crate runs neither SQL nor Python. Its steps form
//! a [`StepGraph`], from which [`selector`] selects the steps of a run. This crate opens no files:
//! project files are passed as text. Runs of projects are in `pipelines`.

mod bauplan;
mod callable;
mod command_function;
mod declared_columns;
mod description;
mod error;
pub mod fingerprint;
mod lambda_runtime;
mod manifest;
mod minimum_memory;
pub mod parallel_map;
mod parameter;
mod parsed_project;
mod partition_overwrite;
mod project;
mod python;
mod python_handler;
mod quantities;
mod rates;
mod row_expectation;
pub mod selector;
mod source_location;
mod sql_model;
mod sql_model_cache;
mod step;
mod step_graph;
mod trigger_checks;
pub mod unit_test;
pub mod unknown_name_hints;

pub use callable::{CallConcurrency, CallDestinations, Callable};
pub use command_function::CommandPaths;
pub use declared_columns::{ColumnType, DeclaredColumn, SqlType};
pub use error::{Error, Result};
pub use minimum_memory::check_memory;
pub use parameter::{Parameter, ParameterKind};
pub use parsed_project::ParsedProject;
pub use project::{Defaults, Project, ProjectSettings};
pub use python::check_definition;
pub use row_expectation::{QUARANTINE_COLUMNS, RowExpectation, quarantine_name};
pub use source_location::{Location, SourceText};
pub use sql_model::located;
pub use sql_model_cache::may_name_version;
pub use step::{
    InputColumn, Materialization, ParameterInput, PythonFunction, Retries, Severity, Step,
    StepCode, StepInput, StepKind,
};
pub use step_graph::StepGraph;
