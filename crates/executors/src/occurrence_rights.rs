//! Rights to see the occurrences for which triggers fire: changes of tables and objects, merges,
//! and ends of jobs.
//!
//! The identity that deployed or created a trigger needs the rights to read the changed branch, to
//! select from the changed tables, and to list the key of a changed object. The identity sees its
//! own jobs, the jobs of its triggers, and the jobs of users whose usage it may read. The rights
//! are checked before an event is recorded, and again before it is delivered.

use headwater_access::Access;
use headwater_model::{
    AccessObject, Action, BucketTrigger, EventData, Principal, TableName, Trigger,
};

use crate::standalone_trigger::TriggerIdentity;

/// Returns the part of an event that the identity of a trigger may see; `None` if the identity may
/// not see the event. `identity` is called only for the events that this module checks.
pub(crate) fn visible_to_deployer(
    access: &Access,
    identity: impl FnOnce() -> Option<TriggerIdentity>,
    mut data: EventData,
) -> Option<EventData> {
    let is_checked = matches!(
        data,
        EventData::BranchMerged { .. }
            | EventData::JobEnded { .. }
            | EventData::TableChanged { .. }
            | EventData::ObjectCreated { .. }
            | EventData::ObjectRemoved { .. }
    );
    if !is_checked {
        return Some(data);
    }
    let identity = identity()?;
    let principal = identity.principal();
    let allows =
        |action, object: &AccessObject| access.decide(&principal, action, object).is_allowed();
    let needed = needed_right(&identity, &principal, &data);
    if needed.is_some_and(|(action, object)| !allows(action, &object)) {
        return None;
    }
    match &mut data {
        EventData::BranchMerged { tables, .. } => tables.retain(|name| {
            let Ok(name) = name.parse::<TableName>() else { return false };
            allows(Action::Select, &AccessObject::table(&name))
                || allows(Action::Select, &AccessObject::view(&name))
        }),
        EventData::TableChanged { tables, .. } => {
            tables.retain(|name| {
                let table = name.parse::<TableName>();
                table.is_ok_and(|table| allows(Action::Select, &AccessObject::table(&table)))
            });
            if tables.is_empty() {
                return None;
            }
        }
        _ => {}
    }
    Some(data)
}

/// Returns the rights that the identity of a trigger needs to receive a recorded event.
pub(crate) fn event_rights(
    identity: &TriggerIdentity,
    trigger: &Trigger,
    data: &EventData,
) -> Vec<(Action, AccessObject)> {
    // The object is in another object store, where the lake's grants on buckets have no meaning.
    if let EventData::ObjectCreated { object } = data
        && trigger.bucket.as_ref().is_some_and(BucketTrigger::is_remote)
    {
        return vec![(Action::Read, AccessObject::location(&object.uri))];
    }
    let needed = needed_right(identity, &identity.principal(), data);
    let mut needed: Vec<(Action, AccessObject)> = needed.into_iter().collect();
    if let EventData::TableChanged { tables, .. } = data {
        let tables = tables.iter().filter_map(|name| name.parse::<TableName>().ok());
        needed.extend(tables.map(|table| (Action::Select, AccessObject::table(&table))));
    }
    needed
}

/// Returns the right to see an event as a whole; `None` if no right is needed.
fn needed_right(
    identity: &TriggerIdentity,
    principal: &Principal,
    data: &EventData,
) -> Option<(Action, AccessObject)> {
    match data {
        EventData::BranchMerged { branch, .. } | EventData::TableChanged { branch, .. } => {
            Some((Action::Read, AccessObject::branch(branch)))
        }
        EventData::ObjectCreated { object } | EventData::ObjectRemoved { object } => {
            Some((Action::List, AccessObject::prefix_in(&object.bucket, &object.key)))
        }
        // Check the queue of the event: the trigger may have had another queue when it was
        // recorded.
        EventData::QueueReceived { queue, .. } => Some((Action::Read, AccessObject::queue(queue))),
        EventData::JobEnded { job } => {
            let is_own = principal.is_author_of(&job.author, job.created);
            let of_trigger = job.trigger.as_ref().is_some_and(|name| {
                job.author == format!("trigger {name}") && identity.has_trigger(name)
            });
            let needed = || (Action::Read, AccessObject::usage(&job.author));
            (!is_own && !of_trigger).then(needed)
        }
        _ => None,
    }
}
