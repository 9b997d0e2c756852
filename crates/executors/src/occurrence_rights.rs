//! Rights to see the merges and the ends of jobs for which triggers fire.
//!
//! The identity that deployed or created a trigger needs the right to read the branch of a merge.
//! It sees its own jobs, the jobs of its triggers, and the jobs of users whose usage it may read.
//! The rights are checked before an event is recorded, and again before it is delivered.

use headwater_access::Access;
use headwater_model::{Action, EventData, Object, TableName};

use crate::created_trigger::TriggerIdentity;

/// Returns the part of an event that the identity of a trigger may see; `None` if it may not see
/// the event. `identity` is called only for merges and ends of jobs.
pub(crate) fn visible_to_deployer(
    access: &Access,
    identity: impl FnOnce() -> Option<TriggerIdentity>,
    mut data: EventData,
) -> Option<EventData> {
    if !matches!(data, EventData::BranchMerged { .. } | EventData::JobEnded { .. }) {
        return Some(data);
    }
    let identity = identity()?;
    let principal = identity.principal();
    let allows = |action, object: &Object| access.decide(&principal, action, object).is_allowed();
    let needed = needed_right(&identity, &data);
    if needed.is_some_and(|(action, object)| !allows(action, &object)) {
        return None;
    }
    if let EventData::BranchMerged { tables, .. } = &mut data {
        tables.retain(|name| {
            let Ok(name) = name.parse::<TableName>() else { return false };
            allows(Action::Select, &Object::table(&name))
                || allows(Action::Select, &Object::view(&name))
        });
    }
    Some(data)
}

/// Returns the right that the identity of a trigger needs to see an event; `None` if it needs none.
pub(crate) fn needed_right(
    identity: &TriggerIdentity,
    data: &EventData,
) -> Option<(Action, Object)> {
    match data {
        EventData::BranchMerged { branch, .. } => Some((Action::Read, Object::branch(branch))),
        EventData::JobEnded { job } => {
            let is_own = identity.principal().is_author_of(&job.author, job.created);
            let of_trigger = job.trigger.as_ref().is_some_and(|name| {
                job.author == format!("trigger {name}") && identity.has_trigger(name)
            });
            let needed = || (Action::Read, Object::usage(&job.author));
            (!is_own && !of_trigger).then(needed)
        }
        _ => None,
    }
}
