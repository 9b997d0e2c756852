//! What the server does about a trigger's event: it imports the files, runs the project, or does
//! one after the other.
//!
//! Each commit carries the id of its part of the event. A part that was committed before, by a try
//! that did not live to say so, is left out; so tables see every event once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use headwater_jobs::{JobContext, TriggerActions, event_part};
use headwater_model::{
    ErrorCode, ImportRequest, MAIN_BRANCH, Problem, RefSpec, RunRequest, Trigger, TriggerEvent,
    TriggerImport,
};
use headwater_pipelines::Runner;
use serde::Serialize;
use serde_json::{Value, json};

use crate::ServiceConfig;
use crate::deployment::Deployed;
use crate::executors::Imports;
use crate::{executors, template_params};

/// Acts on events.
pub struct TriggerExecutor {
    /// What imports.
    pub imports: Imports,
    /// What runs the project.
    pub runner: Runner,
    /// The folder that paths of triggers are relative to.
    pub project: PathBuf,
    /// The version of the project that runs.
    pub deployed: Arc<Deployed>,
}

#[async_trait]
impl TriggerActions for TriggerExecutor {
    async fn act(
        &self,
        trigger: &Trigger,
        event: &TriggerEvent,
        context: JobContext,
    ) -> Result<Value, Problem> {
        let mut result = serde_json::Map::new();
        if let Some(import) = &trigger.import {
            let request = self.import_request(trigger, import, event, &context)?;
            let part = request.event.clone();
            let report = self.imports.import(request, &context).await;
            result.insert("import".into(), once(report, part.as_deref(), &context)?);
        }
        if trigger.run {
            let request = self.run_request(trigger, event, &context)?;
            let part = request.event.clone();
            let report = executors::run(&self.runner, request, &context).await;
            result.insert("run".into(), once(report, part.as_deref(), &context)?);
        }
        Ok(Value::Object(result))
    }

    fn queue(&self, trigger: &Trigger) -> Option<String> {
        let version = self.deployed.version().ok().flatten().filter(|_| trigger.run)?;
        let branch = trigger.branch.as_deref().unwrap_or(MAIN_BRANCH);
        Some(executors::run_queue(&version.project.name, branch))
    }
}

impl TriggerExecutor {
    /// The actions of a server; none where triggers are to be left alone.
    pub fn new(
        config: &ServiceConfig,
        imports: Imports,
        runner: Runner,
        deployed: Arc<Deployed>,
    ) -> Option<Self> {
        let around = || config.lake_dir.parent().map(Path::to_owned);
        let project = config.project_dir.clone().or_else(around).filter(|_| config.triggers)?;
        Some(TriggerExecutor { imports, runner, project, deployed })
    }

    fn import_request(
        &self,
        trigger: &Trigger,
        import: &TriggerImport,
        event: &TriggerEvent,
        context: &JobContext,
    ) -> Result<ImportRequest, Problem> {
        let sources = if event.files.is_empty() {
            import.sources.iter().map(|source| absolute(&self.project, source)).collect()
        } else {
            // A file's name may hold `*`; it stands for itself.
            event.files.clone()
        };
        Ok(ImportRequest {
            table: import.table.clone(),
            sources,
            reference: reference(trigger)?,
            on_error: import.on_error,
            author: Some(context.author().to_owned()),
            event: Some(event_part(&event.id, "import")),
            ..ImportRequest::default()
        })
    }

    fn run_request(
        &self,
        trigger: &Trigger,
        event: &TriggerEvent,
        context: &JobContext,
    ) -> Result<RunRequest, Problem> {
        Ok(RunRequest {
            files: (*self.deployed.require()?.project.files).clone(),
            reference: reference(trigger)?,
            parameters: template_params::parameters(trigger, event),
            author: Some(context.author().to_owned()),
            event: Some(event_part(&event.id, "run")),
            ..RunRequest::default()
        })
    }
}

fn reference(trigger: &Trigger) -> Result<Option<RefSpec>, Problem> {
    let parse = |branch: &String| branch.parse::<RefSpec>();
    let reference = trigger.branch.as_ref().map(parse).transpose();
    reference.map_err(|error| headwater_model::Fault::to_problem(&error))
}

/// A source of a schedule's import, which is relative to the project's root.
fn absolute(project: &Path, source: &str) -> String {
    // A bucket lies in no project.
    if source.contains("://") {
        return source.to_owned();
    }
    let is_pattern = source.contains(['*', '?', '[', '{']);
    let project = project.to_string_lossy();
    // Only what the project says is a pattern; the folder it lies in is not.
    let project = if is_pattern { globset::escape(&project) } else { project.into_owned() };
    Path::new(&project).join(source).to_string_lossy().into_owned()
}

/// A part's report; null where an earlier try had committed it already.
fn once<T: Serialize>(
    report: Result<T, Problem>,
    part: Option<&str>,
    context: &JobContext,
) -> Result<Value, Problem> {
    match report {
        Ok(report) => Ok(json!(report)),
        Err(problem) if was_committed(&problem, part) => {
            context.log_system("an earlier try had committed this part of the event");
            Ok(Value::Null)
        }
        Err(problem) => Err(problem),
    }
}

fn was_committed(problem: &Problem, part: Option<&str>) -> bool {
    let committed = problem.context.get("event").and_then(Value::as_str);
    problem.code == ErrorCode::AlreadyExists && committed.is_some() && committed == part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_part_of_the_same_event_was_committed() {
        let mut problem = Problem::new(ErrorCode::AlreadyExists, "committed");
        assert!(!was_committed(&problem, Some("e/import")));
        problem.context.insert("event".into(), "e/import".into());
        assert!(was_committed(&problem, Some("e/import")));
        assert!(!was_committed(&problem, Some("e/run")));
        problem.code = ErrorCode::CommitConflict;
        assert!(!was_committed(&problem, Some("e/import")));
    }

    #[test]
    fn sources_of_schedules_lie_in_the_project() {
        assert_eq!(absolute(Path::new("/p"), "in/*.csv"), "/p/in/*.csv");
        assert_eq!(absolute(Path::new("/p"), "/in/a.csv"), "/in/a.csv");
        assert_eq!(absolute(Path::new("/p"), "s3://b/in/*.csv"), "s3://b/in/*.csv");
    }
}
