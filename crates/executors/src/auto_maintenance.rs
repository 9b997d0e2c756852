//! Automatic maintenance of tables after writes, and of the whole lake once a day.

use std::collections::HashMap;
use std::time::Duration;

use headwater_jobs::Jobs;
use headwater_lake::{Lake, MAINTENANCE_AUTHOR};
use headwater_model::{JobId, MAIN_BRANCH, MaintainRequest, TableName};
use tokio_util::sync::CancellationToken;

use crate::maintenance::maintenance_job;

/// Delay after a write before the server checks if the table needs maintenance.
const WRITE_DELAY: Duration = Duration::from_secs(5);

/// Delay between the server's start and the first daily maintenance.
const FIRST_DAILY: Duration = Duration::from_mins(2);

/// Interval of the daily maintenance.
const DAILY: Duration = Duration::from_hours(24);

/// Interval between checks of whether the daily maintenance is due.
const DAILY_CHECK: Duration = Duration::from_hours(1);

/// Prefix of the names of the runs' branches. The id of the run's job follows it.
const RUN_BRANCHES: &str = "run/";

/// Starts automatic maintenance, which ends when the returned token is cancelled. With
/// `remove_orphans`, maintenance also removes orphan files.
pub fn start_maintenance(lake: Lake, jobs: Jobs, remove_orphans: bool) -> CancellationToken {
    let ended = CancellationToken::new();
    let schedule = MaintenanceScheduler {
        lake,
        jobs,
        remove_orphans,
        snapshots_expired: None,
        deleted_refs_pruned: None,
        running: HashMap::new(),
    };
    let token = ended.clone();
    tokio::spawn(async move { token.run_until_cancelled(schedule.run()).await });
    ended
}

struct MaintenanceScheduler {
    lake: Lake,
    jobs: Jobs,
    remove_orphans: bool,
    /// Time at which snapshots were last expired.
    snapshots_expired: Option<tokio::time::Instant>,
    /// Time at which files that only deleted refs used were last removed.
    deleted_refs_pruned: Option<tokio::time::Instant>,
    running: HashMap<(String, TableName), JobId>,
}

impl MaintenanceScheduler {
    async fn run(mut self) {
        let first = tokio::time::Instant::now() + FIRST_DAILY;
        let mut daily = tokio::time::interval_at(first, DAILY_CHECK);
        loop {
            tokio::select! {
                () = self.lake.maintenance().written_to() => {
                    tokio::time::sleep(WRITE_DELAY).await;
                    for (branch, table) in self.lake.maintenance().take_changed() {
                        self.maintain(branch, table).await;
                    }
                }
                _ = daily.tick() => self.run_daily().await,
            }
        }
    }

    /// Maintains a table that needs maintenance, unless a job for the table is active.
    async fn maintain(&mut self, branch: String, table: TableName) {
        let key = (branch, table);
        if let Some(id) = self.running.get(&key)
            && self.jobs.job(*id).await.is_ok_and(|job| !job.status.is_final())
        {
            // The active job may not see the last write, so mark the table to be checked again
            // later.
            self.lake.record_write(&key.0, &key.1);
            return;
        }
        self.running.remove(&key);
        if self.may_be_awaiting_checks(&key.0).await {
            self.lake.record_write(&key.0, &key.1);
            return;
        }
        let request = match self.lake.maintenance().needed(&key.0, &key.1).await {
            Ok(Some(request)) => request,
            Ok(None) => return,
            // The branch or table was deleted, or cannot be read. Only log the error, because reads
            // of the table report it.
            Err(error) => {
                return tracing::debug!(%error, "cannot determine whether a table needs \
                                                maintenance");
            }
        };
        match self.jobs.submit(maintenance_job(&key.0, Some(&key.1), request)).await {
            Ok(id) => {
                self.running.insert(key, id);
            }
            Err(error) => {
                tracing::debug!(%error, "maintenance is postponed");
                self.lake.record_write(&key.0, &key.1);
            }
        }
    }

    /// Returns true if a run is active whose checks a merge into the branch may require. The checks
    /// apply to the state of the branch at the start of the run, so a maintenance commit now would
    /// invalidate the checks.
    async fn may_be_awaiting_checks(&self, branch: &str) -> bool {
        let catalog = self.lake.catalog();
        if catalog.branch(branch).await.is_ok_and(|branch| branch.requires.is_none()) {
            return false;
        }
        for run in catalog.branches(Some(RUN_BRANCHES)).await.unwrap_or_default() {
            let id = run.name.trim_start_matches(RUN_BRANCHES).parse::<JobId>();
            let Ok(id) = id else { continue };
            if self.jobs.job(id).await.is_ok_and(|job| !job.status.is_final()) {
                return true;
            }
        }
        false
    }

    /// Expires snapshots, prunes deleted refs and removes orphan files, each once a day.
    async fn run_daily(&mut self) {
        if self.snapshots_expired.is_none_or(|last| last.elapsed() >= DAILY) {
            self.snapshots_expired = Some(tokio::time::Instant::now());
            self.expire_snapshots().await;
            if let Err(error) = self.lake.iceberg_rest_requests().forget().await {
                tracing::warn!(%error, "idempotency keys of old requests cannot be deleted");
            }
        }
        if self.deleted_refs_pruned.is_none_or(|last| last.elapsed() >= DAILY) {
            self.prune_deleted_refs().await;
        }
        let now = self.lake.clock().now();
        match self.lake.maintenance().last_sweep().await {
            _ if !self.remove_orphans => {}
            Ok(Some(last)) if last > now - DAILY => {}
            Ok(_) => self.remove_orphans().await,
            Err(error) => {
                tracing::warn!(%error, "the time of the last removal of orphans cannot be read");
            }
        }
    }

    async fn expire_snapshots(&self) {
        let expiring =
            self.lake.maintenance().expiring_tables(MAIN_BRANCH).await.unwrap_or_default();
        for (table, request) in expiring {
            let submitted =
                self.jobs.submit(maintenance_job(MAIN_BRANCH, Some(&table), request)).await;
            if let Err(error) = submitted {
                tracing::debug!(%error, "maintenance is postponed");
            }
        }
    }

    /// Removes the files that only deleted branches and tags referenced, if there are any.
    async fn prune_deleted_refs(&mut self) {
        match self.lake.maintenance().has_expired_ref().await {
            Ok(true) => {
                self.deleted_refs_pruned = Some(tokio::time::Instant::now());
                let request = MaintainRequest { deleted_refs: true, ..MaintainRequest::default() };
                self.submit(request).await;
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "deleted refs cannot be listed"),
        }
    }

    async fn remove_orphans(&self) {
        self.submit(MaintainRequest { orphans: true, ..MaintainRequest::default() }).await;
    }

    /// Submits maintenance of all tables.
    async fn submit(&self, request: MaintainRequest) {
        let request = MaintainRequest { author: Some(MAINTENANCE_AUTHOR.to_owned()), ..request };
        if let Err(error) = self.jobs.submit(maintenance_job(MAIN_BRANCH, None, request)).await {
            tracing::debug!(%error, "maintenance is postponed");
        }
    }
}
