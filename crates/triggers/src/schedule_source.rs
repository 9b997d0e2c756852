//! Detection of scheduled times.
//!
//! The journal `trigger_schedule_positions` stores, with the trigger's name as the key, the time up
//! to which all scheduled times were recorded.

use std::time::Duration;

use async_trait::async_trait;
use headwater_model::{CatchupPolicy, EventData, Timestamp, Trigger};
use headwater_schedules::Schedule;
use headwater_store::{JournalAppend, UniqueKey};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::definition::invalid;
use crate::event_queue::OPEN_MAX;
use crate::event_source::{DetectedEvents, EventSource, NewEvent, PollResult, SourceContext};
use crate::journal_codec::{encode, read};

pub(crate) const POSITIONS: &str = "trigger_schedule_positions";

/// Maximum number of events that are recorded in one batch.
const BATCH: usize = 100;

/// Checks that the schedule of a trigger, if any, fires after `now`. Accepts a one-time schedule
/// that has passed if a trigger in `replaced` had the same time: the old trigger may have fired.
///
/// Error: `invalid_project` for a one-time schedule that has passed.
pub fn check_upcoming<'a>(
    trigger: &Trigger,
    replaced: impl IntoIterator<Item = &'a Trigger>,
    now: Timestamp,
) -> Result<()> {
    let (Some(passed), Some(definition)) = (passed_time(trigger, now), &trigger.schedule) else {
        return Ok(());
    };
    if replaced.into_iter().any(|before| passed_time(before, now) == Some(passed)) {
        return Ok(());
    }
    let reason = format!("the time `{}` has passed", definition.cron.trim());
    Err(invalid(trigger, reason, "Write a later time, or remove the trigger."))
}

/// Returns the time of a one-time schedule that has passed.
fn passed_time(trigger: &Trigger, now: Timestamp) -> Option<Timestamp> {
    let schedule = Schedule::new(trigger.schedule.as_ref()?).ok()?;
    if schedule.next_after(now).is_some() { None } else { schedule.last_until(now) }
}

/// The position in a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// All scheduled times up to this time were recorded as events or skipped.
    at: Timestamp,
    /// Expression and time zone of the schedule. If the trigger's schedule now differs, the source
    /// ignores the position.
    schedule: String,
}

/// The event source for a schedule.
pub(crate) struct ScheduleSource {
    schedule: Schedule,
    /// Time up to which scheduled times were recorded; `None` until read from the store.
    at: Option<Timestamp>,
}

impl ScheduleSource {
    pub(crate) fn new(schedule: Schedule) -> Self {
        ScheduleSource { schedule, at: None }
    }

    /// Reads the position. Applies the catch-up policy to the scheduled times that were missed
    /// since that position.
    async fn position(&mut self, context: &SourceContext) -> Result<Timestamp> {
        if let Some(at) = self.at {
            return Ok(at);
        }
        context.catch_up().await?;
        let now = context.now();
        let identity = self.schedule.identity();
        let stored = read::<Position>(context.store(), POSITIONS, &context.trigger).await?;
        let stored = stored.filter(|position| position.schedule == identity).map(|one| one.at);
        let missed = stored.and_then(|at| {
            let last = self.schedule.last_until(now).filter(|last| *last > at);
            last.filter(|_| context.queue.is_fresh())
        });
        let at = match (stored, missed, self.schedule.definition().catchup) {
            (None, ..) | (Some(_), Some(_), CatchupPolicy::Skip) => {
                self.record(context, &[], now).await?;
                now
            }
            (Some(_), Some(last), CatchupPolicy::Once) => {
                self.record(context, &[last], last).await?;
                last
            }
            (Some(at), ..) => at,
        };
        context.queue.clear_fresh();
        self.at = Some(at);
        Ok(at)
    }

    /// Records events and the position `at`. Scheduled times up to `at` are not recorded again.
    async fn record(
        &mut self,
        context: &SourceContext,
        times: &[Timestamp],
        at: Timestamp,
    ) -> Result<()> {
        let position = Position { at, schedule: self.schedule.identity() };
        let event = |time: &Timestamp| NewEvent {
            source: format!("/triggers/{}", context.trigger),
            subject: None,
            time: *time,
            data: EventData::ScheduleFired { scheduled: *time },
            caused_by: Vec::new(),
            trace: None,
        };
        let unique = |time: &Timestamp| UniqueKey {
            scope: format!("{POSITIONS}/{}", context.trigger),
            key: format!("{}\n{}", position.schedule, time.to_rfc3339()),
        };
        let detected = DetectedEvents {
            events: times.iter().map(event).collect(),
            entries: vec![JournalAppend::put(POSITIONS, &context.trigger, encode(&position)?)],
            unique: times.iter().map(unique).collect(),
            is_durable: false,
        };
        context.record(detected).await?;
        self.at = Some(at);
        Ok(())
    }
}

#[async_trait]
impl EventSource for ScheduleSource {
    async fn poll(&mut self, context: &SourceContext) -> Result<PollResult> {
        let now = context.now();
        let mut at = self.position(context).await?;
        let capacity = OPEN_MAX.saturating_sub(context.queue.open_count());
        let mut due = Vec::new();
        while let Some(next) = self.schedule.next_after(at).filter(|next| *next <= now)
            && due.len() < capacity.min(BATCH)
        {
            due.push(next);
            at = next;
        }
        if !due.is_empty() {
            self.record(context, &due, at).await?;
        }
        if capacity == 0 {
            return Ok(PollResult::after(context.options.poll_interval));
        }
        let next = self.schedule.next_after(at);
        let pause = next.map_or(Duration::MAX, |next| (next - now).to_std().unwrap_or_default());
        Ok(PollResult::after(pause))
    }
}
