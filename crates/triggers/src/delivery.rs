//! Delivery of events, with retries.
//!
//! One batch stores the start of an attempt and the job's record, and one batch the end of both, so
//! that delivery and job are consistent. An attempt does not count if it was throttled, or
//! interrupted by the end of the process. Each event is attempted at least once. An event is not
//! retried after its maximum age.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use headwater_jobs::{Error as JobsError, JobContext, NewJob, StopReason};
use headwater_model::{
    ErrorCode, Event, EventData, Fault, JobKind, MAIN_BRANCH, Problem, Target, Timestamp, Trigger,
    TriggerEventStatus,
};
use serde_json::Value;

use crate::delivery_log::Delivery;
use crate::destination::{Destination, EndedCall};
use crate::event_queue::TakenDelivery;
use crate::target::{CallPolicy, is_retryable};
use crate::worker::Worker;
use crate::{Error, Result, event_logging, event_part};

/// First and maximum pause after a throttled attempt.
const THROTTLE_PAUSE: Duration = Duration::from_secs(1);
const THROTTLE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Number of deliveries of a trigger after which its old deliveries are removed.
const TRIM_EVERY: u64 = 1_000;

/// Pauses of a delivery whose user has reached the limit of concurrent jobs, or a daily limit. The
/// pause for a daily limit is much shorter than a day, because the limit may be raised.
const JOBS_PAUSE: Duration = Duration::from_secs(1);
const DAY_PAUSE: Duration = Duration::from_secs(60);

/// Pause of all deliveries to a function that has no budget left. The pause is much shorter than a
/// day, because a running call may release its reservation, or a new version may raise the budget.
const BUDGET_PAUSE: Duration = Duration::from_secs(10);

impl Worker {
    /// Makes an attempt to deliver an event.
    pub(crate) async fn deliver(&self, taken: TakenDelivery) -> Result<()> {
        let event = taken.delivery.event.clone();
        let outcome = match self.attempt(taken.delivery.clone()).await {
            // Postpone only this delivery, because deliveries of other users can continue.
            Err(Error::Jobs(JobsError::JobQuota { .. })) => {
                self.context.queue.block(self.postponed(taken.delivery.clone(), JOBS_PAUSE));
                Ok(())
            }
            Err(Error::Jobs(JobsError::DayQuota { .. })) => {
                self.context.queue.block(self.postponed(taken.delivery.clone(), DAY_PAUSE));
                Ok(())
            }
            // All events of the queue call the same function, so all of them wait.
            Err(Error::Jobs(JobsError::FunctionBudget { day_ends, .. })) => {
                let now = self.context.now();
                self.context.queue.throttle(day_ends.min(now + BUDGET_PAUSE), now);
                Ok(())
            }
            Err(Error::Jobs(JobsError::Stopping | JobsError::TooBusy { .. })) => {
                let now = self.context.now();
                self.context.queue.throttle(now + THROTTLE_PAUSE, now);
                Ok(())
            }
            outcome => outcome,
        };
        drop(taken);
        self.delete_abandoned(&event).await?;
        outcome
    }

    async fn attempt(&self, delivery: Delivery) -> Result<()> {
        let (options, log) = (&self.context.options, &self.context.log);
        let Some((event, calls)) = self.prepare(&delivery).await? else { return Ok(()) };
        let id = options.jobs.new_id();
        let running = Delivery { status: TriggerEventStatus::Running, job: Some(id), ..delivery };
        let new = self.new_job(&event, &running);
        let started = options.jobs.begin(id, &new, vec![running.open_entry()?]).await;
        let (context, guard) = match started {
            Err(JobsError::Stopped { .. }) => return self.give_up(running, was_stopped()).await,
            started => started?,
        };
        self.context.queue.update(running.clone());
        let (targets, trigger) = (self.targets.clone(), self.trigger().clone());
        let work = {
            let (context, event) = (context.clone(), event.clone());
            let actor = running.actor.clone();
            let work =
                async move { targets.execute(&trigger, &event, actor.as_ref(), context).await };
            tokio::spawn(work)
        };
        let result = context.supervise(work).await;
        let outcome = {
            let result = result.as_ref().map(|_| ()).map_err(Clone::clone);
            let is_complete = |part: &str| is_complete(self.trigger(), &running.event, part);
            judge(result, is_complete, context.stop_reason())
        };
        let policy = RetryPolicy {
            retries: calls.retries.unwrap_or(self.trigger().retries),
            pause: options.retry_pause,
            pause_max: options.retry_pause_max,
            age_max: calls.max_age.unwrap_or(self.trigger().max_age),
            now: self.context.now(),
        };
        let queue = &self.context.queue;
        let ended = policy.apply(running, &outcome, queue.throttled());
        queue.counts.attempted(ended.status, !matches!(outcome, Outcome::Failed(_)));
        if outcome == Outcome::Throttled {
            queue.throttle(ended.due, policy.now);
        } else {
            queue.end_throttling();
        }
        let mut entries = ended.entries(queue.done() + 1)?;
        let trigger = self.trigger();
        let call = EndedCall { event: &event, trigger, delivery: &ended, result: &result };
        let is_final = matches!(outcome, Outcome::Final(_));
        let forwarded = self.forwarded(&call, &calls, &context).filter(|_| !is_final);
        if let Some((event, delivery)) = &forwarded {
            entries.extend(delivery.new_entries(event)?);
        }
        guard.finish_with(job_result(result, &outcome), entries).await;
        self.end_span(&ended);
        queue.update(ended);
        if let Some((_, delivery)) = forwarded {
            self.calls.push_call(delivery).await;
        }
        if queue.done() % TRIM_EVERY == TRIM_EVERY - 1 {
            log.trim(options.done_kept).await?;
        }
        Ok(())
    }

    /// Reads the event of a delivery and the policy of its call. Ends the delivery as failed if the
    /// event cannot be read, or if the identity that caused it no longer has the right to it.
    async fn prepare(&self, delivery: &Delivery) -> Result<Option<(Event, CallPolicy)>> {
        let Ok(calls) = self.call_policy().await else {
            self.context.queue.update(self.postponed(delivery.clone(), JOBS_PAUSE));
            return Ok(None);
        };
        let event = match self.context.log.event(&delivery.event).await {
            Err(error @ (Error::EventNotFound { .. } | Error::Corrupt { .. })) => {
                self.give_up(delivery.clone(), error.to_problem()).await?;
                return Ok(None);
            }
            event => event?,
        };
        let authorized = self.targets.authorize(self.trigger(), &event, delivery.actor.as_ref());
        match authorized.await {
            Ok(()) => Ok(Some((event, calls))),
            Err(problem) => {
                self.give_up(delivery.clone(), problem).await?;
                Ok(None)
            }
        }
    }

    /// Returns the event for the destination of an ended call, if the call has a destination.
    fn forwarded(
        &self,
        ended: &EndedCall<'_>,
        policy: &CallPolicy,
        context: &JobContext,
    ) -> Option<(Event, Delivery)> {
        match ended.destination(policy) {
            Destination::None => None,
            Destination::Loop(target) => {
                context.log_system(format!(
                    "destination `{target}` was skipped: the call would create an endless loop"
                ));
                None
            }
            Destination::Target(destination) => {
                let id = self.context.options.jobs.new_id().to_string();
                Some(ended.forward(destination, id, self.context.now()))
            }
        }
    }

    /// Returns the policy of the calls that the worker delivers. For a trigger, the policy contains
    /// only the destinations of the function; it is empty if the trigger has another target.
    async fn call_policy(&self) -> Result<CallPolicy, Problem> {
        let trigger = self.trigger();
        let targets = trigger.targets();
        let [Target::Function(function)] = targets.as_slice() else {
            return Ok(CallPolicy::default());
        };
        let policy = self.targets.call_policy(function).await.inspect_err(|problem| {
            tracing::warn!(function, error = problem.message, "cannot read the policy of calls");
        })?;
        if self.called_function().is_some() {
            return Ok(policy);
        }
        Ok(CallPolicy { retries: None, max_age: None, ..policy })
    }

    /// Returns the delivery with its next attempt postponed by a pause.
    fn postponed(&self, delivery: Delivery, pause: Duration) -> Delivery {
        Delivery { due: self.context.now() + pause, ..delivery }
    }

    /// Ends a delivery as failed before its job has begun.
    async fn give_up(&self, delivery: Delivery, problem: Problem) -> Result<()> {
        let error = Some(problem);
        let failed = Delivery { status: TriggerEventStatus::Failed, error, ..delivery };
        self.context.log.store_open(std::slice::from_ref(&failed)).await?;
        self.context.queue.counts.attempted(failed.status, false);
        self.end_span(&failed);
        self.context.queue.update(failed);
        Ok(())
    }

    /// Exports the span of an event, unless a further attempt follows.
    fn end_span(&self, ended: &Delivery) {
        if !matches!(ended.status, TriggerEventStatus::Done | TriggerEventStatus::Failed) {
            return;
        }
        let error = ended.error.as_ref().map(|problem| problem.code.as_str());
        let trigger = self.context.trigger.trim_start_matches('/');
        self.context.options.jobs.monitor().telemetry().end_event(&ended.event, trigger, error);
    }

    fn new_job(&self, event: &Event, delivery: &Delivery) -> NewJob {
        let trigger = self.trigger();
        let branch = || trigger.branch.clone().unwrap_or_else(|| MAIN_BRANCH.to_owned());
        let (kind, reference) = match trigger.targets().as_slice() {
            [Target::Function(_)] => (JobKind::Function, None),
            _ => (JobKind::Trigger, Some(branch())),
        };
        let author = delivery.author.clone();
        let author = author.unwrap_or_else(|| format!("trigger {}", trigger.name));
        let summary = match &event.data {
            EventData::FunctionInvoked { function, .. } => function.clone(),
            data => format!("{}: {}", trigger.name, event_logging::summary(data)),
        };
        NewJob {
            name: self.called_name(&event.data),
            trigger: self.called_function().is_none().then(|| trigger.name.clone()),
            reference,
            user: delivery.user.clone(),
            event: Some(event.id.clone()),
            queue: self.targets.queue(trigger),
            budget: trigger.function.as_deref().and_then(|name| self.targets.budget(name)),
            ..NewJob::new(kind, summary, author)
        }
    }
}

/// Returns the job's result. A job that failed because the event was already delivered counts as a
/// success.
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
    /// The server is shutting down; the attempt does not count.
    Interrupted,
    /// A component is too busy, or the disk is full; the attempt does not count.
    Throttled,
    /// The attempt is not retried: a client stopped the job, or a destination rejected the record.
    Final(Problem),
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
    match (stop, is_retryable(&problem), problem.code) {
        (Some(StopReason::Shutdown), ..) => Outcome::Interrupted,
        (Some(StopReason::Request), ..) => Outcome::Final(was_stopped()),
        (None, Some(false), _) => Outcome::Final(problem),
        (None, None, ErrorCode::TooBusy | ErrorCode::Unavailable | ErrorCode::Interrupted) => {
            Outcome::Throttled
        }
        (None, None, ErrorCode::DiskFull) if !is_limit(&problem) => Outcome::Throttled,
        (Some(StopReason::DayLimit) | None, ..) => Outcome::Failed(problem),
    }
}

/// Returns true if a statement reached its own limit on disk space, which another attempt would
/// also reach.
fn is_limit(problem: &Problem) -> bool {
    problem.context.contains_key("limit_bytes")
}

fn was_stopped() -> Problem {
    Problem::new(ErrorCode::Cancelled, "the job was stopped")
        .with_hint("Deliver the event again with `headwater event replay`.")
}

/// Returns the id of the event or part of an event that is already committed, from a problem that
/// reports this.
fn committed(problem: &Problem) -> Option<&str> {
    let id = problem.context.get("event").and_then(Value::as_str);
    id.filter(|_| problem.code == ErrorCode::AlreadyExists)
}

/// Returns true if the delivery of an event is complete after the commit `committed`.
fn is_complete(trigger: &Trigger, event: &str, committed: &str) -> bool {
    match trigger.targets().as_slice() {
        [Target::Import(_)] => committed == event || committed == event_part(event, "import"),
        [Target::Run] => committed == event || committed == event_part(event, "run"),
        [.., Target::Run] => committed == event_part(event, "run"),
        _ => false,
    }
}

/// Determines whether a failed attempt is retried, and after which pause.
struct RetryPolicy {
    retries: u32,
    pause: Duration,
    pause_max: Duration,
    age_max: Duration,
    now: Timestamp,
}

impl RetryPolicy {
    fn is_expired(&self, delivery: &Delivery) -> bool {
        let since = delivery.replayed.unwrap_or(delivery.created);
        (self.now - since).to_std().is_ok_and(|age| age >= self.age_max)
    }

    fn apply(&self, delivery: Delivery, outcome: &Outcome, throttled: u32) -> Delivery {
        let attempts = delivery.attempts + 1;
        let ended = |status, error| Delivery { status, attempts, error, ..delivery.clone() };
        match outcome {
            Outcome::Done => ended(TriggerEventStatus::Done, None),
            Outcome::Final(problem) => ended(TriggerEventStatus::Failed, Some(problem.clone())),
            Outcome::Failed(problem) if attempts > self.retries => {
                ended(TriggerEventStatus::Failed, Some(problem.clone()))
            }
            Outcome::Failed(problem) if self.is_expired(&delivery) => {
                let expired = expired(self.age_max, Some(problem));
                ended(TriggerEventStatus::Failed, Some(expired))
            }
            Outcome::Failed(problem) => Delivery {
                due: self.now + pause(&delivery, self.pause, self.pause_max, attempts),
                ..ended(TriggerEventStatus::Pending, Some(problem.clone()))
            },
            Outcome::Interrupted => {
                Delivery { status: TriggerEventStatus::Pending, due: self.now, ..delivery }
            }
            Outcome::Throttled if self.is_expired(&delivery) => Delivery {
                attempts: delivery.attempts,
                ..ended(TriggerEventStatus::Failed, Some(expired(self.age_max, None)))
            },
            Outcome::Throttled => {
                let pause = pause(&delivery, THROTTLE_PAUSE, THROTTLE_PAUSE_MAX, throttled + 1);
                let due = self.now + pause;
                Delivery { status: TriggerEventStatus::Pending, due, ..delivery }
            }
        }
    }
}

/// Returns the error of an event that has reached its maximum age; `last` is the error of its last
/// attempt.
fn expired(age_max: Duration, last: Option<&Problem>) -> Problem {
    let age = age_text(age_max);
    let message = match last {
        Some(last) => format!("the event reached its maximum age of {age}: {}", last.message),
        None => format!("the event reached its maximum age of {age} before an attempt succeeded"),
    };
    Problem::new(ErrorCode::EventExpired, message)
        .with_hint("Deliver the event again with `headwater event replay`.")
}

fn age_text(age: Duration) -> String {
    match age.as_secs() {
        seconds if seconds > 0 && seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        _ => format!("{}s", age.as_secs_f64()),
    }
}

/// Returns the pause before an attempt. It doubles with each attempt. A jitter of a quarter keeps
/// events that failed together from being retried together.
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
        let age_max = Duration::from_hours(1);
        RetryPolicy { retries, pause, pause_max, age_max, now: Timestamp::UNIX_EPOCH }
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
    fn an_event_is_attempted_once_and_not_after_its_maximum_age() {
        let failed = Outcome::Failed(Problem::new(ErrorCode::BadRow, "no"));
        let late = |created: Delivery, outcome: &Outcome| {
            let policy =
                RetryPolicy { now: Timestamp::UNIX_EPOCH + Duration::from_hours(2), ..policy(9) };
            let ended = policy.apply(created, outcome, 0);
            (ended.status, ended.attempts, ended.error.map(|error| error.code))
        };
        let expired = Some(ErrorCode::EventExpired);
        assert_eq!(late(delivery(), &failed), (TriggerEventStatus::Failed, 1, expired));
        assert_eq!(late(delivery(), &Outcome::Throttled), (TriggerEventStatus::Failed, 0, expired));
        assert_eq!(late(delivery(), &Outcome::Done), (TriggerEventStatus::Done, 1, None));
        let replayed = Some(Timestamp::UNIX_EPOCH + Duration::from_mins(90));
        let replayed = Delivery { replayed, ..delivery() };
        assert_eq!(late(replayed, &failed).0, TriggerEventStatus::Pending);
    }

    #[test]
    fn only_counted_attempts_use_up_retries() {
        let check = |code, stop, expected: (TriggerEventStatus, u32)| {
            let outcome = judge(Err(Problem::new(code, "no")), |_| false, stop);
            let delivery = policy(0).apply(delivery(), &outcome, 40);
            assert_eq!((delivery.status, delivery.attempts), expected);
            assert!((delivery.due - Timestamp::UNIX_EPOCH).num_seconds() <= 30);
        };
        check(ErrorCode::TooBusy, None, (TriggerEventStatus::Pending, 0));
        check(ErrorCode::Unavailable, None, (TriggerEventStatus::Pending, 0));
        check(ErrorCode::DiskFull, None, (TriggerEventStatus::Pending, 0));
        check(ErrorCode::Storage, Some(StopReason::Shutdown), (TriggerEventStatus::Pending, 0));
        check(ErrorCode::Cancelled, Some(StopReason::Request), (TriggerEventStatus::Failed, 1));
        check(ErrorCode::Storage, None, (TriggerEventStatus::Failed, 1));
    }

    #[test]
    fn a_statement_that_reached_its_spill_limit_uses_up_a_retry() {
        let mut problem = Problem::new(ErrorCode::DiskFull, "no");
        problem.context.insert("limit_bytes".into(), 7.into());
        let outcome = judge(Err(problem.clone()), |_| false, None);
        assert_eq!(outcome, Outcome::Failed(problem));
    }

    #[test]
    fn an_event_is_done_if_its_last_part_was_committed_before() {
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
