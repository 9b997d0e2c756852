//! The stored form of jobs: journals, keys and the JSON of a record.
//!
//! | journal | key | value |
//! |---|---|---|
//! | `jobs`, `query_jobs` | job id | the record; the newest entry counts |
//! | `job_events`, `query_events` | job id `/` first sequence | events, one JSON object a line |
//! | `user_days` | day `/` user | the usage of a user on a day; see `user_quota.rs` |
//! | `job_payloads` | job id | the executor's input; deleted some time after the job's end |
//!
//! Queries and function calls have separate journals, because they are numerous and the number of
//! their records is limited. Each open job has a ref `jobs/open/<id>`, so that opening a lake reads
//! only the open jobs.

use bytes::Bytes;
use headwater_model::{EndedJob, Job, JobEvent, JobId, JobKind, Usage};
use headwater_store::{JournalAppend, RefChange, RefPrecondition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

pub(crate) const JOBS: &str = "jobs";
pub(crate) const QUERIES: &str = "query_jobs";
pub(crate) const PAYLOADS: &str = "job_payloads";
const EVENTS: &str = "job_events";
const QUERY_EVENTS: &str = "query_events";

/// The prefix of the refs of open jobs.
pub(crate) const OPEN: &str = "jobs/open/";

/// Maximum number of events, and approximate maximum size in bytes, of one entry.
const CHUNK_EVENTS: usize = 1_000;
const CHUNK_BYTES: usize = 256 << 10;

/// The stored record of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    /// The job.
    pub job: Job,
    /// The usage of each step, for aggregation by model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepUsage>,
    /// The job's queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The user whose limits apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The project, function or table that the job worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The trigger whose event the job delivers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// The function whose budget the job uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
}

impl JobRecord {
    /// Returns the function that the job called; `None` for jobs of other kinds, and for jobs that
    /// sent a record to a destination such as `queue://failed`.
    pub(crate) fn function(&self) -> Option<&str> {
        let job = &self.job;
        // If a client calls a function, the job's summary is the function's name. If a trigger
        // calls it, the summary describes the event.
        let called =
            (job.kind == JobKind::Function && self.trigger.is_none()).then_some(&*job.summary);
        let name = self.name.as_deref().filter(|_| job.kind == JobKind::Function);
        name.or(called).filter(|name| !name.contains("://"))
    }

    /// Returns the job as triggers receive it; `None` if it has not ended.
    pub(crate) fn ended_job(&self) -> Option<EndedJob> {
        let job = &self.job;
        // If a client calls a function, the job's summary is the function's name.
        let called =
            (job.kind == JobKind::Function && self.trigger.is_none()).then(|| job.summary.clone());
        Some(EndedJob {
            id: job.id,
            kind: job.kind,
            status: job.status,
            name: self.name.clone().or(called),
            trigger: self.trigger.clone(),
            summary: job.summary.clone(),
            author: job.author.clone(),
            reference: job.reference.clone(),
            event: job.event.clone(),
            created: job.created,
            started: job.started,
            ended: job.ended?,
            usage: job.usage,
            cost: job.cost,
            error: job.error.clone(),
        })
    }
}

/// The usage of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepUsage {
    pub step: String,
    pub usage: Usage,
    pub cost: f64,
}

/// Returns the journal that contains the records of jobs of this kind.
pub(crate) fn journal(kind: JobKind) -> &'static str {
    if kind.is_short() { QUERIES } else { JOBS }
}

/// Returns the journal that contains the events of jobs of this kind.
pub(crate) fn events_journal(kind: JobKind) -> &'static str {
    if kind.is_short() { QUERY_EVENTS } else { EVENTS }
}

/// Returns the key of an entry whose first event has this sequence number.
pub(crate) fn event_key(id: JobId, sequence: u64) -> String {
    format!("{id}/{sequence:012}")
}

/// Returns the journal entry that stores a record.
pub(crate) fn record_entry(record: &JobRecord) -> Result<JournalAppend> {
    Ok(JournalAppend::put(journal(record.job.kind), record.job.id.to_string(), encode(record)?))
}

/// Returns the ref change that adds the ref of a job if `open` is set, and removes the ref
/// otherwise.
pub(crate) fn open_ref(id: JobId, kind: JobKind, open: bool) -> RefChange {
    let value = open.then(|| Bytes::from_static(journal(kind).as_bytes()));
    RefChange { name: format!("{OPEN}{id}"), expected: RefPrecondition::Anything, value }
}

/// Returns the journal entries that store `events`, in order.
pub(crate) fn event_entries(
    id: JobId,
    kind: JobKind,
    events: &[JobEvent],
) -> Result<Vec<JournalAppend>> {
    let mut entries = Vec::new();
    let mut text: Vec<u8> = Vec::new();
    let mut first = None;
    let mut count = 0;
    for event in events {
        first.get_or_insert(event.sequence);
        text.extend_from_slice(&encode(event)?);
        text.push(b'\n');
        count += 1;
        if count == CHUNK_EVENTS || text.len() >= CHUNK_BYTES {
            flush_chunk(id, kind, &mut first, &mut text, &mut entries);
            count = 0;
        }
    }
    flush_chunk(id, kind, &mut first, &mut text, &mut entries);
    Ok(entries)
}

fn flush_chunk(
    id: JobId,
    kind: JobKind,
    first: &mut Option<u64>,
    text: &mut Vec<u8>,
    entries: &mut Vec<JournalAppend>,
) {
    if let Some(sequence) = first.take() {
        let value = Bytes::from(std::mem::take(text));
        entries.push(JournalAppend::put(events_journal(kind), event_key(id, sequence), value));
    }
}

/// Decodes the events of an entry.
pub(crate) fn decode_events(journal: &str, key: &str, value: &[u8]) -> Result<Vec<JobEvent>> {
    let lines = value.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| decode(journal, key, line)).collect()
}

pub(crate) fn encode(value: &impl Serialize) -> Result<Bytes> {
    let encoded = serde_json::to_vec(value);
    encoded.map(Bytes::from).map_err(|error| Error::Encode { reason: error.to_string() })
}

pub(crate) fn decode<T: DeserializeOwned>(journal: &str, key: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|error| Error::Corrupt {
        journal: journal.to_owned(),
        key: key.to_owned(),
        reason: error.to_string(),
    })
}
