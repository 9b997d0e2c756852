//! Asking for a run of a project, the plan of it, and the report afterwards.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, MergeReport, MergeRequest, Priority, Problem, RefSpec, StepStatus, Usage};

/// Asks for a run. The project travels with the request, so that what ran is what was sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RunRequest {
    /// The project's files by path relative to its root, with `/`: `headwater.toml`, SQL and Python files.
    pub files: BTreeMap<String, String>,
    /// The branch to run on; `main` where nothing is said.
    #[serde(rename = "ref")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<RefSpec>,
    /// Values for the project's parameters.
    pub parameters: BTreeMap<String, String>,
    /// A failed expectation ends the run; yes where nothing is said.
    pub strict: Option<bool>,
    /// Run every model, changed or not.
    pub no_cache: bool,
    /// Check and plan, and run nothing.
    pub dry_run: bool,
    /// How much its functions matter where more wait than can run; what each model says, or else the
    /// project, where nothing is said.
    pub priority: Option<Priority>,
    /// A ref to merge first: the models run on the merged state, and one commit on the branch has the
    /// merge and what they wrote. Tables of `replace` models are computed again and never conflict.
    pub merge: Option<MergeRequest>,
    /// Who asks.
    pub author: Option<String>,
    /// The trigger event that asks; the same event never commits twice.
    pub event: Option<String>,
}

/// What a run would do.
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
    /// Models and lake tables it reads.
    pub parents: Vec<String>,
    /// Which of those are lake tables.
    pub tables: Vec<String>,
    /// `none`, `replace`, `append` or `merge`; none for expectations.
    pub materialization: Option<String>,
    /// `python 3.11, polars 1.38.1`, for Python.
    pub environment: Option<String>,
    /// Whether it would run, and if so why: `changed code`, `changed input`, `first run`, `no cache`.
    pub reason: Option<String>,
}

/// How one model or expectation went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepReport {
    /// The model or expectation.
    pub step: String,
    /// `sql`, `python` or `expectation`.
    pub kind: String,
    /// How it ended.
    pub status: StepStatus,
    /// Rows it gave.
    pub rows: Option<u64>,
    /// What it took, and what it waited for before it began.
    pub usage: Usage,
    /// What that costs by the rate card.
    #[serde(default)]
    pub cost: f64,
    /// Why it failed or warned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunReport {
    /// The project's name.
    pub project: String,
    /// The branch it was asked for on.
    pub branch: String,
    /// The branch it worked on: gone after success, kept for reading after failure.
    pub run_branch: String,
    /// The commit on the branch; none where nothing had changed, or the run failed.
    #[schema(value_type = Option<String>)]
    pub commit: Option<CommitId>,
    /// The tables that the commit changed.
    pub tables: Vec<String>,
    /// The merge that the models ran on, for a run that was asked to merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeReport>,
    /// Every step, in the order they ended.
    pub steps: Vec<StepReport>,
    /// The sum over the steps.
    pub usage: Usage,
    /// What that costs by the rate card.
    pub cost: f64,
    /// The rate card's currency.
    pub currency: String,
}
