//! Detection of loops by the lineage of events.
//!
//! The lineage of an event is the field `caused_by`: the triggers, function queues and event source
//! mappings that led to it. The source of a trigger ignores changes of tables and objects, merges
//! and ends of jobs that this trigger caused. A message cannot be ignored, because it must be
//! removed from its queue. So if a trigger receives a message that it has caused itself, the
//! message becomes a failed event, which a user can inspect and replay.

use headwater_model::{ErrorCode, Event, Problem};

/// Maximum number of names in the lineage of an event. AWS stops a loop of a queue and a
/// function after about 16 calls.
const CHAIN_MAX: usize = 16;

/// Returns the problem that prevents the delivery of an event to a trigger or to a queue of calls;
/// `None` if the trigger or queue did not cause the event itself.
pub fn loop_problem(event: &Event, trigger: &str) -> Option<Problem> {
    let lineage = &event.caused_by;
    let is_own = lineage.iter().any(|name| name == trigger);
    if !is_own && lineage.len() <= CHAIN_MAX {
        return None;
    }
    let chain = lineage.iter().map(String::as_str).chain([trigger]);
    let chain = chain.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" -> ");
    let message = if is_own {
        format!("the event closes a loop of triggers: {chain}")
    } else {
        let length = lineage.len();
        format!("a chain of {length} triggers caused the event (limit {CHAIN_MAX}): {chain}")
    };
    let hint = "Remove the output or the destination that closes the loop. To deliver this event, \
                use `headwater event replay`.";
    Some(Problem::new(ErrorCode::LoopDetected, message).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use headwater_model::{EventData, SpecVersion, Timestamp};

    use super::*;

    fn problem(caused_by: &[&str]) -> Option<String> {
        let event = Event {
            specversion: SpecVersion::default(),
            id: "e".to_owned(),
            source: "/queues/q".to_owned(),
            subject: None,
            time: Timestamp::UNIX_EPOCH,
            data: EventData::QueueReceived { queue: "q".to_owned(), messages: Vec::new() },
            caused_by: caused_by.iter().map(|name| (*name).to_owned()).collect(),
        };
        loop_problem(&event, "t").map(|problem| problem.message)
    }

    #[test]
    fn loops_and_long_chains_are_stopped() {
        assert_eq!(problem(&[]), None);
        assert_eq!(problem(&["a", "b"]), None);
        let own = problem(&["t", "a"]).expect("a loop");
        assert_eq!(own, "the event closes a loop of triggers: `t` -> `a` -> `t`");
        let names: Vec<String> = (0..17).map(|n| format!("t{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(problem(&names[..16]), None);
        let long = problem(&names).expect("a long chain");
        assert!(
            long.starts_with("a chain of 17 triggers caused the event (limit 16): `t0` -> `t1`"),
            "{long}"
        );
    }
}
