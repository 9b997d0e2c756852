//! Grants: permissions of users and roles.

use headwater_model::{Action, Grant, ObjectPattern, Permission, Principal};
use headwater_store::Append;

use crate::access::RightsChange;
use crate::access_state::AccessState;
use crate::record::{grant_key, put, remove};
use crate::{Access, Error, Result};

impl Access {
    /// Grants a permission to a user or role. Adds the actions to those that are already granted to
    /// it on the same object pattern.
    pub async fn grant(
        &self,
        by: &Principal,
        grantee: &str,
        permission: Permission,
    ) -> Result<Grant> {
        let permission = permission.checked()?;
        self.change(by, |directory| {
            check_grantee(directory, grantee)?;
            let known = find(directory, grantee, &permission.object);
            let before = known.map(|known| known.permission.actions.clone()).unwrap_or_default();
            let actions = permission.actions.iter().copied().chain(before).collect();
            let merged = Permission { actions, object: permission.object.clone() }.checked()?;
            let grant = self.new_grant(by, grantee, merged);
            let is_known = known.is_some_and(|known| known.permission == grant.permission);
            let entries = if is_known { Vec::new() } else { vec![put(grant_key(&grant), &grant)?] };
            Ok(grant_change("grant", &permission, format!("to {grantee}"), entries, grant))
        })
        .await
    }

    /// Revokes actions of a grant with the same object pattern. Grants with other patterns are
    /// unchanged.
    ///
    /// Errors: `invalid_argument` if the grant contains none of the actions.
    pub async fn revoke(
        &self,
        by: &Principal,
        grantee: &str,
        permission: Permission,
    ) -> Result<()> {
        let permission = permission.checked()?;
        self.change(by, |directory| {
            check_grantee(directory, grantee)?;
            let known = find(directory, grantee, &permission.object);
            let has = |grant: &&Grant| {
                permission.actions.iter().any(|action| grant.permission.actions.contains(action))
            };
            let Some(known) = known.filter(has) else {
                let actions: Vec<_> = permission.actions.iter().map(|one| one.as_str()).collect();
                let what = format!("{} on `{}`", actions.join(", "), permission.object);
                return Err(Error::NotGranted { what, grantee: grantee.to_owned() });
            };
            let entries = vec![without(known, &permission.actions)?];
            Ok(grant_change("revoke", &permission, format!("from {grantee}"), entries, ()))
        })
        .await
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
}

fn check_grantee(directory: &AccessState, grantee: &str) -> Result<()> {
    if directory.has(grantee) {
        return Ok(());
    }
    Err(Error::NoGrantee { name: grantee.to_owned() })
}

fn find<'a>(
    directory: &'a AccessState,
    grantee: &str,
    object: &ObjectPattern,
) -> Option<&'a Grant> {
    directory.grants.get(grantee)?.iter().find(|grant| grant.permission.object == *object)
}

/// Returns the journal entry that removes actions from a grant, or removes the whole grant.
fn without(grant: &Grant, actions: &[Action]) -> Result<Append> {
    let mut left = grant.clone();
    left.permission.actions.retain(|action| !actions.contains(action));
    if left.permission.actions.is_empty() {
        return Ok(remove(grant_key(grant)));
    }
    put(grant_key(grant), &left)
}

fn grant_change<T>(
    action: &'static str,
    permission: &Permission,
    whom: String,
    entries: Vec<Append>,
    result: T,
) -> RightsChange<T> {
    let object = permission.object.to_string();
    let actions: Vec<_> = permission.actions.iter().map(|action| action.as_str()).collect();
    RightsChange {
        entries,
        action,
        object,
        detail: format!("{} {whom}", actions.join(", ")),
        result,
    }
}
