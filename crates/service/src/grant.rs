//! Grants: list, grant, revoke, explain. Users may list and explain their own grants, and owners
//! grant rights on their objects.

use std::sync::Arc;

use headwater_executors::{ObjectGrants, is_change};
use headwater_model::{
    AccessExplanation, AccessObject, Action, Grant, GrantRequest, ObjectKind, Principal, Problem,
    RefSpec, ResultExt, TableName,
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
        self.grant_all(principal, &[request]).await.map(|mut granted| granted.remove(0))
    }

    /// Grants actions to users and roles in one change.
    pub(crate) async fn grant_all(
        &self,
        principal: &Principal,
        requests: &[GrantRequest],
    ) -> Result<Vec<Grant>, Problem> {
        self.0.object_grants().grant_all(principal, requests).await
    }

    /// Revokes actions of a grant on the same objects. Fails if none of the actions is granted.
    pub async fn revoke(
        &self,
        principal: &Principal,
        request: GrantRequest,
    ) -> Result<(), Problem> {
        self.revoke_all(principal, &[request]).await
    }

    /// Revokes actions of grants in one change.
    pub(crate) async fn revoke_all(
        &self,
        principal: &Principal,
        requests: &[GrantRequest],
    ) -> Result<(), Problem> {
        self.0.object_grants().revoke_all(principal, requests).await
    }

    /// Explains whether a user may perform an action on an object, and which grant, row filter or
    /// column mask decides.
    pub async fn explain(
        &self,
        principal: &Principal,
        user: &str,
        action: Action,
        object: &AccessObject,
    ) -> Result<AccessExplanation, Problem> {
        self.check_subject(principal, Some(user))?;
        let stored = self.0.object_grants().stored(object).await;
        let decision = self.0.access.explain(user, action, &stored).or_problem()?;
        let (granted, mut reason) = (decision.is_allowed(), decision.to_string());
        let restrictions = match object.kind() {
            ObjectKind::Table => self.0.restrictions_of(user, object, granted).await?,
            _ => Vec::new(),
        };
        let forbidden = granted && is_change(action) && !restrictions.is_empty();
        if forbidden {
            reason = restrictions.join(", ");
        }
        Ok(AccessExplanation {
            user: user.to_owned(),
            action,
            object: object.to_string(),
            allowed: granted && !forbidden,
            reason,
            restrictions,
        })
    }

    /// Checks that a principal may see the rights of the user or role `name`. If `name` is `None`,
    /// checks that the principal may see the rights of all users and roles.
    fn check_subject(&self, principal: &Principal, name: Option<&str>) -> Result<(), Problem> {
        self.0.authenticated(principal)?;
        if name.is_some() && principal.user_name() == name {
            return Ok(());
        }
        self.0.administer(principal)
    }
}

impl Components {
    /// Returns the grants on the objects of the lake.
    fn object_grants(&self) -> ObjectGrants<'_> {
        let (access, lake, functions) = (&self.access, &self.lake, &self.catalog);
        ObjectGrants { access, lake, functions, deployed: self.deployer.deployed() }
    }

    /// Returns the row filters and column masks of a table on `main` that apply to a user. If the
    /// table was renamed, finds its restrictions only if the user has a grant on the new name.
    async fn restrictions_of(
        &self,
        user: &str,
        table: &AccessObject,
        granted: bool,
    ) -> Result<Vec<String>, Problem> {
        let name: TableName = table.name().parse().or_problem()?;
        let view = self.lake.view(&RefSpec::main()).await.or_problem()?;
        let entry = view.state().table(&name).await.or_problem()?.filter(|_| granted);
        let id = entry.as_ref().map(|entry| entry.id.as_str());
        let found = self.restrictions().explain(user, &name, id).or_problem()?;
        Ok(found.iter().map(ToString::to_string).collect())
    }
}
