//! Executors of imports and runs: a job's recorded request goes to the component that executes it,
//! and its progress becomes the job's events.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_access::Access;
use headwater_ingest::{ImportProgress, Importer};
use headwater_jobs::{Executor, JobContext};
use headwater_lake::Lake;
use headwater_model::{
    Actor, ErrorCode, Fault, ImportReport, ImportRequest, JobEventKind, Object, Problem, RunReport,
    RunRequest, Usage,
};
use headwater_pipelines::Runner;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::access::table_access;
use crate::import_rights::ImportRights;
use crate::metered_runtime::MeteredRuntime;

/// Executes imports.
#[derive(Debug, Clone)]
pub struct ImportExecutor {
    /// The lake.
    pub lake: Lake,
    /// The threads of imports.
    pub runtime: MeteredRuntime,
    /// The rights of imports.
    pub rights: ImportRights,
}

#[async_trait]
impl Executor for ImportExecutor {
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem> {
        let ActingRequest { request, actor } = read(payload)?;
        Ok(json!(self.import(request, &actor, &context).await?))
    }
}

/// A request with the identity whose rights its job has.
#[derive(Debug, Serialize, Deserialize)]
pub struct ActingRequest<T> {
    /// The request.
    #[serde(flatten)]
    pub request: T,
    /// The identity.
    #[serde(default)]
    pub actor: Actor,
}

/// Executes runs.
#[derive(Clone)]
pub struct RunExecutor {
    /// Runs projects, with all rights.
    pub runner: Runner,
    /// The lake.
    pub lake: Lake,
    /// The rights of users.
    pub access: Access,
}

#[async_trait]
impl Executor for RunExecutor {
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem> {
        let ActingRequest { request, actor } = read(payload)?;
        Ok(json!(self.run(request, &actor, &context).await?))
    }
}

impl RunExecutor {
    /// Runs a project within a job, with the rights of an identity. The user owns the branch of its
    /// failed run, so that it can read and delete the branch.
    pub async fn run(
        &self,
        request: RunRequest,
        actor: &Actor,
        context: &JobContext,
    ) -> Result<RunReport, Problem> {
        let principal = actor.principal();
        let runner =
            self.runner.with_access(table_access(&self.access, &principal, Some(context.id())));
        if request.test {
            let tested = runner.test(request, context.clone()).await;
            return tested.map_err(|error| error.to_problem());
        }
        let ran = runner.run(request, context.clone()).await.map_err(|error| error.to_problem());
        let branch = format!("run/{}", context.id());
        if principal.user_name().is_some()
            && ran.is_err()
            && self.lake.catalog().branch(&branch).await.is_ok()
            && let Err(error) = self.access.set_owner(&principal, &Object::branch(&branch)).await
        {
            tracing::warn!("the owner of branch `{branch}` cannot be recorded: {error}");
        }
        ran
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
    /// Imports files within a job, with the rights of an identity.
    pub async fn import(
        &self,
        request: ImportRequest,
        actor: &Actor,
        context: &JobContext,
    ) -> Result<ImportReport, Problem> {
        let (principal, context) = (actor.principal(), context.clone());
        let buckets = self.rights.check(&principal, &request).await?;
        let check = self.rights.table_check(&principal, Some(context.id()));
        let importer = Importer::new(self.lake.clone()).with_check(check).with_buckets(buckets);
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
