//! Grants: permissions of users and roles.
//!
//! Several grants are one change of the records, so that either all of them are stored or none.
//! After a change, all records are read again.

use std::collections::BTreeMap;

use headwater_model::{Grant, GrantRequest, ObjectPattern, Permission, Principal};
use headwater_store::JournalAppend;

use crate::access_state::AccessState;
use crate::record::{grant_key, put, remove};
use crate::{Access, Error, Result};

/// A permission to grant or revoke, with valid actions.
struct CheckedRequest<'a> {
    grantee: &'a str,
    permission: Permission,
}

/// Changes of grants that are not stored yet.
struct GrantChanges<'a> {
    directory: &'a AccessState,
    /// The changed grants, by grantee and object. A grant without actions is removed.
    changed: BTreeMap<(&'a str, &'a ObjectPattern), Grant>,
    /// The audit events of the changes.
    events: Vec<JournalAppend>,
}

impl Access {
    /// Grants a permission to a user or role; see [`grant_all`].
    pub async fn grant(
        &self,
        by: &Principal,
        grantee: &str,
        permission: Permission,
    ) -> Result<Grant> {
        let mut granted = grant_all(self, by, &[request(grantee, permission)]).await?;
        Ok(granted.remove(0))
    }

    /// Revokes a permission of a user or role; see [`revoke_all`].
    pub async fn revoke(
        &self,
        by: &Principal,
        grantee: &str,
        permission: Permission,
    ) -> Result<()> {
        revoke_all(self, by, &[request(grantee, permission)]).await
    }

    /// Lists grants by grantee and object; optionally only the direct grants of one user or role.
    pub fn grants(&self, grantee: Option<&str>) -> Vec<Grant> {
        let directory = self.directory();
        let all = directory.grants.values().flatten();
        let wanted = |grant: &&Grant| grantee.is_none_or(|name| grant.grantee == name);
        let mut found: Vec<Grant> = all.filter(wanted).cloned().collect();
        found.sort_by(|one, other| {
            let key = |grant: &Grant| (grant.grantee.clone(), grant.permission.object.clone());
            key(one).cmp(&key(other))
        });
        found
    }

    fn new_grant(&self, by: &Principal, grantee: &str, permission: Permission) -> Grant {
        Grant {
            grantee: grantee.to_owned(),
            permission,
            granted: self.0.clock.now(),
            by: by.author().to_owned(),
        }
    }

    /// Returns the journal entry of the audit event for a granted or revoked permission.
    fn grant_event(
        &self,
        by: &Principal,
        action: &'static str,
        request: &CheckedRequest<'_>,
    ) -> Result<JournalAppend> {
        let CheckedRequest { grantee, permission } = request;
        let preposition = if action == "grant" { "to" } else { "from" };
        let detail = format!("{} {preposition} {grantee}", names_of(permission));
        self.0.audit.change(by, action, permission.object.to_string(), detail)
    }
}

/// Grants permissions to users and roles in one change. Adds the actions to those that are
/// already granted on the same object pattern. Returns one grant for each request.
pub async fn grant_all(
    access: &Access,
    by: &Principal,
    requests: &[GrantRequest],
) -> Result<Vec<Grant>> {
    let requests: Vec<_> = requests.iter().map(checked).collect::<Result<_>>()?;
    access
        .apply(&[], |directory| {
            let mut changes = GrantChanges::new(directory);
            let mut granted = Vec::with_capacity(requests.len());
            for request in &requests {
                let known = changes.find(request)?;
                let before = known.into_iter().flat_map(|known| &known.permission.actions);
                let actions = request.permission.actions.iter().chain(before).copied().collect();
                let object = request.permission.object.clone();
                let permission = Permission { actions, object }.checked()?;
                if let Some(known) = known.filter(|known| known.permission == permission) {
                    granted.push(known.clone());
                    continue;
                }
                let grant = access.new_grant(by, request.grantee, permission);
                granted.push(grant.clone());
                changes.set(request, grant, access.grant_event(by, "grant", request)?);
            }
            Ok((changes.into_entries()?, granted))
        })
        .await
}

/// Revokes actions of grants with the same object patterns, in one change. Grants with other
/// patterns are unchanged.
///
/// Errors: `invalid_argument` if a grant contains none of the actions. The other requests are
/// still executed.
pub async fn revoke_all(access: &Access, by: &Principal, requests: &[GrantRequest]) -> Result<()> {
    let requests: Vec<_> = requests.iter().map(checked).collect::<Result<_>>()?;
    let missing = access.apply(&[], |directory| {
        let mut changes = GrantChanges::new(directory);
        let mut missing = None;
        for request in &requests {
            let actions = &request.permission.actions;
            let has = |grant: &&Grant| {
                actions.iter().any(|action| grant.permission.actions.contains(action))
            };
            let Some(known) = changes.find(request)?.filter(has) else {
                missing = missing.or_else(|| Some(not_granted(request)));
                continue;
            };
            let mut left = known.clone();
            left.permission.actions.retain(|action| !actions.contains(action));
            changes.set(request, left, access.grant_event(by, "revoke", request)?);
        }
        Ok((changes.into_entries()?, missing))
    });
    missing.await?.map_or(Ok(()), Err)
}

impl<'a> GrantChanges<'a> {
    fn new(directory: &'a AccessState) -> Self {
        GrantChanges { directory, changed: BTreeMap::new(), events: Vec::new() }
    }

    /// Returns the grant of the request's grantee on its object pattern.
    ///
    /// Errors: the grantee does not exist.
    fn find(&self, request: &'a CheckedRequest<'a>) -> Result<Option<&Grant>> {
        let CheckedRequest { grantee, permission: Permission { object, .. } } = request;
        if !self.directory.has(grantee) {
            return Err(Error::NoGrantee { name: (*grantee).to_owned() });
        }
        let stored = || {
            let grants = self.directory.grants.get(*grantee)?;
            grants.iter().find(|grant| grant.permission.object == *object)
        };
        let changed = self.changed.get(&(*grantee, object)).or_else(stored);
        Ok(changed.filter(|grant| !grant.permission.actions.is_empty()))
    }

    fn set(&mut self, request: &'a CheckedRequest<'a>, grant: Grant, event: JournalAppend) {
        self.changed.insert((request.grantee, &request.permission.object), grant);
        self.events.push(event);
    }

    /// Returns the journal entries that store the changes.
    fn into_entries(self) -> Result<Vec<JournalAppend>> {
        let mut entries = Vec::with_capacity(self.changed.len() + self.events.len());
        for grant in self.changed.values() {
            let is_revoked = grant.permission.actions.is_empty();
            let key = grant_key(grant);
            entries.push(if is_revoked { remove(key) } else { put(key, grant)? });
        }
        entries.extend(self.events);
        Ok(entries)
    }
}

fn request(grantee: &str, permission: Permission) -> GrantRequest {
    let Permission { actions, object } = permission;
    GrantRequest { grantee: grantee.to_owned(), actions, object }
}

fn checked(request: &GrantRequest) -> Result<CheckedRequest<'_>> {
    let GrantRequest { grantee, actions, object } = request;
    let permission = Permission { actions: actions.clone(), object: object.clone() };
    Ok(CheckedRequest { grantee, permission: permission.checked()? })
}

fn not_granted(request: &CheckedRequest<'_>) -> Error {
    let CheckedRequest { grantee, permission } = request;
    let what = format!("{} on `{}`", names_of(permission), permission.object);
    Error::NotGranted { what, grantee: (*grantee).to_owned() }
}

/// Returns the names of a permission's actions, separated by commas.
fn names_of(permission: &Permission) -> String {
    let names: Vec<_> = permission.actions.iter().map(|action| action.as_str()).collect();
    names.join(", ")
}
