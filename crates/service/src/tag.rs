//! Tags: list, create, get, rename, delete.

use std::sync::Arc;

use headwater_model::{
    AccessObject, Action, CreateRef, ErrorCode, Principal, Problem, ResultExt, Tag, UpdateRef,
};

use crate::service::Components;

/// Operations on tags.
#[derive(Clone)]
pub struct Tags(pub(crate) Arc<Components>);

impl Tags {
    /// Lists tags by name, optionally only those with a prefix.
    pub async fn list(
        &self,
        principal: &Principal,
        prefix: Option<&str>,
    ) -> Result<Vec<Tag>, Problem> {
        self.0.authenticated(principal)?;
        let mut tags = self.0.lake.catalog().tags().list(prefix).await.or_problem()?;
        tags.retain(|tag| self.0.allows(principal, Action::Read, &AccessObject::branch(&tag.name)));
        Ok(tags)
    }

    /// Creates a tag.
    pub async fn create(&self, principal: &Principal, request: CreateRef) -> Result<Tag, Problem> {
        self.0.authorize(principal, Action::Create, &AccessObject::branch(&request.name))?;
        self.0.check_from(principal, &request).await?;
        let created = self.0.lake.create_tag(request).await.or_problem();
        created.map_err(|problem| self.0.conceal(principal, problem))
    }

    /// Returns a tag.
    pub async fn get(&self, principal: &Principal, name: &str) -> Result<Tag, Problem> {
        self.0.authorize(principal, Action::Read, &AccessObject::branch(name))?;
        let found = self.0.lake.catalog().tags().get(name).await.or_problem();
        found.map_err(|problem| self.0.conceal(principal, problem))
    }

    /// Renames a tag.
    pub async fn update(
        &self,
        principal: &Principal,
        name: &str,
        change: UpdateRef,
    ) -> Result<Tag, Problem> {
        self.0.authorize(principal, Action::Alter, &AccessObject::branch(name))?;
        if change.protected.is_some() || change.requires.is_some() {
            let hint = "Protect a branch instead; a tag never accepts writes.";
            let problem =
                Problem::new(ErrorCode::InvalidArgument, "a tag has no field `protected`");
            return Err(problem.with_hint(hint));
        }
        let catalog = self.0.lake.catalog();
        let tag = catalog.tags().get(name).await.or_problem();
        let tag = tag.map_err(|problem| self.0.conceal(principal, problem))?;
        match change.name.filter(|new| *new != tag.name) {
            Some(new) => {
                self.0.authorize(principal, Action::Create, &AccessObject::branch(&new))?;
                catalog.tags().rename(&tag.name, &new).await.or_problem()
            }
            None => Ok(tag),
        }
    }

    /// Deletes a tag.
    pub async fn delete(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.0.authorize(principal, Action::Drop, &AccessObject::branch(name))?;
        let deleted = self.0.lake.catalog().tags().delete(name).await.or_problem();
        deleted.map_err(|problem| self.0.conceal(principal, problem))
    }
}
