//! Runs of a project: request, plan and report.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::{
    CommitId, MergeReport, MergeRequest, Priority, Problem, ProjectFiles, RefSpec, StepStatus,
    Usage,
};

/// Request for a run. It contains the files of the project.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RunRequest {
    /// The project's files by path, relative to its root and separated by `/`: the project file,
    /// SQL and Python files, and the files that functions use.
    pub files: ProjectFiles,
    /// The branch to run on; `main` by default.
    #[serde(rename = "ref")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<RefSpec>,
    /// Values for the project's parameters.
    pub parameters: BTreeMap<String, String>,
    /// True if a failed expectation ends the run; true by default.
    pub strict: Option<bool>,
    /// Run every model, including unchanged ones.
    pub no_cache: bool,
    /// Run models whose tables an earlier run has already computed from the same code, packages,
    /// parameters and inputs. By default, these tables are reused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_reuse: bool,
    /// Do not repeat the run after a conflict. By default, a run whose merge has a conflict is
    /// repeated up to 3 times on the new state of the branch.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_repeat: bool,
    /// The models and expectations to run, in dbt's selection syntax; all if empty. A space or
    /// another item is a union, a comma an intersection: `+orders`, `tag:daily,state:modified+`.
    /// Expectations of the selected models also run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub select: Vec<String>,
    /// Models and expectations to exclude, in the same syntax.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// The failed or stopped run to continue, by job id. Models that the earlier run completed are
    /// not run again. The branch and selection of the earlier run are used, and by default also its
    /// `files` and `parameters`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
    /// Validate and plan only.
    pub dry_run: bool,
    /// Run the project's unit tests instead of its models. Tests neither read nor write tables.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
    /// Return rows of every model's result and do not merge, so that no table changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<PreviewOptions>,
    /// Priority of the run's function calls; by default the priority set for each model, or else
    /// for the project.
    pub priority: Option<Priority>,
    /// A ref to merge first. The models run on the merged state, and one commit contains the merge
    /// and the tables that the models wrote. Tables of `replace` models are recomputed and never
    /// conflict.
    pub merge: Option<MergeRequest>,
    /// The Python versions and packages to use instead of resolving packages: those that an earlier
    /// run used. Environments that are not listed are resolved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<RunEnvironment>,
    /// The author of the job and of its commits.
    pub author: Option<String>,
    /// The trigger event that caused the run; an event is committed at most once.
    pub event: Option<String>,
}

/// The Python version and packages that the functions of a run use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunEnvironment {
    /// The declared Python version and packages, for example `python 3.11, polars >=1`.
    pub environment: String,
    /// The Python version, for example `3.11`.
    pub python: String,
    /// The versions of all installed packages, by package name.
    pub packages: BTreeMap<String, String>,
}

/// Options of a run that returns rows of every model's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewOptions {
    /// Maximum number of rows to return for each model, from 1 to 1000; 10 by default.
    #[serde(default = "default_rows", deserialize_with = "deserialize_rows")]
    #[schema(minimum = 1, maximum = 1000)]
    pub rows: u32,
    /// True to return the last rows instead of the first.
    #[serde(default)]
    pub tail: bool,
}

impl PreviewOptions {
    /// Default number of rows.
    pub const ROWS: u32 = 10;

    /// Maximum number of rows.
    pub const ROWS_MAX: u32 = 1000;
}

const fn default_rows() -> u32 {
    PreviewOptions::ROWS
}

fn deserialize_rows<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let rows = u32::deserialize(deserializer)?;
    if (1..=PreviewOptions::ROWS_MAX).contains(&rows) {
        return Ok(rows);
    }
    let message =
        format!("`rows` of a preview is {rows}; it must be 1 to {}", PreviewOptions::ROWS_MAX);
    Err(serde::de::Error::custom(message))
}

/// Rows of a model's result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RowsPreview {
    /// The columns.
    pub columns: Vec<PreviewColumn>,
    /// The rows, each with one JSON value for every column.
    #[schema(value_type = Vec<Vec<Object>>)]
    pub rows: Vec<Vec<serde_json::Value>>,
    /// True if rows are omitted because the result exceeds 256 KiB.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// A column of a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewColumn {
    /// The column's name.
    pub name: String,
    /// The column's Arrow type.
    #[serde(rename = "type")]
    pub column_type: String,
}

/// The plan of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunPlan {
    /// The project's name.
    pub project: String,
    /// The selected steps and the steps that they need, parents before children.
    pub steps: Vec<PlannedStep>,
    /// The number of rows in the tables to read. Filters are not considered, so this is an upper
    /// bound.
    #[serde(default)]
    pub rows_read: u64,
    /// The number of bytes in the tables to read. Column selections are not considered, so this is
    /// an upper bound.
    #[serde(default)]
    pub bytes_read: u64,
    /// Estimated cost by the rate card: the sum over the models. The cost of a model is the cost of
    /// its last run or, if it never ran, the cost of the bytes to read.
    #[serde(default)]
    pub cost: f64,
    /// The rate card's currency.
    #[serde(default)]
    pub currency: String,
    /// Environments to build before their functions can run.
    #[serde(default)]
    pub installs: Vec<PlannedInstall>,
    /// The models, expectations and views that read tables written by the run, but are not part of
    /// the run.
    #[serde(default)]
    pub affected: Vec<AffectedReader>,
}

/// An environment that a run builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedInstall {
    /// The environment's Python version and packages, for example `python 3.11, polars 1.38.1`.
    pub environment: String,
    /// The models and expectations that use the environment.
    pub steps: Vec<String>,
}

/// A model, expectation or view outside the run that reads a table written by the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AffectedReader {
    /// The model, expectation or view.
    pub name: String,
    /// `sql`, `python`, `expectation` or `view`.
    pub kind: String,
    /// The models of the run that this reader reads, directly or indirectly.
    pub reads: Vec<String>,
    /// True if one of the models in `reads` removes a column of its table or changes the type of a
    /// column. Null if the new columns of one of these models are not known before the run.
    pub breaking: Option<bool>,
}

/// Changes that a run makes to a table's columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedColumns {
    /// Columns to add.
    pub added: Vec<String>,
    /// Columns to remove, which is a breaking change.
    pub removed: Vec<String>,
    /// Columns whose type changes, for example `amount: int -> string`, which is a breaking change.
    pub retyped: Vec<String>,
}

impl PlannedColumns {
    /// Returns true if a column is removed or its type changes.
    pub fn is_breaking(&self) -> bool {
        !self.removed.is_empty() || !self.retyped.is_empty()
    }
}

/// One step of a run plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlannedStep {
    /// The name of the model or expectation.
    pub name: String,
    /// `sql`, `python` or `expectation`.
    pub kind: String,
    /// The file that defines the step.
    pub file: String,
    /// The line of the definition in that file.
    pub line: u32,
    /// The models and lake tables that the step reads.
    pub parents: Vec<String>,
    /// The lake tables among the step's parents.
    pub tables: Vec<String>,
    /// The materialization: `none`, `replace`, `append`, `merge`, `overwrite_partitions` or `view`.
    /// Null for expectations.
    pub materialization: Option<String>,
    /// The Python version and packages of a Python step, for example `python 3.11, polars 1.38.1`.
    pub environment: Option<String>,
    /// The code of the reason to run the step, such as `changed code` or `first run`. Null if the
    /// step does not run.
    pub reason: Option<String>,
    /// The reason in detail: the file, table, parameter or environment that changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
    /// The branch whose table is reused instead of running the model. A run on that branch computed
    /// the table from the same code, packages, parameters and inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuses: Option<String>,
    /// The step's tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Number of rows in the tables that the model reads, ignoring filters. Absent if the model
    /// does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_read: Option<u64>,
    /// The number of bytes in the tables that the model reads, including all columns. Absent if the
    /// model does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_read: Option<u64>,
    /// Estimated cost of the model. Absent if the model does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// Changes of the columns of the model's table, if the table exists and the new columns are
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<PlannedColumns>,
}

impl PlannedStep {
    /// Returns the reasons why the step runs, or why its table is reused, one phrase each. Empty
    /// if the step is up to date.
    pub fn reasons(&self) -> Vec<String> {
        run_reasons(self.reason.as_deref(), &self.why, self.reuses.as_deref())
    }
}

/// Returns the reasons why a step runs, one phrase each: the changes in `why`, or the text for the
/// code `reason` if `why` is empty. For a reused table, returns a phrase with the name of its
/// branch. Empty if the step is up to date.
pub fn run_reasons(reason: Option<&str>, why: &[String], reuses: Option<&str>) -> Vec<String> {
    match (reason, why, reuses) {
        (None, _, None) => Vec::new(),
        (None, _, Some(branch)) => vec![format!("computed from the same inputs on `{branch}`")],
        (Some(reason), [], _) => vec![in_words(reason).to_owned()],
        (Some(_), why, _) => why.to_vec(),
    }
}

/// The text for the reason code `first run`.
pub const FIRST_RUN: &str = "the model was never built on this branch";

/// Returns the text for a reason code.
fn in_words(reason: &str) -> &str {
    match reason {
        "changed code" => "the code or settings changed",
        "changed input" => "an input changed",
        "changed environment" => "the versions of installed packages changed",
        "first run" => FIRST_RUN,
        "no cache" => "`--no-cache` runs every model",
        "its child runs" => "the model is not stored, and a model that runs reads it",
        "its table was changed" => "another writer changed the model's table",
        "not checked yet" => "the expectation has not passed on this data",
        "it uses the network" => "the model uses the network",
        "no cache strategy" => "the model has no cache strategy",
        other => other,
    }
}

/// The result of one model or expectation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepReport {
    /// The model, expectation or unit test.
    pub step: String,
    /// `sql`, `python`, `expectation` or `test`.
    pub kind: String,
    /// The outcome of the step.
    pub status: StepStatus,
    /// The branch whose table was reused, if the status is `reused`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuses: Option<String>,
    /// The reasons why the plan contained the step, one phrase each. Also set for skipped steps.
    /// Empty if the step's result was up to date.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Number of rows in the step's result.
    pub rows: Option<u64>,
    /// Number of rows that failed an expectation and are in the quarantine table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<u64>,
    /// Rows of the step's result, if the request contains `preview`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<RowsPreview>,
    /// The step's usage, including waiting times.
    pub usage: Usage,
    /// The step's cost by the rate card.
    #[serde(default)]
    pub cost: f64,
    /// The reason for a failure or warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunReport {
    /// The project's name.
    pub project: String,
    /// The requested branch; empty for unit tests.
    pub branch: String,
    /// The branch of the run. It is deleted after success and kept for inspection after failure.
    /// Empty for unit tests.
    pub run_branch: String,
    /// The commit that the run made on the branch. Null if nothing changed, or if the run failed or
    /// was a preview.
    #[schema(value_type = Option<String>)]
    pub commit: Option<CommitId>,
    /// The tables that the commit changed.
    pub tables: Vec<String>,
    /// The conflicts of earlier attempts, after which the run was repeated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Problem>,
    /// The merge that preceded the models, if one was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeReport>,
    /// All steps, in the order in which they ended.
    pub steps: Vec<StepReport>,
    /// The total usage of all steps.
    pub usage: Usage,
    /// The total cost of all steps by the rate card.
    pub cost: f64,
    /// The rate card's currency.
    pub currency: String,
}
