//! Acting on events: in order, one at a time, again after a failure.
//!
//! Beginning and ending are each one batch with the job's own record, so that an event and its job
//! never tell different stories. A try that the process did not live to see the end of does not
//! count, and neither does one that found something too busy.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use headwater_model::{
    ErrorCode, JobKind, MAIN_BRANCH, Problem, Timestamp, Trigger, TriggerEvent, TriggerEventStatus,
};
use headwater_store::Append;
use serde_json::Value;

use super::event_part;
use super::ledger::{done_entries, open_entry};
use super::watch::Watch;
use crate::drive::supervise;
use crate::live::Stop;
use crate::{Error, NewJob, Result};

/// The first and the longest pause after something was too busy.
const THROTTLE_PAUSE: Duration = Duration::from_secs(1);
const THROTTLE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// After how many events of a trigger old ones are trimmed.
const TRIM_EVERY: u64 = 1_000;

/// What [`Watch::act`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acted {
    /// An event was acted on, well or not.
    Yes,
    /// The next event is due after this time.
    NotYet(Duration),
    /// There is no event.
    Nothing,
}

impl Watch {
    /// Acts on the next event, if it is due.
    pub(crate) async fn act(&self) -> Result<Acted> {
        let mut throttle = self.book.acting.lock().await;
        if self.stop.is_cancelled() {
            return Ok(Acted::Nothing);
        }
        let Some(event) = self.book.next() else { return Ok(Acted::Nothing) };
        let now = self.context.options.clock.now();
        if let Ok(wait) = (event.due - now).to_std()
            && !wait.is_zero()
        {
            return Ok(Acted::NotYet(wait));
        }
        match self.act_on(event, throttle.0).await {
            Ok(outcome) => {
                throttle.0 = if outcome == Outcome::Throttled { throttle.0 + 1 } else { 0 };
                Ok(Acted::Yes)
            }
            Err(Error::Stopping | Error::TooBusy { .. }) => Ok(Acted::NotYet(THROTTLE_PAUSE)),
            Err(error) => Err(error),
        }
    }

    async fn act_on(&self, event: TriggerEvent, throttled: u32) -> Result<Outcome> {
        let options = &self.context.options;
        let ledger = &self.context.ledger;
        let id = ledger.shared.ids.next();
        let files = ledger.files(&event.id).await?;
        let running = TriggerEvent { status: TriggerEventStatus::Running, job: Some(id), ..event };
        let new = self.new_job(&running, files.len());
        let begun = options.jobs.begin(id, &new, vec![open_entry(&running)?]).await;
        let (context, guard) = match begun {
            Err(Error::Stopped { .. }) => return self.give_up(running).await,
            begun => begun?,
        };
        self.book.update(running.clone());
        let (actions, trigger) = (self.context.actions.clone(), self.definition.trigger.clone());
        let whole = TriggerEvent { files, ..running.clone() };
        let cancel = context.cancelled();
        let work = {
            let context = context.clone();
            tokio::spawn(async move { actions.act(&trigger, &whole, context).await })
        };
        let result = supervise(work, &cancel, ledger.shared.options.stop_grace).await;
        let rules = Rules {
            retries: self.definition.trigger.retries,
            pause: options.retry_pause,
            pause_max: options.retry_pause_max,
            now: options.clock.now(),
        };
        let judged = result.as_ref().map(|_| ()).map_err(Clone::clone);
        let is_whole = |id: &str| is_whole(&self.definition.trigger, &running, id);
        let outcome = judge(judged, is_whole, context.stop_reason());
        let event = rules.apply(running, &outcome, throttled);
        let entries = self.entries(&event)?;
        guard.finish_with(job_result(result, &outcome), entries).await;
        self.book.update(event);
        if self.book.done() % TRIM_EVERY == TRIM_EVERY - 1 {
            ledger.trim(options.done_kept).await?;
        }
        Ok(outcome)
    }

    /// A person stopped the job before it began.
    async fn give_up(&self, event: TriggerEvent) -> Result<Outcome> {
        let outcome = Outcome::Stopped(was_stopped());
        let event = TriggerEvent {
            status: TriggerEventStatus::Failed,
            error: Some(was_stopped()),
            ..event
        };
        self.context.ledger.store_events(std::slice::from_ref(&event)).await?;
        self.book.update(event);
        Ok(outcome)
    }

    fn entries(&self, event: &TriggerEvent) -> Result<Vec<Append>> {
        if event.status == TriggerEventStatus::Done {
            done_entries(event, self.book.done() + 1)
        } else {
            Ok(vec![open_entry(event)?])
        }
    }

    fn new_job(&self, event: &TriggerEvent, files: usize) -> NewJob {
        let what = match event.scheduled {
            Some(strike) => strike.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
            None if !event.tables.is_empty() => tables(&event.tables),
            None if files == 1 => "1 file".to_owned(),
            None => format!("{files} files"),
        };
        let trigger = &self.definition.trigger;
        NewJob {
            reference: Some(trigger.branch.clone().unwrap_or_else(|| MAIN_BRANCH.to_owned())),
            event: Some(event.id.clone()),
            queue: self.context.actions.queue(trigger),
            ..NewJob::new(
                JobKind::Trigger,
                format!("{}: {what}", trigger.name),
                format!("trigger {}", trigger.name),
            )
        }
    }
}

/// The tables that changed, in few words.
fn tables(tables: &[String]) -> String {
    match tables {
        [table] => format!("{table} changed"),
        tables => format!("{} tables changed", tables.len()),
    }
}

/// An event that was committed before has been acted on, so its job did well.
fn job_result(result: Result<Value, Problem>, outcome: &Outcome) -> Result<Value, Problem> {
    match outcome {
        Outcome::Done => Ok(result.unwrap_or(Value::Null)),
        _ => result,
    }
}

/// How a try went.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Done,
    /// The server stops; the try does not count.
    Interrupted,
    /// Something was too busy; the try does not count.
    Throttled,
    /// A person stopped the job; it is not tried again.
    Stopped(Problem),
    Failed(Problem),
}

fn judge(
    result: Result<(), Problem>,
    is_whole: impl Fn(&str) -> bool,
    stop: Option<Stop>,
) -> Outcome {
    let problem = match result {
        Ok(()) => return Outcome::Done,
        Err(problem) if committed(&problem).is_some_and(is_whole) => return Outcome::Done,
        Err(problem) => problem,
    };
    match (stop, problem.code) {
        (Some(Stop::Shutdown), _) => Outcome::Interrupted,
        (Some(Stop::Person), _) => Outcome::Stopped(was_stopped()),
        (None, ErrorCode::TooBusy | ErrorCode::Unavailable | ErrorCode::Interrupted) => {
            Outcome::Throttled
        }
        (None, _) => Outcome::Failed(problem),
    }
}

fn was_stopped() -> Problem {
    Problem::new(ErrorCode::Cancelled, "the job was stopped")
        .with_hint("Act on the event again with `headwater trigger replay`.")
}

/// What a problem says was committed before.
fn committed(problem: &Problem) -> Option<&str> {
    let id = problem.context.get("event").and_then(Value::as_str);
    id.filter(|_| problem.code == ErrorCode::AlreadyExists)
}

/// Whether nothing is left to do for an event once this was committed.
fn is_whole(trigger: &Trigger, event: &TriggerEvent, committed: &str) -> bool {
    let last = event_part(&event.id, if trigger.run { "run" } else { "import" });
    let several = trigger.run && trigger.import.is_some();
    committed == last || (!several && committed == event.id)
}

/// When a failed try is followed by another.
struct Rules {
    retries: u32,
    pause: Duration,
    pause_max: Duration,
    now: Timestamp,
}

impl Rules {
    fn apply(&self, event: TriggerEvent, outcome: &Outcome, throttled: u32) -> TriggerEvent {
        let attempts = event.attempts + 1;
        let ended = |status, error| TriggerEvent { status, attempts, error, ..event.clone() };
        match outcome {
            Outcome::Done => ended(TriggerEventStatus::Done, None),
            Outcome::Stopped(problem) => ended(TriggerEventStatus::Failed, Some(problem.clone())),
            Outcome::Failed(problem) if attempts > self.retries => {
                ended(TriggerEventStatus::Failed, Some(problem.clone()))
            }
            Outcome::Failed(problem) => TriggerEvent {
                due: self.now + pause(&event, self.pause, self.pause_max, attempts),
                ..ended(TriggerEventStatus::Pending, Some(problem.clone()))
            },
            Outcome::Interrupted => {
                TriggerEvent { status: TriggerEventStatus::Pending, due: self.now, ..event }
            }
            Outcome::Throttled => {
                let pause = pause(&event, THROTTLE_PAUSE, THROTTLE_PAUSE_MAX, throttled + 1);
                let due = self.now + pause;
                TriggerEvent { status: TriggerEventStatus::Pending, due, ..event }
            }
        }
    }
}

/// Doubles with every try, and differs by up to a quarter from event to event, so that what failed
/// together is not tried again together.
fn pause(event: &TriggerEvent, first: Duration, longest: Duration, tries: u32) -> Duration {
    let doubled = first.saturating_mul(1_u32.checked_shl(tries - 1).unwrap_or(u32::MAX));
    let mut hasher = DefaultHasher::new();
    (&event.id, tries).hash(&mut hasher);
    let share = (hasher.finish() % 1_000) as f64 / 1_000.0;
    doubled.min(longest).mul_f64(0.75 + share / 4.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> TriggerEvent {
        TriggerEvent {
            id: "e".into(),
            trigger: "t".into(),
            status: TriggerEventStatus::Running,
            created: Timestamp::UNIX_EPOCH,
            due: Timestamp::UNIX_EPOCH,
            files: Vec::new(),
            scheduled: None,
            tables: Vec::new(),
            commit: None,
            led_by: Vec::new(),
            attempts: 0,
            job: None,
            error: None,
        }
    }

    fn rules(retries: u32) -> Rules {
        let (pause, pause_max) = (Duration::from_secs(1), Duration::from_secs(10));
        Rules { retries, pause, pause_max, now: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_then_the_event_is_kept_as_failed() {
        let mut event = event();
        let failed = Outcome::Failed(Problem::new(ErrorCode::BadRow, "no"));
        for (attempts, seconds) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10)] {
            event = rules(5).apply(event, &failed, 0);
            assert_eq!((event.status, event.attempts), (TriggerEventStatus::Pending, attempts));
            let pause = (event.due - Timestamp::UNIX_EPOCH).to_std().expect("a pause");
            let longest = Duration::from_secs(seconds);
            assert!(pause <= longest && pause >= longest.mul_f64(0.75), "{pause:?}");
        }
        event = rules(5).apply(event, &failed, 0);
        assert_eq!((event.status, event.attempts), (TriggerEventStatus::Failed, 6));
        assert_eq!(event.error.map(|error| error.code), Some(ErrorCode::BadRow));
    }

    #[test]
    fn only_real_tries_count() {
        let check = |code, stop, expected: (TriggerEventStatus, u32)| {
            let outcome = judge(Err(Problem::new(code, "no")), |_| false, stop);
            let event = rules(0).apply(event(), &outcome, 40);
            assert_eq!((event.status, event.attempts), expected);
            assert!((event.due - Timestamp::UNIX_EPOCH).num_seconds() <= 30);
        };
        check(ErrorCode::TooBusy, None, (TriggerEventStatus::Pending, 0));
        check(ErrorCode::Unavailable, None, (TriggerEventStatus::Pending, 0));
        check(ErrorCode::Storage, Some(Stop::Shutdown), (TriggerEventStatus::Pending, 0));
        check(ErrorCode::Cancelled, Some(Stop::Person), (TriggerEventStatus::Failed, 1));
        check(ErrorCode::Storage, None, (TriggerEventStatus::Failed, 1));
    }

    #[test]
    fn an_event_that_was_committed_before_is_done_once_its_last_part_was() {
        let check = |definition: &serde_json::Value, committed: &str, expected: bool| {
            let trigger: Trigger = serde_json::from_value(definition.clone()).expect("a trigger");
            let mut problem = Problem::new(ErrorCode::AlreadyExists, "committed");
            problem.context.insert("event".into(), committed.into());
            let outcome = judge(Err(problem), |id| is_whole(&trigger, &event(), id), None);
            assert_eq!(outcome == Outcome::Done, expected, "{committed}");
        };
        let import = json!({"name": "t", "import": {"table": "t"}});
        check(&import, "e", true);
        check(&import, "e/import", true);
        check(&import, "other", false);
        let both = json!({"name": "t", "import": {"table": "t"}, "run": true});
        check(&both, "e/import", false);
        check(&both, "e", false);
        check(&both, "e/run", true);
    }
}
