//! Detection of changes of objects, of merges and of ends of jobs.
//!
//! The component that makes a change records it in a journal, in the same batch of the store. The
//! source reads the entries in order. One batch stores the events and the position of the last
//! entry. Positions are in a separate journal, under the name of the trigger. An entry is deleted
//! after the positions of all triggers have passed it. The source skips occurrences that the
//! trigger's own events caused, and occurrences that the trigger's deployer may not see.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use globset::{GlobBuilder, GlobMatcher};
use headwater_model::{
    BranchMerge, EndedJob, EventData, JOB_END_JOURNAL, JobsTrigger, MERGE_JOURNAL, PROPERTY_EVENT,
    Problem, Trigger,
};
use headwater_objects::Objects;
use headwater_store::{JournalAppend, JournalEntry, OccurrenceJournal, UniqueKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use crate::Result;
use crate::branch_commits::caused_by;
use crate::bucket_source::{self, ObjectFilter};
use crate::definition::invalid;
use crate::delivery_log::DeliveryLog;
use crate::event_queue::OPEN_MAX;
use crate::event_source::{DetectedEvents, EventSource, NewEvent, PollResult, SourceContext};
use crate::journal_codec::{decode, encode, read, read_all};

pub(crate) const MERGE_POSITIONS: &str = "trigger_merge_positions";
pub(crate) const JOB_POSITIONS: &str = "trigger_job_positions";

/// Maximum number of entries that are examined in one poll.
const BATCH: usize = 500;

/// Minimum free capacity of the event queue before entries are read. With a smaller minimum, a
/// nearly full queue would take each event in a batch of its own.
const CAPACITY_MIN: usize = 100;
/// Pause while the free capacity of the queue is below the minimum.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// The occurrences that a trigger selects: changes of objects, merges, or ends of jobs.
#[derive(Debug, Clone)]
pub(crate) enum OccurrenceFilter {
    /// Changes of objects in a bucket.
    Objects(ObjectFilter),
    /// Merges into branches that match one of the patterns.
    Merges(Vec<GlobMatcher>),
    /// Ends of jobs. Without patterns, all names match.
    Jobs(JobsTrigger, Vec<GlobMatcher>),
}

impl OccurrenceFilter {
    pub(crate) fn merges(trigger: &Trigger) -> Result<Self> {
        Ok(OccurrenceFilter::Merges(patterns(trigger, &trigger.merge_targets())?))
    }

    pub(crate) fn jobs(trigger: &Trigger, jobs: &JobsTrigger) -> Result<Self> {
        if jobs.kinds.is_empty() {
            let hint = "Write `kinds = [\"run\"]`, or other kinds of job.";
            return Err(invalid(trigger, "`kinds` is empty", hint));
        }
        if jobs.statuses.iter().any(|status| !status.is_final()) {
            let hint = "Use `succeeded`, `failed`, `cancelled` or `interrupted`.";
            return Err(invalid(trigger, "a job never ends as `queued` or `running`", hint));
        }
        let names: Vec<&str> = jobs.names.iter().map(String::as_str).collect();
        Ok(OccurrenceFilter::Jobs(jobs.clone(), patterns(trigger, &names)?))
    }

    /// Returns the journal with the positions of this kind of source.
    pub(crate) const fn positions(&self) -> &'static str {
        match self {
            OccurrenceFilter::Objects(_) => bucket_source::POSITIONS,
            OccurrenceFilter::Merges(_) => MERGE_POSITIONS,
            OccurrenceFilter::Jobs(..) => JOB_POSITIONS,
        }
    }

    /// Returns the journal of this kind of occurrence, and a counter that changes with each
    /// occurrence; `None` if the component that records them is missing.
    fn journal<'a>(
        &self,
        context: &'a SourceContext,
    ) -> Option<(OccurrenceJournal<'a>, Option<watch::Receiver<u64>>)> {
        let of_store = |name| OccurrenceJournal::new(context.store(), name);
        Some(match self {
            OccurrenceFilter::Objects(_) => {
                let objects = context.options.objects.as_ref()?;
                (objects.change_journal(), Some(objects.change_counter()))
            }
            OccurrenceFilter::Merges(_) => {
                let commits = context.options.commits.as_ref();
                (of_store(MERGE_JOURNAL), commits.map(|commits| commits.counter()))
            }
            OccurrenceFilter::Jobs(..) => {
                (of_store(JOB_END_JOURNAL), Some(context.log.jobs.monitor().ends().counter()))
            }
        })
    }

    /// Returns the event of a journal entry; `None` if the trigger does not fire for the entry.
    async fn event(
        &self,
        context: &SourceContext,
        entry: &JournalEntry,
    ) -> Result<Option<NewEvent>> {
        let found = match self {
            OccurrenceFilter::Objects(filter) => filter.event(entry),
            OccurrenceFilter::Merges(into) => merged(context, into, entry).await?,
            OccurrenceFilter::Jobs(jobs, names) => ended(context, jobs, names, entry).await?,
        };
        let Some(event) = found else { return Ok(None) };
        if event.caused_by.contains(&context.trigger) {
            return Ok(None);
        }
        let visible = context.targets.visible(&context.trigger, event.data.clone());
        Ok(visible.map(|data| NewEvent { data, ..event }))
    }
}

/// The position in a journal up to which a trigger processed the occurrences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// The bucket of an object trigger; empty for merges and jobs.
    #[serde(default, alias = "bucket")]
    scope: String,
    /// All entries up to this position were recorded as events or skipped.
    position: u64,
    /// Unique id of the trigger's sequence of steps. A redeployed trigger gets another id.
    id: String,
    /// Number of steps (recorded batches). The store rejects a step that is already recorded.
    step: u64,
}

/// The event source for changes of objects, merges, or ends of jobs.
pub(crate) struct OccurrenceSource {
    occurrences: OccurrenceFilter,
    /// The stored position; `None` until it has been read.
    position: Option<Position>,
    /// Guard of the task that requests a poll after each occurrence. Dropping it ends the task.
    listener: Option<DropGuard>,
}

#[async_trait]
impl EventSource for OccurrenceSource {
    async fn poll(&mut self, context: &SourceContext) -> Result<PollResult> {
        let Some((journal, counter)) = self.occurrences.journal(context) else {
            return Ok(PollResult::after(context.options.poll_interval));
        };
        if self.listener.is_none() {
            self.listener = counter.and_then(|counter| context.listen(counter));
        }
        let position = self.position(context, journal).await?;
        let capacity = OPEN_MAX.saturating_sub(context.queue.open_count());
        if capacity < CAPACITY_MIN {
            return Ok(PollResult::after(FULL_PAUSE));
        }
        let entries = journal.after(position.position, capacity.min(BATCH)).await?;
        let Some(last) = entries.last() else {
            let fault = self.fault(context).await;
            return Ok(PollResult { pause: context.options.poll_interval, fault });
        };
        let next = Position { position: last.position, step: position.step + 1, ..position };
        let mut events = Vec::new();
        for entry in &entries {
            events.extend(self.occurrences.event(context, entry).await?);
        }
        self.record(context, events, next).await?;
        forget_consumed(&context.log, journal, self.occurrences.positions()).await?;
        Ok(PollResult::after(Duration::ZERO))
    }
}

impl OccurrenceSource {
    pub(crate) fn new(occurrences: OccurrenceFilter) -> Self {
        OccurrenceSource { occurrences, position: None, listener: None }
    }

    /// Reads the position. A new trigger starts after the latest occurrence.
    async fn position(
        &mut self,
        context: &SourceContext,
        journal: OccurrenceJournal<'_>,
    ) -> Result<Position> {
        if let Some(position) = &self.position {
            return Ok(position.clone());
        }
        context.catch_up().await?;
        let positions = self.occurrences.positions();
        let stored = read::<Position>(context.store(), positions, &context.trigger).await?;
        let scope = match &self.occurrences {
            OccurrenceFilter::Objects(filter) => filter.bucket().to_owned(),
            _ => String::new(),
        };
        if let Some(stored) = stored.filter(|stored| stored.scope == scope) {
            self.position = Some(stored.clone());
            return Ok(stored);
        }
        let id = context.log.jobs.new_id().to_string();
        let first = Position { scope, position: journal.position().await?, id, step: 0 };
        self.record(context, Vec::new(), first.clone()).await?;
        Ok(first)
    }

    /// Returns a problem if the trigger's bucket does not exist.
    async fn fault(&self, context: &SourceContext) -> Option<Problem> {
        match (&self.occurrences, &context.options.objects) {
            (OccurrenceFilter::Objects(filter), Some(objects)) => filter.fault(objects).await,
            _ => None,
        }
    }

    /// Records events and the position. The batch is rejected if another process has recorded the
    /// same step. The batch is not synced to disk: if a power failure undoes it, the source reads
    /// the journal entries again.
    async fn record(
        &mut self,
        context: &SourceContext,
        events: Vec<NewEvent>,
        position: Position,
    ) -> Result<()> {
        let positions = self.occurrences.positions();
        let step = UniqueKey {
            scope: format!("{positions}/{}", context.trigger),
            key: format!("{}\n{}", position.id, position.step),
        };
        let entries = vec![JournalAppend::put(positions, &context.trigger, encode(&position)?)];
        let is_durable = position.step > 0;
        context.record(DetectedEvents { events, entries, unique: vec![step], is_durable }).await?;
        self.position = Some(position);
        Ok(())
    }
}

/// Enables recording for the occurrences that triggers select, and disables recording for other
/// occurrences. Must be called before new triggers read their first positions.
pub(crate) async fn watch(log: &DeliveryLog, triggers: &[Trigger]) -> Result<()> {
    let merges = triggers.iter().any(|trigger| trigger.merges.is_some());
    let watch = merges.then(|| Bytes::from_static(b"all"));
    OccurrenceJournal::new(&*log.store, MERGE_JOURNAL).watch(watch).await?;
    let jobs = triggers.iter().filter_map(|trigger| trigger.jobs.clone()).collect();
    Ok(log.jobs.monitor().ends().watch(jobs).await?)
}

/// Deletes from each journal of occurrences the entries that all triggers have processed.
pub(crate) async fn forget_all(log: &DeliveryLog, objects: Option<&Objects>) -> Result<()> {
    if let Some(objects) = objects {
        forget_consumed(log, objects.change_journal(), bucket_source::POSITIONS).await?;
    }
    let journal = |name| OccurrenceJournal::new(&*log.store, name);
    forget_consumed(log, journal(MERGE_JOURNAL), MERGE_POSITIONS).await?;
    forget_consumed(log, journal(JOB_END_JOURNAL), JOB_POSITIONS).await
}

async fn forget_consumed(
    log: &DeliveryLog,
    journal: OccurrenceJournal<'_>,
    positions: &str,
) -> Result<()> {
    let mut until = u64::MAX;
    for entry in read_all(&*log.store, positions, "").await? {
        let stored: Position = decode(positions, &entry.key, &entry.value)?;
        until = until.min(stored.position);
    }
    Ok(journal.forget(until).await?)
}

/// Returns the event for a merge into a branch that matches one of the patterns.
async fn merged(
    context: &SourceContext,
    into: &[GlobMatcher],
    entry: &JournalEntry,
) -> Result<Option<NewEvent>> {
    let Some(merge) = readable::<BranchMerge>(MERGE_JOURNAL, entry) else { return Ok(None) };
    if !into.iter().any(|pattern| pattern.is_match(&merge.branch)) {
        return Ok(None);
    }
    let caused_by = caused_by(&context.log, &merge.properties).await?;
    Ok(Some(NewEvent {
        source: format!("/branches/{}", merge.branch),
        subject: Some(merge.source.clone()),
        time: merge.time,
        data: merge.into(),
        caused_by: caused_by.into_iter().collect(),
        trace: None,
    }))
}

/// Returns the event for the end of a job, if the trigger selects the job.
async fn ended(
    context: &SourceContext,
    jobs: &JobsTrigger,
    names: &[GlobMatcher],
    entry: &JournalEntry,
) -> Result<Option<NewEvent>> {
    let Some(job) = readable::<EndedJob>(JOB_END_JOURNAL, entry) else { return Ok(None) };
    let mut own = job.name.iter().chain(&job.trigger);
    let is_named =
        names.is_empty() || own.any(|name| names.iter().any(|pattern| pattern.is_match(name)));
    if !is_named || !jobs.selects(job.kind, job.status) {
        return Ok(None);
    }
    let event = job.event.clone().map(|event| (PROPERTY_EVENT.to_owned(), event));
    let properties: BTreeMap<String, String> = event.into_iter().collect();
    let mut caused_by = caused_by(&context.log, &properties).await?;
    // Also add the trigger from the job's record, because the job's event may be removed.
    caused_by.extend(job.trigger.clone());
    Ok(Some(NewEvent {
        source: format!("/jobs/{}", job.id),
        subject: job.name.clone().or_else(|| job.trigger.clone()),
        time: job.ended,
        data: EventData::JobEnded { job: Box::new(job) },
        caused_by: caused_by.into_iter().collect(),
        trace: None,
    }))
}

/// Returns the record in a journal entry; `None` if it cannot be read.
pub(crate) fn readable<T: DeserializeOwned>(journal: &str, entry: &JournalEntry) -> Option<T> {
    decode(journal, &entry.key, &entry.value)
        .inspect_err(|error| tracing::warn!(%error, "skipping an unreadable record"))
        .ok()
}

fn patterns(trigger: &Trigger, names: &[&str]) -> Result<Vec<GlobMatcher>> {
    let matcher = |name: &&str| {
        let hint = "Write names such as `main`, or patterns such as `release/*`.";
        if name.trim().is_empty() {
            return Err(invalid(trigger, "a name is empty", hint));
        }
        let glob = GlobBuilder::new(name).build();
        glob.map(|glob| glob.compile_matcher())
            .map_err(|error| invalid(trigger, format!("`{name}` is not a pattern: {error}"), hint))
    };
    names.iter().map(matcher).collect()
}
