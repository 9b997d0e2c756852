//! Limits: set, list, remove, and resolve for a user.

use headwater_model::{Limit, Limits, Principal};

use crate::access::RightsChange;
use crate::access_state::AccessState;
use crate::record::{limit_key, put, remove};
use crate::{Access, Error, Result};

/// The limits of users and roles.
///
/// Each value, such as the memory or the number of jobs, is resolved separately. The user's own
/// limit takes precedence. Without one, the highest limit of the user's roles applies, so a role
/// can only raise a limit.
pub struct UserLimits<'a>(&'a Access);

impl<'a> UserLimits<'a> {
    /// Creates a handle to the limits.
    pub fn of(access: &'a Access) -> Self {
        UserLimits(access)
    }

    /// Sets the limits of a user or role, and replaces all its existing limits.
    ///
    /// Errors: `invalid_argument` if the name is unknown, no limit is given, or a value is invalid.
    pub async fn set(&self, by: &Principal, name: &str, limits: Limits) -> Result<Limit> {
        check(&limits)?;
        let changed = self.0.0.clock.now();
        let limit = Limit { name: name.to_owned(), limits, changed, by: by.author().to_owned() };
        self.0
            .change(by, |directory| {
                if !directory.has(name) {
                    return Err(Error::NoGrantee { name: name.to_owned() });
                }
                let entries = vec![put(limit_key(name), &limit)?];
                Ok(RightsChange {
                    entries,
                    action: "set_limit",
                    object: object(directory, name),
                    detail: describe(&limits),
                    result: limit.clone(),
                })
            })
            .await
    }

    /// Removes the limits of a user or role.
    ///
    /// Errors: `invalid_argument` if the user or role has no limits.
    pub async fn remove(&self, by: &Principal, name: &str) -> Result<()> {
        self.0
            .change(by, |directory| {
                if !directory.limits.contains_key(name) {
                    return Err(Error::NoLimit { name: name.to_owned() });
                }
                Ok(RightsChange {
                    entries: vec![remove(limit_key(name))],
                    action: "remove_limit",
                    object: object(directory, name),
                    detail: String::new(),
                    result: (),
                })
            })
            .await
    }

    /// Lists the limits by name.
    pub fn list(&self) -> Vec<Limit> {
        self.0.directory().limits.values().cloned().collect()
    }

    /// Returns the limits set for a user or role.
    ///
    /// Errors: `invalid_argument` if no limits were set.
    pub fn get(&self, name: &str) -> Result<Limit> {
        let found = self.0.directory().limits.get(name).cloned();
        found.ok_or_else(|| Error::NoLimit { name: name.to_owned() })
    }

    /// Lists the limits set for a user and for its roles, by name.
    pub fn on(&self, user: &str) -> Vec<Limit> {
        let directory = self.0.directory();
        let names = directory.with_roles(user).into_iter();
        names.filter_map(|name| directory.limits.get(&name).cloned()).collect()
    }

    /// Returns the effective limits of a user.
    pub fn effective(&self, user: &str) -> Limits {
        let directory = self.0.directory();
        if directory.limits.is_empty() {
            return Limits::default();
        }
        let own = directory.limits.get(user).map(|limit| limit.limits).unwrap_or_default();
        let roles = directory.role_names(user).into_iter();
        let of_roles = roles.filter_map(|role| directory.limits.get(role));
        own.or(of_roles.fold(Limits::default(), |highest, limit| highest.max(limit.limits)))
    }
}

/// Checks the values of new limits.
fn check(limits: &Limits) -> Result<()> {
    let reason = match limits {
        limits if limits.is_empty() => "no limit is set",
        Limits { jobs: Some(0), .. } => "the number of jobs is 0",
        Limits { memory_bytes: Some(0), .. } => "the memory is 0",
        Limits { money_per_day: Some(money), .. } if !money.is_finite() || *money < 0.0 => {
            "the amount of money is negative or not a number"
        }
        _ => return Ok(()),
    };
    Err(Error::Limit { reason })
}

/// Returns the name of a user or role with its kind, such as `user:ana`, for the audit log.
fn object(directory: &AccessState, name: &str) -> String {
    let kind = if directory.users.contains_key(name) { "user" } else { "role" };
    format!("{kind}:{name}")
}

/// Formats limits for an audit event.
fn describe(limits: &Limits) -> String {
    let Limits { jobs, memory_bytes, bytes_per_day, money_per_day } = limits;
    let values = [
        jobs.map(|jobs| format!("jobs {jobs}")),
        memory_bytes.map(|bytes| format!("memory_bytes {bytes}")),
        bytes_per_day.map(|bytes| format!("bytes_per_day {bytes}")),
        money_per_day.map(|money| format!("money_per_day {money}")),
    ];
    values.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
