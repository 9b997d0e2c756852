//! Runs of a project: plan, or start as a job.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_jobs::NewJob;
use headwater_model::{
    Action, Actor, ErrorCode, Job, JobKind, Object, OrProblem, Principal, Problem, RunPlan,
    RunRequest,
};
use headwater_pipelines::Project;
use serde_json::json;

use crate::access::EVERY;
use crate::executors::ActingRequest;
use crate::service::Components;

/// Operations on runs.
#[derive(Clone)]
pub struct Runs(pub(crate) Arc<Components>);

impl Runs {
    /// Returns the models that a run would compute; writes nothing.
    pub async fn plan(
        &self,
        principal: &Principal,
        request: &RunRequest,
    ) -> Result<RunPlan, Problem> {
        self.0.authorize(principal, Action::Run, &project_object(&request.files))?;
        check_files(request)?;
        let runner = self.0.runner.with_access(self.0.table_access(principal));
        runner.plan(request).await.or_problem()
    }

    /// Starts a run. Returns its job, which waits for earlier runs of the project on the branch.
    pub async fn start(
        &self,
        principal: &Principal,
        mut request: RunRequest,
    ) -> Result<Job, Problem> {
        self.0.authorize(principal, Action::Run, &project_object(&request.files))?;
        check_files(&request)?;
        self.0.settings.refresh().await;
        let author = principal.author().to_owned();
        let branch = self.0.branch_to_write(request.reference.as_ref()).await;
        let branch = branch.map_err(|problem| self.0.conceal(principal, problem))?;
        self.0.authorize(principal, Action::Write, &Object::branch(&branch))?;
        request.author = Some(author.clone());
        let project = project_name(&request);
        let new = NewJob::new(JobKind::Run, summary(&project, &request), author);
        let new = NewJob {
            event: request.event.clone(),
            queue: Some(run_queue(&project, &branch)),
            reference: Some(branch),
            payload: json!(ActingRequest { request, actor: Actor::of(principal) }),
            ..new
        };
        let id = self.0.jobs.submit(new).await.or_problem()?;
        self.0.jobs.job(id).await.or_problem()
    }
}

fn check_files(request: &RunRequest) -> Result<(), Problem> {
    if !request.files.is_empty() {
        return Ok(());
    }
    let problem = Problem::new(ErrorCode::InvalidArgument, "the project has no files");
    Err(problem.with_hint("Send its files in `files`."))
}

/// Returns the name of the queue of a project's runs on a branch. They run one after the other:
/// concurrent runs would conflict.
pub fn run_queue(project: &str, branch: &str) -> String {
    format!("run of {project} on {branch}")
}

/// Returns the object of a project by its files. Without a readable name, only a grant on every
/// project selects it.
pub fn project_object(files: &BTreeMap<String, String>) -> Object {
    let settings = Project::read_settings(files);
    let name = settings.map_or_else(|_| EVERY.to_owned(), |settings| settings.name);
    Object::project(&name)
}

/// Returns the name of a run's project. The job parses the project's other files.
fn project_name(request: &RunRequest) -> String {
    let settings = Project::read_settings(&request.files);
    settings.map_or_else(|_| "a project with errors".to_owned(), |settings| settings.name)
}

fn summary(project: &str, request: &RunRequest) -> String {
    match &request.merge {
        Some(merge) => format!("{project}, merging {}", merge.source),
        None => project.to_owned(),
    }
}
