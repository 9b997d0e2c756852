//! Executors of imports and runs: a job's recorded request goes to the component that executes it,
//! and its progress becomes the job's events.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_ingest::{ImportProgress, Importer};
use headwater_jobs::{Executor, JobContext};
use headwater_lake::Lake;
use headwater_model::{
    ErrorCode, Fault, ImportReport, ImportRequest, JobEventKind, Problem, RunReport, RunRequest,
    Usage,
};
use headwater_pipelines::Runner;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::metered_runtime::MeteredRuntime;

/// Executes imports.
#[derive(Debug, Clone)]
pub struct ImportExecutor {
    /// The lake.
    pub lake: Lake,
    /// The threads of imports.
    pub runtime: MeteredRuntime,
}

#[async_trait]
impl Executor for ImportExecutor {
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem> {
        let request: ImportRequest = read(payload)?;
        Ok(json!(self.import(request, &context).await?))
    }
}

/// Executes runs.
pub struct RunExecutor(pub Runner);

#[async_trait]
impl Executor for RunExecutor {
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem> {
        let request: RunRequest = read(payload)?;
        Ok(json!(run(&self.0, request, &context).await?))
    }
}

/// Returns the request of a recorded job. Errors: `corrupt`.
pub fn read<T: DeserializeOwned>(payload: Value) -> Result<T, Problem> {
    serde_json::from_value(payload).map_err(|error| {
        let message = format!("the recorded request cannot be read: {error}");
        Problem::new(ErrorCode::Corrupt, message)
    })
}

impl ImportExecutor {
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

fn progress_event(progress: ImportProgress) -> JobEventKind {
    JobEventKind::Progress {
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
