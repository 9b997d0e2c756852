//! Ends of jobs, recorded for triggers.
//!
//! A watch is the condition by which a trigger selects jobs. If a watch selects a job, the batch
//! with its final record also appends its end to the journal [`JOB_END_JOURNAL`]. So both are
//! stored together or not at all. The watches are stored too, because unfinished jobs of the
//! previous process end before the triggers are loaded.

use headwater_model::{JOB_END_JOURNAL, JobsTrigger};
use headwater_store::{JournalAppend, OccurrenceJournal};
use tokio::sync::watch;

use crate::Result;
use crate::record::{JobRecord, decode, encode};
use crate::writer::JobsState;

/// The state of the entry that records the end of a job for triggers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobEndEntry {
    /// The entry is not stored.
    Due,
    /// The batch with the entry failed, so the store may or may not contain the entry.
    InDoubt,
    /// The entry is stored.
    Stored,
}

/// A handle to the ends of jobs that are recorded for triggers, from [`crate::JobMonitor::ends`].
#[derive(Clone, Copy)]
pub struct JobEnds<'a>(pub(crate) &'a JobsState);

impl JobEnds<'_> {
    /// Replaces the watches of all triggers. Later ends are recorded only if a watch selects the
    /// job.
    pub async fn watch(self, watches: Vec<JobsTrigger>) -> Result<()> {
        let stored = if watches.is_empty() { None } else { Some(encode(&watches)?) };
        self.0.end_journal().watch(stored).await?;
        *self.0.end_watches.write() = watches.into();
        Ok(())
    }

    /// Returns a counter that changes with each recorded end.
    pub fn counter(self) -> watch::Receiver<u64> {
        self.0.ends_recorded.subscribe()
    }
}

impl JobsState {
    fn end_journal(&self) -> OccurrenceJournal<'_> {
        OccurrenceJournal::new(&*self.store, JOB_END_JOURNAL)
    }

    /// Reads the watches that the previous process stored.
    pub(crate) async fn load_end_watches(&self) -> Result<()> {
        let Some(stored) = self.end_journal().watched().await? else { return Ok(()) };
        match decode::<Vec<JobsTrigger>>(JOB_END_JOURNAL, "watch", &stored) {
            Ok(watches) => *self.end_watches.write() = watches.into(),
            Err(error) => tracing::warn!(%error, "the watched jobs cannot be read"),
        }
        Ok(())
    }
}

/// Returns the entry that records the end of a job; `None` if no watch selects the job.
pub(crate) fn end_entry(
    record: &JobRecord,
    watches: &[JobsTrigger],
) -> Result<Option<JournalAppend>> {
    let (kind, status) = (record.job.kind, record.job.status);
    if !watches.iter().any(|watch| watch.selects(kind, status)) {
        return Ok(None);
    }
    let Some(ended) = record.ended_job() else { return Ok(None) };
    Ok(Some(JournalAppend::put(JOB_END_JOURNAL, ended.id.to_string(), encode(&ended)?)))
}
