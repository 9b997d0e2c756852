//! Grants: list, grant, revoke, explain. A user may list and explain its own.

use std::sync::Arc;

use headwater_model::{
    AccessExplanation, Action, Grant, GrantRequest, Object, ObjectKind, Permission, Principal,
    Problem, ResultExt, TableName,
};

use crate::service::Components;

/// Operations on grants.
#[derive(Clone)]
pub struct Grants(pub(crate) Arc<Components>);

impl Grants {
    /// Lists the grants of a user or role, or all grants, by grantee and object.
    pub fn list(
        &self,
        principal: &Principal,
        grantee: Option<&str>,
    ) -> Result<Vec<Grant>, Problem> {
        self.check_subject(principal, grantee)?;
        Ok(self.0.access.grants(grantee))
    }

    /// Grants actions to a user or role, in addition to its existing actions on the same objects.
    pub async fn grant(
        &self,
        principal: &Principal,
        request: GrantRequest,
    ) -> Result<Grant, Problem> {
        self.0.administer(principal)?;
        let GrantRequest { grantee, actions, object } = request;
        let permission = Permission { actions, object };
        self.0.access.grant(principal, &grantee, permission).await.or_problem()
    }

    /// Revokes actions of a grant on the same objects. Fails if none of them is granted.
    pub async fn revoke(
        &self,
        principal: &Principal,
        request: GrantRequest,
    ) -> Result<(), Problem> {
        self.0.administer(principal)?;
        let GrantRequest { grantee, actions, object } = request;
        let permission = Permission { actions, object };
        self.0.access.revoke(principal, &grantee, permission).await.or_problem()
    }

    /// Explains if a user may perform an action on an object, with the grant that decides.
    pub fn explain(
        &self,
        principal: &Principal,
        user: &str,
        action: Action,
        object: &Object,
    ) -> Result<AccessExplanation, Problem> {
        self.check_subject(principal, Some(user))?;
        let decision = self.0.access.explain(user, action, object).or_problem()?;
        let restrictions = match object.kind() {
            ObjectKind::Table => self.0.restrictions_of(user, object)?,
            _ => Vec::new(),
        };
        Ok(AccessExplanation {
            user: user.to_owned(),
            action,
            object: object.to_string(),
            allowed: decision.is_allowed(),
            reason: decision.to_string(),
            restrictions,
        })
    }

    /// Checks that a principal may see the rights of a user or role; of all if `name` is `None`.
    fn check_subject(&self, principal: &Principal, name: Option<&str>) -> Result<(), Problem> {
        self.0.authenticated(principal)?;
        if name.is_some() && principal.user_name() == name {
            return Ok(());
        }
        self.0.administer(principal)
    }
}

impl Components {
    /// Returns the row filters and column masks of a table that apply to a user.
    fn restrictions_of(&self, user: &str, table: &Object) -> Result<Vec<String>, Problem> {
        let name: TableName = table.name().parse().or_problem()?;
        let found = self.restrictions().explain(user, &name).or_problem()?;
        Ok(found.iter().map(ToString::to_string).collect())
    }
}
