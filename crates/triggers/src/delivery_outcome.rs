//! The outcome of an attempt to deliver an event, and the resulting state of the delivery, with the
//! time of the next attempt, if any. This module does no I/O.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use headwater_jobs::StopReason;
use headwater_model::{ErrorCode, Problem, Timestamp, Trigger, TriggerEventStatus, TriggerTarget};
use serde_json::Value;

use crate::delivery_log::Delivery;
use crate::event_part;
use crate::target::is_retryable;

/// First and maximum pause after a throttled attempt.
pub(crate) const THROTTLE_PAUSE: Duration = Duration::from_secs(1);
const THROTTLE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Returns the job's result. If the event was already delivered, the job counts as a success.
pub(crate) fn job_result(
    result: Result<Value, Problem>,
    outcome: &DeliveryOutcome,
) -> Result<Value, Problem> {
    match outcome {
        DeliveryOutcome::Done => Ok(result.unwrap_or(Value::Null)),
        _ => result,
    }
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DeliveryOutcome {
    Done,
    /// The server is shutting down; the attempt does not count as one of the delivery's attempts.
    Interrupted,
    /// A component is too busy, or the disk is full; the attempt does not count, either.
    Throttled,
    /// The attempt is not retried: a client stopped the job, or a destination rejected the record.
    Final(Problem),
    Failed(Problem),
}

pub(crate) fn classify_outcome(
    result: Result<(), Problem>,
    is_complete: impl Fn(&str) -> bool,
    stop: Option<StopReason>,
) -> DeliveryOutcome {
    let problem = match result {
        Ok(()) => return DeliveryOutcome::Done,
        Err(problem) if committed(&problem).is_some_and(is_complete) => {
            return DeliveryOutcome::Done;
        }
        Err(problem) => problem,
    };
    match (stop, is_retryable(&problem), problem.code) {
        (Some(StopReason::Shutdown), ..) => DeliveryOutcome::Interrupted,
        (Some(StopReason::Request), ..) => DeliveryOutcome::Final(was_stopped()),
        (None, Some(false), _) => DeliveryOutcome::Final(problem),
        (None, None, ErrorCode::TooBusy | ErrorCode::Unavailable | ErrorCode::Interrupted) => {
            DeliveryOutcome::Throttled
        }
        (None, None, ErrorCode::DiskFull) if !is_limit(&problem) => DeliveryOutcome::Throttled,
        (Some(StopReason::DayLimit) | None, ..) => DeliveryOutcome::Failed(problem),
    }
}

/// Returns true if a statement exceeded the limit on its own disk space, not the disk's free space.
/// Another attempt would exceed this limit, too.
fn is_limit(problem: &Problem) -> bool {
    problem.context.contains_key("limit_bytes")
}

pub(crate) fn was_stopped() -> Problem {
    Problem::new(ErrorCode::Cancelled, "the job of the event was stopped")
        .with_hint("Deliver the event again with `headwater event replay`.")
}

/// Returns the id of the event, or of a part of it, that an earlier attempt committed. `None` if
/// the problem does not report such a commit.
fn committed(problem: &Problem) -> Option<&str> {
    let id = problem.context.get("event").and_then(Value::as_str);
    id.filter(|_| problem.code == ErrorCode::AlreadyExists)
}

/// Returns true if nothing is left to deliver of `event`, because an earlier attempt committed the
/// id `committed`. This is the id of the event, or of the part for the trigger's last target.
pub(crate) fn is_complete(trigger: &Trigger, event: &str, committed: &str) -> bool {
    match trigger.targets().as_slice() {
        [TriggerTarget::Import(_)] => {
            committed == event || committed == event_part(event, "import")
        }
        [TriggerTarget::Run] => committed == event || committed == event_part(event, "run"),
        [.., TriggerTarget::Run] => committed == event_part(event, "run"),
        _ => false,
    }
}

/// The limits that determine if and when a failed attempt is retried.
pub(crate) struct RetryPolicy {
    pub retries: u32,
    pub pause: Duration,
    pub pause_max: Duration,
    pub age_max: Duration,
    pub now: Timestamp,
}

impl RetryPolicy {
    pub(crate) fn is_expired(&self, delivery: &Delivery) -> bool {
        let since = delivery.replayed.unwrap_or(delivery.created);
        (self.now - since).to_std().is_ok_and(|age| age >= self.age_max)
    }

    pub(crate) fn apply(
        &self,
        delivery: Delivery,
        outcome: &DeliveryOutcome,
        throttled: u32,
    ) -> Delivery {
        let attempts = delivery.attempts + 1;
        let ended = |status, error| Delivery { status, attempts, error, ..delivery.clone() };
        match outcome {
            DeliveryOutcome::Done => ended(TriggerEventStatus::Done, None),
            DeliveryOutcome::Final(problem) => {
                ended(TriggerEventStatus::Failed, Some(problem.clone()))
            }
            DeliveryOutcome::Failed(problem) if attempts > self.retries => {
                ended(TriggerEventStatus::Failed, Some(problem.clone()))
            }
            DeliveryOutcome::Failed(problem) if self.is_expired(&delivery) => {
                let expired = expired(self.age_max, Some(problem));
                ended(TriggerEventStatus::Failed, Some(expired))
            }
            DeliveryOutcome::Failed(problem) => Delivery {
                due: self.now + pause(&delivery, self.pause, self.pause_max, attempts),
                ..ended(TriggerEventStatus::Pending, Some(problem.clone()))
            },
            DeliveryOutcome::Interrupted => {
                Delivery { status: TriggerEventStatus::Pending, due: self.now, ..delivery }
            }
            DeliveryOutcome::Throttled if self.is_expired(&delivery) => Delivery {
                attempts: delivery.attempts,
                ..ended(TriggerEventStatus::Failed, Some(expired(self.age_max, None)))
            },
            DeliveryOutcome::Throttled => {
                let pause = pause(&delivery, THROTTLE_PAUSE, THROTTLE_PAUSE_MAX, throttled + 1);
                let due = self.now + pause;
                Delivery { status: TriggerEventStatus::Pending, due, ..delivery }
            }
        }
    }
}

/// Returns the error of an event that is too old; `last` is the error of its last attempt.
fn expired(age_max: Duration, last: Option<&Problem>) -> Problem {
    let age = age_text(age_max);
    let message = match last {
        Some(last) => format!("the event reached its maximum age of {age}: {}", last.message),
        None => format!("the event reached its maximum age of {age} before an attempt succeeded"),
    };
    let hint = "Deliver the event again with `headwater event replay`. To retry later events for \
                longer, raise `max_age`.";
    Problem::new(ErrorCode::EventExpired, message).with_hint(hint)
}

fn age_text(age: Duration) -> String {
    match age.as_secs() {
        seconds if seconds > 0 && seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        _ => format!("{}s", age.as_secs_f64()),
    }
}

/// Returns the pause after the attempt number `attempts`; it doubles with each attempt. A jitter of
/// a quarter of the pause spreads the retries of events that failed together.
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
        let failed = DeliveryOutcome::Failed(Problem::new(ErrorCode::BadRow, "no"));
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
        let failed = DeliveryOutcome::Failed(Problem::new(ErrorCode::BadRow, "no"));
        let late = |created: Delivery, outcome: &DeliveryOutcome| {
            let policy =
                RetryPolicy { now: Timestamp::UNIX_EPOCH + Duration::from_hours(2), ..policy(9) };
            let ended = policy.apply(created, outcome, 0);
            (ended.status, ended.attempts, ended.error.map(|error| error.code))
        };
        let expired = Some(ErrorCode::EventExpired);
        assert_eq!(late(delivery(), &failed), (TriggerEventStatus::Failed, 1, expired));
        assert_eq!(
            late(delivery(), &DeliveryOutcome::Throttled),
            (TriggerEventStatus::Failed, 0, expired)
        );
        assert_eq!(late(delivery(), &DeliveryOutcome::Done), (TriggerEventStatus::Done, 1, None));
        let replayed = Some(Timestamp::UNIX_EPOCH + Duration::from_mins(90));
        let replayed = Delivery { replayed, ..delivery() };
        assert_eq!(late(replayed, &failed).0, TriggerEventStatus::Pending);
    }

    #[test]
    fn only_counted_attempts_use_up_retries() {
        let check = |code, stop, expected: (TriggerEventStatus, u32)| {
            let outcome = classify_outcome(Err(Problem::new(code, "no")), |_| false, stop);
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
        let outcome = classify_outcome(Err(problem.clone()), |_| false, None);
        assert_eq!(outcome, DeliveryOutcome::Failed(problem));
    }

    #[test]
    fn an_event_is_done_if_its_last_part_was_committed_before() {
        let check = |definition: &serde_json::Value, committed: &str, expected: bool| {
            let trigger: Trigger = serde_json::from_value(definition.clone()).expect("a trigger");
            let mut problem = Problem::new(ErrorCode::AlreadyExists, "committed");
            problem.context.insert("event".into(), committed.into());
            let outcome = classify_outcome(Err(problem), |id| is_complete(&trigger, "e", id), None);
            assert_eq!(outcome == DeliveryOutcome::Done, expected, "{committed}");
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
