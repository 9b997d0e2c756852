//! Exact repetitions of runs: the commit that an earlier run started from.

use headwater_model::{
    AncestorDistance, CommitId, ErrorCode, Job, PROPERTY_JOB, Problem, RefSpec, RunRequest,
    ToProblem,
};

use crate::runner::{Runner, run_branch};
use crate::{Error, Result};

impl Runner {
    /// Returns the commit that a run started from. For a merged run, this is the merge base of the
    /// parents of the run's merge commit. For a failed run, it is the merge base of the run branch
    /// and the target. For a run that wrote nothing, it is the target's head at the time of the
    /// run's start.
    ///
    /// If the target was deleted, this is the commit at which the run branch was created. If the
    /// run branch does not exist either, it is `created_at`: the commit at which the target was
    /// created for the run. Error: `ref_not_found` if the target was not created for the run.
    pub async fn start_of(
        &self,
        job: &Job,
        request: &RunRequest,
        created_at: Option<CommitId>,
    ) -> Result<CommitId> {
        match self.find_start(job, request).await {
            Err(error) if error.code() == ErrorCode::RefNotFound => created_at.ok_or(error),
            found => found,
        }
    }

    async fn find_start(&self, job: &Job, request: &RunRequest) -> Result<CommitId> {
        let catalog = self.lake().catalog();
        let failed = |error: headwater_catalog::Error| Error::other(&error);
        let merged = job.result["commit"].as_str().and_then(|id| id.parse::<CommitId>().ok());
        if let Some(commit) = merged {
            let merge = catalog.read_commit(commit).await.map_err(failed)?;
            return match merge.parents[..] {
                [target, run] => self.unique_base(target, run, job).await,
                _ => self.before_run(commit, job).await,
            };
        }
        let target = job.reference.clone().unwrap_or_else(|| "main".to_owned());
        let branch = run_branch(job.id);
        let found = catalog.branches(Some(&branch)).await.map_err(failed)?;
        let own = found.into_iter().find(|one| one.name == branch);
        let head = match catalog.branch(&target).await {
            Ok(found) => found.commit,
            Err(headwater_catalog::Error::RefNotFound { .. }) => {
                // The branch of a retry was created from the last commit of the retried run, so the
                // start of the branch is not the start of the first attempt.
                let start = if own.is_some() && request.retry.is_none() {
                    catalog.start_of(&branch).await.map_err(failed)?
                } else {
                    None
                };
                return start.ok_or_else(|| target_deleted(job, &target));
            }
            Err(error) => return Err(failed(error)),
        };
        if let Some(own) = own {
            return self.unique_base(head, own.commit, job).await;
        }
        let started = job.started.unwrap_or(job.created);
        let of = Box::new(RefSpec::Name(target));
        let then = RefSpec::Before { of, back: AncestorDistance::Time(started) };
        Ok(catalog.resolve(&then).await.map_err(failed)?.commit)
    }

    async fn unique_base(&self, one: CommitId, other: CommitId, job: &Job) -> Result<CommitId> {
        let bases = self.lake().catalog().merge_bases(one, other).await;
        let bases = bases.map_err(|error| Error::other(&error))?;
        let unknown = || {
            let message = format!("the commit that the run `{}` started from is unknown", job.id);
            Error::from(Problem::new(ErrorCode::RefNotFound, message))
        };
        if let [base] = bases[..] { Ok(base) } else { Err(unknown()) }
    }

    /// Returns `commit` if the job did not create it, or else its nearest ancestor that the job did
    /// not create.
    async fn before_run(&self, commit: CommitId, job: &Job) -> Result<CommitId> {
        let (id, mut at) = (job.id.to_string(), commit);
        loop {
            let commit = self.lake().catalog().read_commit(at).await;
            let commit = commit.map_err(|error| Error::other(&error))?;
            match commit.parents.first() {
                Some(parent) if commit.properties.get(PROPERTY_JOB) == Some(&id) => at = *parent,
                _ => return Ok(at),
            }
        }
    }
}

/// Returns the error for a run whose start is unknown because its target was deleted.
fn target_deleted(job: &Job, target: &str) -> Error {
    let message = format!(
        "the branch `{target}` of the run `{}` was deleted, so the commit that the run started \
         from is unknown",
        job.id.short()
    );
    let problem = Problem::new(ErrorCode::RefNotFound, message);
    problem.with_hint("Run the current files of the project with `headwater run`.").into()
}
