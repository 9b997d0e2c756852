//! From a project's files to tables on a branch.
//!
//! A [`Project`] is parsed, never executed: `headwater.toml`, SQL models and decorated Python
//! functions become steps, and what they read makes them a graph. The [`Runner`] plans which steps
//! have anything new to do, runs those on a branch of the run's own, and merges that branch into
//! its target only when every check has passed. A failed run leaves its target as it was, and its
//! own branch for reading.
//!
//! Nothing here opens a file: the project travels as text, tables belong to `lake`, SQL to
//! `engine`, Python processes to `functions`.

mod call;
mod checks;
mod columns;
mod decide;
mod deployment;
mod error;
mod fingerprint;
mod graph;
mod increments;
mod plan;
mod project;
mod rerun;
mod run;
mod runner;
mod source;
mod step;
mod suggest;
mod units;

pub use call::Given;
pub use deployment::{Deployments, deploy_changes};
pub use error::{Error, Result};
pub use project::{Callable, Defaults, Parameter, ParameterKind, Parsed, Project};
pub use runner::Runner;
pub use source::Location;
pub use step::{Body, Function, Input, Materialization, ParameterInput, Step, StepKind};
