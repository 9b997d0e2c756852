//! Recovery of the jobs of the last process.
//!
//! Only open jobs are read. A job that was running becomes interrupted; a job that was queued for
//! an executor stays queued. Recovery never prevents opening the lake: an unreadable record is
//! skipped with a warning, and a full disk only delays writes.

use std::sync::Arc;

use headwater_model::{ErrorCode, JobId, JobKind, JobStatus, Problem};
use headwater_store::{KeyRange, RefChange, RefPrecondition, WriteBatch};
use serde_json::Value;

use crate::Result;
use crate::active_job::ActiveJob;
use crate::record::{self, JOBS, JobRecord, OPEN, PAYLOADS, QUERIES};
use crate::user_quota::JobPermit;
use crate::writer::JobsState;

/// Number of payloads that are kept after the end of their jobs, so that these jobs can be
/// repeated.
const PAYLOADS_KEPT: usize = 100;

/// The open jobs of the last process.
#[derive(Default)]
pub(crate) struct RecoveredJobs {
    /// The jobs that are queued again.
    pub queued: Vec<(Arc<ActiveJob>, Option<JobPermit>)>,
    /// The jobs that were running.
    pub interrupted: Vec<JobId>,
}

impl JobsState {
    /// Recovers the open jobs of the last process.
    pub(crate) async fn reopen(self: &Arc<Self>) -> Result<RecoveredJobs> {
        self.load_queries_from().await?;
        self.load_end_watches().await?;
        let mut reopened = RecoveredJobs::default();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.references(OPEN, after.as_deref(), 500).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (name, journal) in page {
                self.reopen_one(&name, &journal, &mut reopened).await?;
            }
        }
        if let Err(error) = self.flush().await {
            tracing::warn!(%error, "interrupted jobs cannot be recorded yet");
        }
        if let Err(error) = self.trim_payloads().await {
            tracing::warn!(%error, "the payloads of ended jobs cannot be deleted");
        }
        Ok(reopened)
    }

    async fn reopen_one(
        self: &Arc<Self>,
        name: &str,
        journal: &[u8],
        reopened: &mut RecoveredJobs,
    ) -> Result<()> {
        let journal = if journal == QUERIES.as_bytes() { QUERIES } else { JOBS };
        let key = name.strip_prefix(OPEN).unwrap_or(name);
        let entry = self.store.latest(journal, key).await?;
        let record = entry.map(|entry| record::decode::<JobRecord>(journal, key, &entry.value));
        match record {
            Some(Ok(record)) if !record.job.status.is_final() => {
                self.reopen_job(record, reopened).await
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "skipping an unfinished job: its record cannot be read");
                self.forget_open(name).await
            }
            Some(Ok(_)) | None => self.forget_open(name).await,
        }
    }

    async fn reopen_job(
        self: &Arc<Self>,
        record: JobRecord,
        reopened: &mut RecoveredJobs,
    ) -> Result<()> {
        let (id, kind, status) = (record.job.id, record.job.kind, record.job.status);
        self.options.telemetry.begin_job(id, record.job.event.as_deref());
        let problem = interrupted(id, kind, record.job.event.is_some());
        let last = self.last_stored_event(id, kind).await?;
        // Set the end of the job to the time of its last event, so that its duration excludes the
        // time when no server ran.
        let alive = last.as_ref().map(|event| event.time).or(record.job.started);
        let alive = alive.unwrap_or(record.job.created);
        let sequence = last.map_or(0, |event| event.sequence);
        let live = Arc::new(ActiveJob::reopened(record, sequence, self.options.log_bytes_max));
        self.live.lock().insert(id, live.clone());
        let (user, created) = (live.user.as_deref(), live.created);
        let permit = self.quotas.restore_permit(&*self.store, user, created).await?;
        let waits = matches!(
            kind,
            JobKind::Import | JobKind::Run | JobKind::Maintenance | JobKind::Backfill
        );
        if status == JobStatus::Queued && waits {
            reopened.queued.push((live, permit));
            return Ok(());
        }
        reopened.interrupted.push(id);
        self.end(&live, alive, Err(problem), Vec::new());
        Ok(())
    }

    async fn forget_open(&self, name: &str) -> Result<()> {
        let change =
            RefChange { name: name.to_owned(), expected: RefPrecondition::Anything, value: None };
        let batch = WriteBatch { refs: vec![change], relaxed: true, ..WriteBatch::default() };
        if let Err(error) = self.store.apply(batch).await {
            tracing::warn!(%error, name, "the ref of a job that has ended cannot be removed");
        }
        Ok(())
    }

    /// Deletes the payloads of ended jobs, except the newest payloads.
    pub(crate) async fn trim_payloads(&self) -> Result<()> {
        let newest = KeyRange { reverse: true, limit: PAYLOADS_KEPT, ..KeyRange::default() };
        let newest = self.store.scan(PAYLOADS, &newest).await?;
        let Some(kept) = newest.into_iter().nth(PAYLOADS_KEPT - 1) else { return Ok(()) };
        let oldest = self.live.lock().keys().next().map(ToString::to_string);
        let until = oldest.map_or(kept.key.clone(), |oldest| oldest.min(kept.key));
        let range = KeyRange { until: Some(until), ..KeyRange::default() };
        self.store.trim(PAYLOADS, &range).await?;
        Ok(())
    }

    /// Returns a job's payload; `None` if the job had no payload, or if the payload was deleted.
    pub(crate) async fn payload(&self, id: JobId) -> Result<Option<Value>> {
        let entry = self.store.latest(PAYLOADS, &id.to_string()).await?;
        entry.map(|entry| record::decode(PAYLOADS, &entry.key, &entry.value)).transpose()
    }
}

fn interrupted(id: JobId, kind: JobKind, is_delivery: bool) -> Problem {
    let problem =
        Problem::new(ErrorCode::Interrupted, "the server stopped unexpectedly while the job ran");
    if is_delivery {
        return problem.with_hint("No action is needed: the event is delivered again.");
    }
    match kind {
        JobKind::Maintenance => {
            problem.with_hint("No action is needed: the next maintenance continues the work.")
        }
        JobKind::Merge | JobKind::CherryPick | JobKind::Revert | JobKind::Commit => problem
            .with_hint(
                "Look for the job's commit with `headwater log`; if there is none, \
                 start the job again.",
            ),
        JobKind::Run => problem.with_hint(format!(
            "Continue the run with `headwater job retry {}`, or start a new run.",
            id.short()
        )),
        JobKind::Query | JobKind::Diff | JobKind::Import | JobKind::Trigger => {
            problem.with_hint("Start the job again.")
        }
        JobKind::Backfill => problem
            .with_hint("Start the backfill again; repeating a value does not duplicate its rows."),
        JobKind::Queue => problem,
        JobKind::Function => problem.with_hint(
            "The function may have run already: call it again only if running it twice is safe.",
        ),
    }
}
