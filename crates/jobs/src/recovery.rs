//! Recovery of the jobs of the last process.
//!
//!
//! Only open jobs are read. A running job becomes interrupted; a job queued for an executor stays
//! queued. Recovery never prevents opening the lake: an unreadable record is skipped with a
//! warning, and a full disk only delays writes.

use std::sync::Arc;

use headwater_model::{ErrorCode, JobId, JobKind, JobStatus, Problem};
use headwater_store::{Batch, Expected, KeyRange, RefChange};

use crate::Result;
use crate::active_job::ActiveJob;
use crate::record::{self, JOBS, OPEN, PAYLOADS, QUERIES, Record};
use crate::writer::Shared;

/// The open jobs of the last process.
#[derive(Default)]
pub(crate) struct Recovered {
    /// Jobs that are queued again.
    pub queued: Vec<Arc<ActiveJob>>,
    /// Jobs that were running.
    pub interrupted: Vec<JobId>,
}

impl Shared {
    /// Recovers the open jobs.
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<Recovered> {
        self.load_queries_from().await?;
        let mut recovered = Recovered::default();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.references(OPEN, after.as_deref(), 500).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (name, journal) in page {
                self.recover_one(&name, &journal, &mut recovered).await?;
            }
        }
        if let Err(error) = self.flush().await {
            tracing::warn!(%error, "cannot record interrupted jobs yet");
        }
        if let Err(error) = self.trim_payloads().await {
            tracing::warn!(%error, "cannot delete inputs of ended jobs");
        }
        Ok(recovered)
    }

    async fn recover_one(
        self: &Arc<Self>,
        name: &str,
        journal: &[u8],
        recovered: &mut Recovered,
    ) -> Result<()> {
        let journal = if journal == QUERIES.as_bytes() { QUERIES } else { JOBS };
        let key = name.strip_prefix(OPEN).unwrap_or(name);
        let entry = self.store.latest(journal, key).await?;
        let record = entry.map(|entry| record::decode::<Record>(journal, key, &entry.value));
        match record {
            Some(Ok(record)) if !record.job.status.is_final() => {
                self.take_up(record, recovered).await
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "skipping an unreadable open job");
                self.forget_open(name).await
            }
            Some(Ok(_)) | None => self.forget_open(name).await,
        }
    }

    async fn take_up(self: &Arc<Self>, record: Record, recovered: &mut Recovered) -> Result<()> {
        let (id, kind, status) = (record.job.id, record.job.kind, record.job.status);
        let problem = interrupted(kind, record.job.event.is_some());
        let last = self.last_stored_event(id, kind).await?;
        // The time of the last event, because the job does not include the server's downtime.
        let alive = last.as_ref().map(|event| event.time).or(record.job.started);
        let alive = alive.unwrap_or(record.job.created);
        let sequence = last.map_or(0, |event| event.sequence);
        let active = Arc::new(ActiveJob::recovered(record, sequence, self.options.log_bytes_max));
        self.active.lock().insert(id, active.clone());
        let waits = matches!(kind, JobKind::Import | JobKind::Run | JobKind::Maintenance);
        if status == JobStatus::Queued && waits {
            recovered.queued.push(active);
            return Ok(());
        }
        recovered.interrupted.push(id);
        self.end(&active, alive, Err(problem), Vec::new());
        Ok(())
    }

    async fn forget_open(&self, name: &str) -> Result<()> {
        let change = RefChange { name: name.to_owned(), expected: Expected::Anything, value: None };
        let batch = Batch { refs: vec![change], relaxed: true, ..Batch::default() };
        if let Err(error) = self.store.apply(batch).await {
            tracing::warn!(%error, name, "cannot remove the ref of an ended job");
        }
        Ok(())
    }

    /// Deletes the executor inputs of ended jobs.
    pub(crate) async fn trim_payloads(&self) -> Result<()> {
        let oldest = self.active.lock().keys().next().map(ToString::to_string);
        let range = KeyRange { until: oldest, ..KeyRange::default() };
        self.store.trim(PAYLOADS, &range).await?;
        Ok(())
    }
}

fn interrupted(kind: JobKind, is_delivery: bool) -> Problem {
    let problem = Problem::new(ErrorCode::Interrupted, "the server stopped while the job ran");
    if is_delivery {
        return problem.with_hint("No action needed: the event is delivered again.");
    }
    match kind {
        JobKind::Maintenance => {
            problem.with_hint("No action needed: the next maintenance continues.")
        }
        JobKind::Merge | JobKind::CherryPick | JobKind::Revert | JobKind::Commit => {
            problem.with_hint("Look for the commit with `headwater log`; if it is missing, start the job again.")
        }
        JobKind::Query | JobKind::Diff | JobKind::Import | JobKind::Run | JobKind::Trigger => {
            problem.with_hint("Start the job again.")
        }
        JobKind::Function => problem.with_hint("Call the function again if it is idempotent."),
    }
}
