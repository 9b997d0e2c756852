//! Errors of runs, with code, hint and context.
//!
//! Errors that can be found before a run starts are returned before it starts, with file and line.
//! The error of a failed step contains the problem that caused it. If all failures of a run have
//! the same code, the run returns that code.

use std::collections::BTreeMap;

use headwater_lake::{changed_text, conflict_causes, conflict_names};
use headwater_model::{ErrorCode, MergeConflict, Problem, ToProblem, did_you_mean};
use serde_json::json;

use crate::Location;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error of a run or its project.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The project's files or parameters have an error.
    #[error(transparent)]
    Project(#[from] headwater_project::Error),

    /// A step reads a table that is neither a model nor in the lake.
    #[error(
        "`{step}` reads `{table}`, which is neither a model nor a table at `{reference}` ({at})"
    )]
    TableMissing {
        /// Step name.
        step: String,
        /// Table name as written.
        table: String,
        /// Ref that was searched.
        reference: String,
        /// Location of the reference in the step.
        at: Location,
        /// Most similar table name.
        nearest: Option<String>,
    },

    /// A step reads, through a view of the lake, a table that a model of the same project writes.
    #[error("`{step}` reads model `{table}` through view `{view}`, which is not supported ({at})")]
    ViewOfModel {
        /// Step name.
        step: String,
        /// Location of the reference to the view.
        at: Location,
        /// View name.
        view: String,
        /// Table of the model.
        table: String,
    },

    /// The table of a model exists, but was not written by a model of this project.
    #[error("model `{step}` would write to a table that {} ({at})", owner_text(project.as_deref(), reference))]
    NotOwned {
        /// Model name.
        step: String,
        /// Location of the model's definition.
        at: Location,
        /// Ref at which the table exists.
        reference: String,
        /// Project whose model wrote the table, if any.
        project: Option<String>,
    },

    /// The new rows of an incremental input cannot be determined.
    #[error(
        "cannot determine the rows added to `{table}` since `{step}` last read it: {} ({at})",
        if *known { "rows were changed, not only appended" } else { "the position is unknown" }
    )]
    NotIncremental {
        /// Model name.
        step: String,
        /// Input table.
        table: String,
        /// True if the snapshot that the model last read is known.
        known: bool,
        /// Location of the input in the model.
        at: Location,
    },

    /// Output rows of a model have null or duplicate keys.
    #[error("model `{step}` returned {what} ({at})")]
    Keys {
        /// Model name.
        step: String,
        /// Location of the model's definition.
        at: Location,
        /// Description of the rows with null or duplicate keys, for the message.
        what: String,
        /// Key column with the null; `None` for duplicate keys.
        null_column: Option<String>,
    },

    /// The environment of a function cannot be created on this server.
    #[error(
        "the Python version, packages or programs that `{step}` needs are not available ({at})"
    )]
    Environment {
        /// Step name.
        step: String,
        /// Location of the setting that requires the environment.
        at: Location,
        /// The error that made the environment unavailable.
        #[source]
        problem: Box<Problem>,
    },

    /// A step reads a column that its input does not have.
    #[error("`{step}` reads column `{column}`, which `{table}` does not have ({at})")]
    ColumnMissing {
        /// Step name.
        step: String,
        /// Input table.
        table: String,
        /// Column name.
        column: String,
        /// Location of the input in the step.
        at: Location,
        /// Suggested fix.
        hint: String,
    },

    /// The target of a run is not a branch.
    #[error("`{reference}` is not a branch, so a project cannot be run on it")]
    NotABranch {
        /// Ref from the request.
        reference: String,
    },

    /// The output columns of a model differ from the columns that it declares.
    #[error(
        "the columns that model `{step}` returned differ from its declaration: {difference} ({at})"
    )]
    DeclaredColumns {
        /// Model name.
        step: String,
        /// Location of the model's definition.
        at: Location,
        /// Missing and undeclared columns.
        difference: String,
    },

    /// An expectation returned false or failed an assertion.
    #[error("expectation `{step}` {} ({at})", if problem.is_some() { "failed" } else { "returned false" })]
    ExpectationFailed {
        /// Expectation name.
        step: String,
        /// Location of the expectation's definition.
        at: Location,
        /// The failed assertion, if any.
        #[source]
        problem: Option<Box<Problem>>,
    },

    /// A SQL model exceeded its time limit.
    #[error("`{step}` ran longer than its limit of {} s ({at})", limit.as_secs_f64())]
    TimeLimit {
        /// Model name.
        step: String,
        /// Location of the model's definition.
        at: Location,
        /// Time limit.
        limit: std::time::Duration,
    },

    /// A step failed.
    #[error("`{step}` failed ({at})")]
    StepFailed {
        /// Step name.
        step: String,
        /// Innermost user frame of the failure, or the location of the step's definition.
        at: Location,
        /// Problem that the step failed with.
        #[source]
        problem: Box<Problem>,
    },

    /// The run failed and was not merged; its target is unchanged.
    #[error("{}; `{target}` is unchanged", run_text(failures))]
    Run {
        /// Target branch.
        target: String,
        /// Run branch, if the run wrote to it.
        branch: Option<String>,
        /// All failures, in order of occurrence.
        failures: Vec<Problem>,
    },

    /// The run was cancelled by a user.
    #[error("the run was stopped; `{target}` is unchanged")]
    Cancelled {
        /// Target branch.
        target: String,
        /// Run branch, if the run wrote to it.
        branch: Option<String>,
    },

    /// Another client committed to the run branch.
    #[error("another client wrote to `{branch}` during the run; `{target}` is unchanged")]
    BranchMoved {
        /// Target branch.
        target: String,
        /// Run branch, kept for inspection.
        branch: String,
    },

    /// Other commits changed the target during the run, so the expectations that the target
    /// requires did not check the merged tables.
    #[error(
        "`{target}` received other commits during the run, so its required expectations did not \
         check the merged tables"
    )]
    Overtaken {
        /// Target branch.
        target: String,
        /// Run branch, kept for inspection.
        branch: String,
    },

    /// During the run, other commits changed the same tables of the target, or made changes that
    /// leave no serial order of the runs.
    #[error(
        "during the run, other commits on `{target}` changed {}: {}",
        changed_text(conflicts),
        conflict_names(conflicts).join(", ")
    )]
    Conflict {
        /// Target branch.
        target: String,
        /// Run branch, kept for inspection.
        branch: String,
        /// Tables with their conflicting changes.
        conflicts: Vec<MergeConflict>,
    },

    /// An error of another crate.
    #[error(transparent)]
    Other(Box<Problem>),
}

impl Error {
    /// Adds the name of the parameter whose value occurs in the error of a query.
    pub(crate) fn with_parameters(self, values: &BTreeMap<String, serde_json::Value>) -> Self {
        match self {
            Error::Project(error) => Error::Project(error.with_parameters(values)),
            other => other,
        }
    }

    /// Returns true if the run failed only because other clients changed the target during the run.
    /// A repetition of the run would start from the changed target.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::Overtaken { .. } | Error::Conflict { .. })
    }

    /// Creates the error for a project that breaks a rule at a location in its files.
    pub(crate) fn invalid(
        at: Location,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        headwater_project::Error::invalid(at, message, hint).into()
    }

    /// Wraps an error of another crate unchanged.
    pub(crate) fn other(fault: &dyn ToProblem) -> Self {
        Error::Other(Box::new(fault.to_problem()))
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Error::Other(Box::new(problem))
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::Project(error) => error.code(),
            Error::ViewOfModel { .. } => ErrorCode::InvalidProject,
            Error::Environment { problem, .. }
            | Error::StepFailed { problem, .. }
            | Error::Other(problem) => problem.code,
            Error::NotOwned { .. } => ErrorCode::AlreadyExists,
            Error::Keys { .. } => ErrorCode::BadRow,
            Error::TableMissing { .. } => ErrorCode::TableNotFound,
            Error::ColumnMissing { .. } => ErrorCode::ColumnNotFound,
            Error::NotABranch { .. } => ErrorCode::InvalidArgument,
            Error::DeclaredColumns { .. } => ErrorCode::FunctionFailed,
            Error::ExpectationFailed { .. } => ErrorCode::ExpectationFailed,
            Error::TimeLimit { .. } => ErrorCode::TimeLimit,
            Error::Run { failures, .. } => run_code(failures),
            Error::Cancelled { .. } => ErrorCode::Cancelled,
            Error::BranchMoved { .. } | Error::Overtaken { .. } | Error::NotIncremental { .. } => {
                ErrorCode::CommitConflict
            }
            Error::Conflict { .. } => ErrorCode::MergeConflict,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Project(error) => error.hint(),
            Error::Environment { problem, .. }
            | Error::StepFailed { problem, .. }
            | Error::Other(problem) => problem.hint.clone(),
            Error::NotOwned { .. } => {
                Some("Rename the model, or set `allow_takeover = true` on it.".into())
            }
            Error::TableMissing { nearest, .. } => Some(did_you_mean(
                nearest.as_deref(),
                "Import the table first, or add a model of that name.",
            )),
            Error::ViewOfModel { table, .. } => Some(format!(
                "Read `{table}` directly: through the view, the step would read the table as it \
                 was before the run."
            )),
            Error::NotIncremental { .. } => Some(
                "Run with `--no-cache`: the model's table is then recomputed from all its inputs."
                    .into(),
            ),
            Error::Keys { null_column: Some(column), .. } => Some(format!(
                "Leave out rows without a key with `WHERE {column} IS NOT NULL`, or name other `keys`."
            )),
            Error::Keys { .. } => Some(
                "Return one row for each key, or add the column that differs to \
                    `keys`."
                    .into(),
            ),
            Error::ColumnMissing { hint, .. } => Some(hint.clone()),
            Error::NotABranch { .. } => Some("Create a branch from this ref and run there.".into()),
            Error::DeclaredColumns { .. } => {
                Some("Change the declared columns or the result.".into())
            }
            Error::ExpectationFailed { .. } => {
                Some("Check the data, or run with `--no-strict` to get only a warning.".into())
            }
            Error::TimeLimit { .. } => Some("Raise `timeout` in the model's settings.".into()),
            Error::Run { branch, failures, .. } => run_hint(branch.as_deref(), failures),
            Error::Cancelled { branch, .. } => branch.as_deref().map(branch_hint),
            Error::BranchMoved { .. } => {
                Some("Run again, and do not write to the run's branch.".into())
            }
            Error::Overtaken { .. } | Error::Conflict { .. } => {
                Some("Start a new run with `headwater run`: it reads the latest commit.".into())
            }
        }
    }

    fn context(&self) -> BTreeMap<String, serde_json::Value> {
        let mut context = BTreeMap::new();
        let mut put = |key: &str, value| context.insert(key.to_owned(), value);
        match self {
            Error::Project(error) => context = error.context(),
            Error::TableMissing { step, at, .. }
            | Error::ViewOfModel { step, at, .. }
            | Error::NotOwned { step, at, .. }
            | Error::NotIncremental { step, at, .. }
            | Error::Keys { step, at, .. }
            | Error::Environment { step, at, .. }
            | Error::ColumnMissing { step, at, .. }
            | Error::DeclaredColumns { step, at, .. }
            | Error::TimeLimit { step, at, .. }
            | Error::ExpectationFailed { step, at, .. } => {
                put("step", json!(step));
                put("file", json!(&*at.file));
                put("line", json!(at.line));
            }
            Error::StepFailed { step, at, problem } => {
                put("step", json!(step));
                put("file", json!(&*at.file));
                put("line", json!(at.line));
                context.extend(problem.context.clone());
            }
            Error::Run { target, branch, failures } => {
                put("target", json!(target));
                put("run_branch", json!(branch));
                put("failures", json!(failures));
            }
            Error::Cancelled { target, branch } => {
                put("target", json!(target));
                put("run_branch", json!(branch));
            }
            Error::BranchMoved { target, branch } | Error::Overtaken { target, branch } => {
                put("target", json!(target));
                put("run_branch", json!(branch));
            }
            Error::Conflict { target, branch, conflicts } => {
                put("target", json!(target));
                put("run_branch", json!(branch));
                put("tables", json!(conflict_names(conflicts)));
                put("conflicts", json!(conflicts));
            }
            Error::Other(problem) => context.extend(problem.context.clone()),
            Error::NotABranch { .. } => {}
        }
        context
    }

    /// Converts the error to a problem. The causes of a failed run are the errors of the failed
    /// steps, each with its own causes and user frames.
    fn to_problem(&self) -> Problem {
        let causes = match self {
            Error::Project(error) => return error.to_problem(),
            Error::Run { failures, .. } => run_causes(failures),
            Error::Environment { problem, .. }
            | Error::StepFailed { problem, .. }
            | Error::ExpectationFailed { problem: Some(problem), .. } => with_causes(problem),
            Error::Other(problem) => problem.causes.clone(),
            Error::Conflict { conflicts, .. } => conflict_causes(conflicts),
            _ => Vec::new(),
        };
        let (code, message) = (self.code(), self.to_string());
        let hint = self.hint().map(headwater_model::sentence);
        Problem { code, message, causes, hint, context: self.context() }
    }
}

fn owner_text(project: Option<&str>, reference: &str) -> String {
    match project {
        Some(project) => format!("project `{project}` created at `{reference}`"),
        None => format!("already exists at `{reference}`, and that no model created"),
    }
}

fn with_causes(problem: &Problem) -> Vec<String> {
    std::iter::once(problem.message.clone()).chain(problem.causes.iter().cloned()).collect()
}

fn run_causes(failures: &[Problem]) -> Vec<String> {
    match failures {
        [one] => one.causes.clone(),
        many => many.iter().flat_map(with_causes).collect(),
    }
}

fn run_text(failures: &[Problem]) -> String {
    match failures {
        [one] => one.message.clone(),
        many => format!("{} steps failed", many.len()),
    }
}

/// Returns the common code of all failures; `RunFailed` if their codes differ.
fn run_code(failures: &[Problem]) -> ErrorCode {
    match failures {
        [first, rest @ ..] if rest.iter().all(|other| other.code == first.code) => first.code,
        _ => ErrorCode::RunFailed,
    }
}

fn branch_hint(branch: &str) -> String {
    format!("The output of the run can be read on `{branch}`.")
}

fn run_hint(branch: Option<&str>, failures: &[Problem]) -> Option<String> {
    let own = match failures {
        [one] => one.hint.clone(),
        _ => None,
    };
    let read = branch.map(branch_hint);
    match (own, read) {
        (Some(own), Some(read)) => Some(format!("{} {read}", headwater_model::sentence(own))),
        (own, read) => own.or(read),
    }
}
