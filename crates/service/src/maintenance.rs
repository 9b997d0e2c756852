//! Maintenance of tables, as jobs: compaction, expiry of snapshots, removal of files.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_jobs::{Executor, JobContext, NewJob};
use headwater_lake::{Lake, MAINTENANCE_AUTHOR, check_maintain};
use headwater_model::{
    Action, Job, JobEventKind, JobKind, MaintainReport, MaintainRequest, Object, OrProblem,
    Principal, Problem, RefSpec, TableName, Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::executors::read;
use crate::metered_runtime::MeteredRuntime;
use crate::service::Components;

/// Operations on the maintenance of tables.
#[derive(Clone)]
pub struct Maintenance(pub(crate) Arc<Components>);

impl Maintenance {
    /// Returns what maintenance of a table, or of all tables of a branch, would do; changes
    /// nothing.
    pub async fn plan(
        &self,
        principal: &Principal,
        branch: &str,
        table: Option<&TableName>,
        request: &MaintainRequest,
    ) -> Result<MaintainReport, Problem> {
        self.0.authorize(principal, Action::Maintain, &Object::lake())?;
        let cancelled = CancellationToken::new();
        let _guard = cancelled.clone().drop_guard();
        let progress = Arc::new(|_, _| {});
        let plan = self.0.lake.maintenance().run(branch, table, request, progress, cancelled);
        Box::pin(plan).await.or_problem()
    }

    /// Starts maintenance of a table, or of all tables of a branch. Returns its job, whose result
    /// is a `MaintainReport`.
    pub async fn start(
        &self,
        principal: &Principal,
        branch: &str,
        table: Option<&TableName>,
        request: MaintainRequest,
    ) -> Result<Job, Problem> {
        self.0.authorize(principal, Action::Maintain, &Object::lake())?;
        let author = Some(principal.author().to_owned());
        let request = MaintainRequest { author, ..request };
        let view = self.0.lake.view(&RefSpec::Name(branch.to_owned())).await.or_problem()?;
        if let Some(table) = table {
            view.table(table).await.or_problem()?;
        }
        check_maintain(&request).or_problem()?;
        let user = principal.user_name().map(str::to_owned);
        let new = NewJob { user, ..new_job(branch, table, request) };
        let id = self.0.jobs.submit(new).await.or_problem()?;
        self.0.jobs.job(id).await.or_problem()
    }
}

/// The recorded request of a maintenance job.
#[derive(Debug, Serialize, Deserialize)]
struct Recorded {
    branch: String,
    table: Option<TableName>,
    request: MaintainRequest,
}

/// Returns the job that maintains a table, or all tables of a branch.
pub fn new_job(branch: &str, table: Option<&TableName>, request: MaintainRequest) -> NewJob {
    let object = table.map_or_else(|| "all tables".to_owned(), TableName::to_string);
    let author = request.author.clone().unwrap_or_else(|| MAINTENANCE_AUTHOR.to_owned());
    let recorded = Recorded { branch: branch.to_owned(), table: table.cloned(), request };
    NewJob {
        reference: Some(branch.to_owned()),
        payload: json!(recorded),
        ..NewJob::new(JobKind::Maintenance, format!("maintenance of {object}"), author)
    }
}

/// Executes maintenance.
#[derive(Debug, Clone)]
pub struct MaintenanceExecutor {
    /// The lake.
    pub lake: Lake,
    /// The threads of maintenance.
    pub runtime: MeteredRuntime,
}

#[async_trait]
impl Executor for MaintenanceExecutor {
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem> {
        let Recorded { branch, table, request } = read(payload)?;
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
