//! Delivery of events: in order, one at a time, with retries.
//!
//! The start and the end of an attempt are each one batch with the record of its job, so that
//! delivery and job agree. An attempt that the process did not survive does not count, and neither
//! does one that was throttled.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use headwater_jobs::{Error as JobsError, NewJob, StopReason};
use headwater_model::{
    ErrorCode, Event, Fault, JobKind, MAIN_BRANCH, Problem, Target, Timestamp, Trigger,
    TriggerEventStatus,
};
use serde_json::Value;

use crate::delivery_log::Delivery;
use crate::worker::Worker;
use crate::{Error, Result, event_part, report};

/// First and longest pause after a throttled attempt.
const THROTTLE_PAUSE: Duration = Duration::from_secs(1);
const THROTTLE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Deliveries of a trigger after which old ones are trimmed.
const TRIM_EVERY: u64 = 1_000;

/// The result of [`Worker::deliver_next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// An attempt was made.
    Delivered,
    /// The next event is due after this time.
    NotDue(Duration),
    /// There is no event.
    Idle,
}

impl Worker {
    /// Delivers the next event if it is due.
    pub(crate) async fn deliver_next(&self) -> Result<Step> {
        let queue = &self.context.queue;
        let mut throttle = queue.delivering.lock().await;
        if self.stop().is_cancelled() {
            return Ok(Step::Idle);
        }
        let Some(delivery) = queue.next() else { return Ok(Step::Idle) };
        if let Ok(pause) = (delivery.due - self.context.now()).to_std()
            && !pause.is_zero()
        {
            return Ok(Step::NotDue(pause));
        }
        match self.attempt(delivery, throttle.0).await {
            Ok(outcome) => {
                throttle.0 = if outcome == Outcome::Throttled { throttle.0 + 1 } else { 0 };
                Ok(Step::Delivered)
            }
            Err(Error::Jobs(JobsError::Stopping | JobsError::TooBusy { .. })) => {
                Ok(Step::NotDue(THROTTLE_PAUSE))
            }
            Err(error) => Err(error),
        }
    }

    async fn attempt(&self, delivery: Delivery, throttled: u32) -> Result<Outcome> {
        let (options, log) = (&self.context.options, &self.context.log);
        let id = options.jobs.new_id();
        let event = match log.event(&delivery.event).await {
            Err(error @ (Error::EventNotFound { .. } | Error::Corrupt { .. })) => {
                return self.give_up(delivery, error.to_problem()).await;
            }
            event => event?,
        };
        let running = Delivery { status: TriggerEventStatus::Running, job: Some(id), ..delivery };
        let new = self.new_job(&event);
        let started = options.jobs.begin(id, &new, vec![running.open_entry()?]).await;
        let (context, guard) = match started {
            Err(JobsError::Stopped { .. }) => return self.give_up(running, was_stopped()).await,
            started => started?,
        };
        self.context.queue.update(running.clone());
        let (targets, trigger) = (self.targets.clone(), self.trigger().clone());
        let work = {
            let context = context.clone();
            tokio::spawn(async move { targets.execute(&trigger, &event, context).await })
        };
        let result = context.supervise(work).await;
        let outcome = {
            let result = result.as_ref().map(|_| ()).map_err(Clone::clone);
            let is_complete = |part: &str| is_complete(self.trigger(), &running.event, part);
            judge(result, is_complete, context.stop_reason())
        };
        let policy = RetryPolicy {
            retries: self.trigger().retries,
            pause: options.retry_pause,
            pause_max: options.retry_pause_max,
            now: self.context.now(),
        };
        let ended = policy.apply(running, &outcome, throttled);
        let queue = &self.context.queue;
        let entries = ended.entries(queue.done() + 1)?;
        guard.finish_with(job_result(result, &outcome), entries).await;
        queue.update(ended);
        if queue.done() % TRIM_EVERY == TRIM_EVERY - 1 {
            log.trim(options.done_kept).await?;
        }
        Ok(outcome)
    }

    /// Ends the delivery as failed before its job began.
    async fn give_up(&self, delivery: Delivery, problem: Problem) -> Result<Outcome> {
        let error = Some(problem.clone());
        let failed = Delivery { status: TriggerEventStatus::Failed, error, ..delivery };
        self.context.log.store_open(std::slice::from_ref(&failed)).await?;
        self.context.queue.update(failed);
        Ok(Outcome::Stopped(problem))
    }

    fn new_job(&self, event: &Event) -> NewJob {
        let trigger = self.trigger();
        let branch = || trigger.branch.clone().unwrap_or_else(|| MAIN_BRANCH.to_owned());
        let (kind, reference) = match trigger.targets().as_slice() {
            [Target::Function(_)] => (JobKind::Function, None),
            _ => (JobKind::Trigger, Some(branch())),
        };
        NewJob {
            reference,
            event: Some(event.id.clone()),
            queue: self.targets.queue(trigger),
            ..NewJob::new(
                kind,
                format!("{}: {}", trigger.name, report::summary(&event.data)),
                format!("trigger {}", trigger.name),
            )
        }
    }
}

/// Returns the job's result: an event that was delivered before is a success.
fn job_result(result: Result<Value, Problem>, outcome: &Outcome) -> Result<Value, Problem> {
    match outcome {
        Outcome::Done => Ok(result.unwrap_or(Value::Null)),
        _ => result,
    }
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Done,
    /// The server stops; the attempt does not count.
    Interrupted,
    /// A component was too busy; the attempt does not count.
    Throttled,
    /// A client stopped the job; there is no retry.
    Stopped(Problem),
    Failed(Problem),
}

fn judge(
    result: Result<(), Problem>,
    is_complete: impl Fn(&str) -> bool,
    stop: Option<StopReason>,
) -> Outcome {
    let problem = match result {
        Ok(()) => return Outcome::Done,
        Err(problem) if committed(&problem).is_some_and(is_complete) => return Outcome::Done,
        Err(problem) => problem,
    };
    match (stop, problem.code) {
        (Some(StopReason::Shutdown), _) => Outcome::Interrupted,
        (Some(StopReason::Request), _) => Outcome::Stopped(was_stopped()),
        (None, ErrorCode::TooBusy | ErrorCode::Unavailable | ErrorCode::Interrupted) => {
            Outcome::Throttled
        }
        (None, _) => Outcome::Failed(problem),
    }
}

fn was_stopped() -> Problem {
    Problem::new(ErrorCode::Cancelled, "the job was stopped")
        .with_hint("Deliver the event again with `headwater trigger replay`.")
}

/// Returns the part of an event that was committed before.
fn committed(problem: &Problem) -> Option<&str> {
    let id = problem.context.get("event").and_then(Value::as_str);
    id.filter(|_| problem.code == ErrorCode::AlreadyExists)
}

/// Returns true if a commit of this part completes the delivery of an event.
fn is_complete(trigger: &Trigger, event: &str, committed: &str) -> bool {
    match trigger.targets().as_slice() {
        [Target::Import(_)] => committed == event || committed == event_part(event, "import"),
        [Target::Run] => committed == event || committed == event_part(event, "run"),
        [.., Target::Run] => committed == event_part(event, "run"),
        _ => false,
    }
}

/// The conditions and pauses of another attempt after a failure.
struct RetryPolicy {
    retries: u32,
    pause: Duration,
    pause_max: Duration,
    now: Timestamp,
}

impl RetryPolicy {
    fn apply(&self, delivery: Delivery, outcome: &Outcome, throttled: u32) -> Delivery {
        let attempts = delivery.attempts + 1;
        let ended = |status, error| Delivery { status, attempts, error, ..delivery.clone() };
        match outcome {
            Outcome::Done => ended(TriggerEventStatus::Done, None),
            Outcome::Stopped(problem) => ended(TriggerEventStatus::Failed, Some(problem.clone())),
            Outcome::Failed(problem) if attempts > self.retries => {
                ended(TriggerEventStatus::Failed, Some(problem.clone()))
            }
            Outcome::Failed(problem) => Delivery {
                due: self.now + pause(&delivery, self.pause, self.pause_max, attempts),
                ..ended(TriggerEventStatus::Pending, Some(problem.clone()))
            },
            Outcome::Interrupted => {
                Delivery { status: TriggerEventStatus::Pending, due: self.now, ..delivery }
            }
            Outcome::Throttled => {
                let pause = pause(&delivery, THROTTLE_PAUSE, THROTTLE_PAUSE_MAX, throttled + 1);
                let due = self.now + pause;
                Delivery { status: TriggerEventStatus::Pending, due, ..delivery }
            }
        }
    }
}

/// Returns the pause before an attempt. It doubles with each attempt, with a jitter of a quarter,
/// so that events that failed together are not retried together.
fn pause(delivery: &Delivery, first: Duration, longest: Duration, attempts: u32) -> Duration {
    let doubled = first.saturating_mul(1_u32.checked_shl(attempts - 1).unwrap_or(u32::MAX));
    let mut hasher = DefaultHasher::new();
    (&delivery.event, attempts).hash(&mut hasher);
    let share = (hasher.finish() % 1_000) as f64 / 1_000.0;
    doubled.min(longest).mul_f64(0.75 + share / 4.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn delivery() -> Delivery {
        let new = Delivery::new("e".into(), "t", Timestamp::UNIX_EPOCH);
        Delivery { status: TriggerEventStatus::Running, ..new }
    }

    fn policy(retries: u32) -> RetryPolicy {
        let (pause, pause_max) = (Duration::from_secs(1), Duration::from_secs(10));
        RetryPolicy { retries, pause, pause_max, now: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_then_the_event_is_kept_as_failed() {
        let mut delivery = delivery();
        let failed = Outcome::Failed(Problem::new(ErrorCode::BadRow, "no"));
        for (attempts, seconds) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10)] {
            delivery = policy(5).apply(delivery, &failed, 0);
            assert_eq!(
                (delivery.status, delivery.attempts),
                (TriggerEventStatus::Pending, attempts)
            );
            let pause = (delivery.due - Timestamp::UNIX_EPOCH).to_std().expect("a pause");
            let longest = Duration::from_secs(seconds);
            assert!(pause <= longest && pause >= longest.mul_f64(0.75), "{pause:?}");
        }
        delivery = policy(5).apply(delivery, &failed, 0);
        assert_eq!((delivery.status, delivery.attempts), (TriggerEventStatus::Failed, 6));
        assert_eq!(delivery.error.map(|error| error.code), Some(ErrorCode::BadRow));
    }

    #[test]
    fn only_real_tries_count() {
        let check = |code, stop, expected: (TriggerEventStatus, u32)| {
            let outcome = judge(Err(Problem::new(code, "no")), |_| false, stop);
            let delivery = policy(0).apply(delivery(), &outcome, 40);
            assert_eq!((delivery.status, delivery.attempts), expected);
            assert!((delivery.due - Timestamp::UNIX_EPOCH).num_seconds() <= 30);
        };
        check(ErrorCode::TooBusy, None, (TriggerEventStatus::Pending, 0));
        check(ErrorCode::Unavailable, None, (TriggerEventStatus::Pending, 0));
        check(ErrorCode::Storage, Some(StopReason::Shutdown), (TriggerEventStatus::Pending, 0));
        check(ErrorCode::Cancelled, Some(StopReason::Request), (TriggerEventStatus::Failed, 1));
        check(ErrorCode::Storage, None, (TriggerEventStatus::Failed, 1));
    }

    #[test]
    fn an_event_that_was_committed_before_is_done_once_its_last_part_was() {
        let check = |definition: &serde_json::Value, committed: &str, expected: bool| {
            let trigger: Trigger = serde_json::from_value(definition.clone()).expect("a trigger");
            let mut problem = Problem::new(ErrorCode::AlreadyExists, "committed");
            problem.context.insert("event".into(), committed.into());
            let outcome = judge(Err(problem), |id| is_complete(&trigger, "e", id), None);
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
