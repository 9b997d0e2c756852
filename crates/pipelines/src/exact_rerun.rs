//! Exact repetitions of runs: the commit that an earlier run started from.

use headwater_model::{AncestorDistance, CommitId, ErrorCode, Job, PROPERTY_JOB, Problem, RefSpec};

use crate::runner::{Runner, run_branch};
use crate::{Error, Result};

impl Runner {
    /// Returns the commit that a run started from. For a merged run, this is the merge base of the
    /// run's merge commit. For a failed run, it is the merge base of the run branch and the target.
    /// For a run that wrote nothing, it is the target's head at the time of the run's start.
    pub async fn start_of(&self, job: &Job) -> Result<CommitId> {
        let catalog = self.lake().catalog();
        let failed = |error: headwater_catalog::Error| Error::other(&error);
        let merged = job.result["commit"].as_str().and_then(|id| id.parse::<CommitId>().ok());
        if let Some(commit) = merged {
            let merge = catalog.read_commit(commit).await.map_err(failed)?;
            return match merge.parents[..] {
                [target, run] => self.only_base(target, run, job).await,
                _ => self.before_run(commit, job).await,
            };
        }
        let target = job.reference.clone().unwrap_or_else(|| "main".to_owned());
        let branch = run_branch(job.id);
        let found = catalog.branches(Some(&branch)).await.map_err(failed)?;
        if let Some(own) = found.into_iter().find(|one| one.name == branch) {
            let target = catalog.branch(&target).await.map_err(failed)?.commit;
            return self.only_base(target, own.commit, job).await;
        }
        let started = job.started.unwrap_or(job.created);
        let of = Box::new(RefSpec::Name(target));
        let then = RefSpec::Before { of, back: AncestorDistance::Time(started) };
        Ok(catalog.resolve(&then).await.map_err(failed)?.commit)
    }

    async fn only_base(&self, one: CommitId, other: CommitId, job: &Job) -> Result<CommitId> {
        let bases = self.lake().catalog().merge_bases(one, other).await;
        let bases = bases.map_err(|error| Error::other(&error))?;
        let unknown = || {
            let message = format!("the commit that the run `{}` started from is unknown", job.id);
            Error::from(Problem::new(ErrorCode::RefNotFound, message))
        };
        if let [base] = bases[..] { Ok(base) } else { Err(unknown()) }
    }

    /// Returns the nearest ancestor of a commit that the job did not create.
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
