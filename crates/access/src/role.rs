//! Roles: create, list, drop, grant to users and roles, revoke.

use headwater_model::{Principal, Role};
use headwater_store::JournalAppend;

use crate::access::RightsChange;
use crate::access_state::AccessState;
use crate::record::{check_name, limit_key, put, remove, role_key, user_key};
use crate::restriction::check_unused;
use crate::user::grants_of;
use crate::{Access, Error, Result};

impl Access {
    /// Creates a role without any right.
    pub async fn create_role(&self, by: &Principal, name: &str) -> Result<Role> {
        check_name(name)?;
        let role = Role { name: name.to_owned(), created: self.0.clock.now(), roles: Vec::new() };
        self.change(by, |directory| {
            if directory.has(name) {
                return Err(Error::Exists { name: name.to_owned() });
            }
            let entries = vec![put(role_key(name), &role)?];
            Ok(role_change("create_role", name, entries, role.clone()))
        })
        .await
    }

    /// Lists roles by name.
    pub fn roles(&self) -> Vec<Role> {
        self.directory().roles.values().cloned().collect()
    }

    /// Drops a role with its grants, and revokes it from all users and roles.
    ///
    /// Errors: a row filter or column mask names the role.
    pub async fn drop_role(&self, by: &Principal, name: &str) -> Result<()> {
        self.change(by, |directory| {
            directory.role(name)?;
            check_unused(directory, name)?;
            let mut entries = vec![remove(role_key(name))];
            entries.extend(grants_of(directory, name));
            entries.extend(directory.limits.get(name).map(|_| remove(limit_key(name))));
            let users = directory.users.keys().chain(directory.roles.keys());
            for member in users.filter(|member| *member != name) {
                entries.extend(membership(directory, member, name, false)?);
            }
            Ok(role_change("drop_role", name, entries, ()))
        })
        .await
    }

    /// Grants a role to a user or role. Granting it again changes nothing.
    pub async fn grant_role(&self, by: &Principal, role: &str, grantee: &str) -> Result<()> {
        self.change(by, |directory| {
            directory.role(role)?;
            if directory.with_roles(role).contains(grantee) {
                return Err(Error::Cycle { role: role.to_owned(), grantee: grantee.to_owned() });
            }
            let entries = membership(directory, grantee, role, true)?.into_iter().collect();
            let change = role_change("grant_role", role, entries, ());
            Ok(RightsChange { detail: format!("to {grantee}"), ..change })
        })
        .await
    }

    /// Revokes a role from a user or role.
    ///
    /// Errors: `invalid_argument` if the role was not granted directly to the user or role.
    pub async fn revoke_role(&self, by: &Principal, role: &str, grantee: &str) -> Result<()> {
        self.change(by, |directory| {
            directory.role(role)?;
            let Some(entry) = membership(directory, grantee, role, false)? else {
                let what = format!("role `{role}`");
                return Err(Error::NotGranted { what, grantee: grantee.to_owned() });
            };
            let change = role_change("revoke_role", role, vec![entry], ());
            Ok(RightsChange { detail: format!("from {grantee}"), ..change })
        })
        .await
    }
}

/// Returns the journal entry that adds a role to a grantee, or removes it; `None` if nothing
/// changes.
fn membership(
    directory: &AccessState,
    grantee: &str,
    role: &str,
    is_member: bool,
) -> Result<Option<JournalAppend>> {
    if let Some(user) = directory.users.get(grantee) {
        let mut user = user.clone();
        let changed =
            if is_member { user.roles.insert(role.to_owned()) } else { user.roles.remove(role) };
        return if changed { put(user_key(grantee), &user).map(Some) } else { Ok(None) };
    }
    let found = directory.roles.get(grantee);
    let mut found = found.cloned().ok_or_else(|| Error::NoGrantee { name: grantee.to_owned() })?;
    if found.roles.iter().any(|one| one == role) == is_member {
        return Ok(None);
    }
    found.roles.retain(|one| one != role);
    if is_member {
        found.roles.push(role.to_owned());
        found.roles.sort_unstable();
    }
    put(role_key(grantee), &found).map(Some)
}

fn role_change<T>(
    action: &'static str,
    name: &str,
    entries: Vec<JournalAppend>,
    result: T,
) -> RightsChange<T> {
    RightsChange { entries, action, object: format!("role:{name}"), detail: String::new(), result }
}
