//! Lists of jobs, newest first.
//!
//! Ids sort by time, so a list merges three descending sequences: jobs in memory, stored queries,
//! and the other stored jobs. A job in memory replaces its stored record.
//!
//! A list without jobs can wait for the next job, so that clients need not poll.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use headwater_model::{Job, JobId, JobKind, JobStatus, Timestamp};
use headwater_store::ReverseScan;
use tokio::sync::watch;

use crate::active_job::ActiveJob;
use crate::job_id_generator::key_at;
use crate::record::{self, JOBS, JobRecord, QUERIES};
use crate::writer::JobsState;
use crate::{Jobs, Result};

/// Maximum time for which a list waits for a job.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Delay between a new job and the list that includes it, which bounds the work of a waiting list
/// while many jobs are added.
const GATHER: Duration = Duration::from_millis(10);

/// A filter of jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFilter {
    /// The kinds of the listed jobs; empty for all.
    pub kinds: Vec<JobKind>,
    /// The statuses of the listed jobs; empty for all.
    pub statuses: Vec<JobStatus>,
    /// The earliest time at which a listed job was recorded.
    pub since: Option<Timestamp>,
    /// The time before which a listed job was recorded.
    pub until: Option<Timestamp>,
    /// Maximum number of jobs, newest first; 100 by default.
    pub limit: usize,
    /// Maximum time to wait for a job if there is none; 0 by default, at most 60 s. Only
    /// [`JobFilter::list_visible`] waits.
    pub wait: Duration,
}

impl Default for JobFilter {
    fn default() -> Self {
        JobFilter {
            kinds: Vec::new(),
            statuses: Vec::new(),
            since: None,
            until: None,
            limit: 100,
            wait: Duration::ZERO,
        }
    }
}

impl JobFilter {
    fn has_kind(&self, kind: JobKind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    fn admits(&self, job: &Job) -> bool {
        self.has_kind(job.kind)
            && (self.statuses.is_empty() || self.statuses.contains(&job.status))
            && self.since.is_none_or(|since| job.created >= since)
            && self.until.is_none_or(|until| job.created < until)
    }
}

impl Jobs {
    /// Lists jobs, newest first.
    pub async fn list(&self, filter: &JobFilter) -> Result<Vec<Job>> {
        let mut jobs = Vec::new();
        let mut records = self.inner.shared.records(filter);
        while jobs.len() < filter.limit {
            let Some(record) = records.next().await? else { break };
            jobs.push(self.with_wait(record.job));
        }
        Ok(jobs)
    }
}

impl JobFilter {
    /// Lists the visible jobs, newest first. If no job is visible, waits at most for
    /// [`JobFilter::wait`] until a visible job is added. Stops waiting when the server shuts down.
    pub async fn list_visible(
        &self,
        jobs: &Jobs,
        is_visible: impl Fn(&Job) -> bool + Send + Sync,
    ) -> Result<Vec<Job>> {
        let shared = &jobs.inner.shared;
        // Subscribe before the first list, so that no job is added between the two.
        let added = shared.added.subscribe();
        let mut found = jobs.list(self).await?;
        found.retain(&is_visible);
        if !found.is_empty() || self.wait.is_zero() {
            return Ok(found);
        }
        tokio::select! {
            found = self.next_visible(jobs, &is_visible, added) => found,
            () = shared.draining.cancelled() => Ok(Vec::new()),
            () = tokio::time::sleep(self.wait.min(WAIT_MAX)) => Ok(Vec::new()),
        }
    }

    async fn next_visible(
        &self,
        jobs: &Jobs,
        is_visible: &(impl Fn(&Job) -> bool + Send + Sync),
        mut added: watch::Receiver<u64>,
    ) -> Result<Vec<Job>> {
        while added.changed().await.is_ok() {
            tokio::time::sleep(GATHER).await;
            let mut found = jobs.list(self).await?;
            found.retain(is_visible);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }
}

/// A stream of the records that match a filter, newest first.
pub(crate) struct JobRecords<'a> {
    shared: &'a JobsState,
    filter: JobFilter,
    live: Vec<Arc<ActiveJob>>,
    journals: Vec<ReverseScan>,
}

impl JobsState {
    /// Returns the records that match a filter, newest first. The caller applies the limit.
    pub(crate) fn records(&self, filter: &JobFilter) -> JobRecords<'_> {
        let mut journals = Vec::new();
        // Extend the range, because an id may be created shortly before its record. The filter then
        // checks the record's time.
        let from = filter.since.map(|since| key_at(since - TimeDelta::seconds(1)));
        let until = filter.until.map(key_at);
        let has = |brief| {
            let mut kinds = JobKind::ALL.into_iter().filter(|kind| kind.is_short() == brief);
            kinds.any(|kind| filter.has_kind(kind))
        };
        if has(false) {
            journals.push(ReverseScan::new(JOBS, from.clone(), until.clone()));
        }
        if has(true) {
            let kept = self.queries_from.read().clone();
            let from = Some(from.map_or(kept.clone(), |from| from.max(kept)));
            journals.push(ReverseScan::new(QUERIES, from, until));
        }
        let live = self.live.lock().values().cloned().collect();
        JobRecords { shared: self, filter: filter.clone(), live, journals }
    }

    /// Returns the record of a job that is not in memory.
    pub(crate) async fn stored(&self, id: JobId) -> Result<Option<JobRecord>> {
        let key = id.to_string();
        for journal in [JOBS, QUERIES] {
            if let Some(entry) = self.store.latest(journal, &key).await? {
                return record::decode(journal, &key, &entry.value).map(Some);
            }
        }
        Ok(None)
    }
}

impl JobRecords<'_> {
    /// Returns the next older record. Skips unreadable records.
    pub(crate) async fn next(&mut self) -> Result<Option<JobRecord>> {
        while let Some(key) = self.newest().await? {
            let record = self.take(&key);
            if let Some(record) = record.filter(|record| self.filter.admits(&record.job)) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    async fn newest(&mut self) -> Result<Option<String>> {
        let mut newest = self.live.last().map(|live| live.id.to_string());
        for journal in &mut self.journals {
            let head = journal.peek(&*self.shared.store).await?;
            newest = newest.max(head.map(|entry| entry.key.clone()));
        }
        Ok(newest)
    }

    fn take(&mut self, key: &str) -> Option<JobRecord> {
        let mut record = None;
        for journal in &mut self.journals {
            let Some(entry) = journal.pop_key(key) else { continue };
            match record::decode(journal.journal(), &entry.key, &entry.value) {
                Ok(decoded) => record = Some(decoded),
                Err(error) => {
                    tracing::warn!(%error, "a list of jobs omits a job with an unreadable record");
                }
            }
        }
        if let Some(live) = self.live.pop_if(|live| live.id.to_string() == key) {
            let job = live.job(self.shared.clock.now());
            record = Some(JobRecord { job, ..live.record() });
        }
        record
    }
}
