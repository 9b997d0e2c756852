//! Users, access tokens, roles and grants: the operations of access control, grouped by noun.

use std::sync::Arc;

use headwater_access::{Access, CredentialDigest};
use headwater_model::{Principal, Problem};

use crate::access_key::AccessKeys;
use crate::grant::Grants;
use crate::limit::LimitOperations;
use crate::restriction::RestrictionOperations;
use crate::role::Roles;
use crate::service::Components;
use crate::token::Tokens;
use crate::user::Users;

/// Operations on users and their rights, grouped by noun.
#[derive(Clone)]
pub struct AccessControl(pub(crate) Arc<Components>);

impl AccessControl {
    /// Returns the operations on users.
    pub fn users(&self) -> Users {
        Users(self.0.clone())
    }

    /// Returns the operations on access tokens.
    pub fn tokens(&self) -> Tokens {
        Tokens(self.0.clone())
    }

    /// Returns the operations on access keys.
    pub fn access_keys(&self) -> AccessKeys {
        AccessKeys(self.0.clone())
    }

    /// Returns the operations on roles.
    pub fn roles(&self) -> Roles {
        Roles(self.0.clone())
    }

    /// Returns the operations on grants.
    pub fn grants(&self) -> Grants {
        Grants(self.0.clone())
    }

    /// Returns the operations on row filters and column masks.
    pub fn restrictions(&self) -> RestrictionOperations {
        RestrictionOperations(self.0.clone())
    }

    /// Returns the operations on limits.
    pub fn limits(&self) -> LimitOperations {
        LimitOperations(self.0.clone())
    }

    /// Returns the users, roles, grants and tokens, and the audit log.
    ///
    /// Errors: `unauthenticated`; `forbidden` unless the principal is the owner or an
    /// administrator.
    pub fn registry(&self, principal: &Principal) -> Result<Access, Problem> {
        self.0.administer(principal)?;
        Ok(self.0.access.clone())
    }

    /// Returns the state of the credential with which a principal began its session.
    ///
    /// Errors: `unauthenticated` if the account or its token is no longer valid.
    pub fn credential_state(&self, principal: &Principal) -> Result<CredentialDigest, Problem> {
        self.0.authenticated(principal)?;
        Ok(CredentialDigest::of(&self.0.access, principal))
    }
}
