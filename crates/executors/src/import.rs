//! Execution of imports.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_ingest::{ImportProgress, Importer};
use headwater_jobs::{Executor, JobContext};
use headwater_lake::Lake;
use headwater_model::{Actor, ImportReport, ImportRequest, JobEventKind, Problem, Usage};
use serde_json::{Value, json};

use crate::import_rights::ImportRights;
use crate::job_payload::{JobPayload, read};
use crate::metered_thread_pool::MeteredThreadPool;

/// Executes imports.
#[derive(Debug, Clone)]
pub struct ImportExecutor {
    /// The lake into which files are imported.
    pub lake: Lake,
    /// The threads that run imports.
    pub runtime: MeteredThreadPool,
    /// The rights of imports.
    pub rights: ImportRights,
}

#[async_trait]
impl Executor for ImportExecutor {
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem> {
        let JobPayload { request, actor, .. } = read(payload)?;
        Ok(json!(self.import(request, &actor, &context).await?))
    }
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
        let private = self.rights.private_files(&principal, &request.sources);
        let importer = Importer::new(self.lake.clone()).with_check(check).with_buckets(buckets);
        let importer = importer.without(private).with_creator(principal.as_object_owner());
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
        report.map_err(|error| self.rights.to_problem(&principal, Some(context.id()), &error))
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
