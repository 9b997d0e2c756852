//! Users, access tokens, roles and grants: the nouns of access control.

use std::net::IpAddr;
use std::sync::Arc;

use headwater_access::{Access, Credential};
use headwater_model::{OrProblem, Principal, Problem};

use crate::grant::Grants;
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

    /// Returns the operations on roles.
    pub fn roles(&self) -> Roles {
        Roles(self.0.clone())
    }

    /// Returns the operations on grants.
    pub fn grants(&self) -> Grants {
        Grants(self.0.clone())
    }

    /// Authenticates a client like [`Service::authenticate`](crate::Service::authenticate). The
    /// audit log records its address.
    pub async fn authenticate(
        &self,
        credential: Credential<'_>,
        address: Option<IpAddr>,
    ) -> Result<Principal, Problem> {
        let (Credential::Token(shown) | Credential::Password { password: shown, .. }) = credential;
        if self.0.is_owner_token(shown) {
            return Ok(Principal::owner().with_address(address));
        }
        self.0.access.authenticate(credential, address).await.or_problem()
    }

    /// Returns the users, roles, grants and tokens, and the audit log.
    ///
    /// Errors: `unauthenticated`, `forbidden`: only the owner and administrators may use them.
    pub fn registry(&self, principal: &Principal) -> Result<Access, Problem> {
        self.0.administer(principal)?;
        Ok(self.0.access.clone())
    }
}
