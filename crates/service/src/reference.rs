//! Refs: resolve, list commits, compare.

use std::sync::Arc;

use headwater_engine::{DiffOptions, TableAt};
use headwater_jobs::NewJob;
use headwater_model::{
    Commit, CommitId, Diff, JobKind, OrProblem, Principal, Problem, RefSpec, ResolvedRef,
    TableComparison,
};

use crate::access::{Action, authorize};
use crate::service::Components;

/// Operations on refs.
#[derive(Clone)]
pub struct Refs(pub(crate) Arc<Components>);

impl Refs {
    /// Returns the commit of a ref, and its branch if it is one.
    pub async fn resolve(
        &self,
        principal: &Principal,
        reference: &RefSpec,
    ) -> Result<ResolvedRef, Problem> {
        authorize(principal, Action::Read)?;
        let resolved = self.0.lake.catalog().resolve(reference).await.or_problem()?;
        Ok(ResolvedRef { commit: resolved.commit, branch: resolved.branch })
    }

    /// Lists at most `limit` commits that lead to a ref, newest first, those after `after` if
    /// given.
    pub async fn log(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        limit: usize,
        after: Option<CommitId>,
    ) -> Result<Vec<Commit>, Problem> {
        authorize(principal, Action::Read)?;
        self.0.lake.catalog().log(reference, limit, after).await.or_problem()
    }

    /// Compares two refs, as a job.
    pub async fn diff(
        &self,
        principal: &Principal,
        from: RefSpec,
        to: RefSpec,
        options: DiffOptions,
    ) -> Result<Diff, Problem> {
        let new = new_job(principal, format!("{from} with {to}"), &to)?;
        let engine = self.0.engine.clone();
        let work = async move { Box::pin(engine.diff(&from, &to, &options)).await.or_problem() };
        self.0.run_as_job(new, work).await
    }

    /// Compares two states of a table, as a job.
    pub async fn diff_table(
        &self,
        principal: &Principal,
        from: TableAt,
        to: TableAt,
        options: DiffOptions,
    ) -> Result<TableComparison, Problem> {
        let summary = format!("{} at {} with {}", from.table, from.reference, to.reference);
        let new = new_job(principal, summary, &to.reference)?;
        let engine = self.0.engine.clone();
        let work =
            async move { Box::pin(engine.diff_table(&from, &to, &options)).await.or_problem() };
        self.0.run_as_job(new, work).await
    }
}

fn new_job(principal: &Principal, summary: String, to: &RefSpec) -> Result<NewJob, Problem> {
    authorize(principal, Action::Read)?;
    let new = NewJob::new(JobKind::Diff, summary, principal.author());
    Ok(NewJob { reference: Some(to.to_string()), ..new })
}
