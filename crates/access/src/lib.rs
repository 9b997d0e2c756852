//! Users, roles, grants and credentials. This crate makes access decisions, independent of any
//! protocol.
//!
//! [`Access`] is the handle. Its records are in the store. Decisions use an in-memory directory of
//! the records, which each change replaces. Everything is denied by default, except to the lake's
//! owner. No record, error or audit event contains a secret: tokens are stored as SHA-256 hashes,
//! passwords as Argon2id hashes, and the secrets of access keys encrypted.

mod access;
mod access_key;
mod access_state;
mod access_token;
mod audit;
mod audit_retention;
mod authentication;
mod credential_limit;
mod credential_secret;
mod decision;
mod error;
mod external_login;
mod grant;
mod grant_index;
mod limit;
mod login_limiter;
mod membership;
mod ownership;
mod password;
mod record;
mod restriction;
mod role;
mod user;

pub use access::Access;
pub use access_key::{AccessKeyPair, AccessKeys, NewAccessKey};
pub use audit::{AuditFilter, AuditLog, AuditPage};
pub use audit_retention::AuditRetentionSetting;
pub use authentication::{Credential, CredentialDigest};
pub use decision::{Decision, DecisionReason, DenialReason, depends_on_owner};
pub use error::{Error, Result};
pub use external_login::ExternalLogin;
pub use grant::{grant_all, grant_as_owner, own_grants, revoke_all, revoke_as_owner};
pub use limit::UserLimits;
pub use login_limiter::{LOGIN_RETRY_AFTER, LoginAttempt, LoginLimiter};
pub use membership::{grant_roles, revoke_roles};
pub use ownership::{ObjectChange, change_owned, record_owner};
pub use restriction::TableRestrictions;
pub use user::NewUser;
