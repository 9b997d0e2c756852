//! Maintenance of tables, as jobs: compaction, expiry of snapshots, removal of files.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_jobs::{Executor, JobContext, NewJob};
use headwater_lake::{Lake, MAINTENANCE_AUTHOR};
use headwater_model::{
    JobEventKind, JobKind, MaintainRequest, Problem, ResultExt, TableName, Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::job_payload::read;
use crate::metered_thread_pool::MeteredThreadPool;

/// The recorded request of a maintenance job.
#[derive(Debug, Serialize, Deserialize)]
struct RecordedMaintenance {
    branch: String,
    table: Option<TableName>,
    request: MaintainRequest,
}

/// Creates the job that maintains a table, or all tables of a branch.
pub fn maintenance_job(
    branch: &str,
    table: Option<&TableName>,
    request: MaintainRequest,
) -> NewJob {
    let object = table.map_or_else(|| "all tables".to_owned(), TableName::to_string);
    let author = request.author.clone().unwrap_or_else(|| MAINTENANCE_AUTHOR.to_owned());
    let recorded =
        RecordedMaintenance { branch: branch.to_owned(), table: table.cloned(), request };
    NewJob {
        reference: Some(branch.to_owned()),
        payload: json!(recorded),
        ..NewJob::new(JobKind::Maintenance, format!("maintenance of {object}"), author)
    }
}

/// Executes maintenance.
#[derive(Debug, Clone)]
pub struct MaintenanceExecutor {
    /// The lake to maintain.
    pub lake: Lake,
    /// The threads that run maintenance.
    pub runtime: MeteredThreadPool,
}

#[async_trait]
impl Executor for MaintenanceExecutor {
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem> {
        let RecordedMaintenance { branch, table, request } = read(payload)?;
        let (lake, cancelled) = (self.lake.clone(), context.cancelled());
        let reporting = context.clone();
        let progress = Arc::new(move |done, total| {
            let stage = "maintenance".to_owned();
            let (total, unit) = (Some(total), "tables".to_owned());
            reporting.emit(JobEventKind::Progress { stage, done, total, unit });
        });
        let work = Box::pin(async move {
            Box::pin(lake.maintenance().run(&branch, table.as_ref(), &request, progress, cancelled))
                .await
        });
        let (report, cpu_us) = self.runtime.run(work).await?;
        let mut usage = Usage { cpu_us, ..Usage::default() };
        if let Ok(report) = &report {
            usage.bytes_read = report.tables.iter().map(|table| table.bytes_rewritten).sum();
            usage.bytes_written = report.tables.iter().map(|table| table.bytes_written).sum();
        }
        context.add_usage(&usage);
        report.map(|report| json!(report)).or_problem()
    }
}
