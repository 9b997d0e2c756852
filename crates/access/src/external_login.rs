//! Users authenticated by an identity provider.
//!
//! At its first login, a user is bound to one person at the provider, by the person's permanent id.
//! Later, another person with the same name is rejected.

use std::collections::BTreeSet;
use std::net::IpAddr;

use headwater_model::{
    AuditOutcome, AuthMethod, AuthenticatedUser, Principal, Timestamp, UserKind,
};

use crate::access::RightsChange;
use crate::access_state::AccessState;
use crate::record::{UserRecord, check_name, put, user_key};
use crate::{Access, Error, Result};

/// The login of a person that an identity provider has authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalLogin {
    /// The user's name.
    pub user: String,
    /// The provider, and the person's permanent id at this provider.
    pub subject: String,
    /// The expiry time of the credential.
    pub expires: Timestamp,
    /// The roles that the provider manages. Other roles of the user are kept.
    pub managed_roles: BTreeSet<String>,
    /// The managed roles that the person has.
    pub roles: BTreeSet<String>,
    /// True to create a missing user at login.
    pub creates_user: bool,
}

impl ExternalLogin {
    /// Returns the principal of a person authenticated by an identity provider. The first login
    /// creates or binds the user. Each login updates the user's managed roles, and is recorded in
    /// the audit log.
    ///
    /// Errors: [`Error::InvalidCredential`] if the user does not exist, is disabled, is a service
    /// account, or is bound to another person.
    pub async fn log_in(&self, access: &Access, address: Option<IpAddr>) -> Result<Principal> {
        let now = access.0.clock.now();
        let Some(user) = self.changed(&access.directory(), now) else {
            return Err(Self::refused(access, Some(&self.user), address));
        };
        let change = |directory: &AccessState| {
            let user = self.changed(directory, now).ok_or(Error::InvalidCredential)?;
            let is_known = directory.users.get(&user.name).is_some_and(|known| *known == user);
            let entries =
                if is_known { Vec::new() } else { vec![put(user_key(&user.name), &user)?] };
            let roles: Vec<&str> = user.roles.iter().map(String::as_str).collect();
            let detail = format!("as {}; roles: {}", self.subject, roles.join(", "));
            let object = format!("user:{}", user.name);
            Ok(RightsChange { entries, action: "external_login", object, detail, result: user })
        };
        let user = access.change(&self.principal(&user, address), change).await?;
        let principal = self.principal(&user, address);
        let audit = access.audit();
        audit.record(audit.event(&principal, "login", "lake", AuditOutcome::Allowed));
        Ok(principal)
    }

    /// Returns the principal of a person whose credential was verified recently. Does not change
    /// the user.
    ///
    /// Errors: [`Error::InvalidCredential`] if the user is disabled or not bound to that
    /// person.
    pub fn resume(&self, access: &Access, address: Option<IpAddr>) -> Result<Principal> {
        let directory = access.directory();
        let user = directory.users.get(&self.user).filter(|user| self.is_of(user));
        let is_current = access.0.clock.now() < self.expires;
        match user.filter(|user| user.subject.is_some() && is_current) {
            Some(user) => Ok(self.principal(user, address)),
            None => Err(Self::refused(access, Some(&self.user), address)),
        }
    }

    /// Records a rejected login through an identity provider, and returns the error for the client.
    pub fn refused(access: &Access, user: Option<&str>, address: Option<IpAddr>) -> Error {
        let known = user.filter(|name| access.directory().users.contains_key(*name));
        access.0.audit.failed_login(known, AuthMethod::Oidc, address);
        Error::InvalidCredential
    }

    fn principal(&self, user: &UserRecord, address: Option<IpAddr>) -> Principal {
        let user = AuthenticatedUser {
            name: user.name.clone(),
            created: user.created,
            method: AuthMethod::Oidc,
            token: None,
            scopes: None,
            expires: Some(self.expires),
        };
        Principal::user(user).with_address(address)
    }

    /// Returns the user's record after this login; `None` if the person may not log in.
    fn changed(&self, directory: &AccessState, now: Timestamp) -> Option<UserRecord> {
        let mut user = match directory.users.get(&self.user) {
            Some(user) => user.clone(),
            None if self.creates_user && can_create(directory, &self.user) => UserRecord {
                name: self.user.clone(),
                kind: UserKind::Person,
                created: now,
                disabled: false,
                password: None,
                subject: None,
                roles: BTreeSet::new(),
            },
            None => return None,
        };
        if !self.is_of(&user) {
            return None;
        }
        user.subject = Some(self.subject.clone());
        user.roles.retain(|role| !self.managed_roles.contains(role));
        let known = self.roles.iter().filter(|role| directory.roles.contains_key(*role));
        user.roles.extend(known.cloned());
        Some(user)
    }

    /// Returns true if a user is enabled, no service account, and bound to this person or not bound
    /// yet.
    fn is_of(&self, user: &UserRecord) -> bool {
        let is_bound = user.subject.as_ref().is_none_or(|subject| *subject == self.subject);
        is_bound && !user.disabled && user.kind == UserKind::Person
    }
}

fn can_create(directory: &AccessState, name: &str) -> bool {
    check_name(name).is_ok() && !directory.has(name)
}
