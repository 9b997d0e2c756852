//! Grants: permissions of users and roles.
//!
//! Several grants are one change of the records, so that either all of them are stored or none.
//! After a change, all records are read again.

use std::collections::BTreeMap;

use headwater_model::{Grant, GrantRequest, ObjectOwner, Permission, Principal};
use headwater_store::JournalAppend;

use crate::access_state::AccessState;
use crate::record::{grant_key, put, remove};
use crate::{Access, Error, Result};

/// Maximum number of grants that a user makes as an owner. All grants are in memory.
const OWNER_GRANTS_MAX: usize = 1_000;

/// A permission to grant or revoke, with valid actions.
struct CheckedRequest<'a> {
    grantee: &'a str,
    permission: Permission,
}

/// The principal that changes grants.
struct Grantor<'a> {
    by: &'a Principal,
    /// The owner of the objects, if the principal changes the grants as their owner; `None` for an
    /// administrator.
    owner: Option<ObjectOwner>,
}

/// Changes of grants that are not stored yet.
struct GrantChanges<'a> {
    directory: &'a AccessState,
    /// The changed grants, by their keys in the store. A grant without actions is removed.
    changed: BTreeMap<String, Grant>,
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
        sorted(all.filter(wanted).cloned().collect())
    }

    fn new_grant(&self, by: &Grantor<'_>, request: &CheckedRequest<'_>) -> Grant {
        Grant {
            grantee: request.grantee.to_owned(),
            permission: request.permission.clone(),
            granted: self.0.clock.now(),
            by: by.by.author().to_owned(),
            owner: by.owner.clone(),
        }
    }

    /// Returns the journal entry of the audit event for a granted or revoked permission.
    fn grant_event(
        &self,
        by: &Grantor<'_>,
        action: &'static str,
        request: &CheckedRequest<'_>,
    ) -> Result<JournalAppend> {
        let CheckedRequest { grantee, permission } = request;
        let preposition = if action == "grant" { "to" } else { "from" };
        let right = if by.owner.is_some() { ", as the owner of the object" } else { "" };
        let detail = format!("{} {preposition} {grantee}{right}", names_of(permission));
        self.0.audit.change(by.by, action, permission.object.to_string(), detail)
    }
}

/// Lists the grants of a user itself, and the grants that the user made as an owner, by grantee and
/// object.
pub fn own_grants(access: &Access, user: &ObjectOwner) -> Vec<Grant> {
    let directory = access.directory();
    let made = directory.grants_by(&user.user).filter(|grant| grant.grantee != user.user);
    let granted = directory.grants.get(&user.user).into_iter().flatten();
    sorted(granted.chain(made).cloned().collect())
}

/// Grants permissions to users and roles in one change. Adds the actions to those that are
/// already granted on the same object pattern. Returns one grant for each request.
pub async fn grant_all(
    access: &Access,
    by: &Principal,
    requests: &[GrantRequest],
) -> Result<Vec<Grant>> {
    grant_by(access, &Grantor { by, owner: None }, requests).await
}

/// Like [`grant_all`], but grants permissions by the right of the objects' owner, which is `by`.
/// Such a grant gives a right only while the owner itself has the right as the owner. The caller
/// has checked the ownership.
///
/// Errors: `quota_exceeded` if the user has made too many grants; `unauthenticated` if `by` is not
/// a user, or its account was dropped or disabled meanwhile.
pub async fn grant_as_owner(
    access: &Access,
    by: &Principal,
    requests: &[GrantRequest],
) -> Result<Vec<Grant>> {
    grant_by(access, &Grantor::owner(by)?, requests).await
}

async fn grant_by(
    access: &Access,
    by: &Grantor<'_>,
    requests: &[GrantRequest],
) -> Result<Vec<Grant>> {
    let requests: Vec<_> = requests.iter().map(checked).collect::<Result<_>>()?;
    access
        .apply(&[], |directory| {
            by.check_account(directory)?;
            let mut changes = GrantChanges::new(directory);
            let mut granted = Vec::with_capacity(requests.len());
            for request in &requests {
                let mut grant = access.new_grant(by, request);
                let known = changes.find(&grant)?;
                let before = known.into_iter().flat_map(|known| &known.permission.actions);
                let actions = request.permission.actions.iter().chain(before).copied().collect();
                grant.permission = Permission { actions, ..grant.permission }.checked()?;
                if let Some(known) = known.filter(|known| known.permission == grant.permission) {
                    granted.push(known.clone());
                    continue;
                }
                granted.push(grant.clone());
                changes.set(grant, access.grant_event(by, "grant", request)?);
            }
            changes.check_number(by)?;
            Ok((changes.into_entries()?, granted))
        })
        .await
}

/// Revokes actions of grants with the same object patterns, in one change. Grants with other
/// patterns are unchanged. Also revokes the grants of owners.
///
/// Errors: `invalid_argument` if a grant contains none of the actions. The other requests are
/// still executed.
pub async fn revoke_all(access: &Access, by: &Principal, requests: &[GrantRequest]) -> Result<()> {
    revoke_by(access, &Grantor { by, owner: None }, requests).await
}

/// Like [`revoke_all`], but revokes only grants that `by` made as an owner.
pub async fn revoke_as_owner(
    access: &Access,
    by: &Principal,
    requests: &[GrantRequest],
) -> Result<()> {
    revoke_by(access, &Grantor::owner(by)?, requests).await
}

async fn revoke_by(access: &Access, by: &Grantor<'_>, requests: &[GrantRequest]) -> Result<()> {
    let requests: Vec<_> = requests.iter().map(checked).collect::<Result<_>>()?;
    let missing = access.apply(&[], |directory| {
        let mut changes = GrantChanges::new(directory);
        let mut missing = None;
        for request in &requests {
            let actions = &request.permission.actions;
            let known = changes.to_revoke(by, request)?;
            if known.is_empty() {
                missing = missing.or_else(|| Some(not_granted(request)));
            }
            for mut left in known {
                left.permission.actions.retain(|action| !actions.contains(action));
                changes.set(left, access.grant_event(by, "revoke", request)?);
            }
        }
        Ok((changes.into_entries()?, missing))
    });
    missing.await?.map_or(Ok(()), Err)
}

impl<'a> Grantor<'a> {
    /// Returns the grantor of a user that owns objects.
    fn owner(by: &'a Principal) -> Result<Self> {
        let owner = by.as_object_owner().ok_or(Error::InvalidCredential)?;
        Ok(Grantor { by, owner: Some(owner) })
    }

    /// Checks that the account of an owner still exists when its grants are stored. A later account
    /// with this name must not receive them.
    fn check_account(&self, directory: &AccessState) -> Result<()> {
        let is_account =
            |owner: &ObjectOwner| Access::is_account(directory, &owner.user, owner.created);
        let is_valid = self.owner.as_ref().is_none_or(is_account);
        if is_valid { Ok(()) } else { Err(Error::InvalidCredential) }
    }
}

impl<'a> GrantChanges<'a> {
    fn new(directory: &'a AccessState) -> Self {
        GrantChanges { directory, changed: BTreeMap::new(), events: Vec::new() }
    }

    /// Returns the stored grants of a user or role on an object pattern.
    ///
    /// Errors: the user or role does not exist.
    fn stored(&self, grantee: &str, permission: &Permission) -> Result<Vec<&'a Grant>> {
        if !self.directory.has(grantee) {
            return Err(Error::NoGrantee { name: grantee.to_owned() });
        }
        let grants = self.directory.grants.get(grantee).into_iter().flatten();
        Ok(grants.filter(|grant| grant.permission.object == permission.object).collect())
    }

    /// Returns the existing grant that has the key of a new grant, and the same owner.
    fn find(&self, new: &Grant) -> Result<Option<&Grant>> {
        let key = grant_key(new);
        let stored = self.stored(&new.grantee, &new.permission)?;
        let stored = stored.into_iter().find(|grant| grant.owner == new.owner);
        let found = self.changed.get(&key).or(stored);
        Ok(found.filter(|grant| !grant.permission.actions.is_empty()))
    }

    /// Returns the existing grants that contain an action to revoke: for an owner, only the grant
    /// that the owner made.
    fn to_revoke(&self, by: &Grantor<'_>, request: &CheckedRequest<'_>) -> Result<Vec<Grant>> {
        let actions = &request.permission.actions;
        let stored = self.stored(request.grantee, &request.permission)?.into_iter();
        let made = stored.filter(|grant| by.owner.is_none() || grant.owner == by.owner);
        let current = made.map(|grant| self.changed.get(&grant_key(grant)).unwrap_or(grant));
        let has =
            |grant: &&Grant| actions.iter().any(|action| grant.permission.actions.contains(action));
        Ok(current.filter(has).cloned().collect())
    }

    fn set(&mut self, grant: Grant, event: JournalAppend) {
        self.changed.insert(grant_key(&grant), grant);
        self.events.push(event);
    }

    /// Checks the number of grants that an owner has made after the change.
    fn check_number(&self, by: &Grantor<'_>) -> Result<()> {
        let Some(owner) = &by.owner else { return Ok(()) };
        let stored = self.directory.grants_by(&owner.user).map(grant_key);
        let unchanged = stored.filter(|key| !self.changed.contains_key(key)).count();
        if unchanged + self.changed.len() > OWNER_GRANTS_MAX && !self.changed.is_empty() {
            return Err(Error::TooManyGrants { max: OWNER_GRANTS_MAX });
        }
        Ok(())
    }

    /// Returns the journal entries that store the changes.
    fn into_entries(self) -> Result<Vec<JournalAppend>> {
        let mut entries = Vec::with_capacity(self.changed.len() + self.events.len());
        for (key, grant) in self.changed {
            let is_revoked = grant.permission.actions.is_empty();
            entries.push(if is_revoked { remove(key) } else { put(key, &grant)? });
        }
        entries.extend(self.events);
        Ok(entries)
    }
}

/// Sorts grants by grantee and object.
fn sorted(mut grants: Vec<Grant>) -> Vec<Grant> {
    grants.sort_by(|one, other| {
        let key = |grant: &Grant| (grant.grantee.clone(), grant.permission.object.clone());
        key(one).cmp(&key(other))
    });
    grants
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
