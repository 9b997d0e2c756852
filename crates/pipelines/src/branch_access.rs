//! The access checks of statements on a hidden branch.

use std::sync::Arc;

use headwater_engine::TableAccess;
use headwater_model::{Action, Limits, Object, Problem, Restriction, Restrictions, TableName};

/// The access checks of a principal, except on one hidden branch. Runs and transactions write to
/// hidden branches. Principals have no grants on hidden branches, so the checks of another branch
/// apply, or no checks.
#[derive(Debug)]
pub struct BranchAccess {
    access: Arc<dyn TableAccess>,
    branch: Object,
    /// The branch whose checks apply to the hidden branch; `None` if there is no such branch.
    target: Option<Object>,
}

impl BranchAccess {
    /// Creates checks that allow everything on a branch.
    pub fn unlimited(access: Arc<dyn TableAccess>, branch: &str) -> Self {
        BranchAccess { access, branch: Object::branch(branch), target: None }
    }

    /// Creates checks that apply the rights on the branch `target` to the branch `branch`.
    pub fn as_on(access: Arc<dyn TableAccess>, branch: &str, target: &str) -> Self {
        let target = Some(Object::branch(target));
        BranchAccess { access, branch: Object::branch(branch), target }
    }

    /// Returns the object whose rights apply to this object; `None` if everything is allowed.
    fn checked<'a>(&'a self, object: &'a Object) -> Option<&'a Object> {
        if *object == self.branch { self.target.as_ref() } else { Some(object) }
    }
}

impl TableAccess for BranchAccess {
    fn check(&self, action: Action, object: &Object) -> Result<(), Problem> {
        self.checked(object).map_or(Ok(()), |object| self.access.check(action, object))
    }

    fn allows(&self, action: Action, object: &Object) -> bool {
        self.checked(object).is_none_or(|object| self.access.allows(action, object))
    }

    fn is_limited(&self) -> bool {
        self.access.is_limited()
    }

    fn restrictions(&self, table: &TableName, id: Option<&str>) -> Option<Restrictions> {
        self.access.restrictions(table, id)
    }

    fn change_restrictions(&self, table: &TableName, id: &str) -> Option<Restrictions> {
        self.access.change_restrictions(table, id)
    }

    fn restriction_by_name(&self, table: &TableName, id: &str) -> Option<Restriction> {
        self.access.restriction_by_name(table, id)
    }

    fn restriction_digest(&self) -> Option<String> {
        self.access.restriction_digest()
    }

    fn limits(&self) -> Limits {
        self.access.limits()
    }
}
