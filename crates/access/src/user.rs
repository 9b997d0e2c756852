//! Users: create, list, set password, disable, drop.

use std::collections::BTreeSet;

use headwater_model::{ObjectPattern, Principal, Timestamp, User, UserKind};
use headwater_store::JournalAppend;

use crate::access::RightsChange;
use crate::access_state::AccessState;
use crate::record::{
    UserRecord, check_name, grant_key, key_key, limit_key, owner_key, put, remove, token_key,
    user_key,
};
use crate::restriction::check_unused;
use crate::{Access, Error, Result};

/// A request to create a user.
#[derive(Clone, Default)]
pub struct NewUser {
    /// The name, which no other user or role may have.
    pub name: String,
    /// The kind: a person, or a service account without a password.
    pub kind: UserKind,
    /// The password; `None` if the user logs in only with tokens.
    pub password: Option<String>,
}

impl std::fmt::Debug for NewUser {
    /// Omits the password, which must not be logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewUser").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Access {
    /// Creates a user without any right.
    pub async fn create_user(&self, by: &Principal, new: NewUser) -> Result<User> {
        check_name(&new.name)?;
        if new.kind == UserKind::Service && new.password.is_some() {
            return Err(Error::Password {
                reason: "a service account cannot have a password, only tokens".into(),
            });
        }
        let password = match &new.password {
            Some(password) => Some(self.0.passwords.hash(password).await?),
            None => None,
        };
        let record = UserRecord {
            name: new.name,
            kind: new.kind,
            created: self.0.clock.now(),
            disabled: false,
            password,
            subject: None,
            roles: BTreeSet::new(),
        };
        self.change(by, |directory| {
            if directory.has(&record.name) {
                return Err(Error::Exists { name: record.name.clone() });
            }
            let entries = vec![put(user_key(&record.name), &record)?];
            Ok(user_change("create_user", &record, entries))
        })
        .await
    }

    /// Lists users by name.
    pub fn users(&self) -> Vec<User> {
        self.directory().users.values().map(UserRecord::describe).collect()
    }

    /// Returns a user.
    pub fn user(&self, name: &str) -> Result<User> {
        self.directory().user(name).map(UserRecord::describe)
    }

    /// Sets a user's password, or removes it.
    pub async fn set_password(
        &self,
        by: &Principal,
        name: &str,
        password: Option<&str>,
    ) -> Result<User> {
        if password.is_some() && self.directory().user(name)?.kind == UserKind::Service {
            return Err(Error::Password {
                reason: "a service account cannot have a password, only tokens".into(),
            });
        }
        let hash = match password {
            Some(password) => Some(self.0.passwords.hash(password).await?),
            None => None,
        };
        self.change_user(by, "set_password", name, |user| user.password.clone_from(&hash)).await
    }

    /// Disables or enables a user. The credentials of a disabled user are rejected immediately.
    pub async fn disable_user(&self, by: &Principal, name: &str, disabled: bool) -> Result<User> {
        let action = if disabled { "disable_user" } else { "enable_user" };
        self.change_user(by, action, name, |user| user.disabled = disabled).await
    }

    /// Drops a user with its tokens, access keys, grants, limits and ownership, and the grants that
    /// it made as an owner.
    pub async fn drop_user(&self, by: &Principal, name: &str) -> Result<()> {
        self.change(by, |directory| {
            let user = directory.user(name)?;
            check_unused(directory, name)?;
            let mut entries = vec![remove(user_key(name))];
            entries.extend(grants_of(directory, name));
            let made = directory.grants_by(name).filter(|grant| grant.grantee != name);
            entries.extend(made.map(|grant| remove(grant_key(grant))));
            let tokens = directory.tokens.values().filter(|token| token.token.user == name);
            entries.extend(tokens.map(|token| remove(token_key(&token.token.id))));
            let keys = directory.keys.values().map(|it| &it.key);
            let keys = keys.filter(|key| key.user.as_deref() == Some(name));
            entries.extend(keys.map(|key| remove(key_key(&key.id))));
            let owned = directory.owned_by(name).filter_map(|it| it.parse::<ObjectPattern>().ok());
            entries.extend(owned.map(|object| remove(owner_key(&object))));
            entries.extend(directory.limits.get(name).map(|_| remove(limit_key(name))));
            let RightsChange { action, object, detail, .. } =
                user_change("drop_user", user, Vec::new());
            Ok(RightsChange { entries, action, object, detail, result: () })
        })
        .await
    }

    async fn change_user(
        &self,
        by: &Principal,
        action: &'static str,
        name: &str,
        edit: impl Fn(&mut UserRecord),
    ) -> Result<User> {
        self.change(by, |directory| {
            let mut user = directory.user(name)?.clone();
            edit(&mut user);
            let entries = vec![put(user_key(name), &user)?];
            Ok(user_change(action, &user, entries))
        })
        .await
    }

    /// Returns true if the account of an authenticated principal still exists and is enabled. An
    /// account with the same name but another creation time is a different account.
    pub(crate) fn is_account(directory: &AccessState, name: &str, created: Timestamp) -> bool {
        directory.users.get(name).is_some_and(|user| !user.disabled && user.created == created)
    }
}

fn user_change(
    action: &'static str,
    user: &UserRecord,
    entries: Vec<JournalAppend>,
) -> RightsChange<User> {
    let object = format!("user:{}", user.name);
    RightsChange { entries, action, object, detail: String::new(), result: user.describe() }
}

/// Returns the journal entries that remove the grants of a user or role.
pub(crate) fn grants_of(directory: &AccessState, grantee: &str) -> Vec<JournalAppend> {
    let grants = directory.grants.get(grantee).into_iter().flatten();
    grants.map(|grant| remove(grant_key(grant))).collect()
}
