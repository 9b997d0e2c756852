//! Authorization and authentication of principals.
//!
//! Every operation calls [`Components::authorize`] with the action and the object. An operation
//! without its own action requires [`Components::administer`]. The crate [`headwater_executors`]
//! decides about access and records the decisions in the audit log, both for operations and for
//! jobs.

use std::net::IpAddr;
use std::sync::Arc;

use headwater_access::{Credential, Decision, DenialReason, ExternalLogin};
use headwater_engine::{SessionRights, check_ref};
use headwater_executors::{authorize, table_access, unauthenticated};
use headwater_model::{AccessObject, Action, ErrorCode, Principal, Problem, RefSpec, ResultExt};
use headwater_oidc::is_jwt;

use crate::oidc_login::PresentedToken;
use crate::service::{Components, Service};

impl Components {
    /// Checks that a principal may perform an action on an object, and audits the decision.
    ///
    /// Errors: `unauthenticated`; `forbidden`, with the action and the object.
    pub(crate) fn authorize(
        &self,
        principal: &Principal,
        action: Action,
        object: &AccessObject,
    ) -> Result<(), Problem> {
        authorize(&self.access, principal, action, object)
    }

    /// Checks that a principal may perform an action on an object, and records only a denial. For
    /// operations whose later work checks the right again and records the decision.
    pub(crate) fn check_allowed(
        &self,
        principal: &Principal,
        action: Action,
        object: &AccessObject,
    ) -> Result<(), Problem> {
        if self.allows(principal, action, object) {
            return Ok(());
        }
        self.authorize(principal, action, object)
    }

    /// Checks that a principal may read the lake's state at a ref, and records only a denial.
    ///
    /// Errors: `unauthenticated`; `forbidden`, even if the ref does not exist.
    pub(crate) async fn check_ref(
        &self,
        principal: &Principal,
        reference: &RefSpec,
    ) -> Result<(), Problem> {
        let Some(access) = self.table_access(principal) else { return Ok(()) };
        check_ref(&self.lake, access.as_ref(), reference).await
    }

    /// Like [`Components::check_ref`], but also records that access was allowed.
    pub(crate) async fn authorize_ref(
        &self,
        principal: &Principal,
        reference: &RefSpec,
    ) -> Result<(), Problem> {
        self.check_ref(principal, reference).await?;
        let (action, object) = (Action::Read, AccessObject::reference(reference));
        if self.allows(principal, action, &object) {
            self.authorize(principal, action, &object)?;
        }
        Ok(())
    }

    /// Checks that a principal has all rights. Used for operations without an action of their own.
    pub(crate) fn administer(&self, principal: &Principal) -> Result<(), Problem> {
        self.authorize(principal, Action::Administer, &AccessObject::lake())
    }

    /// Checks that a principal is the lake's owner or a valid user. For operations that filter
    /// their results by the principal's rights.
    ///
    /// Errors: `unauthenticated`.
    pub(crate) fn authenticated(&self, principal: &Principal) -> Result<(), Problem> {
        let probe = self.access.decide(principal, Action::Administer, &AccessObject::lake());
        match probe {
            Decision::Denied(denial @ (DenialReason::Unauthenticated | DenialReason::Invalid)) => {
                Err(unauthenticated(denial))
            }
            _ => Ok(()),
        }
    }

    /// Returns true if a principal may perform an action on an object. Used to filter lists; the
    /// decision is not recorded.
    pub(crate) fn allows(
        &self,
        principal: &Principal,
        action: Action,
        object: &AccessObject,
    ) -> bool {
        self.access.decide(principal, action, object).is_allowed()
    }

    /// Returns true if a principal has all rights, including the right to see every name.
    pub(crate) fn is_unlimited(&self, principal: &Principal) -> bool {
        self.allows(principal, Action::Administer, &AccessObject::lake())
    }

    /// Removes suggestions from an error, because they can contain names that the principal must
    /// not see.
    pub(crate) fn conceal(&self, principal: &Principal, mut problem: Problem) -> Problem {
        use ErrorCode::{NamespaceNotFound, RefNotFound, TableNotFound};
        let names = matches!(problem.code, NamespaceNotFound | RefNotFound | TableNotFound);
        if names && !self.is_unlimited(principal) {
            problem.hint = None;
            problem.context.clear();
        }
        problem
    }

    /// Returns the access checks for the tables of a principal's session; `None` for the owner of a
    /// lake without users.
    pub(crate) fn table_access(&self, principal: &Principal) -> Option<Arc<dyn SessionRights>> {
        table_access(&self.access, principal, None)
    }
}

impl Service {
    /// Authenticates a client by a token: the server's token, an access token, or a token of the
    /// OpenID provider. Also accepts a user name with the user's password or token. The server's
    /// token authenticates the owner, with any user name. The audit log records the address.
    ///
    /// Errors: `unauthenticated`, with the same message for every invalid credential; `too_busy`.
    pub async fn authenticate(
        &self,
        credential: Credential<'_>,
        address: Option<IpAddr>,
    ) -> Result<Principal, Problem> {
        let components = self.shared();
        let (Credential::Token(shown) | Credential::Password { password: shown, .. }) = credential;
        if components.is_owner_token(shown) {
            return Ok(Principal::owner().with_address(address));
        }
        if is_jwt(shown) {
            let user = match credential {
                Credential::Token(_) => None,
                Credential::Password { user, .. } => Some(user),
            };
            let (access, clock) = (&components.access, components.lake.clock().clone());
            // A token is never a password: computing its hash would delay other logins.
            let Some(oidc) = &components.oidc else {
                return Err(ExternalLogin::refused(access, user, address)).or_problem();
            };
            let shown = PresentedToken { token: shown, user, address };
            return oidc.authenticate(access, &*clock, shown).await;
        }
        components.access.authenticate(credential, address).await.or_problem()
    }

    /// Checks that a principal may shut the server down.
    pub fn authorize_shutdown(&self, principal: &Principal) -> Result<(), Problem> {
        self.shared().administer(principal)
    }

    /// Returns true if any user exists. Until the first user is created, a server without
    /// authentication treats every client as the owner.
    pub fn has_users(&self) -> bool {
        self.shared().access.has_users()
    }
}
