//! The request and branches of a run, with the errors and the report of the run.

use headwater_jobs::JobContext;
use headwater_model::{CommitId, RunReport, RunRequest, StepReport, Usage};

use crate::Error;
use crate::plan::Plan;

/// Request and branches of one run.
pub(crate) struct RunContext {
    pub target: String,
    pub branch: String,
    /// Head of the target when the run started.
    pub start: CommitId,
    pub request: RunRequest,
    pub context: JobContext,
    /// Commits of the retried run, which this run's branch contains.
    pub made: Vec<CommitId>,
}

impl RunContext {
    pub fn author(&self) -> String {
        let named = self.request.author.clone();
        named.unwrap_or_else(|| self.context.author().to_owned())
    }

    /// Returns true if the run returns rows of its models instead of a merge.
    pub fn is_preview(&self) -> bool {
        self.request.preview.is_some()
    }

    /// Returns true if a failed expectation fails the run.
    pub fn is_strict(&self) -> bool {
        self.request.strict.unwrap_or(true)
    }

    /// Returns true if a successful run implies that all expectations passed.
    pub fn checks(&self, plan: &Plan) -> bool {
        self.is_strict() && plan.checks_all()
    }

    /// Creates the error of a run whose branch another client has written to.
    pub fn branch_moved(&self) -> Error {
        Error::BranchMoved { target: self.target.clone(), branch: self.branch.clone() }
    }

    /// Converts a store error to `BranchMoved` if the run branch caused the conflict.
    pub fn not_stored(&self, error: headwater_store::Error, branch: &str) -> Error {
        match error {
            headwater_store::Error::Conflict { name } if name == branch => self.branch_moved(),
            error => Error::other(&error),
        }
    }

    /// Converts the error of a merge: `BranchMoved` if the run branch caused a conflict,
    /// `Overtaken` if the target moved.
    pub fn not_merged(&self, error: headwater_lake::Error, branch: &str) -> Error {
        match error {
            headwater_lake::Error::Catalog(error) => match *error {
                headwater_catalog::Error::Store(error) => self.not_stored(error, branch),
                error => Error::other(&error),
            },
            headwater_lake::Error::Store(error) => self.not_stored(error, branch),
            headwater_lake::Error::NotChecked { moved: true, .. } => {
                Error::Overtaken { target: self.target.clone(), branch: self.branch.clone() }
            }
            error => Error::other(&error),
        }
    }

    /// Returns the report of the run.
    pub fn report(
        &self,
        plan: &Plan,
        steps: Vec<StepReport>,
        commit: Option<CommitId>,
        tables: Vec<String>,
    ) -> RunReport {
        let mut usage = Usage::default();
        for step in &steps {
            usage.add(&step.usage);
        }
        RunReport {
            project: plan.project.name.clone(),
            branch: self.target.clone(),
            run_branch: self.branch.clone(),
            commit,
            tables,
            conflicts: Vec::new(),
            merge: None,
            // A fold from 0.0 is used, because the sum of no floats is `-0.0`.
            cost: steps.iter().fold(0.0, |sum, step| sum + step.cost),
            currency: plan.project.rates.currency.clone(),
            steps,
            usage,
        }
    }
}
