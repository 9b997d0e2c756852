//! Runs projects, from source files to tables on a branch.
//!
//! A [`Project`] is parsed by the crate `project`, which also has the graph of its steps. The
//! [`Runner`] plans which steps are out of date and runs them on a run branch. It merges that
//! branch into the target only after all expectations have passed. A failed run leaves its target
//! unchanged and keeps the run branch for inspection.
//!
//! This crate opens no files: project files are passed as text. Tables are in `lake`, SQL in
//! `engine` and Python processes in `functions`.

mod build_changes;
mod call;
mod checked_query_cache;
mod column_inference;
mod declared_columns;
mod environment_packages;
mod environment_spec;
mod error;
mod exact_rerun;
mod failed_run_retry;
mod function_preparation;
mod function_secrets;
mod hidden_branch_access;
mod incremental_reads;
mod invocation;
mod merge_rights;
mod owning_project;
mod parse;
mod passed_checks;
mod plan;
mod plan_forecast;
mod read_set;
mod recorded_column_sources;
mod rerun_merge;
mod row_expectations;
mod run;
mod run_context;
mod run_environments;
mod run_outputs;
mod run_rights;
mod runner;
mod selected_steps;
mod steps_to_run;
mod table_reuse;
mod unit_test;
mod view_materialization;

pub use call::CallInput;
pub use error::{Error, Result};
pub use function_preparation::ProvisionedCallable;
pub use headwater_build_records::register_system_tables;
pub use headwater_project::{
    CallDestinations, Callable, ColumnType, CommandPaths, DeclaredColumn, Defaults,
    Error as ProjectError, Location, Materialization, Parameter, ParameterInput, ParameterKind,
    ParsedProject, Project, ProjectSettings, PythonFunction, Retries, Severity, Step, StepCode,
    StepInput, StepKind, parallel_map,
};
pub use hidden_branch_access::HiddenBranchAccess;
pub use merge_rights::{merge_rights, readable, reading};
pub use parse::parse_project;
pub use run_environments::rerun_environments;
pub use run_outputs::{ModelOutput, PendingOutputs};
pub use runner::Runner;
pub use table_reuse::conflict_branch;
