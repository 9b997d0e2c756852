//! What jobs of each kind do, once their turn has come: the requests they were recorded with go to
//! the room that carries them out, and what it says on the way becomes events.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_ingest::{ImportProgress, Importer};
use headwater_jobs::{Executor, JobContext};
use headwater_lake::Lake;
use headwater_model::{
    ErrorCode, Event, Fault, ImportReport, ImportRequest, Problem, RunReport, RunRequest, Usage,
};
use headwater_pipelines::{Project, Runner};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::metered_runtime::MeteredRuntime;

/// Carries out imports.
#[derive(Debug, Clone)]
pub struct Imports {
    /// Where to.
    pub lake: Lake,
    /// Where the work is done.
    pub runtime: MeteredRuntime,
}

#[async_trait]
impl Executor for Imports {
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem> {
        let request: ImportRequest = read(payload)?;
        Ok(json!(self.import(request, &context).await?))
    }
}

/// Carries out runs.
pub struct Runs(pub Runner);

#[async_trait]
impl Executor for Runs {
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem> {
        let request: RunRequest = read(payload)?;
        Ok(json!(run(&self.0, request, &context).await?))
    }
}

/// The request that a job was recorded with.
pub fn read<T: DeserializeOwned>(payload: Value) -> Result<T, Problem> {
    serde_json::from_value(payload).map_err(|error| {
        let message = format!("the recorded request cannot be read: {error}");
        Problem::new(ErrorCode::Corrupt, message)
    })
}

impl Imports {
    /// Imports files within a job.
    pub async fn import(
        &self,
        request: ImportRequest,
        context: &JobContext,
    ) -> Result<ImportReport, Problem> {
        let (importer, context) = (Importer::new(self.lake.clone()), context.clone());
        let reporting = context.clone();
        let progress = Arc::new(move |progress| reporting.emit(progress_event(progress)));
        let cancelled = context.cancelled();
        let work = Box::pin(async move { importer.import(&request, progress, cancelled).await });
        let (report, cpu_us) = self.runtime.run(work).await?;
        let mut usage = Usage { cpu_us, ..Usage::default() };
        if let Ok(report) = &report {
            usage.memory_bytes_peak = report.memory_bytes_peak;
            usage.bytes_read = report.bytes_read;
            usage.bytes_written = report.bytes_written;
            usage.rows_read = report.rows + report.rows_rejected;
            usage.rows_written = report.rows;
        }
        context.add_usage(&usage);
        report.map_err(|error| error.to_problem())
    }
}

fn progress_event(progress: ImportProgress) -> Event {
    Event::Progress {
        stage: progress.stage.as_str().to_owned(),
        done: progress.bytes_done,
        total: Some(progress.bytes_total),
        unit: "bytes".to_owned(),
    }
}

/// Runs a project within a job.
pub async fn run(
    runner: &Runner,
    request: RunRequest,
    context: &JobContext,
) -> Result<RunReport, Problem> {
    runner.run(request, context.clone()).await.map_err(|error| error.to_problem())
}

/// The queue of a project's runs on a branch: the second of two that run together would conflict with
/// the first.
pub fn run_queue(project: &str, branch: &str) -> String {
    format!("run of {project} on {branch}")
}

/// Returns the name of a run's project. The job parses the project's other files.
pub fn project_name(request: &RunRequest) -> String {
    Project::read_name(&request.files).unwrap_or_else(|_| "a project with errors".to_owned())
}

/// One line that says what a run is: its project, and what it merges.
pub fn run_summary(project: &str, request: &RunRequest) -> String {
    match &request.merge {
        Some(merge) => format!("{project}, merging {}", merge.source),
        None => project.to_owned(),
    }
}
