//! Execution of runs.

use async_trait::async_trait;
use headwater_access::Access;
use headwater_destinations::DestinationSender;
use headwater_jobs::{Executor, JobContext};
use headwater_lake::Lake;
use headwater_model::{
    AccessObject, Actor, CommitId, CreateRef, ErrorCode, JobId, Problem, RefSpec, ResultExt,
    RunReport, RunRequest, ToProblem,
};
use headwater_pipelines::Runner;
use headwater_secrets::SecretStore;
use serde_json::{Value, json};

use crate::job_payload::{JobPayload, read};
use crate::rights::table_access;
use crate::run_output::{RunWithOutputs, is_merged};

/// Executes runs.
#[derive(Clone)]
pub struct RunExecutor {
    /// The project runner. It checks no rights itself, because it has all rights.
    pub runner: Runner,
    /// The lake that the runs read and change.
    pub lake: Lake,
    /// The rights of users.
    pub access: Access,
    /// The secrets of outputs.
    pub secrets: SecretStore,
    /// The destinations of outputs.
    pub destinations: DestinationSender,
}

#[async_trait]
impl Executor for RunExecutor {
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem> {
        let JobPayload::<RunRequest> { request, actor, new_branch } = read(payload)?;
        let target = request.reference.clone();
        if let (Some(created_at), Some(RefSpec::Name(target))) = (new_branch, &target) {
            self.restore_branch(target, created_at, &actor).await?;
        }
        let ran = self.run(request, &actor, &context, &[]).await;
        if let (Err(_), Some(created_at), Some(RefSpec::Name(target))) = (&ran, new_branch, target)
        {
            self.delete_unused(&target, created_at, &actor, context.id()).await;
        }
        Ok(json!(ran?))
    }

    async fn discard(&self, job: JobId, payload: Value) {
        let Ok(recorded) = read::<JobPayload<RunRequest>>(payload) else { return };
        let JobPayload { request, actor, new_branch } = recorded;
        if let (Some(created_at), Some(RefSpec::Name(target))) = (new_branch, request.reference) {
            self.delete_unused(&target, created_at, &actor, job).await;
        }
    }
}

impl RunExecutor {
    /// Creates the executor from handles to its components. The runner has all rights.
    pub fn new(
        runner: &Runner,
        lake: &Lake,
        access: &Access,
        secrets: &SecretStore,
        destinations: &DestinationSender,
    ) -> Self {
        RunExecutor {
            runner: runner.clone(),
            lake: lake.clone(),
            access: access.clone(),
            secrets: secrets.clone(),
            destinations: destinations.clone(),
        }
    }

    /// Runs a project within a job, with the rights of `actor`, and writes the outputs of its
    /// models after the merge. If a user's run fails, the user becomes the owner of the branch
    /// `run/JOB` with the run's tables, and can read and delete this branch. `caused_by` are the
    /// triggers that caused the run.
    pub async fn run(
        &self,
        request: RunRequest,
        actor: &Actor,
        context: &JobContext,
        caused_by: &[String],
    ) -> Result<RunReport, Problem> {
        let principal = actor.principal();
        let access = table_access(&self.access, &principal, Some(context.id()));
        let runner = self.runner.with_access(access).with_outputs_of(actor);
        if request.test {
            let tested = runner.test(request, context.clone()).await;
            return tested.map_err(|error| error.to_problem());
        }
        let mut outputs = RunWithOutputs::of(&request, actor, caused_by);
        if let Some(outputs) = &mut outputs {
            outputs.declared = Box::pin(self.check_outputs(&request.files, &principal)).await?;
        }
        let ran = Box::pin(self.run_repeatedly(&runner, request, &principal, context)).await;
        let branch = format!("run/{}", context.id());
        if principal.user_name().is_some()
            && ran.is_err()
            && self.lake.catalog().branch(&branch).await.is_ok()
            && let Err(error) =
                self.access.set_owner(&principal, &AccessObject::branch(&branch)).await
        {
            tracing::warn!("the owner of branch `{branch}` cannot be recorded: {error}");
        }
        if let Some(outputs) = outputs.filter(|_| is_merged(&ran)) {
            Box::pin(self.write_outputs(&outputs, context)).await?;
        }
        ran
    }
}

impl RunExecutor {
    /// Creates the branch of a queued rerun again if it is missing. If the server crashes while it
    /// stops the rerun, the branch may be deleted although the rerun is still queued.
    async fn restore_branch(
        &self,
        target: &str,
        created_at: CommitId,
        actor: &Actor,
    ) -> Result<(), Problem> {
        match self.lake.catalog().branch(target).await {
            Err(error) if error.code() == ErrorCode::RefNotFound => {}
            found => return found.map(drop).or_problem(),
        }
        let from = Some(RefSpec::Commit(created_at.to_string()));
        let create = CreateRef { name: target.to_owned(), from, if_not_exists: true };
        self.lake.create_branch(create).await.or_problem()?;
        self.access.set_owner(&actor.principal(), &AccessObject::branch(target)).await.or_problem()
    }

    /// Deletes the target branch that was created for a run, after the run has failed, or was
    /// stopped while it was queued. Keeps a target with new commits. Also keeps it if the run wrote
    /// tables (to `run/JOB`), because a retry would merge these tables into the target.
    async fn delete_unused(&self, target: &str, created_at: CommitId, actor: &Actor, job: JobId) {
        let catalog = self.lake.catalog();
        if catalog.branch(&format!("run/{job}")).await.is_ok() {
            return;
        }
        let deleted = match catalog.delete_branch_at(target, created_at).await {
            Ok(deleted) => deleted,
            Err(error) => {
                if error.code() != ErrorCode::RefNotFound {
                    tracing::warn!("the branch `{target}` of a rerun cannot be deleted: {error}");
                }
                false
            }
        };
        if deleted
            && let Err(error) =
                self.access.remove_owner(&actor.principal(), &AccessObject::branch(target)).await
        {
            tracing::warn!(
                "the branch `{target}` of a rerun is deleted, but the record of its owner cannot be \
                 removed: {error}"
            );
        }
    }
}

/// Returns the name of the job queue for a project's runs on a branch. Jobs in a queue execute one
/// after the other, because concurrent runs would conflict.
pub fn run_queue(project: &str, branch: &str) -> String {
    format!("run of {project} on {branch}")
}
