//! Tags: list, create, get, rename, delete.

use std::sync::Arc;

use headwater_model::{CreateRef, ErrorCode, OrProblem, Principal, Problem, Tag, UpdateRef};

use crate::access::{Action, authorize};
use crate::service::Components;

/// Operations on tags.
#[derive(Clone)]
pub struct Tags(pub(crate) Arc<Components>);

impl Tags {
    /// Lists tags by name, those with a prefix if one is given.
    pub async fn list(
        &self,
        principal: &Principal,
        prefix: Option<&str>,
    ) -> Result<Vec<Tag>, Problem> {
        authorize(principal, Action::Read)?;
        self.0.lake.catalog().tags(prefix).await.or_problem()
    }

    /// Creates a tag.
    pub async fn create(&self, principal: &Principal, request: CreateRef) -> Result<Tag, Problem> {
        authorize(principal, Action::Write)?;
        self.0.lake.create_tag(request).await.or_problem()
    }

    /// Returns a tag.
    pub async fn get(&self, principal: &Principal, name: &str) -> Result<Tag, Problem> {
        authorize(principal, Action::Read)?;
        self.0.lake.catalog().tag(name).await.or_problem()
    }

    /// Renames a tag.
    pub async fn update(
        &self,
        principal: &Principal,
        name: &str,
        change: UpdateRef,
    ) -> Result<Tag, Problem> {
        authorize(principal, Action::Write)?;
        if change.protected.is_some() || change.requires.is_some() {
            let hint = "Protect a branch instead; tags are read-only.";
            let problem = Problem::new(ErrorCode::InvalidArgument, "a tag has no `protected`");
            return Err(problem.with_hint(hint));
        }
        let catalog = self.0.lake.catalog();
        let tag = catalog.tag(name).await.or_problem()?;
        match change.name.filter(|new| *new != tag.name) {
            Some(new) => catalog.rename_tag(&tag.name, &new).await.or_problem(),
            None => Ok(tag),
        }
    }

    /// Deletes a tag.
    pub async fn delete(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        authorize(principal, Action::Write)?;
        self.0.lake.catalog().delete_tag(name).await.or_problem()
    }
}
