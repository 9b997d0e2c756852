//! What jobs of each kind do, once their turn has come: the requests they were recorded with go to the room
//! that carries them out, and what it says on the way becomes events.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_jobs::{Executor, JobContext};
use headwater_lake::{ImportProgress, Lake};
use headwater_model::{
    ErrorCode, Event, Fault, ImportReport, ImportRequest, Problem, RunReport, RunRequest, Usage,
};
use headwater_pipelines::Runner;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Carries out imports.
pub struct Imports(pub Lake);

#[async_trait]
impl Executor for Imports {
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem> {
        let request: ImportRequest = read(payload)?;
        Ok(json!(import(&self.0, request, &context).await?))
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
fn read<T: DeserializeOwned>(payload: Value) -> Result<T, Problem> {
    serde_json::from_value(payload).map_err(|error| {
        let message = format!("the recorded request cannot be read: {error}");
        Problem::new(ErrorCode::Corrupt, message)
    })
}

/// Imports files within a job.
pub async fn import(
    lake: &Lake,
    request: ImportRequest,
    context: &JobContext,
) -> Result<ImportReport, Problem> {
    let progress = {
        let context = context.clone();
        Arc::new(move |progress| context.emit(progress_event(progress)))
    };
    let report = lake.import(&request, progress, context.cancelled()).await;
    let report = report.map_err(|error| error.to_problem())?;
    context.add_usage(&Usage {
        bytes_read: report.bytes_read,
        bytes_written: report.bytes_written,
        rows_read: report.rows + report.rows_rejected,
        rows_written: report.rows,
        ..Usage::default()
    });
    Ok(report)
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

/// One line that says what a run is.
pub fn run_summary(request: &RunRequest) -> String {
    let models = request.files.len().saturating_sub(1);
    format!("a project of {models} files")
}
