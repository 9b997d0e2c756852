//! Records in the store.
//!
//! | kind | name | value |
//! |---|---|---|
//! | journal `access` | `user/NAME` | [`UserRecord`] |
//! | journal `access` | `role/NAME` | [`Role`](headwater_model::Role) |
//! | journal `access` | `grant/GRANTEE/OBJECT` | [`Grant`](headwater_model::Grant) |
//! | journal `access` | `owner_grant/OWNER/GRANTEE/OBJECT` | [`Grant`](headwater_model::Grant) |
//! | journal `access` | `token/ID` | [`AccessTokenRecord`] |
//! | journal `access` | `key/ID` | [`AccessKeyRecord`] |
//! | journal `access` | `owner/OBJECT` | [`OwnerRecord`] |
//! | journal `access` | `limit/NAME` | [`Limit`](headwater_model::Limit) |
//! | journal `access` | `audit/retention` | [`AuditRetention`](headwater_model::AuditRetention) |
//! | journal `access` | `restriction/NAME` | [`Restriction`](headwater_model::Restriction) |
//! | journal `access-used` | `ID` | the time of the last use of a token or access key |
//! | ref `access/version` | | a number that every change increments |
//!
//! A change is one batch with a compare-and-swap of the version, so it fails if the records have
//! changed since they were checked.

use std::collections::BTreeSet;

use headwater_model::{
    AccessKey, AccessToken, Grant, ObjectId, ObjectPattern, Timestamp, User, UserKind,
};
use headwater_store::JournalAppend;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Name of the journal that holds the records.
pub(crate) const JOURNAL: &str = "access";

/// Name of the journal with the times of last use, which are written without fsync.
pub(crate) const USED_JOURNAL: &str = "access-used";

/// The name of the ref that holds the version of all records.
pub(crate) const VERSION: &str = "access/version";

/// The key of the record with the audit retention.
pub(crate) const AUDIT_RETENTION: &str = "audit/retention";

/// The kind of the records of grants that owners made.
pub(crate) const OWNER_GRANT: &str = "owner_grant";

/// Maximum length of the name of a user or role, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Names that are not allowed for users and roles.
const RESERVED: [&str; 6] = ["owner", "anonymous", "public", "system", "all", "none"];

/// A stored user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserRecord {
    pub(crate) name: String,
    pub(crate) kind: UserKind,
    pub(crate) created: Timestamp,
    pub(crate) disabled: bool,
    /// The Argon2id hash; `None` if the user has no password.
    pub(crate) password: Option<String>,
    /// The person at an identity provider to whom the user is bound, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    pub(crate) roles: BTreeSet<String>,
}

impl UserRecord {
    /// Returns the user without the password hash.
    pub(crate) fn describe(&self) -> User {
        User {
            name: self.name.clone(),
            kind: self.kind,
            created: self.created,
            disabled: self.disabled,
            has_password: self.password.is_some(),
            subject: self.subject.clone(),
            roles: self.roles.iter().cloned().collect(),
        }
    }
}

/// A stored access token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AccessTokenRecord {
    pub(crate) token: AccessToken,
    /// SHA-256 of the secret.
    pub(crate) hash: ObjectId,
}

/// A stored access key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AccessKeyRecord {
    pub(crate) key: AccessKey,
    /// The encrypted secret.
    pub(crate) sealed: String,
}

/// The owner of an object: the user that created it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OwnerRecord {
    pub(crate) object: ObjectPattern,
    pub(crate) user: String,
}

pub(crate) fn user_key(name: &str) -> String {
    format!("user/{name}")
}

pub(crate) fn role_key(name: &str) -> String {
    format!("role/{name}")
}

/// Returns the key of a grant. The keys of grants by owners have another prefix. A release that
/// does not support these grants therefore rejects the records. Otherwise, it would apply the
/// grants to the objects of all users.
pub(crate) fn grant_key(grant: &Grant) -> String {
    let Grant { grantee, permission, owner, .. } = grant;
    match owner {
        None => format!("grant/{grantee}/{}", permission.object),
        Some(owner) => format!("{OWNER_GRANT}/{}/{grantee}/{}", owner.user, permission.object),
    }
}

pub(crate) fn token_key(id: &str) -> String {
    format!("token/{id}")
}

pub(crate) fn key_key(id: &str) -> String {
    format!("key/{id}")
}

pub(crate) fn owner_key(object: &ObjectPattern) -> String {
    format!("owner/{object}")
}

pub(crate) fn limit_key(name: &str) -> String {
    format!("limit/{name}")
}

pub(crate) fn restriction_key(name: &str) -> String {
    format!("restriction/{name}")
}

/// Returns the journal entry that stores a record.
pub(crate) fn put(key: String, record: &impl Serialize) -> Result<JournalAppend> {
    let value = serde_json::to_vec(record).map_err(|_| Error::Corrupt { key: key.clone() })?;
    Ok(JournalAppend::put(JOURNAL, key, value.into()))
}

/// Returns the journal entry that removes a record.
pub(crate) fn remove(key: String) -> JournalAppend {
    JournalAppend::tombstone(JOURNAL, key)
}

/// Checks the name of a new user or role.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fail = |reason| Err(Error::Name { name: name.to_owned(), reason });
    if name.is_empty() {
        return fail("the name is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return fail("the name is longer than 128 bytes");
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return fail("the name must begin with a letter, a digit or an underscore");
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-@".contains(c)) {
        return fail("the name can have only letters, digits, `.`, `_`, `-` and `@`");
    }
    if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return fail("the name is reserved");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_not_reserved() {
        for name in ["ana", "ana@example.com", "ci-bot", "_x", "2nd", "a.b"] {
            check_name(name).expect(name);
        }
        let long = "x".repeat(129);
        for name in ["", "a/b", "a b", "-a", "é", "owner", "Public", "a:b", "a\n", "*", &long] {
            check_name(name).expect_err(name);
        }
    }
}
