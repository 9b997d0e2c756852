//! Upkeep as jobs: asked for by a person, or by what was written to a table. It runs apart from what
//! answers requests, one piece at a time, and nobody waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use headwater_jobs::{Executor, JobContext, Jobs, NewJob};
use headwater_lake::{Lake, UPKEEP_AUTHOR};
use headwater_model::{
    Event, Fault, JobId, JobKind, MAIN_BRANCH, MaintainRequest, Problem, TableName, Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::executors::read;
use crate::metered_runtime::MeteredRuntime;

/// How long tables are written to before it is looked whether they need upkeep.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long after the start the lake is first looked through for files that nothing needs.
const FIRST_SWEEP: Duration = Duration::from_mins(2);

/// How often that is done.
const SWEEP_EVERY: Duration = Duration::from_hours(24);

/// The branches of runs begin so, and end in the job's id. Those of runs that failed are kept.
const RUN_BRANCHES: &str = "run/";

/// What an upkeep job is recorded with.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    branch: String,
    table: Option<TableName>,
    request: MaintainRequest,
}

/// The job that keeps a table of a branch, or all of them.
pub fn new_job(branch: &str, table: Option<&TableName>, request: MaintainRequest) -> NewJob {
    let what = table.map_or_else(|| "all tables".to_owned(), TableName::to_string);
    let author = request.author.clone().unwrap_or_else(|| UPKEEP_AUTHOR.to_owned());
    let asked = Asked { branch: branch.to_owned(), table: table.cloned(), request };
    NewJob {
        reference: Some(branch.to_owned()),
        payload: json!(asked),
        ..NewJob::new(JobKind::Upkeep, format!("upkeep of {what}"), author)
    }
}

/// Carries out upkeep.
#[derive(Debug, Clone)]
pub struct Maintenance {
    pub lake: Lake,
    pub runtime: MeteredRuntime,
}

#[async_trait]
impl Executor for Maintenance {
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem> {
        let Asked { branch, table, request } = read(payload)?;
        let (lake, cancelled) = (self.lake.clone(), context.cancelled());
        let reporting = context.clone();
        let progress = Arc::new(move |done, total| {
            let stage = "upkeep".to_owned();
            let (total, unit) = (Some(total), "tables".to_owned());
            reporting.emit(Event::Progress { stage, done, total, unit });
        });
        let work = Box::pin(async move {
            Box::pin(lake.maintain(&branch, table.as_ref(), &request, progress, cancelled)).await
        });
        let (report, cpu_us) = self.runtime.run(work).await?;
        let mut usage = Usage { cpu_us, ..Usage::default() };
        if let Ok(report) = &report {
            usage.bytes_read = report.tables.iter().map(|table| table.bytes_rewritten).sum();
            usage.bytes_written = report.tables.iter().map(|table| table.bytes_written).sum();
        }
        context.add_usage(&usage);
        report.map(|report| json!(report)).map_err(|error| error.to_problem())
    }
}

/// Starts upkeep of tables that were written to, and the search for files that nothing needs, until the
/// token is cancelled.
pub fn start(lake: Lake, jobs: Jobs, orphans: bool) -> CancellationToken {
    let ended = CancellationToken::new();
    let watch = Watch { lake, jobs, orphans, expired: None, freed: None, running: HashMap::new() };
    let token = ended.clone();
    tokio::spawn(async move { token.run_until_cancelled(watch.run()).await });
    ended
}

struct Watch {
    lake: Lake,
    jobs: Jobs,
    /// Whether files that nothing needs are removed without being asked for.
    orphans: bool,
    /// When old states were expired last.
    expired: Option<tokio::time::Instant>,
    /// When what deleted refs led to was looked for last.
    freed: Option<tokio::time::Instant>,
    running: HashMap<(String, TableName), JobId>,
}

impl Watch {
    async fn run(mut self) {
        let mut sweep = tokio::time::interval_at(
            tokio::time::Instant::now() + FIRST_SWEEP,
            Duration::from_hours(1),
        );
        loop {
            tokio::select! {
                () = self.lake.written_to() => {
                    tokio::time::sleep(PATIENCE).await;
                    for (branch, table) in self.lake.take_written() {
                        self.look_at(branch, table).await;
                    }
                }
                _ = sweep.tick() => self.sweep().await,
            }
        }
    }

    /// Keeps a table that needs it, unless that is under way.
    async fn look_at(&mut self, branch: String, table: TableName) {
        let key = (branch, table);
        if let Some(id) = self.running.get(&key)
            && self.jobs.job(*id).await.is_ok_and(|job| !job.status.is_final())
        {
            // It may have begun before what was written last.
            self.lake.wrote(&key.0, &key.1);
            return;
        }
        self.running.remove(&key);
        if self.is_checked_now(&key.0).await {
            self.lake.wrote(&key.0, &key.1);
            return;
        }
        let request = match self.lake.needed_upkeep(&key.0, &key.1).await {
            Ok(Some(request)) => request,
            Ok(None) => return,
            // The branch or the table is gone, or it cannot be read: whoever uses it will say so.
            Err(error) => return tracing::debug!(%error, "upkeep cannot look at a table"),
        };
        match self.jobs.submit(new_job(&key.0, Some(&key.1), request)).await {
            Ok(id) => {
                self.running.insert(key, id);
            }
            Err(error) => {
                tracing::debug!(%error, "upkeep has to wait");
                self.lake.wrote(&key.0, &key.1);
            }
        }
    }

    /// Whether a run is under way that a protected branch may be waiting for: its checks are good for what
    /// the branch was when it began.
    async fn is_checked_now(&self, branch: &str) -> bool {
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

    /// Looks for files that nothing needs, and expires old states, once a day.
    async fn sweep(&mut self) {
        if self.expired.is_none_or(|last| last.elapsed() >= SWEEP_EVERY) {
            self.expired = Some(tokio::time::Instant::now());
            self.expire().await;
            if let Err(error) = self.lake.forget_requests().await {
                tracing::warn!(%error, "old requests of other engines are not forgotten");
            }
        }
        if self.freed.is_none_or(|last| last.elapsed() >= SWEEP_EVERY) {
            self.free().await;
        }
        let now = self.lake.clock().now();
        match self.lake.last_sweep().await {
            _ if !self.orphans => {}
            Ok(Some(last)) if last > now - SWEEP_EVERY => {}
            Ok(_) => self.remove_orphans().await,
            Err(error) => tracing::warn!(%error, "upkeep cannot see when it ran last"),
        }
    }

    async fn expire(&self) {
        let expiring = self.lake.expiring_tables(MAIN_BRANCH).await.unwrap_or_default();
        for (table, request) in expiring {
            let submitted = self.jobs.submit(new_job(MAIN_BRANCH, Some(&table), request)).await;
            if let Err(error) = submitted {
                tracing::debug!(%error, "upkeep has to wait");
            }
        }
    }

    /// Removes what only branches and tags led to that were deleted a while ago, where there are any.
    async fn free(&mut self) {
        match self.lake.has_freed().await {
            Ok(true) => {
                self.freed = Some(tokio::time::Instant::now());
                let request = MaintainRequest { deleted_refs: true, ..MaintainRequest::default() };
                self.submit(request).await;
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "upkeep cannot see which branches were deleted"),
        }
    }

    async fn remove_orphans(&self) {
        self.submit(MaintainRequest { orphans: true, ..MaintainRequest::default() }).await;
    }

    /// Has all tables kept so.
    async fn submit(&self, request: MaintainRequest) {
        let request = MaintainRequest { author: Some(UPKEEP_AUTHOR.to_owned()), ..request };
        if let Err(error) = self.jobs.submit(new_job(MAIN_BRANCH, None, request)).await {
            tracing::debug!(%error, "upkeep has to wait");
        }
    }
}
