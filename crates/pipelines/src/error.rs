//! What can be wrong with a project or go wrong in a run.
//!
//! Everything that can be known before any compute is refused before any compute, with the file and
//! the line. A step that failed carries its own problem, so that the code of a lone failure is the
//! run's.

use std::collections::BTreeMap;

use headwater_model::{ErrorCode, Fault, MergeConflict, Problem};
use serde_json::json;

use crate::Location;

/// A result of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a project or go wrong in a run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The project has no `headwater.toml`.
    #[error("the project has no `headwater.toml`")]
    NoManifest,

    /// A project file breaks a rule.
    #[error("{message} ({at})")]
    Invalid {
        /// Where.
        at: Location,
        /// Which rule, and what broke it.
        message: String,
        /// What to do.
        hint: Option<String>,
    },

    /// Several errors in the files of a project.
    #[error("the project has {} errors", errors.len())]
    Several {
        /// The errors, those of `headwater.toml` first.
        errors: Vec<Error>,
    },

    /// Two steps of one name.
    #[error("duplicate definition of `{name}` in {first} and {second}")]
    Duplicate {
        /// The name.
        name: String,
        /// One definition.
        first: Location,
        /// The other.
        second: Location,
    },

    /// Models that need each other.
    #[error("models depend on each other in a cycle: {}", cycle_text(path))]
    Cycle {
        /// The models in the order they are read, each with where it reads the next.
        path: Vec<(String, Location)>,
    },

    /// A SQL model that does not parse or plan.
    #[error("model `{step}` cannot be planned ({at})")]
    Sql {
        /// The model.
        step: String,
        /// The file and the line the engine names, or where the model begins.
        at: Location,
        /// What the engine says.
        #[source]
        problem: Box<Problem>,
    },

    /// A step reads a table that is neither a model nor in the lake.
    #[error("`{step}` reads `{table}`, which is no model and no table at `{reference}` ({at})")]
    TableMissing {
        /// The step.
        step: String,
        /// The name as it was written.
        table: String,
        /// The ref that was looked at.
        reference: String,
        /// Where the step names it.
        at: Location,
        /// A name that may have been meant.
        nearest: Option<String>,
    },

    /// A step reads a table that a model of its project makes, by way of a view.
    #[error("`{step}` reads view `{view}`, which reads `{table}`, a model of this project ({at})")]
    ViewOfModel {
        /// The step.
        step: String,
        /// Where the step names the view.
        at: Location,
        /// The view.
        view: String,
        /// The model's table.
        table: String,
    },

    /// A model's table is there already, and no model of its project made it.
    #[error("model `{step}` would write to a table that {} ({at})", owner_text(project.as_deref(), reference))]
    NotOwned {
        /// The model.
        step: String,
        /// Where it is defined.
        at: Location,
        /// The ref at which the table is there.
        reference: String,
        /// The project whose model made it, if one did.
        project: Option<String>,
    },

    /// A model that appends reads only what is new of an input, and nobody can say what that is.
    #[error(
        "nobody can say what is new of `{table}` since `{step}` last read it: {} ({at})",
        if *known { "its rows were changed otherwise than by appending" } else { "it never said up to where it had read" }
    )]
    NotIncremental {
        /// The model.
        step: String,
        /// The input.
        table: String,
        /// Whether it is known up to where the model had read.
        known: bool,
        /// Where the model names the input.
        at: Location,
    },

    /// The rows that a model gave cannot be told apart by its keys.
    #[error("model `{step}` gave {what} ({at})")]
    Keys {
        /// The model.
        step: String,
        /// Where it is defined.
        at: Location,
        /// Which rows.
        what: String,
        /// The key column that is null, unless the rows repeat a key.
        null_column: Option<String>,
    },

    /// The environment that a function asks for cannot be made here.
    #[error("`{step}` cannot have the Python, packages or programs it asks for ({at})")]
    Environment {
        /// The step.
        step: String,
        /// Where they are asked for.
        at: Location,
        /// Why not.
        #[source]
        problem: Box<Problem>,
    },

    /// A step wants a column that its input does not have.
    #[error("`{step}` reads column `{column}`, which `{table}` does not have ({at})")]
    ColumnMissing {
        /// The step.
        step: String,
        /// The input.
        table: String,
        /// The column.
        column: String,
        /// Where the step names the input.
        at: Location,
        /// What to do.
        hint: String,
    },

    /// A parameter's value is missing, unknown, unused or of another type.
    #[error("{message}")]
    Parameter {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },

    /// No deployed version of the project, or none with this id.
    #[error("{}", deployment_text(text, *several))]
    NoDeployment {
        /// The id that was asked for, or its beginning.
        text: String,
        /// Whether several ids begin with it.
        several: bool,
    },

    /// A run was asked for on something that is no branch.
    #[error("`{reference}` is not a branch, so nothing can be run on it")]
    NotABranch {
        /// The ref.
        reference: String,
    },

    /// A model gave other columns than it declared.
    #[error("model `{step}` gave other columns than it declares: {difference} ({at})")]
    DeclaredColumns {
        /// The model.
        step: String,
        /// Where it is defined.
        at: Location,
        /// Which columns are missing and which were not declared.
        difference: String,
    },

    /// An expectation returned false, or asserted what is not so.
    #[error("expectation `{step}` {} ({at})", if problem.is_some() { "failed" } else { "returned false" })]
    ExpectationFailed {
        /// The expectation.
        step: String,
        /// Where it is defined.
        at: Location,
        /// The assertion, where it was one.
        #[source]
        problem: Option<Box<Problem>>,
    },

    /// A SQL model ran longer than it may.
    #[error("`{step}` ran longer than its limit of {} s ({at})", limit.as_secs_f64())]
    TimeLimit {
        /// The model.
        step: String,
        /// Where it is defined.
        at: Location,
        /// Its limit.
        limit: std::time::Duration,
    },

    /// A step failed.
    #[error("`{step}` failed ({at})")]
    StepFailed {
        /// The step.
        step: String,
        /// Where it failed: the innermost of the user's frames, or where the step is defined.
        at: Location,
        /// What it failed of.
        #[source]
        problem: Box<Problem>,
    },

    /// The run ended without a merge; its target is as it was.
    #[error("{}; `{target}` is unchanged", run_text(failures))]
    Run {
        /// The branch it was asked for on.
        target: String,
        /// The branch it worked on, where it wrote anything there.
        branch: Option<String>,
        /// Every failure, in the order they happened.
        failures: Vec<Problem>,
    },

    /// The run was stopped by a person.
    #[error("the run was stopped; `{target}` is unchanged")]
    Cancelled {
        /// The branch it was asked for on.
        target: String,
        /// The branch it worked on, where it wrote anything there.
        branch: Option<String>,
    },

    /// Somebody else committed to the branch that the run worked on.
    #[error(
        "somebody else wrote to `{branch}` while the run worked there; `{target}` is unchanged"
    )]
    BranchMoved {
        /// The branch it was asked for on.
        target: String,
        /// The branch it worked on, kept for reading.
        branch: String,
    },

    /// Others changed the target meanwhile, which takes only what was checked.
    #[error(
        "while the run went on, `{target}` took other commits, and the expectations that it requires \
         have not seen both"
    )]
    Overtaken {
        /// The branch it was asked for on.
        target: String,
        /// The branch it worked on, kept for reading.
        branch: String,
    },

    /// The tables that the run wrote were changed on its target meanwhile.
    #[error("while the run went on, `{target}` changed the same tables: {}", names(conflicts).join(", "))]
    Conflict {
        /// The branch it was asked for on.
        target: String,
        /// The branch it worked on, kept for reading.
        branch: String,
        /// The tables, and what both changes cannot have together.
        conflicts: Vec<MergeConflict>,
    },

    /// Another room failed.
    #[error(transparent)]
    Other(Box<Problem>),
}

impl Error {
    /// A broken rule at a place, with what to do about it.
    pub(crate) fn invalid(
        at: Location,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Error::Invalid { at, message: message.into(), hint: Some(hint.into()) }
    }

    /// A call that cannot be made so, with what to do about it.
    pub(crate) fn call(message: String, hint: impl Into<String>) -> Self {
        Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint).into()
    }

    /// The project file that the error is in, as far as it is in one.
    pub(crate) fn file(&self) -> Option<&str> {
        match self {
            Error::Invalid { at, .. } | Error::Sql { at, .. } => Some(&at.file),
            Error::Duplicate { second, .. } => Some(&second.file),
            _ => None,
        }
    }

    /// Another room's error, as it stands.
    pub(crate) fn other(fault: &dyn Fault) -> Self {
        Error::Other(Box::new(fault.to_problem()))
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Error::Other(Box::new(problem))
    }
}

impl Fault for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::NoManifest
            | Error::Several { .. }
            | Error::Invalid { .. }
            | Error::Duplicate { .. }
            | Error::Cycle { .. }
            | Error::ViewOfModel { .. } => ErrorCode::InvalidProject,
            Error::Sql { problem, .. }
            | Error::Environment { problem, .. }
            | Error::StepFailed { problem, .. }
            | Error::Other(problem) => problem.code,
            Error::NotOwned { .. } => ErrorCode::AlreadyExists,
            Error::Keys { .. } => ErrorCode::BadRow,
            Error::NoDeployment { .. } => ErrorCode::DeploymentNotFound,
            Error::TableMissing { .. } => ErrorCode::TableNotFound,
            Error::ColumnMissing { .. } => ErrorCode::ColumnNotFound,
            Error::Parameter { .. } | Error::NotABranch { .. } => ErrorCode::InvalidArgument,
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
            Error::NoManifest => Some("Run `headwater init` to make one.".into()),
            Error::Several { .. } => Some("Correct the files that are listed.".into()),
            Error::Invalid { hint, .. } => hint.clone(),
            Error::Duplicate { .. } => Some("Rename one of them.".into()),
            Error::Cycle { .. } => {
                Some("Read one of them under another name, or take it out of the circle.".into())
            }
            Error::Sql { problem, .. } => Some(problem.hint.clone().unwrap_or_else(|| {
                "Mend the query; `headwater table get TABLE` lists a table's columns.".to_owned()
            })),
            Error::Environment { problem, .. }
            | Error::StepFailed { problem, .. }
            | Error::Other(problem) => problem.hint.clone(),
            Error::NotOwned { .. } => Some(
                "Rename the model, drop the table, or set `adopt = true` on the model to take the \
                 table over."
                    .into(),
            ),
            Error::TableMissing { nearest, .. } => Some(match nearest {
                Some(name) => format!("Did you mean `{name}`?"),
                None => "Import the table first, or add a model of that name.".into(),
            }),
            Error::ViewOfModel { table, .. } => Some(format!(
                "Read `{table}` itself: through the view the step would see it as it was before the run."
            )),
            Error::NotIncremental { .. } => Some(
                "Run with `--no-cache`: the model's table is then made anew from all of its inputs."
                    .into(),
            ),
            Error::Keys { null_column: Some(column), .. } => Some(format!(
                "Leave out rows without a key with `WHERE {column} IS NOT NULL`, or name other `keys`."
            )),
            Error::Keys { .. } => {
                Some("Give one row for each key, or add the column to `keys` that differs.".into())
            }
            Error::ColumnMissing { hint, .. } | Error::Parameter { hint, .. } => Some(hint.clone()),
            Error::NoDeployment { .. } => {
                Some("List the versions with `headwater deployment ls`.".into())
            }
            Error::NotABranch { .. } => Some("Make a branch from it and run there.".into()),
            Error::DeclaredColumns { .. } => Some("Change `columns=` or what it returns.".into()),
            Error::ExpectationFailed { .. } => {
                Some("Look at what it checks, or run with `--no-strict` to be warned only.".into())
            }
            Error::TimeLimit { .. } => Some("Raise `timeout` at the head of the model.".into()),
            Error::Run { branch, failures, .. } => run_hint(branch.as_deref(), failures),
            Error::Cancelled { branch, .. } => branch.as_deref().map(where_to_read),
            Error::BranchMoved { .. } => {
                Some("Run again, and write to another branch than the run's.".into())
            }
            Error::Overtaken { .. } | Error::Conflict { .. } => {
                Some("Run again: the new state will be read.".into())
            }
        }
    }

    fn context(&self) -> BTreeMap<String, serde_json::Value> {
        let mut context = BTreeMap::new();
        let mut put = |key: &str, value| context.insert(key.to_owned(), value);
        match self {
            Error::Invalid { at, .. } => {
                put("file", json!(&*at.file));
                put("line", json!(at.line));
            }
            Error::Several { errors } => {
                let errors = errors.iter().map(Fault::to_problem);
                put("errors", json!(errors.collect::<Vec<Problem>>()));
            }
            Error::Sql { step, at, problem } => {
                context.clone_from(&problem.context);
                let mut put = |key: &str, value| context.insert(key.to_owned(), value);
                put("step", json!(step));
                put("file", json!(&*at.file));
                put("line", json!(at.line));
            }
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
                put("tables", json!(names(conflicts)));
                put("conflicts", json!(conflicts));
            }
            Error::Other(problem) => context.extend(problem.context.clone()),
            _ => {}
        }
        context
    }

    /// The causes of a failed run are those of its failures, with their users' frames.
    fn to_problem(&self) -> Problem {
        let causes = match self {
            Error::Run { failures, .. } => run_causes(failures),
            Error::Several { errors } => errors.iter().map(listed).collect(),
            Error::Sql { problem, .. }
            | Error::Environment { problem, .. }
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

fn deployment_text(text: &str, several: bool) -> String {
    if several {
        format!("several deployed versions begin with `{text}`")
    } else {
        format!("no deployed version `{text}`")
    }
}

fn owner_text(project: Option<&str>, reference: &str) -> String {
    match project {
        Some(project) => format!("project `{project}` made at `{reference}`"),
        None => format!("no model made, and that is there at `{reference}` already"),
    }
}

/// One line for an error among several: its message, its causes and its hint.
fn listed(error: &Error) -> String {
    let problem = error.to_problem();
    let mut line = with_causes(&problem).join(": ");
    if let Some(hint) = problem.hint {
        line = format!("{line}; {hint}");
    }
    line
}

fn with_causes(problem: &Problem) -> Vec<String> {
    std::iter::once(problem.message.clone()).chain(problem.causes.iter().cloned()).collect()
}

fn names(conflicts: &[MergeConflict]) -> Vec<String> {
    conflicts.iter().map(|conflict| conflict.table.to_string()).collect()
}

fn conflict_causes(conflicts: &[MergeConflict]) -> Vec<String> {
    let causes = conflicts.iter().flat_map(|conflict| {
        conflict.causes.iter().map(|cause| format!("`{}`: {}", conflict.table, cause.message))
    });
    causes.collect()
}

fn run_causes(failures: &[Problem]) -> Vec<String> {
    match failures {
        [one] => one.causes.clone(),
        many => many.iter().flat_map(with_causes).collect(),
    }
}

fn cycle_text(path: &[(String, Location)]) -> String {
    let mut text: Vec<String> = path.iter().map(|(name, at)| format!("`{name}` ({at})")).collect();
    if let Some((name, _)) = path.first() {
        text.push(format!("`{name}`"));
    }
    text.join(" reads ")
}

fn run_text(failures: &[Problem]) -> String {
    match failures {
        [one] => one.message.clone(),
        many => format!("{} steps failed", many.len()),
    }
}

/// A failure of one kind keeps its code; several kinds are a failed run.
fn run_code(failures: &[Problem]) -> ErrorCode {
    match failures {
        [first, rest @ ..] if rest.iter().all(|other| other.code == first.code) => first.code,
        _ => ErrorCode::RunFailed,
    }
}

fn where_to_read(branch: &str) -> String {
    format!("What it wrote can be read on `{branch}`.")
}

fn run_hint(branch: Option<&str>, failures: &[Problem]) -> Option<String> {
    let own = match failures {
        [one] => one.hint.clone(),
        _ => None,
    };
    let read = branch.map(where_to_read);
    match (own, read) {
        (Some(own), Some(read)) => Some(format!("{} {read}", headwater_model::sentence(own))),
        (own, read) => own.or(read),
    }
}
