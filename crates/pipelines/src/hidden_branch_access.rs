//! The access checks of statements on a hidden branch.

use std::sync::Arc;

use headwater_engine::SessionRights;
use headwater_model::{
    AccessObject, Action, Limits, ObjectOwner, Problem, Restriction, Restrictions, TableName,
};

/// Access checks that treat one hidden branch specially. A run or a transaction writes to a hidden
/// branch, on which users have no grants. On this branch, these checks allow what the user may do
/// on the target branch, or they allow everything.
#[derive(Debug)]
pub struct HiddenBranchAccess {
    access: Arc<dyn SessionRights>,
    branch: AccessObject,
    /// Branch whose grants apply on the hidden branch; `None` allows everything on the hidden
    /// branch.
    target: Option<AccessObject>,
}

impl HiddenBranchAccess {
    /// Creates checks that allow everything on the hidden branch `branch`.
    pub fn unlimited(access: Arc<dyn SessionRights>, branch: &str) -> Self {
        HiddenBranchAccess { access, branch: AccessObject::branch(branch), target: None }
    }

    /// Creates checks that apply the rights on the branch `target` to the hidden branch `branch`.
    pub fn as_on(access: Arc<dyn SessionRights>, branch: &str, target: &str) -> Self {
        let target = Some(AccessObject::branch(target));
        HiddenBranchAccess { access, branch: AccessObject::branch(branch), target }
    }

    /// Returns the object on which to check the permission instead of `object`; `None` if
    /// everything is allowed.
    fn checked<'a>(&'a self, object: &'a AccessObject) -> Option<&'a AccessObject> {
        if *object == self.branch { self.target.as_ref() } else { Some(object) }
    }
}

impl SessionRights for HiddenBranchAccess {
    fn check(&self, action: Action, object: &AccessObject) -> Result<(), Problem> {
        self.checked(object).map_or(Ok(()), |object| self.access.check(action, object))
    }

    fn allows(&self, action: Action, object: &AccessObject) -> bool {
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

    fn creator(&self) -> Option<ObjectOwner> {
        self.access.creator()
    }
}
