//! Runs of a project: request, plan and report.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, MergeReport, MergeRequest, Priority, Problem, RefSpec, StepStatus, Usage};

/// Request for a run. It contains the project, so the files that run are those that were sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RunRequest {
    /// The project's files by path, relative to its root and separated by `/`: the project file,
    /// SQL and Python files.
    pub files: BTreeMap<String, String>,
    /// The branch to run on; `main` by default.
    #[serde(rename = "ref")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<RefSpec>,
    /// Values for the project's parameters.
    pub parameters: BTreeMap<String, String>,
    /// Whether a failed expectation ends the run; true by default.
    pub strict: Option<bool>,
    /// Run every model, including unchanged ones.
    pub no_cache: bool,
    /// Check and plan only.
    pub dry_run: bool,
    /// Priority of the run's functions; by default that of each model, or else of the project.
    pub priority: Option<Priority>,
    /// A ref to merge first: the models run on the merged state, and one commit contains the merge
    /// and what they wrote. Tables of `replace` models are recomputed and never conflict.
    pub merge: Option<MergeRequest>,
    /// The author.
    pub author: Option<String>,
    /// The trigger event that caused the run; an event is committed at most once.
    pub event: Option<String>,
}

/// The plan of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunPlan {
    /// The project's name.
    pub project: String,
    /// The steps, parents before children.
    pub steps: Vec<PlannedStep>,
}

/// One step of a run plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlannedStep {
    /// The model or expectation.
    pub name: String,
    /// `sql`, `python` or `expectation`.
    pub kind: String,
    /// The file that defines it.
    pub file: String,
    /// The line in that file.
    pub line: u32,
    /// The models and lake tables that it reads.
    pub parents: Vec<String>,
    /// Those of its inputs that are lake tables.
    pub tables: Vec<String>,
    /// `none`, `replace`, `append`, `merge` or `overwrite_partitions`; none for expectations.
    pub materialization: Option<String>,
    /// `python 3.11, polars 1.38.1`, for Python.
    pub environment: Option<String>,
    /// The reason to run, or none: `changed code`, `changed input`, `first run`, `no cache`.
    pub reason: Option<String>,
}

/// The result of one model or expectation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepReport {
    /// The model or expectation.
    pub step: String,
    /// `sql`, `python` or `expectation`.
    pub kind: String,
    /// Its outcome.
    pub status: StepStatus,
    /// Number of rows of its result.
    pub rows: Option<u64>,
    /// Its usage, including waiting times.
    pub usage: Usage,
    /// Its cost by the rate card.
    #[serde(default)]
    pub cost: f64,
    /// The reason of a failure or warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunReport {
    /// The project's name.
    pub project: String,
    /// The requested branch.
    pub branch: String,
    /// The branch of the run: deleted after success, kept for reading after failure.
    pub run_branch: String,
    /// The commit on the branch; none if nothing changed or the run failed.
    #[schema(value_type = Option<String>)]
    pub commit: Option<CommitId>,
    /// The tables that the commit changed.
    pub tables: Vec<String>,
    /// The merge that preceded the models, if one was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeReport>,
    /// All steps, in the order in which they ended.
    pub steps: Vec<StepReport>,
    /// The sum over the steps.
    pub usage: Usage,
    /// Its cost by the rate card.
    pub cost: f64,
    /// The rate card's currency.
    pub currency: String,
}
