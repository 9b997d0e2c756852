//! Runs projects: from source files to tables on a branch.
//!
//! A [`Project`] is parsed, never executed. Its project file, SQL models and decorated Python
//! functions become steps, and the tables they read form a graph. The [`Runner`] plans which steps
//! are out of date and runs them on a run branch. It merges that branch into the target only after
//! every expectation passed. A failed run leaves its target unchanged and keeps the run branch for
//! inspection.
//!
//! This crate opens no files: project files are passed as text. Tables are in `lake`, SQL in
//! `engine` and Python processes in `functions`.

mod build_record;
mod call;
mod checks;
mod columns;
mod contract;
mod decide;
mod deployment;
mod error;
mod fingerprint;
mod forecast;
mod function_secrets;
mod graph;
mod increments;
mod invocation;
mod plan;
mod project;
mod rerun;
mod retry;
mod rights;
mod run;
mod runner;
mod selected;
mod selection;
mod source;
mod step;
mod suggest;
mod unit_test;
mod units;

pub use call::{CallInput, Given};
pub use contract::{ColumnType, DeclaredColumn};
pub use deployment::{DeploymentStore, deploy_changes};
pub use error::{Error, Result};
pub use project::{
    Callable, CommandPaths, Defaults, Parameter, ParameterKind, Parsed, Project, ProjectSettings,
};
pub use runner::Runner;
pub use source::Location;
pub use step::{
    Body, Function, Input, Materialization, ParameterInput, Retries, Severity, Step, StepKind,
};
