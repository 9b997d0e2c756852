//! Roles: list, create, drop, grant to users and roles, revoke. Administrators only.

use std::sync::Arc;

use headwater_access::{grant_roles, revoke_roles};
use headwater_model::{CreateRole, Principal, Problem, ResultExt, Role};

use crate::service::Components;

/// Operations on roles.
#[derive(Clone)]
pub struct Roles(pub(crate) Arc<Components>);

impl Roles {
    /// Lists roles by name.
    pub fn list(&self, principal: &Principal) -> Result<Vec<Role>, Problem> {
        self.0.administer(principal)?;
        Ok(self.0.access.roles())
    }

    /// Creates a role without any right.
    pub async fn create(
        &self,
        principal: &Principal,
        request: CreateRole,
    ) -> Result<Role, Problem> {
        self.0.administer(principal)?;
        self.0.access.create_role(principal, &request.name).await.or_problem()
    }

    /// Drops a role with its grants, and revokes it from all users and roles.
    pub async fn delete(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.0.administer(principal)?;
        self.0.access.drop_role(principal, name).await.or_problem()
    }

    /// Grants a role to a user or role. Granting it again changes nothing.
    pub async fn grant(
        &self,
        principal: &Principal,
        role: &str,
        grantee: &str,
    ) -> Result<(), Problem> {
        self.0.administer(principal)?;
        self.0.access.grant_role(principal, role, grantee).await.or_problem()
    }

    /// Revokes a role from a grantee, which is a user or another role. Fails if the grantee does
    /// not have the role.
    pub async fn revoke(
        &self,
        principal: &Principal,
        role: &str,
        grantee: &str,
    ) -> Result<(), Problem> {
        self.0.administer(principal)?;
        self.0.access.revoke_role(principal, role, grantee).await.or_problem()
    }

    /// Grants each of the roles to each of the users and roles, in one change.
    pub(crate) async fn grant_all(
        &self,
        principal: &Principal,
        roles: &[String],
        grantees: &[String],
    ) -> Result<(), Problem> {
        self.0.administer(principal)?;
        grant_roles(&self.0.access, principal, roles, grantees).await.or_problem()
    }

    /// Revokes each of the roles from each of the users and roles, in one change.
    pub(crate) async fn revoke_all(
        &self,
        principal: &Principal,
        roles: &[String],
        grantees: &[String],
    ) -> Result<(), Problem> {
        self.0.administer(principal)?;
        revoke_roles(&self.0.access, principal, roles, grantees).await.or_problem()
    }
}
