//! Division of events with several items. The items that a function reported as failed become a
//! separate event. An event whose call failed is divided into halves.
//!
//! One batch stores the end of the attempt and the parts, so each item is in exactly one event,
//! even after a crash. The id of a part consists of the id of the recorded event, the position of
//! the part's first item, and the number of divisions. Ids of parts therefore sort after the
//! divided event, and before all later events. A part has its own id, because the divided event may
//! have committed rows, and an id commits at most once. This module does no I/O.

use std::sync::Arc;

use headwater_event_values::{item_ids, part_of};
use headwater_model::{ErrorCode, Event, EventData, Problem, Trigger, TriggerEventStatus};
use serde_json::Value;

use crate::delivery_log::Delivery;
use crate::delivery_outcome::{DeliveryOutcome, RetryPolicy};
use crate::target::{CallPolicy, is_divisible};

/// The journal with the failed items of calls, which a call writes in the same batch as its
/// committed rows. The key is the id of the event, and the value a list of positions.
pub const BATCH_RESULTS: &str = "trigger_batch_results";

/// The field of a job's result that contains the positions of the event's failed items.
pub const FAILED_ITEMS: &str = "failed_items";

/// Maximum number of failed items that an error message names.
const NAMED_MAX: usize = 5;

/// An attempt that has ended.
pub(crate) struct EndedAttempt<'a> {
    pub trigger: &'a Trigger,
    pub event: Arc<Event>,
    /// The delivery during the attempt.
    pub delivery: Delivery,
    pub calls: CallPolicy,
    pub result: Result<Value, Problem>,
    pub outcome: DeliveryOutcome,
    pub policy: RetryPolicy,
}

impl EndedAttempt<'_> {
    /// Returns the parts into which the event is divided, with their deliveries; none if the event
    /// is not divided. After a success, the parts contain the failed items only. After a failure,
    /// they contain all items.
    pub(crate) fn divide(&self) -> Vec<(Event, Delivery)> {
        if !self.trigger.divides() {
            return Vec::new();
        }
        match &self.outcome {
            DeliveryOutcome::Done => self.failed_parts(),
            DeliveryOutcome::Failed(problem)
                if self.trigger.bisect
                    && is_divisible(problem)
                    && !self.policy.is_expired(&self.delivery) =>
            {
                self.halves(problem)
            }
            DeliveryOutcome::Failed(_)
            | DeliveryOutcome::Final(_)
            | DeliveryOutcome::Interrupted
            | DeliveryOutcome::Throttled => Vec::new(),
        }
    }

    /// Returns true if the parts contain all items and so replace the event. If every item failed,
    /// the event would otherwise stay as done, next to the part that retries the same items.
    pub(crate) fn is_replaced_by(&self, parts: &[(Event, Delivery)]) -> bool {
        let count = |event: &Event| item_ids(self.trigger, event).len();
        let divided: usize = parts.iter().map(|(part, _)| count(part)).sum();
        !parts.is_empty() && divided == count(&self.event)
    }

    /// Returns the parts with the items that the function reported as failed. If the order is
    /// preserved, the parts also contain the items after the first failed item.
    fn failed_parts(&self) -> Vec<(Event, Delivery)> {
        let ids = item_ids(self.trigger, &self.event);
        let mut failed = self.reported();
        failed.retain(|position| *position < ids.len());
        let Some(&first) = failed.first() else { return Vec::new() };
        let problem = reported_problem(&ids, &failed);
        let is_stream = matches!(self.event.data, EventData::KafkaReceived { .. });
        if !is_stream && self.delivery.key.is_none() {
            return vec![self.failed(&failed, problem)];
        }
        let rest: Vec<usize> = (first..ids.len()).collect();
        match rest.split_first() {
            // Put the failed item into a part of its own. In one part, the last failed retry of
            // this item would also end the items after it as failed.
            Some((_, after)) if self.trigger.bisect && !after.is_empty() => {
                vec![
                    self.failed(&rest[..1], problem.clone()),
                    self.part_without_attempt(after, &problem),
                ]
            }
            _ => vec![self.failed(&rest, problem)],
        }
    }

    /// Returns the positions of the items that the function reported as failed.
    fn reported(&self) -> Vec<usize> {
        let reported = self.result.as_ref().ok().and_then(|result| result.get(FAILED_ITEMS));
        let positions = reported.and_then(Value::as_array).into_iter().flatten();
        positions.filter_map(|one| usize::try_from(one.as_u64()?).ok()).collect()
    }

    /// Returns the halves of the event; none if it has only one item.
    fn halves(&self, problem: &Problem) -> Vec<(Event, Delivery)> {
        let positions: Vec<usize> = (0..item_ids(self.trigger, &self.event).len()).collect();
        if positions.len() < 2 {
            return Vec::new();
        }
        let (first, second) = positions.split_at(positions.len() / 2);
        vec![self.part_without_attempt(first, problem), self.part_without_attempt(second, problem)]
    }

    /// Returns a part with the items at these positions. The attempt counts as one of the part.
    fn failed(&self, positions: &[usize], problem: Problem) -> (Event, Delivery) {
        let (event, delivery) = self.part(positions);
        let delivery = self.policy.apply(delivery, &DeliveryOutcome::Failed(problem), 0);
        (event, delivery)
    }

    /// Returns a part with the items at these positions. The attempt does not count, as in AWS.
    fn part_without_attempt(&self, positions: &[usize], problem: &Problem) -> (Event, Delivery) {
        let (event, delivery) = self.part(positions);
        let (status, due) = (TriggerEventStatus::Pending, self.policy.now);
        let error = Some(problem.clone());
        (event, Delivery { status, due, error, ..delivery })
    }

    fn part(&self, positions: &[usize]) -> (Event, Delivery) {
        let first = positions.first().copied().unwrap_or_default();
        let id = part_id(&self.event.id, first);
        let event = part_of(&self.event, id.clone(), positions);
        (event, Delivery { event: id, ..self.delivery.clone() })
    }
}

fn reported_problem(ids: &[String], failed: &[usize]) -> Problem {
    let named: Vec<String> =
        failed.iter().take(NAMED_MAX).map(|position| format!("`{}`", ids[*position])).collect();
    let more = if failed.len() > NAMED_MAX { ", …" } else { "" };
    let message = format!(
        "the function reported {} of {} items as failed: {}{more}",
        failed.len(),
        ids.len(),
        named.join(", ")
    );
    Problem::new(ErrorCode::FunctionFailed, message)
        .with_hint("Read the log of the call with `headwater job logs JOB`.")
}

/// Returns the id of the part whose first item has this position in the divided event.
fn part_id(divided: &str, first: usize) -> String {
    let mut parts = divided.split('.');
    let recorded = parts.next().unwrap_or_default();
    let start = parts.next().and_then(|start| start.parse::<usize>().ok()).unwrap_or_default();
    let divisions = parts.next().and_then(|count| count.parse::<u64>().ok()).unwrap_or_default();
    format!("{recorded}.{:05}.{}", start + first, divisions + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use headwater_model::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::mark_divisible;

    const ID: &str = "0193d0f0-0000-7000-8000-000000000001";

    fn trigger(settings: &Value) -> Trigger {
        let mut definition = json!({"name": "t", "function": "f",
            "postgres": {"url": "postgres://h/d", "channel": "c"}});
        let fields = settings.as_object().expect("settings").clone();
        definition.as_object_mut().expect("a definition").extend(fields);
        serde_json::from_value(definition).expect("a trigger")
    }

    /// Returns the ended attempt of an event with the items `0` to `4`, which may be retried twice.
    fn ended(trigger: &Trigger, result: Result<Value, Problem>) -> EndedAttempt<'_> {
        let event = json!({"id": ID, "source": "postgres://h/d", "time": Timestamp::UNIX_EPOCH,
            "type": "headwater.postgres.notified",
            "data": {"channel": "c", "payloads": [0, 1, 2, 3, 4]}});
        let now = Timestamp::UNIX_EPOCH;
        let outcome = match &result {
            Ok(_) => DeliveryOutcome::Done,
            Err(problem) => DeliveryOutcome::Failed(problem.clone()),
        };
        let new = Delivery::new(ID.to_owned(), "t", now);
        EndedAttempt {
            trigger,
            event: Arc::new(serde_json::from_value(event).expect("an event")),
            delivery: Delivery { status: TriggerEventStatus::Running, attempts: 1, ..new },
            calls: CallPolicy::default(),
            result,
            outcome,
            policy: RetryPolicy {
                retries: 2,
                pause: Duration::from_secs(1),
                pause_max: Duration::from_secs(9),
                age_max: Duration::from_hours(1),
                now,
            },
        }
    }

    /// Returns the payloads, the attempts and the status of each part.
    fn parts(attempt: &EndedAttempt<'_>) -> Vec<(Value, u32, TriggerEventStatus)> {
        let parts = attempt.divide();
        assert!(parts.iter().all(|(event, delivery)| event.id == delivery.event));
        let ids: Vec<&String> = parts.iter().map(|(event, _)| &event.id).collect();
        assert!(ids.is_sorted() && ids.iter().all(|id| id.as_str() > ID), "{ids:?}");
        parts
            .iter()
            .map(|(event, delivery)| (json!(event.payloads()), delivery.attempts, delivery.status))
            .collect()
    }

    #[test]
    fn only_failed_items_are_retried() {
        use TriggerEventStatus::{Failed, Pending};
        let trigger = trigger(&json!({"report_failures": true}));
        let mut attempt = ended(&trigger, Ok(json!({"function": null, FAILED_ITEMS: [1, 3]})));
        assert_eq!(parts(&attempt), [(json!([1, 3]), 2, Pending)]);
        let problem = attempt.divide()[0].1.error.clone().expect("a reason");
        assert_eq!(problem.message, "the function reported 2 of 5 items as failed: `1`, `3`");
        attempt.delivery.attempts = 2;
        assert_eq!(parts(&attempt), [(json!([1, 3]), 3, Failed)]);
        // If the order is preserved, all items after the first failed one are retried.
        attempt.delivery.attempts = 0;
        attempt.delivery.key = Some("k".to_owned());
        assert_eq!(parts(&attempt), [(json!([1, 2, 3, 4]), 1, Pending)]);
        attempt.result = Ok(json!({"function": null}));
        assert!(attempt.divide().is_empty());
    }

    #[test]
    fn parts_with_all_items_replace_the_event() {
        let trigger = trigger(&json!({"report_failures": true, "bisect": true}));
        let mut attempt = ended(&trigger, Ok(json!({FAILED_ITEMS: [1, 3]})));
        assert!(!attempt.is_replaced_by(&attempt.divide()));
        attempt.result = Ok(json!({FAILED_ITEMS: [0, 1, 2, 3, 4]}));
        assert!(attempt.is_replaced_by(&attempt.divide()));
        attempt.result = Ok(json!({FAILED_ITEMS: [0]}));
        attempt.delivery.key = Some("k".to_owned());
        assert_eq!(attempt.divide().len(), 2);
        assert!(attempt.is_replaced_by(&attempt.divide()));
        attempt.event = Arc::new(part_of(&attempt.event, ID.to_owned(), &[2]));
        assert_eq!(attempt.divide().len(), 1);
        assert!(attempt.is_replaced_by(&attempt.divide()));
        attempt.result = Ok(json!({"function": null}));
        assert!(!attempt.is_replaced_by(&attempt.divide()));
        let failed = Err(mark_divisible(Problem::new(ErrorCode::FunctionFailed, "no")));
        let failed = ended(&trigger, failed);
        assert!(failed.is_replaced_by(&failed.divide()));
    }

    #[test]
    fn a_failed_item_of_an_ordered_event_is_retried_alone() {
        use TriggerEventStatus::{Failed, Pending};
        let trigger = trigger(&json!({"report_failures": true, "bisect": true}));
        let mut attempt = ended(&trigger, Ok(json!({FAILED_ITEMS: [1, 3]})));
        attempt.delivery.attempts = 2;
        attempt.delivery.key = Some("k".to_owned());
        assert_eq!(parts(&attempt), [(json!([1]), 3, Failed), (json!([2, 3, 4]), 2, Pending)]);
    }

    #[test]
    fn a_failed_event_is_halved_without_an_attempt() {
        use TriggerEventStatus::Pending;
        let problem = Problem::new(ErrorCode::FunctionFailed, "no");
        let trigger = trigger(&json!({"bisect": true}));
        let mut attempt = ended(&trigger, Err(mark_divisible(problem.clone())));
        assert_eq!(parts(&attempt), [(json!([0, 1]), 1, Pending), (json!([2, 3, 4]), 1, Pending)]);
        attempt.event = Arc::new(part_of(&attempt.event, ID.to_owned(), &[2]));
        assert!(attempt.divide().is_empty(), "a single item is not divided");
        let attempt = ended(&trigger, Err(problem));
        assert!(attempt.divide().is_empty(), "the attempt may have changed something");
    }

    #[test]
    fn parts_are_ordered_before_later_events() {
        let first = part_id(ID, 0);
        assert_eq!(first, format!("{ID}.00000.1"));
        let second = part_id(ID, 50);
        let nested = part_id(&first, 25);
        assert_eq!(nested, format!("{ID}.00025.2"));
        let later = "0193d0f0-0000-7000-8000-000000000002";
        let ids = [ID, &first, &part_id(&first, 0), &nested, &second, later];
        assert!(ids.is_sorted(), "{ids:?}");
    }
}
