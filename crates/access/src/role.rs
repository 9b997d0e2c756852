//! Roles: create, list, drop, grant to users and roles, revoke.

use headwater_model::{Principal, Role};
use headwater_store::JournalAppend;

use crate::access::RightsChange;
use crate::membership::{grant_roles, revoke_roles, set_member};
use crate::record::{check_name, limit_key, put, remove, role_key};
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
            let mut changed = directory.members();
            let users = directory.users.keys().chain(directory.roles.keys());
            for member in users.filter(|member| *member != name) {
                entries.extend(set_member(&mut changed, member, name, false)?);
            }
            Ok(role_change("drop_role", name, entries, ()))
        })
        .await
    }

    /// Grants a role to a user or role; see [`grant_roles`].
    pub async fn grant_role(&self, by: &Principal, role: &str, grantee: &str) -> Result<()> {
        grant_roles(self, by, &[role.to_owned()], &[grantee.to_owned()]).await
    }

    /// Revokes a role from a user or role; see [`revoke_roles`].
    pub async fn revoke_role(&self, by: &Principal, role: &str, grantee: &str) -> Result<()> {
        revoke_roles(self, by, &[role.to_owned()], &[grantee.to_owned()]).await
    }
}

fn role_change<T>(
    action: &'static str,
    name: &str,
    entries: Vec<JournalAppend>,
    result: T,
) -> RightsChange<T> {
    RightsChange { entries, action, object: format!("role:{name}"), detail: String::new(), result }
}
