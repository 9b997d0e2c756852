//! Membership in roles: grants roles to users and roles, and revokes them. Several roles are one
//! change of the records.

use std::collections::BTreeMap;

use headwater_model::Principal;
use headwater_store::JournalAppend;

use crate::access_state::AccessState;
use crate::record::{put, role_key, user_key};
use crate::{Access, Error, Result};

/// Grants each of the roles to each of the users and roles, in one change. Granting a role again
/// changes nothing.
///
/// Errors: `invalid_argument` if a name is unknown, or a role would contain itself. Nothing is
/// changed then.
pub async fn grant_roles(
    access: &Access,
    by: &Principal,
    roles: &[String],
    grantees: &[String],
) -> Result<()> {
    let grant = access.apply(&[], |directory| {
        let mut changes = MembershipChanges::new(directory, roles, grantees)?;
        for (role, grantee) in pairs(roles, grantees) {
            if changes.members.with_roles(role).contains(grantee) {
                return Err(Error::Cycle { role: role.clone(), grantee: grantee.clone() });
            }
            if changes.set(grantee, role, true)? {
                let (object, detail) = (format!("role:{role}"), format!("to {grantee}"));
                changes.events.push(access.0.audit.change(by, "grant_role", object, detail)?);
            }
        }
        Ok((changes.into_entries(), ()))
    });
    grant.await
}

/// Revokes each of the roles from each of the users and roles, in one change.
///
/// Errors: `invalid_argument` if a name is unknown; nothing is changed then. Also
/// `invalid_argument` if a user or role does not have one of the roles directly. The other roles
/// are still revoked.
pub async fn revoke_roles(
    access: &Access,
    by: &Principal,
    roles: &[String],
    grantees: &[String],
) -> Result<()> {
    let missing = access.apply(&[], |directory| {
        let mut changes = MembershipChanges::new(directory, roles, grantees)?;
        let mut missing = None;
        for (role, grantee) in pairs(roles, grantees) {
            if changes.set(grantee, role, false)? {
                let (object, detail) = (format!("role:{role}"), format!("from {grantee}"));
                changes.events.push(access.0.audit.change(by, "revoke_role", object, detail)?);
            } else if missing.is_none() {
                let what = format!("role `{role}`");
                missing = Some(Error::NotGranted { what, grantee: grantee.clone() });
            }
        }
        Ok((changes.into_entries(), missing))
    });
    missing.await?.map_or(Ok(()), Err)
}

/// Changes of memberships that are not stored yet.
struct MembershipChanges {
    /// The users and roles after the changes.
    members: AccessState,
    /// The journal entries of the changed users and roles, by their names.
    entries: BTreeMap<String, JournalAppend>,
    /// The audit events of the changes.
    events: Vec<JournalAppend>,
}

impl MembershipChanges {
    /// Starts changes of known users and roles. Errors: a name is unknown.
    fn new(directory: &AccessState, roles: &[String], grantees: &[String]) -> Result<Self> {
        if let Some(unknown) = grantees.iter().find(|name| !directory.has(name)) {
            return Err(Error::NoGrantee { name: unknown.clone() });
        }
        for role in roles {
            directory.role(role)?;
        }
        let members = directory.members();
        Ok(MembershipChanges { members, entries: BTreeMap::new(), events: Vec::new() })
    }

    /// Adds a role to a user or role, or removes it. Returns false if nothing changes.
    fn set(&mut self, grantee: &str, role: &str, is_member: bool) -> Result<bool> {
        let entry = set_member(&mut self.members, grantee, role, is_member)?;
        let is_changed = entry.is_some();
        self.entries.extend(entry.map(|entry| (grantee.to_owned(), entry)));
        Ok(is_changed)
    }

    /// Returns the journal entries that store the changes.
    fn into_entries(self) -> Vec<JournalAppend> {
        self.entries.into_values().chain(self.events).collect()
    }
}

/// Adds a role to a user or role of `members`, or removes it. Returns the journal entry that stores
/// the changed user or role; `None` if nothing changes.
pub(crate) fn set_member(
    members: &mut AccessState,
    grantee: &str,
    role: &str,
    is_member: bool,
) -> Result<Option<JournalAppend>> {
    if let Some(user) = members.users.get_mut(grantee) {
        let is_changed =
            if is_member { user.roles.insert(role.to_owned()) } else { user.roles.remove(role) };
        return if is_changed { put(user_key(grantee), user).map(Some) } else { Ok(None) };
    }
    let found = members.roles.get_mut(grantee);
    let found = found.ok_or_else(|| Error::NoGrantee { name: grantee.to_owned() })?;
    if found.roles.iter().any(|one| one == role) == is_member {
        return Ok(None);
    }
    found.roles.retain(|one| one != role);
    if is_member {
        found.roles.push(role.to_owned());
        found.roles.sort_unstable();
    }
    put(role_key(grantee), found).map(Some)
}

/// Returns all pairs of a role and a user or role that receives or loses it.
fn pairs<'a>(
    roles: &'a [String],
    grantees: &'a [String],
) -> impl Iterator<Item = (&'a String, &'a String)> {
    roles.iter().flat_map(move |role| grantees.iter().map(move |grantee| (role, grantee)))
}
