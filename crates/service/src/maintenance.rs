//! Maintenance of tables, as jobs: compaction, expiry of snapshots, removal of files.

use std::sync::Arc;

use headwater_executors::maintenance_job;
use headwater_jobs::NewJob;
use headwater_lake::check_maintain;
use headwater_model::{
    AccessObject, Action, Job, MaintainReport, MaintainRequest, Principal, Problem, RefSpec,
    ResultExt, TableName,
};
use tokio_util::sync::CancellationToken;

use crate::service::Components;

/// Operations on the maintenance of tables.
#[derive(Clone)]
pub struct Maintenance(pub(crate) Arc<Components>);

impl Maintenance {
    /// Returns the changes that maintenance of a table, or of all tables of a branch, would make.
    /// Changes nothing.
    pub async fn plan(
        &self,
        principal: &Principal,
        branch: &str,
        table: Option<&TableName>,
        request: &MaintainRequest,
    ) -> Result<MaintainReport, Problem> {
        self.0.authorize(principal, Action::Maintain, &AccessObject::lake())?;
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
        self.0.authorize(principal, Action::Maintain, &AccessObject::lake())?;
        let author = Some(principal.author().to_owned());
        let request = MaintainRequest { author, ..request };
        let view = self.0.lake.view(&RefSpec::Name(branch.to_owned())).await.or_problem()?;
        if let Some(table) = table {
            view.table(table).await.or_problem()?;
        }
        check_maintain(&request).or_problem()?;
        let user = principal.user_name().map(str::to_owned);
        let new = NewJob { user, ..maintenance_job(branch, table, request) };
        let id = self.0.jobs.submit(new).await.or_problem()?;
        self.0.jobs.job(id).await.or_problem()
    }
}
