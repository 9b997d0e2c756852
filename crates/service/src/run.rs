//! Runs of a project: plan, or start as a job.

use std::sync::Arc;

use headwater_executors::{EVERY, JobPayload, check_request, check_retriable, run_queue};
use headwater_jobs::NewJob;
use headwater_model::{
    AccessObject, Action, Actor, CommitId, Job, JobKind, Principal, Problem, ProjectFiles, RefSpec,
    ResultExt, RunPlan, RunRequest,
};
use headwater_pipelines::Project;
use serde_json::json;

use crate::job::Jobs;
use crate::service::Components;

/// Operations on runs.
#[derive(Clone)]
pub struct Runs(pub(crate) Arc<Components>);

impl Runs {
    /// Returns the models that a run would compute, without writing anything.
    pub async fn plan(
        &self,
        principal: &Principal,
        request: &RunRequest,
    ) -> Result<RunPlan, Problem> {
        let retried = match &request.retry {
            Some(_) => Some(self.with_retried(principal, request.clone()).await?),
            None => None,
        };
        let request = retried.as_ref().unwrap_or(request);
        self.0.authorize(principal, Action::Run, &project_object(&request.files))?;
        check_request(request)?;
        self.0.check_ref(principal, &reference_of(request)).await?;
        let runner = self.0.runner.with_access(self.0.table_access(principal));
        runner.plan(request).await.or_problem()
    }

    /// Starts a run and returns its job. The job waits for earlier runs of the project on the
    /// branch.
    pub async fn start(&self, principal: &Principal, request: RunRequest) -> Result<Job, Problem> {
        self.submit(principal, request, None).await
    }

    /// Starts a run on a branch that the caller created for the run, at the commit `created_at`. If
    /// the run fails before a model has written a table, deletes the branch, unless it has new
    /// commits.
    pub(crate) async fn start_on_new_branch(
        &self,
        principal: &Principal,
        request: RunRequest,
        created_at: CommitId,
    ) -> Result<Job, Problem> {
        self.submit(principal, request, Some(created_at)).await
    }

    async fn submit(
        &self,
        principal: &Principal,
        request: RunRequest,
        new_branch: Option<CommitId>,
    ) -> Result<Job, Problem> {
        let mut request = self.with_retried(principal, request).await?;
        self.0.authorize(principal, Action::Run, &project_object(&request.files))?;
        check_request(&request)?;
        self.0.settings.refresh().await;
        self.0.check_ref(principal, &reference_of(&request)).await?;
        let branch = self.0.branch_to_write(request.reference.as_ref()).await;
        let branch = branch.map_err(|problem| self.0.conceal(principal, problem))?;
        if !request.test {
            self.0.authorize(principal, Action::Write, &AccessObject::branch(&branch))?;
        }
        request.author = Some(principal.author().to_owned());
        let project = project_name(&request);
        let new = NewJob::of(JobKind::Run, summary(&project, &request), principal).named(&project);
        let new = NewJob {
            event: request.event.clone(),
            // Tests change nothing, so they do not wait for runs.
            queue: (!request.test).then(|| run_queue(&project, &branch)),
            reference: Some(branch),
            payload: json!(JobPayload { request, actor: Actor::of(principal), new_branch }),
            ..new
        };
        let id = self.0.jobs.submit(new).await.or_problem()?;
        self.0.jobs.job(id).await.or_problem()
    }

    /// Adds missing values to a request that continues a failed run, from the request of that run.
    async fn with_retried(
        &self,
        principal: &Principal,
        request: RunRequest,
    ) -> Result<RunRequest, Problem> {
        let Some(id) = &request.retry else { return Ok(request) };
        let jobs = Jobs(self.0.clone());
        let job = jobs.find(principal, id).await?;
        if !principal.is_author_of(&job.author, job.created) {
            self.0.authorize(principal, Action::Maintain, &AccessObject::lake())?;
        }
        let retried = jobs.run_request(&job).await?;
        check_retriable(&job, &retried)?;
        let mut parameters = retried.parameters;
        parameters.extend(request.parameters);
        let files = if request.files.is_empty() { retried.files } else { request.files };
        let reference = job.reference.as_deref().map(str::parse).transpose().or_problem()?;
        Ok(RunRequest {
            files,
            parameters,
            reference: reference.or(retried.reference),
            strict: request.strict.or(retried.strict),
            priority: request.priority.or(retried.priority),
            select: retried.select,
            exclude: retried.exclude,
            environments: retried.environments,
            retry: Some(job.id.to_string()),
            ..request
        })
    }
}

/// Returns the ref of a run; `main` by default.
pub(crate) fn reference_of(request: &RunRequest) -> RefSpec {
    request.reference.clone().unwrap_or_else(RefSpec::main)
}

/// Returns the access control object of the files' project. If the project's name cannot be read,
/// only a grant on every project covers the object.
pub fn project_object(files: &ProjectFiles) -> AccessObject {
    let settings = Project::read_settings(files);
    let name = settings.map_or_else(|_| EVERY.to_owned(), |settings| settings.name);
    AccessObject::project(&name)
}

/// Returns the name of a run's project, from `headwater.toml`. The job parses the other files.
pub(crate) fn project_name(request: &RunRequest) -> String {
    let settings = Project::read_settings(&request.files);
    settings.map_or_else(|_| "a project with errors".to_owned(), |settings| settings.name)
}

fn summary(project: &str, request: &RunRequest) -> String {
    if request.test {
        return format!("tests of {project}");
    }
    match &request.merge {
        Some(merge) => format!("{project}, merging {}", merge.source),
        // Keep this text: the selector `result:` recognises and skips previews by it.
        None if request.preview.is_some() => format!("{project}, preview"),
        None => project.to_owned(),
    }
}
